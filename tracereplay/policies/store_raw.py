"""The thread's second patch, and Linux 6.18: an incompressible page is stored as it is."""

from __future__ import annotations

from tracereplay.policies.base import Policy

POLICY = Policy(
    name="store-raw",
    summary="an incompressible page is stored uncompressed in the pool",
    source="the thread of October 2023, patch 2; Linux 6.18 (commit dca4437a5861)",
    incompressible="raw",
)

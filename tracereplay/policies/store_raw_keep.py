"""Both patches of the thread together."""

from __future__ import annotations

from tracereplay.policies.base import Policy

POLICY = Policy(
    name="store-raw-keep",
    summary="incompressible pages stored raw; when the pool is full, pages stay in memory",
    source="both parameters of the thread of October 2023 on",
    incompressible="raw",
    pool_full="keep",
)

"""One order for compressed entries and pages that do not compress."""

from __future__ import annotations

from tracereplay.policies.base import Policy

POLICY = Policy(
    name="mixed-lru",
    summary="an incompressible page is linked into the zswap order and written in its turn",
    source="the list of pages and entries in Yosry Ahmed's reply of October 2023",
    incompressible="link",
)

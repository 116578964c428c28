"""The dynamic shrinker: writeback under memory pressure, before the pool is full."""

from __future__ import annotations

from tracereplay.policies.base import Policy

POLICY = Policy(
    name="shrinker",
    summary="as the kernel stores (6.18: raw), and the dynamic shrinker writes back under memory pressure",
    source="shrinker_enabled=Y, Linux 6.8 (commit b5ba474f3f51)",
    incompressible="kernel",
    shrinker=True,
)

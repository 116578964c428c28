"""A poor result counts as none."""

from __future__ import annotations

from tracereplay.policies.base import Policy

POLICY = Policy(
    name="ratio-cutoff",
    summary="a page that compresses to more than 2990 bytes stays in memory",
    source="Lagar-Cavilla et al., ASPLOS 2019: payloads above 2990 bytes are refused",
    incompressible="keep",
    cutoff_bytes=2991,
    pool_full="keep",
)

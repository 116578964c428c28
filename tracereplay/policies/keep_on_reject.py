"""The thread's first patch: a refused page stays in memory."""

from __future__ import annotations

from tracereplay.policies.base import Policy

POLICY = Policy(
    name="keep-on-reject",
    summary="a refused page stays in memory, on the active list",
    source="Nhat Pham, 'minimize swapping on zswap store failure', 16 Oct 2023, patch 1",
    incompressible="keep",
    pool_full="keep",
)

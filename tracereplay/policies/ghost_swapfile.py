"""zswap without a device behind it."""

from __future__ import annotations

from tracereplay.policies.base import Policy

POLICY = Policy(
    name="ghost-swapfile",
    summary="zswap without a device behind it",
    source="Yosry Ahmed's reply of October 2023; Chris Li's RFC of 21 Nov 2025",
    incompressible="keep",
    pool_full="keep",
    writeback=False,
    backing=False,
)

"""memory.zswap.writeback=0: zswap or memory, never the device."""

from __future__ import annotations

from tracereplay.policies.base import Policy

POLICY = Policy(
    name="no-writeback",
    summary="a refused page stays in memory and keeps its slot; nothing reaches the device",
    source="memory.zswap.writeback=0, Linux 6.8 (commit 501a06fe8e4c)",
    incompressible="keep",
    pool_full="keep",
    writeback=False,
)

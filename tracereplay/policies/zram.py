"""What people use instead of zswap: compressed memory as the swap device."""

from __future__ import annotations

from tracereplay.policies.base import Policy

POLICY = Policy(
    name="zram",
    summary="compressed memory as the swap device: no swap cache, no readahead, no writeback",
    source="drivers/block/zram; SWP_SYNCHRONOUS_IO in mm/memory.c:do_swap_page()",
    incompressible="raw",
    writeback=False,
    backing=False,
    synchronous=True,
)

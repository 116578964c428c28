"""Charging a page to a cgroup at its limit: what the kernel's reclaim models share.

Source: mm/memcontrol.c:try_charge_memcg() as of v6.12.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracereplay._jit import apart, copied, inner
from tracereplay.replay.charge import (
    CHARGE_BATCH,
    charged_bytes,
    drain_all_stock,
    try_charge,
    try_charge_single,
    uncharge,
)
from tracereplay.replay.state import NEW_MIDDLE, NEW_TABLE
from tracereplay.replay.statistics import flush_statistics

DEF_PRIORITY = 12
MAX_RECLAIM_RETRIES = 16
OOM_REAPER_DELAY_NS = 2_000_000_000  # mm/oom_kill.c: 2 * HZ
LEVEL_NS = 300  # a priority level that finds nothing still takes time: writes complete meanwhile


@inner
def note_reclaim(m: Any, freed: Any, before: Any, pool_before: Any) -> None:
    """Count a run of reclaim: what it freed, what the pool grew by meanwhile, whether it gained."""
    m["reclaim_freed_pages"] += freed
    if m["charge_pool"]:
        m["reclaim_pool_growth_bytes"] += max(m["pool_charged_bytes"] - pool_before, 0)
    if charged_bytes(m) >= before:
        m["reclaim_no_gain_runs"] += 1
    if freed == 0:
        m["reclaim_failures"] += 1


def build_charging(reclaim: Any) -> tuple[Any, Any]:
    """Return (charge, make_room) for a reclaim model.

    reclaim(m, state, pages, pool, classes, writes, slots, beside) frees 32 pages or more where it
    can, and returns how many; `beside` is (flushes, lookup), as in replay.loop.build_loop().
    """

    @apart
    def charge_by_reclaim(
        m: Any,
        state: Any,
        pages: Any,
        pool: Any,
        classes: Any,
        writes: Any,
        slots: Any,
        beside: Any,
    ) -> Any:
        """Reclaim until a page can be charged; False is an OOM kill.

        mm/memcontrol.c:try_charge_memcg(): 16 retries beyond those that made progress. The victim is
        the task itself: it is sent back once more (`passed_oom`) to reclaim as often before it dies,
        with the statistics fresh, which the report of the kill brings up to date
        (mem_cgroup_print_oom_meminfo()), and for two seconds at most: then the reaper has its memory.
        """
        retries = MAX_RECLAIM_RETRIES
        drained = False
        is_dying: Any = False
        killed_ns = np.int64(0)
        while True:
            freed = reclaim(m, state, pages, pool, classes, writes, slots, beside)
            if is_dying and m["clock_ns"] >= killed_ns + OOM_REAPER_DELAY_NS:
                return False
            if m["usage_pages"] < m["limit_pages"]:  # mem_cgroup_margin()
                pass
            elif not drained:
                drain_all_stock(m)
                drained = True
            elif freed == 0:
                if retries > 0:
                    retries -= 1
                elif is_dying:
                    return False
                else:
                    is_dying = True
                    retries = MAX_RECLAIM_RETRIES
                    killed_ns = m["clock_ns"]
                    if m["stat_updates"] > CHARGE_BATCH * m["cpus"]:
                        flush_statistics(m)
            if try_charge_single(m):
                if is_dying:
                    uncharge(m, 1)  # its page is never touched
                    return False
                return True

    @copied
    def charge(
        m: Any,
        state: Any,
        pages: Any,
        pool: Any,
        classes: Any,
        writes: Any,
        slots: Any,
        beside: Any,
    ) -> Any:
        """Charge one page, reclaiming where the limit is met; False is an OOM kill."""
        if try_charge(m):
            return True
        return charge_by_reclaim(m, state, pages, pool, classes, writes, slots, beside)

    @apart
    def charge_tables(
        m: Any,
        state: Any,
        pages: Any,
        pool: Any,
        classes: Any,
        writes: Any,
        slots: Any,
        beside: Any,
        page: Any,
    ) -> Any:
        """Charge the page tables that a first touch of this address needs."""
        bits = state[page]
        for table in (NEW_TABLE, NEW_MIDDLE):
            if bits & table:
                if not charge(m, state, pages, pool, classes, writes, slots, beside):
                    return False
                m["table_pages"] += 1
        return True

    @copied
    def make_room(
        m: Any,
        state: Any,
        pages: Any,
        pool: Any,
        classes: Any,
        writes: Any,
        slots: Any,
        beside: Any,
        page: Any,
    ) -> Any:
        """Charge the page of a fault, and the page tables its address needs first."""
        if state[page] & (NEW_TABLE | NEW_MIDDLE) and not charge_tables(
            m, state, pages, pool, classes, writes, slots, beside, page
        ):
            return False
        return charge(m, state, pages, pool, classes, writes, slots, beside)

    return charge, make_room

"""Cgroup statistics as reclaim reads them: as old as their last flush. Source: mm/memcontrol.c."""

from __future__ import annotations

from typing import Any

from tracereplay._jit import apart, copied, inner

# How many updates of statistics each step is, for the thresholds behind which a reader flushes them
# (mm/memcontrol.c:memcg_rstat_updated()). A step that moves a page between lists is two of these.
UPDATES_PER_FIRST_TOUCH = 4  # PGFAULT, PGPGIN, a list, NR_ANON_MAPPED
# Of a page in the swap cache: PGFAULT, NR_ANON_MAPPED, NR_SWAPCACHE or MEMCG_SWAP.
UPDATES_PER_MAP = 3
# PGFAULT, PGMAJFAULT, PGPGIN, NR_SWAPCACHE, a list, WORKINGSET_REFAULT_ANON, NR_ANON_MAPPED, and of zswap
# ZSWPIN, MEMCG_ZSWAP_B, MEMCG_ZSWAPPED
UPDATES_PER_SWAP_IN = 10
UPDATES_PER_SCAN = 3  # a list, PGSCAN, a list; the last is PGSTEAL where the page is freed
UPDATES_PER_DEACTIVATION = 4  # a list, PGREFILL, PGDEACTIVATE, a list
# NR_ANON_MAPPED, NR_SWAPCACHE twice, MEMCG_SWAP, PGPGOUT, and of zswap ZSWPOUT, MEMCG_ZSWAP_B, MEMCG_ZSWAPPED
UPDATES_PER_EVICTION = 8
# PGPGIN, NR_SWAPCACHE, a list, WORKINGSET_REFAULT_ANON, ZSWPWB, MEMCG_ZSWAP_B, MEMCG_ZSWAPPED
UPDATES_PER_WRITEBACK = 7


@inner
def flush_statistics(m: Any) -> None:
    """Bring the cgroup statistics up to date; mm/memcontrol.c:do_flush_stats()."""
    m["stat_inactive"] = m["inactive_pages"]
    m["stat_active"] = m["active_pages"]
    m["stat_activate"] = m["workingset_activate_anon"]
    m["stat_rotated"] = m["vmscan_rotated"]
    m["stat_io"] = m["workingset_restore_anon"] + m["vmscan_written"]
    m["stat_stored"] = m["stored_pages"]
    m["stat_backing_bytes"] = m["pool_charged_bytes"]
    m["stat_updates"] = 0


@copied
def flush_if_due(m: Any, flushes: Any) -> None:
    """Flush where the periodic worker, or a reader of memory.stat, has done so by now."""
    if m["flush_period_ns"] != 0:
        _flush_by_time(m, flushes)


@apart
def _flush_by_time(m: Any, flushes: Any) -> None:
    if m["flush_period_ns"] > 0:
        if m["clock_ns"] >= m["next_flush_ns"]:
            flush_statistics(m)
            m["flushed_ns"] = m["next_flush_ns"]
            period = m["flush_period_ns"]
            m["next_flush_ns"] += (1 + (m["clock_ns"] - m["next_flush_ns"]) // period) * period
    else:
        while (
            m["flush_index"] < flushes.size and flushes[m["flush_index"]]["at_ns"] <= m["clock_ns"]
        ):
            flush_statistics(m)
            m["flushed_ns"] = flushes[m["flush_index"]]["at_ns"]
            flushes[m["flush_index"]]["pool_pages"] = m["pool_pages"]
            flushes[m["flush_index"]]["stored_pages"] = m["stored_pages"]
            m["flush_index"] += 1

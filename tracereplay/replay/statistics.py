"""Cgroup statistics as reclaim reads them: as old as their last flush. Source: mm/memcontrol.c."""

from __future__ import annotations

from typing import Any

from tracereplay._jit import apart, copied, inner

# Statistics a fault or a freed page updates, near enough for the flush threshold of 64 per CPU
# (mm/memcontrol.c:memcg_rstat_updated()): lists, mapped, swap cache, swap, events.
UPDATES_PER_FAULT = 7
UPDATES_PER_EVICTION = 6


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
            period = m["flush_period_ns"]
            m["next_flush_ns"] += (1 + (m["clock_ns"] - m["next_flush_ns"]) // period) * period
    else:
        while (
            m["flush_index"] < flushes.size and flushes[m["flush_index"]]["at_ns"] <= m["clock_ns"]
        ):
            flush_statistics(m)
            flushes[m["flush_index"]]["pool_pages"] = m["pool_pages"]
            flushes[m["flush_index"]]["stored_pages"] = m["stored_pages"]
            m["flush_index"] += 1

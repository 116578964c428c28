"""The kernel's active and inactive list under a memory cgroup limit.

Source: mm/vmscan.c (do_try_to_free_pages, prepare_scan_control, get_scan_count, shrink_lruvec,
shrink_inactive_list, shrink_active_list), mm/workingset.c, mm/swap.c (lru_note_cost) as of v6.12.
What it decides with are the cgroup's statistics as of their last flush (`stat_*`), not the lists.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracereplay._jit import apart, copied, inner, kernel, prefetch
from tracereplay.reclaim.charging import (
    DEF_PRIORITY,
    LEVEL_NS,
    build_charging,
    note_reclaim,
)
from tracereplay.replay.charge import CHARGE_BATCH, charged_bytes
from tracereplay.replay.eviction import (
    FREED,
    KEEP_ACTIVE,
    OFF_LRU,
    activate_page,
    build_eviction,
    forget_page,
)
from tracereplay.replay.loop import build_loop
from tracereplay.replay.slots import no_slot_left
from tracereplay.replay.state import (
    ACTIVATED_AT,
    ACTIVE,
    INACTIVE,
    JOINED_PAGES,
    KEPT_AT,
    LEFT_AT,
    OFF_LIST,
    PENDING,
    PG_ACTIVE,
    PG_RECLAIM,
    PG_REFERENCED,
    PG_WORKINGSET,
    PG_WRITEBACK,
    PRESSED,
    SWAP_CLUSTER_MAX,
    YOUNG,
    clear_flags,
    has,
    link_head,
    set_flags,
)
from tracereplay.replay.statistics import (
    UPDATES_PER_DEACTIVATION,
    UPDATES_PER_SCAN,
    flush_if_due,
    flush_statistics,
)
from tracereplay.replay.swap import (
    complete_writes,
    finish_plug,
    start_plug,
    wait_for_write,
)

_INACTIVE_RING = np.int64(1)
_ACTIVE_RING = np.int64(2)


@inner
def _on_hit(pages: Any, page: Any, ahead: Any, row: Any) -> None:
    """Do nothing: a touch only sets the young bit, reclaim looks at it later."""


@inner
def _note_joined(pages: Any, ring: Any, count: Any, page: Any) -> None:
    """Let the page that joined a list 32 pages ago name this one, whose turn comes 32 pages later.

    A list can only be followed link by link, and each link is a cache miss: so reclaim knows early
    what to ask for.
    """
    at = pages.size - ring * JOINED_PAGES + (count & (JOINED_PAGES - 1))
    before = np.int64(pages[at]["later"])
    pages[before]["later"] = page
    pages[at]["later"] = page


@inner
def _prefetch_later(state: Any, pages: Any, page: Any) -> None:
    """Ask for the page 32 behind this one on its list."""
    later = np.int64(pages[page]["later"])
    prefetch(pages, later)
    prefetch(state, later)


@inner
def _join(
    pages: Any, head: Any, ring: Any, joined: Any, members: Any, first: Any, count: Any
) -> None:
    """Put pages at the head of a list in this order, so that the last of them comes to be first."""
    after = np.int64(pages[head]["next"])
    for nth in range(count):
        page = members[first + nth]
        pages[after]["prev"] = page
        pages[page]["next"] = after
        _note_joined(pages, ring, joined + nth, page)
        after = page
    pages[after]["prev"] = head
    pages[head]["next"] = after


@apart
def drain_pending(m: Any, pages: Any) -> None:
    """Put the pages of the per-CPU batch on their lists, oldest first; mm/swap.c:lru_add_drain()."""
    page = np.int64(pages[PENDING]["prev"])
    while page != PENDING:
        coming = np.int64(pages[page]["prev"])
        clear_flags(pages, page, OFF_LIST)
        if has(pages, page, PG_ACTIVE):
            link_head(pages, ACTIVE, page)
            _note_joined(pages, _ACTIVE_RING, m["joined_active"], page)
            m["joined_active"] += 1
            m["active_pages"] += 1
        else:
            link_head(pages, INACTIVE, page)
            _note_joined(pages, _INACTIVE_RING, m["joined_inactive"], page)
            m["joined_inactive"] += 1
            m["inactive_pages"] += 1
        page = coming
    pages[PENDING]["prev"] = PENDING
    pages[PENDING]["next"] = PENDING
    m["pending"] = 0


@inner
def _drain(m: Any, pages: Any, lookup: Any) -> None:
    """Empty the batch where a fault asks for it."""
    drain_pending(m, pages)


@copied
def _add(m: Any, pages: Any, page: Any) -> None:
    """Add a page that came into memory; mm/swap.c:folio_add_lru()."""
    set_flags(pages, page, OFF_LIST)
    link_head(pages, PENDING, page)
    m["pending"] += 1
    if m["pending"] >= m["add_batch"]:
        drain_pending(m, pages)


@inner
def _note_cost(m: Any, io: Any, rotated: Any) -> None:
    """Add to the cost of anon reclaim, with decay; mm/swap.c:lru_note_cost()."""
    if m["cost_by_statistics"]:
        return
    if m["cost_by_pageouts"]:
        m["anon_cost"] += io
    else:
        m["anon_cost"] += SWAP_CLUSTER_MAX * io + rotated
    if m["anon_cost"] + m["file_cost"] > (m["stat_inactive"] + m["stat_active"]) // 4:
        m["anon_cost"] //= 2
        m["file_cost"] //= 2


@inner
def _refault(m: Any, pages: Any, page: Any) -> None:
    """Activate a page that would have stayed with the active list's memory; workingset_refault()."""
    m["workingset_refault_anon"] += 1
    was_workingset = has(pages, page, PG_WORKINGSET)
    clear_flags(pages, page, PG_WORKINGSET | PG_ACTIVE | PG_REFERENCED)
    distance = np.int64(np.uint32(m["nonresident_age"] - np.int64(pages[page]["shadow"])))
    size = 0 if no_slot_left(m) else m["stat_active"]
    if distance > size:
        return
    set_flags(pages, page, PG_ACTIVE)
    m["nonresident_age"] += 1
    m["workingset_activate_anon"] += 1
    if was_workingset:
        set_flags(pages, page, PG_WORKINGSET)
        m["workingset_restore_anon"] += 1
        _note_cost(m, 1, 0)


@inner
def _read_cost(m: Any) -> None:
    """Add what the statistics have seen since; mm/vmscan.c:prepare_scan_control() (7.3)."""
    m["anon_cost"] += SWAP_CLUSTER_MAX * (m["stat_io"] - m["costed_io"])
    m["anon_cost"] += m["stat_rotated"] - m["costed_rotated"]
    m["costed_io"] = m["stat_io"]
    m["costed_rotated"] = m["stat_rotated"]
    while m["anon_cost"] + m["file_cost"] > (m["stat_inactive"] + m["stat_active"]) // 4:
        m["anon_cost"] //= 2
        m["file_cost"] //= 2


_evict, _run_worker, _shrink_slab = build_eviction(_refault, _add)


@inner
def _inactive_is_low(m: Any) -> Any:
    gib = (m["stat_inactive"] + m["stat_active"]) >> 18
    ratio = np.int64(np.sqrt(10.0 * gib)) if gib > 0 else 1
    return m["stat_inactive"] * ratio < m["stat_active"]


@apart
def _shrink_active(m: Any, state: Any, pages: Any, count: Any) -> None:
    """Move pages from the active tail to the inactive head; anon pages go, referenced or not."""
    drain_pending(m, pages)
    page = np.int64(pages[ACTIVE]["prev"])
    after = np.int64(pages[INACTIVE]["next"])
    moved = np.int64(0)
    while moved < count and page != ACTIVE:
        coming = np.int64(pages[page]["prev"])
        _prefetch_later(state, pages, page)
        state[page] = state[page] & ~np.uint8(YOUNG)
        clear_flags(pages, page, PG_ACTIVE)
        set_flags(pages, page, PG_WORKINGSET)
        pages[after]["prev"] = page
        pages[page]["next"] = after
        _note_joined(pages, _INACTIVE_RING, m["joined_inactive"] + moved, page)
        after = page
        page = coming
        moved += 1
    pages[after]["prev"] = INACTIVE
    pages[INACTIVE]["next"] = after
    pages[ACTIVE]["prev"] = page
    pages[page]["next"] = ACTIVE
    m["joined_inactive"] += moved
    m["inactive_pages"] += moved
    m["active_pages"] -= moved
    m["pgdeactivate"] += moved
    m["stat_updates"] += UPDATES_PER_DEACTIVATION * moved
    m["ev_scanned"] += moved
    m["clock_ns"] += moved * m["scan_ns"]


@copied
def _isolate(m: Any, state: Any, pages: Any, isolated: Any, count: Any) -> Any:
    """Take up to `count` pages off the inactive tail; return how many, left, to activate, to keep.

    The accessed ones are sorted first, into those to activate and those to keep, without a branch:
    of pages touched at random every second one would be guessed wrong. The others are left in their
    order. `isolated` has the pages, then the places of those left, then those to activate, to keep.
    """
    # Nothing is sorted early where swap may fill: pages to activate free their slots then, in turn.
    slots_by_then = m["swap_slots"] + 2 * count + m["fifo_pages"]
    in_turn = PG_WRITEBACK if 2 * slots_by_then > m["swap_slots_total"] else np.int64(0)
    left = np.int64(0)
    activated = np.int64(0)
    kept = np.int64(0)
    page = np.int64(pages[INACTIVE]["prev"])
    taken = np.int64(0)
    while taken < count and page != INACTIVE:
        _prefetch_later(state, pages, page)
        isolated[taken] = page
        isolated[LEFT_AT + left] = taken
        flags = np.int64(pages[page]["low_flags"])
        if (flags | in_turn) & PG_WRITEBACK:
            set_flags(pages, page, OFF_LIST)
            left += 1
        else:
            bits = np.int64(state[page])
            young = bits // YOUNG & 1
            again = flags // PG_REFERENCED & young
            state[page] = bits & ~YOUNG
            flags &= ~PG_REFERENCED
            pages[page]["low_flags"] = flags | young * PG_REFERENCED | again * PG_ACTIVE
            left += 1 ^ young
            isolated[ACTIVATED_AT + activated] = page
            activated += again
            isolated[KEPT_AT + kept] = page
            kept += young ^ again
        page = np.int64(pages[page]["prev"])
        taken += 1
    if taken > 0:
        pages[INACTIVE]["prev"] = page
        pages[page]["next"] = INACTIVE
        m["inactive_pages"] -= taken
        m["stat_updates"] += UPDATES_PER_SCAN * taken
        m["reclaim_scanned"] += taken
        m["ev_scanned"] += taken
        m["pgactivate"] += activated
    return taken, left, activated, kept


@copied
def _shrink_list(
    m: Any,
    state: Any,
    pages: Any,
    pool: Any,
    classes: Any,
    writes: Any,
    slots: Any,
    isolated: Any,
    taken: Any,
    left: Any,
) -> Any:
    """Decide on the isolated pages that are left; return how many were freed, and left the LRU.

    Both are 0 in `isolated` then. mm/vmscan.c:shrink_folio_list().
    """
    freed = np.int64(0)
    gone = np.int64(0)
    seen = np.int64(0)
    nth = np.int64(0)
    while nth < left:
        at = isolated[LEFT_AT + nth]
        page = isolated[at]
        nth += 1
        m["clock_ns"] += (at + 1 - seen) * m["scan_ns"]
        seen = at + 1
        activate = False
        if has(pages, page, PG_WRITEBACK):
            if m["throttle_sane"] or not has(pages, page, PG_RECLAIM):
                set_flags(pages, page, PG_RECLAIM)
                activate = True
            else:
                wait_for_write(m, pages, writes, page)
        if not activate:
            bits = np.int64(state[page])
            if bits & YOUNG:
                state[page] = bits & ~YOUNG
                if not has(pages, page, PG_REFERENCED):
                    set_flags(pages, page, PG_REFERENCED)
                    continue
            else:
                clear_flags(pages, page, PG_REFERENCED)
                set_flags(pages, page, OFF_LIST)
                fate = _evict(m, state, pages, pool, classes, writes, slots, page)
                if fate == FREED:
                    forget_page(m, state, pages, page)
                    clear_flags(pages, page, OFF_LIST)
                    isolated[at] = 0
                    freed += 1
                    continue
                if fate == OFF_LRU:
                    isolated[at] = 0
                    gone += 1
                    continue
                if fate != KEEP_ACTIVE:
                    continue
        activate_page(m, state, pages, pool, classes, slots, page)
    m["clock_ns"] += (taken - seen) * m["scan_ns"]
    return freed, gone


@copied
def _sort_once_more(pages: Any, isolated: Any, taken: Any) -> Any:
    """Sort the isolated pages that stay; return how many are activated, and kept."""
    activated = np.int64(0)
    kept = np.int64(0)
    for at in range(taken):
        page = isolated[at]
        if page:
            clear_flags(pages, page, OFF_LIST)
            again = np.int64(pages[page]["low_flags"]) // PG_ACTIVE & 1
            isolated[ACTIVATED_AT + activated] = page
            activated += again
            isolated[KEPT_AT + kept] = page
            kept += 1 ^ again
    return activated, kept


@apart
def _shrink_inactive(
    m: Any,
    state: Any,
    pages: Any,
    pool: Any,
    classes: Any,
    writes: Any,
    slots: Any,
    isolated: Any,
    count: Any,
) -> Any:
    """Scan up to 32 pages from the inactive tail; return how many were freed."""
    complete_writes(m, pages, writes)  # by interrupt: what still waits in the batch is not rotated
    drain_pending(m, pages)
    taken, left, activated, kept = _isolate(m, state, pages, isolated, count)
    if taken == 0:
        return taken
    m["pageouts"] = 0
    freed, gone = _shrink_list(m, state, pages, pool, classes, writes, slots, isolated, taken, left)
    if freed + gone < left:  # some stay
        activated, kept = _sort_once_more(pages, isolated, taken)
    _join(pages, ACTIVE, _ACTIVE_RING, m["joined_active"], isolated, ACTIVATED_AT, activated)
    m["joined_active"] += activated
    m["active_pages"] += activated
    m["nonresident_age"] += activated
    _join(pages, INACTIVE, _INACTIVE_RING, m["joined_inactive"], isolated, KEPT_AT, kept)
    m["joined_inactive"] += kept
    m["inactive_pages"] += kept
    m["vmscan_written"] += m["pageouts"]
    m["vmscan_rotated"] += taken - freed
    _note_cost(m, m["pageouts"], taken - freed)
    return freed


@inner
def _shrink_lruvec(
    m: Any,
    state: Any,
    pages: Any,
    pool: Any,
    classes: Any,
    writes: Any,
    slots: Any,
    beside: Any,
    priority: Any,
) -> Any:
    """Scan both lists at one priority; return how many pages were freed."""
    if m["cost_by_statistics"]:
        _read_cost(m)
    anon_cost = m["anon_cost"]
    file_cost = m["file_cost"]
    may_deactivate = (
        m["force_deactivate"] != 0
        or m["stat_activate"] != m["refaults_snapshot"]
        or _inactive_is_low(m)
    )
    inactive = m["inactive_pages"] >> priority
    active = m["active_pages"] >> priority
    swappiness = m["swappiness"]
    if swappiness == 0 or no_slot_left(m):
        inactive = np.int64(0)
        active = np.int64(0)
    elif priority > 0:
        total = anon_cost + file_cost
        anon = total + anon_cost
        file = total + file_cost
        both = anon + file
        anon_share = swappiness * (both + 1) // (anon + 1)
        file_share = (200 - swappiness) * (both + 1) // (file + 1)
        inactive = inactive * anon_share // (anon_share + file_share)
        active = active * anon_share // (anon_share + file_share)
    freed = np.int64(0)
    plugs = start_plug(m)  # unless a read of neighbours has
    while inactive > 0:
        step = min(inactive, SWAP_CLUSTER_MAX)
        inactive -= step
        freed += _shrink_inactive(m, state, pages, pool, classes, writes, slots, beside[1], step)
        if active > 0:
            step = min(active, SWAP_CLUSTER_MAX)
            active -= step
            if may_deactivate:
                _shrink_active(m, state, pages, step)
            else:
                m["skipped_deactivate"] = 1
        if freed >= SWAP_CLUSTER_MAX:
            break
    if plugs:
        finish_plug(m, pages, writes)
    flush_if_due(m, beside[0])
    if _inactive_is_low(m) and m["swap_slots_total"] > 0:
        _shrink_active(m, state, pages, SWAP_CLUSTER_MAX)
    return freed


@inner
def _reclaim(
    m: Any,
    state: Any,
    pages: Any,
    pool: Any,
    classes: Any,
    writes: Any,
    slots: Any,
    beside: Any,
) -> Any:
    """Reclaim 32 pages or more where possible; mm/vmscan.c:do_try_to_free_pages()."""
    m["reclaim_runs"] += 1
    before = charged_bytes(m)
    pool_before = m["pool_charged_bytes"]
    m["force_deactivate"] = 0
    m["skipped_deactivate"] = 0
    walked = False
    freed = np.int64(0)
    while True:
        for step in range(DEF_PRIORITY + 1):
            flush_if_due(m, beside[0])
            if m["flush_period_ns"] == 0 or (
                m["flush_at_reclaim"] and m["stat_updates"] > CHARGE_BATCH * (m["cpus"] + 1)
            ):
                flush_statistics(m)
            m["clock_ns"] += LEVEL_NS
            freed += _shrink_lruvec(
                m, state, pages, pool, classes, writes, slots, beside, DEF_PRIORITY - step
            )
            m["decided"] |= PRESSED
            if m["shrinker"]:
                _shrink_slab(m, state, pages, pool, classes, writes, slots, DEF_PRIORITY - step)
            if freed >= SWAP_CLUSTER_MAX:
                break
        flush_if_due(m, beside[0])
        m["refaults_snapshot"] = m["stat_activate"]
        if freed:
            break
        if m["full_walk_retry"] and not walked:
            walked = True
            continue
        if m["skipped_deactivate"]:
            m["force_deactivate"] = 1
            m["skipped_deactivate"] = 0
            continue
        break
    note_reclaim(m, freed, before, pool_before)
    return freed


_charge, _make_room = build_charging(_reclaim)
_replay_accesses = build_loop(_on_hit, _make_room, _refault, _add, _drain, _run_worker)


@kernel
def replay_two_list(
    batch: Any,
    m: Any,
    state: Any,
    pages: Any,
    pool: Any,
    classes: Any,
    writes: Any,
    slots: Any,
    out: Any,
) -> Any:
    """Replay a batch with the two lists; see replay.loop.build_loop()."""
    return _replay_accesses(
        batch,
        m[0],
        state,
        pages,
        pool,
        classes,
        writes,
        slots,
        out,
    )


@kernel
def charge_pages(
    m: Any,
    state: Any,
    pages: Any,
    pool: Any,
    classes: Any,
    writes: Any,
    slots: Any,
    beside: Any,
    count: int,
) -> Any:
    """Charge pages that no trace touches (page cache of the task), reclaiming for them."""
    for done in range(count):
        if not _charge(m[0], state, pages, pool, classes, writes, slots, beside):
            return done
    return count

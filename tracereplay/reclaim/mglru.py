"""The multi-generational LRU (CONFIG_LRU_GEN) under a memory cgroup limit, anonymous pages.

Eviction takes pages from the oldest generation; aging walks the page tables, gives pages found
accessed the youngest number, and opens a generation. What is counted follows these functions of the
kernel (mm/vmscan.c unless a line names another file):

===================================  ==================================================================
here                                 kernel, versions
===================================  ==================================================================
_refault                             mm/workingset.c:lru_gen_refault(): recent while min_seq stands (6.1,
                                     6.12), while max_seq is less than 4 ahead (6.14)
_add, _add_quietly                   mm/swap.c:folio_add_lru(): PG_active in a fault, not in reclaim; 7.2
                                     (mm/folio.c): only the working set, any other counts as accessed
generations.join_generation          include/linux/mm_inline.h:lru_gen_add_folio()
_walk_page_tables                    walk_mm(), walk_pmd_range(), walk_pte_range(), iterate_mm_list()
_ran_since_walk                      should_skip_mm(), lru_gen_use_mm(); mm/vmpressure.c:vmpressure(),
                                     kernel/cgroup/cgroup.c:cgroup_file_notify()
_promote                             folio_update_gen(); 6.14: the second access promotes
_look_around, _set_refs              lru_gen_look_around(); 6.14: walk_update_folio(), lru_gen_set_refs();
                                     7.2: the third access makes a page one of the working set
_activate_later, _drain              mm/swap.c:folio_activate(), lru_add_drain(), batches of 15, 31
_is_held                             pageout() keeps what such a batch holds: is_page_cache_freeable()
_open_generation, _move_up           inc_max_seq(), inc_min_seq(), folio_inc_gen()
_close_generations                   try_to_inc_min_seq(), reset_ctrl_pos()
_protects_workingset                 get_tier_idx(), positive_ctrl_err(): the last tier (6.14)
_protects_twice                      the same of tier 1 (7.2)
_isolate                             scan_folios(), sort_folio(), isolate_folio(); 6.18: looks at no more
                                     pages than get_nr_to_scan() says
_shrink_page                         shrink_folio_list(), folio_check_references() or
                                     lru_gen_folio_check_references() (6.14)
_evict_batch                         evict_folios()
_scan_target, _ages_first            should_run_aging(), get_nr_to_scan()
_shrink                              lru_gen_shrink_lruvec(), should_abort_scan(); 7.2:
                                     try_to_shrink_lruvec() ages before a batch, and ends at 32 freed
_reclaim                             do_try_to_free_pages()
generations.rotate_generation        mm/swap.c:folio_rotate_reclaimable(), lru_move_tail()
===================================  ==================================================================

Unlike the kernel: there are no file pages; a VMA fills each of its page tables; the Bloom filter has no
false positives; a plug is submitted as a whole at the end of a priority level; and all
address spaces count as one task's. Tiers above the first hold file pages, or what 6.14 calls the working
set.

Who runs between two walks, or during one, decides more than its share: the second of two agings in a
row walks only where the task was switched to since; it finds nothing, but empties a Bloom filter, so that
the walk after it sees few tables. Traced kernels went over to shorter generations from one such moment
on, for the rest of a trace (uniform touches and scans): `pgactivate` then is two or three times as high
and refaults within a generation half as many, while faults stay the same within 0.1 %. Two runs of one
kernel differ in when that happens.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracereplay._jit import inner, kernel, prefetch
from tracereplay.reclaim.charging import (
    DEF_PRIORITY,
    LEVEL_NS,
    build_charging,
    note_reclaim,
)
from tracereplay.replay.charge import charged_bytes
from tracereplay.replay.eviction import (
    FREED,
    KEEP_ACTIVE,
    KEPT_LOCKED,
    OFF_LRU,
    activate_page,
    build_eviction,
    forget_page,
)
from tracereplay.replay.generations import (
    MAX_NR_GENS,
    MIN_NR_GENS,
    change_generation,
    head_named,
    head_of,
    join_generation,
    leave_generation,
    note_sizes,
    size_of,
    would_join_oldest,
)
from tracereplay.replay.loop import build_loop
from tracereplay.replay.page_tables import (
    ENTRIES,
    LEAF_PLACES,
    LEAF_SHIFT,
    LEAVES_SHIFT,
    MARKED,
    PLACES,
    TABLE_FLAGS,
    TABLE_LEAVES,
    TABLE_SHIFT,
)
from tracereplay.replay.state import (
    ACTIVATING_AT,
    ISOLATED,
    LINKED,
    MAPPED,
    MGLRU_6_1,
    MGLRU_6_12,
    MGLRU_6_14,
    MGLRU_7_2,
    MIN_LRU_BATCH,
    OFF_LIST,
    PENDING,
    PG_ACTIVE,
    PG_DIRTY,
    PG_RECLAIM,
    PG_REFERENCED,
    PG_WORKINGSET,
    PG_WRITEBACK,
    PRESSED,
    RETURNED,
    SLOT_MET,
    SWAP_CLUSTER_MAX,
    TABLE_YOUNG,
    YOUNG,
    clear_flags,
    has,
    link_head,
    link_tail,
    set_flags,
    unlink,
)
from tracereplay.replay.statistics import UPDATES_PER_SCAN, flush_if_due, flush_statistics
from tracereplay.replay.swap import (
    complete_writes,
    finish_plug,
    start_plug,
    wait_for_write,
)

MAX_LRU_BATCH = 64 * MIN_LRU_BATCH
_LEAF_ENTRIES = 1 << LEAF_SHIFT
_LEAVES = 1 << LEAVES_SHIFT  # of a table
_TABLE_ENTRIES = 1 << TABLE_SHIFT  # PTRS_PER_PTE
_PER_LINE = 8  # page table entries in a cache line: suitable_to_scan()
_TICK_NS = 4_000_000  # CONFIG_HZ=250
_PRESSURE_PAGES = 16 * SWAP_CLUSTER_MAX  # mm/vmpressure.c:vmpressure_win
_NOTIFY_NS = 4 * _TICK_NS  # past CGROUP_FILE_NOTIFY_MIN_INTV: 10 ms, which are three ticks
_GRACE_TICKS = 3
_NEVER_SCAN = np.int64(-1)


@inner
def _on_hit(pages: Any, page: Any, ahead: Any, row: Any) -> None:
    """Do nothing: a touch only sets the young bit; walks and look-arounds find it later."""


@inner
def _set_min_seq(m: Any, pages: Any, seq: Any) -> None:
    """Let the oldest generation be another, and carry the averages of the tiers over."""
    for passed in range(m["min_seq"] + 1, seq + 1):
        pages[head_of(passed)]["oldest_at"] = np.uint32(m["nonresident_age"])
    m["min_seq"] = seq
    m["tier_avg_refaulted"] = (m["tier_avg_refaulted"] + m["tier_refaulted"]) // 2
    total = m["tier_avg_total"] + m["tier_evicted"] + m["tier_protected"]
    m["tier_avg_total"] = total // 2
    m["twice_avg_refaulted"] = (m["twice_avg_refaulted"] + m["twice_refaulted"]) // 2
    total = m["twice_avg_total"] + m["twice_evicted"] + m["twice_protected"]
    m["twice_avg_total"] = total // 2
    m["workingset_avg_refaulted"] = (m["workingset_avg_refaulted"] + m["workingset_refaulted"]) // 2
    total = m["workingset_avg_total"] + m["workingset_evicted"] + m["workingset_protected"]
    m["workingset_avg_total"] = total // 2
    m["tier_refaulted"] = 0
    m["tier_evicted"] = 0
    m["tier_protected"] = 0
    m["twice_refaulted"] = 0
    m["twice_evicted"] = 0
    m["twice_protected"] = 0
    m["workingset_refaulted"] = 0
    m["workingset_evicted"] = 0
    m["workingset_protected"] = 0


@inner
def _refault(m: Any, pages: Any, page: Any) -> None:
    """Note that an evicted page is back; mm/workingset.c:lru_gen_refault()."""
    was_workingset = has(pages, page, PG_WORKINGSET)
    was_twice = pages[page]["again"] > 0
    clear_flags(pages, page, PG_WORKINGSET | PG_ACTIVE | PG_REFERENCED)
    pages[page]["again"] = 0
    reworked = m["mglru_rules"] >= MGLRU_6_14
    since = m["max_seq"] - (MAX_NR_GENS - 1) if reworked else m["min_seq"]
    # Evicted after the oldest generation came to `since`: both ages as distances from now.
    evicted = np.uint32(m["nonresident_age"] - np.int64(pages[page]["shadow"]))
    began = np.uint32(m["nonresident_age"] - np.int64(pages[head_of(since)]["oldest_at"]))
    recent = since <= 0 or evicted <= began
    in_fault = not m["in_background"]
    if recent or m["mglru_rules"] != MGLRU_6_1:
        m["workingset_refault_anon"] += 1
    if not recent:
        return
    if reworked:
        if in_fault and (was_workingset or m["mglru_rules"] < MGLRU_7_2):
            m["workingset_activate_anon"] += 1
        if was_workingset:
            m["workingset_refaulted"] += 1
            set_flags(pages, page, PG_WORKINGSET)
            m["workingset_restore_anon"] += 1
        elif was_twice:
            m["twice_refaulted"] += 1
        else:
            m["tier_refaulted"] += 1
        return
    if m["mglru_rules"] == MGLRU_6_12:
        m["workingset_activate_anon"] += 1
    if in_fault:
        set_flags(pages, page, PG_WORKINGSET)
        m["workingset_restore_anon"] += 1


@inner
def drain_pending(m: Any, pages: Any) -> None:
    """Put the pages of the per-CPU batch on their lists, oldest first; mm/swap.c:lru_add_drain()."""
    while m["pending"] > 0:
        page = np.int64(pages[PENDING]["prev"])
        unlink(pages, page)
        m["pending"] -= 1
        join_generation(m, pages, page, False)
    note_sizes(m, pages)


@inner
def _add_quietly(m: Any, pages: Any, page: Any) -> None:
    """Add a page that reclaim or the writeback worker brought in."""
    set_flags(pages, page, OFF_LIST)
    link_head(pages, PENDING, page)
    m["pending"] += 1
    if m["pending"] >= m["add_batch"]:
        drain_pending(m, pages)


@inner
def _add(m: Any, pages: Any, page: Any) -> None:
    """Add a page that a fault brought in: it is active; mm/swap.c:folio_add_lru().

    7.2: a page of the working set is, any other counts as accessed (mm/folio.c).
    """
    if m["mglru_rules"] >= MGLRU_7_2 and not has(pages, page, PG_WORKINGSET):
        set_flags(pages, page, PG_REFERENCED)
    else:
        set_flags(pages, page, PG_ACTIVE)
    _add_quietly(m, pages, page)


_evict, _run_worker, _shrink_slab = build_eviction(_refault, _add_quietly)


# ---- promotion -------------------------------------------------------------------------------------


@inner
def _promote(m: Any, pages: Any, page: Any) -> None:
    """Give a page that a page table walk found accessed the youngest number; folio_update_gen()."""
    off_list = has(pages, page, OFF_LIST)
    if m["mglru_rules"] >= MGLRU_6_14:
        if not has(pages, page, PG_REFERENCED | PG_WORKINGSET):
            set_flags(pages, page, PG_REFERENCED)
            return
        if off_list:
            return
        clear_flags(pages, page, PG_REFERENCED)
        pages[page]["again"] = 0
        set_flags(pages, page, PG_WORKINGSET)
    else:
        if off_list:
            set_flags(pages, page, PG_REFERENCED)
            return
        clear_flags(pages, page, PG_REFERENCED | PG_WORKINGSET)
    change_generation(pages, page, head_of(m["max_seq"]))


@inner
def _set_refs(m: Any, pages: Any, page: Any) -> Any:
    """Note an access that the rmap walk found, True for a second one; lru_gen_set_refs() (6.14).

    7.2: only the third lets a page belong to the working set.
    """
    if not has(pages, page, PG_REFERENCED | PG_WORKINGSET):
        set_flags(pages, page, PG_REFERENCED)
        return False
    if m["mglru_rules"] >= MGLRU_7_2:
        if not has(pages, page, PG_REFERENCED):
            set_flags(pages, page, PG_REFERENCED)
            return True
        if pages[page]["again"] == 0:
            pages[page]["again"] = 1
            return True
        pages[page]["again"] = 0
    clear_flags(pages, page, PG_REFERENCED)
    set_flags(pages, page, PG_WORKINGSET)
    return True


@inner
def _drain_activations(m: Any, pages: Any, marks: Any) -> None:
    """Move the pages of the batch to the youngest end; mm/swap.c:lru_activate()."""
    for at in range(m["activating"]):
        page = np.int64(marks[ACTIVATING_AT + at])
        if has(pages, page, OFF_LIST | PG_ACTIVE):  # isolated, or gone, meanwhile
            continue
        leave_generation(pages, page)
        set_flags(pages, page, PG_ACTIVE)
        join_generation(m, pages, page, False)
        m["pgactivate"] += 1
    m["activating"] = 0


@inner
def _activate_later(m: Any, pages: Any, marks: Any, page: Any) -> None:
    """Put a page in the batch of folio_activate()."""
    marks[ACTIVATING_AT + m["activating"]] = page
    m["activating"] += 1
    if m["activating"] >= m["add_batch"]:
        _drain_activations(m, pages, marks)


@inner
def _drain(m: Any, pages: Any, tables: Any) -> None:
    """Empty both batches; mm/swap.c:lru_add_drain()."""
    drain_pending(m, pages)
    _drain_activations(m, pages, tables[MARKED])
    note_sizes(m, pages)


@inner
def _is_held(m: Any, marks: Any, page: Any) -> Any:
    """Tell whether a page is in the batch of folio_activate(), which holds it (folio_get())."""
    held: Any = False
    for at in range(m["activating"]):
        held = held or np.int64(marks[ACTIVATING_AT + at]) == page
    return held


@inner
def _entry_of(tables: Any, page: Any) -> Any:
    """Return the page table that maps a page, and which of its entries does."""
    place = np.int64(tables[PLACES][page])
    leaf_place = np.int64(tables[LEAF_PLACES][place >> LEAF_SHIFT])
    nth = leaf_place & (_LEAVES - 1)
    return leaf_place >> LEAVES_SHIFT, (nth << LEAF_SHIFT) + (place & (_LEAF_ENTRIES - 1))


@inner
def _leaf_at(tables: Any, table: Any, nth: Any) -> Any:
    """Return one of the leaves of a table, 0 where nothing is known of it."""
    return np.int64(tables[TABLE_LEAVES][(table << LEAVES_SHIFT) + nth])


@inner
def _page_at(tables: Any, leaf: Any, entry: Any) -> Any:
    """Return the page that an entry of a leaf maps, 0 where none is known."""
    return np.int64(tables[ENTRIES][(leaf << LEAF_SHIFT) + entry])


@inner
def _note_table(m: Any, table_flags: Any, table: Any, seq: Any) -> None:
    """Let the walk before generation `seq` + 1 come by a table; update_bloom_filter()."""
    bit = 1 << (seq & 1)
    if m["filters"] & bit:
        table_flags[table] |= np.uint8(bit)


@inner
def _look_around(m: Any, state: Any, pages: Any, tables: Any, page: Any) -> None:
    """Promote what is accessed among the 64 page table entries around a page found accessed."""
    if tables[PLACES][page] == 0:
        return
    marks = tables[MARKED]
    rules = m["mglru_rules"]
    table, at = _entry_of(tables, page)
    half = MIN_LRU_BATCH // 2
    start: Any = min(max(at - half, 0), _TABLE_ENTRIES - MIN_LRU_BATCH)
    young = np.int64(0 if rules == MGLRU_6_1 else 1)
    marked: Any = np.int64(0)
    youngest = head_of(m["max_seq"])
    for entry in range(start, start + MIN_LRU_BATCH):
        leaf = _leaf_at(tables, table, entry >> LEAF_SHIFT)
        other = _page_at(tables, leaf, entry & (_LEAF_ENTRIES - 1))
        if other == 0 or not state[other] & YOUNG:
            continue
        off_list = has(pages, other, OFF_LIST)
        if rules >= MGLRU_6_14 and off_list:
            continue
        state[other] = state[other] & ~np.uint8(YOUNG)
        young += 1
        if rules >= MGLRU_6_14:
            if m["mm_walk"]:
                _promote(m, pages, other)
            elif _set_refs(m, pages, other) and head_named(pages, other) != youngest:
                _activate_later(m, pages, marks, other)
        elif off_list:
            set_flags(pages, other, PG_REFERENCED)
        elif head_named(pages, other) != youngest:
            if rules == MGLRU_6_1:
                marks[marked] = other
                marked += 1
            else:
                clear_flags(pages, other, PG_REFERENCED | PG_WORKINGSET)
                _activate_later(m, pages, marks, other)
    if young * _PER_LINE >= MIN_LRU_BATCH:
        _note_table(m, tables[TABLE_FLAGS], table, m["max_seq"])
    if marked == 0:
        return
    # 6.1: with a walk at hand, or for as many as a batch holds, only the number changes.
    for mark in range(marked):
        other = np.int64(marks[mark])
        if m["mm_walk"] or marked >= m["add_batch"]:
            _promote(m, pages, other)
        else:
            _activate_later(m, pages, marks, other)


# ---- aging -----------------------------------------------------------------------------------------


@inner
def _is_accessed_table(state: Any, tables: Any, table: Any) -> Any:
    """Test and clear the accessed bit of a table's entry: set where one of its pages was looked up."""
    table_flags = tables[TABLE_FLAGS]
    accessed = table_flags[table] & TABLE_YOUNG
    table_flags[table] &= ~np.uint8(TABLE_YOUNG)
    for nth in range(_LEAVES):
        leaf = _leaf_at(tables, table, nth)
        if leaf == 0:
            continue
        for entry in range(_LEAF_ENTRIES):
            page = _page_at(tables, leaf, entry)
            if page and state[page] & MAPPED:
                accessed |= state[page] & TABLE_YOUNG
                state[page] = state[page] & ~np.uint8(TABLE_YOUNG)
    return accessed != 0


@inner
def _walk_table(m: Any, state: Any, pages: Any, tables: Any, table: Any) -> Any:
    """Promote the accessed pages of one table; return how many there were; walk_pte_range()."""
    reworked = m["mglru_rules"] >= MGLRU_6_14
    present = np.int64(0)
    young = np.int64(0)
    for nth in range(_LEAVES):
        leaf = _leaf_at(tables, table, nth)
        if leaf == 0:
            continue
        for entry in range(_LEAF_ENTRIES):
            page = _page_at(tables, leaf, entry)
            if page == 0:
                continue
            present += np.int64(state[page] & MAPPED != 0)
            if not state[page] & YOUNG:
                continue
            if reworked and has(pages, page, OFF_LIST):
                continue
            state[page] = state[page] & ~np.uint8(YOUNG)
            young += 1
            _promote(m, pages, page)
    m["clock_ns"] += present * m["walk_ns"]
    return young


@inner
def _ran_since_walk(m: Any) -> Any:
    """Tell whether the task was switched to since the last walk began (lru_gen_use_mm() notes that).

    It is where it slept for the device, and where something else has run on its processor:

    - for each 512 pages that reclaim looks at, mm/vmpressure.c:vmpressure() queues a work;
    - v2: where a run of reclaim begins, memcg_memory_event() queues one that tells who watches
      memory.events, every fourth tick at most (kernel/cgroup/cgroup.c:cgroup_file_notify());
    - whoever flushes the statistics: the worker, or a task that reads them, and closes the file: RCU
      frees that, and its thread runs with the next three ticks.
    """
    sleeps = m["pswpin"] + m["waits"]
    tick = (max(m["walked_ns"], m["flushed_ns"]) // _TICK_NS + 1) * _TICK_NS
    return (
        m["walks"] == 0
        or sleeps != m["sleeps"]
        or m["switched"] != 0
        or m["reclaim_scanned"] - m["walk_scanned"] >= _PRESSURE_PAGES
        or m["flushed_ns"] > m["walked_ns"]
        or (
            m["flushed_ns"] > 0
            and tick <= m["clock_ns"]
            and tick <= m["flushed_ns"] + _GRACE_TICKS * _TICK_NS
        )
    )


@inner
def _walk_page_tables(m: Any, state: Any, pages: Any, tables: Any, can_swap: Any) -> None:
    """Look for accessed pages in the tables that the filter names, in all of them the first time.

    One filter says which tables to walk now, the other collects those for the next walk: tables with
    an accessed page per cache line of entries, seen by this walk or by a look-around since. A filter
    is allocated when it is first reset, and says yes until then.
    """
    if not _ran_since_walk(m):
        return
    m["switched"] = 0
    m["sleeps"] = m["pswpin"] + m["waits"]
    m["walk_scanned"] = m["reclaim_scanned"]
    table_flags = tables[TABLE_FLAGS]
    now = np.uint8(1 << (m["max_seq"] & 1))
    later = np.uint8(1 << ((m["max_seq"] + 1) & 1))
    first = m["walks"] == 0
    m["walks"] += 1
    m["walked_ns"] = m["clock_ns"]
    everywhere = first or not m["filters"] & now
    m["filters"] |= np.int64(later)
    for table in range(table_flags.size):
        table_flags[table] &= ~later
        if not can_swap:  # should_skip_vma()
            continue
        asks = m["mglru_rules"] == MGLRU_6_1 or not first
        if asks and not _is_accessed_table(state, tables, table):
            continue
        if everywhere or table_flags[table] & now:
            young = _walk_table(m, state, pages, tables, table)
            if young * _PER_LINE >= _TABLE_ENTRIES:
                _note_table(m, table_flags, table, m["max_seq"] + 1)


@inner
def _move_up(m: Any, pages: Any, page: Any) -> Any:
    """Let a page of the oldest generation belong to the next; folio_inc_gen(). Return its list."""
    if head_named(pages, page) != head_of(m["min_seq"]):
        return head_named(pages, page)  # promoted by number only
    forget = PG_REFERENCED if m["mglru_rules"] >= MGLRU_6_14 else PG_REFERENCED | PG_WORKINGSET
    clear_flags(pages, page, forget)
    pages[page]["again"] = 0
    head = head_of(m["min_seq"] + 1)
    change_generation(pages, page, head)
    return head


@inner
def _is_twice(m: Any, pages: Any, page: Any) -> Any:
    """Tell whether a page was found accessed twice and is not of the working set: folio_lru_refs()."""
    if m["mglru_rules"] < MGLRU_7_2 or has(pages, page, PG_WORKINGSET):
        return False
    return has(pages, page, PG_REFERENCED) and pages[page]["again"] > 0


@inner
def _note_protected(m: Any, pages: Any, page: Any) -> None:
    """Count a page of the oldest generation that moves up, by tier."""
    if has(pages, page, PG_WORKINGSET):
        m["workingset_protected"] += 1
    elif _is_twice(m, pages, page):
        m["twice_protected"] += 1
    else:
        m["tier_protected"] += 1


@inner
def _open_generation(m: Any, pages: Any, can_swap: Any) -> None:
    """Begin a youngest generation, folding the oldest where there are four; inc_max_seq()."""
    if m["max_seq"] - m["file_min_seq"] + 1 == MAX_NR_GENS:
        m["file_min_seq"] += 1
    if m["max_seq"] - m["min_seq"] + 1 == MAX_NR_GENS:
        oldest = head_of(m["min_seq"])
        while can_swap:
            page = np.int64(pages[oldest]["prev"])
            if page == oldest:
                break
            _note_protected(m, pages, page)
            head = _move_up(m, pages, page)
            unlink(pages, page)
            link_tail(pages, head, page)
        _set_min_seq(m, pages, m["min_seq"] + 1)
    m["max_seq"] += 1
    note_sizes(m, pages)


@inner
def _age(m: Any, state: Any, pages: Any, tables: Any, can_swap: Any) -> None:
    """Walk the page tables and open a generation; try_to_inc_max_seq()."""
    _walk_page_tables(m, state, pages, tables, can_swap)
    m["mm_walk"] = 1
    _open_generation(m, pages, can_swap)


@inner
def _close_generations(m: Any, pages: Any, can_swap: Any) -> Any:
    """Leave empty oldest generations behind, all but two; try_to_inc_min_seq(). True if any."""
    last = m["max_seq"] - MIN_NR_GENS
    anon = m["min_seq"]
    if can_swap:
        while anon <= last and np.int64(pages[head_of(anon)]["next"]) == head_of(anon):
            anon += 1
    file = max(m["file_min_seq"], last + 1)  # no file pages: its generations are always empty
    if m["mglru_rules"] >= MGLRU_6_14:
        if anon == m["min_seq"] and file == m["file_min_seq"]:
            return False
        if can_swap:
            if anon > last and file < last:
                anon = last
            elif file > last and anon < last:
                file = last
    elif can_swap:
        anon = min(anon, file)
        file = max(anon, m["file_min_seq"])
    moved = False
    if anon > m["min_seq"]:
        _set_min_seq(m, pages, anon)
        moved = True
    if file > m["file_min_seq"]:
        m["file_min_seq"] = file
        moved = True
    return moved


# ---- eviction --------------------------------------------------------------------------------------


@inner
def _refaults_more(m: Any, refaulted: Any, total: Any) -> Any:
    """Tell whether pages refault half as much again as the first tier; positive_ctrl_err()."""
    if refaulted < MIN_LRU_BATCH:
        return False
    others = m["tier_avg_refaulted"] + m["tier_refaulted"]
    of_all = m["tier_avg_total"] + m["tier_evicted"] + m["tier_protected"]
    return refaulted * (of_all + MIN_LRU_BATCH) * 2 > (others + 1) * total * 3


@inner
def _protects_twice(m: Any) -> Any:
    """Tell whether pages found accessed twice are spared, and with them the working set (7.2)."""
    return m["mglru_rules"] >= MGLRU_7_2 and _refaults_more(
        m,
        m["twice_avg_refaulted"] + m["twice_refaulted"],
        m["twice_avg_total"] + m["twice_evicted"] + m["twice_protected"],
    )


@inner
def _protects_workingset(m: Any) -> Any:
    """Tell whether the working set is spared; get_tier_idx() (6.14)."""
    return _refaults_more(
        m,
        m["workingset_avg_refaulted"] + m["workingset_refaulted"],
        m["workingset_avg_total"] + m["workingset_evicted"] + m["workingset_protected"],
    )


@inner
def _isolate(m: Any, pages: Any, most: Any) -> Any:
    """Take up to 64 pages from the old end of the oldest generation; return how many were looked at.

    most : pages to look at

    Others are sorted on the way: promoted pages go where their number says, pages of the working set
    where it is protected, and pages under writeback (6.1, 6.14) to the next generation. 0 where
    nothing was isolated (until 6.14).
    """
    if m["max_seq"] - m["min_seq"] + 1 == MIN_NR_GENS:
        return np.int64(0)
    rules = m["mglru_rules"]
    oldest = head_of(m["min_seq"])
    protects_twice = _protects_twice(m)
    protects = protects_twice or (rules >= MGLRU_6_14 and _protects_workingset(m))
    by_writeback = rules in (MGLRU_6_1, MGLRU_6_14)
    scanned = np.int64(0)
    isolated = np.int64(0)
    ahead = np.int64(pages[oldest]["prev"])
    while True:
        page = np.int64(pages[oldest]["prev"])
        if page == oldest:
            break
        ahead = np.int64(pages[ahead]["prev"])
        prefetch(pages, ahead)
        scanned += 1
        workingset = has(pages, page, PG_WORKINGSET)
        if head_named(pages, page) != oldest:  # promoted
            unlink(pages, page)
            link_head(pages, head_named(pages, page), page)
        elif rules == MGLRU_6_1 and workingset:
            # A page that refaulted counts as accessed as often as can be: spared once.
            head = _move_up(m, pages, page)
            unlink(pages, page)
            link_tail(pages, head, page)
            m["workingset_activate_anon"] += 1
        elif (protects and workingset) or (protects_twice and _is_twice(m, pages, page)):
            _note_protected(m, pages, page)
            head = _move_up(m, pages, page)
            unlink(pages, page)
            link_head(pages, head, page)
        elif by_writeback and has(pages, page, PG_WRITEBACK):
            head = _move_up(m, pages, page)
            set_flags(pages, page, PG_RECLAIM)
            unlink(pages, page)
            link_head(pages, head, page)
        else:
            if rules < MGLRU_6_14:
                if not has(pages, page, PG_REFERENCED):
                    clear_flags(pages, page, PG_WORKINGSET)
                clear_flags(pages, page, PG_REFERENCED)
            if by_writeback:
                clear_flags(pages, page, PG_RECLAIM)
            if not has(pages, page, PG_REFERENCED):
                pages[page]["again"] = 0
            leave_generation(pages, page)
            link_head(pages, ISOLATED, page)
            isolated += 1
        if scanned == most or isolated >= MIN_LRU_BATCH:
            break
    m["reclaim_scanned"] += isolated
    m["ev_scanned"] += isolated
    m["stat_updates"] += UPDATES_PER_SCAN * isolated
    if rules < MGLRU_7_2 and isolated == 0 and scanned < most:
        return np.int64(0)
    return scanned


@inner
def _shrink_page(
    m: Any,
    state: Any,
    pages: Any,
    pool: Any,
    classes: Any,
    writes: Any,
    slots: Any,
    tables: Any,
    page: Any,
) -> Any:
    """Reclaim one isolated page, or say that it stays; shrink_folio_list() for one page."""
    rules = m["mglru_rules"]
    if rules < MGLRU_6_14 and has(pages, page, PG_REFERENCED) and state[page] & MAPPED:
        return False  # a look-around found it accessed after it was isolated
    activate = False
    if has(pages, page, PG_WRITEBACK):
        if m["throttle_sane"] or not has(pages, page, PG_RECLAIM):
            set_flags(pages, page, PG_RECLAIM)
            activate = True
        else:
            wait_for_write(m, pages, writes, page)
    if not activate and state[page] & YOUNG:
        if rules != MGLRU_6_1:
            state[page] = state[page] & ~np.uint8(YOUNG)
        _look_around(m, state, pages, tables, page)
        if rules >= MGLRU_6_14:
            activate = _set_refs(m, pages, page)
        else:
            state[page] = state[page] & ~np.uint8(YOUNG)
            # In 6.1 the look-around comes by the page itself, which then counts as accessed twice.
            activate = has(pages, page, PG_REFERENCED)
            set_flags(pages, page, PG_REFERENCED)
        if not activate:
            return False
    if not activate:
        if rules < MGLRU_6_14:
            clear_flags(pages, page, PG_REFERENCED)
        table_young = state[page] & TABLE_YOUNG if state[page] & MAPPED else 0
        m["is_held"] = _is_held(m, tables[MARKED], page)
        fate = _evict(m, state, pages, pool, classes, writes, slots, page)
        m["is_held"] = False
        if table_young:
            table, _ = _entry_of(tables, page)
            tables[TABLE_FLAGS][table] |= np.uint8(TABLE_YOUNG)
        if fate == FREED:
            twice = _is_twice(m, pages, page)
            if has(pages, page, PG_WORKINGSET):
                m["workingset_evicted"] += 1
            elif twice:
                m["twice_evicted"] += 1
            else:
                m["tier_evicted"] += 1
            pages[page]["again"] = 1 if twice else 0
            forget_page(m, state, pages, page)  # OFF_LIST stays: it is on no list
            return True
        if fate in (OFF_LRU, KEPT_LOCKED):
            return False
        activate = fate == KEEP_ACTIVE
    if activate:
        activate_page(m, state, pages, pool, classes, slots, page)
    return False


@inner
def _put_back(m: Any, state: Any, pages: Any, page: Any, skip_retry: Any) -> Any:
    """Put a page that stays on its list, False where it is to be tried again; evict_folios()."""
    flags = pages[page]["flags"]
    mapped = state[page] & MAPPED
    if m["mglru_rules"] >= MGLRU_6_14:
        if not (skip_retry or mapped or flags & (PG_ACTIVE | PG_DIRTY | PG_WRITEBACK)):
            return False
        if would_join_oldest(m, pages, page):
            clear_flags(pages, page, PG_REFERENCED)
            pages[page]["again"] = 0
            set_flags(pages, page, PG_ACTIVE)
    elif flags & PG_RECLAIM and flags & (PG_DIRTY | PG_WRITEBACK):
        if flags & PG_WORKINGSET:
            set_flags(pages, page, PG_REFERENCED)
    elif skip_retry or mapped or flags & (PG_ACTIVE | PG_REFERENCED | PG_DIRTY | PG_WRITEBACK):
        clear_flags(pages, page, PG_REFERENCED | PG_WORKINGSET)
        set_flags(pages, page, PG_ACTIVE)
    else:
        return False
    join_generation(m, pages, page, False)
    return True


@inner
def _evict_batch(
    m: Any,
    state: Any,
    pages: Any,
    pool: Any,
    classes: Any,
    writes: Any,
    slots: Any,
    tables: Any,
    can_swap: Any,
    most: Any,
) -> Any:
    """Isolate and reclaim a batch; return (pages looked at, pages freed, whether any was isolated)."""
    scanned = np.int64(0)
    if m["mglru_rules"] >= MGLRU_7_2:
        _close_generations(m, pages, can_swap)
        if can_swap:
            scanned = _isolate(m, pages, most)
        if scanned:
            _close_generations(m, pages, can_swap)
    else:
        if can_swap:
            scanned = _isolate(m, pages, most)
        if _close_generations(m, pages, can_swap):
            scanned += 1
        if _nr_gens(m, can_swap) <= MIN_NR_GENS:
            scanned = np.int64(0)
    freed = np.int64(0)
    had_pages = pages[ISOLATED]["prev"] != ISOLATED
    skip_retry = False
    while pages[ISOLATED]["prev"] != ISOLATED:
        while True:
            page = np.int64(pages[ISOLATED]["prev"])
            if page == ISOLATED:
                break
            unlink(pages, page)
            before = np.int64(pages[page]["prev"])
            prefetch(state, before)
            m["clock_ns"] += m["scan_ns"]
            if _shrink_page(m, state, pages, pool, classes, writes, slots, tables, page):
                freed += 1
            elif not has(pages, page, LINKED):
                link_head(pages, RETURNED, page)
        while True:
            page = np.int64(pages[RETURNED]["prev"])
            if page == RETURNED:
                break
            unlink(pages, page)
            if not _put_back(m, state, pages, page, skip_retry):
                link_head(pages, ISOLATED, page)
        skip_retry = True
    note_sizes(m, pages)
    return scanned, freed, had_pages


@inner
def _nr_gens(m: Any, can_swap: Any) -> Any:
    """Return how many generations there are of what can be evicted; get_nr_gens()."""
    if not can_swap:
        return m["max_seq"] - m["file_min_seq"] + 1
    oldest = m["min_seq"]
    if m["mglru_rules"] >= MGLRU_6_14 and m["swappiness"] <= 200:
        oldest = min(oldest, m["file_min_seq"])  # evictable_min_seq()
    return m["max_seq"] - oldest + 1


@inner
def _scan_target(m: Any, state: Any, pages: Any, tables: Any, can_swap: Any, priority: Any) -> Any:
    """Return how many pages to look at, aging first where it is time; get_nr_to_scan()."""
    rules = m["mglru_rules"]
    generations = _nr_gens(m, can_swap)
    total = np.int64(0)
    if can_swap:
        for seq in range(m["min_seq"], m["max_seq"] + 1):
            total += size_of(pages, seq)
    ages: Any = True
    if generations <= MIN_NR_GENS:
        if rules != MGLRU_6_1:
            total = np.int64(0)
    elif generations > MIN_NR_GENS + 1:
        ages = False
    elif rules < MGLRU_6_14:
        young = size_of(pages, m["max_seq"]) if can_swap else np.int64(0)
        old = size_of(pages, m["max_seq"] - MIN_NR_GENS) if can_swap else np.int64(0)
        ages = young * MIN_NR_GENS > total or old * (MIN_NR_GENS + 2) < total
    target = total >> priority
    if not ages:
        return target
    if rules == MGLRU_6_1:
        if priority == DEF_PRIORITY:
            return target if generations > MIN_NR_GENS else np.int64(0)
        _age(m, state, pages, tables, can_swap)
        return target
    if priority == DEF_PRIORITY:
        return target
    _age(m, state, pages, tables, can_swap)
    return _NEVER_SCAN


@inner
def _ages_first(m: Any, can_swap: Any, priority: Any) -> Any:
    """Tell whether a batch is preceded by an aging; should_run_aging() (7.2)."""
    generations = _nr_gens(m, can_swap)
    if generations <= MIN_NR_GENS:
        return True
    return priority != DEF_PRIORITY and generations == MIN_NR_GENS + 1


@inner
def _can_swap(m: Any) -> Any:
    """Tell whether anonymous pages are evicted at all; get_swappiness()."""
    if m["swappiness"] == 0:
        return False
    if m["swap_slots_total"] - m["swap_slots"] >= MIN_LRU_BATCH:
        return True
    m["decided"] |= SLOT_MET
    return m["late_slots"] != 0


@inner
def _shrink(
    m: Any,
    state: Any,
    pages: Any,
    pool: Any,
    classes: Any,
    writes: Any,
    slots: Any,
    tables: Any,
    priority: Any,
    freed_before: Any,
) -> Any:
    """Evict at one priority; return how many pages were freed; lru_gen_shrink_lruvec()."""
    _drain(m, pages, tables)
    complete_writes(m, pages, writes)
    m["mm_walk"] = 0
    began = m["max_seq"]
    plugs = start_plug(m)  # unless a read of neighbours has
    can_swap = _can_swap(m)
    scanned = np.int64(0)
    freed = np.int64(0)
    swapping: Any = False
    left = np.int64(0)  # pages to look at (7.2: set once a level, and spent)
    if m["mglru_rules"] >= MGLRU_7_2 and can_swap:
        for seq in range(m["min_seq"], m["max_seq"] + 1):
            left += size_of(pages, seq)
        left >>= priority
    while True:
        most: Any = np.int64(MAX_LRU_BATCH)
        if m["mglru_rules"] >= MGLRU_7_2:
            target = left
            if target > 0 and _ages_first(m, can_swap, priority):
                _age(m, state, pages, tables, can_swap)
            most = min(left, np.int64(MIN_LRU_BATCH))
        else:
            if m["mglru_rules"] == MGLRU_6_1:
                can_swap = _can_swap(m)
            target = _scan_target(m, state, pages, tables, can_swap, priority)
            if m["mglru_rules"] == MGLRU_6_14:  # evict_folios() of 6.18, not yet of 6.16
                most = min(target, most)
        if target <= 0:
            break
        looked_at, now_freed, had_pages = _evict_batch(
            m, state, pages, pool, classes, writes, slots, tables, can_swap, most
        )
        freed += now_freed
        if had_pages:
            swapping = True
        scanned += looked_at
        if looked_at == 0:
            break
        if m["mglru_rules"] >= MGLRU_7_2:
            if freed_before + freed >= SWAP_CLUSTER_MAX:  # should_abort_scan()
                break
            left -= looked_at
            continue
        if scanned >= target:
            break
        if m["mglru_rules"] == MGLRU_6_1:  # should_abort_scan(); then it never stops a cgroup
            if m["max_seq"] - began > 1:
                break
            if swapping and freed_before + freed >= SWAP_CLUSTER_MAX:
                break
    m["mm_walk"] = 0
    if plugs:
        finish_plug(m, pages, writes)
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
    if m["throttle_sane"] and m["clock_ns"] >= m["notified_ns"] + _NOTIFY_NS:
        m["notified_ns"] = m["clock_ns"]
        m["switched"] = 1
    before = charged_bytes(m)
    pool_before = m["pool_charged_bytes"]
    freed = np.int64(0)
    rounds = 2 if m["full_walk_retry"] else 1
    for _ in range(rounds):
        for step in range(DEF_PRIORITY + 1):
            flush_if_due(m, beside[0])
            if m["flush_period_ns"] == 0:
                flush_statistics(m)
            m["clock_ns"] += LEVEL_NS
            priority = DEF_PRIORITY - step
            freed += _shrink(
                m, state, pages, pool, classes, writes, slots, beside[1], priority, freed
            )
            m["decided"] |= PRESSED
            if m["shrinker"]:
                _shrink_slab(m, state, pages, pool, classes, writes, slots, priority)
            if freed >= SWAP_CLUSTER_MAX:
                break
        if freed:
            break
    note_reclaim(m, freed, before, pool_before)
    return freed


_charge, _make_room = build_charging(_reclaim)
_replay_accesses = build_loop(_on_hit, _make_room, _refault, _add, _drain, _run_worker)


@kernel
def replay_mglru(
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
    """Replay a batch with generations; see replay.loop.build_loop()."""
    return _replay_accesses(batch, m[0], state, pages, pool, classes, writes, slots, out)


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

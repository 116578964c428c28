"""The access loop: hits and faults.

A reclaim model hands its hooks to build_loop() and orders pages; all counting happens here and in
eviction.py, so a model cannot miscount. Source: mm/memory.c:do_swap_page(), mm/swap_state.c as of v6.12
and v6.18.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracereplay._jit import (
    apart,
    byte_at,
    copied,
    inner,
    item_at,
    move_counts,
    prefetch,
    put_at,
    trailing_zeros,
)
from tracereplay.replay.charge import charged_bytes
from tracereplay.replay.eviction import drop_backing, forget_kept
from tracereplay.replay.slots import swap_is_full
from tracereplay.replay.state import (
    ACCESSED,
    BACKGROUND,
    DEVICE,
    FIRST_PAGE,
    IN_ZEROMAP,
    IN_ZSWAP,
    LINKED,
    MAPPED,
    MINOR,
    NEVER_MAPPED,
    OFF_LIST,
    ON_DEVICE,
    PEAKS,
    PG_DIRTY,
    PG_READAHEAD,
    PG_WRITEBACK,
    PTE_DIRTY,
    RAW,
    READ_ONLY,
    RESIDENT,
    SEEN,
    SWAP_CACHE,
    SWAPCACHE,
    ZERO,
    ZSWAP,
    ZSWAP_RAW,
    clear_flags,
    has,
    set_flags,
)
from tracereplay.replay.statistics import (
    UPDATES_PER_FIRST_TOUCH,
    UPDATES_PER_MAP,
    UPDATES_PER_SWAP_IN,
    flush_if_due,
)
from tracereplay.replay.swap import (
    begin_slice,
    complete_writes,
    dispatch,
    finish_plug,
    go_back,
    neighbour,
    start_plug,
    window_around,
)
from tracereplay.replay.zswap import forget_entry, stored_length

# Page table entries in a cache line. Pages are numbered by first touch, as they lie in most programs.
BESIDE_PAGES = 8
# Faults after which a page that was read ahead has left the caches: as many pages, with what reclaim
# compresses meanwhile, are half of a second-level cache of 1 MiB.
WARM_FAULTS = 64
LEAST_TLB_ENTRIES = 64  # CPU_TLB_DYN_MIN_BITS
FAR_AHEAD = 52  # rows; `soon` has a bit for each, of 64
STATE_AHEAD = 48  # before them


@copied
def _load(m: Any, pages: Any, pool: Any, classes: Any, writes: Any, page: Any) -> Any:
    """Bring the data of a page back; mm/page_io.c:swap_read_folio(). Return the service."""
    if has(pages, page, IN_ZEROMAP):
        m["swpin_zero"] += 1
        m["clock_ns"] += m["zero_ns"]
        return ZERO
    if has(pages, page, IN_ZSWAP):
        m["zswpin"] += 1
        raw = has(pages, page, RAW)
        m["clock_ns"] += m["raw_copy_ns"] if raw else m["load_ns"]
        if m["exclusive_loads"]:
            forget_entry(m, pages, pool, classes, page)
        return ZSWAP_RAW if raw else ZSWAP
    m["pswpin"] += 1
    m["disk_swapins"] += 1
    if not m["plugged"]:
        dispatch(m, writes)  # the fault sleeps
    m["clock_ns"] += m["device_read_ns"]
    begin_slice(m)
    if m["one_cpu"] and m["worker_active"]:
        # Once it has submitted the read the faulting thread sleeps, and the worker gets done twice
        # as much.
        m["worker_ns"] -= max(m["device_read_ns"] - m["submit_ns"], 0)
    return DEVICE


@inner
def _out_of_memory(m: Any, access: Any, row: Any) -> Any:
    m["oom_events"] += 1
    m["oom_at_access"] = access
    return -1 - row


@inner
def _faults_so_far(m: Any) -> Any:
    return m["pgmajfault"] + m["minor_faults"]


@copied
def _note_peaks(m: Any, samples: Any, access: Any, now: Any) -> None:
    footprint = m["resident_pages"] + m["pool_pages"]
    over = charged_bytes(m) - m["limit_bytes"]
    if (
        m["resident_pages"] > m["resident_pages_peak"]
        or m["pool_pages"] > m["pool_pages_peak"]
        or m["stored_pages"] > m["stored_pages_peak"]
        or footprint > m["footprint_pages_peak"]
        or over > m["overshoot_bytes_peak"]
    ):
        _raise_peaks(m, samples, access, now, footprint, over)


@apart
def _raise_peaks(m: Any, samples: Any, access: Any, now: Any, footprint: Any, over: Any) -> None:
    first = samples.size - len(PEAKS)
    if m["resident_pages"] > m["resident_pages_peak"]:
        m["resident_pages_peak"] = m["resident_pages"]
        _take_sample(m, samples, first, access, now)
    if m["pool_pages"] > m["pool_pages_peak"]:
        m["pool_pages_peak"] = m["pool_pages"]
        _take_sample(m, samples, first + 1, access, now)
    if m["stored_pages"] > m["stored_pages_peak"]:
        m["stored_pages_peak"] = m["stored_pages"]
        _take_sample(m, samples, first + 2, access, now)
    if footprint > m["footprint_pages_peak"]:
        m["footprint_pages_peak"] = footprint
        _take_sample(m, samples, first + 3, access, now)
    m["overshoot_bytes_peak"] = max(m["overshoot_bytes_peak"], over)


@apart
def _take_sample(m: Any, samples: Any, point: Any, access: Any, now: Any) -> None:
    samples[point]["access"] = access
    samples[point]["time_ns"] = now
    samples[point]["resident_pages"] = m["resident_pages"]
    samples[point]["mapped_pages"] = m["mapped_pages"]
    samples[point]["active_pages"] = m["active_pages"]
    samples[point]["inactive_pages"] = m["inactive_pages"]
    samples[point]["pool_pages"] = m["pool_pages"]
    samples[point]["stored_pages"] = m["stored_pages"]
    samples[point]["device_pages"] = m["device_pages"]
    samples[point]["swap_slots"] = m["swap_slots"]


@copied
def _note_time(m: Any, samples: Any, time_ns: Any, first_row: Any, access: Any) -> None:
    """Account for the accesses since the last change: sums for the means, points of the footprint.

    Nothing changes between two faults, so a point in between is taken when the next fault comes, or
    the batch ends.
    """
    since = access - m["last_access"]
    m["resident_sum"] += since * m["resident_pages"]
    m["pool_sum"] += since * m["pool_pages"]
    m["stored_sum"] += since * m["stored_pages"]
    m["last_access"] = access
    if m["next_sample"] < access:
        _take_samples(m, samples, time_ns, first_row, access)


@apart
def _take_samples(m: Any, samples: Any, time_ns: Any, first_row: Any, access: Any) -> None:
    while m["next_sample"] < access and m["samples"] < samples.size - len(PEAKS):
        at = m["next_sample"]
        came_ns = time_ns[at - first_row] if time_ns.size > 0 else at * m["touch_ns"]
        _take_sample(m, samples, m["samples"], at, came_ns)
        m["samples"] += 1
        m["next_sample"] += m["sample_every"]


@inner
def _emit(
    m: Any,
    events: Any,
    access: Any,
    clock_ns: Any,
    service: Any,
    size: Any,
    page: Any,
    is_warm: Any,
) -> None:
    at = m["events"]
    events[at]["near"] = 0
    if service != BACKGROUND:
        events[at]["near"] = is_warm or (
            service != SWAP_CACHE and abs(page - m["faulted"]) < BESIDE_PAGES
        )
        m["faulted"] = page
    events[at]["access"] = access
    events[at]["clock_ns"] = clock_ns
    events[at]["service"] = service
    events[at]["size_bytes"] = size
    events[at]["touched_pages"] = m["unique_pages"]
    move_counts(m, events[at])
    m["events"] = at + 1


@copied
def _map(
    m: Any,
    state: Any,
    pages: Any,
    pool: Any,
    classes: Any,
    slots: Any,
    page: Any,
    write: Any,
) -> None:
    """Map a page of the swap cache, and free its slot where the kernel does.

    mm/memory.c:do_swap_page(), should_try_to_free_swap(): on a write, when swap is more than half
    full, and always for a synchronous device; never under writeback. Where the program reads before
    it writes (`read_first`), the fault is a read's; the write comes to a mapped page.
    """
    bits = SEEN | RESIDENT | MAPPED | ACCESSED
    if write:
        bits |= PTE_DIRTY
        if m["read_first"]:
            write = False
            if not m["map_writable"]:
                m["minor_faults"] += 1
                m["clock_ns"] += m["minor_fault_ns"]
    elif not m["map_writable"]:
        bits |= READ_ONLY
    state[page] = bits
    clear_flags(pages, page, NEVER_MAPPED)
    m["mapped_pages"] += 1
    if (write or m["synchronous"] or swap_is_full(m)) and not has(pages, page, PG_WRITEBACK):
        drop_backing(m, pages, pool, classes, slots, page)
    else:
        m["slots_kept"] += 1


@apart
def _renew_tlb(m: Any, state: Any, tlb: Any) -> None:
    """Forget all translations, and fit their number to those in use; QEMU, accel/tcg/cputlb.c.

    tlb_mmu_resize_locked(): twice as many where more than 70 % are used, and where less than 30 % are,
    the power of two of which they would be less than 70 %.
    """
    m["tlb_renewals"] = m["flush_index"]
    used = np.int64(0)
    for at in range(m["tlb_entries"]):
        used += tlb[at] != 0 and state[np.int64(tlb[at])] & MAPPED
        tlb[at] = 0
    entries = np.int64(m["tlb_entries"])
    if 100 * used > 70 * entries:
        entries = min(2 * entries, tlb.size)
    elif 100 * used < 30 * entries:
        entries = np.int64(LEAST_TLB_ENTRIES)
        while 100 * used > 70 * entries:
            entries *= 2
    m["tlb_entries"] = entries


@inner
def prefetch_ahead(m: Any, pages: Any, pool: Any, neighbours: Any, page_ids: Any, row: Any) -> None:
    """Ask for what the record of the third fault from here names; its record has come by now.

    Not for the neighbours of its zspage on a list: a load that changes them is one in ten.
    """
    soon = np.int64(m["soon"]) >> 1
    for _ in range(2):
        soon &= soon - 1
    if soon and row + FAR_AHEAD + STATE_AHEAD < page_ids.size:
        coming = np.int64(item_at(page_ids, row + 1 + trailing_zeros(np.uint64(soon)))) + FIRST_PAGE
        prefetch(pool[0], np.int64(pages[coming]["zspage"]))
        if neighbours.size > 0:
            prefetch(neighbours, 2 * coming)


def build_loop(
    on_hit: Any, make_room: Any, refault: Any, add: Any, drain: Any, run_worker: Any
) -> Any:
    """Return the access loop of a reclaim model; see `replay_accesses` inside.

    `beside` is (flushes, lookup) throughout: when the statistics are flushed, FLUSH, and what the model
    looks pages up in. The hooks, all of them @inner, @copied or @apart:

    on_hit(pages, page, ahead, row) : each touch, of a page that faulted once it is mapped; `ahead` is
        (next uses, lookup). Returns nothing.
    make_room(m, state, pages, pool, classes, writes, slots, beside, page) : before a page comes into
        memory, also one that is read ahead: charges it, and what its address needs, and has others
        leave where the limit is met. Returns False where that fails: an OOM kill, which ends the replay.
    refault(m, pages, page) : a page that was evicted is in memory again, on no list yet; the model counts
        it and sets the flags that decide where it belongs. Returns nothing.
    add(m, pages, page) : puts a page on a list, a new one, a refaulted one, or one that a policy has
        held apart from the lists (LINKED). Returns nothing.
    drain(m, pages, lookup) : puts the pages of per-CPU batches on their lists where a fault asks for
        that, lru_add_drain(). Returns nothing.
    run_worker(m, state, pages, pool, classes, writes, slots) : before a fault, while the writeback worker
        has work: does what it had time for by now. build_eviction() returns it.
    """

    @inner
    def pass_hits(
        m: Any,
        state: Any,
        pages: Any,
        page_ids: Any,
        is_write: Any,
        ahead: Any,
        tlb: Any,
        row: Any,
    ) -> Any:
        """Pass the touches that cost nothing; return the row of the next one that faults.

        On the way the state of pages to come is asked for, then the record of those that will fault.
        No branch for that: one in eight would be guessed wrong. `soon` has a bit for this row
        and each of the next, the nearest lowest, set where it will fault.
        """
        rows = np.int64(page_ids.size)
        has_tlb = tlb.size > 0
        tlb_mask = np.int64(m["tlb_entries"] - 1)
        soon = np.int64(m["soon"])
        while row < rows:
            if row + FAR_AHEAD + STATE_AHEAD < rows:
                later = np.int64(item_at(page_ids, row + FAR_AHEAD + STATE_AHEAD)) + FIRST_PAGE
                prefetch(state, later)
                coming = np.int64(item_at(page_ids, row + FAR_AHEAD)) + FIRST_PAGE
                faults = 1 - (item_at(state, coming) & MAPPED)
                prefetch(pages, coming * faults)
                soon = soon >> 1 | faults << FAR_AHEAD
            page = np.int64(item_at(page_ids, row)) + FIRST_PAGE
            bits = item_at(state, page)
            write = np.int64(byte_at(is_write, row))
            # One comparison: nobody guesses which accesses write.
            if bits & (MAPPED | READ_ONLY * write) != MAPPED:
                break
            # The accessed bit is set where the processor walks the page table: not while it has
            # the translation cached, which reclaim leaves there when it clears the bit
            # (arch/x86/mm/pgtable.c:ptep_clear_flush_young()). A first write walks it again.
            if not has_tlb or tlb[page & tlb_mask] != page or (write and not bits & PTE_DIRTY):
                put_at(state, page, bits | ACCESSED | PTE_DIRTY * write)
                if has_tlb:
                    tlb[page & tlb_mask] = page
            on_hit(pages, page, ahead, row)
            row += 1
        m["soon"] = soon
        return row

    @copied
    def bring_in(
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
        """Bring a page into the swap cache; return the service, -1 where there is no room.

        mm/swap_state.c:__read_swap_cache_async(): its place is taken first, then it is charged, then
        read. Nothing is read where it is in the swap cache by now.
        """
        if state[page] & RESIDENT:
            return np.int64(SWAP_CACHE)
        m["incoming"] = page
        requests = m["ev_requests"]
        has_room = make_room(m, state, pages, pool, classes, writes, slots, beside, page)
        m["incoming"] = 0
        if not has_room:
            return np.int64(-1)
        m["resident_pages"] += 1
        service = np.int64(_load(m, pages, pool, classes, writes, page))
        if service == DEVICE and m["ev_requests"] > requests:
            m["clock_ns"] += m["behind_ns"]  # the device has begun with those writes
            complete_writes(m, pages, writes)
        state[page] = SEEN | RESIDENT
        refault(m, pages, page)
        if m["exclusive_loads"] and ZSWAP <= service <= ZSWAP_RAW:
            set_flags(pages, page, SWAPCACHE | NEVER_MAPPED | PG_DIRTY)
        else:
            set_flags(pages, page, SWAPCACHE | NEVER_MAPPED)
        pages[page]["came_at"] = _faults_so_far(m)
        add(m, pages, page)
        return service

    @apart
    def bring_neighbour(
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
        """Bring in a page of a window: bring_in() once for all, not copied to each place."""
        return np.int64(bring_in(m, state, pages, pool, classes, writes, slots, beside, page))

    @apart
    def read_around(
        m: Any,
        state: Any,
        pages: Any,
        pool: Any,
        classes: Any,
        writes: Any,
        slots: Any,
        neighbours: Any,
        beside: Any,
        page: Any,
        begin: Any,
        count: Any,
    ) -> Any:
        """Bring a page in with its neighbours; return its service, -1 where there is no room.

        mm/swap_state.c:swap_cluster_readahead(), swap_vma_readahead(): neighbours in ascending
        order, the page itself at its place among them, and all that reclaim writes meanwhile held
        back (swap.py:submit_write()). Unlike the kernel, which skips it, a page that was never touched
        ends the window: who is beside it is known only from then on.
        """
        service = np.int64(-1)
        if m["vma_readahead"]:
            other = page
            while begin < 0 and state[np.int64(neighbour(neighbours, 2 * other))] & SEEN:
                other = np.int64(neighbour(neighbours, 2 * other))
                begin += 1
            count += begin  # what lies before the page table's first entry is cut off
            slot = np.int64(0)
        else:
            slot = np.int64(pages[page]["slot"]) & ~(count - 1)
            if slot == 0:
                slot += 1
                count -= 1
            other = np.int64(0)
        reads = m["pswpin"]
        start_plug(m)
        for step in range(count):
            if m["vma_readahead"]:
                if step > 0:
                    other = np.int64(neighbour(neighbours, 2 * other + 1))
                if not state[other] & SEEN:
                    break
            else:
                if slot + step >= m["slot_room"]:
                    break
                other = np.int64(slots[slot + step])
                if other == 0:
                    continue
            if other == page:
                service = bring_neighbour(
                    m, state, pages, pool, classes, writes, slots, beside, page
                )
                if service < 0:
                    return service
            elif not state[other] & RESIDENT and has(
                pages, other, IN_ZSWAP | ON_DEVICE | IN_ZEROMAP
            ):
                from_pool = has(pages, other, IN_ZSWAP)
                came = bring_neighbour(m, state, pages, pool, classes, writes, slots, beside, other)
                if came < 0:
                    return np.int64(-1)  # this charge may kill as well (GFP_HIGHUSER_MOVABLE)
                set_flags(pages, other, PG_READAHEAD)
                m["swap_ra"] += 1
                if from_pool:
                    m["ev_read_ahead_loads"] += 1
                else:
                    m["ev_read_ahead"] += 1
        finish_plug(m, pages, writes)
        if m["pswpin"] > reads:
            dispatch(m, writes)  # the fault sleeps until its page is read
            begin_slice(m)
        if m["swapin_drains"]:
            drain(m, pages, beside[1])  # lru_add_drain()
        if not state[page] & RESIDENT:  # reclaimed again for one of the others
            service = bring_neighbour(m, state, pages, pool, classes, writes, slots, beside, page)
        return service

    @copied
    def map_new(
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
        """Give a page that was never touched; return the service, -1 where there is no room.

        mm/memory.c:do_anonymous_page().
        """
        if not make_room(m, state, pages, pool, classes, writes, slots, beside, page):
            return np.int64(-1)
        m["minor_faults"] += 1
        m["clock_ns"] += m["minor_fault_ns"]
        m["stat_updates"] += UPDATES_PER_FIRST_TOUCH
        m["unique_pages"] += 1
        m["resident_pages"] += 1
        m["mapped_pages"] += 1
        state[page] = SEEN | RESIDENT | MAPPED | ACCESSED | PTE_DIRTY
        add(m, pages, page)
        return np.int64(MINOR)

    @copied
    def map_cached(
        m: Any,
        state: Any,
        pages: Any,
        pool: Any,
        classes: Any,
        slots: Any,
        beside: Any,
        page: Any,
        write: Any,
    ) -> Any:
        """Map a page that is still or already in the swap cache; say whether it came just before."""
        is_warm: Any = False
        m["minor_faults"] += 1
        m["clock_ns"] += m["minor_fault_ns"]
        m["stat_updates"] += UPDATES_PER_MAP
        if has(pages, page, NEVER_MAPPED):
            since = np.uint32(_faults_so_far(m) - np.int64(pages[page]["came_at"]))
            is_warm = since <= WARM_FAULTS
        forget_kept(m, pages, page)
        if has(pages, page, LINKED):
            forget_entry(m, pages, pool, classes, page)
            add(m, pages, page)
        if has(pages, page, PG_READAHEAD):
            clear_flags(pages, page, PG_READAHEAD)
            m["swap_ra_hit"] += 1
            m["ra_hits"] += 1
        if m["vma_readahead"]:
            m["ra_prev"] = page
        if write and m["swapin_drains"] and has(pages, page, OFF_LIST):
            drain(m, pages, beside[1])
        _map(m, state, pages, pool, classes, slots, page, write)
        return is_warm

    @copied
    def swap_in(
        m: Any,
        state: Any,
        pages: Any,
        pool: Any,
        classes: Any,
        writes: Any,
        slots: Any,
        neighbours: Any,
        beside: Any,
        page: Any,
        write: Any,
    ) -> Any:
        """Bring a page in, with its neighbours where the kernel reads ahead, and map it.

        mm/memory.c:do_swap_page(). Return the service, -1 where there is no room.
        """
        m["pgmajfault"] += 1
        m["clock_ns"] += m["major_fault_ns"]
        m["stat_updates"] += UPDATES_PER_SWAP_IN
        begin = np.int64(0)
        count = np.int64(1)
        if m["page_cluster"] > 0:
            begin, count = window_around(m, pages, neighbours, page)
        if count > 1:
            service = np.int64(
                read_around(
                    m,
                    state,
                    pages,
                    pool,
                    classes,
                    writes,
                    slots,
                    neighbours,
                    beside,
                    page,
                    begin,
                    count,
                )
            )
        else:
            service = np.int64(
                bring_in(m, state, pages, pool, classes, writes, slots, beside, page)
            )
        if service < 0:
            return service
        in_batch = has(pages, page, OFF_LIST)
        if write and in_batch and m["swapin_drains"] and not m["synchronous"]:
            drain(m, pages, beside[1])  # to see whether anybody else holds the page
        _map(m, state, pages, pool, classes, slots, page, write)
        return service

    @inner
    def replay_accesses(
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
        """Replay rows of a batch until its end, an OOM kill, or a full event buffer; return rows done.

        batch : (page_ids uint32, is_write bool, time_ns int64 or empty, (next uses int64 or empty,
            lookup), neighbours uint32 or empty (swap.py:_address_window()), flushes FLUSH, first row
            in the trace, first row to replay)
        lookup : arrays of the reclaim model itself. A textbook model: int64, keys of a heap, or empty;
            two-list: int64, the pages of one scan (state.LEFT_AT); mglru: a tuple (page_tables.PLACES)
        slots : uint32, see slots.new_slots(); empty where readahead does not follow slots
        out : (events EVENT, samples SAMPLE, tlb uint32: pages whose translation is cached,
            direct-mapped, of which `tlb_entries` are used; empty where that is not modelled)
        """
        page_ids, is_write, time_ns, ahead, neighbours, flushes, first_row, start = batch
        beside = (flushes, ahead[1])
        events, samples, tlb = out
        has_tlb = tlb.size > 0
        timed = time_ns.size > 0
        m["soon"] = 0
        row = start - 1
        while True:
            row = np.int64(pass_hits(m, state, pages, page_ids, is_write, ahead, tlb, row + 1))
            if row >= page_ids.size:
                _note_time(m, samples, time_ns, first_row, first_row + page_ids.size)
                return page_ids.size
            page = np.int64(page_ids[row]) + FIRST_PAGE
            bits = state[page]
            write = is_write[row]
            if m["events"] + 2 > events.size:
                return row
            prefetch_ahead(m, pages, pool, neighbours, page_ids, row)
            access = first_row + row
            now = time_ns[row] if timed else access * m["touch_ns"]
            m["clock_ns"] = now + m["clock_lead_ns"]
            began_ns = m["clock_ns"]
            _note_time(m, samples, time_ns, first_row, access)
            flush_if_due(m, flushes)
            complete_writes(m, pages, writes)
            if m["tlb_renewed"] and m["tlb_renewals"] != m["flush_index"]:
                _renew_tlb(m, state, tlb)
            if m["worker_active"]:
                if m["woken_goes_first"] and not m["worker_running"]:
                    # The thread that woke it has left the kernel since.
                    m["worker_ns"] = min(m["worker_ns"], m["clock_ns"])
                run_worker(m, state, pages, pool, classes, writes, slots)
                if m["ev_written_back"]:
                    _emit(m, events, access, began_ns, BACKGROUND, 0, page, False)
                bits = state[page]  # it may have brought this very page into the swap cache
            size = np.int64(0)
            is_warm: Any = False
            if bits & MAPPED:
                # 6.1: first write after a read fault; mm/memory.c:do_wp_page() reuses.
                # PageAnonExclusive: the slot and the copy in zswap stay until the next eviction.
                service = np.int64(MINOR)
                m["minor_faults"] += 1
                m["clock_ns"] += m["minor_fault_ns"]
                state[page] = (bits & ~np.uint8(READ_ONLY)) | ACCESSED | PTE_DIRTY
            elif bits & RESIDENT:
                service = np.int64(SWAP_CACHE)
                is_warm = map_cached(m, state, pages, pool, classes, slots, beside, page, write)
            else:
                if not bits & SEEN:
                    service = np.int64(
                        map_new(m, state, pages, pool, classes, writes, slots, beside, page)
                    )
                else:
                    if has(pages, page, IN_ZSWAP):
                        size = stored_length(m, pages, page)
                    service = np.int64(
                        swap_in(
                            m,
                            state,
                            pages,
                            pool,
                            classes,
                            writes,
                            slots,
                            neighbours,
                            beside,
                            page,
                            write,
                        )
                    )
                if service < 0:
                    return _out_of_memory(m, access, row)
            on_hit(pages, page, ahead, row)
            if has_tlb:
                tlb[page & (m["tlb_entries"] - 1)] = page
            _note_peaks(m, samples, access, now)
            _emit(m, events, access, began_ns, service, size, page, is_warm)
            if m["own_clock"]:
                m["clock_lead_ns"] += m["clock_ns"] - began_ns
            elif m["pool_limit_hit"] == 0:
                go_back(m, writes, m["clock_ns"] - began_ns)

    return replay_accesses

"""The access loop: hits, faults, and what becomes of a page that reclaim picked.

A reclaim model hands three hooks to `replay_accesses` and orders pages; all counting happens here,
so a model cannot miscount. Source: mm/memory.c:do_swap_page(), mm/page_io.c:swap_writeout(),
mm/vmscan.c:shrink_folio_list() as of v6.12 and v6.18.
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
    wrapping_product,
    wrapping_sum,
)
from tracereplay.replay.allocators import claim_oldest_zspage, unclaim_zspage
from tracereplay.replay.charge import CHARGE_BATCH, charged_bytes, force_charge, uncharge
from tracereplay.replay.slots import alloc_slot, free_slot, swap_is_full
from tracereplay.replay.state import (
    ACCESSED,
    BACKGROUND,
    DEVICE,
    DEVICE_MET,
    EVICTED,
    FIRST_PAGE,
    IDEAL,
    IN_ZEROMAP,
    IN_ZSWAP,
    KEPT_IDLE,
    LINKED,
    MAPPED,
    MINOR,
    NEVER,
    NEVER_MAPPED,
    OFF_LIST,
    ON_DEVICE,
    PG_ACTIVE,
    PG_DIRTY,
    PG_READAHEAD,
    PG_RECLAIM,
    PG_REFERENCED,
    PG_WRITEBACK,
    POOL_MET,
    PTE_DIRTY,
    RAW,
    READ_ONLY,
    RESIDENT,
    SEEN,
    SLOT_MET,
    SWAP_CACHE,
    SWAPCACHE,
    ZERO,
    ZSWAP,
    ZSWAP_RAW,
    ZSWAP_REFERENCED,
    clear_flags,
    has,
    set_flags,
)
from tracereplay.replay.swap import (
    complete_writes,
    count_request,
    neighbour,
    submit_write,
    window_around,
)
from tracereplay.replay.zswap import (
    KEPT_BY_POLICY,
    LINKED_BY_POLICY,
    STORED,
    forget_entry,
    full_action,
    is_full,
    limited_pages,
    store,
    stored_length,
)
from tracereplay.replay.zswap_order import join_order, leave_order, oldest_entry, oldest_kept

FREED, ACTIVATE, WRITING, OFF_LRU, KEPT_LOCKED = range(5)
WORKER_FAILURES = 16  # MAX_RECLAIM_RETRIES
ZPOOL_TRIES = 8  # mm/zbud.c:zbud_zpool_shrink(), mm/z3fold.c:z3fold_zpool_shrink()
# Statistics a fault or a freed page updates, near enough for the flush threshold of 64 per CPU
# (mm/memcontrol.c:memcg_rstat_updated()): lists, mapped, swap cache, swap, events.
UPDATES_PER_FAULT = 7
UPDATES_PER_EVICTION = 6
# Page table entries in a cache line. Pages are numbered by first touch, as they lie in most programs.
BESIDE_PAGES = 8
# Faults after which a page that was read ahead has left the caches: as many pages, with what reclaim
# compresses meanwhile, are half of a second-level cache of 1 MiB.
WARM_FAULTS = 64
FAR_AHEAD = 40  # rows
STATE_AHEAD = 24  # before them
# One step of the worker looks for the next cgroup in the whole hierarchy and sums the pool.
WORKER_STEP_NS = 1_000
SHRINK_BATCH = 128
SHRINKER_SEEKS = 2  # DEFAULT_SEEKS
_PAGE = 4096


# ---- statistics reclaim decides with ---------------------------------------------------------------


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


# ---- out of memory ---------------------------------------------------------------------------------


@inner
def drop_backing(m: Any, pages: Any, pool: Any, classes: Any, slots: Any, page: Any) -> None:
    """Free the swap slot of a page and whatever holds its data; mm/swapfile.c:folio_free_swap()."""
    if has(pages, page, IN_ZSWAP) or has(pages, page, LINKED):
        forget_entry(m, pages, pool, classes, page)
    if has(pages, page, ON_DEVICE):
        m["device_pages"] -= 1
    if pages[page]["slot"]:
        free_slot(m, pages, slots, page)
    clear_flags(pages, page, ON_DEVICE | IN_ZEROMAP | SWAPCACHE)
    set_flags(pages, page, PG_DIRTY)


@inner
def give_up_late_slot(m: Any, pages: Any, slots: Any, page: Any) -> None:
    """Free the slot of a page that virtual swap holds in memory: only the device needs one."""
    if m["late_slots"] and pages[page]["slot"]:
        free_slot(m, pages, slots, page)


@inner
def _inverted(m: Any, pages: Any, pool: Any, page: Any) -> Any:
    """Tell whether an older page stays in memory because a policy kept it there."""
    if m["kept_pages"] == 0:
        return False
    return pages[oldest_kept(m, pages, pool[2])]["shadow"] < pages[page]["shadow"]


@inner
def write_to_device(m: Any, pages: Any, writes: Any, page: Any) -> Any:
    """Send a page of memory to the device; FREED where the write is synchronous, else WRITING."""
    if m["fifo_pages"] > 0:
        m["lru_inversions"] += 1  # what zswap holds was reclaimed earlier
    if not has(pages, page, ON_DEVICE):
        m["device_pages"] += 1
        m["device_pages_peak"] = max(m["device_pages_peak"], m["device_pages"])
    set_flags(pages, page, ON_DEVICE)
    m["pswpout"] += 1
    m["ev_written"] += 1
    m["clock_ns"] += m["submit_ns"]
    if m["synchronous"] or m["textbook"]:
        if not m["synchronous"]:
            count_request(m, pages, page)
        return FREED
    set_flags(pages, page, PG_WRITEBACK | PG_RECLAIM)
    submit_write(m, pages, writes, page)
    return WRITING


@inner
def keep_page(m: Any, pages: Any, pool: Any, page: Any) -> None:
    """Note that a policy keeps this page: unmapped, in the swap cache, and older than what follows."""
    if not has(pages, page, KEPT_IDLE):
        m["kept_pages"] += 1
    pages[page]["shadow"] = m["nonresident_age"]
    set_flags(pages, page, KEPT_IDLE | PG_DIRTY)
    join_order(m, pages, pool[2], page)


@inner
def forget_kept(m: Any, pages: Any, page: Any) -> None:
    """Note that a kept page was touched, or leaves after all."""
    if has(pages, page, KEPT_IDLE):
        leave_order(pages, page)
        clear_flags(pages, page, KEPT_IDLE)
        m["kept_pages"] -= 1


@inner
def forget_page(m: Any, state: Any, pages: Any, page: Any) -> None:
    """Free the memory of an evicted page; its shadow stays behind (mm/workingset.c)."""
    state[page] = SEEN
    clear_flags(pages, page, SWAPCACHE | NEVER_MAPPED | PG_ACTIVE | PG_REFERENCED | PG_READAHEAD)
    pages[page]["shadow"] = m["nonresident_age"]
    m["nonresident_age"] += 1
    m["resident_pages"] -= 1
    m["stat_updates"] += UPDATES_PER_EVICTION
    uncharge(m, 1)


@apart
def rewrite_contents(m: Any, pages: Any, classes: Any, page: Any) -> None:
    """Give a page that was written other contents, or not: by a hash of seed, page and rewrite.

    Every eviction of a page written since the last one draws; splitmix64's finalizer. At its first
    eviction a page holds what it was first filled with.
    """
    count_at = m["rewrite_at"] + m["rewrite_rows"] + page
    classes[count_at] += 1
    if classes[count_at] == 1:
        return
    of_page = wrapping_product(np.uint64(page), np.uint64(0x9E3779B97F4A7C15))
    of_count = wrapping_product(np.uint64(classes[count_at]), np.uint64(0xD1B54A32D192ED03))
    bits = wrapping_sum(wrapping_sum(np.uint64(m["rewrite_seed"]), of_page), of_count)
    bits = wrapping_product(bits ^ (bits >> np.uint64(30)), np.uint64(0xBF58476D1CE4E5B9))
    bits = wrapping_product(bits ^ (bits >> np.uint64(27)), np.uint64(0x94D049BB133111EB))
    bits ^= bits >> np.uint64(31)
    if np.int64(bits & np.uint64(0xFFFFFFFF)) < m["rewrite_threshold"]:
        row = np.int64((bits >> np.uint64(32)) * np.uint64(m["rewrite_rows"]) >> np.uint64(32))
        pages[page]["size"] = classes[m["rewrite_at"] + row]


# ---- writeback from zswap --------------------------------------------------------------------------


@inner
def wake_worker(m: Any) -> None:
    """Queue the writeback worker; kernel/workqueue.c:queue_work().

    Nothing where it is queued already. While it runs it is not: it runs again right after, because
    the thread that has a work in hand takes it from the queue once more. On one CPU nobody queues it
    while it runs.
    """
    m["decided"] |= POOL_MET
    if m["worker_active"]:
        m["worker_pending"] = m["worker_running"] and not m["one_cpu"]
    elif m["writeback"]:
        m["worker_active"] = 1
        m["worker_running"] = 0
        m["worker_pending"] = 0
        m["worker_failures"] = 0
        m["worker_ns"] = m["clock_ns"] + m["worker_delay_ns"]


# ---- faults ----------------------------------------------------------------------------------------


@copied
def _load(m: Any, pages: Any, pool: Any, classes: Any, page: Any) -> Any:
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
    m["clock_ns"] += m["device_read_ns"]
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
def _note_peaks(m: Any) -> None:
    footprint = m["resident_pages"] + m["pool_pages"]
    over = charged_bytes(m) - m["limit_bytes"]
    if (
        m["resident_pages"] > m["resident_pages_peak"]
        or m["pool_pages"] > m["pool_pages_peak"]
        or m["stored_pages"] > m["stored_pages_peak"]
        or footprint > m["footprint_pages_peak"]
        or over > m["overshoot_bytes_peak"]
    ):
        _raise_peaks(m, footprint, over)


@apart
def _raise_peaks(m: Any, footprint: Any, over: Any) -> None:
    m["resident_pages_peak"] = max(m["resident_pages_peak"], m["resident_pages"])
    m["pool_pages_peak"] = max(m["pool_pages_peak"], m["pool_pages"])
    m["stored_pages_peak"] = max(m["stored_pages_peak"], m["stored_pages"])
    m["footprint_pages_peak"] = max(m["footprint_pages_peak"], footprint)
    m["overshoot_bytes_peak"] = max(m["overshoot_bytes_peak"], over)


@inner
def note_time(m: Any, samples: Any, access: Any) -> None:
    """Account for the accesses since the last change: sums for the means, points of the footprint.

    Nothing changes between two faults, so a point in between is taken when the next fault comes.
    """
    since = access - m["last_access"]
    m["resident_sum"] += since * m["resident_pages"]
    m["pool_sum"] += since * m["pool_pages"]
    m["stored_sum"] += since * m["stored_pages"]
    m["last_access"] = access
    while m["next_sample"] < access and m["samples"] < samples.size:
        point = m["samples"]
        samples[point]["access"] = m["next_sample"]
        samples[point]["clock_ns"] = m["clock_ns"]
        samples[point]["resident_pages"] = m["resident_pages"]
        samples[point]["mapped_pages"] = m["mapped_pages"]
        samples[point]["active_pages"] = m["active_pages"]
        samples[point]["inactive_pages"] = m["inactive_pages"]
        samples[point]["pool_pages"] = m["pool_pages"]
        samples[point]["stored_pages"] = m["stored_pages"]
        samples[point]["device_pages"] = m["device_pages"]
        samples[point]["swap_slots"] = m["swap_slots"]
        m["samples"] = point + 1
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


# ---- factories: what needs to know how the reclaim model adds a page -------------------------------
# Functions made once at import and called by name keep numba's disk cache usable; functions handed
# over as arguments do not (their addresses would stand in the machine code).


def build_eviction(refault: Any, add: Any) -> tuple[Any, Any, Any]:
    """Return (evict, run_worker, shrink_slab) for a reclaim model.

    refault(m, pages, page) decides where a page that comes back belongs; add(m, pages, page) puts
    it there.
    """

    @apart
    def write_back(
        m: Any,
        state: Any,
        pages: Any,
        pool: Any,
        classes: Any,
        writes: Any,
        slots: Any,
        page: Any,
    ) -> Any:
        """Move one entry to the device; mm/zswap.c:zswap_writeback_entry(). False where it cannot.

        The entry is decompressed into a new page of the swap cache, which is charged to the cgroup,
        counts as a refault, joins the lists, and leaves once the device has it. Unlike the kernel, the
        charge never reclaims by itself: the next fault does.
        """
        linked = has(pages, page, LINKED)
        if state[page] & RESIDENT and not linked:
            m["met_in_swap_cache"] += 1
            m["reject_reclaim_fail"] += not m["worker_whole_page"]
            return False  # -EEXIST: in the swap cache already
        if page == m["incoming"]:
            m["reject_reclaim_fail"] += not m["worker_whole_page"]
            return False  # a fault holds its place in the swap cache (swapcache_prepare())
        m["decided"] |= SLOT_MET
        if m["late_slots"] and not pages[page]["slot"] and not alloc_slot(m, pages, slots, page):
            return False
        if _inverted(m, pages, pool, page):
            m["lru_inversions"] += 1
        if not has(pages, page, ON_DEVICE):
            m["device_pages"] += 1
            m["device_pages_peak"] = max(m["device_pages_peak"], m["device_pages"])
        m["zswpwb"] += 1
        m["pswpout"] += 1
        m["ev_written_back"] += 1
        m["clock_ns"] += m["submit_ns"]
        if linked:
            # mixed-lru: written straight from the page, without a copy.
            forget_entry(m, pages, pool, classes, page)
            clear_flags(pages, page, PG_DIRTY)
            set_flags(pages, page, ON_DEVICE)
            count_request(m, pages, page)
            forget_page(m, state, pages, page)
            return True
        m["ev_written_back_bytes"] += stored_length(m, pages, page)
        m["clock_ns"] += m["load_ns"]
        set_flags(pages, page, ON_DEVICE)
        if m["textbook"] or m["synchronous"]:
            if not m["synchronous"]:
                count_request(m, pages, page)
            forget_entry(m, pages, pool, classes, page)
            return True
        force_charge(m)
        m["resident_pages"] += 1
        state[page] = SEEN | RESIDENT
        set_flags(pages, page, SWAPCACHE | PG_WRITEBACK | PG_RECLAIM)
        clear_flags(pages, page, PG_DIRTY)
        complete_writes(m, pages, writes)  # before a full batch puts their pages on the lists
        refault(m, pages, page)
        add(m, pages, page)
        forget_entry(m, pages, pool, classes, page)  # once its data stands in the new page
        submit_write(m, pages, writes, page)
        return True

    @inner
    def walk_one(
        m: Any,
        state: Any,
        pages: Any,
        pool: Any,
        classes: Any,
        writes: Any,
        slots: Any,
    ) -> Any:
        """Walk one entry from the old end; True if it was written back.

        mm/zswap.c:shrink_memcg_cb(): a referenced entry loses the bit and goes round once more.
        """
        if m["fifo_pages"] == 0:
            return False
        page = np.int64(oldest_entry(m, pages, pool[2]))
        join_order(m, pages, pool[2], page)
        if m["second_chance"] and has(pages, page, ZSWAP_REFERENCED):
            clear_flags(pages, page, ZSWAP_REFERENCED)
            return False
        return write_back(m, state, pages, pool, classes, writes, slots, page)

    @inner
    def shrink_pool(
        m: Any,
        state: Any,
        pages: Any,
        pool: Any,
        classes: Any,
        writes: Any,
        slots: Any,
    ) -> Any:
        """Free one page of the allocator by writing back what it holds; False where none went.

        mm/zpool.c:zpool_shrink(pool, 1), the whole of a worker's run in 6.1: eight pages are tried,
        the one with the oldest last allocation first. zsmalloc cannot.
        """
        if m["no_pool_writeback"]:
            return False
        for _ in range(ZPOOL_TRIES):
            if m["allocator"] == IDEAL:  # has no pages: an entry stands for one
                if walk_one(m, state, pages, pool, classes, writes, slots):
                    return True
                continue
            zspage = np.int64(claim_oldest_zspage(m, pool, classes))
            if zspage == 0:
                return False
            middle = np.int64(pool[1][zspage]["middle_page"])
            first = np.int64(pool[1][zspage]["first_page"])
            last = np.int64(pool[1][zspage]["last_page"])
            going = True
            if middle:
                going = write_back(m, state, pages, pool, classes, writes, slots, middle)
            if first and going:
                going = write_back(m, state, pages, pool, classes, writes, slots, first)
            if last and going:
                write_back(m, state, pages, pool, classes, writes, slots, last)
            if unclaim_zspage(m, pool, classes):
                return True
        return False

    @apart
    def run_worker(
        m: Any,
        state: Any,
        pages: Any,
        pool: Any,
        classes: Any,
        writes: Any,
        slots: Any,
    ) -> None:
        """Let the writeback worker do what it had time for by now; mm/zswap.c:shrink_worker().

        It walks one entry of the cgroup at a time (nr_to_walk 1), stops below the accept threshold,
        or after 16 failures, which successes do not reset. It runs on a CPU of its own beside the
        faulting thread, so its pace is its own cost: a cleared bit is a list operation, a written
        entry a decompression and a submission. With one CPU the two take turns (`worker_pace`). In
        6.1 a run frees one page of the allocator.
        """
        if m["worker_whole_page"] and m["worker_ns"] <= m["clock_ns"]:
            m["worker_active"] = 0
            here = m["clock_ns"]
            m["in_background"] = 1
            if not shrink_pool(m, state, pages, pool, classes, writes, slots):
                m["reject_reclaim_fail"] += 1
            m["in_background"] = 0
            m["clock_ns"] = here
        while m["worker_active"] and m["worker_ns"] <= m["clock_ns"]:
            if m["fifo_pages"] == 0:
                m["worker_active"] = 0
                break
            m["worker_running"] = 1
            here = m["clock_ns"]
            m["clock_ns"] = m["worker_ns"]
            m["in_background"] = 1
            written = walk_one(m, state, pages, pool, classes, writes, slots)
            m["in_background"] = 0
            m["clock_ns"] += WORKER_STEP_NS
            if written:
                # Its page is charged to a cgroup at its limit: it reclaims one for it.
                m["clock_ns"] += m["scan_ns"] + m["store_ns"]
            else:
                m["worker_failures"] += 1
            m["worker_ns"] += m["worker_pace"] * (m["clock_ns"] - m["worker_ns"]) // 4
            m["clock_ns"] = here
            if limited_pages(m) <= m["accept_pages"] or m["worker_failures"] >= WORKER_FAILURES:
                m["worker_active"] = m["worker_pending"]
                m["worker_pending"] = 0
                m["worker_failures"] = 0

    @inner
    def evict(
        m: Any,
        state: Any,
        pages: Any,
        pool: Any,
        classes: Any,
        writes: Any,
        slots: Any,
        page: Any,
    ) -> Any:
        """Unmap a page and put its data somewhere; say what becomes of the page.

        Returns FREED (the caller forgets it), ACTIVATE (it stays, at the active end), WRITING (it
        stays until the device has it), OFF_LRU (it stays, in the zswap order), or KEPT_LOCKED (it
        stays in the swap cache: pageout() and __remove_mapping() leave what somebody else holds).
        mm/vmscan.c:shrink_folio_list() from the swap slot on, mm/page_io.c:swap_writeout().
        """
        if not has(pages, page, SWAPCACHE):
            # Virtual swap names a page without a place on the device.
            if not (pages[page]["slot"] or m["late_slots"] or alloc_slot(m, pages, slots, page)):
                return ACTIVATE
            set_flags(pages, page, SWAPCACHE | PG_DIRTY)
        if state[page] & PTE_DIRTY:
            set_flags(pages, page, PG_DIRTY)
            clear_flags(pages, page, PG_READAHEAD)  # mm/page-writeback.c:folio_mark_dirty()
            if m["rewrite_threshold"] > 0:
                if has(pages, page, IN_ZSWAP) or has(pages, page, LINKED):
                    forget_entry(m, pages, pool, classes, page)  # its length is the old one's
                rewrite_contents(m, pages, classes, page)
        if state[page] & MAPPED:
            m["mapped_pages"] -= 1
        state[page] = SEEN | RESIDENT
        forget_kept(m, pages, page)
        if m["is_held"]:
            return KEPT_LOCKED
        if not has(pages, page, PG_DIRTY):
            m["ev_dropped"] += 1
            return FREED
        if has(pages, page, NEVER_MAPPED) and m["mapped_only"]:
            return ACTIVATE
        clear_flags(pages, page, PG_DIRTY)
        size = np.int64(pages[page]["size"])
        if size == 0 and m["zeromap"]:
            if has(pages, page, IN_ZSWAP):
                forget_entry(m, pages, pool, classes, page)
            set_flags(pages, page, IN_ZEROMAP)
            m["swpout_zero"] += 1
            m["pageouts"] += 1
            m["ev_dropped"] += 1
            m["clock_ns"] += m["zero_ns"]
            give_up_late_slot(m, pages, slots, page)
            return FREED
        clear_flags(pages, page, IN_ZEROMAP)
        action = np.int64(-1)
        m["decided"] |= EVICTED
        if m["zswap_enabled"]:
            if m["worker_active"]:
                run_worker(m, state, pages, pool, classes, writes, slots)
            if m["strict_limit"] and has(pages, page, IN_ZSWAP):
                forget_entry(m, pages, pool, classes, page)  # __frontswap_store(): a dup goes first
            limited = m["zswap_max_pages"] < NEVER
            if limited and m["zswap_max_pages"] > 0:
                flush_statistics(m)  # obj_cgroup_may_zswap() wants exact numbers
            if limited and m["pool_charged_bytes"] // _PAGE >= m["zswap_max_pages"]:
                m["decided"] |= POOL_MET
                action = full_action(m)
                # shrink_memcg() once; the store goes on if it wrote something back.
                can_walk = m["zswap_max_pages"] > 0 and m["second_chance"] and m["writeback"]
                if can_walk and walk_one(m, state, pages, pool, classes, writes, slots):
                    action = np.int64(-1)
                elif m["zswap_full"] and not m["strict_limit"]:
                    wake_worker(m)  # every refusal does while the pool is full
            if action < 0:
                full, wake = is_full(m)
                if full:
                    action = full_action(m)
                if wake:
                    wake_worker(m)
            if action < 0:
                action = store(m, pages, pool, classes, page)
            if action == STORED:
                m["pageouts"] += 1
                if has(pages, page, ON_DEVICE):
                    clear_flags(pages, page, ON_DEVICE)
                    m["device_pages"] -= 1
                give_up_late_slot(m, pages, slots, page)
                return FREED
            if has(pages, page, IN_ZSWAP):
                forget_entry(m, pages, pool, classes, page)  # never let an older copy come back
            if action == LINKED_BY_POLICY:
                pages[page]["shadow"] = m["nonresident_age"]
                set_flags(pages, page, LINKED | PG_DIRTY)
                join_order(m, pages, pool[2], page)
                m["fifo_pages"] += 1
                m["linked_pages"] += 1
                return OFF_LRU
            if action == KEPT_BY_POLICY:
                keep_page(m, pages, pool, page)
                return ACTIVATE
        m["decided"] |= DEVICE_MET | SLOT_MET
        if not m["has_device"] or not (pages[page]["slot"] or alloc_slot(m, pages, slots, page)):
            keep_page(m, pages, pool, page)
            return ACTIVATE
        m["pageouts"] += 1
        return write_to_device(m, pages, writes, page)

    @apart
    def shrink_slab(
        m: Any,
        state: Any,
        pages: Any,
        pool: Any,
        classes: Any,
        writes: Any,
        slots: Any,
        priority: Any,
    ) -> None:
        """Let the dynamic shrinker write entries back under memory pressure.

        mm/zswap.c:zswap_shrinker_count(), zswap_shrinker_scan(), driven by
        mm/shrinker.c:do_shrink_slab(): batches of 128, two seeks, unfinished work deferred. Under
        cgroup v1 the statistics it scales by stay 0, so it only flushes them.
        """
        if m["stat_updates"] > CHARGE_BATCH * m["cpus"]:
            flush_statistics(m)
        if not m["charge_pool"] or m["stat_stored"] == 0 or m["fifo_pages"] == 0:
            return
        freeable = m["fifo_pages"]
        credit = m["disk_swapins"]
        left = max(credit - freeable, 0)
        m["disk_swapins"] = left
        freeable -= credit - left
        backing = m["stat_backing_bytes"] // _PAGE
        stored = m["stat_stored"]
        freeable = freeable // stored * backing + freeable % stored * backing // stored
        if freeable == 0:
            return
        deferred = m["shrinker_deferred"]
        delta = (freeable >> priority) * 4 // SHRINKER_SEEKS
        total = min((deferred >> priority) + delta, 2 * freeable)
        scanned = np.int64(0)
        while total >= SHRINK_BATCH or total >= freeable:
            step = min(SHRINK_BATCH, total)
            freed = np.int64(0)
            stop = False
            for _ in range(step):
                if m["fifo_pages"] == 0:
                    break
                before = m["met_in_swap_cache"]
                alone = m["fifo_pages"] == 1
                if walk_one(m, state, pages, pool, classes, writes, slots):
                    freed += 1
                elif m["met_in_swap_cache"] != before:
                    stop = True  # a page in the swap cache: this is warm
                    break
                elif alone:
                    break  # list_lru walks to the list's end: rotating its only entry gets there
            if stop or freed == 0:
                break
            total -= step
            scanned += step
            if step == 0:
                break
        m["shrinker_deferred"] = min(max(deferred + delta - scanned, 0), 2 * freeable)

    return evict, run_worker, shrink_slab


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
    """Return the access loop of a reclaim model; see `replay_accesses` inside."""

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
        tlb_mask = np.int64(tlb.size - 1)
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
        times: Any,
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
        has_room = make_room(m, state, pages, pool, classes, writes, slots, times, page)
        m["incoming"] = 0
        if not has_room:
            return np.int64(-1)
        m["resident_pages"] += 1
        service = np.int64(_load(m, pages, pool, classes, page))
        if service == DEVICE and m["ev_requests"] > requests:
            m["clock_ns"] += m["behind_ns"]  # the device has begun with those writes
            complete_writes(m, pages, writes)
        state[page] = SEEN | RESIDENT
        refault(m, pages, page)
        if m["exclusive_loads"] and ZSWAP <= service <= ZSWAP_RAW:
            set_flags(pages, page, SWAPCACHE | NEVER_MAPPED | PG_DIRTY)
        else:
            set_flags(pages, page, SWAPCACHE | NEVER_MAPPED)
        pages[page]["shadow"] = _faults_so_far(m)
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
        times: Any,
        page: Any,
    ) -> Any:
        return np.int64(bring_in(m, state, pages, pool, classes, writes, slots, times, page))

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
        times: Any,
        page: Any,
        begin: Any,
        count: Any,
    ) -> Any:
        """Bring a page in with its neighbours; return its service, -1 where there is no room.

        mm/swap_state.c:swap_cluster_readahead(), swap_vma_readahead(): neighbours in ascending
        order, the page itself at its place among them. Unlike the kernel, which skips it, a page
        that was never touched ends the window: who is beside it is known only from then on.
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
                    m, state, pages, pool, classes, writes, slots, times, page
                )
                if service < 0:
                    return service
            elif not state[other] & RESIDENT and has(
                pages, other, IN_ZSWAP | ON_DEVICE | IN_ZEROMAP
            ):
                from_pool = has(pages, other, IN_ZSWAP)
                if bring_neighbour(m, state, pages, pool, classes, writes, slots, times, other) < 0:
                    return np.int64(-1)  # this charge may kill as well (GFP_HIGHUSER_MOVABLE)
                set_flags(pages, other, PG_READAHEAD)
                m["swap_ra"] += 1
                if from_pool:
                    m["ev_read_ahead_loads"] += 1
                else:
                    m["ev_read_ahead"] += 1
        drain(m, pages, times[1])  # lru_add_drain()
        if not state[page] & RESIDENT:  # reclaimed again for one of the others
            service = bring_neighbour(m, state, pages, pool, classes, writes, slots, times, page)
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

        batch : (page_ids uint32, is_write bool, time_ns int64 or empty, (next uses, heap keys)
            int64 or empty, neighbours uint32 or empty (swap.address_window()), flushes FLUSH, first
            row in the trace, first row to replay)
        slots : uint32, see slots.new_slots(); empty where readahead does not follow slots
        out : (events EVENT, samples SAMPLE, tlb uint32: pages whose translation is cached,
            direct-mapped, a power of two; empty where that is not modelled)
        """
        page_ids, is_write, time_ns, ahead, neighbours, flushes, first_row, start = batch
        times = (flushes, ahead[1])
        events, samples, tlb = out
        has_tlb = tlb.size > 0
        tlb_mask = np.int64(tlb.size - 1)
        timed = time_ns.size > 0
        m["soon"] = 0
        row = start - 1
        while True:
            row = np.int64(pass_hits(m, state, pages, page_ids, is_write, ahead, tlb, row + 1))
            if row >= page_ids.size:
                return page_ids.size
            page = np.int64(page_ids[row]) + FIRST_PAGE
            bits = state[page]
            write = is_write[row]
            if m["events"] + 2 > events.size:
                return row
            prefetch_ahead(m, pages, pool, neighbours, page_ids, row)
            access = first_row + row
            now = time_ns[row] if timed else access * m["touch_ns"]
            m["stat_updates"] += UPDATES_PER_FAULT
            m["clock_ns"] = now + m["clock_lead_ns"]
            began_ns = m["clock_ns"]
            note_time(m, samples, access)
            flush_if_due(m, flushes)
            complete_writes(m, pages, writes)
            if m["worker_active"]:
                run_worker(m, state, pages, pool, classes, writes, slots)
                if m["ev_written_back"]:
                    _emit(m, events, access, began_ns, BACKGROUND, 0, page, False)
                bits = state[page]  # it may have brought this very page into the swap cache
            size = np.int64(0)
            is_warm: Any = False
            if (
                bits & MAPPED
            ):  # 6.1: first write after a read fault; mm/memory.c:do_wp_page() reuses
                service = np.int64(MINOR)
                m["clock_ns"] += m["minor_fault_ns"]
                m["minor_faults"] += 1
                # PageAnonExclusive: the slot and the copy in zswap stay until the next eviction.
                state[page] = (bits & ~np.uint8(READ_ONLY)) | ACCESSED | PTE_DIRTY
                on_hit(pages, page, ahead, row)
            elif bits & RESIDENT:  # unmapped but still in the swap cache
                service = np.int64(SWAP_CACHE)
                m["clock_ns"] += m["minor_fault_ns"]
                m["minor_faults"] += 1
                if has(pages, page, NEVER_MAPPED):
                    since = np.uint32(_faults_so_far(m) - np.int64(pages[page]["shadow"]))
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
                if write and has(pages, page, OFF_LIST):
                    drain(m, pages, times[1])
                _map(m, state, pages, pool, classes, slots, page, write)
                on_hit(pages, page, ahead, row)
            elif not bits & SEEN:
                if not make_room(m, state, pages, pool, classes, writes, slots, times, page):
                    return _out_of_memory(m, access, row)
                service = np.int64(MINOR)
                m["clock_ns"] += m["minor_fault_ns"]
                m["minor_faults"] += 1
                m["unique_pages"] += 1
                m["resident_pages"] += 1
                m["mapped_pages"] += 1
                state[page] = SEEN | RESIDENT | MAPPED | ACCESSED | PTE_DIRTY
                add(m, pages, page)
                on_hit(pages, page, ahead, row)
            else:
                m["pgmajfault"] += 1
                m["clock_ns"] += m["major_fault_ns"]
                if has(pages, page, IN_ZSWAP):
                    size = stored_length(m, pages, page)
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
                            times,
                            page,
                            begin,
                            count,
                        )
                    )
                else:
                    service = np.int64(
                        bring_in(m, state, pages, pool, classes, writes, slots, times, page)
                    )
                if service < 0:
                    return _out_of_memory(m, access, row)
                if write and has(pages, page, OFF_LIST) and not m["synchronous"]:
                    # do_swap_page(): to see whether anybody else holds the page
                    drain(m, pages, times[1])
                _map(m, state, pages, pool, classes, slots, page, write)
                on_hit(pages, page, ahead, row)
            if has_tlb:
                tlb[page & tlb_mask] = page
            _note_peaks(m)
            _emit(m, events, access, began_ns, service, size, page, is_warm)
            if m["own_clock"]:
                m["clock_lead_ns"] += m["clock_ns"] - began_ns

    return replay_accesses

"""What becomes of a page that reclaim picked, and of entries that zswap writes back.

Source: mm/page_io.c:swap_writeout(), mm/vmscan.c:shrink_folio_list(), mm/zswap.c:shrink_worker(),
zswap_shrinker_scan() as of v6.12 and v6.18.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracereplay._jit import apart, inner, wrapping_product, wrapping_sum
from tracereplay.replay.allocators import claim_oldest_zspage, unclaim_zspage
from tracereplay.replay.charge import CHARGE_BATCH, force_charge, uncharge
from tracereplay.replay.slots import alloc_slot, free_slot, swap_is_full
from tracereplay.replay.state import (
    DEVICE_MET,
    EVICTED,
    FIRST_PAGE,
    IDEAL,
    IN_ZEROMAP,
    IN_ZSWAP,
    KEPT_IDLE,
    LINKED,
    MAPPED,
    NEVER,
    NEVER_MAPPED,
    ON_DEVICE,
    PG_ACTIVE,
    PG_DIRTY,
    PG_READAHEAD,
    PG_RECLAIM,
    PG_REFERENCED,
    PG_WRITEBACK,
    POOL_MET,
    PTE_DIRTY,
    RESIDENT,
    SEEN,
    SLOT_MET,
    SLOTS_RETURNED,
    SWAPCACHE,
    ZSWAP_REFERENCED,
    clear_flags,
    has,
    set_flags,
)
from tracereplay.replay.statistics import (
    UPDATES_PER_EVICTION,
    UPDATES_PER_WRITEBACK,
    flush_statistics,
)
from tracereplay.replay.swap import complete_writes, count_request, submit_write
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
from tracereplay.units import PAGE_BYTES

FREED, KEEP_ACTIVE, WRITING, OFF_LRU, KEPT_LOCKED = range(5)
WORKER_FAILURES = 16  # MAX_RECLAIM_RETRIES
ZPOOL_TRIES = 8  # mm/zbud.c:zbud_zpool_shrink(), mm/z3fold.c:z3fold_zpool_shrink()
# One step of the worker looks for the next cgroup in the whole hierarchy and sums the pool.
WORKER_STEP_NS = 1_000
SHRINK_BATCH = 128
SHRINKER_SEEKS = 2  # DEFAULT_SEEKS


@inner
def _return_slot(m: Any, pages: Any, pool: Any, classes: Any, page: Any) -> None:
    """Let a freed slot wait for 63 others, and its entry with it; mm/swap_slots.c:free_swap_slot() (6.1)."""
    if m["returned"] == SLOTS_RETURNED:
        for at in range(SLOTS_RETURNED):
            other = classes[m["returned_at"] + at]
            if other and has(pages, other, IN_ZSWAP):
                forget_entry(m, pages, pool, classes, other)
        m["returned"] = 0
    classes[m["returned_at"] + m["returned"]] = page
    m["returned"] += 1


@inner
def _forget_returned(m: Any, pages: Any, pool: Any, classes: Any, page: Any) -> None:
    """Drop the entry of a page's former slot before it is given another."""
    for at in range(m["returned"]):
        if classes[m["returned_at"] + at] == page:
            classes[m["returned_at"] + at] = 0
    if has(pages, page, IN_ZSWAP):
        forget_entry(m, pages, pool, classes, page)


@inner
def drop_backing(m: Any, pages: Any, pool: Any, classes: Any, slots: Any, page: Any) -> None:
    """Free the swap slot of a page and whatever holds its data; mm/swapfile.c:folio_free_swap()."""
    if m["slot_cache"] and pages[page]["slot"] and not has(pages, page, LINKED):
        _return_slot(m, pages, pool, classes, page)
    elif has(pages, page, IN_ZSWAP) or has(pages, page, LINKED):
        forget_entry(m, pages, pool, classes, page)
    if has(pages, page, ON_DEVICE):
        m["device_pages"] -= 1
    if pages[page]["slot"]:
        free_slot(m, pages, slots, page)
    clear_flags(pages, page, ON_DEVICE | IN_ZEROMAP | SWAPCACHE)
    set_flags(pages, page, PG_DIRTY)


@apart
def _reclaim_slots(m: Any, state: Any, pages: Any, pool: Any, classes: Any, slots: Any) -> None:
    """Take back the slots that only the swap cache holds: their pages are mapped again.

    mm/swapfile.c:swap_reclaim_full_clusters(). The kernel begins cluster by cluster once swap is more
    than half full and no cluster has a free slot left; here all go when the last slot is given.
    """
    m["slots_kept"] = 0
    for page in range(FIRST_PAGE, state.size):
        if has(pages, page, SWAPCACHE) and state[page] & MAPPED and pages[page]["slot"]:
            if has(pages, page, PG_WRITEBACK):
                m["slots_kept"] += 1
            else:
                drop_backing(m, pages, pool, classes, slots, page)


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
def _send(m: Any, pages: Any, page: Any) -> None:
    """Note that the device gets a page: the write is submitted, and from now on the device holds it."""
    if not has(pages, page, ON_DEVICE):
        m["device_pages"] += 1
        m["device_pages_peak"] = max(m["device_pages_peak"], m["device_pages"])
    set_flags(pages, page, ON_DEVICE)
    m["pswpout"] += 1
    m["clock_ns"] += m["submit_ns"]


@inner
def write_to_device(m: Any, pages: Any, writes: Any, page: Any) -> Any:
    """Send a page of memory to the device; FREED where the write is synchronous, else WRITING."""
    if m["fifo_pages"] > 0:
        m["lru_inversions"] += 1  # what zswap holds was reclaimed earlier
    _send(m, pages, page)
    m["ev_written"] += 1
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
        m["walk_left"] = 0
        m["worker_ns"] = m["clock_ns"] + m["worker_delay_ns"]


@inner
def activate_page(
    m: Any, state: Any, pages: Any, pool: Any, classes: Any, slots: Any, page: Any
) -> None:
    """Let a page stay, at the active end; mm/vmscan.c:shrink_folio_list(), activate_locked."""
    # folio_free_swap() refuses while a page table names the slot: an unmapped page keeps it.
    if (
        has(pages, page, SWAPCACHE)
        and state[page] & MAPPED
        and not has(pages, page, PG_WRITEBACK)
        and swap_is_full(m)
    ):
        drop_backing(m, pages, pool, classes, slots, page)
    set_flags(pages, page, PG_ACTIVE)
    m["pgactivate"] += 1


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
        _send(m, pages, page)
        m["zswpwb"] += 1
        m["ev_written_back"] += 1
        if linked:
            # mixed-lru: written straight from the page, without a copy.
            forget_entry(m, pages, pool, classes, page)
            clear_flags(pages, page, PG_DIRTY)
            count_request(m, pages, page)
            forget_page(m, state, pages, page)
            return True
        m["ev_written_back_bytes"] += stored_length(m, pages, page)
        m["clock_ns"] += m["load_ns"]
        if not m["in_background"]:  # the worker is given the reclaim of a page instead
            m["clock_ns"] += m["writeback_ns"]
        if m["textbook"] or m["synchronous"]:
            if not m["synchronous"]:
                count_request(m, pages, page)
            forget_entry(m, pages, pool, classes, page)
            return True
        force_charge(m)
        m["stat_updates"] += UPDATES_PER_WRITEBACK
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
    def shrink_memcg(
        m: Any,
        state: Any,
        pages: Any,
        pool: Any,
        classes: Any,
        writes: Any,
        slots: Any,
    ) -> Any:
        """Walk a batch of entries; True if any was written back; mm/zswap.c:shrink_memcg()."""
        written: Any = False
        for _ in range(m["walk_batch"]):
            alone = m["fifo_pages"] == 1
            if walk_one(m, state, pages, pool, classes, writes, slots):
                written = True
            elif alone:
                break  # to rotate its only entry gets to the list's end
        return written

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

        It walks a batch of entries of the cgroup at a time (one; 7.3: 32), stops below the accept
        threshold, or after 16 batches of which none was written, which successes do not reset. It runs on a CPU of its own beside the
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
            begins = m["walk_left"] == 0
            if begins:
                m["walk_left"] = m["walk_batch"]
                m["walk_written"] = 0
            m["walk_left"] -= 1
            alone = m["fifo_pages"] == 1
            if walk_one(m, state, pages, pool, classes, writes, slots):
                m["walk_written"] += 1
                # Its page is charged to a cgroup at its limit: it reclaims one for it.
                m["clock_ns"] += m["scan_ns"] + m["store_ns"]
            elif alone:
                m["walk_left"] = 0  # to rotate its only entry gets to the list's end
            m["in_background"] = 0
            m["clock_ns"] += WORKER_STEP_NS * begins
            m["worker_ns"] += m["worker_pace"] * (m["clock_ns"] - m["worker_ns"]) // 4
            m["clock_ns"] = here
            if m["walk_left"] > 0:
                continue
            m["worker_failures"] += m["walk_written"] == 0
            if limited_pages(m) <= m["accept_pages"] or m["worker_failures"] >= WORKER_FAILURES:
                m["worker_active"] = m["worker_pending"]
                m["worker_pending"] = 0
                m["worker_failures"] = 0

    @inner
    def offer(
        m: Any,
        state: Any,
        pages: Any,
        pool: Any,
        classes: Any,
        writes: Any,
        slots: Any,
        page: Any,
    ) -> Any:
        """Offer a page to zswap within its limits; return what store() does; mm/zswap.c:zswap_store()."""
        if m["worker_active"]:
            run_worker(m, state, pages, pool, classes, writes, slots)
        if m["strict_limit"] and has(pages, page, IN_ZSWAP):
            forget_entry(m, pages, pool, classes, page)  # __frontswap_store(): a dup goes first
        limited = m["zswap_max_pages"] < NEVER
        if limited and m["zswap_max_pages"] > 0:
            flush_statistics(m)  # obj_cgroup_may_zswap() wants exact numbers
        if limited and m["pool_charged_bytes"] // PAGE_BYTES >= m["zswap_max_pages"]:
            m["decided"] |= POOL_MET
            # shrink_memcg() once; the store goes on if it wrote something back.
            can_walk = m["zswap_max_pages"] > 0 and m["second_chance"] and m["writeback"]
            if not (can_walk and shrink_memcg(m, state, pages, pool, classes, writes, slots)):
                if m["zswap_full"] and not m["strict_limit"]:
                    wake_worker(m)  # every refusal does while the pool is full
                return full_action(m)
        full, wake = is_full(m)
        if wake:
            wake_worker(m)
        if full:
            return full_action(m)
        return store(m, pages, pool, classes, page)

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

        Returns FREED (the caller forgets it), KEEP_ACTIVE (it stays, at the active end), WRITING (it
        stays until the device has it), OFF_LRU (it stays, in the zswap order), or KEPT_LOCKED (it
        stays in the swap cache: pageout() and __remove_mapping() leave what somebody else holds).
        mm/vmscan.c:shrink_folio_list() from the swap slot on, mm/page_io.c:swap_writeout().
        """
        if not has(pages, page, SWAPCACHE):
            if m["slot_cache"]:
                _forget_returned(m, pages, pool, classes, page)
            # Virtual swap names a page without a place on the device.
            if not (pages[page]["slot"] or m["late_slots"] or alloc_slot(m, pages, slots, page)):
                return KEEP_ACTIVE
            set_flags(pages, page, SWAPCACHE | PG_DIRTY)
            is_last = m["swap_slots"] == m["swap_slots_total"] and not m["late_slots"]
            if is_last and m["slots_kept"] > 0:
                m["decided"] |= SLOT_MET
                mapped = state[page] & MAPPED
                state[page] = state[page] & ~MAPPED  # try_to_unmap() is next: its slot is in use
                _reclaim_slots(m, state, pages, pool, classes, slots)
                state[page] = state[page] | mapped
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
            return KEEP_ACTIVE
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
        m["decided"] |= EVICTED
        if m["zswap_enabled"]:
            action = offer(m, state, pages, pool, classes, writes, slots, page)
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
                return KEEP_ACTIVE
        m["decided"] |= DEVICE_MET | SLOT_MET
        if not m["has_device"] or not (pages[page]["slot"] or alloc_slot(m, pages, slots, page)):
            keep_page(m, pages, pool, page)
            return KEEP_ACTIVE
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
        m["decided"] |= POOL_MET
        if not m["writeback"]:
            return
        if m["shrinker_flushes"] and m["stat_updates"] > CHARGE_BATCH * m["cpus"]:
            flush_statistics(m)
        if not m["charge_pool"] or m["stat_stored"] == 0 or m["fifo_pages"] == 0:
            return
        freeable = m["fifo_pages"]
        credit = m["disk_swapins"]
        left = max(credit - freeable, 0)
        m["disk_swapins"] = left
        freeable -= credit - left
        backing = m["stat_backing_bytes"] // PAGE_BYTES
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

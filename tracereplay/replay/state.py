"""Arrays the replay keeps between batches: page records, machine, lists, and the rare events.

A page is known by its index: dense page id + FIRST_PAGE, because the first records are list heads.
Everything a scenario counts or remembers stands in one MACHINE record, so that a kernel takes few
arguments and a batch border loses nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracereplay._jit import inner

# ---- list heads: the first records of the page array ----------------------------------------------

# (np.int64: numba compiles a helper anew for every plain integer it is given.)
INACTIVE = np.int64(0)
ACTIVE = np.int64(1)
PENDING = np.int64(8)  # the per-CPU batch: on no LRU list yet
ISOLATED = np.int64(9)  # taken off the lists by reclaim (mglru)
RETURNED = np.int64(10)  # what stays of the isolated pages (mglru)
GENERATIONS = np.int64(4)  # four heads, by generation number modulo 4 (mglru)
FIRST_PAGE = 16
# `later` of the last records: the pages that joined a list last, a ring for each of the two lists.
JOINED_PAGES = 32

# ---- one byte per page for the hit path: a hit touches nothing else --------------------------------

MAPPED = np.int64(1)  # a page table entry points to it: the next touch costs nothing
YOUNG = np.int64(2)  # accessed bit of the page table entry
PTE_DIRTY = np.int64(4)
READ_ONLY = np.int64(8)  # mapped without write permission (6.1 after a read fault)
RESIDENT = np.int64(16)  # in memory, mapped or in the swap cache
SEEN = np.int64(32)  # touched before
NEW_TABLE = np.int64(64)  # its first touch needs a page table
NEW_MIDDLE = np.int64(128)  # and a table above it
# Once it is mapped: the processor walked its page table, so that the entry above is accessed too.
TABLE_YOUNG = NEW_TABLE
ACCESSED = YOUNG | TABLE_YOUNG

# ---- page flags, the kernel's names where it has them ----------------------------------------------

PG_DIRTY = np.int64(1)
PG_ACTIVE = np.int64(2)
PG_REFERENCED = np.int64(4)
PG_WORKINGSET = np.int64(8)  # while evicted: the workingset bit of its shadow
PG_RECLAIM = np.int64(16)
PG_WRITEBACK = np.int64(32)
PG_READAHEAD = PG_RECLAIM  # include/linux/page-flags.h: one bit for both
NEVER_MAPPED = np.int64(64)  # read into the swap cache, and nobody has mapped it since
SWAPCACHE = np.int64(128)  # has a swap slot while in memory
IN_ZSWAP = np.int64(256)
ON_DEVICE = np.int64(512)
IN_ZEROMAP = np.int64(1024)
RAW = np.int64(2048)  # stored uncompressed
ZSWAP_REFERENCED = np.int64(4096)  # second chance of the zswap list
KEPT_IDLE = np.int64(8192)  # a policy kept it in memory, unmapped, and nobody has touched it since
OFF_LIST = np.int64(16384)  # in a per-CPU batch or isolated: on no list
LINKED = np.int64(32768)  # in the zswap order without a copy (mixed-lru): no LRU list has it

_PAGE_FIELDS = {
    "prev": (np.uint32, 0),
    "next": (np.uint32, 4),
    "place": (np.uint32, 8),  # in the zswap order, 0 where it is not in it
    "later": (np.uint32, 12),  # a page some way behind it on its LRU list: what to prefetch
    "again": (np.uint32, 12),  # mglru, which needs no `later`: accesses found beyond PG_REFERENCED
    "shadow": (np.uint32, 16),  # nonresident age when it was evicted or kept: also its order
    "came_at": (np.uint32, 16),  # faults by then, of a page in memory that nobody has mapped yet
    "members": (np.uint32, 16),  # of a head of mglru's lists: pages on it
    "slot": (np.uint32, 20),  # swap slot, 0 (the header's) without one
    "oldest_at": (np.uint32, 20),  # of such a head: nonresident age when it came to be the oldest
    "zspage": (np.uint32, 24),  # allocator record that holds its object
    "flags": (np.uint16, 28),
    # Its two bytes, which is what LLVM writes where a constant is in one of them: to read both right
    # after waits until the cache has them, as long as a tenth of a fault.
    "low_flags": (np.uint8, 28),
    "high_flags": (np.uint8, 29),
    "size": (np.uint16, 30),  # content: 0 zero-filled, 1..4095 compressed, 4096 does not shrink
}
PAGE = np.dtype(
    {
        "names": list(_PAGE_FIELDS),
        "formats": [kind for kind, _ in _PAGE_FIELDS.values()],
        "offsets": [offset for _, offset in _PAGE_FIELDS.values()],
        "itemsize": 32,
        "aligned": True,
    }
)
SAME_FILLED = 0x8000  # in `size`: one word repeated, not zero (6.1 stores it without memory)
GENERATION_SHIFT = np.int64(13)  # in `size`, while on a list of mglru: generation modulo 4
GENERATION_MASK = np.int64(0x6000)
SIZE_MASK = 0x1FFF

# ---- allocator records -----------------------------------------------------------------------------

# Small, because a load or a store of zsmalloc touches four of them.
ZSPAGE = np.dtype(
    [
        ("prev", np.uint32),
        ("next", np.uint32),
        ("in_use", np.uint16),
        ("size_class", np.uint16),
        ("group", np.uint16),  # zbud, z3fold: free chunks, the list it is on
    ],
    align=True,
)
# What zbud and z3fold know besides, of the record with the same number.
BUDDIES = np.dtype(
    [
        ("first", np.uint8),  # chunks of the buddies
        ("middle", np.uint8),
        ("last", np.uint8),
        ("start", np.uint8),  # z3fold: first chunk of the middle object
        ("foreign", np.uint8),  # z3fold: bit per buddy whose handle another page's slots hold
        ("headless", np.uint8),  # z3fold: one object, the whole page
        ("first_page", np.uint32),  # pages whose objects the buddies are
        ("middle_page", np.uint32),
        ("last_page", np.uint32),
        ("lru_prev", np.uint32),  # 6.1: newest allocation first; record 0 is the head
        ("lru_next", np.uint32),
    ],
    align=True,
)

# `classes`, int64, one dimension: which class serves a length, by steps of 16 bytes (allocators.py:
# class_at()), then CLASS_FIELDS per class.
CLASS_TABLE = 272
CLASS_FIELDS = 16
# Its first twelve are the heads of its lists, by fullness.
CLASS_PAGES = 12
CLASS_OBJECTS = 13
CLASS_TENTHS = 14  # 10 * 2**32 / objects, rounded up: fullness in tenths without a division
CLASS_LISTS = 15  # a bit for each list that is not empty

# ---- events ----------------------------------------------------------------------------------------

# One row per touch that was not free: what answered it and what reclaim did on its behalf.
# Counts only; nanoseconds are made of them by a cost model (latency.py).
EVENT = np.dtype(
    [
        ("access", np.int64),  # row of the trace
        ("clock_ns", np.int64),  # replay clock when the touch came, mean stalls so far included
        ("service", np.uint8),  # index into schema.SERVICES; BACKGROUND for work of the worker
        ("size_bytes", np.uint16),  # compressed size that was decompressed, 0 otherwise
        ("touched_pages", np.uint32),  # distinct pages so far: what the caches have to cover
        ("scanned", np.uint32),  # pages reclaim looked at
        ("stored", np.uint32),  # pages compressed and stored (raw stores included)
        ("stored_bytes", np.uint32),  # sum of their compressed sizes
        ("raw", np.uint32),  # of the stored, raw ones
        ("rejected", np.uint32),  # pages compressed in vain
        ("dropped", np.uint32),  # clean or zero pages freed without a store or a write
        ("written", np.uint32),  # device writes submitted straight from memory
        ("requests", np.uint32),  # requests that all its device writes were merged to
        ("written_back", np.uint32),  # zswap entries decompressed and submitted to the device
        ("written_back_bytes", np.uint32),  # sum of their compressed sizes
        ("read_ahead", np.uint32),  # further pages read from the device by readahead
        ("read_ahead_loads", np.uint32),  # further pages loaded from zswap by readahead
        ("waits", np.uint32),  # times reclaim slept for I/O
        # What answers it is in the caches: the page is beside the last one that faulted, or, in the
        # swap cache, came in a few faults ago.
        ("near", np.uint8),
    ],
    align=True,
)

_names = EVENT.names or ()
COUNTED = _names[_names.index("scanned") : _names.index("near")]  # in `ev_…` until the next row

BACKGROUND = 255  # service of events that no touch waits for: the writeback worker's own work

MINOR, SWAP_CACHE, ZERO, ZSWAP, ZSWAP_RAW, DEVICE = range(6)  # order of schema.SERVICES

SAMPLE = np.dtype(
    [
        ("access", np.int64),
        ("time_ns", np.int64),  # of the trace, stalls left out
        ("resident_pages", np.int64),
        ("mapped_pages", np.int64),
        ("active_pages", np.int64),
        ("inactive_pages", np.int64),
        ("pool_pages", np.int64),
        ("stored_pages", np.int64),
        ("device_pages", np.int64),
        ("swap_slots", np.int64),
    ],
    align=True,
)

# The last rows of the samples: as things stood when each was highest.
PEAKS = ("resident_pages", "pool_pages", "stored_pages", "footprint_pages")

# A flush of the statistics at a known time, and the pool as whoever read them saw it.
FLUSH = np.dtype(
    [("at_ns", np.int64), ("pool_pages", np.int64), ("stored_pages", np.int64)], align=True
)

WRITE = np.dtype(
    [
        ("done_ns", np.int64),
        ("page", np.uint32),
        ("joins", np.uint8),  # it is in one request with the write before it
    ],
    align=True,
)

# ---- arrays of the reclaim models themselves, which the engine makes -------------------------------

SWAP_CLUSTER_MAX = 32  # include/linux/swap.h: pages the two lists scan at a time
# Of such a scan (two_list.py:_isolate()): its pages, which of them are left, to activate, to keep.
LEFT_AT, ACTIVATED_AT, KEPT_AT, ISOLATED_ROOM = (
    np.int64(nth * SWAP_CLUSTER_MAX) for nth in (1, 2, 3, 4)
)
MIN_LRU_BATCH = 64  # include/linux/mmzone.h, BITS_PER_LONG
# What mglru marks among so many entries around a page; behind that the batch of folio_activate(),
# `add_batch` pages.
ACTIVATING_AT = np.int64(MIN_LRU_BATCH)

# ---- the machine: settings, state and counters of one scenario -------------------------------------

_SETTINGS = (
    "limit_pages",  # of the memory cgroup; a huge number without one
    "limit_bytes",
    "charge_pool",  # cgroup v2: compressed bytes are charged
    "zswap_enabled",
    "incompressible",  # what the policy does: TO_DEVICE, KEEP, STORE_RAW, LINK
    "pool_full",  # TO_DEVICE or KEEP
    "writeback",  # zswap may write back to the device
    "has_device",
    "synchronous",  # zram: writes complete at once, the swap cache is bypassed
    "cutoff_bytes",  # results of this size and larger count as incompressible
    "shrinker",
    "late_slots",  # virtual swap: no slot while a page is in zswap
    "pool_limit_pages",
    "accept_pages",
    "zswap_max_pages",  # memory.zswap.max; a huge number without one
    "allocator",
    "zeromap",
    "same_filled",
    "exclusive_loads",
    "strict_limit",  # 6.1: full only above the limit
    "slot_cache",  # 6.1: freed slots, and their entries, go 64 at a time
    "second_chance",
    "worker_whole_page",  # 6.1: one run frees one allocator page
    "no_pool_writeback",  # 6.1 zsmalloc cannot shrink
    "add_batch",  # pages a per-CPU batch holds before they join the lists
    "flush_at_reclaim",  # 6.1: statistics are flushed when reclaim starts
    "counts_bytes",  # 6.1: compressed bytes count one by one towards the next flush
    "cost_by_pageouts",  # 6.1: reclaim costs the pages it wrote, nothing else
    "plug_by_newest",  # 6.1: a plug is emptied where its newest request is large, not its oldest
    "full_walk_retry",
    "read_first",  # the program reads a page before it writes to it: every fault is a read's
    "map_writable",  # a read fault maps an exclusive page writable
    "mapped_only",  # 6.18: a dirty page that was never mapped is activated instead of written
    "cost_by_statistics",  # 7.3: what reclaim has cost is as old as the statistics
    "throttle_sane",  # v2: reclaim does not wait for writeback, it activates
    "swappiness",
    "page_cluster",
    "vma_readahead",
    "flush_period_ns",  # statistics are brought up to date this often; 0 always, -1 at given times
    "tlb_renewed",  # where the statistics are read, translations are forgotten
    "own_clock",  # 1: stalls are added to the trace's time; 0: the trace's time has them
    "swap_slots_total",
    "slot_room",  # slots whose pages are known, the header's included; 0: they are only counted
    "slot_clusters",  # the device is cut into clusters (6.13), else filled run by run
    "textbook",  # lru, opt: capacity is exact, no kernel overheads
    "header_bytes",  # 6.1 zbud, z3fold keep 8 bytes with each object
    "minor_fault_ns",
    "major_fault_ns",
    "scan_ns",
    "walk_ns",
    "store_ns",
    "load_ns",
    "writeback_ns",
    "raw_copy_ns",
    "zero_ns",
    "reject_ns",
    "device_read_ns",
    "device_write_ns",
    "device_write_page_ns",
    "submit_ns",
    "request_ns",
    "behind_ns",
    "device_depth",
    "dispatch_wait_ns",  # with one CPU: kblockd's worker runs that long after it last did; 0: at once
    "worker_delay_ns",
    "one_cpu",
    "woken_goes_first",  # with one CPU: the worker runs where the faulting thread leaves the kernel
    "walk_batch",  # entries that the worker looks at before it sees whether to go on
    "shrinker_flushes",  # the shrinker reads fresh statistics
    "swapin_drains",  # a fault of a page in swap empties the per-CPU batch
    "worker_pace",  # quarters of its cost that its work takes: 4 on a CPU of its own, 8 on a shared one
    "touch_ns",  # time of one touch in a trace without a clock
    "sample_every",
    "cpus",
    "generations",  # the lists are those of generations.py
    "mglru_rules",  # MGLRU_6_1, MGLRU_6_12, MGLRU_6_14, MGLRU_7_2
    "rewrite_threshold",  # of 2^32: share of written pages that come out with other contents
    "rewrite_seed",
    "rewrite_rows",  # contents to draw from; they stand in `classes`, behind the allocator's
    "rewrite_at",  # where in `classes` the contents begin; one count of rewrites per page follows
    "watched_cutoff_bytes",  # the lowest among the scenarios that share this replay
    "watched_pool_pages",
)
# What scenarios that share a replay may differ in (sharing.py), and the decision that takes it into
# account first. Whoever reads one of these notes the decision before, in `decided`.
EVICTED, REFUSED, POOL_MET, DEVICE_MET, PRESSED, SLOT_MET = (1 << nth for nth in range(6))
DECIDED_AT = {
    "zswap_enabled": EVICTED,  # a page has to be stored or written
    "incompressible": REFUSED,  # one compresses to the lowest cutoff or more
    "cutoff_bytes": REFUSED,
    "pool_limit_pages": POOL_MET,  # the pool is at the lowest limit, or zswap.max
    "accept_pages": POOL_MET,
    "pool_full": POOL_MET,
    "writeback": POOL_MET,
    "has_device": DEVICE_MET,  # zswap did not take a page
    "shrinker": PRESSED,  # reclaim has been through the lists
    "late_slots": SLOT_MET,  # the number of a slot matters, or how many are left
    "watched_cutoff_bytes": 0,  # the scenarios that go on together decide
    "watched_pool_pages": 0,
}
_STATE = (
    "usage_pages",
    "stock_pages",
    "remote_stock_pages",  # charged by other CPUs for pages they never took
    "object_stock_bytes",
    "resident_pages",
    "mapped_pages",
    "table_pages",
    "inactive_pages",
    "active_pages",
    "pending",
    "joined_inactive",  # pages so far, for the rings of `later`
    "joined_active",
    "nonresident_age",
    "anon_cost",
    "file_cost",
    "vmscan_rotated",  # pages reclaim looked at and did not free
    "pageouts",  # stores and writes of the scan in hand (two-list)
    "vmscan_written",  # stores and writes by reclaim: NR_VMSCAN_WRITE
    "costed_rotated",  # of these, and of restored pages, what the costs have in them (7.3)
    "costed_io",
    "refaults_snapshot",
    "stat_inactive",
    "stat_active",
    "stat_activate",
    "stat_rotated",
    "stat_io",  # pages restored or written
    "stat_stored",
    "stat_backing_bytes",
    "stat_updates",
    "flushed_ns",  # when the last one was due
    "next_flush_ns",
    "flush_index",
    "tlb_entries",  # a power of two
    "tlb_renewals",  # `flush_index` when all were last forgotten
    "clock_ns",
    "clock_lead_ns",
    "pool_pages",
    "pool_bytes",
    "pool_charged_bytes",
    "stored_pages",
    "fifo_pages",
    "fifo_at",  # the zswap order is dead before here: zswap_order.py
    "kept_at",
    "order_end",
    "kept_pages",
    "linked_pages",
    "stored_incompressible",
    "zswap_full",
    "seen_pool_pages",  # 6.1: the pool's size when an entry was last stored or freed
    "claimed_zspage",  # 6.1: the allocator page that is being written back
    "free_zspage",
    "next_zspage",
    "device_pages",
    "swap_slots",
    "slots_kept",  # pages that were mapped and kept their slot since such slots were last taken back
    "returned",  # 6.1: freed slots that wait in the per-CPU cache, with their entries
    "returned_at",  # where in `classes` their pages are
    "slot_cursor",  # where to look for the next slot
    "slot_run",  # slots that follow on it
    "slot_top",  # above all that were given so far
    "io_head",
    "io_count",
    "io_last_ns",
    "io_queued",  # of those in flight the newest, which wait in the I/O scheduler
    "dispatched_ns",  # when its worker hands them on, or last did
    "plugged",  # writes are held back
    "plugged_writes",
    "plug_requests",
    "plug_oldest",  # pages of its first request, and of its last
    "plug_newest",
    "request_start",  # slots of the plug's last request; 0 without one, -1 without a plug
    "request_end",
    "worker_active",
    "worker_ns",
    "worker_failures",
    "walk_left",  # entries of the batch in hand
    "walk_written",  # of it, written back so far
    "worker_running",  # a refusal from now on queues it once more
    "worker_pending",  # that has happened
    "shrinker_deferred",
    "met_in_swap_cache",  # entries whose page was in memory when their turn came
    "disk_swapins",
    "events",
    "soon",  # which of the next rows of the batch will fault
    "faulted",  # the page of the last event
    "samples",
    "next_sample",
    "last_access",
    "heap_size",
    "force_deactivate",
    "skipped_deactivate",
    "incoming",
    "ra_hits",
    "ra_last_window",
    "ra_prev",
    "in_background",  # the writeback worker runs, not a fault
    "decided",  # bits of DECIDED_AT
    # mglru: struct lru_gen_folio, struct lru_gen_mm_state
    "max_seq",
    "min_seq",
    "file_min_seq",  # there are no file pages, but the lists of both types move together
    "walks",  # of the page tables so far
    "walked_ns",  # when the last one was
    "sleeps",  # device reads and waits by then
    "walk_scanned",  # `reclaim_scanned` by then
    "switched",  # something has run in the task's place since
    "notified_ns",  # when the watchers of memory.events were last told
    "filters",  # which of the two Bloom filters are allocated, a bit each
    "mm_walk",  # this reclaim has walked the page tables (6.1 looks around differently then)
    "activating",  # pages in the batch of folio_activate()
    "is_held",  # by that batch: the page that is being evicted
    # of tiers: pages that are not of the working set and pages that are (6.14)
    "tier_evicted",
    "tier_refaulted",
    "tier_protected",
    "tier_avg_refaulted",
    "tier_avg_total",
    "twice_evicted",  # pages found accessed twice, not of the working set (7.2)
    "twice_refaulted",
    "twice_protected",
    "twice_avg_refaulted",
    "twice_avg_total",
    "workingset_evicted",
    "workingset_refaulted",
    "workingset_protected",
    "workingset_avg_refaulted",
    "workingset_avg_total",
)
COUNTERS = (
    "accesses",
    "pgmajfault",
    "zswpin",
    "zswpout",
    "zswpwb",
    "pswpin",
    "pswpout",
    "swpin_zero",
    "swpout_zero",
    "swap_ra",
    "swap_ra_hit",
    "workingset_refault_anon",
    "workingset_activate_anon",
    "workingset_restore_anon",
    "pgactivate",
    "pgdeactivate",
    "pool_limit_hit",
    "reject_compress_poor",
    "reject_compress_fail",
    "reject_alloc_fail",
    "reject_reclaim_fail",
    "reclaim_runs",
    "reclaim_scanned",
    "reclaim_freed_pages",
    "reclaim_pool_growth_bytes",
    "reclaim_no_gain_runs",
    "reclaim_failures",
    "oom_events",
    "lru_inversions",
    "unique_pages",
    "overshoot_bytes_peak",
    "stored_incompressible_pages",
    "resident_pages_peak",
    "pool_pages_peak",
    "stored_pages_peak",
    "device_pages_peak",
    "swap_slots_peak",
    "footprint_pages_peak",
    "minor_faults",
    "waits",
    "write_requests",
)
# Integrals over accesses; means are made of them.
_SUMS = ("resident_sum", "pool_sum", "stored_sum")

MACHINE = np.dtype(
    [(name, np.int64) for name in (*_SETTINGS, *_STATE, *COUNTERS, *_SUMS)]
    + [(f"ev_{name}", np.int64) for name in COUNTED]
    + [("oom_at_access", np.int64)],
    align=True,
)

SLOTS_RETURNED = 64  # include/linux/swap_slots.h: SWAP_SLOTS_CACHE_SIZE

TO_DEVICE, KEEP, STORE_RAW, LINK = range(4)
ZSMALLOC, ZSMALLOC_6_1, ZBUD, Z3FOLD, IDEAL = range(5)
MGLRU_6_1, MGLRU_6_12, MGLRU_6_14, MGLRU_7_2 = range(4)
NEVER = 1 << 62


# ---- doubly linked lists through the page array ----------------------------------------------------


@inner
def unlink(pages: Any, page: Any) -> None:
    """Take a page off the list it is on."""
    before = pages[page]["prev"]
    after = pages[page]["next"]
    pages[before]["next"] = after
    pages[after]["prev"] = before


@inner
def link_head(pages: Any, head: Any, page: Any) -> None:
    """Put a page at the head of a list: the end reclaim comes to last."""
    after = pages[head]["next"]
    pages[head]["next"] = page
    pages[page]["prev"] = head
    pages[page]["next"] = after
    pages[after]["prev"] = page


@inner
def link_tail(pages: Any, head: Any, page: Any) -> None:
    """Put a page at the tail of a list: reclaim takes it next."""
    before = pages[head]["prev"]
    pages[head]["prev"] = page
    pages[page]["next"] = head
    pages[page]["prev"] = before
    pages[before]["next"] = page


@inner
def has(pages: Any, page: Any, flag: Any) -> Any:
    """Tell whether a page has a flag, or one of several."""
    return (pages[page]["low_flags"] & flag | pages[page]["high_flags"] & flag >> 8) != 0


@inner
def set_flags(pages: Any, page: Any, flags: Any) -> None:
    """Set flags of a page."""
    if flags & 0xFF:
        pages[page]["low_flags"] = pages[page]["low_flags"] | flags & 0xFF
    if flags >> 8:
        pages[page]["high_flags"] = pages[page]["high_flags"] | flags >> 8


@inner
def clear_flags(pages: Any, page: Any, flags: Any) -> None:
    """Clear flags of a page."""
    if flags & 0xFF:
        pages[page]["low_flags"] = pages[page]["low_flags"] & (0xFF ^ flags & 0xFF)
    if flags >> 8:
        pages[page]["high_flags"] = pages[page]["high_flags"] & (0xFF ^ flags >> 8)

"""A slow, obvious twin of the replay: pages are objects, lists are Python lists, nothing is shared.

It imports nothing of tracereplay. Each rule is written down from what Linux does (functions named
beside it, as of v6.12 unless a line says otherwise); where the model simplifies, it simplifies the
same way and says so. Index 0 of a list is its head: the young end, which reclaim reaches last.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

PAGE = 4096
NO_LIMIT = 1 << 62


@dataclasses.dataclass(frozen=True)
class Rules:
    """What a policy does with a page that reclaim picked."""

    zswap: bool = True
    incompressible: str = "device"  # device, keep, raw, link, kernel: as the release does
    full: str = "device"  # device, keep
    writeback: bool = True
    device: bool = True
    cutoff: int = PAGE
    shrinker: bool = False
    late_slots: bool = False
    synchronous: bool = False
    limited: bool = True


POLICIES = {
    "no-zswap": Rules(zswap=False),
    "swap-on-reject": Rules(),
    "keep-on-reject": Rules(incompressible="keep", full="keep"),
    "store-raw": Rules(incompressible="raw"),
    "store-raw-keep": Rules(incompressible="raw", full="keep"),
    "no-writeback": Rules(incompressible="keep", full="keep", writeback=False, device=False),
    "ghost-swapfile": Rules(incompressible="keep", full="keep", writeback=False, device=False),
    "mixed-lru": Rules(incompressible="link"),
    "ratio-cutoff": Rules(incompressible="keep", full="keep", cutoff=2991),
    "shrinker": Rules(incompressible="kernel", shrinker=True),
    "vswap": Rules(incompressible="raw", late_slots=True),
    "zram": Rules(incompressible="raw", writeback=False, device=False, synchronous=True),
    "unlimited-memory": Rules(limited=False),
}


# The reclaim models the twin knows; True where capacity is exact and one page leaves per fault.
RECLAIM = {"two-list": False, "mglru": False, "lru": True, "opt": True}


@dataclasses.dataclass(frozen=True)
class Kernel:
    """What a kernel version does."""

    stores_raw: bool = True  # 6.18: an incompressible page is stored uncompressed
    generations: int = 4  # which version of the multi-generational LRU, 1 to 4
    zeromap: bool = True
    same_filled: bool = False
    exclusive_loads: bool = True
    strict_limit: bool = False  # 6.1: full only above the limit
    slot_cache: bool = False  # 6.1: freed slots, and their entries, go 64 at a time
    worker_whole_page: bool = False  # 6.1: one run frees one page of the allocator
    second_chance: bool = True
    add_batch: int = 31
    flush_at_reclaim: bool = False
    counts_bytes: bool = False  # 6.1: one store of a page makes a flush due
    cost_by_pageouts: bool = False  # 6.1
    plug_by_newest: bool = False  # 6.1
    full_walk_retry: bool = True
    map_writable: bool = True
    chain: int = 8
    old_zsmalloc: bool = False
    header: int = 0
    poor_counter: str | None = "reject_compress_fail"
    mapped_only: bool = True
    slot_clusters: bool = True
    cost_by_statistics: bool = False
    yields: bool = False
    lone_worker_ns: int = 2_000_000
    lone_dispatch_ns: int = 0
    woken_goes_first: bool = False
    walk_batch: int = 1
    shrinker_flushes: bool = True
    swapin_drains: bool = True


KERNELS = {
    "7.3": Kernel(
        cost_by_statistics=True,
        lone_dispatch_ns=700_000,
        woken_goes_first=True,
        walk_batch=32,
        shrinker_flushes=False,
        swapin_drains=False,
    ),
    "7.2": Kernel(lone_dispatch_ns=700_000, woken_goes_first=True),
    "6.18": Kernel(generations=3),
    "6.12": Kernel(
        stores_raw=False,
        generations=2,
        mapped_only=False,
        slot_clusters=False,
        yields=True,
        lone_worker_ns=0,
    ),
    "6.1": Kernel(
        stores_raw=False,
        generations=1,
        zeromap=False,
        same_filled=True,
        exclusive_loads=False,
        strict_limit=True,
        slot_cache=True,
        worker_whole_page=True,
        second_chance=False,
        add_batch=15,
        flush_at_reclaim=True,
        counts_bytes=True,
        cost_by_pageouts=True,
        plug_by_newest=True,
        full_walk_retry=False,
        map_writable=False,
        chain=4,
        old_zsmalloc=True,
        header=8,
        poor_counter=None,
        mapped_only=False,
        slot_clusters=False,
        yields=True,
        lone_worker_ns=0,
    ),
}

COUNTERS = [
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
    "accesses",
]


# ---- allocators --------------------------------------------------------------------------------------


class Zsmalloc:
    """mm/zsmalloc.c. A zspage is a dict; a class keeps its zspages in lists by fullness."""

    def __init__(self, chain: int, old: bool) -> None:
        self.old = old
        self.table: list[tuple[int, int, int]] = []  # per index: object size, pages, objects
        self.lists: dict[tuple[int, int, int], dict[int, list[dict[str, Any]]]] = {}
        self.pages = 0
        made = None
        table: dict[int, tuple[int, int, int]] = {}
        for index in reversed(range(255)):
            size = min(32 + 16 * index, PAGE)
            pages = self.pages_per_zspage(size, chain)
            objects = pages * PAGE // size
            if made is None or made[1:] != (pages, objects):
                made = (size, pages, objects)
            table[index] = made
        self.table = [table[index] for index in range(255)]

    def pages_per_zspage(self, size: int, chain: int) -> int:
        best = 1
        if self.old:  # v6.1 get_pages_per_zspage()
            most = 0
            for count in range(1, chain + 1):
                used = (count * PAGE - count * PAGE % size) * 100 // (count * PAGE)
                if used > most:
                    most, best = used, count
            return best
        if size in (32, 64, 128, 256, 512, 1024, 2048, 4096):
            return 1
        least = PAGE * 2
        for count in range(1, chain + 1):
            waste = count * PAGE % size
            if waste < least:
                least, best = waste, count
        return best

    def size_class(self, length: int) -> tuple[int, int, int]:
        size = length + 8
        index = 0 if size <= 32 else min(254, math.ceil((size - 32) / 16))
        return self.table[index]

    def group(self, used: int, objects: int) -> int:
        if used == 0:
            return 0
        if used == objects:
            return 100
        if self.old:
            return 1 if used <= 3 * objects // 4 else 2
        return 100 * used // objects // 10 + 1

    def of(self, kind: tuple[int, int, int], group: int) -> list[dict[str, Any]]:
        return self.lists.setdefault(kind, {}).setdefault(group, [])

    def enter(self, zspage: dict[str, Any]) -> None:
        """v6.1 insert_zspage() keeps a fuller first page in front."""
        listed = self.of(zspage["class"], zspage["group"])
        behind_first = self.old and listed and zspage["used"] < listed[0]["used"]
        listed.insert(1 if behind_first else 0, zspage)

    def regroup(self, zspage: dict[str, Any]) -> None:
        """fix_fullness_group(): a zspage moves only when its group changes."""
        group = self.group(zspage["used"], zspage["class"][2])
        if group == zspage["group"]:
            return
        if zspage["group"] is not None:
            listed = self.of(zspage["class"], zspage["group"])
            listed.pop(next(i for i, other in enumerate(listed) if other is zspage))
        zspage["group"] = group
        if group == 0:
            self.pages -= zspage["class"][1]
        else:
            self.enter(zspage)

    def alloc(self, length: int, _page: Any = None) -> dict[str, Any] | None:
        kind = self.size_class(length)
        for group in range(10, 0, -1):
            if self.of(kind, group):
                zspage = self.of(kind, group)[0]
                zspage["used"] += 1
                self.regroup(zspage)
                return zspage
        zspage = {"class": kind, "used": 1, "group": None}
        self.pages += kind[1]
        self.regroup(zspage)
        return zspage

    def free(self, zspage: dict[str, Any], _length: int) -> None:
        zspage["used"] -= 1
        self.regroup(zspage)


class Zbud:
    """mm/zbud.c: one or two objects a page, in chunks of 64 bytes, one of them for the header.

    A page is a dict: `objects` has for each buddy (page of the trace, chunks), `listed` says how
    many chunks are free where it stands on a list of pages with room.
    """

    buddies = ("first", "last")
    eviction_order = ("first", "last")
    chunks = 63
    largest = PAGE - 64 - 64

    def __init__(self, header: int) -> None:
        self.header = header
        self.unbuddied: dict[int, list[dict[str, Any]]] = {free: [] for free in range(65)}
        self.lru: list[dict[str, Any]] = []  # index 0: the newest allocation
        self.claimed: dict[str, Any] | None = None

    @property
    def pages(self) -> int:
        return len(self.lru)

    def free_chunks(self, held: dict[str, Any]) -> int:
        return self.chunks - sum(size for _, size in held["objects"].values())

    def free_buddy(self, held: dict[str, Any], _chunks: int) -> str:
        return "last" if "first" in held["objects"] else "first"

    def enlist(self, held: dict[str, Any]) -> None:
        if len(held["objects"]) < len(self.buddies):
            held["listed"] = self.free_chunks(held)
            self.unbuddied[held["listed"]].insert(0, held)

    def unlist(self, held: dict[str, Any]) -> None:
        if held["listed"] is not None:
            listed = self.unbuddied[held["listed"]]
            listed.pop(next(i for i, other in enumerate(listed) if other is held))
            held["listed"] = None

    def with_room(self, chunks: int) -> dict[str, Any] | None:
        for free in range(chunks, self.chunks):
            if self.unbuddied[free]:
                held = self.unbuddied[free][0]
                self.unlist(held)
                return held
        return None

    def drop(self, held: dict[str, Any]) -> None:
        self.lru.pop(next(i for i, other in enumerate(self.lru) if other is held))

    def new(self) -> dict[str, Any]:
        return {"objects": {}, "listed": None, "start": 0, "foreign": set(), "headless": False}

    def put(self, held: dict[str, Any], page: Any, chunks: int) -> None:
        held["objects"][self.free_buddy(held, chunks)] = (page, chunks)

    def alloc(self, length: int, page: Any) -> dict[str, Any] | None:
        size = length + self.header
        if size > self.largest:
            return self.refuse(size, page)
        chunks = math.ceil(size / 64)
        held = self.with_room(chunks)
        if held is None:
            held = self.new()
        else:
            self.drop(held)
        self.lru.insert(0, held)
        self.put(held, page, chunks)
        self.enlist(held)
        return {"page": page}

    def refuse(self, _size: int, _page: Any) -> dict[str, Any] | None:
        return None

    def holder(self, page: Any) -> dict[str, Any]:
        return next(
            held for held in self.lru if any(of is page for of, _ in held["objects"].values())
        )

    def free(self, handle: dict[str, Any], _length: int) -> None:
        held = self.holder(handle["page"])
        buddy = next(b for b, (of, _) in held["objects"].items() if of is handle["page"])
        del held["objects"][buddy]
        held["foreign"].discard(buddy)
        if held is self.claimed:
            return  # under_reclaim: who claimed it frees it
        self.unlist(held)
        if held["objects"]:
            self.tidy(held)
        else:
            self.drop(held)

    def tidy(self, held: dict[str, Any]) -> None:
        self.enlist(held)

    def claim(self) -> list[Any]:
        """zbud_reclaim_page(): the page whose last allocation is the oldest, and its objects."""
        usable = [held for held in self.lru if not held["foreign"]]
        if not usable:
            return []
        self.claimed = usable[-1]
        self.unlist(self.claimed)
        objects = self.claimed["objects"]
        return [objects[buddy][0] for buddy in self.eviction_order if buddy in objects]

    def unclaim(self) -> bool:
        held, self.claimed = self.claimed, None
        self.drop(held)
        if not held["objects"]:
            return True
        self.lru.insert(0, held)
        if not held["headless"]:
            self.enlist(held)
        return False


class Z3fold(Zbud):
    """mm/z3fold.c: up to three objects a page; its header takes two chunks."""

    buddies = ("first", "middle", "last")
    eviction_order = ("middle", "first", "last")
    chunks = 62
    largest = PAGE - 128 - 64

    def refuse(self, size: int, page: Any) -> dict[str, Any] | None:
        if size > PAGE:
            return None
        held = self.new()
        held["objects"]["first"] = (page, 64)
        held["headless"] = True
        self.lru.insert(0, held)
        return {"page": page}

    def gaps(self, held: dict[str, Any]) -> tuple[int, int]:
        """Chunks free before and after the middle object, 0 where another object is."""
        before = 0 if "first" in held["objects"] else held["start"] - 2
        end = held["start"] + held["objects"]["middle"][1]
        return before, 0 if "last" in held["objects"] else 64 - end

    def free_chunks(self, held: dict[str, Any]) -> int:
        if "middle" in held["objects"]:
            return max(self.gaps(held))
        return super().free_chunks(held)

    def free_buddy(self, held: dict[str, Any], chunks: int) -> str:
        objects = held["objects"]
        if "middle" in objects:
            fits_first = "first" not in objects and chunks <= self.gaps(held)[0]
            return "first" if fits_first else "last"
        return next(buddy for buddy in ("first", "last", "middle") if buddy not in objects)

    def put(self, held: dict[str, Any], page: Any, chunks: int) -> None:
        if self.free_buddy(held, chunks) == "middle":
            held["start"] = 2 + held["objects"]["first"][1]
        super().put(held, page, chunks)

    def tidy(self, held: dict[str, Any]) -> None:
        """do_compact_page(), at once."""
        objects = held["objects"]
        if len(objects) == 1 and not held["foreign"]:
            ((page, chunks),) = objects.values()
            other = self.with_room(chunks)
            if other is not None:
                buddy = self.free_buddy(other, chunks)
                self.put(other, page, chunks)
                other["foreign"].add(buddy)
                self.enlist(other)
                self.drop(held)
                return
        if "middle" in objects:
            first = objects.get("first", (None, 0))[1]
            middle = objects["middle"][1]
            last = objects.get("last", (None, 0))[1]
            if not first and not last:
                objects["first"] = objects.pop("middle")
                held["foreign"] = {"first"} if held["foreign"] else set()
            elif first and not last and held["start"] - first - 2 >= 3:
                held["start"] = first + 2
            elif last and not first and 64 - last - held["start"] - middle >= 3:
                held["start"] = 64 - last - middle
        self.enlist(held)


class Ideal:
    """No waste at all: the bytes of all objects, in whole pages."""

    def __init__(self) -> None:
        self.bytes = 0

    @property
    def pages(self) -> int:
        return math.ceil(self.bytes / PAGE)

    def alloc(self, length: int, _page: Any = None) -> str:
        self.bytes += length
        return "there"

    def free(self, _handle: str, length: int) -> None:
        self.bytes -= length


# ---- swap slots: mm/swapfile.c -----------------------------------------------------------------------


class Clusters:
    """Slots from 6.13 on: cluster_alloc_swap_entry(). A cluster is its number; slot 0 is the header."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken = {0}
        self.used = [0] * -(-room // 512)
        self.used[0] += 1
        self.used[-1] += len(self.used) * 512 - room  # slots that are not there
        self.lists: dict[str, list[int]] = {"nonfull": [], "free": [], "frag": []}
        for cluster, used in enumerate(self.used):
            if used < 512:
                self.lists["nonfull" if used else "free"].append(cluster)
        self.next: int | None = None

    def move(self, cluster: int, to: str | None) -> None:
        """To the end of a list, unless it is on it already; None: on no list."""
        here = next((name for name, each in self.lists.items() if cluster in each), None)
        if here == to:
            return
        if here is not None:
            self.lists[here].remove(cluster)
        if to is not None:
            self.lists[to].append(cluster)

    def scan(self, start: int) -> int | None:
        """alloc_swap_scan_cluster(), relocate_cluster()."""
        cluster = start // 512
        end = min((cluster + 1) * 512, self.room)
        found = next((slot for slot in range(start, end) if slot not in self.taken), None)
        self.next = None
        if found is not None:
            self.taken.add(found)
            self.used[cluster] += 1
            if self.used[cluster] < 512 and found + 1 < end:
                self.next = found + 1
        self.move(cluster, None if self.used[cluster] == 512 else "frag")
        return found

    def alloc(self) -> int:
        # An emptied cluster has no swap table any more: cluster_is_usable().
        if self.next is not None and self.used[self.next // 512]:
            found = self.scan(self.next)
            if found is not None:
                return found
        for name in ("nonfull", "free", "frag"):
            while self.lists[name]:
                cluster = self.lists[name][0]
                self.move(cluster, None)
                found = self.scan(cluster * 512)
                if found is not None:
                    return found
        raise AssertionError("no slot left")

    def free(self, slot: int) -> None:
        """partial_free_cluster()."""
        self.taken.remove(slot)
        self.used[slot // 512] -= 1
        self.move(slot // 512, "nonfull" if self.used[slot // 512] else "free")


class Runs:
    """Slots of a rotational device before 6.13: scan_swap_map_slots()."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken = {0}
        self.next = 1
        self.left = 0

    def alloc(self) -> int:
        if self.left:
            self.left -= 1
        else:
            self.left = 511
            if self.room - len(self.taken) >= 512:
                self.next = self.empty_row() or 1
        slot = self.next
        while slot >= self.room or slot in self.taken:
            slot = 1 if slot >= self.room else slot + 1
        self.taken.add(slot)
        self.next = slot + 1
        return slot

    def empty_row(self) -> int | None:
        free = 0
        for slot in range(1, self.room):
            free = 0 if slot in self.taken else free + 1
            if free == 512:
                return slot - 511
        return None

    def free(self, slot: int) -> None:
        self.taken.remove(slot)


# ---- pages and settings ------------------------------------------------------------------------------


@dataclasses.dataclass(eq=False)
class Page:
    """A page of the trace, in memory or not, and its swap slot."""

    number: int
    zero: bool
    same: bool
    compressed: int
    new_tables: int = 0
    # page table entry
    mapped: bool = False
    young: bool = False
    pte_dirty: bool = False
    read_only: bool = False
    # the folio
    seen: bool = False
    resident: bool = False
    dirty: bool = False
    active: bool = False
    referenced: bool = False
    again: int = 0  # accesses found beyond that one; while evicted, those its shadow tells (7.2)
    workingset: bool = False
    reclaim: bool = False
    writeback: bool = False
    swapcache: bool = False
    never_mapped: bool = False  # since it was read
    on_lru: bool = False
    # its slot and what is behind it
    slot: int | None = None
    shadow_age: int = 0
    in_zeromap: bool = False
    in_zswap: bool = False
    length: int = 0
    raw: bool = False
    handle: Any = None
    zswap_referenced: bool = False
    on_device: bool = False
    # what a policy did with it
    kept: bool = False
    linked: bool = False
    # Belady
    next_use: int = 0
    # which of the four lists of generations its number names
    gen: int | None = None


@dataclasses.dataclass(frozen=True)
class Costs:
    minor_fault_ns: int = 600
    major_fault_ns: int = 1_500
    scan_ns: int = 150
    walk_ns: int = 100
    store_ns: int = 3_000
    load_ns: int = 1_800
    writeback_ns: int = 0
    raw_copy_ns: int = 300
    zero_ns: int = 150
    reject_ns: int = 3_000
    device_read_ns: int = 90_000
    device_write_ns: int = 20_000
    device_write_page_ns: int = 20_000
    submit_ns: int = 2_000
    request_ns: int = 0
    behind_ns: int = 0


@dataclasses.dataclass(frozen=True)
class Case:
    """Everything that decides an outcome."""

    policy: str
    reclaim: str
    limit_bytes: int
    pool_limit_pages: int
    kernel: str = "6.18"
    cgroup: str = "v2"
    allocator: str = "zsmalloc"
    accept_percent: int = 90
    swap_slots: int | None = None
    zswap_max_pages: int | None = None
    page_cluster: int = 0
    vma_readahead: bool = True
    fresh_boot: bool = False
    swappiness: int = 60
    flush_period_ns: int = 2_000_000_000  # 0: always exact
    flush_times_ns: tuple[int, ...] | None = None
    touch_ns: int = 100
    cpus: int = 1
    remote_stock: int = 0
    clock_has_stalls: bool = False
    one_cpu: bool = False
    costs: Costs = Costs()


class OutOfMemory(Exception):
    """The kernel would kill the task here."""


@dataclasses.dataclass(frozen=True)
class Access:
    page: int
    write: bool
    time_ns: int | None = None
    next_use: int = 0


# ---- the machine -------------------------------------------------------------------------------------


class Oracle:
    """Replays accesses one by one."""

    def __init__(self, case: Case, contents: dict[int, dict[str, Any]]) -> None:
        self.case = case
        self.rules = POLICIES[case.policy]
        self.kernel = KERNELS[case.kernel]
        if self.rules.incompressible == "kernel":
            as_released = "raw" if self.kernel.stores_raw else "device"
            self.rules = dataclasses.replace(self.rules, incompressible=as_released)
        if self.rules.synchronous:
            # drivers/block/zram: what would take a whole page is kept as it is.
            kinds = Zsmalloc(self.kernel.chain, self.kernel.old_zsmalloc)
            whole = next(n for n in range(PAGE) if kinds.size_class(n)[1:] == (1, 1))
            self.rules = dataclasses.replace(self.rules, cutoff=whole)
        self.costs = case.costs
        self.textbook = RECLAIM[case.reclaim]
        self.pages = {number: Page(number, **what) for number, what in contents.items()}
        self.count = dict.fromkeys(COUNTERS, 0)
        self.limit_bytes = case.limit_bytes if self.rules.limited else NO_LIMIT
        self.limit_pages = self.limit_bytes // PAGE
        self.charge_pool = case.cgroup == "v2" and not self.rules.synchronous
        self.pool_limit = NO_LIMIT if self.rules.synchronous else case.pool_limit_pages
        self.accept_pages = case.pool_limit_pages * case.accept_percent // 100
        self.total_slots = NO_LIMIT if case.swap_slots is None else case.swap_slots
        self.can_write_device = self.rules.device
        if case.allocator == "zsmalloc" or (self.rules.synchronous and case.allocator != "ideal"):
            self.pool: Any = Zsmalloc(self.kernel.chain, self.kernel.old_zsmalloc)
        elif case.allocator == "zbud":
            self.pool = Zbud(self.kernel.header)
        elif case.allocator == "z3fold":
            self.pool = Z3fold(self.kernel.header)
        else:
            self.pool = Ideal()
        self.pool_can_write_back = not (self.kernel.old_zsmalloc and case.allocator == "zsmalloc")
        # lists
        self.inactive: list[Page] = []
        self.active: list[Page] = []
        self.pending: list[Page] = []
        self.batch: list[Page] = []  # folio_activate(), with generations; it holds its pages
        self.fifo: list[Page] = []
        self.kept: list[Page] = []
        self.heap: list[Page] = []
        # charging
        self.usage = case.remote_stock
        self.stock = 0
        self.remote_stock = case.remote_stock
        self.object_stock = 0
        self.tables = 0
        self.charged = 0
        # reclaim
        self.age = 0
        self.anon_cost = 0
        self.rotated = self.written = self.costed = 0
        self.snapshot = 0
        self.stat = dict.fromkeys(
            ("inactive", "active", "activate", "stored", "backing", "cost"), 0
        )
        self.updates = 0
        self.next_flush = case.flush_period_ns
        self.flushed_at = 0
        self.flushes = list(case.flush_times_ns or ())
        # zswap
        self.full = False
        self.seen_pool = 0
        self.worker_on = False
        self.worker_time = 0
        self.worker_running = self.worker_pending = False
        self.worker_failures = 0
        self.deferred = 0
        self.disk_swapins = 0
        # swap
        self.slots_used = 0
        self.returned: list[Page | None] = []
        self.slot_map: dict[int, Page] = {}
        self.next_slot = 1
        self.slots: Clusters | Runs | None = None
        self.writes: list[tuple[int, Page]] = []
        self.last_write_done = 0
        self.in_scheduler = self.handed_on = 0
        self.in_worker = False
        self.plugged = False
        self.held: list[list[Page]] = []  # requests
        self.request: list[int | None] = []  # slots of the plug's last request
        # readahead
        cluster = 0 if self.rules.synchronous or self.textbook else case.page_cluster
        self.ra_max = 1 << cluster
        self.ra_hits = 4 if case.vma_readahead or case.fresh_boot else 0
        self.ra_window = 0
        if self.ra_max > 1 and not case.vma_readahead:
            room = min(self.total_slots, 16 * len(contents) + 512) + 1
            self.slots = Clusters(room) if self.kernel.slot_clusters else Runs(room)
        self.ra_before: int | None = None if case.vma_readahead else 0
        # clock
        self.now = 0
        self.lead = 0
        self.oom_at: int | None = None
        # in the middle of something
        self.pageouts = 0
        self.incoming: Page | None = None
        self.met_swap_cache = False

    # -- derived ---------------------------------------------------------------------------------

    @property
    def resident(self) -> list[Page]:
        return [page for page in self.pages.values() if page.resident]

    @property
    def resident_count(self) -> int:
        return len(self.resident)

    @property
    def linked_count(self) -> int:
        return sum(page.linked for page in self.fifo)

    @property
    def pool_pages(self) -> int:
        """Pages that count against the pool limit: those of the allocator, and linked ones."""
        return self.pool.pages + self.linked_count

    @property
    def stored(self) -> int:
        return sum(page.in_zswap for page in self.pages.values())

    @property
    def device_pages(self) -> int:
        return sum(page.on_device for page in self.pages.values())

    def charged_bytes(self) -> int:
        pages = self.resident_count + (0 if self.textbook else self.tables)
        return pages * PAGE + (self.charged if self.charge_pool else 0)

    def note_peaks(self) -> None:
        count = self.count
        for name, value in (
            ("resident_pages_peak", self.resident_count),
            ("pool_pages_peak", self.pool.pages),
            ("stored_pages_peak", self.stored),
            # A linked page stands in the pool and is resident: it is one page of memory.
            ("footprint_pages_peak", self.resident_count + self.pool.pages),
            ("overshoot_bytes_peak", self.charged_bytes() - self.limit_bytes),
        ):
            count[name] = max(count[name], value)

    # -- charging: mm/memcontrol.c -----------------------------------------------------------------

    def consume_stock(self, pages: int) -> bool:
        if self.stock < pages:
            return False
        self.stock -= pages
        return True

    def refill_stock(self, pages: int) -> None:
        self.stock += pages
        if self.stock > 64:
            self.drain_stock()

    def drain_stock(self) -> None:
        self.usage -= self.stock
        self.stock = 0

    def charge_counter(self, pages: int) -> bool:
        if self.usage + pages > self.limit_pages:
            return False
        self.usage += pages
        return True

    def try_charge(self, pages: int) -> bool:
        """The part of try_charge_memcg() before anything is reclaimed."""
        if self.consume_stock(pages):
            return True
        if self.charge_counter(max(64, pages)):
            self.refill_stock(max(64, pages) - pages)
            return True
        return self.consume_stock(pages) or self.charge_counter(pages)

    def charge_page(self) -> None:
        """try_charge_memcg() for one page of a fault."""
        if self.try_charge(1):
            return
        retries = 16
        drained = False
        passed_oom = False
        killed_at = 0
        while True:
            freed = self.do_try_to_free_pages()
            if passed_oom and self.now >= killed_at + 2_000_000_000:
                raise OutOfMemory  # oom_reaper(): MMF_OOM_SKIP
            if self.limit_pages > self.usage:  # mem_cgroup_margin() >= 1
                pass
            elif not drained:
                self.drain_stock()
                self.usage -= self.remote_stock
                self.remote_stock = 0
                drained = True
            elif freed:
                pass
            elif retries:
                retries -= 1
            elif passed_oom:
                raise OutOfMemory
            else:
                passed_oom = True  # the task is killed, and goes round again
                retries = 16
                killed_at = self.now
                if self.updates > 64 * self.case.cpus:
                    self.flush()  # dump_header(): memory_stat_format()
            if self.consume_stock(1) or self.charge_counter(1):
                if passed_oom:
                    self.usage -= 1  # granted, and never touched
                    raise OutOfMemory
                return

    def force_charge(self, pages: int) -> None:
        """Reclaim itself charges (PF_MEMALLOC): over the limit if need be."""
        if not self.try_charge(pages):
            self.usage += pages

    def note_bytes(self, length: int) -> None:
        """obj_cgroup_charge_zswap(): MEMCG_ZSWAP_B is a statistic of the cgroup as well."""
        if self.kernel.counts_bytes and self.charge_pool:
            self.updates += length

    def charge_object(self, length: int) -> None:
        """obj_cgroup_charge(): bytes from the stock of bytes, else whole pages."""
        self.charged += length
        self.note_bytes(length)
        if not self.charge_pool or self.textbook:
            return
        if self.object_stock >= length:
            self.object_stock -= length
            return
        pages = math.ceil(length / PAGE)
        self.force_charge(pages)
        self.object_stock += pages * PAGE - length

    def uncharge_object(self, length: int) -> None:
        """obj_cgroup_uncharge() -> refill_obj_stock(): more than a page of bytes becomes pages."""
        self.charged -= length
        self.note_bytes(length)
        if not self.charge_pool or self.textbook:
            return
        self.object_stock += length
        if self.object_stock > PAGE:
            pages, self.object_stock = divmod(self.object_stock, PAGE)
            self.refill_stock(pages)

    # -- statistics --------------------------------------------------------------------------------

    def flush(self) -> None:
        self.stat = {
            "inactive": self.inactive_size(),
            "active": self.active_size(),
            "activate": self.count["workingset_activate_anon"],
            "stored": self.stored,
            "backing": self.charged,
            "cost": 32 * (self.count["workingset_restore_anon"] + self.written) + self.rotated,
        }
        self.updates = 0

    def inactive_size(self) -> int:
        return len(self.heap) if self.case.reclaim == "opt" else len(self.inactive)

    def active_size(self) -> int:
        return len(self.active)

    def flush_if_due(self) -> None:
        if self.case.flush_times_ns is not None:
            while self.flushes and self.flushes[0] <= self.now:
                self.flushed_at = self.flushes.pop(0)
                self.flush()
        elif self.case.flush_period_ns and self.now >= self.next_flush:
            self.flushed_at = self.next_flush
            self.flush()
            while self.next_flush <= self.now:
                self.next_flush += self.case.flush_period_ns

    # -- swap slots: mm/swapfile.c -----------------------------------------------------------------

    def swap_full(self) -> bool:
        return (self.total_slots - self.slots_used) * 2 < self.total_slots

    def no_slots_left(self) -> bool:
        """With virtual swap there is always a place to name; only the device can be full."""
        return self.slots_used >= self.total_slots and not self.rules.late_slots

    def alloc_slot(self, page: Page) -> bool:
        if self.slots_used >= self.total_slots:
            return False
        self.slots_used += 1
        self.count["swap_slots_peak"] = max(self.count["swap_slots_peak"], self.slots_used)
        if self.slots is None:
            page.slot = self.next_slot
            self.next_slot += 1
        else:
            page.slot = self.slots.alloc()
            self.slot_map[page.slot] = page
        return True

    def free_slot(self, page: Page) -> None:
        self.slots_used -= 1
        if self.slots is not None:
            assert page.slot is not None
            self.slots.free(page.slot)
            del self.slot_map[page.slot]
        page.slot = None

    def free_swap(self, page: Page) -> None:
        """folio_free_swap(): the slot goes, and whatever held its data."""
        if self.kernel.slot_cache and page.slot is not None and not page.linked:
            # free_swap_slot(): 64 at a time, and the entries go with them.
            if len(self.returned) == 64:
                for other in self.returned:
                    if other is not None and other.in_zswap:
                        self.forget_entry(other)
                self.returned = []
            self.returned.append(page)
        elif page.in_zswap or page.linked:
            self.forget_entry(page)
        page.on_device = page.in_zeromap = page.swapcache = False
        if page.slot is not None:
            self.free_slot(page)
        page.dirty = True

    # -- the device --------------------------------------------------------------------------------

    def submit(self, page: Page) -> None:
        """Writes of a scan of the lists, or of a read of neighbours, wait for its end (blk_start_plug()).

        Or until a request begins behind 32 others, or behind a large one: blk_add_rq_to_plug().
        """
        before = self.count["write_requests"]
        self.count_request(page)
        if not self.plugged:
            self.issue(page, by_worker=self.in_worker, joins=False)
            return
        in_holes = self.kernel.slot_clusters and self.slots is None
        if in_holes or self.count["write_requests"] > before or not self.held:
            looked_at = self.held[-1 if self.kernel.plug_by_newest else 0] if self.held else []
            if len(self.held) == 32 or len(looked_at) >= 32:
                request = self.request
                self.unplug()
                self.request = request
            self.held.append([])
        self.held[-1].append(page)

    def count_request(self, page: Page) -> None:
        """What is beside the last request of a plug joins it (blk_attempt_plug_merge())."""
        beside = self.request and page.slot in (min(self.request) - 1, max(self.request) + 1)
        if beside and len(self.request) < 254:  # as many segments as a disk takes
            self.request.append(page.slot)
            return
        self.count["write_requests"] += 1
        self.now += self.costs.request_ns
        if self.plugged:
            self.request = [page.slot]

    def unplug(self) -> None:
        self.request = []
        held, self.held = self.held, []
        if held:
            self.run_queue()
        for request in held:
            for page in request:
                self.issue(page, plugged=True, joins=page is not request[0])

    def issue(
        self, page: Page, *, joins: bool, plugged: bool = False, by_worker: bool = False
    ) -> None:
        """blk_mq_submit_bio(): without a plug it is kblockd's worker that hands the request on."""
        if len(self.writes) >= 256:
            self.count["waits"] += 1
            self.run_queue()
            self.now = self.handed_on = max(self.now, self.writes[0][0])
            self.complete_writes()
        start = max(self.last_write_done, self.now)
        slice_ns = self.kernel.lone_dispatch_ns if self.case.one_cpu else 0
        if slice_ns and not plugged and not by_worker:
            if self.now >= self.handed_on:
                self.in_scheduler = 0
                self.handed_on = max(self.now, self.handed_on + slice_ns)
            joins = joins or self.in_scheduler > 0
            self.in_scheduler += 1
            start = max(start, self.handed_on)
        self.last_write_done = start + self.device_time(joins)
        self.writes.append((self.last_write_done, page, joins))

    def device_time(self, joins: bool) -> int:
        return self.costs.device_write_page_ns if joins else self.costs.device_write_ns

    def run_queue(self) -> None:
        """blk_mq_run_hw_queue(): where a plug ends, and where a task sleeps and the worker runs."""
        late = self.writes[-self.in_scheduler :] if self.in_scheduler else []
        self.in_scheduler = 0
        if not late or self.now >= self.handed_on:
            return
        early = self.writes[: len(self.writes) - len(late)]
        done = max([self.now, *(at for at, _, _ in early[-1:])])
        self.writes = early
        for _, page, joins in late:
            done += self.device_time(joins)
            self.writes.append((done, page, joins))
        self.last_write_done = done

    def wait_for_writeback(self, page: Page) -> None:
        """Whoever sleeps unplugs, and lets kblockd's worker run."""
        self.unplug()
        self.run_queue()
        while page.writeback:
            self.now = max(self.now, self.writes[0][0])
            self.complete_writes()
        self.handed_on = self.now

    def complete_writes(self) -> None:
        while self.writes and self.writes[0][0] <= self.now:
            _, page, _ = self.writes.pop(0)
            page.writeback = False
            rotate = page.reclaim and page.on_lru
            page.reclaim = False
            if rotate:
                self.rotate(page)

    def rotate(self, page: Page) -> None:
        """folio_rotate_reclaimable()."""
        (self.active if page.active else self.inactive).remove(page)
        page.active = False
        self.inactive.append(page)

    # -- zswap: mm/zswap.c ---------------------------------------------------------------------------

    def forget_entry(self, page: Page) -> None:
        if page in self.fifo:
            self.fifo.remove(page)
        if page.linked:
            page.linked = False
            return
        page.in_zswap = False
        if page.length:
            self.pool.free(page.handle, page.length)
            self.uncharge_object(page.length)
        self.seen_pool = self.pool.pages
        page.raw = page.zswap_referenced = False
        page.length = 0
        page.handle = None

    def raw_count(self) -> int:
        return sum(page.raw for page in self.pages.values())

    def reached_limit(self) -> tuple[bool, bool]:
        """Return (refuse, wake the worker)."""
        pool = self.pool_pages
        if self.kernel.strict_limit:
            # zswap_update_total_size() is called where an entry is stored or freed, not where the
            # worker frees a page after that.
            pool = self.seen_pool + self.linked_count
            if pool > self.pool_limit:
                self.count["pool_limit_hit"] += 1
                self.full = True
                return True, True
            if self.full and pool >= self.accept_pages:
                return True, False
            self.full = False
            return False, False
        if pool >= self.pool_limit:
            self.count["pool_limit_hit"] += 1
            self.full = True
        elif self.full and pool <= self.accept_pages:
            self.full = False
        return self.full, self.full

    def wake_worker(self) -> None:
        if not self.rules.writeback:
            return
        if self.worker_on:
            # queue_work() while it runs: once more
            self.worker_pending = self.worker_running and not self.case.one_cpu
            return
        self.worker_on = True
        self.worker_running = self.worker_pending = False
        self.worker_failures = 0
        self.batch_left = self.batch_written = 0
        # On the only CPU the thread that woke it yields to it at the next page.
        self.worker_time = self.now + (self.kernel.lone_worker_ns if self.case.one_cpu else 21_000)

    def zswap_store(self, page: Page) -> str:
        """Return stored, refused, keep, or link."""
        if self.worker_on:
            self.run_worker()
        if self.kernel.strict_limit and page.in_zswap:
            self.forget_entry(page)  # __frontswap_store(): a dup goes first
        refused = "keep" if self.rules.full == "keep" else "refused"
        most = self.case.zswap_max_pages if self.case.cgroup == "v2" else None
        if self.rules.synchronous:  # a block device: zswap never sees its pages
            most = None
        if most is not None:
            if most > 0:
                self.flush()
            if self.charged // PAGE >= most:
                shrunk = False
                if self.kernel.second_chance and self.rules.writeback:
                    shrunk = self.walk_batch()
                if not shrunk:
                    if self.full and not self.kernel.strict_limit:
                        self.wake_worker()
                    return refused
        full, wake = self.reached_limit()
        if wake:
            self.wake_worker()
        if full:
            return refused
        return self.compress(page)

    def compress(self, page: Page) -> str:
        same_filled = self.kernel.same_filled or self.rules.synchronous
        if same_filled and (page.zero or page.same):
            length, raw = 0, False
        else:
            length, raw = page.compressed, False
            if length >= self.rules.cutoff:
                if self.rules.incompressible != "raw":
                    self.now += self.costs.reject_ns
                    if self.rules.incompressible == "link":
                        return "link"
                    if self.kernel.poor_counter:
                        self.count[self.kernel.poor_counter] += 1
                    return "keep" if self.rules.incompressible == "keep" else "refused"
                length, raw = PAGE, True
        if length:
            handle = self.pool.alloc(length, page)
            if handle is None:
                self.now += self.costs.reject_ns
                self.count["reject_compress_poor"] += 1
                return "keep" if self.rules.incompressible == "keep" else "refused"
            page.handle = handle
            page.zswap_referenced = True
            self.charge_object(length)
            self.fifo.insert(0, page)
        page.in_zswap, page.length, page.raw = True, length, raw
        self.seen_pool = self.pool.pages
        self.count["zswpout"] += 1
        self.count["stored_incompressible_pages"] = max(
            self.count["stored_incompressible_pages"], self.raw_count()
        )
        self.now += self.costs.raw_copy_ns if raw else self.costs.store_ns
        return "stored"

    def walk_one(self) -> bool:
        """shrink_memcg_cb() on the oldest entry: a second chance, or writeback."""
        if not self.fifo:
            return False
        page = self.fifo.pop()
        self.fifo.insert(0, page)
        if self.kernel.second_chance and page.zswap_referenced:
            page.zswap_referenced = False
            return False
        return self.write_back(page)

    def walk_batch(self) -> bool:
        """shrink_memcg(): True where any was written back."""
        written = 0
        for _ in range(self.kernel.walk_batch):
            alone = len(self.fifo) == 1
            if self.walk_one():
                written += 1
            elif alone:
                break
        return written > 0

    def write_back(self, page: Page) -> bool:
        """zswap_writeback_entry(). Unlike the kernel, charging its page never reclaims."""
        # 6.1 counts runs of the worker that freed nothing.
        per_entry = not self.kernel.worker_whole_page
        if page.resident and not page.linked:
            self.count["reject_reclaim_fail"] += per_entry
            self.met_swap_cache = True
            return False
        if page is self.incoming:
            self.count["reject_reclaim_fail"] += per_entry
            return False
        if self.rules.late_slots and page.slot is None and not self.alloc_slot(page):
            return False
        if self.kept and self.kept[-1].shadow_age < page.shadow_age:
            self.count["lru_inversions"] += 1
        self.count["zswpwb"] += 1
        self.count["pswpout"] += 1
        page.on_device = True
        self.note_device()
        self.now += self.costs.submit_ns
        if page.linked:
            self.forget_entry(page)
            page.dirty = False
            self.count_request(page)
            self.free_page(page)
            return True
        self.now += self.costs.load_ns
        if not self.in_worker:
            self.now += self.costs.writeback_ns
        if self.textbook or self.rules.synchronous:
            if not self.rules.synchronous:
                self.count_request(page)
            self.forget_entry(page)
            return True
        # __read_swap_cache_async() first, the entry goes once its data stands in the new page.
        self.force_charge(1)
        self.updates += 7
        page.resident = page.swapcache = page.writeback = page.reclaim = True
        page.mapped = page.young = page.pte_dirty = page.dirty = False
        self.complete_writes()
        self.workingset_refault(page)
        self.add_written_back(page)
        self.forget_entry(page)
        self.submit(page)
        return True

    def add_written_back(self, page: Page) -> None:
        self.folio_add_lru(page)

    def note_device(self) -> None:
        self.count["device_pages_peak"] = max(self.count["device_pages_peak"], self.device_pages)

    def run_worker(self) -> None:
        self.in_worker = True
        self.walk_and_write()
        self.in_worker = False

    def walk_and_write(self) -> None:
        """shrink_worker(), on a CPU of its own, as far as it came by now.

        A batch costs 1 us; an entry written back also the reclaim of one page for its copy.
        """
        if self.worker_on and self.kernel.worker_whole_page and self.worker_time <= self.now:
            self.worker_on = False
            here = self.now
            if not self.zpool_shrink():
                self.count["reject_reclaim_fail"] += 1
            self.now = here
        while self.worker_on and self.worker_time <= self.now:
            if not self.fifo:
                self.worker_on = False
                return
            self.worker_running = True
            here, self.now = self.now, self.worker_time
            begins = not self.batch_left
            if begins:
                self.batch_left, self.batch_written = self.kernel.walk_batch, 0
            self.batch_left -= 1
            alone = len(self.fifo) == 1
            if self.walk_one():
                self.batch_written += 1
                self.now += self.costs.scan_ns + self.costs.store_ns
            elif alone:
                self.batch_left = 0
            took = self.now + 1_000 * begins - self.worker_time
            in_turns = self.case.one_cpu and self.kernel.yields
            self.worker_time += 2 * took if in_turns else took
            self.now = here
            if self.batch_left:
                continue
            self.worker_failures += not self.batch_written
            if self.pool_pages <= self.accept_pages or self.worker_failures == 16:
                self.worker_on, self.worker_pending = self.worker_pending, False
                self.worker_failures = 0

    def zpool_shrink(self) -> bool:
        """v6.1 shrink_worker(): one page of the allocator, eight are tried."""
        if not self.pool_can_write_back:
            return False
        for _ in range(8):
            if isinstance(self.pool, Ideal):
                if self.walk_one():
                    return True
                continue
            objects = self.pool.claim()
            if not objects:
                return False
            for page in objects:
                if not self.write_back(page):
                    break
            if self.pool.unclaim():
                return True
        return False

    def shrink_slab(self, priority: int) -> None:
        """do_shrink_slab() with zswap_shrinker_count() and zswap_shrinker_scan()."""
        if not self.rules.writeback:
            return
        if self.kernel.shrinker_flushes and self.updates > 64 * self.case.cpus:
            self.flush()
        if not self.charge_pool or not self.stat["stored"] or not self.fifo:
            return
        freeable = len(self.fifo)
        used = min(freeable, self.disk_swapins)
        self.disk_swapins -= used
        freeable -= used
        freeable = freeable * (self.stat["backing"] // PAGE) // self.stat["stored"]
        if not freeable:
            return
        delta = (freeable >> priority) * 4 // 2
        total = min((self.deferred >> priority) + delta, 2 * freeable)
        scanned = 0
        while total >= 128 or total >= freeable:
            step = min(128, total)
            if not self.shrinker_scan(step):
                break
            total -= step
            scanned += step
        self.deferred = min(max(self.deferred + delta - scanned, 0), 2 * freeable)

    def shrinker_scan(self, count: int) -> bool:
        """list_lru_shrink_walk(): False is SHRINK_STOP."""
        freed = 0
        for _ in range(count):
            if not self.fifo:
                break
            alone = len(self.fifo) == 1
            self.met_swap_cache = False
            if self.walk_one():
                freed += 1
            elif self.met_swap_cache:
                return False
            elif alone:
                break  # rotating the only entry ends the walk of the list
        return freed > 0

    # -- LRU lists: mm/swap.c, mm/workingset.c -------------------------------------------------------

    def folio_add_lru(self, page: Page) -> None:
        if self.case.reclaim == "lru":
            self.inactive.insert(0, page)
            return
        if self.case.reclaim == "opt":
            self.heap.append(page)
            return
        self.pending.append(page)
        if len(self.pending) >= self.kernel.add_batch:
            self.lru_add_drain()

    def lru_add_drain(self) -> None:
        for page in self.pending:
            (self.active if page.active else self.inactive).insert(0, page)
            page.on_lru = True
        self.pending = []

    def note_cost(self, cost: int) -> None:
        if self.kernel.cost_by_statistics:
            return
        self.anon_cost += cost
        if self.anon_cost > (self.stat["inactive"] + self.stat["active"]) // 4:
            self.anon_cost //= 2

    def workingset_refault(self, page: Page) -> None:
        self.count["workingset_refault_anon"] += 1
        if self.textbook:
            return
        was_workingset = page.workingset
        page.workingset = page.active = page.referenced = False
        size = 0 if self.no_slots_left() else self.stat["active"]
        if self.age - page.shadow_age > size:
            return
        page.active = True
        self.age += 1
        self.count["workingset_activate_anon"] += 1
        if was_workingset:
            page.workingset = True
            self.count["workingset_restore_anon"] += 1
            self.note_cost(1 if self.kernel.cost_by_pageouts else 32)

    # -- taking a page out: mm/vmscan.c shrink_folio_list() ------------------------------------------

    def free_page(self, page: Page) -> None:
        page.resident = page.mapped = page.young = page.pte_dirty = page.read_only = False
        page.swapcache = page.active = page.referenced = page.reclaim = page.on_lru = False
        page.never_mapped = False
        page.shadow_age = self.age
        self.age += 1
        self.updates += 8
        self.usage -= 1

    def evict(self, page: Page) -> str:
        """Return freed, activate, keep, writing, or linked."""
        if not page.swapcache:
            if self.kernel.slot_cache:
                self.returned = [None if other is page else other for other in self.returned]
                if page.in_zswap:
                    self.forget_entry(page)
            # Virtual swap names a page without a place on the device.
            if page.slot is None and not self.rules.late_slots and not self.alloc_slot(page):
                return "activate"
            page.swapcache = page.dirty = True
            if self.slots_used == self.total_slots and not self.rules.late_slots:
                # swap_reclaim_full_clusters(): what only the swap cache holds; oldest page first
                for number in sorted(self.pages):
                    other = self.pages[number]
                    if (
                        other is not page
                        and other.swapcache
                        and other.mapped
                        and not other.writeback
                        and other.slot is not None
                    ):
                        self.free_swap(other)
        if page.pte_dirty:
            page.dirty = True
            page.reclaim = False  # folio_mark_dirty()
        page.mapped = page.young = page.pte_dirty = page.read_only = False
        self.forget_kept(page)
        if any(other is page for other in self.batch):
            return "keep"  # pageout(), __remove_mapping(): somebody has a reference
        if not page.dirty:
            return "freed"
        if page.never_mapped and self.kernel.mapped_only:
            return "activate"  # pageout(): folio_test_anon() asks folio->mapping, which rmap sets
        page.dirty = False
        if page.zero and self.kernel.zeromap:
            page.in_zeromap = True
            self.release_late_slot(page)
            self.count["swpout_zero"] += 1
            self.pageouts += 1
            self.now += self.costs.zero_ns
            return "freed"
        if self.rules.zswap:
            answer = self.zswap_store(page)
            if answer == "stored":
                self.pageouts += 1
                page.on_device = False
                self.release_late_slot(page)
                return "freed"
            if page.in_zswap:
                self.forget_entry(page)
            if answer == "link":
                page.linked = page.dirty = True
                page.shadow_age = self.age
                self.fifo.insert(0, page)
                return "linked"
            if answer == "keep":
                return self.keep(page)
        if not self.can_write_device:
            return self.keep(page)
        if page.slot is None and not self.alloc_slot(page):
            return self.keep(page)
        self.pageouts += 1
        if self.fifo:
            self.count["lru_inversions"] += 1
        page.on_device = True
        self.note_device()
        self.count["pswpout"] += 1
        self.now += self.costs.submit_ns
        if self.textbook or self.rules.synchronous:
            if not self.rules.synchronous:
                self.count_request(page)
            return "freed"
        page.writeback = page.reclaim = True
        self.submit(page)
        return "writing"

    def release_late_slot(self, page: Page) -> None:
        if self.rules.late_slots and page.slot is not None:
            self.free_slot(page)

    def keep(self, page: Page) -> str:
        page.kept = page.dirty = True
        page.shadow_age = self.age
        self.kept.insert(0, page)
        return "activate"

    def forget_kept(self, page: Page) -> None:
        if page.kept:
            self.kept.remove(page)
            page.kept = False

    # -- the two lists: mm/vmscan.c --------------------------------------------------------------------

    def inactive_is_low(self) -> bool:
        gib = (self.stat["inactive"] + self.stat["active"]) >> 18
        ratio = math.isqrt(10 * gib) if gib else 1
        return self.stat["inactive"] * ratio < self.stat["active"]

    def shrink_active_list(self, count: int) -> None:
        self.lru_add_drain()
        for _ in range(min(count, len(self.active))):
            page = self.active.pop()
            page.young = page.active = False
            page.workingset = True
            self.inactive.insert(0, page)
            self.count["pgdeactivate"] += 1
            self.updates += 4
            self.now += self.costs.scan_ns

    def shrink_inactive_list(self, count: int) -> int:
        self.complete_writes()  # by interrupt: what still waits in the batch is not rotated
        self.lru_add_drain()
        taken = [self.inactive.pop() for _ in range(min(count, len(self.inactive)))]
        if not taken:
            return 0
        for page in taken:
            page.on_lru = False
        self.count["reclaim_scanned"] += len(taken)
        self.updates += 3 * len(taken)
        self.pageouts = 0
        freed = 0
        staying = []
        for page in taken:
            self.now += self.costs.scan_ns
            fate = self.shrink_folio(page)
            if fate == "freed":
                self.free_page(page)
                freed += 1
            elif fate != "linked":
                staying.append((page, fate))
        for page, _ in staying:
            page.on_lru = True
            if page.active:
                self.active.insert(0, page)
                self.age += 1
            else:
                self.inactive.insert(0, page)
        self.written += self.pageouts
        self.rotated += len(taken) - freed
        if self.kernel.cost_by_pageouts:
            self.note_cost(self.pageouts)
        else:
            self.note_cost(32 * self.pageouts + len(taken) - freed)
        return freed

    def shrink_folio(self, page: Page) -> str:
        if page.writeback:
            if self.case.cgroup == "v2" or not page.reclaim:
                page.reclaim = True
                return self.activate(page)
            self.count["waits"] += 1
            self.wait_for_writeback(page)
        young, page.young = page.young, False
        referenced, page.referenced = page.referenced, False
        if young:
            page.referenced = True
            return self.activate(page) if referenced else "keep"
        fate = self.evict(page)
        return self.activate(page) if fate == "activate" else fate

    def activate(self, page: Page) -> str:
        # folio_free_swap() refuses while a page table still names the slot: only a mapped page
        # loses its slot here, and none under writeback.
        if page.swapcache and page.mapped and not page.writeback and self.swap_full():
            self.free_swap(page)
        page.active = True
        self.count["pgactivate"] += 1
        return "activate"

    def shrink_lruvec(self, priority: int) -> int:
        if self.kernel.cost_by_statistics:  # prepare_scan_control()
            self.anon_cost += self.stat["cost"] - self.costed
            self.costed = self.stat["cost"]
            while self.anon_cost > (self.stat["inactive"] + self.stat["active"]) // 4:
                self.anon_cost //= 2
        may_deactivate = (
            self.force_deactivate
            or self.stat["activate"] != self.snapshot
            or self.inactive_is_low()
        )
        inactive = len(self.inactive) >> priority
        active = len(self.active) >> priority
        swappiness = self.case.swappiness
        if swappiness == 0 or self.no_slots_left():
            inactive = active = 0
        elif priority > 0:
            anon = 2 * self.anon_cost
            file = self.anon_cost
            share = swappiness * (anon + file + 1) // (anon + 1)
            whole = share + (200 - swappiness) * (anon + file + 1) // (file + 1)
            inactive = inactive * share // whole
            active = active * share // whole
        freed = 0
        plugged_before = self.plugged
        self.plugged = True
        while inactive:
            step = min(inactive, 32)
            inactive -= step
            freed += self.shrink_inactive_list(step)
            if active:
                step = min(active, 32)
                active -= step
                if may_deactivate:
                    self.shrink_active_list(step)
                else:
                    self.skipped_deactivate = True
            if freed >= 32:
                break
        if not plugged_before:
            self.plugged = False
            self.unplug()
        self.flush_if_due()
        if self.inactive_is_low() and self.total_slots > 0:
            self.shrink_active_list(32)
        return freed

    def do_try_to_free_pages(self) -> int:
        before, pool_before = self.charged_bytes(), self.charged
        self.force_deactivate = self.skipped_deactivate = False
        walked = False
        freed = 0
        while True:
            for priority in range(12, -1, -1):
                self.flush_if_due()
                exact = self.case.flush_times_ns is None and self.case.flush_period_ns == 0
                due = self.updates > 64 * (self.case.cpus + 1)
                if exact or (self.kernel.flush_at_reclaim and due):
                    self.flush()
                self.now += 300  # a level takes this time even where it finds nothing
                freed += self.shrink_lruvec(priority)
                if self.rules.shrinker:
                    self.shrink_slab(priority)
                if freed >= 32:
                    break
            self.flush_if_due()
            self.snapshot = self.stat["activate"]
            if freed:
                break
            if self.kernel.full_walk_retry and not walked:
                walked = True
            elif self.skipped_deactivate:
                self.force_deactivate, self.skipped_deactivate = True, False
            else:
                break
        self.note_reclaim(freed, before, pool_before)
        return freed

    def note_reclaim(self, freed: int, before: int, pool_before: int) -> None:
        self.count["reclaim_runs"] += 1
        self.count["reclaim_freed_pages"] += freed
        self.count["reclaim_failures"] += freed == 0
        if self.charge_pool:
            self.count["reclaim_pool_growth_bytes"] += max(self.charged - pool_before, 0)
        self.count["reclaim_no_gain_runs"] += self.charged_bytes() >= before

    # -- the textbook models -----------------------------------------------------------------------------

    def take_victim(self) -> Page | None:
        if self.case.reclaim == "lru":
            return self.inactive.pop() if self.inactive else None
        if not self.heap:
            return None
        victim = max(self.heap, key=lambda page: page.next_use)
        self.heap.remove(victim)
        # Kept pages come last, the one kept longest ago first.
        victim.next_use = -self.count["reclaim_scanned"] - 1
        return victim

    def make_textbook_room(self) -> None:
        def room() -> bool:
            return self.charged_bytes() + PAGE <= self.limit_bytes

        if room():
            return
        before, pool_before = self.charged_bytes(), self.charged
        freed = 0
        found = False
        for _ in range(self.resident_count):
            victim = self.take_victim()
            if victim is None:
                break
            self.count["reclaim_scanned"] += 1
            self.now += self.costs.scan_ns
            fate = self.evict(victim)
            if fate == "activate":
                self.count["pgactivate"] += 1
                self.folio_add_lru(victim)
            elif fate == "freed":
                self.free_page(victim)
                freed += 1
            if self.rules.shrinker:
                self.shrink_slab(12)
            if room():
                found = True
                break
        self.note_reclaim(freed, before, pool_before)
        if not found:
            raise OutOfMemory

    def charge_for(self, page: Page) -> None:
        if self.textbook:
            self.make_textbook_room()
            return
        if not page.seen:
            for _ in range(page.new_tables):
                self.charge_page()
                self.tables += 1
        self.charge_page()

    # -- faults: mm/memory.c do_swap_page() ------------------------------------------------------------

    def read_page(self, page: Page) -> None:
        """swap_read_folio()."""
        if page.in_zeromap:
            self.count["swpin_zero"] += 1
            self.now += self.costs.zero_ns
        elif page.in_zswap:
            self.count["zswpin"] += 1
            self.now += self.costs.raw_copy_ns if page.raw else self.costs.load_ns
            if self.kernel.exclusive_loads:
                page.dirty = True
                self.forget_entry(page)
        else:
            assert page.on_device
            self.count["pswpin"] += 1
            self.disk_swapins += 1
            if not self.plugged:
                self.run_queue()
            self.now += self.costs.device_read_ns
            self.handed_on = self.now
            if self.worker_on and self.case.one_cpu:
                # It runs alone while the task sleeps.
                self.worker_time -= max(self.costs.device_read_ns - self.costs.submit_ns, 0)

    def bring_in(self, page: Page) -> None:
        """__read_swap_cache_async(): nobody else can bring a page in while it is charged for."""
        if page.resident:
            return
        self.incoming = page
        requests = self.count["write_requests"]
        try:
            self.charge_for(page)
        finally:
            self.incoming = None
        requests, reads = self.count["write_requests"] - requests, self.count["pswpin"]
        self.read_page(page)
        if requests and self.count["pswpin"] > reads:
            self.now += self.costs.behind_ns
            self.complete_writes()
        page.resident = page.swapcache = page.never_mapped = True
        self.workingset_refault(page)
        self.folio_add_lru(page)

    def window(self, beside: bool) -> int:
        """__swapin_nr_pages()."""
        hits, self.ra_hits = self.ra_hits, 0
        if hits == 0:
            count = 2 if beside else 1
        else:
            count = 4
            while count < hits + 2:
                count *= 2
        count = max(min(count, self.ra_max), self.ra_window // 2)
        self.ra_window = count
        return count

    def around(self, page: Page) -> Iterable[Page]:
        """Pages to read with one, in ascending order; only itself where nothing is read ahead."""
        if self.case.vma_readahead:
            before, self.ra_before = self.ra_before, page.number
            following = before is not None and page.number == before + 1
            preceding = before is not None and page.number == before - 1
            count = self.window(following or preceding)
            if following:
                first = page.number
            elif preceding:
                first = page.number - count + 1
            else:
                first = page.number - (count - 1) // 2
            # Unlike the kernel, which skips them, a page never touched ends the window.
            low = high = page.number
            while low > first and low % 512 and self.touched(low - 1):
                low -= 1
            while high + 1 < first + count and (high + 1) % 512 and self.touched(high + 1):
                high += 1
            return [self.pages[number] for number in range(low, high + 1)]
        assert page.slot is not None
        hits = self.ra_hits
        beside = abs(page.slot - (self.ra_before or 0)) == 1
        count = self.window(beside)
        if not hits:
            self.ra_before = page.slot
        if count == 1:
            return [page]
        first = page.slot // count * count
        slots = range(first, first + count)
        # Looked up one by one: what is evicted while others are read may stand here by then.
        return (self.slot_map[slot] for slot in slots if slot in self.slot_map)

    def touched(self, number: int) -> bool:
        return number in self.pages and self.pages[number].seen

    def swap_in(self, page: Page) -> None:
        if self.ra_max == 1:
            self.bring_in(page)
            return
        if page.slot is None and not self.case.vma_readahead:
            # Virtual swap holds it in memory: nothing beside it on the device.
            self.bring_in(page)
            return
        ahead = self.around(page)
        alone = self.ra_window == 1
        reads = self.count["pswpin"]
        if not alone:
            self.plugged = True
        for other in [] if alone else ahead:
            if other is page:
                self.bring_in(page)
            elif not other.resident and (other.in_zswap or other.on_device or other.in_zeromap):
                self.bring_in(other)
                other.reclaim = True  # PG_readahead is the same bit
                self.count["swap_ra"] += 1
        if not alone:
            self.plugged = False
            self.unplug()
            if self.count["pswpin"] > reads:
                self.run_queue()
                self.handed_on = self.now
        if not alone and self.kernel.swapin_drains:
            self.lru_add_drain()
        if not page.resident:
            self.bring_in(page)  # read alone, or reclaimed again meanwhile

    def map_page(self, page: Page, write: bool) -> None:
        in_batch = page in self.pending and self.kernel.swapin_drains
        if write and in_batch and not self.rules.synchronous:
            self.lru_add_drain()  # to see whether anybody else holds the page
        page.mapped = page.young = True
        page.never_mapped = False
        page.pte_dirty = write
        page.read_only = not write and not self.kernel.map_writable
        if (write or self.rules.synchronous or self.swap_full()) and not page.writeback:
            self.free_swap(page)

    def touch(self, page: Page, access: Access) -> None:
        if self.case.reclaim == "lru":
            self.inactive.remove(page)
            self.inactive.insert(0, page)
        page.next_use = access.next_use

    def access(self, row: int, access: Access) -> None:
        page = self.pages[access.page]
        self.count["accesses"] += 1
        if page.mapped and not (access.write and page.read_only):
            page.young = True
            page.pte_dirty = page.pte_dirty or access.write
            self.touch(page, access)
            return
        time = access.time_ns if access.time_ns is not None else row * self.case.touch_ns
        self.now = time + self.lead
        began = self.now
        self.flush_if_due()
        self.complete_writes()
        if self.kernel.woken_goes_first and self.case.one_cpu and not self.worker_running:
            self.worker_time = min(self.worker_time, self.now)
        self.run_worker()
        try:
            self.fault(page, access)
        except OutOfMemory:
            self.count["oom_events"] += 1
            self.count["accesses"] -= 1
            self.oom_at = row
            raise
        self.note_peaks()
        taken = self.now - began
        if not self.case.clock_has_stalls:
            self.lead += taken
        elif not self.count["pool_limit_hit"]:
            self.last_write_done -= taken
            self.handed_on -= taken
            self.writes = [(done - taken, page, joins) for done, page, joins in self.writes]

    def fault(self, page: Page, access: Access) -> None:
        if page.mapped:  # v6.1 do_wp_page(): PageAnonExclusive, reuse it with its slot
            self.now += self.costs.minor_fault_ns
            self.count["minor_faults"] += 1
            page.read_only = False
            page.young = page.pte_dirty = True
        elif page.resident:
            self.updates += 3
            self.now += self.costs.minor_fault_ns
            self.count["minor_faults"] += 1
            self.forget_kept(page)
            if page.linked:
                self.forget_entry(page)
                self.folio_add_lru(page)
            if page.reclaim:
                page.reclaim = False
                self.count["swap_ra_hit"] += 1
                self.ra_hits += 1
            if self.case.vma_readahead:
                self.ra_before = page.number
            self.map_page(page, access.write)
        elif not page.seen:
            self.charge_for(page)
            self.updates += 4
            self.now += self.costs.minor_fault_ns
            self.count["minor_faults"] += 1
            self.count["unique_pages"] += 1
            page.seen = page.resident = page.mapped = page.young = page.pte_dirty = True
            self.folio_add_lru(page)
        else:
            self.count["pgmajfault"] += 1
            self.updates += 10
            self.now += self.costs.major_fault_ns
            self.swap_in(page)
            self.map_page(page, access.write)
        self.touch(page, access)

    def run(self, accesses: list[Access]) -> bool:
        """Replay; False where the kernel would have killed the task."""
        for row, access in enumerate(accesses):
            try:
                self.access(row, access)
            except OutOfMemory:
                return False
        return True


# ---- generations ---------------------------------------------------------------------------------------


class Generations(Oracle):
    """The multi-generational LRU: mm/vmscan.c, what begins with lru_gen_, as of v6.1, v6.12, v6.14.

    A generation has a number; its list is one of four, and a page carries which. Unlike the kernel:
    see tracereplay's own list of what it leaves out; this twin leaves out the same.
    """

    def __init__(self, case: Case, contents: dict[int, dict[str, Any]]) -> None:
        super().__init__(case, contents)
        self.version = self.kernel.generations
        self.lists: list[list[Page]] = [[], [], [], []]
        self.youngest = 3
        self.oldest = 0
        self.file_oldest = 0
        self.began: dict[int, int] = {}  # age at which a generation became the oldest
        self.walks = 0
        self.walked_at = 0
        self.slept_by_walk = self.scanned_by_walk = 0
        self.notified_at = -(1 << 40)
        self.was_notified = False
        self.filters: list[set[int] | None] = [None, None]
        self.looked_up: set[int] = set()  # page tables whose own entry is accessed
        self.have_walk = False
        # By tier: accessed once or never, twice (7.2), of the working set.
        self.tiers = [dict.fromkeys(("evicted", "refaulted", "protected"), 0) for _ in range(3)]
        self.averages = [{"refaulted": 0, "total": 0} for _ in range(3)]

    # -- sizes -------------------------------------------------------------------------------------

    def size(self, seq: int) -> int:
        return sum(page.gen == seq % 4 for page in self.pages.values())

    def active_size(self) -> int:
        return self.size(self.youngest) + self.size(self.youngest - 1)

    def inactive_size(self) -> int:
        return self.size(self.youngest - 2) + self.size(self.youngest - 3)

    # -- joining and leaving -------------------------------------------------------------------------

    def seq_for(self, page: Page, rotated: bool) -> int:
        fresh = not page.swapcache
        going = page.reclaim and (page.dirty or page.writeback)
        if self.version >= 3:
            if page.active:
                back = 1 if page.workingset else 2
            elif rotated:
                back = 4
            elif fresh or going:
                back = 2
            else:
                spared = page.workingset or (self.version == 4 and page.referenced)
                back = 3 if spared else 4
            return max(self.oldest, self.youngest + 1 - back)
        if page.active:
            return self.youngest
        if fresh or going:
            return self.youngest - 1
        few = self.youngest - self.oldest <= 2
        return self.oldest if rotated or few else self.oldest + 1

    def join(self, page: Page, rotated: bool = False) -> None:
        seq = self.seq_for(page, rotated)
        if page.active and self.version == 2:
            page.referenced = False
        page.active = False
        page.gen = seq % 4
        page.on_lru = True
        self.lists[page.gen].insert(len(self.lists[page.gen]) if rotated else 0, page)

    def unlist(self, page: Page) -> None:
        """A page found accessed by a walk has the number of one list and stands on another."""
        for listed in self.lists:
            if page in listed:
                listed.remove(page)

    def leave(self, page: Page) -> None:
        self.unlist(page)
        page.gen = None
        page.on_lru = False

    def rotate(self, page: Page) -> None:
        self.leave(page)
        self.join(page, rotated=True)

    def free_page(self, page: Page) -> None:
        super().free_page(page)
        page.gen = None

    def add_batch(self) -> None:
        for page in self.pending:
            self.join(page)
        self.pending = []

    def lru_add_drain(self) -> None:
        self.add_batch()
        self.activate_batch()

    def folio_add_lru(self, page: Page) -> None:
        if self.version == 4 and not page.workingset:
            page.referenced = True
        else:
            page.active = True
        self.add_quietly(page)

    def tier(self, page: Page) -> int:
        """lru_tier_from_refs(), folio_lru_refs()."""
        if page.workingset:
            return 2
        return 1 if self.version == 4 and page.referenced and page.again else 0

    def add_quietly(self, page: Page) -> None:
        self.pending.append(page)
        if len(self.pending) >= self.kernel.add_batch:
            self.add_batch()

    def add_written_back(self, page: Page) -> None:
        self.add_quietly(page)  # PF_MEMALLOC, or not in a fault

    def workingset_refault(self, page: Page) -> None:
        was_workingset, was_twice, page.again = page.workingset, page.again > 0, 0
        page.workingset = page.active = page.referenced = False
        since = self.youngest - 3 if self.version >= 3 else self.oldest
        recent = page.shadow_age >= self.began.get(since, 0)
        if recent or self.version > 1:
            self.count["workingset_refault_anon"] += 1
        if not recent:
            return
        in_fault = not self.in_worker
        if self.version == 2 or (
            in_fault and (self.version == 3 or (self.version == 4 and was_workingset))
        ):
            self.count["workingset_activate_anon"] += 1
        if self.version >= 3:
            self.tiers[2 if was_workingset else int(was_twice)]["refaulted"] += 1
            page.workingset = was_workingset
            self.count["workingset_restore_anon"] += was_workingset
        elif not self.in_worker:
            page.workingset = True
            self.count["workingset_restore_anon"] += 1

    def touch(self, page: Page, access: Access) -> None:
        super().touch(page, access)
        self.looked_up.add(page.number // 512)

    # -- promotion -----------------------------------------------------------------------------------

    def second_access(self, page: Page) -> bool:
        """lru_gen_set_refs() (6.14); from 7.2 on the third makes it one of the working set."""
        if not page.referenced and not page.workingset:
            page.referenced = True
            return False
        if self.version == 4 and not page.referenced:
            page.referenced = True
        elif self.version == 4 and not page.again:
            page.again = 1
        else:
            page.referenced, page.again, page.workingset = False, 0, True
        return True

    def promote(self, page: Page) -> None:
        """folio_update_gen()."""
        if self.version >= 3:
            if not page.referenced and not page.workingset:
                page.referenced = True
            elif page.gen is not None:
                page.referenced, page.again, page.workingset = False, 0, True
                page.gen = self.youngest % 4
        elif page.gen is None:
            page.referenced = True
        else:
            page.referenced = page.workingset = False
            page.gen = self.youngest % 4

    def activate_batch(self) -> None:
        for page in self.batch:
            if page.gen is not None:
                self.leave(page)
                page.active = True
                self.join(page)
                self.count["pgactivate"] += 1
        self.batch = []

    def folio_activate(self, page: Page) -> None:
        self.batch.append(page)
        if len(self.batch) >= self.kernel.add_batch:
            self.activate_batch()

    def note_table(self, table: int, seq: int) -> None:
        chosen = self.filters[seq % 2]
        if chosen is not None:
            chosen.add(table)

    def accessed(self, numbers: Iterable[int]) -> list[Page]:
        """Pages with an accessed entry, which is cleared; 6.14 leaves isolated ones alone."""
        found = []
        for number in numbers:
            page = self.pages.get(number)
            if page is None or not page.mapped or not page.young:
                continue
            if self.version >= 3 and page.gen is None:
                continue
            page.young = False
            found.append(page)
        return found

    def look_around(self, page: Page) -> None:
        """lru_gen_look_around(). In 6.1 the page itself is one of those it comes by."""
        if self.version > 1:
            page.young = False
        table, at = divmod(page.number, 512)
        first = min(max(at - 32, 0), 512 - 64) + table * 512
        found = self.accessed(range(first, first + 64))
        marked = []
        for other in found:
            if self.version >= 3 and self.have_walk:
                self.promote(other)
            elif self.version >= 3:
                if self.second_access(other) and other.gen != self.youngest % 4:
                    self.folio_activate(other)
            elif other.gen is None:
                other.referenced = True
            elif other.gen != self.youngest % 4:
                if self.version == 1:
                    marked.append(other)
                else:
                    other.referenced = other.workingset = False
                    self.folio_activate(other)
        if (len(found) + (self.version > 1)) * 8 >= 64:
            self.note_table(table, self.youngest)
        by_number = self.have_walk or len(marked) >= self.kernel.add_batch
        for other in marked:
            if by_number:
                self.promote(other)
            else:
                self.folio_activate(other)

    # -- aging -----------------------------------------------------------------------------------------

    def was_switched_to(self) -> bool:
        """Whether the task slept, or others ran in its place, since the last walk."""
        tick = 4_000_000
        if self.count["pswpin"] + self.count["waits"] != self.slept_by_walk or self.was_notified:
            return True
        if self.count["reclaim_scanned"] - self.scanned_by_walk >= 512:
            return True
        if self.flushed_at > self.walked_at:
            return True
        # A grace period of RCU, three ticks long, follows who reads the statistics.
        later = max(self.walked_at, self.flushed_at)
        ticks = [nth * tick for nth in range(later // tick + 1, self.now // tick + 1)]
        return self.flushed_at > 0 and any(at <= self.flushed_at + 3 * tick for at in ticks)

    def walk(self, can_swap: bool) -> None:
        if self.walks and not self.was_switched_to():
            return
        self.was_notified = False
        self.slept_by_walk = self.count["pswpin"] + self.count["waits"]
        self.scanned_by_walk = self.count["reclaim_scanned"]
        first = self.walks == 0
        self.walks += 1
        self.walked_at = self.now
        chosen = self.filters[self.youngest % 2]
        self.filters[(self.youngest + 1) % 2] = set()
        if not can_swap:
            return
        for table in {number // 512 for number in self.pages}:
            if self.version == 1 or not first:
                if table not in self.looked_up:
                    continue
                self.looked_up.remove(table)
            if first or chosen is None or table in chosen:
                numbers = range(table * 512, (table + 1) * 512)
                known = [self.pages[number] for number in numbers if number in self.pages]
                self.now += self.costs.walk_ns * sum(page.mapped for page in known)
                found = self.accessed(numbers)
                for page in found:
                    self.promote(page)
                if len(found) * 8 >= 512:
                    self.note_table(table, self.youngest + 1)

    def move_up(self, page: Page) -> int:
        """folio_inc_gen(): return the list the page belongs on now."""
        assert page.gen is not None
        if page.gen == self.oldest % 4:
            page.referenced, page.again = False, 0
            if self.version < 3:
                page.workingset = False
            page.gen = (self.oldest + 1) % 4
        return page.gen

    def set_oldest(self, seq: int) -> None:
        for passed in range(self.oldest + 1, seq + 1):
            self.began[passed] = self.age
        self.oldest = seq
        for tier, average in zip(self.tiers, self.averages, strict=True):
            average["refaulted"] = (average["refaulted"] + tier["refaulted"]) // 2
            average["total"] = (average["total"] + tier["evicted"] + tier["protected"]) // 2
            tier.update(evicted=0, refaulted=0, protected=0)

    def grow_old(self, can_swap: bool) -> None:
        """try_to_inc_max_seq(), inc_max_seq()."""
        self.walk(can_swap)
        self.have_walk = True
        if self.youngest - self.file_oldest == 3:
            self.file_oldest += 1
        if self.youngest - self.oldest == 3:
            listed = self.lists[self.oldest % 4]
            while can_swap and listed:
                page = listed.pop()
                self.tiers[self.tier(page)]["protected"] += 1
                self.lists[self.move_up(page)].append(page)
            self.set_oldest(self.oldest + 1)
        self.youngest += 1

    def leave_empty_behind(self, can_swap: bool) -> bool:
        """try_to_inc_min_seq(): two generations stay; there are no file pages."""
        last = self.youngest - 2
        anon = self.oldest
        while can_swap and anon <= last and not self.lists[anon % 4]:
            anon += 1
        file = max(self.file_oldest, last + 1)
        if self.version >= 3:
            if (anon, file) == (self.oldest, self.file_oldest):
                return False
            if can_swap and file < last < anon:
                anon = last
            elif can_swap and anon < last < file:
                file = last
        elif can_swap:
            anon = min(anon, file)
            file = max(anon, self.file_oldest)
        moved = anon > self.oldest or file > self.file_oldest
        if anon > self.oldest:
            self.set_oldest(anon)
        self.file_oldest = max(file, self.file_oldest)
        return moved

    # -- eviction ----------------------------------------------------------------------------------------

    def spares(self, tier: int) -> bool:
        """positive_ctrl_err() of a tier against the first (6.14)."""
        both = list(zip(self.tiers, self.averages, strict=True))
        (rest, rest_average), (hot, hot_average) = both[0], both[tier]
        refaulted = hot["refaulted"] + hot_average["refaulted"]
        total = hot["evicted"] + hot["protected"] + hot_average["total"]
        others = rest["refaulted"] + rest_average["refaulted"]
        of_all = rest["evicted"] + rest["protected"] + rest_average["total"]
        return refaulted >= 64 and refaulted * (of_all + 64) * 2 > (others + 1) * total * 3

    def isolate(self, most: int) -> tuple[int, list[Page]]:
        """scan_folios(), sort_folio(): return (pages looked at, those taken, oldest first)."""
        if self.youngest - self.oldest == 1:
            return 0, []
        oldest = self.oldest % 4
        spared: tuple[int, ...] = ()  # tiers that move up instead: get_tier_idx()
        if self.version == 4 and self.spares(1):
            spared = (1, 2)
        elif self.version >= 3 and self.spares(2):
            spared = (2,)
        scanned, taken = 0, []
        while self.lists[oldest] and len(taken) < 64 and scanned < most:
            page = self.lists[oldest][-1]
            scanned += 1
            if page.gen != oldest:
                self.unlist(page)
                self.lists[page.gen].insert(0, page)  # type: ignore[index]
            elif self.version == 1 and page.workingset:
                self.unlist(page)
                self.lists[self.move_up(page)].append(page)
                self.count["workingset_activate_anon"] += 1
            elif self.tier(page) in spared:
                self.tiers[self.tier(page)]["protected"] += 1
                self.unlist(page)
                self.lists[self.move_up(page)].insert(0, page)
            elif self.version in (1, 3) and page.writeback:
                self.unlist(page)
                self.lists[self.move_up(page)].insert(0, page)
                page.reclaim = True
            else:
                if self.version < 3:
                    page.workingset = page.workingset and page.referenced
                    page.referenced = False
                if self.version in (1, 3):
                    page.reclaim = False
                if not page.referenced:
                    page.again = 0
                self.leave(page)
                taken.append(page)
        self.count["reclaim_scanned"] += len(taken)
        self.updates += 3 * len(taken)
        return (scanned if taken or scanned == most or self.version == 4 else 0), taken

    def shrink_page(self, page: Page) -> str:
        """shrink_folio_list() for one page."""
        if self.version < 3 and page.referenced and page.mapped:
            return "keep"
        if page.writeback:
            if self.case.cgroup == "v2" or not page.reclaim:
                page.reclaim = True
                return self.activate(page)
            self.count["waits"] += 1
            self.wait_for_writeback(page)
        if page.mapped and page.young:
            self.look_around(page)
            if self.version >= 3:
                twice = self.second_access(page)
            else:
                twice, page.referenced = page.referenced, True
            return self.activate(page) if twice else "keep"
        if self.version < 3:
            page.referenced = False
        fate = self.evict(page)
        if fate == "freed":
            self.tiers[self.tier(page)]["evicted"] += 1
            page.again = int(self.tier(page) == 1)
            self.free_page(page)
        return self.activate(page) if fate == "activate" else fate

    def goes_back(self, page: Page, again: bool) -> bool:
        """What evict_folios() does with a page that stays; False: try it once more."""
        if self.version >= 3:
            if not (again or page.active or page.mapped or page.dirty or page.writeback):
                return False
            if self.seq_for(page, False) == self.oldest:
                page.referenced, page.again, page.active = False, 0, True
            return True
        if page.reclaim and (page.dirty or page.writeback):
            page.referenced = page.referenced or page.workingset
            return True
        used = page.active or page.referenced or page.mapped
        if not (again or used or page.dirty or page.writeback):
            return False
        page.referenced = page.workingset = False
        page.active = True
        return True

    def evict_folios(self, can_swap: bool, most: int) -> tuple[int, int, bool]:
        if self.version == 4:
            self.leave_empty_behind(can_swap)
        scanned, taken = self.isolate(most) if can_swap else (0, [])
        if self.version == 4 and scanned:
            self.leave_empty_behind(can_swap)
        elif self.version < 4:
            scanned += self.leave_empty_behind(can_swap)
            if self.gens(can_swap) <= 2:
                scanned = 0
        freed, again, any_taken = 0, False, bool(taken)
        while taken:
            staying = []
            for page in taken:
                self.now += self.costs.scan_ns
                fate = self.shrink_page(page)
                freed += fate == "freed"
                if fate not in ("freed", "linked"):
                    staying.append(page)
            taken = []
            for page in staying:
                if self.goes_back(page, again):
                    self.join(page)
                else:
                    taken.append(page)
            again = True
        return scanned, freed, any_taken

    def gens(self, can_swap: bool) -> int:
        if not can_swap:
            return self.youngest - self.file_oldest + 1
        oldest = min(self.oldest, self.file_oldest) if self.version >= 3 else self.oldest
        return self.youngest - oldest + 1

    def scan_target(self, can_swap: bool, priority: int) -> int:
        """should_run_aging(), get_nr_to_scan(); 0 ends the level."""
        gens = self.gens(can_swap)
        total = 0
        if can_swap:
            total = sum(self.size(seq) for seq in range(self.oldest, self.youngest + 1))
        young = self.size(self.youngest) if can_swap else 0
        old = self.size(self.youngest - 2) if can_swap else 0
        wanted = gens <= 2 or (
            gens == 3 and (self.version == 3 or young * 2 > total or old * 4 < total)
        )
        if gens <= 2 and self.version > 1:
            total = 0
        if wanted and priority < 12:
            self.grow_old(can_swap)
            return total >> priority if self.version == 1 else 0
        if gens <= 2:
            return 0
        return total >> priority

    def can_swap(self) -> bool:
        """get_swappiness()."""
        left = self.total_slots - self.slots_used
        return self.case.swappiness > 0 and (self.rules.late_slots or left >= 64)

    def shrink_generations(self, priority: int, freed_before: int) -> int:
        """lru_gen_shrink_lruvec()."""
        self.lru_add_drain()
        self.complete_writes()
        self.have_walk = False
        began = self.youngest
        plugged_before = self.plugged
        self.plugged = True
        can_swap = self.can_swap()
        scanned = freed = 0
        swapped = False
        left = 0  # try_to_shrink_lruvec() of 7.2 has one sum a level
        if can_swap:
            left = sum(self.size(seq) for seq in range(self.oldest, self.youngest + 1)) >> priority
        while self.version == 4 and left > 0:
            gens = self.gens(can_swap)
            if gens <= 2 or (gens == 3 and priority < 12):
                self.grow_old(can_swap)
            looked, now_freed, _ = self.evict_folios(can_swap, min(left, 64))
            freed += now_freed
            left -= looked
            if not looked or freed_before + freed >= 32:
                break
        while self.version < 4:
            if self.version == 1:
                can_swap = self.can_swap()
            target = self.scan_target(can_swap, priority)
            if not target:
                break
            most = min(target, 4096) if self.version == 3 else 4096  # evict_folios() of 6.18
            looked, now_freed, any_taken = self.evict_folios(can_swap, most)
            freed += now_freed
            scanned += looked
            swapped = swapped or any_taken
            if not looked or scanned >= target:
                break
            if self.version == 1 and self.youngest - began > 1:
                break
            if self.version == 1 and swapped and freed_before + freed >= 32:
                break
        self.have_walk = False
        if not plugged_before:
            self.plugged = False
            self.unplug()
        return freed

    def do_try_to_free_pages(self) -> int:
        before, pool_before = self.charged_bytes(), self.charged
        if self.case.cgroup == "v2" and self.now >= self.notified_at + 16_000_000:
            self.notified_at, self.was_notified = self.now, True
        freed = 0
        for _ in range(2 if self.kernel.full_walk_retry else 1):
            for priority in range(12, -1, -1):
                self.flush_if_due()
                if self.case.flush_times_ns is None and self.case.flush_period_ns == 0:
                    self.flush()
                self.now += 300
                freed += self.shrink_generations(priority, freed)
                if self.rules.shrinker:
                    self.shrink_slab(priority)
                if freed >= 32:
                    break
            if freed:
                break
        self.note_reclaim(freed, before, pool_before)
        return freed


def make(case: Case, contents: dict[int, dict[str, Any]]) -> Oracle:
    """Return the twin of a case's reclaim model."""
    return (Generations if case.reclaim == "mglru" else Oracle)(case, contents)

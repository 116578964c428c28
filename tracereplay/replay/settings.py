"""A scenario: what is replayed, in the words users type; and kernels as profiles of semantics."""

from __future__ import annotations

import dataclasses
import operator
import re
from typing import Literal

from tracereplay.errors import SettingsError, unknown_name
from tracereplay.policies import find_policy

DEFAULT_POOL_PERCENT = 20
DEFAULT_STAT_FLUSH_NS = 2_000_000_000  # mm/memcontrol.c: FLUSH_TIME, 2 s


@dataclasses.dataclass(frozen=True, kw_only=True)
class KernelProfile:
    """Where kernels differ in what they count; every field names its function.

    Attributes
    ----------
    since : the first release whose rules are nearer to these than to those of the kernel before
    zeromap : all-zero pages never reach zswap (mm/page_io.c:swap_writeout(), since 6.12)
    same_filled : zswap stores one repeated word without memory (zswap_is_page_same_filled(), 6.1)
    exclusive_loads : a load frees the entry (zswap_load(), unconditional since 6.9)
    strict_limit : the pool is full only above its limit, and only then is the worker woken (6.1)
    slot_cache : a freed swap slot waits for 63 others, and its entry in zswap with it
        (mm/swap_slots.c:free_swap_slot(), 6.1; later the entry goes at once)
    second_chance : the referenced bit of the zswap order (shrink_memcg_cb(), 6.12)
    add_batch : pages in a per-CPU batch (PAGEVEC_SIZE: 15, since 6.11 31)
    flush_at_reclaim : statistics are flushed when reclaim starts, whatever their age
        (prepare_scan_control(), 6.1; rate-limited since 6.8)
    counts_bytes : compressed bytes count byte by byte towards the next flush (obj_cgroup_charge_zswap(),
        6.1; memcg_state_val_in_pages() since 6.8), so that one store makes it due
    cost_by_pageouts : what reclaim has cost are the pages it wrote (lru_note_cost(), 6.1); since 6.8 those
        32 times, and the pages it put back
    full_walk_retry : one more round before giving up (do_try_to_free_pages(), since 6.11)
    stores_raw : a page that does not shrink is stored uncompressed (zswap_compress(), since 6.18)
    map_writable : a read fault maps an exclusive page writable (do_swap_page(), not 6.1)
    zsmalloc_by_percent : the size classes of 6.1
    zsmalloc_writeback : zsmalloc pages can be written back (not 6.1)
    worker_whole_page : one run of the worker frees one page of the allocator (6.1)
    header_bytes : kept with each object of zbud and z3fold (6.1)
    mglru : rules of the multi-generational LRU: 6.1; 6.12 (of 6.2 to 6.13); 6.14, where a page has to be
        found accessed twice to be promoted and lru_gen_folio_seq() places it; 7.2, where a fault counts
        as an access (folio_add_lru()) and reclaim ages in between (try_to_shrink_lruvec())
    plug_by_newest : a plug is emptied where its newest request is large (blk_add_rq_to_plug() of 6.1, whose
        list begins with that), not its oldest
    mapped_only : a dirty page that readahead brought in and nobody mapped is activated, not written:
        pageout() takes it for no anonymous page (folio_test_anon(), since 6.16)
    slot_clusters : a rotational swap device is cut into clusters as well
        (mm/swapfile.c:cluster_alloc_swap_entry(), since 6.13)
    cost_by_statistics : what reclaim has cost is read from statistics, as old as those are
        (prepare_scan_control(), 7.3), not noted at once (mm/swap.c:lru_note_cost())
    yields : cond_resched() lets another task run, so that two on one CPU take turns: not under
        PREEMPT_LAZY, as Debian builds since 6.16
    lone_worker_ns : with one CPU, until the writeback worker that a store woke runs. At once where
        tasks yield; else the running one keeps its slice (kernel/sched/fair.c, RUN_TO_PARITY) until a
        tick finds it over: half a tick of 250 Hz
    lone_dispatch_ns : with one CPU, for how long after it last ran kblockd's worker does not hand on
        writes that no plug holds: a slice of .7 ms, which HRTICK ends (7.2); none where writes go out
        at once (__submit_bio() of 6.12 and 6.18 plugs) or tasks yield (6.1)
    woken_goes_first : with one CPU, it runs once the faulting thread is back in user mode, if no tick
        comes before: a timer ends that thread's slice of .7 ms (HRTICK of features.h since 7.2 at the
        latest, resched_curr_lazy())
    walk_batch : entries of a cgroup that the worker, or a store above zswap.max, walks at a time
        (shrink_memcg(): 1, 7.3 SWAP_CLUSTER_MAX)
    shrinker_flushes : the shrinker reads fresh statistics (zswap_shrinker_count()); in 7.3 those of the
        last flush, however old (mem_cgroup_flush_stats_ratelimited())
    swapin_drains : a fault of a page in swap empties the per-CPU batch (do_swap_page() on a write,
        swap_cluster_readahead(), swap_vma_readahead()); not in 7.3
    allocators : the ones this kernel has
    """

    name: str
    since: tuple[int, int]
    zeromap: bool = True
    same_filled: bool = False
    exclusive_loads: bool = True
    strict_limit: bool = False
    slot_cache: bool = False
    second_chance: bool = True
    add_batch: int = 31
    flush_at_reclaim: bool = False
    counts_bytes: bool = False
    cost_by_pageouts: bool = False
    plug_by_newest: bool = False
    full_walk_retry: bool = True
    stores_raw: bool = True
    map_writable: bool = True
    zsmalloc_by_percent: bool = False
    zsmalloc_writeback: bool = True
    worker_whole_page: bool = False
    header_bytes: int = 0
    mglru: Literal["6.1", "6.12", "6.14", "7.2"] = "6.14"
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
    allocators: tuple[str, ...] = ("zsmalloc", "ideal")


_STORES_RAW = (6, 18)  # commit dca4437a5861

KERNELS: dict[str, KernelProfile] = {
    # Reclaim passes over pages that nobody mapped since 6.16, pageout().
    "6.18": KernelProfile(name="6.18", since=(6, 16)),
    "7.2": KernelProfile(
        name="7.2", since=(7, 2), mglru="7.2", lone_dispatch_ns=700_000, woken_goes_first=True
    ),
    "7.3": KernelProfile(
        name="7.3",
        since=(7, 3),
        mglru="7.2",
        cost_by_statistics=True,
        lone_dispatch_ns=700_000,
        woken_goes_first=True,
        walk_batch=32,
        shrinker_flushes=False,
        swapin_drains=False,
    ),
    # Loads free the entry since 6.9 (commit c2e2ba770200), whatever the build. Before, nearly all that
    # happens below the pool's limit goes by the rules of 6.1; at the limit 6.5 to 6.8, where zswap has an
    # order of its own, are nearer to 6.12.
    "6.12": KernelProfile(
        name="6.12",
        since=(6, 9),
        stores_raw=False,
        mglru="6.12",
        mapped_only=False,
        slot_clusters=False,
        yields=True,
        lone_worker_ns=0,
        allocators=("zsmalloc", "zbud", "z3fold", "ideal"),
    ),
    "6.1": KernelProfile(
        name="6.1",
        since=(0, 0),
        zeromap=False,
        same_filled=True,
        exclusive_loads=False,
        strict_limit=True,
        slot_cache=True,
        second_chance=False,
        add_batch=15,
        flush_at_reclaim=True,
        counts_bytes=True,
        cost_by_pageouts=True,
        plug_by_newest=True,
        full_walk_retry=False,
        stores_raw=False,
        map_writable=False,
        zsmalloc_by_percent=True,
        zsmalloc_writeback=False,
        worker_whole_page=True,
        header_bytes=8,
        mglru="6.1",
        mapped_only=False,
        slot_clusters=False,
        yields=True,
        lone_worker_ns=0,
        allocators=("zsmalloc", "zbud", "z3fold", "ideal"),
    ),
}


def release_number(release: str) -> tuple[int, int]:
    """Return the first two numbers of a release such as 6.8.0-31-generic.

    Raises
    ------
    SettingsError
        It does not begin with two numbers.
    """
    found = re.match(r"(\d+)\.(\d+)(?!\d)", release)
    if not found:
        raise SettingsError(f"unknown kernel {release!r}; {_known_kernels()}")
    return int(found[1]), int(found[2])


def nearest_kernel(release: str) -> str:
    """Return whose rules come nearest to those of a release: its own where there are any."""
    number = release_number(release)
    older = [profile for profile in KERNELS.values() if profile.since <= number]
    return max(older, key=lambda profile: profile.since).name


def stores_raw(release: str) -> bool:
    """Tell whether a release stores uncompressed what does not shrink; zswap_compress()."""
    return release_number(release) >= _STORES_RAW


def unknown_kernel(release: str) -> SettingsError:
    """Return the error for a kernel there are no rules of, with the nearest one offered."""
    try:
        near = f"; nearest are those of {nearest_kernel(release)}"
    except SettingsError:
        near = ""
    return SettingsError(f"unknown kernel {release!r}; {_known_kernels()}{near}")


def _known_kernels() -> str:
    return f"there are rules of {', '.join(sorted(KERNELS, key=release_number))}"


_MOST_BYTES = (1 << 63) - 1
_MOST_NS = 1 << 60  # thirty years, within the clock's 64 bits
# The least that a number may be, where nothing else says so.
_LEAST = {
    "pool_limit_bytes": 0,
    "ram_bytes": 4096,
    "swap_bytes": 0,
    "zswap_max_bytes": 0,
    "stat_flush_ns": 0,
    "stat_flush_phase_ns": 0,
    "touch_ns": 0,
}


class _MadeName(str):
    """A name nobody chose: dataclasses.replace() hands it on, and it is made anew."""

    __slots__ = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario:
    """One replay: a policy, a reclaim model, sizes, and the kernel whose rules apply.

    Attributes
    ----------
    name : unique in one comparison; made of the other fields where it is empty
    memory_limit_bytes : limit of the memory cgroup
    pool_limit_bytes : limit of the zswap pool; None is DEFAULT_POOL_PERCENT of `ram_bytes`
    ram_bytes : memory of the machine the percentage is of
    accept_threshold_percent : of the pool limit; a full pool takes pages again below it
    swap_bytes : size of swap; None is as large as the trace needs
    zswap_max_bytes : memory.zswap.max; None is max
    page_cluster : vm.page-cluster: up to 2 ** this many pages are read at once
    swappiness : memory.swappiness: how large a share of the lists reclaim scans at a time; 0 forbids
        to swap. lru and opt have none
    stat_flush_ns : how often the cgroup statistics are flushed; 0 is always exact
    stat_flush_phase_ns : time of the first flush after the trace begins
    device : swap device by its name in the cost table; `none` has no device
    touch_ns : time one touch takes in a trace without a clock
    """

    policy: str = "store-raw"
    memory_limit_bytes: int
    reclaim: str = "two-list"
    kernel: str = "6.18"
    cgroup: Literal["v1", "v2"] = "v2"
    codec: str = "lzo"
    allocator: str = "zsmalloc"
    pool_limit_bytes: int | None = None
    ram_bytes: int = 16 << 30
    accept_threshold_percent: int = 90
    swap_bytes: int | None = None
    zswap_max_bytes: int | None = None
    page_cluster: int = 3
    swappiness: int = 60
    stat_flush_ns: int = DEFAULT_STAT_FLUSH_NS
    stat_flush_phase_ns: int | None = None
    device: str = "nvme"
    touch_ns: int = 100
    name: str = ""

    def __post_init__(self) -> None:
        self._check_numbers()
        find_policy(self.policy)
        if self.kernel not in KERNELS:
            raise unknown_kernel(self.kernel)
        if self.cgroup not in ("v1", "v2"):
            raise unknown_name("cgroup version", self.cgroup, ["v1", "v2"])
        known_allocators = KERNELS[self.kernel].allocators
        if self.allocator not in known_allocators:
            raise SettingsError(
                f"kernel {self.kernel} has no allocator {self.allocator!r}; "
                f"it has {', '.join(known_allocators)}"
            )
        if find_policy(self.policy).synchronous and self.allocator != "ideal":
            object.__setattr__(self, "allocator", "zsmalloc")  # zram has no other
        if self.memory_limit_bytes < 4096:
            raise SettingsError("a memory limit below one page")
        if not 0 <= self.accept_threshold_percent <= 100:
            raise SettingsError("accept threshold: 0 to 100 percent")
        if not 0 <= self.swappiness <= 200:
            raise SettingsError("swappiness: 0 to 200")
        if not 0 <= self.page_cluster <= 5:
            raise SettingsError("page cluster: 0 to 5")
        if not self.name or isinstance(self.name, _MadeName):
            object.__setattr__(self, "name", _MadeName(self._default_name()))

    def _check_numbers(self) -> None:
        """Refuse what is no whole number, too small or too large; numpy's become Python's."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if "int" not in str(field.type) or (value is None and "None" in str(field.type)):
                continue
            try:
                object.__setattr__(self, field.name, operator.index(value))
            except TypeError as error:
                raise SettingsError(f"{field.name} is {value!r}; a whole number") from error
            if value < _LEAST.get(field.name, value):
                raise SettingsError(f"{field.name} is {value}; {_LEAST[field.name]} or more")
            if value > (_MOST_NS if field.name.endswith("_ns") else _MOST_BYTES):
                raise SettingsError(f"{field.name} is {value}, which is too large")

    def _default_name(self) -> str:
        from tracereplay.units import format_size

        parts = [self.policy, self.reclaim, format_size(self.memory_limit_bytes).replace(" ", "")]
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for field in ("kernel", "cgroup", "codec", "allocator", "device"):
            value = getattr(self, field)
            if value != defaults[field]:
                parts.append(str(value))
        for field in (
            "pool_limit_bytes",
            "zswap_max_bytes",
            "swap_bytes",
            "page_cluster",
            "swappiness",
            "accept_threshold_percent",
            "stat_flush_ns",
            "stat_flush_phase_ns",
            "touch_ns",
            "ram_bytes",
        ):
            value = getattr(self, field)
            if field == "ram_bytes" and self.pool_limit_bytes is not None:
                continue
            if value != defaults[field]:
                parts.append(f"{field}={value}")
        return "/".join(parts)

    @property
    def pool_limit(self) -> int:
        """Limit of the pool in bytes."""
        if self.pool_limit_bytes is not None:
            return self.pool_limit_bytes
        return self.ram_bytes // 4096 * DEFAULT_POOL_PERCENT // 100 * 4096

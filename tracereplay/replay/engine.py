"""One scenario in the making: allocates its arrays, feeds batches to the kernel, hands out results."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tracereplay._jit import zeros_on_lines
from tracereplay.costs import Means
from tracereplay.errors import SettingsError
from tracereplay.policies import find_policy
from tracereplay.replay import state as st
from tracereplay.replay.allocators import class_table, huge_class_bytes
from tracereplay.replay.generations import MIN_NR_GENS
from tracereplay.replay.page_tables import PageTables
from tracereplay.replay.settings import KERNELS, KernelProfile, Scenario
from tracereplay.replay.slots import CLUSTER, new_slots
from tracereplay.replay.swap import PLUG_ROOM, TABLE_ENDS
from tracereplay.units import PAGE_BYTES

EVENT_ROWS = 1 << 13  # small, so that they stay in the second-level cache
FOOTPRINT_POINTS = 2000
MOST_TLB_ENTRIES = 1 << 16
# The writeback worker: ns from queueing it to its first step, and quarters of its cost that its work
# takes. From queueing work to an idle CPU running it: 17 to 25 us measured on a virtual machine. The
# ends: half of that and a quarter less work, as where it finds clean pages; twice and half as much more.
WORKER_TIMING = {"nominal": (21_000, 4), "early": (10_000, 3), "late": (42_000, 6)}
_ALLOCATORS = {"zsmalloc": st.ZSMALLOC, "zbud": st.ZBUD, "z3fold": st.Z3FOLD, "ideal": st.IDEAL}
_MGLRU_RULES = {
    "6.1": st.MGLRU_6_1,
    "6.12": st.MGLRU_6_12,
    "6.14": st.MGLRU_6_14,
    "7.2": st.MGLRU_7_2,
}
_INCOMPRESSIBLE = {"device": st.TO_DEVICE, "keep": st.KEEP, "raw": st.STORE_RAW, "link": st.LINK}


# What a profile says that no machine has by this name: _configure() and __init__() make settings of it.
PROFILE_ONLY = frozenset(
    (
        "name",
        "since",
        "allocators",
        "lone_dispatch_ns",
        "lone_worker_ns",
        "mglru",
        "stores_raw",
        "yields",
        "zsmalloc_by_percent",
        "zsmalloc_writeback",
    )
)


def _rules(profile: KernelProfile) -> dict[str, int]:
    """Return what a profile says, as settings of the machine."""
    names = {field.name for field in dataclasses.fields(profile)} - PROFILE_ONLY
    return {name: getattr(profile, name) for name in sorted(names)}


def _sizes(
    compressed_bytes: npt.NDArray[np.uint16],
    zero_filled: npt.NDArray[np.bool_],
    same_filled: npt.NDArray[np.bool_],
) -> npt.NDArray[np.uint16]:
    """Return contents as a page record holds them."""
    size = np.minimum(compressed_bytes, PAGE_BYTES).astype(np.uint16)
    size[same_filled] |= st.SAME_FILLED
    size[zero_filled] = 0
    return size


def _copy(to: npt.NDArray[Any], records: npt.NDArray[Any]) -> None:
    """Copy records as bytes: numpy goes through their fields one by one, in seven times the time."""
    to.view(np.uint8)[:] = records.view(np.uint8)


def held_bytes(unique_pages: int) -> int:
    """Return about how much memory a replay of so many pages takes; that of zbud and z3fold is more."""
    # The zswap order has two places a page, and so has the list of who is beside whom.
    a_page = 1 + st.PAGE.itemsize + st.ZSPAGE.itemsize + 4 * np.dtype(np.uint32).itemsize
    fixed = EVENT_ROWS * st.EVENT.itemsize + FOOTPRINT_POINTS * st.SAMPLE.itemsize
    return unique_pages * a_page + fixed + PLUG_ROOM * st.WRITE.itemsize


class Replay:
    """State of one scenario between batches.

    Parameters
    ----------
    scenario : what to replay
    entry : compiled entry of the reclaim model
    textbook : the model has no kernel overheads and no batches
    needs_next_use : the model asks when a page is used next
    keeps_generations : the model's lists are those of generations.py
    walks_page_tables : the model looks pages up in page tables
    rows : rows of the whole trace, for the spacing of footprint points
    unique_pages : distinct pages of the whole trace
    means : mean costs for the clock
    flush_times_ns : when the statistics were flushed, instead of every `stat_flush_ns`
    clock_has_stalls : the trace's own time already has the stalls in it (a recorded kernel run)
    cpus : CPUs of the machine, for thresholds that grow with them
    one_cpu : the worker shares the only CPU with the program
    worker_timing : `nominal`, or an end of what its timing allows: `early`, `late`
    read_first : the program reads before it writes, so that its faults are a read's
    vma_readahead : readahead goes by address, not by swap slot (no swap device is rotational)
    tlb_entries : translations the processor keeps, a power of two; 0: none is kept between two scans
    tlb_renewed : another process reads the statistics, and all are forgotten then; from that many their
        number follows those in use, as QEMU has it
    remote_stock_pages : charged by another CPU's stock and never used (0..63 on a kernel)
    fresh_boot : nothing was swapped in before: readahead by slots begins with the hits of a new kernel
    """

    def __init__(
        self,
        scenario: Scenario,
        entry: Callable[..., int],
        *,
        textbook: bool = False,
        needs_next_use: bool = False,
        keeps_generations: bool = False,
        walks_page_tables: bool = False,
        rows: int,
        unique_pages: int,
        means: Means | None = None,
        flush_times_ns: npt.NDArray[np.int64] | None = None,
        clock_has_stalls: bool = False,
        vma_readahead: bool = True,
        cpus: int = 1,
        remote_stock_pages: int = 0,
        one_cpu: bool = False,
        worker_timing: str = "nominal",
        read_first: bool = False,
        tlb_entries: int = 0,
        tlb_renewed: bool = False,
        fresh_boot: bool = False,
    ) -> None:
        self.scenario = scenario
        self._entry = entry
        self.flushes = np.zeros(0 if flush_times_ns is None else flush_times_ns.size, st.FLUSH)
        if flush_times_ns is not None:
            self.flushes["at_ns"] = flush_times_ns
        size = st.FIRST_PAGE + unique_pages + 1
        self.state = zeros_on_lines(size, np.uint8)
        self.pages = zeros_on_lines(size + 2 * st.JOINED_PAGES, st.PAGE)
        for head in range(st.FIRST_PAGE):
            for link in ("prev", "next"):
                self.pages[link][head] = head
        self._filled = st.FIRST_PAGE
        self.zspages = zeros_on_lines(unique_pages + 2, st.ZSPAGE)
        self.buddies = zeros_on_lines(unique_pages + 2, st.BUDDIES)
        self.zswap_order = zeros_on_lines(2 * unique_pages + 2, np.uint32)
        self.events = zeros_on_lines(EVENT_ROWS, st.EVENT)
        self.samples = np.zeros(FOOTPRINT_POINTS, st.SAMPLE)
        self._keys = np.zeros(size if needs_next_use else 0, np.int64)
        self._isolated = np.zeros(0 if textbook else st.ISOLATED_ROOM, np.int64)
        self._walks_page_tables = walks_page_tables
        self._tables: PageTables | None = None
        self._table_flags = np.zeros(0, np.uint8)
        batch = KERNELS[scenario.kernel].add_batch
        self._marks = np.zeros(st.ACTIVATING_AT + batch, np.uint32)
        self.tlb = np.zeros(MOST_TLB_ENTRIES if tlb_renewed else tlb_entries, np.uint32)
        self.finished = True
        self.position = 0
        self._parting = 0
        self._rows = rows
        self.machine = zeros_on_lines(1, st.MACHINE)
        self._configure(
            means or Means(),
            textbook=textbook,
            keeps_generations=keeps_generations,
            vma_readahead=vma_readahead,
        )
        m = self.machine[0]
        # mm/swap_state.c: a new VMA and a new kernel begin with 4 hits; where readahead follows slots,
        # other swap-ins have used those up.
        m["ra_hits"] = 4 if vma_readahead or fresh_boot else 0
        table = class_table(int(m["allocator"]))
        m["returned_at"] = table.size
        self.classes = zeros_on_lines(table.size + st.SLOTS_RETURNED, np.int64)
        self.classes[: table.size] = table
        self.writes = np.zeros(int(m["device_depth"]) + PLUG_ROOM, st.WRITE)
        by_address = m["page_cluster"] > 0 and m["vma_readahead"]
        self.neighbours = zeros_on_lines(2 * size if by_address else 0, np.uint32)
        self.slots = self._make_slots(unique_pages)
        m["tlb_entries"] = tlb_entries
        m["tlb_renewed"] = tlb_renewed
        m["own_clock"] = 0 if clock_has_stalls else 1
        if flush_times_ns is not None:
            m["flush_period_ns"] = -1
        m["oom_at_access"] = -1
        m["cpus"] = cpus
        delay_ns, pace = WORKER_TIMING[worker_timing]
        if one_cpu:
            # The thread that woke it yields after each page (mm/vmscan.c:shrink_folio_list(),
            # cond_resched()), and two that want to run take turns; or not before the next tick. Recorded
            # runs of 6.12 show the former: 2,084 stores met the limit, as many as 16 second chances a
            # run take; with 25 us it is 2,838. Those of 6.18 show the latter: 6,700 and 14,986, and 954
            # and 81 pages written back; with half a tick 6,770 and 14,957, 949 and 66.
            profile = KERNELS[scenario.kernel]
            delay_ns = profile.lone_worker_ns
            m["dispatch_wait_ns"] = profile.lone_dispatch_ns
            pace *= 2 if profile.yields else 1
        m["worker_delay_ns"] = delay_ns
        m["worker_pace"] = pace
        m["one_cpu"] = int(one_cpu)
        m["woken_goes_first"] = int(one_cpu and KERNELS[scenario.kernel].woken_goes_first)
        m["read_first"] = int(read_first)
        m["remote_stock_pages"] = remote_stock_pages
        m["usage_pages"] = remote_stock_pages

    def _configure(
        self, means: Means, *, textbook: bool, keeps_generations: bool, vma_readahead: bool
    ) -> None:
        scenario, m = self.scenario, self.machine[0]
        policy = find_policy(scenario.policy)
        profile = KERNELS[scenario.kernel]
        limit = scenario.memory_limit_bytes
        if not policy.reclaim:
            limit = st.NEVER
        swap_slots = st.NEVER if scenario.swap_bytes is None else scenario.swap_bytes // PAGE_BYTES
        pool_limit = scenario.pool_limit // PAGE_BYTES
        incompressible = policy.incompressible
        if incompressible == "kernel":
            incompressible = "raw" if profile.stores_raw else "device"
        allocator = _ALLOCATORS[scenario.allocator]
        if allocator == st.ZSMALLOC and profile.zsmalloc_by_percent:
            allocator = st.ZSMALLOC_6_1
        cutoff = policy.cutoff_bytes
        if policy.synchronous:
            cutoff = huge_class_bytes(old=profile.zsmalloc_by_percent)
        backing = policy.backing and (scenario.device != "none" or policy.synchronous)
        values: dict[str, int] = {
            **_rules(profile),
            "generations": keeps_generations,
            "mglru_rules": _MGLRU_RULES[profile.mglru],
            "limit_pages": limit // PAGE_BYTES,
            "limit_bytes": limit,
            "charge_pool": scenario.cgroup == "v2" and not policy.synchronous,
            "zswap_enabled": policy.zswap,
            "incompressible": _INCOMPRESSIBLE[incompressible],
            "pool_full": st.KEEP if policy.pool_full == "keep" else st.TO_DEVICE,
            "writeback": policy.writeback and backing,
            "has_device": backing and (policy.writeback or not policy.zswap),
            "synchronous": policy.synchronous,
            "cutoff_bytes": cutoff,
            "shrinker": policy.shrinker,
            "late_slots": policy.late_slots,
            "pool_limit_pages": st.NEVER if policy.synchronous else pool_limit,
            "accept_pages": pool_limit * scenario.accept_threshold_percent // 100,
            "zswap_max_pages": st.NEVER
            if scenario.zswap_max_bytes is None or scenario.cgroup == "v1" or policy.synchronous
            else scenario.zswap_max_bytes // PAGE_BYTES,
            "allocator": allocator,
            "same_filled": profile.same_filled or policy.synchronous,
            "no_pool_writeback": allocator == st.ZSMALLOC_6_1 and not profile.zsmalloc_writeback,
            "throttle_sane": scenario.cgroup == "v2",
            "notified_ns": -(1 << 40),
            "swappiness": scenario.swappiness,
            "page_cluster": 0 if policy.synchronous or textbook else scenario.page_cluster,
            "vma_readahead": vma_readahead,
            "flush_period_ns": scenario.stat_flush_ns,
            "swap_slots_total": swap_slots,
            "textbook": textbook,
            "device_depth": 256,
            "touch_ns": scenario.touch_ns,
            "watched_cutoff_bytes": cutoff,
            "watched_pool_pages": st.NEVER if policy.synchronous else pool_limit,
            "sample_every": max(1, -(-self._rows // (FOOTPRINT_POINTS - len(st.PEAKS)))),
            **dataclasses.asdict(means),
        }
        for name, value in values.items():
            m[name] = int(value)
        phase = scenario.stat_flush_phase_ns
        m["next_flush_ns"] = scenario.stat_flush_ns if phase is None else phase
        m["request_start"] = m["request_end"] = -1
        m["fifo_at"] = m["kept_at"] = m["order_end"] = 1
        if keeps_generations:
            m["max_seq"] = MIN_NR_GENS + 1  # mm/vmscan.c:lru_gen_init_lruvec()

    def _make_slots(self, unique_pages: int) -> npt.NDArray[np.uint32]:
        """Return the pages of slots; empty where readahead does not follow them."""
        m = self.machine[0]
        slots = np.zeros(0, np.uint32)
        if m["page_cluster"] > 0 and not m["vma_readahead"]:
            # Swap as large as the trace needs: so large that an empty run is nearly always found.
            m["slot_room"] = min(int(m["swap_slots_total"]), 16 * unique_pages + CLUSTER) + 1
            slots = new_slots(int(m["slot_room"]), clusters=bool(m["slot_clusters"]))
        self._start_slots()
        return slots

    def _start_slots(self) -> None:
        m = self.machine[0]
        m["slot_cursor"] = 0 if m["slot_room"] and m["slot_clusters"] else 1
        m["slot_run"] = m["slot_top"] = 0

    # -- sharing: see sharing.py --------------------------------------------------------------------

    def beginning(self) -> tuple[Any, ...]:
        """Return a key: replays of one key can share their first rows.

        It leaves out the settings in state.DECIDED_AT, which play no part before a first decision.
        """
        machine = self.machine.copy()
        for name in st.DECIDED_AT:
            # 6.1 holds the entry of a freed slot back with it; a page without a slot loses it at once.
            if name != "late_slots" or not machine["slot_cache"][0]:
                machine[name] = 0
        arrays = (machine, self.flushes, self.classes)
        sized = (self.state, self.slots, self.neighbours, self.tlb, self.writes)
        sizes = tuple(each.size for each in sized)
        contents = tuple(each.tobytes() for each in arrays)
        return self._entry, self.scenario.reclaim, self._rows, sizes, contents

    def watch(self, replays: Sequence[Replay]) -> None:
        """Stop a batch soon after a decision that parts these replays, for which this one stands."""
        self._parting = 0
        for name, decision in st.DECIDED_AT.items():
            if len({int(each.machine[0][name]) for each in replays}) > 1:
                self._parting |= decision
        m = self.machine[0]
        m["watched_cutoff_bytes"] = min(each.machine[0]["cutoff_bytes"] for each in replays)
        m["watched_pool_pages"] = min(each.machine[0]["pool_limit_pages"] for each in replays)
        m["decided"] = 0

    def continue_from(self, other: Replay) -> None:
        """Take over the state of a replay that stood for this one so far."""
        self._take_machine(other)
        used = other._filled
        self.state[:used] = other.state[:used]
        _copy(self.pages[:used], other.pages[:used])
        self.pages[-2 * st.JOINED_PAGES :] = other.pages[-2 * st.JOINED_PAGES :]
        zspages = int(other.machine[0]["next_zspage"]) + 1
        _copy(self.zspages[:zspages], other.zspages[:zspages])
        if other.machine[0]["allocator"] in (st.ZBUD, st.Z3FOLD):
            _copy(self.buddies[:zspages], other.buddies[:zspages])
        end = int(other.machine[0]["order_end"])
        self.zswap_order[:end] = other.zswap_order[:end]
        self.classes[:] = other.classes
        self.writes[:] = other.writes
        self.samples[:] = other.samples
        self._keys[:] = other._keys
        self._tables = other._tables
        self._table_flags = other._table_flags.copy()
        self._marks[:] = other._marks
        self.tlb[:] = other.tlb
        self._filled = other._filled
        self.neighbours = other.neighbours  # the same for all
        if self.slots.size:
            # Room for sixteen times the pages: what was never used stays untouched memory.
            top, room = (int(other.machine[0][name]) for name in ("slot_top", "slot_room"))
            self.slots[:top] = other.slots[:top]
            self.slots[room:] = other.slots[room:]
        if self._late_after(other):
            self.pages["slot"][st.FIRST_PAGE : used] = 0
            self.samples["swap_slots"] = 0
            if self.slots.size:
                clusters = bool(self.machine[0]["slot_clusters"])
                self.slots = new_slots(int(self.machine[0]["slot_room"]), clusters=clusters)

    def take_results(self, other: Replay) -> None:
        """Take over what a replay counted that stood for this one to the end."""
        self._take_machine(other)
        self.samples = other.samples.copy()
        if self._late_after(other):
            self.samples["swap_slots"] = 0

    def _take_machine(self, other: Replay) -> None:
        own = {name: self.machine[0][name] for name in st.DECIDED_AT}
        self.machine[:] = other.machine
        for name, value in own.items():
            self.machine[0][name] = value
        self.finished = other.finished
        self.flushes[:] = other.flushes
        if self._late_after(other):
            self.machine[0]["swap_slots"] = self.machine[0]["swap_slots_peak"] = 0
            self._start_slots()

    def _late_after(self, other: Replay) -> bool:
        """Tell whether the other one gave pages slots that here only the device needs."""
        return bool(self.machine[0]["late_slots"]) and not other.machine[0]["late_slots"]

    # -- input -----------------------------------------------------------------------------------

    def set_clock(self, means: Means, now_ns: int) -> None:
        """Go on with other mean costs and with the trace's own time, in which all stalls so far are.

        What is in flight stays so for as long as it would have, whichever way the clock goes; as
        swap.py:go_back() does at the end of a fault.
        """
        m = self.machine[0]
        for name, value in dataclasses.asdict(means).items():
            m[name] = value
        by_ns = int(m["clock_ns"]) - now_ns
        depth = int(m["device_depth"])
        self.writes["done_ns"][(int(m["io_head"]) + np.arange(int(m["io_count"]))) % depth] -= by_ns
        m["io_last_ns"] -= by_ns
        m["dispatched_ns"] -= by_ns
        m["clock_lead_ns"] = 0

    def add_pages(
        self,
        compressed_bytes: npt.NDArray[np.uint16],
        zero_filled: npt.NDArray[np.bool_],
        same_filled: npt.NDArray[np.bool_],
        table_bits: npt.NDArray[np.uint8],
    ) -> None:
        """Make the next page ids known, in order: their contents and the page tables they need.

        Parameters
        ----------
        compressed_bytes : uint16, 1..4096, 4096 does not shrink
        table_bits : uint8, state.NEW_TABLE and NEW_MIDDLE of the first page that needs one
        """
        start, stop = self._filled, self._filled + compressed_bytes.size
        if stop > self.state.size - 1:
            raise SettingsError(
                "the trace has more distinct pages than its footer says; ingest it again"
            )
        self.pages["size"][start:stop] = _sizes(compressed_bytes, zero_filled, same_filled)
        if not self.machine[0]["textbook"]:
            self.state[start:stop] = table_bits
        self._filled = stop

    def rewrite(
        self,
        compressed_bytes: npt.NDArray[np.uint16],
        zero_filled: npt.NDArray[np.bool_],
        same_filled: npt.NDArray[np.bool_],
        *,
        share: float,
        seed: int,
    ) -> None:
        """Let pages change when they are written: draw from these contents with that probability.

        The row drawn depends on seed, page and how often the page was rewritten, so that scenarios
        with other codecs and the same rows give a page the same contents.
        """
        m = self.machine[0]
        sizes = _sizes(compressed_bytes, zero_filled, same_filled).astype(np.int64)
        m["rewrite_threshold"] = round(share * (1 << 32))
        m["rewrite_seed"] = seed
        m["rewrite_rows"] = sizes.size
        m["rewrite_at"] = self.classes.size
        self.classes = np.concatenate([self.classes, sizes, np.zeros(self.state.size, np.int64)])

    def add_neighbours(
        self,
        page_ids: npt.NDArray[np.int64],
        above: npt.NDArray[np.int64],
        begins_table: npt.NDArray[np.bool_],
    ) -> None:
        """Tell which page lies one address above another, for readahead by address.

        page_ids, above : int64, shape (pairs,)
        begins_table : bool, shape (pairs,): the upper one is the first of a page table
        """
        if self.neighbours.size:
            ends = begins_table * int(TABLE_ENDS)
            self.neighbours[2 * (page_ids + st.FIRST_PAGE) + 1] = above + st.FIRST_PAGE | ends
            self.neighbours[2 * (above + st.FIRST_PAGE)] = page_ids + st.FIRST_PAGE | ends

    def use_page_tables(self, tables: PageTables) -> None:
        """Tell where pages stand in page tables, for models that look there; may still grow."""
        self._tables = tables

    def _lookup(self) -> Any:
        """Return what the reclaim model looks pages up in, or puts them in while it decides.

        Page tables (page_tables.py), the keys of a heap, or the pages of one scan.
        """
        if not self._walks_page_tables:
            return self._keys if self.machine[0]["textbook"] else self._isolated
        if self._tables is None:
            self._tables = PageTables(self.state.size)
        tables = self._tables
        if self._table_flags.size < tables.tables:
            self._table_flags.resize(tables.tables * 3 // 2, refcheck=False)
        return (
            tables.places,
            tables.entries,
            tables.leaf_places,
            tables.table_leaves,
            self._table_flags[: tables.tables],
            self._marks,
        )

    def feed(
        self,
        first_row: int,
        page_ids: npt.NDArray[np.uint32],
        is_write: npt.NDArray[np.bool_],
        time_ns: npt.NDArray[np.int64],
        next_use: npt.NDArray[np.int64],
        on_events: Callable[[npt.NDArray[Any]], None],
        run_len: npt.NDArray[np.uint32] | None = None,
        *,
        start: int = 0,
    ) -> bool:
        """Replay one batch, from row `start` of it; False once the scenario ended in an OOM kill.

        Afterwards `position` is the next row to replay: the end of the batch, or earlier where the
        scenarios that this replay stands for part (`watch`) or an OOM kill ended it.
        """
        began = start
        lookup = self._lookup()
        machine = self.machine[0]
        while self.finished and start < page_ids.size:
            batch = (
                page_ids,
                is_write,
                time_ns,
                (next_use, lookup),
                self.neighbours,
                self.flushes,
                first_row,
                start,
            )
            done = self._entry(
                batch,
                self.machine,
                self.state,
                self.pages,
                (self.zspages, self.buddies, self.zswap_order),
                self.classes,
                self.writes,
                self.slots,
                (self.events, self.samples, self.tlb),
            )
            on_events(self.events[: int(machine["events"])])
            machine["events"] = 0
            machine["soon"] = 0
            if done < 0:
                self.finished = False
                start = -1 - done
                break
            start = done
            if self._parting and self._parting & int(machine["decided"]):
                break
        self.position = start
        references = start - began if run_len is None else int(run_len[began:start].sum())
        machine["accesses"] += references
        return self.finished

    # -- output ----------------------------------------------------------------------------------

    def charge_file_pages(self, entry: Callable[..., int], count: int, clock_ns: int) -> None:
        """Charge page cache after the last touch, reclaiming for it where the limit is met."""
        self.machine[0]["clock_ns"] = clock_ns
        entry(
            self.machine,
            self.state,
            self.pages,
            (self.zspages, self.buddies, self.zswap_order),
            self.classes,
            self.writes,
            self.slots,
            (self.flushes, self._lookup()),
            count,
        )

    def charge_page_table(self) -> None:
        """Charge a page table of memory that is not in the trace; the next charge makes room for it."""
        self.machine[0]["table_pages"] += 1
        self.machine[0]["usage_pages"] += 1

    def footprint(self) -> npt.NDArray[Any]:
        """Return points of the footprint in order, among them those of its peaks; SAMPLE."""
        peaks = self.samples[-len(st.PEAKS) :]
        points = np.concatenate(
            [peaks[peaks["resident_pages"] > 0], self.samples[: int(self.machine[0]["samples"])]]
        )
        return points[np.unique(points["access"], return_index=True)[1]]

    def counters(self) -> dict[str, int]:
        """Return every counter by name."""
        m = self.machine[0]
        return {name: int(m[name]) for name in st.COUNTERS}

    def kernel_counters(self) -> dict[str, int]:
        """Return every counter as the kernel counts: a zram device is to it as any swap device."""
        counts = self.counters()
        if self.machine[0]["synchronous"]:
            for to, source in (("pswpin", "zswpin"), ("pswpout", "zswpout")):
                counts[to] += counts[source]
                counts[source] = 0
        return counts

"""The model's replay of a recorded run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tracereplay.costs import RECORDED, ZRAM, Costs, Means, load_costs, own_disks
from tracereplay.dense import DenseIds
from tracereplay.errors import InputError
from tracereplay.host.workload import line_sizes
from tracereplay.policies import find_policy
from tracereplay.reclaim import find_reclaim
from tracereplay.replay import state as st
from tracereplay.replay.engine import Replay
from tracereplay.replay.page_tables import TABLE_SHIFT, PageTables, pages_beside
from tracereplay.schema import codec_column
from tracereplay.tables import read_table
from tracereplay.touch_times import TimedRun
from tracereplay.validation.clocks import (
    FirstPass,
    OwnClock,
    Tie,
    modelled_times,
    outside_touches,
    own_clock,
    tie_clock,
)
from tracereplay.validation.recorded import RecordedRun, Repeat

_NO_ROWS: npt.NDArray[np.int64] = np.empty(0, np.int64)
_NO_ROWS.flags.writeable = False
# QEMU's translation cache is direct-mapped, begins with 256 entries and doubles while more than 70 %
# of them are used when all are dropped (accel/tcg/cputlb.c:tlb_mmu_resize_locked()), which is where the
# guest turns to another process, as to the one that reads the statistics for emulate.py. Records made
# otherwise show no sign of that: 512 throughout, as the task's start left them. The machine of the
# repeated runs shows no sign of cached translations between two scans.
_EMULATED_TLB_ENTRIES = 512
_FIRST_TLB_ENTRIES = 256  # CPU_TLB_DYN_DEFAULT_BITS
_LINES_PER_PAGE = 64
# Costs of the emulated machine's clock, ns: least squares over the wall times of all runs of 6.1 and
# 6.12. Only their proportions matter: the sum is scaled to the recorded whole.
_EMULATED_TOUCH_NS = 1_000
_EMULATED = Means(
    minor_fault_ns=30_000,
    major_fault_ns=20_000,
    scan_ns=8_000,
    # function_graph of walk_page_range() in an emulated 6.1: 5,594 us for 14,818 pages, 1,950 for 4,942
    walk_ns=380,
    store_ns=70_000,
    load_ns=15_000,
    # kprobe events of an emulated 7.3: from one __swap_writepage() of the shrinker to the next 35 us,
    # from one zswap_store() of reclaim to the next 40 us, which are `scan_ns` and `store_ns` here
    writeback_ns=40_000,
    raw_copy_ns=4_000,
    zero_ns=4_000,
    reject_ns=26_000,  # not fitted: see below
    device_read_ns=280_000,
    # block_rq_issue to block_rq_complete in an emulated 7.3: 12 us with one page, 25 with 16, 280 with 230
    device_write_ns=20_000,
    device_write_page_ns=2_000,
    submit_ns=15_000,
)

# What a codec takes beyond lzo there, for a page it shrinks and for one it does not: kprobe events around
# zswap_store() in emulated kernels, us, for pages of 4 to 52 random lines of 64 and for one of 64. 6.12:
# lzo 27 to 32 and 19, lzo-rle 20 to 31, lz4 27 to 48 and 35, zstd 70 to 136 and 112; 6.18, 7.3: lzo and
# lz4 the same, zstd 103 to 183 and 177; 6.1: lzo 57 to 61 and 46, zstd 107 to 128 and 118. Times here
# are 1.8 times as long (a store of 6.12 by lzo takes 43 us with all that is around it). They decide
# what keeping refused pages ends in: whether statistics are read while reclaim goes round those.
_BEYOND_LZO = {"lzo-rle": (-9_000, 0), "lz4": (18_000, 32_000), "zstd": (234_000, 257_000)}
_BEYOND_LZO_BEFORE = {
    "6.1": {"zstd": (63_000, 77_000)},
    "6.12": {"zstd": (148_000, 170_000)},
}

# Costs of the machine the repeated runs were recorded on, ns, for the order of device writes. While
# `no-zswap` touches pages for the first time, nothing is read: 1,024 of them take 3.4 ms of reclaim,
# 3.5 us each, and the disk keeps pace with that. Later, a touch that reclaims and reads takes 176 us
# more than the two alone (costs/linux-6.18.json, `behind_ns`), after which no write is in flight:
# `swap_ra_hit` would count each page met under writeback, and is 0 in 238,458 faults.
_RECORDED = Means(
    device_read_ns=76_000,
    device_write_ns=3_500,
    device_write_page_ns=3_500,
    submit_ns=3_000,
    behind_ns=176_000,
)
_TOUCH_NS = 150  # of a mapped page there
_OF_A_RUN = {"what": "a table of a recorded run", "remedy": "record the run again"}


@dataclasses.dataclass(frozen=True)
class Workload:
    """A trace in memory, as the replay takes it.

    modelled_times : int64, when each touch came by the model, for repeats that do not tell; else None
    own_clock : None where such a clock is not used
    touch_ns : int64, what each touch took in `timed_repeat`; None where that was not recorded
    """

    page_ids: npt.NDArray[np.uint32]
    is_write: npt.NDArray[np.bool_]
    compressed_bytes: npt.NDArray[np.uint16]
    zero_filled: npt.NDArray[np.bool_]
    random_lines: npt.NDArray[np.uint8]
    table_bits: npt.NDArray[np.uint8]
    neighbours: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]
    tables: PageTables
    modelled_times: npt.NDArray[np.int64] | None
    own_clock: OwnClock | None
    touch_ns: npt.NDArray[np.int64] | None


def load_workload(run: RecordedRun) -> Workload:
    """Read the trace and the page table of a run.

    Raises
    ------
    InputError
        A file is missing or lacks a column; the message names it.
    """
    trace = read_table(run.trace, ("page", "is_write"), **_OF_A_RUN)
    codec = codec_column(run.scenario.codec)
    table = read_table(run.pages, ("page",), **_OF_A_RUN).sort("page")
    if codec == "lzo_rle_bytes" and codec not in table.columns:
        sizes = (
            line_sizes()[codec][table["random_lines"].to_numpy()]
            if "random_lines" in table.columns
            else table["lzo_bytes"].to_numpy()  # up to 3 % larger: no run of zeros is folded
        )
        table = table.with_columns(lzo_rle_bytes=pl.Series(sizes))
    if codec not in table.columns:
        raise InputError(f"{run.pages}: no column {codec}; the run compressed with it")
    raw = trace["page"].cast(pl.UInt64).to_numpy()
    ids = DenseIds()
    page_ids = ids.number(raw)
    page_ids.flags.writeable = False
    pages = np.zeros(len(ids), np.uint64)
    pages[page_ids[::-1]] = raw[::-1]
    row = np.searchsorted(table["page"].cast(pl.UInt64).to_numpy(), pages)
    if row.size and (
        row.max() >= table.height or not np.array_equal(table["page"].to_numpy()[row], pages)
    ):
        raise InputError(f"{run.pages}: pages of the trace are missing")
    zero = (
        table["zero_filled"].to_numpy()[row]
        if "zero_filled" in table.columns
        else np.zeros(pages.size, np.bool_)
    )
    bits = np.zeros(pages.size, np.uint8)
    _, first = np.unique(pages >> np.uint64(TABLE_SHIFT), return_index=True)
    bits[first] |= np.uint8(st.NEW_TABLE)
    _, first = np.unique(pages >> np.uint64(2 * TABLE_SHIFT), return_index=True)
    bits[first] |= np.uint8(st.NEW_MIDDLE)
    tables = PageTables(pages.size)
    tables.add(pages)
    is_write = trace["is_write"].to_numpy()
    is_write.flags.writeable = False
    load = Workload(
        page_ids,
        is_write,
        table[codec].to_numpy()[row].astype(np.uint16),
        zero,
        (
            table["random_lines"].cast(pl.UInt8).to_numpy()[row]
            if "random_lines" in table.columns
            else np.full(pages.size, _LINES_PER_PAGE, np.uint8)
        ),
        bits,
        pages_beside(pages),
        tables,
        None,
        None,
        trace["touch_ns"].cast(pl.Int64).to_numpy() if "touch_ns" in trace.columns else None,
    )
    untimed = [repeat for repeat in run.replays if not repeat.times_ns.size]
    if not find_reclaim(run.scenario.reclaim).decides_by_statistics and not untimed:
        return load
    touch_ns, means = _clock_costs(run)
    first_pass = _first_pass(run, load, (untimed or run.replays)[0], means)
    return dataclasses.replace(
        load,
        own_clock=own_clock(run, first_pass, load.page_ids.size, touch_ns, means),
        modelled_times=modelled_times(run, load.page_ids, untimed[0], first_pass)
        if untimed
        else None,
    )


def _first_pass(run: RecordedRun, load: Workload, repeat: Repeat, means: Means) -> FirstPass:
    """Replay a run by the model's own clock, to hear when its faults came."""
    faults: list[npt.NDArray[np.int64]] = []
    came_ns: list[npt.NDArray[np.int64]] = []

    def note_faults(events: npt.NDArray[Any]) -> None:
        touches = events[events["service"] != st.BACKGROUND]
        faults.append(touches["access"].copy())
        came_ns.append(touches["clock_ns"].copy())

    replay = _replay(run, load, repeat, _NO_ROWS, means, on_events=note_faults)
    if not replay.finished:  # the touch that was killed has no event
        machine = replay.machine[0]
        killed_at = machine["oom_at_access"]
        faults.append(np.array([killed_at]))
        came_ns.append(np.array([killed_at * machine["touch_ns"] + machine["clock_lead_ns"]]))
    return FirstPass(replay, np.concatenate(faults), np.concatenate(came_ns))


def replay_repeat(
    run: RecordedRun,
    load: Workload,
    repeat: Repeat,
    worker_timing: str = "nominal",
    on_events: Callable[[npt.NDArray[Any]], None] | None = None,
) -> dict[str, float]:
    """Replay a run once, with the statistics times of one repeat; return counters by name."""
    rows = load.page_ids.size
    if repeat.times_ns.size:
        steps = np.linspace(0, rows, repeat.times_ns.size)
        outside = outside_touches(load.page_ids, load.random_lines, repeat.outside_ns)
        touched = np.interp(np.arange(rows), steps, repeat.times_ns)
        times = (touched + outside).astype(np.int64)
    else:
        assert load.modelled_times is not None  # as load_workload() has it
        times = load.modelled_times
        outside = np.zeros(rows, np.int64)
    ties = tie_clock(load.own_clock, times, outside, repeat)
    means = _emulated_means(run) if run.emulated else _RECORDED
    replay = _replay(run, load, repeat, times, means, worker_timing, on_events, ties)
    if replay.finished and repeat.file_pages:
        model = find_reclaim(run.scenario.reclaim)
        replay.charge_file_pages(model.load_charge(), repeat.file_pages, int(times[-1]))
    counters: dict[str, float] = dict(replay.kernel_counters())
    counters["finished"] = replay.finished
    if not replay.finished:
        counters["oom_at_touch"] = int(replay.machine[0]["oom_at_access"])
    return counters | _second_half(replay, times) | _looks(run, replay, repeat)


def _replay(
    run: RecordedRun,
    load: Workload,
    repeat: Repeat,
    times: npt.NDArray[np.int64],
    means: Means,
    worker_timing: str = "nominal",
    on_events: Callable[[npt.NDArray[Any]], None] | None = None,
    ties: Sequence[Tie] | None = None,
) -> Replay:
    scenario = run.scenario
    timed = times.size > 0
    if not timed:
        # First pass, for the clock alone: statistics are exact, so that no kill cuts it short.
        touch_ns = _EMULATED_TOUCH_NS if run.emulated else _TOUCH_NS
        scenario = dataclasses.replace(scenario, stat_flush_ns=0, touch_ns=touch_ns)
    model = find_reclaim(scenario.reclaim)
    replay = model.replay(
        scenario,
        rows=load.page_ids.size,
        unique_pages=load.compressed_bytes.size,
        means=means,
        flush_times_ns=repeat.reads_ns + repeat.late_ns if timed else None,
        clock_has_stalls=timed and ties is None,
        vma_readahead=run.vma_readahead,
        cpus=run.cpus,
        one_cpu=run.cpus == 1,
        worker_timing=worker_timing,
        # The emulated runs' write touch reads first: in 6.1 `pgreuse` counts one minor fault for each
        # write to a page that came back, and in 6.12 no slot is freed by a write.
        read_first=run.reads_first,
        tlb_entries=_tlb_entries(run),
        tlb_renewed=run.reader_apart,
        remote_stock_pages=repeat.remote_stock_pages,
        fresh_boot=run.emulated,
    )
    nothing = np.zeros(load.compressed_bytes.size, np.bool_)
    replay.add_pages(load.compressed_bytes, load.zero_filled, nothing, load.table_bits)
    replay.add_neighbours(*load.neighbours)
    replay.use_page_tables(load.tables)
    times.flags.writeable = False
    on_events = on_events or _no_events
    if ties is None:
        _feed(replay, run, load, (0, load.page_ids.size), times, on_events)
        return replay
    for tie in ties:
        replay.set_clock(tie.means, int(tie.times_ns[0]))
        if not _feed(replay, run, load, (tie.start, tie.stop), tie.times_ns, on_events):
            break
    return replay


def _feed(
    replay: Replay,
    run: RecordedRun,
    load: Workload,
    rows: tuple[int, int],
    times: npt.NDArray[np.int64],
    on_events: Callable[[npt.NDArray[Any]], None],
) -> bool:
    """Replay rows of the trace, from one to before another; False where the task was killed.

    times : int64, when each of these came, or empty
    """
    start, end = rows
    every = run.touches_per_own_table or end
    at = start
    while at < end:
        stop = min((at // every + 1) * every, end)
        ids, is_write = load.page_ids[at:stop], load.is_write[at:stop]
        if not replay.feed(
            at, ids, is_write, times[at - start : stop - start], _NO_ROWS, on_events
        ):
            return False
        if run.touches_per_own_table and stop % every == 0:
            replay.charge_page_table()
        at = stop
    return True


def _tlb_entries(run: RecordedRun) -> int:
    if not run.emulated:
        return 0
    return _FIRST_TLB_ENTRIES if run.reader_apart else _EMULATED_TLB_ENTRIES


def _clock_costs(run: RecordedRun) -> tuple[int, Means]:
    """Return the time of a touch of a mapped page and the mean costs on the machine of a run."""
    if run.emulated:
        return _EMULATED_TOUCH_NS, _emulated_means(run)
    return _TOUCH_NS, touch_costs(run, None).means()


def _emulated_means(run: RecordedRun) -> Means:
    """Return the mean costs of the emulated machine with the codec of a run."""
    scenario = run.scenario
    codecs = _BEYOND_LZO | _BEYOND_LZO_BEFORE.get(scenario.kernel, {})
    store, reject = codecs.get(scenario.codec, (0, 0))
    return dataclasses.replace(
        _EMULATED,
        store_ns=_EMULATED.store_ns + store,
        reject_ns=_EMULATED.reject_ns + reject,
    )


def touch_costs(run: RecordedRun, costs: str | Path | None) -> Costs:
    """Return the costs that predict the touches of a run.

    Raises
    ------
    SettingsError, InputError
        The table cannot be used, or knows no disk like that of the runs.
    """
    # A table of `calibrate` names its disk by kind; where it has measured none, the bundled one stands.
    device = next(iter(own_disks(costs or RECORDED)), "hdd")
    if find_policy(run.scenario.policy).synchronous:
        device = ZRAM
    return load_costs(costs or RECORDED, device, run.scenario.codec, random_lines=True)


def _no_events(_: Any) -> None:
    """Drop events: they are for the times of touches, which one repeat tells."""


def replay_timed(
    run: RecordedRun, load: Workload, repeat: Repeat
) -> tuple[dict[str, float], TimedRun]:
    """Replay the repeat whose touches were timed; return its counters and the events beside them."""
    parts: list[npt.NDArray[Any]] = []
    counters = replay_repeat(
        run, load, repeat, on_events=lambda events: parts.append(events.copy())
    )
    assert load.touch_ns is not None
    events = np.concatenate(parts) if parts else np.empty(0, st.EVENT)
    return counters, TimedRun(run.name, load.page_ids, load.touch_ns, events)


def _looks(run: RecordedRun, replay: Replay, repeat: Repeat) -> dict[str, float]:
    """Return mean and peak of the pool as the recorder would have seen them.

    Nothing where it never looked, no mean where the task was killed. It read the pool with the
    statistics, a few dozen times: what the pool held in between is in no recorded peak, and all that a
    long run of reclaim does is a touch of the trace to the model, but many a read to the recorder.
    """
    looks = repeat.looks[repeat.looks < int(replay.machine[0]["flush_index"])]
    if not looks.size:
        return {}
    at_ns = repeat.reads_ns[looks]
    seen = replay.flushes[looks]
    peak = {"pool_pages_peak": float(seen["pool_pages"].max())}
    if not replay.finished:
        return peak
    half_ns = repeat.wall_ns / 2 if run.emulated else at_ns[-1] / 2
    late = seen[at_ns >= half_ns] if at_ns[-1] >= half_ns else seen
    return peak | {
        "pool_pages": float(late["pool_pages"].mean()),
        "stored_pages": float(late["stored_pages"].mean()),
    }


def _second_half(replay: Replay, times: npt.NDArray[np.int64]) -> dict[str, float]:
    """Return the mean pool and stored pages over the second half of the time."""
    samples = replay.samples[: int(replay.machine[0]["samples"])]
    if not samples.size:
        return {"pool_pages": 0.0, "stored_pages": 0.0}
    clock = times[np.minimum(samples["access"], times.size - 1)]
    end = int(times[-1])
    points = np.linspace(end / 2, end, 200)
    at = np.clip(np.searchsorted(clock, points, side="right") - 1, 0, samples.size - 1)
    return {name: float(samples[name][at].mean()) for name in ("pool_pages", "stored_pages")}

"""Replays recorded kernel runs and puts the model's counters beside the kernel's own.

A run is a JSON file with its trace and page table: settings, counters, and the times at which the
cgroup's statistics were read, because reclaim decides with statistics as old as the last read.
Two layouts are read. *Repeated* runs (`settings.limit_mib`) hold several repeats and the time at
1000 equal steps of the trace. *Emulated* runs (`memory_limit_bytes`) hold one repeat, the times of
the reads and the time of the whole; when each touch came follows from the model's own clock.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tracereplay.costs import (
    RECORDED,
    SCHEMA,
    Costs,
    Means,
    load_costs,
    own_devices,
    with_sections,
)
from tracereplay.dense import DenseIds
from tracereplay.errors import FormatError, InputError, SettingsError, unknown_name
from tracereplay.host.run import line_sizes
from tracereplay.reclaim import RECLAIM, find_reclaim
from tracereplay.replay import state as st
from tracereplay.replay.engine import Replay
from tracereplay.replay.page_tables import TABLE_SHIFT, PageTables, pages_beside
from tracereplay.replay.settings import KERNELS, Scenario
from tracereplay.schema import codec_column
from tracereplay.touch_times import (
    TimedRun,
    fit_device,
    fit_faults,
    predict_touches,
    slow_touches,
)
from tracereplay.units import PAGE_BYTES

COUNTERS = (
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
    "pgactivate",
    "pgdeactivate",
    "pool_limit_hit",
    "reject_compress_poor",
    "reject_compress_fail",
    "reject_alloc_fail",
    "pool_pages",
    "pool_pages_peak",
    "stored_pages",
    "oom_events",
    "oom_at_touch",
)
# Of runs whose trace holds `touch_ns`: percentiles of the touches over 1 us, and the sum of all.
TOUCH_COUNTERS = ("touch_p50_ns", "touch_p90_ns", "touch_p99_ns", "touch_total_ns")
_TIMED_DEVICE = "virtual-disk"  # as the bundled table calls the disk of those runs
# Replays of a run that was recorded once: of the period of reads, where the times of touches are the
# model's own, and of the ties of its clock. What happens between two ties is known of neither, and some
# counters hang on it.
READ_PHASES = 5
FLUSH_PHASES = 20  # phases of the periodic flush, where no read of the statistics fixed them
_NO_ROWS: npt.NDArray[np.int64] = np.empty(0, np.int64)
_NO_ROWS.flags.writeable = False
_NS_PER_US = 1000
# QEMU's translation cache is direct-mapped, begins with 256 entries and doubles while more than 70 %
# of them are used (accel/tcg/cputlb.c:tlb_mmu_resize_locked()): 512 for the few hundred pages that a
# collapsed cgroup maps. Where many pages are mapped, entries are replaced between two scans anyway.
# The machine of the repeated runs shows no sign of cached translations between two scans.
_EMULATED_TLB_ENTRIES = 512
_SAMPLE_NS = 102_000_000  # between two reads of the statistics in the emulated runs
_NEW_PAGES = 0.5  # new pages per touch from which a sample tells where the trace was
_BYTES_PER_TOUCH_TIME = 4  # the recorder wrote a uint32 per touch to a file at the end
# Costs of the emulated machine's clock, ns: least squares over the wall times of all runs of 6.1 and
# 6.12. Only their proportions matter: the sum is scaled to the recorded whole. lzo gives up early on
# random bytes: where nothing is written, a page is swapped out in 42 us with one in ten refused, and in
# 35 us with one in two (`wb0` of zipf12-37 and -hard; these costs are scaled by 0.4 there).
_EMULATED_TOUCH_NS = 1_000
_EMULATED = Means(
    minor_fault_ns=30_000,
    major_fault_ns=20_000,
    scan_ns=8_000,
    store_ns=70_000,
    load_ns=15_000,
    raw_copy_ns=4_000,
    zero_ns=4_000,
    reject_ns=15_000,
    device_read_ns=280_000,
    device_write_ns=20_000,
    submit_ns=15_000,
)

# Costs of the machine the repeated runs were recorded on, ns, for the order of device writes. While
# `no-zswap` touches pages for the first time, nothing is read: 1,024 of them take 3.4 ms of reclaim,
# 3.5 us each, and the disk keeps pace with that. Later, a touch that reclaims and reads takes 176 us
# more than the two alone (costs/linux-6.18.json, `behind_ns`), after which no write is in flight:
# `swap_ra_hit` would count each page met under writeback, and is 0 in 238,458 faults.
_RECORDED = Means(device_read_ns=76_000, device_write_ns=3_500, submit_ns=3_000, behind_ns=176_000)
_TOUCH_NS = 150  # of a mapped page there
_FILL_LINE_NS = 12.5  # of 64 random bytes, by outside_touches()
_LINES_PER_PAGE = 64
_TIES = 20  # moments at which a clock of the model's own is set by the recorded one


@dataclasses.dataclass(frozen=True)
class Repeat:
    """One repeat of a run on the kernel, or one phase of the flush where nothing was read.

    Attributes
    ----------
    counters : the kernel's, by name; None where the repeat stands for a phase only
    times_ns : int64, shape (steps + 1,): time at equal steps of the trace; empty where the model's
        own clock says when a touch came
    wall_ns : time of the whole trace, 0 unknown
    reads_ns : int64: when the statistics were brought up to date
    remote_stock_pages : charged by the other CPU and never used
    file_pages : page cache the recorder filled after the last touch
    outside_ns : time the recorder spent outside the times of the touches, filling pages after their
        first touch and reading the clock
    late_ns : how much later than `reads_ns` the reads came by the model's own clock
    held_pages : int64, shape (2, samples): time, and pages in memory plus pages on swap; where the
        times of the touches are not recorded
    looks : int64: which of `reads_ns` the recorded pool sizes were read at
    tie_share : how far from one tie of the model's clock to the next the first one comes, 0 to 1
    """

    times_ns: npt.NDArray[np.int64]
    wall_ns: int
    reads_ns: npt.NDArray[np.int64]
    remote_stock_pages: int
    file_pages: int
    outside_ns: float = 0.0
    held_pages: npt.NDArray[np.int64] = dataclasses.field(
        default_factory=lambda: np.empty((2, 0), np.int64)
    )
    late_ns: int = 0
    looks: npt.NDArray[np.int64] = dataclasses.field(default_factory=lambda: _NO_ROWS)
    tie_share: float = 0.0


@dataclasses.dataclass(frozen=True)
class RecordedRun:
    """A run on a real kernel, as its JSON tells it.

    Attributes
    ----------
    kernel_counters : one mapping per finished repeat; per repeat where all were killed
    touches_ns : sum of the times of all touches, one per finished repeat
    slow_touches : percentiles of the touches over 1 us by counter, one mapping per finished repeat;
        empty where only one repeat's touches are known
    timed_repeat : whose every touch was kept
    killed, repeats : how many repeats ended in an OOM kill, of how many
    killed_at : the touch that each of these was killed at, where it was recorded
    reads_first : a write touch of the recorder read before it wrote
    vma_readahead : no swap device is rotational, so readahead goes by address
    """

    name: str
    scenario: Scenario
    trace: Path
    pages: Path
    replays: tuple[Repeat, ...]
    kernel_counters: tuple[dict[str, float], ...]
    touches_ns: tuple[int, ...]
    killed: int
    repeats: int
    cpus: int
    emulated: bool
    reads_first: bool = True
    vma_readahead: bool = False
    slow_touches: tuple[dict[str, float], ...] = ()
    timed_repeat: int = 0
    killed_at: tuple[int, ...] = ()


# ---- reading ---------------------------------------------------------------------------------------


def find_runs(folders: Iterable[str | Path]) -> list[Path]:
    """Return the JSON files of recorded runs in folders and in the folders right below.

    Raises
    ------
    InputError
        A folder does not exist, or none of them holds a run.
    """
    found: list[Path] = []
    for folder in map(Path, folders):
        if folder.is_file():
            found.append(folder)
        elif folder.is_dir():
            below = [path for path in sorted(folder.glob("*.json")) if _is_run(path)]
            below += [path for path in sorted(folder.glob("*/*.json")) if _is_run(path)]
            found += below
        else:
            raise InputError(f"{folder}: no such folder")
    if not found:
        names = ", ".join(map(str, folders))
        raise InputError(f"{names}: no recorded run here; a run is NAME.json with `vmstat`")
    return found


def _is_run(path: Path) -> bool:
    record = _read_json(path)
    return isinstance(record, dict) and "vmstat" in record and "settings" in record


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise FormatError(f"{path}: not JSON: {error}") from error


def load_run(path: Path) -> RecordedRun:
    """Read a run of either layout.

    Raises
    ------
    FormatError
        The JSON lacks a key that a run needs, or names a kernel the model has no profile of.
    """
    record = _read_json(path)
    try:
        if "memory_limit_bytes" in record:
            return _load_emulated(path, record)
        return _load_repeated(path, record)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FormatError(
            f"{path}: not a recorded run: {type(error).__name__} {error}; see `validate --help`"
        ) from error


def _kernel_name(release: str) -> str:
    name = ".".join(release.split(".")[:2])
    if name not in KERNELS:
        raise ValueError(f"kernel {release!r}: there are profiles of {', '.join(KERNELS)}")
    return name


def _pool_limit_bytes(mem_total_kib: int, percent: int) -> int:
    """mm/zswap.c:zswap_max_pages(): whole pages."""
    return mem_total_kib * 1024 // PAGE_BYTES * percent // 100 * PAGE_BYTES


def _beside(path: Path, record: dict[str, Any], key: str) -> Path:
    named = record.get(key)
    return path.parent / (named or f"{path.stem}.{key}.parquet")


def _load_repeated(path: Path, record: dict[str, Any]) -> RecordedRun:
    settings = record["settings"]
    kernel = _kernel_name(record["kernel"])
    zswap = settings["zswap"] == "Y"
    scenario = Scenario(
        name=path.stem,
        policy=_policy(
            kernel,
            zswap,
            settings.get("shrinker") == "Y",
            writeback=settings.get("zswap_writeback", 1) != 0,
        ),
        memory_limit_bytes=int(settings["limit_mib"] * (1 << 20)),
        reclaim=record.get("reclaim", "two-list"),
        kernel=kernel,
        cgroup=record.get("cgroup", "v1"),
        codec=settings["compressor"],
        allocator=settings.get("zpool", "zsmalloc"),
        pool_limit_bytes=_pool_limit_bytes(record["mem_total_kib"], settings["pool_percent"]),
        accept_threshold_percent=settings["accept"],
        swap_bytes=settings["swap_mib"] << 20 if "swap_mib" in settings else None,
        zswap_max_bytes=settings.get("zswap_max"),
        page_cluster=settings["page_cluster"],
        swappiness=record["swappiness"],
    )
    repeats = record.get("repeats") or [record]
    recorder = record.get("recorder", {})
    whole_ns = (record.get("kreplay") or {}).get("wall_ns", 0)
    # The recorder's own file is charged as page cache. In a long run it is written back and dropped
    # while it grows, and only what was left at the end counts.
    written = (record.get("kreplay") or {}).get(
        "records", 0
    ) * _BYTES_PER_TOUCH_TIME // PAGE_BYTES + 1
    left = record.get("memory_stat_end", {}).get("cache", 0) // PAGE_BYTES
    is_short = any(repeat.get("stat_read_us") for repeat in repeats)
    file_pages = recorder.get("file_pages", written if is_short or not left else min(left, written))
    # `elapsed_us` is the sum of the touches' times, scaled to the whole; but a page was filled after
    # its first touch, and the clock read, outside the timing: see outside_touches().
    touches_ns = record.get("latency_sum_ns") or repeats[0].get("latency_sum_ns") or whole_ns
    replays = []
    for repeat in repeats:
        steps = repeat.get("elapsed_us") or record.get("elapsed_us") or []
        if repeat.get("killed") and repeat.get("elapsed_us"):  # as far as it came; then at its pace
            more = np.arange(len(steps), repeat["killed"]["steps"]) + 1
            steps = [*steps, *(steps[-1] / len(steps) * more).astype(np.int64)]
        times_ns = np.concatenate([[0], np.asarray(steps, np.int64)]) * _NS_PER_US
        wall_ns = (repeat.get("kreplay") or {}).get("wall_ns", 0)
        if wall_ns and whole_ns and not repeat.get("elapsed_us"):
            times_ns = (times_ns * (wall_ns / whole_ns)).astype(np.int64)
        outside_ns = 0.0
        if steps and not repeat.get("elapsed_us") and whole_ns:
            own_ns = repeat.get("latency_sum_ns") or touches_ns * (wall_ns or whole_ns) / whole_ns
            outside_ns = max(float(times_ns[-1]) - own_ns, 0.0)
            times_ns = (times_ns * (1 - outside_ns / times_ns[-1])).astype(np.int64)
        reads = np.asarray(repeat.get("stat_read_us") or [], np.int64) * _NS_PER_US
        replays.append(
            Repeat(
                times_ns if steps else _NO_ROWS,
                wall_ns or int(times_ns[-1]),
                reads,
                _remote_stock_pages(repeat.get("footprint") or {}),
                file_pages,
                outside_ns,
                looks=np.arange(reads.size),
            )
        )
    timed_repeat = int(record.get("touch_repeat", 0))
    if not 0 <= timed_repeat < len(replays):
        raise ValueError(f"touch_repeat is {timed_repeat}, of {len(replays)} repeats")
    if not any(repeat.reads_ns.size for repeat in replays):
        timed_repeat = 0
        lived = [repeat for repeat, of in zip(replays, repeats, strict=True) if of["finished"]]
        replays = _flush_phases(lived or replays)
    finished = [repeat for repeat in repeats if repeat["finished"]]
    return RecordedRun(
        name=path.stem,
        scenario=scenario,
        trace=_beside(path, record, "trace"),
        pages=_beside(path, record, "pages"),
        replays=tuple(replays),
        # Where all were killed, what they counted until then; else what the others did.
        kernel_counters=tuple(_repeated_counters(repeat) for repeat in finished or repeats),
        touches_ns=tuple(
            int(repeat["latency_sum_ns"]) for repeat in finished if repeat.get("latency_sum_ns")
        ),
        killed=len(repeats) - len(finished),
        killed_at=tuple(
            int(repeat["killed"]["touch"]) for repeat in repeats if repeat.get("killed")
        ),
        repeats=len(repeats),
        cpus=record.get("cpus", 2),
        emulated=False,
        reads_first=recorder.get("reads_first", True),
        vma_readahead=settings.get("rotational", 1) == 0,
        slow_touches=_slow_touches(finished),
        timed_repeat=timed_repeat,
    )


def _slow_touches(finished: Sequence[dict[str, Any]]) -> tuple[dict[str, float], ...]:
    """Return TOUCH_COUNTERS' percentiles of every repeat; nothing where a repeat lacks them."""
    if not all(repeat.get("slow_touch_ns") for repeat in finished):
        return ()
    return tuple(
        {f"touch_p{share}_ns": float(value) for share, value in repeat["slow_touch_ns"].items()}
        for repeat in finished
    )


def _flush_phases(repeats: Sequence[Repeat]) -> list[Repeat]:
    """Return one replay per phase of the 2 s flush (mm/memcontrol.c:FLUSH_TIME).

    Nobody read the statistics, so only the periodic flush brought them up to date, and when the
    first one came is not known.
    """
    out = []
    for phase in range(FLUSH_PHASES):
        repeat = repeats[phase % len(repeats)]
        period = 2_000_000_000
        first = phase * period // FLUSH_PHASES
        end = max(repeat.wall_ns * 2, 4 * period)
        reads = np.arange(first, end, period, dtype=np.int64)
        out.append(dataclasses.replace(repeat, reads_ns=reads))
    return out


def _remote_stock_pages(footprint: dict[str, float]) -> int:
    """Return the pages that another CPU's stock held: charged, and neither resident nor kernel's.

    mm/memcontrol.c:refill_stock(): a CPU keeps up to 63 pages it has charged. The recorder's other
    process ran there once, so the stock stays for the whole run; it shows in the mean usage. Two
    figures tell from below how many pages are resident: mapped ones (`rss`), of which a few wait in a
    batch for their list, and those on the lists, of which what was read ahead is not mapped.
    """
    usage, mapped, kernel, inactive, active = (
        footprint.get(f"{name}_pages_mean_second_half", -1)
        for name in ("usage", "rss", "kmem", "inactive_anon", "active_anon")
    )
    if usage < 0 or mapped < 0:
        return 31  # not recorded: the middle of 0..63
    unused = usage - max(mapped, inactive + active) - kernel
    return int(min(max(unused - 2, 0), 63))


def _repeated_counters(repeat: dict[str, Any]) -> dict[str, float]:
    footprint = repeat.get("footprint") or {}
    counters: dict[str, float] = dict(repeat["vmstat"])
    counters |= {k: v for k, v in (repeat.get("zswap_debug") or {}).items() if k in COUNTERS[14:18]}
    for name, key in (
        ("pool_pages", "pool_pages_mean_second_half"),
        ("pool_pages_peak", "pool_pages_peak"),
        ("stored_pages", "stored_pages_mean_second_half"),
    ):
        # The model's mean is that of the whole trace's second half, which a killed run never saw.
        if footprint.get(key, -1) >= 0 and (repeat["finished"] or name == "pool_pages_peak"):
            counters[name] = footprint[key]
    return counters


def _policy(kernel: str, zswap: bool, shrinker: bool, *, writeback: bool) -> str:
    if not zswap:
        return "no-zswap"
    if not writeback:
        return "no-writeback"
    if shrinker:
        return "shrinker"
    return "store-raw" if KERNELS[kernel].stores_raw else "swap-on-reject"


def _max_bytes(text: str) -> int | None:
    return None if text == "max" else int(text)


def _load_emulated(path: Path, record: dict[str, Any]) -> RecordedRun:
    settings = record["settings"]
    kernel = _kernel_name(record["kernel"])
    zswap = settings["zswap.enabled"] == "Y"
    reclaim = record["reclaim"] if record["reclaim"] in RECLAIM else "two-list"
    scenario = Scenario(
        name=path.stem,
        policy=_policy(
            kernel,
            zswap,
            settings.get("zswap.shrinker_enabled") == "Y",
            writeback=settings.get("memory.zswap.writeback", "1") != "0",
        ),
        memory_limit_bytes=record["memory_limit_bytes"],
        reclaim=reclaim,
        kernel=kernel,
        cgroup=record["cgroup"],
        codec=settings["zswap.compressor"],
        allocator=settings.get("zswap.zpool", "zsmalloc"),
        pool_limit_bytes=_pool_limit_bytes(
            record["mem_total_kib"], int(settings["zswap.max_pool_percent"])
        ),
        accept_threshold_percent=int(settings["zswap.accept_threshold_percent"]),
        swap_bytes=int(settings["swap_kib"]) * 1024 if "swap_kib" in settings else None,
        zswap_max_bytes=_max_bytes(settings.get("memory.zswap.max", "max")),
        page_cluster=int(settings["page-cluster"]),
        swappiness=int(settings["swappiness"]),
    )
    rows = np.asarray(record["samples"]["rows"], float)
    reads_ns = (rows[:, 0] * 1e9).astype(np.int64)
    wall_ns = _wall_ns(record["kreplay"])
    # Recorders since tell when each part of the trace was touched, and every read.
    steps = np.asarray([0, *(record.get("elapsed_us") or [])], np.int64) * _NS_PER_US
    every = np.asarray(record.get("stat_read_us") or [], np.int64) * _NS_PER_US
    columns = record["samples"]["columns"]
    held = rows[:, columns.index("anon")] + rows[:, columns.index("swap")]
    held = held.astype(np.int64)
    every = every if every.size else _all_reads(reads_ns, wall_ns)
    between = (every[1:] + every[:-1]) // 2
    repeat = Repeat(
        steps if steps.size > 1 else _NO_ROWS,
        wall_ns,
        every,
        remote_stock_pages=0,
        file_pages=0,
        held_pages=np.stack([reads_ns, held]),
        looks=np.searchsorted(between, reads_ns),
    )
    return RecordedRun(
        name=path.stem,
        scenario=scenario,
        trace=_beside(path, record, "trace"),
        pages=_beside(path, record, "pages"),
        replays=tuple(
            dataclasses.replace(
                repeat,
                late_ns=0 if steps.size > 1 else phase * _SAMPLE_NS // READ_PHASES,
                tie_share=phase / READ_PHASES,
            )
            for phase in range(1 if steps.size > 1 and reclaim != "two-list" else READ_PHASES)
        ),
        kernel_counters=(_emulated_counters(record, rows, wall_ns),),
        touches_ns=(),  # times of an emulated machine say nothing
        killed=int(not record["finished"]),
        repeats=1,
        cpus=1,
        emulated=True,
    )


def _all_reads(kept_ns: npt.NDArray[np.int64], wall_ns: int) -> npt.NDArray[np.int64]:
    """Return every time the statistics were read, from those of the samples that were kept.

    The recorder slept 0.1 s between two reads and kept every k-th sample, 40 at most: in all runs the
    samples lie k x 0.102 s apart.
    """
    gaps = np.diff(kept_ns)
    if not gaps.size:
        return kept_ns
    skipped = max(1, round(float(np.median(gaps)) / _SAMPLE_NS))
    between = [
        np.linspace(start, stop, skipped, endpoint=False)
        for start, stop in itertools.pairwise(kept_ns.tolist())
    ]
    step = float(np.median(gaps)) / skipped
    after = kept_ns[-1] + step * np.arange(skipped)
    reads = np.concatenate([*between, after]).astype(np.int64)
    return reads[reads <= max(wall_ns, int(kept_ns[-1]))]


def _wall_ns(kreplay: Any) -> int:
    """Return the time the replay of the trace took, which is kept as text or as a mapping."""
    if isinstance(kreplay, str):
        pairs = dict(word.split("=", 1) for word in kreplay.split() if "=" in word)
        return int(pairs.get("wall_ns", 0))
    return int(kreplay.get("wall_ns", 0)) if kreplay else 0


def _emulated_counters(
    record: dict[str, Any], rows: npt.NDArray[Any], wall_ns: float
) -> dict[str, float]:
    counters: dict[str, float] = dict(record["vmstat"])
    if record["settings"]["zswap.enabled"] == "Y":
        debug = record["zswap_debug"]
        counters |= {k: v for k, v in debug.items() if k in COUNTERS[14:18]}
        # 6.1 has it in debugfs alone.
        counters.setdefault("zswpwb", debug.get("written_back_pages", 0))
        columns = record["samples"]["columns"]
        wall_ns = wall_ns or rows[-1, 0] * 1e9
        late = rows[(rows[:, 0] >= wall_ns / 2e9) & (rows[:, 0] <= wall_ns / 1e9)]
        late = late if late.size else rows
        pool, stored = columns.index("pool_total"), columns.index("stored_pages")
        if record["finished"]:
            counters["pool_pages"] = float(late[:, pool].mean())
            counters["stored_pages"] = float(late[:, stored].mean())
        counters["pool_pages_peak"] = float(rows[:, pool].max())
    # Kept by the cgroup itself in v2; /proc/vmstat has other processes in it.
    inside = record.get("memcg") or {}
    if record["cgroup"] == "v2":
        counters |= {name: inside[name] for name in COUNTERS if name in inside}
    return counters


# ---- replaying -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class OwnClock:
    """A clock of the model's own, to be tied to the recorded one.

    times_ns : int64, shape (rows + 1,): when each touch came in a first replay at mean costs
    reached : rows it came to
    touch_ns : time of a touch of a mapped page
    means : costs of the stalls
    """

    times_ns: npt.NDArray[np.int64]
    reached: int
    touch_ns: int
    means: Means


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
    trace = _read_table(run.trace, ("page", "is_write"))
    codec = codec_column(run.scenario.codec)
    table = _read_table(run.pages, ("page",)).sort("page")
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
    if run.scenario.reclaim != "two-list" and not untimed:
        return load
    touch_ns, means = _clock_costs(run)
    first_pass = _replay(run, load, (untimed or run.replays)[0], _NO_ROWS, means)
    return dataclasses.replace(
        load,
        own_clock=_own_clock(run, first_pass, load.page_ids.size, touch_ns, means),
        modelled_times=_modelled_times(run, load, untimed[0], first_pass) if untimed else None,
    )


def _read_table(path: Path, needed: Sequence[str]) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or 'cannot be read'}") from error
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)}")
    return frame


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
        outside = outside_touches(load, repeat.outside_ns)
        touched = np.interp(np.arange(rows), steps, repeat.times_ns)
        times = (touched + outside).astype(np.int64)
    else:
        assert load.modelled_times is not None  # as load_workload() has it
        times = load.modelled_times
        outside = np.zeros(rows, np.int64)
    ties = _tie_clock(load, times, outside, repeat.tie_share)
    means = _EMULATED if run.emulated else _RECORDED
    replay = _replay(run, load, repeat, times, means, worker_timing, on_events, ties)
    replay.finish()
    if replay.finished and repeat.file_pages:
        model = find_reclaim(run.scenario.reclaim)
        replay.charge_file_pages(model.load_charge(), repeat.file_pages, int(times[-1]))
    counters: dict[str, float] = dict(replay.counters())
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
    ties: Sequence[_Tie] | None = None,
) -> Replay:
    scenario = run.scenario
    timed = times.size > 0
    if not timed:
        # First pass, for the clock alone: statistics are exact, so that no kill cuts it short.
        touch_ns = _EMULATED_TOUCH_NS if run.emulated else _TOUCH_NS
        scenario = dataclasses.replace(scenario, stat_flush_ns=0, touch_ns=touch_ns)
    model = find_reclaim(scenario.reclaim)
    replay = Replay(
        scenario,
        model.load(),
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
        tlb_entries=_EMULATED_TLB_ENTRIES if run.emulated else 0,
        remote_stock_pages=repeat.remote_stock_pages,
        fresh_boot=run.emulated,
    )
    nothing = np.zeros(load.compressed_bytes.size, np.bool_)
    replay.add_pages(load.compressed_bytes, load.zero_filled, nothing, load.table_bits)
    replay.add_neighbours(*load.neighbours)
    replay.use_page_tables(load.tables)
    times.flags.writeable = False
    if ties is None:
        replay.feed(0, load.page_ids, load.is_write, times, _NO_ROWS, on_events or _no_events)
        return replay
    for tie in ties:
        rows = slice(tie.start, tie.stop)
        replay.set_clock(tie.means)
        if not replay.feed(
            tie.start,
            load.page_ids[rows],
            load.is_write[rows],
            tie.times_ns,
            _NO_ROWS,
            on_events or _no_events,
        ):
            break
    return replay


def outside_touches(load: Workload, outside_ns: float) -> npt.NDArray[np.int64]:
    """Return how much of the time outside the touches had passed when each touch came.

    A page is filled with random lines and zeros after its first touch, and the clock is read around
    every touch. In all runs the recorder's samples put the pages filled by then at 12 to 13 ns a line
    more than their touches took, and leave 21 to 30 ns a touch.
    """
    rows = load.page_ids.size
    # Ids are given in the order of first use: the highest so far tells how many were filled.
    seen = np.maximum.accumulate(load.page_ids.astype(np.int64))
    lines = np.cumsum(load.random_lines.astype(np.int64))
    filling = min(_FILL_LINE_NS * float(lines[-1]), outside_ns) if rows else 0.0
    out = (outside_ns - filling) / max(rows, 1) * np.arange(1, rows + 1)
    if filling:
        out += filling / float(lines[-1]) * lines[seen]
    return out.astype(np.int64)


@dataclasses.dataclass(frozen=True)
class _Tie:
    """Rows of a trace between two moments that the kernel's and the model's clock share.

    times_ns : int64: when each touch came, without the stalls since the first of these rows
    means : costs of the stalls, scaled so that the last row ends when it did on the kernel
    """

    start: int
    stop: int
    times_ns: npt.NDArray[np.int64]
    means: Means


def _clock_costs(run: RecordedRun) -> tuple[int, Means]:
    """Return the time of a touch of a mapped page and the mean costs on the machine of a run."""
    if run.emulated:
        return _EMULATED_TOUCH_NS, _EMULATED
    return _TOUCH_NS, touch_costs(run, None).means()


def _own_clock(
    run: RecordedRun, first_pass: Replay, rows: int, touch_ns: int, means: Means
) -> OwnClock | None:
    """Return the clock of the model's own costs.

    None where waits decide that no mean cost tells (of the device on a real machine, of the writeback
    worker where the pool is full), and for MGLRU, which does not decide by such statistics.
    """
    if run.scenario.reclaim != "two-list":
        return None
    machine = first_pass.machine[0]
    waits = () if run.emulated else ("pswpin", "pswpout")
    if any(machine[name] for name in waits) or (machine["pool_limit_hit"] and machine["writeback"]):
        return None
    at, clock = _course(first_pass, rows)
    own = np.interp(np.arange(rows + 1), at, clock).astype(np.int64)
    reached = rows if first_pass.finished else min(max(int(machine["oom_at_access"]), 1), rows)
    return OwnClock(own, reached, touch_ns, means)


def _course(first_pass: Replay, rows: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return touches and the replay's clock at each, from the first to the one behind the last.

    After an OOM kill it goes on as it went on average. The last retries are not in it: they come before
    no touch.
    """
    samples = first_pass.samples[: int(first_pass.machine[0]["samples"])]
    at, clock = samples["access"], samples["clock_ns"]
    done, end = rows, float(first_pass.machine[0]["clock_ns"])
    if not first_pass.finished:
        came = at <= int(first_pass.machine[0]["oom_at_access"])
        at, clock = at[came], clock[came]
        if at.size:
            done, end = rows + 1, float(clock[-1]) * (rows + 1) / max(int(at[-1]), 1)
    return np.concatenate([[0], at, [done]]), np.concatenate([[0.0], clock, [max(end, 1.0)]])


def _tie_clock(
    load: Workload,
    times: npt.NDArray[np.int64],
    outside: npt.NDArray[np.int64],
    share: float,
) -> list[_Tie] | None:
    """Return a clock of the model's own, tied to the recorded one at a few moments.

    While the statistics say that inactive is low, every run of reclaim deactivates pages and takes
    longer, so that fewer come before the next flush. Which flush begins such a stretch depends on
    microseconds, so the model has them elsewhere than the kernel; a clock that carries the kernel's
    own stalls would have the model's stretches go on for too long. Between two ties lies as much of
    the model's own time everywhere: one long run of reclaim is as much work as many touches.
    """
    clock = load.own_clock
    if clock is None:
        return None
    rows, own = load.page_ids.size, clock.times_ns
    ties = []
    work = own[0] + (own[clock.reached - 1] - own[0]) * (np.arange(_TIES) + share) / _TIES
    at = np.searchsorted(own[:-1], work)
    borders = np.unique([0, *at.tolist(), rows]).tolist()
    for start, stop in itertools.pairwise(borders):
        beside = outside[start:stop] - outside[start]
        taken = float(times[min(stop, rows - 1)] - times[start]) - float(beside[-1])
        scale = max(taken, 1.0) / max(int(own[stop] - own[start]), 1)
        means = {name: round(ns * scale) for name, ns in dataclasses.asdict(clock.means).items()}
        mapped = times[start] + np.arange(stop - start) * (clock.touch_ns * scale) + beside
        ties.append(_Tie(start, stop, mapped.astype(np.int64), Means(**means)))
    return ties


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


def _modelled_times(
    run: RecordedRun, load: Workload, repeat: Repeat, first_pass: Replay
) -> npt.NDArray[np.int64]:
    """Return when each touch came: the model's own clock, tied to what the samples show.

    A first pass counts what each touch cost by mean costs of the recording machine. Its clock is
    stretched between ties: the start, the end at the recorded time, and each sample taken while
    pages were touched for the first time, whose number the sample tells (`anon` and `swap`).
    """
    rows = load.page_ids.size
    steps, clock = _course(first_pass, rows)
    samples = first_pass.samples[: steps.size - 2]
    # `anon` is NR_ANON_MAPPED, mm/rmap.c: a page that reclaim has unmapped is not in it.
    held = samples["mapped_pages"] + samples["swap_slots"]
    if run.scenario.cgroup == "v1":  # its `swap` leaves out what is in memory too
        touched = np.maximum.accumulate(load.page_ids) + 1
        held = touched[np.minimum(samples["access"], rows - 1)].astype(np.int64)
    held = np.concatenate([[0], np.maximum.accumulate(held)])
    ties = _ties(steps[:-1], held, repeat)
    wall_ns = repeat.wall_ns if first_pass.finished else 0
    ties = [(0, 0), *(tie for tie in ties if not wall_ns or tie[1] < wall_ns)]
    last_touch, last_ns = ties[-1]
    done = float(np.interp(last_touch, steps, clock))
    if wall_ns:
        ties.append((rows, wall_ns))
    else:
        scale = last_ns / done if last_ns else 1.0
        ties.append((rows, int(last_ns + (clock[-1] - done) * scale)))
    out = np.empty(rows, np.int64)
    for (start, start_ns), (stop, stop_ns) in itertools.pairwise(ties):
        at = np.interp(np.arange(start, stop), steps, clock)
        low, high = np.interp([start, stop], steps, clock)
        share = (at - low) / (high - low) if high > low else 0.0
        out[start:stop] = start_ns + share * (stop_ns - start_ns)
    return out


def _ties(
    steps: npt.NDArray[np.int64], held: npt.NDArray[np.int64], repeat: Repeat
) -> list[tuple[int, int]]:
    """Return (touch, time) of the samples taken while new pages were coming in quickly."""
    ties: list[tuple[int, int]] = []
    for time_ns, pages in repeat.held_pages.T.tolist():
        at = int(np.searchsorted(held, pages))
        if not 1 <= at < held.size - 1:
            continue
        slope = (held[at + 1] - held[at - 1]) / (steps[at + 1] - steps[at - 1])
        touch = int(np.interp(pages, held[at - 1 : at + 1], steps[at - 1 : at + 1]))
        if slope > _NEW_PAGES and touch > (ties[-1][0] if ties else 0):
            ties.append((touch, time_ns))
    return ties


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


# ---- comparing -------------------------------------------------------------------------------------


def validate(
    folders: Iterable[str | Path],
    *,
    run: str | None = None,
    counters: Sequence[str] | None = None,
    jobs: int | None = None,
    costs: str | Path | None = None,
    skipped: Callable[[str], None] = lambda _: None,
) -> pl.DataFrame:
    """Replay recorded runs and return the model's counters beside the kernel's.

    Parameters
    ----------
    folders : with NAME.json, and its trace and page table beside it or where its keys say
    run : only runs whose name contains this
    counters : only these; None is all of COUNTERS and TOUCH_COUNTERS
    costs : cost table for the times of touches; None uses the bundled one of those runs
    jobs : threads; None uses every core
    skipped : called with a line for each run that is left out, saying why

    Returns
    -------
    one row per run and counter: run, counter, kernel (mean over the repeats that finished), model
    (mean over its own), error (model/kernel - 1), kernel_min, kernel_max, model_min, model_max (where
    the writeback worker ran also over both ends of its timing, replay.engine.WORKER_TIMING),
    release, reclaim, cgroup. `oom_events` is the share of repeats that were killed. Runs whose
    touches were timed have TOUCH_COUNTERS too: percentiles over the touches of every repeat, or of
    the one whose times were kept where the others' are not recorded, and the sum of every repeat.

    Raises
    ------
    TracereplayError
        No run is there, or one cannot be read.
    """
    for name in counters or ():
        if name not in (*COUNTERS, *TOUCH_COUNTERS):
            raise unknown_name("counter", name, [*COUNTERS, *TOUCH_COUNTERS])
    paths = [path for path in find_runs(folders) if run is None or run in path.stem]
    if not paths:
        raise InputError(f"no recorded run has {run!r} in its name")
    runs: list[RecordedRun] = []
    for path in paths:
        wanted = _read_json(path).get("reclaim", "two-list")
        if wanted not in RECLAIM:
            skipped(f"{path.stem}: skipped, no reclaim model {wanted}")
            continue
        try:
            each = load_run(path)
        except SettingsError as error:  # of a kernel that is known, but not with such settings
            skipped(f"{path.stem}: skipped: {error}")
            continue
        missing = [str(p) for p in (each.trace, each.pages) if not p.is_file()]
        if missing:
            skipped(f"{each.name}: skipped, {' and '.join(missing)} missing")
            continue
        runs.append(each)
    rows: list[dict[str, Any]] = []
    prices = {
        run.scenario.codec: touch_costs(run, costs)
        for run in runs
        if not run.emulated and run.touches_ns
    }
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        waiting: list[tuple[RecordedRun, list[Future[dict[str, float]]]]] = []
        for each in runs:
            load = load_workload(each)
            tasks = [
                pool.submit(_replay_beside, each, load, repeat, prices.get(each.scenario.codec))
                if nth == each.timed_repeat and load.touch_ns is not None
                else pool.submit(replay_repeat, each, load, repeat)
                for nth, repeat in enumerate(each.replays)
            ]
            waiting.append((each, tasks))
        for each, tasks in waiting:
            modelled = [task.result() for task in tasks]
            ends: list[dict[str, float]] = []
            if any(counters["zswpwb"] for counters in modelled):
                load, repeat = load_workload(each), each.replays[0]
                ends = [replay_repeat(each, load, repeat, timing) for timing in ("early", "late")]
            rows += compare_counters(each, modelled, ends)
    schema: dict[str, Any] = {
        "run": pl.String,
        "counter": pl.String,
        "kernel": pl.Float64,
        "model": pl.Float64,
        "error": pl.Float64,
        "kernel_min": pl.Float64,
        "kernel_max": pl.Float64,
        "model_min": pl.Float64,
        "model_max": pl.Float64,
        "release": pl.String,
        "reclaim": pl.String,
        "cgroup": pl.String,
    }
    frame = pl.DataFrame(rows, schema=schema)
    return frame if counters is None else frame.filter(pl.col("counter").is_in(counters))


def touch_costs(run: RecordedRun, costs: str | Path | None) -> Costs:
    """Return the costs that predict the touches of a run.

    Raises
    ------
    SettingsError, InputError
        The table cannot be used, or knows no disk like that of the runs.
    """
    # A table of `calibrate` names its disk by kind; where it has measured none, the bundled one stands.
    device = next(iter(own_devices(costs or RECORDED)), "hdd")
    return load_costs(costs or RECORDED, device, run.scenario.codec, random_lines=True)


def _replay_beside(
    run: RecordedRun, load: Workload, repeat: Repeat, costs: Costs | None
) -> dict[str, float]:
    """Replay the repeat whose touches were timed; return counters, and the times on both sides."""
    counters, timed = replay_timed(run, load, repeat)
    if costs is None:
        return counters
    predicted = predict_touches(timed.page_ids, timed.events, costs)
    counters |= {f"model {name}": value for name, value in slow_touches(predicted).items()}
    counters |= {f"kernel {name}": value for name, value in slow_touches(timed.touch_ns).items()}
    return counters


def compare_counters(
    run: RecordedRun,
    modelled: Sequence[dict[str, float]],
    ends: Sequence[dict[str, float]] = (),
) -> list[dict[str, Any]]:
    """Return one row per counter that either side has seen.

    `ends` are replays with the worker's timing at either end; they widen model_min and model_max.
    """
    finished = [counters for counters in modelled if counters["finished"]]
    rows = []
    for name in COUNTERS:
        if name == "oom_events":
            kernel = [run.killed / run.repeats]
            model = [sum(not counters["finished"] for counters in modelled) / len(modelled)]
        elif name == "oom_at_touch":
            kernel = list(run.killed_at)
            model = [counters[name] for counters in modelled if name in counters]
            if not kernel or not model:
                continue
        else:
            kernel = [counters[name] for counters in run.kernel_counters if name in counters]
            # A killed run is compared as far as it came, where the kernel's was killed too.
            model = [counters[name] for counters in finished or modelled]
        kernel_mean = float(np.mean(kernel)) if kernel else None
        model_mean = float(np.mean(model)) if model else None
        spread = list(model)
        if name not in ("oom_events", "oom_at_touch"):
            spread += [counters[name] for counters in ends]
        if name != "oom_events" and not kernel_mean and not model_mean:
            continue
        rows.append(
            {
                "run": run.name,
                "counter": name,
                "kernel": kernel_mean,
                "model": model_mean,
                "error": model_mean / kernel_mean - 1
                if kernel_mean and model_mean is not None
                else None,
                "kernel_min": float(min(kernel)) if kernel else None,
                "kernel_max": float(max(kernel)) if kernel else None,
                "model_min": float(min(spread)) if spread else None,
                "model_max": float(max(spread)) if spread else None,
                "release": run.scenario.kernel,
                "reclaim": run.scenario.reclaim,
                "cgroup": run.scenario.cgroup,
            }
        )
    return rows + _compare_touches(run, modelled[run.timed_repeat])


def _compare_touches(run: RecordedRun, beside: dict[str, float]) -> list[dict[str, Any]]:
    """Return the rows of TOUCH_COUNTERS; none where the touches of a run were not timed."""
    rows = []
    for name in TOUCH_COUNTERS:
        if f"kernel {name}" not in beside or f"model {name}" not in beside:
            continue
        kernel, model = [beside[f"kernel {name}"]], beside[f"model {name}"]
        if name == "touch_total_ns" and run.touches_ns:
            kernel = [float(total) for total in run.touches_ns]
        elif run.slow_touches:
            kernel = [repeat[name] for repeat in run.slow_touches]
        mean = float(np.mean(kernel))
        rows.append(
            {
                "run": run.name,
                "counter": name,
                "kernel": mean,
                "model": model,
                "error": model / mean - 1,
                "kernel_min": min(kernel),
                "kernel_max": max(kernel),
                "model_min": model,
                "model_max": model,
                "release": run.scenario.kernel,
                "reclaim": run.scenario.reclaim,
                "cgroup": run.scenario.cgroup,
            }
        )
    return rows


def fit_costs(
    folders: Iterable[str | Path], names: Sequence[str], base: str | Path | None = None
) -> dict[str, Any]:
    """Return a cost table fitted to the touch times of one run with zswap, and one without.

    The run with zswap gives faults, reclaim and decompression, the one without gives the device;
    either may be missing. The rules stand in touch_times.

    Parameters
    ----------
    names : of the runs
    base : cost table for what touches do not tell; None is the bundled one

    Raises
    ------
    InputError
        A run is not there, its touches were not timed, or two of one kind are named.
    """
    paths = {path.stem: path for path in find_runs(folders)}
    table: dict[str, Any] = {
        "schema": SCHEMA,
        "name": "fit of " + " and ".join(names),
        "fitted_to": list(names),
    }
    found: dict[bool, RecordedRun] = {}
    for name in names:
        if name not in paths:
            raise unknown_name("run", name, sorted(paths))
        run = load_run(paths[name])
        uses_zswap = run.scenario.policy != "no-zswap"
        if uses_zswap in found:
            kind = "with zswap" if uses_zswap else "without zswap"
            raise InputError(f"{found[uses_zswap].name}, {name}: one run {kind} is enough")
        found[uses_zswap] = run
        table["machine"] = str(
            _read_json(paths[name]).get("machine", f"Linux {run.scenario.kernel}")
        )
    table["source"] = f"touch times of the recorded runs {' and '.join(names)}"
    codec = next(iter(found.values())).scenario.codec
    costs = load_costs(base, codec=codec, random_lines=True)
    for uses_zswap in (True, False):
        if uses_zswap not in found:
            continue
        run = found[uses_zswap]
        load = load_workload(run)
        if load.touch_ns is None:
            raise InputError(f"{run.trace}: no column touch_ns; the touches were not timed")
        _, timed = replay_timed(run, load, run.replays[run.timed_repeat])
        if uses_zswap:
            table |= fit_faults(timed, costs)
            costs = with_sections(costs, table)
        else:
            table["devices"] = {_TIMED_DEVICE: fit_device(timed, costs)}
    return table


_HEADLINE = ("pgmajfault", "zswpin", "zswpout", "pswpin", "pswpout")
_FEW = 2000  # counters below it differ by single events of the recorder's own pages


def summarize(frame: pl.DataFrame) -> str:
    """Return one line: median and worst error of the counters that faults and stores show in."""
    chosen = frame.filter(
        pl.col("counter").is_in(_HEADLINE)
        & pl.col("error").is_not_null()
        & (pl.col("kernel") >= _FEW)
    )
    runs = frame["run"].n_unique()
    if not chosen.height:
        return f"{runs} runs; no counter of {', '.join(_HEADLINE)} reaches {_FEW:,} events"
    errors = chosen["error"].abs()
    worst = chosen.row(int(errors.arg_max() or 0), named=True)
    middle = float(np.median(errors.to_numpy()))
    name = " ".join([str(worst["run"]), str(worst["counter"])])
    return (
        f"{runs} runs, {chosen.height} counters of {_FEW:,} events or more "
        f"({', '.join(_HEADLINE)}): median error {middle:.2%}, "
        f"worst {worst['error']:+.2%} ({name})"
    )


def touch_source(costs: str | Path | None) -> tuple[str, tuple[str, ...]]:
    """Return the name of a cost table, and the runs it was fitted to."""
    table = load_costs(costs or RECORDED)
    return table.name, table.fitted_to


def summarize_touches(frame: pl.DataFrame, costs_name: str, fitted_to: Sequence[str]) -> str:
    """Return one line on the times of touches; empty where no run has them."""
    chosen = frame.filter(pl.col("counter").is_in(TOUCH_COUNTERS))
    if not chosen.height:
        return ""
    parts = []
    for name in TOUCH_COUNTERS:
        errors = chosen.filter(counter=name)["error"].abs()
        if errors.len():
            parts.append(
                f"{name[len('touch_') : -len('_ns')]} {float(np.median(errors)):.0%} (worst "
                f"{float(errors.to_numpy().max()):.0%})"
            )
    text = f"touch times of {chosen['run'].n_unique()} runs by costs {costs_name!r}: median error "
    text += ", ".join(parts)
    if fitted_to:
        text += f"; fitted to {' and '.join(fitted_to)}, to no other run"
    return text


def beyond(frame: pl.DataFrame, limit: float) -> list[dict[str, Any]]:
    """Return the rows whose error is larger than a limit (0.02 is 2 %)."""
    return frame.filter(pl.col("error").abs() > limit).to_dicts()

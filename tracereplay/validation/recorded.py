"""Recorded kernel runs: a JSON file with its trace and page table.

It holds settings, counters, and the times at which the cgroup's statistics were read, because
reclaim decides with statistics as old as the last read. Two layouts are read. *Repeated* runs
(`settings.limit_mib`) hold several repeats and the time at 1000 equal steps of the trace. *Emulated*
runs (`memory_limit_bytes`) hold one repeat, the times of the reads and the time of the whole; when
each touch came follows from the model's own clock (clocks.py).
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tracereplay.errors import FormatError, InputError, strerror
from tracereplay.host.zram import chosen_of
from tracereplay.reclaim import RECLAIM
from tracereplay.replay.page_tables import TABLE_SHIFT
from tracereplay.replay.settings import (
    KERNELS,
    Scenario,
    nearest_kernel,
    release_number,
    stores_raw,
    unknown_kernel,
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
_IN_DEBUGFS = (
    "pool_limit_hit", "reject_compress_poor", "reject_compress_fail", "reject_alloc_fail",
)  # fmt: skip
# Replays of a run that was recorded once: of the period of reads, where the times of touches are the
# model's own, and of the ties of its clock. What happens between two ties is known of neither, and some
# counters hang on it.
READ_PHASES = 5
FLUSH_PHASES = 20  # phases of the periodic flush, where no read of the statistics fixed them
_NO_ROWS: npt.NDArray[np.int64] = np.empty(0, np.int64)
_NO_ROWS.flags.writeable = False
_NS_PER_US = 1000
_SAMPLE_NS = 102_000_000  # between two reads of the statistics in the emulated runs
_READS_AFTER = 1_000  # further reads, where the task was killed
# mm/memcontrol.c:FLUSH_TIME is 2 s; a timer that far off waits for the next 32 ms of its wheel where a
# jiffy is 4 ms (kernel/time/timer.c:calc_index(), level 1), as the tracepoint shows.
_FLUSH_NS = 2_016_000_000
_SAME_READ_NS = 1_000_000  # a flush that near to a reading is that reading's
_ZRAM_CODEC = "zram.comp_algorithm"  # of emulated runs, as sysfs shows it
_REMOTE_STOCK_PAGES = 16  # median of the 65 repeats of older records of 6.18 that tell
# Of the page tables that map the recorder's own memory: it reads 4 bytes of the trace a touch and writes
# as many of the time, and a table maps 2 MiB.
_TOUCHES_PER_OWN_TABLE = (PAGE_BYTES << TABLE_SHIFT) // 8
_BYTES_PER_TOUCH_TIME = 4  # the recorder wrote a uint32 per touch to a file at the end


@dataclasses.dataclass(frozen=True)
class Repeat:
    """One repeat of a run on the kernel, or one phase of the flush where nothing was read.

    Attributes
    ----------
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
    flushes_told : nobody read the statistics, and the kernel told when it flushed them by itself
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
    flushes_told: bool = False


@dataclasses.dataclass(frozen=True)
class RecordedRun:
    """A run on a real kernel, as its JSON tells it.

    Attributes
    ----------
    release : of the kernel it ran on, such as 6.8; the scenario says whose rules the replay follows
    kernel_counters : one mapping per finished repeat; per repeat where all were killed
    touches_ns : sum of the times of all touches, one per finished repeat
    slow_touches : percentiles of the touches over 1 us by counter, one mapping per finished repeat;
        empty where only one repeat's touches are known
    timed_repeat : whose every touch was kept
    killed, repeats : how many repeats ended in an OOM kill, of how many
    ends : of each repeat, whether it finished, where every replay is of one; else empty
    spilled_pages : of the repeat with most, that went to swap areas not the run's own
    killed_at : the touch that each of these was killed at, where it was recorded
    reads_first : a write touch of the recorder read before it wrote
    vma_readahead : no swap device is rotational, so readahead goes by address
    reader_apart : a process of its own read the statistics, on the task's CPU
    touches_per_own_table : touches for which the recorder needs one more page table of its own, charged
        to the cgroup; 0: none is
    """

    name: str
    release: str
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
    reader_apart: bool = False
    touches_per_own_table: int = 0
    slow_touches: tuple[dict[str, float], ...] = ()
    timed_repeat: int = 0
    killed_at: tuple[int, ...] = ()
    spilled_pages: int = 0
    ends: tuple[bool, ...] = ()


def find_runs(
    folders: Iterable[str | Path], skipped: Callable[[str], None] = lambda _: None
) -> list[Path]:
    """Return the JSON files of recorded runs in folders and in the folders right below.

    `skipped` is called with a line for each JSON file there that cannot be read.

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
            below = [*sorted(folder.glob("*.json")), *sorted(folder.glob("*/*.json"))]
            found += [path for path in below if _is_run(path, skipped)]
        else:
            raise InputError(f"{folder}: no such folder")
    if not found:
        names = ", ".join(map(str, folders))
        raise InputError(f"{names}: no recorded run here; a run is NAME.json with `vmstat`")
    return found


def _is_run(path: Path, skipped: Callable[[str], None]) -> bool:
    try:
        record = read_json(path)
    except InputError as error:
        skipped(f"{error}; skipped")
        return False
    return isinstance(record, dict) and "vmstat" in record and "settings" in record


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises
    ------
    InputError, FormatError
        It cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {strerror(error)}") from error
    except ValueError as error:
        raise FormatError(f"{path}: not JSON: {error}") from error


def load_run(path: Path, kernel: str | None = None) -> RecordedRun:
    """Read a run of either layout.

    Parameters
    ----------
    kernel : whose rules the replay follows; None is the one it ran on, or the nearest there is

    Raises
    ------
    FormatError
        The JSON lacks a key that a run needs.
    SettingsError
        There is no such kernel, or it has no such settings.
    """
    if kernel is not None and kernel not in KERNELS:
        raise unknown_kernel(kernel)
    record = read_json(path)
    try:
        release = kernel or record["kernel"]
        if "memory_limit_bytes" in record:
            return _load_emulated(path, record, release)
        return _load_repeated(path, record, release)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FormatError(
            f"{path}: not a recorded run: {type(error).__name__} {error}; see `validate --help`"
        ) from error


def _pool_limit_bytes(mem_total_kib: int, percent: int) -> int:
    """mm/zswap.c:zswap_max_pages(): whole pages."""
    return mem_total_kib * 1024 // PAGE_BYTES * percent // 100 * PAGE_BYTES


def _beside(path: Path, record: dict[str, Any], key: str) -> Path:
    named = record.get(key)
    return path.parent / (named or f"{path.stem}.{key}.parquet")


def _load_repeated(path: Path, record: dict[str, Any], release: str) -> RecordedRun:
    settings = record["settings"]
    zswap = settings["zswap"] == "Y"
    scenario = Scenario(
        name=path.stem,
        policy=_policy(
            release,
            zswap,
            settings.get("shrinker") == "Y",
            writeback=settings.get("zswap_writeback", 1) != 0,
            zram=settings.get("zram") == "Y",
        ),
        memory_limit_bytes=int(settings["limit_mib"] * (1 << 20)),
        reclaim=record.get("reclaim", "two-list"),
        kernel=nearest_kernel(release),
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
    finished = [repeat for repeat in repeats if repeat["finished"]]
    replays = [_one_repeat(record, repeat) for repeat in repeats]
    ends = tuple(bool(repeat["finished"]) for repeat in repeats)
    timed_repeat = int(record.get("touch_repeat", 0))
    if not 0 <= timed_repeat < len(replays):
        raise ValueError(f"touch_repeat is {timed_repeat}, of {len(replays)} repeats")
    recorder = record.get("recorder", {})
    # That of `host-run` mapped its own memory as it went, before it came to do so first and to say so:
    # kernel memory of a run of 6 M touches grows from 129 to 152 pages.
    maps_as_it_goes = bool(recorder) and not recorder.get("mapped_before", False)
    if not any(repeat.reads_ns.size for repeat in replays):
        timed_repeat, ends = 0, ()
        replays = _flush_phases([_one_repeat(record, repeat) for repeat in finished or repeats])
    return RecordedRun(
        name=path.stem,
        release=".".join(map(str, release_number(record["kernel"]))),
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
        touches_per_own_table=_TOUCHES_PER_OWN_TABLE if maps_as_it_goes else 0,
        vma_readahead=settings.get("rotational", 1) == 0,
        slow_touches=_slow_touches(finished),
        timed_repeat=timed_repeat,
        ends=ends,
        spilled_pages=max(int(repeat.get("spilled_pages", 0)) for repeat in repeats),
    )


def _one_repeat(record: dict[str, Any], repeat: dict[str, Any]) -> Repeat:
    """Return when the touches of one repeat came, and what else its replay has to know."""
    whole_ns = (record.get("kreplay") or {}).get("wall_ns", 0)
    wall_ns = (repeat.get("kreplay") or {}).get("wall_ns", 0)
    # `elapsed_us` is the sum of the touches' times, scaled to the whole; but a page was filled after
    # its first touch, and the clock read, outside the timing: see outside_touches().
    steps = repeat.get("elapsed_us") or record.get("elapsed_us") or []
    if repeat.get("killed") and repeat.get("elapsed_us"):  # as far as it came; then at its pace
        more = np.arange(len(steps), repeat["killed"]["steps"]) + 1
        steps = [*steps, *(steps[-1] / len(steps) * more).astype(np.int64)]
    times_ns = np.concatenate([[0], np.asarray(steps, np.int64)]) * _NS_PER_US
    outside_ns = 0.0
    if whole_ns and not repeat.get("elapsed_us"):  # of the whole run: a repeat ran at its own pace
        pace = (wall_ns or whole_ns) / whole_ns
        times_ns = (times_ns * pace).astype(np.int64)
        if steps:
            first = (record.get("repeats") or [record])[0]
            touches_ns = record.get("latency_sum_ns") or first.get("latency_sum_ns") or whole_ns
            own_ns = repeat.get("latency_sum_ns") or touches_ns * pace
            outside_ns = max(float(times_ns[-1]) - own_ns, 0.0)
            times_ns = (times_ns * (1 - outside_ns / times_ns[-1])).astype(np.int64)
    reads, looks = _flushes(repeat)
    return Repeat(
        times_ns if steps else _NO_ROWS,
        wall_ns or int(times_ns[-1]),
        reads,
        _remote_stock_pages(record, repeat),
        _file_pages(record),
        outside_ns,
        looks=looks,
        flushes_told=bool(repeat.get("flush_us")) and not repeat.get("stat_read_us"),
    )


def _flushes(repeat: dict[str, Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return when the statistics were brought up to date, and which of these times were readings.

    Each reading of them did, and what else the kernel's tracepoint told where it was listened to: the
    periodic flush, readers of a cgroup above.
    """
    reads = np.asarray(repeat.get("stat_read_us") or [], np.int64) * _NS_PER_US
    told = np.asarray(repeat.get("flush_us") or [], np.int64) * _NS_PER_US
    if reads.size and told.size:
        at = np.searchsorted(reads, told)
        before = told - reads[np.maximum(at - 1, 0)]
        after = reads[np.minimum(at, reads.size - 1)] - told
        told = told[(np.abs(before) > _SAME_READ_NS) & (np.abs(after) > _SAME_READ_NS)]
    if told.size and repeat.get("killed") and repeat.get("elapsed_us"):
        # The report of the kill flushes as well, which the replay does by itself where it is killed;
        # it may live longer.
        told = told[told <= repeat["elapsed_us"][-1] * _NS_PER_US]
        last = told[-1] if told.size else 0
        told = np.append(told, last + _FLUSH_NS * np.arange(1, _READS_AFTER))
    times = np.sort(np.concatenate([reads, told]))
    return times, np.searchsorted(times, reads)


def _file_pages(record: dict[str, Any]) -> int:
    """Return the page cache that the recorder's own file took after the last touch.

    In a long run it is written back and dropped while it grows, and only what was left at the end
    counts.
    """
    touches = (record.get("kreplay") or {}).get("records", 0)
    written = touches * _BYTES_PER_TOUCH_TIME // PAGE_BYTES + 1
    left = record.get("memory_stat_end", {}).get("cache", 0) // PAGE_BYTES
    is_short = any(repeat.get("stat_read_us") for repeat in record.get("repeats") or [record])
    kept = written if is_short or not left else min(left, written)
    return int(record.get("recorder", {}).get("file_pages", kept))


def _slow_touches(finished: Sequence[dict[str, Any]]) -> tuple[dict[str, float], ...]:
    """Return TOUCH_COUNTERS' percentiles of every repeat; nothing where a repeat lacks them."""
    if not all(repeat.get("slow_touch_ns") for repeat in finished):
        return ()
    return tuple(
        {f"touch_p{share}_ns": float(value) for share, value in repeat["slow_touch_ns"].items()}
        for repeat in finished
    )


def _flush_phases(repeats: Sequence[Repeat]) -> list[Repeat]:
    """Return one replay per phase of the periodic flush.

    Nobody read the statistics, so only the periodic flush brought them up to date, and when the
    first one came is not known.
    """
    out = []
    for phase in range(FLUSH_PHASES):
        repeat = repeats[phase % len(repeats)]
        period = _FLUSH_NS
        first = phase * period // FLUSH_PHASES
        end = max(repeat.wall_ns * 2, 4 * period)
        reads = np.arange(first, end, period, dtype=np.int64)
        out.append(dataclasses.replace(repeat, reads_ns=reads))
    return out


def _remote_stock_pages(record: dict[str, Any], repeat: dict[str, Any]) -> int:
    """Return the pages that another CPU's stock held: charged, and neither resident nor kernel's.

    mm/memcontrol.c:refill_stock(): a CPU keeps up to 63 pages it has charged to a cgroup. The task of
    `host-run`, which says what its recorder is like, is bound to one CPU before it enters the cgroup,
    so no other has any: once it had finished, pages and kernel memory were all that was charged. That of
    older records moved once, and the stock it left stays for the whole run; it shows in the mean
    usage. Two figures tell from below how many pages are resident: mapped ones (`rss`), of which a
    few wait in a batch for their list, and those on the lists, of which what was read ahead is not
    mapped.
    """
    if "recorder" in record:
        return 0
    footprint = repeat.get("footprint") or {}
    usage, mapped, kernel, inactive, active = (
        footprint.get(f"{name}_pages_mean_second_half", -1)
        for name in ("usage", "rss", "kmem", "inactive_anon", "active_anon")
    )
    if usage < 0 or mapped < 0:
        return _REMOTE_STOCK_PAGES
    unused = usage - max(mapped, inactive + active) - kernel
    return int(min(max(unused - 2, 0), 63))


def _repeated_counters(repeat: dict[str, Any]) -> dict[str, float]:
    footprint = repeat.get("footprint") or {}
    counters: dict[str, float] = dict(repeat["vmstat"])
    counters |= {k: v for k, v in (repeat.get("zswap_debug") or {}).items() if k in _IN_DEBUGFS}
    for name, key in (
        ("pool_pages", "pool_pages_mean_second_half"),
        ("pool_pages_peak", "pool_pages_peak"),
        ("stored_pages", "stored_pages_mean_second_half"),
    ):
        # The model's mean is that of the whole trace's second half, which a killed run never saw.
        if footprint.get(key, -1) >= 0 and (repeat["finished"] or name == "pool_pages_peak"):
            counters[name] = footprint[key]
    return counters


def _policy(
    release: str, zswap: bool, shrinker: bool, *, writeback: bool, zram: bool = False
) -> str:
    if zram:
        return "zram"
    if not zswap:
        return "no-zswap"
    if not writeback:
        return "no-writeback"
    if shrinker:
        return "shrinker"
    return "store-raw" if stores_raw(release) else "swap-on-reject"


def _max_bytes(text: str) -> int | None:
    return None if text == "max" else int(text)


def _load_emulated(path: Path, record: dict[str, Any], release: str) -> RecordedRun:
    settings = record["settings"]
    zswap = settings["zswap.enabled"] == "Y"
    zram = settings.get(_ZRAM_CODEC, "")
    reclaim = record["reclaim"] if record["reclaim"] in RECLAIM else "two-list"
    scenario = Scenario(
        name=path.stem,
        policy=_policy(
            release,
            zswap,
            settings.get("zswap.shrinker_enabled") == "Y",
            writeback=settings.get("memory.zswap.writeback", "1") != "0",
            zram=bool(zram),
        ),
        memory_limit_bytes=record["memory_limit_bytes"],
        reclaim=reclaim,
        kernel=nearest_kernel(release),
        cgroup=record["cgroup"],
        codec=chosen_of(zram) if zram else settings["zswap.compressor"],
        allocator="zsmalloc" if zram else settings.get("zswap.zpool", "zsmalloc"),
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
    if not record["finished"] and every.size > 1:
        # It reads as long as the task lives, which in the model may be longer.
        period = int(np.median(np.diff(every)))
        every = np.concatenate([every, every[-1] + period * np.arange(1, _READS_AFTER)])
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
        release=".".join(map(str, release_number(record["kernel"]))),
        scenario=scenario,
        trace=_beside(path, record, "trace"),
        pages=_beside(path, record, "pages"),
        replays=tuple(
            dataclasses.replace(
                repeat,
                late_ns=0 if steps.size > 1 else phase * _SAMPLE_NS // READ_PHASES,
                tie_share=phase / READ_PHASES,
            )
            for phase in range(
                READ_PHASES if steps.size <= 1 or RECLAIM[reclaim].decides_by_statistics else 1
            )
        ),
        kernel_counters=(_emulated_counters(record, rows, wall_ns),),
        touches_ns=(),  # times of an emulated machine say nothing
        killed=int(not record["finished"]),
        repeats=1,
        cpus=1,
        emulated=True,
        reader_apart=bool(record.get("stat_read_us")),  # as emulate.py's recorder lists its reads
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
    is_zram = _ZRAM_CODEC in record["settings"]
    if record["settings"]["zswap.enabled"] == "Y" or is_zram:
        debug = record["zswap_debug"]
        counters |= {k: v for k, v in debug.items() if k in _IN_DEBUGFS}
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

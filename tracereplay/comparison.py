"""Run every scenario over one trace, side by side: the one function a notebook needs."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tracereplay import __version__
from tracereplay.content import Content, PageContents, open_content
from tracereplay.costs import ZRAM, Costs, load_costs
from tracereplay.dense import DenseIds
from tracereplay.errors import InputError, SettingsError, strerror
from tracereplay.files import check_free, replacing, write_table
from tracereplay.host.machine import meminfo
from tracereplay.latency import LatencyModel, percentiles
from tracereplay.metrics import codec_frame, footprint_frame, summary_frame, summary_row
from tracereplay.next_use import NextUses
from tracereplay.policies import BASELINE, BOUND, POLICIES, SWAP_TO_ZRAM, find_policy
from tracereplay.precompile import Precompiling
from tracereplay.reclaim import find_reclaim
from tracereplay.replay.engine import held_bytes
from tracereplay.replay.page_tables import TABLE_SHIFT, PageTables, begins_table
from tracereplay.replay.settings import KERNELS, Scenario
from tracereplay.replay.sharing import Group, feed_all, group
from tracereplay.replay.state import NEW_MIDDLE, NEW_TABLE
from tracereplay.schema import COVERAGES, FOOTPRINT, LATENCY, SCHEMA_VERSION, SUMMARY
from tracereplay.tables import read_columns, table_metadata
from tracereplay.trace import BATCH_ROWS, Batch, Trace, open_trace
from tracereplay.units import (
    PAGE_BYTES,
    format_size,
    parse_duration,
    parse_size,
    parse_size_or_percent,
)

FLUSH_PHASES = 5  # replays of a scenario, by default, where the flush of statistics decides
KERNEL_MINIMUM_BYTES = 1 << 18  # less is smaller than the kernel's own batches
RESULT_TABLES = {"summary": SUMMARY, "latency": LATENCY, "footprint": FOOTPRINT}
_WRITTEN_TABLES = (*RESULT_TABLES, "codecs")  # which follows from the others
# In run.json and in the footer of each table: which comparison they are of.
RUN_KEY = "tracereplay.run"
_NO_ROWS: npt.NDArray[np.int64] = np.empty(0, np.int64)

Progress = Callable[[int, int], None]


_REWRITTEN = "rewritten with probability"
_ROOM_SHARE = 0.5  # of the free memory, for the pages of all replays at once


@dataclasses.dataclass(frozen=True)
class Result:
    """What a comparison found.

    summary, latency, footprint : the tables of schema.py
    run : versions, settings, trace, content, costs, notes: what stands in run.json
    """

    summary: pl.DataFrame
    latency: pl.DataFrame
    footprint: pl.DataFrame
    run: dict[str, Any]

    @property
    def codecs(self) -> pl.DataFrame:
        """What each codec saves and costs; schema CODEC_TRADE."""
        return codec_frame(self.summary, self.latency)

    def write(self, folder: str | Path, *, force: bool = False) -> list[Path]:
        """Write the tables and run.json into a folder; return the files written.

        Raises
        ------
        OutputError
            A file is there and `force` is not given, or the folder cannot be written.
        """
        target = make_folder(folder, force=force)
        run = {**self.run, RUN_KEY: _digest(self.run)}
        # A name that is no UTF-8, of the command line, stands there as escapes.
        text = (json.dumps(run, indent=1, ensure_ascii=False) + "\n").encode(
            "utf-8", "backslashreplace"
        )
        metadata = {"tracereplay.schema": SCHEMA_VERSION, RUN_KEY: run[RUN_KEY]}
        written = []
        for name in _WRITTEN_TABLES:
            path = target / f"{name}.parquet"
            write_table(getattr(self, name), path, force=force, metadata=metadata)
            written.append(path)
        path = target / "run.json"
        with replacing(path, force=force) as part:
            part.write_bytes(text)
        return [*written, path]


def _digest(run: Mapping[str, Any]) -> str:
    """Return what tells the tables of one comparison from those of another.

    A folder that was written to twice, by two at once or by one that was killed, may hold both. How
    long it took does not count: the same command on the same inputs makes the same tables.
    """
    rest = {name: value for name, value in run.items() if name != "wall_s"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()[:16]


def read_result(folder: str | Path, *, remedy: str = "run `compare --out` again") -> Result:
    """Read what `Result.write` left in a folder.

    Parameters
    ----------
    remedy : what to do where it cannot be read

    Raises
    ------
    InputError
        A file is missing or damaged, a table lacks a column, or is of another comparison than run.json.
    """
    place = Path(folder)
    path = place / "run.json"
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {strerror(error)}; {remedy}") from error
    except ValueError as error:
        raise InputError(f"{path}: no JSON: {error}; {remedy}") from error
    if not isinstance(run, dict):
        raise InputError(f"{path}: expected one JSON object; {remedy}")
    key = run.pop(RUN_KEY, None)
    frames = {}
    for name, columns in RESULT_TABLES.items():
        table = place / f"{name}.parquet"
        frames[name] = read_columns(table, columns, what="a table of a comparison", remedy=remedy)
        if key is not None and table_metadata(table).get(RUN_KEY) != key:
            raise InputError(f"{table}: of another comparison than {path.name} beside it; {remedy}")
    return Result(**frames, run=run)


def make_folder(folder: str | Path, *, force: bool) -> Path:
    """Make a result folder, or check that it may be written to before any work is done.

    Raises
    ------
    OutputError
        A file of a result is there and `force` is not given, or the folder cannot be written.
    """
    from tracereplay.errors import OutputError

    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target} is a file; name a folder")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{target}: {strerror(error)}") from error
    if not os.access(target, os.W_OK):
        raise OutputError(f"{target}: permission denied")
    for name in (*(f"{table}.parquet" for table in _WRITTEN_TABLES), "run.json", "report.html"):
        check_free(target / name, force=force)
    return target


def compare(
    trace: Trace | str | Path | Sequence[str | Path],
    scenarios: Sequence[Scenario],
    *,
    pages: str | Path | None = None,
    content: str | None = None,
    costs: str | Path | None = None,
    seed: int = 0,
    jobs: int | None = None,
    flush_phases: int = FLUSH_PHASES,
    rewrite_entropy: float = 0.0,
    batch_rows: int = BATCH_ROWS,
    progress: Progress | None = None,
    meanwhile: Callable[[], object] | None = None,
    command: Sequence[str] = (),
) -> Result:
    """Replay a trace once per scenario.

    The trace is read once; every batch goes through all scenarios, on as many cores as `jobs`.
    Batches of any size give the same counts. Where the pages of all scenarios do not fit into half of
    the free memory, those of other limits take their turn, and it is read once for each turn.

    Parameters
    ----------
    pages, content : contents of pages, see content.open_content
    costs : cost table written by `calibrate`; None uses the bundled one
    rewrite_entropy : probability that a page which was written since its last eviction has other
        contents at the next, drawn anew; 0 keeps every page's contents
    flush_phases : replay each scenario so many times, with the statistics flushed at different
        phases, and count how many end in an OOM kill
    progress : called with (rows done, rows in all)
    meanwhile : called while a process beside compiles the replay, if one has to: work for later
    command : command line, for run.json

    Raises
    ------
    TracereplayError
        The trace, contents, costs or a scenario cannot be used; the message says what to do.
    """
    began = time.perf_counter()
    if not isinstance(trace, Trace):
        trace = open_trace(*([trace] if isinstance(trace, str | Path) else trace))
    if not scenarios:
        raise SettingsError("no scenario given")
    names = [scenario.name for scenario in scenarios]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"two scenarios are named {name!r}; give each a name of its own")
    if flush_phases < 1:
        raise SettingsError(f"flush phases: {flush_phases}; 1 or more")
    if not 0 <= seed < 1 << 63:
        raise SettingsError(f"seed {seed}: 0 to 2**63 - 1")
    _check_limits(trace, scenarios)
    turns = _turns(scenarios, trace.unique_pages, flush_phases)
    if len(turns) > 1:
        rows = trace.count()[0]
        results: list[Result] = []
        for turn in turns:
            done = rows * len(results)
            results.append(
                compare(
                    trace,
                    turn,
                    pages=pages,
                    content=content,
                    costs=costs,
                    seed=seed,
                    jobs=jobs,
                    flush_phases=flush_phases,
                    rewrite_entropy=rewrite_entropy,
                    batch_rows=batch_rows,
                    progress=_continued(progress, done, rows, len(turns)),
                    meanwhile=meanwhile,
                    command=command,
                )
            )
        return _joined(results, names)
    compiling = Precompiling(scenario.reclaim for scenario in scenarios)
    rows, unique_pages = trace.count()
    contents = {
        codec: open_content(pages, content, codec, seed)
        for codec in dict.fromkeys(scenario.codec for scenario in scenarios)
    }
    cases = [_Case(scenario, rows, unique_pages, costs, seed) for scenario in scenarios]
    shadows = [
        [_Case(each, rows, unique_pages, costs, seed, counts_latency=False) for each in others]
        for others in (_other_phases(scenario, flush_phases) for scenario in scenarios)
    ]
    replayed = [*cases, *(case for others in shadows for case in others)]
    if not 0 <= rewrite_entropy <= 1:
        raise SettingsError(f"rewrite entropy {rewrite_entropy:g}: a probability, 0 to 1")
    if rewrite_entropy:
        for case in replayed:
            rows_of = contents[case.scenario.codec].rows()
            case.replay.rewrite(
                rows_of.compressed_bytes,
                rows_of.zero_filled,
                rows_of.same_filled,
                share=rewrite_entropy,
                seed=seed,
            )
    groups = group(replayed, lambda case: case.fed_with)
    known = _KnownPages(trace, contents, groups)
    workers = min(jobs or os.cpu_count() or 1, len(replayed))
    ahead = NextUses(trace) if any(case.needs_next_use for case in cases) else None
    pool = ThreadPoolExecutor(workers)
    try:
        for batch in trace.batches(batch_rows):
            known.update()
            compiling.wait(meanwhile)
            next_use = ahead.of(batch.first_row, batch.page_ids.size) if ahead else _NO_ROWS
            next_use.flags.writeable = False
            feed_all(groups, (batch, next_use), batch.page_ids.size, _Case.feed, pool)
            if progress is not None:
                progress(batch.first_row + batch.page_ids.size, rows)
    finally:
        # After Ctrl-C nothing is left to wait for, and a thread may be compiling.
        pool.shutdown(wait=False, cancel_futures=True)
        if ahead is not None:
            ahead.close()
    for each in groups:
        each.finish()
    return _collect(trace, cases, shadows, contents, seed, began, command, rewrite_entropy)


def _room_bytes() -> float:
    """Return how much memory the replays of one turn may take."""
    return meminfo().get("MemAvailable", 1 << 40) * 1024 * _ROOM_SHARE


def _turns(scenarios: Sequence[Scenario], pages: int, phases: int) -> list[list[Scenario]]:
    """Return the scenarios in parts that fit into memory; others of a limit may share a replay."""
    alike: dict[tuple[Any, ...], list[Scenario]] = {}
    for each in scenarios:
        alike.setdefault((each.memory_limit_bytes, each.reclaim, each.codec), []).append(each)
    if len(alike) == 1:
        return [list(scenarios)]
    room = _room_bytes()
    turns: list[list[Scenario]] = []
    held = 0.0
    for together in alike.values():
        wanted = len(together) * phases * held_bytes(pages)
        if not turns or held + wanted > room:
            turns.append([])
            held = 0.0
        turns[-1] += together
        held += wanted
    return turns


def _continued(progress: Progress | None, before: int, rows: int, turns: int) -> Progress | None:
    """Return what to tell of a turn, behind the rows of those before it; it may take turns itself."""
    if progress is None:
        return None
    return lambda done, of: progress(before + done * rows // max(of, 1), rows * turns)


def _joined(parts: Sequence[Result], names: Sequence[str]) -> Result:
    """Return the results of all turns as one, scenarios in this order."""
    order = {name: nth for nth, name in enumerate(names)}
    place = pl.col("scenario").replace_strict(order, return_dtype=pl.Int64)
    run = dict(parts[0].run)
    run["scenarios"] = sorted(
        (each for part in parts for each in part.run["scenarios"]),
        key=lambda each: order[each["name"]],
    )
    run["notes"] = list(dict.fromkeys(line for part in parts for line in part.run["notes"]))
    drawn = dict.fromkeys(line for part in parts for line in part.run["content"].split("; "))
    run["content"] = "; ".join(sorted(drawn, key=lambda line: line.startswith(_REWRITTEN)))
    run["wall_s"] = round(sum(part.run["wall_s"] for part in parts), 3)
    tables = {
        name: pl.concat([getattr(part, name) for part in parts]).sort(place, maintain_order=True)
        for name in RESULT_TABLES
    }
    return Result(**tables, run=run)


class _Case:
    """One scenario with its replay and its latencies."""

    def __init__(
        self,
        scenario: Scenario,
        rows: int,
        unique_pages: int,
        costs: str | Path | None,
        seed: int,
        *,
        counts_latency: bool = True,
    ) -> None:
        model = find_reclaim(scenario.reclaim)
        synchronous = find_policy(scenario.policy).synchronous
        device = ZRAM if synchronous else scenario.device
        self.costs: Costs = load_costs(costs, device, scenario.codec)
        if device == ZRAM and not synchronous:
            self.costs = self.costs.before_device()
        self.scenario = scenario
        # Contents, costs of the latencies, and whether anybody asks for those.
        self.fed_with = (scenario.codec, device, counts_latency)
        self.needs_next_use = model.needs_next_use
        self.replay = model.replay(
            scenario,
            rows=rows,
            unique_pages=unique_pages,
            means=self.costs.means(),
            vma_readahead=scenario.device != "hdd",
        )
        self.latency = LatencyModel(self.costs, seed)
        self.ran_ns: int | None = None  # time of the trace at the last touch that was replayed
        self._counts_latency = counts_latency

    def feed(self, rows: tuple[Batch, npt.NDArray[np.int64]], start: int) -> None:
        batch, next_use = rows
        time_ns = _NO_ROWS if batch.time_ns is None else batch.time_ns
        time_ns.flags.writeable = False
        self.replay.feed(
            batch.first_row,
            batch.page_ids,
            batch.is_write,
            time_ns,
            next_use,
            self.latency.add if self._counts_latency else _ignore,
            batch.run_len,
            start=start,
        )
        if time_ns.size:
            self.ran_ns = int(time_ns[min(self.replay.position, time_ns.size - 1)])

    def continue_from(self, other: _Case) -> None:
        self.replay.continue_from(other.replay)
        self.latency.continue_from(other.latency)
        self.ran_ns = other.ran_ns

    def take_results(self, other: _Case) -> None:
        self.replay.take_results(other.replay)
        self.latency.continue_from(other.latency)
        self.ran_ns = other.ran_ns


def _ignore(events: npt.NDArray[Any]) -> None:
    """Drop the events of a replay that is only asked how it ends."""


def _other_phases(scenario: Scenario, count: int) -> list[Scenario]:
    """Return the scenario at the other phases of the statistics flush.

    When the kernel last flushed before the trace begins is unknown, and it decides whether stale
    statistics end in an OOM kill. Only where reclaim decides with them.
    """
    if (
        not find_reclaim(scenario.reclaim).decides_by_statistics
        or KERNELS[scenario.kernel].flush_at_reclaim
        or scenario.stat_flush_ns == 0
        or not find_policy(scenario.policy).reclaim
    ):
        return []
    step = scenario.stat_flush_ns // count
    return [
        dataclasses.replace(scenario, stat_flush_phase_ns=step * number)
        for number in range(1, count)
    ]


class _KnownPages:
    """Hands contents and page tables of new pages to every case, in the order of their ids."""

    def __init__(
        self, trace: Trace, contents: dict[str, Content], groups: list[Group[_Case]]
    ) -> None:
        self._trace = trace
        self._contents = contents
        self._groups = groups
        self._count = 0
        self._tables = DenseIds()
        self._middles = DenseIds()
        self._page_tables = PageTables(trace.unique_pages)
        self._walked = False
        for each in groups:
            if find_reclaim(each.leader.scenario.reclaim).walks_page_tables:
                self._walked = True
                each.leader.replay.use_page_tables(self._page_tables)

    def update(self) -> None:
        if self._trace.numbered_pages == self._count:
            return
        pages, spaces, pids = self._trace.keys_from(self._count)
        bits = np.zeros(pages.size, np.uint8)
        shift = np.uint64(TABLE_SHIFT)
        bits[_first_of(self._tables, pages >> shift, spaces)] |= np.uint8(NEW_TABLE)
        bits[_first_of(self._middles, pages >> (shift + shift), spaces)] |= np.uint8(NEW_MIDDLE)
        if self._walked:
            self._page_tables.add(pages, spaces)
        cases = [case for each in self._groups for case in each.held]
        by_address = any(case.replay.neighbours.size for case in cases)
        beside = self._pairs() if by_address else None
        self._count += pages.size
        drawn: dict[str, PageContents] = {
            codec: content.for_pages(pages, spaces, pids)
            for codec, content in self._contents.items()
        }
        for case in cases:
            of = drawn[case.scenario.codec]
            case.replay.add_pages(of.compressed_bytes, of.zero_filled, of.same_filled, bits)
            if beside:
                case.replay.add_neighbours(*beside)

    def _pairs(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        lower, upper, upper_page = self._trace.pairs_from(self._count)
        return lower, upper, begins_table(upper_page)


def _first_of(
    ids: DenseIds, keys: npt.NDArray[np.uint64], spaces: npt.NDArray[np.uint32]
) -> npt.NDArray[np.bool_]:
    """Return where a key is seen for the first time; bool, shape (keys,)."""
    before = len(ids)
    numbers = ids.number(keys, spaces).astype(np.int64)
    highest = np.maximum.accumulate(np.concatenate([[before - 1], numbers]))
    first: npt.NDArray[np.bool_] = numbers > highest[:-1]
    return first


def _check_limits(trace: Trace, scenarios: Sequence[Scenario]) -> None:
    reduced = trace.reduced_below_bytes
    for scenario in scenarios:
        model = find_reclaim(scenario.reclaim)
        if reduced and (why := _needs_more_than_reduced(scenario, reduced)):
            raise SettingsError(
                f"{scenario.name}: the trace was reduced for exact LRU memories of at least "
                f"{format_size(reduced)}, and {why}; ingest it again without --reduce-below"
            )
        if not model.textbook and scenario.memory_limit_bytes < KERNEL_MINIMUM_BYTES:
            raise SettingsError(
                f"{scenario.name}: a memory limit under {format_size(KERNEL_MINIMUM_BYTES)} is "
                "smaller than the kernel's own batches; --reclaim lru takes any size"
            )


def _needs_more_than_reduced(scenario: Scenario, reduced_below_bytes: int) -> str:
    """Return why a reduced trace cannot answer a scenario; empty where it can."""
    policy = find_policy(scenario.policy)
    if scenario.reclaim != "lru":
        return f"{scenario.reclaim} looks at accesses that were dropped"
    if scenario.memory_limit_bytes < reduced_below_bytes:
        return "this one is smaller"
    charges = policy.zswap and policy.reclaim and not policy.synchronous
    if scenario.cgroup == "v2" and charges:
        return "under cgroup v2 the pool takes of this one (--cgroup v1 does not charge it)"
    return ""


def _borrowed_notes(costs: Sequence[Costs]) -> list[str]:
    """Return what a user's own cost table does not have, and so is of another machine."""
    notes = []
    for name in dict.fromkeys(each.name for each in costs if each.borrowed):
        lacks = [what for each in costs if each.name == name for what in each.borrowed]
        notes.append(
            f"cost table {name} lacks {', '.join(dict.fromkeys(lacks))}: of the bundled table, another "
            "machine's; --codec and --device choose what was measured"
        )
    return notes


def _settings_notes(scenarios: Sequence[Scenario]) -> list[str]:
    """Return what scenarios ask for that their kernel does not have as it is."""
    notes = []
    for scenario in scenarios:
        policy = find_policy(scenario.policy)
        if policy.shrinker and scenario.kernel == "6.1":
            notes.append(
                "Linux 6.1 has no shrinker (since 6.8) and cannot write back from zsmalloc; replayed "
                "by the other rules of 6.1 as if it had, and could"
            )
        if scenario.cgroup == "v1" and scenario.zswap_max_bytes is not None:
            notes.append("memory.zswap.max is a file of cgroup v2: it limits nothing under v1")
        if scenario.cgroup == "v1" and policy.name == "no-writeback":
            notes.append(
                "memory.zswap.writeback is a file of cgroup v2 (6.8): no-writeback under v1 is what it "
                "would do there"
            )
        if policy.synchronous and (
            scenario.pool_limit_bytes is not None
            or scenario.zswap_max_bytes is not None
            or scenario.accept_threshold_percent != Scenario.accept_threshold_percent
        ):
            notes.append(
                "limits of zswap's pool do not hold for zram, whose own mem_limit is not modelled; "
                "--swap-size is the size of its device"
            )
        if policy.zswap and scenario.codec == "lzo-rle":
            notes.append(
                "sizes by lzo-rle are those by lzo, up to 3 % larger: runs of zeros alone differ"
            )
        if scenario.device == ZRAM and not policy.synchronous and policy.backing:
            notes.append(
                "device zram behind other policies: its time is counted, the memory it takes is not; "
                "the policy zram counts both"
            )
    return list(dict.fromkeys(notes))


def _collect(
    trace: Trace,
    cases: list[_Case],
    shadows: list[list[_Case]],
    contents: dict[str, Content],
    seed: int,
    began: float,
    command: Sequence[str],
    rewrite_entropy: float,
) -> Result:
    rows, latencies, footprints = [], [], []
    for case, others in zip(cases, shadows, strict=True):
        phases = [case, *others]
        killed = sum(not each.replay.finished for each in phases)
        frame = case.latency.frame(case.scenario.name)
        rows.append(
            summary_row(
                case.replay,
                trace_name=trace.name,
                latency=percentiles(frame),
                stall_total_ns=case.latency.stall_total_ns,
                trace_time_ns=case.ran_ns,
                flush_phases=(len(phases), killed),
            )
        )
        latencies.append(frame)
        footprints.append(footprint_frame(case.replay, has_time=trace.has_time))
    notes = list(trace.notes)
    if warning := COVERAGES[trace.coverage].warning:
        notes.insert(0, f"coverage {trace.coverage}: {warning}")
    if not trace.has_time:
        touch_ns = ", ".join(dict.fromkeys(str(c.scenario.touch_ns) for c in cases))
        notes.append(
            f"the trace has no clock in ns: {touch_ns} ns are assumed between two touches, which "
            "decides when statistics are flushed and writes complete"
        )
    notes += _borrowed_notes([case.costs for case in cases])
    notes += _settings_notes([case.scenario for case in cases])
    for each in contents.values():
        notes += each.notes
    if rewrite_entropy:
        notes.append(
            f"assumed: a page that was written since its last eviction has other contents at the next "
            f"with probability {rewrite_entropy:g}, drawn from the same pages by seed, page and "
            "rewrite; --rewrite-entropy 0 keeps every page's contents"
        )
    first = cases[0]
    run: dict[str, Any] = {
        "tracereplay": __version__,
        "schema": SCHEMA_VERSION,
        "command": list(command),
        "python": platform.python_version(),
        "polars": pl.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "model": model_hash(),
        "trace": {
            "name": trace.name,
            "path": [str(path) for path in trace.paths],
            "coverage": trace.coverage,
            "clock": trace.clock,
            "sha256": [_file_hash(path) for path in trace.paths],
            "rows": trace.count()[0],
            "accesses": trace.accesses,
            "unique_pages": trace.unique_pages,
            "notes": trace.notes,
        },
        "content": "; ".join(each.describe() for each in contents.values())
        + (f"; {_REWRITTEN} {rewrite_entropy:g}" if rewrite_entropy else ""),
        "costs": {"name": first.costs.name, "source": first.costs.source},
        "scenarios": [dataclasses.asdict(case.scenario) for case in cases],
        "seed": seed,
        "notes": notes,
        "wall_s": round(time.perf_counter() - began, 3),
    }
    return Result(
        summary=summary_frame(rows),
        latency=pl.concat(latencies),
        footprint=pl.concat(footprints),
        run=run,
    )


# What only brings the inputs here, or shows what came out.
_NOT_MODEL = ("cli", "host", "readers", "report", "validation")


def model_files() -> list[Path]:
    """Return what a result follows from besides its inputs: sources and bundled tables."""
    package = Path(__file__).parent
    return sorted(
        path
        for path in package.rglob("*")
        if path.suffix in (".py", ".json", ".parquet")
        and path.relative_to(package).parts[0] not in _NOT_MODEL
    )


@functools.cache
def model_hash() -> str:
    """Return a hash of model_files()."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in model_files():
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _file_hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


DEFAULT_POLICIES = (
    "no-zswap",
    "swap-on-reject",
    "keep-on-reject",
    "store-raw",
    "no-writeback",
    "unlimited-memory",
)


def make_scenarios(
    trace: Trace | int,
    *,
    policies: Sequence[str] = (),
    memory: Sequence[str] = (),
    reclaim: Sequence[str] = (),
    codecs: Sequence[str] = (),
    pool_limit: str | None = None,
    ram: str = "16GiB",
    swap_size: str | None = None,
    zswap_max: str | None = None,
    stat_flush: str = "2s",
    bounds: bool = True,
    **settings: Any,
) -> list[Scenario]:
    """Return every combination of policies, memory limits, reclaim models and codecs.

    Parameters
    ----------
    trace : the trace, or its footprint in bytes
    policies : names, or "all"; none gives those of the thread of October 2023
    memory : sizes, or percentages of the trace's footprint; none gives 50 %
    pool_limit : size, or percentage of `ram`; None is the kernel's 20 %
    stat_flush : "2s", "exact", or a time
    bounds : add the baseline without zswap and the bound without a limit
    settings : further fields of Scenario

    Raises
    ------
    SettingsError
        A name or a size cannot be used.
    """
    names = list(dict.fromkeys(policies)) or list(DEFAULT_POLICIES)
    if "all" in names:
        names = list(POLICIES)
    if bounds:
        names += [name for name in (BASELINE, BOUND) if name not in names]
    if settings.get("device") == ZRAM:  # plain swap on such a device, its memory counted
        names = list(dict.fromkeys(SWAP_TO_ZRAM if name == BASELINE else name for name in names))
    ram_bytes = parse_size(ram)
    footprint = trace if isinstance(trace, int) else trace.unique_pages * PAGE_BYTES
    limits = [
        parse_size_or_percent(text, footprint, of="the trace's footprint")
        for text in memory or ("50%",)
    ]
    common: dict[str, Any] = dict(
        settings,
        ram_bytes=ram_bytes,
        pool_limit_bytes=None
        if pool_limit is None
        else parse_size_or_percent(pool_limit, ram_bytes, of="--ram"),
        swap_bytes=None if swap_size is None else parse_size(swap_size),
        zswap_max_bytes=None if zswap_max is None else parse_size(zswap_max),
        stat_flush_ns=0 if stat_flush == "exact" else parse_duration(stat_flush),
    )
    models = list(dict.fromkeys(reclaim)) or ["two-list"]
    for name in models:
        find_reclaim(name)
    made = [
        Scenario(policy=policy, memory_limit_bytes=limit, reclaim=model, codec=codec, **common)
        for limit in dict.fromkeys(limits)
        for model in models
        for codec in list(dict.fromkeys(codecs)) or ["lzo"]
        for policy in names
    ]
    return [_exactly_named(each, made) for each in made]


def _exactly_named(scenario: Scenario, others: Sequence[Scenario]) -> Scenario:
    """Return the scenario, with its limit in bytes in the name where three digits are another's too."""
    if sum(each.name == scenario.name for each in others) == 1:
        return scenario
    name = f"{scenario.name}/memory_limit_bytes={scenario.memory_limit_bytes}"
    return dataclasses.replace(scenario, name=name)

"""Print ratios against named peers; answers are asserted equal before anything is timed.

`python -m benchmarks` prints a table, `--write` also puts it into benchmarks/README.md; `--parts`,
`--traces` and `--readers` choose, `--quick` takes a twentieth of everything once. Processor seconds of one thread, medians of interleaved runs: whatever slows the
machine meets both sides. The ratio is the median of those of the runs.
"""

import argparse
import datetime as dt
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import (
    fenwick_histogram,
    libcachesim_misses,
    timed_libcachesim,
    write_oracle_general,
)
from benchmarks.replay import replay, replay_all
from benchmarks.traces import FIRST_PAGE, TRACES
from tracereplay.content import PageContents, open_content
from tracereplay.costs import load_costs
from tracereplay.dense import DenseIds
from tracereplay.distances import StackDistances
from tracereplay.lru_grid import ZERO_FILLED, LruGrid
from tracereplay.miss_curve import are_few
from tracereplay.policies import POLICIES
from tracereplay.reclaim import find_reclaim
from tracereplay.replay.settings import Scenario
from tracereplay.sampling import SampledDistances
from tracereplay.trace import BATCH_ROWS

README = Path(__file__).parent / "README.md"
START, END = "<!-- figures: made by `python -m benchmarks --write` -->", "<!-- end of figures -->"
SIZES = 32

Row = tuple[str, str, str, str]


def main() -> None:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--accesses", type=int, default=10_000_000)
    parser.add_argument("--pages", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--traces", nargs="*", choices=list(TRACES), default=list(TRACES))
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--readers", nargs="*", choices=READERS, default=READERS)
    parser.add_argument("--quick", action="store_true", help="small traces, one run, no readers")
    parser.add_argument(
        "--write", action="store_true", help="put the table into benchmarks/README.md as well"
    )
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.accesses, chosen.pages, chosen.runs, chosen.readers = 500_000, 50_000, 1, []
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen.traces:
            trace = Input(TRACES[name](chosen.accesses, chosen.pages), Path(folder) / "trace.bin")
            for part in chosen.parts:
                began = time.monotonic()
                for row in PARTS[part](trace, chosen.runs):
                    rows.append((name, *row))
                    print(f"{name}: {' | '.join(row)}", file=sys.stderr, flush=True)
                took = time.monotonic() - began
                print(f"{name}: {part} took {took:.0f} s", file=sys.stderr, flush=True)
    if "start" in chosen.parts:
        for line in start_up(chosen.runs):
            rows.append(("-", *line))
            print(" | ".join(line), file=sys.stderr, flush=True)
    for part in chosen.readers:
        for line in reading(part, chosen.runs):
            rows.append(("-", *line))
            print(" | ".join(line), file=sys.stderr, flush=True)
    text = table(rows, chosen.accesses, chosen.runs)
    print(text)
    if chosen.write:
        before, _, rest = README.read_text().partition(START)
        README.write_text(f"{before}{START}\n\n{text}\n{END}{rest.partition(END)[2]}")


class Input:
    """One trace in every form that somebody reads, and its exact curve."""

    def __init__(self, numbers: np.ndarray, path: Path) -> None:
        self.pages = numbers.astype(np.uint64) + np.uint64(FIRST_PAGE)
        self.path = path
        write_oracle_general(self.pages, path)
        self.page_ids = number(self.pages)
        self.unique = int(self.page_ids.max()) + 1
        self.misses = every_size(self.page_ids, self.unique)


def one_lru(trace: Input, runs: int) -> Iterator[Row]:
    """One size, raw page numbers in, misses out, against libcachesim's replay in C."""
    for percent in (10, 50):
        capacity = trace.unique * percent // 100

        def theirs(*, fitted: bool, capacity: int = capacity) -> int:
            size = trace.pages.size
            return libcachesim_misses(trace.path, capacity, accesses=size, fitted=fitted)

        yield from compete(
            f"LRU at {percent} %, from page numbers",
            lambda c=capacity: int(side_by_side(trace.pages, np.array([c]))[0]),
            {
                "libcachesim": lambda: theirs(fitted=False),
                "libcachesim, table fitted": lambda: theirs(fitted=True),
            },
            int(trace.misses[capacity]),
            trace.pages.size,
            runs,
        )


def curve(trace: Input, runs: int) -> Iterator[Row]:
    """Every size, against the textbook's tree."""
    yield from compete(
        "curve, every size, from ids",
        lambda: every_size(trace.page_ids, trace.unique),
        {"Fenwick tree": lambda: fenwick(trace.page_ids, trace.unique)},
        trace.misses,
        trace.pages.size,
        runs,
    )


def many_sizes(trace: Input, runs: int) -> Iterator[Row]:
    """All sizes in one pass, as `curve` takes them, against a replay of each on all cores.

    Every fourth is replayed, once, and stands for its neighbours too: all take minutes.
    """
    unique = trace.unique
    capacities = np.linspace(unique / SIZES, unique, SIZES).astype(np.int64)
    assert np.array_equal(sizes_at_once(trace.pages, capacities), trace.misses[capacities])
    took = median(runs, lambda: sizes_at_once(trace.pages, capacities))
    some = capacities[2::4]
    jobs = [(trace.path, capacity, trace.pages.size) for capacity in some.tolist()]
    with multiprocessing.get_context("spawn").Pool(cores()) as pool:
        replayed = pool.starmap(timed_libcachesim, jobs, chunksize=1)
    assert [misses for misses, _ in replayed] == trace.misses[some].tolist()
    # Processor seconds over the cores: as if nothing else ran and no core ever waited.
    theirs = sum(spent for _, spent in replayed) * SIZES / some.size / cores()
    rival = f"libcachesim, {SIZES} replays on {cores()} cores, by {some.size} of them"
    yield row(f"{SIZES} sizes, from page numbers", trace.pages.size / took, rival, theirs / took)


def sample(trace: Input, runs: int) -> Iterator[Row]:
    """A sampled curve of 200 sizes, from ids in memory; another hash in each run."""
    seeds = iter(range(runs + 1))
    took = median(runs, lambda: sampled(trace.page_ids, trace.unique, next(seeds)))
    yield row("curve from a sample of 1 %, from ids", trace.pages.size / took, "", None)


def memory_and_pool(trace: Input, runs: int) -> Iterator[Row]:
    """100 pairs of memory and pool in one pass, against replays of exact LRU with zswap."""
    page_ids, unique = trace.page_ids, trace.unique
    contents = open_content(name="redis-json").for_pages(np.arange(unique, dtype=np.uint64))
    stored = np.where(contents.zero_filled, ZERO_FILLED, contents.compressed_bytes).astype(
        np.uint16
    )
    steps = np.linspace(0.05, 0.95, 10)
    memories = (unique * steps).astype(np.int64)
    # The last is never full, as everywhere a replay of the kernel's rules gives the same counts.
    limits = np.append((unique * steps[:-1] * 1500).astype(np.int64), unique * 4096)
    together = grid(page_ids, memories, limits, stored)
    for memory in (0, 4, 9):
        counted = replayed(page_ids, contents, int(memories[memory]), int(limits[-1]))
        assert counted["pgmajfault"] == together.misses()[memory] - unique
        assert counted["zswpin"] == together.loads()[memory, -1]
        assert counted["swpin_zero"] == together.zero_fills()[memory]
    for memory, pool in ((0, 0), (4, 4), (9, 2)):
        alone = grid(page_ids, memories[[memory]], limits[[pool]], stored)
        assert together.loads()[memory, pool] == alone.loads()[0, 0]
        assert together.written_back()[memory, pool] == alone.written_back()[0, 0]
    direct: list[float] = []
    ours: list[float] = []
    for _ in range(runs):
        ours.append(seconds(lambda: grid(page_ids, memories, limits, stored)))
        # Three of the hundred, small, middle and large, for what one takes on the average.
        pairs = [(memory, limits[pool]) for memory, pool in ((1, 1), (4, 4), (8, 9))]
        direct.append(
            statistics.mean(
                seconds(lambda m=memory, p=limit: replayed(page_ids, contents, memories[m], p))
                for memory, limit in pairs
            )
        )
    ratio = statistics.median(
        one / all_of_them for one, all_of_them in zip(direct, ours, strict=True)
    )
    yield row(
        "100 pairs of memory and pool, from ids",
        page_ids.size / statistics.median(ours),
        f"100 replays of LRU with zswap here, {page_ids.size / statistics.median(direct) / 1e6:.0f} M/s "
        f"each: as long as {1 / ratio:.1f}",
        100 * ratio,
    )


# What they time runs in a process of its own: polars reads the number of its threads at import.
READERS = ["ingest", "perf_data"]


def reading(part: str, runs: int) -> list[tuple[str, ...]]:
    """Run one of the benchmarks of readers; its rows."""
    if part == "perf_data" and (shutil.which("perf") is None or os.geteuid() != 0):
        print("perf_data: left out, it records with perf as root", file=sys.stderr)
        return []
    command = [sys.executable, "-m", f"benchmarks.{part}", "--rounds", str(runs)]
    pinned = {min(os.sched_getaffinity(0))}
    done = subprocess.run(
        command,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, pinned),
    )
    return [tuple(line.split(" | ")) for line in done.stdout.splitlines()]


def two_lists(trace: Input, runs: int) -> Iterator[Row]:
    """The kernel's two lists with zswap and zsmalloc at half the footprint, from ids."""
    part = trace.page_ids[: max(1000, trace.page_ids.size // 20)]
    for cgroup in ("v1", "v2"):
        whole = replay(part, 0.5, cgroup=cgroup)[0]
        assert whole == replay(part, 0.5, batch_rows=997, cgroup=cgroup)[0]
        made = [replay(trace.page_ids, 0.5, cgroup=cgroup) for _ in range(runs)]
        counters, took = made[0][0], statistics.median(seconds for _, seconds in made)
        faults = counters["pgmajfault"] + counters["minor_faults"]
        yield row(
            f"two lists, zswap, zsmalloc at 50 %, cgroup {cgroup}, from ids; {faults:,} faults",
            trace.page_ids.size / took,
            "",
            None,
        )


def policies(trace: Input, runs: int) -> Iterator[Row]:
    """Every policy at half the footprint, as `compare` replays them, against one LRU replay.

    On one core, processor seconds; and on all, seconds of both: libcachesim has use for one.
    """
    capacity = trace.unique // 2
    part = trace.page_ids[: max(1000, trace.page_ids.size // 20)]
    for cgroup in ("v1", "v2"):
        alone = {policy: replay(part, 0.5, policy, cgroup=cgroup)[0] for policy in POLICIES}
        assert replay_all(part, 0.5, cgroup)[0] == alone
        ours: list[float] = []
        wall: list[float] = []
        theirs: list[float] = []
        theirs_wall: list[float] = []
        for _ in range(runs):
            ours.append(replay_all(trace.page_ids, 0.5, cgroup)[1])
            wall.append(replay_all(trace.page_ids, 0.5, cgroup, cores())[2])
            began, began_wall = time.process_time(), time.monotonic()
            misses = libcachesim_misses(
                trace.path, capacity, accesses=trace.pages.size, fitted=False
            )
            theirs.append(time.process_time() - began)
            theirs_wall.append(time.monotonic() - began_wall)
            assert misses == trace.misses[capacity]
        task = f"all {len(POLICIES)} policies at 50 %, cgroup {cgroup}, from ids"
        for where, own, other in (
            ("one core", ours, theirs),
            (f"{cores()} cores, wall", wall, theirs_wall),
        ):
            yield (
                f"{task}, {where}",
                f"{statistics.median(own):.1f} s",
                f"libcachesim, one LRU replay, {statistics.median(other):.1f} s",
                f"{statistics.median(o / m for o, m in zip(other, own, strict=True)):.2f}x",
            )


def start_up(runs: int) -> Iterator[Row]:
    """Wall time of commands: help, the first comparison of the bundled trace, and the next ones.

    Python's own bytecode is there, as pip leaves it: only the kernels are compiled.
    """
    root = README.parents[1]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": f"{folder}/bytecode"}
        environment["XDG_CACHE_HOME"] = f"{folder}/before"
        environment.pop("NUMBA_CACHE_DIR", None)
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        compare = ["compare", "traces/sqlite-index.parquet", "--out", f"{folder}/out", "--force"]

        def took(*arguments: str) -> float:
            began = time.monotonic()
            command = [sys.executable, "-m", "tracereplay", *arguments]
            subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True)
            return time.monotonic() - began

        took(*compare)
        environment["XDG_CACHE_HOME"] = f"{folder}/cache"
        yield "compare on the bundled trace, compiling", f"{took(*compare):.1f} s wall", "", ""
        for name, arguments in (("compare again", compare), ("--help", ["--help"])):
            middle = statistics.median(took(*arguments) for _ in range(runs))
            yield name, f"{middle:.2f} s wall", "", ""


PARTS: dict[str, Callable[[Input, int], Iterator[Row]]] = {
    "lru": one_lru,
    "curve": curve,
    "sizes": many_sizes,
    "sample": sample,
    "pool": memory_and_pool,
    "replay": two_lists,
    "policies": policies,
    "start": lambda _trace, _runs: iter(()),  # once for all traces
}


def compete(
    task: str,
    ours: Callable[[], Any],
    rivals: dict[str, Callable[[], Any]],
    answer: Any,
    accesses: int,
    runs: int,
) -> list[Row]:
    """Check every answer, then time all in turn."""
    for name, run in {"tracereplay": ours, **rivals}.items():
        assert np.array_equal(run(), answer), (task, name)
    times: dict[str, list[float]] = {name: [] for name in ("", *rivals)}
    for _ in range(runs):
        for name, run in {"": ours, **rivals}.items():
            times[name].append(seconds(run))
    own = times[""]
    ratios = {
        name: statistics.median(one / mine for one, mine in zip(times[name], own, strict=True))
        for name in rivals
    }
    return [
        row(task, accesses / statistics.median(own), name, ratio) for name, ratio in ratios.items()
    ]


def row(task: str, per_second: float, rival: str, ratio: float | None) -> Row:
    return task, f"{per_second / 1e6:.0f} M/s", rival, "" if ratio is None else f"{ratio:.1f}x"


def seconds(run: Callable[[], Any]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def median(runs: int, run: Callable[[], Any]) -> float:
    run()
    return statistics.median(seconds(run) for _ in range(runs))


def batches(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + BATCH_ROWS] for start in range(0, rows.size, BATCH_ROWS)]


def number(pages: np.ndarray) -> np.ndarray:
    ids = DenseIds()
    return np.concatenate([ids.number(part) for part in batches(pages)])


def side_by_side(pages: np.ndarray, capacities: np.ndarray) -> np.ndarray:
    ids = DenseIds()
    lru = LruGrid(capacities)
    for part in batches(pages):
        lru.add(ids.number(part))
    return lru.misses()


def sizes_at_once(pages: np.ndarray, capacities: np.ndarray) -> np.ndarray:
    if are_few(int(capacities[0]), capacities.size):
        return side_by_side(pages, capacities)
    return every_size(number(pages), 0)[capacities]


def every_size(page_ids: np.ndarray, unique: int) -> np.ndarray:
    distances = StackDistances(unique)
    for part in batches(page_ids):
        distances.add(part)
    return distances.misses()


def fenwick(page_ids: np.ndarray, unique: int) -> np.ndarray:
    hits = np.cumsum(fenwick_histogram(page_ids, unique))[:-1]
    return page_ids.size - np.concatenate([[0], hits])


def sampled(page_ids: np.ndarray, unique: int, seed: int) -> Any:
    chosen = SampledDistances(0.01, seed=seed, expected_pages=unique)
    for part in batches(page_ids):
        chosen.add(part)
    return chosen.estimate(np.geomspace(2000, unique, 200).astype(np.int64), unique)


def grid(
    page_ids: np.ndarray, memories: np.ndarray, limits: np.ndarray, stored: np.ndarray
) -> LruGrid:
    pools = LruGrid(memories, limits, stored, stored.size)
    for part in batches(page_ids):
        pools.add(part)
    return pools


def replayed(
    page_ids: np.ndarray, contents: PageContents, memory_pages: int, limit_bytes: int
) -> dict[str, int]:
    """Replay one setting with the package's own loop, without latencies."""
    scenario = Scenario(
        memory_limit_bytes=int(memory_pages) * 4096,
        pool_limit_bytes=int(limit_bytes),
        reclaim="lru",
        cgroup="v1",
        allocator="ideal",
        page_cluster=0,
    )
    model = find_reclaim("lru")
    unique = contents.compressed_bytes.size
    replay = model.replay(
        scenario,
        rows=page_ids.size,
        unique_pages=unique,
        means=load_costs(None, "nvme", "lzo").means(),
    )
    replay.add_pages(
        contents.compressed_bytes,
        contents.zero_filled,
        contents.same_filled,
        np.zeros(unique, np.uint8),
    )
    reads = np.zeros(BATCH_ROWS, np.bool_)
    nothing = np.empty(0, np.int64)
    done = 0
    for part in batches(page_ids):
        arrays = (part.view(), reads[: part.size], nothing)
        for array in arrays:
            array.flags.writeable = False
        replay.feed(done, *arrays, nothing, lambda _events: None)
        done += part.size
    return replay.counters()


def cores() -> int:
    return len(os.sched_getaffinity(0))


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def table(rows: list[tuple[str, ...]], accesses: int, runs: int) -> str:
    machine = (
        f"{dt.datetime.now(dt.UTC).date()}: {processor()}, {cores()} cores, "
        f"Python {platform.python_version()}, numba {version('numba')}, "
        f"libcachesim {version('libcachesim')}; {accesses:,} accesses a trace, processor time of "
        f"one thread, medians of {runs} interleaved runs, answers equal; load average "
        f"{os.getloadavg()[1]:.1f}."
    )
    lines = [
        machine,
        "",
        "| trace | task | tracereplay | against | ratio |",
        "| --- | --- | ---: | --- | ---: |",
        *("| " + " | ".join(line) + " |" for line in rows),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

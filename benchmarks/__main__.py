"""Print ratios against named peers; answers are asserted equal before anything is timed.

`python -m benchmarks` prints a table, `--write` also puts it into benchmarks/README.md. Processor
seconds of one thread, medians of interleaved runs: whatever slows the machine meets both sides.
"""

import argparse
import datetime as dt
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import fenwick_histogram, libcachesim_misses, write_oracle_general
from benchmarks.traces import FIRST_PAGE, TRACES
from tracereplay.content import open_content
from tracereplay.dense import DenseIds
from tracereplay.distances import StackDistances
from tracereplay.lru_grid import LruGrid
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
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    chosen = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen.traces:
            pages = TRACES[name](chosen.accesses, chosen.pages).astype(np.uint64)
            pages += np.uint64(FIRST_PAGE)
            path = Path(folder) / "trace.bin"
            write_oracle_general(pages, path)
            rows += [(name, *found) for found in measure(pages, path, chosen.runs)]
    text = table(rows, chosen.accesses, chosen.runs)
    print(text)
    if chosen.write:
        before, _, rest = README.read_text().partition(START)
        README.write_text(f"{before}{START}\n\n{text}\n{END}{rest.partition(END)[2]}")


def measure(pages: np.ndarray, path: Path, runs: int) -> list[Row]:
    """Return task, our speed, peer and ratio of everything measured on one trace."""
    page_ids = number(pages)
    unique = int(page_ids.max()) + 1
    exact = every_size(page_ids, unique)
    found = []
    for percent in (10, 50):
        capacity = unique * percent // 100
        found += compete(
            f"LRU at {percent} %, from page numbers",
            lambda c=capacity: one_size(pages, c),
            {
                name: lambda c=capacity, f=fitted: libcachesim_misses(
                    path, c, accesses=pages.size, fitted=f
                )
                for name, fitted in (("libcachesim", False), ("libcachesim, table fitted", True))
            },
            int(exact[capacity]),
            pages.size,
            runs,
        )
    found += compete(
        "curve, every size, from ids",
        lambda: every_size(page_ids, unique),
        {"Fenwick tree": lambda: fenwick(page_ids, unique)},
        exact,
        pages.size,
        runs,
    )
    found.append(many_sizes(pages, path, runs))
    took = median(runs, lambda: sampled(page_ids, unique))
    found.append(row("curve from a sample of 1 %, from ids", pages.size / took, "", None))
    found.append(memory_and_pool(page_ids, unique, runs))
    return found


def many_sizes(pages: np.ndarray, path: Path, runs: int) -> Row:
    """All sizes by one curve, against a replay of each; the replays are run once."""
    curve = every_size(number(pages), 0)
    capacities = np.linspace(curve.size / SIZES, curve.size - 1, SIZES).astype(np.int64)
    took = median(runs, lambda: every_size(number(pages), 0))
    began = time.process_time()
    replayed = [
        libcachesim_misses(path, capacity, accesses=pages.size, fitted=False)
        for capacity in capacities.tolist()
    ]
    theirs = (time.process_time() - began) / cores()
    assert replayed == curve[capacities].tolist()
    rival = f"libcachesim, {SIZES} replays on {cores()} cores"
    return row(f"{SIZES} sizes, from page numbers", pages.size / took, rival, theirs / took)


def memory_and_pool(page_ids: np.ndarray, unique: int, runs: int) -> Row:
    """100 pairs of memory and pool in one pass, against a pass for each."""
    contents = open_content(name="redis-json").for_pages(np.arange(unique, dtype=np.uint64))
    stored = contents.compressed_bytes
    steps = np.linspace(0.05, 0.95, 10)
    memories = (unique * steps).astype(np.int64)
    limits = (unique * steps * 1500).astype(np.int64)
    together = grid(page_ids, memories, limits, stored)
    alone = grid(page_ids, memories[4:5], limits[4:5], stored)
    assert together[4, 4] == alone[0, 0]
    one = median(runs, lambda: grid(page_ids, memories[4:5], limits[4:5], stored))
    took = median(1, lambda: grid(page_ids, memories, limits, stored))
    rival = "a pass for each pair"
    return row(
        "100 pairs of memory and pool, from ids", page_ids.size / took, rival, 100 * one / took
    )


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
    own = statistics.median(times[""])
    return [
        row(task, accesses / own, name, statistics.median(times[name]) / own) for name in rivals
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


def one_size(pages: np.ndarray, capacity: int) -> int:
    ids = DenseIds()
    lru = LruGrid(np.array([capacity]))
    for part in batches(pages):
        lru.add(ids.number(part))
    return int(lru.misses()[0])


def every_size(page_ids: np.ndarray, unique: int) -> np.ndarray:
    distances = StackDistances(unique)
    for part in batches(page_ids):
        distances.add(part)
    return distances.misses()


def fenwick(page_ids: np.ndarray, unique: int) -> np.ndarray:
    hits = np.cumsum(fenwick_histogram(page_ids, unique))[:-1]
    return page_ids.size - np.concatenate([[0], hits])


def sampled(page_ids: np.ndarray, unique: int) -> Any:
    sample = SampledDistances(0.01)
    for part in batches(page_ids):
        sample.add(part)
    return sample.estimate(np.geomspace(2000, unique, 200).astype(np.int64), unique)


def grid(page_ids: np.ndarray, memories: np.ndarray, limits: np.ndarray, stored: np.ndarray) -> Any:
    pools = LruGrid(memories, limits, stored, stored.size)
    for part in batches(page_ids):
        pools.add(part)
    return pools.loads()


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
        f"one thread, medians of {runs} interleaved runs, answers equal."
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

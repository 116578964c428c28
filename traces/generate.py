"""Generate traces of any length: `python traces/generate.py zipf --accesses 10M --pages 1M -o t.parquet`.

A trace is made in batches of a million accesses, so that its length does not matter to memory.

`python traces/generate.py kernel-run --run zipf-mild -o zipf-mild.parquet` makes the very trace of a
run that was recorded on real kernels, with its page table beside it, for `host-run` to repeat.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from tracereplay.files import replacing
from tracereplay.host.workload import line_sizes
from tracereplay.readers.write import AccessWriter
from tracereplay.schema import SCHEMA_VERSION

BATCH = 1 << 20
FIRST_PAGE = 0x7F0000000
STEP_NS = 500

Pages = npt.NDArray[np.int64]


def batches(kind: str, accesses: int, pages: int, seed: int, skew: float) -> Iterator[Pages]:
    """Yield page numbers from 0, a million at a time."""
    random = np.random.default_rng(seed)
    place = random.permutation(pages)  # hot pages stand apart, as in a heap
    weights = np.cumsum(1.0 / np.arange(1, pages + 1) ** skew)
    weights /= weights[-1]
    for start in range(0, accesses, BATCH):
        count = min(BATCH, accesses - start)
        index = np.arange(start, start + count)
        uniform = random.integers(0, pages, count)
        hot = random.integers(0, max(pages // 10, 1), count)
        if kind == "zipf":
            yield place[np.searchsorted(weights, random.random(count)).clip(0, pages - 1)]
        elif kind == "loop":
            yield index % pages
        elif kind == "uniform":
            yield uniform
        elif kind == "programs-mix":
            yield _programs_mix(random, pages, index)
        elif kind == "phases":  # eight phases, each with a tenth of the pages hot
            phase = index * 8 // accesses
            yield np.where(
                random.random(count) < 0.9, (hot + phase * (pages // 8)) % pages, uniform
            )
        else:  # scan-and-hot-set: a scan over everything beside a hot tenth
            yield np.where(index % 2 == 0, hot, index // 2 % pages)


def _programs_mix(random: np.random.Generator, pages: int, index: Pages) -> Pages:
    """Return the pages of four programs that take turns, each in a quarter of the pages.

    Turns last 512 accesses; a program's turns come by chance, its own accesses are those of a skewed
    heap, of a scan, of a few hot pages, and of a hot window that moves.
    """
    quarter = max(pages // 4, 1)
    turn = index // 512
    program = random.integers(0, 4, int(turn[-1]) + 1)[turn]
    heap = (quarter * random.random(index.size) ** 4).astype(np.int64)
    scan = index // 4 % quarter
    few = random.integers(0, max(quarter // 64, 1), index.size)
    window = (
        index // 100_000 * (quarter // 8) + random.integers(0, quarter // 4 + 1, index.size)
    ) % (quarter)
    return program * quarter + np.choose(program, [heap, scan, few, window])


# ---- the traces of the recorded kernel runs --------------------------------------------------------

MIX = ((16, 24, 40, 64), (0.4, 0.3, 0.2, 0.1))  # random 64-byte lines of a page, and how often
HALF = ((24, 64), (0.5, 0.5))
EASY = ((0, 8, 16), (0.2, 0.4, 0.4))
Lines = tuple[tuple[int, ...], tuple[float, ...]]
Made = tuple[Pages, npt.NDArray[np.bool_], npt.NDArray[np.uint8]]


def _begin(
    seed: int, pages: int, lines: Lines
) -> tuple[np.random.Generator, npt.NDArray[np.uint8]]:
    random = np.random.default_rng(seed)
    return random, random.choice(lines[0], size=pages, p=lines[1]).astype(np.uint8)


def run_zipf(pages: int, touches: int, skew: float, seed: int, lines: Lines = MIX) -> Made:
    """Every page once, then pages by their rank; skew 0 is uniform."""
    random, content = _begin(seed, pages, lines)
    place = random.permutation(pages)
    weights = 1 / np.arange(1, pages + 1) ** skew
    chosen = place[random.choice(pages, size=touches, p=weights / weights.sum())]
    touched = np.concatenate([np.arange(pages), chosen])
    return touched, random.random(touched.size) < 0.3, content


def run_loop(pages: int, laps: int, seed: int) -> Made:
    """Page after page, again and again."""
    random, content = _begin(seed, pages, MIX)
    touched = np.tile(np.arange(pages), laps)
    return touched, random.random(touched.size) < 0.3, content


def run_phases(pages: int, touches: int, phases: int, seed: int) -> Made:
    """Every page once, then phases in which a window of a quarter takes nine touches of ten."""
    random, content = _begin(seed, pages, MIX)
    parts = [np.arange(pages)]
    count = touches // phases
    for phase in range(phases):
        hot = (phase * pages // phases + random.integers(0, pages // 4, size=count)) % pages
        cold = random.integers(0, pages, size=count)
        parts.append(np.where(random.random(count) < 0.9, hot, cold))
    touched = np.concatenate(parts)
    return touched, random.random(touched.size) < 0.3, content


def run_scan(pages: int, touches: int, seed: int) -> Made:
    """Every page once, then a hot third beside a scan through the rest."""
    random, content = _begin(seed, pages, MIX)
    third = pages // 3
    scan = third + np.arange(touches) % (pages - third)
    hot = random.random(touches) < 0.7
    chosen = np.where(hot, random.integers(0, third, size=touches), scan)
    touched = np.concatenate([np.arange(pages), chosen])
    return touched, random.random(touched.size) < 0.2, content


# The recipes were found to give the recorded traces touch by touch. `programs-mix` alone was made of
# captures of programs; the kind of that name is its like, not its equal.
RUNS: dict[str, Callable[[], Made]] = {
    "zipf-mild": lambda: run_zipf(16384, 300_000, 0.9, 101),
    "zipf-skewed": lambda: run_zipf(16384, 400_000, 1.2, 102),
    "zipf-half-incompressible": lambda: run_zipf(16384, 300_000, 1.0, 103, HALF),
    "loop": lambda: run_loop(12288, 16, 104),
    "phases": lambda: run_phases(16384, 400_000, 5, 105),
    "scan-and-hot-set": lambda: run_scan(16384, 300_000, 106),
    "uniform-easy": lambda: run_zipf(16384, 250_000, 0.0, 107, EASY),
    "no-zswap": lambda: run_zipf(16384, 200_000, 0.9, 108),
    "no-zswap-readahead": lambda: run_zipf(16384, 150_000, 0.9, 108),
    "pool-limit-writeback": lambda: run_zipf(163840, 300_000, 0.8, 109, HALF),
    "shrinker": lambda: run_zipf(65536, 300_000, 0.8, 110),
    "long-zipf-mild": lambda: run_zipf(65536, 6_000_000, 0.9, 201),
    "long-phases": lambda: run_phases(65536, 6_000_000, 12, 202),
    "long-scan-and-hot-set": lambda: run_scan(49152, 5_000_000, 203),
    "long-no-zswap": lambda: run_zipf(65536, 1_500_000, 0.9, 204),
    "long-uniform": lambda: run_zipf(49152, 4_000_000, 0.0, 205),
    "zipf12-37": lambda: run_zipf(32768, 1_000_000, 1.2, 12),
    "zipf12-hard": lambda: run_zipf(32768, 1_000_000, 1.2, 12, HALF),
    "scanhot-60": lambda: run_scan(32768, 1_000_000, 15),
}


def write_run(args: argparse.Namespace) -> None:
    """Write the trace of a recorded run, and NAME.pages.parquet beside it."""
    if args.run not in RUNS:
        raise SystemExit(f"--run {args.run}: known are {', '.join(RUNS)}")
    touched, is_write, lines = RUNS[args.run]()
    table = pl.DataFrame({"page": touched.astype(np.uint32), "is_write": is_write})
    pages = pl.DataFrame(
        {
            "page": np.arange(lines.size, dtype=np.uint32),
            "random_lines": lines,
            "zero_filled": np.zeros(lines.size, np.bool_),
        }
        | {column: sizes[lines] for column, sizes in line_sizes().items()}
    )
    stem = args.out.name.removesuffix(".parquet").removesuffix(".trace")
    beside = args.out.with_name(f"{stem}.pages.parquet")
    with replacing(args.out, force=args.force) as part:
        table.write_parquet(part)
    with replacing(beside, force=args.force) as part:
        pages.write_parquet(part)
    print(f"wrote {args.out} and {beside}", file=sys.stderr)


def write_table(args: argparse.Namespace) -> None:
    """Write accesses as `ingest` would."""
    random = np.random.default_rng(args.seed + 1)
    with replacing(args.out, force=args.force) as part, AccessWriter(part) as writer:
        start = 0
        for page in batches(args.kind, args.accesses, args.pages, args.seed, args.skew):
            writer.write(
                pl.DataFrame(
                    {
                        "time_ns": np.arange(start, start + page.size, dtype=np.uint64) * STEP_NS,
                        "pid": np.ones(page.size, np.uint32),
                        "page": (page + FIRST_PAGE).astype(np.uint64),
                        "is_write": random.random(page.size) < args.writes,
                    }
                )
            )
            start += page.size
        writer.close(
            {
                "schema": SCHEMA_VERSION,
                "format": "generated",
                "coverage": "full",
                "clock": "generated",
                "records": str(writer.records),
                "accesses": str(writer.accesses),
                "unique_pages": str(writer.unique_pages),
                "page_shift": "12",
            }
        )


def write_text(args: argparse.Namespace) -> None:
    """Write `perf script` text, 127 bytes a line."""
    random = np.random.default_rng(args.seed)
    commands = ["memcached", "java", "mysqld", "kworker/3:1", "Web Content"]
    out = sys.stdout if str(args.out) == "-" else Path(args.out).open("w")  # noqa: SIM115
    row = 0
    with out:
        for page in batches("zipf", args.accesses, args.pages, args.seed, args.skew):
            cpus = random.integers(0, 64, page.size)
            for address, cpu in zip((page << 12) + 0x7F0000000040, cpus, strict=True):
                process = row % 5
                seconds, rest = divmod(1_234_500_000_000 + row * STEP_NS, 1_000_000_000)
                out.write(
                    f"{commands[process]:>16} {1000 + process:5d} [{cpu:03d}] {seconds:5d}.{rest:09d}: "
                    f"{'exceptions:page_fault_user':>28}: address=0x{address:x} "
                    f"ip=0x{0x400000 + row * 37 % 65536:x} error_code=0x{4 + 2 * (row % 3 == 0):x}\n"
                )
                row += 1


def _count(text: str) -> int:
    factor = {"K": 10**3, "M": 10**6, "G": 10**9}.get(text[-1:].upper(), 1)
    return int(float(text[:-1] if factor > 1 else text) * factor)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = ["zipf", "loop", "uniform", "phases", "scan-and-hot-set", "programs-mix"]
    parser.add_argument("kind", choices=[*kinds, "kernel-run", "perf-script"])
    parser.add_argument("--run", default="", help="of `kernel-run`: " + ", ".join(RUNS))
    parser.add_argument("--accesses", type=_count, default=10**6)
    parser.add_argument("--pages", type=_count, default=10**5)
    parser.add_argument("--writes", type=float, default=0.3, help="share of writes")
    parser.add_argument("--skew", type=float, default=1.0, help="exponent of zipf")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--force", action="store_true")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    writers = {"perf-script": write_text, "kernel-run": write_run}
    writers.get(args.kind, write_table)(args)


if __name__ == "__main__":
    main()

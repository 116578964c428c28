"""Generate traces of any length: `python traces/generate.py zipf --accesses 10M --pages 1M -o t.parquet`.

A trace is made in batches of a million accesses, so that its length does not matter to memory.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from tracereplay.files import replacing
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
        elif kind == "phases":  # eight phases, each with a tenth of the pages hot
            phase = index * 8 // accesses
            yield np.where(
                random.random(count) < 0.9, (hot + phase * (pages // 8)) % pages, uniform
            )
        else:  # scan-and-hot-set: a scan over everything beside a hot tenth
            yield np.where(index % 2 == 0, hot, index // 2 % pages)


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
    kinds = ["zipf", "loop", "uniform", "phases", "scan-and-hot-set", "perf-script"]
    parser.add_argument("kind", choices=kinds)
    parser.add_argument("--accesses", type=_count, default=10**6)
    parser.add_argument("--pages", type=_count, default=10**5)
    parser.add_argument("--writes", type=float, default=0.3, help="share of writes")
    parser.add_argument("--skew", type=float, default=1.0, help="exponent of zipf")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--force", action="store_true")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    (write_text if args.kind == "perf-script" else write_table)(args)


if __name__ == "__main__":
    main()

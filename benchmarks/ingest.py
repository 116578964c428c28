"""Reading against what people write by hand, equal addresses asserted first, on one core.

    taskset -c 0 python -m benchmarks.ingest [--lines 1000000] [--rounds 5]

Peers: for `perf script` text the best polars pipeline tried, `scan_csv` of whole lines with
`str.extract_groups`, written to Parquet; for lackey and CSV a Python loop with `split`, also
written to Parquet. Rounds are interleaved, so that a busy machine slows both; the figure is the
median of the ratios of CPU seconds of the whole process, all threads.
"""

from __future__ import annotations

import os

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl

from tracereplay.readers import ingest

GENERATE = Path(__file__).parents[1] / "traces" / "generate.py"
GROUPS = (
    r"^\s*(?<comm>.+?)\s+(?<tid>\d+)\s+\[(?<cpu>\d+)\]\s+(?<time>\d+\.\d+):\s+(?<event>\S+):\s+"
    r"address=0x(?<vaddr>[0-9a-f]+) ip=\S+ error_code=0x(?<code>[0-9a-f]+)"
)


def perf_script_by_polars(source: Path, target: Path) -> None:
    lines = pl.scan_csv(
        source, has_header=False, separator="\x01", quote_char=None, new_columns=["line"]
    )
    seconds = pl.col("time").str.split_exact(".", 1).struct
    lines.select(pl.col("line").str.extract_groups(GROUPS).alias("g")).unnest("g").select(
        (
            seconds.field("field_0").cast(pl.UInt64) * 1_000_000_000
            + seconds.field("field_1").cast(pl.UInt64)
        ).alias("time_ns"),
        pl.col("tid").cast(pl.UInt32),
        pl.col("vaddr").str.to_integer(base=16, dtype=pl.UInt64),
        (pl.col("vaddr").str.to_integer(base=16, dtype=pl.UInt64) // 4096).alias("page"),
        (pl.col("code").str.to_integer(base=16) & 2 != 0).alias("is_write"),
        pl.col("event").cast(pl.Categorical),
        pl.col("cpu").cast(pl.UInt16),
    ).collect().write_parquet(target)


def lackey_by_split(source: Path, target: Path) -> None:
    instruction = 0
    times, addresses, writes, kinds = [], [], [], []
    with source.open() as lines:
        for line in lines:
            fields = line.split()
            if len(fields) != 2 or fields[0] not in ("I", "L", "S", "M"):
                continue
            kind = fields[0]
            times.append(instruction)
            addresses.append(int(fields[1].split(",")[0], 16))
            writes.append(kind in ("S", "M"))
            kinds.append(kind)
            instruction += kind == "I"
    pl.DataFrame(
        {"time_ns": times, "vaddr": addresses, "is_write": writes, "event": kinds}
    ).with_columns((pl.col("vaddr") // 4096).alias("page")).write_parquet(target)


def csv_by_split(source: Path, target: Path) -> None:
    columns: list[list[object]] = [[] for _ in range(7)]
    with source.open() as lines:
        next(lines)
        for line in lines:
            time_ns, cpu, pid, tid, _, event, address, code = line.rstrip("\n").split(",")
            write = int(code, 16) & 2 != 0
            row = (int(time_ns), int(cpu), int(pid), int(tid), int(address, 16), event, write)
            for column, value in zip(columns, row, strict=True):
                column.append(value)
    names = ["time_ns", "cpu", "pid", "tid", "vaddr", "event", "is_write"]
    pl.DataFrame(dict(zip(names, columns, strict=True))).with_columns(
        (pl.col("vaddr") // 4096).alias("page")
    ).write_parquet(target)


def make_lackey(path: Path, lines: int) -> None:
    random = np.random.default_rng(1)
    kinds = random.choice(np.array(["I ", " L", " S", " M"]), lines, p=[0.75, 0.17, 0.07, 0.01])
    addresses = random.integers(0x4000000, 0x5000000, lines)
    with path.open("w") as out:
        for kind, address in zip(kinds.tolist(), addresses.tolist(), strict=True):
            out.write(f"{kind} {address:08x},4\n")


def make_csv(path: Path, lines: int) -> None:
    random = np.random.default_rng(1)
    pages = random.integers(0, 1 << 18, lines).tolist()
    with path.open("w") as out:
        out.write("ts_ns,cpu,pid,tid,comm,event,addr,val\n")
        for row, page in enumerate(pages):
            out.write(
                f"{2090642698255 + row * 700},{row % 4},12274,12274,python3,page_fault_user,"
                f"0x{0x7F4DB0000040 + page * 4096:x},0x{6 if row % 3 else 4:x}\n"
            )


Row = tuple[str, str, str, str]


def compare(name: str, source: Path, peer: Callable[[Path, Path], None], rounds: int) -> Row:
    """Return the row of the table: what is read, how fast, against what, how many times as fast."""
    ours, theirs = source.with_suffix(".ours"), source.with_suffix(".theirs")
    ingest(source, ours, force=True)  # compiles, too
    peer(source, theirs)
    for column in ("vaddr", "time_ns", "page", "is_write"):
        expected = pl.read_parquet(theirs)[column]
        got = pl.read_parquet(ours)[column]
        assert got.equals(expected.cast(got.dtype)), (name, column)
    lines = pl.read_parquet(ours).height
    spent: list[tuple[float, float]] = []
    for _ in range(rounds):
        start = time.process_time()
        ingest(source, ours, force=True)
        middle = time.process_time()
        peer(source, theirs)
        spent.append((middle - start, time.process_time() - middle))
    ratio = statistics.median(b / a for a, b in spent)
    mine, theirs_took = (statistics.median(one) for one in zip(*spent, strict=True))
    return (
        f"{name} to Parquet",
        f"{lines / mine / 1e6:.2f} M/s",
        f"{PEERS[peer]}, {lines / theirs_took / 1e6:.2f} M/s",
        f"{ratio:.1f}x",
    )


PEERS = {
    perf_script_by_polars: "polars `str.extract_groups`",
    lackey_by_split: "Python `split` loop",
    csv_by_split: "Python `split` loop",
}


def rows(lines: int, rounds: int) -> Iterator[Row]:
    """Time every format of text in turn."""
    with tempfile.TemporaryDirectory() as folder:
        perf = Path(folder) / "perf.txt"
        command = [sys.executable, str(GENERATE), "perf-script", "-o", str(perf)]
        here = dict(os.environ, PYTHONPATH=str(GENERATE.parents[1]))
        subprocess.run([*command, "--accesses", str(lines)], check=True, env=here)
        yield compare("perf script text", perf, perf_script_by_polars, rounds)
        make_lackey(Path(folder) / "lackey.txt", lines)
        yield compare("lackey", Path(folder) / "lackey.txt", lackey_by_split, rounds)
        make_csv(Path(folder) / "bpf.csv", lines)
        yield compare("CSV", Path(folder) / "bpf.csv", csv_by_split, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    for row in rows(arguments.lines, arguments.rounds):
        print(" | ".join(row), flush=True)


if __name__ == "__main__":
    main()

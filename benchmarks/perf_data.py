"""perf.data to Parquet against `perf script` piped to polars, equal tables asserted first.

    taskset -c 0 python -m benchmarks.perf_data [FILE...] [--pages 1000000] [--rounds 5]

Without a file it records two captures of a program that touches fresh pages: the user fault
tracepoint alone, and the two tracepoints of faults beside each other with two processes, whose
buffers perf writes in turns. The peer is the fastest way tried to get a table by perf's text: the
fields needed and no others, `scan_csv` of whole lines, one `str.extract_groups`. Rounds are interleaved, so
that a busy machine slows both; the figure is the median of the ratios of CPU seconds, children and
all threads included, file in the page cache.
"""

from __future__ import annotations

import os

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import argparse
import io
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from tracereplay.readers import ingest

_FIELDS = "pid,tid,cpu,time,event,trace"
_GROUPS = (
    r"^\s*(?<pid>\d+)/(?<tid>\d+)\s+\[(?<cpu>\d+)\]\s+(?<time>\d+\.\d+):\s+(?<event>\S+):\s+"
    r"address=0x(?<vaddr>[0-9a-f]+) ip=\S+ error_code=0x(?<code>[0-9a-f]+)"
)
# Touches fresh anonymous pages in a scattered order; no Python of its own to fault in.
_TOUCH = (
    "import mmap,sys\n"
    "left=int(sys.argv[1])\n"
    "while left>0:\n"
    "    pages=min(left,1<<17)\n"
    "    m=mmap.mmap(-1,pages<<12,flags=mmap.MAP_PRIVATE|mmap.MAP_ANONYMOUS)\n"
    "    m.madvise(15)\n"  # MADV_NOHUGEPAGE
    "    for k in range(pages): m[((k*7919)%pages)<<12]=1\n"
    "    m.close()\n"
    "    left-=pages\n"
)


def record(path: Path, events: list[str], pages: int, processes: int) -> None:
    touch = f"{sys.executable} -c '{_TOUCH}' {pages // processes}"
    command = ["perf", "record", "-q", "-c", "1", "-m", "2048", "-o", str(path)]
    for event in events:
        command += ["-e", event]
    script = " & ".join([touch] * processes) + " & wait"
    subprocess.run([*command, "--", "sh", "-c", script], check=True)


def by_perf_script(source: Path, target: Path) -> None:
    text = subprocess.run(
        ["perf", "script", "--ns", "-F", _FIELDS, "-i", str(source)],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ).stdout
    lines = pl.scan_csv(
        io.BytesIO(text), has_header=False, separator="\x01", quote_char=None, new_columns=["line"]
    )
    seconds = pl.col("time").str.split_exact(".", 1).struct
    vaddr = pl.col("vaddr").str.to_integer(base=16, dtype=pl.UInt64)
    lines.select(pl.col("line").str.extract_groups(_GROUPS).alias("g")).unnest("g").select(
        (
            seconds.field("field_0").cast(pl.UInt64) * 1_000_000_000
            + seconds.field("field_1").cast(pl.UInt64)
        ).alias("time_ns"),
        pl.col("pid", "tid").cast(pl.UInt32),
        vaddr,
        (vaddr // 4096).alias("page"),
        (pl.col("code").str.to_integer(base=16) & 2 != 0).alias("is_write"),
        pl.col("event").cast(pl.Categorical),
        pl.col("cpu").cast(pl.UInt16),
    ).collect().write_parquet(target)


def cpu_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


Row = tuple[str, str, str, str]


def compare(name: str, source: Path, folder: Path, rounds: int) -> Row:
    """Return the row of the table: what is read, how fast, against what, how many times as fast."""
    ours, theirs = folder / "ours", folder / "theirs"
    ingest(source, ours, force=True)  # compiles, too
    by_perf_script(source, theirs)
    got, expected = pl.read_parquet(ours), pl.read_parquet(theirs)
    for column in expected.columns:
        wanted = expected[column].cast(pl.String if column == "event" else got[column].dtype)
        assert got[column].cast(wanted.dtype).equals(wanted), (name, column)
    spent: list[tuple[float, float]] = []
    for _ in range(rounds):
        start = cpu_seconds()
        ingest(source, ours, force=True)
        middle = cpu_seconds()
        by_perf_script(source, theirs)
        spent.append((middle - start, cpu_seconds() - middle))
    ratio = statistics.median(peer / mine for mine, peer in spent)
    mine, peer_took = (statistics.median(one) for one in zip(*spent, strict=True))
    return (
        f"perf.data, {name}, to Parquet",
        f"{got.height / mine / 1e6:.2f} M/s",
        f"`perf script -F {_FIELDS}` to polars, {got.height / peer_took / 1e6:.2f} M/s",
        f"{ratio:.1f}x",
    )


def rows(pages: int, rounds: int, files: Sequence[Path] = ()) -> Iterator[Row]:
    """Time captures in turn; records two where none is given."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        captures = {file.name: file for file in files}
        if not captures:
            user, kernel = "exceptions:page_fault_user", "exceptions:page_fault_kernel"
            captures = {"one event": folder / "one.data", "two events": folder / "two.data"}
            record(captures["one event"], [user], pages, 1)
            record(captures["two events"], [user, kernel], pages, 2)
        for title, file in captures.items():
            yield compare(title, file, folder, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--pages", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if shutil.which("perf") is None:
        sys.exit("perf is not installed: it is the peer")
    for row in rows(arguments.pages, arguments.rounds, arguments.files):
        print(" | ".join(row), flush=True)


if __name__ == "__main__":
    main()

"""Text of `perf trace -F all --no-syscalls`: page faults with a target, which may be a file offset."""

from __future__ import annotations

import re
from collections.abc import Iterator

import polars as pl

from tracereplay.files import Input
from tracereplay.readers.base import Format, Head, Options, Report, text_chunks
from tracereplay.readers.lines import match_lines

_LINE = (
    r"^ *(?P<ms>\d{1,13})\.(?P<us>\d{3}) \( *[\d.]* *(?:ms)?\): (?:(?P<comm>.*)/(?P<tid>\d+) )?"
    r"(?P<event>majfault|minfault) \[.*?\] => (?P<target>.*?)(?P<at>@?)0x(?P<address>[0-9a-f]{1,16})"
    r" \(.*\)$"
)
_DETECT = re.compile(rb"^ *\d+\.\d{3} \( *[\d.]* *(ms)?\): .*(maj|min)fault \[.*\] => ")
# An anonymous mapping has its address as its offset; the stack was moved after it got its own.
_ANONYMOUS = r"^(?://anon|\[heap\]|)$"


def _detect(head: Head) -> bool:
    return any(_DETECT.match(line) for line in head.content_lines)


def _read(stream: Input, options: Options, report: Report) -> Iterator[pl.DataFrame]:
    report.clock = "perf-trace"
    report.time_resolution_ns = 1000
    files = 0
    for chunk in text_chunks(stream, report):
        frame = match_lines(chunk, _LINE, report, report.bad)
        virtual = pl.col("target").str.contains(_ANONYMOUS)
        rows = frame.filter(virtual).select(
            ((pl.col("ms").cast(pl.UInt64) * 1000 + pl.col("us").cast(pl.UInt64)) * 1000).alias(
                "time_ns"
            ),
            pl.lit(options.pid, pl.UInt32).alias("pid"),
            pl.col("tid").cast(pl.UInt32, strict=False),
            pl.col("address").str.to_integer(base=16, dtype=pl.UInt64).alias("vaddr"),
            pl.lit(None, pl.Boolean).alias("is_write"),
            pl.col("event").cast(pl.Categorical),
            (pl.col("event") == "majfault").alias("major"),
        )
        files += frame.height - rows.height
        if rows.height:
            yield rows
    if files:
        report.without_address["file mappings"] = files
        report.note(
            f"{report.name}: {files} faults name a place in a file, not an address: left out "
            "(perf record -e page-faults -d keeps all of them)"
        )


FORMAT = Format(
    name="perf-trace",
    summary="text of `perf trace -F all --no-syscalls`; faults of file mappings have no address",
    coverage="faults",
    detect=_detect,
    read=_read,
    how_to_record="perf trace -F all --no-syscalls -o out.txt -- CMD",
)

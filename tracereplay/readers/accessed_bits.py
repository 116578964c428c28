"""CSV of accessed-bit scans: per mapping, how much was touched between clearing and reading.

Rule of expansion, stated because no order exists inside a scan: a mapping of which R of its
resident kilobytes were referenced yields its first R / 4 pages, once per scan, at the time the
bits were read. Coverage says `sampled-region`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from tracereplay.errors import FormatError
from tracereplay.files import Input
from tracereplay.readers.base import Format, Head, Options, Report, text_chunks
from tracereplay.readers.lines import match_lines

_HEADER = b"clear_ns,read_ns,pid,start,end,perms,path,rss_kb,referenced_kb"
_TOTALS = b"time_ns,pid,rss_kb,referenced_kb"
_LINE = (
    r"^(?P<clear>\d{1,19}),(?P<read>\d{1,19}),(?P<pid>\d{1,9}),0x(?P<start>[0-9a-f]{1,16}),"
    r"0x(?P<end>[0-9a-f]{1,16}),(?P<perms>[^,]*),(?P<path>.*),(?P<rss>\d{1,15}),(?P<referenced>\d{1,15})$"
)
_MAX_PAGES = 1 << 20


def _detect(head: Head) -> bool:
    first = next((line for line in head.lines if line.strip()), b"").strip()
    return first in (_HEADER, _TOTALS)


def _read(stream: Input, options: Options, report: Report) -> Iterator[pl.DataFrame]:
    del options
    report.clock = "mono"

    def odd_line(number: int, line: bytes) -> None:
        if line.strip() == _TOTALS:
            raise FormatError(
                f"{report.name}: totals per scan name no page; keep the lines per mapping "
                f"({_HEADER.decode()})"
            )
        if line.strip() != _HEADER:
            report.bad(number, line)

    for chunk in text_chunks(stream, report):
        frame = match_lines(chunk, _LINE, report, odd_line)
        regions = frame.select(
            pl.col("read").cast(pl.UInt64).alias("time_ns"),
            pl.col("pid").cast(pl.UInt32),
            (pl.col("start").str.to_integer(base=16, dtype=pl.UInt64) // 4096).alias("first"),
            (pl.col("end").str.to_integer(base=16, dtype=pl.UInt64) // 4096).alias("end"),
            (pl.col("referenced").cast(pl.UInt64) // 4).alias("touched"),
        ).with_columns(
            pl.min_horizontal(
                pl.col("touched"),
                pl.when(pl.col("end") > pl.col("first"))
                .then(pl.col("end") - pl.col("first"))
                .otherwise(pl.lit(0, pl.UInt64)),
            ).alias("touched")
        )
        yield from expand_regions(regions, report)


def expand_regions(regions: pl.DataFrame, report: Report) -> Iterator[pl.DataFrame]:
    """Yield one row per touched page of regions `time_ns, pid, first, touched`, in their order.

    Raises
    ------
    FormatError
        A region is larger than 1 TiB, which no scan ever saw.
    """
    touched = regions["touched"].to_numpy()
    if touched.size and int(touched.max()) > 1 << 28:
        raise FormatError(f"{report.name}: a region of more than 1 TiB; is the file damaged?")
    start = 0
    while start < regions.height:
        total = np.cumsum(touched[start:])
        count = max(int(np.searchsorted(total, _MAX_PAGES, side="right")), 1)
        part = regions.slice(start, count)
        start += count
        frame = part.filter(pl.col("touched") > 0).select(
            pl.col("time_ns"),
            pl.col("pid"),
            pl.int_ranges("first", pl.col("first") + pl.col("touched"), dtype=pl.UInt64).alias(
                "page"
            ),
        )
        if frame.height:
            yield frame.explode("page").with_columns(
                (pl.col("page") * 4096).alias("vaddr"),
                pl.lit(None, pl.Boolean).alias("is_write"),
                pl.lit("referenced").cast(pl.Categorical).alias("event"),
            )


FORMAT = Format(
    name="accessed-bits",
    summary="CSV of smaps Referenced scans (clear_refs), expanded per scan to the touched pages",
    coverage="sampled-region",
    detect=_detect,
    read=_read,
    how_to_record="echo 1 > /proc/PID/clear_refs; sleep; read Referenced per mapping of /proc/PID/smaps",
)

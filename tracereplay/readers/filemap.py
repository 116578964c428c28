"""perf script text of the page-cache tracepoints (filemap:*): which file pages were read."""

from __future__ import annotations

import re
from collections.abc import Iterator

import polars as pl

from tracereplay.errors import FormatError
from tracereplay.files import Input
from tracereplay.readers.base import Format, Head, Options, Report, text_chunks
from tracereplay.readers.lines import match_lines, nanoseconds

# get_pages is a buffered read of a range, fault a touch of one mapped page. map_pages maps what is
# around a fault and add_to_page_cache fills the cache: neither is an access.
_ACCESSES = ("mm_filemap_get_pages", "mm_filemap_fault")
_LINE = (
    r"^ *(?P<comm>.*?) +(?:(?P<pid>\d+)/)?(?P<tid>\d+) +(?:\[(?P<cpu>\d+)\] +)?"
    r"(?P<seconds>\d{1,10})\.(?P<fraction>\d{6,9}): +(?:filemap:)?(?P<event>mm_filemap_\w+): .*?"
    r"\bdev[= ](?P<major>\d{1,9}):(?P<minor>\d{1,9}) ino[= ](?P<ino>[0-9a-f]{1,16})\b(?P<rest>.*)$"
)
_MAX_RANGE_PAGES = 1 << 20


def _detect(head: Head) -> bool:
    lines = head.content_lines
    return sum(
        1 for line in lines if re.search(rb": +(filemap:)?mm_filemap_\w+: ", line)
    ) * 2 > len(lines) and bool(lines)


def _read(stream: Input, options: Options, report: Report) -> Iterator[pl.DataFrame]:
    report.clock = "perf"
    for chunk in text_chunks(stream, report):
        frame = match_lines(chunk, _LINE, report, report.bad)
        offsets = pl.col("rest").str.extract_groups(r"ofs[= ](?P<from>\d+)(?:-(?P<to>\d+))?")
        if frame.height:
            report.time_resolution_ns = 1 if frame["fraction"].str.len_bytes().max() == 9 else 1000
        kept = frame.filter(pl.col("event").is_in(_ACCESSES))
        report.other_lines += frame.height - kept.height
        rows = kept.select(
            nanoseconds("seconds", "fraction").alias("time_ns"),
            (
                pl.col("pid").cast(pl.UInt32, strict=False)
                if options.pid is None
                else pl.lit(options.pid, pl.UInt32)
            ).alias("pid"),
            pl.col("tid").cast(pl.UInt32, strict=False),
            pl.col("cpu").cast(pl.UInt16, strict=False),
            pl.lit("file").cast(pl.Categorical).alias("space"),
            (
                pl.col("major").cast(pl.UInt64) * (1 << 52)
                + pl.col("minor").cast(pl.UInt64) % (1 << 12) * (1 << 40)
                + pl.col("ino").str.to_integer(base=16, dtype=pl.UInt64) % (1 << 40)
            ).alias("space_id"),
            pl.lit(value=False).alias("is_write"),
            pl.col("event").cast(pl.Categorical),
            (offsets.struct.field("from").cast(pl.UInt64, strict=False) // 4096).alias("first"),
            (offsets.struct.field("to").cast(pl.UInt64, strict=False) // 4096).alias("last"),
        ).filter(pl.col("first").is_not_null())
        rows = rows.with_columns(pl.col("last").fill_null(pl.col("first")))
        longest = rows.select((pl.col("last") - pl.col("first")).max()).item()
        if longest is not None and longest > _MAX_RANGE_PAGES:
            raise FormatError(f"{report.name}: a read of more than 4 GiB; is the file damaged?")
        pages = rows.with_columns(
            pl.int_ranges("first", pl.col("last") + 1, dtype=pl.UInt64).alias("page")
        ).drop("first", "last")
        if pages.height:
            # One address space for all: the key of a page is its file, not who read it.
            yield pages.explode("page").drop("pid")
    if report.records:
        report.note(
            f"{report.name}: page-cache accesses, keyed by file and page; map_pages and "
            "add_to_page_cache are no accesses and left out"
        )


FORMAT = Format(
    name="filemap",
    summary="perf script text of filemap:mm_filemap_* tracepoints: page-cache reads and faults",
    coverage="page-cache",
    detect=_detect,
    read=_read,
    how_to_record=(
        "perf record -e filemap:mm_filemap_get_pages -e filemap:mm_filemap_fault -- CMD; "
        "perf script --ns -F comm,pid,tid,cpu,time,event,trace"
    ),
)

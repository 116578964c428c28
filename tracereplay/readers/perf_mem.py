"""Text of `perf mem report -D`: one sampled load or store per line, no time."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from tracereplay.errors import FormatError
from tracereplay.files import Input
from tracereplay.readers._perf_event import PERF_MEM_OP, PERF_MEM_OP_LOAD, PERF_MEM_OP_STORE
from tracereplay.readers.base import Format, Head, Options, Report, text_chunks
from tracereplay.readers.lines import match_lines


def _header(lines: list[bytes]) -> str:
    return next(
        (
            line.decode(errors="replace")
            for line in lines
            if line.startswith(b"# PID, TID, IP, ADDR")
        ),
        "",
    )


def _detect(head: Head) -> bool:
    return bool(_header(head.lines[:20]))


def _read(stream: Input, options: Options, report: Report) -> Iterator[pl.DataFrame]:
    del options
    report.clock = "ordinal"
    pattern = ""
    row = 0
    for chunk in text_chunks(stream, report):
        if not pattern:
            head = _header(chunk[: 1 << 16].tobytes().split(b"\n"))
            if not head:
                raise FormatError(
                    f"{report.name}: no header `# PID, TID, IP, ADDR, …`; print with "
                    "`perf mem report -D`"
                )
            physical = "PHYS ADDR" in head
            page_size = "DATA PAGE SIZE" in head
            separator = r"[\s,;|]+"
            fields = [
                r"^\s*(?P<pid>\d+)",
                r"(?P<tid>\d+)",
                r"0x[0-9a-f]+",
                r"0x(?P<vaddr>[0-9a-f]+)",
            ]
            fields += [r"0x[0-9a-f]+"] * physical + [r"\S+"] * page_size
            fields += [r"(?P<weight>\d+)", r"0x(?P<source>[0-9a-f]+)", r"?(?:.*)$"]
            pattern = separator.join(fields[:-1]) + r"(?:[\s,;|].*)?$"
        frame = match_lines(chunk, pattern, report, report.bad)
        operation = pl.col("source").str.to_integer(base=16, dtype=pl.UInt64, strict=False)
        operation = operation & PERF_MEM_OP
        rows = frame.select(
            (pl.int_range(pl.len(), dtype=pl.UInt64) + row).alias("time_ns"),
            pl.col("pid").cast(pl.UInt32, strict=False),
            pl.col("tid").cast(pl.UInt32, strict=False),
            pl.col("vaddr").str.to_integer(base=16, dtype=pl.UInt64, strict=False),
            pl.when(operation.is_in([PERF_MEM_OP_LOAD, PERF_MEM_OP_STORE]))
            .then(operation == PERF_MEM_OP_STORE)
            .alias("is_write"),
            pl.when(operation == PERF_MEM_OP_STORE)
            .then(pl.lit("store"))
            .when(operation == PERF_MEM_OP_LOAD)
            .then(pl.lit("load"))
            .otherwise(pl.lit("other"))
            .cast(pl.Categorical)
            .alias("event"),
        )
        row += rows.height
        missing = rows.filter(pl.col("vaddr").fill_null(0) == 0).height
        if missing:
            without = report.without_address
            without["samples"] = without.get("samples", 0) + missing
        rows = rows.filter(pl.col("vaddr").fill_null(0) != 0)
        if rows.height:
            yield rows


FORMAT = Format(
    name="perf-mem",
    summary="text of `perf mem report -D`: sampled loads and stores, in order but without time",
    coverage="sampled",
    detect=_detect,
    read=_read,
    how_to_record=(
        "perf mem record -p --data-page-size -- CMD; perf script --ns -F "
        "comm,pid,tid,cpu,time,event,addr,phys_addr,data_src"
    ),
)

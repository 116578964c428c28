"""Text formats that one regular expression per line reads, a chunk at a time in polars."""

from __future__ import annotations

import re
from collections.abc import Callable

import polars as pl

from tracereplay.readers.base import Bytes, Report

# Rows a frame may have before it is handed on.
OddLine = Callable[[int, bytes], None]


def match_lines(
    chunk: Bytes, pattern: str, report: Report, odd_line: OddLine, *, comment: str = "#"
) -> pl.DataFrame:
    """Return a column of text per named group, for the lines that match.

    Blank lines and lines that begin with `comment` are passed over; every other line that does
    not match goes to `odd_line(number, line)`. A group that took no part is null.
    """
    text = chunk.tobytes().replace(b"\r\n", b"\n").decode("utf-8", "replace")
    lines = pl.Series("line", [text[:-1]]).str.split("\n").explode()
    first = report.lines
    report.lines += len(lines)
    groups = list(re.compile(pattern).groupindex)
    frame = lines.str.extract_groups(pattern).struct.unnest()
    matched = pl.any_horizontal(pl.col(groups).is_not_null())
    rest = (
        pl.DataFrame({"line": lines})
        .with_row_index("number", offset=first + 1)
        .filter(~frame.select(matched).to_series())
    )
    for number, line in rest.iter_rows():
        if line.strip() and not line.startswith(comment):
            odd_line(number, line.encode())
    return frame.filter(matched)


def hexadecimal(column: str) -> pl.Expr:
    """Return the expression that reads a column of hex digits, without 0x, as UInt64."""
    return pl.col(column).str.to_integer(base=16, dtype=pl.UInt64, strict=False)


def nanoseconds(seconds: str, fraction: str) -> pl.Expr:
    """Return the expression for SECONDS and up to nine digits of FRACTION."""
    digits = pl.col(fraction).str.pad_end(9, "0").str.slice(0, 9).cast(pl.UInt64, strict=False)
    return pl.col(seconds).cast(pl.UInt64, strict=False) * 1_000_000_000 + digits

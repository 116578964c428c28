"""bpftrace output: lines of the user's own printf as text, CSV or `-f json`; maps are refused.

There is no fixed grammar. What each field is follows from a header line, from `--column
OURS=NUMBER` (fields counted from 1), or from what the fields of the first lines look like: the
first long number that never falls is the time, the 0x number (or the one of 13 to 16 digits) the
address, a short 0x number the error code, R or W the kind, small numbers pid, then tid, then cpu.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator

import numpy as np
import polars as pl

from tracereplay.errors import FormatError
from tracereplay.files import Input
from tracereplay.readers.base import Bytes, Format, Head, Options, Report, text_chunks
from tracereplay.readers.delimited import (
    ALIASES,
    LOST,
    DelimitedReader,
    is_header,
    map_columns,
    split_header,
)

_ATTACHING = re.compile(rb"^Attach(ing|ed) \d+ probes?")
_SAMPLE_LINES = 400
_MAX_JSON_LINE = 1 << 16
_REMEDY = (
    'print each fault: printf("%llu %d %d %s 0x%lx 0x%lx\\n", nsecs, pid, tid, comm, '
    "args->address, args->error_code) of tracepoint:exceptions:page_fault_user"
)


def _detect(head: Head) -> bool:
    lines = [line for line in head.lines if line.strip()][:50]
    if not lines:
        return False
    if any(_ATTACHING.match(line) for line in lines[:3]):
        return True
    if any(_is_json(line) for line in lines[:5]):
        return True
    usual = re.compile(rb"^\d{10,20} \d+ .*0x[0-9a-f]{4,16}\b")
    return sum(1 for line in lines if usual.match(line)) * 2 > len(lines)


def _is_json(line: bytes) -> bool:
    return re.match(rb'\{\s*"type"\s*:\s*"', line) is not None


def _read(stream: Input, options: Options, report: Report) -> Iterator[pl.DataFrame]:
    report.clock = "mono"
    unpacker = _Unpacker(report)
    reader: _Lines | None = None
    for chunk in text_chunks(stream, report):
        lines = unpacker.lines(chunk)
        if reader is None:
            try:
                reader = _reader(lines, options, report)
            except FormatError:
                if unpacker.maps:
                    break
                raise
        if reader is not None:
            yield from reader.frames(lines)
    if unpacker.maps and not report.records:
        report.remedy = (
            f"{report.name}: a bpftrace map holds counts per key, without time or order: nothing "
            f"to replay; {_REMEDY}"
        )
    elif not report.remedy:
        report.remedy = f"{report.name}: no access record in it; {_REMEDY}"


class _Unpacker:
    """Takes the text out of `-f json`, and away what is not printf: maps, losses, banners."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.maps = 0

    def lines(self, chunk: Bytes) -> Bytes:
        text = chunk.tobytes()
        if b"{" not in text and b"@" not in text and b"Lost" not in text and b"Attach" not in text:
            return chunk
        kept: list[bytes] = []
        for line in text.split(b"\n"):
            if not line:
                kept.append(line)
            elif line[:1] == b"{":
                kept.append(self._json(line))
            elif line[:1] == b"@":
                self.maps += 1
                kept.append(b"")
            elif lost := LOST.match(line):
                self._report.lost_events += int(lost[1])
                kept.append(b"")
            elif _ATTACHING.match(line):
                kept.append(b"")
            else:
                kept.append(line)
        return np.frombuffer(b"\n".join(kept), np.uint8)

    def _json(self, line: bytes) -> bytes:
        kind = re.match(rb'\{\s*"type"\s*:\s*"(\w+)"', line)
        if kind is None:
            return line
        if kind[1] in (b"map", b"hist", b"stats"):
            self.maps += 1
            return b""
        if len(line) > _MAX_JSON_LINE:
            return line
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            return line
        data = record.get("data")
        if kind[1] == b"printf" and isinstance(data, str):
            return data.strip("\n").replace("\n", " ").encode("utf-8", "replace")
        if kind[1] == b"lost_events" and isinstance(data, dict):
            lost = data.get("events")
            self._report.lost_events += lost if isinstance(lost, int) and lost > 0 else 1
        return b""


class _Lines(DelimitedReader):
    """Lines the scanner cannot read are the program's own output unless they look like ours."""

    def odd_line(self, number: int, line: bytes) -> None:
        fields = self._split(line)
        if len(fields) == len(self._header) and re.match(rb"\s*\w*\d", line):
            self._report.bad(number, line)
        else:
            self._report.foreign_lines += 1


def _reader(lines: Bytes, options: Options, report: Report) -> _Lines | None:
    sample = [line for line in lines[: 1 << 18].tobytes().split(b"\n") if line.strip()]
    if not sample:
        return None
    header = next((at for at, line in enumerate(sample[:20]) if is_header(line)), None)
    if header is not None:
        separator, fields = split_header(sample[header])
        reader = _Lines(separator, fields, map_columns(fields, options), options, report)
        reader.header_line = sample[header]
    else:
        comma = sum(line.count(b",") for line in sample) >= 2 * len(sample)
        separator = b"," if comma else b" "
        rows = [
            [field.strip() for field in (line.split(b",") if comma else line.split())]
            for line in sample[:_SAMPLE_LINES]
        ]
        rows = [row for row in rows if any(len(field) > 9 for field in row)]
        if not rows:
            return None
        fields, found = _layout(rows, options, report)
        reader = _Lines(separator, fields, found, options, report)
    if "vaddr" not in reader.slots and "page" not in reader.slots:
        raise FormatError(
            f"{report.name}: no field of the lines is an address (software:page-faults has none); "
            + _REMEDY
        )
    reader.settle_bases(lines)
    reader.default_event = options.event or "page_fault"
    return reader


_NUMERIC = re.compile(rb"(?:0x)?[0-9a-fA-F]+")


def _layout(
    rows: list[list[bytes]], options: Options, report: Report
) -> tuple[list[str], dict[str, str]]:
    """Return the fields of the lines: as many as make most of the lines readable.

    A command name with blanks in it makes a line longer, and is put together again.
    """
    counts = Counter(len(row) for row in rows)
    usual = counts.most_common(1)[0][0]
    if options.columns:
        return _by_number(usual, options, report)
    layouts = []
    for width in sorted(counts):
        if width == usual or (1 < width < usual and counts[width] * 50 >= len(rows)):
            fields, found = _guess([row for row in rows if len(row) == width])
            layouts.append((_fitting(rows, fields, found), -width, fields, found))
    _, _, fields, found = max(layouts, key=lambda layout: layout[:2])
    told = ", ".join(f"{fields.index(name) + 1} {ours}" for ours, name in found.items())
    report.note(f"{report.name}: fields taken as {told} (--column OURS=NUMBER says otherwise)")
    return fields, found


def _fitting(rows: list[list[bytes]], fields: list[str], found: dict[str, str]) -> int:
    """Return how many rows have numbers where the fields want them."""
    if "vaddr" not in found:
        return 0
    comm_at = fields.index("comm") if "comm" in fields else len(fields)
    wanted = [
        fields.index(name) for ours, name in found.items() if ours not in ("comm", "is_write")
    ]
    fitting = 0
    for row in rows:
        surplus = len(row) - len(fields)
        if surplus == 0 or (surplus > 0 and comm_at < len(fields)):
            places = (at + surplus if at > comm_at else at for at in wanted)
            fitting += all(_NUMERIC.fullmatch(row[at]) for at in places)
    return fitting


def _by_number(width: int, options: Options, report: Report) -> tuple[list[str], dict[str, str]]:
    """Return the fields of lines of `width` as --column OURS=NUMBER says."""
    fields = [f"field {at + 1}" for at in range(width)]
    found: dict[str, str] = {}
    for ours, theirs in options.columns.items():
        if ours not in ALIASES or not theirs.isdecimal() or not 1 <= int(theirs) <= width:
            raise FormatError(
                f"{report.name}: --column {ours}={theirs}: the lines have no header; write "
                f"OURS=NUMBER, fields 1 to {width}; ours: {', '.join(ALIASES)}"
            )
        found[ours] = fields[int(theirs) - 1]
    return fields, found


def _guess(rows: list[list[bytes]]) -> tuple[list[str], dict[str, str]]:
    """Return names for the fields of rows of one width, and which of ours each of them is."""
    fields = [f"field {at + 1}" for at in range(len(rows[0]))]
    found: dict[str, str] = {}
    small: list[str] = []
    for at, name in enumerate(fields):
        tokens = [row[at].lower() for row in rows]
        if all(re.fullmatch(rb"0x[0-9a-f]+", token) for token in tokens):
            long = sum(1 for token in tokens if len(token) > 6) * 2 > len(tokens)
            found.setdefault("vaddr" if long else "error_code", name)
        elif all(re.fullmatch(rb"\d+", token) for token in tokens):
            values = [int(token) for token in tokens]
            falls = sum(1 for a, b in itertools.pairwise(values) if b < a)
            if min(values) >= 10**8 and falls * 50 <= len(values) and "time_ns" not in found:
                found["time_ns"] = name
            elif max(values) >= 10**10:
                found.setdefault("vaddr", name)
            elif max(values) < 1 << 32:
                small.append(name)
        elif all(re.fullmatch(rb"[0-9a-f]{5,16}", token) for token in tokens):
            found.setdefault("vaddr", name)
        elif all(token in (b"r", b"w") for token in tokens):
            found.setdefault("is_write", name)
        elif "comm" not in found:
            found["comm"] = name
            fields[at] = found["comm"] = "comm"
    found.update(zip(("pid", "tid", "cpu"), small, strict=False))
    return fields, found


FORMAT = Format(
    name="bpftrace",
    summary="bpftrace printf lines, as text, CSV or -f json, with an address in each",
    coverage="faults",
    detect=_detect,
    read=_read,
    how_to_record=(
        "BPFTRACE_PERF_RB_PAGES=1024 bpftrace -e 'tracepoint:exceptions:page_fault_user /pid == "
        'cpid/ { printf("%llu %d %d %s 0x%lx 0x%lx\\n", nsecs, pid, tid, comm, args->address, '
        "args->error_code) }' -c CMD -o out.txt"
    ),
)

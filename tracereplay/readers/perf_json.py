"""`perf data convert --to-json`: samples with the fields of a page-fault tracepoint, where it has them.

Only a newer perf that was built with libtraceevent writes them (`address`, `error_code`, as text).
The others name no data address at all, and are refused with the command that prints one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import polars as pl

from tracereplay.errors import FormatError
from tracereplay.files import Input
from tracereplay.readers.base import Format, Head, Options, Report, text_chunks, with_pid

# perf indents with tabs: a sample stands at depth two, its own fields at three, a call chain deeper.
_BEGIN, _END = b"\n\t\t{\n", b"\n\t\t}"
_FIELD = re.compile(
    rb'^\t\t\t"(\w{1,32})": (?:"((?:[^"\\\n]|\\.){0,99})"|(\d{1,20})),?$', re.MULTILINE
)
_ADDRESS = re.compile(rb"0x[0-9a-fA-F]{1,16}")
_NUMBER = re.compile(rb"\d{1,19}")
_LIMITS = {b"timestamp": 1 << 64, b"pid": 1 << 32, b"tid": 1 << 32, b"cpu": 1 << 16}
_ROWS = 1 << 17
_WITHOUT = 1000  # samples in a row that name no address: this perf writes none
_MAX_SAMPLE_BYTES = 4 << 20

Row = tuple[int | None, int | None, int | None, int | None, int, bool | None, str]
_SCHEMA = {
    "time_ns": pl.UInt64, "pid": pl.UInt32, "tid": pl.UInt32, "cpu": pl.UInt16, "vaddr": pl.UInt64,
    "is_write": pl.Boolean, "comm": pl.String,
}  # fmt: skip


def _detect(head: Head) -> bool:
    return b'"linux-perf-json-version"' in head.data[:4096]


def _read(stream: Input, options: Options, report: Report) -> Iterator[pl.DataFrame]:
    report.clock, report.time_resolution_ns = "perf", 1
    report.remedy = (
        f"{stream.name}: perf's JSON names neither event nor data address; print perf.data with "
        "`perf script --ns -F comm,pid,tid,cpu,time,event,addr,ip,sym` (tracepoints: …,event,trace)"
    )
    rows: list[Row] = []
    carry = b""
    without = seen = 0
    for chunk in text_chunks(stream, report):
        *samples, carry = (carry + chunk.tobytes().replace(b"\r\n", b"\n")).split(_END)
        if len(carry) > _MAX_SAMPLE_BYTES:
            raise FormatError(
                f"{stream.name}: JSON is not laid out as perf writes it (a tab per level)"
            )
        for sample in samples:
            row = _row(sample[sample.rfind(_BEGIN) + 1 :])
            if row is None:
                without += 1
                if without >= _WITHOUT and not seen:
                    raise FormatError(report.remedy)
                continue
            seen += 1
            rows.append(row)
            if len(rows) == _ROWS:
                yield _frame(rows, options)
                rows.clear()
    if rows:
        yield _frame(rows, options)
    if without:
        report.without_address["samples"] = without
        if seen:
            report.note(f"{stream.name}: {without} samples name no data address: left out")
    if not seen:
        raise FormatError(report.remedy)


def _row(sample: bytes) -> Row | None:
    fields = {key: text or number for key, text, number in _FIELD.findall(sample)}
    address = fields.get(b"address", b"")
    if not _ADDRESS.fullmatch(address):
        return None
    numbers = [
        int(fields[key])
        if _NUMBER.fullmatch(fields.get(key, b"")) and int(fields[key]) < limit
        else None
        for key, limit in _LIMITS.items()
    ]
    code = fields.get(b"error_code", b"")
    is_write = int(code, 16) & 2 != 0 if _ADDRESS.fullmatch(code) else None
    comm = re.sub(rb"\\(.)", rb"\1", fields.get(b"comm", b"")).decode("utf-8", "replace")
    return (numbers[0], numbers[1], numbers[2], numbers[3], int(address, 16), is_write, comm)


def _frame(rows: list[Row], options: Options) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=_SCHEMA, orient="row").with_columns(
        pl.lit(options.event or "page_fault", pl.Categorical).alias("event"),
        pl.col("comm").cast(pl.Categorical),
    )
    frame = with_pid(frame, options.pid)
    return frame if options.keep_comm else frame.drop("comm")


FORMAT = Format(
    name="perf-json",
    summary="`perf data convert --to-json`, if its samples name addresses; else refused",
    coverage="faults",
    detect=_detect,
    read=_read,
)

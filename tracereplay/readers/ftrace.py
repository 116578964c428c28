"""ftrace text (`trace`, `trace_pipe`) and `trace-cmd report`: page-fault tracepoints, line by line."""

from __future__ import annotations

import re
from collections.abc import Iterator

import polars as pl

from tracereplay.errors import FormatError
from tracereplay.files import Input
from tracereplay.readers.base import Format, Head, Options, Report, text_chunks, with_pid
from tracereplay.readers.lines import match_lines, nanoseconds

# INSTANCE: COMM-TID (TGID) [CPU] FLAGS TIME: EVENT: FIELDS; trace-cmd report -l has CPUflags.
_LINE = (
    r"^(?:\S+: )? *(?P<comm>\S.*?|)-(?P<tid>\d+) +(?:\( *(?P<tgid>\d+|-+)\) +)?"
    r"(?:\[(?P<cpu>\d+)\]|\d+[^\s\d]\S*) +(?:[^\s\d]\S{2,7} +)?"
    r"(?:(?P<seconds>\d{1,10})\.(?P<fraction>\d{6,9})|(?P<ticks>\d{1,19})): +(?P<event>[\w.:]+): +(?P<fields>.*)$"
)
_DETECT = re.compile(rb"^(\S+: )? *\S.*-\d+ +.*(\[\d{3}\]|\d+[a-zA-Z.]{4,6}) .*[\d.]+: +\w+: ")
_WRITTEN = re.compile(rb"# entries-in-buffer/entries-written: (\d+)/(\d+)")
_LOST = re.compile(rb"LOST (\d{1,18}) EVENTS|\[(?:(\d{1,18}) )?EVENTS DROPPED\]")
_REMEDY = (
    "record page faults with `trace-cmd record -e exceptions:page_fault_user "
    "-e exceptions:page_fault_kernel -F CMD`, print with `trace-cmd report -t`"
)


def _detect_ftrace(head: Head) -> bool:
    if any(line.startswith(b"# tracer:") for line in head.lines[:20]):
        return True
    lines = [line for line in head.content_lines if b" EVENTS]" not in line]
    return bool(lines) and sum(1 for line in lines if _DETECT.match(line)) * 2 >= len(lines)


def _detect_trace_cmd(head: Head) -> bool:
    first = next((line for line in head.lines if line.strip()), b"")
    return re.fullmatch(rb"cpus=\d+", first) is not None


def _read(stream: Input, options: Options, report: Report) -> Iterator[pl.DataFrame]:
    report.clock = "trace"
    report.remedy = f"{stream.name}: no page-fault record in it; {_REMEDY}"
    resolution = 1_000_000_000

    def odd_line(number: int, line: bytes) -> None:
        if lost := _LOST.search(line):
            report.other_lines += 1
            report.lost_events += int(lost[1] or lost[2] or 1)
        elif re.fullmatch(rb"cpus=\d+", line.strip()) or line.startswith(b"version = "):
            report.other_lines += 1
        else:
            report.bad(number, line)

    for chunk in text_chunks(stream, report):
        if report.records == 0 and (written := _WRITTEN.search(chunk[: 1 << 16].tobytes())):
            report.lost_events += max(int(written[2]) - int(written[1]), 0)
        frame = match_lines(chunk, _LINE, report, odd_line)
        if not frame.height:
            continue
        ticks = frame["fraction"].null_count()
        if ticks and not options.tick_ns:
            raise FormatError(
                f"{report.name}: times are integers: the clock counts ticks of unknown length; "
                "record with `echo mono > trace_clock`, or say --tick-ns"
            )
        if ticks < frame.height:
            digits = int(frame["fraction"].drop_nulls().str.len_bytes().max() or 6)  # type: ignore[arg-type]
            resolution = min(resolution, 10 ** (9 - digits))
        time_ns = nanoseconds("seconds", "fraction")
        if ticks:
            length = float(options.tick_ns or 1.0)
            counted = pl.col("ticks").cast(pl.Float64) * length
            time_ns = pl.coalesce(time_ns, counted.cast(pl.UInt64, strict=False))
        address = pl.col("fields").str.extract(r"\baddress=0x([0-9a-fA-F]{1,16})\b")
        code = pl.col("fields").str.extract(r"\berror_code=0x([0-9a-fA-F]{1,16})\b")
        columns = [
            time_ns.alias("time_ns"),
            pl.col("tgid").cast(pl.UInt32, strict=False).alias("pid"),
            pl.col("tid").cast(pl.UInt32, strict=False),
            address.str.to_integer(base=16, dtype=pl.UInt64, strict=False).alias("vaddr"),
            (code.str.to_integer(base=16, dtype=pl.UInt64, strict=False) & 2 != 0).alias(
                "is_write"
            ),
            pl.col("event").cast(pl.Categorical),
            pl.col("cpu").cast(pl.UInt16, strict=False),
        ]
        if options.keep_comm:
            columns.append(pl.col("comm").cast(pl.Categorical))
        rows = with_pid(frame.select(columns), options.pid)
        without = rows.filter(pl.col("vaddr").is_null())
        for event, count in without["event"].value_counts().iter_rows():
            report.without_address[event] = report.without_address.get(event, 0) + count
        kept = rows.filter(pl.col("vaddr").is_not_null())
        report.bad_lines += kept["time_ns"].null_count()  # ticks of more than 64 bits
        kept = kept.filter(pl.col("time_ns").is_not_null())
        if kept.height:
            yield kept
    report.time_resolution_ns = resolution if resolution < 1_000_000_000 else 1
    for event, count in sorted(report.without_address.items()):
        report.note(f"{report.name}: {count} records of {event} name no data address: left out")


FTRACE = Format(
    name="ftrace",
    summary="tracefs text (trace, trace_pipe) of the exceptions:page_fault_* tracepoints",
    coverage="faults",
    detect=_detect_ftrace,
    read=_read,
    how_to_record=(
        "in an instance of tracefs: echo mono > trace_clock; echo 1 > options/record-tgid; "
        "echo 1 > options/event-fork; echo $$ > set_event_pid; "
        "echo 1 > events/exceptions/enable; exec CMD"
    ),
)
TRACE_CMD = Format(
    name="trace-cmd",
    summary="text of `trace-cmd report` of the exceptions:page_fault_* tracepoints",
    coverage="faults",
    detect=_detect_trace_cmd,
    read=_read,
    how_to_record="trace-cmd record -e exceptions -F -c CMD; trace-cmd report -t",
)

"""Text of `perf script`, in every layout that carries a data address.

The layouts, and how the data address is told from the instruction pointer, are described in the
project's format reference; in short: two numbers → the first is the address (perf prints addr
before ip); a number with a symbol but no call chain below → the instruction pointer; one bare
number → an address, unless one has its top bit set, as kernel text has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from tracereplay.errors import FormatError
from tracereplay.files import Input
from tracereplay.readers import _scan
from tracereplay.readers.base import (
    Bytes,
    Format,
    Head,
    Options,
    Report,
    names,
    numbers,
    text_chunks,
)
from tracereplay.readers.faults import FaultFold, is_fault_event

_TIME = re.compile(rb"(^|\s)\d+\.\d{6}(\d{3})?:(\s|$)")
_LOST = re.compile(rb"PERF_RECORD_LOST(?:_SAMPLES)?:?\s+(?:lost\s+)?(\d+)")
_ROWS = 1 << 18
# What `take_samples` fills, in its order; columns, and which bit says that a row has a value.
_VALUES = {
    "time_ns": np.uint64,
    "pid": np.uint32,
    "tid": np.uint32,
    "vaddr": np.uint64,
    "page": np.uint64,
    "is_write": np.bool_,
    "event": np.uint32,
    "cpu": np.uint16,
    "comm": np.uint16,
    "period": np.uint32,
    "has": np.uint8,
}
_COLUMNS = {
    "time_ns": 0,
    "pid": _scan.HAS_PID,
    "tid": _scan.HAS_TID,
    "vaddr": 0,
    "page": 0,
    "is_write": _scan.HAS_ERROR_CODE,
    "cpu": _scan.HAS_CPU,
}
_DTYPES = {"pid": pl.UInt32, "tid": pl.UInt32, "is_write": pl.Boolean, "cpu": pl.UInt16}

_REMEDY = (
    "print it with `perf script --ns -F comm,pid,tid,cpu,time,event,addr,ip,sym` (recorded with "
    "`perf record -e page-faults -d -c 1`), or record `-e exceptions:page_fault_user "
    "-e exceptions:page_fault_kernel`"
)


def _detect(head: Head) -> bool:
    lines = head.content_lines
    return sum(1 for line in lines if not line.startswith(b"\t") and _TIME.search(line)) >= min(
        2, max(1, len(lines))
    )


def _read(stream: Input, options: Options, report: Report) -> Iterator[pl.DataFrame]:
    report.clock = "perf"
    report.remedy = f"{stream.name}: no access record in it; {_REMEDY}"
    reader = _Reader(options, report)
    fold = FaultFold(report)
    for chunk in text_chunks(stream, report, joined=b"\t\n"):
        for frame in reader.frames(chunk):
            yield from fold.feed(frame)
    yield from fold.finish()
    reader.finish()


class _Reader:
    """Cuts chunks into samples, and keeps what was seen of layouts and times."""

    def __init__(self, options: Options, report: Report) -> None:
        self._options = options
        self._report = report
        self._samples = np.zeros(_ROWS, _scan.SAMPLE)
        self._odd = np.zeros(1 << 14, _scan.ODD)
        self._events = np.zeros(200, _scan.TEXT)
        self._comms = np.zeros(4096 if options.keep_comm else 0, _scan.TEXT)
        self._state = np.zeros(1, _scan.STATE)
        self._rows = 0
        self._backwards = 0
        self._last_time_ns = 0
        self._bare_rows = 0
        self._stack_pointers = 0

    def frames(self, chunk: Bytes) -> Iterator[pl.DataFrame]:
        state = self._state
        state["position"] = 0
        while state["position"][0] < chunk.size:
            for name in ("rows", "odd", "events", "comms"):
                state[name] = 0
            first_line = self._report.lines
            state["line"] = first_line
            with _scan.wrapping():
                _scan.scan_perf_script(
                    chunk, self._samples, self._odd, self._events, self._comms, state
                )
            self._report.lines = int(state["line"][0])
            for start, end, line in self._odd[: state["odd"][0]].tolist():
                self._odd_line(chunk[start:end].tobytes(), line + 1)
            frame = self._frame(chunk, self._samples[: state["rows"][0]])
            if frame is not None:
                yield frame

    def finish(self) -> None:
        report = self._report
        report.time_resolution_ns = 1 if self._state["time_digits"][0] == 9 else 1000
        if self._bare_rows and self._options.address_field == "auto":
            report.note(
                f"{report.name}: lines have one number and do not say what it is: taken as the "
                "data address (-F addr); if it is the instruction pointer, print with -F +addr"
            )
        for event, count in sorted(report.without_address.items()):
            report.note(f"{report.name}: {count} records of {event} name no data address: left out")
        if report.without_address and not report.records and not self._rows:
            event = next(iter(sorted(report.without_address)))
            raise FormatError(
                f"{report.name}: the {event} records carry no data address (a lone number with a "
                f"symbol is the instruction pointer); {_REMEDY}"
            )

    def _odd_line(self, line: bytes, number: int) -> None:
        if b": PERF_RECORD_" in line:
            self._report.other_lines += 1
            if lost := _LOST.search(line):
                self._report.lost_events += int(lost[1])
        elif line.strip():
            self._report.bad(number, line)

    def _texts(self, chunk: Bytes, table: Any, count: int) -> list[str]:
        return [
            chunk[start:end].tobytes().decode("utf-8", "replace")
            for start, end in zip(
                table["start"][:count].tolist(), table["end"][:count].tolist(), strict=True
            )
        ]

    def _frame(self, chunk: Bytes, samples: Any) -> pl.DataFrame | None:
        if not samples.size:
            return None
        events = self._texts(chunk, self._events, int(self._state["events"][0]))
        events.append(self._options.event or "page-faults")  # where a line names none
        takes_first = self._options.address_field == "first"
        values = {name: np.empty(samples.size, dtype) for name, dtype in _VALUES.items()}
        if not self._comms.size:
            values["comm"] = np.empty(0, np.uint16)
        without = np.zeros(len(events), np.int64)
        used = np.zeros(len(events), np.bool_)
        takens = np.zeros(1, _scan.TAKEN)
        takens["kernel_line"] = -1
        _scan.take_samples(samples, takes_first, without, used, takens, *values.values())
        taken = takens[0]
        self._count(taken, events, without)
        rows = int(taken["rows"])
        if (used[-1] or without[-1]) and not self._options.event:
            self._report.note(
                f"{self._report.name}: the lines name no event: taken as page-faults "
                "(--event NAME says otherwise)"
            )
        if not rows:
            return None
        self._check_times(int(taken["backwards"]), rows)
        self._rows += rows

        values = {name: array[:rows] for name, array in values.items()}
        has = values["has"]
        columns: dict[str, pl.Series] = {}
        for name, bit in _COLUMNS.items():
            if not bit or taken["every"] & bit:
                columns[name] = pl.Series(values=values[name])
            else:
                columns[name] = numbers(values[name], _DTYPES[name], has & bit != 0)
        if self._options.pid is not None:
            columns["pid"] = columns["pid"].fill_null(pl.lit(self._options.pid, pl.UInt32))
        seen = [event for event, is_used in zip(events, used.tolist(), strict=True) if is_used]
        columns["event"] = names(values["event"], events if len(seen) > 1 else seen)
        if self._options.keep_comm:
            comms = self._texts(chunk, self._comms, int(self._state["comms"][0]))
            comms.append("?")
            columns["comm"] = names(np.minimum(values["comm"], len(comms) - 1), comms)
        if not all(is_fault_event(event) for event in seen):
            self._report.coverage = "sampled"
        if self._report.coverage == "sampled":
            known = has & _scan.HAS_PERIOD != 0
            columns["weight"] = numbers(values["period"], pl.Float32, known)
        return pl.DataFrame(columns)

    def _count(self, taken: Any, events: list[str], without: Any) -> None:
        """Add up what has no data address, or has a number that may be something else."""
        self._bare_rows += int(taken["bare"])
        if taken["kernel_line"] >= 0:
            raise FormatError(
                f"{self._report.name}:{taken['kernel_line'] + 1}: the one number of a line is a "
                "kernel address here: this is the instruction pointer, not the data address; "
                f"{_REMEDY} (--address-field first takes it all the same)"
            )
        if not without.any():
            return
        counts = self._report.without_address
        for event, count in zip(events, without.tolist(), strict=True):
            if count:
                counts[event] = counts.get(event, 0) + count
        if not self._rows and not taken["rows"] and sum(counts.values()) > 1000:
            self.finish()

    def _check_times(self, backwards: int, rows: int) -> None:
        self._backwards += backwards
        rows += self._rows
        if rows > 20 and self._backwards > rows // 20:
            raise FormatError(
                f"{self._report.name}: time runs backwards on {self._backwards} of {rows} lines: "
                "printed with --deltatime? Print it without"
            )


FORMAT = Format(
    name="perf-script",
    summary="text of `perf script` with data addresses: page-fault events, tracepoints, perf mem",
    coverage="faults",
    detect=_detect,
    read=_read,
    how_to_record=(
        "perf record -e exceptions:page_fault_user -e exceptions:page_fault_kernel -c 1 -m 512 -- "
        "CMD; perf script --ns -F comm,pid,tid,cpu,time,event,trace"
    ),
)

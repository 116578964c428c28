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
_DATA_SRC_OPERATION = 0x1F
_DATA_SRC_LOAD, _DATA_SRC_STORE = 2, 4

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
        has = samples["has"]
        layout = samples["layout"]
        has_event = (has & _scan.HAS_EVENT) != 0
        events = self._texts(chunk, self._events, int(self._state["events"][0]))
        codes = samples["event"].astype(np.uint32)
        if not has_event.all():
            if not self._options.event:
                self._report.note(
                    f"{self._report.name}: the lines name no event: taken as page-faults "
                    "(--event NAME says otherwise)"
                )
            codes[~has_event] = len(events)
            events.append(self._options.event or "page-faults")
        usable = self._usable(samples, codes, events, layout, has)
        if not usable.all():
            samples, codes, has = samples[usable], codes[usable], has[usable]
            if not samples.size:
                return None
        self._check_times(samples["time_ns"])
        self._rows += samples.size

        address = samples["address"]
        pid = numbers(samples["pid"], pl.UInt32, (has & _scan.HAS_PID) != 0)
        if self._options.pid is not None:
            pid = pid.fill_null(pl.lit(self._options.pid, pl.UInt32))
        columns = {
            "time_ns": numbers(samples["time_ns"], pl.UInt64),
            "pid": pid,
            "tid": numbers(samples["tid"], pl.UInt32, (has & _scan.HAS_TID) != 0),
            "vaddr": numbers(address, pl.UInt64),
            "is_write": _is_write(samples, has),
            "event": names(codes, events),
            "cpu": numbers(samples["cpu"], pl.UInt16, (has & _scan.HAS_CPU) != 0),
        }
        if self._options.keep_comm:
            comms = self._texts(chunk, self._comms, int(self._state["comms"][0]))
            comms.append("?")
            columns["comm"] = names(np.minimum(samples["comm"], len(comms) - 1), comms)
        if not all(is_fault_event(event) for event in set(np.array(events)[np.unique(codes)])):
            self._report.coverage = "sampled"
        if self._report.coverage == "sampled":
            columns["weight"] = numbers(
                samples["period"], pl.Float32, (has & _scan.HAS_PERIOD) != 0
            )
        return pl.DataFrame(columns)

    def _usable(self, samples: Any, codes: Any, events: list[str], layout: Any, has: Any) -> Any:
        """Return which samples have a data address; count the others."""
        data_src_only = ((has & _scan.HAS_DATA_SRC) != 0) & (layout != _scan.LAYOUT_ADDRESS)
        chain = (has & _scan.HAS_CHAIN) != 0
        bare = (layout == _scan.LAYOUT_BARE) & ~data_src_only
        usable = (layout >= _scan.LAYOUT_ADDRESS) | bare
        usable |= (layout == _scan.LAYOUT_SYMBOL) & chain & ~data_src_only
        if self._options.address_field == "first":
            usable |= layout == _scan.LAYOUT_SYMBOL
        elif bare.any():
            top = bare & (samples["address"] >> np.uint64(63) != 0)
            self._bare_rows += int(bare.sum())
            if top.any():
                line = int(samples["line"][int(np.argmax(top))]) + 1
                raise FormatError(
                    f"{self._report.name}:{line}: the one number of a line is a kernel address here: "
                    f"this is the instruction pointer, not the data address; {_REMEDY} "
                    "(--address-field first takes it all the same)"
                )
        usable &= samples["address"] != 0
        if not usable.all():
            for code, count in zip(*np.unique(codes[~usable], return_counts=True), strict=True):
                event = events[int(code)]
                self._report.without_address[event] = self._report.without_address.get(
                    event, 0
                ) + int(count)
            if (
                not self._rows
                and sum(self._report.without_address.values()) > 1000
                and not usable.any()
            ):
                self.finish()
        return usable

    def _check_times(self, time_ns: Any) -> None:
        self._backwards += int((time_ns[1:] < time_ns[:-1]).sum())
        rows = self._rows + time_ns.size
        if rows > 20 and self._backwards > rows // 20:
            raise FormatError(
                f"{self._report.name}: time runs backwards on {self._backwards} of {rows} lines: "
                "printed with --deltatime? Print it without"
            )


def _is_write(samples: Any, has: Any) -> pl.Series:
    fault = (has & _scan.HAS_ERROR_CODE) != 0
    operation = samples["detail"] & np.uint64(_DATA_SRC_OPERATION)
    memory = (has & _scan.HAS_DATA_SRC) != 0
    memory &= (operation == _DATA_SRC_LOAD) | (operation == _DATA_SRC_STORE)
    is_write = np.where(
        fault, (samples["detail"] & np.uint64(2)) != 0, operation == _DATA_SRC_STORE
    )
    return numbers(is_write, pl.Boolean, fault | memory)


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

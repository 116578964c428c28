"""CSV with a header, as bpftrace and libbpf programs print it, and exported tables.

Which field is what follows from the header (`ALIASES`) or from `--column OURS=THEIRS`. Whether an
address is hex or decimal is decided for the whole column, never for one token.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
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
    with_pages,
    with_pid,
)
from tracereplay.schema import ACCESSES

# Our column → what others call it; also used by the table and bpftrace readers.
ALIASES: dict[str, tuple[str, ...]] = {
    "time_ns": ("time_ns", "ts_ns", "nsecs", "timestamp_ns", "timestamp", "time", "ts"),
    "time_s": ("time_s", "secs", "seconds"),
    "instr": ("instr", "instructions", "icount"),
    "pid": ("pid", "tgid", "process"),
    "tid": ("tid", "thread"),
    "cpu": ("cpu",),
    "comm": ("comm", "command"),
    "vaddr": ("vaddr", "addr", "address", "fault_addr", "fault_address", "va"),
    "page": ("page", "vpn", "pfn", "page_number"),
    "is_write": ("is_write", "write", "rw", "w", "is_store"),
    "error_code": ("error_code", "err", "error", "val", "ec"),
    "event": ("event", "probe", "name", "type"),
    "run_len": ("run_len", "count", "repeat"),
    "major": ("major", "is_major"),
    "weight": ("weight",),
}
_KINDS = {"time_s": _scan.SECONDS, "is_write": _scan.FLAG, "major": _scan.FLAG,
          "event": _scan.TEXT_CODE, "comm": _scan.TEXT_CODE, "error_code": _scan.HEX}  # fmt: skip
_BY_NAME = {theirs: ours for ours, many in ALIASES.items() for theirs in many}
_DTYPES = {column.name: getattr(pl, column.dtype) for column in ACCESSES}
_MOST = {"UInt16": (1 << 16) - 1, "UInt32": (1 << 32) - 1}
_LIMITS = {column.name: _MOST[column.dtype] for column in ACCESSES if column.dtype in _MOST}
# These are as often seconds as nanoseconds.
_TIMES_OF_ANY_UNIT = ("timestamp", "time", "ts")
_FLAGS = frozenset(["r", "w", "read", "write", "load", "store", "get", "set", "0", "1"])
_ROWS = 1 << 18
_SEPARATORS = (b",", b"\t", b";", b"|")
LOST = re.compile(rb"^(?:WARNING: )?Lost (\d+) events")  # bpftrace's, between lines of the user's


def map_columns(header: Sequence[str], options: Options) -> dict[str, str]:
    """Return our name → theirs for the columns of a header; what we do not know is left out.

    Raises
    ------
    FormatError
        `--column` names a column that is not there, or one of ours that does not exist.
    """
    found: dict[str, str] = {}
    for ours, theirs in options.columns.items():
        if ours not in ALIASES:
            raise FormatError(f"--column {ours}=…: known are {', '.join(ALIASES)}")
        if theirs not in header:
            raise FormatError(f"--column {ours}={theirs}: the header has {', '.join(header)}")
        found[ours] = theirs
    for ours, aliases in ALIASES.items():
        for alias in aliases:
            theirs = next((name for name in header if name.strip().lower() == alias), "")
            if theirs and theirs not in found.values():
                found.setdefault(ours, theirs)
    return found


def split_header(line: bytes) -> tuple[bytes, list[str]]:
    """Return the separator and the names of a header line."""
    separator = max(_SEPARATORS, key=line.count)
    text = line.decode("utf-8", "replace").lstrip("#").strip()
    fields = split_fields(text, separator.decode())
    return separator, [name.strip().strip('"') for name in fields]


def split_fields(text: str, separator: str) -> list[str]:
    """Return the fields of a line without their quotes; none where they cannot be told."""
    try:
        return next(csv.reader([text], delimiter=separator), [])
    except csv.Error:  # a carriage return inside, or a field beyond all sense
        return []


def is_header(line: bytes) -> bool:
    """Return whether the line names columns, an address or page among them."""
    _, fields = split_header(line)
    known = [field for field in fields if field.lower() in _BY_NAME]
    address = any(_BY_NAME[field.lower()] in ("vaddr", "page") for field in known)
    return address and not any(field[:1].isdigit() for field in fields)


def _detect(head: Head) -> bool:
    first = next((line for line in head.lines if line.strip()), b"")
    return is_header(first)


def _read(stream: Input, options: Options, report: Report) -> Iterator[pl.DataFrame]:
    reader: DelimitedReader | None = None
    for chunk in text_chunks(stream, report):
        if reader is None:
            start = 0
            line = b""
            while start < chunk.size and not line.strip():
                end = start + int(np.argmax(chunk[start:] == _scan.NEWLINE))
                line = chunk[start:end].tobytes()
                start = end + 1
                report.lines += 1
            separator, header = split_header(line)
            found = map_columns(header, options)
            operation = next((name for name in header if name.lower() == "op"), "")
            if operation and not {"is_write", "error_code"} & found.keys():
                found["is_write"] = operation
            if "vaddr" not in found and "page" not in found:
                raise FormatError(
                    f"{report.name}: no column of the header is an address or a page (it has "
                    f"{', '.join(header)[:200]}); name it with --column vaddr=NAME or page=NAME"
                )
            rows = chunk[start:]
            reader = DelimitedReader(separator, header, found, options, report)
            reader.settle_bases(rows)
            yield from reader.frames(rows)
        else:
            yield from reader.frames(chunk)


class DelimitedReader:
    """Reads lines of a fixed set of fields; `found` says which field is which of our columns."""

    def __init__(
        self,
        separator: bytes,
        header: Sequence[str],
        found: dict[str, str],
        options: Options,
        report: Report,
    ) -> None:
        self._separator = separator
        self._header = list(header)
        self._options = options
        self._report = report
        if not options.keep_comm:
            found = {ours: theirs for ours, theirs in found.items() if ours != "comm"}
        self.slots = {ours: slot for slot, ours in enumerate(found)}
        self._fields = np.zeros(len(header), _scan.FIELD)
        for ours, theirs in found.items():
            field = self._fields[self._header.index(theirs)]
            field["kind"] = _KINDS.get(ours, _scan.DECIMAL)
            field["slot"] = self.slots[ours]
            field["limit"] = _LIMITS.get(ours, (1 << 64) - 1)
        self._found = found
        self.header_line = b""
        self.default_event = options.event or ""
        self._comm_at = next((at for at, name in enumerate(header) if name.lower() == "comm"), -1)
        self._values = np.zeros((_ROWS, len(found) + 1), np.uint64)
        self._odd = np.zeros(1 << 14, _scan.ODD)
        self._texts = np.zeros(4000, _scan.TEXT)
        self._state = np.zeros(1, _scan.STATE)
        self._state["separator"] = separator[0]
        self._state["takes_rest"] = int(self._comm_at == len(header) - 1)
        if not report.clock:
            if "instr" in found:
                report.clock, report.coverage = "instructions", "full"
            elif "time_ns" in found or "time_s" in found:
                report.clock = "time_ns"

    def settle_bases(self, chunk: Bytes) -> None:
        """Decide from the first lines whether addresses are hex or decimal, column by column."""
        sample = [
            self._split(line)
            for line in chunk[: 1 << 18].tobytes().split(b"\n")[:2000]
            if line.strip()
        ]
        for ours in ("vaddr", "page", "error_code", "time_ns", "is_write"):
            if ours not in self._found:
                continue
            at = self._header.index(self._found[ours])
            tokens = [fields[at].lower() for fields in sample if len(fields) > at and fields[at]]
            if ours == "time_ns":
                if any("." in token for token in tokens):
                    is_ns = "time_ns" in self._options.columns or (
                        self._found[ours].lower() not in _TIMES_OF_ANY_UNIT
                    )
                    self._fields[at]["kind"] = _scan.WHOLE_PART if is_ns else _scan.SECONDS
            elif ours != "is_write":
                self._fields[at]["kind"] = _base(ours, tokens, self._options, self._report)
            elif self._found[ours].lower() == "op" and not _FLAGS.issuperset(tokens):
                # Operations of other kinds than reads and writes: not told apart.
                self._fields[at]["kind"] = _scan.SKIP

    def _split(self, line: bytes) -> list[str]:
        text = line.decode("utf-8", "replace").strip("\r\n")
        if self._separator == b" ":
            fields = text.split()
        else:
            fields = split_fields(text, self._separator.decode())
        surplus = len(fields) - len(self._header)
        if surplus > 0 and self._comm_at >= 0:  # blanks or commas in the command name
            end = self._comm_at + surplus + 1
            joined = self._separator.decode().join(fields[self._comm_at : end])
            fields[self._comm_at : end] = [joined]
        return [field.strip() for field in fields]

    def frames(self, chunk: Bytes) -> Iterator[pl.DataFrame]:
        """Yield the rows of one chunk of whole lines."""
        state = self._state
        state["position"] = 0
        while state["position"][0] < chunk.size:
            for name in ("rows", "odd", "events"):
                state[name] = 0
            first_line = state["line"] = self._report.lines
            with _scan.wrapping():
                _scan.scan_delimited(
                    chunk, self._fields, self._values, self._odd, self._texts, state
                )
            self._report.lines = int(state["line"][0])
            texts = [
                chunk[start:end].tobytes().decode("utf-8", "replace")
                for _, start, end in self._texts[: int(state["events"][0])].tolist()
            ]
            values = self._values[: int(state["rows"][0])]
            frame = self._frame(self._with_odd_lines(chunk, values, first_line, texts), texts)
            if frame is not None:
                yield frame

    def _with_odd_lines(self, chunk: Bytes, values: Any, first_line: int, texts: list[str]) -> Any:
        """Return the rows, with those of odd lines that can be read after all where they belong."""
        found: list[Any] = []
        places: list[int] = []
        odd = self._odd[: int(self._state["odd"][0])].tolist()
        for place, (start, end, line) in enumerate(odd):
            text = chunk[start:end].tobytes()
            if not text.strip() or text.startswith(b"#") or text == self.header_line:
                continue
            row = self._again(text, texts)
            if row is not None:
                found.append(row)
                places.append(line - first_line - place)  # each line before is a row, or odd
            else:
                self.odd_line(line + 1, text)
        return np.insert(values, places, np.array(found), axis=0) if found else values

    def odd_line(self, number: int, line: bytes) -> None:
        """Count a line that cannot be read, or the events it says are lost."""
        if lost := LOST.match(line):
            self._report.lost_events += int(lost[1])
        else:
            self._report.bad(number, line)

    def _again(self, line: bytes, texts: list[str]) -> Any:
        """Scan a line without its quotes and its command name's separators; None: no row."""
        fields = self._split(line)
        if len(fields) != len(self._header):
            return None
        plain = "\x1f".join(fields).encode()
        if b"\n" in plain or plain.count(b"\x1f") != len(fields) - 1:
            return None
        values = np.zeros((1, self._values.shape[1]), np.uint64)
        odd = np.zeros(2, _scan.ODD)
        found = np.zeros(4, _scan.TEXT)
        state = np.zeros(1, _scan.STATE)
        state["separator"] = _scan.UNIT
        buffer = np.frombuffer(plain + b"\n", np.uint8)
        with _scan.wrapping():
            _scan.scan_delimited(buffer, self._fields, values, odd, found, state)
        if not state["rows"][0]:
            return None
        row = values[0]
        for ours in ("event", "comm"):
            slot = self.slots.get(ours)
            if slot is None or not int(row[-1]) >> slot & 1:
                continue
            _, start, end = found[int(row[slot])].tolist()
            text = buffer[start:end].tobytes().decode("utf-8", "replace")
            if text not in texts:
                texts.append(text)
            row[slot] = texts.index(text)
        return row

    def _frame(self, values: Any, texts: list[str]) -> pl.DataFrame | None:
        if not len(values):
            return None
        columns: dict[str, pl.Series] = {}
        for ours in self.slots:
            if ours in ("error_code", "event", "comm"):
                continue
            target = "time_ns" if ours in ("time_s", "instr") else ours
            found, present = self._column(ours, values)
            columns[target] = numbers(found, pl.UInt64, present).cast(_DTYPES[target])
        if "error_code" in self.slots and "is_write" not in columns:
            codes, present = self._column("error_code", values)
            columns["is_write"] = numbers(codes & np.uint64(2) != 0, pl.Boolean, present)
        if "comm" in self.slots:
            codes, present = self._column("comm", values)
            columns["comm"] = names(codes.astype(np.uint32), texts or ["?"], present)
        if "event" in self.slots or self.default_event:
            columns["event"] = self._events(values, texts)
        frame = with_pid(pl.DataFrame(columns), self._options.pid)
        frame = with_pages(frame, self._report)
        return frame if frame.height else None

    def _column(self, ours: str, values: Any) -> tuple[Any, Any]:
        """Return the values of one of our columns, and which of them are there."""
        slot = self.slots[ours]
        return values[:, slot], values[:, -1] >> np.uint64(slot) & np.uint64(1) != 0

    def _events(self, values: Any, texts: list[str]) -> pl.Series:
        """Name the events: as the rows do, else by the mode bit of the error code, where there is one."""
        named = self._options.event
        if "event" in self.slots:
            codes, present = self._column("event", values)
            if not named:
                return names(codes.astype(np.uint32), texts or ["?"], present)
            codes = np.where(present, codes, len(texts))
            return names(codes.astype(np.uint32), [*texts, named])
        codes = np.zeros(len(values), np.uint32)
        known = [self.default_event]
        if "error_code" in self.slots and not named:
            errors, present = self._column("error_code", values)
            codes = np.where(present, 1 + (errors >> np.uint64(2) & np.uint64(1)), 0)
            known += ["page_fault_kernel", "page_fault_user"]
        return names(codes.astype(np.uint32), known)


def _base(ours: str, tokens: list[str], options: Options, report: Report) -> int:
    hexadecimal = any(token.startswith("0x") for token in tokens) or any(
        c in "abcdef" for token in tokens for c in token
    )
    if hexadecimal:
        return _scan.HEX
    if ours in ("page", "error_code"):
        return _scan.DECIMAL
    if options.address_base:
        return _scan.HEX if options.address_base == 16 else _scan.DECIMAL
    # A hex address shows a letter in 6 of 16 digits: 40 digits without one are decimal.
    if sum(len(token) for token in tokens) < 40:
        raise FormatError(
            f"{report.name}: the addresses hold digits only, and too few to tell hex from decimal; "
            "say --address-base 10 or 16"
        )
    return _scan.DECIMAL


FORMAT = Format(
    name="csv",
    summary="CSV with a header, of bpftrace and libbpf programs or exported (address or page column)",
    coverage="faults",
    detect=_detect,
    read=_read,
    how_to_record=(
        'bpftrace -q -e \'BEGIN { printf("time_ns,pid,tid,cpu,vaddr,error_code,comm\\n") } '
        "tracepoint:exceptions:page_fault_user,tracepoint:exceptions:page_fault_kernel "
        '/pid == cpid/ { printf("%llu,%d,%d,%d,0x%lx,0x%lx,%s\\n", nsecs, pid, tid, cpu, '
        "args->address, args->error_code, comm) }' -c CMD -o out.csv"
    ),
)

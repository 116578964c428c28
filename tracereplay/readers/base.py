"""What every reader shares: its registry entry, its options, its report, and text cut into chunks."""

from __future__ import annotations

import codecs
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tracereplay.errors import FormatError, InputError
from tracereplay.files import Input
from tracereplay.units import PAGE_SHIFT

CHUNK_BYTES = 8 << 20
HEAD_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 20
# A capture that shows no record for this long is none: zip bombs end here too.
_PATIENCE_BYTES = 64 << 20
_EXAMPLES = 3
_NEWLINE = 10

Bytes = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Options:
    """What the user says about the input; every reader takes what concerns it.

    pid : process of the rows whose source names none
    event : event name of the rows whose source names none
    columns : our column name → the source's, for CSV, tables and bpftrace lines
    coverage : overrides what the format says
    address_base : 10 or 16 where a column of bare digits does not show it
    address_field : "first" takes the one number of a perf line as the data address
    tick_ns : length of one tick of an integer clock
    keep_comm : keep the command name
    id_is_page : ids of object traces are page numbers
    data_only : leave out instruction fetches
    collapse : fold runs of references to the same page
    reduce_below_bytes : drop what cannot matter to an LRU memory of at least this size; 0 nothing
    allow_bad, allow_lost : go on where more than one line in a hundred is bad, or events were lost
    """

    pid: int | None = None
    event: str | None = None
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    coverage: str | None = None
    address_base: int | None = None
    address_field: str = "auto"
    tick_ns: float | None = None
    keep_comm: bool = False
    id_is_page: bool = False
    data_only: bool = False
    collapse: bool = False
    reduce_below_bytes: int = 0
    allow_bad: bool = False
    allow_lost: bool = False


@dataclasses.dataclass
class Report:
    """What a reader found besides records; ends up in the footer and on stderr.

    records : rows read so far; kept by the framework
    bad_lines : lines (or records) that should have been accesses and are not readable
    other_lines : well-formed lines that are no accesses: task events, lost-event lines
    foreign_lines : output of the traced program in between; not counted as skipped
    lost_events : what the recorder says it lost
    folded : event → records that repeat another event's record, left out of the table
    without_address : event → records that name no data address
    """

    name: str = ""
    records: int = 0
    lines: int = 0
    bad_lines: int = 0
    other_lines: int = 0
    foreign_lines: int = 0
    lost_events: int = 0
    coverage: str = ""
    clock: str = ""
    time_resolution_ns: int | None = None
    remedy: str = ""
    folded: dict[str, int] = dataclasses.field(default_factory=dict)
    without_address: dict[str, int] = dataclasses.field(default_factory=dict)
    examples: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def folded_duplicates(self) -> int:
        """Records folded into another event's record of the same fault."""
        return sum(self.folded.values())

    @property
    def skipped_lines(self) -> int:
        """Lines that hold no access: unreadable ones, and task or lost-event lines."""
        return self.bad_lines + self.other_lines

    def bad(self, line_number: int, line: bytes, why: str = "") -> None:
        """Count a line that cannot be read; the first three are shown."""
        self.bad_lines += 1
        if len(self.examples) < _EXAMPLES:
            text = line[:160].decode("utf-8", "replace").rstrip("\r\n")
            shown = "".join(c if c.isprintable() else "." for c in text)
            self.examples.append(f"{self.name}:{line_number}: {why + ': ' if why else ''}{shown!r}")

    def note(self, text: str) -> None:
        """Say something once on stderr at the end."""
        if text not in self.notes:
            self.notes.append(text)


Detect = Callable[["Head"], bool]
Read = Callable[[Input, Options, Report], Iterator[pl.DataFrame]]


@dataclasses.dataclass(frozen=True)
class Format:
    """One input format.

    name : what `--format` takes and the footer holds
    summary : one line for `tracereplay formats`
    coverage : which accesses it can see (schema.COVERAGES), unless the reader finds otherwise
    detect : is this head of a file mine? First of FORMATS to say yes reads it.
    read : yields frames of `schema.ACCESSES` columns, at least `page` or `vaddr`, in order; none is
        without rows
    how_to_record : a command that makes such a capture
    """

    name: str
    summary: str
    coverage: str
    detect: Detect
    read: Read
    how_to_record: str = ""


class Head:
    """The first bytes of a file, decompressed, for detection."""

    def __init__(self, data: bytes, *, name: str = "", total_bytes: int | None = None) -> None:
        self.data = data
        self.name = name
        self.total_bytes = total_bytes
        self.is_text = b"\0" not in data
        lines = data.split(b"\n")
        if len(lines) > 1 and len(data) >= HEAD_BYTES:
            lines.pop()  # cut short
        self.lines = [line.rstrip(b"\r") for line in lines] if self.is_text else []

    @property
    def content_lines(self) -> list[bytes]:
        """The first 50 lines that are neither blank nor comments."""
        kept = (line for line in self.lines if line.strip() and not line.startswith(b"#"))
        return [line for line, _ in zip(kept, range(50), strict=False)]


def peek(stream: Input) -> Head:
    """Return the head of an open input; what is read is pushed back, but for a UTF-8 mark."""
    data = b""
    while len(data) < HEAD_BYTES:
        piece = stream.read(HEAD_BYTES - len(data))
        if not piece:
            break
        data += piece
    if b"\0" not in data:
        data = data.removeprefix(codecs.BOM_UTF8)
    stream.push_back(data)
    return Head(data, name=stream.name, total_bytes=stream.total_bytes)


def text_chunks(
    stream: Input, report: Report, *, joined: bytes = b"", chunk_bytes: int = CHUNK_BYTES
) -> Iterator[Bytes]:
    r"""Yield the text in pieces of whole lines, each ending with a newline and gone with the next.

    A line that begins with a byte of `joined` stays with the line before it ("\t" keeps the call
    chain with its sample).

    Raises
    ------
    InputError
        A line is longer than 1 MiB, or 64 MiB pass without one record.
    """
    # One buffer for all pieces: fresh memory for each costs as much as copying into it.
    buffer = np.empty(3 * MAX_LINE_BYTES + chunk_bytes + 1, np.uint8)
    room = buffer.data
    array = buffer.view()
    array.flags.writeable = False
    left = passed = 0
    while size := stream.readinto(room[left : left + chunk_bytes]):
        passed += size
        filled = left + size
        end = _cut(room[:filled], joined)
        if filled - end > 3 * MAX_LINE_BYTES:
            raise InputError(f"{stream.name}: a line of more than 1 MiB; is this text?")
        if end:
            yield array[:end]
            _stop_if_hopeless(report, passed)
        left = filled - end
        buffer[:left] = buffer[end:filled].copy()
    if left:
        if buffer[left - 1] != _NEWLINE:
            buffer[left] = _NEWLINE
            left += 1
        yield array[:left]


def _cut(data: memoryview, joined: bytes) -> int:
    last = end = _line_start(data, len(data) + 1)
    if not joined:
        return last
    while end > 0:
        start = _line_start(data, end)
        if data[start] in joined:
            end = start
            if last - end > MAX_LINE_BYTES:
                return last
        else:
            return start
    return 0


def _line_start(data: memoryview, end: int) -> int:
    """Return where the line begins whose newline stands at `end` - 1, or would."""
    stop = end - 1
    while stop > 0:
        start = max(0, stop - (1 << 12))
        found = bytes(data[start:stop]).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        stop = start
    return 0


def _stop_if_hopeless(report: Report, passed: int) -> None:
    if passed > _PATIENCE_BYTES and report.records == 0:
        raise FormatError(
            report.remedy or f"{report.name}: no access record in the first {passed >> 20} MiB"
        )


def numbers(values: Any, dtype: Any, present: npt.NDArray[np.bool_] | None = None) -> pl.Series:
    """Return a column from an array; null where `present` is False."""
    # A copy always: readers fill the same scratch arrays again, and polars may take them as they are.
    column = pl.Series(values=np.array(values, order="C"), dtype=dtype)
    if present is None or present.all():
        return column
    if not present.any():
        return pl.Series([None], dtype=dtype).new_from_index(0, len(column))
    return pl.select(pl.when(pl.Series(present)).then(column)).to_series()


def with_pid(frame: pl.DataFrame, pid: int | None) -> pl.DataFrame:
    """Return the frame with the user's pid in the rows whose source names none."""
    if pid is None:
        return frame
    known = pl.col("pid") if "pid" in frame.columns else pl.lit(None)
    return frame.with_columns(known.cast(pl.UInt32).fill_null(pid).alias("pid"))


def with_pages(frame: pl.DataFrame, report: Report) -> pl.DataFrame:
    """Return the rows that name a page, by its number or an address; the others are counted."""
    if "page" in frame.columns and "vaddr" in frame.columns and frame["page"].null_count():
        page = pl.col("page").fill_null(pl.col("vaddr") // (1 << PAGE_SHIFT))
        frame = frame.with_columns(page.cast(pl.UInt64))
    key = "page" if "page" in frame.columns else "vaddr"
    if missing := frame[key].null_count():
        report.without_address[key] = report.without_address.get(key, 0) + missing
        frame = frame.filter(pl.col(key).is_not_null())
    return frame


def names(
    codes: npt.NDArray[Any], known: list[str], present: npt.NDArray[np.bool_] | None = None
) -> pl.Series:
    """Return a categorical column from codes into `known`; null where `present` is False."""
    if present is not None and not present.all():
        named = names(np.where(present, codes, 0), known)
        return pl.select(pl.when(pl.Series(present)).then(named)).to_series()
    categories = pl.Series(known, dtype=pl.Categorical)
    if len(known) == 1:
        return categories.new_from_index(0, len(codes))
    return categories.gather(codes)

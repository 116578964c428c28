"""perf.data, read directly: no perf needed on the machine, and none of its formatting to wait for.

File mode and pipe mode, any mix of events and sample fields, tracepoint fields by the format texts
inside the file, zstd-compressed records. Samples come out in time order as perf orders them: the
recorder ends a round when it has emptied every CPU's buffer once, and nothing older than the round
before can come after. The layout is that of include/uapi/linux/perf_event.h and of
tools/perf/Documentation/perf.data-file-format.txt.

What only perf can decode (AUX traces such as Arm SPE, other byte order, the format before 2009) is
handed to `perf script`, if there is one, and its text is read; a note says so.
"""

from __future__ import annotations

import dataclasses
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tracereplay.errors import FormatError, InputError, strerror
from tracereplay.files import Input, spool
from tracereplay.readers import _perf_records as records
from tracereplay.readers import perf_script
from tracereplay.readers._perf_header import (
    TYPE_TRACEPOINT,
    Attribute,
    Header,
    read_attribute_record,
    read_feature,
    read_header,
)
from tracereplay.readers.base import Format, Head, Options, Report, names, numbers
from tracereplay.readers.damon import RegionExpander, Snapshots
from tracereplay.readers.faults import FaultFold, is_fault_event

_CHUNK_BYTES = 4 << 20
# No power of two: the rows of the scratch would all lie in the same lines of the cache.
_ROWS = 60_000
# Rows kept back at most where the file marks no rounds; the older half then goes out.
_HELD_ROWS = 1 << 22
# Records without any sample among them for this long: no capture of ours (and bombs end here).
_PATIENCE_BYTES = 1 << 30
# Compressed bytes expanded in one go: at zstd's best ratio these become 64 MiB.
_ZSTD_PIECE = 2048

_MAGIC = b"PERFILE2"
_FOREIGN_MAGICS = {
    b"2ELIFREP": "recorded on a machine of the other byte order",
    b"PERFFILE": "the perf.data format of before 2009",
}
_SEVERAL_PAGE_SIZES = ("aarch64", "arm64", "ppc", "loongarch", "mips", "sparc")
_CLOCKS = {0: "realtime", 1: "mono", 4: "mono_raw", 7: "boot", 11: "tai"}
_UPDATE_NAME = 2
_ARM_SPE = 4
_FILTERED_BY_BPF = 1 << 15
_MAX_EVENTS = 4096
_MAX_TRACING_BYTES = 64 << 20
_DTYPES = {"pid": pl.UInt32, "tid": pl.UInt32, "is_write": pl.Boolean, "cpu": pl.UInt16}

_RECORD = (
    "`perf record -e exceptions:page_fault_user -e exceptions:page_fault_kernel -c 1 -m 512 -- "
    "CMD`, or without tracefs `perf record -e page-faults -d -c 1 --sample-cpu -m 512 -- CMD`"
)


def _detect(head: Head) -> bool:
    return head.data[:8] == _MAGIC or head.data[:8] in _FOREIGN_MAGICS


def _read(stream: Input, options: Options, report: Report) -> Iterator[pl.DataFrame]:
    report.remedy = f"{report.name}: no sample with a data address in it; record with {_RECORD}"
    head = stream.read(16)
    if head[:8] in _FOREIGN_MAGICS:
        why = _FOREIGN_MAGICS[head[:8]]
        yield from _through_perf(stream, head, why, options, report)
        return
    if len(head) < 16:
        raise InputError(f"{report.name}: ends within its header; copy the file again")
    size = struct.unpack_from("<Q", head, 8)[0]
    try:
        if size == records.PIPE_HEADER_BYTES:
            yield from _read_pipe(stream, head, options, report)
        elif size == records.FILE_HEADER_BYTES:
            yield from _read_file(stream, head, options, report)
        else:
            raise FormatError(
                f"{report.name}: a perf.data header of {size} bytes is neither file (104) nor "
                "pipe mode (16); is the file damaged?"
            )
    except _NeedsPerfError as reason:
        yield from _through_perf(stream, head, str(reason), options, report)


class _NeedsPerfError(Exception):
    """What stands in the file is decoded by perf alone."""


def _read_pipe(
    stream: Input, head: bytes, options: Options, report: Report
) -> Iterator[pl.DataFrame]:
    session = _Session(Header(), options, report)

    def fill(room: memoryview) -> int:
        piece = stream.read(min(len(room), _CHUNK_BYTES))
        room[: len(piece)] = piece
        return len(piece)

    try:
        yield from session.read(_Window(fill))
    except _NeedsPerfError as reason:
        if _plain_path(stream) is None:
            raise FormatError(
                f"{report.name}: {reason}, which only perf decodes; write it to a file first, and "
                "ingest that file"
            ) from None
        yield from _through_perf(stream, head, str(reason), options, report)


def _plain_path(stream: Input) -> Path | None:
    path = Path(stream.name)
    is_plain = stream.name != "<stdin>" and not stream.compression and path.is_file()
    return path if is_plain else None


def _read_file(
    stream: Input, head: bytes, options: Options, report: Report
) -> Iterator[pl.DataFrame]:
    with tempfile.TemporaryDirectory(prefix="tracereplay-") as folder:
        path = _as_file(stream, head, Path(folder))
        try:
            with path.open("rb", buffering=0) as file:
                header = read_header(file, report)
                if header.data_bytes == 0:
                    report.note(
                        f"{report.name}: perf record did not end properly (data size 0): read as "
                        "far as it goes, event names and tracepoint formats are missing"
                    )
                window = _Window(_section(file, header, stream))
                session = _Session(header, options, report)
                missing = header.data_start + header.data_bytes - header.file_bytes
                if missing > 0:
                    session.damaged(f"was cut short: {missing:,} bytes of its records are missing")
                yield from session.read(window)
        except OSError as error:
            raise InputError(f"{report.name}: {strerror(error)}") from error


def _section(file: Any, header: Header, stream: Input) -> Callable[[memoryview], int]:
    """Return what reads on in the data section; the features behind it are no records."""
    file.seek(header.data_start)
    left = header.data_bytes or header.file_bytes - header.data_start

    def fill(room: memoryview) -> int:
        nonlocal left
        size = file.readinto(room[: min(left, _CHUNK_BYTES)]) or 0
        left -= size
        stream.passed(size)
        return int(size)

    return fill


def _as_file(stream: Input, head: bytes, folder: Path) -> Path:
    """Return a plain file with the input's bytes: event names stand at its end."""
    if path := _plain_path(stream):
        return path
    copy = folder / "perf.data"
    stream.push_back(head)
    spool(stream, copy)
    return copy


def _through_perf(
    stream: Input, head: bytes, why: str, options: Options, report: Report
) -> Iterator[pl.DataFrame]:
    """Yield what `perf script` makes of the file."""
    perf = shutil.which("perf")
    if perf is None:
        raise FormatError(
            f"{report.name}: {why}, which only perf decodes, and there is no perf here; print it "
            "with `perf script --ns -F comm,pid,tid,cpu,time,event,addr,ip,sym` where it was recorded"
        )
    with tempfile.TemporaryDirectory(prefix="tracereplay-") as folder:
        path = _as_file(stream, head, Path(folder))
        fields = "comm,pid,tid,time,event,addr,ip,sym"
        command = [perf, "script", "--ns", "--show-lost-events", "-F", fields, "-i", str(path)]
        report.note(f"{report.name}: {why}: read through {' '.join(command)}")
        with (
            (Path(folder) / "errors").open("w+b") as errors,
            subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
            ) as child,
        ):
            assert child.stdout is not None
            try:
                yield from perf_script.FORMAT.read(
                    _PerfText(stream.name, child.stdout), options, report
                )
            finally:
                child.stdout.close()
                child.terminate()
            errors.seek(0)
            if child.wait() > 0 and not report.records:
                said = errors.read(4000).decode("utf-8", "replace").strip().splitlines()
                raise InputError(
                    f"{report.name}: {why}; perf script cannot read it here either: "
                    f"{said[-1] if said else 'failed'}. Print it where it was recorded: perf script "
                    f"--ns -F {fields}"
                )


class _PerfText(Input):
    """Output of `perf script` where a reader expects an open input."""

    def __init__(self, name: str, stream: Any) -> None:
        self.name = name
        self.total_bytes = None
        self.compression = ""
        self._text = stream

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._text.read(size)
        return data

    def readinto(self, room: memoryview) -> int:
        return int(self._text.readinto(room))


@dataclasses.dataclass
class _Tasks:
    """Names of threads over time: COMM records, and FORK, by which a child takes its parent's."""

    changes: list[tuple[int, int, int, str]] = dataclasses.field(default_factory=list)
    names: dict[int, str] = dataclasses.field(default_factory=lambda: {0: "swapper"})

    def label(self, time_ns: Any, threads: Any) -> pl.Series:
        """Return the name of each row's thread at its time; rows in time order, none older."""
        until = int(time_ns[-1])
        due = sorted((c for c in self.changes if c[0] <= until), key=lambda change: change[0])
        self.changes = [change for change in self.changes if change[0] > until]
        history = [(0, tid, name) for tid, name in self.names.items()]
        for time, tid, parent, name in due:
            known = name or self.names.get(parent)
            if known is not None:
                self.names[tid] = known
                history.append((time, tid, known))
        frame = pl.DataFrame(
            {"time": time_ns, "tid": threads},
            schema={"time": pl.UInt64, "tid": pl.UInt32},
        )
        known_names = pl.DataFrame(
            history,
            schema={"time": pl.UInt64, "tid": pl.UInt32, "comm": pl.String},
            orient="row",
        ).sort("time", maintain_order=True)
        joined = frame.join_asof(known_names, on="time", by="tid", check_sortedness=False)
        return joined["comm"].cast(pl.Categorical)


class _Session:
    """One file while it is read: events, rows not yet in order, threads' names."""

    def __init__(self, header: Header, options: Options, report: Report) -> None:
        self._header = header
        self._options = options
        self._report = report
        self._samples = np.empty((records.SAMPLE_ROWS, _ROWS), np.uint64)
        self._odd = np.zeros(1 << 12, records.ODD)
        self._state = np.zeros(1, records.STATE)
        self._plans = np.zeros(1, records.PLAN)
        self._ids = np.zeros(0, records.EVENT_ID)
        self._events: list[str] = []
        self._state["wants_tasks"] = options.keep_comm
        self._is_planned = False
        self._has_time = True
        self._tasks = _Tasks()
        self._zstd: Any = None
        self._fold = FaultFold(report)
        self._lost_records = 0
        self._lost_samples = 0
        self._passed = 0
        self._regions: Snapshots | None = None

    # -- bytes to rows ---------------------------------------------------------------------------

    def read(self, window: _Window) -> Iterator[pl.DataFrame]:
        """Yield the accesses of the records in `window`, in order of time."""
        fold = self._fold
        inner = b""
        while window.more():
            self._passed += window.fresh_bytes
            while (reason := self._walk(window)) in (records.CONTROL, records.DRAIN):
                if reason == records.CONTROL:
                    kind, body = self._record(window)
                    if kind not in (records.COMPRESSED, records.COMPRESSED2):
                        self._control(kind, body, window)
                        continue
                    for plain in self._decompress(kind, body):
                        part = _Window(data=inner + plain)
                        self._passed += len(plain)
                        self._stop_if_hopeless()
                        while self._inner(part):
                            for frame in self._ordered():
                                yield from fold.feed(frame)
                        inner = part.rest
                for frame in self._ordered():
                    yield from fold.feed(frame)
            self._stop_if_hopeless()
        if inner or window.rest:
            self.damaged("ends within a record: was it cut short?")
        for frame in self._ordered(final=True):
            yield from fold.feed(frame)
        if self._regions is not None:
            for frame in self._regions.finish():
                yield from fold.feed(frame)
        yield from fold.finish()
        self._finish()

    def _walk(self, window: _Window) -> int:
        """Read records up to one that Python must handle, full scratch, or the window's end."""
        self._state["position"] = window.position
        if not self._is_planned:
            self._plan()
        state, odd = self._state, self._odd
        reason = records.walk(window.array, self._plans, self._ids, self._samples, odd, state)
        self._take_odd(window.data)
        window.position = int(self._state["position"][0])
        if reason == records.DAMAGED:
            self.damaged(f"is damaged: a record without a size at byte {window.position} of a part")
            window.drop()
        return int(reason)

    def _record(self, window: _Window) -> tuple[int, bytes]:
        kind, _, size = struct.unpack_from("<IHH", window.data, window.position)
        start = window.position + 8
        window.position += size
        return kind, bytes(window.data[start : window.position])

    def _inner(self, window: _Window) -> bool:
        """Read decompressed records; False when they are through."""
        reason = self._walk(window)
        if reason == records.CONTROL:
            kind, body = self._record(window)
            if kind in (records.COMPRESSED, records.COMPRESSED2, records.TRACING_DATA):
                self.damaged("is damaged: a compressed record within a compressed one")
            else:
                self._control(kind, body, window)
        return reason in (records.CONTROL, records.DRAIN)

    def _decompress(self, kind: int, body: bytes) -> Iterator[bytes]:
        """Yield what a record holds; all records of a recording are one zstd stream."""
        import zstandard

        if kind == records.COMPRESSED2:
            size = int.from_bytes(body[:8], "little")
            body = body[8 : 8 + size]
        for start in range(0, len(body), _ZSTD_PIECE):
            piece = body[start : start + _ZSTD_PIECE]
            while piece:
                if self._zstd is None:
                    self._zstd = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
                try:
                    plain = self._zstd.decompress(piece)
                except zstandard.ZstdError as error:
                    raise InputError(
                        f"{self._report.name}: a compressed record is damaged: {error}"
                    ) from error
                piece = b""
                if self._zstd.eof:
                    piece = self._zstd.unused_data
                    self._zstd = None
                if plain:
                    yield plain

    def _control(self, kind: int, body: bytes, window: _Window) -> None:
        """Handle a record that says how to read the others."""
        name = self._report.name
        if kind == records.HEADER_ATTR:
            attribute = read_attribute_record(body, name)
            self._header.attributes.append(attribute)
            if len(self._header.attributes) > _MAX_EVENTS:
                raise InputError(f"{name}: is damaged: more than {_MAX_EVENTS} events")
            self._is_planned = False
        elif kind == records.HEADER_FEATURE and len(body) >= 8:
            read_feature(self._header, int.from_bytes(body[:8], "little"), body[8:], name)
            self._is_planned = False
        elif kind == records.TRACING_DATA and len(body) >= 4:
            size = int.from_bytes(body[:4], "little")
            if size > _MAX_TRACING_BYTES:
                raise InputError(f"{name}: is damaged: {size} bytes of tracepoint formats")
            read_feature(self._header, 1, window.take(size), name)
            window.skip(-size % 8)
            self._is_planned = False
        elif kind == records.EVENT_UPDATE and len(body) >= 16:
            what, event_id = struct.unpack_from("<QQ", body)
            if what == _UPDATE_NAME:
                text = body[16:].split(b"\0", 1)[0].decode("utf-8", "replace")
                for attribute in self._header.attributes:
                    if event_id in attribute.ids[:1]:
                        attribute.name = text
                self._is_planned = False
        elif kind == records.AUXTRACE_INFO and body[:4] == _ARM_SPE.to_bytes(4, "little"):
            raise _NeedsPerfError("Arm SPE samples stand in an AUX trace")
        elif kind == records.AUXTRACE and len(body) >= 8:
            window.skip(int.from_bytes(body[:8], "little"))

    def _take_odd(self, data: memoryview) -> None:
        for kind, start, size in self._odd[: int(self._state["odd"][0])].tolist():
            body = bytes(data[start + 8 : start + size])
            misc = int.from_bytes(data[start + 4 : start + 6], "little")
            if kind == records.LOST and len(body) >= 16:
                self._lost_records += int.from_bytes(body[8:16], "little")
            elif kind == records.LOST_SAMPLES and len(body) >= 8:
                if not misc & _FILTERED_BY_BPF:
                    self._lost_samples += int.from_bytes(body[:8], "little")
            elif kind == records.COMM and len(body) >= 8:
                tid = int.from_bytes(body[4:8], "little")
                text = body[8:].split(b"\0", 1)[0].decode("utf-8", "replace")
                self._tasks.changes.append((self._trailing_time(body), tid, 0, text))
            elif kind == records.FORK and len(body) >= 24:
                _, _, tid, parent, time = struct.unpack_from("<IIIIQ", body)
                self._tasks.changes.append((time, tid, parent, ""))
        self._state["odd"] = 0

    def _trailing_time(self, body: bytes) -> int:
        """Return the time in the fields that follow every record where sample_id_all is set."""
        attributes = self._header.attributes
        if not attributes or not attributes[0].has_sample_ids:
            return 0
        kinds = records.TIME, records.ID, records.STREAM_ID, records.CPU, records.IDENTIFIER
        present = [kind for kind in kinds if attributes[0].sample_type & kind]
        at = len(body) - 8 * len(present)
        if records.TIME not in present or at < 8:
            return 0
        return int.from_bytes(body[at : at + 8], "little")

    # -- events ----------------------------------------------------------------------------------

    def _plan(self) -> None:
        """Work out where each event keeps its fields."""
        header, report = self._header, self._report
        self._is_planned = True
        without = {
            event: int(count)
            for event, count in zip(self._events, self._plans["without_address"], strict=False)
        }
        self._events = [header.name(index) for index in range(len(header.attributes))]
        self._fold.expect(self._events)
        self._plans = np.zeros(max(1, len(header.attributes)), records.PLAN)
        for index, attribute in enumerate(header.attributes):
            _fill_plan(self._plans[index], attribute, self._tracepoint(attribute), self._writes())
            self._plans[index]["without_address"] = without.get(self._events[index], 0)
        pairs = [
            (event_id, index)
            for index, attribute in enumerate(header.attributes)
            for event_id in attribute.ids
        ]
        self._ids = np.array(pairs or [], records.EVENT_ID)
        self._ids.sort(order="id", kind="stable")
        self._state["id_at"] = -1
        if len(header.attributes) > 1:
            self._state["id_at"] = _id_position(header.attributes, report)
        self._has_time = all(a.sample_type & records.TIME for a in header.attributes)
        clock = header.attributes[0].clock if header.attributes else None
        report.clock = "perf" if clock is None else _CLOCKS.get(clock, f"clock-{clock}")
        report.time_resolution_ns = 1
        if not self._has_time:
            report.clock, report.time_resolution_ns = "ordinal", None
        if header.data_bytes and not (self._plans["kind"] != records.NO_ADDRESS).any():
            self._refuse()

    def _refuse(self) -> None:
        events = ", ".join(dict.fromkeys(self._events)) or "no event"
        raise FormatError(
            f"{self._report.name}: records no data address (recorded: {events[:200]}); record with "
            f"{_RECORD}"
        )

    def _tracepoint(self, attribute: Attribute) -> dict[str, tuple[int, int]] | None:
        known = self._header.tracepoints.get(attribute.config)
        if attribute.type != TYPE_TRACEPOINT or known is None:
            return None
        return known.fields

    def _writes(self) -> bool:
        """Return whether error_code is x86's, whose bit 1 says write."""
        return self._header.arch in ("x86_64", "i386", "i486", "i586", "i686", "amd64")

    # -- rows in order ---------------------------------------------------------------------------

    def _ordered(self, *, final: bool = False) -> Iterator[pl.DataFrame]:
        """Yield frames of the rows that nothing older can follow, when the scratch is full."""
        count = int(self._state["rows"][0])
        room = self._samples.shape[1]
        if not count or not (final or count == room):
            return
        samples = self._samples
        times = samples[records.TIME_ROW, :count]
        if self._has_time and self._state["disorder"][0]:
            order = np.argsort(times, kind="stable")
            times = times[order]
        else:
            order = np.arange(count)
        ready = count
        if self._has_time and not final:
            ready = int(np.searchsorted(times, self._state["limit"][0], side="right"))
            if ready < room // 2:
                if room < _HELD_ROWS:
                    self._samples = np.empty((records.SAMPLE_ROWS, 2 * room), np.uint64)
                    self._samples[:, :count] = samples
                    return
                ready = max(ready, count // 2)
        for start in range(0, ready, _ROWS):
            yield from self._frames(order[start : min(start + _ROWS, ready)])
        for row in samples:
            row[: count - ready] = row[order[ready:]]
        self._state["rows"] = count - ready
        self._state["disorder"] = 0

    def _frames(self, order: Any) -> Iterator[pl.DataFrame]:
        if (self._plans["kind"] == records.REGION).any():
            which = self._samples[records.WHERE_ROW, order] >> np.uint64(16) & np.uint64(0xFFFF)
            is_region = self._plans["kind"][which] == records.REGION
            yield from self._region_frames(self._samples[:, order[is_region]])
            order = order[~is_region]
        if order.size:
            yield self._frame(order)

    def _region_frames(self, samples: Any) -> Iterator[pl.DataFrame]:
        if self._regions is None:
            self._regions = Snapshots(RegionExpander(self._options, self._report))
            self._report.coverage = "sampled-region"
        upper = np.uint64(32)
        columns = (
            samples[records.TIME_ROW].tolist(),
            samples[records.PERIOD_ROW].tolist(),
            (samples[records.WHERE_ROW] >> upper).tolist(),
            samples[records.ADDRESS_ROW].tolist(),
            samples[records.DETAIL_ROW].tolist(),
            (samples[records.TASK_ROW] >> upper).tolist(),
        )
        for time, target, nr_regions, start, end, count in zip(*columns, strict=True):
            for frame in self._regions.region(time, target, nr_regions, (start, end, count)):
                yield frame.with_columns(pl.lit(None, pl.UInt32).alias("tid"))

    def _frame(self, order: Any) -> pl.DataFrame:
        """Make the table's columns of the samples in this order."""
        rows = order.size
        values = {
            "time_ns": np.empty(rows, np.uint64),
            "pid": np.empty(rows, np.uint32),
            "tid": np.empty(rows, np.uint32),
            "vaddr": np.empty(rows, np.uint64),
            "page": np.empty(rows, np.uint64),
            "is_write": np.empty(rows, np.bool_),
            "event": np.empty(rows, np.uint32),
            "cpu": np.empty(rows, np.uint16),
            "has": np.empty(rows, np.uint8),
        }
        used = np.zeros(self._plans.size, np.bool_)
        samples, index = self._samples, order.view(np.uint64)
        every, some = records.take_rows(samples, index, self._plans, used, *values.values())
        has = values.pop("has")
        needs = {
            "pid": records.HAS_TASK,
            "tid": records.HAS_TASK,
            "is_write": records.HAS_WRITE,
            "cpu": records.HAS_CPU,
        }
        columns: dict[str, pl.Series] = {}
        for name, array in values.items():
            bit = needs.get(name, 0)
            if name == "event":
                columns[name] = self._names(array, used)
            elif not bit or every & bit:
                columns[name] = pl.Series(values=array)
            elif some & bit:
                columns[name] = numbers(array, _DTYPES[name], has & bit != 0)
            else:
                columns[name] = pl.Series([None], dtype=_DTYPES[name]).new_from_index(0, rows)
        if not self._has_time:
            del columns["time_ns"]
        if self._options.pid is not None:
            columns["pid"] = columns["pid"].fill_null(pl.lit(self._options.pid, pl.UInt32))
        if self._options.keep_comm:
            columns["comm"] = self._tasks.label(values["time_ns"], values["tid"])
        if not all(is_fault_event(self._events[event]) for event in np.flatnonzero(used)):
            self._report.coverage = "sampled"
        if self._report.coverage == "sampled":
            period = samples[records.PERIOD_ROW, order]
            known = has & records.HAS_PERIOD != 0
            columns["weight"] = numbers(period, pl.UInt64, known).cast(pl.Float32)
        return pl.DataFrame(columns)

    def _names(self, codes: Any, used: Any) -> pl.Series:
        if used.sum() > 1:
            return names(codes, self._events)
        event = self._events[int(np.argmax(used))]
        return names(codes, [event])

    # -- what is said at the end -----------------------------------------------------------------

    def damaged(self, how: str) -> None:
        """Refuse a damaged file, unless the user takes what is readable."""
        text = f"{self._report.name}: {how}"
        if not self._options.allow_bad:
            raise InputError(f"{text}; record it again, or --allow-bad takes what is readable")
        self._report.note(text)

    def _stop_if_hopeless(self) -> None:
        if self._passed > _PATIENCE_BYTES and not self._state["samples"][0]:
            raise FormatError(self._report.remedy)

    def _finish(self) -> None:
        report, state, arch = self._report, self._state[0], self._header.arch
        if arch.startswith(_SEVERAL_PAGE_SIZES) and not self._header.says_page_size:
            report.note(
                f"{report.name}: recorded on {arch}, whose kernels may have larger pages than the "
                "4 KiB that are assumed: `getconf PAGESIZE` says it there"
            )
        # The kernel's LOST counts every record a full buffer cost, LOST_SAMPLES the samples among
        # them by event (perf adds these at the end): the larger one, not both.
        report.lost_events += max(self._lost_records, self._lost_samples)
        for event, count in zip(self._events, self._plans["without_address"], strict=False):
            if count:
                report.without_address[event] = report.without_address.get(event, 0) + int(count)
        for event, count in sorted(report.without_address.items()):
            report.note(f"{report.name}: {count} records of {event} name no data address: left out")
        for count, what in (
            (int(state["unknown_ids"]), "samples of an event the file does not describe"),
            (int(state["short_samples"]), "samples shorter than their event says"),
        ):
            if count:
                report.bad_lines += count
                report.note(f"{report.name}: {count} {what}: left out")
        if not report.records and int(self._plans["without_address"].sum()):
            self._refuse()


class _Window:
    """A piece of the input at a time, in one buffer, with what was left of the one before in front."""

    def __init__(
        self, fill: Callable[[memoryview], int] | None = None, *, data: bytes = b""
    ) -> None:
        self._fill = fill
        self._skip = 0
        # Room for a whole piece behind the longest record.
        self._buffer: Any = np.frombuffer(data, np.uint8)
        if fill is not None:
            self._buffer = np.empty(_CHUNK_BYTES + (1 << 16), np.uint8)
        self._end = len(data)
        self.position = 0
        self.fresh_bytes = 0

    @property
    def array(self) -> Any:
        """The piece; read-only, so that the walk meets one type."""
        array = self._buffer[: self._end]
        array.flags.writeable = False
        return array

    @property
    def data(self) -> memoryview:
        """The piece as bytes."""
        return memoryview(self._buffer)[: self._end]

    @property
    def rest(self) -> bytes:
        """What has not been read yet."""
        return bytes(self.data[self.position :])

    def drop(self) -> None:
        """Leave out the rest of the piece."""
        self.position = self._end

    def more(self) -> bool:
        """Take in the next piece; False at the end."""
        if self._fill is None:
            return False
        left = self._end - self.position
        self._buffer[:left] = self._buffer[self.position : self._end].copy()
        self._end, self.position = left, 0
        while (size := self._fill(memoryview(self._buffer)[left:])) > 0:
            skipped = min(self._skip, size)
            self._skip -= skipped
            if skipped < size:
                if skipped:  # what is left out stands in front
                    self._buffer[left : left + size - skipped] = self._buffer[
                        left + skipped : left + size
                    ].copy()
                self.fresh_bytes = size - skipped
                self._end = left + self.fresh_bytes
                return True
        return False

    def take(self, size: int) -> bytes:
        """Return the next bytes, fewer at the end of the input."""
        taken = bytearray()
        while len(taken) < size:
            if self.position == self._end and not self.more():
                break
            piece = self.data[self.position : self.position + size - len(taken)]
            taken += piece
            self.position += len(piece)
        return bytes(taken)

    def skip(self, size: int) -> None:
        """Leave out the next bytes without holding them."""
        there = min(size, self._end - self.position)
        self.position += there
        self._skip += size - there


def _fill_plan(
    plan: Any, attribute: Attribute, fields: dict[str, tuple[int, int]] | None, writes: bool
) -> None:
    sample_type = attribute.sample_type
    for name in ("time", "tid", "address", "cpu", "period"):
        plan[f"{name}_at"] = -1
    for name in ("raw_address_at", "raw_detail_at", "raw_target_at"):
        plan[name] = -1
    at = 8
    fixed = {
        records.TID: "tid_at",
        records.TIME: "time_at",
        records.ADDR: "address_at",
        records.CPU: "cpu_at",
        records.PERIOD: "period_at",
    }
    for kind in records.FIXED_ORDER:
        if sample_type & kind:
            if kind in fixed:
                plan[fixed[kind]] = at
            at += 8
    plan["variable_at"] = at
    plan["sample_type"] = sample_type & ((1 << 62) - 1)
    plan["read_format"] = attribute.read_format & 0xFF
    plan["branch_type"] = attribute.branch_type & ((1 << 62) - 1)
    plan["user_registers"] = attribute.user_registers
    plan["kind"] = records.NO_ADDRESS
    if fields is not None and sample_type & records.RAW:
        if all(name in fields for name in _REGION_FIELDS):
            plan["kind"] = records.REGION
            plan["raw_address_at"] = fields["start"][0]
            plan["raw_detail_at"] = fields["end"][0]
            plan["raw_target_at"] = fields["target_id"][0]
            plan["raw_count_at"] = fields["nr_accesses"][0]
            plan["raw_extra_at"] = fields["nr_regions"][0]
        elif fields.get("address", (0, 0))[1] == 8:
            plan["kind"] = records.RAW_ADDRESS
            plan["raw_address_at"] = fields["address"][0]
            if writes and fields.get("error_code", (0, 0))[1] == 8:
                plan["raw_detail_at"] = fields["error_code"][0]
    elif attribute.type != TYPE_TRACEPOINT and sample_type & records.ADDR:
        plan["kind"] = records.ADDRESS
    has = records.HAS_TASK if plan["tid_at"] >= 0 else 0
    has |= records.HAS_CPU if plan["cpu_at"] >= 0 else 0
    has |= records.HAS_PERIOD if plan["period_at"] >= 0 else 0
    if plan["kind"] == records.RAW_ADDRESS and plan["raw_detail_at"] >= 0:
        has |= records.HAS_WRITE
    elif plan["kind"] == records.ADDRESS and sample_type & records.DATA_SRC:
        has |= records.HAS_WRITE | records.BY_SOURCE
    plan["has"] = has


_REGION_FIELDS = ("target_id", "nr_regions", "start", "end", "nr_accesses")


def _id_position(attributes: list[Attribute], report: Report) -> int:
    """Return where samples of all events keep the id of theirs, from the record's start."""
    positions = set()
    for attribute in attributes:
        at = 8
        for kind in records.FIXED_ORDER:
            if attribute.sample_type & kind:
                if kind in (records.IDENTIFIER, records.ID):
                    break
                at += 8
        else:
            at = -1
        positions.add(at)
    if len(positions) > 1:
        raise _NeedsPerfError("its events keep their ids in different places")
    position = positions.pop()
    if position < 0:
        report.note(
            f"{report.name}: samples do not say of which event they are: taken as the first"
        )
    return position


FORMAT = Format(
    name="perf-data",
    summary="perf.data as `perf record` writes it, to a file or a pipe; perf is not needed",
    coverage="faults",
    detect=_detect,
    read=_read,
    how_to_record=(
        "perf record -e exceptions:page_fault_user -e exceptions:page_fault_kernel -c 1 -m 512 -- CMD"
    ),
)

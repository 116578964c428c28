"""What a perf.data file says about itself: events, their names, tracepoint formats, machine."""

from __future__ import annotations

import dataclasses
import re
import struct
from typing import Any

from tracereplay.errors import FormatError, InputError
from tracereplay.readers.base import Report
from tracereplay.units import PAGE_BYTES

FEATURE_TRACING_DATA, FEATURE_ARCH, FEATURE_EVENT_DESC = 1, 6, 12
_FEATURE_BITS = 256
_ATTRIBUTE_BYTES = 64  # of the first published version, the smallest there is
_MAX_ATTRIBUTES = 4096
_MAX_IDS = 1 << 20
_MAX_FEATURE_BYTES = 64 << 20

_FLAG_SAMPLE_ID_ALL, _FLAG_CLOCKID = 1 << 18, 1 << 25
TYPE_SOFTWARE, TYPE_TRACEPOINT = 1, 2
_SOFTWARE = {2: "page-faults", 5: "minor-faults", 6: "major-faults"}
_TYPES = {0: "hardware", 1: "software", 3: "cache", 4: "raw", 5: "breakpoint"}

_FIELD = re.compile(rb"field:([^;]*?)\s*(\w+)(?:\[\w*\])?;\s*offset:(\d+);\s*size:(\d+);")


@dataclasses.dataclass
class Attribute:
    """One event of the recording: struct perf_event_attr, and what belongs to it."""

    type: int
    config: int
    sample_type: int
    read_format: int
    branch_type: int
    user_registers: int
    clock: int | None
    has_sample_ids: bool
    ids: list[int] = dataclasses.field(default_factory=list)
    name: str = ""


@dataclasses.dataclass(frozen=True)
class Tracepoint:
    """A tracepoint's `format` text: field → (offset, size)."""

    system: str
    name: str
    fields: dict[str, tuple[int, int]]


@dataclasses.dataclass
class Header:
    """All of it; grows record by record in pipe mode."""

    attributes: list[Attribute] = dataclasses.field(default_factory=list)
    tracepoints: dict[int, Tracepoint] = dataclasses.field(default_factory=dict)
    event_names: list[str] = dataclasses.field(default_factory=list)
    arch: str = ""
    says_page_size: bool = False
    data_start: int = 0
    data_bytes: int = 0
    file_bytes: int = 0

    def name(self, index: int) -> str:
        """Return the event's name as perf shows it."""
        attribute = self.attributes[index]
        if attribute.name:
            return attribute.name
        if index < len(self.event_names) and self.event_names[index]:
            return self.event_names[index]
        if attribute.type == TYPE_TRACEPOINT and attribute.config in self.tracepoints:
            tracepoint = self.tracepoints[attribute.config]
            return f"{tracepoint.system}:{tracepoint.name}"
        if attribute.type == TYPE_SOFTWARE and attribute.config in _SOFTWARE:
            return _SOFTWARE[attribute.config]
        return f"{_TYPES.get(attribute.type, f'type-{attribute.type}')}:{attribute.config:#x}"


class Cursor:
    """Takes values off the front of bytes; says which file is damaged when they run out."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.at = 0
        self.name = name

    def bytes(self, size: int) -> bytes:
        if size < 0 or self.at + size > len(self.data):
            raise InputError(f"{self.name}: its header is damaged; copy or record it again")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.bytes(size), "little")

    def text(self) -> str:
        """Return text that ends with a NUL."""
        end = self.data.find(b"\0", self.at)
        text = self.bytes(end - self.at)
        self.at += 1
        return text.decode("utf-8", "replace")

    def counted_text(self) -> str:
        """Return text with its padded length in front."""
        return self.bytes(self.number(4)).split(b"\0", 1)[0].decode("utf-8", "replace")


def read_attribute(data: bytes, name: str) -> Attribute:
    """Return the event of a struct perf_event_attr of any version: later fields may be missing."""
    if len(data) < _ATTRIBUTE_BYTES:
        raise InputError(f"{name}: its header is damaged (an event of {len(data)} bytes)")
    data = data.ljust(136, b"\0")
    kind, _, config, _, sample_type, read_format, flags = struct.unpack_from("<IIQQQQQ", data)
    branch_type, user_registers = struct.unpack_from("<QQ", data, 72)
    (clock,) = struct.unpack_from("<i", data, 92)
    return Attribute(
        type=kind,
        config=config,
        sample_type=sample_type,
        read_format=read_format,
        branch_type=branch_type,
        user_registers=user_registers.bit_count(),
        clock=clock if flags & _FLAG_CLOCKID else None,
        has_sample_ids=bool(flags & _FLAG_SAMPLE_ID_ALL),
    )


def read_header(file: Any, report: Report) -> Header:
    """Return what the head and the feature sections of a file-mode perf.data say."""
    file.seek(0, 2)
    total = file.tell()
    file.seek(0)
    cursor = Cursor(file.read(104), report.name)
    cursor.bytes(16)
    attribute_size = cursor.number(8)
    at, size = cursor.number(8), cursor.number(8)
    header = Header(file_bytes=total)
    header.data_start, header.data_bytes = cursor.number(8), cursor.number(8)
    cursor.bytes(16)
    features = cursor.number(_FEATURE_BITS // 8)
    if not 16 + _ATTRIBUTE_BYTES <= attribute_size <= 4096 or size % attribute_size:
        raise InputError(f"{report.name}: its header is damaged (events of {attribute_size} bytes)")
    if size // attribute_size > _MAX_ATTRIBUTES or at > total or header.data_start > total:
        raise InputError(f"{report.name}: its header is damaged, or the file was cut short")
    all_ids = 0
    for index in range(size // attribute_size):
        file.seek(at + index * attribute_size)
        entry = Cursor(file.read(attribute_size), report.name)
        attribute = read_attribute(entry.bytes(attribute_size - 16), report.name)
        ids_at, ids_size = entry.number(8), entry.number(8)
        all_ids += ids_size // 8
        if all_ids > _MAX_IDS or ids_at + ids_size > total:
            raise InputError(f"{report.name}: its header is damaged, or the file was cut short")
        file.seek(ids_at)
        attribute.ids = _ids(file.read(ids_size))
        header.attributes.append(attribute)
    if header.data_bytes:
        _read_features(file, header, features, total, report)
    return header


def _read_features(file: Any, header: Header, bits: int, total: int, report: Report) -> None:
    table = header.data_start + header.data_bytes
    if table > total:
        return  # cut short: the reader of the data section says so
    present = [bit for bit in range(_FEATURE_BITS) if bits >> bit & 1]
    file.seek(table)
    sections = Cursor(file.read(16 * len(present)), report.name)
    for bit in present:
        at, size = sections.number(8), sections.number(8)
        if bit in (FEATURE_TRACING_DATA, FEATURE_ARCH, FEATURE_EVENT_DESC):
            if size > _MAX_FEATURE_BYTES or at + size > total:
                raise InputError(f"{report.name}: its header is damaged, or the file was cut short")
            file.seek(at)
            read_feature(header, bit, file.read(size), report.name)


def read_feature(header: Header, feature: int, data: bytes, name: str) -> None:
    """Take one feature section (or record, in pipe mode) into the header."""
    cursor = Cursor(data, name)
    if feature == FEATURE_ARCH:
        header.arch = cursor.counted_text()
    elif feature == FEATURE_EVENT_DESC:
        count, attribute_size = cursor.number(4), cursor.number(4)
        header.event_names = []
        for _ in range(min(count, _MAX_ATTRIBUTES)):
            cursor.bytes(attribute_size)
            ids = cursor.number(4)
            header.event_names.append(cursor.counted_text())
            cursor.bytes(8 * ids)
    elif feature == FEATURE_TRACING_DATA:
        _read_tracing_data(header, cursor)


def _read_tracing_data(header: Header, cursor: Cursor) -> None:
    """Take the formats of all tracepoints (tools/perf/util/trace-event-info.c writes them)."""
    if cursor.bytes(10) != b"\x17\x08\x44tracing":
        return
    cursor.text()  # version
    cursor.bytes(1 + 1)  # byte order, size of long
    page_bytes = cursor.number(4)
    if page_bytes != PAGE_BYTES:
        raise FormatError(
            f"{cursor.name}: recorded on a kernel with pages of {page_bytes:,} bytes; the models know "
            f"pages of 4 KiB ({PAGE_BYTES:,}): record on a kernel with these"
        )
    header.says_page_size = True
    for _ in range(2):  # header_page and header_event
        cursor.text()
        cursor.bytes(cursor.number(8))
    for _ in range(cursor.number(4)):  # ftrace's own events
        cursor.bytes(cursor.number(8))
    for _ in range(cursor.number(4)):
        system = cursor.text()
        for _ in range(cursor.number(4)):
            text = cursor.bytes(cursor.number(8))
            name = re.search(rb"^name: (\S+)", text, re.MULTILINE)
            number = re.search(rb"^ID: (\d{1,9})\s*$", text, re.MULTILINE)
            if name and number:
                fields = {
                    field.decode(): (int(offset), int(size))
                    for _, field, offset, size in _FIELD.findall(text)
                    if len(offset) < 6 and len(size) < 6
                }
                header.tracepoints[int(number[1])] = Tracepoint(
                    system, name[1].decode("utf-8", "replace"), fields
                )


def _ids(data: bytes) -> list[int]:
    count = len(data) // 8
    return list(struct.unpack_from(f"<{count}Q", data))


def read_attribute_record(body: bytes, name: str) -> Attribute:
    """Return the event of a HEADER_ATTR record: the struct says its size, ids follow it."""
    size = struct.unpack_from("<I", body.ljust(8, b"\0"), 4)[0] or _ATTRIBUTE_BYTES
    attribute = read_attribute(body[:size], name)
    attribute.ids = _ids(body[size:])
    return attribute

"""libCacheSim's trace files: oracleGeneral, lcs, vscsi (v1, v2), csv and txt of object ids.

An id names an object of a cache, and only the user knows whether it is a page: with `--id-is-page`
it is the page number. Without, oracleGeneral, lcs and vscsi ids are taken as block numbers of
their own space (`space` is file), one page each: exact for questions of reuse, and said so on
stderr. Deletions and other operations that touch nothing are left out.

Layouts: libCacheSim's traceReader/customizedReader/oracle/oracleGeneralBin.h, vscsi.h, lcs.h.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from tracereplay.errors import FormatError, InputError
from tracereplay.files import Input
from tracereplay.readers.base import Format, Head, Options, Report, numbers, text_chunks, with_pid
from tracereplay.readers.delimited import split_fields, split_header

_ROWS = 1 << 18
_SECOND_NS = 1_000_000_000

ORACLE = np.dtype([("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")])
_VSCSI = {
    1: np.dtype(
        [("sn", "<u4"), ("bytes", "<u4"), ("parts", "<u4"), ("cmd", "<u2"), ("version", "<u2"),
         ("id", "<u8"), ("time", "<u8")]
    ),
    2: np.dtype(
        [("cmd", "<u2"), ("version", "<u2"), ("sn", "<u4"), ("bytes", "<u4"), ("parts", "<u4"),
         ("id", "<u8"), ("time", "<u8"), ("response", "<u8")]
    ),
}  # fmt: skip
_READS, _WRITES = (
    (0x08, 0x28, 0x88, 0xA8),
    (0x0A, 0x2A, 0x8A, 0xAA),
)  # SCSI READ/WRITE 6, 10, 16, 12

# lcs began as a header of 1024 bytes with a struct format (2022), and is now one of 8192 with a
# version; both begin and end with the magic.
_LCS_MAGIC = struct.pack("<Q", 0x123456789ABCDEF0)
_LCS_OLD_BYTES, _LCS_BYTES = 1024, 8192
_BASE_3 = [("time", "<u4"), ("id", "<u8"), ("size", "<i8"), ("op_tenant", "<u4"), ("ttl", "<u4"),
           ("next", "<i8")]  # fmt: skip
_FEATURES = {3: 0, 4: 1, 5: 2, 6: 4, 7: 8, 8: 16}
_LCS: dict[int, np.dtype[Any]] = {
    1: ORACLE,
    2: np.dtype(
        [("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("op_tenant", "<u4"), ("next", "<i8")]
    ),
} | {
    version: np.dtype([*_BASE_3, *((f"feature_{n}", "<u4") for n in range(features))])
    for version, features in _FEATURES.items()
}
_LCS_CODES = {"b": "<i1", "B": "<u1", "c": "<i1", "h": "<i2", "H": "<u2", "i": "<i4", "I": "<u4",
              "l": "<i4", "L": "<u4", "q": "<i8", "Q": "<u8", "f": "<f4", "d": "<f8"}  # fmt: skip
# libCacheSim's req_op_e: get, gets, set, add, cas, replace, append, prepend, delete, incr, decr,
# read, write, update. 0 and what is not listed: not known.
_OP_READS, _OP_WRITES, _OP_NO_TOUCH = (1, 2, 12), (3, 4, 5, 6, 7, 8, 10, 11, 13, 14), (9,)


def _note_ids(options: Options, report: Report, what: str) -> bool:
    """Return whether ids are page numbers; say what is assumed where the user did not."""
    if options.id_is_page:
        report.coverage = "full"
        return True
    report.note(
        f"{report.name}: {what} are taken as pages of 4 KiB in a space of their own, coverage "
        "page-cache; --id-is-page says that they are page numbers of a process"
    )
    return False


def _accesses(
    ids: Any, time_ns: Any, is_write: pl.Series | None, is_page: bool, options: Options
) -> pl.DataFrame:
    columns: dict[str, Any] = {}
    if time_ns is not None:
        columns["time_ns"] = pl.Series(values=time_ns, dtype=pl.UInt64)
    columns["page"] = pl.Series(values=np.ascontiguousarray(ids, np.uint64), dtype=pl.UInt64)
    if is_write is not None:
        columns["is_write"] = is_write
    frame = with_pid(pl.DataFrame(columns), options.pid)
    space = "virt" if is_page else "file"
    return frame.with_columns(pl.lit(space, pl.Categorical).alias("space"))


def _records(stream: Input, dtype: np.dtype[Any], report: Report) -> Iterator[Any]:
    """Yield arrays of whole records."""
    carry = b""
    while piece := stream.read(_ROWS * dtype.itemsize):
        data = carry + piece
        count = len(data) // dtype.itemsize
        carry = data[count * dtype.itemsize :]
        if count:
            yield np.frombuffer(data, dtype, count)
    if carry:
        report.bad(0, carry, "ends within a record")


# -- oracleGeneral -------------------------------------------------------------------------------


def _detect_oracle(head: Head) -> bool:
    """Recognise by what must hold in every file of it: time never falls, next lies ahead."""
    if head.is_text:  # no record is without a zero byte: its size is no 4 GiB
        return False
    whole = head.total_bytes is not None and head.total_bytes == len(head.data)
    if whole and len(head.data) % ORACLE.itemsize:
        return False
    rows = np.frombuffer(head.data, ORACLE, len(head.data) // ORACLE.itemsize)
    if not rows.size:
        return False
    number = np.arange(1, rows.size + 1)
    following = rows["next"]
    ahead = (following > number) | (following == -1) | (following == np.iinfo(np.int64).max)
    return bool((rows["time"][1:] >= rows["time"][:-1]).all() and ahead.all())


def _read_oracle(stream: Input, options: Options, report: Report) -> Iterator[pl.DataFrame]:
    report.clock, report.time_resolution_ns = "time_ns", _SECOND_NS
    is_page = _note_ids(options, report, "object ids")
    last = 0
    for rows in _records(stream, ORACLE, report):
        time = rows["time"].astype(np.uint64)
        if time[0] < last or (time[1:] < time[:-1]).any():
            raise FormatError(
                f"{report.name}: time runs backwards: no oracleGeneral of 24-byte records"
            )
        last = int(time[-1])
        yield _accesses(rows["id"], time * np.uint64(_SECOND_NS), None, is_page, options)


# -- vscsi ---------------------------------------------------------------------------------------


def _vscsi_version(data: bytes) -> int:
    """Return 1 or 2, 0 where this is none: the version stands in every record, at its own place."""
    for version, dtype in _VSCSI.items():
        rows = np.frombuffer(data, dtype, len(data) // dtype.itemsize)
        if rows.size and (rows["version"] >> 8 == version).all():
            return version
    return 0


def _detect_vscsi(head: Head) -> bool:
    return not head.is_text and _vscsi_version(head.data) > 0


def _read_vscsi(stream: Input, options: Options, report: Report) -> Iterator[pl.DataFrame]:
    report.clock, report.time_resolution_ns = "time_ns", 1000
    is_page = _note_ids(options, report, "block numbers")
    first = stream.read(160)
    version = _vscsi_version(first)
    if not version:
        raise FormatError(f"{report.name}: no vscsi: its records name neither version 1 nor 2")
    stream.push_back(first)
    for rows in _records(stream, _VSCSI[version], report):
        good = rows["version"] >> 8 == version
        touches = np.isin(rows["cmd"], _READS + _WRITES)
        report.other_lines += int((good & ~touches).sum())
        for _ in range(min(int((~good).sum()), 3)):
            report.bad(0, b"", f"a record that is not of version {version}")
        report.bad_lines += max(0, int((~good).sum()) - 3)
        rows = rows[good & touches]  # noqa: PLW2901
        if rows.size:
            is_write = pl.Series(values=np.isin(rows["cmd"], _WRITES))
            time_ns = rows["time"] * np.uint64(1000)
            yield _accesses(rows["id"], time_ns, is_write, is_page, options)


# -- lcs -----------------------------------------------------------------------------------------


def _detect_lcs(head: Head) -> bool:
    return head.data[:8] == _LCS_MAGIC


def _read_lcs(stream: Input, options: Options, report: Report) -> Iterator[pl.DataFrame]:
    report.clock, report.time_resolution_ns = "time_ns", _SECOND_NS
    is_page = _note_ids(options, report, "object ids")
    head = stream.read(_LCS_BYTES)
    if head[_LCS_BYTES - 8 :] == _LCS_MAGIC:
        version = int.from_bytes(head[8:16], "little")
        if version not in _LCS:
            raise FormatError(
                f"{report.name}: lcs version {version}; known are 1 to 8. Convert it with "
                "libCacheSim's traceConv to oracleGeneral"
            )
        dtype = _LCS[version]
    elif head[_LCS_OLD_BYTES - 8 : _LCS_OLD_BYTES] == _LCS_MAGIC:
        dtype = _old_lcs_layout(head, report)
        stream.push_back(head[_LCS_OLD_BYTES:])
    else:
        raise InputError(f"{report.name}: its lcs header is damaged or cut short; copy it again")
    for rows in _records(stream, dtype, report):
        is_write = None
        if "op_tenant" in (dtype.names or ()):
            operation = rows["op_tenant"] & 0xFF
            touches = ~np.isin(operation, _OP_NO_TOUCH)
            report.other_lines += int((~touches).sum())
            rows, operation = rows[touches], operation[touches]  # noqa: PLW2901
            writes = np.isin(operation, _OP_WRITES)
            is_write = numbers(writes, pl.Boolean, writes | np.isin(operation, _OP_READS))
        time_ns = None
        if "time" in (dtype.names or ()):
            time_ns = rows["time"].astype(np.uint64) * np.uint64(_SECOND_NS)
        if rows.size:
            yield _accesses(rows["id"], time_ns, is_write, is_page, options)


def _old_lcs_layout(head: bytes, report: Report) -> np.dtype[Any]:
    text = head[8:248].split(b"\0", 1)[0].decode("ascii", "replace")
    id_field, _, time_field = head[248:251]
    codes = text.removeprefix("<")
    wrong = [code for code in codes if code not in _LCS_CODES]
    if wrong or not 1 <= id_field <= len(codes) or time_field > len(codes):
        raise InputError(f"{report.name}: its lcs header is damaged (record format {text[:40]!r})")
    names = [f"field_{number}" for number in range(1, len(codes) + 1)]
    names[id_field - 1] = "id"
    if time_field and time_field != id_field:
        names[time_field - 1] = "time"
    dtype = np.dtype([(name, _LCS_CODES[code]) for name, code in zip(names, codes, strict=True)])
    if not np.issubdtype(dtype["id"], np.integer):
        raise InputError(f"{report.name}: its lcs header is damaged: ids are no whole numbers")
    return dtype


# -- csv and txt ---------------------------------------------------------------------------------

_ID = re.compile(rb"\s*(?:0[xX][0-9a-fA-F]{1,16}|\d{1,20})\s*")


def _detect_txt(head: Head) -> bool:
    lines = head.content_lines
    return head.is_text and len(lines) > 1 and all(_ID.fullmatch(line) for line in lines)


def _read_txt(stream: Input, options: Options, report: Report) -> Iterator[pl.DataFrame]:
    report.clock = "ordinal"
    is_page = _note_ids(options, report, "ids")
    for chunk in text_chunks(stream, report):
        lines = pl.Series(values=chunk.tobytes().decode("latin-1").split("\n"), dtype=pl.String)
        text = pl.DataFrame({"text": lines}).with_columns(pl.col("text").str.strip_chars())
        found = text.with_columns(_integer(pl.col("text")).alias("id")).with_row_index(
            "line", report.lines + 1
        )
        odd = found.filter(
            pl.col("id").is_null() & (pl.col("text") != "") & ~pl.col("text").str.starts_with("#")
        )
        for line, shown in odd.head(3).select("line", "text").iter_rows():
            report.bad(line, shown.encode("latin-1"))
        report.bad_lines += max(0, odd.height - 3)
        report.lines += found.height - 1
        ids = found["id"].drop_nulls()
        for start in range(0, len(ids), _ROWS):
            yield _accesses(ids[start : start + _ROWS].to_numpy(), None, None, is_page, options)


# Names of the id column, ours last: those of pages are the CSV reader's own.
_CSV_IDS = ("obj_id", "objid", "object_id", "lbn", "lba", "obj", "key", "id")
_CSV_OPS = {"28": False, "88": False, "8": False, "08": False, "2a": True, "8a": True, "a": True,
            "0a": True, "r": False, "read": False, "get": False, "w": True, "write": True,
            "set": True, "update": True, "1": False, "3": True}  # fmt: skip


def _csv_header(line: bytes) -> tuple[str, list[str]]:
    separator, names = split_header(line)
    return separator.decode(), [name.lower() for name in names]


def _detect_csv(head: Head) -> bool:
    lines = head.content_lines
    if not head.is_text or len(lines) < 2:
        return False
    _, names = _csv_header(lines[0])
    is_ours = not {"vaddr", "addr", "address", "page", "vpn", "pfn"}.isdisjoint(names)
    return len(names) > 1 and not is_ours and any(name in _CSV_IDS for name in names)


def _read_csv(stream: Input, options: Options, report: Report) -> Iterator[pl.DataFrame]:
    is_page = _note_ids(options, report, "object ids")
    separator = ""
    names: list[str] = []
    id_at = time_at = op_at = -1
    for chunk in text_chunks(stream, report):
        data = chunk.tobytes()
        if not names:
            line, _, data = data.lstrip().partition(b"\n")
            report.lines += 1
            separator, names = _csv_header(line)
            id_at = next((names.index(name) for name in _CSV_IDS if name in names), -1)
            if id_at < 0:
                shown = ", ".join(names)[:200]
                raise FormatError(
                    f"{report.name}: no column of the header is an object id (it has {shown}); "
                    "--format csv --column page=NAME reads any column as page numbers"
                )
            time_at = next((at for at, name in enumerate(names) if name in _CSV_TIMES), -1)
            op_at = next((at for at, name in enumerate(names) if name in ("op", "rw")), -1)
            report.clock = "time_ns" if time_at >= 0 else "ordinal"
            report.time_resolution_ns = _SECOND_NS if time_at >= 0 else None
        lines = data.decode("latin-1").split("\n")
        text = _with_fields(pl.DataFrame({"text": lines}), separator)
        fields = pl.col("fields")
        shifted = (fields.list.len() > len(names)) & (fields.list.get(-1).str.strip_chars() != "")
        yield from _csv_rows(
            text.with_columns(shifted=shifted), (id_at, time_at, op_at), is_page, options, report
        )


_CSV_TIMES = ("time", "ts", "timestamp", "clock_time", "real_time")


def _with_fields(text: pl.DataFrame, separator: str) -> pl.DataFrame:
    """Return the lines with the list of their fields; quotes that hide a separator are looked at."""
    text = text.with_columns(pl.col("text").str.split(separator).alias("fields"))
    mark = re.escape(separator)
    hides = pl.col("text").str.contains(f'(^|{mark}) *"[^"]*{mark}') | pl.col("text").str.contains(
        '""', literal=True
    )
    odd = text.with_row_index().filter(hides)
    if odd.height:
        parts = [split_fields(line, separator) for line in odd["text"].to_list()]
        fields = pl.Series("fields", parts, dtype=pl.List(pl.String))
        text = (
            text.with_row_index()
            .update(odd.select("index", fields), on="index", how="left")
            .drop("index")
        )
    return text


def _csv_rows(
    text: pl.DataFrame, at: tuple[int, int, int], is_page: bool, options: Options, report: Report
) -> Iterator[pl.DataFrame]:
    """Yield the accesses of lines `text`, cut into `fields`; `shifted` ones have too many to trust."""
    id_at, time_at, op_at = at

    def field(index: int) -> pl.Expr:
        return pl.col("fields").list.get(index, null_on_oob=True).str.strip_chars(' \r"')

    columns = [pl.col("text"), _integer(field(id_at)).alias("id")]
    if time_at >= 0:
        columns.append(field(time_at).cast(pl.Float64, strict=False).alias("seconds"))
    if op_at >= 0:
        operation = field(op_at).str.to_lowercase()
        columns.append(
            operation.replace_strict(_CSV_OPS, default=None, return_dtype=pl.Boolean).alias("write")
        )
    found = text.with_row_index("line", report.lines + 1).with_columns(columns)
    report.lines += found.height - 1
    good = pl.col("id").is_not_null() & ~pl.col("shifted")
    if time_at >= 0:
        good &= pl.col("seconds").is_between(0, 1.8e10)
    odd = found.filter(~good.fill_null(value=False) & (pl.col("text").str.strip_chars() != ""))
    for line, shown in odd.head(3).select("line", "text").iter_rows():
        report.bad(line, shown.encode("latin-1"))
    report.bad_lines += max(0, odd.height - 3)
    rows = found.filter(good)
    for start in range(0, rows.height, _ROWS):
        part = rows.slice(start, _ROWS)
        time_ns = None
        if time_at >= 0:
            time_ns = (part["seconds"].to_numpy() * _SECOND_NS).astype(np.uint64)
        is_write = part["write"] if op_at >= 0 else None
        yield _accesses(part["id"].to_numpy(), time_ns, is_write, is_page, options)


def _integer(text: pl.Expr) -> pl.Expr:
    """Return whole numbers of text, 0x for hex, as libCacheSim takes them; else null."""
    is_hex = text.str.contains("^0[xX]")
    digits = text.str.replace("^0[xX]", "")
    return (
        pl.when(is_hex)
        .then(digits.str.to_integer(base=16, strict=False, dtype=pl.UInt64))
        .otherwise(digits.str.to_integer(base=10, strict=False, dtype=pl.UInt64))
    )


_HOW = "libCacheSim's traceConv writes oracleGeneral; ids must be page numbers for --id-is-page"

ORACLE_GENERAL = Format(
    name="oracleGeneral",
    summary="libCacheSim: 24-byte records of time, id, size and next access",
    coverage="page-cache",
    detect=_detect_oracle,
    read=_read_oracle,
    how_to_record=_HOW,
)
LCS = Format(
    name="lcs",
    summary="libCacheSim: lcs, all versions",
    coverage="page-cache",
    detect=_detect_lcs,
    read=_read_lcs,
    how_to_record=_HOW,
)
VSCSI = Format(
    name="vscsi",
    summary="libCacheSim: block trace of a virtual disk, versions 1 and 2",
    coverage="page-cache",
    detect=_detect_vscsi,
    read=_read_vscsi,
    how_to_record="vscsiStats on the hypervisor",
)
CSV = Format(
    name="libcachesim-csv",
    summary="libCacheSim: CSV with a header and a column of object ids",
    coverage="page-cache",
    detect=_detect_csv,
    read=_read_csv,
    how_to_record=_HOW,
)
TXT = Format(
    name="txt",
    summary="one id per line, decimal or 0x hex",
    coverage="page-cache",
    detect=_detect_txt,
    read=_read_txt,
    how_to_record="any program that prints a page number per access; then --id-is-page",
)

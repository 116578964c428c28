"""Parquet and Arrow IPC tables with a `page` or `vaddr` column, under our names or others."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tracereplay.errors import FormatError, InputError
from tracereplay.files import STDIN, Input, spool
from tracereplay.readers.base import Format, Head, Options, Report, with_pages, with_pid
from tracereplay.readers.delimited import map_columns
from tracereplay.schema import ACCESSES, METADATA_PREFIX

_BATCH_ROWS = 1 << 19
_DTYPES = {column.name: getattr(pl, column.dtype) for column in ACCESSES}
# Of a table that `ingest` wrote, what stays true when it is read again.
_KEPT = ("coverage", "clock", "time_resolution_ns")


# What pyarrow raises on damaged files, and polars on values that fit no column of ours.
_ERRORS = (pa.ArrowException, pl.exceptions.PolarsError, OSError, ValueError, TypeError, KeyError)


def _detect(head: Head) -> bool:
    return head.data[:4] == b"PAR1" or head.data[:6] == b"ARROW1"


def _read(stream: Input, options: Options, report: Report) -> Iterator[pl.DataFrame]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(stream.name)
        if stream.name == STDIN or stream.compression or not path.is_file():
            path = Path(folder) / "table"  # both formats have their index at the end
            spool(stream, path)
        yield from _rows(path, options, report)


class _Table:
    """An open table, read by pyarrow: on damaged files polars panics, with text of its own."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._is_parquet = file.read(4) == b"PAR1"
        # By its bytes: pyarrow writes text as UTF-8 in any locale.
        source = pa.OSFile(os.fsencode(path))
        if self._is_parquet:
            self._file: Any = pq.ParquetFile(source, pre_buffer=False)
            schema = self._file.schema_arrow
            metadata = self._file.metadata.metadata
        else:
            self._file = pa.ipc.open_file(source)
            schema = self._file.schema
            metadata = schema.metadata
        self.schema = pl.DataFrame(_plain(schema).empty_table()).schema
        self.footer = {
            key.decode("utf-8", "replace"): value.decode("utf-8", "replace")
            for key, value in (metadata or {}).items()
        }

    def frames(self, columns: list[str]) -> Iterator[pl.DataFrame]:
        """Yield the columns, a batch at a time."""
        if self._is_parquet:
            batches = self._file.iter_batches(batch_size=_BATCH_ROWS, columns=columns)
        else:
            batches = (
                self._file.get_batch(index).select(columns)
                for index in range(self._file.num_record_batches)
            )
        for batch in batches:
            batch.validate(full=True)
            # By name only: polars panics on metadata that is no UTF-8.
            frame = pl.DataFrame(pa.RecordBatch.from_arrays(batch.columns, names=columns))
            for start in range(0, frame.height, _BATCH_ROWS):
                yield frame.slice(start, _BATCH_ROWS)


def _plain(schema: Any) -> Any:
    """Return names and types without what polars panics on: metadata, and what is inside of lists.

    Raises
    ------
    UnicodeDecodeError
        A name (of a column, a time zone) is no UTF-8.
    """
    str(schema)
    return pa.schema(
        pa.field(field.name, pa.null() if pa.types.is_nested(field.type) else field.type)
        for field in schema
    )


def _rows(path: Path, options: Options, report: Report) -> Iterator[pl.DataFrame]:
    try:
        table = _Table(path)
    except _ERRORS as error:
        raise InputError(f"{report.name}: cannot be read: {_line(error)}") from error
    schema, footer = table.schema, table.footer
    found = map_columns(list(schema), options)
    if "vaddr" not in found and "page" not in found:
        raise FormatError(
            f"{report.name}: no column is an address or a page (it has "
            f"{', '.join(schema)[:200]}); name it with --column vaddr=NAME or page=NAME"
        )
    recorded = {key: footer.get(METADATA_PREFIX + key) for key in _KEPT}
    report.clock = recorded["clock"] or ""
    report.coverage = recorded["coverage"] or ""
    if resolution := recorded["time_resolution_ns"]:
        report.time_resolution_ns = int(resolution) if resolution.isdecimal() else None
    reduced = footer.get(METADATA_PREFIX + "reduced_below_bytes", "")
    if reduced.isdecimal():
        report.metadata["reduced_below_bytes"] = reduced
    if not report.clock and "instr" in found:
        report.clock = "instructions"
    elif not report.clock and found.keys() & {"time_ns", "time_s"}:
        report.clock = "time_ns"
    if not report.coverage:
        report.coverage = "full"
        if not options.coverage:
            report.note(
                f"{report.name}: the table does not say which accesses it saw: taken as all of "
                "them (--coverage full); say --coverage faults or sampled if that is so"
            )
    wanted = _expressions(found, schema, options, report)
    columns = list(
        dict.fromkeys(name for expression in wanted for name in expression.meta.root_names())
    )
    try:
        for rows in table.frames(columns):
            batch = with_pages(with_pid(rows.select(wanted), options.pid), report)
            if batch.height:
                yield batch
    except _ERRORS as error:
        raise InputError(f"{report.name}: cannot be read: {_line(error)}") from error


def _expressions(
    found: dict[str, str], schema: pl.Schema, options: Options, report: Report
) -> list[pl.Expr]:
    columns: list[pl.Expr] = []
    for ours, theirs in found.items():
        target = "time_ns" if ours in ("instr", "time_s") else ours
        dtype = schema[theirs]
        column = pl.col(theirs)
        if ours == "error_code":
            if "is_write" not in found and dtype.is_integer():
                columns.append((column & 2 != 0).alias("is_write"))
            continue
        if ours == "comm" and not options.keep_comm:
            continue
        if target == "time_ns" and dtype.is_temporal():
            # What does not fit 64 bits then fails, and does not wrap.
            column = column.to_physical().cast(pl.Int128) * _unit_ns(dtype)
        elif ours == "time_s":
            column = column.cast(pl.Float64) * 1_000_000_000
        elif target in ("event", "comm", "space"):
            if not (dtype == pl.String or dtype in (pl.Categorical, pl.Enum)):
                continue
            column = column.cast(pl.String)
        elif target in ("is_write", "major"):
            if not (dtype == pl.Boolean or dtype.is_integer()):
                raise FormatError(f"{report.name}: column {theirs!r} is {dtype}, not true or false")
            column = column.cast(pl.Boolean)
        elif not dtype.is_integer() and target != "weight":
            raise FormatError(
                f"{report.name}: column {theirs!r} is {dtype}, whole numbers expected"
            )
        columns.append(column.cast(_DTYPES[target]).alias(target))
    columns += [
        pl.col(name).cast(_DTYPES[name]) for name in ("space", "space_id") if name in schema
    ]
    return columns


def _unit_ns(dtype: Any) -> int:
    """Return the nanoseconds of one step of a date, time or duration."""
    if dtype == pl.Date:
        return 86_400 * 10**9
    return {"ns": 1, "us": 10**3, "ms": 10**6}[getattr(dtype, "time_unit", "ns")]


def _line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__


FORMAT = Format(
    name="table",
    summary="Parquet or Arrow IPC table with a column of pages or addresses",
    coverage="full",
    detect=_detect,
    read=_read,
    how_to_record="any program that writes a column `page` or `vaddr`, best with `is_write`, `pid`",
)

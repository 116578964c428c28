"""Write accesses to Parquet piece by piece; what is known at the end goes into the footer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tracereplay._jit import kernel_array
from tracereplay.dense import DenseIds
from tracereplay.schema import ACCESSES, METADATA_PREFIX, polars_schema
from tracereplay.spaces import COLUMNS as SPACE_COLUMNS
from tracereplay.spaces import SpaceNumbers
from tracereplay.units import PAGE_SHIFT

_ROW_GROUP = 1 << 18
_ARROW = {
    "UInt64": pa.uint64(),
    "UInt32": pa.uint32(),
    "UInt16": pa.uint16(),
    "Float32": pa.float32(),
    "Boolean": pa.bool_(),
    "Categorical": pa.dictionary(pa.int32(), pa.string()),
}
_TYPES = {column.name: _ARROW[column.dtype] for column in ACCESSES}
_DTYPES = polars_schema(ACCESSES)
_NEVER_NULL = ("page", "run_len")  # no bit per value then says that it is there


class AccessWriter:
    """Takes frames of any columns of ACCESSES; counts rows, accesses and distinct pages.

    The table has every column that any frame has, null in the rows of the others. `page` is made of
    `vaddr` where it is missing, `run_len` is 1 where it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None
        self._file: Any = None
        self._columns: list[str] = []
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._scattered = False
        self.empty_rows = 0  # left out: a run of no access
        self._ids = DenseIds()
        self._spaces = SpaceNumbers()
        self.records = 0
        self.accesses = 0
        self.events: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_file()

    @property
    def unique_pages(self) -> int:
        """Distinct (address space, page) so far."""
        return len(self._ids)

    def write(self, frame: pl.DataFrame) -> None:
        """Append the rows of one frame."""
        if frame.height == 0:
            return
        columns = {name: frame[name] for name in frame.columns if name in _TYPES}
        if "page" not in columns:
            pages = kernel_array(frame["vaddr"].cast(pl.UInt64)) >> np.uint64(PAGE_SHIFT)
            columns["page"] = pl.Series(values=pages)
        if "run_len" not in columns:
            one = pl.Series(values=[1], dtype=_DTYPES["run_len"])
            columns["run_len"] = one.new_from_index(0, frame.height)
        elif columns["run_len"].null_count():
            columns["run_len"] = columns["run_len"].fill_null(1)
        if (columns["run_len"] == 0).any():
            some = columns["run_len"] > 0
            self.empty_rows += int((~some).sum())
            columns = {name: column.filter(some) for name, column in columns.items()}
        self._columns = [name for name in _TYPES if name in columns or name in self._columns]
        frame = pl.DataFrame(
            {name: columns[name].cast(_DTYPES[name]) for name in _TYPES if name in columns}
        )
        self._count(frame)
        for start in range(0, frame.height, _ROW_GROUP):
            self._put(frame.slice(start, _ROW_GROUP))

    def close(self, metadata: dict[str, str]) -> None:
        """Write what is left and the footer; keys get the prefix `tracereplay.`."""
        if not self._columns:
            self._columns = ["time_ns", "page", "run_len"]
        self._flush()
        self._writer.add_key_value_metadata(
            {METADATA_PREFIX + key: value for key, value in metadata.items()}
        )
        self._close_file()

    def _close_file(self) -> None:
        writer, self._writer = self._writer, None
        file, self._file = self._file, None
        if writer is not None:
            writer.close()
        if file is not None:
            file.close()

    def _count(self, frame: pl.DataFrame) -> None:
        self.records += frame.height
        self.accesses += int(frame["run_len"].to_numpy().sum(dtype=np.uint64))
        spaces = frame.select(name for name in SPACE_COLUMNS if name in frame.columns)
        self._ids.number(kernel_array(frame["page"]), self._spaces.number(spaces))

    def _put(self, frame: pl.DataFrame) -> None:
        columns = []
        for name in frame.columns:
            if not pa.types.is_dictionary(_TYPES[name]):
                array = frame[name].rechunk().to_arrow()
                columns.append(array if array.type == _TYPES[name] else array.cast(_TYPES[name]))
                continue
            array, counts = _dictionary(frame[name])
            columns.append(array)
            if name == "event":
                for text, count in counts.items():
                    self.events[text] = self.events.get(text, 0) + count
        self._pending.append(pa.Table.from_arrays(columns, schema=_schema(frame.columns)))
        self._pending_rows += frame.height
        if self._pending_rows >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        schema = _schema(self._columns)
        if self._writer is None:
            self._scattered = self.unique_pages * 8 > self.records
            self._open_file(schema)
        elif self._writer.schema != schema:
            self._widen(schema)
        if self._pending:
            self._write_group(self._pending, schema)
        self._pending = []
        self._pending_rows = 0

    def _open_file(self, schema: Any) -> None:
        # Addresses all over the place only cost time in a dictionary.
        plain = ("time_ns", "vaddr", *(("page",) if self._scattered else ()))
        self._file = pa.OSFile(os.fsencode(self._path), "wb")  # its bytes, whatever the locale
        self._writer = pq.ParquetWriter(
            self._file,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=[name for name in schema.names if name not in plain],
            column_encoding={name: "DELTA_BINARY_PACKED" for name in plain if name in schema.names},
            write_statistics=["time_ns"],
        )

    def _widen(self, schema: Any) -> None:
        """Write the file again with further columns, a row group at a time."""
        self._close_file()
        with self._path.open("rb") as written:
            self._path.unlink()  # what is open can still be read
            old = pq.ParquetFile(written)
            self._open_file(schema)
            for group in range(old.num_row_groups):
                self._write_group([old.read_row_group(group)], schema)

    def _write_group(self, pieces: list[pa.Table], schema: Any) -> None:
        if any(piece.schema != schema for piece in pieces):
            pieces = [schema.empty_table(), *pieces]
        table = pa.concat_tables(pieces, promote_options="default")
        self._writer.write_table(table.unify_dictionaries(), row_group_size=_ROW_GROUP)


def _schema(names: list[str]) -> Any:
    return pa.schema(
        pa.field(name, _TYPES[name], nullable=name not in _NEVER_NULL) for name in names
    )


def _is_constant(column: pl.Series) -> bool:
    return column.null_count() == 0 and column.min() == column.max()


def _dictionary(column: pl.Series) -> tuple[Any, dict[str, int]]:
    """Return a categorical column as Arrow dictionary of what it uses, and how often it does."""
    if _is_constant(column.to_physical()):
        text = str(column[0])
        indices = pa.array(np.zeros(len(column), np.int32))
        return pa.DictionaryArray.from_arrays(indices, pa.array([text])), {text: len(column)}
    missing = column.is_null().to_numpy() if column.null_count() else None
    codes = column.to_physical().fill_null(0).to_numpy()
    used, first = np.unique(codes if missing is None else codes[~missing], return_index=True)
    some = column if missing is None else column.drop_nulls()
    texts = some.gather(first).cast(pl.String).to_list()
    renumber = np.zeros(int(codes.max(initial=0)) + 1, np.int32)
    renumber[used] = np.arange(used.size, dtype=np.int32)
    indices = renumber[codes]
    known = indices if missing is None else indices[~missing]
    counts = np.bincount(known, minlength=used.size).tolist()
    array = pa.DictionaryArray.from_arrays(
        pa.array(indices, mask=missing), pa.array(texts, pa.string())
    )
    return array, dict(zip(texts, counts, strict=True))

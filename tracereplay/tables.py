"""Read a table that is no trace: whole, with the columns it must have, or refused in one line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from tracereplay.errors import InputError, TraceSchemaError, first_line, strerror
from tracereplay.files import polars_path
from tracereplay.schema import Column, polars_schema

# What polars raises of a file it cannot read; a panic is one of its threads' own.
READ_ERRORS: tuple[type[BaseException], ...] = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    OSError,
)


def read_table(
    path: str | Path, needed: Iterable[str] = (), *, what: str, remedy: str
) -> pl.DataFrame:
    """Return a table of a Parquet file, or of a CSV by its ending.

    Parameters
    ----------
    needed : columns it must have
    what : should be there, as messages call it: "a page table"
    remedy : what to do where it is not: "make one with `tracereplay pages`"

    Raises
    ------
    InputError
        The file is missing, damaged, or no table.
    TraceSchemaError
        It lacks a column.
    """
    at = polars_path(path)
    try:
        with Path(path).open("rb"):
            pass  # what is wrong with a file is better told by the system than by polars
        frame = pl.read_csv(at) if Path(path).suffix == ".csv" else pl.read_parquet(at)
    except READ_ERRORS as error:
        why = strerror(error) if isinstance(error, OSError) else first_line(error)
        raise InputError(f"{path}: cannot be read as {what}: {why}; {remedy}") from error
    for name in needed:
        if name not in frame.columns:
            raise TraceSchemaError(f"{path}: no column `{name}`; {remedy}")
    return frame


def read_columns(
    path: str | Path, columns: tuple[Column, ...], *, what: str, remedy: str
) -> pl.DataFrame:
    """Return these columns of a table, in this order; what is null throughout takes their type.

    Raises
    ------
    InputError, TraceSchemaError
        As of read_table(), or a column has another type.
    """
    schema = polars_schema(columns)
    frame = read_table(path, schema, what=what, remedy=remedy)
    for name, dtype in schema.items():
        if frame[name].dtype not in (dtype, pl.Null):
            raise TraceSchemaError(
                f"{path}: column `{name}` is {frame[name].dtype}, expected {dtype}; {remedy}"
            )
    return frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items())


def table_metadata(path: str | Path) -> dict[str, str]:
    """Return what stands in the footer of a Parquet file; nothing where it cannot be read."""
    try:
        return dict(pl.read_parquet_metadata(polars_path(path, expands=False)))
    except READ_ERRORS:
        return {}

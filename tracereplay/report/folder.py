"""A result folder: where `compare --out DIR` leaves its tables, and `report DIR` finds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from tracereplay.errors import InputError, first_line
from tracereplay.schema import FOOTPRINT, LATENCY, SUMMARY, Column, polars_schema
from tracereplay.trace import READ_ERRORS


class ResultTables(NamedTuple):
    """What a report is made of."""

    summary: pl.DataFrame
    latency: pl.DataFrame
    footprint: pl.DataFrame
    run: dict[str, Any]


def read_result_folder(folder: str | Path) -> ResultTables:
    """Read the three tables and run.json of a folder that `compare --out` wrote.

    Raises
    ------
    InputError
        The folder or one of its files is missing, is damaged, or lacks a column.
    """
    place = Path(folder)
    if not place.is_dir():
        raise InputError(f"{folder} is no folder; name the one that `compare --out` wrote")
    run_path = place / "run.json"
    try:
        run = json.loads(run_path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{run_path}: {error.strerror or error}; was the folder written by `compare --out`?"
        ) from error
    except ValueError as error:
        raise InputError(f"{run_path}: no JSON: {error}") from error
    if not isinstance(run, dict):
        raise InputError(f"{run_path}: expected one JSON object")
    return ResultTables(
        _table(place / "summary.parquet", SUMMARY),
        _table(place / "latency.parquet", LATENCY),
        _table(place / "footprint.parquet", FOOTPRINT),
        run,
    )


def _table(path: Path, columns: tuple[Column, ...]) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path)
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror or 'cannot be read'}; was the folder written by "
            "`compare --out`?"
        ) from error
    except READ_ERRORS as error:
        raise InputError(f"{path}: no Parquet table: {first_line(error)}") from error
    schema = polars_schema(columns)
    for name, dtype in schema.items():
        if name not in frame.columns:
            raise InputError(f"{path}: column {name!r} is missing; run `compare` again")
        if frame[name].dtype != dtype and frame[name].dtype != pl.Null:
            raise InputError(f"{path}: column {name!r} is {frame[name].dtype}, expected {dtype}")
    return frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items())

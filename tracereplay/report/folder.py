"""A result folder: where `compare --out DIR` leaves its tables, and `report DIR` finds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from tracereplay.comparison import RUN_KEY, run_digest
from tracereplay.errors import InputError
from tracereplay.schema import FOOTPRINT, LATENCY, SUMMARY, Column
from tracereplay.tables import read_columns, table_metadata


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
        The folder or one of its files is missing, is damaged, or lacks a column; or the tables are
        not those of one comparison.
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
    for name in ("summary", "latency", "footprint"):
        path = place / f"{name}.parquet"
        if table_metadata(path).get(RUN_KEY, run_digest(run)) != run_digest(run):
            raise InputError(
                f"{path}: of another comparison than {run_path.name} beside it; run `compare --out` again"
            )
    return ResultTables(
        _table(place / "summary.parquet", SUMMARY),
        _table(place / "latency.parquet", LATENCY),
        _table(place / "footprint.parquet", FOOTPRINT),
        run,
    )


def _table(path: Path, columns: tuple[Column, ...]) -> pl.DataFrame:
    return read_columns(
        path, columns, what="a table of a comparison", remedy="run `compare --out` again"
    )

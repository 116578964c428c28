"""A result folder: where `compare --out DIR` leaves its tables, and `report DIR` finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from tracereplay.comparison import read_result
from tracereplay.errors import InputError


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
    if not Path(folder).is_dir():
        raise InputError(f"{folder} is no folder; name the one that `compare --out` wrote")
    found = read_result(folder)
    return ResultTables(found.summary, found.latency, found.footprint, found.run)

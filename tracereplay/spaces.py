"""Address spaces: which one the page of a row lies in, as a small number.

A page is the same page where space and page number are: a process by its pid, a file by `space_id`
(device and inode) whoever reads it, a target of DAMON by `space_id` too. Where `space` is null it is
virt.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tracereplay._jit import kernel, kernel_array

COLUMNS = ("pid", "space", "space_id")

_Key = tuple[int | None, str | None, int | None]


@kernel
def _number_known(pids: Any, known: Any, numbers: Any, spaces: Any) -> Any:
    """Number rows until one names an unknown process; return how many rows were numbered.

    pids uint32 (rows,); known uint32 (processes,), ascending; numbers uint32 (processes,), of each
    of them; spaces uint32 (rows,) is filled.
    """
    place = 0
    for row in range(pids.size):
        pid = pids[row]
        if known.size == 0 or known[place] != pid:  # else that of the row before
            low, high = 0, known.size
            while low < high:
                middle = (low + high) // 2
                if known[middle] < pid:
                    low = middle + 1
                else:
                    high = middle
            if low == known.size or known[low] != pid:
                return row
            place = low
        spaces[row] = numbers[place]
    return pids.size


class SpaceNumbers:
    """Numbers spaces in the order in which rows first name them."""

    def __init__(self) -> None:
        self._numbers: dict[_Key, int] = {}
        self._known = np.zeros(0, np.uint32)
        self._known_numbers = np.zeros(0, np.uint32)

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def pids(self) -> list[int | None]:
        """The process of each space so far; None for files, and where no row says."""
        return [pid for pid, _, _ in self._numbers]

    @property
    def nameless(self) -> bool:
        """Whether no row so far says which process or file its page is of."""
        return list(self._numbers) == [(None, None, None)]

    def number(self, rows: pl.DataFrame) -> npt.NDArray[np.uint32]:
        """Return the number of each row's space; one number where it is the same for all.

        rows : any of the columns `pid`, `space`, `space_id`
        """
        keys = _keys(rows)
        same = {column.name: column[0] for column in keys if _holds_one(column)}
        varying = keys.drop(same)
        if not varying.width:
            return np.full(1, self._of(same), np.uint32)
        if keys.columns == ["pid"] and not keys["pid"].null_count():
            return self._of_processes(keys["pid"])
        distinct = varying.unique(maintain_order=True)
        numbers = [self._of(same | named) for named in distinct.iter_rows(named=True)]
        if varying.width == 1:
            only = varying.to_series()
            column = only.replace_strict(
                distinct.to_series(), pl.Series(numbers, dtype=pl.UInt32), return_dtype=pl.UInt32
            )
        else:
            numbered = distinct.with_columns(pl.Series("number", numbers, pl.UInt32))
            column = varying.join(
                numbered, on=varying.columns, how="left", nulls_equal=True, maintain_order="left"
            )["number"]
        return kernel_array(column)

    def _of_processes(self, column: pl.Series) -> npt.NDArray[np.uint32]:
        column = column.cast(pl.UInt32)
        pids = kernel_array(column)
        spaces = np.empty(pids.size, np.uint32)
        done = _number_known(pids, self._known, self._known_numbers, spaces)
        if done < pids.size:
            named = column[done:].unique(maintain_order=True)
            fresh = named.filter(~named.is_in(pl.Series(self._known).implode())).to_list()
            numbers = [self._of({"pid": pid}) for pid in fresh]
            known = np.concatenate([self._known, np.array(fresh, np.uint32)])
            of_known = np.concatenate([self._known_numbers, np.array(numbers, np.uint32)])
            order = np.argsort(known, kind="stable")
            self._known, self._known_numbers = known[order], of_known[order]
            _number_known(pids[done:], self._known, self._known_numbers, spaces[done:])
        return spaces

    def _of(self, named: dict[str, Any]) -> int:
        """Return the number of the space with these values of COLUMNS, null where none is named."""
        key = (named.get("pid"), named.get("space"), named.get("space_id"))
        return self._numbers.setdefault(key, len(self._numbers))


def _keys(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the columns that tell spaces apart; those that hold nothing are left out."""
    if not rows.height:
        return pl.DataFrame()
    columns = []
    has_id = "space_id" in rows.columns and rows["space_id"].null_count() < rows.height
    space = _space(rows)
    if "pid" in rows.columns and rows["pid"].null_count() < rows.height:
        pid = pl.col("pid")
        if has_id and space is not None:  # a file is the same whoever reads it
            is_file = pl.lit(space).cast(pl.String).eq_missing(pl.lit("file"))
            pid = pl.when(~(is_file & pl.col("space_id").is_not_null())).then(pid).alias("pid")
        columns.append(pid)
    if space is not None:
        columns.append(pl.lit(space))
    if has_id:
        columns.append(pl.col("space_id"))
    return rows.select(columns)


def _space(rows: pl.DataFrame) -> pl.Series | None:
    """Return the column `space`, null for virt; None where every row is."""
    if "space" not in rows.columns:
        return None
    space = rows["space"]
    if _holds_one(space):
        return None if space[0] in (None, "virt") else space
    texts = rows.select(pl.col("space").cast(pl.String).replace("virt", None)).to_series()
    return texts if texts.null_count() < rows.height else None


def _holds_one(column: pl.Series) -> bool:
    """Return whether all rows hold the same, or nothing."""
    codes = column.to_physical()
    nulls = codes.null_count()
    return nulls == len(codes) or (not nulls and codes.min() == codes.max())

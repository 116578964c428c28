"""Make a trace smaller while it is read: fold runs, or drop what no LRU of a given size can feel.

Dropping follows "safely allowed drop" (Kaplan, Smaragdakis, Wilson: Trace reduction for virtual
memory simulations, SIGMETRICS 1999): of three references to a page, the middle one may go when
fewer than k distinct pages are referenced between the first and the third, for then the page
stays among the k most recent throughout, and every LRU memory of k pages or more has the same
misses without it. Unlike the paper, which looks at each triple alone, the trace is cut into windows of
at most k distinct pages, and each page keeps its first and its last reference in a window: every
dropped one stands between two of the same window. It takes one pass and two rows per page of
memory, and keeps at most about twice what the paper's rule would.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from tracereplay._jit import kernel, kernel_array
from tracereplay.dense import DenseIds
from tracereplay.spaces import COLUMNS as SPACE_COLUMNS
from tracereplay.spaces import SpaceNumbers
from tracereplay.units import PAGE_BYTES, PAGE_SHIFT

_KEYS = (*SPACE_COLUMNS, "page")
# is_write as a number whose maximum is "or": read, unknown, written.
_READ, _UNKNOWN, _WRITTEN = 0, 1, 2
_RUN_LIMIT = (1 << 32) - 1

# What is known of a page in the window: number of the window, rows of its first and last reference.
SEEN = np.dtype([("window", np.int64), ("first", np.int64), ("last", np.int64)], align=True)


def _prepared(frame: pl.DataFrame) -> pl.DataFrame:
    if "page" not in frame.columns:
        frame = frame.with_columns((pl.col("vaddr") // (1 << PAGE_SHIFT)).alias("page"))
    run_len = pl.col("run_len").fill_null(1) if "run_len" in frame.columns else pl.lit(1)
    return frame.with_columns(run_len.cast(pl.UInt32).alias("run_len"))


def _write_codes(frame: pl.DataFrame) -> Any:
    if "is_write" not in frame.columns:
        return np.zeros(frame.height, np.uint8)
    column = frame["is_write"]
    codes = column.cast(pl.UInt8) * _WRITTEN
    return codes.fill_null(_UNKNOWN).to_numpy().copy()


def _with_writes(frame: pl.DataFrame, codes: Any) -> pl.DataFrame:
    if "is_write" not in frame.columns:
        return frame
    values = pl.Series("is_write", codes == _WRITTEN)
    unknown = pl.Series("unknown", codes == _UNKNOWN)
    return frame.with_columns(
        pl.select(pl.when(~unknown).then(values)).to_series().alias("is_write")
    )


class Collapse:
    """Folds neighbouring rows of the same page into one: `run_len` adds up, writes are kept."""

    def __init__(self) -> None:
        self._held: pl.DataFrame | None = None

    def feed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the rows that are finished; the last run is held back."""
        frame = _prepared(frame)
        if self._held is not None:
            frame = pl.concat([self._held, frame], how="diagonal")
        if not frame.height:
            return frame
        keys = [name for name in _KEYS if name in frame.columns]
        differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift(1)) for name in keys)
        starts = frame.select(differs.alias("differs"))["differs"].to_numpy().copy()
        starts[0] = True
        at = np.flatnonzero(starts)
        lengths = np.add.reduceat(frame["run_len"].to_numpy().astype(np.uint64), at)
        codes = np.maximum.reduceat(_write_codes(frame), at)
        folded = _with_writes(frame[at], codes).with_columns(
            pl.Series("run_len", np.minimum(lengths, _RUN_LIMIT).astype(np.uint32))
        )
        if "major" in frame.columns and frame["major"].any():
            major = frame["major"].fill_null(value=False).to_numpy()
            any_major = pl.Series(np.logical_or.reduceat(major, at))
            folded = folded.with_columns(
                pl.when(any_major)
                .then(pl.lit(value=True))
                .otherwise(pl.col("major"))
                .alias("major")
            )
        self._held = folded.tail(1)
        return folded.head(folded.height - 1)

    def finish(self) -> pl.DataFrame | None:
        """Return the last run."""
        held, self._held = self._held, None
        return held


@kernel
def _mark(page_ids: Any, seen: Any, run_len: Any, writes: Any, keep: Any, state: Any) -> None:
    """Drop references between the first and the last of a window; their lengths go to the last.

    page_ids uint32 (rows,), seen SEEN (pages,), run_len uint64, writes uint8 and keep bool
    (rows,) are changed; state int64 (4,): number of the window, its distinct pages, limit k, and
    out comes the row where the last window begins.
    """
    window = state[0]
    distinct = state[1]
    for row in range(page_ids.size):
        page = page_ids[row]
        if seen[page]["window"] != window:
            if distinct >= state[2]:
                window += 1
                distinct = 0
                state[3] = row
            distinct += 1
            seen[page]["window"] = window
            seen[page]["first"] = row
            seen[page]["last"] = row
            continue
        last = seen[page]["last"]
        if last != seen[page]["first"]:
            keep[last] = False
            run_len[row] += run_len[last]
            writes[row] = max(writes[row], writes[last])
        seen[page]["last"] = row
    state[0] = window
    state[1] = distinct


class SafelyDrop:
    """Keeps, in each window of at most SIZE bytes of pages, each page's first and last reference."""

    def __init__(self, below_bytes: int) -> None:
        self._limit = max(below_bytes // PAGE_BYTES, 1)
        self._ids = DenseIds()
        self._spaces = SpaceNumbers()
        self._seen = np.full(1 << 16, -1, SEEN)
        self._window = 0
        self._held: list[pl.DataFrame] = []
        self._held_rows = 0
        self._fresh_rows = 0

    def feed(self, frame: pl.DataFrame) -> pl.DataFrame | None:
        """Return the rows of the windows that are over."""
        frame = _prepared(frame)
        self._held.append(frame)
        self._fresh_rows += frame.height
        # Rows of the open window are looked at again with the next ones: wait until it pays.
        if self._fresh_rows < self._held_rows:
            return None
        return self._reduce(final=False)

    def finish(self) -> pl.DataFrame | None:
        """Return what is left."""
        return self._reduce(final=True) if self._held else None

    def _reduce(self, *, final: bool) -> pl.DataFrame | None:
        frame = pl.concat(self._held, how="diagonal")
        page_ids = self._ids.number(kernel_array(frame["page"]), self._spaces.number(frame))
        if len(self._ids) > self._seen.size:
            larger = np.full(max(2 * self._seen.size, len(self._ids)), -1, SEEN)
            larger[: self._seen.size] = self._seen
            self._seen = larger
        run_len = frame["run_len"].to_numpy().astype(np.uint64)
        writes = _write_codes(frame)
        keep = np.ones(frame.height, np.bool_)
        # The held rows are those of the open window, which so begins anew with row 0.
        self._window += 1
        state = np.array([self._window, 0, self._limit, 0], np.int64)
        _mark(page_ids, self._seen, run_len, writes, keep, state)
        self._window = int(state[0])
        frame = _with_writes(frame, writes).with_columns(
            pl.Series("run_len", np.minimum(run_len, _RUN_LIMIT).astype(np.uint32))
        )
        open_row = frame.height if final else int(state[3])
        kept = pl.Series(keep)
        held = frame.slice(open_row).filter(kept.slice(open_row))
        self._held = [] if final else [held]
        self._held_rows = held.height
        self._fresh_rows = 0
        return frame.head(open_row).filter(kept.head(open_row))

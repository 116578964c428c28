"""Events that report one fault twice are folded into one row."""

from __future__ import annotations

import re
from collections.abc import Iterator

import polars as pl

from tracereplay.readers.base import Report

_HELD_ROWS = 1 << 16
# The kernel reports a fault as tracepoint first, then as page-faults, and last, when it is done,
# as minor-faults or major-faults.
_TRACEPOINT, _ANY, _OUTCOME = 0, 1, 2


def _rank(event: str) -> int | None:
    base = re.split("[/:]", event, maxsplit=1)[0]  # without modifiers: page-faults:u
    if event.removeprefix("exceptions:").startswith("page_fault_"):
        return _TRACEPOINT
    if base in ("page-faults", "faults"):
        return _ANY
    if base in ("minor-faults", "min-flt", "major-faults", "maj-flt"):
        return _OUTCOME
    return None


def is_fault_event(event: str) -> bool:
    """Return whether the event reports page faults; user names of events count as such."""
    if _rank(event) is not None:
        return True
    return not event.startswith(("cpu", "arm_spe", "ibs_")) and not re.search("mem-|cycles", event)


def _events(frame: pl.DataFrame) -> list[str]:
    events = frame["event"]
    codes = events.to_physical()
    if not events.null_count() and codes.min() == codes.max():
        events = events.head(1)
    return events.unique().cast(pl.String).to_list()


def _can_repeat(ranks: set[int]) -> bool:
    return bool(ranks - {_TRACEPOINT}) and (len(ranks) > 1 or _OUTCOME in ranks)


class FaultFold:
    """Folds `page-faults` beside a tracepoint, and `minor-faults`/`major-faults` beside either.

    A row is the same fault when it follows, within its thread, a row of an earlier kind with the
    same address; it leaves only its verdict in the column `major`. Rows that follow nothing stay:
    their twin was lost.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._held: list[pl.DataFrame] = []
        self._ranks: set[int] = set()
        self._knows_all = False

    def expect(self, events: list[str]) -> None:
        """Say which events can come: where none repeats another, no row waits for its twin."""
        self._ranks |= {rank for rank in map(_rank, events) if rank is not None}
        self._knows_all = True

    def feed(self, frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """Take the next rows; yield rows that no later one can be folded into."""
        if self._knows_all and not _can_repeat(self._ranks):
            yield frame
            return
        if not self._knows_all:
            self._ranks |= {rank for rank in map(_rank, _events(frame)) if rank is not None}
        if "major" not in frame.columns:
            frame = frame.with_columns(pl.lit(None, pl.Boolean).alias("major"))
        repeats = _can_repeat(self._ranks)
        self._held.append(frame)
        if repeats or frame.columns != self._held[0].columns:
            # Samples have a weight, faults do not: where both come, columns may join in late.
            self._held = [pl.concat(self._held, how="diagonal")]
        if repeats:
            frame = self._fold(self._held[0])
            keep = min(_HELD_ROWS, frame.height)
            self._held = [frame.tail(keep)]
            if frame.height > keep:
                yield frame.head(frame.height - keep)
            return
        # Nothing repeats so far: rows wait as they came, without being copied together.
        while sum(one.height for one in self._held[1:]) >= _HELD_ROWS:
            yield self._held.pop(0)

    def finish(self) -> Iterator[pl.DataFrame]:
        """Yield the rows held back."""
        yield from (frame for frame in self._held if frame.height)
        self._held = []

    def _fold(self, frame: pl.DataFrame) -> pl.DataFrame:
        known = frame["event"].unique()
        kinds = pl.DataFrame(
            {
                "event": known,
                "_rank": pl.Series([_rank(str(e)) for e in known], dtype=pl.Int8),
                "_says": pl.Series(
                    [
                        str(e).startswith("maj") if _rank(str(e)) == _OUTCOME else None
                        for e in known
                    ],
                    dtype=pl.Boolean,
                ),
            }
        )
        folded = (
            frame.join(kinds, on="event", how="left", maintain_order="left")
            .with_row_index("_row")
            .sort("tid", maintain_order=True, nulls_last=True)
            .with_columns(
                (
                    pl.col("tid").eq_missing(pl.col("tid").shift(1))
                    & (pl.col("vaddr") == pl.col("vaddr").shift(1))
                    & (pl.col("_rank") > pl.col("_rank").shift(1))
                )
                .fill_null(value=False)
                .alias("_same")
            )
            .with_columns((~pl.col("_same")).cum_sum().alias("_fault"))
            .with_columns(pl.coalesce("_says", "major").max().over("_fault").alias("major"))
        )
        twins = folded.filter("_same")
        for event, count in twins["event"].value_counts().iter_rows():
            self._report.folded[str(event)] = self._report.folded.get(str(event), 0) + count
        return (
            folded.filter(~pl.col("_same"))
            .sort("_row")
            .drop("_rank", "_says", "_same", "_fault", "_row")
        )

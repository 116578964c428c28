"""Miss curves on a terminal: by memory size, by pool, by stack distance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tracereplay.miss_curve import knees_of
from tracereplay.units import PAGE_BYTES, format_size

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_SHOWN_PIDS = 20
_SHOWN_SIZES = 20  # of a curve that has every one
_POOL_COUNTS = ("misses", "zswpin", "swpin_zero", "pswpin", "zswpwb")


def render_curve(frame: pl.DataFrame, console: Console, *, every_size: bool) -> None:
    """Print a frame of `curve` or `sampled_curve`.

    every_size : it holds every whole number of pages, of which some are shown, with the knees
    """
    by_pid = "pid" in frame.columns
    sampled = "misses_low" in frame.columns
    headings = (
        *(["pid"] if by_pid else []),
        *("memory", "misses", "refaults", "miss ratio"),
        *(["95 % between"] if sampled else []),
    )
    table = _table(headings)
    table.add_column("", no_wrap=True)
    parts = frame.partition_by("pid", maintain_order=True) if by_pid else [frame]
    pages = [part["cold_misses"][0] if part.height else 0 for part in parts]
    largest = sorted(range(len(parts)), key=lambda nth: -pages[nth])[:_SHOWN_PIDS]
    for part in (parts[nth] for nth in sorted(largest)):
        marked = knees_of(part) if every_size else []
        rows = spread_rows(part, marked, _SHOWN_SIZES) if every_size else range(part.height)
        for row in rows:
            point = part.row(row, named=True)
            table.add_row(
                *([_pid(point)] if by_pid else []),
                format_size(point["memory_bytes"]),
                f"{point['misses']:,}",
                f"{point['misses'] - point['cold_misses']:,}",
                f"{point['miss_ratio']:.4%}",
                *([f"{point['misses_low']:,} and {point['misses_high']:,}"] if sampled else []),
                "knee" if row in marked else "",
            )
    console.print(table)
    if len(parts) > _SHOWN_PIDS:
        console.print(
            f"the {_SHOWN_PIDS} processes with the most pages, of {len(parts):,}: -o, --format csv and "
            "json have all"
        )


def render_pools(frame: pl.DataFrame, console: Console) -> None:
    """Print a frame of `pool_curve`."""
    table = _table(["memory", "pool", *_POOL_COUNTS])
    for point in frame.iter_rows(named=True):
        sizes = (format_size(point[name]) for name in ("memory_bytes", "pool_limit_bytes"))
        table.add_row(*sizes, *(f"{point[name]:,}" for name in _POOL_COUNTS))
    console.print(table)


def render_distances(frame: pl.DataFrame, console: Console) -> None:
    """Print a frame of `reuse_distances`: the hits by powers of two of the distance."""
    keys = ["pid"] if "pid" in frame.columns else []
    # 0, 1, 2 to 3, 4 to 7, ...: how many bits the distance has.
    bits = (pl.col("distance_pages") + 0.5).log(2).floor().cast(pl.Int64) + 1
    parts = frame.group_by(*keys, bits.alias("bits"), maintain_order=True).agg(pl.col("hits").sum())
    total = frame["hits"].sum()
    table = _table([*keys, "other pages since", "needs at most", "hits", "share"])
    for row in parts.iter_rows(named=True):
        first, last = (1 << row["bits"]) >> 1, (1 << row["bits"]) - 1
        table.add_row(
            *([_pid(row)] if keys else []),
            f"{first:,}" if first == last else f"{first:,} to {last:,}",
            format_size((last + 1) * PAGE_BYTES),
            f"{row['hits']:,}",
            f"{row['hits'] / total:.4%}",
        )
    console.print(table)


def spread_rows(part: pl.DataFrame, marked: Iterable[int], count: int) -> list[int]:
    """Return about `count` rows at even steps of the logarithm of the size, the marked and the ends."""
    if not part.height:
        return []
    memory = part["memory_bytes"].to_numpy()
    steps = np.geomspace(memory[0], memory[-1], count)
    even = np.minimum(np.searchsorted(memory, steps), part.height - 1)
    return sorted({0, part.height - 1, *even.tolist(), *marked})


def _table(headings: Iterable[str]) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _pid(row: dict[str, Any]) -> str:
    """Return the process of a row; a trace without pids is one address space."""
    return "-" if row["pid"] is None else str(row["pid"])

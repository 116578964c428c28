"""The result on a terminal and for machines: table, latency strips, JSON, CSV."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from tracereplay.latency import SWAP_IN_SERVICES
from tracereplay.report.findings import (
    FEW_NOTE,
    PERCENTILE_NAMES,
    Group,
    Row,
    comparison_groups,
    dangers,
    is_memory,
    labelled_rows,
    marks,
    printable,
    readahead_note,
    some_are_few,
    told_once,
    touched_pages,
    verdict,
)
from tracereplay.schema import SCHEMA_VERSION, SERVICES
from tracereplay.units import PAGE_BYTES, format_count, format_duration, format_size

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_MIB = 1 << 20
_MAJOR = tuple(f"majfault_latency_{name}_ns" for name in PERCENTILE_NAMES)
_LABEL_FLOOR = 9


@dataclass(frozen=True)
class _Column:
    """A column: rank 0 stays whatever the width, the highest rank leaves first."""

    span: str
    head: str
    rank: int
    cell: Callable[[Row], str]
    always: bool = False  # else it leaves where every scenario has 0


def _microseconds(key: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        value = row[key]
        return "-" if value is None else three_digits(value / 1000)

    return cell


def _mebibytes(key: str, factor: int = 1) -> Callable[[Row], str]:
    return lambda row: three_digits(row[key] * factor / _MIB) if row[key] else "0"


def _written(row: Row) -> str:
    """Return what reached a device: zram counts as one, and is memory."""
    return "0" if is_memory(row) else _mebibytes("pswpout", PAGE_BYTES)(row)


def _service(name: str) -> Callable[[Row], str]:
    return lambda row: short_count(row["services"][name])


_COLUMNS = (
    _Column("swap-in µs", "p50", 2, _microseconds("shown_swapin_latency_p50_ns"), always=True),
    _Column("swap-in µs", "p99", 0, _microseconds("shown_swapin_latency_p99_ns"), always=True),
    _Column("swap-in µs", "p99.9", 3, _microseconds("shown_swapin_latency_p999_ns"), always=True),
    _Column("swap-in µs", "n", 9, lambda row: short_count(row["swap_ins"]), always=True),
    _Column("stall", "total", 1, lambda row: format_duration(row["stall_total_ns"]), always=True),
    _Column("touches from", "zswap", 6, _service("zswap"), always=True),
    _Column("touches from", "raw", 10, _service("zswap_raw")),
    _Column("touches from", "zero", 11, _service("zero")),
    _Column("touches from", "cache", 12, _service("swap_cache")),
    _Column("touches from", "device", 5, _service("device"), always=True),
    _Column("touches from", "minor", 13, _service("minor")),
    _Column("peak MiB", "pool", 7, _mebibytes("pool_bytes_peak"), always=True),
    _Column("peak MiB", "all", 4, _mebibytes("footprint_bytes_peak"), always=True),
    _Column("device", "MiB out", 8, _written),
)


def three_digits(value: float) -> str:
    """Return the number with three significant digits and no exponent: "0.85", "12.3", "4,210"."""
    if value == 0:
        return "0"
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"


def short_count(count: int) -> str:
    """Return a count in at most six characters: "9,999", "12.3k", "4.56M"."""
    if count < 10_000:
        return f"{count:,}"
    for unit in ("k", "M", "G"):
        count_in_unit = count / 1000 ** ("kMG".index(unit) + 1)
        if count_in_unit < 999.5:
            return three_digits(count_in_unit) + unit
    return f"{count / 1000**4:.2f}T"


def render_table(
    summary: pl.DataFrame, latency: pl.DataFrame, run: dict[str, Any], console: Console
) -> None:
    """Print the comparison: per memory limit the winner, a table and, on a terminal, the shapes.

    Fits the width of the console, and says below what the warning marks mean.
    """
    from rich.text import Text

    rows = labelled_rows(told_once(summary), latency)
    if not rows:
        console.print(Text("no scenario to show"))
        return
    groups = comparison_groups(rows, touched_pages(run))
    several_traces = len({group.trace for group in groups}) > 1
    layout = _layout(rows, console.width)
    buckets = _swapin_buckets(latency)
    _say(console, Text(_trace_line(rows, run), style="bold"))
    for group in groups:
        found = verdict(group)
        title = f"memory limit {group.title}"
        if several_traces:
            title = f"{printable(group.trace)}: {title}"
        _say(console, Text())
        _say(console, Text(title, style="bold"))
        _say(console, Text(found.sentence))
        for line in _header(layout):
            _say(console, line)
        for row in group.rows:
            winner = found.winner is not None and row["scenario"] == found.winner["scenario"]
            _say(console, _line(row, layout, winner=winner))
        if console.is_terminal:
            for line in _shapes(group, buckets, layout.label_cells, console):
                _say(console, line)
    _say(console, Text())
    for said in (
        FEW_NOTE if some_are_few(rows) else "",
        readahead_note(rows, "majfault_latency_p50_ns of --format json"),
    ):
        if said:
            text = Text("swap-in µs", style="bold")
            text.append(f": {said}", style="not bold default")
            _say(console, text)
    for danger in dangers(rows):
        text = Text(f"{danger.mark} {danger.name}", style="bold red")
        text.append(f": {danger.meaning} ({danger.detail})", style="not bold default")
        _say(console, text)


_WINNERS = ("memory", "least time lost", "stall", "p99", "peak", "OOM kills")
_WORDS = ("least time lost", "OOM kills")  # the others are figures, to the right of their column


def render_winners(summary: pl.DataFrame, latency: pl.DataFrame, console: Console) -> None:
    """Print per job of a sweep and memory limit who loses least time, and how many were killed."""
    from rich.text import Text

    summary = summary.with_columns(job=pl.col("scenario").str.split("/").list.first())
    jobs: dict[str, list[tuple[str, ...]]] = {}
    for job in summary.partition_by("job", maintain_order=True):
        of_job = latency.filter(pl.col("scenario").is_in(job["scenario"].implode()))
        jobs[job["job"][0]] = [
            _winner_cells(group)
            for group in comparison_groups(labelled_rows(told_once(job.drop("job")), of_job))
        ]
    lines = [_WINNERS, *(cells for rows in jobs.values() for cells in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def line(cells: tuple[str, ...]) -> str:
        placed = [
            cell.ljust(width) if name in _WORDS else cell.rjust(width)
            for name, cell, width in zip(_WINNERS, cells, widths, strict=True)
        ]
        return ("  " + "  ".join(placed)).rstrip()

    _say(console, Text(line(_WINNERS), style="bold"))
    for name, rows in jobs.items():
        _say(console, Text(printable(name)))
        for cells in rows:
            _say(console, Text(line(cells)))


def _winner_cells(group: Group) -> tuple[str, ...]:
    size = format_size(group.memory_limit_bytes)
    killed = sum(bool(row["killed"]) for row in group.rows)
    risky = sum(bool(row["flush_phases_killed"] and not row["killed"]) for row in group.rows)
    killed_text = f"{killed} of {len(group.rows)}" if killed or risky else ""
    if risky:
        killed_text += f", {risky} at risk"
    winner = verdict(group).winner
    if winner is None:
        return (size, "none finished", "", "", "", killed_text)
    p99 = winner["shown_swapin_latency_p99_ns"]
    return (
        size,
        printable(winner["label"]),
        format_duration(winner["stall_total_ns"]),
        "-" if p99 is None else format_duration(p99),
        format_size(winner["footprint_bytes_peak"]),
        killed_text,
    )


def _say(console: Console, text: Text) -> None:
    if not console.encoding.lower().startswith("utf"):
        # One character for one, so that styles stay where they are.
        plain = text.plain.translate(str.maketrans("µ─…", "u-."))
        text.plain = plain.encode(console.encoding, "replace").decode(console.encoding)
    for line in text.wrap(console, console.width) or [text]:
        line.rstrip()
        console.print(line, highlight=False)


def _trace_line(rows: list[Row], run: dict[str, Any]) -> str:
    trace = run.get("trace") or {}
    if not isinstance(trace, dict):
        return ""
    parts = [str(trace.get("name") or rows[0]["trace"])]
    if trace.get("accesses") is not None:
        parts.append(format_count(trace["accesses"], "access", "accesses"))
    if trace.get("unique_pages") is not None:
        pages = trace["unique_pages"]
        parts.append(
            f"{format_count(pages, 'page')} ({three_digits(pages * PAGE_BYTES / _MIB)} MiB)"
        )
    if trace.get("coverage"):
        parts.append(f"coverage {trace['coverage']}")
    return ", ".join(printable(part) for part in parts)


@dataclass(frozen=True)
class _Layout:
    """Which columns fit, and how wide everything is."""

    columns: tuple[_Column, ...]
    widths: tuple[int, ...]
    label_width: int
    mark_width: int

    @property
    def label_cells(self) -> int:
        return self.label_width + self.mark_width


def _layout(rows: list[Row], width: int) -> _Layout:
    """Choose columns for `width` cells: they leave by rank, then labels are cut."""
    mark_width = 1 + max(len(marks(row)) for row in rows)
    longest = max(len("policy"), *(len(row["label"]) for row in rows))
    columns = [
        column
        for column in _COLUMNS
        if column.always or any(column.cell(row) not in {"0", "-"} for row in rows)
    ]

    def spare() -> int:
        return width - mark_width - sum(1 + cells for cells in _widths(columns, rows))

    # A long label is cut to a readable length before the figures that matter most give way.
    for floor, keep in ((min(longest, 24), 3), (min(longest, 16), 1), (_LABEL_FLOOR, 0)):
        while spare() < floor and any(column.rank > keep for column in columns):
            columns.remove(max(columns, key=lambda column: column.rank))
    return _Layout(
        tuple(columns),
        tuple(_widths(columns, rows)),
        max(1, min(longest, spare())),
        mark_width,
    )


def _widths(columns: list[_Column], rows: list[Row]) -> list[int]:
    """Return the cells each column takes; the first of a span is widened where the span needs it."""
    widths = [max(len(column.head), *(len(column.cell(row)) for row in rows)) for column in columns]
    for span in dict.fromkeys(column.span for column in columns):
        members = [index for index, column in enumerate(columns) if column.span == span]
        missing = len(span) - sum(widths[index] + 1 for index in members) + 1
        widths[members[0]] += max(0, missing)
    return widths


def _header(layout: _Layout) -> list[Text]:
    """Return two lines: what neighbouring columns have in common, and their names."""
    from rich.text import Text

    spans = " " * layout.label_cells
    heads = "policy".ljust(layout.label_cells)[: layout.label_cells]
    for span in dict.fromkeys(column.span for column in layout.columns):
        members = [index for index, column in enumerate(layout.columns) if column.span == span]
        cells = sum(layout.widths[index] + 1 for index in members) - 1
        spans += " " + span.center(
            cells, "\N{BOX DRAWINGS LIGHT HORIZONTAL}" if len(members) > 1 else " "
        )
        for index in members:
            heads += " " + layout.columns[index].head.rjust(layout.widths[index])
    return [Text(spans.rstrip(), style="dim"), Text(heads, style="dim")]


def _line(row: Row, layout: _Layout, *, winner: bool) -> Text:
    from rich.text import Text

    style = "bold green" if winner else "dim" if row["bound"] or row["killed"] else ""
    text = Text(_cut(row["label"], layout.label_width).ljust(layout.label_width), style=style)
    text.append((" " + marks(row)).ljust(layout.mark_width), style="bold red")
    for column, cells in zip(layout.columns, layout.widths, strict=True):
        text.append(" " + column.cell(row).rjust(cells))
    return text


def _cut(label: str, cells: int) -> str:
    return label if len(label) <= cells else label[: max(0, cells - 1)] + "…"


_HEIGHTS = " ▁▂▃▄▅▆▇█"
_HEIGHTS_ASCII = " ..::--=#"
_DECADE_NAMES = {3: "1us", 4: "10us", 5: "100us", 6: "1ms", 7: "10ms", 8: "100ms", 9: "1s"}


def _swapin_buckets(latency: pl.DataFrame) -> pl.DataFrame:
    """Return the buckets of everything but first touches, with `middle`, log10 of nanoseconds."""
    low, high = pl.col("latency_ns_low").clip(1), pl.col("latency_ns_high")
    return latency.filter(
        pl.col("service").is_in(SWAP_IN_SERVICES), pl.col("count") > 0
    ).with_columns(middle=((low + high) / 2).log10())


def _shapes(group: Group, buckets: pl.DataFrame, indent: int, console: Console) -> list[Text]:
    """Return one strip per scenario: how its swap-ins spread over a log axis of latency.

    The height of a cell is the root of its share of the scenario's swap-ins, so that a tail of
    one in a thousand can still be seen.
    """
    from rich.text import Text

    cells = min(console.width - indent - 2, 72)
    if buckets.is_empty() or cells < 12:
        return []
    low, high = float(buckets["middle"].min()), float(buckets["middle"].max())  # type: ignore[arg-type]
    per_decade = (cells - 1) / max(high - low, 0.5)
    heights = _HEIGHTS if "utf" in console.encoding.lower() else _HEIGHTS_ASCII
    counted = (
        buckets.with_columns(cell=((pl.col("middle") - low) * per_decade).floor().cast(pl.Int64))
        .group_by("scenario", "cell")
        .agg(pl.col("count").sum())
    )
    by_scenario: dict[str, dict[int, int]] = {}
    for scenario, cell, count in counted.iter_rows():
        by_scenario.setdefault(scenario, {})[cell] = count
    lines = [Text("swap-in latency, log axis; height: root of the share of swap-ins", style="dim")]
    for row in group.rows:
        shares = by_scenario.get(row["scenario"], {})
        top = max(shares.values(), default=1)
        strip = "".join(
            heights[math.ceil(8 * math.sqrt(shares.get(cell, 0) / top))] for cell in range(cells)
        )
        line = Text(_cut(row["label"], indent - 1).ljust(indent) + " ")
        line.append(strip.rstrip() or "no swap-in", style="cyan" if strip.strip() else "dim")
        lines.append(line)
    axis = [" "] * (cells + 6)
    for decade in range(math.ceil(low), math.floor(high) + 1):
        at = int((decade - low) * per_decade)
        mark = "|" + _DECADE_NAMES.get(decade, f"1e{decade}ns")
        if at + len(mark) <= cells and all(letter == " " for letter in axis[at : at + len(mark)]):
            axis[at : at + len(mark)] = mark
    lines.append(Text(" " * (indent + 1) + "".join(axis).rstrip(), style="dim"))
    return lines


def to_json(summary: pl.DataFrame, latency: pl.DataFrame, run: dict[str, Any]) -> str:
    """Return one JSON object: the scenarios, the winner of each memory limit, the run.

    Keys carry their unit and stay; `scenarios` holds the columns of `summary`, the percentiles over
    major faults alone and, under `touches_by_service`, what answered the touches.
    """
    rows = labelled_rows(summary, latency)
    scenarios = [
        {
            **{name: row[name] for name in (*summary.columns, *_MAJOR)},
            "touches_by_service": row["services"],
        }
        for row in rows
    ]
    winners = []
    for group in comparison_groups(labelled_rows(told_once(summary), latency)):
        found = verdict(group)
        winners.append(
            {
                "trace": group.trace,
                "memory_limit_bytes": group.memory_limit_bytes,
                "scenario": None if found.winner is None else found.winner["scenario"],
                "sentence": found.sentence,
            }
        )
    return json.dumps(
        {"schema": SCHEMA_VERSION, "scenarios": scenarios, "winners": winners, "run": run},
        indent=2,
        default=str,
        allow_nan=False,
    )


def to_csv(summary: pl.DataFrame, latency: pl.DataFrame, run: dict[str, Any]) -> str:
    """Return the summary as CSV, and the percentiles of major faults, and `touches_SERVICE` each."""
    del run
    rows = labelled_rows(summary, latency)
    return summary.with_columns(
        *(pl.Series(name, [row[name] for row in rows], dtype=pl.Int64) for name in _MAJOR),
        *(
            pl.Series(
                f"touches_{service}", [row["services"][service] for row in rows], dtype=pl.Int64
            )
            for service in SERVICES
        ),
    ).write_csv()

"""What a trace holds and what it can answer: footprint, writes, reuse, working set, coverage."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from typing import Any

import numpy as np
import polars as pl

from tracereplay._jit import kernel, leading_zeros, prefetch, zeros_on_lines
from tracereplay.errors import InputError
from tracereplay.schema import COVERAGES
from tracereplay.trace import Trace
from tracereplay.units import PAGE_BYTES, format_count, format_duration, format_size

SLICES = 20
_OCTAVES = 64

_SEEN = np.dtype([("row_plus_1", np.int64), ("touches", np.int64)])  # of a page: its last row
_AHEAD = 16  # rows whose pages are asked for
_ONE_EACH = np.empty(0, np.uint32)
_ONE_EACH.flags.writeable = False
# What a trace reduced to one size and more lets one ask; schema.COVERAGES has it of the others.
_CAN_REDUCED = (
    "what exact LRU of that size or more misses (`curve`, `compare --reclaim lru --cgroup v1`)"
)


@dataclasses.dataclass(frozen=True)
class Inspection:
    """Figures about a trace; sizes in bytes, times in the trace's own clock."""

    trace: str
    format: str | None
    coverage: str
    clock: str
    time_resolution_ns: int | None
    rows: int
    accesses: int
    processes: int | None
    threads: int | None
    files: int | None
    unique_pages: int
    footprint_bytes: int
    duration_ns: int | None
    instructions: int | None
    writes: int
    reads: int
    unknown_writes: int
    events: dict[str, int]
    major_faults: int | None
    lost_events: int
    skipped_lines: int
    reduced_below_bytes: int
    time_runs_backwards: int
    pages_touched_once: int
    accesses_per_page_p50: int
    accesses_per_page_p99: int
    hottest_tenth_share: float
    reuse_interval_p50_accesses: int | None
    reuse_interval_p90_accesses: int | None
    working_set: list[dict[str, int]]
    can: str
    cannot: str
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as one object for JSON."""
        return dataclasses.asdict(self)


def inspect_trace(trace: Trace) -> Inspection:
    """Read a trace twice, once for its columns and once for its pages.

    Raises
    ------
    InputError
        The trace has no rows.
    """
    columns = _columns(trace)
    rows = columns["rows"]
    if rows == 0:
        raise InputError(f"{trace.paths[0]}: the trace has no rows")
    parts = min(SLICES, rows)
    seen = zeros_on_lines(trace.known_unique_pages, _SEEN)
    intervals = np.zeros(_OCTAVES, np.int64)
    working = np.zeros(parts, np.int64)
    first_touches = np.zeros(parts, np.int64)
    accesses = 0
    for batch in trace.batches():
        if trace.numbered_pages > seen.size:
            grown_seen = zeros_on_lines(max(trace.numbered_pages, 2 * seen.size), _SEEN)
            grown_seen[: seen.size] = seen
            seen = grown_seen
        lengths = _ONE_EACH if batch.run_len is None else batch.run_len
        counted = _look(
            batch.page_ids, lengths, batch.first_row, rows, seen, intervals, working, first_touches
        )
        accesses += int(counted)
    unique = trace.numbered_pages
    touches = np.sort(seen["touches"][:unique])
    grown = np.cumsum(first_touches)
    span = columns["last_ns"] - columns["first_ns"] if columns["last_ns"] is not None else None
    return Inspection(
        trace=trace.name,
        format=trace.metadata.get("format"),
        coverage=trace.coverage,
        clock=trace.clock,
        time_resolution_ns=_whole(trace.metadata.get("time_resolution_ns")),
        rows=rows,
        accesses=accesses,
        processes=columns["processes"],
        threads=columns["threads"],
        files=columns["files"],
        unique_pages=unique,
        footprint_bytes=unique * PAGE_BYTES,
        duration_ns=span if trace.has_time else None,
        instructions=span if trace.clock == "instructions" else None,
        writes=columns["writes"],
        reads=columns["reads"],
        unknown_writes=rows - columns["writes"] - columns["reads"],
        events=columns["events"],
        major_faults=columns["major"],
        lost_events=_whole(trace.metadata.get("lost_events")) or 0,
        skipped_lines=_whole(trace.metadata.get("skipped_lines")) or 0,
        reduced_below_bytes=trace.reduced_below_bytes,
        time_runs_backwards=columns["backwards"],
        pages_touched_once=int((touches == 1).sum()),
        accesses_per_page_p50=int(touches[unique // 2]),
        accesses_per_page_p99=int(touches[min(unique - 1, unique * 99 // 100)]),
        hottest_tenth_share=float(touches[-max(unique // 10, 1) :].sum() / accesses),
        reuse_interval_p50_accesses=_quantile(intervals, 0.5),
        reuse_interval_p90_accesses=_quantile(intervals, 0.9),
        working_set=[
            {
                "rows_from": -(-rows * part // parts),
                "working_set_bytes": int(working[part]) * PAGE_BYTES,
                "touched_so_far_bytes": int(grown[part]) * PAGE_BYTES,
            }
            for part in range(parts)
        ],
        can=COVERAGES[trace.coverage].can if not trace.reduced_below_bytes else _CAN_REDUCED,
        cannot=COVERAGES[trace.coverage].cannot,
        notes=list(trace.notes),
    )


def _columns(trace: Trace) -> dict[str, Any]:
    frame = trace.scan()
    schema = frame.collect_schema()
    wanted = [pl.len().alias("rows")]
    if "is_write" in schema:
        wanted += [
            pl.col("is_write").sum().alias("writes"),
            (~pl.col("is_write")).sum().alias("reads"),
        ]
    wanted += [
        pl.col(column).drop_nulls().n_unique().alias(name)
        for name, column in (("processes", "pid"), ("threads", "tid"))
        if column in schema
    ]
    if {"space", "space_id"} <= set(schema):
        is_file = pl.col("space").cast(pl.String) == "file"
        wanted.append(pl.col("space_id").filter(is_file).drop_nulls().n_unique().alias("files"))
    if "time_ns" in schema:
        times = pl.col("time_ns")
        wanted += [
            times.drop_nulls().first().alias("first_ns"),
            times.max().alias("last_ns"),
        ]
    if "major" in schema:
        wanted.append(pl.col("major").sum().alias("major"))
    found = frame.select(wanted).collect(engine="streaming").row(0, named=True)
    if "time_ns" in schema:
        # By itself: beside other expressions the engine keeps the whole column for the shift.
        backwards = (pl.col("time_ns") < pl.col("time_ns").shift(1)).sum()
        found["backwards"] = frame.select(backwards).collect(engine="streaming").item()
    found = {"writes": 0, "reads": 0, "backwards": 0, "major": None, **found}
    for name in ("processes", "threads", "files", "first_ns", "last_ns"):
        found.setdefault(name, None)
        if name in ("processes", "threads", "files"):
            found[name] = found[name] or None
    events: dict[str, int] = {}
    if recorded := trace.metadata.get("events"):
        events = json.loads(recorded)
    elif "event" in schema:
        counts = frame.group_by("event").len().collect(engine="streaming")
        events = {str(name): int(count) for name, count in counts.iter_rows()}
    found["events"] = dict(sorted(events.items()))
    return found


@kernel
def _look(
    page_ids: Any,
    lengths: Any,
    first_row: Any,
    rows: Any,
    seen: Any,
    intervals: Any,
    working: Any,
    first_touches: Any,
) -> Any:
    """Count the rows of a batch; return their accesses.

    lengths uint32 (rows of the batch,) or (0,) where each is one access; seen _SEEN (pages,);
    intervals int64 (octaves,): references that follow the page's last one by 2**n ... rows; working,
    first_touches int64 (slices,): pages touched in each slice of the trace, and for the first time.
    """
    parts = working.size
    accesses = np.int64(0)
    part = np.int64(-1)
    begin = end = np.int64(0)  # rows of the slice
    for nth in range(page_ids.size):
        if nth + _AHEAD < page_ids.size:
            prefetch(seen, np.int64(page_ids[nth + _AHEAD]))
        row = first_row + nth
        if part < 0 or row >= end:
            part = row * parts // rows
            begin = -(-part * rows // parts)
            end = -(-(part + 1) * rows // parts)
        page = np.int64(page_ids[nth])
        length = np.int64(lengths[nth]) if lengths.size > 0 else np.int64(1)
        before = seen[page]["row_plus_1"] - 1
        if before < 0:
            first_touches[part] += 1
        else:
            intervals[63 - leading_zeros(np.uint64(row - before))] += 1
        if before < begin:
            working[part] += 1
        seen[page]["row_plus_1"] = row + 1
        seen[page]["touches"] += length
        accesses += length
    return accesses


def _quantile(octaves: Any, share: float) -> int | None:
    total = int(octaves.sum())
    if not total:
        return None
    return 2 << int(np.searchsorted(np.cumsum(octaves), share * total))


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


NO_PROCESS = "; no process ids: all pages are one address space"


_FEWEST_PAGES = 10  # of which there is a tenth
# Below this the picture of the working set leaves its words out.
_PLOT_COLUMNS = 80


def in_words(found: Inspection, columns: int = 0) -> list[str]:
    """Return the figures as lines of plain words, wrapped to a terminal's columns (0: as they are)."""
    share = 100 / found.rows
    lines = [
        f"{found.trace}: {format_count(found.rows, 'row')}, "
        + format_count(found.accesses, "access", "accesses")
        + (f", read as {found.format}" if found.format else ""),
        f"coverage    {found.coverage}: {found.can}",
    ]
    if found.cannot:
        lines.append(f"            it cannot tell {found.cannot}")
    if found.reduced_below_bytes:
        lines.append(
            "reduced     references that no LRU memory of "
            f"{format_size(found.reduced_below_bytes)} or more can feel were dropped: neither "
            "smaller memories nor the kernel's lists can be asked"
        )
    lines.append(
        f"footprint   {format_size(found.footprint_bytes)} ({format_count(found.unique_pages, 'page')})"
        + (f" in {found.processes} processes" if (found.processes or 0) > 1 else "")
        + (f" in {found.files} files" if found.files else "")
        + ("" if found.processes or found.files else NO_PROCESS)
    )
    if found.duration_ns is not None:
        lines.append(f"time        {format_duration(found.duration_ns)} by clock {found.clock}")
    elif found.instructions is not None:
        lines.append(f"time        {found.instructions:,} instructions, no clock")
    else:
        lines.append(f"time        none ({found.clock}): order only")
    if found.time_runs_backwards:
        lines.append(
            f"            runs backwards at {found.time_runs_backwards:,} rows (taken as standing)"
        )
    unknown = f", {found.unknown_writes * share:.1f} % not said" if found.unknown_writes else ""
    lines.append(
        f"mix         {found.reads * share:.1f} % reads, {found.writes * share:.1f} % writes{unknown}"
        " (of rows)"
    )
    if found.events:
        told = ", ".join(f"{name} {count:,}" for name, count in found.events.items())
        lines.append(f"events      {told}")
    if found.major_faults:
        lines.append(f"            {found.major_faults:,} of the faults were major")
    lines.append(
        f"reuse       {format_count(found.pages_touched_once, 'page')} touched once; the median page "
        + format_count(found.accesses_per_page_p50, "time")
        + (
            f"; the hottest tenth takes {found.hottest_tenth_share:.0%} of the accesses"
            if found.unique_pages >= _FEWEST_PAGES
            else ""
        )
    )
    if found.reuse_interval_p50_accesses:
        lines.append(
            f"            half of the returns come within {found.reuse_interval_p50_accesses:,} "
            f"rows, nine tenths within {found.reuse_interval_p90_accesses:,}"
        )
    largest = max(part["working_set_bytes"] for part in found.working_set) or 1
    lines.append(
        f"working set per {1 / len(found.working_set):.0%} of the rows, and touched so far:"
    )
    narrow = 0 < columns < _PLOT_COLUMNS
    longest = max(columns - 33, 4) if narrow else 24
    for part in found.working_set:
        bar = "█" * max(round(longest * part["working_set_bytes"] / largest), 1)
        place = f"{part['rows_from']:>11,}" if narrow else f"  from row {part['rows_from']:>14,} "
        lines.append(
            f"{place} {format_size(part['working_set_bytes']):>9} "
            f"{bar:{longest}} {format_size(part['touched_so_far_bytes']):>9}"
        )
    if found.lost_events:
        lines.append(f"lost        {found.lost_events:,} events, says the recorder")
    if found.skipped_lines:
        lines.append(f"skipped     {found.skipped_lines:,} lines of the capture held no access")
    lines += [f"note        {text}" for text in found.notes]
    if not columns:
        return lines
    return [
        piece
        for line in lines
        for piece in (
            textwrap.wrap(line, columns, subsequent_indent=" " * 12, break_on_hyphens=False)
            if len(line) > columns
            else [line]
        )
    ]

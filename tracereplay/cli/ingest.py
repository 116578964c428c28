"""`ingest`: any supported capture to a table of accesses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracereplay.cli.app import app, note
from tracereplay.cli.options import Force
from tracereplay.errors import visible

if TYPE_CHECKING:
    from tracereplay.readers import Ingested

_WIDE_COLUMNS = 100  # what fits into fewer is told without bar, name and rows


@contextmanager
def show_progress() -> Iterator[Callable[[Any, int], None] | None]:
    """Show rate and remaining time on stderr where it is a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    columns: list[Any] = [
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
    ]
    if console.width >= _WIDE_COLUMNS:
        columns = [TextColumn("{task.description}", markup=False), BarColumn(), *columns]
        columns.append(TextColumn("{task.fields[rows]} rows"))
    with Progress(*columns, console=console, transient=True) as bar:
        tasks: dict[int, Any] = {}

        def update(stream: Any, rows: int) -> None:
            task = tasks.get(id(stream))
            if task is None:
                name = visible(Path(stream.name).name)
                task = bar.add_task(name, total=stream.total_bytes, rows="0")
                tasks[id(stream)] = task
            bar.update(task, completed=stream.bytes_read, rows=f"{rows:,}")

        yield update


def _pairs(values: list[str] | None) -> dict[str, str]:
    pairs = {}
    for value in values or []:
        ours, equals, theirs = value.partition("=")
        if not equals or not theirs:
            raise typer.BadParameter(f"{value!r}: write --column OURS=THEIRS, as vaddr=addr")
        pairs[ours] = theirs
    return pairs


def _complete_format(incomplete: str) -> list[str]:
    from tracereplay.readers import FORMATS

    return [name for name in FORMATS if name.startswith(incomplete)]


@app.command(
    epilog="Example: perf script --ns -F comm,pid,tid,cpu,time,event,trace | "
    "tracereplay ingest - -o trace.parquet"
)
def ingest(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Captures, plain, .gz, .zst, .xz or .bz2, read in this order; - is stdin.",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Table to write.")],
    force: Force = False,
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="Name of the format (see `formats`); else by content.",
            autocompletion=_complete_format,
        ),
    ] = "auto",
    pid: Annotated[
        int | None,
        typer.Option(min=0, max=2**32 - 1, help="Process of rows that name none."),
    ] = None,
    event: Annotated[
        str | None,
        typer.Option(help="Event name of rows that name none."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="OURS=THEIRS: which column of a CSV or table is ours, as vaddr=addr (repeatable).",
        ),
    ] = None,
    coverage: Annotated[
        str | None,
        typer.Option(
            help="Which accesses the source saw: full, faults, sampled, sampled-region, page-cache.",
        ),
    ] = None,
    address_base: Annotated[
        int | None,
        typer.Option(
            help="10 or 16, where addresses of digits only do not show it.",
        ),
    ] = None,
    address_field: Annotated[
        str,
        typer.Option(
            help="`first`: the one number of a perf line is the data address, whatever it looks like.",
        ),
    ] = "auto",
    tick_ns: Annotated[
        float | None,
        typer.Option("--tick-ns", help="Length of a tick of an integer clock."),
    ] = None,
    keep_comm: Annotated[bool, typer.Option("--keep-comm", help="Keep command names.")] = False,
    id_is_page: Annotated[
        bool,
        typer.Option(
            "--id-is-page",
            help="Ids of libCacheSim traces are page numbers.",
        ),
    ] = False,
    data_only: Annotated[
        bool,
        typer.Option(
            "--data-only",
            help="Leave out instruction fetches (lackey).",
        ),
    ] = False,
    collapse: Annotated[
        bool,
        typer.Option(
            "--collapse",
            help="Fold runs of accesses to the same page into one row (exact).",
        ),
    ] = False,
    reduce_below: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Also drop accesses that no LRU memory of at least SIZE can feel.",
        ),
    ] = None,
    allow_bad: Annotated[
        bool,
        typer.Option(
            "--allow-bad",
            help="Go on though over 1 % of the lines cannot be read.",
        ),
    ] = False,
    allow_lost: Annotated[
        bool,
        typer.Option("--allow-lost", help="Go on though events were lost."),
    ] = False,
) -> None:
    """Read captures into one Parquet table of page accesses."""
    if address_base not in (None, 10, 16):
        raise typer.BadParameter("10 or 16", param_hint="--address-base")
    if address_field not in ("auto", "first"):
        raise typer.BadParameter("auto or first", param_hint="--address-field")
    if tick_ns is not None and not 0 < tick_ns < 1e12:
        raise typer.BadParameter("a length above 0 in nanoseconds", param_hint="--tick-ns")
    from tracereplay.readers import Options
    from tracereplay.readers import ingest as ingest_trace
    from tracereplay.schema import COVERAGES
    from tracereplay.units import parse_size

    if coverage is not None and coverage not in COVERAGES:
        raise typer.BadParameter(", ".join(COVERAGES), param_hint="--coverage")
    options = Options(
        pid=pid,
        event=event,
        columns=_pairs(column),
        coverage=coverage,
        address_base=address_base,
        address_field=address_field,
        tick_ns=tick_ns,
        keep_comm=keep_comm,
        id_is_page=id_is_page,
        data_only=data_only,
        collapse=collapse,
        reduce_below_bytes=parse_size(reduce_below) if reduce_below else 0,
        allow_bad=allow_bad,
        allow_lost=allow_lost,
    )
    with show_progress() as progress:
        done = ingest_trace(
            inputs, out, format=format, options=options, force=force, progress=progress
        )
    tell(done)


def tell(done: Ingested) -> None:
    """Say on stderr what a table holds and what was left out."""
    from tracereplay.units import PAGE_BYTES, format_size

    for line in done.notes:
        note(line)
    if done.bad_lines:
        note(f"{done.bad_lines} lines cannot be read and are left out; the first:")
        for example in done.examples:
            note(f"  {example}")
    if others := done.skipped_lines - done.bad_lines:
        note(f"{others} lines are no accesses (task, mapping and lost-event records): left out")
    if done.foreign_lines:
        note(f"{done.foreign_lines} lines of other output in between: left out")
    if done.lost_events:
        note(f"warning: the recorder lost {done.lost_events} events")
    if done.folded_duplicates:
        note(
            f"{done.folded_duplicates} records repeat another event's record of the same fault: "
            "folded into it"
        )
    note(
        f"wrote {done.path}: {done.records:,} rows, {done.unique_pages:,} pages "
        f"({format_size(done.unique_pages * PAGE_BYTES)}), coverage {done.coverage}, "
        f"read as {', '.join(done.formats)}"
    )

"""`record`: a command under the best recorder this machine has, to a table of page accesses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracereplay.cli.app import app, flush, note
from tracereplay.cli.ingest import show_progress, tell
from tracereplay.cli.options import Force


def _complete_tool(incomplete: str) -> list[str]:
    from tracereplay.host.record import RECORDERS

    return [name for name in RECORDERS if name.startswith(incomplete)]


@app.command(
    context_settings={"allow_interspersed_args": False},
    epilog="Example: tracereplay record -o trace.parquet -- python3 sort.py",
)
def record(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="CMD...", help="Command to run, with its arguments, after --."),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Table to write.")] = Path(
        "trace.parquet"
    ),
    force: Force = False,
    print_only: Annotated[
        bool,
        typer.Option(
            "--print",
            help="Only print the command of each recorder, and run none.",
        ),
    ] = False,
    tool: Annotated[
        str | None,
        typer.Option(
            help="perf, perf-sw, bpftrace, damon or lackey; else the first that works here.",
            autocompletion=_complete_tool,
        ),
    ] = None,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="Every access, not page faults alone, by valgrind (hundreds of times slower).",
        ),
    ] = False,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.1, help="End the command after this time."),
    ] = None,
    buffer_pages: Annotated[
        int | None,
        typer.Option(
            "--buffer-pages",
            min=1,
            max=1 << 20,
            help="Buffer of each CPU in pages, a power of two; larger ones lose fewer events.",
        ),
    ] = None,
    reduce_below: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Drop accesses that no LRU memory of at least SIZE can feel (with --full).",
        ),
    ] = None,
    keep_comm: Annotated[bool, typer.Option("--keep-comm", help="Keep command names.")] = False,
    allow_lost: Annotated[
        bool,
        typer.Option("--allow-lost", help="Go on though events were lost."),
    ] = False,
) -> None:
    """Run a command and record its page accesses."""
    from tracereplay.host.record import FULL, commands
    from tracereplay.host.record import record as record_command
    from tracereplay.readers import Options
    from tracereplay.units import parse_size

    if print_only:
        for recorder, line in commands(command or ["CMD"], FULL if full else tool):
            typer.echo(f"# {recorder.name}: {recorder.summary}")
            typer.echo(line)
        flush()
        return
    if buffer_pages is not None and buffer_pages & (buffer_pages - 1):
        raise typer.BadParameter("a power of two", param_hint="--buffer-pages")
    options = Options(
        keep_comm=keep_comm,
        allow_lost=allow_lost,
        reduce_below_bytes=parse_size(reduce_below) if reduce_below else 0,
    )
    with show_progress() as progress:
        done = record_command(
            command or [],
            out,
            tool=tool,
            full=full,
            seconds=seconds,
            buffer_pages=buffer_pages,
            options=options,
            force=force,
            say=lambda line: note(f"running {line}"),
            progress=progress,
        )
    tell(done.table)
    if done.status:
        how = f"signal {-done.status}" if done.status < 0 else f"status {done.status}"
        note(f"warning: the command ended with {how}; the table holds what it did until then")
        raise typer.Exit(1)

"""`inspect`: what a trace holds, and what it can and cannot answer."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from tracereplay.cli.app import app, flush
from tracereplay.errors import visible


@app.command(epilog="Example: tracereplay inspect traces/sqlite-index.parquet")
def inspect(
    trace: Annotated[list[Path], typer.Argument(help="Trace tables written by `ingest`.")],
    format: Annotated[
        Literal["text", "json"],
        typer.Option("--format", help="Words, or one JSON object."),
    ] = "text",
) -> None:
    """Say what a trace holds and what it can answer.

    Footprint, reads and writes, reuse, working set over time.
    """
    from tracereplay.inspection import in_words, inspect_trace
    from tracereplay.trace import open_trace

    found = inspect_trace(open_trace(*trace))
    if format == "json":
        typer.echo(json.dumps(found.as_dict(), indent=2))
    else:
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
        for line in in_words(found, columns):
            typer.echo(visible(line))
    flush()

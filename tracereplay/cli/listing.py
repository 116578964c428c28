"""`policies` and `formats`: what there is, one line each."""

from __future__ import annotations

from typing import Annotated

import typer

from tracereplay.cli.app import app, flush


@app.command(epilog="Example: tracereplay formats --record")
def formats(
    record: Annotated[
        bool, typer.Option("--record", help="Show how to record each one as well.")
    ] = False,
) -> None:
    """List the formats `ingest` reads."""
    from tracereplay.readers import FORMATS

    width = max(len(name) for name in FORMATS)
    for name, entry in FORMATS.items():
        typer.echo(f"{name:{width}}  {entry.summary} [{entry.coverage}]")
        if record and entry.how_to_record:
            typer.echo(f"{'':{width}}    {entry.how_to_record}")
    flush()

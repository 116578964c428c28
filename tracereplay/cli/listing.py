"""`policies` and `formats`: what there is, one line each."""

from __future__ import annotations

from typing import Annotated, Literal

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


@app.command(epilog="Example: tracereplay policies --format json")
def policies(
    format: Annotated[
        Literal["table", "json"], typer.Option("--format", help="What to print.")
    ] = "table",
) -> None:
    """List the policies and reclaim models."""
    import json

    from tracereplay.policies import POLICIES
    from tracereplay.reclaim import RECLAIM

    if format == "json":
        typer.echo(
            json.dumps(
                {
                    "policies": [
                        {"name": p.name, "summary": p.summary, "source": p.source}
                        for p in POLICIES.values()
                    ],
                    "reclaim": [
                        {"name": r.name, "summary": r.summary, "source": r.source}
                        for r in RECLAIM.values()
                    ],
                },
                indent=1,
            )
        )
    else:
        width = max(map(len, [*POLICIES, *RECLAIM]))
        typer.echo("policies: what becomes of a page that reclaim picked (-p)")
        for policy in POLICIES.values():
            typer.echo(f"  {policy.name:{width}}  {policy.summary}")
        typer.echo("\nreclaim models: which page leaves memory (-r)")
        for model in RECLAIM.values():
            typer.echo(f"  {model.name:{width}}  {model.summary}")
    flush()

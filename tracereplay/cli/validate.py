"""`validate`: replay recorded kernel runs and print model against kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tracereplay.cli.app import app, flush, note

_OUTPUT = "Output"


@app.command(
    epilog="Example: tracereplay validate tests/kernel-runs --run zipf --max-error 5%",
)
def validate(
    folder: Annotated[
        list[Path],
        typer.Argument(
            help="Folder with NAME.json, and its trace and page table beside it or where its "
            "keys `trace` and `pages` say."
        ),
    ],
    run: Annotated[
        str | None, typer.Option("--run", help="Only runs whose name contains this.")
    ] = None,
    counter: Annotated[
        list[str] | None,
        typer.Option("-c", "--counter", help="Only this counter; repeatable."),
    ] = None,
    max_error: Annotated[
        str | None,
        typer.Option(
            "--max-error",
            help="Exit 1 where a counter is farther from the kernel's than this, such as 2%.",
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("-j", "--jobs", min=1, help="Threads. Default: every core.")
    ] = None,
    format: Annotated[
        Literal["table", "json", "csv"],
        typer.Option("--format", help="What to print.", rich_help_panel=_OUTPUT),
    ] = "table",
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Write model against kernel as SVG.", rich_help_panel=_OUTPUT),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the plot.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Replay recorded kernel runs: model beside kernel.

    Error is model / kernel - 1, against the mean where the kernel ran several times; the model then
    runs once per repeat, with the times at which that repeat's statistics were read.
    """
    import json

    from tracereplay.files import check_free, replacing
    from tracereplay.report.validation import agreement_plot, agreement_table
    from tracereplay.units import parse_percent
    from tracereplay.validation import beyond, summarize, validate

    limit = None if max_error is None else parse_percent(max_error)
    if plot is not None:
        check_free(plot, force=force)
    frame = validate(folder, run=run, counters=counter, jobs=jobs, skipped=note)
    if format == "json":
        typer.echo(json.dumps(frame.to_dicts(), indent=1))
    elif format == "csv":
        typer.echo(frame.write_csv(), nl=False)
    else:
        typer.echo(agreement_table(frame))
        typer.echo(summarize(frame))
    if plot is not None:
        with replacing(plot, force=force) as part:
            part.write_text(agreement_plot(frame), encoding="utf-8")
        note(f"wrote {plot}")
    flush()
    if limit is not None:
        worse = beyond(frame, limit)
        for row in worse:
            note(
                f"{row['run']}: {row['counter']} is {row['error']:+.2%} from the kernel, "
                f"more than {max_error}"
            )
        if worse:
            raise typer.Exit(1)

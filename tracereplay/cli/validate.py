"""`validate`: replay recorded kernel runs and print model against kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracereplay.cli.app import app, flush, note
from tracereplay.cli.options import Force, OutputFormat


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
    costs: Annotated[
        str | None,
        typer.Option(
            "--costs",
            help="Cost table for the times of touches, of `calibrate` or --calibrate-on. Default: the "
            "bundled one, fitted to one run with zswap and one without.",
        ),
    ] = None,
    calibrate_on: Annotated[
        list[str] | None,
        typer.Option(
            "--calibrate-on",
            help="Fit the costs to the touch times of this run; twice: one run with zswap, one without.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="Where --calibrate-on writes its cost table.",
        ),
    ] = None,
    kernel: Annotated[
        str | None,
        typer.Option(
            "--kernel",
            help="Replay all by the rules of this kernel. Default: of the one each ran on, or the "
            "nearest there are rules of.",
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("-j", "--jobs", min=1, help="Threads. Default: every core.")
    ] = None,
    format: OutputFormat = "table",
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Write model against kernel as SVG."),
    ] = None,
    force: Force = False,
) -> None:
    """Replay recorded kernel runs: model beside kernel.

    Error is model / kernel - 1, against the mean where the kernel ran several times; the model then
    runs once per repeat, with the times at which that repeat's statistics were read.

    Where every touch was timed (`touch_ns`), the times are compared as well: touch_p50_ns, _p90_ and
    _p99_ of those over 1 us, and touch_total_ns of all.
    """
    import json

    from tracereplay.errors import SettingsError
    from tracereplay.files import check_free, replacing
    from tracereplay.report.validation import agreement_plot, agreement_table
    from tracereplay.units import parse_percent
    from tracereplay.validation import (
        beyond,
        fit_costs,
        summarize,
        summarize_touches,
        touch_source,
        validate,
    )

    limit = None if max_error is None else parse_percent(max_error)
    if out is not None and not calibrate_on:
        raise SettingsError("-o is for the cost table of --calibrate-on; name a run to fit to")
    if calibrate_on and out is None:
        raise SettingsError("--calibrate-on writes a cost table; say where with -o")
    for path in (plot, out):
        if path is not None:
            check_free(path, force=force)
    if plot is not None and plot.suffix != ".svg":
        raise SettingsError("--plot draws into a file .svg")
    touch_source(costs)  # a table that cannot be used is told before any replay
    if calibrate_on and out is not None:
        table = fit_costs(folder, calibrate_on, costs)
        with replacing(out, force=force) as part:
            part.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        note(f"wrote {out}")
        costs = str(out)
    frame = validate(
        folder, run=run, counters=counter, jobs=jobs, costs=costs, kernel=kernel, skipped=note
    )
    if format == "json":
        typer.echo(json.dumps(frame.to_dicts(), indent=1))
    elif format == "csv":
        typer.echo(frame.write_csv(), nl=False)
    else:
        typer.echo(agreement_table(frame))
        typer.echo(summarize(frame))
        if line := summarize_touches(frame, *touch_source(costs)):
            typer.echo(line)
    if plot is not None:
        with replacing(plot, force=force) as part:
            part.write_text(agreement_plot(frame), encoding="utf-8")
        note(f"wrote {plot}")
    flush()
    if limit is not None:
        worse = beyond(frame, limit)
        for row in worse:
            if row["model"] is None:
                apart = "the kernel's alone: no replay ended as its repeats did"
            elif row["error"] is None:
                apart = f"{row['model']:,.6g} where the kernel counted none"
            else:
                apart = f"{row['error']:+.2%} from the kernel, more than {max_error}"
            note(f"{row['run']}: {row['counter']} is {apart}")
        if worse:
            raise typer.Exit(1)

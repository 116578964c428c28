"""`compare`: replay a trace once per scenario and say which policy costs what."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tracereplay.cli.app import app, note, print_result, progress_bar, written_first
from tracereplay.cli.options import Force, Memory, ModelOptions, OutputFormat, Traces, with_options
from tracereplay.policies import BASELINE, BOUND


@app.command(
    epilog="Example: tracereplay compare web.parquet -p store-raw -p keep-on-reject -m 512MiB"
)
@with_options
def compare(
    trace: Traces,
    *,
    memory: Memory = None,
    options: ModelOptions,
    bounds: Annotated[
        bool,
        typer.Option(
            "--bounds/--no-bounds",
            help=f"Add the baseline {BASELINE} and the bound {BOUND}.",
        ),
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder for the tables and the report."),
    ] = None,
    format: OutputFormat = "table",
    plots: Annotated[
        Path | None,
        typer.Option(
            "--plots",
            metavar="DIR",
            help="Also draw the figures there, as SVG and PNG.",
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Replay a trace once per zswap policy and compare.

    Swap-in latency, memory and the danger of reclaim, one row per scenario.
    """
    from tracereplay import comparison
    from tracereplay.report.codecs import codec_lines
    from tracereplay.report.table import render_table
    from tracereplay.trace import open_trace

    opened = open_trace(*trace)
    scenarios = options.scenarios(opened, memory=memory or (), bounds=bounds)
    if out is not None:
        comparison.make_folder(out, force=force)
    if plots is not None:
        from tracereplay.report.plots import check_plots

        check_plots(plots, force=force)
    with progress_bar(f"replaying {len(scenarios)} scenarios", per_second="rows") as progress:
        result = comparison.compare(
            opened,
            scenarios,
            **options.of_replays(),
            progress=progress,
            meanwhile=None if out is None else _load_report_script,
            command=["tracereplay", *sys.argv[1:]],
        )
    note(f"content: {result.run['content']}; costs: {result.run['costs']['name']}")
    for line in result.run["notes"]:
        note(f"note: {line}")

    def as_table(console: Any) -> None:
        render_table(result.summary, result.latency, result.run, console)
        for line in codec_lines(result.codecs):
            typer.echo(line)

    frames = (result.summary, result.latency, result.footprint, result.run)
    with written_first(lambda: print_result(format, result, as_table)) as wrote:
        if out is not None:
            from tracereplay.report.html import write_html

            for path in result.write(out, force=force):
                wrote(path)
            write_html(out / "report.html", *frames, force=force)
            wrote(out / "report.html")
        if plots is not None:
            from tracereplay.report.plots import write_plots

            for path in write_plots(plots, *frames, force=force):
                wrote(path)


def _load_report_script() -> None:
    from tracereplay.report.html import load_library

    load_library()

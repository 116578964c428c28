"""`compare`: replay a trace once per scenario and say which policy costs what."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from tracereplay.cli.app import app, note, stderr_console, written_first
from tracereplay.cli.options import Force, Memory, ModelOptions, Traces, with_options


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
            help="Add the baseline no-zswap and the bound unlimited-memory.",
        ),
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder for the tables and the report."),
    ] = None,
    format: Annotated[
        Literal["table", "json", "csv"],
        typer.Option("--format", help="What to print."),
    ] = "table",
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
    from tracereplay.report import table
    from tracereplay.report.codecs import codec_lines
    from tracereplay.trace import open_trace

    opened = open_trace(*trace)
    scenarios = options.scenarios(opened, memory=memory or (), bounds=bounds)
    if out is not None:
        comparison.make_folder(out, force=force)
    if plots is not None:
        from tracereplay.report.plots import check_plots

        check_plots(plots, force=force)
    with _progress(len(scenarios)) as progress:
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

    def show() -> None:
        if format != "table":
            to_text = table.to_json if format == "json" else table.to_csv
            typer.echo(to_text(result.summary, result.latency, result.run).rstrip("\n"))
            return
        from rich.console import Console

        table.render_table(result.summary, result.latency, result.run, Console())
        for line in codec_lines(result.codecs):
            typer.echo(line)

    frames = (result.summary, result.latency, result.footprint, result.run)
    with written_first(show) as wrote:
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


class _progress:  # noqa: N801  (reads as a function where it is used)
    """A bar on stderr where that is a terminal; nothing otherwise."""

    def __init__(self, scenarios: int) -> None:
        self._scenarios = scenarios

    def __enter__(self) -> Callable[[int, int], None] | None:
        if not sys.stderr.isatty():  # asked first: half of what rich takes to import is the bar
            self._bar = None
            return None
        from rich.progress import Progress, TextColumn, TimeRemainingColumn

        console = stderr_console()
        self._bar = Progress(
            *Progress.get_default_columns()[:3],
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]}"),
            console=console,
            transient=True,
        )
        self._bar.start()
        task = self._bar.add_task(f"replaying {self._scenarios} scenarios", total=None, rate="")

        def update(done: int, rows: int) -> None:
            assert self._bar is not None
            speed = self._bar.tasks[0].speed or 0
            self._bar.update(task, completed=done, total=rows, rate=f"{speed / 1e6:.1f} M rows/s")

        return update

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

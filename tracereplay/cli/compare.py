"""`compare`: replay a trace once per scenario and say which policy costs what."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer

from tracereplay.cli.app import app, flush, note, stderr_console

_MODEL = "Model"
_CONTENT = "Contents and costs"
_OUTPUT = "Output"


def complete_policy(incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield the policies that begin so, with their one line."""
    from tracereplay.policies import POLICIES

    yield from (
        (policy.name, policy.summary)
        for policy in POLICIES.values()
        if policy.name.startswith(incomplete)
    )


def complete_reclaim(incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield the reclaim models that begin so, with their one line."""
    from tracereplay.reclaim import RECLAIM

    yield from (
        (model.name, model.summary)
        for model in RECLAIM.values()
        if model.name.startswith(incomplete)
    )


@app.command(
    epilog="Example: tracereplay compare web.parquet -p store-raw -p keep-on-reject -m 512MiB"
)
def compare(
    trace: Annotated[
        list[Path],
        typer.Argument(help="Trace table written by `ingest`; several are read in turn."),
    ],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            "--policy",
            autocompletion=complete_policy,
            help="What becomes of a page; repeatable, or `all`. See `tracereplay policies`.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    memory: Annotated[
        list[str] | None,
        typer.Option(
            "-m",
            "--memory",
            help="Memory limit: a size, or a percentage of the trace's footprint; repeatable. "
            "Default 50%.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    reclaim: Annotated[
        list[str] | None,
        typer.Option(
            "-r",
            "--reclaim",
            autocompletion=complete_reclaim,
            help="Which page leaves memory: two-list (default), mglru, lru, opt; repeatable.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    kernel: Annotated[
        str,
        typer.Option(
            "--kernel", help="Whose rules: 6.1, 6.12, 6.18, 7.2, 7.3.", rich_help_panel=_MODEL
        ),
    ] = "6.18",
    cgroup: Annotated[
        Literal["v1", "v2"],
        typer.Option("--cgroup", help="v2 charges the pool to the cgroup.", rich_help_panel=_MODEL),
    ] = "v2",
    codec: Annotated[
        list[str] | None,
        typer.Option(
            "--codec", help="Compressor; repeatable. Default lzo.", rich_help_panel=_MODEL
        ),
    ] = None,
    allocator: Annotated[
        str,
        typer.Option("--allocator", help="zsmalloc, zbud, z3fold, ideal.", rich_help_panel=_MODEL),
    ] = "zsmalloc",
    pool_limit: Annotated[
        str | None,
        typer.Option(
            "--pool-limit",
            help="Limit of the zswap pool: a size, or a percentage of --ram. Default 20%.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    ram: Annotated[
        str,
        typer.Option("--ram", help="Memory of the machine.", rich_help_panel=_MODEL),
    ] = "16GiB",
    accept_threshold: Annotated[
        int,
        typer.Option(
            "--accept-threshold",
            help="zswap accepts again below this percentage of its limit.",
            rich_help_panel=_MODEL,
        ),
    ] = 90,
    zswap_max: Annotated[
        str | None,
        typer.Option("--zswap-max", help="memory.zswap.max.", rich_help_panel=_MODEL),
    ] = None,
    swap_size: Annotated[
        str | None,
        typer.Option(
            "--swap-size",
            help="Size of swap. Default: as large as needed.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    page_cluster: Annotated[
        int,
        typer.Option(
            "--page-cluster",
            help="vm.page-cluster: log2 of the readahead window.",
            rich_help_panel=_MODEL,
        ),
    ] = 3,
    swappiness: Annotated[
        int, typer.Option("--swappiness", help="0 to 200.", rich_help_panel=_MODEL)
    ] = 60,
    stat_flush: Annotated[
        str,
        typer.Option(
            "--stat-flush",
            help="How stale the cgroup statistics are that reclaim decides with: a time, "
            "or `exact`.",
            rich_help_panel=_MODEL,
        ),
    ] = "2s",
    flush_phases: Annotated[
        int,
        typer.Option(
            "--flush-phases",
            min=1,
            help="Replay so many phases of the flush: when it falls decides whether stale "
            "statistics end in an OOM kill. Needs a trace with a clock.",
            rich_help_panel=_MODEL,
        ),
    ] = 5,
    bounds: Annotated[
        bool,
        typer.Option(
            "--bounds/--no-bounds",
            help="Add the baseline no-zswap and the bound unlimited-memory.",
            rich_help_panel=_MODEL,
        ),
    ] = True,
    device: Annotated[
        str,
        typer.Option(
            "--device", help="Swap device: nvme, ssd, hdd, none.", rich_help_panel=_CONTENT
        ),
    ] = "nvme",
    costs: Annotated[
        Path | None,
        typer.Option(
            "--costs", help="Cost table written by `calibrate`.", rich_help_panel=_CONTENT
        ),
    ] = None,
    pages: Annotated[
        Path | None,
        typer.Option("--pages", help="Page contents written by `pages`.", rich_help_panel=_CONTENT),
    ] = None,
    content: Annotated[
        str | None,
        typer.Option(
            "--content",
            help="Bundled contents: redis-json, python-objects, sqlite-log, constant:SIZE, "
            "NAME+30%raw. Default redis-json.",
            rich_help_panel=_CONTENT,
        ),
    ] = None,
    rewrite_entropy: Annotated[
        float,
        typer.Option(
            "--rewrite-entropy",
            min=0,
            max=1,
            help="Probability that a written page has other contents when it is evicted again.",
            rich_help_panel=_CONTENT,
        ),
    ] = 0.0,
    touch_ns: Annotated[
        int,
        typer.Option(
            "--touch-ns",
            help="Time between two touches of a trace without a clock.",
            rich_help_panel=_CONTENT,
        ),
    ] = 100,
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of every draw.", rich_help_panel=_CONTENT)
    ] = 0,
    jobs: Annotated[
        int | None,
        typer.Option("-j", "--jobs", help="Scenarios side by side.", rich_help_panel=_OUTPUT),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="Folder for the tables and the report.", rich_help_panel=_OUTPUT
        ),
    ] = None,
    format: Annotated[
        Literal["table", "json", "csv"],
        typer.Option("--format", help="What to print.", rich_help_panel=_OUTPUT),
    ] = "table",
    plots: Annotated[
        Path | None,
        typer.Option(
            "--plots",
            metavar="DIR",
            help="Also draw the figures there, as SVG and PNG.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite results.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Replay a trace once per zswap policy and compare.

    Swap-in latency, memory and the danger of reclaim, one row per scenario.
    """
    from tracereplay import comparison
    from tracereplay.report import table
    from tracereplay.report.codecs import codec_lines
    from tracereplay.trace import open_trace

    opened = open_trace(*trace)
    scenarios = comparison.make_scenarios(
        opened,
        policies=policy or (),
        memory=memory or (),
        reclaim=reclaim or (),
        codecs=codec or (),
        pool_limit=pool_limit,
        ram=ram,
        swap_size=swap_size,
        zswap_max=zswap_max,
        stat_flush=stat_flush,
        bounds=bounds,
        kernel=kernel,
        cgroup=cgroup,
        allocator=allocator,
        accept_threshold_percent=accept_threshold,
        page_cluster=page_cluster,
        swappiness=swappiness,
        device=device,
        touch_ns=touch_ns,
    )
    if out is not None:
        comparison.make_folder(out, force=force)
    with _progress(len(scenarios)) as progress:
        result = comparison.compare(
            opened,
            scenarios,
            pages=pages,
            content=content,
            costs=costs,
            seed=seed,
            jobs=jobs,
            flush_phases=flush_phases,
            rewrite_entropy=rewrite_entropy,
            progress=progress,
            meanwhile=None if out is None else _load_report_script,
            command=["tracereplay", *sys.argv[1:]],
        )
    note(f"content: {result.run['content']}; costs: {result.run['costs']['name']}")
    for line in result.run["notes"]:
        note(f"note: {line}")
    if format == "table":
        from rich.console import Console

        table.render_table(result.summary, result.latency, result.run, Console())
        for line in codec_lines(result.codecs):
            typer.echo(line)
    else:
        to_text = table.to_json if format == "json" else table.to_csv
        typer.echo(to_text(result.summary, result.latency, result.run).rstrip("\n"))
    flush()
    frames = (result.summary, result.latency, result.footprint, result.run)
    if out is not None:
        from tracereplay.report.html import write_html

        for path in result.write(out, force=force):
            note(f"wrote {path}")
        write_html(out / "report.html", *frames, force=force)
        note(f"wrote {out / 'report.html'}")
    if plots is not None:
        from tracereplay.report.plots import write_plots

        for path in write_plots(plots, *frames, force=force):
            note(f"wrote {path}")


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

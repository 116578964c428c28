"""`curve`: misses at every memory size from one pass."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracereplay.cli.app import app, note, written_first
from tracereplay.cli.options import Force, OutputFormat
from tracereplay.replay.settings import Scenario

if TYPE_CHECKING:
    import polars as pl

    from tracereplay.trace import Trace


@app.command(
    epilog="Example: tracereplay curve web.parquet --sizes 64MiB,128MiB,50% -o curve.parquet"
)
def curve(
    trace: Annotated[Path, typer.Argument(help="Trace table written by `ingest`.")],
    sizes: Annotated[
        list[str] | None,
        typer.Option(
            "--sizes",
            help="Memory sizes, separated by commas; a percentage is of the footprint. "
            "Default: every whole number of pages.",
        ),
    ] = None,
    by_pid: Annotated[
        bool,
        typer.Option(
            "--by-pid",
            help="One curve per process, each with memory of its own.",
        ),
    ] = False,
    distances: Annotated[
        bool,
        typer.Option(
            "--distances",
            help="Hits by stack distance, the number of other pages since a page's last use.",
        ),
    ] = False,
    sample: Annotated[
        str | None,
        typer.Option(
            "--sample",
            help="Estimate from a sample: 1% of the pages (8192 pages where 1% would be fewer), or a "
            "number of pages, as 20000, which also bounds the memory it takes.",
        ),
    ] = None,
    pool: Annotated[
        list[str] | None,
        typer.Option(
            "--pool",
            help="Limits of a pool of compressed pages behind each of --sizes, separated by commas; "
            "every pair is answered in one pass.",
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            "-p",
            "--policy",
            help="With --pool: store-raw (the default) or swap-on-reject; others need `compare`.",
        ),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option("--codec", help=f"With --pool: compressor, {Scenario.codec} by default."),
    ] = None,
    pages: Annotated[
        Path | None,
        typer.Option("--pages", help="With --pool: page table written by `pages`."),
    ] = None,
    content: Annotated[
        str | None,
        typer.Option("--content", help="With --pool: a bundled distribution."),
    ] = None,
    seed: Annotated[
        int,
        typer.Option("--seed", help="Chooses the sample, and contents."),
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Parquet file for the curve."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            help="Draw the curve there, as .svg or .png, with the knees marked.",
        ),
    ] = None,
    format: OutputFormat = "table",
    force: Force = False,
) -> None:
    """Misses of an exact LRU at every memory size.

    One pass over the trace answers all of them.

    Folded repeats count as accesses that hit. A knee is a size beyond which more memory wins less.
    """
    from tracereplay.errors import SettingsError
    from tracereplay.files import check_free, write_table
    from tracereplay.schema import COVERAGES
    from tracereplay.trace import open_trace

    for file in (out, plot):
        if file is not None:
            check_free(file, force=force)
    if plot is not None and (pool or plot.suffix not in (".svg", ".png")):
        raise SettingsError("--plot draws a curve without --pool into a file .svg or .png")
    given = {"--policy": policy, "--codec": codec, "--pages": pages, "--content": content}
    for option, value in given.items():
        if value is not None and not pool:
            raise SettingsError(f"{option} says what is in a pool: give --pool as well")
    if distances and (sizes or sample is not None or pool or plot is not None):
        raise SettingsError("--distances takes neither --sizes, --sample, --pool nor --plot")
    if pool and (sample is not None or by_pid or not sizes):
        raise SettingsError("--pool needs --sizes, and neither --sample nor --by-pid")
    if sample is not None and by_pid:
        raise SettingsError("--sample answers for all processes together; leave --by-pid out")
    opened = open_trace(trace)
    wanted = _sizes_in_bytes(sizes, opened) if sizes else None
    if wanted == []:
        raise SettingsError("--sizes has no size in it; write 64MiB,128MiB,50%")
    if pool:
        frame = _pool_curve(opened, wanted, pool, policy, codec, pages, content, seed)
    else:
        frame = _curve(opened, wanted, by_pid=by_pid, distances=distances, sample=sample, seed=seed)
    if warning := COVERAGES[opened.coverage].warning:
        note(f"note: coverage {opened.coverage}: {warning}")
    for line in opened.notes:
        note(f"note: {line}")

    def show() -> None:
        if format == "json":
            typer.echo(frame.write_json())
        elif format == "csv":
            typer.echo(frame.write_csv(), nl=False)
        else:
            from rich.console import Console

            from tracereplay.report import curve_tables

            console = Console(highlight=False, markup=False)
            if pool:
                curve_tables.render_pools(frame, console)
            elif distances:
                curve_tables.render_distances(frame, console)
            else:
                curve_tables.render_curve(frame, console, every_size=wanted is None)

    with written_first(show) as wrote:
        if out is not None:
            write_table(frame, out, force=force)
            wrote(out)
        if plot is not None:
            from tracereplay.report.miss_curve import write_curve_plot

            write_curve_plot(plot, frame, opened.name, force=force)
            wrote(plot)


def _curve(
    trace: Trace,
    sizes: list[int] | None,
    *,
    by_pid: bool,
    distances: bool,
    sample: str | None,
    seed: int,
) -> pl.DataFrame:
    from tracereplay import miss_curve

    if distances:
        return miss_curve.reuse_distances(trace, by_pid=by_pid)
    if sample is None:
        return miss_curve.curve(trace, sizes, by_pid=by_pid)
    rate, kept = _sample_of(sample)
    return miss_curve.sampled_curve(trace, sizes, rate=rate, pages=kept, seed=seed)


def _pool_curve(
    trace: Trace,
    sizes: list[int] | None,
    pool: list[str],
    policy: str | None,
    codec: str | None,
    pages: Path | None,
    content: str | None,
    seed: int,
) -> pl.DataFrame:
    from tracereplay import miss_curve
    from tracereplay.content import open_content

    contents = open_content(pages, content, codec or Scenario.codec, seed)
    limits = _sizes_in_bytes(pool, trace)
    frame = miss_curve.pool_curve(
        trace, sizes or [], limits, contents, policy=policy or "store-raw"
    )
    note(f"note: contents {contents.describe()}")
    note("note: a full pool writes back its oldest pages; `compare` has the kernel's rules")
    return frame


def _sizes_in_bytes(sizes: list[str], trace: Trace) -> list[int]:
    from tracereplay.units import PAGE_BYTES, parse_size_or_percent

    texts = [text for option in sizes for text in option.split(",") if text.strip()]
    footprint_bytes = 0
    if any("%" in text for text in texts):
        footprint_bytes = trace.unique_pages * PAGE_BYTES
    return [parse_size_or_percent(text, footprint_bytes, of="the footprint") for text in texts]


def _sample_of(text: str) -> tuple[float, int]:
    """Return the rate and the pages to keep, for "1%" or for a number of pages."""
    from tracereplay.errors import SettingsError
    from tracereplay.sampling import DEFAULT_PAGES

    stripped = text.strip()
    try:
        if stripped.endswith("%"):
            rate = float(stripped[:-1]) / 100
            if 0 < rate <= 1:
                return rate, DEFAULT_PAGES
        elif int(stripped) >= 256:
            return 0.0, int(stripped)
    except ValueError:
        pass
    raise SettingsError(f"--sample {text}: write 1%, or a number of pages from 256 on")

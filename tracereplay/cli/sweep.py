"""`sweep`: many comparisons by a plan, resumed where it was left."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracereplay.cli.app import app, flush, note, print_result, written_first
from tracereplay.cli.options import OutputFormat

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from tracereplay.errors import TracereplayError
    from tracereplay.sweep import Job


@app.command(epilog="Example: tracereplay sweep plan.toml -o fleet")
def sweep(
    plan: Annotated[
        Path,
        typer.Argument(
            metavar="PLAN.toml",
            help='traces = ["web.parquet", "db-*.parquet"], and what `compare` is told, in the same '
            'words: policy = ["store-raw", "shrinker"], memory = "50%". A list gives every combination, '
            "each [[variant]] other settings; {trace} in `pages` is the trace's own name.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            help="Folder: one folder a job, and tables of all.",
        ),
    ],
    jobs: Annotated[
        int | None, typer.Option("-j", "--jobs", min=1, help="Scenarios side by side.")
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(
            "--dask",
            metavar="ADDRESS",
            help="Run the jobs on the workers of this Dask scheduler, which see the same folders.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the command of each job that is not done, for any other scheduler; a sweep "
            "afterwards joins what they wrote.",
        ),
    ] = False,
    format: OutputFormat = "table",
    force: Annotated[bool, typer.Option("--force", help="Run jobs that are done, too.")] = False,
) -> None:
    """Compare many traces and settings by a plan.

    Each job is one `compare`. Those that are done, by the same settings on the same files, are passed
    over; a job that fails is named, and the others go on.
    """
    from tracereplay import sweep as sweeping
    from tracereplay.errors import TracereplayError
    from tracereplay.report.html import write_html
    from tracereplay.report.table import render_winners

    planned = sweeping.read_plan(plan, out)
    left = [job for job in planned if force or not sweeping.is_done(job)]
    if dry_run:
        for line in sweeping.commands(left):
            typer.echo(line)
        flush()
        return
    sweeping.check_folder(out, force=force)
    if len(left) < len(planned):
        note(f"{len(planned) - len(left)} of {len(planned)} jobs are done already")
    ended = 0

    def tell(job: Job, end: float | TracereplayError) -> None:
        nonlocal ended
        ended += 1
        said = f"failed: {end}" if isinstance(end, TracereplayError) else f"{end:.1f} s"
        note(f"{ended} of {len(left)}: {job.name}: {said}")

    with _executor(dask if left else None) as executor:
        failed = sweeping.run_jobs(left, threads=jobs, executor=executor, on_end=tell)
    done = [job for job in planned if sweeping.is_done(job)]
    if done:
        result = sweeping.join(done, ["tracereplay", *sys.argv[1:]])
        for line in result.run["notes"]:
            note(f"note: {line}")
        frames = (result.summary, result.latency, result.footprint, result.run)

        def as_table(console: Any) -> None:
            render_winners(result.summary, result.latency, console)

        with written_first(lambda: print_result(format, result, as_table)) as wrote:
            for path in result.write(out, force=True):
                wrote(path)
            write_html(out / "report.html", *frames, force=True)
            wrote(out / "report.html")
    if failed:
        note(f"{failed} of {len(planned)} jobs failed; the others are in the tables")
        raise typer.Exit(1)


@contextmanager
def _executor(dask: str | None) -> Iterator[Executor | None]:
    """Yield what runs the jobs: None does it here."""
    if dask is None:
        yield None
        return
    from tracereplay.errors import HostError

    try:
        from distributed import Client
    except ImportError as error:
        raise HostError(
            "--dask needs the package `distributed`: pip install distributed"
        ) from error
    try:
        client = Client(dask, timeout="10s")
    except (OSError, ValueError, TypeError) as error:
        raise HostError(f"{dask}: no Dask scheduler answers: {error}") from error
    try:
        yield client.get_executor(pure=False)
    finally:
        client.close()

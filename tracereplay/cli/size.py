"""`size`: the smallest memory that meets a target, per policy and codec."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tracereplay.cli.app import app, flush, note
from tracereplay.cli.compare import complete_policy, complete_reclaim

if TYPE_CHECKING:
    from tracereplay.sizing import Sizing

_MODEL = "Model"
_CONTENT = "Contents and costs"
_OUTPUT = "Output"


@contextmanager
def _round_bar() -> Iterator[Callable[[int, int], None] | None]:
    """Show rounds of the search on stderr where it is a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("rounds", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@app.command(epilog="Example: tracereplay size web.parquet --target 'p99<50us' -p store-raw")
def size(
    trace: Annotated[
        list[Path],
        typer.Argument(help="Trace table written by `ingest`; several are read in turn."),
    ],
    target: Annotated[
        list[str],
        typer.Option(
            "--target",
            help="p50, p90, p99, p999, max or mean of swap-ins, or a column of the summary, as "
            "'p99<50us' or 'stall_ratio<1%'; repeatable, all must hold.",
        ),
    ],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            "--policy",
            autocompletion=complete_policy,
            help="What becomes of a page; repeatable, or `all`.",
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
    codec: Annotated[
        list[str] | None,
        typer.Option(
            "--codec", help="Compressor; repeatable. Default lzo.", rich_help_panel=_MODEL
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
    pool_limit: Annotated[
        str | None,
        typer.Option(
            "--pool-limit",
            help="Limit of the zswap pool: a size, or a percentage of --ram. Default 20%.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    ram: Annotated[
        str, typer.Option("--ram", help="Memory of the machine.", rich_help_panel=_MODEL)
    ] = "16GiB",
    precision: Annotated[
        float,
        typer.Option(
            "--precision", min=0.05, max=20, help="Last step of the search, % of the footprint."
        ),
    ] = 1.0,
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
            "--content", help="Bundled contents, as for `compare`.", rich_help_panel=_CONTENT
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of contents and latencies.")] = 0,
    jobs: Annotated[
        int | None, typer.Option("-j", "--jobs", min=1, help="Scenarios side by side.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="Write the curve it saw (Parquet).", rich_help_panel=_OUTPUT
        ),
    ] = None,
    format: Annotated[
        Literal["table", "json"],
        typer.Option("--format", help="What to print.", rich_help_panel=_OUTPUT),
    ] = "table",
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the output.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Find the smallest memory that meets every target.

    Per policy and codec, by replaying.
    """
    from tracereplay import comparison, sizing
    from tracereplay.files import check_free, replacing
    from tracereplay.trace import open_trace

    targets = [sizing.parse_target(text) for text in target]
    if out is not None:
        check_free(out, force=force)
    opened = open_trace(*trace)
    scenarios = comparison.make_scenarios(
        opened,
        policies=policy or ("no-zswap", "swap-on-reject", "store-raw"),
        memory=("100%",),
        reclaim=reclaim or (),
        codecs=codec or (),
        pool_limit=pool_limit,
        ram=ram,
        bounds=False,
        kernel=kernel,
        cgroup=cgroup,
        device=device,
    )
    with _round_bar() as progress:
        found = sizing.find_sizes(
            opened,
            targets,
            scenarios,
            precision=precision / 100,
            pages=pages,
            content=content,
            costs=costs,
            seed=seed,
            jobs=jobs,
            progress=progress,
        )
    note(f"contents: {found.run['content']}")
    for line in found.run["notes"]:
        note(f"note: {line}")
    if format == "json":
        import json

        typer.echo(
            json.dumps({"sizes": found.sizes.to_dicts(), "curve": found.curve.to_dicts()}, indent=1)
        )
    else:
        _print_table(found, [each.text for each in targets])
    flush()
    if out is not None:
        with replacing(out, force=force) as part:
            found.curve.write_parquet(part)
        note(f"wrote {out}")


def _print_table(found: Sizing, targets: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    from tracereplay.units import format_size

    table = Table(title="Smallest memory that meets " + " and ".join(targets))
    for name in ("policy", "reclaim", "codec", "memory", "± step", *targets, "confidence"):
        table.add_column(name, justify="left" if name in ("policy", "confidence") else "right")
    for row in found.sizes.iter_rows(named=True):
        size_bytes, step = row["memory_limit_bytes"], row["step_bytes"]
        table.add_row(
            row["policy"],
            row["reclaim"],
            row["codec"],
            "none" if size_bytes is None else format_size(size_bytes),
            "" if not step else format_size(step),
            *("" if row[name] is None else f"{row[name]:,.4g}" for name in targets),
            row["confidence"],
        )
    Console().print(table)

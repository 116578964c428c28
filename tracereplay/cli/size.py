"""`size`: the smallest memory that meets a target, per policy and codec."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracereplay.cli.app import app, note, progress_bar, written_first
from tracereplay.cli.options import (
    SIZED_POLICIES,
    Force,
    ModelOptions,
    OutputFormat,
    Traces,
    with_options,
)

if TYPE_CHECKING:
    from tracereplay.sizing import Sizing, Target


@app.command(epilog="Example: tracereplay size web.parquet --target 'p99<50us' -p store-raw")
@with_options
def size(
    trace: Traces,
    target: Annotated[
        list[str],
        typer.Option(
            "--target",
            help="p50, p90, p99, p999, max or mean of swap-ins, or a column of the summary, as "
            "'p99<50us' or 'stall_ratio<1%'; repeatable, all must hold.",
        ),
    ],
    options: ModelOptions,
    precision: Annotated[
        float,
        typer.Option(
            "--precision", min=0.05, max=20, help="Last step of the search, % of the footprint."
        ),
    ] = 1.0,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Write the curve it saw (Parquet)."),
    ] = None,
    format: OutputFormat = "table",
    force: Force = False,
) -> None:
    """Find the smallest memory that meets every target.

    Per policy and codec, by replaying.
    """
    import json

    from tracereplay import sizing
    from tracereplay.files import check_free, write_table
    from tracereplay.trace import open_trace

    targets = [sizing.parse_target(text) for text in target]
    if out is not None:
        check_free(out, force=force)
    opened = open_trace(*trace)
    scenarios = options.scenarios(opened, policies=SIZED_POLICIES, memory=("100%",))
    with progress_bar("rounds") as progress:
        found = sizing.find_sizes(
            opened,
            targets,
            scenarios,
            precision=precision / 100,
            **options.of_replays(),
            progress=progress,
        )
    note(f"contents: {found.run['content']}")
    for line in found.run["notes"]:
        note(f"note: {line}")

    def show() -> None:
        if format == "json":
            both = {"sizes": found.sizes.to_dicts(), "curve": found.curve.to_dicts()}
            typer.echo(json.dumps(both, indent=1))
        elif format == "csv":
            typer.echo(found.sizes.write_csv(), nl=False)
        else:
            _print_table(found, targets)

    with written_first(show) as wrote:
        if out is not None:
            write_table(found.curve, out, force=force)
            wrote(out)


def _print_table(found: Sizing, targets: Sequence[Target]) -> None:
    from rich.console import Console
    from rich.table import Table

    from tracereplay.sizing import shown_value
    from tracereplay.units import format_size

    several = [name for name in ("reclaim", "codec") if found.sizes[name].n_unique() > 1]
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("policy", no_wrap=True, overflow="fold")
    for name in (*several, "memory", "± step", "in all", *(each.text for each in targets)):
        table.add_column(name, justify="right", no_wrap=name not in several, overflow="fold")
    remarks: dict[str, list[str]] = {}
    for row in found.sizes.iter_rows(named=True):
        size_bytes, step = row["memory_limit_bytes"], row["step_bytes"]
        table.add_row(
            row["policy"],
            *(row[name] for name in several),
            "none" if size_bytes is None else format_size(size_bytes),
            "" if not step else format_size(step),
            "" if size_bytes is None else format_size(row["in_all_bytes"]),
            *(shown_value(each.column, row[each.text]) for each in targets),
        )
        name = " ".join([row["policy"], *(row[name] for name in several)])
        remarks.setdefault(row["confidence"], []).append(name)
    said = "smallest memory that meets " + " and ".join(each.text for each in targets)
    typer.echo(said)
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print()
    for remark, names in remarks.items():
        console.print(remark if len(remarks) == 1 else f"{', '.join(names)}: {remark}")

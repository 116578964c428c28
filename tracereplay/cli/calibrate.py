"""`calibrate`: codec, memory and device latency of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracereplay.cli.app import app, note

_DEVICE = "Device"
_OUTPUT = "Output"


@app.command(epilog="Example: tracereplay calibrate --directory /var/tmp -o costs.json")
def calibrate(
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Cost table to write.", rich_help_panel=_OUTPUT)
    ],
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory",
            help="Test the device below this folder, on a file that vanishes afterwards.",
            rich_help_panel=_DEVICE,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            help="Name of the measured device. Default: nvme, ssd or hdd, as the kernel says.",
            rich_help_panel=_DEVICE,
        ),
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds",
            min=0.2,
            max=600,
            help="Length of the device test.",
            rich_help_panel=_DEVICE,
        ),
    ] = 5.0,
    size: Annotated[
        str, typer.Option("--size", help="Size of the test file.", rich_help_panel=_DEVICE)
    ] = "256MiB",
    pages: Annotated[
        str | None,
        typer.Option(
            "--pages",
            metavar="PID|CORE|FILE",
            help="Time the codecs on these pages. Default: generated ones.",
        ),
    ] = None,
    codec: Annotated[
        list[str] | None, typer.Option("--codec", help="Only this one; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of generated pages and addresses.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the output.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Measure what codecs, memory and a device cost here.

    `compare --costs` takes the table.
    """
    import json

    from tracereplay.files import check_free, replacing
    from tracereplay.host import calibrate as host
    from tracereplay.units import format_duration, parse_size

    check_free(out, force=force)
    table, notes = host.calibrate(
        directory=directory,
        device=device,
        pages=pages,
        codecs=codec or (),
        seconds=seconds,
        size_bytes=parse_size(size),
        seed=seed,
        progress=lambda what: note(f"measuring {what}"),
    )
    with replacing(out, force=force) as part:
        part.write_text(json.dumps(table, indent=1) + "\n")
    for line in notes:
        note(f"note: {line}")
    for name, figures in table["codecs"].items():
        mean = figures["pages"]["mean_bytes"]
        both = [
            format_duration(
                figures[f"{what}_ns"]["value"] + figures[f"{what}_ns_per_byte"]["value"] * mean
            )
            for what in ("compress", "decompress")
        ]
        note(f"{name}: {mean:,.0f} bytes a page, compress {both[0]}, decompress {both[1]}")
    for name, figures in table["devices"].items():
        points = dict(figures["read_ns"]["quantiles"])
        note(
            f"{name}: read p50 {format_duration(points[0.5])}, p99 {format_duration(points[0.99])}, "
            f"{figures['channels']['value']:.0f} channels"
        )
    note(f"wrote {out}")

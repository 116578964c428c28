"""`calibrate`: codec, memory and device latency of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tracereplay.cli.app import app, note
from tracereplay.cli.options import Force

_LEAST_BYTES = 1 << 20


@app.command(epilog="Example: tracereplay calibrate --directory /var/tmp -o costs.json")
def calibrate(
    out: Annotated[Path, typer.Option("-o", "--out", help="Cost table to write.")],
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory",
            help="Test the device below this folder, on a file that vanishes afterwards.",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            help="Name of the measured device. Default: nvme, ssd or hdd, as the kernel says.",
        ),
    ] = None,
    own_swap: Annotated[
        bool,
        typer.Option(
            "--own-swap",
            help="Also time the kernel's own swapping, by a reference workload in a memory cgroup, "
            "with a swap file in --directory and zswap on; needs root, puts everything back. About "
            "two minutes.",
        ),
    ] = False,
    compressor: Annotated[
        str | None,
        typer.Option(
            "--compressor",
            help="zswap's, for --own-swap. Default: the one it has now.",
        ),
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds",
            min=0.2,
            max=600,
            help="Length of the device test.",
        ),
    ] = 5.0,
    size: Annotated[str, typer.Option("--size", help="Size of the test file.")] = "256MiB",
    pages: Annotated[
        str | None,
        typer.Option(
            "--pages",
            metavar="PID|CORE|FILE",
            help="Time the codecs on these pages. Default: those of this Python process.",
        ),
    ] = None,
    codec: Annotated[
        list[str] | None, typer.Option("--codec", help="Only this one; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of generated pages and addresses.")] = 0,
    force: Force = False,
) -> None:
    """Measure what codecs, memory and a device cost here.

    `compare --costs` takes the table.
    """
    import json

    from tracereplay.calibration import calibrate_swap
    from tracereplay.costs import ZRAM
    from tracereplay.errors import SettingsError
    from tracereplay.files import check_free, replacing
    from tracereplay.host import calibrate as host
    from tracereplay.units import format_duration, parse_size

    check_free(out, force=force)
    size_bytes = parse_size(size)
    if size_bytes < _LEAST_BYTES:
        raise SettingsError(f"--size {size}: 1 MiB or more of the device are read")
    options: dict[str, Any] = {
        "device": device,
        "pages": pages,
        "codecs": codec or (),
        "seconds": seconds,
        "size_bytes": size_bytes,
        "seed": seed,
        "progress": lambda what: note(f"measuring {what}"),
    }
    if own_swap:
        if directory is None:
            raise SettingsError("--own-swap needs --directory: a folder for the swap file")
        table, notes = calibrate_swap(directory, compressor, options, note)
    else:
        if compressor is not None:
            raise SettingsError("--compressor is for --own-swap, which sets zswap's")
        table, notes = host.calibrate(directory=directory, **options)
    with replacing(out, force=force) as part:
        part.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
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
        if name == ZRAM:
            load_ns, store_ns = (figures[f"{what}_extra_ns"]["value"] for what in ("load", "store"))
            note(f"zram against zswap: {load_ns:+,.0f} ns a load, {store_ns:+,.0f} ns a store")
            continue
        points = dict(figures["read_ns"]["quantiles"])
        note(
            f"{name}: read p50 {format_duration(points[0.5])}, p99 {format_duration(points[0.99])}, "
            f"{figures['channels']['value']:.0f} channels"
        )
    note(f"wrote {out}")
    words = [f"compare --costs {out}"]
    words += [f"--codec {name}" for name in list(table["codecs"])[:1]]
    words += [f"--device {name}" for name in list(table["devices"])[:1]]
    note(f"what was measured is used by: {' '.join(words)}")

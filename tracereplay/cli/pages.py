"""`pages`: compressed size per page of a process, a core or a memory image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracereplay.cli.app import app, note, progress_bar
from tracereplay.cli.options import Force


@app.command(epilog='Example: tracereplay pages "$(pidof redis-server)" -o redis.pages.parquet')
def pages(
    source: Annotated[
        str,
        typer.Argument(
            metavar="PID|CORE|FILE|FOLDER",
            help="A process, an ELF core, a raw memory image, or a folder of images.",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Page table to write.")],
    codec: Annotated[
        list[str] | None,
        typer.Option("--codec", help="Measure only this one; repeatable. Default: all there are."),
    ] = None,
    sample: Annotated[
        int | None, typer.Option("--sample", metavar="N", help="Measure N pages, drawn evenly.")
    ] = None,
    swapped: Annotated[
        bool, typer.Option("--swapped", help="Also swapped pages; this brings them into memory.")
    ] = False,
    file_pages: Annotated[
        bool, typer.Option("--file-pages", help="Also pages of files and shared memory.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of the sample.")] = 0,
    jobs: Annotated[
        int | None, typer.Option("-j", "--jobs", min=1, help="Threads. Default: all cores.")
    ] = None,
    force: Force = False,
) -> None:
    """Measure the compressed size of every page.

    With the kernel's own algorithms.

    Of a process, resident anonymous pages are read while it runs. The table joins with a trace of
    the same process by (pid, page): `compare --pages` takes it.
    """
    from tracereplay.files import check_free, write_table
    from tracereplay.host.pages import choose_columns, closing, measure_pages, open_source
    from tracereplay.schema import SCHEMA_VERSION

    check_free(out, force=force)
    columns, left_out = choose_columns(codec or ())
    with closing(open_source(source, swapped=swapped, file_pages=file_pages)) as opened:
        with progress_bar("pages") as progress:
            frame = measure_pages(
                opened, columns, sample=sample, seed=seed, threads=jobs, progress=progress
            )
        for line in (*left_out, *opened.notes):
            note(f"note: {line}")
    metadata = {"tracereplay.schema": SCHEMA_VERSION, "tracereplay.source": opened.name}
    write_table(frame, out, force=force, metadata=metadata)
    zero, same = int(frame["zero_filled"].sum()), int(frame["same_filled"].sum())
    note(f"{frame.height:,} pages, {zero:,} zero-filled, {same - zero:,} otherwise same-filled")
    for column in columns:
        mean = float(frame[column].cast(float).mean() or 0)  # type: ignore[arg-type]  # a number
        full = int((frame[column] == 4096).sum())
        note(f"{column[: -len('_bytes')]}: {mean:,.0f} bytes a page, {full:,} do not shrink")
    note(f"wrote {out}")

"""`report`: the page of a result again, from its Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracereplay.cli.app import app, note
from tracereplay.cli.options import Force


@app.command(epilog="Example: tracereplay report sqlite --force --plots sqlite/plots")
def report(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder written by `compare --out`.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="The page.  [default: DIR/report.html]"),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option("--plots", metavar="DIR", help="Also draw SVG and PNG there."),
    ] = None,
    force: Force = False,
) -> None:
    """Rebuild report.html from the Parquet files of a comparison."""
    from tracereplay.files import check_free
    from tracereplay.report.folder import read_result_folder
    from tracereplay.report.html import write_html

    target = folder / "report.html" if out is None else out
    tables = read_result_folder(folder)
    check_free(target, force=force)
    write_html(target, *tables, force=force)
    note(f"wrote {target}")
    if plots is not None:
        from tracereplay.report.plots import write_plots

        for path in write_plots(plots, *tables, force=force):
            note(f"wrote {path}")

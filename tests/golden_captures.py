"""Write tests/golden/captures/*.tsv from tests/captures/* (python tests/golden_captures.py); review the diff."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import polars as pl

from tracereplay.readers import Ingested, Options, ingest

CAPTURES = Path(__file__).parent / "captures"
GOLDEN = Path(__file__).parent / "golden" / "captures"
OPTIONS = {
    "python-sort.trace_pipe-lost.txt": Options(allow_lost=True),
    "python-sort.overrun.trace.txt": Options(allow_lost=True),
    "python-sort.lost.text.txt": Options(allow_lost=True),
    "burst.sw.lost-events.ns.txt": Options(allow_lost=True),
    "tree.tsc.trace.txt": Options(tick_ns=0.5),
}


def rows_of(capture: Path) -> str:
    """Return what ingest makes of a capture as text, or the error in one line."""
    from tracereplay.errors import TracereplayError

    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "t.parquet"
        try:
            done: Ingested = ingest(capture, table, options=OPTIONS.get(capture.name))
        except TracereplayError as error:
            return f"refused: {error}\n".replace(str(capture.parent) + "/", "")
        frame = pl.read_parquet(table).with_columns(pl.col(pl.Categorical).cast(pl.String))
    head = (
        f"# {done.formats[0]} coverage={done.coverage} unique_pages={done.unique_pages} "
        f"skipped={done.skipped_lines} lost={done.lost_events} "
        f"folded={done.folded_duplicates} accesses={done.accesses}\n"
    )
    return head + frame.write_csv(separator="\t", null_value="-")


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for capture in sorted(CAPTURES.iterdir()):
        (GOLDEN / f"{capture.name}.tsv").write_text(rows_of(capture))
        sys.stdout.write(f"{capture.name}\n")

"""DAMON and libCacheSim files: the same capture in several forms gives one table."""

from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from tracereplay.cli import app

FOREIGN = Path(__file__).parent / "foreign"


def read(name, out, *options):
    result = CliRunner().invoke(app, ["ingest", str(FOREIGN / name), "-o", str(out), *options])
    assert result.exit_code == 0, result.output
    return pl.read_parquet(out), result.stderr


def test_a_damon_recording_reads_alike_from_json_and_from_perf_text(tmp_path):
    tables = [
        read(name, tmp_path / f"{number}.parquet")[0]
        for number, name in enumerate(
            (
                "derived-phases.json.zst",
                "derived-phases.json_compressed",
                "derived-phases.perf-script.txt.zst",
            )
        )
    ]
    assert [table.height for table in tables] == [42_858] * 3
    pages = [table["page"].to_list() for table in tables]
    assert pages[0] == pages[1] == pages[2]
    coverage = pl.read_parquet_metadata(tmp_path / "0.parquet")["tracereplay.coverage"]
    assert coverage == "sampled-region"


@pytest.mark.parametrize("name", ["refault-pages.csv.zst", "refault-pages.oracleGeneral.bin"])
def test_libcachesim_files_hold_the_requests_they_say(tmp_path, name):
    table, said = read(name, tmp_path / "t.parquet")
    assert (table.height, table["page"].n_unique()) == (5320, 4151)
    assert "--id-is-page" in said


def test_ids_are_pages_where_the_user_says_so(tmp_path):
    _, said = read("refault-pages.csv.zst", tmp_path / "t.parquet", "--id-is-page")
    assert "--id-is-page" not in said

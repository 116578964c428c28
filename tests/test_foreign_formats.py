"""DAMON and libCacheSim files: the same capture in several forms gives one table."""

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from tracereplay.cli import app
from tracereplay.readers import ingest

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


RAW_REPORT = """base_time_absolute: 8 m 59.809 s
data source: unknown

monitoring_start:                0 ns
monitoring_end:            104.599 ms
monitoring_duration:       104.599 ms
target_id: 18446623438842320000
nr_regions: 3
# start_addr     end_addr        length  nr_accesses   age
563ebaa00000-563ebaa03000 (  12.000 KiB)          20    -1
563ebadf3000-563ebadf4000 (   4.000 KiB)           0    -1
7fff66b0a000-7fff66bb2000 ( 672.000 KiB): 7 1 m 2.500 s

monitoring_start:          104.599 ms
monitoring_end:                1.208 s
monitoring_duration:           1.103 s
target_id: 18446623438842320000
nr_regions: 1
# start_addr     end_addr        length  nr_accesses   age
563ebaaca000-563ebaacb000 (   4.000 KiB)          21    -1
"""


def test_damos_raw_report_gives_the_accesses_of_its_recording(tmp_path):
    """The same snapshots as damo's JSON would say them: same pages, times to the millisecond."""
    (tmp_path / "report").write_text(RAW_REPORT)
    snapshots = [
        (539_809_000_000, 539_913_599_000, [(0x563EBAA00000, 0x563EBAA03000, 20),
         (0x563EBADF3000, 0x563EBADF4000, 0), (0x7FFF66B0A000, 0x7FFF66BB2000, 7)]),
        (539_913_599_000, 541_017_000_000, [(0x563EBAACA000, 0x563EBAACB000, 21)]),
    ]  # fmt: skip
    written = [
        {
            "start_time": start,
            "end_time": end,
            "regions": [{"start": a, "end": b, "nr_accesses": n} for a, b, n in regions],
        }
        for start, end, regions in snapshots
    ]
    record = {"target_id": 18446623438842320000, "intervals": None, "snapshots": written}
    (tmp_path / "json").write_text(json.dumps([record]))
    said = ingest(tmp_path / "report", tmp_path / "r.parquet")
    ingest(tmp_path / "json", tmp_path / "j.parquet")
    assert (said.formats, said.coverage, said.bad_lines) == (["damon"], "sampled-region", 0)
    assert any("rounded" in note for note in said.notes)
    rows = pl.read_parquet(tmp_path / "r.parquet")
    assert rows.height > 40
    assert rows.equals(pl.read_parquet(tmp_path / "j.parquet"))

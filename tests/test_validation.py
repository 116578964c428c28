"""Recorded runs of real kernels, replayed: the model beside the kernel's own counters.

Tolerances are the kernel's own spread between repeats (0.3 to 1.8 % for faults and stores, where it
was repeated), doubled where a run was recorded once.
"""

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from tracereplay.cli import app
from tracereplay.validation import validate

RUNS = Path(__file__).parent / "kernel-runs"
COUNTERS = ("pgmajfault", "zswpin", "zswpout", "pswpin", "pswpout", "pool_pages")


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return validate(sorted(RUNS.glob("linux-*")))


def test_every_recorded_run_is_replayed(frame):
    names = {path.stem for path in RUNS.glob("linux-*/*.json")}
    assert set(frame["run"].unique()) == names


@pytest.mark.parametrize(
    ("run", "tolerance"),
    [
        ("loop", 0.012),
        ("zipf-half-incompressible", 0.012),
        ("6.12-lru-zipf12-hard-zsmalloc-lzo-p20", 0.025),
        ("6.1-lru-cgv1-shared-loop", 0.01),
        ("6.1-lru-cgv1-shared-zipf-half-incompressible", 0.01),
    ],
)
def test_faults_and_stores_are_within_the_kernels_own_spread(frame, run, tolerance):
    rows = frame.filter(
        (pl.col("run") == run) & pl.col("counter").is_in(COUNTERS) & (pl.col("kernel") >= 2000)
    )

    assert rows.height >= 3
    assert rows["error"].abs().max() <= tolerance, rows


def test_a_run_the_kernel_ended_by_an_oom_kill_ends_so(frame):
    ends = frame.filter(pl.col("counter") == "oom_events")
    for row in ends.iter_rows(named=True):
        assert row["model"] == row["kernel"], row
    killed = ends.filter(pl.col("kernel") == 1)["run"].to_list()
    assert killed == ["6.12-lru-zipf12-hard-zsmalloc-lzo-p20-wb0"]


def test_validate_prints_json_and_fails_beyond_max_error():
    folder = str(RUNS / "linux-6.1")
    result = CliRunner().invoke(app, ["validate", folder, "--format", "json"])
    assert result.exit_code == 0, result.output
    objects = json.loads(result.stdout)
    assert {"run", "counter", "kernel", "model", "error"} <= set(objects[0])

    strict = CliRunner().invoke(app, ["validate", folder, "--max-error", "0.0001%"])
    assert strict.exit_code == 1


def test_a_folder_without_runs_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["validate", str(tmp_path)])
    assert result.exit_code == 1
    assert "error:" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1

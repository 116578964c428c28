"""`traces/generate.py`: the traces of the recorded kernel runs come out touch by touch."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "tests" / "kernel-runs"


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "traces/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("run", "trace", "pages"),
    [
        ("loop", "linux-6.18/loop.trace.parquet", "linux-6.18/loop.pages.parquet"),
        (
            "zipf-half-incompressible",
            "linux-6.18/zipf-half-incompressible.trace.parquet",
            "linux-6.18/zipf-half-incompressible.pages.parquet",
        ),
        (
            "zipf12-hard",
            "linux-6.12/traces/zipf12-hard@432768.trace.parquet",
            "linux-6.12/traces/zipf12-hard.pages.parquet",
        ),
    ],
)
def test_a_recorded_run_is_made_again_touch_by_touch(generate, run, trace, pages):
    touched, is_write, lines = generate.RUNS[run]()
    recorded, table = pl.read_parquet(RUNS / trace), pl.read_parquet(RUNS / pages)
    rows = recorded.height
    assert np.array_equal(touched[:rows], recorded["page"].to_numpy())
    assert np.array_equal(is_write[:rows], recorded["is_write"].to_numpy())
    assert np.array_equal(lines, table["random_lines"].to_numpy())


def test_a_long_run_has_the_hash_that_was_recorded_with_it(generate):
    touched, is_write, _ = generate.RUNS["long-no-zswap"]()
    words = touched.astype("<u4") | is_write.astype("<u4") << np.uint32(31)
    digest = hashlib.sha256(words.astype("<u4").tobytes()).hexdigest()
    assert digest.startswith("a24bedab68e13fc6")


def test_the_command_writes_trace_and_page_table_side_by_side(tmp_path):
    out = tmp_path / "loop.parquet"
    command = [sys.executable, "traces/generate.py", "kernel-run", "--run", "loop", "-o", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, env={"PYTHONPATH": str(ROOT), "PATH": ""})
    recorded = pl.read_parquet(RUNS / "linux-6.18/loop.pages.parquet")
    written = pl.read_parquet(tmp_path / "loop.pages.parquet")
    assert written["lzo_bytes"].equals(recorded["lzo_bytes"])
    assert pl.read_parquet(out).height == 196608


def test_an_unknown_run_is_refused_with_those_there_are():
    command = [sys.executable, "traces/generate.py", "kernel-run", "--run", "x", "-o", "x.parquet"]
    done = subprocess.run(
        command, cwd=ROOT, check=False, capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 1
    assert "zipf-mild" in done.stderr


def test_programs_take_turns_in_quarters_of_the_pages(generate):
    made = np.concatenate(list(generate.batches("programs-mix", 300_000, 4000, 3, 1.0)))
    assert made.min() >= 0
    assert made.max() < 4000
    quarter = made // 1000
    assert np.bincount(quarter, minlength=4).min() > 50_000
    assert (np.diff(quarter) != 0).mean() < 1 / 400  # turns of 512 accesses

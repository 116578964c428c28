"""Long runs of a real kernel, with the times at which it brought its statistics up to date.

Which repeat stale statistics kill, and where, is decided by these times alone. The traces are
made anew by `traces/generate.py`, touch by touch.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tracereplay.validation import load_run, load_workload, replay_repeat, validate

ROOT = Path(__file__).parents[1]
RUNS = Path(__file__).parent / "kernel-runs-long"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Return a function that gives a recorded run and its record, the trace made beside it."""
    folder = tmp_path_factory.mktemp("long")

    def load(name):
        record = json.loads((RUNS / f"{name}.json").read_text())
        workload = name.removeprefix("zswap-")
        words = [
            "kernel-run",
            "--run",
            workload,
            "-o",
            str(folder / f"{workload}.parquet"),
            "--force",
        ]
        generate = [sys.executable, str(ROOT / "traces" / "generate.py"), *words]
        subprocess.run(generate, check=True, capture_output=True)
        files = {"trace": f"{workload}.parquet", "pages": f"{workload}.pages.parquet"}
        path = folder / f"{name}.json"
        path.write_text(json.dumps(record | files))
        return load_run(path), record

    return load


@pytest.mark.parametrize(
    ("name", "killed"), [("zswap-long-zipf-mild", 1), ("zswap-long-phases", 5)]
)
def test_the_very_repeats_that_the_kernel_killed_are_killed_where_it_killed_them(
    recorded, name, killed
):
    run, record = recorded(name)
    load = load_workload(run)
    assert sum(not repeat["finished"] for repeat in record["repeats"]) == killed

    for known, repeat in zip(run.replays, record["repeats"], strict=True):
        counters = replay_repeat(run, load, known)
        assert counters["finished"] == repeat["finished"]
        kernel = repeat["vmstat"]
        if repeat["finished"]:
            for counter in ("pgmajfault", "zswpin", "zswpout", "workingset_refault_anon"):
                assert abs(counters[counter] / kernel[counter] - 1) < 0.001, counter
            for counter in ("pgactivate", "pgdeactivate", "workingset_activate_anon"):
                assert abs(counters[counter] / kernel[counter] - 1) < 0.005, counter
        else:
            # The lists run empty a few percent earlier or later: a clock of 1,000 steps.
            assert abs(counters["oom_at_touch"] / repeat["killed"]["touch"] - 1) < 0.03
            assert abs(counters["pgactivate"] / kernel["pgactivate"] - 1) < 0.01


def test_after_a_kill_the_flush_goes_on_at_its_period(recorded):
    run, record = recorded("zswap-long-phases")
    for known, repeat in zip(run.replays, record["repeats"], strict=True):
        died = repeat["elapsed_us"][-1]
        told = [at for at in repeat["flush_us"] if at <= died]
        # The report of the kill flushes as well; that one is the replay's own.
        assert (known.reads_ns[: len(told)] // 1000).tolist() == told
        later = np.diff(known.reads_ns[len(told) - 1 :])
        assert later.size > 10
        assert (later == 2_016_000_000).all()


def test_without_these_times_every_phase_of_the_flush_is_replayed_and_most_are_killed(
    recorded, tmp_path
):
    run, record = recorded("zswap-long-phases")
    for repeat in record["repeats"]:
        del repeat["flush_us"]
    files = {"trace": str(run.trace), "pages": str(run.pages)}
    path = tmp_path / "zswap-long-phases.json"
    path.write_text(json.dumps(record | files))
    frame = validate([path], counters=["oom_events"])
    ends = frame.row(0, named=True)
    assert ends["kernel"] == 1
    assert 0.7 <= ends["model"] <= 1

"""`sweep`: what a plan becomes, what is done already, and that its tables are those of its jobs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from tracereplay.cli import app
from tracereplay.comparison import FLUSH_PHASES
from tracereplay.errors import InputError, SettingsError
from tracereplay.sweep import SETTINGS, commands, is_done, join, read_plan, run_jobs

PLAN = """
traces = ["*.parquet"]
policy = ["store-raw", "swap-on-reject"]
memory = "80%"
cgroup = ["v1", "v2"]
bounds = false
page-cluster = 0
stat-flush = "exact"
"""


def write_trace(path, pages, **footer):
    rng = np.random.default_rng(pages)
    touched = np.concatenate([np.arange(pages), rng.integers(0, pages, 4 * pages)])
    pl.DataFrame(
        {"page": touched.astype(np.uint64), "is_write": rng.random(touched.size) < 0.3}
    ).write_parquet(path, metadata={f"tracereplay.{key}": value for key, value in footer.items()})


@pytest.fixture
def place(tmp_path):
    """Return a folder with two traces and a plan of two jobs each."""
    write_trace(tmp_path / "a.parquet", 300)
    write_trace(tmp_path / "b.parquet", 400)
    (tmp_path / "plan.toml").write_text(PLAN)
    return tmp_path


def plan_of(folder, text):
    (folder / "plan.toml").write_text(text)
    return read_plan(folder / "plan.toml", folder / "out")


def invoke(folder, *options):
    return CliRunner().invoke(
        app, ["sweep", str(folder / "plan.toml"), "-o", str(folder / "out"), *options]
    )


def test_a_list_gives_every_combination_and_names_tell_what_differs(place):
    jobs = read_plan(place / "plan.toml", place / "out")
    assert [job.name for job in jobs] == [
        "a,cgroup=v1",
        "a,cgroup=v2",
        "b,cgroup=v1",
        "b,cgroup=v2",
    ]
    assert {job.label for job in jobs} == {"a", "b"}  # the tables have a column for cgroup
    assert jobs[0].settings == {
        "policy": ("store-raw", "swap-on-reject"),
        "memory": ("80%",),
        "cgroup": "v1",
        "bounds": False,
        "page-cluster": 0,
        "stat-flush": "exact",
    }
    assert jobs[0].command == [
        "tracereplay", "compare", str(place / "a.parquet"), "--policy", "store-raw", "--policy",
        "swap-on-reject", "--memory", "80%", "--cgroup", "v1", "--no-bounds", "--page-cluster", "0",
        "--stat-flush", "exact", "--out",
        str(place / "out" / "a,cgroup=v1"),
    ]  # fmt: skip


def test_each_variant_overrides_what_stands_above_it(place):
    text = (
        'traces = "a.parquet"\ndevice = "ssd"\n[[variant]]\n[[variant]]\ndevice = "hdd"\nseed = 3\n'
    )
    jobs = plan_of(place, text)
    assert [job.settings for job in jobs] == [{"device": "ssd"}, {"device": "hdd", "seed": 3}]
    assert [job.name for job in jobs] == ["a,device=ssd", "a,device=hdd,seed=3"]
    # No column tells seeds apart: such scenarios stand beside each other as if of two traces.
    assert [job.label for job in jobs] == ["a", "a, seed=3"]

    named = plan_of(place, text.replace("seed", 'name = "slow"\nseed'))
    assert [job.name for job in named] == ["a,device=ssd", "a,slow"]


def test_traces_of_one_name_are_told_by_their_folders(place):
    for folder in ("x", "y"):
        (place / folder).mkdir()
        write_trace(place / folder / "a.parquet", 50)
    jobs = plan_of(place, 'traces = ["a.parquet", "*/a.parquet"]\npages = "{trace}.pages.parquet"')
    assert [job.label for job in jobs][1:] == ["x/a", "y/a"]
    assert jobs[1].name == "x_a"
    assert jobs[1].settings["pages"] == str(place / "x" / "a.pages.parquet")


def test_costs_are_a_file_beside_the_plan_or_a_bundled_table(place):
    text = 'traces = "a.parquet"\npolicy = "store-raw"\ncosts = ["linux-6.18", "mine.json"]\n'
    (place / "mine.json").write_text('{"faults": {"minor_fault_ns": 5}}')
    jobs = plan_of(place, text)
    assert [job.settings["costs"] for job in jobs] == ["linux-6.18", str(place / "mine.json")]
    assert [job.label for job in jobs] == ["a, costs=linux-6.18", "a, costs=mine.json"]
    assert invoke(place).exit_code == 0
    assert all(map(is_done, jobs))


def test_a_plan_takes_what_compare_takes():
    command = typer.main.get_command(app).commands["compare"]
    options = {max(option.opts, key=len).removeprefix("--") for option in command.params}
    of_output = {"trace", "out", "format", "plots", "force", "jobs", "help"}
    assert set(SETTINGS) == options - of_output
    for name in ("compare", "size"):
        command = typer.main.get_command(app).commands[name]
        assert {o.default for o in command.params if o.name == "flush_phases"} == {FLUSH_PHASES}


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("traces = [", InputError, "no TOML"),
        ("policy = 'zram'", SettingsError, "say which traces"),
        ("traces = 'none-*.parquet'", InputError, r"no trace 'none-\*\.parquet' in"),
        ("traces = '*.parquet'\npolici = 'zram'", SettingsError, "did you mean policy"),
        ("traces = '*.parquet'\nkernel = 6.10", SettingsError, "kernel = 6.1 is no text in quotes"),
        ("traces = '*.parquet'\npage-cluster = '3'", SettingsError, "no whole number"),
        ("traces = '*.parquet'\npage-cluster = true", SettingsError, "no whole number"),
        ("traces = '*.parquet'\nmemory = []", SettingsError, "memory is empty"),
        (
            "traces = '*.parquet'\npolicy = 'zrm'",
            SettingsError,
            r"plan\.toml: unknown policy 'zrm'",
        ),
        ("traces = '*.parquet'\nmemory = '5O%'", SettingsError, "is no percentage"),
        ("traces = '*.parquet'\nkernel = '6.2'", SettingsError, "unknown kernel"),
        ("traces = '*.parquet'\nvariant = 3", SettingsError, r"write \[\[variant\]\]"),
        ("traces = '*.parquet'\n[[variant]]\n[[variant]]", SettingsError, "two jobs are named a;"),
    ],
)
def test_a_plan_that_says_nothing_sensible_is_one_line(place, text, error, says):
    with pytest.raises(error, match=says) as caught:
        plan_of(place, text)
    assert "\n" not in str(caught.value)


def test_the_tables_of_a_sweep_are_those_of_its_jobs(place):
    done = invoke(place)
    assert done.exit_code == 0, done.output
    out = place / "out"
    summary = pl.read_parquet(out / "summary.parquet")
    assert summary.height == 8
    assert summary["trace"].unique().sort().to_list() == ["a", "b"]
    for name in ("summary", "latency", "footprint"):
        whole = pl.read_parquet(out / f"{name}.parquet")
        for job in read_plan(place / "plan.toml", out):
            its = whole.filter(pl.col("scenario").str.starts_with(f"{job.name}/"))
            alone = pl.read_parquet(job.folder / f"{name}.parquet")
            dropped = [column for column in ("scenario", "trace") if column in its.columns]
            assert_frame_equal(its.drop(dropped), alone.drop(dropped))
    run = json.loads((out / "run.json").read_text())
    assert run["trace"]["accesses"] == 5 * 300 + 5 * 400
    assert [scenario["name"] for scenario in run["scenarios"]] == summary["scenario"].to_list()
    page = (out / "report.html").read_text()
    assert "zswap policies on 2 workloads" in page
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        job.name for job in read_plan(place / "plan.toml", out)
    ]


def test_a_sweep_says_the_weakest_coverage_and_the_notes_of_the_traces_that_have_them(place):
    write_trace(place / "a.parquet", 300, coverage="faults")
    write_trace(place / "c.parquet", 100, coverage="sampled")
    assert invoke(place).exit_code == 0
    run = json.loads((place / "out" / "run.json").read_text())
    assert run["trace"]["coverage"] == "sampled"
    assert any(note.startswith("a: coverage faults") for note in run["notes"])
    assert any(note.startswith("b: coverage is not recorded") for note in run["notes"])
    assert any(note.startswith("c: coverage sampled") for note in run["notes"])
    assert any(note.startswith("the trace has no clock") for note in run["notes"])


def test_what_is_done_is_passed_over_until_settings_or_files_change(place):
    assert invoke(place).exit_code == 0
    again = invoke(place)
    assert "4 of 4 jobs are done already" in again.stderr
    assert again.exit_code == 0
    later = (place / "out" / "b,cgroup=v2" / "run.json").stat().st_mtime_ns + 10**9
    os.utime(place / "b.parquet", ns=(later, later))
    jobs = read_plan(place / "plan.toml", place / "out")
    assert [is_done(job) for job in jobs] == [True, True, False, False]
    (place / "plan.toml").write_text(PLAN + "seed = 1\n")
    assert not any(map(is_done, read_plan(place / "plan.toml", place / "out")))
    assert "jobs are done" not in invoke(place, "--force").stderr


def test_a_command_that_dry_run_prints_does_the_job(place):
    printed = invoke(place, "--dry-run")
    lines = printed.stdout.splitlines()
    assert lines == commands(read_plan(place / "plan.toml", place / "out"))
    assert not (place / "out").exists()
    done = CliRunner().invoke(app, shlex.split(lines[1])[1:])
    assert done.exit_code == 0, done.output
    # compare keeps its own words; the runner's are those of pytest.
    path = place / "out" / "a,cgroup=v2" / "run.json"
    run = json.loads(path.read_text())
    path.write_text(json.dumps(run | {"command": shlex.split(lines[1])}))
    assert invoke(place, "--dry-run").stdout.splitlines() == [lines[0], *lines[2:]]


def test_a_job_that_fails_is_named_and_the_others_go_on(place):
    (place / "b.parquet").write_text("x\n")
    done = invoke(place, "--format", "csv")
    assert done.exit_code == 1
    assert "3 of 4: b,cgroup=v1: failed: " in done.stderr
    assert "2 of 4 jobs failed" in done.stderr
    assert len(done.stdout.splitlines()) == 5
    (place / "a.parquet").write_text("x\n")
    assert invoke(place).exit_code == 1  # nothing to join at all


def test_a_combination_that_cannot_be_fails_alone(place):
    (place / "plan.toml").write_text(
        PLAN.replace('cgroup = ["v1", "v2"]', 'kernel = ["6.1", "6.18"]\nallocator = "zbud"')
    )
    done = invoke(place)
    assert done.exit_code == 1
    assert "failed: kernel 6.18 has no allocator 'zbud'" in done.stderr
    assert "2 of 4 jobs failed" in done.stderr


def test_the_hash_of_the_model_is_of_all_that_a_comparison_imports():
    code = """
import sys
import tracereplay.comparison
from tracereplay.comparison import model_files

hashed = {str(path) for path in model_files()}
for name, module in sorted(sys.modules.items()):
    path = getattr(module, "__file__", None)
    # Of the host only how much memory is free: what of it is used says when, not what.
    if name.startswith("tracereplay") and not name.startswith("tracereplay.host"):
        print(name, path in hashed)
"""
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    found = dict(line.split() for line in out.splitlines())
    assert {"tracereplay.next_use", "tracereplay.trace", "tracereplay.replay.engine"} < set(found)
    assert set(found.values()) == {"True"}, found


def test_results_of_another_model_are_not_done(place):
    assert invoke(place).exit_code == 0
    jobs = read_plan(place / "plan.toml", place / "out")
    path = jobs[0].folder / "run.json"
    path.write_text(path.read_text().replace('"model": "', '"model": "other'))
    assert [is_done(job) for job in jobs] == [False, True, True, True]


def test_each_trace_of_a_sweep_has_its_own_share_in_the_report(place):
    (place / "plan.toml").write_text(PLAN.replace('"80%"', '"50%"') + 'reclaim = "lru"\n')
    assert invoke(place).exit_code == 0
    page = (place / "out" / "report.html").read_text()
    assert page.count("(50% of the pages touched)") >= 2
    assert not re.search(r"\((?!50%)\d+% of the pages touched", page)


def test_a_trace_of_exactly_that_name_comes_before_a_pattern(place):
    write_trace(place / "db[1].parquet", 300)
    write_trace(place / "db1.parquet", 400)
    jobs = plan_of(place, PLAN.replace('"*.parquet"', '"db[1].parquet"'))
    assert {Path(job.trace).name for job in jobs} == {"db[1].parquet"}
    jobs = plan_of(place, PLAN.replace('"*.parquet"', '"db[12].parquet"'))
    assert {Path(job.trace).name for job in jobs} == {"db1.parquet"}


def test_a_job_with_a_table_of_another_is_not_joined(place):
    assert invoke(place).exit_code == 0
    one, other = (job.folder for job in read_plan(place / "plan.toml", place / "out")[:2])
    (one / "summary.parquet").replace(other / "summary.parquet")
    with pytest.raises(InputError, match=r"of another comparison than run\.json"):
        join(read_plan(place / "plan.toml", place / "out")[1:2])


def test_what_befalls_a_worker_fails_its_job_alone(place):
    class Executor:
        """Runs jobs at once; the worker of the first one is lost."""

        def submit(self, work, job, threads):
            future = Future()
            if job.name.startswith("a,cgroup=v1"):
                future.set_exception(RuntimeError("killed worker"))
            else:
                future.set_result(work(job, threads))
            return future

    ends = {}
    jobs = read_plan(place / "plan.toml", place / "out")
    failed = run_jobs(
        jobs, threads=1, executor=Executor(), on_end=lambda job, end: ends.update({job.name: end})
    )
    assert failed == 1
    assert str(ends.pop("a,cgroup=v1")) == "the worker failed: RuntimeError: killed worker"
    assert all(isinstance(end, float) for end in ends.values())
    assert len(ends) == 3


def test_a_setting_that_compare_refuses_fails_its_job(place):
    (place / "plan.toml").write_text(PLAN + "flush-phases = 0\n")
    done = invoke(place)
    assert done.exit_code == 1
    assert "failed: flush phases: 0; 1 or more" in done.stderr
    (place / "plan.toml").write_text(PLAN + 'content = "redis-json+1.2.3%raw"\n')
    done = invoke(place)
    assert done.exit_code == 1
    assert "failed: unknown content" in done.stderr


def test_a_damaged_table_of_a_done_job_is_one_line_that_names_it(place):
    assert invoke(place).exit_code == 0
    job = read_plan(place / "plan.toml", place / "out")[1]
    summary = job.folder / "summary.parquet"
    table = summary.read_bytes()
    damages = (
        (summary.unlink, "No such file or directory"),
        (lambda: summary.write_bytes(b"junk"), "cannot be read as a table of a comparison"),
        (
            lambda: summary.write_bytes((job.folder / "footprint.parquet").read_bytes()),
            "no column `trace`",
        ),
    )
    for damage, says in damages:
        summary.write_bytes(table)
        damage()
        done = invoke(place)
        assert done.exit_code == 1
        (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
        assert line.startswith(f"error: {summary}: ")
        assert says in line
        assert line.endswith("; remove its folder and sweep again")


def test_a_folder_with_another_result_is_not_touched(place):
    out = str(place / "out")
    compare = ["compare", str(place / "a.parquet"), "--out", out]
    assert CliRunner().invoke(app, compare).exit_code == 0
    before = (place / "out" / "summary.parquet").read_bytes()
    refused = invoke(place)
    assert refused.exit_code == 1
    assert "not of a sweep" in refused.stderr
    assert (place / "out" / "summary.parquet").read_bytes() == before
    assert invoke(place, "--force").exit_code == 0


def test_jobs_may_run_elsewhere(place, monkeypatch):
    """An executor stands for Dask's: jobs and what they return must go through a pickle."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    jobs = read_plan(place / "plan.toml", place / "out")
    ends = []
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        failed = run_jobs(
            jobs[:2], threads=1, executor=executor, on_end=lambda job, _: ends.append(job.name)
        )
    assert failed == 0
    assert sorted(ends) == [job.name for job in jobs[:2]]
    assert all(map(is_done, jobs[:2]))
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    refused = invoke(place, "--dask", "tcp://127.0.0.1:1")
    assert refused.exit_code == 1
    assert "pip install distributed" in refused.stderr

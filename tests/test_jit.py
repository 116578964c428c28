import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tracereplay
from tracereplay import _jit, precompile
from tracereplay.replay.state import COUNTED, EVENT, MACHINE

PACKAGE = Path(tracereplay.__file__).parent


def test_the_cache_is_named_after_kernels_and_all_they_take_names_from(tmp_path):
    copy = tmp_path / "tracereplay"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "data"))
    before = _jit._compiled_sources(copy)
    assert before == _jit._compiled_sources(PACKAGE)
    # units.py holds no kernel, but readers and kernels take constants from it.
    assert {"_jit.py", "dense.py", "distances.py", "units.py", "errors.py"} <= set(before)
    assert not any(name.startswith("cli/") for name in before)
    (copy / "units.py").write_text("PAGE_BYTES = 1\n")
    assert _jit._compiled_sources(copy) != before


def curve_of_three(tmp_path):
    """Run `curve` in a process of its own, whose cache is tmp_path/cache."""
    (tmp_path / "t.csv").write_text("page\n1\n2\n1\n")
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("NUMBA_CACHE_DIR", None)
    command = [sys.executable, "-m", "tracereplay", "curve", str(tmp_path / "t.csv")]
    return subprocess.run(
        command, env=environment, cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )


@pytest.mark.compiled
def test_a_first_run_says_that_it_compiles_and_a_second_does_not(tmp_path):
    runs = [curve_of_three(tmp_path) for _ in range(2)]
    assert ["compiling" in run.stderr for run in runs] == [True, False]
    assert runs[0].stdout == runs[1].stdout


@pytest.mark.compiled
def test_a_damaged_cache_is_compiled_anew(tmp_path):
    """As a power cut may leave it: empty, cut short, or zeros."""
    runs = []
    for _ in range(3):
        if len(runs) == 1:
            for kind in ("*.nbc", "*.nbi"):
                files = sorted((tmp_path / "cache").rglob(kind))
                assert len(files) >= 3
                for nth, path in enumerate(files):
                    path.write_bytes((b"", path.read_bytes()[:100], bytes(5000))[nth % 3])
        runs.append(curve_of_three(tmp_path))
    assert ["compiling" in run.stderr for run in runs] == [True, True, False]
    assert len({run.stdout for run in runs}) == 1


@pytest.mark.compiled
def test_where_nothing_can_be_written_kernels_are_compiled_each_time(tmp_path):
    (tmp_path / "t.csv").write_text("page\n1\n2\n1\n")
    copy = tmp_path / "tracereplay"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for place in (tmp_path / "cache", copy / "__pycache__"):
        place.write_text("no folder")  # root may write anywhere else
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("NUMBA_CACHE_DIR", None)
    command = [sys.executable, "-m", "tracereplay", "curve", str(tmp_path / "t.csv")]
    run = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "compiling" in run.stderr
    assert "later runs" not in run.stderr


@pytest.mark.compiled
def test_other_code_of_the_process_keeps_its_own_cache(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numba\n@numba.njit(cache=True)\ndef twice(x):\n    return 2 * x\n"
    )
    program = "import tracereplay._jit, mine; print(mine.twice(2), mine.twice.stats.cache_path)"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("NUMBA_CACHE_DIR", None)
    environment["PYTHONPATH"] = f"{PACKAGE.parent}:{tmp_path}"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["4", str(tmp_path / "__pycache__")]


@pytest.mark.compiled
@pytest.mark.parametrize("number", [0, 1], ids=["at once", "while replaying is compiled"])
def test_ctrl_c_while_compiling_ends_with_one_line(tmp_path, number):
    (tmp_path / "t.csv").write_text("page\n" + "".join(f"{page}\n" for page in range(200)))
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("NUMBA_CACHE_DIR", None)
    command = [sys.executable, "-m", "tracereplay", "compare", str(tmp_path / "t.csv")]
    command += ["--memory", "1MiB", "-o", str(tmp_path / "out")]
    with subprocess.Popen(
        command,
        env=environment,
        cwd=PACKAGE.parent,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert "compiling" in process.stderr.readline()
        # The kernel that numbers pages is the first, and the replay's comes after it.
        while number and not list((tmp_path / "cache").rglob("dense*.nbi")):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")
    assert not list(tmp_path.glob("out/*"))


_SIGNATURES = """
import sys
from tracereplay import Scenario, compare
from tracereplay.precompile import compile_replays
from tracereplay.reclaim import RECLAIM, find_reclaim
names = list(RECLAIM)
compile_replays(names)
scenarios = [Scenario(policy="store-raw", reclaim=name, memory_limit_bytes=8 << 20) for name in names]
compare(sys.argv[1], scenarios)
print(*(len(find_reclaim(name).load().signatures) for name in names))
"""


@pytest.mark.compiled
def test_what_is_compiled_ahead_is_what_compare_needs():
    trace = PACKAGE.parent / "traces" / "sqlite-index.parquet"
    done = subprocess.run(
        [sys.executable, "-c", _SIGNATURES, str(trace)],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["1"] * 4, done.stderr


def test_a_child_compiles_only_where_no_cache_holds_the_replay(monkeypatch):
    began = []
    monkeypatch.setattr(precompile.subprocess, "Popen", lambda *args, **_: began.append(args))
    monkeypatch.setattr(precompile, "is_cached", lambda _: True)
    precompile.Precompiling(["two-list"]).wait()
    assert not began
    monkeypatch.setattr(precompile.os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(precompile, "is_cached", lambda _: False)
    precompile.Precompiling(["two-list"]).wait()
    assert not began  # one CPU: nothing to gain


@_jit.kernel
def _move(source, target):
    _jit.move_counts(source[0], target[0])


@_jit.kernel
def _trailing_zeros(word):
    return _jit.trailing_zeros(word)


def test_counts_move_to_the_event_and_leave_zeros():
    machine, event = np.zeros(1, MACHINE), np.zeros(1, EVENT)
    for nth, name in enumerate(COUNTED):
        machine[f"ev_{name}"] = nth + 1
    machine["oom_at_access"] = -1
    event["touched_pages"] = 99
    event["near"] = 1
    _move(machine, event)
    assert [int(event[name][0]) for name in COUNTED] == list(range(1, len(COUNTED) + 1))
    assert not any(machine[f"ev_{name}"][0] for name in COUNTED)
    assert machine["oom_at_access"][0] == -1
    assert event["touched_pages"][0] == 99
    assert event["near"][0] == 1


@pytest.mark.parametrize(("word", "zeros"), [(0, 64), (1, 0), (0b1011000, 3), (1 << 63, 63)])
def test_zeros_are_counted_from_the_lowest_bit(word, zeros):
    assert _trailing_zeros(np.uint64(word)) == zeros

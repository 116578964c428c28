"""`record`: which recorder is taken, what is said, and that nothing is left but the table.

The recorders are stand-ins in a PATH of their own, so that the tests ask the same of every machine:
`perf` copies a capture, and runs the command as the real one does.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from tracereplay.cli import app
from tracereplay.host import record as host
from tracereplay.host import system

HERE = Path(__file__).parent
CAPTURE = HERE / "perf-data" / "tracepoints.data"
LACKEY = HERE / "captures" / "tree40.lackey.txt"

PERF = f"""#!/bin/sh
case "$*" in *exceptions*) [ -e "$0.denied" ] && {{ echo "Permission denied" >&2; exit 255; }};; esac
while [ "$1" != -- ]; do [ "$1" = -o ] && out=$2; shift; done
shift
cp {CAPTURE} "$out"
trap 'kill $child; exit 130' INT TERM
"$@" & child=$!
wait $child
"""
VALGRIND = f"""#!/bin/sh
for word; do case $word in --log-fd=*) fd=${{word#*=}};; esac; done
cat {LACKEY} > /dev/fd/$fd
"""

pytestmark = pytest.mark.usefixtures("tools")


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A PATH with stand-ins and the few programs they need."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "cp", "cat", "true", "sleep", "kill"):
        found = next(p for p in (Path("/bin") / name, Path("/usr/bin") / name) if p.exists())
        (folder / name).symlink_to(found)
    for name, text in (("perf", PERF), ("valgrind", VALGRIND)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def run(*words):
    return CliRunner().invoke(app, ["record", *map(str, words)])


def left(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "bin")


def test_the_first_recorder_that_works_makes_the_table_and_says_what_it_ran(tmp_path):
    done = run("-o", tmp_path / "t.parquet", "--", "sh", "-c", "exit 0")
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert "running perf record -q -e exceptions:page_fault_user" in done.stderr
    assert done.stderr.rstrip().endswith("coverage faults, read as perf-data")
    assert left(tmp_path) == ["t.parquet"]
    assert pl.read_parquet(tmp_path / "t.parquet").height > 50


def test_a_table_may_have_as_long_a_name_as_there_is(tmp_path):
    out = tmp_path / ("x" * 247 + ".parquet")
    done = run("-o", out, "--", "true")
    assert done.exit_code == 0, done.output
    assert left(tmp_path) == [out.name]


def test_faults_of_pages_of_another_size_are_not_recorded_but_every_access_is(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(system.mmap, "PAGESIZE", 16384)
    done = run("-o", tmp_path / "t.parquet", "--", "true")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: recording page faults: this kernel has pages of 16 KiB")
    assert done.stderr.count("\n") == 1
    assert run("--full", "-o", tmp_path / "t.parquet", "--", "true").exit_code == 0


def test_without_rights_to_tracepoints_the_software_event_is_taken(tools, tmp_path):
    (tools / "perf.denied").touch()
    done = run("-o", tmp_path / "t.parquet", "--", "true")
    assert done.exit_code == 0, done.output
    assert "running perf record -q -e page-faults -d -c 1" in done.stderr


def test_a_machine_without_recorders_ends_in_one_line_that_names_the_reasons(tools, tmp_path):
    (tools / "perf").unlink()
    done = run("-o", tmp_path / "t.parquet", "--", "true")
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert "perf: perf is not installed" in done.stderr
    assert "--full" in done.stderr
    assert left(tmp_path) == []


def test_denied_rights_are_said_in_one_line(tools, tmp_path):
    (tools / "perf.denied").touch()
    done = run("-o", tmp_path / "t.parquet", "--tool", "perf", "--", "true")
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert "perf is not permitted to" in done.stderr
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("command", "what"),
    [("nosuch", "no such command"), ("./", "is a folder"), (__file__, "not executable")],
)
def test_what_cannot_be_run_is_said_before_anything_is_started(tmp_path, command, what):
    done = run("-o", tmp_path / "t.parquet", "--", command)
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert what in done.stderr
    assert left(tmp_path) == []


def test_a_command_that_fails_leaves_its_table_and_status_one(tmp_path):
    done = run("-o", tmp_path / "t.parquet", "--", "sh", "-c", "exit 3")
    assert done.exit_code == 1
    assert "warning: the command ended with status 3" in done.stderr
    assert left(tmp_path) == ["t.parquet"]


def test_lost_events_are_refused_with_a_larger_buffer_named(tools, tmp_path):
    lost = HERE / "captures" / "burst.sw.lost-events.ns.txt"
    (tools / "perf").write_text(PERF.replace(str(CAPTURE), str(lost)))
    words = ["-o", tmp_path / "t.parquet", "--buffer-pages", "16", "--", "true"]
    done = run(*words)
    assert done.exit_code == 1
    assert "events: record again with --buffer-pages 128" in done.stderr
    assert left(tmp_path) == []
    assert run("--allow-lost", *words).exit_code == 0


def test_every_access_comes_from_valgrind_through_a_pipe(tmp_path):
    done = run("--full", "-o", tmp_path / "t.parquet", "--", "true")
    assert done.exit_code == 0, done.output
    assert "running valgrind --tool=lackey" in done.stderr
    assert "coverage full, read as lackey" in done.stderr
    assert left(tmp_path) == ["t.parquet"]


def test_every_access_of_a_shell_script_is_that_of_its_programs_too(tmp_path, monkeypatch):
    """Of the real valgrind: what the shell starts is in the table, and that it is not told apart."""
    monkeypatch.setenv("PATH", os.defpath)
    if shutil.which("valgrind") is None:
        pytest.skip(
            "valgrind is not installed: only it shows how it writes several processes at once"
        )
    rows = {}
    for name, script in (("shell", ":"), ("both", "cat /dev/null; :")):
        done = run("--full", "-o", tmp_path / f"{name}.parquet", "--", "sh", "-c", script)
        assert done.exit_code == 0, done.output
        assert ("2 processes wrote it" in done.stderr) is (name == "both")
        rows[name] = pl.read_parquet(tmp_path / f"{name}.parquet")
        assert "cannot be read" not in done.stderr
    assert rows["both"].height > 1.3 * rows["shell"].height


def test_the_commands_of_all_recorders_are_printed_and_none_is_run(tmp_path):
    done = run("--print", "--", "sort", "-u", "a file")
    assert done.exit_code == 0
    assert done.stderr == ""
    assert done.stdout.count("\n# ") + 1 == len(host.RECORDERS)
    assert "-- sort -u 'a file'" in done.stdout
    one = run("--print", "--tool", "lackey", "--", "sort")
    assert one.stdout.count("\n") == 2
    assert (
        "valgrind --tool=lackey --basic-counts=no --trace-mem=yes --trace-children=yes --log-fd=3 sort"
        in one.stdout
    )
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--tool", "pref", "--", "true"], "did you mean perf"),
        (["--tool", "perf", "--full", "--", "true"], "leave out one"),
        (["--"], "no command to record"),
    ],
)
def test_wrong_words_end_in_one_line(tmp_path, words, what):
    done = run("-o", tmp_path / "t.parquet", *words)
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert what in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_command_and_leaves_nothing(tmp_path, number):
    words = ["record", "-o", str(tmp_path / "t.parquet"), "--", "sleep", "600.125"]
    child = subprocess.Popen(
        [sys.executable, "-m", "tracereplay", *words],
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
        stderr=subprocess.PIPE,
        text=True,
    )
    sleeper = None
    until = time.monotonic() + 120
    while sleeper is None and time.monotonic() < until:
        time.sleep(0.1)
        sleeper = next((p for p in host._descendants(child.pid) if "600.125" in _words(p)), None)
    child.send_signal(number)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 128 + number, said
    assert sleeper is not None
    assert "600.125" not in _words(sleeper)
    assert left(tmp_path) == []
    assert len(said.strip().splitlines()) <= 2, said


def test_a_signal_while_the_recorder_starts_leaves_it_not_running(monkeypatch):
    started = []
    start = subprocess.Popen

    def popen(*words, **more):
        started.append(start(*words, **more))
        os.kill(os.getpid(), signal.SIGINT)
        return started[0]

    monkeypatch.setattr(host.subprocess, "Popen", popen)
    recorder = host.Recorder("sleep", "", "sleep", lambda *_: ["sleep", "600"])
    with pytest.raises(KeyboardInterrupt), host._started(recorder, "", [], 1):
        pytest.fail("it went on")
    assert started[0].poll() is not None


def test_a_time_ends_the_recording_with_its_table(tmp_path):
    done = run("-o", tmp_path / "t.parquet", "--seconds", "0.3", "--", "sleep", "600")
    assert done.exit_code == 0, done.output
    assert left(tmp_path) == ["t.parquet"]


WAITING_PERF = f"""#!/bin/sh
while [ "$1" != -- ]; do [ "$1" = -o ] && out=$2; shift; done
shift
trap 'kill $child; is_over=1' INT
"$@" & child=$!
while kill -0 $child 2> /dev/null; do wait $child; done
cp {CAPTURE} "$out"
"""
OWN_SECONDS = f"600.{os.getpid()}"  # of these tests alone: others may run beside them
STUBBORN_VALGRIND = f"""{VALGRIND}trap "" TERM INT
sleep {OWN_SECONDS}
"""
DAEMON_VALGRIND = f"""{VALGRIND}sleep {OWN_SECONDS} &
"""


def _sleepers(seconds):
    pids = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
    return [pid for pid in pids if seconds in _words(pid)]


def test_a_recorder_that_waits_for_a_stubborn_command_still_writes_its_capture(
    tools, tmp_path, monkeypatch
):
    monkeypatch.setattr(host, "_POLITE_S", 0.2)
    monkeypatch.setattr(host, "_PATIENCE_S", 0.5)
    (tools / "perf").write_text(WAITING_PERF)
    stubborn = ["sh", "-c", f'trap "" TERM INT; sleep {OWN_SECONDS}; sleep {OWN_SECONDS}']
    done = run("-o", tmp_path / "t.parquet", "--seconds", "0.3", "--", *stubborn)
    assert done.exit_code == 0, done.output
    assert left(tmp_path) == ["t.parquet"]
    assert _sleepers(OWN_SECONDS) == []


@pytest.mark.parametrize("valgrind", [STUBBORN_VALGRIND, DAEMON_VALGRIND])
def test_a_time_ends_what_writes_every_access_and_is_no_failure(
    tools, tmp_path, monkeypatch, valgrind
):
    monkeypatch.setattr(host, "_POLITE_S", 0.2)
    monkeypatch.setattr(host, "_PATIENCE_S", 0.5)
    (tools / "valgrind").write_text(valgrind)
    done = run("--full", "-o", tmp_path / "t.parquet", "--seconds", "1", "--", "true")
    assert done.exit_code == 0, done.output
    assert "ended with" not in done.stderr
    assert left(tmp_path) == ["t.parquet"]
    assert _sleepers(OWN_SECONDS) == []


def test_a_recorder_that_fails_is_told_with_its_status(tools, tmp_path):
    # Its trial, on the command `true`, goes well.
    (tools / "perf").write_text(
        PERF.replace("wait $child", 'case "$*" in true) ;; *) echo > $out; exit 254;; esac')
    )
    done = run("-o", tmp_path / "t.parquet", "--tool", "perf", "--", "sleep", "0")
    assert done.exit_code == 1
    assert "perf ended with status 254" in done.stderr
    assert left(tmp_path) == []


def test_a_full_disk_is_told_as_one(tools, tmp_path, monkeypatch):
    (tools / "perf").write_text(PERF.replace(f"cp {CAPTURE}", "cp /etc/passwd"))
    full = types.SimpleNamespace(f_bavail=3, f_frsize=4096)
    monkeypatch.setattr(host.os, "statvfs", lambda _: full)
    done = run("-o", tmp_path / "t.parquet", "--", "true")
    assert done.exit_code == 1
    assert f"{tmp_path}: the disk is full" in done.stderr


def _words(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ").split()
    except OSError:
        return []


BPFTRACE = """#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in -o) out=$2; shift;; -c) run=$2; shift;; esac
    shift
done
set -f
printf 'time_ns,pid,tid,cpu,vaddr,error_code\\n1,7,7,0,0x1000,0x6\\n' > "$out"
exec $run
"""


@pytest.mark.parametrize("program", ["sh", "script"])
def test_bpftrace_starts_quoted_commands_and_scripts_though_it_splits_at_blanks(
    tools, tmp_path, program
):
    (tools / "bpftrace").write_text(BPFTRACE)
    (tools / "bpftrace").chmod(0o755)
    said = tmp_path / "said"
    (tools / "script").write_text(f"#!/bin/sh\nprintf '%s|' \"$@\" > {said}\n")
    (tools / "script").chmod(0o755)
    command = ["sh", "-c", f"printf '%s|' 'a  b' 'it'\"'\"'s' > {said}"]
    if program == "script":
        command = ["script", "a  b", "it's"]
    result = run("--tool", "bpftrace", "-o", tmp_path / "t.parquet", "--", *command)
    assert result.exit_code == 0, result.output
    assert said.read_text() == "a  b|it's|"
    assert pl.read_parquet(tmp_path / "t.parquet").height == 1


def test_bpftrace_starts_a_plain_command_itself():
    shown = run("--print", "--tool", "bpftrace", "--", "sleep", "1").output
    assert "-c '" in shown
    assert "sleep 1' &&" in shown
    assert "capture.csv.sh" not in shown

"""`host-run` where nothing is touched: what it refuses, and how it reads a trace and page contents.

Runs on the real kernel are in `tests/kernel/`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from tracereplay.cli import app
from tracereplay.errors import HostError, InputError, OutputError, SettingsError
from tracereplay.host import flushes, machine, signals, system, touching, workload, zram
from tracereplay.host import run as host
from tracereplay.host import undo as undoing
from tracereplay.host.undo import Journal, Undo
from tracereplay.trace import open_trace


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "t.parquet"
    pages = np.array([900, 901, 5, 900, 7], np.uint64)
    pl.DataFrame({"page": pages, "is_write": [True, False, False, True, False]}).write_parquet(path)
    return path


def invoke(trace, tmp_path, *options):
    command = ["host-run", str(trace), "--memory", "4MiB", "-o", str(tmp_path / "runs"), *options]
    return CliRunner().invoke(app, command)


def refusal(result) -> str:
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if "compiling" not in line]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


# ---- refusals --------------------------------------------------------------------------------------


def test_without_root_it_says_what_it_needs_root_for(trace, tmp_path, monkeypatch):
    monkeypatch.setattr(machine.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(touching, "IS_COMPILED", True)
    line = refusal(invoke(trace, tmp_path))
    assert "needs root" in line
    assert not (tmp_path / "runs").exists()


def test_pages_of_another_size_are_refused(trace, tmp_path, monkeypatch):
    monkeypatch.setattr(system.mmap, "PAGESIZE", 65536)
    line = refusal(invoke(trace, tmp_path))
    assert line.startswith("error: host-run: this kernel has pages of 64 KiB; the models know")
    assert not (tmp_path / "runs").exists()


def test_without_compiled_kernels_it_does_not_start(trace, tmp_path, monkeypatch):
    monkeypatch.setattr(touching, "IS_COMPILED", False)
    assert "NUMBA_DISABLE_JIT" in refusal(invoke(trace, tmp_path))


def test_without_zswap_it_names_the_option_that_does_without(trace, tmp_path, monkeypatch):
    monkeypatch.setattr(machine.os, "geteuid", lambda: 0)
    monkeypatch.setattr(touching, "IS_COMPILED", True)
    monkeypatch.setattr(machine, "ZSWAP", tmp_path / "absent")
    assert "--no-zswap" in refusal(invoke(trace, tmp_path))


def test_contents_are_given_in_one_way(trace, tmp_path):
    options = ["--pages", str(trace), "--content", "redis-json"]
    assert "one of them" in refusal(invoke(trace, tmp_path, *options))


def test_a_run_that_is_there_stays(tmp_path):
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(OutputError, match="--force"):
        host.check_output(tmp_path, "mine", force=False)
    host.check_output(tmp_path, "mine", force=True)


def test_too_small_a_limit_and_too_little_memory_are_refused(tmp_path, monkeypatch):
    with pytest.raises(SettingsError, match="1 MiB"):
        host.check_run(host.HostRun(4096, tmp_path), 10)
    monkeypatch.setattr(host, "meminfo", lambda: {"MemAvailable": 1000})
    with pytest.raises(HostError, match="available"):
        host.check_run(host.HostRun(1 << 21, tmp_path), 10)


def test_a_swap_file_needs_a_folder_and_room(tmp_path, monkeypatch):
    back = Undo()
    with pytest.raises(HostError, match="no such folder"):
        machine.add_swap(back, tmp_path / "absent", 1 << 20)
    full = types.SimpleNamespace(f_bavail=10, f_frsize=4096)
    monkeypatch.setattr(machine.os, "statvfs", lambda _: full)
    with pytest.raises(HostError, match=r"40\.0 KiB free.*--swap-directory"):
        machine.add_swap(back, tmp_path, 1 << 20)
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot_swap_is_named_and_the_file_removed(tmp_path, monkeypatch):
    def refuse(*_: object) -> int:
        ctypes.set_errno(machine.errno.EINVAL)
        return -1

    tried = []
    library = types.SimpleNamespace(
        swapon=lambda *a: tried.append(a) or refuse(), swapoff=lambda _: refuse()
    )
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda *_, **__: library)
    with (
        pytest.raises(HostError, match="ext4 or xfs"),
        Undo() as undo,
    ):
        machine.add_swap(undo, tmp_path, 2 << 20)
    assert len(tried) == 2  # the second time with every block written
    assert list(tmp_path.iterdir()) == []


def test_a_setting_the_kernel_does_not_take_is_put_back(tmp_path):
    class Stubborn(type(tmp_path)):
        def write_text(self, text, **_):
            return super().write_text("lzo" if text == "none-such" else text)

    path = Stubborn(tmp_path / "compressor")
    path.write_text("lzo")
    undo = Undo()
    with pytest.raises(HostError, match="keeps 'lzo'"):
        machine.set_for_now(undo, path, "none-such")
    other = tmp_path / "percent"
    other.write_text("20\n")
    machine.set_for_now(undo, other, "1")
    assert other.read_text() == "1"
    undo.close()
    assert other.read_text() == "20"


# ---- zram ------------------------------------------------------------------------------------------


@pytest.fixture
def kernel_with_zram(tmp_path, monkeypatch):
    """A kernel that makes the device zram7 where it is asked for one."""
    folder = tmp_path / "block" / "zram7"
    folder.mkdir(parents=True)
    for name in ("disksize", "reset"):
        (folder / name).write_text("0\n")
    (folder / "comp_algorithm").write_text("lzo [lzo-rle] lz4 zstd\n")
    (folder / "mm_stat").write_text("  8192000   700 4096000  0 4100096  3  0  5  9\n")
    for name, text in (("hot_add", "7\n"), ("hot_remove", "")):
        (tmp_path / name).write_text(text)
    (tmp_path / "zram7").write_bytes(bytes(8192))
    monkeypatch.setattr(zram, "_BLOCK", tmp_path / "block")
    monkeypatch.setattr(undoing, "ZRAM_CONTROL", tmp_path)
    monkeypatch.setattr(undoing, "DEVICES", tmp_path)
    return Kernel(monkeypatch), folder


def test_a_zram_device_is_swapped_to_and_removed_when_all_is_put_back(kernel_with_zram, tmp_path):
    kernel, folder = kernel_with_zram
    with Undo() as undo:
        assert zram.add_zram(undo, "lz4", 64 << 20) == folder
        assert kernel.on == {str(tmp_path / "zram7")}
        assert (folder / "disksize").read_text() == str(64 << 20)
        assert (folder / "comp_algorithm").read_text() == "lz4"
        assert (tmp_path / "zram7").read_bytes()[4086:4096] == b"SWAPSPACE2"
        assert zram.read_zram(folder) == (1000, 2000)
        assert zram.zram_counters(folder)["huge_pages"] == 5
        assert (folder / "reset").read_text() == "0\n"
    assert kernel.on == set()
    assert (folder / "reset").read_text() == "1"
    assert (tmp_path / "hot_remove").read_text() == "7"
    assert (tmp_path / "zram7").exists()  # a node of the kernel's, no file


def test_the_compressor_of_a_zram_device_is_the_one_in_brackets(kernel_with_zram):
    _, folder = kernel_with_zram
    assert zram.zram_compressor(folder) == "lzo-rle"


def test_a_compressor_that_zram_lacks_is_refused_and_the_device_removed(kernel_with_zram, tmp_path):
    kernel, _ = kernel_with_zram
    offered = "--codec 842: zram of this kernel has lzo, lzo-rle"
    with pytest.raises(SettingsError, match=offered), Undo() as undo:
        zram.add_zram(undo, "842", 64 << 20)
    assert kernel.on == set()
    assert (tmp_path / "hot_remove").read_text() == "7"


def test_a_kernel_without_zram_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(undoing, "ZRAM_CONTROL", tmp_path / "absent")
    with pytest.raises(HostError, match="modprobe zram"), Undo() as undo:
        zram.add_zram(undo, None, 1 << 20)


@pytest.fixture
def zram_left_behind(kernel_with_zram, tmp_path, monkeypatch):
    """What a run with zram leaves that was killed: its journal, and the device in use."""
    monkeypatch.setattr(host, "LOCK", tmp_path / "lock")
    with (tmp_path / "lock").open("wb+", buffering=0) as file:
        undo = Undo(Journal(file.fileno()))
        zram.add_zram(undo, None, 64 << 20)
        undo.pop_all()
    return kernel_with_zram


def test_a_killed_run_leaves_its_zram_device_to_the_next_but_no_other(zram_left_behind, tmp_path):
    kernel, folder = zram_left_behind
    written = (tmp_path / "lock").read_bytes()
    (folder / "disksize").write_text(str(1 << 30))  # somebody else's has the number by now
    with host._alone(lambda _: None):
        assert kernel.on == {str(tmp_path / "zram7")}
    (tmp_path / "lock").write_bytes(written)
    (folder / "disksize").write_text(str(64 << 20))
    with host._alone(lambda _: None):
        assert kernel.on == set()
    assert (tmp_path / "hot_remove").read_text() == "7"


def test_a_device_that_is_swap_of_somebody_else_stays_whatever_its_size(zram_left_behind, tmp_path):
    kernel, _ = zram_left_behind
    node = tmp_path / "zram7"
    head = bytearray(node.read_bytes())
    assert undoing.SWAP_LABEL in head[:4096]
    head[1052:1063] = bytes(11)
    node.write_bytes(head)
    with host._alone(lambda _: None):
        assert kernel.on == {str(node)}


def test_zram_takes_no_setting_of_zswap(trace, tmp_path, monkeypatch):
    monkeypatch.setattr(machine.os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        "tracereplay.host.machine._memory_controller", lambda _: machine.Machine("v1", tmp_path)
    )
    result = invoke(trace, tmp_path, "--zram", "--shrinker", "--pool-percent", "5")
    assert result.exit_code == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last == "error: --zram swaps without zswap; leave --pool-percent and --shrinker out"
    result = invoke(trace, tmp_path, "--zram", "--swap-directory", str(tmp_path))
    assert result.exit_code == 1
    assert "error: --zram swaps to no disk; leave --swap-directory out" in result.stderr


# ---- flushes ---------------------------------------------------------------------------------------


def test_flushes_of_a_cgroup_and_of_those_above_are_told(tmp_path, monkeypatch):
    group = tmp_path / "root" / "mine"
    other = tmp_path / "root" / "other"
    for folder in (group, other):
        folder.mkdir(parents=True)
    root = tmp_path / "root"
    instance = tmp_path / "instances" / f"tracereplay-{os.getpid()}"
    lines = [
        (1.000001, root, 0, 1),
        (2.5, group, 1, 0),
        (3.0, group, 0, 0),  # nothing was pending: none
        (4.0, other, 1, 1),
        (5.25, root, 1, 1),
    ]
    text = "".join(
        f"  kworker/u8:0-30866   [000] ..... {at:.6f}: memcg_flush_stats: "
        f"memcg_id={of.stat().st_ino} stats_updates=192 force={force} needs_flush={needed}\n"
        for at, of, force, needed in lines
    )
    monkeypatch.setattr(flushes, "TRACEFS", tmp_path)
    assert flushes.trace_flushes(Undo()) is None  # no such event
    (tmp_path / flushes._EVENT).mkdir(parents=True)
    with Undo() as undo:  # the kernel lets nobody trace
        assert flushes.trace_flushes(undo) is None
    (tmp_path / "instances").mkdir()
    with Undo() as undo:
        heard = []
        monkeypatch.setattr(flushes, "write_text", lambda path, what: heard.append((path, what)))
        trace = flushes.trace_flushes(undo)
        assert trace is not None
        assert (instance / flushes._EVENT / "enable", "1") in heard
        assert (instance / "trace_clock", "mono") in heard
        trace.clear()
        assert heard[-1][0] == instance / "trace"
        monkeypatch.setattr(
            flushes, "read_text", lambda path: text if path == instance / "trace" else ""
        )
        assert trace.times_ns(group, root) == [1_000_001_000, 2_500_000_000, 5_250_000_000]
        (instance / "per_cpu" / "cpu0").mkdir(parents=True)
        (instance / "per_cpu" / "cpu0" / "stats").touch()
        lost = "entries: 5\noverrun: 3\ndropped events: 0\n"
        monkeypatch.setattr(flushes, "read_text", lambda _: lost)
        assert trace.times_ns(group, root) is None
        shutil.rmtree(instance / "per_cpu")
    assert not instance.exists()


# ---- what ends a run -------------------------------------------------------------------------------


class Kernel:
    """Swap files in use; `failures` are what the next calls of swapoff say instead of doing it."""

    def __init__(self, monkeypatch, failures=()):
        self.on: set[str] = set()
        self.failures = list(failures)
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: self)

    def swapon(self, path, _):
        self.on.add(os.fsdecode(path))
        return 0

    def swapoff(self, path):
        name = os.fsdecode(path)
        failure = self.failures.pop(0) if self.failures else 0
        if not failure and name not in self.on:
            failure = errno.EINVAL
        ctypes.set_errno(failure)
        if not failure:
            self.on.remove(name)
        return -1 if failure else 0


def test_a_swap_file_goes_though_a_signal_comes_right_after_it_is_on(tmp_path, monkeypatch):
    kernel = Kernel(monkeypatch)
    swapon = kernel.swapon

    def ended(path, flags):
        swapon(path, flags)
        raise KeyboardInterrupt

    kernel.swapon = ended
    with pytest.raises(KeyboardInterrupt), Undo() as undo:
        machine.add_swap(undo, tmp_path, 1 << 20)
    assert kernel.on == set()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_swapoff_is_tried_again(tmp_path, monkeypatch):
    kernel = Kernel(monkeypatch, [errno.EINTR, errno.EINTR])
    with Undo() as undo:
        machine.add_swap(undo, tmp_path, 1 << 20)
        assert len(kernel.on) == 1
    assert kernel.on == set()
    assert list(tmp_path.iterdir()) == []


def test_a_swap_file_that_stays_in_use_keeps_its_name(tmp_path, monkeypatch):
    Kernel(monkeypatch, [errno.ENOMEM])
    with pytest.raises(HostError, match=r"try `swapoff .*; rm "), Undo() as undo:
        path = machine.add_swap(undo, tmp_path, 1 << 20)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_where_it_naps_and_not_again_on_its_way_back(number):
    before = signal.getsignal(number)
    done = []

    def change() -> None:
        with signals.held_signals(), contextlib.ExitStack() as stack:
            stack.callback(done.append, "back")
            stack.callback(signal.raise_signal, number)
            signal.raise_signal(number)
            done.append("in a change")
            signals.nap(10)
            done.append("never")

    with pytest.raises((KeyboardInterrupt, SystemExit)) as ended:
        change()
    assert done == ["in a change", "back"]
    assert ended.type is KeyboardInterrupt or ended.value.code == 128 + number
    assert signal.getsignal(number) is before


def test_a_signal_on_the_way_back_is_raised_when_all_is_back():
    done = []

    def put_back() -> None:
        with signals.held_signals():
            signal.raise_signal(signal.SIGINT)
            done.append("back")

    with pytest.raises(KeyboardInterrupt):
        put_back()
    assert done == ["back"]
    signals.nap(0)  # nothing is left of it


def test_waiting_for_another_run_sees_a_signal(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "LOCK", tmp_path / "lock")
    with (tmp_path / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        said = []
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with (
            pytest.raises(KeyboardInterrupt),
            signals.held_signals(),
            host._alone(said.append),
        ):
            pass
        assert said == ["waiting for another host-run on this machine to end"]
        timer.join()


@pytest.fixture
def killed(tmp_path, monkeypatch):
    """What a run leaves that was killed in the middle: its journal, a setting, a swap file."""
    kernel = Kernel(monkeypatch)
    monkeypatch.setattr(host, "LOCK", tmp_path / "lock")
    setting = tmp_path / "percent"
    setting.write_text("20\n")
    with (tmp_path / "lock").open("wb+", buffering=0) as file:
        undo = Undo(Journal(file.fileno()))
        machine.set_for_now(undo, setting, "1")
        machine.set_for_now(undo, setting, "2")
        path = machine.add_swap(undo, tmp_path, 1 << 20)
        undo.pop_all()
    assert path.exists()
    return kernel, setting, path


def test_a_run_after_one_that_was_killed_puts_back_what_that_left(killed, tmp_path):
    kernel, setting, path = killed
    said = []
    with host._alone(said.append):
        assert setting.read_text() == "20"
        assert kernel.on == set()
        assert not path.exists()
    assert len(said) == 1
    assert str(path) in said[0]
    assert (tmp_path / "lock").read_bytes() == b""
    with host._alone(said.append):
        pass
    assert len(said) == 1


def test_what_cannot_be_put_back_stays_written_down(killed):
    kernel, setting, path = killed
    kernel.failures = [errno.EPERM]
    with pytest.raises(HostError, match="swapoff"), host._alone(print):
        pass
    assert setting.read_text() == "20"
    assert path.exists()
    said = []
    with host._alone(said.append):
        assert not path.exists()
    assert said == [f"note: a host-run was killed here; put back what it left: {path}"]


def test_a_kill_while_another_is_put_back_loses_no_step(killed, tmp_path):
    kernel, _, path = killed
    written = (tmp_path / "lock").read_bytes()

    def look(_):
        assert (tmp_path / "lock").read_bytes() == written  # as a kill now would leave it
        raise KeyboardInterrupt

    kernel.swapoff = look
    with pytest.raises(KeyboardInterrupt), host._alone(print):
        pass
    assert str(path).encode() in (tmp_path / "lock").read_bytes()


def test_settings_from_before_a_reboot_are_not_put_back(killed, tmp_path, monkeypatch):
    _, setting, path = killed
    monkeypatch.setattr(undoing, "_BOOT", tmp_path / "absent")
    with host._alone(lambda _: None):
        assert setting.read_text() == "2"
        assert not path.exists()


def test_a_lock_file_of_junk_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "LOCK", tmp_path / "lock")
    for junk in (b"\xff\x00", b"[]\n", b'{"boot": "", "steps": [[1]]}\n', b"null"):
        (tmp_path / "lock").write_bytes(junk)
        with host._alone(pytest.fail):
            pass


# ---- the CPUs --------------------------------------------------------------------------------------


@pytest.fixture
def bare_run(tmp_path, monkeypatch):
    """A host_run() that changes nothing on this machine; returns what it said and its repeats."""
    found = machine.Machine("v2", tmp_path)
    monkeypatch.setattr(host, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(host, "find_machine", lambda **_: found)
    for name in ("check_run", "_set_parameters"):
        monkeypatch.setattr(host, name, lambda *_: None)
    monkeypatch.setattr(host, "debugfs", lambda *_: None)
    monkeypatch.setattr(host, "add_swap", lambda *_: tmp_path / "swap")
    monkeypatch.setattr(host, "_settings_now", lambda *_: {})
    monkeypatch.setattr(host.os, "setpriority", lambda *_: None)

    def run(once):
        said: list[str] = []
        monkeypatch.setattr(host, "_run_once", once)
        load = workload.Workload(np.zeros(1, np.uint32), np.ones(1, np.uint8))
        host.host_run(load, host.HostRun(1 << 20, tmp_path, repeats=2), say=said.append)
        return said

    return run


def _nothing_counted() -> dict:
    return {
        "finished": False, "vmstat": {"pgmajfault": 0}, "kreplay": {}, "others_swapped_pages": 0,
        "footprint": {}, "spilled_pages": 0,
    }  # fmt: skip


def test_the_touches_have_a_cpu_that_the_readings_leave_alone(bare_run):
    allowed = os.sched_getaffinity(0)
    seen = []

    def once(*given):
        seen.append((given[3], os.sched_getaffinity(0)))
        return _nothing_counted()

    bare_run(once)
    assert os.sched_getaffinity(0) == allowed
    assert len(seen) == 2
    for touch_cpu, reading in seen:
        assert touch_cpu in allowed
        assert len(reading) == 1
        assert (touch_cpu in reading) == (len(allowed) == 1)


def test_what_cannot_be_put_back_loses_no_run_that_is_done(bare_run, tmp_path, monkeypatch):
    def add_swap(undo, *_):
        def fail():
            raise HostError("swapoff: not now")

        undo.callback(fail)
        return tmp_path / "swap"

    monkeypatch.setattr(host, "add_swap", add_swap)
    said = bare_run(lambda *_: _nothing_counted())
    assert said[-1] == (
        "warning: not all is as it was: swapoff: not now; the next host-run tries it again"
    )

    def broken(*_):
        raise HostError("the touching process did not start")

    with pytest.raises(HostError):
        bare_run(broken)


def test_a_run_on_a_busy_machine_says_so(bare_run, monkeypatch):
    for load, told in ((0.0, False), (7.5 * (os.cpu_count() or 1), True)):
        monkeypatch.setattr(machine.os, "getloadavg", lambda load=load: (load, load, load))
        said = bare_run(lambda *_: _nothing_counted())
        assert any("other work ran here" in line for line in said) is told


# ---- the memory controller -------------------------------------------------------------------------


def test_the_memory_controller_is_found_in_either_hierarchy(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    unified = f"cgroup2 {tmp_path} cgroup2 rw,nosuid 0 0\n"
    first = "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n"
    assert machine._memory_controller(unified).cgroup == "v2"
    found = machine._memory_controller(unified + first)
    assert (found.cgroup, str(found.root)) == ("v1", "/sys/fs/cgroup/memory")
    (tmp_path / "cgroup.controllers").write_text("cpu\n")
    with pytest.raises(HostError, match="no memory controller"):
        machine._memory_controller(unified)


# ---- trace and contents ----------------------------------------------------------------------------


def test_pages_are_numbered_by_address_so_that_neighbours_stay_neighbours(trace):
    touches, pages, _, _ = workload.load_touches(open_trace(trace))
    assert pages.tolist() == [5, 7, 900, 901]
    assert (touches & 0x7FFFFFFF).tolist() == [2, 3, 0, 2, 1]
    assert (touches >> 31).tolist() == [1, 0, 0, 1, 0]


def test_an_empty_trace_is_refused(tmp_path):
    path = tmp_path / "none.parquet"
    pl.DataFrame({"page": pl.Series([], dtype=pl.UInt64)}).write_parquet(path)
    with pytest.raises(InputError, match="no accesses"):
        workload.load_touches(open_trace(path))


def test_the_swap_header_is_what_mkswap_writes():
    header = machine.swap_header(100)
    assert len(header) == 4096
    assert header[-10:] == b"SWAPSPACE2"
    assert np.frombuffer(header, np.uint32, 3, 1024).tolist() == [1, 99, 0]


def test_lines_come_nearest_to_the_size_wanted():
    sizes = np.array([40, *range(100, 100 + 64 * 60, 60)], np.uint16)
    wanted = np.array([1, 100, 129, 131, 4096, 50], np.uint16)
    zero = np.array([False, False, False, False, False, True])
    assert workload.lines_for(wanted, zero, sizes).tolist() == [1, 1, 1, 2, 64, touching.ALL_ZERO]


def test_sizes_of_lines_are_those_of_the_codecs():
    sizes = workload.line_sizes()
    assert {
        "lzo_bytes",
        "lzo_rle_bytes",
        "lz4_bytes",
        "zstd_bytes",
        "deflate_bytes",
    } <= sizes.keys()
    # 16, 24 and 40 lines are 1,024, 1,536 and 2,560 bytes; lzo's sizes stand in the recorded runs.
    assert sizes["lzo_bytes"][[16, 24, 40, 64]].tolist() == [1101, 1637, 2741, 4096]
    saved = sizes["lzo_bytes"].astype(int) - sizes["lzo_rle_bytes"]  # runs of zeros
    assert saved.min() == 0
    assert saved.max() < 130
    assert (np.diff(sizes["lz4_bytes"].astype(int)) > 0).all()
    assert sizes["zstd_bytes"][16] in range(1024, 1060)


def test_the_bundled_lzo_sizes_are_those_of_the_library():
    lzo = pytest.importorskip("lzo", reason="python-lzo is optional")
    texts = np.zeros((65, 4096), np.uint8)
    touching.fill_pages(texts, np.arange(65, dtype=np.uint8))
    packed = [min(len(lzo.compress(text.tobytes(), 1, False)), 4096) for text in texts]
    assert packed == list(workload.LZO_BYTES)


def test_contents_of_a_recorded_run_are_taken_as_they_are(tmp_path):
    path = tmp_path / "pages.parquet"
    table = {"page": [2, 0, 1], "random_lines": [0, 64, 0], "zero_filled": [True, False, False]}
    pl.DataFrame(table).write_parquet(path)
    lines = workload.recorded_lines(path, np.array([0, 1, 2], np.uint64))
    assert lines.tolist() == [64, touching.NO_LINES, touching.ALL_ZERO]
    with pytest.raises(InputError, match="1 pages of the trace are missing"):
        workload.recorded_lines(path, np.array([0, 9], np.uint64))
    pl.DataFrame({"page": [1], "lzo_bytes": [50]}).write_parquet(path)
    assert workload.recorded_lines(path, np.array([1], np.uint64)) is None
    pl.DataFrame({"page": [5], "random_lines": [3]}).write_parquet(tmp_path / "p1.parquet")
    with (tmp_path / "p[1].parquet").open("wb") as file:
        pl.DataFrame({"page": [5], "random_lines": [9]}).write_parquet(file)
    there = workload.recorded_lines(tmp_path / "p[1].parquet", np.array([5], np.uint64))
    assert there.tolist() == [9]


def test_filled_pages_hold_random_lines_then_zeros_and_end_in_a_word():
    pages = np.zeros((4, 4096), np.uint8)
    lines = np.array([touching.ALL_ZERO, touching.NO_LINES, 3, 64], np.uint8)
    touching.fill_pages(pages, lines)
    assert not pages[0].any()
    assert not pages[1, :4088].any()
    assert pages[1, 4088:].tolist() == [1, 2, 3, 4, 0, 0, 0, 0]
    assert np.unique(pages[2, :192]).size > 100
    assert not pages[2, 192:4088].any()
    assert np.unique(pages[3, :4088]).size == 256


@pytest.mark.compiled
@pytest.mark.parametrize("reads_first", [0, 1])
def test_touching_writes_what_it_should_and_times_every_touch(reads_first):
    memory = np.zeros((3, 4096), np.uint8)
    touches = np.array([0, 1, 0, 2, 1 | 1 << 31, 1], np.uint32)
    lines = np.array([1, touching.ALL_ZERO, 64], np.uint8)
    for array in (touches, lines):
        array.flags.writeable = False
    control = np.zeros(1, touching.CONTROL)
    control["go"], control["reads_first"] = 2, reads_first
    times, steps = np.zeros(6, np.uint32), np.zeros(1000, np.int64)
    libc, spec = ctypes.CDLL(None), (ctypes.c_int64 * 2)()
    clock = ctypes.cast(libc.clock_gettime, ctypes.c_void_p).value
    seen = np.zeros(3, np.uint8)
    out = (times, steps, clock, ctypes.addressof(spec))
    touching.touch_all(memory, touches, lines, seen, out, control)
    assert seen.tolist() == [1, 1, 1]
    assert not memory[1].any()  # also after the write: what it stores changes nothing
    assert memory[2, :4088].any()
    assert (times > 0).all()
    assert (np.diff(steps) >= 0).all()
    assert steps[-1] <= control["ended_ns"][0] - control["began_ns"][0]
    assert control["done"][0] == 1


# ---- what a run tells ------------------------------------------------------------------------------


def test_the_touching_process_ends_where_its_parent_is_gone_already():
    # Its parent is this process and not the one it is told, as after a kill while it was starting.
    descriptor = os.memfd_create("test")
    size = touching.shared_bytes(4, 2)
    os.truncate(descriptor, size)
    package = str(Path(touching.__file__).parents[2])
    command = [sys.executable, "-m", touching.__name__, str(descriptor), "4", "2", "1"]
    try:
        ended = subprocess.run(
            command,
            pass_fds=[descriptor],
            env=os.environ | {"PYTHONPATH": package},
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0
        assert not any(os.pread(descriptor, size, 0))  # never said that it is ready
    finally:
        os.close(descriptor)


def test_what_goes_to_other_swap_areas_is_counted(monkeypatch):
    text = (
        "Filename\t\tType\t\tSize\t\tUsed\t\tPriority\n"
        "/dev/zram1   partition\t24572\t\t24000\t\t32767\n"
        "/var/tmp/other.swap   file\t65532\t\t800\t\t0\n"
    )
    monkeypatch.setattr(host, "read_text", lambda _: text)
    assert host._other_swap_pages(Path("/sys/block/zram1")) == 200
    assert host._other_swap_pages(Path("/var/tmp/other.swap")) == 6000


def test_swapping_of_other_processes_is_told():
    counts = {"pgmajfault": 1000, "zswpin": 1100, "pswpin": 200, "swpin_zero": 0, "swap_ra": 100}
    assert host._swapped_by_others(counts) == 200
    repeat = {"vmstat": counts, "kreplay": {"wall_ns": 10**9}, "finished": True}
    repeat["spilled_pages"] = 0
    line = host._line(0, 5, repeat | {"others_swapped_pages": 200})
    assert line.startswith("run 1 of 5: 1.00 s; pgmajfault 1,000, zswpin 1,100")
    assert "200 pages came in for other processes" in line
    assert "other processes" not in host._line(0, 5, repeat | {"others_swapped_pages": 3})
    killed = host._line(1, 5, repeat | {"finished": False, "others_swapped_pages": 0})
    assert "OOM kill" in killed
    spilled = host._line(0, 5, repeat | {"others_swapped_pages": 0, "spilled_pages": 50})
    assert spilled.endswith("50 pages went to other swap areas: its own was full")


def test_means_of_the_second_half_leave_the_first_out():
    rows = {name: [10.0, 20.0, 30.0] for name in host._FOOTPRINT} | {"at_us": [0, 500, 1000]}
    kept = {"pool_samples": [[0, 1, 2, 9], [1000, 3, 4, 9]]}
    footprint = host._footprint({"rows": rows, "kept": kept})
    assert footprint["rss_pages_mean_second_half"] == 25.0
    assert footprint["rss_pages_peak"] == 30
    assert footprint["pool_pages_mean_second_half"] == 3.0
    assert footprint["stored_pages_peak"] == 4
    nothing = host._footprint(
        {"rows": {n: [] for n in host._FOOTPRINT}, "kept": {"pool_samples": []}}
    )
    assert nothing["rss_pages_mean_second_half"] == -1.0


def _repeat(total: int, p99: int) -> dict:
    return {
        "finished": True,
        "latency_sum_ns": total,
        "slow_touch_ns": {"50": 3000, "90": 7000, "99": p99},
        "touch_ns": np.array([total], np.uint32),
    }


def test_the_touches_kept_are_those_of_the_middle_repeat() -> None:
    repeats = [_repeat(total, 1) for total in (50, 20, 40, 10, 30)]
    repeats[3]["finished"] = False
    nth, touch_ns = host._middle(repeats)
    assert nth == 4
    assert touch_ns is not None
    assert touch_ns.tolist() == [30]
    assert host._middle([repeats[3]]) == (0, None)

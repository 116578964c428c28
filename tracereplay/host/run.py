"""Runs a trace on this machine's kernel, inside a memory cgroup with swap and zswap of its own.

What a run writes is what `validate` reads: NAME.json, NAME.trace.parquet, NAME.pages.parquet.
Everything it changes on the machine it puts back, on errors and Ctrl-C too: the swap file, the
cgroup, zswap's parameters, `vm.page-cluster`, `vm.swappiness`. After a kill the next run does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import fcntl
import json
import mmap
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tracereplay import child_command
from tracereplay.errors import HostError, OutputError, SettingsError, strerror
from tracereplay.files import check_free, replacing, write_table
from tracereplay.host import touching
from tracereplay.host.flushes import FlushTrace, trace_flushes
from tracereplay.host.machine import (
    SWAP_PREFIX,
    ZSWAP,
    Cgroup,
    Machine,
    add_swap,
    debug_counters,
    debugfs,
    find_machine,
    is_rotational,
    meminfo,
    numbers_of,
    other_work,
    read_pool,
    read_text,
    set_for_now,
)
from tracereplay.host.signals import held_signals, nap
from tracereplay.host.undo import Journal, Undo
from tracereplay.host.workload import Workload
from tracereplay.host.zram import add_zram, read_zram, zram_compressor, zram_counters
from tracereplay.units import PAGE_BYTES, format_size

Say = Callable[[str], None]

LOCK = Path("/run/tracereplay-host-run.lock")
PAGE_CLUSTER = Path("/proc/sys/vm/page-cluster")
SWAPPINESS = Path("/proc/sys/vm/swappiness")

_POLL_S = 0.001
_READER_PRIORITY = -19  # it sleeps nearly always, and should wake in time
_POOL_EVERY = 2  # readings of the statistics between two of the pool
_POOL_S = 0.05  # between two readings of the pool, where the statistics are never read
_FLUSH_S = 2.2  # mm/memcontrol.c:FLUSH_TIME and a little
_START_S = 120.0  # for the touching process to load its code
_LOCK_S = 0.1  # between two looks whether another run has ended
_SWAP_PER_PAGE = 3  # swap is never half full, which would change what the kernel does with slots
_MIN_SWAP_BYTES = 256 << 20
_SLOW_NS = 1000  # a touch that took longer was no touch of a mapped page
_SLOW_QUANTILES = (50, 90, 99)
_FEW = 20  # pages that came in for others and are not worth a word

VMSTAT = (
    "pgfault", "pgmajfault", "pswpin", "pswpout", "zswpin", "zswpout", "zswpwb", "swap_ra",
    "swap_ra_hit", "workingset_refault_anon", "workingset_activate_anon", "pgactivate",
    "pgdeactivate", "swpin_zero", "swpout_zero", "pgscan_anon", "pgsteal_anon", "nr_vmscan_write",
)  # fmt: skip
# What the cgroup counts itself; /proc/vmstat has other processes' in it.
OWN_V1 = ("pgfault", "pgmajfault", "workingset_refault_anon")


@dataclasses.dataclass(frozen=True)
class HostRun:
    """What a run sets on the machine; None leaves it as it is.

    Attributes
    ----------
    stat_every_ns : between two readings of the cgroup's memory.stat, each of which brings its
        statistics up to date; 0 never reads them
    reads_first : a write touch loads before it stores, and so faults a page in as a read does
    zram : a zram device is the swap device, and zswap is off; `compressor` is the device's
    """

    memory_limit_bytes: int
    swap_directory: Path
    swap_bytes: int | None = None
    repeats: int = 5
    zswap: bool = True
    compressor: str | None = None
    zpool: str | None = None
    pool_percent: int | None = None
    accept_percent: int | None = None
    shrinker: bool = False
    zswap_max_bytes: int | None = None
    writeback: bool = True
    page_cluster: int = 0
    swappiness: int = 60
    stat_every_ns: int = 10_000_000
    reads_first: bool = False
    zram: bool = False

    @property
    def uses_zswap(self) -> bool:
        """Tell whether pages go through zswap."""
        return self.zswap and not self.zram


# ---- settings --------------------------------------------------------------------------------------


def _set_parameters(undo: Undo, run: HostRun) -> None:
    for path, number in ((PAGE_CLUSTER, run.page_cluster), (SWAPPINESS, run.swappiness)):
        set_for_now(undo, path, str(number))
    wanted: dict[str, str | int | None] = {
        "zpool": run.zpool,
        "compressor": None if run.zram else run.compressor,
        "max_pool_percent": run.pool_percent,
        "accept_threshold_percent": run.accept_percent,
        "shrinker_enabled": None if not run.uses_zswap else "Y" if run.shrinker else "N",
        "enabled": "Y" if run.uses_zswap else "N",  # last: no pool of another kind is made
    }
    for name, value in wanted.items():
        path = ZSWAP / name
        if value is None or (value == "N" and not path.exists()):
            continue
        if not path.exists():
            raise HostError(f"{path} is missing: this kernel's zswap has no such setting")
        set_for_now(undo, path, str(value))


def _limit(cgroup: Cgroup, run: HostRun) -> None:
    limit = str(run.memory_limit_bytes)
    if cgroup.is_v1:
        cgroup.set("memory.limit_in_bytes", limit)
        cgroup.set("memory.swappiness", str(run.swappiness))
        return
    cgroup.set("memory.max", limit)
    if run.zswap_max_bytes is not None:
        cgroup.set("memory.zswap.max", str(run.zswap_max_bytes))
    if not run.writeback:
        cgroup.set("memory.zswap.writeback", "0")


# ---- one repeat ------------------------------------------------------------------------------------


@dataclasses.dataclass
class _Child:
    process: subprocess.Popen[bytes]
    memory: mmap.mmap
    control: Any
    touch_ns: Any
    steps_ns: Any


@contextlib.contextmanager
def _child(load: Workload, run: HostRun, cpu: int) -> Iterator[_Child]:
    """Start the touching process and wait until it stands before its loop."""
    touches, pages = load.touches.size, load.lines.size
    size = touching.shared_bytes(touches, pages)
    descriptor = os.memfd_create("tracereplay")
    try:
        os.truncate(descriptor, size)
        memory = mmap.mmap(descriptor, size)
        parts = touching.shared_arrays(memory, touches, pages)
        control, trace, lines, seen, touch_ns, steps_ns = parts
        # All of it is written here, so that this process is charged and not the one under test.
        trace[:], lines[:], seen[:], touch_ns[:], steps_ns[:] = load.touches, load.lines, 0, 0, 0
        control["reads_first"], control["cpu"] = run.reads_first, cpu
        numbers = (descriptor, touches, pages, os.getpid())
        command = child_command(touching.__name__, *map(str, numbers))
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
        process = subprocess.Popen(  # noqa: S603  # our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            pass_fds=[descriptor], env=environment, start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(descriptor)
    try:
        began = time.monotonic()
        while not control[0]["ready"]:
            if process.poll() is not None or time.monotonic() - began > _START_S:
                process.kill()
                text = process.communicate()[1].decode(errors="replace").strip().splitlines()
                raise HostError(f"the touching process did not start: {text[-1] if text else ''}")
            nap(_POLL_S)
        yield _Child(process, memory, control, touch_ns, steps_ns)
    finally:
        process.kill()
        process.communicate()


@dataclasses.dataclass(frozen=True)
class _Where:
    """What all repeats of a run share."""

    machine: Machine
    debug: Path | None
    swap: Path
    zram: Path | None
    flushes: FlushTrace | None
    journal: Journal

    def read_pool(self) -> tuple[int, int]:
        """Return pool and stored pages now."""
        return read_pool(self.debug) if self.zram is None else read_zram(self.zram)


def _choose_cpus() -> tuple[int, int]:
    """Return the CPU of the touching process and one for the readings; the same where there is one.

    To be asked before this process is bound to its own: the readings, which go first everywhere, would
    stop the touches every few milliseconds.
    """
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[-1], allowed[0]


def _run_once(load: Workload, run: HostRun, where: _Where, touch_cpu: int) -> dict[str, Any]:
    """Touch the trace once; return what was counted."""
    debug = where.debug
    with Undo(where.journal) as undo:
        cgroup = Cgroup(undo, where.machine)
        _limit(cgroup, run)
        # Entered after the cgroup, so that the process is gone before the cgroup is removed.
        child = undo.enter_context(_child(load, run, touch_cpu))
        cgroup.set("cgroup.procs", str(child.process.pid))
        before, debug_before = numbers_of(read_text("/proc/vmstat")), debug_counters(debug)
        own_before, others_before = cgroup.read_stat(), _other_swap_pages(where.swap)
        load_before = os.getloadavg()[0]
        if where.flushes is not None:
            where.flushes.clear()
        child.control[0]["go"] = 1
        readings = _sample(child, cgroup, where.read_pool, run)
        after, debug_after = numbers_of(read_text("/proc/vmstat")), debug_counters(debug)
        # A read brings the cgroup's own counters up to date only where more than 64 changes a CPU are
        # pending (mm/memcontrol.c:memcg_vmstats_needs_flush()); the periodic flush takes the rest.
        nap(_FLUSH_S)
        own_after = cgroup.read_stat()
        kills = cgroup.oom_kills()
        finished = bool(child.control[0]["done"])
        if not finished and not kills:
            child.process.wait()
            text = (
                child.process.stderr.read().decode(errors="replace") if child.process.stderr else ""
            )
            lines = text.strip().splitlines()
            raise HostError(
                f"the touching process ended by itself, status {child.process.returncode}: "
                f"{lines[-1] if lines else 'no message'}"
            )
        spilled = _other_swap_pages(where.swap) - others_before
        flushed = {} if where.flushes is None else _flushed(child, cgroup, where)
        device = {} if where.zram is None else {"zram": zram_counters(where.zram)}
        vmstat = {name: after[name] - before[name] for name in VMSTAT if name in after}
        own = OWN_V1 if cgroup.is_v1 else VMSTAT
        vmstat |= {n: own_after[n] - own_before.get(n, 0) for n in own if n in own_after}
        repeat: dict[str, Any] = {
            "finished": finished,
            "oom_kill": kills,
            "vmstat": vmstat,
            "others_swapped_pages": _swapped_by_others(vmstat),
            "spilled_pages": max(spilled, 0),
            "zswap_debug": {n: v - debug_before.get(n, 0) for n, v in debug_after.items()},
            "footprint": _footprint(readings),
            "load_average": [round(load_before, 2), round(os.getloadavg()[0], 2)],
            "memory_stat_end": own_after,
        }
        repeat |= device | flushed
        repeat |= readings.pop("kept")
        repeat |= _times(child, load) if finished else _times_of_killed(child)
        if finished:
            repeat["touch_ns"] = child.touch_ns.copy()
        return repeat


def _flushed(child: _Child, cgroup: Cgroup, where: _Where) -> dict[str, list[int]]:
    """Return when the statistics were brought up to date, us since the first touch."""
    assert where.flushes is not None
    began = int(child.control[0]["began_ns"])
    times_ns = where.flushes.times_ns(cgroup.path, where.machine.root)
    if times_ns is None:
        return {}
    return {"flush_us": [(at - began) // 1000 for at in times_ns if at >= began]}


def _swapped_by_others(vmstat: dict[str, int]) -> int:
    """Return the pages that other processes brought in from swap meanwhile, as far as it shows.

    Each major fault and each page read ahead comes from zswap, the device or the zero map; faults
    are the cgroup's own, the rest is counted for the whole machine (under v2: all its own).
    """
    came_in = sum(vmstat.get(name, 0) for name in ("zswpin", "pswpin", "swpin_zero"))
    return max(came_in - vmstat["pgmajfault"] - vmstat.get("swap_ra", 0), 0)


_NO_TIMES: dict[str, Any] = {
    "latency_ns": {},
    "latency_sum_ns": 0,
    "slow_touch_ns": {},
    "kreplay": {},
    "elapsed_us": [],
}


def _times_of_killed(child: _Child) -> dict[str, Any]:
    """Return how far a run came that an OOM kill ended: what it shared with this process outlives it."""
    touched = np.flatnonzero(child.touch_ns)
    steps_ns = child.steps_ns[child.steps_ns > 0]
    killed = {"touch": int(touched[-1]) + 1 if touched.size else 0, "steps": child.steps_ns.size}
    return _NO_TIMES | {"elapsed_us": (steps_ns // 1000).tolist(), "killed": killed}


def _times(child: _Child, load: Workload) -> dict[str, Any]:
    deadline = time.monotonic() + 10
    while child.control[0]["done"] != 2 and time.monotonic() < deadline:
        child.control[0]["go"] = 2  # the loop ends; what it cost follows
        nap(_POLL_S)
    control = child.control[0]
    quantiles = (1, 10, 25, 50, 75, 90, 95, 99, 99.9, 100)
    values = np.percentile(child.touch_ns, quantiles)
    slow = child.touch_ns[child.touch_ns > _SLOW_NS]
    slow_values = np.percentile(slow, _SLOW_QUANTILES) if slow.size else ()
    return {
        "latency_ns": {f"{q:g}": int(v) for q, v in zip(quantiles, values, strict=True)},
        # Of the touches over 1 us alone: what `validate` compares, repeat by repeat.
        "slow_touch_ns": {
            f"{q}": int(v) for q, v in zip(_SLOW_QUANTILES, slow_values, strict=False)
        },
        "latency_sum_ns": int(child.touch_ns.sum(dtype=np.int64)),
        "kreplay": {
            "records": load.touches.size,
            "pages": load.lines.size,
            "minflt": int(control["minflt"]),
            "majflt": int(control["majflt"]),
            "wall_ns": int(control["ended_ns"] - control["began_ns"]),
        },
        "elapsed_us": (child.steps_ns // 1000).tolist(),
    }


def _sample(
    child: _Child, cgroup: Cgroup, pool: Callable[[], tuple[int, int]], run: HostRun
) -> dict[str, Any]:
    """Read statistics and pool until the trace is done or the process is dead."""
    control, process = child.control, child.process
    reads_stat = run.stat_every_ns > 0
    every_ns = run.stat_every_ns if reads_stat else int(_POOL_S * 1e9)
    rows: dict[str, list[float]] = {name: [] for name in _FOOTPRINT}
    reads_us: list[int] = []
    pool_samples: list[list[int]] = []
    count = 0
    due = time.monotonic_ns()
    while not control[0]["done"] and process.poll() is None:
        now = time.monotonic_ns()
        began = int(control[0]["began_ns"])
        if now < due or not began:
            nap(min(_POLL_S, max(due - now, 0) / 1e9) or _POLL_S / 10)
            continue
        due = now + every_ns
        if reads_stat:
            stat = cgroup.read_stat()
            now = (now + time.monotonic_ns()) // 2
            reads_us.append((now - began) // 1000)
            for name, (v1, v2) in _STAT_KEYS.items():
                rows[name].append(stat.get(v1 if cgroup.is_v1 else v2, 0) / PAGE_BYTES)
        usage = cgroup.usage_pages()
        rows["at_us"].append((now - began) // 1000)
        rows["usage"].append(usage)
        rows["kmem"].append(cgroup.kmem_pages())
        if not reads_stat or count % _POOL_EVERY == 0:
            pages, stored = pool()
            pool_samples.append([(now - began) // 1000, pages, stored, usage])
        count += 1
    return {"kept": {"stat_read_us": reads_us, "pool_samples": pool_samples}, "rows": rows}


_STAT_KEYS = {
    "rss": ("rss", "anon"),
    "inactive_anon": ("inactive_anon", "inactive_anon"),
    "active_anon": ("active_anon", "active_anon"),
    "swap": ("swap", "zswapped"),
}
_FOOTPRINT = (*_STAT_KEYS, "usage", "kmem", "at_us")


def _footprint(readings: dict[str, Any]) -> dict[str, float]:
    """Return means over the second half of the time, and peaks; -1 where nothing was read."""
    rows = {name: np.array(values) for name, values in readings["rows"].items()}
    pool = np.array(readings["kept"]["pool_samples"], np.int64).reshape(-1, 4)
    times = rows.pop("at_us")
    columns = {name: (times, values) for name, values in rows.items()}
    columns |= {"pool": (pool[:, 0], pool[:, 1]), "stored": (pool[:, 0], pool[:, 2])}
    out: dict[str, float] = {}
    for name, (at, values) in columns.items():
        key = f"{name}_pages" if name != "stored" else "stored_pages"
        late = values[at >= at[-1] / 2] if values.size else values
        out[f"{key}_mean_second_half"] = round(float(late.mean()), 1) if late.size else -1.0
        out[f"{key}_peak"] = int(values.max()) if values.size else -1
    return out


# ---- a run -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _alone(say: Say) -> Iterator[Journal]:
    """Hold the machine's settings: two runs at once would take each other's for what was before.

    So would a run after one that was killed: what that one left is put back first.
    """
    try:
        handle = os.open(LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise HostError(f"{LOCK}: {strerror(error)}") from error
    try:
        waits = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waits:
                    say("waiting for another host-run on this machine to end")
                waits = True
            nap(_LOCK_S)
        journal = Journal(handle)
        if left := journal.put_back():
            say(f"note: a host-run was killed here; put back what it left: {', '.join(left)}")
        yield journal
    finally:
        os.close(handle)


def _other_swap_pages(own: Path) -> int:
    """Return the pages in swap areas other than a run's own: what does not fit there goes to them."""
    lines = (line.split() for line in read_text("/proc/swaps").splitlines()[1:])
    kib = PAGE_BYTES >> 10
    return sum(int(used) // kib for name, _, _, used, *_ in lines if Path(name).name != own.name)


def _tell_other_swap(say: Say) -> None:
    areas = [line.split()[0] for line in read_text("/proc/swaps").splitlines()[1:]]
    if areas:
        say(f"note: {len(areas)} other swap area(s) in use; what they take and give is counted too")
    for area in areas:
        if Path(area).name.startswith(SWAP_PREFIX):
            say(
                f"note: {area} is left from a host-run that was killed: `swapoff {area}; rm {area}`"
            )


def check_run(run: HostRun, pages: int) -> None:
    """Say what goes against a run before anything is touched.

    Raises
    ------
    SettingsError, HostError
    """
    if run.memory_limit_bytes < 1 << 20:
        raise SettingsError(
            f"--memory {format_size(run.memory_limit_bytes)}: the kernel needs 1 MiB at least"
        )
    of_zswap = {
        "--allocator": run.zpool,
        "--pool-percent": run.pool_percent,
        "--accept-threshold": run.accept_percent,
        "--shrinker": run.shrinker or None,
        "--zswap-max": run.zswap_max_bytes,
        "--no-writeback": None if run.writeback else True,
    }
    given = [option for option, value in of_zswap.items() if value is not None]
    if run.zram and given:
        raise SettingsError(f"--zram swaps without zswap; leave {' and '.join(given)} out")
    available = meminfo().get("MemAvailable", 0) * 1024
    needed = run.memory_limit_bytes + pages * PAGE_BYTES + (1 << 28)
    if available and needed > available:
        raise HostError(
            f"{format_size(available)} of memory available; the cgroup, its pool and the recorder "
            f"may take {format_size(needed)}, and the machine itself would swap"
        )


@contextlib.contextmanager
def _keeping(repeats: Sequence[Any], turns: int, say: Say) -> Iterator[None]:
    """Lose no run whose repeats are all done because something could not be put back."""
    try:
        yield
    except HostError as error:
        if len(repeats) < turns:
            raise
        say(f"warning: not all is as it was: {error}; the next host-run tries it again")


def try_settings(run: HostRun) -> None:
    """Set what a run needs and put it back; HostError for what this kernel refuses."""
    with held_signals(), _alone(lambda _: None) as journal, Undo(journal) as undo:
        _set_parameters(undo, run)


def host_run(
    load: Workload,
    run: HostRun,
    *,
    say: Say = lambda _: None,
) -> tuple[dict[str, Any], npt.NDArray[np.uint32] | None]:
    """Touch a trace on this machine's kernel, several times; return the record of the run.

    Returns
    -------
    the JSON of the run; ns of each touch of the finished repeat whose touches took neither more nor
    less than the others' in sum (`touch_repeat` says which), None where none finished

    Raises
    ------
    HostError, SettingsError
        The machine lacks something, or refuses a setting; nothing stays changed.
    """
    machine = find_machine(zswap=run.uses_zswap)
    check_run(run, load.lines.size)
    if machine.cgroup == "v1" and (run.zswap_max_bytes is not None or not run.writeback):
        raise HostError("memory.zswap.max and memory.zswap.writeback need cgroup v2; this is v1")
    swap_bytes = run.swap_bytes or max(
        load.lines.size * PAGE_BYTES * _SWAP_PER_PAGE, _MIN_SWAP_BYTES
    )
    swap_bytes = -(-swap_bytes // (1 << 20)) << 20
    repeats: list[dict[str, Any]] = []
    with (
        _keeping(repeats, run.repeats, say),
        held_signals(),
        _alone(say) as journal,
        Undo(journal) as undo,
    ):
        _tell_other_swap(say)
        if busy := other_work():
            say(f"note: {busy}: the times of the touches are longer for it; run on an idle machine")
        _set_parameters(undo, run)
        debug = debugfs(undo)  # zswap's folder is there once it was enabled
        zram = add_zram(undo, run.compressor, swap_bytes) if run.zram else None
        path = zram or add_swap(undo, run.swap_directory, swap_bytes)
        touch_cpu, read_cpu = _choose_cpus()
        allowed = os.sched_getaffinity(0)
        undo.callback(os.sched_setaffinity, 0, allowed)
        os.sched_setaffinity(0, {read_cpu})
        undo.callback(os.setpriority, os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0))
        os.setpriority(os.PRIO_PROCESS, 0, _READER_PRIORITY)
        settings = _settings_now(run, swap_bytes, path)
        where = _Where(machine, debug, path, zram, trace_flushes(undo), journal)
        for turn in range(run.repeats):
            repeats.append(_run_once(load, run, where, touch_cpu))
            say(_line(turn, run.repeats, repeats[-1]))
    finished = [repeat for repeat in repeats if repeat["finished"]]
    first = finished[0] if finished else repeats[0]
    timed, touch_ns = _middle(repeats)
    for repeat in repeats:
        repeat.pop("touch_ns", None)
    record: dict[str, Any] = {
        "kernel": platform.release(),
        "cgroup": machine.cgroup,
        "reclaim": _reclaim(),
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpus": os.cpu_count(),
        "settings": settings,
        "mem_total_kib": meminfo()["MemTotal"],
        "swappiness": run.swappiness,
        # What `validate` must know of the recorder: its own files and memory, and how it writes.
        "recorder": {"file_pages": 0, "reads_first": run.reads_first, "mapped_before": True},
        "load_average": list(os.getloadavg()),
    }
    record |= {name: value for name, value in first.items() if name != "footprint"}
    record["footprint"] = first["footprint"]
    record["touch_repeat"] = timed
    record["repeats"] = repeats
    record["spread"] = _spread([repeat["vmstat"] for repeat in finished])
    return record, touch_ns


def _middle(repeats: Sequence[dict[str, Any]]) -> tuple[int, npt.NDArray[np.uint32] | None]:
    """Return the finished repeat in the middle by the time of its touches, and those times."""
    order = sorted(
        (nth for nth, repeat in enumerate(repeats) if repeat["finished"]),
        key=lambda nth: repeats[nth]["latency_sum_ns"],
    )
    if not order:
        return 0, None
    nth = order[(len(order) - 1) // 2]
    return nth, repeats[nth]["touch_ns"]


def _line(turn: int, turns: int, repeat: dict[str, Any]) -> str:
    vmstat = repeat["vmstat"]
    seconds = repeat["kreplay"].get("wall_ns", 0) / 1e9
    end = f"{seconds:.2f} s" if repeat["finished"] else "ended by an OOM kill"
    counts = ", ".join(
        f"{name} {vmstat[name]:,}"
        for name in ("pgmajfault", "zswpin", "zswpout", "pswpin", "pswpout")
        if vmstat.get(name)
    )
    others = repeat["others_swapped_pages"]
    disturbed = (
        f"; {others:,} pages came in for other processes, whose swapping is counted too"
        if others > max(_FEW, vmstat["pgmajfault"] // 100)
        else ""
    )
    if repeat["spilled_pages"] > _FEW:
        disturbed += (
            f"; {repeat['spilled_pages']:,} pages went to other swap areas: its own was full"
        )
    return f"run {turn + 1} of {turns}: {end}; {counts or 'no reclaim'}{disturbed}"


def _settings_now(run: HostRun, swap_bytes: int, path: Path) -> dict[str, Any]:
    """Return the settings as the kernel has them now."""
    settings: dict[str, Any] = {
        "limit_mib": run.memory_limit_bytes / (1 << 20),
        "zswap": "Y" if run.uses_zswap else "N",
        "page_cluster": run.page_cluster,
        "swap_mib": swap_bytes >> 20,
        "rotational": is_rotational(path),
        "pool_percent": int(read_text(ZSWAP / "max_pool_percent") or 20),
        "accept": int(read_text(ZSWAP / "accept_threshold_percent") or 90),
        "shrinker": read_text(ZSWAP / "shrinker_enabled").strip() or "N",
        "compressor": kernel_compressor(),
    }
    if (ZSWAP / "zpool").exists():
        settings["zpool"] = read_text(ZSWAP / "zpool").strip()
    if run.zswap_max_bytes is not None:
        settings["zswap_max"] = run.zswap_max_bytes
    if not run.writeback:
        settings["zswap_writeback"] = 0
    if run.zram:
        settings |= {"zram": "Y", "compressor": zram_compressor(path)}
    return settings


def kernel_compressor() -> str:
    """Return the compressor that zswap has now."""
    return read_text(ZSWAP / "compressor").strip() or "lzo"


def _reclaim() -> str:
    text = read_text("/sys/kernel/mm/lru_gen/enabled").strip()
    return "mglru" if text and int(text, 16) & 1 else "two-list"


def _spread(counters: Sequence[dict[str, int]]) -> dict[str, dict[str, float]]:
    out = {}
    for name in counters[0] if counters else ():
        values = [each[name] for each in counters if name in each]
        if any(values):
            mean = round(float(np.mean(values)), 1)
            out[name] = {"mean": mean, "min": min(values), "max": max(values)}
    return out


def check_output(folder: Path, name: str, *, force: bool) -> None:
    """Make the folder; raise OutputError where a file of the run is there, or cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: {strerror(error)}") from error
    for suffix in (".json", ".trace.parquet", ".pages.parquet"):
        check_free(folder / f"{name}{suffix}", force=force)


def write_run(
    folder: Path,
    name: str,
    record: dict[str, Any],
    load: Workload,
    touch_ns: npt.NDArray[np.uint32] | None,
    sizes: dict[str, npt.NDArray[np.uint16]],
    *,
    force: bool = False,
) -> list[Path]:
    """Write NAME.json, NAME.trace.parquet and NAME.pages.parquet; return their paths."""
    trace = pl.DataFrame(
        {
            "page": load.touches & np.uint32(0x7FFFFFFF),
            "is_write": load.touches >= touching.WRITE,
        }
    )
    if touch_ns is not None:
        trace = trace.with_columns(touch_ns=pl.Series(touch_ns))
    lines = np.where(load.lines == touching.NO_LINES, 0, load.lines).astype(np.uint8)
    pages = pl.DataFrame(
        {
            "page": np.arange(lines.size, dtype=np.uint32),
            "random_lines": lines,
            "zero_filled": load.lines == touching.ALL_ZERO,
        }
        | {column: values[lines] for column, values in sizes.items()}
    )
    paths = [folder / f"{name}{suffix}" for suffix in (".json", ".trace.parquet", ".pages.parquet")]
    write_table(trace, paths[1], force=force)
    write_table(pages, paths[2], force=force)
    with replacing(paths[0], force=force) as part:
        part.write_text(json.dumps(record, separators=(",", ":")) + "\n", encoding="utf-8")
    return paths

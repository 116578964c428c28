"""Runs a trace on this machine's kernel, inside a memory cgroup with swap and zswap of its own.

What a run writes is what `validate` reads: NAME.json, NAME.trace.parquet, NAME.pages.parquet.
Everything it changes on the machine it puts back, on errors and Ctrl-C too: the swap file, the
cgroup, zswap's parameters, `vm.page-cluster`, `vm.swappiness`.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import datetime as dt
import errno
import fcntl
import json
import mmap
import os
import platform
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tracereplay.errors import HostError, InputError, OutputError, SettingsError
from tracereplay.files import check_free, replacing
from tracereplay.host import touching
from tracereplay.host.pages import COMPRESSORS, choose_columns
from tracereplay.trace import Trace
from tracereplay.units import PAGE_BYTES, format_size

Say = Callable[[str], None]

LINES = PAGE_BYTES // touching.LINE_BYTES
ZSWAP = Path("/sys/module/zswap/parameters")
LOCK = Path("/run/tracereplay-host-run.lock")
PAGE_CLUSTER = Path("/proc/sys/vm/page-cluster")
SWAPPINESS = Path("/proc/sys/vm/swappiness")
DEBUG = Path("/sys/kernel/debug")

_POLL_S = 0.001
_READER_PRIORITY = -19  # it sleeps nearly always, and should wake in time
_POOL_EVERY = 2  # readings of the statistics between two of the pool
_POOL_S = 0.05  # between two readings of the pool, where the statistics are never read
_FLUSH_S = 2.2  # mm/memcontrol.c:FLUSH_TIME and a little
_START_S = 120.0  # for the touching process to load its code
_SPARE_BYTES = 64 << 20
_SWAP_PER_PAGE = 3  # swap is never half full, which would change what the kernel does with slots
_MIN_SWAP_BYTES = 256 << 20
_SLOW_NS = 1000  # a touch that took longer was no touch of a mapped page
_SLOW_QUANTILES = (50, 90, 99)
_FEW = 20  # pages that came in for others and are not worth a word
_SWAP_FLAG_PREFER = 0x8000
_HIGHEST_PRIORITY = 32767

VMSTAT = (
    "pgfault", "pgmajfault", "pswpin", "pswpout", "zswpin", "zswpout", "zswpwb", "swap_ra",
    "swap_ra_hit", "workingset_refault_anon", "workingset_activate_anon", "pgactivate",
    "pgdeactivate", "swpin_zero", "swpout_zero", "pgscan_anon", "pgsteal_anon", "nr_vmscan_write",
)  # fmt: skip
# A page of k random lines by LZO 2.10's lzo1x-1, for where python-lzo is not installed.
LZO_BYTES = (
    44, 109, 173, 246, 308, 381, 437, 509, 573, 645, 701, 773, 846, 926, 982, 1036, 1101, 1173,
    1245, 1324, 1365, 1454, 1493, 1588, 1637, 1742, 1789, 1845, 1901, 1965, 2021, 2149, 2213, 2285,
    2357, 2357, 2429, 2501, 2580, 2661, 2741, 2828, 2828, 2917, 3005, 3101, 3101, 3198, 3293, 3293,
    3397, 3501, 3501, 3613, 3613, 3726, 3836, 3836, 3957, 3957, 4077, 4077, 4096, 4096, 4096,
)  # fmt: skip
# The same by the kernel's lzo-rle, which no library has: `compr_data_size` of a zram device, Linux
# 6.18. zram keeps what is larger than 3632 bytes as it is; above, lzo's size less the 115 bytes that
# runs of zeros save: such a page takes a whole one in the pool by either.
LZO_RLE_BYTES = (
    41, 101, 166, 231, 298, 366, 423, 490, 552, 623, 681, 745, 815, 893, 948, 1007, 1070, 1138,
    1209, 1284, 1323, 1407, 1450, 1541, 1588, 1688, 1740, 1794, 1850, 1907, 1966, 2085, 2150, 2216,
    2284, 2284, 2356, 2429, 2504, 2581, 2662, 2744, 2744, 2829, 2918, 3008, 3008, 3101, 3198, 3198,
    3297, 3400, 3400, 3505, 3505, 3614, 3721, 3721, 3842, 3842, 3962, 3962, 4096, 4096, 4096,
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


@dataclasses.dataclass(frozen=True)
class Workload:
    """A trace as it is touched.

    touches : uint32, shape (touches,): page, bit 31 set for a write
    lines : uint8, shape (pages,): 64-byte lines of random bytes, or touching.ALL_ZERO, NO_LINES
    """

    touches: npt.NDArray[np.uint32]
    lines: npt.NDArray[np.uint8]


# ---- the trace and its pages -----------------------------------------------------------------------


def load_touches(
    trace: Trace,
) -> tuple[
    npt.NDArray[np.uint32], npt.NDArray[np.uint64], npt.NDArray[np.uint32], list[int | None]
]:
    """Return the touches of a trace, and which pages they number.

    Pages are numbered from 0 in the order of process and address, so that neighbours stay
    neighbours; gaps between mappings go.

    Returns
    -------
    touches; page, index of the process, and processes of each number

    Raises
    ------
    InputError
        The trace has no accesses, or other pages than 4 KiB.
    """
    if trace.page_bytes != PAGE_BYTES:
        raise InputError(f"{trace.name}: pages of {trace.page_bytes} bytes; host-run touches 4 KiB")
    parts = [
        batch.page_ids | (batch.is_write.astype(np.uint32) << np.uint32(31))
        for batch in trace.batches()
    ]
    if not parts or not sum(part.size for part in parts):
        raise InputError(f"{trace.name}: no accesses")
    raw = np.concatenate(parts)
    pages, owner, pids = trace.page_keys()
    order = np.lexsort((pages, owner))
    number = np.empty(order.size, np.uint32)
    number[order] = np.arange(order.size, dtype=np.uint32)
    touches = number[raw & np.uint32(0x7FFFFFFF)] | raw & touching.WRITE
    return touches, pages[order], owner[order], pids


def line_sizes() -> dict[str, npt.NDArray[np.uint16]]:
    """Return by codec the compressed size of a page with 0 … 64 random lines."""
    texts = np.zeros((LINES + 1, PAGE_BYTES), np.uint8)
    touching.fill_pages(texts, np.arange(LINES + 1, dtype=np.uint8))
    sizes = {
        "lzo_bytes": np.array(LZO_BYTES, np.uint16),
        "lzo_rle_bytes": np.array(LZO_RLE_BYTES, np.uint16),
    }
    for column in choose_columns()[0]:
        compress = COMPRESSORS[column]()
        packed = [min(len(compress(text.tobytes())), PAGE_BYTES) for text in texts]
        sizes[column] = np.array(packed, np.uint16)
    return sizes


def lines_for(
    wanted_bytes: npt.NDArray[np.uint16],
    zero_filled: npt.NDArray[np.bool_],
    sizes: npt.NDArray[np.uint16],
) -> npt.NDArray[np.uint8]:
    """Return the random lines whose compressed size comes nearest to the one wanted."""
    ascending = np.maximum.accumulate(sizes[1:].astype(np.int64))
    above = np.searchsorted(ascending, wanted_bytes).clip(0, LINES - 1)
    below = (above - 1).clip(0)
    nearer = wanted_bytes - ascending[below] < ascending[above] - wanted_bytes
    lines = np.where(nearer, below, above).astype(np.uint8) + np.uint8(1)
    lines[wanted_bytes >= PAGE_BYTES] = LINES
    lines[zero_filled] = touching.ALL_ZERO
    return lines


def recorded_lines(path: Path, pages: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8] | None:
    """Return the lines of pages from the page table of a recorded run; None where it is no such table.

    Raises
    ------
    InputError
        The table cannot be read, or lacks a page of the trace.
    """
    try:
        table = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: {error}") from error
    if not {"page", "random_lines"} <= set(table.columns):
        return None
    zero = pl.col("zero_filled") if "zero_filled" in table.columns else pl.lit(value=False)
    lines = (
        pl.when(zero)
        .then(touching.ALL_ZERO)
        .when(pl.col("random_lines") == 0)
        .then(touching.NO_LINES)
        .otherwise("random_lines")
        .cast(pl.UInt8)
    )
    table = table.select(pl.col("page").cast(pl.UInt64), lines=lines).unique("page")
    found = pl.DataFrame({"page": pages}).join(table, on="page", how="left", maintain_order="left")
    missing = found["lines"].null_count()
    if missing:
        raise InputError(f"{path}: {missing:,} pages of the trace are missing")
    return found["lines"].to_numpy()


# ---- the machine -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where this machine keeps what a run needs."""

    cgroup: str  # "v1" or "v2"
    root: Path


def find_machine(*, zswap: bool = True, what: str = "host-run") -> Machine:
    """Return where the memory controller is, or say why a run cannot be.

    Raises
    ------
    HostError
        No root, no swap support, no zswap, no memory controller, kernels not compiled.
    """
    if platform.system() != "Linux":
        raise HostError(f"{what} needs Linux")
    if not touching.IS_COMPILED:
        raise HostError(f"{what} touches pages from compiled code; unset NUMBA_DISABLE_JIT")
    if os.geteuid() != 0:
        raise HostError(f"{what} needs root, for a cgroup, a swap file and zswap; try sudo")
    if not Path("/proc/swaps").exists():
        raise HostError(f"this kernel has no swap (CONFIG_SWAP); {what} needs it")
    if zswap and not ZSWAP.is_dir():
        hint = "; --no-zswap runs without" if what == "host-run" else f"; {what} needs it"
        raise HostError(f"this kernel has no zswap (CONFIG_ZSWAP: /sys/module/zswap){hint}")
    return _memory_controller(_read("/proc/self/mounts"))


def _memory_controller(mounts: str) -> Machine:
    unified = None
    for line in mounts.splitlines():
        _, where, kind, options, *_ = line.split(" ")
        folder = Path(where.replace("\\040", " "))
        if kind == "cgroup" and "memory" in options.split(","):
            return Machine("v1", folder)
        if kind == "cgroup2" and "memory" in _read(folder / "cgroup.controllers").split():
            unified = Machine("v2", folder)
    if unified is None:
        raise HostError(
            "no memory controller: mount cgroup2, or cgroup with `-o memory`, and see that "
            "cgroup.controllers names `memory`"
        )
    return unified


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="ascii")
    except OSError as error:
        raise HostError(f"{path}: cannot be set to {text!r}: {error.strerror or error}") from error


def _table(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {p[0]: int(p[1]) for p in pairs if len(p) == 2 and p[1].lstrip("-").isdigit()}


def _set_for_now(undo: contextlib.ExitStack, path: Path, value: str) -> None:
    before = _read(path).strip()
    if before == value:
        return
    undo.callback(_write, path, before)
    _write(path, value)
    if _read(path).strip() != value:
        raise HostError(
            f"{path}: the kernel does not take {value!r} and keeps {_read(path).strip()!r}"
        )


def _set_parameters(undo: contextlib.ExitStack, run: HostRun) -> None:
    for path, number in ((PAGE_CLUSTER, run.page_cluster), (SWAPPINESS, run.swappiness)):
        _set_for_now(undo, path, str(number))
    wanted: dict[str, str | int | None] = {
        "zpool": run.zpool,
        "compressor": run.compressor,
        "max_pool_percent": run.pool_percent,
        "accept_threshold_percent": run.accept_percent,
        "shrinker_enabled": None if not run.zswap else "Y" if run.shrinker else "N",
        "enabled": "Y" if run.zswap else "N",  # last: no pool of another kind is made
    }
    for name, value in wanted.items():
        path = ZSWAP / name
        if value is None or (value == "N" and not path.exists()):
            continue
        if not path.exists():
            raise HostError(f"{path} is missing: this kernel's zswap has no such setting")
        _set_for_now(undo, path, str(value))


# ---- swap ------------------------------------------------------------------------------------------


def _swap_header(pages: int) -> bytes:
    """Return the first page of a swap file (include/linux/swap.h:union swap_header)."""
    header = bytearray(PAGE_BYTES)
    struct.pack_into("=III", header, 1024, 1, pages - 1, 0)
    header[-10:] = b"SWAPSPACE2"
    return bytes(header)


def _add_swap(undo: contextlib.ExitStack, folder: Path, size_bytes: int) -> Path:
    """Make a swap file and use it before any other.

    Raises
    ------
    HostError
        The folder is missing, full, or on a file system that cannot hold swap.
    """
    if not folder.is_dir():
        raise HostError(f"{folder}: no such folder for the swap file")
    state = os.statvfs(folder)
    free = state.f_bavail * state.f_frsize
    if free < size_bytes + _SPARE_BYTES:
        raise HostError(
            f"{folder}: {format_size(free)} free, the swap file needs {format_size(size_bytes)} and "
            f"{format_size(_SPARE_BYTES)} to spare; --swap-directory names another folder, "
            "--swap-size another size"
        )
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        handle, name = tempfile.mkstemp(prefix=".tracereplay.", suffix=".swap", dir=folder)
    except OSError as error:
        raise HostError(f"{folder}: {error.strerror or error}") from error
    path = Path(name)
    undo.callback(path.unlink)
    refused = 0
    try:
        with os.fdopen(handle, "r+b", buffering=0) as file:
            for fill in (False, True):  # some file systems count allocated blocks as holes
                if fill:
                    for _ in range(0, size_bytes, 1 << 20):
                        file.write(bytes(1 << 20))
                else:
                    os.posix_fallocate(file.fileno(), 0, size_bytes)
                file.seek(0)
                file.write(_swap_header(size_bytes // PAGE_BYTES))
                file.seek(0)
                os.fsync(file.fileno())
                flags = _SWAP_FLAG_PREFER | _HIGHEST_PRIORITY
                if libc.swapon(os.fsencode(path), flags) == 0:
                    undo.callback(_swap_off, libc, path)
                    return path
                refused = ctypes.get_errno()
                if refused != errno.EINVAL:
                    break
    except OSError as error:
        raise HostError(f"{path}: {error.strerror or error}") from error
    raise HostError(
        f"{path}: swapon: {os.strerror(refused)}; is {folder} on a disk's own file system, "
        "such as ext4 or xfs? --swap-directory names another"
    )


def _swap_off(libc: Any, path: Path) -> None:
    if libc.swapoff(os.fsencode(path)) != 0:
        raise HostError(
            f"{path}: swapoff: {os.strerror(ctypes.get_errno())}; try `swapoff {path}; rm {path}`"
        )


def _is_rotational(path: Path) -> int:
    """Tell whether the kernel takes the disk below a file for a rotational one; -1 unknown."""
    device = path.stat().st_dev
    folder = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    for where in (folder / "queue/rotational", folder.resolve().parent / "queue/rotational"):
        if where.exists():
            return int(_read(where))
    return -1


# ---- cgroup ----------------------------------------------------------------------------------------


class _Cgroup:
    """An own memory cgroup with a limit."""

    def __init__(self, undo: contextlib.ExitStack, machine: Machine, run: HostRun) -> None:
        self.is_v1 = machine.cgroup == "v1"
        if not self.is_v1:
            control = machine.root / "cgroup.subtree_control"
            if "memory" not in _read(control).split():
                undo.callback(_write, control, "-memory")
                _write(control, "+memory")
        self.path = machine.root / f"tracereplay-{os.getpid()}"
        try:
            self.path.mkdir()
        except OSError as error:
            raise HostError(f"{self.path}: {error.strerror or error}") from error
        undo.callback(self._remove)
        limit = str(run.memory_limit_bytes)
        if self.is_v1:
            self.set("memory.limit_in_bytes", limit)
            self.set("memory.swappiness", str(run.swappiness))
        else:
            self.set("memory.max", limit)
            if run.zswap_max_bytes is not None:
                self.set("memory.zswap.max", str(run.zswap_max_bytes))
            if not run.writeback:
                self.set("memory.zswap.writeback", "0")
        self.stat = self._open("memory.stat")
        self.usage = self._open("memory.usage_in_bytes" if self.is_v1 else "memory.current")
        self.kmem = self._open("memory.kmem.usage_in_bytes") if self.is_v1 else -1
        for handle in (self.stat, self.usage, *([self.kmem] if self.is_v1 else [])):
            undo.callback(os.close, handle)

    def _open(self, name: str) -> int:
        try:
            return os.open(self.path / name, os.O_RDONLY)
        except OSError as error:
            raise HostError(f"{self.path / name}: {error.strerror or error}") from error

    def set(self, name: str, text: str) -> None:
        path = self.path / name
        if not path.exists():
            raise HostError(
                f"{name}: cgroup {'v1' if self.is_v1 else 'v2'} of this kernel has none"
            )
        _write(path, text)

    def read_stat(self) -> dict[str, int]:
        return _table(os.pread(self.stat, 1 << 16, 0).decode("ascii"))

    def usage_pages(self) -> int:
        return int(os.pread(self.usage, 64, 0)) // PAGE_BYTES

    def kmem_pages(self) -> int:
        return int(os.pread(self.kmem, 64, 0)) // PAGE_BYTES if self.is_v1 else -1

    def oom_kills(self) -> int:
        name = "memory.oom_control" if self.is_v1 else "memory.events"
        return _table(_read(self.path / name)).get("oom_kill", 0)

    def _remove(self) -> None:
        for _ in range(200):  # a killed process leaves its cgroup a moment later
            try:
                self.path.rmdir()
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise HostError(f"{self.path}: {error.strerror or error}") from error
                time.sleep(0.01)
            else:
                return
        raise HostError(f"{self.path}: still in use; remove it with rmdir")


# ---- counters --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _debugfs() -> Iterator[Path | None]:
    """Yield the folder of zswap's own counters, mounting debugfs where nobody has; None without."""
    if (DEBUG / "zswap").is_dir():
        yield DEBUG / "zswap"
        return
    libc = ctypes.CDLL(None, use_errno=True)
    folder = Path(tempfile.mkdtemp(prefix="tracereplay."))
    mounted = libc.mount(b"none", os.fsencode(folder), b"debugfs", 0, None) == 0
    try:
        yield folder / "zswap" if mounted and (folder / "zswap").is_dir() else None
    finally:
        if mounted:
            libc.umount2(os.fsencode(folder), 2)  # MNT_DETACH
        folder.rmdir()


def _debug_counters(folder: Path | None) -> dict[str, int]:
    if folder is None:
        return {}
    texts = {path.name: _read(path).strip() for path in folder.iterdir()}
    return {name: int(text) for name, text in texts.items() if text.isdigit()}


def _read_pool(folder: Path | None) -> tuple[int, int]:
    """Return pool and stored pages now, from debugfs, or from /proc/meminfo without it."""
    if folder is not None:
        total = int(_read(folder / "pool_total_size") or 0)
        return total // PAGE_BYTES, int(_read(folder / "stored_pages") or 0)
    text = _meminfo()
    return text.get("Zswap", 0) // 4, text.get("Zswapped", 0) // 4


def _meminfo() -> dict[str, int]:
    """Return the lines of /proc/meminfo, in KiB."""
    return _table(_read("/proc/meminfo").replace(":", "").replace(" kB", ""))


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
        command = [sys.executable, "-m", touching.__name__, *map(str, numbers)]
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
        package = str(Path(__file__).parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(
            [package, *filter(None, [os.environ.get("PYTHONPATH")])]
        )
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
            time.sleep(_POLL_S)
        yield _Child(process, memory, control, touch_ns, steps_ns)
    finally:
        process.kill()
        process.communicate()


def _choose_cpus() -> tuple[int, int]:
    """Return the CPU of the touching process and one for the readings; the same where there is one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[-1], allowed[0]


def _run_once(load: Workload, run: HostRun, machine: Machine, debug: Path | None) -> dict[str, Any]:
    """Touch the trace once; return what was counted."""
    touch_cpu, _ = _choose_cpus()
    with contextlib.ExitStack() as undo:
        cgroup = _Cgroup(undo, machine, run)
        # Entered after the cgroup, so that the process is gone before the cgroup is removed.
        child = undo.enter_context(_child(load, run, touch_cpu))
        cgroup.set("cgroup.procs", str(child.process.pid))
        before, debug_before = _table(_read("/proc/vmstat")), _debug_counters(debug)
        own_before = cgroup.read_stat()
        load_before = os.getloadavg()[0]
        child.control[0]["go"] = 1
        readings = _sample(child, cgroup, debug, run)
        after, debug_after = _table(_read("/proc/vmstat")), _debug_counters(debug)
        # A read brings the cgroup's own counters up to date only where more than 64 changes a CPU are
        # pending (mm/memcontrol.c:memcg_vmstats_needs_flush()); the periodic flush takes the rest.
        time.sleep(_FLUSH_S)
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
        vmstat = {name: after[name] - before[name] for name in VMSTAT if name in after}
        own = OWN_V1 if cgroup.is_v1 else VMSTAT
        vmstat |= {n: own_after[n] - own_before.get(n, 0) for n in own if n in own_after}
        repeat: dict[str, Any] = {
            "finished": finished,
            "oom_kill": kills,
            "vmstat": vmstat,
            "others_swapped_pages": _swapped_by_others(vmstat),
            "zswap_debug": {n: v - debug_before.get(n, 0) for n, v in debug_after.items()},
            "footprint": _footprint(readings),
            "load_average": [round(load_before, 2), round(os.getloadavg()[0], 2)],
            "memory_stat_end": own_after,
        } | readings.pop("kept")
        repeat |= _times(child, load) if finished else _times_of_killed(child)
        if finished:
            repeat["touch_ns"] = child.touch_ns.copy()
        return repeat


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
        time.sleep(_POLL_S)
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


def _sample(child: _Child, cgroup: _Cgroup, debug: Path | None, run: HostRun) -> dict[str, Any]:
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
            time.sleep(min(_POLL_S, max(due - now, 0) / 1e9) or _POLL_S / 10)
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
            pages, stored = _read_pool(debug)
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
def _ended_by_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into an exception, so that the machine is put back on those too."""

    def end(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _alone(say: Say) -> Iterator[None]:
    """Hold the machine's settings: two runs at once would take each other's for what was before."""
    try:
        handle = os.open(LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise HostError(f"{LOCK}: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another host-run on this machine to end")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def check_run(run: HostRun, pages: int) -> None:
    """Say what goes against a run before anything is touched.

    Raises
    ------
    SettingsError, HostError
    """
    if run.memory_limit_bytes < 1 << 20:
        raise SettingsError(
            f"--limit {format_size(run.memory_limit_bytes)}: the kernel needs 1 MiB at least"
        )
    available = _meminfo().get("MemAvailable", 0) * 1024
    needed = run.memory_limit_bytes + pages * PAGE_BYTES + (1 << 28)
    if available and needed > available:
        raise HostError(
            f"{format_size(available)} of memory available; the cgroup, its pool and the recorder "
            f"may take {format_size(needed)}, and the machine itself would swap"
        )


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
    machine = find_machine(zswap=run.zswap)
    check_run(run, load.lines.size)
    if machine.cgroup == "v1" and (run.zswap_max_bytes is not None or not run.writeback):
        raise HostError("memory.zswap.max and memory.zswap.writeback need cgroup v2; this is v1")
    swap_bytes = run.swap_bytes or max(
        load.lines.size * PAGE_BYTES * _SWAP_PER_PAGE, _MIN_SWAP_BYTES
    )
    swap_bytes = -(-swap_bytes // (1 << 20)) << 20
    with contextlib.ExitStack() as undo:
        undo.enter_context(_ended_by_signals())
        undo.enter_context(_alone(say))
        others = len(_read("/proc/swaps").splitlines()) - 1
        if others > 0:
            say(f"note: {others} other swap area(s) in use; what they take and give is counted too")
        _set_parameters(undo, run)
        debug = undo.enter_context(_debugfs())  # zswap's folder is there once it was enabled
        path = _add_swap(undo, run.swap_directory, swap_bytes)
        _, read_cpu = _choose_cpus()
        allowed = os.sched_getaffinity(0)
        undo.callback(os.sched_setaffinity, 0, allowed)
        os.sched_setaffinity(0, {read_cpu})
        undo.callback(os.setpriority, os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0))
        os.setpriority(os.PRIO_PROCESS, 0, _READER_PRIORITY)
        settings = _settings_now(run, swap_bytes, path)
        repeats = []
        for turn in range(run.repeats):
            repeats.append(_run_once(load, run, machine, debug))
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
        "mem_total_kib": _meminfo()["MemTotal"],
        "swappiness": run.swappiness,
        # What `validate` must know of the recorder: its own files, and how it writes.
        "recorder": {"file_pages": 0, "reads_first": run.reads_first},
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
    return f"run {turn + 1} of {turns}: {end}; {counts or 'no reclaim'}{disturbed}"


def _settings_now(run: HostRun, swap_bytes: int, path: Path) -> dict[str, Any]:
    """Return the settings as the kernel has them now."""
    settings: dict[str, Any] = {
        "limit_mib": run.memory_limit_bytes / (1 << 20),
        "zswap": "Y" if run.zswap else "N",
        "page_cluster": run.page_cluster,
        "swap_mib": swap_bytes >> 20,
        "rotational": _is_rotational(path),
        "pool_percent": int(_read(ZSWAP / "max_pool_percent") or 20),
        "accept": int(_read(ZSWAP / "accept_threshold_percent") or 90),
        "shrinker": _read(ZSWAP / "shrinker_enabled").strip() or "N",
        "compressor": kernel_compressor(),
    }
    if (ZSWAP / "zpool").exists():
        settings["zpool"] = _read(ZSWAP / "zpool").strip()
    if run.zswap_max_bytes is not None:
        settings["zswap_max"] = run.zswap_max_bytes
    if not run.writeback:
        settings["zswap_writeback"] = 0
    return settings


def kernel_compressor() -> str:
    """Return the compressor that zswap has now."""
    return _read(ZSWAP / "compressor").strip() or "lzo"


def _reclaim() -> str:
    text = _read("/sys/kernel/mm/lru_gen/enabled").strip()
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
        raise OutputError(f"{folder}: {error.strerror or error}") from error
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
    with replacing(paths[1], force=force) as part:
        trace.write_parquet(part)
    with replacing(paths[2], force=force) as part:
        pages.write_parquet(part)
    with replacing(paths[0], force=force) as part:
        part.write_text(json.dumps(record, separators=(",", ":")) + "\n", encoding="utf-8")
    return paths

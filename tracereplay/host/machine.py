"""What a run changes on this machine and reads from it: settings, swap file, memory cgroup, counters.

Whatever is changed is put back by the Undo it was changed under.
"""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import os
import struct
import tempfile
from pathlib import Path

from tracereplay.errors import HostError, strerror
from tracereplay.host import touching
from tracereplay.host.signals import nap
from tracereplay.host.system import need_linux
from tracereplay.host.undo import SWAP_LABEL, Undo
from tracereplay.units import PAGE_BYTES, format_size

ZSWAP = Path("/sys/module/zswap/parameters")
DEBUG = Path("/sys/kernel/debug")

SWAP_PREFIX = ".tracereplay."
_SPARE_BYTES = 64 << 20
_BUSY_SHARE = 0.5  # of the CPUs
SWAPON_FLAGS = 0x8000 | 32767  # SWAP_FLAG_PREFER, and the highest priority there is


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
        No Linux, other pages than 4 KiB, no root, no swap support, no zswap, no memory controller, kernels not compiled.
    """
    need_linux(what)
    if not touching.IS_COMPILED:
        raise HostError(f"{what} touches pages from compiled code; unset NUMBA_DISABLE_JIT")
    if os.geteuid() != 0:
        raise HostError(f"{what} needs root, for a cgroup, a swap file and zswap; try sudo")
    if not Path("/proc/swaps").exists():
        raise HostError(f"this kernel has no swap (CONFIG_SWAP); {what} needs it")
    if zswap and not ZSWAP.is_dir():
        hint = "; --no-zswap runs without" if what == "host-run" else f"; {what} needs it"
        raise HostError(f"this kernel has no zswap (CONFIG_ZSWAP: /sys/module/zswap){hint}")
    return _memory_controller(read_text("/proc/self/mounts"))


def _memory_controller(mounts: str) -> Machine:
    unified = None
    for line in mounts.splitlines():
        _, where, kind, options, *_ = line.split(" ")
        folder = Path(where.replace("\\040", " "))
        if kind == "cgroup" and "memory" in options.split(","):
            return Machine("v1", folder)
        if kind == "cgroup2" and "memory" in read_text(folder / "cgroup.controllers").split():
            unified = Machine("v2", folder)
    if unified is None:
        raise HostError(
            "no memory controller: mount cgroup2, or cgroup with `-o memory`, and see that "
            "cgroup.controllers names `memory`"
        )
    return unified


def read_text(path: str | Path) -> str:
    """Return what a file of the kernel says, nothing where it cannot be read."""
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def write_text(path: Path, text: str) -> None:
    """Set what a file of the kernel says; HostError where it refuses."""
    try:
        path.write_text(text, encoding="ascii")
    except OSError as error:
        raise HostError(f"{path}: cannot be set to {text!r}: {strerror(error)}") from error


def numbers_of(text: str) -> dict[str, int]:
    """Return the numbers of lines like those of memory.stat, a name and a number each."""
    pairs = (line.split() for line in text.splitlines())
    return {p[0]: int(p[1]) for p in pairs if len(p) == 2 and p[1].lstrip("-").isdigit()}


def set_for_now(undo: Undo, path: Path, value: str) -> None:
    """Set what a file says until `undo` is closed; HostError where the kernel keeps another value."""
    before = read_text(path).strip()
    if before == value:
        return
    undo.later("setting", path, before)
    write_text(path, value)
    if read_text(path).strip() != value:
        raise HostError(
            f"{path}: the kernel does not take {value!r} and keeps {read_text(path).strip()!r}"
        )


# ---- swap ------------------------------------------------------------------------------------------


def swap_header(pages: int) -> bytes:
    """Return the first page of a swap file (include/linux/swap.h:union swap_header)."""
    header = bytearray(PAGE_BYTES)
    struct.pack_into("=III", header, 1024, 1, pages - 1, 0)
    header[1052 : 1052 + len(SWAP_LABEL)] = SWAP_LABEL  # sws_volume
    header[-10:] = b"SWAPSPACE2"
    return bytes(header)


def add_swap(undo: Undo, folder: Path, size_bytes: int) -> Path:
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
        handle, name = tempfile.mkstemp(prefix=SWAP_PREFIX, suffix=".swap", dir=folder)
    except OSError as error:
        raise HostError(f"{folder}: {strerror(error)}") from error
    path = Path(name)
    # Before it is on: a run that is killed right after has it written down.
    undo.later("swap", path)
    refused = 0
    try:
        with os.fdopen(handle, "r+b", buffering=0) as file:
            for fill in (False, True):  # some file systems count allocated blocks as holes
                if fill:
                    for _ in range(0, size_bytes, 1 << 20):
                        file.write(bytes(1 << 20))
                        nap(0)
                else:
                    os.posix_fallocate(file.fileno(), 0, size_bytes)
                file.seek(0)
                file.write(swap_header(size_bytes // PAGE_BYTES))
                file.seek(0)
                os.fsync(file.fileno())
                if libc.swapon(os.fsencode(path), SWAPON_FLAGS) == 0:
                    return path
                refused = ctypes.get_errno()
                if refused != errno.EINVAL:
                    break
    except OSError as error:
        raise HostError(f"{path}: {strerror(error)}") from error
    raise HostError(
        f"{path}: swapon: {os.strerror(refused)}; is {folder} on a disk's own file system, "
        "such as ext4 or xfs? --swap-directory names another"
    )


def is_rotational(path: Path) -> int:
    """Tell whether the kernel takes the disk below a file for a rotational one; -1 unknown.

    path : of the file, or of a disk's folder in sysfs
    """
    folder = path
    if not path.is_relative_to("/sys"):
        device = path.stat().st_dev
        folder = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    for where in (folder / "queue/rotational", folder.resolve().parent / "queue/rotational"):
        if where.exists():
            return int(read_text(where))
    return -1


# ---- cgroup ----------------------------------------------------------------------------------------


class Cgroup:
    """An own memory cgroup."""

    def __init__(self, undo: Undo, machine: Machine) -> None:
        self.is_v1 = machine.cgroup == "v1"
        if not self.is_v1:
            control = machine.root / "cgroup.subtree_control"
            if "memory" not in read_text(control).split():
                undo.later("setting", control, "-memory")
                write_text(control, "+memory")
        self.path = machine.root / f"tracereplay-{os.getpid()}"
        undo.later("folder", self.path)
        try:
            self.path.mkdir()
        except OSError as error:
            raise HostError(f"{self.path}: {strerror(error)}") from error
        self.stat = self._open("memory.stat")
        self.usage = self._open("memory.usage_in_bytes" if self.is_v1 else "memory.current")
        self.kmem = self._open("memory.kmem.usage_in_bytes") if self.is_v1 else -1
        for handle in (self.stat, self.usage, *([self.kmem] if self.is_v1 else [])):
            undo.callback(os.close, handle)

    def _open(self, name: str) -> int:
        try:
            return os.open(self.path / name, os.O_RDONLY)
        except OSError as error:
            raise HostError(f"{self.path / name}: {strerror(error)}") from error

    def set(self, name: str, text: str) -> None:
        """Write one of its files; HostError where this kernel has none of that name."""
        path = self.path / name
        if not path.exists():
            raise HostError(
                f"{name}: cgroup {'v1' if self.is_v1 else 'v2'} of this kernel has none"
            )
        write_text(path, text)

    def read_stat(self) -> dict[str, int]:
        """Return memory.stat, which brings the statistics up to date."""
        return numbers_of(os.pread(self.stat, 1 << 16, 0).decode("ascii"))

    def usage_pages(self) -> int:
        """Return what is charged to it."""
        return int(os.pread(self.usage, 64, 0)) // PAGE_BYTES

    def kmem_pages(self) -> int:
        """Return what of that is the kernel's own; -1 under v2."""
        return int(os.pread(self.kmem, 64, 0)) // PAGE_BYTES if self.is_v1 else -1

    def oom_kills(self) -> int:
        """Return how many processes the kernel has killed in it."""
        name = "memory.oom_control" if self.is_v1 else "memory.events"
        return numbers_of(read_text(self.path / name)).get("oom_kill", 0)


# ---- counters --------------------------------------------------------------------------------------


def debugfs(undo: Undo) -> Path | None:
    """Return the folder of zswap's own counters, mounting debugfs where nobody has; None without."""
    if (DEBUG / "zswap").is_dir():
        return DEBUG / "zswap"
    folder = Path(tempfile.mkdtemp(prefix="tracereplay."))
    undo.later("mount", folder)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mount(b"none", os.fsencode(folder), b"debugfs", 0, None)
    return folder / "zswap" if (folder / "zswap").is_dir() else None


def debug_counters(folder: Path | None) -> dict[str, int]:
    """Return zswap's own counters; none without a folder of them."""
    if folder is None:
        return {}
    texts = {path.name: read_text(path).strip() for path in folder.iterdir()}
    return {name: int(text) for name, text in texts.items() if text.isdigit()}


def read_pool(folder: Path | None) -> tuple[int, int]:
    """Return pool and stored pages now, from debugfs, or from /proc/meminfo without it."""
    if folder is not None:
        total = int(read_text(folder / "pool_total_size") or 0)
        return total // PAGE_BYTES, int(read_text(folder / "stored_pages") or 0)
    text = meminfo()
    return text.get("Zswap", 0) // 4, text.get("Zswapped", 0) // 4


def meminfo() -> dict[str, int]:
    """Return the lines of /proc/meminfo, in KiB."""
    return numbers_of(read_text("/proc/meminfo").replace(":", "").replace(" kB", ""))


def other_work() -> str:
    """Say that other work runs on this machine, where it takes enough to be seen in times; else ""."""
    busy, cpus = os.getloadavg()[0], os.cpu_count() or 1
    if busy <= _BUSY_SHARE * cpus:
        return ""
    return f"other work ran here when this began (load average {busy:.1f}, {cpus} CPUs)"

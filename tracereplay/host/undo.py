"""What is still to be put back on this machine: done when a run ends, or by the next after a kill.

Each step back is written down before the change it undoes, and struck out once it is done. Nothing
can note SIGKILL, but the file stays; and a step whose change was never made does no harm.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from tracereplay.errors import HostError, strerror

Step = tuple[str, str, str]  # which of _STEPS, path, what the file said before

_OF_A_BOOT = ("setting", "zram")
ZRAM_CONTROL = Path("/sys/class/zram-control")
DEVICES = Path("/dev")
SWAP_LABEL = b"tracereplay"  # of the swap areas of a run
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MNT_DETACH = 2
_TRIES = 500
_TRY_S = 0.01


class Undo(contextlib.ExitStack):
    """An ExitStack whose steps back stand in a journal as well; None keeps none."""

    def __init__(self, journal: Journal | None = None) -> None:
        super().__init__()
        self.journal = journal or Journal(None)

    def later(self, what: str, path: Path, before: str = "") -> None:
        """Note a step back; to be called before the change."""
        step = (what, str(path.absolute()), before)
        self.journal.add(step)
        self.callback(self.step_back, step)

    def step_back(self, step: Step) -> None:
        """Do a step back and strike it out."""
        what, path, before = step
        _STEPS[what](Path(path), before)
        self.journal.strike(step)  # one that failed stays


class Journal:
    """The steps back of a run, as one line of JSON in an open file; None keeps no file."""

    def __init__(self, handle: int | None) -> None:
        self._handle = handle
        self._steps: list[Step] = []

    def add(self, step: Step) -> None:
        """Write a step down."""
        self._steps.append(step)
        self._save()

    def strike(self, step: Step) -> None:
        """Take out a step that is done."""
        self._steps.remove(step)
        self._save()

    def _save(self) -> None:
        if self._handle is None:
            return
        written = {"boot": _boot(), "steps": self._steps}
        line = json.dumps(written).encode() + b"\n" if self._steps else b""
        os.pwrite(self._handle, line, 0)
        os.ftruncate(self._handle, len(line))

    def left(self) -> list[Step]:
        """Return the steps that a killed run has left; settings and devices of another boot are none."""
        text = b"" if self._handle is None else os.pread(self._handle, 1 << 20, 0)
        try:
            written = json.loads(text.partition(b"\n")[0])
            steps = [(str(what), str(path), str(before)) for what, path, before in written["steps"]]
            same = written["boot"] == _boot()
        except (ValueError, KeyError, TypeError):
            return []
        return [step for step in steps if step[0] in _STEPS and (same or step[0] not in _OF_A_BOOT)]

    def put_back(self) -> list[str]:
        """Do what a killed run has left to do; return the paths.

        Raises
        ------
        HostError
            A step fails; it stays written down.
        """
        left = self.left()
        self._steps = list(left)
        with Undo(self) as undo:
            for step in left:
                undo.callback(undo.step_back, step)
        self._save()
        return [path for _, path, _ in left]


def _boot() -> str:
    with contextlib.suppress(OSError):
        return _BOOT.read_text(encoding="ascii").strip()
    return ""


# ---- steps -----------------------------------------------------------------------------------------


def _set_back(path: Path, before: str) -> None:
    try:
        path.write_text(before, encoding="ascii")
    except OSError as error:
        raise HostError(f"{path}: cannot be set to {before!r}: {strerror(error)}") from error


def _remove_swap(path: Path, _before: str) -> None:
    """Take a swap file out of use and remove it; while it is in use it keeps its name."""
    _swap_off(path, f"swapoff {path}; rm {path}")
    path.unlink(missing_ok=True)


def _swap_off(path: Path, by_hand: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    why = "interrupted again and again"
    for _ in range(_TRIES):
        if libc.swapoff(os.fsencode(path)) == 0:
            return
        number = ctypes.get_errno()
        if number in (errno.EINVAL, errno.ENOENT):  # it was not in use, or never made
            return
        if number != errno.EINTR:
            why = os.strerror(number)
            break
        time.sleep(_TRY_S)  # a signal: what is back in memory by now stays there
    raise HostError(f"{path}: swapoff: {why}; try `{by_hand}`")


def _is_ours(node: Path) -> bool:
    """Tell whether what a zram device holds is no swap area of somebody else's."""
    with contextlib.suppress(OSError), node.open("rb") as device:
        head = device.read(4096)
        return not head.endswith(b"SWAPSPACE2") or SWAP_LABEL in head
    return True


def _remove_zram(folder: Path, size: str) -> None:
    """Take a zram device out of use and remove it; not one of another size, which has its number now."""
    disksize = folder / "disksize"
    try:
        if disksize.read_text(encoding="ascii").strip() not in ("0", size):
            return
    except OSError:
        return
    node, reset = DEVICES / folder.name, folder / "reset"
    if not _is_ours(node):
        return
    _swap_off(node, f"swapoff {node}; echo 1 > {reset}")
    # Somebody may look at it just now.
    _while_busy(
        lambda: reset.write_text("1", encoding="ascii"),
        reset,
        f"{node}: still open; `echo 1 > {reset}` once it is not",
    )
    _set_back(ZRAM_CONTROL / "hot_remove", folder.name.removeprefix("zram"))


def _remove_folder(path: Path, _before: str) -> None:
    """Remove a folder of the kernel's: a cgroup, an instance of tracefs; one never made does no harm."""
    if not path.exists():
        return
    # A killed process leaves its cgroup a moment later.
    _while_busy(path.rmdir, path, f"{path}: still in use; remove it with rmdir")


def _while_busy(step: Callable[[], object], path: Path, still: str) -> None:
    """Do a step again for some seconds while the kernel answers EBUSY; what is gone is done."""
    for _ in range(_TRIES):
        try:
            step()
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise HostError(f"{path}: {strerror(error)}") from error
            time.sleep(_TRY_S)
        else:
            return
    raise HostError(still)


def _unmount(path: Path, _before: str) -> None:
    ctypes.CDLL(None).umount2(os.fsencode(path), _MNT_DETACH)
    with contextlib.suppress(FileNotFoundError):
        path.rmdir()


_STEPS: dict[str, Callable[[Path, str], None]] = {
    "setting": _set_back,
    "swap": _remove_swap,
    "zram": _remove_zram,
    "folder": _remove_folder,
    "mount": _unmount,
}

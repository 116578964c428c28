"""What machine this is: its system, the size of its kernel's pages, the CPUs there are for us."""

from __future__ import annotations

import mmap
import os
import platform

from tracereplay.errors import HostError
from tracereplay.units import PAGE_BYTES


def need_linux(what: str) -> None:
    """Raise HostError where this is not Linux, or a kernel whose pages the models do not know.

    what : does not go without, as the message begins
    """
    if platform.system() != "Linux":
        raise HostError(f"{what} needs Linux")
    if mmap.PAGESIZE != PAGE_BYTES:
        raise HostError(
            f"{what}: this kernel has pages of {mmap.PAGESIZE >> 10} KiB; the models know pages of "
            "4 KiB: run it on a kernel with these"
        )


def cpus() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

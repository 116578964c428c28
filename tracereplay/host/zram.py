"""A zram device of a run's own: compressed memory as the swap device.

Source: drivers/block/zram/zram_drv.c, Documentation/admin-guide/blockdev/zram.rst.
"""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

from tracereplay.errors import HostError, SettingsError, strerror
from tracereplay.host import undo as undoing
from tracereplay.host.machine import SWAPON_FLAGS, read_text, swap_header, write_text
from tracereplay.host.undo import Undo
from tracereplay.units import PAGE_BYTES

_BLOCK = Path("/sys/block")
# Of mm_stat, in its order.
_MM_STAT = (
    "orig_data_size", "compr_data_size", "mem_used_total", "mem_limit", "mem_used_max", "same_pages",
    "pages_compacted", "huge_pages",
)  # fmt: skip


def add_zram(undo: Undo, compressor: str | None, size_bytes: int) -> Path:
    """Make a zram device and swap to it before any other; return its folder in sysfs.

    Parameters
    ----------
    compressor : as the kernel names it; None is the device's own default

    Raises
    ------
    HostError
        This kernel has no zram, or refuses the device as swap.
    SettingsError
        It has no such compressor.
    """
    control = undoing.ZRAM_CONTROL / "hot_add"  # each reading makes a device
    number = read_text(control).strip()
    if not number:
        raise HostError(
            f"{control}: makes no device; this kernel has no zram (CONFIG_ZRAM), or its module is "
            "not loaded: try `modprobe zram`"
        )
    folder = _BLOCK / f"zram{number}"
    # A run that is killed before this line leaves a device that holds nothing.
    undo.later("zram", folder, str(size_bytes))
    if compressor is not None:
        offered = re.findall(r"[\w-]+", read_text(folder / "comp_algorithm"))
        if compressor not in offered:
            raise SettingsError(
                f"--codec {compressor}: zram of this kernel has {', '.join(offered)}"
            )
        write_text(folder / "comp_algorithm", compressor)
    write_text(folder / "disksize", str(size_bytes))
    node = undoing.DEVICES / folder.name
    try:
        with node.open("r+b", buffering=0) as device:
            device.write(swap_header(size_bytes // PAGE_BYTES))
            os.fsync(device.fileno())
    except OSError as error:
        raise HostError(f"{node}: {strerror(error)}") from error
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.swapon(os.fsencode(node), SWAPON_FLAGS):
        raise HostError(f"{node}: swapon: {os.strerror(ctypes.get_errno())}")
    return folder


def zram_compressor(folder: Path) -> str:
    """Return the compressor a device has."""
    return chosen_of(read_text(folder / "comp_algorithm"))


def chosen_of(text: str) -> str:
    """Return what stands in brackets in a file of sysfs that lists what there is."""
    chosen = re.search(r"\[([\w-]+)\]", text)
    return chosen[1] if chosen else text.strip()


def zram_counters(folder: Path) -> dict[str, int]:
    """Return what the device counts; bytes, and pages for those named so."""
    numbers = map(int, read_text(folder / "mm_stat").split())
    return dict(zip(_MM_STAT, numbers, strict=False))


def read_zram(folder: Path) -> tuple[int, int]:
    """Return the pages that the device takes, and the pages stored in it, now."""
    counters = zram_counters(folder)
    return (
        counters.get("mem_used_total", 0) // PAGE_BYTES,
        counters.get("orig_data_size", 0) // PAGE_BYTES,
    )

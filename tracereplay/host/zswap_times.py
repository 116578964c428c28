"""What zswap really costs on this kernel: loads and stores of pages of our own, timed.

Needs no rights: MADV_PAGEOUT reclaims memory of the caller through zswap where zswap is on and swap
is there. Nothing is switched on or off.
"""

from __future__ import annotations

import mmap
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tracereplay.units import PAGE_BYTES

Times = npt.NDArray[np.float64]

_PARAMETERS = Path("/sys/module/zswap/parameters")
_SWAPS = Path("/proc/swaps")
_VMSTAT = Path("/proc/vmstat")
MADV_PAGEOUT = 21  # include/uapi/asm-generic/mman-common.h; mmap names it since Python 3.12
AREA_PAGES = 16384
# One page in so many is used: readahead, where it is on, then finds no neighbour.
_STRIDE = 2
_BATCH = 32  # SWAP_CLUSTER_MAX
_DEVICE_NS = 30_000  # no load from memory takes as long
_SHARE_MINIMUM = 0.5  # of the pages that must have gone to zswap for figures to mean anything


def zswap_codec() -> str | None:
    """Return the compressor of zswap, None where it is off or there is no swap."""
    try:
        if (_PARAMETERS / "enabled").read_text().strip() != "Y":
            return None
        if len(_SWAPS.read_text().splitlines()) < 2:
            return None
        return (_PARAMETERS / "compressor").read_text().strip()
    except OSError:
        return None


def _counter(name: str) -> int:
    for line in _VMSTAT.read_text().splitlines():
        key, value = line.split()
        if key == name:
            return int(value)
    return 0


def time_zswap(kinds: dict[int, list[bytes]], seed: int) -> dict[int, tuple[Times, Times]] | None:
    """Time loads and stores of pages by kind.

    Parameters
    ----------
    kinds : key → pages of that kind, at least one each

    Returns
    -------
    per kind (load of each page, ns; store per page of each batch of 32, ns), None where most pages
    did not go to zswap
    """
    rng = np.random.default_rng(seed)
    clock = time.perf_counter_ns
    used = AREA_PAGES // _STRIDE
    keys = list(kinds)
    with mmap.mmap(
        -1, AREA_PAGES * PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    ) as area:
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            area.madvise(mmap.MADV_NOHUGEPAGE)
        places = np.arange(used) * _STRIDE
        # Batches of one kind side by side, so that a store of a batch is of one kind.
        of_kind = np.array([keys[(index // _BATCH) % len(keys)] for index in range(used)])
        for index, place in enumerate(places.tolist()):
            pages = kinds[int(of_kind[index])]
            at = place * PAGE_BYTES
            area[at : at + PAGE_BYTES] = pages[index % len(pages)]
        before = _counter("zswpout")
        stores: dict[int, list[float]] = {key: [] for key in keys}
        for first in range(0, used, _BATCH):
            start = int(places[first]) * PAGE_BYTES
            began = clock()
            area.madvise(MADV_PAGEOUT, start, _BATCH * _STRIDE * PAGE_BYTES)
            stores[int(of_kind[first])].append((clock() - began) / _BATCH)
        if _counter("zswpout") - before < _SHARE_MINIMUM * used:
            return None
        loads: dict[int, list[int]] = {key: [] for key in keys}
        # An offset in the middle of a page: its first bytes are what everything else touches.
        for index in rng.permutation(used).tolist():
            at = int(places[index]) * PAGE_BYTES + 2048
            began = clock()
            area[at]
            loads[int(of_kind[index])].append(clock() - began)
        resident = []
        for index in rng.permutation(used)[:1024].tolist():
            at = int(places[index]) * PAGE_BYTES + 2048
            began = clock()
            area[at]
            resident.append(clock() - began)
    reading = float(np.quantile(resident, 0.1))  # of the clock, and of Python
    out: dict[int, tuple[Times, Times]] = {}
    for key in keys:
        times = np.array(loads[key], np.float64) - reading
        out[key] = times[(times > 0) & (times < _DEVICE_NS)], np.array(stores[key])
    return out


def loads_of(measured: dict[Any, tuple[Times, Times]], key: Any) -> float:
    """Return the median load of a kind, ns."""
    return float(np.median(measured[key][0]))


def stores_of(measured: dict[Any, tuple[Times, Times]], key: Any) -> float:
    """Return the median store per page of a kind, ns."""
    return float(np.median(measured[key][1]))

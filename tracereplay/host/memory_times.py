"""How long memory takes: copies, zero fills, first touches, and an answer by the memory in use."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from tracereplay._jit import kernel
from tracereplay.host.cost_figures import UNDISTURBED, distribution, figure
from tracereplay.units import PAGE_BYTES

# Memory in use at which its answer is timed, MiB.
_MEMORY_MIB = (4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_MEMORY_TURNS = 6  # per round
_MEMORY_STEPS = 2000  # answers waited for, one after the other, per turn
_MEMORY_WARM = 65536
_MEMORY_SHARE = 0.25  # which of the turns, in order: as on a machine without other work
_WORDS = PAGE_BYTES // 8
_MEMORY_PAGES = 8192


def measure_memory() -> dict[str, Any]:
    """Time copies, zero fills and first touches of cold pages; with zswap on, its own loads."""
    source = np.random.default_rng(1).integers(0, 255, (_MEMORY_PAGES, PAGE_BYTES), np.uint8)
    target = np.zeros_like(source)
    order = np.random.default_rng(2).permutation(_MEMORY_PAGES)
    copies, fills, touches = [], [], []
    clock = time.perf_counter_ns
    for index in order[:4096]:
        began = clock()
        target[index] = source[index]
        copies.append(clock() - began)
    for index in order[4096:]:
        began = clock()
        target[index] = 0
        fills.append(clock() - began)
    overhead = []
    for index in order[:1024]:
        tiny = target[index, :1]
        began = clock()
        tiny[...] = 0
        overhead.append(clock() - began)
    base = float(np.median(overhead))
    warm = []
    with mmap.mmap(
        -1, _MEMORY_PAGES * PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    ) as area:
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            area.madvise(mmap.MADV_NOHUGEPAGE)
        for index in order:
            at = int(index) * PAGE_BYTES
            began = clock()
            area[at] = 1
            touches.append(clock() - began)
        resident = []
        for index in order[:1024]:
            at = int(index) * PAGE_BYTES
            began = clock()
            area[at] = 2
            resident.append(clock() - began)
        # Pages that are freed and taken again at once are still in the caches.
        batch = 16
        for _ in range(256):
            area[: batch * PAGE_BYTES] = bytes(batch * PAGE_BYTES)
            area.madvise(mmap.MADV_DONTNEED, 0, batch * PAGE_BYTES)
            for index in range(batch):
                began = clock()
                area[index * PAGE_BYTES] = 1
                warm.append(clock() - began)
    reading = float(np.quantile(resident, 0.1))
    fault = np.maximum(np.array(touches) - reading, 1.0)
    middle = float(np.median(fault))
    warm_ns = max(float(np.median(warm)) - reading, 1.0)
    how = f"measured: {_MEMORY_PAGES} pages in random order"
    return {
        "cold_page_ns": figure(max(middle - warm_ns, 0.0), how),
        "raw_copy_ns": figure(max(float(np.median(copies)) - base, 1.0), how),
        "zero_fill_ns": figure(max(float(np.median(fills)) - base, 1.0), how),
        "minor_fault_ns": figure(warm_ns, "measured: pages freed and taken again at once"),
        "minor_spread": distribution(fault / middle, how, 4, UNDISTURBED),
    }


@kernel
def _chase(words: Any, at: int, steps: int) -> Any:
    for _ in range(steps):
        at = words[at]
    return at


def measure_answers(seed: int) -> Iterator[dict[str, Any]]:
    """Time how long memory takes to answer, by the memory in use: one word of each page, at random.

    Each answer says where the next word is, so that they cannot overlap. All sizes take turns; every
    next() is one round.
    """
    room = os.sysconf("SC_AVPHYS_PAGES") * PAGE_BYTES // 2
    sizes = [mib << 20 for mib in _MEMORY_MIB if mib << 20 <= room] or [_MEMORY_MIB[0] << 20]
    rng = np.random.default_rng(seed)
    clock = time.perf_counter_ns
    area = mmap.mmap(-1, sizes[-1], flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        area.madvise(mmap.MADV_NOHUGEPAGE)
    words = np.frombuffer(area, np.int64)
    heads = []
    for nth, size in enumerate(sizes):
        count = size // PAGE_BYTES
        # Each size has words of its own: nth of 16 in one of 32 places of a page.
        own = rng.permutation(count) * _WORDS + rng.integers(0, _WORDS // 16, count) * 16 + nth
        words[own] = np.roll(own, -1)
        heads.append((int(own[0]), count))
    _chase(words, heads[0][0], 1)
    while True:
        times = np.empty((_MEMORY_TURNS, len(sizes)))
        for turn in range(_MEMORY_TURNS):
            for nth, (head, count) in enumerate(heads):
                at = _chase(words, head, min(count, _MEMORY_WARM))
                began = clock()
                _chase(words, int(at), _MEMORY_STEPS)
                times[turn, nth] = (clock() - began) / _MEMORY_STEPS
        answers = np.maximum.accumulate(np.quantile(times, _MEMORY_SHARE, axis=0))
        points = [
            [size, round(float(answer), 1)] for size, answer in zip(sizes, answers, strict=True)
        ]
        yield {"points": points, "source": "measured: one word of each page, in random order"}

"""What is compared with: libcachesim from PyPI, and the textbook's curve over a Fenwick tree."""

import time
from pathlib import Path
from typing import Any

import libcachesim
import numba
import numpy as np

_REQUEST = np.dtype([("time", "<u4"), ("object", "<u8"), ("bytes", "<u4"), ("next", "<i8")])


def write_oracle_general(pages: np.ndarray, path: Path) -> None:
    """Write libcachesim's own binary format; LRU does not look at the next access."""
    requests = np.zeros(pages.size, _REQUEST)
    requests["time"] = np.arange(pages.size) // 10_000
    requests["object"] = pages
    requests["bytes"] = 1
    requests["next"] = -1
    requests.tofile(path)


def libcachesim_misses(path: Path, capacity: int, *, accesses: int, fitted: bool) -> int:
    """Return the misses of one LRU replay; `fitted` gives its hash table the right size at once."""
    settings = libcachesim.ReaderInitParam()
    settings.ignore_obj_size = True
    reader = libcachesim.TraceReader(
        trace=str(path),
        trace_type=libcachesim.TraceType.ORACLE_GENERAL_TRACE,
        reader_init_params=settings,
    )
    options = {"hashpower": max(14, capacity.bit_length())} if fitted else {}
    ratio = libcachesim.LRU(capacity, **options).process_trace(reader)[0]
    return round(ratio * accesses)


def timed_libcachesim(path: Path, capacity: int, accesses: int) -> tuple[int, float]:
    """Return misses and processor seconds of one replay."""
    began = time.process_time()
    misses = libcachesim_misses(path, capacity, accesses=accesses, fitted=False)
    return misses, time.process_time() - began


@numba.njit(cache=True)
def fenwick_histogram(page_ids: Any, pages: int) -> Any:
    """Return the histogram of stack distances: Bennett and Kruskal's tree, compacted when full."""
    size = 1
    while size < 2 * pages + 2:
        size *= 2
    tree = np.zeros(size + 1, np.int32)
    last = np.zeros(pages, np.int32)
    owner = np.full(size + 1, -1, np.int32)
    histogram = np.zeros(pages + 1, np.int64)
    position = 0
    live = 0
    for row in range(page_ids.size):
        if position == size:
            position = 0
            for old in range(1, size + 1):
                page = owner[old]
                owner[old] = -1
                if page >= 0:
                    position += 1
                    owner[position] = page
                    last[page] = position
            tree[:] = 0
            for node in range(1, size + 1):
                tree[node] += np.int32(node <= position)
                above = node + (node & -node)
                if above <= size:
                    tree[above] += tree[node]
        page = page_ids[row]
        position += 1
        before = last[page]
        if before:
            rank = 0
            node = before
            while node > 0:
                rank += tree[node]
                node -= node & -node
            histogram[live - rank] += 1
            node = before
            while node <= size:
                tree[node] -= 1
                node += node & -node
            owner[before] = -1
        else:
            live += 1
        node = position
        while node <= size:
            tree[node] += 1
            node += node & -node
        last[page] = position
        owner[position] = page
    return histogram

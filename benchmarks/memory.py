"""Measure the memory of the exact curve against its formula: `python -m benchmarks.memory`.

The accesses are made batch by batch and stored nowhere. Peak resident memory is read from the
kernel after the batches' own buffers exist, and again at the end.
"""

import argparse
import resource
import time

import numpy as np

from benchmarks.traces import FIRST_PAGE
from tracereplay.dense import DenseIds
from tracereplay.distances import StackDistances
from tracereplay.trace import BATCH_ROWS


def formula_bytes(pages: int) -> int:
    """Return what the exact curve takes for densely lying pages whose number is known before.

    4 bytes a page for its id, 4 for its position, 4 for the histogram, 8 for the misses at every
    size; 16 for each slot of the table of groups of 16 pages, a power of two at most 5/8 full; and
    0.16 for each of the positions, a power of two of at least 4 a page.
    """
    slots = 1 << 12
    while slots // 8 * 5 < max(1 << 10, pages // 16):
        slots *= 2
    positions = 1 << (4 * pages - 1).bit_length()
    return (4 + 4 + 4 + 8) * pages + 16 * slots + round(0.158 * positions)


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Measure one length; run it once per length, the peak never falls."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--accesses", type=int, default=100_000_000)
    parser.add_argument("--pages", type=int, default=4_000_000)
    chosen = parser.parse_args()
    rng = np.random.default_rng(1)
    warm = DenseIds()
    StackDistances().add(warm.number(np.arange(1 << 16, dtype=np.uint64)))
    rows = np.empty(BATCH_ROWS, np.uint64)
    for _ in range(3):
        rows[:] = rng.integers(0, chosen.pages, rows.size, dtype=np.uint64)
        warm.number(rows & np.uint64(0xFFF))
    before = peak_bytes()
    ids = DenseIds(chosen.pages)
    distances = StackDistances(chosen.pages)
    began = time.process_time()
    making = 0.0
    done = 0
    while done < chosen.accesses:
        start = time.process_time()
        batch = rows[: chosen.accesses - done]
        batch[:] = rng.integers(0, chosen.pages, batch.size, dtype=np.uint64)
        batch += np.uint64(FIRST_PAGE)
        making += time.process_time() - start
        distances.add(ids.number(batch))
        done += batch.size
    misses = distances.misses()
    took = time.process_time() - began - making
    measured = peak_bytes() - before
    expected = formula_bytes(misses.size - 1)
    print(
        f"{chosen.accesses:,} accesses, {misses.size - 1:,} pages: {measured / 2**20:.1f} MiB, "
        f"formula {expected / 2**20:.1f} MiB ({measured / expected - 1:+.1%}), "
        f"{chosen.accesses / took / 1e6:.0f} M/s"
    )


if __name__ == "__main__":
    main()

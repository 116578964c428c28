"""Measure the memory of the one-pass models against their formulas: `python -m benchmarks.memory`.

The accesses are made batch by batch and stored nowhere. Two measures: the arrays that the model
holds at the end and, from the kernel, how far the peak of resident memory rose above what the process
had before the model was made.
"""

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.traces import FIRST_PAGE
from tracereplay.dense import DenseIds
from tracereplay.distances import StackDistances
from tracereplay.lru_grid import LruGrid
from tracereplay.sampling import SampledDistances
from tracereplay.trace import BATCH_ROWS


def power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


def ids_bytes(pages: int) -> int:
    """Dense ids of densely lying pages whose number is known before.

    4 bytes a page, and 16 for each slot of the table of groups of 16 pages: a power of two, at most
    5/8 full.
    """
    slots = 1 << 12
    while slots // 8 * 5 < max(1 << 10, pages // 16):
        slots *= 2
    return 4 * pages + 16 * slots


def curve_bytes(pages: int) -> int:
    """Ids; 4 bytes a page of position, 4 of histogram, 8 of misses; 0.158 for each position.

    The positions are a power of two of at least 4 a page.
    """
    return ids_bytes(pages) + 16 * pages + round(0.158 * power_of_two(4 * pages))


def lru_bytes(pages: int) -> int:
    """Ids; 4 bytes a page of position; a bit for each position, a power of two of at least 8 a page.

    Half as much again, for a moment, when the line is squeezed: counts and sums of the words.
    """
    positions = power_of_two(8 * pages)
    return ids_bytes(pages) + 4 * pages + positions // 8 + positions // 64 * 5


def sample_bytes(pages: int) -> int:
    """4 bytes a row of a batch for the filter, and what 16384 sampled pages take, at any length.

    Each has 64 bytes of ids and 32 of table, twice while the sample is thinned; 8 of histogram and
    4.65 of the line. The parts' counts are 64 x 320 x 8 bytes.
    """
    del pages
    return 4 * BATCH_ROWS + round(16384 * (2 * 96 + 8 + 4.65)) + 64 * 320 * 8


class Curve:
    """Misses at every size."""

    def __init__(self, pages: int) -> None:
        self.ids, self.distances = DenseIds(pages), StackDistances(pages)

    def add(self, pages: np.ndarray) -> None:
        self.distances.add(self.ids.number(pages))

    def finish(self) -> int:
        self.misses = self.distances.misses()
        return self.misses.size - 1


class Lru:
    """One size."""

    def __init__(self, pages: int) -> None:
        self.ids, self.grid = DenseIds(pages), LruGrid(np.array([pages // 2]), expected_pages=pages)

    def add(self, pages: np.ndarray) -> None:
        self.grid.add(self.ids.number(pages))

    def finish(self) -> int:
        return len(self.ids)


class Sample:
    """A bounded sample."""

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self.sample = SampledDistances(0.0, min(8192, pages // 16))

    def add(self, pages: np.ndarray) -> None:
        self.sample.add(pages)

    def finish(self) -> int:
        self.sample.estimate(np.geomspace(self.pages // 100, self.pages, 200).astype(np.int64))
        return self.pages


MODELS: dict[str, tuple[Callable[[int], Any], Callable[[int], int]]] = {
    "curve": (Curve, curve_bytes),
    "lru": (Lru, lru_bytes),
    "sample": (Sample, sample_bytes),
}


def array_bytes(model: Any) -> int:
    """Return the bytes of all arrays a model holds, its parts' included."""
    if isinstance(model, np.ndarray):
        return model.nbytes if model.base is None else 0
    if isinstance(model, tuple | list):
        return sum(array_bytes(part) for part in model)
    return sum(array_bytes(part) for part in getattr(model, "__dict__", {}).values())


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Measure one model at one length; run it once for each, the peak never falls."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--accesses", type=int, default=100_000_000)
    parser.add_argument("--pages", type=int, default=4_000_000)
    parser.add_argument("--model", choices=list(MODELS), default="curve")
    chosen = parser.parse_args()
    make, formula = MODELS[chosen.model]
    rng = np.random.default_rng(1)
    rows = np.empty(BATCH_ROWS, np.uint64)

    def fill(count: int, pages: int) -> np.ndarray:
        batch = rows[:count]
        # In place and from 32 bits, so that making accesses takes the same memory at any time.
        batch[:] = rng.integers(0, pages, batch.size, dtype=np.uint32)
        batch += np.uint64(FIRST_PAGE)
        return batch

    warm = make(1 << 12)  # compiles, and makes every buffer of a batch once
    for _ in range(3):
        warm.add(fill(BATCH_ROWS, 1 << 12))
    warm.finish()
    del warm
    before = peak_bytes()
    model = make(chosen.pages)
    began = time.process_time()
    making = 0.0
    done = 0
    while done < chosen.accesses:
        start = time.process_time()
        batch = fill(min(BATCH_ROWS, chosen.accesses - done), chosen.pages)
        making += time.process_time() - start
        model.add(batch)
        done += batch.size
    pages = model.finish()
    took = time.process_time() - began - making
    # The number a footer would tell: the arrays are made for it.
    measured, expected = peak_bytes() - before, formula(chosen.pages)
    print(
        f"{chosen.model}, {chosen.accesses:,} accesses, {pages:,} pages: "
        f"resident {measured / 2**20:.1f} MiB, arrays {array_bytes(model) / 2**20:.1f}, "
        f"formula {expected / 2**20:.1f} ({measured / expected - 1:+.1%}), "
        f"{chosen.accesses / took / 1e6:.0f} M/s",
        flush=True,
    )


if __name__ == "__main__":
    main()

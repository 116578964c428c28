"""How often the truth lies within the error bar of a sampled curve: `python -m benchmarks.coverage`.

Every trace is measured exactly, then sampled under many hash seeds; at 50 sizes each it is counted
whether the true misses lie between the bounds. Made traces have seeds and shapes of their own, used
nowhere else; more are trace tables named on the command line.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tracereplay.distances import StackDistances
from tracereplay.sampling import LEAST_DISTANCE, SampledDistances
from tracereplay.trace import open_trace


def zipf(exponent: float, pages: int, accesses: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    weights = np.cumsum(np.arange(1, pages + 1) ** -float(exponent))
    ranks = np.searchsorted(weights / weights[-1], rng.random(accesses))
    return rng.permutation(pages)[np.minimum(ranks, pages - 1)]


def loops(lengths: list[int], accesses: int) -> np.ndarray:
    """One loop after the other, over pages of its own."""
    each = np.arange(accesses // len(lengths))
    return np.concatenate([each % length + (i << 24) for i, length in enumerate(lengths)])


def mixed(parts: list[np.ndarray], seed: int) -> np.ndarray:
    """All parts at once, each in its order and over pages of its own."""
    turn = np.repeat(np.arange(len(parts)), [part.size for part in parts])
    np.random.default_rng(seed).shuffle(turn)
    found = np.empty(turn.size, np.int64)
    for number, part in enumerate(parts):
        found[turn == number] = part + (number << 24)
    return found


def drift(width: int, pages: int, accesses: int, seed: int) -> np.ndarray:
    """A working set, denser in its middle, that moves once through all pages."""
    rng = np.random.default_rng(seed)
    middle = np.arange(accesses) * pages / accesses
    return np.abs(np.round(middle + width * rng.standard_normal(accesses))).astype(np.int64)


def back_and_forth(length: int, accesses: int) -> np.ndarray:
    there = np.arange(accesses) % (2 * length)
    return np.minimum(there, 2 * length - 1 - there)


def nested(inner: int, repeats: int, outer: int, accesses: int) -> np.ndarray:
    """Each block of pages is passed over several times before the next one is."""
    row = np.arange(accesses)
    return row // (inner * repeats) % outer * inner + row % inner


TRACES: dict[str, Callable[[], np.ndarray]] = {
    "zipf 0.6": lambda: zipf(0.6, 150_000, 1_200_000, 101),
    "zipf 0.9": lambda: zipf(0.9, 90_000, 700_000, 102),
    "zipf 1.05": lambda: zipf(1.05, 300_000, 2_000_000, 103),
    "zipf 1.3": lambda: zipf(1.3, 800_000, 1_500_000, 104),
    "zipf 1.6": lambda: zipf(1.6, 2_000_000, 1_500_000, 105),
    "uniform": lambda: np.random.default_rng(106).integers(0, 70_000, 600_000),
    "loop": lambda: loops([45_000], 900_000),
    "three loops": lambda: loops([9_000, 70_000, 25_000], 1_500_000),
    "loop with zipf": lambda: mixed([loops([30_000], 400_000), zipf(1, 60_000, 400_000, 107)], 1),
    "two loops at once": lambda: mixed([loops([8_000], 500_000), loops([50_000], 500_000)], 2),
    "phases": lambda: np.concatenate(
        [zipf(1.1, 30_000, 150_000, 110 + i) + 20_000 * i for i in range(8)]
    ),
    "phases that come back": lambda: np.concatenate(
        [zipf(0.8, 15_000, 100_000, 120 + i % 3) + 15_000 * (i % 3) for i in range(9)]
    ),
    "scan over a hot set": lambda: mixed([np.arange(250_000), zipf(1, 20_000, 500_000, 130)], 3),
    "drift": lambda: drift(3_000, 120_000, 1_000_000, 140),
    "back and forth": lambda: back_and_forth(40_000, 800_000),
    "nested loops": lambda: nested(4_000, 5, 15, 900_000),
}
# Rate and least number of pages of a sample: a plain rate, the default floor, bounded memory.
SAMPLES = [(0.02, 0), (0.01, 2048), (0.0, 1000), (0.0, 8192)]


def check(name: str, page_ids: np.ndarray, seeds: int, first_seed: int) -> list[float]:
    unique = int(page_ids.max()) + 1
    exact = StackDistances(unique)
    exact.add(page_ids)
    truth = exact.misses()
    shares = []
    samples = SAMPLES if unique >= 20_000 else [(0.3, 0), (0.0, unique // 3)]
    for rate, pages in samples:
        for known in (True, False):
            inside, width, error = [], [], []
            for seed in range(first_seed, first_seed + seeds):
                sample = SampledDistances(rate, pages, seed)
                sample.add(page_ids)
                if not sample.sampled_pages:
                    continue
                least = min(int(LEAST_DISTANCE / sample.rate) + 1, unique)
                sizes = np.unique(np.geomspace(least, unique, 50).astype(np.int64))
                found = sample.estimate(sizes, unique if known else None)
                true = truth[sizes]
                # Bounds are whole misses in the table that is printed.
                inside.append(
                    np.mean((np.floor(found.low) <= true) & (true <= np.ceil(found.high)))
                )
                width.append(np.mean(found.high - found.low) / 2 / page_ids.size)
                error.append(np.mean(np.abs(found.misses - true)) / page_ids.size)
            shares.append(float(np.mean(inside)))
            kind = f"{rate:.0%}" if not pages else f"{pages} pages"
            if pages and rate:
                kind = f"{rate:.0%}, {pages} pages"
            print(
                f"{name:24} {kind:16} footprint {'known  ' if known else 'unknown'} "
                f"inside {shares[-1]:6.1%}, bar ±{np.mean(width):.4f}, error {np.mean(error):.4f}",
                flush=True,
            )
    return shares


def main() -> None:
    """Print the share of sizes inside, per trace and kind of sample, and over all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("traces", nargs="*", type=Path, help="trace tables")
    parser.add_argument("--made", action="store_true", help="the made traces as well as files")
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--first-seed", type=int, default=1000)
    chosen = parser.parse_args()
    shares: list[float] = []
    if chosen.made or not chosen.traces:
        for name, make in TRACES.items():
            page_ids = np.unique(make(), return_inverse=True)[1].astype(np.uint32)
            shares += check(name, page_ids, chosen.seeds, chosen.first_seed)
    for path in chosen.traces:
        ids = [batch.page_ids for batch in open_trace(path).batches(only_ids=True)]
        shares += check(path.name, np.concatenate(ids), chosen.seeds, chosen.first_seed)
    pairs = len(shares) * chosen.seeds
    print(f"{pairs} samples: inside {np.mean(shares):.1%}, least {min(shares):.1%}")


if __name__ == "__main__":
    main()

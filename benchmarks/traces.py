"""The three traces the figures are of, made from fixed seeds."""

import numpy as np


def zipf(accesses: int, pages: int) -> np.ndarray:
    """Zipf(1.0), popularity and page number unrelated."""
    rng = np.random.default_rng(7)
    weights = np.cumsum(1 / np.arange(1, pages + 1))
    ranks = np.searchsorted(weights / weights[-1], rng.random(accesses))
    return rng.permutation(pages)[np.minimum(ranks, pages - 1)]


def loop_and_random(accesses: int, pages: int) -> np.ndarray:
    """Half a loop over a quarter of the pages, half uniform over all of them."""
    rng = np.random.default_rng(7)
    found = rng.integers(0, pages, accesses)
    in_loop = rng.random(accesses) < 0.5
    found[in_loop] = np.arange(in_loop.sum()) % (pages // 4)
    return found


def large(accesses: int, pages: int) -> np.ndarray:
    """Half log-uniform, half uniform, over eight times the pages: about 4.3 M of 8 M are touched."""
    rng = np.random.default_rng(5)
    pages *= 8
    skewed = np.minimum((pages ** rng.random(accesses)).astype(np.int64) - 1, pages - 1)
    ranks = np.where(rng.random(accesses) < 0.5, skewed, rng.integers(0, pages, accesses))
    return rng.permutation(pages)[ranks]


TRACES = {"zipf": zipf, "loop + random": loop_and_random, "large": large}
FIRST_PAGE = 0x7F0000000  # addresses as programs have them

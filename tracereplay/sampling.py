"""Miss curves from a spatial sample: all accesses of a few pages chosen by a hash.

A page is in the sample where its hash is below a threshold; a stack distance within the sample,
divided by the rate, estimates the true one. Sources: Waldspurger et al., "Efficient MRC
construction with SHARDS", FAST 2015 (the filter, its bounded variant, and counting what the sample
lacks as hits at short distances).

The error bar has two parts, both for 95 %. Which pages are in the sample: a second hash divides
them into 16 groups, and the spread of the groups' misses gives the error of their sum (Student's
t). How far a distance is off: it is a binomial count, so the size asked for is uncertain by
1.96 standard deviations of it, and the curve is read that far to both sides.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from tracereplay._jit import inline, kernel, wrapping_product
from tracereplay.dense import DenseIds, PageIds
from tracereplay.distances import FIRST_USE, RecencyLine

Floats = npt.NDArray[np.float64]

GROUPS = 16
LEAST_DISTANCE = 16  # below so many sampled pages a distance says too little
DEFAULT_PAGES = 8192  # a sample is not thinned below this, whatever its rate
_WHOLE = 1 << 32
_STUDENT = 2.131 * 1.35  # 95 %, 15 degrees of freedom; a third more for the heavy tail of hot pages
_NORMAL = 1.96
_KEPT_SHARE = 0.6  # of the pages of a full sample, when it is thinned
_ROWS_THINNING = 1 << 14
_ROWS = 1 << 20


HASH = np.dtype([("high", np.uint32), ("group", np.uint32)])


@inline
def _mixed(page: Any, space: Any, salt: Any) -> Any:
    mixed = np.uint64(page) ^ (np.uint64(space) << np.uint64(40)) ^ salt
    mixed = wrapping_product(mixed, np.uint64(0x9E3779B97F4A7C15))
    mixed = wrapping_product(mixed ^ (mixed >> np.uint64(32)), np.uint64(0xD6E8FEB86659FD93))
    return mixed ^ (mixed >> np.uint64(29))


@kernel
def _choose(pages: Any, spaces: Any, salt: Any, threshold: Any, rows: Any) -> Any:
    """Write the rows whose page is in the sample; return how many.

    pages uint32 or uint64 (rows,), spaces uint32 (rows,) or (1,), rows uint32 (rows,) is filled.
    """
    chosen = 0
    if spaces.size == 1:
        for row in range(pages.size):
            rows[chosen] = row
            chosen += (_mixed(pages[row], spaces[0], salt) >> np.uint64(32)) < threshold
    else:
        for row in range(pages.size):
            rows[chosen] = row
            chosen += (_mixed(pages[row], spaces[row], salt) >> np.uint64(32)) < threshold
    return chosen


@kernel
def _hash(pages: Any, spaces: Any, salt: Any, page_ids: Any, hashes: Any) -> None:
    """Note the hash of each page: HASH (pages,), by id."""
    one_space = spaces.size == 1
    for row in range(pages.size):
        mixed = _mixed(pages[row], spaces[0] if one_space else spaces[row], salt)
        hashes[page_ids[row]]["high"] = mixed >> np.uint64(32)
        hashes[page_ids[row]]["group"] = (mixed >> np.uint64(24)) & np.uint64(GROUPS - 1)


@kernel
def _tally_groups(page_ids: Any, distances: Any, hashes: Any, histogram: Any) -> None:
    for row in range(page_ids.size):
        if distances[row] != FIRST_USE:
            histogram[hashes[page_ids[row]]["group"], distances[row]] += 1.0


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A miss curve with its error bar; float64 of shape (sizes,), in accesses."""

    misses: Floats
    low: Floats
    high: Floats


class SampledDistances:
    """Takes the accesses of a trace, keeps those of the sample, and estimates the curve.

    Memory: what `dense` and `distances` take per sampled page, 128 bytes of histogram and 9 of
    hash; 4 bytes a row of a batch for the filter.

    Parameters
    ----------
    rate : share of the pages to come down to while the sample holds more than `pages`
    pages : the sample starts with every page and is thinned each time it holds more than this,
        down to `rate`; looked at every 16384 rows; with a rate of 0 memory is bounded
    seed : chooses the sample
    """

    def __init__(self, rate: float, pages: int = DEFAULT_PAGES, seed: int = 0) -> None:
        self._least_threshold = max(round(rate * _WHOLE), 1)
        self._threshold = _WHOLE if pages else self._least_threshold
        self._most_pages = pages
        self._salt = np.uint64((seed * 0x9E3779B97F4A7C15 + 0x5851F42D4C957F2D) % (1 << 64))
        self._ids = DenseIds()
        self._line = RecencyLine()
        self._hashes = np.zeros(0, HASH)
        self._histogram = np.zeros((GROUPS, self._line.room_for_pages))
        self._rows = np.empty(0, np.uint32)
        self.accesses = 0

    @property
    def rate(self) -> float:
        """Share of the pages that are in the sample now."""
        return self._threshold / _WHOLE

    @property
    def sampled_pages(self) -> int:
        """Pages in the sample."""
        return len(self._ids)

    def add(
        self,
        pages: PageIds | npt.NDArray[np.uint64],
        spaces: npt.NDArray[np.uint32] | None = None,
    ) -> None:
        """Take accesses.

        Parameters
        ----------
        pages : page numbers, or any other names of pages; uint32 or uint64, shape (rows,)
        spaces : uint32, shape (rows,), number of the address space; None where there is one
        """
        if spaces is None:
            spaces = np.zeros(1, np.uint32)
        start = 0
        while start < pages.size:
            room = _ROWS
            if self._threshold > self._least_threshold:
                room = _ROWS_THINNING - self.accesses % _ROWS_THINNING
            stop = min(start + room, pages.size)
            self._take(pages[start:stop], spaces if spaces.size == 1 else spaces[start:stop])
            self.accesses += stop - start
            start = stop
            # At fixed rows, so that batches of any size give the same sample.
            if self.accesses % _ROWS_THINNING == 0:
                self._thin()

    def _take(self, pages: npt.NDArray[Any], spaces: npt.NDArray[np.uint32]) -> None:
        if self._rows.size < pages.size:
            self._rows = np.empty(pages.size, np.uint32)
        chosen = _choose(pages, spaces, self._salt, np.uint64(self._threshold), self._rows)
        rows = self._rows[:chosen]
        known = len(self._ids)
        sampled = pages[rows].astype(np.uint64)
        if spaces.size != 1:
            spaces = spaces[rows]
        page_ids = self._ids.number(sampled, spaces)
        if len(self._ids) > known:
            if len(self._ids) > self._hashes.size:
                self._hashes.resize(2 * len(self._ids), refcheck=False)
            _hash(sampled, spaces, self._salt, page_ids, self._hashes)
        distances = np.empty(page_ids.size, np.uint32)
        self._line.measure(page_ids, distances)
        more = self._line.room_for_pages - self._histogram.shape[1]
        if more:
            self._histogram = np.pad(self._histogram, ((0, 0), (0, more)))
        _tally_groups(page_ids, distances, self._hashes, self._histogram)

    def _thin(self) -> None:
        """Lower the threshold while there are too many pages; scale what was counted."""
        while len(self._ids) > self._most_pages and self._threshold > self._least_threshold:
            self._lower_threshold()

    def _lower_threshold(self) -> None:
        wanted = int(self._most_pages * _KEPT_SHARE)
        high = self._hashes["high"][: len(self._ids)]
        threshold = int(np.partition(high, wanted)[wanted])
        threshold = max(min(threshold, self._threshold - 1), self._least_threshold)
        kept = high < threshold
        pages, spaces = self._ids.keys()
        self._line.drop_pages(kept)
        self._ids = DenseIds(16 * self._most_pages)  # sampled pages lie apart
        self._ids.number(pages[kept], spaces[kept])
        self._hashes = self._hashes[: kept.size][kept]
        share = threshold / self._threshold
        used = kept.size  # no distance reaches further
        scaled = (np.arange(used) * share).astype(np.int64)
        for counts in self._histogram:
            counts[:used] = np.bincount(scaled, counts[:used], used) * share
        self._threshold = threshold

    def estimate(
        self, capacities_pages: npt.NDArray[np.int64], unique_pages: int | None = None
    ) -> Estimate:
        """Return the misses at each capacity, first touches included, with their error bar.

        Parameters
        ----------
        capacities_pages : int64, shape (sizes,)
        unique_pages : distinct pages of the trace, where known: makes loops exact
        """
        in_groups = np.bincount(self._hashes["group"][: len(self._ids)], minlength=GROUPS).astype(
            np.float64
        )
        rate = self.rate
        whole = self.sampled_pages / rate
        if unique_pages and self.sampled_pages:
            rate = self.sampled_pages / unique_pages
            whole = float(unique_pages)
        distance = capacities_pages * rate
        fewer = np.cumsum(self._histogram[:, : max(self.sampled_pages, 1)], axis=1)
        refaults = fewer[:, -1:] - np.pad(fewer, ((0, 0), (1, 0)))
        points = np.arange(refaults.shape[1])
        misses = in_groups[:, None] + np.stack([np.interp(distance, points, r) for r in refaults])
        total = misses.sum(axis=0)
        missing = 1 - rate  # nothing is uncertain where every page is in the sample
        variance = GROUPS * misses.var(axis=0, ddof=1)
        if unique_pages is None:
            # Nothing tells how far the share of pages in the sample is off its rate.
            variance += total**2 / max(self.sampled_pages, 1)
        spread = np.sqrt(variance * missing)
        reach = np.clip(1 - capacities_pages / max(whole, 1), 0, 1)
        sway = _NORMAL * np.sqrt(missing * (distance * reach + 0.25))
        together = refaults.sum(axis=0) + in_groups.sum()
        up = np.interp(distance - sway, points, together) - total
        down = total - np.interp(distance + sway, points, together)
        most = float(self.accesses)
        return Estimate(
            np.clip(total / rate, 0, most),
            np.clip((total - np.hypot(_STUDENT * spread, down)) / rate, 0, most),
            np.clip((total + np.hypot(_STUDENT * spread, up)) / rate, 0, most),
        )

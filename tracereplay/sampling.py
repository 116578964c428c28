"""Miss curves from a spatial sample: all accesses of a few pages chosen by a hash.

A page is in the sample where its hash is below a threshold; a stack distance within the sample,
divided by the rate, estimates the true one. Sources: Waldspurger et al., "Efficient MRC
construction with SHARDS", FAST 2015 (the filter and its bounded variant); misses are counted, not
hits, so that hot pages, in the sample or not, add nothing to the error.

The error bar is for 95 % at each size by itself (pointwise), and nothing in it is fitted to traces.
Given n sampled pages of N, the sample is a simple random one, and a miss count is wrong in two ways:

* Which pages are in it: the last 6 bits of the hash divide it into 64 independent samples of 1/64
  the rate. The ratio estimate N/n x misses has the standard error of the sum of the 64 residuals
  (misses of a part less its pages times the mean), and Student's t with 63 degrees of freedom.
* How far a distance is off: of c other pages a hypergeometric number is in the sample. So what the
  sample says at its own distance holds for a size within 1.96 standard deviations of c, and as the
  curve falls, its values there bound it. This is right for a cliff, where all reuses shift together
  and a variance of misses says nothing.

Both come from the same choice of pages and may go the same way: standard deviations of a sum are at
most the sum of theirs, so the two are added. Where N is unknown it is n over the rate, and the curve
at 1.96 standard deviations of N to both sides gives a third part; n says nothing of *which* pages
are chosen, so that part is added in quadrature. Simplified: normal quantiles for the hypergeometric,
which is why sizes with fewer than 16 sampled pages are not answered.
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
Capacities = npt.NDArray[np.int64]

PARTS = 64
LEAST_DISTANCE = 16  # below so many sampled pages a distance says too little
DEFAULT_PAGES = 8192  # a sample is not thinned below this, whatever its rate
_UNSEEN = 3.0  # misses that a sample with none of a kind leaves possible at 95 %: -ln .05
_STUDENT = 1.998  # 97.5 % at PARTS - 1 degrees of freedom
_NORMAL = 1.960
_WHOLE = 1 << 32
_EXPECTED_SHARE = 0.8  # of a full sample, where the number of pages is known before
_KEPT_SHARE = 0.6  # of the pages of a full sample, when it is thinned
_NEW_PAGES_A_LOOK = 1 << 13  # between two looks at how many there are
_ROWS = 1 << 20
_BLOCK = 4096  # rows hashed at once: their flags stay in the first-level cache
# Bins of true distance, for the variance between parts: 8 equal ones an octave, which is what the
# exponent and the first three bits of a float64 tell.
_BIN_SHIFT = 49
_FIRST_BIN = 1023 << 3
_BINS = 40 << 3
_LOW = np.uint64(0xFFFF_FFFF)


@inline
def _mixed(page: Any, space: Any, salt: Any) -> Any:
    """Return 32 well-mixed bits; in 32 bits throughout, which vector units multiply 8 at once."""
    low = np.uint32(np.uint64(page) & _LOW)
    high = np.uint32((np.uint64(page) >> np.uint64(32)) & _LOW)
    mixed = np.uint32(wrapping_product(space, np.uint32(0x9E3779B1)) & _LOW) ^ high ^ salt[0]
    mixed = np.uint32(
        wrapping_product(mixed ^ (mixed >> np.uint32(16)), np.uint32(0x7FEB352D)) & _LOW
    )
    mixed = low ^ mixed ^ (mixed >> np.uint32(15))
    mixed = np.uint32(
        wrapping_product(mixed ^ (mixed >> np.uint32(16)), np.uint32(0x7FEB352D)) & _LOW
    )
    mixed = mixed ^ salt[1]
    mixed = np.uint32(
        wrapping_product(mixed ^ (mixed >> np.uint32(15)), np.uint32(0x846CA68B)) & _LOW
    )
    return mixed ^ (mixed >> np.uint32(16))


@kernel
def _choose(pages: Any, spaces: Any, salt: Any, highest: Any, flags: Any, rows: Any) -> Any:
    """Write the rows whose page is in the sample; return how many.

    pages uint32 or uint64 (rows,), spaces uint32 (rows,) or (1,), salt two uint32, highest uint32:
    the greatest hash in the sample, flags uint8 (4096,) and the same memory as uint64 (512,), rows
    uint32 (rows + 8,) is filled.
    """
    in_sample, words = flags
    chosen = 0
    for start in range(0, pages.size, _BLOCK):
        stop = min(start + _BLOCK, pages.size)
        if spaces.size == 1:
            space = spaces[0]
            for row in range(start, stop):
                in_sample[row - start] = np.uint8(_mixed(pages[row], space, salt) <= highest)
        else:
            for row in range(start, stop):
                in_sample[row - start] = np.uint8(_mixed(pages[row], spaces[row], salt) <= highest)
        in_sample[stop - start :] = 0
        for word in range((stop - start + 7) >> 3):
            if words[word] != 0:
                for flag in range(8 * word, 8 * word + 8):
                    rows[chosen] = start + flag
                    chosen += int(in_sample[flag])
    return chosen


@kernel
def _hash(pages: Any, spaces: Any, salt: Any, hashes: Any) -> None:
    one_space = spaces.size == 1
    for row in range(pages.size):
        hashes[row] = _mixed(pages[row], spaces[0] if one_space else spaces[row], salt)


@kernel
def _tally(hashes: Any, distances: Any, rate: Any, histogram: Any, of_parts: Any) -> None:
    """Count reuses by sampled distance, and per part by the logarithm of the true one."""
    for row in range(distances.size):
        if distances[row] != FIRST_USE:
            histogram[distances[row]] += 1.0
            true_distance = np.float64(distances[row] / rate + 1.0)
            bin_of_it = (true_distance.view(np.int64) >> _BIN_SHIFT) - _FIRST_BIN
            of_parts[hashes[row] & np.uint32(PARTS - 1), bin_of_it] += 1.0


def _sum_of_errors(first: Floats, second: Floats, correlation: Floats) -> Floats:
    """Return the error of a sum of two."""
    error: Floats = np.sqrt(first**2 + second**2 + 2 * correlation * first * second)
    return error


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A miss curve with its error bar; float64 of shape (sizes,), in accesses."""

    misses: Floats
    low: Floats
    high: Floats


class SampledDistances:
    """Takes the accesses of a trace, keeps those of the sample, and estimates the curve.

    Memory: what `dense` and `distances` take per sampled page, 8 bytes of histogram; 4 bytes a row
    of a batch for the filter, and 0.16 MiB.

    Parameters
    ----------
    rate : share of the pages to come down to while the sample holds more than `pages`
    pages : the sample starts with every page and is thinned each time it holds more than this,
        down to `rate`; with a rate of 0 memory is bounded: it is looked at before as many again,
        or 8192, can have come
    seed : chooses the sample
    expected_pages : distinct pages of the trace, where known before: spares most of the thinning
    """

    def __init__(
        self,
        rate: float,
        pages: int = DEFAULT_PAGES,
        seed: int = 0,
        expected_pages: int = 0,
    ) -> None:
        self._least_threshold = max(round(rate * _WHOLE), 1)
        self._threshold = _WHOLE if pages else self._least_threshold
        if pages and expected_pages > pages:
            share = _EXPECTED_SHARE * pages / expected_pages
            self._threshold = max(round(share * _WHOLE), self._least_threshold)
        self._most_pages = pages
        self._salt = tuple(np.random.SeedSequence(seed % (1 << 64)).generate_state(2))
        self._ids = DenseIds()
        self._line = RecencyLine()
        self._histogram = np.zeros(self._line.room_for_pages)
        self._of_parts = np.zeros((PARTS, _BINS))
        flags = np.zeros(_BLOCK, np.uint8)
        self._flags = (flags, flags.view(np.uint64))
        self._rows = np.empty(0, np.uint32)
        self._new_pages_a_look = min(_NEW_PAGES_A_LOOK, max(pages, 1))
        self._next_look = self._new_pages_a_look * max(_WHOLE // self._threshold, 1)
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
                room = min(room, self._next_look - self.accesses)
            stop = min(start + room, pages.size)
            self._take(pages[start:stop], spaces if spaces.size == 1 else spaces[start:stop])
            self.accesses += stop - start
            start = stop
            # At rows that the batches have no part in, so that any batches give the same sample.
            if self.accesses == self._next_look:
                self._thin()

    def _take(self, pages: npt.NDArray[Any], spaces: npt.NDArray[np.uint32]) -> None:
        if self._rows.size < pages.size + 8:
            self._rows = np.empty(pages.size + 8, np.uint32)
        highest = np.uint32(self._threshold - 1)
        chosen = _choose(pages, spaces, self._salt, highest, self._flags, self._rows)
        rows = self._rows[:chosen]
        sampled = pages[rows].astype(np.uint64)
        if spaces.size != 1:
            spaces = spaces[rows]
        page_ids = self._ids.number(sampled, spaces)
        distances = np.empty(page_ids.size, np.uint32)
        self._line.measure(page_ids, distances)
        more = self._line.room_for_pages - self._histogram.size
        if more:
            self._histogram = np.pad(self._histogram, (0, more))
        hashes = np.empty(page_ids.size, np.uint32)
        _hash(sampled, spaces, self._salt, hashes)
        _tally(hashes, distances, self.rate, self._histogram, self._of_parts)

    def _sampled_keys(
        self,
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
        """Return page, space and hash of each sampled page."""
        pages, spaces = self._ids.keys()
        hashes = np.empty(pages.size, np.uint32)
        _hash(pages, spaces, self._salt, hashes)
        return pages, spaces, hashes

    def _thin(self) -> None:
        """Lower the threshold while there are too many pages; scale what was counted."""
        while len(self._ids) > self._most_pages and self._threshold > self._least_threshold:
            self._lower_threshold()
        self._next_look += self._new_pages_a_look * max(_WHOLE // self._threshold, 1)

    def _lower_threshold(self) -> None:
        wanted = int(self._most_pages * _KEPT_SHARE)
        pages, spaces, hashes = self._sampled_keys()
        threshold = int(np.partition(hashes, wanted)[wanted])
        threshold = max(min(threshold, self._threshold - 1), self._least_threshold)
        kept = hashes < threshold
        self._line.drop_pages(kept)
        self._ids = DenseIds(16 * self._most_pages)  # sampled pages lie apart
        self._ids.number(pages[kept], spaces[kept])
        # By the pages that stay, not by the thresholds: N/n x what was counted is then unchanged,
        # and a loop over all pages stays exact.
        share = np.count_nonzero(kept) / kept.size
        used = kept.size  # no distance reaches further
        scaled = (np.arange(used) * share).astype(np.int64)
        self._histogram[:used] = np.bincount(scaled, self._histogram[:used], used) * share
        self._of_parts *= share
        self._threshold = threshold

    def estimate(self, capacities_pages: Capacities, unique_pages: int | None = None) -> Estimate:
        """Return the misses at each capacity, first touches included, with their error bar.

        Parameters
        ----------
        capacities_pages : int64, shape (sizes,)
        unique_pages : distinct pages of the trace, where known: makes loops exact
        """
        sampled = self.sampled_pages
        if not sampled:
            # Nothing was chosen: as many pages as accesses, or none, are both possible.
            nothing = np.zeros(capacities_pages.size)
            return Estimate(nothing, nothing.copy(), np.full(nothing.size, float(self.accesses)))
        whole = unique_pages or sampled / self.rate
        missing = max(1 - sampled / whole, 0.0)  # nothing is uncertain where every page is sampled
        reuses = np.zeros(sampled + 1)
        reuses[0] = self._histogram.sum()
        reuses[1:-1] = reuses[0] - np.cumsum(self._histogram[: sampled - 1])
        points = np.arange(sampled + 1)

        def misses_at(capacities: npt.NDArray[Any], pages: float) -> Floats:
            scale = pages / sampled
            misses: Floats = pages + scale * np.interp(capacities / scale, points, reuses)
            return misses

        found = misses_at(capacities_pages, whole)
        # Without replacement: towards the whole footprint every distance is known.
        reach = np.clip(1 - capacities_pages / whole, 0, 1)
        if unique_pages is None:
            reach = np.ones(capacities_pages.size)
        sway = _NORMAL * np.sqrt(capacities_pages * missing * reach * whole / sampled)
        here, smaller, larger = (
            _STUDENT * (reach > 0) * self._standard_error(sizes, whole, missing)
            for sizes in (
                capacities_pages.astype(np.float64),
                np.maximum(capacities_pages - sway, 0),
                capacities_pages + sway,
            )
        )
        # Beside a cliff of the curve the error at its other side is the one that counts.
        fewest = misses_at(capacities_pages + sway, whole)
        most = misses_at(np.maximum(capacities_pages - sway, 0), whole)
        down = np.maximum(here, larger) + found - fewest
        unseen = _UNSEEN * missing * (reach > 0) * whole / sampled
        up = np.maximum(np.maximum(here, smaller), unseen) + most - found
        if unique_pages is None:
            # The number of pages is off as well, and towards all of them by the same as the distances.
            off = _NORMAL * np.sqrt(missing / sampled)
            correlation = np.sqrt(np.minimum(capacities_pages / whole, 1))
            down = _sum_of_errors(down, off * fewest, correlation)
            up = _sum_of_errors(up, off * most, correlation)
        bounds = unique_pages or sampled, self.accesses
        return Estimate(
            np.clip(found, *bounds),
            np.clip(found - down, *bounds),
            np.clip(found + up, *bounds),
        )

    def _standard_error(self, capacities: Floats, whole: float, missing: float) -> Floats:
        """Return the standard error that comes from which pages are in the sample.

        The larger of those at both edges of a bin: a cliff may stand anywhere in it.
        """
        sampled = self.sampled_pages
        _, _, hashes = self._sampled_keys()
        pages = np.bincount(hashes & np.uint32(PARTS - 1), minlength=PARTS)
        reuses = np.zeros((PARTS, _BINS + 2))
        reuses[:, :_BINS] = np.cumsum(self._of_parts[:, ::-1], axis=1)[:, ::-1]
        binned = capacities * (sampled / self.rate / whole)  # distances were binned by the rate
        place = (binned + 1.0).view(np.int64) - (_FIRST_BIN << _BIN_SHIFT)
        below = np.minimum(place >> _BIN_SHIFT, _BINS)
        squares = np.zeros(capacities.size)
        for edge in (below, below + 1):
            misses = reuses[:, edge]
            residuals = misses - pages[:, None] * (misses.sum(axis=0) / sampled)
            squares = np.maximum(squares, (residuals**2).sum(axis=0))
        error: Floats = np.sqrt(PARTS / (PARTS - 1) * squares * missing) * whole / sampled
        return error

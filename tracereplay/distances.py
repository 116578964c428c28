"""Exact LRU stack distances: how many other pages were used since a page's last use.

Every access takes the next position of a growing line of slots; the one its page held before
becomes a hole. The distance is the number of slots between the two that are no holes. Counting
holes instead of pages means that a new access changes nothing but its page's old place, so one
access costs one visit to that place: a bit, and a prefix count in each of four small nodes of one
cache line (32 x 2048 positions, then x 32, x 16, x 16). When the line is full, the holes are
squeezed out. One distance histogram answers every memory size (Mattson et al., "Evaluation
techniques for storage hierarchies", IBM Systems Journal 9(2), 1970).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tracereplay._jit import add_after, inline, item_at, kernel, popcount, prefetch, put_at
from tracereplay.dense import PageIds
from tracereplay.errors import InputError

Counts = npt.NDArray[np.int64]

# Four positions a page keep squeezing cheap (a third of an access) and the tree in cache.
POSITIONS_PER_PAGE = 4
_LEAST_POSITIONS = 1 << 16
_MOST_POSITIONS = 1 << 31
_ROWS = 1 << 16  # rows between two tallies: their distances stay in cache
_BLOCK = 1024  # rows that share how far ahead is looked: no row asks whether the batch ends before
_NEVER = -1
FIRST_USE = 0xFFFF_FFFF  # the distance of a page that was not used before

# Prefetch distances in accesses, by measurement: far enough for DRAM, near enough to stay in L1.
_AHEAD_PAGE = 32
_AHEAD_POSITION = 12

LINE = np.dtype([("next", np.int64), ("holes", np.int64)])


def new_tree(positions: int) -> tuple[npt.NDArray[Any], ...]:
    """Return an empty tree over a power of two of positions: hole bits, then the levels' counts."""
    types = (np.uint64, np.uint16, np.uint16, np.uint32, np.uint32, np.int64)
    return tuple(
        np.zeros(size, kind) for size, kind in zip(_level_sizes(positions), types, strict=True)
    )


def widen_tree(tree: tuple[npt.NDArray[Any], ...], positions: int, holes: int) -> None:
    """Put empty positions behind those of a tree that has so many holes."""
    parts = tree[5].size
    for level, size in zip(tree, _level_sizes(positions), strict=True):
        # In place, where the allocator can; nodes begun already count for all their positions.
        level.resize(size, refcheck=False)
    tree[5][parts:] = holes


def _level_sizes(positions: int) -> tuple[int, ...]:
    words = positions >> 6
    return (
        words,
        words,
        max(32, positions >> 11),
        max(16, positions >> 16),
        max(16, positions >> 20),
        max(1, positions >> 24),
    )


@inline
def holes_before(tree: Any, position: Any) -> Any:
    """Return how many positions before this one are holes."""
    below = (np.uint64(1) << np.uint64(position & 63)) - np.uint64(1)
    return (
        np.int64(popcount(tree[0][position >> 6] & below))
        + np.int64(tree[1][position >> 6])
        + np.int64(tree[2][position >> 11])
        + np.int64(tree[3][position >> 16])
        + np.int64(tree[4][position >> 20])
        + tree[5][position >> 24]
    )


@inline
def make_hole(tree: Any, position: Any) -> None:
    """Mark the position as a hole."""
    tree[0][position >> 6] |= np.uint64(1) << np.uint64(position & 63)
    add_after(tree[1], (position >> 11) << 5, (position >> 6) & 31)
    add_after(tree[2], (position >> 16) << 5, (position >> 11) & 31)
    add_after(tree[3], (position >> 20) << 4, (position >> 16) & 15)
    add_after(tree[4], (position >> 24) << 4, (position >> 20) & 15)
    for part in range((position >> 24) + 1, tree[5].size):
        tree[5][part] += 1


@kernel
def _measure(page_ids: Any, last: Any, line: Any, tree: Any, distances: Any) -> None:
    """Write the distance of each access, FIRST_USE for a page's first.

    page_ids uint32 (rows,), last int32 (pages,): position of each page or -1, line LINE (1,) with
    room for all rows, distances uint32 (rows,).
    """
    position = line[0]["next"]
    holes = line[0]["holes"]
    for start in range(0, page_ids.size, _BLOCK):
        stop = min(start + _BLOCK, page_ids.size)
        page_ahead = min(_AHEAD_PAGE, page_ids.size - stop)
        position_ahead = min(_AHEAD_POSITION, page_ids.size - stop)
        for row in range(start, stop):
            prefetch(last, item_at(page_ids, row + page_ahead))
            soon = np.int64(item_at(last, item_at(page_ids, row + position_ahead)))
            # A page without a position is asked for as well: nothing faults, and no branch misses.
            prefetch(tree[0], soon >> 6)
            prefetch(tree[1], soon >> 6)
            page = item_at(page_ids, row)
            before = np.int64(item_at(last, page))
            if before < 0:
                put_at(distances, row, FIRST_USE)
            elif before == position - 1:  # the page of the access before
                put_at(distances, row, 0)
                continue
            else:
                holes_between = holes - holes_before(tree, before)
                put_at(distances, row, position - before - 1 - holes_between)
                make_hole(tree, before)
                holes += 1
            put_at(last, page, position)
            position += 1
    line[0]["next"] = position
    line[0]["holes"] = holes


@kernel
def _drop(pages: Any, last: Any, line: Any, tree: Any) -> None:
    for row in range(pages.size):
        position = np.int64(last[pages[row]])
        if position >= 0:
            make_hole(tree, position)
            line[0]["holes"] += 1
            last[pages[row]] = _NEVER


@kernel
def _tally(distances: Any, histogram: Any) -> Any:
    """Count the distances; return how many were no first use."""
    rows = distances.size
    counted = np.int64(0)
    for start in range(0, rows, _BLOCK):
        stop = min(start + _BLOCK, rows)
        ahead = min(_AHEAD_PAGE, rows - stop)
        for row in range(start, stop):
            soon = item_at(distances, row + ahead)
            prefetch(histogram, np.int64(0 if soon == FIRST_USE else soon))
            distance = np.int64(item_at(distances, row))
            # Without a branch: which use is a first one cannot be predicted.
            is_reuse = np.int64(distance != FIRST_USE)
            place = distance * is_reuse
            put_at(histogram, place, item_at(histogram, place) + is_reuse)
            counted += is_reuse
    return counted


@kernel
def _squeeze(last: Any, tree: Any) -> None:
    """Move every page to the position it has without holes."""
    for page in range(last.size):
        position = np.int64(last[page])
        if position >= 0:
            last[page] = position - holes_before(tree, position)


class RecencyLine:
    """Pages in the order of their last use; tells how far back each access reaches.

    Memory: 4 bytes a page for its position and 0.65 for the tree, rounded up to the next power of
    two of pages where their number was not known before.
    """

    def __init__(self, expected_pages: int = 0) -> None:
        self._last = np.full(max(expected_pages, 1), _NEVER, np.int32)
        self._line = np.zeros(1, LINE)
        self._tree = new_tree(_positions_for(self._last.size))

    @property
    def room_for_pages(self) -> int:
        """Page ids below this are taken without growing."""
        return self._last.size

    def measure(self, page_ids: PageIds, distances: npt.NDArray[np.uint32]) -> None:
        """Write the stack distance of each access, FIRST_USE for a page's first.

        Parameters
        ----------
        page_ids : uint32, shape (rows,)
        distances : uint32, shape (rows,), is filled

        Raises
        ------
        InputError
            More than 2**30 distinct pages.
        """
        if not page_ids.size:
            return
        self._make_room(int(page_ids.max()) + 1)
        start = 0
        while start < page_ids.size:
            room = self._tree[0].size * 64 - int(self._line[0]["next"])
            if not room:
                self._squeeze()
                continue
            stop = min(start + room, page_ids.size)
            part = distances[start:stop]
            _measure(page_ids[start:stop], self._last, self._line, self._tree, part)
            start = stop

    def drop_pages(self, kept: npt.NDArray[np.bool_]) -> None:
        """Forget pages; those with `kept`, bool of shape (pages,), get new ids in the old order."""
        self._make_room(kept.size)
        _drop(np.flatnonzero(~kept), self._last, self._line, self._tree)
        staying = self._last[: kept.size][kept]
        self._last[: staying.size] = staying
        self._last[staying.size :] = _NEVER

    def _make_room(self, pages: int) -> None:
        if pages > self._last.size:
            if pages > _MOST_POSITIONS // 2:
                raise InputError("more than 2**30 distinct pages; split the trace, or --sample it")
            known = self._last.size
            self._last.resize(1 << (pages - 1).bit_length(), refcheck=False)
            self._last[known:] = _NEVER
        positions = _positions_for(self._last.size)
        if positions > self._tree[0].size * 64:
            widen_tree(self._tree, positions, int(self._line[0]["holes"]))

    def _squeeze(self) -> None:
        _squeeze(self._last, self._tree)
        self._line[0]["next"] -= self._line[0]["holes"]
        self._line[0]["holes"] = 0
        for level in self._tree:
            level.fill(0)


class StackDistances:
    """Takes accesses batch by batch and keeps the histogram of their stack distances.

    Memory beyond that of the line: 4 bytes a page for the histogram (8 once a trace passes 4
    billion accesses) and 0.25 MiB for a batch.
    """

    def __init__(self, expected_pages: int = 0) -> None:
        self._line = RecencyLine(expected_pages)
        self._histogram: npt.NDArray[Any] = np.zeros(self._line.room_for_pages, np.uint32)
        self._distances = np.empty(_ROWS, np.uint32)
        self._rows = 0
        self._first_uses = 0

    def add(self, page_ids: PageIds) -> None:
        """Count the distances of these accesses; uint32, shape (rows,)."""
        for start in range(0, page_ids.size, _ROWS):
            part = page_ids[start : start + _ROWS]
            distances = self._distances[: part.size]
            self._line.measure(part, distances)
            self._rows += part.size
            self._fit_histogram()
            self._first_uses += part.size - _tally(distances, self._histogram)

    def _fit_histogram(self) -> None:
        more = self._line.room_for_pages - self._histogram.size
        if more:
            fresh = np.zeros(more, self._histogram.dtype)
            self._histogram = np.concatenate([self._histogram, fresh])
        if self._rows >= 1 << 32 and self._histogram.dtype == np.uint32:
            self._histogram = self._histogram.astype(np.int64)

    @property
    def accesses(self) -> int:
        """Accesses taken so far."""
        return self._rows

    @property
    def first_uses(self) -> int:
        """Accesses that were the first to their page, that is distinct pages."""
        return self._first_uses

    def histogram(self) -> Counts:
        """Return how many accesses had each distance; int64, shape (distinct pages,)."""
        return self._histogram[: self._first_uses].astype(np.int64)

    def misses(self) -> Counts:
        """Return LRU misses at 0, 1, 2, … distinct pages; int64, shape (distinct pages + 1,)."""
        misses = np.zeros(self._first_uses + 1, np.int64)
        misses[1:] = self._histogram[: self._first_uses]
        np.cumsum(misses, out=misses)
        np.subtract(self._rows, misses, out=misses)
        return misses


def _positions_for(pages: int) -> int:
    wanted = max(pages * POSITIONS_PER_PAGE, _LEAST_POSITIONS)
    return int(min(1 << (wanted - 1).bit_length(), _MOST_POSITIONS))

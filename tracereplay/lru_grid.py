"""Exact LRU at a few memory sizes, each with a few pools of compressed pages behind it, in one pass.

All sizes share one line of positions (see `distances`): what an LRU of any size holds is the newest
part of it, and the pool behind it, filled in the order of the same recency, is the part before.
So a memory or a pool is one number, the position of its oldest page, and that number only grows.
One access costs one look at its page's position; sizes that hold the page have nothing to do.

Exact for an exact LRU that gives up one page per fault, a pool limited by bytes that are charged
nowhere else, pages that leave the pool when they come back, and eviction from the pool's oldest
end. Sizes may differ from page to page: a pool never takes back what it gave up, so its content
is *not* all that would fit (the byte-weighted stack distance of a reuse), and is not taken for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tracereplay._jit import inline, kernel, popcount, prefetch
from tracereplay.dense import PageIds
from tracereplay.distances import Counts
from tracereplay.errors import InputError

MEMORY = np.dtype(
    [
        ("oldest", np.int64),  # position of its oldest page
        ("room", np.int64),  # pages it can still take without giving one up
        ("misses", np.int64),
        ("zero_fills", np.int64),  # of these, of a page that is known to be all zeros
    ]
)
POOL = np.dtype(
    [
        ("oldest", np.int64),  # position of its oldest page; its newest stands before the memory's
        ("limit_bytes", np.int64),
        ("bytes", np.int64),
        ("loads", np.int64),  # misses of the memory that found their page here
        ("written_back", np.int64),  # pages pushed out at the oldest end
    ]
)
REFUSED = 0xFFFF  # stored size of a page that no pool takes: it goes to the device at once
ZERO_FILLED = 0  # of one that needs no place at all: it is never lost

_LEAST_POSITIONS = 1 << 20
_MOST_POSITIONS = 1 << 31
_POSITIONS_PER_PAGE = 8
_ROWS = 1 << 16
_AHEAD_PAGE = 32
_NEVER = -1
_FORGOTTEN = -2  # was used, and no memory or pool can still hold it


@inline
def _next_page(holes: Any, position: Any) -> Any:
    """Return the first position from here on that is no hole; there is one."""
    word = position >> 6
    pages = ~holes[word] & (np.uint64(0xFFFF_FFFF_FFFF_FFFF) << np.uint64(position & 63))
    while pages == np.uint64(0):
        word += 1
        pages = ~holes[word]
    return (word << 6) + np.int64(popcount(~pages & (pages - np.uint64(1))))


@inline
def _push(pools: Any, holes: Any, stored: Any, victim: Any) -> None:
    """Store the memory's victim in its pools, and write back what no longer fits."""
    victim_bytes = np.int64(stored[victim])
    if victim_bytes == REFUSED:
        victim_bytes = np.int64(0)
    for pool in range(pools.size):
        pools[pool]["bytes"] += victim_bytes
        while pools[pool]["bytes"] > pools[pool]["limit_bytes"]:
            oldest = _next_page(holes, pools[pool]["oldest"])
            pools[pool]["oldest"] = oldest + 1
            if stored[oldest] != REFUSED and stored[oldest] != ZERO_FILLED:
                pools[pool]["bytes"] -= np.int64(stored[oldest])
                pools[pool]["written_back"] += 1


@kernel
def _touch(page_ids: Any, line: Any, sizes: Any, memories: Any, pools: Any) -> None:
    """Take these accesses through every memory and pool.

    page_ids uint32 (rows,); line: last int32 (pages,), holes uint64 (positions / 64,), next int64
    (1,); sizes: of each page uint16 (pages,) and of each position uint16 (positions,), both empty
    without pools; memories MEMORY (n,) by rising size; pools POOL (n, limits).
    """
    last, holes, next_position = line
    of_page, stored = sizes
    rows = page_ids.size
    position = next_position[0]
    has_pools = pools.shape[1] > 0
    for row in range(rows):
        if row + _AHEAD_PAGE < rows:
            prefetch(last, page_ids[row + _AHEAD_PAGE])
        page = page_ids[row]
        before = np.int64(last[page])
        if before >= 0:
            if before == position - 1:
                continue
            holes[before >> 6] |= np.uint64(1) << np.uint64(before & 63)
        last[page] = position
        if has_pools:
            stored[position] = of_page[page]
        position += 1
        for number in range(memories.size):
            if before >= memories[number]["oldest"]:
                break
            memories[number]["misses"] += 1
            if has_pools and before != _NEVER and of_page[page] == ZERO_FILLED:
                memories[number]["zero_fills"] += 1
            elif has_pools and of_page[page] != REFUSED:
                for pool in range(pools.shape[1]):
                    if before >= pools[number, pool]["oldest"]:
                        pools[number, pool]["loads"] += 1
                        pools[number, pool]["bytes"] -= np.int64(of_page[page])
            if memories[number]["room"] > 0:
                memories[number]["room"] -= 1
            else:
                victim = _next_page(holes, memories[number]["oldest"])
                memories[number]["oldest"] = victim + 1
                if has_pools:
                    _push(pools[number], holes, stored, victim)
    next_position[0] = position


@inline
def _packed(holes: Any, before_word: Any, position: Any) -> Any:
    """Return the position without the holes before it."""
    below = (np.uint64(1) << np.uint64(position & 63)) - np.uint64(1)
    in_word = np.int64(popcount(holes[position >> 6] & below))
    return position - in_word - np.int64(before_word[position >> 6])


@kernel
def _squeeze(line: Any, stored: Any, before_word: Any, memories: Any, pools: Any) -> None:
    """Take the holes out of the line, and the pages that no memory or pool holds.

    before_word uint32 (positions / 64,): holes in the words before each.
    """
    last, holes, next_position = line
    kept = next_position[0]
    for number in range(memories.size):
        kept = min(kept, memories[number]["oldest"])
        for pool in range(pools.shape[1]):
            kept = min(kept, pools[number, pool]["oldest"])
    first = _packed(holes, before_word, kept)
    if stored.size:
        for position in range(kept, next_position[0]):
            is_hole = (holes[position >> 6] >> np.uint64(position & 63)) & np.uint64(1)
            if is_hole == np.uint64(0):
                stored[_packed(holes, before_word, position) - first] = stored[position]
    for page in range(last.size):
        own = np.int64(last[page])
        if own >= kept:
            last[page] = _packed(holes, before_word, own) - first
        elif own >= 0:
            last[page] = _FORGOTTEN
    for number in range(memories.size):
        oldest = _packed(holes, before_word, memories[number]["oldest"])
        memories[number]["oldest"] = oldest - first
        for pool in range(pools.shape[1]):
            oldest = _packed(holes, before_word, pools[number, pool]["oldest"])
            pools[number, pool]["oldest"] = oldest - first
    next_position[0] = _packed(holes, before_word, next_position[0]) - first


class LruGrid:
    """Takes accesses batch by batch; counts misses of each memory and loads from each pool.

    Memory: 4 bytes a page and 1 a page for holes, with pools 2 a page and 16 a page for sizes; a
    squeeze needs half a byte a page more. All but the first and third rounded up to powers of two.

    Parameters
    ----------
    capacities_pages : int64, shape (memories,), each at least 1, rising
    pool_limits_bytes : int64, shape (pools,), the same limits behind each memory
    stored_bytes : uint16, shape (pages,), bytes each page takes in a pool, REFUSED or ZERO_FILLED;
        only with pools
    """

    def __init__(
        self,
        capacities_pages: Counts,
        pool_limits_bytes: Counts | None = None,
        stored_bytes: npt.NDArray[np.uint16] | None = None,
        expected_pages: int = 0,
    ) -> None:
        limits = np.empty(0, np.int64) if pool_limits_bytes is None else pool_limits_bytes
        self._memories = np.zeros(capacities_pages.size, MEMORY)
        self._memories["room"] = capacities_pages
        self._pools = np.zeros((capacities_pages.size, limits.size), POOL)
        self._pools["limit_bytes"] = limits
        self._has_pools = bool(limits.size)
        self._of_page = np.empty(0, np.uint16) if stored_bytes is None else stored_bytes
        self._last = np.full(max(expected_pages, 1), _NEVER, np.int32)
        self._next = np.zeros(1, np.int64)
        self._holes = np.empty(0, np.uint64)
        self._stored = np.empty(0, np.uint16)
        self._make_line(_positions_for(self._last.size))

    def _make_line(self, positions: int) -> None:
        if positions == self._positions:
            self._holes.fill(0)
        else:
            self._holes = np.zeros((positions >> 6) + 1, np.uint64)
        if self._has_pools:
            self._stored.resize(positions, refcheck=False)

    @property
    def _positions(self) -> int:
        return (self._holes.size - 1) << 6

    def add(self, page_ids: PageIds) -> None:
        """Take these accesses; uint32, shape (rows,)."""
        if not page_ids.size:
            return
        self._make_room(int(page_ids.max()) + 1)
        start = 0
        while start < page_ids.size:
            room = self._positions - int(self._next[0])
            if not room:
                self._squeeze(self._positions)
                continue
            part = page_ids[start : start + min(room, _ROWS)]
            line = (self._last, self._holes, self._next)
            _touch(part, line, (self._of_page, self._stored), self._memories, self._pools)
            start += part.size

    def _make_room(self, pages: int) -> None:
        if pages > self._last.size:
            if pages > _MOST_POSITIONS // 2:
                raise InputError("more than 2**30 distinct pages; split the trace, or --sample it")
            more = (1 << (pages - 1).bit_length()) - self._last.size
            self._last = np.concatenate([self._last, np.full(more, _NEVER, np.int32)])
        positions = _positions_for(self._last.size)
        if positions > self._positions:
            self._squeeze(positions)

    def _squeeze(self, positions: int) -> None:
        before_word = np.zeros(self._holes.size, np.uint32)
        np.cumsum(np.bitwise_count(self._holes[:-1]), out=before_word[1:])
        line = (self._last, self._holes, self._next)
        _squeeze(line, self._stored, before_word, self._memories, self._pools)
        self._make_line(positions)

    def misses(self) -> Counts:
        """Return the misses of each memory, first touches included; int64, shape (memories,)."""
        return self._memories["misses"].copy()

    def zero_fills(self) -> Counts:
        """Return how many misses of each memory were of zero-filled pages used before."""
        return self._memories["zero_fills"].copy()

    def loads(self) -> Counts:
        """Return how many misses found their page in the pool; int64, shape (memories, pools)."""
        return self._pools["loads"].copy()

    def written_back(self) -> Counts:
        """Return how many pages each pool pushed out; int64, shape (memories, pools)."""
        return self._pools["written_back"].copy()


def _positions_for(pages: int) -> int:
    wanted = max(pages * _POSITIONS_PER_PAGE, _LEAST_POSITIONS)
    return int(min(1 << (wanted - 1).bit_length(), _MOST_POSITIONS))

"""Exact LRU at a few memory sizes, each with a few pools of compressed pages behind it, in one pass.

All sizes share one line of positions (see `distances`): what an LRU of any size holds is the newest
part of it, and the pool behind it, filled in the order of the same recency, is the part before.
So a memory or a pool is one number, the position of its oldest page, and that number only grows.
One access costs one look at its page's position; sizes that hold the page have nothing to do.

Without pools, no size is looked at per access. Positions of a block of accesses are written down
first, and then each size counts those before its oldest page: these are misses whatever happens in
the block. If none lies among the pages that they push out, they are all, and the oldest page moves
by their number at once; only otherwise the size takes the block access by access.

Pools take the misses of their memory by blocks too: those from the pool's oldest page on find their
page there, and the most that the bytes exceed the limit on the way tells how much is written back.
Again that is all unless a miss lies among the pages written back; then it goes miss by miss.

Exact for an exact LRU that gives up one page per fault, a pool limited by bytes that are charged
nowhere else, pages that leave the pool when they come back, and eviction from the pool's oldest
end. Sizes may differ from page to page: a pool never takes back what it gave up, so its content
is *not* all that would fit (the byte-weighted stack distance of a reuse), and is not taken for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tracereplay._jit import inline, inner, item_at, kernel, popcount, prefetch, put_at
from tracereplay.dense import PageIds
from tracereplay.distances import Counts
from tracereplay.errors import InputError

MEMORY = np.dtype(
    [
        ("oldest", np.int64),  # position of its oldest page
        ("room", np.int64),  # pages it can still take without giving one up
        ("misses", np.int64),
        ("zero_fills", np.int64),  # of these, of a page that is known to be all zeros
        ("stored", np.int64),  # pages given up that took place in its pools
    ]
)
POOL = np.dtype(
    [
        ("oldest", np.int64),  # position of its oldest page; its newest stands before the memory's
        ("limit_bytes", np.int64),
        ("bytes", np.int64),
        ("loads", np.int64),  # misses of the memory that found their page here
    ]
)
REFUSED = 0xFFFF  # stored size of a page that no pool takes: it goes to the device at once
ZERO_FILLED = 0  # of one that needs no place at all: it is never lost

_LEAST_POSITIONS = 1 << 20
_MOST_POSITIONS = 1 << 31
_POSITIONS_PER_PAGE = 8
_BLOCK = 256
# With pools: pages written back are found with less work by larger blocks; small memories push out
# pages of the same block, which then takes longer.
_LEAST_BLOCK = 32
_MOST_BLOCK = 512
_CHUNK = 64  # positions whose bytes are added up at once
_LANES = 16  # pools whose misses are summed up at once: their oldest positions, and from here on
_CHANGE = 16  # by how much their bytes grow, above _NO_CHANGE
_MOST = 32  # the most that was on the way
_LOADS = 48
_NO_CHANGE = 1 << 30
_AHEAD_PAGE = 64
# No page takes the first positions: two of them stand for pages that have none, so that an access
# need not ask whether it is the first.
_NEVER = 0
_FORGOTTEN = 1  # was used, and no memory or pool can still hold it
_OF_ZEROS = 2  # was used, and needs no pool
_FIRST = 64
_JUST_USED = 0xFFFF_FFFF  # stands for the position of a page used twice in a row: a hit everywhere
_EMPTY_WORDS = _MOST_BLOCK // 64 + 1  # of hole bits: room to look for pages that are not there


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
def _behind_pages(holes: Any, position: Any, count: Any) -> Any:
    """Return the position behind the next `count` pages from here on, at least one."""
    word = position >> 6
    pages = ~holes[word] & (np.uint64(0xFFFF_FFFF_FFFF_FFFF) << np.uint64(position & 63))
    left = np.int64(count)
    here = np.int64(popcount(pages))
    while here < left:
        left -= here
        word += 1
        pages = ~holes[word]
        here = np.int64(popcount(pages))
    # Halve what is left of the word: without branches, which nobody could predict.
    behind = word << 6
    width = np.int64(32)
    while width > 0:
        low = np.int64(popcount(pages & ((np.uint64(1) << np.uint64(width)) - np.uint64(1))))
        beyond = np.int64(left > low)
        left -= beyond * low
        pages >>= np.uint64(beyond * width)
        behind += beyond * width
        width >>= 1
    return behind + 1


@inline
def _count_before(places: Any, size: Any, position: Any) -> Any:
    """Return how many of the first places stand before this position; in 32 bits, 16 at once."""
    count = np.uint32(0)
    end = np.uint32(position)
    for number in range(size):
        count = np.uint32(count + np.uint32(item_at(places, number) < end))
    return np.int64(count)


@inner
def _replay_in_order(places: Any, holes: Any, memory: Any, bound: Any) -> None:
    """Take a block through a memory access by access; its oldest page will not pass the bound.

    Positions from there on are hits, those before its oldest page misses: only for one between the
    two it has to be known which pages left before.
    """
    oldest = memory["oldest"]
    for number in range(_BLOCK):
        place = np.int64(places[number])
        if oldest <= place < bound:
            holes[place >> 6] &= ~(np.uint64(1) << np.uint64(place & 63))
    misses = np.int64(0)
    marker = oldest
    leave = -memory["room"]  # pages that have to leave before the memory is looked at again
    for number in range(_BLOCK):
        place = np.int64(places[number])
        is_miss = np.int64(place < oldest)
        leave += is_miss
        misses += is_miss
        if oldest <= place < bound:
            if leave > 0:
                marker = _behind_pages(holes, marker, leave)
                leave = 0
            holes[place >> 6] |= np.uint64(1) << np.uint64(place & 63)
            is_miss = np.int64(place < marker)
            leave += is_miss
            misses += is_miss
    if leave > 0:
        marker = _behind_pages(holes, marker, leave)
        leave = 0
    memory["oldest"] = marker
    memory["room"] = -leave
    memory["misses"] += misses


@inner
def _take_block(places: Any, holes: Any, memory: Any, misses: Any) -> None:
    """Take a block through a memory; `misses` positions stand before its oldest page."""
    bound = memory["oldest"]
    possible = misses
    while possible > memory["room"]:
        bound = _behind_pages(holes, memory["oldest"], possible - memory["room"])
        before_bound = _count_before(places, _BLOCK, bound)
        if before_bound == possible:
            break
        possible = before_bound
    if possible > misses:
        _replay_in_order(places, holes, memory, bound)
        return
    memory["oldest"] = bound
    memory["room"] = max(memory["room"] - misses, 0)
    memory["misses"] += misses


@kernel
def _touch(page_ids: Any, line: Any, memories: Any, places: Any) -> None:
    """Take these accesses through every memory.

    page_ids uint32 (rows,); line: last uint32 (pages,), holes uint64 (positions / 64,), next int64
    (1,); memories MEMORY (n,) by rising size; places uint32 (_BLOCK,): positions of a block.
    """
    last, holes, next_position = line
    position = next_position[0]
    for start in range(0, page_ids.size, _BLOCK):
        stop = min(start + _BLOCK, page_ids.size)
        ahead = min(_AHEAD_PAGE, page_ids.size - stop)
        for row in range(start, stop):
            prefetch(last, item_at(page_ids, row + ahead))
            page = item_at(page_ids, row)
            place = np.int64(item_at(last, page))
            if place == position - 1:  # the page of the access before
                put_at(places, row - start, _JUST_USED)
                continue
            put_at(places, row - start, place)
            holes[place >> 6] |= np.uint64(1) << np.uint64(place & 63)
            put_at(last, page, position)
            position += 1
        for number in range(stop - start, _BLOCK):
            places[number] = _JUST_USED
        for number in range(memories.size):
            misses = _count_before(places, _BLOCK, memories[number]["oldest"])
            if misses == 0:
                break
            _take_block(places, holes, memories[number], misses)
    next_position[0] = position


@inner
def _take_misses_in_order(faults: Any, count: Any, holes: Any, stored: Any, memory: Any) -> Any:
    """As _take_misses(), access by access: whether one is a miss may depend on those before."""
    places, in_pool, sizes, victims = faults
    oldest = memory["oldest"]
    for number in range(count):
        place = np.int64(places[number])
        if place >= oldest:
            holes[place >> 6] &= ~(np.uint64(1) << np.uint64(place & 63))
            stored[place] = sizes[number]
    marker = oldest
    misses = np.int64(0)
    for number in range(count):
        place = np.int64(places[number])
        if place >= oldest:
            holes[place >> 6] |= np.uint64(1) << np.uint64(place & 63)
            stored[place] = 0
        if place >= marker:
            continue
        victims[misses] = 0
        if memory["room"] > 0:
            memory["room"] -= 1
        else:
            victim = _next_page(holes, marker)
            victims[misses] = stored[victim]
            marker = victim + 1
        places[misses] = places[number]
        in_pool[misses] = in_pool[number]
        sizes[misses] = sizes[number]
        misses += 1
    memory["oldest"] = marker
    return misses


@inner
def _take_misses(faults: Any, count: Any, holes: Any, stored: Any, memory: Any) -> Any:
    """Keep the misses of this memory among those of the next smaller one; return their number.

    Write down the bytes of the page that each pushes out. What misses here misses in all smaller
    memories, and all pages touched in the block are holes with no bytes already.
    """
    places, in_pool, sizes, victims = faults
    oldest = memory["oldest"]
    misses = _count_before(places, count, oldest)
    room = min(memory["room"], misses)
    for number in range(room):
        put_at(victims, number, 0)
    marker = oldest
    if misses > room:
        word = oldest >> 6
        pages = ~item_at(holes, word) & (np.uint64(0xFFFF_FFFF_FFFF_FFFF) << np.uint64(oldest & 63))
        victim = oldest
        for number in range(room, misses):
            while pages == np.uint64(0):
                word += 1
                pages = ~item_at(holes, word)
            victim = (word << 6) + np.int64(popcount(~pages & (pages - np.uint64(1))))
            pages &= pages - np.uint64(1)
            put_at(victims, number, item_at(stored, victim))
        marker = victim + 1
    if _count_before(places, count, marker) > misses:
        misses = _take_misses_in_order(faults, count, holes, stored, memory)
    else:
        kept = np.int64(0)
        end = np.uint32(oldest)
        for number in range(count):
            place = item_at(places, number)
            put_at(places, kept, place)
            put_at(in_pool, kept, item_at(in_pool, number))
            put_at(sizes, kept, item_at(sizes, number))
            kept += np.int64(place < end)
        memory["oldest"] = marker
        memory["room"] -= room
    given_up = np.int64(0)
    zero_fills = np.int64(0)
    for number in range(misses):
        given_up += np.int64(item_at(victims, number) > 0)
        zero_fills += np.int64(item_at(in_pool, number) == np.uint32(_OF_ZEROS))
    memory["stored"] += given_up
    memory["zero_fills"] += zero_fills
    memory["misses"] += misses
    return misses


@inner
def _load_in_order(faults: Any, misses: Any, stored: Any, pool: Any) -> None:
    """Take the misses of a memory through a pool one by one: pages may leave it before their use."""
    _, in_pool, sizes, victims = faults
    first = pool["oldest"]
    for number in range(misses):
        place = np.int64(item_at(in_pool, number))
        if place >= first:
            put_at(stored, place, item_at(sizes, number))
    oldest = first
    excess = pool["bytes"] - pool["limit_bytes"]
    loads = np.int64(0)
    for number in range(misses):
        place = np.int64(item_at(in_pool, number))
        if place >= first:
            put_at(stored, place, 0)
        is_load = np.int64(place >= oldest)
        loads += is_load
        excess += np.int64(item_at(victims, number)) - is_load * np.int64(item_at(sizes, number))
        while excess > 0:
            excess -= np.int64(item_at(stored, oldest))
            oldest += 1
    pool["oldest"] = oldest
    pool["bytes"] = excess + pool["limit_bytes"]
    pool["loads"] += loads


@inline
def _write_back(stored: Any, oldest: Any, end: Any, excess: Any) -> Any:
    """Give up the oldest pages before `end` until they free that much; return where, and bytes."""
    freed = np.int64(0)
    while excess > 0 and oldest + _CHUNK <= end:
        here = np.uint32(0)
        for number in range(_CHUNK):
            here = np.uint32(here + np.uint32(item_at(stored, oldest + number)))
        if freed + np.int64(here) >= excess:
            break
        freed += np.int64(here)
        oldest += _CHUNK
    while freed < excess and oldest < end:
        freed += np.int64(item_at(stored, oldest))
        oldest += 1
    return oldest, freed


@inline
def _sum_up(faults: Any, misses: Any, pools: Any, first: Any, sums: Any) -> None:
    """Take the misses of a memory through the next _LANES pools, as if none wrote a page back.

    All sums stand in one array of 32 bits, and its size is not known to the compiler: so it takes
    the pools together in vectors, where it would write out 16 copies of the loop otherwise.
    """
    _, in_pool, sizes, victims = faults
    for lane in range(min(_LANES, pools.size - first)):
        put_at(sums, lane, pools[first + lane]["oldest"])
    for lane in range(_LANES):
        put_at(sums, _CHANGE + lane, _NO_CHANGE)
        put_at(sums, _MOST + lane, _NO_CHANGE)
        put_at(sums, _LOADS + lane, 0)
    lanes = sums.size // 4
    for number in range(misses):
        place = item_at(in_pool, number)
        size = np.uint32(item_at(sizes, number))
        victim = np.uint32(item_at(victims, number))
        for lane in range(lanes):
            is_load = np.uint32(place >= item_at(sums, lane))
            change = np.uint32(item_at(sums, _CHANGE + lane) + victim - is_load * size)
            put_at(sums, _CHANGE + lane, change)
            put_at(sums, _MOST + lane, max(item_at(sums, _MOST + lane), change))
            put_at(sums, _LOADS + lane, np.uint32(item_at(sums, _LOADS + lane) + is_load))


@inner
def _load(faults: Any, misses: Any, sums: Any, stored: Any, end: Any, pools: Any) -> None:
    """Take the misses of a memory, whose oldest page is now at `end`, through its pools."""
    in_pool = faults[1]
    for number in range(pools.size):
        lane = number % _LANES
        if lane == 0:
            _sum_up(faults, misses, pools, number, sums)
        pool = pools[number]
        most = np.int64(item_at(sums, _MOST + lane)) - _NO_CHANGE
        excess = pool["bytes"] + most - pool["limit_bytes"]
        oldest, freed = _write_back(stored, pool["oldest"], end, excess)
        loads = np.int64(item_at(sums, _LOADS + lane))
        if misses - _count_before(in_pool, misses, oldest) < loads:
            _load_in_order(faults, misses, stored, pool)
            continue
        change = np.int64(item_at(sums, _CHANGE + lane)) - _NO_CHANGE
        pool["oldest"] = oldest
        pool["bytes"] += change - freed
        pool["loads"] += loads


@kernel
def _touch_with_pools(
    page_ids: Any, line: Any, sizes: Any, memories: Any, pools: Any, block: Any
) -> None:
    """Take these accesses through every memory and pool.

    As _touch(), and sizes: of each page uint16 (pages,) and of each position uint16 (positions,),
    0 for holes and for pages that no pool takes; pools POOL (n, limits); block: of each access of a
    block that misses in the memory before (block,): its position uint32, the same if a pool may hold
    the page uint32, the bytes it takes there int32, and those of the page pushed out for it int32; and uint32 (4 * _LANES,), see _sum_up().
    """
    last, holes, next_position = line
    of_page, stored = sizes
    faults, sums = block
    places, in_pool, bytes_back, _ = faults
    position = next_position[0]
    for start in range(0, page_ids.size, places.size):
        stop = min(start + places.size, page_ids.size)
        ahead = min(_AHEAD_PAGE, page_ids.size - stop)
        count = np.int64(0)
        for row in range(start, stop):
            prefetch(last, item_at(page_ids, row + ahead))
            prefetch(of_page, item_at(page_ids, row + ahead))
            page = item_at(page_ids, row)
            place = np.int64(item_at(last, page))
            if place == position - 1:
                continue
            size = np.int64(item_at(of_page, page))
            used = np.int64(size != REFUSED) * place
            if size == ZERO_FILLED and place != _NEVER:
                used = np.int64(_OF_ZEROS)
            size = np.int64(size != REFUSED) * size
            put_at(places, count, place)
            put_at(in_pool, count, used)
            put_at(bytes_back, count, size)
            count += 1
            holes[place >> 6] |= np.uint64(1) << np.uint64(place & 63)
            put_at(stored, place, 0)
            put_at(stored, position, size)
            put_at(last, page, position)
            position += 1
        for number in range(memories.size):
            count = _take_misses(faults, count, holes, stored, memories[number])
            if count == 0:
                break
            end = memories[number]["oldest"]
            _load(faults, count, sums, stored, end, pools[number])
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
    first = _packed(holes, before_word, kept) - _FIRST
    if stored.size:
        for position in range(kept, next_position[0]):
            is_hole = (holes[position >> 6] >> np.uint64(position & 63)) & np.uint64(1)
            if is_hole == np.uint64(0):
                stored[_packed(holes, before_word, position) - first] = stored[position]
    for page in range(last.size):
        own = np.int64(last[page])
        if own >= kept:
            last[page] = _packed(holes, before_word, own) - first
        elif own >= _FIRST:
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
        self._memories["oldest"] = _FIRST
        self._pools = np.zeros((capacities_pages.size, limits.size), POOL)
        self._pools["limit_bytes"] = limits
        self._pools["oldest"] = _FIRST
        self._has_pools = bool(limits.size)
        self._of_page = np.empty(0, np.uint16) if stored_bytes is None else stored_bytes
        self._last = np.zeros(max(expected_pages, 1), np.uint32)
        self._next = np.full(1, _FIRST)
        self._places = np.empty(_BLOCK, np.uint32)
        block = min(max(int(capacities_pages[0]) // 4, _LEAST_BLOCK), _MOST_BLOCK)
        kinds = (np.uint32, np.uint32, np.int32, np.int32)
        faults = tuple(np.empty(block, kind) for kind in kinds)
        self._block = (faults, np.zeros(4 * _LANES, np.uint32))
        self._holes = np.zeros(_words_for(self._last.size), np.uint64)
        self._stored = np.empty(self._holes.size << 6 if self._has_pools else 0, np.uint16)

    @property
    def _end(self) -> int:
        return (self._holes.size - _EMPTY_WORDS) << 6

    def add(self, page_ids: PageIds) -> None:
        """Take these accesses; uint32, shape (rows,)."""
        if not page_ids.size:
            return
        self._make_room(int(page_ids.max()) + 1)
        start = 0
        while start < page_ids.size:
            room = self._end - int(self._next[0])
            if not room:
                self._squeeze()
                continue
            part = page_ids[start : start + room]
            line = (self._last, self._holes, self._next)
            if self._has_pools:
                sizes = (self._of_page, self._stored)
                _touch_with_pools(part, line, sizes, self._memories, self._pools, self._block)
            else:
                _touch(part, line, self._memories, self._places)
            start += part.size

    def _make_room(self, pages: int) -> None:
        if pages > self._last.size:
            if pages > _MOST_POSITIONS // 2:
                raise InputError("more than 2**30 distinct pages; split the trace, or --sample it")
            # In place, where the allocator can; what is new is zero: never used, and no hole.
            self._last.resize(1 << (pages - 1).bit_length(), refcheck=False)
        words = _words_for(self._last.size)
        if words > self._holes.size:
            self._holes.resize(words, refcheck=False)
            if self._has_pools:
                self._stored.resize(self._holes.size << 6, refcheck=False)

    def _squeeze(self) -> None:
        before_word = np.zeros(self._holes.size, np.uint32)
        np.cumsum(np.bitwise_count(self._holes[:-1]), out=before_word[1:])
        line = (self._last, self._holes, self._next)
        _squeeze(line, self._stored, before_word, self._memories, self._pools)
        self._holes.fill(0)

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
        # What was stored has come back, is still there, or was written back.
        left = self._memories["stored"][:, np.newaxis] - self._pools["loads"]
        for (memory, pool), oldest in np.ndenumerate(self._pools["oldest"]):
            held = self._stored[oldest : self._memories["oldest"][memory]]
            left[memory, pool] -= np.count_nonzero(held)
        return left


def _words_for(pages: int) -> int:
    """Return the words of hole bits, with those that stay empty before and behind the positions."""
    wanted = max(pages * _POSITIONS_PER_PAGE, _LEAST_POSITIONS)
    positions = min(1 << (wanted - 1).bit_length(), _MOST_POSITIONS)
    return int((_FIRST + positions) >> 6) + _EMPTY_WORDS

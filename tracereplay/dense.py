"""Dense uint32 page ids: the number of each distinct (address space, page), in order of first use.

A hash table finds the group of 16 neighbouring pages that a page belongs to, and the group's 16 ids
fill one cache line. Neighbours are used together, so both stay small: where pages lie densely the
table takes 1/16 of the memory of one that hashes pages. A few hundred rows are taken at a time:
all are hashed, which vector units do; then their groups are looked up, then their ids, both lines
asked for ahead (30 against 170 M rows/s, Zipf over 1 M pages).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tracereplay._jit import (
    apart,
    inline,
    inner,
    item_at,
    kernel,
    prefetch,
    put_at,
    wrapping_product,
)
from tracereplay.errors import InputError

SLOT = np.dtype(
    [("group", np.uint64), ("space", np.uint32), ("number_plus_1", np.uint32)], align=True
)
KNOWN = np.dtype([("pages", np.int64), ("groups", np.int64)])

_GROUP_SHIFT = 4
_GROUP_PAGES = 1 << _GROUP_SHIFT
_MOST_GROUPS = 1 << 28
_MOST_PAGES = 1 << 31
_ROWS = 512  # rows hashed, located and numbered in turn: their lines stay in the first-level cache
_AHEAD = 32

PageIds = npt.NDArray[np.uint32]


@inline
def _first_slot(table: Any, group: Any, space: Any) -> Any:
    mixed = group ^ (np.uint64(space) << np.uint64(40))
    mixed = wrapping_product(mixed ^ (mixed >> np.uint64(31)), np.uint64(0x9E3779B97F4A7C15))
    return (mixed >> np.uint64(20)) & np.uint64(table.size - 1)


@inline
def _holds(table: Any, slot: Any, group: Any, space: Any) -> Any:
    found = table[slot]
    return found["number_plus_1"] != 0 and found["group"] == group and found["space"] == space


@inner
def _slot_of(table: Any, group: Any, space: Any, slot: Any) -> Any:
    """Return the group's slot, or the empty one where it belongs, from its first slot on."""
    while table[slot]["number_plus_1"] != 0 and not _holds(table, slot, group, space):
        slot = (slot + np.uint64(1)) & np.uint64(table.size - 1)
    return slot


@apart
def _find_or_add(table: Any, group: Any, space: Any, slot: Any, known: Any, room: Any) -> Any:
    """Return the slot of a group that its first slot does not hold; the table's size if full."""
    slot = _slot_of(table, group, space, slot)
    if table[slot]["number_plus_1"] == 0:
        if known[0]["groups"] >= room:
            return np.uint64(table.size)
        known[0]["groups"] += 1
        table[slot]["group"] = group
        table[slot]["space"] = space
        table[slot]["number_plus_1"] = known[0]["groups"]
    return slot


@inner
def _hash(pages: Any, spaces: Any, table: Any, slots: Any) -> None:
    """Write the slot where the search for each row's group begins."""
    if spaces.size == 1:
        space = spaces[0]
        for row in range(pages.size):
            group = item_at(pages, row) >> np.uint64(_GROUP_SHIFT)
            put_at(slots, row, _first_slot(table, group, space))
    else:
        for row in range(pages.size):
            group = item_at(pages, row) >> np.uint64(_GROUP_SHIFT)
            put_at(slots, row, _first_slot(table, group, item_at(spaces, row)))


@inner
def _locate(
    pages: Any, spaces: Any, table: Any, ids: Any, known: Any, slots: Any, places: Any
) -> Any:
    """Write where the id of each row stands; return the rows done before table or ids were full."""
    room = min(table.size // 8 * 5, ids.size // _GROUP_PAGES)
    one_space = spaces.size == 1
    space = spaces[0]
    for row in range(_AHEAD):
        prefetch(table, np.uint64(item_at(slots, row)))
    for row in range(pages.size):
        prefetch(table, np.uint64(item_at(slots, row + _AHEAD)))
        if not one_space:
            space = item_at(spaces, row)
        page = item_at(pages, row)
        group = page >> np.uint64(_GROUP_SHIFT)
        slot = np.uint64(item_at(slots, row))
        if not _holds(table, slot, group, space):
            slot = _find_or_add(table, group, space, slot, known, room)
            if slot == np.uint64(table.size):
                return row
        first = (np.int64(table[slot]["number_plus_1"]) - 1) << _GROUP_SHIFT
        place = first + np.int64(page & np.uint64(_GROUP_PAGES - 1))
        put_at(places, row, place)
        prefetch(ids, place)
    return pages.size


@kernel
def _number(pages: Any, spaces: Any, table: Any, ids: Any, known: Any, page_ids: Any) -> Any:
    """Number rows until a group finds no room; return how many rows were numbered.

    pages uint64 (rows,), spaces uint32 (rows,) or (1,), table SLOT (2**k,), ids uint32 (groups x
    16,): id plus 1 of each page of a group, known KNOWN (1,), page_ids uint32 (rows,) is filled.
    """
    # What is asked for behind the last row is any slot.
    slots = np.zeros(_ROWS + _AHEAD, np.uint32)
    places = np.empty(_ROWS, np.uint32)
    known_pages = known[0]["pages"]
    start = 0
    done = 0
    while start < pages.size and done == start:
        stop = min(start + _ROWS, pages.size)
        part = spaces if spaces.size == 1 else spaces[start:stop]
        _hash(pages[start:stop], part, table, slots)
        located = _locate(pages[start:stop], part, table, ids, known, slots, places)
        for row in range(located):
            place = item_at(places, row)
            id_plus_1 = np.int64(item_at(ids, place))
            # Without a branch: which page is new cannot be predicted.
            is_new = id_plus_1 == 0
            known_pages += np.int64(is_new)
            id_plus_1 += known_pages if is_new else 0
            put_at(ids, place, id_plus_1)
            put_at(page_ids, start + row, id_plus_1 - 1)
        done = start + located
        start = stop
    known[0]["pages"] = known_pages
    return done


@kernel
def _find(pages: Any, spaces: Any, table: Any, ids: Any, page_ids: Any) -> None:
    """Write the id of each row's page, -1 where it has none; nothing is added."""
    for row in range(pages.size):
        group = pages[row] >> np.uint64(_GROUP_SHIFT)
        slot = _slot_of(table, group, spaces[row], _first_slot(table, group, spaces[row]))
        number = np.int64(table[slot]["number_plus_1"])
        page_ids[row] = -1
        if number:
            lane = np.int64(pages[row] & np.uint64(_GROUP_PAGES - 1))
            page_ids[row] = np.int64(ids[(number - 1) * _GROUP_PAGES + lane]) - 1


@kernel
def _move(old: Any, new: Any) -> None:
    for slot in range(old.size):
        if old[slot]["number_plus_1"] != 0:
            group, space = old[slot]["group"], old[slot]["space"]
            new[_slot_of(new, group, space, _first_slot(new, group, space))] = old[slot]


@kernel
def _keys(table: Any, ids: Any, pages: Any, spaces: Any) -> None:
    for slot in range(table.size):
        if table[slot]["number_plus_1"] == 0:
            continue
        first = (np.int64(table[slot]["number_plus_1"]) - 1) * _GROUP_PAGES
        for lane in range(_GROUP_PAGES):
            if ids[first + lane] != 0:
                page_id = np.int64(ids[first + lane]) - 1
                pages[page_id] = (table[slot]["group"] << np.uint64(_GROUP_SHIFT)) | np.uint64(lane)
                spaces[page_id] = table[slot]["space"]


class DenseIds:
    """Numbers pages as they come; the same page always gets the same id.

    Memory: per group of 16 neighbouring pages that is touched, 64 bytes of ids and 16 of table,
    each with up to as much again as room to grow.
    """

    def __init__(self, expected_pages: int = 0) -> None:
        groups = max(1 << 10, expected_pages // _GROUP_PAGES)
        size = 1 << 12
        while size // 8 * 5 < groups:
            size *= 2
        self._table = np.zeros(size, SLOT)
        self._ids = np.zeros(groups * _GROUP_PAGES, np.uint32)
        self._known = np.zeros(1, KNOWN)

    def __len__(self) -> int:
        return int(self._known[0]["pages"])

    def number(
        self, pages: npt.NDArray[np.uint64], spaces: npt.NDArray[np.uint32] | None = None
    ) -> PageIds:
        """Return the id of each row; uint32, shape (rows,).

        Parameters
        ----------
        pages : uint64, shape (rows,)
        spaces : uint32, shape (rows,), number of the address space; None where there is one

        Raises
        ------
        InputError
            More than 2**31 distinct pages (8 TiB of 4 KiB pages), or 2**28 distinct groups of 16.
        """
        page_ids = np.empty(pages.size, np.uint32)
        # Read-only views of both: numba would compile the kernel again for writable arrays.
        pages = pages.view()
        spaces = np.zeros(1, np.uint32) if spaces is None else spaces.view()
        pages.flags.writeable = spaces.flags.writeable = False
        done = 0
        while done < pages.size:
            part = spaces if spaces.size == 1 else spaces[done:]
            done += _number(
                pages[done:], part, self._table, self._ids, self._known, page_ids[done:]
            )
            if done < pages.size:
                self._grow()
        if len(self) > _MOST_PAGES:
            raise InputError("more than 2**31 distinct pages; split the trace")
        return page_ids

    def find(
        self, pages: npt.NDArray[np.uint64], spaces: npt.NDArray[np.uint32]
    ) -> npt.NDArray[np.int64]:
        """Return the id of each row, -1 where it has none yet; int64, shape (rows,)."""
        page_ids = np.empty(pages.size, np.int64)
        _find(pages, spaces, self._table, self._ids, page_ids)
        return page_ids

    def _grow(self) -> None:
        groups = self._ids.size // _GROUP_PAGES
        if self._known[0]["groups"] == groups:
            if groups >= _MOST_GROUPS:
                raise InputError("more than 2**28 distinct regions of 16 pages; split the trace")
            # In place, where the allocator can: no second copy stands in memory.
            self._ids.resize(min(groups * 2, _MOST_GROUPS) * _GROUP_PAGES, refcheck=False)
        else:
            larger = np.zeros(self._table.size * 2, SLOT)
            _move(self._table, larger)
            self._table = larger

    def keys(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
        """Return page number and space of each id; uint64 and uint32, shape (ids,)."""
        pages = np.empty(len(self), np.uint64)
        spaces = np.empty(len(self), np.uint32)
        _keys(self._table, self._ids, pages, spaces)
        return pages, spaces

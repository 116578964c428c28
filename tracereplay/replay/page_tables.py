"""Where pages stand in page tables: who is beside a page by address, and which table maps it.

A table of 512 entries is kept as up to 16 leaves of 32 entries, so that a process that touches few
pages here and there costs little. Layout only: what is young or mapped stands in the page's state.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tracereplay.dense import DenseIds
from tracereplay.replay.state import FIRST_PAGE

LEAF_SHIFT = 5
TABLE_SHIFT = 9  # log2 of PTRS_PER_PTE on x86-64
LEAVES_SHIFT = TABLE_SHIFT - LEAF_SHIFT

# Parts of the look-up of a reclaim model that walks page tables, in this order: the four arrays of
# PageTables; uint8, shape (tables,), bits that the model keeps of each; uint32, pages it marks
# (state.ACTIVATING_AT).
PLACES, ENTRIES, LEAF_PLACES, TABLE_LEAVES, TABLE_FLAGS, MARKED = range(6)

UInt32s = npt.NDArray[np.uint32]


def pages_beside(
    pages: npt.NDArray[np.uint64], spaces: UInt32s | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return ids of pages, of those one address above, and whether these begin a page table.

    Parameters
    ----------
    pages : uint64, virtual page number of each id
    spaces : uint32, number of its address space; None where there is one
    """
    order = np.argsort(pages) if spaces is None else np.lexsort((pages, spaces))
    ascending = pages[order]
    adjacent = ascending[1:] == ascending[:-1] + np.uint64(1)
    if spaces is not None:
        adjacent &= spaces[order][1:] == spaces[order][:-1]
    return order[:-1][adjacent], order[1:][adjacent], begins_table(ascending[1:][adjacent])


def begins_table(pages: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Return which pages are the first of a page table; bool, shape (pages,)."""
    first: npt.NDArray[np.bool_] = pages % np.uint64(1 << TABLE_SHIFT) == 0
    return first


class PageTables:
    """Numbers leaves and tables as pages become known; shared by every scenario of a comparison."""

    def __init__(self, pages: int) -> None:
        self._leaves = DenseIds()
        self._tables = DenseIds()
        self._filled = FIRST_PAGE
        # uint32, shape (pages,): leaf x 32 + entry of a page; leaf 0 is nobody's
        self.places = np.zeros(FIRST_PAGE + pages + 1, np.uint32)
        # uint32, shape (leaves x 32,): page of an entry, 0 where none is known
        self.entries = np.zeros(1 << LEAF_SHIFT, np.uint32)
        # uint32, shape (leaves,): table x 16 + which of its leaves
        self.leaf_places = np.zeros(1, np.uint32)
        # uint32, shape (tables x 16,): leaf, 0 where the table has none there
        self.table_leaves = np.zeros(0, np.uint32)

    @property
    def tables(self) -> int:
        """How many page tables there are."""
        return len(self._tables)

    def add(
        self, pages: npt.NDArray[np.uint64], spaces: npt.NDArray[np.uint32] | None = None
    ) -> None:
        """Make the next page ids known, in order.

        Parameters
        ----------
        pages : uint64, virtual page numbers
        spaces : uint32, number of the address space; None where there is one
        """
        numbers = np.arange(self._filled, self._filled + pages.size, dtype=np.uint32)
        self._filled += pages.size
        leaves = self._leaves.number(pages >> np.uint64(LEAF_SHIFT), spaces).astype(np.int64) + 1
        tables = self._tables.number(pages >> np.uint64(TABLE_SHIFT), spaces).astype(np.int64)
        self.entries = _grown(self.entries, (len(self._leaves) + 1) << LEAF_SHIFT)
        self.leaf_places = _grown(self.leaf_places, len(self._leaves) + 1)
        self.table_leaves = _grown(self.table_leaves, len(self._tables) << LEAVES_SHIFT)
        entry = (pages & np.uint64((1 << LEAF_SHIFT) - 1)).astype(np.int64)
        which = (pages >> np.uint64(LEAF_SHIFT)).astype(np.int64) & ((1 << LEAVES_SHIFT) - 1)
        self.places[numbers] = (leaves << LEAF_SHIFT) + entry
        self.entries[(leaves << LEAF_SHIFT) + entry] = numbers
        self.leaf_places[leaves] = (tables << LEAVES_SHIFT) + which
        self.table_leaves[(tables << LEAVES_SHIFT) + which] = leaves


def _grown(array: UInt32s, size: int) -> UInt32s:
    """Return the array with room for `size` entries; half as much again, so that it is rarely asked."""
    if size <= array.size:
        return array
    larger = np.zeros(max(size, array.size * 3 // 2), np.uint32)
    larger[: array.size] = array
    return larger

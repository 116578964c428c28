"""Lists of the multi-generational LRU: which generation a page is in, and how it gets there.

Generations are numbered from `min_seq`, the oldest, to `max_seq`, the youngest; there are 2 to 4 of
them, and the list of one is the head GENERATIONS + number modulo 4. A page table walk promotes a page
by its number alone and leaves it on its old list, so the number stands with the page, beside its
content in `size`. A list head keeps how many pages have its number in `shadow`, and in `slot` the
nonresident age at which `min_seq` came to it.

Source: include/linux/mm_inline.h (lru_gen_add_folio, lru_gen_del_folio, lru_gen_folio_seq,
lru_gen_update_size) as of v6.1, v6.12 and v6.18.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracereplay._jit import inner
from tracereplay.replay.state import (
    GENERATION_MASK,
    GENERATION_SHIFT,
    GENERATIONS,
    MGLRU_6_12,
    MGLRU_6_14,
    MGLRU_7_2,
    OFF_LIST,
    PG_ACTIVE,
    PG_DIRTY,
    PG_RECLAIM,
    PG_REFERENCED,
    PG_WORKINGSET,
    PG_WRITEBACK,
    SWAPCACHE,
    clear_flags,
    has,
    link_head,
    link_tail,
    set_flags,
    unlink,
)

MIN_NR_GENS = 2
MAX_NR_GENS = 4


@inner
def head_of(seq: Any) -> Any:
    """Return the list head of a generation."""
    return GENERATIONS + (seq & (MAX_NR_GENS - 1))


@inner
def size_of(pages: Any, seq: Any) -> Any:
    """Return how many pages are in a generation, whatever list they stand on."""
    return np.int64(pages[head_of(seq)]["members"])


@inner
def head_named(pages: Any, page: Any) -> Any:
    """Return the list head of the generation a page is in."""
    return GENERATIONS + ((np.int64(pages[page]["size"]) >> GENERATION_SHIFT) & (MAX_NR_GENS - 1))


@inner
def note_sizes(m: Any, pages: Any) -> None:
    """Count the two youngest generations as active, the others as inactive (lru_gen_is_active())."""
    active = size_of(pages, m["max_seq"]) + size_of(pages, m["max_seq"] - 1)
    older = size_of(pages, m["max_seq"] - 2) + size_of(pages, m["max_seq"] - 3)
    m["active_pages"] = active
    m["inactive_pages"] = older


@inner
def put_in_generation(pages: Any, page: Any, head: Any) -> None:
    """Give a page that is in no generation the number of one."""
    number = np.int64(head) - GENERATIONS
    content = np.int64(pages[page]["size"]) & ~GENERATION_MASK
    pages[page]["size"] = content | (number << GENERATION_SHIFT)
    pages[head]["members"] += np.uint32(1)


@inner
def change_generation(pages: Any, page: Any, head: Any) -> None:
    """Give a page another number, on whatever list it stands."""
    pages[head_named(pages, page)]["members"] -= np.uint32(1)
    put_in_generation(pages, page, head)


@inner
def _seq_for(m: Any, pages: Any, page: Any, reclaiming: Any) -> Any:
    """Return the generation a page joins; lru_gen_folio_seq(), part of lru_gen_add_folio() before.

    reclaiming : it was written for reclaim and should leave next (folio_rotate_reclaimable())
    """
    youngest, oldest = m["max_seq"], m["min_seq"]
    fresh = not has(pages, page, SWAPCACHE)
    writing = has(pages, page, PG_RECLAIM) and has(pages, page, PG_DIRTY | PG_WRITEBACK)
    if m["mglru_rules"] >= MGLRU_6_14:
        workingset = 1 if has(pages, page, PG_WORKINGSET) else 0
        if has(pages, page, PG_ACTIVE):
            age = MIN_NR_GENS - workingset
        elif reclaiming:
            age = MAX_NR_GENS
        elif fresh or writing:
            age = MIN_NR_GENS
        else:
            if m["mglru_rules"] >= MGLRU_7_2 and has(pages, page, PG_REFERENCED):
                workingset = 1
            age = MAX_NR_GENS - workingset
        return max(youngest - age + 1, oldest)
    if has(pages, page, PG_ACTIVE):
        return youngest
    if fresh or writing:
        return youngest - 1
    if reclaiming or oldest + MIN_NR_GENS >= youngest:
        return oldest
    return oldest + 1


@inner
def would_join_oldest(m: Any, pages: Any, page: Any) -> Any:
    """Tell whether a page would be put into the oldest generation."""
    return _seq_for(m, pages, page, False) == m["min_seq"]


@inner
def join_generation(m: Any, pages: Any, page: Any, reclaiming: Any) -> None:
    """Put a page on the list of the generation it belongs to; lru_gen_add_folio()."""
    head = head_of(_seq_for(m, pages, page, reclaiming))
    if has(pages, page, PG_ACTIVE) and m["mglru_rules"] == MGLRU_6_12:
        clear_flags(pages, page, PG_REFERENCED)
    clear_flags(pages, page, PG_ACTIVE | OFF_LIST)
    put_in_generation(pages, page, head)
    if reclaiming:
        link_tail(pages, head, page)
    else:
        link_head(pages, head, page)


@inner
def leave_generation(pages: Any, page: Any) -> None:
    """Take a page off its list and out of its generation; lru_gen_del_folio()."""
    pages[head_named(pages, page)]["members"] -= np.uint32(1)
    pages[page]["size"] = np.int64(pages[page]["size"]) & ~GENERATION_MASK
    unlink(pages, page)
    set_flags(pages, page, OFF_LIST)


@inner
def rotate_generation(m: Any, pages: Any, page: Any) -> None:
    """Let a page that the device has now leave next; mm/swap.c:lru_move_tail()."""
    leave_generation(pages, page)
    join_generation(m, pages, page, True)
    note_sizes(m, pages)

"""Belady's bound: the page used farthest ahead leaves. No kernel can know; none can be better.

An indexed binary heap orders resident pages by their next use. Place k of the heap is the `next`
field of page record k, and `prev` of a page is its place, so nothing grows with the trace. A page
that a policy keeps is offered again only behind all others, the one kept longest ago first.
Source: L. A. Belady, A study of replacement algorithms, IBM Systems Journal 5(2), 1966.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracereplay._jit import inner, kernel
from tracereplay.reclaim.textbook import build_textbook, count_refault, no_batch
from tracereplay.replay.eviction import build_eviction
from tracereplay.replay.loop import build_loop


@inner
def _place(pages: Any, where: Any, page: Any) -> None:
    pages[where]["next"] = page
    pages[page]["prev"] = where


@inner
def _sift_up(pages: Any, keys: Any, where: Any) -> None:
    page = np.int64(pages[where]["next"])
    key = keys[page]
    while where > 0:
        above = (where - 1) // 2
        other = np.int64(pages[above]["next"])
        if keys[other] >= key:
            break
        _place(pages, where, other)
        where = above
    _place(pages, where, page)


@inner
def _sift_down(pages: Any, keys: Any, where: Any, size: Any) -> None:
    page = np.int64(pages[where]["next"])
    key = keys[page]
    while True:
        below = 2 * where + 1
        if below >= size:
            break
        other = np.int64(pages[below]["next"])
        if below + 1 < size:
            right = np.int64(pages[below + 1]["next"])
            if keys[right] > keys[other]:
                below += 1
                other = right
        if keys[other] <= key:
            break
        _place(pages, where, other)
        where = below
    _place(pages, where, page)


@inner
def _on_hit(pages: Any, page: Any, ahead: Any, row: Any) -> None:
    """Note the next use of a touched page: it only moves farther ahead, so it only moves up."""
    next_use, keys = ahead
    keys[page] = next_use[row]
    _sift_up(pages, keys, np.int64(pages[page]["prev"]))


@inner
def _add(m: Any, pages: Any, page: Any) -> None:
    """Append a page at the last place; the touch that follows moves it where it belongs."""
    _place(pages, m["heap_size"], page)
    m["heap_size"] += 1
    m["inactive_pages"] += 1


@inner
def _take(m: Any, pages: Any, keys: Any) -> Any:
    size = m["heap_size"]
    if size == 0:
        return np.int64(0)
    page = np.int64(pages[0]["next"])
    last = np.int64(pages[size - 1]["next"])
    m["heap_size"] = size - 1
    m["inactive_pages"] -= 1
    if size > 1:
        _place(pages, np.int64(0), last)
        _sift_down(pages, keys, np.int64(0), size - 1)
    keys[page] = -1 - m["reclaim_scanned"]
    return page


_evict, _run_worker, _shrink_slab = build_eviction(count_refault, _add)
_make_room = build_textbook(_evict, _shrink_slab, _take, _add)
_replay_accesses = build_loop(_on_hit, _make_room, count_refault, _add, no_batch, _run_worker)


@kernel
def replay_opt(
    batch: Any,
    m: Any,
    state: Any,
    pages: Any,
    pool: Any,
    classes: Any,
    writes: Any,
    slots: Any,
    out: Any,
) -> Any:
    """Replay a batch with the bound; `batch` carries next uses. See replay.loop.build_loop()."""
    return _replay_accesses(batch, m[0], state, pages, pool, classes, writes, slots, out)

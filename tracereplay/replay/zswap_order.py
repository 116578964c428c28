"""Two orders by time: entries of zswap, and pages that a policy kept in memory.

Both stand in one array of page numbers that is only ever appended to; a page knows its place in it.
A page that leaves forgets its place, and what it left behind is passed over later: most leave from
the middle, and two neighbours' records would have to be fetched for each. Nobody is in both orders.
Where the array is full, what is left moves to its front.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracereplay._jit import apart, inner, prefetch
from tracereplay.replay.state import KEPT_IDLE, has

_AHEAD = 24


@apart
def _move_to_front(m: Any, pages: Any, order: Any) -> None:
    to = np.int64(1)
    end = m["order_end"]
    for at in range(min(m["fifo_at"], m["kept_at"]), end):
        prefetch(pages, np.int64(order[min(at + _AHEAD, end - 1)]))
        # No branch: half are gone, and a wrong guess waits for memory.
        page = np.int64(order[at])
        place = np.int64(pages[page]["place"])
        stays = 1 if place == at else 0
        order[to] = page
        pages[page]["place"] = to if stays else place
        to += stays
    m["fifo_at"] = 1
    m["kept_at"] = 1
    m["order_end"] = to


@inner
def join_order(m: Any, pages: Any, order: Any, page: Any) -> None:
    """Put a page at the young end of the order; it may stand elsewhere in it."""
    if m["order_end"] >= order.size:
        _move_to_front(m, pages, order)
    at = m["order_end"]
    order[at] = page
    pages[page]["place"] = at
    m["order_end"] = at + 1


@inner
def leave_order(pages: Any, page: Any) -> None:
    """Take a page out of the order."""
    pages[page]["place"] = 0


@inner
def oldest_entry(m: Any, pages: Any, order: Any) -> Any:
    """Return the oldest entry of zswap; there is one."""
    at = m["fifo_at"]
    page = np.int64(order[at])
    while pages[page]["place"] != at or has(pages, page, KEPT_IDLE):
        at += 1
        page = np.int64(order[at])
    m["fifo_at"] = at
    return page


@inner
def oldest_kept(m: Any, pages: Any, order: Any) -> Any:
    """Return the page kept longest ago; there is one."""
    at = m["kept_at"]
    page = np.int64(order[at])
    while pages[page]["place"] != at or not has(pages, page, KEPT_IDLE):
        at += 1
        page = np.int64(order[at])
    m["kept_at"] = at
    return page

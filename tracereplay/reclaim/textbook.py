"""What textbook models share: making room for one page at a time, and a list from young to old."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracereplay._jit import inner
from tracereplay.reclaim.charging import DEF_PRIORITY, note_reclaim
from tracereplay.replay.charge import charged_bytes
from tracereplay.replay.eviction import KEEP_ACTIVE, OFF_LRU, forget_page
from tracereplay.replay.state import (
    INACTIVE,
    PG_ACTIVE,
    PRESSED,
    clear_flags,
    link_head,
    unlink,
)
from tracereplay.units import PAGE_BYTES


@inner
def no_batch(m: Any, pages: Any, lookup: Any) -> None:
    """Do nothing: a textbook model has no per-CPU batch to drain."""


@inner
def count_refault(m: Any, pages: Any, page: Any) -> None:
    """Count a page that was evicted and is back; where it belongs does not depend on that."""
    m["workingset_refault_anon"] += 1


@inner
def add_youngest(m: Any, pages: Any, page: Any) -> None:
    """Put a page at the young end of the list."""
    link_head(pages, INACTIVE, page)
    m["inactive_pages"] += 1


@inner
def take_oldest(m: Any, pages: Any, keys: Any) -> Any:
    """Take the page at the old end of the list; 0 where there is none."""
    page = np.int64(pages[INACTIVE]["prev"])
    if page == INACTIVE:
        return np.int64(0)
    unlink(pages, page)
    m["inactive_pages"] -= 1
    return page


def build_textbook(evict: Any, shrink_slab: Any, take: Any, add: Any) -> Any:
    """Return `make_room` for a model that orders pages by `take` and `add`.

    take(m, pages, keys) removes and returns the victim (0 where there is none); add(m, pages, page),
    the loop's hook, puts back one that a policy keeps. A fault finds no room when every resident page
    was offered once and stayed: that is the OOM kill.
    """

    @inner
    def make_room(
        m: Any,
        state: Any,
        pages: Any,
        pool: Any,
        classes: Any,
        writes: Any,
        slots: Any,
        beside: Any,
        page: Any,
    ) -> Any:
        if charged_bytes(m) + PAGE_BYTES <= m["limit_bytes"]:
            return True
        keys = beside[1]
        m["reclaim_runs"] += 1
        before = charged_bytes(m)
        pool_before = m["pool_charged_bytes"]
        freed = np.int64(0)
        offers = m["resident_pages"]
        found = False
        while offers > 0:
            offers -= 1
            victim = take(m, pages, keys)
            if victim == 0:
                break
            m["reclaim_scanned"] += 1
            m["ev_scanned"] += 1
            m["clock_ns"] += m["scan_ns"]
            fate = evict(m, state, pages, pool, classes, writes, slots, victim)
            if fate == KEEP_ACTIVE:
                m["pgactivate"] += 1
                clear_flags(pages, victim, PG_ACTIVE)
                add(m, pages, victim)
            elif fate != OFF_LRU:
                forget_page(m, state, pages, victim)
                freed += 1
            m["decided"] |= PRESSED
            if m["shrinker"]:
                shrink_slab(m, state, pages, pool, classes, writes, slots, DEF_PRIORITY)
            if charged_bytes(m) + PAGE_BYTES <= m["limit_bytes"]:
                found = True
                break
        note_reclaim(m, freed, before, pool_before)
        return found

    return make_room

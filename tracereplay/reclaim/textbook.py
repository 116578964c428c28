"""What exact LRU and Belady's bound share: making room for one page at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracereplay._jit import inner
from tracereplay.reclaim.charging import note_reclaim
from tracereplay.replay.charge import charged_bytes
from tracereplay.replay.eviction import ACTIVATE, OFF_LRU, forget_page
from tracereplay.replay.state import PG_ACTIVE, PRESSED, clear_flags
from tracereplay.units import PAGE_BYTES


@inner
def no_batch(m: Any, pages: Any, lookup: Any) -> None:
    """Do nothing: a textbook model has no per-CPU batch to drain."""


def build_textbook(evict: Any, shrink_slab: Any, take: Any, put_back: Any) -> Any:
    """Return `make_room` for a model that orders pages by `take` and `put_back`.

    take(m, pages, keys) removes and returns the victim (0 where there is none); put_back(m, pages, page)
    returns one that a policy keeps. A fault finds no room when every resident page was offered
    once and stayed: that is the OOM kill.
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
            if fate == ACTIVATE:
                m["pgactivate"] += 1
                clear_flags(pages, victim, PG_ACTIVE)
                put_back(m, pages, victim)
            elif fate != OFF_LRU:
                forget_page(m, state, pages, victim)
                freed += 1
            m["decided"] |= PRESSED
            if m["shrinker"]:
                shrink_slab(m, state, pages, pool, classes, writes, slots, 12)
            if charged_bytes(m) + PAGE_BYTES <= m["limit_bytes"]:
                found = True
                break
        note_reclaim(m, freed, before, pool_before)
        return found

    return make_room

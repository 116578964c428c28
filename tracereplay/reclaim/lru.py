"""Exact LRU: the textbook model. Capacity is the limit in whole pages; one page leaves per fault.

No kernel overheads, no batches; what the pool is charged still follows the cgroup version.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracereplay._jit import inner, kernel
from tracereplay.reclaim.textbook import build_textbook, no_batch
from tracereplay.replay.eviction import build_eviction
from tracereplay.replay.loop import build_loop
from tracereplay.replay.state import INACTIVE, link_head, unlink


@inner
def _on_hit(pages: Any, page: Any, ahead: Any, row: Any) -> None:
    """Move the page to the young end."""
    if pages[INACTIVE]["next"] != page:
        unlink(pages, page)
        link_head(pages, INACTIVE, page)


@inner
def _add(m: Any, pages: Any, page: Any) -> None:
    link_head(pages, INACTIVE, page)
    m["inactive_pages"] += 1


@inner
def _refault(m: Any, pages: Any, page: Any) -> None:
    m["workingset_refault_anon"] += 1


@inner
def _take(m: Any, pages: Any, keys: Any) -> Any:
    """Take the page whose last touch is oldest; 0 where there is none."""
    page = np.int64(pages[INACTIVE]["prev"])
    if page == INACTIVE:
        return np.int64(0)
    unlink(pages, page)
    m["inactive_pages"] -= 1
    return page


@inner
def _put_back(m: Any, pages: Any, page: Any) -> None:
    """Put a page that a policy keeps at the young end."""
    _add(m, pages, page)


_evict, _run_worker, _shrink_slab = build_eviction(_refault, _add)
_make_room = build_textbook(_evict, _shrink_slab, _take, _put_back)
_replay_accesses = build_loop(_on_hit, _make_room, _refault, _add, no_batch, _run_worker)


@kernel
def replay_lru(
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
    """Replay a batch with exact LRU; see replay.loop.build_loop()."""
    return _replay_accesses(batch, m[0], state, pages, pool, classes, writes, slots, out)

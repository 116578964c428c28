"""Exact LRU: the textbook model. Capacity is the limit in whole pages; one page leaves per fault.

No kernel overheads, no batches; what the pool is charged still follows the cgroup version.
"""

from __future__ import annotations

from typing import Any

from tracereplay._jit import inner, kernel
from tracereplay.reclaim.textbook import (
    add_youngest,
    build_textbook,
    count_refault,
    no_batch,
    take_oldest,
)
from tracereplay.replay.eviction import build_eviction
from tracereplay.replay.loop import build_loop
from tracereplay.replay.state import INACTIVE, link_head, unlink


@inner
def _on_hit(pages: Any, page: Any, ahead: Any, row: Any) -> None:
    """Move the page to the young end."""
    if pages[INACTIVE]["next"] != page:
        unlink(pages, page)
        link_head(pages, INACTIVE, page)


_evict, _run_worker, _shrink_slab = build_eviction(count_refault, add_youngest)
_make_room = build_textbook(_evict, _shrink_slab, take_oldest, add_youngest)
_replay_accesses = build_loop(
    _on_hit, _make_room, count_refault, add_youngest, no_batch, _run_worker
)


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

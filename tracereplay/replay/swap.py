"""The swap device: when a write completes, what is read with a page."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracereplay._jit import apart, copied, inner
from tracereplay.replay.generations import rotate_generation
from tracereplay.replay.state import (
    INACTIVE,
    OFF_LIST,
    PG_ACTIVE,
    PG_RECLAIM,
    PG_WRITEBACK,
    SLOT_MET,
    clear_flags,
    has,
    link_tail,
    unlink,
)

TABLE_ENDS = np.int64(1 << 31)  # in a neighbour's number: readahead does not look beyond
PLUG_REQUESTS = 32  # BLK_MAX_REQUEST_COUNT
PLUG_FLUSH_PAGES = 32  # BLK_PLUG_FLUSH_SIZE
REQUEST_PAGES = 254  # max_segments of a virtio disk; others have 127 and more
PLUG_ROOM = PLUG_REQUESTS * REQUEST_PAGES


@inner
def _issue_write(m: Any, pages: Any, writes: Any, page: Any, at_once: Any, joins: Any) -> None:
    """Hand a write to the device; a full queue makes the submitter wait for the oldest.

    at_once : not by way of kblockd's worker (`dispatch_wait_ns`)
    joins : it is in one request with the write before it
    """
    if m["io_count"] >= m["device_depth"]:
        m["waits"] += 1
        m["ev_waits"] += 1
        dispatch(m, writes)
        oldest = writes[m["io_head"]]["done_ns"]
        m["clock_ns"] = max(m["clock_ns"], oldest)
        begin_slice(m)
        complete_writes(m, pages, writes)
    start = max(m["io_last_ns"], m["clock_ns"])
    if m["dispatch_wait_ns"] > 0 and not at_once:
        if m["clock_ns"] >= m["dispatched_ns"]:
            m["io_queued"] = 0
            m["dispatched_ns"] = max(m["clock_ns"], m["dispatched_ns"] + m["dispatch_wait_ns"])
        joins = joins or m["io_queued"] > 0  # the scheduler merges what waits there
        m["io_queued"] += 1
        start = max(start, m["dispatched_ns"])
    done = start + (m["device_write_page_ns"] if joins else m["device_write_ns"])
    m["io_last_ns"] = done
    where = (m["io_head"] + m["io_count"]) % m["device_depth"]
    writes[where]["page"] = page
    writes[where]["done_ns"] = done
    writes[where]["joins"] = joins
    m["io_count"] += 1


@inner
def dispatch(m: Any, writes: Any) -> None:
    """Hand the device what waits in the I/O scheduler; block/blk-mq.c:blk_mq_run_hw_queue()."""
    if m["io_queued"] > 0:
        _dispatch(m, writes)


@apart
def _dispatch(m: Any, writes: Any) -> None:
    if m["clock_ns"] < m["dispatched_ns"]:
        done = m["clock_ns"]
        going = m["io_count"] - min(m["io_queued"], m["io_count"])
        if going > 0:
            done = max(done, writes[(m["io_head"] + going - 1) % m["device_depth"]]["done_ns"])
        for nth in range(going, m["io_count"]):
            where = (m["io_head"] + nth) % m["device_depth"]
            done += m["device_write_page_ns"] if writes[where]["joins"] else m["device_write_ns"]
            writes[where]["done_ns"] = done
        m["io_last_ns"] = done
    m["io_queued"] = 0


@inner
def begin_slice(m: Any) -> None:
    """Let the faulting thread run anew, after a sleep: kblockd's worker has had the CPU meanwhile."""
    m["dispatched_ns"] = m["clock_ns"]


@inner
def start_plug(m: Any) -> Any:
    """Hold the next writes back, and let them be merged; False where a plug does already.

    block/blk-core.c:blk_start_plug_nr_ios().
    """
    if m["plugged"]:
        return False
    m["plugged"] = 1
    m["request_start"] = 0
    m["request_end"] = 0
    return True


@inner
def finish_plug(m: Any, pages: Any, writes: Any) -> None:
    """Hand over what was held back, and let each further write be a request of its own.

    block/blk-core.c:blk_finish_plug().
    """
    m["plugged"] = 0
    issue_plugged(m, pages, writes)
    m["request_start"] = -1
    m["request_end"] = -1


@inner
def count_request(m: Any, pages: Any, page: Any) -> None:
    """Count the request a write begins; none where its slot is beside those of the plug's last one.

    block/blk-merge.c:blk_attempt_plug_merge(). The scheduler may merge more, which is not modelled.
    """
    slot = np.int64(pages[page]["slot"])
    has_room = m["request_end"] - m["request_start"] < REQUEST_PAGES
    if slot == m["request_end"] and has_room:
        m["request_end"] = slot + 1
    elif slot + 1 == m["request_start"] and has_room:
        m["request_start"] = slot
    else:
        m["write_requests"] += 1
        m["ev_requests"] += 1
        m["clock_ns"] += m["request_ns"]
        if m["request_end"] >= 0:
            m["request_start"] = slot
            m["request_end"] = slot + 1


@inner
def submit_write(m: Any, pages: Any, writes: Any, page: Any) -> None:
    """Submit a device write: at once, or held back until reclaim is done with the lists.

    mm/vmscan.c:shrink_lruvec() plugs the queue: what a scan writes does not reach the device, and so
    cannot be freed, before the scan is over, or a further request comes to 32, or to a large one
    (block/blk-mq.c:blk_add_rq_to_plug()). Those writes stand in `writes` behind the queue itself. A
    read of neighbours plugs it first (mm/swap_state.c:swap_cluster_readahead(),
    swap_vma_readahead()): then all that its reclaim writes waits for its end, the shrinker's writes
    with it.

    What no plug holds goes by the I/O scheduler and kblockd's worker
    (block/blk-mq.c:blk_mq_submit_bio()), except in 6.12 and 6.18, whose __submit_bio() has a plug of
    its own. With one CPU that worker waits until the one that runs has had its slice
    (`dispatch_wait_ns`), or sleeps, or ends a plug.

    Where clusters that are partly used are filled first (6.13) and slots are only counted, each write is
    taken as a request there: hardly two holes lie beside each other.
    """
    requests = m["write_requests"]
    count_request(m, pages, page)
    if not m["plugged"]:
        _issue_write(m, pages, writes, page, m["in_background"], False)
        return
    in_holes = m["slot_clusters"] and m["slot_room"] == 0
    # What the plug holds is counted apart: a page that mixed-lru writes begins a request, and is gone.
    begins = in_holes or m["write_requests"] > requests or m["plug_requests"] == 0
    if begins:
        looked_at = m["plug_newest"] if m["plug_by_newest"] else m["plug_oldest"]
        is_large = m["plug_requests"] > 0 and looked_at >= PLUG_FLUSH_PAGES
        if is_large or m["plug_requests"] >= PLUG_REQUESTS:
            start, end = m["request_start"], m["request_end"]
            issue_plugged(m, pages, writes)
            m["request_start"] = start
            m["request_end"] = end
        m["plug_requests"] += 1
        m["plug_newest"] = 0
    m["plug_newest"] += 1
    if m["plug_requests"] == 1:
        m["plug_oldest"] = m["plug_newest"]
    writes[m["device_depth"] + m["plugged_writes"]]["page"] = page
    writes[m["device_depth"] + m["plugged_writes"]]["joins"] = not begins
    m["plugged_writes"] += 1


@inner
def issue_plugged(m: Any, pages: Any, writes: Any) -> None:
    """Hand over the writes that were held back so far; block/blk-mq.c:blk_mq_flush_plug_list()."""
    if m["plugged_writes"] > 0:
        dispatch(m, writes)
    for number in range(m["plugged_writes"]):
        held = m["device_depth"] + number
        page = np.int64(writes[held]["page"])
        _issue_write(m, pages, writes, page, True, writes[held]["joins"] != 0)
    m["plugged_writes"] = 0
    m["plug_requests"] = 0
    if m["request_end"] >= 0:
        m["request_start"] = 0
        m["request_end"] = 0


@inner
def _end_write(m: Any, pages: Any, page: Any) -> None:
    """Finish one write; mm/swap.c:folio_rotate_reclaimable() puts the page at the inactive tail."""
    rotate = has(pages, page, PG_RECLAIM)
    clear_flags(pages, page, PG_WRITEBACK | PG_RECLAIM)
    if not rotate or has(pages, page, OFF_LIST):
        return
    if m["generations"]:
        rotate_generation(m, pages, page)
        return
    unlink(pages, page)
    if has(pages, page, PG_ACTIVE):
        clear_flags(pages, page, PG_ACTIVE)
        m["active_pages"] -= 1
        m["inactive_pages"] += 1
    link_tail(pages, INACTIVE, page)


@copied
def complete_writes(m: Any, pages: Any, writes: Any) -> None:
    """Finish every write that is done by now."""
    if m["io_count"] > 0:
        _complete_writes(m, pages, writes)


@apart
def _complete_writes(m: Any, pages: Any, writes: Any) -> None:
    while m["io_count"] > 0 and writes[m["io_head"]]["done_ns"] <= m["clock_ns"]:
        page = np.int64(writes[m["io_head"]]["page"])
        m["io_head"] = (m["io_head"] + 1) % m["device_depth"]
        m["io_count"] -= 1
        _end_write(m, pages, page)


@apart
def go_back(m: Any, writes: Any, by_ns: Any) -> None:
    """Let the clock return from a fault to the trace's time, which has the stalls spread over all touches.

    What is in flight then stays so for as long as it would have after the fault, not for as long as the
    fault took. Until the pool is full, that is: then the worker writes as well, by a clock of its own.
    """
    for nth in range(m["io_count"]):
        writes[(m["io_head"] + nth) % m["device_depth"]]["done_ns"] -= by_ns
    m["io_last_ns"] -= by_ns
    m["dispatched_ns"] -= by_ns


@inner
def wait_for_write(m: Any, pages: Any, writes: Any, page: Any) -> None:
    """Sleep until the write of a page is done; mm/filemap.c:folio_wait_writeback()."""
    m["waits"] += 1
    m["ev_waits"] += 1
    issue_plugged(m, pages, writes)  # a task that sleeps unplugs (kernel/sched/core.c:schedule())
    dispatch(m, writes)
    while has(pages, page, PG_WRITEBACK) and m["io_count"] > 0:
        m["clock_ns"] = max(m["clock_ns"], writes[m["io_head"]]["done_ns"])
        complete_writes(m, pages, writes)
    begin_slice(m)


# ---- readahead ---------------------------------------------------------------------------------------


@inner
def _window(m: Any, beside: Any, hits: Any) -> Any:
    """Return the pages to read at once; mm/swap_state.c:__swapin_nr_pages()."""
    most = np.int64(1) << m["page_cluster"]
    count = hits + 2
    if count == 2:
        if not beside:
            count = np.int64(1)
    else:
        rounded = np.int64(4)
        while rounded < count:
            rounded *= 2
        count = rounded
    return max(min(count, most), m["ra_last_window"] // 2)


@inner
def _slot_window(m: Any, pages: Any, page: Any) -> Any:
    """Return how many slots to read around the one of a page; swapin_nr_pages()."""
    slot = np.int64(pages[page]["slot"])
    hits = m["ra_hits"]
    m["ra_hits"] = 0
    beside = abs(slot - m["ra_prev"]) == 1
    count = _window(m, beside, hits)
    if hits == 0:
        m["ra_prev"] = slot
    m["ra_last_window"] = count
    return count


@inner
def neighbour(neighbours: Any, at: Any) -> Any:
    """Return the page at `at`, 0 where there is none or another page table begins."""
    other = np.int64(neighbours[at])
    return np.int64(0) if other & TABLE_ENDS else other


@inner
def _address_window(m: Any, neighbours: Any, page: Any) -> Any:
    """Return (first neighbour's distance, pages) to read around a page; swap_vma_ra_win().

    `neighbours` holds, for page p, the page one address below at 2p and above at 2p + 1, with
    TABLE_ENDS where another table has it, 0 where there is none. Unlike the kernel, which keeps this
    state per VMA, there is one for the trace.
    """
    before = m["ra_prev"]
    is_next = before > 0 and np.int64(neighbours[2 * before + 1]) & ~TABLE_ENDS == page
    is_previous = before > 0 and np.int64(neighbours[2 * before]) & ~TABLE_ENDS == page
    count = _window(m, is_next or is_previous, m["ra_hits"])
    m["ra_prev"] = page
    m["ra_last_window"] = count
    m["ra_hits"] = 0
    if is_next:
        return np.int64(0), count
    if is_previous:
        return 1 - count, count
    return -((count - 1) // 2), count


@inner
def window_around(m: Any, pages: Any, neighbours: Any, page: Any) -> Any:
    """Return (first neighbour's distance, pages) to read around a page; 1 where it is read alone."""
    if m["vma_readahead"]:
        return _address_window(m, neighbours, page)
    m["decided"] |= SLOT_MET
    if pages[page]["slot"] == 0:
        # Virtual swap holds it in memory: nothing stands beside it on the device.
        return np.int64(0), np.int64(1)
    return np.int64(0), _slot_window(m, pages, page)

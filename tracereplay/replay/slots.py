"""Which swap slot a page is given: for readahead in slot order, what lies beside it is read with it.

`slots` says which page has a slot; slot 0 is the header's. From 6.13 on (6.18 here) every device is
cut into clusters of 512 slots; the array ends with their records and the heads of their lists. Before,
a rotational device was filled run by run. Where readahead follows addresses, or there is none, slots
are only counted, and numbered on and on.

Source: mm/swapfile.c: cluster_alloc_swap_entry(), alloc_swap_scan_list(), alloc_swap_scan_cluster(),
relocate_cluster(), partial_free_cluster() as of v6.18; scan_swap_map_slots() as of v6.1 and v6.12
(without swap_slots.c, which takes 64 slots at a time and returns as many).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tracereplay._jit import apart, copied, inner
from tracereplay.replay.state import SLOT_MET

CLUSTER = 512  # SWAPFILE_CLUSTER
HEADER = np.uint32(0xFFFFFFFF)  # whose slot 0 is: no page
_LAST_SLOT = np.int64(0xFFFFFFFF)
# Lists of clusters, whose heads are the first records; a full cluster, and the one that is being
# looked through, is on none.
_FREE, _NONFULL, _FRAG, _NONE = 0, 1, 2, 3
_HEADS = 3
_USED, _LIST, _PREV, _NEXT = range(4)
_FIELDS = 4


def new_slots(room: int, *, clusters: bool) -> npt.NDArray[np.uint32]:
    """Return the `slots` array of an empty device with so many slots, the header's included.

    uint32, shape (room + records,)
    """
    if not clusters:
        slots = np.zeros(room, np.uint32)
        slots[0] = HEADER
        return slots
    count = -(-room // CLUSTER)
    slots = np.zeros(room + (_HEADS + count) * _FIELDS, np.uint32)
    slots[0] = HEADER
    records = slots[room:].reshape(-1, _FIELDS)
    used = np.zeros(count, np.int64)
    used[0] = 1
    used[-1] += count * CLUSTER - room  # no slots there
    records[_HEADS:, _USED] = used
    lists = np.where(used == CLUSTER, _NONE, np.where(used > 0, _NONFULL, _FREE))
    records[_HEADS:, _LIST] = lists
    for head in range(_HEADS):
        ring = [head, *(np.flatnonzero(lists == head) + _HEADS).tolist()]
        records[ring, _NEXT] = np.roll(ring, -1)
        records[ring, _PREV] = np.roll(ring, 1)
    return slots


@inner
def no_slot_left(m: Any) -> Any:
    """Tell whether no page can be given a slot; virtual swap always has one to name a page by."""
    if m["swap_slots"] < m["swap_slots_total"]:
        return False
    m["decided"] |= SLOT_MET
    return m["late_slots"] == 0


@inner
def swap_is_full(m: Any) -> Any:
    """Tell whether more than half of the slots are in use; include/linux/swap.h:vm_swap_full()."""
    if 2 * m["swap_slots"] <= m["swap_slots_total"]:
        return False
    m["decided"] |= SLOT_MET
    return True


@copied
def alloc_slot(m: Any, pages: Any, slots: Any, page: Any) -> Any:
    """Give a page a swap slot; False where swap is full."""
    if m["swap_slots"] >= m["swap_slots_total"]:
        m["decided"] |= SLOT_MET
        return False
    m["swap_slots"] += 1
    m["swap_slots_peak"] = max(m["swap_slots_peak"], m["swap_slots"])
    if m["slot_room"] == 0:
        slot = m["slot_cursor"]
        m["slot_cursor"] = slot + 1 if slot < _LAST_SLOT else 1
    else:
        slot = np.int64(_find_slot(m, slots, page))
    pages[page]["slot"] = slot
    return True


@apart
def _find_slot(m: Any, slots: Any, page: Any) -> Any:
    if m["slot_clusters"]:
        slot = np.int64(_from_clusters(m, slots))
    else:
        slot = np.int64(_from_runs(m, slots))
    slots[slot] = page
    m["slot_top"] = max(m["slot_top"], slot + 1)
    return slot


@inner
def free_slot(m: Any, pages: Any, slots: Any, page: Any) -> None:
    """Take the slot of a page back."""
    m["swap_slots"] -= 1
    if m["slot_room"] > 0:
        slot = np.int64(pages[page]["slot"])
        slots[slot] = 0
        if m["slot_clusters"]:
            _give_back(m, slots, slot)
    pages[page]["slot"] = 0


# ---- clusters ----------------------------------------------------------------------------------------


@inner
def _record(m: Any, number: Any) -> Any:
    return m["slot_room"] + number * _FIELDS


@inner
def _move(m: Any, slots: Any, number: Any, to: Any) -> None:
    """Put a cluster at the end of a list, or on none; move_cluster()."""
    at = np.int64(_record(m, number))
    if slots[at + _LIST] != _NONE:
        before = np.int64(slots[at + _PREV])
        after = np.int64(slots[at + _NEXT])
        slots[np.int64(_record(m, before)) + _NEXT] = after
        slots[np.int64(_record(m, after)) + _PREV] = before
    slots[at + _LIST] = to
    if to == _NONE:
        return
    head = np.int64(_record(m, to))
    last = np.int64(slots[head + _PREV])
    slots[np.int64(_record(m, last)) + _NEXT] = number
    slots[head + _PREV] = number
    slots[at + _PREV] = last
    slots[at + _NEXT] = to


@inner
def _scan(m: Any, slots: Any, start: Any) -> Any:
    """Return the first free slot of a cluster from this one on, 0 without one; note where to go on."""
    number = start // CLUSTER + _HEADS
    at = np.int64(_record(m, number))
    end = min((start // CLUSTER + 1) * CLUSTER, m["slot_room"])
    slot = start
    while slot < end and slots[slot] != 0:
        slot += 1
    m["slot_cursor"] = 0
    found = np.int64(0)
    if slot < end:
        found = slot
        slots[at + _USED] += 1
        if slots[at + _USED] < CLUSTER and slot + 1 < end:
            m["slot_cursor"] = slot + 1
    to = _NONE if slots[at + _USED] == CLUSTER else _FRAG
    if slots[at + _LIST] != to:
        _move(m, slots, number, to)
    return found


@inner
def _scan_first(m: Any, slots: Any, head: Any) -> Any:
    """Look through the cluster at the front of a list; 0 where the list is empty or it has no slot."""
    number = np.int64(slots[np.int64(_record(m, head)) + _NEXT])
    if number == head:
        return np.int64(0)
    _move(m, slots, number, np.int64(_NONE))
    return np.int64(_scan(m, slots, (number - _HEADS) * CLUSTER))


@apart
def _from_clusters(m: Any, slots: Any) -> Any:
    """Return a free slot: of the cluster in use, else of a partly used one, else of an empty one."""
    slot = np.int64(m["slot_cursor"])
    # Emptied meanwhile, it has no swap table and is not usable (cluster_is_usable()).
    if slot and slots[np.int64(_record(m, slot // CLUSTER + _HEADS)) + _USED] > 0:
        found = np.int64(_scan(m, slots, slot))
        if found:
            return found
    head = np.int64(_record(m, np.int64(_NONFULL)))
    while slots[head + _NEXT] != _NONFULL:
        found = np.int64(_scan_first(m, slots, np.int64(_NONFULL)))
        if found:
            return found
    found = np.int64(_scan_first(m, slots, np.int64(_FREE)))
    if found:
        return found
    # The kernel looks at one, and takes slots of higher orders next; there are none here.
    while True:
        found = np.int64(_scan_first(m, slots, np.int64(_FRAG)))
        if found:
            return found


@inner
def _give_back(m: Any, slots: Any, slot: Any) -> None:
    number = slot // CLUSTER + _HEADS
    at = np.int64(_record(m, number))
    slots[at + _USED] -= 1
    to = _FREE if slots[at + _USED] == 0 else _NONFULL
    if slots[at + _LIST] != to:
        _move(m, slots, number, np.int64(to))


# ---- runs --------------------------------------------------------------------------------------------


@apart
def _from_runs(m: Any, slots: Any) -> Any:
    """Return a free slot: the next one, 512 times, then the first 512 free ones in a row.

    Without such a row, the first free slot from the beginning on.
    """
    room = m["slot_room"]
    slot = np.int64(m["slot_cursor"])
    if m["slot_run"] > 0:
        m["slot_run"] -= 1
    else:
        m["slot_run"] = CLUSTER - 1
        if room - m["swap_slots"] >= CLUSTER:
            slot = np.int64(1)
            at = slot + CLUSTER - 1  # the last of a row that may be free
            while at < room:
                while at >= slot and slots[at] == 0:
                    at -= 1
                if at < slot:
                    break
                slot = at + 1
                at = slot + CLUSTER - 1
            if at >= slot:
                slot = np.int64(1)
    if slot >= room:
        slot = np.int64(1)
    while slots[slot] != 0:
        slot += 1
        if slot >= room:
            slot = np.int64(1)
    m["slot_cursor"] = slot + 1
    return slot

"""zswap: store, load, limits, and writeback to the device.

Source: mm/zswap.c as of v6.12 and v6.18 unless a line says 6.1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracereplay._jit import inner
from tracereplay.replay.allocators import pool_alloc, pool_free
from tracereplay.replay.charge import charge_object, uncharge_object
from tracereplay.replay.state import (
    IN_ZSWAP,
    KEEP,
    LINK,
    LINKED,
    POOL_MET,
    RAW,
    REFUSED,
    SAME_FILLED,
    SIZE_MASK,
    STORE_RAW,
    TO_DEVICE,
    ZSWAP_REFERENCED,
    clear_flags,
    has,
    set_flags,
)
from tracereplay.replay.zswap_order import join_order, leave_order
from tracereplay.units import PAGE_BYTES

STORED, REJECTED, KEPT_BY_POLICY, LINKED_BY_POLICY = range(4)


@inner
def stored_length(m: Any, pages: Any, page: Any) -> Any:
    """Return the bytes the entry of a page takes: compressed size, 4096 raw, 0 same-filled in 6.1."""
    if has(pages, page, RAW):
        return np.int64(PAGE_BYTES)
    size = np.int64(pages[page]["size"])
    if size & SAME_FILLED and m["same_filled"]:
        return np.int64(0)
    return size & SIZE_MASK


@inner
def limited_pages(m: Any) -> Any:
    """Return the pages the pool limit sees: those of the allocator, and those linked into its order.

    A linked page is resident too; it is memory once, so only the limit counts it here.
    """
    return m["pool_pages"] + m["linked_pages"]


@inner
def is_full(m: Any) -> Any:
    """Test the pool limit with its hysteresis; mm/zswap.c:zswap_check_limits().

    6.1 (zswap_is_full(), zswap_can_accept()) is full only above the limit, and wakes the worker
    only then: the second return value. It knows the pool by its size when an entry was last stored
    or freed (zswap_update_total_size()), so that a page the worker freed shows one entry late.
    """
    held = limited_pages(m)
    if m["strict_limit"]:
        held = m["seen_pool_pages"] + m["linked_pages"]
    if held >= m["watched_pool_pages"]:
        m["decided"] |= POOL_MET
    if m["strict_limit"]:
        if held > m["pool_limit_pages"]:
            m["pool_limit_hit"] += 1
            m["zswap_full"] = 1
            return True, True
        if m["zswap_full"]:
            if held >= m["accept_pages"]:
                return True, False
            m["zswap_full"] = 0
        return False, False
    if held >= m["pool_limit_pages"]:
        m["pool_limit_hit"] += 1
        m["zswap_full"] = 1
    elif m["zswap_full"] and held <= m["accept_pages"]:
        m["zswap_full"] = 0
    return m["zswap_full"] != 0, m["zswap_full"] != 0


@inner
def forget_entry(m: Any, pages: Any, pool: Any, classes: Any, page: Any) -> None:
    """Drop the entry of a page: loaded, overwritten, written back, or its slot is freed."""
    if has(pages, page, LINKED):
        m["linked_pages"] -= 1
        clear_flags(pages, page, LINKED)
        leave_order(pages, page)
        m["fifo_pages"] -= 1
        return
    length = stored_length(m, pages, page)
    m["stored_pages"] -= 1
    if length > 0:
        leave_order(pages, page)
        m["fifo_pages"] -= 1
        pool_free(m, pages, pool, classes, page, length)
        m["pool_charged_bytes"] -= length
        uncharge_object(m, length)
        if m["counts_bytes"] and m["charge_pool"]:
            m["stat_updates"] += length
        if has(pages, page, RAW):
            m["stored_incompressible"] -= 1
    m["seen_pool_pages"] = m["pool_pages"]
    clear_flags(pages, page, IN_ZSWAP | RAW | ZSWAP_REFERENCED)


@inner
def store(m: Any, pages: Any, pool: Any, classes: Any, page: Any) -> Any:
    """Offer a page to zswap; return STORED, REJECTED, KEPT_BY_POLICY or LINKED_BY_POLICY.

    The caller has tested memory.zswap.max and the pool limit. A former entry of the same slot is
    replaced.
    """
    size = np.int64(pages[page]["size"])
    same_filled = (size & SAME_FILLED) != 0 or size == 0
    length = size & SIZE_MASK
    raw = False
    if same_filled and m["same_filled"]:
        length = np.int64(0)
    elif length >= m["watched_cutoff_bytes"]:
        m["decided"] |= REFUSED
        if length < m["cutoff_bytes"]:
            pass
        elif m["incompressible"] == STORE_RAW:
            raw = True
            length = np.int64(PAGE_BYTES)
        else:
            m["ev_rejected"] += 1
            m["clock_ns"] += m["reject_ns"]
            if m["incompressible"] == LINK:
                return LINKED_BY_POLICY
            # Every codec is bounded by one page and answers -EINVAL; 6.1 counts it nowhere.
            if not m["strict_limit"]:
                m["reject_compress_fail"] += 1
            return KEPT_BY_POLICY if m["incompressible"] == KEEP else REJECTED
    if has(pages, page, IN_ZSWAP):
        forget_entry(m, pages, pool, classes, page)
    if length > 0:
        if not pool_alloc(m, pages, pool, classes, page, length):
            m["decided"] |= REFUSED
            m["ev_rejected"] += 1
            m["clock_ns"] += m["reject_ns"]
            m["reject_compress_poor"] += 1
            return KEPT_BY_POLICY if m["incompressible"] == KEEP else REJECTED
        m["pool_charged_bytes"] += length
        charge_object(m, length)
        if m["counts_bytes"] and m["charge_pool"]:
            m["stat_updates"] += length
        set_flags(pages, page, IN_ZSWAP | ZSWAP_REFERENCED)
        if raw:
            set_flags(pages, page, RAW)
            m["stored_incompressible"] += 1
            m["stored_incompressible_pages"] = max(
                m["stored_incompressible_pages"], m["stored_incompressible"]
            )
            m["ev_raw"] += 1
        join_order(m, pages, pool[2], page)
        m["fifo_pages"] += 1
    else:
        set_flags(pages, page, IN_ZSWAP)
    m["stored_pages"] += 1
    m["seen_pool_pages"] = m["pool_pages"]
    m["zswpout"] += 1
    m["ev_stored"] += 1
    m["ev_stored_bytes"] += length
    m["clock_ns"] += m["raw_copy_ns"] if raw else m["store_ns"]
    return STORED


@inner
def full_action(m: Any) -> Any:
    """Return what becomes of a page that met a full pool."""
    m["decided"] |= POOL_MET
    return KEPT_BY_POLICY if m["pool_full"] != TO_DEVICE else REJECTED

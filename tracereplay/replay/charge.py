"""What a memory cgroup is charged: pages, page tables, and under cgroup v2 the compressed bytes.

Source: mm/memcontrol.c as of v6.12: try_charge_memcg(), refill_stock(), obj_cgroup_charge(),
refill_obj_stock(). One CPU is modelled; its stock counts as used.
"""

from __future__ import annotations

from typing import Any

from tracereplay._jit import inner
from tracereplay.units import PAGE_BYTES

CHARGE_BATCH = 64  # MEMCG_CHARGE_BATCH


@inner
def try_charge(m: Any) -> Any:
    """Charge one page: from the stock, by a batch of 64, or singly; False at the limit."""
    if m["stock_pages"] > 0:
        m["stock_pages"] -= 1
        return True
    if m["usage_pages"] + CHARGE_BATCH <= m["limit_pages"] and not m["textbook"]:
        m["usage_pages"] += CHARGE_BATCH
        m["stock_pages"] = CHARGE_BATCH - 1
        return True
    return try_charge_single(m)


@inner
def try_charge_single(m: Any) -> Any:
    """Charge one page without a batch: what a call does after it had to reclaim."""
    if m["stock_pages"] > 0:
        m["stock_pages"] -= 1
        return True
    if m["usage_pages"] + 1 <= m["limit_pages"]:
        m["usage_pages"] += 1
        return True
    return False


@inner
def force_charge(m: Any) -> None:
    """Charge one page even over the limit, as reclaim's own allocations are."""
    if not try_charge(m):
        m["usage_pages"] += 1


@inner
def uncharge(m: Any, count: Any) -> None:
    """Give pages back to the counter at once, as reclaim does."""
    m["usage_pages"] -= count


@inner
def drain_stock(m: Any) -> None:
    """Give the stock of this CPU back; mm/memcontrol.c:drain_stock()."""
    m["usage_pages"] -= m["stock_pages"]
    m["stock_pages"] = 0


@inner
def drain_all_stock(m: Any) -> None:
    """Give the stock of every CPU back, as a charge that keeps failing does."""
    drain_stock(m)
    m["usage_pages"] -= m["remote_stock_pages"]
    m["remote_stock_pages"] = 0


@inner
def _refill_stock(m: Any, count: Any) -> None:
    m["stock_pages"] += count
    if m["stock_pages"] > CHARGE_BATCH:
        drain_stock(m)


@inner
def charge_object(m: Any, size: Any) -> None:
    """Charge compressed bytes; never refused, because reclaim itself asks (PF_MEMALLOC)."""
    if not m["charge_pool"]:
        return
    if m["textbook"]:
        m["object_stock_bytes"] += size
        return
    if m["object_stock_bytes"] >= size:
        m["object_stock_bytes"] -= size
        return
    count = (size + PAGE_BYTES - 1) // PAGE_BYTES
    if m["stock_pages"] >= count:
        m["stock_pages"] -= count
    elif m["usage_pages"] + CHARGE_BATCH <= m["limit_pages"]:
        m["usage_pages"] += CHARGE_BATCH
        _refill_stock(m, CHARGE_BATCH - count)
    else:
        m["usage_pages"] += count
    m["object_stock_bytes"] += count * PAGE_BYTES - size


@inner
def uncharge_object(m: Any, size: Any) -> None:
    """Give compressed bytes back; whole pages go to the stock, and from there to the counter."""
    if not m["charge_pool"]:
        return
    if m["textbook"]:
        m["object_stock_bytes"] -= size
        return
    m["object_stock_bytes"] += size
    if m["object_stock_bytes"] > PAGE_BYTES:
        count = m["object_stock_bytes"] // PAGE_BYTES
        m["object_stock_bytes"] -= count * PAGE_BYTES
        _refill_stock(m, count)


@inner
def charged_bytes(m: Any) -> Any:
    """Return the bytes the limit sees: resident pages, tables and the charged pool."""
    charged = (m["resident_pages"] + m["table_pages"]) * PAGE_BYTES
    if m["charge_pool"]:
        charged += m["pool_charged_bytes"]
    return charged

"""Pool allocators: how many pages the compressed objects take. zsmalloc, zbud, z3fold, ideal.

Objects have no address here: an object only knows the allocator record (`zspage`) it lives in,
because only whole pages count against the pool limit.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from tracereplay._jit import apart, inner, leading_zeros, zeros_on_lines
from tracereplay.replay.state import (
    CLASS_FIELDS,
    CLASS_LISTS,
    CLASS_OBJECTS,
    CLASS_PAGES,
    CLASS_TABLE,
    CLASS_TENTHS,
    IDEAL,
    Z3FOLD,
    ZBUD,
    ZSMALLOC,
    ZSMALLOC_6_1,
)
from tracereplay.units import PAGE_BYTES

_CLASSES = 255
_MIN = 32
_DELTA = 16
_HANDLE = 8
_ON_NO_LIST = 0xFF


@functools.cache
def zsmalloc_classes(chain_pages: int, *, by_percent: bool) -> list[tuple[int, int, int, int]]:
    """Return (index, object bytes, pages, objects) of each distinct size class, smallest first.

    Parameters
    ----------
    chain_pages : longest zspage, CONFIG_ZSMALLOC_CHAIN_SIZE (8 here; 4 fixed before 6.3)
    by_percent : the rule of 6.1: most used whole percent, first maximum, no shortcut for powers of 2

    Source: mm/zsmalloc.c:zs_create_pool(), calculate_zspage_chain_size() as of v6.12,
    get_pages_per_zspage() as of v6.1.
    """
    classes: list[tuple[int, int, int, int]] = []
    for index in range(_CLASSES - 1, -1, -1):
        size = min(_MIN + index * _DELTA, PAGE_BYTES)
        if by_percent:
            pages = max(
                range(1, chain_pages + 1),
                key=lambda k: (
                    (k * PAGE_BYTES - k * PAGE_BYTES % size) * 100 // (k * PAGE_BYTES),
                    -k,
                ),
            )
        elif size & (size - 1) == 0:
            pages = 1
        else:
            pages = min(range(1, chain_pages + 1), key=lambda k: (k * PAGE_BYTES % size, k))
        objects = pages * PAGE_BYTES // size
        if classes and classes[-1][2:] == (pages, objects):
            continue  # the larger class serves this size too
        classes.append((index, size, pages, objects))
    return classes[::-1]


def huge_class_bytes(*, old: bool) -> int:
    """Return from how many bytes on an object takes a page of its own.

    zram keeps such a page as it is. Source: mm/zsmalloc.c:zs_create_pool(), huge_class_size;
    drivers/block/zram/zram_drv.c:zram_write_page().
    """
    classes = zsmalloc_classes(4 if old else 8, by_percent=old)
    shared = (size for _, size, pages, objects in reversed(classes) if pages > 1 and objects > 1)
    return next(shared) - (_HANDLE - 1)


def class_table(allocator: int) -> npt.NDArray[np.int64]:
    """Return the `classes` array of an allocator, lists empty; see state.CLASS_TABLE."""
    if allocator in (ZSMALLOC, ZSMALLOC_6_1):
        old = allocator == ZSMALLOC_6_1
        distinct = zsmalloc_classes(4 if old else 8, by_percent=old)
        table = zeros_on_lines(CLASS_TABLE + len(distinct) * CLASS_FIELDS, np.int64)
        number = {}
        for row, (index, _, pages, objects) in enumerate(distinct):
            number[index] = row
            base = CLASS_TABLE + row * CLASS_FIELDS
            table[base + CLASS_PAGES] = pages
            table[base + CLASS_OBJECTS] = objects
            table[base + CLASS_TENTHS] = -(-(10 << 32) // objects)
        indices = np.array(sorted(number))
        rows = np.array([number[index] for index in indices.tolist()])
        wanted = np.clip((np.arange(CLASS_TABLE) * _DELTA - _MIN) // _DELTA, 0, _CLASSES - 1)
        table[:CLASS_TABLE] = rows[np.searchsorted(indices, wanted)]
        return table
    # zbud and z3fold keep one list of unbuddied pages for each number of free chunks.
    return zeros_on_lines(CLASS_TABLE + 64 * CLASS_FIELDS, np.int64)


@inner
def class_at(length: Any) -> Any:
    """Return where in `classes` the class of an object of `length` bytes stands; with its handle."""
    return (length + _HANDLE + _DELTA - 1) >> 4


# ---- lists of zspages ------------------------------------------------------------------------------


# Record 0 stands for none, and its `prev` for nothing: to write there, too, is less than to ask.


@inner
def _push(zspages: Any, classes: Any, head: Any, zspage: Any) -> None:
    first = classes[head]
    zspages[zspage]["prev"] = 0
    zspages[zspage]["next"] = first
    zspages[first]["prev"] = zspage
    classes[head] = zspage


@inner
def _remove(zspages: Any, classes: Any, head: Any, zspage: Any) -> None:
    before = zspages[zspage]["prev"]
    after = zspages[zspage]["next"]
    if before:
        zspages[before]["next"] = after
    else:
        classes[head] = after
    zspages[after]["prev"] = before


@inner
def _new_zspage(m: Any, zspages: Any) -> Any:
    zspage = m["free_zspage"]
    if zspage:
        m["free_zspage"] = zspages[zspage]["next"]
    else:
        m["next_zspage"] += 1
        zspage = m["next_zspage"]
    zspages[zspage]["in_use"] = 0
    return zspage


@inner
def _free_zspage(m: Any, zspages: Any, zspage: Any) -> None:
    zspages[zspage]["next"] = m["free_zspage"]
    m["free_zspage"] = zspage


# ---- zsmalloc --------------------------------------------------------------------------------------


@inner
def _group(m: Any, classes: Any, base: Any, in_use: Any) -> Any:
    """Return the fullness group; mm/zsmalloc.c:get_fullness_group()."""
    if m["allocator"] == ZSMALLOC_6_1:  # almost empty up to three quarters, almost full above
        objects = classes[base + CLASS_OBJECTS]
        if in_use == objects:
            return 11
        group = 1 if in_use <= 3 * objects // 4 else 2
    else:
        # 100 * in_use / objects / 10 + 1, which is 11 where it is full
        group = (in_use * classes[base + CLASS_TENTHS] >> 32) + 1
    return group if in_use else 0


@inner
def _insert_zspage(m: Any, zspages: Any, classes: Any, base: Any, zspage: Any) -> None:
    group = zspages[zspage]["group"]
    if group == 11:
        return  # a full zspage is never searched for
    first = classes[base + group]
    if (
        m["allocator"] == ZSMALLOC_6_1
        and first
        and zspages[zspage]["in_use"] < zspages[first]["in_use"]
    ):
        # v6.1 insert_zspage(): the fuller first page stays in front.
        after = zspages[first]["next"]
        zspages[zspage]["prev"] = first
        zspages[zspage]["next"] = after
        zspages[first]["next"] = zspage
        if after:
            zspages[after]["prev"] = zspage
        return
    _push(zspages, classes, base + group, zspage)
    classes[base + CLASS_LISTS] |= np.int64(1) << group


@inner
def _take_off(zspages: Any, classes: Any, base: Any, group: Any, zspage: Any) -> None:
    _remove(zspages, classes, base + group, zspage)
    is_empty = np.int64(classes[base + group] == 0)
    classes[base + CLASS_LISTS] ^= is_empty << group


@inner
def _zs_alloc(m: Any, zspages: Any, classes: Any, length: Any) -> Any:
    """Return the zspage of a new object; mm/zsmalloc.c:zs_malloc(): fullest non-full group first."""
    size_class = classes[class_at(length)]
    base = CLASS_TABLE + size_class * CLASS_FIELDS
    lists = np.uint64(classes[base + CLASS_LISTS])
    if lists:
        zspage = classes[base + 63 - leading_zeros(lists)]
    else:
        zspage = _new_zspage(m, zspages)
        zspages[zspage]["size_class"] = size_class
        zspages[zspage]["group"] = _ON_NO_LIST
        m["pool_pages"] += classes[base + CLASS_PAGES]
    old_group = np.int64(zspages[zspage]["group"])
    in_use = np.int64(zspages[zspage]["in_use"]) + 1
    zspages[zspage]["in_use"] = in_use
    group = np.int64(_group(m, classes, base, in_use))
    if group != old_group:  # fix_fullness_group(): else it stays where it is
        if old_group != _ON_NO_LIST:
            _take_off(zspages, classes, base, old_group, zspage)
        zspages[zspage]["group"] = group
        _insert_zspage(m, zspages, classes, base, zspage)
    return zspage


@inner
def _zs_free(m: Any, zspages: Any, classes: Any, zspage: Any) -> None:
    """Give one object back; mm/zsmalloc.c:zs_free(): an empty zspage is freed at once."""
    base = CLASS_TABLE + np.int64(zspages[zspage]["size_class"]) * CLASS_FIELDS
    old_group = np.int64(zspages[zspage]["group"])
    in_use = np.int64(zspages[zspage]["in_use"]) - 1
    zspages[zspage]["in_use"] = in_use
    group = np.int64(_group(m, classes, base, in_use))
    if group == old_group:
        return
    if old_group != 11:
        _take_off(zspages, classes, base, old_group, zspage)
    if group == 0:
        m["pool_pages"] -= classes[base + CLASS_PAGES]
        _free_zspage(m, zspages, zspage)
        return
    zspages[zspage]["group"] = group
    _insert_zspage(m, zspages, classes, base, zspage)


# ---- zbud and z3fold: few objects a page, in chunks of 64 bytes --------------------------------------
# A record knows whose objects it holds, because 6.1 writes back whole pages of the allocator, the one
# with the oldest last allocation first. From 6.6 on that order is kept but nobody asks for it.

_CHUNK = 64
_TOTAL_CHUNKS = 64
_ZBUD_CHUNKS = 63
# struct z3fold_header is 88 bytes without lock debugging: two chunks (its comment, older than some of
# its members, says one).
_Z3FOLD_HEADER = 2
_Z3FOLD_CHUNKS = _TOTAL_CHUNKS - _Z3FOLD_HEADER
_BIG_CHUNK_GAP = 3
_FIRST, _MIDDLE, _LAST = 1, 2, 4  # bits of `foreign`


@inner
def _lru_push(buddies: Any, zspage: Any) -> None:
    after = buddies[0]["lru_next"]
    buddies[0]["lru_next"] = zspage
    buddies[zspage]["lru_prev"] = 0
    buddies[zspage]["lru_next"] = after
    buddies[after]["lru_prev"] = zspage


@inner
def _lru_remove(buddies: Any, zspage: Any) -> None:
    before = buddies[zspage]["lru_prev"]
    after = buddies[zspage]["lru_next"]
    buddies[before]["lru_next"] = after
    buddies[after]["lru_prev"] = before


@inner
def _new_buddies(m: Any, pool: Any) -> Any:
    zspages, buddies, _ = pool
    zspage = np.int64(_new_zspage(m, zspages))
    buddies[zspage]["first"] = 0
    buddies[zspage]["middle"] = 0
    buddies[zspage]["last"] = 0
    buddies[zspage]["first_page"] = 0
    buddies[zspage]["middle_page"] = 0
    buddies[zspage]["last_page"] = 0
    buddies[zspage]["start"] = 0
    buddies[zspage]["foreign"] = 0
    buddies[zspage]["headless"] = 0
    zspages[zspage]["group"] = _ON_NO_LIST
    m["pool_pages"] += 1
    _lru_push(buddies, zspage)
    return zspage


@inner
def _release(m: Any, pool: Any, zspage: Any) -> None:
    zspages, buddies, _ = pool
    _lru_remove(buddies, zspage)
    m["pool_pages"] -= 1
    _free_zspage(m, zspages, zspage)


@inner
def _is_empty(buddies: Any, zspage: Any) -> Any:
    return (
        buddies[zspage]["first"] == 0
        and buddies[zspage]["middle"] == 0
        and buddies[zspage]["last"] == 0
    )


@inner
def _unlist(zspages: Any, classes: Any, zspage: Any) -> None:
    """Take a page off the list of those with room, if it is on one."""
    group = np.int64(zspages[zspage]["group"])
    if group != _ON_NO_LIST:
        _remove(zspages, classes, CLASS_TABLE + group * CLASS_FIELDS, zspage)
        zspages[zspage]["group"] = _ON_NO_LIST


@inner
def _enlist(m: Any, pool: Any, classes: Any, zspage: Any) -> None:
    """Put a page with room for one more at the head of the list of its free chunks."""
    zspages, buddies, _ = pool
    first = np.int64(buddies[zspage]["first"])
    middle = np.int64(buddies[zspage]["middle"])
    last = np.int64(buddies[zspage]["last"])
    if m["allocator"] == ZBUD:
        if first and last:
            return
        free = _ZBUD_CHUNKS - first - last
    else:
        if first and middle and last:
            return
        free = _Z3FOLD_CHUNKS - first - last
        if middle:  # num_free_chunks(): the larger gap beside it
            start = np.int64(buddies[zspage]["start"])
            before = np.int64(0) if first else start - _Z3FOLD_HEADER
            after = np.int64(0) if last else _TOTAL_CHUNKS - start - middle
            free = max(before, after)
    zspages[zspage]["group"] = free
    _push(zspages, classes, CLASS_TABLE + free * CLASS_FIELDS, zspage)


@inner
def _take_listed(zspages: Any, classes: Any, chunks: Any, lists: Any) -> Any:
    """Return the first page with the fewest free chunks that do, off its list; 0 without one."""
    for free in range(chunks, lists):
        zspage = np.int64(classes[CLASS_TABLE + free * CLASS_FIELDS])
        if zspage:
            _unlist(zspages, classes, zspage)
            return zspage
    return np.int64(0)


@inner
def _place(pages: Any, buddies: Any, zspage: Any, page: Any, chunks: Any) -> Any:
    """Put an object into the first free buddy that fits; return its bit. get_free_buddy()."""
    pages[page]["zspage"] = zspage
    first = np.int64(buddies[zspage]["first"])
    middle = np.int64(buddies[zspage]["middle"])
    last = np.int64(buddies[zspage]["last"])
    start = np.int64(buddies[zspage]["start"])
    if first == 0 and (middle == 0 or chunks <= start - _Z3FOLD_HEADER):
        buddies[zspage]["first"] = chunks
        buddies[zspage]["first_page"] = page
        return _FIRST
    if last == 0:
        buddies[zspage]["last"] = chunks
        buddies[zspage]["last_page"] = page
        return _LAST
    buddies[zspage]["middle"] = chunks
    buddies[zspage]["middle_page"] = page
    buddies[zspage]["start"] = first + _Z3FOLD_HEADER
    return _MIDDLE


@inner
def _take_out(buddies: Any, zspage: Any, page: Any) -> None:
    """Empty the buddy that holds the object of a page."""
    bit = _FIRST
    if buddies[zspage]["first_page"] == page:
        buddies[zspage]["first"] = 0
        buddies[zspage]["first_page"] = 0
    elif buddies[zspage]["middle_page"] == page:
        bit = _MIDDLE
        buddies[zspage]["middle"] = 0
        buddies[zspage]["middle_page"] = 0
    else:
        bit = _LAST
        buddies[zspage]["last"] = 0
        buddies[zspage]["last_page"] = 0
    buddies[zspage]["foreign"] = buddies[zspage]["foreign"] & (0xFF ^ bit)


@apart
def _buddy_alloc(
    m: Any, pages: Any, pool: Any, classes: Any, page: Any, chunks: Any, lists: Any
) -> None:
    """Store an object; mm/zbud.c:zbud_alloc(), mm/z3fold.c:z3fold_alloc(): best fit by free chunks."""
    zspages, buddies, _ = pool
    zspage = _take_listed(zspages, classes, chunks, lists)
    if zspage:
        _lru_remove(buddies, zspage)
        _lru_push(buddies, zspage)
    else:
        zspage = _new_buddies(m, pool)
    _place(pages, buddies, zspage, page, chunks)
    _enlist(m, pool, classes, zspage)


@apart
def _z3fold_alloc(m: Any, pages: Any, pool: Any, classes: Any, page: Any, size: Any) -> None:
    buddies = pool[1]
    if size > PAGE_BYTES - (_Z3FOLD_HEADER + 1) * _CHUNK:
        zspage = _new_buddies(m, pool)
        buddies[zspage]["headless"] = 1
        buddies[zspage]["first"] = _TOTAL_CHUNKS
        buddies[zspage]["first_page"] = page
        pages[page]["zspage"] = zspage
        return
    chunks = (size + _CHUNK - 1) // _CHUNK
    _buddy_alloc(m, pages, pool, classes, page, chunks, _Z3FOLD_CHUNKS)


@apart
def _z3fold_compact(m: Any, pages: Any, pool: Any, classes: Any, zspage: Any) -> None:
    """Tidy a page that lost an object; mm/z3fold.c:do_compact_page().

    An object left alone moves to a page with room. Else the middle one moves to where it leaves the
    largest gap, if that gains three chunks. Unlike the kernel, which queues this, it is done at once.
    """
    zspages, buddies, _ = pool
    first = np.int64(buddies[zspage]["first"])
    middle = np.int64(buddies[zspage]["middle"])
    last = np.int64(buddies[zspage]["last"])
    start = np.int64(buddies[zspage]["start"])
    # Of bools numpy makes the sum a bool, numba a number.
    alone = np.int64(first > 0) + np.int64(middle > 0) + np.int64(last > 0) == 1
    if alone and buddies[zspage]["foreign"] == 0:  # compact_single_buddy()
        page = np.int64(
            buddies[zspage]["first_page"]
            + buddies[zspage]["middle_page"]
            + buddies[zspage]["last_page"]
        )
        chunks = first + middle + last
        other = _take_listed(zspages, classes, chunks, _Z3FOLD_CHUNKS)
        if other:
            bit = _place(pages, buddies, other, page, chunks)
            buddies[other]["foreign"] = buddies[other]["foreign"] | bit
            _enlist(m, pool, classes, other)
            _release(m, pool, zspage)
            return
    if middle:  # z3fold_compact_page()
        if first == 0 and last == 0:
            buddies[zspage]["first"] = middle
            buddies[zspage]["first_page"] = buddies[zspage]["middle_page"]
            buddies[zspage]["middle"] = 0
            buddies[zspage]["middle_page"] = 0
            buddies[zspage]["start"] = 0
            buddies[zspage]["foreign"] = _FIRST if buddies[zspage]["foreign"] else 0
        elif last == 0 and first and start - first - _Z3FOLD_HEADER >= _BIG_CHUNK_GAP:
            buddies[zspage]["start"] = first + _Z3FOLD_HEADER
        elif first == 0 and last and _TOTAL_CHUNKS - last - start - middle >= _BIG_CHUNK_GAP:
            buddies[zspage]["start"] = _TOTAL_CHUNKS - last - middle
    _enlist(m, pool, classes, zspage)


@apart
def _buddy_free(m: Any, pages: Any, pool: Any, classes: Any, page: Any) -> None:
    """Give an object back; zbud_free(), z3fold_free(): the page goes with its last object."""
    zspages, buddies, _ = pool
    zspage = np.int64(pages[page]["zspage"])
    _take_out(buddies, zspage, page)
    if zspage == m["claimed_zspage"]:
        return  # being written back: unclaim_zspage() sees to the rest
    _unlist(zspages, classes, zspage)
    if _is_empty(buddies, zspage):
        _release(m, pool, zspage)
    elif m["allocator"] == ZBUD:
        _enlist(m, pool, classes, zspage)
    else:
        _z3fold_compact(m, pages, pool, classes, zspage)


@inner
def claim_oldest_zspage(m: Any, pool: Any, classes: Any) -> Any:
    """Take the page to write back: the tail of the allocator's order; 0 where there is none.

    mm/zbud.c:zbud_reclaim_page(), mm/z3fold.c:z3fold_reclaim_page() as of v6.1; the latter passes
    over pages with handles in another page's slots.
    """
    zspages, buddies, _ = pool
    zspage = np.int64(buddies[0]["lru_prev"])
    while zspage and buddies[zspage]["foreign"]:
        zspage = np.int64(buddies[zspage]["lru_prev"])
    if zspage:
        _unlist(zspages, classes, zspage)
        m["claimed_zspage"] = zspage
    return zspage


@inner
def unclaim_zspage(m: Any, pool: Any, classes: Any) -> Any:
    """Free the claimed page, or put it back at the young end; True where it was freed."""
    buddies = pool[1]
    zspage = m["claimed_zspage"]
    m["claimed_zspage"] = 0
    if _is_empty(buddies, zspage):
        _release(m, pool, zspage)
        return True
    _lru_remove(buddies, zspage)
    _lru_push(buddies, zspage)
    if not buddies[zspage]["headless"]:
        _enlist(m, pool, classes, zspage)
    return False


# ---- the face --------------------------------------------------------------------------------------


@inner
def pool_alloc(m: Any, pages: Any, pool: Any, classes: Any, page: Any, length: Any) -> Any:
    """Put an object of `length` bytes into the pool; False where the allocator refuses the size."""
    allocator = m["allocator"]
    if allocator <= ZSMALLOC_6_1:
        pages[page]["zspage"] = _zs_alloc(m, pool[0], classes, length)
    elif allocator == ZBUD:
        size = length + m["header_bytes"]
        if size > _ZBUD_CHUNKS * _CHUNK - _CHUNK:
            return False
        chunks = (size + _CHUNK - 1) // _CHUNK
        _buddy_alloc(m, pages, pool, classes, page, chunks, _ZBUD_CHUNKS)
    elif allocator == Z3FOLD:
        size = length + m["header_bytes"]
        if size > PAGE_BYTES:
            return False
        _z3fold_alloc(m, pages, pool, classes, page, size)
    else:
        m["pool_bytes"] += length
        m["pool_pages"] = (m["pool_bytes"] + PAGE_BYTES - 1) // PAGE_BYTES
    return True


@inner
def pool_free(m: Any, pages: Any, pool: Any, classes: Any, page: Any, length: Any) -> None:
    """Take the object of a page out of the pool."""
    allocator = m["allocator"]
    if allocator <= ZSMALLOC_6_1:
        _zs_free(m, pool[0], classes, np.int64(pages[page]["zspage"]))
    elif allocator != IDEAL:
        _buddy_free(m, pages, pool, classes, page)
    else:
        m["pool_bytes"] -= length
        m["pool_pages"] = (m["pool_bytes"] + PAGE_BYTES - 1) // PAGE_BYTES

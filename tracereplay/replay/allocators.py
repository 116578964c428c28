"""Pool allocators: how many pages the compressed objects take. zsmalloc, zbud, z3fold, ideal.

Objects have no address here: an object only knows the allocator record (`zspage`) it lives in,
because only whole pages count against the pool limit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tracereplay._jit import inner
from tracereplay.replay.state import (
    CLASS_FIELDS,
    CLASS_OBJECTS,
    CLASS_PAGES,
    CLASS_TABLE,
    ZBUD,
    ZSMALLOC,
    ZSMALLOC_6_1,
)

_PAGE = 4096
_CLASSES = 255
_MIN = 32
_DELTA = 16
_HANDLE = 8
_ON_NO_LIST = 0xFF


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
        size = min(_MIN + index * _DELTA, _PAGE)
        if by_percent:
            pages = max(
                range(1, chain_pages + 1),
                key=lambda k: ((k * _PAGE - k * _PAGE % size) * 100 // (k * _PAGE), -k),
            )
        elif size & (size - 1) == 0:
            pages = 1
        else:
            pages = min(range(1, chain_pages + 1), key=lambda k: (k * _PAGE % size, k))
        objects = pages * _PAGE // size
        if classes and classes[-1][2:] == (pages, objects):
            continue  # the larger class serves this size too
        classes.append((index, size, pages, objects))
    return classes[::-1]


def class_table(allocator: int) -> npt.NDArray[np.int64]:
    """Return the `classes` array of an allocator, lists empty; see state.CLASS_TABLE."""
    if allocator in (ZSMALLOC, ZSMALLOC_6_1):
        old = allocator == ZSMALLOC_6_1
        distinct = zsmalloc_classes(4 if old else 8, by_percent=old)
        table = np.zeros(CLASS_TABLE + len(distinct) * CLASS_FIELDS, np.int64)
        number = {}
        for row, (index, _, pages, objects) in enumerate(distinct):
            number[index] = row
            base = CLASS_TABLE + row * CLASS_FIELDS
            table[base + CLASS_PAGES] = pages
            table[base + CLASS_OBJECTS] = objects
        indices = np.array(sorted(number))
        rows = np.array([number[index] for index in indices.tolist()])
        sizes = np.arange(CLASS_TABLE) + _HANDLE
        wanted = np.clip(-(-(sizes - _MIN) // _DELTA), 0, _CLASSES - 1)
        table[:CLASS_TABLE] = rows[np.searchsorted(indices, wanted)]
        return table
    # zbud and z3fold keep one list of unbuddied pages for each number of free chunks.
    return np.zeros(CLASS_TABLE + 64 * CLASS_FIELDS, np.int64)


# ---- lists of zspages ------------------------------------------------------------------------------


@inner
def _push(zspages: Any, classes: Any, head: Any, zspage: Any) -> None:
    first = classes[head]
    zspages[zspage]["prev"] = 0
    zspages[zspage]["next"] = first
    if first:
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
    if after:
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
def _group(m: Any, in_use: Any, objects: Any) -> Any:
    """Return the fullness group; mm/zsmalloc.c:get_fullness_group()."""
    if in_use == 0:
        return 0
    if in_use == objects:
        return 11
    if m["allocator"] == ZSMALLOC_6_1:  # almost empty up to three quarters, almost full above
        return 1 if in_use <= 3 * objects // 4 else 2
    return 100 * in_use // objects // 10 + 1


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


@inner
def _zs_alloc(m: Any, zspages: Any, classes: Any, length: Any) -> Any:
    """Return the zspage of a new object; mm/zsmalloc.c:zs_malloc(): fullest non-full group first."""
    size_class = classes[length]
    base = CLASS_TABLE + size_class * CLASS_FIELDS
    zspage = np.int64(0)
    for step in range(11):
        zspage = classes[base + 10 - step]
        if zspage:
            break
    if zspage == 0:
        zspage = _new_zspage(m, zspages)
        zspages[zspage]["size_class"] = size_class
        zspages[zspage]["group"] = _ON_NO_LIST
        m["pool_pages"] += classes[base + CLASS_PAGES]
    old_group = np.int64(zspages[zspage]["group"])
    in_use = np.int64(zspages[zspage]["in_use"]) + 1
    zspages[zspage]["in_use"] = in_use
    group = np.int64(_group(m, in_use, classes[base + CLASS_OBJECTS]))
    if group != old_group:  # fix_fullness_group(): else it stays where it is
        if old_group != _ON_NO_LIST:
            _remove(zspages, classes, base + old_group, zspage)
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
    group = _group(m, in_use, classes[base + CLASS_OBJECTS])
    if group == old_group:
        return
    if old_group != 11:
        _remove(zspages, classes, base + old_group, zspage)
    if group == 0:
        m["pool_pages"] -= classes[base + CLASS_PAGES]
        _free_zspage(m, zspages, zspage)
        return
    zspages[zspage]["group"] = group
    _insert_zspage(m, zspages, classes, base, zspage)


# ---- zbud: at most two objects a page, 64-byte chunks ----------------------------------------------

_CHUNK = 64
_ZBUD_CHUNKS = 63


@inner
def _zbud_alloc(m: Any, zspages: Any, classes: Any, size: Any) -> Any:
    """Return record * 2 + (1 for the last buddy); mm/zbud.c:zbud_alloc(): best fit by free chunks."""
    chunks = (size + _CHUNK - 1) // _CHUNK
    free = chunks
    while free < _ZBUD_CHUNKS and classes[CLASS_TABLE + free * CLASS_FIELDS] == 0:
        free += 1
    if free < _ZBUD_CHUNKS:
        zspage = classes[CLASS_TABLE + free * CLASS_FIELDS]
        _remove(zspages, classes, CLASS_TABLE + free * CLASS_FIELDS, zspage)
        is_last = zspages[zspage]["first"] != 0
    else:
        zspage = _new_zspage(m, zspages)
        zspages[zspage]["first"] = 0
        zspages[zspage]["last"] = 0
        m["pool_pages"] += 1
        is_last = False
    if is_last:
        zspages[zspage]["last"] = chunks
    else:
        zspages[zspage]["first"] = chunks
    if zspages[zspage]["first"] == 0 or zspages[zspage]["last"] == 0:
        _push(zspages, classes, CLASS_TABLE + (_ZBUD_CHUNKS - chunks) * CLASS_FIELDS, zspage)
    return zspage * 2 + (1 if is_last else 0)


@inner
def _zbud_free(m: Any, zspages: Any, classes: Any, handle: Any) -> None:
    """Give one buddy back; mm/zbud.c:zbud_free(): the page goes when both are gone."""
    zspage = handle // 2
    if zspages[zspage]["first"] == 0 or zspages[zspage]["last"] == 0:
        chunks = np.int64(zspages[zspage]["first"]) + np.int64(zspages[zspage]["last"])
        _remove(zspages, classes, CLASS_TABLE + (_ZBUD_CHUNKS - chunks) * CLASS_FIELDS, zspage)
        m["pool_pages"] -= 1
        _free_zspage(m, zspages, zspage)
        return
    if handle & 1:
        zspages[zspage]["last"] = 0
    else:
        zspages[zspage]["first"] = 0
    chunks = np.int64(zspages[zspage]["first"]) + np.int64(zspages[zspage]["last"])
    _push(zspages, classes, CLASS_TABLE + (_ZBUD_CHUNKS - chunks) * CLASS_FIELDS, zspage)


# ---- the face --------------------------------------------------------------------------------------


@inner
def pool_alloc(m: Any, pages: Any, zspages: Any, classes: Any, page: Any, length: Any) -> Any:
    """Put an object of `length` bytes into the pool; False where the allocator refuses the size."""
    allocator = m["allocator"]
    if allocator <= ZSMALLOC_6_1:
        pages[page]["zspage"] = _zs_alloc(m, zspages, classes, length)
    elif allocator == ZBUD:
        size = length + m["header_bytes"]
        if size > _ZBUD_CHUNKS * _CHUNK - _CHUNK:
            return False
        pages[page]["zspage"] = _zbud_alloc(m, zspages, classes, size)
    else:
        m["pool_bytes"] += length
        m["pool_pages"] = (m["pool_bytes"] + _PAGE - 1) // _PAGE
    return True


@inner
def pool_free(m: Any, pages: Any, zspages: Any, classes: Any, page: Any, length: Any) -> None:
    """Take the object of a page out of the pool."""
    allocator = m["allocator"]
    if allocator <= ZSMALLOC_6_1:
        _zs_free(m, zspages, classes, np.int64(pages[page]["zspage"]))
    elif allocator == ZBUD:
        _zbud_free(m, zspages, classes, np.int64(pages[page]["zspage"]))
    else:
        m["pool_bytes"] -= length
        m["pool_pages"] = (m["pool_bytes"] + _PAGE - 1) // _PAGE

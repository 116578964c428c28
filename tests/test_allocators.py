"""How many pages compressed objects take: size classes, fragmentation, buddies of zbud and z3fold."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config as numba_config

from tracereplay._jit import kernel
from tracereplay.replay import state
from tracereplay.replay.allocators import (
    class_table,
    huge_class_bytes,
    pool_alloc,
    pool_free,
    zsmalloc_classes,
)
from tracereplay.replay.state import CLASS_FIELDS, CLASS_OBJECTS, CLASS_PAGES, CLASS_TABLE


@kernel
def _apply(machine: Any, pages: Any, pool: Any, classes: Any, steps: Any, sizes: Any) -> None:
    """Do steps: (object, bytes) puts one in, (object, 0) takes it out; note the pool's pages."""
    m = machine[0]
    for row in range(steps.shape[0]):
        page = steps[row, 0]
        if steps[row, 1]:
            taken = pool_alloc(m, pages, pool, classes, page, steps[row, 1])
            sizes[row, 1] = 1 if taken else 0
            if not taken:
                pages[page]["flags"] = 1
        elif not pages[page]["flags"]:
            pool_free(m, pages, pool, classes, page, steps[row, 2])
        sizes[row, 0] = m["pool_pages"]


def pool_after(allocator, steps, header=0):
    """Return pool pages after each step, and whether each object found room."""
    machine = np.zeros(1, state.MACHINE)
    machine["allocator"] = allocator
    machine["header_bytes"] = header
    objects = state.FIRST_PAGE + 1 + max(step[0] for step in steps)
    pages = np.zeros(objects, state.PAGE)
    pool = (
        np.zeros(objects + 2, state.ZSPAGE),
        np.zeros(objects + 2, state.BUDDIES),
        np.zeros(0, np.uint32),
    )
    lengths, rows = {}, []
    for which, length in steps:
        rows.append((state.FIRST_PAGE + which, length, lengths.get(which, 0)))
        lengths[which] = length
    sizes = np.zeros((len(steps), 2), np.int64)
    _apply(machine, pages, pool, class_table(allocator), np.array(rows, np.int64), sizes)
    return sizes[:, 0].tolist(), sizes[:, 1].tolist()


def class_bytes(classes, length):
    """Size of the class that serves a request."""
    return next(size for _, size, _, _ in classes if size >= min(length + 8, 4096))


# ---- size classes --------------------------------------------------------------------------------------


def test_a_chain_of_8_has_119_classes_and_one_of_4_has_69():
    assert len(zsmalloc_classes(8, by_percent=False)) == 119
    assert len(zsmalloc_classes(4, by_percent=False)) == 69


def test_the_classes_of_a_chain_of_8_are_those_of_the_kernel():
    # index:size/pages/objects, a sample of the table a kernel with CHAIN_SIZE=8 makes.
    known = (
        "0:32/1/128 1:48/3/256 13:240/1/17 23:400/5/51 36:608/7/47 49:816/1/5 60:992/8/33 62:1024/1/4 "
        "64:1056/8/31 91:1488/4/11 100:1632/2/5 126:2048/1/2 134:2176/8/15 190:3072/3/4 211:3408/5/6 "
        "222:3584/7/8 225:3632/8/9 254:4096/1/1"
    )
    table = {index: rest for index, *rest in zsmalloc_classes(8, by_percent=False)}
    for entry in known.split():
        index, rest = entry.split(":")
        assert table[int(index)] == [int(number) for number in rest.split("/")]
    assert 48 not in table  # 800 bytes are served by 816


@pytest.mark.parametrize(
    ("length", "size"),
    [
        (1, 32),
        (24, 32),
        (25, 48),
        (100, 112),
        (500, 512),
        (1000, 1024),
        (2048, 2176),
        (3000, 3072),
        (3300, 3408),
        (3624, 3632),
        (3625, 4096),
        (4088, 4096),
        (4096, 4096),
    ],
)
def test_requests_go_to_the_class_of_the_check_points(length, size):
    classes = zsmalloc_classes(8, by_percent=False)
    assert class_bytes(classes, length) == size
    table = class_table(state.ZSMALLOC)
    row = CLASS_TABLE + int(table[-(-(length + 8) // 16)]) * CLASS_FIELDS
    _, _, pages, objects = next(each for each in classes if each[1] == size)
    assert table[row + CLASS_PAGES] == pages
    assert table[row + CLASS_OBJECTS] == objects


def test_a_chain_of_4_takes_a_whole_page_from_3257_bytes_on():
    classes = zsmalloc_classes(4, by_percent=False)
    assert class_bytes(classes, 3256) < 4096
    assert class_bytes(classes, 3257) == 4096


def test_zram_keeps_from_the_first_size_on_that_takes_a_whole_page():
    assert huge_class_bytes(old=False) == 3625
    assert huge_class_bytes(old=True) == 3257


@pytest.mark.parametrize("old", [False, True])
def test_every_length_is_served_as_the_twin_works_it_out(old):
    allocator = state.ZSMALLOC_6_1 if old else state.ZSMALLOC
    table = class_table(allocator)
    twin = oracle.Zsmalloc(4 if old else 8, old)
    for length in range(1, 4097):
        row = CLASS_TABLE + int(table[-(-(length + 8) // 16)]) * CLASS_FIELDS
        found = (table[row + CLASS_PAGES], table[row + CLASS_OBJECTS])
        assert found == twin.size_class(length)[1:], length


# ---- fragmentation -------------------------------------------------------------------------------------


def test_a_zspage_is_paid_for_in_full_and_goes_with_its_last_object():
    # 3,000 bytes: class 3072, four objects in three pages. The fifth needs three pages more; one object
    # is enough to hold them.
    steps = [(at, 3000) for at in range(5)] + [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0)]
    pages, _ = pool_after(state.ZSMALLOC, steps)
    assert pages == [3, 3, 3, 3, 6, 6, 6, 6, 3, 0]


def test_a_hole_is_filled_in_the_fullest_zspage_first():
    # Two zspages of four; one gives back three objects, the other one. A new object goes to the one with
    # three, so that the last of the other frees its pages.
    fill = [(at, 3000) for at in range(8)]
    steps = [*fill, (0, 0), (1, 0), (2, 0), (4, 0), (8, 3000), (3, 0)]
    pages, _ = pool_after(state.ZSMALLOC, steps)
    assert pages[-1] == 3
    assert pages[:-1] == [3] * 4 + [6] * 9


def test_a_whole_page_is_taken_by_an_object_that_hardly_shrinks():
    pages, _ = pool_after(state.ZSMALLOC, [(0, 3625), (1, 4096), (2, 3624)])
    assert pages == [1, 2, 10]  # 3,624 bytes: nine of them in eight pages


def test_ideal_counts_bytes_alone():
    pages, _ = pool_after(state.IDEAL, [(0, 1), (1, 4095), (2, 1), (1, 0)])
    assert pages == [1, 1, 2, 1]


def test_zbud_puts_two_objects_in_a_page_and_refuses_3969_bytes():
    pages, taken = pool_after(
        state.ZBUD, [(0, 2000), (1, 1984), (2, 3968), (3, 3969), (0, 0), (1, 0)]
    )
    assert pages == [1, 1, 2, 2, 2, 1]
    assert taken == [1, 1, 1, 0, 0, 0]
    # 32 chunks and 31 are all 63; two of 32 do not fit.
    assert pool_after(state.ZBUD, [(0, 2048), (1, 2048)])[0] == [1, 2]


def test_zbud_of_6_1_keeps_8_bytes_with_each_object():
    assert pool_after(state.ZBUD, [(0, 3960), (1, 3961)], header=8)[1] == [1, 0]


# ---- z3fold: 62 chunks of 64 bytes beside the header, three buddies ------------------------------------


def test_z3fold_puts_three_objects_in_a_page():
    # 20 chunks each: first, last, and the third fits between (62 - 40 = 22). A fourth begins a page.
    pages, _ = pool_after(state.Z3FOLD, [(0, 1280), (1, 1280), (2, 1280), (3, 1280)])
    assert pages == [1, 1, 1, 2]


def test_z3fold_gives_a_large_object_a_page_without_header():
    # 3904 bytes are 61 chunks and leave room for one; 3905 take the page whole; 4096 is the most.
    steps = [(0, 3904), (1, 64), (2, 3905), (3, 1), (4, 4096), (5, 4097), (2, 0)]
    pages, taken = pool_after(state.Z3FOLD, steps)
    assert pages == [1, 1, 2, 3, 4, 4, 3]
    assert taken == [1, 1, 1, 1, 1, 0, 0]
    assert pool_after(state.Z3FOLD, [(0, 4088), (1, 4089)], header=8)[1] == [1, 0]


def test_z3fold_moves_an_object_left_alone_to_a_page_with_room():
    # 30 chunks each, two a page. 0 goes: 1 is alone and joins 2, its page is freed. 2 goes: 1 lives
    # here by a handle of its old page, so it stays where it is beside a page with room (that of 3).
    steps = [(0, 1920), (1, 1920), (2, 1920), (0, 0), (3, 1920), (2, 0), (3, 0), (1, 0)]
    pages, _ = pool_after(state.Z3FOLD, steps)
    assert pages == [1, 1, 2, 1, 2, 2, 1, 0]


def test_z3fold_moves_the_middle_object_where_it_leaves_the_largest_gap():
    # First 20, last 20, middle 22 chunks. Last goes: 20 free behind the middle one, where 3 fits.
    # First and 3 go: the middle one alone becomes the first of its page, 40 chunks fit beside it.
    steps = [(0, 1280), (1, 1280), (2, 1408), (1, 0), (3, 1280), (0, 0), (3, 0), (4, 2560)]
    pages, _ = pool_after(state.Z3FOLD, steps)
    assert pages == [1] * 8


def random_steps(seed):
    rng = random.Random(seed)
    live, steps = {}, []
    largest = rng.choice((3968, 4096, 1500))
    few = [rng.randint(1, largest) for _ in range(rng.choice((1, 3, 20)))]
    for which in range(rng.randint(1, 300)):
        if live and rng.random() < 0.45:
            gone = rng.choice(sorted(live))
            steps.append((gone, 0))
            del live[gone]
        else:
            live[which] = rng.choice(few)
            steps.append((which, live[which]))
    return steps


@settings(max_examples=40 if numba_config.DISABLE_JIT else 200)
@given(
    seed=st.integers(0, (1 << 48) - 1),
    allocator=st.sampled_from(
        (state.ZSMALLOC, state.ZSMALLOC_6_1, state.ZBUD, state.Z3FOLD, state.IDEAL)
    ),
)
def test_random_objects_take_as_many_pages_as_in_the_twin(seed, allocator):
    twin = {
        state.ZSMALLOC: lambda: oracle.Zsmalloc(8, False),
        state.ZSMALLOC_6_1: lambda: oracle.Zsmalloc(4, True),
        state.ZBUD: lambda: oracle.Zbud(0),
        state.Z3FOLD: lambda: oracle.Z3fold(0),
        state.IDEAL: oracle.Ideal,
    }[allocator]()
    steps = random_steps(seed)
    held, expected = {}, []
    for which, length in steps:
        if length:
            held[which] = (twin.alloc(length, which), length)
        elif held[which][0] is None:  # zbud had no room for one of 3969 bytes or more
            del held[which]
        else:
            twin.free(*held.pop(which))
        expected.append(twin.pages)
    assert pool_after(allocator, steps)[0] == expected

"""Which swap slot a page is given: clusters from 6.13 on, runs of a rotational device before."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import oracle
import pytest

from tracereplay._jit import kernel
from tracereplay.replay import state
from tracereplay.replay.slots import alloc_slot, free_slot, new_slots


@kernel
def _apply(machine: Any, pages: Any, slots: Any, steps: Any, given: Any) -> None:
    """Give a page a slot where it has none, else take its slot back; note the slot given."""
    m = machine[0]
    for row in range(steps.size):
        page = np.int64(steps[row])
        if pages[page]["slot"]:
            free_slot(m, pages, slots, page)
        else:
            alloc_slot(m, pages, slots, page)
        given[row] = pages[page]["slot"]


def slots_given(room, steps, *, clusters):
    machine = np.zeros(1, state.MACHINE)
    m = machine[0]
    m["swap_slots_total"] = room - 1
    m["slot_room"] = room
    m["slot_clusters"] = clusters
    m["slot_cursor"] = 0 if clusters else 1
    pages = np.zeros(max(steps) + 1, state.PAGE)
    given = np.zeros(len(steps), np.int64)
    _apply(machine, pages, new_slots(room, clusters=clusters), np.array(steps), given)
    return given.tolist()


def slots_of_twin(twin, steps):
    held, given = {}, []
    for page in steps:
        if page in held:
            twin.free(held.pop(page))
        else:
            held[page] = twin.alloc()
        given.append(held.get(page, 0))
    return given


def drawn_steps(rng, pages, length):
    """Pages come and go: in order, as a loop has them, or at random, in stretches of both."""
    steps, at = [], 0
    while len(steps) < length:
        if rng.random() < 0.7:
            for _ in range(rng.randint(1, 900)):
                if rng.random() < 0.8:
                    steps.append(1 + at % pages)
                at += 1
        else:
            steps += [rng.randint(1, pages) for _ in range(rng.randint(1, 300))]
    return steps[:length]


@pytest.mark.parametrize("clusters", [True, False])
@pytest.mark.parametrize("room", [3, 512, 513, 700, 1536, 5000])
def test_slots_are_those_of_the_twin(room, clusters):
    rng = random.Random(f"{room} {clusters}")
    steps = drawn_steps(rng, room - 1, 12_000)
    twin = oracle.Clusters(room) if clusters else oracle.Runs(room)
    assert slots_given(room, steps, clusters=clusters) == slots_of_twin(twin, steps)


def test_a_freed_slot_is_taken_before_an_empty_cluster_where_there_are_clusters():
    # 600 pages fill cluster 0 (511 slots, the header has one) and 89 slots of cluster 1. Then page 5
    # gives slot 5 back. Cluster 1 is in use and goes on; once it is full, cluster 0 has a slot and is
    # asked before the empty cluster 2.
    steps = [*range(1, 601), 5, *range(601, 1024), 1024, 1025]
    given = slots_given(4096, steps, clusters=True)
    assert given[:600] == list(range(1, 601))
    assert given[601 : 601 + 423] == list(range(601, 1024))
    assert given[-2:] == [5, 1024]


def test_a_run_begins_at_the_first_empty_row_where_there_are_none():
    # 1024 slots in two runs; the first 511 and slot 512 are given back, so slots 1 to 512 are empty,
    # and the third run begins there. Slot 5 alone would not have done.
    steps = [*range(1, 1025), *range(1, 513), 1, 2]
    assert slots_given(4096, steps, clusters=False)[-2:] == [1, 2]
    steps = [*range(1, 1025), 5, 5]
    assert slots_given(4096, steps, clusters=False)[-1] == 1025

"""The engine and its slow twin agree on everything they count, on thousands of random traces."""

from __future__ import annotations

import random

import numpy as np
import oracle
import pytest
from drawn import (
    TEXTBOOK,
    chain,
    draw_mglru,
    draw_textbook,
    draw_two_list,
    feed,
    in_order,
    make_replay,
    with_rows,
)
from hypothesis import given, note, settings
from hypothesis import strategies as st
from numba import config as numba_config

from tracereplay.policies import POLICIES
from tracereplay.reclaim import RECLAIM
from tracereplay.replay import state
from tracereplay.replay.settings import KERNELS

GAUGES = {
    "pool_pages": lambda twin: twin.pool.pages,
    "linked_pages": lambda twin: twin.linked_count,
    "pool_charged_bytes": lambda twin: twin.charged,
    "stored_pages": lambda twin: twin.stored,
    "fifo_pages": lambda twin: len(twin.fifo),
    "device_pages": lambda twin: twin.device_pages,
    "swap_slots": lambda twin: twin.slots_used,
    "resident_pages": lambda twin: twin.resident_count,
    "inactive_pages": lambda twin: twin.inactive_size(),
    "active_pages": lambda twin: twin.active_size(),
    "pending": lambda twin: len(twin.pending),
    "nonresident_age": lambda twin: twin.age,
    "anon_cost": lambda twin: twin.anon_cost,
    "clock_ns": lambda twin: twin.now,
}
KERNEL_GAUGES = {
    "usage_pages": lambda twin: twin.usage,
    "stock_pages": lambda twin: twin.stock,
    "object_stock_bytes": lambda twin: twin.object_stock,
    "table_pages": lambda twin: twin.tables,
}


def compare(given_):
    twin = oracle.make(given_.case, given_.contents)
    finished = twin.run(given_.accesses)
    replay = feed(make_replay(given_), given_, given_.cuts)
    m = replay.machine[0]
    counters = replay.counters()
    assert set(counters) == set(twin.count)
    gauges = dict(GAUGES)
    if not twin.textbook:
        gauges |= KERNEL_GAUGES
    found = counters | {name: int(m[name]) for name in gauges}
    expected = twin.count | {name: gauge(twin) for name, gauge in gauges.items()}
    differences = {
        name: (found[name], expected[name]) for name in found if found[name] != expected[name]
    }
    assert not differences, "engine, twin"
    assert replay.finished == finished
    assert (-1 if twin.oom_at is None else twin.oom_at) == m["oom_at_access"]
    ids = {number: at for at, number in enumerate(sorted(given_.contents))}
    lists = []
    if given_.case.reclaim == "mglru":
        gauges_of_generations(m, twin)
        lists += [(state.GENERATIONS + number, twin.lists[number]) for number in range(4)]
    elif given_.case.reclaim != "opt":
        lists.append((state.INACTIVE, twin.inactive))
        lists.append((state.ACTIVE, twin.active))
    orders = [(chain(replay, head), listed) for head, listed in lists]
    orders.append((in_order(replay, kept=False), twin.fifo))
    orders.append((in_order(replay, kept=True), twin.kept))
    for order, listed in orders:
        assert order == [ids[page.number] for page in reversed(listed)]
    return replay, twin


def gauges_of_generations(m, twin):
    assert (m["max_seq"], m["min_seq"], m["file_min_seq"]) == (
        twin.youngest,
        twin.oldest,
        twin.file_oldest,
    )
    assert m["walks"] == twin.walks
    for name, tier, average in zip(
        ("tier", "twice", "workingset"), twin.tiers, twin.averages, strict=True
    ):
        for what in ("evicted", "refaulted", "protected"):
            assert m[f"{name}_{what}"] == tier[what]
        assert m[f"{name}_avg_refaulted"] == average["refaulted"]
        assert m[f"{name}_avg_total"] == average["total"]


SEEDS = st.integers(0, (1 << 48) - 1)
EVERY_POLICY = tuple(POLICIES)


def test_the_twin_knows_every_policy_kernel_and_reclaim_model():
    assert set(oracle.POLICIES) == set(POLICIES)
    assert set(oracle.KERNELS) == set(KERNELS)
    assert {name: model.textbook for name, model in RECLAIM.items()} == oracle.RECLAIM


def examples(count):
    """Fewer where the engine runs interpreted."""
    return settings(max_examples=count // 5 if numba_config.DISABLE_JIT else count)


# hypothesis draws the seed of an example, the same ones in every run (tests/conftest.py), and prints
# the one that fails.


@examples(600)
@given(seed=SEEDS, policy=st.sampled_from(EVERY_POLICY), reclaim=st.sampled_from(TEXTBOOK))
def test_the_textbook_models_count_what_the_twin_counts(seed, policy, reclaim):
    drawn = draw_textbook(seed, policy, reclaim)
    note(drawn.case)
    compare(drawn)


@examples(280)
@given(seed=SEEDS, policy=st.sampled_from(EVERY_POLICY))
def test_the_two_lists_count_what_the_twin_counts(seed, policy):
    drawn = draw_two_list(seed, policy)
    note(drawn.case)
    compare(drawn)


@examples(60)
@given(seed=SEEDS, policy=st.sampled_from(EVERY_POLICY))
def test_the_generations_count_what_the_twin_counts(seed, policy):
    drawn = draw_mglru(seed, policy)
    note(drawn.case)
    compare(drawn)


def test_what_waits_to_be_activated_is_not_reclaimed():
    # 192 pages fill memory, every fourth of the younger half is touched again, 192 more come. Reclaim
    # finds the neighbours of an accessed page accessed once more, so that they wait to be activated, and
    # comes by five of them in the same level: unmapped, in the swap cache, but still in memory, so that
    # to touch them is no major fault.
    fill = [*range(193), *range(96, 192, 4), *range(193, 385)]
    case = oracle.Case(
        policy="swap-on-reject",
        reclaim="mglru",
        limit_bytes=192 * 4096,
        pool_limit_pages=1000,
        kernel="7.2",
        cgroup="v1",
        allocator="ideal",
    )
    content = {"zero": False, "same": False, "compressed": 1000, "new_tables": 0}
    contents = {number: dict(content) for number in range(385)}
    kept = [324, 325, 326, 327, 328]
    for trace in (fill, [*fill, *kept]):
        rows = len(trace)
        replay, _ = compare(with_rows(case, contents, trace, [True] * rows, [None] * rows))
        states = replay.state[state.FIRST_PAGE : state.FIRST_PAGE + 385]
        unmapped = (states & state.RESIDENT != 0) & (states & state.MAPPED == 0)
        assert np.flatnonzero(unmapped).tolist() == (kept if trace is fill else [])
        assert replay.counters()["zswpout"] > 192
        assert replay.counters()["pgmajfault"] == 0


@pytest.mark.compiled
@pytest.mark.parametrize("kernel", ["6.1", "6.12", "6.18"])
@pytest.mark.parametrize("by_slots", [True, False])
def test_what_a_plug_holds_goes_by_requests_of_many_pages(kernel, by_slots):
    # Loops give runs of slots, which merge to large requests; touches at random give many small ones.
    rng = random.Random(3)
    pages = [*range(900), *range(900), *(rng.randrange(900) for _ in range(2_000)), *range(900)]
    case = oracle.Case(
        policy="no-zswap",
        reclaim="two-list",
        limit_bytes=500 * 4096,
        pool_limit_pages=1000,
        kernel=kernel,
        cgroup="v1",
        page_cluster=2 if by_slots else 0,
        vma_readahead=False,
        costs=oracle.Costs(device_write_ns=40_000, request_ns=900),
    )
    content = {"zero": False, "same": False, "compressed": 1000, "new_tables": 0}
    contents = {number: dict(content) for number in range(900)}
    rows = len(pages)
    replay, _ = compare(with_rows(case, contents, pages, [True] * rows, [None] * rows))
    counted = replay.counters()
    assert counted["pswpout"] > 2_000
    assert 32 < counted["write_requests"] < counted["pswpout"] // 2


@pytest.mark.slow
@pytest.mark.parametrize("reclaim", RECLAIM)
@pytest.mark.parametrize("policy", EVERY_POLICY)
def test_engine_and_twin_agree_on_thousands_of_traces(policy, reclaim):
    first = 1_000_000 * (1 + EVERY_POLICY.index(policy))
    for seed in range(first, first + (100 if numba_config.DISABLE_JIT else 1000)):
        if reclaim == "two-list":
            drawn = draw_two_list(seed, policy)
        elif reclaim == "mglru":
            drawn = draw_mglru(seed, policy)
        else:
            drawn = draw_textbook(seed, policy, reclaim)
        print(seed, drawn.case)
        compare(drawn)

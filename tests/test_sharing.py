"""Scenarios that share a replay end as if each had been replayed alone."""

from __future__ import annotations

import ast
import dataclasses
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import oracle
import polars as pl
import pytest
from drawn import batches, draw_mglru, draw_textbook, draw_two_list, make_replay, with_rows
from hypothesis import given, note, settings
from hypothesis import strategies as st
from numba import config as numba_config

import tracereplay
from tracereplay.policies import POLICIES
from tracereplay.replay import sharing, state
from tracereplay.replay.settings import Scenario
from tracereplay.replay.state import DECIDED_AT, FIRST_PAGE

PACKAGE = Path(tracereplay.__file__).parent
RECLAIMS = ("two-list", "two-list", *oracle.RECLAIM)
# What a replay alone need not have, and what tells which slots were given out where none matters.
NOT_COMPARED = {*DECIDED_AT, "decided", "soon"}


class Member:
    """A replay, and its events."""

    def __init__(self, given_):
        self.given = given_
        self.replay = make_replay(given_)
        self.events = []

    def feed(self, batch, start=0):
        self.replay.feed(*batch, lambda events: self.events.append(events.copy()), start=start)

    def continue_from(self, other):
        self.replay.continue_from(other.replay)
        self.events = list(other.events)

    def take_results(self, other):
        self.replay.take_results(other.replay)
        self.events = list(other.events)


def draw(seed, reclaim):
    """One trace, and scenarios that differ in nothing but what sharing allows, or in more."""
    policies = list(POLICIES)
    if reclaim == "two-list":
        base = draw_two_list(seed, policies[0])
    elif reclaim == "mglru":
        base = draw_mglru(seed, policies[0])
    else:
        base = draw_textbook(seed, policies[0], reclaim)
    rng = random.Random(seed + 1)
    pools = [base.case.pool_limit_pages, rng.choice((1, 4, 16, 1000)), 1000]
    cases = [dataclasses.replace(base.case, policy=policy) for policy in policies]
    cases += [
        dataclasses.replace(
            base.case,
            policy=rng.choice(policies),
            pool_limit_pages=rng.choice(pools),
            accept_percent=rng.choice((90, 50, 100, base.case.accept_percent)),
            cgroup=rng.choice((base.case.cgroup, base.case.cgroup, "v1", "v2")),
        )
        for _ in range(12)
    ]
    rng.shuffle(cases)
    # Often few rows a batch: what was decided shows only before the kept state is brought up to date.
    rows = len(base.accesses)
    cuts = tuple(rng.randrange(rows) for _ in range(rng.choice((0, 5, 20, rows))))
    return [dataclasses.replace(base, case=case, cuts=cuts) for case in cases]


def state_of(member):
    """Everything that what comes next, or a result, can depend on."""
    replay = member.replay
    m = replay.machine[0]
    counted = {name: int(m[name]) for name in m.dtype.names if name not in NOT_COMPARED}
    samples = replay.samples[: int(m["samples"])].copy()
    events = np.concatenate(member.events) if member.events else replay.events[:0]
    return counted, _values(samples), _values(events), _values(replay.flushes), replay.finished


def _values(records):
    return {name: records[name].tobytes() for name in records.dtype.names}


def lists_of(replay):
    m = replay.machine[0]
    order = replay.zswap_order[1 : int(m["order_end"])]
    return (
        replay.pages[FIRST_PAGE : replay._filled].tobytes(),
        replay.state[: replay._filled].tobytes(),
        order.tobytes(),
        replay.classes.tobytes(),
        replay.slots.tobytes(),
    )


def run_alone(given_):
    member = Member(given_)
    for batch in batches(given_, given_.cuts):
        if member.replay.finished:
            member.feed(batch)
    return member


def run_shared(all_given):
    """Return members, and groups at the end."""
    members = [Member(each) for each in all_given]
    groups = sharing.group(members, lambda _: None)
    with ThreadPoolExecutor(2) as pool:
        for batch in batches(all_given[0], all_given[0].cuts):
            sharing.feed_all(groups, batch, batch[1].size, Member.feed, pool)
    for each in groups:
        each.finish()
    return members, groups


def check(all_given):
    members, groups = run_shared(all_given)
    assert sorted(id(m) for each in groups for m in each.members) == sorted(map(id, members))
    leaders = {id(each.leader) for each in groups}
    for member in members:
        alone = run_alone(member.given)
        assert state_of(member) == state_of(alone), member.given.case
        if id(member) in leaders:
            assert lists_of(member.replay) == lists_of(alone.replay), member.given.case
    return groups


@pytest.mark.compiled
@pytest.mark.parametrize("reclaim", ["two-list", "lru"])
def test_virtual_swap_shares_nothing_with_slots_that_are_held_back(tmp_path, reclaim):
    """6.1 keeps the entry of a freed slot until 64 are freed; a page without a slot has none to wait."""
    rng = np.random.default_rng(5)
    pages = rng.zipf(1.2, 60_000) % 2_000
    path = tmp_path / "t.parquet"
    pl.DataFrame({"page": pages, "is_write": rng.random(pages.size) < 0.5}).write_parquet(path)

    def counted(*policies):
        some = [
            Scenario(policy=name, memory_limit_bytes=4 << 20, kernel="6.1", reclaim=reclaim)
            for name in policies
        ]
        result = tracereplay.compare(path, some, content="redis-json")
        return result.summary.filter(policy="vswap").drop("scenario")

    alone = counted("vswap")
    assert alone["zswpin"][0] > 1_000
    assert counted("store-raw", "vswap").equals(alone)


@settings(max_examples=4 if numba_config.DISABLE_JIT else 25)
@given(seed=st.integers(0, (1 << 48) - 1), reclaim=st.sampled_from(RECLAIMS))
def test_a_shared_replay_gives_what_replays_alone_give(seed, reclaim):
    drawn = draw(seed, reclaim)
    note(drawn[0].case)
    check(drawn)


@pytest.mark.slow
@pytest.mark.parametrize("reclaim", RECLAIMS[2:])
def test_hundreds_of_shared_replays_give_what_replays_alone_give(reclaim):
    for seed in range(10 if numba_config.DISABLE_JIT else 300):
        print(seed)
        check(draw(seed, reclaim))


# Where a setting is read without the decision noted before it in the same function, and why that is
# all right.
READ_LATER = {
    (
        "evict",
        "late_slots",
    ): "gives no slot where the others give one: continue_from() takes it back",
    ("give_up_late_slot", "late_slots"): "nothing to give up before SLOT_MET",
    ("run_worker", "accept_pages"): "wake_worker() was there",
}


def test_who_reads_what_scenarios_may_differ_in_notes_the_decision_before():
    names = ("EVICTED", "REFUSED", "POOL_MET", "DEVICE_MET", "PRESSED", "SLOT_MET")
    bits = {getattr(state, name): name for name in names}
    reads = 0
    unused = set(READ_LATER)
    for path in [*(PACKAGE / "replay").glob("*.py"), *(PACKAGE / "reclaim").glob("*.py")]:
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef):
                continue
            noted = {}
            for node in own_nodes(function):
                if isinstance(node, ast.AugAssign) and field_of(node.target) == "decided":
                    for name in ast.walk(node.value):
                        if isinstance(name, ast.Name):
                            noted[name.id] = min(node.lineno, noted.get(name.id, node.lineno))
            for node in own_nodes(function):
                field = field_of(node)
                decision = DECIDED_AT.get(field)
                if not decision or not isinstance(node.ctx, ast.Load):
                    continue
                reads += 1
                before = noted.get(bits[decision])
                if before is None or before >= node.lineno:
                    assert (function.name, field) in READ_LATER, (path.name, function.name, field)
                    unused.discard((function.name, field))
    assert reads > len(DECIDED_AT)
    assert not unused


def own_nodes(function):
    """Nodes of a function, without those of functions inside it."""
    waiting = list(function.body)
    while waiting:
        node = waiting.pop()
        if not isinstance(node, ast.FunctionDef):
            yield node
            waiting += ast.iter_child_nodes(node)


def field_of(node):
    """The field of the machine that a node stands for, if any."""
    if (
        isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == "m"
        and isinstance(node.slice, ast.Constant)
    ):
        return node.slice.value
    return None


def test_policies_whose_difference_never_comes_up_cost_one_replay():
    pages = [page for _ in range(6) for page in range(150)]
    case = oracle.Case("", "two-list", 64 * 4096, pool_limit_pages=1000, page_cluster=0)
    contents = {
        page: {"zero": False, "same": False, "compressed": 1000, "new_tables": 0}
        for page in range(150)
    }
    names = (
        "store-raw",
        "vswap",
        "keep-on-reject",
        "ghost-swapfile",
        "swap-on-reject",
        "mixed-lru",
    )
    rows = [False] * len(pages)
    times = [None] * len(pages)
    alike = [
        with_rows(dataclasses.replace(case, policy=name), contents, pages, rows, times, (200, 500))
        for name in names
    ]
    groups = check(alike)
    assert len(groups) == 1
    # One page that does not shrink: store-raw and vswap keep it in the pool, two in memory.
    contents[149]["compressed"] = 4096
    groups = check(alike)
    assert sorted(sorted(m.given.case.policy for m in each.members) for each in groups) == [
        ["ghost-swapfile", "keep-on-reject"],
        ["mixed-lru"],
        ["store-raw", "vswap"],
        ["swap-on-reject"],
    ]


def test_a_comparison_of_many_tells_what_comparisons_of_one_tell(tmp_path):
    rng = random.Random(5)
    path = tmp_path / "t.parquet"
    pl.DataFrame(
        {
            "page": pl.Series(
                [int(rng.paretovariate(0.7)) % 400 for _ in range(6000)], dtype=pl.UInt64
            ),
            "is_write": [rng.random() < 0.3 for _ in range(6000)],
            "run_len": pl.Series([rng.choice((1, 1, 7)) for _ in range(6000)], dtype=pl.UInt32),
        }
    ).write_parquet(path)
    common = {"memory_limit_bytes": 100 * 4096, "cgroup": "v1", "stat_flush_ns": 1_000_000}
    some = [
        Scenario(policy=policy, reclaim=reclaim, pool_limit_bytes=pool * 4096, **common)
        for policy in POLICIES
        for reclaim in ("two-list", "lru")
        for pool in (8, 1000)
    ]
    options = {
        "content": "redis-json",
        "batch_rows": 700,
        "rewrite_entropy": 0.2,
        "flush_phases": 2,
    }
    together = tracereplay.compare(path, some, **options)
    for scenario in some:
        alone = tracereplay.compare(path, [scenario], **options)
        for table in ("summary", "latency", "footprint"):
            part = getattr(together, table).filter(scenario=scenario.name)
            assert part.equals(getattr(alone, table)), (scenario.name, table)


def test_no_batch_is_kept_for_what_cannot_part_any_more():
    """A scenario alone needs the batch at hand, several need four, one that was killed none."""
    killed = 0
    for seed in range(20):
        drawn = draw(seed, "two-list")
        _, groups = run_shared(drawn)
        *_, last = batches(drawn[0], drawn[0].cuts)
        for each in groups:
            most = 1 if len(each.members) == 1 else 4
            replay = each.leader.replay
            if not replay.finished and replay.machine[0]["oom_at_access"] < last[0]:
                killed += 1
                most = 0
            assert len(each._batches) <= most
    assert killed

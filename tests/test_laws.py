"""What holds for every replay, whatever the scenario."""

from __future__ import annotations

import collections
import dataclasses
import random

import numpy as np
import oracle
import polars as pl
import pytest
from drawn import (
    TEXTBOOK,
    chain,
    draw_mglru,
    draw_numbers,
    draw_pages,
    draw_textbook,
    draw_two_list,
    feed,
    in_order,
    make_replay,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config as numba_config

import tracereplay
from tracereplay.replay import state
from tracereplay.replay.settings import Scenario
from tracereplay.replay.state import CLASS_FIELDS, CLASS_OBJECTS, CLASS_PAGES, CLASS_TABLE

SEEDS = st.integers(0, (1 << 48) - 1)
POLICIES = st.sampled_from(tuple(oracle.POLICIES))
TEXTBOOK_MODELS = st.sampled_from(TEXTBOOK)


def examples(count):
    return settings(max_examples=count // 5 if numba_config.DISABLE_JIT else count)


def replayed(drawn, on_events=lambda _: None):
    replay = feed(make_replay(drawn), drawn, drawn.cuts, on_events)
    return replay, replay.machine[0], replay.counters()


def plain(drawn, **changes):
    """The same trace, plain paging: no zswap, no readahead, room on the device for all."""
    case = dataclasses.replace(
        drawn.case, policy="no-zswap", page_cluster=0, swap_slots=None, swappiness=100, **changes
    )
    return dataclasses.replace(drawn, case=case)


# ---- recomputed from scratch ---------------------------------------------------------------------------


def entries(replay):
    """Pages whose data zswap holds: page index and the bytes they take."""
    same_filled = bool(replay.machine[0]["same_filled"])
    found = {}
    for page in range(state.FIRST_PAGE, replay.pages.size):
        record = replay.pages[page]
        flags, size = int(record["flags"]), int(record["size"])
        if flags & state.IN_ZSWAP:
            length = size & state.SIZE_MASK
            if flags & state.RAW:
                length = 4096
            elif same_filled and size & state.SAME_FILLED:
                length = 0
            found[page] = length
    return found


def flagged(replay, flag):
    return int(((replay.pages["flags"][state.FIRST_PAGE :] & flag) != 0).sum())


def resident_with(replay, resident, flag):
    flags = replay.pages["flags"][state.FIRST_PAGE :]
    return [page for page in resident if int(flags[page]) & int(flag)]


def check_lists(replay, m, drawn):
    heads = []
    if drawn.case.reclaim == "mglru":
        heads = [*GENERATIONS, state.PENDING, state.ISOLATED, state.RETURNED]
    elif drawn.case.reclaim != "opt":
        heads = [state.INACTIVE, state.ACTIVE, state.PENDING]
    for head in heads:
        assert chain(replay, head, "prev") == chain(replay, head, "next")[::-1]
    held = entries(replay)
    linked = flagged(replay, state.LINKED)
    fifo = in_order(replay, kept=False)
    assert m["fifo_pages"] == len(fifo) == sum(n > 0 for n in held.values()) + linked
    assert m["linked_pages"] == linked
    kept = len(in_order(replay, kept=True))
    assert m["kept_pages"] == kept == flagged(replay, state.KEPT_IDLE)
    resident = [
        page - state.FIRST_PAGE
        for page in range(state.FIRST_PAGE, replay.state.size)
        if replay.state[page] & state.RESIDENT
    ]
    assert m["resident_pages"] == len(resident)
    if drawn.case.reclaim == "opt":
        heap = [int(replay.pages[at]["next"]) for at in range(int(m["heap_size"]))]
        assert all(int(replay.pages[page]["prev"]) == at for at, page in enumerate(heap))
        listed = [page - state.FIRST_PAGE for page in heap]
    elif drawn.case.reclaim == "mglru":
        listed = check_generations(replay, m)
    else:
        lists = {
            name: chain(replay, head)
            for name, head in (
                ("inactive_pages", state.INACTIVE),
                ("active_pages", state.ACTIVE),
                ("pending", state.PENDING),
            )
        }
        for name, pages in lists.items():
            assert m[name] == len(pages)
        listed = [page for pages in lists.values() for page in pages]
    # Each resident page is on exactly one list, a linked one on none.
    off = resident_with(replay, resident, state.LINKED)
    assert sorted(listed + off) == sorted(resident)
    if drawn.case.reclaim == "two-list":  # what a scan isolated and did not free is on a list again
        waiting = chain(replay, state.PENDING)
        assert sorted(waiting + off) == resident_with(replay, resident, state.OFF_LIST)


GENERATIONS = [state.GENERATIONS + number for number in range(4)]


def check_generations(replay, m):
    """Sizes follow the numbers that pages carry, which only promoted pages have apart from their list."""
    assert 2 <= m["max_seq"] - m["min_seq"] + 1 <= 4
    lists = [chain(replay, head) for head in GENERATIONS]
    pending = chain(replay, state.PENDING)
    assert m["pending"] == len(pending)
    assert not chain(replay, state.ISOLATED)
    assert not chain(replay, state.RETURNED)
    listed = [page for pages in lists for page in pages]
    numbers = collections.Counter(
        (int(replay.pages[page + state.FIRST_PAGE]["size"]) & state.GENERATION_MASK)
        >> state.GENERATION_SHIFT
        for page in listed
    )
    for number, head in enumerate(GENERATIONS):
        assert replay.pages[head]["shadow"] == numbers[number]
    active = numbers[m["max_seq"] % 4] + numbers[(m["max_seq"] - 1) % 4]
    assert (m["active_pages"], m["inactive_pages"]) == (active, len(listed) - active)
    unlisted = set(range(replay.pages.size - state.FIRST_PAGE)) - set(listed)
    for page in unlisted:
        assert not int(replay.pages[page + state.FIRST_PAGE]["size"]) & state.GENERATION_MASK
    return listed + pending


def check_pool(replay, m):
    held = entries(replay)
    assert m["stored_pages"] == len(held)
    assert m["pool_charged_bytes"] == sum(held.values())
    assert m["stored_incompressible"] == flagged(replay, state.RAW)
    taking = {page: length for page, length in held.items() if length}
    if replay.scenario.allocator == "ideal":
        assert m["pool_pages"] == -(-sum(taking.values()) // 4096)
        return
    handles = collections.Counter(int(replay.pages[page]["zspage"]) for page in taking)
    if replay.scenario.allocator in ("zbud", "z3fold"):
        assert max(handles.values(), default=1) <= (2 if replay.scenario.allocator == "zbud" else 3)
        assert m["pool_pages"] == len(handles)
        places = ("first_page", "middle_page", "last_page")
        for handle in handles:
            here = {int(replay.buddies[handle][place]) for place in places} - {0}
            assert here == {page for page in taking if replay.pages[page]["zspage"] == handle}
        return
    pages = 0
    for zspage, used in handles.items():
        assert replay.zspages[zspage]["in_use"] == used
        base = CLASS_TABLE + int(replay.zspages[zspage]["size_class"]) * CLASS_FIELDS
        assert used <= replay.classes[base + CLASS_OBJECTS]
        pages += int(replay.classes[base + CLASS_PAGES])
    assert m["pool_pages"] == pages


def check_swap_and_charge(replay, m, drawn):
    assert m["device_pages"] == flagged(replay, state.ON_DEVICE)
    assert m["swap_slots"] == int((replay.pages["slot"][state.FIRST_PAGE :] != 0).sum())
    if oracle.RECLAIM[drawn.case.reclaim]:
        return
    pool = 0
    if m["charge_pool"]:
        # What the stock of bytes holds was charged as whole pages with the objects.
        pool, rest = divmod(int(m["pool_charged_bytes"] + m["object_stock_bytes"]), 4096)
        assert rest == 0
    stock = m["stock_pages"] + m["remote_stock_pages"]
    assert m["usage_pages"] == m["resident_pages"] + m["table_pages"] + stock + pool


def check_everything(drawn):
    replay, m, _ = replayed(drawn)
    check_lists(replay, m, drawn)
    check_pool(replay, m)
    check_swap_and_charge(replay, m, drawn)


@examples(120)
@given(seed=SEEDS, policy=POLICIES)
def test_lists_pool_slots_and_charges_of_the_two_lists_agree_when_recomputed(seed, policy):
    check_everything(draw_two_list(seed, policy))


@examples(120)
@given(seed=SEEDS, policy=POLICIES)
def test_generations_pool_slots_and_charges_agree_when_recomputed(seed, policy):
    check_everything(draw_mglru(seed, policy))


@examples(120)
@given(seed=SEEDS, policy=POLICIES, reclaim=TEXTBOOK_MODELS)
def test_lists_pool_and_slots_of_the_textbook_models_agree_when_recomputed(seed, policy, reclaim):
    check_everything(draw_textbook(seed, policy, reclaim))


# ---- identities between counters -----------------------------------------------------------------------


def check_identities(drawn):
    case = dataclasses.replace(drawn.case, page_cluster=0)
    _, m, count = replayed(dataclasses.replace(drawn, case=case))
    swap_ins = count["zswpin"] + count["pswpin"] + count["swpin_zero"]
    # The kill comes before the page of the last fault was read.
    unread = count["pgmajfault"] - swap_ins
    assert unread == 0 or (unread == 1 and count["oom_events"] == 1)
    assert count["pswpout"] >= count["zswpwb"]
    # Generations of 6.1 count refaults while the oldest generation stands, activations later.
    assert (case.reclaim, case.kernel) == ("mglru", "6.1") or (
        count["workingset_activate_anon"] <= count["workingset_refault_anon"]
    )
    if case.reclaim == "mglru":
        assert count["workingset_restore_anon"] <= count["workingset_refault_anon"]
    else:
        assert count["workingset_restore_anon"] <= count["workingset_activate_anon"]
    assert count["reclaim_freed_pages"] <= count["reclaim_scanned"]
    if case.kernel != "6.1":
        assert count["zswpin"] <= count["zswpout"]
    if oracle.POLICIES[case.policy].incompressible == "link":
        return
    if case.kernel != "6.1":  # 6.1 keeps an entry after its load
        assert m["stored_pages"] == count["zswpout"] - count["zswpin"] - count["zswpwb"]
    brought = 0 if oracle.RECLAIM[case.reclaim] else count["zswpwb"]
    came = count["unique_pages"] + swap_ins + brought
    assert m["resident_pages"] == came - count["reclaim_freed_pages"]
    if (case.reclaim, case.kernel) == ("mglru", "6.1"):  # recent ones only
        assert count["workingset_refault_anon"] <= swap_ins + brought
    else:
        assert count["workingset_refault_anon"] == swap_ins + brought
    assert swap_ins <= count["reclaim_freed_pages"]


@examples(120)
@given(seed=SEEDS, policy=POLICIES)
def test_counters_of_the_two_lists_add_up(seed, policy):
    check_identities(draw_two_list(seed, policy))


@examples(120)
@given(seed=SEEDS, policy=POLICIES)
def test_counters_of_the_generations_add_up(seed, policy):
    check_identities(draw_mglru(seed, policy))


@examples(120)
@given(seed=SEEDS, policy=POLICIES, reclaim=TEXTBOOK_MODELS)
def test_counters_of_the_textbook_models_add_up(seed, policy, reclaim):
    check_identities(draw_textbook(seed, policy, reclaim))


def check_events(drawn):
    """What latencies are made of adds up to what is counted; a touch that is killed has no event."""
    case, parts = drawn.case, []
    replay, m, count = replayed(drawn, lambda events: parts.append(events.copy()))
    if not replay.finished:
        return
    events = np.concatenate(parts) if parts else np.empty(0, state.EVENT)
    total = {name: int(events[name].sum(dtype=np.int64)) for name in events.dtype.names}
    assert total["stored"] == count["zswpout"]
    assert total["written_back"] == count["zswpwb"]
    assert total["written"] == count["pswpout"] - count["zswpwb"]
    assert total["requests"] == m["write_requests"]
    assert total["read_ahead"] + total["read_ahead_loads"] == count["swap_ra"]
    refused = count["reject_compress_poor"] + count["reject_compress_fail"]
    if case.kernel == "6.1" or case.policy == "mixed-lru":  # some are refused without a counter
        assert total["rejected"] >= refused
    else:
        assert total["rejected"] == refused
    assert total["scanned"] == count["reclaim_scanned"] + count["pgdeactivate"]
    assert total["dropped"] >= count["swpout_zero"]
    assert total["raw"] >= count["stored_incompressible_pages"]
    assert total["raw"] * 4096 <= total["stored_bytes"] <= total["stored"] * 4096
    # Pages that are all the same, or linked, are stored without a byte.
    if case.kernel != "6.1" and case.policy not in ("zram", "mixed-lru"):
        least = min(each["compressed"] for each in drawn.contents.values())
        assert total["stored_bytes"] >= total["stored"] * least
        assert total["written_back_bytes"] >= total["written_back"] * least


@examples(120)
@given(seed=SEEDS, policy=POLICIES)
def test_events_of_the_two_lists_add_up_to_what_is_counted(seed, policy):
    check_events(draw_two_list(seed, policy))


@examples(120)
@given(seed=SEEDS, policy=POLICIES)
def test_events_of_the_generations_add_up_to_what_is_counted(seed, policy):
    check_events(draw_mglru(seed, policy))


@examples(120)
@given(seed=SEEDS, policy=POLICIES, reclaim=TEXTBOOK_MODELS)
def test_events_of_the_textbook_models_add_up_to_what_is_counted(seed, policy, reclaim):
    check_events(draw_textbook(seed, policy, reclaim))


@examples(100)
@given(seed=SEEDS, policy=POLICIES, reclaim=TEXTBOOK_MODELS)
def test_a_textbook_model_never_goes_over_its_limit(seed, policy, reclaim):
    drawn = draw_textbook(seed, policy, reclaim)
    _, _, count = replayed(drawn)
    assert count["overshoot_bytes_peak"] == 0
    if policy != "unlimited-memory":
        assert count["resident_pages_peak"] <= drawn.case.limit_bytes // 4096


@examples(100)
@given(
    seed=SEEDS,
    policy=st.sampled_from(("no-zswap", "no-writeback", "ghost-swapfile", "zram")),
    draw=st.sampled_from((draw_two_list, draw_mglru)),
)
def test_a_kernel_model_never_goes_over_the_limit_where_only_faults_are_charged(seed, policy, draw):
    drawn = draw(seed, policy)
    drawn = dataclasses.replace(drawn, case=dataclasses.replace(drawn.case, cgroup="v1"))
    _, m, count = replayed(drawn)
    assert count["resident_pages_peak"] <= drawn.case.limit_bytes // 4096
    assert m["usage_pages"] <= max(drawn.case.limit_bytes // 4096, drawn.case.remote_stock)


# ---- one capacity against another, one model against another -------------------------------------------


@examples(60)
@given(seed=SEEDS)
def test_faults_of_lru_do_not_rise_with_capacity(seed):
    drawn = draw_textbook(seed, "no-zswap", "lru")
    faults = [
        replayed(plain(drawn, limit_bytes=pages * 4096))[2]["pgmajfault"] for pages in range(1, 13)
    ]
    assert faults == sorted(faults, reverse=True)
    assert faults[-1] == 0


@examples(80)
@given(seed=SEEDS)
def test_nothing_faults_less_than_belady(seed):
    small = draw_textbook(seed, "no-zswap", "opt")
    bound = replayed(plain(small))[2]["pgmajfault"]
    assert bound <= replayed(plain(small, reclaim="lru"))[2]["pgmajfault"]
    large = draw_two_list(seed, "no-zswap")
    two_list, _, count = replayed(plain(large, remote_stock=0))
    if two_list.finished:
        bound = replayed(plain(large, reclaim="opt", remote_stock=0))[2]["pgmajfault"]
        assert bound <= count["pgmajfault"]


@examples(60)
@given(seed=SEEDS)
def test_belady_faults_as_often_as_a_search_over_all_choices(seed):
    drawn = draw_textbook(seed, "no-zswap", "opt")
    rows = drawn.accesses[:14]
    drawn = plain(
        dataclasses.replace(drawn, accesses=rows, cuts=()),
        limit_bytes=min(drawn.case.limit_bytes, 3 * 4096),
    )
    capacity = drawn.case.limit_bytes // 4096
    reached = {frozenset(): 0}
    for access in rows:
        after = {}
        for held, misses in reached.items():
            if access.page in held:
                choices = [(held, misses)]
            elif len(held) < capacity:
                choices = [(held | {access.page}, misses + 1)]
            else:
                choices = [((held - {out}) | {access.page}, misses + 1) for out in held]
            for pages, total in choices:
                after[pages] = min(after.get(pages, 1 << 30), total)
        reached = after
    _, _, count = replayed(drawn)
    assert count["pgmajfault"] + count["unique_pages"] == min(reached.values())


# ---- batches -------------------------------------------------------------------------------------------


@examples(60)
@given(
    seed=SEEDS,
    policy=POLICIES,
    every=st.integers(1, 9),
    draw=st.sampled_from((draw_two_list, draw_mglru)),
)
def test_splitting_a_trace_changes_nothing_a_replay_holds(seed, policy, every, draw):
    drawn = draw(seed, policy, longest=200)
    whole = feed(make_replay(drawn), drawn)
    cuts = range(every, len(drawn.accesses), every)
    parts = feed(make_replay(drawn), drawn, cuts)
    for name in (
        *("machine", "pages", "state", "zspages", "buddies", "zswap_order"),
        *("classes", "writes", "slots", "samples"),
    ):
        assert getattr(whole, name).tobytes() == getattr(parts, name).tobytes(), name


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """A trace whose rows are seen in another order than their addresses, in two processes."""
    rng = random.Random(7)
    pages = [page for _ in range(6) for page in draw_pages(rng, draw_numbers(rng, 150), 400)]
    rows = range(len(pages))
    frame = pl.DataFrame(
        {
            "time_ns": pl.Series([50_000 * row for row in rows], dtype=pl.UInt64),
            "pid": pl.Series([1 + page % 2 for page in pages], dtype=pl.UInt32),
            "page": pl.Series([page // 2 for page in pages], dtype=pl.UInt64),
            "is_write": [rng.random() < 0.3 for _ in rows],
            "run_len": pl.Series([1 + row % 3 for row in rows], dtype=pl.UInt32),
        }
    )
    path = tmp_path_factory.mktemp("trace") / "trace.parquet"
    frame.write_parquet(
        path, metadata={"tracereplay.coverage": "full", "tracereplay.clock": "perf"}
    )
    return path


@pytest.mark.parametrize("device", ["nvme", "hdd"])
def test_batches_of_any_size_give_the_same_tables(trace, device):
    scenarios = [
        Scenario(
            policy=policy,
            reclaim=reclaim,
            memory_limit_bytes=64 * 4096,
            cgroup="v1",
            pool_limit_bytes=8 * 4096,
            device=device,
            stat_flush_ns=1_000_000,
        )
        for policy in ("store-raw", "mixed-lru", "vswap", "no-zswap")
        for reclaim in oracle.RECLAIM
    ]
    content = "sqlite-log+10%zero"
    whole = tracereplay.compare(trace, scenarios, content=content)
    # Generations do not wait for writes, so a slow device gets a small cgroup killed at its first reclaim.
    finished = whole.summary.filter((pl.col("reclaim") != "mglru") | pl.lit(device == "nvme"))
    assert finished["pgmajfault"].min() > 0
    assert whole.summary.filter(reclaim="two-list")["swap_ra"].min() > 0
    for rows in (1, 7, 64):
        parts = tracereplay.compare(trace, scenarios, content=content, batch_rows=rows)
        for table in ("summary", "latency", "footprint"):
            assert getattr(parts, table).equals(getattr(whole, table)), (table, rows)

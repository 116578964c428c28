"""One short trace per policy, worked out by hand: exact LRU of two pages, writes, cgroup v1.

The letters are pages; the trace is a list of writes. Memory holds two pages, the pool's bytes count
without waste (`ideal`). A page that is written to at its fault gives its slot and copy back.
"""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from drawn import feed, make_replay, with_rows

from tracereplay._jit import kernel
from tracereplay.costs import Means
from tracereplay.reclaim import find_reclaim
from tracereplay.reclaim.two_list import _inactive_is_low
from tracereplay.replay.settings import Scenario
from tracereplay.replay.state import MACHINE, PAGE, WRITE
from tracereplay.replay.swap import PLUG_ROOM, dispatch, start_plug, submit_write

A, B, C = "ABC"
RAW = 4096


def worked(policy, trace, sizes, reclaim="lru", **settings):
    """Return counters that are not zero, and the replay."""
    settings = {"pool_limit_pages": 100, "cgroup": "v1", "allocator": "ideal"} | settings
    case = oracle.Case(policy=policy, reclaim=reclaim, limit_bytes=2 * 4096, **settings)
    names = sorted(set(trace))
    contents = {
        at: {
            "zero": sizes[name] == 0,
            "same": sizes[name] == 0,
            "compressed": sizes[name] or 1,
            "new_tables": 0,
        }
        for at, name in enumerate(names)
    }
    pages = [names.index(name) for name in trace]
    rows = len(pages)
    drawn = with_rows(case, contents, pages, [True] * rows, [None] * rows)
    replay = feed(make_replay(drawn), drawn)
    found = replay.counters()
    interesting = (
        "pgmajfault zswpin zswpout zswpwb pswpin pswpout swpin_zero swpout_zero minor_faults "
        "pgactivate pool_limit_hit reject_compress_fail stored_incompressible_pages oom_events"
    )
    return {name: found[name] for name in interesting.split() if found[name]}, replay


SIZES = {A: 1000, B: RAW, C: 2000}


def test_no_zswap_sends_every_page_to_the_device():
    # A, B fill memory. C: A out (write 1). A: B out (write 2), A read 1. B: C out (write 3), B read 2.
    found, _ = worked("no-zswap", "ABCAB", SIZES)
    assert found == {"minor_faults": 3, "pgmajfault": 2, "pswpout": 3, "pswpin": 2}


def test_swap_on_reject_sends_what_does_not_shrink_to_the_device():
    # C: A stored. A: B does not shrink, to the device; A loaded. B: C stored; B read.
    found, _ = worked("swap-on-reject", "ABCAB", SIZES)
    assert found == {
        "minor_faults": 3,
        "pgmajfault": 2,
        "zswpout": 2,
        "zswpin": 1,
        "reject_compress_fail": 1,
        "pswpout": 1,
        "pswpin": 1,
    }


@pytest.mark.parametrize("policy", ["keep-on-reject", "no-writeback", "ghost-swapfile"])
def test_a_refused_page_stays_and_the_next_one_goes(policy):
    # C: A stored. A: B refused, put at the young end; then C stored; A loaded. B: still there, a minor
    # fault that finds it in the swap cache. The device is never touched.
    found, _ = worked(policy, "ABCAB", SIZES)
    assert found == {
        "minor_faults": 4,
        "pgmajfault": 1,
        "zswpout": 2,
        "zswpin": 1,
        "reject_compress_fail": 1,
        "pgactivate": 1,
    }


@pytest.mark.parametrize("policy", ["no-writeback", "ghost-swapfile"])
def test_without_a_device_two_refused_pages_leave_no_room(policy):
    # C: both A and B are refused and stay: nothing can be freed, the task is killed at row 2.
    found, replay = worked(policy, "ABC", {A: RAW, B: RAW, C: 2000})
    assert found == {
        "minor_faults": 2,
        "reject_compress_fail": 2,
        "pgactivate": 2,
        "oom_events": 1,
    }
    assert not replay.finished
    assert replay.machine[0]["oom_at_access"] == 2


@pytest.mark.parametrize("reclaim", ["two-list", "mglru"])
def test_the_victim_of_an_oom_kill_reclaims_as_often_again_before_it_dies(reclaim):
    # Every page is refused, so no run frees one. The first run drains the stock, 16 retries follow,
    # and the one after them kills; then 16 retries more, and the one that sees the task dying.
    _, replay = worked("no-writeback", "ABC", {A: RAW, B: RAW, C: RAW}, reclaim)
    counted = replay.counters()
    assert counted["reclaim_runs"] == counted["reclaim_failures"] == 1 + 16 + 1 + 16 + 1
    assert counted["oom_events"] == 1
    assert counted["resident_pages_peak"] == 2


def test_store_raw_holds_what_does_not_shrink_as_it_is():
    # C: A stored. A: B stored raw; A loaded. B: C stored; B copied back.
    found, _ = worked("store-raw", "ABCAB", SIZES)
    assert found == {
        "minor_faults": 3,
        "pgmajfault": 2,
        "zswpout": 3,
        "zswpin": 2,
        "stored_incompressible_pages": 1,
    }


def test_store_raw_under_v2_frees_nothing_with_a_raw_page():
    # C: A goes into the pool raw and is charged 4,096 bytes: no gain. B too: no gain. Nothing is left.
    found, replay = worked("store-raw", "ABC", {A: RAW, B: RAW, C: 2000}, cgroup="v2")
    assert found == {
        "minor_faults": 2,
        "zswpout": 2,
        "stored_incompressible_pages": 2,
        "oom_events": 1,
    }
    assert replay.counters()["reclaim_no_gain_runs"] == 1


def test_store_raw_keep_keeps_pages_when_the_pool_is_full():
    # Pool limit: 1 page. C: the pool is empty, A (1,000 bytes) makes it 1 page. A: the pool is full, B
    # stays; C stays too: no room, killed at row 3. Each refusal met the limit.
    found, replay = worked("store-raw-keep", "ABCA", SIZES, pool_limit_pages=1)
    assert found == {
        "minor_faults": 3,
        "pgmajfault": 1,
        "zswpout": 1,
        "pool_limit_hit": 2,
        "pgactivate": 2,
        "oom_events": 1,
    }
    assert replay.machine[0]["oom_at_access"] == 3


def test_mixed_lru_links_the_page_where_it_is():
    # C: A stored. A: B does not shrink: linked, still in memory, so C goes too and is stored; A loaded.
    # B: it was only linked: a minor fault. Nothing was written.
    found, replay = worked("mixed-lru", "ABCAB", SIZES)
    assert found == {"minor_faults": 4, "pgmajfault": 1, "zswpout": 2, "zswpin": 1}
    assert replay.counters()["footprint_pages_peak"] == 3  # A, B and the page C's bytes take


def test_ratio_cutoff_keeps_a_page_of_more_than_2990_bytes():
    # C: A (2,990 bytes) stored. A: B stored, A loaded. B: C (2,991 bytes) is refused and stays; then A
    # stored; B loaded.
    found, _ = worked("ratio-cutoff", "ABCAB", {A: 2990, B: 1000, C: 2991})
    assert found == {
        "minor_faults": 3,
        "pgmajfault": 2,
        "zswpout": 3,
        "zswpin": 2,
        "reject_compress_fail": 1,
        "pgactivate": 1,
    }


def test_vswap_holds_pages_without_a_slot_where_store_raw_has_none_left():
    # One slot. store-raw: A takes it; A's fault finds none for B nor for C: killed at row 3.
    # vswap: A and B in the pool take no slot at all.
    found, replay = worked("store-raw", "ABCAB", SIZES, swap_slots=1)
    assert found["oom_events"] == 1
    assert replay.machine[0]["oom_at_access"] == 3
    found, replay = worked("vswap", "ABCAB", SIZES, swap_slots=1)
    assert found == {
        "minor_faults": 3,
        "pgmajfault": 2,
        "zswpout": 3,
        "zswpin": 2,
        "stored_incompressible_pages": 1,
    }
    assert replay.machine[0]["swap_slots"] == 0


def test_zram_has_no_pool_limit_and_no_writeback():
    # As store-raw, although the pool limit is 0.
    found, _ = worked("zram", "ABCAB", SIZES, pool_limit_pages=0)
    assert found == {
        "minor_faults": 3,
        "pgmajfault": 2,
        "zswpout": 3,
        "zswpin": 2,
        "stored_incompressible_pages": 1,
    }


def test_unlimited_memory_never_reclaims():
    found, _ = worked("unlimited-memory", "ABCAB", SIZES)
    assert found == {"minor_faults": 3}


def test_shrinker_is_store_raw_while_a_4096th_of_the_entries_rounds_to_none():
    # At priority 12 it looks at 4/2 x (entries >> 12): none of one or two.
    assert worked("shrinker", "ABCAB", SIZES)[0] == worked("store-raw", "ABCAB", SIZES)[0]


def test_a_zero_page_never_reaches_zswap():
    # C: A is all zero: only a bit remembers it. A: B stored raw; A filled in again. B: C stored; loaded.
    found, _ = worked("store-raw", "ABCAB", {A: 0, B: RAW, C: 2000})
    assert found == {
        "minor_faults": 3,
        "pgmajfault": 2,
        "swpout_zero": 1,
        "swpin_zero": 1,
        "zswpout": 2,
        "zswpin": 1,
        "stored_incompressible_pages": 1,
    }


def test_the_worker_gives_a_second_chance_and_then_writes_back():
    # Pool limit 1 page, 1 s between touches: the worker is done before the next one.
    # Row 2 (C): A stored, one page. Row 3 (D): full, B to the device; the worker clears A's bit, then
    # writes A back. Row 4 (B): C stored, B read. Row 5 (A): full again, D to the device, A read.
    found, _ = worked(
        "store-raw",
        "ABCDBA",
        {A: 4000, B: 4000, C: 4000, "D": 4000},
        pool_limit_pages=1,
        touch_ns=10**9,
    )
    assert found == {
        "minor_faults": 4,
        "pgmajfault": 2,
        "zswpout": 2,
        "zswpwb": 1,
        "pool_limit_hit": 2,
        "pswpout": 3,
        "pswpin": 2,
    }


def test_an_entry_loaded_before_the_worker_comes_is_not_written_back():
    # Row 3 (A): full, B to the device; A is loaded by the same fault, so the worker finds nothing.
    # Row 4 (B): the pool is empty, C stored; B read.
    found, _ = worked(
        "store-raw", "ABCAB", {A: 4000, B: 4000, C: 4000}, pool_limit_pages=1, touch_ns=10**9
    )
    assert found == {
        "minor_faults": 3,
        "pgmajfault": 2,
        "zswpout": 2,
        "zswpin": 1,
        "pool_limit_hit": 1,
        "pswpout": 1,
        "pswpin": 1,
    }


def test_zbud_of_6_1_is_written_back_by_whole_pages_and_then_refuses_silently():
    # Memory holds two pages, so rows 2 to 11 push out A to J. Two of 1500 bytes fit in a page of zbud;
    # the limit is two pages, and only above it is the pool full: A to E are stored, three pages.
    # F: full, to the device. The worker frees the page of A and B, but zswap last counted while their
    # page still stood. G: full once more, to the device; the page of C and D goes. H to J: one page is
    # not below 90 % of two, so they are refused, and neither counter nor worker hears of it.
    found, replay = worked(
        "swap-on-reject",
        "ABCDEFGHIJKL",
        dict.fromkeys("ABCDEFGHIJKL", 1500),
        kernel="6.1",
        allocator="zbud",
        pool_limit_pages=2,
        touch_ns=10**9,
    )
    assert found == {
        "minor_faults": 12,
        "zswpout": 5,
        "zswpwb": 4,
        "pool_limit_hit": 2,
        "pswpout": 4 + 5,
    }
    assert replay.machine["pool_pages"][0] == 1


def test_opt_lets_the_page_go_that_is_needed_last():
    # C: A is needed at row 3, B at row 4: B goes. A is there. B: C and A are never needed again.
    found, _ = worked("no-zswap", "ABCAB", SIZES, reclaim="opt")
    assert found == {"minor_faults": 3, "pgmajfault": 1, "pswpout": 2, "pswpin": 1}


@kernel
def is_low(machine):
    return _inactive_is_low(machine[0])


@pytest.mark.parametrize(("gib", "ratio"), [(0.5, 1), (1, 3), (10, 10), (100, 31)])
def test_inactive_is_low_by_the_root_of_ten_times_the_gibibytes(gib, ratio):
    """mm/vmscan.c:inactive_is_low(): int_sqrt(10 * gb) from 1 GiB on."""
    pages = int(gib * (1 << 18))
    for inactive, low in ((pages // (ratio + 1) + 2, False), (pages // (ratio + 1) - 2, True)):
        machine = np.zeros(1, MACHINE)
        machine["stat_inactive"], machine["stat_active"] = inactive, pages - inactive
        assert bool(is_low(machine)) is low


@kernel
def submit_all(machine, pages, writes, in_flight):
    start_plug(machine[0])
    for page in range(in_flight.size):
        submit_write(machine[0], pages, writes, page)
        in_flight[page] = machine[0]["io_count"]


@pytest.mark.parametrize(
    ("runs", "settings", "issued"),
    [
        # Requests of one page each: the 33rd sends the others on their way.
        ([1] * 33, {}, {32: 0, 33: 32}),
        ([1] * 65, {}, {64: 32, 65: 64}),
        # A request behind one of 128 KiB sends that; one behind 124 KiB waits.
        ([32, 1], {}, {32: 0, 33: 32}),
        ([31, 1, 1], {}, {33: 0}),
        # Whether the newest is looked at (6.1) or the oldest.
        ([1, 32, 1, 1], {"plug_by_newest": 1}, {33: 0, 34: 33, 35: 33}),
        ([1, 32, 1, 1], {"plug_by_newest": 0}, {35: 0}),
        # A disk takes so many segments in one request.
        ([255], {}, {254: 0, 255: 254}),
        # Clusters are filled in their holes (6.13), and who is beside whom is not known.
        ([33], {"slot_clusters": 1}, {32: 0, 33: 32}),
        ([33], {"slot_clusters": 1, "slot_room": 9}, {33: 0}),
    ],
)
def test_a_plug_is_emptied_by_requests(runs, settings, issued):
    slots = []
    for pages in runs:
        first = slots[-1] + 2 if slots else 1
        slots += range(first, first + pages)
    machine = np.zeros(1, MACHINE)
    machine["plugged"], machine["device_depth"] = 1, 1024
    for name, value in settings.items():
        machine[name] = value
    pages = np.zeros(len(slots), PAGE)
    pages["slot"] = slots
    in_flight = np.zeros(len(slots), np.int64)
    submit_all(machine, pages, np.zeros(1024 + PLUG_ROOM, WRITE), in_flight)
    assert {after: in_flight[after - 1] for after in issued} == issued


@kernel
def submit_and_sleep(machine, pages, writes, times, sleeps_ns):
    m = machine[0]
    for page in range(times.size):
        m["clock_ns"] = times[page]
        submit_write(m, pages, writes, page)
    if sleeps_ns >= 0:
        m["clock_ns"] = sleeps_ns
        dispatch(m, writes)


@pytest.mark.parametrize(
    ("wait", "times", "sleeps", "done"),
    [
        # No worker to wait for: each write at once, one behind the other.
        (0, [1_000, 1_010, 3_000], -1, [1_100, 1_200, 3_100]),
        # The first finds the slice over and goes at once. The next two go, as one, when that slice ends.
        (700, [1_000, 1_010, 1_500, 1_800], -1, [1_100, 1_800, 1_810, 2_500]),
        # A task that sleeps lets the worker run: what waits goes then.
        (700, [1_000, 1_010, 1_020], 1_300, [1_100, 1_400, 1_410]),
        # What the device has already is not begun anew.
        (700, [1_000, 1_010], 1_800, [1_100, 1_800]),
    ],
)
def test_writes_wait_for_the_worker_of_the_block_layer(wait, times, sleeps, done):
    """Without a plug, block/blk-mq.c:blk_mq_submit_bio(): blk_mq_run_hw_queue(hctx, async)."""
    machine = np.zeros(1, MACHINE)
    machine["device_depth"], machine["device_write_ns"] = 8, 100
    machine["dispatch_wait_ns"], machine["device_write_page_ns"] = wait, 10
    machine["request_start"] = machine["request_end"] = -1
    pages = np.zeros(len(times), PAGE)
    pages["slot"] = np.arange(1, len(times) + 1)
    writes = np.zeros(8 + PLUG_ROOM, WRITE)
    submit_and_sleep(machine, pages, writes, np.array(times), sleeps)
    assert writes["done_ns"][: len(times)].tolist() == done


def test_a_clock_set_anew_leaves_writes_in_flight_for_as_long():
    scenario = Scenario(policy="no-zswap", memory_limit_bytes=1 << 20)
    replay = find_reclaim("two-list").replay(scenario, rows=1, unique_pages=1, means=Means())
    m = replay.machine[0]
    m["clock_ns"], m["io_head"], m["io_count"], m["io_last_ns"] = (
        5_000,
        m["device_depth"] - 1,
        2,
        5_300,
    )
    replay.writes["done_ns"][[-1 - PLUG_ROOM, 0]] = 5_100, 5_300
    replay.set_clock(Means(), 2_000)
    assert replay.writes["done_ns"][[-1 - PLUG_ROOM, 0]].tolist() == [2_100, 2_300]
    assert m["io_last_ns"] == 2_300

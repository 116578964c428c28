"""Costs, latencies and queueing."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import oracle
import polars as pl
import pytest
from drawn import feed, make_replay, with_rows
from hypothesis import given, settings
from hypothesis import strategies as some

from tracereplay.costs import Costs, Quantiles, load_costs, own_disks, with_sections
from tracereplay.errors import InputError, SettingsError
from tracereplay.latency import (
    EDGES_NS,
    SWAP_IN_SERVICES,
    LatencyModel,
    percentiles,
)
from tracereplay.replay.state import (
    BACKGROUND,
    DEVICE,
    EVENT,
    MINOR,
    SWAP_CACHE,
    ZSWAP,
    ZSWAP_RAW,
)
from tracereplay.schema import CODECS, LATENCY, SERVICES, polars_schema
from tracereplay.touch_times import (
    TimedRun,
    faults_since,
    fit_device,
    fit_faults,
    predict_touches,
    slow_touches,
)
from tracereplay.units import PAGE_BYTES


def events_of(count: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    events = np.zeros(count, EVENT)
    events["access"] = np.cumsum(rng.integers(1, 5, count))
    events["clock_ns"] = np.cumsum(rng.integers(1, 30_000, count))
    events["service"] = rng.choice([0, 1, 2, 3, 3, 3, 4, 5, BACKGROUND], count)
    events["size_bytes"] = rng.integers(1, 4096, count)
    reclaims = rng.random(count) < 0.05
    events["scanned"][reclaims] = 140
    events["stored"][reclaims] = 40
    events["stored_bytes"][reclaims] = 40 * 1500
    events["raw"][reclaims] = 3
    events["rejected"][reclaims] = 2
    events["written"][reclaims] = 4
    events["waits"][reclaims] = rng.integers(0, 2, int(reclaims.sum()))
    events["read_ahead"][events["service"] == DEVICE] = 3
    events["written_back"][events["service"] == BACKGROUND] = 2
    return events


def histogram(pairs: list[tuple[str, int, int]]) -> pl.DataFrame:
    """Return a histogram of (service, latency, count)."""
    rows = []
    for service, latency, count in pairs:
        at = int(np.searchsorted(EDGES_NS, latency, "right")) - 1
        rows.append(("s", service, int(EDGES_NS[at]), int(EDGES_NS[at + 1]), count))
    return pl.DataFrame(rows, schema=polars_schema(LATENCY), orient="row")


def fixed_device(read_ns: float, write_ns: float = 0.0, channels: int = 1) -> Costs:
    """Return costs where only the device takes time, always the same."""
    costs = load_costs(device="nvme")
    device = dataclasses.replace(
        costs.device,
        read_ns=Quantiles.constant(read_ns),
        write_ns=Quantiles.constant(write_ns),
        extra_page_ns=0.0,
        submit_ns=0.0,
        channels=channels,
    )
    return dataclasses.replace(
        costs,
        device=device,
        faults=dict.fromkeys(costs.faults, 0.0),
        codec=dict.fromkeys(costs.codec, 0.0),
    )


def without_spread(costs: Costs) -> Costs:
    one = Quantiles.constant(1.0)
    return dataclasses.replace(
        costs, fault_spread=one, minor_spread=one, reclaim_spread=one, decompress_spread=one
    )


def latency_of(costs: Costs, service: int, **fields: int) -> int:
    events = np.zeros(1, EVENT)
    events["service"] = service
    events["touched_pages"] = (256 << 20) // PAGE_BYTES - 1
    for name, value in fields.items():
        events[name] = value
    return int(LatencyModel(costs).latencies(events)[0])


def test_buckets_are_at_most_five_percent_wide() -> None:
    low, high = EDGES_NS[:-1], EDGES_NS[1:]
    assert (high > low).all()
    assert ((high - low == 1) | (high <= low * 1.05)).all()


def test_every_touch_is_counted_in_the_bucket_that_holds_its_latency() -> None:
    events = events_of(4000)
    model = LatencyModel(load_costs(), seed=3)
    latency = model.latencies(events)
    touches = events["service"] != BACKGROUND
    assert model.stall_total_ns == int(latency.sum())
    frame = model.frame("s")
    assert frame.schema == polars_schema(LATENCY)
    for index, service in enumerate(SERVICES):
        of = latency[touches & (events["service"] == index)]
        rows = frame.filter(service=service)
        assert rows["count"].sum() == of.size
        for row in rows.iter_rows(named=True):
            inside = (of >= row["latency_ns_low"]) & (of < row["latency_ns_high"])
            assert int(inside.sum()) == row["count"]


@settings(max_examples=25, deadline=None)
@given(cuts=some.lists(some.integers(0, 600), max_size=6))
def test_splitting_into_batches_changes_nothing(cuts: list[int]) -> None:
    events = events_of(600)
    whole = LatencyModel(load_costs(), seed=9)
    whole.add(events)
    split = LatencyModel(load_costs(), seed=9)
    for part in np.split(events, sorted(cuts)):
        split.add(part)
    assert split.frame("s").equals(whole.frame("s"))
    assert split.stall_total_ns == whole.stall_total_ns


def test_equal_seeds_agree_and_others_differ() -> None:
    events = events_of(500)
    first, same, other = (LatencyModel(load_costs(), seed).latencies(events) for seed in (1, 1, 2))
    assert (first == same).all()
    assert (first != other).any()


@pytest.mark.parametrize("load", [0.1, 0.5, 0.9])
def test_queueing_delay_is_that_of_an_m_d_1_queue(load: float) -> None:
    service_ns, count = 100_000, 200_000
    rng = np.random.default_rng(5)
    events = np.zeros(count, EVENT)
    events["access"] = np.arange(count)
    events["service"] = DEVICE
    events["clock_ns"] = np.cumsum(rng.exponential(service_ns / load, count)).astype(np.int64)
    model = LatencyModel(fixed_device(service_ns), overlap=True)
    waited = model.latencies(events) - service_ns
    expected = load / (2 * (1 - load)) * service_ns
    assert waited.min() == 0
    assert np.mean(waited) == pytest.approx(expected, rel=0.05)


def test_a_read_waits_for_the_writes_before_it() -> None:
    events = np.zeros(2, EVENT)
    events["service"] = [BACKGROUND, DEVICE]
    events["written_back"] = [3, 0]
    events["clock_ns"] = [0, 10]
    one = LatencyModel(fixed_device(100.0, 1000.0)).latencies(events)
    assert one.tolist() == [0, 3000 - 10 + 100]
    four = LatencyModel(fixed_device(100.0, 1000.0, channels=4)).latencies(events)
    assert four.tolist() == [0, 100]


def test_reclaim_that_waits_sleeps_until_the_oldest_write_is_done() -> None:
    events = np.zeros(2, EVENT)
    events["service"] = 0
    events["written"] = [3, 0]
    events["scanned"] = 1
    events["waits"] = [2, 0]
    latency = LatencyModel(fixed_device(0.0, 1000.0)).latencies(events)
    assert latency.tolist() == [2000, 0]


# Figures that no two sums of share: what an event takes tells what was counted.
FIGURES = {
    "minor_fault_ns": 1e3, "scan_ns": 1e4, "reclaim_ns": 2e4, "unmap_ns": 1e5, "pool_ns": 1e6,
    "raw_copy_ns": 5e3, "major_fault_ns": 2e3, "zero_fill_ns": 3e3, "swap_cache_ns": 4e3,
}  # fmt: skip
CODEC = {
    "compress_ns": 1e7, "compress_ns_per_byte": 1.0, "compress_fail_ns": 1e8,
    "decompress_ns": 1e9, "decompress_ns_per_byte": 2.0,
}  # fmt: skip


def worked_costs() -> Costs:
    costs = without_spread(load_costs())
    device = dataclasses.replace(
        costs.device,
        read_ns=Quantiles.constant(50_000.0),
        write_ns=Quantiles.constant(0.0),
        submit_ns=7.0,
        request_ns=70.0,
        behind_ns=700.0,
        extra_page_ns=300.0,
        channels=1,
        load_extra_ns=11.0,
        store_extra_ns=0.0,
    )
    faults = {**dict.fromkeys(costs.faults, 0.0), **FIGURES}
    return dataclasses.replace(
        costs, device=device, faults=faults, codec=CODEC, decompress_points=(), memory_points=()
    )


@pytest.mark.parametrize(
    ("did", "takes_ns"),
    [
        ({}, 2e4),
        ({"scanned": 3}, 2e4 + 2e4),
        ({"dropped": 1}, 2e4 + 1e5),
        ({"stored": 1, "stored_bytes": 1000}, 2e4 + 1e5 + 1e7 + 1000 + 1e6),
        ({"stored": 1, "raw": 1, "stored_bytes": 4096}, 2e4 + 1e5 + 1e8 + 1e6),
        ({"rejected": 1}, 2e4 + 1e5 + 1e8),
        ({"rejected": 1, "written": 1}, 2e4 + 1e5 + 1e8 + 7),
        ({"written": 2}, 2e4 + 2e5 + 14),
        ({"written": 1, "requests": 1}, 2e4 + 1e5 + 7 + 70),
        ({"written_back": 1, "written_back_bytes": 1000}, 2e4 + 1e9 + 2000 + 7),
    ],
)
def test_reclaim_takes_what_each_thing_it_did_takes(did: dict[str, int], takes_ns: float) -> None:
    taken = latency_of(worked_costs(), MINOR, **{"scanned": 1, **did})
    assert taken == 1e3 + 1e4 + takes_ns


@pytest.mark.parametrize(
    ("service", "did", "takes_ns"),
    [
        (DEVICE, {}, 50_000),
        (DEVICE, {"read_ahead": 3}, 50_000 + 900),
        (DEVICE, {"read_ahead_loads": 2}, 50_000 + 2 * (1e9 + 2 * 2048 + 11)),
        (ZSWAP, {"size_bytes": 1000}, 1e9 + 2000 + 11),
        (ZSWAP, {"size_bytes": 1000, "read_ahead": 3}, 1e9 + 2000 + 11),  # nobody waits for them
        (ZSWAP_RAW, {}, 5e3 + 11),
    ],
)
def test_a_swap_in_takes_what_it_reads_and_reads_ahead(service, did, takes_ns) -> None:
    assert latency_of(worked_costs(), service, **did) == 2e3 + takes_ns


def test_a_read_right_behind_the_writes_of_its_reclaim_waits_for_them() -> None:
    written = {"scanned": 1, "written": 1}
    at_once, behind = (
        latency_of(worked_costs(), DEVICE, requests=count, **written) for count in (0, 1)
    )
    assert behind - at_once == 70 + 700


def test_what_a_load_from_zswap_has_read_ahead_keeps_the_device_busy() -> None:
    events = np.zeros(2, EVENT)
    events["service"] = [ZSWAP_RAW, DEVICE]
    events["read_ahead"] = [2, 0]
    latency = LatencyModel(worked_costs()).latencies(events)
    assert latency.tolist() == [2e3 + 5e3 + 11, 50_000 + 600 + 50_000]


def far_and_near(costs: Costs, service: int) -> list[int]:
    """Return the latency of a touch whose answer is not in the caches, and of one whose answer is."""
    events = np.zeros(2, EVENT)
    events["service"] = service
    events["touched_pages"] = 16_383
    events["clock_ns"] = [0, 1_000_000]
    events["near"] = [0, 1]
    events["access"] = 7  # the same draws
    costs = dataclasses.replace(costs, fault_spread=Quantiles.constant(1.0))
    return [int(each) for each in LatencyModel(costs).latencies(events)]


def test_a_load_beside_the_page_before_waits_for_memory_half_as_often() -> None:
    costs = load_costs()
    alone, beside = far_and_near(costs, ZSWAP_RAW)
    saved = costs.faults["load_misses"] * float(costs.memory_ns(16_384 * 4096)) / 2
    assert alone - beside == pytest.approx(saved, abs=2)


def test_a_page_that_came_in_long_ago_waits_for_memory_in_the_swap_cache_too() -> None:
    costs = load_costs()
    long_ago, just_now = far_and_near(costs, SWAP_CACHE)
    assert just_now == pytest.approx(costs.faults["swap_cache_ns"], abs=1)
    # A load waits for zswap's entry and object as well: two of six.
    waits = costs.faults["load_misses"] * float(costs.memory_ns(16_384 * 4096)) * 4 / 6
    assert long_ago - just_now == pytest.approx(waits, abs=2)


def test_the_replay_tells_which_pages_came_in_just_now() -> None:
    # 300 pages in memory for 256: 0 has left, and brings 1 and 2 in with it. 1 is met at once, 2 when
    # 64 more first touches have been.
    seen = []
    case = oracle.Case(
        policy="store-raw", reclaim="two-list", limit_bytes=256 * 4096, pool_limit_pages=1000,
        cgroup="v1", page_cluster=2,
    )  # fmt: skip
    content = {"zero": False, "same": False, "compressed": 1000, "new_tables": 0}
    fill = list(range(300))
    late = list(range(300, 364))  # first touches: faults that bring nothing in
    pages = [*fill, 0, 1, *late, 2]
    rows = len(pages)
    drawn = with_rows(
        case, dict.fromkeys(range(364), content), pages, [False] * rows, [None] * rows
    )
    feed(make_replay(drawn), drawn, on_events=lambda events: seen.append(events.copy()))
    events = np.concatenate(seen)
    hits = events[events["service"] == SWAP_CACHE]
    assert hits["access"].tolist() == [301, 366]
    assert hits["near"].tolist() == [1, 0]


def test_the_replay_tells_which_page_faults_beside_the_last_one() -> None:
    # Ids come in the order of first touch: 0 to 19, then 3, 11, 2, 9 of them are faults again.
    seen = []
    case = oracle.Case(
        policy="store-raw", reclaim="lru", limit_bytes=2 * 4096, pool_limit_pages=100, cgroup="v1"
    )
    content = {"zero": False, "same": False, "compressed": 1000, "new_tables": 0}
    pages = [*range(20), 3, 11, 2, 9]
    rows = len(pages)
    drawn = with_rows(case, dict.fromkeys(range(20), content), pages, [False] * rows, [None] * rows)
    feed(make_replay(drawn), drawn, on_events=lambda events: seen.append(events.copy()))
    beside = np.concatenate(seen)["near"].tolist()
    assert beside[1:20] == [1] * 19
    assert beside[20:] == [0, 0, 0, 1]


def test_a_touch_starts_when_the_one_before_is_done() -> None:
    events = np.zeros(2, EVENT)
    events["service"] = DEVICE
    events["clock_ns"] = [0, 10]
    assert LatencyModel(fixed_device(500.0)).latencies(events).tolist() == [500, 500]
    assert LatencyModel(fixed_device(500.0), overlap=True).latencies(events).tolist() == [500, 990]


def test_percentiles_are_upper_edges_of_the_buckets_that_hold_them() -> None:
    frame = histogram([("zswap", 3000, 90), ("device", 80_000, 9), ("zero", 5_000_000, 1)])
    found = percentiles(frame)
    for name, latency in {"p50": 3000, "p90": 3000, "p99": 80_000, "p999": 5_000_000}.items():
        value = found[name]
        assert value is not None
        assert latency < value <= latency * 1.05 + 1
    assert found["max"] == found["p999"]
    assert found["mean"] == pytest.approx((3000 * 90 + 80_000 * 9 + 5_000_000) / 100, rel=0.03)


def test_minor_faults_are_no_swap_ins() -> None:
    assert "minor" not in SWAP_IN_SERVICES
    frame = histogram([("minor", 1000, 5)])
    assert set(percentiles(frame).values()) == {None}


@settings(max_examples=50, deadline=None)
@given(
    some.lists(
        some.tuples(
            some.sampled_from(SWAP_IN_SERVICES), some.integers(0, 1 << 40), some.integers(1, 9)
        ),
        min_size=1,
        max_size=30,
    )
)
def test_percentiles_bound_the_true_ones_from_above(pairs: list[tuple[str, int, int]]) -> None:
    found = percentiles(histogram(pairs))
    every = sorted(np.repeat([p[1] for p in pairs], [p[2] for p in pairs]).tolist())
    for name, share in {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}.items():
        true = every[math.ceil(share * len(every)) - 1]
        value = found[name]
        assert value is not None
        assert true < value <= max(true * 1.05, true + 1)
    order = [found[name] for name in ("p50", "p90", "p99", "p999", "max")]
    assert order == sorted(order, key=lambda value: value or 0)


def test_a_table_of_quantiles_keeps_mean_and_order() -> None:
    quantiles = Quantiles(np.array([0.0, 0.5, 0.99, 1.0]), np.array([10.0, 20.0, 100.0, 900.0]))
    table = quantiles.table(4096)
    assert (np.diff(table) >= 0).all()
    assert table.mean() == pytest.approx(quantiles.mean(), rel=1e-3)
    assert Quantiles.constant(7.0).mean() == 7.0


@pytest.mark.parametrize("device", [*own_disks("default"), "zram", "none"])
@pytest.mark.parametrize("codec", CODECS)
def test_the_bundled_table_knows_every_codec_and_device(device: str, codec: str) -> None:
    costs = load_costs(device=device, codec=codec)
    means = costs.means()
    assert means.load_ns > 0
    assert means.store_ns > means.load_ns
    assert (means.device_read_ns > 0) == (device not in ("zram", "none"))


def test_the_clock_of_a_replay_takes_what_the_latencies_take_on_average() -> None:
    """means() is for the clock, LatencyModel for the figures: one and the same work."""
    costs = without_spread(load_costs(codec="lzo"))
    means, cold = costs.means(), costs.faults["cold_page_ns"]
    minor = latency_of(costs, MINOR)
    assert minor == pytest.approx(means.minor_fault_ns + cold, abs=2)
    load = latency_of(costs, ZSWAP, size_bytes=1500)
    assert load == pytest.approx(means.major_fault_ns + cold + means.load_ns, abs=40)
    raw = latency_of(costs, ZSWAP_RAW)
    assert raw == pytest.approx(means.major_fault_ns + cold + means.raw_copy_ns, abs=40)
    scan = costs.faults["reclaim_ns"] + means.scan_ns
    stored = latency_of(costs, MINOR, scanned=1, stored=1, stored_bytes=1500) - minor
    # The page stored is warm at once: with two thirds of a chance nothing is cleared from memory.
    assert stored in (
        pytest.approx(scan + means.store_ns, abs=40),
        pytest.approx(scan + means.store_ns - cold, abs=40),
    )


def test_a_device_that_compresses_behind_zswap_charges_its_extra_to_its_own_reads_alone() -> None:
    zram = without_spread(load_costs(device="zram"))
    behind = zram.before_device()
    usual = without_spread(load_costs())
    assert zram.device.load_extra_ns != 0
    for service, size in ((ZSWAP, 1500), (ZSWAP_RAW, 0)):
        assert latency_of(behind, service, size_bytes=size) == latency_of(
            usual, service, size_bytes=size
        )
    assert behind.device.read_ns.mean() == pytest.approx(zram.load_ns(1500))
    assert behind.device.write_ns.mean() == pytest.approx(zram.store_ns(1500))


def test_a_load_takes_the_mean_of_its_spread() -> None:
    costs = load_costs()
    plain = dataclasses.replace(costs, decompress_spread=Quantiles.constant(1.0))
    twice = dataclasses.replace(costs, decompress_spread=Quantiles.constant(2.0))
    assert twice.load_ns(1500) == pytest.approx(2 * plain.load_ns(1500))


def test_every_bundled_figure_has_a_source() -> None:
    raw = load_costs().raw
    for section in (raw["faults"], raw["codecs"], raw["devices"]):
        for figure, given_value in section.items():
            assert given_value["source"], figure


def test_a_table_of_ones_own_takes_the_rest_from_the_bundled_one(tmp_path) -> None:
    path = tmp_path / "costs.json"
    path.write_text(
        json.dumps({"name": "mine", "machine": "m", "codecs": {"lzo": {"decompress_ns": 12345}}})
    )
    costs = load_costs(path)
    assert costs.codec["decompress_ns"] == 12345
    assert costs.codec["compress_ns"] == load_costs().codec["compress_ns"]
    assert costs.name == "mine"
    assert "bundled" in costs.source


def test_a_fit_of_a_codec_goes_into_the_costs_that_fit_the_device() -> None:
    fitted = with_sections(load_costs(), {"codecs": {"lzo": {"decompress_ns": 12_345}}})
    assert fitted.codec["decompress_ns"] == 12_345


def test_a_table_with_one_spread_of_faults_has_it_for_minor_ones_too() -> None:
    bundled = load_costs()
    spread = {"quantiles": [[0, 0.5], [1, 1.5]]}
    faults = dict(bundled.raw["faults"])
    del faults["minor_spread"]
    costs = with_sections(
        dataclasses.replace(bundled, raw={**bundled.raw, "faults": faults}),
        {"faults": {"fault_spread": spread}},
    )
    assert costs.minor_spread.value.tolist() == [0.5, 1.5]


def test_ones_own_codec_is_not_mixed_with_the_bundled_one_on_random_lines(tmp_path) -> None:
    path = tmp_path / "costs.json"
    path.write_text(json.dumps({"codecs": {"lzo": {"decompress_ns": 12_345}}}))
    assert load_costs(path, random_lines=True).codec == load_costs(path).codec
    assert load_costs(random_lines=True).codec != load_costs().codec


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "no cost table"),
        ("[1]", "no cost table"),
        ('{"codecs": {"lzo": {"decompress_ns": -1}}}', "decompress_ns is -1"),
        ('{"codecs": {"lzo": {"decompress_ns": "fast"}}}', "not a usable cost table"),
        ('{"codecs": 3}', "no object"),
        ('{"schema": "9", "codecs": {}}', "schema 9"),
        ('{"devices": {"nvme": {"channels": 0}}}', "at least 1"),
        ('{"devices": {"nvme": {"read_ns": {"quantiles": [[0, 5], [1, 2]]}}}}', "ascend"),
        ('{"devices": {"nvme": {"submit_ns": 1e19}}}', "submit_ns is 1e\\+19"),
        ('{"devices": {"nvme": 5}}', "devices 'nvme' is no table of figures"),
        (
            '{"devices": {"nvme": {"raed_ns": 90000}}}',
            "unknown figure raed_ns; there are behind_ns",
        ),
    ],
)
def test_a_broken_table_is_one_line_that_names_the_file(tmp_path, text: str, says: str) -> None:
    path = tmp_path / "costs.json"
    path.write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        load_costs(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_device_of_ones_own_says_what_a_read_and_a_write_take(tmp_path) -> None:
    path = tmp_path / "costs.json"
    for figures, says in (
        ({"read_ns": 90_000}, "no write_ns"),
        ({"write_ns": 90_000}, "no read_ns"),
    ):
        path.write_text(json.dumps({"devices": {"cxl": figures}}))
        with pytest.raises(InputError, match=says):
            load_costs(path, "cxl")
    path.write_text(json.dumps({"devices": {"cxl": {"read_ns": 700, "write_ns": 900, "by": "me"}}}))
    assert load_costs(path, "cxl").device.write_ns.mean() == 900


def test_unknown_names_are_answered_with_near_ones(tmp_path) -> None:
    with pytest.raises(SettingsError, match="nvme"):
        load_costs(device="nvm")
    with pytest.raises(SettingsError, match="lzo"):
        load_costs(codec="lzoo")
    with pytest.raises(InputError, match="No such file"):
        load_costs(tmp_path / "absent.json")


def test_a_decompression_takes_what_the_table_says_for_its_size() -> None:
    costs = load_costs("linux-6.18", "virtual-disk", "lzo")
    costs = dataclasses.replace(costs, faults=dict.fromkeys(costs.faults, 0.0))
    events = np.zeros(3, EVENT)
    events["service"] = 3
    events["size_bytes"] = [44, 1101, 2741]
    assert LatencyModel(costs).latencies(events).tolist() == [
        int(costs.decompress_table()[size]) for size in (44, 1101, 2741)
    ]


def test_slow_touches_leave_out_what_is_under_a_microsecond() -> None:
    touches = np.array([20, 900, 1000, 2000, 4000], np.uint32)
    assert slow_touches(touches)["touch_p50_ns"] == 3000
    assert slow_touches(touches)["touch_total_ns"] == touches.sum()
    assert slow_touches(touches[:2]) == {}


def test_a_touch_that_hits_knows_the_faults_since_the_one_before_and_the_share_of_the_device() -> (
    None
):
    events = np.zeros(3, EVENT)
    events["access"], events["service"] = [0, 1, 2], [MINOR, DEVICE, MINOR]
    since = faults_since(np.array([0, 1, 2, 0, 1], np.uint32), events)
    assert since.rows.tolist() == [3, 4]
    assert since.faults.tolist() == [2, 1]
    assert since.device_share.tolist() == [0.5, 0]


def made_run(costs: Costs, *, zswap: bool, every: int = 1, raw_share: float = 0.3) -> TimedRun:
    """Return a run whose touches take what costs say: 4,000 first touches, then loads and hits.

    Every so many touches of the beginning are a first one, those between hits of the same page.
    """
    rng = np.random.default_rng(11)
    first, later = 4000, 36_000
    begin = first * every
    pages = np.concatenate(
        [np.repeat(np.arange(first), every), rng.integers(0, first, later)]
    ).astype(np.uint32)
    rows = np.concatenate(
        [
            np.arange(0, begin, every),
            np.sort(rng.choice(np.arange(begin, pages.size), 20_000, replace=False)),
        ]
    )
    events = np.zeros(rows.size, EVENT)
    events["access"] = rows
    events["clock_ns"] = rows * 100_000
    events["touched_pages"] = 1 << 16  # as if each page stood for many
    back = rows >= begin
    if zswap:
        events["service"] = np.where(
            back, np.where(rng.random(rows.size) < raw_share, ZSWAP_RAW, ZSWAP), 0
        )
        events["size_bytes"] = np.where(
            events["service"] == ZSWAP, rng.choice([600, 1600, 2700]), 0
        )
    else:
        events["service"] = np.where(back, DEVICE, 0)
    reclaims = np.arange(2000, rows.size, 48)
    events["scanned"][reclaims] = 96
    events["scanned"][reclaims[0]] = 4000
    events["stored" if zswap else "written"][reclaims] = 48
    events["stored_bytes"][reclaims] = 48 * 1500 if zswap else 0
    events["requests"][reclaims] = 0 if zswap else rng.integers(4, 40, reclaims.size)
    return TimedRun("made", pages, predict_touches(pages, events, costs, seed=5), events)


def test_a_fit_to_predicted_touches_finds_the_costs_they_were_predicted_by() -> None:
    costs = load_costs("linux-6.18", "virtual-disk", "lzo")
    table = fit_faults(made_run(costs, zswap=True), costs)
    found = {name: section.get("value") for name, section in table["faults"].items()}
    assert found["minor_fault_ns"] == pytest.approx(costs.faults["minor_fault_ns"], rel=0.1)
    assert found["cold_page_ns"] == pytest.approx(costs.faults["cold_page_ns"], rel=0.1)
    assert found["load_misses"] == pytest.approx(costs.faults["load_misses"], rel=0.1)
    assert found["warm_ratio"] == pytest.approx(costs.faults["warm_ratio"], abs=0.1)
    assert found["evict_misses"] == pytest.approx(costs.faults["evict_misses"], rel=0.2)
    device = fit_device(made_run(costs, zswap=False), costs)
    middle = dict(device["read_ns"]["quantiles"])[0.5]
    assert middle == pytest.approx(float(np.median(costs.device.read_ns.table(1001))), rel=0.05)
    assert device["request_ns"]["value"] == pytest.approx(costs.device.request_ns, rel=0.2)
    assert device["behind_ns"]["value"] == pytest.approx(costs.device.behind_ns, rel=0.2)


def test_a_fit_ascribes_to_memory_no_more_answers_than_a_load_or_a_store_can_wait_for() -> None:
    costs = load_costs("linux-6.18", "virtual-disk", "lzo")
    slower = dict(costs.faults, raw_copy_ns=3000.0, pool_ns=9000.0)
    run = made_run(dataclasses.replace(costs, faults=slower), zswap=True)
    found = {n: f.get("value") for n, f in fit_faults(run, costs)["faults"].items()}
    assert found["load_misses"] == 6
    assert found["evict_misses"] == 6
    # What it cannot tell from those is no more than the misses that these costs themselves lack.
    memory = float(costs.memory_ns((1 << 16) * 4096))
    less = {name: (6 - costs.faults[name]) * memory for name in ("load_misses", "evict_misses")}
    assert found["raw_copy_ns"] == pytest.approx(3000 - less["load_misses"], rel=0.1)
    assert found["pool_ns"] == pytest.approx(9000 - less["evict_misses"], rel=0.1)


def test_a_fit_finds_the_first_reclaim_where_touches_of_known_pages_come_before_it() -> None:
    costs = load_costs("linux-6.18", "virtual-disk", "lzo")
    run = made_run(costs, zswap=True, every=9)
    touch_ns = run.touch_ns.copy()
    touch_ns[100] = 40_000_000  # a pause of the machine, long before
    at = int(run.events["access"][run.events["scanned"] > 0][0])
    touch_ns[[at - 60 * 9, at]] = touch_ns[
        [at, at - 60 * 9]
    ]  # sooner, by less than a batch of charges
    expected = fit_faults(made_run(costs, zswap=True), costs)["faults"]
    faults = fit_faults(dataclasses.replace(run, touch_ns=touch_ns), costs)["faults"]
    for name in ("scan_ns", "evict_misses"):
        assert faults[name]["value"] == pytest.approx(expected[name]["value"], rel=0.1), name
    spread = dict(faults["reclaim_spread"]["quantiles"])
    assert 0.9 < spread[0.5] < 1.1


def test_a_fit_without_loads_of_raw_pages_takes_what_they_tell_from_its_base() -> None:
    costs = load_costs("linux-6.18", "virtual-disk", "lzo")
    table = fit_faults(made_run(costs, zswap=True, raw_share=0), costs)
    given = costs.raw["faults"]["load_misses"]
    assert table["faults"]["load_misses"] == {"value": given["value"], "source": given["source"]}
    found = dict(table["codecs"]["lzo"]["decompress_by_bytes"]["points"])
    of_the_base = costs.decompress_table()
    assert found[1600] == pytest.approx(of_the_base[1600], rel=0.1)


def test_a_run_that_cannot_tell_costs_is_refused() -> None:
    costs = load_costs("linux-6.18", "virtual-disk", "lzo")
    with_zswap, plain = made_run(costs, zswap=True), made_run(costs, zswap=False)
    slow = dataclasses.replace(with_zswap, touch_ns=with_zswap.touch_ns * 20)  # an emulator
    faults = with_zswap.events["access"]
    all_fault = dataclasses.replace(
        with_zswap,
        page_ids=with_zswap.page_ids[faults],
        touch_ns=with_zswap.touch_ns[faults],
        events=with_zswap.events.copy(),
    )
    all_fault.events["access"] = np.arange(faults.size)
    few_writes = dataclasses.replace(plain, events=plain.events.copy())
    few_writes.events["written"] = np.minimum(few_writes.events["written"], 4)
    for fit, run, what in (
        (fit_faults, plain, "loads of any one compressed size"),
        (fit_faults, slow, "first touches of .5 to 10 us before its first reclaim"),
        (fit_faults, all_fault, "touches of pages in memory"),
        (fit_device, with_zswap, "reads from the device"),
        (fit_device, few_writes, "reads in a reclaim that writes 8 pages or more"),
    ):
        with pytest.raises(InputError, match=f"^made: too few {what} to fit"):
            fit(run, costs)


def test_what_the_read_after_a_reclaim_waits_is_shared_by_the_writes_before_it() -> None:
    costs = load_costs("linux-6.18", "virtual-disk", "lzo")
    run = made_run(costs, zswap=False)
    rows = run.events["access"].astype(np.int64)
    reclaims = np.flatnonzero((run.events["scanned"] > 0) & (run.events["service"] == DEVICE))
    touch_ns = run.touch_ns.copy()
    touch_ns[rows[reclaims[reclaims + 1 < rows.size] + 1]] += 48 * 500
    for touches, write_ns in ((run.touch_ns, 0), (touch_ns, 500)):
        device = fit_device(dataclasses.replace(run, touch_ns=touches), costs)
        assert device["write_ns"]["value"] == pytest.approx(write_ns, abs=25)


def test_loads_take_longer_the_more_memory_is_in_use() -> None:
    events = np.zeros(4000, EVENT)
    events["access"] = np.arange(events.size)
    events["service"] = ZSWAP
    events["size_bytes"] = 1600
    means = []
    for touched in (1 << 12, 1 << 16, 1 << 20):
        events["touched_pages"] = touched
        costs = load_costs("linux-6.18", "virtual-disk")
        means.append(LatencyModel(costs).latencies(events).mean())
    assert means[0] < 0.9 * means[1] < 0.9 * means[2]


def test_touches_of_mapped_pages_take_longer_the_more_memory_is_in_use() -> None:
    costs = load_costs("linux-6.18", "virtual-disk")
    pages = np.concatenate([np.arange(2000), np.tile(np.arange(2000), 3)]).astype(np.uint32)
    events = np.zeros(4000, EVENT)
    events["access"] = [*range(2000), *range(2001, 6001, 2)]
    events["service"] = np.where(events["access"] < 2000, MINOR, ZSWAP)
    events["size_bytes"] = 1600
    hits = np.setdiff1d(np.arange(pages.size), events["access"])
    means = []
    for touched in (1 << 12, 1 << 16, 1 << 20):
        events["touched_pages"] = touched
        means.append(predict_touches(pages, events, costs)[hits].mean())
    assert means[0] < 0.95 * means[1] < 0.95 * means[2]

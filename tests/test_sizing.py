"""`size`: the smallest memory that meets targets."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from tracereplay.cli import app
from tracereplay.comparison import compare, make_scenarios
from tracereplay.errors import SettingsError
from tracereplay.replay.settings import Scenario
from tracereplay.sizing import _Search, find_sizes, parse_target
from tracereplay.trace import open_trace

PAGES = 2048


@pytest.fixture(scope="module")
def trace_path(tmp_path_factory):
    rng = np.random.default_rng(3)
    weight = 1 / np.arange(1, PAGES + 1) ** 0.8
    touched = rng.choice(PAGES, 30_000, p=weight / weight.sum())
    path = tmp_path_factory.mktemp("sizing") / "zipf.parquet"
    pl.DataFrame(
        {
            "time_ns": np.arange(touched.size, dtype=np.uint64) * 20_000,
            "page": touched.astype(np.uint64),
            "is_write": rng.random(touched.size) < 0.3,
        }
    ).write_parquet(path, metadata={"tracereplay.clock": "mono", "tracereplay.coverage": "full"})
    return path


@pytest.mark.parametrize(
    ("text", "column", "limit", "below"),
    [
        ("p99<50us", "swapin_latency_p99_ns", 50_000, True),
        ("p999 <= 1.5ms", "swapin_latency_p999_ns", 1_500_000, True),
        ("stall_ratio<1%", "stall_ratio", 0.01, True),
        ("pgmajfault<=1000", "pgmajfault", 1000, True),
        ("pool_bytes_peak<64MiB", "pool_bytes_peak", 64 << 20, True),
        ("accesses>5", "accesses", 5, False),
        ("mean<900ns", "swapin_latency_mean_ns", 900, True),
    ],
)
def test_targets_read_as_people_write_them(text, column, limit, below) -> None:
    target = parse_target(text)
    assert (target.column, target.limit, target.below) == (column, limit, below)


@pytest.mark.parametrize(
    "text", ["p99", "p98<5us", "p99<fast", "p99<50", "policy<3", "p99=5us", "accesses<x"]
)
def test_what_is_no_target_is_one_line(text) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_target(text)
    assert "\n" not in str(caught.value)


def test_a_bound_is_met_strictly_or_not_and_no_swap_in_meets_an_upper_one() -> None:
    assert not parse_target("accesses<5").met(5)
    assert parse_target("accesses<=5").met(5)
    assert parse_target("p99<1us").met(None)
    assert not parse_target("p99>1us").met(None)


def test_the_answer_meets_the_target_and_a_step_less_does_not(trace_path) -> None:
    trace = open_trace(trace_path)
    scenarios = make_scenarios(
        trace, policies=["no-zswap"], memory=["100%"], reclaim=["lru"], bounds=False
    )
    target = parse_target("pgmajfault<=3000")
    found = find_sizes(trace, [target], scenarios, precision=0.01)
    row = found.sizes.row(0, named=True)
    size, step = row["memory_limit_bytes"], row["step_bytes"]
    assert 0 < step <= 0.01 * PAGES * 4096
    # Exact LRU misses fall with memory, so a plain scan over all sizes gives the same answer.
    from tracereplay.miss_curve import curve

    misses = curve(trace_path)
    enough = misses.filter(pl.col("misses") - pl.col("cold_misses") <= 3000)
    smallest = int(enough["memory_bytes"].min())
    assert smallest <= size < smallest + step
    assert row["monotonic"]
    seen = found.curve
    assert seen.filter(memory_limit_bytes=size)["meets"].item()
    assert not seen.filter(pl.col("memory_limit_bytes") < smallest)["meets"].any()


def test_values_are_those_of_a_comparison_at_that_size(trace_path) -> None:
    trace = open_trace(trace_path)
    scenarios = make_scenarios(trace, policies=["store-raw"], memory=["100%"], bounds=False)
    target = parse_target("stall_ratio<5%")
    row = find_sizes(trace, [target], scenarios, seed=2).sizes.row(0, named=True)
    again = make_scenarios(
        trace, policies=["store-raw"], memory=[str(row["memory_limit_bytes"])], bounds=False
    )
    summary = compare(trace, again, seed=2).summary
    assert summary["stall_ratio"][0] == pytest.approx(row["stall_ratio<5%"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("footprint_bytes_peak<150%", "footprint_bytes_peak is no share"),
        ("p99<50%", "p99 is no share"),
        ("pgmajfault<nan", "'nan' is no number"),
        ("stall_ratio<inf%", "'inf' is no number"),
    ],
)
def test_a_bound_that_means_nothing_is_refused(text, says) -> None:
    with pytest.raises(SettingsError, match=says):
        parse_target(text)


def test_a_target_nothing_meets_is_said_so(trace_path) -> None:
    arguments = ["size", str(trace_path), "--target", "accesses<1", "--format", "json"]
    done = CliRunner().invoke(app, [*arguments, "-p", "store-raw", "-r", "lru"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["sizes"][0]["memory_limit_bytes"] is None
    assert "no size" in answer["sizes"][0]["confidence"]
    assert len(answer["curve"]) >= 5


def test_the_search_goes_on_where_page_tables_take_more_than_the_pages(tmp_path) -> None:
    rng = np.random.default_rng(1)
    far_apart = np.arange(900) * 512 * 512  # a page table each, and one above it
    pl.DataFrame({"page": far_apart[rng.integers(0, 900, 9_000)]}).write_parquet(
        tmp_path / "sparse.parquet"
    )
    trace = open_trace(tmp_path / "sparse.parquet")
    (scenario,) = make_scenarios(trace, policies=["store-raw"], bounds=False)
    found = find_sizes(trace, [parse_target("p99<1ms")], [scenario], flush_phases=1)
    (row,) = found.sizes.to_dicts()
    assert row["memory_limit_bytes"] > 2 * 900 * 4096
    assert row["step_bytes"] <= 900 * 4096 // 50
    (scenario,) = make_scenarios(trace, policies=["unlimited-memory"], bounds=False)
    found = find_sizes(trace, [parse_target("p99<1ms")], [scenario], flush_phases=1)
    assert found.sizes["confidence"][0].startswith("memory is not limited")


def test_a_size_that_kills_is_no_step_less_than_an_answer(trace_path) -> None:
    trace = open_trace(trace_path)
    (scenario,) = make_scenarios(trace, policies=["ghost-swapfile"], swap_size="1MiB", bounds=False)
    found = find_sizes(trace, [parse_target("pgmajfault<0")], [scenario], flush_phases=1)
    (row,) = found.sizes.to_dicts()
    assert row["memory_limit_bytes"] is None
    assert "a step less" not in row["confidence"]


def searched(met: dict[int, bool], killed: dict[int, float]) -> dict:
    search = _Search(Scenario(memory_limit_bytes=1 << 20), 8 << 20)
    for mib, meets in met.items():
        row = {"swapin_latency_p50_ns": 5, "footprint_bytes_peak": mib << 20}
        search.note(mib << 20, meets, {"p50<1ms": 5.0}, killed.get(mib, 0.0), row)
    return search.answer()


def test_a_smaller_size_that_meets_as_well_is_said() -> None:
    answer = searched({1: True, 2: False, 3: True}, {})
    assert answer["memory_limit_bytes"] == 3 << 20
    assert not answer["monotonic"]
    assert answer["confidence"] == "1 smaller size meets them too, but a larger one fails"


def test_how_many_replays_of_a_step_less_are_killed_is_said() -> None:
    some, all_of_them = (searched({2: False, 3: True}, {2: share}) for share in (0.4, 1.0))
    assert some["confidence"].endswith("a step less ends in an OOM kill in 40% of its replays")
    assert all_of_them["confidence"].endswith("a step less ends in an OOM kill")


def test_the_table_names_policy_codec_and_memory(trace_path, tmp_path) -> None:
    out = tmp_path / "curve.parquet"
    arguments = ["size", str(trace_path), "--target", "p99<50us", "--target", "pgmajfault<9000"]
    arguments += ["-p", "store-raw", "--codec", "lz4", "--codec", "zstd", "-o", str(out)]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "store-raw" in done.stdout
    assert "zstd" in done.stdout
    assert "MiB" in done.stdout
    assert set(pl.read_parquet(out)["codec"]) == {"lz4", "zstd"}


def test_a_stall_ratio_needs_a_clock(tmp_path) -> None:
    path = tmp_path / "bare.parquet"
    pl.DataFrame({"page": np.arange(100, dtype=np.uint64)}).write_parquet(path)
    done = CliRunner().invoke(app, ["size", str(path), "--target", "stall_ratio<1%"])
    assert done.exit_code == 1
    assert "stall_ratio needs a trace with times" in done.stderr


@pytest.fixture
def slow_trace_path(tmp_path):
    """Ten seconds of uniform touches: some phases of the statistics flush end in an OOM kill."""
    rng = np.random.default_rng(3)
    touched = np.concatenate([np.arange(3000), rng.integers(0, 3000, 100_000)])
    path = tmp_path / "slow.parquet"
    pl.DataFrame(
        {
            "page": touched.astype(np.uint64),
            "time_ns": np.arange(touched.size, dtype=np.uint64) * 100_000,
            "is_write": rng.random(touched.size) < 0.3,
        }
    ).write_parquet(path)
    return path


def test_a_size_that_some_phase_of_the_flush_kills_meets_nothing(slow_trace_path) -> None:
    trace = open_trace(slow_trace_path)
    scenarios = make_scenarios(
        trace, policies=["store-raw"], memory=["100%"], bounds=False, cgroup="v1", page_cluster=0
    )
    target = parse_target("pgmajfault>=0")
    found = find_sizes(trace, [target], scenarios, precision=0.05, flush_phases=5)
    alone = find_sizes(trace, [target], scenarios, precision=0.05, flush_phases=1)
    killed = found.curve.filter(pl.col("flush_phases_killed") > 0)
    assert not killed["meets"].any()
    assert found.curve.filter(flush_phases_killed=0)["meets"].all()
    # Replayed once, the trace comes to its end at some of these.
    survived = alone.curve.filter("meets")["memory_limit_bytes"]
    assert killed.filter(pl.col("memory_limit_bytes").is_in(survived.implode())).height
    answer = found.sizes.row(0, named=True)
    assert answer["memory_limit_bytes"] not in killed["memory_limit_bytes"]
    assert "a step less ends in an OOM kill" in answer["confidence"]


def test_size_takes_the_model_options_of_compare(slow_trace_path) -> None:
    arguments = ["size", str(slow_trace_path), "--target", "pgmajfault>=0", "-p", "store-raw"]
    arguments += ["--cgroup", "v1", "--page-cluster", "0", "--precision", "20", "--format", "json"]

    def kills(*options: str) -> int:
        done = CliRunner().invoke(app, [*arguments, *options])
        assert done.exit_code == 0, done.output
        return sum(row["flush_phases_killed"] for row in json.loads(done.stdout)["curve"])

    assert kills() > kills("--stat-flush", "exact")
    refused = CliRunner().invoke(app, [*arguments, "--allocator", "zbud"])
    assert refused.exit_code == 1
    assert "no allocator 'zbud'" in refused.stderr


def test_size_stops_at_the_step_it_was_told_and_says_what_it_assumed(tmp_path) -> None:
    path = str(tmp_path / "loop.parquet")
    pl.DataFrame({"page": np.tile(np.arange(150), 4)}).write_parquet(path)
    words = ["size", path, "--target", "pgmajfault<=200", "-p", "no-zswap", "-r", "lru"]
    coarse, fine = (
        CliRunner().invoke(app, [*words, "--precision", percent, "--format", "json"])
        for percent in ("20", "1")
    )
    few, many = (json.loads(done.stdout)["sizes"][0]["replays"] for done in (coarse, fine))
    assert few < many
    assert "note: no column `pid`" in fine.stderr


def test_a_bound_on_all_memory_is_met_by_small_sizes_alone(trace_path) -> None:
    trace = open_trace(trace_path)
    some = make_scenarios(
        trace, policies=["zram"], memory=["100%"], cgroup="v1", stat_flush="exact", bounds=False
    )
    target = parse_target("footprint_bytes_peak<6MiB")
    found = find_sizes(trace, [target], some, precision=0.05)
    answer = found.sizes.row(0, named=True)
    assert answer["memory_limit_bytes"] < answer["in_all_bytes"] < 6 << 20
    assert not answer["monotonic"]
    assert answer["confidence"].startswith("not met from ")
    failing = found.curve.filter(~pl.col("meets"))["memory_limit_bytes"]
    assert failing.max() > answer["memory_limit_bytes"]


def test_an_answer_that_swaps_nothing_in_says_so(trace_path) -> None:
    trace = open_trace(trace_path)
    some = make_scenarios(trace, policies=["zram"], memory=["100%"], bounds=False)
    found = find_sizes(trace, [parse_target("p50<1ns")], some, precision=0.05)
    answer = found.sizes.row(0, named=True)
    assert answer["memory_limit_bytes"] >= PAGES * 4096
    assert answer["confidence"].endswith("and nothing is swapped in there")

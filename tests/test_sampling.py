from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import tracereplay
from tracereplay.cli import app
from tracereplay.distances import StackDistances
from tracereplay.errors import SettingsError
from tracereplay.miss_curve import sampled_curve
from tracereplay.report.miss_curve import curve_spec
from tracereplay.sampling import LEAST_DISTANCE, PARTS, SampledDistances, _hash
from tracereplay.trace import open_trace

SQLITE = Path(__file__).parent / "data" / "sqlite-index-pages.parquet"
ROWS = 400_000


def numbered(pages):
    return np.unique(pages, return_inverse=True)[1].astype(np.uint32)


def zipf(exponent, pages, rows=ROWS, seed=1):
    rng = np.random.default_rng(seed)
    weights = np.cumsum(1 / np.arange(1, pages + 1) ** exponent)
    ranks = np.searchsorted(weights / weights[-1], rng.random(rows))
    return rng.permutation(pages)[np.minimum(ranks, pages - 1)]


def loop_and_random():
    rng = np.random.default_rng(2)
    pages = rng.integers(0, 40_000, ROWS)
    in_loop = rng.random(ROWS) < 0.5
    pages[in_loop] = np.arange(in_loop.sum()) % 10_000
    return pages


TRACES = {
    "zipf 0.8": lambda: zipf(0.8, 40_000),
    "zipf 1.0": lambda: zipf(1.0, 60_000),
    "zipf 1.2": lambda: zipf(1.2, 100_000),
    "loop": lambda: np.arange(ROWS) % 30_000,
    "loop and random": loop_and_random,
    "phases": lambda: np.concatenate(
        [zipf(1.0, 20_000, ROWS // 5, seed) + 12_000 * seed for seed in range(5)]
    ),
    "two loops": lambda: np.concatenate(
        [np.arange(ROWS // 2) % 6_000, 20_000 + np.arange(ROWS // 2) % 25_000]
    ),
    "recorded": lambda: pl.read_parquet(SQLITE)["page"].to_numpy()[:ROWS],
}


@pytest.mark.compiled
@pytest.mark.parametrize("name", TRACES)
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("rate", "pages"), [(0.05, 200), (0.0, 1500)])
def test_the_truth_lies_within_the_error_bar_at_95_percent_of_the_sizes(name, known, rate, pages):
    page_ids = numbered(TRACES[name]())
    unique = int(page_ids.max()) + 1
    exact = StackDistances(unique)
    exact.add(page_ids)
    truth = exact.misses()
    if unique < 5000:
        rate, pages = max(rate, 0.3), 300
    inside = []
    for seed in range(20):
        sample = SampledDistances(rate, pages, seed)
        for part in np.array_split(page_ids, 7):
            sample.add(part)
        least = LEAST_DISTANCE / sample.rate
        sizes = np.unique(np.geomspace(min(least, unique), unique, 50).astype(np.int64))
        found = sample.estimate(sizes, unique if known else None)
        assert (found.low <= found.misses).all()
        assert (found.misses <= found.high).all()
        inside.append((found.low <= truth[sizes] + 1) & (truth[sizes] - 1 <= found.high))
    # Twenty samples cannot tell 95 from 90 %; `python -m benchmarks.coverage` takes thousands.
    assert np.mean(np.concatenate(inside)) >= 0.9


CLIFFS = {
    "five loops": (
        np.concatenate(
            [
                np.arange(40_000) % pages + 30_000 * nth
                for nth, pages in enumerate((700, 2000, 5000, 9000, 14_000))
            ]
        ),
        (693, 1960, 4900, 8900, 13_860),
    ),
    "one-time pages beside a loop": (
        np.where(np.arange(ROWS) % 10 == 0, 10_000 + np.arange(ROWS), np.arange(ROWS) % 3000),
        (2700, 2970, 3400),
    ),
    "scan past a hot set": (
        np.where(
            np.arange(ROWS) % 4 == 0,
            4000 + np.arange(ROWS) // 4 % 20_000,
            np.random.default_rng(4).integers(0, 4000, ROWS),
        ),
        (20_000, 23_500, 23_760),
    ),
    "nearly all pages": (zipf(1.0, 30_000), (21_000, 21_500)),
}


@pytest.mark.compiled
@pytest.mark.parametrize("name", CLIFFS)
@pytest.mark.parametrize("known", [True, False])
def test_the_truth_lies_within_the_error_bar_beside_a_cliff(name, known):
    """At each size by itself; a sample whose cliff falls on the other side has to span it."""
    page_ids, sizes = numbered(CLIFFS[name][0]), np.array(CLIFFS[name][1])
    unique = int(page_ids.max()) + 1
    exact = StackDistances(unique)
    exact.add(page_ids)
    truth = exact.misses()[sizes]
    inside = []
    for seed in range(60):
        sample = SampledDistances(0.0, 1000, seed)
        sample.add(page_ids)
        found = sample.estimate(sizes, unique if known else None)
        inside.append((found.low <= truth + 1) & (truth - 1 <= found.high))
    # Of sixty at 95 %, fewer than 51 once in a thousand.
    assert (np.sum(inside, axis=0) >= 51).all(), np.mean(inside, axis=0)


@pytest.mark.compiled
def test_the_error_bar_is_no_wider_than_the_error_asks_for():
    page_ids = numbered(zipf(1.0, 60_000))
    unique = int(page_ids.max()) + 1
    sample = SampledDistances(0.1, 0)
    sample.add(page_ids)
    found = sample.estimate(np.array([unique // 10, unique // 2]), unique)
    assert (found.high - found.low < 0.12 * ROWS).all()


def test_a_sample_of_every_page_is_exact():
    page_ids = numbered(zipf(1.0, 300, 3000))
    exact = StackDistances()
    exact.add(page_ids)
    sample = SampledDistances(0.01)
    for part in np.array_split(page_ids, 5):
        sample.add(part)
    sizes = np.arange(1, exact.first_uses + 1)
    found = sample.estimate(sizes)
    assert sample.rate == 1
    assert np.allclose(found.misses, exact.misses()[1:])
    assert np.allclose(found.low, found.misses)
    assert np.allclose(found.high, found.misses)


def test_a_loop_is_exact_where_its_length_is_known():
    page_ids = np.tile(np.arange(3000, dtype=np.uint32), 3)
    sample = SampledDistances(0.1, 0, seed=3)
    sample.add(page_ids)
    found = sample.estimate(np.array([2900, 3000]), 3000)
    assert found.misses.tolist() == pytest.approx([9000, 3000])


def test_a_loop_stays_exact_when_the_sample_is_thinned_on_the_way():
    page_ids = np.tile(np.arange(20_000, dtype=np.uint32), 3)
    sample = SampledDistances(0.0, 300, seed=4)
    sample.add(page_ids)
    assert sample.sampled_pages <= 600
    found = sample.estimate(np.array([5000, 20_000]), 20_000)
    assert found.misses[1] == found.low[1] == found.high[1] == 20_000
    assert found.low[0] <= 60_000 <= found.high[0]


def test_the_bar_grows_with_what_is_not_known():
    page_ids = numbered(zipf(1.0, 20_000, 100_000))
    unique = int(page_ids.max()) + 1
    sizes = np.array([unique // 20, unique // 4])
    widths = {}
    for known in (unique, None):
        for rate in (0.05, 0.3):
            sample = SampledDistances(rate, 0, seed=2)
            sample.add(page_ids)
            found = sample.estimate(sizes, known)
            widths[known, rate] = found.high - found.low
    assert (widths[unique, 0.3] < widths[unique, 0.05]).all()
    assert (widths[None, 0.3] > widths[unique, 0.3]).all()


def test_a_known_footprint_gives_the_rate_at_once_and_small_traces_stay_whole():
    page_ids = np.tile(np.arange(20_000, dtype=np.uint32), 2)
    sample = SampledDistances(0.01, 1000, expected_pages=20_000)
    assert sample.rate == pytest.approx(0.04)
    sample.add(page_ids)
    assert sample.rate == pytest.approx(0.04)
    assert sample.estimate(np.array([9000]), 20_000).misses[0] == pytest.approx(40_000)
    assert SampledDistances(0.01, 1000, expected_pages=1000).rate == 1
    assert SampledDistances(0.1, 1000, expected_pages=20_000).rate == pytest.approx(0.1)
    wrong = SampledDistances(0.0, 100, expected_pages=200)  # a footer that tells far too few
    wrong.add(page_ids)
    assert wrong.sampled_pages <= 200


def test_a_sample_that_chose_nothing_says_that_it_knows_nothing():
    sample = SampledDistances(1e-9, 0)
    sample.add(np.arange(100, dtype=np.uint32))
    found = sample.estimate(np.array([10]))
    assert (found.misses[0], found.low[0], found.high[0]) == (0, 0, 100)


def test_hashes_fill_their_range_and_every_part_evenly():
    pages = np.arange(1 << 16, dtype=np.uint64) + np.uint64(0x7F00_0000_0000)
    spaces = np.zeros(1, np.uint32)
    hashes = np.empty(pages.size, np.uint32)
    seen = []
    for seed in range(3):
        salt = tuple(np.random.SeedSequence(seed).generate_state(2))
        _hash(pages, spaces, salt, hashes)
        for counts in (np.bincount(hashes % PARTS), np.bincount(hashes >> 24)):
            expected = pages.size / counts.size
            # Chi-square, so many standard deviations from its mean: 4 would be a bad hash.
            chi = ((counts - expected) ** 2).sum() / expected
            assert abs(chi - counts.size) < 4 * np.sqrt(2 * counts.size)
        seen.append(hashes < 1 << 29)  # an eighth is in the sample
        in_sample = np.bincount(hashes[seen[-1]] % PARTS, minlength=PARTS)
        assert 60 < in_sample.min() < in_sample.max() < 196  # 128 expected in each part
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.count_nonzero(seen[one] & seen[other]) == pytest.approx(1024, abs=130)


def test_the_sample_does_not_grow_with_the_trace():
    rng = np.random.default_rng(5)
    sample = SampledDistances(0.0, 300)
    for _ in range(8):
        sample.add(rng.integers(0, 1 << 50, 16384, dtype=np.uint64))
        assert sample.sampled_pages <= 600
    assert sample.sampled_pages / sample.rate == pytest.approx(8 * 16384, rel=0.3)
    assert sample._histogram.shape == (sample._line.room_for_pages,)
    assert sample._line.room_for_pages <= 1024


def test_address_spaces_are_told_apart_and_batches_change_nothing():
    rng = np.random.default_rng(6)
    pages = rng.integers(0, 400, 4000, dtype=np.uint64)
    spaces = rng.integers(0, 3, 4000, dtype=np.uint32)
    both = [SampledDistances(0.2, 0), SampledDistances(0.2, 0)]
    both[0].add(pages, spaces)
    for rows in np.array_split(np.arange(4000), 900):
        both[1].add(pages[rows], spaces[rows])
    sizes = np.arange(1, 1200)
    one, other = (sample.estimate(sizes) for sample in both)
    assert np.allclose(one.misses, other.misses)
    assert both[0].sampled_pages == both[1].sampled_pages
    assert both[0].sampled_pages / both[0].rate == pytest.approx(1200, rel=0.3)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "t.parquet"
    pages = zipf(0.9, 3000, 20_000)
    pl.DataFrame({"page": pl.Series(pages, dtype=pl.UInt64)}).write_parquet(path)
    return path


def test_from_a_table_small_traces_are_exact_and_large_ones_say_what_they_cannot_answer(table):
    frame = sampled_curve(table)
    exact = tracereplay.curve(table, frame["memory_bytes"].to_list())
    assert frame["misses"].to_list() == exact["misses"].to_list()
    few = sampled_curve(table, rate=0.2, pages=256)
    assert few["memory_bytes"][0] >= LEAST_DISTANCE / 0.5 * 4096
    assert (few["misses_low"] <= few["misses_high"]).all()
    with pytest.raises(SettingsError, match=r"sampled at 0\.2, cannot answer"):
        sampled_curve(table, [8192], rate=0.2, pages=256)


def test_no_size_has_fewer_misses_than_pages(tmp_path):
    path = tmp_path / "once.parquet"
    pl.DataFrame({"page": np.arange(5_000, dtype=np.uint64)}).write_parquet(path)
    for seed in range(4):
        frame = sampled_curve(path, pages=256, seed=seed)
        assert (frame["misses"] >= frame["cold_misses"]).all()
        assert (frame["misses"] <= 5_000).all()
        assert (frame["misses_high"] >= frame["misses"]).all()


@pytest.mark.parametrize(("rate", "pages"), [(1.0, 1000), (0.1, 400)])
def test_a_sample_of_several_traces_does_not_take_the_pages_of_the_first_for_all(
    tmp_path, rate, pages
):
    paths = [tmp_path / "first.parquet", tmp_path / "second.parquet"]
    for nth, path in enumerate(paths):
        loop = np.tile(np.arange(4000) + 4000 * nth, 2).astype(np.uint64)
        frame = pl.DataFrame({"page": loop})
        frame.write_parquet(path, metadata={"tracereplay.unique_pages": "4000"})
    frame = sampled_curve(open_trace(*paths), rate=rate, pages=pages)
    spread = 0 if rate == 1 else 0.25
    (cold,) = frame["cold_misses"].unique()
    assert cold == pytest.approx(8000, rel=spread)
    assert frame["memory_bytes"].max() == pytest.approx(8000 * 4096, rel=spread)


def test_a_sample_of_a_reduced_trace_refuses_sizes_below_its_window(tmp_path):
    path = tmp_path / "less.parquet"
    below = 2000 * 4096
    frame = pl.DataFrame({"page": np.tile(np.arange(4000), 2).astype(np.uint64)})
    frame.write_parquet(path, metadata={"tracereplay.reduced_below_bytes": str(below)})
    with pytest.raises(SettingsError, match="cannot answer for"):
        sampled_curve(path, [below // 2], rate=0.1, pages=400)
    assert sampled_curve(path, rate=0.1, pages=400)["memory_bytes"].min() >= below


def test_the_band_of_a_drawn_curve_is_the_error_bar(table):
    frame = sampled_curve(table, rate=0.1, pages=400)
    drawn = curve_spec(frame, "t")["data"]["values"]
    for point in drawn:
        row = frame.row(by_predicate=pl.col("memory_bytes") == point["memory"], named=True)
        assert (point["low"], point["high"]) == (row["misses_low"], row["misses_high"])
    assert any(point["low"] < point["misses"] < point["high"] for point in drawn)


def test_the_command_prints_the_error_bar(table):
    runner = CliRunner()
    result = runner.invoke(app, ["curve", str(table), "--sample", "500", "--seed", "4"])
    assert result.exit_code == 0, result.output
    assert "95 % between" in result.stdout
    for bad in ("0%", "x", "20"):
        refused = runner.invoke(app, ["curve", str(table), "--sample", bad])
        assert refused.exit_code == 1
        assert "number of pages" in refused.stderr

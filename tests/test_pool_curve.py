import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tracereplay import lru_grid
from tracereplay.cli import app
from tracereplay.comparison import compare
from tracereplay.content import open_content
from tracereplay.errors import SettingsError
from tracereplay.lru_grid import REFUSED, LruGrid
from tracereplay.miss_curve import pool_curve
from tracereplay.replay.settings import Scenario

_spec = importlib.util.spec_from_file_location(
    "oracle_curve", Path(__file__).parent / "oracle_curve.py"
)
assert _spec is not None
assert _spec.loader is not None
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)

PAGES = 9
stored_sizes = st.one_of(st.integers(1, 4096), st.sampled_from([0, 4096, REFUSED]))
page_lists = st.lists(st.integers(0, PAGES - 1), max_size=80)


def assert_as_replayed(grid, pages, stored, capacities, limits):
    by_page = {page: None if size == REFUSED else int(size) for page, size in enumerate(stored)}
    for number, capacity in enumerate(capacities):
        for pool, limit in enumerate(limits):
            assert (
                grid.misses()[number],
                grid.loads()[number, pool],
                grid.zero_fills()[number],
                grid.written_back()[number, pool],
            ) == oracle.ram_and_pool(pages, by_page, capacity, limit)


def grid_of(pages, capacities, limits=None, stored=None, cuts=()):
    grid = LruGrid(
        np.array(capacities),
        None if limits is None else np.array(limits),
        None if stored is None else np.array(stored, np.uint16),
    )
    for part in np.split(np.array(pages, np.uint32), sorted(min(c, len(pages)) for c in cuts)):
        grid.add(part)
    return grid


def pages_of(kind, rng, pages, accesses=3000):
    drawn = {
        "skewed": np.minimum(rng.zipf(1.2, accesses) - 1, pages - 1),
        "loop": np.arange(accesses) % pages,
        "any": rng.integers(0, pages, accesses),
    }
    drawn["both"] = np.where(rng.random(accesses) < 0.5, drawn["loop"], drawn["skewed"])
    return drawn[kind]


@given(
    page_lists,
    st.lists(stored_sizes, min_size=PAGES, max_size=PAGES),
    st.lists(st.integers(1, PAGES), min_size=1, max_size=4, unique=True).map(sorted),
    st.lists(st.integers(0, 12000), min_size=1, max_size=4),
    st.lists(st.integers(0, 80), max_size=3),
)
def test_every_memory_and_pool_side_by_side_is_its_own_replay(
    pages, stored, capacities, limits, cuts
):
    grid = grid_of(pages, capacities, limits, stored, cuts)
    assert_as_replayed(grid, pages, stored, capacities, limits)


@settings(max_examples=15)
@given(st.integers(0, 1 << 30), st.sampled_from([5, 60, 400]))
def test_squeezing_the_line_changes_nothing(seed, pages):
    rng = np.random.default_rng(seed)
    ids = np.minimum(rng.zipf(1.2, 5000) - 1, pages - 1).astype(np.uint32)
    stored = rng.choice([0, 300, 1500, 4096, REFUSED], pages)
    capacities, limits = [1, 3, 50], [0, 5000, 100_000]
    wide = grid_of(ids, capacities, limits, stored)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lru_grid, "_LEAST_POSITIONS", 64)
        patch.setattr(lru_grid, "_POSITIONS_PER_PAGE", 2)
        narrow = grid_of(ids, capacities, limits, stored)
    assert narrow.misses().tolist() == wide.misses().tolist()
    assert narrow.misses()[1] == oracle.lru_misses(ids.tolist(), 3)
    assert narrow.loads().tolist() == wide.loads().tolist()
    assert narrow.written_back().tolist() == wide.written_back().tolist()


@settings(max_examples=60)
@given(
    st.integers(0, 1 << 30),
    st.sampled_from([2, 40, 300, 2000]),
    st.sampled_from(["skewed", "loop", "both", "any"]),
    st.lists(st.integers(1, 2500), min_size=1, max_size=5, unique=True).map(sorted),
    st.lists(st.integers(0, 3000), max_size=3),
    st.booleans(),
)
def test_memories_alone_miss_as_the_oracle_does(seed, pages, kind, capacities, cuts, narrow):
    rng = np.random.default_rng(seed)
    drawn = pages_of(kind, rng, pages)
    with pytest.MonkeyPatch.context() as patch:
        if narrow:
            patch.setattr(lru_grid, "_LEAST_POSITIONS", 64)
            patch.setattr(lru_grid, "_POSITIONS_PER_PAGE", 2)
        grid = grid_of(drawn, capacities, cuts=cuts)
    ids = drawn.tolist()
    assert grid.misses().tolist() == [oracle.lru_misses(ids, capacity) for capacity in capacities]


@settings(max_examples=40)
@given(
    st.integers(0, 1 << 30),
    st.sampled_from([2, 40, 300, 700]),
    st.sampled_from(["skewed", "loop", "both", "any"]),
    st.lists(st.integers(1, 600), min_size=1, max_size=3, unique=True).map(sorted),
    st.lists(st.integers(0, 250_000) | st.integers(0, 9000), min_size=1, max_size=3),
    st.lists(st.integers(0, 3000), max_size=3),
    st.booleans(),
)
def test_misses_taken_through_pools_by_blocks_are_those_of_each_replay(
    seed, pages, kind, capacities, limits, cuts, narrow
):
    # Some blocks touch no page that leaves in them, some do, in the memory, a pool, or both.
    rng = np.random.default_rng(seed)
    drawn = pages_of(kind, rng, pages)
    stored = rng.choice([0, 1, 300, 1500, 4096, REFUSED], pages)
    with pytest.MonkeyPatch.context() as patch:
        if narrow:
            patch.setattr(lru_grid, "_LEAST_POSITIONS", 64)
            patch.setattr(lru_grid, "_POSITIONS_PER_PAGE", 2)
        grid = grid_of(drawn, capacities, limits, stored, cuts)
    assert_as_replayed(grid, drawn.tolist(), stored, capacities, limits)


def test_many_pages_written_back_in_one_block_are_those_of_a_replay():
    rng = np.random.default_rng(8)
    ids = pages_of("both", rng, 3000, 16_000)
    stored = rng.choice([0, 300, 1500, 4096, REFUSED], 3000)
    by_page = {page: None if size == REFUSED else int(size) for page, size in enumerate(stored)}
    limits = [100_000, 400_000, 900_000]
    grid = grid_of(ids, [1200], limits, stored)
    for pool, limit in enumerate(limits):
        _, loads, _, written_back = oracle.ram_and_pool(ids.tolist(), by_page, 1200, limit)
        assert (grid.loads()[0, pool], grid.written_back()[0, pool]) == (loads, written_back)


@pytest.mark.parametrize("pools", [16, 17, 35])
def test_more_pools_than_are_summed_up_at_once_count_as_each_alone(pools):
    rng = np.random.default_rng(pools)
    ids = pages_of("any", rng, 700)
    stored = rng.choice([0, 300, 1500, 4096, REFUSED], 700)
    limits = rng.permutation(np.linspace(0, 900_000, pools).astype(int)).tolist()
    grid = grid_of(ids, [90, 500], limits, stored)
    for number, limit in enumerate(limits):
        alone = grid_of(ids, [90, 500], [limit], stored)
        assert grid.loads()[:, number].tolist() == alone.loads()[:, 0].tolist()
        assert grid.written_back()[:, number].tolist() == alone.written_back()[:, 0].tolist()


@dataclasses.dataclass
class FixedContents:
    compressed_bytes: np.ndarray
    zero_filled: np.ndarray

    def for_pages(self, pages, pid_index=None, pids=None):  # noqa: ARG002
        rows = pages.astype(np.int64)
        return FixedContents(self.compressed_bytes[rows], self.zero_filled[rows])


def contents_of(sizes):
    sizes = np.array(sizes)
    return FixedContents(np.maximum(sizes, 1).astype(np.uint16), sizes == 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pool")


def trace_of(folder, pages, **footer):
    path = folder / "t.parquet"
    metadata = {f"tracereplay.{key}": value for key, value in footer.items()}
    frame = pl.DataFrame({"page": pl.Series(pages, dtype=pl.UInt64)})
    frame.write_parquet(path, metadata=metadata)
    return path


@settings(max_examples=40)
@given(
    pages=page_lists,
    size=st.integers(1, 4096),
    capacities=st.lists(st.integers(1, PAGES + 2), min_size=1, max_size=4),
    limits=st.lists(st.integers(0, 40_000), min_size=1, max_size=4),
)
def test_with_pages_of_one_size_every_setting_comes_from_one_histogram(
    folder, pages, size, capacities, limits
):
    frame = pool_curve(
        trace_of(folder, pages),
        [4096 * capacity for capacity in capacities],
        limits,
        contents_of([size] * PAGES),
    )
    unique = len(set(pages))
    expected = []
    for capacity in capacities:
        for limit in limits:
            misses, loads, zeros, back = oracle.ram_and_pool(
                pages, dict.fromkeys(range(PAGES), size), capacity, limit
            )
            device = misses - unique - loads - zeros
            expected.append((4096 * capacity, limit, misses, unique, loads, zeros, device, back))
    assert frame.rows() == expected


@settings(max_examples=40)
@given(
    pages=page_lists,
    sizes=st.lists(st.sampled_from([0, 100, 900, 3000, 4096]), min_size=PAGES, max_size=PAGES),
    policy=st.sampled_from(["store-raw", "swap-on-reject"]),
)
def test_with_pages_of_any_size_every_setting_is_its_own_replay(folder, pages, sizes, policy):
    capacities, limits = [4, 1, 4], [0, 3000, 9000]
    frame = pool_curve(
        trace_of(folder, pages),
        [4096 * c for c in capacities],
        limits,
        contents_of(sizes),
        policy=policy,
    )
    refused = policy == "swap-on-reject"
    stored = {p: None if refused and size == 4096 else size for p, size in enumerate(sizes)}
    expected = [
        oracle.ram_and_pool(pages, stored, capacity, limit)
        for capacity in capacities
        for limit in limits
    ]
    found = frame.select("misses", "zswpin", "swpin_zero", "zswpwb").rows()
    assert found == expected


def test_a_byte_weighted_distance_is_exact_for_equal_sizes_and_wrong_for_others():
    # Memory 1 page, pool 100 bytes. Page 0 (60) falls out, then page 1 (60) pushes it to the
    # device; page 1 comes back and page 2 (10) falls out: 60 + 10 bytes would fit now, but page 0
    # is gone.
    pages = [0, 1, 2, 1, 0]
    uneven = {0: 60, 1: 60, 2: 10}
    assert oracle.ram_and_pool(pages, uneven, 1, 100)[1] == 1
    assert oracle.loads_by_byte_distance(pages, uneven, 1, 100) == 2
    assert grid_of(pages, [1], [100], [60, 60, 10]).loads().tolist() == [[1]]
    even = dict.fromkeys(range(3), 60)
    for limit in (0, 60, 120, 180):
        replayed = oracle.ram_and_pool(pages, even, 1, limit)[1]
        assert oracle.loads_by_byte_distance(pages, even, 1, limit) == replayed


def test_where_the_pool_never_fills_it_counts_what_the_replay_of_each_setting_counts(folder):
    rng = np.random.default_rng(4)
    path = trace_of(folder, rng.integers(0, 300, 4000))
    sizes = [4096 * pages for pages in (40, 100, 250)]
    frame = pool_curve(path, sizes, [1 << 30], open_content(name="redis-json+10%zero"))
    scenarios = [
        Scenario(
            memory_limit_bytes=size_bytes,
            reclaim="lru",
            cgroup="v1",
            allocator="ideal",
            pool_limit_bytes=1 << 30,
            page_cluster=0,
        )
        for size_bytes in sizes
    ]
    replayed = compare(path, scenarios, content="redis-json+10%zero").summary
    for column in ("zswpin", "swpin_zero", "pswpin", "zswpwb"):
        assert frame[column].to_list() == replayed[column].to_list(), column
    majors = frame["misses"] - frame["cold_misses"]
    assert majors.to_list() == replayed["pgmajfault"].to_list()


def test_where_the_kernel_has_rules_of_its_own_only_a_replay_counts_right(folder):
    # Same memory, same contents; what differs from the model of the curve is one rule each.
    rng = np.random.default_rng(4)
    path = trace_of(folder, rng.integers(0, 300, 4000))
    contents = "redis-json+10%zero"
    wide, narrow = 1 << 30, 100 << 10
    textbook = {
        "memory_limit_bytes": 4096 * 100,
        "reclaim": "lru",
        "allocator": "ideal",
        "page_cluster": 0,
    }
    rules = {
        "nothing differs": {"cgroup": "v1", "pool_limit_bytes": wide},
        "the pool is charged to the memory's limit": {"cgroup": "v2", "pool_limit_bytes": wide},
        "a full pool refuses newcomers": {"cgroup": "v1", "pool_limit_bytes": narrow},
        "a full pool keeps them in memory": {
            "cgroup": "v1",
            "pool_limit_bytes": narrow,
            "policy": "keep-on-reject",
        },
    }
    scenarios = [Scenario(name=name, **textbook, **rule) for name, rule in rules.items()]
    replayed = compare(path, scenarios, content=contents).summary
    for row in replayed.iter_rows(named=True):
        limit = rules[row["scenario"]]["pool_limit_bytes"]
        curve = pool_curve(path, [4096 * 100], [limit], open_content(name=contents))
        alike = (row["zswpin"], row["pswpin"]) == (curve["zswpin"][0], curve["pswpin"][0])
        assert alike == (row["scenario"] == "nothing differs"), row["scenario"]


@given(page_lists, st.lists(stored_sizes, min_size=PAGES, max_size=PAGES), st.integers(1, PAGES))
def test_a_larger_pool_holds_all_that_a_smaller_one_does(pages, stored, capacity):
    # Which is why one pass may look at the pools in the order of their limits.
    limits = [0, 1000, 4096, 6000, 12000, 1 << 40]
    grid = grid_of(pages, [capacity], limits, stored)
    assert (np.diff(grid.loads()[0]) >= 0).all()
    assert (np.diff(grid._pools["oldest"][0]) <= 0).all()
    assert grid.loads()[0, -1] + grid.zero_fills()[0] <= grid.misses()[0] - len(set(pages))


def test_the_command_prints_every_pair_and_says_what_it_needs(folder):
    path = str(trace_of(folder, list(range(20)) * 3))
    runner = CliRunner()
    options = ["--sizes", "16KiB,32KiB", "--pool", "0,8KiB,50%", "--content", "constant:1000"]
    result = runner.invoke(app, ["curve", path, *options, "--format", "csv"])
    assert result.exit_code == 0, result.output
    rows = [line.split(",") for line in result.stdout.splitlines()]
    assert rows[0][:5] == ["memory_bytes", "pool_limit_bytes", "misses", "cold_misses", "zswpin"]
    # A loop of 20 over 4 or 8 pages of memory: 40 KiB hold the rest of it, 8 KiB do not.
    assert [row[4] for row in rows[1:]] == ["0", "0", "40", "0", "0", "40"]
    assert "writes back its oldest" in result.stderr
    table = runner.invoke(app, ["curve", path, *options])
    assert "zswpwb" in table.stdout
    refused = runner.invoke(app, ["curve", path, "--pool", "8KiB"])
    assert refused.exit_code == 1
    assert "--sizes" in refused.stderr


def test_contents_behind_a_curve_are_drawn_by_the_seed(folder):
    path = str(trace_of(folder, list(range(400)) * 3))
    words = ["curve", path, "--sizes", "400KiB", "--pool", "200KiB", "--seed"]
    first, same, other = (CliRunner().invoke(app, [*words, seed]).stdout for seed in "112")
    assert first == same != other


def test_a_pool_of_all_sizes_there_are_is_no_overflow(tmp_path):
    path = tmp_path / "t.parquet"
    pl.DataFrame({"page": [1, 2, 3, 1, 2, 3]}).write_parquet(path)
    contents = open_content(None, "constant:1", "lzo", 0)
    frame = pool_curve(path, [4096, (1 << 63) - 4096], [(1 << 63) - 1024], contents)
    assert frame["misses"].to_list() == [6, 3]
    assert frame["zswpin"].to_list() == [3, 0]


def test_pools_behind_a_reduced_trace_refuse_memories_below_its_window(folder):
    path = trace_of(folder, [1, 2, 1, 2], reduced_below_bytes="8192")
    with pytest.raises(SettingsError, match="cannot answer for"):
        pool_curve(path, [4096], [4096], open_content(name="constant:1000"))


def test_policies_that_keep_or_refuse_by_state_are_sent_to_a_replay(folder):
    with pytest.raises(SettingsError, match="compare"):
        pool_curve(
            trace_of(folder, [1, 2]), [4096], [0], contents_of([1] * PAGES), policy="keep-on-reject"
        )

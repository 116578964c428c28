"""Page contents: measured, or drawn so that a page keeps its size."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest

from tracereplay import compare, content, open_trace
from tracereplay.comparison import make_scenarios
from tracereplay.content import CONTENTS, open_content
from tracereplay.errors import InputError, SettingsError, TraceSchemaError
from tracereplay.schema import CODECS, codec_column

PAGES = np.arange(0x7F0000000, 0x7F0000000 + 40_000, dtype=np.uint64)


def bundled(name: str) -> pl.DataFrame:
    return pl.read_parquet(content._FOLDER / f"{name}.parquet")


@pytest.mark.parametrize("name", CONTENTS)
def test_drawn_pages_have_the_deciles_of_the_distribution(name: str) -> None:
    frame = bundled(name)
    for codec in CODECS:
        column = codec_column(codec)
        if column not in frame.columns:
            continue
        drawn = open_content(name=name, codec=codec, seed=5).for_pages(PAGES).compressed_bytes
        measured = np.clip(frame[column].to_numpy(), 1, 4096)
        for decile in range(1, 10):
            low, high = np.quantile(measured, [decile / 10 - 0.02, decile / 10 + 0.02])
            assert low <= np.quantile(drawn, decile / 10) <= high
        assert drawn.mean() == pytest.approx(measured.mean(), rel=0.02)


def test_equal_seeds_draw_the_same_and_others_do_not() -> None:
    first, same, other = (
        open_content(name="redis-json", seed=seed).for_pages(PAGES).compressed_bytes
        for seed in (1, 1, 2)
    )
    assert (first == same).all()
    assert (first != other).any()


def test_a_page_keeps_its_size_whatever_is_asked_with_it() -> None:
    whole = open_content(name="sqlite-log").for_pages(PAGES).compressed_bytes
    part = open_content(name="sqlite-log").for_pages(PAGES[::-7]).compressed_bytes
    assert (whole[::-7] == part).all()


def test_sizes_by_two_codecs_are_of_the_same_page() -> None:
    frame = bundled("redis-json")
    pairs = set(zip(frame["lz4_bytes"].to_list(), frame["zstd_bytes"].to_list(), strict=True))
    lz4, zstd = (open_content(name="redis-json", codec=c).for_pages(PAGES) for c in ("lz4", "zstd"))
    drawn = zip(lz4.compressed_bytes.tolist(), zstd.compressed_bytes.tolist(), strict=True)
    assert set(drawn) <= {(min(a, 4096), min(b, 4096)) for a, b in pairs}


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "pages.parquet"
    pl.DataFrame(
        {
            "pid": np.array([1, 1, 2], np.uint32),
            "page": np.array([10, 11, 10], np.uint64),
            "zero_filled": [False, True, False],
            "lz4_bytes": np.array([500, 20, 1500], np.uint16),
        }
    ).write_parquet(path)
    return path


def test_measured_pages_are_joined_by_pid_and_page(table) -> None:
    opened = open_content(table, codec="lz4")
    found = opened.for_pages(
        np.array([10, 10, 11], np.uint64), np.array([1, 0, 0], np.uint32), [1, 2]
    )
    assert found.compressed_bytes.tolist() == [1500, 500, 20]
    assert found.zero_filled.tolist() == [False, False, True]
    assert found.same_filled.tolist() == [False, False, True]
    assert opened.notes == []


def test_pages_nobody_measured_are_drawn_and_noted(table) -> None:
    opened = open_content(table, codec="lz4")
    found = opened.for_pages(np.array([10, 99], np.uint64), np.array([0, 0], np.uint32), [1])
    assert found.compressed_bytes[0] == 500
    assert found.compressed_bytes[1] in (500, 20, 1500)
    assert "1 of 2 pages" in opened.notes[0]


def test_a_mix_and_a_constant_are_what_they_say() -> None:
    mixed = open_content(name="redis-json+30%raw").for_pages(PAGES).compressed_bytes
    plain = open_content(name="redis-json").for_pages(PAGES).compressed_bytes
    already = (plain == 4096).mean()
    assert (mixed == 4096).mean() == pytest.approx(already + 0.3 * (1 - already), abs=0.01)
    zero = open_content(name="constant:700+10%zero").for_pages(PAGES)
    assert zero.zero_filled.mean() == pytest.approx(0.1, abs=0.01)
    assert set(zero.compressed_bytes[~zero.zero_filled].tolist()) == {700}


def test_which_pages_are_mixed_in_has_nothing_to_do_with_what_the_others_hold() -> None:
    for base in ("redis-json", "sqlite-log"):
        whole = open_content(name=base).for_pages(PAGES).compressed_bytes
        mixed = open_content(name=f"{base}+30%zero").for_pages(PAGES)
        left = mixed.compressed_bytes[~mixed.zero_filled]
        assert (mixed.same_filled == mixed.zero_filled).sum() > 0.25 * PAGES.size
        assert left.mean() == pytest.approx(whole.mean(), rel=0.1)
        assert np.quantile(left, 0.5) == pytest.approx(np.quantile(whole, 0.5), rel=0.1)


def test_what_cannot_be_used_is_one_line(table, tmp_path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_text("no parquet")
    bare = tmp_path / "bare.parquet"
    pl.DataFrame({"vpn": [1]}).write_parquet(bare)

    def measured(**columns):
        path = tmp_path / f"{next(number)}.parquet"
        pl.DataFrame({"page": [1], "lzo_bytes": [900]} | columns).write_parquet(path)
        return path

    number = itertools.count()
    cases = [
        (SettingsError, "redis-json", {"name": "redis-jsn"}),
        (SettingsError, "zstd", {"name": "redis-json", "codec": "zsdt"}),
        (SettingsError, "no sizes by zstd; it has lz4", {"pages": table, "codec": "zstd"}),
        (SettingsError, "not both", {"pages": table, "name": "redis-json"}),
        (SettingsError, "1 to 4096", {"name": "constant:9999"}),
        (SettingsError, "above 100", {"name": "redis-json+130%raw"}),
        (SettingsError, "unknown content", {"name": "redis-json+1.2.3%raw"}),
        (InputError, "cannot be read", {"pages": broken}),
        (TraceSchemaError, "`lzo_bytes` is String", {"pages": measured(lzo_bytes=["a"])}),
        (TraceSchemaError, "`lzo_bytes` holds -3", {"pages": measured(lzo_bytes=[-3])}),
        (TraceSchemaError, "`page` holds -1", {"pages": measured(page=[-1])}),
        (TraceSchemaError, "`zero_filled` is Int64", {"pages": measured(zero_filled=[1])}),
        (TraceSchemaError, "no column `page`", {"pages": bare}),
    ]
    for kind, says, options in cases:
        with pytest.raises(kind, match=says) as caught:
            open_content(**options)
        assert "\n" not in str(caught.value)


def written_trace(path) -> None:
    rng = np.random.default_rng(3)
    pages = rng.zipf(1.3, 6000) % 400
    pl.DataFrame(
        {"page": pages.astype(np.uint64), "is_write": rng.random(6000) < 0.5}
    ).write_parquet(path)


def test_rewritten_pages_change_by_seed_and_not_at_all_where_off(tmp_path) -> None:
    path = tmp_path / "t.parquet"
    written_trace(path)
    trace = open_trace(path)
    scenarios = make_scenarios(trace, policies=["store-raw"], reclaim=["lru"], bounds=False)

    def pool(content_name: str, share: float, seed: int = 1) -> tuple[int, int]:
        result = compare(
            trace, scenarios, content=content_name, rewrite_entropy=share, seed=seed, jobs=1
        )
        row = result.summary.row(0, named=True)
        if share:
            assert "rewritten with probability" in result.run["content"]
            assert any("--rewrite-entropy" in note for note in result.run["notes"])
        return row["pool_bytes_mean"], row["zswpout"]

    kept = pool("redis-json", 0)
    assert pool("redis-json", 1) == pool("redis-json", 1)
    assert pool("redis-json", 1) != kept
    assert pool("redis-json", 1, seed=2) != pool("redis-json", 1)
    # Contents of one size stay what they are, and what is drawn has the same mean.
    assert pool("constant:1500", 1) == pool("constant:1500", 0)
    assert pool("redis-json", 1)[0] == pytest.approx(kept[0], rel=0.15)
    with pytest.raises(SettingsError, match="probability"):
        pool("redis-json", 1.5)


def test_a_page_leaves_first_with_what_it_was_filled_with(tmp_path) -> None:
    frame = pl.DataFrame({"page": np.arange(600, dtype=np.uint64), "is_write": [True] * 600})
    frame.write_parquet(tmp_path / "t.parquet")
    trace = open_trace(tmp_path / "t.parquet")
    scenarios = make_scenarios(
        trace, policies=["store-raw"], memory=["256KiB"], cgroup="v1", bounds=False
    )
    kept, rewritten = (
        compare(trace, scenarios, content="sqlite-log", rewrite_entropy=share).summary
        for share in (0.0, 1.0)
    )
    assert kept["zswpout"][0] > 500
    assert rewritten.equals(kept)


def test_rewritten_sizes_by_two_codecs_are_of_the_same_page() -> None:
    from tracereplay.reclaim import find_reclaim
    from tracereplay.replay.settings import Scenario
    from tracereplay.replay.state import FIRST_PAGE, SIZE_MASK

    rng = np.random.default_rng(8)
    ids = np.concatenate([np.arange(500), rng.integers(0, 500, 8000)]).astype(np.uint32)
    writes = np.ones(ids.size, np.bool_)
    nothing = np.empty(0, np.int64)
    for array in (ids, writes, nothing):
        array.flags.writeable = False
    found = {}
    for codec in ("lz4", "zstd"):
        contents = open_content(name="redis-json", codec=codec, seed=4)
        model = find_reclaim("lru")
        replay = model.replay(
            Scenario(
                policy="store-raw",
                memory_limit_bytes=200 * 4096,
                reclaim="lru",
                codec=codec,
                cgroup="v1",
            ),
            rows=ids.size,
            unique_pages=500,
        )
        rows = contents.rows()
        first = contents.for_pages(PAGES[:500])
        for of, add in ((rows, replay.rewrite), (first, replay.add_pages)):
            sizes = (of.compressed_bytes, of.zero_filled, of.same_filled)
            if add == replay.rewrite:
                replay.rewrite(*sizes, share=0.7, seed=4)
            else:
                replay.add_pages(*sizes, np.zeros(500, np.uint8))
        before = replay.pages["size"].copy()
        replay.feed(0, ids, writes, nothing, nothing, lambda _: None)
        assert (replay.pages["size"] != before).sum() > 300
        found[codec] = replay.pages["size"][FIRST_PAGE : FIRST_PAGE + 500] & SIZE_MASK
    frame = bundled("redis-json")
    pairs = {
        (0 if zero else min(a, 4096), 0 if zero else min(b, 4096))
        for a, b, zero in frame.select("lz4_bytes", "zstd_bytes", "zero_filled").iter_rows()
    }
    assert set(zip(found["lz4"].tolist(), found["zstd"].tolist(), strict=True)) <= pairs

"""Page contents: measured, or drawn so that a page keeps its size."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tracereplay import content
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


def test_what_cannot_be_used_is_one_line(table, tmp_path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_text("no parquet")
    bare = tmp_path / "bare.parquet"
    pl.DataFrame({"vpn": [1]}).write_parquet(bare)
    cases = [
        (SettingsError, "redis-json", {"name": "redis-jsn"}),
        (SettingsError, "zstd", {"name": "redis-json", "codec": "zsdt"}),
        (SettingsError, "no sizes by zstd; it has lz4", {"pages": table, "codec": "zstd"}),
        (SettingsError, "not both", {"pages": table, "name": "redis-json"}),
        (SettingsError, "1 to 4096", {"name": "constant:9999"}),
        (SettingsError, "above 100", {"name": "redis-json+130%raw"}),
        (InputError, "cannot be read", {"pages": broken}),
        (TraceSchemaError, "no column `page`", {"pages": bare}),
    ]
    for kind, says, options in cases:
        with pytest.raises(kind, match=says) as caught:
            open_content(**options)
        assert "\n" not in str(caught.value)

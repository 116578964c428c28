import os
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tracereplay import compare, curve
from tracereplay.dense import DenseIds
from tracereplay.errors import InputError, TraceSchemaError
from tracereplay.files import check_free
from tracereplay.inspection import in_words, inspect_trace
from tracereplay.readers import Options, ingest
from tracereplay.replay.settings import Scenario
from tracereplay.report.folder import read_result_folder
from tracereplay.trace import open_trace


def test_ids_follow_first_use_and_survive_growth_of_the_table():
    rng = np.random.default_rng(1)
    pages = rng.integers(0, 1 << 52, 200_000, dtype=np.uint64)[rng.integers(0, 150_000, 400_000)]
    spaces = rng.integers(0, 3, pages.size, dtype=np.uint32)

    ids = DenseIds()
    got = np.concatenate([ids.number(pages[:77], spaces[:77]), ids.number(pages[77:], spaces[77:])])

    seen: dict[tuple[int, int], int] = {}
    expected = [
        seen.setdefault(key, len(seen)) for key in zip(pages.tolist(), spaces.tolist(), strict=True)
    ]
    assert got.tolist() == expected
    back_pages, back_spaces = ids.keys()
    assert list(zip(back_pages.tolist(), back_spaces.tolist(), strict=True)) == list(seen)


@pytest.mark.parametrize("batch", [1, 511, 512, 513, 40_000])
def test_neighbours_of_one_space_are_numbered_by_first_use_in_any_batches(batch):
    rng = np.random.default_rng(2)
    pages = (0x7F0000005 + rng.integers(0, 30_000, 40_000)).astype(np.uint64)
    step = batch if batch > 1 else pages.size // 3  # one row, and then long batches at odd places
    starts = list(range(batch, pages.size, step))

    ids = DenseIds()
    got = np.concatenate([ids.number(part) for part in np.split(pages, starts)])

    seen: dict[int, int] = {}
    assert got.tolist() == [seen.setdefault(page, len(seen)) for page in pages.tolist()]
    assert ids.keys()[0].tolist() == list(seen)
    assert not ids.keys()[1].any()


def test_batches_of_any_size_hold_the_same_rows(tmp_path):
    frame = pl.DataFrame(
        {
            "time_ns": pl.Series([10, 12, 11, 20], dtype=pl.UInt64),
            "pid": pl.Series([1, 2, 1, None], dtype=pl.UInt32),
            "vaddr": pl.Series([4096, 4097, 8191, 4096], dtype=pl.UInt64),
            "is_write": [True, None, False, True],
        }
    )
    frame.write_parquet(tmp_path / "t.parquet")
    trace = open_trace(tmp_path / "t.parquet")
    for rows in (1, 3, 100):
        batches = list(trace.batches(rows))
        assert np.concatenate([b.page_ids for b in batches]).tolist() == [0, 1, 0, 2]
        assert np.concatenate([b.is_write for b in batches]).tolist() == [True, False, False, True]
        assert np.concatenate([b.time_ns for b in batches]).tolist() == [0, 2, 2, 10]
    assert trace.count() == (4, 3)


@pytest.mark.parametrize("dtype", [pl.UInt8, pl.Int16, pl.Int32, pl.UInt32, pl.Int64, pl.UInt64])
def test_times_of_any_width_are_the_same_times(tmp_path, dtype):
    times = pl.Series([3, 5, 4, 100], dtype=dtype)
    pl.DataFrame({"page": [1, 2, 1, 3], "time_ns": times}).write_parquet(tmp_path / "t.parquet")
    (batch,) = open_trace(tmp_path / "t.parquet").batches()
    assert batch.time_ns.dtype == np.int64
    assert batch.time_ns.tolist() == [0, 2, 2, 97]


@pytest.mark.parametrize("rows", [7, 100, 5000])
@pytest.mark.parametrize("pids", [0, 3])
def test_new_pages_of_each_batch_are_paired_with_all_beside_them(tmp_path, rows, pids):
    rng = np.random.default_rng(rows + pids)
    ends = np.array([0, 1, (1 << 64) - 1], np.uint64)
    pages = np.concatenate([rng.integers(0, 700, 3000).astype(np.uint64), ends])
    frame = pl.DataFrame({"page": pages})
    if pids:
        frame = frame.with_columns(pid=pl.Series(rng.integers(0, pids, pages.size)))
    frame.write_parquet(tmp_path / "t.parquet")
    trace = open_trace(tmp_path / "t.parquet")
    found, new_pages, new_spaces, first = set(), [], [], 0
    for _ in trace.batches(rows):
        keys = trace.keys_from(first)
        new_pages += keys[0].tolist()
        new_spaces += keys[1].tolist()
        lower, upper, upper_page = trace.pairs_from(first)
        pairs = set(zip(lower.tolist(), upper.tolist(), upper_page.tolist(), strict=True))
        assert len(pairs) == lower.size
        assert not pairs & found
        found |= pairs
        first += keys[0].size
    every_page, every_space, _ = trace.page_keys()
    assert (new_pages, new_spaces) == (every_page.tolist(), every_space.tolist())
    known = {key: at for at, key in enumerate(zip(new_spaces, new_pages, strict=True))}
    assert found == {
        (at, known[space, page + 1], page + 1)
        for (space, page), at in known.items()
        if (space, page + 1) in known
    }
    # Who comes later to a trace that is numbered gets all at once.
    assert trace.keys_from(0)[0].tolist() == new_pages


def test_a_row_without_a_time_takes_that_of_the_row_before(tmp_path):
    times = [None, None, 7, None, 9, 8, None, None, 20]
    frame = pl.DataFrame({"page": range(9), "time_ns": pl.Series(times, dtype=pl.UInt64)})
    frame.write_parquet(tmp_path / "t.parquet")
    for rows in (1, 2, 4, 9):
        batches = open_trace(tmp_path / "t.parquet").batches(rows)
        found = np.concatenate([batch.time_ns for batch in batches]).tolist()
        assert found == [0, 0, 0, 0, 2, 2, 2, 2, 13], rows


@pytest.mark.parametrize("dtype", [pl.UInt64, pl.Int64])
def test_a_file_whose_clock_begins_anew_goes_on_where_the_one_before_ended(tmp_path, dtype):
    paths = []
    for nth, times in enumerate(([1000, 1100, 1090, 1500], [None, 3, 5, 4, 8], [20, 30], [7, 9])):
        frame = pl.DataFrame({"page": range(len(times)), "time_ns": pl.Series(times, dtype=dtype)})
        paths.append(tmp_path / f"{nth}.parquet")
        frame.write_parquet(paths[-1])
    trace = open_trace(*paths)
    for rows in (1, 3, 50):
        found = np.concatenate([batch.time_ns for batch in trace.batches(rows)]).tolist()
        #               the third's clock goes on from the second's, the fourth's does not
        assert found == [0, 100, 100, 500, 500, 500, 502, 502, 505, 517, 527, 527, 529], rows
    told = [note for note in trace.notes if "begins before the file ahead of it ends" in note]
    assert [note.split(":")[0] for note in told] == ["1.parquet", "3.parquet"]


def test_a_file_that_yields_less_than_it_holds_is_damaged(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    pl.DataFrame({"page": range(10)}).write_parquet(path)
    monkeypatch.setattr(
        pl.LazyFrame, "collect_batches", lambda frame, **_: [frame.collect().head(4)]
    )
    with pytest.raises(InputError, match="only 4 of its 10 rows can be read"):
        list(open_trace(path).batches())


def test_traces_of_several_tools_are_read_together_whatever_their_whole_numbers_are(tmp_path):
    one, other, text = (tmp_path / name for name in ("a.parquet", "b.parquet", "c.csv"))
    length = pl.Series([2, 2], dtype=pl.UInt32)
    pl.DataFrame({"page": pl.Series([1, 2], dtype=pl.UInt64), "run_len": length}).write_parquet(one)
    pl.DataFrame({"page": [1, 3], "run_len": [4, 1]}).write_parquet(other)
    text.write_text("page\n1\n2\n")
    for paths, accesses in (((one, other), 9), ((one, text), 4), ((one, other, text), 6)):
        trace = open_trace(*paths)
        assert trace.accesses == accesses  # folded ones count where all files have them
        assert inspect_trace(trace).rows == 2 * len(paths)
        limit = Scenario(memory_limit_bytes=1 << 20, policy="no-zswap")
        assert compare(trace, [limit]).summary["accesses"][0] == accesses


def test_a_bare_table_says_what_was_assumed(tmp_path):
    (tmp_path / "t.csv").write_text("page\n1\n2\n1\n")
    trace = open_trace(tmp_path / "t.csv")
    assert trace.count() == (3, 2)
    assert any("is_write" in note for note in trace.notes)


def test_a_name_that_is_no_utf8_is_one_line(tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/lat\xe4in.parquet")
    pl.DataFrame({"page": [1]}).write_parquet(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").rename(name)
    with pytest.raises(InputError, match=r"lat\\xe4in\.parquet: the name is not UTF-8"):
        open_trace(name)
    with pytest.raises(InputError, match="the name is not UTF-8"):
        check_free(name)


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("empty", b"", InputError, "empty file"),
        ("junk", bytes(range(256)), InputError, "ingest"),
        ("latin", b"\xff\xfe page\n", InputError, "no trace table"),
        ("other.csv", b"a,b\n1,2\n", TraceSchemaError, "no column `page`"),
    ],
)
def test_what_is_no_trace_is_refused_with_the_remedy(tmp_path, name, content, error, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=words):
        open_trace(tmp_path / name)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"page": [1, -1]}, "column `page` holds -1, which is no UInt64"),
        ({"vaddr": [4096, -4096]}, "column `vaddr` holds -4096, which is no UInt64"),
        ({"page": [1, 2], "run_len": [1, -1]}, "column `run_len` holds -1, which is no UInt32"),
        ({"page": [1, 2], "run_len": [1, 0]}, "column `run_len` holds 0; a row is one reference"),
        ({"page": [1, 2], "pid": [1, -7]}, "column `pid` holds -7, which is no UInt32"),
        (
            {"page": [1, 2], "pid": [1, 5 << 32]},
            "column `pid` holds 21474836480, which is no UInt32",
        ),
        ({"page": [1, None]}, "column `page` has nulls"),
        ({"vaddr": [4096, None]}, "column `vaddr` has nulls"),
    ],
)
def test_a_negative_number_is_named_with_its_file(tmp_path, columns, says):
    path = tmp_path / "t.parquet"
    pl.DataFrame(columns).write_parquet(path)
    with pytest.raises(TraceSchemaError) as caught:
        list(open_trace(path).batches())
    assert str(caught.value).startswith(f"{path}: {says}")
    with pytest.raises(TraceSchemaError, match=re.escape(says)):
        curve(path)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("schema", "9", "schema version 9"),
        ("coverage", "some", "coverage 'some' is none of"),
        ("page_shift", "16", "page_shift 16; the models know pages of 4 KiB"),
        ("records", "two", "records is 'two' in its footer, no number"),
        ("accesses", "-1", "accesses is '-1' in its footer, no number"),
    ],
)
def test_every_footer_is_looked_at(tmp_path, key, value, says):
    good, bad = tmp_path / "good.parquet", tmp_path / "bad.parquet"
    frame = pl.DataFrame({"page": [1, 2]})
    frame.write_parquet(good)
    frame.write_parquet(bad, metadata={f"tracereplay.{key}": value})
    with pytest.raises(TraceSchemaError, match=says):
        open_trace(good, bad)


def test_traces_whose_clocks_cannot_be_joined_are_read_without_times(tmp_path):
    frame = pl.DataFrame({"page": [1, 2], "time_ns": [5, 6]})
    paths = [tmp_path / f"{clock}.parquet" for clock in ("mono", "instructions")]
    for path in paths:
        frame.write_parquet(path, metadata={"tracereplay.clock": path.stem})
    assert open_trace(paths[0], paths[0]).has_time
    both = open_trace(*paths)
    assert not both.has_time
    assert "clocks of these traces differ (mono,instructions): none is used" in both.notes


def test_traces_together_answer_for_no_less_memory_than_the_most_reduced(tmp_path):
    paths = [tmp_path / f"{below}.parquet" for below in (8192, 16384)]
    for path in paths:
        metadata = {"tracereplay.reduced_below_bytes": path.stem}
        pl.DataFrame({"page": [1, 2, 1]}).write_parquet(path, metadata=metadata)
    assert open_trace(*paths).reduced_below_bytes == 16384


def test_pages_of_several_files_stay_apart_whoever_reads_them(tmp_path):
    table = tmp_path / "files.parquet"
    pl.DataFrame(
        {
            "pid": pl.Series([1, 1, 2, 2, 1], dtype=pl.UInt32),
            "space": ["file", "file", "file", "virt", "virt"],
            "space_id": pl.Series([70, 71, 70, None, None], dtype=pl.UInt64),
            "page": pl.Series([5, 5, 5, 5, 5], dtype=pl.UInt64),
        }
    ).write_parquet(table)
    trace = open_trace(table)
    assert [batch.page_ids.tolist() for batch in trace.batches()] == [[0, 1, 0, 2, 3]]
    assert trace.unique_pages == 4
    assert trace.page_keys()[2] == [None, None, 2, 1]
    assert trace.page_pids()[0].tolist() == [0, 0, 1, 2]
    assert trace.page_pids()[1] == [None, 2, 1]
    whole = curve(table, [4096, 16384])
    assert whole["cold_misses"].to_list() == [4, 4]
    assert whole["misses"].to_list() == [5, 4]
    found = inspect_trace(open_trace(table))
    assert (found.files, found.unique_pages) == (2, 4)
    assert "in 2 files" in " ".join(in_words(found))


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical])
@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("pid", [None, 5])
def test_a_page_of_a_file_is_none_of_a_process_or_of_memory(tmp_path, dtype, rows, pid):
    """`space` is part of what a page is called, with or without `space_id`."""
    spaces = ["virt", "file", "phys", None, "file", "phys", "virt"]
    frame = pl.DataFrame(
        {
            "page": pl.Series([1] * 7, dtype=pl.UInt64),
            "space": pl.Series(spaces, dtype=dtype),
            "pid": pl.Series([pid] * 7, dtype=pl.UInt32),
        }
    )
    frame.write_parquet(tmp_path / "t.parquet")
    trace = open_trace(tmp_path / "t.parquet")
    ids = [one for batch in trace.batches(rows) for one in batch.page_ids.tolist()]
    assert ids == [0, 1, 2, 0, 1, 2, 0]
    assert trace.page_keys()[2] == [pid] * 3
    assert ingest(tmp_path / "t.parquet", tmp_path / "u.parquet").unique_pages == 3
    folded = ingest(tmp_path / "t.parquet", tmp_path / "v.parquet", options=Options(collapse=True))
    assert (folded.records, folded.accesses, folded.unique_pages) == (7, 7, 3)


def test_a_space_without_a_name_is_refused(tmp_path):
    pl.DataFrame({"page": [1], "space": [[3]]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(TraceSchemaError, match=r"`space` is List\(Int64\), text expected"):
        open_trace(tmp_path / "t.parquet")


def test_a_page_cache_capture_keeps_its_files_apart_from_ingest_to_replay(tmp_path):
    capture = Path(__file__).parent / "captures" / "fread.filemap.txt"
    done = ingest(capture, tmp_path / "t.parquet")
    rows = pl.read_parquet(tmp_path / "t.parquet")
    expected = rows.select("space_id", "page").n_unique()
    assert rows["space_id"].n_unique() > 1
    assert rows["page"].n_unique() < expected
    assert done.unique_pages == expected
    trace = open_trace(tmp_path / "t.parquet")
    assert sum(batch.page_ids.size for batch in trace.batches()) == done.records
    assert trace.numbered_pages == expected
    result = compare(
        trace, [Scenario(policy="no-zswap", reclaim="lru", memory_limit_bytes=1 << 20)]
    )
    assert result.summary["unique_pages"].to_list() == [expected]


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv"])
@pytest.mark.parametrize("name", ["run[12]", "run?", "r*", "~", "a:b"])
def test_a_name_that_reads_like_a_pattern_is_that_file(tmp_path, monkeypatch, name, suffix):
    """polars expands patterns in names, and would read run1 and run2 in its place."""
    monkeypatch.chdir(tmp_path)
    for each, pages in (("run1", 50), ("run2", 60), (name, 7)):
        frame = pl.DataFrame({"page": np.arange(pages)})
        with Path(f"{each}.{suffix}").open("wb") as stream:
            if suffix == "parquet":
                frame.write_parquet(stream)
            elif suffix == "arrow":
                frame.write_ipc(stream)
            else:
                frame.write_csv(stream)
    trace = open_trace(f"{name}.{suffix}")
    assert trace.count() == (7, 7)
    assert sum(batch.page_ids.size for batch in trace.batches()) == 7


def test_the_tables_of_a_comparison_may_stand_in_a_folder_whose_name_reads_like_a_pattern(tmp_path):
    folder = tmp_path / "o[1]"
    pages = tmp_path / "p[1].parquet"
    with (tmp_path / "t[1].parquet").open("wb") as stream:
        pl.DataFrame({"page": np.arange(9)}).write_parquet(stream)
    with pages.open("wb") as stream:
        pl.DataFrame({"page": np.arange(9), "lzo_bytes": [900] * 9}).write_parquet(stream)
    some = [Scenario(policy="store-raw", memory_limit_bytes=1 << 20)]
    found = compare(tmp_path / "t[1].parquet", some, pages=pages)
    found.write(folder)
    assert read_result_folder(folder).summary.equals(found.summary)


def test_a_column_of_processes_that_names_none_is_told(tmp_path):
    page = pl.Series("page", [1, 2, 1], pl.UInt64)
    pid = pl.Series("pid", [None, None, None], pl.UInt32)
    pl.DataFrame([page, pid]).write_parquet(tmp_path / "none.parquet")
    pl.DataFrame([page, pl.Series("pid", [None, 5, 5], pl.UInt32)]).write_parquet(
        tmp_path / "some.parquet"
    )
    some = [Scenario(policy="store-raw", memory_limit_bytes=1 << 20)]
    told = "no row says which process it is of: all pages are taken as one address space"
    assert compare(tmp_path / "none.parquet", some).run["notes"].count(told) == 1
    assert told not in compare(tmp_path / "some.parquet", some).run["notes"]

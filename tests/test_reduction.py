"""Folding and dropping while reading: what stays the same, on random traces against a plain LRU."""

from collections import OrderedDict

import polars as pl
import pytest
from golden_captures import CAPTURES
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tracereplay.cli import app
from tracereplay.readers import Options, ingest
from tracereplay.readers.reduce import Collapse, SafelyDrop

LACKEY = CAPTURES / "tree40.lackey.txt"


def lru_misses(keys, capacity):
    memory: OrderedDict[object, None] = OrderedDict()
    misses = 0
    for key in keys:
        if key in memory:
            memory.move_to_end(key)
            continue
        misses += 1
        memory[key] = None
        if len(memory) > capacity:
            memory.popitem(last=False)
    return misses


traces = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from([None, False, True]), st.integers(1, 2)),
    min_size=1,
    max_size=120,
)
pieces = st.integers(1, 40)


def frame_of(trace):
    return pl.DataFrame(
        {
            "time_ns": pl.Series(range(len(trace)), dtype=pl.UInt64),
            "pid": pl.Series([pid for _, _, pid in trace], dtype=pl.UInt32),
            "page": pl.Series([page for page, _, _ in trace], dtype=pl.UInt64),
            "is_write": pl.Series([write for _, write, _ in trace], dtype=pl.Boolean),
        }
    )


def passed_through(stage, frame, rows):
    parts = [stage.feed(frame.slice(start, rows)) for start in range(0, frame.height, rows)]
    parts.append(stage.finish())
    return pl.concat([part for part in parts if part is not None])


def keys_of(frame):
    return list(zip(frame["pid"].to_list(), frame["page"].to_list(), strict=True))


@given(traces, pieces)
def test_collapse_folds_exactly_the_runs(trace, rows):
    folded = passed_through(Collapse(), frame_of(trace), rows)
    runs: list[list[object]] = []
    for time, (page, write, pid) in enumerate(trace):
        if runs and runs[-1][1:3] == [pid, page]:
            runs[-1][4] += 1  # type: ignore[operator]  # a count
            if write or runs[-1][3]:
                runs[-1][3] = True
            elif write is None or runs[-1][3] is None:
                runs[-1][3] = None
        else:
            runs.append([time, pid, page, write, 1])
    assert [list(row) for row in folded.rows()] == runs


@given(traces, pieces, st.integers(1, 9))
def test_dropping_changes_no_miss_of_an_lru_of_that_size_or_more(trace, rows, limit):
    frame = frame_of(trace)
    reduced = passed_through(SafelyDrop(limit * 4096), frame, rows)
    for capacity in range(limit, 21):
        assert lru_misses(keys_of(reduced), capacity) == lru_misses(keys_of(frame), capacity)
    assert reduced["run_len"].sum() == len(trace)
    assert reduced["time_ns"].is_sorted()
    written = {key for key, write in zip(keys_of(frame), frame["is_write"], strict=True) if write}
    kept = {key for key, write in zip(keys_of(reduced), reduced["is_write"], strict=True) if write}
    assert kept == written


@given(traces, pieces, pieces)
def test_the_pieces_a_trace_comes_in_change_nothing(trace, one, other):
    frame = frame_of(trace)
    for stage in (Collapse, lambda: SafelyDrop(3 * 4096)):
        first = passed_through(stage(), frame, one)
        assert first.equals(passed_through(stage(), frame, other))


@pytest.mark.parametrize("options", [{"collapse": True}, {"reduce_below_bytes": 4096}, {}])
def test_a_row_that_does_not_say_how_many_it_stands_for_is_one(tmp_path, options):
    rows = {
        "page": pl.Series([7, 7, 8], dtype=pl.UInt64),
        "run_len": pl.Series([None, 3, None], dtype=pl.UInt32),
    }
    pl.DataFrame(rows).write_parquet(tmp_path / "t.parquet")
    done = ingest(tmp_path / "t.parquet", tmp_path / "u.parquet", options=Options(**options))
    assert done.accesses == pl.read_parquet(tmp_path / "u.parquet")["run_len"].sum() == 5


def test_a_run_that_holds_a_major_fault_is_one(tmp_path):
    rows = {"page": [7, 7, 7, 8, 8], "major": [False, True, None, None, None]}
    pl.DataFrame(rows).write_parquet(tmp_path / "t.parquet")
    ingest(tmp_path / "t.parquet", tmp_path / "u.parquet", options=Options(collapse=True))
    folded = pl.read_parquet(tmp_path / "u.parquet")
    assert folded["page"].to_list() == [7, 8]
    assert folded["major"].to_list() == [True, None]


def test_the_footer_says_what_a_reduced_trace_still_answers(tmp_path):
    whole = ingest(LACKEY, tmp_path / "whole.parquet", options=Options(collapse=True))
    options = Options(reduce_below_bytes=8192)
    done = ingest(LACKEY, tmp_path / "less.parquet", options=options)
    assert done.accesses == whole.accesses
    assert done.records < whole.records
    key = "tracereplay.reduced_below_bytes"
    assert pl.read_parquet_metadata(tmp_path / "less.parquet")[key] == "8192"
    assert key not in pl.read_parquet_metadata(tmp_path / "whole.parquet")
    again = ingest(tmp_path / "less.parquet", tmp_path / "again.parquet")
    assert again.records == done.records
    assert pl.read_parquet_metadata(tmp_path / "again.parquet")[key] == "8192"


def test_a_reference_across_a_page_border_touches_both_pages_when_folded(tmp_path):
    (tmp_path / "t.txt").write_text(" S 00000ffc,8\n" * 3 + "I  00005000,3\n")
    ingest(tmp_path / "t.txt", tmp_path / "raw.parquet")
    assert pl.read_parquet(tmp_path / "raw.parquet")["page"].to_list() == [0, 0, 0, 5]
    options = Options(collapse=True, data_only=True)
    ingest(tmp_path / "t.txt", tmp_path / "folded.parquet", options=options)
    assert pl.read_parquet(tmp_path / "folded.parquet")["page"].to_list() == [0, 1] * 3


@pytest.mark.parametrize("collapse", [False, True])
def test_the_pid_of_a_program_under_lackey_is_what_the_user_says(tmp_path, collapse):
    ingest(LACKEY, tmp_path / "t.parquet", options=Options(pid=77, collapse=collapse))
    assert pl.read_parquet(tmp_path / "t.parquet")["pid"].unique().to_list() == [77]


def test_a_bound_asks_nothing_that_a_reduced_trace_lacks(tmp_path):
    table = tmp_path / "less.parquet"
    ingest(LACKEY, table, options=Options(reduce_below_bytes=65536))
    words = ["compare", str(table), "-p", "no-zswap", "-r", "lru", "-m", "64KiB"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "-p", "no-zswap", "-r", "lru", "-m", "4KiB"],
        ["compare", "-p", "no-zswap", "-r", "two-list", "-m", "1MiB"],
        ["compare", "-p", "store-raw", "-r", "lru", "-m", "1MiB"],
        ["curve", "--sizes", "4KiB"],
        ["size", "-p", "no-zswap", "-r", "lru", "--target", "p99<1s"],
    ],
)
def test_every_command_refuses_what_a_reduced_trace_cannot_answer(tmp_path, words):
    table = tmp_path / "less.parquet"
    ingest(LACKEY, table, options=Options(reduce_below_bytes=65536))
    done = CliRunner().invoke(app, [words[0], str(table), *words[1:]])
    assert done.exit_code == 1, done.output
    assert "64.0 KiB" in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 1

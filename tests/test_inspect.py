"""What `inspect` says, against the same figures worked out with dicts and lists."""

import json
from collections import Counter

import polars as pl
import pytest
from golden_captures import CAPTURES
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tracereplay.cli import app
from tracereplay.inspection import SLICES, in_words, inspect_trace
from tracereplay.readers import ingest
from tracereplay.trace import open_trace

run = CliRunner().invoke


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from([None, False, True]), st.integers(1, 5)),
        min_size=1,
        max_size=90,
    )
)
def test_figures_equal_those_of_a_plain_count(tmp_path_factory, trace):
    path = tmp_path_factory.mktemp("inspect") / "t.parquet"
    pl.DataFrame(
        {
            "page": pl.Series([page for page, _, _ in trace], dtype=pl.UInt64),
            "is_write": pl.Series([write for _, write, _ in trace], dtype=pl.Boolean),
            "run_len": pl.Series([length for _, _, length in trace], dtype=pl.UInt32),
        }
    ).write_parquet(path)
    found = inspect_trace(open_trace(path))

    touches: Counter[int] = Counter()
    for page, _, length in trace:
        touches[page] += length
    parts = min(SLICES, len(trace))
    seen: set[int] = set()
    working = []
    for part in range(parts):
        pages = {
            page for row, (page, _, _) in enumerate(trace) if row * parts // len(trace) == part
        }
        seen |= pages
        working.append((len(pages) * 4096, len(seen) * 4096))
    assert found.rows == len(trace)
    assert found.accesses == sum(touches.values())
    assert found.unique_pages == len(touches)
    assert found.writes == sum(write is True for _, write, _ in trace)
    assert found.reads == sum(write is False for _, write, _ in trace)
    assert found.unknown_writes == sum(write is None for _, write, _ in trace)
    assert found.pages_touched_once == sum(count == 1 for count in touches.values())
    assert found.accesses_per_page_p50 == sorted(touches.values())[len(touches) // 2]
    assert [
        (part["working_set_bytes"], part["touched_so_far_bytes"]) for part in found.working_set
    ] == working


def test_half_of_the_returns_come_within_what_is_said(tmp_path):
    pl.DataFrame({"page": list(range(100)) * 10}).write_parquet(tmp_path / "t.parquet")
    found = inspect_trace(open_trace(tmp_path / "t.parquet"))
    assert found.reuse_interval_p50_accesses == found.reuse_interval_p90_accesses == 128


def test_words_say_coverage_and_what_cannot_be_asked(tmp_path):
    ingest(CAPTURES / "refault-memcg12M.sw+maj.brief-ns.txt", tmp_path / "t.parquet")
    words = "\n".join(in_words(inspect_trace(open_trace(tmp_path / "t.parquet"))))
    assert "coverage    faults" in words
    assert "it cannot tell hit ratios" in words
    assert "major-faults 12, page-faults 18" in words
    assert "12 of the faults were major" in words
    assert "100.0 % not said" in words


def test_lost_events_and_instructions_are_said(tmp_path):
    frame = pl.DataFrame({"page": [1, 2, 1], "time_ns": [5, 7, 105]})
    footer = {"tracereplay.lost_events": "17", "tracereplay.clock": "instructions"}
    frame.write_parquet(tmp_path / "t.parquet", metadata=footer)
    words = "\n".join(in_words(inspect_trace(open_trace(tmp_path / "t.parquet"))))
    assert "lost        17 events, says the recorder" in words
    assert "time        100 instructions, no clock" in words


def test_json_is_one_object(tmp_path):
    ingest(CAPTURES / "tree40.lackey.txt", tmp_path / "t.parquet")
    result = run(app, ["inspect", str(tmp_path / "t.parquet"), "--format", "json"])
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["coverage"] == "full"
    assert found["clock"] == "instructions"
    assert found["duration_ns"] is None


@pytest.mark.parametrize("content", [b"", b"\0" * 10, b"PAR1junk"])
def test_what_is_no_table_is_refused(tmp_path, content):
    (tmp_path / "t").write_bytes(content)
    result = run(app, ["inspect", str(tmp_path / "t")])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")


def test_a_narrow_terminal_gets_whole_words_and_a_picture_that_fits(tmp_path):
    pages = [n * n % 997 for n in range(5000)]
    pl.DataFrame({"page": pages}, schema={"page": pl.UInt64}).write_parquet(tmp_path / "t.parquet")
    found = inspect_trace(open_trace(tmp_path / "t.parquet"))
    plain = in_words(found)
    narrow = in_words(found, 40)
    assert max(map(len, plain)) > 80
    assert all(len(line) <= 40 for line in narrow if str(tmp_path)[:20] not in line)
    assert sum("█" in line for line in narrow) == len(found.working_set)
    assert " ".join(" ".join(narrow).split()).count("resident") == " ".join(plain).count("resident")


def test_rows_without_a_time_do_not_hide_the_time_of_the_others(tmp_path):
    (tmp_path / "a.csv").write_text("vaddr\n0x1000\n0x2000\n")
    (tmp_path / "b.csv").write_text("time_ns,vaddr\n5,0x1000\n25,0x2000\n")
    ingest([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "t.parquet")
    done = run(app, ["inspect", str(tmp_path / "t.parquet")])
    assert done.exit_code == 0, done.output
    frame = pl.DataFrame({"page": [1, 2, 3], "time_ns": [None, 5, 25]})
    frame.write_parquet(tmp_path / "u.parquet", metadata={"tracereplay.clock": "mono"})
    assert inspect_trace(open_trace(tmp_path / "u.parquet")).duration_ns == 20


def test_what_a_name_would_tell_a_terminal_is_shown(tmp_path):
    path = tmp_path / "a\x1b[31m.parquet"
    pl.DataFrame({"page": [1, 2, 3]}).write_parquet(path)
    done = run(app, ["inspect", str(path)])
    assert done.exit_code == 0, done.output
    assert r"a\x1b[31m.parquet" in done.stdout
    assert "\x1b" not in done.stdout

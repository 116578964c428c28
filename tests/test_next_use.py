import resource
import subprocess
import sys
import tempfile

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracereplay import next_use
from tracereplay.errors import OutputError
from tracereplay.next_use import NEVER, NextUses
from tracereplay.trace import open_trace

REFUSED = """
import resource, sys
from tracereplay.errors import OutputError
from tracereplay.next_use import NextUses
from tracereplay.trace import open_trace

trace = open_trace(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    NextUses(trace)
except OutputError as error:
    print(error)
"""


def trace_of(path, pages):
    pl.DataFrame({"page": pl.Series(pages, dtype=pl.UInt64)}).write_parquet(path)
    return open_trace(path)


def expected_of(pages):
    later = {}
    rows = []
    for row in range(len(pages) - 1, -1, -1):
        rows.append(later.get(pages[row], NEVER))
        later[pages[row]] = row
    return rows[::-1]


@settings(max_examples=40)
@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 70), st.booleans())
def test_every_access_knows_the_row_of_its_next(tmp_path_factory, pages, chunk, wide):
    trace = trace_of(tmp_path_factory.mktemp("t") / "t.parquet", pages)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(next_use, "_CHUNK_ROWS", chunk)
        if wide:
            patch.setattr(next_use, "_NARROW_ROWS", 0)
        with NextUses(trace) as uses:
            starts = np.cumsum([0, *uses.batch_rows])
            parts = [
                uses.of(int(at), rows)
                for at, rows in zip(starts[:-1], uses.batch_rows, strict=True)
            ]
    assert [part.size for part in parts] == [b.page_ids.size for b in trace.batches()]
    assert np.concatenate([np.empty(0, np.int64), *parts]).tolist() == expected_of(pages)


def test_any_rows_may_be_asked_for_in_any_order(tmp_path):
    pages = np.random.default_rng(3).integers(0, 50, 5000).tolist()
    expected = expected_of(pages)
    with NextUses(trace_of(tmp_path / "t.parquet", pages)) as uses:
        for first, rows in ((4000, 1000), (0, 7), (77, 2000)):
            assert uses.of(first, rows).tolist() == expected[first : first + rows]


def test_no_temporary_file_is_left_or_even_seen(tmp_path, monkeypatch):
    folder = tmp_path / "spill"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    trace = trace_of(tmp_path / "t.parquet", [1, 2, 1])
    with NextUses(trace) as uses:
        assert uses.of(0, 3).tolist() == [2, NEVER, NEVER]
        assert list(folder.iterdir()) == []
    assert list(folder.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with pytest.raises(OutputError, match="TMPDIR"):
        NextUses(trace_of(tmp_path / "t.parquet", [1]))


@pytest.mark.parametrize("room", [0, 1000, 11_000])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, room):
    # A limit of the file size stands for the full disk; 3000 rows need 12,000 bytes.
    folder = tmp_path / "spill"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    trace_of(tmp_path / "t.parquet", list(range(3000)))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    run = subprocess.run(
        [sys.executable, "-c", REFUSED, str(tmp_path / "t.parquet"), str(room)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stderr == ""
    assert run.stdout.startswith(f"{folder}: File too large; the next uses of a trace need 4 bytes")
    assert run.stdout.count("\n") == 1
    assert list(folder.iterdir()) == []


def test_an_interrupt_while_spilling_leaves_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "spill"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    trace = trace_of(tmp_path / "t.parquet", [1, 2, 1])
    opened = []

    def interrupted(file, *_):
        opened.append(file)
        raise KeyboardInterrupt

    monkeypatch.setattr(next_use, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        NextUses(trace)
    assert opened[0].closed
    assert list(folder.iterdir()) == []

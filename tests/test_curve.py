import importlib.util
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import tracereplay
from tracereplay import distances as distances_module
from tracereplay.cli import app
from tracereplay.distances import StackDistances, holes_before, make_hole, new_tree, widen_tree
from tracereplay.errors import SettingsError
from tracereplay.miss_curve import knees
from tracereplay.report.miss_curve import write_curve_plot
from tracereplay.trace import open_trace
from tracereplay.units import format_size

_spec = importlib.util.spec_from_file_location(
    "oracle_curve", Path(__file__).parent / "oracle_curve.py"
)
assert _spec is not None
assert _spec.loader is not None
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)

SQLITE = Path(__file__).parent / "data" / "sqlite-index-pages.parquet"

# Misses of an LRU of so many pages on that trace, worked out apart from this package.
SQLITE_MISSES = {98: 4041, 197: 3916, 494: 3593, 989: 3029, 1483: 1979, 1978: 1978}

page_lists = st.lists(st.integers(0, 12), max_size=80)


def distances_of(page_ids, cuts=()):
    stack = StackDistances()
    for part in np.split(np.array(page_ids, np.uint32), sorted(cuts)):
        stack.add(part)
    return stack


@given(page_lists)
def test_the_histogram_is_that_of_a_list_searched_from_its_front(pages):
    ids = [sorted(set(pages)).index(page) for page in pages]
    found = distances_of(ids)
    expected = oracle.stack_distances(pages)
    assert found.first_uses == expected.count(None)
    assert found.histogram().tolist() == [
        expected.count(distance) for distance in range(found.first_uses)
    ]


@given(page_lists)
def test_the_curve_at_each_size_is_an_lru_replay_at_that_size(pages):
    misses = distances_of(pages).misses()
    assert misses.tolist() == [oracle.lru_misses(pages, size) for size in range(misses.size)]


@given(page_lists, st.lists(st.integers(0, 80), max_size=5))
def test_cutting_the_trace_into_batches_changes_nothing(pages, cuts):
    cuts = [min(cut, len(pages)) for cut in cuts]
    assert distances_of(pages, cuts).misses().tolist() == distances_of(pages).misses().tolist()


@settings(max_examples=20)
@given(st.integers(0, 1 << 30), st.sampled_from([3, 40, 700]))
def test_squeezing_the_holes_out_changes_nothing(seed, pages):
    rng = np.random.default_rng(seed)
    ids = np.minimum(rng.zipf(1.3, 6000) - 1, pages - 1).astype(np.uint32)
    wide = distances_of(ids).misses()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distances_module, "_LEAST_POSITIONS", 1 << 11)
        narrow = distances_of(ids)
    assert narrow.misses().tolist() == wide.tolist()
    assert [wide[size] for size in (1, 2)] == [oracle.lru_misses(ids.tolist(), s) for s in (1, 2)]


@pytest.mark.parametrize("positions", [1 << 11, 1 << 16, 1 << 20, 1 << 25])
@pytest.mark.parametrize("before", [1 << 11, 1 << 17, 1 << 22, 1 << 24])
def test_the_tree_counts_holes_on_every_level_however_it_grew(positions, before):
    rng = np.random.default_rng(positions)
    tree = new_tree(min(before, positions))
    early = np.unique(rng.integers(0, min(before, positions), 100))
    for hole in rng.permutation(early).tolist():
        make_hole(tree, hole)
    widen_tree(tree, positions, early.size)
    holes = np.setdiff1d(rng.integers(0, positions, 300), early)
    edges = [0, 63, 64, 2047, 2048, 65535, 65536, (1 << 20) - 1, 1 << 20, (1 << 24) - 1, 1 << 24]
    for hole in rng.permutation(holes).tolist():
        make_hole(tree, hole)
    holes = np.union1d(holes, early)
    for position in {*holes.tolist(), *(e for e in edges if e < positions), positions - 1}:
        assert holes_before(tree, position) == np.searchsorted(holes, position)


@pytest.mark.compiled
def test_misses_of_a_recorded_program_are_those_worked_out_elsewhere():
    frame = tracereplay.curve(SQLITE)
    at = dict(zip(frame["memory_bytes"], frame["misses"], strict=True))
    assert {pages: at[pages * 4096] for pages in SQLITE_MISSES} == SQLITE_MISSES
    few = tracereplay.curve(SQLITE, [pages * 4096 for pages in SQLITE_MISSES])
    assert few["misses"].to_list() == list(SQLITE_MISSES.values())
    assert frame["memory_bytes"].to_list() == [4096 * n for n in range(1, 1979)]
    assert frame["misses"].is_sorted(descending=True)
    assert set(frame["cold_misses"]) == {1978}
    assert frame["miss_ratio"][-1] == 1978 / 2440809


def write(path, **columns):
    pl.DataFrame(columns).write_parquet(path, metadata={"tracereplay.coverage": "full"})
    return path


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from([7, 3, None]), st.integers(0, 6)), max_size=60))
def test_apart_each_process_has_the_curve_of_its_own_rows(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("t") / "t.parquet"
    write(
        path,
        pid=pl.Series([pid for pid, _ in rows], dtype=pl.UInt32),
        page=pl.Series([page for _, page in rows], dtype=pl.UInt64),
    )
    frame = tracereplay.curve(path, [4096, 3 * 4096], by_pid=True)
    pids = list(dict.fromkeys(pid for pid, _ in rows))
    expected = [
        (pid, oracle.lru_misses([page for p, page in rows if p == pid], size))
        for pid in pids
        for size in (1, 3)
    ]
    assert list(zip(frame["pid"], frame["misses"], strict=True)) == expected
    shown = CliRunner().invoke(app, ["curve", str(path), "--by-pid", "--sizes", "4KiB"]).stdout
    assert [line.split()[0] for line in shown.splitlines()[1:]] == [
        "-" if pid is None else str(pid) for pid in pids
    ]
    together = tracereplay.curve(path, [4096, 3 * 4096])
    assert together["misses"].to_list() == [oracle.lru_misses(rows, 1), oracle.lru_misses(rows, 3)]


def test_folded_repeats_count_as_accesses_that_hit(tmp_path):
    path = write(
        tmp_path / "t.parquet",
        page=pl.Series([1, 2, 1], dtype=pl.UInt64),
        run_len=pl.Series([5, 1, 4], dtype=pl.UInt32),
    )
    frame = tracereplay.curve(path)
    assert frame["misses"].to_list() == [3, 2]
    assert frame["miss_ratio"].to_list() == [0.3, 0.2]


def test_a_reduced_trace_refuses_sizes_below_its_window(tmp_path):
    path = tmp_path / "t.parquet"
    pl.DataFrame({"page": pl.Series(range(20), dtype=pl.UInt64)}).write_parquet(
        path, metadata={"tracereplay.reduced_below_bytes": "32768"}
    )
    with pytest.raises(SettingsError, match=r"only from 32\.0 KiB on"):
        tracereplay.curve(path, [16384])
    assert tracereplay.curve(path)["memory_bytes"][0] == 32768
    assert tracereplay.curve(path, [32768])["misses"].to_list() == [20]


def test_an_empty_trace_has_no_misses(tmp_path):
    path = write(tmp_path / "t.parquet", page=pl.Series([], dtype=pl.UInt64))
    frame = tracereplay.curve(path)
    assert frame["misses"].to_list() == [0]
    assert open_trace(path).count() == (0, 0)


def test_knees_stand_where_a_loop_fits():
    falling = np.array([1000] * 50 + [100] * 50 + [40] * 50)
    assert knees(falling) == [50, 100]
    assert knees(np.arange(100)[::-1]) == []
    some = np.array([0, 10, 49, 50, 75, 99, 100, 149])  # sizes that are not evenly spaced
    assert some[knees(falling[some], some)].tolist() == [50, 100]


runner = CliRunner()


@pytest.fixture
def short(tmp_path):
    path = tmp_path / "short.parquet"
    pl.scan_parquet(SQLITE).head(2000).sink_parquet(path)
    return path


def test_the_command_prints_marks_and_writes(tmp_path, short):
    out = tmp_path / "curve.parquet"
    result = runner.invoke(app, ["curve", str(short), "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert "knee" in result.stdout
    assert f"wrote {out}" in result.stderr.replace("\n", "")
    assert pl.read_parquet(out).equals(tracereplay.curve(short))
    again = runner.invoke(app, ["curve", str(short), "-o", str(out)])
    assert again.exit_code == 1
    assert "--force" in again.stderr


def test_the_command_takes_sizes_and_percentages(short):
    pages = pl.read_parquet(short)["page"].to_list()
    unique = len(set(pages))
    misses = oracle.lru_misses(pages, 16)
    result = runner.invoke(app, ["curve", str(short), "--sizes", "64KiB,100%", "--format", "csv"])
    assert result.stdout.splitlines()[1:] == [
        f"65536,{misses},{unique},{misses / 2000}",
        f"{unique * 4096},{unique},{unique},{unique / 2000}",
    ]
    bad = runner.invoke(app, ["curve", str(short), "--sizes", "1KiB"])
    assert bad.exit_code == 1
    assert "only from 4.0 KiB on" in bad.stderr


def test_the_command_counts_refaults_without_first_touches(tmp_path):
    path = write(tmp_path / "t.parquet", page=np.tile(np.arange(4), 3).astype(np.uint64))
    result = runner.invoke(app, ["curve", str(path), "--sizes", "12KiB,16KiB"])
    assert [line.split() for line in result.stdout.splitlines()[1:]] == [
        ["12.0", "KiB", "12", "8", "100.0000%"],
        ["16.0", "KiB", "4", "0", "33.3333%"],
    ]
    result = runner.invoke(app, ["curve", str(path), "--distances"])
    assert "2 to 3" in result.stdout
    assert "16.0 KiB" in result.stdout  # three others and the page itself


def test_the_plot_is_drawn_with_its_knees(tmp_path, short):
    for name, options in (
        ("every.svg", []),
        ("few.svg", ["--sizes", "10%,50%,100%"]),
        ("one.svg", ["--sizes", "1MiB"]),
        ("pids.svg", ["--by-pid"]),
        ("sample.png", ["--sample", "300"]),
    ):
        plot = tmp_path / name
        result = runner.invoke(app, ["curve", str(short), *options, "--plot", str(plot)])
        assert result.exit_code == 0, result.output
        assert f"wrote {plot}" in result.stderr.replace("\n", "")
        assert plot.read_bytes()[:4] in (b"<svg", b"\x89PNG")
    drawn = (tmp_path / "every.svg").read_text()
    marked = knees(tracereplay.curve(short)["misses"].to_numpy())
    assert marked
    for row in marked:
        assert format_size((row + 1) * 4096) in drawn
    assert "first touches" in drawn
    again = runner.invoke(app, ["curve", str(short), "--plot", str(tmp_path / "one.svg")])
    assert (again.exit_code, "--force" in again.stderr) == (1, True)
    for bad in (["--plot", "x.pdf"], ["--plot", "x.svg", "--sizes", "1MiB", "--pool", "1MiB"]):
        assert runner.invoke(app, ["curve", str(short), *bad]).exit_code == 1


def test_a_plot_of_an_empty_trace_and_of_many_processes(tmp_path):
    empty = write(tmp_path / "e.parquet", page=pl.Series([], dtype=pl.UInt64))
    many = write(
        tmp_path / "m.parquet",
        pid=pl.Series([row % 12 for row in range(600)], dtype=pl.UInt32),
        page=pl.Series([row % 77 for row in range(600)], dtype=pl.UInt64),
    )
    write_curve_plot(tmp_path / "e.svg", tracereplay.curve(empty), "e")
    write_curve_plot(tmp_path / "m.svg", tracereplay.curve(many, by_pid=True), "m")
    assert "4 more processes left out" in (tmp_path / "m.svg").read_text()
    for by_pid in (True, False):
        none = tracereplay.curve(empty, [4096], by_pid=by_pid)
        write_curve_plot(tmp_path / "n.svg", none, "n", force=True)


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.sampled_from([7, 3, None]), st.integers(0, 6), st.integers(1, 4)), max_size=60
    ),
    st.booleans(),
)
def test_hits_by_distance_are_those_of_a_list_searched_from_its_front(
    tmp_path_factory, rows, by_pid
):
    path = write(
        tmp_path_factory.mktemp("t") / "t.parquet",
        pid=pl.Series([pid for pid, _, _ in rows], dtype=pl.UInt32),
        page=pl.Series([page for _, page, _ in rows], dtype=pl.UInt64),
        run_len=pl.Series([run for _, _, run in rows], dtype=pl.UInt32),
    )
    frame = tracereplay.reuse_distances(path, by_pid=by_pid)
    spaces = list(dict.fromkeys(pid for pid, _, _ in rows)) if by_pid else [None]
    expected = {}
    for space in spaces:
        here = [row for row in rows if not by_pid or row[0] == space]
        accesses = [row[:2] for row in here for _ in range(row[2])]
        for distance in oracle.stack_distances(accesses):
            if distance is not None:
                key = (space, distance) if by_pid else (distance,)
                expected[key] = expected.get(key, 0) + 1
    found = {row[:-1]: row[-1] for row in frame.rows()}
    assert found == expected


def test_the_command_prints_hits_by_distance(tmp_path, short):
    out = tmp_path / "d.parquet"
    result = runner.invoke(app, ["curve", str(short), "--distances", "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert "other pages since" in result.stdout
    frame = pl.read_parquet(out)
    assert frame.equals(tracereplay.reuse_distances(short))
    cold = tracereplay.curve(short)["cold_misses"][0]
    assert frame["hits"].sum() == 2000 - cold
    refused = runner.invoke(app, ["curve", str(short), "--distances", "--sizes", "50%"])
    assert refused.exit_code == 1


def test_a_reduced_trace_has_no_distances_below_its_window(tmp_path):
    path = tmp_path / "t.parquet"
    pages = [0, 1, 0, 2, 3, 4, 0]
    pl.DataFrame({"page": pl.Series(pages, dtype=pl.UInt64)}).write_parquet(
        path, metadata={"tracereplay.reduced_below_bytes": "8192"}
    )
    assert tracereplay.reuse_distances(path).rows() == [(3, 1)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sizes", "0"], "cannot answer for 0 B"),
        (["--sizes", "4095"], "4,095 bytes of memory, only from 4,096 bytes on"),
        (["--sizes", ","], "no size in it"),
        (["--sizes", "99999999999999999999"], "more than 8 EiB"),
        (["--sizes", "nan%"], "no percentage"),
        (["--sizes", "1e400%"], "no percentage"),
        (["--sizes", "1e300%"], "more than 8 EiB"),
        (["-p", "swap-on-reject"], "--pool"),
        (["--codec", "lzo"], "--pool"),
        (["--sizes", "1MiB", "--pool", ","], "pool limits"),
        (["--sizes", "1MiB", "--pool", "1MiB", "-p", "mixed-lru"], "compare"),
    ],
)
def test_what_cannot_be_answered_is_one_line(short, options, said):
    refused = runner.invoke(app, ["curve", str(short), *options])
    assert refused.exit_code == 1
    assert isinstance(refused.exception, SystemExit)
    assert said in refused.stderr.replace("\n", " ")


def test_sizes_beyond_the_footprint_and_repeated_ones_are_answered_in_their_order(short):
    unique = tracereplay.curve(short).height
    sizes = [1 << 40, 4096, 1 << 40, 4096 * unique, 8191]
    frame = tracereplay.curve(short, sizes)
    assert frame["memory_bytes"].to_list() == sizes
    assert frame["misses"][0] == frame["misses"][2] == frame["misses"][3] == unique
    assert frame["misses"][1] == frame["misses"][4]


def test_an_empty_trace_has_no_misses_in_a_sample_either(tmp_path):
    path = write(tmp_path / "t.parquet", page=pl.Series([], dtype=pl.UInt64))
    for options in (["--sample", "1%"], ["--sample", "500", "--seed", "-1"], ["--distances"]):
        result = runner.invoke(app, ["curve", str(path), *options])
        assert result.exit_code == 0, result.output
        assert "-1" not in result.stdout


def test_of_many_processes_the_largest_are_printed_and_all_are_written(tmp_path):
    pids = [pid for pid in range(1, 31) for _ in range(pid)]
    write(
        tmp_path / "t.parquet",
        pid=pl.Series(pids, dtype=pl.UInt32),
        page=pl.Series(range(len(pids)), dtype=pl.UInt64),
    )
    out = tmp_path / "c.parquet"
    words = ["curve", str(tmp_path / "t.parquet"), "--by-pid", "--sizes", "4KiB", "-o", str(out)]
    done = CliRunner().invoke(app, words)
    lines = done.stdout.splitlines()[1:]
    assert [int(line.split()[0]) for line in lines[:20]] == list(range(11, 31))
    assert lines[20].startswith("the 20 processes with the most pages, of 30")
    assert pl.read_parquet(out)["pid"].n_unique() == 30

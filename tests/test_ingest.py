"""Captures in, tables out: the framework, its refusals and its command line."""

import bz2
import functools
import gzip
import io
import lzma
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
import zstandard
from golden_captures import CAPTURES, GOLDEN, OPTIONS, rows_of
from typer.testing import CliRunner

from tracereplay.cli import app
from tracereplay.errors import (
    FormatError,
    InputError,
    LostEventsError,
    OutputError,
    TracereplayError,
)
from tracereplay.files import Input, spool
from tracereplay.readers import FORMATS, Options, base, ingest
from tracereplay.schema import METADATA_KEYS, METADATA_PREFIX
from tracereplay.trace import open_trace

run = CliRunner().invoke
ROOT = Path(__file__).parents[1]
BRIEF = CAPTURES / "python-sort.sw.brief-ns.txt"


def footer(path):
    metadata = pl.read_parquet_metadata(path)
    return {
        key.removeprefix(METADATA_PREFIX): value
        for key, value in metadata.items()
        if key.startswith(METADATA_PREFIX)
    }


def test_a_run_of_no_access_is_left_out_and_counted(tmp_path):
    (tmp_path / "r.csv").write_text("page,run_len\n1,2\n2,0\n3,1\n")
    done = ingest(tmp_path / "r.csv", tmp_path / "r.parquet")
    assert (done.records, done.accesses, done.unique_pages) == (2, 3, 2)
    assert done.notes[-1] == "1 rows of no access (run_len 0) are left out"
    assert pl.read_parquet(tmp_path / "r.parquet")["page"].to_list() == [1, 3]


@pytest.mark.parametrize("capture", sorted(CAPTURES.iterdir()), ids=lambda path: path.name)
def test_a_capture_becomes_exactly_these_rows(capture):
    assert rows_of(capture) == (GOLDEN / f"{capture.name}.tsv").read_text()


@pytest.mark.parametrize(
    "capture",
    [path for path in sorted(CAPTURES.iterdir()) if b"\0" not in path.read_bytes()],
    ids=lambda path: path.name,
)
def test_a_mark_in_front_and_carriage_returns_change_no_row(tmp_path, capture):
    text = capture.read_bytes()
    for changed in (b"\xef\xbb\xbf" + text, text.replace(b"\n", b"\r\n")):
        (tmp_path / capture.name).write_bytes(changed)
        found = rows_of(tmp_path / capture.name)
        assert found == (GOLDEN / f"{capture.name}.tsv").read_text()


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_says_what_it_is(name):
    entry = FORMATS[name]
    assert entry.name == name
    assert len(entry.summary) < 100
    assert "\n" not in entry.summary


def test_the_footer_says_where_the_table_came_from(tmp_path):
    ingest(BRIEF, tmp_path / "t.parquet")
    metadata = footer(tmp_path / "t.parquet")
    assert set(metadata) <= set(METADATA_KEYS)
    assert metadata["records"] == metadata["accesses"] == "40"
    assert metadata["coverage"] == "faults"
    assert metadata["clock"] == "perf"
    assert metadata["time_resolution_ns"] == "1"
    assert metadata["sources"] == '["python-sort.sw.brief-ns.txt"]'


def _two_streams(data):
    """Return an xz file of two streams with padding in between, as `cat a.xz b.xz` makes."""
    return lzma.compress(data[:999]) + b"\0" * 8 + lzma.compress(data[999:]) + b"\0" * 4


@pytest.mark.parametrize(
    "pack",
    [
        gzip.compress, zstandard.ZstdCompressor().compress, bytes, lzma.compress, bz2.compress,
        _two_streams,
    ],
)  # fmt: skip
def test_compressed_input_and_several_inputs_read_the_same(tmp_path, pack):
    (tmp_path / "a").write_bytes(pack(BRIEF.read_bytes()))
    ingest(tmp_path / "a", tmp_path / "one.parquet")
    ingest([tmp_path / "a", BRIEF], tmp_path / "two.parquet")
    one = pl.read_parquet(tmp_path / "one.parquet")
    assert pl.read_parquet(tmp_path / "two.parquet").equals(pl.concat([one, one]))
    assert footer(tmp_path / "two.parquet")["unique_pages"] == "35"


def test_accesses_are_counted_beyond_32_bits(tmp_path):
    most = (1 << 32) - 1
    (tmp_path / "t.csv").write_text(f"page,run_len\n1,{most}\n2,{most}\n")
    done = ingest(tmp_path / "t.csv", tmp_path / "t.parquet")
    assert done.accesses == int(footer(done.path)["accesses"]) == 2 * most


@pytest.mark.parametrize("row_group", [1, 3, 1 << 18])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_no_column_of_any_input_is_lost_whichever_comes_first(
    tmp_path, monkeypatch, row_group, order
):
    monkeypatch.setattr("tracereplay.readers.write._ROW_GROUP", row_group)
    texts = [
        "time_ns,vaddr\n1,0x1000\n2,0x1000\n",
        "time_ns,pid,vaddr,is_write\n3,7,0x1000,1\n4,8,0x1000,0\n",
        "page,event\n9,store\n9,load\n",
    ]
    rows = [
        [(1, None, 4096, 1, None, None), (2, None, 4096, 1, None, None)],
        [(3, 7, 4096, 1, True, None), (4, 8, 4096, 1, False, None)],
        [(None, None, None, 9, None, "store"), (None, None, None, 9, None, "load")],
    ]
    paths = [tmp_path / f"{number}.csv" for number in order]
    for number, path in zip(order, paths, strict=True):
        path.write_text(texts[number])
    done = ingest(paths, tmp_path / "t.parquet", options=Options(address_base=16))
    columns = ["time_ns", "pid", "vaddr", "page", "is_write", "event"]
    found = pl.read_parquet(tmp_path / "t.parquet")
    assert found.select(columns).rows() == [row for number in order for row in rows[number]]
    assert found.columns == ["time_ns", "pid", "vaddr", "page", "is_write", "run_len", "event"]
    assert (done.records, done.unique_pages, done.events) == (6, 4, {"store": 1, "load": 1})
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv"] * 3 + [".parquet"]
    trace = open_trace(tmp_path / "t.parquet")
    assert not trace.has_time
    assert sum(batch.page_ids.size for batch in trace.batches()) == 6
    assert any("clocks of these traces differ" in note for note in trace.notes)


def test_a_table_read_again_is_the_same_table(tmp_path):
    ingest(BRIEF, tmp_path / "one.parquet")
    ingest(tmp_path / "one.parquet", tmp_path / "two.parquet")
    assert pl.read_parquet(tmp_path / "two.parquet").equals(
        pl.read_parquet(tmp_path / "one.parquet")
    )
    kept = ("coverage", "clock", "unique_pages", "records", "time_resolution_ns")
    one, two = footer(tmp_path / "one.parquet"), footer(tmp_path / "two.parquet")
    assert {key: two[key] for key in kept} == {key: one[key] for key in kept}


def test_the_resolution_of_several_captures_is_that_of_the_coarsest(tmp_path):
    paths = [tmp_path / f"{resolution}.parquet" for resolution in (1, 1000)]
    for path in paths:
        metadata = {"tracereplay.time_resolution_ns": path.stem, "tracereplay.clock": "perf"}
        pl.DataFrame({"time_ns": [1, 2], "page": [1, 2]}).write_parquet(path, metadata=metadata)
    ingest(paths, tmp_path / "t.parquet")
    assert footer(tmp_path / "t.parquet")["time_resolution_ns"] == "1000"


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv"])
def test_a_bare_table_of_pages_is_taken(tmp_path, suffix):
    frame = pl.DataFrame({"page": [7, 8, 7], "is_write": [True, False, True]})
    path = tmp_path / f"t.{suffix}"
    {"parquet": frame.write_parquet, "arrow": frame.write_ipc, "csv": frame.write_csv}[suffix](path)
    done = ingest(path, tmp_path / "out.parquet", options=Options(coverage="full"))
    assert (done.records, done.unique_pages, done.coverage) == (3, 2, "full")
    assert pl.read_parquet(tmp_path / "out.parquet")["is_write"].to_list() == [True, False, True]


@pytest.mark.parametrize(
    ("dtype", "step_ns"),
    [
        (pl.Datetime("ms"), 10**6),
        (pl.Datetime("us", "UTC"), 10**3),
        (pl.Datetime("ns"), 1),
        (pl.Duration("ms"), 10**6),
        (pl.Duration("us"), 10**3),
        (pl.Date, 86400 * 10**9),
        (pl.Time, 1),
    ],
)
@pytest.mark.parametrize("name", ["time", "seconds"])
def test_times_of_a_table_are_converted_from_their_unit(tmp_path, dtype, step_ns, name):
    steps = pl.Series(name, [1, None, 3], pl.Int32 if dtype == pl.Date else pl.Int64).cast(dtype)
    pl.DataFrame([steps, pl.Series("page", [1, 2, 3])]).write_parquet(tmp_path / "t.parquet")
    ingest(tmp_path / "t.parquet", tmp_path / "u.parquet")
    found = pl.read_parquet(tmp_path / "u.parquet")["time_ns"].to_list()
    assert found == [step_ns, None, 3 * step_ns]


@pytest.mark.parametrize("moment", [-1, 1 << 62])
def test_a_time_that_no_64_bits_hold_is_refused(tmp_path, moment):
    time = pl.Series("time", [moment]).cast(pl.Datetime("ms"))
    pl.DataFrame([time, pl.Series("page", [1])]).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"t.parquet: cannot be read: conversion"):
        ingest(tmp_path / "t.parquet", tmp_path / "u.parquet")


def test_only_times_may_be_dates(tmp_path):
    page = pl.Series("page", [1]).cast(pl.Datetime("ms"))
    page.to_frame().write_parquet(tmp_path / "t.parquet")
    with pytest.raises(FormatError, match=r"'page' is Datetime.*whole numbers expected"):
        ingest(tmp_path / "t.parquet", tmp_path / "u.parquet")


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_row_without_a_page_has_it_from_its_address_and_the_other_way_round(tmp_path, suffix):
    rows = {"vaddr": [0x5123, 0x6000, None, None], "page": [None, 6, 7, None]}
    frame = pl.DataFrame(rows, schema={"vaddr": pl.UInt64, "page": pl.UInt64})
    path = tmp_path / f"t.{suffix}"
    {"parquet": frame.write_parquet, "csv": frame.write_csv}[suffix](path)
    done = ingest(path, tmp_path / "u.parquet", options=Options(address_base=10))
    assert pl.read_parquet(tmp_path / "u.parquet").select("vaddr", "page").rows() == [
        (0x5123, 5),
        (0x6000, 6),
        (None, 7),
    ]
    assert done.unique_pages == 3


def test_columns_of_other_names_are_mapped(tmp_path):
    (tmp_path / "t.csv").write_text(
        "when;where\n" + "".join(f"{n};0x{n:x}000\n" for n in range(1, 9))
    )
    with pytest.raises(FormatError, match="no reader knows"):
        ingest(tmp_path / "t.csv", tmp_path / "t.parquet")
    options = Options(columns={"vaddr": "where", "time_ns": "when"})
    ingest(tmp_path / "t.csv", tmp_path / "t.parquet", format="csv", options=options)
    frame = pl.read_parquet(tmp_path / "t.parquet")
    assert frame["page"].to_list() == frame["time_ns"].to_list() == list(range(1, 9))


def test_digits_only_are_decimal_where_there_are_enough_and_a_question_where_not(tmp_path):
    (tmp_path / "t.csv").write_text("vaddr\n" + "140107377029120\n" * 5)
    ingest(tmp_path / "t.csv", tmp_path / "t.parquet")
    assert pl.read_parquet(tmp_path / "t.parquet")["vaddr"][0] == 140107377029120
    (tmp_path / "s.csv").write_text("vaddr\n400040\n")
    with pytest.raises(FormatError, match="--address-base"):
        ingest(tmp_path / "s.csv", tmp_path / "s.parquet")
    ingest(tmp_path / "s.csv", tmp_path / "s.parquet", options=Options(address_base=16))
    assert pl.read_parquet(tmp_path / "s.parquet")["vaddr"][0] == 0x400040


def test_chunk_borders_change_nothing(tmp_path, monkeypatch):
    small = functools.partial(base.text_chunks, chunk_bytes=61)
    for name in ("tree.sw.callchain.txt", "tree.sw-group.reltime-plusaddr.txt"):
        text = (CAPTURES / name).read_bytes()
        ingest(CAPTURES / name, tmp_path / "whole.parquet", force=True)
        monkeypatch.setattr("tracereplay.readers.perf_script.text_chunks", small)
        (tmp_path / name).write_bytes(text)
        ingest(tmp_path / name, tmp_path / "cut.parquet", force=True)
        monkeypatch.undo()
        assert pl.read_parquet(tmp_path / "cut.parquet").equals(
            pl.read_parquet(tmp_path / "whole.parquet")
        )


def test_bad_lines_are_shown_and_more_than_one_percent_is_an_error(tmp_path):
    path = tmp_path / "t.txt"
    good = BRIEF.read_text().splitlines(keepends=True)
    path.write_text("".join([*good, "hello world\n"]))
    with pytest.raises(FormatError, match=r"1 of 41 lines.*--allow-bad[^\n]*\n.*t.txt:41: 'hello"):
        ingest(path, tmp_path / "t.parquet")
    done = ingest(path, tmp_path / "t.parquet", options=Options(allow_bad=True))
    assert (done.records, done.bad_lines) == (40, 1)
    assert footer(tmp_path / "t.parquet")["skipped_lines"] == "1"
    path.write_text("".join(good * 3 + ["hello world\n"]))
    done = ingest(path, tmp_path / "u.parquet")
    assert (done.bad_lines, done.examples) == (1, [f"{path}:121: 'hello world'"])


def test_what_the_program_itself_printed_counts_as_lines_that_cannot_be_read(tmp_path):
    rows = "".join(f"{at},77,0x{4096 * at:x}\n" for at in range(1, 151))
    text = f"Attaching 1 probe...\ntime_ns,pid,vaddr\n{rows}"
    capture, out = tmp_path / "t.txt", tmp_path / "t.parquet"
    capture.write_text(text + "hello from the program\n")
    assert ingest(capture, out, format="bpftrace").foreign_lines >= 1
    capture.write_text(text + "hello from the program\n" * 3)
    with pytest.raises(FormatError, match="over 1 %"):
        ingest(capture, out, format="bpftrace", force=True)
    options = Options(allow_bad=True)
    assert ingest(capture, out, format="bpftrace", options=options, force=True).records == 150


def test_lost_events_stop_it_unless_allowed(tmp_path):
    capture = CAPTURES / "burst.sw.lost-events.ns.txt"
    with pytest.raises(FormatError, match=r"lost 240 events.*--allow-lost"):
        ingest(capture, tmp_path / "t.parquet")
    assert list(tmp_path.iterdir()) == []
    ingest(capture, tmp_path / "t.parquet", options=OPTIONS[capture.name])
    assert footer(tmp_path / "t.parquet")["lost_events"] == "240"


def test_a_kernel_address_as_the_one_number_is_the_instruction_pointer(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text(
        " 8736  1745.866714480: ffffffff8177539a\n 8736  1745.866744514: 7fd08e4bd110\n"
    )
    with pytest.raises(FormatError, match=r":1: .*instruction pointer.*--address-field"):
        ingest(path, tmp_path / "t.parquet")
    ingest(path, tmp_path / "t.parquet", options=Options(address_field="first"))
    assert pl.read_parquet(tmp_path / "t.parquet").height == 2


def test_a_difference_between_times_is_no_time(tmp_path):
    path = tmp_path / "t.txt"
    line = "t 1/1 [000]     0.00000{}: page-faults:     7fd08e4bd110 x 7fd08e4bd110 y\n"
    path.write_text("".join(line.format(n * 7 % 10) for n in range(100)))
    with pytest.raises(FormatError, match="--deltatime"):
        ingest(path, tmp_path / "t.parquet")


def test_a_command_name_that_looks_like_a_time_is_still_a_name(tmp_path):
    path = tmp_path / "t.txt"
    line = " 7 1.123456: x  9/8  [001]  1.000002: page-faults:u:     7fd08e4bd110 a b (c d)             41d8 e\n"
    path.write_text(line * 3)
    ingest(path, tmp_path / "t.parquet", options=Options(keep_comm=True))
    row = pl.read_parquet(tmp_path / "t.parquet").row(0, named=True)
    assert (row["time_ns"], row["pid"], row["tid"], row["cpu"]) == (1_000_002_000, 9, 8, 1)
    assert (row["comm"], row["event"], row["vaddr"]) == (
        "7 1.123456: x",
        "page-faults:u",
        0x7FD08E4BD110,
    )


NAMES = ["99 1.123456:", "a 99 1.123456:", "7/8 [1] 2.34567", "1.5: 2", "x [001] 12.5:", "-7"]


@pytest.mark.parametrize("fields", ["{comm:>16} {tid:>5} [001]", "{comm} {tid:>7} [001]"])
@pytest.mark.parametrize("comm", NAMES)
def test_a_time_in_the_columns_of_the_command_name_is_part_of_it(tmp_path, fields, comm):
    """Of two heads on a line the one counts that leaves the name its 16 columns (or fewer)."""
    rest = " 15881.060565:          1 page-faults:     7f86da042010 [unknown]     7f86da9af8bb _x\n"
    (tmp_path / "t.txt").write_text((fields.format(comm=comm, tid=6914) + rest) * 3)
    ingest(tmp_path / "t.txt", tmp_path / "t.parquet", options=Options(keep_comm=True))
    row = pl.read_parquet(tmp_path / "t.parquet").row(0, named=True)
    assert (row["time_ns"], row["tid"], row["cpu"]) == (15881_060_565_000, 6914, 1)
    assert (row["comm"], row["event"], row["vaddr"]) == (comm, "page-faults", 0x7F86DA042010)


def test_a_period_without_an_event_is_no_address(tmp_path):
    """`-F comm,pid,tid,time,addr,ip,sym,period` prints the period in 10 columns, addresses in 16."""
    line = "         python3  6858/6858  15880.636822: {:>10}     55ea9a789424 [unknown] 7f850658c11 x\n"
    (tmp_path / "t.txt").write_text(line.format(1) + line.format(12) + line.format(123456789012))
    ingest(tmp_path / "t.txt", tmp_path / "t.parquet")
    assert pl.read_parquet(tmp_path / "t.parquet")["vaddr"].to_list() == [0x55EA9A789424] * 3


def test_faults_and_weighted_samples_mix_in_any_order(tmp_path, monkeypatch):
    """Memory samples have a weight, page faults none: the column joins in when they come."""
    monkeypatch.setattr("tracereplay.readers.perf_script._ROWS", 2)
    fault = (
        "p 8/8 [001] 1.000001: exceptions:page_fault_user: address=0x7f000 ip=0x1 error_code=0x6\n"
    )
    sample = (
        "p 8/8 [001] 1.000002:  34 cpu/mem-loads,ldlat=30/P:     7f2b3c0015c8     55d0a1c2f4b1 f\n"
    )
    (tmp_path / "t.txt").write_text(fault * 3 + sample * 3)
    done = ingest(tmp_path / "t.txt", tmp_path / "t.parquet")
    assert (done.records, done.coverage) == (6, "sampled")
    assert pl.read_parquet(tmp_path / "t.parquet")["weight"].to_list() == [None] * 3 + [34.0] * 3


@pytest.mark.parametrize("where", ["schema", "field"])
def test_metadata_of_a_table_that_is_no_text_does_not_matter(tmp_path, where):
    metadata = {b"k\xff": b"\xff\xfe"}
    field = pa.field("page", pa.uint64(), metadata=metadata if where == "field" else None)
    schema = pa.schema([field], metadata=metadata if where == "schema" else None)
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as file, pa.ipc.new_file(file, schema) as out:
        out.write(pa.record_batch([pa.array([5, 6], pa.uint64())], schema))
    assert ingest(tmp_path / "t.arrow", tmp_path / "t.parquet").records == 2


def _rows(tmp_path, text, *columns, **options):
    (tmp_path / "t.txt").write_text(text)
    options = {"keep_comm": True, **options}
    ingest(tmp_path / "t.txt", tmp_path / "t.parquet", options=Options(**options), force=True)
    return pl.read_parquet(tmp_path / "t.parquet").select(columns).rows()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_empty_field_is_null_wherever_it_stands(tmp_path, end):
    """Names came from another row, or from none; at the end of a CRLF line 0 and False stood."""
    names = ["vaddr,event,comm", "0x1000,store,a", "0x2000,,", "0x3000,load,b"]
    rows = _rows(tmp_path, end.join(names) + end, "vaddr", "event", "comm")
    assert rows == [(0x1000, "store", "a"), (0x2000, None, None), (0x3000, "load", "b")]
    for column, value, found in [
        ("is_write", "1", True), ("major", "1", True), ("time_s", "1.5", 1_500_000_000),
        ("pid", "7", 7), ("weight", "3", 3.0), ("error_code", "0x6", True), ("event", "x", "x"),
    ]:  # fmt: skip
        text = end.join([f"vaddr,{column}", f"0x1000,{value}", "0x2000,", "0x3000,"]) + end
        ours = {"time_s": "time_ns", "error_code": "is_write"}.get(column, column)
        assert _rows(tmp_path, text, ours) == [(found,), (None,), (None,)]


def test_the_user_names_the_event_of_rows_that_name_none(tmp_path):
    text = "vaddr,event\n0x1000,store\n0x2000,\n0x3000,load\n"
    assert _rows(tmp_path, text, "event", event="mine") == [("store",), ("mine",), ("load",)]


@pytest.mark.parametrize("name", ["event", "comm"])
def test_a_column_of_names_may_be_empty_in_one_piece_of_the_input(tmp_path, monkeypatch, name):
    monkeypatch.setattr("tracereplay.readers.delimited._ROWS", 2)
    values = [*"abcabc", "", "", "d", ""]
    text = f"vaddr,{name}\n" + "".join(f"0x{n}000,{v}\n" for n, v in enumerate(values))
    assert _rows(tmp_path, text, name) == [(value or None,) for value in values]


@pytest.mark.parametrize(
    ("name", "columns", "text", "found"),
    [
        ("time_ns", {}, "1690000000123456789.0", 1690000000123456789),
        ("ts_ns", {}, "5.75", 5),
        ("nsecs", {}, "18446744073709551615.9999999999999", (1 << 64) - 1),
        ("time", {}, "5.75", 5_750_000_000),
        ("time", {"time_ns": "time"}, "5.75", 5),
        ("when", {"time_ns": "when"}, "5.75", 5),
        ("time_s", {}, "18446744073.709551615", (1 << 64) - 1),
    ],
)
def test_what_says_nanoseconds_is_nanoseconds_with_decimals_too(
    tmp_path, name, columns, text, found
):
    text = f"vaddr,{name}\n0x1000,{text}\n0x2000,7.0\n"
    assert _rows(tmp_path, text, "time_ns", columns=columns)[0] == (found,)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("time_ns", "18446744073709551616.5"),
        ("time_ns", "."),
        ("time_s", "18446744073.709551616"),
        ("time_s", "18446744074"),
        ("time_s", "99999999999999999999"),
        ("time_ns", "18446744073709551616"),
        ("time_ns", "20000000000000000000"),
        ("time_ns", "184467440737095516150"),
        ("pid", "4294967296"),
        ("tid", "99999999999"),
        ("cpu", "65536"),
        ("run_len", "4294967296"),
        ("page", "18446744073709551616"),
    ],
)
def test_a_number_too_large_for_its_column_is_a_bad_line(tmp_path, name, value):
    header = name if name == "page" else f"page,{name}"
    first = "" if name == "page" else "7,"
    good, bad = f"{first}{'3.5' if '.' in value else '3'}\n", f"{first}{value}\n"
    (tmp_path / "t.csv").write_text(f"{header}\n{good}{bad}{good}")
    done = ingest(tmp_path / "t.csv", tmp_path / "t.parquet", options=Options(allow_bad=True))
    assert (done.records, done.bad_lines) == (2, 1)
    assert done.examples == [f"{tmp_path}/t.csv:3: {bad.strip()!r}"]


@pytest.mark.parametrize("address", [10**19, 0xFFFFFFFF81000000, (1 << 64) - 1])
def test_kernel_addresses_in_decimal_are_read(tmp_path, address):
    text = "time_ns,vaddr\n" + f"5,{address}\n" * 3
    assert _rows(tmp_path, text, "vaddr") == [(address,)] * 3
    text = "Attaching 1 probe...\n" + f"2089503895498 12239 {address} W\n" * 3
    assert _rows(tmp_path, text, "pid", "vaddr", "is_write") == [(12239, address, True)] * 3


def test_a_quote_within_quotes_is_part_of_the_text(tmp_path):
    text = 'vaddr,note,comm\n0x1000,"say ""hi"", twice",a\n0x2000,x,"b ""c"""\n0x3000,y,d\n'
    assert _rows(tmp_path, text, "vaddr", "comm") == [
        (0x1000, "a"),
        (0x2000, 'b "c"'),
        (0x3000, "d"),
    ]


def test_a_command_name_with_the_separator_in_it_keeps_its_row_in_its_place(tmp_path):
    lines = ["ts_ns,cpu,pid,tid,comm,event,addr,val"] + [
        f"{n},0,7,8,{comm},page_fault_user,0x7f4db5909{n:03x},0x{n % 2 * 2}"
        for n, comm in enumerate(["a,b", "c", '"d,e"', "f", "a,b,c", "g"] * 20)
    ]
    rows = _rows(tmp_path, "\n".join(lines), "time_ns", "vaddr", "comm", "event", "is_write")
    assert rows[:6] == [
        (0, 0x7F4DB5909000, "a,b", "page_fault_user", False),
        (1, 0x7F4DB5909001, "c", "page_fault_user", True),
        (2, 0x7F4DB5909002, "d,e", "page_fault_user", False),
        (3, 0x7F4DB5909003, "f", "page_fault_user", True),
        (4, 0x7F4DB5909004, "a,b,c", "page_fault_user", False),
        (5, 0x7F4DB5909005, "g", "page_fault_user", True),
    ]
    assert [row[0] for row in rows] == list(range(120))


def test_bpftrace_command_names_may_hold_blanks_first_or_in_between(tmp_path):
    first = (
        "Attaching 2 probes...\n"
        "Web Content 12239 2089503895498 94272341573792 W\n"
        "python3 12239 2089503931690 139974241102544 R\n"
        "Isolated Web Co 12240 2089505194676 140234865154928 W\n"
    )
    rows = _rows(tmp_path, first, "comm", "pid", "time_ns", "vaddr", "is_write")
    assert rows == [
        ("Web Content", 12239, 2089503895498, 94272341573792, True),
        ("python3", 12239, 2089503931690, 139974241102544, False),
        ("Isolated Web Co", 12240, 2089505194676, 140234865154928, True),
    ]
    between = (
        "Attaching 1 probe...\n"
        "2089503895498 1 2 a b 0x55be2fb000a0 0x6\n"
        "2089503895499 1 2 a 0x55be2fb010a0 0x4\n"
        "2089503895500 1 2 a b c 0x55be2fb000a0 0x6\n"
    )
    rows = _rows(tmp_path, between, "comm", "pid", "tid", "vaddr", "is_write")
    assert rows == [
        ("a b", 1, 2, 0x55BE2FB000A0, True),
        ("a", 1, 2, 0x55BE2FB010A0, False),
        ("a b c", 1, 2, 0x55BE2FB000A0, True),
    ]


@pytest.mark.parametrize(
    ("header", "first", "second", "wanted"),
    [
        ("ts;op;page;bytes", "5;R;77;4096", "6;W;78;4096", [(5, False), (6, True)]),
        ("ts,op,page", "0.5,get,77", "6.25,set,78", [(500_000_000, False), (6_250_000_000, True)]),
        ("time,op,page", "5,28,77", "6,2a,78", [(5, None), (6, None)]),  # SCSI: not told apart
    ],
)
def test_exported_tables_have_times_and_operations_of_many_kinds(
    tmp_path, header, first, second, wanted
):
    rows = _rows(tmp_path, f"{header}\n{first}\n{second}\n", "time_ns", "is_write", "page")
    assert rows == [(*row, page) for row, page in zip(wanted, (77, 78), strict=True)]


@pytest.mark.parametrize(
    ("capture", "time"),
    [
        ("tree.mono.trace.txt", rb" \d+(?=\.\d{6}: )"),
        ("tree.trace-cmd.report.txt", rb" \d+(?=\.\d{6}: )"),
        ("tree.tsc.trace.txt", rb" \d+(?=: page_fault)"),
        ("fread.filemap.txt", rb" \d+(?=\.\d{6,9}: )"),
        ("tree.perf-trace.txt", rb"^ *\d+(?=\.\d{3} \()"),
    ],
)
@pytest.mark.parametrize("digits", [14, 24])
def test_a_time_beyond_64_bits_is_a_bad_line(tmp_path, capture, time, digits):
    lines = (CAPTURES / capture).read_bytes().splitlines(keepends=True)
    at = next(at for at, line in enumerate(lines) if re.search(time, line))
    whole = ingest(CAPTURES / capture, tmp_path / "t.parquet", options=Options(tick_ns=1e6))
    lines[at] = re.sub(time, b" " + b"9" * digits, lines[at], count=1)
    (tmp_path / capture).write_bytes(b"".join(lines))
    options = Options(tick_ns=1e6, allow_bad=True)
    done = ingest(tmp_path / capture, tmp_path / "u.parquet", options=options)
    assert done.bad_lines == whole.bad_lines + 1
    assert done.records <= whole.records


@pytest.mark.parametrize("format", ["perf-script", "csv"])
def test_more_names_than_a_table_holds_are_all_kept(tmp_path, format):
    names = [f"n{at % 6_000:05}" for at in range(9_000)]
    if format == "csv":
        lines = ["time_ns,pid,vaddr,comm"]
        lines += [f"{at},7,0x7f{at:06x}000,{name}" for at, name in enumerate(names)]
    else:
        lines = [
            f"{name:>16} 7 [000] 10.{at:09}: page-faults: 7f{at:06x}000"
            for at, name in enumerate(names)
        ]
    capture = tmp_path / "names.txt"
    capture.write_text("\n".join(lines) + "\n")
    options = Options(keep_comm=True)
    done = ingest(capture, tmp_path / "t.parquet", format=format, options=options)
    rows = pl.read_parquet(tmp_path / "t.parquet")
    assert (done.records, done.bad_lines) == (9_000, 0)
    assert rows["comm"].cast(pl.String).to_list() == names


def test_a_device_number_beyond_64_bits_is_a_bad_line(tmp_path):
    lines = (CAPTURES / "fread.filemap.txt").read_bytes().splitlines(keepends=True)
    at = next(at for at, line in enumerate(lines) if b" dev" in line)
    lines[at] = re.sub(rb"dev([= ])\d+", rb"dev\g<1>" + b"2" * 40, lines[at])
    (tmp_path / "odd.txt").write_bytes(b"".join(lines))
    done = ingest(tmp_path / "odd.txt", tmp_path / "u.parquet", options=Options(allow_bad=True))
    assert done.bad_lines == 1


@pytest.mark.parametrize("rows", [200, 1])
@pytest.mark.parametrize("line", ["Lost 1553 events", "WARNING: Lost 1553 events"])
def test_events_that_bpftrace_lost_are_no_bad_lines_of_its_csv(tmp_path, rows, line):
    capture = tmp_path / "out.csv"
    row = "1000,7,7,0,0x7f0012345000,0x6\n"
    capture.write_text(f"time_ns,pid,tid,cpu,vaddr,error_code\n{row * rows}{line}\n{row * rows}")
    with pytest.raises(LostEventsError, match="lost 1553 events") as caught:
        ingest(capture, tmp_path / "t.parquet")
    assert caught.value.count == 1553
    done = ingest(capture, tmp_path / "t.parquet", options=Options(allow_lost=True))
    assert footer(tmp_path / "t.parquet")["lost_events"] == "1553"
    assert (done.records, done.bad_lines) == (2 * rows, 0)


@pytest.mark.parametrize(
    ("line", "lost"), [("CPU:1 [213 EVENTS DROPPED]", 213), ("CPU:0 [EVENTS DROPPED]", 1)]
)
def test_trace_cmd_says_how_many_events_it_dropped(tmp_path, line, lost):
    event = "  tree-11311 [000]  2011.843712: page_fault_user:      address=0x55c86b071228 ip=0x1\n"
    (tmp_path / "t.txt").write_text(f"cpus=2\n{event}{line}\n{event}")
    with pytest.raises(FormatError, match=f"lost {lost} events"):
        ingest(tmp_path / "t.txt", tmp_path / "t.parquet")


@pytest.mark.parametrize("perf_first", [True, False])
def test_two_formats_in_one_file_are_refused(tmp_path, perf_first):
    """ftrace's lines hold a time and the fields of a tracepoint, and are no perf script all the same."""
    parts = [
        (CAPTURES / "thread-comms.sw.brief.txt").read_bytes(),
        (CAPTURES / "tree.mono.trace.txt").read_bytes(),
    ]
    (tmp_path / "t").write_bytes(b"".join(parts if perf_first else parts[::-1]))
    with pytest.raises(FormatError, match="lines cannot be read as"):
        ingest(tmp_path / "t", tmp_path / "t.parquet")


def test_no_room_for_a_plain_copy_is_told(tmp_path):
    """perf.data and tables have their index at the end: packed or piped ones are copied first."""
    (tmp_path / "t").write_bytes(b"x")
    with (
        Input(tmp_path / "t") as stream,
        pytest.raises(OutputError, match=r"for a plain copy of .*TMPDIR"),
    ):
        spool(stream, tmp_path / "none" / "copy")


def test_an_error_of_the_system_that_no_one_thought_of_is_one_line(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise OSError(28, "No space left on device", "/scratch/x")

    monkeypatch.setattr("tracereplay.readers.ingest", fails)
    result = run(app, ["ingest", str(BRIEF), "-o", str(tmp_path / "t.parquet")])
    assert result.exit_code == 1
    assert result.stderr == "error: /scratch/x: No space left on device\n"


def _junk() -> dict[str, bytes]:
    packed = zstandard.ZstdCompressor().compress(BRIEF.read_bytes() * 50)
    return {
        "empty": b"",
        "binary": bytes(range(256)) * 100,
        "truncated.zst": packed[: len(packed) // 2],
        "truncated.gz": gzip.compress(BRIEF.read_bytes())[:500],
        "damaged.gz": gzip.compress(BRIEF.read_bytes())[:300] + b"\xff" * 300,
        "empty.gz": gzip.compress(b""),
        "truncated.xz": lzma.compress(BRIEF.read_bytes())[:500],
        "damaged.xz": lzma.compress(BRIEF.read_bytes())[:300] + b"\xff" * 300,
        "empty.xz": lzma.compress(b""),
        "truncated.bz2": bz2.compress(BRIEF.read_bytes())[:500],
        "damaged.bz2": bz2.compress(BRIEF.read_bytes())[:300] + b"\xff" * 300,
        "one-line": b"x" * (12 << 20),
        "zeros": b"\0" * 1000,
        "words": b"not a trace at all\nreally\n",
        "half.parquet": b"PAR1" + b"\0" * 100,
        "half.arrow": b"ARROW1\0\0" + b"\1" * 100,
        "header-only.csv": b"time_ns,vaddr\n",
        "twice-packed": gzip.compress(zstandard.ZstdCompressor().compress(b"x\n" * 100)),
    }


@pytest.mark.parametrize("name", _junk())
def test_what_is_no_capture_is_one_line_and_leaves_nothing(tmp_path, name):
    (tmp_path / name).write_bytes(_junk()[name])
    result = run(app, ["ingest", str(tmp_path / name), "-o", str(tmp_path / "t.parquet")])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) <= 4
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.compiled
def test_a_bomb_of_blank_lines_is_refused_soon(tmp_path):
    packed = io.BytesIO()
    with zstandard.ZstdCompressor().stream_writer(packed, closefd=False) as stream:
        for _ in range(80):
            stream.write(b"\n" * (1 << 20))
    (tmp_path / "bomb.zst").write_bytes(packed.getvalue())
    with pytest.raises(TracereplayError, match="no access record"):
        ingest(tmp_path / "bomb.zst", tmp_path / "t.parquet", format="perf-script")


def test_outputs_are_not_overwritten_without_force(tmp_path):
    target = tmp_path / "t.parquet"
    target.write_text("precious")
    with pytest.raises(OutputError, match="--force"):
        ingest(BRIEF, target)
    assert target.read_text() == "precious"
    ingest(BRIEF, target, force=True)
    assert pl.read_parquet(target).height == 40
    with pytest.raises(OutputError, match="no such folder"):
        ingest(BRIEF, tmp_path / "none" / "t.parquet")
    with pytest.raises(InputError, match="No such file"):
        ingest(tmp_path / "none", tmp_path / "u.parquet")


@pytest.mark.parametrize("is_link", [False, True])
def test_a_pipe_or_device_is_never_replaced(tmp_path, is_link):
    """As root, a table written to /dev/null would take its place."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    target = tmp_path / "link" if is_link else pipe
    if is_link:
        target.symlink_to(pipe)
    with pytest.raises(OutputError, match="device or pipe"):
        ingest(BRIEF, target, force=True)
    assert pipe.is_fifo()


def test_a_link_keeps_pointing_to_the_file_that_is_replaced(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    ingest(BRIEF, tmp_path / "link", force=True)
    assert (tmp_path / "link").is_symlink()
    assert pl.read_parquet(tmp_path / "real").height == 40


def test_a_capture_is_not_overwritten_by_its_own_table(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(BRIEF.read_bytes())
    with pytest.raises(OutputError, match="is an input too"):
        ingest([BRIEF, path], tmp_path / "." / "t.txt", force=True)
    assert path.read_bytes() == BRIEF.read_bytes()


def test_the_command_says_what_it_did_on_stderr_only(tmp_path):
    result = run(app, ["ingest", str(BRIEF), "-o", str(tmp_path / "t.parquet")])
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert "40 rows, 35 pages (140 KiB), coverage faults, read as perf-script" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--format", "perf-scrip"], 1, "did you mean perf-script"),
        (["--formt", "x"], 2, "No such option"),
        (["--address-base", "8"], 2, "10 or 16"),
        (["--column", "vaddr"], 2, "OURS=THEIRS"),
        (["--coverage", "most"], 2, "page-cache"),
        (["--tick-ns", "nan"], 2, "above 0"),
        (["--tick-ns", "-1"], 2, "above 0"),
    ],
)
def test_wrong_usage_is_told(tmp_path, arguments, status, words):
    result = run(app, ["ingest", str(BRIEF), "-o", str(tmp_path / "t.parquet"), *arguments])
    assert result.exit_code == status
    assert words in result.stderr


def test_standard_input_is_read(tmp_path):
    command = [
        sys.executable,
        "-m",
        "tracereplay",
        "ingest",
        "-",
        "-o",
        str(tmp_path / "t.parquet"),
    ]
    packed = zstandard.ZstdCompressor().compress(BRIEF.read_bytes())
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, input=packed, capture_output=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert pl.read_parquet(tmp_path / "t.parquet").height == 40


def test_formats_are_listed_one_line_each():
    result = run(app, ["formats"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(FORMATS)


@pytest.mark.usefixtures("hang_up")
@pytest.mark.compiled
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_behind(tmp_path, number):
    command = [
        sys.executable,
        "-m",
        "tracereplay",
        "ingest",
        "-",
        "-o",
        str(tmp_path / "t.parquet"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    text = BRIEF.read_bytes() * 12_000  # several chunks, so that the output is being written
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        assert process.stdin is not None
        process.stdin.write(text)
        process.stdin.flush()
        for _ in range(600):
            if list(tmp_path.iterdir()):
                break
            time.sleep(0.05)
        else:
            raise AssertionError("the output was never begun")
        time.sleep(0.5)
        process.send_signal(number)
        if number == signal.SIGHUP:  # as a terminal that is closed
            process.send_signal(number)
        assert process.wait(30) == 128 + number
        process.stdin.close()
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_the_command_line_is_imported_is_no_traceback():
    """Importing takes a second on a busy machine, and is when one sees that the file is wrong."""
    script = (
        "import sys, importlib.abc\n"
        "class Interrupts(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'tracereplay.cli':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupts())\n"
        "from tracereplay.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def _perf_json(tmp_path, fields):
    sample = (
        '\t\t{\n\t\t\t"timestamp": %d,\n\t\t\t"pid": 8,\n\t\t\t"tid": 9,\n\t\t\t"cpu": 1,\n'
        '\t\t\t"comm": "py\\"x",\n\t\t\t"callchain": [\n\t\t\t\t{\n\t\t\t\t\t"address": "0x5"\n'
        "\t\t\t\t}\n\t\t\t]%s\n\t\t}"
    )
    samples = ",\n".join(sample % (n, fields if n % 3 else "") for n in range(6))
    path = tmp_path / "perf.json"
    path.write_text('{\n\t"linux-perf-json-version": 1,\n\t"samples": [\n' + samples + "\n\t]\n}\n")
    return path


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_perf_json_of_a_perf_that_writes_addresses_is_read(tmp_path, monkeypatch, newline):
    monkeypatch.setattr("tracereplay.readers.perf_json._ROWS", 3)
    path = _perf_json(
        tmp_path,
        ',\n\t\t\t"address": "0x7f90bd529110",\n\t\t\t"ip": "0x1",\n\t\t\t"error_code": "0x6"',
    )
    path.write_text(path.read_text(), newline=newline)
    done = ingest(path, tmp_path / "t.parquet", options=Options(keep_comm=True))
    rows = pl.read_parquet(tmp_path / "t.parquet")
    wanted = {
        "pid": 8,
        "tid": 9,
        "cpu": 1,
        "vaddr": 0x7F90BD529110,
        "is_write": True,
        "comm": 'py"x',
    }
    assert rows["time_ns"].to_list() == [1, 2, 4, 5]
    assert {key: rows[key].unique().to_list() for key in wanted} == {
        key: [value] for key, value in wanted.items()
    }
    assert (done.coverage, done.formats) == ("faults", ["perf-json"])
    assert any("2 samples name no data address" in note for note in done.notes)


def test_perf_json_without_addresses_is_refused(tmp_path):
    with pytest.raises(FormatError, match="neither event nor data address; print"):
        ingest(_perf_json(tmp_path, ""), tmp_path / "t.parquet")

"""DAMON's snapshots and libCacheSim's traces: counts, the rule of expansion, refusals, damage."""

import io
import json
import os
import struct
import zlib
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tracereplay
from tracereplay.errors import FormatError, InputError, TracereplayError
from tracereplay.files import Input
from tracereplay.readers import FORMATS, Options, Report, ingest
from tracereplay.readers.damon import RegionExpander

FOREIGN = Path(__file__).parent / "foreign"
DAMON = sorted(FOREIGN.glob("derived-phases.*"))
ORACLE = FOREIGN / "refault-pages.oracleGeneral.bin"
EXAMPLES = int(os.environ.get("TRACEREPLAY_FUZZ", "100"))


def table(path, folder, **options):
    out = folder / f"{Path(path).name}.parquet"
    done = ingest(path, out, options=Options(**options), force=True)
    return pl.read_parquet(out), done


def footer(path):
    return pl.read_parquet_metadata(path)


# -- DAMON ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DAMON, ids=lambda path: path.name)
def test_snapshots_and_regions_are_counted(tmp_path, path):
    _, done = table(path, tmp_path)
    metadata = footer(done.path)
    assert metadata["tracereplay.damon_snapshots"] == "34"
    assert metadata["tracereplay.damon_regions"] == "1291"
    assert metadata["tracereplay.damon_regions_accessed"] == "254"
    assert done.coverage == "sampled-region"


def test_text_and_json_of_one_recording_name_the_same_pages(tmp_path):
    pages = [table(path, tmp_path)[0]["page"].to_list() for path in DAMON]
    assert pages[0] == pages[1] == pages[2]


def expanded(count, slots=20, pages=4000, start_ns=1_000_000, end_ns=101_000_000):
    regions = np.array([[1 << 30, (1 << 30) + pages * 4096, count]], np.uint64)
    expander = RegionExpander(Options(), Report("x"))
    frames = list(expander.snapshot(0, start_ns, end_ns, regions, slots))
    return pl.concat(frames) if frames else pl.DataFrame()


def test_a_region_touched_in_every_sample_gives_each_page_once_within_the_interval():
    rows = expanded(20)
    assert rows["page"].sort().to_list() == list(range(1 << 18, (1 << 18) + 4000))
    assert rows["time_ns"].is_sorted()
    assert rows["time_ns"].min() >= 1_000_000
    assert rows["time_ns"].max() < 101_000_000
    assert rows["time_ns"].n_unique() == 20
    assert rows["weight"].unique().to_list() == [1.0]


def test_fewer_samples_give_that_share_of_the_pages():
    for count in (0, 1, 5, 10):
        assert expanded(count).height == pytest.approx(4000 * count / 20, abs=120)
    assert expanded(5).equals(expanded(5))


def test_a_region_that_ends_within_a_page_has_that_page():
    regions = np.array([[1 << 30, (1 << 30) + 3 * 4096 + 1, 20]], np.uint64)
    (rows,) = RegionExpander(Options(), Report("x")).snapshot(0, 0, 100_000_000, regions)
    assert rows["page"].sort().to_list() == [(1 << 18) + page for page in range(4)]


def test_a_snapshot_without_a_start_begins_where_the_one_before_ended():
    expander = RegionExpander(Options(), Report("x"))
    regions = np.array([[1 << 30, (1 << 30) + 4000 * 4096, 20]], np.uint64)
    for end_ns, least_ns in ((200_000_000, 100_000_000), (1_200_000_000, 200_000_000)):
        (rows,) = expander.snapshot(7, None, end_ns, regions)
        assert rows["time_ns"].min() == least_ns


def damo(regions, **more):
    shown = [
        {"start": f"{start:,}", "end": f"{end:,}", "nr_accesses": {"samples": count}}
        for start, end, count in regions
    ]
    snapshot = {"start_time": "0", "end_time": "100,000,000", "regions": shown}
    return [{"target_id": 0, "intervals": None, "snapshots": [snapshot], **more}]


def written(tmp_path, data):
    path = tmp_path / "damon.data"
    path.write_bytes(data)
    return path


def test_the_intervals_of_the_recording_set_the_number_of_slots(tmp_path):
    records = damo([(0, 4096 * 50, 10)], intervals={"sample_us": "5,000", "aggr_us": "50,000"})
    rows, _ = table(written(tmp_path, json.dumps(records).encode()), tmp_path)
    assert rows.height == 50  # touched in 10 of 10 samples


def test_a_zlib_bomb_is_refused(tmp_path):
    bomb = zlib.compress(b'[{"target_id": 0, "snapshots": [' + b" " * (200 << 20))
    with pytest.raises(FormatError, match="128 MiB"):
        table(written(tmp_path, bomb), tmp_path)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b'[{"snapshots":' + b"[" * 100_000, "nested deeper"),
        (zlib.compress(json.dumps(damo([(0, 4096, 1)])).encode())[:-9], "ends early"),
        (json.dumps(damo([(0, 1 << 60, 20)])).encode(), "addresses in bytes"),
        (json.dumps(damo([(0, 4096, -1)])).encode(), "number"),
        (json.dumps(damo([(0, 4096, 0)])).encode(), "saw no access"),
        (b'[{"target_id": 0, "snapshots": 7}]', "not laid out"),
    ],
)
def test_json_that_is_no_recording_is_refused_in_one_line(tmp_path, data, what):
    with pytest.raises((FormatError, InputError), match=what) as caught:
        table(written(tmp_path, data), tmp_path)
    assert "\n" not in str(caught.value)


# -- libCacheSim ---------------------------------------------------------------------------------

MISSES = {207: 5317, 415: 5317, 1037: 5317, 2075: 5317, 3113: 5232, 4151: 4151}


@pytest.mark.parametrize("name", ["oracleGeneral.bin", "csv.zst"])
def test_lru_misses_of_a_trace_are_those_of_libcachesim(tmp_path, name):
    _, done = table(FOREIGN / f"refault-pages.{name}", tmp_path, id_is_page=True)
    assert (done.records, done.unique_pages, done.coverage) == (5320, 4151, "full")
    curve = tracereplay.curve(done.path, [pages * 4096 for pages in MISSES])
    assert curve["misses"].to_list() == list(MISSES.values())


def test_ids_are_no_pages_of_a_process_unless_the_user_says_so(tmp_path):
    rows, done = table(ORACLE, tmp_path)
    assert done.coverage == "page-cache"
    assert rows["space"].unique().cast(pl.String).to_list() == ["file"]
    assert any("--id-is-page" in note for note in done.notes)


IDS = [5, 900, 5, 77]


def vscsi(version, commands=(0x28, 0x2A, 0x28, 0x35)):
    layout = {1: "<IIIHHQQ", 2: "<HHIIIQQQ"}[version]
    records = []
    for number, (block, command) in enumerate(zip(IDS, commands, strict=True)):
        named = (command, version << 8)
        fixed = number, 512, 1
        order = (*fixed, *named) if version == 1 else (*named, *fixed)
        records.append(struct.pack(layout, *order, block, number, *([9] if version == 2 else [])))
    return b"".join(records)


@pytest.mark.parametrize("version", [1, 2])
def test_vscsi_reads_and_writes_are_told_apart_and_other_commands_left_out(tmp_path, version):
    rows, done = table(written(tmp_path, vscsi(version)), tmp_path)
    assert done.formats == ["vscsi"]
    assert rows["page"].to_list() == IDS[:3]
    assert rows["is_write"].to_list() == [False, True, False]
    assert rows["time_ns"].to_list() == [0, 1000, 2000]


LCS_MAGIC = struct.pack("<Q", 0x123456789ABCDEF0)


def lcs(version, operations=(13, 13, 13, 13)):
    head = (LCS_MAGIC + struct.pack("<Q", version)).ljust(8184, b"\0") + LCS_MAGIC
    if version == 1:
        rows = [struct.pack("<IQIq", at, page, 4096, -1) for at, page in enumerate(IDS)]
    elif version == 2:
        rows = [
            struct.pack("<IQIIq", at, page, 4096, operation, -1)
            for at, (page, operation) in enumerate(zip(IDS, operations, strict=True))
        ]
    else:
        extra = {3: 0, 4: 1, 5: 2, 6: 4, 7: 8, 8: 16}[version]
        layout = f"<IQqIIq{extra}I"
        rows = [
            struct.pack(layout, at, page, 4096, 12, 0, -1, *range(extra))
            for at, page in enumerate(IDS)
        ]
    return head + b"".join(rows)


@pytest.mark.parametrize("version", range(1, 9))
def test_every_version_of_lcs_gives_its_ids(tmp_path, version):
    rows, done = table(written(tmp_path, lcs(version)), tmp_path)
    assert done.formats == ["lcs"]
    assert rows["page"].to_list() == IDS
    if version > 1:
        assert rows["is_write"].to_list() == [version == 2] * 4


def test_an_operation_of_lcs_that_says_neither_is_neither_read_nor_written(tmp_path):
    rows, _ = table(written(tmp_path, lcs(2, (0, 1, 3, 0))), tmp_path)
    assert rows["is_write"].to_list() == [None, False, True, None]


def test_the_old_lcs_header_with_its_record_format_is_read(tmp_path):
    head = LCS_MAGIC + b"<IQH".ljust(240, b"\0") + bytes([2, 0, 1])
    head = head.ljust(1016, b"\0") + LCS_MAGIC
    rows = b"".join(struct.pack("<IQH", at, page, 1) for at, page in enumerate(IDS))
    assert table(written(tmp_path, head + rows), tmp_path)[0]["page"].to_list() == IDS


def test_ids_one_a_line_are_decimal_or_hex(tmp_path):
    rows, done = table(written(tmp_path, b"12\n0x1f\n12\n900\n"), tmp_path)
    assert done.formats == ["txt"]
    assert rows["page"].to_list() == [12, 31, 12, 900]
    many = b"12\n" * 60 + b"x y\n" * 2
    with pytest.raises(FormatError, match="2 of 62 lines cannot be read"):
        table(written(tmp_path, many), tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("txt", b"12\n0x1f\n12\n"),
        ("libcachesim-csv", b"obj_id,time\n12,1\n0x1f,2\n12,3\n"),
    ],
)
def test_a_mark_in_front_and_carriage_returns_change_no_id(tmp_path, name, text):
    text = b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n")
    rows, done = table(written(tmp_path, text), tmp_path)
    assert done.formats == [name]
    assert rows["page"].to_list() == [12, 31, 12]


def test_csv_columns_are_found_by_name_and_separator(tmp_path):
    text = b"ts;op;lbn;bytes\n1;2a;7;512\n2;28;8;512\n"
    rows, done = table(written(tmp_path, text), tmp_path)
    assert done.formats == ["libcachesim-csv"]
    assert rows["page"].to_list() == [7, 8]
    assert rows["is_write"].to_list() == [True, False]
    assert rows["time_ns"].to_list() == [1_000_000_000, 2_000_000_000]


def test_csv_fields_in_quotes_may_hold_the_separator(tmp_path):
    text = (
        b'"time","na,me",obj_id,op\r\n1,"a,77",7,w\r\n2,b,8,r\n3,"say ""hi"", 9",10,"w"\n'
        b'4,"11",12,r\n5,"a\n,13",14,r\n'
    )
    rows, done = table(written(tmp_path, text), tmp_path, allow_bad=True)
    assert rows["page"].to_list() == [7, 8, 10, 12]
    assert rows["is_write"].to_list() == [True, False, True, False]
    assert done.bad_lines == 2  # a field over two lines


def test_csv_lines_with_more_fields_than_names_are_bad(tmp_path):
    text = b"time,obj_id,op\n1,7,w\n2,8,r,\n3,1,000,r\n4,9,w\n"  # 1,000 is no id 1
    rows, done = table(written(tmp_path, text), tmp_path, allow_bad=True)
    assert rows["page"].to_list() == [7, 8, 9]
    assert done.bad_lines == 1


# -- any bytes -----------------------------------------------------------------------------------

SEEDS = {
    "damo": [DAMON[1].read_bytes(), json.dumps(damo([(4096, 40960, 3)])).encode()],
    "damon": [zstandard.ZstdDecompressor().decompress(DAMON[2].read_bytes(), 1 << 20)[:6000]],
    "oracleGeneral": [ORACLE.read_bytes()[:2400]],
    "vscsi": [vscsi(1), vscsi(2)],
    "lcs": [lcs(version) for version in range(1, 9)],
    "libcachesim-csv": [b"time,obj_id,obj_size\n1,22,4096\n2,0x23,4096\n3,22,4096\n"],
    "txt": [b"1\n2\n0x3\n" * 20],
}


@pytest.mark.parametrize("name", SEEDS)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 100,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_damaged_files_end_in_rows_or_one_line(name, data):
    content = bytearray(data.draw(st.sampled_from(SEEDS[name])))
    for _ in range(data.draw(st.integers(0, 5))):
        at = data.draw(st.integers(0, max(0, len(content) - 1)))
        piece = data.draw(st.binary(min_size=1, max_size=6))
        content[at : at + data.draw(st.sampled_from([0, len(piece), 40]))] = piece
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    stream = Input.__new__(Input)
    stream.name, stream.compression, stream.total_bytes = "fuzz", "", None
    stream.stream, stream._pushed_back = io.BytesIO(bytes(content)), b""
    try:
        for frame in islice(FORMATS[name].read(stream, Options(), Report("fuzz")), 10):
            assert frame.height > 0
    except TracereplayError as error:
        assert "\n" not in str(error)  # noqa: PT017

"""perf.data read directly must equal what perf's own text of it says, and survive any damage."""

import io
import os
import struct
import subprocess
import sys
from itertools import islice
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracereplay.errors import FormatError, InputError, TracereplayError
from tracereplay.files import Input
from tracereplay.readers import Options, Report, ingest, perf_data
from tracereplay.readers import _perf_records as records

EXAMPLES = int(os.environ.get("TRACEREPLAY_FUZZ", "200"))
CAPTURES = Path(__file__).parent / "perf-data"
WITH_TEXT = sorted(path.stem for path in CAPTURES.glob("*.txt"))
SAME = ["time_ns", "pid", "tid", "vaddr", "page", "is_write", "event", "comm"]


def table(path, folder, **options):
    out = folder / f"{Path(path).name}.parquet"
    done = ingest(path, out, options=Options(keep_comm=True, **options), force=True)
    return pl.read_parquet(out).with_columns(pl.col(pl.Categorical).cast(pl.String)), done


@pytest.mark.parametrize("name", WITH_TEXT)
def test_a_capture_reads_the_same_directly_and_as_text(tmp_path, name):
    direct, done = table(CAPTURES / f"{name}.data", tmp_path)
    text, _ = table(CAPTURES / f"{name}.txt", tmp_path)
    assert done.formats == ["perf-data"]
    assert direct.height > 50
    assert direct.select(SAME).equals(text.select(SAME))
    if text["cpu"].null_count() == 0:
        assert direct["cpu"].equals(text["cpu"])


def test_tracepoints_say_reads_from_writes(tmp_path):
    direct, _ = table(CAPTURES / "tracepoints.data", tmp_path)
    assert direct["is_write"].null_count() == 0
    assert 10 < direct["is_write"].sum() < direct.height - 10


@pytest.mark.parametrize("page_bytes", [16384, 65536])
def test_pages_of_another_size_are_refused(tmp_path, page_bytes):
    data = bytearray((CAPTURES / "tracepoints.data").read_bytes())
    at = data.index(b"\0", data.index(b"\x17\x08\x44tracing") + 10) + 3
    assert struct.unpack_from("<I", data, at) == (4096,)
    struct.pack_into("<I", data, at, page_bytes)
    (tmp_path / "large.data").write_bytes(data)
    with pytest.raises(FormatError) as caught:
        table(tmp_path / "large.data", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/large.data: recorded on a kernel with pages of {page_bytes:,} bytes; the models "
        "know pages of 4 KiB (4,096): record on a kernel with these"
    )


def test_a_machine_whose_pages_may_be_larger_is_named_where_the_file_does_not_say(tmp_path):
    for name, count in (("tree.sw.callgraph", 1), ("tracepoints", 0)):
        data = (CAPTURES / f"{name}.data").read_bytes()
        assert data.count(b"x86_64\0") > 0
        (tmp_path / "arm.data").write_bytes(data.replace(b"x86_64\0", b"arm64\0\0"))
        _, done = table(tmp_path / "arm.data", tmp_path)
        assert sum("recorded on arm64" in note for note in done.notes) == count


def test_minor_faults_beside_page_faults_leave_one_row_each(tmp_path):
    direct, done = table(CAPTURES / "registers.data", tmp_path)
    assert set(direct["event"]) == {"page-faults"}
    assert direct["major"].null_count() == 0
    assert done.folded_duplicates == direct.height


def test_a_capture_without_data_addresses_is_refused_with_the_command_that_makes_one(tmp_path):
    with pytest.raises(FormatError, match=r"cpu-clock.*perf record -e page-faults -d -c 1"):
        table(CAPTURES / "noaddress.data", tmp_path)
    assert not list(tmp_path.iterdir())


def test_standard_input_reads_file_and_pipe_mode(tmp_path):
    for name in ("pipe", "zstd"):
        expected, _ = table(CAPTURES / f"{name}.data", tmp_path)
        out = tmp_path / f"{name}-stdin.parquet"
        command = [sys.executable, "-m", "tracereplay", "ingest", "-", "--keep-comm", "-o", out]
        with (CAPTURES / f"{name}.data").open("rb") as stream:
            subprocess.run(command, stdin=stream, check=True, capture_output=True)
        got = pl.read_parquet(out).with_columns(pl.col(pl.Categorical).cast(pl.String))
        assert got.equals(expected)


def test_a_file_cut_short_is_refused_and_read_on_request(tmp_path):
    whole = (CAPTURES / "pipe.data").read_bytes()
    short = tmp_path / "short.data"
    short.write_bytes(whole[: len(whole) - 3001])
    with pytest.raises(InputError, match="cut short"):
        table(short, tmp_path)
    rows, done = table(short, tmp_path, allow_bad=True)
    assert 0 < rows.height < 155
    assert any("cut short" in note for note in done.notes)


def test_a_file_cut_between_two_records_is_cut_short_all_the_same(tmp_path):
    whole = (CAPTURES / "tree.sw.callgraph.data").read_bytes()
    start, size = struct.unpack_from("<QQ", whole, 40)
    at = start
    while at < start + size // 2:
        at += struct.unpack_from("<H", whole, at + 6)[0]
    (tmp_path / "cut.data").write_bytes(whole[:at])
    with pytest.raises(InputError, match=f"cut short: {start + size - at:,} bytes"):
        table(tmp_path / "cut.data", tmp_path)
    rows, _ = table(tmp_path / "cut.data", tmp_path, allow_bad=True)
    assert rows.height > 10


def test_another_byte_order_needs_perf_and_says_so(tmp_path, monkeypatch):
    swapped = tmp_path / "swapped.data"
    swapped.write_bytes(b"2ELIFREP" + bytes(200))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FormatError, match=r"other byte order.*no perf here"):
        table(swapped, tmp_path)


# -- records made by hand: a pipe-mode file of one software event with address, time and cpu ---------


def record(kind, body, misc=0):
    return struct.pack("<IHH", kind, misc, 8 + len(body)) + body


def attribute(sample_type, ids, *, config=2, read_format=0, branch=0):
    head = struct.pack("<IIQQQQQ", 1, 128, config, 1, sample_type, read_format, 1 << 18)
    body = (head + bytes(24) + struct.pack("<QQ", branch, 0)).ljust(128, b"\0")
    return record(records.HEADER_ATTR, body + struct.pack(f"<{len(ids)}Q", *ids))


TID_TIME_ADDR = records.TID | records.TIME | records.ADDR


def sample(time, address, tail=b""):
    return record(records.SAMPLE, struct.pack("<IIQQ", 7, 8, time, address) + tail)


def pipe(*parts):
    return b"PERFILE2" + struct.pack("<Q", 16) + b"".join(parts)


def read(data, **options):
    report = Report("test")
    stream = Input.__new__(Input)
    stream.name, stream.compression, stream.total_bytes = "<stdin>", "", None
    stream.stream, stream._pushed_back = io.BytesIO(data), b""
    frames = list(perf_data.FORMAT.read(stream, Options(**options), report))
    return (pl.concat(frames) if frames else pl.DataFrame()), report


def test_rows_come_in_time_order_across_rounds_with_ties_as_in_the_file():
    times = [50, 10, 30, 20, 30, 60, 40]
    end_of_round = record(records.FINISHED_ROUND, b"")
    parts = [sample(time, 4096 * (index + 1)) for index, time in enumerate(times)]
    rows, _ = read(pipe(attribute(TID_TIME_ADDR, [1]), *parts[:3], end_of_round, *parts[3:]))
    assert rows["time_ns"].to_list() == sorted(times)
    assert rows["vaddr"].to_list() == [4096 * n for n in (2, 4, 3, 5, 7, 1, 6)]


def test_lost_records_are_counted_once_though_perf_reports_them_twice():
    lost = record(records.LOST, struct.pack("<QQ", 1, 40))
    at_the_end = record(records.LOST_SAMPLES, struct.pack("<Q", 38))
    filtered = record(records.LOST_SAMPLES, struct.pack("<Q", 900), misc=1 << 15)
    one = sample(1, 4096)
    _, report = read(pipe(attribute(TID_TIME_ADDR, [1]), one, lost, at_the_end, filtered))
    assert report.lost_events == 40


def test_everything_before_the_data_source_is_walked_over():
    kind = TID_TIME_ADDR | records.READ | records.CALLCHAIN | records.RAW
    kind |= records.BRANCH_STACK | records.STACK_USER | records.WEIGHT | records.DATA_SRC
    tail = struct.pack("<QQQ", 1, 99, 5)  # read: a group of one, with its id
    tail += struct.pack("<QQQ", 2, 0x11, 0x22)  # call chain
    tail += struct.pack("<I", 12) + bytes(12)  # raw
    tail += struct.pack("<QQ", 1, 0) + bytes(24)  # branches, with their hardware index
    tail += struct.pack("<Q", 16) + bytes(16) + struct.pack("<Q", 8)  # stack
    tail += struct.pack("<Q", 3)  # weight
    store, load = (struct.pack("<Q", 0x68100100 | op) for op in (4, 2))
    event = attribute(kind, [1], read_format=4 | 8, branch=records.BRANCH_HW_INDEX)
    rows, _ = read(pipe(event, sample(1, 4096, tail + store), sample(2, 4096, tail + load)))
    assert rows["is_write"].to_list() == [True, False]


def test_samples_of_two_events_are_told_apart_by_id_and_unknown_ids_counted():
    kind = TID_TIME_ADDR | records.IDENTIFIER

    def of(event_id, time):
        return record(records.SAMPLE, struct.pack("<QIIQQ", event_id, 7, 8, time, 4096 * time))

    events = attribute(kind, [11, 12]), attribute(kind, [13], config=0x99)
    rows, report = read(pipe(*events, of(12, 1), of(13, 2), of(77, 3)))
    assert rows["event"].cast(pl.String).to_list() == ["page-faults", "software:0x99"]
    assert report.bad_lines == 1


def test_a_zstd_bomb_ends_in_one_line_and_in_bounded_memory():
    import zstandard

    def bomb(size, byte):
        packed = zstandard.ZstdCompressor(level=19).compress(byte * size)
        pieces = [packed[at : at + 60_000] for at in range(0, len(packed), 60_000)]
        return pipe(attribute(TID_TIME_ADDR, [1]), *(record(records.COMPRESSED, p) for p in pieces))

    with pytest.raises(InputError, match="damaged"):
        read(bomb(64 << 20, b"\0"))


# -- any bytes -----------------------------------------------------------------------------------


def survives(data):
    report = Report("fuzz")
    stream = Input.__new__(Input)
    stream.name, stream.compression, stream.total_bytes = "<stdin>", "", None
    stream.stream, stream._pushed_back = io.BytesIO(data), b""
    try:
        for frame in islice(perf_data.FORMAT.read(stream, Options(keep_comm=True), report), 20):
            assert frame["vaddr"].null_count() == 0
    except TracereplayError as error:
        assert "\n" not in str(error)  # noqa: PT017


SEEDS = {path.name: path.read_bytes() for path in sorted(CAPTURES.glob("*.data"))}
SEED_BYTES = tuple(SEEDS.values())


@st.composite
def mutated(draw, seeds=SEED_BYTES):
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, len(data) - 1)) if draw(st.booleans()) else None
        at = draw(st.integers(0, min(len(data) - 1, 1200))) if at is None else at
        piece = draw(st.binary(min_size=1, max_size=8))
        if draw(st.booleans()):
            data[at : at + len(piece)] = piece
        elif draw(st.booleans()):
            del data[at : at + draw(st.integers(1, 200))]
            data += bytes(1) if not data else b""
        else:
            data[at:at] = piece
    return bytes(data)


def fuzz(count):
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=count <= 300,
        suppress_health_check=list(HealthCheck),
        database=None,
    )


@fuzz(EXAMPLES)
@given(mutated())
def test_damaged_captures_end_in_rows_or_one_line(data):
    survives(data)


@fuzz(EXAMPLES)
@given(st.binary(max_size=400), st.sampled_from([16, 104]))
def test_any_bytes_behind_the_magic_end_in_rows_or_one_line(data, size):
    survives(b"PERFILE2" + struct.pack("<Q", size) + data)
    survives(pipe(attribute(TID_TIME_ADDR | records.RAW, [1]), data))

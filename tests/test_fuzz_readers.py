"""No input brings a reader down: it makes a table or ends in one of our errors, and stays small.

The short form always runs. `make fuzz` sets TRACEREPLAY_FUZZ to the number of inputs per reader.
"""

import io
import os
import tempfile
import warnings
from pathlib import Path

import pytest
from golden_captures import CAPTURES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracereplay.errors import TracereplayError
from tracereplay.files import Input
from tracereplay.readers import FORMATS, Options, Report, detect, ingest
from tracereplay.readers.base import peek

EXAMPLES = int(os.environ.get("TRACEREPLAY_FUZZ", "25"))
# Every sample of text, small enough that a mutation matters.
SEEDS = {path.name: path.read_bytes()[:4000] for path in sorted(CAPTURES.iterdir())}
TOKENS = [
    b"\n", b"\t", b" ", b":", b"0x", b"-", b"/", b"[", b"]", b"(", b")", b",", b'"', b"{", b"}",
    b"\0", b"\xff\xfe", b"#", b"@", b"=", b"|", b"18446744073709551616", b"99999999999999999999999",
    b"ffffffffffffffff", b"0x10000000000000000", b"PERF_RECORD_LOST lost 5", b"Lost 7 events",
    b"address=0x", b" error_code=0x", b"1.123456: ", b"nan", b"-1", b"\r\n", b"1e9",
]  # fmt: skip


@st.composite
def mutated(draw):
    """Draw a sample with pieces cut, doubled, swapped or overwritten."""
    data = SEEDS[draw(st.sampled_from(sorted(SEEDS)))]
    for _ in range(draw(st.integers(0, 8))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 60)))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            data = data[:start] + data[end:]
        elif kind == 1:
            data = data[:end] + data[start:end] * draw(st.integers(1, 3)) + data[end:]
        elif kind == 2:
            data = data[:start] + draw(st.sampled_from(TOKENS)) + data[end:]
        elif kind == 3:
            data = data[:start] + draw(st.binary(max_size=12)) + data[end:]
        else:
            data = data[:start]
    return data


def read_all(entry, data, options):
    """Read the bytes with one reader, as `ingest` would; return the rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input"
        path.write_bytes(data)
        try:
            with Input(path) as stream:
                peek(stream)
                report = Report(stream.name)
                rows = 0
                for frame in entry.read(stream, options, report):
                    assert "page" in frame.columns or "vaddr" in frame.columns
                    rows += frame.height
                    report.records += frame.height
        except TracereplayError as error:
            assert str(error)  # noqa: PT017
            return 0
    return rows


many = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    derandomize=EXAMPLES <= 100,
)


@pytest.mark.parametrize("name", FORMATS)
@many
@given(data=st.one_of(mutated(), st.binary(max_size=400)))
def test_a_reader_makes_rows_or_ends_in_our_error(name, data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = read_all(FORMATS[name], data, Options(tick_ns=1.0, keep_comm=len(data) % 2 == 0))
    assert rows <= 1 << 22


@many
@given(data=st.one_of(mutated(), st.binary(max_size=400)))
def test_detection_and_the_whole_way_to_the_table(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input"
        path.write_bytes(data)
        options = Options(allow_bad=True, allow_lost=True, collapse=len(data) % 2 == 0)
        try:
            done = ingest(path, Path(folder) / "t.parquet", options=options)
        except TracereplayError as error:
            assert str(error)  # noqa: PT017
            assert sorted(Path(folder).iterdir()) == [path]
        else:
            assert done.records > 0


@many
@given(data=st.binary(max_size=300))
def test_every_head_has_one_format_or_none(data):
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            with Input(file.name) as stream:
                entry = detect(peek(stream))
        except TracereplayError as error:
            assert str(error)  # noqa: PT017
        else:
            assert entry.name in FORMATS


def test_deep_json_is_refused_like_any_junk(tmp_path):
    line = b'{"type": "printf", "data": ' + b"[" * 30_000 + b"\n"
    (tmp_path / "deep").write_bytes(io.BytesIO(line * 3).getvalue())
    with pytest.raises(TracereplayError):
        ingest(tmp_path / "deep", tmp_path / "t.parquet")


def test_the_fast_fuzzer_finds_nothing_in_its_short_form(short_fuzz):
    """`make fuzz` in small: fifty inputs a reader, each within its limits of time and memory."""
    said: list[str] = []
    assert short_fuzz(list(FORMATS), 50, 1, said.append) == 0, "\n".join(said)
    assert f"{50 * len(FORMATS):,} inputs, 0 failures" in said[-1]

"""`pages`: sizes by the real codecs, of processes, cores and images."""

from __future__ import annotations

import errno
import mmap
import os
import platform
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import lz4.block
import numpy as np
import polars as pl
import pytest
import zstandard
from typer.testing import CliRunner

from tracereplay.cli import app
from tracereplay.comparison import compare
from tracereplay.errors import FormatError, HostError, InputError, SettingsError
from tracereplay.host import pages as host
from tracereplay.host import system
from tracereplay.replay.settings import Scenario

PAGE = 4096


def generated_pages() -> list[bytes]:
    """Return zero, same-filled, text-like, half random and random pages."""
    rng = np.random.default_rng(11)
    made = [bytes(PAGE), b"\x05" * PAGE, b"abcdefgh" * 512, bytes(PAGE - 1) + b"\x01"]
    made += [rng.bytes(lines * 64) + bytes(PAGE - lines * 64) for lines in range(65)]
    for _ in range(600):
        words = rng.choice([b"user", b'":"', b"2023-", b"0.37,", b"\n", b"name"], 1200)
        made.append((b"".join(words) + bytes(PAGE))[:PAGE])
    return made


def image(tmp_path: Path, texts: list[bytes], name: str = "memory.raw") -> Path:
    path = tmp_path / name
    path.write_bytes(b"".join(texts))
    return path


def measure(where: Path | str, **options) -> pl.DataFrame:
    columns, _ = host.choose_columns()
    with host.closing(host.open_source(str(where))) as source:
        return host.measure_pages(source, columns, **options)


def core(segments: list[tuple[int, bytes]], pid: int = 4242) -> bytes:
    """Return an ELF core with these (address, bytes) segments."""
    note = struct.pack("<III", 5, 136, 3) + b"CORE\0\0\0\0"
    note += bytes(24) + struct.pack("<i", pid) + bytes(108)
    count = len(segments) + 1
    offset = 64 + 56 * count
    headers = struct.pack("<IIQQQQQQ", 4, 0, offset, 0, 0, len(note), 0, 1)
    body = note + bytes(-(offset + len(note)) % PAGE)
    for address, text in segments:
        at = offset + len(body)
        headers += struct.pack("<IIQQQQQQ", 1, 6, at, address, 0, len(text), len(text), PAGE)
        body += text
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0)
    return head + headers + body


def test_sizes_are_those_of_the_libraries_on_every_page(tmp_path) -> None:
    texts = generated_pages()
    frame = measure(image(tmp_path, texts))
    assert frame["page"].to_list() == list(range(len(texts)))

    def deflate(text: bytes) -> bytes:
        stream = zlib.compressobj(6, zlib.DEFLATED, -11)
        return stream.compress(text) + stream.flush()

    libraries = {
        "lz4_bytes": lambda text: lz4.block.compress(text, store_size=False),
        "zstd_bytes": zstandard.ZstdCompressor(level=3).compress,
        "zstd1_bytes": zstandard.ZstdCompressor(level=1).compress,
        "deflate_bytes": deflate,
    }
    for column, library in libraries.items():
        assert frame[column].to_list() == [min(len(library(text)), PAGE) for text in texts]


def test_flags_tell_zero_filled_from_same_filled(tmp_path) -> None:
    texts = generated_pages()
    frame = measure(image(tmp_path, texts))
    assert frame["zero_filled"].to_list() == [text == bytes(PAGE) for text in texts]
    assert frame["same_filled"].to_list() == [text == text[:8] * 512 for text in texts]


def test_threads_and_blocks_keep_the_order(tmp_path) -> None:
    path = image(tmp_path, generated_pages())
    assert measure(path, threads=1).equals(measure(path, threads=7))


def test_a_sample_holds_that_many_of_the_same_pages(tmp_path) -> None:
    path = image(tmp_path, generated_pages())
    whole, some = measure(path), measure(path, sample=50, seed=3)
    assert some.height == 50
    assert some.equals(whole.join(some.select("page"), on="page", how="semi"))
    assert some.equals(measure(path, sample=50, seed=3))
    assert not some.equals(measure(path, sample=50, seed=4))


def test_a_core_gives_addresses_and_the_pid(tmp_path) -> None:
    texts = generated_pages()[4:10]
    path = tmp_path / "core.1"
    path.write_bytes(
        core([(0x7F0000001000, b"".join(texts[:4])), (0x55000000, b"".join(texts[4:]))])
    )
    frame = measure(path)
    assert frame["pid"].to_list() == [4242] * 6
    assert frame["page"].to_list() == [0x7F0000001 + n for n in range(4)] + [0x55000, 0x55001]
    same = measure(image(tmp_path, texts))
    assert frame.drop("pid", "page").equals(same.drop("pid", "page"))


def test_cores_of_two_processes_are_not_taken_for_one(tmp_path) -> None:
    for pid in (111, 222):
        (tmp_path / f"core.{pid}").write_bytes(core([(0x1000, bytes(PAGE))], pid))
    with pytest.raises(
        InputError, match=r"core\.222 is of process 222, the files before it of 111"
    ):
        host.open_source(str(tmp_path))


def test_a_folder_of_images_is_numbered_on(tmp_path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    texts = generated_pages()[:6]
    (folder / "a.img").write_bytes(b"".join(texts[:2]) + b"tail")
    (folder / "b.img").write_bytes(b"".join(texts[2:]))
    with host.closing(host.open_source(str(folder))) as source:
        assert source.pages.tolist() == list(range(6))
        assert "4 bytes after the last whole page" in source.notes[0]


def test_bad_inputs_are_one_line_each(tmp_path) -> None:
    short = tmp_path / "short.core"
    short.write_bytes(core([(0x1000, bytes(8 * PAGE))])[: -2 * PAGE])
    header = tmp_path / "header.core"
    header.write_bytes(core([(0x1000, bytes(PAGE))])[:80])
    (tmp_path / "empty").mkdir()
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<H", 2) + bytes(100))
    cases = [
        (short, InputError, "truncated core"),
        (header, InputError, "truncated core"),
        (program, FormatError, "no core"),
        (tmp_path / "absent", InputError, "No such file"),
        (tmp_path / "empty", InputError, "no files"),
        (image(tmp_path, [b"x"], "tiny"), InputError, "not one whole page"),
        ("4194305", HostError, "no process 4194305"),
    ]
    for where, kind, says in cases:
        with pytest.raises(kind, match=says) as caught:
            host.open_source(str(where))
        assert "\n" not in str(caught.value)


def test_unknown_codecs_are_answered_with_near_ones(monkeypatch) -> None:
    with pytest.raises(SettingsError, match="zstd"):
        host.choose_columns(["zsdt"])
    with pytest.raises(HostError, match="no library"):
        host.choose_columns(["lzo-rle"])
    monkeypatch.setattr(host, "has_lzo", lambda: False)
    with pytest.raises(HostError, match=r"pip install python-lzo"):
        host.choose_columns(["lzo"])
    columns, notes = host.choose_columns()
    assert "lzo_bytes" not in columns
    assert any("pip install python-lzo" in line for line in notes)


_CHILD = """
import ctypes, mmap, sys
area = mmap.mmap(-1, 64 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for page in range(64):
    area[page * 4096 : page * 4096 + page * 8] = bytes(range(1, 9)) * page
    area[page * 4096 + 4095] = 7
address = ctypes.addressof(ctypes.c_char.from_buffer(area))
print(address // 4096, flush=True)
sys.stdin.read()
"""


def test_a_live_process_is_read_and_joins_with_a_trace_of_it(tmp_path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    try:
        first = int(child.stdout.readline())
        out = tmp_path / "live.parquet"
        done = CliRunner().invoke(app, ["pages", str(child.pid), "-o", str(out)])
    finally:
        child.communicate("")
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    table = pl.read_parquet(out)
    assert table["pid"].unique().to_list() == [child.pid]
    own = table.filter(pl.col("page").is_between(first, first + 63))
    assert own.height == 64
    trace = tmp_path / "trace.parquet"
    touched = np.tile(np.arange(first, first + 64, dtype=np.uint64), 5)
    pl.DataFrame(
        {"pid": np.full(touched.size, child.pid, np.uint32), "page": touched}
    ).write_parquet(trace)
    scenario = Scenario(memory_limit_bytes=32 * PAGE, reclaim="lru", codec="lz4")
    result = compare(trace, [scenario], pages=out)
    assert "measured" in result.run["content"]
    assert not any("drawn" in line for line in result.run["notes"])
    assert result.summary["zswpin"][0] > 0
    shrunk = own.filter(pl.col("lz4_bytes") < PAGE)
    assert shrunk.height == 64


_READER = """
import mmap, sys
area = mmap.mmap(-1, 4096 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for page in range(4096):
    area[page * 4096]
for page in range(0, 4096, 64):
    area[page * 4096] = 1
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def reader():
    """A process that has read 4,096 pages, and written 64 of them; its pid."""
    child = subprocess.Popen(
        [sys.executable, "-c", _READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.readline()
    yield child.pid
    child.communicate("")


def resident(pid: int) -> int:
    """Return RssAnon, in pages."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("RssAnon:")[1].split()[0]) // 4


names_zero_pages = pytest.mark.skipif(
    tuple(map(int, re.findall(r"\d+", platform.release())[:2])) < (6, 7),
    reason="the kernel names the shared zero page since Linux 6.7 (PAGEMAP_SCAN)",
)


@names_zero_pages
def test_the_shared_zero_page_is_not_counted_as_resident(reader) -> None:
    with host.closing(host.open_source(str(reader))) as source:
        assert source.pages.size == pytest.approx(resident(reader), abs=64)
        assert any("only read, never written" in line for line in source.notes)
        assert not any("the kernel counts" in line for line in source.notes)


def test_where_the_kernel_names_no_zero_pages_their_number_is_said(reader, monkeypatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))

    monkeypatch.setattr(host.fcntl, "ioctl", refuse)
    with host.closing(host.open_source(str(reader))) as source:
        assert source.pages.size > resident(reader) + 3000
        assert any("the kernel counts" in line for line in source.notes)


@names_zero_pages
def test_regions_of_the_zero_page_are_asked_for_until_there_are_no_more(monkeypatch) -> None:
    monkeypatch.setattr(host, "_REGIONS", 3)  # as many as one call can answer with
    size = 64 * PAGE
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        for page in range(64):
            if page % 2:
                area[page * PAGE] = 1
            else:
                area[page * PAGE]
        address = np.frombuffer(area, np.uint8).ctypes.data
        pagemap = os.open("/proc/self/pagemap", os.O_RDONLY)
        try:
            zero = host._zero_pages(pagemap, address // PAGE, 64)
        finally:
            os.close(pagemap)
    assert zero is not None
    assert zero.tolist() == [page % 2 == 0 for page in range(64)]


def test_a_file_whose_name_is_no_utf8_is_measured_and_named_with_escapes(tmp_path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.raw")
    image(tmp_path, generated_pages()[:5]).rename(odd)
    out = tmp_path / "out.parquet"
    done = CliRunner().invoke(app, ["pages", odd, "-o", str(out), "--codec", "lz4"])
    assert done.exit_code == 0, done.output
    source = pl.read_parquet_metadata(out)["tracereplay.source"]
    assert source == f"{tmp_path}/\\xff.raw"


def test_a_process_is_read_on_linux_and_of_pages_of_4_kib_alone(monkeypatch) -> None:
    monkeypatch.setattr(system.mmap, "PAGESIZE", 65536)
    with pytest.raises(HostError, match="reading a process: this kernel has pages of 64 KiB; the"):
        host.open_source(str(os.getpid()))
    monkeypatch.setattr(system.platform, "system", lambda: "Darwin")
    with pytest.raises(HostError, match="reading a process needs Linux"):
        host.open_source(str(os.getpid()))


def test_a_file_is_measured_where_the_system_is_another(tmp_path, monkeypatch) -> None:
    raw, out = image(tmp_path, generated_pages()[:5]), tmp_path / "out.parquet"
    monkeypatch.setattr(system.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(system.mmap, "PAGESIZE", 16384)
    monkeypatch.delattr(os, "sched_getaffinity")
    done = CliRunner().invoke(app, ["pages", str(raw), "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert pl.read_parquet(out).height == 5


def test_digits_of_other_scripts_are_names_of_files(tmp_path) -> None:
    for where in ("²", "٣"):
        done = CliRunner().invoke(app, ["pages", where, "-o", str(tmp_path / "t.parquet")])
        assert done.exit_code == 1
        assert done.stderr == f"error: {where}: No such file or directory\n"


def test_a_process_without_memory_is_said_to_have_none() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # it stays as a zombie
    with pytest.raises(HostError, match=f"process {ended.pid} has no memory: a kernel thread"):
        host.open_source(str(ended.pid))
    ended.wait()


def test_a_process_that_ends_or_is_not_ours_is_named(monkeypatch) -> None:
    gone = host._process_error(4194305, ProcessLookupError(3, "No such process"))
    assert "no process 4194305" in str(gone)
    barred = host._process_error(7, PermissionError(13, "Permission denied"))
    assert "process 7: permission denied" in str(barred)
    reader, writer = os.pipe()
    os.close(writer)
    monkeypatch.setattr(host.os, "pread", lambda *_: b"")
    with pytest.raises(HostError, match="ended while its memory was read"):
        host._read_memory(reader, 7, 1, 2)
    os.close(reader)


def test_the_command_refuses_to_overwrite(tmp_path) -> None:
    raw = image(tmp_path, generated_pages()[:5])
    out = tmp_path / "out.parquet"
    out.write_text("mine")
    done = CliRunner().invoke(app, ["pages", str(raw), "-o", str(out)])
    assert done.exit_code == 1
    assert out.read_text() == "mine"
    done = CliRunner().invoke(app, ["pages", str(raw), "-o", str(out), "--force", "--codec", "lz4"])
    assert done.exit_code == 0
    assert pl.read_parquet(out).columns == [
        "pid",
        "page",
        "zero_filled",
        "same_filled",
        "lz4_bytes",
    ]

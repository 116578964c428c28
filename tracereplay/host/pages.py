"""Compressed size of every page of a process, a core file or a memory image, by the real codecs.

Pages are read in blocks and compressed side by side; only the results are kept. Keys are virtual
page numbers, with the pid where there is one, so that the table joins with a trace of the process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import importlib
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tracereplay.errors import (
    FormatError,
    HostError,
    InputError,
    SettingsError,
    strerror,
    unknown_name,
)
from tracereplay.files import shown_name
from tracereplay.host.system import cpus, need_linux
from tracereplay.schema import CODECS, PAGES, codec_column
from tracereplay.units import PAGE_BYTES, PAGE_SHIFT

Bytes = Callable[[bytes], bytes]
Progress = Callable[[int, int], None]

LZO_HINT = "lzo needs python-lzo (GPL, hence optional): pip install python-lzo"
LZO_RLE_HINT = "lzo-rle is left out: no library has it; its sizes are close to those of lzo"
_BLOCK_PAGES = 256
_PRESENT, _SWAPPED, _FILE = 1 << 63, 1 << 62, 1 << 61  # bits of /proc/PID/pagemap
_WORDS = PAGE_BYTES // 8
# include/uapi/linux/fs.h: since 6.7 the one place that names the shared zero page without rights
_PAGEMAP_SCAN = 0xC0606610  # _IOWR('f', 16, struct pm_scan_arg)
_PAGE_IS_PFNZERO = 1 << 5
_SCAN_ARGUMENT = struct.Struct("=12Q")
_REGION = np.dtype([("start", np.uint64), ("end", np.uint64), ("categories", np.uint64)])
_REGIONS = 4096  # of one call
_MORE_THAN_COUNTED = 256  # RssAnon lags by some pages of each thread


# ---- codecs ----------------------------------------------------------------------------------------


def _lz4() -> Bytes:
    from lz4 import block

    return lambda page: block.compress(page, mode="default", store_size=False)


def _zstd(level: int) -> Bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=level).compress


def _lzo() -> Bytes:
    lzo: Any = importlib.import_module("lzo")
    return lambda page: lzo.compress(page, 1, False)


def _deflate() -> Bytes:
    """Return raw deflate as the kernel runs it; crypto/deflate.c: level -1 (6), window 11, memory 8."""

    def compress(page: bytes) -> bytes:
        stream = zlib.compressobj(6, zlib.DEFLATED, -11, 8)
        return stream.compress(page) + stream.flush()

    return compress


# Column of the page table → how to make a compressor; one per thread, contexts are not shared.
COMPRESSORS: dict[str, Callable[[], Bytes]] = {
    "lzo_bytes": _lzo,
    "lz4_bytes": _lz4,
    "zstd_bytes": lambda: _zstd(3),
    "zstd1_bytes": lambda: _zstd(1),
    "deflate_bytes": _deflate,
}


def has_lzo() -> bool:
    """Tell whether python-lzo is installed."""
    try:
        importlib.import_module("lzo")
    except ImportError:
        return False
    return True


def choose_columns(codecs: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Return (columns to measure, what is left out and why); no codec named means every one there is.

    Raises
    ------
    SettingsError, HostError
        A codec is unknown, or asked for by name and not to be had here.
    """
    if not codecs:
        lzo = has_lzo()
        columns = [name for name in COMPRESSORS if lzo or name != "lzo_bytes"]
        return columns, [*([] if lzo else [LZO_HINT]), LZO_RLE_HINT]
    columns = []
    for codec in dict.fromkeys(codecs):
        if codec not in (*CODECS, "zstd1"):
            raise unknown_name("codec", codec, [*CODECS, "zstd1"])
        if codec == "lzo-rle":
            raise HostError("lzo-rle: no library has it; measure lzo, whose sizes are close")
        if codec == "lzo" and not has_lzo():
            raise HostError(LZO_HINT)
        columns.append(codec_column(codec))
    return columns, []


# ---- where pages come from -------------------------------------------------------------------------


@dataclasses.dataclass
class PageSource:
    """Pages to measure.

    Attributes
    ----------
    pages : uint64, their numbers, in the order `read` wants them
    read : (first index, last index + 1) → bytes of those pages; None for one that cannot be read
    notes : what was left out, in plain sentences
    """

    name: str
    pid: int | None
    pages: npt.NDArray[np.uint64]
    read: Callable[[npt.NDArray[np.int64]], list[bytes | None]]
    close: Callable[[], None]
    notes: list[str]


def open_source(where: str, *, swapped: bool = False, file_pages: bool = False) -> PageSource:
    """Open a process (a number), a core file, a memory image, or a folder of images.

    Raises
    ------
    HostError, InputError, FormatError
        It does not exist, may not be read, or is damaged.
    """
    if where.isascii() and where.isdecimal() and not Path(where).exists():
        return _open_process(int(where), swapped=swapped, file_pages=file_pages)
    path = Path(where)
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.is_file())
        if not files:
            raise InputError(f"{path}: no files in this folder")
        return _open_files(where, files)
    return _open_files(where, [path])


def _open_process(pid: int, *, swapped: bool, file_pages: bool) -> PageSource:
    need_linux("reading a process")
    root = Path("/proc") / str(pid)
    try:
        maps = os.fsdecode((root / "maps").read_bytes())  # names of files are any bytes
        pagemap = os.open(root / "pagemap", os.O_RDONLY)
    except OSError as error:
        raise _process_error(pid, error) from error
    chosen: list[npt.NDArray[np.uint64]] = []
    left_swapped = left_file = left_zero = 0
    knows_zero = True
    try:
        for line in maps.splitlines():
            span, rights, *rest = line.split(None, 5)
            if "r" not in rights or (len(rest) == 4 and rest[3].startswith("[v")):
                continue  # [vvar], [vdso], [vsyscall]: the kernel's own
            low, high = (int(part, 16) >> PAGE_SHIFT for part in span.split("-"))
            for first in range(low, high, 1 << 18):
                count = min(high - first, 1 << 18)
                bits = np.frombuffer(os.pread(pagemap, count * 8, first * 8), np.uint64)
                present = (bits & np.uint64(_PRESENT)) != 0
                in_swap = (bits & np.uint64(_SWAPPED)) != 0
                of_file = present & ((bits & np.uint64(_FILE)) != 0)
                zero = _zero_pages(pagemap, first, count) if knows_zero else None
                if zero is None:
                    knows_zero = False
                else:  # the huge one counts as a file's
                    left_zero += int((present & zero).sum())
                    present, of_file = present & ~zero, of_file & ~zero
                left_file += 0 if file_pages else int(of_file.sum())
                left_swapped += 0 if swapped else int(in_swap.sum())
                take = present if file_pages else present & ~of_file
                if swapped:
                    take = take | in_swap
                chosen.append(np.flatnonzero(take).astype(np.uint64) + np.uint64(first))
        memory = os.open(root / "mem", os.O_RDONLY)
        counted = _anonymous_pages((root / "status").read_bytes())
    except OSError as error:
        raise _process_error(pid, error) from error
    finally:
        os.close(pagemap)
    pages = np.concatenate(chosen) if chosen else np.empty(0, np.uint64)
    notes = []
    if left_zero:
        notes.append(
            f"{left_zero:,} pages were only read, never written: they are the kernel's one zero page, "
            "take no memory, and are left out"
        )
    if not knows_zero and not (swapped or file_pages) and pages.size > counted + _MORE_THAN_COUNTED:
        notes.append(
            f"the kernel counts {counted:,} anonymous pages: the rest of {pages.size:,} is its one zero "
            "page, which takes no memory (kernels from 6.7 on tell which)"
        )
    if left_swapped:
        notes.append(
            f"{left_swapped:,} pages are swapped out and left alone; --swapped reads them in"
        )
    if left_file:
        notes.append(f"{left_file:,} pages of files are left out; --file-pages takes them")
    if not pages.size:
        os.close(memory)
        raise HostError(f"process {pid} has no resident anonymous pages to read")

    def read(wanted: npt.NDArray[np.int64]) -> list[bytes | None]:
        found: list[bytes | None] = []
        numbers = pages[wanted].astype(np.int64)
        for run in np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1):
            found += _read_memory(memory, pid, int(run[0]), run.size)
        return found

    return PageSource(f"process {pid}", pid, pages, read, lambda: os.close(memory), notes)


def _zero_pages(pagemap: int, first: int, count: int) -> npt.NDArray[np.bool_] | None:
    """Tell which of neighbouring pages are the shared zero page; None where the kernel does not say."""
    found = np.zeros(count, np.bool_)
    regions = np.zeros(_REGIONS, _REGION)
    at, end = first << PAGE_SHIFT, (first + count) << PAGE_SHIFT
    while at < end:
        argument = bytearray(
            _SCAN_ARGUMENT.pack(
                _SCAN_ARGUMENT.size, 0, at, end, 0, regions.ctypes.data, _REGIONS, 0, 0,
                _PAGE_IS_PFNZERO, 0, _PAGE_IS_PFNZERO,
            )
        )  # fmt: skip
        try:
            filled = fcntl.ioctl(pagemap, _PAGEMAP_SCAN, argument)
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.EINVAL):
                return None
            raise
        for start, stop, _ in regions[:filled].tolist():
            found[(start >> PAGE_SHIFT) - first : (stop >> PAGE_SHIFT) - first] = True
        at = _SCAN_ARGUMENT.unpack(argument)[4]  # walk_end
        if at == 0 or filled == 0:
            break
    return found


def _anonymous_pages(status: bytes) -> int:
    """Return RssAnon of /proc/PID/status, in pages."""
    for line in status.splitlines():
        if line.startswith(b"RssAnon:"):
            return int(line.split()[1]) * 1024 // PAGE_BYTES
    return 0


def _read_memory(memory: int, pid: int, first: int, count: int) -> list[bytes | None]:
    """Read neighbouring pages of a process; a page that is gone by now is None."""
    try:
        text = os.pread(memory, count * PAGE_BYTES, first << PAGE_SHIFT)
    except OSError as error:
        if error.errno not in (errno.EIO, errno.EFAULT):
            raise _process_error(pid, error) from error
        text = b""
        if count == 1:
            return [None]
    else:
        if not text:
            raise HostError(f"process {pid} ended while its memory was read")
    whole = len(text) // PAGE_BYTES
    pages: list[bytes | None] = [
        text[at * PAGE_BYTES : (at + 1) * PAGE_BYTES] for at in range(whole)
    ]
    for rest in range(whole, count):
        pages += _read_memory(memory, pid, first + rest, 1)
    return pages


def _process_error(pid: int, error: OSError) -> HostError:
    if error.errno in (errno.ENOENT, errno.ESRCH):
        if Path(f"/proc/{pid}").exists():
            return HostError(f"process {pid} has no memory: a kernel thread, or one that has ended")
        return HostError(f"there is no process {pid}")
    if error.errno in (errno.EACCES, errno.EPERM):
        return HostError(
            f"process {pid}: permission denied; run as its owner or as root "
            "(kernel.yama.ptrace_scope may forbid even the owner)"
        )
    return HostError(f"process {pid}: {strerror(error)}")


def _open_files(name: str, files: Sequence[Path]) -> PageSource:
    """Open ELF cores and raw images; raw pages are numbered on from one file to the next."""
    handles: list[int] = []
    owner: list[npt.NDArray[np.int32]] = []
    offsets: list[npt.NDArray[np.int64]] = []
    numbers: list[npt.NDArray[np.uint64]] = []
    notes: list[str] = []
    pid, next_raw = None, 0
    try:
        for index, path in enumerate(files):
            try:
                handle = os.open(path, os.O_RDONLY)
                size = os.fstat(handle).st_size
                head = os.pread(handle, 64, 0)
            except OSError as error:
                raise InputError(f"{path}: {strerror(error)}") from error
            handles.append(handle)
            if head[:4] == b"\x7fELF":
                its_pid, where, pages = _core_pages(path, handle, head, size)
            else:
                its_pid = None
                count, tail = divmod(size, PAGE_BYTES)
                if tail:
                    notes.append(f"{path}: {tail} bytes after the last whole page are left out")
                where = np.arange(count, dtype=np.int64) * PAGE_BYTES
                pages = np.arange(next_raw, next_raw + count, dtype=np.uint64)
                next_raw += count
            if index:
                _check_same_process(path, its_pid, pid)
            pid = its_pid
            owner.append(np.full(where.size, index, np.int32))
            offsets.append(where)
            numbers.append(pages)
    except BaseException:
        for handle in handles:
            os.close(handle)
        raise
    which, at, all_pages = np.concatenate(owner), np.concatenate(offsets), np.concatenate(numbers)

    def close() -> None:
        for handle in handles:
            os.close(handle)

    if not all_pages.size:
        close()
        raise InputError(f"{name}: not one whole page of {PAGE_BYTES} bytes")

    def read(wanted: npt.NDArray[np.int64]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for index in wanted:
            path = files[which[index]]
            try:
                page = os.pread(handles[which[index]], PAGE_BYTES, int(at[index]))
            except OSError as error:
                raise InputError(f"{path}: {strerror(error)}") from error
            if len(page) < PAGE_BYTES:
                raise InputError(f"{path}: shorter than it was when reading began")
            found.append(page)
        return found

    return PageSource(shown_name(name), pid, all_pages, read, close, notes)


def _check_same_process(path: Path, its_pid: int | None, pid: int | None) -> None:
    """Refuse files of two processes: pages are told apart by number alone."""
    if its_pid != pid:
        raise InputError(
            f"{path} is of process {its_pid or 'none'}, the files before it of {pid or 'none'}; "
            "give one core at a time"
        )


def _core_pages(
    path: Path, handle: int, head: bytes, size: int
) -> tuple[int | None, npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """Return pid, file offsets and page numbers of an ELF core; elf(5), core(5)."""
    truncated = InputError(f"{path}: truncated core: the headers promise more than {size:,} bytes")
    if len(head) < 64:
        raise truncated
    if head[4] != 2 or head[5] != 1:
        raise FormatError(f"{path}: only 64-bit little-endian ELF cores are read")
    (kind,) = struct.unpack_from("<H", head, 16)
    if kind != 4:
        raise FormatError(
            f"{path}: an ELF file, but no core (type {kind}); name a core or an image"
        )
    table, sections = struct.unpack_from("<QQ", head, 32)
    entry, count = struct.unpack_from("<HH", head, 54)
    if count == 0xFFFF:  # PN_XNUM: the true number stands in the first section header
        section = os.pread(handle, 64, sections)
        if len(section) < 64:
            raise truncated
        (count,) = struct.unpack_from("<I", section, 44)
    headers = os.pread(handle, entry * count, table)
    if entry != 56 or len(headers) < entry * count:
        raise truncated
    pid = None
    where, pages = [], []
    for index in range(count):
        kind, _, offset, address, _, in_file, _, _ = struct.unpack_from(
            "<IIQQQQQQ", headers, index * 56
        )
        if offset + in_file > size:
            raise truncated
        if kind == 4:
            pid = _core_pid(os.pread(handle, in_file, offset)) or pid
        elif kind == 1:
            skip = -address % PAGE_BYTES
            whole = max(in_file - skip, 0) // PAGE_BYTES
            where.append(offset + skip + np.arange(whole, dtype=np.int64) * PAGE_BYTES)
            first = np.uint64((address + skip) >> PAGE_SHIFT)
            pages.append(first + np.arange(whole, dtype=np.uint64))
    if not where:
        raise FormatError(f"{path}: a core without memory segments")
    return pid, np.concatenate(where), np.concatenate(pages)


def _core_pid(notes: bytes) -> int | None:
    """Return the pid of the NT_PRPSINFO note of x86-64 and arm64 cores."""
    at = 0
    while at + 12 <= len(notes):
        name_size, text_size, kind = struct.unpack_from("<III", notes, at)
        text = at + 12 + (name_size + 3) // 4 * 4
        if kind == 3 and text + 28 <= len(notes):
            return int(struct.unpack_from("<i", notes, text + 24)[0])
        at = text + (text_size + 3) // 4 * 4
    return None


# ---- measuring -------------------------------------------------------------------------------------


def measure_pages(
    source: PageSource,
    columns: Sequence[str],
    *,
    sample: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Compress the pages of a source; return a frame of schema PAGES with the columns asked for.

    Parameters
    ----------
    columns : of COMPRESSORS
    sample : that many pages, drawn evenly by `seed`; None takes all
    progress : called with (pages done, pages in all)

    Raises
    ------
    HostError, InputError
        The process ended, or a file cannot be read any more.
    """
    if sample is not None and sample < 1:
        raise SettingsError("--sample: at least one page")
    chosen = np.arange(source.pages.size, dtype=np.int64)
    if sample is not None and sample < chosen.size:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, sample, replace=False))
    local = threading.local()
    parts: list[pl.DataFrame] = []
    unreadable = 0
    workers = threads or cpus()
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[Future[pl.DataFrame]] = []

        def collect() -> None:
            parts.append(waiting.pop(0).result())

        for first in range(0, chosen.size, _BLOCK_PAGES):
            block = chosen[first : first + _BLOCK_PAGES]
            texts = source.read(block)
            unreadable += sum(text is None for text in texts)
            waiting.append(pool.submit(_measure, source.pages[block], texts, tuple(columns), local))
            if len(waiting) > 4 * workers:
                collect()
            if progress is not None:
                progress(first + block.size, chosen.size)
        while waiting:
            collect()
    if unreadable:
        source.notes.append(f"{unreadable:,} pages could not be read and are left out")
    frame = pl.concat(parts)
    if not frame.height:
        raise HostError(f"{source.name}: not one page could be read")
    pid = pl.lit(source.pid, pl.UInt32).alias("pid")
    names = {column.name for column in PAGES}
    return frame.select(pid, *(name for name in frame.columns if name in names))


def _measure(
    numbers: npt.NDArray[np.uint64],
    texts: list[bytes | None],
    columns: tuple[str, ...],
    local: threading.local,
) -> pl.DataFrame:
    compressors: dict[str, Bytes] = local.__dict__.setdefault("compressors", {})
    for column in columns:
        if column not in compressors:
            compressors[column] = COMPRESSORS[column]()
    there = [text for text in texts if text is not None]
    words = np.frombuffer(b"".join(there), np.uint64).reshape(len(there), _WORDS)
    same = (words == words[:, :1]).all(axis=1)
    sizes = {
        column: np.array(
            [min(len(compressors[column](text)), PAGE_BYTES) for text in there], np.uint16
        )
        for column in columns
    }
    kept = np.array([text is not None for text in texts], np.bool_)
    return pl.DataFrame(
        {
            "page": numbers[kept],
            "zero_filled": same & (words[:, 0] == 0),
            "same_filled": same,
            **sizes,
        }
    )


@contextlib.contextmanager
def closing(source: PageSource) -> Iterator[PageSource]:
    """Close a source at the end of the block."""
    try:
        yield source
    finally:
        source.close()

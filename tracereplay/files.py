"""Open inputs (plain, .gz, .zst, .xz, .bz2, standard input) and replace outputs whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import gzip
import io
import os
import secrets
import select
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from tracereplay.errors import InputError, OutputError, first_line, strerror

if TYPE_CHECKING:
    import polars as pl

STDIN = "-"
# Of a name, in that of what is made beside it: 4 bytes each at most, of the 255 there may be.
HIDDEN_LETTERS = 50


class _Remembering:
    """A file for polars to write to; keeps the error that ended it, of which polars loses the number."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


class _Counted(io.RawIOBase):
    """A raw stream that counts the bytes read from the file, for progress."""

    def __init__(self, raw: Any, *, is_stdin: bool) -> None:
        self._raw = raw
        self._is_stdin = is_stdin
        self.bytes_read = 0
        try:
            self._waits_on = None if stat.S_ISREG(os.fstat(raw.fileno()).st_mode) else raw.fileno()
        except OSError:  # a stream without a file, as tests have
            self._waits_on = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        # polars takes SIGINT with SA_RESTART, so that a read waiting on a pipe would never see
        # Ctrl-C: wait in short naps instead.
        while self._waits_on is not None and not select.select([self._waits_on], [], [], 0.2)[0]:
            pass
        size = self._raw.readinto(buffer) or 0
        self.bytes_read += size
        return int(size)

    def close(self) -> None:
        if not self.closed and not self._is_stdin:
            self._raw.close()
        super().close()


class _Zstd(io.RawIOBase):
    """Decompresses zstd frames and, unlike the package's own stream, minds a truncated one."""

    # A block of a few bytes can stand for 128 KiB: small pieces in keep what comes out small.
    _PIECE_BYTES = 1 << 10
    _MAX_WINDOW_BYTES = 1 << 28

    def __init__(self, raw: IO[bytes]) -> None:
        import zstandard

        self._raw = raw
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=self._MAX_WINDOW_BYTES)
        self._frame: Any = None
        self._input = b""
        self._output = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._output:
            piece, self._input = self._input or self._raw.read(self._PIECE_BYTES), b""
            if not piece:
                if self._frame is not None:
                    raise EOFError("the last frame is cut short")
                return 0
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            self._output = memoryview(self._frame.decompress(piece))
            if self._frame.eof:
                self._input = self._frame.unused_data
                self._frame = None
        size = min(len(buffer), len(self._output))
        buffer[:size] = self._output[:size]
        self._output = self._output[size:]
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Lzma(io.RawIOBase):
    """Decompresses xz streams a little at a time, within bounds of memory."""

    _PIECE_BYTES = 1 << 16
    _MAX_MEMORY_BYTES = 256 << 20

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._stream = self._begin()
        self._is_begun = False

    def readable(self) -> bool:
        return True

    def _begin(self) -> Any:
        import lzma

        return lzma.LZMADecompressor(memlimit=self._MAX_MEMORY_BYTES)

    def readinto(self, buffer: Any) -> int:
        while True:
            piece = b""
            if self._stream.eof:  # another stream, or the padding of zeros
                piece = self._stream.unused_data.lstrip(b"\0")
                self._stream, self._is_begun = self._begin(), False
            if not piece and self._stream.needs_input:
                piece = self._raw.read(self._PIECE_BYTES)
                if not self._is_begun:
                    piece = piece.lstrip(b"\0")
                if not piece:
                    if self._is_begun:
                        raise EOFError("the last stream is cut short")
                    return 0
            self._is_begun = True
            data = self._stream.decompress(piece, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)

    def close(self) -> None:
        self._raw.close()
        super().close()


class Input:
    """An open input: `stream` yields decompressed bytes, `bytes_read` counts what the file gave.

    `name` is for messages; `total_bytes` is None for pipes.
    """

    _bytes_passed = 0

    def __init__(self, path: str | Path) -> None:
        self.name = "<stdin>" if str(path) == STDIN else str(path)
        self.total_bytes: int | None = None
        _name_bytes(path)
        if str(path) == STDIN:
            raw: Any = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
        else:
            try:
                raw = Path(path).open("rb", buffering=0)  # noqa: SIM115
                if Path(path).is_file():
                    self.total_bytes = Path(path).stat().st_size
            except OSError as error:
                raise InputError(f"{path}: {strerror(error)}") from error
        self._pushed_back = b""
        self._counted = _Counted(raw, is_stdin=str(path) == STDIN)
        buffered = self._buffered = io.BufferedReader(self._counted, 1 << 20)
        self.stream: IO[bytes] = buffered
        head = buffered.peek(4)[:4]
        self.compression = ""
        if head[:2] == b"\x1f\x8b":
            self.stream = gzip.GzipFile(fileobj=buffered)  # type: ignore[assignment]
            self.compression = "gzip"
        elif head == b"\x28\xb5\x2f\xfd":
            self.stream = io.BufferedReader(_Zstd(buffered), 1 << 20)
            self.compression = "zstd"
        elif head == b"\xfd7zX":
            self.stream = io.BufferedReader(_Lzma(buffered), 1 << 20)
            self.compression = "xz"
        elif head[:3] == b"BZh":
            import bz2

            self.stream = bz2.BZ2File(buffered)
            self.compression = "bzip2"

    @property
    def bytes_read(self) -> int:
        """Bytes taken from the file so far (compressed bytes, where it is compressed)."""
        return self._counted.bytes_read + self._bytes_passed

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` decompressed bytes; b"" at the end.

        Raises
        ------
        InputError
            The file is truncated or damaged.
        """
        if self._pushed_back:
            data = self._pushed_back if size < 0 else self._pushed_back[:size]
            self._pushed_back = self._pushed_back[len(data) :]
            return data + self.read() if size < 0 else data
        with self._naming_damage():
            return self.stream.read(size)

    def readinto(self, room: memoryview) -> int:
        """Fill `room` as far as there are decompressed bytes; return how many, 0 at the end.

        Raises
        ------
        InputError
            The file is truncated or damaged.
        """
        if self._pushed_back:
            data = self.read(len(room))
            room[: len(data)] = data
            return len(data)
        with self._naming_damage():
            return int(self.stream.readinto(room))  # type: ignore[attr-defined]

    @contextlib.contextmanager
    def _naming_damage(self) -> Iterator[None]:
        import lzma
        import zlib

        import zstandard

        try:
            yield
        except (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError) as error:
            raise InputError(
                f"{self.name}: {self.compression or 'read'} error: {error}; is the file complete?"
            ) from error

    def passed(self, size: int) -> None:
        """Count bytes that a reader took from the file by another way, for progress."""
        self._bytes_passed += size

    def push_back(self, data: bytes) -> None:
        """Put bytes back in front: the next `read` returns them first."""
        self._pushed_back = data + self._pushed_back

    def close(self) -> None:
        """Close the file; standard input stays open."""
        self.stream.close()
        self._buffered.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def spool(stream: Input, path: Path) -> None:
    """Copy the rest of an input to a file: some formats have their index at the end.

    Raises
    ------
    OutputError
        There is no room for the copy.
    """
    try:
        with path.open("wb") as copy:
            while piece := stream.read(1 << 20):
                copy.write(piece)
    except OSError as error:
        raise OutputError(
            f"{path.parent}: {strerror(error)} for a plain copy of {stream.name}; free some, "
            "or set TMPDIR to another folder"
        ) from error


@contextlib.contextmanager
def replacing(path: str | Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the name when the block ends without error.

    Nothing is left behind on an error or Ctrl-C.

    Raises
    ------
    OutputError
        `path` exists and `force` is not given, or the folder cannot be written.
    """
    check_free(path, force=force)
    target = Path(path).resolve()  # what a link points to is replaced, not the link
    part = target.parent / f".{target.name[:HIDDEN_LETTERS]}.{secrets.token_hex(4)}.part"
    try:
        try:
            part.touch(exist_ok=False)
        except OSError as error:
            raise OutputError(f"{path}: {strerror(error)}") from error
        yield part
        part.replace(target)
    except OSError as error:
        raise OutputError(f"{path}: {strerror(error)}") from error
    finally:
        with contextlib.suppress(OSError):  # it may be what could not be made
            part.unlink(missing_ok=True)


def write_table(
    frame: pl.DataFrame,
    path: str | Path,
    *,
    force: bool = False,
    metadata: dict[str, str] | None = None,
) -> None:
    """Write a frame as Parquet, whole or not at all.

    Raises
    ------
    OutputError
        As of replacing(), or the disk is full.
    """
    import polars as pl

    with replacing(path, force=force) as part, part.open("wb") as file:
        kept = _Remembering(file)
        try:
            frame.write_parquet(kept, metadata=metadata)  # type: ignore[arg-type]  # enough of one
        except pl.exceptions.PolarsError as error:
            if kept.error is not None:
                raise kept.error from error
            raise OutputError(f"{path}: cannot be written: {first_line(error)}") from error


def _name_bytes(path: str | Path) -> bytes:
    """Return a name as the file system has it; InputError where it can be none."""
    if not str(path) or "\0" in str(path):
        raise InputError(f"{str(path)!r} is no file")
    try:
        return os.fsencode(path)
    except UnicodeEncodeError as error:
        raise InputError(
            f"{str(path)!a}: this locale cannot write the name; set LC_ALL=C.UTF-8"
        ) from error


def check_name(path: str | Path) -> None:
    """Raise InputError for a name that is no UTF-8, which polars cannot open, or none at all."""
    try:
        _name_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{shown_name(path)}: the name is not UTF-8; rename it") from error


def shown_name(path: str | Path) -> str:
    """Return a name as text that any file or stream takes: what is no UTF-8 is escaped."""
    return _name_bytes(path).decode(errors="backslashreplace")


def polars_path(path: str | Path, *, expands: bool = True) -> str:
    """Return the name to hand to polars for exactly this file.

    polars takes a name for UTF-8, whatever the locale made of its bytes; it expands `*`, `?` and
    `[...]`, so that for `run[12].parquet` it silently reads run1.parquet and run2.parquet; a name
    that begins with `~` it takes for one in the home folder, and one with a colon for a URL.

    Parameters
    ----------
    expands : False for read_parquet_metadata() and read_parquet_schema(), which take a name literally

    Raises
    ------
    InputError
        As of check_name().
    """
    check_name(path)
    name = _name_bytes(path).decode()
    if not Path(name).is_absolute():  # not made absolute: the folder we are in may be no UTF-8
        name = f"./{name}"
    return glob.escape(name) if expands else name


def check_free(path: str | Path, *, force: bool = False) -> None:
    """Raise OutputError where `path` exists and `force` is not given, or has no folder to stand in."""
    target = Path(path)
    check_name(target)
    try:
        target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:  # too long a name: better told now than when all is done
        raise OutputError(f"{path}: {strerror(error)}") from error
    if target.is_dir():
        raise OutputError(f"{target} is a folder; name a file")
    if target.exists() and not target.is_file():
        # Never replace a device or a pipe: root would lose /dev/null.
        raise OutputError(f"{target} is a device or pipe; name a file")
    if target.exists() and not force:
        raise OutputError(f"{target} exists; --force overwrites it")
    if not target.parent.is_dir():
        raise OutputError(f"{target}: no such folder: {target.parent}")

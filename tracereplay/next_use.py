"""When each access's page is used next: what Belady's optimum needs to know, in bounded memory.

The ids of the trace are spilled to an unnamed temporary file (4 bytes a row), read from its end to
its start, and overwritten there with the distance to the next use. In memory stand one chunk and 8
bytes per distinct page. The file has no name, so it is gone however the process ends.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from tracereplay._jit import kernel, prefetch
from tracereplay.errors import OutputError, strerror
from tracereplay.trace import Trace

NEVER = np.iinfo(np.int64).max

NextUse = npt.NDArray[np.int64]

_CHUNK_ROWS = 1 << 20
_AHEAD = 24
_NARROW_ROWS = (1 << 32) - 1  # the last value of uint32 means "never"


@kernel
def _distances_backward(
    page_ids: Any, first_row: Any, seen: Any, distances: Any, never: Any
) -> None:
    """Write the rows from each access to the next of its page, or `never`.

    page_ids uint32 (rows,), seen int64 (pages,): row of the next use plus 1 as known behind this
    chunk, 0 where there is none; distances uint32 or uint64 (rows,) is filled, never its largest value.
    """
    for row in range(page_ids.size - 1, -1, -1):
        if row >= _AHEAD:
            prefetch(seen, page_ids[row - _AHEAD])
        page = page_ids[row]
        here = first_row + row + 1
        if seen[page] != 0:
            distances[row] = seen[page] - here
        else:
            distances[row] = never
        seen[page] = here


class NextUses:
    """Row of the next use of every access of a trace; made by two passes over it.

    A context manager; `of(first_row, rows)` may be asked in any order, as often as wanted.
    """

    def __init__(self, trace: Trace) -> None:
        # /var/tmp is a disk where /tmp may be memory.
        folder = os.environ.get("TMPDIR") or ("/var/tmp" if Path("/var/tmp").is_dir() else None)  # noqa: S108
        self.batch_rows: list[int] = []
        self._rows = 0
        self._dtype: type[np.unsignedinteger[Any]] = np.uint32
        try:
            self._file = _unnamed_file(folder)
        except OSError as error:
            raise OutputError(f"{folder}: {strerror(error)}; set TMPDIR") from error
        try:
            self._fill(trace, folder)
        except OSError as error:
            self.close()
            raise OutputError(
                f"{folder}: {strerror(error)}; the next uses of a trace need 4 bytes a row "
                f"there, set TMPDIR to a roomier folder"
            ) from error
        except BaseException:
            self.close()
            raise

    def _fill(self, trace: Trace, folder: str | None) -> None:
        pages = 0
        for batch in trace.batches(only_ids=True):
            _write(self._file, batch.page_ids, self._rows * batch.page_ids.itemsize)
            self.batch_rows.append(batch.page_ids.size)
            self._rows += batch.page_ids.size
            if batch.page_ids.size:
                pages = max(pages, int(batch.page_ids.max()) + 1)
        if self._rows < _NARROW_ROWS:
            self._turn_round(self._file, pages)
            return
        with self._file as page_ids:
            self._dtype = np.uint64
            self._file = _unnamed_file(folder)
            self._turn_round(page_ids, pages)

    def _turn_round(self, source: IO[bytes], pages: int) -> None:
        """Write the distances to the next uses, from the last chunk of page ids to the first."""
        seen = np.zeros(max(pages, 1), np.int64)
        never = self._dtype(np.iinfo(self._dtype).max)
        for first_row in reversed(range(0, self._rows, _CHUNK_ROWS)):
            rows = min(_CHUNK_ROWS, self._rows - first_row)
            page_ids = _read(source, np.uint32, first_row, rows)
            distances = np.empty(rows, self._dtype)
            _distances_backward(page_ids, first_row, seen, distances, never)
            _write(self._file, distances, first_row * distances.itemsize)

    def of(self, first_row: int, rows: int) -> NextUse:
        """Return the row of the next use of `rows` accesses from `first_row` on, or NEVER."""
        distances = _read(self._file, self._dtype, first_row, rows)
        never = distances == np.iinfo(self._dtype).max
        found: NextUse = distances.astype(np.int64)
        found += np.arange(first_row, first_row + rows)
        found[never] = NEVER
        return found

    def close(self) -> None:
        """Give the temporary file back."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _unnamed_file(folder: str | None) -> IO[bytes]:
    # Without a buffer: where the disk is full nothing waits to be written again at closing.
    return tempfile.TemporaryFile(dir=folder, buffering=0)


def _write(file: IO[bytes], array: npt.NDArray[Any], offset: int) -> None:
    written = array.data.cast("B") if array.size else memoryview(b"")
    while written:
        done = os.pwrite(file.fileno(), written, offset)
        written = written[done:]
        offset += done


def _read(file: Any, dtype: Any, first_row: int, rows: int) -> npt.NDArray[Any]:
    size = np.dtype(dtype).itemsize
    array = np.empty(rows, dtype)
    view = array.data.cast("B")
    offset = first_row * size
    while view:
        done = os.preadv(file.fileno(), [view], offset)
        if not done:
            raise OSError(0, "the temporary file is shorter than was written")
        view = view[done:]
        offset += done
    return array

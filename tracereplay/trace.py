"""Open and check a trace table; hand it out in batches of dense page ids.

Besides tables that `ingest` wrote, a bare Parquet, Arrow IPC or CSV file with a `page` or `vaddr`
column is taken; what it lacks gets a default, and `Trace.notes` says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import polars.selectors as cs

from tracereplay._jit import kernel_array
from tracereplay.dense import DenseIds, PageIds
from tracereplay.errors import InputError, TraceSchemaError, first_line, strerror
from tracereplay.files import check_name, polars_path
from tracereplay.schema import COVERAGES, METADATA_PREFIX, SCHEMA_VERSION, weakest_coverage
from tracereplay.spaces import COLUMNS as SPACE_COLUMNS
from tracereplay.spaces import SpaceNumbers
from tracereplay.tables import READ_ERRORS
from tracereplay.units import PAGE_SHIFT

BATCH_ROWS = 1 << 20

# Clocks whose unit is no nanosecond: stalls cannot be compared with them.
_COUNTING_CLOCKS = ("instructions", "ordinal", "ticks")


@dataclasses.dataclass(frozen=True)
class Batch:
    """Rows `first_row` … of a trace, in order.

    page_ids : uint32, shape (rows,), read-only
    is_write : bool, shape (rows,), read-only; unknown counts as read
    time_ns : int64, shape (rows,), from the first row of the trace on; None without a clock
    run_len : uint32, shape (rows,); None where every row is one access
    """

    first_row: int
    page_ids: PageIds
    is_write: npt.NDArray[np.bool_]
    time_ns: npt.NDArray[np.int64] | None
    run_len: npt.NDArray[np.uint32] | None


class Trace:
    """One trace table, or several read one after the other (each must be in time order).

    Attributes
    ----------
    name : file name without its folder, for reports
    coverage : which accesses the source could see
    clock : what `time_ns` counts
    has_time : True where `time_ns` counts nanoseconds
    notes : what was assumed because a column is missing; plain sentences
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self.notes: list[str] = []
        footers = [_read_metadata(path) for path in self.paths]
        self.metadata = footers[0]
        self._footers = footers
        self.name = self.paths[0].name + (
            f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        )
        for path, footer in zip(self.paths, footers, strict=True):
            _check_footer(path, footer)
        self._frames = [_scan(path) for path in self.paths]
        schemas = [frame.collect_schema() for frame in self._frames]
        self._rows = [
            None if _kind(path) == "csv" else _row_count(path, frame)
            for path, frame in zip(self.paths, self._frames, strict=True)
        ]
        self._begun_anew: set[Path] = set()
        self._columns = set(schemas[0])
        for path, schema in zip(self.paths, schemas, strict=True):
            _check_columns(path, schema)
            self._columns &= set(schema)
        coverages = list(dict.fromkeys(footer.get("coverage", "full") for footer in footers))
        self.coverage = weakest_coverage(coverages)
        if len(coverages) > 1:
            self.notes.append(
                f"these traces are {' and '.join(coverages)}: together they say no more than "
                f"{self.coverage} does"
            )
        if not all("coverage" in footer for footer in footers):
            self.notes.append("coverage is not recorded in the table: taken as full")
        without = "time_ns" if "time_ns" in self._columns else "none"
        told = ",".join(footer.get("clock", without) for footer in footers)
        clocks = list(dict.fromkeys(told.split(",")))
        self.clock = ",".join(clocks)
        counting = [clock for clock in clocks if clock in _COUNTING_CLOCKS]
        self.has_time = "time_ns" in self._columns and not counting
        if counting and len(clocks) > 1:
            self.notes.append(f"clocks of these traces differ ({self.clock}): none is used")
        self._reduced_below_bytes = max(int(f.get("reduced_below_bytes", 0)) for f in footers)
        if "is_write" not in self._columns:
            self.notes.append("no column `is_write`: every access is taken as a read")
        if "pid" not in self._columns:
            self.notes.append("no column `pid`: all pages are taken as one address space")
        self._ids = DenseIds(int(self.metadata.get("unique_pages", 0)))
        self._spaces = SpaceNumbers()
        # First id, page numbers and spaces of the pages that the last batch with new ones brought.
        self._fresh = 0, np.empty(0, np.uint64), np.empty(0, np.uint32)
        self._counted: tuple[int, int] | None = None

    # -- size ------------------------------------------------------------------------------------

    def count(self) -> tuple[int, int]:
        """Return (rows, distinct pages), from the footer or by one pass over the trace."""
        if self._counted is None:
            if len(self.paths) == 1 and {"records", "unique_pages"} <= set(self.metadata):
                self._counted = int(self.metadata["records"]), int(self.metadata["unique_pages"])
            else:
                rows = sum(batch.page_ids.size for batch in self.batches(only_ids=True))
                self._counted = rows, len(self._ids)
        return self._counted

    @property
    def accesses(self) -> int:
        """Accesses of the whole trace: folded ones count where every file says how many they are."""
        folded = "run_len" in self._columns
        rows = pl.col("run_len").fill_null(1).cast(pl.Int64).sum() if folded else pl.len()
        total = 0
        files = zip(self.paths, self._footers, self._frames, self._rows, strict=True)
        for path, footer, frame, known_rows in files:
            if not folded and known_rows is not None:
                total += known_rows
                continue
            if folded and "accesses" in footer:
                total += int(footer["accesses"])
                continue
            try:
                total += int(frame.select(rows).collect(engine="streaming").item())
            except READ_ERRORS as error:
                raise InputError(f"{path}: cannot be read: {first_line(error)}") from error
        return total

    @property
    def known_unique_pages(self) -> int:
        """Distinct pages as far as known without a pass: the footer's number, or those numbered."""
        return max(int(self.metadata.get("unique_pages", 0)), len(self._ids))

    @property
    def numbered_pages(self) -> int:
        """Distinct pages of the batches handed out so far."""
        return len(self._ids)

    @property
    def reduced_below_bytes(self) -> int:
        """Smallest memory the table can answer for: recorders fold repeats that a cache would hide."""
        return self._reduced_below_bytes

    @property
    def unique_pages(self) -> int:
        """Distinct (address space, page) of the whole trace: its footprint in pages."""
        return self.count()[1]

    def page_keys(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32], list[int | None]]:
        """Return page number of each id numbered so far, number of its space, pid of each space.

        A pid can come more than once: files and targets of DAMON are spaces, too.
        """
        pages, spaces = self._ids.keys()
        return pages, spaces, self._spaces.pids

    def keys_from(
        self, first_id: int
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32], list[int | None]]:
        """Return page_keys() from an id on; of the last batch at no cost."""
        if first_id == len(self._ids):
            return np.empty(0, np.uint64), np.empty(0, np.uint32), self._spaces.pids
        if first_id == self._fresh[0] and len(self._ids) == first_id + self._fresh[1].size:
            return *self._fresh[1:], self._spaces.pids
        pages, spaces, pids = self.page_keys()
        return pages[first_id:], spaces[first_id:], pids

    def pairs_from(
        self, first_id: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
        """Return each pair of pages beside each other that has one whose id is `first_id` or above.

        int64, int64, uint64, shape (pairs,): id of the lower one, id of the upper one, its page number.
        """
        pages, spaces, _ = self.keys_from(first_id)
        own = np.arange(first_id, first_id + pages.size)
        above = self._ids.find(pages + np.uint64(1), spaces)
        below = self._ids.find(pages - np.uint64(1), spaces)
        with_above = (above >= 0) & (pages + np.uint64(1) != 0)
        with_below = (below >= 0) & (below < first_id) & (pages != 0)
        return (
            np.concatenate([own[with_above], below[with_below]]),
            np.concatenate([above[with_above], own[with_below]]),
            np.concatenate([pages[with_above] + np.uint64(1), pages[with_below]]),
        )

    def page_pids(self) -> tuple[npt.NDArray[np.uint32], list[int | None]]:
        """Return the index of each numbered page's pid, and the pids, each of them once."""
        _, spaces, of_space = self.page_keys()
        numbers: dict[int | None, int] = {}
        index = np.array(
            [numbers.setdefault(pid, len(numbers)) for pid in of_space] or [0], np.uint32
        )
        return index[spaces], list(numbers)

    def scan(self) -> pl.LazyFrame:
        """Return all columns of all files, one file after the other, not read yet."""
        kinds = {item for frame in self._frames for item in frame.collect_schema().items()}
        if len(kinds) == len({name for name, _ in kinds}):
            return pl.concat(self._frames, how="diagonal")
        # Tables of several tools: their whole numbers are of other types, which polars will not join.
        wide = [f.with_columns(cs.integer().cast(pl.Int64, strict=False)) for f in self._frames]
        return pl.concat(wide, how="diagonal_relaxed")

    # -- rows ------------------------------------------------------------------------------------

    def batches(
        self, rows: int = BATCH_ROWS, *, only_ids: bool = False, keep_keys: bool = False
    ) -> Iterator[Batch]:
        """Yield the trace in order, about `rows` rows at a time; may be called again and again.

        With `only_ids` the columns behind `is_write` and `time_ns` are not read; with `keep_keys`
        keys_from() tells of a batch's new pages at no cost then, too.
        """
        wanted = ["page" if "page" in self._columns else "vaddr"]
        optional = [*SPACE_COLUMNS, "run_len", *([] if only_ids else ["is_write"])]
        if self.has_time and not only_ids:
            optional.append("time_ns")
        wanted += [name for name in optional if name in self._columns]
        first_row = 0
        clock = _Clock()
        for path, frame, expected in zip(self.paths, self._frames, self._rows, strict=True):
            clock.begin_file()
            for part in _collect_batches(path, frame.select(wanted), rows, expected):
                page_ids = self._number(
                    _page_numbers(path, part),
                    self._space_numbers(path, part),
                    keep_keys=keep_keys or not only_ids,
                )
                time_ns = clock.times(part["time_ns"]) if "time_ns" in part.columns else None
                if clock.begins_anew and path not in self._begun_anew:
                    self._begun_anew.add(path)
                    self.notes.append(
                        f"{path.name}: its clock begins before the file ahead of it ends: its time is "
                        "taken as going on from there"
                    )
                if "is_write" in part.columns:
                    is_write = kernel_array(part["is_write"].fill_null(value=False))
                else:
                    is_write = np.zeros(page_ids.size, np.bool_)
                run_len = None
                if "run_len" in part.columns:
                    run_len = kernel_array(_run_lengths(path, part))
                yield Batch(first_row, page_ids, is_write, time_ns, run_len)
                first_row += page_ids.size
        nobody = "no row says which process it is of: all pages are taken as one address space"
        if "pid" in self._columns and self._spaces.nameless and nobody not in self.notes:
            self.notes.append(nobody)

    def _number(
        self,
        pages: npt.NDArray[np.uint64],
        spaces: npt.NDArray[np.uint32] | None,
        *,
        keep_keys: bool,
    ) -> PageIds:
        known = len(self._ids)
        page_ids = self._ids.number(pages, spaces)
        page_ids.flags.writeable = False
        if keep_keys and len(self._ids) > known:
            # Ids are given in the order of first use: a new one is higher than all before it.
            rows = np.flatnonzero(page_ids >= known)
            highest = np.maximum.accumulate(page_ids[rows])
            rows = rows[np.concatenate([[True], highest[1:] > highest[:-1]])]
            of_row = np.zeros(1, np.uint32) if spaces is None else spaces
            self._fresh = known, pages[rows], np.broadcast_to(of_row, pages.shape)[rows]
        return page_ids

    def page_batches(
        self, rows: int = BATCH_ROWS
    ) -> Iterator[tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32] | None, int]]:
        """Yield page numbers, numbers of their address spaces, and accesses, without page ids.

        For passes whose memory must not grow with the number of distinct pages.
        """
        wanted = ["page" if "page" in self._columns else "vaddr"]
        wanted += [name for name in (*SPACE_COLUMNS, "run_len") if name in self._columns]
        for path, frame, expected in zip(self.paths, self._frames, self._rows, strict=True):
            for part in _collect_batches(path, frame.select(wanted), rows, expected):
                accesses = part.height
                if "run_len" in part.columns:
                    accesses = int(_run_lengths(path, part).cast(pl.UInt64).sum())
                yield _page_numbers(path, part), self._space_numbers(path, part), accesses

    def _space_numbers(self, path: Path, part: pl.DataFrame) -> npt.NDArray[np.uint32] | None:
        present = [name for name in SPACE_COLUMNS if name in part.columns]
        spaces = part.select(present)
        for name in present:
            if name == "pid" and spaces[name].dtype != pl.UInt32:
                spaces = spaces.with_columns(_unsigned(path, spaces[name], pl.UInt32))
            elif spaces[name].dtype.is_signed_integer():
                spaces = spaces.with_columns(_unsigned(path, spaces[name], pl.UInt64))
        numbers = self._spaces.number(spaces)
        # A number alone stands for all rows; the first space needs none.
        return None if numbers.size == 1 and numbers[0] == 0 else numbers


class _Clock:
    """Counts time from the first row of a trace on; it never runs backwards.

    Between CPUs records can be a little out of order. A row without a time takes that of the row before.
    A file that begins before the one ahead of it ends has a clock of its own: time goes on there.
    """

    def __init__(self) -> None:
        self._start_ns: int | None = None  # what the clock shows where `_shift_ns` is the time
        self._shift_ns = 0
        self._last_ns = 0
        self._is_first = True
        self.begins_anew = False

    def begin_file(self) -> None:
        """Expect the rows of another file."""
        self._is_first = True
        self.begins_anew = False

    def times(self, column: pl.Series) -> npt.NDArray[np.int64]:
        """Return the times of the next rows; int64, shape (rows,)."""
        first_at = column.is_not_null().arg_max()
        if first_at is not None and column[first_at] is not None:
            first_ns = int(column[first_at])
            if self._start_ns is None:
                self._start_ns = first_ns
            elif self._is_first and first_ns - self._start_ns + self._shift_ns < self._last_ns:
                self._start_ns, self._shift_ns = first_ns, self._last_ns
                self.begins_anew = True
            self._is_first = False
        wide = column.cast(pl.Int64 if column.dtype.is_signed_integer() else pl.UInt64)
        if wide.null_count():
            wide = wide.fill_null(strategy="forward")
            wide = wide.fill_null((self._start_ns or 0) + self._last_ns - self._shift_ns)
        raw = kernel_array(wide)
        since = (raw - np.array(self._start_ns or 0, raw.dtype)).view(np.int64)
        times = np.maximum.accumulate(since + self._shift_ns)
        np.maximum(times, self._last_ns, out=times)
        self._last_ns = int(times[-1]) if times.size else self._last_ns
        return times


def _page_numbers(path: Path, part: pl.DataFrame) -> npt.NDArray[np.uint64]:
    name = "page" if "page" in part.columns else "vaddr"
    column = part[name]
    if column.null_count():
        raise TraceSchemaError(
            f"{path}: column `{column.name}` has nulls; every row needs its page"
        )
    numbers = _unsigned(path, column, pl.UInt64)
    return kernel_array(numbers if name == "page" else numbers // (1 << PAGE_SHIFT))


def _run_lengths(path: Path, part: pl.DataFrame) -> pl.Series:
    lengths = _unsigned(path, part["run_len"], pl.UInt32).fill_null(1)
    if (lengths == 0).any():
        raise TraceSchemaError(f"{path}: column `run_len` holds 0; a row is one reference or more")
    return lengths


def _unsigned(path: Path, column: pl.Series, dtype: Any) -> pl.Series:
    """Return a column of whole numbers as an unsigned one; what does not fit is an error."""
    found = column.cast(dtype, strict=False)
    if found.null_count() > column.null_count():
        lost = column.filter(found.is_null() & column.is_not_null())[0]
        raise TraceSchemaError(f"{path}: column `{column.name}` holds {lost}, which is no {dtype}")
    return found


def open_trace(*paths: str | Path) -> Trace:
    """Open a trace table for replay.

    Raises
    ------
    InputError
        A file is missing, or is no Parquet, Arrow IPC or CSV file.
    TraceSchemaError
        It has neither `page` nor `vaddr`, or a column of the wrong type.
    """
    if not paths:
        raise InputError("no trace given")
    return Trace([Path(path) for path in paths])


def _read_metadata(path: Path) -> dict[str, str]:
    if _kind(path) != "parquet":
        return {}
    try:
        footer = pl.read_parquet_metadata(polars_path(path, expands=False))
    except READ_ERRORS as error:
        why = first_line(error)
        raise InputError(f"{path}: cannot be read as parquet: {why}") from error
    return {
        key.removeprefix(METADATA_PREFIX): value
        for key, value in footer.items()
        if key.startswith(METADATA_PREFIX)
    }


def _check_footer(path: Path, footer: dict[str, str]) -> None:
    """Refuse a table of another schema, another size of pages, or a coverage nobody knows."""
    version = footer.get("schema", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise TraceSchemaError(
            f"{path}: schema version {version}, this tracereplay reads {SCHEMA_VERSION}; ingest the "
            "capture again"
        )
    coverage = footer.get("coverage", "full")
    if coverage not in COVERAGES:
        raise TraceSchemaError(f"{path}: coverage {coverage!r} is none of {', '.join(COVERAGES)}")
    for name in ("records", "unique_pages", "accesses", "reduced_below_bytes"):
        if not footer.get(name, "0").isdecimal():
            raise TraceSchemaError(f"{path}: {name} is {footer[name]!r} in its footer, no number")
    shift = footer.get("page_shift", str(PAGE_SHIFT))
    if shift != str(PAGE_SHIFT):
        raise TraceSchemaError(f"{path}: page_shift {shift}; the models know pages of 4 KiB (12)")


def _kind(path: Path) -> str:
    check_name(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(4096)
    except OSError as error:
        raise InputError(f"{path}: {strerror(error)}") from error
    if head[:4] == b"PAR1":
        return "parquet"
    if head[:6] == b"ARROW1":
        return "ipc"
    if not head or not _is_text(head):
        raise InputError(
            f"{path}: {'no trace table' if head else 'empty file'}; "
            f"make one with `tracereplay ingest {path} -o trace.parquet`"
        )
    return "csv"


def _is_text(head: bytes) -> bool:
    """Tell whether these first bytes of a file are text: UTF-8 without control characters."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # else a character was cut in two
            return False
        text = head[: error.start].decode()
    return all(character.isprintable() or character in "\t\r\n\ufeff" for character in text)


def _scan(path: Path) -> pl.LazyFrame:
    kind = _kind(path)
    try:
        if kind == "parquet":
            frame = pl.scan_parquet(polars_path(path))
        elif kind == "ipc":
            frame = pl.scan_ipc(polars_path(path))
        else:
            frame = pl.scan_csv(polars_path(path))
        frame.collect_schema()
    except READ_ERRORS as error:
        why = first_line(error)
        raise InputError(f"{path}: cannot be read as {kind}: {why}") from error
    return frame


def _row_count(path: Path, frame: pl.LazyFrame) -> int:
    """Return the rows of a file as its metadata has them."""
    try:
        return int(frame.select(pl.len()).collect().item())
    except READ_ERRORS as error:
        raise InputError(f"{path}: cannot be read: {first_line(error)}") from error


def _check_columns(path: Path, schema: pl.Schema) -> None:
    if "page" not in schema and "vaddr" not in schema:
        raise TraceSchemaError(
            f"{path}: no column `page` or `vaddr` (has {', '.join(list(schema)[:8])}); "
            f"make a trace table with `tracereplay ingest {path} -o trace.parquet`"
        )
    for name in ("page", "vaddr", "pid", "space_id", "time_ns", "run_len"):
        if name in schema and not schema[name].is_integer():
            raise TraceSchemaError(
                f"{path}: column `{name}` is {schema[name]}, whole numbers expected"
            )
    if "space" in schema and schema["space"] not in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        raise TraceSchemaError(f"{path}: column `space` is {schema['space']}, text expected")
    if "is_write" in schema and schema["is_write"] != pl.Boolean:
        raise TraceSchemaError(f"{path}: column `is_write` is {schema['is_write']}, not Boolean")


def _collect_batches(
    path: Path, frame: pl.LazyFrame, rows: int, expected: int | None
) -> Iterator[pl.DataFrame]:
    """Yield the frame of a file in order (`collect_batches` is marked unstable in polars: only used here).

    expected : rows the file says it has; a thread of the engine that fails just ends the batches
    """
    batches: Any = frame.collect_batches(chunk_size=rows, maintain_order=True)
    read = 0
    try:
        for batch in batches:
            read += batch.height
            # The engine may hand out larger pieces than asked for.
            for start in range(0, batch.height, rows):
                yield batch.slice(start, rows)
    except READ_ERRORS as error:
        raise InputError(f"{path}: cannot be read: {first_line(error)}") from error
    if expected is not None and read != expected:
        raise InputError(
            f"{path}: only {read:,} of its {expected:,} rows can be read; is it damaged?"
        )

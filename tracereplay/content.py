"""What pages hold: compressed size per page and codec, measured or drawn from a real distribution.

A drawn page keeps its contents: its row is chosen by a hash of page, pid and seed. Rows are whole,
so that sizes by different codecs belong to the same page.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tracereplay.errors import (
    InputError,
    SettingsError,
    TraceSchemaError,
    unknown_name,
)
from tracereplay.schema import CODECS, codec_column
from tracereplay.tables import read_table
from tracereplay.units import PAGE_BYTES

_FOLDER = Path(__file__).parent / "data" / "content"
DEFAULT_CONTENT = "redis-json"
CONTENTS = {
    "redis-json": "redis-server with JSON values and 700-byte random blobs (3,101 pages)",
    "python-objects": "python3 with 40,000 small objects (7,681 pages)",
    "sqlite-log": "sqlite3 :memory: log table with two indexes (6,885 pages)",
}
_MIX = re.compile(r"(?P<base>.+)\+(?P<percent>[0-9]+(\.[0-9]+)?)%(?P<kind>raw|zero)")
_CONSTANT = re.compile(r"constant:(?P<bytes>[0-9]+)")


@dataclasses.dataclass(frozen=True)
class PageContents:
    """Contents of some pages, in the order asked for.

    compressed_bytes : uint16, 1..4096; 4096 does not shrink
    zero_filled, same_filled : bool; a zero-filled page is same-filled too
    """

    compressed_bytes: npt.NDArray[np.uint16]
    zero_filled: npt.NDArray[np.bool_]
    same_filled: npt.NDArray[np.bool_]


def page_hash(
    pages: npt.NDArray[np.uint64], pids: npt.NDArray[np.uint64], seed: int
) -> npt.NDArray[np.uint64]:
    """Return 64 well-mixed bits for each (page, pid, seed): splitmix64's finalizer, twice."""
    with np.errstate(over="ignore"):
        mixed = pages + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % (1 << 64))
        mixed = _finish(mixed) ^ (pids * np.uint64(0xD6E8FEB86659FD93))
        return _finish(mixed)


def _finish(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


class Content:
    """Contents by page; see `open_content`.

    `notes` grows while pages are asked for: how many were drawn because nobody measured them.
    """

    def __init__(
        self,
        rows: PageContents,
        *,
        seed: int,
        text: str,
        keys: pl.DataFrame | None = None,
        mixed_in: tuple[float, str] | None = None,
    ) -> None:
        self._rows = rows
        self._seed = seed
        self._text = text
        self._keys = keys
        self._mixed_in = mixed_in
        self._drawn_pages = 0
        self._asked_pages = 0

    def describe(self) -> str:
        """Return one line that names the contents."""
        return self._text

    def rows(self, count: int = 4096) -> PageContents:
        """Return contents to draw from, each as likely as any other; the same for every codec.

        What is mixed in is among them in its share.
        """
        if self._mixed_in is None:
            return self._rows
        # Made-up pages: their own draws have the shares.
        return Content(
            self._rows, seed=self._seed, text=self._text, mixed_in=self._mixed_in
        ).for_pages(np.arange(count, dtype=np.uint64))

    @property
    def notes(self) -> list[str]:
        """What was assumed, in plain sentences."""
        if self._keys is not None and self._drawn_pages:
            return [
                (
                    f"{self._drawn_pages:,} of {self._asked_pages:,} pages are not in the page table: "
                    "their contents are drawn from the pages that are"
                )
            ]
        return []

    def for_pages(
        self,
        pages: npt.NDArray[np.uint64],
        pid_index: npt.NDArray[np.uint32] | None = None,
        pids: list[int | None] | None = None,
    ) -> PageContents:
        """Return the contents of pages.

        Parameters
        ----------
        pages : uint64, shape (pages,), virtual page numbers
        pid_index : uint32, shape (pages,), index into `pids`; None for one address space
        """
        known: list[int | None] = pids or [None]
        numbers = np.array([0 if pid is None else pid for pid in known], np.uint64)
        own = np.zeros(pages.size, np.uint64) if pid_index is None else numbers[pid_index]
        bits = page_hash(pages, own, self._seed)
        # The high 32 bits choose the row, the low ones what is mixed in.
        count = np.uint64(self._rows.compressed_bytes.size)
        row = (((bits >> np.uint64(32)) * count) >> np.uint64(32)).astype(np.int64)
        self._asked_pages += pages.size
        if self._keys is not None:
            found = self._find(pages, own)
            missing = found < 0
            self._drawn_pages += int(missing.sum())
            row = np.where(missing, row, found)
        contents = PageContents(
            self._rows.compressed_bytes[row],
            self._rows.zero_filled[row],
            self._rows.same_filled[row],
        )
        if self._mixed_in is not None:
            share, kind = self._mixed_in
            chosen = (bits & np.uint64(0xFFFFFFFF)) < np.uint64(round(share * (1 << 32)))
            contents.compressed_bytes[chosen] = PAGE_BYTES if kind == "raw" else 1
            contents.zero_filled[chosen] = kind == "zero"
            contents.same_filled[chosen] = kind == "zero"
        return contents

    def _find(
        self, pages: npt.NDArray[np.uint64], pids: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.int64]:
        """Return the row of each page in the measured table, -1 where it has none."""
        assert self._keys is not None
        asked = pl.DataFrame({"page": pages, "pid": pids})
        on = ["page", "pid"] if "pid" in self._keys.columns else ["page"]
        joined = asked.join(self._keys, on=on, how="left", maintain_order="left")
        return joined["row"].fill_null(-1).to_numpy()


def open_content(
    pages: str | Path | None = None,
    name: str | None = None,
    codec: str = "lzo",
    seed: int = 0,
) -> Content:
    """Open the contents of pages.

    Parameters
    ----------
    pages : page table written by `tracereplay pages` (schema PAGES), or None
    name : a bundled distribution, `constant:SIZE`, or `NAME+30%raw` / `NAME+10%zero`

    Raises
    ------
    InputError, TraceSchemaError
        The page table cannot be read, or has no `page` column.
    SettingsError
        Unknown name, or nobody measured this codec.
    """
    if codec not in CODECS:
        raise unknown_name("codec", codec, list(CODECS))
    if pages is not None and name is not None:
        raise SettingsError("give either a page table or the name of a content, not both")
    if pages is not None:
        frame = _read_pages(pages)
        rows = _contents(frame, codec, str(pages))
        keys = frame.select("page").with_row_index("row")
        keys = keys.with_columns(pl.col("row").cast(pl.Int64), pl.col("page").cast(pl.UInt64))
        if "pid" in frame.columns and frame["pid"].null_count() == 0:
            keys = keys.with_columns(frame["pid"].cast(pl.UInt64))
        keys = keys.unique([c for c in keys.columns if c != "row"], keep="first")
        text = f"measured, {Path(pages).name} ({frame.height:,} pages), {codec}"
        return Content(rows, seed=seed, text=text, keys=keys)
    name = name or DEFAULT_CONTENT
    mixed_in = None
    base = name
    if match := _MIX.fullmatch(name):
        share = float(match["percent"]) / 100
        if share > 1:
            raise SettingsError(f"content {name!r}: a share above 100 %")
        base, mixed_in = match["base"], (share, match["kind"])
    if match := _CONSTANT.fullmatch(base):
        size = int(match["bytes"])
        if not 1 <= size <= PAGE_BYTES:
            raise SettingsError(f"content {name!r}: 1 to {PAGE_BYTES} bytes")
        rows = PageContents(
            np.array([size], np.uint16), np.zeros(1, np.bool_), np.zeros(1, np.bool_)
        )
    else:
        if base not in CONTENTS:
            raise unknown_name("content", base, [*CONTENTS, "constant:SIZE", "NAME+30%raw"])
        rows = _contents(pl.read_parquet(_FOLDER / f"{base}.parquet"), codec, base)
    text = f"drawn from {name} by page hash, seed {seed}, {codec}"
    return Content(rows, seed=seed, text=text, mixed_in=mixed_in)


def _read_pages(path: str | Path) -> pl.DataFrame:
    frame = read_table(
        path,
        ["page"],
        what="a page table",
        remedy="make a page table with `tracereplay pages`",
    )
    if frame.height == 0:
        raise InputError(f"{path}: the page table has no rows")
    return frame


def _contents(frame: pl.DataFrame, codec: str, where: str) -> PageContents:
    column = codec_column(codec)
    if codec == "lzo-rle" and column not in frame.columns and "lzo_bytes" in frame.columns:
        column = "lzo_bytes"
    if column not in frame.columns:
        measured = [
            name.removesuffix("_bytes").replace("_", "-")
            for name in frame.columns
            if name.endswith("_bytes")
        ]
        more = f": --codec {measured[0]}" if measured else ""
        if codec.startswith("lzo"):
            more += "; python-lzo (the extra `lzo`) lets `tracereplay pages` measure it"
        raise SettingsError(
            f"{where} has no sizes by {codec}; it has {', '.join(measured) or 'none'}{more}"
        )
    size = frame[column]
    if size.null_count():
        raise TraceSchemaError(f"{where}: column `{column}` has nulls")
    for name in (column, "page", "pid"):
        if name in frame.columns and not frame[name].dtype.is_integer():
            raise TraceSchemaError(
                f"{where}: column `{name}` is {frame[name].dtype}, whole numbers expected"
            )
        if name in frame.columns and (frame[name] < 0).any():
            lost = frame[name].filter(frame[name] < 0)[0]
            raise TraceSchemaError(f"{where}: column `{name}` holds {lost}, which is below 0")
    for name in ("zero_filled", "same_filled"):
        if name in frame.columns and frame[name].dtype != pl.Boolean:
            raise TraceSchemaError(f"{where}: column `{name}` is {frame[name].dtype}, not Boolean")
    false = np.zeros(frame.height, np.bool_)

    def flag(name: str) -> npt.NDArray[Any]:
        return frame[name].fill_null(value=False).to_numpy() if name in frame.columns else false

    zero = flag("zero_filled").astype(np.bool_)
    return PageContents(
        np.clip(size.to_numpy(), 1, PAGE_BYTES).astype(np.uint16),
        zero,
        zero | flag("same_filled").astype(np.bool_),
    )

"""The trace of a run as it is touched, and pages whose compressed size is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from tracereplay.errors import InputError
from tracereplay.host import touching
from tracereplay.host.pages import COMPRESSORS, choose_columns
from tracereplay.tables import read_table
from tracereplay.trace import Trace
from tracereplay.units import PAGE_BYTES

LINES = PAGE_BYTES // touching.LINE_BYTES
# A page of k random lines by LZO 2.10's lzo1x-1, for where python-lzo is not installed.
LZO_BYTES = (
    44, 109, 173, 246, 308, 381, 437, 509, 573, 645, 701, 773, 846, 926, 982, 1036, 1101, 1173,
    1245, 1324, 1365, 1454, 1493, 1588, 1637, 1742, 1789, 1845, 1901, 1965, 2021, 2149, 2213, 2285,
    2357, 2357, 2429, 2501, 2580, 2661, 2741, 2828, 2828, 2917, 3005, 3101, 3101, 3198, 3293, 3293,
    3397, 3501, 3501, 3613, 3613, 3726, 3836, 3836, 3957, 3957, 4077, 4077, 4096, 4096, 4096,
)  # fmt: skip
# The same by the kernel's lzo-rle, which no library has: `compr_data_size` of a zram device, Linux
# 6.18. zram keeps what is larger than 3632 bytes as it is; above, lzo's size less the 115 bytes that
# runs of zeros save: such a page takes a whole one in the pool by either.
LZO_RLE_BYTES = (
    41, 101, 166, 231, 298, 366, 423, 490, 552, 623, 681, 745, 815, 893, 948, 1007, 1070, 1138,
    1209, 1284, 1323, 1407, 1450, 1541, 1588, 1688, 1740, 1794, 1850, 1907, 1966, 2085, 2150, 2216,
    2284, 2284, 2356, 2429, 2504, 2581, 2662, 2744, 2744, 2829, 2918, 3008, 3008, 3101, 3198, 3198,
    3297, 3400, 3400, 3505, 3505, 3614, 3721, 3721, 3842, 3842, 3962, 3962, 4096, 4096, 4096,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Workload:
    """A trace as it is touched.

    touches : uint32, shape (touches,): page, bit 31 set for a write
    lines : uint8, shape (pages,): 64-byte lines of random bytes, or touching.ALL_ZERO, NO_LINES
    """

    touches: npt.NDArray[np.uint32]
    lines: npt.NDArray[np.uint8]


def load_touches(
    trace: Trace,
) -> tuple[
    npt.NDArray[np.uint32], npt.NDArray[np.uint64], npt.NDArray[np.uint32], list[int | None]
]:
    """Return the touches of a trace, and which pages they number.

    Pages are numbered from 0 in the order of process and address, so that neighbours stay
    neighbours; gaps between mappings go.

    Returns
    -------
    touches; page, index of the process, and processes of each number

    Raises
    ------
    InputError
        The trace has no accesses.
    """
    parts = [
        batch.page_ids | (batch.is_write.astype(np.uint32) << np.uint32(31))
        for batch in trace.batches()
    ]
    if not parts or not sum(part.size for part in parts):
        raise InputError(f"{trace.name}: no accesses")
    raw = np.concatenate(parts)
    pages, owner, pids = trace.page_keys()
    order = np.lexsort((pages, owner))
    number = np.empty(order.size, np.uint32)
    number[order] = np.arange(order.size, dtype=np.uint32)
    touches = number[raw & np.uint32(0x7FFFFFFF)] | raw & touching.WRITE
    return touches, pages[order], owner[order], pids


def line_sizes() -> dict[str, npt.NDArray[np.uint16]]:
    """Return by codec the compressed size of a page with 0 … 64 random lines."""
    texts = np.zeros((LINES + 1, PAGE_BYTES), np.uint8)
    touching.fill_pages(texts, np.arange(LINES + 1, dtype=np.uint8))
    sizes = {
        "lzo_bytes": np.array(LZO_BYTES, np.uint16),
        "lzo_rle_bytes": np.array(LZO_RLE_BYTES, np.uint16),
    }
    for column in choose_columns()[0]:
        compress = COMPRESSORS[column]()
        packed = [min(len(compress(text.tobytes())), PAGE_BYTES) for text in texts]
        sizes[column] = np.array(packed, np.uint16)
    return sizes


def lines_for(
    wanted_bytes: npt.NDArray[np.uint16],
    zero_filled: npt.NDArray[np.bool_],
    sizes: npt.NDArray[np.uint16],
) -> npt.NDArray[np.uint8]:
    """Return the random lines whose compressed size comes nearest to the one wanted."""
    ascending = np.maximum.accumulate(sizes[1:].astype(np.int64))
    above = np.searchsorted(ascending, wanted_bytes).clip(0, LINES - 1)
    below = (above - 1).clip(0)
    nearer = wanted_bytes - ascending[below] < ascending[above] - wanted_bytes
    lines = np.where(nearer, below, above).astype(np.uint8) + np.uint8(1)
    lines[wanted_bytes >= PAGE_BYTES] = LINES
    lines[zero_filled] = touching.ALL_ZERO
    return lines


def recorded_lines(path: Path, pages: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8] | None:
    """Return the lines of pages from the page table of a recorded run; None where it is no such table.

    Raises
    ------
    InputError
        The table cannot be read, or lacks a page of the trace.
    """
    table = read_table(path, what="a page table", remedy="name that of the run")
    if not {"page", "random_lines"} <= set(table.columns):
        return None
    zero = pl.col("zero_filled") if "zero_filled" in table.columns else pl.lit(value=False)
    lines = (
        pl.when(zero)
        .then(touching.ALL_ZERO)
        .when(pl.col("random_lines") == 0)
        .then(touching.NO_LINES)
        .otherwise("random_lines")
        .cast(pl.UInt8)
    )
    table = table.select(pl.col("page").cast(pl.UInt64), lines=lines).unique("page")
    found = pl.DataFrame({"page": pages}).join(table, on="page", how="left", maintain_order="left")
    missing = found["lines"].null_count()
    if missing:
        raise InputError(f"{path}: {missing:,} pages of the trace are missing")
    return found["lines"].to_numpy()

"""Misses of an exact LRU at every memory size, from one pass over a trace."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from tracereplay.distances import Counts, StackDistances
from tracereplay.errors import SettingsError
from tracereplay.lru_grid import REFUSED, ZERO_FILLED, LruGrid
from tracereplay.sampling import DEFAULT_PAGES as DEFAULT_SAMPLE_PAGES
from tracereplay.sampling import LEAST_DISTANCE, SampledDistances
from tracereplay.schema import (
    ACCESSES,
    CURVE,
    POOL_CURVE,
    REUSE_DISTANCES,
    SAMPLED_CURVE,
    empty_frame,
    polars_schema,
)
from tracereplay.trace import Batch, Trace, open_trace
from tracereplay.units import PAGE_BYTES, format_size

_PID = next(column for column in ACCESSES if column.name == "pid")

Progress = Callable[[int], None]

# Up to here it is faster to keep the sizes side by side than to measure distances; more of them
# where all are large: of a small one any access may find its page among those about to leave.
_FEW_SIZES = 3
_FEW_LARGE_SIZES = 32
_LARGE_PAGES = 1 << 14


class PageContents(Protocol):
    """What `pool_curve` needs to know of pages; content.PageContents is one."""

    @property
    def compressed_bytes(self) -> npt.NDArray[np.uint16]:
        """Bytes by the codec; 4096 does not shrink; shape (pages,)."""

    @property
    def zero_filled(self) -> npt.NDArray[np.bool_]:
        """Whether all bytes are zero; shape (pages,)."""


class Contents(Protocol):
    """Contents by page; content.Content is one."""

    def for_pages(
        self,
        pages: npt.NDArray[np.uint64],
        pid_index: npt.NDArray[np.uint32] | None = None,
        pids: list[int | None] | None = None,
    ) -> PageContents:
        """Return the contents of pages, in the order asked for."""


@dataclasses.dataclass(frozen=True)
class MissCounts:
    """What one pass found for one address space, or for all of a trace.

    misses : int64, shape (pages + 1,): misses at 0, 1, 2, … pages of memory, first touches included
    accesses : run lengths counted; folded repeats hit at every size the trace can answer for
    """

    misses: Counts
    accesses: int

    @property
    def pages(self) -> int:
        """Distinct pages, which is also the number of first touches."""
        return self.misses.size - 1

    def at(self, capacities_pages: Counts) -> Counts:
        """Return the misses at these capacities; int64, same shape."""
        found: Counts = self.misses[np.minimum(capacities_pages, self.pages)]
        return found


def curve(
    trace: str | Path | Trace,
    sizes: Sequence[int] | None = None,
    *,
    by_pid: bool = False,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Return exact LRU misses at every memory size, or at the sizes asked for.

    Parameters
    ----------
    trace : path of a trace table, or an open one
    sizes : memory sizes in bytes, answered in the order given; None for every whole number of pages
        up to the footprint
    by_pid : one curve per process, each with memory of its own, with a first column `pid`
    progress : called with the rows done so far

    Returns
    -------
    frame of `schema.CURVE`: memory_bytes, misses, cold_misses, miss_ratio

    Raises
    ------
    SettingsError
        A size is below one page, or below what a reduced trace can answer for.
    """
    opened = trace if isinstance(trace, Trace) else open_trace(trace)
    least_bytes = _least_bytes(opened)
    if sizes is not None:
        check_sizes(sizes, least_bytes, opened.name)
    if sizes and not by_pid and are_few(min(sizes) // PAGE_BYTES, len(sizes)):
        return _few_sizes(opened, sizes, progress)
    counted = count_misses(opened, by_pid=by_pid, progress=progress)
    frames = []
    for pid, found in counted.items():
        frame = _frame(found, sizes, least_bytes)
        if by_pid:
            frame = frame.select(pl.lit(pid, pl.UInt32).alias("pid"), pl.all())
        frames.append(frame)
    if not frames:
        frames.append(empty_frame((_PID, *CURVE) if by_pid else CURVE))
    return pl.concat(frames)


def reuse_distances(
    trace: str | Path | Trace, *, by_pid: bool = False, progress: Progress | None = None
) -> pl.DataFrame:
    """Return how many accesses reused a page after so many other pages.

    Folded repeats are reuses at distance 0. A reduced trace starts at the distance from which on it
    has all reuses. First touches have no distance and are not in it.

    Returns
    -------
    frame of `schema.REUSE_DISTANCES`, one row per distance that occurs; with `by_pid` a first column
    `pid`, distances among pages of the same process
    """
    opened = trace if isinstance(trace, Trace) else open_trace(trace)
    least_pages = -(-opened.reduced_below_bytes // PAGE_BYTES)
    frames = [empty_frame((_PID, *REUSE_DISTANCES) if by_pid else REUSE_DISTANCES)]
    for pid, found in count_misses(opened, by_pid=by_pid, progress=progress).items():
        hits = found.misses[:-1] - found.misses[1:]
        if hits.size:
            hits[0] += found.accesses - found.misses[0]
        distances = np.arange(hits.size)
        kept = (hits > 0) & (distances >= least_pages)
        columns = {"distance_pages": distances[kept], "hits": hits[kept]}
        frame = pl.DataFrame(columns, schema=polars_schema(REUSE_DISTANCES))
        if by_pid:
            frame = frame.select(pl.lit(pid, pl.UInt32).alias("pid"), pl.all())
        frames.append(frame)
    return pl.concat(frames)


def count_misses(
    trace: Trace, *, by_pid: bool = False, progress: Progress | None = None
) -> dict[int | None, MissCounts]:
    """Return the misses per pid in order of appearance, or under None for all pids together."""
    if by_pid:
        return _count_by_pid(trace, progress)
    distances = StackDistances(trace.known_unique_pages)
    accesses = 0
    for batch in trace.batches(only_ids=True):
        distances.add(batch.page_ids)
        accesses += _accesses(batch)
        if progress:
            progress(batch.first_row + batch.page_ids.size)
    return {None: MissCounts(distances.misses(), accesses)}


def _count_by_pid(trace: Trace, progress: Progress | None) -> dict[int | None, MissCounts]:
    apart: list[StackDistances] = []
    accesses: list[int] = []
    local_ids = np.empty(0, np.uint32)  # of each page id: its number within its own space
    pages_in_space = np.empty(0, np.int64)
    space_of: npt.NDArray[np.uint32] = np.empty(0, np.uint32)
    numbers: dict[int | None, int] = {}
    of_space: list[int] = []
    known = 0
    for batch in trace.batches(only_ids=True, keep_keys=True):
        _, fresh_spaces, space_pids = trace.keys_from(known)
        of_space += [numbers.setdefault(p, len(numbers)) for p in space_pids[len(of_space) :]]
        fresh = np.array(of_space, np.uint32)[fresh_spaces]
        pids = list(numbers)
        if known + fresh.size > space_of.size:
            for array in (space_of, local_ids):
                array.resize(max(2 * array.size, known + fresh.size), refcheck=False)
        space_of[known : known + fresh.size] = fresh
        while len(apart) < len(pids):
            apart.append(StackDistances())
            accesses.append(0)
        pages_in_space = np.concatenate(
            [pages_in_space, np.zeros(len(pids) - pages_in_space.size, np.int64)]
        )
        by_space = np.argsort(fresh, kind="stable")
        counts = np.bincount(fresh, minlength=len(pids))
        starts = np.cumsum(counts) - counts
        ranks = np.empty(fresh.size, np.int64)
        ranks[by_space] = np.arange(fresh.size) - starts[fresh[by_space]]
        local_ids[known : known + fresh.size] = ranks + pages_in_space[fresh]
        pages_in_space += counts
        known += fresh.size
        spaces = space_of[batch.page_ids]
        ordered = np.argsort(spaces, kind="stable")
        bounds = np.searchsorted(spaces[ordered], np.arange(len(pids) + 1))
        for space in np.flatnonzero(np.diff(bounds)).tolist():
            rows = ordered[bounds[space] : bounds[space + 1]]
            apart[space].add(local_ids[batch.page_ids[rows]])
            accesses[space] += (
                rows.size if batch.run_len is None else int(batch.run_len[rows].sum())
            )
        if progress:
            progress(batch.first_row + batch.page_ids.size)
    return {
        pid: MissCounts(distances.misses(), total)
        for pid, distances, total in zip(numbers, apart, accesses, strict=True)
    }


def sampled_curve(
    trace: str | Path | Trace,
    sizes: Sequence[int] | None = None,
    *,
    rate: float = 0.01,
    pages: int = DEFAULT_SAMPLE_PAGES,
    seed: int = 0,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Return LRU misses estimated from a sample of the pages, with an error bar.

    Parameters
    ----------
    sizes : memory sizes in bytes; None for 200 from the smallest the sample can answer for
    rate : share of the pages to come down to, as long as more than `pages` are in the sample
    pages : keep about this many pages at least; with rate 0, at most: memory is bounded
    seed : chooses the sample

    Returns
    -------
    frame of `schema.SAMPLED_CURVE`; at each size by itself the true misses lie between misses_low
    and misses_high for 95 % of the seeds or more. Exact where every page is in the sample.

    Raises
    ------
    SettingsError
        A size is too small for the sample, or below what a reduced trace can answer for.
    """
    opened = trace if isinstance(trace, Trace) else open_trace(trace)
    least_bytes = _least_bytes(opened)
    unique_pages = int(opened.metadata.get("unique_pages", 0)) or None
    if len(opened.paths) > 1:
        unique_pages = None
    sample = SampledDistances(rate, pages, seed, unique_pages or 0)
    accesses = 0
    for page_numbers, spaces, in_batch in opened.page_batches():
        sample.add(page_numbers, spaces)
        accesses += in_batch
        if progress:
            progress(sample.accesses)
    if sample.rate == 1:
        unique_pages = sample.sampled_pages
    whole = unique_pages or min(round(sample.sampled_pages / sample.rate), accesses)
    largest = max(whole, 1)
    if sample.rate < 1:
        least_bytes = max(least_bytes, math.ceil(LEAST_DISTANCE / sample.rate) * PAGE_BYTES)
    if sizes is None:
        least = min(-(-least_bytes // PAGE_BYTES), largest)
        capacities = np.unique(np.geomspace(least, largest, 200).round().astype(np.int64))
        memory_bytes = capacities * PAGE_BYTES
    else:
        check_sizes(sizes, least_bytes, f"{opened.name}, sampled at {sample.rate:.3g},")
        memory_bytes = np.array(sizes, np.int64)
        capacities = memory_bytes // PAGE_BYTES
    found = sample.estimate(capacities, unique_pages)
    misses = np.maximum(found.misses.round().astype(np.int64), whole)  # first touches are misses
    frame = _curve_frame(memory_bytes, misses, whole, accesses)
    frame = frame.with_columns(
        misses_low=pl.Series(np.floor(found.low).astype(np.int64)),
        misses_high=pl.Series(np.maximum(np.ceil(found.high).astype(np.int64), misses)),
    )
    return frame.select(column.name for column in SAMPLED_CURVE)


def are_few(smallest_pages: int, sizes: int) -> bool:
    """Tell whether so many sizes are faster to keep side by side than to read off a curve."""
    return sizes <= (_FEW_LARGE_SIZES if smallest_pages >= _LARGE_PAGES else _FEW_SIZES)


def _few_sizes(trace: Trace, sizes: Sequence[int], progress: Progress | None) -> pl.DataFrame:
    capacities, of_size = np.unique(np.array(sizes, np.int64) // PAGE_BYTES, return_inverse=True)
    grid = LruGrid(capacities, expected_pages=trace.known_unique_pages)
    accesses = 0
    for batch in trace.batches(only_ids=True):
        grid.add(batch.page_ids)
        accesses += _accesses(batch)
        if progress:
            progress(batch.first_row + batch.page_ids.size)
    return _curve_frame(
        np.array(sizes, np.int64), grid.misses()[of_size], trace.numbered_pages, accesses
    )


def pool_curve(
    trace: str | Path | Trace,
    sizes: Sequence[int],
    pool_limits: Sequence[int],
    contents: Contents,
    *,
    policy: str = "store-raw",
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Return what every pair of memory size and pool limit answers, without a replay of each.

    The model is the textbook's, and exact for it: exact LRU, one page leaves per fault; it goes to
    the pool, whose bytes are charged nowhere else; a page leaves the pool when it comes back; a
    pool over its limit writes back its oldest pages until it fits. Pools that refuse newcomers
    while they are full, hysteresis, allocators, a pool charged to the memory's own limit and pages
    kept in memory need a replay each: `compare`.

    Where every page takes the same number of bytes, a reuse is a load from the pool when its stack
    distance lies between the memory's pages and memory plus pool, so that all settings come from
    one histogram. Where sizes differ that is wrong, by as much as the lightness of what is in
    memory now and was not when the page fell out; then all pools are kept side by side in one pass.

    Parameters
    ----------
    sizes, pool_limits : bytes; every pair is answered, in this order
    contents : what pages hold, see content.open_content
    policy : what becomes of a page that does not shrink: `store-raw` or `swap-on-reject`

    Returns
    -------
    frame of `schema.POOL_CURVE`

    Raises
    ------
    SettingsError
        A policy whose pools are not exact this way, or a size the trace cannot answer for.
    """
    if policy not in ("store-raw", "swap-on-reject"):
        raise SettingsError(
            f"a curve over pools is exact for store-raw and swap-on-reject, not for {policy}: "
            "replay each setting with `tracereplay compare`"
        )
    opened = trace if isinstance(trace, Trace) else open_trace(trace)
    least_bytes = _least_bytes(opened)
    check_sizes(sizes, least_bytes, opened.name)
    if not sizes or not pool_limits or min(pool_limits) < 0:
        raise SettingsError("a curve over pools needs memory sizes and pool limits")
    for _ in opened.batches(only_ids=True):
        pass  # numbers every page
    pages, pid_index, pids = opened.page_keys()
    stored = _stored_bytes(contents.for_pages(pages, pid_index, pids), policy)
    capacities, of_size = np.unique(np.array(sizes, np.int64) // PAGE_BYTES, return_inverse=True)
    limits = np.array(pool_limits, np.int64)
    counted = (_pools_by_distance if stored.size and _all_alike(stored) else _pools_side_by_side)(
        opened, capacities, limits, stored, progress
    )
    misses, loads, zero_fills, written_back = (part[of_size] for part in counted)
    shape = (len(sizes), len(pool_limits))
    cold = np.full(shape, pages.size)
    misses = np.broadcast_to(misses[:, None], shape)
    zero_fills = np.broadcast_to(zero_fills[:, None], shape)
    columns = (
        np.repeat(np.array(sizes, np.int64), limits.size),
        np.tile(limits, len(sizes)),
        misses,
        cold,
        loads,
        zero_fills,
        misses - cold - loads - zero_fills,
        written_back,
    )
    names = polars_schema(POOL_CURVE)
    return pl.DataFrame(
        {name: column.ravel() for name, column in zip(names, columns, strict=True)}, schema=names
    )


def _stored_bytes(contents: PageContents, policy: str) -> npt.NDArray[np.uint16]:
    """Return what each page takes in a pool; see lru_grid.LruGrid."""
    stored = contents.compressed_bytes.astype(np.uint16)
    if policy == "swap-on-reject":
        stored[stored >= PAGE_BYTES] = REFUSED
    stored[contents.zero_filled] = ZERO_FILLED
    return stored


def _all_alike(stored: npt.NDArray[np.uint16]) -> bool:
    """Tell whether every page takes the same bytes of a pool, so that bytes are pages."""
    return stored[0] not in (REFUSED, ZERO_FILLED) and bool((stored == stored[0]).all())


def _pools_by_distance(
    trace: Trace,
    capacities: Counts,
    limits: Counts,
    stored: npt.NDArray[np.uint16],
    progress: Progress | None,
) -> tuple[Counts, Counts, Counts, Counts]:
    found = count_misses(trace, progress=progress)[None]
    pool_pages = limits // int(stored[0])
    misses = found.at(capacities)
    beyond = found.at(capacities[:, None] + np.minimum(pool_pages, found.pages))
    # What entered the pool, less what left it for memory, less what is in it at the end.
    in_memory = np.minimum(capacities, found.pages)
    entered = (misses - in_memory)[:, None]
    left_in_pool = np.minimum(pool_pages, (found.pages - in_memory)[:, None])
    loads = misses[:, None] - beyond
    return misses, loads, np.zeros_like(misses), entered - loads - left_in_pool


def _pools_side_by_side(
    trace: Trace,
    capacities: Counts,
    limits: Counts,
    stored: npt.NDArray[np.uint16],
    progress: Progress | None,
) -> tuple[Counts, Counts, Counts, Counts]:
    grid = LruGrid(capacities, limits, stored, expected_pages=stored.size)
    for batch in trace.batches(only_ids=True):
        grid.add(batch.page_ids)
        if progress:
            progress(batch.first_row + batch.page_ids.size)
    return grid.misses(), grid.loads(), grid.zero_fills(), grid.written_back()


def _accesses(batch: Batch) -> int:
    return batch.page_ids.size if batch.run_len is None else int(batch.run_len.sum(dtype=np.int64))


def _least_bytes(trace: Trace) -> int:
    """Return the smallest memory the trace can answer for."""
    return max(PAGE_BYTES, trace.reduced_below_bytes)


def check_sizes(sizes: Sequence[int], least_bytes: int, name: str) -> None:
    """Raise SettingsError where a size is below the smallest the trace can answer for."""
    for size_bytes in sizes:
        if size_bytes >= 1 << 63:
            raise SettingsError(f"{size_bytes:,} bytes of memory is too large a size")
        if size_bytes < least_bytes:
            asked, least = format_size(size_bytes), format_size(least_bytes)
            if asked == least:
                asked, least = f"{size_bytes:,} bytes", f"{least_bytes:,} bytes"
            raise SettingsError(
                f"{name} cannot answer for {asked} of memory, only from {least} on; "
                "ask for larger sizes"
            )


def _frame(found: MissCounts, sizes: Sequence[int] | None, least_bytes: int) -> pl.DataFrame:
    if sizes is None:
        first = -(-least_bytes // PAGE_BYTES)
        capacities = np.arange(min(first, max(found.pages, 1)), max(found.pages, 1) + 1)
        memory_bytes = capacities * PAGE_BYTES
    else:
        memory_bytes = np.array(sizes, np.int64)
        capacities = memory_bytes // PAGE_BYTES
    return _curve_frame(memory_bytes, found.at(capacities), found.pages, found.accesses)


def _curve_frame(memory_bytes: Counts, misses: Counts, pages: int, accesses: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "memory_bytes": memory_bytes,
            "misses": misses,
            "cold_misses": np.full(misses.size, pages, np.int64),
            "miss_ratio": misses / max(accesses, 1),
        },
        schema=polars_schema(CURVE),
    )


def knees_of(curve_frame: pl.DataFrame) -> list[int]:
    """Return the rows of one curve, rising in size, where it bends most; see knees()."""
    misses = curve_frame["misses"].to_numpy()
    return knees(misses, curve_frame["memory_bytes"].to_numpy())


def knees(
    misses: Counts, sizes: Counts | None = None, *, most: int = 5, least_share: float = 0.02
) -> list[int]:
    """Return the indices where a falling curve bends most: little is won by going further.

    Parameters
    ----------
    misses : int64, shape (points,), falling
    sizes : int64, shape (points,), rising; None where they are evenly spaced
    most : how many to return at most
    least_share : a knee lies at least this share of the whole fall below its chord

    The point farthest below the chord of a stretch is a knee; it splits the stretch in two (the
    order of Ramer-Douglas-Peucker, one-sided). Returned in order of size.
    """
    if misses.size < 3 or misses[0] == misses[-1]:
        return []
    places = np.arange(misses.size) if sizes is None else sizes
    fall = float(misses[0] - misses[-1])
    found: list[int] = []
    stretches = [(0, misses.size - 1)]
    while len(found) < most:
        best = (least_share * fall, -1, -1)
        for number, (low, high) in enumerate(stretches):
            part = misses[low : high + 1].astype(np.float64)
            ends = [places[low], places[high]]
            depth = np.interp(places[low : high + 1], ends, [part[0], part[-1]]) - part
            deepest = int(depth.argmax())
            if depth[deepest] > best[0]:
                best = (float(depth[deepest]), number, low + deepest)
        if best[1] < 0:
            break
        low, high = stretches.pop(best[1])
        found.append(best[2])
        stretches += [(low, best[2]), (best[2], high)]
    return sorted(found)

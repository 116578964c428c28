"""Events to nanoseconds: what each touch that was not free cost, as a histogram per service.

A touch costs its fault, the reclaim it had to do itself, and what answered it: a decompression, a
copy, a zero fill, or a device read queued behind whatever is in flight. Costs are drawn from
distributions by a hash of seed and row of the trace, so that neither batches nor the order of
scenarios change a figure.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tracereplay._jit import inner, kernel
from tracereplay.costs import CODEC_FIGURES, FAULT_FIGURES, MEMORY_FIGURES, MOST_MISSES, Costs
from tracereplay.replay.state import (
    BACKGROUND,
    DEVICE,
    MINOR,
    SWAP_CACHE,
    ZERO,
    ZSWAP,
    ZSWAP_RAW,
)
from tracereplay.schema import LATENCY, SERVICES, polars_schema
from tracereplay.units import PAGE_BYTES

# Everything but `minor`: pages that had been in memory before and were brought or mapped back.
SWAP_IN_SERVICES = SERVICES[1:]
_PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}

_DRAW_BITS = 12
_POINTS = 1 << _DRAW_BITS
_MASK = _POINTS - 1
# Rows of the table of draws; each takes its own bits of the hash.
_FAULT, _RECLAIM, _DECOMPRESS, _READ, _WRITE, _MINOR = range(6)
_WRITE_STEP = 1657  # odd, so that the writes of one event walk through the whole table
_MEMORY_STEPS = 8  # per doubling of the memory in use
# Of the answers of memory a load waits for, those about what neighbours share (costs.MOST_MISSES).
BESIDE_SHARE = 3 / MOST_MISSES
# And those that a page in the swap cache waits for as well: all but zswap's entry and object.
IN_MEMORY_SHARE = 4 / MOST_MISSES
_IN_FLIGHT = 1024  # writes whose completion a reclaim may wait for

_COST = np.dtype(
    [
        (name, np.float64)
        for name in (
            *FAULT_FIGURES,
            *MEMORY_FIGURES,
            *CODEC_FIGURES,
            "read_ahead_load_ns",
            "submit_ns",
            "request_ns",
            "behind_ns",
            "extra_page_ns",
            "load_extra_ns",
            "store_extra_ns",
        )
    ],
    align=True,
)
_QUEUE = np.dtype(
    [
        ("stall_total_ns", np.int64),
        ("idle_from_ns", np.int64),  # when the touch before was done
        ("overlap", np.int64),
        ("write_head", np.int64),  # ring of completion times of writes
        ("write_count", np.int64),
        ("warm_share", np.float64),  # of the free pages: those that a compressor has just read
    ],
    align=True,
)


def _bucket_edges() -> npt.NDArray[np.int64]:
    """Return edges 0, 1, 2, … each at most 4.5 % (or 1 ns) above the one before."""
    edges = [0]
    while edges[-1] < 1 << 61:
        edges.append(max(edges[-1] + 1, edges[-1] * 1045 // 1000))
    return np.array(edges, np.int64)


EDGES_NS = _bucket_edges()
_STEPS_PER_OCTAVE = 16
# First bucket a value can be in, by the whole number of 16ths of an octave of its logarithm.
_FIRST_BUCKET = np.maximum(
    np.searchsorted(
        EDGES_NS, np.floor(2.0 ** (np.arange(62 * _STEPS_PER_OCTAVE) / _STEPS_PER_OCTAVE)), "right"
    )
    - 2,
    0,
).astype(np.int64)


class LatencyModel:
    """Latencies of one scenario; hand it every batch of events, in order.

    Parameters
    ----------
    costs : what work costs
    seed : of the draws
    overlap : touches come at their clock, though the one before may still wait for the device
        (several threads); else a touch starts when the one before is done, as the replay has it
    """

    def __init__(self, costs: Costs, seed: int = 0, *, overlap: bool = False) -> None:
        self._seed = seed
        device = costs.device
        self._tables = np.stack(
            [
                quantiles.table(_POINTS)
                for quantiles in (
                    costs.fault_spread,
                    costs.reclaim_spread,
                    costs.decompress_spread,
                    device.read_ns,
                    device.write_ns,
                    costs.minor_spread,
                )
            ]
        )
        self._cost = np.zeros(1, _COST)
        figures = {
            **costs.faults,
            **costs.codec,
            "read_ahead_load_ns": costs.load_ns(PAGE_BYTES / 2),
            "submit_ns": device.submit_ns,
            "request_ns": device.request_ns,
            "behind_ns": device.behind_ns,
            "extra_page_ns": device.extra_page_ns,
            "load_extra_ns": device.load_extra_ns,
            "store_extra_ns": device.store_extra_ns,
        }
        for name, value in figures.items():
            self._cost[name] = value
        self._decompress = costs.decompress_table()
        steps = np.arange(33 * _MEMORY_STEPS, dtype=np.float64)
        self._memory = costs.memory_ns(PAGE_BYTES * 2.0 ** (steps / _MEMORY_STEPS))
        self._queue = np.zeros(1, _QUEUE)
        self._queue["overlap"] = overlap
        self._channels = np.zeros(device.channels, np.int64)
        self._writes = np.zeros(_IN_FLIGHT, np.int64)
        self._counts = np.zeros((len(SERVICES), EDGES_NS.size), np.int64)

    def add(self, events: npt.NDArray[Any]) -> None:
        """Take the next events (state.EVENT)."""
        self.latencies(events)

    def latencies(self, events: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Take the next events; return the latency of each, ns, 0 for background work."""
        latency_ns = np.zeros(events.size, np.int64)
        if events.size:
            queue = (self._queue, self._channels, self._writes)
            draws = draws_of(events["access"], self._seed)
            tables = (self._tables, self._cost, draws, self._decompress, self._memory)
            _latencies(events, tables, queue, self._counts, (EDGES_NS, _FIRST_BUCKET), latency_ns)
        return latency_ns

    def continue_from(self, other: LatencyModel) -> None:
        """Take over what another one with the same costs and seed has taken."""
        self._queue[:] = other._queue
        self._channels[:] = other._channels
        self._writes[:] = other._writes
        self._counts[:] = other._counts

    @property
    def stall_total_ns(self) -> int:
        """Time lost in faults and reclaim by all touches."""
        return int(self._queue[0]["stall_total_ns"])

    def frame(self, scenario: str) -> pl.DataFrame:
        """Return the histogram; schema LATENCY, buckets without a touch left out."""
        service, bucket = np.nonzero(self._counts)
        return pl.DataFrame(
            {
                "scenario": [scenario] * service.size,
                "service": [SERVICES[index] for index in service],
                "latency_ns_low": EDGES_NS[bucket],
                "latency_ns_high": EDGES_NS[bucket + 1],
                "count": self._counts[service, bucket],
            },
            schema=polars_schema(LATENCY),
        )


def percentiles(frame: pl.DataFrame) -> dict[str, int | None]:
    """Return p50, p90, p99, p999, max and mean of the swap-ins of one scenario, ns.

    Made of the histogram alone (schema LATENCY), services SWAP_IN_SERVICES. A percentile is the
    upper edge of the bucket that holds it, at most 5 % above the true one; max is the upper edge
    of the last bucket; the mean takes each touch at the middle of its bucket. None without a
    swap-in.
    """
    swap_ins = (
        frame.filter(pl.col("service").is_in(SWAP_IN_SERVICES))
        .group_by("latency_ns_low", "latency_ns_high")
        .agg(pl.col("count").sum())
        .sort("latency_ns_low")
    )
    total = int(swap_ins["count"].sum())
    if total == 0:
        return dict.fromkeys((*_PERCENTILES, "max", "mean"))
    low = swap_ins["latency_ns_low"].to_numpy()
    high = swap_ins["latency_ns_high"].to_numpy()
    count = swap_ins["count"].to_numpy()
    reached = np.cumsum(count)
    values: dict[str, int | None] = {
        name: int(high[np.searchsorted(reached, math.ceil(share * total))])
        for name, share in _PERCENTILES.items()
    }
    values["max"] = int(high[-1])
    values["mean"] = round(float((count * ((low + high - 1) / 2)).sum() / total))
    return values


def draws_of(access: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """Return 60 well-mixed bits for each row of the trace: splitmix64."""
    start = np.uint64((seed * 0xD1B54A32D192ED03 + 0x8CB92BA72F3D8DD7) % (1 << 64))
    bits = access.astype(np.uint64)
    bits *= np.uint64(0x9E3779B97F4A7C15)
    bits += start
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    bits >>= np.uint64(4)
    return bits.view(np.int64)


# ---- compiled --------------------------------------------------------------------------------------


@inner
def _bucket(buckets: Any, value: Any) -> Any:
    """Return the bucket of a latency."""
    edges, first = buckets
    at = first[np.int64(np.log2(value) * _STEPS_PER_OCTAVE)] if value > 0 else np.int64(0)
    while edges[at + 1] <= value:
        at += 1
    return at


@inner
def _occupy(channels: Any, arrival_ns: Any, busy_ns: Any) -> Any:
    """Serve a request on the channel that is free first; return when it is done."""
    channel = 0
    for other in range(1, channels.size):
        if channels[other] < channels[channel]:
            channel = other
    done = max(channels[channel], arrival_ns) + np.int64(busy_ns)
    channels[channel] = done
    return done


@inner
def _submit_writes(queue: Any, tables: Any, draw: Any, arrival_ns: Any, count: Any) -> None:
    """Queue writes, and remember when they are done."""
    state, channels, writes = queue
    for nth in range(count):
        at = (draw + nth * _WRITE_STEP) & _MASK
        done = _occupy(channels, arrival_ns, tables[0][_WRITE, at])
        if state[0]["write_count"] == writes.size:
            state[0]["write_head"] = (state[0]["write_head"] + 1) % writes.size
            state[0]["write_count"] -= 1
        where = (state[0]["write_head"] + state[0]["write_count"]) % writes.size
        writes[where] = done
        state[0]["write_count"] += 1


@inner
def _wait_for_writes(queue: Any, now_ns: Any, count: Any) -> Any:
    """Sleep until the oldest write in flight is done, `count` times; return the time then."""
    state, _, writes = queue
    while state[0]["write_count"] > 0:
        done = writes[state[0]["write_head"]]
        if done > now_ns:
            if count == 0:
                break
            count -= 1
            now_ns = done
        state[0]["write_head"] = (state[0]["write_head"] + 1) % writes.size
        state[0]["write_count"] -= 1
    return now_ns


@inner
def _reclaim_work_ns(cost: Any, event: Any, memory_ns: Any) -> Any:
    """Return the mean time of the reclaim one touch did, without submissions and waits."""
    scanned = np.float64(event["scanned"])
    stored = np.float64(event["stored"])
    raw = np.float64(event["raw"])
    rejected = np.float64(event["rejected"])
    written = np.float64(event["written"])
    dropped = np.float64(event["dropped"])
    back = np.float64(event["written_back"])
    work = scanned * cost["scan_ns"] + back * cost["decompress_ns"]
    work += np.float64(event["written_back_bytes"]) * cost["decompress_ns_per_byte"]
    if scanned > 0:
        work += cost["reclaim_ns"]
    # A page that was compressed in vain and then written is unmapped once. What waits for memory is
    # the way through zswap: the page's contents, pool, tree. A page the device got is unmapped and
    # submitted; once its write is done it is only freed (mm/vmscan.c:shrink_folio_list(): clean, no
    # longer mapped, __remove_mapping()). All three cost about as much of the page's own structures.
    work += (stored + dropped + max(rejected, written)) * cost["unmap_ns"]
    work += (stored + rejected) * cost["evict_misses"] * memory_ns
    work += (stored - raw) * cost["compress_ns"] + (raw + rejected) * cost["compress_fail_ns"]
    shrunk_bytes = np.float64(event["stored_bytes"]) - raw * PAGE_BYTES
    work += max(shrunk_bytes, 0.0) * cost["compress_ns_per_byte"]
    return max(work + stored * (cost["pool_ns"] + cost["store_extra_ns"]), 0.0)


@kernel
def _latencies(
    events: Any, tables: Any, queue: Any, counts: Any, buckets: Any, latency_ns: Any
) -> None:
    """Fill in the latency of each event and count it.

    tables : (draws of _FAULT… by probability, _COST, hash of each event, decompression by bytes,
        answer of memory by eighths of a doubling of the pages in use)
    queue : (_QUEUE, when each channel is free, ring of write completions)
    """
    spread, costs, draws, decompress, memory = tables
    state, channels, _ = queue
    cost = costs[0]
    for row in range(events.size):
        event = events[row]
        draw = draws[row]
        service = np.int64(event["service"])
        touched = np.float64(event["touched_pages"] + 1)
        memory_ns = memory[np.int64(np.log2(touched) * _MEMORY_STEPS)]
        began = event["clock_ns"]
        if not state[0]["overlap"]:
            began = max(began, state[0]["idle_from_ns"])
        now = began
        written = np.int64(event["written"]) + np.int64(event["written_back"])
        write_draw = (draw >> (_WRITE * _DRAW_BITS)) & _MASK
        if service == BACKGROUND:
            _submit_writes(queue, tables, write_draw, event["clock_ns"], written)
            continue
        if event["scanned"] > 0 or written > 0:
            factor = spread[_RECLAIM, (draw >> (_RECLAIM * _DRAW_BITS)) & _MASK]
            work = _reclaim_work_ns(cost, event, memory_ns) * factor
            work += np.float64(written) * cost["submit_ns"]
            now += np.int64(work + np.float64(event["requests"]) * cost["request_ns"])
            # A page that was compressed, or copied raw, is in the caches when it is used again.
            read = np.float64(event["stored"]) + np.float64(event["rejected"])
            freed = read + np.float64(event["dropped"]) + np.float64(event["written"])
            if freed > 0:
                state[0]["warm_share"] = cost["warm_ratio"] * read / freed
            if written > 0:
                _submit_writes(queue, tables, write_draw, now, written)
            if event["waits"] > 0:
                now = _wait_for_writes(queue, now, np.int64(event["waits"]))
        factor = spread[_FAULT, draw & _MASK]
        is_warm = np.float64((draw >> (_READ * _DRAW_BITS)) & _MASK) < (
            state[0]["warm_share"] * _POINTS
        )
        cold_ns = 0.0 if is_warm else cost["cold_page_ns"]
        if service == MINOR:
            factor = spread[_MINOR, draw & _MASK]
            now += np.int64((cost["minor_fault_ns"] + cold_ns) * factor)
        elif service == SWAP_CACHE:
            misses = IN_MEMORY_SHARE * cost["load_misses"] * np.float64(1 - event["near"])
            now += np.int64((cost["swap_cache_ns"] + misses * memory_ns) * factor)
        else:
            if service in (ZSWAP, ZSWAP_RAW):
                misses = cost["load_misses"] * (1.0 - BESIDE_SHARE * np.float64(event["near"]))
                cold_ns += misses * memory_ns
            now += np.int64((cost["major_fault_ns"] + cold_ns) * factor)
            ahead = np.float64(event["read_ahead"])
            if event["read_ahead_loads"] > 0:
                now += np.int64(np.float64(event["read_ahead_loads"]) * cost["read_ahead_load_ns"])
            if service == ZERO:
                now += np.int64(cost["zero_fill_ns"] * factor)
            elif service == DEVICE:
                busy = spread[_READ, (draw >> (_READ * _DRAW_BITS)) & _MASK]
                if event["requests"] > 0:
                    now += np.int64(cost["behind_ns"])
                now = _occupy(channels, now, busy + ahead * cost["extra_page_ns"])
            elif service == ZSWAP:
                factor = spread[_DECOMPRESS, (draw >> (_DECOMPRESS * _DRAW_BITS)) & _MASK]
                load = decompress[np.int64(event["size_bytes"])] * factor
                now += np.int64(max(load + cost["load_extra_ns"], 0.0))
            else:
                now += np.int64(max(cost["raw_copy_ns"] * factor + cost["load_extra_ns"], 0.0))
            if service != DEVICE and ahead > 0:
                _occupy(channels, now, spread[_READ, _POINTS // 2] + ahead * cost["extra_page_ns"])
        if not state[0]["overlap"]:
            state[0]["idle_from_ns"] = now
        latency = now - began
        latency_ns[row] = latency
        state[0]["stall_total_ns"] += latency
        counts[service, _bucket(buckets, latency)] += 1

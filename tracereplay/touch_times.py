"""Times of single touches, predicted and fitted: for runs whose every touch was timed.

A recorded run with `touch_ns` tells what each touch took. The replay is nearly exact, so most of its
events stand at the very touch that faulted on the kernel too: medians over kinds of events give the
cost of each kind, and misplaced ones hardly move a median. `fit_faults` and `fit_device` turn one
run each into sections of a cost table; `predict_touches` goes the other way, for any run.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from tracereplay.costs import MOST_MISSES, RANDOM_LINES, Costs, Quantiles, TouchCurve, misses_in
from tracereplay.errors import InputError
from tracereplay.latency import BESIDE_SHARE, LatencyModel, draws_of
from tracereplay.replay.state import BACKGROUND, DEVICE, MINOR, SWAP_CACHE, ZSWAP, ZSWAP_RAW
from tracereplay.units import PAGE_BYTES

Times = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SLOW_TOUCH_NS = 1000  # what is faster cannot be told from a touch of cold memory
# Shares at which distributions are kept.
GRID = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
# A touch of a mapped page that took longer was a fault on the kernel: the replay had it elsewhere.
_SLOWEST_HIT_NS = 2_000
# Between these factors of the expected time a touch counts as what the replay took it for; others
# are misplaced, or were interrupted.
_LIKELY = (0.5, 3.0)
_ENOUGH = 30  # events of a kind that a median is taken of
# Faults between the kernel's first reclaim and the replay's; one of 32 pages in mm/memcontrol.c ends
# anywhere within MEMCG_CHARGE_BATCH (64).
_CHARGES_APART = 128
# One device write of a reclaim run is worth telling from the rest where it submits some.
_MANY_WRITES = 8


@dataclasses.dataclass(frozen=True)
class TimedRun:
    """A replayed run and what its touches took on the kernel.

    page_ids : uint32, shape (touches,); touch_ns : int64, shape (touches,)
    events : state.EVENT, of the replay with the times of that very repeat
    """

    name: str
    page_ids: npt.NDArray[np.uint32]
    touch_ns: Times
    events: npt.NDArray[Any]


def slow_touches(touch_ns: npt.NDArray[np.integer[Any]]) -> dict[str, float]:
    """Return touch_p50_ns, _p90_, _p99_ of the touches over 1 µs and the sum of all; {} without one.

    A slow touch of a page in memory counts as well: nobody who times a program can tell.
    """
    slow = touch_ns[touch_ns > SLOW_TOUCH_NS]
    if not slow.size:
        return {}
    p50, p90, p99 = np.percentile(slow, (50, 90, 99))
    return {
        "touch_p50_ns": float(p50),
        "touch_p90_ns": float(p90),
        "touch_p99_ns": float(p99),
        "touch_total_ns": float(touch_ns.sum(dtype=np.int64)),
    }


def predict_touches(
    page_ids: npt.NDArray[np.uint32], events: npt.NDArray[Any], costs: Costs, seed: int = 0
) -> Times:
    """Return what every touch takes, ns; int64, shape (touches,).

    A touch that replay has an event of takes what LatencyModel says. Any other finds its page mapped
    and takes as long as memory does: the longer ago the page was touched, counted in faults, which
    move kilobytes through the caches each, the farther away its data is.
    """
    out = np.zeros(page_ids.size, np.int64)
    latency = LatencyModel(costs, seed).latencies(events)
    touches = events["service"] != BACKGROUND
    curve = costs.touches
    if curve is not None:
        since = faults_since(page_ids, events[touches])
        hits = since.rows
        draws = draws_of(hits, seed)
        points = 1 << 12
        times = curve.table(points)[TouchCurve.step(since.faults), draws & (points - 1)]
        if costs.device_touches is not None:
            other = costs.device_touches.table(points)
            by_device = (draws >> 12) % 1000 < 1000 * since.device_share
            slower = other[TouchCurve.step(since.faults), draws & (points - 1)]
            times = np.where(by_device, slower, times)
        pages = np.interp(hits, events["access"][touches], events["touched_pages"][touches])
        further = costs.memory_ns(pages * PAGE_BYTES) - curve.memory_ns
        # What the caches hold does not wait for memory; in between, the part that does.
        cached = curve.by_faults[0][0][1]
        share = np.clip((times - cached) / max(curve.memory_ns, 1.0), 0.0, 1.0)
        out[hits] = np.maximum(times + share * further, 1.0).astype(np.int64)
    out[events["access"][touches]] = latency[touches]
    return out


@dataclasses.dataclass(frozen=True)
class Since:
    """Touches of mapped pages and the faults since the last touch of the same page.

    rows : int64, of the trace; faults : float64; device_share : float64, of those faults
    """

    rows: Times
    faults: Floats
    device_share: Floats


def faults_since(page_ids: npt.NDArray[np.uint32], events: npt.NDArray[Any]) -> Since:
    """Return the touches without an event, and what came between them and the touch before."""
    is_fault = np.zeros(page_ids.size, np.bool_)
    is_fault[events["access"]] = True
    is_read = np.zeros(page_ids.size, np.bool_)
    is_read[events["access"][events["service"] == DEVICE]] = True
    faults, reads = np.cumsum(is_fault), np.cumsum(is_read)
    order = np.lexsort((np.arange(page_ids.size), page_ids))
    again = page_ids[order][1:] == page_ids[order][:-1]
    before = np.full(page_ids.size, -1, np.int64)
    before[order[1:][again]] = order[:-1][again]
    rows = np.flatnonzero(~is_fault & (before >= 0))
    between: Floats = (faults[rows] - faults[before[rows]]).astype(np.float64)
    share = (reads[rows] - reads[before[rows]]) / np.maximum(between, 1.0)
    return Since(rows, between, share)


# ---- fitting ---------------------------------------------------------------------------------------


def fit_faults(run: TimedRun, base: Costs) -> dict[str, Any]:
    """Return the sections `faults` and `codecs` of a cost table, from a run with zswap.

    Taken from `base`: how long memory takes to answer by the memory in use, copy and zero fill, and
    the codec's time to compress. The rules, each a median over events of one kind:

    - `minor_fault_ns`, `cold_page_ns`: first touches once reclaim frees pages that a compressor has
      just read (the faster kind), and before any reclaim; `warm_ratio`: how many are of that kind;
    - `load_misses`: loads of raw pages take a fault, a copy, and that many answers of memory, half as
      many beside the page that faulted last; what is beyond the most misses a load can have is the
      copy's (`raw_copy_ns`); as in `base` where too few raw pages were loaded;
    - `decompress_by_bytes`: what loads of compressed pages take beyond that, by size;
    - `scan_ns`: the first reclaim looks at every page: the longest touch where the replay has it;
    - `evict_misses`: the other reclaims, by rank, against the work the replay counted; what is beyond
      the most misses is `pool_ns`;
    - the spreads: quantiles of measured over expected.
    """
    where = f"fitted to the touch times of run {run.name}"
    events, touch = _timed(run)
    memory = base.memory_ns(events["touched_pages"].astype(np.float64) * PAGE_BYTES)
    quiet = events["scanned"] == 0
    faults: dict[str, float] = dict(base.faults)
    first_reclaim = int(events["access"][~quiet].min(initial=run.page_ids.size))
    minor = quiet & (events["service"] == MINOR)
    cold = minor & (events["access"] < first_reclaim)
    warm = minor & (events["access"] >= first_reclaim)
    usual = touch[cold]
    usual = usual[(usual > SLOW_TOUCH_NS / 2) & (usual < 10 * SLOW_TOUCH_NS)]
    _need(run, usual.size, "first touches of .5 to 10 us before its first reclaim")
    _need(run, int(warm.sum()), "first touches after its first reclaim")
    cold_ns = float(np.median(usual))
    faults["minor_fault_ns"] = _faster_kind(touch[warm], cold_ns)
    faults["cold_page_ns"] = max(cold_ns - faults["minor_fault_ns"], 0.0)
    between = faults["minor_fault_ns"] + faults["cold_page_ns"] / 2
    faults["warm_ratio"] = float((touch[warm] < between).mean())
    faults["major_fault_ns"] = faults["minor_fault_ns"]
    swap_cache = quiet & (events["service"] == SWAP_CACHE) & (events["near"] > 0)
    if swap_cache.sum() >= _ENOUGH:
        faults["swap_cache_ns"] = float(np.median(touch[swap_cache]))

    raw = quiet & (events["service"] == ZSWAP_RAW)
    fixed = faults["major_fault_ns"] + base.device.load_extra_ns
    # A new page is needed as well: warm or not, as for first touches.
    fixed += (1 - faults["warm_ratio"]) * faults["cold_page_ns"]
    answers = memory * (1.0 - BESIDE_SHARE * events["near"])
    if raw.sum() >= _ENOUGH:
        waits = (touch[raw] - fixed - faults["raw_copy_ns"]) / answers[raw]
        misses = max(float(np.median(waits[waits > 0])), 0.0)
        faults["load_misses"] = min(misses, float(MOST_MISSES))
        if misses > MOST_MISSES:
            copies = touch[raw] - fixed - MOST_MISSES * answers[raw]
            faults["raw_copy_ns"] = float(np.median(copies))
    packed = quiet & (events["service"] == ZSWAP)
    rest = touch - fixed - faults["load_misses"] * answers
    found, loads_of = np.unique(events["size_bytes"][packed], return_counts=True)
    _need(run, int(loads_of.max(initial=0)), "loads of any one compressed size")
    points = []
    for size in found[loads_of >= _ENOUGH].tolist():
        of = packed & (events["size_bytes"] == size)
        points.append([size, round(max(float(np.median(rest[of & (touch > fixed)])), 0.0), 1)])
    codec = {name: value for name, value in base.raw["codecs"].items() if name != RANDOM_LINES}
    codec["decompress_by_bytes"] = {"points": _extended(points, base), "source": where}
    codec["decompress_spread"] = {"value": 1.0, "source": "in fault_spread"}
    sizes, means = np.array(points, np.float64).T
    decompress = np.interp(events["size_bytes"].astype(np.float64), sizes, means)
    expected = fixed + faults["load_misses"] * answers
    expected += np.where(events["service"] == ZSWAP, decompress, faults["raw_copy_ns"])
    loads = raw | packed
    spreads = {
        "fault_spread": _spread(touch[loads] / expected[loads]),
        "minor_spread": _spread(touch[cold] / cold_ns),
    }
    faults |= _fit_reclaim(run, base, faults, float(np.median(expected[loads])), spreads)
    section: dict[str, Any] = {
        name: {"value": round(value, 4), "source": _source(base, name, faults, where)}
        for name, value in faults.items()
    }
    section["memory_by_bytes"] = base.raw["faults"].get("memory_by_bytes", {"points": []})
    section |= {name: {"quantiles": pairs, "source": where} for name, pairs in spreads.items()}
    section["touches"] = _fit_touches(run, base) | {"source": where}
    return {"faults": section, "codecs": {base.codec_name: codec}}


def _fit_reclaim(
    run: TimedRun,
    base: Costs,
    faults: dict[str, float],
    load_ns: float,
    spreads: dict[str, list[list[float]]],
) -> dict[str, float]:
    """Return scan_ns, evict_misses and pool_ns; add reclaim_spread."""
    events = run.events[run.events["service"] != BACKGROUND]
    reclaims = events[events["scanned"] > 0]
    _need(run, reclaims.size, "reclaims")
    longest_at = _first_reclaim(run, events)
    longest = float(run.touch_ns[longest_at])
    first = reclaims[int(reclaims["scanned"].argmax())]
    # What is left once the pages that the first reclaim frees are paid for is looking at the rest.
    trial = dict(faults, scan_ns=0.0, evict_misses=0.0, reclaim_ns=0.0)
    scan_ns = max(longest - float(_work(first[None], base, trial)[0]), 0.0) / float(
        first["scanned"]
    )
    others: Floats = np.delete(run.touch_ns, longest_at).astype(np.float64)
    others = np.sort(others[others > 8 * load_ns])
    count = min(others.size, reclaims.size - 1)
    _need(run, count, "touches as long as a reclaim")
    # By rank: the longest touches against the reclaims with the most work, whatever their places.
    measured = others[-count:] - load_ns
    trial["scan_ns"] = scan_ns
    reclaims = reclaims[reclaims["scanned"] < first["scanned"]]
    fixed = _work(reclaims, base, trial)
    memory = base.memory_ns(reclaims["touched_pages"].astype(np.float64) * PAGE_BYTES)
    answers = _through_zswap(reclaims) * memory
    beyond = _middle(measured) - _middle(fixed)
    misses = misses_in(beyond, _middle(answers))
    beyond -= misses * _middle(answers)
    stored = _middle(reclaims["stored"].astype(np.float64))
    if beyond > 0 and stored > 0:
        trial["pool_ns"] += beyond / stored
        fixed = _work(reclaims, base, trial)
    shares = (np.arange(measured.size) + 0.5) / measured.size
    expected = np.quantile(fixed + misses * answers, shares)
    ratio = np.clip(measured / expected, *_LIKELY)
    spreads["reclaim_spread"] = _pairs(np.quantile(ratio, GRID))
    found = {"scan_ns": scan_ns, "evict_misses": misses, "reclaim_ns": 0.0}
    return found | {"pool_ns": trial["pool_ns"]}


def _first_reclaim(run: TimedRun, events: npt.NDArray[Any]) -> int:
    """Return which touch was the first reclaim: the longest among the faults where the replay has it.

    They are as far apart as two batches of charges, and memory charged for the page tables.
    """
    at = int((events["scanned"] > 0).argmax())
    near = events["access"][max(at - _CHARGES_APART, 0) : at + _CHARGES_APART + 1]
    begin, end = int(near[0]), int(near[-1]) + 1
    return begin + int(run.touch_ns[begin:end].argmax())


def _through_zswap(events: npt.NDArray[Any]) -> Floats:
    return events["stored"].astype(np.float64) + events["rejected"].astype(np.float64)


def _work(events: npt.NDArray[Any], base: Costs, faults: dict[str, float]) -> Floats:
    """Return the mean work of reclaims by a model whose spreads are all 1."""
    one = Quantiles.constant(1.0)
    costs = dataclasses.replace(
        base,
        faults=dict(faults, minor_fault_ns=0.0, cold_page_ns=0.0),
        reclaim_spread=one,
        minor_spread=one,
        device=dataclasses.replace(base.device, submit_ns=0.0, request_ns=0.0),
    )
    alone = events.copy()
    alone["service"] = MINOR
    alone["waits"] = 0
    return LatencyModel(costs).latencies(alone).astype(np.float64)


def _fit_touches(run: TimedRun, costs: Costs) -> dict[str, Any]:
    """Return what touches of mapped pages take, by the faults since the last touch of the page."""
    events = run.events[run.events["service"] != BACKGROUND]
    since = faults_since(run.page_ids, events)
    times = run.touch_ns[since.rows]
    kept = times < _SLOWEST_HIT_NS
    _need(run, int(kept.sum()), "touches of pages in memory")
    steps = TouchCurve.step(since.faults[kept])
    rows: list[list[list[float]]] = []
    for step in range(TouchCurve.STEPS):
        of = times[kept][steps == step]
        if of.size >= _ENOUGH or not rows:
            rows.append(_pairs(np.quantile(of if of.size else times, GRID), 1))
        else:
            rows.append(rows[-1])
    pages = float(np.median(events["touched_pages"]))
    return {
        "by_faults": rows,
        "memory_ns": round(float(costs.memory_ns(pages * PAGE_BYTES)), 1),
    }


def fit_device(run: TimedRun, costs: Costs) -> dict[str, Any]:
    """Return a device section of a cost table, from a run that swapped to it without zswap.

    - `read_ns`: loads without reclaim, less the fault; as many of the longest are left out as there
      are reclaims, which the replay may have elsewhere;
    - `request_ns`, `behind_ns`: what reclaims take beyond a read and the work of the processor, per
      request and at all; what a write adds to its request is too little to tell;
    - `write_ns`: what the read right after a reclaim takes beyond others, per write;
    - `touches`: touches of mapped pages between reads, while the processor did other things.
    """
    where = f"fitted to the touch times of run {run.name}"
    events, touch = _timed(run)
    reads = events["service"] == DEVICE
    reclaims = events["scanned"] > 0
    quiet = np.sort(touch[reads & ~reclaims])
    fault_ns = costs.faults["major_fault_ns"]
    quiet = quiet[quiet > 4 * SLOW_TOUCH_NS]
    quiet = quiet[: max(quiet.size - int(reclaims.sum()), 1)]
    _need(run, quiet.size, "reads from the device")
    read_ns = float(np.median(quiet))
    busy = events[reclaims & reads & (events["written"] >= _MANY_WRITES)]
    _need(run, busy.size, f"reads in a reclaim that writes {_MANY_WRITES} pages or more")
    later = np.sort(touch[events["access"] >= events["access"][reads].min()])
    longest = later[-busy.size :]
    writing = events[reclaims & reads & (events["requests"] > 0)]
    request_ns, behind_ns = 0.0, 0.0
    if writing.size >= _ENOUGH:
        behind = later[-writing.size :] - read_ns
        request_ns, behind_ns = _fit_requests(writing, behind, costs)
    long = np.flatnonzero(run.touch_ns > 4 * SLOW_TOUCH_NS)
    after = np.flatnonzero(run.touch_ns[long] >= longest.min())[:-1] + 1
    next_read = run.touch_ns[long[after]]
    delay = float(np.median(next_read[next_read < longest.min()])) - read_ns
    write_ns = max(delay / float(np.median(busy["written"])), 0.0)
    return {
        "read_ns": {
            "quantiles": _pairs(np.maximum(np.quantile(quiet, GRID) - fault_ns, 0.0), 1),
            "source": where,
        },
        "write_ns": {"value": round(write_ns, 1), "source": where},
        "submit_ns": {"value": 0.0, "source": "in request_ns"},
        "request_ns": {"value": round(request_ns, 1), "source": where},
        "behind_ns": {"value": round(behind_ns, 1), "source": where},
        "extra_page_ns": {"value": 1500, "source": "no figure; 4 KiB at 2.7 GB/s"},
        "channels": {"value": 1, "source": "the run had one reader: more cannot be told from it"},
        "touches": _fit_touches(run, costs) | {"source": where},
    }


def _fit_requests(
    reclaims: npt.NDArray[Any], measured: Floats, costs: Costs
) -> tuple[float, float]:
    """Return what a write request takes its submitter, and what a read behind some waits, ns.

    By rank, as a straight line: the longest touches against the reclaims with the most requests. The
    longest quarter is left out (pauses of the disk itself would decide), and the shortest reclaims,
    which slow reads hide.
    """
    work = np.sort(_work(reclaims, costs, dict(costs.faults))) * costs.reclaim_spread.mean()
    rest = np.sort(measured) - work
    requests = np.sort(reclaims["requests"]).astype(np.float64)
    kept = slice(int(0.1 * rest.size), max(int(0.75 * rest.size), 1))
    rest, requests = rest[kept], requests[kept]
    if np.ptp(requests) == 0:
        return max(float(np.median(rest / requests)), 0.0), 0.0
    each, behind = np.polyfit(requests, rest, 1)
    if behind < 0:
        each, behind = rest.sum() / requests.sum(), 0.0
    elif each < 0:
        each, behind = 0.0, rest.mean()
    return max(float(each), 0.0), max(float(behind), 0.0)


def _need(run: TimedRun, count: int, what: str) -> None:
    if count < _ENOUGH:
        raise InputError(f"{run.name}: too few {what} to fit costs to; name another run")


def _timed(run: TimedRun) -> tuple[npt.NDArray[Any], Floats]:
    events = run.events[run.events["service"] != BACKGROUND]
    return events, run.touch_ns[events["access"]].astype(np.float64)


def _middle(values: Floats) -> float:
    """Return the mean of the middle half: steadier than the median where values come in steps."""
    quarter = values.size // 4
    return float(np.sort(values)[quarter : values.size - quarter].mean())


def _faster_kind(times: Floats, slower_ns: float) -> float:
    """Return the median of the faster of two kinds: what lies nearer to the fastest than to the other."""
    fastest = float(np.quantile(times, 0.01))
    return float(np.median(times[times < max((fastest + slower_ns) / 2, 1.01 * fastest)]))


def _extended(points: list[list[float]], base: Costs) -> list[list[float]]:
    """Return the points, and beyond both ends those of the base table, moved by the usual difference."""
    if not base.decompress_points:
        return points
    table = base.decompress_table()
    moved = float(np.median([time - table[int(size)] for size, time in points]))
    beyond = [
        [size, round(max(time + moved, 0.0), 1)]
        for size, time in base.decompress_points
        if not points[0][0] <= size <= points[-1][0]
    ]
    return sorted([*points, *beyond])


def _spread(ratio: Floats) -> list[list[float]]:
    kept = ratio[(ratio > _LIKELY[0]) & (ratio < _LIKELY[1])]
    return _pairs(np.quantile(kept, GRID))


def _pairs(values: Floats, digits: int = 4) -> list[list[float]]:
    rising = np.maximum.accumulate(values)
    return [[share, round(float(value), digits)] for share, value in zip(GRID, rising, strict=True)]


def _source(base: Costs, name: str, faults: dict[str, float], where: str) -> str:
    given = base.raw["faults"].get(name)
    if name in base.faults and faults[name] == base.faults[name] and isinstance(given, dict):
        return str(given.get("source", base.source))
    return where

"""When each touch of a recorded run came, by the recorder's clock and by the model's own.

Where a run tells the time at many steps, the model's clock is tied to it at a few moments; where it
tells only when samples were taken, these and the end of the run are the ties.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import numpy.typing as npt

from tracereplay.costs import Means
from tracereplay.reclaim import find_reclaim
from tracereplay.replay.engine import Replay
from tracereplay.validation.recorded import RecordedRun, Repeat

_NEW_PAGES = 0.5  # new pages per touch from which a sample tells where the trace was
_FILL_LINE_NS = 12.5  # of 64 random bytes, by outside_touches()
_TIES = 20  # moments at which a clock of the model's own is set by the recorded one


@dataclasses.dataclass(frozen=True)
class FirstPass:
    """A replay at mean costs, and when its faults came by its own clock.

    faults, came_ns : int64, shape (faults,): rows, and the clock there
    """

    replay: Replay
    faults: npt.NDArray[np.int64]
    came_ns: npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class OwnClock:
    """A clock of the model's own, to be tied to the recorded one.

    times_ns : int64, shape (rows + 1,): when each touch came in a first replay at mean costs
    reached : rows it came to
    touch_ns : time of a touch of a mapped page
    means : costs of the stalls
    """

    times_ns: npt.NDArray[np.int64]
    reached: int
    touch_ns: int
    means: Means


@dataclasses.dataclass(frozen=True)
class Tie:
    """Rows of a trace between two moments that the kernel's and the model's clock share.

    times_ns : int64: when each touch came, without the stalls since the first of these rows
    means : costs of the stalls, scaled so that the last row ends when it did on the kernel
    """

    start: int
    stop: int
    times_ns: npt.NDArray[np.int64]
    means: Means


def outside_touches(
    page_ids: npt.NDArray[np.uint32], random_lines: npt.NDArray[np.uint8], outside_ns: float
) -> npt.NDArray[np.int64]:
    """Return how much of the time outside the touches had passed when each touch came.

    A page is filled with random lines and zeros after its first touch, and the clock is read around
    every touch. In all runs the recorder's samples put the pages filled by then at 12 to 13 ns a line
    more than their touches took, and leave 21 to 30 ns a touch. `random_lines` has one entry a page.
    """
    rows = page_ids.size
    # Ids are given in the order of first use: the highest so far tells how many were filled.
    seen = np.maximum.accumulate(page_ids.astype(np.int64))
    lines = np.cumsum(random_lines.astype(np.int64))
    filling = min(_FILL_LINE_NS * float(lines[-1]), outside_ns) if rows else 0.0
    out = (outside_ns - filling) / max(rows, 1) * np.arange(1, rows + 1)
    if filling:
        out += filling / float(lines[-1]) * lines[seen]
    return out.astype(np.int64)


def own_clock(
    run: RecordedRun, first_pass: FirstPass, rows: int, touch_ns: int, means: Means
) -> OwnClock | None:
    """Return the clock of the model's own costs.

    None where waits decide that no mean cost tells (of the device on a real machine, of the writeback
    worker where the pool is full), and for MGLRU, which does not decide by such statistics.
    """
    if not find_reclaim(run.scenario.reclaim).decides_by_statistics:
        return None
    machine = first_pass.replay.machine[0]
    waits = () if run.emulated else ("pswpin", "pswpout")
    if any(machine[name] for name in waits) or (machine["pool_limit_hit"] and machine["writeback"]):
        return None
    at, clock = _course(first_pass, rows)
    own = np.interp(np.arange(rows + 1), at, clock).astype(np.int64)
    reached = (
        rows if first_pass.replay.finished else min(max(int(machine["oom_at_access"]), 1), rows)
    )
    return OwnClock(own, reached, touch_ns, means)


def _course(
    first_pass: FirstPass, rows: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return touches and the replay's clock at each, from the first to the one behind the last.

    After an OOM kill it goes on as it went on average. The last retries are not in it: they come before
    no touch.
    """
    machine = first_pass.replay.machine[0]
    at, clock = first_pass.faults, first_pass.came_ns
    done, end = rows, float(machine["clock_ns"])
    if not first_pass.replay.finished:
        # By steps of the trace: the last faults that lived reclaim nearly as long as the kill.
        steps = first_pass.replay.samples["access"][: int(machine["samples"])]
        following = np.searchsorted(at, steps, side="right")
        at, clock = steps[following < at.size], clock[following[following < at.size]]
    if not first_pass.replay.finished and at.size:
        done, end = rows + 1, float(clock[-1]) * (rows + 1) / max(int(at[-1]), 1)
    return np.concatenate([[0], at, [done]]), np.concatenate([[0.0], clock, [max(end, 1.0)]])


def tie_clock(
    clock: OwnClock | None,
    times: npt.NDArray[np.int64],
    outside: npt.NDArray[np.int64],
    repeat: Repeat,
) -> list[Tie] | None:
    """Return a clock of the model's own, tied to the recorded one at a few moments.

    While the statistics say that inactive is low, every run of reclaim deactivates pages and takes
    longer, so that fewer come before the next flush. Which flush begins such a stretch depends on
    microseconds, so the model has them elsewhere than the kernel; a clock that carries the kernel's
    own stalls would have the model's stretches go on for too long. Between two ties lies as much of
    the model's own time everywhere: one long run of reclaim is as much work as many touches.

    Where the kernel alone flushed the statistics, every 2 s, and told when, the model has its stretches
    where the kernel has them: there the clock is tied at every recorded step.
    """
    if clock is None:
        return None
    rows, own = times.size, clock.times_ns
    ties = []
    if repeat.flushes_told:
        at = np.linspace(0, rows, repeat.times_ns.size).astype(np.int64)
    else:
        share = (np.arange(_TIES) + repeat.tie_share) / _TIES
        work = own[0] + (own[clock.reached - 1] - own[0]) * share
        at = np.searchsorted(own[:-1], work)
    borders = np.unique([0, *at.tolist(), rows]).tolist()
    for start, stop in itertools.pairwise(borders):
        beside = outside[start:stop] - outside[start]
        taken = float(times[min(stop, rows - 1)] - times[start]) - float(beside[-1])
        scale = max(taken, 1.0) / max(int(own[stop] - own[start]), 1)
        means = {name: round(ns * scale) for name, ns in dataclasses.asdict(clock.means).items()}
        mapped = times[start] + np.arange(stop - start) * (clock.touch_ns * scale) + beside
        ties.append(Tie(start, stop, mapped.astype(np.int64), Means(**means)))
    return ties


def modelled_times(
    run: RecordedRun, page_ids: npt.NDArray[np.uint32], repeat: Repeat, first_pass: FirstPass
) -> npt.NDArray[np.int64]:
    """Return when each touch came: the model's own clock, tied to what the samples show.

    A first pass counts what each touch cost by mean costs of the recording machine. Its clock is
    stretched between ties: the start, the end at the recorded time, and each sample taken while
    pages were touched for the first time, whose number the sample tells (`anon` and `swap`).
    """
    rows = page_ids.size
    came_at, clock = _course(first_pass, rows)
    samples = first_pass.replay.samples[: int(first_pass.replay.machine[0]["samples"])]
    if not first_pass.replay.finished:
        samples = samples[samples["access"] <= came_at[-2]]
    # `anon` is NR_ANON_MAPPED, mm/rmap.c: a page that reclaim has unmapped is not in it.
    held = samples["mapped_pages"] + samples["swap_slots"]
    if run.scenario.cgroup == "v1":  # its `swap` leaves out what is in memory too
        touched = np.maximum.accumulate(page_ids) + 1
        held = touched[np.minimum(samples["access"], rows - 1)].astype(np.int64)
    held = np.concatenate([[0], np.maximum.accumulate(held)])
    ties = _ties(np.concatenate([[0], samples["access"]]), held, repeat)
    wall_ns = repeat.wall_ns if first_pass.replay.finished else 0
    ties = [(0, 0), *(tie for tie in ties if not wall_ns or tie[1] < wall_ns)]
    last_touch, last_ns = ties[-1]
    done = float(np.interp(last_touch, came_at, clock))
    if wall_ns:
        ties.append((rows, wall_ns))
    else:
        scale = last_ns / done if last_ns else 1.0
        ties.append((rows, int(last_ns + (clock[-1] - done) * scale)))
    out = np.empty(rows, np.int64)
    for (start, start_ns), (stop, stop_ns) in itertools.pairwise(ties):
        at = np.interp(np.arange(start, stop), came_at, clock)
        low, high = np.interp([start, stop], came_at, clock)
        share = (at - low) / (high - low) if high > low else 0.0
        out[start:stop] = start_ns + share * (stop_ns - start_ns)
    return out


def _ties(
    steps: npt.NDArray[np.int64], held: npt.NDArray[np.int64], repeat: Repeat
) -> list[tuple[int, int]]:
    """Return (touch, time) of the samples taken while new pages were coming in quickly."""
    ties: list[tuple[int, int]] = []
    most = 0
    for time_ns, pages in repeat.held_pages.T.tolist():
        if pages <= most:
            continue
        most = pages
        at = int(np.searchsorted(held, pages))
        if not 1 <= at < held.size - 1:
            continue
        slope = (held[at + 1] - held[at - 1]) / (steps[at + 1] - steps[at - 1])
        touch = int(np.interp(pages, held[at - 1 : at + 1], steps[at - 1 : at + 1]))
        if slope > _NEW_PAGES and touch > (ties[-1][0] if ties else 0):
            ties.append((touch, time_ns))
    return ties

"""The smallest memory that meets targets, per policy and codec, by search over replays.

What a replay shows may rise again where memory grows (batches, phases of the statistics), so the
search first looks at a grid over the whole range and then narrows down on the lowest size above
which every size it has seen meets the targets. It says how close it came and what it saw.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from tracereplay.comparison import FLUSH_PHASES, KERNEL_MINIMUM_BYTES, compare
from tracereplay.errors import SettingsError, unknown_name
from tracereplay.policies import find_policy
from tracereplay.reclaim import find_reclaim
from tracereplay.replay.settings import Scenario
from tracereplay.schema import SUMMARY
from tracereplay.trace import Trace
from tracereplay.units import PAGE_BYTES, format_duration, format_size, parse_duration, parse_size

Progress = Callable[[int, int], None]

_TARGET = re.compile(r"\s*([a-z0-9_]+)\s*(<=|>=|<|>)\s*(\S.*?)\s*")
_SHORT = {
    name: f"swapin_latency_{name}_ns" for name in ("p50", "p90", "p99", "p999", "max", "mean")
}
_NUMBERS = {column.name: column.unit for column in SUMMARY if column.dtype in ("Int64", "Float64")}
_SHARES = {column.name for column in SUMMARY if column.dtype == "Float64"}
_GRID = 9


@dataclasses.dataclass(frozen=True)
class Target:
    """A bound on a column of the summary, as `p99<50us`."""

    text: str
    column: str
    below: bool
    strict: bool
    limit: float

    def met(self, value: float | None) -> bool:
        """Tell whether a value meets it; no value (no swap-in at all) meets every upper bound."""
        if value is None:
            return self.below
        if self.strict:
            return value < self.limit if self.below else value > self.limit
        return value <= self.limit if self.below else value >= self.limit


def parse_target(text: str) -> Target:
    """Return a target: a percentile (`p99<50us`) or a column of the summary (`stall_ratio<1%`).

    Raises
    ------
    SettingsError
        It is none, or names no number of the summary.
    """
    match = _TARGET.fullmatch(text)
    if match is None:
        raise SettingsError(f"{text!r} is no target; write 'p99<50us' or 'stall_ratio<1%'")
    name, sign, bound = match.groups()
    column = _SHORT.get(name, name)
    if column not in _NUMBERS:
        raise unknown_name("target", name, [*_SHORT, *_NUMBERS])
    unit = _NUMBERS[column]
    if bound.endswith("%") and column not in _SHARES:
        raise SettingsError(f"target {text!r}: {name} is no share of anything; write a value")
    if bound.endswith("%"):
        limit = _plain(bound[:-1], text) / 100
    elif unit == "ns":
        limit = float(parse_duration(bound))
    elif unit == "bytes":
        limit = float(parse_size(bound))
    else:
        limit = _plain(bound, text)
    return Target(text.strip(), column, sign.startswith("<"), "=" not in sign, limit)


def shown_value(column: str, value: float | None) -> str:
    """Return a value of a column of the summary as people read it, with its unit."""
    if value is None:
        return "-"
    if _NUMBERS[column] == "ns":
        return format_duration(value)
    return format_size(value) if _NUMBERS[column] == "bytes" else f"{value:,.4g}"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _plain(text: str, whole: str) -> float:
    if not _is_number(text):
        raise SettingsError(f"target {whole!r}: {text!r} is no number")
    return float(text)


@dataclasses.dataclass(frozen=True)
class Sizing:
    """What a search found.

    Attributes
    ----------
    sizes : one row per policy and codec: `memory_limit_bytes` (null where nothing meets the
        targets), `step_bytes` (the next smaller size tried fails; 0 where none was smaller),
        `in_all_bytes` (the peak of memory and pool at that size), `monotonic` (no size above fails), one column per target, `confidence` in words
    curve : every size tried: policy, codec, memory_limit_bytes, one column per target, flush_phases
        and flush_phases_killed as in the summary, `meets`
    run : of the last comparison: contents, costs, notes
    """

    sizes: pl.DataFrame
    curve: pl.DataFrame
    run: dict[str, Any]


def find_sizes(
    trace: Trace,
    targets: Sequence[Target],
    scenarios: Sequence[Scenario],
    *,
    precision: float = 0.01,
    pages: str | Path | None = None,
    content: str | None = None,
    costs: str | Path | None = None,
    seed: int = 0,
    jobs: int | None = None,
    flush_phases: int = FLUSH_PHASES,
    rewrite_entropy: float = 0.0,
    progress: Progress | None = None,
) -> Sizing:
    """Search the smallest memory limit of each scenario that meets every target.

    A size at which any replay ends in an OOM kill meets none.

    Parameters
    ----------
    scenarios : one per policy, reclaim model and codec; their memory limit is replaced
    precision : stop when the step is this share of the trace's footprint
    flush_phases : replays of each size, with the statistics flushed at different phases
    progress : called with (rounds done, rounds in all)

    Raises
    ------
    SettingsError
        No target, or one that asks for a trace clock the trace does not have.
    """
    if not targets:
        raise SettingsError("no target; give --target 'p99<50us'")
    if any(target.column == "stall_ratio" for target in targets) and not trace.has_time:
        raise SettingsError("stall_ratio needs a trace with times; give a latency target instead")
    footprint = max(trace.unique_pages * PAGE_BYTES, PAGE_BYTES)
    searches = [_Search(scenario, footprint) for scenario in scenarios]
    step = max(int(footprint * precision), PAGE_BYTES)
    # Each round cuts an interval into four.
    rounds = 2 + (footprint // (_GRID * step)).bit_length() // 2
    run: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for turn in range(4 * rounds):  # more only where sizes meet and fail in turn
        wanted = [(search, limit) for search in searches for limit in search.next_sizes(step)]
        if not wanted:
            break
        asked = [
            dataclasses.replace(search.scenario, memory_limit_bytes=limit, name=f"{index}/{limit}")
            for index, (search, limit) in enumerate(wanted)
        ]
        result = compare(
            trace,
            asked,
            pages=pages,
            content=content,
            costs=costs,
            seed=seed,
            jobs=jobs,
            flush_phases=flush_phases,
            rewrite_entropy=rewrite_entropy,
        )
        run = result.run
        for (search, limit), row in zip(wanted, result.summary.iter_rows(named=True), strict=True):
            values = {target.text: _value(row, target) for target in targets}
            killed = row["flush_phases_killed"]
            meets = not killed and all(target.met(values[target.text]) for target in targets)
            search.note(limit, meets, values, killed / row["flush_phases"], row)
            rows.append(
                search.key()
                | {"memory_limit_bytes": limit}
                | values
                | {name: row[name] for name in ("flush_phases", "flush_phases_killed")}
                | {"meets": meets}
            )
        if progress is not None:
            progress(min(turn + 1, rounds), rounds)
    schema: dict[str, Any] = {target.text: pl.Float64 for target in targets}
    keys = ["policy", "reclaim", "codec", "memory_limit_bytes"]
    return Sizing(
        sizes=pl.DataFrame([search.answer() for search in searches], schema_overrides=schema),
        curve=pl.DataFrame(rows, schema_overrides=schema).sort(keys),
        run=run,
    )


def _value(row: dict[str, Any], target: Target) -> float | None:
    value = row[target.column]
    return None if value is None else float(value)


class _Search:
    """The sizes tried of one scenario, and which to try next."""

    def __init__(self, scenario: Scenario, footprint_bytes: int) -> None:
        self.scenario = scenario
        textbook = find_reclaim(scenario.reclaim).textbook
        lowest = PAGE_BYTES if textbook else KERNEL_MINIMUM_BYTES
        # Room for what the kernel counts beside the pages: page tables, batches.
        highest = _whole(footprint_bytes * 1.05) + KERNEL_MINIMUM_BYTES
        # Pages far from each other have a page table each, and each of those one of the next level.
        self._most = 4 * highest
        self._limits = bool(find_policy(scenario.policy).reclaim)
        self._grid = sorted(
            {_whole(lowest + (highest - lowest) * part / (_GRID - 1)) for part in range(_GRID)}
        )
        self._met: dict[int, bool] = {}
        self._values: dict[int, dict[str, float | None]] = {}
        self._killed: dict[int, float] = {}
        self._swapped: dict[int, bool] = {}
        self._taken: dict[int, int] = {}

    def key(self) -> dict[str, Any]:
        """Return what names this search."""
        scenario = self.scenario
        return {
            "policy": scenario.policy,
            "reclaim": scenario.reclaim,
            "codec": scenario.codec,
        }

    def note(
        self,
        limit: int,
        meets: bool,
        values: dict[str, float | None],
        killed_share: float,
        row: dict[str, Any],
    ) -> None:
        """Remember the replays of a size, and the share of them that an OOM kill ended."""
        self._met[limit] = meets
        self._values[limit] = values
        self._killed[limit] = killed_share
        self._swapped[limit] = row["swapin_latency_p50_ns"] is not None
        self._taken[limit] = row["footprint_bytes_peak"]

    def bracket(self) -> tuple[int, int | None]:
        """Return (largest size that fails or 0, smallest above it that meets the targets or None).

        Where the largest sizes fail, as for a bound on the memory taken in all, those are left out.
        """
        met = [size for size, meets in self._met.items() if meets]
        failed = [size for size, meets in self._met.items() if not meets]
        failing = max((size for size in failed if size < max(met, default=0)), default=0)
        if not met:
            failing = max(failed, default=0)
        above = [size for size in met if size > failing]
        return failing, min(above, default=None)

    def _failing_above(self, size: int) -> list[int]:
        return [other for other, meets in self._met.items() if not meets and other > size]

    def _is_short_at(self, size: int) -> bool:
        """Say whether memory still runs short at a size, which more of it would change."""
        return self._limits and (self._swapped[size] or self._killed[size] > 0)

    def next_sizes(self, step_bytes: int) -> list[int]:
        """Return sizes to replay next; none when the answer is close enough."""
        if not self._met:
            return self._grid if self._limits else self._grid[-1:]
        failing, meeting = self.bracket()
        largest = max(self._met)
        if meeting is None and self._is_short_at(largest) and largest < self._most:
            return [2 * largest]
        if meeting is None or failing == 0 or meeting - failing <= step_bytes:
            return []
        # Three at once: a replay costs little beside reading the trace.
        inner = {_whole(failing + (meeting - failing) * part / 4) for part in (1, 2, 3)}
        return sorted(inner - self._met.keys())

    def answer(self) -> dict[str, Any]:
        """Return the row of the result."""
        failing, meeting = self.bracket()
        passed_below = [size for size, meets in self._met.items() if meets and size < failing]
        too_large = [] if meeting is None else self._failing_above(meeting)
        if meeting is None:
            confidence = f"no size up to {format_size(max(self._met))} meets the targets"
        elif too_large:
            confidence = f"not met from {format_size(min(too_large))} on"
        elif passed_below:
            sizes = (
                "1 smaller size meets"
                if len(passed_below) == 1
                else (f"{len(passed_below)} smaller sizes meet")
            )
            confidence = f"{sizes} them too, but a larger one fails"
        elif failing:
            confidence = "every larger size tried meets the targets"
        elif self._limits:
            confidence = "the smallest size there is meets the targets"
        else:
            confidence = "memory is not limited"
        if meeting is not None and not self._swapped[meeting]:
            confidence += ", and nothing is swapped in there"
        if failing and self._killed[failing]:
            whole = self._killed[failing] == 1
            which = "the largest" if meeting is None else "a step less"
            confidence += f", {which} ends in an OOM kill" + (
                "" if whole else f" in {self._killed[failing]:.0%} of its replays"
            )
        values = dict.fromkeys(next(iter(self._values.values())))
        return self.key() | {
            "memory_limit_bytes": meeting,
            "step_bytes": None if meeting is None else (meeting - failing if failing else 0),
            "in_all_bytes": None if meeting is None else self._taken[meeting],
            "monotonic": not (passed_below or too_large),
            **(values if meeting is None else self._values[meeting]),
            "replays": len(self._met),
            "confidence": confidence,
        }


def _whole(size_bytes: float) -> int:
    """Return whole pages of a size, in bytes."""
    return max(int(size_bytes) // PAGE_BYTES, 1) * PAGE_BYTES

"""What a result says: groups to compare within, the winner of each and its price, the dangers.

The terminal table, the HTML report and the JSON all tell this same story.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from tracereplay.errors import visible
from tracereplay.latency import SWAP_IN_SERVICES, percentiles
from tracereplay.policies import BASELINE, BOUND, POLICIES
from tracereplay.schema import SERVICES
from tracereplay.units import PAGE_BYTES, format_count, format_duration, format_size

Row = dict[str, Any]
Namer = Callable[[Row], str]

BOUND_RECLAIM = "opt"

# Keys that go into the label of a scenario when the result holds more than one value of them.
_LABEL_KEYS = (
    "reclaim",
    "codec",
    "allocator",
    "pool_limit_bytes",
    "device",
    "page_cluster",
    "kernel",
    "cgroup",
)

# Two stalls nearer than this are a tie: a recorded kernel run spreads by about as much.
TIE_RATIO = 0.02

# What a percentile can be taken over, and the services that answer it. A swap-in is a touch of a page
# that had left memory; where readahead had it in the swap cache already, the kernel counts a minor
# fault.
POPULATIONS: dict[str, tuple[str, ...]] = {
    "swap-ins": SWAP_IN_SERVICES,
    "major faults": tuple(name for name in SWAP_IN_SERVICES if name != "swap_cache"),
}
PERCENTILE_NAMES = ("p50", "p90", "p99", "p999", "max", "mean")
# The events of which a percentile is shown: of fewer it is but the slowest of them.
FEWEST_EVENTS = {"p50": 1, "p90": 10, "p99": 100, "p999": 1_000}
FEW_NOTE = (
    f"p99 is shown of {FEWEST_EVENTS['p99']} swap-ins and more, p99.9 of "
    f"{FEWEST_EVENTS['p999']:,} and more"
)
_READAHEAD_SHARE = 0.1  # of the swap-ins, from which readahead is worth a word


def printable(text: str) -> str:
    """Return the text as `visible` does, on one line."""
    return visible(text).replace("\n", "\\n")


def printable_frame(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with every text in it `printable`."""
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    return frame.with_columns(
        pl.col(name).replace({text: printable(text) for text in frame[name].drop_nulls().unique()})
        for name in texts
    )


_MICRO = re.compile(r"(\d) us\b")


def in_micro(text: str) -> str:
    """Return the text with µs for us: a terminal may lack the letter, a page or a picture does not."""
    return _MICRO.sub(r"\1 µs", text)


@dataclass(frozen=True)
class Group:
    """Scenarios that share a trace and a memory limit, and so can be compared with each other."""

    trace: str
    memory_limit_bytes: int
    rows: tuple[Row, ...]
    touched_pages: int = 0  # of the trace; 0 where nobody knows

    @property
    def title(self) -> str:
        """Return "64.0 MiB (50 % of the pages touched)"; a killed scenario has not touched all."""
        touched = [row["unique_pages"] or 0 for row in self.rows if row["finished"]]
        touched_bytes = max([*touched, self.touched_pages]) * PAGE_BYTES
        size = format_size(self.memory_limit_bytes)
        if not touched_bytes:
            return size
        return f"{size} ({self.memory_limit_bytes / touched_bytes:.0%} of the pages touched)"


@dataclass(frozen=True)
class Verdict:
    """The winner of a group, in words: what it gains and what it costs."""

    group: Group
    winner: Row | None
    gain: str
    price: str

    @property
    def sentence(self) -> str:
        """Return the whole verdict as one line."""
        return f"{self.gain}{' Price: ' + self.price + '.' if self.price else ''}"


@dataclass(frozen=True)
class Danger:
    """One thing reclaim did that it should not; `count` scenarios show it."""

    mark: str
    name: str
    meaning: str
    detail: str


def is_bound(row: Row) -> bool:
    """Say whether the scenario is a bound to measure against, and no choice anybody has."""
    return bool(row["policy"] == BOUND or row["reclaim"] == BOUND_RECLAIM)


def labelled_rows(summary: pl.DataFrame, latency: pl.DataFrame) -> list[Row]:
    """Return the rows of `summary`, each with what the report says of it beyond its columns.

    `label` is the policy, and whatever else tells this result's scenarios apart; `bound`, `killed`;
    `services` the touches by service, `swap_ins` and `major_faults` sums of them;
    `majfault_latency_*_ns` the percentiles over major faults alone, and `zswap_latency_p50_ns` over
    what zswap answered by decompressing; `shown_*_latency_*_ns` are percentiles once more, None
    where they are of fewer than FEWEST_EVENTS.
    """
    parts = {
        str(scenario): part
        for (scenario,), part in latency.partition_by("scenario", as_dict=True).items()
    }
    counts: dict[str, dict[str, int]] = {}
    for scenario, service, count in (
        latency.group_by("scenario", "service").agg(pl.col("count").sum()).iter_rows()
    ):
        counts.setdefault(scenario, {})[service] = count
    varying = {
        policy: [
            key
            for key in _LABEL_KEYS
            if summary[key].n_unique() > 1
            and (key not in _unknown_to(str(policy)) or part[key].n_unique() > 1)
        ]
        for (policy,), part in summary.partition_by("policy", as_dict=True).items()
    }
    rows = summary.to_dicts()
    for row in rows:
        extra = [
            format_size(row[key]) if key.endswith("_bytes") else str(row[key])
            for key in varying[row["policy"]]
            if row["policy"] != BOUND and row[key] is not None
        ]
        row["label"] = " ".join([row["policy"], *extra])
        row["bound"] = is_bound(row)
        row["killed"] = not row["finished"] or bool(row["oom_events"])
        row["services"] = {
            service: counts.get(row["scenario"], {}).get(service, 0) for service in SERVICES
        }
        part = parts.get(row["scenario"], latency.clear())
        major = percentiles(part.filter(pl.col("service").is_in(POPULATIONS["major faults"])))
        for name in PERCENTILE_NAMES:
            row[f"majfault_latency_{name}_ns"] = major[name]
        row["zswap_latency_p50_ns"] = percentiles(part.filter(service="zswap"))["p50"]
        for counted, services in zip(
            ("swap_ins", "major_faults"), POPULATIONS.values(), strict=True
        ):
            row[counted] = sum(row["services"][service] for service in services)
        for of, counted in (("swapin", "swap_ins"), ("majfault", "major_faults")):
            for name, fewest in FEWEST_EVENTS.items():
                value = row[f"{of}_latency_{name}_ns"]
                row[f"shown_{of}_latency_{name}_ns"] = value if row[counted] >= fewest else None
    return rows


def _unknown_to(policy: str) -> tuple[str, ...]:
    """Return the settings a policy knows nothing of: plain swap has no codec and no pool."""
    known = POLICIES.get(policy)
    if known is None:
        return ()
    if policy == BOUND:  # which stands at every limit: comparison_groups()
        return ("memory_limit_bytes", *_LABEL_KEYS)
    if not known.reclaim:
        return _LABEL_KEYS
    if not known.zswap:
        return ("codec", "allocator", "pool_limit_bytes")
    return ("allocator", "pool_limit_bytes") if known.synchronous else ()


def told_once(summary: pl.DataFrame) -> pl.DataFrame:
    """Return the summary without scenarios that only settings tell apart which they know nothing of.

    `compare` runs every policy once per limit and codec: unlimited memory knows neither, plain swap
    no codec. The first of those stands for all, where their results are the same.
    """
    keep = pl.lit(value=True)
    for policy in summary["policy"].unique(maintain_order=True):
        if unknown := _unknown_to(policy):
            told = [name for name in summary.columns if name not in ("scenario", *unknown)]
            keep &= (pl.col("policy") != policy) | pl.struct(told).is_first_distinct()
    return summary.filter(keep)


def some_are_few(rows: list[Row]) -> bool:
    """Say whether a percentile is left out because it would be of a handful of swap-ins."""
    return any(
        row[f"swapin_latency_{name}_ns"] is not None
        and row[f"shown_swapin_latency_{name}_ns"] is None
        for row in rows
        for name in FEWEST_EVENTS
    )


def readahead_note(rows: list[Row], column: str) -> str:
    """Say what the percentiles cover, where readahead answered so much that it matters.

    column : where the percentiles over major faults alone can be read
    """
    shares = {
        row["scenario"]: row["services"]["swap_cache"] / max(1, row["swap_ins"]) for row in rows
    }
    name = namer(rows)
    most = max(rows, key=lambda row: shares[row["scenario"]], default=None)
    if most is None or shares[most["scenario"]] < _READAHEAD_SHARE:
        return ""
    text = (
        "percentiles cover every touch of a page that had left memory, also where readahead had it "
        f"in the swap cache already ({shares[most['scenario']]:.0%} with {name(most)})"
    )
    slower = [
        row
        for row in rows
        if row["majfault_latency_p50_ns"] is not None
        and row["majfault_latency_p50_ns"] > 2 * row["swapin_latency_p50_ns"]
    ]
    if slower:
        span = format_span([row["majfault_latency_p50_ns"] for row in slower], format_duration)
        who = f"with {name(slower[0])}" if len(slower) == 1 else f"in {len(slower)} scenarios"
        text += f"; over major faults alone p50 is {span} {who} ({column})"
    return text


def touched_pages(run: dict[str, Any]) -> int:
    """Return the distinct pages of a comparison's trace; 0 of several, and where `run` does not say."""
    trace = run.get("trace")
    if not isinstance(trace, dict) or ("jobs" in run and len(trace.get("path") or ()) != 1):
        return 0  # a sweep has the sum over its traces there
    return int(trace.get("unique_pages") or 0)


def comparison_groups(rows: list[Row], touched: int = 0) -> list[Group]:
    """Return one group per trace and memory limit, ascending; the bound joins those without one, last.

    touched : distinct pages of the trace, 0 of several
    """
    bound_alone = {row["trace"] for row in rows} - {
        row["trace"] for row in rows if row["policy"] != BOUND
    }
    choices = [row for row in rows if row["policy"] != BOUND or row["trace"] in bound_alone]
    keys = sorted({(row["trace"], row["memory_limit_bytes"]) for row in choices})
    bounds = {(row["trace"], row["memory_limit_bytes"]) for row in rows if row["policy"] == BOUND}
    return [
        Group(
            trace,
            limit,
            tuple(
                row
                for row in sorted(rows, key=lambda row: row["policy"] == BOUND)
                if row["trace"] == trace
                and (
                    row["memory_limit_bytes"] == limit
                    or (row["policy"] == BOUND and (trace, limit) not in bounds)
                )
            ),
            touched,
        )
        for trace, limit in keys
    ]


def verdict(group: Group) -> Verdict:
    """Name the policy that loses the least time at this limit, and its price.

    Total stall is what decides, and not a percentile: all scenarios of a group replay the same
    touches, and a policy that swaps in ten times as often may well have the better median.
    Bounds do not take part; a scenario that ended in an OOM kill cannot win.
    """
    candidates = [row for row in group.rows if not row["bound"]] or list(group.rows)
    alive = [row for row in candidates if not row["killed"]]
    if not alive:
        return Verdict(group, None, "No policy finished: each ended in an OOM kill.", "")
    best_ns = min(row["stall_total_ns"] for row in alive)
    ties = [row for row in alive if row["stall_total_ns"] <= best_ns * (1 + TIE_RATIO)]
    # Of equals the one that needs least memory, then fewest device writes; order settles the rest.
    winner = min(ties, key=lambda row: (row["footprint_bytes_peak"], row["pswpout"]))
    among_bounds = any(row["reclaim"] == BOUND_RECLAIM for row in group.rows if row["bound"])
    gain = _gain(winner, ties, alive, candidates, among_bounds=among_bounds)
    return Verdict(group, winner, gain, _price(winner))


def _gain(
    winner: Row, ties: list[Row], alive: list[Row], group_choices: list[Row], *, among_bounds: bool
) -> str:
    """Say what the winner wins by; `among_bounds` where rows of opt stand beside the choices."""
    but = "but for the bounds, " if among_bounds else ""
    others = [row for row in ties if row is not winner]
    name = winner["label"]
    if len(group_choices) == 1:
        text = f"{name} is the only choice here"
    elif len(alive) == 1:
        text = f"{but}{name} is the only one that finished"
    elif len(others) == len(alive) - 1:
        who = "all policies" if len(alive) == len(group_choices) else "all that finished"
        text = f"{but}{who} tie within {TIE_RATIO:.0%}"
        if len({row["footprint_bytes_peak"] for row in ties}) > 1:
            text += f"; {name} needs the least memory"
    elif others:
        text = f"{name} loses least time, level with {_listing([row['label'] for row in others])}"
    else:
        text = f"{name} loses least time"
    text += f": {format_duration(winner['stall_total_ns'])} in faults and reclaim"
    rival = _rival(winner, alive)
    if rival is not None:
        less = 1 - winner["stall_total_ns"] / max(1, rival["stall_total_ns"])
        rival = rival if less >= 0.005 else None
        text += f", {less:.0%} less than {rival['label']}" if rival else ""
    p99 = winner["shown_swapin_latency_p99_ns"]
    if p99 is not None:
        text += f"; p99 swap-in {format_duration(p99)}"
        if rival is not None and rival["shown_swapin_latency_p99_ns"] is not None:
            text += f" against {format_duration(rival['shown_swapin_latency_p99_ns'])}"
    return text + "."


def _rival(winner: Row, alive: list[Row]) -> Row | None:
    """Return whom the winner is measured against: plain swap, else the next best."""
    same = [
        row for row in alive if row["policy"] == BASELINE and row["reclaim"] == winner["reclaim"]
    ]
    if same and same[0] is not winner:
        return same[0]
    rest = [row for row in alive if row is not winner]
    return min(rest, key=lambda row: row["stall_total_ns"], default=None)


def runs_eaten_by_pool(row: Row) -> int:
    """Return the runs of reclaim that freed pages, and whose pool grew by as much meanwhile."""
    freed_some = int(row["reclaim_no_gain_runs"]) - int(row["reclaim_failures"])
    return max(freed_some, 0) if is_charged_for_pool(row) else 0


def _gainless_runs(row: Row) -> str:
    text = f"{row['reclaim_no_gain_runs']:,} of {row['reclaim_runs']:,} runs"
    vain = min(row["reclaim_failures"], row["reclaim_no_gain_runs"])
    if vain == row["reclaim_no_gain_runs"]:
        return f"{text}, none of which freed a page"
    return f"{text}, {vain:,} of which freed no page" if vain else text


def is_charged_for_pool(row: Row) -> bool:
    """Tell whether what a scenario compresses counts towards its memory limit."""
    return bool(row["cgroup"] == "v2" and row["zswpout"])  # zram counts as pswpout


def is_memory(row: Row) -> bool:
    """Tell whether what a scenario writes stays in memory (zram), and is in the pool already."""
    policy = POLICIES.get(row["policy"])  # a user's own may not be registered here
    return policy is not None and policy.synchronous


def _price(winner: Row) -> str:
    parts = [f"{format_size(winner['footprint_bytes_peak'])} peak footprint"]
    if winner["pool_bytes_peak"]:
        parts[0] += f", {format_size(winner['pool_bytes_peak'])} of it pool at its peak"
    beyond = winner["footprint_bytes_peak"] - winner["memory_limit_bytes"]
    if winner["pool_bytes_peak"] and beyond > winner["memory_limit_bytes"] * TIE_RATIO:
        whole = winner["cgroup"] == "v1" or is_memory(winner)
        parts[0] += f", {format_size(beyond)} beyond the limit, as " + (
            "the pool is not charged to it"
            if whole
            else "the pool is charged by compressed bytes, not by its pages"
        )
    if winner["pswpout"] and not is_memory(winner):
        parts.append(f"{format_size(winner['pswpout'] * PAGE_BYTES)} written to the device")
    if winner["reclaim_no_gain_runs"]:
        parts.append(
            f"{winner['reclaim_no_gain_runs']:,} of {winner['reclaim_runs']:,} "
            "reclaim runs gained nothing"
        )
    if winner["overshoot_bytes_peak"]:
        parts.append(f"up to {format_size(winner['overshoot_bytes_peak'])} charged over the limit")
    if winner["flush_phases_killed"]:
        parts.append(
            f"an OOM kill in {winner['flush_phases_killed']} of {winner['flush_phases']} phases of "
            "the statistics flush"
        )
    return "; ".join(parts)


def format_span(values: list[int], say: Callable[[int], str]) -> str:
    """Return "1.0 us to 9.0 us", or one value where they read alike."""
    low, high = say(min(values)), say(max(values))
    return low if low == high else f"{low} to {high}"


def _listing(names: list[str]) -> str:
    if len(names) > _SHOWN:
        return f"{len(names)} others"
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


OOM_MARK, RISK_MARK, NO_GAIN_MARK, OVER_MARK = "X", "?", "!", "^"
_SHOWN = 4  # scenarios a sentence names


def marks(row: Row) -> str:
    """Return the warning marks of one scenario, worst first."""
    text = OOM_MARK if row["killed"] else RISK_MARK if row["flush_phases_killed"] else ""
    if row["reclaim_no_gain_runs"]:
        text += NO_GAIN_MARK
    if row["overshoot_bytes_peak"]:
        text += OVER_MARK
    return text


def dangers(rows: list[Row]) -> list[Danger]:
    """Return what the marks mean, for those marks that these scenarios carry."""
    found = []
    name = namer(rows)
    killed = [row for row in rows if row["killed"]]
    if killed:
        found.append(
            Danger(
                OOM_MARK,
                "ended in an OOM kill",
                "reclaim could not free a page under the limit, so the kernel kills the task; "
                "its figures cover only what ran before",
                _some(killed, _killed_at, name),
            )
        )
    risky = [row for row in rows if row["flush_phases_killed"] and not row["killed"]]
    if risky:
        found.append(
            Danger(
                RISK_MARK,
                "may end in an OOM kill",
                "reclaim decides with cgroup statistics that are flushed every so often "
                "(--stat-flush); while they are stale it may find nothing to free. Replayed with "
                "the flush at other moments, the scenario was killed",
                _some(
                    risky,
                    lambda row: f"{row['flush_phases_killed']} of {row['flush_phases']} replays",
                    name,
                ),
            )
        )
    gainless = [row for row in rows if row["reclaim_no_gain_runs"]]
    if gainless:
        found.append(
            Danger(
                NO_GAIN_MARK,
                "reclaim gained nothing",
                "runs of reclaim that ended with no more free memory than they began"
                + (
                    ": what the pool is charged for a stored page ate what the page gave back"
                    if any(map(runs_eaten_by_pool, gainless))
                    else ""
                ),
                _some(gainless, _gainless_runs, name),
            )
        )
    over = [row for row in rows if row["overshoot_bytes_peak"]]
    if over:
        found.append(
            Danger(
                OVER_MARK,
                "went over the limit",
                "resident memory plus charged pool stood above the memory limit while "
                "reclaim was storing",
                _some(over, lambda row: f"by {format_size(row['overshoot_bytes_peak'])}", name),
            )
        )
    return found


def some_names(rows: list[Row], name: Namer) -> str:
    """Return the names of the rows; of many only how many there are."""
    names = list(dict.fromkeys(map(name, rows)))
    return ", ".join(names) if len(names) <= _SHOWN else f"{len(rows)} scenarios"


def _some(rows: list[Row], say: Callable[[Row], str], name: Namer) -> str:
    """Return what `say` says of each row; of the rest only the number."""
    parts = [f"{name(row)}: {say(row)}" for row in rows[:_SHOWN]]
    if len(rows) > _SHOWN:
        parts.append(f"{len(rows) - _SHOWN} more")
    return "; ".join(parts)


def namer(rows: list[Row]) -> Namer:
    """Return how to name one of `rows`: by label, and limit and trace where they have several."""
    limits = {row["memory_limit_bytes"] for row in rows if row["policy"] != BOUND}
    traces = {row["trace"] for row in rows}

    def name(row: Row) -> str:
        text = str(row["label"])
        if len(limits) > 1 and row["policy"] != BOUND:
            text += f" at {format_size(row['memory_limit_bytes'])}"
        return text + (f" with {row['trace']}" if len(traces) > 1 else "")

    return name


def _killed_at(row: Row) -> str:
    text = "killed"
    if not row["finished"]:
        text += f" after {format_count(row['accesses'], 'access', 'accesses')}"
    if row.get("swap_full"):
        used = format_size(row["swap_bytes_peak"])
        text += (
            f" with its swap full ({used} in use)" if row["swap_bytes_peak"] else " without swap"
        )
    if row["flush_phases"] > 1:
        text += f", and in {row['flush_phases_killed']} of {row['flush_phases']} replays in all"
    return text

"""What every figure shares: its parts, its colours, the fields it may draw."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from tracereplay.policies import BOUND
from tracereplay.report.findings import Group, Row, in_micro
from tracereplay.report.style import PAGE_DARK, PAGE_LIGHT, PART_LOOKS, SERVICE_LOOKS, policy_looks
from tracereplay.schema import SERVICES
from tracereplay.units import format_duration, format_size

Spec = dict[str, Any]
VEGA_LITE = "https://vega.github.io/schema/vega-lite/v6.json"

MIB = 1 << 20

ROW_HEIGHT = 22  # pixels per bar

# What else tells scenarios of a policy apart: how a line is dashed, how much of a mark is filled.
DASHES = ([1, 0], [2, 2], [6, 3], [8, 3, 2, 3], [4, 4], [1, 3])
FILLS = {"filled": 1.0, "hollow": 0.0, "pale": 0.35, "dull": 0.7}
_SIZES = (60, 180)  # of marks, from the lowest memory limit to the highest

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"

# Vega expressions: nanoseconds and counts as people read them.
DURATION_LABEL = (
    "datum.value == 0 ? '0' : datum.value < 1e3 ? format(datum.value, '~r') + ' ns' : "
    "datum.value < 1e6 ? format(datum.value / 1e3, '~r') + ' µs' : "
    "datum.value < 1e9 ? format(datum.value / 1e6, '~r') + ' ms' : "
    "format(datum.value / 1e9, '~r') + ' s'"
)

COUNT_LABEL = "datum.value < 1e4 ? format(datum.value, ',') : format(datum.value, '~s')"


@dataclass(frozen=True)
class Theme:
    """Colours of everything drawn: CSS variables in the page, plain values in a picture."""

    ink: str
    soft: str
    grid: str
    page: str
    policies: dict[str, str]
    services: dict[str, str]
    parts: dict[str, str]
    alarm: str
    legend: bool = True

    @classmethod
    def of_page(cls, policies: list[str]) -> Theme:
        """Return the theme whose colours the page's style sheet defines."""
        return cls(
            ink="var(--ink)",
            soft="var(--soft)",
            grid="var(--grid)",
            page="var(--page)",
            policies={
                name: f"var(--policy-{index})" for index, name in enumerate(policy_looks(policies))
            },
            services={name: f"var(--service-{name})" for name in SERVICES},
            parts={name: f"var(--part-{name})" for name in PART_LOOKS},
            alarm="var(--alarm)",
            legend=False,
        )

    @classmethod
    def of_picture(cls, policies: list[str], *, dark: bool = False) -> Theme:
        """Return the theme of a picture on white or on dark."""
        looks = policy_looks(policies)
        at = 1 if dark else 0
        return cls(
            ink="#e8eaed" if dark else "#1b1f24",
            soft="#a9b0ba" if dark else "#57606a",
            grid="#30353c" if dark else "#e3e6ea",
            page=PAGE_DARK if dark else PAGE_LIGHT,
            policies={name: look[at] for name, look in looks.items()},
            services={name: look[at] for name, look in SERVICE_LOOKS.items()},
            parts={name: look[at] for name, look in PART_LOOKS.items()},
            alarm="#ff6b5e" if dark else "#b3261e",
        )


@dataclass(frozen=True)
class Panel:
    """One drawing: its title, its specification, and the scenarios that stand in it."""

    title: str
    spec: Spec
    scenarios: tuple[str, ...]
    policy: str = ""


@dataclass(frozen=True)
class Figure:
    """One question, its answer in words, its panels, and where the numbers come from.

    `datasets` names what the panels draw, of `Figures.datasets`; `table` is the Parquet file and
    `polars` the line that takes these numbers from it; `key` says of a picture's marks what its
    legend does not. The page explains `legend` above the panels; a picture has `beside` of them in a
    row, `panel_width` pixels each.
    """

    name: str
    question: str
    answer: str
    reading: str
    table: str
    polars: str
    datasets: tuple[str, ...]
    panels: tuple[Panel, ...]
    key: tuple[str, ...] = ()
    legend: Literal["", "lines", "points", "services", "parts"] = ""
    beside: int = 2
    panel_width: int = 400


@dataclass(frozen=True)
class Figures:
    """All figures of a result and the frames they draw; every frame has a column `scenario`."""

    rows: list[Row]
    groups: list[Group]
    figures: tuple[Figure, ...]
    datasets: dict[str, pl.DataFrame] = field(default_factory=dict)


def drawn_fields(row: Row) -> Row:
    """Return what a figure may draw of a scenario: its table row, its label, and hover texts."""
    drawn = {key: value for key, value in row.items() if key != "services"}
    drawn["variant"] = row["label"].removeprefix(row["policy"]).strip()
    drawn["limit_text"] = limit_text(row)
    for of in ("swapin", "majfault"):
        for name in ("p50", "p90", "p99", "p999", "max"):
            key = f"{of}_latency_{name}_ns"
            value = row.get(f"shown_{key}", row[key])
            drawn[f"{of}_{name}_text"] = "-" if value is None else in_micro(format_duration(value))
    decompressed = row["zswap_latency_p50_ns"]
    drawn["zswap_p50_text"] = (
        "none" if decompressed is None else in_micro(format_duration(decompressed))
    )
    drawn["stall_text"] = in_micro(format_duration(row["stall_total_ns"]))
    drawn["footprint_text"] = format_size(row["footprint_bytes_peak"])
    drawn["pool_text"] = format_size(row["pool_bytes_peak"])
    drawn["overshoot_text"] = format_size(row["overshoot_bytes_peak"])
    drawn["no_gain_ratio"] = row["reclaim_no_gain_runs"] / max(1, row["reclaim_runs"])
    drawn["state"] = "ended in an OOM kill" if row["killed"] else "finished"
    drawn["danger"] = ", ".join(_danger_words(row))
    return drawn


def limit_text(row: Row) -> str:
    """Return the memory limit as text; the bound without reclaim has none."""
    return "none" if row["policy"] == BOUND else format_size(row["memory_limit_bytes"])


def variants(rows: list[Row]) -> list[str]:
    """Return what else scenarios are told apart by than their policy; the bound has nothing."""
    return list(
        dict.fromkeys(drawn_fields(row)["variant"] for row in rows if row["policy"] != BOUND)
    )


def limits(rows: list[Row]) -> list[str]:
    """Return the memory limits as text, ascending."""
    return list(
        dict.fromkeys(
            limit_text(row)
            for row in sorted(rows, key=lambda row: row["memory_limit_bytes"])
            if row["policy"] != BOUND
        )
    )


def sizes(count: int) -> list[float]:
    """Return the sizes of marks at so many memory limits, ascending."""
    low, high = _SIZES
    return [low + (high - low) * at / max(1, count - 1) for at in range(count)]


def _danger_words(row: Row) -> list[str]:
    words = []
    if row["killed"]:
        words.append("OOM kill")
    elif row["flush_phases_killed"]:
        words.append(f"OOM kill in {row['flush_phases_killed']} of {row['flush_phases']} phases")
    if row["overshoot_bytes_peak"]:
        words.append(f"+{format_size(row['overshoot_bytes_peak'])}")
    return words


SCENARIO_TIPS = [
    {"field": "label", "title": "scenario"},
    {"field": "limit_text", "title": "memory limit"},
    {"field": "swap_ins", "title": "swap-ins", "format": ","},
    {"field": "swapin_p50_text", "title": "p50 swap-in"},
    {"field": "swapin_p99_text", "title": "p99 swap-in"},
    {"field": "swapin_p999_text", "title": "p99.9 swap-in"},
    {"field": "major_faults", "title": "major faults answered", "format": ","},
    {"field": "majfault_p50_text", "title": "p50 major fault"},
    {"field": "majfault_p99_text", "title": "p99 major fault"},
    {"field": "stall_text", "title": "total stall"},
    {"field": "footprint_text", "title": "peak footprint"},
    {"field": "state", "title": "state"},
]


class Draw:
    """Builds the parts of figures of one result in one theme."""

    def __init__(
        self,
        rows: list[Row],
        groups: list[Group],
        theme: Theme,
        footprint: pl.DataFrame,
        buckets: pl.DataFrame,
    ) -> None:
        self.rows, self.groups, self.theme = rows, groups, theme
        self.footprint, self.buckets = footprint, buckets
        self.looks = policy_looks([row["policy"] for row in rows])
        self.variants, self.limits = variants(rows), limits(rows)
        self.traces = list(dict.fromkeys(row["trace"] for row in rows))

    def colour(self, *, legend: bool = True) -> Spec:
        """Return the encoding of a policy by its colour."""
        names = list(self.looks)
        return {
            "field": "policy",
            "type": "nominal",
            "scale": {"domain": names, "range": [self.theme.policies[name] for name in names]},
            "legend": {"title": None} if legend and self.theme.legend else None,
        }

    def shape(self) -> Spec:
        """Return the encoding of a policy by the shape of its mark."""
        names = list(self.looks)
        return {
            "field": "policy",
            "type": "nominal",
            "scale": {"domain": names, "range": [self.looks[name].shape for name in names]},
            "legend": {"title": None} if self.theme.legend else None,
        }

    def dash(self) -> Spec:
        """Dash by what else differs, where something does; else only the bound is dashed."""
        if len(self.variants) > 1:
            return self._by_variant(DASHES)
        return {"condition": {"test": "datum.bound", "value": [5, 4]}, "value": [1, 0]}

    def points(self) -> Spec:
        """Return the encoding of a point: policy, what else differs, and the memory limit."""
        encoding = {
            "color": self.colour(),
            "stroke": self.colour(),
            "shape": self.shape(),
        }
        if len(self.variants) > 1:
            # Vega warns of an opacity that is not ordered.
            encoding["fillOpacity"] = {
                **self._by_variant(tuple(FILLS.values())),
                "type": "ordinal",
            }
        if len(self.limits) > 1:
            encoding["size"] = {
                "field": "limit_text",
                "type": "ordinal",
                "scale": {"domain": self.limits, "range": sizes(len(self.limits))},
                "legend": {
                    "title": "memory limit",
                    "symbolFillColor": self.theme.soft,
                    "symbolStrokeColor": self.theme.soft,
                    "titleFontWeight": "normal",
                }
                if self.theme.legend
                else None,
            }
        return encoding

    def _by_variant(self, looks: tuple[Any, ...]) -> Spec:
        return {
            "field": "variant",
            "type": "nominal",
            "scale": {
                "domain": self.variants,
                "range": [looks[at % len(looks)] for at in range(len(self.variants))],
            },
            "legend": {"title": None} if self.theme.legend else None,
        }

    def faint_key(self, *, bounds: bool = False) -> tuple[str, ...]:
        """Say what a faint mark is, where there is one."""
        meant = []
        if bounds and any(row["bound"] and row["swap_ins"] for row in self.rows):
            meant.append("a bound")
        if any(row["killed"] for row in self.rows):
            meant.append("ended in an OOM kill")
        return (f"faint: {' or '.join(meant)}",) if meant else ()

    def fill_key(self) -> tuple[str, ...]:
        """Say what is filled and what is not: Vega has no legend of that."""
        if len(self.variants) < 2:
            return ()
        named: dict[str, list[str]] = {}
        for at, variant in enumerate(self.variants):
            named.setdefault(list(FILLS)[at % len(FILLS)], []).append(variant)
        return tuple(f"{fill}: {', '.join(names)}" for fill, names in named.items())

    def faded(self, test: str = "datum.killed") -> Spec:
        """Return the encoding of what is not to be taken at face value, killed scenarios at least."""
        return {"condition": {"test": test, "value": 0.4}, "value": 1}

    def config(self) -> Spec:
        """Return what the theme says of axes, legends and text."""
        theme = self.theme
        text = {"labelColor": theme.soft, "titleColor": theme.soft, "labelFontSize": 11}
        return {
            "background": None if theme.page.startswith("var") else theme.page,
            "font": FONT,
            "view": {"stroke": None},
            "axis": {
                **text,
                "gridColor": theme.grid,
                "domainColor": theme.grid,
                "tickColor": theme.grid,
                "titleFontSize": 11,
                "titleFontWeight": "normal",
                "titlePadding": 8,
                "labelPadding": 5,
            },
            "legend": {**text, "symbolSize": 70, "orient": "right"},
            "title": {"color": theme.ink, "fontSize": 13, "anchor": "start", "fontWeight": 600},
            "line": {"strokeWidth": 2},
        }

    def spec(self, dataset: str, **parts: Any) -> Spec:
        """Return a specification that draws a dataset by name."""
        return {
            "$schema": VEGA_LITE,
            "data": {"name": dataset},
            "width": "container",
            "config": self.config(),
            **parts,
        }

    def group_panels(self, spec: Any) -> tuple[Panel, ...]:
        """Return one panel per trace and memory limit."""
        return tuple(
            Panel(
                (f"{group.trace}, " if len(self.traces) > 1 else "") + group.title,
                spec(group),
                tuple(row["scenario"] for row in group.rows),
            )
            for group in self.groups
        )

    def trace_panels(self, spec: Any) -> tuple[Panel, ...]:
        """Return one panel per trace."""
        return tuple(
            Panel(
                trace if len(self.traces) > 1 else "",
                spec([row for row in self.rows if row["trace"] == trace]),
                tuple(row["scenario"] for row in self.rows if row["trace"] == trace),
            )
            for trace in self.traces
        )

    def label_axis(self, group: Group) -> Spec:
        """Return the axis of a bar chart: a row per scenario, in the order of the policies."""
        labels = [row["label"] for row in group.rows]
        order = {row["label"]: list(self.looks).index(row["policy"]) for row in group.rows}
        return {
            "field": "label",
            "type": "nominal",
            "sort": sorted(labels, key=lambda label: (order[label], labels.index(label))),
            "title": None,
            "axis": {
                "ticks": False,
                "domain": False,
                "labelLimit": 150,
                "offset": 14,
                "labelColor": self.theme.ink,
            },
        }

    def swatches(self, axis: Spec) -> Spec:
        """Return a layer that puts each policy's mark beside its name on a bar chart."""
        return {
            "transform": [{"aggregate": [], "groupby": ["label", "policy"]}],
            "mark": {"type": "point", "filled": True, "size": 70, "xOffset": -9, "opacity": 1},
            "encoding": {
                "x": {"value": 0},
                "y": axis,
                "color": self.colour(legend=False),
                "shape": {**self.shape(), "legend": None},
            },
        }


# Which marks stand where they cannot be told apart: within some 2 %.
SPOTS: list[Spec] = [
    {"calculate": "round(log(datum.x) * 50)", "as": "column"},
    {"calculate": "round(log(datum.y) * 25)", "as": "line"},
]


def sentence(text: str) -> str:
    """End the text with a full stop; a policy's name at its start keeps its lower case."""
    start = text.split(" ", 1)[0] in {"at", "on", "percentiles"}
    return (text[:1].upper() if start else text[:1]) + text[1:] + "." if text else ""

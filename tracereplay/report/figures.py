"""The figures of a result, once: data and Vega-Lite, for the HTML page and for pictures alike.

Every figure answers one question from one Parquet table, and carries the line of polars that
takes its numbers from there. A figure has panels (one per memory limit, or per scenario), because
what shares a panel can be compared; a panel is a Vega-Lite specification without data, and the
scenarios whose rows belong in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from tracereplay.report.findings import (
    BASELINE_POLICY,
    BOUND_POLICY,
    POPULATIONS,
    Group,
    Row,
    comparison_groups,
    in_micro,
    labelled_rows,
    marks,
    readahead_note,
    swap_ins,
)
from tracereplay.report.style import (
    PAGE_DARK,
    PAGE_LIGHT,
    PART_LOOKS,
    SERVICE_LOOKS,
    policy_looks,
)
from tracereplay.schema import SERVICES
from tracereplay.units import PAGE_BYTES, format_duration, format_size

Spec = dict[str, Any]

_MIB = 1 << 20
_FOOTPRINT_BINS = 120  # points per scenario in the page: each bin keeps its highest and lowest
_ROW_HEIGHT = 22  # pixels per bar
_SLOWEST_SHARE = 1e-4
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"

# Vega expressions: nanoseconds and counts as people read them.
DURATION_LABEL = (
    "datum.value == 0 ? '0' : datum.value < 1e3 ? format(datum.value, '~r') + ' ns' : "
    "datum.value < 1e6 ? format(datum.value / 1e3, '~r') + ' µs' : "
    "datum.value < 1e9 ? format(datum.value / 1e6, '~r') + ' ms' : "
    "format(datum.value / 1e9, '~r') + ' s'"
)
SHARE_LABEL = (
    "datum.value >= 1 ? 'all' : datum.value >= 0.01 ? format(datum.value, '~%') : "
    "'1 in ' + format(1 / datum.value, ',.0f')"
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
    `polars` the line that takes these numbers from it.
    """

    name: str
    question: str
    answer: str
    reading: str
    table: str
    polars: str
    datasets: tuple[str, ...]
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Figures:
    """All figures of a result and the frames they draw; every frame has a column `scenario`."""

    rows: list[Row]
    groups: list[Group]
    figures: tuple[Figure, ...]
    datasets: dict[str, pl.DataFrame] = field(default_factory=dict)


LATENCY_LINE = (
    'pl.concat([pl.read_parquet("latency.parquet").filter(~pl.col("service").is_in(left_out))'
    '.with_columns(of=pl.lit(of)) for of, left_out in (("swap-ins", ["minor"]), '
    '("major faults", ["minor", "swap_cache"]))])'
    '.group_by("scenario", "of", "latency_ns_high").agg(pl.col("count").sum())'
    '.sort("scenario", "of", "latency_ns_high").with_columns('
    'slower=1 - pl.col("count").cum_sum().over("scenario", "of") '
    '/ pl.col("count").sum().over("scenario", "of"))'
)
SERVICES_LINE = (
    'pl.read_parquet("latency.parquet").group_by("scenario", "service")'
    '.agg(pl.col("count").sum()).sort("scenario", "service")'
)
FOOTPRINT_LINE = (
    'pl.read_parquet("footprint.parquet")'
    '.select("scenario", "access", "time_ns", "resident_pages", "pool_pages", "device_pages")'
)
TRADE_OFF_LINE = (
    'pl.read_parquet("summary.parquet").select("scenario", "footprint_bytes_peak", '
    '"swapin_latency_p50_ns", "swapin_latency_p99_ns", "swapin_latency_p999_ns", "stall_total_ns")'
)
DANGER_LINE = (
    'pl.read_parquet("summary.parquet").select("scenario", "reclaim_runs", "reclaim_no_gain_runs", '
    '"overshoot_bytes_peak", "reclaim_failures", "oom_events", "finished", "oom_at_access", '
    '"flush_phases", "flush_phases_killed")'
)
CODECS_LINE = (
    'pl.read_parquet("latency.parquet").filter(service="zswap").sort("scenario", "latency_ns_high")'
    '.filter(pl.col("count").cum_sum().over("scenario") >= (pl.col("count").sum().over("scenario") / 2).ceil())'
    '.group_by("scenario", maintain_order=True).agg(zswap_latency_p50_ns=pl.col("latency_ns_high").first())'
    '.join(pl.read_parquet("summary.parquet").select("scenario", "codec", "pool_bytes_peak"), on="scenario")'
)
FAULTS_LINE = 'pl.read_parquet("summary.parquet").select("scenario", "policy", "memory_limit_bytes", "pgmajfault")'


def slower_than(latency: pl.DataFrame) -> pl.DataFrame:
    """Return per scenario, population and bucket edge the share that took longer (`LATENCY_LINE`)."""
    whole = ("scenario", "of")
    total = pl.col("count").sum().over(whole)
    return (
        pl.concat(
            latency.filter(~pl.col("service").is_in(left_out)).with_columns(of=pl.lit(of))
            for of, left_out in POPULATIONS.items()
        )
        .group_by(*whole, "latency_ns_high")
        .agg(pl.col("count").sum())
        .sort(*whole, "latency_ns_high")
        .with_columns(slower=1 - pl.col("count").cum_sum().over(whole) / total)
    )


def touches_by_service(latency: pl.DataFrame) -> pl.DataFrame:
    """Return per scenario and service the touches it answered (`SERVICES_LINE`)."""
    return (
        latency.group_by("scenario", "service")
        .agg(pl.col("count").sum())
        .sort("scenario", "service")
    )


def thinned_footprint(footprint: pl.DataFrame) -> pl.DataFrame:
    """Return rows of `FOOTPRINT_LINE`, fewer: of each stretch its highest and its lowest, and the ends."""
    columns = ("scenario", "access", "time_ns", "resident_pages", "pool_pages", "device_pages")
    width = (pl.col("access").max().over("scenario") + 1) / _FOOTPRINT_BINS
    binned = footprint.select(columns).with_columns(
        bin=(pl.col("access") / width).floor(), held=pl.col("resident_pages") + pl.col("pool_pages")
    )
    by_size = binned.sort("held", "access").group_by("scenario", "bin", maintain_order=True)
    by_time = binned.sort("access").group_by("scenario", maintain_order=True)
    picked = [
        part.select(columns)
        for part in (by_size.first(), by_size.last(), by_time.first(), by_time.last())
    ]
    return pl.concat(picked).unique().sort("scenario", "access")


def build_figures(
    summary: pl.DataFrame, latency: pl.DataFrame, footprint: pl.DataFrame, theme: Theme
) -> Figures:
    """Return every figure this result has something to show in."""
    rows = labelled_rows(summary, latency)
    groups = comparison_groups(rows)
    draw = _Draw(rows, groups, theme, footprint, latency)
    figures = [draw.latency(), draw.trade_off(), draw.services(), draw.footprint_over_time()]
    if any(marks(row) for row in rows):
        figures.insert(1, draw.danger())
    if len({row["codec"] for row in rows if row["zswap_latency_p50_ns"]}) > 1:
        figures.insert(-1, draw.codecs())
    if len({row["memory_limit_bytes"] for row in rows if row["policy"] != BOUND_POLICY}) > 1:
        figures.insert(-1, draw.faults())
    return Figures(
        rows,
        groups,
        tuple(figure for figure in figures if figure.panels),
        {
            "latency": slower_than(latency),
            "services": touches_by_service(latency),
            "footprint": thinned_footprint(footprint),
        },
    )


def picture_rows(figures: Figures, dataset: str, scenarios: tuple[str, ...]) -> list[Row]:
    """Return the rows a panel draws, as the page's script joins them: row of the frame + scenario."""
    by_name = {row["scenario"]: drawn_fields(row) for row in figures.rows}
    if dataset == "scenarios":
        return [by_name[name] for name in scenarios]
    frame = figures.datasets[dataset].filter(pl.col("scenario").is_in(scenarios))
    return [{**by_name[row["scenario"]], **row} for row in frame.iter_rows(named=True)]


def drawn_fields(row: Row) -> Row:
    """Return what a figure may draw of a scenario: its table row, its label, and hover texts."""
    drawn = {key: value for key, value in row.items() if key != "services"}
    drawn["variant"] = row["label"].removeprefix(row["policy"]).strip()
    drawn["limit_text"] = limit_text(row)
    for of in ("swapin", "majfault"):
        for name in ("p50", "p90", "p99", "p999", "max"):
            value = row[f"{of}_latency_{name}_ns"]
            drawn[f"{of}_{name}_text"] = (
                "none" if value is None else in_micro(format_duration(value))
            )
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
    return "none" if row["policy"] == BOUND_POLICY else format_size(row["memory_limit_bytes"])


def _danger_words(row: Row) -> list[str]:
    words = []
    if row["killed"]:
        words.append("OOM kill")
    elif row["flush_phases_killed"]:
        words.append(f"OOM kill in {row['flush_phases_killed']} of {row['flush_phases']} phases")
    if row["overshoot_bytes_peak"]:
        words.append(f"+{format_size(row['overshoot_bytes_peak'])}")
    return words


_SCENARIO_TIPS = [
    {"field": "label", "title": "scenario"},
    {"field": "limit_text", "title": "memory limit"},
    {"field": "swapin_p50_text", "title": "p50 swap-in"},
    {"field": "swapin_p99_text", "title": "p99 swap-in"},
    {"field": "swapin_p999_text", "title": "p99.9 swap-in"},
    {"field": "majfault_p50_text", "title": "p50 major fault"},
    {"field": "majfault_p99_text", "title": "p99 major fault"},
    {"field": "stall_text", "title": "total stall"},
    {"field": "footprint_text", "title": "peak footprint"},
    {"field": "state", "title": "state"},
]


class _Draw:
    """Builds the figures of one result in one theme."""

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
        self.variants = list(dict.fromkeys(drawn_fields(row)["variant"] for row in rows))
        self.traces = list(dict.fromkeys(row["trace"] for row in rows))

    # What every figure shares ---------------------------------------------------------------

    def colour(self, *, legend: bool = True) -> Spec:
        names = list(self.looks)
        return {
            "field": "policy",
            "type": "nominal",
            "scale": {"domain": names, "range": [self.theme.policies[name] for name in names]},
            "legend": {"title": None} if legend and self.theme.legend else None,
        }

    def shape(self) -> Spec:
        names = list(self.looks)
        return {
            "field": "policy",
            "type": "nominal",
            "scale": {"domain": names, "range": [self.looks[name].shape for name in names]},
            "legend": {"title": None} if self.theme.legend else None,
        }

    def dash(self) -> Spec:
        """Dash by what else differs, where something does; else only the bound is dashed."""
        dashes = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [1, 3]]
        if len(self.variants) > 1:
            return {
                "field": "variant",
                "type": "nominal",
                "scale": {
                    "domain": self.variants,
                    "range": [dashes[at % len(dashes)] for at in range(len(self.variants))],
                },
                "legend": {"title": None} if self.theme.legend else None,
            }
        return {"condition": {"test": "datum.bound", "value": [5, 4]}, "value": [1, 0]}

    def config(self) -> Spec:
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
        return {
            "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
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
        return tuple(
            Panel(
                trace if len(self.traces) > 1 else "",
                spec([row for row in self.rows if row["trace"] == trace]),
                tuple(row["scenario"] for row in self.rows if row["trace"] == trace),
            )
            for trace in self.traces
        )

    def label_axis(self, group: Group) -> Spec:
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

    # The figures ----------------------------------------------------------------------------

    def latency(self) -> Figure:
        edges = [row["swapin_latency_max_ns"] for row in self.rows if row["swapin_latency_max_ns"]]
        x: Spec = {
            "type": "quantitative",
            # One scale for every panel: memory limits can be compared across.
            "scale": {"type": "log", "nice": False, "domain": self._latency_domain()},
            "axis": {
                "labelExpr": DURATION_LABEL,
                "values": [step * 10**power for power in range(2, 12) for step in (1, 3)],
                "labelOverlap": True,
            },
            "title": "swap-in latency, log axis",
        }
        y: Spec = {
            "type": "quantitative",
            "scale": {"type": "log", "domain": [_SLOWEST_SHARE, 1]},
            "axis": {"values": [1, 0.5, 0.1, 0.01, 0.001, 0.0001], "labelExpr": SHARE_LABEL},
            "title": "share that takes longer",
        }
        guides: list[Spec] = [
            {"share": 0.5, "name": "p50"},
            {"share": 0.01, "name": "p99"},
            {"share": 0.001, "name": "p99.9"},
        ]

        marks: list[Spec] = [
            {
                "data": {"name": "scenarios"},
                "transform": [
                    {
                        "calculate": f"of == 'swap-ins' ? datum.swapin_latency_{name}_ns "
                        f": datum.majfault_latency_{name}_ns",
                        "as": "at",
                    },
                    {"filter": "isValid(datum.at)"},
                    {"calculate": str(share), "as": "share"},
                ],
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                "encoding": {
                    "x": {**x, "field": "at"},
                    "y": {**y, "field": "share"},
                    "color": self.colour(),
                    "shape": self.shape(),
                    "tooltip": _SCENARIO_TIPS,
                },
            }
            for name, share in (("p50", 0.5), ("p99", 0.01), ("p999", 0.001))
        ]

        def panel(_: Group) -> Spec:
            return self.spec(
                "latency",
                height=300,
                params=[{"name": "of", "value": "swap-ins"}],
                layer=[
                    {
                        "data": {"values": guides},
                        "mark": {"type": "rule", "color": self.theme.soft, "strokeDash": [2, 3]},
                        "encoding": {"y": {**y, "field": "share"}},
                    },
                    {
                        "data": {"values": guides},
                        "mark": {
                            "type": "text",
                            "align": "left",
                            "dx": 4,
                            "dy": 8,
                            "color": self.theme.soft,
                            "fontSize": 11,
                        },
                        "encoding": {
                            "x": {"value": 0},
                            "y": {**y, "field": "share"},
                            "text": {"field": "name"},
                        },
                    },
                    {
                        # The slowest bucket has nothing above it: its line leaves the chart below.
                        "transform": [
                            {"filter": "datum.of == of"},
                            {
                                "calculate": f"max(datum.slower, {_SLOWEST_SHARE / 10})",
                                "as": "drawn",
                            },
                        ],
                        "mark": {"type": "line", "interpolate": "step-after", "clip": True},
                        "encoding": {
                            "x": {**x, "field": "latency_ns_high"},
                            "y": {**y, "field": "drawn"},
                            "color": self.colour(),
                            "strokeDash": self.dash(),
                            "detail": {"field": "scenario"},
                            "tooltip": _SCENARIO_TIPS,
                        },
                    },
                    *marks,
                ],
            )

        return Figure(
            "latency",
            "How long does a swap-in take?",
            self._latency_answer() if edges else "No scenario swapped anything in.",
            "Each line falls from all swap-ins to the slowest few: the further left, the faster. "
            "Marks stand at p50, p99 and p99.9. First touches are not swap-ins. "
            + _sentence(readahead_note(self.rows)),
            "latency.parquet",
            LATENCY_LINE,
            ("latency", "scenarios"),
            self.group_panels(panel) if edges else (),
        )

    def _latency_domain(self) -> list[int]:
        """Return from the fastest to the slowest swap-in of all scenarios, ns."""
        shown = self.buckets.filter(pl.col("service") != "minor", pl.col("count") > 0)
        if shown.is_empty():
            return [1, 10]
        low, high = shown.select(
            low=pl.col("latency_ns_high").min(), high=pl.col("latency_ns_high").max()
        ).row(0)
        return [low, max(high, low + 1)]

    def _latency_answer(self) -> str:
        parts = []
        for group in self.groups:
            judged = [
                row
                for row in group.rows
                if row["swapin_latency_p99_ns"] is not None
                and not row["bound"]
                and not row["killed"]
            ]
            if not judged:
                continue
            best = min(judged, key=lambda row: row["swapin_latency_p99_ns"])
            worst = max(judged, key=lambda row: row["swapin_latency_p99_ns"])
            text = (
                f"at {format_size(group.memory_limit_bytes)} p99 is "
                f"{format_duration(best['swapin_latency_p99_ns'])} with {best['label']}"
            )
            if worst is not best:
                text += (
                    f" and {format_duration(worst['swapin_latency_p99_ns'])} with {worst['label']}"
                )
            parts.append(text)
        return _sentence("; ".join(parts))

    def services(self) -> Figure:
        names = list(SERVICES)

        def panel(group: Group) -> Spec:
            axis: Spec = self.label_axis(group)
            return self.spec(
                "services",
                height=_ROW_HEIGHT * len(group.rows),
                usermeta={"row_height": _ROW_HEIGHT},
                layer=[
                    {
                        "transform": [{"filter": "datum.service != 'minor'"}],
                        "mark": {"type": "bar", "height": {"band": 0.72}},
                        "encoding": {
                            "y": axis,
                            "x": {
                                "field": "count",
                                "type": "quantitative",
                                "title": "swap-ins",
                                "axis": {
                                    "labelExpr": COUNT_LABEL,
                                    "tickCount": 6,
                                    "labelOverlap": True,
                                },
                            },
                            "color": {
                                "field": "service",
                                "type": "nominal",
                                "scale": {
                                    "domain": names[1:],
                                    "range": [self.theme.services[name] for name in names[1:]],
                                },
                                "legend": {"title": None} if self.theme.legend else None,
                            },
                            "order": {"field": "service_order", "type": "quantitative"},
                            "tooltip": [
                                {"field": "label", "title": "scenario"},
                                {"field": "service", "title": "answered by"},
                                {"field": "count", "title": "swap-ins", "format": ","},
                            ],
                        },
                    },
                    self.swatches(axis),
                ],
                transform=[
                    {
                        "calculate": f"indexof({names!r}, datum.service)".replace("'", '"'),
                        "as": "service_order",
                    }
                ],
                resolve={"scale": {"color": "independent"}},
            )

        swapped = {row["scenario"]: swap_ins(row) for row in self.rows}
        judged = [row for row in self.rows if not row["bound"] and not row["killed"]]
        answer = ""
        if judged:
            least = min(judged, key=lambda row: row["services"]["device"])
            most = max(judged, key=lambda row: row["services"]["device"])
            answer = (
                f"{most['label']} reads {most['services']['device']:,} pages on demand from the "
                f"device, {least['label']} {least['services']['device']:,}."
            )
            if most["services"]["device"] == least["services"]["device"]:
                answer = "The device answers equally often whatever the policy."
        return Figure(
            "services",
            "Where do swapped pages come back from?",
            answer,
            "Longer bars are more swap-ins; colour says what answered: cheap on the left, the "
            "device on the right.",
            "latency.parquet",
            SERVICES_LINE,
            ("services",),
            self.group_panels(panel) if any(swapped.values()) else (),
        )

    def trade_off(self) -> Figure:
        x: Spec = {
            "field": "x",
            "type": "quantitative",
            "scale": {"zero": False, "nice": True, "padding": 12},
            "axis": {"tickCount": 6},
            "title": "peak footprint (resident + pool), MiB",
        }
        y: Spec = {
            "field": "y",
            "type": "quantitative",
            "scale": {"type": "log", "nice": False, "padding": 14},
            "axis": {
                "labelExpr": DURATION_LABEL,
                "values": [
                    step * 10**power
                    for power in range(1, 12)
                    for step in (10, 15, 20, 30, 40, 50, 70)
                ],
                "labelOverlap": True,
            },
            # The page has a choice of what stands here, and names it there.
            "title": "p99 swap-in latency, log axis" if self.theme.legend else None,
        }
        on_front = [
            {"filter": "!datum.bound && !datum.killed"},
            {
                "window": [{"op": "min", "field": "y", "as": "best"}],
                "frame": [None, 0],
                "sort": [{"field": "x"}, {"field": "y"}],
            },
            {"filter": "datum.y <= datum.best"},
            # Equals of a point on the front cost more memory for the same: they are not on it.
            {
                "window": [{"op": "row_number", "as": "rank"}],
                "groupby": ["y"],
                "sort": [{"field": "x"}],
            },
            {"filter": "datum.rank == 1"},
        ]

        def panel(_: list[Row]) -> Spec:
            return self.spec(
                "scenarios",
                height=340,
                params=[{"name": "metric", "value": "swapin_latency_p99_ns"}],
                transform=[
                    {"calculate": f"datum.footprint_bytes_peak / {_MIB}", "as": "x"},
                    {"calculate": "datum[metric]", "as": "y"},
                    {"filter": "isValid(datum.y) && datum.y > 0"},
                ],
                layer=[
                    {
                        "transform": on_front,
                        "mark": {
                            "type": "line",
                            "interpolate": "step-after",
                            "color": self.theme.soft,
                            "strokeWidth": 1.5,
                            "strokeDash": [4, 3],
                        },
                        "encoding": {"x": x, "y": y, "order": {"field": "x"}},
                    },
                    {
                        "mark": {"type": "point", "filled": True, "size": 110},
                        "encoding": {
                            "x": x,
                            "y": y,
                            "color": self.colour(),
                            "shape": self.shape(),
                            "opacity": {
                                "condition": {"test": "datum.killed || datum.bound", "value": 0.4},
                                "value": 1,
                            },
                            "tooltip": _SCENARIO_TIPS,
                        },
                    },
                    {
                        "transform": [
                            # How many stand where they cannot be told apart: within some 2 %.
                            {"filter": "!datum.bound && !datum.killed"},
                            {"calculate": "round(log(datum.x) * 50)", "as": "column"},
                            {"calculate": "round(log(datum.y) * 25)", "as": "line"},
                            {
                                "joinaggregate": [{"op": "count", "as": "here"}],
                                "groupby": ["column", "line"],
                            },
                            *on_front,
                            {
                                "calculate": "datum.label + "
                                "(datum.here > 1 ? ' +' + (datum.here - 1) : '')",
                                "as": "name",
                            },
                        ],
                        "mark": {
                            "type": "text",
                            "dy": -12,
                            "fontSize": 11,
                            "color": self.theme.ink,
                            "align": "center",
                            "limit": 150,
                        },
                        "encoding": {"x": x, "y": y, "text": {"field": "name"}},
                    },
                ],
            )

        return Figure(
            "trade-off",
            "What does lower latency cost in memory?",
            self._front_answer(),
            "Left is less memory, down is less time lost. The dashed line is the Pareto front: a "
            "scenario off it is beaten in both by one on it; +n: so many others stand on the same "
            "spot. Faint points are bounds and scenarios that were killed; neither can be on the front.",
            "summary.parquet",
            TRADE_OFF_LINE,
            ("scenarios",),
            self.trace_panels(panel),
        )

    def _front_answer(self) -> str:
        texts = []
        for trace in self.traces:
            names = dict.fromkeys(
                row["label"]
                for row in pareto_front(
                    [row for row in self.rows if row["trace"] == trace], "swapin_latency_p99_ns"
                )
            )
            at = f" for {trace}" if len(self.traces) > 1 else ""
            if names:
                texts.append(f"on the front{at}, by p99: {', '.join(names)}")
        return _sentence("; ".join(texts))

    def danger(self) -> Figure:
        def panel(group: Group) -> Spec:
            axis: Spec = self.label_axis(group)
            return self.spec(
                "scenarios",
                height=_ROW_HEIGHT * len(group.rows),
                usermeta={"row_height": _ROW_HEIGHT},
                layer=[
                    {
                        "mark": {"type": "bar", "height": {"band": 0.72}},
                        "encoding": {
                            "y": axis,
                            "x": {
                                "field": "no_gain_ratio",
                                "type": "quantitative",
                                "axis": {"format": "~%", "tickCount": 5},
                                "title": "runs of reclaim that gained nothing",
                            },
                            "color": {"value": self.theme.alarm},
                            "tooltip": [
                                {"field": "label", "title": "scenario"},
                                {
                                    "field": "reclaim_no_gain_runs",
                                    "title": "no gain",
                                    "format": ",",
                                },
                                {"field": "reclaim_runs", "title": "runs", "format": ","},
                                {"field": "overshoot_text", "title": "over the limit by"},
                                {"field": "state", "title": "state"},
                            ],
                        },
                    },
                    # What does not fit behind a long bar stands in it.
                    *(
                        {
                            "transform": [
                                {
                                    "joinaggregate": [
                                        {"op": "max", "field": "no_gain_ratio", "as": "top"}
                                    ]
                                },
                                {"filter": f"{'!' * inside}(datum.no_gain_ratio <= datum.top / 2)"},
                            ],
                            "mark": {
                                "type": "text",
                                "align": "right" if inside else "left",
                                "dx": -5 if inside else 5,
                                "fontSize": 11,
                                "color": self.theme.page if inside else self.theme.ink,
                            },
                            "encoding": {
                                "y": axis,
                                "x": {"field": "no_gain_ratio", "type": "quantitative"},
                                "text": {"field": "danger"},
                            },
                        }
                        for inside in (False, True)
                    ),
                    self.swatches(axis),
                ],
            )

        killed = [row["label"] for row in self.rows if row["killed"]]
        gainless = [row for row in self.rows if row["reclaim_no_gain_runs"]]
        answer = []
        if killed:
            answer.append(f"{', '.join(dict.fromkeys(killed))} ended in an OOM kill")
        risky = [row for row in self.rows if row["flush_phases_killed"] and not row["killed"]]
        if risky:
            worst = max(risky, key=lambda row: row["flush_phases_killed"] / row["flush_phases"])
            answer.append(
                f"{worst['label']} at {format_size(worst['memory_limit_bytes'])} is killed in "
                f"{worst['flush_phases_killed']} of {worst['flush_phases']} phases of the statistics flush"
            )
        if gainless:
            worst = max(gainless, key=lambda row: drawn_fields(row)["no_gain_ratio"])
            answer.append(
                f"{worst['label']} at {format_size(worst['memory_limit_bytes'])} reclaimed in vain in "
                f"{worst['reclaim_no_gain_runs']:,} of {worst['reclaim_runs']:,} runs"
            )
        over = max(self.rows, key=lambda row: row["overshoot_bytes_peak"])
        if over["overshoot_bytes_peak"]:
            answer.append(
                f"{over['label']} stood up to {format_size(over['overshoot_bytes_peak'])} over the limit"
            )
        return Figure(
            "danger",
            "Where does reclaim go wrong?",
            _sentence("; ".join(answer)),
            "A run that ends with no more free memory than it began stored pages whose copies are "
            "charged as much as the pages gave back. +size: peak of what is charged over the limit. "
            "Phases: replays with the cgroup's statistics flushed at other moments.",
            "summary.parquet",
            DANGER_LINE,
            ("scenarios",),
            self.group_panels(panel),
        )

    def codecs(self) -> Figure:
        def panel(_: list[Row]) -> Spec:
            x: Spec = {
                "field": "x",
                "type": "quantitative",
                "scale": {"zero": False, "nice": True, "padding": 14},
                "axis": {"tickCount": 6},
                "title": "peak pool, MiB",
            }
            y: Spec = {
                "field": "zswap_latency_p50_ns",
                "type": "quantitative",
                "scale": {"zero": False, "nice": True, "padding": 14},
                "axis": {"labelExpr": DURATION_LABEL, "tickCount": 6},
                "title": "p50 of a fault that decompresses",
            }
            return self.spec(
                "scenarios",
                height=260,
                transform=[
                    {"filter": "isValid(datum.zswap_latency_p50_ns)"},
                    {"calculate": f"datum.pool_bytes_peak / {_MIB}", "as": "x"},
                ],
                layer=[
                    {
                        "mark": {"type": "point", "filled": True, "size": 90},
                        "encoding": {
                            "x": x,
                            "y": y,
                            "color": self.colour(),
                            "shape": self.shape(),
                            "tooltip": [
                                {"field": "label", "title": "scenario"},
                                {"field": "limit_text", "title": "memory limit"},
                                {"field": "codec", "title": "codec"},
                                {"field": "pool_text", "title": "peak pool"},
                                {
                                    "field": "zswap_p50_text",
                                    "title": "p50 of a decompressing fault",
                                },
                            ],
                        },
                    },
                    {
                        "transform": [
                            {
                                "aggregate": [
                                    {"op": "mean", "field": "x", "as": "x"},
                                    {
                                        "op": "max",
                                        "field": "zswap_latency_p50_ns",
                                        "as": "zswap_latency_p50_ns",
                                    },
                                ],
                                "groupby": ["codec", "memory_limit_bytes"],
                            }
                        ],
                        "mark": {
                            "type": "text",
                            "dy": -12,
                            "fontSize": 11,
                            "color": self.theme.ink,
                        },
                        "encoding": {"x": x, "y": y, "text": {"field": "codec"}},
                    },
                ],
            )

        return Figure(
            "codecs",
            "What does a tighter codec cost?",
            self._codec_answer(),
            "One point per scenario that loads from zswap: left is a smaller pool, down is a faster "
            "fault. The fault's time includes the trap, not the reclaim it may have to do.",
            "latency.parquet",
            CODECS_LINE,
            ("scenarios",),
            self.trace_panels(panel),
        )

    def _codec_answer(self) -> str:
        texts = []
        for codec in dict.fromkeys(row["codec"] for row in self.rows):
            rows = [
                row for row in self.rows if row["codec"] == codec and row["zswap_latency_p50_ns"]
            ]
            if rows:
                pools = [row["pool_bytes_peak"] for row in rows]
                times = [row["zswap_latency_p50_ns"] for row in rows]
                texts.append(
                    f"{codec}: {_span(pools, format_size)} pool, {_span(times, format_duration)} a fault"
                )
        return _sentence("; ".join(texts))

    def faults(self) -> Figure:
        def panel(_: list[Row]) -> Spec:
            encoding: Spec = {
                "x": {
                    "field": "x",
                    "type": "quantitative",
                    "scale": {"zero": False, "padding": 10},
                    "axis": {"tickCount": 8},
                    "title": "memory limit, MiB",
                },
                "y": {
                    "field": "pgmajfault",
                    "type": "quantitative",
                    "axis": {"labelExpr": COUNT_LABEL, "tickCount": 6},
                    "title": "major faults",
                },
                "color": self.colour(),
                "detail": {"field": "label"},
                "tooltip": [
                    {"field": "label", "title": "scenario"},
                    {"field": "limit_text", "title": "memory limit"},
                    {"field": "pgmajfault", "title": "major faults", "format": ","},
                    {"field": "state", "title": "state"},
                ],
            }
            return self.spec(
                "scenarios",
                height=300,
                transform=[
                    {"filter": f"datum.policy != '{BOUND_POLICY}'"},
                    {"calculate": f"datum.memory_limit_bytes / {_MIB}", "as": "x"},
                ],
                layer=[
                    {
                        # What a killed scenario counted before its end lies on no line.
                        "transform": [{"filter": "!datum.killed"}],
                        "mark": "line",
                        "encoding": {**encoding, "strokeDash": self.dash()},
                    },
                    {
                        "mark": {"type": "point", "filled": True, "size": 70},
                        "encoding": {
                            **encoding,
                            "shape": self.shape(),
                            "opacity": {
                                "condition": {"test": "datum.killed", "value": 0.4},
                                "value": 1,
                            },
                        },
                    },
                ],
            )

        low, high = self.groups[0], self.groups[-1]
        base = next((row for row in low.rows if row["policy"] == BASELINE_POLICY), low.rows[0])
        same = [row for row in high.rows if row["label"] == base["label"]]
        answer = ""
        if same:
            answer = (
                f"{base['label']}: {base['pgmajfault']:,} major faults at "
                f"{format_size(low.memory_limit_bytes)}, {same[0]['pgmajfault']:,} at "
                f"{format_size(high.memory_limit_bytes)}."
            )
        return Figure(
            "faults",
            "How much would more memory help?",
            answer,
            "Major faults at each memory limit that was run. Faint points ended in an OOM kill "
            "and count only what ran before.",
            "summary.parquet",
            FAULTS_LINE,
            ("scenarios",),
            self.trace_panels(panel),
        )

    def footprint_over_time(self) -> Figure:
        timed = bool(len(self.footprint)) and self.footprint["time_ns"].null_count() == 0
        x: Spec = {
            "field": "x",
            "type": "quantitative",
            "axis": {"tickCount": 5, "grid": False},
            "title": "time in the trace, s" if timed else "rows of the trace, million",
            "scale": {"nice": False},
        }
        start = "datum.time_ns / 1e9" if timed else "datum.access / 1e6"
        parts = list(PART_LOOKS)
        scale = PAGE_BYTES / _MIB
        tops = {
            trace: self._footprint_top([row for row in self.rows if row["trace"] == trace])
            for trace in self.traces
        }

        def panel(row: Row) -> Spec:
            layers: list[Spec] = [
                {
                    "transform": [{"fold": parts, "as": ["part", "mib"]}],
                    "mark": {"type": "area", "interpolate": "linear", "opacity": 0.95},
                    "encoding": {
                        "x": x,
                        "y": {
                            "field": "mib",
                            "type": "quantitative",
                            "stack": "zero",
                            "title": "MiB",
                            "scale": {"domain": [0, tops[row["trace"]]], "nice": False},
                            "axis": {"tickCount": 4},
                        },
                        "order": {"field": "part_order", "type": "quantitative"},
                        "color": {
                            "field": "part",
                            "type": "nominal",
                            "scale": {
                                "domain": parts,
                                "range": [self.theme.parts[name] for name in parts],
                            },
                            "legend": {"title": None} if self.theme.legend else None,
                        },
                    },
                }
            ]
            layers[0]["transform"].append(
                {
                    "calculate": f"indexof({parts!r}, datum.part)".replace("'", '"'),
                    "as": "part_order",
                }
            )
            if row["policy"] != BOUND_POLICY:
                layers.append(
                    {
                        "data": {"values": [{"limit": row["memory_limit_bytes"] / _MIB}]},
                        "mark": {
                            "type": "rule",
                            "color": self.theme.alarm,
                            "strokeDash": [5, 3],
                            "strokeWidth": 1.5,
                        },
                        "encoding": {"y": {"field": "limit", "type": "quantitative"}},
                    }
                )
            layers.append(
                {
                    "params": [
                        {
                            "name": "near",
                            "select": {
                                "type": "point",
                                "on": "pointerover",
                                "nearest": True,
                                "clear": "pointerout",
                                "encodings": ["x"],
                            },
                        }
                    ],
                    "mark": {"type": "rule", "color": self.theme.ink},
                    "encoding": {
                        "x": x,
                        "opacity": {
                            "condition": {"param": "near", "empty": False, "value": 0.6},
                            "value": 0,
                        },
                        "tooltip": [
                            {"field": "access", "title": "access", "format": ","},
                            {"field": "resident", "title": "resident, MiB", "format": ",.1f"},
                            {"field": "pool", "title": "pool, MiB", "format": ",.1f"},
                            {"field": "device", "title": "device, MiB", "format": ",.1f"},
                        ],
                    },
                }
            )
            return self.spec(
                "footprint",
                height=150,
                transform=[
                    {"calculate": start, "as": "x"},
                    *({"calculate": f"datum.{name}_pages * {scale}", "as": name} for name in parts),
                ],
                layer=layers,
            )

        shown = set(self.footprint["scenario"].unique())
        several = len({row["memory_limit_bytes"] for row in self.rows}) > 1
        panels = tuple(
            Panel(
                row["label"]
                + (f", {limit_text(row)}" if several and row["policy"] != BOUND_POLICY else "")
                + (f", {row['trace']}" if len(self.traces) > 1 else ""),
                panel(row),
                (row["scenario"],),
                row["policy"],
            )
            for row in sorted(
                self.rows,
                key=lambda row: (
                    self.traces.index(row["trace"]),
                    row["memory_limit_bytes"] if row["policy"] != BOUND_POLICY else 1 << 62,
                    list(self.looks).index(row["policy"]),
                ),
            )
            if row["scenario"] in shown
        )
        return Figure(
            "footprint",
            "Where is the memory over the trace?",
            self._pool_answer(),
            "Stacked: resident pages, the zswap pool, data on the device. The dashed line is the "
            "memory limit; under cgroup v2 it counts the pool too. All panels share one scale.",
            "footprint.parquet",
            FOOTPRINT_LINE,
            ("footprint",),
            panels,
        )

    def _footprint_top(self, rows: list[Row]) -> float:
        names = [row["scenario"] for row in rows]
        total = (
            self.footprint.filter(pl.col("scenario").is_in(names))
            .select(
                (pl.col("resident_pages") + pl.col("pool_pages") + pl.col("device_pages")).max()
            )
            .item()
        )
        limits = [row["memory_limit_bytes"] for row in rows if row["policy"] != BOUND_POLICY]
        return float(max((total or 0) * PAGE_BYTES, *limits, 1)) / _MIB * 1.05

    def _pool_answer(self) -> str:
        pooled = [row for row in self.rows if row["pool_bytes_peak"]]
        if not pooled:
            return "No scenario keeps a pool."
        most = max(pooled, key=lambda row: row["pool_bytes_peak"])
        return (
            f"The largest pool is {format_size(most['pool_bytes_peak'])}, with {most['label']} at "
            f"{format_size(most['memory_limit_bytes'])}."
        )


def pareto_front(rows: list[Row], metric: str) -> list[Row]:
    """Return the scenarios that none beats in both peak footprint and `metric`, by footprint.

    Bounds and killed scenarios stay out; so does one without a value.
    """
    front: list[Row] = []
    judged = [row for row in rows if not row["bound"] and not row["killed"] and row[metric]]
    for row in sorted(judged, key=lambda row: (row["footprint_bytes_peak"], row[metric])):
        if not front or row[metric] < front[-1][metric]:
            front.append(row)
    return front


def _sentence(text: str) -> str:
    """End the text with a full stop; a policy's name at its start keeps its lower case."""
    start = text.split(" ", 1)[0] in {"at", "on", "percentiles"}
    return (text[:1].upper() if start else text[:1]) + text[1:] + "." if text else ""


def _span(values: list[int], say: Callable[[int], str]) -> str:
    low, high = say(min(values)), say(max(values))
    return low if low == high else f"{low} to {high}"

"""How long a swap-in takes."""

from __future__ import annotations

import polars as pl

from tracereplay.latency import SWAP_IN_SERVICES
from tracereplay.report.figures.base import (
    DURATION_LABEL,
    SCENARIO_TIPS,
    Draw,
    Figure,
    Spec,
    sentence,
)
from tracereplay.report.findings import FEW_NOTE, FEWEST_EVENTS, POPULATIONS, Group, readahead_note
from tracereplay.units import format_duration, format_size

_SLOWEST_SHARE = 1e-4
_P99 = "shown_swapin_latency_p99_ns"

SHARE_LABEL = (
    "datum.value >= 1 ? 'all' : datum.value >= 0.01 ? format(datum.value, '~%') : "
    "'1 in ' + format(1 / datum.value, ',.0f')"
)

LATENCY_LINE = (
    'pl.concat([pl.read_parquet("latency.parquet").filter(~pl.col("service").is_in(left_out))'
    '.with_columns(of=pl.lit(of)) for of, left_out in (("swap-ins", ["minor"]), '
    '("major faults", ["minor", "swap_cache"]))])'
    '.group_by("scenario", "of", "latency_ns_high").agg(pl.col("count").sum())'
    '.sort("scenario", "of", "latency_ns_high").with_columns('
    'slower=1 - pl.col("count").cum_sum().over("scenario", "of") '
    '/ pl.col("count").sum().over("scenario", "of"))'
)


def latency_figure(draw: Draw) -> Figure:
    """Return lines of the share of swap-ins that takes longer."""
    edges = [row["swapin_latency_max_ns"] for row in draw.rows if row["swapin_latency_max_ns"]]
    x: Spec = {
        "type": "quantitative",
        # One scale for every panel: memory limits can be compared across.
        "scale": {"type": "log", "nice": False, "domain": _latency_domain(draw)},
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
                    "calculate": f"of == 'swap-ins' ? datum.shown_swapin_latency_{name}_ns "
                    f": datum.shown_majfault_latency_{name}_ns",
                    "as": "at",
                },
                {"filter": "isValid(datum.at)"},
                {"calculate": str(share), "as": "share"},
            ],
            "mark": {"type": "point", "filled": True, "size": 60},
            "encoding": {
                "x": {**x, "field": "at"},
                "y": {**y, "field": "share"},
                "color": draw.colour(),
                "shape": draw.shape(),
                "opacity": draw.faded(),
                "tooltip": SCENARIO_TIPS,
            },
        }
        for name, share in (("p50", 0.5), ("p99", 0.01), ("p999", 0.001))
    ]

    def panel(_: Group) -> Spec:
        return draw.spec(
            "latency",
            height=300,
            params=[{"name": "of", "value": "swap-ins"}],
            layer=[
                {
                    "data": {"values": guides},
                    "mark": {"type": "rule", "color": draw.theme.soft, "strokeDash": [2, 3]},
                    "encoding": {"y": {**y, "field": "share"}},
                },
                {
                    "data": {"values": guides},
                    "mark": {
                        "type": "text",
                        "align": "left",
                        "dx": 4,
                        "dy": 8,
                        "color": draw.theme.soft,
                        "fontSize": 11,
                    },
                    "encoding": {
                        "x": {"value": 0},
                        "y": {**y, "field": "share"},
                        "text": {"field": "name"},
                    },
                },
                {
                    # Nothing is slower than the slowest: a line ends at the share that one is.
                    "transform": [
                        {"filter": "datum.of == of"},
                        {
                            "calculate": "max(datum.slower, 1 / "
                            "(of == 'swap-ins' ? datum.swap_ins : datum.major_faults))",
                            "as": "drawn",
                        },
                    ],
                    "mark": {"type": "line", "interpolate": "step-after", "clip": True},
                    "encoding": {
                        "x": {**x, "field": "latency_ns_high"},
                        "y": {**y, "field": "drawn"},
                        "color": draw.colour(),
                        "strokeDash": draw.dash(),
                        "opacity": draw.faded(),
                        "detail": {"field": "scenario"},
                        "tooltip": SCENARIO_TIPS,
                    },
                },
                *marks,
            ],
        )

    return Figure(
        "latency",
        "How long does a swap-in take?",
        _latency_answer(draw) if edges else "No scenario swapped anything in.",
        "Each line falls from all swap-ins to the slowest few: the further left, the faster. "
        f"It ends at the slowest one. Marks stand at p50, p99 and p99.9; {FEW_NOTE}. First touches "
        "are not swap-ins. Faint lines ended in an OOM kill and cover only what ran before. "
        + sentence(readahead_note(draw.rows, "column p50 major below")),
        "latency.parquet",
        LATENCY_LINE,
        ("latency", "scenarios"),
        draw.group_panels(panel) if edges else (),
        draw.faint_key(),
        legend="lines",
    )


def _latency_domain(draw: Draw) -> list[int]:
    """Return from the fastest to the slowest swap-in of all scenarios, ns."""
    shown = draw.buckets.filter(pl.col("service").is_in(SWAP_IN_SERVICES), pl.col("count") > 0)
    if shown.is_empty():
        return [1, 10]
    low, high = shown.select(
        low=pl.col("latency_ns_high").min(), high=pl.col("latency_ns_high").max()
    ).row(0)
    return [low, max(high, low + 1)]


def _latency_answer(draw: Draw) -> str:
    parts = []
    for group in draw.groups:
        judged = [
            row
            for row in group.rows
            if row[_P99] is not None and not row["bound"] and not row["killed"]
        ]
        if not judged:
            continue
        best = min(judged, key=lambda row: row[_P99])
        worst = max(judged, key=lambda row: row[_P99])
        text = f"{group.trace}, " if len(draw.traces) > 1 else ""
        text += (
            f"at {format_size(group.memory_limit_bytes)} p99 is "
            f"{format_duration(best[_P99])} with {best['label']}"
        )
        if worst[_P99] > best[_P99]:
            text += f" and {format_duration(worst[_P99])} with {worst['label']}"
        parts.append(text)
    return sentence("; ".join(parts)) or (
        f"No scenario that finished has the {FEWEST_EVENTS['p99']} swap-ins of which a p99 says something."
    )


def slower_than(latency: pl.DataFrame) -> pl.DataFrame:
    """Return per scenario, population and bucket edge the share that took longer (`LATENCY_LINE`)."""
    whole = ("scenario", "of")
    total = pl.col("count").sum().over(whole)
    return (
        pl.concat(
            latency.filter(pl.col("service").is_in(services)).with_columns(of=pl.lit(of))
            for of, services in POPULATIONS.items()
        )
        .group_by(*whole, "latency_ns_high")
        .agg(pl.col("count").sum())
        .sort(*whole, "latency_ns_high")
        .with_columns(slower=1 - pl.col("count").cum_sum().over(whole) / total)
    )

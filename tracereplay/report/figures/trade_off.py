"""What lower latency costs in memory."""

from __future__ import annotations

from tracereplay.report.figures.base import (
    DURATION_LABEL,
    MIB,
    SCENARIO_TIPS,
    SPOTS,
    Draw,
    Figure,
    Spec,
    sentence,
)
from tracereplay.report.findings import FEW_NOTE, Row, namer

TRADE_OFF_LINE = (
    'pl.read_parquet("summary.parquet").select("scenario", "footprint_bytes_peak", '
    '"swapin_latency_p50_ns", "swapin_latency_p99_ns", "swapin_latency_p999_ns", "stall_total_ns")'
)

METRIC = "shown_swapin_latency_p99_ns"  # what the vertical axis is at first


def trade_off_figure(draw: Draw) -> Figure:
    """Return one point per scenario, latency against peak footprint, and the Pareto front."""
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
                step * 10**power for power in range(1, 12) for step in (10, 15, 20, 30, 40, 50, 70)
            ],
            "labelOverlap": True,
        },
        # The page has a choice of what stands here, and names it there.
        "title": "p99 swap-in latency, log axis" if draw.theme.legend else None,
    }
    find_front = [
        {"filter": "!datum.bound && !datum.killed"},
        {
            "window": [{"op": "min", "field": "y", "as": "best"}],
            "frame": [None, 0],
            "sort": [{"field": "x"}, {"field": "y"}],
        },
        # Equals of a point on the front cost more memory for the same: they are not on it.
        {
            "window": [{"op": "row_number", "as": "rank"}],
            "groupby": ["y"],
            "sort": [{"field": "x"}],
        },
        {"calculate": "datum.y <= datum.best && datum.rank == 1 ? 1 : 0", "as": "on_front"},
    ]

    def panel(_: list[Row]) -> Spec:
        return draw.spec(
            "scenarios",
            height=340,
            params=[{"name": "metric", "value": METRIC}],
            transform=[
                {"calculate": f"datum.footprint_bytes_peak / {MIB}", "as": "x"},
                {"calculate": "datum[metric]", "as": "y"},
                {"filter": "isValid(datum.y) && datum.y > 0"},
            ],
            layer=[
                {
                    "transform": [*find_front, {"filter": "datum.on_front"}],
                    "mark": {
                        "type": "line",
                        "interpolate": "step-after",
                        "color": draw.theme.soft,
                        "strokeWidth": 1.5,
                        "strokeDash": [4, 3],
                    },
                    "encoding": {"x": x, "y": y, "order": {"field": "x"}},
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 110, "strokeWidth": 1.5},
                    "encoding": {
                        "x": x,
                        "y": y,
                        **draw.points(),
                        "opacity": draw.faded("datum.killed || datum.bound"),
                        "tooltip": SCENARIO_TIPS,
                    },
                },
                {
                    "transform": [
                        *find_front,
                        *SPOTS,
                        {
                            "joinaggregate": [
                                {"op": "count", "as": "here"},
                                {"op": "max", "field": "on_front", "as": "front_here"},
                            ],
                            "groupby": ["column", "line"],
                        },
                        {
                            "window": [{"op": "row_number", "as": "at_spot"}],
                            "groupby": ["column", "line"],
                        },
                        # Off the front one of a spot says how many more stand there.
                        {
                            "filter": "datum.on_front || "
                            "!datum.front_here && datum.here > 1 && datum.at_spot == 1"
                        },
                        {
                            "calculate": "(datum.on_front ? datum.label : '') + "
                            "(datum.here > 1 ? ' +' + (datum.here - 1) : '')",
                            "as": "name",
                        },
                    ],
                    "mark": {
                        "type": "text",
                        "dy": -14,
                        "fontSize": 11,
                        "color": draw.theme.ink,
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
        _front_answer(draw),
        "Left is less memory, down is less time lost. The dashed line is the Pareto front: a "
        "scenario off it is beaten by one on it in one of the two, and not better in the other; +n: so "
        "many others stand on the same spot. Faint points are bounds and scenarios that were killed; neither can be on the front. "
        f"A scenario without a percentile has no point: {FEW_NOTE}.",
        "summary.parquet",
        TRADE_OFF_LINE,
        ("scenarios",),
        draw.trace_panels(panel),
        (*draw.fill_key(), *draw.faint_key(bounds=True)),
        legend="points",
    )


def _front_answer(draw: Draw) -> str:
    texts = []
    for trace in draw.traces:
        rows = [row for row in draw.rows if row["trace"] == trace]
        names = dict.fromkeys(map(namer(rows), pareto_front(rows, METRIC)))
        at = f" for {trace}" if len(draw.traces) > 1 else ""
        if names:
            texts.append(f"on the front{at}, by p99: {', '.join(names)}")
    return sentence("; ".join(texts))


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

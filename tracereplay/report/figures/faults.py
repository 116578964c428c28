"""How much more memory would help."""

from __future__ import annotations

from tracereplay.policies import BASELINE, BOUND
from tracereplay.report.figures.base import COUNT_LABEL, MIB, Draw, Figure, Spec
from tracereplay.report.findings import Row
from tracereplay.units import format_size

FAULTS_LINE = 'pl.read_parquet("summary.parquet").select("scenario", "policy", "memory_limit_bytes", "pgmajfault")'


def faults_figure(draw: Draw) -> Figure:
    """Return lines of major faults by memory limit."""

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
            "color": draw.colour(),
            "detail": {"field": "label"},
            "tooltip": [
                {"field": "label", "title": "scenario"},
                {"field": "limit_text", "title": "memory limit"},
                {"field": "pgmajfault", "title": "major faults", "format": ","},
                {"field": "state", "title": "state"},
            ],
        }
        return draw.spec(
            "scenarios",
            height=300,
            transform=[
                {"filter": f"datum.policy != '{BOUND}'"},
                {"calculate": f"datum.memory_limit_bytes / {MIB}", "as": "x"},
            ],
            layer=[
                {
                    # What a killed scenario counted before its end lies on no line.
                    "transform": [{"filter": "!datum.killed"}],
                    "mark": "line",
                    "encoding": {**encoding, "strokeDash": draw.dash()},
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 70},
                    "encoding": {
                        **encoding,
                        "shape": draw.shape(),
                        "opacity": draw.faded(),
                    },
                },
            ],
        )

    return Figure(
        "faults",
        "How much would more memory help?",
        _faults_answer(draw),
        "Major faults at each memory limit that was run. Faint points ended in an OOM kill "
        "and count only what ran before.",
        "summary.parquet",
        FAULTS_LINE,
        ("scenarios",),
        draw.trace_panels(panel),
        draw.faint_key(),
        legend="lines",
    )


def _faults_answer(draw: Draw) -> str:
    """Say what the most memory wins over the least, of one trace and of plain swap where it ran."""
    for trace in draw.traces:
        groups = [group for group in draw.groups if group.trace == trace]
        low, high = groups[0], groups[-1]
        lived = {row["label"]: row for row in high.rows if not row["killed"]}
        both = [row for row in low.rows if row["label"] in lived and not row["killed"]]
        both = [row for row in both if row["policy"] != BOUND]
        if low is high or not both:
            continue
        base = next((row for row in both if row["policy"] == BASELINE), both[0])
        return (
            f"{base['label']}{f' with {trace}' if len(draw.traces) > 1 else ''}: "
            f"{base['pgmajfault']:,} major faults at {format_size(low.memory_limit_bytes)}, "
            f"{lived[base['label']]['pgmajfault']:,} at {format_size(high.memory_limit_bytes)}."
        )
    return ""

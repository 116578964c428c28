"""How much more memory would help."""

from __future__ import annotations

from tracereplay.report.figures.base import COUNT_LABEL, MIB, Draw, Figure, Spec
from tracereplay.report.findings import BASELINE_POLICY, BOUND_POLICY, Row
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
                {"filter": f"datum.policy != '{BOUND_POLICY}'"},
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

    low, high = draw.groups[0], draw.groups[-1]
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
        draw.trace_panels(panel),
        draw.faint_key(),
    )

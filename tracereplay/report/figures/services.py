"""Where swapped pages come back from."""

from __future__ import annotations

import polars as pl

from tracereplay.latency import SWAP_IN_SERVICES
from tracereplay.report.figures.base import COUNT_LABEL, ROW_HEIGHT, Draw, Figure, Spec
from tracereplay.report.findings import Group, namer
from tracereplay.schema import SERVICES

SERVICES_LINE = (
    'pl.read_parquet("latency.parquet").group_by("scenario", "service")'
    '.agg(pl.col("count").sum()).sort("scenario", "service")'
)


def services_figure(draw: Draw) -> Figure:
    """Return bars of swap-ins by what answered."""
    first_touches = [name for name in SERVICES if name not in SWAP_IN_SERVICES]
    swap_ins = " && ".join(f"datum.service != '{name}'" for name in first_touches)

    def panel(group: Group) -> Spec:
        axis: Spec = draw.label_axis(group)
        return draw.spec(
            "services",
            height=ROW_HEIGHT * len(group.rows),
            usermeta={"row_height": ROW_HEIGHT},
            layer=[
                {
                    "transform": [{"filter": swap_ins}],
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
                                "domain": list(SWAP_IN_SERVICES),
                                "range": [draw.theme.services[name] for name in SWAP_IN_SERVICES],
                            },
                            "legend": {"title": None} if draw.theme.legend else None,
                        },
                        "order": {"field": "service_order", "type": "quantitative"},
                        "tooltip": [
                            {"field": "label", "title": "scenario"},
                            {"field": "service", "title": "answered by"},
                            {"field": "count", "title": "swap-ins", "format": ","},
                        ],
                    },
                },
                draw.swatches(axis),
            ],
            transform=[
                {
                    "calculate": f"indexof({list(SERVICES)!r}, datum.service)".replace("'", '"'),
                    "as": "service_order",
                }
            ],
            resolve={"scale": {"color": "independent"}},
        )

    judged = [row for row in draw.rows if not row["bound"] and not row["killed"]]
    answer = ""
    if judged:
        name = namer(draw.rows)
        least = min(judged, key=lambda row: row["services"]["device"])
        most = max(judged, key=lambda row: row["services"]["device"])
        answer = (
            f"{name(most)} reads {most['services']['device']:,} pages on demand from the device"
        )
        if len(judged) == 1:
            answer += "."
        elif most["services"]["device"] > least["services"]["device"]:
            answer += f", {name(least)} {least['services']['device']:,}."
        else:
            answer = (
                f"The device answers {most['services']['device']:,} times in every scenario that "
                "finished."
            )
    return Figure(
        "services",
        "Where do swapped pages come back from?",
        answer,
        "Longer bars are more swap-ins; colour says what answered: cheap on the left, the "
        "device on the right.",
        "latency.parquet",
        SERVICES_LINE,
        ("services",),
        draw.group_panels(panel) if any(row["swap_ins"] for row in draw.rows) else (),
        legend="services",
    )


def touches_by_service(latency: pl.DataFrame) -> pl.DataFrame:
    """Return per scenario and service the touches it answered (`SERVICES_LINE`)."""
    return (
        latency.group_by("scenario", "service")
        .agg(pl.col("count").sum())
        .sort("scenario", "service")
    )

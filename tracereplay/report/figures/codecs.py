"""What a tighter codec costs."""

from __future__ import annotations

from tracereplay.report.figures.base import (
    DURATION_LABEL,
    MIB,
    Draw,
    Figure,
    Spec,
    sentence,
)
from tracereplay.report.findings import Row, format_span
from tracereplay.units import format_duration, format_size

CODECS_LINE = (
    'pl.read_parquet("latency.parquet").filter(service="zswap").sort("scenario", "latency_ns_high")'
    '.filter(pl.col("count").cum_sum().over("scenario") >= (pl.col("count").sum().over("scenario") / 2).ceil())'
    '.group_by("scenario", maintain_order=True).agg(zswap_latency_p50_ns=pl.col("latency_ns_high").first())'
    '.join(pl.read_parquet("summary.parquet").select("scenario", "codec", "pool_bytes_peak"), on="scenario")'
)


def codecs_figure(draw: Draw) -> Figure:
    """Return one point per scenario: size of the pool, and time of a fault that decompresses."""

    def panel(_: list[Row]) -> Spec:
        x: Spec = {
            "field": "x",
            "type": "quantitative",
            "scale": {"zero": False, "nice": True, "padding": 14},
            "axis": {"tickCount": 6},
            "title": "peak pool, MiB",
        }
        y: Spec = {
            "field": "y",
            "type": "quantitative",
            "scale": {"zero": False, "nice": True, "padding": 14},
            "axis": {"labelExpr": DURATION_LABEL, "tickCount": 6},
            "title": "p50 of a fault that decompresses",
        }
        return draw.spec(
            "scenarios",
            height=260,
            transform=[
                {"filter": "isValid(datum.zswap_latency_p50_ns)"},
                {"calculate": f"datum.pool_bytes_peak / {MIB}", "as": "x"},
                {"calculate": "datum.zswap_latency_p50_ns", "as": "y"},
            ],
            layer=[
                {
                    "mark": {"type": "point", "filled": True, "size": 90, "strokeWidth": 1.5},
                    "encoding": {
                        "x": x,
                        "y": y,
                        **draw.points(),
                        "opacity": draw.faded(),
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
                        # One name for neighbours of a codec: names are wider than points.
                        {"calculate": "round(log(datum.x) * 20)", "as": "column"},
                        {"calculate": "round(log(datum.y) * 8)", "as": "line"},
                        {
                            "window": [{"op": "row_number", "as": "at_spot"}],
                            "groupby": ["codec", "column", "line"],
                        },
                        {"filter": "datum.at_spot == 1"},
                    ],
                    "mark": {
                        "type": "text",
                        "dy": -14,
                        "fontSize": 11,
                        "color": draw.theme.ink,
                    },
                    "encoding": {"x": x, "y": y, "text": {"field": "codec"}},
                },
            ],
        )

    return Figure(
        "codecs",
        "What does a tighter codec cost?",
        _codec_answer(draw),
        "One point per scenario that loads from zswap: left is a smaller pool, down is a faster "
        "fault. The fault's time includes the reclaim it had to do, which compresses. Faint points "
        "ended in an OOM kill and cover only what ran before.",
        "latency.parquet",
        CODECS_LINE,
        ("scenarios",),
        draw.trace_panels(panel),
        (*draw.fill_key(), *draw.faint_key()),
        legend="points",
    )


def _codec_answer(draw: Draw) -> str:
    texts = []
    for codec in dict.fromkeys(row["codec"] for row in draw.rows):
        rows = [
            row
            for row in draw.rows
            if row["codec"] == codec and row["zswap_latency_p50_ns"] and not row["killed"]
        ]
        if rows:
            pools = [row["pool_bytes_peak"] for row in rows]
            times = [row["zswap_latency_p50_ns"] for row in rows]
            texts.append(
                f"{codec}: {format_span(pools, format_size)} pool, {format_span(times, format_duration)} a fault"
            )
    return sentence("; ".join(texts))

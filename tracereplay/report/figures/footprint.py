"""Where the memory is over the trace."""

from __future__ import annotations

import polars as pl

from tracereplay.policies import BOUND
from tracereplay.report.figures.base import MIB, Draw, Figure, Panel, Spec, limit_text
from tracereplay.report.findings import Row, namer
from tracereplay.report.style import PART_LOOKS
from tracereplay.units import PAGE_BYTES, format_size

_FOOTPRINT_BINS = 120  # points per scenario in the page: each bin keeps its highest and lowest

FOOTPRINT_LINE = (
    'pl.read_parquet("footprint.parquet")'
    '.select("scenario", "access", "time_ns", "resident_pages", "pool_pages", "device_pages")'
)


def footprint_figure(draw: Draw) -> Figure:
    """Return the parts of memory stacked over the trace, a panel per scenario."""
    timed = bool(len(draw.footprint)) and draw.footprint["time_ns"].null_count() == 0
    column, unit = ("time_ns", 1e9) if timed else ("access", 1e6)
    ends = {
        trace: _last(draw, column, [row for row in draw.rows if row["trace"] == trace]) / unit
        for trace in draw.traces
    }
    parts = list(PART_LOOKS)
    scale = PAGE_BYTES / MIB
    tops = {
        trace: _footprint_top(draw, [row for row in draw.rows if row["trace"] == trace])
        for trace in draw.traces
    }

    def panel(row: Row) -> Spec:
        x: Spec = {
            "field": "x",
            "type": "quantitative",
            "axis": {"tickCount": 5, "grid": False},
            "title": "time in the trace, s" if timed else "rows of the trace, million",
            # The whole trace: a killed scenario ends where it was killed.
            "scale": {"domain": [0, ends[row["trace"]]], "nice": False},
        }
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
                            "range": [draw.theme.parts[name] for name in parts],
                        },
                        "legend": {"title": None} if draw.theme.legend else None,
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
        if row["policy"] != BOUND:
            layers.append(
                {
                    "data": {"values": [{"limit": row["memory_limit_bytes"] / MIB}]},
                    "mark": {
                        "type": "rule",
                        "color": draw.theme.alarm,
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
                "mark": {"type": "rule", "color": draw.theme.ink},
                "encoding": {
                    "x": x,
                    "opacity": {
                        "condition": {"param": "near", "empty": False, "value": 0.6},
                        "value": 0,
                    },
                    "tooltip": [
                        {"field": "access", "title": "row", "format": ","},
                        {"field": "resident", "title": "resident, MiB", "format": ",.1f"},
                        {"field": "pool", "title": "pool, MiB", "format": ",.1f"},
                        {"field": "device", "title": "device, MiB", "format": ",.1f"},
                    ],
                },
            }
        )
        return draw.spec(
            "footprint",
            height=150,
            transform=[
                {"calculate": f"datum.{column} / {unit:g}", "as": "x"},
                *({"calculate": f"datum.{name}_pages * {scale}", "as": name} for name in parts),
            ],
            layer=layers,
        )

    shown = set(draw.footprint["scenario"].unique())
    several = len({row["memory_limit_bytes"] for row in draw.rows}) > 1
    panels = tuple(
        Panel(
            row["label"]
            + (f", {limit_text(row)}" if several and row["policy"] != BOUND else "")
            + (f", {row['trace']}" if len(draw.traces) > 1 else ""),
            panel(row),
            (row["scenario"],),
            row["policy"],
        )
        for row in sorted(
            draw.rows,
            key=lambda row: (
                draw.traces.index(row["trace"]),
                row["memory_limit_bytes"] if row["policy"] != BOUND else 1 << 62,
                list(draw.looks).index(row["policy"]),
            ),
        )
        if row["scenario"] in shown
    )
    return Figure(
        "footprint",
        "Where is the memory over the trace?",
        _pool_answer(draw),
        "Stacked: resident pages, the zswap pool, data on the device. The dashed line is the "
        "memory limit; under cgroup v2 it counts the pool of zswap too. "
        + ("All panels of a trace" if len(draw.traces) > 1 else "All panels")
        + " share one scale.",
        "footprint.parquet",
        FOOTPRINT_LINE,
        ("footprint",),
        panels,
        legend="parts",
        beside=3,
        panel_width=230,
    )


def _last(draw: Draw, column: str, rows: list[Row]) -> float:
    """Return how far the longest of these scenarios came; at least 1."""
    names = [row["scenario"] for row in rows]
    return max(draw.footprint.filter(pl.col("scenario").is_in(names))[column].max() or 0, 1)  # type: ignore[return-value]  # a number


def _footprint_top(draw: Draw, rows: list[Row]) -> float:
    names = [row["scenario"] for row in rows]
    total = (
        draw.footprint.filter(pl.col("scenario").is_in(names))
        .select((pl.col("resident_pages") + pl.col("pool_pages") + pl.col("device_pages")).max())
        .item()
    )
    limits = [row["memory_limit_bytes"] for row in rows if row["policy"] != BOUND]
    return float(max((total or 0) * PAGE_BYTES, *limits, 1)) / MIB * 1.05


def _pool_answer(draw: Draw) -> str:
    pooled = [row for row in draw.rows if row["pool_bytes_peak"]]
    if not pooled:
        return "No scenario keeps a pool."
    most = max(pooled, key=lambda row: row["pool_bytes_peak"])
    return (
        f"The largest pool is {format_size(most['pool_bytes_peak'])}, that of "
        f"{namer(draw.rows)(most)}."
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

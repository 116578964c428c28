"""A miss curve as a picture: misses over memory, knees marked, the error bar of a sample."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import polars as pl

from tracereplay.errors import OutputError
from tracereplay.files import replacing
from tracereplay.miss_curve import knees_of
from tracereplay.report.curve_tables import spread_rows
from tracereplay.report.figures import COUNT_LABEL, FONT, VEGA_LITE, Spec, Theme
from tracereplay.report.findings import printable
from tracereplay.units import format_size

_POINTS = 1500  # of a curve: more than a picture has pixels
_PROCESSES = 8  # as many colours as people tell apart; those with the most misses
_TICKS = 9
_SIZE_LABEL = (
    "datum.value >= 1073741824 ? format(datum.value / 1073741824, '~r') + ' GiB' : "
    "datum.value >= 1048576 ? format(datum.value / 1048576, '~r') + ' MiB' : "
    "format(datum.value / 1024, '~r') + ' KiB'"
)
_LINE = "#0b62c4"
_COLOURS = (
    "#0b62c4",
    "#d1495b",
    "#2e8b57",
    "#8e5bb5",
    "#c77700",
    "#00838f",
    "#6d4c41",
    "#5c6b7a",
)


def write_curve_plot(path: Path, frame: pl.DataFrame, name: str, *, force: bool = False) -> None:
    """Draw a frame of `tracereplay.curve` or `sampled_curve` as SVG or PNG, by the file's ending.

    Raises
    ------
    OutputError
        Another ending, the file exists and `force` is not given, or it cannot be written.
    """
    if path.suffix not in (".svg", ".png"):
        raise OutputError(f"{path}: a plot ends in .svg or .png")
    import vl_convert

    drawing = vl_convert.vegalite_to_svg(curve_spec(frame, name))
    with replacing(path, force=force) as part:
        if path.suffix == ".svg":
            part.write_text(drawing, encoding="utf-8")
        else:
            part.write_bytes(vl_convert.svg_to_png(drawing, scale=2))


def curve_spec(frame: pl.DataFrame, name: str) -> Spec:
    """Return the Vega-Lite specification with its data."""
    theme = Theme.of_picture([])
    by_pid = "pid" in frame.columns
    parts = frame.partition_by("pid", maintain_order=True) if by_pid else [frame]
    parts = [part.sort("memory_bytes") for part in parts if part.height]
    left_out = max(len(parts) - _PROCESSES, 0)
    if left_out:
        parts = sorted(parts, key=lambda part: -part["misses"][0])[:_PROCESSES]
    curve: list[dict[str, Any]] = []
    marks: list[dict[str, Any]] = []
    names = []
    for part in parts:
        of = f"pid {part['pid'][0]}" if by_pid else "misses"
        names.append(of)
        marked = knees_of(part)
        curve += [_point(part, row, of) for row in spread_rows(part, marked, _POINTS)]
        marks += [_point(part, row, of) for row in marked]
    sampled = "misses_low" in frame.columns
    x: Spec = {
        "field": "memory",
        "type": "quantitative",
        "title": "memory",
        "scale": {"type": "log", "base": 2, "nice": False},
        "axis": {"values": _ticks(curve), "labelExpr": _SIZE_LABEL},
    }
    colour: Spec = {"value": _LINE}
    if by_pid:
        scale = {"domain": names, "range": list(_COLOURS[: len(names)])}
        colour = {"field": "of", "type": "nominal", "title": None, "scale": scale, "sort": None}
    axis = {"labelExpr": COUNT_LABEL}
    y: Spec = {"field": "misses", "type": "quantitative", "title": "misses", "axis": axis}
    layers: list[Spec] = []
    if sampled:
        band = {"y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": {"value": _LINE}}
        layers.append({"mark": {"type": "area", "opacity": 0.2}, "encoding": {"x": x, **band}})
    # Between two sizes nothing is gained before the larger one.
    shape = "linear" if sampled else "step-after"
    line = {"type": "line", "interpolate": shape, "strokeWidth": 2}
    layers.append({"mark": line, "encoding": {"x": x, "y": y, "color": colour}})
    on_knees: Spec = {"data": {"values": marks}, "encoding": {"x": x, "y": y, "color": colour}}
    layers.append({**on_knees, "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1}})
    text = {"type": "text", "align": "left", "dx": 7, "dy": -7}
    labelled = {**on_knees["encoding"], "text": {"field": "label"}}
    layers.append({"data": {"values": marks}, "mark": text, "encoding": labelled})
    if not by_pid and curve:
        layers += _first_touches(parts[0], theme, sampled=sampled)
    return {
        "$schema": VEGA_LITE,
        "title": {
            "text": "How many misses does each size of memory leave?",
            "subtitle": [_caption(name, parts, left_out, sampled=sampled)],
            "color": theme.ink,
            "subtitleColor": theme.soft,
            "fontSize": 16,
            "subtitleFontSize": 12,
            "anchor": "start",
            "offset": 16,
        },
        "width": 620,
        "height": 300,
        "padding": 16,
        "background": theme.page,
        "data": {"values": curve},
        "layer": layers,
        "config": {
            "font": FONT,
            "view": {"stroke": None},
            "axis": {
                "labelColor": theme.soft,
                "titleColor": theme.soft,
                "gridColor": theme.grid,
                "domainColor": theme.grid,
                "tickColor": theme.grid,
                "labelFontSize": 12,
                "titleFontSize": 12,
            },
            "legend": {"labelColor": theme.ink, "labelFontSize": 12},
            "text": {"fontSize": 12},
        },
    }


def _point(part: pl.DataFrame, row: int, of: str) -> dict[str, Any]:
    values = part.row(row, named=True)
    point = {
        "memory": values["memory_bytes"],
        "misses": values["misses"],
        "of": of,
        "label": format_size(values["memory_bytes"]),
    }
    if "misses_low" in values:
        point |= {"low": values["misses_low"], "high": values["misses_high"]}
    return point


def _ticks(curve: list[dict[str, Any]]) -> list[int]:
    if not curve:
        return []
    sizes = [point["memory"] for point in curve]
    first, last = math.ceil(math.log2(min(sizes))), math.floor(math.log2(max(sizes)))
    step = max(1, -(-(last - first + 1) // _TICKS))
    return [1 << power for power in range(first, last + 1, step)]


def _first_touches(part: pl.DataFrame, theme: Theme, *, sampled: bool) -> list[Spec]:
    """Return a line below which no memory comes: the first touch of a page always misses."""
    cold = int(part["cold_misses"][0])
    rows = [{"cold": cold, "memory": int(part["memory_bytes"][0])}]
    y: Spec = {"field": "cold", "type": "quantitative"}
    rule = {"type": "rule", "strokeDash": [4, 4], "color": theme.soft}
    text = {"type": "text", "align": "left", "dx": 4, "dy": -7, "color": theme.soft}
    about = "about " if sampled else ""
    said = {"value": f"first touches: {about}{cold:,}"}
    x: Spec = {"field": "memory", "type": "quantitative"}
    return [
        {"data": {"values": rows}, "mark": rule, "encoding": {"y": y}},
        {"data": {"values": rows}, "mark": text, "encoding": {"x": x, "y": y, "text": said}},
    ]


def _caption(name: str, parts: list[pl.DataFrame], left_out: int, *, sampled: bool) -> str:
    words = [printable(name), "exact LRU, first touches included"]
    if sampled:
        words[1] = "LRU, estimated from a sample; shaded: 95 % at each size"
    if any(knees_of(part) for part in parts):
        words.append("dots: knees")
    if left_out:
        words.append(f"{left_out} more processes left out")
    return " · ".join(words)

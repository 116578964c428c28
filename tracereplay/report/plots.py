"""The figures of the report as pictures, one SVG and PNG per figure."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from tracereplay.errors import OutputError, strerror, unknown_name
from tracereplay.files import check_free, replacing
from tracereplay.report.figures import (
    NAMES,
    Figure,
    Figures,
    Panel,
    Spec,
    Theme,
    build_figures,
    picture_rows,
)
from tracereplay.report.findings import in_micro, printable, printable_frame, touched_pages

FORMATS = ("svg", "png")

_MOST_PANELS = 48  # of one picture: it is for the eye, and drawing 234 of them ran out of memory


class Picture:
    """A figure as a notebook shows it."""

    def __init__(self, png: bytes) -> None:
        self.png = png

    def __repr__(self) -> str:  # without an address, so that a notebook run again stays the same
        return f"<Picture: PNG, {len(self.png):,} bytes>"

    def _repr_png_(self) -> bytes:
        return self.png


class _Result(Protocol):
    summary: pl.DataFrame
    latency: pl.DataFrame
    footprint: pl.DataFrame
    run: dict[str, Any]


def picture(result: _Result, name: str) -> Picture:
    """Draw one figure of a result of `tracereplay.compare`, for a notebook.

    Raises
    ------
    SettingsError
        The result has no figure of this name.
    """
    import vl_convert

    theme = Theme.of_picture(printable_frame(result.summary)["policy"].to_list())
    figures = build_figures(
        printable_frame(result.summary),
        printable_frame(result.latency),
        printable_frame(result.footprint),
        theme,
        touched_pages(result.run),
    )
    by_name = {figure.name: figure for figure in figures.figures}
    if name not in by_name:
        raise unknown_name("figure", name, list(by_name))
    spec = picture_spec(by_name[name], figures, result.run, theme)
    return Picture(vl_convert.vegalite_to_png(spec, scale=1))


def check_plots(folder: str | Path, *, force: bool = False) -> None:
    """Raise OutputError where a figure that write_plots() may draw is there and `force` is not given."""
    place = Path(folder)
    if place.exists() and not place.is_dir():
        raise OutputError(f"{place} is a file; name a folder")
    if place.is_dir():
        for name in NAMES:
            for ending in FORMATS:
                check_free(place / f"{name}.{ending}", force=force)


def write_plots(
    folder: str | Path,
    summary: pl.DataFrame,
    latency: pl.DataFrame,
    footprint: pl.DataFrame,
    run: dict[str, Any],
    *,
    formats: tuple[str, ...] = FORMATS,
    force: bool = False,
) -> list[Path]:
    """Draw every figure into `folder` and return the files, FIGURE.svg and FIGURE.png each.

    Raises
    ------
    OutputError
        A file exists and `force` is not given, or the folder cannot be written.
    """
    import vl_convert

    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{place}: {strerror(error)}") from error
    summary, latency, footprint = map(printable_frame, (summary, latency, footprint))
    theme = Theme.of_picture(summary["policy"].to_list())
    figures = build_figures(summary, latency, footprint, theme, touched_pages(run))
    written = []
    for figure in figures.figures:
        drawing = vl_convert.vegalite_to_svg(picture_spec(figure, figures, run, theme))
        for name in formats:
            path = place / f"{figure.name}.{name}"
            with replacing(path, force=force) as part:
                if name == "svg":
                    part.write_text(drawing, encoding="utf-8")
                else:
                    part.write_bytes(vl_convert.svg_to_png(drawing, scale=2))
            written.append(path)
    return written


def picture_spec(figure: Figure, figures: Figures, run: dict[str, Any], theme: Theme) -> Spec:
    """Return one Vega-Lite specification with the data of its panels in it."""
    shown = figure.panels[:_MOST_PANELS]
    left_out = ""
    if len(shown) < len(figure.panels):
        left_out = f"{len(shown)} of {len(figure.panels)} panels; the page of `--out` has them all"
    columns, width = figure.beside, figure.panel_width
    if len(shown) == 1:
        columns, width = 1, 620
    datasets: dict[str, Any] = {}
    panels = []
    params = {param["name"]: param for panel in shown for param in panel.spec.get("params", [])}
    for at, panel in enumerate(shown):
        spec = _standing_alone(panel, at, width)
        if at:
            _drop_legends(spec)
        for name in figure.datasets:
            datasets[f"{name}-{at}"] = picture_rows(figures, name, panel.scenarios)
        panels.append(spec)
    config = copy.deepcopy(figure.panels[0].spec["config"])
    config["concat"] = {"spacing": 24}
    return {
        "$schema": figure.panels[0].spec["$schema"],
        "title": {
            "text": figure.question,
            "subtitle": [
                line
                for line in (
                    in_micro(printable(figure.answer)),
                    *_caption(figure, figures, run),
                    left_out,
                )
                if line
            ],
            "color": theme.ink,
            "subtitleColor": theme.soft,
            "subtitleFontSize": 12,
            "fontSize": 16,
            "offset": 16,
        },
        "padding": 16,
        "config": config,
        "datasets": datasets,
        "params": list(params.values()),
        "columns": columns,
        "concat": panels,
    }


def _standing_alone(panel: Panel, at: int, width: int) -> Spec:
    spec = copy.deepcopy(panel.spec)
    for key in ("$schema", "config", "params", "usermeta"):
        spec.pop(key, None)
    spec["width"] = width
    if panel.title:
        spec["title"] = printable(panel.title)
    _name_data(spec, at)
    return spec


def _name_data(part: Any, at: int) -> None:
    """Give every named dataset and parameter of a panel a name of its own."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "data" and "name" in value:
                value["name"] += f"-{at}"
            elif key == "params" and isinstance(value, list):
                for param in value:
                    if "select" in param:
                        param["name"] += f"_{at}"
            elif key == "param":
                part[key] = f"{value}_{at}"
            else:
                _name_data(value, at)
    elif isinstance(part, list):
        for item in part:
            _name_data(item, at)


def _drop_legends(part: Any) -> None:
    if isinstance(part, dict):
        if "legend" in part:
            part["legend"] = None
        for value in part.values():
            _drop_legends(value)
    elif isinstance(part, list):
        for item in part:
            _drop_legends(item)


def _caption(figure: Figure, figures: Figures, run: dict[str, Any]) -> list[str]:
    """Return lines: what was replayed, what it was replayed with, what marks mean."""
    trace = run.get("trace") if isinstance(run.get("trace"), dict) else None
    names = list(dict.fromkeys(row["trace"] for row in figures.rows))
    replayed = [", ".join(names)]
    if trace and trace.get("accesses") is not None:
        replayed.append(f"{trace['accesses']:,} accesses")
    settings = []
    for key in ("codec", "kernel", "cgroup", "device"):
        values = list(dict.fromkeys(str(row[key]) for row in figures.rows if row[key]))
        settings += [f"{key} {', '.join(values)}"] if values else []
    # Contents are told per codec, which stands before.
    codecs = "|".join({re.escape(row["codec"]) for row in figures.rows if row["codec"]})
    told = str(run.get("content") or "").split("; ")
    contents = "; ".join(dict.fromkeys(re.sub(f", ({codecs})$", "", part) for part in told))
    settings += [f"contents {contents}"] if contents else []
    return [printable(" · ".join(parts)) for parts in (replayed, settings, figure.key) if parts]

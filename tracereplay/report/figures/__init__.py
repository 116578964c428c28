"""The figures of a result, once: data and Vega-Lite, for the HTML page and for pictures alike.

Every figure answers one question from one Parquet table, and carries the line of polars that
takes its numbers from there. A figure has panels (one per memory limit, or per scenario), because
what shares a panel can be compared; a panel is a Vega-Lite specification without data, and the
scenarios whose rows belong in it. Each stands in a file of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from tracereplay.policies import BOUND
from tracereplay.report.figures.base import (
    COUNT_LABEL,
    DASHES,
    FILLS,
    FONT,
    VEGA_LITE,
    Draw,
    Figure,
    Figures,
    Panel,
    Spec,
    Theme,
    drawn_fields,
    limit_text,
    limits,
    sizes,
    variants,
)
from tracereplay.report.figures.codecs import codecs_figure
from tracereplay.report.figures.danger import danger_figure
from tracereplay.report.figures.faults import faults_figure
from tracereplay.report.figures.footprint import footprint_figure, thinned_footprint
from tracereplay.report.figures.latency import latency_figure, slower_than
from tracereplay.report.figures.services import services_figure, touches_by_service
from tracereplay.report.figures.trade_off import pareto_front, trade_off_figure
from tracereplay.report.findings import (
    Row,
    comparison_groups,
    labelled_rows,
    marks,
    told_once,
)

__all__ = [
    "COUNT_LABEL", "DASHES", "FILLS", "FONT", "VEGA_LITE", "Figure", "Figures", "Panel", "Spec",
    "Theme", "build_figures", "drawn_fields", "limit_text", "limits", "pareto_front", "picture_rows",
    "sizes", "thinned_footprint", "variants",
]  # fmt: skip


def _has_several_codecs(rows: list[Row]) -> bool:
    return len({row["codec"] for row in rows if row["zswap_latency_p50_ns"]}) > 1


def _has_several_limits(rows: list[Row]) -> bool:
    return len({row["memory_limit_bytes"] for row in rows if row["policy"] != BOUND}) > 1


# What draws each figure, in the order of the page, and whether these scenarios have something for it.
_FIGURES: dict[str, tuple[Callable[[Draw], Figure], Callable[[list[Row]], bool]]] = {
    "latency": (latency_figure, bool),
    "danger": (danger_figure, lambda rows: any(map(marks, rows))),
    "trade-off": (trade_off_figure, bool),
    "services": (services_figure, bool),
    "codecs": (codecs_figure, _has_several_codecs),
    "faults": (faults_figure, _has_several_limits),
    "footprint": (footprint_figure, bool),
}
NAMES = tuple(_FIGURES)


def build_figures(
    summary: pl.DataFrame,
    latency: pl.DataFrame,
    footprint: pl.DataFrame,
    theme: Theme,
    touched: int = 0,
) -> Figures:
    """Return every figure this result has something to show in."""
    summary = told_once(summary)
    latency, footprint = (
        frame.join(summary, on="scenario", how="semi", maintain_order="left")
        for frame in (latency, footprint)
    )
    rows = labelled_rows(summary, latency)
    groups = comparison_groups(rows, touched)
    draw = Draw(rows, groups, theme, footprint, latency)
    figures = [figure(draw) for figure, has_some in _FIGURES.values() if has_some(rows)]
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

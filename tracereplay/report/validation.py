"""Model against kernel, as text and as one picture."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from tracereplay.report.style import KERNEL_COLOURS
from tracereplay.units import format_count

_SIDE, _MARGIN = 520, 60

_OTHER_KERNEL = "#808080"  # one that has no colour of its own


def agreement_table(frame: pl.DataFrame) -> str:
    """Return rows of `validation.validate()` as text, one block per run."""
    lines = []
    last = None
    for row in frame.iter_rows(named=True):
        if row["run"] != last:
            last = row["run"]
            lines += [
                f"{last}  (linux {_release(row)}, {row['reclaim']}, cgroup {row['cgroup']})",
                f"  {'counter':26} {'kernel':>11} {'model':>11} {'error':>8}  kernel's own spread",
            ]
        error = "" if row["error"] is None else f"{row['error']:+.2%}"
        lines.append(
            f"  {row['counter']:26} {_number(row['kernel']):>11} {_number(row['model']):>11} "
            f"{error:>8}  {_spread(row)}".rstrip()
        )
    return "\n".join(lines)


def _release(row: dict[str, Any]) -> str:
    if row["release"] == row["rules"]:
        return str(row["release"])
    return f"{row['release']} by the rules of {row['rules']}"


def _spread(row: dict[str, Any]) -> str:
    low, high = row["kernel_min"], row["kernel_max"]
    if low is None or low == high:
        return ""
    text = f"{_number(low)} to {_number(high)}"
    return f"{text} ({(high - low) / row['kernel']:.1%})" if row["kernel"] else text


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if 0 < value < 10 and value != int(value) else f"{value:,.0f}"


def agreement_plot(frame: pl.DataFrame) -> str:
    """Return an SVG: one point per run and counter, model over kernel, both on log axes."""
    counted = ~pl.col("counter").str.ends_with("_ns")  # times have another scale
    points = frame.filter(counted & (pl.col("kernel") > 0) & (pl.col("model") > 0))
    top = 1
    if points.height:
        largest = float(
            points.select(pl.max_horizontal("kernel", "model")).to_series().to_numpy().max()
        )
        top = math.ceil(math.log10(max(largest, 10.0)))
    scale = (_SIDE - 2 * _MARGIN) / top

    def at(value: float) -> float:
        return max(math.log10(value), 0.0) * scale

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_SIDE} {_SIDE}" '
            'font-family="sans-serif" font-size="12">'
        ),
        f'<rect width="{_SIDE}" height="{_SIDE}" fill="white"/>',
        (
            f'<text x="{_MARGIN}" y="24" font-size="15">Model against kernel: '
            f"{format_count(points['run'].n_unique(), 'run')}, "
            f"{format_count(points.height, 'counter')}</text>"
        ),
        (
            f'<line x1="{_MARGIN}" y1="{_SIDE - _MARGIN}" x2="{_SIDE - _MARGIN}" y2="{_MARGIN}" '
            'stroke="#999" stroke-dasharray="4 3"/>'
        ),
    ]
    for power in range(top + 1):
        x, y = _MARGIN + power * scale, _SIDE - _MARGIN - power * scale
        parts += [
            f'<line x1="{x:.1f}" y1="{_SIDE - _MARGIN}" x2="{x:.1f}" y2="{_MARGIN}" stroke="#eee"/>',
            f'<line x1="{_MARGIN}" y1="{y:.1f}" x2="{_SIDE - _MARGIN}" y2="{y:.1f}" stroke="#eee"/>',
            f'<text x="{x:.1f}" y="{_SIDE - _MARGIN + 18}" text-anchor="middle">{10**power:,}</text>',
            f'<text x="{_MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">{10**power:,}</text>',
        ]
    for row in points.iter_rows(named=True):
        x, y = _MARGIN + at(row["kernel"]), _SIDE - _MARGIN - at(row["model"])
        colour = KERNEL_COLOURS.get(row["rules"], _OTHER_KERNEL)
        label = (
            f"{row['run']} {row['counter']}: kernel {row['kernel']:.0f}, model {row['model']:.0f}"
        )
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}" fill-opacity="0.6">'
            f"<title>{_escape(label)}</title></circle>"
        )
    for step, (release, colour) in enumerate(KERNEL_COLOURS.items()):
        y = _MARGIN + 14 + 18 * step
        parts += [
            f'<circle cx="{_MARGIN + 12}" cy="{y}" r="4" fill="{colour}"/>',
            f'<text x="{_MARGIN + 22}" y="{y + 4}">Linux {release}</text>',
        ]
    parts += [
        f'<text x="{_SIDE / 2}" y="{_SIDE - 16}" text-anchor="middle">kernel, events</text>',
        (
            f'<text x="16" y="{_SIDE / 2}" text-anchor="middle" '
            f'transform="rotate(-90 16 {_SIDE / 2})">model, events</text>'
        ),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

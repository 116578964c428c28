"""report.html: one file that needs no network, made from the frames of a result and its run.

Vega and Vega-Lite draw the figures in the reader's browser, so that filters and hover work; they
come out of vl-convert, which also draws the pictures of `--plots`. The data stands in the page
once, as columns; the script joins rows to scenarios and hands each panel what the filters leave.
Colours are CSS variables, so that dark, light and print need no drawing anew.

Whatever comes from a trace or a command line is text: escaped in HTML, `<` escaped in JSON, and
without characters that turn the direction of writing.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import html
import json
import re
from collections.abc import Iterable
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import polars as pl

import tracereplay
from tracereplay.errors import OutputError
from tracereplay.files import replacing
from tracereplay.latency import SWAP_IN_SERVICES
from tracereplay.policies import BOUND
from tracereplay.report.figures import (
    DASHES,
    FILLS,
    Figure,
    Figures,
    Theme,
    build_figures,
    drawn_fields,
    limit_text,
    limits,
    sizes,
    variants,
)
from tracereplay.report.findings import (
    FEW_NOTE,
    Verdict,
    dangers,
    in_micro,
    marks,
    printable,
    printable_frame,
    touched_pages,
    verdict,
)
from tracereplay.report.style import (
    BAR_SHAPE,
    PAGE_DARK,
    PAGE_LIGHT,
    PART_LOOKS,
    SERVICE_LOOKS,
    X_SHAPE,
    policy_looks,
)
from tracereplay.schema import COVERAGES
from tracereplay.units import format_count, format_duration, format_size


def _meaning(coverage: str) -> str:
    """Say what a source of this coverage could see."""
    if coverage not in COVERAGES:
        return "what the source could see is not known"
    return COVERAGES[coverage].warning or COVERAGES[coverage].can


# What a reader may filter by, where the result holds more than one value of it.
_FILTERS = (
    ("policy", "Policy"),
    ("memory_limit_bytes", "Memory limit"),
    ("codec", "Codec"),
    ("reclaim", "Reclaim"),
    ("device", "Device"),
    ("trace", "Trace"),
)

# What a reader may choose in a figure: id of the control → figure, signal of its specification,
# text before it, and the values; the first one is what the figure shows at first.
_CHOICES: dict[str, tuple[str, str, str, dict[str, str]]] = {
    "population": (
        "latency",
        "of",
        "of",
        {"swap-ins": "all swap-ins", "major faults": "major faults alone"},
    ),
    "metric": (
        "trade-off",
        "metric",
        "vertical axis, log:",
        {
            "shown_swapin_latency_p99_ns": "p99 swap-in latency",
            "shown_swapin_latency_p50_ns": "p50 swap-in latency",
            "shown_swapin_latency_p999_ns": "p99.9 swap-in latency",
            "shown_majfault_latency_p50_ns": "p50 latency of major faults",
            "shown_majfault_latency_p99_ns": "p99 latency of major faults",
            "stall_total_ns": "total stall",
        },
    ),
}

_SYMBOLS = {
    "circle": "<circle cx='6' cy='6' r='4.6'/>",
    "square": "<rect x='1.8' y='1.8' width='8.4' height='8.4'/>",
    "diamond": "<path d='M6 .6 11 6 6 11.4 1 6z'/>",
    "cross": "<path d='M4.3 1h3.4v3.3H11v3.4H7.7V11H4.3V7.7H1V4.3h3.3z'/>",
    "triangle-up": "<path d='M6 1 11 10.4H1z'/>",
    "triangle-down": "<path d='M6 11 1 1.6h10z'/>",
    "triangle-left": "<path d='M1 6 10.4 1v10z'/>",
    "triangle-right": "<path d='M11 6 1.6 1v10z'/>",
    X_SHAPE: f"<path d='{X_SHAPE}' transform='translate(6 6) scale(5)'/>",
    BAR_SHAPE: "<rect x='0' y='4.8' width='12' height='2.4'/>",
}


def render_html(
    summary: pl.DataFrame, latency: pl.DataFrame, footprint: pl.DataFrame, run: dict[str, Any]
) -> str:
    """Return the whole page."""
    summary, latency, footprint = map(printable_frame, (summary, latency, footprint))
    policies = summary["policy"].to_list()
    figures = build_figures(
        summary, latency, footprint, Theme.of_page(policies), touched_pages(run)
    )
    page = _Page(figures, summary, run)
    return _filled(
        _template("report.html"),
        {
            "title": page.title(),
            "style": _colours(policies) + _template("report.css"),
            "top": page.top(),
            "verdicts": page.verdicts(),
            "filters": page.filters(),
            "figures": "".join(page.figure(figure) for figure in figures.figures),
            "table": page.table(),
            "provenance": page.provenance(),
            "data": _json(page.data()),
            "library": _in_script(load_library()),
            "script": _template("report.js"),
        },
    )


def write_html(
    path: str | Path,
    summary: pl.DataFrame,
    latency: pl.DataFrame,
    footprint: pl.DataFrame,
    run: dict[str, Any],
    *,
    force: bool = False,
) -> None:
    """Write the page to `path`, whole or not at all.

    Raises
    ------
    OutputError
        `path` exists and `force` is not given, or it cannot be written.
    """
    with replacing(path, force=force) as part:
        part.write_text(render_html(summary, latency, footprint, run), encoding="utf-8")


def _template(name: str) -> str:
    return resources.files("tracereplay.report").joinpath("templates", name).read_text("utf-8")


def _filled(template: str, parts: dict[str, str]) -> str:
    """Fill `{{name}}` in one pass, so that nothing filled in is looked at again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


@functools.cache
def load_library() -> str:
    """Return the script that draws; bundling it takes two seconds, so it is kept."""
    kept = None
    with contextlib.suppress(OSError, UnicodeDecodeError, RuntimeError):  # nobody's home
        kept = tracereplay.cache_folder() / f"vega-{metadata.version('vl-convert-python')}.js"
        first, _, script = kept.read_text("utf-8").partition("\n")
        if first == _seal(script):
            return script
    import vl_convert

    bundle = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
    if kept is None:
        return bundle
    with contextlib.suppress(OSError, OutputError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with replacing(kept, force=True) as part:
            part.write_text(f"{_seal(bundle)}\n{bundle}", encoding="utf-8")
    return bundle


def _seal(script: str) -> str:
    """Return the first line of a script that is kept: a power cut may leave a part of it, or nothing."""
    return f"// {hashlib.sha256(script.encode()).hexdigest()}"


def _in_script(source: str) -> str:
    # Inside <script> only these two sequences mean something to HTML.
    return source.replace("</script", r"<\/script").replace("<!--", r"<\!--")


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _text(value: object) -> str:
    """Return the value as HTML text that stays within its own writing direction."""
    return html.escape(in_micro(printable(str(value))))


def _bdi(value: object) -> str:
    return f"<bdi>{_text(value)}</bdi>"


def _colours(policies: list[str]) -> str:
    """Return the style rules that name every colour of policies, services and parts."""

    def variables(at: int) -> str:
        named = {
            **{f"policy-{i}": look[at] for i, look in enumerate(policy_looks(policies).values())},
            **{f"service-{name}": look[at] for name, look in SERVICE_LOOKS.items()},
            **{f"part-{name}": look[at] for name, look in PART_LOOKS.items()},
            "page": (PAGE_LIGHT, PAGE_DARK)[at],
        }
        return "".join(f"--{name}:{value};" for name, value in named.items())

    light, dark = variables(0), variables(1)
    return (
        f":root{{{light}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n"
        f"@media screen{{:root[data-theme=dark]{{{dark}}}}}\n"
    )


class _Page:
    """Builds the parts of the page of one result."""

    def __init__(self, figures: Figures, summary: pl.DataFrame, run: dict[str, Any]) -> None:
        self.figures, self.summary, self.run = figures, summary, run
        self.rows = figures.rows
        self.looks = policy_looks(summary["policy"].to_list())
        self.index = {row["scenario"]: at for at, row in enumerate(self.rows)}
        self.trace = run.get("trace") if isinstance(run.get("trace"), dict) else {}

    def swatch(self, policy: str) -> str:
        at = list(self.looks).index(policy)
        return (
            f'<svg class="swatch" viewBox="0 0 12 12" aria-hidden="true" fill="var(--policy-{at})">'
            f"{_SYMBOLS[self.looks[policy].shape]}</svg>"
        )

    def trace_name(self) -> str:
        names = dict.fromkeys(row["trace"] for row in self.rows)
        return ", ".join(names) or str((self.trace or {}).get("name", ""))

    def title(self) -> str:
        return _text(f"{self.trace_name()} — tracereplay")

    def top(self) -> str:
        trace = self.trace or {}
        facts = []
        if trace.get("accesses") is not None:
            facts.append(format_count(trace["accesses"], "access", "accesses"))
        if trace.get("unique_pages") is not None:
            pages = trace["unique_pages"]
            facts.append(f"{format_count(pages, 'page')} touched ({format_size(pages * 4096)})")
        facts.append(format_count(len(self.rows), "scenario"))
        coverage = str(trace.get("coverage") or "unknown")
        warning = ""
        if coverage != "full":
            meaning = _meaning(coverage)
            warning = (
                f'<p class="warning"><strong>Coverage {_text(coverage)}.</strong> '
                f"{_text(meaning[:1].upper() + meaning[1:])}.</p>"
            )
        traces = len({row["trace"] for row in self.rows})
        workloads = "one workload" if traces == 1 else f"{traces} workloads"
        return (
            f'<p class="kicker">zswap policies on {workloads}</p><h1>{_bdi(self.trace_name())}</h1>'
            f'<p class="facts">{_text(" · ".join(facts))}</p>{warning}'
        )

    def verdicts(self) -> str:
        return "".join(self._verdict(verdict(group)) for group in self.figures.groups)

    def _verdict(self, found: Verdict) -> str:
        group = found.group
        several = len({other.trace for other in self.figures.groups}) > 1
        heading = (f"{group.trace}: " if several else "") + group.title
        members = " ".join(str(self.index[row["scenario"]]) for row in group.rows)
        winner = (
            '<p class="winner none">nobody</p>'
            if found.winner is None
            else f'<p class="winner">{self.swatch(found.winner["policy"])} '
            f"{_bdi(found.winner['label'])}</p>"
        )
        price = (
            f'<p class="price"><span>Price</span> {_text(found.price)}</p>' if found.price else ""
        )
        return (
            f'<article class="verdict" data-scenarios="{members}">'
            f'<h3>At {_text(heading)}</h3>{winner}<p class="gain">{_text(found.gain)}</p>{price}'
            "</article>"
        )

    def filters(self) -> str:
        groups = []
        for key, name in _FILTERS:
            values = self._filter_values(key)
            if len(values) < 2:
                continue
            boxes = "".join(
                f'<label class="chip"><input type="checkbox" checked data-key="{key}" '
                f'data-value="{html.escape(json.dumps(value), quote=True)}">'
                f"{self.swatch(value) if key == 'policy' else ''}"
                f"{_bdi(format_size(value) if key.endswith('_bytes') else value)}</label>"
                for value in values
            )
            groups.append(
                f'<fieldset><legend>{name}</legend><div class="chips">{boxes}'
                f'<button type="button" class="link" data-all="{key}">all</button>'
                f'<button type="button" class="link" data-none="{key}">none</button></div></fieldset>'
            )
        return "".join(groups)

    def _filter_values(self, key: str) -> list[Any]:
        if key == "policy":
            return list(self.looks)
        # The bound runs once, at a limit of its own: it follows its company, not a limit filter.
        rows = [row for row in self.rows if row["policy"] != BOUND] or self.rows
        values = dict.fromkeys(row[key] for row in rows if row[key] is not None)
        return sorted(values) if key == "memory_limit_bytes" else list(values)

    def figure(self, figure: Figure) -> str:
        control = ""
        for name, (of, signal, about, choices) in _CHOICES.items():
            if figure.name == of:
                options = "".join(
                    f'<option value="{key}"{" selected" if at == 0 else ""}>{text}</option>'
                    for at, (key, text) in enumerate(choices.items())
                )
                control = (
                    f'<label class="axis">{about} <select id="{name}" data-figure="{of}" '
                    f'data-signal="{signal}">{options}</select></label>'
                )
        panels = "".join(
            f'<figure class="panel" data-figure="{figure.name}" data-panel="{at}">'
            + (
                f"<figcaption>{self.swatch(panel.policy) if panel.policy else ''}"
                f"{_bdi(panel.title)}</figcaption>"
                if panel.title
                else ""
            )
            + f'<div class="view" role="img" aria-label="{_text(figure.question)} '
            f'{_text(panel.title)}{" " + _text(figure.answer) if len(figure.panels) == 1 else ""}"></div>'
            '<p class="empty" hidden>The filters leave nothing to show here.</p></figure>'
            for at, panel in enumerate(figure.panels)
        )
        return (
            f'<section class="figure" id="{figure.name}"><h2>{_text(figure.question)}</h2>'
            f'<p class="answer">{_text(figure.answer)}</p>{control}{self.legend(figure)}'
            f'<div class="panels {figure.name}">{panels}</div>'
            f'<p class="reading">{_text(figure.reading)}</p>'
            f"<details><summary>Where these numbers come from</summary>"
            f'<p><a href="{figure.table}">{figure.table}</a>, beside this page:</p>'
            f"<pre><code>{_text(figure.polars)}</code></pre></details></section>"
        )

    def legend(self, figure: Figure) -> str:
        if figure.legend == "services":
            return _legend("service", SWAP_IN_SERVICES)
        if figure.legend == "parts":
            return _legend("part", PART_LOOKS)
        if figure.legend == "lines":
            return self.line_legend()
        return self.point_legend() if figure.legend == "points" else ""

    def line_legend(self) -> str:
        """Return what dashes mean, where they mean anything; colours are those of the filters."""
        names = variants(self.rows)
        return _key(
            '<svg class="dash" viewBox="0 0 28 12" aria-hidden="true"><path d="M0 6h28" '
            f'stroke-dasharray="{" ".join(map(str, DASHES[at % len(DASHES)]))}"/></svg>{_bdi(name)}'
            for at, name in enumerate(names if len(names) > 1 else ())
        )

    def point_legend(self) -> str:
        """Return what the filling and the size of a point mean, where they mean anything."""
        names, texts = variants(self.rows), limits(self.rows)
        fills = list(FILLS.values())
        shown = [
            (name, 10.0, fills[at % len(fills)])
            for at, name in enumerate(names if len(names) > 1 else ())
        ] + [
            (f"{text} memory", size**0.5, 1.0)
            for text, size in zip(texts, sizes(len(texts)), strict=True)
            if len(texts) > 1
        ]
        return _key(
            f'<svg class="dot" viewBox="-8 -8 16 16" aria-hidden="true"><circle r="{width / 2:.1f}" '
            f'fill-opacity="{fill}"/></svg>{_bdi(text)}'
            for text, width, fill in shown
        )

    def table(self) -> str:
        best = {
            found.winner["scenario"]: found
            for found in map(verdict, self.figures.groups)
            if found.winner is not None
        }
        heads = "".join(
            f'<th scope="col"{" class=number" if number else ""}>{head}</th>'
            for head, number, _ in _TABLE
        )
        lines = []
        for row in self.rows:
            cells = "".join(
                f'<td class="number">{_text(cell(row))}</td>'
                if number
                else f"<td>{_bdi(cell(row))}</td>"
                for _, number, cell in _TABLE[1:]
            )
            won = ' class="won"' if row["scenario"] in best else ""
            mark = marks(row)
            lines.append(
                f'<tr data-scenario="{self.index[row["scenario"]]}"{won}>'
                f'<th scope="row">{self.swatch(row["policy"])} {_bdi(row["label"])}'
                + (f' <span class="mark">{mark}</span>' if mark else "")
                + f"</th>{cells}</tr>"
            )
        legend = "".join(
            f'<li><span class="mark">{danger.mark}</span> <strong>{_text(danger.name)}</strong>: '
            f"{_text(danger.meaning)}</li>"
            for danger in dangers(self.rows)
        )
        return (
            '<div class="scroll" tabindex="0" role="region" aria-label="All scenarios"><table>'
            f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
            f'<ul class="legend-list">{legend}</ul>'
            '<p class="reading">Winners of their memory limit in bold. '
            f"{FEW_NOTE}. Every column of every "
            'scenario: <a href="summary.parquet">summary.parquet</a>.</p>'
        )

    def provenance(self) -> str:
        run = dict(self.run)
        trace = dict(self.trace or {})
        facts: list[tuple[str, Any]] = [("trace", trace.pop("name", self.trace_name()))]
        coverage = trace.pop("coverage", None) or "unknown"
        facts.append(("coverage", f"{coverage}: {_meaning(coverage)}"))
        facts += [(f"trace {key}".replace("_", " "), value) for key, value in trace.items()]
        run.pop("trace", None)
        scenarios = run.pop("scenarios", None)
        for key in ("kernel", "cgroup"):
            values = self.summary[key].unique(maintain_order=True).to_list()
            facts.append(
                ("kernel profile" if key == "kernel" else key, ", ".join(map(str, values)))
            )
        command = run.pop("command", None)
        if command is not None:
            facts.append(
                (
                    "command line",
                    " ".join(map(str, command)) if isinstance(command, list) else str(command),
                )
            )
        facts += [(key.replace("_", " "), value) for key, value in run.items()]
        items = "".join(
            f"<dt>{_text(name)}</dt><dd>{_value(value)}</dd>"
            for name, value in facts
            if value not in (None, "", [], {})
        )
        settings = ""
        if scenarios:
            settings = (
                "<details><summary>Settings of every scenario</summary><pre><code>"
                + html.escape(
                    printable_lines(
                        json.dumps(scenarios, indent=1, default=str, ensure_ascii=False)
                    )
                )
                + "</code></pre></details>"
            )
        return f"<dl>{items}</dl>{settings}"

    def data(self) -> dict[str, Any]:
        """Return what the page's script draws: scenarios, columns of every dataset, specifications."""
        datasets = {}
        for name, frame in self.figures.datasets.items():
            columns = frame.drop("scenario").to_dict(as_series=False)
            scenarios = [self.index[scenario] for scenario in frame["scenario"]]
            datasets[name] = {"scenario": scenarios, "columns": columns}
        return {
            "scenarios": [drawn_fields(row) for row in self.rows],
            "boundPolicy": BOUND,
            "datasets": datasets,
            "figures": {
                figure.name: {
                    "datasets": figure.datasets,
                    "panels": [
                        {
                            "spec": panel.spec,
                            "scenarios": [self.index[name] for name in panel.scenarios],
                        }
                        for panel in figure.panels
                    ],
                }
                for figure in self.figures.figures
            },
        }


def _legend(kind: str, names: Iterable[str]) -> str:
    return _key(
        f'<i style="background:var(--{kind}-{name})"></i>{name.replace("_", " ")}' for name in names
    )


def _key(items: Iterable[str]) -> str:
    lines = "".join(f"<li>{item}</li>" for item in items)
    return f'<ul class="key">{lines}</ul>' if lines else ""


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "<br>".join(f"{_text(key)}: {_value(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return "<br>".join(_value(part) for part in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return _bdi(value)


def printable_lines(text: str) -> str:
    """Return the text as `printable` does, line breaks kept."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _duration(key: str) -> Any:
    return lambda row: "-" if row[key] is None else format_duration(row[key])


def _count(key: str) -> Any:
    return lambda row: f"{row[key]:,}"


def _size(key: str) -> Any:
    return lambda row: format_size(row[key])


_TABLE: tuple[tuple[str, bool, Any], ...] = (
    ("scenario", False, lambda row: row["label"]),
    ("memory limit", True, limit_text),
    ("swap-ins", True, _count("swap_ins")),
    ("p50", True, _duration("shown_swapin_latency_p50_ns")),
    ("p99", True, _duration("shown_swapin_latency_p99_ns")),
    ("p99.9", True, _duration("shown_swapin_latency_p999_ns")),
    ("slowest", True, _duration("swapin_latency_max_ns")),
    ("p50 major", True, _duration("shown_majfault_latency_p50_ns")),
    ("p99 major", True, _duration("shown_majfault_latency_p99_ns")),
    ("total stall", True, _duration("stall_total_ns")),
    ("major faults", True, _count("pgmajfault")),
    ("zswpin", True, _count("zswpin")),
    ("zswpout", True, _count("zswpout")),
    ("zswpwb", True, _count("zswpwb")),
    ("pswpin", True, _count("pswpin")),
    ("pswpout", True, _count("pswpout")),
    ("peak pool", True, _size("pool_bytes_peak")),
    ("peak footprint", True, _size("footprint_bytes_peak")),
    ("reclaim runs", True, _count("reclaim_runs")),
    ("no gain", True, _count("reclaim_no_gain_runs")),
    ("over limit", True, _size("overshoot_bytes_peak")),
    ("OOM kills", True, _count("oom_events")),
)

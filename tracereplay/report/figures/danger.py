"""Where reclaim goes wrong."""

from __future__ import annotations

from tracereplay.report.figures.base import ROW_HEIGHT, Draw, Figure, Spec, drawn_fields, sentence
from tracereplay.report.findings import Group, namer, runs_eaten_by_pool, some_names
from tracereplay.units import format_size

DANGER_LINE = (
    'pl.read_parquet("summary.parquet").select("scenario", "reclaim_runs", "reclaim_no_gain_runs", '
    '"overshoot_bytes_peak", "reclaim_failures", "oom_events", "finished", "oom_at_access", '
    '"flush_phases", "flush_phases_killed")'
)


def danger_figure(draw: Draw) -> Figure:
    """Return bars of reclaim that gained nothing, with kills and overshoot in words."""

    def panel(group: Group) -> Spec:
        axis: Spec = draw.label_axis(group)
        return draw.spec(
            "scenarios",
            height=ROW_HEIGHT * len(group.rows),
            usermeta={"row_height": ROW_HEIGHT},
            layer=[
                {
                    "mark": {"type": "bar", "height": {"band": 0.72}},
                    "encoding": {
                        "y": axis,
                        "x": {
                            "field": "no_gain_ratio",
                            "type": "quantitative",
                            "axis": {"format": "~%", "tickCount": 5},
                            "title": "runs of reclaim that gained nothing",
                        },
                        "color": {"value": draw.theme.alarm},
                        "tooltip": [
                            {"field": "label", "title": "scenario"},
                            {
                                "field": "reclaim_no_gain_runs",
                                "title": "no gain",
                                "format": ",",
                            },
                            {"field": "reclaim_runs", "title": "runs", "format": ","},
                            {"field": "overshoot_text", "title": "over the limit by"},
                            {"field": "state", "title": "state"},
                        ],
                    },
                },
                # What does not fit behind a long bar stands in it.
                *(
                    {
                        "transform": [
                            {
                                "joinaggregate": [
                                    {"op": "max", "field": "no_gain_ratio", "as": "top"}
                                ]
                            },
                            {"filter": f"{'!' * inside}(datum.no_gain_ratio <= datum.top / 2)"},
                        ],
                        "mark": {
                            "type": "text",
                            "align": "right" if inside else "left",
                            "dx": -5 if inside else 5,
                            "fontSize": 11,
                            "color": draw.theme.page if inside else draw.theme.ink,
                        },
                        "encoding": {
                            "y": axis,
                            "x": {"field": "no_gain_ratio", "type": "quantitative"},
                            "text": {"field": "danger"},
                        },
                    }
                    for inside in (False, True)
                ),
                draw.swatches(axis),
            ],
        )

    name = namer(draw.rows)
    killed = [row for row in draw.rows if row["killed"]]
    gainless = [row for row in draw.rows if row["reclaim_no_gain_runs"]]
    answer = []
    if killed:
        answer.append(f"{some_names(killed, name)} ended in an OOM kill")
    risky = [row for row in draw.rows if row["flush_phases_killed"] and not row["killed"]]
    if risky:
        worst = max(risky, key=lambda row: row["flush_phases_killed"] / row["flush_phases"])
        answer.append(
            f"{name(worst)} is killed in "
            f"{worst['flush_phases_killed']} of {worst['flush_phases']} phases of the statistics flush"
        )
    if gainless:
        worst = max(gainless, key=lambda row: drawn_fields(row)["no_gain_ratio"])
        answer.append(
            f"{name(worst)} reclaimed in vain in "
            f"{worst['reclaim_no_gain_runs']:,} of {worst['reclaim_runs']:,} runs"
        )
    over = max(draw.rows, key=lambda row: row["overshoot_bytes_peak"])
    if over["overshoot_bytes_peak"]:
        answer.append(
            f"{name(over)} stood up to {format_size(over['overshoot_bytes_peak'])} over the limit"
        )
    return Figure(
        "danger",
        "Where does reclaim go wrong?",
        sentence("; ".join(answer)),
        "Bars: runs that ended with no more free memory than they began"
        + (
            "; what they stored is charged as much as the pages gave back, where they freed any"
            if any(map(runs_eaten_by_pool, gainless))
            else ""
        )
        + ". +size: peak of what is charged over the limit. "
        "Phases: replays with the cgroup's statistics flushed at other moments.",
        "summary.parquet",
        DANGER_LINE,
        ("scenarios",),
        draw.group_panels(panel),
    )

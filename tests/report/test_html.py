"""report.html and the pictures of a made-up result: numbers, escaping, weight, provenance."""

import html
import itertools
import json
import re

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

import tracereplay
from tracereplay.cli import app
from tracereplay.comparison import Result
from tracereplay.errors import InputError, OutputError
from tracereplay.report.figures import (
    NAMES,
    Theme,
    build_figures,
    pareto_front,
    thinned_footprint,
)
from tracereplay.report.findings import labelled_rows
from tracereplay.report.folder import read_result_folder
from tracereplay.report.html import load_library, render_html, write_html
from tracereplay.report.plots import write_plots
from tracereplay.schema import COVERAGES
from tracereplay.units import format_duration

HOSTILE = (
    "</script><script>window.hacked=1</script></style>\u202egnp.\u2066<img src=x onerror=hacked()>"
)


def page_data(page):
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[
        1
    ]
    return json.loads(text)


def without_library(page):
    """Return the page but for Vega, which the browser test watches."""
    return page[: page.index("<script>")] + page[page.rindex("<script>") :]


def write_folder(folder, result):
    summary, latency, footprint, run = result
    folder.mkdir(exist_ok=True)
    summary.write_parquet(folder / "summary.parquet")
    latency.write_parquet(folder / "latency.parquet")
    footprint.write_parquet(folder / "footprint.parquet")
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def frame_of(data, name):
    """Return a dataset as the page's script joins it: scenario name and columns."""
    names = [row["scenario"] for row in data["scenarios"]]
    dataset = data["datasets"][name]
    return pl.DataFrame(
        {"scenario": [names[at] for at in dataset["scenario"]], **dataset["columns"]}
    )


def check_lines_of_polars(data, result):
    """Run the line of polars under each figure here; what it makes is what the page draws."""
    checked = set()
    scenarios = [row["scenario"] for row in data["scenarios"]]
    for figure in figures_of(result).figures:
        said = eval(figure.polars, {"pl": pl})
        # Unlimited memory is drawn once, whatever the limits and codecs it was run with.
        said = said.filter(pl.col("scenario").is_in(scenarios))
        if figure.name in {"latency", "services"}:
            assert_frame_equal(frame_of(data, figure.name), said, check_dtypes=False)
        elif figure.name == "footprint":
            drawn = frame_of(data, "footprint")
            drawn = drawn.cast({name: said.schema[name] for name in said.columns})
            assert drawn.join(said, on=said.columns, how="anti", nulls_equal=True).is_empty()
        else:
            drawn = pl.DataFrame(data["scenarios"], infer_schema_length=None).select(said.columns)
            if figure.name == "codecs":  # of the scenarios that zswap answered in
                drawn = drawn.drop_nulls("zswap_latency_p50_ns")
                drawn, said = drawn.sort("scenario"), said.sort("scenario")
            assert_frame_equal(drawn, said, check_dtypes=False)
        checked.add(figure.name)
    return checked


def figures_of(result):
    summary, latency, footprint, _run = result
    theme = Theme.of_page(summary["policy"].to_list())
    return build_figures(summary, latency, footprint, theme)


def _figure(result, name):
    return next(figure for figure in figures_of(result).figures if figure.name == name)


def test_every_scenario_in_the_page_has_the_numbers_of_its_summary_row(fake_result):
    result = fake_result(limits_mib=(48, 80), codecs=("lzo", "zstd"))
    data = page_data(render_html(*result))

    for drawn, row in zip(data["scenarios"], result[0].to_dicts(), strict=True):
        assert {key: drawn[key] for key in row} == row


def test_the_line_of_polars_under_a_figure_makes_the_numbers_in_it(
    fake_result, tmp_path, monkeypatch
):
    result = fake_result(limits_mib=(48, 80), codecs=("lzo", "zstd"))
    data = page_data(render_html(*result))
    monkeypatch.chdir(write_folder(tmp_path / "out", result))

    names = check_lines_of_polars(data, result)
    assert names == set(NAMES)
    assert tuple(data["figures"]) == NAMES  # and in that order


@pytest.fixture(scope="module")
def real_folder(tmp_path_factory):
    """A comparison as a user runs it: three policies, two limits, two codecs, readahead on."""
    folder = tmp_path_factory.mktemp("real")
    rng = np.random.default_rng(7)
    hot = rng.zipf(1.3, 20_000) % 2_000
    page = np.where(rng.random(20_000) < 0.3, np.arange(20_000) % 2_000, hot)
    trace = folder / "trace.parquet"
    pl.DataFrame({"page": page, "is_write": rng.random(20_000) < 0.4}).write_parquet(
        folder / "raw.parquet"
    )
    run = CliRunner().invoke(app, ["ingest", str(folder / "raw.parquet"), "-o", str(trace)])
    assert run.exit_code == 0, run.output
    out = folder / "out"
    policies = [f"--policy={name}" for name in ("swap-on-reject", "store-raw", "shrinker")]
    sizes = ["--memory=30%", "--memory=50%", "--codec=lzo", "--codec=zstd"]
    run = CliRunner().invoke(app, ["compare", str(trace), *policies, *sizes, "--out", str(out)])
    assert run.exit_code == 0, run.output
    return out


def test_a_real_comparisons_page_holds_what_its_tables_hold(real_folder, monkeypatch):
    result = read_result_folder(real_folder)
    data = page_data((real_folder / "report.html").read_text())
    monkeypatch.chdir(real_folder)

    summary = pl.read_parquet("summary.parquet")
    assert summary.height >= 12
    assert summary["pgmajfault"].max() > 1_000  # or there would be little to compare
    rows = {row["scenario"]: row for row in summary.to_dicts()}
    assert summary["policy"].value_counts().filter(policy="unlimited-memory")["count"][0] == 4
    first = summary.filter(policy="unlimited-memory")["scenario"][0]
    plain = summary.filter(policy="no-zswap").unique("memory_limit_bytes", keep="first")
    assert plain.height == 2  # it has no codec
    told_once = {first, *plain["scenario"]}
    assert [row["scenario"] for row in data["scenarios"]] == [
        name
        for name, row in rows.items()
        if row["policy"] not in ("unlimited-memory", "no-zswap") or name in told_once
    ]
    for drawn in data["scenarios"]:
        row = rows[drawn["scenario"]]
        assert {key: drawn[key] for key in row} == row
    names = check_lines_of_polars(data, result)
    assert names >= {"latency", "trade-off", "services", "codecs", "faults", "footprint"}

    # And the tables themselves hang together: the histograms count the summary's major faults.
    major = pl.read_parquet("latency.parquet").filter(
        ~pl.col("service").is_in(["minor", "swap_cache"])
    )
    counted = major.group_by("scenario").agg(pl.col("count").sum())
    for row in summary.join(counted, on="scenario", how="left").iter_rows(named=True):
        # A fault that ends in an OOM kill is counted and never answered; a first touch is neither.
        # Writeback may bring its page into the swap cache while its readahead reclaims: such a fault
        # is a major one (mm/memory.c:do_swap_page() missed the cache), answered by the cache.
        unanswered = row["pgmajfault"] - (row["count"] or 0)
        overtaken = min(row["zswpwb"], row["pgmajfault"] // 500)
        assert 0 <= unanswered <= row["oom_events"] + overtaken, row["scenario"]
    assert summary["finished"].any()


def test_the_marked_percentiles_stand_on_the_line_of_their_scenario(fake_result):
    result = fake_result()
    data = page_data(render_html(*result))
    lines = frame_of(data, "latency")

    for row in data["scenarios"]:
        for of, (name, share) in itertools.product(
            ("swapin", "majfault"), (("p50", 0.5), ("p99", 0.01), ("p999", 0.001))
        ):
            line = lines.filter(
                scenario=row["scenario"], of="swap-ins" if of == "swapin" else "major faults"
            )
            value = row[f"{of}_latency_{name}_ns"]
            if value is None:
                assert line.is_empty()
                continue
            # The made-up summary has the highest latency in the bucket, the frame its open edge.
            value -= of == "majfault"
            at = line.filter(pl.col("latency_ns_high") > value).row(0, named=True)
            before = line.filter(pl.col("latency_ns_high") <= value)
            assert at["slower"] <= share + 1e-9
            assert before.is_empty() or before["slower"][-1] > share - 1e-9


def test_a_killed_scenario_is_faint_in_the_latencies_and_the_caption_says_why(
    fake_result, tmp_path
):
    result = fake_result(("no-zswap", "keep-on-reject"), limits_mib=(48,))
    write_plots(tmp_path, *result)
    drawing = (tmp_path / "latency.svg").read_text()

    for kind in ("line mark", "point"):
        marks = re.findall(rf'<path aria-label="([^"]*)"[^>]*"{kind}"([^>]*)>', drawing)
        assert marks
        for label, rest in marks:
            assert ('opacity="0.4"' in rest) == ("keep-on-reject" in label), (kind, label)
    assert "faint: ended in an OOM kill" in drawing
    summary, *rest = result
    bound = pl.when(policy="no-zswap").then(pl.lit("opt")).otherwise("reclaim")
    write_plots(tmp_path, summary.with_columns(reclaim=bound), *rest, force=True, formats=("svg",))
    drawing = (tmp_path / "trade-off.svg").read_text()
    assert "faint: a bound or ended in an OOM kill" in drawing
    assert "Faint lines ended in an OOM kill" in _figure(result, "latency").reading


def test_no_figure_shows_a_percentile_of_a_handful_of_swap_ins(fake_result, few_swap_ins, tmp_path):
    result = few_swap_ins(fake_result(("no-zswap", "swap-on-reject")), "no-zswap", 16)
    page = render_html(*result)
    drawn = {row["policy"]: row for row in page_data(page)["scenarios"]}
    assert drawn["no-zswap"]["swapin_p99_text"] == "-"
    assert drawn["no-zswap"]["swapin_p50_text"] != "-"
    assert drawn["swap-on-reject"]["swapin_p99_text"] != "-"
    cells = re.search(r"no-zswap</bdi>.*?</th>(.*?)</tr>", page[page.index("<tbody>") :])[1]
    numbers = re.findall(r'<td class="number">(.*?)</td>', cells)
    assert numbers[1] == "16"
    assert numbers[3:5] == ["-", "-"]

    write_plots(tmp_path, *result)
    drawing = (tmp_path / "latency.svg").read_text()
    marks = re.findall(r'<path aria-label="([^"]*)"[^>]*"point"', drawing)
    assert sum("policy: no-zswap" in label for label in marks) == 1  # at p50
    assert sum("policy: swap-on-reject" in label for label in marks) == 3
    # 16 swap-ins reach down to one in 16, and no further.
    low = {}
    for label, path in re.findall(
        r'<path aria-label="([^"]*)"[^>]*"line mark" d="([^"]*)"', drawing
    ):
        name = re.search("policy: ([\\w-]+)", label)[1]
        low[name] = max(float(y) for y in re.findall(r",(-?[\d.]+)", path))
    assert low["no-zswap"] == pytest.approx(300 * np.log10(16) / 4, abs=0.1)
    assert low["swap-on-reject"] > 300 * np.log10(10_000) / 4

    trade_off = (tmp_path / "trade-off.svg").read_text()
    marks = re.findall(r'<path aria-label="([^"]*)"[^>]*"point"', trade_off)
    assert [re.search("policy: ([\\w-]+)", label)[1] for label in marks] == ["swap-on-reject"]
    assert "no-zswap" not in figures_of(result).figures[1].answer


def test_unlimited_memory_is_drawn_once_and_stands_at_every_limit(fake_result):
    summary, latency, footprint, run = fake_result(
        ("no-zswap", "unlimited-memory"), limits_mib=(48, 80), codecs=("lzo", "zstd")
    )
    bound = pl.col("policy") == "unlimited-memory"

    def again(frame, number):
        name = pl.format("{}-{}", "scenario", pl.lit(number))
        return frame.filter(pl.col("scenario").str.starts_with("unlimited")).with_columns(
            scenario=name
        )

    more = [
        again(summary, at).with_columns(
            memory_limit_bytes=pl.lit(limit << 20, dtype=pl.Int64), codec=pl.lit(codec)
        )
        for at, (limit, codec) in enumerate(itertools.product((48, 80), ("lzo", "zstd")))
    ]
    result = (
        pl.concat([summary.filter(~bound), *more]),
        pl.concat([latency, *(again(latency, at) for at in range(4))]),
        pl.concat([footprint, *(again(footprint, at) for at in range(4))]),
        run,
    )
    figures = figures_of(result)
    by_name = {figure.name: figure for figure in figures.figures}
    bounds = [row["scenario"] for row in figures.rows if row["bound"]]

    assert len(bounds) == 1
    assert sum(panel.policy == "unlimited-memory" for panel in by_name["footprint"].panels) == 1
    assert [panel.scenarios.count(bounds[0]) for panel in by_name["services"].panels] == [1, 1]
    assert render_html(*result).count("<tr data-scenario=") == 5
    # One that differs is another: it is drawn.
    other = pl.when(pl.col("scenario") == bounds[0]).then(1).otherwise("stall_total_ns")
    changed = figures_of((result[0].with_columns(stall_total_ns=other), *result[1:]))
    assert sum(row["bound"] for row in changed.rows) == 2


def key_of(page, figure):
    """Return the entries of the legend above a figure's panels on the page."""
    section = re.search(rf'<section class="figure" id="{figure}">(.*?)</section>', page, re.DOTALL)
    return re.findall(r"<li>(.*?)</li>", section[1].split('<div class="panels')[0])


def test_a_legend_says_what_dashes_fillings_and_sizes_mean(fake_result, tmp_path):
    policies = ("no-zswap", "store-raw", "unlimited-memory")
    result = fake_result(policies, limits_mib=(48, 80), codecs=("lzo", "zstd"))
    page = render_html(*result)

    for figure in ("latency", "faults"):
        lzo, zstd = key_of(page, figure)
        assert "<bdi>lzo</bdi>" in lzo
        assert "<bdi>zstd</bdi>" in zstd
        assert lzo.replace("lzo", "zstd") != zstd
    for figure in ("trade-off", "codecs"):
        entries = key_of(page, figure)
        assert [re.search("<bdi>(.*)</bdi>", entry)[1] for entry in entries] == [
            "lzo",
            "zstd",
            "48.0 MiB memory",
            "80.0 MiB memory",
        ]
        assert len({re.search("<circle[^>]*>", entry)[0] for entry in entries}) == 4

    plain = render_html(*fake_result(policies))
    assert not any(key_of(plain, figure) for figure in ("latency", "trade-off"))

    write_plots(tmp_path, *result)
    drawing = (tmp_path / "latency.svg").read_text()
    legend = re.search('Symbol legend for strokeDash with (.*?)"', drawing)[1]
    assert legend.startswith("2 values: lzo, zstd")
    assert "filled: lzo · hollow: zstd" in (tmp_path / "trade-off.svg").read_text()


def points_of(drawing):
    """Return per point of a picture its label, its place, and how it is drawn."""
    found = re.findall(
        r'<path aria-label="([^"]*)"[^>]*"point" transform="translate\(([^)]*)\)" (d=[^>]*)>',
        drawing,
    )
    return [(label, tuple(map(float, at.split(","))), look) for label, at, look in found]


def texts_of(drawing):
    """Return per text mark of a picture its place and its text."""
    marks = re.search(r'<g class="mark-text role-mark[^>]*>(.*?)</g>', drawing, re.DOTALL)[1]
    found = re.findall(r"translate\(([^)]*)\)[^>]*>([^<]*)</text>", marks)
    return [(tuple(map(float, at.split(","))), text) for at, text in found]


def test_a_point_says_its_limit_and_codec_and_a_codecs_label_stands_at_it(fake_result, tmp_path):
    policies = ("swap-on-reject", "store-raw", "no-writeback")
    result = fake_result(policies, limits_mib=(48, 80), codecs=("lzo", "zstd"))
    write_plots(tmp_path, *result, formats=("svg",))

    trade_off = points_of((tmp_path / "trade-off.svg").read_text())
    assert len({look for label, _, look in trade_off if "scenario: store-raw" in label}) == 4
    drawing = (tmp_path / "codecs.svg").read_text()
    points = points_of(drawing)
    labels = texts_of(drawing)
    assert len(points) == 12
    for (x, y), text in labels:
        at = [label for label, place, _ in points if place[0] == x and 0 < place[1] - y < 20]
        assert at
        assert f"codec: {text};" in at[0]
    for label, (x, y), _ in points:
        codec = re.search("codec: (\\w+);", label)[1]
        near = [text for (left, top), text in labels if np.hypot(left - x, top - y) < 30]
        assert codec in near, label


def test_a_pile_off_the_front_says_how_many_more_stand_there(fake_result, tmp_path):
    policies = ("swap-on-reject", "store-raw", "no-writeback", "vswap")
    summary, *rest = fake_result(policies)
    summary = summary.with_columns(
        footprint_bytes_peak=pl.Series([60 << 20, 90 << 20, 90 << 20, 90 << 20]),
        swapin_latency_p99_ns=pl.Series([20_000, 80_000, 80_000, 80_000]),
    )
    write_plots(tmp_path, summary, *rest, formats=("svg",))

    texts = texts_of((tmp_path / "trade-off.svg").read_text())
    assert sorted(text.strip() for _, text in texts) == ["+2", "swap-on-reject"]


def test_a_picture_says_what_it_was_replayed_with(fake_result, tmp_path):
    summary, latency, footprint, run = fake_result(
        ("no-zswap", "store-raw"), codecs=("lzo", "zstd")
    )
    summary = summary.with_columns(cgroup=pl.lit("v1"), device=pl.lit("sata-ssd"))
    drawn = "drawn from redis-json+60%raw by page hash, seed 0"
    run = run | {"content": f"{drawn}, lzo; {drawn}, zstd"}
    write_plots(tmp_path, summary, latency, footprint, run, formats=("svg",))
    drawing = html.unescape((tmp_path / "latency.svg").read_text())

    assert (
        f"codec lzo, zstd · kernel 6.18 · cgroup v1 · device sata-ssd · contents {drawn}<"
        in drawing
    )


def test_many_kills_are_counted_and_few_named(fake_result):
    def answer(policies):
        summary, *rest = fake_result(policies)
        return _figure((summary.with_columns(finished=pl.lit(False)), *rest), "danger").answer

    assert answer(("no-zswap", "vswap")).startswith("no-zswap, vswap ended in an OOM kill")
    many = ("no-zswap", "swap-on-reject", "store-raw", "vswap", "zram")
    assert answer(many).startswith("5 scenarios ended in an OOM kill")


def test_the_answers_of_latency_and_danger_leave_killed_scenarios_to_their_own_words(fake_result):
    summary, *rest = fake_result(("no-zswap", "store-raw", "vswap"))
    summary = summary.with_columns(
        finished=pl.Series([False, True, True]),
        flush_phases=pl.lit(5, pl.Int64),
        flush_phases_killed=pl.Series([5, 1, 3]),
    )
    assert "no-zswap" not in _figure((summary, *rest), "latency").answer
    answer = _figure((summary, *rest), "danger").answer
    assert answer.startswith("no-zswap ended in an OOM kill;")
    assert "; vswap is killed in 3 of 5 phases" in answer


def test_an_answer_names_the_limit_and_the_trace_where_there_are_several(fake_result):
    summary, latency, *rest = fake_result(("no-zswap", "keep-on-reject"), limits_mib=(48, 80))
    danger = _figure((summary, latency, *rest), "danger")
    assert danger.answer.startswith("keep-on-reject at 48.0 MiB ended in an OOM kill")
    services = _figure((summary, latency, *rest), "services")
    assert services.answer.startswith("no-zswap at 48.0 MiB reads ")
    twice = [
        frame.with_columns(
            pl.col("scenario") + "-b", *([trace] if "trace" in frame.columns else [])
        )
        for frame, trace in ((summary, pl.lit("db.parquet").alias("trace")), (latency, None))
    ]
    both = (pl.concat([summary, twice[0]]), pl.concat([latency, twice[1]]), *rest)
    assert (
        _figure(both, "danger")
        .answer.replace("keep-on-reject at 48.0 MiB with ", "")
        .startswith("web.parquet, db.parquet ended in an OOM kill")
    )


def test_what_more_memory_wins_is_said_of_one_trace(fake_result):
    parts = [
        fake_result(("no-zswap",), limits_mib=(48, 80), trace=trace, seed=seed)
        for seed, trace in enumerate(("b.parquet", "a.parquet"))
    ]
    summaries = [
        part[0].with_columns(
            scenario=pl.lit(f"{nth}/") + pl.col("scenario"), pgmajfault=pl.col("pgmajfault") + nth
        )
        for nth, part in enumerate(parts)
    ]
    latencies = [
        part[1].with_columns(scenario=pl.lit(f"{nth}/") + pl.col("scenario"))
        for nth, part in enumerate(parts)
    ]
    result = (pl.concat(summaries), pl.concat(latencies), parts[0][2].clear(), parts[0][3])
    low, high = summaries[0]["pgmajfault"]
    assert _figure(result, "faults").answer == (
        f"no-zswap with b.parquet: {low:,} major faults at 48.0 MiB, {high:,} at 80.0 MiB."
    )
    assert low > high
    assert _figure(parts[0], "faults").answer == (
        f"no-zswap: {low:,} major faults at 48.0 MiB, {high:,} at 80.0 MiB."
    )


def test_one_survivor_is_not_compared_with_itself(fake_result):
    summary, *rest = fake_result(("no-zswap", "store-raw"))
    killed = summary.with_columns(finished=pl.col("policy") == "no-zswap")
    assert re.fullmatch(
        r"no-zswap reads [\d,]+ pages on demand from the device\.",
        _figure((killed, *rest), "services").answer,
    )


def test_the_answer_of_the_codecs_tells_each_by_its_own_loads(fake_result):
    result = fake_result(("store-raw",), codecs=("lz4", "zstd"))
    answer = _figure(result, "codecs").answer
    for row in labelled_rows(result[0], result[1]):
        (said,) = (part for part in answer.split("; ") if row["codec"] in part.lower())
        assert f"pool, {format_duration(row['zswap_latency_p50_ns'])} a fault" in said


def test_a_pool_is_blamed_only_where_it_is_charged(fake_result):
    def reading(cgroup: str) -> str:
        summary, *rest = fake_result(("no-zswap", "store-raw"))
        return _figure((summary.with_columns(cgroup=pl.lit(cgroup)), *rest), "danger").reading

    assert "charged as much as the pages gave back" in reading("v2")
    assert "charged as much" not in reading("v1")


def test_thinning_keeps_peaks_and_ends_and_few_points(fake_result):
    _summary, _latency, footprint, _run = fake_result(points=2000)
    thin = thinned_footprint(footprint)

    def extremes(frame):
        held = pl.col("resident_pages") + pl.col("pool_pages")
        return (
            frame.group_by("scenario")
            .agg(held.max(), first=pl.col("access").min(), last=pl.col("access").max())
            .sort("scenario")
        )

    assert_frame_equal(extremes(thin), extremes(footprint))
    assert thin.group_by("scenario").len()["len"].max() <= 242


def test_the_scale_of_the_footprint_holds_what_is_stacked_in_it(fake_result):
    result = fake_result(("no-zswap", "store-raw"))
    stacked = pl.col("resident_pages") + pl.col("pool_pages") + pl.col("device_pages")
    most_mib = result[2].select(stacked.max()).item() * 4096 / (1 << 20)
    for panel in _figure(result, "footprint").panels:
        low, high = panel.spec["layer"][0]["encoding"]["y"]["scale"]["domain"]
        assert low == 0
        assert most_mib < high < 1.1 * most_mib


def test_the_front_holds_those_that_none_beats_in_both(fake_result):
    metric = "swapin_latency_p99_ns"
    points = {  # MiB, us; the front is at 60, 70 and 90 MiB
        "no-zswap": (60, 50),
        "swap-on-reject": (70, 40),
        "store-raw": (70, 45),  # as much memory, slower
        "no-writeback": (80, 40),  # as fast, more memory
        "shrinker": (85, 60),  # worse in both
        "vswap": (90, 20),
        "zram": (95, None),
        "keep-on-reject": (50, 10),  # killed
        "unlimited-memory": (40, 5),
    }
    summary, latency, _footprint, _run = fake_result(tuple(points))
    summary = summary.with_columns(
        footprint_bytes_peak=pl.Series([mib << 20 for mib, _ in points.values()]),
        swapin_latency_p99_ns=pl.Series([us and 1000 * us for _, us in points.values()]),
        finished=pl.col("policy") != "keep-on-reject",
    )
    front = pareto_front(labelled_rows(summary, latency), metric)
    assert [row["policy"] for row in front] == ["no-zswap", "swap-on-reject", "vswap"]


def test_twenty_scenarios_stay_under_four_megabytes(fake_result):
    policies = [f"policy-{at}" for at in range(20)]
    page = render_html(*fake_result(policies, points=2000))

    assert len(page_data(page)["scenarios"]) == 20
    assert len(page.encode()) < 4_000_000


def test_a_page_asks_nothing_of_the_network(fake_result):
    page = render_html(*fake_result())
    own = without_library(page)

    assert "default-src 'none'" in own
    assert not re.search(r"<(link|iframe|img|object|embed)\b", own)
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", own)
    assert "@import" not in own
    assert "url(" not in own
    links = set(re.findall(r'href="([^"]*)"', own))
    assert links == {"summary.parquet", "latency.parquet", "footprint.parquet"}


def test_hostile_text_stays_text(fake_result):
    result = fake_result(("no-zswap", HOSTILE), trace=HOSTILE, notes=[HOSTILE], content=HOSTILE)
    whole = render_html(*result)
    page = without_library(whole)

    assert whole.count("</script>") == 3
    assert "<script>window.hacked" not in page
    assert "<img" not in page
    assert "\u202e" not in page
    assert "\u2066" not in page
    assert html.escape("</script><script>window.hacked=1") in page
    assert page.count("</style>") == 1


def test_provenance_says_where_everything_comes_from(fake_result):
    page = render_html(*fake_result(("no-zswap", "store-raw")))
    box = page[page.index('id="provenance"') :]

    for text in (
        "web.parquet",
        html.escape(COVERAGES["full"].can),
        "drawn from redis-json",
        "touch times of recorded runs",
        "6.18",
        "0.1.0",
        "tracereplay compare web.parquet -p all -o out",
        "<dt>seed</dt><dd>0</dd>",
        "a3f1a3f1",
        "100 ns are assumed",
    ):
        assert text in box, text


def test_every_coverage_is_explained_and_anything_but_full_warns_at_the_top(fake_result):
    for coverage, means in COVERAGES.items():
        result = fake_result(("no-zswap",))
        result[3]["trace"]["coverage"] = coverage
        top = render_html(*result).split("<main>")[0]
        assert ("Coverage" in top) == (coverage != "full")
        assert html.escape(means.warning[1:]) in top


def test_a_figure_without_anything_to_show_is_left_out(fake_result):
    one_limit = figures_of(fake_result(("no-zswap", "swap-on-reject")))
    assert [figure.name for figure in one_limit.figures] == [
        "latency",
        "trade-off",
        "services",
        "footprint",
    ]
    assert [figure.name for figure in figures_of(fake_result(("unlimited-memory",))).figures] == [
        "trade-off",
        "footprint",
    ]


def test_a_filter_is_offered_for_what_varies_and_for_nothing_else(fake_result):
    def keys(result):
        return set(re.findall(r'data-key="(\w+)"', render_html(*result)))

    assert keys(fake_result(("no-zswap", "store-raw"))) == {"policy"}
    assert keys(fake_result(limits_mib=(48, 80), codecs=("lzo", "lz4"))) == {
        "policy",
        "memory_limit_bytes",
        "codec",
    }


def test_every_panel_of_the_footprint_is_as_wide_as_the_trace(fake_result):
    summary, latency, footprint, run = fake_result(("no-zswap", "store-raw"))
    killed = pl.col("scenario").str.starts_with("store-raw")
    short = footprint.filter(~killed | (pl.col("access") < pl.col("access").max() // 4))
    figures = figures_of((summary, latency, short, run)).figures
    panels = next(figure.panels for figure in figures if figure.name == "footprint")
    domains = [panel.spec["layer"][0]["encoding"]["x"]["scale"]["domain"] for panel in panels]
    assert domains == [[0, footprint["time_ns"].max() / 1e9]] * 2


def test_a_trace_without_time_is_drawn_over_accesses(fake_result):
    summary, latency, footprint, run = fake_result(("no-zswap",))
    footprint = footprint.with_columns(time_ns=pl.lit(None, dtype=pl.Int64))
    assert "rows of the trace, million" in render_html(summary, latency, footprint, run)


def test_report_rebuilds_the_page_from_a_folder(fake_result, tmp_path):
    result = fake_result(("no-zswap", "store-raw"))
    folder = write_folder(tmp_path / "out", result)
    runner = CliRunner()

    first = runner.invoke(app, ["report", str(folder)])
    assert first.exit_code == 0, first.stderr
    assert first.stdout == ""
    assert "report.html" in first.stderr.replace("\n", "")
    assert page_data((folder / "report.html").read_text()) == page_data(render_html(*result))

    again = runner.invoke(app, ["report", str(folder)])
    assert again.exit_code == 1
    assert "--force" in again.stderr
    assert runner.invoke(app, ["report", str(folder), "--force"]).exit_code == 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "run.json").unlink(), "compare --out"),
        (lambda folder: (folder / "run.json").write_text("{"), "no JSON"),
        (lambda folder: (folder / "run.json").write_text("[]"), "one JSON object"),
        (lambda folder: (folder / "latency.parquet").unlink(), "latency.parquet"),
        (
            lambda folder: (folder / "latency.parquet").write_bytes(b"junk"),
            "cannot be read as a table",
        ),
        (
            lambda folder: pl.DataFrame({"scenario": ["a"]}).write_parquet(
                folder / "summary.parquet"
            ),
            "no column `trace`",
        ),
    ],
)
def test_a_damaged_folder_is_one_clear_line(fake_result, tmp_path, damage, message):
    folder = write_folder(tmp_path / "out", fake_result(("no-zswap",)))
    damage(folder)

    with pytest.raises(InputError) as error:
        read_result_folder(folder)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="no folder"):
        read_result_folder(tmp_path / "nowhere")


def test_tables_of_two_comparisons_are_no_report(fake_result, tmp_path):
    """As of a run that was killed while it wrote into another's folder."""
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, policies in ((one, ("no-zswap",)), (other, ("no-zswap", "store-raw"))):
        Result(*fake_result(policies)).write(folder)
    assert read_result_folder(other).summary.height == 2
    # What is edited or laid out anew, to be shown to others, is still of this comparison.
    run = json.loads((other / "run.json").read_text())
    run["trace"] = "renamed"
    (other / "run.json").write_text(json.dumps(run, indent=4, sort_keys=True))
    assert "tracereplay.run" not in read_result_folder(other).run
    (other / "summary.parquet").replace(one / "summary.parquet")
    with pytest.raises(InputError, match=r"summary\.parquet: of another comparison than run\.json"):
        read_result_folder(one)


def test_a_damaged_copy_of_the_script_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(tracereplay, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda _: "draw();")
    load = load_library.__wrapped__
    assert load() == "draw();"
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda _: "draw(again);")
    assert load() == "draw();"
    for damaged in (b"", whole[:-3], bytes(len(whole))):
        kept.write_bytes(damaged)
        assert load() == "draw(again);"


@pytest.mark.parametrize(
    "run",
    [
        {},
        {"trace": 5, "scenarios": "x", "command": [1, 2], "notes": {"a": [1]}},
        {"trace": None, "command": {}, "costs": None, "wall_s": [None]},
    ],
)
def test_a_run_json_of_another_shape_still_makes_a_page(fake_result, run):
    summary, latency, footprint, _ = fake_result(("no-zswap",))
    page = render_html(summary, latency, footprint, run)
    assert "no-zswap" in page


def test_a_result_without_scenarios_makes_a_page_and_no_figures(fake_result, tmp_path):
    summary, latency, footprint, run = fake_result(("no-zswap",))
    page = render_html(summary.clear(), latency.clear(), footprint.clear(), run)
    assert "0 scenarios" in page
    assert write_plots(tmp_path, summary.clear(), latency.clear(), footprint.clear(), run) == []


def test_an_existing_page_is_not_overwritten_by_surprise(fake_result, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(OutputError, match="--force"):
        write_html(path, *fake_result(("no-zswap",)))
    assert path.read_text() == "mine"


def test_every_figure_can_be_had_as_a_picture(fake_result, tmp_path):
    result = fake_result(("no-zswap", "keep-on-reject", "store-raw"), limits_mib=(48, 80))
    written = write_plots(tmp_path, *result)

    names = [figure.name for figure in figures_of(result).figures]
    assert sorted(path.name for path in written) == sorted(
        f"{name}.{kind}" for name in names for kind in ("svg", "png")
    )
    for name in names:
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    drawing = (tmp_path / "latency.svg").read_text()
    assert drawing.count('aria-roledescription="line mark"') >= 3 * 2
    assert "store-raw" in drawing
    assert "var(--" not in drawing


def test_a_picture_of_too_many_panels_shows_the_first_and_says_so(fake_result, tmp_path):
    result = fake_result(limits_mib=(48, 64, 80, 96), codecs=("lzo", "zstd"), points=20)
    write_plots(tmp_path, *result, formats=("svg",))
    drawing = (tmp_path / "footprint.svg").read_text()
    assert "48 of " in drawing
    assert "the page of `--out` has them all" in drawing
    assert "has them all" not in (tmp_path / "latency.svg").read_text()

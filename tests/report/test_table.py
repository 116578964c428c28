"""The terminal table, JSON and CSV of a made-up result."""

import csv
import dataclasses
import io
import json

import polars as pl
import pytest
from rich.console import Console

from tracereplay.policies import POLICIES
from tracereplay.report.codecs import codec_lines
from tracereplay.report.findings import (
    comparison_groups,
    dangers,
    labelled_rows,
    printable,
    readahead_note,
    verdict,
)
from tracereplay.report.table import (
    render_table,
    render_winners,
    short_count,
    three_digits,
    to_csv,
    to_json,
)
from tracereplay.schema import CODEC_TRADE, SERVICES, SUMMARY
from tracereplay.units import format_duration


def rendered(result, width=80, *, terminal=False, encoding="utf-8"):
    summary, latency, _footprint, run = result
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None)
    render_table(summary, latency, run, console)
    file.seek(0)
    return file.read()


def verdict_of(summary, latency):
    """Return the verdict on a comparison of one trace at one limit."""
    (group,) = comparison_groups(labelled_rows(summary, latency))
    return verdict(group)


@pytest.mark.parametrize("width", [36, 52, 80, 100, 200])
@pytest.mark.parametrize("terminal", [False, True])
def test_no_line_is_wider_than_the_terminal_and_p99_stays(fake_result, width, terminal):
    text = rendered(fake_result(limits_mib=(48, 80)), width, terminal=terminal)

    assert max(len(line) for line in text.splitlines()) <= width
    assert "p99" in text
    assert text.count("memory limit 48.0 MiB") == 1
    assert text.count("memory limit 80.0 MiB") == 1


def test_columns_leave_by_rank_as_the_terminal_narrows(fake_result):
    result = fake_result()

    def heads(width):
        text = rendered(result, width)
        line = next(line for line in text.splitlines() if line.startswith("policy"))
        return line.split()[1:]

    wide, middle, narrow = heads(200), heads(80), heads(50)
    assert {"zswap", "raw", "zero", "cache", "device", "minor", "pool", "all", "out"} <= set(wide)
    assert set(narrow) < set(middle) < set(wide)
    assert {"p50", "p99", "p99.9", "zswap", "device", "pool", "all", "out"} <= set(middle)


def test_the_figures_of_a_row_are_those_of_the_summary(fake_result):
    summary, latency, _footprint, run = result = fake_result(("no-zswap", "store-raw"))
    row = summary.filter(policy="store-raw").row(0, named=True)

    text = rendered(result, 200)
    cells = next(line for line in text.splitlines() if line.startswith("store-raw !^")).split()

    assert cells[1] == "!^"
    assert cells[2:5] == [
        three_digits(row[f"swapin_latency_{name}_ns"] / 1000) for name in ("p50", "p99", "p999")
    ]
    swap_ins = latency.filter(pl.col("service") != "minor", scenario=row["scenario"])
    assert cells[5] == short_count(swap_ins["count"].sum())
    stored = latency.filter(scenario=row["scenario"], service="zswap_raw")["count"].sum()
    assert short_count(stored) in cells
    assert run["trace"]["name"] in text


@pytest.mark.parametrize(
    ("count", "p99", "p999"), [(99, False, False), (100, True, False), (1_000, True, True)]
)
def test_a_percentile_of_a_handful_of_swap_ins_is_not_shown(
    fake_result, few_swap_ins, count, p99, p999
):
    result = few_swap_ins(fake_result(("no-zswap", "swap-on-reject")), "swap-on-reject", count)
    summary, latency, _footprint, run = result
    text = rendered(result, 200)
    lines = [line for line in text.splitlines() if line.startswith("swap-on-reject ")]
    cells = lines[-1].split()  # the one before is the verdict

    assert cells[1] != "-"
    assert [cell != "-" for cell in cells[2:4]] == [p99, p999]
    assert cells[4] == f"{count:,}"
    assert ("p99 is shown of 100 swap-ins and more" in text) == (not p999)
    assert ("p99 swap-in" in text.split("policy ")[0]) == p99
    # What a machine reads keeps every value.
    value = summary.filter(policy="swap-on-reject")["swapin_latency_p99_ns"][0]
    assert value is not None
    parsed = json.loads(to_json(summary, latency, run))["scenarios"]
    assert [row["swapin_latency_p99_ns"] for row in parsed][1] == value
    lines = list(csv.DictReader(io.StringIO(to_csv(summary, latency, run))))
    assert int(lines[1]["swapin_latency_p99_ns"]) == value


def test_the_rival_of_a_verdict_is_not_measured_by_a_handful_of_swap_ins(fake_result, few_swap_ins):
    result = few_swap_ins(fake_result(("no-zswap", "swap-on-reject")), "no-zswap", 16)
    sentence = verdict_of(result[0], result[1]).sentence
    assert "less than no-zswap; p99 swap-in" in sentence
    assert "against" not in sentence


def test_a_codecs_p99_needs_a_hundred_loads():
    row = dict.fromkeys((column.name for column in CODEC_TRADE), 1) | {
        "trace": "a", "policy": "store-raw", "reclaim": "lru", "zswap_p50_ns": 6_000,
        "zswap_p99_ns": 91_000, "finished": True,
    }  # fmt: skip
    rows = [row | {"codec": "lzo", "zswap_loads": 99}, row | {"codec": "zstd", "zswap_loads": 100}]
    _, heads, few, enough, meaning = codec_lines(pl.DataFrame(rows))

    assert heads.split()[1:3] == ["mean", "pool"]  # the main table has its peak
    assert max(map(len, (heads, few, enough))) <= 80
    assert "91" not in few
    assert "6.0 us" in few
    assert "91.0 us" in enough
    assert "with the reclaim" in meaning

    rows[1] |= {"finished": False}  # its sums are of what ran before
    _, _, few, enough, _, mark = codec_lines(pl.DataFrame(rows))
    assert few.startswith("  lzo")
    assert enough.startswith("X zstd")
    assert mark == "X ended in an OOM kill: what ran before"


def test_plain_swap_stands_once_where_codecs_are_compared(fake_result):
    summary, latency, footprint, run = fake_result(
        ("no-zswap", "store-raw"), codecs=("lzo", "zstd")
    )
    plain = summary.filter(policy="no-zswap", codec="lzo")
    same = plain.with_columns(scenario=pl.lit("no-zswap-zstd"), codec=pl.lit("zstd"))
    zswap = summary.filter(policy="store-raw")

    def shown(*parts: pl.DataFrame) -> list[str]:
        lines = rendered((pl.concat(parts), latency, footprint, run)).splitlines()
        return [line for line in lines if " loses " not in line]  # without the verdict

    once = [line for line in shown(plain, same, zswap) if line.startswith("no-zswap ")]
    assert [line.split()[1] in ("lzo", "zstd") for line in once] == [False]
    assert sum(line.startswith("store-raw ") for line in shown(plain, same, zswap)) == 2
    # Results that differ are both shown, by what was set.
    other = same.with_columns(pgmajfault=pl.col("pgmajfault") + 1)
    both = [line.split()[1] for line in shown(plain, other, zswap) if line.startswith("no-zswap ")]
    assert {"lzo", "zstd"} <= set(both)


def test_a_policy_of_ones_own_without_reclaim_stands_at_every_limit(fake_result, monkeypatch):
    mine = dataclasses.replace(POLICIES["unlimited-memory"], name="mine")
    monkeypatch.setitem(POLICIES, "mine", mine)
    summary, latency, *rest = fake_result(("no-zswap", "unlimited-memory"), limits_mib=(48, 80))
    bound = summary.filter(policy="unlimited-memory")
    own = [
        bound.with_columns(
            scenario=pl.lit(f"mine-{mib}"),
            policy=pl.lit("mine"),
            memory_limit_bytes=pl.lit(mib << 20, dtype=pl.Int64),
        )
        for mib in (48, 80)
    ]
    text = rendered((pl.concat([summary, *own]), latency, *rest))
    lines = [line for line in text.splitlines() if line.startswith("mine ")]
    assert len([line for line in lines if " loses " not in line]) == 2


def test_unlimited_memory_stands_once_below_every_limit(fake_result):
    summary, latency, footprint, run = fake_result(
        ("no-zswap", "unlimited-memory"), limits_mib=(48, 80)
    )
    bound = summary.filter(policy="unlimited-memory")
    bounds = [
        bound.with_columns(
            scenario=pl.lit(f"bound-{mib}-{codec}"),
            codec=pl.lit(codec),
            memory_limit_bytes=pl.lit(mib << 20, dtype=pl.Int64),
        )
        for mib in (48, 80)
        for codec in ("lzo", "zstd")
    ]
    summary = pl.concat([summary.filter(policy="no-zswap"), *bounds])
    text = rendered((summary, latency, footprint, run))

    first, second = text.split("memory limit ")[1:]
    assert first.count("unlimited-memory") == second.count("unlimited-memory") == 1
    assert (
        json.loads(to_json(summary, latency, run))["scenarios"][-1]["scenario"] == "bound-80-zstd"
    )


def test_a_mark_is_explained_and_absent_marks_are_not(fake_result):
    summary, *rest = fake_result(limits_mib=(48,))
    accesses = pl.when(policy="keep-on-reject").then(900_000).otherwise("accesses")
    text = rendered((summary.with_columns(accesses=accesses), *rest), 100)
    assert "X ended in an OOM kill" in text
    assert "killed after 900,000 accesses" in " ".join(text.split())
    assert "! reclaim gained nothing" in text
    assert "^ went over the limit" in text

    calm = rendered(fake_result(("no-zswap", "swap-on-reject")), 100)
    assert "OOM kill" not in calm
    assert "gained nothing" not in calm


def test_a_pool_that_is_not_charged_is_no_reason_for_reclaim_in_vain(fake_result):
    summary, latency, _footprint, _run = fake_result(("store-raw",))
    gainless = int(summary["reclaim_no_gain_runs"][0])
    for cgroup, failures, is_reason, said in (
        ("v2", 0, True, "runs"),
        ("v1", 0, False, "runs"),
        ("v2", gainless - 1, True, f"runs, {gainless - 1:,} of which freed no page"),
        ("v2", gainless, False, "runs, none of which freed a page"),
        ("v2", gainless + 5, False, "runs, none of which freed a page"),
    ):
        changed = summary.with_columns(
            cgroup=pl.lit(cgroup), reclaim_failures=pl.lit(failures, pl.Int64)
        )
        (danger,) = (each for each in dangers(labelled_rows(changed, latency)) if each.mark == "!")
        assert ("what the pool is charged" in danger.meaning) == is_reason
        assert danger.detail.endswith(said)


def test_a_scenario_that_other_flush_phases_kill_is_marked(fake_result):
    summary, latency, footprint, run = fake_result(("no-zswap", "vswap"))
    at_risk = pl.when(policy="vswap").then(2).otherwise(0).cast(pl.Int64)
    summary = summary.with_columns(flush_phases=pl.lit(5), flush_phases_killed=at_risk)
    text = " ".join(rendered((summary, latency, footprint, run), 100).split())

    assert "vswap ?" in text
    assert "? may end in an OOM kill" in text
    assert "(vswap: 2 of 5 replays)" in text


def test_the_winner_has_the_least_stall_and_a_killed_scenario_or_a_bound_cannot_win(fake_result):
    summary, latency, _footprint, _run = fake_result(limits_mib=(48, 80))
    summary = summary.with_columns(
        stall_total_ns=pl.when(pl.col("policy").is_in(["keep-on-reject", "unlimited-memory"]))
        .then(1)
        .otherwise("stall_total_ns")
    )
    low, high = comparison_groups(labelled_rows(summary, latency))

    won = verdict(low)
    assert won.winner is not None
    assert won.winner["policy"] == "store-raw-keep"
    assert "93% less than no-zswap" in won.sentence
    assert "Price: 54.7 MiB peak footprint" in won.sentence
    won_high = verdict(high)
    assert won_high.winner is not None
    assert won_high.winner["policy"] == "keep-on-reject"  # it lives at this limit


def test_the_rival_is_plain_swap_under_the_same_reclaim(fake_result):
    summary, latency, _footprint, _run = fake_result(("no-zswap", "store-raw"))
    other = summary.filter(policy="no-zswap").with_columns(
        scenario=pl.lit("other"), reclaim=pl.lit("lru"), stall_total_ns=pl.lit(40_000_000, pl.Int64)
    )
    same = summary.with_columns(stall_total_ns=pl.Series([20_000_000, 10_000_000]))
    said = verdict_of(pl.concat([other, same]), latency).gain
    assert "50% less than no-zswap two-list" in said


def test_a_price_says_why_it_is_beyond_the_limit(fake_result):
    def price(policy, cgroup):
        summary, latency, _footprint, _run = fake_result((policy,))
        summary = summary.with_columns(
            cgroup=pl.lit(cgroup),
            pool_bytes_peak=pl.lit(20 << 20, pl.Int64),
            footprint_bytes_peak=pl.col("memory_limit_bytes") + (10 << 20),
            pswpout=pl.lit(256, pl.Int64),
        )
        return verdict_of(summary, latency).price

    not_charged = "10.0 MiB beyond the limit, as the pool is not charged to it"
    assert not_charged in price("store-raw", "v1")
    assert not_charged in price("zram", "v2")
    assert "charged by compressed bytes, not by its pages" in price("store-raw", "v2")
    assert "1.0 MiB written to the device" in price("store-raw", "v2")
    assert "device" not in price("zram", "v2")


def test_a_winner_that_other_phases_of_the_flush_kill_has_that_as_its_price(fake_result):
    summary, latency, _footprint, _run = fake_result(("store-raw",))
    risky = summary.with_columns(
        flush_phases=pl.lit(5, pl.Int64), flush_phases_killed=pl.lit(2, pl.Int64)
    )
    said = "an OOM kill in 2 of 5 phases of the statistics flush"
    assert said in verdict_of(risky, latency).price
    assert "OOM kill" not in verdict_of(summary, latency).price


def test_of_equals_the_smallest_footprint_wins_and_the_sentence_says_so(fake_result):
    summary, latency, _footprint, _run = fake_result(("no-zswap", "store-raw", "vswap"))
    summary = summary.with_columns(
        stall_total_ns=pl.lit(1_000_000),
        footprint_bytes_peak=pl.Series([3 << 20, 2 << 20, 1 << 20]),
    )
    won = verdict_of(summary, latency)

    assert won.winner is not None
    assert won.winner["policy"] == "vswap"
    assert "all policies tie within 2%; vswap needs the least memory" in won.sentence

    same = summary.with_columns(footprint_bytes_peak=pl.lit(1 << 20))
    assert "all policies tie within 2%: " in verdict_of(same, latency).sentence

    killed = summary.with_columns(finished=pl.col("policy") != "store-raw")
    assert "all that finished tie within 2%; vswap" in verdict_of(killed, latency).sentence
    bound = killed.with_columns(
        reclaim=pl.lit("opt"), scenario=pl.col("scenario") + "-opt", stall_total_ns=pl.lit(1)
    )
    with_bounds = verdict_of(
        pl.concat([killed, bound]),
        pl.concat([latency, latency.with_columns(scenario=pl.col("scenario") + "-opt")]),
    )
    assert "but for the bounds, all that finished tie within 2%; vswap" in with_bounds.sentence


def test_where_every_scenario_was_killed_nobody_wins(fake_result):
    summary, latency, _footprint, run = fake_result(("store-raw", "vswap"))
    summary = summary.with_columns(finished=pl.lit(False))
    assert verdict_of(summary, latency).winner is None
    assert "No policy finished" in rendered((summary, latency, None, run))


def test_a_share_of_the_pages_touched_is_not_told_of_killed_scenarios_alone(fake_result):
    summary, latency, _footprint, _run = fake_result(("store-raw",))
    rows = labelled_rows(summary.with_columns(finished=pl.lit(False)), latency)
    assert comparison_groups(rows)[0].title == "80.0 MiB"
    assert comparison_groups(rows, 40_960)[0].title == "80.0 MiB (50% of the pages touched)"


def test_a_trace_with_the_bound_alone_has_a_group_beside_traces_with_policies(fake_result):
    summary, latency, _footprint, _run = fake_result(("unlimited-memory", "store-raw"))
    rows = labelled_rows(summary, latency)
    alone = [{**row, "trace": "other"} for row in rows if row["policy"] == "unlimited-memory"]
    groups = comparison_groups([*rows, *alone])
    assert {group.trace: len(group.rows) for group in groups} == {rows[0]["trace"]: 2, "other": 1}


def test_the_winners_of_a_sweep_count_kills_and_risks_apart(fake_result):
    summary, latency, _footprint, _run = fake_result(("no-zswap", "store-raw", "vswap"))
    of_job = pl.lit("job/") + pl.col("scenario")
    summary = summary.with_columns(
        scenario=of_job,
        finished=pl.Series([False, True, True]),
        flush_phases=pl.lit(5, pl.Int64),
        flush_phases_killed=pl.Series([3, 1, 0]),
    )
    console = Console(file=io.StringIO(), width=100, color_system=None)
    render_winners(summary, latency.with_columns(scenario=of_job), console)
    assert console.file.getvalue().splitlines()[-1].endswith("1 of 3, 1 at risk")


def test_labels_say_what_else_tells_scenarios_apart(fake_result):
    summary, latency, _footprint, _run = fake_result(
        ("no-zswap", "store-raw", "unlimited-memory"), codecs=("lzo", "zstd")
    )
    labels = [row["label"] for row in labelled_rows(summary, latency)]

    assert labels == [
        "no-zswap lzo",
        "store-raw lzo",
        "no-zswap zstd",
        "store-raw zstd",
        "unlimited-memory",
    ]


def test_json_is_one_object_with_every_column_and_the_winners(fake_result):
    summary, latency, _footprint, run = fake_result(limits_mib=(48, 80))
    parsed = json.loads(to_json(summary, latency, run))

    assert [row["scenario"] for row in parsed["scenarios"]] == summary["scenario"].to_list()
    assert set(parsed["scenarios"][0]) == {column.name for column in SUMMARY} | {
        "touches_by_service",
        *(f"majfault_latency_{name}_ns" for name in ("p50", "p90", "p99", "p999", "max", "mean")),
    }
    for row, original in zip(parsed["scenarios"], summary.to_dicts(), strict=True):
        assert {name: row[name] for name in original} == original
        counts = latency.filter(scenario=row["scenario"]).group_by("service").agg(pl.sum("count"))
        expected = dict.fromkeys(SERVICES, 0) | dict(counts.iter_rows())
        assert row["touches_by_service"] == expected
    assert [winner["memory_limit_bytes"] for winner in parsed["winners"]] == [48 << 20, 80 << 20]
    assert parsed["run"]["seed"] == 0


def test_csv_holds_the_summary_and_a_count_per_service(fake_result):
    summary, latency, _footprint, run = fake_result()
    lines = list(csv.DictReader(io.StringIO(to_csv(summary, latency, run))))

    assert len(lines) == len(summary)
    assert lines[0]["policy"] == summary["policy"][0]
    assert int(lines[0]["touches_device"]) == summary["pswpin"][0]


def test_a_result_without_rows_is_said_and_not_an_error(fake_result):
    summary, latency, footprint, run = fake_result(("no-zswap",))
    assert "no scenario" in rendered((summary.clear(), latency.clear(), footprint, run))


def test_shapes_are_drawn_for_a_terminal_only_and_in_ascii_where_it_must_be(fake_result):
    result = fake_result(("no-zswap", "store-raw", "unlimited-memory"))

    assert "▁" not in rendered(result)
    shapes = rendered(result, terminal=True)
    assert "█" in shapes
    assert "|10us" in shapes
    assert "no swap-in" in shapes
    assert "#" in rendered(result, terminal=True, encoding="ascii")


def test_a_trace_name_cannot_move_the_cursor_or_turn_the_text(fake_result):
    text = rendered(fake_result(("no-zswap",), trace="a\x1b[2J\u202eevil [bold]x.parquet"))

    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[bold]x.parquet" in text
    assert printable("Größe 1 µs") == "Größe 1 µs"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.854, "0.85"),
        (9.996, "10.0"),
        (12.34, "12.3"),
        (99.96, "100"),
        (4210.4, "4,210"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert three_digits(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (9_999, "9,999"),
        (10_000, "10.0k"),
        (999_499, "999k"),
        (999_600, "1.00M"),
        (45_600_000, "45.6M"),
    ],
)
def test_counts_are_short(count, text):
    assert short_count(count) == text


def test_percentiles_of_major_faults_leave_out_what_readahead_had_ready(fake_result):
    summary, latency, _footprint, run = fake_result(("no-zswap", "mixed-lru"))
    rows = {row["policy"]: row for row in labelled_rows(summary, latency)}

    plain, read_ahead = rows["no-zswap"], rows["mixed-lru"]
    for name in ("p50", "p99"):
        assert plain[f"majfault_latency_{name}_ns"] is not None
    major = latency.filter(
        pl.col("scenario") == read_ahead["scenario"],
        ~pl.col("service").is_in(["minor", "swap_cache"]),
    ).sort("latency_ns_high")
    reached = major["count"].cum_sum()
    half = major.filter(reached >= (major["count"].sum() + 1) // 2)["latency_ns_high"][0]
    assert read_ahead["majfault_latency_p50_ns"] == half
    csv_row = list(csv.DictReader(io.StringIO(to_csv(summary, latency, run))))[1]
    assert int(csv_row["majfault_latency_p50_ns"]) == half


def test_what_percentiles_cover_is_said_where_readahead_answers_much(fake_result):
    summary, latency, footprint, run = fake_result(("no-zswap", "swap-on-reject"))
    assert "swap cache" not in rendered((summary, latency, footprint, run))

    # Seven of eight reads of the device were ready in the swap cache.
    device = latency.filter(service="device", scenario="no-zswap-80MiB-lzo")
    ready = device.with_columns(
        service=pl.lit("swap_cache"),
        latency_ns_low=pl.lit(900, dtype=pl.Int64),
        latency_ns_high=pl.lit(949, dtype=pl.Int64),
        count=7 * pl.col("count"),
    )
    summary = summary.with_columns(
        swapin_latency_p50_ns=pl.when(policy="no-zswap")
        .then(948)
        .otherwise("swapin_latency_p50_ns")
    )
    text = " ".join(rendered((summary, latency.vstack(ready), footprint, run)).split())
    assert "in the swap cache already (88% with no-zswap)" in text
    assert "over major faults alone p50 is" in text
    assert "with no-zswap (majfault_latency_p50_ns of --format json)" in text.split("p50 is")[1]


def test_many_scenarios_are_told_by_their_range_and_where_to_read_them(fake_result):
    summary, latency, _footprint, _run = fake_result(
        ("no-zswap", "mixed-lru", "zram"), limits_mib=(48, 80)
    )
    summary = summary.with_columns(swapin_latency_p50_ns=pl.lit(950, dtype=pl.Int64))
    rows = labelled_rows(summary, latency)
    note = readahead_note(rows, "column p50 major")
    values = sorted(row["majfault_latency_p50_ns"] for row in rows)

    assert "with mixed-lru at 80.0 MiB" in note
    low, high = format_duration(values[0]), format_duration(values[-1])
    assert note.endswith(
        f"; over major faults alone p50 is {low} to {high} in 6 scenarios (column p50 major)"
    )


def test_a_verdict_counts_those_it_is_level_with_where_they_are_many(fake_result):
    policies = (
        "no-zswap",
        "swap-on-reject",
        "store-raw",
        "no-writeback",
        "vswap",
        "zram",
        "shrinker",
    )
    summary, latency, _footprint, _run = fake_result(policies)
    level = pl.when(policy="zram").then(90_000_000).otherwise(1_000_000)
    summary = summary.with_columns(stall_total_ns=level.cast(pl.Int64))
    assert "loses least time, level with 5 others: 1.0 ms" in verdict_of(summary, latency).sentence

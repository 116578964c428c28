"""From what a replay counted to the rows of the summary and footprint tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from tracereplay.reclaim import find_reclaim
from tracereplay.replay.engine import Replay
from tracereplay.replay.state import COUNTERS, MIN_LRU_BATCH
from tracereplay.schema import (
    CODEC_TRADE,
    FOOTPRINT,
    SUMMARY,
    SUMMARY_COUNTS,
    SUMMARY_DANGER,
    polars_schema,
)
from tracereplay.units import PAGE_BYTES


def summary_row(
    replay: Replay,
    *,
    trace_name: str,
    latency: dict[str, int | None],
    stall_total_ns: int,
    trace_time_ns: int | None,
    flush_phases: tuple[int, int] = (1, 0),
) -> dict[str, Any]:
    """Return one row of the summary table.

    Parameters
    ----------
    latency : percentiles of the swap-in latency: p50, p90, p99, p999, max, mean
    flush_phases : replays with the statistics flushed at different phases, and how many ended in
        an OOM kill; the row itself is the first of them
    trace_time_ns : from the first touch to the last replayed one, None without a clock
    """
    scenario, counts = replay.scenario, replay.kernel_counters()
    m = replay.machine[0]
    touches = max(int(m["last_access"]), 1)
    keys: dict[str, Any] = {
        "scenario": scenario.name,
        "trace": trace_name,
        "policy": scenario.policy,
        "reclaim": scenario.reclaim,
        "kernel": scenario.kernel,
        "cgroup": scenario.cgroup,
        "codec": scenario.codec,
        "allocator": scenario.allocator,
        "memory_limit_bytes": scenario.memory_limit_bytes,
        "pool_limit_bytes": scenario.pool_limit,
        "device": scenario.device,
        "page_cluster": scenario.page_cluster,
    }
    resident = int(m["resident_sum"]) * PAGE_BYTES // touches
    pool = int(m["pool_sum"]) * PAGE_BYTES // touches
    memory = {
        "resident_bytes_mean": resident,
        "resident_bytes_peak": counts["resident_pages_peak"] * PAGE_BYTES,
        "pool_bytes_mean": pool,
        "pool_bytes_peak": counts["pool_pages_peak"] * PAGE_BYTES,
        "stored_pages_mean": int(m["stored_sum"]) // touches,
        "stored_pages_peak": counts["stored_pages_peak"],
        "device_bytes_peak": counts["device_pages_peak"] * PAGE_BYTES,
        "swap_bytes_peak": counts["swap_slots_peak"] * PAGE_BYTES,
        "footprint_bytes_mean": resident + pool,
        "footprint_bytes_peak": counts["footprint_pages_peak"] * PAGE_BYTES,
    }
    danger: dict[str, Any] = {
        column.name: counts[column.name] for column in SUMMARY_DANGER if column.name in COUNTERS
    }
    danger["overshoot_bytes_peak"] = max(counts["overshoot_bytes_peak"], 0)
    danger["finished"] = replay.finished
    danger["oom_at_access"] = None if replay.finished else int(m["oom_at_access"])
    least = MIN_LRU_BATCH if find_reclaim(scenario.reclaim).keeps_generations else 1
    danger["swap_full"] = bool(m["swap_slots_total"] - m["swap_slots"] < least)
    danger["flush_phases"], danger["flush_phases_killed"] = flush_phases
    times: dict[str, Any] = {f"swapin_latency_{name}_ns": value for name, value in latency.items()}
    times["stall_total_ns"] = stall_total_ns
    times["stall_ratio"] = (
        stall_total_ns / (trace_time_ns + stall_total_ns) if trace_time_ns else None
    )
    row = keys | {c.name: counts[c.name] for c in SUMMARY_COUNTS} | memory | danger | times
    return {column.name: row[column.name] for column in SUMMARY}


def summary_frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Return the summary table; schema SUMMARY."""
    return pl.DataFrame(rows, schema=polars_schema(SUMMARY))


_FEWEST_STORED = 50


def codec_frame(summary: pl.DataFrame, latency: pl.DataFrame) -> pl.DataFrame:
    """Return what each codec saves and costs, side by side; schema CODEC_TRADE.

    One row per scenario that stored pages in zswap or zram. Times are those of touches that a decompression
    answered, with the reclaim they had to do: buckets' upper edges, and middles for the sum.
    """
    middle = (pl.col("latency_ns_low") + pl.col("latency_ns_high") - 1) / 2
    reached = pl.col("count").cum_sum().over("scenario")
    total = pl.col("count").sum().over("scenario")
    loads = (
        latency.filter(service="zswap")
        .sort("scenario", "latency_ns_low")
        .with_columns(middle=middle, reached=reached, total=total)
        .group_by("scenario")
        .agg(
            zswap_loads=pl.col("count").sum(),
            zswap_total_ns=(pl.col("count") * pl.col("middle")).sum().round().cast(pl.Int64),
            zswap_p50_ns=_percentile(0.5),
            zswap_p99_ns=_percentile(0.99),
        )
    )
    stored_bytes = pl.col("stored_pages_mean") * PAGE_BYTES
    # Of whole pages: a ratio of fewer would say more of their rounding than of the pool.
    is_worth_a_ratio = pl.col("stored_pages_mean") >= _FEWEST_STORED
    frame = (
        summary.filter(pl.col("stored_pages_peak") > 0)
        .join(loads, on="scenario", how="left", maintain_order="left")
        .with_columns(
            pl.col("zswap_loads", "zswap_total_ns").fill_null(0),
            stored_bytes_mean=stored_bytes,
            pool_ratio=pl.when(is_worth_a_ratio).then(pl.col("pool_bytes_mean") / stored_bytes),
        )
        .sort("trace", "policy", "reclaim", "memory_limit_bytes", maintain_order=True)
    )
    return frame.select(pl.col(column.name) for column in CODEC_TRADE).cast(
        polars_schema(CODEC_TRADE)  # type: ignore[arg-type]  # names → dtypes
    )


def _percentile(share: float) -> pl.Expr:
    is_reached = pl.col("reached") >= (pl.col("total") * share).ceil()
    return pl.col("latency_ns_high").filter(is_reached).first()


def footprint_frame(replay: Replay, *, has_time: bool) -> pl.DataFrame:
    """Return the footprint of one scenario over the trace; schema FOOTPRINT."""
    points = replay.footprint()
    columns: dict[str, Any] = {
        "scenario": [replay.scenario.name] * points.size,
        "access": points["access"].astype(np.int64),
        "time_ns": points["time_ns"].astype(np.int64) if has_time else [None] * points.size,
    }
    for column in FOOTPRINT[3:]:
        columns[column.name] = points[column.name].astype(np.int64)
    return pl.DataFrame(columns, schema=polars_schema(FOOTPRINT))

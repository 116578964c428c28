"""A result that no replay made: every column of the schema, consistent where the report needs it."""

import numpy as np
import polars as pl
import pytest

from tracereplay.schema import FOOTPRINT, LATENCY, SUMMARY, polars_schema
from tracereplay.units import PAGE_BYTES

MIB = 1 << 20
PAGES = 40_960  # 160 MiB touched
ACCESSES = 2_000_000
GROWTH = 1.04

# policy → share of swap-ins answered by each service, relative number of swap-ins
_CHARACTER = {
    "no-zswap": ({"device": 1.0}, 1.0),
    "swap-on-reject": ({"zswap": 0.7, "device": 0.28, "zero": 0.02}, 1.05),
    "keep-on-reject": ({"zswap": 0.97, "zero": 0.03}, 1.3),
    "store-raw": ({"zswap": 0.68, "zswap_raw": 0.27, "zero": 0.02, "device": 0.03}, 1.2),
    "store-raw-keep": ({"zswap": 0.69, "zswap_raw": 0.29, "zero": 0.02}, 1.25),
    "no-writeback": ({"zswap": 0.9, "swap_cache": 0.1}, 1.3),
    "ghost-swapfile": ({"zswap": 0.98, "zero": 0.02}, 1.32),
    "mixed-lru": ({"zswap": 0.7, "swap_cache": 0.2, "device": 0.1}, 1.1),
    "ratio-cutoff": ({"zswap": 0.9, "zero": 0.1}, 1.4),
    "shrinker": ({"zswap": 0.6, "zswap_raw": 0.2, "device": 0.2}, 1.0),
    "vswap": ({"zswap": 0.68, "zswap_raw": 0.28, "device": 0.04}, 1.2),
    "zram": ({"device": 1.0}, 1.1),
    "unlimited-memory": ({}, 0.0),
}
_MEDIAN_NS = {
    "minor": 900,
    "swap_cache": 1_100,
    "zero": 1_500,
    "zswap": 7_000,
    "zswap_raw": 2_200,
    "device": 95_000,
}


def _histogram(rng, median_ns, count):
    draws = rng.lognormal(np.log(median_ns), 0.45, count)
    index = np.floor(np.log(np.maximum(draws, 100) / 100) / np.log(GROWTH)).astype(int)
    buckets, counts = np.unique(index, return_counts=True)
    edges = np.round(100 * GROWTH ** np.arange(buckets.max() + 2)).astype(int)
    return [
        (int(edges[b]), int(edges[b + 1]), int(n)) for b, n in zip(buckets, counts, strict=True)
    ]


def _percentile(histogram, share):
    histogram = sorted(histogram)
    total = sum(n for _, _, n in histogram)
    if not total:
        return None
    seen = 0
    for _low, high, n in histogram:
        seen += n
        if seen >= share * total:
            return high - 1
    return histogram[-1][1] - 1


def make_result(
    policies=tuple(_CHARACTER),
    limits_mib=(80,),
    codecs=("lzo",),
    *,
    trace="web.parquet",
    points=300,
    seed=1,
    **run_changes,
):
    """Return (summary, latency, footprint, run) of every combination; unlimited-memory runs once."""
    rng = np.random.default_rng(seed)
    summary, latency, footprint = [], [], []
    combos = [
        (policy, limit, codec)
        for limit in limits_mib
        for codec in codecs
        for policy in policies
        if policy != "unlimited-memory"
    ]
    if "unlimited-memory" in policies:
        combos.append(("unlimited-memory", 160, codecs[0]))
    for policy, limit, codec in combos:
        shares, volume = _CHARACTER.get(policy, ({"zswap": 1.0}, 1.0))
        scenario = f"{policy}-{limit}MiB-{codec}"
        pressure = max(0.0, 1 - limit / 160)
        swap_ins = int(40_000 * volume * pressure)
        counts = {service: int(swap_ins * share) for service, share in shares.items()}
        counts["minor"] = 5_000
        swapin_histogram, stall, total_ns = [], 0, 0
        for service, count in counts.items():
            if not count:
                continue
            slow = {"zstd": 1.8, "lz4": 0.6}.get(codec, 1.0) if service == "zswap" else 1.0
            buckets = _histogram(rng, _MEDIAN_NS[service] * slow, count)
            latency += [(scenario, service, *bucket) for bucket in buckets]
            spent = sum((low + high) // 2 * n for low, high, n in buckets)
            stall += spent
            if service != "minor":
                swapin_histogram += buckets
                total_ns += spent
        pool = int(limit * MIB * 0.2 * pressure) if "zswap" in counts else 0
        resident = min(limit, 160) * MIB
        killed = policy == "keep-on-reject" and limit < 60
        pswpout = int(counts.get("device", 0) * 1.1)
        swapins = sum(n for service, n in counts.items() if service != "minor")
        row = {column.name: 0 for column in SUMMARY}
        row |= {
            "scenario": scenario,
            "trace": trace,
            "policy": policy,
            "reclaim": "two-list",
            "kernel": "6.18",
            "cgroup": "v2",
            "codec": codec,
            "allocator": "zsmalloc",
            "memory_limit_bytes": limit * MIB,
            "pool_limit_bytes": 64 * MIB,
            "device": "nvme",
            "page_cluster": 3,
            "accesses": ACCESSES,
            "unique_pages": PAGES,
            "pgmajfault": swapins,
            "zswpin": counts.get("zswap", 0) + counts.get("zswap_raw", 0),
            "zswpout": counts.get("zswap", 0) + counts.get("zswap_raw", 0) + 512,
            "pswpin": counts.get("device", 0),
            "pswpout": pswpout,
            "resident_bytes_mean": int(resident * 0.97),
            "resident_bytes_peak": resident,
            "pool_bytes_mean": int(pool * 0.8),
            "pool_bytes_peak": pool,
            "device_bytes_peak": pswpout * PAGE_BYTES // 2,
            "footprint_bytes_mean": int(resident * 0.97 + pool * 0.8),
            "footprint_bytes_peak": resident + pool,
            "reclaim_runs": swap_ins // 8,
            "reclaim_no_gain_runs": swap_ins // 90 if "raw" in policy else 0,
            "overshoot_bytes_peak": 65536 if policy == "store-raw" else 0,
            "finished": not killed,
            "oom_events": int(killed),
            "oom_at_access": 900_000 if killed else None,
            "swapin_latency_p50_ns": _percentile(swapin_histogram, 0.5),
            "swapin_latency_p90_ns": _percentile(swapin_histogram, 0.9),
            "swapin_latency_p99_ns": _percentile(swapin_histogram, 0.99),
            "swapin_latency_p999_ns": _percentile(swapin_histogram, 0.999),
            "swapin_latency_max_ns": _percentile(swapin_histogram, 1.0),
            "swapin_latency_mean_ns": total_ns // swapins if swapins else None,
            "stall_total_ns": stall,
            "stall_ratio": stall / 30e9,
        }
        summary.append(row)
        end = 900_000 if killed else ACCESSES
        for step in range(points):
            at = step / (points - 1)
            wave = 1 - 0.15 * np.sin(at * 9) ** 2
            now = int(min(1.0, at * 6) * wave * resident / PAGE_BYTES)
            footprint.append(
                (
                    scenario,
                    int(at * (end - 1)),
                    int(at * 30e9),
                    now,
                    now // 3,
                    now - now // 3,
                    int(pool / PAGE_BYTES * min(1.0, at * 3) * wave),
                    int(2.5 * pool / PAGE_BYTES * at),
                    int(at * pswpout / 2),
                    int(at * PAGES / 2),
                )
            )
    run = {
        "tracereplay": "0.1.0",
        "schema": "1",
        "command": ["tracereplay", "compare", trace, "-p", "all", "-o", "out"],
        "python": "3.11.7",
        "polars": "2.1.0",
        "numpy": "2.4.6",
        "machine": "x86_64",
        "trace": {
            "name": trace,
            "path": [f"/data/{trace}"],
            "coverage": "full",
            "clock": "mono",
            "sha256": ["a3f1" * 16],
            "rows": ACCESSES,
            "accesses": ACCESSES,
            "unique_pages": PAGES,
            "notes": [],
        },
        "content": "drawn from redis-json by page hash, seed 0, lzo",
        "costs": {"name": "default", "source": "touch times of recorded runs"},
        "scenarios": [
            {"name": row["scenario"], "policy": row["policy"], "seed": 0} for row in summary
        ],
        "seed": 0,
        "wall_time_s": 3.2,
        "notes": ["the trace has no clock in ns: 100 ns are assumed between two touches"],
    } | run_changes
    return (
        pl.DataFrame(summary, schema=polars_schema(SUMMARY)),
        pl.DataFrame(latency, schema=polars_schema(LATENCY), orient="row"),
        pl.DataFrame(footprint, schema=polars_schema(FOOTPRINT), orient="row"),
        run,
    )


def with_swap_ins(result, policy, count):
    """Return the result with so few swap-ins of a policy that its summary has percentiles of them alone."""
    summary, latency, footprint, run = result
    scenarios = summary.filter(policy=policy)["scenario"].implode()
    swap_ins = (pl.col("service") != "minor") & pl.col("scenario").is_in(scenarios)
    one_each = (
        latency.filter(swap_ins).sort("latency_ns_low").group_by("scenario", maintain_order=True)
    )
    few = one_each.head(count).with_columns(count=pl.lit(1, dtype=pl.Int64))
    more = count - few.group_by("scenario").len()["len"].max()
    first = pl.int_range(pl.len()).over("scenario") == 0
    few = few.with_columns(count=pl.when(first).then(1 + more).otherwise(1).cast(pl.Int64))
    return summary, latency.filter(~swap_ins).vstack(few.select(latency.columns)), footprint, run


@pytest.fixture(scope="session")
def fake_result():
    return make_result


@pytest.fixture(scope="session")
def few_swap_ins():
    return with_swap_ins

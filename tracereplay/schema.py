"""Columns, dtypes, units and meaning of every table: the one place that says what stands in a file.

A table here is a tuple of `Column`; the Parquet reference in the docs is generated from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl

SCHEMA_VERSION = "1"


class Coverage(NamedTuple):
    """What a source could see of the accesses, and so what its trace can be asked."""

    can: str
    cannot: str
    warning: str  # what stands beside every result; empty where the trace has all


COVERAGES: dict[str, Coverage] = {
    "full": Coverage(
        can="every access is there: it answers for any memory size and any policy",
        cannot="",
        warning="",
    ),
    "faults": Coverage(
        can="swap-ins and footprint at the memory size it was recorded with, and the first touch of "
        "each page",
        cannot="hit ratios and other memory sizes: a page that was resident made no record, so smaller "
        "memories come out too good; record every access with valgrind lackey "
        "(`tracereplay formats --record`), or with a recorder of accessed bits",
        warning="only page faults are in the trace, so almost every row is a miss at the memory size "
        "of the recording: counts at that size are usable, other sizes and hit ratios are not, and a "
        "smaller memory looks better than it is",
    ),
    "sampled": Coverage(
        can="which pages are hot, and the share of reads and writes among sampled accesses",
        cannot="exact misses: most accesses are missing, so reuse looks longer than it is",
        warning="some accesses were sampled: hot and cold can be told apart, the order of single "
        "accesses cannot, and counts are those of the sample",
    ),
    "sampled-region": Coverage(
        can="how much memory is in use over time, interval by interval",
        cannot="order within an interval, writes, and single pages inside a region: pages were "
        "expanded by rule, not seen",
        warning="accessed bits were sampled per region and interval; pages of a region were spread by "
        "rule, so nothing here is exact",
    ),
    "page-cache": Coverage(
        can="reads of file pages and how well a page cache of some size serves them",
        cannot="anonymous memory, and so nothing about swap",
        warning="only file pages are in the trace; nothing here says what anonymous memory would do",
    ),
}
_WEAKEST_FIRST = ("sampled-region", "sampled", "page-cache", "faults", "full")


def weakest_coverage(coverages: Iterable[str]) -> str:
    """Return the coverage of traces together: they say no more than the one that says least."""
    return min(coverages, key=_WEAKEST_FIRST.index)


# What can answer a touch that was not resident, cheapest first.
SERVICES = ("minor", "swap_cache", "zero", "zswap", "zswap_raw", "device")


class Column(NamedTuple):
    """One column: `dtype` is the name of a polars dtype; `unit` may be empty."""

    name: str
    dtype: str
    unit: str
    meaning: str
    nullable: bool = False


ACCESSES: tuple[Column, ...] = (
    Column(
        "time_ns",
        "UInt64",
        "ns",
        "clock as recorded (see metadata `clock`), not rebased",
        nullable=True,
    ),
    Column("pid", "UInt32", "", "process, that is address space", nullable=True),
    Column("tid", "UInt32", "", "thread", nullable=True),
    Column("vaddr", "UInt64", "", "data address", nullable=True),
    Column("page", "UInt64", "", "vaddr >> page_shift, or what `space` says"),
    Column("space", "Categorical", "", "virt (also where null), phys or file", nullable=True),
    Column("space_id", "UInt64", "", "which file, where space is file", nullable=True),
    Column("is_write", "Boolean", "", "null where the source does not say", nullable=True),
    Column("run_len", "UInt32", "accesses", "references folded into this row, 1 if none"),
    Column("event", "Categorical", "", "event name of the source", nullable=True),
    Column("cpu", "UInt16", "", "", nullable=True),
    Column("comm", "Categorical", "", "only with --keep-comm", nullable=True),
    Column("major", "Boolean", "", "the source says it was a major fault", nullable=True),
    Column("weight", "Float32", "", "sampling weight", nullable=True),
)

LATENCY: tuple[Column, ...] = (
    Column("scenario", "String", "", "name of the scenario, as in `summary`"),
    Column(
        "service",
        "String",
        "",
        f"what answered the touch: {', '.join(SERVICES)}; minor is a first touch, and on 6.1 the first "
        "write to a page that a read brought back",
    ),
    Column("latency_ns_low", "Int64", "ns", "low edge of the bucket, inclusive"),
    Column("latency_ns_high", "Int64", "ns", "high edge of the bucket, exclusive"),
    Column("count", "Int64", "touches", "touches in this bucket"),
)

FOOTPRINT: tuple[Column, ...] = (
    Column("scenario", "String", "", "name of the scenario, as in `summary`"),
    Column("access", "Int64", "", "row of the trace this point was taken after, from 0"),
    Column(
        "time_ns",
        "Int64",
        "ns",
        "when the trace came to that row, from its first on; null without a clock",
        nullable=True,
    ),
    Column("resident_pages", "Int64", "pages", "pages in memory, swap cache included"),
    Column("active_pages", "Int64", "pages", "of these, on the active list"),
    Column("inactive_pages", "Int64", "pages", "of these, on the inactive list"),
    Column("pool_pages", "Int64", "pages", "whole pages the zswap pool takes"),
    Column("stored_pages", "Int64", "pages", "pages held compressed or raw in zswap"),
    Column("device_pages", "Int64", "pages", "pages whose data is on the swap device"),
    Column("swap_slots", "Int64", "slots", "swap slots in use"),
)

SUMMARY_KEYS: tuple[Column, ...] = (
    Column("scenario", "String", "", "name of the scenario"),
    Column("trace", "String", "", "file name of the trace"),
    Column("policy", "String", "", "what becomes of a page (see `tracereplay policies`)"),
    Column("reclaim", "String", "", "which page leaves memory"),
    Column("kernel", "String", "", "whose rules: a release as `--kernel` takes it"),
    Column("cgroup", "String", "", "v1 or v2: what the pool is charged to"),
    Column("codec", "String", "", "compressor"),
    Column("allocator", "String", "", "pool allocator"),
    Column("memory_limit_bytes", "Int64", "bytes", "limit of the memory cgroup"),
    Column("pool_limit_bytes", "Int64", "bytes", "limit of the zswap pool"),
    Column("device", "String", "", "cost table of the swap device"),
    Column("page_cluster", "Int64", "", "vm.page-cluster: log2 of the readahead window"),
)

SUMMARY_COUNTS: tuple[Column, ...] = (
    Column("accesses", "Int64", "accesses", "rows replayed, run lengths counted"),
    Column("unique_pages", "Int64", "pages", "distinct pages touched"),
    Column("pgmajfault", "Int64", "faults", "faults that had to obtain the page"),
    Column("zswpin", "Int64", "pages", "pages loaded from zswap"),
    Column("zswpout", "Int64", "pages", "pages stored in zswap"),
    Column("zswpwb", "Int64", "pages", "pages written back from zswap to the device"),
    Column("pswpin", "Int64", "pages", "pages read from the device"),
    Column("pswpout", "Int64", "pages", "pages written to the device, writeback included"),
    Column("swpin_zero", "Int64", "pages", "zero pages filled in again"),
    Column("swpout_zero", "Int64", "pages", "zero pages dropped by the zero map"),
    Column("swap_ra", "Int64", "pages", "pages read ahead"),
    Column(
        "swap_ra_hit",
        "Int64",
        "pages",
        "touched in the swap cache with the mark of readahead, which pages under write bear too",
    ),
    Column("workingset_refault_anon", "Int64", "pages", "pages brought back after reclaim"),
    Column(
        "workingset_activate_anon", "Int64", "pages", "of these, put on the active list at once"
    ),
    Column("pgactivate", "Int64", "pages", "pages moved to the active list by reclaim"),
    Column("pgdeactivate", "Int64", "pages", "pages moved to the inactive list"),
    Column("pool_limit_hit", "Int64", "stores", "stores that met a full pool"),
    Column("reject_compress_poor", "Int64", "stores", "stores refused: does not shrink"),
    Column("reject_compress_fail", "Int64", "stores", "stores refused: compressor error"),
    Column(
        "reject_alloc_fail",
        "Int64",
        "stores",
        "stores refused for want of memory: always 0, the model never runs out of it",
    ),
    Column("stored_incompressible_pages", "Int64", "pages", "pages stored raw, peak"),
)

SUMMARY_MEMORY: tuple[Column, ...] = (
    Column("resident_bytes_mean", "Int64", "bytes", "resident memory, mean over rows"),
    Column("resident_bytes_peak", "Int64", "bytes", "resident memory, peak"),
    Column("pool_bytes_mean", "Int64", "bytes", "pages of the pool, mean over rows"),
    Column("pool_bytes_peak", "Int64", "bytes", "pages of the pool, peak"),
    Column("stored_pages_mean", "Int64", "pages", "pages in zswap, mean over rows"),
    Column("stored_pages_peak", "Int64", "pages", "pages in zswap, peak"),
    Column("device_bytes_peak", "Int64", "bytes", "data on the swap device, peak"),
    Column(
        "swap_bytes_peak",
        "Int64",
        "bytes",
        "swap slots taken, peak; twice as much swap changes nothing, just as much may kill",
    ),
    Column("footprint_bytes_mean", "Int64", "bytes", "resident + pool, mean over rows"),
    Column("footprint_bytes_peak", "Int64", "bytes", "resident + pool, peak"),
)

SUMMARY_DANGER: tuple[Column, ...] = (
    Column("reclaim_runs", "Int64", "runs", "times a touch had to reclaim"),
    Column("reclaim_scanned", "Int64", "pages", "pages looked at by reclaim"),
    Column("reclaim_freed_pages", "Int64", "pages", "pages reclaim freed"),
    Column("reclaim_pool_growth_bytes", "Int64", "bytes", "charged pool growth during reclaim"),
    Column("reclaim_no_gain_runs", "Int64", "runs", "runs that ended with no more free memory"),
    Column(
        "overshoot_bytes_peak", "Int64", "bytes", "resident + charged pool over the limit, peak"
    ),
    Column("reclaim_failures", "Int64", "runs", "runs that freed no page"),
    Column("oom_events", "Int64", "kills", "times the kernel would have killed the task"),
    Column("finished", "Boolean", "", "false where the scenario ended in an OOM kill"),
    Column("oom_at_access", "Int64", "", "row of the trace where it ended", nullable=True),
    Column(
        "swap_full",
        "Boolean",
        "",
        "where it ended fewer swap slots were left than reclaim goes on with: 1; 64 under mglru",
    ),
    Column("flush_phases", "Int64", "replays", "phases of the statistics flush that were replayed"),
    Column("flush_phases_killed", "Int64", "replays", "of these, ended in an OOM kill"),
    Column(
        "lru_inversions", "Int64", "pages", "pages sent to the device while an older one stayed"
    ),
)

SUMMARY_LATENCY: tuple[Column, ...] = (
    Column("swapin_latency_p50_ns", "Int64", "ns", "median swap-in", nullable=True),
    Column("swapin_latency_p90_ns", "Int64", "ns", "90th percentile swap-in", nullable=True),
    Column("swapin_latency_p99_ns", "Int64", "ns", "99th percentile swap-in", nullable=True),
    Column("swapin_latency_p999_ns", "Int64", "ns", "99.9th percentile swap-in", nullable=True),
    Column("swapin_latency_max_ns", "Int64", "ns", "slowest swap-in", nullable=True),
    Column("swapin_latency_mean_ns", "Int64", "ns", "mean swap-in", nullable=True),
    Column("stall_total_ns", "Int64", "ns", "time lost in faults and reclaim, all touches"),
    Column(
        "stall_ratio",
        "Float64",
        "",
        "share of the time that was replayed; null without a clock",
        nullable=True,
    ),
)

SUMMARY: tuple[Column, ...] = (
    *SUMMARY_KEYS,
    *SUMMARY_COUNTS,
    *SUMMARY_MEMORY,
    *SUMMARY_DANGER,
    *SUMMARY_LATENCY,
)

CODEC_TRADE: tuple[Column, ...] = (
    Column("trace", "String", "", "file name of the trace"),
    Column("policy", "String", "", "what becomes of a page"),
    Column("reclaim", "String", "", "which page leaves memory"),
    Column("memory_limit_bytes", "Int64", "bytes", "limit of the memory cgroup"),
    Column("codec", "String", "", "compressor"),
    Column("finished", "Boolean", "", "false where the scenario ended in an OOM kill"),
    Column("pool_bytes_mean", "Int64", "bytes", "pages of the pool, mean over rows"),
    Column("stored_bytes_mean", "Int64", "bytes", "pages in the pool at full size, mean"),
    Column(
        "pool_ratio",
        "Float64",
        "",
        "pool over what it stores; 1 saves nothing; null of fewer than 50 pages",
        nullable=True,
    ),
    Column("zswap_loads", "Int64", "loads", "touches that a decompression answered"),
    Column("zswap_p50_ns", "Int64", "ns", "of these, the median", nullable=True),
    Column("zswap_p99_ns", "Int64", "ns", "of these, the 99th percentile", nullable=True),
    Column("zswap_total_ns", "Int64", "ns", "of these, the sum"),
    Column("stall_total_ns", "Int64", "ns", "time lost in faults and reclaim, all touches"),
    Column("pswpin", "Int64", "pages", "pages read from the device"),
)

CURVE: tuple[Column, ...] = (
    Column("memory_bytes", "Int64", "bytes", "memory size"),
    Column("misses", "Int64", "accesses", "misses at this size, first touches included"),
    Column("cold_misses", "Int64", "accesses", "first touches"),
    Column("miss_ratio", "Float64", "", "misses over accesses"),
)

REUSE_DISTANCES: tuple[Column, ...] = (
    Column("distance_pages", "Int64", "pages", "other pages used since the page's last use"),
    Column("hits", "Int64", "accesses", "accesses that hit in any memory of more pages than that"),
)
SAMPLED_CURVE: tuple[Column, ...] = (
    *CURVE,
    Column("misses_low", "Int64", "accesses", "low end of the error bar, 95 %"),
    Column("misses_high", "Int64", "accesses", "high end of the error bar, 95 %"),
)

POOL_CURVE: tuple[Column, ...] = (
    Column("memory_bytes", "Int64", "bytes", "memory size, the pool not counted"),
    Column("pool_limit_bytes", "Int64", "bytes", "limit of the pool, in bytes of its objects"),
    Column("misses", "Int64", "accesses", "misses of the memory, first touches included"),
    Column("cold_misses", "Int64", "accesses", "first touches"),
    Column("zswpin", "Int64", "pages", "misses that found their page in the pool"),
    Column("swpin_zero", "Int64", "pages", "misses of zero-filled pages, which need no pool"),
    Column("pswpin", "Int64", "pages", "misses that had to read the device"),
    Column("zswpwb", "Int64", "pages", "pages the pool wrote back to make room"),
)

# What `validate` prints: one row per recorded run and counter.
AGREEMENT: tuple[Column, ...] = (
    Column("run", "String", "", "name of the recorded run"),
    Column("counter", "String", "", "as the kernel names it, or `touch_…_ns`"),
    Column("kernel", "Float64", "", "mean over the repeats that ended alike", nullable=True),
    Column("model", "Float64", "", "mean over the replays that ended so", nullable=True),
    Column("error", "Float64", "", "model / kernel - 1", nullable=True),
    Column("kernel_min", "Float64", "", "least of the repeats", nullable=True),
    Column("kernel_max", "Float64", "", "most of the repeats", nullable=True),
    Column("model_min", "Float64", "", "least of the replays", nullable=True),
    Column(
        "model_max",
        "Float64",
        "",
        "most of the replays; both over the ends of the writeback worker's timing, too",
        nullable=True,
    ),
    Column("release", "String", "", "kernel of the run"),
    Column("reclaim", "String", "", "which page leaves memory"),
    Column("cgroup", "String", "", "v1 or v2"),
    Column("rules", "String", "", "kernel whose rules the replays follow"),
    Column("policy", "String", "", "what the settings of the run are in the model"),
)

CODECS = ("lzo", "lzo-rle", "lz4", "zstd", "deflate")

PAGES: tuple[Column, ...] = (
    Column("pid", "UInt32", "", "process", nullable=True),
    Column("page", "UInt64", "", "virtual page number"),
    Column("zero_filled", "Boolean", "", "all bytes are zero"),
    Column("same_filled", "Boolean", "", "one 8-byte word repeated, zero included"),
    Column("lzo_bytes", "UInt16", "bytes", "size by lzo1x-1; 4096 means it does not shrink"),
    Column("lzo_rle_bytes", "UInt16", "bytes", "size by lzo-rle"),
    Column("lz4_bytes", "UInt16", "bytes", "size by lz4"),
    Column("zstd_bytes", "UInt16", "bytes", "size by zstd level 3"),
    Column("zstd1_bytes", "UInt16", "bytes", "size by zstd level 1"),
    Column("deflate_bytes", "UInt16", "bytes", "size by deflate as the kernel runs it"),
)


def codec_column(codec: str) -> str:
    """Return the column of a page table that holds the sizes of `codec`."""
    return codec.replace("-", "_") + "_bytes"


def polars_schema(columns: tuple[Column, ...]) -> dict[str, Any]:
    """Return name → polars dtype, in order."""
    import polars as pl

    return {column.name: getattr(pl, column.dtype) for column in columns}


def empty_frame(columns: tuple[Column, ...]) -> pl.DataFrame:
    """Return a frame of the table's schema without rows."""
    import polars as pl

    return pl.DataFrame(schema=polars_schema(columns))


METADATA_PREFIX = "tracereplay."
METADATA_KEYS = {
    "schema": "version of the table's schema",
    "format": "reader that made the table",
    "coverage": "which accesses the source could see: " + ", ".join(COVERAGES),
    "clock": "what time_ns counts: perf, mono, instructions, ordinal, …",
    "time_resolution_ns": "smallest step of the clock as printed",
    "page_shift": "log2 of the page size",
    "records": "rows of the table",
    "accesses": "references, run lengths counted",
    "unique_pages": "distinct (pid or file, page)",
    "skipped_lines": "lines that could not be read",
    "lost_events": "events the recorder says it lost",
    "reduced_below_bytes": "smallest memory size this table can still answer for",
    "events": "records per event of the source, folded ones included, JSON object",
    "folded_duplicates": "records that repeated another event's record of the same fault",
    "sources": "file names the table was read from, JSON list",
    "damon_snapshots": "snapshots DAMON took",
    "damon_regions": "regions in them",
    "damon_regions_accessed": "of these, regions with any access",
    "tool_version": "version of tracereplay that wrote the table",
}

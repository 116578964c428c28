"""Options of the replay that several commands take: the same words, defaults and help."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer

MODEL = "Model"
CONTENT = "Contents and costs"
OUTPUT = "Output"


def complete_policy(incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield the policies that begin so, with their one line."""
    from tracereplay.policies import POLICIES

    yield from (
        (policy.name, policy.summary)
        for policy in POLICIES.values()
        if policy.name.startswith(incomplete)
    )


def complete_reclaim(incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield the reclaim models that begin so, with their one line."""
    from tracereplay.reclaim import RECLAIM

    yield from (
        (model.name, model.summary)
        for model in RECLAIM.values()
        if model.name.startswith(incomplete)
    )


Traces = Annotated[
    list[Path],
    typer.Argument(help="Trace table written by `ingest`; several are read in turn."),
]
Policies = Annotated[
    list[str] | None,
    typer.Option(
        "-p",
        "--policy",
        autocompletion=complete_policy,
        help="What becomes of a page; repeatable, or `all`. See `tracereplay policies`.",
        rich_help_panel=MODEL,
    ),
]
Memory = Annotated[
    list[str] | None,
    typer.Option(
        "-m",
        "--memory",
        help="Memory limit: a size, or a percentage of the trace's footprint; repeatable. "
        "Default 50%.",
        rich_help_panel=MODEL,
    ),
]
ReclaimModels = Annotated[
    list[str] | None,
    typer.Option(
        "-r",
        "--reclaim",
        autocompletion=complete_reclaim,
        help="Which page leaves memory: two-list (default), mglru, lru, opt; repeatable.",
        rich_help_panel=MODEL,
    ),
]
Kernel = Annotated[
    str,
    typer.Option("--kernel", help="Whose rules: 6.1, 6.12, 6.18, 7.2, 7.3.", rich_help_panel=MODEL),
]
Cgroup = Annotated[
    Literal["v1", "v2"],
    typer.Option("--cgroup", help="v2 charges the pool to the cgroup.", rich_help_panel=MODEL),
]
Codecs = Annotated[
    list[str] | None,
    typer.Option("--codec", help="Compressor; repeatable. Default lzo.", rich_help_panel=MODEL),
]
Allocator = Annotated[
    str,
    typer.Option("--allocator", help="zsmalloc, zbud, z3fold, ideal.", rich_help_panel=MODEL),
]
PoolLimit = Annotated[
    str | None,
    typer.Option(
        "--pool-limit",
        help="Limit of the zswap pool: a size, or a percentage of --ram. Default 20%.",
        rich_help_panel=MODEL,
    ),
]
Ram = Annotated[
    str,
    typer.Option("--ram", help="Memory of the machine.", rich_help_panel=MODEL),
]
AcceptThreshold = Annotated[
    int,
    typer.Option(
        "--accept-threshold",
        help="zswap accepts again below this percentage of its limit.",
        rich_help_panel=MODEL,
    ),
]
ZswapMax = Annotated[
    str | None,
    typer.Option("--zswap-max", help="memory.zswap.max.", rich_help_panel=MODEL),
]
SwapSize = Annotated[
    str | None,
    typer.Option(
        "--swap-size",
        help="Size of swap. Default: as large as needed.",
        rich_help_panel=MODEL,
    ),
]
PageCluster = Annotated[
    int,
    typer.Option(
        "--page-cluster",
        help="vm.page-cluster: log2 of the readahead window.",
        rich_help_panel=MODEL,
    ),
]
Swappiness = Annotated[int, typer.Option("--swappiness", help="0 to 200.", rich_help_panel=MODEL)]
StatFlush = Annotated[
    str,
    typer.Option(
        "--stat-flush",
        help="How stale the cgroup statistics are that reclaim decides with: a time, or `exact`.",
        rich_help_panel=MODEL,
    ),
]
FlushPhases = Annotated[
    int,
    typer.Option(
        "--flush-phases",
        min=1,
        help="Replay so many phases of the flush: when it falls decides whether stale "
        "statistics end in an OOM kill. Needs a trace with a clock.",
        rich_help_panel=MODEL,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        help="Swap device: nvme, ssd, hdd, zram; none: there is none.",
        rich_help_panel=CONTENT,
    ),
]
CostTable = Annotated[
    Path | None,
    typer.Option("--costs", help="Cost table written by `calibrate`.", rich_help_panel=CONTENT),
]
PageTable = Annotated[
    Path | None,
    typer.Option("--pages", help="Page contents written by `pages`.", rich_help_panel=CONTENT),
]
BundledContent = Annotated[
    str | None,
    typer.Option(
        "--content",
        help="Bundled contents: redis-json, python-objects, sqlite-log, constant:SIZE, "
        "NAME+30%raw. Default redis-json.",
        rich_help_panel=CONTENT,
    ),
]
RewriteEntropy = Annotated[
    float,
    typer.Option(
        "--rewrite-entropy",
        min=0,
        max=1,
        help="Probability that a written page has other contents when it is evicted again.",
        rich_help_panel=CONTENT,
    ),
]
TouchNs = Annotated[
    int,
    typer.Option(
        "--touch-ns",
        help="Time between two touches of a trace without a clock.",
        rich_help_panel=CONTENT,
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every draw.", rich_help_panel=CONTENT)]
Jobs = Annotated[
    int | None,
    typer.Option("-j", "--jobs", min=1, help="Scenarios side by side.", rich_help_panel=OUTPUT),
]

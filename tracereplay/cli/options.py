"""Options that several commands take: the same words, defaults and help."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tracereplay.policies import BASELINE, POLICIES
from tracereplay.reclaim import RECLAIM
from tracereplay.replay.settings import (
    DEFAULT_POOL_PERCENT,
    KERNELS,
    Scenario,
    release_number,
)
from tracereplay.schema import CODECS

if TYPE_CHECKING:
    from tracereplay.trace import Trace

_KERNELS = sorted(KERNELS, key=release_number)
_ALLOCATORS = dict.fromkeys(one for name in _KERNELS for one in KERNELS[name].allocators)
# What `size` searches where no policy is named.
SIZED_POLICIES = (BASELINE, "swap-on-reject", "store-raw")


def _with_default(names: Iterable[str], default: str) -> str:
    """Return names in a row, the default one marked."""
    return ", ".join(f"{name} (default)" if name == default else name for name in names)


def complete_policy(incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield the policies that begin so, with their one line."""
    yield from (
        (policy.name, policy.summary)
        for policy in POLICIES.values()
        if policy.name.startswith(incomplete)
    )


def complete_reclaim(incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield the reclaim models that begin so, with their one line."""
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
        help="What becomes of a page; repeatable, or `all`. See `tracereplay policies`. Default: "
        "`compare` takes no-zswap, swap-on-reject, keep-on-reject, store-raw, no-writeback and "
        f"unlimited-memory, `size` {', '.join(SIZED_POLICIES[:-1])} and {SIZED_POLICIES[-1]}.",
    ),
]
Memory = Annotated[
    list[str] | None,
    typer.Option(
        "-m",
        "--memory",
        help="Memory limit: a size, or a percentage of the trace's footprint; repeatable. "
        "Default 50%.",
    ),
]
ReclaimModels = Annotated[
    list[str] | None,
    typer.Option(
        "-r",
        "--reclaim",
        autocompletion=complete_reclaim,
        help=f"Which page leaves memory: {_with_default(RECLAIM, Scenario.reclaim)}; repeatable.",
    ),
]
Kernel = Annotated[
    str,
    typer.Option("--kernel", help=f"Whose rules: {', '.join(_KERNELS)}."),
]
Cgroup = Annotated[
    Literal["v1", "v2"],
    typer.Option("--cgroup", help="v2 charges zswap's pool to the cgroup."),
]
Codecs = Annotated[
    list[str] | None,
    typer.Option(
        "--codec", help=f"Compressor: {_with_default(CODECS, Scenario.codec)}; repeatable."
    ),
]
Allocator = Annotated[
    str,
    typer.Option("--allocator", help=f"{', '.join(_ALLOCATORS)}; not every kernel has all."),
]
PoolLimit = Annotated[
    str | None,
    typer.Option(
        "--pool-limit",
        help="Limit of the zswap pool: a size, or a percentage of --ram. "
        f"Default {DEFAULT_POOL_PERCENT}%.",
    ),
]
Ram = Annotated[
    str,
    typer.Option("--ram", help="Memory of the machine."),
]
AcceptThreshold = Annotated[
    int,
    typer.Option(
        "--accept-threshold",
        help="zswap accepts again below this percentage of its limit.",
    ),
]
ZswapMax = Annotated[
    str | None,
    typer.Option(
        "--zswap-max", help="memory.zswap.max of the cgroup (v2): the most its pool may take."
    ),
]
SwapSize = Annotated[
    str | None,
    typer.Option(
        "--swap-size",
        help="Size of swap. Default: as large as needed.",
    ),
]
PageCluster = Annotated[
    int,
    typer.Option(
        "--page-cluster",
        help="vm.page-cluster: log2 of the readahead window.",
    ),
]
Swappiness = Annotated[
    int,
    typer.Option(
        "--swappiness",
        help="memory.swappiness, 0 to 200; 0 forbids to swap. lru and opt have none.",
    ),
]
StatFlush = Annotated[
    str,
    typer.Option(
        "--stat-flush",
        help="How stale the cgroup statistics are that reclaim decides with: a time, or `exact`.",
    ),
]
FlushPhases = Annotated[
    int,
    typer.Option(
        "--flush-phases",
        min=1,
        help="How many replays of each scenario, each with the statistics flushed at another moment, "
        "which decides whether stale statistics end in an OOM kill.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        help="Swap device: nvme, ssd, hdd, a device of the table of --costs, or none; zram behind "
        "zswap (as swap itself: -p zram).",
    ),
]
CostTable = Annotated[
    Path | None,
    typer.Option("--costs", help="Cost table written by `calibrate`, or by hand."),
]
PageTable = Annotated[
    Path | None,
    typer.Option("--pages", help="Page contents written by `pages`."),
]
BundledContent = Annotated[
    str | None,
    typer.Option(
        "--content",
        help="What pages hold: redis-json (default), python-objects, sqlite-log, as bundled; "
        "constant:SIZE, each page compresses to so many bytes; NAME+30%raw or NAME+20%zero, of "
        "either, that share does not shrink or is zero.",
    ),
]
RewriteEntropy = Annotated[
    float,
    typer.Option(
        "--rewrite-entropy",
        min=0,
        max=1,
        help="Probability that a written page has other contents when it is evicted again.",
    ),
]
TouchNs = Annotated[
    int,
    typer.Option(
        "--touch-ns",
        help="Time between two touches of a trace without a clock.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every draw.")]
Jobs = Annotated[
    int | None,
    typer.Option("-j", "--jobs", min=1, help="Scenarios side by side."),
]
OutputFormat = Annotated[
    Literal["table", "json", "csv"], typer.Option("--format", help="What to print.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """What is replayed, and with which figures: the options of every command that compares policies."""

    policy: Policies = None
    reclaim: ReclaimModels = None
    kernel: Kernel = Scenario.kernel
    cgroup: Cgroup = Scenario.cgroup
    codec: Codecs = None
    allocator: Allocator = Scenario.allocator
    pool_limit: PoolLimit = None
    ram: Ram = "16GiB"
    accept_threshold: AcceptThreshold = Scenario.accept_threshold_percent
    zswap_max: ZswapMax = None
    swap_size: SwapSize = None
    page_cluster: PageCluster = Scenario.page_cluster
    swappiness: Swappiness = Scenario.swappiness
    stat_flush: StatFlush = "2s"
    flush_phases: FlushPhases = 5
    device: Device = Scenario.device
    costs: CostTable = None
    pages: PageTable = None
    content: BundledContent = None
    rewrite_entropy: RewriteEntropy = 0.0
    touch_ns: TouchNs = Scenario.touch_ns
    seed: Seed = 0
    jobs: Jobs = None

    def scenarios(
        self,
        trace: Trace,
        *,
        policies: Sequence[str] = (),
        memory: Sequence[str] = (),
        bounds: bool = False,
    ) -> list[Scenario]:
        """Return the scenarios of a trace; `policies` are those of a command line that names none."""
        from tracereplay.comparison import make_scenarios

        return make_scenarios(
            trace,
            policies=self.policy or policies,
            memory=memory,
            reclaim=self.reclaim or (),
            codecs=self.codec or (),
            pool_limit=self.pool_limit,
            ram=self.ram,
            swap_size=self.swap_size,
            zswap_max=self.zswap_max,
            stat_flush=self.stat_flush,
            bounds=bounds,
            kernel=self.kernel,
            cgroup=self.cgroup,
            allocator=self.allocator,
            accept_threshold_percent=self.accept_threshold,
            page_cluster=self.page_cluster,
            swappiness=self.swappiness,
            device=self.device,
            touch_ns=self.touch_ns,
        )

    def of_replays(self) -> dict[str, Any]:
        """Return what compare() and find_sizes() take beside scenarios."""
        names = ("pages", "content", "costs", "seed", "jobs", "flush_phases", "rewrite_entropy")
        return {name: getattr(self, name) for name in names}


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command every option of the dataclass that its parameter `options` is annotated with.

    typer reads a command's signature: there the fields stand in the place of the parameter.
    """
    hints = typing.get_type_hints(command, include_extras=True)
    kind = hints.pop("options")
    fields = typing.get_type_hints(kind, include_extras=True)
    shown: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name != "options":
            shown.append(
                parameter.replace(
                    kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name]
                )
            )
            continue
        shown += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=fields[field.name],
            )
            for field in dataclasses.fields(kind)
        ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        values = {
            field.name: given.pop(field.name, field.default) for field in dataclasses.fields(kind)
        }
        command(options=kind(**values), **given)

    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in shown}
    return run

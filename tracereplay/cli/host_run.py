"""`host-run`: touch a trace's pages on this machine's real kernel, and record what it counted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracereplay.cli.app import app, note
from tracereplay.cli.options import Force

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.uint64]
    Owners = npt.NDArray[np.uint32]
    Lines = npt.NDArray[np.uint8]
    Sizes = dict[str, npt.NDArray[np.uint16]]


_SWAP_DIRECTORY = Path("/var/tmp")  # noqa: S108  # the swap file's name in it is drawn


@app.command(
    name="host-run",
    epilog="Example: sudo tracereplay host-run web.parquet -m 64MiB -o runs && "
    "tracereplay validate runs",
)
def host_run(
    trace: Annotated[Path, typer.Argument(help="Trace table written by `ingest`.")],
    memory: Annotated[
        str,
        typer.Option(
            "-m",
            "--memory",
            "--limit",
            help="Memory limit of the cgroup: a size, or % of the pages.",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the run.")],
    name: Annotated[
        str | None,
        typer.Option("--name", help="Name of the run. Default: the trace's."),
    ] = None,
    repeat: Annotated[
        int, typer.Option("--repeat", min=1, max=1000, help="How often to run it.")
    ] = 5,
    stat_every: Annotated[
        str,
        typer.Option(
            "--stat-every",
            help="Time between readings of memory.stat, each of which refreshes the statistics "
            "that reclaim decides with; `never` leaves them to the kernel, every 2 s.",
        ),
    ] = "10ms",
    read_first: Annotated[
        bool,
        typer.Option("--read-first", help="A write touch loads the page before it stores."),
    ] = False,
    pages: Annotated[
        Path | None,
        typer.Option(
            "--pages",
            help="Page table whose compressed sizes the contents imitate.",
        ),
    ] = None,
    content: Annotated[
        str | None,
        typer.Option(
            "--content",
            help="A bundled distribution instead, such as redis-json or redis-json+10%raw.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of drawn contents.")] = 0,
    swap_directory: Annotated[
        Path | None,
        typer.Option(
            "--swap-directory",
            help="Folder for the swap file, on the disk to swap to. Default: /var/tmp.",
        ),
    ] = None,
    swap_size: Annotated[
        str | None,
        typer.Option("--swap-size", help="Default: three times the pages."),
    ] = None,
    zswap: Annotated[bool, typer.Option("--zswap/--no-zswap", help="Compress first.")] = True,
    zram: Annotated[
        bool,
        typer.Option("--zram", help="Swap to a zram device of the run's own, without zswap."),
    ] = False,
    codec: Annotated[
        str | None,
        typer.Option("--codec", "--compressor", help="Such as lzo, zstd. Default: the kernel's."),
    ] = None,
    allocator: Annotated[
        str | None,
        typer.Option("--allocator", "--zpool", help="Before 6.18: zsmalloc, zbud."),
    ] = None,
    pool_percent: Annotated[
        int | None,
        typer.Option(
            "--pool-percent",
            min=0,
            max=100,
            help="Largest pool, % of memory.",
        ),
    ] = None,
    accept: Annotated[
        int | None,
        typer.Option(
            "--accept-threshold",
            min=0,
            max=100,
            help="% of the limit below which a full pool takes pages again.",
        ),
    ] = None,
    shrinker: Annotated[
        bool,
        typer.Option("--shrinker/--no-shrinker", help="shrinker_enabled."),
    ] = False,
    zswap_max: Annotated[
        str | None,
        typer.Option("--zswap-max", help="memory.zswap.max, cgroup v2."),
    ] = None,
    writeback: Annotated[
        bool,
        typer.Option(
            "--writeback/--no-writeback",
            help="memory.zswap.writeback, cgroup v2.",
        ),
    ] = True,
    page_cluster: Annotated[
        int,
        typer.Option("--page-cluster", min=0, max=5, help="Readahead, log2."),
    ] = 0,
    swappiness: Annotated[int, typer.Option("--swappiness", min=0, max=200)] = 60,
    force: Force = False,
) -> None:
    """Replay a trace on this machine's real kernel.

    Its pages are touched in a cgroup of their own, and what the kernel counted is recorded.

    Needs root. The pages are anonymous memory in a cgroup of its own, touched one after the other as
    fast as they come; the times of the trace are not waited for. Swap file, cgroup and settings are
    gone or as before when it ends. `validate DIR` puts the model's counters beside the kernel's.
    """
    import platform

    import numpy as np

    from tracereplay.errors import SettingsError
    from tracereplay.host import run as host
    from tracereplay.host.machine import find_machine
    from tracereplay.host.workload import Workload, line_sizes, load_touches
    from tracereplay.trace import open_trace
    from tracereplay.units import PAGE_BYTES, parse_duration, parse_size, parse_size_or_percent

    if pages is not None and content is not None:
        raise SettingsError("--pages and --content: give one of them")
    if zram and swap_directory is not None:
        raise SettingsError("--zram swaps to no disk; leave --swap-directory out")
    find_machine(zswap=zswap and not zram)
    opened = open_trace(trace)
    stem = name or trace.name.split(".")[0]
    host.check_output(out, stem, force=force)
    touches, numbers, owner, pids = load_touches(opened)
    run = host.HostRun(
        memory_limit_bytes=parse_size_or_percent(
            memory, numbers.size * PAGE_BYTES, of="the trace's pages"
        )
        // PAGE_BYTES
        * PAGE_BYTES,
        swap_directory=swap_directory or _SWAP_DIRECTORY,
        swap_bytes=None if swap_size is None else parse_size(swap_size),
        repeats=repeat,
        zswap=zswap,
        zram=zram,
        compressor=codec,
        zpool=allocator,
        pool_percent=pool_percent,
        accept_percent=accept,
        shrinker=shrinker,
        zswap_max_bytes=None if zswap_max is None else parse_size(zswap_max),
        writeback=writeback,
        page_cluster=page_cluster,
        swappiness=swappiness,
        stat_every_ns=0 if stat_every == "never" else parse_duration(stat_every),
        reads_first=read_first,
    )
    sizes = line_sizes()
    lines = _lines(pages, content, codec or "lzo", seed, sizes, (numbers, owner, pids))
    load = Workload(np.ascontiguousarray(touches), lines)
    note(
        f"{touches.size:,} touches of {numbers.size:,} pages, limit {memory}; "
        f"{repeat} time(s) on {platform.release()}"
    )
    record, touch_ns = host.host_run(load, run, say=note)
    for path in host.write_run(out, stem, record, load, touch_ns, sizes, force=force):
        note(f"wrote {path}")


def _lines(
    pages: Path | None,
    content: str | None,
    codec: str,
    seed: int,
    sizes: Sizes,
    numbered: tuple[Numbers, Owners, list[int | None]],
) -> Lines:
    """Return the random lines of each page: from a table that has them, else from its sizes."""
    import numpy as np

    from tracereplay.content import open_content
    from tracereplay.host.workload import lines_for, recorded_lines
    from tracereplay.schema import codec_column

    numbers, owner, pids = numbered
    if pages is not None and pages.suffix == ".parquet":
        recorded = recorded_lines(pages, numbers)
        if recorded is not None:
            return recorded
    column = codec_column(codec)
    if column not in sizes or codec == "lzo-rle":  # contents are measured by what libraries have
        codec, column = "lzo", "lzo_bytes"
    drawn = open_content(pages, content, codec, seed)
    contents = drawn.for_pages(numbers, owner, pids)
    for line in (f"contents: {drawn.describe()}", *drawn.notes):
        note(line)
    return lines_for(contents.compressed_bytes, contents.zero_filled, sizes[column]).astype(
        np.uint8
    )

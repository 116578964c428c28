"""What the kernel's own swapping costs on this machine: a reference workload, touched and fitted.

`calibrate --own-swap` touches a made-up trace inside a memory cgroup, once with zswap and once with
the swap device alone in every round, and fits faults, reclaim and device to the times of the touches
as `validate --calibrate-on` does. Where the kernel has zram, what that takes beyond zswap is the
difference of a third run. Nothing of a recorded run is in it.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tracereplay.costs import RANDOM_LINES, ZRAM
from tracereplay.errors import HostError, SettingsError
from tracereplay.host import touching
from tracereplay.host.calibrate import ROUNDS, calibrate, median_section
from tracereplay.host.machine import find_machine
from tracereplay.host.pages import choose_columns
from tracereplay.host.run import (
    HostRun,
    host_run,
    kernel_compressor,
    try_settings,
    write_run,
)
from tracereplay.host.undo import ZRAM_CONTROL
from tracereplay.host.workload import Workload, line_sizes
from tracereplay.validation import fit_costs

Say = Callable[[str], None]

# The reference workload: a first pass over all pages, then draws that favour some of them, so that
# two thirds of the pages fit and about one touch in six faults.
_PAGES = 14_336
_LIMIT_BYTES = 38 << 20
_TOUCHES = 120_000
_SKEW = 2.2
_WRITES = 0.3
_RAW_SHARE = 0.15  # of pages that do not shrink; the rest spans every size alike
_MOST_LINES = 60
_ZSWAP, _DEVICE, _ZRAM = "with-zswap", "without-zswap", "with-zram"
_LOAD_NS = (1_000, 20_000)  # a touch of a page seen before that took so long was one load
_TIMED = "virtual-disk"  # as fit_costs() names a device


def reference_workload(seed: int) -> Workload:
    """Return the touches and contents that are timed."""
    rng = np.random.default_rng((seed, _PAGES))
    order = rng.permutation(_PAGES)
    drawn = order[(_PAGES * rng.random(_TOUCHES) ** _SKEW).astype(np.int64)]
    touches = np.concatenate([np.arange(_PAGES), drawn]).astype(np.uint32)
    is_write = np.concatenate([np.ones(_PAGES, np.bool_), rng.random(_TOUCHES) < _WRITES])
    lines = rng.integers(1, _MOST_LINES + 1, _PAGES).astype(np.uint8)
    lines[rng.random(_PAGES) < _RAW_SHARE] = touching.LINE_BYTES
    return Workload(touches | np.where(is_write, touching.WRITE, np.uint32(0)), lines)


def calibrate_swap(
    directory: Path, codec: str | None, options: dict[str, Any], say: Say
) -> tuple[dict[str, Any], list[str]]:
    """Measure this machine as calibrate() does, and its own swapping in every round.

    Parameters
    ----------
    directory : where the device test puts its file, and the swap file
    codec : zswap's compressor; None is the one the kernel has now
    options : of calibrate()

    Raises
    ------
    HostError, InputError, SettingsError
        As calibrate() and host_run() do; nothing stays changed.
    """
    machine = find_machine(what="--own-swap")
    codec = codec or kernel_compressor()
    if codec != "lzo-rle":
        try:
            choose_columns([codec])
        except HostError as error:
            raise HostError(
                f"{error}; the kernel's zswap compresses with {codec}, another --compressor may do"
            ) from error
    # Before minutes of measuring: the kernel may have no such compressor for zswap.
    try_settings(HostRun(_LIMIT_BYTES, directory, compressor=codec))
    seed = int(options.get("seed", 0))
    load = reference_workload(seed)
    rounds = int(options.get("rounds", ROUNDS))
    kinds = [_ZSWAP, _DEVICE, *([_ZRAM] if (ZRAM_CONTROL / "hot_add").exists() else [])]
    without_zram = ""
    extras: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="tracereplay-") as name:
        folder = Path(name)

        def touch(turn: int) -> None:
            nonlocal without_zram
            taken: dict[str, Taken] = {}
            for kind in list(kinds):
                say(f"round {turn + 1} of {rounds}: swapping {kind.replace('-', ' ')}")
                run = HostRun(
                    memory_limit_bytes=_LIMIT_BYTES,
                    swap_directory=directory,
                    repeats=1,
                    zswap=kind == _ZSWAP,
                    zram=kind == _ZRAM,
                    compressor=None if kind == _DEVICE else codec,
                )
                try:
                    record, touch_ns = host_run(load, run)
                except (SettingsError, HostError) as error:
                    if kind != _ZRAM:  # which has compressors of its own, and is not asked for
                        raise
                    without_zram = f"zram was not measured: {error}"
                    kinds.remove(kind)
                    continue
                if touch_ns is None and kind == _ZRAM:
                    continue  # as stale statistics can: one round less of it
                if touch_ns is None:
                    raise HostError("the kernel killed the reference workload; is memory short?")
                taken[kind] = Taken(load, touch_ns, record["vmstat"])
                if kind != _ZRAM:
                    write_run(folder, f"{kind}-{turn}", record, load, touch_ns, line_sizes())
            if _ZRAM in taken:
                extras.append(beyond_zswap(taken[_ZRAM], taken[_ZSWAP]))

        table, notes = calibrate(directory=directory, each_round=touch, **options)
        base = folder / "base.json"
        base.write_text(json.dumps(table), encoding="utf-8")
        fits = []
        for turn in range(rounds):
            say(f"fitting round {turn + 1} of {rounds}")
            names = [f"{kind}-{turn}" for kind in (_ZSWAP, _DEVICE)]
            fits.append(fit_costs([folder], names, base))
    merge_fit(table, median_section(fits), codec, f"Linux cgroup {machine.cgroup}, {rounds} rounds")
    if extras:
        of_load, of_store = np.median(np.array(extras), axis=0).tolist()
        source = (
            f"the reference workload with zram less the same with zswap, {codec}, {rounds} rounds"
        )
        table["devices"][ZRAM] = {
            "load_extra_ns": {"value": round(of_load, 1), "source": source},
            "store_extra_ns": {"value": round(of_store, 1), "source": source},
        }
    return table, [*notes, *filter(None, [without_zram])]


@dataclasses.dataclass(frozen=True)
class Taken:
    """A run of a workload: what each touch took, ns, and what the kernel counted."""

    load: Workload
    touch_ns: npt.NDArray[np.uint32]
    vmstat: dict[str, int]


def beyond_zswap(zram: Taken, zswap: Taken) -> tuple[float, float]:
    """Return what zram takes beyond zswap for a load and for a store, ns.

    A load is a touch of a page seen before that took some microseconds: the medians differ by what
    the ways differ by. What is left of the difference of all touches falls to the pages stored.
    """
    of_load = _median_load(zram) - _median_load(zswap)
    both = zram.touch_ns.sum(dtype=np.int64) - zswap.touch_ns.sum(dtype=np.int64)
    loads = zram.vmstat["pswpin"]
    return of_load, (float(both) - loads * of_load) / max(zram.vmstat["pswpout"], 1)


def _median_load(run: Taken) -> float:
    pages = run.load.touches & ~touching.WRITE
    seen = np.ones(pages.size, np.bool_)
    seen[np.unique(pages, return_index=True)[1]] = False
    low, high = _LOAD_NS
    return float(np.median(run.touch_ns[seen & (run.touch_ns > low) & (run.touch_ns < high)]))


def merge_fit(table: dict[str, Any], fit: dict[str, Any], codec: str, where: str) -> None:
    """Put what was fitted to the reference workload in a table of calibrate().

    The codec's figures stay those on real or generated pages; decompression as the reference
    workload saw it belongs to its own kind of pages. Channels and further pages of a read stay as
    O_DIRECT has them: one process that swaps cannot tell.
    """
    source = f"fitted to the touch times of calibrate's reference workload ({where})"
    faults = fit["faults"]
    for figure in faults.values():
        if str(figure.get("source", "")).startswith("fitted to"):
            figure["source"] = source
    table["faults"] |= {name: value for name, value in faults.items() if name != "memory_by_bytes"}
    own = table["codecs"].get(codec)
    if own is not None:
        for name in ("decompress_by_bytes", "decompress_spread"):
            own.setdefault(RANDOM_LINES, {})[name] = fit["codecs"][codec][name] | {"source": source}
    fitted = fit["devices"][_TIMED]
    for device in table["devices"].values():
        channels = device["channels"]["value"]
        fitted["write_ns"]["value"] = round(fitted["write_ns"]["value"] * channels, 1)
        for name in ("read_ns", "write_ns", "submit_ns", "request_ns", "behind_ns", "touches"):
            device[name] = fitted[name] | {"source": source}
    table["method"] += "; faults, reclaim and swap device fitted to a reference workload"

"""What work costs on this machine: codecs, memory, faults, and a device under O_DIRECT.

Each part is bounded in time and space and leaves nothing behind: the test file has no name from the
moment it is open. All parts take turns in rounds, and a figure is its median over the rounds, so that
a machine that changes speed meanwhile (a virtual one has neighbours) does not give one part its fast
minute and another its slow one. What cannot be measured without special rights is derived from what
can, or left out; costs.load_costs() takes the rest from the bundled table and says so.
"""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import os
import platform
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tracereplay.costs import SCHEMA, load_costs
from tracereplay.host.codec_times import (
    TIMINGS,
    generate_pages,
    measure_codec,
    measure_zswap,
    read_pages,
)
from tracereplay.host.cost_figures import TIMING_SHARE, figure
from tracereplay.host.device_times import (
    block_device,
    check_directory,
    device_kind,
    measure_device,
)
from tracereplay.host.machine import other_work
from tracereplay.host.memory_times import measure_answers, measure_memory
from tracereplay.host.pages import choose_columns
from tracereplay.host.system import need_linux
from tracereplay.host.zswap_times import zswap_codec

Progress = Callable[[str], None]

ROUNDS = 5  # of all parts
_REFERENCE_TIMINGS = 40
_REFERENCE_SEED = 6
DRIFT_WORTH_A_WORD = 0.15  # of the reference loop between two rounds
_TYPICAL_BYTES = 64 << 20  # memory in use, for what is derived


def calibrate(
    *,
    directory: str | Path | None = None,
    device: str | None = None,
    pages: str | None = None,
    codecs: Sequence[str] = (),
    seconds: float = 5.0,
    size_bytes: int = 256 << 20,
    seed: int = 0,
    rounds: int = ROUNDS,
    each_round: Callable[[int], None] | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Measure this machine; return a cost table (see costs.py) and what is to be said about it.

    Parameters
    ----------
    directory : where the device test puts its file; None leaves the device out
    device : name of the measured device; None asks the kernel what it is
    pages : process, core or image whose pages the codecs are timed on; None generates pages
    seconds, size_bytes : bounds of the device test
    each_round : called once in every round, with its number: what else is to be measured; zswap is
        then not timed here

    Raises
    ------
    HostError, InputError, SettingsError
        This is not Linux, a codec is not to be had, the directory cannot be written, the disk is full.
    """
    need_linux("calibrate")
    say = progress or (lambda _: None)
    columns, notes = choose_columns(codecs)
    if directory is not None:
        check_directory(Path(directory), size_bytes)
        if block_device(Path(directory)) is None:
            notes.append(
                f"no block device is found below {directory} (btrfs, overlay or network file system?): "
                "see that it is the device you mean"
            )
    texts, kind = read_pages(pages, seed)
    names = {column: {"zstd1_bytes": "zstd1"}.get(column, column[:-6]) for column in columns}
    running = None if each_round is not None else zswap_codec()
    if running is not None and running not in (*names.values(), "lzo-rle"):
        notes.append(f"zswap runs with {running}, which was not asked for: it is not timed")
        running = None
    if busy := other_work():
        notes.append(
            f"{busy}: what it took is in the figures, most of all in those of reclaim; "
            "measure an idle machine"
        )
    parts: list[dict[str, Any]] = []
    reference: list[float] = []
    with contextlib.ExitStack() as opened:
        answers = opened.enter_context(closing_turns(measure_answers(seed)))
        disk = None
        if directory is not None:
            share = seconds / rounds
            turns = measure_device(Path(directory), share, size_bytes, seed)
            disk = opened.enter_context(closing_turns(turns))
            kind_of_device = device or device_kind(Path(directory))
        for turn in range(rounds):
            said = f"round {turn + 1} of {rounds}: "
            say(said + "memory")
            reference.append(_time_reference())
            part: dict[str, Any] = {"faults": measure_memory()}
            part["faults"]["memory_by_bytes"] = next(answers)
            part["codecs"] = {}
            for column, name in names.items():
                say(f"{said}codec {name}")
                part["codecs"][name] = measure_codec(column, texts, kind)
            if "lzo" in part["codecs"]:
                note = {"note": "as lzo: no library has it"}
                part["codecs"]["lzo-rle"] = copy.deepcopy(part["codecs"]["lzo"]) | note
            _derive(part["faults"])
            if running is not None and running in part["codecs"]:
                say(f"{said}zswap with {running}")
                if not measure_zswap(part, running, seed):
                    notes.append("most pages did not go to zswap: it is not timed")
                    running = None
            if disk is not None:
                say(f"{said}device {kind_of_device} at {directory}, {share:g} s")
                part["devices"] = {kind_of_device: next(disk)}
            if each_round is not None:
                each_round(turn)
            parts.append(part)
    table: dict[str, Any] = {
        "schema": SCHEMA,
        "name": _cpu_name(),  # not the host's: reports are shown to others
        "machine": f"{_cpu_name()}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}",
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "method": f"medians over {rounds} rounds of all parts in turn; codecs on {len(texts):,} {kind}, "
        f"of {TIMINGS} timings a page and round the lower quartile",
        "reference_ns": [round(each, 1) for each in reference],
    }
    table["source"] = f"measured on {table['machine']}, {table['date']}"
    table["devices"] = {}
    table |= median_section(parts)
    if running is None and each_round is None:
        notes.append(
            "loads from zswap, and reclaim, are derived, not measured: zswap is off here, or there is "
            "no swap. As root, --own-swap measures them; with both on they are timed"
        )
    if directory is None:
        notes.append("no device was measured; --directory names one to test")
    drift = max(reference) / min(reference) - 1
    if drift > DRIFT_WORTH_A_WORD:
        notes.append(
            f"this machine changed its speed by {drift:.0%} while it was measured (a fixed loop took "
            f"{min(reference) / 1000:.1f} to {max(reference) / 1000:.1f} us): figures are medians over "
            "the rounds; expect that much of what they predict"
        )
    return table, notes


def median_section(parts: Sequence[Any]) -> Any:
    """Return what several measurements of the same figures have in the middle, figure by figure.

    Medians of points in ascending order ascend as well. What is no number is taken from the first.
    """
    first = parts[0]
    if isinstance(first, dict):
        return {key: median_section([part[key] for part in parts if key in part]) for key in first}
    if isinstance(first, list) and all(len(part) == len(first) for part in parts):
        return [median_section(values) for values in zip(*parts, strict=True)]
    if isinstance(first, (int, float)) and not isinstance(first, bool):
        middle = float(np.median(parts))
        whole = isinstance(first, int) and middle.is_integer()
        return int(middle) if whole else round(middle, 4)
    return first


@contextlib.contextmanager
def closing_turns(turns: Iterator[Any]) -> Iterator[Iterator[Any]]:
    """Close a generator of measurements with the block, so that its file and memory go."""
    try:
        yield turns
    finally:
        turns.close()  # type: ignore[attr-defined]  # generators have it


def _time_reference() -> float:
    """Return what a fixed piece of work takes, ns: it says how fast the machine runs just now."""
    page = generate_pages(8, _REFERENCE_SEED)[3]
    clock = time.perf_counter_ns
    times = []
    for _ in range(_REFERENCE_TIMINGS):
        began = clock()
        zlib.compress(page, 1)
        times.append(clock() - began)
    return float(np.quantile(times, TIMING_SHARE))


def _derive(faults: dict[str, Any]) -> None:
    """Put in a table what is not measured here: the bundled figures, as much longer as a fault takes.

    The work is of the same kind, the kernel's own structures, and follows the speed of the machine.
    """
    bundled = load_costs()
    factor = faults["minor_fault_ns"]["value"] / bundled.faults["minor_fault_ns"]
    known, times = np.array(faults["memory_by_bytes"]["points"]).T
    memory = float(np.interp(_TYPICAL_BYTES, known, times))
    answers = factor * float(bundled.memory_ns(_TYPICAL_BYTES)) / max(memory, 1.0)
    how = f"derived: the bundled figure times {factor:.2f}, as much longer a minor fault takes here"
    faults["major_fault_ns"] = figure(faults["minor_fault_ns"]["value"], "derived: a minor fault")
    for name in ("swap_cache_ns", "scan_ns", "unmap_ns", "pool_ns"):
        faults[name] = figure(bundled.faults[name] * factor, how)
    for name in ("load_misses", "evict_misses"):
        faults[name] = figure(bundled.faults[name] * answers, how, digits=4)


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()

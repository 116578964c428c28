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
import errno
import importlib
import mmap
import os
import platform
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tracereplay._jit import kernel
from tracereplay.costs import RANDOM_LINES, SCHEMA, load_costs
from tracereplay.errors import HostError
from tracereplay.host.direct_io import Writer
from tracereplay.host.pages import COMPRESSORS, PageSource, choose_columns, closing, open_source
from tracereplay.host.zswap_times import AREA_PAGES, loads_of, stores_of, time_zswap, zswap_codec
from tracereplay.units import PAGE_BYTES, format_size

Progress = Callable[[str], None]
Times = npt.NDArray[np.float64]

DEPTHS = (1, 2, 4, 8, 16, 32)
_GRID = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)
# Work of the CPU itself: what is slower than this was interrupted by something else.
_UNDISTURBED = 0.9995
ROUNDS = 5  # of all parts
_TIMINGS = 3  # of a page and round; other work on the machine only ever adds, so a low one counts
_TIMING_SHARE = 0.25  # which one of the timings of a page, in order
_LINE = 64
_LINES = (0, 4, 8, 12, 16, 20, 24, 32, 40, 48, 56, 64)  # of random bytes, in pages of random lines
_PAGES_OF_LINES = 24
# Memory in use at which its answer is timed, MiB.
_MEMORY_MIB = (4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_MEMORY_TURNS = 6  # per round
_MEMORY_STEPS = 2000  # answers waited for, one after the other, per turn
_MEMORY_WARM = 65536
_MEMORY_SHARE = 0.25  # which of the turns, in order: as on a machine without other work
_WORDS = PAGE_BYTES // 8
_MEMORY_PAGES = 8192
_MAX_PAGES = 1500  # pages the codecs are timed on
_REFERENCE_TIMINGS = 40
_REFERENCE_SEED = 6
DRIFT_WORTH_A_WORD = 0.15  # of the reference loop between two rounds
_BUSY_SHARE = 0.5  # of the CPUs, before anything was measured
_BATCH = 32  # SWAP_CLUSTER_MAX; what a scan writes reaches the device together
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
        A codec is not to be had, the directory cannot be written, the disk is full.
    """
    say = progress or (lambda _: None)
    columns, notes = choose_columns(codecs)
    if directory is not None:
        _check_directory(Path(directory), size_bytes)
    texts, kind = _read_pages(pages, seed)
    names = {column: {"zstd1_bytes": "zstd1"}.get(column, column[:-6]) for column in columns}
    running = None if each_round is not None else zswap_codec()
    if running is not None and running not in (*names.values(), "lzo-rle"):
        notes.append(f"zswap runs with {running}, which was not asked for: it is not timed")
        running = None
    busy = os.getloadavg()[0]
    if busy > _BUSY_SHARE * (os.cpu_count() or 1):
        notes.append(
            f"other work ran here when this began (load average {busy:.1f}, {os.cpu_count()} CPUs): "
            "what it took is in the figures, most of all in those of reclaim; measure an idle machine"
        )
    parts: list[dict[str, Any]] = []
    reference: list[float] = []
    with contextlib.ExitStack() as opened:
        answers = opened.enter_context(closing_turns(_measure_answers(seed)))
        disk = None
        if directory is not None:
            share = seconds / rounds
            turns = _measure_device(Path(directory), share, size_bytes, seed)
            disk = opened.enter_context(closing_turns(turns))
            kind_of_device = device or _device_kind(Path(directory))
        for turn in range(rounds):
            said = f"round {turn + 1} of {rounds}: "
            say(said + "memory")
            reference.append(_time_reference())
            part: dict[str, Any] = {"faults": _measure_memory()}
            part["faults"]["memory_by_bytes"] = next(answers)
            part["codecs"] = {}
            for column, name in names.items():
                say(f"{said}codec {name}")
                part["codecs"][name] = _measure_codec(column, texts, kind)
            if "lzo" in part["codecs"]:
                note = {"note": "as lzo: no library has it"}
                part["codecs"]["lzo-rle"] = copy.deepcopy(part["codecs"]["lzo"]) | note
            _derive(part["faults"])
            if running is not None and running in part["codecs"]:
                say(f"{said}zswap with {running}")
                if not _measure_zswap(part, running, seed):
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
        "name": platform.node() or "this machine",
        "machine": f"{_cpu_name()}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}",
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "method": f"medians over {rounds} rounds of all parts in turn; codecs on {len(texts):,} {kind}, "
        f"of {_TIMINGS} timings a page and round the lower quartile",
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
    return float(np.quantile(times, _TIMING_SHARE))


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
    faults["major_fault_ns"] = _figure(faults["minor_fault_ns"]["value"], "derived: a minor fault")
    for name in ("swap_cache_ns", "scan_ns", "unmap_ns", "pool_ns"):
        faults[name] = _figure(bundled.faults[name] * factor, how)
    for name in ("load_misses", "evict_misses"):
        faults[name] = _figure(bundled.faults[name] * answers, how, digits=4)


# ---- codecs ----------------------------------------------------------------------------------------


def _decompressor(column: str) -> Callable[[bytes], Any]:
    if column == "lz4_bytes":
        from lz4 import block

        return lambda text: block.decompress(text, uncompressed_size=PAGE_BYTES)
    if column.startswith("zstd"):
        import zstandard

        return zstandard.ZstdDecompressor().decompress
    if column == "lzo_bytes":
        lzo: Any = importlib.import_module("lzo")
        return lambda text: lzo.decompress(text, False, PAGE_BYTES)
    return lambda text: zlib.decompress(text, -11, PAGE_BYTES)


def generate_pages(count: int, seed: int) -> list[bytes]:
    """Return pages of every compressibility: words of a small vocabulary, random bytes, zeros."""
    rng = np.random.default_rng(seed)
    vocabulary = [rng.bytes(int(length)) for length in rng.integers(3, 14, 400)]
    made = []
    for index in range(count):
        noise = int(PAGE_BYTES * (index / count) ** 4)
        words = rng.integers(0, 2 + int(398 * rng.random()), 1500)
        filled = int((PAGE_BYTES - noise) * rng.random())
        text = b"".join(vocabulary[word] for word in words)[:filled]
        page = bytearray((text + bytes(PAGE_BYTES))[:PAGE_BYTES])
        at = int(rng.integers(0, PAGE_BYTES - noise + 1))
        page[at : at + noise] = rng.bytes(noise)
        made.append(bytes(page))
    return made


def _read_pages(where: str | None, seed: int) -> tuple[list[bytes], str]:
    if where is None:
        return generate_pages(_MAX_PAGES // 2, seed), "generated pages of every compressibility"
    with closing(open_source(where)) as source:
        return _draw(source, seed), f"pages of {source.name}"


def _draw(source: PageSource, seed: int) -> list[bytes]:
    chosen = np.arange(source.pages.size, dtype=np.int64)
    if chosen.size > _MAX_PAGES:
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.choice(chosen, _MAX_PAGES, replace=False))
    texts = [text for text in source.read(chosen) if text is not None and text.strip(b"\0")]
    if not texts:
        raise HostError(f"{source.name}: every page is zero or cannot be read")
    return texts


def _time_each(work: Callable[[Any], Any], inputs: Sequence[Any]) -> Times:
    """Return the time of each call, ns, shape (rounds, inputs); calling costs are taken off."""
    clock = time.perf_counter_ns
    times = np.empty((_TIMINGS, len(inputs)))
    empty = np.empty((_TIMINGS, len(inputs)))

    def nothing(_: Any) -> None:
        return None

    for function, into in ((nothing, empty), (work, times)):
        for turn in range(_TIMINGS):
            for index, each in enumerate(inputs):
                began = clock()
                function(each)
                into[turn, index] = clock() - began
    return np.maximum(times - np.median(empty), 1.0)


def _line(sizes: Times, times: Times) -> tuple[float, float]:
    """Fit time = fixed + slope · size through medians of size classes; never below 0.

    The slope may be negative: what compresses well may take longer to match than to give up on.
    """
    edges = np.unique(np.quantile(sizes, np.linspace(0, 1, 17)))
    at = np.clip(np.searchsorted(edges, sizes, "right") - 1, 0, max(edges.size - 2, 0))
    kept = [cls for cls in range(max(edges.size - 1, 1)) if (at == cls).sum() >= 3]
    middle = np.array([np.median(sizes[at == cls]) for cls in kept] or [np.median(sizes)])
    median = np.array([np.median(times[at == cls]) for cls in kept] or [np.median(times)])
    if middle.size < 2 or np.ptp(middle) < 64:
        return float(np.median(times)), 0.0
    slope, fixed = np.polyfit(middle, median, 1)
    if fixed + slope * PAGE_BYTES < 0:
        return float(np.median(times)), 0.0
    if fixed < 0:
        return 0.0, float((median * middle).sum() / (middle**2).sum())
    return float(fixed), float(slope)


def _measure_codec(column: str, texts: list[bytes], kind: str) -> dict[str, Any]:
    compress, decompress = COMPRESSORS[column](), _decompressor(column)
    packed = [compress(text) for text in texts]
    sizes = np.array([min(len(text), PAGE_BYTES) for text in packed], np.float64)
    shrinks = sizes < PAGE_BYTES
    source = f"measured: {kind}"
    packing = np.quantile(_time_each(compress, texts), _TIMING_SHARE, axis=0)
    hard = [text for text, good in zip(texts, shrinks, strict=True) if not good]
    if len(hard) < 16:
        rng = np.random.default_rng(1)
        hard = [rng.bytes(PAGE_BYTES) for _ in range(64)]
    failing = float(np.median(np.quantile(_time_each(compress, hard), _TIMING_SHARE, axis=0)))
    result: dict[str, Any] = {"compress_fail_ns": _figure(failing, source)}
    if not shrinks.any():
        raise HostError(f"{column}: no page shrinks; give --pages other pages")
    good = [text for text, is_good in zip(packed, shrinks, strict=True) if is_good]
    every = _time_each(decompress, good)
    unpacking = np.quantile(every, _TIMING_SHARE, axis=0)
    for name, times in (("compress", packing[shrinks]), ("decompress", unpacking)):
        fixed, slope = _line(sizes[shrinks], times)
        result[f"{name}_ns"] = _figure(fixed, source)
        result[f"{name}_ns_per_byte"] = _figure(slope, source, digits=4)
    fitted = result["decompress_ns"]["value"] + result["decompress_ns_per_byte"]["value"] * sizes
    ratio = every / np.maximum(fitted[shrinks], 1.0)
    result["decompress_spread"] = _distribution(ratio.ravel(), source, 4, _UNDISTURBED)
    result[RANDOM_LINES] = _measure_lines(compress, decompress)
    result["pages"] = {"mean_bytes": round(float(sizes.mean()), 1), "count": len(texts)}
    return result


def lines_page(lines: int, rng: np.random.Generator) -> bytes:
    """Return a page of so many random lines, then zeros, but for its last bytes."""
    filled = min(lines * _LINE, PAGE_BYTES - 8)
    return rng.bytes(filled) + bytes(PAGE_BYTES - 8 - filled) + b"tracerep"


def _measure_lines(
    compress: Callable[[bytes], bytes], decompress: Callable[[bytes], Any]
) -> dict[str, Any]:
    """Time a codec on pages of random lines, which the recorded kernel runs used."""
    source = "measured: pages of random lines, then zeros"
    rng = np.random.default_rng(3)
    points, packing = [], []
    failing = 0.0
    for lines in _LINES:
        pages = [lines_page(lines, rng) for _ in range(_PAGES_OF_LINES)]
        packed = [compress(page) for page in pages]
        time_ns = np.median(np.quantile(_time_each(compress, pages), _TIMING_SHARE, axis=0))
        size = float(np.median([len(text) for text in packed]))
        if size >= PAGE_BYTES:
            failing = float(time_ns)
            continue
        packing.append((size, float(time_ns)))
        back = np.median(np.quantile(_time_each(decompress, packed), _TIMING_SHARE, axis=0))
        points.append([round(size), round(float(back), 1)])
    sizes, times = np.array(packing).T
    slope, fixed = np.polyfit(sizes, times, 1)
    return {
        "compress_ns": _figure(max(fixed, 0.0), source),
        "compress_ns_per_byte": _figure(slope, source, digits=4),
        "compress_fail_ns": _figure(failing or float(times.max()), source),
        "decompress_by_bytes": {"points": sorted(points), "source": source},
        "decompress_spread": _figure(1.0, "the spread of a fault has it"),
        "source": source,
    }


def _measure_zswap(table: dict[str, Any], codec: str, seed: int) -> bool:
    """Put what zswap takes on this kernel in a table; False where it could not be timed.

    As for runs whose touches were timed: a raw load is a fault, a copy and some answers of memory,
    a load of a compressed page that and its decompression, a store a compression and answers.
    """
    rng = np.random.default_rng(seed)
    kinds = {lines: [lines_page(lines, rng) for _ in range(_PAGES_OF_LINES)] for lines in _LINES}
    measured = time_zswap(kinds, seed)
    if measured is None:
        return False
    library = "lzo" if codec == "lzo-rle" else codec  # runs of zeros alone differ
    compress = COMPRESSORS[f"{library}_bytes"]()
    faults, figures = table["faults"], table["codecs"][codec]
    how = f"measured: {AREA_PAGES // 2} pages through zswap on {platform.release()}"
    known, times = np.array(faults["memory_by_bytes"]["points"]).T
    memory = float(np.interp(AREA_PAGES * PAGE_BYTES, known, times))
    raw = max(_LINES)
    fixed = faults["minor_fault_ns"]["value"] + faults["raw_copy_ns"]["value"]
    misses = max((loads_of(measured, raw) - fixed) / memory, 0.0)
    faults["major_fault_ns"] = faults["minor_fault_ns"]
    faults["load_misses"] = _figure(misses, how, digits=4)
    base = faults["minor_fault_ns"]["value"] + misses * memory
    sizes = {lines: len(compress(kinds[lines][0])) for lines in _LINES}
    points = sorted(
        [sizes[lines], round(max(loads_of(measured, lines) - base, 0.0), 1)]
        for lines in _LINES
        if sizes[lines] < PAGE_BYTES
    )
    lines_figures = figures[RANDOM_LINES]
    lines_figures["decompress_by_bytes"] = {"points": points, "source": how}
    packing = lines_figures["compress_ns"]["value"]
    slope = lines_figures["compress_ns_per_byte"]["value"]
    rest = [
        stores_of(measured, lines) - packing - slope * sizes[lines]
        for lines in _LINES
        if sizes[lines] < PAGE_BYTES
    ]
    # Unmapping costs as much whatever becomes of a page; what is beyond it waits for memory.
    faults["pool_ns"] = _figure(0.0, "in evict_misses")
    beyond = float(np.median(rest)) - faults["unmap_ns"]["value"]
    faults["evict_misses"] = _figure(max(beyond / memory, 0.0), how, digits=4)
    return True


# ---- memory and faults -----------------------------------------------------------------------------


def _measure_memory() -> dict[str, Any]:
    """Time copies, zero fills and first touches of cold pages; with zswap on, its own loads."""
    source = np.random.default_rng(1).integers(0, 255, (_MEMORY_PAGES, PAGE_BYTES), np.uint8)
    target = np.zeros_like(source)
    order = np.random.default_rng(2).permutation(_MEMORY_PAGES)
    copies, fills, touches = [], [], []
    clock = time.perf_counter_ns
    for index in order[:4096]:
        began = clock()
        target[index] = source[index]
        copies.append(clock() - began)
    for index in order[4096:]:
        began = clock()
        target[index] = 0
        fills.append(clock() - began)
    overhead = []
    for index in order[:1024]:
        tiny = target[index, :1]
        began = clock()
        tiny[...] = 0
        overhead.append(clock() - began)
    base = float(np.median(overhead))
    warm = []
    with mmap.mmap(
        -1, _MEMORY_PAGES * PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    ) as area:
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            area.madvise(mmap.MADV_NOHUGEPAGE)
        for index in order:
            at = int(index) * PAGE_BYTES
            began = clock()
            area[at] = 1
            touches.append(clock() - began)
        resident = []
        for index in order[:1024]:
            at = int(index) * PAGE_BYTES
            began = clock()
            area[at] = 2
            resident.append(clock() - began)
        # Pages that are freed and taken again at once are still in the caches.
        batch = 16
        for _ in range(256):
            area[: batch * PAGE_BYTES] = bytes(batch * PAGE_BYTES)
            area.madvise(mmap.MADV_DONTNEED, 0, batch * PAGE_BYTES)
            for index in range(batch):
                began = clock()
                area[index * PAGE_BYTES] = 1
                warm.append(clock() - began)
    reading = float(np.quantile(resident, 0.1))
    fault = np.maximum(np.array(touches) - reading, 1.0)
    middle = float(np.median(fault))
    warm_ns = max(float(np.median(warm)) - reading, 1.0)
    how = f"measured: {_MEMORY_PAGES} pages in random order"
    return {
        "cold_page_ns": _figure(max(middle - warm_ns, 0.0), how),
        "raw_copy_ns": _figure(max(float(np.median(copies)) - base, 1.0), how),
        "zero_fill_ns": _figure(max(float(np.median(fills)) - base, 1.0), how),
        "minor_fault_ns": _figure(warm_ns, "measured: pages freed and taken again at once"),
        "minor_spread": _distribution(fault / middle, how, 4, _UNDISTURBED),
    }


@kernel
def _chase(words: Any, at: int, steps: int) -> Any:
    for _ in range(steps):
        at = words[at]
    return at


def _measure_answers(seed: int) -> Iterator[dict[str, Any]]:
    """Time how long memory takes to answer, by the memory in use: one word of each page, at random.

    Each answer says where the next word is, so that they cannot overlap. All sizes take turns; every
    next() is one round.
    """
    room = os.sysconf("SC_AVPHYS_PAGES") * PAGE_BYTES // 2
    sizes = [mib << 20 for mib in _MEMORY_MIB if mib << 20 <= room] or [_MEMORY_MIB[0] << 20]
    rng = np.random.default_rng(seed)
    clock = time.perf_counter_ns
    area = mmap.mmap(-1, sizes[-1], flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        area.madvise(mmap.MADV_NOHUGEPAGE)
    words = np.frombuffer(area, np.int64)
    heads = []
    for nth, size in enumerate(sizes):
        count = size // PAGE_BYTES
        # Each size has words of its own: nth of 16 in one of 32 places of a page.
        own = rng.permutation(count) * _WORDS + rng.integers(0, _WORDS // 16, count) * 16 + nth
        words[own] = np.roll(own, -1)
        heads.append((int(own[0]), count))
    _chase(words, heads[0][0], 1)
    while True:
        times = np.empty((_MEMORY_TURNS, len(sizes)))
        for turn in range(_MEMORY_TURNS):
            for nth, (head, count) in enumerate(heads):
                at = _chase(words, head, min(count, _MEMORY_WARM))
                began = clock()
                _chase(words, int(at), _MEMORY_STEPS)
                times[turn, nth] = (clock() - began) / _MEMORY_STEPS
        answers = np.maximum.accumulate(np.quantile(times, _MEMORY_SHARE, axis=0))
        points = [
            [size, round(float(answer), 1)] for size, answer in zip(sizes, answers, strict=True)
        ]
        yield {"points": points, "source": "measured: one word of each page, in random order"}


# ---- device ----------------------------------------------------------------------------------------


def _check_directory(directory: Path, size_bytes: int) -> None:
    if not directory.is_dir():
        raise HostError(f"{directory}: no such folder; name one on the device to test")
    if not os.access(directory, os.W_OK):
        raise HostError(f"{directory}: permission denied; name a folder you may write to")
    room = os.statvfs(directory)
    free = room.f_bavail * room.f_frsize
    if free < size_bytes:
        raise HostError(
            f"{directory}: {format_size(free)} free, the test file takes "
            f"{format_size(size_bytes)}; a smaller --size will do"
        )


def _device_error(directory: Path, error: OSError) -> HostError:
    if error.errno == errno.EINVAL:
        return HostError(f"{directory}: its file system has no O_DIRECT; name a folder on a disk")
    if error.errno == errno.ENOSPC:
        return HostError(f"{directory}: the disk is full; a smaller --size will do")
    return HostError(f"{directory}: {error.strerror or error}")


def _measure_device(
    directory: Path, seconds: float, size_bytes: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield a device section per round of so many seconds."""
    blocks = max(size_bytes // PAGE_BYTES, 64)
    try:
        handle, name = tempfile.mkstemp(prefix=".tracereplay-", dir=directory)
        try:
            direct = os.open(name, os.O_RDWR | os.O_DIRECT)
        finally:
            os.close(handle)
            Path(name).unlink()  # the open file has no name from here on
    except OSError as error:
        raise _device_error(directory, error) from error
    try:
        with mmap.mmap(-1, 1 << 20) as chunk:
            chunk[:] = np.random.default_rng(seed).bytes(1 << 20)
            for at in range(0, blocks * PAGE_BYTES, 1 << 20):
                step = min(1 << 20, blocks * PAGE_BYTES - at)
                with memoryview(chunk) as whole, whole[:step] as part:
                    os.pwrite(direct, part, at)
        os.fsync(direct)
        turn = 0
        while True:
            yield _measure_round(direct, blocks, seconds, seed + turn, directory)
            turn += 1
    except OSError as error:
        raise _device_error(directory, error) from error
    finally:
        os.close(direct)


def _measure_round(
    direct: int, blocks: int, seconds: float, seed: int, directory: Path
) -> dict[str, Any]:
    share = seconds / (2 * len(DEPTHS) + 2)
    reads = {depth: _load(direct, blocks, depth, share, seed, write=False) for depth in DEPTHS}
    eight = _load(direct, blocks, 1, share, seed, write=False, pages=8)
    writes = {depth: _load(direct, blocks, depth, share, seed, write=True) for depth in DEPTHS}
    best = max(rate for _, rate in reads.values())
    alone, rate_alone = reads[1]
    channels = int(np.clip(round(best / rate_alone), 1, DEPTHS[-1]))
    further = max(float(np.median(eight[0]) - np.median(alone)) / 7, 0.0)
    how = (
        f"measured: O_DIRECT, random 4 KiB, {format_size(blocks * PAGE_BYTES)} in {directory}, "
        f"depths {DEPTHS[0]} to {DEPTHS[-1]}"
    )
    section = {
        "read_ns": _distribution(alone, how),
        "extra_page_ns": _figure(further, how),
        "channels": _figure(channels, how),
        "reads_per_s_by_depth": {str(depth): round(rate) for depth, (_, rate) in reads.items()},
        "writes_per_s_by_depth": {str(depth): round(rate) for depth, (_, rate) in writes.items()},
    }
    batches = _measure_batches(direct, blocks, share, seed)
    if batches is None:
        # A channel is busy for as long as makes the best rate seen; the shape is that of depth 1.
        busy = channels / max(rate for _, rate in writes.values()) * 1e9
        times = writes[1][0]
        return section | {"write_ns": _distribution(times * busy / times.mean(), how)}
    together, apart, after = batches
    each = max(float(np.median(apart) - np.median(together)) / (_BATCH - 1), 0.0)
    # What a read waits for, of all pages that were written before it.
    delay = max(float(np.median(after) - np.median(alone)), 0.0)
    how = (
        f"measured: O_DIRECT, {_BATCH} neighbours of 4 KiB submitted together, as reclaim's writes "
        "reach the device (mm/vmscan.c:shrink_lruvec() plugs), or in 32 places; and a read right after"
    )
    return section | {
        "submit_ns": _figure(max(float(np.median(together)) - each, 0.0) / _BATCH, how),
        "request_ns": _figure(each, how),
        "write_ns": _figure(delay * channels / _BATCH, how),
    }


def _measure_batches(
    direct: int, blocks: int, seconds: float, seed: int
) -> tuple[Times, Times, Times] | None:
    """Time batches of writes; return None without AIO.

    What submitting neighbours took, which are merged to one request; writes all over the file; and a
    read right after the neighbours; ns.
    """
    if blocks < 2 * _BATCH:
        return None
    rng = np.random.default_rng(seed)
    clock = time.perf_counter_ns
    together: list[int] = []
    apart: list[int] = []
    afters: list[int] = []
    with contextlib.ExitStack() as opened:
        writer = Writer.open(_BATCH)
        if writer is None:
            return None
        opened.callback(writer.close)
        area = opened.enter_context(mmap.mmap(-1, _BATCH * PAGE_BYTES))
        area[:] = rng.bytes(_BATCH * PAGE_BYTES)
        page = opened.enter_context(mmap.mmap(-1, PAGE_BYTES))
        until = clock() + int(seconds * 1e9)
        while clock() < until or not together:
            first = int(rng.integers(0, blocks - _BATCH + 1))
            where = int(rng.integers(0, blocks))
            writer.prepare(direct, area, (first + np.arange(_BATCH)) * PAGE_BYTES)
            began = clock()
            writer.submit()
            submitted = clock()
            os.preadv(direct, [page], where * PAGE_BYTES)
            afters.append(clock() - submitted)
            together.append(submitted - began)
            writer.wait()
            places = rng.choice(blocks // 2, _BATCH, replace=False) * 2
            writer.prepare(direct, area, places * PAGE_BYTES)
            began = clock()
            writer.submit()
            apart.append(clock() - began)
            writer.wait()
    return (
        np.array(together, np.float64),
        np.array(apart, np.float64),
        np.array(afters, np.float64),
    )


def _load(
    handle: int, blocks: int, depth: int, seconds: float, seed: int, *, write: bool, pages: int = 1
) -> tuple[Times, float]:
    """Keep `depth` requests in flight; return the latency of each, ns, and requests a second."""
    found: list[list[int]] = [[] for _ in range(depth)]
    failed: list[OSError] = []
    clock = time.perf_counter_ns
    until = clock() + int(seconds * 1e9)

    def work(which: int) -> None:
        rng = np.random.default_rng((seed, which, depth, write, pages))
        own = found[which]
        with mmap.mmap(-1, pages * PAGE_BYTES) as area:
            area[:] = rng.bytes(pages * PAGE_BYTES)
            try:
                while True:
                    for block in rng.integers(0, blocks - pages + 1, 64).tolist():
                        began = clock()
                        if write:
                            os.pwritev(handle, [area], block * PAGE_BYTES)
                        else:
                            os.preadv(handle, [area], block * PAGE_BYTES)
                        now = clock()
                        own.append(now - began)
                        if now >= until:
                            return
            except OSError as error:
                failed.append(error)

    began = clock()
    threads = [threading.Thread(target=work, args=(which,)) for which in range(depth)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    took = (clock() - began) / 1e9
    times = np.concatenate([np.array(own, np.float64) for own in found])
    return times, times.size / took


def _device_kind(directory: Path) -> str:
    """Return nvme, ssd or hdd for the device below a folder, as sysfs has it."""
    number = directory.stat().st_dev
    link = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    try:
        real = link.resolve(strict=True)
    except OSError:
        return "disk"
    if "nvme" in str(real):
        return "nvme"
    for folder in (real, real.parent):
        flag = folder / "queue" / "rotational"
        if flag.exists():
            return "hdd" if flag.read_text().strip() == "1" else "ssd"
    return "disk"


# ---- figures ---------------------------------------------------------------------------------------


def _figure(value: float, source: str, digits: int = 1) -> dict[str, Any]:
    return {"value": round(float(value), digits), "source": source}


def _distribution(
    values: npt.NDArray[Any], source: str, digits: int = 1, top: float = 1.0
) -> dict[str, Any]:
    """Return quantiles; `top` is the one that stands for the largest value."""
    points = np.maximum.accumulate(np.quantile(values, (*_GRID[:-1], top)))
    pairs = [
        [share, round(float(value), digits)] for share, value in zip(_GRID, points, strict=True)
    ]
    return {"quantiles": pairs, "source": source}


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()

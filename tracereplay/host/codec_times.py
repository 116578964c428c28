"""How long codecs take: on pages of every compressibility, and in zswap where it runs."""

from __future__ import annotations

import importlib
import os
import platform
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tracereplay.costs import RANDOM_LINES, misses_in
from tracereplay.errors import HostError, InputError
from tracereplay.host.cost_figures import TIMING_SHARE, UNDISTURBED, distribution, figure
from tracereplay.host.pages import COMPRESSORS, PageSource, closing, open_source
from tracereplay.host.zswap_times import AREA_PAGES, loads_of, stores_of, time_zswap
from tracereplay.units import PAGE_BYTES

Times = npt.NDArray[np.float64]

TIMINGS = 3  # of a page and round; other work on the machine only ever adds, so a low one counts
_LINE = 64
_LINES = (0, 4, 8, 12, 16, 20, 24, 32, 40, 48, 56, 64)  # of random bytes, in pages of random lines
_PAGES_OF_LINES = 24
_MAX_PAGES = 1500  # pages the codecs are timed on
_FEWEST_PAGES = 300


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


def read_pages(where: str | None, seed: int) -> tuple[list[bytes], str]:
    """Return the pages to time codecs on, of a process, core or image, and what they are.

    Without a word those of this interpreter: real ones. On random words, of which made-up pages
    consist, zstd finds no letters more frequent than others, and decompresses faster than lzo.
    """
    if where is None:
        try:
            with closing(open_source(str(os.getpid()))) as source:
                texts = _draw(source, seed)
        except (HostError, InputError):
            texts = []
        if len(texts) >= _FEWEST_PAGES:
            return texts, "pages of this Python process"
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
    times = np.empty((TIMINGS, len(inputs)))
    empty = np.empty((TIMINGS, len(inputs)))

    def nothing(_: Any) -> None:
        return None

    for function, into in ((nothing, empty), (work, times)):
        for turn in range(TIMINGS):
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


def measure_codec(column: str, texts: list[bytes], kind: str) -> dict[str, Any]:
    """Return the section of a codec in a cost table, timed on these pages; HostError if none shrinks."""
    compress, decompress = COMPRESSORS[column](), _decompressor(column)
    packed = [compress(text) for text in texts]
    sizes = np.array([min(len(text), PAGE_BYTES) for text in packed], np.float64)
    shrinks = sizes < PAGE_BYTES
    source = f"measured: {kind}"
    packing = np.quantile(_time_each(compress, texts), TIMING_SHARE, axis=0)
    hard = [text for text, good in zip(texts, shrinks, strict=True) if not good]
    if len(hard) < 16:
        rng = np.random.default_rng(1)
        hard = [rng.bytes(PAGE_BYTES) for _ in range(64)]
    failing = float(np.median(np.quantile(_time_each(compress, hard), TIMING_SHARE, axis=0)))
    result: dict[str, Any] = {"compress_fail_ns": figure(failing, source)}
    if not shrinks.any():
        raise HostError(f"{column}: no page shrinks; give --pages other pages")
    good = [text for text, is_good in zip(packed, shrinks, strict=True) if is_good]
    every = _time_each(decompress, good)
    unpacking = np.quantile(every, TIMING_SHARE, axis=0)
    for name, times in (("compress", packing[shrinks]), ("decompress", unpacking)):
        fixed, slope = _line(sizes[shrinks], times)
        result[f"{name}_ns"] = figure(fixed, source)
        result[f"{name}_ns_per_byte"] = figure(slope, source, digits=4)
    fitted = result["decompress_ns"]["value"] + result["decompress_ns_per_byte"]["value"] * sizes
    ratio = every / np.maximum(fitted[shrinks], 1.0)
    result["decompress_spread"] = distribution(ratio.ravel(), source, 4, UNDISTURBED)
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
        time_ns = np.median(np.quantile(_time_each(compress, pages), TIMING_SHARE, axis=0))
        size = float(np.median([len(text) for text in packed]))
        if size >= PAGE_BYTES:
            failing = float(time_ns)
            continue
        packing.append((size, float(time_ns)))
        back = np.median(np.quantile(_time_each(decompress, packed), TIMING_SHARE, axis=0))
        points.append([round(size), round(float(back), 1)])
    sizes, times = np.array(packing).T
    slope, fixed = np.polyfit(sizes, times, 1)
    return {
        "compress_ns": figure(max(fixed, 0.0), source),
        "compress_ns_per_byte": figure(slope, source, digits=4),
        "compress_fail_ns": figure(failing or float(times.max()), source),
        "decompress_by_bytes": {"points": sorted(points), "source": source},
        "decompress_spread": figure(1.0, "the spread of a fault has it"),
        "source": source,
    }


def measure_zswap(table: dict[str, Any], codec: str, seed: int) -> bool:
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
    wait = max(loads_of(measured, raw) - fixed, 0.0)
    misses = misses_in(wait, memory)
    faults["major_fault_ns"] = faults["minor_fault_ns"]
    faults["load_misses"] = figure(misses, how, digits=4)
    if wait > misses * memory:
        copy = faults["raw_copy_ns"]["value"] + wait - misses * memory
        faults["raw_copy_ns"] = figure(copy, f"{how}; all that a load takes beyond its misses")
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
    beyond = max(float(np.median(rest)) - faults["unmap_ns"]["value"], 0.0)
    misses = misses_in(beyond, memory)
    faults["evict_misses"] = figure(misses, how, digits=4)
    faults["pool_ns"] = figure(beyond - misses * memory, f"{how}; what is beyond evict_misses")
    return True

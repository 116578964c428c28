"""What work costs in nanoseconds: faults, codecs, swap devices, as distributions.

A cost table is a JSON file: each figure stands beside the text of its source. The bundled table is
complete; a table written by `calibrate` holds what was measured, and the bundled one fills in what
it lacks. Times that vary are `Quantiles`; times of one kind are a number times a spread of factors.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tracereplay.errors import InputError, strerror, unknown_name

_FOLDER = Path(__file__).parent / "data" / "costs"
_BUNDLED = _FOLDER / "default.json"
RECORDED = "linux-6.18"  # bundled: the machine and the pages of the recorded 6.18 runs
SCHEMA = "1"
RANDOM_LINES = "random_lines"  # figures of a codec on pages of random lines, as recorded runs had
ZRAM = "zram"  # of the tables: what the policy of that name swaps to
NO_DEVICE = "none"
# What a page in the pool takes on average, for the mean costs of the replay's clock.
_TYPICAL_BYTES = 1500
_TYPICAL_USED_BYTES = 256 << 20

FAULT_FIGURES = (
    "minor_fault_ns",  # trap, page allocation and zeroing, charge, map; the page is in the caches
    "swap_cache_ns",  # trap, look-up, map
    "major_fault_ns",  # trap, page allocation, charge, swap cache, map; without the data itself
    "zero_fill_ns",  # clear a page that the zero map knows
    "raw_copy_ns",  # copy a page stored uncompressed out of the pool
    "reclaim_ns",  # one reclaim run, whatever it finds
    "scan_ns",  # a page reclaim looks at
    "unmap_ns",  # a page reclaim unmaps and frees: rmap, swap slot, swap cache
    "pool_ns",  # allocate from the pool, link an entry, and what a store waits for beyond memory
)
# A table may leave these out: then nothing depends on how much memory is in use.
MEMORY_FIGURES = (
    "cold_page_ns",  # more for a fault whose new page is not in the caches: clear it from memory
    "warm_ratio",  # of the pages a compressor has read: those still in the caches when used again
    "load_misses",  # times a load from zswap waits for memory: tree, entry, slot, pool, page table
    "evict_misses",  # times reclaim waits for memory for a page it frees
)
# Cache misses that a load from zswap waits for, at most. Three are about what neighbours share: the page
# table's entry, the slot's, and the leaf of zswap's tree; the others are its entry, its object and the
# page itself. Reclaim of a page has the same six.
MOST_MISSES = 6
CODEC_FIGURES = (
    "compress_ns",  # fixed part
    "compress_ns_per_byte",  # of the result
    "decompress_ns",
    "decompress_ns_per_byte",
    "compress_fail_ns",  # a page that does not shrink
)
# Of a device, beside `channels`: requests it works on at once. It may leave out all but the time of a
# read and of a write.
DEVICE_TIMES = frozenset(
    (
        "read_ns",
        "write_ns",
        "extra_page_ns",  # a further page of the same request
        "submit_ns",  # a write handed to the device
        "request_ns",  # a request, of however many writes
        "behind_ns",  # a read right behind writes
        "load_extra_ns",  # of one that compresses: what it takes beyond zswap
        "store_extra_ns",
    )
)


@dataclasses.dataclass(frozen=True)
class Quantiles:
    """A distribution by points of its quantile function, linear in between.

    probability, value : float64, shape (points,), both ascending; probability from 0 to 1
    """

    probability: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]

    @classmethod
    def constant(cls, value: float) -> Quantiles:
        """Return the distribution that always gives one value."""
        return cls(np.array([0.0, 1.0]), np.array([value, value]))

    def table(self, points: int) -> npt.NDArray[np.float64]:
        """Return `points` equally likely values, ascending: midpoints of equal probabilities."""
        return np.interp((np.arange(points) + 0.5) / points, self.probability, self.value)

    def mean(self) -> float:
        """Return the mean."""
        middle = (self.value[1:] + self.value[:-1]) / 2
        return float((np.diff(self.probability) * middle).sum())


@dataclasses.dataclass(frozen=True)
class TouchCurve:
    """What touches of mapped pages take, by the faults since the last touch of the same page.

    Attributes
    ----------
    by_faults : per step, the points (probability, ns) of a distribution
    memory_ns : how long memory took to answer where that was measured
    """

    by_faults: tuple[tuple[tuple[float, float], ...], ...]
    memory_ns: float
    STEPS: ClassVar[int] = 8  # 0, then fewer than 4, 16, 64, 256, 1024, 4096, and more

    @classmethod
    def step(cls, faults: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Return the step of a number of faults."""
        octave = np.floor(np.log2(np.maximum(faults, 0.5)) / 2).astype(np.int64) + 1
        return np.clip(octave, 0, cls.STEPS - 1)

    def table(self, points: int) -> npt.NDArray[np.int64]:
        """Return equally likely times by step; int64, shape (STEPS, points)."""
        rows = []
        for row in self.by_faults:
            probability, value = zip(*row, strict=True)
            rows.append(Quantiles(np.array(probability), np.array(value)).table(points))
        return np.array(rows).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Device:
    """A swap device.

    Attributes
    ----------
    read_ns, write_ns : time one page keeps a channel busy; a read's is also its unloaded latency
    extra_page_ns : each further page of one read (readahead)
    submit_ns, request_ns : the submitter's own time for a write, and for a request: writes to
        neighbouring slots are merged to one where reclaim submits them together
    behind_ns : what a read waits for that follows such writes at once, of the same touch: those the
        device has begun, however many are queued (it prefers reads)
    channels : requests in service at a time; the rest queue, first come first served
    load_extra_ns, store_extra_ns : what a device that compresses (zram) takes beyond zswap; less than
        0 where it is faster
    """

    name: str
    read_ns: Quantiles
    write_ns: Quantiles
    extra_page_ns: float
    submit_ns: float
    request_ns: float
    behind_ns: float
    channels: int
    load_extra_ns: float
    store_extra_ns: float


@dataclasses.dataclass(frozen=True)
class Costs:
    """Costs of one scenario: faults of a machine, one codec, one device.

    Attributes
    ----------
    name, source : of the table, for people
    fitted_to : recorded runs it was fitted to
    borrowed : what the table lacks and the bundled one gave: `faults`, the codec, the device
    faults, codec : figure → ns (misses: a count), names in FAULT_FIGURES, MEMORY_FIGURES and
        CODEC_FIGURES
    fault_spread, minor_spread, reclaim_spread : factors on the work of a fault, of a minor one, of
        a whole reclaim run
    memory_points : (bytes in use, ns until memory answers), ascending; empty: 0
    touches, device_touches : what touches of mapped pages take, where faults between them were
        answered by the processor, by the device; for comparisons with timed touches
    decompress_spread : factors on a decompression
    decompress_points : (compressed bytes, ns), where a straight line does not do; may be empty
    """

    name: str
    source: str
    faults: Mapping[str, float]
    fault_spread: Quantiles
    minor_spread: Quantiles
    reclaim_spread: Quantiles
    memory_points: tuple[tuple[float, float], ...]
    codec_name: str
    codec: Mapping[str, float]
    decompress_spread: Quantiles
    decompress_points: tuple[tuple[float, float], ...]
    device: Device
    touches: TouchCurve | None = None
    device_touches: TouchCurve | None = None
    fitted_to: tuple[str, ...] = ()
    borrowed: tuple[str, ...] = ()
    raw: Mapping[str, Any] = dataclasses.field(repr=False, default_factory=dict)

    def load_ns(self, compressed_bytes: float) -> float:
        """Return the mean time to decompress a page."""
        mean = float(self.decompress_table()[round(compressed_bytes)])
        mean *= self.decompress_spread.mean()
        return mean + self.device.load_extra_ns

    def memory_ns(self, used_bytes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return how long memory takes to answer, ns, while so many bytes are in use."""
        used = np.maximum(np.asarray(used_bytes, np.float64), 1.0)
        if not self.memory_points:
            return np.zeros_like(used)
        known, times = zip(*self.memory_points, strict=True)
        answer: npt.NDArray[np.float64] = np.interp(np.log2(used), np.log2(known), times)
        return answer

    def decompress_table(self) -> npt.NDArray[np.float64]:
        """Return the time to decompress, ns, by compressed bytes; float64, shape (4097,)."""
        sizes = np.arange(4097, dtype=np.float64)
        if self.decompress_points:
            known, times = zip(*self.decompress_points, strict=True)
            table: npt.NDArray[np.float64] = np.interp(sizes, known, times)
            return table
        return self.codec["decompress_ns"] + self.codec["decompress_ns_per_byte"] * sizes

    def store_ns(self, compressed_bytes: float) -> float:
        """Return the mean time to compress a page and link it into the pool."""
        fixed, slope = self.codec["compress_ns"], self.codec["compress_ns_per_byte"]
        return (
            fixed + slope * compressed_bytes + self.faults["pool_ns"] + self.device.store_extra_ns
        )

    def before_device(self) -> Costs:
        """Return the costs where zswap stands before a device that compresses.

        Its reads and writes then take what the policy zram's loads and stores take, at a typical size.
        """
        device = self.device
        read_ns = self.load_ns(_TYPICAL_BYTES)
        write_ns = self.store_ns(_TYPICAL_BYTES)
        return dataclasses.replace(
            self,
            device=dataclasses.replace(
                device,
                read_ns=Quantiles.constant(read_ns),
                write_ns=Quantiles.constant(write_ns),
                load_extra_ns=0.0,
                store_extra_ns=0.0,
            ),
        )

    def means(self) -> Means:
        """Return the mean costs the replay's clock runs by."""
        faults, device = self.faults, self.device
        fault = self.fault_spread.mean()
        reclaim = self.reclaim_spread.mean()
        memory = float(self.memory_ns(_TYPICAL_USED_BYTES))
        unmap = faults["unmap_ns"] + faults["evict_misses"] * memory
        wait = faults["load_misses"] * memory * fault
        write_ns = round(device.write_ns.mean() / device.channels)
        return Means(
            minor_fault_ns=round(faults["minor_fault_ns"] * fault),
            major_fault_ns=round(faults["major_fault_ns"] * fault),
            scan_ns=round(faults["scan_ns"] * reclaim),
            walk_ns=round(memory),  # its structure, which nothing has used since
            store_ns=round((self.store_ns(_TYPICAL_BYTES) + unmap) * reclaim),
            load_ns=round(self.load_ns(_TYPICAL_BYTES) + wait),
            raw_copy_ns=round(faults["raw_copy_ns"] * fault + wait),
            zero_ns=round(faults["zero_fill_ns"] * fault),
            reject_ns=round((self.codec["compress_fail_ns"] + unmap) * reclaim),
            device_read_ns=round(device.read_ns.mean()),
            device_write_ns=write_ns,
            device_write_page_ns=write_ns,
            submit_ns=round(device.submit_ns),
            request_ns=round(device.request_ns),
            behind_ns=round(device.behind_ns),
        )


def misses_in(wait_ns: float, memory_ns: float) -> float:
    """Return how many cache misses a wait is: 0 to MOST_MISSES.

    What is left of a longer wait is no memory's: it takes as long where little memory is in use.
    """
    return min(max(wait_ns / max(memory_ns, 1.0), 0.0), float(MOST_MISSES))


@dataclasses.dataclass(frozen=True)
class Means:
    """Mean costs the replay's own clock runs by, ns; what a user reads comes from distributions."""

    minor_fault_ns: int = 600
    major_fault_ns: int = 1_500
    scan_ns: int = 150
    walk_ns: int = 100  # of a page that a walk of page tables comes by
    store_ns: int = 3_000
    load_ns: int = 1_800
    writeback_ns: int = 0  # of an entry written back, beyond its load and the write's submission
    raw_copy_ns: int = 300
    zero_ns: int = 150
    reject_ns: int = 3_000
    device_read_ns: int = 90_000
    device_write_ns: int = 20_000
    device_write_page_ns: int = 20_000  # of a further page of the same request
    submit_ns: int = 2_000
    request_ns: int = 0
    behind_ns: int = 0


def load_costs(
    path: str | Path | None = None,
    device: str = "nvme",
    codec: str = "lzo",
    *,
    random_lines: bool = False,
) -> Costs:
    """Load a cost table by path or bundled name; figures it lacks come from the default one.

    Parameters
    ----------
    random_lines : take the codec's figures on pages of random lines, where it has them

    Raises
    ------
    InputError
        The table cannot be read, or a figure is no number.
    SettingsError
        Neither table knows the codec or the device.
    """
    bundled = _read(_BUNDLED)
    table, where, name = bundled, str(_BUNDLED), str(bundled["name"])
    if path is not None:
        where = str(path)
        table = _read(_find(path))
        name = str(table.get("name", Path(path).stem))
    merged: dict[str, Any] = {"faults": {**bundled["faults"], **_section(table, "faults", where)}}
    borrowed = [] if "faults" in table else ["faults"]
    for kind, wanted in (("codecs", codec), ("devices", device)):
        own, theirs = _section(table, kind, where), bundled[kind]
        if wanted == NO_DEVICE and kind == "devices":
            merged[kind] = {}
            continue
        if wanted not in own and wanted not in theirs:
            raise unknown_name(kind[:-1], wanted, sorted({*own, *theirs, NO_DEVICE}))
        if wanted not in own:
            borrowed.append(wanted)
        given = own.get(wanted, {})
        if not isinstance(given, dict):
            raise InputError(f"{where}: {kind} {wanted!r} is no table of figures")
        merged[kind] = {**theirs.get(wanted, {}), **given}
        if kind == "codecs" and random_lines:
            # Of one machine: never its own general figures under the bundled special ones.
            special = (own if wanted in own else theirs)[wanted].get(RANDOM_LINES, {})
            merged[kind] |= _section({RANDOM_LINES: special}, RANDOM_LINES, where)
    source = str(table.get("source", table.get("machine", "no source given")))
    if path is not None and borrowed:
        source += f"; {', '.join(borrowed)} from the bundled table ({bundled['name']})"
    fitted_to = tuple(str(run) for run in table.get("fitted_to", ()))
    try:
        return dataclasses.replace(
            _build(merged, name, source, codec, device),
            fitted_to=fitted_to,
            borrowed=tuple(borrowed),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{where}: not a usable cost table: {error}; write one with `tracereplay calibrate`"
        ) from error


def own_disks(path: str | Path) -> list[str]:
    """Return the disks of a table itself, by path or bundled name."""
    return [name for name in _section(_read(_find(path)), "devices", str(path)) if name != ZRAM]


def with_sections(costs: Costs, table: Mapping[str, Any]) -> Costs:
    """Return costs with the faults and the codec of another table in memory."""
    merged = {
        "faults": {**costs.raw["faults"], **table.get("faults", {})},
        "codecs": {**costs.raw["codecs"], **table.get("codecs", {}).get(costs.codec_name, {})},
        "devices": costs.raw["devices"],
    }
    return _build(merged, costs.name, costs.source, costs.codec_name, costs.device.name)


def _find(path: str | Path) -> Path:
    """Return the file of a table: a path, or the name of a bundled one."""
    named = _FOLDER / f"{path}.json"
    return named if named.is_file() and not Path(path).exists() else Path(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {strerror(error)}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no cost table: {error}") from error
    if not isinstance(table, dict) or not {"faults", "codecs", "devices"} & table.keys():
        raise InputError(
            f"{path}: no cost table: neither faults, codecs nor devices; "
            "write one with `tracereplay calibrate`"
        )
    if str(table.get("schema", SCHEMA)) != SCHEMA:
        raise InputError(f"{path}: cost table of schema {table['schema']}, this reads {SCHEMA}")
    return table


def _section(table: Mapping[str, Any], kind: str, where: str) -> dict[str, Any]:
    section = table.get(kind, {})
    if not isinstance(section, dict):
        raise InputError(f"{where}: `{kind}` is no object")
    return section


_MOST = 1e15  # eleven days in ns


def _number(section: Mapping[str, Any], figure: str, default: float | None = None) -> float:
    """Return a figure: a bare number, or {"value": number, "source": text}."""
    if figure not in section and default is not None:
        return default
    if figure not in section:
        raise KeyError(f"no {figure}")
    given = section[figure]
    value = float(given["value"] if isinstance(given, dict) else given)
    may_be_less = figure.endswith(("_per_byte", "_extra_ns"))  # slopes, differences
    if not abs(value) < _MOST or (value < 0 and not may_be_less):
        raise ValueError(f"{figure} is {value}")
    return value


def _quantiles(section: Mapping[str, Any], figure: str, default: float | None = None) -> Quantiles:
    """Return a distribution: {"quantiles": [[probability, value], …]}, or a number: a constant."""
    given = section.get(figure)
    if given is None and default is not None:
        return Quantiles.constant(default)
    if not (isinstance(given, dict) and "quantiles" in given):
        return Quantiles.constant(_number(section, figure))
    points = np.array(given["quantiles"], np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or points.shape[0] < 2:
        raise ValueError(f"{figure}: quantiles are pairs of probability and value")
    probability, value = points[:, 0].copy(), points[:, 1].copy()
    if probability[0] != 0 or probability[-1] != 1:
        raise ValueError(f"{figure}: probabilities run from 0 to 1")
    if not np.isfinite(points).all() or (np.diff(points, axis=0) < 0).any() or value[0] < 0:
        raise ValueError(f"{figure}: quantiles do not ascend")
    return Quantiles(probability, value)


def _points(section: Mapping[str, Any]) -> tuple[tuple[float, float], ...]:
    given = section.get("decompress_by_bytes", {"points": []})["points"]
    points = tuple((float(size), float(time)) for size, time in given)
    if any(time < 0 or not 0 <= size <= 4096 for size, time in points) or list(points) != sorted(
        points
    ):
        raise ValueError("decompress_by_bytes: pairs of bytes and ns, by ascending bytes")
    return points


def _memory(section: Mapping[str, Any]) -> tuple[tuple[float, float], ...]:
    given = section.get("memory_by_bytes", {"points": []})["points"]
    points = tuple((float(size), float(time)) for size, time in given)
    sizes = [size for size, _ in points]
    if any(time < 0 or size < 1 for size, time in points) or sizes != sorted(set(sizes)):
        raise ValueError("memory_by_bytes: pairs of bytes and ns, by ascending bytes")
    return points


def _touches(section: Mapping[str, Any]) -> TouchCurve | None:
    given = section.get("touches")
    if given is None:
        return None
    rows = tuple(
        tuple((float(share), float(time)) for share, time in row) for row in given["by_faults"]
    )
    if len(rows) != TouchCurve.STEPS:
        raise ValueError(f"touches: {TouchCurve.STEPS} distributions, by faults")
    for row in rows:
        _quantiles({"touches": {"quantiles": row}}, "touches")
    return TouchCurve(rows, _number(given, "memory_ns", 0.0))


def _codec(section: Mapping[str, Any]) -> dict[str, float]:
    figures = {figure: _number(section, figure) for figure in CODEC_FIGURES}
    for kind in ("compress", "decompress"):
        if figures[f"{kind}_ns"] + 4096 * figures[f"{kind}_ns_per_byte"] < 0:
            raise ValueError(f"{kind}: less than no time at 4096 bytes")
    return figures


def _build(merged: Mapping[str, Any], name: str, source: str, codec: str, device: str) -> Costs:
    faults, of_codec, of_device = merged["faults"], merged["codecs"], merged["devices"]
    # Other keys may be anybody's notes; a time that is misspelt would cost nothing.
    if unknown := {name for name in of_device if name.endswith("_ns")} - DEVICE_TIMES:
        raise ValueError(
            f"{device}: unknown figure {min(unknown)}; there are {', '.join(sorted(DEVICE_TIMES))}"
        )
    # A device that compresses answers by the codec's figures, and none at all costs nothing.
    free = 0.0 if device == NO_DEVICE or "load_extra_ns" in of_device else None
    channels = int(_number(of_device, "channels", 1))
    if channels < 1:
        raise ValueError("channels: at least 1")
    return Costs(
        name=name,
        source=source,
        faults={figure: _number(faults, figure) for figure in FAULT_FIGURES}
        | {figure: _number(faults, figure, 0.0) for figure in MEMORY_FIGURES},
        fault_spread=_quantiles(faults, "fault_spread", 1.0),
        minor_spread=_quantiles(
            faults, "minor_spread" if "minor_spread" in faults else "fault_spread", 1.0
        ),
        memory_points=_memory(faults),
        reclaim_spread=_quantiles(faults, "reclaim_spread", 1.0),
        codec_name=codec,
        codec=_codec(of_codec),
        decompress_spread=_quantiles(of_codec, "decompress_spread", 1.0),
        decompress_points=_points(of_codec),
        device=Device(
            name=device,
            read_ns=_quantiles(of_device, "read_ns", free),
            write_ns=_quantiles(of_device, "write_ns", free),
            extra_page_ns=_number(of_device, "extra_page_ns", 0.0),
            submit_ns=_number(of_device, "submit_ns", 0.0),
            request_ns=_number(of_device, "request_ns", 0.0),
            behind_ns=_number(of_device, "behind_ns", 0.0),
            channels=channels,
            load_extra_ns=_number(of_device, "load_extra_ns", 0.0),
            store_extra_ns=_number(of_device, "store_extra_ns", 0.0),
        ),
        touches=_touches(faults),
        device_touches=_touches(of_device),
        raw=merged,
    )

"""DAMON: text of `damon_aggregated`, damo's JSON (also compressed) and raw report; regions to accesses.

DAMON counts, per region and aggregation interval, in how many of its samples one probed page of the
region had been touched. That is no list of accesses. The rule that makes one of it here, the same
for the same input on every machine:

* an interval is divided into as many slots as DAMON takes samples in it: aggregation by sampling
  interval where the file says them, else 20 (DAMON's default, 100 ms by 5 ms), and never fewer than
  the region's count;
* a page of a region with `nr_accesses` = n is touched once in the interval, with a chance of n in
  slots, decided by a hash of page, target and number of the snapshot: never if n is 0, always if it
  is as large as the slots;
* it is touched in the slot that another part of the hash names, and pages of one slot come in the
  order of their addresses;
* `weight` is n divided by slots; reads and writes are not told apart; `space_id` is the target.

The table's coverage is `sampled-region`: it says how hot memory is, not in which order it was used.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from tracereplay._jit import inner, kernel, wrapping_product
from tracereplay.errors import FormatError, InputError
from tracereplay.files import Input
from tracereplay.readers.base import Format, Head, Options, Report, peek, text_chunks
from tracereplay.units import PAGE_SHIFT

DEFAULT_SLOTS = 20
_MAX_SLOTS = 1 << 16
_DEFAULT_INTERVAL_NS = 100_000_000
_ROWS = 1 << 18
# 1 TiB of memory touched in one interval: beyond, the numbers are no addresses.
_MAX_PAGES = 1 << 28
# Pages of touched regions over all intervals, 32 TiB: a table of what they expand to helps nobody,
# and a few hostile lines would keep a machine busy for hours.
_MAX_ALL_PAGES = 1 << 33
# Touches put in order at a time.
_SORTED_ROWS = 1 << 21
_MAX_SNAPSHOT_REGIONS = 1 << 20

_RECORD = "`damo record --target_pid PID` or `perf record -e damon:damon_aggregated -a`"

REGION = np.dtype(
    [("first", np.uint64), ("past", np.uint64), ("count", np.uint32), ("slots", np.uint32)]
)
# Where an expansion stands: slots [slot, past_slot) of a snapshot are collected in one pass over the
# regions, which goes on at `page` of `region`.
_PLACE = np.dtype(
    [
        ("slot", np.int64),
        ("past_slot", np.int64),
        ("slots", np.int64),
        ("region", np.int64),
        ("page", np.uint64),
        ("seed", np.uint64),
        ("rows", np.int64),
    ]
)
_TOUCH = np.dtype(
    [("page", np.uint64), ("slot", np.uint32), ("weight", np.float32)],
)

_FACTOR_1 = np.uint64(0xBF58476D1CE4E5B9)
_FACTOR_2 = np.uint64(0x94D049BB133111EB)


@inner
def _mix(value: Any) -> Any:
    """Return a well mixed uint64 of a uint64 (the finalizer of splitmix64)."""
    value = wrapping_product(value ^ (value >> np.uint64(30)), _FACTOR_1)
    value = wrapping_product(value ^ (value >> np.uint64(27)), _FACTOR_2)
    return value ^ (value >> np.uint64(31))


@inner
def _slot_of(page: Any, region: Any, place: Any) -> Any:
    """Return the slot in which a page is touched, -1 where it is not."""
    chance = _mix(page ^ place["seed"])
    low = np.int64((chance & np.uint64(0xFFFFFFFF)) % np.uint64(region["slots"]))
    if low >= np.int64(region["count"]):
        return np.int64(-1)
    return np.int64((chance >> np.uint64(32)) % np.uint64(place["slots"]))


@kernel
def _count(regions: Any, places: Any, counts: Any) -> None:
    """Add the touches of every slot to counts, int64 (slots,)."""
    place = places[0]
    for index in range(regions.size):
        region = regions[index]
        page = region["first"]
        while page < region["past"]:
            slot = _slot_of(page, region, place)
            if slot >= 0:
                counts[slot] += 1
            page += np.uint64(1)


@kernel
def _collect(regions: Any, places: Any, out: Any) -> bool:
    """Fill `out` with touches of the slots from `slot` to `past_slot`; False when through."""
    place = places[0]
    rows = 0
    while place["region"] < regions.size:
        region = regions[place["region"]]
        page = max(place["page"], region["first"])
        while page < region["past"]:
            slot = _slot_of(page, region, place)
            if place["slot"] <= slot < place["past_slot"]:
                if rows == out.size:
                    place["page"] = page
                    place["rows"] = rows
                    return True
                out[rows]["page"] = page
                out[rows]["slot"] = slot
                out[rows]["weight"] = np.float32(
                    np.float64(region["count"]) / np.float64(region["slots"])
                )
                rows += 1
            page += np.uint64(1)
        place["region"] += 1
        place["page"] = np.uint64(0)
    place["rows"] = rows
    return False


class RegionExpander:
    """Snapshots of regions to frames of accesses, by the rule above."""

    def __init__(self, options: Options, report: Report) -> None:
        self._options = options
        self._report = report
        self._out = np.empty(0, _TOUCH)
        self._all_pages = 0
        self._last_ns: dict[int, int] = {}
        self.snapshots = 0
        self.regions = 0
        self.regions_accessed = 0

    def snapshot(
        self,
        target: int,
        start_ns: int | None,
        end_ns: int,
        regions: Any,
        slots: int = DEFAULT_SLOTS,
    ) -> Iterator[pl.DataFrame]:
        """Yield the accesses of one snapshot.

        Parameters
        ----------
        regions : array of (start, end, nr_accesses), uint64, shape (regions, 3); end exclusive
        start_ns : None for the end of the target's snapshot before, else 100 ms earlier
        """
        number = self.snapshots
        self.snapshots += 1
        self.regions += len(regions)
        if start_ns is None:
            start_ns = self._last_ns.get(target, max(0, end_ns - _DEFAULT_INTERVAL_NS))
        start_ns = min(start_ns, end_ns)
        self._last_ns[target] = end_ns
        used = regions[regions[:, 2] > 0]
        self.regions_accessed += len(used)
        if not len(used):
            return
        table = np.zeros(len(used), REGION)
        shift = np.uint64(PAGE_SHIFT)
        table["first"] = used[:, 0] >> shift
        table["past"] = (used[:, 1] >> shift) + (used[:, 1] & np.uint64(4095) != 0)
        table["count"] = np.minimum(used[:, 2], _MAX_SLOTS)
        table["slots"] = np.maximum(table["count"], min(max(slots, 1), _MAX_SLOTS))
        pages = int((table["past"] - table["first"]).astype(np.float64).sum())
        if (used[:, 1] < used[:, 0]).any() or pages > _MAX_PAGES:
            raise FormatError(
                f"{self._report.name}: a snapshot of {pages * 4 // (1 << 20)} GiB touched memory: "
                "are the regions addresses in bytes?"
            )
        self._all_pages += pages
        if self._all_pages > _MAX_ALL_PAGES:
            raise FormatError(
                f"{self._report.name}: its regions hold over {_MAX_ALL_PAGES >> 30} billion touched "
                "pages, summed over the intervals: too many to make accesses of; record one "
                "process, a shorter time or longer intervals"
            )
        place = np.zeros(1, _PLACE)
        place["slots"] = min(max(slots, 1), _MAX_SLOTS)
        place["seed"] = (target * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03) % (1 << 64)
        counts = np.zeros(int(place["slots"][0]), np.int64)
        _count(table, place, counts)
        # As many slots in one pass as can be put in order at a time.
        reached = np.cumsum(counts)
        slot = 0
        while slot < counts.size and counts[slot:].any():
            done = int(reached[slot - 1]) if slot else 0
            past = int(np.searchsorted(reached, done + _SORTED_ROWS, side="right"))
            place["slot"], place["past_slot"] = slot, max(past, slot + 1)
            place["region"] = place["page"] = 0
            for rows in self._touches(table, place, int(counts[slot : max(past, slot + 1)].sum())):
                time_ns = self._times(rows["slot"], start_ns, end_ns, counts.size)
                yield self._frame(time_ns, rows, target)
            slot = max(past, slot + 1)

    def _touches(self, table: Any, place: Any, expected: int) -> Iterator[Any]:
        """Yield touches of the slots of `place` in order; those of one slot come so from the pass."""
        room = min(expected, _SORTED_ROWS)
        if self._out.size < room:
            self._out = np.empty(max(room, 1 << 12), _TOUCH)
        more = True
        while more:
            more = _collect(table, place, self._out)
            rows = self._out[: int(place["rows"][0])]
            if place["past_slot"][0] - place["slot"][0] > 1:
                rows = rows[np.argsort(rows["slot"], kind="stable")]
            for start in range(0, rows.size, _ROWS):
                yield rows[start : start + _ROWS]

    @staticmethod
    def _times(slots: Any, start_ns: int, end_ns: int, count: int) -> Any:
        into = float(end_ns - start_ns) * slots.astype(np.float64) / float(count)
        return np.uint64(start_ns) + into.astype(np.uint64)

    def _frame(self, time_ns: Any, rows: Any, target: int) -> pl.DataFrame:
        constant = {
            "pid": pl.lit(self._options.pid, pl.UInt32),
            "space_id": pl.lit(target, pl.UInt64),
            "event": pl.lit("damon_aggregated", pl.Categorical),
        }
        return pl.DataFrame(
            {
                "time_ns": time_ns,
                "page": np.ascontiguousarray(rows["page"]),
                "weight": np.ascontiguousarray(rows["weight"]),
            }
        ).with_columns(**constant)

    def finish(self) -> None:
        """Put the figures of the source into the footer."""
        self._report.metadata["damon_snapshots"] = str(self.snapshots)
        self._report.metadata["damon_regions"] = str(self.regions)
        self._report.metadata["damon_regions_accessed"] = str(self.regions_accessed)
        if self.regions and not self.regions_accessed:
            self._report.remedy = (
                f"{self._report.name}: DAMON saw no access in any of {self.regions} regions; "
                "monitor for longer, or the right process"
            )


class Snapshots:
    """Lines or events of one region each, gathered into snapshots by their `nr_regions`."""

    def __init__(self, expander: RegionExpander) -> None:
        self._expander = expander
        # target → nr_regions, time of the first line, regions so far
        self._open: dict[int, tuple[int, int, list[tuple[int, int, int]]]] = {}

    def region(
        self, time_ns: int, target: int, nr_regions: int, region: tuple[int, int, int]
    ) -> Iterator[pl.DataFrame]:
        """Take one region; yield the accesses of its snapshot if it was the last one."""
        if target in self._open and self._open[target][0] != nr_regions:
            yield from self._close(target)  # lines of it were lost
        _, first_ns, regions = self._open.setdefault(target, (nr_regions, time_ns, []))
        regions.append(region)
        if len(regions) >= min(nr_regions, _MAX_SNAPSHOT_REGIONS):
            yield from self._close(target, first_ns)

    def _close(self, target: int, time_ns: int | None = None) -> Iterator[pl.DataFrame]:
        _, first_ns, regions = self._open.pop(target)
        table = np.array(regions, np.uint64).reshape(-1, 3)
        yield from self._expander.snapshot(target, None, time_ns or first_ns, table)

    def finish(self) -> Iterator[pl.DataFrame]:
        """Yield the accesses of snapshots that were cut short."""
        for target in sorted(self._open, key=lambda target: self._open[target][1]):
            yield from self._close(target)
        self._expander.finish()


# -- text ----------------------------------------------------------------------------------------

_LINE = re.compile(
    rb"(?:^|\s)(\d{1,10})\.(\d{6}|\d{9}): +(?:damon:)?damon_aggregated: +target_id=(\d{1,20}) "
    rb"nr_regions=(\d{1,10}) (\d{1,20})-(\d{1,20}): (\d{1,10})(?: \d+)?\s*$"
)
_OTHER = re.compile(rb"\s(damon_monitor_intervals_tune|damos_\w+|damon:damo\w+):")
_LOST = re.compile(rb"LOST (\d{1,18}) EVENTS|PERF_RECORD_LOST(?:_SAMPLES)?:?\s+(?:lost\s+)?(\d+)")


def _detect_text(head: Head) -> bool:
    return _is_report(head) or any(
        b"damon_aggregated: target_id=" in line for line in head.content_lines
    )


def _read_text(stream: Input, options: Options, report: Report) -> Iterator[pl.DataFrame]:
    if _is_report(peek(stream)):
        yield from _read_report(stream, options, report)
        return
    report.clock = "perf"
    report.time_resolution_ns = 1000
    report.remedy = f"{report.name}: no damon_aggregated line in it; record with {_RECORD}"
    expander = RegionExpander(options, report)
    snapshots = Snapshots(expander)
    for chunk in text_chunks(stream, report):
        for line in chunk.tobytes().split(b"\n"):
            report.lines += 1
            match = _LINE.search(line)
            if match is None:
                _odd_line(line, report)
                continue
            seconds, fraction, target, nr_regions, start, end, count = match.groups()
            if len(fraction) == 9:
                report.time_resolution_ns = 1
            values = int(target), int(start), int(end)
            if max(values) >= 1 << 64:
                report.bad(report.lines, line)
                continue
            time_ns = int(seconds) * 1_000_000_000 + int(fraction.ljust(9, b"0"))
            yield from snapshots.region(
                time_ns, values[0], int(nr_regions), (values[1], values[2], int(count))
            )
    yield from snapshots.finish()


def _odd_line(line: bytes, report: Report) -> None:
    if not line.strip() or line.startswith(b"#"):
        report.lines -= not line
        return
    if lost := _LOST.search(line):
        report.lost_events += int(lost[1] or lost[2])
        report.other_lines += 1
    elif _OTHER.search(line) and b"damon_aggregated" not in line:
        report.other_lines += 1
    else:
        report.bad(report.lines, line)


# -- damo's raw report ---------------------------------------------------------------------------

_REPORT_REGION = re.compile(
    rb"\s*([0-9a-f]{1,16})-([0-9a-f]{1,16}) +\([^()]{1,24}\):? +(\d{1,10})(?: +\S.*)?\s*"
)
_REPORT_FIELD = re.compile(rb"(\w+): +(\S.{0,99})")
_REPORT_TIME = re.compile(rb"(\d{1,12}(?:\.\d{1,9})?) (ns|us|ms|s|m|h|d)(?: |$)")
_REPORT_UNITS = {b"ns": 1, b"us": 10**3, b"ms": 10**6, b"s": 10**9, b"m": 60 * 10**9,
                 b"h": 3600 * 10**9, b"d": 86400 * 10**9}  # fmt: skip


def _is_report(head: Head) -> bool:
    lines = head.content_lines
    return any(line.startswith(b"monitoring_start:") for line in lines) and any(
        line.startswith(b"target_id:") for line in lines
    )


def _report_time(text: bytes) -> int:
    """Return nanoseconds of a time as people read it: 8 m 59.809 s."""
    parts = _REPORT_TIME.findall(text.replace(b",", b""))
    return round(sum(float(number) * _REPORT_UNITS[unit] for number, unit in parts))


def _read_report(stream: Input, options: Options, report: Report) -> Iterator[pl.DataFrame]:
    report.clock = "mono"
    report.time_resolution_ns = 1_000_000
    report.remedy = f"{report.name}: no region in it; record with {_RECORD}"
    report.note(
        f"{report.name}: a report's times are rounded and it does not say its intervals: "
        f"{DEFAULT_SLOTS} samples per snapshot assumed; damo's own recording (damon.data) is exact"
    )
    expander = RegionExpander(options, report)
    told = {b"base_time_absolute": 0, b"monitoring_start": 0, b"monitoring_end": 0, b"target_id": 0}
    regions: list[tuple[int, int, int]] = []

    def snapshot() -> Iterator[pl.DataFrame]:
        if regions:
            table = np.array(regions, np.uint64).reshape(-1, 3)
            regions.clear()
            base = told[b"base_time_absolute"]
            start, end = base + told[b"monitoring_start"], base + told[b"monitoring_end"]
            yield from expander.snapshot(told[b"target_id"], start, end, table)

    for chunk in text_chunks(stream, report):
        for line in chunk.tobytes().split(b"\n"):
            report.lines += 1
            if region := _REPORT_REGION.fullmatch(line):
                regions.append((int(region[1], 16), int(region[2], 16), int(region[3])))
                if len(regions) >= _MAX_SNAPSHOT_REGIONS:
                    yield from snapshot()
            elif field := _REPORT_FIELD.fullmatch(line.strip()):
                yield from snapshot()
                if field[1] == b"target_id" and re.fullmatch(rb"\d{1,20}", field[2]):
                    told[field[1]] = int(field[2]) % (1 << 64)
                elif field[1] in told:
                    told[field[1]] = _report_time(field[2])
            elif line.strip() and not line.startswith((b"#", b"data source")):
                report.bad(report.lines, line)
        report.lines -= 1  # the last piece of a chunk is empty
    yield from snapshot()
    expander.finish()


# -- damo's JSON ---------------------------------------------------------------------------------

_MAX_JSON_BYTES = 128 << 20
# An empty list or object takes twenty times the memory of its two brackets.
_MAX_JSON_PARTS = 1 << 20
_MAX_DEPTH = 16
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


def _detect_json(head: Head) -> bool:
    if head.data[:2] in _ZLIB:
        try:
            start = zlib.decompressobj().decompress(head.data, 4096)
        except zlib.error:
            return False
        return _looks_like_damo(start)
    return _looks_like_damo(head.data[:4096])


def _looks_like_damo(start: bytes) -> bool:
    text = start.lstrip()
    keys = (b'"target_id"', b'"snapshots"', b'"kdamond_idx"', b'"intervals"')
    return text[:1] == b"[" and any(key in text for key in keys)


def _read_json(stream: Input, options: Options, report: Report) -> Iterator[pl.DataFrame]:
    report.clock = "mono"
    report.time_resolution_ns = 1
    report.remedy = f"{report.name}: no snapshot in it; record with {_RECORD}"
    records = _parse(_json_bytes(stream, report), report)
    expander = RegionExpander(options, report)
    order = sorted(
        (_number(snapshot.get("end_time"), report), index, number)
        for index, record in enumerate(records)
        for number, snapshot in enumerate(_dicts(record.get("snapshots"), report))
    )
    for end_ns, index, number in order:
        record = records[index]
        snapshot = record["snapshots"][number]
        regions = _regions(snapshot.get("regions"), report)
        yield from expander.snapshot(
            _number(record.get("target_id") or 0, report),  # physical memory has none
            _number(snapshot.get("start_time"), report),
            end_ns,
            np.array(regions, np.uint64).reshape(-1, 3),
            _slots(record.get("intervals"), report),
        )
    expander.finish()


def _json_bytes(stream: Input, report: Report) -> bytes:
    """Return the JSON, decompressed; never more of it than a sane recording has."""
    compressed = bytearray()
    while piece := stream.read(1 << 20):
        compressed += piece
        if len(compressed) > _MAX_JSON_BYTES:
            raise FormatError(_too_large(report))
    if bytes(compressed[:2]) not in _ZLIB:
        return bytes(compressed)
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(compressed, _MAX_JSON_BYTES)
        if inflater.unconsumed_tail and inflater.decompress(inflater.unconsumed_tail, 1):
            raise FormatError(_too_large(report))
    except zlib.error as error:
        raise InputError(f"{report.name}: {error}; is the file complete?") from error
    if not inflater.eof:
        raise InputError(f"{report.name}: its compressed data ends early; is the file complete?")
    return data


def _too_large(report: Report) -> str:
    return (
        f"{report.name}: more than {_MAX_JSON_BYTES >> 20} MiB of JSON; record shorter pieces, or "
        "print it as text with `damo report` or perf script"
    )


def _parse(data: bytes, report: Report) -> list[dict[str, Any]]:
    depth = lists = 0
    for match in _BRACKETS.finditer(data):
        token = match[0][:1]
        depth += (token in b"[{") - (token in b"]}")
        lists += token == b"["
        if depth > _MAX_DEPTH or lists > _MAX_JSON_PARTS:
            raise FormatError(
                f"{report.name}: JSON nested deeper than damo writes it, or of more lists"
            )
    if not data.isascii():  # would take four bytes a character
        raise FormatError(f"{report.name}: JSON with other than ASCII characters: not of damo")
    try:
        found = json.loads(data, object_hook=_Compact(report))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{report.name}: is no complete JSON: {error}") from error
    return _dicts(found, report)


_KEPT = frozenset(
    (
        "snapshots",
        "target_id",
        "intervals",
        "start_time",
        "end_time",
        "regions",
        "sample_us",
        "sample",
        "aggr_us",
        "aggr",
    )
)


class _Compact:
    """Keeps of a JSON object what is used: a recording has hundreds of thousands of regions."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._kept = 0

    def __call__(self, found: dict[str, Any]) -> Any:
        if "nr_accesses" in found:
            return found.get("start"), found.get("end"), found["nr_accesses"]
        if "samples" in found:  # how newer versions write nr_accesses
            return found["samples"]
        kept = {key: value for key, value in found.items() if key in _KEPT}
        if not kept:
            return _NOTHING
        self._kept += 1
        if self._kept > _MAX_JSON_PARTS:
            raise FormatError(f"{self._report.name}: JSON of more parts than damo writes")
        return kept


# One object for all those of which nothing is used.
_NOTHING: dict[str, Any] = {}


def _dicts(value: Any, report: Report) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise FormatError(f"{report.name}: JSON is not laid out as damo writes records")
    return value


def _number(value: Any, report: Report) -> int:
    """Return a number as damo writes it: 12, "12", "94,827,419"."""
    try:
        number = int(value.replace(",", "")) if isinstance(value, str) else int(value)
    except (TypeError, ValueError, OverflowError):
        number = -1
    if not 0 <= number < 1 << 64:
        raise FormatError(f"{report.name}: {str(value)[:40]!r} stands where damo writes a number")
    return number


def _regions(value: Any, report: Report) -> list[tuple[int, int, int]]:
    if not isinstance(value, list) or not all(isinstance(entry, tuple) for entry in value):
        raise FormatError(f"{report.name}: JSON is not laid out as damo writes regions")
    return [
        (_number(start, report), _number(end, report), _number(count, report))
        for start, end, count in value
    ]


_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}


def _duration(value: Any) -> float:
    """Return microseconds-like figures ("5 ms", "5,000", 5000) in one unit; 0 if there is none."""
    match = re.fullmatch(r"([\d,.]{1,20})\s*(ns|us|ms|s)?", str(value))
    try:
        return float(match[1].replace(",", "")) * _UNITS[match[2] or "us"] if match else 0.0
    except ValueError:
        return 0.0


def _slots(intervals: Any, report: Report) -> int:
    if isinstance(intervals, dict):
        names = ("sample_us", "sample"), ("aggr_us", "aggr")
        sample, aggregate = (
            _duration(next((intervals[key] for key in keys if key in intervals), None))
            for keys in names
        )
        if sample > 0 and aggregate >= sample:
            return min(round(aggregate / sample), _MAX_SLOTS)
    report.note(
        f"{report.name}: does not say its intervals: {DEFAULT_SLOTS} samples per snapshot assumed"
    )
    return DEFAULT_SLOTS


TEXT = Format(
    name="damon",
    summary="text of DAMON's damon_aggregated event, from perf script, ftrace or damo",
    coverage="sampled-region",
    detect=_detect_text,
    read=_read_text,
    how_to_record="perf record -e damon:damon_aggregated -a -- sleep 60; perf script --ns",
)
JSON = Format(
    name="damo",
    summary="damo's records: json_compressed (its damon.data) and JSON",
    coverage="sampled-region",
    detect=_detect_json,
    read=_read_json,
    how_to_record="damo record --target_pid PID -o damon.data",
)

"""Many damaged inputs through every reader: `python tests/fuzz_readers.py --inputs 50000` (make fuzz).

Hypothesis shrinks well and is slow; this runs hundreds to thousands of inputs a second, by mutators
that know the layout: whole lines and records are doubled, dropped, swapped and spliced from other
samples, single fields take hostile values, and then bytes are flipped and the end cut off. Most go
to the reader by name, some to whichever the detection picks, some as a (compressed) file through
`ingest` to the table. An input passes when the reader makes rows or ends in one of our errors,
within limits of time and memory. The same seed makes the same inputs. A failing one is written
beside the message that says how.
"""
# ruff: noqa: E402  # the environment is set before polars looks at it

from __future__ import annotations

import argparse
import bz2
import faulthandler
import gzip
import io
import json
import lzma
import os
import random
import resource
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

os.environ.setdefault("POLARS_MAX_THREADS", "1")
sys.path[:0] = [str(Path(__file__).parents[1])]

import polars as pl
import zstandard

from tracereplay.errors import TracereplayError
from tracereplay.files import Input
from tracereplay.readers import (
    FORMATS,
    Options,
    Report,
    damon,
    delimited,
    detect,
    ingest,
    lackey,
    perf_data,
    perf_script,
)
from tracereplay.readers.base import peek

HERE = Path(__file__).parent
TEXTS = {path.name: path.read_bytes() for path in sorted((HERE / "captures").iterdir())}
PERF_DATA = {path.name: path.read_bytes() for path in sorted((HERE / "perf-data").glob("*.data"))}
SECONDS = 1.0  # of CPU for one input; what takes longer is run again, compiled, before it counts
MEMORY_BYTES = 1536 << 20  # all of it
GROWTH_BYTES = 256 << 20  # of one input
HANG_SECONDS = 300
DETECTED, WHOLE_WAY = 0.1, 0.02  # shares of the inputs

NUMBERS = [
    b"0", b"1", b"-1", b"255", b"4096", b"65535", b"65536", b"4294967295", b"4294967296",
    b"9223372036854775807", b"9223372036854775808", b"18446744073709551615",
    b"18446744073709551616", b"99999999999999999999999999", b"0x0", b"0xffffffffffffffff",
    b"0x10000000000000000", b"ffffffff81000000", b"nan", b"inf", b"1e9", b"1e999", b"-0.5", b"1.5",
    b"00000000000000000000000000000012", b"",
]  # fmt: skip
TOKENS = [
    b"\n", b"\r\n", b"\t", b" ", b":", b"-", b"/", b"[", b"]", b"(", b")", b",", b'"', b"'", b"{",
    b"}", b"\0", b"\xff\xfe", b"\xf0\x9f\x98\x80", b"\xc3", b"#", b"@", b"=", b"|", b";", b"\\",
    b"PERF_RECORD_LOST lost 5", b"Lost 7 events", b"address=0x", b" error_code=0x", b"1.123456: ",
    b"CPU:0 [LOST 6667 EVENTS]", b"# tracer: nop", b"cpus=2", b"Attaching 1 probe...", b"I  ",
    b" L ", b"null", b"true", b"[[[[", b'{"type":', b"damon_aggregated: target_id=",
]  # fmt: skip
WORDS = [
    0, 1, 7, 8, 16, 24, 64, 104, 127, 128, 255, 256, 4095, 4096, 65535, 65536, 1 << 31,
    (1 << 32) - 1, 1 << 32, 1 << 47, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1,
]  # fmt: skip

Mutate = Callable[[random.Random], bytes]


# -- texts ---------------------------------------------------------------------------------------


def lines_of(data: bytes, dice: random.Random) -> list[bytes]:
    """Return the head of a sample and a few lines from anywhere in it."""
    lines = data[:20_000].split(b"\n")
    start = dice.randrange(max(1, len(lines) - 8))
    return lines[: dice.choice((1, 2, 4))] + lines[start : start + dice.randint(1, 8)]


def mutated_text(dice: random.Random, seeds: list[bytes]) -> bytes:
    lines = lines_of(dice.choice(seeds), dice)
    for _ in range(dice.choice((0, 1, 1, 2, 3, 5))):
        at = dice.randrange(len(lines))
        kind = dice.randrange(8)
        if kind == 0:
            lines.insert(at, lines[at])
        elif kind == 1 and len(lines) > 1:
            del lines[at]
        elif kind == 2:
            other = dice.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == 3:  # a line of another sample
            lines.insert(at, dice.choice(lines_of(dice.choice(ALL_TEXTS), dice)))
        elif kind in (4, 5):  # one field
            fields = lines[at].split(dice.choice((b" ", b",", b":", b"=", b"|")))
            field = dice.randrange(len(fields))
            fields[field] = dice.choice(NUMBERS if dice.random() < 0.7 else TOKENS)
            lines[at] = dice.choice((b" ", b",", b":")).join(fields)
        elif kind == 6:
            cut = dice.randint(0, len(lines[at]))
            lines[at] = lines[at][:cut] + dice.choice(TOKENS) + lines[at][cut:]
        else:
            lines[at] = lines[at][: dice.randint(0, len(lines[at]))]
    end = dice.choice((b"\n", b"\r\n")) if dice.random() < 0.1 else b"\n"
    return damaged(dice, end.join(lines) + dice.choice((end, end, b"")), 0.3)


def damaged(dice: random.Random, data: bytes, chance: float) -> bytes:
    """Return the data with bytes flipped, cut out or doubled, by chance."""
    while data and dice.random() < chance:
        at = dice.randrange(len(data))
        kind = dice.randrange(5)
        piece = dice.randbytes(dice.randint(1, 9))
        if kind == 0:
            data = data[:at] + piece + data[at + len(piece) :]
        elif kind == 1:
            data = data[:at] + piece + data[at:]
        elif kind == 2:
            data = data[:at] + data[at + dice.randint(1, 40) :]
        elif kind == 3:
            data = data[:at] + data[at : at + dice.randint(1, 100)] + data[at:]
        else:
            data = data[:at]
    return data


# -- perf.data -----------------------------------------------------------------------------------


def parts_of_perf_data(data: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Return what stands before the records, the records, and what stands behind them."""
    size = struct.unpack_from("<Q", data, 8)[0]
    start, end = 16, len(data)
    if size == 104:
        start, length = struct.unpack_from("<QQ", data, 40)
        end = start + length
    records, at = [], start
    while at + 8 <= end:
        kind, length = struct.unpack_from("<I2xH", data, at)
        if kind == 66:  # tracepoint formats follow the record
            length += struct.unpack_from("<I", data, at + 8)[0]
        if length < 8:
            break
        records.append(data[at : at + length])
        at += length
    return data[:start], records, data[end:]


PERF_PARTS = [parts_of_perf_data(data) for data in PERF_DATA.values()]


def mutated_perf_data(dice: random.Random) -> bytes:
    head, records, tail = dice.choice(PERF_PARTS)
    # The records that describe the others come first in a pipe: keep most of them.
    kept = [r for r in records[:60] if r[0] >= 64 or dice.random() < 0.4]
    start = dice.randrange(max(1, len(records) - 20))
    kept += records[start : start + dice.randint(0, 20)]
    for _ in range(dice.choice((0, 1, 1, 2, 4))):
        if not kept:
            break
        at = dice.randrange(len(kept))
        kind = dice.randrange(6)
        if kind == 0:
            kept.insert(at, kept[at])
        elif kind == 1:
            del kept[at]
        elif kind == 2:
            other = dice.randrange(len(kept))
            kept[at], kept[other] = kept[other], kept[at]
        elif kind == 3:
            _, strange, _ = dice.choice(PERF_PARTS)
            kept.insert(at, dice.choice(strange))
        else:
            record = bytearray(kept[at])
            for _ in range(dice.randint(1, 3)):
                width = dice.choice(("<H", "<I", "<Q"))
                size = struct.calcsize(width)
                if len(record) >= size:
                    place = dice.randrange(0, len(record) - size + 1, 2)
                    value = dice.choice(WORDS) & ((1 << 8 * size) - 1)
                    struct.pack_into(width, record, place, value)
            kept[at] = bytes(record)
    if len(head) > 104 and dice.random() < 0.4:  # events stand between header and records
        changed = bytearray(head)
        struct.pack_into("<Q", changed, dice.randrange(8, len(head) - 8, 8), dice.choice(WORDS))
        head = bytes(changed)
    body = b"".join(kept)
    if len(head) >= 104 and dice.random() < 0.9:  # sections behind the records move with them
        changed = bytearray(head)
        struct.pack_into("<Q", changed, 48, len(body))
        head = bytes(changed)
    return damaged(dice, head + body + tail, 0.25)


# -- other binaries ------------------------------------------------------------------------------


def mutated_words(dice: random.Random, seed: bytes, record: int, header: int = 0) -> bytes:
    """Return a few fixed-size records with fields replaced."""
    count = dice.randint(0, 24)
    start = header + record * dice.randrange(max(1, (len(seed) - header) // record - count))
    data = bytearray(seed[:header] + seed[start : start + count * record])
    for _ in range(dice.choice((0, 1, 2, 4))):
        if len(data) >= 8:
            place = dice.randrange(0, len(data) - 7)
            struct.pack_into("<Q", data, place, dice.choice(WORDS))
    return damaged(dice, bytes(data), 0.3)


def oracle_general() -> bytes:
    return (HERE / "foreign" / "refault-pages.oracleGeneral.bin").read_bytes()


def vscsi() -> bytes:
    return b"".join(
        struct.pack("<IIIHHQQ", n, 4096, 1, 0x28 + 2 * (n % 2), 1 << 8, n * 77 % 501, n * 1000)
        for n in range(400)
    )


def lcs() -> bytes:
    magic = struct.pack("<Q", 0x123456789ABCDEF0)
    header = (magic + struct.pack("<Q", 1)).ljust(8184, b"\0") + magic
    return header + b"".join(struct.pack("<IQIq", n, n % 9, 4096, n + 9) for n in range(100))


def damo(dice: random.Random) -> bytes:
    snapshots = [
        {
            "start_time": str(n * 100_000_000),
            "end_time": f"{(n + 1) * 100_000_000:,}",
            "regions": [
                {
                    "start": f"{1 << 30:,}",
                    "end": f"{(1 << 30) + dice.choice((4096, 1 << 20)):,}",
                    "nr_accesses": dice.choice((0, 3, "20", {"samples": "7", "percent": None})),
                    "age": {"usec": "0", "aggr_intervals": 3},
                }
                for _ in range(dice.randint(0, 3))
            ],
        }
        for n in range(dice.randint(0, 3))
    ]
    text = json.dumps(
        [
            {
                "kdamond_idx": 0,
                "target_id": dice.choice((0, "1,234", 1 << 63)),
                "intervals": dice.choice((None, {"sample_us": "5 ms", "aggr_us": 100_000})),
                "snapshots": snapshots,
            }
        ]
    ).encode()
    for _ in range(dice.choice((0, 1, 2, 3))):
        at = dice.randrange(len(text))
        cut = at + dice.choice((0, 1, 4))
        piece = dice.choice((*NUMBERS, *TOKENS, b"{}", b"[]", b"[[", b"]]", b'"', b"null"))
        text = text[:at] + piece + text[cut:]
    text = damaged(dice, text, 0.2)
    return damaged(dice, zlib.compress(text, 1), 0.2) if dice.random() < 0.4 else text


def tables(folder: Path) -> list[bytes]:
    frame = pl.DataFrame(
        {"time_ns": range(30), "pid": [7] * 30, "vaddr": range(0, 30 * 4096, 4096)}
    )
    frame.write_parquet(folder / "t", compression="uncompressed")
    frame.write_ipc(folder / "i")
    return [(folder / "t").read_bytes(), (folder / "i").read_bytes()]


def mutators(folder: Path) -> dict[str, Mutate]:
    """Return what makes inputs for each reader: half of them of its own layout."""
    seeds: dict[str, list[bytes]] = {name: [] for name in FORMATS}
    for data in ALL_TEXTS:
        seeds[detect(peek(in_memory(data))).name].append(data)
    whole_tables = tables(folder)
    binary: dict[str, Mutate] = {
        "perf-data": mutated_perf_data,
        "damo": damo,
        "table": lambda dice: damaged(dice, dice.choice(whole_tables), 0.9),
    }
    words = (
        ("oracleGeneral", oracle_general(), 24, 0),
        ("vscsi", vscsi(), 32, 0),
        ("lcs", lcs(), 24, 8192),
    )
    for name, seed, record, header in words:
        found = next(entry for entry in FORMATS if entry.lower().endswith(name.lower()))
        binary[found] = lambda dice, s=seed, r=record, h=header: mutated_words(dice, s, r, h)
    chosen: dict[str, Mutate] = {}
    for name in FORMATS:
        if name in binary:
            chosen[name] = binary[name]
            continue
        own = seeds[name] or ALL_TEXTS
        chosen[name] = lambda dice, own=own: mutated_text(
            dice, own if dice.random() < 0.8 else ALL_TEXTS
        )
    return chosen


ALL_TEXTS = [
    *TEXTS.values(),
    b"".join(b"%d\n" % (n * n % 41) for n in range(60)) + b"0x30\n0xffff\n",
    b"version,time,op,size,lbn\n"
    + b"".join(b"1,%d,%x,4096,%d\n" % (n // 4, 0x28 + n % 3, n * n % 41) for n in range(60)),
    (
        b"base_time_absolute: 8 m 59.809 s\ndata source: unknown\n\n"
        + b"".join(
            b"monitoring_start: %d ns\nmonitoring_end: %d.%03d ms\ntarget_id: %d\n"
            b"nr_regions: 2\n# start_addr end_addr length nr_accesses age\n"
            b"563ebaa00000-563ebaa%02d000 ( 12.000 KiB) %d -1\n7fff66b0a000-7fff66bb2000 "
            b"( 672.000 KiB): %d 1 m 2 s\n\n" % (n * 10**6, n, n, n % 2, n + 1, n % 5, n % 3)
            for n in range(30)
        )
    ),
    (
        b'{\n\t"linux-perf-json-version": 1,\n\t"samples": [\n'
        + b",\n".join(
            b'\t\t{\n\t\t\t"timestamp": %d,\n\t\t\t"pid": 8,\n\t\t\t"tid": 9,\n\t\t\t"cpu": 1,\n'
            b'\t\t\t"comm": "p",\n\t\t\t"address": "0x7f90bd5%05x",\n\t\t\t"error_code": "0x6"\n\t\t}'
            % (n, n * 4096)
            for n in range(20)
        )
        + b"\n\t]\n}\n"
    ),
    b"time;obj_id;op\n0.5;0x10;read\n1.5;0x11;write\n1.75;18;get\n",
    b"".join(
        b"%s %d.%06d: %sdamon_aggregated: target_id=%d nr_regions=3 %d-%d: %d%s\n"
        % (
            (b"kdamond.0  412 [001]", b"kdamond.x xxxx xxxx")[n // 3 % 2],
            n // 3 // 10,
            n // 3 % 10 * 100_000,
            (b"damon:", b"")[n // 6 % 2],
            n // 12 % 2,
            (1 << 30) + n % 3 * 65536,
            (1 << 30) + n % 3 * 65536 + 4096 * (1 + n % 7),
            n % 5,
            (b" 3", b"")[n // 9 % 2],
        )
        for n in range(60)
    ),
    (
        b"kdamond.0 1 [001] 12.000001: damon:damon_monitor_intervals_tune: sample_us=5000\n"
        b"kdamond.0 1 [001] 12.000002: damon:damon_aggregated: target_id=18446744073709551615 "
        b"nr_regions=1 1073758208-1073766400: 9 2\n"
    ),
]


# -- running -------------------------------------------------------------------------------------


def in_memory(data: bytes) -> Input:
    """Return an open input that is a pipe with these bytes."""
    stream = Input.__new__(Input)
    stream.name, stream.compression, stream.total_bytes = "<fuzz>", "", None
    stream.stream = io.BytesIO(data)
    stream._pushed_back = b""
    return stream


# How many inputs the detection gave to each reader.
detections: Counter[str] = Counter()


def read_all(name: str, data: bytes, dice: random.Random) -> str:
    """Run one reader over the bytes; return "rows", or the name of the error."""
    options = Options(
        tick_ns=dice.choice((None, 1.0)),
        keep_comm=dice.random() < 0.3,
        allow_bad=dice.random() < 0.5,
        id_is_page=dice.random() < 0.5,
        pid=dice.choice((None, 7)),
        address_base=dice.choice((None, None, 10, 16)),
        address_field=dice.choice(("auto", "auto", "first")),
    )
    report = Report("<fuzz>")
    stream = in_memory(data)
    try:
        head = peek(stream)
        if dice.random() < DETECTED:
            name = detect(head).name
            detections[name] += 1
        for frame in islice(FORMATS[name].read(stream, options, report), 40):
            key = "page" if "page" in frame.columns else "vaddr"
            assert frame[key].null_count() == 0, "rows without a page"
            assert frame.height
            report.records += frame.height
    except TracereplayError as error:
        assert str(error)  # noqa: PT017
        return type(error).__name__
    return "rows" if report.records else "nothing"


def whole_way(data: bytes, folder: Path, dice: random.Random) -> str:
    """Run `ingest` over the bytes as a file; nothing may be left beside the table."""
    path, table = folder / "input", folder / "t.parquet"
    if dice.random() < 0.3:
        data = damaged(dice, dice.choice(COMPRESSIONS)(data), 0.3)
    path.write_bytes(data)
    options = Options(allow_bad=True, allow_lost=True, collapse=dice.random() < 0.3, tick_ns=1.0)
    try:
        done = ingest(path, table, options=options, force=True)
    except TracereplayError as error:
        assert str(error)  # noqa: PT017
        return type(error).__name__
    finally:
        left = sorted(p.name for p in folder.iterdir() if p.name not in ("t.parquet", "input"))
        assert not left, left
    assert done.records > 0
    return "rows"


COMPRESSIONS = (gzip.compress, zstandard.compress, lzma.compress, bz2.compress)


def run_one(data: bytes, name: str, folder: Path, dice: random.Random) -> str:
    """Run one input; return what came of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if dice.random() < WHOLE_WAY:
            return whole_way(data, folder, dice)
        return read_all(name, data, dice)


def inputs(make: Mutate, name: str, count: int, seed: int) -> Iterator[tuple[random.Random, bytes]]:
    for number in range(count):
        dice = random.Random(f"{name} {seed} {number}")
        yield dice, make(dice)


def run(names: list[str], count: int, seed: int, say: Callable[[str], None]) -> int:
    """Run `count` inputs through each reader; return how many failed."""
    damon._MAX_ALL_PAGES = 1 << 16  # a region of a terabyte is one input, not an hour
    # Small scratch is quick to make, and full now and then as it is with large captures.
    for module in (delimited, lackey, perf_data, perf_script):
        module._ROWS = 60
    perf_data._HELD_ROWS, perf_data._CHUNK_BYTES = 240, 1 << 12
    os.environ["PATH"] = "/nonexistent"  # no `perf script` for what only perf reads
    failures = total = 0
    before = _peak_bytes()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        makers = mutators(folder)
        for old in folder.iterdir():
            old.unlink()
        for seed_data in (TEXTS["python-sort.sw.brief-ns.txt"], PERF_DATA["pipe.data"]):
            for collapse in range(8):  # what writing needs is compiled with no clock running
                whole_way(seed_data, folder, random.Random(collapse))
        for name in names:
            outcomes: Counter[str] = Counter()
            slowest = 0.0
            # What the first inputs need is compiled with no clock running
            for dice, data in inputs(makers[name], name, min(count, 40), -1):
                with suppress(Exception):
                    read_all(name, data, dice)
            begun = time.process_time()
            for number, (dice, data) in enumerate(inputs(makers[name], name, count, seed)):
                if number % 100 == 0:  # what hangs ends here, and says where it does
                    faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
                state = dice.getstate()
                found = Path(tempfile.gettempdir(), f"fuzz-{name}-{seed}-{number}")
                start, peak = time.process_time(), _peak_bytes()
                try:
                    outcome = run_one(data, name, folder, dice)
                    spent = time.process_time() - start
                    if spent > SECONDS:  # was something compiled?
                        dice.setstate(state)
                        start = time.process_time()
                        run_one(data, name, folder, dice)
                        spent = time.process_time() - start
                    slowest = max(slowest, spent)
                    assert spent <= SECONDS, f"{spent:.1f} s of CPU"
                    growth = _peak_bytes() - peak
                    assert growth <= GROWTH_BYTES, f"{growth >> 20} MiB more memory"
                except BaseException as error:
                    if isinstance(error, KeyboardInterrupt):
                        raise
                    failures += 1
                    outcome = "FAILED"
                    found.write_bytes(data)
                    say(f"{name}: {type(error).__name__}: {error!s:.200}; input in {found}")
                    say("".join(traceback.format_exception(error)[-3:]))
                outcomes[outcome] += 1
                if failures > 20:
                    return failures
            total += sum(outcomes.values())
            memory = _peak_bytes() - before
            say(
                f"{name:16} {sum(outcomes.values()):8,} inputs "
                f"{sum(outcomes.values()) / max(0.001, time.process_time() - begun):6.0f}/s of CPU, "
                f"slowest {slowest * 1e3:5.0f} ms, peak +{memory >> 20} MiB: "
                + ", ".join(f"{what} {number:,}" for what, number in outcomes.most_common())
            )
            if memory > MEMORY_BYTES:
                failures += 1
                say(f"{name}: {memory >> 20} MiB more memory")
    faulthandler.cancel_dump_traceback_later()
    found_by = ", ".join(f"{name} {number:,}" for name, number in detections.most_common())
    say(f"by detection: {found_by}")
    say(f"{total:,} inputs, {failures} failures")
    return failures


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=50_000, help="per reader")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("readers", nargs="*", help="names of formats; else all")
    arguments = parser.parse_args()
    faulthandler.enable()
    names = arguments.readers or list(FORMATS)
    failed = run(names, arguments.inputs, arguments.seed, lambda line: print(line, flush=True))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

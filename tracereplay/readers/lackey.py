"""valgrind's lackey with --trace-mem=yes: every instruction fetch, load and store of a program.

One row per reference, timed by the count of instructions. A reference that reaches into the next
page counts for its first page only, unless runs are folded while reading (`--collapse`): then both
pages are touched. `--data-only` leaves out instruction fetches, which touch file pages.

Several processes write whole lines side by side, but none that says whose it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import polars as pl

from tracereplay.files import Input
from tracereplay.readers import _scan
from tracereplay.readers.base import (
    Format,
    Head,
    Options,
    Report,
    names,
    numbers,
    text_chunks,
    with_pid,
)
from tracereplay.units import PAGE_BYTES, PAGE_SHIFT

_LINE = re.compile(rb"(I  | [LSM] )[0-9a-f]+,\d+$")
_PROCESS = re.compile(rb"==(\d+)==")  # each prints one when it ends; -q leaves them out
_KINDS = ["I", "L", "S", "M"]
_ROWS = 1 << 18


def _detect(head: Head) -> bool:
    lines = [line for line in head.content_lines if not line.startswith(b"==")]
    return bool(lines) and sum(1 for line in lines if _LINE.match(line)) * 2 > len(lines)


def _read(stream: Input, options: Options, report: Report) -> Iterator[pl.DataFrame]:
    report.clock = "instructions"
    references = np.zeros(_ROWS, _scan.REFERENCE)
    odd = np.zeros(1 << 14, _scan.ODD)
    state = np.zeros(1, _scan.STATE)
    crossing = 0
    processes: set[int] = set()
    for chunk in text_chunks(stream, report):
        state["position"] = 0
        while state["position"][0] < chunk.size:
            state["rows"] = state["odd"] = 0
            state["line"] = report.lines
            with _scan.wrapping():
                _scan.scan_lackey(chunk, references, odd, state)
            report.lines = int(state["line"][0])
            for start, end, line in odd[: int(state["odd"][0])].tolist():
                text = chunk[start:end].tobytes()
                if named := _PROCESS.match(text):
                    processes.add(int(named[1]))
                if text.strip() and not text.startswith((b"==", b"--", b"#")):
                    report.bad(line + 1, text)
            rows = references[: int(state["rows"][0])]
            if options.data_only:
                rows = rows[rows["kind"] != 0]
            if not rows.size:
                continue
            last = rows["address"] + np.maximum(rows["size_bytes"], 1).astype(np.uint64)
            last -= np.uint64(1)
            crosses = (last >> np.uint64(PAGE_SHIFT)) > (rows["address"] >> np.uint64(PAGE_SHIFT))
            if options.collapse or options.reduce_below_bytes:
                second = rows[crosses].copy()
                second["address"] = last[crosses] // PAGE_BYTES * PAGE_BYTES
                rows = np.insert(rows, np.flatnonzero(crosses) + 1, second)
            else:
                crossing += int(crosses.sum())
            frame = pl.DataFrame(
                {
                    "time_ns": numbers(rows["instruction"], pl.UInt64),
                    "vaddr": numbers(rows["address"], pl.UInt64),
                    "is_write": numbers(rows["kind"] >= 2, pl.Boolean),
                    "event": names(rows["kind"].astype(np.uint32), _KINDS),
                }
            )
            yield with_pid(frame, options.pid)
    if len(processes) > 1:
        report.note(
            f"{report.name}: {len(processes)} processes wrote it, and no line says whose it is: pages "
            "at the same address count as one (record the program itself, without a shell around it)"
        )
    if crossing:
        report.note(
            f"{report.name}: {crossing} references reach into the next page and count for their "
            "first page (--collapse touches both)"
        )


FORMAT = Format(
    name="lackey",
    summary="valgrind --tool=lackey --trace-mem=yes: every reference of a program",
    coverage="full",
    detect=_detect,
    read=_read,
    how_to_record=(
        "valgrind --tool=lackey --basic-counts=no --trace-mem=yes --trace-children=yes --log-fd=3 CMD "
        "3> >(tracereplay ingest - --collapse --data-only -o out.parquet)"
    ),
)

"""Read captures: any supported format to one table of accesses.

One format is one small file here and one line in `FORMATS`. Its `Format` says how to recognise
the head of a file (`detect`) and yields polars frames with columns of `schema.ACCESSES`, at least
`page` or `vaddr`, in the order of the accesses (`read(input, options, report)`). The reader counts
in its `Report` what is no access: `report.bad(line_number, line)` for what it cannot read,
`other_lines` for well-formed lines of another kind, `lost_events`; sets `clock`,
`time_resolution_ns` and, where it knows better than the format, `coverage`; and says assumptions
with `report.note(...)`. Everything else is done here, for all formats: opening and unwrapping
(.gz, .zst, .xz, .bz2, `-`), detection, limits on bad lines and lost events, writing Parquet as it
comes, counting accesses and distinct pages, the footer. `base.text_chunks` hands out text in whole
lines, `_scan` holds compiled scanners, `faults.FaultFold` folds events that report a fault twice.

A frame must not grow with the file: yield a few hundred thousand rows at most at a time, and at
least one. A number that does not fit its column is a bad line.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path

import polars as pl

from tracereplay import __version__
from tracereplay.errors import FormatError, InputError, LostEventsError, OutputError, unknown_name
from tracereplay.files import Input, check_free, replacing, shown_name
from tracereplay.readers import (
    accessed_bits,
    bpftrace,
    damon,
    delimited,
    filemap,
    ftrace,
    lackey,
    libcachesim,
    perf_data,
    perf_json,
    perf_mem,
    perf_script,
    perf_trace,
    table,
)
from tracereplay.readers.base import Format, Head, Options, Report, peek
from tracereplay.readers.reduce import Collapse, SafelyDrop
from tracereplay.readers.write import AccessWriter
from tracereplay.schema import COVERAGES, SCHEMA_VERSION, weakest_coverage
from tracereplay.units import PAGE_SHIFT

__all__ = ["FORMATS", "Format", "Ingested", "Options", "Report", "detect", "ingest"]

# In the order of detection: what has a magic number first, what takes nearly anything last.
FORMATS: dict[str, Format] = {
    entry.name: entry
    for entry in (
        table.FORMAT,
        perf_data.FORMAT,
        libcachesim.LCS,
        damon.JSON,
        damon.TEXT,
        perf_json.FORMAT,
        ftrace.TRACE_CMD,
        ftrace.FTRACE,
        perf_mem.FORMAT,
        bpftrace.FORMAT,
        lackey.FORMAT,
        perf_trace.FORMAT,
        filemap.FORMAT,
        perf_script.FORMAT,
        accessed_bits.FORMAT,
        libcachesim.CSV,
        delimited.FORMAT,
        libcachesim.TXT,
        libcachesim.VSCSI,
        libcachesim.ORACLE_GENERAL,
    )
}

_BAD_LIMIT = 0.01

Progress = Callable[[Input, int], None]


@dataclasses.dataclass(frozen=True)
class Ingested:
    """What `ingest` wrote: figures for people; the same stand in the footer of `path`."""

    path: Path
    records: int
    accesses: int
    unique_pages: int
    coverage: str
    formats: list[str]
    events: dict[str, int]
    skipped_lines: int
    bad_lines: int
    foreign_lines: int
    lost_events: int
    folded_duplicates: int
    examples: list[str]
    notes: list[str]


def detect(head: Head) -> Format:
    """Return the format of a file by its head.

    Raises
    ------
    FormatError
        None knows it.
    """
    if not head.data:
        raise InputError(f"{head.name}: empty file; the recorder wrote nothing")
    for entry in FORMATS.values():
        if entry.detect(head):
            return entry
    raise FormatError(
        f"{head.name}: no reader knows this {'text' if head.is_text else 'binary file'}; "
        "see `tracereplay formats`, and force one with --format"
    )


def ingest(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    format: str = "auto",
    options: Options | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Ingested:
    """Read captures, one after the other, into one Parquet table of accesses.

    Parameters
    ----------
    inputs : paths, `-` for standard input
    output : the table; nothing is left there on an error
    format : a name in FORMATS, or "auto"
    progress : called now and then with the open input and the rows so far

    Raises
    ------
    InputError, FormatError
        An input cannot be read, or cannot answer: the message says how to record one that can.
    OutputError
        The output exists, or cannot be written.
    """
    options = options or Options()
    paths = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    if not paths:
        raise InputError("no input given")
    if format != "auto" and format not in FORMATS:
        raise unknown_name("format", format, list(FORMATS))
    check_free(output, force=force)
    for path in paths:
        if Path(output).exists() and Path(path).exists() and Path(output).samefile(path):
            raise OutputError(f"{output} is an input too; write the table to another file")
    reports: list[Report] = []
    used: list[Format] = []

    def frames() -> Generator[pl.DataFrame, None, None]:
        for path in paths:
            with Input(path) as stream:
                head = peek(stream)
                entry = FORMATS[format] if format != "auto" else detect(head)
                report = Report(stream.name)
                reports.append(report)
                used.append(entry)
                for frame in entry.read(stream, options, report):
                    report.records += frame.height
                    yield frame
                    if progress:
                        progress(stream, report.records)
                    _stop_if_mostly_bad(report, options)
                _check(report, entry, options)

    # The first rows come before the output is touched: most mistakes show by then, and what has
    # to be compiled is compiled (LLVM's own Ctrl-C handler would leave a half file behind).
    with contextlib.closing(frames()) as rows:
        first = next(rows, None)
        with replacing(output, force=force) as part, AccessWriter(part) as writer:
            reduction = _Reduction(options, writer)
            reduction.write(first)
            for frame in rows:
                reduction.write(frame)
            reduction.finish()
            metadata = _footer(reports, used, options, writer)
            writer.close(metadata)
    return Ingested(
        path=Path(output),
        records=writer.records,
        accesses=writer.accesses,
        unique_pages=writer.unique_pages,
        coverage=metadata["coverage"],
        formats=list(dict.fromkeys(entry.name for entry in used)),
        events=writer.events,
        skipped_lines=sum(report.skipped_lines for report in reports),
        bad_lines=sum(report.bad_lines for report in reports),
        foreign_lines=sum(report.foreign_lines for report in reports),
        lost_events=sum(report.lost_events for report in reports),
        folded_duplicates=sum(report.folded_duplicates for report in reports),
        examples=[example for report in reports for example in report.examples][:3],
        notes=[note for report in reports for note in report.notes]
        + (
            [f"{writer.empty_rows:,} rows of no access (run_len 0) are left out"]
            if writer.empty_rows
            else []
        ),
    )


class _Reduction:
    """Passes frames to the writer, folded and thinned as the options ask."""

    def __init__(self, options: Options, writer: AccessWriter) -> None:
        self._writer = writer
        self._stages: list[Collapse | SafelyDrop] = []
        if options.collapse or options.reduce_below_bytes:
            self._stages.append(Collapse())
        if options.reduce_below_bytes:
            self._stages.append(SafelyDrop(options.reduce_below_bytes))

    def write(self, frame: pl.DataFrame | None, first: int = 0) -> None:
        for stage in self._stages[first:]:
            if frame is None or not frame.height:
                return
            frame = stage.feed(frame)
        if frame is not None:
            self._writer.write(frame)

    def finish(self) -> None:
        for at, stage in enumerate(self._stages):
            self.write(stage.finish(), at + 1)


def _check(report: Report, entry: Format, options: Options) -> None:
    """Refuse an input with too much bad, lost events, or nothing in it."""
    seen = report.records + report.folded_duplicates
    seen += sum(report.without_address.values())
    bad = report.bad_lines + report.foreign_lines
    if report.records == 0:
        shown = _shown(report)
        raise FormatError(
            (report.remedy or f"{report.name}: no access record in it (read as {entry.name})")
            + shown
        )
    if not options.allow_bad and bad > _BAD_LIMIT * (seen + bad):
        raise FormatError(
            f"{report.name}: {bad} of {seen + bad} lines cannot be read as {entry.name} "
            f"(over 1 %); --allow-bad takes the rest{_shown(report)}"
        )
    if report.lost_events and not options.allow_lost:
        raise LostEventsError(
            f"{report.name}: the recorder lost {report.lost_events} events; record again with a "
            "larger buffer (perf record -m 512, BPFTRACE_PERF_RB_PAGES=1024, buffer_size_kb), or "
            "--allow-lost goes on without them",
            report.lost_events,
        )


def _stop_if_mostly_bad(report: Report, options: Options) -> None:
    if not options.allow_bad and report.bad_lines > 100_000 and report.bad_lines > report.records:
        raise FormatError(
            f"{report.name}: more than half of the lines cannot be read; is it what its beginning "
            f"looks like?{_shown(report)}"
        )


def _shown(report: Report) -> str:
    return "".join(f"\n  {example}" for example in report.examples)


def _footer(
    reports: Iterable[Report], used: Sequence[Format], options: Options, writer: AccessWriter
) -> dict[str, str]:
    reports = list(reports)
    coverages = list(
        dict.fromkeys(
            options.coverage or report.coverage or entry.coverage
            for report, entry in zip(reports, used, strict=True)
        )
    )
    for coverage in coverages:
        if coverage not in COVERAGES:
            raise unknown_name("coverage", coverage, list(COVERAGES))
    events = dict(writer.events)
    for report in reports:
        for event, count in report.folded.items():
            events[event] = events.get(event, 0) + count
    clocks = dict.fromkeys(report.clock or "ordinal" for report in reports)
    resolutions = [r.time_resolution_ns for r in reports if r.time_resolution_ns]
    metadata = {
        "schema": SCHEMA_VERSION,
        "format": ",".join(dict.fromkeys(entry.name for entry in used)),
        "coverage": weakest_coverage(coverages),
        "clock": ",".join(clocks),
        "page_shift": str(PAGE_SHIFT),
        "records": str(writer.records),
        "accesses": str(writer.accesses),
        "unique_pages": str(writer.unique_pages),
        "skipped_lines": str(sum(report.skipped_lines for report in reports)),
        "lost_events": str(sum(report.lost_events for report in reports)),
        "events": json.dumps(events, sort_keys=True),
        "sources": json.dumps([shown_name(Path(report.name).name) for report in reports]),
        "tool_version": __version__,
    }
    if resolutions:
        metadata["time_resolution_ns"] = str(max(resolutions))
    if folded := sum(report.folded_duplicates for report in reports):
        metadata["folded_duplicates"] = str(folded)
    below = [options.reduce_below_bytes]
    for report in reports:
        below.append(int(report.metadata.pop("reduced_below_bytes", 0)))
        metadata.update(report.metadata)
    if max(below):
        metadata["reduced_below_bytes"] = str(max(below))
    return metadata

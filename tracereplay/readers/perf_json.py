"""`perf data convert --to-json`: recognised, and refused, because it names no data address."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from tracereplay.errors import FormatError
from tracereplay.files import Input
from tracereplay.readers.base import Format, Head, Options, Report


def _detect(head: Head) -> bool:
    return b'"linux-perf-json-version"' in head.data[:4096]


def _read(stream: Input, options: Options, report: Report) -> Iterator[pl.DataFrame]:
    del options, report
    raise FormatError(
        f"{stream.name}: perf's JSON names neither event nor data address; print perf.data with "
        "`perf script --ns -F comm,pid,tid,cpu,time,event,addr,ip,sym` (tracepoints: …,event,trace)"
    )
    yield pl.DataFrame()


FORMAT = Format(
    name="perf-json",
    summary="`perf data convert --to-json`: refused, it holds no data addresses",
    coverage="faults",
    detect=_detect,
    read=_read,
)

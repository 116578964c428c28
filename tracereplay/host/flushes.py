"""When the kernel brought a cgroup's statistics up to date, as its own tracepoint tells.

Reclaim decides with statistics as old as the last flush, and a reader of any memory.stat above, or the
kernel's periodic worker, may be who flushed. Source: mm/memcontrol.c:__mem_cgroup_flush_stats(),
include/trace/events/memcg.h:memcg_flush_stats.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from tracereplay.errors import HostError
from tracereplay.host.machine import read_text, write_text
from tracereplay.host.undo import Undo

TRACEFS = Path("/sys/kernel/tracing")
_EVENT = Path("events/memcg/memcg_flush_stats")
_FLUSH = re.compile(
    r"\s(\d+)\.(\d{6}): memcg_flush_stats: memcg_id=(\d+) .*force=(\d) needs_flush=(\d)"
)
_LOST = re.compile(r"^(?:overrun|dropped events): (\d+)", re.MULTILINE)
_NS_PER_S = 1_000_000_000


class FlushTrace:
    """Listens to the flushes of all cgroups, in an instance of tracefs."""

    def __init__(self, instance: Path) -> None:
        self._instance = instance
        write_text(instance / "trace_clock", "mono")
        write_text(instance / _EVENT / "filter", "force==1 || needs_flush==1")
        write_text(instance / _EVENT / "enable", "1")

    def clear(self) -> None:
        """Forget what was heard so far."""
        write_text(self._instance / "trace", "\n")

    def times_ns(self, cgroup: Path, root: Path) -> list[int] | None:
        """Return when a cgroup was flushed, by itself or with one above: ns of CLOCK_MONOTONIC.

        None where the kernel had no room to note them all.
        """
        for stats in self._instance.glob("per_cpu/*/stats"):
            if any(int(lost) for lost in _LOST.findall(read_text(stats))):
                return None
        above = [each for each in (cgroup, *cgroup.parents) if each.is_relative_to(root)]
        numbers = {each.stat().st_ino for each in above}
        out = []
        for match in _FLUSH.finditer(read_text(self._instance / "trace")):
            seconds, micros, number, force, needed = map(int, match.groups())
            if number in numbers and (force or needed):
                out.append(seconds * _NS_PER_S + micros * 1000)
        return out


def trace_flushes(undo: Undo) -> FlushTrace | None:
    """Listen to flushes until `undo` is closed; None where this kernel does not tell them."""
    if not (TRACEFS / _EVENT).is_dir():
        return None
    instance = TRACEFS / "instances" / f"tracereplay-{os.getpid()}"
    undo.later("folder", instance)
    try:
        instance.mkdir()
        return FlushTrace(instance)
    except (OSError, HostError):  # locked down: a run tells less, and goes on
        return None

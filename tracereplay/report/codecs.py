"""Codecs side by side as text: what the pool saves against what a load takes."""

from __future__ import annotations

import polars as pl

from tracereplay.report.findings import FEWEST_EVENTS, OOM_MARK
from tracereplay.units import format_duration, format_size


def codec_lines(frame: pl.DataFrame) -> list[str]:
    """Return a small table of CODEC_TRADE, one block per policy and limit; [] without two codecs."""
    lines: list[str] = []
    killed = False
    keys = ["trace", "policy", "reclaim", "memory_limit_bytes"]
    for key, group in frame.group_by(keys, maintain_order=True):
        if group["codec"].n_unique() < 2:
            continue
        _, policy, reclaim, limit = key
        lines.append(f"codecs with {policy}, {reclaim}, {format_size(int(limit))}")
        lines.append(
            f"  {'codec':8} {'mean pool':>10} {'of stored':>9} {'load p50':>8} {'load p99':>8} "
            f"{'all loads':>9} {'all stalls':>10} {'dev reads':>9}"
        )
        killed |= not group["finished"].all()
        for row in group.iter_rows(named=True):
            ratio = "-" if row["pool_ratio"] is None else f"{row['pool_ratio']:.0%}"
            p50, p99 = (
                format_duration(row[f"zswap_{name}_ns"])
                if row["zswap_loads"] >= FEWEST_EVENTS[name]
                else "-"
                for name in ("p50", "p99")
            )
            lines.append(
                f"{' ' if row['finished'] else OOM_MARK} {row['codec']:8} {format_size(row['pool_bytes_mean']):>10} {ratio:>9} "
                f"{p50:>8} {p99:>8} {format_duration(row['zswap_total_ns']):>9} "
                f"{format_duration(row['stall_total_ns']):>10} {row['pswpin']:>9,}"
            )
    if lines:
        lines.append("load: a fault that decompresses, with the reclaim it had to do")
    if killed:
        lines.append(f"{OOM_MARK} ended in an OOM kill: what ran before")
    return lines

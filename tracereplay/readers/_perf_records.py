"""Compiled walk over perf.data records: samples to rows, and where the rare records stand."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracereplay._jit import inline, inner, kernel

PIPE_HEADER_BYTES = 16
FILE_HEADER_BYTES = 104

# Record types of the kernel, then those perf itself writes.
LOST, COMM, FORK, SAMPLE, LOST_SAMPLES = 2, 3, 7, 9, 13
HEADER_ATTR, TRACING_DATA, FINISHED_ROUND, AUXTRACE_INFO, AUXTRACE = 64, 66, 68, 70, 71
EVENT_UPDATE, HEADER_FEATURE, COMPRESSED, COMPRESSED2 = 78, 80, 81, 83

# What a sample holds, bits of attr.sample_type, and in which order it stands there.
IP, TID, TIME, ADDR, READ, CALLCHAIN, ID, CPU = 1, 2, 4, 8, 16, 32, 64, 128
PERIOD, STREAM_ID, RAW, BRANCH_STACK, REGS_USER = 1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 12
STACK_USER, WEIGHT, DATA_SRC, IDENTIFIER = 1 << 13, 1 << 14, 1 << 15, 1 << 16
WEIGHT_STRUCT = 1 << 24
FIXED_ORDER = (IDENTIFIER, IP, TID, TIME, ADDR, ID, STREAM_ID, CPU, PERIOD)

BRANCH_HW_INDEX, BRANCH_COUNTERS = 1 << 17, 1 << 19

# One event: where its fields stand. Offsets count from the record's start; -1: not there.
# kind: NO_ADDRESS samples are counted only, ADDRESS and RAW_ADDRESS make rows, REGION rows are
# snapshots of DAMON.
NO_ADDRESS, ADDRESS, RAW_ADDRESS, REGION = 0, 1, 2, 3
PLAN = np.dtype(
    [
        ("kind", np.int64),
        ("sample_type", np.int64),
        ("read_format", np.int64),
        ("branch_type", np.int64),
        ("user_registers", np.int64),
        ("time_at", np.int64),
        ("tid_at", np.int64),
        ("address_at", np.int64),
        ("cpu_at", np.int64),
        ("period_at", np.int64),
        ("variable_at", np.int64),
        ("raw_address_at", np.int64),  # these count from the start of the raw data
        ("raw_detail_at", np.int64),
        ("raw_target_at", np.int64),
        ("raw_count_at", np.int64),
        ("raw_extra_at", np.int64),
        ("without_address", np.int64),
    ]
)
EVENT_ID = np.dtype([("id", np.uint64), ("plan", np.int64)])

# One sample. detail: error_code, data_src. Of a region: address its start, detail its end, period
# the target, tid its nr_accesses, extra the nr_regions of its snapshot.
ROW = np.dtype(
    [
        ("time", np.uint64),
        ("address", np.uint64),
        ("detail", np.uint64),
        ("period", np.uint64),
        ("pid", np.uint32),
        ("tid", np.uint32),
        ("cpu", np.uint16),
        ("plan", np.uint16),
        ("extra", np.uint32),
    ]
)
ODD = np.dtype([("kind", np.int64), ("start", np.int64), ("size", np.int64)])
STATE = np.dtype(
    [
        ("position", np.int64),
        ("rows", np.int64),
        ("odd", np.int64),
        ("id_at", np.int64),  # of the id in a sample, by the record's start; -1: one event only
        ("wants_tasks", np.int64),
        ("samples", np.int64),
        ("unknown_ids", np.int64),
        ("short_samples", np.int64),
        ("newest", np.uint64),  # time of the newest sample
        ("round_newest", np.uint64),  # the same as the round before ended
        ("limit", np.uint64),  # nothing older than this comes any more
    ]
)

# Why `walk` came back: the chunk is through, scratch is full, a record for Python, damage.
MORE, DRAIN, CONTROL, DAMAGED = 0, 1, 2, 3


@inline
def _u16(data: Any, at: Any) -> Any:
    return np.int64(data[at]) | np.int64(data[at + 1]) << 8


@inline
def _u32(data: Any, at: Any) -> Any:
    return (
        np.int64(data[at])
        | np.int64(data[at + 1]) << 8
        | np.int64(data[at + 2]) << 16
        | np.int64(data[at + 3]) << 24
    )


@inline
def _u64(data: Any, at: Any) -> Any:
    # Written out, so that the compiler makes one load of it; records need not be aligned.
    return (
        np.uint64(data[at])
        | np.uint64(data[at + 1]) << np.uint64(8)
        | np.uint64(data[at + 2]) << np.uint64(16)
        | np.uint64(data[at + 3]) << np.uint64(24)
        | np.uint64(data[at + 4]) << np.uint64(32)
        | np.uint64(data[at + 5]) << np.uint64(40)
        | np.uint64(data[at + 6]) << np.uint64(48)
        | np.uint64(data[at + 7]) << np.uint64(56)
    )


@inner
def _past_array(data: Any, at: Any, end: Any, unit: int, extra: int) -> Any:
    """Return where an array of a u64 count and `unit` bytes each, plus `extra`, ends; -1: beyond."""
    if at < 0 or at + 8 > end:
        return -1
    count = _u64(data, at)
    if count > np.uint64((end - at - 8) // unit):
        return -1
    at += 8 + extra + np.int64(count) * unit
    return at if at <= end else -1


@inner
def _past_read(data: Any, at: Any, end: Any, read_format: int) -> Any:
    per_value = 8
    if read_format & 4:
        per_value += 8
    if read_format & 16:
        per_value += 8
    times = 0
    if read_format & 1:
        times += 8
    if read_format & 2:
        times += 8
    if read_format & 8:
        return _past_array(data, at, end, per_value, times)
    return at + per_value + times if at + per_value + times <= end else -1


@inner
def _past_branches(data: Any, at: Any, end: Any, branch_type: int) -> Any:
    if at < 0 or at + 8 > end:
        return -1
    count = _u64(data, at)
    extra = 8 if branch_type & BRANCH_HW_INDEX else 0
    at = _past_array(data, at, end, 24, extra)
    if at >= 0 and branch_type & BRANCH_COUNTERS:
        at += 8 * np.int64(count)
    return at if at <= end else -1


@inner
def _past_registers(data: Any, at: Any, end: Any, count: int) -> Any:
    if at < 0 or at + 8 > end:
        return -1
    at += 8 + (8 * count if _u64(data, at) != np.uint64(0) else 0)
    return at if at <= end else -1


@inner
def _past_stack(data: Any, at: Any, end: Any) -> Any:
    if at < 0 or at + 8 > end:
        return -1
    size = _u64(data, at)
    return _past_array(data, at, end, 1, 8 if size != np.uint64(0) else 0)


@inner
def _raw_and_source(data: Any, at: int, end: int, plan: Any) -> Any:
    """Return where raw data starts and ends, and the data source word, -1 each where missing."""
    kind = plan["sample_type"]
    raw, raw_end, source = -1, -1, -1
    if kind & READ:
        at = _past_read(data, at, end, plan["read_format"])
    if at >= 0 and kind & CALLCHAIN:
        at = _past_array(data, at, end, 8, 0)
    if at >= 0 and kind & RAW:
        if at + 4 > end:
            return -1, -1, -1
        raw = at + 4
        raw_end = raw + _u32(data, at)
        if raw_end > end:
            return -1, -1, -1
        at = raw_end
    if kind & DATA_SRC:
        if at >= 0 and kind & BRANCH_STACK:
            at = _past_branches(data, at, end, plan["branch_type"])
        if at >= 0 and kind & REGS_USER:
            at = _past_registers(data, at, end, plan["user_registers"])
        if at >= 0 and kind & STACK_USER:
            at = _past_stack(data, at, end)
        if at >= 0 and kind & (WEIGHT | WEIGHT_STRUCT):
            at += 8
        if at >= 0 and at + 8 <= end:
            source = at
    return raw, raw_end, source


@inner
def _plan_of(data: Any, start: Any, end: Any, ids: Any, state: Any) -> Any:
    """Return the index of the sample's event; -1 where no event has this id."""
    at = state["id_at"]
    if at < 0:
        return 0
    if start + at + 8 > end:
        return -1
    wanted = _u64(data, start + at)
    low, high = 0, ids.size
    while low < high:
        middle = (low + high) // 2
        if ids[middle]["id"] < wanted:
            low = middle + 1
        else:
            high = middle
    if low < ids.size and ids[low]["id"] == wanted:
        return np.int64(ids[low]["plan"])
    return -1


@inner
def _raw_fields(data: Any, start: int, end: int, plan: Any, row: Any) -> bool:
    """Take a tracepoint's fields; False where the data is too short for them."""
    address = plan["raw_address_at"]
    detail = plan["raw_detail_at"]
    if start < 0 or start + address + 8 > end or (detail >= 0 and start + detail + 8 > end):
        return False
    row["address"] = _u64(data, start + address)
    row["detail"] = _u64(data, start + detail) if detail >= 0 else np.uint64(0)
    if plan["kind"] == REGION:
        target, count, extra = plan["raw_target_at"], plan["raw_count_at"], plan["raw_extra_at"]
        if start + max(target + 8, count + 4, extra + 4) > end:
            return False
        row["period"] = _u64(data, start + target) if target >= 0 else np.uint64(0)
        row["tid"] = _u32(data, start + count)
        row["extra"] = _u32(data, start + extra)
    return True


@inner
def _sample(data: Any, start: int, end: int, plans: Any, which: int, row: Any) -> int:
    """Fill one row; return 1, or 0 where there is no address, -1 where the sample is too short."""
    plan = plans[which]
    if start + plan["variable_at"] > end:
        return -1
    if plan["kind"] == NO_ADDRESS:
        return 0
    row["time"] = _u64(data, start + plan["time_at"]) if plan["time_at"] >= 0 else np.uint64(0)
    row["period"] = (
        _u64(data, start + plan["period_at"]) if plan["period_at"] >= 0 else np.uint64(1)
    )
    row["cpu"] = np.uint16(_u16(data, start + plan["cpu_at"])) if plan["cpu_at"] >= 0 else 0
    row["plan"] = which
    row["extra"] = 0
    row["pid"] = 0
    row["tid"] = 0
    if plan["tid_at"] >= 0:
        row["pid"] = _u32(data, start + plan["tid_at"])
        row["tid"] = _u32(data, start + plan["tid_at"] + 4)
    row["detail"] = 0
    if plan["kind"] == ADDRESS:
        row["address"] = _u64(data, start + plan["address_at"])
        if plan["sample_type"] & DATA_SRC:
            _, _, source = _raw_and_source(data, start + plan["variable_at"], end, plan)
            if source < 0:
                return -1
            row["detail"] = _u64(data, source)
    else:
        raw, raw_end, _ = _raw_and_source(data, start + plan["variable_at"], end, plan)
        if not _raw_fields(data, raw, raw_end, plan, row):
            return -1
    return 1 if row["address"] != np.uint64(0) or plan["kind"] == REGION else 0


@kernel
def walk(data: Any, plans: Any, ids: Any, rows: Any, odd: Any, states: Any) -> int:
    """Read records from `position` on until the chunk is through or Python has to do something."""
    state = states[0]
    at = state["position"]
    size = data.size
    reason = MORE
    while at + 8 <= size:
        kind = _u32(data, at)
        length = _u16(data, at + 6)
        if length < 8:
            reason = DAMAGED
            break
        if at + length > size:
            break
        if kind == SAMPLE:
            if state["rows"] == rows.size:
                reason = DRAIN
                break
            state["samples"] += 1
            which = _plan_of(data, at, at + length, ids, state)
            if which < 0:
                state["unknown_ids"] += 1
            else:
                taken = _sample(data, at, at + length, plans, which, rows[state["rows"]])
                if taken > 0:
                    time = rows[state["rows"]]["time"]
                    state["newest"] = max(state["newest"], time)
                    state["rows"] += 1
                elif taken == 0:
                    plans[which]["without_address"] += 1
                else:
                    state["short_samples"] += 1
        elif kind == FINISHED_ROUND:
            # All that is older than what the round before had seen has come by now.
            state["limit"] = max(state["limit"], state["round_newest"])
            state["round_newest"] = state["newest"]
        elif kind in (LOST, LOST_SAMPLES) or (kind in (COMM, FORK) and state["wants_tasks"]):
            if state["odd"] == odd.size:
                reason = DRAIN
                break
            odd[state["odd"]]["kind"] = kind
            odd[state["odd"]]["start"] = at
            odd[state["odd"]]["size"] = length
            state["odd"] += 1
        elif kind in (
            HEADER_ATTR,
            TRACING_DATA,
            AUXTRACE_INFO,
            AUXTRACE,
            EVENT_UPDATE,
            HEADER_FEATURE,
            COMPRESSED,
            COMPRESSED2,
        ):
            reason = CONTROL
            break
        at += length
    state["position"] = at
    return reason

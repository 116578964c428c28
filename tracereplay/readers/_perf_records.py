"""Compiled walk over perf.data records: samples to rows, and where the rare records stand."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracereplay._jit import inline, inner, kernel
from tracereplay.readers._perf_event import PERF_MEM_OP, PERF_MEM_OP_LOAD, PERF_MEM_OP_STORE
from tracereplay.units import PAGE_SHIFT

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
        ("has", np.int64),  # HAS_ bits of its rows
        ("without_address", np.int64),
    ]
)
# What a row knows; BY_SOURCE: of writes by data_src, where not by error_code.
HAS_TASK, HAS_CPU, HAS_PERIOD, HAS_WRITE, BY_SOURCE = 1, 2, 4, 8, 16
EVENT_ID = np.dtype([("id", np.uint64), ("plan", np.int64)])

# One column per sample, one row per value: a column of the table is then one piece of memory.
# Of a region (DAMON): ADDRESS its start, DETAIL its end, PERIOD the target, the upper half of TASK
# its nr_accesses, the upper half of WHERE the nr_regions of its snapshot.
TIME_ROW = 0
ADDRESS_ROW = 1
TASK_ROW = 2  # pid, and tid in the upper half, as they stand in the record
WHERE_ROW = 3  # cpu in 16 bits, the event's index in 16 bits
DETAIL_ROW = 4  # error_code of a fault, data_src of a memory sample
PERIOD_ROW = 5
SAMPLE_ROWS = 6
NO_PID = 0xFFFF_FFFF  # of a thread that had ended
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
        ("disorder", np.int64),  # a sample was older than one before it
        ("newest", np.uint64),  # time of the newest sample
        ("round_newest", np.uint64),  # the same as the round before ended
        ("limit", np.uint64),  # nothing older than this comes any more
    ]
)

# Why `walk` came back: the chunk is through, scratch is full, a record for Python, damage.
MORE, DRAIN, CONTROL, DAMAGED = 0, 1, 2, 3


# Written out byte by byte, so that records need not be aligned; the compiler makes one load of it,
# given an unsigned index (a signed one may count from the end).


@inline
def _u16(data: Any, at: Any) -> Any:
    first = np.uint64(at)
    return np.int64(data[first]) | np.int64(data[first + np.uint64(1)]) << 8


@inline
def _u32(data: Any, at: Any) -> Any:
    first = np.uint64(at)
    return (
        np.int64(data[first])
        | np.int64(data[first + np.uint64(1)]) << 8
        | np.int64(data[first + np.uint64(2)]) << 16
        | np.int64(data[first + np.uint64(3)]) << 24
    )


@inline
def _u64(data: Any, at: Any) -> Any:
    first = np.uint64(at)
    return (
        np.uint64(data[first])
        | np.uint64(data[first + np.uint64(1)]) << np.uint64(8)
        | np.uint64(data[first + np.uint64(2)]) << np.uint64(16)
        | np.uint64(data[first + np.uint64(3)]) << np.uint64(24)
        | np.uint64(data[first + np.uint64(4)]) << np.uint64(32)
        | np.uint64(data[first + np.uint64(5)]) << np.uint64(40)
        | np.uint64(data[first + np.uint64(6)]) << np.uint64(48)
        | np.uint64(data[first + np.uint64(7)]) << np.uint64(56)
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
def _plan_of(data: Any, at: Any, ids: Any) -> Any:
    """Return where the id at `at` stands among the sorted ids; -1 where no event has it."""
    wanted = _u64(data, at)
    low, high = 0, ids.size
    while low < high:
        middle = (low + high) // 2
        if ids[middle]["id"] < wanted:
            low = middle + 1
        else:
            high = middle
    return low if low < ids.size and ids[low]["id"] == wanted else -1


@inner
def _raw_fields(data: Any, start: Any, end: Any, plan: Any, samples: Any, row: Any) -> bool:
    """Take a tracepoint's fields; False where the data is too short for them."""
    address = plan["raw_address_at"]
    detail = plan["raw_detail_at"]
    if start < 0 or start + address + 8 > end or (detail >= 0 and start + detail + 8 > end):
        return False
    samples[ADDRESS_ROW, row] = _u64(data, start + address)
    samples[DETAIL_ROW, row] = _u64(data, start + detail) if detail >= 0 else np.uint64(0)
    if plan["kind"] == REGION:
        target, count, extra = plan["raw_target_at"], plan["raw_count_at"], plan["raw_extra_at"]
        if start + max(target + 8, count + 4, extra + 4) > end:
            return False
        samples[PERIOD_ROW, row] = _u64(data, start + target) if target >= 0 else np.uint64(0)
        samples[TASK_ROW, row] = np.uint64(_u32(data, start + count)) << np.uint64(32)
        samples[WHERE_ROW, row] |= np.uint64(_u32(data, start + extra)) << np.uint64(32)
    return True


@inner
def _take_sample(
    data: Any, start: Any, end: Any, plan: Any, which: Any, samples: Any, row: Any
) -> int:
    """Fill one column; return 1, or 0 where there is no address, -1 where the sample is too short."""
    if start + plan["variable_at"] > end:
        return -1
    kind = plan["kind"]
    if kind == NO_ADDRESS:
        return 0
    at = plan["time_at"]
    samples[TIME_ROW, row] = _u64(data, start + at) if at >= 0 else np.uint64(0)
    at = plan["tid_at"]
    samples[TASK_ROW, row] = _u64(data, start + at) if at >= 0 else np.uint64(0)
    at = plan["period_at"]
    samples[PERIOD_ROW, row] = _u64(data, start + at) if at >= 0 else np.uint64(1)
    where = np.uint64(which) << np.uint64(16)
    at = plan["cpu_at"]
    if at >= 0:
        where |= np.uint64(_u16(data, start + at))
    samples[WHERE_ROW, row] = where
    if kind == ADDRESS:
        samples[ADDRESS_ROW, row] = _u64(data, start + plan["address_at"])
        samples[DETAIL_ROW, row] = np.uint64(0)
        if plan["sample_type"] & DATA_SRC:
            _, _, source = _raw_and_source(data, start + plan["variable_at"], end, plan)
            if source < 0:
                return -1
            samples[DETAIL_ROW, row] = _u64(data, source)
    elif plan["sample_type"] & (READ | CALLCHAIN):
        raw, raw_end, _ = _raw_and_source(data, start + plan["variable_at"], end, plan)
        if not _raw_fields(data, raw, raw_end, plan, samples, row):
            return -1
    else:  # the raw data follows at once
        raw = start + plan["variable_at"] + 4
        if raw > end or raw + _u32(data, raw - 4) > end:
            return -1
        if not _raw_fields(data, raw, raw + _u32(data, raw - 4), plan, samples, row):
            return -1
    return 1 if samples[ADDRESS_ROW, row] != np.uint64(0) or kind == REGION else 0


@kernel
def walk(data: Any, plans: Any, ids: Any, samples: Any, odd: Any, states: Any) -> int:
    """Read records from `position` on until the chunk is through or Python has to do something.

    data uint8, whole records and what there is of the next; plans PLAN; ids EVENT_ID, sorted;
    samples uint64 (SAMPLE_ROWS, room); odd ODD; states STATE (1,).
    """
    state = states[0]
    at = state["position"]
    rows = state["rows"]
    newest = state["newest"]
    id_at = state["id_at"]
    size = data.size
    reason = MORE
    which = 0
    place = 0
    while at + 8 <= size:
        kind = _u32(data, at)
        length = _u16(data, at + 6)
        if length < 8:
            reason = DAMAGED
            break
        if at + length > size:
            break
        if kind == SAMPLE:
            if rows == samples.shape[1]:
                reason = DRAIN
                break
            state["samples"] += 1
            if id_at >= 0:
                # Nearly always the event of the sample before: one comparison instead of a search.
                if id_at + 8 > length or ids.size == 0:
                    place = -1
                elif place < 0 or ids[place]["id"] != _u64(data, at + id_at):
                    place = _plan_of(data, at + id_at, ids)
                which = ids[place]["plan"] if place >= 0 else -1
            if which < 0:
                state["unknown_ids"] += 1
            else:
                taken = _take_sample(data, at, at + length, plans[which], which, samples, rows)
                if taken > 0:
                    time = samples[TIME_ROW, rows]
                    if time < newest:
                        state["disorder"] = 1
                    else:
                        newest = time
                    rows += 1
                elif taken == 0:
                    plans[which]["without_address"] += 1
                else:
                    state["short_samples"] += 1
        elif kind == FINISHED_ROUND:
            # All that is older than what the round before had seen has come by now.
            state["limit"] = max(state["limit"], state["round_newest"])
            state["round_newest"] = newest
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
    state["rows"] = rows
    state["newest"] = newest
    return reason


@kernel
def take_rows(
    samples: Any,
    order: Any,
    plans: Any,
    events: Any,
    time_ns: Any,
    process: Any,
    thread: Any,
    vaddr: Any,
    page: Any,
    is_write: Any,
    event: Any,
    cpu: Any,
    has: Any,
) -> Any:
    """Fill the table's columns with samples; return the HAS_ bits all rows have, and those of any.

    samples uint64 (SAMPLE_ROWS, room); order uint64 (rows,), which sample a row takes; plans PLAN;
    events bool (plans,), set where a row is of this event; the others (rows,), filled.
    """
    every = np.uint8(255)
    some = np.uint8(0)
    for index in range(order.size):
        row = np.uint64(index)
        sample = order[row]
        where = samples[WHERE_ROW, sample]
        which = (where >> np.uint64(16)) & np.uint64(0xFFFF)
        known = np.uint8(plans[which]["has"])
        events[which] = True
        event[row] = which
        cpu[row] = np.uint16(where & np.uint64(0xFFFF))
        time_ns[row] = samples[TIME_ROW, sample]
        task = samples[TASK_ROW, sample]
        process[row] = np.uint32(task & np.uint64(0xFFFF_FFFF))
        thread[row] = np.uint32(task >> np.uint64(32))
        if process[row] == np.uint32(NO_PID):
            known &= np.uint8(255 - HAS_TASK)
        address = samples[ADDRESS_ROW, sample]
        vaddr[row] = address
        page[row] = address >> np.uint64(PAGE_SHIFT)
        detail = samples[DETAIL_ROW, sample]
        if known & BY_SOURCE:
            operation = detail & np.uint64(PERF_MEM_OP)
            is_write[row] = operation == np.uint64(PERF_MEM_OP_STORE)
            if operation not in (
                np.uint64(PERF_MEM_OP_LOAD),
                np.uint64(PERF_MEM_OP_STORE),
            ):
                known &= np.uint8(255 - HAS_WRITE)
        else:
            is_write[row] = detail & np.uint64(2) != np.uint64(0)
        has[row] = known
        every &= known
        some |= known
    return every, some

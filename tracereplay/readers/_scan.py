"""Byte scanners: numbers are cut from the text and parsed in one pass, without a string per field."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracereplay._jit import inner, kernel

NEWLINE, BLANK, TAB, HASH, COLON, SLASH = 10, 32, 9, 35, 58, 47
OPEN, CLOSE, DOT, PIPE, ZERO, NINE, EQUALS = 40, 41, 46, 124, 48, 57, 61

# One row per sample line of `perf script`.
SAMPLE = np.dtype(
    [
        ("time_ns", np.uint64),
        ("address", np.uint64),
        ("detail", np.uint64),  # error_code of a tracepoint, data_src of a memory sample
        ("line", np.int64),  # number of the line within the chunk, from 0
        ("pid", np.uint32),
        ("tid", np.uint32),
        ("period", np.uint32),
        ("cpu", np.uint16),
        ("event", np.uint16),  # row of the table of texts
        ("comm", np.uint16),
        ("layout", np.uint8),  # one of the LAYOUT_ values
        ("has", np.uint8),  # HAS_ bits
    ],
    align=True,
)
HAS_PID, HAS_TID, HAS_CPU, HAS_ERROR_CODE, HAS_DATA_SRC, HAS_EVENT, HAS_CHAIN, HAS_PERIOD = (
    1, 2, 4, 8, 16, 32, 64, 128,
)  # fmt: skip
# What the numbers of a line say: nothing; one alone; one with a symbol; an address for certain;
# the fields of a tracepoint.
LAYOUT_NONE, LAYOUT_BARE, LAYOUT_SYMBOL, LAYOUT_ADDRESS, LAYOUT_FIELDS = range(5)

# A text met in the chunk: event or command name.
TEXT = np.dtype([("hash", np.uint64), ("start", np.int64), ("end", np.int64)], align=True)
# A line left to Python.
ODD = np.dtype([("start", np.int64), ("end", np.int64), ("line", np.int64)], align=True)
# How far a scan came.
STATE = np.dtype(
    [
        ("position", np.int64),
        ("line", np.int64),
        ("rows", np.int64),
        ("odd", np.int64),
        ("events", np.int64),
        ("comms", np.int64),
        ("time_digits", np.int64),
        ("separator", np.int64),
        ("takes_rest", np.int64),  # the last field may hold separators
    ],
    align=True,
)


@inner
def hex_value(byte: Any) -> Any:
    """Return 0..15, or 255 where the byte is no hex digit."""
    if ZERO <= byte <= NINE:
        return np.uint8(byte - ZERO)
    lower = byte | 32
    if 97 <= lower <= 102:
        return np.uint8(lower - 87)
    return np.uint8(255)


@inner
def intern(buffer: Any, start: Any, end: Any, texts: Any, known: Any) -> Any:
    """Return the row of a text in `texts`, which is its number `known` where it is new.

    Returns texts.size where the table is full.
    """
    value = np.uint64(14695981039346656037)
    for at in range(start, end):
        value = (value ^ np.uint64(buffer[at])) * np.uint64(1099511628211)
    for row in range(known):
        if texts[row]["hash"] == value:
            return row
    if known < texts.size:
        texts[known]["hash"] = value
        texts[known]["start"] = start
        texts[known]["end"] = end
    return known


@inner
def _sample_head(buffer: Any, begin: Any, colon: Any, row: Any, state: Any, comms: Any) -> Any:
    """Parse `COMM PID/TID [CPU] SECS.FRAC` backwards from the colon; False where it is none."""
    at = colon - 1
    fraction = np.uint64(0)
    scale = np.uint64(1)
    while at >= begin and ZERO <= buffer[at] <= NINE:
        fraction += np.uint64(buffer[at] - ZERO) * scale
        scale *= np.uint64(10)
        at -= 1
    digits = colon - 1 - at
    if digits not in (6, 9) or at <= begin or buffer[at] != DOT:
        return False
    if digits == 6:
        fraction *= np.uint64(1000)
    elif state[0]["time_digits"] < 9:
        state[0]["time_digits"] = 9
    at -= 1
    seconds = np.uint64(0)
    scale = np.uint64(1)
    first = at
    while at >= begin and ZERO <= buffer[at] <= NINE:
        seconds += np.uint64(buffer[at] - ZERO) * scale
        scale *= np.uint64(10)
        at -= 1
    if first == at or first - at > 10 or (at >= begin and buffer[at] != BLANK):
        return False
    row["time_ns"] = seconds * np.uint64(1_000_000_000) + fraction
    while at >= begin and buffer[at] == BLANK:
        at -= 1
    # `-F +misc` puts letters (U, K, H, G, E, S) between CPU and time.
    misc = at
    while misc >= begin and 65 <= buffer[misc] <= 90 and at - misc < 3:
        misc -= 1
    if misc < at and misc >= begin and buffer[misc] == BLANK:
        while misc >= begin and buffer[misc] == BLANK:
            misc -= 1
        if misc >= begin and (buffer[misc] == 93 or ZERO <= buffer[misc] <= NINE):
            at = misc
    has = np.uint8(0)
    if at >= begin and buffer[at] == 93:  # ]
        cpu = np.uint32(0)
        scale32 = np.uint32(1)
        at -= 1
        first = at
        while at >= begin and ZERO <= buffer[at] <= NINE:
            cpu += np.uint32(buffer[at] - ZERO) * scale32
            scale32 *= np.uint32(10)
            at -= 1
        if first == at or first - at > 5 or at < begin or buffer[at] != 91:
            return False
        row["cpu"] = np.uint16(cpu)
        has |= np.uint8(HAS_CPU)
        at -= 1
        while at >= begin and buffer[at] == BLANK:
            at -= 1
    number = np.uint64(0)
    scale = np.uint64(1)
    first = at
    while at >= begin and ZERO <= buffer[at] <= NINE and first - at < 10:
        number += np.uint64(buffer[at] - ZERO) * scale
        scale *= np.uint64(10)
        at -= 1
    if first != at and (at < begin or buffer[at] == BLANK or buffer[at] == SLASH):
        row["tid"] = np.uint32(number)
        has |= np.uint8(HAS_TID)
        if at >= begin and buffer[at] == SLASH:
            at -= 1
            number = np.uint64(0)
            scale = np.uint64(1)
            first = at
            while at >= begin and ZERO <= buffer[at] <= NINE and first - at < 10:
                number += np.uint64(buffer[at] - ZERO) * scale
                scale *= np.uint64(10)
                at -= 1
            if first == at or (at >= begin and buffer[at] != BLANK):
                return False
            row["pid"] = np.uint32(number)
            has |= np.uint8(HAS_PID)
    elif first != at:
        return False
    row["has"] = has
    if comms.size:
        while at >= begin and buffer[at] == BLANK:
            at -= 1
        while begin < at and buffer[begin] == BLANK:
            begin += 1
        found = intern(buffer, begin, at + 1, comms, state[0]["comms"])
        if found == state[0]["comms"] and found < comms.size:
            state[0]["comms"] += 1
        row["comm"] = np.uint16(found)
    return True


@inner
def _sample_fields(buffer: Any, at: Any, end: Any, row: Any) -> Any:
    """Parse what follows the event: `address=…` of a tracepoint, or address, symbol, ip."""
    while at < end and buffer[at] == BLANK:
        at += 1
    row["layout"] = np.uint8(LAYOUT_NONE)
    row["address"] = np.uint64(0)
    row["detail"] = np.uint64(0)
    if at + 10 < end and buffer[at] == 97 and buffer[at + 7] == EQUALS:  # address=0x
        at += 8
        if buffer[at] != ZERO or buffer[at + 1] != 120:
            return False
        at += 2
        value = np.uint64(0)
        first = at
        while at < end and hex_value(buffer[at]) != 255:
            value = (value << np.uint64(4)) | np.uint64(hex_value(buffer[at]))
            at += 1
        if at == first or at - first > 16 or (at < end and buffer[at] != BLANK):
            return False
        row["address"] = value
        row["layout"] = np.uint8(LAYOUT_FIELDS)
        # error_code=0x…: the one `=` after a `code`
        while at + 13 < end:
            if buffer[at] == EQUALS and buffer[at - 1] == 101 and buffer[at - 4] == 99:
                break
            at += 1
        while at < end and not (buffer[at] == EQUALS and buffer[at - 1] == 101):
            at += 1
        at += 3
        value = np.uint64(0)
        first = at
        while at < end and hex_value(buffer[at]) != 255:
            value = (value << np.uint64(4)) | np.uint64(hex_value(buffer[at]))
            at += 1
        if first < at <= first + 16:
            row["detail"] = value
            row["has"] |= np.uint8(HAS_ERROR_CODE)
        return True
    numbers = 0
    words = 0
    before = at
    while at < end:
        # One word: a hex number, a symbol, or a (dso) that may hold blanks.
        first = at
        if buffer[at] == OPEN:
            while at < end and not (
                buffer[at] == CLOSE and (at + 1 == end or buffer[at + 1] == BLANK)
            ):
                at += 1
            at = min(at + 1, end)
            before = at
            words += 1
        else:
            value = np.uint64(0)
            is_hex = True
            while at < end and buffer[at] != BLANK:
                digit = hex_value(buffer[at])
                if digit == 255:
                    is_hex = False
                value = (value << np.uint64(4)) | np.uint64(digit)
                at += 1
            length = at - first
            # perf pads numbers to 16 columns; a symbol made of hex letters has none before it.
            padded = length >= 6 or at - before >= 16
            before = at
            while at < end and buffer[at] == BLANK:
                at += 1
            if buffer[first] == PIPE:  # the words of a data_src, up to the next number
                while at < end and not (
                    buffer[at - 1] == BLANK
                    and hex_value(buffer[at]) != 255
                    and at + 6 < end
                    and hex_value(buffer[at + 4]) != 255
                    and hex_value(buffer[at + 5]) != 255
                ):
                    at += 1
            elif is_hex and (numbers == 0 or padded):
                if at < end and buffer[at] == PIPE:
                    row["detail"] = value
                    row["has"] |= np.uint8(HAS_DATA_SRC)
                    if numbers == 1:
                        row["layout"] = np.uint8(LAYOUT_ADDRESS)
                        return True
                elif numbers == 0:
                    if words:  # a symbol before any number: no layout we know
                        return True
                    row["address"] = value
                    row["layout"] = np.uint8(LAYOUT_BARE)
                    numbers = 1
                else:
                    row["layout"] = np.uint8(LAYOUT_ADDRESS)
                    return True
            else:
                words += 1
        while at < end and buffer[at] == BLANK:
            at += 1
    if numbers == 1 and words:
        row["layout"] = np.uint8(LAYOUT_SYMBOL)
    return True


@kernel
def scan_perf_script(
    buffer: Any, samples: Any, odd: Any, events: Any, comms: Any, state: Any
) -> None:
    """Cut `perf script` lines into samples until the buffer ends or a table is full.

    buffer uint8, whole lines; samples SAMPLE; odd ODD; events, comms TEXT (comms of size 0: not
    wanted); state STATE (1,).
    """
    at = state[0]["position"]
    size = buffer.size
    while at < size:
        if state[0]["rows"] >= samples.size or state[0]["odd"] >= odd.size:
            break
        begin = at
        first = buffer[at]
        if first == NEWLINE:
            at += 1
            state[0]["line"] += 1
            continue
        if first in (TAB, HASH):
            while buffer[at] != NEWLINE:
                at += 1
            at += 1
            state[0]["line"] += 1
            if first == TAB and state[0]["rows"] > 0:
                samples[state[0]["rows"] - 1]["has"] |= np.uint8(HAS_CHAIN)
            continue
        row = samples[state[0]["rows"]]
        is_sample = False
        # The first colon after a time is the one that counts, unless what follows is no sample:
        # a command name may hold anything.
        while buffer[at] != NEWLINE and not is_sample:
            if (
                buffer[at] == COLON
                and at - begin > 7
                and ZERO <= buffer[at - 1] <= NINE
                and (buffer[at + 1] == BLANK or buffer[at + 1] == NEWLINE)
                and _sample_head(buffer, begin, at, row, state, comms)
            ):
                break
            at += 1
        colon = at
        while buffer[at] != NEWLINE:
            at += 1
        end = at
        at += 1
        if colon < end:
            is_sample = _sample_tail(buffer, colon + 1, end, row, state, events)
            if not is_sample:
                # Another time may follow in the line: the one before stood in a command name.
                again = colon + 1
                while again < end and not is_sample:
                    if (
                        buffer[again] == COLON
                        and ZERO <= buffer[again - 1] <= NINE
                        and _sample_head(buffer, begin, again, row, state, comms)
                    ):
                        is_sample = _sample_tail(buffer, again + 1, end, row, state, events)
                    again += 1
        if is_sample:
            row["line"] = state[0]["line"]
            state[0]["rows"] += 1
        else:
            odd[state[0]["odd"]]["start"] = begin
            odd[state[0]["odd"]]["end"] = end
            odd[state[0]["odd"]]["line"] = state[0]["line"]
            state[0]["odd"] += 1
        state[0]["line"] += 1
    state[0]["position"] = at


@inner
def _sample_tail(buffer: Any, at: Any, end: Any, row: Any, state: Any, events: Any) -> Any:
    """Parse `[PERIOD] EVENT: FIELDS` after the time."""
    while end > at and buffer[end - 1] == 13:
        end -= 1
    while at < end and buffer[at] == BLANK:
        at += 1
    first = at
    digits = True
    period = np.uint64(0)
    while at < end and buffer[at] != BLANK:
        if ZERO <= buffer[at] <= NINE:
            period = period * np.uint64(10) + np.uint64(buffer[at] - ZERO)
        else:
            digits = False
        at += 1
    if at == first:
        return False
    row["event"] = np.uint16(0)
    row["period"] = np.uint32(1)
    if buffer[at - 1] != COLON:
        start = at
        while start < end and buffer[start] == BLANK:
            start += 1
        stop = start
        while stop < end and buffer[stop] != BLANK:
            stop += 1
        if digits and stop > start and buffer[stop - 1] == COLON:
            row["period"] = np.uint32(min(period, np.uint64(4294967295)))
            row["has"] |= np.uint8(HAS_PERIOD)
            first = start
            at = stop
        else:  # no event in this layout: the numbers follow at once
            for byte in range(first, at):
                if hex_value(buffer[byte]) == 255:
                    return False
            return _sample_fields(buffer, first, end, row)
    if (
        at - first > 12
        and buffer[first] == 80
        and buffer[first + 4] == 95
        and buffer[first + 11] == 95
    ):
        return False  # PERF_RECORD_…
    found = intern(buffer, first, at - 1, events, state[0]["events"])
    if found == events.size:
        return False
    if found == state[0]["events"]:
        state[0]["events"] += 1
    row["event"] = np.uint16(found)
    row["has"] |= np.uint8(HAS_EVENT)
    return _sample_fields(buffer, at, end, row)


# What a field of delimited text holds, and where its value goes (slot of the row of values).
FIELD = np.dtype([("kind", np.uint8), ("slot", np.uint8)], align=True)
SKIP, DECIMAL, HEX, TEXT_CODE, SECONDS, FLAG = range(6)


@inner
def _number_of(buffer: Any, at: Any, end: Any, kind: Any, value: Any) -> Any:
    """Parse one number into value[0]; False where it is none, or does not fit 64 bits."""
    total = np.uint64(0)
    if kind == HEX:
        if at + 2 < end and buffer[at] == ZERO and buffer[at + 1] | 32 == 120:
            at += 2
        if end - at > 16:
            return False
        for byte in range(at, end):
            digit = hex_value(buffer[byte])
            if digit == 255:
                return False
            total = (total << np.uint64(4)) | np.uint64(digit)
    elif kind == FLAG:
        lower = buffer[at] | 32
        # 1, W…, true, yes, store against 0, R…, false, no, load
        if buffer[at] == 49 or lower in (119, 116, 121, 115):
            total = np.uint64(1)
        elif not (buffer[at] == ZERO or lower in (114, 102, 110, 108)):
            return False
        if buffer[at] <= NINE and end - at != 1:
            return False
    else:
        decimals = -1
        for byte in range(at, end):
            if kind == SECONDS and buffer[byte] == DOT and decimals < 0:
                decimals = 0
                continue
            if not ZERO <= buffer[byte] <= NINE or decimals == 9:
                return False
            if total > np.uint64(1844674407370955160):
                return False
            total = total * np.uint64(10) + np.uint64(buffer[byte] - ZERO)
            if decimals >= 0:
                decimals += 1
        if kind == SECONDS:
            for _ in range(9 - max(decimals, 0)):
                total *= np.uint64(10)
    value[0] = total
    return True


@kernel
def scan_delimited(buffer: Any, fields: Any, values: Any, odd: Any, texts: Any, state: Any) -> None:
    """Cut delimited lines into rows of numbers until the buffer ends or a table is full.

    buffer uint8, whole lines; fields FIELD, one per field of a line; values uint64
    (rows, slots + 1), the last column holds a bit per slot that is there; odd ODD; texts TEXT;
    state STATE (1,). A separator of blank takes runs of blanks and tabs as one.
    """
    at = state[0]["position"]
    size = buffer.size
    separator = np.uint8(state[0]["separator"])
    runs = separator == BLANK
    slots = values.shape[1] - 1
    parsed = np.zeros(1, np.uint64)
    while at < size:
        if state[0]["rows"] >= values.shape[0] or state[0]["odd"] >= odd.size:
            break
        begin = at
        row = state[0]["rows"]
        field = 0
        good = buffer[at] != HASH
        present = np.uint64(0)
        while good:
            while runs and (buffer[at] == BLANK or buffer[at] == TAB):
                at += 1
            first = at
            rest = field == fields.size - 1 and state[0]["takes_rest"] != 0
            while buffer[at] != NEWLINE and (
                rest or (buffer[at] != separator and not (runs and buffer[at] == TAB))
            ):
                if buffer[at] == 34:  # a quote: Python reads this line
                    good = False
                at += 1
            end = at
            if end > first and buffer[end - 1] == 13:
                end -= 1
            while not runs and end > first and buffer[first] == BLANK:
                first += 1
            if field >= fields.size:
                good = good and runs and end == first
                break
            kind = fields[field]["kind"]
            slot = fields[field]["slot"]
            if kind != SKIP and end > first and good:
                if kind == TEXT_CODE:
                    found = intern(buffer, first, end, texts, state[0]["events"])
                    if found == texts.size:
                        good = False
                    elif found == state[0]["events"]:
                        state[0]["events"] += 1
                    values[row, slot] = np.uint64(found)
                elif _number_of(buffer, first, end, kind, parsed):
                    values[row, slot] = parsed[0]
                else:
                    good = False
                present |= np.uint64(1) << np.uint64(slot)
            field += 1
            if buffer[at] == NEWLINE:
                break
            at += 1
        while buffer[at] != NEWLINE:
            at += 1
        if good and field == fields.size:
            values[row, slots] = present
            state[0]["rows"] += 1
        else:
            odd[state[0]["odd"]]["start"] = begin
            odd[state[0]["odd"]]["end"] = at
            odd[state[0]["odd"]]["line"] = state[0]["line"]
            state[0]["odd"] += 1
        state[0]["line"] += 1
        at += 1
    state[0]["position"] = at


# One reference of lackey: kind is 0 I, 1 L, 2 S, 3 M.
REFERENCE = np.dtype(
    [
        ("address", np.uint64),
        ("instruction", np.uint64),
        ("size_bytes", np.uint32),
        ("kind", np.uint8),
    ],
    align=True,
)


@kernel
def scan_lackey(buffer: Any, references: Any, odd: Any, state: Any) -> None:
    """Cut lackey lines into references until the buffer ends or a table is full.

    buffer uint8, whole lines; references REFERENCE; odd ODD; state STATE (1,), whose `events`
    counts instructions over the whole input.
    """
    at = state[0]["position"]
    size = buffer.size
    instruction = state[0]["events"]
    rows = state[0]["rows"]
    line = state[0]["line"]
    while at + 4 < size:
        if rows >= references.size or state[0]["odd"] >= odd.size:
            break
        begin = at
        kind = -1
        if buffer[at] == 73 and buffer[at + 1] == BLANK and buffer[at + 2] == BLANK:  # "I  "
            kind = 0
        elif buffer[at] == BLANK and buffer[at + 2] == BLANK:
            if buffer[at + 1] == 76:  # " L "
                kind = 1
            elif buffer[at + 1] == 83:  # " S "
                kind = 2
            elif buffer[at + 1] == 77:  # " M "
                kind = 3
        good = kind >= 0
        if good:
            at += 3
            address = np.uint64(0)
            first = at
            digit = hex_value(buffer[at])
            while digit != 255:
                address = (address << np.uint64(4)) | np.uint64(digit)
                at += 1
                digit = hex_value(buffer[at])
            good = first < at <= first + 16 and buffer[at] == 44
            if good:
                at += 1
                length = np.uint32(0)
                first = at
                while ZERO <= buffer[at] <= NINE and at - first < 9:
                    length = length * np.uint32(10) + np.uint32(buffer[at] - ZERO)
                    at += 1
                good = at > first and (
                    buffer[at] == NEWLINE or (buffer[at] == 13 and buffer[at + 1] == NEWLINE)
                )
                if good:
                    references[rows]["address"] = address
                    references[rows]["instruction"] = instruction
                    references[rows]["size_bytes"] = length
                    references[rows]["kind"] = kind
                    rows += 1
                    if kind == 0:
                        instruction += 1
        while buffer[at] != NEWLINE:
            at += 1
        if not good:
            odd[state[0]["odd"]]["start"] = begin
            odd[state[0]["odd"]]["end"] = at
            odd[state[0]["odd"]]["line"] = line
            state[0]["odd"] += 1
        line += 1
        at += 1
    if size - at <= 4 and rows < references.size and state[0]["odd"] < odd.size:
        if at < size:  # too short for a reference
            odd[state[0]["odd"]]["start"] = at
            odd[state[0]["odd"]]["end"] = size - 1
            odd[state[0]["odd"]]["line"] = line
            state[0]["odd"] += 1
            line += 1
        at = size
    state[0]["position"] = at
    state[0]["rows"] = rows
    state[0]["line"] = line
    state[0]["events"] = instruction

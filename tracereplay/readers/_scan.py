"""Byte scanners: numbers are cut from the text and parsed in one pass, without a string per field."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracereplay._jit import (
    byte_at,
    first_of,
    inner,
    kernel,
    leading_zeros,
    word_at,
    wrapping_product,
)
from tracereplay.readers._perf_event import PERF_MEM_OP, PERF_MEM_OP_LOAD, PERF_MEM_OP_STORE
from tracereplay.units import PAGE_SHIFT

NEWLINE, BLANK, TAB, HASH, COLON, SLASH = 10, 32, 9, 35, 58, 47
OPEN, CLOSE, DOT, PIPE, ZERO, NINE, EQUALS = 40, 41, 46, 124, 48, 57, 61


def wrapping() -> Any:
    """Return the context to call scanners in: without compiled code numpy warns of wrapping."""
    return np.errstate(over="ignore")


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
# What perf pads command names to, and the most columns a name, ids, CPU and time take.
COMM_COLUMNS, _HEAD_COLUMNS = 16, 96
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


_HEX = np.full(256, 255, np.uint8)
for _digit, _letters in enumerate(("0", "1", "2", "3", "4", "5", "6", "7", "8", "9", *"abcdef")):
    for _letter in {_letters, _letters.upper()}:
        _HEX[ord(_letter)] = _digit


@inner
def hex_value(byte: Any) -> Any:
    """Return 0..15, or 255 where the byte is no hex digit."""
    return _HEX[byte]


@inner
def find_either(buffer: Any, at: Any, one: Any, other: Any) -> Any:
    """Return the first place from `at` on with either byte; one of them ends every line."""
    while at + 32 <= buffer.size:
        first = first_of(buffer, at, one, other)
        if first < 32:
            return at + first
        at += 32
    while buffer[at] != one and buffer[at] != other:
        at += 1
    return at


@inner
def line_end(buffer: Any, at: Any) -> Any:
    """Return where the line ends that `at` lies in."""
    return find_either(buffer, at, NEWLINE, NEWLINE)


@inner
def is_same(buffer: Any, one: Any, other: Any, length: Any) -> Any:
    """Return whether two texts of the buffer are the same; the second may be cut by its end."""
    if other + length > buffer.size:
        return False
    at = 0
    while at + 8 <= length:
        if word_at(buffer, one + at) != word_at(buffer, other + at):
            return False
        at += 8
    while at < length:
        if byte_at(buffer, one + at) != byte_at(buffer, other + at):
            return False
        at += 1
    return True


@inner
def hex_number(buffer: Any, at: Any) -> Any:
    """Return (value, where it ends) of the hex digits at `at`; more than 16 lose the upper ones."""
    value = np.uint64(0)
    digit = hex_value(byte_at(buffer, at))
    while digit != 255:
        value = (value << np.uint64(4)) | np.uint64(digit)
        at += 1
        digit = hex_value(byte_at(buffer, at))
    return value, at


@inner
def intern(buffer: Any, start: Any, end: Any, texts: Any, known: Any) -> Any:
    """Return the row of a text in `texts`, which is its number `known` where it is new.

    Returns texts.size where the table is full.
    """
    # The same text comes again and again: compare with the one met last before hashing.
    length = end - start
    if known > 0:
        first = texts[known - 1]["start"]
        if texts[known - 1]["end"] - first == length and is_same(buffer, first, start, length):
            return known - 1
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


_EIGHT_ZEROS = np.uint64(0x3030_3030_3030_3030)
_LOW_SEVEN = np.uint64(0x7F7F_7F7F_7F7F_7F7F)
_TEN_OVERFLOWS = np.uint64(0x7676_7676_7676_7676)  # a digit stays below 0x80, ten and more do not
_HIGH_BITS = np.uint64(0x8080_8080_8080_8080)


@inner
def _eight_digits(values: Any) -> Any:
    """Return the number of eight decimal digits, a byte each, the first the lowest."""
    pairs = wrapping_product(values, np.uint64(10 << 8 | 1)) >> np.uint64(8)
    pairs &= np.uint64(0x00FF_00FF_00FF_00FF)
    fours = wrapping_product(pairs, np.uint64(100 << 16 | 1)) >> np.uint64(16)
    fours &= np.uint64(0x0000_FFFF_0000_FFFF)
    return wrapping_product(fours, np.uint64(10000 << 32 | 1)) >> np.uint64(32)


@inner
def _number_before(buffer: Any, begin: Any, at: Any) -> Any:
    """Return (value, position before it) of the decimal number that ends at `at`.

    `begin` is where the line begins: what stands before it is no digit.
    """
    value = np.uint64(0)
    scale = np.uint64(1)
    if at >= 7:
        # Eight bytes at once; those before the number count as zeros.
        values = word_at(buffer, at - 7) ^ _EIGHT_ZEROS
        other = (((values & _LOW_SEVEN) + _TEN_OVERFLOWS) | values) & _HIGH_BITS
        if other != np.uint64(0):
            digits = leading_zeros(other) // 8
            if digits == 0:
                return value, at
            unused = np.uint64(64 - 8 * digits)
            return _eight_digits(values >> unused << unused), at - digits
        value = _eight_digits(values)
        scale = np.uint64(100_000_000)
        at -= 8
    while at >= begin and ZERO <= buffer[at] <= NINE:
        value += np.uint64(buffer[at] - ZERO) * scale
        scale *= np.uint64(10)
        at -= 1
    return value, at


@inner
def _sample_head(buffer: Any, begin: Any, colon: Any, row: Any) -> Any:
    """Parse `COMM PID/TID [CPU] SECS.FRAC` backwards from the colon.

    Return (end of the command name or -1 where it is no sample head, digits of the fraction).
    """
    fraction, at = _number_before(buffer, begin, colon - 1)
    digits = colon - 1 - at
    if digits not in (6, 9) or at <= begin or buffer[at] != DOT:
        return -1, digits
    if digits == 6:
        fraction *= np.uint64(1000)
    first = at - 1
    seconds, at = _number_before(buffer, begin, first)
    if first == at or first - at > 10 or (at >= begin and buffer[at] != BLANK):
        return -1, digits
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
        first = at - 1
        cpu, at = _number_before(buffer, begin, first)
        if first == at or first - at > 5 or at < begin or buffer[at] != 91:
            return -1, digits
        row["cpu"] = np.uint16(cpu)
        has |= np.uint8(HAS_CPU)
        at -= 1
        while at >= begin and buffer[at] == BLANK:
            at -= 1
    first = at
    number, at = _number_before(buffer, begin, first)
    if first != at:
        if first - at > 10 or (at >= begin and buffer[at] != BLANK and buffer[at] != SLASH):
            return -1, digits
        row["tid"] = np.uint32(number)
        has |= np.uint8(HAS_TID)
        if at >= begin and buffer[at] == SLASH:
            first = at - 1
            number, at = _number_before(buffer, begin, first)
            if first == at or first - at > 10 or (at >= begin and buffer[at] != BLANK):
                return -1, digits
            row["pid"] = np.uint32(number)
            has |= np.uint8(HAS_PID)
    row["has"] = has
    while at >= begin and buffer[at] == BLANK:
        at -= 1
    # Without thread and CPU a name stands alone in its columns: anything longer is another format.
    if has == 0 and at + 1 - begin > COMM_COLUMNS:
        return -1, digits
    return at + 1, digits


@inner
def _later_head(buffer: Any, begin: Any, at: Any, name_end: Any, row: Any) -> Any:
    """Return the last colon behind `at` of a sample head that leaves a command name's columns.

    perf pads command names to 16 columns, and they are no longer: where less is left in front of a
    head, what looks like one may itself be part of the name. Returns `at` where there is none;
    `row` is filled anew.
    """
    last = at
    at += 1
    while buffer[at] != NEWLINE and at < begin + _HEAD_COLUMNS:
        if (
            buffer[at] == COLON
            and ZERO <= buffer[at - 1] <= NINE
            and (buffer[at + 1] == BLANK or _at_end(buffer[at + 1]))
        ):
            end, _ = _sample_head(buffer, begin, at, row)
            if name_end < end <= begin + COMM_COLUMNS:
                last = at
        at += 1
    return last


@inner
def _at_end(byte: Any) -> Any:
    return byte in (NEWLINE, 13)


@inner
def _sample_fields(buffer: Any, at: Any, row: Any) -> Any:
    """Parse what follows the event: `address=…` of a tracepoint, or address, symbol, ip.

    Return where it stopped, or -1 where this is no sample.
    """
    while buffer[at] == BLANK:
        at += 1
    row["layout"] = np.uint8(LAYOUT_NONE)
    row["address"] = np.uint64(0)
    row["detail"] = np.uint64(0)
    if buffer[at] == 97 and buffer[at + 1] == 100 and buffer[at + 2] == 100:  # add(ress=)
        mark = at
        while not _at_end(buffer[at]) and buffer[at] != EQUALS and at - mark < 8:
            at += 1
        if buffer[at] == EQUALS and at - mark == 7:
            if buffer[at + 1] != ZERO or buffer[at + 2] != 120:
                return -1
            mark = at + 3
            value, at = hex_number(buffer, mark)
            if at == mark or at - mark > 16 or (buffer[at] != BLANK and not _at_end(buffer[at])):
                return -1
            row["address"] = value
            row["layout"] = np.uint8(LAYOUT_FIELDS)
            # error_code=0x…: the name that ends with `code`
            while True:
                at = find_either(buffer, at, EQUALS, NEWLINE)
                if buffer[at] == NEWLINE:
                    break
                if buffer[at - 1] == 101 and buffer[at - 4] == 99:
                    if buffer[at + 1] == ZERO and buffer[at + 2] == 120:
                        mark = at + 3
                        value, at = hex_number(buffer, mark)
                        if mark < at <= mark + 16:
                            row["detail"] = value
                            row["has"] |= np.uint8(HAS_ERROR_CODE)
                    break
                at += 1
            return at
        at = mark
    numbers = 0
    words = 0
    before = at
    while not _at_end(buffer[at]):
        # One word: a hex number, a symbol, or a (dso) that may hold blanks.
        first = at
        if buffer[at] == OPEN:
            while not _at_end(buffer[at]) and not (
                buffer[at] == CLOSE and (buffer[at + 1] == BLANK or _at_end(buffer[at + 1]))
            ):
                at += 1
            if buffer[at] == CLOSE:
                at += 1
            before = at
            words += 1
        elif buffer[at] == PIPE:  # the words of a data_src, up to the next long number
            while not _at_end(buffer[at]) and not (
                buffer[at - 1] == BLANK
                and hex_value(buffer[at]) != 255
                and hex_value(buffer[at + 1]) != 255
                and hex_value(buffer[at + 2]) != 255
                and hex_value(buffer[at + 3]) != 255
                and hex_value(buffer[at + 4]) != 255
            ):
                at += 1
            before = at
        else:
            value, at = hex_number(buffer, at)
            is_hex = buffer[at] == BLANK or _at_end(buffer[at])
            while buffer[at] != BLANK and not _at_end(buffer[at]):
                at += 1
            # perf pads numbers to 16 columns; a symbol made of hex letters has none before it.
            padded = at - first >= 6 or at - before >= 16
            is_hex = is_hex and at - first <= 16
            before = at
            while buffer[at] == BLANK:
                at += 1
            if is_hex and (numbers == 0 or padded):
                if buffer[at] == PIPE:
                    row["detail"] = value
                    row["has"] |= np.uint8(HAS_DATA_SRC)
                    if numbers == 1:
                        row["layout"] = np.uint8(LAYOUT_ADDRESS)
                        return at
                elif numbers == 0:
                    if words:  # a symbol before any number: no layout we know
                        return at
                    row["address"] = value
                    row["layout"] = np.uint8(LAYOUT_BARE)
                    numbers = 1
                else:
                    row["layout"] = np.uint8(LAYOUT_ADDRESS)
                    return at
            else:
                words += 1
        while buffer[at] == BLANK:
            at += 1
    if numbers == 1 and words:
        row["layout"] = np.uint8(LAYOUT_SYMBOL)
    return at


@inner
def _event_of(buffer: Any, colon: Any, row: Any) -> Any:
    """Find the event in `[PERIOD] EVENT: FIELDS`; return (start, end, where the fields begin).

    colon is where the time ends; end is start where the layout names no event, and -1 where this is
    no sample.
    """
    at = colon + 1
    while buffer[at] == BLANK:
        at += 1
    first = at
    digits = True
    period = np.uint64(0)
    while buffer[at] != BLANK and not _at_end(buffer[at]):
        if ZERO <= buffer[at] <= NINE:
            period = period * np.uint64(10) + np.uint64(buffer[at] - ZERO)
        else:
            digits = False
        at += 1
    if at == first:
        return first, np.int64(-1), at
    row["period"] = np.uint32(1)
    if buffer[at - 1] == COLON:
        return first, at - 1, at
    if digits:
        start = at
        while buffer[start] == BLANK:
            start += 1
        stop = start
        while buffer[stop] != BLANK and not _at_end(buffer[stop]):
            stop += 1
        if stop > start and buffer[stop - 1] == COLON:
            row["period"] = np.uint32(min(period, np.uint64(4294967295)))
            row["has"] |= np.uint8(HAS_PERIOD)
            return start, stop - 1, stop
    for byte in range(first, at):  # no event in this layout: the numbers follow at once
        if hex_value(buffer[byte]) == 255:
            return first, np.int64(-1), at
    # A period has 10 columns, and the address behind it 16.
    if digits and at - colon == max(12, at - first + 2):
        start = at
        while buffer[start] == BLANK:
            start += 1
        stop = start
        while hex_value(buffer[stop]) != 255:
            stop += 1
        if stop - at >= 17 and stop > start and (buffer[stop] == BLANK or _at_end(buffer[stop])):
            row["period"] = np.uint32(min(period, np.uint64(4294967295)))
            row["has"] |= np.uint8(HAS_PERIOD)
            return start, start, start
    return first, first, first


@kernel
def scan_perf_script(
    buffer: Any, samples: Any, odd: Any, events: Any, comms: Any, state: Any
) -> None:
    """Cut `perf script` lines into samples until the buffer ends or a table is full.

    buffer uint8, whole lines; samples SAMPLE; odd ODD; events, comms TEXT (comms of size 0: not
    wanted); state STATE (1,).
    """
    at = state[0]["position"]
    line = state[0]["line"]
    time_digits = state[0]["time_digits"]
    rows = 0
    odds = 0
    known_events = 0
    known_comms = 0
    event = 0
    name_end = 0
    size = buffer.size
    while at < size and rows < samples.size and odds < odd.size:
        begin = at
        byte = buffer[at]
        if byte in (NEWLINE, TAB, HASH):
            at = line_end(buffer, at) + 1
            line += 1
            if byte == TAB and rows > 0:
                samples[rows - 1]["has"] |= np.uint8(HAS_CHAIN)
            continue
        row = samples[rows]
        is_sample = False
        # The first colon after a time is the one that counts, unless what follows is no sample, or
        # the time is part of the command name, which may hold anything.
        while True:
            at = find_either(buffer, at, COLON, NEWLINE)
            if buffer[at] == NEWLINE:
                break
            if (
                at - begin < 8
                or not ZERO <= buffer[at - 1] <= NINE
                or not (buffer[at + 1] == BLANK or _at_end(buffer[at + 1]))
            ):
                at += 1
                continue
            name_end, digits = _sample_head(buffer, begin, at, row)
            if name_end < 0:
                at += 1
                continue
            if name_end - begin < COMM_COLUMNS:
                later = _later_head(buffer, begin, at, name_end, row)
                if later > at:
                    at = later
                    continue
                name_end, digits = _sample_head(buffer, begin, at, row)
            # Nearly always the event of the line before: one comparison, instead of looking for
            # its end, its colon and its number.
            start = at + 1
            while buffer[start] == BLANK:
                start += 1
            end = start
            if known_events > 0:
                first = events[event]["start"]
                length = events[event]["end"] - first
                after = start + length
                if (
                    after + 1 < size
                    and is_same(buffer, first, start, length)
                    and buffer[after] == COLON
                    and buffer[after + 1] == BLANK
                ):
                    end = after
            if end > start:
                row["period"] = np.uint32(1)
                fields = end + 1
                stopped = _sample_fields(buffer, fields, row)
                if stopped >= 0:
                    row["event"] = np.uint16(event)
                    row["has"] |= np.uint8(HAS_EVENT)
                    time_digits = max(time_digits, digits)
                    is_sample = True
                    at = stopped
                    break
            start, end, fields = _event_of(buffer, at, row)
            if end < 0 or (end - start > 11 and buffer[start] == 80 and buffer[start + 11] == 95):
                at += 1  # no sample, or PERF_RECORD_…
                continue
            stopped = _sample_fields(buffer, fields, row)
            if stopped < 0:
                at += 1
                continue
            row["event"] = np.uint16(0)
            if end > start:
                found = intern(buffer, start, end, events, known_events)
                if found == events.size:
                    break
                if found == known_events:
                    known_events += 1
                row["event"] = np.uint16(found)
                row["has"] |= np.uint8(HAS_EVENT)
                event = found
            time_digits = max(time_digits, digits)
            is_sample = True
            at = stopped
            break
        at = line_end(buffer, at)
        if is_sample:
            row["line"] = line
            rows += 1
            if comms.size:
                first = begin
                while first < name_end and buffer[first] == BLANK:
                    first += 1
                found = intern(buffer, first, name_end, comms, known_comms)
                if found == comms.size:  # full: the next call begins with this line
                    rows -= 1
                    at = begin
                    break
                if found == known_comms:
                    known_comms += 1
                row["comm"] = np.uint16(found)
        else:
            odd[odds]["start"] = begin
            odd[odds]["end"] = at
            odd[odds]["line"] = line
            odds += 1
        line += 1
        at += 1
    state[0]["position"] = at
    state[0]["line"] = line
    state[0]["rows"] = rows
    state[0]["odd"] = odds
    state[0]["events"] = known_events
    state[0]["comms"] = known_comms
    state[0]["time_digits"] = time_digits


# What `take_samples` counts.
TAKEN = np.dtype(
    [
        ("rows", np.int64),
        ("bare", np.int64),  # with one number, that does not say what it is
        ("kernel_line", np.int64),  # the first of these in kernel space; -1: none
        ("backwards", np.int64),  # rows older than the one before
        ("every", np.uint8),  # HAS_ bits all rows have
        ("some", np.uint8),  # HAS_ bits of any row
    ],
    align=True,
)
_LOAD, _STORE = np.uint64(PERF_MEM_OP_LOAD), np.uint64(PERF_MEM_OP_STORE)


@kernel
def take_samples(
    samples: Any,
    takes_first: Any,
    without: Any,
    used: Any,
    takens: Any,
    time_ns: Any,
    pid: Any,
    tid: Any,
    vaddr: Any,
    page: Any,
    is_write: Any,
    event: Any,
    cpu: Any,
    comm: Any,
    period: Any,
    has: Any,
) -> None:
    """Fill the table's columns with the samples that have a data address.

    samples SAMPLE; takes_first: the one number beside a symbol is the address; without int64
    (events + 1,) counts samples without an address, used bool (events + 1,) is set where there is
    one with (the last is for samples that name no event); takens TAKEN (1,); the others, of the
    size of samples, are filled as far as there are rows. HAS_ERROR_CODE of `has` says that
    `is_write` is known.
    """
    taken = takens[0]
    rows = 0
    last_time = np.uint64(0)
    every = np.uint8(255)
    some = np.uint8(0)
    for index in range(samples.size):
        sample = samples[np.uint64(index)]
        known = sample["has"]
        layout = sample["layout"]
        address = sample["address"]
        usable = layout >= LAYOUT_ADDRESS
        if not usable and known & HAS_DATA_SRC == 0:
            if layout == LAYOUT_BARE:
                usable = True
                if not takes_first:
                    taken["bare"] += 1
                    if address >> np.uint64(63) and taken["kernel_line"] < 0:
                        taken["kernel_line"] = sample["line"]
            elif layout == LAYOUT_SYMBOL:
                usable = known & HAS_CHAIN != 0
        if takes_first and layout == LAYOUT_SYMBOL:
            usable = True
        which = np.uint64(sample["event"]) if known & HAS_EVENT else np.uint64(used.size - 1)
        if not usable or address == np.uint64(0):
            without[which] += 1
            continue
        used[which] = True
        row = np.uint64(rows)
        rows += 1
        time = sample["time_ns"]
        if time < last_time:
            taken["backwards"] += 1
        last_time = time
        time_ns[row] = time
        pid[row] = sample["pid"]
        tid[row] = sample["tid"]
        vaddr[row] = address
        page[row] = address >> np.uint64(PAGE_SHIFT)
        detail = sample["detail"]
        if known & HAS_ERROR_CODE:
            is_write[row] = detail & np.uint64(2) != np.uint64(0)
        else:
            operation = detail & np.uint64(PERF_MEM_OP)
            is_write[row] = operation == _STORE
            if known & HAS_DATA_SRC and operation in (_LOAD, _STORE):
                known |= np.uint8(HAS_ERROR_CODE)
        event[row] = which
        cpu[row] = sample["cpu"]
        if comm.size:
            comm[row] = sample["comm"]
        period[row] = sample["period"]
        has[row] = known
        every &= known
        some |= known
    taken["rows"] = rows
    taken["every"] = every
    taken["some"] = some


# What a field of delimited text holds, the most it may be, and where its value goes (slot of the
# row of values).
FIELD = np.dtype([("kind", np.uint8), ("slot", np.uint8), ("limit", np.uint64)], align=True)
SKIP, DECIMAL, HEX, TEXT_CODE, SECONDS, FLAG, WHOLE_PART = range(7)
# Parts fields that were split before: quotes are text there.
UNIT = 0x1F
_MOST_TENTH, _MOST_LAST_DIGIT = np.uint64((1 << 64) // 10), 5
_TEN_TO_19 = np.uint64(10**19)


@inner
def _number_of(buffer: Any, at: Any, end: Any, kind: Any, value: Any) -> Any:
    """Parse SECONDS (as nanoseconds), a WHOLE_PART or a FLAG into value[0]; False where it is none."""
    total = np.uint64(0)
    if kind == FLAG:
        lower = buffer[at] | 32
        # 1, W…, true, yes, store, set against 0, R…, false, no, load, get
        if buffer[at] == 49 or lower in (119, 116, 121, 115):
            total = np.uint64(1)
        elif not (buffer[at] == ZERO or lower in (114, 102, 110, 108, 103)):
            return False
        if buffer[at] <= NINE and end - at != 1:
            return False
    else:
        decimals = -1
        for byte in range(at, end):
            if buffer[byte] == DOT and decimals < 0:
                decimals = 0
                continue
            if not ZERO <= buffer[byte] <= NINE:
                return False
            if decimals >= 0:
                if kind == WHOLE_PART:
                    continue
                if decimals == 9:
                    return False
                decimals += 1
            digit = buffer[byte] - ZERO
            if total > _MOST_TENTH or (total == _MOST_TENTH and digit > _MOST_LAST_DIGIT):
                return False
            total = total * np.uint64(10) + np.uint64(digit)
        if buffer[at] == DOT and end - at == 1:
            return False
        if kind == SECONDS:
            for _ in range(9 - max(decimals, 0)):
                if total > _MOST_TENTH:
                    return False
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
    line = state[0]["line"]
    separator = np.uint8(state[0]["separator"])
    takes_rest = state[0]["takes_rest"] != 0
    runs = separator == BLANK
    slots = values.shape[1] - 1
    known = 0
    rows = 0
    odds = 0
    parsed = np.zeros(1, np.uint64)
    while at < buffer.size and rows < values.shape[0] and odds < odd.size:
        begin = at
        field = 0
        good = buffer[at] != HASH
        full = False
        present = np.uint64(0)
        while good:
            while buffer[at] == BLANK or (runs and buffer[at] == TAB):
                at += 1
            if field == fields.size:
                good = runs and buffer[at] == NEWLINE
                break
            kind = fields[field]["kind"]
            first = at
            value = np.uint64(0)
            if kind == DECIMAL:
                while ZERO <= buffer[at] <= NINE:
                    value = value * np.uint64(10) + np.uint64(buffer[at] - ZERO)
                    at += 1
                last = at
                good = at - first < 20 or (
                    at - first == 20 and buffer[first] == 49 and value >= _TEN_TO_19
                )
            elif kind == HEX:
                if buffer[at] == ZERO and buffer[at + 1] | 32 == 120:
                    first += 2
                    at += 2
                value, at = hex_number(buffer, at)
                last = at
                good = at - first <= 16
            else:
                rest = takes_rest and field == fields.size - 1
                while buffer[at] != NEWLINE and (
                    rest or (buffer[at] != separator and not (runs and buffer[at] == TAB))
                ):
                    if buffer[at] == 34 and separator != UNIT:  # a quote: Python reads this line
                        good = False
                    at += 1
                last = at
                while last > first and buffer[last - 1] in (13, BLANK):
                    last -= 1
                if kind == TEXT_CODE and last > first:
                    found = intern(buffer, first, last, texts, known)
                    if found == texts.size and rows > 0:
                        full = True  # the next call begins with this line and an empty table
                        break
                    good = good and found < texts.size
                    if good and found == known:
                        known += 1
                    value = np.uint64(found)
                elif kind != SKIP and last > first:
                    good = good and _number_of(buffer, first, last, kind, parsed)
                    value = parsed[0]
            if kind != SKIP and last > first:
                good = good and value <= fields[field]["limit"]
                slot = fields[field]["slot"]
                values[rows, slot] = value
                present |= np.uint64(1) << np.uint64(slot)
            field += 1
            while not runs and buffer[at] == BLANK:
                at += 1
            if buffer[at] == 13 and buffer[at + 1] == NEWLINE:
                at += 1
            if buffer[at] == NEWLINE:
                break
            good = good and (buffer[at] == separator or (runs and buffer[at] == TAB))
            at += 1
        if full:
            at = begin
            break
        while buffer[at] != NEWLINE:
            at += 1
        if good and field == fields.size:
            values[rows, slots] = present
            rows += 1
        else:
            odd[odds]["start"] = begin
            odd[odds]["end"] = at
            odd[odds]["line"] = line
            odds += 1
        line += 1
        at += 1
    state[0]["position"] = at
    state[0]["line"] = line
    state[0]["rows"] = rows
    state[0]["odd"] = odds
    state[0]["events"] = known


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
            first = at + 3
            address, at = hex_number(buffer, first)
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
        at = line_end(buffer, at)
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

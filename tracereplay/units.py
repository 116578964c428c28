"""Sizes and times between what people type and integers: bytes and nanoseconds."""

from __future__ import annotations

import re

from tracereplay.errors import SettingsError

PAGE_BYTES = 4096
PAGE_SHIFT = 12

_SIZE = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]?)(i?)(b?)\s*", re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_TIME = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*(ns|us|µs|ms|s|min|h)\s*")
_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "min": 60_000_000_000,
    "h": 3_600_000_000_000,
}


def parse_size(text: str) -> int:
    """Return bytes for "512MiB", "512M", "2g", "4096"; every prefix is a power of 1024.

    Raises
    ------
    SettingsError
        The text is no size, or beyond 8 EiB.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise SettingsError(f"{text!r} is no size; write bytes or 64MiB, 1.5G, …")
    factor: int = 1024 ** _POWER[match[2].lower()]
    return _within_int64(round(float(match[1]) * factor), text)


def _within_int64(size_bytes: int, text: str) -> int:
    if size_bytes >= 1 << 63:
        raise SettingsError(f"{text!r} is more than 8 EiB")
    return size_bytes


def parse_size_or_percent(text: str, whole_bytes: int, *, of: str) -> int:
    """Return bytes for a size, or for a percentage of `whole_bytes` ("50%"); `of` names the whole."""
    stripped = text.strip()
    if not stripped.endswith("%"):
        return parse_size(stripped)
    try:
        percent = float(stripped[:-1])
    except ValueError:
        percent = -1.0
    if not 0 <= percent < float("inf"):
        raise SettingsError(f"{text!r} is no percentage of {of}; write 50%")
    return _within_int64(int(whole_bytes * percent / 100), text)


def parse_percent(text: str) -> float:
    """Return 0.02 for "2%" (or "2"): a share, not a percentage.

    Raises
    ------
    SettingsError
        The text is no percentage.
    """
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        percent = -1.0
    if not percent >= 0:
        raise SettingsError(f"{text!r} is no percentage; write 2%")
    return percent / 100


def parse_duration(text: str) -> int:
    """Return nanoseconds for "2s", "50us", "1.5ms".

    Raises
    ------
    SettingsError
        The text is no duration.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise SettingsError(f"{text!r} is no duration; write 50us, 2s, …")
    return round(float(match[1]) * _NANOSECONDS[match[2]])


def format_size(size_bytes: float) -> str:
    """Return bytes as people read them: "512 B", "1.5 MiB"."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if round(abs(value)) < 1024:
            return _three_digits(value, unit, whole=unit == "B")
        value /= 1024
    return f"{value:.1f} TiB"


def format_duration(duration_ns: float) -> str:
    """Return nanoseconds as people read them: "850 ns", "12.3 us", "4.0 ms", "2.5 s"."""
    value = float(duration_ns)
    for unit in ("ns", "us", "ms"):
        if round(abs(value)) < 1000:
            return _three_digits(value, unit, whole=unit == "ns")
        value /= 1000
    return f"{value:.1f} s"


def _three_digits(value: float, unit: str, *, whole: bool) -> str:
    return f"{value:.0f} {unit}" if whole or abs(value) >= 99.95 else f"{value:.1f} {unit}"


def format_count(count: int, what: str, several: str = "") -> str:
    """Return "1 page" or "2,000 pages"; `several` where an s does not make the plural."""
    return f"{count:,} {what if count == 1 else several or what + 's'}"

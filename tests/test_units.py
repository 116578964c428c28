import pytest

from tracereplay.errors import SettingsError
from tracereplay.units import (
    format_count,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
    parse_size_or_percent,
)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("4096", 4096), ("512MiB", 512 << 20), ("512M", 512 << 20), ("1.5g", 3 << 29), ("2 KB", 2048)],
)
def test_a_size_is_read_in_powers_of_1024(text, size_bytes):
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "MiB", "12Q", "-3M", "1e3"])
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(SettingsError, match="64MiB"):
        parse_size(text)


def test_a_percentage_is_of_the_whole():
    assert parse_size_or_percent("50%", 8192, of="the footprint") == 4096
    with pytest.raises(SettingsError, match="the footprint"):
        parse_size_or_percent("x%", 8192, of="the footprint")


def test_a_duration_needs_its_unit():
    assert parse_duration("50us") == 50_000
    with pytest.raises(SettingsError):
        parse_duration("50")


def test_sizes_and_durations_print_with_three_digits():
    assert [format_size(v) for v in (100, 1536, 1 << 30)] == ["100 B", "1.5 KiB", "1.0 GiB"]
    assert [format_duration(v) for v in (850, 12_340, 4e6, 2.5e9)] == [
        "850 ns",
        "12.3 us",
        "4.0 ms",
        "2.5 s",
    ]
    # No unit more of the smaller one: it is rounded before the unit is chosen.
    assert [format_size(v) for v in ((1 << 20) - 1, 99.97 * 1024)] == ["1.0 MiB", "100 KiB"]
    assert [format_duration(v) for v in (999_960, 999.6, 99_960)] == ["1.0 ms", "1.0 us", "100 us"]
    assert [format_count(n, "page") for n in (0, 1, 2_000)] == ["0 pages", "1 page", "2,000 pages"]

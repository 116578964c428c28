"""`calibrate`: what it writes is a cost table, and it leaves nothing behind."""

from __future__ import annotations

import errno
import json
import mmap
import os
import platform
import types
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tracereplay import calibration
from tracereplay.calibration import Taken, beyond_zswap, merge_fit, reference_workload
from tracereplay.cli import app
from tracereplay.costs import RANDOM_LINES, load_costs, own_disks
from tracereplay.errors import HostError, InputError
from tracereplay.host import calibrate as host
from tracereplay.host import codec_times, device_times, system
from tracereplay.host.cost_figures import figure
from tracereplay.host.direct_io import Writer
from tracereplay.host.pages import COMPRESSORS
from tracereplay.host.run import HostRun
from tracereplay.latency import LatencyModel
from tracereplay.replay.state import DEVICE, EVENT


@pytest.fixture(autouse=True)
def on_disk(monkeypatch):
    """Let the folders of these tests be on a disk, wherever they are."""
    monkeypatch.setattr(device_times, "_file_system", lambda _: 0)


def test_memory_is_not_measured_as_a_device(tmp_path, monkeypatch) -> None:
    for number, name in ((0x01021994, "tmpfs"), (0x858458F6, "ramfs")):
        monkeypatch.setattr(device_times, "_file_system", lambda _, number=number: number)
        with pytest.raises(HostError, match=f"on {name}, which is memory"):
            host.calibrate(directory=tmp_path)
    monkeypatch.undo()
    mounts = [line.split(" ") for line in Path("/proc/self/mounts").read_text().splitlines()]
    for _, where, kind, *_ in mounts:
        if where in ("/proc", "/dev/shm", "/sys"):
            number = {"proc": 0x9FA0, "sysfs": 0x62656572, "tmpfs": 0x01021994}[kind]
            assert device_times._file_system(Path(where)) == number


def test_a_folder_without_a_block_device_is_said_to_have_none(tmp_path, monkeypatch) -> None:
    notes: list[str] = []
    monkeypatch.setattr(host, "choose_columns", lambda _: (["lz4_bytes"], notes))
    monkeypatch.setattr(host, "read_pages", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    for found, count in ((tmp_path, 0), (None, 1)):
        monkeypatch.setattr(host, "block_device", lambda _, found=found: found)
        with pytest.raises(KeyboardInterrupt):
            host.calibrate(directory=tmp_path)
        assert sum("no block device" in note for note in notes) == count


def test_the_table_is_read_back_and_names_its_machine(tmp_path) -> None:
    out = tmp_path / "costs.json"
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["--codec", "lz4", "--codec", "zstd", "--seconds", "0.4", "--size", "1MiB"]
    done = CliRunner().invoke(
        app, ["calibrate", "-o", str(out), "--directory", str(folder), "--device", "mine", *options]
    )
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert list(folder.iterdir()) == []
    table = json.loads(out.read_text())
    assert {"machine", "date", "method", "source"} <= table.keys()
    assert table["machine"].startswith(table["name"])
    assert set(table["codecs"]) == {"lz4", "zstd"}
    costs = load_costs(out, "mine", "zstd")
    assert costs.device.read_ns.mean() > 1000
    assert 1 <= costs.device.channels <= 32
    # Medians: the mean of a busy machine's spread may say anything.
    lz4 = load_costs(out, "mine", "lz4")
    assert lz4.decompress_table()[1500] < costs.decompress_table()[1500]
    events = np.zeros(50, EVENT)
    events["access"] = np.arange(50)
    events["service"] = DEVICE
    assert LatencyModel(costs).latencies(events).min() > 1000


def test_a_table_does_not_tell_the_name_of_the_host(monkeypatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "secret-host")
    monkeypatch.setattr(host, "measure_memory", lambda: {"minor_fault_ns": figure(1.0, "")})
    monkeypatch.setattr(host, "_derive", lambda _: None)
    table, _ = host.calibrate(codecs=["lz4"], rounds=1)
    assert table["name"]
    assert "secret-host" not in json.dumps(table)


def test_generated_pages_span_every_compressibility() -> None:
    import lz4.block

    sizes = np.array(
        [len(lz4.block.compress(t, store_size=False)) for t in codec_times.generate_pages(300, 1)]
    )
    assert sizes.min() < 800
    assert sizes.max() > 3900
    assert codec_times.generate_pages(20, 1) == codec_times.generate_pages(20, 1)


def test_a_line_is_found_again_in_noisy_times() -> None:
    rng = np.random.default_rng(4)
    sizes = rng.integers(50, 4096, 3000).astype(float)
    times = (700 + 0.5 * sizes) * rng.lognormal(0, 0.1, sizes.size)
    fixed, slope = codec_times._line(sizes, times)
    assert fixed == pytest.approx(700, rel=0.1)
    assert slope == pytest.approx(0.5, rel=0.1)


def test_places_that_cannot_be_tested_are_one_line_each(tmp_path, monkeypatch) -> None:
    with pytest.raises(HostError, match="no such folder"):
        host.calibrate(directory=tmp_path / "absent")
    monkeypatch.setattr(device_times.os, "access", lambda *_: False)
    with pytest.raises(HostError, match="permission denied"):
        host.calibrate(directory=tmp_path)
    monkeypatch.undo()
    full = types.SimpleNamespace(f_bavail=10, f_frsize=4096)
    monkeypatch.setattr(device_times.os, "statvfs", lambda _: full)
    with pytest.raises(HostError, match=r"40\.0 KiB free"):
        host.calibrate(directory=tmp_path)


def test_a_disk_that_fills_up_leaves_no_file(tmp_path, monkeypatch) -> None:
    def no_space(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(device_times.os, "pwrite", no_space)
    with pytest.raises(HostError, match="the disk is full"):
        next(device_times.measure_device(tmp_path, 0.2, 1 << 20, 0))
    assert list(tmp_path.iterdir()) == []


def test_figures_are_medians_over_the_rounds_and_curves_still_ascend() -> None:
    def part(shift: float) -> dict:
        return {
            "value": 10 + shift,
            "source": "measured",
            "quantiles": [[0.0, 1.0 + shift], [0.5, 2.0 + 2 * shift], [1.0, 9.0 - shift]],
            "count": 3,
        }

    middle = host.median_section([part(shift) for shift in (0.0, 1.0, 5.0)])
    assert middle == {
        "value": 11.0,
        "source": "measured",
        "quantiles": [[0.0, 2.0], [0.5, 4.0], [1.0, 8.0]],
        "count": 3,
    }
    assert isinstance(middle["count"], int)


def test_all_parts_take_turns_and_a_change_of_speed_is_said(monkeypatch) -> None:
    order = []
    speeds = iter([100.0, 140.0, 120.0])

    def codec(column: str, *_: object) -> dict:
        order.append(column)
        figure = {"value": 100.0 * len(order), "source": "s"}
        names = ("compress_ns", "decompress_ns", "compress_fail_ns")
        slopes = ("compress_ns_per_byte", "decompress_ns_per_byte")
        return dict.fromkeys((*names, *slopes), figure) | {"pages": {"mean_bytes": 1.0}}

    def memory() -> dict:
        order.append("memory")
        return {"minor_fault_ns": {"value": 1500.0, "source": "s"}}

    def answers(_: int):
        while True:
            order.append("answers")
            yield {"points": [[4 << 20, 10.0], [64 << 20, 200.0]], "source": "s"}

    monkeypatch.setattr(host, "measure_codec", codec)
    monkeypatch.setattr(host, "measure_memory", memory)
    monkeypatch.setattr(host, "measure_answers", answers)
    monkeypatch.setattr(host, "_time_reference", lambda: next(speeds))
    monkeypatch.setattr(host, "zswap_codec", lambda: None)
    monkeypatch.setattr(host.os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    table, notes = host.calibrate(codecs=["lz4", "deflate"], rounds=3)
    assert order == ["memory", "answers", "lz4_bytes", "deflate_bytes"] * 3
    assert table["codecs"]["lz4"]["compress_ns"]["value"] == 700.0  # 300, 700 and 1100
    assert any("changed its speed by 40%" in note for note in notes)
    assert any("derived, not measured" in note for note in notes)


def test_what_is_not_measured_is_derived_from_how_long_a_fault_takes_here() -> None:
    bundled = load_costs()
    memory = float(bundled.memory_ns(64 << 20))
    faults = {
        "minor_fault_ns": {"value": 2 * bundled.faults["minor_fault_ns"], "source": "s"},
        "memory_by_bytes": {"points": [[1 << 20, memory], [1 << 30, memory]], "source": "s"},
    }
    host._derive(faults)
    assert faults["scan_ns"]["value"] == pytest.approx(2 * bundled.faults["scan_ns"], abs=0.1)
    # Memory answers as fast as it did there, so that there are twice as many waits for it.
    assert faults["load_misses"]["value"] == pytest.approx(
        2 * bundled.faults["load_misses"], rel=0.01
    )
    assert "times 2.00" in faults["load_misses"]["source"]


def test_a_busy_machine_is_said_to_be_one(monkeypatch) -> None:
    monkeypatch.setattr(host.os, "getloadavg", lambda: (7.5, 1.0, 1.0))
    monkeypatch.setattr(host, "measure_memory", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    notes: list[str] = []
    monkeypatch.setattr(host, "choose_columns", lambda _: (["lz4_bytes"], notes))
    with pytest.raises(KeyboardInterrupt):
        host.calibrate()
    assert any("load average 7.5" in note for note in notes)


@pytest.mark.parametrize(
    ("load_ns", "store_ns", "expected"),
    [
        (400, 500, {"load_misses": 4, "evict_misses": 5, "raw_copy_ns": 500, "pool_ns": 0}),
        (2600, 1900, {"load_misses": 6, "evict_misses": 6, "raw_copy_ns": 2500, "pool_ns": 1300}),
    ],
)
def test_what_zswap_takes_is_what_a_raw_page_takes_and_what_is_beyond_it(
    monkeypatch, load_ns, store_ns, expected
) -> None:
    compress = COMPRESSORS["deflate_bytes"]()

    def taken(kinds: dict, seed: int) -> dict:  # noqa: ARG001
        sizes = {lines: len(compress(pages[0])) for lines, pages in kinds.items()}
        return {
            lines: (
                np.full(9, 800 + load_ns + (500 if size >= 4096 else 2 * size + 50.0)),
                np.full(9, 1000 + 3.0 * size + 700 + store_ns),
            )
            for lines, size in sizes.items()
        }

    monkeypatch.setattr(codec_times, "time_zswap", taken)
    figure = codec_times.figure
    faults = {"minor_fault_ns": 800, "raw_copy_ns": 500, "unmap_ns": 700}
    table = {
        "faults": {name: figure(value, "made up") for name, value in faults.items()}
        | {"memory_by_bytes": {"points": [[4096, 100.0], [1 << 40, 100.0]]}},
        "codecs": {
            "deflate": {
                RANDOM_LINES: {
                    "compress_ns": figure(1000, "made up"),
                    "compress_ns_per_byte": figure(3, "made up"),
                }
            }
        },
    }
    assert codec_times.measure_zswap(table, "deflate", seed=1)
    for name, value in expected.items():
        assert table["faults"][name]["value"] == pytest.approx(value), name
    beyond = load_ns - 100 * expected["load_misses"]
    for size, time_ns in table["codecs"]["deflate"][RANDOM_LINES]["decompress_by_bytes"]["points"]:
        assert time_ns == pytest.approx(2 * size + 50 + beyond)


def test_a_batch_of_writes_lands_where_it_should(tmp_path) -> None:
    path = tmp_path / "file"
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.truncate(handle, 16 << 12)
        writer = Writer.open(4)
        if writer is None:
            assert platform.machine() not in ("x86_64", "aarch64")
            return
        with mmap.mmap(-1, 4 << 12) as area:
            area[:] = np.random.default_rng(1).bytes(4 << 12)
            places = np.array([5, 9, 7, 15]) << 12
            writer.prepare(handle, area, places)
            writer.submit()
            writer.wait()
            for nth, place in enumerate(places.tolist()):
                assert os.pread(handle, 1 << 12, place) == area[nth << 12 : (nth + 1) << 12]
            writer.prepare(1 << 20, area, places)  # no such file
            with pytest.raises(OSError, match="Bad file descriptor"):
                writer.submit()
        writer.close()
    finally:
        os.close(handle)


def test_another_system_or_size_of_pages_is_one_line(tmp_path, monkeypatch) -> None:
    command = ["calibrate", "-o", str(tmp_path / "c.json"), "--directory", str(tmp_path)]
    monkeypatch.setattr(system.mmap, "PAGESIZE", 16384)
    for more in ([], ["--own-swap"]):
        done = CliRunner().invoke(app, [*command, *more])
        assert done.exit_code == 1
        assert done.stderr.startswith(("error: calibrate: ", "error: --own-swap: "))
        assert "this kernel has pages of 16 KiB; the models know" in done.stderr
        assert done.stderr.count("\n") == 1
    monkeypatch.setattr(system.platform, "system", lambda: "Darwin")
    monkeypatch.delattr(os, "O_DIRECT")
    done = CliRunner().invoke(app, command)
    assert done.stderr == "error: calibrate needs Linux\n"
    assert list(tmp_path.iterdir()) == []


def test_own_swap_says_what_it_needs(tmp_path, monkeypatch) -> None:
    out = tmp_path / "costs.json"
    for options, says in (
        (["--own-swap"], "needs --directory"),
        (["--compressor", "lzo"], "is for --own-swap"),
    ):
        done = CliRunner().invoke(app, ["calibrate", "-o", str(out), *options])
        assert done.exit_code == 1
        assert says in done.stderr
        assert done.stderr.count("\n") == 1
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    options = ["--own-swap", "--directory", str(tmp_path)]
    done = CliRunner().invoke(app, ["calibrate", "-o", str(out), *options])
    assert done.exit_code == 1
    assert "needs root" in done.stderr or "unset NUMBA_DISABLE_JIT" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_compressor_the_kernel_lacks_is_told_before_anything_is_measured(
    tmp_path, monkeypatch
) -> None:
    def refuse(run: HostRun) -> None:
        raise HostError(
            f"/sys/module/zswap/parameters/compressor: cannot be set to {run.compressor}"
        )

    def measure(**_: object) -> None:
        raise AssertionError("measured before the settings were tried")

    monkeypatch.setattr(calibration, "find_machine", lambda **_: None)
    monkeypatch.setattr(calibration, "try_settings", refuse)
    monkeypatch.setattr(calibration, "calibrate", measure)
    with pytest.raises(HostError, match="cannot be set to zstd"):
        calibration.calibrate_swap(tmp_path, "zstd", {}, lambda _: None)


def test_what_zram_takes_beyond_zswap_is_split_into_loads_and_stores() -> None:
    load = reference_workload(3)
    pages = load.touches & np.uint32(0x7FFFFFFF)
    first = np.zeros(pages.size, np.bool_)
    first[np.unique(pages, return_index=True)[1]] = True
    loads = np.flatnonzero(~first)[::7]
    stalls = np.flatnonzero(first)[::64]
    counted = {"pswpin": loads.size, "pswpout": 32 * stalls.size}
    touch_ns = np.where(first, 1500, 50).astype(np.uint32)

    def taken(load_ns: int, store_ns: int) -> Taken:
        mine = touch_ns.copy()
        mine[loads] = load_ns
        mine[stalls] = 32 * store_ns
        return Taken(load, mine, counted)

    assert beyond_zswap(taken(2100, 3100), taken(2400, 3000)) == (-300.0, pytest.approx(100.0))


def test_the_disks_of_a_table_are_without_zram(tmp_path) -> None:
    path = tmp_path / "costs.json"
    extra = {"load_extra_ns": -300, "store_extra_ns": -20}
    disk = {"read_ns": 5, "write_ns": 5}
    path.write_text(json.dumps({"devices": {"zram": extra, "mine": disk}}))
    assert own_disks(path) == ["mine"]
    assert load_costs(path, "zram").device.load_extra_ns == -300
    path.write_text(json.dumps({"devices": {"mine": {**disk, "read_ns": -5}}}))
    with pytest.raises(InputError, match="read_ns is -5"):
        load_costs(path, "mine")


def test_the_reference_workload_is_the_same_for_equal_seeds_and_faults() -> None:
    load = reference_workload(3)
    again = reference_workload(3)
    assert np.array_equal(load.touches, again.touches)
    assert np.array_equal(load.lines, again.lines)
    assert not np.array_equal(load.lines, reference_workload(4).lines)
    pages = load.touches & np.uint32(0x7FFFFFFF)
    assert np.unique(pages).size == load.lines.size
    assert np.array_equal(pages[: load.lines.size], np.arange(load.lines.size))
    assert 0.1 < (load.lines == 64).mean() < 0.2


def test_a_fit_joins_a_table_and_keeps_what_one_process_cannot_tell() -> None:
    table = {
        "method": "m",
        "faults": {
            "minor_fault_ns": {"value": 1.0, "source": "s"},
            "memory_by_bytes": {"points": []},
        },
        "codecs": {"lzo": {"compress_ns": {"value": 7.0}}},
        "devices": {"ssd": {"channels": {"value": 4.0}, "extra_page_ns": {"value": 3.0}}},
    }
    of = {"value": 5.0, "source": "fitted to the touch times of run with-zswap-0"}
    fit = {
        "faults": {"minor_fault_ns": of, "memory_by_bytes": {"points": [[1, 2]]}},
        "codecs": {"lzo": {"decompress_by_bytes": {"points": []}, "decompress_spread": of}},
        "devices": {
            "virtual-disk": {
                name: dict(of)
                for name in ("read_ns", "write_ns", "submit_ns", "request_ns", "behind_ns")
            }
            | {"touches": {"by_faults": []}}
        },
    }
    merge_fit(table, fit, "lzo", "here")
    assert table["faults"]["minor_fault_ns"]["value"] == 5.0
    assert "reference workload" in table["faults"]["minor_fault_ns"]["source"]
    assert table["faults"]["memory_by_bytes"] == {"points": []}
    assert table["codecs"]["lzo"]["compress_ns"]["value"] == 7.0
    assert table["devices"]["ssd"]["extra_page_ns"]["value"] == 3.0
    assert table["devices"]["ssd"]["write_ns"]["value"] == 20.0  # on each of four channels

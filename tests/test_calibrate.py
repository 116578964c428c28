"""`calibrate`: what it writes is a cost table, and it leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
import types

import numpy as np
import pytest
from typer.testing import CliRunner

from tracereplay.cli import app
from tracereplay.costs import load_costs
from tracereplay.errors import HostError
from tracereplay.host import calibrate as host
from tracereplay.latency import LatencyModel
from tracereplay.replay.state import DEVICE, EVENT


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
    assert set(table["codecs"]) == {"lz4", "zstd"}
    costs = load_costs(out, "mine", "zstd")
    assert costs.device.read_ns.mean() > 1000
    assert 1 <= costs.device.channels <= 32
    assert load_costs(out, "mine", "lz4").load_ns(1500) < costs.load_ns(1500)
    events = np.zeros(50, EVENT)
    events["access"] = np.arange(50)
    events["service"] = DEVICE
    assert LatencyModel(costs).latencies(events).min() > 1000


def test_generated_pages_span_every_compressibility() -> None:
    import lz4.block

    sizes = np.array(
        [len(lz4.block.compress(t, store_size=False)) for t in host.generate_pages(300, 1)]
    )
    assert sizes.min() < 800
    assert sizes.max() > 3900
    assert host.generate_pages(20, 1) == host.generate_pages(20, 1)


def test_a_line_is_found_again_in_noisy_times() -> None:
    rng = np.random.default_rng(4)
    sizes = rng.integers(50, 4096, 3000).astype(float)
    times = (700 + 0.5 * sizes) * rng.lognormal(0, 0.1, sizes.size)
    fixed, slope = host._line(sizes, times)
    assert fixed == pytest.approx(700, rel=0.1)
    assert slope == pytest.approx(0.5, rel=0.1)


def test_places_that_cannot_be_tested_are_one_line_each(tmp_path, monkeypatch) -> None:
    with pytest.raises(HostError, match="no such folder"):
        host.calibrate(directory=tmp_path / "absent")
    monkeypatch.setattr(host.os, "access", lambda *_: False)
    with pytest.raises(HostError, match="permission denied"):
        host.calibrate(directory=tmp_path)
    monkeypatch.undo()
    full = types.SimpleNamespace(f_bavail=10, f_frsize=4096)
    monkeypatch.setattr(host.os, "statvfs", lambda _: full)
    with pytest.raises(HostError, match=r"40\.0 KiB free"):
        host.calibrate(directory=tmp_path)


def test_a_disk_that_fills_up_leaves_no_file(tmp_path, monkeypatch) -> None:
    def no_space(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(host.os, "pwrite", no_space)
    with pytest.raises(HostError, match="the disk is full"):
        host._measure_device(tmp_path, 0.2, 1 << 20, 0)
    assert list(tmp_path.iterdir()) == []

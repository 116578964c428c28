"""`tests/kernel/emulated/emulate.py` without a machine: what it makes of what one prints."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tracereplay.validation import find_runs, load_run

FOLDER = Path(__file__).parent / "kernel" / "emulated"
# Shortened output of a machine: counters before and after, two samples, the end.
TEXT = """firmware
== settings
zswap.enabled Y
zswap.compressor lzo
zswap.zpool zsmalloc
zswap.max_pool_percent 20
zswap.accept_threshold_percent 90
zswap.shrinker_enabled N
lru_gen.enabled 0x0000
page-cluster 0
swappiness 60
swap_kib 1572860
mem_total_kib 2019404
kernel 6.12.117+deb12-amd64
== vmstat before
pgmajfault 10
zswpin 1
== zswap_debug before
pool_limit_hit 2
== memcg before
anon 0
pgmajfault 0
== memcg_events before
oom_kill 0
== oom_control before
== memcg_misc before
== vmstat after
pgmajfault 110
zswpin 91
== zswap_debug after
pool_limit_hit 5
stored_pages 30
== memcg after
anon 4096
pgmajfault 99
== memcg_events after
oom_kill 0
== oom_control after
== memcg_misc after
memory.current 8192
== samples
100000000 40 30 20 10 0 0 5 3 9
202000000 41 31 21 10 0 0 6 4 10
== kreplay
finished 1
records 4
pages 2
minflt 2
majflt 99
wall_ns 250000000
== elapsed_us
100 200
== status
exit 0
== end
"""


@pytest.fixture(scope="module")
def emulate():
    spec = importlib.util.spec_from_file_location("emulate", FOLDER / "emulate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_a_machine_prints_becomes_a_run_that_validate_loads(emulate, tmp_path):
    record = emulate.record_of("6.12-mine", TEXT, "two-list", "v2", 48 << 20)
    assert record["vmstat"] == {"pgmajfault": 100, "zswpin": 90}
    assert record["memcg"] == {"pgmajfault": 99}
    assert record["zswap_debug"] == {"pool_limit_hit": 3}
    assert record["zswap_debug_end"] == {"stored_pages": 30}
    path = tmp_path / "6.12-mine.json"
    path.write_text(json.dumps(record))
    assert find_runs([tmp_path]) == [path]
    run = load_run(path)
    assert run.scenario.kernel == "6.12"
    assert run.scenario.memory_limit_bytes == 48 << 20
    assert run.replays[0].reads_ns.tolist() == [100_000_000, 202_000_000]
    assert run.replays[0].times_ns.tolist() == [0, 100_000, 200_000]
    assert run.replays[0].wall_ns == 250_000_000
    assert run.kernel_counters[0]["pgmajfault"] == 99  # the cgroup's own


def test_a_machine_that_swapped_to_zram_is_a_run_of_that_policy(emulate, tmp_path):
    text = TEXT.replace("zswap.enabled Y", "zswap.enabled N").replace(
        "page-cluster 0", "zram.comp_algorithm lzo [lz4] zstd\npage-cluster 0"
    )
    path = tmp_path / "x.json"
    path.write_text(json.dumps(emulate.record_of("x", text, "two-list", "v2", 48 << 20)))
    run = load_run(path)
    assert (run.scenario.policy, run.scenario.codec) == ("zram", "lz4")
    assert run.kernel_counters[0]["stored_pages"] == 10  # of the sample in the second half


def test_a_machine_that_stopped_early_or_refused_a_setting_is_no_run(emulate):
    with pytest.raises(SystemExit, match="did not come to its end"):
        emulate.record_of("x", TEXT.replace("== end", ""), "two-list", "v2", 1)
    with pytest.raises(SystemExit, match="failed /sys/x"):
        emulate.record_of("x", TEXT + "== failed /sys/x 1\n", "two-list", "v2", 1)


def test_modules_follow_those_they_depend_on(emulate, tmp_path):
    import lzma

    (tmp_path / "virtio_blk.ko").write_bytes(b"\0depends=virtio_ring,virtio\0")
    (tmp_path / "virtio_ring.ko.xz").write_bytes(lzma.compress(b"\0depends=virtio\0"))
    (tmp_path / "virtio.ko").write_bytes(b"\0depends=\0")
    (tmp_path / "other.ko").write_bytes(b"\0depends=\0")
    names = [path.name for path in emulate.module_files(tmp_path)]
    assert names == ["virtio.ko", "virtio_ring.ko.xz", "virtio_blk.ko"]
    assert [path.name for path in emulate.module_files(tmp_path, ["other"])] == ["other.ko"]


def test_the_recorder_compiles_without_a_warning(tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    program = tmp_path / "recorder"
    source = str(FOLDER / "recorder.c")
    subprocess.run(
        ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program), source], check=True
    )
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: recorder TOUCHES")

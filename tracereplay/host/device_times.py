"""How long a device takes under O_DIRECT: reads, and writes as reclaim submits them."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tracereplay.errors import HostError, strerror
from tracereplay.host.cost_figures import distribution, figure
from tracereplay.host.direct_io import Writer
from tracereplay.units import PAGE_BYTES, format_size

Times = npt.NDArray[np.float64]

DEPTHS = (1, 2, 4, 8, 16, 32)
_IN_MEMORY = {0x01021994: "tmpfs", 0x858458F6: "ramfs"}  # include/uapi/linux/magic.h
_BATCH = 32  # SWAP_CLUSTER_MAX; what a scan writes reaches the device together


def check_directory(directory: Path, size_bytes: int) -> None:
    """Raise HostError where a test file of this size cannot be."""
    if not directory.is_dir():
        raise HostError(f"{directory}: no such folder; name one on the device to test")
    if not os.access(directory, os.W_OK):
        raise HostError(f"{directory}: permission denied; name a folder you may write to")
    if kind := _IN_MEMORY.get(_file_system(directory)):
        raise HostError(
            f"{directory}: on {kind}, which is memory and no device; name a folder on a disk"
        )
    room = os.statvfs(directory)
    free = room.f_bavail * room.f_frsize
    if free < size_bytes:
        raise HostError(
            f"{directory}: {format_size(free)} free, the test file takes "
            f"{format_size(size_bytes)}; a smaller --size will do"
        )


def _file_system(directory: Path) -> int:
    """Return the magic number of the file system below a folder; 0 unknown."""
    buffer = (ctypes.c_ulong * 64)()  # struct statfs begins with it
    if ctypes.CDLL(None).statfs(os.fsencode(directory), buffer) != 0:
        return 0
    return int(buffer[0]) & 0xFFFFFFFF


def _device_error(directory: Path, error: OSError) -> HostError:
    if error.errno == errno.EINVAL:
        return HostError(f"{directory}: its file system has no O_DIRECT; name a folder on a disk")
    if error.errno == errno.ENOSPC:
        return HostError(f"{directory}: the disk is full; a smaller --size will do")
    return HostError(f"{directory}: {strerror(error)}")


def measure_device(
    directory: Path, seconds: float, size_bytes: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield a device section per round of so many seconds."""
    blocks = max(size_bytes // PAGE_BYTES, 64)
    try:
        handle, name = tempfile.mkstemp(prefix=".tracereplay-", dir=directory)
        try:
            direct = os.open(name, os.O_RDWR | os.O_DIRECT)
        finally:
            os.close(handle)
            Path(name).unlink()  # the open file has no name from here on
    except OSError as error:
        raise _device_error(directory, error) from error
    try:
        with mmap.mmap(-1, 1 << 20) as chunk:
            chunk[:] = np.random.default_rng(seed).bytes(1 << 20)
            for at in range(0, blocks * PAGE_BYTES, 1 << 20):
                step = min(1 << 20, blocks * PAGE_BYTES - at)
                with memoryview(chunk) as whole, whole[:step] as part:
                    os.pwrite(direct, part, at)
        os.fsync(direct)
        turn = 0
        while True:
            yield _measure_round(direct, blocks, seconds, seed + turn, directory)
            turn += 1
    except OSError as error:
        raise _device_error(directory, error) from error
    finally:
        os.close(direct)


def _measure_round(
    direct: int, blocks: int, seconds: float, seed: int, directory: Path
) -> dict[str, Any]:
    share = seconds / (2 * len(DEPTHS) + 2)
    reads = {depth: _load(direct, blocks, depth, share, seed, write=False) for depth in DEPTHS}
    eight = _load(direct, blocks, 1, share, seed, write=False, pages=8)
    writes = {depth: _load(direct, blocks, depth, share, seed, write=True) for depth in DEPTHS}
    best = max(rate for _, rate in reads.values())
    alone, rate_alone = reads[1]
    channels = int(np.clip(round(best / rate_alone), 1, DEPTHS[-1]))
    further = max(float(np.median(eight[0]) - np.median(alone)) / 7, 0.0)
    how = (
        f"measured: O_DIRECT, random 4 KiB, {format_size(blocks * PAGE_BYTES)} in {directory}, "
        f"depths {DEPTHS[0]} to {DEPTHS[-1]}"
    )
    section = {
        "read_ns": distribution(alone, how),
        "extra_page_ns": figure(further, how),
        "channels": figure(channels, how),
        "reads_per_s_by_depth": {str(depth): round(rate) for depth, (_, rate) in reads.items()},
        "writes_per_s_by_depth": {str(depth): round(rate) for depth, (_, rate) in writes.items()},
    }
    batches = _measure_batches(direct, blocks, share, seed)
    if batches is None:
        # A channel is busy for as long as makes the best rate seen; the shape is that of depth 1.
        busy = channels / max(rate for _, rate in writes.values()) * 1e9
        times = writes[1][0]
        return section | {"write_ns": distribution(times * busy / times.mean(), how)}
    together, apart, after = batches
    each = max(float(np.median(apart) - np.median(together)) / (_BATCH - 1), 0.0)
    # What a read waits for, of all pages that were written before it.
    delay = max(float(np.median(after) - np.median(alone)), 0.0)
    how = (
        f"measured: O_DIRECT, {_BATCH} neighbours of 4 KiB submitted together, as reclaim's writes "
        "reach the device (mm/vmscan.c:shrink_lruvec() plugs), or in 32 places; and a read right after"
    )
    return section | {
        "submit_ns": figure(max(float(np.median(together)) - each, 0.0) / _BATCH, how),
        "request_ns": figure(each, how),
        "write_ns": figure(delay * channels / _BATCH, how),
    }


def _measure_batches(
    direct: int, blocks: int, seconds: float, seed: int
) -> tuple[Times, Times, Times] | None:
    """Time batches of writes; return None without AIO.

    What submitting neighbours took, which are merged to one request; writes all over the file; and a
    read right after the neighbours; ns.
    """
    if blocks < 2 * _BATCH:
        return None
    rng = np.random.default_rng(seed)
    clock = time.perf_counter_ns
    together: list[int] = []
    apart: list[int] = []
    afters: list[int] = []
    with contextlib.ExitStack() as opened:
        writer = Writer.open(_BATCH)
        if writer is None:
            return None
        opened.callback(writer.close)
        area = opened.enter_context(mmap.mmap(-1, _BATCH * PAGE_BYTES))
        area[:] = rng.bytes(_BATCH * PAGE_BYTES)
        page = opened.enter_context(mmap.mmap(-1, PAGE_BYTES))
        until = clock() + int(seconds * 1e9)
        while clock() < until or not together:
            first = int(rng.integers(0, blocks - _BATCH + 1))
            where = int(rng.integers(0, blocks))
            writer.prepare(direct, area, (first + np.arange(_BATCH)) * PAGE_BYTES)
            began = clock()
            writer.submit()
            submitted = clock()
            os.preadv(direct, [page], where * PAGE_BYTES)
            afters.append(clock() - submitted)
            together.append(submitted - began)
            writer.wait()
            places = rng.choice(blocks // 2, _BATCH, replace=False) * 2
            writer.prepare(direct, area, places * PAGE_BYTES)
            began = clock()
            writer.submit()
            apart.append(clock() - began)
            writer.wait()
    return (
        np.array(together, np.float64),
        np.array(apart, np.float64),
        np.array(afters, np.float64),
    )


def _load(
    handle: int, blocks: int, depth: int, seconds: float, seed: int, *, write: bool, pages: int = 1
) -> tuple[Times, float]:
    """Keep `depth` requests in flight; return the latency of each, ns, and requests a second."""
    found: list[list[int]] = [[] for _ in range(depth)]
    failed: list[OSError] = []
    clock = time.perf_counter_ns
    until = clock() + int(seconds * 1e9)

    def work(which: int) -> None:
        rng = np.random.default_rng((seed, which, depth, write, pages))
        own = found[which]
        with mmap.mmap(-1, pages * PAGE_BYTES) as area:
            area[:] = rng.bytes(pages * PAGE_BYTES)
            try:
                while True:
                    for block in rng.integers(0, blocks - pages + 1, 64).tolist():
                        began = clock()
                        if write:
                            os.pwritev(handle, [area], block * PAGE_BYTES)
                        else:
                            os.preadv(handle, [area], block * PAGE_BYTES)
                        now = clock()
                        own.append(now - began)
                        if now >= until:
                            return
            except OSError as error:
                failed.append(error)

    began = clock()
    threads = [threading.Thread(target=work, args=(which,)) for which in range(depth)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    took = (clock() - began) / 1e9
    times = np.concatenate([np.array(own, np.float64) for own in found])
    return times, times.size / took


def block_device(directory: Path) -> Path | None:
    """Return the folder in sysfs of the block device below a folder; None where none is found."""
    number = directory.stat().st_dev
    link = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    try:
        return link.resolve(strict=True)
    except OSError:
        return None


def device_kind(directory: Path) -> str:
    """Return nvme, ssd or hdd for the device below a folder, as sysfs has it; disk where it has none."""
    real = block_device(directory)
    if real is None:
        return "disk"
    if "nvme" in str(real):
        return "nvme"
    for folder in (real, real.parent):
        flag = folder / "queue" / "rotational"
        if flag.exists():
            return "hdd" if flag.read_text().strip() == "1" else "ssd"
    return "disk"

"""Several writes handed to the kernel at once, by its own asynchronous interface (Linux AIO).

`io_submit` plugs the queue as reclaim does, so that neighbours reach the device as one request.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
from typing import Any

import numpy as np
import numpy.typing as npt

from tracereplay.units import PAGE_BYTES

# io_setup, io_destroy, io_getevents, io_submit: no libc has them, numbers differ by machine.
_CALLS = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2), "riscv64": (0, 1, 4, 2)}
_PWRITE = 1  # include/uapi/linux/aio_abi.h:IOCB_CMD_PWRITE
_IOCB = np.dtype(
    [
        ("data", np.uint64),
        ("key", np.uint32),
        ("rw_flags", np.uint32),
        ("opcode", np.uint16),
        ("priority", np.int16),
        ("descriptor", np.uint32),
        ("buffer", np.uint64),
        ("bytes", np.uint64),
        ("offset", np.int64),
        ("reserved", np.uint64),
        ("flags", np.uint32),
        ("event_descriptor", np.uint32),
    ]
)
_EVENT = np.dtype([("data", "u8"), ("object", "u8"), ("result", "i8"), ("result2", "i8")])


class Writer:
    """Writes a batch of pages and waits for all of them."""

    def __init__(
        self, libc: Any, calls: tuple[int, int, int, int], context: int, count: int
    ) -> None:
        self._libc, self._calls, self._context = libc, calls, context
        self._blocks = np.zeros(count, _IOCB)
        base = self._blocks.ctypes.data
        self._pointers = (base + np.arange(count) * _IOCB.itemsize).astype(np.uint64)
        self._events = np.zeros(count, _EVENT)

    @classmethod
    def open(cls, count: int) -> Writer | None:
        """Return a writer of batches of `count` pages; None where the kernel or machine has no AIO."""
        calls = _CALLS.get(platform.machine())
        if calls is None:
            return None
        libc = ctypes.CDLL(None, use_errno=True)
        libc.syscall.restype = ctypes.c_long
        context = ctypes.c_ulong(0)
        if libc.syscall(calls[0], ctypes.c_ulong(count), ctypes.byref(context)) != 0:
            return None
        return cls(libc, calls, context.value, count)

    def prepare(
        self, descriptor: int, area: mmap.mmap, offsets: npt.NDArray[np.integer[Any]]
    ) -> None:
        """Set up a batch: each page of an area to its place, bytes, shape (pages,)."""
        count = self._blocks.size
        buffer = np.frombuffer(area, np.uint8, count * PAGE_BYTES)
        blocks = self._blocks
        blocks["opcode"], blocks["descriptor"] = _PWRITE, descriptor
        blocks["bytes"] = PAGE_BYTES
        blocks["buffer"] = buffer.ctypes.data + np.arange(count) * PAGE_BYTES
        blocks["offset"] = offsets

    def submit(self) -> None:
        """Hand the batch over.

        Raises
        ------
        OSError
        """
        count = self._blocks.size
        pointers = ctypes.c_void_p(self._pointers.ctypes.data)
        done = self._libc.syscall(
            self._calls[3], ctypes.c_ulong(self._context), ctypes.c_long(count), pointers
        )
        if done != count:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def wait(self) -> None:
        """Wait until every write of the batch is done.

        Raises
        ------
        OSError
            One of them failed.
        """
        count = ctypes.c_long(self._blocks.size)
        events = ctypes.c_void_p(self._events.ctypes.data)
        done = self._libc.syscall(
            self._calls[2], ctypes.c_ulong(self._context), count, count, events, None
        )
        if done != self._blocks.size:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        failed = self._events["result"][self._events["result"] < 0]
        if failed.size:
            raise OSError(int(-failed[0]), os.strerror(int(-failed[0])))

    def close(self) -> None:
        """Give the context back; waits for what is in flight."""
        self._libc.syscall(self._calls[1], ctypes.c_ulong(self._context))

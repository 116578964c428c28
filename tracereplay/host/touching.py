"""The process that touches pages for `host-run`: `python -m tracereplay.host.touching`, see `run.py`.

It runs in a process of its own, because the memory cgroup it is moved to must hold the touched pages
and nothing else. What it shares with its parent lies in memory that the parent has filled, and so is
charged to the parent; before it is moved it has touched everything it needs; while it is inside it
runs one compiled loop and calls nothing but `clock_gettime`, which the kernel maps into it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core import types

from tracereplay._jit import inner, kernel, wrapping_product
from tracereplay.units import PAGE_BYTES

STEPS = 1000  # equal parts of the trace whose end is timed
WRITE = np.uint32(1 << 31)
LINE_BYTES = 64
# A page that is not zero ends in eight bytes that are not: the kernel's test for zero pages looks at
# the last word first (mm/page_io.c:is_folio_zero_filled()).
FILLED_BYTES = PAGE_BYTES - 8
ALL_ZERO = 0  # in place of a number of random lines
NO_LINES = 255  # zeros but for the last word
_PMD_SIZE = 1 << 21  # what a page table maps
_CLOCK_MONOTONIC = 1
_PR_SET_PDEATHSIG = 1
_PR_SET_THP_DISABLE = 41
_SIGKILL = 9
_MAP_FIXED = 0x10
_MAP_NORESERVE = 0x4000
_MADV_NOHUGEPAGE = 15
# So far apart that page tables of all levels but the top begin with the first page.
_ALIGNMENT = 1 << 30

# What parent and child tell each other, as one row in shared memory.
CONTROL = np.dtype(
    [
        ("ready", np.int64),
        ("go", np.int64),
        ("done", np.int64),
        ("began_ns", np.int64),
        ("ended_ns", np.int64),
        ("minflt", np.int64),
        ("majflt", np.int64),
        ("touches", np.int64),
        ("pages", np.int64),
        ("reads_first", np.int64),
        ("cpu", np.int64),
    ]
)

_config: Any = numba.config
IS_COMPILED = not _config.DISABLE_JIT

if not IS_COMPILED:  # only that the module can be imported: host-run refuses to start

    def clock_ns(address: Any, buffer: Any) -> Any:
        """Return the time of CLOCK_MONOTONIC."""
        del address, buffer
        return 0

    def barrier() -> None:
        """Do nothing."""

else:
    from llvmlite import ir
    from numba.extending import intrinsic

    @intrinsic
    def clock_ns(_context: Any, _address: Any, _buffer: Any) -> Any:
        """Return the time in ns, by the address of clock_gettime and of a struct timespec.

        An address handed in at run time leaves the compiled code fit for the cache.
        """

        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            word = ir.IntType(64)
            function = ir.FunctionType(ir.IntType(32), [ir.IntType(32), word])
            address = builder.inttoptr(arguments[0], function.as_pointer())
            builder.call(address, [ir.IntType(32)(_CLOCK_MONOTONIC), arguments[1]])
            fields = builder.inttoptr(arguments[1], word.as_pointer())
            seconds = builder.load(fields)
            rest = builder.load(builder.gep(fields, [ir.IntType(32)(1)]))
            return builder.add(builder.mul(seconds, word(1_000_000_000)), rest)

        return types.int64(types.int64, types.int64), generate

    @intrinsic
    def barrier(_context: Any) -> Any:
        """Keep loads and stores on their side: the compiler must believe that memory has changed."""

        def generate(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
            nothing = ir.FunctionType(ir.VoidType(), [])
            code = ir.InlineAsm(nothing, "", "~{memory}", side_effect=True)
            builder.call(code, [])
            return context.get_dummy_value()

        return types.void(), generate


@inner
def fill(page: Any, number: Any, lines: Any) -> Any:
    """Write a page's contents: `lines` x 64 random bytes, then zeros, then a word that is not zero."""
    if lines == ALL_ZERO:
        return
    if lines == NO_LINES:
        lines = 0
    word = wrapping_product(np.uint64(number), np.uint64(0x9E3779B97F4A7C15)) + np.uint64(1)
    for at in range(min(lines * LINE_BYTES, FILLED_BYTES)):
        if at % 8 == 0:
            word ^= word << np.uint64(13)
            word ^= word >> np.uint64(7)
            word ^= word << np.uint64(17)
        page[at] = np.uint8(word >> np.uint64(8 * (at % 8)) & np.uint64(255))
    for at in range(4):
        page[FILLED_BYTES + at] = at + 1


@kernel
def fill_pages(pages: Any, lines: Any) -> Any:
    """Write the contents of several pages; uint8, shape (pages, 4096)."""
    for number in range(pages.shape[0]):
        fill(pages[number], number, np.int64(lines[number]))


@kernel
def touch_all(memory: Any, touches: Any, lines: Any, seen: Any, out: Any, control: Any) -> Any:
    """Touch pages in order, once the parent says go; return a sum of what was read.

    Parameters
    ----------
    memory : uint8, shape (pages, 4096): the mapping under test
    touches : uint32: page, bit 31 set for a write
    out : (uint32 ns per touch; int64 time at the end of each step; address of clock_gettime, of a
        struct timespec)
    """
    touch_ns, steps_ns, clock, buffer = out
    total = np.int64(0)
    clock_ns(clock, buffer)
    control[0]["ready"] = 1
    while control[0]["go"] == 0:
        clock_ns(clock, buffer)
        barrier()
    reads_first = control[0]["reads_first"]
    count = touches.size
    steps = steps_ns.size
    step = 0
    next_step = count // steps if count >= steps else 0
    began = clock_ns(clock, buffer)
    control[0]["began_ns"] = began
    before = began
    for at in range(count):
        page = touches[at] & np.uint32(0x7FFFFFFF)
        if seen[page] == 0:
            seen[page] = 1
            memory[page, 0] = 0
            barrier()
            after = clock_ns(clock, buffer)
            touch_ns[at] = min(after - before, 0xFFFFFFFF)
            fill(memory[page], np.int64(page), np.int64(lines[page]))
            after = clock_ns(clock, buffer)
        else:
            if touches[at] & np.uint32(1 << 31):
                value = np.uint8(0)
                if reads_first != 0:
                    value = memory[page, PAGE_BYTES - 1]
                    barrier()
                memory[page, PAGE_BYTES - 1] = value
            else:
                total += memory[page, PAGE_BYTES - 1]
            barrier()
            after = clock_ns(clock, buffer)
            touch_ns[at] = min(after - before, 0xFFFFFFFF)
        before = after
        while step < steps and at + 1 >= next_step:
            steps_ns[step] = after - began
            step += 1
            next_step = (step + 1) * count // steps
    control[0]["ended_ns"] = before
    control[0]["done"] = 1
    while control[0]["go"] == 1:
        clock_ns(clock, buffer)
        barrier()
    return total


def map_pages(pages: int) -> int:
    """Map anonymous memory without huge pages, aligned as the model has its page tables.

    Raises
    ------
    OSError
        There is no room in the address space.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
    ]  # fmt: skip
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    size = pages * PAGE_BYTES
    space = libc.mmap(None, size + _ALIGNMENT, 0, private | _MAP_NORESERVE, -1, 0)
    if space in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    base = (space + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT
    rights = mmap.PROT_READ | mmap.PROT_WRITE
    if libc.mmap(base, size, rights, private | _MAP_FIXED, -1, 0) != base:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    libc.madvise(ctypes.c_void_p(base), ctypes.c_size_t(size), _MADV_NOHUGEPAGE)
    return int(base)


def shared_arrays(
    buffer: mmap.mmap, touches: int, pages: int
) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Return the parts of the shared memory: control, touches, lines, seen, touch times, steps."""
    at = 0
    parts = []
    for dtype, size in (
        (CONTROL, 1),
        (np.dtype(np.uint32), touches),
        (np.dtype(np.uint8), pages),
        (np.dtype(np.uint8), pages),
        (np.dtype(np.uint32), touches),
        (np.dtype(np.int64), STEPS),
    ):
        parts.append(np.frombuffer(buffer, dtype, size, at))
        at += -(-size * dtype.itemsize // PAGE_BYTES) * PAGE_BYTES
    return parts[0], parts[1], parts[2], parts[3], parts[4], parts[5]


def shared_bytes(touches: int, pages: int) -> int:
    """Return the size of the shared memory."""
    sizes = (CONTROL.itemsize, 4 * touches, pages, pages, 4 * touches, 8 * STEPS)
    return sum(-(-size // PAGE_BYTES) * PAGE_BYTES for size in sizes)


def main(descriptor: int, touches: int, pages: int, parent: int) -> None:
    """Touch the pages of the trace that stands in the shared memory; end with the parent."""
    import resource

    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        return  # it was killed before the line above: nobody would ever say go
    libc.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    buffer = mmap.mmap(descriptor, shared_bytes(touches, pages))
    # Every page table of it is made here, before the process enters the cgroup, whose limit is the
    # touches'. Not by MAP_POPULATE: pages that it has referenced count as activated where a kill ends all.
    for at in (*range(0, len(buffer), _PMD_SIZE), len(buffer) - 1):
        _ = buffer[at]
    control, trace, lines, seen, touch_ns, steps_ns = shared_arrays(buffer, touches, pages)
    os.setpriority(os.PRIO_PROCESS, 0, 0)  # not its parent's: zswap's worker must get its turn
    if control[0]["cpu"] >= 0:
        os.sched_setaffinity(0, {int(control[0]["cpu"])})
    spec = (ctypes.c_int64 * 2)()
    clock = ctypes.cast(libc.clock_gettime, ctypes.c_void_p).value
    for array in (trace, lines):
        array.flags.writeable = False
    # A rehearsal on other memory loads the code and touches every page the loop itself needs.
    small = np.zeros((1, PAGE_BYTES), np.uint8)
    rehearsal = np.zeros(1, CONTROL)
    rehearsal["go"] = 2
    touch = np.zeros(4, np.uint32)
    touch.flags.writeable = False
    marks = np.full(1, 64, np.uint8)
    marks.flags.writeable = False
    times, ends = np.zeros(4, np.uint32), np.zeros(STEPS, np.int64)
    seen_there = np.zeros(1, np.uint8)
    touch_all(
        small, touch, marks, seen_there, (times, ends, clock, ctypes.addressof(spec)), rehearsal
    )
    base = map_pages(pages)
    mapped: Any = (ctypes.c_uint8 * (pages * PAGE_BYTES)).from_address(base)
    memory = np.frombuffer(mapped, np.uint8).reshape(pages, PAGE_BYTES)
    before = resource.getrusage(resource.RUSAGE_SELF)
    out = (touch_ns, steps_ns, clock, ctypes.addressof(spec))
    touch_all(memory, trace, lines, seen, out, control)
    after = resource.getrusage(resource.RUSAGE_SELF)
    control[0]["minflt"] = after.ru_minflt - before.ru_minflt
    control[0]["majflt"] = after.ru_majflt - before.ru_majflt
    control[0]["done"] = 2
    sys.stdin.buffer.read()  # the parent reads the counters while the pages are still there
    os._exit(0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

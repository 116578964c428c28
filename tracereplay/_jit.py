"""The only file that configures numba.

`@kernel` marks what Python calls, `@inner` the helpers inside. Machine code is cached in a folder
named after a hash of all our sources, because numba looks only at the file that holds a function:
an edit in a helper's file would otherwise run stale code.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
import polars as pl
from numba.core.event import Listener, register

import tracereplay
from tracereplay.errors import TraceSchemaError

_config: Any = numba.config
_njit: Any = numba.njit
_types: Any = numba.types

CACHE_LINE_BYTES = 64

F = TypeVar("F", bound=Callable[..., Any])


def _compiled_sources(root: Path) -> dict[str, bytes]:
    """Return the text of each file that holds kernels, and of all that those take names from."""
    texts = {
        path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*.py"))
    }
    found: dict[str, bytes] = {}
    waiting = [name for name, text in texts.items() if b"_jit" in text or name == "_jit.py"]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = texts[name]
        for module in re.findall(
            rb"^\s*from tracereplay\.([\w.]+) import", texts[name], re.MULTILINE
        ):
            stem = module.decode().replace(".", "/")
            waiting += [n for n in (f"{stem}.py", f"{stem}/__init__.py") if n in texts]
    return found


def _source_hash() -> str:
    digest = hashlib.sha256(f"{numba.__version__} {np.__version__}".encode())
    for name, text in sorted(_compiled_sources(Path(__file__).parent).items()):
        digest.update(name.encode() + b"\0" + text)
    return digest.hexdigest()[:16]


def _cache_folder() -> str | None:
    """Return where kernels are cached, None for nowhere; remove the folders of older sources."""
    # A warm cache ignores BOUNDSCHECK and checked code cannot be cached (measured).
    if _config.DISABLE_JIT or _config.BOUNDSCHECK:
        return None
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        with contextlib.suppress(OSError):
            Path(chosen).mkdir(parents=True, exist_ok=True)
            if os.access(chosen, os.W_OK):
                return chosen
        return None
    places = [Path(__file__).parent / "__pycache__" / "kernels"]
    with contextlib.suppress(RuntimeError):  # nobody's home
        places.insert(0, tracereplay.cache_folder() / "kernels")
    for root in places:
        folder = root / _source_hash()
        with contextlib.suppress(OSError):  # read-only
            folder.mkdir(parents=True, exist_ok=True)
            os.utime(folder)  # in use
            if os.access(folder, os.W_OK):
                _remove_older(root, folder)
                return str(folder)
    return None


def _remove_older(root: Path, folder: Path) -> None:
    """Remove what older sources left; the newest three stay: two checkouts may take turns."""
    import shutil

    with contextlib.suppress(OSError):  # another process removes the same
        others = sorted(
            (p.stat().st_mtime, p) for p in root.iterdir() if p.is_dir() and p != folder
        )
        for _, old in others[:-3]:
            shutil.rmtree(old, ignore_errors=True)


_CACHE_FOLDER = _cache_folder()


def tell_compiling() -> None:
    """Call `tracereplay.when_compiling`, once."""
    tell, tracereplay.when_compiling = tracereplay.when_compiling, None
    if tell is not None:
        tell(_CACHE_FOLDER is not None)


class _TellOnce(Listener):
    """Calls `tracereplay.when_compiling` before the first kernel that no cache holds."""

    def on_start(self, event: Any) -> None:
        del event
        tell_compiling()

    def on_end(self, event: Any) -> None:
        """Do nothing: only the first start counts."""


if not _config.DISABLE_JIT:
    register("numba:compile", _TellOnce())

# The libraries below override parts of numba that it may change: other versions compile as they do
# by themselves, which gives the same code in three times the time.
_KNOWN_NUMBA = ("0.68.",)

_KERNEL: dict[str, Any] = {}
_HELPER: dict[str, Any] = {}
_APART: dict[str, Any] = {}
_COPIED: dict[str, Any] = {}
if not _config.DISABLE_JIT and numba.__version__.startswith(_KNOWN_NUMBA):
    import ctypes

    from llvmlite.binding import Linkage
    from numba.core import typed_passes, untyped_passes
    from numba.core.caching import FunctionCache
    from numba.core.codegen import JITCodeLibrary
    from numba.core.compiler import Compiler
    from numba.core.compiler_machinery import PassManager
    from numba.core.runtime.nrt import rtsys
    from numba.core.types import functions as _functions
    from numba.np import arrayobj

    class _NoEnvironment:
        """Where a helper's Python objects would be filed: it has none."""

        @staticmethod
        def set_env(env_name: str, env: Any) -> None:
            del env_name, env

    class _HelperLibrary(JITCodeLibrary):
        """LLVM code of a helper, kept as it is until a kernel links it.

        numba optimizes every helper, and makes machine code of it, together with all it calls: what
        lies under ten callers goes through that eleven times. Only kernels need it, once.
        """

        def finalize(self) -> None:
            self._finalize_dynamic_globals()
            self._finalized = True

        def add_llvm_module(self, ll_module: Any) -> None:
            self._final_module.link_in(ll_module)

        @property
        def codegen(self) -> Any:
            return _NoEnvironment

        def get_pointer_to_function(self, name: str) -> int:
            """Return what Python would call: a C function that sets a TypeError, and returns 0."""
            del name
            refuse = ctypes.cast(ctypes.pythonapi.PyErr_BadArgument, ctypes.c_void_p).value
            assert refuse is not None
            return refuse

        def own_functions(self) -> list[Any]:
            """Return what is defined here."""
            return [each for each in self._final_module.functions if not each.is_declaration]

        def libraries(self) -> list[Any]:
            """Return this library and all it needs, each once."""
            found: dict[Any, None] = {}
            waiting: list[Any] = [self]
            while waiting:
                library = waiting.pop()
                if library in found:
                    continue
                found[library] = None
                if isinstance(library, _HelperLibrary):
                    waiting += library._linking_libraries  # noqa: SLF001
            return list(found)

    class _ApartLibrary(_HelperLibrary):
        """LLVM code of a helper that no other function takes in."""

    class _CopiedLibrary(_HelperLibrary):
        """LLVM code of a helper that each of its callers takes in."""

    class _KernelLibrary(_HelperLibrary):
        """LLVM code of a kernel: links helpers, and is optimized and compiled."""

        def finalize(self) -> None:
            self._linking_libraries = self.libraries()[1:]
            JITCodeLibrary.finalize(self)

        def _optimize_final_module(self) -> None:
            # Nobody else calls these helpers: LLVM may leave out arguments, and results that never
            # differ. Each hands on a dozen arrays of seven words, and tells whether it raised.
            for library in self._linking_libraries:
                if isinstance(library, _HelperLibrary):
                    for each in library.own_functions():
                        function = self._final_module.get_function(each.name)
                        function.linkage = "internal"
                        if isinstance(library, _ApartLibrary):
                            function.add_function_attribute("noinline")
                        elif isinstance(library, _CopiedLibrary):
                            function.add_function_attribute("alwaysinline")
            # Of numba's own, too: who calls its max() might hear of an error, and whoever calls that.
            for function in self._final_module.functions:
                if not function.is_declaration and function.linkage == Linkage.linkonce_odr:
                    function.linkage = "internal"
            super()._optimize_final_module()

        @property
        def codegen(self) -> Any:
            return self._codegen

        def get_pointer_to_function(self, name: str) -> int:
            return int(JITCodeLibrary.get_pointer_to_function(self, name))

    def _pass_manager() -> Any:
        """Return the passes a helper needs of numba's.

        Left out is what looks for `with`, closures, literals, array expressions and dead branches:
        a third of the time, because numba goes through the whole function after each.
        """
        passes = PassManager("helper")
        for each in (
            untyped_passes.TranslateByteCode,
            untyped_passes.FixupArgs,
            untyped_passes.IRProcessing,
            untyped_passes.GenericRewrites,
            untyped_passes.InlineInlinables,
            untyped_passes.ReconstructSSA,
            typed_passes.NopythonTypeInference,
            typed_passes.PreLowerStripPhis,
            typed_passes.IRLegalization,
            typed_passes.NativeLowering,
            typed_passes.NoPythonBackend,
        ):
            passes.add_pass(each, each.__name__)
        passes.finalize()
        return passes

    # Helpers of these take no index as counted from the end: to look at each for being negative, and
    # to hand on the size of every array for that, is a tenth of the work of a fault.
    _PLAIN = ("tracereplay.replay.", "tracereplay.reclaim.")
    _from_end = [True]
    _fix_index = arrayobj.fix_integer_index

    def _fix_if_from_end(context: Any, builder: Any, kind: Any, index: Any, size: Any) -> Any:
        if _from_end[0]:
            return _fix_index(context, builder, kind, index, size)
        return context.cast(builder, index, kind, _types.intp)

    arrayobj.fix_integer_index = _fix_if_from_end

    def _compiler(library_class: Any) -> Any:
        class _WithLibrary(Compiler):
            def define_pipelines(self) -> Any:
                state = self.state
                if state.library is None:
                    state.library = library_class(
                        state.targetctx.codegen(), state.func_id.func_qualname
                    )
                    state.library.enable_object_caching()
                return (
                    [_pass_manager()]
                    if library_class is not _KernelLibrary
                    else super().define_pipelines()
                )

            def _compile_core(self) -> Any:
                before = _from_end[0]
                module = self.state.func_id.modname
                _from_end[0] = library_class is _KernelLibrary or not module.startswith(_PLAIN)
                try:
                    result = super()._compile_core()
                finally:
                    _from_end[0] = before
                of = result.signature.return_type
                # Without reference counts nobody would know when to free it.
                parts = (of, *getattr(of, "types", ()))
                if library_class is not _KernelLibrary and any(
                    isinstance(part, _types.Buffer) for part in parts
                ):
                    raise TypeError(f"{self.state.func_id.func_qualname}: a helper returns {of}")
                return result

        return _WithLibrary

    class _KernelCache(FunctionCache):
        """Finds kernels without what only compiling needs: half a second of numba's start-up."""

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            rtsys.initialize(target_context)
            try:
                return self._load_overload(sig, target_context)
            except Exception:  # noqa: BLE001  # unpickling what a power cut left: nearly any
                with contextlib.suppress(OSError):
                    self.flush()
                return None

        def save_overload(self, sig: Any, data: Any) -> None:
            # No room, or a damaged index that cannot be replaced: compiled again the next time.
            with contextlib.suppress(Exception):
                super().save_overload(sig, data)

    # What an operator does to numbers is looked up among all that strings, sets and lists make of it:
    # a quarter of the time, if it were not remembered.
    _signatures: dict[Any, Any] = {}
    _callable: Any = _functions.BaseFunction
    _resolve_call = _callable.get_call_type

    def _remembered_call(function: Any, context: Any, args: Any, kws: Any) -> Any:
        numbers = (_types.Number, _types.Boolean, _types.Literal)
        if kws or not all(isinstance(of, numbers) for of in args):
            return _resolve_call(function, context, args, kws)
        key = (function, context, args)
        if key not in _signatures:
            _signatures[key] = _resolve_call(function, context, args, kws)
        return _signatures[key]

    _callable.get_call_type = _remembered_call
    # Each pass over a function writes down its arguments, and a machine has 250 fields.
    _types.Record.__repr__ = _types.Type.__repr__

    _KERNEL = {"pipeline_class": _compiler(_KernelLibrary), "no_cfunc_wrapper": True}
    _HELPER = {
        "pipeline_class": _compiler(_HelperLibrary),
        "no_cfunc_wrapper": True,
        "no_cpython_wrapper": True,
        # What a helper works on is borrowed from its kernel: no counting of references.
        "_nrt": False,
    }
    _APART = {**_HELPER, "pipeline_class": _compiler(_ApartLibrary)}
    _COPIED = {**_HELPER, "pipeline_class": _compiler(_CopiedLibrary)}


def kernel(function: F) -> F:
    """Compile a function that Python calls with arrays; the lock is released, the code cached."""
    compiled = _njit(nogil=True, error_model="numpy", **_KERNEL)(function)
    if _CACHE_FOLDER:
        # As cache=True, but numba looks up its setting where a function is decorated: it is ours for
        # that long, so that other code of this process keeps its own.
        before, _config.CACHE_DIR = _config.CACHE_DIR, _CACHE_FOLDER
        try:
            compiled.enable_caching()
            if _KERNEL:
                compiled._cache = _KernelCache(function)  # noqa: SLF001  (as enable_caching() does)
        finally:
            _config.CACHE_DIR = before
    return cast("F", compiled)


def is_cached(function: Callable[..., Any]) -> bool:
    """Tell whether a kernel needs no compiling: some form of it is in the cache, or none may be."""
    folder = cast("Any", function).stats.cache_path if _CACHE_FOLDER else None
    if folder is None:
        return True
    return any(Path(folder).glob(f"*.{function.__qualname__}-*.nbi"))


def inner(function: F) -> F:
    """Compile a helper that only compiled code calls."""
    return cast("F", _njit(error_model="numpy", **_HELPER)(function))


def apart(function: F) -> F:
    """Compile a helper that stays a function: one giant of all would take LLVM twice the time."""
    return cast("F", _njit(error_model="numpy", **_APART)(function))


def copied(function: F) -> F:
    """Compile a helper that LLVM is told to copy into all its callers; by itself it would call it.

    A call hands on up to twenty words by the stack and saves six registers: fifty instructions, as
    many as most helpers have.
    """
    return cast("F", _njit(error_model="numpy", **_COPIED)(function))


def inline(function: F) -> F:
    """Compile a helper that is small and hot enough to be copied into its caller."""
    return cast("F", _njit(inline="always", error_model="numpy")(function))


if _config.DISABLE_JIT:

    def wrapping_product(one: Any, other: Any) -> Any:
        """Return the low 64 bits of a product of two uint64; numpy's scalars would warn."""
        return np.uint64(int(one) * int(other) & 0xFFFF_FFFF_FFFF_FFFF)

    def wrapping_sum(one: Any, other: Any) -> Any:
        """Return the low 64 bits of a sum of two uint64."""
        return np.uint64((int(one) + int(other)) & 0xFFFF_FFFF_FFFF_FFFF)

    def popcount(word: Any) -> Any:
        """Return the number of set bits of a uint64."""
        return int(word).bit_count()

    def leading_zeros(word: Any) -> Any:
        """Return how many of the upper bits of a uint64 are zero."""
        return 64 - int(word).bit_length()

    def trailing_zeros(word: Any) -> Any:
        """Return how many of the lower bits of a uint64 are zero; 64 where all are."""
        return (int(word) & -int(word)).bit_length() - 1 if word else 64

    def byte_at(buffer: Any, at: Any) -> Any:
        """Return a byte of a uint8 or bool array; `at` is within it, and not counted from its end."""
        return buffer[at]

    def word_at(buffer: Any, at: Any) -> Any:
        """Return eight bytes of a uint8 array as uint64, the first the lowest; all are within it."""
        return np.uint64(int.from_bytes(buffer[at : at + 8].tobytes(), "little"))

    def first_of(buffer: Any, at: Any, one: Any, other: Any) -> Any:
        """Return which of the 32 bytes from `at` on is the first to equal either; 32 where none is."""
        found = np.flatnonzero((buffer[at : at + 32] == one) | (buffer[at : at + 32] == other))
        return int(found[0]) if found.size else 32

    def item_at(array: Any, at: Any) -> Any:
        """Return an item of an array of numbers; `at` is within it, and not counted from its end."""
        return array[at]

    def put_at(array: Any, at: Any, value: Any) -> None:
        """Set an item of an array of numbers; `at` is within it, and not counted from its end."""
        array[at] = value

    def move_counts(source: Any, target: Any) -> None:
        """Move all int64 fields `ev_…` of a record to the uint32 ones of another, and leave zeros."""
        for name in source.dtype.names:
            if name.startswith("ev_"):
                target[name[3:]] = source[name]
                source[name] = 0

    def prefetch(array: Any, index: Any) -> None:
        """Ask for the cache line of `array[index]`; interpreted code has no use for it."""

    def add_after(counts: Any, first: Any, lane: Any) -> None:
        """Add 1 to each count of the 64-byte node at `first` that stands behind `lane`."""
        counts[first + lane + 1 : first + 64 // counts.itemsize] += 1

else:
    from llvmlite import ir
    from numba.core import cgutils, types
    from numba.extending import intrinsic

    @inline
    def wrapping_product(one: Any, other: Any) -> Any:
        """Return the low 64 bits of a product of two uint64."""
        return one * other

    @inline
    def wrapping_sum(one: Any, other: Any) -> Any:
        """Return the low 64 bits of a sum of two uint64."""
        return one + other

    # LLVM's own instructions, where numba has no word for them or leaves a loop in scalars: node
    # updates written as loops over uint16 cost 20 ns of a 12 ns access (measured).

    def _element(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        index = context.cast(builder, arguments[1], signature.args[1], types.intp)
        return builder.gep(array.data, [index])

    @intrinsic
    def popcount(_context: Any, _word: Any) -> Any:
        """Return the number of set bits of a uint64."""

        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.ctpop(arguments[0])

        return types.uint64(types.uint64), generate

    @intrinsic
    def leading_zeros(_context: Any, _word: Any) -> Any:
        """Return how many of the upper bits of a uint64 are zero."""

        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.ctlz(arguments[0], ir.IntType(1)(0))

        return types.int64(types.uint64), generate

    @intrinsic
    def trailing_zeros(_context: Any, _word: Any) -> Any:
        """Return how many of the lower bits of a uint64 are zero; 64 where all are."""

        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.cttz(arguments[0], ir.IntType(1)(0))

        return types.int64(types.uint64), generate

    # numba's own indexing takes a negative index as counted from the end, byte after byte.

    @intrinsic
    def byte_at(_context: Any, buffer: Any, at: Any) -> Any:
        """Return a byte of a uint8 or bool array; `at` is within it, and not counted from its end."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.load(_element(context, builder, signature, arguments))

        return types.uint8(buffer, at), generate

    @intrinsic
    def item_at(_context: Any, array: Any, at: Any) -> Any:
        """Return an item of an array of numbers; `at` is within it, and not counted from its end."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = _element(context, builder, signature, arguments)
            return context.unpack_value(builder, signature.return_type, pointer)

        return array.dtype(array, at), generate

    @intrinsic
    def put_at(_context: Any, array: Any, at: Any, value: Any) -> Any:
        """Set an item of an array of numbers; `at` is within it, and not counted from its end."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = signature.args[0].dtype
            pointer = _element(context, builder, signature, arguments)
            number = context.cast(builder, arguments[2], signature.args[2], kind)
            context.pack_value(builder, kind, number, pointer)
            return context.get_dummy_value()

        return types.void(array, at, value), generate

    @intrinsic
    def word_at(_context: Any, buffer: Any, at: Any) -> Any:
        """Return eight bytes of a uint8 array as uint64, the first the lowest; all are within it."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = _element(context, builder, signature, arguments)
            return builder.load(builder.bitcast(pointer, ir.IntType(64).as_pointer()), align=1)

        return types.uint64(buffer, at), generate

    @intrinsic
    def first_of(_context: Any, buffer: Any, at: Any, one: Any, other: Any) -> Any:
        """Return which of the 32 bytes from `at` on is the first to equal either; 32 where none is."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            lane = ir.IntType(8)
            lanes = ir.VectorType(lane, 32)
            pointer = _element(context, builder, signature, arguments)
            loaded = builder.load(builder.bitcast(pointer, lanes.as_pointer()), align=1)
            spread = ir.Constant(ir.VectorType(ir.IntType(32), 32), [0] * 32)
            equal = []
            for argument, kind in zip(arguments[2:], signature.args[2:], strict=True):
                wanted = context.cast(builder, argument, kind, types.uint8)
                nothing = ir.Constant(lanes, ir.Undefined)
                wanted = builder.insert_element(nothing, wanted, ir.IntType(32)(0))
                wanted = builder.shuffle_vector(wanted, nothing, spread)
                equal.append(builder.icmp_unsigned("==", loaded, wanted))
            mask = builder.bitcast(builder.or_(*equal), ir.IntType(32))
            return builder.zext(builder.cttz(mask, ir.IntType(1)(0)), ir.IntType(64))

        return types.int64(buffer, at, one, other), generate

    @intrinsic
    def move_counts(_context: Any, source: Any, target: Any) -> Any:
        """Move all int64 fields `ev_…` of a record to the uint32 ones of another, and leave zeros.

        They stand in a row in both, so that it is one vector: numba leaves LLVM's search for those off.
        """
        names = [name for name in source.fields if name.startswith("ev_")]
        lanes = len(names)
        at, there = source.offset(names[0]), target.offset(names[0][3:])
        assert [source.offset(name) for name in names] == [at + 8 * nth for nth in range(lanes)]
        assert [target.offset(name[3:]) for name in names] == [there + 4 * n for n in range(lanes)]

        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            def field(record: Any, offset: int, lane: int) -> Any:
                first = builder.bitcast(record, ir.IntType(8).as_pointer())
                first = builder.gep(first, [ir.IntType(64)(offset)])
                return builder.bitcast(first, ir.VectorType(ir.IntType(lane), lanes).as_pointer())

            words = field(arguments[0], at, 64)
            counts = builder.load(words, align=8)
            fewer = builder.trunc(counts, ir.VectorType(ir.IntType(32), lanes))
            builder.store(fewer, field(arguments[1], there, 32), align=4)
            builder.store(ir.Constant(counts.type, None), words, align=8)
            return context.get_dummy_value()

        return types.void(source, target), generate

    @intrinsic
    def prefetch(_context: Any, array: Any, index: Any) -> Any:
        """Ask for the cache line of `array[index]`, to be written soon; never faults."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            byte_pointer = ir.IntType(8).as_pointer()
            flag = ir.IntType(32)
            function_type = ir.FunctionType(ir.VoidType(), [byte_pointer, flag, flag, flag])
            function = cgutils.get_or_insert_function(
                builder.module, function_type, "llvm.prefetch.p0"
            )
            pointer = builder.bitcast(
                _element(context, builder, signature, arguments), byte_pointer
            )
            write, keep, of_data = flag(1), flag(3), flag(1)
            builder.call(function, [pointer, write, keep, of_data])
            return context.get_dummy_value()

        return types.void(array, index), generate

    @intrinsic
    def add_after(_context: Any, counts: Any, first: Any, lane: Any) -> Any:
        """Add 1 to each count of the 64-byte node at `first` that stands behind `lane`."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            count = ir.IntType(signature.args[0].dtype.bitwidth)
            lanes = 512 // count.width
            node = ir.VectorType(count, lanes)
            pointer = builder.bitcast(
                _element(context, builder, signature, arguments), node.as_pointer()
            )
            chosen = context.cast(builder, arguments[2], signature.args[2], types.int64)
            chosen = builder.trunc(chosen, count)
            nothing = ir.Constant(node, ir.Undefined)
            chosen = builder.insert_element(nothing, chosen, ir.IntType(32)(0))
            spread = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
            chosen = builder.shuffle_vector(chosen, nothing, spread)
            lanes_behind = builder.icmp_unsigned(">", ir.Constant(node, list(range(lanes))), chosen)
            old = builder.load(pointer, align=count.width // 8)
            new = builder.add(old, builder.zext(lanes_behind, node))
            builder.store(new, pointer, align=count.width // 8)
            return context.get_dummy_value()

        return types.void(counts, first, lane), generate


def zeros_on_lines(count: int, dtype: Any) -> np.ndarray[Any, Any]:
    """Return zeros that begin where a cache line does; shape (count,).

    numpy's begin 16 bytes behind: of records of 32 bytes every other one would lie on two lines, and
    take two misses, where one was asked for ahead.
    """
    kind = np.dtype(dtype)
    room = np.zeros(count * kind.itemsize + CACHE_LINE_BYTES, np.uint8)
    first = -room.ctypes.data % CACHE_LINE_BYTES
    return room[first : first + count * kind.itemsize].view(kind)


def kernel_array(column: pl.Series) -> np.ndarray[Any, Any]:
    """Return the column as a read-only, contiguous array of its own dtype; shape (rows,).

    Raises
    ------
    TraceSchemaError
        The column has nulls, which numpy would turn into floats without a word.
    """
    if column.null_count():
        raise TraceSchemaError(f"column {column.name!r} has nulls")
    array = np.ascontiguousarray(column.rechunk().to_numpy()).view()
    array.flags.writeable = False
    return array

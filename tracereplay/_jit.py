"""The only file that configures numba.

`@kernel` marks what Python calls, `@inner` the helpers inside. Machine code is cached in a folder
named after a hash of all our sources, because numba looks only at the file that holds a function:
an edit in a helper's file would otherwise run stale code.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
import polars as pl

from tracereplay.errors import TraceSchemaError

_config: Any = numba.config
_njit: Any = numba.njit

F = TypeVar("F", bound=Callable[..., Any])


def _source_hash() -> str:
    root = Path(__file__).parent
    digest = hashlib.sha256(f"{numba.__version__} {np.__version__}".encode())
    for path in sorted(root.rglob("*.py")):
        if b"_jit" in (text := path.read_bytes()) or path.name == "_jit.py":
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + text)
    return digest.hexdigest()[:16]


def _cache_root() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "tracereplay"


def _set_cache_folder() -> None:
    """Point numba at our folder, and remove the folders of older sources."""
    if os.environ.get("NUMBA_CACHE_DIR") or _config.DISABLE_JIT:
        return
    root = _cache_root()
    folder = root / _source_hash()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a read-only home: numba then compiles anew in each process
        return
    _config.CACHE_DIR = str(folder)
    import shutil

    others = sorted(
        (p for p in root.iterdir() if p.is_dir() and p != folder),
        key=lambda p: p.stat().st_mtime,
    )
    for old in others[:-3]:  # the newest three stay: two checkouts may take turns
        shutil.rmtree(old, ignore_errors=True)


_set_cache_folder()

# A warm cache ignores BOUNDSCHECK and checked code cannot be cached (measured), hence the condition.
_CACHE = not _config.BOUNDSCHECK and not _config.DISABLE_JIT


def kernel(function: F) -> F:
    """Compile a function that Python calls with arrays; the lock is released, the code cached."""
    return cast("F", _njit(cache=_CACHE, nogil=True)(function))


def inner(function: F) -> F:
    """Compile a helper that only compiled code calls."""
    return cast("F", _njit(function))


def inline(function: F) -> F:
    """Compile a helper that is small and hot enough to be copied into its caller."""
    return cast("F", _njit(inline="always")(function))


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

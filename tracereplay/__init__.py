"""Replay a page-access trace through Linux reclaim and zswap, once per policy, and compare.

`ingest` turns a capture into a trace table, `compare` replays it once per scenario. Names are
imported on first use, so that `tracereplay --help` stays fast.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracereplay.comparison import compare as compare
    from tracereplay.errors import TracereplayError as TracereplayError
    from tracereplay.miss_curve import curve as curve
    from tracereplay.miss_curve import reuse_distances as reuse_distances
    from tracereplay.readers import ingest as ingest
    from tracereplay.replay.settings import Scenario as Scenario
    from tracereplay.trace import open_trace as open_trace
    from tracereplay.validation import validate as validate

__version__ = "0.1.0"

# Called once, before kernels are compiled because no cache holds them; the command line sets it.
when_compiling: Callable[[bool], None] | None = None

_PUBLIC = {
    "compare": "tracereplay.comparison",
    "curve": "tracereplay.miss_curve",
    "reuse_distances": "tracereplay.miss_curve",
    "Scenario": "tracereplay.replay.settings",
    "ingest": "tracereplay.readers",
    "open_trace": "tracereplay.trace",
    "validate": "tracereplay.validation",
    "TracereplayError": "tracereplay.errors",
}

__all__ = ["__version__", *sorted(_PUBLIC)]  # noqa: PLE0604


def cache_folder() -> Path:
    """Return the folder of what is kept between runs and can be made again; it may not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tracereplay"


# -P: a child must not take modules from the folder somebody happens to stand in, least of all as root.
_RUN_MODULE = (
    "import runpy, sys; package, module = sys.argv[1:3]; del sys.argv[1:3]; "
    "package in sys.path or sys.path.insert(0, package); "
    "runpy.run_module(module, run_name='__main__', alter_sys=True)"
)


def child_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs one of our modules in a process of its own."""
    package = str(Path(__file__).parents[1])
    return [sys.executable, "-P", "-c", _RUN_MODULE, package, module, *arguments]


if not TYPE_CHECKING:  # so that a checker knows which names there are

    def __getattr__(name: str) -> Any:
        if name in _PUBLIC:
            return getattr(importlib.import_module(_PUBLIC[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)

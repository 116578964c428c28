"""Replay a page-access trace through Linux reclaim and zswap, once per policy, and compare.

`ingest` turns a capture into a trace table, `compare` replays it once per scenario. Names are
imported on first use, so that `tracereplay --help` stays fast.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)

"""Figures of a cost table, as costs.py reads them: a value or quantiles, and where they are from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_GRID = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)
# Work of the CPU itself: what is slower than this was interrupted by something else.
UNDISTURBED = 0.9995
TIMING_SHARE = 0.25  # which one of the timings of a page, in order


def figure(value: float, source: str, digits: int = 1) -> dict[str, Any]:
    """Return a single value."""
    return {"value": round(float(value), digits), "source": source}


def distribution(
    values: npt.NDArray[Any], source: str, digits: int = 1, top: float = 1.0
) -> dict[str, Any]:
    """Return quantiles; `top` is the one that stands for the largest value."""
    points = np.maximum.accumulate(np.quantile(values, (*_GRID[:-1], top)))
    pairs = [
        [share, round(float(value), digits)] for share, value in zip(_GRID, points, strict=True)
    ]
    return {"quantiles": pairs, "source": source}

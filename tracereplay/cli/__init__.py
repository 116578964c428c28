"""The command line: reads options, calls, prints; decides nothing.

One file per group of commands. polars, numba and pyarrow are imported inside commands, so that
`--help` and completion stay fast.
"""

from __future__ import annotations

from tracereplay.cli.app import app, main

from tracereplay.cli import calibrate  # noqa: F401  isort: skip  (registers its commands)
from tracereplay.cli import compare  # noqa: F401  isort: skip  (registers its commands)
from tracereplay.cli import curve  # noqa: F401  isort: skip  (registers its commands)
from tracereplay.cli import host_run  # noqa: F401  isort: skip  (registers its commands)
from tracereplay.cli import ingest  # noqa: F401  isort: skip  (registers its commands)
from tracereplay.cli import inspect  # noqa: F401  isort: skip  (registers its commands)
from tracereplay.cli import listing  # noqa: F401  isort: skip  (registers its commands)
from tracereplay.cli import pages  # noqa: F401  isort: skip  (registers its commands)
from tracereplay.cli import size  # noqa: F401  isort: skip  (registers its commands)
from tracereplay.cli import sweep  # noqa: F401  isort: skip  (registers its commands)
from tracereplay.cli import record  # noqa: F401  isort: skip  (registers its commands)
from tracereplay.cli import report  # noqa: F401  isort: skip  (registers its commands)
from tracereplay.cli import validate  # noqa: F401  isort: skip  (registers its commands)

__all__ = ["app", "main"]

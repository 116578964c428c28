"""Signals that wait while this machine is changed.

Ctrl-C in the middle of a change would leave it half done, and on the way back half undone. So
SIGINT, SIGTERM and SIGHUP are only noted, and end a run where it naps: between changes, never in one,
and not a second time while everything is put back.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from typing import Any

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NAP_S = 0.05
_noted: list[int] = []


@contextlib.contextmanager
def held_signals() -> Iterator[None]:
    """Note signals until the block is left; one that came too late to end it is raised then."""

    def take(number: int, _: Any) -> None:
        _noted.append(number)

    _noted.clear()
    before: dict[int, Any] = {}
    try:
        for number in _ENDING:
            handler = signal.getsignal(number)
            if handler not in (None, signal.SIG_IGN):  # ignored, as nohup has it
                before[number] = handler
                with contextlib.suppress(ValueError):  # not the main thread: they are none of ours
                    signal.signal(number, take)
        yield
    finally:
        for signal_number, handler in before.items():
            with contextlib.suppress(ValueError):
                signal.signal(signal_number, handler)
    nap(0)


def nap(seconds: float) -> None:
    """Sleep, and raise KeyboardInterrupt or SystemExit where a signal has come."""
    until = time.monotonic() + seconds
    while not _noted:
        left = until - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, _NAP_S))
    first = _noted[0]
    _noted.clear()
    raise KeyboardInterrupt if first == signal.SIGINT else SystemExit(128 + first)

"""Signals that wait while this machine is changed.

Ctrl-C in the middle of a change would leave it half done, and on the way back half undone. So
SIGINT, SIGTERM and SIGHUP are only noted, and end a run where it naps: between changes, never in one,
and not a second time while everything is put back. Elsewhere SIGTERM and SIGHUP unwind as Ctrl-C does.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from typing import Any

_TERMINATING = (signal.SIGTERM, signal.SIGHUP)
_ENDING = (signal.SIGINT, *_TERMINATING)
ENDED_BY = {128 + number for number in _ENDING}  # the status a shell has for each
_NAP_S = 0.05
_UNWINDING_S = 5.0
_noted: list[int] = []


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind like Ctrl-C, so that they leave nothing either.

    A terminal that is closed sends several: those that follow soon do not disturb the unwinding.
    Where somebody handles or ignores these signals already, as nohup does, that stays.
    """
    before: dict[int, Any] = {}
    last = float("-inf")

    def leave(number: int, _: Any) -> None:
        nonlocal last
        if time.monotonic() - last > _UNWINDING_S:
            last = time.monotonic()
            raise SystemExit(128 + number)

    for number in _TERMINATING:
        if signal.getsignal(number) == signal.SIG_DFL:
            with contextlib.suppress(ValueError):  # not the main thread: they are none of ours
                signal.signal(number, leave)
                before[number] = signal.SIG_DFL
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


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

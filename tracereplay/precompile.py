"""Compile the replay in a process of its own, while this one compiles and reads the rest.

Only where no cache holds it, and there is a second CPU: numba compiles one function at a time in a
process. The child leaves its result in the cache of compiled code, where this process finds it; had
it no luck, this process compiles as if there had been no child.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from tracereplay import child_command
from tracereplay._jit import is_cached, tell_compiling
from tracereplay.costs import load_costs
from tracereplay.host.system import cpus
from tracereplay.latency import LatencyModel
from tracereplay.reclaim import find_reclaim
from tracereplay.replay.settings import Scenario
from tracereplay.replay.state import EVENT


class Precompiling:
    """The child, from its start to its end; does nothing where there is nothing to compile.

    It ends with this object, at the latest: nothing is left running after an error.

    Parameters
    ----------
    reclaims : names of the reclaim models that will replay
    """

    def __init__(self, reclaims: Iterable[str]) -> None:
        names = [
            name for name in dict.fromkeys(reclaims) if not is_cached(find_reclaim(name).load())
        ]
        self._child: subprocess.Popen[bytes] | None = None
        if not names or not sys.executable or cpus() < 2:
            return
        tell_compiling()
        try:
            self._child = subprocess.Popen(  # noqa: S603  (our own module)
                child_command("tracereplay.precompile", *names),
                stdin=subprocess.PIPE,  # whose end tells the child that this process is gone
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            return
        weakref.finalize(self, _end, self._child)

    def wait(self, meanwhile: Callable[[], object] | None = None) -> None:
        """Compile what comes after a replay, then wait for the child; at once where that is done."""
        if self._child is None:
            return
        LatencyModel(load_costs()).add(np.zeros(1, EVENT))
        if meanwhile is not None:
            meanwhile()
        self._child.wait()
        _end(self._child)
        self._child = None


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.kill()
    with child:  # closes its end of the pipe
        child.wait()


def compile_replays(names: Sequence[str]) -> None:
    """Compile the replay of each reclaim model, by one touch of one page, as `compare` feeds it."""
    for name in names:
        model = find_reclaim(name)
        replay = model.replay(
            Scenario(policy="store-raw", reclaim=name, memory_limit_bytes=1 << 20),
            rows=1,
            unique_pages=1,
        )
        replay.add_pages(
            np.full(1, 2048, np.uint16),
            np.zeros(1, np.bool_),
            np.zeros(1, np.bool_),
            np.zeros(1, np.uint8),
        )
        touch = (
            np.zeros(1, np.uint32),
            np.zeros(1, np.bool_),
            np.zeros(0, np.int64),
            np.zeros(int(model.needs_next_use), np.int64),
        )
        for each in touch:
            each.flags.writeable = False
        replay.feed(0, *touch, lambda _: None)


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.disable()  # a compiler makes millions of objects, and this process ends with it
    compile_replays(sys.argv[1:])

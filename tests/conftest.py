import os
import signal

import numba
import pytest
from hypothesis import settings

# The first call of a kernel compiles it, which is no reason to fail; the examples are the same in
# every run.
settings.register_profile("tests", deadline=None, derandomize=True)
settings.load_profile("tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes without compiled kernels: NUMBA_DISABLE_JIT=1 runs the rest."""
    if not numba.config.DISABLE_JIT:
        return
    left_out = [item for item in items if item.get_closest_marker("compiled")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def hang_up():
    """Let SIGHUP and SIGINT end children as they do: nohup, and a shell's `&`, have them ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def short_fuzz(monkeypatch):
    """Return fuzz_readers.run(); what it changes of the readers is put back afterwards."""
    import fuzz_readers

    monkeypatch.setenv("PATH", os.environ["PATH"])  # it takes perf away
    for module in (fuzz_readers.delimited, fuzz_readers.lackey, fuzz_readers.perf_script):
        monkeypatch.setattr(module, "_ROWS", module._ROWS)
    for name in ("_ROWS", "_HELD_ROWS", "_CHUNK_BYTES"):
        monkeypatch.setattr(fuzz_readers.perf_data, name, getattr(fuzz_readers.perf_data, name))
    monkeypatch.setattr(fuzz_readers.damon, "_MAX_ALL_PAGES", 1 << 16)
    return fuzz_readers.run

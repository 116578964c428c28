"""Measure the memory of a replay against its formula: `python -m benchmarks.replay_memory`.

Two lists, zswap and zsmalloc. The accesses are made batch by batch and stored nowhere. Peak resident
memory is read from the kernel once a small replay is done, whose buffers of events and footprint
points take the same as those of any other (1 MiB), and at the end.
"""

import argparse
import time

import numpy as np

from benchmarks.memory import peak_bytes
from tracereplay.content import open_content
from tracereplay.reclaim import find_reclaim
from tracereplay.replay import state as st
from tracereplay.replay.engine import Replay
from tracereplay.replay.settings import Scenario
from tracereplay.trace import BATCH_ROWS
from tracereplay.units import PAGE_BYTES

PIECE = 1 << 16
NO_ROWS = np.empty(0, np.int64)
NO_ROWS.flags.writeable = False


def formula_bytes(pages: int, zspages: int) -> int:
    """Return what grows with the distinct pages of one scenario, whatever the length of its trace.

    For each distinct page a state byte, a record, two neighbours for readahead and two places in the
    zswap order: 49 bytes; for each zspage, as many as were in use at once, a record of 16.
    """
    return (1 + st.PAGE.itemsize + 4 * 4) * pages + st.ZSPAGE.itemsize * zspages


def replay(accesses: int, pages: int, share: float) -> tuple[Replay, float]:
    """Replay uniform accesses to `pages` pages, a third of them writes; return it and its seconds."""
    rng = np.random.default_rng(1)
    content = open_content(name="redis-json")
    scenario = Scenario(
        policy="store-raw",
        reclaim="two-list",
        memory_limit_bytes=int(pages * share) * PAGE_BYTES,
        stat_flush_ns=0,
    )
    made = find_reclaim("two-list").replay(scenario, rows=accesses, unique_pages=pages)
    for first in range(0, pages, PIECE):  # known little by little, as the pages of a trace are
        numbers = np.arange(first, min(first + PIECE, pages))
        drawn = content.for_pages(numbers.astype(np.uint64))
        tables = np.zeros(numbers.size, np.uint8)
        made.add_pages(drawn.compressed_bytes, drawn.zero_filled, drawn.same_filled, tables)
        made.add_neighbours(numbers[:-1], numbers[1:])
    took = 0.0
    for start in range(0, accesses, BATCH_ROWS):
        rows = min(BATCH_ROWS, accesses - start)
        page_ids = rng.integers(0, pages, rows, dtype=np.uint32)
        is_write = page_ids % 3 == 0
        page_ids.flags.writeable = is_write.flags.writeable = False
        began = time.process_time()
        made.feed(start, page_ids, is_write, NO_ROWS, NO_ROWS, lambda _events: None)
        took += time.process_time() - began
    return made, took


def main() -> None:
    """Measure one length; run it once per length, the peak never falls."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay_memory", description=__doc__)
    parser.add_argument("--accesses", type=int, default=100_000_000)
    parser.add_argument("--pages", type=int, default=2_000_000)
    parser.add_argument("--share", type=float, default=0.9, help="memory, of the pages' bytes")
    chosen = parser.parse_args()
    replay(2 * BATCH_ROWS, 1 << 12, 0.9)  # code, batches, and what the allocator keeps
    before = peak_bytes()
    made, took = replay(chosen.accesses, chosen.pages, chosen.share)
    measured = peak_bytes() - before
    zspages = int(made.machine[0]["next_zspage"])
    expected = formula_bytes(chosen.pages, zspages)
    counters = made.counters()
    print(
        f"{chosen.accesses:,} accesses, {chosen.pages:,} pages, "
        f"{counters['pgmajfault']:,} major faults: {measured / 2**20:.1f} MiB, "
        f"formula {expected / 2**20:.1f} MiB ({measured / expected - 1:+.1%}), "
        f"{chosen.accesses / took / 1e6:.0f} M/s"
    )


if __name__ == "__main__":
    main()

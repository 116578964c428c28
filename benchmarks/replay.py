"""Time the replay of the kernel's two lists: `python -m benchmarks.replay`.

Two-list reclaim, zswap and zsmalloc, page ids in memory, a third of the accesses writes, processor
seconds of one thread. Before anything is timed, batches of another size must give the same counters.
Then every policy at half the footprint, against one LRU replay by libcachesim.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.peers import libcachesim_misses, write_oracle_general
from benchmarks.traces import FIRST_PAGE, TRACES
from tracereplay.content import open_content
from tracereplay.dense import DenseIds
from tracereplay.policies import POLICIES
from tracereplay.reclaim import find_reclaim
from tracereplay.replay.engine import Replay
from tracereplay.replay.settings import Scenario
from tracereplay.trace import BATCH_ROWS
from tracereplay.units import PAGE_BYTES

NO_ROWS = np.empty(0, np.int64)
NO_ROWS.flags.writeable = False


def replay(
    page_ids: np.ndarray,
    share: float,
    policy: str = "store-raw",
    batch_rows: int = BATCH_ROWS,
    cgroup: str = "v2",
) -> tuple[dict[str, int], float]:
    """Return the counters and the seconds of the replay alone."""
    pages = int(page_ids.max()) + 1
    scenario = Scenario(
        policy=policy,
        reclaim="two-list",
        cgroup=cgroup,
        memory_limit_bytes=int(pages * share) * PAGE_BYTES,
        stat_flush_ns=0,  # exact statistics: stale ones may end in an OOM kill
    )
    made = Replay(scenario, find_reclaim("two-list").load(), rows=page_ids.size, unique_pages=pages)
    drawn = open_content(name="redis-json").for_pages(np.arange(pages, dtype=np.uint64))
    made.add_pages(
        drawn.compressed_bytes, drawn.zero_filled, drawn.same_filled, np.zeros(pages, np.uint8)
    )
    is_write = page_ids % 3 == 0
    is_write.flags.writeable = False
    began = time.process_time()
    for start in range(0, page_ids.size, batch_rows):
        stop = start + batch_rows
        rows = page_ids[start:stop]
        made.feed(start, rows, is_write[start:stop], NO_ROWS, NO_ROWS, lambda _events: None)
    made.finish()
    return made.counters(), time.process_time() - began


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__)
    parser.add_argument("--accesses", type=int, default=10_000_000)
    parser.add_argument("--pages", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--traces", nargs="*", choices=list(TRACES), default=list(TRACES))
    chosen = parser.parse_args()
    for name in chosen.traces:
        pages = TRACES[name](chosen.accesses, chosen.pages).astype(np.uint64)
        page_ids = DenseIds().number(pages)
        page_ids.flags.writeable = False
        part = page_ids[: max(1000, page_ids.size // 20)]
        assert replay(part, 0.5)[0] == replay(part, 0.5, batch_rows=997)[0]
        for share in (0.5, 0.1):
            runs = [replay(page_ids, share) for _ in range(chosen.runs)]
            took = statistics.median(seconds for _, seconds in runs)
            counters = runs[0][0]
            faults = counters["pgmajfault"] + counters["minor_faults"]
            done = "" if not counters["oom_events"] else ", ended in an OOM kill"
            print(
                f"{name}, memory {share:.0%}: {page_ids.size / took / 1e6:.1f} M accesses/s, "
                f"{faults:,} faults, {took / faults * 1e9:.0f} ns each with all hits{done}"
            )
        ours = sum(replay(page_ids, 0.5, policy)[1] for policy in POLICIES)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.bin"
            write_oracle_general(pages + np.uint64(FIRST_PAGE), path)
            began = time.process_time()
            libcachesim_misses(
                path, (int(page_ids.max()) + 1) // 2, accesses=pages.size, fitted=False
            )
            theirs = time.process_time() - began
        print(
            f"{name}: {len(POLICIES)} policies {ours:.2f} s, "
            f"one LRU replay of libcachesim {theirs:.2f} s"
        )


if __name__ == "__main__":
    main()

"""Time the replay of the kernel's two lists: `python -m benchmarks.replay`.

Two-list reclaim, zswap and zsmalloc, page ids in memory, a third of the accesses writes, processor
seconds of one thread. Before anything is timed, batches of another size must give the same counters.
Then every policy at half the footprint, against one LRU replay by libcachesim.
"""

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
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
from tracereplay.replay.sharing import feed_all, group
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
    made = prepared(page_ids, share, policy, cgroup)
    parts = batches(page_ids, batch_rows)
    began = time.process_time()
    for start, rows, is_write in parts:
        made.feed(start, rows, is_write, NO_ROWS, NO_ROWS, lambda _events: None)
    return made.counters(), time.process_time() - began


def replay_all(
    page_ids: np.ndarray, share: float, cgroup: str = "v2", workers: int = 1
) -> tuple[dict[str, dict[str, int]], float, float]:
    """Replay every policy as `compare` does; return counters by policy, processor and wall seconds."""
    members = [Member(prepared(page_ids, share, policy, cgroup)) for policy in POLICIES]
    parts = batches(page_ids, BATCH_ROWS)
    began, began_wall = time.process_time(), time.monotonic()
    groups = group(members, lambda _: None)
    with ThreadPoolExecutor(workers) as pool:
        for batch in parts:
            feed_all(groups, batch, batch[1].size, Member.feed, pool)
    for each in groups:
        each.finish()
    took = time.process_time() - began, time.monotonic() - began_wall
    return {each.replay.scenario.policy: each.replay.counters() for each in members}, *took


class Member:
    """One policy of several that share replays; nothing is made of its events."""

    def __init__(self, made: Replay) -> None:
        self.replay = made

    def feed(self, batch: tuple[int, np.ndarray, np.ndarray], start: int) -> None:
        """Replay a batch from a row on."""
        self.replay.feed(*batch, NO_ROWS, NO_ROWS, lambda _events: None, start=start)

    def continue_from(self, other: "Member") -> None:
        """Go on by itself."""
        self.replay.continue_from(other.replay)

    def take_results(self, other: "Member") -> None:
        """Take over what another counted."""
        self.replay.take_results(other.replay)


def batches(page_ids: np.ndarray, batch_rows: int) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Return first row, ids and writes, a third of them, of each batch; drawn before the clock starts."""
    is_write = page_ids % 3 == 0
    is_write.flags.writeable = False
    starts = range(0, page_ids.size, batch_rows)
    return [(s, page_ids[s : s + batch_rows], is_write[s : s + batch_rows]) for s in starts]


def prepared(page_ids: np.ndarray, share: float, policy: str, cgroup: str) -> Replay:
    """Return a replay of the two lists before its first batch."""
    pages = int(page_ids.max()) + 1
    scenario = Scenario(
        policy=policy,
        reclaim="two-list",
        cgroup=cgroup,
        memory_limit_bytes=int(pages * share) * PAGE_BYTES,
        stat_flush_ns=0,  # exact statistics: stale ones may end in an OOM kill
    )
    made = find_reclaim("two-list").replay(scenario, rows=page_ids.size, unique_pages=pages)
    drawn = open_content(name="redis-json").for_pages(np.arange(pages, dtype=np.uint64))
    made.add_pages(
        drawn.compressed_bytes, drawn.zero_filled, drawn.same_filled, np.zeros(pages, np.uint8)
    )
    return made


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
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.bin"
            write_oracle_general(pages + np.uint64(FIRST_PAGE), path)
            began = time.process_time()
            libcachesim_misses(
                path, (int(page_ids.max()) + 1) // 2, accesses=pages.size, fitted=False
            )
            theirs = time.process_time() - began
        print(f"{name}: one LRU replay of libcachesim {theirs:.2f} s")
        workers = len(os.sched_getaffinity(0))
        for cgroup in ("v1", "v2"):
            _, ours, _ = replay_all(page_ids, 0.5, cgroup)
            _, _, wall = replay_all(page_ids, 0.5, cgroup, workers)
            print(
                f"{name}, {cgroup}: {len(POLICIES)} policies {ours:.2f} s of one processor, "
                f"{wall:.2f} s by {workers}"
            )


if __name__ == "__main__":
    main()

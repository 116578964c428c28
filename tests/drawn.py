"""Random scenarios and traces for the engine and its twin, and the engine fed with them."""

from __future__ import annotations

import dataclasses
import itertools
import random

import numpy as np
import oracle

from tracereplay.costs import Means
from tracereplay.reclaim import find_reclaim
from tracereplay.replay import state
from tracereplay.replay.page_tables import PageTables
from tracereplay.replay.settings import KERNELS, Scenario

TEXTBOOK = tuple(name for name, is_textbook in oracle.RECLAIM.items() if is_textbook)

NOTHING = np.empty(0, np.int64)


@dataclasses.dataclass(frozen=True)
class Given:
    """One example: settings and a trace."""

    case: oracle.Case
    contents: dict[int, dict]
    accesses: list[oracle.Access]
    cuts: tuple[int, ...] = ()


def next_uses(pages):
    """Row of each next use; a page never used again gets a number of its own, so nothing ties."""
    ahead, seen = [0] * len(pages), {}
    for row in range(len(pages) - 1, -1, -1):
        ahead[row] = seen.get(pages[row], 10 * len(pages) + row)
        seen[pages[row]] = row
    return ahead


def make_replay(given_):
    case = given_.case
    scenario = Scenario(
        policy=case.policy,
        memory_limit_bytes=case.limit_bytes,
        reclaim=case.reclaim,
        kernel=case.kernel,
        cgroup=case.cgroup,
        allocator=case.allocator,
        pool_limit_bytes=case.pool_limit_pages * 4096,
        accept_threshold_percent=case.accept_percent,
        swap_bytes=None if case.swap_slots is None else case.swap_slots * 4096,
        zswap_max_bytes=None if case.zswap_max_pages is None else case.zswap_max_pages * 4096,
        page_cluster=case.page_cluster,
        swappiness=case.swappiness,
        stat_flush_ns=case.flush_period_ns,
        touch_ns=case.touch_ns,
    )
    model = find_reclaim(case.reclaim)
    flushes = case.flush_times_ns
    replay = model.replay(
        scenario,
        rows=len(given_.accesses),
        unique_pages=len(given_.contents),
        means=Means(**dataclasses.asdict(case.costs)),
        flush_times_ns=None if flushes is None else np.array(flushes, np.int64),
        clock_has_stalls=case.clock_has_stalls,
        one_cpu=case.one_cpu,
        vma_readahead=case.vma_readahead,
        fresh_boot=case.fresh_boot,
        cpus=case.cpus,
        remote_stock_pages=case.remote_stock,
    )
    numbers = sorted(given_.contents)
    what = [given_.contents[number] for number in numbers]
    bits = {0: 0, 1: state.NEW_TABLE, 2: state.NEW_TABLE | state.NEW_MIDDLE}
    replay.add_pages(
        np.array([each["compressed"] for each in what], np.uint16),
        np.array([each["zero"] for each in what], np.bool_),
        np.array([each["same"] for each in what], np.bool_),
        np.array([bits[each["new_tables"]] for each in what], np.uint8),
    )
    below = np.array(
        [at for at, number in enumerate(numbers[:-1]) if numbers[at + 1] == number + 1], np.int64
    )
    begins_table = np.array([numbers[at + 1] % 512 == 0 for at in below], np.bool_)
    replay.add_neighbours(below, below + 1, begins_table)
    if model.walks_page_tables:
        tables = PageTables(len(numbers))
        tables.add(np.array(numbers, np.uint64))
        replay.use_page_tables(tables)
    return replay


def batches(given_, cuts=()):
    """Yield first row, ids, writes, times and next uses of each batch."""
    accesses = given_.accesses
    ids = {number: at for at, number in enumerate(sorted(given_.contents))}
    edges = [0, *sorted(cut for cut in cuts if cut < len(accesses)), len(accesses)]
    for start, stop in itertools.pairwise(edges):
        part = accesses[start:stop]
        timed = bool(part) and part[0].time_ns is not None
        columns = (
            np.array([ids[access.page] for access in part], np.uint32),
            np.array([access.write for access in part], np.bool_),
            np.array([access.time_ns for access in part], np.int64) if timed else NOTHING.copy(),
            np.array([access.next_use for access in part], np.int64),
        )
        for column in columns:
            column.flags.writeable = False
        yield start, *columns


def feed(replay, given_, cuts=(), on_events=lambda _: None):
    for batch in batches(given_, cuts):
        if not replay.feed(*batch, on_events):
            break
    return replay


def chain(replay, head, link="prev"):
    """Return pages of a list from its tail (the old end) to its head."""
    found, at = [], int(replay.pages[head][link])
    while at != head:
        found.append(at - state.FIRST_PAGE)
        at = int(replay.pages[at][link])
    return found


def in_order(replay, *, kept):
    """Return pages of the zswap order, or those a policy kept, the oldest first."""
    found = []
    for at in range(1, int(replay.machine[0]["order_end"])):
        record = replay.pages[replay.zswap_order[at]]
        if record["place"] == at and bool(record["flags"] & state.KEPT_IDLE) == kept:
            found.append(int(replay.zswap_order[at]) - state.FIRST_PAGE)
    return found


# ---- what is drawn -------------------------------------------------------------------------------------


SIZES = (1, 24, 25, 100, 500, 900, 1500, 2048, 2990, 2991, 3000, 3624, 3625, 3960, 3961, 4095, 4096)


def draw_content(rng, mix):
    kind = rng.choices(("zero", "same", "raw", "size"), mix)[0]
    size = rng.choice((rng.choice(SIZES), rng.randint(1, 4096)))
    return {
        "zero": kind == "zero",
        "same": kind in ("zero", "same"),
        "compressed": 4096 if kind == "raw" else size,
        "new_tables": 0,
    }


MIXES = ((1, 1, 3, 10), (0, 0, 0, 1), (0, 0, 1, 1), (0, 0, 1, 0), (2, 2, 1, 1))


def draw_contents(rng, numbers, *, tables):
    mix = rng.choice(MIXES)
    contents = {number: draw_content(rng, mix) for number in numbers}
    for number in rng.sample(sorted(contents), min(tables, len(contents))):
        contents[number]["new_tables"] = rng.choice((1, 2))
    return contents


def draw_case(rng, policy, reclaim, limit_pages, pages):
    kernel = rng.choice(sorted(KERNELS))
    allocators = ("zsmalloc", *sorted(KERNELS[kernel].allocators))
    pool = rng.choice((0, 1, 2, 4, 8, 16, 32, 1000))
    flush = rng.choice((0, 0, 2_000_000_000, 1_000_000, 50_000))
    times = None
    if rng.random() < 0.2:
        times = tuple(sorted(rng.randint(0, 5_000_000) for _ in range(rng.randint(0, 6))))
    return oracle.Case(
        policy=policy,
        reclaim=reclaim,
        limit_bytes=limit_pages * 4096 + rng.choice((0, 0, 1, 4095)),
        pool_limit_pages=pool,
        kernel=kernel,
        cgroup=rng.choice(("v1", "v2")),
        allocator=rng.choice(allocators),
        accept_percent=rng.choice((90, 90, 50, 100, 0)),
        swap_slots=rng.choice((None, None, None, 2 * pages, pages, pages // 2, 3)),
        zswap_max_pages=rng.choice((None, None, None, 0, 1, 4)),
        page_cluster=rng.choice((0, 0, 1, 2, 3, 5)),
        vma_readahead=rng.random() < 0.5,
        fresh_boot=rng.random() < 0.3,
        swappiness=rng.choice((60, 60, 100, 200, 1, 0)),
        flush_period_ns=flush,
        flush_times_ns=times,
        touch_ns=rng.choice((100, 1, 10_000)),
        cpus=rng.choice((1, 2, 4)),
        remote_stock=rng.choice((0, 0, 7)) if reclaim in ("two-list", "mglru") else 0,
        clock_has_stalls=rng.random() < 0.2,
        one_cpu=rng.random() < 0.3,
        costs=oracle.Costs(
            walk_ns=rng.choice((100, 0, 40_000)),
            device_write_ns=rng.choice((20_000, 1_000, 3_000_000)),
            device_write_page_ns=rng.choice((20_000, 100)),
            writeback_ns=rng.choice((0, 40_000)),
            request_ns=rng.choice((0, 3_000)),
            behind_ns=rng.choice((0, 170_000)),
        ),
    )


def draw_time(rng, rows):
    if rng.random() < 0.5:
        return [None] * rows
    step = rng.choice((100, 5_000, 200_000))
    now, times = 0, []
    for _ in range(rows):
        times.append(now)
        now += rng.randint(0, step)
    return times


def with_rows(case, contents, pages, writes, times, cuts=()):
    rows = zip(pages, writes, times, next_uses(pages), strict=True)
    return Given(case, contents, [oracle.Access(*row) for row in rows], cuts)


def draw_pages(rng, numbers, rows):
    """Phases: a loop, a scan, a hot set, anything; what makes lists, readahead and refaults move."""
    pages = []
    while len(pages) < rows:
        length = rng.randint(1, rows)
        span = rng.randint(1, len(numbers))
        start = rng.randrange(len(numbers))
        some = [numbers[(start + step) % len(numbers)] for step in range(span)]
        how = rng.choice(("loop", "back", "hot", "any"))
        if how == "loop":
            pages += [some[step % span] for step in range(length)]
        elif how == "back":
            pages += [some[-1 - step % span] for step in range(length)]
        elif how == "hot":
            pages += [some[min(int(rng.expovariate(4 / span)), span - 1)] for _ in range(length)]
        else:
            pages += rng.choices(some, k=length)
    return pages[:rows]


def draw_numbers(rng, count):
    """Page numbers with gaps and the border of a page table among them."""
    first = rng.choice((0, 3, 500, 1000))
    numbers, number = [], first
    while len(numbers) < count:
        numbers.append(number)
        number += rng.choices((1, 2, 30), (20, 1, 1))[0]
    return numbers


def draw_two_list(seed, policy, *, longest=400):
    rng = random.Random(seed)
    count = rng.choice((50, 80, 110, 150))
    limit = rng.choice((1, 5, 33, 40, 64, 70, 90))
    limit = limit if rng.random() < 0.2 else rng.choice((33, 40, 48, 64, 70, 90))
    numbers = draw_numbers(rng, count)
    case = draw_case(rng, policy, "two-list", limit, count)
    contents = draw_contents(rng, numbers, tables=rng.choice((0, 0, 2)))
    rows = rng.randint(100, longest)
    share = rng.choice((0.0, 0.3, 1.0))
    pages = draw_pages(rng, numbers, rows)
    writes = [rng.random() < share for _ in pages]
    cuts = tuple(rng.randrange(rows) for _ in range(rng.choice((0, 0, 1, 5))))
    return with_rows(case, contents, pages, writes, draw_time(rng, rows), cuts)


def draw_mglru(seed, policy, *, longest=700):
    """Enough pages for several batches of 64, in few page tables, so that neighbours matter."""
    rng = random.Random(seed)
    count = rng.choice((110, 150, 260, 400))
    limit = rng.choice((40, 64, 70, 100, 130, 200, 300))
    numbers = draw_numbers(rng, count)
    if rng.random() < 0.3:  # spread out: a look-around finds nobody
        numbers = [number * 37 for number in numbers]
    case = draw_case(rng, policy, "mglru", limit, count)
    contents = draw_contents(rng, numbers, tables=rng.choice((0, 0, 2)))
    rows = rng.randint(200, longest)
    share = rng.choice((0.0, 0.3, 1.0))
    order = list(numbers)
    rng.shuffle(order)
    first = order if rng.random() < 0.3 else numbers
    pages = [*first[: rng.choice((0, len(first)))], *draw_pages(rng, numbers, rows)]
    writes = [rng.random() < share for _ in pages]
    cuts = tuple(rng.randrange(rows) for _ in range(rng.choice((0, 0, 1, 5))))
    return with_rows(case, contents, pages, writes, draw_time(rng, len(pages)), cuts)


def draw_textbook(seed, policy, reclaim):
    rng = random.Random(seed)
    count = rng.randint(1, 12)
    case = draw_case(rng, policy, reclaim, rng.randint(1, 9), count)
    contents = draw_contents(rng, draw_numbers(rng, count), tables=0)
    rows = rng.randint(1, 80)
    pages = draw_pages(rng, sorted(contents), rows)
    writes = [rng.random() < 0.4 for _ in pages]
    cuts = tuple(rng.randrange(rows) for _ in range(rng.choice((0, 0, 3))))
    return with_rows(case, contents, pages, writes, draw_time(rng, rows), cuts)

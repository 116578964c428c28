"""Replays recorded kernel runs and puts the model's counters beside the kernel's own.

recorded.py reads a run, clocks.py says when its touches came, replaying.py replays it; here both
sides are compared, and costs are fitted to the times of touches.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tracereplay.costs import RECORDED, SCHEMA, ZRAM, Costs, load_costs, own_disks, with_sections
from tracereplay.errors import InputError, SettingsError, unknown_name
from tracereplay.policies import find_policy
from tracereplay.reclaim import RECLAIM
from tracereplay.replay.settings import KERNELS, stores_raw, unknown_kernel
from tracereplay.schema import AGREEMENT, polars_schema
from tracereplay.touch_times import fit_device, fit_faults, predict_touches, slow_touches
from tracereplay.units import format_count
from tracereplay.validation.recorded import (
    COUNTERS,
    RecordedRun,
    Repeat,
    find_runs,
    load_run,
    read_json,
)
from tracereplay.validation.replaying import (
    Workload,
    load_workload,
    replay_repeat,
    replay_timed,
    touch_costs,
)

# Of runs whose trace holds `touch_ns`: percentiles of the touches over 1 us, and the sum of all.
TOUCH_COUNTERS = ("touch_p50_ns", "touch_p90_ns", "touch_p99_ns", "touch_total_ns")
_TIMED_DEVICE = "virtual-disk"  # as the bundled table calls the disk of those runs
_HEADLINE = ("pgmajfault", "zswpin", "zswpout", "pswpin", "pswpout")
_FEW = 2000  # counters below it differ by single events of the recorder's own pages
_FEW_PAGES = 20  # in other swap areas: of other processes
# Where the kernel counted none, the model may count so many; of kills, it is the share of replays.
_STRAY_EVENTS = 60
_STRAY_KILLS = 0.25


def validate(
    folders: str | Path | Iterable[str | Path],
    *,
    run: str | None = None,
    counters: Sequence[str] | None = None,
    jobs: int | None = None,
    costs: str | Path | None = None,
    kernel: str | None = None,
    skipped: Callable[[str], None] = lambda _: None,
) -> pl.DataFrame:
    """Replay recorded runs and return the model's counters beside the kernel's.

    Parameters
    ----------
    folders : one or more, with NAME.json, and its trace and page table beside it or where its keys say
    run : only runs whose name contains this
    counters : only these; None is all of COUNTERS and TOUCH_COUNTERS
    costs : cost table for the times of touches; None uses the bundled one of those runs
    jobs : threads; None uses every core
    kernel : whose rules the replays follow; None is the one each ran on, or the nearest there is
    skipped : called with a line for each run that is left out, and for each release without rules of
        its own

    Returns
    -------
    one row per run and counter, schema AGREEMENT; the model's spread is over both ends of the
    writeback worker's timing too (replay.engine.WORKER_TIMING) where it ran. `oom_events` is the
    share of repeats that were killed. Runs whose touches were timed have TOUCH_COUNTERS too:
    percentiles over the touches of every repeat, or of the one whose times were kept where the
    others' are not recorded, and the sum of every repeat.

    Raises
    ------
    TracereplayError
        No run is there, or one cannot be read.
    """
    if kernel is not None and kernel not in KERNELS:
        raise unknown_kernel(kernel)
    if isinstance(folders, str | Path):
        folders = [folders]
    for name in counters or ():
        if name not in (*COUNTERS, *TOUCH_COUNTERS):
            raise unknown_name("counter", name, [*COUNTERS, *TOUCH_COUNTERS])
    runs = _runs_to_replay(folders, run, kernel, skipped)
    rows: list[dict[str, Any]] = []
    prices = {
        (run.scenario.codec, run.scenario.policy): touch_costs(run, costs)
        for run in runs
        if not run.emulated and run.touches_ns
    }
    for codec in sorted(
        {codec for (codec, _), each in prices.items() if not each.decompress_points}
    ):
        skipped(
            f"no costs of {codec} on pages like the recorder's: touch times go by those of real pages"
        )
    workers = jobs or os.cpu_count() or 1
    pool = ThreadPoolExecutor(workers)
    try:
        under_way: deque[tuple[RecordedRun, Workload, list[Future[dict[str, float]]]]] = deque()
        for each in runs:
            load = load_workload(each)
            tasks = [
                pool.submit(
                    _replay_beside,
                    each,
                    load,
                    repeat,
                    prices.get((each.scenario.codec, each.scenario.policy)),
                )
                if nth == each.timed_repeat and load.touch_ns is not None
                else pool.submit(replay_repeat, each, load, repeat)
                for nth, repeat in enumerate(each.replays)
            ]
            under_way.append((each, load, tasks))
            if len(under_way) > workers:  # as many traces in memory as keep all busy
                rows += _finish(*under_way.popleft(), pool)
        while under_way:
            rows += _finish(*under_way.popleft(), pool)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # whoever interrupts waits for no replay
    frame = pl.DataFrame(rows, schema=polars_schema(AGREEMENT))
    return frame if counters is None else frame.filter(pl.col("counter").is_in(counters))


def _runs_to_replay(
    folders: Iterable[str | Path],
    run: str | None,
    kernel: str | None,
    skipped: Callable[[str], None],
) -> list[RecordedRun]:
    """Return the runs that can be replayed; the others, and what is known of them, go to `skipped`."""
    paths = [path for path in find_runs(folders, skipped) if run is None or run in path.stem]
    if not paths:
        raise InputError(f"no recorded run has {run!r} in its name")
    runs: list[RecordedRun] = []
    for path in paths:
        wanted = read_json(path).get("reclaim", "two-list")
        if wanted not in RECLAIM:
            skipped(f"{path.stem}: skipped, no reclaim model {wanted}")
            continue
        try:
            each = load_run(path, kernel)
        except SettingsError as error:  # the kernel has no such settings
            skipped(f"{path.stem}: skipped: {error}")
            continue
        missing = [str(p) for p in (each.trace, each.pages) if not p.is_file()]
        if missing:
            skipped(f"{each.name}: skipped, {' and '.join(missing)} missing")
            continue
        runs.append(each)
    if not runs:
        raise InputError("no recorded run is left to be replayed")
    for release, rules in sorted({(one.release, one.scenario.kernel) for one in runs}):
        if release not in KERNELS and kernel is None:
            skipped(
                f"Linux {release} has no rules of its own: replayed by the nearest, those of {rules}"
            )
    for each in runs:
        rules = each.scenario.kernel
        if stores_raw(rules) != stores_raw(each.release) and each.scenario.policy == "shrinker":
            stored = "stored" if stores_raw(rules) else "refused"
            skipped(f"{each.name}: what does not shrink is {stored} as by Linux {rules}")
    for each in runs:
        if each.spilled_pages > _FEW_PAGES:
            skipped(
                f"{each.name}: its swap was full, and {each.spilled_pages:,} pages went to other swap "
                "areas, which the model does not have"
            )
    return runs


def _finish(
    run: RecordedRun, load: Workload, tasks: Sequence[Future[dict[str, float]]], pool: Executor
) -> list[dict[str, Any]]:
    """Return the rows of a run whose repeats are being replayed."""
    modelled = [task.result() for task in tasks]
    ends: list[Future[dict[str, float]]] = []
    if any(counters["zswpwb"] for counters in modelled):
        repeat = run.replays[0]
        ends = [
            pool.submit(replay_repeat, run, load, repeat, timing) for timing in ("early", "late")
        ]
    return compare_counters(run, modelled, [end.result() for end in ends])


def _replay_beside(
    run: RecordedRun, load: Workload, repeat: Repeat, costs: Costs | None
) -> dict[str, float]:
    """Replay the repeat whose touches were timed; return counters, and the times on both sides."""
    counters, timed = replay_timed(run, load, repeat)
    if costs is None:
        return counters
    predicted = predict_touches(timed.page_ids, timed.events, costs)
    counters |= {f"model {name}": value for name, value in slow_touches(predicted).items()}
    counters |= {f"kernel {name}": value for name, value in slow_touches(timed.touch_ns).items()}
    return counters


def compare_counters(
    run: RecordedRun,
    modelled: Sequence[dict[str, float]],
    ends: Sequence[dict[str, float]] = (),
) -> list[dict[str, Any]]:
    """Return one row per counter that either side has seen.

    `ends` are replays with the worker's timing at either end; they widen model_min and model_max.
    """
    survives = run.killed < run.repeats
    alike = [counters for counters in modelled if bool(counters["finished"]) == survives]
    pairs = list(zip(run.ends, modelled, strict=False)) if len(run.ends) == len(modelled) else []
    of_kernel = run.kernel_counters
    if any(ended != bool(counters["finished"]) for ended, counters in pairs):
        # Each replay is of a repeat: those that ended otherwise on either side are left out of both.
        both = [ended == survives == bool(counters["finished"]) for ended, counters in pairs]
        alike = list(itertools.compress(modelled, both))
        of_those = [kept for kept, ended in zip(both, run.ends, strict=True) if ended == survives]
        of_kernel = tuple(itertools.compress(run.kernel_counters, of_those))
    rows = []
    for name in COUNTERS:
        if name == "oom_events":
            kernel = [run.killed / run.repeats]
            model = [sum(not counters["finished"] for counters in modelled) / len(modelled)]
        elif name == "oom_at_touch":
            kernel = list(run.killed_at)
            model = [counters[name] for counters in modelled if name in counters]
            if not kernel or not model:
                continue
        else:
            kernel = [counters[name] for counters in of_kernel if name in counters]
            kernel = kernel or [each[name] for each in run.kernel_counters if name in each]
            # A killed run is compared as far as it came, where the kernel's were all killed too.
            model = [counters[name] for counters in alike]
        spread = list(model)
        if name not in ("oom_events", "oom_at_touch"):
            spread += [counters[name] for counters in ends]
        row = _row(run, name, kernel, model, spread)
        if row["kernel"] or row["model"] or name == "oom_events":
            rows.append(row)
    timed = modelled[run.timed_repeat]
    return rows + (_compare_touches(run, timed) if timed["finished"] else [])


def _row(
    run: RecordedRun,
    counter: str,
    kernel: Sequence[float],
    model: Sequence[float],
    spread: Sequence[float],
) -> dict[str, Any]:
    """Return a row of AGREEMENT; `spread` is of the model."""
    kernel_mean = float(np.mean(kernel)) if kernel else None
    model_mean = float(np.mean(model)) if model else None
    return {
        "run": run.name,
        "counter": counter,
        "kernel": kernel_mean,
        "model": model_mean,
        "error": model_mean / kernel_mean - 1 if kernel_mean and model_mean is not None else None,
        "kernel_min": float(min(kernel)) if kernel else None,
        "kernel_max": float(max(kernel)) if kernel else None,
        "model_min": float(min(spread)) if spread else None,
        "model_max": float(max(spread)) if spread else None,
        "release": run.release,
        "reclaim": run.scenario.reclaim,
        "cgroup": run.scenario.cgroup,
        "rules": run.scenario.kernel,
        "policy": run.scenario.policy,
    }


def _compare_touches(run: RecordedRun, beside: dict[str, float]) -> list[dict[str, Any]]:
    """Return the rows of TOUCH_COUNTERS; none where the touches of a run were not timed."""
    rows = []
    for name in TOUCH_COUNTERS:
        if f"kernel {name}" not in beside or f"model {name}" not in beside:
            continue
        kernel, model = [beside[f"kernel {name}"]], beside[f"model {name}"]
        if name == "touch_total_ns" and run.touches_ns:
            kernel = [float(total) for total in run.touches_ns]
        elif run.slow_touches:
            kernel = [repeat[name] for repeat in run.slow_touches]
        rows.append(_row(run, name, kernel, [model], [model]))
    return rows


def fit_costs(
    folders: Iterable[str | Path], names: Sequence[str], base: str | Path | None = None
) -> dict[str, Any]:
    """Return a cost table fitted to the touch times of one run with zswap, and one without.

    The run with zswap gives faults, reclaim and decompression, the one without gives the device;
    either may be missing: the disk is that of `base`, or of the bundled table, then. The rules stand in
    touch_times.

    Parameters
    ----------
    names : of the runs
    base : cost table for what touches do not tell; None is the bundled one

    Raises
    ------
    InputError
        A run is not there, its touches were not timed, or two of one kind are named.
    """
    paths = {path.stem: path for path in find_runs(folders)}
    table: dict[str, Any] = {
        "schema": SCHEMA,
        "name": "fit of " + " and ".join(names),
        "fitted_to": list(names),
    }
    found: dict[bool, RecordedRun] = {}
    for name in names:
        if name not in paths:
            raise unknown_name("run", name, sorted(paths))
        run = load_run(paths[name])
        uses_zswap = run.scenario.policy != "no-zswap"
        if uses_zswap in found:
            kind = "with zswap" if uses_zswap else "without zswap"
            raise InputError(f"{found[uses_zswap].name}, {name}: one run {kind} is enough")
        found[uses_zswap] = run
        table["machine"] = str(
            read_json(paths[name]).get("machine", f"Linux {run.scenario.kernel}")
        )
    table["source"] = f"touch times of the recorded runs {' and '.join(names)}"
    first = next(iter(found.values())).scenario
    device = {"device": ZRAM} if find_policy(first.policy).synchronous else {}
    costs = load_costs(base, codec=first.codec, random_lines=True, **device)
    for uses_zswap in (True, False):
        if uses_zswap not in found:
            continue
        run = found[uses_zswap]
        load = load_workload(run)
        if load.touch_ns is None or not run.touches_ns:
            raise InputError(f"{run.trace}: no column touch_ns; the touches were not timed")
        _, timed = replay_timed(run, load, run.replays[run.timed_repeat])
        if uses_zswap:
            table |= fit_faults(timed, costs)
            costs = with_sections(costs, table)
        else:
            table["devices"] = {_TIMED_DEVICE: fit_device(timed, costs)}
    if "devices" not in table:
        disk_of = base if base is not None and own_disks(base) else RECORDED
        disk = load_costs(disk_of, own_disks(disk_of)[0])
        table["devices"] = {_TIMED_DEVICE: disk.raw["devices"]}
        table["source"] += f"; {_TIMED_DEVICE} from {disk.name}"
    return table


def summarize(frame: pl.DataFrame) -> str:
    """Return one line: median and worst error of the counters that faults and stores show in."""
    chosen = frame.filter(
        pl.col("counter").is_in(_HEADLINE)
        & pl.col("error").is_not_null()
        & (pl.col("kernel") >= _FEW)
    )
    runs = frame["run"].n_unique()
    if not chosen.height:
        return (
            f"{format_count(runs, 'run')}; no counter of {', '.join(_HEADLINE)} reaches {_FEW:,} events in kernel and "
            "model"
        )
    errors = chosen["error"].abs()
    worst = chosen.row(int(errors.arg_max() or 0), named=True)
    middle = float(np.median(errors.to_numpy()))
    name = " ".join([str(worst["run"]), str(worst["counter"])])
    return (
        f"{format_count(runs, 'run')}, {format_count(chosen.height, 'counter')} of {_FEW:,} events or more "
        f"({', '.join(_HEADLINE)}): median error {middle:.2%}, "
        f"worst {worst['error']:+.2%} ({name})"
    )


def touch_source(costs: str | Path | None) -> tuple[str, tuple[str, ...]]:
    """Return the name of a cost table, and the runs it was fitted to."""
    table = load_costs(costs or RECORDED)
    return table.name, table.fitted_to


def summarize_touches(frame: pl.DataFrame, costs_name: str, fitted_to: Sequence[str]) -> str:
    """Return one line on the times of touches; empty where no run has them."""
    chosen = frame.filter(pl.col("counter").is_in(TOUCH_COUNTERS))
    if not chosen.height:
        return ""
    parts = []
    for name in TOUCH_COUNTERS:
        errors = chosen.filter(counter=name)["error"].abs()
        if errors.len():
            parts.append(
                f"{name[len('touch_') : -len('_ns')]} {float(np.median(errors)):.0%} (worst "
                f"{float(errors.to_numpy().max()):.0%})"
            )
    text = f"touch times of {chosen['run'].n_unique()} runs by costs {costs_name!r}: median error "
    text += ", ".join(parts)
    if fitted_to:
        text += f"; fitted to {' and '.join(fitted_to)}, to no other run"
    return text


def beyond(frame: pl.DataFrame, limit: float) -> list[dict[str, Any]]:
    """Return the rows whose error is larger than a limit (0.02 is 2 %).

    Where the kernel counted none there is no error: such a row is one of them where the model has more
    than 60 events, or kills more than a quarter of its replays; and one where no replay ended as the
    kernel's repeats did.
    """
    is_kill = pl.col("counter") == "oom_events"
    stray = pl.when(is_kill).then(_STRAY_KILLS).otherwise(_STRAY_EVENTS)
    from_none = (pl.col("kernel") == 0) & (pl.col("model") > stray)
    nothing_alike = (pl.col("kernel") > 0) & pl.col("model").is_null()
    return frame.filter((pl.col("error").abs() > limit) | from_none | nothing_alike).to_dicts()

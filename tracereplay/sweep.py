"""A plan of many comparisons: traces by settings, each job one `compare`, done ones passed over.

A plan is a TOML file that says what `compare` is told, in the same words; a list gives every
combination. A job leaves the folder that `compare --out` leaves, so that one that ran elsewhere, by
the command line that `commands()` prints, counts as done.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import platform
import re
import shlex
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, as_completed
from pathlib import Path
from typing import Any

import polars as pl

from tracereplay import __version__
from tracereplay.comparison import (
    FLUSH_PHASES,
    RESULT_TABLES,
    Result,
    compare,
    make_folder,
    make_scenarios,
    model_hash,
    read_result,
)
from tracereplay.errors import (
    HostError,
    InputError,
    OutputError,
    SettingsError,
    TracereplayError,
    first_line,
    strerror,
    unknown_name,
)
from tracereplay.schema import SCHEMA_VERSION, weakest_coverage
from tracereplay.trace import open_trace

# What a plan may say, by compare's long option, and how it is read. Of the first four a job takes all;
# of the others each value is a job.
SETTINGS: dict[str, type] = {
    "policy": str,
    "memory": str,
    "reclaim": str,
    "codec": str,
    "kernel": str,
    "cgroup": str,
    "allocator": str,
    "pool-limit": str,
    "ram": str,
    "accept-threshold": int,
    "zswap-max": str,
    "swap-size": str,
    "page-cluster": int,
    "swappiness": int,
    "stat-flush": str,
    "flush-phases": int,
    "bounds": bool,
    "device": str,
    "costs": str,
    "pages": str,
    "content": str,
    "rewrite-entropy": float,
    "touch-ns": int,
    "seed": int,
}
_TOGETHER = ("policy", "memory", "reclaim", "codec")
_FILES = ("costs", "pages")
_STEM = "{trace}"  # in the name of a file: the trace's own, without its ending
# What the tables of a result tell apart by themselves; scenarios that differ in more are of two traces.
_TOLD_APART = (
    *_TOGETHER, "kernel", "cgroup", "allocator", "pool-limit", "page-cluster", "device",
)  # fmt: skip
_OF_COMPARE = ("pages", "content", "costs", "seed", "flush-phases", "rewrite-entropy")
_PYTHON_NAMES = {
    "policy": "policies", "codec": "codecs", "accept-threshold": "accept_threshold_percent"
}  # fmt: skip
_ANY_FOOTPRINT = 1 << 40


@dataclasses.dataclass(frozen=True)
class Job:
    """One comparison of a plan.

    Attributes
    ----------
    name : of its folder; unique in the plan
    label : of its trace, in the tables of the whole sweep
    settings : what `compare` is told, by long option; a tuple where it takes several
    folder : where its result stands
    """

    name: str
    label: str
    trace: Path
    settings: dict[str, Any]
    folder: Path

    @property
    def command(self) -> list[str]:
        """Return the command line that does the same."""
        words = ["tracereplay", "compare", str(self.trace)]
        for key, value in self.settings.items():
            if key == "bounds":
                words.append("--bounds" if value else "--no-bounds")
                continue
            for one in value if isinstance(value, tuple) else (value,):
                words += [f"--{key}", str(one)]
        return [*words, "--out", str(self.folder)]

    @property
    def inputs(self) -> list[Path]:
        """Return the files its result hangs on."""
        named = (Path(self.settings[key]) for key in _FILES if key in self.settings)
        return [self.trace, *(path for path in named if path.is_absolute())]


def read_plan(path: str | Path, out: str | Path) -> list[Job]:
    """Return the jobs of a plan, in its order.

    Parameters
    ----------
    out : folder of the sweep, with one folder a job

    Raises
    ------
    InputError
        The plan cannot be read, or one of its patterns finds no trace.
    SettingsError
        It says something that `compare` does not take.
    """
    place = Path(path).absolute()
    try:
        plan = tomllib.loads(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {strerror(error)}") from error
    except ValueError as error:
        raise InputError(f"{path}: no TOML: {error}") from error
    traces = _traces(plan.pop("traces", None), place)
    variants = plan.pop("variant", [{}])
    if not isinstance(variants, list) or not all(isinstance(each, dict) for each in variants):
        raise SettingsError(f"{path}: write [[variant]] above the settings of each variant")
    common = _settings(plan, path)
    names = [str(each.pop("name", "")) for each in variants]
    sets = [common | _settings(each, path) for each in variants]
    chosen_sets = [*itertools.chain.from_iterable(map(_combinations, sets))]
    refused = [error for error in map(_refusal, chosen_sets) if error is not None]
    if len(refused) == len(chosen_sets):  # else the others go on
        raise SettingsError(f"{path}: {refused[0]}") from refused[0]
    # Scenarios of variants that the tables cannot tell apart do not stand side by side there.
    is_apart = any(key not in _TOLD_APART for key in _varying(sets))
    jobs: list[Job] = []
    for trace in traces:
        label = _label(trace, traces)
        for variant, settings in zip(names, sets, strict=True):
            # A variant with a name is told by it, and by what it has several values of.
            varying = _varying([settings] if variant else sets)
            for chosen in _combinations(settings):
                own = {key: _resolve(key, value, trace, place) for key, value in chosen.items()}
                told = {
                    key: f"{key}={_short(key, own[key])}"
                    for key in varying
                    if own.get(key) is not None
                }
                apart = [text for key, text in told.items() if key not in _TOLD_APART]
                name = ",".join(filter(None, [label, variant, *told.values()]))
                name = re.sub(r"[^\w.,=%+-]+", "_", name)
                shown = ", ".join(filter(None, [label, variant if is_apart else "", *apart]))
                jobs.append(Job(name, shown, trace, own, Path(out).absolute() / name))
    doubled = next((a for a, b in itertools.combinations(jobs, 2) if a.name == b.name), None)
    if doubled is not None:
        raise SettingsError(
            f"{path}: two jobs are named {doubled.name}; do two variants say the same?"
        )
    return jobs


def _refusal(settings: dict[str, Any]) -> SettingsError | None:
    """Return why no scenario can be made of these settings, whatever the trace; None where one can."""
    try:
        make_scenarios(_ANY_FOOTPRINT, **_of_scenarios(settings))
    except SettingsError as error:
        return error
    return None


def _traces(patterns: Any, plan: Path) -> list[Path]:
    if isinstance(patterns, str):
        patterns = [patterns]
    if not isinstance(patterns, list) or not patterns:
        raise SettingsError(f'{plan}: say which traces: traces = ["web.parquet", "db-*.parquet"]')
    found: dict[Path, None] = {}
    for pattern in patterns:
        given = Path(str(pattern))
        root, relative = (
            (Path(given.anchor), str(given.relative_to(given.anchor)))
            if given.is_absolute()
            else (plan.parent, str(given))
        )
        # A name is itself before it is a pattern.
        named = root / relative
        here = [named] if named.is_file() else sorted(root.glob(relative))
        if not here:
            raise InputError(f"{plan}: no trace {pattern!r} in {root}")
        found |= dict.fromkeys(here)
    return list(found)


def _settings(table: dict[str, Any], path: str | Path) -> dict[str, tuple[Any, ...]]:
    """Return the values of each setting of a table, by long option."""
    out = {}
    for written, value in table.items():
        key = written.replace("_", "-")
        if key not in SETTINGS:
            raise unknown_name(
                f"setting in {path}", written, ["traces", "variant", "name", *SETTINGS]
            )
        kind = SETTINGS[key]
        values = value if isinstance(value, list) else [value]
        if not values:
            raise SettingsError(f"{path}: {written} is empty; leave it out for compare's default")
        for each in values:
            # No number with a point for text: 6.10 would be 6.1.
            right = isinstance(each, kind) or (kind in (str, float) and isinstance(each, int))
            if not right or (kind is not bool and isinstance(each, bool)):
                raise SettingsError(f"{path}: {written} = {each!r} is no {_KINDS[kind]}")
        out[key] = tuple(kind(each) for each in values)
    return out


_KINDS = {str: "text in quotes", int: "whole number", float: "number", bool: "true or false"}


def _combinations(settings: dict[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    one_each = {key: values for key, values in settings.items() if key not in _TOGETHER}
    together = {key: values for key, values in settings.items() if key in _TOGETHER}
    for chosen in itertools.product(*one_each.values()):
        yield together | dict(zip(one_each, chosen, strict=True))


def _varying(sets: Sequence[dict[str, tuple[Any, ...]]]) -> list[str]:
    """Return the settings that tell jobs of one trace apart."""
    keys = dict.fromkeys(key for settings in sets for key in settings)
    return [
        key
        for key in keys
        if len({settings.get(key) for settings in sets}) > 1
        or (key not in _TOGETHER and any(len(settings.get(key, ())) > 1 for settings in sets))
    ]


def _resolve(key: str, value: Any, trace: Path, plan: Path) -> Any:
    """Return a setting as this trace has it: files beside the plan, or named after the trace."""
    if key not in _FILES:
        return value
    path = plan.parent / str(value).replace(_STEM, str(trace.with_suffix("")))
    return str(value) if key == "costs" and not path.exists() else str(path)  # a bundled table


def _short(key: str, value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(map(str, value))
    return Path(value).name if key in _FILES else str(value)


def _label(trace: Path, traces: Sequence[Path]) -> str:
    """Return the shortest end of the path, without its ending, that no other trace has."""
    parts = trace.with_suffix("").parts
    for count in range(1, len(parts)):
        label = "/".join(parts[-count:])
        if sum(each.with_suffix("").parts[-count:] == parts[-count:] for each in traces) == 1:
            return label
    return "/".join(parts[1:])


def commands(jobs: Sequence[Job]) -> list[str]:
    """Return a command line per job, for any scheduler."""
    return [shlex.join(job.command) for job in jobs]


def is_done(job: Job) -> bool:
    """Tell whether a job's result is there, of this model and settings, and newer than its inputs."""
    path = job.folder / "run.json"
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        written = path.stat().st_mtime_ns
        newest = max(each.stat().st_mtime_ns for each in job.inputs)
    except (OSError, ValueError):
        return False
    told = [word for word in run.get("command", ()) if word != "--force"]
    same = run.get("tracereplay") == __version__ and run.get("model") == model_hash()
    return bool(same and told == job.command and newest <= written)


def _of_scenarios(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings as make_scenarios() takes them."""
    return {
        str(_PYTHON_NAMES.get(key, key)).replace("-", "_"): value
        for key, value in settings.items()
        if key not in _OF_COMPARE
    }


def run_job(job: Job, jobs: int | None = None) -> float:
    """Compare as a job says and write its folder; return the seconds it took.

    `jobs` is the number of threads; None uses every core.

    Raises
    ------
    TracereplayError
        As compare() does.
    """
    began = time.perf_counter()
    options = {"flush-phases": FLUSH_PHASES} | job.settings
    of_compare = {key.replace("-", "_"): options[key] for key in _OF_COMPARE if key in options}
    trace = open_trace(job.trace)
    scenarios = make_scenarios(trace, **_of_scenarios(job.settings))
    result = compare(trace, scenarios, jobs=jobs, command=job.command, **of_compare)
    result.write(job.folder, force=True)  # what stands there is of other settings or older inputs
    return time.perf_counter() - began


def run_jobs(
    jobs: Sequence[Job],
    *,
    threads: int | None = None,
    executor: Executor | None = None,
    on_end: Callable[[Job, float | TracereplayError], None] = lambda *_: None,
) -> int:
    """Run jobs one after the other, or by an executor; return how many failed.

    Each that ends, however it ends, is told to `on_end`; the others go on.
    """
    failed = 0
    if executor is None:
        for job in jobs:
            end = _end_of(functools.partial(run_job, job, threads))
            failed += isinstance(end, TracereplayError)
            on_end(job, end)
        return failed
    waiting: dict[Future[float], Job] = {
        executor.submit(run_job, job, threads): job for job in jobs
    }
    for future in as_completed(waiting):
        end = _end_of_remote(future)
        failed += isinstance(end, TracereplayError)
        on_end(waiting[future], end)
    return failed


def _end_of(work: Callable[[], float]) -> float | TracereplayError:
    try:
        return work()
    except TracereplayError as error:
        return error
    except OSError as error:  # of a file that changed meanwhile, of a disk
        return OutputError(first_line(error))


def _end_of_remote(future: Future[float]) -> float | TracereplayError:
    """Return how a job ended elsewhere; whatever befell its worker is the failure of this job alone."""
    try:
        return _end_of(future.result)
    except Exception as error:  # noqa: BLE001  (whatever a scheduler raises)
        return HostError(f"the worker failed: {type(error).__name__}: {first_line(error)}")


def join(jobs: Sequence[Job], command: Sequence[str] = ()) -> Result:
    """Return the results of done jobs as one: scenarios named after their job, traces by its label.

    Raises
    ------
    InputError
        A table of a job is gone or damaged; the message names its folder.
    """
    frames: dict[str, list[pl.DataFrame]] = {name: [] for name in RESULT_TABLES}
    runs: list[dict[str, Any]] = []
    for job in jobs:
        done = read_result(job.folder, remedy="remove its folder and sweep again")
        runs.append(done.run)
        scenario = pl.format("{}/{}", pl.lit(job.name), "scenario").alias("scenario")
        for name, parts in frames.items():
            trace = [pl.lit(job.label).alias("trace")] if name == "summary" else []
            parts.append(getattr(done, name).with_columns(scenario, *trace))
    return Result(
        **{name: pl.concat(parts) for name, parts in frames.items()},
        run=_joined_run(jobs, runs, command),
    )


def _joined_run(
    jobs: Sequence[Job], runs: Sequence[dict[str, Any]], command: Sequence[str]
) -> dict[str, Any]:
    """Return what run.json says of a whole sweep; a note of some traces only names them."""
    labels = list(dict.fromkeys(job.label for job in jobs))
    notes: dict[str, list[str]] = {}
    for job, run in zip(jobs, runs, strict=True):
        for note in run["notes"]:
            named = notes.setdefault(note, [])
            if job.label not in named:
                named.append(job.label)
    traces = {job.trace: run["trace"] for job, run in zip(jobs, runs, strict=True)}
    return {
        "tracereplay": __version__,
        "schema": SCHEMA_VERSION,
        "command": list(command),
        "python": platform.python_version(),
        "polars": pl.__version__,
        "machine": platform.machine(),
        "trace": {
            "name": next(iter(traces.values()))["name"]
            if len(traces) == 1
            else f"{len(traces)} traces",
            "path": [str(path) for path in traces],
            "coverage": weakest_coverage(trace["coverage"] for trace in traces.values()),
            "accesses": sum(trace["accesses"] for trace in traces.values()),
            "unique_pages": sum(trace["unique_pages"] for trace in traces.values()),
        },
        "content": "; ".join(dict.fromkeys(run["content"] for run in runs)),
        "costs": {
            key: "; ".join(dict.fromkeys(str(run["costs"][key]) for run in runs))
            for key in ("name", "source")
        },
        "jobs": [job.name for job in jobs],
        "scenarios": [
            scenario | {"name": f"{job.name}/{scenario['name']}"}
            for job, run in zip(jobs, runs, strict=True)
            for scenario in run["scenarios"]
        ],
        "notes": [
            note if len(named) == len(labels) else f"{', '.join(named)}: {note}"
            for note, named in notes.items()
        ],
        "wall_s": round(sum(run["wall_s"] for run in runs), 3),
    }


def check_folder(out: str | Path, *, force: bool) -> Path:
    """Make the folder of a sweep; refuse one whose tables are not of a sweep.

    Raises
    ------
    OutputError
    """
    target = Path(out)
    try:
        of_sweep = "jobs" in json.loads((target / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        of_sweep = False
    if (target / "summary.parquet").exists() and not (force or of_sweep):
        raise OutputError(
            f"{target}: holds a result that is not of a sweep; name another folder, or --force"
        )
    return make_folder(target, force=True)

"""Write what the documents say from what the package is: `make docs`.

Fills the blocks `<!-- generated: NAME -->` … `<!-- end -->` of README.md, notebooks/agreement.md and
notebooks/tables.md, and with `--picture` (`make picture`) draws the README's picture from a
bundled trace. `--agreement DIR…` (`make agreement RUNS='DIR…'`) replays recorded kernel runs and writes
notebooks/agreement.csv, of which the tables of model against kernel are made.
`--outputs` (`make outputs`) runs the README's commands and writes what they print below them.
`--notebooks` (`make notebooks`) runs the notebooks and stores what they show, pictures made small.
`--check` changes nothing and fails where a document is behind; the tests call it.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

ROOT = Path(__file__).resolve().parent.parent
AGREEMENT = ROOT / "notebooks" / "agreement.csv"

# What the table of agreement shows, and the events a counter needs to say anything.
COUNTERS = ("pgmajfault", "zswpin", "zswpout", "pswpin", "pswpout", "pool_pages")
FEW = 2000
_NOT_FULL = "below its limit"

# The README's picture: a program in a quarter of its memory, where three pages in ten do not shrink.
PICTURE_POLICIES = ("no-zswap", "swap-on-reject", "store-raw", "shrinker", "zram")


def formats_table() -> str:
    from tracereplay.readers import FORMATS

    lines = ["| format | what | coverage |", "|---|---|---|"]
    lines += [
        f"| `{name}` | {_cell(one.summary)} | {one.coverage} |" for name, one in FORMATS.items()
    ]
    return "\n".join(lines)


def recording_table() -> str:
    from tracereplay.readers import FORMATS

    lines = ["| format | how to record |", "|---|---|"]
    lines += [
        f"| `{name}` | {_recipe(_cell(one.how_to_record))} |"
        for name, one in FORMATS.items()
        if one.how_to_record
    ]
    return "\n".join(lines)


def policies_table() -> str:
    from tracereplay.policies import POLICIES

    lines = ["| policy | what becomes of a page | source |", "|---|---|---|"]
    lines += [
        f"| `{one.name}` | {_cell(one.summary)} | {_cell(one.source)} |"
        for one in POLICIES.values()
    ]
    return "\n".join(lines)


def reclaim_table() -> str:
    from tracereplay.reclaim import RECLAIM
    from tracereplay.replay.settings import Scenario

    lines = ["| reclaim | which page leaves memory | source |", "|---|---|---|"]
    for one in RECLAIM.values():
        default = " (default)" if one.name == Scenario.reclaim else ""
        lines.append(f"| `{one.name}`{default} | {_cell(one.summary)} | {_cell(one.source)} |")
    return "\n".join(lines)


def kernels_sentence() -> str:
    from tracereplay.replay.settings import KERNELS, Scenario, release_number

    names = [
        f"{name} (the default)" if name == Scenario.kernel else name
        for name in sorted(KERNELS, key=release_number)
    ]
    return f"Whose rules apply says `--kernel`: {', '.join(names[:-1])} or {names[-1]}."


def read_agreement() -> pl.DataFrame:
    """Return the rows of `validate --format csv`, and `pool`: whether the run's was full, or zram."""
    import polars as pl

    names = {"release": pl.String, "rules": pl.String}
    frame = pl.read_csv(AGREEMENT, schema_overrides=names, infer_schema_length=None)
    full = pl.col("counter").is_in(["pool_limit_hit", "zswpwb"]) & (pl.col("kernel") > 0)
    of_zswap = pl.when(full.any().over("run")).then(pl.lit("full")).otherwise(pl.lit(_NOT_FULL))
    is_zram = pl.col("policy") == "zram"
    return frame.with_columns(pool=pl.when(is_zram).then(pl.lit("zram")).otherwise(of_zswap))


def agreement_summary() -> str:
    """Return the table of agreement by kernel and pool alone."""
    return _agreement(["release", "pool"])


def agreement_table() -> str:
    """Return the table of agreement by everything that tells kinds of runs apart."""
    return _agreement(["release", "reclaim", "cgroup", "pool"])


def _agreement(by: list[str]) -> str:
    """Return |model / kernel - 1| per kind of run: median and worst, of runs that nobody killed."""
    import polars as pl

    frame = read_agreement()
    frame = frame.filter(~pl.col("run").is_in(ended_by_kill(frame)["run"].to_list()))
    kinds = sorted(
        set(frame.select(by).rows()),
        key=lambda kind: (*(-int(part) for part in kind[0].split(".")), *kind[1:]),
    )
    heads = ["Linux", *by[1:], "runs"]
    lines = [
        f"| {' | '.join(heads)} | {' | '.join(f'`{name}`' for name in COUNTERS)} |",
        "|---|" + "---|" * (len(by) + len(COUNTERS)),
    ]
    for kind in kinds:
        rows = frame.filter(**dict(zip(by, kind, strict=True)))
        cells = [str(kind[0]), *(_CELLS.get(one, one) for one in kind[1:])]
        cells.append(str(rows["run"].n_unique()))
        for name in COUNTERS:
            errors = rows.filter(
                pl.col("counter") == name, pl.col("kernel") >= FEW, pl.col("error").is_not_null()
            )["error"].abs()
            cells.append(_errors(errors.to_list()))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


_CELLS = {"two-list": "`two-list`", "mglru": "`mglru`"}


def ended_by_kill(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the `oom_events` of runs that an OOM kill ended, in the kernel or in the model."""
    import polars as pl

    return frame.filter(
        pl.col("counter") == "oom_events", (pl.col("kernel") > 0) | (pl.col("model") > 0)
    )


def _errors(errors: list[float]) -> str:
    if not errors:
        return ""
    middle = statistics.median(errors)
    return _percent(middle) + (f", {_percent(max(errors))}" if len(errors) > 1 else "")


def _percent(share: float) -> str:
    percent = 100 * share
    return (
        f"{percent:.2f} %"
        if percent < 0.995
        else f"{percent:.1f} %"
        if percent < 10
        else f"{percent:.0f} %"
    )


def killed_summary() -> str:
    """Return in a sentence how many runs an OOM kill ended, and where kernel and model differ."""
    frame = read_agreement()
    ends = list(ended_by_kill(frame).iter_rows(named=True))
    alike = sum(row["kernel"] == row["model"] == 1 for row in ends)
    others = [
        f"`{row['run']}` {100 * row['kernel']:.0f} and {row['model']:.0%}".replace("%", " %")
        for row in ends
        if not row["kernel"] == row["model"] == 1
    ]
    return (
        f"{len(ends)} of the {frame['run'].n_unique()} runs ended in an OOM kill, of the kernel or of "
        f"the model: {alike} of them in every repeat of both. Of the others these shares, kernel's and model's: "
        f"{', '.join(others)}."
    )


def killed_table() -> str:
    """Return the share of replays that an OOM kill ended, kernel and model, of runs that have any."""
    ends = ended_by_kill(read_agreement())
    lines = ["| run | Linux | killed by the kernel | killed by the model |", "|---|---|---|---|"]
    lines += [
        f"| {row['run']} | {row['release']} | {row['kernel']:.0%} | {row['model']:.0%} |"
        for row in ends.sort("release", "run", descending=[True, False]).iter_rows(named=True)
    ]
    return "\n".join(lines)


def write_agreement(folders: list[str]) -> None:
    """Replay the runs in `folders`; keep model and kernel of every counter, and of all other runs."""
    import polars as pl

    from tracereplay.validation import validate

    if not folders:
        sys.exit("name the folders of the recorded runs: make agreement RUNS='DIR…'")
    frame = validate(folders, skipped=lambda line: print(line, file=sys.stderr))
    numbers = [name for name, dtype in frame.schema.items() if dtype == pl.Float64]
    frame = frame.with_columns(pl.col(numbers).round_sig_figs(7))
    # A run that lies in two folders is one run: each of its counters counts once.
    frame = frame.unique(["run", "counter"], keep="first", maintain_order=True)
    kept = pl.read_csv(AGREEMENT, schema=frame.schema)  # runs that are not at hand everywhere
    kept = kept.filter(~pl.col("run").is_in(frame["run"].unique().implode()))
    frame = pl.concat([kept, frame]).sort("release", "run", maintain_order=True)
    AGREEMENT.write_text(frame.write_csv(), encoding="utf-8")
    print(f"wrote {AGREEMENT}: {frame['run'].n_unique()} runs", file=sys.stderr)


def _recipe(text: str) -> str:
    """Return a command as code, words as they are."""
    return text if text.startswith(("any program", "libCacheSim's", "vscsiStats")) else f"`{text}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def readme_command(text: str, name: str) -> str:
    """Return the command under `<!-- run: NAME -->`."""
    found = re.search(rf"<!-- run: {name} -->\n```sh\n(.*?)\n```", text, re.DOTALL)
    if not found:
        sys.exit(f"README.md: no command {name!r}")
    return found[1]


def run_outputs() -> None:
    """Run each command of the README that has an output below it, and write the output there."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"<!-- output: ([\w-]+) -->", text):
        printed = printed_by(readme_command(text, name))
        block = f"<!-- output: {name} -->\n```text\n{printed}\n```\n<!-- end -->"
        text = re.sub(
            rf"<!-- output: {name} -->\n.*?<!-- end -->",
            lambda _, block=block: block,
            text,
            flags=re.DOTALL,
        )
    path.write_text(text, encoding="utf-8")


def printed_by(command: str) -> str:
    """Return what a command of the README prints on stdout, on a terminal 80 cells wide.

    Runs with this interpreter's package in the place of an installed `tracereplay`.
    """
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "tracereplay"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tracereplay "$@"\n')
        script.chmod(0o755)
        (Path(folder) / "python").symlink_to(script.with_name("interpreter"))
        interpreter = script.with_name("interpreter")
        interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        interpreter.chmod(0o755)
        done = subprocess.run(
            [
                "bash",
                "-euo",
                "pipefail",
                "-c",
                command.replace("uniform.parquet", f"{folder}/uniform.parquet"),
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "PATH": f"{folder}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                "COLUMNS": "80",
            },
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        sys.exit(f"{command}\nended with status {done.returncode}:\n{done.stderr}")
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines())


def filled(name: str) -> str:
    """Return the text of a document with its generated blocks made anew."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for block_name, build in BLOCKS[name].items():
        block = f"<!-- generated: {block_name} -->\n{build()}\n<!-- end -->"
        pattern = rf"<!-- generated: {block_name} -->\n.*?<!-- end -->"
        text, count = re.subn(pattern, lambda _, block=block: block, text, flags=re.DOTALL)
        if count != 1:
            sys.exit(f"{name}: expected one block {block_name!r}, found {count}")
    return text


def tables() -> str:
    """Return what stands in the Parquet files, as schema.py has it."""
    from tracereplay import schema

    about = (
        f"What stands in the Parquet files; schema version {schema.SCHEMA_VERSION}. "
        "Made from `tracereplay/schema.py` by `make docs`.\n"
    )
    parts = [about]
    described = (
        ("accesses", schema.ACCESSES, "A trace, one row per access; `ingest` writes it. `page` is all it needs."),
        ("pages", schema.PAGES, "Compressed size per page and codec; `pages` writes it."),
        ("summary", schema.SUMMARY, "One row per scenario; `compare --out` writes it."),
        ("latency", schema.LATENCY, "Per scenario and service a histogram of touches; percentiles come from here."),
        ("footprint", schema.FOOTPRINT, "Per scenario memory over the trace, at most 2,000 points."),
        ("codecs", schema.CODEC_TRADE, "Per policy and memory limit what each codec saves and costs; `compare --out` writes it where several ran."),
        ("curve", schema.CURVE, "Misses at every memory size; `curve` prints it."),
        ("sampled curve", schema.SAMPLED_CURVE, "The same from a sample of the pages."),
        ("pool curve", schema.POOL_CURVE, "The same with a compressed pool behind the memory."),
        ("reuse distances", schema.REUSE_DISTANCES, "Hits by stack distance; `curve --distances` prints it."),
        ("agreement", schema.AGREEMENT, "A recorded run's counters beside the model's; `validate --format csv` or `json` prints it."),
    )  # fmt: skip
    for name, columns, meaning in described:
        parts.append(
            f"\n## {name}\n\n{meaning}\n\n| column | type | unit | null | meaning |\n|---|---|---|---|---|"
        )
        parts += [
            f"| `{one.name}` | {one.dtype} | {one.unit} | {'yes' if one.nullable else ''} | {_cell(one.meaning)} |"
            for one in columns
        ]
    parts.append(
        "\n## Footer metadata of a trace\n\nKeys begin with `tracereplay.`\n\n| key | meaning |\n|---|---|"
    )
    parts += [f"| `{key}` | {_cell(meaning)} |" for key, meaning in schema.METADATA_KEYS.items()]
    return "\n".join(parts)


BLOCKS = {
    "README.md": {
        "formats": formats_table,
        "recording": recording_table,
        "policies": policies_table,
        "reclaim": reclaim_table,
        "kernels": kernels_sentence,
        "agreement-summary": agreement_summary,
        "killed-summary": killed_summary,
    },
    "notebooks/agreement.md": {"agreement": agreement_table, "killed": killed_table},
    "notebooks/tables.md": {"tables": tables},
}


def draw() -> None:
    from tracereplay.comparison import compare, make_scenarios
    from tracereplay.report.plots import picture
    from tracereplay.trace import open_trace

    trace = open_trace(ROOT / "traces" / "sqlite-index.parquet")
    scenarios = make_scenarios(
        trace, policies=PICTURE_POLICIES, memory=["15%", "25%"], bounds=False, cgroup="v1"
    )
    result = compare(trace, scenarios, content="redis-json+30%raw")
    (ROOT / "notebooks" / "latency.png").write_bytes(picture(result, "latency").png)


def run_notebooks() -> None:
    """Store the outputs of each notebook, but for warnings; pictures with a palette, a third as large."""
    import base64
    import io

    import nbformat
    from nbclient import NotebookClient
    from PIL import Image

    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    os.environ.update(PYTHONPATH=paths, JUPYTER_PLATFORM_DIRS="1")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        where = {"metadata": {"path": str(path.parent)}}
        NotebookClient(notebook, timeout=900, resources=where).execute()
        for number, cell in enumerate(notebook.cells):
            cell.update(id=f"cell-{number}", metadata={})
            if cell.cell_type != "code":
                continue
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
            for data in (one.get("data", {}) for one in cell.outputs):
                if "image/png" not in data:
                    continue
                image = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
                small = io.BytesIO()
                image.convert("RGB").quantize(96).save(small, "PNG", optimize=True)
                data["image/png"] = base64.b64encode(small.getvalue()).decode() + "\n"
        notebook.metadata = {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
        nbformat.write(notebook, path)
        print(f"{path.name}: {path.stat().st_size:,} bytes")


def main(arguments: list[str]) -> None:
    if "--notebooks" in arguments:
        run_notebooks()
    if "--outputs" in arguments:
        run_outputs()
    if "--agreement" in arguments:
        write_agreement(arguments[arguments.index("--agreement") + 1 :])
    behind = []
    made = {ROOT / name: filled(name) for name in BLOCKS}
    for path, text in made.items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        behind.append(path.name)
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
    if "--check" in arguments and behind:
        sys.exit(f"behind the package: {', '.join(behind)}; run `make docs`")
    if "--picture" in arguments:
        draw()


if __name__ == "__main__":
    main(sys.argv[1:])

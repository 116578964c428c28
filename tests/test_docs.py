"""README and docs say what the package is; their commands do what they say."""

import ast
import dataclasses
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import fuzz_readers
import polars as pl
import pytest
from typer.testing import CliRunner

from tracereplay import __version__, costs, schema
from tracereplay.cli import app
from tracereplay.comparison import DEFAULT_POLICIES
from tracereplay.content import CONTENTS
from tracereplay.policies import POLICIES
from tracereplay.readers import FORMATS, Options, ingest
from tracereplay.reclaim import RECLAIM, Reclaim
from tracereplay.replay.settings import KERNELS
from tracereplay.report.figures import Theme, build_figures
from tracereplay.report.folder import read_result_folder
from tracereplay.sweep import read_plan
from tracereplay.validation import validate

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
OUTPUTS = re.findall(r"<!-- output: ([\w-]+) -->", README)
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def command(name):
    return re.search(rf"<!-- run: {name} -->\n```sh\n(.*?)\n```", README, re.DOTALL)[1]


def docs_script():
    """Return the module that `make docs` runs."""
    place = importlib.util.spec_from_file_location("docs_script", ROOT / ".ci" / "docs.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


def words_and_numbers(text):
    """Return the words of a text, each number as `#`, and its numbers."""
    parts = re.findall(r"\d[\d,.]*|[^\W\d_]+|\S", text.replace("─", ""))
    numbers = [float(part.replace(",", "").rstrip(".")) for part in parts if part[0].isdigit()]
    return ["#" if part[0].isdigit() else part for part in parts], numbers


def test_generated_parts_are_up_to_date():
    done = subprocess.run(
        [sys.executable, ".ci/docs.py", "--check"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_names_every_format_and_every_policy():
    for name in (*FORMATS, *POLICIES):
        assert f"| `{name}` |" in README


def test_every_column_stands_in_the_reference():
    reference = (ROOT / "notebooks" / "tables.md").read_text(encoding="utf-8")
    for column in (*schema.ACCESSES, *schema.SUMMARY, *schema.LATENCY, *schema.FOOTPRINT):
        assert f"| `{column.name}` | {column.dtype} |" in reference


def test_the_example_prints_the_comparison_and_writes_what_the_readme_says(tmp_path, monkeypatch):
    line = command("example").splitlines()[-1]
    program, *arguments = shlex.split(line)
    assert program.endswith("/tracereplay")
    monkeypatch.chdir(ROOT)
    arguments[arguments.index("--out") + 1] = str(tmp_path / "sqlite")

    done = CliRunner().invoke(app, arguments)

    assert done.exit_code == 0, done.output
    assert "memory limit 4.6 MiB (60% of the pages touched)" in done.stdout
    for name in POLICIES:
        assert re.search(rf"^{name} ", done.stdout, re.MULTILINE), name
    assert (tmp_path / "sqlite" / "report.html").stat().st_size < 4_000_000
    summary = pl.read_parquet(tmp_path / "sqlite" / "summary.parquet")
    assert set(summary["policy"]) == set(POLICIES)
    the_page_has_the_numbers_of_the_tables(tmp_path / "sqlite", monkeypatch)


def the_page_has_the_numbers_of_the_tables(folder, monkeypatch):
    """Compare every number that the page of a real run draws with its Parquet tables."""
    page = (folder / "report.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    tables = read_result_folder(folder)
    for drawn, row in zip(data["scenarios"], tables.summary.to_dicts(), strict=True):
        assert {key: drawn[key] for key in row} == row
    names = [row["scenario"] for row in data["scenarios"]]
    theme = Theme.of_page(tables.summary["policy"].to_list())
    figures = build_figures(tables.summary, tables.latency, tables.footprint, theme)
    monkeypatch.chdir(folder)
    for figure in figures.figures:
        said = eval(figure.polars, {"pl": pl})
        dataset = data["datasets"].get(figure.name)
        if dataset is None:
            drawn = pl.DataFrame(data["scenarios"], infer_schema_length=None).select(said.columns)
        else:
            scenarios = {"scenario": [names[at] for at in dataset["scenario"]]}
            drawn = pl.DataFrame({**scenarios, **dataset["columns"]}).select(said.columns)
        drawn = drawn.cast(said.schema)
        assert drawn.height > 0
        assert drawn.join(said, on=said.columns, how="anti", nulls_equal=True).is_empty(), (
            figure.name
        )


@pytest.mark.compiled
@pytest.mark.parametrize("name", OUTPUTS)
def test_a_command_of_the_readme_prints_what_stands_below_it(name):
    shown = re.search(rf"<!-- output: {name} -->\n```text\n(.*?)\n```", README, re.DOTALL)[1]
    docs = docs_script()

    printed = docs.printed_by(docs.readme_command(README, name))

    behind = "run `make outputs`"
    words, numbers = words_and_numbers(printed)
    words_shown, numbers_shown = words_and_numbers(shown)
    assert words == words_shown, behind
    # A better model moves a figure; one that is far off would mislead.
    assert numbers == pytest.approx(numbers_shown, rel=0.1, abs=3), behind


def test_the_readme_has_commands_with_outputs():
    assert {"collapse", "oom", "stale"} <= set(OUTPUTS)


RUNS = sorted((ROOT / "tests" / "kernel-runs").glob("linux-*/*.json"))


def test_the_kept_agreement_is_that_of_kernel_and_model():
    kept = docs_script().read_agreement().filter(pl.col("run").is_in([path.stem for path in RUNS]))
    now = validate([ROOT / "tests" / "kernel-runs"])
    both = kept.join(now, on=("run", "counter"), how="full", suffix="_now", coalesce=True)
    # Runs that share the trace of another one here have no times of touches.
    untimed = pl.col("counter").str.starts_with("touch_") & pl.col("kernel_now").is_null()
    counted = both.filter(pl.max_horizontal("kernel", "kernel_now") >= 2000, ~untimed)

    assert set(kept["run"]) == {path.stem for path in RUNS}
    assert counted.height > 40
    for row in counted.iter_rows(named=True):
        assert row["kernel"] == pytest.approx(row["kernel_now"], rel=1e-6), row
        # What a reader of the table takes from it: the error, to a few percent.
        assert row["model"] == pytest.approx(row["model_now"], rel=0.05, abs=20), (
            f"{row['run']} {row['counter']}: run `make agreement RUNS='DIR…'`"
        )


def test_the_plan_of_the_readme_is_one(tmp_path):
    plan = re.search(r"<!-- plan -->\n```toml\n(.*?)```", README, re.DOTALL)[1]
    (tmp_path / "plan.toml").write_text(plan)
    for name in ("web-1", "web-2", "db"):
        (tmp_path / f"{name}.parquet").touch()
    jobs = read_plan(tmp_path / "plan.toml", tmp_path / "fleet")
    assert len(jobs) == 6
    assert all(job.settings["pages"].endswith(f"{job.label}.pages.parquet") for job in jobs)


def test_the_test_command_is_the_one_that_ci_runs():
    assert "-m pytest" in command("tests")
    assert "run: tests" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "traces/README.md"])
def test_links_and_files_named_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / name).parent.joinpath(target).exists(), target


def worked_module(path, tmp_path, monkeypatch):
    """Import a file of CONTRIBUTING under the name it would have in the package."""
    code = re.search(rf"```python\n# {re.escape(path)}\n(.*?)```", CONTRIBUTING, re.DOTALL)[1]
    file = tmp_path / Path(path).name
    file.write_text(code, encoding="utf-8")
    name = path.removesuffix(".py").replace("/", ".")
    place = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(place)
    monkeypatch.setitem(sys.modules, name, module)
    place.loader.exec_module(module)
    return module


def run(*arguments, **more):
    done = CliRunner().invoke(app, list(map(str, arguments)), **more)
    assert done.exit_code == 0, done.output
    return done


def small_trace(path):
    pages = [0, 1, 2, 0, 3, 0, 4, 1, 0, 5, 0, 2, 3, 4, 0, 1] * 8
    pl.DataFrame({"page": pages, "is_write": [True] * len(pages)}).write_parquet(path)
    return path


@pytest.mark.compiled
def test_the_worked_policy_runs(tmp_path, monkeypatch):
    module = worked_module("tracereplay/policies/keep_over_half.py", tmp_path, monkeypatch)
    monkeypatch.setitem(POLICIES, module.POLICY.name, module.POLICY)
    done = run(
        "compare",
        small_trace(tmp_path / "t.parquet"),
        "-p",
        module.POLICY.name,
        "-r",
        "lru",
        "-m",
        "16KiB",
    )
    assert re.search(r"^keep-over-half ", done.stdout, re.MULTILINE)


def test_the_worked_format_reads_its_line(tmp_path, monkeypatch):
    module = worked_module("tracereplay/readers/pagelog.py", tmp_path, monkeypatch)
    readers = dict(FORMATS)
    monkeypatch.setattr(
        "tracereplay.readers.FORMATS", {module.FORMAT.name: module.FORMAT, **readers}
    )
    capture = tmp_path / "capture.txt"
    capture.write_text("5 1 0x7f001000 w\n9 1 0x7f002010 r\nwhat\n" + "9 1 0x7f002010 r\n" * 200)
    run("ingest", capture, "-o", tmp_path / "t.parquet", "--format", "pagelog")
    table = pl.read_parquet(tmp_path / "t.parquet")
    assert table["page"].to_list()[:2] == [0x7F001, 0x7F002]
    assert table["is_write"].to_list()[:2] == [True, False]
    assert table.height == 202


def test_the_worked_format_survives_damaged_inputs(tmp_path, monkeypatch, short_fuzz):
    module = worked_module("tracereplay/readers/pagelog.py", tmp_path, monkeypatch)
    capture = b"".join(b"%d 7 0x7f%06x %c\n" % (5 * n, n * 4096, b"rw"[n % 2]) for n in range(99))
    for where in (fuzz_readers, sys.modules["tracereplay.readers"]):
        monkeypatch.setattr(where, "FORMATS", {"pagelog": module.FORMAT, **FORMATS})
    monkeypatch.setattr(fuzz_readers, "ALL_TEXTS", [capture, *fuzz_readers.ALL_TEXTS])
    said: list[str] = []
    assert short_fuzz(["pagelog"], 500, 1, said.append) == 0, "\n".join(said)
    assert "rows" in said[0]
    too_large = [b"%d 1 0x1000 r" % (1 << 64), b"5 %d 0x1000 r" % (1 << 32), b"5 1 0x1%016x r" % 0]
    (tmp_path / "c").write_bytes(capture + b"\n".join(too_large))
    done = ingest(tmp_path / "c", tmp_path / "t.parquet", options=Options(allow_bad=True))
    assert (done.records, done.skipped_lines) == (99, 3)


@pytest.mark.compiled
def test_the_worked_reclaim_model_runs(tmp_path, monkeypatch):
    worked_module("tracereplay/reclaim/fifo.py", tmp_path, monkeypatch)
    entry = re.search(r'   Reclaim\(\n       "fifo",.*?\n   \)', CONTRIBUTING, re.DOTALL)[0]
    model = eval(entry.strip(), {"Reclaim": Reclaim})
    monkeypatch.setitem(RECLAIM, model.name, model)
    trace = small_trace(tmp_path / "t.parquet")
    done = run(
        "compare",
        trace,
        "-p",
        "no-zswap",
        "-r",
        "fifo",
        "-r",
        "lru",
        "-m",
        "12KiB",
        "--format",
        "json",
        "--cgroup",
        "v1",
        "--page-cluster",
        0,
    )
    rows = {
        row["reclaim"]: row
        for row in json.loads(done.stdout)["scenarios"]
        if row["policy"] == "no-zswap"
    }

    # First in, first out, by hand: page 0 is touched often, which helps it with LRU only.
    faults, held = 0, []
    for page in pl.read_parquet(trace)["page"]:
        if page not in held:
            faults += 1
            held = [*held, page][-3:]
    assert rows["fifo"]["pgmajfault"] == faults - 6  # first touches are no major faults
    assert rows["lru"]["pgmajfault"] < rows["fifo"]["pgmajfault"]


NEW = ("keep_over_half.py", "pagelog.py", "fifo.py")


def test_files_that_contributing_names_exist():
    for path in re.findall(r"`((?:tracereplay|tests|notebooks)/[\w/.-]*)`", CONTRIBUTING):
        assert (ROOT / path).exists() or path.endswith(NEW), path


def test_every_command_there_is_stands_in_the_changelog():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for command_ in app.registered_commands:
        assert f"`{command_.name or command_.callback.__name__.replace('_', '-')}`" in changelog


def test_a_run_that_lies_in_two_folders_counts_once():
    kept = docs_script().read_agreement()
    assert kept.select("run", "counter").is_unique().all()


def test_runs_that_are_not_at_hand_stay_in_the_agreement(tmp_path, monkeypatch):
    docs = docs_script()
    copy = tmp_path / "agreement.csv"
    copy.write_bytes(docs.AGREEMENT.read_bytes())
    monkeypatch.setattr(docs, "AGREEMENT", copy)
    names = {"release": pl.String, "rules": pl.String}
    before = pl.read_csv(copy, schema_overrides=names, infer_schema_length=None)
    run = before["run"][100]
    again = before.filter(pl.col("run") == run).with_columns(model=pl.col("model") + 1)
    monkeypatch.setattr("tracereplay.validation.validate", lambda *_, **__: again)
    docs.write_agreement(["somewhere"])
    after = pl.read_csv(copy, schema_overrides=names, infer_schema_length=None)
    assert after["run"].to_list() == before["run"].to_list()
    assert after.filter(pl.col("run") != run).equals(before.filter(pl.col("run") != run))
    changed = after.filter(pl.col("run") == run)["model"] - again["model"]
    assert (changed.drop_nulls().abs() <= again["model"].drop_nulls() * 1e-6).all()


def test_the_version_of_the_package_is_that_of_the_project():
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["version"] == __version__


def test_the_example_of_a_cost_table_is_one(tmp_path):
    reference = (ROOT / "notebooks" / "tables.md").read_text(encoding="utf-8")
    (tmp_path / "lab.json").write_text(re.search(r"```json\n(.*?)```", reference, re.DOTALL)[1])
    device = costs.load_costs(tmp_path / "lab.json", "optane").device
    # Between the points (0, 8000), (0.5, 10000), (0.99, 20000), (1, 90000): 4500 + 7350 + 550.
    assert device.read_ns.mean() == pytest.approx(12_400)
    assert device.write_ns.mean() == 12_000
    assert (device.submit_ns, device.channels, device.extra_page_ns) == (1500, 7, 0)


def test_every_figure_of_a_cost_table_stands_in_the_reference():
    reference = (ROOT / "notebooks" / "tables.md").read_text(encoding="utf-8")
    of_device = {field.name for field in dataclasses.fields(costs.Device)} - {"name"}
    bundled = json.loads(costs._BUNDLED.read_text())
    others = {
        name for kind in ("codecs", "devices") for one in bundled[kind].values() for name in one
    }
    figures = {*costs.FAULT_FIGURES, *costs.MEMORY_FIGURES, *costs.CODEC_FIGURES, *of_device}
    for name in figures | bundled.keys() | bundled["faults"].keys() | others:
        assert f"`{name}`" in reference, name


def test_help_names_what_there_is_where_importing_it_takes_long():
    words = " ".join(run("compare", "--help").stdout.split()).replace("- ", "-")
    policies = re.search(r"`compare` takes ([^`]*), `size`", words)[1]
    assert tuple(re.split(", | and ", policies)) == DEFAULT_POLICIES
    contents = re.search(r"What pages hold: (.*), as bundled;", words)[1]
    assert contents.replace(" (default)", "").split(", ") == list(CONTENTS)
    devices = re.search(r"Swap device: (.*), a device of the table", words)[1]
    disks = json.loads(costs._BUNDLED.read_text())["devices"].keys() - {costs.ZRAM}
    assert set(devices.split(", ")) == disks
    for name in (*RECLAIM, *KERNELS, *schema.CODECS, costs.ZRAM, costs.NO_DEVICE):
        assert name in words


@pytest.mark.parametrize("name", ["oracle.py", "oracle_curve.py"])
def test_an_oracle_imports_nothing_but_the_standard_library(name):
    nodes = list(ast.walk(ast.parse((ROOT / "tests" / name).read_text(encoding="utf-8"))))
    imported = [each.name for node in nodes if isinstance(node, ast.Import) for each in node.names]
    imported += [
        "." * node.level + (node.module or "") for node in nodes if isinstance(node, ast.ImportFrom)
    ]
    assert imported
    assert {module.split(".")[0] for module in imported} <= sys.stdlib_module_names

"""README and docs say what the package is; their commands do what they say."""

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from tracereplay import schema
from tracereplay.cli import app
from tracereplay.policies import POLICIES
from tracereplay.readers import FORMATS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def command(name):
    return re.search(rf"<!-- run: {name} -->\n```sh\n(.*?)\n```", README, re.DOTALL)[1]


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
    assert "memory limit 3.9 MiB (50% of the pages touched)" in done.stdout
    for name in POLICIES:
        assert re.search(rf"^{name} ", done.stdout, re.MULTILINE), name
    assert (tmp_path / "sqlite" / "report.html").stat().st_size < 4_000_000
    summary = pl.read_parquet(tmp_path / "sqlite" / "summary.parquet")
    assert set(summary["policy"]) == set(POLICIES)


def test_the_test_command_is_the_one_that_ci_runs():
    assert "-m pytest" in command("tests")
    assert "run: tests" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "traces/README.md"])
def test_links_and_files_named_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / name).parent.joinpath(target).exists(), target


def test_the_worked_policy_is_a_policy():
    code = re.search(
        r"```python\n# tracereplay/policies/half_page.py\n(.*?)```", CONTRIBUTING, re.DOTALL
    )[1]
    ast.parse(code)
    made = {}
    exec(code, made)
    assert made["POLICY"].name == "half-page"


def test_files_that_contributing_names_exist():
    for path in re.findall(r"`((?:tracereplay|tests|notebooks)/[\w/.-]*)`", CONTRIBUTING):
        assert (ROOT / path).exists() or path.endswith("half_page.py"), path


def test_every_command_there_is_stands_in_the_changelog():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for command_ in app.registered_commands:
        assert f"`{command_.name or command_.callback.__name__.replace('_', '-')}`" in changelog

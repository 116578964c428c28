"""Write what the documents say from what the package is: `make docs`.

Fills the blocks `<!-- generated: NAME -->` … `<!-- end -->` of README.md, writes notebooks/tables.md from
schema.py, and with `--picture` (`make picture`) draws the README's picture from a bundled trace.
`--check` changes nothing and fails where a document is behind; the tests call it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

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
        f"| `{name}` | `{_cell(one.how_to_record)}` |"
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


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


BLOCKS = {"formats": formats_table, "recording": recording_table, "policies": policies_table}


def readme() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, build in BLOCKS.items():
        block = f"<!-- generated: {name} -->\n{build()}\n<!-- end -->"
        pattern = rf"<!-- generated: {name} -->\n.*?<!-- end -->"
        text, count = re.subn(pattern, lambda _, block=block: block, text, flags=re.DOTALL)
        if count != 1:
            sys.exit(f"README.md: expected one block {name!r}, found {count}")
    return text


def tables() -> str:
    from tracereplay import schema

    about = (
        f"What stands in the Parquet files; schema version {schema.SCHEMA_VERSION}. "
        "Made from `tracereplay/schema.py` by `make docs`.\n"
    )
    parts = ["# Tables\n", about]
    described = (
        ("accesses", schema.ACCESSES, "A trace, one row per access; `ingest` writes it. `page` is all it needs."),
        ("pages", schema.PAGES, "Compressed size per page and codec; `pages` writes it."),
        ("summary", schema.SUMMARY, "One row per scenario; `compare --out` writes it."),
        ("latency", schema.LATENCY, "Per scenario and service a histogram of touches; percentiles come from here."),
        ("footprint", schema.FOOTPRINT, "Per scenario memory over the trace, at most 2,000 points."),
        ("curve", schema.CURVE, "Misses at every memory size; `curve` prints it."),
        ("pool curve", schema.POOL_CURVE, "The same with a compressed pool behind the memory."),
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
    return "\n".join(parts) + "\n"


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


def main(arguments: list[str]) -> None:
    behind = []
    for path, text in (
        (ROOT / "README.md", readme()),
        (ROOT / "notebooks" / "tables.md", tables()),
    ):
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

"""What is kept and said where streams, disks and folders are not as hoped."""

import contextlib
import dataclasses
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import tracereplay
from tracereplay.errors import (
    InputError,
    LostEventsError,
    OutputError,
    SettingsError,
    visible,
)
from tracereplay.files import _Remembering, check_free, polars_path, write_table
from tracereplay.host.signals import terminable
from tracereplay.readers import ingest
from tracereplay.replay.settings import Scenario
from tracereplay.report import html

TRACE = Path(__file__).parents[1] / "traces" / "sqlite-index.parquet"
WRITTEN = {"summary", "latency", "footprint", "codecs"}


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    path = tmp_path_factory.mktemp("streams") / "short.parquet"
    pages = np.random.default_rng(3).integers(0, 900, 8_000)
    pl.DataFrame({"page": pages, "is_write": pages % 3 == 0}).write_parquet(path)
    return path


def run(shell: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell; `$T` is the command, and its streams are buffered, as users have them."""
    command = f"{sys.executable} -m tracereplay"
    package = str(Path(tracereplay.__file__).parents[1])
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["/bin/sh", "-c", shell],
        cwd=folder,
        env={**ours, "T": command, "PYTHONPATH": package, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize("stdout", [">/dev/full", ">&-", "| true"])
def test_what_was_asked_for_is_written_though_nobody_can_read_the_table(short, tmp_path, stdout):
    done = run(f"$T compare {short} -p store-raw -m 50% --out out {stdout}", tmp_path)
    assert {path.stem for path in (tmp_path / "out").glob("*.parquet")} == WRITTEN
    assert (tmp_path / "out" / "report.html").is_file()
    done = run(f"$T curve {short} --sizes 1MiB -o curve.parquet {stdout}", tmp_path)
    assert "Traceback" not in done.stderr
    assert pl.read_parquet(tmp_path / "curve.parquet").height == 1


def test_letters_that_a_terminal_lacks_have_a_substitute(short, tmp_path):
    size = "$T size {} --target 'p99<1ms' -p no-zswap"
    for line, encoding in ((size, "ascii"), ("$T inspect {}", "latin-1")):
        done = run(line.format(short), tmp_path, PYTHONIOENCODING=encoding)
        assert done.returncode == 0, done.stderr
        assert "?" in done.stdout


@pytest.mark.parametrize("words", ["--help", "--version", "inspect --help", "formats"])
def test_a_full_disk_is_one_line_though_only_help_is_asked_for(tmp_path, words):
    done = run(f"$T {words} >/dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n")


@pytest.mark.parametrize("size", ["0", "-7", "", "²", "wide"])
def test_a_terminal_of_no_known_size_is_told_all_the_same(short, tmp_path, size):
    sizes = {"COLUMNS": size, "LINES": size}
    done = run("$T inspect absent.parquet", tmp_path, **sizes)
    assert (done.returncode, done.stderr) == (
        1,
        "error: absent.parquet: No such file or directory\n",
    )
    done = run(f"$T compare {short} -p store-raw -m 50%", tmp_path, **sizes)
    assert "store-raw" in done.stdout


def test_a_name_of_a_file_does_not_reach_the_terminal_as_a_command(tmp_path):
    name = "a\x1b[31m\x1b]0;b\x07\r\u202e\x9b1m[red]é"
    done = run('$T inspect "$N.parquet"; echo 1 > "$N"; $T ingest "$N" -o t', tmp_path, N=name)
    shown = r"a\x1b[31m\x1b]0;b\x07\r\u202e\x9b1m[red]é"
    first, *_ = lines = done.stderr.splitlines()
    assert first == f"error: {shown}.parquet: No such file or directory"
    assert any(shown in line for line in lines[1:]), lines
    assert "".join(lines).isprintable()
    odd = os.fsdecode(b"\xff")
    assert visible(f"{odd}: one\ntwo") == "\\xff: one\ntwo"
    progress = "from tracereplay.cli.ingest import show_progress as s\nimport sys, types\n"
    progress += "sys.stderr.isatty = lambda: True\n"
    progress += f"x = types.SimpleNamespace(name={name!r}, total_bytes=9, bytes_read=1)\n"
    progress += "with s() as update: update(x, 1)\n"
    done = subprocess.run(
        [sys.executable, "-c", progress],
        env={**os.environ, "COLUMNS": "150", "FORCE_COLOR": "1", "TERM": "xterm"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert shown in done.stderr


def test_a_full_disk_is_one_line_and_the_table_is_shown(short, tmp_path):
    line = f"$T curve {short} >/dev/null; ulimit -f 1; $T curve {short} -o c.parquet"
    done = run(line, tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: c.parquet: ")
    assert "misses" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stdout", ["| true", ">/dev/full"])
def test_a_full_disk_is_told_though_nobody_reads_the_table(short, tmp_path, stdout):
    line = f"$T curve {short} >/dev/null; ulimit -f 1; $T curve {short} -o c.parquet {stdout}"
    assert run(line, tmp_path).stderr.splitlines()[-1].startswith("error: c.parquet: ")


@pytest.fixture
def full_disk(monkeypatch):
    """Let every output be on a disk that is full."""

    def touch(path: Path, **_: bool) -> None:
        path.symlink_to("/dev/full")

    monkeypatch.setattr(Path, "touch", touch)


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("rows", [10, 3_000_000])
def test_a_full_disk_is_told_in_the_words_of_the_system(tmp_path, rows):
    frame = pl.DataFrame({"a": np.random.default_rng(1).integers(0, 1 << 60, rows)})
    with pytest.raises(OutputError) as caught:
        write_table(frame, tmp_path / "a.parquet")
    assert str(caught.value) == f"{tmp_path / 'a.parquet'}: No space left on device"
    frame.rename({"a": "page"}).write_parquet(tmp_path / "pages.parquet")
    with pytest.raises(OutputError) as caught:
        ingest(tmp_path / "pages.parquet", tmp_path / "b.parquet")
    assert str(caught.value) == f"{tmp_path / 'b.parquet'}: No space left on device"
    assert [path.name for path in tmp_path.iterdir()] == ["pages.parquet"]


def test_a_file_that_may_not_grow_further_is_told_as_one(tmp_path):
    (tmp_path / "memory").write_bytes(np.random.default_rng(1).bytes(4096 * 4000))
    done = run("ulimit -f 8; $T pages memory --codec lz4 -o p.parquet", tmp_path)
    assert done.stderr.splitlines()[-1] == "error: p.parquet: File too large"


def test_a_table_is_written_piece_by_piece(tmp_path):
    frame = pl.DataFrame({"a": np.random.default_rng(1).integers(0, 1 << 60, 3_000_000)})
    sizes = []

    class Counting(_Remembering):
        def write(self, data):
            sizes.append(len(data))
            return super().write(data)

    with (tmp_path / "a.parquet").open("wb") as file:
        frame.write_parquet(Counting(file))
    assert sum(sizes) > 20 << 20
    assert max(sizes) <= 4 << 20
    write_table(frame, tmp_path / "b.parquet", metadata={"k": "v"})
    assert pl.read_parquet(tmp_path / "b.parquet").equals(frame)
    assert pl.read_parquet_metadata(tmp_path / "b.parquet")["k"] == "v"


NAMES = ["run[12]", "q?", "s*r", "~/a", "~", "file:/a", "file:x", "d[1]/a", "a\\b", "ü"]


@pytest.mark.parametrize("name", NAMES)
def test_polars_reads_the_file_that_is_named_and_no_other(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    other = pl.DataFrame({"page": [7]})
    for near in ("run1", "run2", "d1/a", "a"):
        Path(near).parent.mkdir(exist_ok=True)
        other.write_parquet(f"{near}.parquet")
        other.write_ipc(f"{near}.arrow")
    asked = pl.DataFrame({"page": [1, 2, 3]})
    Path(name).parent.mkdir(exist_ok=True)
    with Path(f"{name}.parquet").open("wb") as file:
        asked.write_parquet(file, metadata={"k": "v"})
    with Path(f"{name}.arrow").open("wb") as file:
        asked.write_ipc(file)
    with Path(f"{name}.csv").open("wb") as file:
        asked.write_csv(file)
    for start in ("", f"{tmp_path}/"):
        path = polars_path(f"{start}{name}.parquet")
        assert pl.read_parquet(path).equals(asked)
        assert pl.scan_parquet(path).collect().equals(asked)
        assert pl.scan_ipc(polars_path(f"{start}{name}.arrow")).collect().equals(asked)
        assert pl.read_csv(polars_path(f"{start}{name}.csv")).equals(asked)
        assert pl.scan_csv(polars_path(f"{start}{name}.csv")).collect().equals(asked)
        literal = polars_path(f"{start}{name}.parquet", expands=False)
        assert pl.read_parquet_metadata(literal)["k"] == "v"
        assert pl.read_parquet_schema(literal).keys() == {"page"}


def test_polars_reads_a_name_beside_others_from_a_folder_that_is_no_utf8(tmp_path, monkeypatch):
    folder = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(folder)  # noqa: PTH102  # bytes are no Path
    monkeypatch.chdir(folder)
    pl.DataFrame({"page": [1]}).write_parquet("a.parquet")
    assert pl.read_parquet(polars_path("a.parquet"))["page"].to_list() == [1]
    with pytest.raises(InputError, match=r"\\xff/a\.parquet: the name is not UTF-8; rename it"):
        polars_path(os.fsdecode(folder + b"/a.parquet"))


@pytest.mark.parametrize("locale", ["C", "de_DE.iso88591"])
def test_a_name_in_utf8_is_one_in_any_locale(tmp_path, locale):
    pl.DataFrame({"page": [1, 2, 3]}).write_parquet(tmp_path / "ümlaut.parquet")
    (tmp_path / "ümlaut.raw").write_bytes(bytes(4096))
    folder = tmp_path / "locales"
    folder.mkdir()
    with contextlib.suppress(FileNotFoundError):  # without it, it is C once more
        command = ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", str(folder / "de_DE.iso88591")]
        subprocess.run(command, capture_output=True, check=False)
    legacy = {
        "LOCPATH": str(folder),
        "LC_ALL": locale,
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    }
    line = "$T ingest ümlaut.parquet -o ö.parquet && $T pages ümlaut.raw -o ä.parquet"
    done = run(line, tmp_path, **legacy)
    assert done.returncode == 0, done.stderr
    source = json.loads(pl.read_parquet_metadata(tmp_path / "ö.parquet")["tracereplay.sources"])
    assert source == ["ümlaut.parquet"]
    assert pl.read_parquet(tmp_path / "ö.parquet")["page"].to_list() == [1, 2, 3]
    assert pl.read_parquet_metadata(tmp_path / "ä.parquet")["tracereplay.source"] == "ümlaut.raw"
    assert len(list(tmp_path.iterdir())) == 5


def test_a_name_that_the_locale_cannot_write_is_one_line():
    code = "from tracereplay.files import check_name, Input\n"
    for call in ("check_name", "Input"):
        code += f"try: {call}('\\u65e5')\nexcept Exception as error: print(repr(error))\n"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("InputError(\"'\\\\u65e5': this locale cannot write the name;") == 2


def test_a_capture_is_read_whatever_its_name_is(tmp_path):
    whole = tmp_path / "a.parquet"
    pl.DataFrame({"page": [1, 2, 3]}).write_parquet(whole)
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.parquet"))
    whole.rename(odd)
    ingest(odd, tmp_path / "b.parquet")
    assert pl.read_parquet(tmp_path / "b.parquet")["page"].to_list() == [1, 2, 3]
    sources = pl.read_parquet_metadata(tmp_path / "b.parquet")["tracereplay.sources"]
    assert json.loads(sources) == ["\\xff.parquet"]


def test_what_cannot_be_made_is_named_as_it_was_given(tmp_path):
    for path in (tmp_path / ("x" * 256), Path("/dev/null/x")):
        with pytest.raises(OutputError, match=r"x: (File name too long|no such folder)"):
            check_free(path)


@pytest.mark.parametrize("letter", ["x", "é", "\N{GRINNING FACE}"])
def test_a_name_as_long_as_names_may_be_is_taken(tmp_path, letter):
    path = tmp_path / (letter * (255 // len(letter.encode())))
    write_table(pl.DataFrame({"a": [1]}), path)
    assert pl.read_parquet(path)["a"].to_list() == [1]
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_table_that_polars_cannot_write_is_an_output_error(tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise pl.exceptions.ComputeError("parquet: No space left on device\nmore")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", fail)
    with pytest.raises(OutputError, match=r"a\.parquet: cannot be written: parquet: No space left"):
        write_table(pl.DataFrame({"a": [1]}), tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_as_soon_as_the_part_is_there_leaves_nothing(tmp_path, monkeypatch):
    touch = Path.touch

    def interrupted(path: Path, **options: bool) -> None:
        touch(path, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "touch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_table(pl.DataFrame({"a": [1]}), tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("hang_up")
def test_what_runs_without_a_terminal_goes_on_when_that_is_closed():
    code = (
        "import os, signal, sys\n"
        "from tracereplay.host.signals import terminable\n"
        "with terminable():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    print('goes on')\n"
    )
    command = [sys.executable, "-c", code]
    for words, says in ((["nohup", *command], "goes on\n"), (command, "")):
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0 if says else 129, says)


def test_signals_that_follow_do_not_disturb_the_way_out():
    left = []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        finally:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
            left.append("removed")

    with pytest.raises(SystemExit) as caught, terminable():
        work()
    assert caught.value.code == 143
    assert left == ["removed"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_child_takes_no_module_from_the_folder_it_is_started_in(tmp_path):
    for name in ("re", "numpy", "runpy"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w').close()")
    command = tracereplay.child_command("tracereplay.precompile")
    done = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode in (0, 1)  # its parent's end of the pipe is closed: it may end by that
    assert not (tmp_path / "ran").exists()


def test_a_page_is_made_where_nobody_has_a_home(monkeypatch):
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(tracereplay, "cache_folder", homeless)
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda _: "drawn")
    assert html.load_library.__wrapped__() == "drawn"  # another test may have loaded it


def test_lost_events_reach_the_caller_of_another_process():
    error = pickle.loads(pickle.dumps(LostEventsError("lost 3 events", 3)))
    assert (str(error), error.count) == ("lost 3 events", 3)


def test_a_name_nobody_chose_is_made_anew():
    base = Scenario(memory_limit_bytes=8 << 20)
    names = [dataclasses.replace(base, memory_limit_bytes=mib << 20).name for mib in (4, 8)]
    assert names == ["store-raw/two-list/4.0MiB", "store-raw/two-list/8.0MiB"]
    chosen = dataclasses.replace(base, name="mine")
    assert dataclasses.replace(chosen, memory_limit_bytes=1 << 20).name == "mine"


def test_numbers_of_numpy_are_numbers_and_others_are_refused(short, tmp_path):
    scenario = Scenario(memory_limit_bytes=np.int64(2 << 20), swappiness=np.uint8(60))
    tracereplay.compare(short, [scenario]).write(tmp_path / "out")
    assert (tmp_path / "out" / "run.json").is_file()
    for wrong in (1 << 63, 1.5, None, "1MiB"):
        with pytest.raises(SettingsError, match="memory_limit_bytes is "):
            Scenario(memory_limit_bytes=wrong)
    with pytest.raises(SettingsError, match="too large a size"):
        tracereplay.curve(short, [1 << 64])
    with pytest.raises(InputError, match="is no file"):
        tracereplay.open_trace("a\0b")

"""The Typer application, its error edge, and what every command shares."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

import tracereplay
from tracereplay import __version__
from tracereplay.errors import TracereplayError, strerror, visible
from tracereplay.host.signals import ENDED_BY, terminable

if TYPE_CHECKING:
    from tracereplay.comparison import Result


def stderr_console() -> Any:
    """Return a console on stderr that takes text literally and never wraps a line in a pipe."""
    from rich.console import Console

    return Console(stderr=True, markup=False, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """Print one line of talk on stderr."""
    stderr_console().print(visible(text))


def _tell(mistake: str) -> None:
    stderr_console().print(visible(mistake), style="red")


@contextlib.contextmanager
def progress_bar(what: str, *, per_second: str = "") -> Iterator[Callable[[int, int], None] | None]:
    """Show how much is done, and of how much, on stderr where it is a terminal; nothing elsewhere.

    per_second : what is counted by the million, where its rate is shown as well
    """
    if not sys.stderr.isatty():  # asked first: half of what rich takes to import is the bar
        yield None
        return
    from rich.progress import Progress, TextColumn

    columns = list(Progress.get_default_columns())
    if per_second:
        columns.append(TextColumn("{task.fields[rate]}"))
    with Progress(*columns, console=stderr_console(), transient=True) as bar:
        task = bar.add_task(what, total=None, rate="")

        def update(done: int, total: int) -> None:
            speed = bar.tasks[0].speed or 0
            rate = f"{speed / 1e6:.1f} M {per_second}/s"
            bar.update(task, completed=done, total=total, rate=rate)

        yield update


def print_result(format: str, result: Result, as_table: Callable[[Any], None]) -> None:
    """Print a comparison as JSON or CSV, or have `as_table` print it on a console."""
    from tracereplay.report import table

    if format == "table":
        from rich.console import Console

        as_table(Console())
        return
    to_text = table.to_json if format == "json" else table.to_csv
    typer.echo(to_text(result.summary, result.latency, result.run).rstrip("\n"))


def flush() -> None:
    """Flush stdout inside the command, so that a closed pipe ends it quietly with status 1."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_unwritten()
        raise typer.Exit(1) from None


def _drop_unwritten() -> None:
    """Let go of what stdout cannot write: the interpreter would fail by it at its end, with status 120."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def written_first(show: Callable[[], None]) -> Iterator[Callable[[Path], None]]:
    """Let the block write files, then show; hand out what notes a file that was written.

    Where nobody reads what is shown any more (`| head`), what was asked for is kept all the same; and
    where a disk is full, it is at least shown.
    """
    wrote: list[Path] = []
    try:
        yield wrote.append
    except BaseException:
        # What is told is what the block failed by, not that nobody reads the rest.
        with contextlib.suppress(OSError, typer.Exit, SystemExit):
            show()
            flush()
        raise
    else:
        show()
        flush()
    finally:
        for path in wrote:
            note(f"wrote {path}")


_INTERRUPTED = 130


class _OneLineErrors(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TracereplayError as error:
            _tell(f"error: {error}")
            _drop_unwritten()
            raise typer.Exit(error.exit_code) from error
        except BrokenPipeError:
            raise
        except (OSError, MemoryError) as error:  # of a file no one thought of; no traceback
            what = getattr(error, "strerror", None) or str(error) or "out of memory"
            where = getattr(error, "filename", None)
            told = f"error: {where}: {what}" if where else f"error: {what}"
            _tell(told)
            _drop_unwritten()
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            note("interrupted")
            raise typer.Exit(_INTERRUPTED) from error


app = typer.Typer(
    name="tracereplay",
    cls=_OneLineErrors,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    # Plain help: half the start-up is importing what draws boxes around it, and pipes and greps stay clean.
    rich_markup_mode=None,
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"tracereplay {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show version."),
    ] = False,
) -> None:
    """Replay a page-access trace through Linux reclaim and zswap, once per policy, and compare."""
    del version  # answered by its callback
    tracereplay.when_compiling = _tell_compiling


def _tell_compiling(is_kept: bool) -> None:
    later = "later runs find the result in the cache"
    if not is_kept:
        later = "no folder to keep the result in, so each run does; NUMBA_CACHE_DIR names one"
    note(f"compiling for this machine; {later}")


def main() -> None:
    """Run the command line; the entry point of the `tracereplay` script."""
    _prepare_streams()
    try:
        with terminable():
            app()
    except KeyboardInterrupt:  # before a command began
        sys.stderr.write("interrupted\n")
        _leave(_INTERRUPTED)
    except OSError as error:  # what is told instead of a command: help, the version
        with contextlib.suppress(OSError):
            sys.stderr.write(f"error: {strerror(error)}\n")
        _leave(1)
    except SystemExit as end:
        if isinstance(end.code, int) and end.code in ENDED_BY:
            _leave(end.code)
        raise


def _prepare_streams() -> None:
    """Give closed streams an end (daemons, `>&-`), and letters a terminal lacks a substitute.

    rich takes COLUMNS=0, as a terminal of unknown width may have it, for a width of no column at all.
    """
    for name in ("COLUMNS", "LINES"):
        size = os.environ.get(name, "1")
        if not (size.isascii() and size.isdecimal() and len(size) < 6 and int(size) > 0):
            del os.environ[name]
    for name in ("stdin", "stdout", "stderr"):  # as their descriptors: the lowest free is given
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            end = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115  # for good
            setattr(sys, name, end)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="replace")


def _leave(status: int) -> None:
    """End without waiting for threads: one may be compiling for many seconds yet."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(status)

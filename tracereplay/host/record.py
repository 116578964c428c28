"""Runs a command under the best recorder of page accesses that works here, and makes the table of it.

A recorder is asked before it is used: a trial on `true` shows what a look at files cannot, rights
above all. The capture lies in a hidden folder beside the table while it is made; nothing of it is
left afterwards, whatever ends the run, and neither is the command.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tracereplay.errors import (
    FormatError,
    HostError,
    InputError,
    LostEventsError,
    strerror,
    unknown_name,
)
from tracereplay.files import HIDDEN_LETTERS, check_free
from tracereplay.host.signals import held_signals, terminable
from tracereplay.host.system import need_linux
from tracereplay.readers import Ingested, Options, Progress, ingest

_DAMON = Path("/sys/kernel/mm/damon/admin")
_BUFFER_PAGES = 1024  # of each CPU, 4 MiB; users without rights may lock 516 KiB
_UNPRIVILEGED_PAGES = 128
_NAP_S = 0.05
_PATIENCE_S = 5.0
_POLITE_S = 1.0  # for a recorder to end what it started
_FULL_BYTES = 1 << 20  # less room than this is a full disk

_BPF_PROGRAM = (
    'BEGIN{printf("time_ns,pid,tid,cpu,vaddr,error_code\\n")} '
    "tracepoint:exceptions:page_fault_user,tracepoint:exceptions:page_fault_kernel /pid==cpid/ "
    '{printf("%llu,%d,%d,%d,0x%lx,0x%lx\\n",'
    "nsecs,pid,tid,cpu,args->address,args->error_code)}"
)


@dataclasses.dataclass(frozen=True)
class Recorder:
    """One way to record a command.

    name : what `--tool` takes
    summary : what it sees, in one line
    program : what must be installed
    command : (capture, command, pages of buffer) → what to run
    environment : variables it is run with
    streams : writes to standard error what is read while it runs; the capture is a pipe
    script : command → what must stand in CAPTURE.sh; "" where nothing need
    """

    name: str
    summary: str
    program: str
    command: Callable[[str, Sequence[str], int], list[str]]
    environment: Callable[[int], dict[str, str]] = lambda _: {}
    streams: bool = False
    script: Callable[[Sequence[str]], str] = lambda _: ""

    def line(self, capture: str, command: Sequence[str], pages: int) -> str:
        """Return what is run, as one types it."""
        variables = [f"{name}={value}" for name, value in self.environment(pages).items()]
        line = " ".join([*variables, shlex.join(self.command(capture, command, pages))])
        if text := self.script(command):
            return f"printf '%s\\n' {shlex.quote(text)} > {shlex.quote(capture)}.sh && {line}"
        return line


def _tracepoints(capture: str, command: Sequence[str], pages: int) -> list[str]:
    events = ["-e", "exceptions:page_fault_user", "-e", "exceptions:page_fault_kernel"]
    options = ["-q", *events, "-c", "1", "-m", str(pages), "-o", capture]
    return ["perf", "record", *options, "--", *command]


def _software(capture: str, command: Sequence[str], pages: int) -> list[str]:
    options = ["-q", "-e", "page-faults", "-d", "-c", "1", "--sample-cpu", "-m", str(pages)]
    return ["perf", "record", *options, "-o", capture, "--", *command]


def _bpftrace(capture: str, command: Sequence[str], pages: int) -> list[str]:
    del pages
    words = ["/bin/sh", f"{capture}.sh"] if _bpftrace_script(command) else _found(command)
    return ["bpftrace", "-q", "-e", _BPF_PROGRAM, "-o", capture, "-c", " ".join(words)]


def _bpftrace_script(command: Sequence[str]) -> str:
    """Return the shell script that starts a command bpftrace cannot start itself; "" where it can.

    It splits the command at every blank, quoted or not, and starts programs, but no scripts.
    """
    words = _found(command)
    is_program = False
    with contextlib.suppress(OSError), Path(words[0]).open("rb") as file:
        is_program = file.read(4) == b"\x7fELF"
    if is_program and shlex.join(words) == " ".join(words):
        return ""
    return f"exec {shlex.join(words)}"


def _found(command: Sequence[str]) -> list[str]:
    """Return the command with the file its name means by PATH."""
    return [shutil.which(command[0]) or command[0], *command[1:]]


def _damo(capture: str, command: Sequence[str], pages: int) -> list[str]:
    del pages
    return ["damo", "record", "-o", capture, shlex.join(command)]


def _lackey(capture: str, command: Sequence[str], pages: int) -> list[str]:
    del pages
    # Children as well, or of a script the shell alone; without -q each process says that it was there.
    options = ["--tool=lackey", "--basic-counts=no", "--trace-mem=yes", "--trace-children=yes"]
    return ["valgrind", *options, f"--log-fd={capture}", *command]


# Best first; the last one only where every access is asked for: it is hundreds of times slower.
RECORDERS = {
    recorder.name: recorder
    for recorder in (
        Recorder("perf", "page faults with read or write, by tracepoints", "perf", _tracepoints),
        Recorder("perf-sw", "page faults, by the software event", "perf", _software),
        Recorder(
            "bpftrace",
            "page faults of the process itself, by tracepoints",
            "bpftrace",
            _bpftrace,
            lambda pages: {"BPFTRACE_PERF_RB_PAGES": str(pages)},
            script=_bpftrace_script,
        ),
        Recorder("damon", "accessed bits by region and interval, sampled", "damo", _damo),
        Recorder("lackey", "every load, store and fetch (slow)", "valgrind", _lackey, streams=True),
    )
}
FULL = "lackey"


@dataclasses.dataclass(frozen=True)
class Recorded:
    """What `record` did: the table, the recorder, and how the command ended."""

    table: Ingested
    recorder: str
    line: str
    status: int


def commands(command: Sequence[str], tool: str | None = None) -> list[tuple[Recorder, str]]:
    """Return each recorder with the line that records `command` by it; nothing is run."""
    chosen = [_named(tool)] if tool else list(RECORDERS.values())
    suffix = {"perf": ".data", "perf-sw": ".data", "damon": ".damon", "bpftrace": ".csv"}
    lines = []
    for recorder in chosen:
        if recorder.streams:
            line = recorder.line("3", command, _BUFFER_PAGES)
            line += " 3> >(tracereplay ingest - --collapse --data-only -o trace.parquet)"
        else:
            capture = "capture" + suffix[recorder.name]
            line = recorder.line(capture, command, _BUFFER_PAGES)
            line += f" && tracereplay ingest {capture} -o trace.parquet"
        lines.append((recorder, line))
    return lines


def _named(tool: str) -> Recorder:
    if tool not in RECORDERS:
        raise unknown_name("recorder", tool, list(RECORDERS))
    return RECORDERS[tool]


def record(
    command: Sequence[str],
    output: Path,
    *,
    tool: str | None = None,
    full: bool = False,
    buffer_pages: int | None = None,
    seconds: float | None = None,
    options: Options | None = None,
    force: bool = False,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress | None = None,
) -> Recorded:
    """Run `command` under a recorder and write the table of its page accesses.

    Parameters
    ----------
    tool : a name in RECORDERS; None for the best that works
    full : every access, by valgrind
    buffer_pages : of each CPU; a larger buffer loses fewer events
    seconds : end the command after this time
    say : called with the line that is run, before it is

    Raises
    ------
    HostError
        The command does not exist, or no recorder works here.
    FormatError
        The recorder lost events, or recorded none.
    """
    _check_command(command)
    check_free(output, force=force)
    options = options or Options()
    if full and tool not in (None, FULL):
        raise HostError(f"--full is every access, which {tool} does not see: leave out one of them")
    if not full and tool != FULL:  # which names addresses, whatever the kernel's pages are
        need_linux("recording page faults")
    pages = buffer_pages or (_BUFFER_PAGES if os.geteuid() == 0 else _UNPRIVILEGED_PAGES)
    with terminable(), _folder(output) as folder:
        recorder = _choose(FULL if full else tool, folder, pages)
        if recorder.streams:
            run = _run_streaming
            # Code is no anonymous memory: its fetches are left out.
            options = dataclasses.replace(options, collapse=True, data_only=True)
        else:
            run = _run_then_read
        line = recorder.line(_shown(recorder, folder), command, pages)
        say(line)
        try:
            table, status = run(
                recorder, command, folder, pages, seconds,
                lambda capture: ingest(
                    capture, output, options=options, force=force, progress=progress
                ),
            )  # fmt: skip
        except LostEventsError as error:
            raise FormatError(
                f"{recorder.name} lost {error.count} events: record again with --buffer-pages "
                f"{8 * pages}, or --allow-lost goes on without them"
            ) from error
    return Recorded(table, recorder.name, line, status)


def _shown(recorder: Recorder, folder: Path) -> str:
    return "3" if recorder.streams else str(folder / "capture")


def _check_command(command: Sequence[str]) -> None:
    if not command:
        raise HostError("no command to record: tracereplay record -o trace.parquet -- CMD")
    if shutil.which(command[0]):
        return
    path = Path(command[0])
    if os.sep in command[0] and path.exists():
        what = "is a folder" if path.is_dir() else "is not executable (chmod +x)"
    else:
        what = "no such command"
    raise HostError(f"{command[0]}: {what}")


@contextlib.contextmanager
def _folder(output: Path) -> Iterator[Path]:
    """Yield a hidden folder beside the output: a capture is as large as the disk of the table."""
    try:
        prefix = f".{output.name[:HIDDEN_LETTERS]}."
        folder = tempfile.mkdtemp(prefix=prefix, suffix=".record", dir=output.parent)
    except OSError as error:
        raise HostError(f"{output.parent}: {strerror(error)}") from error
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# -- which one works -----------------------------------------------------------------------------


def _choose(tool: str | None, folder: Path, pages: int) -> Recorder:
    wanted = [_named(tool)] if tool else [r for r in RECORDERS.values() if not r.streams]
    reasons: dict[str, str] = {}
    for recorder in wanted:
        why = _obstacle(recorder, folder, pages)
        if not why:
            return recorder
        reasons.setdefault(why, recorder.name)
    told = "; ".join(f"{name}: {why}" for why, name in reasons.items())
    hint = "" if tool else "; --full needs no rights, only valgrind"
    raise HostError(f"no recorder works here ({told}){hint}")


def _obstacle(recorder: Recorder, folder: Path, pages: int) -> str:
    """Return why a recorder does not work here, "" where it does."""
    if shutil.which(recorder.program) is None:
        return f"{recorder.program} is not installed"
    if recorder.name == "damon":
        operations = _DAMON / "kdamonds" / "0" / "contexts" / "0" / "avail_operations"
        with contextlib.suppress(OSError):
            return "" if "vaddr" in operations.read_text() else "no DAMON of addresses (vaddr)"
        return "" if _DAMON.is_dir() else "the kernel has no DAMON"
    if recorder.streams:
        return ""
    trial = folder / "trial"
    command = recorder.command(str(trial), ["true"], pages)
    try:
        done = subprocess.run(  # noqa: S603
            command,
            env={**os.environ, **recorder.environment(pages)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error).splitlines()[0]
    if done.returncode == 0 and trial.is_file() and trial.stat().st_size:
        trial.unlink()
        return ""
    said = done.stderr.decode("utf-8", "replace")
    if "ermission" in said or "not permitted" in said or "root" in said:
        return f"{recorder.program} is not permitted to (be root, or lower perf_event_paranoid)"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[0][:160] if lines else f"{recorder.program} failed with {done.returncode}"


# -- running -------------------------------------------------------------------------------------

_Read = Callable[[Path], Ingested]


def _run_then_read(
    recorder: Recorder,
    command: Sequence[str],
    folder: Path,
    pages: int,
    seconds: float | None,
    read: _Read,
) -> tuple[Ingested, int]:
    capture = folder / "capture"
    if text := recorder.script(command):
        if shlex.quote(str(capture)) != str(capture):
            raise HostError(
                f"{recorder.name} takes no path with blanks or quotes: write the table elsewhere"
            )
        Path(f"{capture}.sh").write_text(f"{text}\n")
    with _started(recorder, str(capture), command, pages) as child:
        status = _wait(child, seconds)
    with _explained(recorder, child, folder):
        return read(capture), status


def _run_streaming(
    recorder: Recorder,
    command: Sequence[str],
    folder: Path,
    pages: int,
    seconds: float | None,
    read: _Read,
) -> tuple[Ingested, int]:
    """Read the capture while it is made: it would be far larger than the table."""
    theirs, ours = -1, -1
    try:
        ours, theirs = os.pipe()
        capture = folder / recorder.name
        capture.symlink_to(f"/dev/fd/{ours}")
        with _started(
            recorder, str(theirs), command, pages, pipe=ours, pass_fds=(theirs,)
        ) as child:
            os.close(theirs)
            theirs = -1
            is_over = threading.Event()

            def end_it() -> None:
                is_over.set()
                _end(child, ours)

            timer = threading.Timer(seconds or 0, end_it)
            if seconds:
                timer.start()
            try:
                with _explained(recorder, child, folder):
                    table = read(capture)
            finally:
                timer.cancel()
                if seconds:
                    timer.join()
            status = _wait(child, _PATIENCE_S)
            return table, 0 if is_over.is_set() else status
    finally:
        for end in (ours, theirs):
            if end >= 0:
                os.close(end)


@contextlib.contextmanager
def _explained(recorder: Recorder, child: subprocess.Popen[bytes], folder: Path) -> Iterator[None]:
    """Say of a capture that cannot be read what its recorder died of, where it did."""
    try:
        yield
    except LostEventsError:
        raise
    except InputError as error:
        room = os.statvfs(folder)
        if room.f_bavail * room.f_frsize < _FULL_BYTES:
            raise HostError(
                f"{folder.parent}: the disk is full, and what {recorder.program} recorded is cut "
                "short; write the table to a larger one"
            ) from error
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_PATIENCE_S)
        if child.returncode:
            status = child.returncode
            how = f"signal {-status}" if status < 0 else f"status {status}"
            raise HostError(
                f"{recorder.program} ended with {how}, and what it recorded cannot be read ({error})"
            ) from error
        raise


@contextlib.contextmanager
def _started(
    recorder: Recorder,
    capture: str,
    command: Sequence[str],
    pages: int,
    *,
    pipe: int | None = None,
    **more: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start the recorder; it has ended, and the command with it, when the block is left."""
    child = None
    try:
        with held_signals():  # one that came while it starts would leave it running
            try:
                child = subprocess.Popen(  # noqa: S603
                    recorder.command(capture, command, pages),
                    env={**os.environ, **recorder.environment(pages)},
                    **more,
                )
            except OSError as error:
                raise HostError(f"{recorder.program}: {strerror(error)}") from error
        yield child
    finally:
        if child is not None:
            _end(child, pipe)


def _wait(child: subprocess.Popen[bytes], seconds: float | None) -> int:
    """Return the status; naps, because a wait in the kernel would not see Ctrl-C under polars."""
    until = time.monotonic() + seconds if seconds else None
    while child.poll() is None:
        if until is not None and time.monotonic() > until:
            _end(child)
            return 0
        time.sleep(_NAP_S)
    return child.returncode


def _end(child: subprocess.Popen[bytes], pipe: int | None = None) -> None:
    """End the recorder and what it started, gently at first.

    It is asked first, and ends what it started; but it may wait for that, so that next come its
    descendants, and itself last: a recorder that is killed leaves half a capture. Of one that writes
    into a pipe everything that holds the pipe is meant, which daemons do that are no descendants.
    """
    started: dict[int, str] = {}

    def is_over() -> bool:
        started.update(_descendants(child.pid) | _writers(pipe))
        return child.poll() is not None and (pipe is None or not _writers(pipe))

    for number, asks, wait_s in (
        (signal.SIGINT if pipe is None else signal.SIGTERM, True, _POLITE_S),
        (signal.SIGTERM, False, _PATIENCE_S),
        (signal.SIGKILL, False, _PATIENCE_S),
        (signal.SIGTERM, True, _PATIENCE_S),
        (signal.SIGKILL, True, _PATIENCE_S),
    ):
        if is_over():
            break
        if asks:
            child.send_signal(number)
        else:
            _signal_all(started, number)
        until = time.monotonic() + wait_s
        while not is_over() and time.monotonic() < until:
            time.sleep(_NAP_S)
    _signal_all(started, signal.SIGKILL)


def _signal_all(processes: dict[int, str], number: signal.Signals) -> None:
    for pid, begun in processes.items():
        if _start_time(pid) == begun:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


def _writers(pipe: int | None) -> dict[int, str]:
    """Return the other processes that hold a pipe, each with its start time; none without a pipe."""
    if pipe is None:
        return {}
    name, found = f"pipe:[{os.fstat(pipe).st_ino}]", {}
    for path in Path("/proc").glob("[0-9]*/fd"):
        pid = int(path.parent.name)
        with contextlib.suppress(OSError):
            if pid != os.getpid() and any(str(fd.readlink()) == name for fd in path.iterdir()):
                found[pid] = _start_time(pid)
    return found


def _descendants(pid: int) -> dict[int, str]:
    """Return the processes below a process, each with its start time: a pid may be used again."""
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                for text in path.read_text().split():
                    child = int(text)
                    if child not in found and (begun := _start_time(child)):
                        found[child] = begun
                        waiting.append(child)
    return found


def _start_time(pid: int) -> str:
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    return ""

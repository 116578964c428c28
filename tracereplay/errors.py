"""Mistakes a user can mend: one line each, saying what, where, and what to do next."""

from __future__ import annotations

import os
import unicodedata


class TracereplayError(Exception):
    """Base of every error the command line turns into one line on stderr and `exit_code`."""

    exit_code = 1


class InputError(TracereplayError):
    """An input file cannot be read, or holds something other than what it should."""


class FormatError(InputError):
    """No reader knows this input, or the layout cannot answer the question asked of it."""


class LostEventsError(FormatError):
    """The recorder says that it lost `count` events."""

    def __init__(self, message: str, count: int) -> None:
        super().__init__(message)
        self.count = count

    def __reduce__(self) -> tuple[type, tuple[str, int]]:
        return type(self), (str(self), self.count)  # to another process, as pools send it


class TraceSchemaError(InputError):
    """A trace or another table lacks a column, or has one of the wrong type."""


class OutputError(TracereplayError):
    """A result cannot be written, or would overwrite one that is there."""


class SettingsError(TracereplayError):
    """A scenario asks for something that does not exist or does not go together."""


class HostError(TracereplayError):
    """This machine lacks what the command needs: a tool, a right, a kernel feature."""


def visible(text: str) -> str:
    """Return the text with what a terminal would obey, or cannot show, written as escapes.

    Names of files come from others: one may move the cursor, or turn the writing direction. Bytes of
    a name that is no UTF-8 are shown as such; lines stay lines.
    """
    if text.isprintable():
        return text
    return "".join(map(_visible, text))


def _visible(letter: str) -> str:
    # Python calls no space but one printable; joiners hold emoji, and letters of some scripts, together.
    if letter.isprintable() or letter in "\n\u200c\u200d" or unicodedata.category(letter) == "Zs":
        return letter
    if "\udc80" <= letter <= "\udcff":  # as Python keeps such bytes
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")


def first_line(error: BaseException) -> str:
    """Return the first line of what another library says, or the name of its error."""
    text = str(error)
    return text.splitlines()[0] if text else type(error).__name__


def strerror(error: OSError) -> str:
    """Return what the system says of an error; a library may have put words of its own around it."""
    return os.strerror(error.errno) if error.errno else str(error)


def unknown_name(kind: str, name: str, known: list[str]) -> SettingsError:
    """Return the error for a name that is not in a registry, with the nearest ones offered."""
    import difflib

    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(known)}"
    return SettingsError(f"unknown {kind} {name!r}; {hint}")

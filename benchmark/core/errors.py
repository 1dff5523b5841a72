"""Errors that a user can fix. The command line prints them on one line and exits with code 2."""

import re
import reprlib
import sys

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 200
_SHORT.maxlevel = 3


def on_one_line(error: Exception) -> str:
    """Kind and message of any exception, without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def printable(text: str) -> str:
    """Text with every character escaped that would break the line or steer a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


_WORDS = (
    (r"Value error, ", ""),
    (r"Input should be a valid integer.*", "must be a whole number"),
    (r"Input should be a valid number.*", "must be a number"),
    (r"Input should be a finite number", "must be a finite number"),
    (r"Input should be a valid boolean.*", "must be true or false"),
    (r"Input should be a valid string", "must be text"),
    (r"Input should be a valid (?:list|tuple)", "must be a list"),
    (r"Input should be a valid dictionary.*", "must be names with values"),
    (r"Input should be greater than or equal to ", "must be at least "),
    (r"Input should be less than or equal to ", "must be at most "),
    (r"Input should be greater than ", "must be greater than "),
    (r"Input should be less than ", "must be less than "),
    (r"Input should be ", "must be "),
    (r"Extra inputs are not permitted", "is unknown"),
    (r"Field required", "is missing"),
)


def plain(message: str) -> str:
    """A message of pydantic, or of typer that quotes one, in the words of the command line.

    >>> plain("Input should be greater than or equal to 1")
    'must be at least 1'
    """
    for pattern, words in _WORDS:
        message = re.sub(pattern, words, message)
    return message


def shown(value: object) -> str:
    """A value as it was written, cut where it is long or nested: a few bytes of YAML can be much.

    >>> shown({"rank": [4, 8]})
    "{'rank': [4, 8]}"
    """
    try:
        return _SHORT.repr(value)
    except ValueError:
        return "a number of thousands of digits"


class UserError(Exception):
    """What is wrong, where, and what to do, on one line."""

    def __str__(self) -> str:
        # Names of files, keys and options come from outside, and may hold anything.
        return printable(super().__str__())


class DataError(UserError):
    """A benchmark's files are missing, damaged or contradict the benchmark's description."""


def in_a_line(message: Warning | str, category: type[Warning], *where: object) -> None:
    """In place of `warnings.showwarning`: hides warnings that only a developer can act on."""
    if issubclass(category, UserWarning):
        print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)

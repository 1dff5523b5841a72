"""Errors that a user can mend. The command line prints them on one line and exits with code 2."""


def on_one_line(error: Exception) -> str:
    """Kind and message of any exception, without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split())


class UserError(Exception):
    """What is wrong, where, and what to do, on one line."""


class DataError(UserError):
    """A benchmark's files are missing, damaged or contradict the benchmark's description."""

"""Errors that a user can mend. The command line prints them on one line and exits with code 2."""


class UserError(Exception):
    """What is wrong, where, and what to do, on one line."""


class DataError(UserError):
    """A benchmark's files are missing, damaged or contradict the benchmark's description."""

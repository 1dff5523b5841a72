"""Statistics of the same table are worked out once, while a report is built of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import pandas as pd

P = ParamSpec("P")
Found = TypeVar("Found", pd.DataFrame, list[Any])

_known: dict[Any, tuple[pd.DataFrame, Any]] | None = None


@contextmanager
def remembering() -> Iterator[None]:
    """Inside the block, functions marked by `once` are called once per table.

    A table must not be changed in the block after it was given to such a function.
    """
    global _known
    former, _known = _known, {} if _known is None else _known
    try:
        yield
    finally:
        _known = former


def once(
    function: Callable[Concatenate[pd.DataFrame, P], Found],
) -> Callable[Concatenate[pd.DataFrame, P], Found]:
    """Marks a function of a table (the object, not its content) and of values that hash.

    What it returns is copied, so that callers may change their own.
    """

    @wraps(function)
    def called(table: pd.DataFrame, *args: P.args, **kwargs: P.kwargs) -> Found:
        if _known is None:
            return function(table, *args, **kwargs)
        key = (function, id(table), args, tuple(sorted(kwargs.items())))
        if key not in _known:
            # The table is kept, too: its id stays its own.
            _known[key] = table, function(table, *args, **kwargs)
        return _known[key][1].copy()

    return called

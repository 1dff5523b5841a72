"""The seal of the test split: what selects settings cannot open it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from benchmark.data.base import Split

_SEALED: ContextVar[bool] = ContextVar("sealed", default=False)


@contextmanager
def seal_test() -> Iterator[None]:
    """Inside the block the test split cannot be opened: what selects settings runs in it."""
    token = _SEALED.set(True)
    try:
        yield
    finally:
        _SEALED.reset(token)


def check_seal(name: str, split: Split) -> None:
    """Asked by all that hands out the examples of a split.

    Args:
        name: of the benchmark.
        split: that is to be opened.

    Raises:
        RuntimeError: it is sealed.
    """
    if split == "test" and _SEALED.get():
        raise RuntimeError(f"{name}: the test split is sealed for runs that select settings")

"""The same work on many things, on all cores."""

import gc
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_work: "Callable[[Any], Any] | None" = None
_items: Sequence[Any] = ()


@contextmanager
def spread(
    work: Callable[[Item], Result], items: Sequence[Item], worth: bool
) -> Iterator[Callable[[], list[Result]]]:
    """Does work in forked processes, beside what the block does.

    Args:
        work: of one item; it sees all that this process knows, and its result is sent back.
        items: what is to be done.
        worth: whether it takes longer than other processes take to start; else it is done here,
            when the block asks for it.

    Yields:
        What waits for all of it and returns the results in the order of the items. An error of
        the work is raised there.
    """
    global _work, _items
    # Forked processes see tables without a copy of them. Other systems do not fork well.
    workers = min(os.cpu_count() or 1, len(items)) if sys.platform == "linux" else 1
    if workers < 2 or not worth:
        yield lambda: [work(item) for item in items]
        return
    former = _work, _items
    _work, _items = work, items
    try:
        pool = multiprocessing.get_context("fork").Pool(workers, _leave_garbage)
    finally:
        _work, _items = former
    with pool:
        some = max(1, len(items) // (8 * workers))
        done = pool.map_async(_one, range(len(items)), chunksize=some)
        yield done.get


def _one(number: int) -> Any:
    assert _work is not None
    return _work(_items[number])


def _leave_garbage() -> None:
    # What a forked process inherits is no garbage, and looking for some takes long.
    gc.freeze()
    gc.disable()


@contextmanager
def uncollected() -> Iterator[None]:
    """Pauses garbage collection while many objects are made that live: it takes half the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()

"""The same work on many things, on all cores."""

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
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
        the work is raised there. What a process had not done when it died is done here.
    """
    global _work, _items
    # Forked processes see tables without a copy of them. Other systems do not fork well.
    workers = min(os.cpu_count() or 1, len(items)) if sys.platform == "linux" else 1
    if workers < 2 or not worth:
        yield lambda: [work(item) for item in items]
        return
    former = _work, _items
    _work, _items = work, items
    # Forks before it has a thread, and, unlike `Pool`, says when a process dies.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _begin)
    sent: list[Future[Result]] = []
    try:
        with suppress(BrokenProcessPool):
            for number in range(len(items)):
                sent.append(pool.submit(_one, number))
    finally:
        _work, _items = former

    def result(number: int) -> Result:
        if number < len(sent):
            with suppress(BrokenProcessPool):
                return sent[number].result()
        # The system ended a process, for its memory as a rule.
        return work(items[number])

    try:
        yield lambda: [result(number) for number in range(len(items))]
    finally:
        pool.shutdown(cancel_futures=True)


def _one(number: int) -> Any:
    assert _work is not None
    return _work(_items[number])


def _begin() -> None:
    # What a forked process inherits is no garbage, and looking for some takes long.
    gc.freeze()
    gc.disable()
    # Nor are the handlers of signals its own: the first process hears Ctrl-C, and ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


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

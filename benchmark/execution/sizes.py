"""What methods store for one more task, found out by one training step; which ones fit a limit."""

from collections.abc import Collection, Iterator
from typing import Any

from benchmark.core.errors import UserError
from benchmark.core.spec import RunSpec
from benchmark.engine.build import build_segmenter
from benchmark.execution.checks import too_costly
from benchmark.execution.environment import Environment
from benchmark.execution.probe import Rehearsal
from benchmark.models.delta import stored_bytes
from benchmark.planning.catalogue import build_method, method_label
from methods import METHODS

MOST_TIMES = 8
"""How much larger a field may become where that makes a method smaller, as a reduction does."""


def smaller(cell: RunSpec, most: int, environment: Environment) -> tuple[str, int] | None:
    """The largest setting of a cell's method that fits: one field that `tune` varies, halved.

    Where halving does not make it small enough, doubling is tried.

    Args:
        cell: which stores more.
        most: bytes.
        environment: where.

    Returns:
        Label of the method with that setting, and its bytes; None where no setting fits.
    """
    fitting = []
    for field in METHODS[cell.method].tunes:
        for value in _values(cell, field):
            other = _with(cell, cell.method, {**cell.method_params, field: value})
            if other and (size := stored_within(other, most, environment)) is not None:
                fitting.append((other.method_label, size))
                break
    return max(fitting, key=lambda one: one[1], default=None)


def others(
    cell: RunSpec, chosen: Collection[str], most: int, environment: Environment
) -> list[tuple[str, int]]:
    """Methods of this collection that fit and were not chosen, with their bytes.

    Args:
        cell: of any method.
        chosen: names of methods to leave out.
        most: bytes.
        environment: where.
    """
    found = []
    for name in sorted(METHODS.loaded()):
        if ":" in name or name in chosen:  # with a colon: of a library
            continue
        other = _with(cell, name, {})
        if other and (size := stored_within(other, most, environment)) is not None:
            found.append((other.method_label, size))
    return found


def stored_within(cell: RunSpec, most: int, environment: Environment) -> int | None:
    """Bytes that a cell stores once it is trained.

    Args:
        cell: which.
        most: bytes.
        environment: where.

    Returns:
        None where it stores more, or cannot be trained here.

    Raises:
        UserError: weights or data are missing or damaged.
    """
    try:
        if too_costly(cell, environment):
            return None
        method = build_method(cell.method, cell.method_params)
        untrained = build_segmenter(cell, method, environment.weights, environment.device)
        if stored_bytes(*untrained) > most:  # training only adds to it
            return None
        rehearsal = Rehearsal.of(cell, environment, steps=1)
        rehearsal.train(lambda *_: None)
        size = stored_bytes(rehearsal.segmenter, rehearsal.pristine)
    except UserError:
        raise
    except Exception:
        # Whatever stops one step (memory, a refusal) would stop the run: nothing to propose.
        return None
    return size if size <= most else None


def _values(cell: RunSpec, field: str) -> Iterator[int]:
    """Halves of a whole number down to 1, then its doubles."""
    value: Any = getattr(build_method(cell.method, cell.method_params), field)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        return
    half = value // 2
    while half:
        yield half
        half //= 2
    times = 2
    while times <= MOST_TIMES:
        yield value * times
        times *= 2


def _with(cell: RunSpec, name: str, params: dict[str, Any]) -> RunSpec | None:
    """A cell of another method; None where its fields do not allow that."""
    try:
        label = method_label(build_method(name, params))
    except UserError:
        return None
    change = {"method": name, "method_params": params, "method_label": label}
    # Not `model_copy`, which would keep the run id.
    return RunSpec.model_validate(cell.model_dump() | change)

"""What methods store for one more task, found out by one training step; which ones fit a limit."""

from collections.abc import Callable, Collection
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

MOST_DOUBLED = 3
"""How often a field is doubled where that makes a method smaller, as a reduction does."""


def smaller(cell: RunSpec, most: int, environment: Environment) -> tuple[str, int] | None:
    """The largest setting of a cell's method that fits, in one of the fields that `tune` varies.

    Args:
        cell: which stores more.
        most: bytes.
        environment: where.

    Returns:
        Label of the method with that setting, and its bytes; None where no setting fits.
    """

    def stored(field: str, value: int) -> tuple[str, int] | None:
        other = _with(cell, cell.method, {**cell.method_params, field: value})
        size = stored_within(other, most, environment) if other else None
        return None if other is None or size is None else (other.method_label, size)

    found = [_nearest(cell, field, stored) for field in METHODS[cell.method].tunes]
    return max((one for one in found if one), key=lambda one: one[1], default=None)


def others(
    cell: RunSpec, chosen: Collection[str], most: int, environment: Environment
) -> list[tuple[str, int]]:
    """Methods of this collection that were not chosen, at settings that fit, with their bytes.

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
        if other is None:
            continue
        size = stored_within(other, most, environment)
        one = smaller(other, most, environment) if size is None else (other.method_label, size)
        found += [one] if one else []
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


def _nearest(
    cell: RunSpec, field: str, stored: Callable[[str, int], tuple[str, int] | None]
) -> tuple[str, int] | None:
    """What a method stores with the value of a field that is nearest to its own and fits.

    Args:
        cell: of the method, which does not fit.
        field: of the method; only whole numbers above 0 are varied.
        stored: label and bytes with a value of a field; None where it does not fit.
    """
    value: Any = getattr(build_method(cell.method, cell.method_params), field)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        return None
    # Most fields make a method smaller when they are halved, a reduction when it is doubled.
    halves = [value >> times for times in range(1, value.bit_length())]
    doubles = [value << times for times in range(1, MOST_DOUBLED + 1)]
    for steps in (halves, doubles):
        over = value
        for fitting in steps:
            if best := stored(field, fitting):
                break
            over = fitting
        else:
            continue
        while abs(over - fitting) > 1:
            middle = (over + fitting) // 2
            if found := stored(field, middle):
                best, fitting = found, middle
            else:
                over = middle
        return best
    return None


def _with(cell: RunSpec, name: str, params: dict[str, Any]) -> RunSpec | None:
    """A cell of another method; None where its fields do not allow that."""
    try:
        label = method_label(build_method(name, params))
    except UserError:
        return None
    change = {"method": name, "method_params": params, "method_label": label}
    # Not `model_copy`, which would keep the run id.
    return RunSpec.model_validate(cell.model_dump() | change)

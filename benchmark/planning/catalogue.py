"""What can be selected, and how a selected method becomes a typed object."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from benchmark.core.errors import UserError
from benchmark.core.selectors import Registry, did_you_mean
from benchmark.core.spec import Suite, load_suites, one_line
from benchmark.planning import plugins

if TYPE_CHECKING:
    from torch import nn

    from benchmark.data.base import Benchmark
    from methods.base import Method


# Imported inside functions: torch loads only when methods or data are needed.
def _methods() -> "Mapping[str, type[Method]]":
    import methods

    plugins.load_installed()
    return methods.METHODS


def _benchmarks() -> "Mapping[str, type[Benchmark]]":
    from benchmark.data import available

    plugins.load_installed()
    return available()


def _decoders() -> "Mapping[str, Callable[[Sequence[int], Sequence[int], int], nn.Module]]":
    from benchmark.models.decoders import DECODERS

    plugins.load_installed()
    return DECODERS


_LIST = "python -m benchmark list"

METHODS: "Registry[type[Method]]" = Registry("method", _methods, f"{_LIST} methods")
BENCHMARKS: "Registry[type[Benchmark]]" = Registry("benchmark", _benchmarks, f"{_LIST} benchmarks")
DECODERS: "Registry[Callable[[Sequence[int], Sequence[int], int], nn.Module]]" = Registry(
    "decoder", _decoders
)
SUITES: Registry[Suite] = Registry("suite", load_suites)


def build_method(name: str, params: Mapping[str, Any]) -> "Method":
    """Makes a method from its name and (possibly textual) fields.

    Raises:
        UserError: unknown method or field, or a value of the wrong type or range.
    """
    return checked(METHODS.get(name), params)


def checked(cls: "type[Method]", params: Mapping[str, Any]) -> "Method":
    """As `build_method`, of a class."""
    name = cls.name
    known = {field.name for field in dataclasses.fields(cls)}
    for field in params:
        if field not in known:
            hint = did_you_mean(field, known) if known else "; it has no fields"
            raise UserError(f"method {name!r} has no field {field!r}{hint}")
    try:
        method = TypeAdapter(cls).validate_python(dict(params))
        for field, value in dataclasses.asdict(method).items():
            # JSON has neither: a record that holds one could not be read back.
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"method {name!r}: {field}={value} must be a finite number")
        return method
    except ValidationError as error:
        # Ranges are checked by the method, whose message names it already.
        text = one_line(error, f"method {name}").replace(f"method {name}: {name}: ", f"{name}: ")
        raise UserError(text) from error


def method_label(method: "Method") -> str:
    """`name[field=value,...]` with the fields that differ from their defaults."""
    changed = [
        f"{field.name}={getattr(method, field.name)}"
        for field in dataclasses.fields(method)
        if getattr(method, field.name) != field.default
    ]
    return f"{method.name}[{','.join(changed)}]" if changed else method.name

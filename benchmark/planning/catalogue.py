"""What can be selected, and how a selected method becomes a typed object."""

import dataclasses
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from benchmark.core.answer_cache import are_installed
from benchmark.core.errors import UserError
from benchmark.core.selectors import Registry, did_you_mean, parse_selector, split_selectors
from benchmark.core.spec import Suite, load_suites, one_line
from benchmark.data.acquire import at_url
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


def check_names(methods: str = "", decoder: str = "") -> None:
    """Looks for wrong names before the classes are asked, which takes torch, for seconds.

    Names that the source files register are known without it. Globs and names with a colon, which
    stand for those of a library, are left for the registries, and so is everything where plug-ins
    may have added names.

    Args:
        methods: comma list of selectors.
        decoder: a name; empty = none.

    Raises:
        UserError: a name is unknown, or a selector has another form.
    """
    if are_installed():
        return
    names = [parse_selector(part)[0] for part in split_selectors(methods)]
    names = [name for name in names if not set(name) & set("*?:")]
    known: Registry[None] = Registry("method", lambda: _declared("methods"), f"{_LIST} methods")
    for name in names if "methods" not in sys.modules else ():
        known.get(name)
    if decoder and _DECODERS not in sys.modules:
        Registry("decoder", lambda: _declared(_DECODERS)).get(decoder)


_DECODERS = "benchmark.models.decoders"
_REGISTERED = re.compile(r"^@register(?:_decoder)?\(\"([^\"]+)\"\)", re.MULTILINE)


def _declared(package: str) -> dict[str, None]:
    """Names that the modules of a package register, by their source."""
    above, *below = package.split(".")  # finding a package below another would import that one
    home = find_spec(above)
    folders = [Path(place, *below) for place in (home and home.submodule_search_locations) or ()]
    texts = (path.read_text("utf-8") for folder in folders for path in sorted(folder.glob("*.py")))
    return dict.fromkeys(name for text in texts for name in _REGISTERED.findall(text))


def open_set(name: str, data: Path | None) -> "Benchmark":
    """A benchmark, opened; what is missing of it here is copied first where it is at a URL.

    Args:
        name: of the benchmark.
        data: data root; None = there is none.

    Raises:
        UserError: its files are missing, or cannot be copied.
    """
    kind = BENCHMARKS.get(name)
    described = getattr(kind, "description", None)
    own = described.folder if described else None
    if kind.folder is not None and data is not None:
        at_url.bring(data / kind.folder, name)
    elif own is not None and Path(own).is_absolute():
        at_url.bring(Path(own), name)
    return kind(data)


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
            near = did_you_mean(field, known) if known else ""
            near = f"{near} It has" if near.endswith("?") else "; it has"
            hint = f"{near} {', '.join(sorted(known)) or 'no fields'}"
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


def published_labels(names: Sequence[str]) -> list[str]:
    """The labels of the methods that a paper's table calls by these names; "" where none is known.

    A name may be that of a method, of one of its forms (a value of a field), or of both, with a
    hyphen between. Where a table has a method's usual form under the form's own name, its plain
    name means another form, which the table does not tell.
    """
    forms = {name: label for name, label in _form_labels().items() if name not in METHODS.names()}
    usual = {forms[name] for name in names if name in forms}
    plain = {
        name: method_label(build_method(name, {})) for name in names if name in METHODS.names()
    }
    own = {name: label for name, label in plain.items() if label not in usual}
    return [forms.get(name) or own.get(name, "") for name in names]


def _form_labels() -> dict[str, str]:
    """Names of forms, alone where only one method has such a form, to labels."""
    found: dict[str, list[str]] = {}
    for name in METHODS.names():
        cls = METHODS.get(name)
        hints = get_type_hints(cls)
        for field in dataclasses.fields(cls):
            for value in get_args(hints[field.name]) if _is_literal(hints[field.name]) else ():
                label = method_label(build_method(name, {field.name: value}))
                found[f"{name}-{value}"] = [label]
                found.setdefault(str(value), []).append(label)
    return {text: labels[0] for text, labels in found.items() if len(labels) == 1}


def _is_literal(hint: object) -> bool:
    return get_origin(hint) is Literal

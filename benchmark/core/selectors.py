"""The one registry: names, globs, `name[field=value]` selectors, and help with misspelt names."""

import difflib
import fnmatch
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from benchmark.core.errors import UserError

T = TypeVar("T")


MOST = 15
"""Names that an error lists; of more only the nearest help."""


class UnknownName(UserError):
    """A name that is in no registry.

    Args:
        kind: of the thing.
        name: that was asked for.
        hint: what to do, as `did_you_mean` gives it.
    """

    def __init__(self, kind: str, name: str, hint: str) -> None:
        super().__init__(f"unknown {kind} {name!r}{hint}")
        self.kind, self.name = kind, name


def did_you_mean(name: str, known: Iterable[str], everything: str = "") -> str:
    """`; did you mean X?` for the nearest known name, else what there is.

    Args:
        name: that is not known.
        known: those that are.
        everything: the command that shows all of them, where they may be too many for a line.
    """
    known = sorted(known)
    begun = [one for one in known if name and one.startswith(name)]
    if len(begun) == 1:  # a name cut short, however short
        return f"; did you mean {begun[0]!r}?"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    if len(known) <= MOST or not everything:
        return f"; choose from {', '.join(known)}"
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.3)
    nearest = f"; nearest: {', '.join(near)}" if near else ""
    return f"{nearest}; `{everything}` shows all"


def split_selectors(text: str) -> list[str]:
    """Splits at commas outside brackets.

    >>> split_selectors("name[a=4,b=8],v*")
    ['name[a=4,b=8]', 'v*']
    """
    parts = [part.strip() for part in re.split(r",(?![^\[]*\])", text)]
    return [part for part in parts if part]


def parse_selector(text: str) -> tuple[str, list[dict[str, str]]]:
    """Reads `name[field=value,...]`; `a|b` as a value means both.

    Returns:
        The name or glob, and one dict of fields per combination of values.

    Raises:
        UserError: the brackets do not follow that form.
    """
    match = re.fullmatch(r"([^\[\]=]+)(?:\[([^\[\]]*)\])?", text)
    if not match:
        raise UserError(f"selector {text!r}: write name or name[field=value,...]")
    name, inner = match.group(1).strip(), match.group(2)
    fields: list[tuple[str, list[str]]] = []
    for part in (inner or "").split(","):
        if not part.strip():
            continue
        field, equals, value = (piece.strip() for piece in part.partition("="))
        if not (field and equals and value):
            raise UserError(f"selector {text!r}: {part.strip()!r} is not field=value")
        if field in dict(fields):
            raise UserError(f"selector {text!r}: field {field!r} is given twice; keep one")
        fields.append((field, value.split("|")))
    combinations = itertools.product(*(values for _, values in fields))
    return name, [dict(zip((f for f, _ in fields), c, strict=True)) for c in combinations]


class Registry(Generic[T]):
    """Named things of one kind, loaded when first asked for.

    Args:
        kind: what error messages call them.
        load: returns all of them by name.
        everything: the command that shows all of them; empty = none.
    """

    def __init__(
        self, kind: str, load: Callable[[], Mapping[str, T]], everything: str = ""
    ) -> None:
        self.kind = kind
        self._load = load
        self._everything = everything

    def names(self) -> list[str]:
        """All names, in the order of their registration."""
        return list(self._load())

    def get(self, name: str) -> T:
        """The thing of that name.

        Raises:
            UnknownName: there is none; names the nearest.
        """
        found = self._load()
        if name not in found:
            raise UnknownName(self.kind, name, did_you_mean(name, found, self._everything))
        return found[name]

    def select(self, text: str) -> list[tuple[str, dict[str, str]]]:
        """Expands a comma list of names, globs and `name[field=value]` selectors, in order.

        Raises:
            UserError: a name is unknown, a glob matches nothing, or nothing is selected.
        """
        chosen: list[tuple[str, dict[str, str]]] = []
        for part in split_selectors(text):
            pattern, combinations = parse_selector(part)
            if any(c in pattern for c in "*?"):
                names = fnmatch.filter(self.names(), pattern)
                if not names:
                    hint = did_you_mean(pattern, self.names(), self._everything)
                    raise UserError(f"no {self.kind} matches {pattern!r}{hint}")
            else:
                self.get(pattern)
                names = [pattern]
            chosen += [
                pair for name in names for c in combinations if (pair := (name, c)) not in chosen
            ]
        if not chosen:
            raise UserError(f"no {self.kind} selected in {text!r}; name at least one")
        return chosen

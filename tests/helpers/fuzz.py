"""Strategies and checks of the tests that feed damaged and arbitrary input."""

import copy
import json
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from benchmark.core.errors import UserError


def cases(count: int) -> settings:
    """The same cases on every machine and in every run."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def one_line(error: Exception) -> None:
    text = str(error)
    assert text and len(text.splitlines()) == 1 and len(text) < 10_000, repr(text[:500])


def told(act: Callable[[], Any], kind: type[Exception] = UserError) -> Any:
    """What `act` returns; None where it ends with an error of the kind on one line."""
    try:
        return act()
    except kind as error:
        one_line(error)
        return None


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


# With control characters, the rarer line breaks, and halves of surrogate pairs.
TEXT = st.text(st.characters(exclude_categories=()), max_size=12)
NASTY = st.sampled_from([
    10**400, -1, 2**63, 1e308, float("inf"), float("nan"), [], {}, nested(300), "nan", "1e400",
    "", "\n", "a\nb", "\0", "\x1b[31m", "\ud800", "\u2028", "~nobody", "../..", "*", "[", "]",
])  # fmt: skip
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | NASTY
TREE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4)
)


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes of a file with a few of them changed, put in, taken out, or its end cut off."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.sampled_from(["set", "flip", "insert", "remove", "cut"]))
        if kind == "insert":
            content[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "remove":
            del content[at : at + draw(st.integers(1, 16))]
        elif kind == "cut":
            del content[at:]
        elif content:
            old = content[at : at + 1][0]
            content[at] = old ^ 1 << draw(st.integers(0, 7)) if kind == "flip" else 0xFF
    return bytes(content)


@st.composite
def changed(draw: st.DrawFn, whole: dict[str, Any]) -> dict[str, Any]:
    """A tree of dicts in which a few values are others, or gone, or too many."""
    tree = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        here = tree
        while inner := [value for value in here.values() if isinstance(value, dict) and value]:
            if draw(st.booleans()):
                break
            here = draw(st.sampled_from(inner))
        key = draw(st.sampled_from(list(here))) if here and draw(st.integers(0, 4)) else draw(TEXT)
        if draw(st.integers(0, 5)):
            here[key] = draw(TREE)
        else:
            here.pop(key, None)
    return tree


def dumped(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return strategy.map(lambda tree: json.dumps(tree).encode())


def mixed(seed: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """Bytes, JSON, and a valid file that was damaged as a tree or as bytes."""
    good = json.dumps(seed, indent=1).encode()
    return st.binary(max_size=64) | dumped(TREE) | dumped(changed(seed)) | mutated(good)

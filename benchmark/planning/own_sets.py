"""Sets of a user's own: which they are, the suite they run under, and its backbone."""

from collections.abc import Sequence
from pathlib import Path

from benchmark.core.errors import UserError
from benchmark.core.spec import Suite
from benchmark.models.find_weights import find_first
from benchmark.planning import plugins
from benchmark.planning.catalogue import BENCHMARKS

SUITE, USUAL = "own", "demo"
"""The suite of sets of one's own, and that of all others, where none is named."""


def given() -> list[str]:
    """The benchmarks that plug-in files brought, in the order in which they were loaded."""
    from benchmark.data.base import BENCHMARKS as registered

    return [name for name, kind in registered.items() if plugins.file_of(kind)]


def suite_for(benchmarks: str | None) -> str:
    """The suite where none is named: `own` if all benchmarks are a user's own.

    Args:
        benchmarks: comma list of names and globs; None = those that plug-in files brought.

    Raises:
        UserError: some are a user's own, others are not; or a name does not exist.
    """
    if benchmarks is None:
        return SUITE if given() else USUAL
    names = [name for name, _ in BENCHMARKS.select(benchmarks)]
    own = [name for name in names if not BENCHMARKS.get(name).__module__.startswith("benchmark.")]
    others = [name for name in names if name not in own]
    if own and others:
        raise UserError(
            f"{own[0]} is a set of your own and {others[0]} is not; name the suite whose protocol "
            f"both are to share, as in --suite {SUITE} or --suite {USUAL}"
        )
    return SUITE if own else USUAL


def benchmarks_of(suite: Suite) -> Sequence[str]:
    """The benchmarks of a suite.

    Raises:
        UserError: they are a user's own, and there are none.
    """
    names = suite.benchmarks or given()
    if not names:
        raise UserError(
            f"suite {suite.name!r} is for sets of your own; name a file that describes one with "
            "--plugin FILE.yaml, or under `plugins` in petseg.yaml"
        )
    return names


def backbones_of(suite: Suite, weights: str, dirs: Sequence[Path]) -> Sequence[str]:
    """The backbones of a suite; of candidates the first that has weights on this disk.

    Args:
        suite: whose.
        weights: pretrained, or none for random ones.
        dirs: folders of weights, in which to look before timm's cache.

    Raises:
        UserError: no candidate has weights here, or they are not to be used.
    """
    if suite.backbones:
        return suite.backbones
    first, last = suite.candidates[0], suite.candidates[-1]
    if weights == "none":
        raise UserError(
            f"suite {suite.name!r} takes a backbone that has weights here; with --weights none, "
            f"name one, as in --backbones {first}"
        )
    found = find_first(suite.candidates, dirs)
    if found is None:
        folders = ", ".join(map(str, dirs)) or "no folder (none given)"
        raise UserError(
            f"no pretrained backbone found: add --weights DIR, a folder that holds one of the "
            f"suite's backbones as NAME.safetensors; or --backbones {first} once, to download it "
            f"(needs a network); or --suite {USUAL}, to train with the package's demo backbone. "
            f"Suite {suite.name!r} looked for {first}, ..., {last} in {folders} and in timm's cache"
        )
    return [found[0]]

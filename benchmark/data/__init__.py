"""Benchmarks. Every module of this package that registers one is found by `available`."""

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmark.data.base import Benchmark

_NONE_IN = f"{__name__}.batches"
"""Holds no benchmark, and imports torch: to name benchmarks takes none of it."""


def available() -> "dict[str, type[Benchmark]]":
    """Imports every module of this package, also of subpackages, and returns what they register.

    Example:
        >>> "camvid" in available()
        True
    """
    for module in pkgutil.walk_packages(__path__, __name__ + "."):
        if module.name != _NONE_IN:
            import_module(module.name)

    from benchmark.data.base import BENCHMARKS

    return BENCHMARKS

"""The tiny benchmark and the strange method, for trainings of the engine."""

from tests.fault.conftest import strange, tiny

__all__ = ["strange", "tiny"]

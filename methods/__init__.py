"""Tuning methods for frozen timm backbones, usable without the benchmark harness."""

import importlib
import pkgutil

from methods.base import (
    ALL_KINDS,
    METHODS,
    Backbone,
    Kind,
    Method,
    TrainingData,
    Unsupported,
    register,
)

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "ALL_KINDS",
    "METHODS",
    "Backbone",
    "Kind",
    "Method",
    "TrainingData",
    "Unsupported",
    "register",
]

"""Which parameter-efficient tuning method suits your segmentation task, and what does it cost?

The public API is `plan`, `run`, `load_results` and `report`, and, to use what was trained, `load`
and `Tasks`. It loads when first used, so that `python -m benchmark --help` stays fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.execution.grid import run
    from benchmark.inference.load import load
    from benchmark.inference.predictor import Predictor
    from benchmark.inference.tasks import Tasks
    from benchmark.planning.plan import Selection, plan
    from benchmark.reporting.report import write_report as report
    from benchmark.results.load import load_results

__version__ = "0.1.0"
__all__ = ["Predictor", "Selection", "Tasks", "load", "load_results", "plan", "report", "run"]

_HOME = {
    "Predictor": ("benchmark.inference.predictor", "Predictor"),
    "Selection": ("benchmark.planning.plan", "Selection"),
    "Tasks": ("benchmark.inference.tasks", "Tasks"),
    "load": ("benchmark.inference.load", "load"),
    "load_results": ("benchmark.results.load", "load_results"),
    "plan": ("benchmark.planning.plan", "plan"),
    "report": ("benchmark.reporting.report", "write_report"),
    "run": ("benchmark.execution.grid", "run"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'benchmark' has no attribute {name!r}")
    module, attribute = _HOME[name]
    return getattr(importlib.import_module(module), attribute)

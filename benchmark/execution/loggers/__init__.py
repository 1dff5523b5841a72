"""Other programs that follow the runs of a grid: TensorBoard, MLflow, Weights & Biases."""

import importlib
import importlib.util

from benchmark.core.errors import UserError
from benchmark.core.selectors import did_you_mean
from benchmark.execution.loggers.events import Logger

LOGGERS = {
    "tensorboard": ("TensorBoard", "tensorboard"),
    "mlflow": ("MLflow", "mlflow"),
    "wandb": ("WandB", "wandb"),
}
"""By what users type: class in the module of that name, and the package that it needs. The extra of
petseg-bench that installs the package has the same name, too."""


def open_logger(name: str) -> Logger:
    """The logger of a name; it connects to nothing yet.

    Raises:
        UserError: there is none, or its package is not installed.
    """
    if name not in LOGGERS:
        raise UserError(f"unknown logger {name!r}{did_you_mean(name, LOGGERS)}")
    kind, package = LOGGERS[name]
    if importlib.util.find_spec(package) is None:  # loading it takes seconds, in its thread
        raise UserError(
            f"--log {name} needs a package that is not installed; "
            f"pip install 'petseg-bench[{name}]'"
        )
    module = importlib.import_module(f"benchmark.execution.loggers.{name}")
    made: Logger = getattr(module, kind)()
    return made

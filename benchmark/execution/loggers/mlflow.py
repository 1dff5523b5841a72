"""MLflow: an experiment a suite, at MLFLOW_TRACKING_URI or where MLflow puts it by default."""

import functools
import logging
import os
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from benchmark.core.record import Record
from benchmark.execution.loggers.events import LoggedRun, Points

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAG = "petseg.run_id"
_MOST_METRICS, _MOST_PARAMS = 1000, 100
"""That a request may hold."""
_STATES = {"done": "FINISHED", "interrupted": "KILLED"}


class MLflow:
    """Curves and final numbers as metrics, settings as parameters, pictures as artifacts."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    @functools.cached_property
    def _client(self) -> "MlflowClient":
        # MLflow's own tries go on for minutes where a server is down.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        return MlflowClient()

    def start(self, run: LoggedRun) -> None:
        """Begins a run of MLflow; one that is resumed begins another, with the same tag."""
        from mlflow.entities import Param

        name = f"petseg-bench {run.suite}"
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        made = self._client.create_run(experiment, run_name=run.name, tags={TAG: run.id})
        self._ids[run.id] = made.info.run_id
        params = [Param(_key(key), str(value)) for key, value in run.settings.items()]
        for start in range(0, len(params), _MOST_PARAMS):
            part = params[start : start + _MOST_PARAMS]
            self._client.log_batch(made.info.run_id, params=part)

    def curve(self, run_id: str, points: Points) -> None:
        """Metrics by step."""
        self._log(run_id, [(k, v, step) for step, values in points for k, v in values.items()])

    def pictures(self, run_id: str, pictures: Mapping[str, np.ndarray]) -> None:
        """Artifacts in `samples`."""
        for name, picture in pictures.items():
            file = f"samples/{_key(name).replace('/', '_')}.png"
            self._client.log_image(self._ids[run_id], picture, artifact_file=file)

    def finish(self, run_id: str, record: Record, numbers: Mapping[str, float]) -> None:
        """Scores and costs."""
        steps = int(record.protocol["steps"])
        self._log(run_id, [(name, value, steps) for name, value in numbers.items()])
        state = _STATES.get(record.status, "FAILED")
        self._client.set_terminated(self._ids.pop(run_id), state)

    def close(self) -> None:
        """Ends what has not ended."""
        for run_id in self._ids.values():
            self._client.set_terminated(run_id, "KILLED")

    def _log(self, run_id: str, values: list[tuple[str, float, int]]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(_key(name), value, now, step) for name, value, step in values]
        for start in range(0, len(metrics), _MOST_METRICS):
            part = metrics[start : start + _MOST_METRICS]
            self._client.log_batch(self._ids[run_id], metrics=part)


def _key(name: str) -> str:
    """A name in the letters that MLflow takes."""
    return re.sub(r"[^\w./ -]", "_", name)

"""Weights & Biases: a project a suite; WANDB_MODE, WANDB_ENTITY and the like are wandb's own."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from benchmark.core.record import Record
from benchmark.execution.loggers.events import LoggedRun, Points

if TYPE_CHECKING:
    import wandb

_STEP = "training/step"


class WandB:
    """Curves and pictures in the history, scores and costs in the summary, settings as config."""

    def __init__(self) -> None:
        self._runs: dict[str, wandb.Run] = {}

    def start(self, run: LoggedRun) -> None:
        """Begins a run beside those that are open, or resumes one."""
        import wandb

        made = wandb.init(
            project=f"petseg-bench-{run.suite}",
            id=run.id,
            name=run.name,
            group=str(run.settings["benchmark"]),
            config=dict(run.settings),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True),
        )
        # What resumes comes again, and wandb's own step may not go back.
        made.define_metric(_STEP)
        made.define_metric("training/*", step_metric=_STEP)
        self._runs[run.id] = made

    def curve(self, run_id: str, points: Points) -> None:
        """Values by step."""
        for step, values in points:
            named = {f"training/{name}": value for name, value in values.items()}
            self._runs[run_id].log({_STEP: step, **named})

    def pictures(self, run_id: str, pictures: Mapping[str, np.ndarray]) -> None:
        """Images."""
        import wandb

        shown = [wandb.Image(picture, caption=name) for name, picture in pictures.items()]
        self._runs[run_id].log({"samples": shown})

    def finish(self, run_id: str, record: Record, numbers: Mapping[str, float]) -> None:
        """Scores and costs."""
        run = self._runs.pop(run_id)
        run.summary.update({**numbers, "status": record.status})
        run.finish(exit_code=0 if record.status in ("done", "unsupported") else 1)

    def close(self) -> None:
        """Ends what has not ended."""
        for run in self._runs.values():
            run.finish(exit_code=1)

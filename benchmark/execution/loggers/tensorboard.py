"""TensorBoard: event files in logs/tensorboard, one folder a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.core.record import Record
from benchmark.core.spec import plain_name
from benchmark.execution.loggers.events import LoggedRun, Points

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = Path("logs/tensorboard")
"""What `tensorboard --logdir` is given."""


class TensorBoard:
    """Curves as scalars, pictures, and settings with scores and costs as hyperparameters."""

    def __init__(self) -> None:
        self._writers: dict[str, tuple[SummaryWriter, LoggedRun]] = {}

    def start(self, run: LoggedRun) -> None:
        """Opens a file; what an interrupted run wrote after its last checkpoint is hidden."""
        from torch.utils.tensorboard import SummaryWriter

        parts = [plain_name(part.strip()) for part in (run.suite, *run.name.split(" / "))]
        folder = FOLDER.joinpath(*parts[:-1], f"{parts[-1]}-{run.id[:6]}")
        self._writers[run.id] = SummaryWriter(str(folder), purge_step=run.first_step), run

    def curve(self, run_id: str, points: Points) -> None:
        """Scalars by step."""
        writer, _ = self._writers[run_id]
        for step, values in points:
            for name, value in values.items():
                writer.add_scalar(f"training/{name}", value, step)
        writer.flush()

    def pictures(self, run_id: str, pictures: Mapping[str, np.ndarray]) -> None:
        """Images."""
        for name, picture in pictures.items():
            self._writers[run_id][0].add_image(f"samples/{name}", picture, dataformats="HWC")

    def finish(self, run_id: str, record: Record, numbers: Mapping[str, float]) -> None:
        """Scores and costs, beside the settings."""
        writer, run = self._writers.pop(run_id)
        writer.add_hparams({**run.settings, "status": record.status}, dict(numbers), run_name=".")
        writer.close()

    def close(self) -> None:
        """Closes what is open."""
        for writer, _ in self._writers.values():
            writer.close()

"""Many trained tasks on one frozen backbone."""

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from benchmark.core.errors import UserError, printable
from benchmark.core.record import Task
from benchmark.core.selectors import did_you_mean
from benchmark.inference.find import Run, find_run
from benchmark.inference.load import predictor_of
from benchmark.inference.predictor import Predictor
from benchmark.inference.restore import (
    Folders,
    backbone_of,
    check_weights,
    device_of,
    folders_of,
    restore,
    task_in,
)
from benchmark.models.share import SharedBackbone


class Tasks(Mapping[str, Predictor]):
    """Trained tasks by name, all on one frozen backbone, whose tensors are in memory once.

    Each task has modules of its own, since a method may attach to them or replace some. But a
    tensor that equals the backbone's is the backbone's. So a task takes the bytes of its delta, and
    using another one is a look-up. Several threads may use, add and remove tasks.

    Args:
        backbone: as timm, or the weights file, has it.
        results: the results folder that run ids are looked up in.
        weights: folders with pretrained weights; see `load`.
        device: where all tasks compute; None = a GPU where there is one.

    Attributes:
        backbone_name: of the shared backbone.

    Example:
        >>> tasks = Tasks("vit_tiny_patch16_224")  # doctest: +SKIP
        >>> tasks.add("streets", "3f2a")  # doctest: +SKIP
        >>> mask = tasks["streets"].predict("street.jpg")  # doctest: +SKIP
    """

    def __init__(
        self,
        backbone: str,
        *,
        results: str | Path = "results",
        weights: Folders = None,
        device: str | torch.device | None = None,
    ) -> None:
        self.backbone_name = backbone
        self._results, self._weights = results, folders_of(weights)
        self._device = device_of(device)
        self._lock = threading.Lock()
        self._tasks: dict[str, Predictor] = {}
        self._own: dict[str, int] = {}
        self._on: dict[str, SharedBackbone] = {}
        self._shared: dict[tuple[object, ...], SharedBackbone] = {}

    def add(self, name: str, run: str | Path) -> Predictor:
        """Loads a run as a task.

        Args:
            name: of the task.
            run: as `load` takes it.

        Raises:
            UserError: the name is taken; the run is on another backbone, or on other weights of it;
                or see `load`.
        """
        found = find_run(run, self._results)
        record = found.record
        if record.backbone != self.backbone_name:
            raise UserError(
                f"task {name!r}: run {record.run_id} is on {record.backbone}, not on "
                f"{self.backbone_name}; a task needs the backbone that it was trained on"
            )
        with self._lock:
            self._require_free(name)
            task = task_in(found)
            shared = self._backbone(found, task)
            segmenter = restore(found, task, shared.copy())
            own = shared.lend(segmenter)
            if record.provenance.precision == "bf16":
                shared.cast()
            predictor = predictor_of(found, task, segmenter, shared.casts)
            self._tasks[name], self._own[name], self._on[name] = predictor, own, shared
            return predictor

    def remove(self, name: str) -> None:
        """Forgets a task.

        Raises:
            UserError: there is no such task.
        """
        with self._lock:
            self[name]
            del self._tasks[name], self._own[name], self._on[name]

    def __getitem__(self, name: str) -> Predictor:
        """The task of a name.

        Raises:
            UserError: there is none.
        """
        try:
            return self._tasks[name]
        except KeyError:
            raise UnknownTask(name, list(self._tasks)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._tasks))

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

    def own_bytes(self, name: str) -> int:
        """Bytes of the tensors that a task has beside those of the shared backbone."""
        self[name]
        return self._own[name]

    def backbone_of(self, name: str) -> SharedBackbone:
        """The frozen backbone that a task shares with others."""
        self[name]
        return self._on[name]

    @property
    def bytes(self) -> int:
        """Of the shared backbone's tensors and their casts to bf16; 0 before there is a task."""
        return sum(shared.bytes for shared in self._shared.values())

    def _require_free(self, name: str) -> None:
        if name in self._tasks:
            raise UserError(f"there is a task {name!r} already; choose another name")

    def _backbone(self, run: Run, task: Task) -> SharedBackbone:
        """The frozen backbone of a run; read once for all runs that it is the same for."""
        spec = run.spec
        # Random weights are drawn by the seed; a model of one size is built for the crop.
        key = (task.channels, spec.weights == "none" and spec.seed)
        for (*same, crop), shared in self._shared.items():
            side = shared.backbone.fixed_side
            if tuple(same) == key and (side is None or crop == spec.protocol.crop):
                check_weights(run, shared.backbone)
                return shared
        shared = SharedBackbone(backbone_of(run, task, self._weights, self._device))
        self._shared[*key, spec.protocol.crop] = shared
        return shared


class UnknownTask(UserError, KeyError):
    """There is no task of that name."""

    def __init__(self, name: str, known: list[str]) -> None:
        hint = did_you_mean(name, known) if known else "; none was added"
        super().__init__(f"unknown task {name!r}{hint}")

    def __str__(self) -> str:
        return printable(self.args[0])  # that of KeyError puts quotes around it

"""The loops that are compared: the harness's own, and shorter ones that leave something out."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.core.cache_folder import FOLDER
from benchmark.core.ratio import Times
from benchmark.core.spec import Protocol, RunSpec
from benchmark.data.base import IGNORE
from benchmark.data.batches import Batch
from benchmark.engine.compute import computing
from benchmark.engine.losses import segmentation_loss
from benchmark.execution.environment import Environment
from benchmark.execution.probe import Rehearsal
from benchmark.models.precision import autocast
from benchmark.profiling.speed.rounds import take_turns

ENDLESS = 1_000_000
"""Steps of the schedule: a learning rate that hardly moves, so that every turn trains alike."""

KNOWN, COMPUTED = "known", "computed"
VIEWS = 4


def rehearse(cell: RunSpec, environment: Environment) -> Rehearsal:
    """What the cell trains, at its full rate from the first step on."""
    protocol = cell.protocol.model_copy(update={"warmup": 0.0})
    return Rehearsal.of(cell.model_copy(update={"protocol": protocol}), environment, ENDLESS)


@dataclass(frozen=True)
class Harness:
    """The training of a run: `benchmark.engine.train.train`, fed as a run is."""

    rehearsal: Rehearsal

    @classmethod
    def of(cls, cell: RunSpec, environment: Environment) -> "Harness":
        """Builds what the cell trains."""
        return cls(rehearse(cell, environment))

    def __call__(self, steps: int, mark: Callable[[], None]) -> None:
        """Trains for some steps."""

        class Enough(Exception):
            pass

        def progress(step: int, *_: float) -> None:
            mark()
            if step == steps:
                raise Enough

        with contextlib.suppress(Enough):
            self.rehearsal.train(progress)


@dataclass(frozen=True)
class Bare:
    """The shortest loop over the same modules and batches: no clipping, schedule or checks.

    Attributes:
        rehearsal: holds the modules and the batches.
        usual: as everyone writes it: attention and weights as they are, and the loss at the full
            size of the labels. Otherwise as a run computes.
        to_images: also compute the gradient with respect to the images.
    """

    rehearsal: Rehearsal
    usual: bool = False
    to_images: bool = False

    @classmethod
    def of(
        cls, cell: RunSpec, environment: Environment, usual: bool = False, to_images: bool = False
    ) -> "Bare":
        """Builds what the cell trains."""
        return cls(rehearse(cell, environment), usual, to_images)

    def __call__(self, steps: int, mark: Callable[[], None]) -> None:
        """Trains for some steps."""
        with contextlib.closing(self.rehearsal.batches()) as batches:
            self.over(islice(batches, steps), mark)

    def over(self, batches: Iterable[Batch], mark: Callable[[], None]) -> None:
        """Trains on some batches."""
        own = self.rehearsal
        as_chosen = computing(own.segmenter, own.compute)
        with contextlib.nullcontext() if self.usual else as_chosen:
            self._train(batches, mark)

    def _train(self, batches: Iterable[Batch], mark: Callable[[], None]) -> None:
        own = self.rehearsal
        segmenter, device = own.segmenter.train(), own.device
        optimiser = torch.optim.AdamW(trained(own))
        for batch in batches:
            images, labels = batch.images.to(device), batch.labels.to(device).long()
            if isinstance(images, Tensor):
                images = segmenter.normalise(images).requires_grad_(self.to_images)
            optimiser.zero_grad()
            with autocast(device, own.compute.precision):
                logits = segmenter(images)
            loss = (usual_loss if self.usual else segmentation_loss)(logits, labels)
            more = own.method.auxiliary_loss(segmenter.backbone, labels)
            (loss if more is None else loss + more).backward()
            optimiser.step()
            mark()


def trained(rehearsal: Rehearsal) -> list[nn.Parameter]:
    """The parameters that a loop trains."""
    return [one for one in rehearsal.segmenter.parameters() if one.requires_grad]


def usual_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits (N, K, h, w) brought to the size of the labels (N, H, W)."""
    full = F.interpolate(logits.float(), labels.shape[-2:], mode="bilinear")
    return F.cross_entropy(full, labels, ignore_index=IGNORE)


def with_and_without(
    cell: RunSpec, environment: Environment, steps: int, rounds: int
) -> tuple[Times, int, bool]:
    """Times a cell with fixed views, with its frozen stages cached and computed each time.

    The first turn, which is not timed, fills the cache for the others.

    Returns:
        The times of `KNOWN` and `COMPUTED`, the number of stages that are known, and whether both
        trainings ended with the same parameters, bit for bit.
    """
    protocol = Protocol.model_validate(cell.protocol.model_dump() | {"views": VIEWS})
    cell = cell.model_copy(update={"protocol": protocol})
    with tempfile.TemporaryDirectory() as folder:
        with _cache(folder):
            known = Harness.of(cell, environment)
        with _cache("none"):
            computed = Harness.of(cell, environment)
        loops = {KNOWN: known, COMPUTED: computed}
        with _cache(folder):
            times = take_turns(loops, steps, rounds, environment.device)
    states = [loop.rehearsal.segmenter.state_dict().values() for loop in loops.values()]
    same = all(torch.equal(a, b) for a, b in zip(*states, strict=True))
    return times, known.rehearsal.known_stages, same


@contextlib.contextmanager
def _cache(folder: str) -> Iterator[None]:
    """Another cache inside the block."""
    former = os.environ.get(FOLDER)
    os.environ[FOLDER] = folder
    try:
        yield
    finally:
        del os.environ[FOLDER]
        if former is not None:
            os.environ[FOLDER] = former

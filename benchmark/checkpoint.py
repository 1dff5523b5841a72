"""Where training stands, on disk: enough to go on as if it had never stopped.

Saved are the trained tensors, all buffers, the optimiser with its schedule, the state of torch's
generators, what a method remembers between steps, and the number of batches taken; the streams of
data order and augmentation are drawn again up to there. Frozen tensors are the backbone's own and
come with it. The file is replaced as a whole, and read as tensors and plain values only.
"""

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark import store
from benchmark.models.segmenter import Segmenter
from methods.base import Method


@dataclass
class Progress:
    """What training has done so far; plain values.

    Attributes:
        run_id: of the run.
        step: optimiser steps made.
        curve: a dict a step.
        seconds: of all steps, over all starts.
        settled_seconds: of those behind the warm-up steps of each start, and
        settled_steps: their number, for the throughput.
        micro_batch: images a forward pass.
        starts: times the run was started or resumed.
        resumed_at: steps from which it went on.
    """

    run_id: str = ""
    step: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    settled_seconds: float = 0.0
    settled_steps: int = 0
    micro_batch: int = 0
    starts: int = 0
    resumed_at: list[int] = field(default_factory=list)


@dataclass
class Checkpoint:
    """Progress and every tensor that it takes to go on."""

    progress: Progress
    tensors: dict[str, Tensor]
    optimiser: dict[str, Any]
    schedule: dict[str, Any]
    method: dict[str, Any]
    cpu_random: Tensor
    cuda_random: list[Tensor]


def moving(segmenter: Segmenter) -> dict[str, Tensor]:
    """The tensors that training may change, by name."""
    trained = {n: p for n, p in segmenter.named_parameters() if p.requires_grad}
    return trained | dict(segmenter.named_buffers())


def save(
    path: Path,
    progress: Progress,
    segmenter: Segmenter,
    method: Method,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """Replaces the checkpoint.

    Raises:
        OSError: it cannot be written; the former one is as it was.
    """
    content = {
        "progress": asdict(progress),
        "tensors": {name: tensor.detach().cpu() for name, tensor in moving(segmenter).items()},
        "optimiser": optimiser.state_dict(),
        "schedule": schedule.state_dict(),
        "method": method.memory(segmenter.backbone),
        "cpu_random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    store.write_atomic(path, buffer.getbuffer())


def load(path: Path, run_id: str) -> Checkpoint | None:
    """The checkpoint of a run; None where there is none that can be read.

    One that cannot be read is kept beside its place, so that nothing is lost.
    """
    try:
        content: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        progress = Progress(**content["progress"])
        rest = {key: content[key] for key in Checkpoint.__dataclass_fields__ if key != "progress"}
        if progress.run_id != run_id:
            raise ValueError("of another run")
        return Checkpoint(progress, **rest)
    except FileNotFoundError:
        return None
    except Exception:
        # A torn or foreign file makes torch raise almost anything.
        path.replace(path.with_name(f"{path.name}.broken"))
        return None


@torch.no_grad()
def restore(
    checkpoint: Checkpoint,
    segmenter: Segmenter,
    method: Method,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """Puts everything back, torch's generators last.

    Raises:
        ValueError: the checkpoint does not fit; code must have changed since it was saved.
    """
    own = moving(segmenter)
    if own.keys() != checkpoint.tensors.keys():
        raise ValueError("the checkpoint holds other tensors than the run trains")
    for name, tensor in own.items():
        if tensor.shape != checkpoint.tensors[name].shape:
            raise ValueError(f"the checkpoint has another shape for {name}")
        tensor.copy_(checkpoint.tensors[name])
    optimiser.load_state_dict(checkpoint.optimiser)
    schedule.load_state_dict(checkpoint.schedule)
    method.remember(segmenter.backbone, checkpoint.method)
    torch.set_rng_state(checkpoint.cpu_random)
    if checkpoint.cuda_random and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(checkpoint.cuda_random)

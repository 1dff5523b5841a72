"""The state of a training on disk: enough to resume as if it had never stopped.

Saved are the trained tensors, all buffers, the optimiser with its schedule, the state of torch's
generators, what a method remembers between steps, an average of weights and the best ones where the
protocol asks for them, and the number of batches taken; the streams of
data order and augmentation are drawn again up to there. Frozen tensors are the backbone's own and
come with it. The file is replaced as a whole, and read as tensors and plain values only. On a CPU
training then ends with the same bits, on a GPU with the same to rounding.
"""

import io
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.core.files import make_folder, unused, write_atomic
from benchmark.engine.out_of_memory import is_out_of_memory
from benchmark.engine.sharding import is_sharded, spread_as, spread_state, whole, whole_in
from benchmark.models.segmenter import Segmenter
from methods.base import Method

ANY = "any"
"""In an identity: equal to everything, because it changes rounding alone."""


@dataclass
class TrainState:
    """How far a training is; plain values.

    Attributes:
        identity: everything that training depends on, by name.
        step: optimiser steps made.
        curve: a dict a step.
        seconds: of all steps, over all starts.
        settled_seconds: of those after the warm-up steps of each start, and
        settled_steps: their number, for the throughput; none after the network was compiled.
        compiled_after: the step after which it was compiled; 0 = it is not.
        compile_seconds: that its first compiled steps took longer than those before.
        compiled_seconds: of all other compiled steps, and
        compiled_steps: their number.
        micro_batch: images a forward pass; 0 = the batch, as long as memory carries it.
        starts: times the run was started or resumed.
        resumed_at: steps from which it resumed.
    """

    identity: dict[str, str] = field(default_factory=dict)
    step: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    settled_seconds: float = 0.0
    settled_steps: int = 0
    compiled_after: int = 0
    compile_seconds: float = 0.0
    compiled_seconds: float = 0.0
    compiled_steps: int = 0
    micro_batch: int = 0
    starts: int = 0
    resumed_at: list[int] = field(default_factory=list)

    @property
    def pace(self) -> float:
        """Seconds a step, of those that settled before anything was compiled."""
        if self.settled_steps:
            return self.settled_seconds / self.settled_steps
        return self.seconds / max(1, self.step)

    def made(self, step: int, seconds: float, settled: bool) -> None:
        """A step is over.

        Args:
            step: its number, from 1.
            seconds: that it took.
            settled: whether allocators and kernels had settled before.
        """
        self.step = step
        if not self.compiled_after:
            self.seconds += seconds
            self.settled_seconds += seconds * settled
            self.settled_steps += settled
        elif settled:
            self.seconds += seconds
            self.compiled_seconds += seconds
            self.compiled_steps += 1
        else:
            of_a_step = min(seconds, self.pace)
            self.seconds += of_a_step
            self.compile_seconds += seconds - of_a_step

    @property
    def steps_per_second(self) -> float:
        """Of all steps so far, over all starts."""
        return self.step / max(self.seconds, 1e-9)

    @property
    def gain(self) -> float | None:
        """Times as fast as before, since the network was compiled."""
        if not self.compiled_steps:
            return None
        return self.pace * self.compiled_steps / max(self.compiled_seconds, 1e-9)


@dataclass
class Saving:
    """Where checkpoints of a training are written, and how often.

    Attributes:
        path: the file; None = none is written.
        interval: seconds between two.
    """

    path: Path | None = None
    interval: float = 60.0
    _last: float = 0.0

    def is_due(self, begun: float) -> bool:
        """Whether the interval is over since the last one, or since the training began.

        Args:
            begun: `time.perf_counter()` at its beginning.
        """
        return time.perf_counter() - max(begun, self._last) >= self.interval

    def save(
        self,
        state: TrainState,
        segmenter: Segmenter,
        method: Method,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        evaluated: Mapping[str, Mapping[str, Tensor]],
    ) -> None:
        """Replaces the checkpoint, where there is to be one; of a sharded network in all processes.

        Raises:
            OSError: it cannot be written; the former one is as it was.
        """
        self._last = time.perf_counter()
        if self.path is None and not is_sharded(segmenter):
            return
        tensors = {name: whole(tensor.detach()).cpu() for name, tensor in moving(segmenter).items()}
        content = {
            "progress": asdict(state),
            "tensors": tensors,
            "optimiser": whole_in(optimiser.state_dict()),
            "schedule": schedule.state_dict(),
            "method": method.state_dict(segmenter.backbone),
            "evaluated": dict(evaluated),
            "random": random_state(next(segmenter.parameters()).device),
        }
        if self.path is None:
            return  # this process was needed to put tensors together
        buffer = io.BytesIO()
        torch.save(content, buffer)
        make_folder(self.path.parent)
        write_atomic(self.path, buffer.getbuffer())
        self._last = time.perf_counter()


class Unfit(Exception):
    """A checkpoint that does not fit what is trained: code must have changed since."""


@dataclass
class Checkpoint:
    """Progress and every tensor needed to resume."""

    progress: TrainState
    tensors: dict[str, Tensor]
    optimiser: dict[str, Any]
    schedule: dict[str, Any]
    method: dict[str, Any]
    evaluated: dict[str, dict[str, Tensor]]
    random: dict[str, Tensor]


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's generators that training on a device draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Puts the generators back to what `random_state` returned on a device of the same type."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


def moving(segmenter: Segmenter) -> dict[str, Tensor]:
    """The tensors that training may change, by name."""
    trained = {n: p for n, p in segmenter.named_parameters() if p.requires_grad}
    return trained | dict(segmenter.named_buffers())


def load(path: Path, identity: Mapping[str, str]) -> Checkpoint | None:
    """The checkpoint of a run; None where there is none that can be used.

    One that is damaged, or of another training, is set aside with a warning.

    Args:
        path: of the file.
        identity: what the training depends on now; that of the checkpoint must be equal.

    Raises:
        OSError: the file cannot be read, which may pass.
        MemoryError: it does not fit; or torch's own error for that.
    """
    try:
        file = io.BytesIO(path.read_bytes())
    except FileNotFoundError:
        return None
    try:
        content: Mapping[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        then = content["progress"]["identity"]
        # Of another state of the code, it may hold other fields, too.
        other = [n for n in {**then, **identity} if _differ(then.get(n), identity.get(n))]
        if not other:
            rest = {key: content[key] for key in Checkpoint.__dataclass_fields__}
            return Checkpoint(**rest | {"progress": TrainState(**rest["progress"])})
    except Exception as error:
        if is_out_of_memory(error):
            raise
        # A damaged file, or one of another kind, makes torch raise almost anything.
        set_aside(path, "damaged or not a checkpoint")
        return None
    set_aside(path, f"of a run with other {', '.join(other)}")
    return None


def _differ(then: str | None, now: str | None) -> bool:
    return then != now and ANY not in (then, now)


def set_aside(path: Path, reason: str) -> None:
    """Renames a checkpoint that cannot be used, and warns; training starts over.

    Raises:
        OSError: it cannot be moved.
    """
    kept = unused(path.with_name(f"{path.name}.broken"))
    path.rename(kept)
    warnings.warn(
        f"the checkpoint {path} is {reason}; it is kept as {kept.name}, and training starts over",
        stacklevel=2,
    )


@torch.no_grad()
def restore(
    checkpoint: Checkpoint,
    state: TrainState,
    segmenter: Segmenter,
    method: Method,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """Puts everything back, torch's generators last, and notes in the state that it was resumed.

    Raises:
        Unfit: it cannot be put back; some of it may have been.
    """
    own = moving(segmenter)
    shapes = {name: tensor.shape for name, tensor in own.items()}
    if shapes != {name: tensor.shape for name, tensor in checkpoint.tensors.items()}:
        raise Unfit("the checkpoint holds other tensors than the run trains")
    try:
        optimiser.load_state_dict(checkpoint.optimiser)
        spread_state(optimiser)
        schedule.load_state_dict(checkpoint.schedule)
        method.load_state_dict(segmenter.backbone, checkpoint.method)
        for name, tensor in own.items():
            tensor.copy_(spread_as(checkpoint.tensors[name], tensor))
        set_random_state(checkpoint.random, next(segmenter.parameters()).device)
        vars(state).update(vars(checkpoint.progress) | {"identity": state.identity})
        state.resumed_at.append(state.step)
    except Exception as error:
        # The optimiser, the schedule and the method each refuse in a way of their own.
        raise Unfit(f"the checkpoint does not fit: {error}") from error

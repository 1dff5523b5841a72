"""Which weights of a training are evaluated: the last ones, their moving average, or the best."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from benchmark.core.spec import Protocol
from benchmark.engine.checkpoint import moving
from benchmark.models.segmenter import Segmenter

Tensors = dict[str, Tensor]


class EvaluatedWeights:
    """Follows a training, and puts the weights that the protocol asks for in place at its end.

    Args:
        segmenter: that is trained.
        protocol: `ema`, `val_every` and `checkpoint` matter.
        validate: mIoU of the segmenter, in eval mode, on the validation split.

    Attributes:
        average: exponential moving average of everything that training changes; empty = none.
        best: what had the highest mIoU on validation so far; empty = none is looked for.
    """

    def __init__(
        self, segmenter: Segmenter, protocol: Protocol, validate: Callable[[], float] | None = None
    ) -> None:
        if protocol.val_every and validate is None:
            raise ValueError("val_every asks for a validation split")
        self._segmenter, self._protocol, self._validate = segmenter, protocol, validate
        self._highest = -1.0
        self.average: Tensors = self._copy() if protocol.ema else {}
        self.best: Tensors = {}

    def is_due(self, step: int) -> bool:
        """Whether the validation split is evaluated after a step, from 1; it is after the last."""
        every, steps = self._protocol.val_every, self._protocol.steps
        return bool(every) and step > 0 and (step % every == 0 or step == steps)

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Moves the average after a step, from 1.

        The decay rises to that of the protocol, as (1 + step) / (10 + step): else the average of a
        short training would be of its first weights.
        """
        decay = min(self._protocol.ema, (1 + step) / (10 + step))
        for name, tensor in moving(self._segmenter).items() if self.average else ():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor.detach(), 1 - decay)
            else:
                self.average[name].copy_(tensor)

    def validate(self) -> float:
        """The mIoU on validation of the weights that would be evaluated now; the best are kept."""
        assert self._validate is not None
        with self._in_place(self.average):
            self._segmenter.eval()
            try:
                found = self._validate()
            finally:
                self._segmenter.train()
            if self._protocol.checkpoint == "best" and found > self._highest:
                self._highest, self.best = found, self._copy()
        return found

    def put_in_place(self) -> None:
        """The training is over: the segmenter gets the weights that are evaluated."""
        self._put(self.best or self.average)

    def state_dict(self) -> dict[str, Tensors]:
        """What a checkpoint needs beside the segmenter's own tensors, on the CPU."""
        kept = {"average": self.average, "best": self.best}
        highest = {"highest": torch.tensor(self._highest, dtype=torch.float64)}
        return {
            name: {key: tensor.cpu() for key, tensor in tensors.items()}
            for name, tensors in kept.items()
        } | {"score": highest}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Takes back what `state_dict` returned."""
        device = next(self._segmenter.parameters()).device
        self.average, self.best = (
            {name: tensor.to(device) for name, tensor in state[key].items()}
            for key in ("average", "best")
        )
        self._highest = float(state["score"]["highest"])

    def _copy(self) -> Tensors:
        return {name: one.detach().clone() for name, one in moving(self._segmenter).items()}

    @torch.no_grad()
    def _put(self, tensors: Tensors) -> None:
        own = moving(self._segmenter)
        for name, tensor in tensors.items():
            own[name].copy_(tensor)

    @contextmanager
    def _in_place(self, tensors: Tensors) -> Iterator[None]:
        """Inside the block the segmenter has other weights; those it had come back."""
        if not tensors:
            yield
            return
        former = self._copy()
        self._put(tensors)
        try:
            yield
        finally:
            self._put(former)

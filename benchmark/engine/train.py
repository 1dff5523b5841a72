"""The training loop: one segmenter, one optimiser, one schedule, top to bottom."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from benchmark.core.interrupt import Diverged, Interrupted, StopSignal, TimedOut
from benchmark.core.spec import Protocol
from benchmark.data.batches import Batch
from benchmark.engine import checkpoint
from benchmark.engine.checkpoint import Checkpoint, Saving, TrainState
from benchmark.engine.decay import by_depth, only_weights
from benchmark.engine.evaluated_weights import EvaluatedWeights
from benchmark.engine.losses import Criterion, Losses
from benchmark.engine.ranks import ALONE, Ranks
from benchmark.engine.replicas import Replicas
from benchmark.engine.sharding import is_sharded, whole
from benchmark.engine.step import Stepper, trained
from benchmark.models.segmenter import Segmenter, phase
from benchmark.planning.compile_policy import Pays
from methods.base import Method

ASKED_AFTER = 8
"""The step after which it is known what a step takes, and asked whether to compile."""

WARM_UP_STEPS = 3
"""First steps left out of the throughput: allocators and kernels settle in them."""

LOOKED_AT = {"cuda": 16}
"""Steps between looks at the losses, by device: where it computes while the loop goes ahead, a look
makes the loop wait. Elsewhere every step's are."""

PHASES = (
    *("data", "transfer", "backbone", "decoder", "loss", "auxiliary loss", "backward"),
    *("gradient norm", "optimiser"),
)
"""The parts of a step, in order."""

Progress = Callable[[int, float, float], None]
"""Called after each step with the step (from 1), the loss and images/s so far."""


@dataclass(frozen=True)
class Trained:
    """What training leaves beside the changed parameters.

    Attributes:
        state: how it came about, with the curve and the time.
        batch_size: of the protocol.
    """

    state: TrainState
    batch_size: int

    @property
    def images_per_second(self) -> float:
        """Without the warm-up steps, and without compiled ones."""
        return self.batch_size / max(self.state.pace, 1e-9)


def learning_rate_factor(step: int, protocol: Protocol) -> float:
    """Linear warm-up to 1, then half a cosine or a straight line to 0, for step 0..steps-1."""
    rising = round(protocol.warmup * protocol.steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    done = (step - rising) / max(1, protocol.steps - rising)
    return 1 - done if protocol.schedule == "poly" else 0.5 * (1 + math.cos(math.pi * done))


def train(
    segmenter: Segmenter,
    method: Method,
    data: Iterator[Batch],
    protocol: Protocol,
    precision: str,
    progress: Progress | None = None,
    *,
    state: TrainState | None = None,
    saved: Checkpoint | None = None,
    saving: Saving | None = None,
    watch: StopSignal | None = None,
    pays: Pays | None = None,
    replicas: Replicas | None = None,
    criterion: Criterion | None = None,
    validate: Callable[[], float] | None = None,
    ranks: Ranks = ALONE,
) -> Trained:
    """Trains what requires gradients, in place, for the protocol's steps.

    Where memory runs out, the batch is taken in parts, whose gradients add up to those of the whole
    (but BatchNorm's statistics are then of the parts).

    Args:
        segmenter: on its device.
        method: that was applied to its backbone.
        data: batches, from the first step on that is left; of each what this process takes.
        protocol: steps, rates, batch size.
        precision: fp32 or bf16.
        progress: called after each step.
        state: filled during training.
        saved: checkpoint to resume from; None = start from the beginning.
        saving: where checkpoints are written; None = nowhere.
        watch: says when to stop; None = never.
        pays: says whether to compile the network; None = no.
        replicas: the segmenter and copies that share its tensors; None = no copies.
        criterion: the loss; None = that of the protocol, which then weights no classes.
        validate: mIoU of the segmenter on the validation split; where the protocol asks for it.
        ranks: the processes that share each batch. All of them call this, with equal arguments but
            for `data`; the first one saves.

    Raises:
        Diverged: a loss, gradient or parameter is no finite number.
        OutOfMemory: not even a single image fits.
        Interrupted, TimedOut: `watch` says so; a checkpoint is saved first.
        Unfit: `saved` is of other code than this.
        OSError: a checkpoint cannot be written.
    """
    state, watch, saving = state or TrainState(), watch or StopSignal(), saving or Saving()
    optimiser, schedule = optimisation(segmenter, method, protocol)
    segmenter.train()
    evaluated = EvaluatedWeights(segmenter, protocol, validate)
    if saved is not None:
        checkpoint.restore(saved, state, segmenter, method, optimiser, schedule)
        evaluated.load_state_dict(saved.evaluated)
    part = -(-protocol.batch_size // protocol.accumulate)
    if ranks.count > 1:  # what one device could not hold, several may
        state.micro_batch = part
    state.starts, state.micro_batch = state.starts + 1, state.micro_batch or part
    device = next(segmenter.parameters()).device
    copies, criterion = replicas or Replicas(segmenter), criterion or Criterion.of(protocol)
    make_step = Stepper(copies, method, protocol, precision, optimiser, state, criterion, ranks)
    network = _compiled(segmenter) if state.compiled_after else segmenter
    losses = Losses(state.curve, LOOKED_AT.get(device.type, 1), ranks)

    def save() -> None:
        losses.look()
        if ranks.is_first or is_sharded(segmenter):
            saving.save(state, segmenter, method, optimiser, schedule, evaluated.state_dict())
        ranks.wait()  # none ends before it is saved

    def validate_where_due() -> None:
        if evaluated.is_due(state.step):
            losses.look()
            if "val_miou" not in state.curve[-1]:
                try:
                    state.curve[-1]["val_miou"] = evaluated.validate()
                except (Interrupted, TimedOut):
                    save()
                    raise

    if saved is not None:
        validate_where_due()  # that of its last step may have been interrupted
    settling, begun, steps = state.step, time.perf_counter(), protocol.steps
    for step in range(state.step + 1, steps + 1):
        start = time.perf_counter()
        batch = _next(data, watch, save, f"at step {step - 1} of {steps}", ranks)
        losses.add(step, batch.ids, make_step(network, batch, step))
        settled = step - settling > WARM_UP_STEPS  # what settles falls on no step that is timed
        asked = step == ASKED_AFTER and not state.compiled_after
        if losses.are_due or not settled or asked or step == steps:
            losses.look()
        method.after_step(segmenter.backbone, step, steps)
        schedule.step()
        evaluated.follow(step)
        state.made(step, time.perf_counter() - start, settled)
        validate_where_due()
        if progress:
            progress(step, state.curve[-1]["loss"], protocol.batch_size * state.steps_per_second)
        if asked and pays and pays(state.pace, steps - step):
            network, settling, state.compiled_after = _compiled(segmenter), step, step
        if step < steps:
            _save_where_due(save, saving.is_due(begun), watch, f"at step {step} of {steps}", ranks)
    optimiser.zero_grad(set_to_none=True)
    if not all(whole(torch.isfinite(parameter).all()) for parameter in trained(optimiser)):
        raise Diverged("the last step made a parameter infinite; lower the learning rate")
    save()  # evaluation may be interrupted, too
    evaluated.put_in_place()
    segmenter.eval()
    return Trained(state, protocol.batch_size)


def optimisation(
    segmenter: Segmenter, method: Method, protocol: Protocol
) -> tuple[torch.optim.Optimizer, LRScheduler]:
    """AdamW over the method's groups and the decoder, and the schedule of their rates."""
    groups = [
        *by_depth(method.parameter_groups(segmenter.backbone), segmenter, protocol.layer_decay),
        {"params": list(segmenter.decoder.parameters()), "lr": protocol.decoder_lr},
    ]
    if protocol.weight_decay_on == "weights":
        groups = only_weights(groups, segmenter, method)
    # fused: one kernel for all tensors, the same arithmetic.
    optimiser = torch.optim.AdamW(groups, weight_decay=protocol.weight_decay, fused=True)
    return optimiser, LambdaLR(optimiser, lambda step: learning_rate_factor(step, protocol))


def _next(
    data: Iterator[Batch], watch: StopSignal, save: Callable[[], None], where: str, ranks: Ranks
) -> Batch:
    """The next batch; where a signal ended the processes that cut crops, saves and stops."""
    try:
        with phase("data"):
            return next(data)
    except Exception as error:
        if not watch.signal or ranks.count > 1:  # the others may have their crops
            raise
        save()
        watch.check_signal(where)
        raise AssertionError from error


def _save_where_due(
    save: Callable[[], None], due: bool, watch: StopSignal, where: str, ranks: Ranks
) -> None:
    """Saves where it is time to, and where a signal or a limit stops the training."""
    if stop := ranks.agreed(watch.stopping(where)):
        save()
        raise stop
    if ranks.any(due and ranks.is_first):
        save()


def _compiled(segmenter: Segmenter) -> nn.Module:
    """The same network, compiled when it is first used."""
    # What was compiled for other cells of this process counts towards a limit.
    torch.compiler.reset()
    return cast(nn.Module, torch.compile(segmenter, dynamic=False))

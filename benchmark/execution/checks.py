"""What would stop a cell, found out on its untrained model within seconds."""

import traceback
from dataclasses import dataclass

import torch
from safetensors.torch import load, save
from torch import Tensor

from benchmark.core.errors import UserError, on_one_line
from benchmark.core.interrupt import Diverged, OutOfMemory
from benchmark.core.seeding import torch_stream
from benchmark.core.spec import RunSpec
from benchmark.data.batches import Batch
from benchmark.engine.activations import is_exact
from benchmark.engine.build import build_segmenter
from benchmark.engine.losses import Criterion
from benchmark.engine.measure import count_flops, flops_by_shape
from benchmark.engine.out_of_memory import is_out_of_memory
from benchmark.engine.sharding import refusal
from benchmark.engine.train import train
from benchmark.execution.environment import Environment
from benchmark.execution.tasks import TRACEBACK_LINES, Verdict
from benchmark.models import delta as deltas
from benchmark.models.weights import build_backbone
from benchmark.planning.catalogue import BENCHMARKS, build_method
from methods.base import Unsupported

IMAGES = 2
"""Of the rehearsed step: as few as BatchNorm takes."""


MOST_TIMES = 1000
"""How much more than the frozen backbone a method may compute to be tried at all."""


def check(cell: RunSpec, environment: Environment) -> Verdict:
    """Finds out what would stop a cell, before anything is trained or written.

    Args:
        cell: its backbone, weights, crop and method matter.
        environment: where.
    """
    crop, benchmark = cell.protocol.crop, BENCHMARKS.get(cell.benchmark)
    try:
        backbone = build_backbone(
            cell.backbone, cell.weights, environment.weights, crop, benchmark.channels
        )
    except UserError as error:
        return Verdict(str(error), by_user=True)
    divisor = backbone.divisor
    if crop % divisor:
        near = max(divisor, crop // divisor * divisor)
        reason = (
            f"crop={crop} is not a multiple of {divisor}, as backbone {cell.backbone!r} needs; "
            f"use --set crop={near} or --set crop={near + divisor}"
        )
        return Verdict(reason, "unsupported", by_user=True)
    method = build_method(cell.method, cell.method_params)
    if reason := too_costly(cell, environment):
        return Verdict(reason, "unsupported", by_user=True)
    try:
        try:
            method.apply(backbone, len(benchmark.classes))
        except ValueError as error:  # a hyperparameter that does not fit this backbone
            return Verdict(f"{error} (backbone {cell.backbone!r})", "unsupported", by_user=True)
        if environment.shard and (reason := refusal(backbone, method, cell.protocol)):
            return Verdict(reason, by_user=True)  # without a status: the cell itself is sound
        return Verdict(unmeasured=rehearse(cell, environment))
    except Unsupported as reason:
        return Verdict(str(reason), "unsupported")
    except UserError as error:
        return Verdict(str(error), "unsupported", by_user=True)
    except (OutOfMemory, Diverged):
        return Verdict()  # of one step on noise; the run finds out itself
    except Exception as error:
        if is_out_of_memory(error):
            return Verdict()
        tail = traceback.format_exc().splitlines()[-TRACEBACK_LINES:]
        return Verdict(on_one_line(error), "failed", "\n".join(tail))


def too_costly(cell: RunSpec, environment: Environment) -> str:
    """What to say where settings multiply the computation of the backbone by over `MOST_TIMES`.

    It is worked out from shapes, so that a number of tokens with some zeros too many is refused
    at once, where trying it would take hours. Empty where it cannot be known without computing.
    """
    method = build_method(cell.method, cell.method_params)
    if method == type(method)():  # defaults are moderate, and counting takes half a second
        return ""
    benchmark, crop = BENCHMARKS.get(cell.benchmark), cell.protocol.crop
    backbone = build_backbone(
        cell.backbone, cell.weights, environment.weights, crop, benchmark.channels
    ).to("meta")
    try:
        frozen = flops_by_shape(backbone, crop)
        with torch.device("meta"):
            method.apply(backbone, len(benchmark.classes))
        small = flops_by_shape(backbone, crop) <= MOST_TIMES * frozen
    except Exception as error:
        # More values in a tensor than can be counted. Anything else shows where it is tried.
        small = "overflow" not in str(error)
    if small:
        return ""
    return (
        f"{cell.method_label} needs more than {MOST_TIMES} times the computation of backbone "
        f"{cell.backbone!r}; choose smaller values"
    )


def rehearse(cell: RunSpec, environment: Environment) -> str:
    """Does with an untrained model what a run does after its training.

    One step is made, so that the delta holds what was trained. What raises here would have lost a
    training.

    Args:
        cell: what to rehearse; no data are read.
        environment: where.

    Returns:
        Costs that will not be measured, and why; empty = none.
    """
    method = build_method(cell.method, cell.method_params)
    segmenter, pristine = build_segmenter(cell, method, environment.weights, environment.device)
    images = min(IMAGES, cell.protocol.batch_size)
    protocol = cell.protocol.shortened(1, images)
    classes = len(BENCHMARKS.get(cell.benchmark).classes)
    method.before_training(segmenter.backbone, _Equal(classes))
    criterion = Criterion.of(protocol, _Equal(classes))
    size = images, segmenter.backbone.in_chans, protocol.crop, protocol.crop
    if protocol.checkpoint_activations == "on":
        pixels, labels, _ = _noise(size, classes)
        assert isinstance(pixels, Tensor)
        seen, device = pixels.to(environment.device), environment.device
        if not is_exact(segmenter, method, seen, labels.to(device).long(), criterion):
            raise UserError(
                f"{cell.method_label} hands on what it computes inside a block, so "
                "checkpoint_activations=on would change its gradients; leave it out"
            )
    with torch_stream(cell.seed, "training"):
        crops = iter([_noise(size, classes)])
        train(segmenter, method, crops, protocol, "fp32", criterion=criterion)
    again, _ = build_segmenter(cell, method, environment.weights, environment.device)
    deltas.load_delta(again.eval(), load(save(deltas.delta(segmenter.eval(), pristine))))
    deltas.require_same_state(segmenter, again)
    try:
        count_flops(again, protocol)
        if method.mergeable:
            method.merge(again.backbone)
            count_flops(again, protocol)
    except Exception as error:
        return on_one_line(error)
    return ""


def _noise(size: tuple[int, int, int, int], classes: int) -> Batch:
    generator, (images, _, *area) = torch.Generator().manual_seed(0), size
    pixels = torch.randint(256, size, generator=generator, dtype=torch.uint8)
    labels = torch.randint(classes, (images, *area), generator=generator, dtype=torch.uint8)
    return Batch(pixels, labels, tuple(map(str, range(images))))


@dataclass(frozen=True)
class _Equal:
    """Training data of which nothing is known yet."""

    num_classes: int

    def class_frequencies(self) -> Tensor:
        return torch.full((self.num_classes,), 1 / self.num_classes)

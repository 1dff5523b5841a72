"""One pass for images of several tasks: frozen stages run once, what a task added on its own rows.

That is the promise of methods that keep the structure of the backbone: the modules of the stages
are the same for all tasks, so a batch may hold images of any of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.engine.evaluate import network_inputs
from benchmark.inference.predictor import Predictor
from benchmark.models.backbone import StagedBackbone
from benchmark.models.precision import autocast, cast_frozen
from benchmark.models.share import SharedBackbone
from benchmark.planning.catalogue import build_method
from methods.base import Branch

Place = tuple[str, int | str]
"""Where functions are attached: the kind of place, and which stage or block."""

_IMAGES: Place = ("images", 0)
_EMBEDDING: Place = ("embedding", 0)
_FEATURES: Place = ("features", 0)

_SIDES = 4
"""Smallest side of the image of the trial, in strides of the last stage."""


class NotShared(Exception):
    """A method acts inside of stages, so its images cannot pass beside those of others."""


class MixedBackbone:
    """A frozen backbone through which images of several tasks pass together.

    One thread may use it at a time.

    Args:
        shared: the backbone of the tasks.
        precision: fp32 or bf16, in which all of them compute.
    """

    def __init__(self, shared: SharedBackbone, precision: str) -> None:
        twin = shared.twin()
        self._backbone = twin.backbone
        self._precision, self._casting = precision, ExitStack()
        with torch.no_grad():
            self._casting.enter_context(cast_frozen(twin, precision, shared.casts))
        self._tasks: dict[str, tuple[Predictor, _Rows]] = {}
        self._rows: list[tuple[_Rows, slice]] = []
        self._attached: set[Place] = set()

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

    def add(self, name: str, predictor: Predictor) -> None:
        """Takes a task in.

        Args:
            name: of the task.
            predictor: that is on the same backbone and computes in the same precision.

        Raises:
            NotShared: its method changes what stages compute, or its images have to pass alone.
        """
        record = predictor.record
        method = build_method(record.method_name, record.method_params)
        if not method.keeps_structure:  # others may change the modules themselves
            raise NotShared(f"{method.name} acts inside of stages")
        if predictor.protocol.tta != "none":
            raise NotShared("it averages over mirror images")
        rows = _Rows(self._backbone, predictor.segmenter.backbone.inserted)
        with torch.random.fork_rng(devices=[]):
            method.apply(rows, len(predictor.classes))
        rows.take()
        for place in rows.functions.keys() - self._attached:
            self._attach(place)
        self._tasks[name] = predictor, rows
        if not self._is_like(name, predictor):
            del self._tasks[name]
            raise NotShared("its logits differ from those of its own pass")

    def remove(self, name: str) -> None:
        """Forgets a task."""
        self._tasks.pop(name, None)

    @torch.inference_mode()
    def coarse(self, images: Sequence[tuple[str, np.ndarray]]) -> list[Tensor]:
        """Coarse logits of images that pass whole.

        In a batch of more than one image the sums of a product may be made in another order than
        in a batch of one, so logits are equal up to rounding; of one image they are equal bit for
        bit.

        Args:
            images: task and (H, W, C) uint8 of each; their network inputs have one shape.

        Returns:
            (K, h, w) float32 of each, in the same order.
        """
        order = sorted(range(len(images)), key=lambda place: images[place][0])
        names = [images[place][0] for place in order]
        inputs = torch.cat(
            [
                network_inputs(predictor.segmenter, predictor.scale, [images[place][1]])
                for place in order
                for predictor, _ in [self._tasks[images[place][0]]]
            ]
        )
        parts = {
            name: slice(names.index(name), names.index(name) + names.count(name)) for name in names
        }
        found: list[Tensor] = []
        with autocast(inputs.device, self._precision), self._split(parts):
            features = self._backbone(inputs)
            for name, part in parts.items():
                predictor, rows = self._tasks[name]
                own = rows.change(_FEATURES, [level[part] for level in features])
                found += predictor.segmenter.decoder(own).float()
        back = {place: logits for place, logits in zip(order, found, strict=True)}
        return [back[place] for place in range(len(images))]

    @contextmanager
    def _split(self, parts: Mapping[str, slice]) -> Iterator[None]:
        """Inside the block the rows of a batch belong to these tasks, in this order."""
        self._rows = [(self._tasks[name][1], part) for name, part in parts.items()]
        for rows, _ in self._rows:
            rows.pass_state.clear()
        try:
            yield
        finally:
            for rows, _ in self._rows:
                rows.pass_state.clear()
            self._rows = []

    def _through(self, place: Place, x: Tensor) -> Tensor:
        """Each task's functions at a place, on its own rows."""
        if not any(place in rows.functions for rows, _ in self._rows):
            return x
        return torch.cat([rows.change(place, x[part]) for rows, part in self._rows])

    def _attach(self, place: Place) -> None:
        kind, which = place
        through: Callable[[Tensor], Tensor] = lambda x: self._through(place, x)  # noqa: E731
        if kind == "images":
            self._backbone.on_images(through)
        elif kind == "embedding":
            self._backbone.at_embedding(through)
        elif kind == "stage":
            self._backbone.at_boundary(int(which), through)
        elif kind == "block":
            self._backbone.after_block(str(which), through)
        self._attached.add(place)

    def _is_like(self, name: str, predictor: Predictor) -> bool:
        """Whether a single image gives what the task's own pass gives, bit for bit."""
        backbone = predictor.segmenter.backbone
        side = backbone.fixed_side or _SIDES * backbone.divisor
        count = side * side * backbone.in_chans
        values = torch.arange(count).mul(7919).remainder(251).to(torch.uint8)
        image = values.view(side, side, backbone.in_chans).numpy()
        try:
            (ours,) = self.coarse([(name, image)])
        except RuntimeError:  # a method changed the size of the images, or of a map
            return False
        inputs = network_inputs(predictor.segmenter, predictor.scale, [image])
        with torch.inference_mode(), autocast(inputs.device, self._precision):
            theirs = predictor.segmenter(inputs).float()[0]
        return torch.equal(ours, theirs)


class _Rows:
    """What a method sees as its backbone: the shared one, but what it attaches is its own."""

    def __init__(self, backbone: StagedBackbone, trained: nn.ModuleDict) -> None:
        self._backbone, self._trained = backbone, trained
        self.inserted = nn.ModuleDict()
        self.pass_state: dict[str, Any] = {}
        self.functions: dict[Place, list[Callable[[Any], Any]]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)

    def insert(self, name: str, module: nn.Module) -> nn.Module:
        self.inserted[name] = module
        return module

    def on_images(self, fn: Callable[[Tensor], Tensor]) -> None:
        self._add(_IMAGES, fn)

    def at_embedding(self, fn: Callable[[Tensor], Tensor]) -> None:
        self._add(_EMBEDDING, fn)

    def at_boundary(self, stage: int, fn: Callable[[Tensor], Tensor]) -> None:
        self._add(("stage", stage), fn)

    def after_block(self, block: str, fn: Callable[[Tensor], Tensor]) -> None:
        self._add(("block", block), fn)

    def on_features(self, fn: Callable[[list[Tensor]], list[Tensor]]) -> None:
        self._add(_FEATURES, fn)

    def before(self, target: str, fn: Any) -> None:
        raise NotShared(f"it acts on {target}")

    def after(self, target: str, fn: Any) -> None:
        raise NotShared(f"it acts on {target}")

    def around(self, target: str, fn: Any) -> None:
        raise NotShared(f"it replaces {target}")

    def beside(self, branch: Branch, fn: Any) -> None:
        raise NotShared(f"it acts in {branch.block}")

    def behind(self, branch: Branch, fn: Any) -> None:
        raise NotShared(f"it acts in {branch.block}")

    def take(self) -> None:
        """Uses the trained tensors of the task in place of fresh ones."""
        self.inserted.eval().requires_grad_(False)
        theirs = dict(_tensors(self._trained))
        for name, tensor in _tensors(self.inserted):
            tensor.data = theirs[name].data

    def change(self, place: Place, x: Any) -> Any:
        """What the method makes of its rows."""
        for fn in self.functions.get(place, ()):
            x = fn(x)
        return x

    def _add(self, place: Place, fn: Callable[[Any], Any]) -> None:
        self.functions.setdefault(place, []).append(fn)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()

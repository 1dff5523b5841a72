"""Training batches of a run: crops, or what the frozen beginning of the backbone makes of them.

Under a protocol with fixed views, a crop is one of a few of its image. Where the first stages are
frozen and untouched, their output for it is computed once, kept in the cache, and shared by
methods, seeds and learning rates: the same numbers, without the work.
"""

import warnings
from collections.abc import Generator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmark.core.cache_folder import cache_folder
from benchmark.core.spec import Compute, Protocol, short_hash
from benchmark.data.base import Example
from benchmark.data.batches import Batch, Prefix, batches, cut, draws, own_of, view_of
from benchmark.data.examples import Examples
from benchmark.data.row_cache import Rows, create
from benchmark.data.subsample import take
from benchmark.models.delta import Pristine
from benchmark.models.precision import autocast
from benchmark.models.prefix import compute, depth_of, repeatable_depth
from benchmark.models.segmenter import Segmenter
from benchmark.results.provenance import prefix_sha256


class FeatureCacheLoader:
    """Where a run's batches come from.

    Args:
        segmenter: that is trained, on its device.
        pristine: its backbone before the method touched it.
        training: all training images, at working scale.
        protocol: of the run.
        compute: precision and attention of the run.
        seed: of the run.

    Attributes:
        known_stages: leading stages whose output is kept; 0 = the batches are of images.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        pristine: Pristine,
        training: Examples,
        protocol: Protocol,
        compute: Compute,
        seed: int,
    ) -> None:
        self.segmenter, self.protocol = segmenter, protocol
        self.compute, self.seed = compute, seed
        self._training = training
        self._device = next(segmenter.parameters()).device
        self._pinned = self._device.type == "cuda"
        self._rows: list[Rows] = []
        self._like: tuple[Tensor, ...] = ()
        self.known_stages = 0
        if protocol.views:
            depth = depth_of(segmenter.train().backbone)
            with autocast(self._device, compute.precision):
                depth = repeatable_depth(segmenter.eval().backbone, depth, protocol.crop)
            segmenter.train()
            where = cache_folder()
            if depth and where.folder is not None:
                self._open(depth, pristine)

    def batches(
        self, workers: int = 0, skip: int = 0, places: Sequence[int] | None = None
    ) -> Generator[Batch]:
        """Endless batches, from the batch `skip` on; see `benchmark.data.batches.batches`."""
        used = take(self._training, self.protocol.fraction, self.seed)
        if self.known_stages:
            return self._known(used, skip, places)
        return batches(used, self.protocol, self.seed, workers, skip, self._pinned, places)

    def _open(self, depth: int, pristine: Pristine) -> None:
        """Opens a file a stage, and one of labels; or leaves it, with a warning."""
        backbone, protocol = self.segmenter.backbone, self.protocol
        side = protocol.crop
        blank = torch.zeros(1, backbone.in_chans, side, side, device=self._device)
        with autocast(blank.device, self.compute.precision):
            self._like = compute(backbone, blank, depth).outputs
        sizes = [side * side, *(y[0].nbytes for y in self._like)]
        shared: Mapping[str, object] = {
            "data": self._training.sha256,
            "code": prefix_sha256(),
            "cut": [side, protocol.scale_min, protocol.scale_max, protocol.flip, protocol.views],
        }
        own = {
            **shared,
            "backbone": [backbone.name, *sorted(pristine.hashes.items())],
            "input": [backbone.mean, backbone.std],
            "compute": [self.compute.precision, self.compute.attention],
            "device": blank.device.type,
        }
        names = [f"views-{short_hash(shared)}"]
        names += [f"prefix-{short_hash({**own, 'stage': stage})}" for stage in range(depth)]
        count = len(self._training) * protocol.views
        try:
            for name, size in zip(names, sizes, strict=True):
                self._rows.append(create(cache_folder(), name, count, size))
        except OSError as error:
            self._give_up(error)
            return
        self.known_stages = depth

    def _known(self, used: Examples, skip: int, places: Sequence[int] | None) -> Generator[Batch]:
        positions = {id: number for number, id in enumerate(self._training.ids)}
        protocol, views, side = self.protocol, self.protocol.views, self.protocol.crop
        drawn = draws(len(used), protocol.batch_size, self.seed, skip, views)
        for crops in own_of(drawn, places):
            ids = tuple(used.ids[crop.example] for crop in crops)
            numbers = [
                positions[id] * views + crop.view for id, crop in zip(ids, crops, strict=True)
            ]
            found = [[rows.read(number) for rows in self._rows] for number in numbers]
            missing = [i for i, parts in enumerate(found) if any(part is None for part in parts)]
            if missing:
                made = self._make([(used[crops[i].example], crops[i].view) for i in missing])
                for i, parts in zip(missing, made, strict=True):
                    found[i] = list(parts)
                    self._keep(numbers[i], parts)
            labels, *outputs = (np.stack(column) for column in zip(*found, strict=True))
            tensors = [
                torch.from_numpy(bytes_).view(like.dtype).view(len(crops), *like.shape[1:])
                for bytes_, like in zip(outputs, self._like, strict=True)
            ]
            tensors.append(torch.from_numpy(labels).view(len(crops), side, side))
            if self._pinned:
                tensors = [tensor.pin_memory() for tensor in tensors]
            yield Batch(Prefix(tuple(tensors[:-1]), (side, side)), tensors[-1], ids)

    def _make(self, wanted: list[tuple[Example, int]]) -> list[list[np.ndarray]]:
        """Label and outputs of views, as bytes."""
        pieces = [cut(one, view_of(one.id, view), self.protocol) for one, view in wanted]
        images = torch.stack([image for image, _ in pieces])
        # Always a whole batch: how a product is computed, and so its rounding, depends on its size.
        whole = images.new_zeros(self.protocol.batch_size, *images.shape[1:])
        whole[: len(images)] = images
        whole = self.segmenter.normalise(whole.to(self._device))
        with autocast(whole.device, self.compute.precision):
            prefix = compute(self.segmenter.backbone, whole, self.known_stages)
        outputs = [y[: len(pieces)].cpu().contiguous() for y in prefix.outputs]
        return [
            [
                label.contiguous().numpy().reshape(-1),
                *(y[i].reshape(-1).view(torch.uint8).numpy() for y in outputs),
            ]
            for i, (_, label) in enumerate(pieces)
        ]

    def _keep(self, number: int, parts: list[np.ndarray]) -> None:
        try:
            for rows, part in zip(self._rows, parts, strict=True):
                rows.write(number, part)
        except OSError as error:
            # What is known stays readable; the rest is computed at each use.
            self._keep = lambda number, parts: None  # type: ignore[method-assign]
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        warnings.warn(
            f"the output of the frozen stages is computed at each use, because the cache "
            f"{cache_folder().folder} cannot take it ({error.strerror or error}); make room "
            "there or name another folder by BENCHMARK_CACHE",
            stacklevel=2,
        )

"""A trained network that labels images of any size, as the evaluation of its run did."""

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.core.record import Record, Task
from benchmark.core.spec import Protocol
from benchmark.data.given import Given, image_of
from benchmark.data.task import palette_of
from benchmark.engine.batching import limit_on
from benchmark.engine.counts import best_class
from benchmark.engine.evaluate import coarse_of, input_sizes, label_strips
from benchmark.models.precision import cast_frozen
from benchmark.models.segmenter import Segmenter


class Network(nn.Module):
    """Logits at the size of the images, as one module: what is exported.

    Images pass whole, in fp32. `Predictor.predict` adds the resize that the benchmark asks for,
    windows of large images, and the precision of the run.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, images: Tensor) -> Tensor:
        """Logits.

        Args:
            images: (N, C, H, W) float32, normalised with the backbone's mean and std.

        Returns:
            (N, K, H, W) float32.
        """
        height, width = images.shape[-2:]
        tall, wide = self.segmenter.backbone.padded(height, width)
        padded = F.pad(images, (0, wide - width, 0, tall - height))
        coarse = self.segmenter(padded).float()
        logits = F.interpolate(coarse, (tall, wide), mode="bilinear", align_corners=False)
        return logits[..., :height, :width]


class Predictor:
    """A trained network in use; see `benchmark.load`.

    Several threads may use it; their images pass one after the other.

    Args:
        record: of its run.
        task: what it is for.
        segmenter: in eval mode, on its device.
        scale: factor by which it sees an image of a height and a width resized.
        delta_sha256: hash of the file of the trained tensors.
        casts: of its weights to bf16 that are there already, by their address.

    Attributes:
        record: of its run: scores, costs and where they came from.
        task: classes, channels and resize.
        classes: names; a mask holds their indices.
        palette: (256, 3) uint8, RGB of each class index; void is light grey.
        backbone_name: as timm, or the weights file, has it.
        delta_sha256: hash of the file of the trained tensors.
        segmenter: backbone and decoder.
        model: `segmenter` with logits at the size of the images; see `Network`.
    """

    def __init__(
        self,
        record: Record,
        task: Task,
        segmenter: Segmenter,
        scale: Callable[[int, int], float],
        delta_sha256: str,
        casts: Mapping[int, Tensor] | None = None,
    ) -> None:
        self.record, self.task, self.segmenter = record, task, segmenter
        self.classes = task.classes
        self.palette = palette_of(task, record.benchmark)
        self.backbone_name, self.delta_sha256 = record.backbone, delta_sha256
        self.model = Network(segmenter).eval()
        self.protocol = Protocol.model_validate(record.protocol)
        self.precision = record.provenance.precision
        self.scale = scale
        # A pass keeps what methods hand on inside of it, so two must not mix.
        self._lock = threading.Lock()
        self._casts = ExitStack()
        with torch.no_grad():
            self._casts.enter_context(cast_frozen(segmenter, self.precision, casts))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.segmenter.parameters()).device

    def read(self, image: Given) -> np.ndarray:
        """An image (H, W, C) uint8 as `predict` takes it: upright, in the channels of the task.

        Raises:
            DataError: it is no image, or cannot be read.
        """
        return image_of(image, self.task)

    def predict(self, image: Given, probabilities: bool = False) -> np.ndarray:
        """The class of every pixel.

        Args:
            image: a path; a Pillow image; or an array (H, W, 3), (H, W) or (H, W, 4) of uint8 or
                uint16. Transparency is left out. Large images pass by overlapping windows.
            probabilities: return those of all classes instead.

        Returns:
            (H, W) uint8 class indices; or (K, H, W) float32 that sum to 1 over the classes.

        Raises:
            DataError: it is no image, or cannot be read.
        """
        return self.predict_array(self.read(image), probabilities)

    def predict_array(self, image: np.ndarray, probabilities: bool = False) -> np.ndarray:
        """`predict` of what `read` returned."""
        limit = limit_on(self.device, self.protocol)
        with self._lock:
            (coarse,) = coarse_of(
                self.segmenter, self.scale, [image], self.protocol, self.precision, limit
            )
        return self.labels(coarse, image.shape[:2], probabilities)

    def labels(
        self, coarse: Tensor, shape: tuple[int, int], probabilities: bool = False
    ) -> np.ndarray:
        """What `predict` returns, of the coarse logits (K, h, w) of an image.

        Args:
            coarse: of the padded network input.
            shape: height and width of the image.
            probabilities: see `predict`.
        """
        size, padded = input_sizes(self.segmenter, self.scale, shape)
        # Transposed, as the strips are: see `label_strips`.
        if probabilities:
            out = np.empty((len(self.classes), shape[1], shape[0]), np.float32)
        else:
            out = np.empty((shape[1], shape[0]), np.uint8)
        with torch.inference_mode():
            for columns, logits in label_strips(coarse, padded, size, shape):
                found = logits.softmax(0) if probabilities else best_class(logits)[0]
                out[..., columns, :] = found.cpu().numpy()
        return np.ascontiguousarray(out.swapaxes(-1, -2))

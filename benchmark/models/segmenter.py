"""Backbone and decoder as one module, and which of its parts are in training mode."""

import torch
import torch.profiler
from torch import Tensor, nn

from benchmark.core.errors import UserError
from benchmark.data.batches import Prefix
from benchmark.models.backbone import StagedBackbone
from benchmark.models.normalise import Normalise
from benchmark.models.prefix import go_on

phase = torch.profiler.record_function
"""Names a part of a step for a profiler; costs microseconds where none listens."""


class Segmenter(nn.Module):
    """`decoder(backbone(images))`.

    `train()` puts inserted modules, what peft added and the decoder in training mode, but a module
    of the pretrained backbone only if everything in the module that holds it is trained, as in full
    tuning: elsewhere the statistics of a BatchNorm would drift away from the frozen layers that it
    was made for, and dropout and stochastic depth would differ by method.
    """

    def __init__(self, backbone: StagedBackbone, decoder: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder
        self.normalise = Normalise(backbone.mean, backbone.std)

    def forward(self, images: Tensor | Prefix) -> Tensor:
        """Coarse logits.

        Args:
            images: (N, C, H, W), uint8, or normalised with the backbone's mean and std; or what
                they became in the frozen beginning of the backbone.

        Returns:
            (N, K, H / stride, W / stride) with the stride of the finest level.

        Raises:
            UserError: a BatchNorm in training gets one value a channel, which has no variance.

        """
        try:
            return self._forward(images)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise UserError(
                "a BatchNorm that is trained gets one position of one image, which has no "
                "variance; use --set batch_size=2 or more, or a larger crop"
            ) from error

    def _forward(self, images: Tensor | Prefix) -> Tensor:
        with phase("backbone"):
            if isinstance(images, Prefix):
                features = go_on(self.backbone, images)
            else:
                in_bytes = images.dtype == torch.uint8
                features = self.backbone(self.normalise(images) if in_bytes else images)
        with phase("decoder"):
            return self.decoder(features)

    def train(self, mode: bool = True) -> "Segmenter":
        """Evaluation mode as usual; training mode only for what is trained."""
        super().train(mode)
        if mode:
            pretrained = self.backbone.pretrained_modules
            modules = dict(self.backbone.model.named_modules())
            for name, module in modules.items():
                if module in pretrained:
                    own = any(p.requires_grad for p in module.parameters(recurse=False))
                    holder = modules[name.rpartition(".")[0]]
                    module.training = own and all(p.requires_grad for p in holder.parameters())
        return self

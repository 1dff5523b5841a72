"""Backbone and decoder as one module, and which of its parts are in training mode."""

from torch import Tensor, nn

from benchmark.models.backbone import StagedBackbone


class Segmenter(nn.Module):
    """`decoder(backbone(images))`.

    `train()` puts inserted modules, what peft added and the decoder in training mode, but a module
    of the pretrained backbone only if one of its own parameters is trained: a frozen BatchNorm
    would otherwise drift, and dropout and stochastic depth would differ by method.
    """

    def __init__(self, backbone: StagedBackbone, decoder: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder

    def forward(self, images: Tensor) -> Tensor:
        """Coarse logits.

        Args:
            images: (N, 3, H, W), normalised with the backbone's mean and std.

        Returns:
            (N, K, H / stride, W / stride) with the stride of the finest level.

        """
        return self.decoder(self.backbone(images))

    def train(self, mode: bool = True) -> "Segmenter":
        """Evaluation mode as usual; training mode only for what is trained."""
        super().train(mode)
        if mode:
            pretrained = self.backbone.pretrained_modules
            for module in self.backbone.model.modules():
                if module in pretrained:
                    own = module.parameters(recurse=False)
                    module.training = any(p.requires_grad for p in own)
        return self

"""Low-rank updates of frozen weights, through peft."""

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

from methods.base import Backbone, Method, Role, Unsupported, register

Targets = Literal["all", "attention", "mlp", "qkv", "conv"]

_ROLES: dict[str, tuple[Role, ...]] = {
    "attention": ("qkv", "proj"),
    "mlp": ("fc1", "fc2"),
    "qkv": ("qkv",),
    "conv": ("conv",),
}


@register("lora")
@dataclass(frozen=True, kw_only=True)
class LoRA(Method):
    """Adds a low-rank update to the weights of chosen layers:

        y = W x + (alpha / r) B A x,    A (r, in): Kaiming,  B (out, r): zero

    On a k x k convolution A is a k x k convolution to r channels and B a 1x1 convolution. timm
    fuses query, key and value in one layer, so `qkv` has one shared A (r, D) and B (3D, r).

    Parameters: r (in + out) per linear layer, r (k k in + out) per convolution; `qkv` alone with
    r = 8 on ViT-B: 294,912.

    Attributes:
        rank: r.
        alpha: numerator of the scale.
        targets: `all` = qkv, proj, fc1, fc2 on transformers; dense convolutions behind the stem
            and fc1, fc2 on CNNs. `attention` = qkv, proj. `mlp` = fc1, fc2. `qkv`. `conv`.
        lr: learning rate of A and B.

    """

    mergeable: ClassVar[bool] = True
    reference: ClassVar[str] = "Hu et al., LoRA, ICLR 2022, arXiv 2106.09685"

    rank: int = 8
    alpha: int = 16
    targets: Targets = "all"
    lr: float = 3e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("rank", self.rank >= 1, "an integer of at least 1")
        self._require("alpha", self.alpha >= 1, "an integer of at least 1")

    def apply(self, backbone: Backbone, num_classes: int) -> None:
        """Wraps the target layers in peft's."""
        from peft import LoraConfig, inject_adapter_in_model

        names = self._names(backbone)
        config = LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules=names, bias="none")
        with warnings.catch_warnings():
            # peft wonders about a model that is not a Hugging Face one; ours never is.
            warnings.filterwarnings("ignore", module=r"peft\..*")
            inject_adapter_in_model(config, cast(Any, backbone.model))
        wrapped = [n for n, m in backbone.model.named_modules() if hasattr(m, "lora_A")]
        if sorted(wrapped) != sorted(names):
            raise RuntimeError(f"peft wrapped {len(wrapped)} layers instead of {len(names)}")

    def merge(self, backbone: Backbone) -> None:
        """W <- W + (alpha / r) B A, and the timm layers are back in place."""
        for name, module in list(backbone.model.named_modules()):
            if hasattr(module, "lora_A"):
                layer = cast(Any, module)
                layer.merge(safe_merge=True)
                parent, _, leaf = name.rpartition(".")
                setattr(backbone.model.get_submodule(parent), leaf, layer.get_base_layer())

    def _names(self, backbone: Backbone) -> list[str]:
        if self.targets != "all":
            roles = _ROLES[self.targets]
        elif backbone.kind == "cnn":
            roles = ("conv", "fc1", "fc2")
        else:
            roles = ("qkv", "proj", "fc1", "fc2")
        names = list(dict.fromkeys(name for role in roles for name in backbone.names(role)))
        if not names:
            raise Unsupported(
                f"{self.name}: {type(backbone.model).__name__} has no layers for "
                f"targets={self.targets} ({', '.join(roles)})"
            )
        return names

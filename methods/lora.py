"""Low-rank updates of frozen weights, through peft."""

import contextlib
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from methods.base import Backbone, Method, Role, Unsupported, register
from methods.lowrank import low_rank_linear

Targets = Literal["all", "attention", "mlp", "qkv", "conv"]

_ROLES: dict[str, tuple[Role, ...]] = {
    "attention": ("qkv", "proj"),
    "mlp": ("fc1", "fc2"),
    "qkv": ("qkv",),
    "conv": ("conv",),
    "norm": ("norm",),
}


@register("lora")
@dataclass(frozen=True, kw_only=True)
class LoRA(Method):
    """Trains low-rank updates of chosen weights.

    Adds a low-rank update to the weights of chosen layers:

        y = W x + (alpha / r) B A x,    A (r, in): Kaiming,  B (out, r): zero

    On a k x k convolution A is a k x k convolution to r channels and B a 1x1 convolution. timm
    fuses query, key and value in one layer, so `qkv` has one shared A (r, D) and B (3D, r).

    Function, gradients and merge agree with peft and loralib. The product is our own: in training
    W + s B A is summed in full precision, rounded once, and multiplied once (`methods.lowrank`).

    Parameters: r (in + out) per linear layer, r (k k in + out) per convolution; `qkv` alone with
    r = 8 on ViT-B: 294,912.

    Attributes:
        rank: r.
        alpha: numerator of the scale.
        targets: `all` = qkv, proj, fc1, fc2 on transformers; dense convolutions after the stem
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

    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        """Wraps the target layers in peft's."""
        from peft import LoraConfig, inject_adapter_in_model

        names = target_names(self, backbone)
        refuse_large_rank(self, "rank", backbone, names)
        config = LoraConfig(
            r=self.rank, lora_alpha=self.alpha, target_modules=pattern(names), bias="none"
        )
        with quiet():
            inject_adapter_in_model(config, cast(Any, backbone.model))
        require_wrapped(backbone, names)
        for name in names:
            if isinstance(getattr(backbone.model.get_submodule(name), "base_layer"), nn.Linear):
                backbone.around(name, partial(_trained, backbone.model.get_submodule(name)))

    def merge(self, backbone: Backbone) -> None:
        """W <- W + (alpha / r) B A, and the timm layers are back in place."""
        merge_wrapped(backbone)


def _trained(layer: Any, forward: Callable[..., Tensor], x: Tensor) -> Tensor:
    """What peft's layer computes; while it is trained, with fewer products."""
    base = layer.base_layer
    same = x.dtype == base.weight.dtype or torch.is_autocast_enabled(x.device.type)
    if not (torch.is_grad_enabled() and same):
        return forward(x)
    (adapter,) = layer.active_adapters
    down, up = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    return low_rank_linear(x, base.weight, base.bias, down, up, layer.scaling[adapter])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without peft's warnings: about models that are not Hugging Face ones, and about seeds."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"peft\..*")
        yield


def pattern(names: Iterable[str]) -> str:
    """An expression that matches exactly these names; one that matches none where there are none.

    Given a list, peft would match the ends of names.
    """
    return "|".join(map(re.escape, names)) or "-"


def wrapped_layers(backbone: Backbone) -> dict[str, Any]:
    """Name -> layer of peft."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {n: m for n, m in backbone.model.named_modules() if isinstance(m, BaseTunerLayer)}


def require_wrapped(backbone: Backbone, names: Iterable[str]) -> None:
    """Raises RuntimeError unless peft wrapped exactly these layers."""
    found, wanted = sorted(wrapped_layers(backbone)), sorted(names)
    if found != wanted:
        raise RuntimeError(f"peft wrapped {len(found)} layers instead of {len(wanted)}")


def merge_wrapped(backbone: Backbone) -> None:
    """Folds every layer of peft into its weights and puts the timm layer back in place."""
    for name, layer in wrapped_layers(backbone).items():
        layer.merge(safe_merge=True)
        parent, _, leaf = name.rpartition(".")
        setattr(backbone.model.get_submodule(parent), leaf, layer.get_base_layer())


def target_names(method: Method, backbone: Backbone) -> list[str]:
    """Names of the layers that `method.targets` means on a backbone, in forward order.

    Raises:
        Unsupported: there are none.

    """
    targets: str = getattr(method, "targets")
    if targets != "all":
        roles = _ROLES[targets]
    elif backbone.kind == "cnn":
        roles = ("conv", "fc1", "fc2")
    else:
        roles = ("qkv", "proj", "fc1", "fc2")
    names = list(dict.fromkeys(name for role in roles for name in backbone.names(role)))
    if not names:
        raise Unsupported(
            f"{method.name}: {type(backbone.model).__name__} has no layers for "
            f"targets={targets} ({', '.join(roles)})"
        )
    return names


def refuse_large_rank(method: Method, field: str, backbone: Backbone, names: list[str]) -> None:
    """Refuses a rank above the smaller side of the weight of a layer.

    A k x k convolution is a matrix of out rows and k k in / groups columns.

    Raises:
        ValueError: it names the field, the layer and the largest rank.

    """
    weights = {name: cast(Tensor, backbone.model.get_submodule(name).weight) for name in names}
    largest = {name: min(w.shape[0], w[0].numel()) for name, w in weights.items()}
    tightest = min(names, key=lambda name: largest[name])
    rank: int = getattr(method, field)
    if rank > largest[tightest]:
        raise ValueError(
            f"{method.name}: {field} must be at most {largest[tightest]} (layer {tightest}), "
            f"not {rank}"
        )

"""Low-rank updates of frozen weights, through peft."""

import contextlib
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import (
    is_parametrized,
    register_parametrization,
    remove_parametrizations,
)

from methods.base import Backbone, Method, Role, Unsupported, register
from methods.fit import is_default, require_foldable
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

    A layer whose weight has fewer rows or columns than r (squeeze-and-excitation of a small CNN)
    has that many in place of r, which is every update there is, and keeps the scale. So the default
    acts everywhere; another r that is too large for a layer is refused.

    Parameters: r (in + out) per linear layer, r (k k in + out) per convolution; `qkv` alone with
    r = 8 on ViT-B: 294,912.

    Attributes:
        rank: r.
        alpha: numerator of the scale.
        targets: `all` = qkv, proj, fc1, fc2, on CNNs also the dense convolutions after the stem.
            `attention` = qkv, proj. `mlp` = fc1, fc2. `qkv`. `conv`. Here qkv stands for separate
            layers of queries, keys and values (or gates), too, and fc1 for both of a gated MLP.
        lr: learning rate of A and B.

    """

    mergeable: ClassVar[bool] = True
    reference: ClassVar[str] = "Hu et al., LoRA, ICLR 2022, arXiv 2106.09685"
    tunes: ClassVar[dict[str, tuple[int, ...]]] = {"rank": (2, 4, 8, 16)}

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
        uncalled = uncalled_layers(self, backbone)
        names = [*target_names(self, backbone, uncalled), *uncalled]
        ranks = smaller_ranks(self, "rank", backbone, names)
        bare = [
            name
            for name in names
            if name in uncalled or not is_plain(backbone.model.get_submodule(name))
        ]
        if wrapped := [name for name in names if name not in bare]:
            self._wrap(backbone, wrapped, ranks)
        # After peft, which freezes whatever it did not put in.
        for name in bare:
            bare_layer = backbone.model.get_submodule(name)
            rank, scale = ranks.get(name, self.rank), self.alpha / self.rank
            update = LowRankUpdate(cast(Tensor, bare_layer.weight), rank, scale)
            register_parametrization(bare_layer, "weight", update)

    def _wrap(self, backbone: Backbone, names: list[str], ranks: Mapping[str, int]) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules=pattern(names),
            rank_pattern=by_name(ranks),
            alpha_pattern=by_name({name: self.alpha * r / self.rank for name, r in ranks.items()}),
            bias="none",
        )
        with quiet():
            inject_adapter_in_model(config, cast(Any, backbone.model))
        require_wrapped(backbone, names)
        for name in names:
            layer = backbone.model.get_submodule(name)
            if isinstance(getattr(layer, "base_layer"), nn.Linear):
                backbone.around(name, partial(_trained, layer))
            elif _is_pointwise(getattr(layer, "base_layer")):
                backbone.around(name, partial(_trained_pointwise, layer))

    def merge(self, backbone: Backbone) -> None:
        """W <- W + (alpha / r) B A, and the timm layers are back in place."""
        merge_wrapped(backbone)
        for module in list(backbone.model.modules()):
            if is_parametrized(module, "weight"):
                remove_parametrizations(module, "weight", leave_parametrized=True)


class LowRankUpdate(nn.Module):
    """W to W + s B A, where a wrapper around the layer would not do.

    Attention with separate biases of queries and values (BEiT, EVA, Swin V2) multiplies with the
    weight of `qkv` itself, so a wrapper around that layer would never run. Beside a convolution
    that is dilated, pads as it goes or standardises its weight, peft computes A in another way.

    Args:
        weight: W (out, in), or of a convolution (out, in, k, k).
        rank: r.
        scale: s.

    """

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        self.r, self.scale = rank, scale
        self.lora_A = nn.Parameter(weight.new_empty(rank, weight[0].numel()))
        self.lora_B = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
        nn.init.kaiming_uniform_(self.lora_A, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        """The same shape, in the type of W."""
        matrix = weight.flatten(1)
        with torch.autocast(weight.device.type, enabled=False):
            update = torch.addmm(matrix, self.lora_B, self.lora_A, alpha=self.scale)
        return update.view_as(weight)


def is_plain(layer: nn.Module) -> bool:
    """Whether peft's convolutions beside a layer see what the layer sees."""
    if not isinstance(layer, nn.Conv2d):
        return True
    return type(layer) is nn.Conv2d and set(layer.dilation) == {1}


def _trained(layer: Any, forward: Callable[..., Tensor], x: Tensor) -> Tensor:
    """What peft's layer computes; while it is trained, with fewer products."""
    base = layer.base_layer
    same = x.dtype == base.weight.dtype or torch.is_autocast_enabled(x.device.type)
    if not (torch.is_grad_enabled() and same):
        return forward(x)
    (adapter,) = layer.active_adapters
    down, up = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    return low_rank_linear(x, base.weight, base.bias, down, up, layer.scaling[adapter])


def _is_pointwise(layer: nn.Module) -> bool:
    plain = type(layer) is nn.Conv2d and layer.groups == 1
    return plain and layer.kernel_size == (1, 1) and layer.padding == (0, 0)


def _trained_pointwise(layer: Any, forward: Callable[..., Tensor], x: Tensor) -> Tensor:
    """As `_trained`, for a convolution that is a linear layer at each position.

    On a processor, convolutions to and from r channels take as long as that of the layer.
    """
    base = layer.base_layer
    same = x.dtype == base.weight.dtype or torch.is_autocast_enabled(x.device.type)
    if not (torch.is_grad_enabled() and same):
        return forward(x)
    (adapter,) = layer.active_adapters
    weight, down, up = (
        one.weight.flatten(1) for one in (base, layer.lora_A[adapter], layer.lora_B[adapter])
    )
    rows, columns = base.stride
    taken = (x if rows == columns == 1 else x[..., ::rows, ::columns]).movedim(1, -1)
    # One axis of positions: the result is no view, and what follows may work on it in place.
    positions = taken.flatten(0, -2)
    y = low_rank_linear(positions, weight, base.bias, down, up, layer.scaling[adapter])
    return y.unflatten(0, taken.shape[:-1]).movedim(-1, 1)


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


def by_name(values: Mapping[str, float]) -> dict[str, Any]:
    """Values by layer as peft wants them: by patterns that match these names alone."""
    return {f"^{re.escape(name)}": value for name, value in values.items()}


def merge_wrapped(backbone: Backbone) -> None:
    """Folds every layer of peft into its weights and puts the timm layer back in place.

    Raises:
        Unsupported: nothing can be folded into a layer.

    """
    for name, layer in wrapped_layers(backbone).items():
        require_foldable(name, layer.get_base_layer())
        layer.merge(safe_merge=True)
        parent, _, leaf = name.rpartition(".")
        setattr(backbone.model.get_submodule(parent), leaf, layer.get_base_layer())


def uncalled_layers(method: Method, backbone: Backbone) -> list[str]:
    """Names of `qkv` layers among the targets of which a pass uses the weight without a call."""
    if getattr(method, "targets") not in ("all", "attention", "qkv"):
        return []
    called = set(backbone.names("qkv"))
    names = [f"{attention}.qkv" for attention in backbone.names("attention")]
    modules = dict(backbone.model.named_modules())
    return [n for n in names if n not in called and isinstance(modules.get(n), nn.Linear)]


def target_names(method: Method, backbone: Backbone, others: Sequence[str] = ()) -> list[str]:
    """Names of the layers that `method.targets` means on a backbone, in forward order.

    Args:
        method: with a field `targets`.
        backbone: that it is applied to.
        others: layers that the method adapts in another way.

    Raises:
        Unsupported: there are none.

    """
    targets: str = getattr(method, "targets")
    if targets != "all":
        roles = _ROLES[targets]
    elif backbone.kind == "cnn":
        roles = ("conv", "fc1", "fc2", "qkv", "proj")
    else:
        roles = ("qkv", "proj", "fc1", "fc2")
    names = list(dict.fromkeys(name for role in roles for name in backbone.names(role)))
    if not names and not others:
        raise Unsupported(
            f"{method.name}: {type(backbone.model).__name__} has no layers for "
            f"targets={targets} ({', '.join(roles)})"
        )
    return names


def smaller_ranks(
    method: Method, field: str, backbone: Backbone, names: list[str]
) -> dict[str, int]:
    """The largest rank of each layer whose weight has fewer rows or columns than a default rank.

    A k x k convolution is a matrix of out rows and k k in / groups columns.

    Raises:
        ValueError: the rank is too large and not the default; it names the field, the layer and the
            largest rank.

    """
    weights = {name: cast(Tensor, backbone.model.get_submodule(name).weight) for name in names}
    largest = {name: min(w.shape[0], w[0].numel()) for name, w in weights.items()}
    tightest = min(names, key=lambda name: largest[name])
    rank: int = getattr(method, field)
    if rank > largest[tightest] and not is_default(method, field):
        raise ValueError(
            f"{method.name}: {field} must be at most {largest[tightest]} (layer {tightest}), "
            f"not {rank}"
        )
    return {name: most for name, most in largest.items() if most < rank}

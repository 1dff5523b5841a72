"""Facts about peft's tuners that peft's own classes do not give."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from methods.base import ALL_KINDS, Kind, Unsupported
from methods.lora import Targets, pattern

Layers = dict[str, tuple[int, int]]
"""Name of a layer -> rows and columns of its weight; a k x k convolution has k k in columns."""

LEFT_OUT = {
    "poly": "needs the number of the task at every call",
    "shadow": "puts a small language model beside a large one",
    "trainable_tokens": "tunes rows of an embedding",
    "xlora": "mixes adapters that were trained before",
}

_TRANSFORMERS: frozenset[Kind] = frozenset(("plain", "hierarchical"))
"""For tuners of linear layers that fail on maps (N, H, W, C), as the MLP of ConvNeXt has them."""


def _common_divisor(name: str) -> Callable[[Any, Layers], dict[str, Any]]:
    """In place of the field the largest number up to it that divides the sides of all layers."""

    def fit(method: Any, layers: Layers) -> dict[str, Any]:
        common = math.gcd(*(side for sides in layers.values() for side in sides))
        best = max(d for d in range(1, getattr(method, name) + 1) if common % d == 0)
        if best == 1:
            raise Unsupported(f"{method.name}: no {name} above 1 divides the sides of all layers")
        return {name: best}

    return fit


def _at_most_all(name: str) -> Callable[[Any, Layers], dict[str, Any]]:
    """The field, but not more than the smallest layer has weights."""

    def fit(method: Any, layers: Layers) -> dict[str, Any]:
        return {name: min(getattr(method, name), *(rows * cols for rows, cols in layers.values()))}

    return fit


def _feedforward(_: Any, layers: Layers) -> dict[str, Any]:
    return {"feedforward_modules": pattern(n for n in layers if n.endswith("fc2"))}


@dataclass(frozen=True)
class Facts:
    """What peft's configuration and layer classes do not say about a tuner.

    Attributes:
        reference: paper.
        tuner: peft's name of the tuner that this is a setting of; empty = one of its own.
        fixed: settings that are no fields.
        defaults: fields with another default than peft's.
        fit: settings that depend on the layers.
        rank: field that is at most the smaller side of every layer; empty = none.
        identity: the first forward pass equals the frozen backbone's.
        mergeable: False where peft has a `merge` that does not work.
        layers: classes of layers that it tunes; empty = linear ones, and convolutions where peft
            has a layer class for these.
        targets: type of the field `targets`.
        supports: kinds of backbone that it can act on.
        needs_bias: it tunes layers with a bias only.
        count: parameters by (method, name of the layer, rows, columns).

    """

    reference: str = ""
    tuner: str = ""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fit: Callable[[Any, Layers], dict[str, Any]] = lambda method, layers: {}
    rank: str = "r"
    identity: bool = True
    mergeable: bool = True
    layers: tuple[type[nn.Module], ...] = ()
    targets: Any = Targets
    supports: frozenset[Kind] = ALL_KINDS
    needs_bias: bool = False
    count: Callable[[Any, str, int, int], int] | None = None


def _low_rank(m: Any, name: str, rows: int, cols: int) -> int:
    return m.r * (rows + cols)


FACTS: dict[str, Facts] = {
    "lora": Facts("Hu et al., LoRA, ICLR 2022, arXiv 2106.09685", count=_low_rank),
    "dora": Facts(
        "Liu et al., DoRA, ICML 2024, arXiv 2402.09353",
        tuner="lora",
        fixed={"use_dora": True},
        count=lambda m, name, rows, cols: m.r * (rows + cols) + rows,
    ),
    "rslora": Facts(
        "Kalajdzievski, A rank stabilization scaling factor, arXiv 2312.03732",
        tuner="lora",
        fixed={"use_rslora": True},
        count=_low_rank,
    ),
    # The next two move part of the frozen weights into A and B: the delta of a task then holds
    # those weights too.
    "pissa": Facts(
        "Meng et al., PiSSA, NeurIPS 2024, arXiv 2404.02948",
        tuner="lora",
        fixed={"init_lora_weights": "pissa"},
        layers=(nn.Linear,),
        count=_low_rank,
    ),
    "olora": Facts(
        "Büyükakyüz, OLoRA, arXiv 2406.01775",
        tuner="lora",
        fixed={"init_lora_weights": "olora"},
        layers=(nn.Linear,),
        count=_low_rank,
    ),
    "orthogonal": Facts(
        tuner="lora",
        fixed={"init_lora_weights": "orthogonal"},
        layers=(nn.Linear,),
        count=_low_rank,
    ),
    "adalora": Facts(
        "Zhang et al., AdaLoRA, ICLR 2023, arXiv 2303.10512",
        # The paper starts from 1.5 times the final budget.
        defaults={"init_r": 6, "target_r": 4},
        # peft wants a number of steps now; `after_step` gives the true one.
        fixed={"total_step": 10**9, "r": 8},
        rank="init_r",
        count=lambda m, name, rows, cols: m.init_r * (rows + cols + 1),
    ),
    # peft's rank is for layers of language models, four times as wide.
    "adamss": Facts(defaults={"r": 16}),
    "beft": Facts(needs_bias=True, count=lambda m, name, rows, cols: rows),
    "boft": Facts(
        "Liu et al., BOFT, ICLR 2024, arXiv 2311.06243",
        fixed={"boft_block_num": 0},
        fit=_common_divisor("boft_block_size"),
    ),
    "bone": Facts("Kang and Yin, Bone, arXiv 2409.15371", defaults={"r": 8}),
    "c3a": Facts(
        "Chen et al., C3A, arXiv 2407.19342", fit=_common_divisor("block_size"), identity=False
    ),
    "delora": Facts(
        "Bini et al., DeLoRA, ICLR 2025, arXiv 2503.18225",
        count=lambda m, name, rows, cols: m.r * (rows + cols) + 1,
    ),
    "fourierft": Facts(
        "Gao et al., FourierFT, ICML 2024, arXiv 2405.03003",
        fit=_at_most_all("n_frequency"),
        identity=False,
    ),
    # A layer norm removes a constant added to all channels: it would never learn.
    "glora": Facts("Chavan et al., GLoRA, arXiv 2306.07967", defaults={"config_D_E": "vector"}),
    "gralora": Facts(
        "Jung et al., GraLoRA, arXiv 2505.20355",
        defaults={"r": 8, "alpha": 16},
        supports=_TRANSFORMERS,
    ),
    "hira": Facts("Huang et al., HiRA, ICLR 2025", defaults={"r": 8}, count=_low_rank),
    "hra": Facts(
        "Yuan et al., HRA, NeurIPS 2024, arXiv 2405.17484",
        count=lambda m, name, rows, cols: m.r * cols,
    ),
    "ia3": Facts(
        "Liu et al., IA3, NeurIPS 2022, arXiv 2205.05638",
        fit=_feedforward,
        count=lambda m, name, rows, cols: cols if name.endswith("fc2") else rows,
    ),
    "lily": Facts(defaults={"r": 8}, mergeable=False),
    "ln_tuning": Facts(
        "Zhao et al., Tuning LayerNorm in attention, ICLR 2024, arXiv 2312.11420",
        layers=(nn.LayerNorm, nn.GroupNorm),
        targets=Literal["norm"],
    ),
    "loha": Facts(
        "Hyeon-Woo et al., FedPara, ICLR 2022, arXiv 2108.06098",
        fixed={"use_effective_conv2d": False},
        count=lambda m, name, rows, cols: 2 * m.r * (rows + cols),
    ),
    "lokr": Facts("Yeh et al., LyCORIS, ICLR 2024, arXiv 2309.14859"),
    "miss": Facts(
        "Kang and Yin, MiSS, arXiv 2409.15371",
        defaults={"r": 8},
        fixed={"mini_r": 1},
        count=lambda m, name, rows, cols: m.r * rows,
    ),
    "frod": Facts(supports=frozenset(("plain",))),  # One basis for all layers of a name.
    # On a convolution peft rotates patches that it cuts without padding: too small a map fails.
    "oft": Facts(
        "Qiu et al., OFT, NeurIPS 2023, arXiv 2306.07280",
        fixed={"r": 0},
        fit=_common_divisor("oft_block_size"),
        layers=(nn.Linear,),
        supports=_TRANSFORMERS,
    ),
    "osf": Facts("Nayak et al., Sculpting subspaces, arXiv 2504.07097"),
    "peanut": Facts(defaults={"r": 8}),
    "psoft": Facts(defaults={"r": 8, "psoft_alpha": 8}),
    "pvera": Facts(rank=""),
    "randlora": Facts("Albert et al., RandLoRA, ICLR 2025, arXiv 2502.00987", rank=""),
    "road": Facts(
        "Liao and Monz, 3-in-1: 2D rotary adaptation, NeurIPS 2024, arXiv 2409.00119",
        fit=_common_divisor("group_size"),
    ),
    "shira": Facts(
        "Bhardwaj et al., SHiRA, NeurIPS 2024, arXiv 2406.13175",
        fixed={"random_seed": 0},
        defaults={"r": 8},
        count=_low_rank,
    ),
    "supertuning": Facts(fixed={"lora_dropout": 0.0}),
    "unilora": Facts(identity=False),
    "vblora": Facts(
        "Li et al., VB-LoRA, NeurIPS 2024, arXiv 2405.15179",
        fit=_common_divisor("vector_length"),
        identity=False,
    ),
    "vera": Facts(
        "Kopiczko et al., VeRA, ICLR 2024, arXiv 2310.11454",
        rank="",
        count=lambda m, name, rows, cols: m.r + rows,
    ),
    "waveft": Facts(fit=_at_most_all("n_frequency")),
}

"""FacT: one factorised update for all layers of a width."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from methods.base import Backbone, Method, Unsupported, register
from methods.fit import require_fit


class Factors(nn.Module):
    """The factors that all matrices of one width share, and the core of each.

    Args:
        width: D.
        rank: r.
        slots: D x D matrices S that share them.
        tucker: cores as C x_1 P instead of free ones.

    """

    def __init__(self, width: int, rank: int, slots: int, tucker: bool) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.empty(width, rank))
        self.v = nn.Parameter(torch.zeros(width, rank))
        nn.init.xavier_uniform_(self.u)
        self.tucker = tucker
        self.core = nn.Parameter(torch.empty(rank if tucker else slots, rank, rank))
        if tucker:
            self.p = nn.Parameter(torch.empty(slots, rank))
            nn.init.xavier_uniform_(self.core)
            nn.init.xavier_uniform_(self.p)
        else:
            # Each core by itself, as a linear layer of r inputs: a draw for the whole tensor would
            # start smaller in deeper models.
            nn.init.uniform_(self.core, -(rank**-0.5), rank**-0.5)

    def cores(self, first: int, count: int) -> Tensor:
        """(count, r, r) of the slots from `first` on."""
        if self.tucker:
            return torch.einsum("sp,pij->sij", self.p[first : first + count], self.core)
        return self.core[first : first + count]


@register("fact")
@dataclass(frozen=True, kw_only=True)
class FacT(Method):
    """Trains one factorised update shared by all layers.

    Stacks all D x D matrices of a transformer in one tensor and learns a factorised update:

        tt    dW_k = s U S_k V^T            U, V (D, r) shared; S_k (r, r) per matrix k
        tk    dW_k = s U (C x_1 P_k) V^T    C (r, r, r) and U, V shared; P_k (r) per matrix

    qkv is three such matrices, proj one, fc1 and fc2 as many as the MLP is wider than D. Models
    with several widths (Swin, ConvNeXt) have one set of factors for each. V starts at zero. As
    y = W x, an update acts as x -> V S^T U^T x on each D x D part.

    Departures from the published code: dropout 0.1 is left out; tt's cores all start as linear
    layers of r inputs (there the four of fc2 are one layer of 4 r inputs, and start half as wide);
    U is drawn in another way, and the published reshape that mixes tk's cores of fc1 and fc2 is
    not copied.

    Parameters per width with K matrices: 2 D r + K r^2 (tt), 2 D r + r^3 + K r (tk); ViT-B with
    r = 16: tt 61,440, tk 30,976.

    Attributes:
        form: `tt` (tensor train) or `tk` (Tucker).
        rank: r, at most the smallest D.
        scale: s.
        lr: learning rate of the factors.

    """

    mergeable: ClassVar[bool] = True
    reference: ClassVar[str] = "Jie and Deng, FacT, AAAI 2023, arXiv 2212.03145"
    tunes: ClassVar[dict[str, tuple[int | float, ...]]] = {
        "rank": (8, 16, 32),
        "scale": (0.1, 0.3, 1.0, 3.0, 10.0),
    }

    form: Literal["tt", "tk"] = "tt"
    rank: int = 16
    scale: float = 1.0
    lr: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("rank", self.rank >= 1, "an integer of at least 1")
        self._require("scale", self.scale > 0, "greater than 0")

    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        """Inserts the factors of each width and adds the updates to the layers."""
        widths = self._widths(backbone)
        for width, layers in widths.items():
            slots = sum(_slots(layer, width) for _, layer in layers)
            factors = Factors(width, self.rank, slots, tucker=self.form == "tk")
            backbone.insert(f"factors_{width}", factors)
            for name, layer, first in _with_first_slot(layers, width):
                self._add(backbone, name, layer, factors, first)

    def count(self, backbone: Backbone, num_classes: int) -> int:
        """Sum of the docstring's terms over the widths."""
        r, total = self.rank, 0
        for width, layers in self._widths(backbone).items():
            slots = sum(_slots(layer, width) for _, layer in layers)
            cores = slots * r * r if self.form == "tt" else r**3 + slots * r
            total += 2 * width * r + cores
        return total

    @torch.no_grad()
    def merge(self, backbone: Backbone) -> None:
        """W <- W + dW."""
        for width, layers in self._widths(backbone).items():
            factors = cast(Factors, backbone.inserted[f"factors_{width}"])
            for _, layer, first in _with_first_slot(layers, width):
                eye = torch.eye(layer.in_features, dtype=factors.u.dtype, device=factors.u.device)
                layer.weight.add_(self._update(eye, layer, factors, first).T)
        backbone.release()

    def _add(
        self, backbone: Backbone, name: str, layer: nn.Linear, factors: Factors, first: int
    ) -> None:
        backbone.after(name, lambda x, y: y + self._update(x, layer, factors, first))

    def _update(self, x: Tensor, layer: nn.Linear, factors: Factors, first: int) -> Tensor:
        """(..., in) to (..., out): the sum over the D x D parts of the layer."""
        width = factors.u.shape[0]
        ins, outs = layer.in_features // width, layer.out_features // width
        cores = factors.cores(first, ins * outs).unflatten(0, (outs, ins))
        z = x.unflatten(-1, (ins, width)) @ factors.u
        z = torch.einsum("...ir,oirs->...os", z, cores)
        return self.scale * (z @ factors.v.T).flatten(-2)

    def _widths(self, backbone: Backbone) -> dict[int, list[tuple[str, nn.Linear]]]:
        """The linear layers by the width D that they are multiples of."""
        found: dict[int, list[tuple[str, nn.Linear]]] = {}
        for block in (name for stage in backbone.stage_blocks() for name in stage):
            width = backbone.width(block)
            for role in ("qkv", "proj", "fc1", "fc2"):
                for name in backbone.names(role):
                    layer = backbone.model.get_submodule(name)
                    if name.startswith(f"{block}.") and isinstance(layer, nn.Linear):
                        self._require_fit(name, layer, width)
                        found.setdefault(width, []).append((name, layer))
        if not found:
            raise Unsupported(
                f"{self.name} needs linear attention or MLP layers; "
                f"{type(backbone.model).__name__} has none"
            )
        return found

    def _require_fit(self, name: str, layer: nn.Linear, width: int) -> None:
        if layer.in_features % width or layer.out_features % width:
            raise Unsupported(
                f"{self.name} needs layers that are multiples of the width {width}; {name} is "
                f"{layer.in_features} x {layer.out_features}"
            )
        allowed = f"at most {width}, the width of {name}"
        require_fit(self, "rank", self.rank <= width, allowed)


def _slots(layer: nn.Linear, width: int) -> int:
    return layer.in_features * layer.out_features // width**2


def _with_first_slot(
    layers: list[tuple[str, nn.Linear]], width: int
) -> Iterator[tuple[str, nn.Linear, int]]:
    first = 0
    for name, layer in layers:
        yield name, layer, first
        first += _slots(layer, width)

"""Several segmenters on one frozen backbone, in the memory of one."""

import copy
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from benchmark.models.backbone import StagedBackbone
from benchmark.models.delta import PREFIX, bytes_of, tensors_of, timm_name
from benchmark.models.precision import cast_frozen
from benchmark.models.segmenter import Segmenter

_STATELESS = ("torch.nn.", "timm.layers.norm", "timm.layers.drop", "timm.layers.layer_scale")
"""Modules of these packages keep nothing of a pass, so that several threads may use one."""

_PLAIN = (bool, int, float, str, tuple, type(None), torch.dtype)


class SharedBackbone:
    """A frozen backbone whose tensors, layers and casts any number of segmenters use.

    Args:
        backbone: that no method was applied to; nothing may change it from now on.

    Attributes:
        backbone: the same.
        casts: its weights in bf16 by their address; empty until `cast`.
    """

    def __init__(self, backbone: StagedBackbone) -> None:
        self.backbone = backbone
        self.casts: dict[int, Tensor] = {}
        self._lent = self.twin()
        self._casting = ExitStack()

    def copy(self) -> StagedBackbone:
        """One of its own, to apply a method to."""
        return copy.deepcopy(self.backbone)

    def twin(self) -> Segmenter:
        """Modules of its own with these tensors, in eval mode; its decoder hands features on."""
        made = Segmenter(self.copy(), nn.Identity()).eval().requires_grad_(False)
        _share_tensors(made, self.backbone)
        return made

    @property
    def bytes(self) -> int:
        """Of parameters and buffers, and of casts."""
        return bytes_of(self.backbone) + sum(one.nbytes for one in self.casts.values())

    @torch.no_grad()
    def cast(self) -> None:
        """Keeps the weights in bf16, too, for segmenters that compute in it."""
        if self.casts:
            return
        for layer in self.backbone.model.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                for tensor in layer.parameters(recurse=False):
                    self.casts[tensor.data_ptr()] = tensor.to(torch.bfloat16)
        self._casting.enter_context(cast_frozen(self._lent, "bf16", self.casts))

    @torch.no_grad()
    def lend(self, segmenter: Segmenter) -> int:
        """Makes a segmenter use what is the same here, in place of a copy.

        That is every tensor that is equal bit for bit, and every layer that nothing was attached
        to. What is lent must not be trained afterwards.

        Args:
            segmenter: in eval mode, made from a `copy`, with everything that it was trained to.

        Returns:
            Bytes of parameters and buffers that it keeps as its own.
        """
        own = _share_tensors(segmenter, self.backbone)
        modules = dict(segmenter.backbone.model.named_modules())
        lent = dict(self._lent.backbone.model.named_modules())
        for name, layer in self.backbone.model.named_modules():
            parent, _, last = name.rpartition(".")
            if name in modules and _is_untouched(modules[name], layer):
                modules[parent]._modules[last] = lent[name]
                segmenter.backbone.pretrained_modules.add(lent[name])
        return own


def _share_tensors(segmenter: Segmenter, backbone: StagedBackbone) -> int:
    """Takes a backbone's tensors where a segmenter's are equal; bytes of the others."""
    theirs = dict(tensors_of(backbone.model))
    own = bytes_of(segmenter)
    for name, tensor in tensors_of(segmenter):
        other = theirs.get(timm_name(name)) if name.startswith(PREFIX) else None
        if other is None or other.dtype != tensor.dtype or other.stride() != tensor.stride():
            continue
        if torch.equal(other, tensor):
            tensor.data = other.data
            own -= other.nbytes
    return own


def _is_untouched(layer: nn.Module, original: nn.Module) -> bool:
    """Whether a layer does the same as the one that it is a copy of, with the same tensors."""
    if layer._modules or not type(layer).__module__.startswith(_STATELESS):
        return False
    # Of copies, containers are others; what they hold is the same.
    ours, theirs = _content(layer), _content(original)
    return (
        type(layer) is type(original)
        and ours.keys() == theirs.keys()
        and all(_is_same(value, theirs[name]) for name, value in ours.items())
    )


def _content(layer: nn.Module) -> dict[str, object]:
    """All that a layer holds by name: tensors, hooks and plain attributes."""
    content: dict[str, object] = {}
    for name, value in vars(layer).items():
        if isinstance(value, list):
            value = tuple(value)
        if isinstance(value, dict):
            content |= {f"{name}.{key}": held for key, held in value.items()}
        else:
            content[name] = tuple(sorted(value)) if isinstance(value, set) else value
    return content


def _is_same(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.data_ptr() == other.data_ptr() and one.shape == other.shape
    return one is other or (isinstance(one, _PLAIN) and one == other)

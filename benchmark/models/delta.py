"""What one more task adds to the shared backbone: every tensor that is not the backbone's own.

The difference is derived by comparing bits, not declared by methods, so a statistic that drifted
or a layer that a method touched on the side is in the file too.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from benchmark.core.files import write_atomic
from benchmark.core.record import Params, Stored
from benchmark.models.backbone import StagedBackbone
from benchmark.models.segmenter import Segmenter

PREFIX = "backbone.model."


@dataclass(frozen=True)
class Pristine:
    """A backbone's tensors before a method touched it.

    Parameters are recognised by object, which survives the renaming that peft does; buffers by
    name, because moving a model to another device replaces them.

    Attributes:
        parameters: name -> the parameter itself (no copy).
        hashes: name -> sha256 of the bytes of the parameter or buffer.

    """

    parameters: dict[str, nn.Parameter]
    hashes: dict[str, str]

    def name_of(self, name: str, tensor: Tensor, by_id: Mapping[int, str]) -> str | None:
        """Pristine name of a tensor of `backbone.model`; None for one that was added."""
        found = by_id.get(id(tensor))
        if found is not None:
            return found
        if isinstance(tensor, nn.Parameter):
            return None
        name = timm_name(name)
        return name if name in self.hashes and name not in self.parameters else None


def snapshot(backbone: StagedBackbone) -> Pristine:
    """Remembers a backbone; call it before `method.apply`."""
    state = backbone.model.state_dict(keep_vars=True)
    return Pristine(
        parameters={k: v for k, v in state.items() if isinstance(v, nn.Parameter)},
        hashes={name: _sha256(tensor) for name, tensor in state.items()},
    )


def delta(segmenter: Segmenter, pristine: Pristine) -> dict[str, Tensor]:
    """Every tensor of the state dict that differs from the pristine backbone or is not in it.

    Returns:
        Name in `segmenter.state_dict()` -> a contiguous copy on the CPU.

    """
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor, origin in _tensors(segmenter, pristine)
        if origin is None or _sha256(tensor) != pristine.hashes[origin]
    }


@torch.no_grad()
def load_delta(segmenter: Segmenter, state: Mapping[str, Tensor]) -> None:
    """Puts a delta onto a fresh backbone with the same method applied and a fresh decoder.

    Raises:
        ValueError: a tensor that only a delta can provide is missing, one is unknown, or a shape
            does not fit; nothing has been changed then.

    """
    own = segmenter.state_dict(keep_vars=True)
    from_backbone = segmenter.backbone.pretrained_names
    # A tensor with several names is stored under its first one.
    given = {id(own[name]) for name in state if name in own}
    missing = [
        name for name in own if id(own[name]) not in given and timm_name(name) not in from_backbone
    ]
    unexpected = [name for name in state if name not in own]
    misfits = [n for n, t in state.items() if n in own and own[n].shape != t.shape]
    for what, names in (
        ("misses", missing),
        ("holds unknown", unexpected),
        ("has other shapes for", misfits),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ValueError(f"the delta {what} {', '.join(names[:3])}{more}")
    for name, tensor in state.items():
        own[name].copy_(tensor)


def bytes_of(module: nn.Module) -> int:
    """Bytes of all parameters and buffers, each counted once."""
    return sum(tensor.nbytes for _, tensor in tensors_of(module))


def frozen_hash(backbone: StagedBackbone) -> str:
    """sha256 over the pretrained backbone's frozen parameters and the buffers beside them.

    A buffer counts as frozen where its module has no trainable parameter of its own.
    """
    digest = hashlib.sha256()
    for module_name, module in backbone.model.named_modules():
        if module not in backbone.pretrained_modules:
            continue
        trained = any(p.requires_grad for p in module.parameters(recurse=False))
        frozen: list[tuple[str, Tensor]] = [
            (n, p) for n, p in module.named_parameters(recurse=False) if not p.requires_grad
        ]
        if not trained:
            frozen += list(module.named_buffers(recurse=False))
        for name, tensor in frozen:
            digest.update(f"{timm_name(f'{module_name}.{name}')}:{_sha256(tensor)}\n".encode())
    return digest.hexdigest()


def count_parameters(segmenter: Segmenter, pristine: Pristine) -> Params:
    """Parameters of a segmenter after `method.apply`, by where they belong."""
    ids = {id(p) for p in pristine.parameters.values()}
    trained = [p for p in segmenter.backbone.parameters() if p.requires_grad]
    inserted = sum(p.numel() for p in trained if id(p) not in ids)
    tuned = sum(p.numel() for p in trained if id(p) in ids)
    decoder = sum(p.numel() for p in segmenter.decoder.parameters() if p.requires_grad)
    layers, share = adapted(segmenter.backbone)
    return Params(
        backbone=sum(p.numel() for p in pristine.parameters.values()),
        inserted=inserted,
        tuned_backbone=tuned,
        decoder=decoder,
        total_trainable=inserted + tuned + decoder,
        adapted=layers,
        adapted_share=share,
    )


def adapted(backbone: StagedBackbone) -> tuple[str, float | None]:
    """The pretrained layers that a wrapper with an update of the weight was put around.

    Returns:
        How many of which name and rank, such as `12 blocks.*.attn.qkv (rank 8)`; and the share that
        those in blocks have of the weights (matrices and kernels) there. Empty and None where there
        are none.

    """
    blocks = tuple(f"{block}." for stage in backbone.stage_blocks() for block in stage)
    count: dict[str, int] = {}
    inside = 0
    for name, module in backbone.model.named_modules():
        if is_parametrized(module, "weight"):
            (held,) = cast(Any, module).parametrizations.weight
            weight, rank = module.weight, held.r
        elif isinstance(getattr(module, "base_layer", None), nn.Module):
            ranks = getattr(module, "r", None)
            weight = cast(Any, module).base_layer.weight
            rank = next(iter(ranks.values()), None) if isinstance(ranks, dict) else None
        else:
            continue
        like = re.sub(r"(?<![^.])[a-z]?\d+(?![^.])", "*", name) + (
            f" (rank {rank})" if rank else ""
        )
        count[like] = count.get(like, 0) + 1
        inside += cast(Tensor, weight).numel() if name.startswith(blocks) else 0
    if not count:
        return "", None
    every = sum(
        parameter.numel()
        for name, parameter in backbone.model.named_parameters()
        if parameter.ndim > 1
        and timm_name(name) in backbone.pretrained_names
        and name.startswith(blocks)
    )
    listed = ", ".join(f"{number} {like}" for like, number in count.items())
    return listed, inside / every if every else None


def require_same_state(one: Segmenter, other: Segmenter) -> None:
    """Checks that two segmenters hold the same parameters and buffers, bit for bit.

    Raises:
        RuntimeError: it names the first tensor that differs.
    """
    ours, theirs = (dict(tensors_of(segmenter)) for segmenter in (one, other))
    for name in sorted(ours.keys() | theirs.keys()):
        mine, its = ours.get(name), theirs.get(name)
        if mine is None or its is None or mine.dtype != its.dtype or not torch.equal(mine, its):
            raise RuntimeError(f"the stored delta does not bring back {name}")


def tensors_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by name, each once; buffers outside the state dict, too."""
    yield from module.named_parameters()
    yield from module.named_buffers()


def changed_buffers(segmenter: Segmenter, pristine: Pristine) -> int:
    """Numbers in buffers of the pretrained backbone that are no longer what they were."""
    return sum(
        tensor.numel()
        for _, tensor, origin in _tensors(segmenter, pristine)
        if origin is not None
        and origin not in pristine.parameters
        and _sha256(tensor) != pristine.hashes[origin]
    )


def _tensors(segmenter: Segmenter, pristine: Pristine) -> Iterator[tuple[str, Tensor, str | None]]:
    """(name, tensor, pristine name or None) of everything in the state dict, each tensor once."""
    by_id = {id(parameter): name for name, parameter in pristine.parameters.items()}
    seen: set[int] = set()
    for name, tensor in segmenter.state_dict(keep_vars=True).items():
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        inside = name.startswith(PREFIX)
        yield name, tensor, pristine.name_of(name, tensor, by_id) if inside else None


def timm_name(name: str) -> str:
    """The name that timm gave a tensor, without what wrappers add to it."""
    name = name.removeprefix(PREFIX).replace(".base_layer.", ".")
    return re.sub(r"\.parametrizations\.(\w+)\.original$", r".\1", name)


def _sha256(tensor: Tensor) -> str:
    if tensor.is_meta:
        raise ValueError("tensors on the meta device have no values")
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(data.numpy().data).hexdigest()


def stored_bytes(segmenter: Segmenter, pristine: Pristine) -> int:
    """Bytes of the file that `write` would make; trained parameters count once changed."""
    return len(save(delta(segmenter, pristine)))


def write(segmenter: Segmenter, pristine: Pristine, path: Path) -> Stored:
    """Writes the delta as safetensors.

    Returns:
        What it takes.

    Raises:
        OSError: it cannot be written; nothing is there then.
    """
    state = delta(segmenter, pristine)
    # Not by the library's own writer, whose errors of the disk are no OSError.
    content = save(state)
    write_atomic(path, content)
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    return Stored(
        params=sum(tensor.numel() for tensor in state.values()),
        bytes=path.stat().st_size,
        bytes_fp16=len(save(half)),
        changed_buffers=changed_buffers(segmenter, pristine),
        sha256=hashlib.sha256(content).hexdigest(),
    )

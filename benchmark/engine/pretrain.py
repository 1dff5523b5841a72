"""Pretrains the demo backbone on generated scenes of abstract textures and shapes."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import save
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn import functional as F

from benchmark.core.errors import UserError
from benchmark.data.procedural.families import FAMILIES, SHAPES, scene
from benchmark.data.procedural.scene import stream

MODEL = "vit_tiny_patch16_224"
KWARGS = {"img_size": 96, "patch_size": 12, "embed_dim": 128, "depth": 8, "num_heads": 4}
"""With 12 px patches a 96 px crop is 64 tokens, few enough to tune on a processor."""
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

STEPS, BATCH_SIZE, SEED = 2400, 16, 0
POOL = 5000
"""Scenes drawn; crops, flips and colours make each visit to one different."""
POOL_SIZE = (112, 112)
LEARNING_RATE, WEIGHT_DECAY, WARMUP = 1e-3, 0.05, 0.05
CELL = 4
"""Targets are predicted every so many pixels."""

Progress = Callable[[int, int, float], None]


class Heads(nn.Module):
    """Linear heads on four levels: the family, the shape and the border of each 4x4 px cell."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.fold = KWARGS["patch_size"] // CELL
        self.split = (len(FAMILIES), len(SHAPES), 1)
        self.linear = nn.Linear(4 * width, sum(self.split) * self.fold**2)

    def forward(self, levels: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Levels (B, C, h, w) to logits (B, ., h * fold, w * fold) of family, shape and border."""
        tokens = [n(f.permute(0, 2, 3, 1)) for n, f in zip(self.norms, levels, strict=True)]
        dense = self.linear(torch.cat(tokens, -1)).permute(0, 3, 1, 2)
        return F.pixel_shuffle(dense, self.fold).split(self.split, 1)


def pretrain(
    out: Path,
    steps: int = STEPS,
    batch_size: int = BATCH_SIZE,
    seed: int = SEED,
    progress: Progress | None = None,
) -> Path:
    """Trains the demo backbone and writes it in half precision, with what is needed to rebuild it.

    The same arguments give the same bytes on the same machine with the same number of threads.

    Args:
        out: the safetensors file to write.
        steps: optimiser steps.
        batch_size: crops per step.
        seed: of the scenes, the augmentation and the initial weights.
        progress: called with steps done, steps in all and the mean loss since the last call.

    Returns:
        `out`.
    """
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; name a file")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = out.with_name(f".{out.name}.{os.getpid()}")
        partial.write_bytes(b"")
    except OSError as error:
        raise UserError(
            f"--out {out} cannot be written ({error.strerror}); name another file"
        ) from error
    images, targets = _pool(min(POOL, steps * batch_size), seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = timm.create_model(MODEL, pretrained=False, num_classes=0, **KWARGS)
        heads = Heads(KWARGS["embed_dim"])
    _train(backbone, heads, images, targets, steps, batch_size, seed, progress)
    metadata = {
        "timm_model": MODEL,
        "timm_kwargs": json.dumps(KWARGS),
        "mean": json.dumps(MEAN),
        "std": json.dumps(STD),
        "input_size": json.dumps([3, KWARGS["img_size"], KWARGS["img_size"]]),
        "source": "benchmark.engine.pretrain: generated scenes of abstract textures and shapes",
        "arguments": json.dumps({"steps": steps, "batch_size": batch_size, "seed": seed}),
        "license": "Apache-2.0",
    }
    state = {name: value.half().contiguous() for name, value in backbone.state_dict().items()}
    partial.write_bytes(_ordered(save(state, metadata)))
    os.replace(partial, out)
    return out


def _ordered(file: bytes) -> bytes:
    """The same safetensors file with sorted keys: the library writes metadata in any order."""
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + file[end:]


def _train(
    backbone: VisionTransformer,
    heads: Heads,
    images: np.ndarray,
    targets: np.ndarray,
    steps: int,
    batch_size: int,
    seed: int,
    progress: Progress | None,
) -> None:
    rng = stream("pretrain", "batches", seed)
    parameters = [*backbone.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=steps + 1, pct_start=WARMUP, cycle_momentum=False
    )
    last = int(KWARGS["depth"])
    taps = [last * (level + 1) // 4 - 1 for level in range(4)]
    losses: list[float] = []
    backbone.train()
    for step in range(steps):
        x, family, shape, border = _batch(rng, images, targets, batch_size)
        levels = backbone.forward_intermediates(x, indices=taps, intermediates_only=True)
        a, b, c = heads(levels)
        loss = (
            F.cross_entropy(a, family)
            + F.cross_entropy(b, shape)
            + F.binary_cross_entropy_with_logits(c[:, 0], border)
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if progress and (len(losses) == 25 or step + 1 == steps):
            progress(step + 1, steps, float(np.mean(losses)))
            losses.clear()


def _pool(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    images = np.empty((count, *POOL_SIZE, 3), np.uint8)
    targets = np.empty((count, 2, *POOL_SIZE), np.uint8)
    for index in range(count):
        drawn = scene(stream("pretrain", "scene", seed, index), POOL_SIZE)
        images[index], targets[index] = drawn.image, (drawn.family, drawn.shape)
    return images, targets


def _batch(
    rng: np.random.Generator, images: np.ndarray, targets: np.ndarray, count: int
) -> tuple[torch.Tensor, ...]:
    crop = int(KWARGS["img_size"])
    xs, ys = [], []
    for index in rng.integers(len(images), size=count):
        top, left = rng.integers(0, [n - crop + 1 for n in POOL_SIZE])
        window = (slice(top, top + crop), slice(left, left + crop))
        flip = slice(None, None, int(rng.choice([-1, 1])))
        xs.append(images[index][window][:, flip][:, :, rng.permutation(3)])
        ys.append(targets[index][:, window[0], window[1]][:, :, flip])
    x = torch.from_numpy(np.stack(xs)).permute(0, 3, 1, 2).float() / 255
    y = torch.from_numpy(np.stack(ys)).long()
    shape = (count, 1, 1, 1)
    contrast, shift = rng.uniform(0.6, 1.4, shape), rng.uniform(-0.25, 0.25, (count, 3, 1, 1))
    contrast = contrast * rng.choice([-1, 1], shape)
    x = (x - 0.5) * torch.from_numpy(contrast).float() + torch.from_numpy(shift).float() * 0.6 + 0.5
    x = (x.clamp(0, 1) - MEAN[0]) / STD[0]
    middle = slice(CELL // 2, None, CELL)
    family, shape_ = y[:, 0, middle, middle], y[:, 1, middle, middle]
    code = y[:, 0] * len(SHAPES) + y[:, 1]
    same = F.max_pool2d(code[:, None].float(), CELL) == -F.max_pool2d(-code[:, None].float(), CELL)
    return x, family, shape_, (~same[:, 0]).float()

"""How a run computes: the precision and the attention that are fast on this machine.

What a processor claims to have does not say what is fast: bf16 units pay for large products, not
for small ones, and fused attention is slow backwards on some processors. So both are timed, once a
machine, backbone and shape of the batch, and the answer is kept in the cache. It depends on nothing
of the method: all methods of a comparison compute alike.
"""

import functools
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock
from torch import Tensor, nn

from benchmark.core.cache_folder import cache_folder
from benchmark.core.files import write_atomic
from benchmark.core.machine import processor
from benchmark.core.seeding import torch_stream
from benchmark.core.spec import Attention, Compute, RunSpec, short_hash
from benchmark.models.attention import attention_in
from benchmark.models.precision import autocast, cast_frozen
from benchmark.models.segmenter import Segmenter
from benchmark.models.weights import build_backbone
from benchmark.results.provenance import package_versions

NAME = "compute.json"
IMAGES = 4
"""Images of a timed pass at most: their shape decides what is fast, not their number."""
ROUNDS, SECONDS = 5, 2.0
"""Timed rounds at most, and the time after which no further one begins."""
HOPELESS = 3.0
"""Times as slow as the fastest in its first pass: not timed again."""
GAIN = 1.1
"""Times as fast as the first choice that another must be, so that noise decides nothing."""


def choose(cell: RunSpec, device: torch.device, weights: Sequence[Path]) -> Compute:
    """What is fast for a cell's backbone and batches here; a precision that is asked for is kept.

    On a GPU that is bf16 where the GPU has it; nothing is timed there.

    Args:
        cell: its backbone, batch, crop and precision matter.
        device: where it will run.
        weights: folders with weight files.

    Raises:
        UserError: the backbone's weights are missing or damaged.
    """
    wanted, protocol = cell.protocol.precision, cell.protocol
    if device.type != "cpu":
        bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return Compute(("bf16" if bf16 else "fp32") if wanted == "auto" else wanted)
    images = min(protocol.batch_size, IMAGES)
    return _on_cpu(
        cell.backbone,
        cell.weights,
        tuple(weights),
        images,
        protocol.crop,
        wanted,
        torch.get_num_threads(),
    )


@functools.cache
def _on_cpu(
    backbone: str,
    kind: Literal["pretrained", "none"],
    weights: tuple[Path, ...],
    images: int,
    crop: int,
    wanted: str,
    threads: int,
) -> Compute:
    key = short_hash(
        [
            processor(),
            torch.backends.cpu.get_cpu_capability(),
            os.environ.get("ONEDNN_MAX_CPU_ISA"),
            package_versions(),
            backbone,
            images,
            crop,
            wanted,
            threads,
        ]
    )

    def ask() -> Compute:
        with torch_stream(0, "compute"):
            model = build_backbone(backbone, kind, weights, crop)
            batch = torch.randn(images, 3, crop, crop)
        precisions = ("fp32", "bf16") if wanted == "auto" else (wanted,)
        try:
            return measure(Segmenter(model, nn.Identity()).eval(), batch, precisions)
        except Exception:
            # What stops a pass here stops the cells, too, which say so each for itself.
            return Compute(precisions[0])  # type: ignore[arg-type]

    return _kept(key, ask)


def measure(segmenter: Segmenter, batch: Tensor, precisions: Sequence[str]) -> Compute:
    """Times the gradient of the features with respect to the images, in turns.

    Args:
        segmenter: frozen, in eval mode; its decoder is not used.
        batch: (N, 3, H, W), normalised.
        precisions: to choose from, the preferred one first.
    """
    has_choice = any(hasattr(module, "fused_attn") for module in segmenter.modules())
    kinds: tuple[Attention, ...] = ("fused", "explicit") if has_choice else ("fused",)
    candidates = [Compute(p, kind) for p in precisions for kind in kinds]  # type: ignore[arg-type]
    times: dict[Compute, list[float]] = {one: [] for one in candidates}
    begun, saved = time.perf_counter(), 0
    for one in candidates:  # what settles allocators and kernels
        start = time.perf_counter()
        with _saved_bytes() as found:
            _pass(segmenter, batch, one)
        times[one] = [time.perf_counter() - start]
        saved = max(saved, found[0])
    best = min(min(seconds) for seconds in times.values())
    left = [one for one in candidates if times[one][0] <= HOPELESS * best]
    warm: dict[Compute, list[float]] = {one: [] for one in left}
    for number in range(ROUNDS):
        if number and time.perf_counter() - begun > SECONDS:
            break
        for one in left:
            start = time.perf_counter()
            _pass(segmenter, batch, one)
            warm[one].append(time.perf_counter() - start)
    fastest = {one: min(seconds) for one, seconds in warm.items()}
    first, quickest = left[0], min(left, key=lambda one: fastest[one])
    chosen = quickest if fastest[first] > GAIN * fastest[quickest] else first
    held = sum(parameter.nbytes for parameter in segmenter.parameters())
    return Compute(chosen.precision, chosen.attention, saved // len(batch), held)


@contextmanager
def computing(segmenter: Segmenter, compute: Compute) -> Iterator[None]:
    """Inside the block the segmenter trains as chosen: weights cast, attention switched."""
    with cast_frozen(segmenter, compute.precision), attention_in(segmenter, compute.attention):
        yield


def _pass(segmenter: Segmenter, batch: Tensor, compute: Compute) -> None:
    with computing(segmenter, compute):
        images = batch.clone().requires_grad_()
        with autocast(batch.device, compute.precision):
            features = segmenter.backbone(images)
        torch.stack([level.float().mean() for level in features]).sum().backward()


@contextmanager
def _saved_bytes() -> Iterator[list[int]]:
    """Bytes of all tensors that autograd keeps in the block, each storage once."""
    total, seen = [0], set()

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            total[0] += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield total


def _kept(key: str, ask: Callable[[], Compute]) -> Compute:
    """The answer of the cache; asked for and written there where it has none."""
    folder = cache_folder().folder
    if folder is None:
        return ask()
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):  # processes that begin together measure once
            answers = _read(path)
            with suppress(TypeError):  # of another version
                if key in answers:
                    return Compute(**answers[key])
            found = ask()
            write_atomic(path, json.dumps(answers | {key: asdict(found)}, indent=1).encode())
            return found
    except OSError:
        return ask()


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

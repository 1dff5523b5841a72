"""Finished runs with moved weights, made without training: for the tests of what uses them."""

import json
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

from benchmark.contract.models import FAMILIES
from benchmark.core.record import Task
from benchmark.core.spec import Protocol
from benchmark.data.task import task_of
from benchmark.engine.build import build_segmenter
from benchmark.models import delta as deltas
from benchmark.planning.catalogue import BENCHMARKS, build_method
from benchmark.planning.plan import Selection, plan
from benchmark.results import store
from tests.helpers.records import record

SMALL = FAMILIES | {
    "dinov3": ("vit_small_patch16_dinov3", {"depth": 4, "embed_dim": 64, "num_heads": 2})
}


def small_backbone(family: str, folder: Path) -> str:
    """Puts weights of a tiny model of a family into a folder, and returns the backbone's name."""
    name, kwargs = SMALL[family]
    path = folder / f"small_{family}.safetensors"
    if not path.exists():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = timm.create_model(name, num_classes=0, **kwargs)
            for parameter in model.parameters():
                if parameter.ndim <= 1:  # as in `tiny`
                    torch.nn.init.uniform_(parameter, 0.5, 1.0)
        about = {"timm_model": name, "timm_kwargs": json.dumps(kwargs)}
        save_file(model.state_dict(), path, about)
    return path.stem


def trained_run(
    root: Path,
    method: str,
    backbone: str = "demo_vit",
    weights: Path | None = None,
    benchmark: str = "figures",
    decoder: str = "linear",
    moved: float = 0.1,
) -> Path:
    """A finished run whose trained tensors were moved at random from where they began.

    Args:
        root: results folder.
        method: selector.
        backbone: its name; packaged, or in `weights`.
        weights: folder with its weights.
        benchmark: one that is generated.
        decoder: of the protocol.
        moved: standard deviation of what is added.

    Returns:
        The folder of the run.
    """
    dirs = [] if weights is None else [weights]
    protocol = {"crop": 64 if backbone != "demo_vit" else 96, "decoder": decoder}
    selection = Selection(
        methods=method, benchmarks=benchmark, backbones=backbone, seeds=(0,), protocol=protocol
    )
    (spec,) = plan(selection, dirs)
    made = build_method(spec.method, spec.method_params)
    segmenter, pristine = build_segmenter(spec, made, dirs, torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in segmenter.parameters():
            if parameter.requires_grad:
                parameter += moved * torch.randn(parameter.shape, generator=generator)
    folder = root / spec.folder
    folder.mkdir(parents=True)
    stored = deltas.write(segmenter, pristine, folder / "delta.safetensors")
    base = record(
        spec.method_label,
        spec.benchmark,
        run_id=spec.run_id,
        suite=spec.suite,
        backbone=spec.backbone,
        method_params=spec.method_params,
        protocol=spec.protocol.model_dump(),
        protocol_hash=Protocol.model_validate(spec.protocol.model_dump()).hash,
        task=Task.model_validate(task_of(BENCHMARKS.get(benchmark)).model_dump()),
    )
    assert base.costs is not None
    provenance = base.provenance.model_copy(
        update={
            "weights": segmenter.backbone.weights_source,
            "weights_sha256": segmenter.backbone.weights_sha256,
        }
    )
    costs = base.costs.model_copy(update={"stored": stored})
    store.write_record(folder, base.model_copy(update={"provenance": provenance, "costs": costs}))
    return folder

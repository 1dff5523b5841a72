"""The backbone with what was learnt folded into its weights."""

import json
from pathlib import Path

from torch import Tensor

from benchmark.core.errors import UserError
from benchmark.export.features import compare_features, write_decoder, write_task
from benchmark.export.formats import Written, register_format, write_tensors
from benchmark.export.trained import Trained
from methods.base import Unsupported


@register_format("merged", "a folder with a plain timm state dict, and the decoder beside it")
def write_merged(trained: Trained, path: Path) -> Written:
    """`backbone.safetensors`, which timm loads strictly, and the decoder.

    The file is also one that `--weights` takes.

    Raises:
        UserError: the method cannot be folded into the weights.
    """
    segmenter, folded = trained.segmenter(), trained.segmenter()
    record = trained.run.record
    refusal = f"run {record.run_id}: {record.method} cannot be folded into the backbone's weights"
    inserts = len(segmenter.backbone.inserted) > 0
    if not trained.method.mergeable and inserts:
        raise UserError(f"{refusal}: it adds modules that are no weights; use --format onnx")
    if trained.method.mergeable:
        try:
            trained.method.merge(folded.backbone)
        except (Unsupported, NotImplementedError) as error:
            raise UserError(f"{refusal}: {error}") from error
    model, recipe = trained.timm_model(segmenter.backbone)
    own: dict[str, Tensor] = folded.backbone.model.state_dict()
    plain = model.state_dict()
    unknown = sorted(own.keys() - plain.keys())
    if unknown or folded.backbone.pretrained_names - own.keys():
        raise UserError(
            f"{refusal}: {unknown[0] if unknown else 'a layer'} is not one of timm's model; use "
            "--format onnx"
        )
    # What comes after the last stage is timm's own: no feature depends on it.
    state = {name: own.get(name, tensor) for name, tensor in plain.items()}
    path.mkdir()
    metadata = {
        "format": "pt",
        "timm_model": recipe["timm_model"],
        "timm_kwargs": json.dumps(recipe["timm_kwargs"]),
        "mean": json.dumps(recipe["mean"]),
        "std": json.dumps(recipe["std"]),
        "run_id": record.run_id,
    }
    write_tensors(path / "backbone.safetensors", state, metadata)
    model.load_state_dict(state, strict=True)
    write_decoder(trained, segmenter, path)
    agreement = compare_features(trained, segmenter, model.eval(), path)
    return Written(agreement, (write_task(trained, path, recipe, agreement),))

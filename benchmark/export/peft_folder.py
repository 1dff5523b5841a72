"""A folder as peft itself saves it, for runs whose layers are peft's."""

import copy
import json
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError

from benchmark.core.errors import UserError
from benchmark.core.files import write_atomic
from benchmark.export.features import compare_features, write_decoder, write_task
from benchmark.export.formats import Written, register_format, write_tensors
from benchmark.export.trained import Trained
from benchmark.models.segmenter import Segmenter


@register_format("peft", "a folder that peft loads onto the timm model, and the decoder beside it")
def write_peft(trained: Trained, path: Path) -> Written:
    """`adapter_config.json` and `adapter_model.safetensors`, and the decoder beside them.

    Raises:
        UserError: the method does not go through peft, or changes more than peft saves.
    """
    from peft import PeftModel

    segmenter = trained.segmenter()
    record = trained.run.record
    configs = getattr(segmenter.backbone.model, "peft_config", None)
    if not configs:
        raise UserError(
            f"run {record.run_id}: {record.method} puts no layers of peft into the backbone, so "
            "peft has nothing to load; use --format folder"
        )
    config = copy.deepcopy(configs["default"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, recipe = trained.timm_model(segmenter.backbone)
        adapted = PeftModel(cast(Any, model), config)
        _copy(segmenter, adapted)
        _save(adapted, path)
        (path / "README.md").unlink(missing_ok=True)  # peft's, which describes a language model
        _note_base(path, recipe["timm_model"])
        again, _ = trained.timm_model(segmenter.backbone)
        loaded = PeftModel.from_pretrained(cast(Any, again), str(path)).eval()
    write_decoder(trained, segmenter, path)
    try:
        agreement = compare_features(trained, segmenter, cast(Any, loaded).base_model.model, path)
    except UserError as error:
        left = _left_out(trained, path)
        more = f" (peft leaves out {left[0]} and {len(left) - 1} more tensors)" if left else ""
        raise UserError(f"{error}{more}") from error
    notes = [write_task(trained, path, recipe, agreement)]
    if trained.run.spec.weights == "none":
        base = trained.backbone().model.state_dict()
        write_tensors(path / "backbone.safetensors", base)
        notes.append("backbone.safetensors are the random weights that the run began with")
    return Written(agreement, tuple(notes))


def _save(adapted: Any, path: Path) -> None:
    """As peft saves it, but for whom the umask says.

    Raises:
        OSError: it cannot be written.
    """
    try:
        adapted.save_pretrained(str(path))
    except SafetensorError as error:
        raise OSError(str(error)) from error
    file = path / "adapter_model.safetensors"
    write_atomic(file, file.read_bytes())


def _copy(segmenter: Segmenter, adapted: torch.nn.Module) -> None:
    """Puts what was trained into peft's own model of the same layers."""
    own = {
        f"base_model.model.{name}": tensor
        for name, tensor in segmenter.backbone.model.state_dict().items()
    }
    theirs = adapted.state_dict(keep_vars=True)
    # What all layers share is an inserted module here, and beside the model there.
    beside = {name for name in theirs if not name.startswith("base_model.model.")}
    for name, tensor in segmenter.backbone.inserted.state_dict().items():
        for other in beside:
            if name.endswith(other.removeprefix("base_model.")):
                own[other] = tensor
    with torch.no_grad():
        for name, tensor in theirs.items():
            if name in own and own[name].shape == tensor.shape:
                tensor.copy_(own[name])


def _note_base(path: Path, timm_model: str) -> None:
    """Names the model that it is for; peft does not know where it came from."""
    file = path / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = f"timm/{timm_model}"
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _left_out(trained: Trained, path: Path) -> list[str]:
    """Tensors of the backbone that the run stored, and that are not in peft's file."""
    from safetensors import safe_open

    def plain(name: str) -> str:
        return name.replace(".default", "").rpartition("model.")[2]

    with safe_open(trained.run.delta, framework="pt") as file:
        own = [name for name in file.keys() if name.startswith("backbone.")]  # noqa: SIM118
    with safe_open(path / "adapter_model.safetensors", framework="pt") as file:
        saved = {plain(name) for name in file.keys()}  # noqa: SIM118
    return [name for name in own if plain(name) not in saved]

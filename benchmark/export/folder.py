"""A folder for a model hub: the delta, its record and a model card."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from benchmark.core.errors import UserError, on_one_line
from benchmark.core.format import points_text
from benchmark.core.record import RECORD
from benchmark.export.agreement import check, percent
from benchmark.export.formats import Written, register_format
from benchmark.export.graph import Network, sizes_of
from benchmark.export.trained import Trained
from benchmark.inference.find import DELTA, find_run
from benchmark.models.find_weights import is_timm

CARD = "README.md"


@register_format("folder", "a folder for a model hub: delta, record and model card")
def write_folder(trained: Trained, path: Path) -> Written:
    """`delta.safetensors`, `record.json` and `README.md`; `benchmark.load` takes the folder."""
    path.mkdir()
    for name in (DELTA, RECORD):
        shutil.copyfile(trained.run.folder / name, path / name)
    precision = _precision(trained)
    (path / CARD).write_text(card(trained, precision), encoding="utf-8")
    find_run(path)
    return Written(notes=("benchmark.load takes this folder", precision))


def _precision(trained: Trained) -> str:
    """What the precision of `predict` does to the labels."""
    segmenter = trained.segmenter()
    network = Network(segmenter).eval()
    found = check(trained, network, network, sizes_of(segmenter.backbone, trained.side))
    if found.precision == "fp32":
        return "predict computes in fp32"
    return (
        f"predict computes in {found.precision}; fp32 gives the same labels on "
        f"{percent(found.predicted)} of the pixels, on {found.pictures}"
    )


def card(trained: Trained, precision: str) -> str:
    """The model card: front matter as model hubs read it, and how to use the run.

    Args:
        trained: the run.
        precision: what that of `predict` does to the labels.
    """
    record, about = trained.run.record, trained.about()
    front: dict[str, Any] = {
        "library_name": "petseg-bench",
        "pipeline_tag": "image-segmentation",
        "license": "other",
        "license_name": "see-data-and-backbone",
        "tags": ["image-segmentation", "semantic-segmentation", "timm", record.method_name],
    }
    if is_timm(record.backbone):
        front["base_model"] = f"timm/{record.backbone}"
    scored = ""
    if record.metrics is not None:
        name = f"{record.method} on {record.backbone}"
        split = str(record.protocol["eval_split"])
        front["metrics"] = ["mean_iou"]
        front["model-index"] = [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": "image-segmentation"},
                        "dataset": {
                            "name": record.benchmark,
                            "type": record.benchmark,
                            "split": split,
                        },
                        "metrics": [{"type": "mean_iou", "value": round(record.metrics.miou, 4)}],
                    }
                ],
            }
        ]
        scored = f" It scores mIoU {points_text(record.metrics.miou)} on the {split} split."
    size = (trained.run.folder / DELTA).stat().st_size
    classes = ", ".join(about["classes"])
    header = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    return f"""---
{header}---

# {record.benchmark}: {record.method} on {record.backbone}

`{DELTA}` ({size:,} bytes) turns the frozen backbone `{record.backbone}` into a network for semantic
segmentation.{scored}
Classes: {classes}.

```python
# python -m pip install petseg-bench huggingface_hub
import benchmark
from huggingface_hub import snapshot_download
network = benchmark.load(snapshot_download("USER/NAME"))
mask = network.predict("image.png")  # (H, W) class indices
print(network.classes[mask[0, 0]])
```

The pretrained weights ({record.provenance.weights}) are not part of this repository; they come from
timm, or from the folder that `BENCHMARK_WEIGHTS` names.

Precision: {precision}.

`{RECORD}` has all scores, costs and settings of the run `{record.run_id}`. Backbone and data set
keep their own licences.
"""


def push(folder: Path, repository: str) -> str:
    """Uploads a folder to a model hub, and puts the name of the repository into its card.

    The hub is that of huggingface_hub: `HF_ENDPOINT`, with the token of `HF_TOKEN` or of its login.

    Args:
        folder: as `write_folder` writes it.
        repository: USER/NAME.

    Returns:
        Where it is.

    Raises:
        UserError: the hub does not take it.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import HfHubHTTPError, HFValidationError

    text = (folder / CARD).read_text(encoding="utf-8")
    (folder / CARD).write_text(text.replace("USER/NAME", repository), encoding="utf-8")
    api = HfApi()
    try:
        api.create_repo(repository, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Add the run")
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise UserError(
            f"--push {repository}: {on_one_line(error)[:300]}; the folder {folder} was written"
        ) from error
    return f"{api.endpoint}/{repository}"

"""Segments images with one backbone and any number of tasks; needs onnxruntime, numpy and Pillow.

    python run_stages.py tasks/NAME image.png mask.png

As a library: `backbone = Backbone(".")`, then `Task("tasks/NAME").logits(backbone, images)`.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def run(piece, values):
    """Runs one file on the values it asks for by name, and puts what it makes among them."""
    made = piece.run(None, {value.name: values[value.name] for value in piece.get_inputs()})
    names = [value.name.removesuffix("_out") for value in piece.get_outputs()]
    values.update(zip(names, made, strict=True))


class Backbone:
    def __init__(self, folder):
        folder = Path(folder) / "backbone"
        self.embed = session(folder / "embed.onnx")
        self.stages = [session(path) for path in sorted(folder.glob("stage?.onnx"))]


class Task:
    def __init__(self, folder):
        self.about = json.loads((Path(folder) / "task.json").read_text(encoding="utf-8"))
        self.between = {int(p.stem[7:]): session(p) for p in Path(folder).glob("between?.onnx")}
        self.head = session(Path(folder) / "head.onnx")

    def logits(self, backbone, images):
        """(N, C, H, W) float32 in [0, 1] to (N, K, H, W)."""
        values = {"image": images}
        run(backbone.embed, values)
        for number, stage in enumerate(backbone.stages, 1):
            if number in self.between:
                run(self.between[number], values)
            run(stage, values)
        run(self.head, values)
        return values["logits"][:, :, : images.shape[2], : images.shape[3]]


if __name__ == "__main__":
    from PIL import Image

    folder, source, target = map(Path, sys.argv[1:])
    pixels = np.asarray(Image.open(source).convert("RGB"), np.float32) / 255
    found = Task(folder).logits(Backbone(Path(__file__).parent), pixels.transpose(2, 0, 1)[None])
    Image.fromarray(found[0].argmax(0).astype(np.uint8)).save(target)

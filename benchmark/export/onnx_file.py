"""ONNX: made by torch's exporter, cleaned, run by onnxruntime."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from benchmark.export.graph import quiet

AXES = ("batch", "", "height", "width")
"""Names of the axes of images and logits that are not fixed."""


def to_onnx(program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """A model of ONNX (`onnx.ModelProto`) without traces of this machine and this run.

    Args:
        program: of torch.
        inputs: names of its inputs.
        outputs: names of its outputs.
    """
    from onnx_ir.passes.common import DeduplicateInitializersPass

    with quiet():
        made = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=inputs, output_names=outputs
        )
    assert made is not None
    # Folded constants come once for each use of a weight.
    DeduplicateInitializersPass(size_limit=2**28)(made.model)
    model = made.model_proto
    # The exporter notes stack traces, with the folders of this machine, beside every node.
    graph = model.graph
    for held in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        held.ClearField("metadata_props")
        held.ClearField("doc_string")
    for function in model.functions:
        for held in (function, *function.node):
            held.ClearField("metadata_props")
            held.ClearField("doc_string")
    del graph.value_info[:]
    return model


def name_axes(model: Any) -> None:
    """Gives the axes of images and logits that are not fixed their usual names."""
    graph = model.graph
    named: dict[str, str] = {}
    for value in (*graph.input, *graph.output):
        for axis, dimension in zip(AXES, value.type.tensor_type.shape.dim, strict=True):
            if dimension.dim_param:
                dimension.dim_param = named.setdefault(dimension.dim_param, axis)


def add_metadata(model: Any, metadata: Mapping[str, str]) -> None:
    """Writes what a file says about itself into the model."""
    for key, text in metadata.items():
        model.metadata_props.add(key=key, value=text)


def write_model(model: Any, path: Path) -> None:
    """Writes a model; the same model gives the same bytes."""
    path.write_bytes(model.SerializeToString(deterministic=True))


def runtime(path: Path) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """A file in onnxruntime: arrays by name of the input to arrays by name of the output."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    inputs = [value.name for value in session.get_inputs()]
    outputs = [value.name for value in session.get_outputs()]

    def run(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = session.run(outputs, {name: values[name] for name in inputs})
        return dict(zip(outputs, found, strict=True))

    return run


def network_in(path: Path, name_in: str, name_out: str) -> Callable[[Tensor], Tensor]:
    """A file with a whole network, as a function of tensors."""
    run = runtime(path)
    return lambda image: torch.from_numpy(run({name_in: image.numpy()})[name_out])

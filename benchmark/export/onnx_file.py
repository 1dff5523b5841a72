"""ONNX: made by torch's exporter, cleaned, run by onnxruntime."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from benchmark.core.errors import UserError
from benchmark.export.graph import quiet

AXES = ("batch", "", "height", "width")
"""Names of the axes of images and logits that are not fixed."""


def _adaptive_average(x: Tensor, output_size: Sequence[int]) -> Tensor:
    """Adaptive average pooling as products, since no operator of ONNX has windows of a free size.

    Args:
        x: (N, C, H, W).
        output_size: h and w.

    Returns:
        (N, C, h, w).
    """
    rows, columns = (
        _windows(side, count, x) for side, count in zip(x.shape[-2:], output_size, strict=True)
    )
    return rows @ x @ columns.T


def _windows(side: int, count: int, like: Tensor) -> Tensor:
    """Share of each of `side` positions in each of `count` windows: (count, side)."""
    window = torch.arange(count, device=like.device).unsqueeze(1)
    place = torch.arange(side, device=like.device)
    first, end = window * side // count, ((window + 1) * side + count - 1) // count
    inside = ((place >= first) & (place < end)).to(like.dtype)
    return inside / (end - first)


_AS_PRODUCTS: dict[Any, Callable[..., Tensor]] = {
    torch.ops.aten.adaptive_avg_pool2d.default: _adaptive_average,
    torch.ops.aten._adaptive_avg_pool2d.default: _adaptive_average,
}


def to_onnx(program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """A model of ONNX (`onnx.ModelProto`) without traces of this machine and this run.

    Args:
        program: of torch.
        inputs: names of its inputs.
        outputs: names of its outputs.

    Raises:
        UserError: ONNX cannot say what it computes.
    """
    from onnx_ir.passes.common import DeduplicateInitializersPass

    with quiet():
        if any(node.target in _AS_PRODUCTS for node in program.graph.nodes):
            program = program.run_decompositions(_AS_PRODUCTS)
        try:
            made = torch.onnx.export(
                program, dynamo=True, verbose=False, input_names=inputs, output_names=outputs
            )
        except torch.onnx.OnnxExporterError as error:
            raise UserError(f"{_no_onnx(error)}; use --format torch-export") from error
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


def _no_onnx(error: Exception) -> str:
    """Why a network cannot be ONNX, out of a message of pages."""
    if missing := re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", str(error)):
        return f"ONNX has no operator for {missing[1]}, which the network needs"
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return f"torch cannot write the network as ONNX ({' '.join(str(cause).split())[:300]})"


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

"""Formats that hold the whole network in one graph."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmark.export.agreement import Agreement, check
from benchmark.export.formats import Written, register_format
from benchmark.export.graph import (
    INPUT,
    OUTPUT,
    Graph,
    Network,
    read_graph,
    sizes_of,
    takes_sizes,
    trace,
    write_graph,
)
from benchmark.export.onnx_file import add_metadata, name_axes, network_in, to_onnx, write_model
from benchmark.export.trained import Trained

SAYS = {
    "input": "image: float32 (N, C, H, W) in [0, 1], RGB where C is 3; normalised inside",
    "output": "logits: float32 (N, K, H, W)",
}


def _traced(trained: Trained) -> tuple[Network, Graph, dict[str, str]]:
    segmenter = trained.segmenter()
    network, backbone = Network(segmenter).eval(), segmenter.backbone
    graph = trace(network, backbone, trained.side)
    about = trained.about() | {"mean": backbone.mean, "std": backbone.std} | SAYS
    metadata = {k: v if isinstance(v, str) else json.dumps(v) for k, v in about.items()}
    return network, graph, metadata


def _check(
    trained: Trained, network: Network, graph: Graph, exported: Callable[[Tensor], Tensor]
) -> Agreement:
    sizes = sizes_of(network.segmenter.backbone, trained.side, graph.size)
    return check(trained, network, exported, sizes)


def _written(agreement: Agreement, graph: Graph) -> Written:
    return Written(agreement, (takes_sizes(graph.size),))


@register_format(
    "onnx",
    "ONNX with the whole network, for onnxruntime and others",
    "onnx",
    ("onnx", "onnxscript", "onnxruntime"),
)
def write_onnx(trained: Trained, path: Path) -> Written:
    """One .onnx file; onnxruntime checks it."""
    network, graph, metadata = _traced(trained)
    model = to_onnx(graph.program, [INPUT], [OUTPUT])
    name_axes(model)
    write_model(model, path)
    agreement = _check(trained, network, graph, network_in(path, INPUT, OUTPUT))
    add_metadata(model, metadata | {"agreement": str(agreement)})
    write_model(model, path)
    return _written(agreement, graph)


@register_format(
    "torch-export", "a graph of torch.export with the whole network (.pt2), for torch alone"
)
def write_program(trained: Trained, path: Path) -> Written:
    """One .pt2 file; it is loaded again and checked."""
    network, graph, metadata = _traced(trained)
    write_graph(graph.program, path)
    agreement = _check(trained, network, graph, read_graph(path))
    write_graph(graph.program, path, metadata | {"agreement": str(agreement)})
    return _written(agreement, graph)


@register_format(
    "openvino",
    "OpenVINO with the whole network, a folder with an .xml and a .bin file",
    "openvino",
    ("openvino", "onnx", "onnxscript"),
)
def write_openvino(trained: Trained, path: Path) -> Written:
    """A folder with `model.xml` and `model.bin`; OpenVINO's CPU device checks it in fp32."""
    import openvino

    network, graph, metadata = _traced(trained)
    path.mkdir()
    # By way of ONNX: the reader of torch's own graphs knows fewer operators.
    write_model(to_onnx(graph.program, [INPUT], [OUTPUT]), path / "model.onnx")
    model = openvino.Core().read_model(path / "model.onnx")
    (path / "model.onnx").unlink()
    openvino.save_model(model, path / "model.xml", compress_to_fp16=False)
    core = openvino.Core()
    compiled = core.compile_model(path / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def exported(image: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(compiled(image.numpy())[0].copy())

    agreement = _check(trained, network, graph, exported)
    for key, text in {**metadata, "agreement": str(agreement)}.items():
        model.set_rt_info(text, ["petseg-bench", key])
    (path / "model.bin").unlink()  # what was compiled may still read it
    openvino.save_model(model, path / "model.xml", compress_to_fp16=False)
    return _written(agreement, graph)

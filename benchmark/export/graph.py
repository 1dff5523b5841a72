"""The network as one graph, from the colours of an image to logits at its size."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from benchmark.core.errors import UserError, on_one_line
from benchmark.models.backbone import StagedBackbone
from benchmark.models.segmenter import Segmenter

INPUT, OUTPUT = "image", "logits"


class Entry(nn.Module):
    """An image in [0, 1] as the backbone takes it: normalised, then padded with zeros.

    Args:
        backbone: gives mean, standard deviation and the sizes that pass.

    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: StagedBackbone) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(backbone.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(backbone.std).view(-1, 1, 1))
        self.step, self.side = backbone.divisor, backbone.fixed_side

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] -> (N, C, H', W') of the next size that passes."""
        x = (image - self.mean) / self.std
        if self.side is not None:
            return x
        height, width = image.shape[-2:]
        # Not -(-side // step): a quotient of ONNX is rounded towards zero.
        tall, wide = ((side + self.step - 1) // self.step * self.step for side in (height, width))
        return F.pad(x, (0, wide - width, 0, tall - height))


class Network(nn.Module):
    """From the colours of an image to logits at its size.

    What the evaluation of a run computes of an image that passes whole, with the normalisation
    inside.

    Args:
        segmenter: in eval mode, in fp32.

    """

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.entry = Entry(segmenter.backbone)
        self.segmenter = segmenter

    def forward(self, image: Tensor) -> Tensor:
        """Logits.

        Args:
            image: (N, C, H, W) float32 in [0, 1]; RGB where C is 3.

        Returns:
            (N, K, H, W) float32.
        """
        x = self.entry(image)
        coarse = self.segmenter(x)
        padded = F.interpolate(coarse, x.shape[-2:], mode="bilinear", align_corners=False)
        # Not by slices: whether one takes everything would be a question to the size at hand.
        rows, columns = (torch.arange(side, device=x.device) for side in image.shape[-2:])
        return padded.index_select(2, rows).index_select(3, columns)


@dataclass(frozen=True)
class Graph:
    """An exported network.

    Attributes:
        program: of torch.
        size: the only height and width that it takes; None where it takes any.

    """

    program: ExportedProgram
    size: tuple[int, int] | None


def only_size(backbone: StagedBackbone, side: int) -> tuple[int, int] | None:
    """The height and width that a graph is made for; None where it may be tried for any.

    Attention in windows pads maps to a multiple of the window. What becomes of a free size then,
    the tracer simplifies without coming to an end in several minutes, even for four blocks.

    Args:
        backbone: that is traced.
        side: of a crop, px.
    """
    if backbone.fixed_side is not None:
        return backbone.fixed_side, backbone.fixed_side
    batches: list[int] = []
    handles = [
        backbone.model.get_submodule(name).register_forward_pre_hook(
            lambda _, args: batches.append(len(args[0]))
        )
        for name in backbone.names("attention")
    ]
    try:
        with torch.no_grad():
            backbone(torch.zeros(1, backbone.in_chans, *[4 * backbone.divisor] * 2))
    finally:
        for handle in handles:
            handle.remove()
    in_windows = any(count > 1 for count in batches)
    return backbone.padded(side, side) if in_windows else None


def sizes_of(
    backbone: StagedBackbone, side: int, only: tuple[int, int] | None = None
) -> list[tuple[int, int, int]]:
    """Three (N, H, W) to try a network on: a crop, one that has to be padded, a long one.

    Args:
        backbone: says which sizes pass.
        side: of a crop, px.
        only: height and width, where there are no others.
    """
    if fixed := only or (backbone.fixed_side and (backbone.fixed_side, backbone.fixed_side)):
        return [(count, *fixed) for count in (1, 2, 3)]
    step = backbone.divisor
    middle = max(2 * step, side // step * step)
    return [(1, middle, middle), (2, middle - 3, middle + step + 1), (1, 2 * step, 2 * middle)]


def takes_sizes(only: tuple[int, int] | None) -> str:
    """Which images a graph takes, for people."""
    if only is None:
        return "takes images of any height and width, and any number of them"
    return f"takes images of {only[0]}x{only[1]} px only, any number of them"


def trace(network: Network, backbone: StagedBackbone, side: int) -> Graph:
    """The graph of a network, for any number of images and, where the model allows, any size.

    Args:
        network: that is traced.
        backbone: of the network.
        side: of the images where they can have one size only, px.
    """
    step, only = backbone.divisor, only_size(backbone, side)
    if only is None:
        example = torch.rand(2, backbone.in_chans, 3 * step + 5, 4 * step - 3)
        with contextlib.suppress(Exception):  # whatever a model does with sizes
            program = traced(network, (example,), {INPUT: {0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO}})
            if _is_free(program):
                return Graph(program, None)
    size = only or backbone.padded(side, side)
    example = torch.rand(2, backbone.in_chans, *size)
    return Graph(traced(network, (example,), {INPUT: {0: Dim.AUTO}}), size)


def program_size(program: ExportedProgram) -> Sequence[int | torch.SymInt]:
    """The shape of the (first) input of a program."""
    name = program.graph_signature.user_inputs[0]
    (node,) = (node for node in program.graph.nodes if node.name == name)
    return node.meta["val"].shape


def _is_free(program: ExportedProgram) -> bool:
    """Whether number, height and width of images are free, and no two of them tied together."""
    count, _, height, width = program_size(program)
    sides = (count, height, width)
    free = {side.node.expr for side in sides if isinstance(side, torch.SymInt)}
    return sum(expression.is_symbol for expression in free) == 3


def traced(module: nn.Module, example: tuple[Tensor, ...], shapes: object) -> ExportedProgram:
    """`torch.export.export` without its messages, which are for its developers.

    Raises:
        UserError: it cannot trace the module.
    """
    try:
        with quiet(), torch.no_grad():
            return torch.export.export(module, example, dynamic_shapes=shapes, strict=False)  # type: ignore[arg-type]
    except Exception as error:  # whatever a model does
        raise UserError(
            f"torch.export cannot trace the network ({on_one_line(error)[:300]}); use --format "
            "folder, or --format merged where the method can be folded into the weights"
        ) from error


def write_graph(
    program: ExportedProgram, path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a graph as a .pt2 file."""
    extra = None if metadata is None else dict(metadata)
    buffer = io.BytesIO()  # a disk that is full while torch writes ends the process
    with quiet():
        torch.export.save(program, buffer, extra_files=extra)
    path.write_bytes(buffer.getbuffer())


def read_graph(path: Path) -> nn.Module:
    """What a .pt2 file computes."""
    with path.open("rb") as file, quiet():
        return torch.export.load(file).module()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without warnings, log lines and progress of the exporters."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

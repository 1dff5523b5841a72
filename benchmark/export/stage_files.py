"""The backbone as one file a stage, and a task as the files between and behind them."""

import importlib.util
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from benchmark.core.errors import UserError
from benchmark.export.agreement import Agreement, check
from benchmark.export.formats import Written, require_packages, write_json
from benchmark.export.graph import INPUT, Network, only_size, sizes_of, takes_sizes
from benchmark.export.onnx_file import to_onnx, write_model
from benchmark.export.stages import Piece, Uncut, backbone_pieces, task_pieces
from benchmark.export.trained import Trained
from benchmark.models.segmenter import Segmenter

RUNNER = Path(__file__).parent / "static" / "run_stages.py"

_NEW = "_out"
"""Ends the name of an output that takes the place of an input."""


def export_stages(trained: Trained, out: Path, force: bool = False) -> Written:
    """Writes backbone and task into a folder; into one that has the backbone, the task alone.

    The folder has `backbone/` with `embed.onnx` and one file a stage, `tasks/RUN_ID/` for each
    task, and a runner that needs onnxruntime alone.

    Args:
        trained: the run.
        out: the folder.
        force: whether a task that is there is replaced.

    Raises:
        UserError: the method changes the stages, the backbone cannot be cut, the folder holds
            something else or this task, or the files do not agree with the network.
    """
    require_packages("--stages", "onnx", ("onnx", "onnxscript", "onnxruntime"))
    run_id = trained.run.record.run_id
    there = out / "tasks" / run_id
    if out.exists() and not (out / "backbone").is_dir():
        raise UserError(f"--out {out} exists and holds no backbone; choose another folder")
    if there.exists() and not force:
        raise UserError(f"{there} exists; replace it with --force")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}; make it first")
    segmenter = trained.segmenter()
    if not trained.method.keeps_structure:
        raise UserError(_refusal(trained, segmenter))
    with tempfile.TemporaryDirectory(prefix=".stages-", dir=out.parent) as temporary:
        folder = Path(temporary) / "stages"
        task = folder / "tasks" / run_id
        (folder / "backbone").mkdir(parents=True)
        task.mkdir(parents=True)
        shutil.copyfile(RUNNER, folder / RUNNER.name)
        try:
            only = only_size(trained.backbone(), trained.side)
            stages, parts = _pieces(trained, segmenter, only)
        except Uncut as reason:
            raise UserError(
                f"run {run_id} cannot be served in stages: {reason}; use --format onnx"
            ) from reason
        for piece in stages:
            write_model(_model(piece, only is None), folder / "backbone" / f"{piece.name}.onnx")
        models = _without_unused([_model(piece, only is None) for piece in parts])
        for piece, model in zip(parts, models, strict=True):
            write_model(model, task / f"{piece.name}.onnx")
        about = trained.about()
        write_json(task / "task.json", about)
        agreement = _check(trained, segmenter, folder, task, only)
        write_json(task / "task.json", about | {"agreement": str(agreement)})
        takes = takes_sizes(only)
        if not out.exists():
            folder.rename(out)
            return Written(agreement, ("backbone and task written", takes))
        _require_same(folder / "backbone", out / "backbone")
        if there.exists():
            shutil.rmtree(there)
        there.parent.mkdir(exist_ok=True)
        task.rename(there)
        same = "task added; the files of the stages equal those there byte for byte"
        return Written(agreement, (same, takes))


def _refusal(trained: Trained, segmenter: Segmenter) -> str:
    backbone = segmenter.backbone
    touched = [
        name
        for name, module in backbone.model.named_modules()
        if name
        and (
            module not in backbone.pretrained_modules
            or module._forward_hooks
            or module._forward_pre_hooks
            or "forward" in vars(module)
        )
    ]
    where = f" (it acts on {touched[0]} and {len(touched) - 1} more modules)" if touched else ""
    record = trained.run.record
    return (
        f"run {record.run_id} cannot be served in stages: {record.method} changes what is inside "
        f"them{where}, so they are no longer those of the backbone; use --format onnx"
    )


def _pieces(
    trained: Trained, segmenter: Segmenter, only: tuple[int, int] | None
) -> tuple[list[Piece], list[Piece]]:
    """The pieces of the backbone, and those of the task."""
    backbone = trained.backbone()
    # Of a size that has to be padded: else the graph would not pad.
    free = (3 * backbone.divisor - 3, 5 * backbone.divisor - 3)
    image = torch.rand(2, backbone.in_chans, *(only or free))
    stages = list(backbone_pieces(backbone, {INPUT: image}))
    by_name = {piece.name: piece for piece in stages}
    return stages, list(task_pieces(segmenter, {INPUT: image}, by_name.__getitem__))


def _model(piece: Piece, any_size: bool) -> Any:
    outputs = [name + _NEW * (name in piece.inputs) for name in piece.outputs]
    return to_onnx(piece.program(any_size), piece.inputs, outputs)


def _without_unused(models: Sequence[Any]) -> list[Any]:
    """The models of a task without values that nothing behind them takes.

    What a method hands on is taken whole from one place to the next, but may be read in part.
    """
    wanted: set[str] = set()
    for number, model in reversed(list(enumerate(models))):
        graph = model.graph
        if number < len(models) - 1:
            unread = [
                value
                for value in graph.output
                if value.name.startswith("state") and value.name.removesuffix(_NEW) not in wanted
            ]
            for value in unread:
                graph.output.remove(value)
        _drop_dead_nodes(graph)
        used = {name for node in graph.node for name in node.input}
        used |= {value.name for value in graph.output}
        for value in [value for value in graph.input if value.name not in used]:
            graph.input.remove(value)
        made = {value.name.removesuffix(_NEW) for value in graph.output}
        wanted = (wanted - made) | {value.name for value in graph.input}
    return list(models)


def _drop_dead_nodes(graph: Any) -> None:
    needed = {value.name for value in graph.output}
    for node in reversed(list(graph.node)):
        if needed & set(node.output):
            needed |= set(node.input)
        else:
            graph.node.remove(node)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in needed]:
        graph.initializer.remove(tensor)


def _check(
    trained: Trained,
    segmenter: Segmenter,
    folder: Path,
    task: Path,
    only: tuple[int, int] | None,
) -> Agreement:
    """Runs the files with the runner beside them.

    Raises:
        UserError: they do not agree with the network.
    """
    runner = _load(folder / RUNNER.name)
    backbone, pieces = runner.Backbone(folder), runner.Task(task)

    def exported(image: Tensor) -> Tensor:
        return torch.from_numpy(pieces.logits(backbone, image.numpy()))

    sizes = sizes_of(segmenter.backbone, trained.side, only)
    return check(trained, Network(segmenter).eval(), exported, sizes)


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _require_same(made: Path, there: Path) -> None:
    """Raises UserError unless two folders hold the same files, byte for byte."""
    names = {path.name for folder in (made, there) for path in folder.iterdir()}
    for name in sorted(names):
        ours, theirs = made / name, there / name
        if not (ours.is_file() and theirs.is_file() and ours.read_bytes() == theirs.read_bytes()):
            raise UserError(
                f"{theirs} is not what this run's backbone gives, so the task cannot be added "
                "there; choose another folder"
            )

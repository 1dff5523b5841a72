"""The backbone once, in pieces; each task as what it puts between and behind them.

The pieces hand on maps (N, C, H, W), whatever the layout inside the model, and beside them the
tokens that are no part of a map. So the piece of a stage depends on the backbone alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from benchmark.export.graph import INPUT, OUTPUT, Entry, traced
from benchmark.models.backbone import StagedBackbone
from benchmark.models.introspect import Held
from benchmark.models.prefix import answering
from benchmark.models.segmenter import Segmenter

PIXELS, MAP, PREFIX, BLOCK, STATE = "pixels", "map", "prefix", "block", "state"
"""Names of what pieces hand on: the padded image; map and other tokens behind stage i, 0 being the
embedding; the map behind a block; what a method hands on inside of a pass."""

Values = dict[str, Tensor]


class Uncut(Exception):
    """Why a backbone or a task cannot be cut into pieces."""


class Piece(nn.Module):
    """A part of a network as a function of named tensors.

    Args:
        name: of its file.
        run: takes and returns tensors by name.
        holder: whose parameters it uses.
        values: an example of what it takes, and of what it does not.
        inputs: names of what it takes.

    Attributes:
        outputs: names of what it returned for the example.
        made: what that was.

    """

    def __init__(
        self,
        name: str,
        run: Callable[[Values], Values],
        holder: nn.Module,
        values: Values,
        inputs: list[str],
    ) -> None:
        super().__init__()
        self.name, self.run, self.holder, self.inputs = name, run, holder, inputs
        self.example = tuple(values[one] for one in inputs)
        with torch.no_grad():
            self.made = run({one: values[one] for one in inputs})
        self.outputs = list(self.made)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Tensors in the order of `inputs` to those in the order of `outputs`."""
        return tuple(self.run(dict(zip(self.inputs, tensors, strict=True))).values())

    def program(self, any_size: bool = True) -> ExportedProgram:
        """Its graph, for any sizes that go together, or for those of the example."""
        shapes = tuple(
            {axis: Dim.AUTO for axis in (range(x.ndim) if any_size else (0,))} for x in self.example
        )
        return traced(self, self.example, (shapes,))


@dataclass(frozen=True)
class Places:
    """Where a backbone is cut.

    Attributes:
        layouts: how the embedding and the end of each stage hold a map.
        strides: of these maps, in pixels.
        first: name of the first block.
        ends: name of the module that ends each stage.
        blocks: of each stage, the blocks before its end whose output is a map, and how it holds it.

    """

    layouts: tuple[Held, ...]
    strides: tuple[int, ...]
    first: str
    ends: tuple[str, ...]
    blocks: tuple[dict[str, Held], ...]

    @classmethod
    def of(cls, backbone: StagedBackbone) -> "Places":
        """Finds them.

        Raises:
            Uncut: a stage hands on something else than a map.
        """
        layouts = backbone.layouts
        if layouts is None or not backbone.is_cut or not all(backbone.stage_blocks()):
            kind = type(backbone.model).__name__
            raise Uncut(f"the stages of {kind} hand on something else than a map of features")
        named: list[dict[str, Held]] = []
        for stage, blocks in enumerate(backbone.stage_blocks()):
            held = {block: backbone.block_layout(stage, block) for block in blocks}
            end = backbone.stage_ends[stage]
            named.append({b: h for b, h in held.items() if h is not None and b != end})
        return cls(
            layouts,
            (_embedding_stride(backbone, layouts[0]), *backbone.strides),
            backbone.stage_blocks()[0][0],
            backbone.stage_ends,
            tuple(named),
        )


def _embedding_stride(backbone: StagedBackbone, held: Held) -> int:
    if held.dimensions == 3:
        return backbone.strides[0]  # as many tokens as the map of the first stage has positions
    side = backbone.fixed_side or 2 * backbone.divisor
    first = backbone.stage_blocks()[0][0]
    with torch.no_grad(), _watched(backbone, first) as kept:
        backbone(torch.zeros(1, backbone.in_chans, side, side))
    return side // split(kept[first], held, (0, 0))[0].shape[-2]


def split(x: Tensor, held: Held, size: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
    """A tensor of the model as a map (N, C, H, W) of a size, and the tokens before it (N, P, C)."""
    if held.dimensions == 4:
        return (x if held.axis == 1 else x.movedim(-1, 1)), None
    before, tokens = x[:, : held.prefix], x[:, held.prefix :]
    return tokens.transpose(1, 2).unflatten(2, size), before if held.prefix else None


def join(x: Tensor, prefix: Tensor | None, held: Held) -> Tensor:
    """The inverse of `split`; zeros stand for tokens that are not given."""
    if held.dimensions == 4:
        return x if held.axis == 1 else x.movedim(1, -1)
    tokens = x.flatten(2).transpose(1, 2)
    if held.prefix and prefix is None:
        prefix = tokens.new_zeros(tokens.shape[0], held.prefix, tokens.shape[2])
    return tokens if prefix is None else torch.cat([prefix, tokens], dim=1)


@contextmanager
def _watched(
    backbone: StagedBackbone, entering: str = "", leaving: Iterable[str] = ()
) -> Iterator[Values]:
    """Inside the block, what a module receives and what others return is kept by their names."""
    kept: Values = {}

    def keep(name: str, x: Any) -> None:
        kept[name] = (x[0] if isinstance(x, tuple) else x).clone()

    modules = backbone.model.get_submodule
    handles = [
        modules(name).register_forward_hook(lambda _, __, y, name=name: keep(name, y))
        for name in leaving
    ]
    if entering:
        module = modules(entering)
        handles.append(module.register_forward_pre_hook(lambda _, args: keep(entering, args)))
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _entering(backbone: StagedBackbone, block: str, x: Tensor) -> Iterator[None]:
    """Inside the block a module receives `x` in place of what comes."""
    module = backbone.model.get_submodule(block)
    handle = module.register_forward_pre_hook(lambda _, args: (x, *args[1:]))
    try:
        yield
    finally:
        handle.remove()


def _blank(backbone: StagedBackbone, places: Places, image: Tensor) -> dict[int, Tensor]:
    """Zeros in the place of what each stage returns; what is made of them is not looked at."""
    return {
        stage: join(
            image.new_zeros(
                image.shape[0], channels, *_size(image.shape, places.strides[stage + 1])
            ),
            None,
            places.layouts[stage + 1],
        )
        for stage, channels in enumerate(backbone.channels)
    }


def backbone_pieces(backbone: StagedBackbone, values: Values) -> Iterator[Piece]:
    """The embedding and the stages, in order; what they make is put into `values`.

    Args:
        backbone: without a method.
        values: an example of an image.

    Raises:
        Uncut: see `Places.of`.
    """
    places, entry = Places.of(backbone), Entry(backbone)
    holder = nn.ModuleList([entry, backbone])

    # Nothing is cut short by an exception, which the tracer could not bear: stages that are not
    # asked for answer with zeros, and what comes of these is no part of the graph.
    def embed(given: Values) -> Values:
        pixels = entry(given[INPUT])
        blank = _blank(backbone, places, pixels)
        del blank[0]  # the first block may be called by what ends its stage
        with (
            answering(backbone, blank),
            _watched(backbone, places.first) as kept,
        ):
            backbone(pixels)
        return {PIXELS: pixels} | _named(0, kept[places.first], pixels.shape, places)

    def stage(given: Values, number: int) -> Values:
        x = given[f"{MAP}{number - 1}"]
        height, width = (side * places.strides[number - 1] for side in x.shape[-2:])
        image = x.new_zeros(x.shape[0], backbone.in_chans, height, width)
        before = join(x, given.get(f"{PREFIX}{number - 1}"), places.layouts[number - 1])
        blank = _blank(backbone, places, image)
        del blank[number - 1]
        blocks, end = places.blocks[number - 1], places.ends[number - 1]
        with ExitStack() as stack:
            if number == 1:
                stack.enter_context(_entering(backbone, places.first, before))
            else:
                blank[number - 2] = before
            stack.enter_context(answering(backbone, blank))
            kept = stack.enter_context(_watched(backbone, leaving=[*blocks, end]))
            backbone(image)
        found = _named(number, kept[end], image.shape, places)
        size = _size(image.shape, places.strides[number])
        for place, (block, held) in enumerate(blocks.items(), 1):
            found[f"{BLOCK}{number}_{place}"] = split(kept[block], held, size)[0].contiguous()
        return found

    yield _made(Piece("embed", embed, holder, values, [INPUT]), values)
    for number in range(1, len(places.ends) + 1):
        inputs = [f"{MAP}{number - 1}"]
        inputs += [name for name in (f"{PREFIX}{number - 1}",) if name in values]
        run = partial(stage, number=number)
        yield _made(Piece(f"stage{number}", run, holder, values, inputs), values)


def _made(piece: Piece, values: Values) -> Piece:
    values |= piece.made
    return piece


def _size(shape: torch.Size, stride: int) -> tuple[int, int]:
    return shape[-2] // stride, shape[-1] // stride


def _named(place: int, x: Tensor, shape: torch.Size, places: Places) -> Values:
    """Map and other tokens at a place; a copy, where what follows might work on it in place."""
    found, prefix = split(x, places.layouts[place], _size(shape, places.strides[place]))
    named = {f"{MAP}{place}": found.contiguous()}
    if prefix is not None:
        named[f"{PREFIX}{place}"] = prefix.contiguous()
    return named


def task_pieces(
    segmenter: Segmenter, values: Values, pieces: Callable[[str], Piece]
) -> Iterator[Piece]:
    """What a task puts in front of stages, as `between1` to `between4`, and its `head`, in order.

    Args:
        segmenter: whose method leaves the stages as they are.
        values: an example of an image.
        pieces: the pieces of the backbone by name, which run in between.

    Raises:
        Uncut: see `Places.of`; or the method does something else than a task can.
    """
    backbone = segmenter.backbone
    places = Places.of(backbone)
    model = backbone.model
    handed: list[str] = []  # names of the tensors that the method has handed on so far
    spec: Any = None  # and how they belong together

    def enter(given: Values, place: int, handed: list[str], spec: Any) -> None:
        height, width = given[f"{MAP}{place}"].shape[-2:]
        stride = places.strides[place]
        backbone.begin((height * stride, width * stride))
        if spec is not None:
            backbone.pass_state.update(pytree.tree_unflatten([given[n] for n in handed], spec))

    def between(given: Values, place: int, handed: list[str], spec: Any) -> Values:
        enter(given, place, handed, spec)
        x = given[f"{MAP}{place}"]
        raw = join(x, None, places.layouts[place])
        if place == 0:
            raw = _before(model.get_submodule(places.first), raw)
        else:
            raw = _after(model.get_submodule(places.ends[place - 1]), raw)
        changed, _ = split(raw, places.layouts[place], (x.shape[-2], x.shape[-1]))
        state, _ = _flat(backbone.pass_state)
        return {f"{MAP}{place}": changed.contiguous()} | state

    def head(given: Values, handed: list[str], spec: Any) -> Values:
        last = len(places.ends)
        enter(given, last, handed, spec)
        if PIXELS in given:
            backbone.change_images(given[PIXELS])
        for number, blocks in enumerate(places.blocks, 1):
            for place, (block, held) in enumerate(blocks.items(), 1):
                name = f"{BLOCK}{number}_{place}"
                if name in given:
                    _after(model.get_submodule(block), join(given[name], None, held))
        features = []
        for number, end in enumerate(places.ends, 1):
            x = given[f"{MAP}{number}"]
            if number == last or number - 1 not in backbone.boundaries:
                raw = _after(model.get_submodule(end), join(x, None, places.layouts[number]))
                x = split(raw, places.layouts[number], (x.shape[-2], x.shape[-1]))[0]
            features.append(x)
        logits = segmenter.decoder(backbone.change_features(features))
        height, width = (side * places.strides[1] for side in given[f"{MAP}1"].shape[-2:])
        return {OUTPUT: F.interpolate(logits, (height, width), mode="bilinear")}

    _run(pieces("embed"), values)
    for number in range(1, len(places.ends) + 1):
        touched = (
            bool(model.get_submodule(places.first)._forward_pre_hooks)
            if number == 1
            else number - 2 in backbone.boundaries
        )
        if touched:
            run = partial(between, place=number - 1, handed=handed, spec=spec)
            inputs = [f"{MAP}{number - 1}", *handed]
            piece = _made(Piece(f"between{number}", run, segmenter, values, inputs), values)
            state, spec = _flat(backbone.pass_state)
            handed = list(state)
            yield piece
        _run(pieces(f"stage{number}"), values)
    inputs = [PIXELS] if backbone.changes_images else []
    for number, blocks in enumerate(places.blocks, 1):
        inputs.append(f"{MAP}{number}")
        inputs += [
            f"{BLOCK}{number}_{place}"
            for place, block in enumerate(blocks, 1)
            if model.get_submodule(block)._forward_hooks
        ]
    run = partial(head, handed=handed, spec=spec)
    yield _made(Piece("head", run, segmenter, values, [*inputs, *handed]), values)


def _run(piece: Piece, values: Values) -> None:
    with torch.no_grad():
        values |= piece.run({name: values[name] for name in piece.inputs})


def _flat(state: Mapping[str, Any]) -> tuple[Values, Any]:
    """What a method hands on, as tensors by name, and how to put them together again.

    Raises:
        Uncut: there is something else than tensors in it.
    """
    paths, spec = pytree.tree_flatten_with_path(dict(state))
    named = {}
    for path, leaf in paths:
        if not isinstance(leaf, Tensor):
            raise Uncut(f"the method hands on {type(leaf).__name__}, which is no tensor")
        named["_".join([STATE, *(str(_key(key)) for key in path)])] = leaf
    return named, spec


def _key(key: Any) -> object:
    return key.key if isinstance(key, pytree.MappingKey) else getattr(key, "idx", key)


def _before(module: nn.Module, x: Tensor) -> Tensor:
    """What functions in front of a module make of its input."""
    for hook in module._forward_pre_hooks.values():
        changed: Any = hook(module, (x,))
        x = x if changed is None else changed[0]
    return x


def _after(module: nn.Module, y: Tensor) -> Tensor:
    """What functions behind a module make of its output."""
    for hook in module._forward_hooks.values():
        changed = hook(module, (y,), y)
        y = y if changed is None else changed
    return y

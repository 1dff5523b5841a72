"""Finds pretrained weights, says exactly what is missing, and builds backbones from them.

Order of the look-up: `<name>.safetensors`, else the only `<name>.<tag>.safetensors`, in each given
folder and then in the package's own; then timm's hub cache; then the hub. The metadata of a file
says how to build the model (`timm_model`, `timm_kwargs`) and how to normalise images (`mean`,
`std`); a plain timm state dict saved as safetensors works without metadata.
"""

import copy
import functools
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from benchmark.core.errors import UserError
from benchmark.core.files import file_sha256
from benchmark.models.backbone import StagedBackbone
from benchmark.models.checkpoint import load_checkpoint
from benchmark.models.find_weights import (
    cached_weights,
    check_names,
    find_weights,
    hub_config,
    is_timm,
    other_format,
)
from benchmark.models.stem import set_in_chans

HUB_PATIENCE_SECONDS = 5.0

Weights = Literal["pretrained", "none"]

_ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"strict_img_size": False, "dynamic_mask": True},
    {"strict_img_size": False},
    {"dynamic_img_size": True},
    {},
)
"""Arguments by which timm's classes accept images of any size; the first that fits is taken.

Swin's come first: older timm lets Swin swallow arguments that it does not know.
"""


@dataclass(frozen=True, eq=False)
class ResolvedWeights:
    """Where the weights of a backbone are, and how it is built from them.

    Attributes:
        name: of the backbone.
        origin: a weights `file`, timm's `hub`, or `random` values.
        path: the file on this disk; None where there is none (yet).
        timm_model: what timm builds.
        timm_kwargs: with which arguments.
        mean: of the images it was trained on; None = as timm says.
        std: of the same images; None = as timm says.
        missing: the error message if the hub fails.
    """

    name: str
    origin: Literal["file", "hub", "random"]
    path: Path | None
    timm_model: str
    timm_kwargs: Mapping[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    missing: str = ""

    def build(
        self, crop: int | None = None, in_chans: int = 3, again: bool = True
    ) -> StagedBackbone:
        """A backbone of its own, with `weights_source` and `weights_sha256` set.

        Args:
            crop: side of the images that it will see, where it takes images of one size only.
            in_chans: their channels.
            again: more will be built, so the process keeps what was read.

        Raises:
            UserError: the file is damaged or does not fit; the hub does not deliver; the model
                cannot be built for the crop, or its stem not adapted to the channels.
        """
        drawn = torch.random.get_rng_state()
        backbone = self._staged(None, in_chans, again)
        fixed = backbone.fixed_side
        if crop is None or fixed in (None, crop) or crop % backbone.divisor:
            return backbone
        # As if it were the first, so that random weights do not depend on how often it was built.
        torch.random.set_rng_state(drawn)
        try:
            return self._staged(crop, in_chans, again)
        except TypeError as error:
            raise UserError(
                f"backbone {self.name!r} takes {fixed}x{fixed} px images only; use --set "
                f"crop={fixed}"
            ) from error
        except (ValueError, RuntimeError, AssertionError) as error:
            raise UserError(
                f"backbone {self.name!r} cannot be built for crop={crop}: {_line(error)}; it was "
                f"made for --set crop={fixed}"
            ) from error

    def _staged(self, side: int | None, in_chans: int, again: bool) -> StagedBackbone:
        if self.origin != "random":
            if again:
                return copy.deepcopy(_loaded(self, side, in_chans))
            with torch.random.fork_rng(devices=[]):
                return self.load(side, in_chans)
        model = create_timm_model(self.timm_model, self._arguments(side))
        set_in_chans(model, in_chans, self.name)
        return StagedBackbone(
            model, name=self.name, mean=self.mean, std=self.std, side=side, in_chans=in_chans
        )

    def load(self, side: int | None, in_chans: int) -> StagedBackbone:
        """Reads the weights; `build` returns a copy of what this returned once."""
        model, done = self._read(side)
        set_in_chans(model, in_chans, self.name)
        backbone = StagedBackbone(
            model, name=self.name, mean=self.mean, std=self.std, side=side, in_chans=in_chans
        )
        path = self.path or cached_weights(self.name)
        backbone.weights_sha256 = None if path is None else file_sha256(path)
        if self.origin == "file" and path is not None:
            backbone.weights_source = f"{path.name} ({done})" if done else path.name
        else:
            tag = getattr(model, "pretrained_cfg", {}).get("tag")
            full_name = f"{self.name}.{tag}" if tag and "." not in self.name else self.name
            backbone.weights_source = f"timm hub: {full_name}"
        return backbone

    def whole(self, side: int | None = None, in_chans: int = 3) -> nn.Module:
        """The timm model with what comes after its last stage, but without classifier.

        Args:
            side: of the images where it is to be built for one size; None = as it was made.
            in_chans: their channels.

        Raises:
            UserError: see `build`.
        """
        if self.origin == "random":
            model = create_timm_model(self.timm_model, self._arguments(side))
        else:
            model, _ = self._read(side)
        set_in_chans(model, in_chans, self.name)
        return model

    def _read(self, side: int | None) -> tuple[nn.Module, str]:
        """The timm model with its weights, and what was done to their tensors."""
        if self.origin == "hub":
            return _from_hub(self, self._arguments(side)), ""
        assert self.path is not None
        model = create_timm_model(self.timm_model, self._arguments(side))
        return model, load_checkpoint(model, self.path)

    def recipe(self, side: int | None = None, in_chans: int = 3) -> dict[str, Any]:
        """The arguments, besides `num_classes=0`, with which `timm.create_model` makes `whole`."""
        channels = {} if in_chans == 3 else {"in_chans": in_chans}
        kwargs = self._arguments(side)
        with torch.device("meta"):
            _, any_size = _created(self.timm_model, kwargs)
        return {**any_size, **kwargs, **channels}

    def _arguments(self, side: int | None) -> dict[str, Any]:
        return {**self.timm_kwargs, **({} if side is None else {"img_size": side})}


def resolve_weights(name: str, weights: Weights, dirs: Sequence[Path]) -> ResolvedWeights:
    """Finds a backbone's weights, without building anything.

    Found once a process, for as long as the file keeps its size and time.

    Args:
        name: a timm model name, with or without tag, or the name of a weights file.
        weights: `pretrained`, or `none` for random ones drawn from torch's global generator.
        dirs: folders to look in first.

    Raises:
        UserError: unknown name, missing or unreadable weights.
    """
    path = find_weights(name, dirs)
    status = None if path is None else path.stat()
    version = status and (status.st_size, status.st_mtime_ns)
    return _resolved(name, weights, tuple(dirs), path, version)


@functools.lru_cache(maxsize=64)
def _resolved(
    name: str,
    weights: Weights,
    dirs: tuple[Path, ...],
    path: Path | None,
    version: tuple[int, int] | None,
) -> ResolvedWeights:
    check_names([name], dirs)
    if path is not None and (weights == "pretrained" or not is_timm(name)):
        return _from_file(path, name, "file" if weights == "pretrained" else "random")
    if weights == "none":
        # A timm name means timm's own definition, even if there are files of that name.
        return ResolvedWeights(name, "random", None, name)
    cached = cached_weights(name)
    if cached is None and not _hub_answers(name):
        raise UserError(_missing(name, dirs))
    return ResolvedWeights(name, "hub", cached, name, missing=_missing(name, dirs))


def build_backbone(
    name: str,
    weights: Weights,
    weights_dirs: Sequence[Path],
    crop: int | None = None,
    in_chans: int = 3,
) -> StagedBackbone:
    """Builds a frozen backbone; see `resolve_weights` and `ResolvedWeights.build`."""
    return resolve_weights(name, weights, weights_dirs).build(crop, in_chans)


@functools.lru_cache(maxsize=2)
def _loaded(weights: ResolvedWeights, side: int | None, in_chans: int) -> StagedBackbone:
    """The backbone with its weights, of which every cell gets a copy.

    The global generator is left alone: a copy draws nothing from it, and neither may the first.
    """
    with torch.random.fork_rng(devices=[]):
        return weights.load(side, in_chans)


def create_timm_model(name: str, kwargs: Mapping[str, Any], **more: Any) -> nn.Module:
    """A timm model without classifier, for any image size where its class can do that."""
    return _created(name, kwargs, **more)[0]


def _created(name: str, kwargs: Mapping[str, Any], **more: Any) -> tuple[nn.Module, dict[str, Any]]:
    """The model, and the arguments that its class took for images of any size."""
    for any_size in _ANY_SIZE:
        try:
            return (
                timm.create_model(name, num_classes=0, **{**any_size, **kwargs}, **more),
                any_size,
            )
        except TypeError as error:
            # Raised when the class is called, before it draws any random number.
            if not any(f"'{key}'" in str(error) for key in any_size):
                raise
    raise AssertionError("the last choice has no argument that a class could refuse")


def architecture(name: str) -> StagedBackbone:
    """A backbone for counting: without values, or with random ones where timm cannot do that."""
    try:
        with torch.device("meta"):
            return StagedBackbone(copy.deepcopy(_without_values(name)), name=name)
    except (RuntimeError, UserError):
        # Older releases read values while they build or run some models.
        return StagedBackbone(create_timm_model(name, {}), name=name)


@functools.lru_cache(maxsize=4)
def _without_values(name: str) -> nn.Module:
    # Building takes seconds, most of it for initial values that are never used; a copy does not.
    with torch.device("meta"):
        return create_timm_model(name, {})


def _from_file(path: Path, name: str, origin: Literal["file", "random"]) -> ResolvedWeights:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        kwargs = json.loads(metadata.get("timm_kwargs", "{}"))
        mean, std = (
            tuple(map(float, json.loads(metadata[key]))) if key in metadata else None
            for key in ("mean", "std")
        )
        timm_model = metadata.get("timm_model", name)
        result = ResolvedWeights(name, origin, path, timm_model, dict(kwargs), mean, std)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise UserError(f"weights file {path} cannot be read: {_line(error)}") from error
    if not timm.is_model(result.timm_model):
        raise UserError(
            f"weights file {path}: its metadata do not name a timm model "
            f"(timm_model = {result.timm_model!r})"
        )
    return result


def _from_hub(weights: ResolvedWeights, arguments: Mapping[str, Any]) -> nn.Module:
    # Reading the cached file by path keeps an offline machine from asking the hub first.
    overlay = {"pretrained_cfg_overlay": {"file": str(weights.path)}} if weights.path else {}
    try:
        return create_timm_model(weights.name, arguments, pretrained=True, **overlay)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{weights.missing} (the hub said: {_line(error)})") from error


def _hub_answers(name: str) -> bool:
    config = hub_config(name)
    if config is None or not (config.hf_hub_id or config.url):
        return False

    def ask() -> None:
        if config.hf_hub_id:
            from huggingface_hub import get_hf_file_metadata, hf_hub_url

            filename = config.hf_hub_filename or "model.safetensors"
            get_hf_file_metadata(hf_hub_url(config.hf_hub_id, filename), timeout=3)
        else:
            from urllib.request import Request, urlopen

            urlopen(Request(config.url, method="HEAD"), timeout=3).close()

    return _within(HUB_PATIENCE_SECONDS, ask)


def _within(seconds: float, ask: Callable[[], None]) -> bool:
    """Whether `ask` returned in time; a look-up of a host name has no time limit of its own."""
    answers: list[bool] = []

    def attempt() -> None:
        try:
            ask()
        except Exception:
            return
        answers.append(True)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answers)


def _missing(name: str, dirs: Sequence[Path]) -> str:
    if other := other_format(name, dirs):
        return f"no pretrained weights for backbone {name!r}: {other}"
    folders = ", ".join(str(d) for d in dirs) or "no folder (none given)"
    config = hub_config(name)
    looked = f"looked for {name}.safetensors or {name}.<tag>.safetensors in {folders}"
    add = (
        f"add --weights DIR, the folder that holds {name}.safetensors (or set BENCHMARK_WEIGHTS), "
        "or train on random weights with --weights none"
    )
    if config is None or not (config.hf_hub_id or config.url):
        return f"no pretrained weights for backbone {name!r}: {add}; {looked}, and timm offers none"
    once = (
        f'python -c "import timm, safetensors.torch as s; s.save_file(timm.create_model('
        f"'{name}', pretrained=True).state_dict(), '{name}.safetensors')\""
    )
    return (
        f"no pretrained weights for backbone {name!r}: {add}; {looked} and in timm's cache, and "
        f"the hub cannot be reached. A machine with network access makes the file by: {once}"
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

"""What a run is: protocol, suite and run specification, validated, immutable, hashed."""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from benchmark.core.errors import UserError, plain, shown

Weights = Literal["pretrained", "none"]
Attention = Literal["fused", "explicit"]


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def canonical_json(value: Any) -> str:
    """JSON with one spelling for one value, for hashing."""
    return _CANONICAL.encode(value)


def short_hash(value: Any) -> str:
    """Twelve hexadecimal digits of the SHA-256 of the canonical JSON."""
    return _digits(canonical_json(value))


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


_LATER = {
    *("schedule", "fraction", "views", "loss", "class_weights", "accumulate", "layer_decay"),
    *("ema", "val_every", "checkpoint", "tta", "weight_decay_on", "grad_clip_on"),
    "checkpoint_activations",
}


class Protocol(BaseModel):
    """Everything that is the same for all methods of a comparison."""

    # JSON has no infinity: a record with one could not be read back.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: int = Field(200, ge=1, description="optimiser steps")
    batch_size: int = Field(8, ge=1, description="images a step")
    crop: int = Field(160, ge=16, le=16384, description="side of the square training crop, px")
    decoder: str = Field("linear", description="segmentation decoder on the four levels")
    decoder_lr: float = Field(1e-2, gt=0, description="peak learning rate of the decoder")
    schedule: Literal["cosine", "poly"] = Field(
        "cosine", description="how the rate falls to 0: half a cosine, or a straight line"
    )
    weight_decay: float = Field(0.01, ge=0, description="AdamW weight decay")
    weight_decay_on: Literal["all", "weights"] = Field(
        "all", description="what decays: all of it, or not norms, biases, prompts and tokens"
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps with rising rate")
    grad_clip: float = Field(1.0, gt=0, description="largest gradient norm")
    grad_clip_on: Literal["all", "parts"] = Field(
        "all", description="clipped together, or what is in the backbone apart from the decoder"
    )
    loss: Literal["ce", "ce+dice", "focal", "lovasz"] = Field(
        "ce", description="cross-entropy, the same plus Dice, focal, or Lovász-softmax"
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: pixels of rare classes count more in ce and focal"
    )
    accumulate: int = Field(
        1, ge=1, description="parts that a batch passes in, one after the other, to save memory"
    )
    checkpoint_activations: Literal["off", "on"] = Field(
        "off", description="on: blocks are computed again on the way back, to save memory"
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="factor on the rate of pretrained layers, per block downwards"
    )
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay of the moving average of weights that is evaluated"
    )
    val_every: int = Field(
        0, ge=0, description="steps between evaluations of the validation split; 0 = none"
    )
    checkpoint: Literal["last", "best"] = Field(
        "last", description="weights that are evaluated; best = highest mIoU on validation"
    )
    scale_min: float = Field(0.75, gt=0, description="smallest random zoom of a crop")
    scale_max: float = Field(1.5, gt=0, description="largest random zoom of a crop")
    flip: bool = Field(True, description="mirror half of the crops left to right")
    fraction: float = Field(
        1.0, gt=0, le=1, description="share of the training images that is used"
    )
    views: int = Field(
        0,
        ge=0,
        description="fixed augmentations an image, the same for all runs; 0 = new ones",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="bf16 autocast where the hardware has it, or as named"
    )
    eval_split: Literal["test", "val"] = Field("test", description="split that is evaluated")
    eval_max_pixels: int = Field(
        1_500_000, ge=4096, description="largest image evaluated whole, px; else sliding window"
    )
    eval_window: int = Field(768, ge=32, description="side of the sliding window, px")
    tta: Literal["none", "flip"] = Field(
        "none", description="flip: average the logits of an image and of its mirror image"
    )

    @field_validator("checkpoint_activations", mode="before")
    @classmethod
    def _as_yaml_reads_it(cls, value: Any) -> Any:
        return ("off", "on")[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _consistent(self) -> "Protocol":
        if self.scale_min > self.scale_max:
            raise ValueError(
                f"scale_min={self.scale_min} is above scale_max={self.scale_max}; swap them"
            )
        if self.accumulate > self.batch_size:
            raise ValueError(
                f"accumulate={self.accumulate} is above batch_size={self.batch_size}; a part holds "
                "at least one image"
            )
        if self.class_weights != "none" and self.loss == "lovasz":
            raise ValueError("class_weights has no meaning for loss=lovasz; leave out one of them")
        if self.checkpoint == "best" and self.eval_split == "val":
            raise ValueError("checkpoint=best is chosen on val, so eval_split must be test")
        if self.checkpoint == "best" and not self.val_every:
            raise ValueError("checkpoint=best needs val_every, the steps between evaluations")
        if self.eval_window**2 > self.eval_max_pixels:
            raise ValueError(
                f"eval_window={self.eval_window} holds more than eval_max_pixels="
                f"{self.eval_max_pixels} pixels; lower eval_window or raise eval_max_pixels"
            )
        return self

    def shortened(self, steps: int, batch_size: int | None = None) -> "Protocol":
        """The same for a few steps that are not evaluated.

        Args:
            steps: how many.
            batch_size: images a step at most; None = as before.
        """
        images = min(self.batch_size, batch_size or self.batch_size)
        changes = {
            "steps": steps,
            "batch_size": images,
            "accumulate": min(self.accumulate, images),
            "val_every": 0,
            "checkpoint": "last",
        }
        return Protocol.model_validate(self.model_dump() | changes)

    @property
    def splits(self) -> tuple[Literal["train", "val", "test"], ...]:
        """The splits that a run reads, each once, `train` first."""
        validation: tuple[Literal["val"], ...] = ("val",) if self.val_every else ()
        return tuple(dict.fromkeys(("train", *validation, self.eval_split)))

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The fields that distinguish protocols.

        A field that came after records were published is left out while it has the value that
        means what was done before there was such a field: old records keep their identity.
        """
        fields = self.model_dump()
        return {
            name: value
            for name, value in fields.items()
            if name not in _LATER or value != Protocol.model_fields[name].default
        }

    @cached_property
    def canonical(self) -> str:
        """`identity` as canonical JSON; kept, because thousands of runs share one protocol."""
        return canonical_json(self.identity)

    @cached_property
    def hash(self) -> str:
        """Runs are ranked together only where this is equal."""
        return _digits(self.canonical)


class Suite(BaseModel):
    """A named selection of benchmarks and backbones with its protocol.

    Attributes:
        name: what users type.
        description: one line for people.
        benchmarks: names; empty = the sets that a user's plug-ins bring.
        backbones: timm names.
        candidates: instead of `backbones`: timm names, of which the first that has weights on this
            disk is used.
        methods: comma list, as `--methods` takes it.
        seeds: seeds to run.
        protocol: the same for all methods.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str = ""  # of its reports; empty: the name
    description: str
    benchmarks: tuple[str, ...]
    backbones: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    methods: str
    seeds: tuple[int, ...] = (0,)
    protocol: Protocol

    @model_validator(mode="after")
    def _one_choice(self) -> "Suite":
        if bool(self.backbones) == bool(self.candidates):
            raise ValueError("write either backbones or candidates")
        return self


class Tuning(BaseModel):
    """How the setting of a method was chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trials: int = Field(ge=1, description="settings that were tried")
    split: Literal["val"] = "val"
    benchmarks: tuple[str, ...]  # over which scores were averaged
    seeds: tuple[int, ...]
    protocol_hash: str  # of the trials


class RunSpec(BaseModel):
    """One cell: method x backbone x benchmark x seed under a protocol."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: str
    benchmark: str
    benchmark_version: str = ""
    backbone: str
    weights: Weights
    method: str
    method_label: str
    method_params: dict[str, Any]
    seed: int
    protocol: Protocol
    tuning: Tuning | None = None

    @cached_property
    def run_id(self) -> str:
        """Hash of everything that defines the run.

        Left out are the label, which is derived, and how the setting was chosen, which does not
        change what is computed.
        """
        texts = {
            name: canonical_json(getattr(self, name))
            for name in RunSpec.model_fields
            if name not in ("method_label", "protocol", "tuning")
        }
        if not self.benchmark_version:
            del texts["benchmark_version"]  # older than the field
        texts["protocol"] = self.protocol.canonical
        inner = ",".join(f'"{name}":{texts[name]}' for name in sorted(texts))
        return _digits("{" + inner + "}")

    @property
    def folder(self) -> Path:
        """Path of the run below the results folder; its names may hold any characters."""
        names = (self.suite, self.benchmark, self.backbone, self.method, self.run_id)
        return Path(*map(plain_name, names))


def plain_name(name: str) -> str:
    """A name as one component of a path that is not hidden and leads nowhere else."""
    return re.sub(r"^\.|[^\w.:+@=-]", "_", name)


def one_line(error: ValidationError, what: str) -> str:
    """The first problem of a pydantic error as `what field: problem (got value)`."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    problem = plain(first["msg"])
    if first["type"] == "value_error":
        return f"{what}: {problem}"
    return f"{what} {field}: {problem} (got {shown(first['input'])})"


def load_suites() -> dict[str, Suite]:
    """The suites that ship with the package, by name.

    A file may say `extends: NAME` and then gives only what differs.

    Raises:
        UserError: a suite file does not fit the schema.
    """
    suites = {}
    files = sorted((Path(__file__).parents[1] / "suites").glob("*.yaml"))
    read = {path.stem: yaml.safe_load(path.read_text()) for path in files}
    for path in files:
        own = read[path.stem]
        base = read.get(own.pop("extends", None), {"protocol": {}})
        protocol = base["protocol"] | own.get("protocol", {})
        content = base | own | {"protocol": protocol, "name": path.stem}
        try:
            suite = Suite.model_validate(content)
        except ValidationError as error:
            raise UserError(one_line(error, f"suite {path.name}")) from error
        suites[suite.name] = suite
    return suites


@dataclass(frozen=True)
class Compute:
    """How a run computes.

    Attributes:
        precision: fp32, or bf16 autocast.
        attention: of training: torch's fused kernel, or explicit products.
            Inference is as timm has it: forwards the fused kernel is the faster one.
        image_bytes: what a pass through the backbone keeps for the way back, an image; 0 where
            nothing was measured.
        model_bytes: of the backbone's parameters; 0 where nothing was measured.
    """

    precision: Literal["fp32", "bf16"]
    attention: Attention = "fused"
    image_bytes: int = 0
    model_bytes: int = 0

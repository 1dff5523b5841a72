"""Every tuner of the installed peft that can act on a timm backbone, as `peft:<tuner>`.

peft's registry says which tuners there are, their configurations say the hyperparameters and
their layer classes say what they accept; `FACTS` adds the rest. peft is imported when the first
of these methods is asked for.
"""

import contextlib
import importlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, make_dataclass
from typing import Any, ClassVar, Literal, cast, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from methods._tuner_table import FACTS, LEFT_OUT, Facts, Layers
from methods.base import METHODS, Backbone, Method, Unsupported
from methods.lora import (
    by_name,
    is_plain,
    merge_wrapped,
    pattern,
    quiet,
    require_wrapped,
    smaller_ranks,
    target_names,
    wrapped_layers,
)

_BOOKKEEPING = re.compile(
    r"fan_in_fan_out|layers_\w+|megatron_\w+|\w+_pattern|runtime_\w+|ensure_\w+|use_\w*[ld]ora\w*"
    r"|qalora_\w+|lora_bias|init_\w*weights|use_asa|asa_\w+|total_step|tinit|tfinal"
)
"""Settings of peft that are no hyperparameters here. Initial weights are not one because they
decide whether the first step starts from the frozen backbone."""

_FORCED = {"bias": "none", "save_projection": False, "progressbar": False}
"""Projections are drawn from a constant seed, so that `_apply` makes them again: no task has to
store them."""


_SHARED = "peft_"

_VECTORS = (
    *("beft_bias.", "boft_s.", "ia3_l.", "lora_magnitude_vector."),
    *("randlora_lambda.", "randlora_gamma."),
)
"""Scales and biases that peft keeps as matrices of one row or column."""


class PeftTuner(Method):
    """A tuner of peft on layers that are chosen by their role; its subclasses are generated.

    Attributes:
        targets: as of `lora`: `all` = qkv, proj, fc1, fc2, on CNNs also the dense convolutions
            after the stem, but only the linear ones of these where the tuner has no convolutions.
            `attention`, `mlp`, `qkv`, `conv`. A layer whose weight is used without a call is left
            out.

    """

    config_class: ClassVar[type[Any]]
    tuner_class: ClassVar[type[Any]]
    facts: ClassVar[Facts]
    accepted: ClassVar[tuple[type[nn.Module], ...]]

    def __post_init__(self) -> None:
        """A default above zero says that the field has to stay above zero; peft checks more."""
        super().__post_init__()
        for f in fields(self):
            if f.name.endswith("dropout"):
                self._require(f.name, 0 <= getattr(self, f.name) < 1, "in [0, 1)")
            elif isinstance(f.default, int) and not isinstance(f.default, bool) and f.default > 0:
                self._require(f.name, getattr(self, f.name) >= 1, "an integer of at least 1")
            elif isinstance(f.default, float) and f.default > 0:
                self._require(f.name, getattr(self, f.name) > 0, "greater than 0")
        try:
            self._config({})
        except (ValueError, TypeError, AssertionError) as error:
            raise ValueError(f"{self.name}: {_one_line(error)}") from error

    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        """Wraps the target layers in peft's."""
        self._inject(backbone)

    def count(self, backbone: Backbone, num_classes: int) -> int | None:
        """The sum over the target layers of what `Facts.count` says."""
        count = self.facts.count
        if count is None:
            return None
        return sum(count(self, name, *sides) for name, sides in self._layers(backbone).items())

    def without_weight_decay(self) -> tuple[str, ...]:
        """Scales and biases of more than one dimension."""
        return _VECTORS

    def merge(self, backbone: Backbone) -> None:
        """Calls what peft calls `merge` on every layer; the timm layers are back in place."""
        merge_wrapped(backbone)
        for name in [name for name in backbone.inserted if name.startswith(_SHARED)]:
            del backbone.inserted[name]

    def _inject(self, backbone: Backbone) -> Any:
        layers = self._layers(backbone)
        names = list(layers)
        config = self._config(layers)
        if hasattr(self, self.facts.rank):
            ranks = smaller_ranks(self, self.facts.rank, backbone, names)
            self._cap(config, ranks)
        try:
            with quiet(), _same_environment():
                tuner = self.tuner_class(backbone.model, config, "default")
        except (ValueError, NotImplementedError) as error:
            raise Unsupported(f"{self.name}: {_one_line(error)}") from error
        require_wrapped(backbone, names)
        for name, layer in wrapped_layers(backbone).items():
            if hasattr(layer, "lora_A") and not is_plain(layer.get_base_layer()):
                kind = type(layer.get_base_layer()).__name__
                raise Unsupported(
                    f"{self.name}: peft computes A beside {name} in another way than this {kind}, "
                    "which is dilated, pads as it goes or standardises its weight"
                )
        # What all layers share belongs to the tuner, which is no part of the model. A layer keeps a
        # plain reference to it, or the state dict would hold it once for every layer.
        for name, shared in tuner.named_children():
            if shared is backbone.model:
                continue
            backbone.insert(f"{_SHARED}{name}", shared)
            for layer in wrapped_layers(backbone).values():
                if layer._modules.get(name) is shared:
                    del layer._modules[name]
                    object.__setattr__(layer, name, shared)
        return tuner

    def _cap(self, config: Any, ranks: Mapping[str, int]) -> None:
        """Gives layers that are smaller than the default rank a smaller one, at the same scale.

        Raises:
            Unsupported: the tuner has one rank for all layers.

        """
        if not ranks:
            return
        field, name = self.facts.rank, min(ranks, key=ranks.__getitem__)
        rank = getattr(self, field)
        if field != "r" or not hasattr(config, "rank_pattern"):
            raise Unsupported(
                f"{self.name}: {field}={rank} is too large for {name}, and it has one rank for all "
                f"layers; use {self.name}[{field}={ranks[name]}]"
            )
        config.rank_pattern = by_name(ranks)
        for alpha in ("lora_alpha", "alpha"):
            if hasattr(config, alpha) and hasattr(config, "alpha_pattern"):
                scale = getattr(config, alpha) / rank
                config.alpha_pattern = by_name({name: scale * r for name, r in ranks.items()})

    def _layers(self, backbone: Backbone) -> Layers:
        model, layers = backbone.model, {}
        for name in target_names(self, backbone):
            module = model.get_submodule(name)
            if isinstance(module, self.accepted) and (
                module.bias is not None or not self.facts.needs_bias
            ):
                weight = cast(Tensor, module.weight)
                layers[name] = (weight.shape[0], weight[0].numel())
        if not layers:
            kinds = ", ".join(kind.__name__ for kind in self.accepted)
            raise Unsupported(
                f"{self.name}: tunes {kinds} layers"
                f"{' with a bias' if self.facts.needs_bias else ''}, {type(model).__name__} "
                f"has none for targets={getattr(self, 'targets')}"
            )
        return layers

    def _config(self, layers: Layers) -> Any:
        settings = {f.name: getattr(self, f.name) for f in fields(self)}
        del settings["targets"], settings["lr"]
        settings |= self.facts.fixed
        settings |= {
            f.name: _FORCED[f.name] for f in fields(self.config_class) if f.name in _FORCED
        }
        if layers:
            settings |= self.facts.fit(self, layers)
        with quiet():
            return self.config_class(target_modules=pattern(layers), **settings)


_SCORES = ("ipt", "exp_avg_ipt", "exp_avg_unc")
"""What peft's rank allocator of AdaLoRA keeps of the past, by the name of the parameter."""


class AdaLoRATuner(PeftTuner):
    """y = W x + (alpha / r) B diag(E) A x, with fewer and fewer entries of E that are not zero.

    A step's importance of an entry is |weight x gradient| of it and of its row of A and column of
    B. During the first tenth of the steps all ranks stay; then the budget falls from `init_r` to
    `target_r` per layer on average, by the third power of the rest; in the last three tenths it
    is fixed. A and B are drawn towards orthogonality:

        loss = orth_reg_weight * mean over A and B of |A A' - I|, |B' B - I|  (Frobenius)
    """

    orth_reg_weight: float

    def __post_init__(self) -> None:
        super().__post_init__()
        target, initial = getattr(self, "target_r"), getattr(self, "init_r")
        self._require("target_r", target < initial, f"less than init_r={initial}")

    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        """Wraps the target layers in peft's; the tuner, which knows the ranks, stays beside."""
        object.__setattr__(backbone.model, "adalora", self._inject(backbone))

    def auxiliary_loss(self, backbone: Backbone, labels: Tensor) -> Tensor:
        """The orthogonality loss; 0 where no pixel has a label."""
        terms = []
        for name, weight in backbone.model.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                gram = weight @ weight.T if "lora_A" in name else weight.T @ weight
                terms.append(torch.linalg.norm(gram - torch.eye(len(gram)).to(gram)))
        return self.orth_reg_weight * torch.stack(terms).mean() * (labels != 255).any()

    def after_step(self, backbone: Backbone, step: int, steps: int) -> None:
        """Scores the entries and sets the least important ones to zero."""
        tuner = cast(Any, backbone.model).adalora
        config = tuner.peft_config["default"]
        config.total_step, config.tinit, config.tfinal = steps, steps // 10, 3 * steps // 10
        # Before there are two steps with a budget, no entry has a score.
        if steps - config.tfinal >= 2:
            tuner.update_and_allocate(step)

    def state_dict(self, backbone: Backbone) -> dict[str, Any]:
        """The running scores of the entries, and the ranks once they are fixed."""
        tuner = cast(Any, backbone.model).adalora
        scores = {name: dict(getattr(tuner.rankallocator, name)) for name in _SCORES}
        return {"scores": scores, "ranks": tuner.peft_config["default"].rank_pattern}

    def load_state_dict(self, backbone: Backbone, state: Mapping[str, Any]) -> None:
        """See `Method.load_state_dict`."""
        tuner = cast(Any, backbone.model).adalora
        for name, values in state["scores"].items():
            device = next(cast(Any, backbone.model).parameters()).device
            setattr(tuner.rankallocator, name, {k: v.to(device) for k, v in values.items()})
        tuner.peft_config["default"].rank_pattern = state["ranks"]


@contextlib.contextmanager
def _same_environment() -> Iterator[None]:
    """Puts environment variables back; peft's BOFT leaves `CXX` set where no extension builds."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _fields(config_class: type[Any], facts: Facts) -> list[tuple[str, Any, Any]]:
    """(name, type, default) of the hyperparameters of a configuration of peft."""
    from peft import PeftConfig

    base = {f.name for f in fields(PeftConfig)}
    hints: dict[str, Any] = {}
    with contextlib.suppress(NameError, TypeError):
        hints = get_type_hints(config_class)
    found = []
    for f in fields(config_class):
        default = facts.defaults.get(f.name, f.default)
        if (
            type(default) in (bool, int, float, str)
            and f.name not in {*base, *facts.fixed, *_FORCED, "projection_prng_key"}
            and not f.name.endswith("seed")
            and not _BOOKKEEPING.fullmatch(f.name)
        ):
            hint = hints.get(f.name)
            found.append((f.name, hint if get_origin(hint) is Literal else type(default), default))
    return found


def _load() -> None:
    """Registers a method for every tuner that wraps layers and for every setting in `FACTS`."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
    from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer

    tuners = {
        str(getattr(kind, "value", kind)).lower(): (PEFT_TYPE_TO_CONFIG_MAPPING[kind], tuner)
        for kind, tuner in PEFT_TYPE_TO_TUNER_MAPPING.items()
        if issubclass(tuner, BaseTuner)
    }
    for name in sorted({*tuners, *FACTS} - set(LEFT_OUT)):
        facts = FACTS.get(name, Facts())
        if (facts.tuner or name) not in tuners:
            continue  # An older peft.
        config_class, tuner_class = tuners[facts.tuner or name]
        try:
            config_class(target_modules="-", **facts.fixed)
        except ImportError:
            continue  # It needs a package that is not installed.
        module = importlib.import_module(tuner_class.__module__.rpartition(".")[0] + ".layer")
        classes = [
            c
            for c in vars(module).values()
            if isinstance(c, type) and issubclass(c, BaseTunerLayer)
        ]
        convolutions = any("Conv2d" in c.__name__ for c in classes)
        merges = any(cast(Any, c).merge is not BaseTunerLayer.merge for c in classes)
        reference = facts.reference or f"peft {config_class.__name__}"
        METHODS.add(
            f"peft:{name}",
            make_dataclass(
                f"Peft_{name}",
                [
                    *_fields(config_class, facts),
                    ("targets", facts.targets, get_args(facts.targets)[0]),
                    ("lr", float, 3e-3),
                ],
                bases=(AdaLoRATuner if name == "adalora" else PeftTuner,),
                frozen=True,
                kw_only=True,
                namespace={
                    "__module__": __name__,
                    "__doc__": f"{reference}, through peft's {tuner_class.__name__}.",
                    "config_class": config_class,
                    "tuner_class": tuner_class,
                    "facts": facts,
                    "accepted": facts.layers
                    or ((nn.Linear, nn.Conv2d) if convolutions else (nn.Linear,)),
                    "supports": facts.supports,
                    "mergeable": merges and facts.mergeable,
                    "identity_at_init": facts.identity,
                    "reference": reference,
                },
            ),
        )


METHODS.add_family("peft:", _load)

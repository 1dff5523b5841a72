"""The contract between a tuning method and the backbone that it tunes.

A method sees a backbone only through the `Backbone` protocol below, so this package works on any
timm model that satisfies it and imports nothing from the harness.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Protocol, TypeVar, get_args, get_origin, get_type_hints

from torch import Tensor, nn

Kind = Literal["plain", "hierarchical", "cnn"]
"""plain: ViT-like, one resolution. hierarchical: transformer with stages (Swin). cnn: the rest.

A transformer computes attention in half of its blocks or more."""

Role = Literal["block", "qkv", "proj", "fc1", "fc2", "mlp", "attention", "conv", "norm", "biased"]
"""What a module does in a backbone. `qkv`: layers of attention before its first product, fused or
apart, gates too. `proj`: those after its last. `fc1`, `fc2`: of an MLP; a gated one has two `fc1`.
`conv`: dense (groups = 1) convolutions after the stem, but for those of the roles before.
`biased`: all linear layers, convolutions and norms with a bias."""

ALL_KINDS: frozenset[Kind] = frozenset(("plain", "hierarchical", "cnn"))


class Unsupported(Exception):
    """The method cannot act on this backbone; the message is the reason, on one line."""


@dataclass(frozen=True)
class Branch:
    """A residual branch of a block, x + end(part(norm(x))).

    Attributes:
        block: name of the block.
        stage: its stage, 0..3.
        part: what the branch computes; a ConvNeXt block is one branch, its MLP.
        width: channels.
        start: name of the module whose input is x.
        norm: name of the module whose output the part receives.
        end: name of the module whose output is added to x.

    """

    block: str
    stage: int
    part: Literal["attention", "mlp"]
    width: int
    start: str
    norm: str
    end: str


class Backbone(Protocol):
    """What a method may know of a backbone and do to it.

    Functions that a method attaches with `beside`, `behind` and `after_block` get and return
    tensors with the channels last, (N, H, W, C) or (N, tokens, C), for every layout of the model;
    `to_map` turns these into maps.

    Attributes:
        kind: family of the architecture.
        model: the timm model; its parameters are frozen when a method receives it.
        in_chans: channels of the images; 3 for RGB.
        channels: channels of the outputs of the stages, of which there are four at most.
        strides: strides of the outputs of the stages, in input pixels.
        embedding_channels: channels of the embedding, the input of the first stage.
        prefix_tokens: tokens before the patch tokens (class, registers); 0 where there are none.
        inserted: modules that a method put in; part of what is trained and stored.
        pass_state: what a method's functions hand to one another within a forward pass, such as a
            map that one boundary makes and the next one uses. Empty when a pass begins; kept after
            it, for `Method.auxiliary_loss`.

    """

    kind: Kind
    model: nn.Module
    in_chans: int
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    embedding_channels: int
    prefix_tokens: int
    inserted: nn.ModuleDict
    pass_state: dict[str, Any]

    def names(self, role: Role) -> list[str]:
        """Dotted names (inside `model`) of the modules with a role, in forward order."""

    def stage_blocks(self) -> tuple[tuple[str, ...], ...]:
        """Names of the blocks of each stage, in forward order."""

    def width(self, block: str) -> int:
        """Channels of the output of a block (they may differ inside a stage)."""

    def branches(self) -> tuple[Branch, ...]:
        """Residual branches with a norm in front, in forward order; empty where there are none."""

    def insert(self, name: str, module: nn.Module) -> nn.Module:
        """Registers a trainable module under `inserted[name]` and returns it."""

    def on_images(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Calls `fn` on the images (N, C, H, W); it may pad them by multiples of the strides."""

    def on_features(self, fn: Callable[[list[Tensor]], list[Tensor]]) -> None:
        """Calls `fn` on the maps that the decoder will see; the stages do not see them."""

    def before(self, target: str, fn: Callable[[Tensor], Tensor]) -> None:
        """Calls `fn(x) -> x` on the input of the module named `target`."""

    def after(self, target: str, fn: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Calls `fn(x, y) -> y` on the input and output of the module named `target`."""

    def around(self, target: str, fn: Callable[..., Tensor]) -> None:
        """Calls `fn(forward, *args)` in place of `forward(*args)` of the module named `target`."""

    def beside(self, branch: Branch, fn: Callable[[Tensor], Tensor]) -> None:
        """Adds `fn(h)` to what a branch returns; h is what its part receives from the norm."""

    def behind(self, branch: Branch, fn: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Calls `fn(y, x) -> y` on what a branch returns; y is added to the residual x after."""

    def after_block(self, block: str, fn: Callable[[Tensor], Tensor]) -> None:
        """Calls `fn(y) -> y` on the output of a block."""

    def at_boundary(self, stage: int, fn: Callable[[Tensor], Tensor]) -> None:
        """Calls `fn` on the output of stage 0..3 as a map (N, C, H, W); prefix tokens bypass it.

        The next stage and the decoder both see what `fn` returns. Stage modules stay untouched.
        """

    def at_embedding(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Calls `fn` on the embedding as a map (N, C, H, W); prefix tokens bypass it.

        The embedding is what the first stage receives: patches with their positions in a
        transformer, the output of the stem in a CNN. Stage modules stay untouched.

        Raises:
            Unsupported: the first stage of this model does not receive a map.

        """

    def to_map(self, stage: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Splits (N, H, W, C) or (N, tokens, C) of a stage into a map and its prefix tokens.

        Returns:
            (N, C, H, W) and (N, P, C); P is 0 where the model has no prefix tokens.

        """

    def from_map(self, x: Tensor, prefix: Tensor, like: Tensor) -> Tensor:
        """The inverse of `to_map`, for a tensor with the dimensions of `like`."""

    def release(self) -> None:
        """Takes out every inserted module and every function that was attached."""


class TrainingData(Protocol):
    """What a method may know of the images that it is trained on."""

    def class_frequencies(self) -> Tensor:
        """Shares (K,) of the classes among the labelled pixels; float32, they sum to 1."""


_RENAMED = {"apply": "_apply", "memory": "state_dict", "remember": "load_state_dict"}
"""Former name of a hook -> its name now."""


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A tuning method; its dataclass fields are its hyperparameters.

    A method holds no tensors: what it trains lives in the backbone, so that one instance can be
    applied to any number of backbones. A method that trains something in the backbone has a field
    `lr`, the learning rate of that something (the decoder's rate is the protocol's).

    Class attributes:
        name: what users type; set by `register`.
        supports: kinds of backbone it can act on.
        keeps_structure: the modules of the frozen stages stay as they are (nothing inside a stage
            is replaced, wrapped or fed extra tokens).
        mergeable: what it learns can be folded into the backbone's weights.
        identity_at_init: before the first step the tuned backbone equals the frozen one.
        reference: paper or text that defines it.
        tunes: one or two fields besides `lr` that `tune` varies, with the values that it tries.
    """

    name: ClassVar[str] = ""
    supports: ClassVar[frozenset[Kind]] = ALL_KINDS
    keeps_structure: ClassVar[bool] = False
    mergeable: ClassVar[bool] = False
    identity_at_init: ClassVar[bool] = True
    reference: ClassVar[str] = ""
    tunes: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    def __post_init__(self) -> None:
        """Checks what the types say: a `Literal` field, a positive `lr`. Subclasses add ranges."""
        hints = get_type_hints(type(self))
        for field in fields(self):
            if get_origin(hints[field.name]) is Literal:
                allowed = get_args(hints[field.name])
                wanted = f"one of {', '.join(map(str, allowed))}"
                self._require(field.name, getattr(self, field.name) in allowed, wanted)
        if hasattr(self, "lr"):
            self._require("lr", 0 < getattr(self, "lr") < float("inf"), "greater than 0 and finite")

    def _require(self, field: str, holds: bool, allowed: str) -> None:
        """Raises ValueError, naming the field and what is allowed, where `holds` is false."""
        if not holds:
            raise ValueError(
                f"{self.name}: {field} must be {allowed}, not {getattr(self, field)!r}"
            )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuses a class that overrides a hook by its former name, which nothing calls any more.

        Raises:
            TypeError: it names the hook of today.

        """
        super().__init_subclass__(**kwargs)
        for old, new in _RENAMED.items():
            if old in vars(cls) and new not in vars(cls):
                raise TypeError(f"{cls.__name__}: rename its method `{old}` to `{new}`")

    def apply(self, backbone: Backbone, num_classes: int) -> None:
        """Applies the method to a backbone, and checks what every method has to keep.

        Args:
            backbone: a frozen backbone; changed in place.
            num_classes: classes K of the task.

        Raises:
            Unsupported: the method cannot act on this backbone.
            ValueError: a hyperparameter does not fit this backbone, or nothing would be trained.

        """
        self.require_kind(backbone)
        self._apply(backbone, num_classes)
        trained = (*backbone.model.parameters(), *backbone.inserted.parameters())
        if hasattr(self, "lr") and not any(p.requires_grad for p in trained):
            raise ValueError(
                f"{self.name} trains nothing in {type(backbone.model).__name__}; its `_apply` must "
                "leave requires_grad on what is trained"
            )

    @abstractmethod
    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        """What a method overrides: inserts modules and leaves `requires_grad` on what is trained.

        Args:
            backbone: a frozen backbone of a kind in `supports`; changed in place.
            num_classes: classes K of the task.

        Raises:
            Unsupported: the method cannot act on this backbone.
            ValueError: a hyperparameter does not fit this backbone.

        """

    def count(self, backbone: Backbone, num_classes: int) -> int | None:
        """Parameters that `_apply` will train, by the formula in the docstring.

        Args:
            backbone: one that no method was applied to.
            num_classes: classes K of the task.

        Returns:
            The number; None where no formula is known.

        """
        return None

    def before_training(self, backbone: Backbone, data: TrainingData) -> None:
        """Runs once before the first step of a training, also of one that is resumed.

        It does not run where a trained model is loaded: what has to be known then is kept in
        buffers of inserted modules, which are stored with the rest and are what `_apply` made them
        where nothing is known of the data.

        Args:
            backbone: the backbone this method was applied to.
            data: of the run; what is not used is not computed.

        """
        return None

    def without_gradient(self) -> tuple[str, ...]:
        """Parts of names of trained tensors that these settings leave without a gradient."""
        return ()

    def without_weight_decay(self) -> tuple[str, ...]:
        """Parts of names of trained tensors that are prompts, tokens or scales.

        They do not decay where the protocol says `weight_decay_on=weights`. Tensors of at most one
        dimension (norms, biases) need not be named.
        """
        return ()

    def auxiliary_loss(self, backbone: Backbone, labels: Tensor) -> Tensor | None:
        """Loss to add to the segmentation loss after a training forward pass; None for none.

        Args:
            backbone: the backbone this method was applied to.
            labels: (N, H, W) int64, 255 = ignored.

        """
        return None

    def after_step(self, backbone: Backbone, step: int, steps: int) -> None:
        """Runs after optimiser step `step` (from 1) of `steps`; gradients are still there."""
        return None

    def state_dict(self, backbone: Backbone) -> dict[str, Any]:
        """What `after_step` keeps between steps besides parameters and buffers.

        Tensors and plain values, also nested; an interrupted training is resumed with it.
        """
        return {}

    def load_state_dict(self, backbone: Backbone, state: Mapping[str, Any]) -> None:
        """Takes back what `state_dict` returned."""
        return None

    def merge(self, backbone: Backbone) -> None:
        """Folds what was learnt into the backbone's weights, in place; only where `mergeable`.

        Afterwards the backbone computes the same with the frozen architecture and nothing is
        inserted. For inference.
        """
        raise NotImplementedError(f"{self.name} cannot be merged into the backbone")

    def parameter_groups(self, backbone: nn.Module) -> list[dict[str, Any]]:
        """Optimizer groups of what is trained in the backbone; by default one, at `self.lr`."""
        trained = [p for p in backbone.parameters() if p.requires_grad]
        return [{"params": trained, "lr": getattr(self, "lr")}] if trained else []

    def require_kind(self, backbone: Backbone) -> None:
        """Raises `Unsupported` where the backbone's kind is not one of `supports`."""
        if backbone.kind not in self.supports:
            raise Unsupported(
                f"{self.name} works on {' and '.join(sorted(self.supports))} backbones, "
                f"not on a {backbone.kind} one"
            )


class Methods(Mapping[str, "type[Method]"]):
    """Registered methods by name; a family of them is loaded when one is asked for."""

    def __init__(self) -> None:
        self._loaded: dict[str, type[Method]] = {}
        self._families: dict[str, Callable[[], None]] = {}
        self._prefixes: list[str] = []

    def add(self, name: str, cls: "type[Method]") -> None:
        """Makes a method selectable.

        Raises:
            ValueError: the name is taken.

        """
        if name in self._loaded:
            raise ValueError(f"method {name!r} is registered twice")
        cls.name = name
        self._loaded[name] = cls

    def add_family(self, prefix: str, load: Callable[[], None]) -> None:
        """`load` registers every method whose name starts with `prefix`; called at most once."""
        self._families[prefix] = load
        self._prefixes.append(prefix)

    def families(self) -> list[str]:
        """Prefixes of the families, loaded or not."""
        return list(self._prefixes)

    def loaded(self) -> dict[str, "type[Method]"]:
        """Those registered so far, without the families that are not loaded yet."""
        return dict(self._loaded)

    def __getitem__(self, name: str) -> "type[Method]":
        self._load([prefix for prefix in self._families if name.startswith(prefix)])
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        self._load(list(self._families))
        return iter(list(self._loaded))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _load(self, prefixes: list[str]) -> None:
        for prefix in prefixes:
            self._families.pop(prefix)()


METHODS = Methods()

M = TypeVar("M", bound=type[Method])


def register(name: str) -> Callable[[M], M]:
    """Class decorator: makes a method selectable under `name`."""

    def add(cls: M) -> M:
        METHODS.add(name, cls)
        return cls

    return add

"""The contract of `methods.Method`, one check a function, on a small random backbone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial

import torch
from safetensors.torch import load, save
from torch import Tensor

from benchmark.contract.models import (
    CLASSES,
    KINDS,
    Unequal,
    batch,
    loss_of,
    tiny,
    tiny_segmenter,
    train_steps,
)
from benchmark.core.errors import on_one_line
from benchmark.core.record import Params
from benchmark.engine.losses import segmentation_loss
from benchmark.models.decoders.linear import LinearDecoder
from benchmark.models.delta import (
    changed_buffers,
    count_parameters,
    delta,
    frozen_hash,
    load_delta,
    snapshot,
)
from benchmark.models.segmenter import Segmenter
from benchmark.planning.catalogue import DECODERS
from methods.base import Method, Unsupported


@dataclass
class Trained:
    """A tuned segmenter after three steps, and what was seen on the way."""

    segmenter: Segmenter
    leaves_others: bool
    counts: Params
    each_once: bool
    silent: list[str]
    frozen: tuple[str, str]
    stored: dict[str, Tensor]
    changed_buffers: int


@dataclass
class Case:
    """One method on one small backbone; the checks share what it builds.

    Attributes:
        method: any method.
        family: a key of `FAMILIES`.

    """

    method: Method
    family: str

    def fresh(self, drawn: int = 1) -> Segmenter:
        """The method on a new backbone, always the same one; its own draws come from `drawn`.

        Raises:
            Unsupported: the method cannot act on it.

        """
        return tiny_segmenter(self.family, self.method, drawn=drawn)

    @cached_property
    def untrained(self) -> Segmenter:
        """One that no check trains, in evaluation mode."""
        return self.fresh().eval()

    @cached_property
    def at_start(self) -> list[Tensor]:
        """Features of the untrained one, before any other is trained."""
        with torch.no_grad():
            return self.untrained.backbone(batch()[0])

    @cached_property
    def trained(self) -> Trained:
        """Three training steps, in train mode."""
        another = self.at_start
        with torch.random.fork_rng():
            backbone = tiny(self.family)
            pristine = snapshot(backbone)
            torch.manual_seed(1)
            self.method.apply(backbone, CLASSES)
            self.method.before_training(backbone, Unequal())
            torch.manual_seed(2)
            decoder = LinearDecoder(backbone.channels, backbone.strides, CLASSES)
            segmenter = Segmenter(backbone, decoder)
            groups = self.method.parameter_groups(backbone)
            grouped = [id(p) for group in groups for p in group["params"]]
            trainable = [id(p) for p in backbone.parameters() if p.requires_grad]
            before = frozen_hash(backbone)
            train_steps(segmenter, self.method, 2)
            silent = [
                name
                for name, p in segmenter.named_parameters()
                if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)
            ]
            train_steps(segmenter, self.method, 1)
        with torch.no_grad():
            now = self.untrained.backbone(batch()[0])
        return Trained(
            segmenter=segmenter.eval(),
            leaves_others=all(map(torch.equal, now, another)),
            counts=count_parameters(segmenter, pristine),
            each_once=sorted(grouped) == sorted(trainable),
            silent=silent,
            frozen=(before, frozen_hash(backbone)),
            stored=delta(segmenter, pristine),
            changed_buffers=changed_buffers(segmenter, pristine),
        )


class Unclaimed(Exception):
    """The method does not promise what a check is about."""


Check = Callable[[Case], None]

CHECKS: dict[str, Check] = {}
"""Title -> function that raises AssertionError where the promise is broken."""


def check(title: str) -> Callable[[Check], Check]:
    """Registers a check."""

    def add(function: Check) -> Check:
        CHECKS[title] = function
        return function

    return add


@lru_cache(maxsize=16)
def frozen_features(family: str) -> tuple[Tensor, ...]:
    """Features of the untouched backbone for a batch, which is not square."""
    with torch.no_grad():
        return tuple(tiny(family)(batch()[0]))


@check("same at start")
def starts_as_declared(case: Case) -> None:
    """Before the first step it equals the frozen backbone, or differs where it says so."""
    before, after = frozen_features(case.family), case.at_start
    shapes = [tuple(feature.shape) for feature in after]
    assert shapes == [tuple(feature.shape) for feature in before], f"features become {shapes}"
    equal = all(
        torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(before, after, strict=True)
    )
    declared = case.method.identity_at_init
    assert equal == declared, (
        f"identity_at_init is {declared}, but the features {'are' if equal else 'are not'} equal"
    )


@check("declared parameters")
def trains_what_it_declares(case: Case) -> None:
    """`parameter_groups` holds every trainable parameter of the backbone, once."""
    assert case.trained.each_once, (
        "parameter_groups must hold each parameter that requires gradients once, and no other"
    )


@check("count by formula")
def counts_as_by_formula(case: Case) -> None:
    """`count` gives what `_apply` trains."""
    wanted = case.method.count(tiny(case.family), CLASSES)
    if wanted is None:
        raise Unclaimed
    found = case.trained.counts.inserted + case.trained.counts.tuned_backbone
    assert wanted == found, f"count gives {wanted}, but {found} are trained"


@check("every tensor learns")
def everything_learns(case: Case) -> None:
    """After two steps every trainable tensor has had a gradient, except the declared ones."""
    excused = case.method.without_gradient()
    silent = [n for n in case.trained.silent if not any(part in n for part in excused)]
    assert not silent, f"no gradient reaches {', '.join(silent[:3])}"


@check("frozen stays frozen")
def frozen_stays_frozen(case: Case) -> None:
    """Frozen parameters and buffers are the same bits after training in train mode."""
    before, after = case.trained.frozen
    assert before == after, "a frozen parameter or buffer has changed"
    if not case.trained.counts.tuned_backbone:
        assert not case.trained.changed_buffers, "a buffer of the frozen backbone has changed"


@check("delta restores")
def delta_restores(case: Case) -> None:
    """The stored tensors on a fresh backbone give the same logits, bit for bit.

    The fresh method draws other random numbers: what it does not store must not depend on them.
    """
    trained, fresh = case.trained, case.fresh(drawn=7)
    numbers = sum(tensor.numel() for tensor in trained.stored.values())
    assert numbers >= trained.counts.inserted + trained.counts.decoder, (
        "the delta lacks a trained tensor"
    )
    for parameter in fresh.decoder.parameters():
        torch.nn.init.zeros_(parameter)
    load_delta(fresh, load(save(trained.stored)))
    images, _ = batch((96, 64), seed=1)
    with torch.no_grad():
        same = torch.equal(fresh.eval()(images), trained.segmenter(images))
    assert same, "the delta on a fresh backbone gives other logits"


@check("shares nothing")
def shares_nothing(case: Case) -> None:
    """Training one backbone leaves another of the same method as it was."""
    first, second = case.trained.segmenter, case.untrained
    shared = {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}
    assert not shared, f"two backbones share {len(shared)} parameters"
    assert case.trained.leaves_others, "training one backbone changed the other"


@check("bf16 autocast")
def trains_in_bf16(case: Case) -> None:
    """Forward and backward run under bf16 autocast with a finite loss."""
    segmenter = case.fresh().train()
    images, labels = batch((32, 64))  # many processors have no units for bf16
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(segmenter, case.method, images, labels)
    loss.backward()
    assert torch.isfinite(loss), f"the loss is {loss.item()}"
    gradients = [p.grad for p in segmenter.parameters() if p.grad is not None]
    assert all(torch.isfinite(g).all() for g in gradients), "a gradient is not finite"


@check("loss falls")
def loss_falls(case: Case) -> None:
    """Twelve steps on one batch lower the loss; the decoder is frozen if the method trains."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        segmenter = case.fresh()
        if hasattr(case.method, "lr"):
            segmenter.decoder.requires_grad_(False)
        images, labels = batch()
        first = loss_of(segmenter.train(), case.method, images, labels).item()
        last = train_steps(segmenter, case.method, 12)
    assert last < first, f"the loss went from {first:.3f} to {last:.3f} in 12 steps"


@check("blocks unchanged")
def keeps_structure(case: Case) -> None:
    """The blocks of each stage compute, and pass on to each other, what the frozen ones do.

    With tuned values drawn at random, each block is called again in an untouched backbone.
    """
    if not case.method.keeps_structure:
        raise Unclaimed
    backbone, frozen = tiny(case.family), tiny(case.family)
    entering: dict[str, Tensor] = {}
    leaving: dict[str, Tensor] = {}

    # Hooks run in the order of their registration: these see what no hook of a method has touched.
    def enter(x: Tensor, name: str) -> Tensor:
        return entering.setdefault(name, x)

    def leave(_: Tensor, y: Tensor, name: str) -> Tensor:
        return leaving.setdefault(name, y)

    blocks = [name for stage in backbone.stage_blocks() for name in stage]
    for name in blocks:
        backbone.before(name, partial(enter, name=name))
        backbone.after(name, partial(leave, name=name))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(4)
        case.method.apply(backbone, CLASSES)
        # A method may change the embedding: the first stage computes on what it made of it.
        backbone.before(blocks[0], partial(enter, name="changed"))
        for parameter in backbone.inserted.parameters():
            parameter.normal_(0, 0.3)
        backbone(batch()[0])
        embedding, entering[blocks[0]] = entering[blocks[0]], entering["changed"]
        assert embedding.shape == entering[blocks[0]].shape, (
            f"the input of {blocks[0]} has another shape"
        )
        for stage in backbone.stage_blocks():
            for name, following in zip(stage, (*stage[1:], ""), strict=True):
                block = frozen.model.get_submodule(name)
                same = torch.equal(block(entering[name]), leaving[name])
                assert same, f"the output of {name} differs from that of the frozen block"
                handed = not following or torch.equal(entering[following], leaving[name])
                assert handed, f"{following} does not receive what {name} returns"


@check("torch.compile")
def compiles(case: Case) -> None:
    """`torch.compile` (its tracing, not its code generation) gives the same logits.

    On one family of each kind: it takes seconds.
    """
    if case.family not in KINDS:
        raise Unclaimed
    segmenter = case.untrained
    images, _ = batch()
    with torch.no_grad():
        expected = segmenter(images)
        torch._dynamo.reset()
        found = torch.compile(segmenter, backend="eager")(images)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5), (
        "the compiled network gives other logits"
    )


@check("merged is equal")
def merged_is_equal(case: Case) -> None:
    """After `merge` the frozen architecture computes the same, with nothing inserted.

    The last check: it uses up the trained segmenter.
    """
    if not case.method.mergeable:
        raise Unclaimed
    segmenter = case.trained.segmenter
    images, _ = batch()
    with torch.no_grad():
        before = segmenter(images)
        case.method.merge(segmenter.backbone)
        after = segmenter(images)
    difference = (after - before).abs().max().item() / max(1.0, before.abs().max().item())
    assert difference < 1e-4, f"logits differ by {difference:.1e} of the largest one"
    names = set(segmenter.backbone.state_dict())
    wanted = {f"model.{name}" for name in segmenter.backbone.pretrained_names}
    assert names == wanted, (
        f"after merging, names differ from the backbone's: {sorted(names ^ wanted)[:3]}"
    )


@dataclass
class Verdict:
    """What holds for a method on a family.

    Attributes:
        refusal: why the method cannot act on the family; empty where it can.
        broken: title -> what is wrong, of the checks that failed.
        unclaimed: titles of the checks about something that the method does not promise.

    """

    refusal: str = ""
    broken: dict[str, str] = field(default_factory=dict)
    unclaimed: list[str] = field(default_factory=list)


def examine(method: Method, family: str, titles: Sequence[str] = ()) -> Verdict:
    """Runs checks on a method.

    Args:
        method: any method.
        family: a key of `FAMILIES`.
        titles: the checks to run; by default all of `CHECKS`.

    """
    case = Case(method, family)
    try:
        _ = case.untrained
    except Unsupported as reason:
        return Verdict(refusal=str(reason))
    except Exception as error:
        return Verdict(broken={"applies": on_one_line(error)})
    verdict = Verdict()
    for title in titles or CHECKS:
        try:
            CHECKS[title](case)
        except Unclaimed:
            verdict.unclaimed.append(title)
        except AssertionError as problem:
            verdict.broken[title] = str(problem)
        except Exception as error:
            verdict.broken[title] = on_one_line(error)
    return verdict


def decoder_problem(name: str, family: str) -> str:
    """What is wrong with a registered decoder on a family; empty where nothing is."""
    backbone = tiny(family)
    images, labels = batch((64, 96))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        try:
            decoder = DECODERS.get(name)(backbone.channels, backbone.strides, CLASSES)
            segmenter = Segmenter(backbone, decoder).train()
            logits = segmenter(images)
            if logits.ndim != 4 or logits.shape[:2] != (len(images), CLASSES):
                return f"returns {tuple(logits.shape)}, not (N, K, h, w)"
            segmentation_loss(logits, labels).backward()
        except Exception as error:
            return on_one_line(error)
    silent = [n for n, p in decoder.named_parameters() if p.requires_grad and p.grad is None]
    return f"no gradient reaches {', '.join(silent[:3])}" if silent else ""

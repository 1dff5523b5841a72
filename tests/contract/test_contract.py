"""The contract over the registry: every method, on a small model of every family."""

from collections.abc import Callable

import pytest
import torch

from benchmark.contract import CHECKS, FAMILIES, KINDS, examine
from benchmark.contract.models import batch, tiny_segmenter
from benchmark.planning.catalogue import METHODS, build_method, method_label
from methods import Method, Unsupported

VARIANTS = (
    "adapter[form=houlsby|pfeiffer|adapter-plus]",
    "lora[targets=mlp|conv]",
    "spm[guidance=none]",
    "spm[feedback=off]",
    "spm[recurrence=1,carry=off,prior=uniform,placement=1+3]",
    "vpt[depth=shallow]",
    "fact[form=tk]",
)
"""Settings beside the defaults that change which modules exist or run."""


FEWEST = ("vit", "resnet")
"""A transformer and a CNN."""

FAST = [title for title in CHECKS if title != "torch.compile"]

STRUCTURE = [title for title in FAST if title not in ("loss falls", "bf16 autocast")]
"""What depends on the layers of a family; the others take half of the time for the same answer in
every family of a kind."""

CNN = {"convnext", "convnext_conv", "resnet", "bottleneck", "mobilenet"}
NO_BRANCHES = {"resnet", "bottleneck", "mobilenet"}
"""Without residual branches that start with a norm."""
NO_LINEAR = CNN - {"convnext"}
"""Without linear layers."""

REFUSED = {
    "adapter[form=houlsby]": CNN,
    "adapter[form=pfeiffer]": NO_BRANCHES,
    "convpass": NO_BRANCHES,
    "fact": NO_LINEAR,
    "fact[form=tk]": NO_LINEAR,
    "lora[targets=mlp]": NO_BRANCHES,
    "lora[targets=conv]": {"vit", "swin"},
    "repadapter": NO_LINEAR,
    "vpt[depth=shallow]": CNN,
    "peft:frod": set(FAMILIES) - {"vit"},
    "peft:gralora": CNN,
    "peft:ln_tuning": NO_BRANCHES,
    "peft:oft": CNN,
}
"""Where a method cannot act; everything else must work."""

CONVOLUTIONAL = ["lora", "dora", "rslora", "adalora", "loha", "lokr", "hra", "hira", "ia3", "boft"]
"""peft's tuners of convolutions; the others tune linear layers only."""


OFTEN = ("lora", "vera", "ia3", "adalora")
"""peft's tuners that stand for all of them, which share our code, but in slow tests."""


def refused(method: Method) -> set[str]:
    """Families that a method has to refuse."""
    library, _, tuner = method.name.rpartition(":")
    usual = NO_LINEAR if library and tuner not in CONVOLUTIONAL else set()
    return REFUSED.get(method_label(method), usual)


def selected(text: str) -> list[Method]:
    return [build_method(name, params) for name, params in METHODS.select(text)]


ALL = [*selected("*"), *(method for text in VARIANTS for method in selected(text))]


def is_plain(method: Method) -> bool:
    """Whether a method is of this collection, at its defaults."""
    return ":" not in method.name and method_label(method) == method.name


def is_seldom(method: Method) -> bool:
    """Whether a method is left to slow tests."""
    library, _, tuner = method.name.rpartition(":")
    return bool(library) and tuner not in OFTEN


def pairs(*, examined: bool) -> pytest.MarkDecorator:
    """Methods on families: those on which everything is checked, or all others.

    A method of this collection, at its defaults, brings code of its own for each kind of backbone.
    """
    return pytest.mark.parametrize(
        ("method", "family"),
        [
            pytest.param(method, family, marks=pytest.mark.slow if is_seldom(method) else ())
            for method in ALL
            for family in FAMILIES
            if (family in (KINDS if is_plain(method) else FEWEST)) is examined
        ],
        ids=lambda value: method_label(value) if isinstance(value, Method) else value,
    )


@pairs(examined=True)
def test_contract(method: Method, family: str, record_verdict: Callable[..., None]) -> None:
    keeps_contract(method, family, FAST, record_verdict)


@pytest.mark.slow
@pairs(examined=False)
def test_contract_on_further_families(
    method: Method, family: str, record_verdict: Callable[..., None]
) -> None:
    keeps_contract(method, family, STRUCTURE, record_verdict)


def keeps_contract(
    method: Method, family: str, titles: list[str], record_verdict: Callable[..., None]
) -> None:
    verdict = examine(method, family, titles)
    record_verdict(method_label(method), family, verdict)
    assert verdict.broken == {}
    assert bool(verdict.refusal) == (family in refused(method)), verdict.refusal
    if verdict.refusal:
        pytest.skip(verdict.refusal)


def test_the_collection_is_as_wide_as_promised() -> None:
    own = [method for method in ALL if ":" not in method.name]
    assert sum("vit" not in refused(method) for method in own) >= 18
    assert sum("vit" not in refused(method) for method in ALL if method not in own) >= 18
    assert sum("swin" not in refused(method) for method in own) >= 14
    assert sum("resnet" not in refused(method) for method in own) >= 10


@pytest.mark.parametrize(
    "method",
    [method for method in ALL if type(method).auxiliary_loss is not Method.auxiliary_loss],
    ids=method_label,
)
def test_without_a_labelled_pixel_the_auxiliary_loss_is_zero(method: Method) -> None:
    try:
        segmenter = tiny_segmenter("vit", method).train()
    except Unsupported as reason:
        pytest.skip(str(reason))
    images, labels = batch()
    segmenter(images)
    extra = method.auxiliary_loss(segmenter.backbone, torch.full_like(labels, 255))
    assert extra is None or extra.item() == 0


def compiled_on(method: Method) -> tuple[str, ...]:
    """Where compiling is tried: other settings and a library's tuners act alike everywhere."""
    return KINDS if is_plain(method) else FEWEST[:1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "family"),
    [
        (method, "resnet" if label == "lora[targets=conv]" else family)
        for method in ALL
        for label in [method_label(method)]
        for family in compiled_on(method)
    ],
    ids=lambda value: value if isinstance(value, str) else method_label(value),
)
def test_torch_compile(method: Method, family: str) -> None:
    verdict = examine(method, family, ["torch.compile"])
    assert verdict.broken == {}
    if verdict.refusal:
        pytest.skip(verdict.refusal)

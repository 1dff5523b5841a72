"""The contract over the registry: every method, on a small model of every family."""

from collections.abc import Callable

import pytest
import torch

from benchmark.catalogue import METHODS, build_method, method_label
from benchmark.contract import FAMILIES, KINDS, Case, examine
from benchmark.contract.checks import compiles
from benchmark.contract.models import batch, tiny_segmenter
from methods import Method, Unsupported

VARIANTS = (
    "adapter[form=houlsby|pfeiffer|adapter-plus]",
    "lora[targets=mlp|conv]",
    "spm[guidance=none]",
    "spm[feedback=off]",
    "spm[recurrence=1,placement=2+4]",
    "vpt[depth=shallow]",
)
"""Settings beside the defaults that change which modules exist or run."""


def selected(text: str) -> list[Method]:
    return [build_method(name, params) for name, params in METHODS.select(text)]


ALL = [*selected("*"), *(method for text in VARIANTS for method in selected(text))]

each_method = pytest.mark.parametrize("method", ALL, ids=method_label)
each_pair = pytest.mark.parametrize(
    ("method", "family"),
    [
        # A library's tuners on one backbone of each kind; on the others they are slow.
        pytest.param(
            method,
            family,
            marks=[pytest.mark.slow] if ":" in method.name and family not in KINDS else [],
        )
        for method in ALL
        for family in FAMILIES
    ],
    ids=lambda value: method_label(value) if isinstance(value, Method) else value,
)


@each_pair
def test_contract(method: Method, family: str, record_verdict: Callable[..., None]) -> None:
    verdict = examine(method, family)
    record_verdict(method_label(method), family, verdict)
    assert verdict.broken == {}
    if verdict.refusal:
        pytest.skip(verdict.refusal)


@each_method
def test_without_a_labelled_pixel_the_auxiliary_loss_is_zero(method: Method) -> None:
    try:
        segmenter = tiny_segmenter("vit", method).train()
    except Unsupported as reason:
        pytest.skip(str(reason))
    images, labels = batch()
    segmenter(images)
    extra = method.auxiliary_loss(segmenter.backbone, torch.full_like(labels, 255))
    assert extra is None or extra.item() == 0


@pytest.mark.slow
@pytest.mark.parametrize("family", KINDS)
@each_method
def test_torch_compile(method: Method, family: str) -> None:
    try:
        compiles(Case(method, family))
    except Unsupported as reason:
        pytest.skip(str(reason))

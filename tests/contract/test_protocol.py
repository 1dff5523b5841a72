"""What the protocol gives a method that hands something from boundary to boundary."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from benchmark.contract import KINDS, examine
from benchmark.contract.models import FAMILIES, batch, tiny
from benchmark.models.prefix import depth_of
from methods.base import Backbone, Method, TrainingData


class Prior(nn.Module):
    """A shift per channel and one that grows with what was handed on."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))
        self.slope = nn.Parameter(torch.zeros(channels, 1, 1))
        self.frequencies: Tensor
        self.register_buffer("frequencies", torch.full((classes,), 1 / classes))


@dataclass(frozen=True, kw_only=True)
class HandsOn(Method):
    """Adds to the embedding and to three boundaries what is handed on, begun by the frequencies."""

    keeps_structure = True
    lr: float = 1e-2

    def _apply(self, backbone: Backbone, num_classes: int) -> None:
        widths = (backbone.embedding_channels, *backbone.channels[:3])
        for place, channels in enumerate(widths):
            module = Prior(channels, num_classes)
            backbone.insert(f"place_{place}", module)

            def change(x: Tensor, module: Prior = module) -> Tensor:
                begun = module.frequencies.max()
                handed = backbone.pass_state.get("handed", begun)
                backbone.pass_state["handed"] = handed + 1
                return x + module.shift + handed * module.slope

            if place:
                backbone.at_boundary(place - 1, change)
            else:
                backbone.at_embedding(change)

    def before_training(self, backbone: Backbone, data: TrainingData) -> None:
        for module in backbone.inserted.values():
            assert isinstance(module, Prior)
            module.frequencies.copy_(data.class_frequencies())


@pytest.mark.parametrize("family", KINDS)
def test_a_method_that_hands_on_keeps_the_contract(family: str) -> None:
    verdict = examine(HandsOn(), family)
    assert (verdict.refusal, verdict.broken) == ("", {})


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_embedding_is_what_the_first_stage_receives(family: str) -> None:
    backbone = tiny(family)
    images = batch((64, 96))[0]
    before = backbone(images)
    seen: list[Tensor] = []

    def double(x: Tensor) -> Tensor:
        seen.append(x)
        return 2 * x

    backbone.at_embedding(double)
    after = backbone(images)
    assert seen[0].shape[1] == backbone.embedding_channels
    assert seen[0].shape[2] * 96 == seen[0].shape[3] * 64
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert depth_of(backbone) == 0
    backbone.release()
    assert all(torch.equal(a, b) for a, b in zip(before, backbone(images), strict=True))


@torch.no_grad()
def test_what_is_handed_on_begins_anew_with_each_pass() -> None:
    backbone = tiny("vit")
    HandsOn().apply(backbone, 4)
    for _ in range(2):
        backbone(batch()[0])
        assert float(backbone.pass_state["handed"]) == 4.25


def test_a_range_of_a_field_that_is_not_there_breaks_the_contract() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Wrong(HandsOn):
        tunes: ClassVar[dict[str, tuple[int, ...]]] = {"sise": (1, 2)}

    Wrong.name = "wrong"
    verdict = examine(Wrong(), "vit", ["range of tuning"])
    assert "'sise' in `tunes`" in verdict.broken["range of tuning"]
    assert examine(HandsOn(), "vit", ["range of tuning"]).unclaimed == ["range of tuning"]

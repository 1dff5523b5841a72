"""The network in pieces is the network, for methods that leave the stages as they are."""

import pytest
import torch

from benchmark.contract.models import KINDS, tiny, tiny_segmenter
from benchmark.export.graph import OUTPUT, Network
from benchmark.export.stages import backbone_pieces, task_pieces
from benchmark.planning.catalogue import build_method


def moved(segmenter):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in segmenter.backbone.inserted.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return segmenter.eval().requires_grad_(False)


@torch.no_grad()
@pytest.mark.parametrize("family", [*KINDS, "convnext"])
@pytest.mark.parametrize("method", ["linear", "spm", "lst", "side"])
def test_pieces_give_what_the_network_gives(family, method):
    segmenter = moved(tiny_segmenter(family, build_method(method, {})))
    backbone = tiny(family)
    height, width = 2 * backbone.divisor - 3, 3 * backbone.divisor - 1
    image = torch.rand(2, 3, height, width)
    stages = {one.name: one for one in backbone_pieces(backbone, {"image": image})}
    assert list(stages) == ["embed", "stage1", "stage2", "stage3", "stage4"]
    values = {"image": image}
    parts = {one.name: one for one in task_pieces(segmenter, values, stages.__getitem__)}
    assert list(parts)[-1] == "head"
    wanted = Network(segmenter)(image)
    torch.testing.assert_close(values[OUTPUT][..., :height, :width], wanted, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_method_that_acts_between_stages_has_a_piece_at_each_place():
    segmenter = moved(tiny_segmenter("vit", build_method("spm", {"placement": "1+3"})))
    values = {"image": torch.rand(2, 3, 45, 60)}
    stages = {one.name: one for one in backbone_pieces(tiny("vit"), dict(values))}
    parts = {one.name: one for one in task_pieces(segmenter, values, stages.__getitem__)}
    assert list(parts) == ["between2", "between4", "head"]
    carried = [name for name in parts["between2"].outputs if name.startswith("state")]
    assert carried and set(carried) <= set(parts["between4"].inputs)

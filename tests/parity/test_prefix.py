"""A backbone that goes on from its frozen beginning gives the same features and gradients."""

import pytest
import torch

from benchmark.contract import models
from benchmark.data.batches import Prefix
from benchmark.models.prefix import compute, depth_of, go_on
from benchmark.planning.catalogue import build_method

METHODS = {
    "linear": (4, "linear", {}),
    "spm": (0, "spm", {}),
    "spm between": (1, "spm", {"placement": "1+2+3"}),
    "spm late": (2, "spm", {"placement": "2+3"}),
    "partial": (3, "partial", {"blocks": 1}),
    "bitfit": (0, "bitfit", {}),
    "full": (0, "full", {}),
    "vpt": (0, "vpt", {}),
    "lora": (0, "lora", {}),
    "lst": (0, "lst", {}),
    "side": (0, "side", {}),
}


def tuned(family, name, params):
    torch.manual_seed(0)
    segmenter = models.tiny_segmenter(family, build_method(name, params))
    segmenter.train()
    for parameter in segmenter.backbone.inserted.parameters():
        torch.nn.init.normal_(parameter, 0, 0.05)
    return segmenter.backbone


def images_for(backbone):
    side = 2 * backbone.divisor
    return torch.randn(3, 3, side, 2 * side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", list(models.FAMILIES))
@pytest.mark.parametrize("case", list(METHODS))
def test_features_and_gradients_are_those_of_the_whole_pass(family, case):
    depth, name, params = METHODS[case]
    backbone = tuned(family, name, params)
    assert depth_of(backbone) == depth
    if not depth:
        return
    images = images_for(backbone)
    known = compute(backbone, images, depth)
    # As they come back from a file.
    known = Prefix(tuple(y.contiguous() for y in known.outputs), known.size)
    assert len(known) == 3 and len(known.outputs) == depth
    trained = [p for p in backbone.parameters() if p.requires_grad]
    found = []
    for features in (backbone(images), go_on(backbone, known)):
        gradients: list[torch.Tensor | None] = []
        if any(feature.requires_grad for feature in features):
            loss = sum(feature.square().mean() for feature in features)
            gradients = list(torch.autograd.grad(loss, trained, allow_unused=True))
        found.append((features, gradients))
    (whole, ours), (resumed, theirs) = found
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None) and (a is None or torch.equal(a, b))
    # The modules are as they were.
    assert all(torch.equal(a, b) for a, b in zip(whole, backbone(images), strict=True))


def test_what_a_method_does_is_no_part_of_it():
    plain, changed = tuned("vit", "linear", {}), tuned("vit", "spm", {"placement": "1"})
    changed.model.load_state_dict(plain.model.state_dict())
    images = images_for(plain)
    for a, b in zip(
        compute(plain, images, 1).outputs, compute(changed, images, 1).outputs, strict=True
    ):
        assert torch.equal(a, b)
    assert not torch.equal(plain(images)[0], changed(images)[0])


@torch.no_grad()
@pytest.mark.parametrize("family", models.KINDS)
def test_what_changes_the_last_map_comes_after_all_stages(family):
    backbone = tuned(family, "linear", {})
    backbone.at_boundary(3, lambda x: 2 * x)
    assert depth_of(backbone) == 4
    images = images_for(backbone)
    resumed = go_on(backbone, compute(backbone, images, 4))
    assert all(map(torch.equal, backbone(images), resumed))


def test_a_function_that_trains_nothing_ends_it_all_the_same():
    backbone = tuned("vit", "linear", {})
    backbone.after(backbone.stage_blocks()[1][0], lambda _, y: 2 * y)
    assert depth_of(backbone) == 1
    backbone.release()
    assert depth_of(backbone) == 4
    backbone.before(backbone.stage_ends[2], lambda x: 2 * x)
    assert depth_of(backbone) == 2
    backbone.release()
    backbone.on_images(lambda x: 2 * x)
    assert depth_of(backbone) == 0


def test_parts_of_it_are_parts_of_the_images():
    backbone = tuned("swin", "linear", {})
    images = images_for(backbone)
    known = compute(backbone, images, 4)
    part = known[slice(1, 3)]
    assert isinstance(part, Prefix) and len(part) == 2
    for a, b in zip(go_on(backbone, part), go_on(backbone, known), strict=True):
        assert torch.equal(a, b[1:3])

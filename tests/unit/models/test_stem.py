"""Backbones for images with other than three channels."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from benchmark.contract.models import CLASSES, FAMILIES, tiny
from benchmark.core.errors import UserError
from benchmark.models.backbone import StagedBackbone
from benchmark.models.decoders.linear import LinearDecoder
from benchmark.models.segmenter import Segmenter
from benchmark.models.stem import per_channel, set_in_chans
from benchmark.models.weights import build_backbone, create_timm_model
from methods import METHODS
from methods.base import Unsupported


@pytest.mark.parametrize("in_chans", [1, 2, 5])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18", "convnext_atto"])
def test_the_stem_is_what_timm_makes_of_it(name, in_chans, tmp_path):
    source = timm.create_model(name, num_classes=0)
    path = tmp_path / f"{name}.safetensors"
    save_file(source.state_dict(), path)
    overlay = {"file": str(path), "num_classes": 0}
    theirs = timm.create_model(
        name, num_classes=0, in_chans=in_chans, pretrained=True, pretrained_cfg_overlay=overlay
    )
    ours = build_backbone(name, "pretrained", [tmp_path], in_chans=in_chans)
    expected, found = theirs.state_dict(), ours.model.state_dict()
    assert found and all(torch.equal(found[key], expected[key]) for key in found)
    assert ours.in_chans == len(ours.mean) == len(ours.std) == in_chans
    # The next one is not affected by the copy that was adapted.
    assert build_backbone(name, "pretrained", [tmp_path]).in_chans == 3


def test_normalisation_follows_the_weights():
    assert per_channel((0.1, 0.2, 0.6), 5) == (0.1, 0.2, 0.6, 0.1, 0.2)
    assert per_channel((0.1, 0.2, 0.6), 1) == pytest.approx((0.3,))
    assert per_channel((0.1, 0.2, 0.6), 3) == (0.1, 0.2, 0.6)


def test_a_model_whose_stem_is_not_known_is_refused():
    with pytest.raises(UserError, match="'linear' takes images of 3 channels only, not of 4"):
        set_in_chans(torch.nn.Linear(3, 3), 4, "linear")


@pytest.mark.parametrize("in_chans", [1, 5])
@pytest.mark.parametrize("family", ["vit", "swin", "resnet"])
@pytest.mark.parametrize("method", sorted(name for name in METHODS if ":" not in name))
def test_every_method_takes_any_number_of_channels(method, family, in_chans):
    torch.manual_seed(0)
    name, kwargs = FAMILIES[family]
    model = create_timm_model(name, kwargs)
    set_in_chans(model, in_chans, name)
    backbone = StagedBackbone(model, name=family, in_chans=in_chans)
    tuned = METHODS[method]()
    try:
        tuned.apply(backbone, CLASSES)
    except Unsupported:
        with pytest.raises(Unsupported):
            tuned.apply(tiny(family), CLASSES)
        return
    decoder = LinearDecoder(backbone.channels, backbone.strides, CLASSES)
    segmenter = Segmenter(backbone, decoder)
    images = torch.randint(256, (2, in_chans, 64, 96), dtype=torch.uint8)
    logits = segmenter.train()(images)
    assert logits.shape[:2] == (2, CLASSES) and logits.isfinite().all()
    logits.sum().backward()
    trained = [p for p in backbone.parameters() if p.requires_grad]
    assert not trained or any(p.grad is not None for p in trained)

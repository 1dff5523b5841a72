"""Images of several tasks in one batch get what each task's own pass gives."""

import numpy as np
import pytest
import torch

from benchmark.engine.batching import limit_on
from benchmark.engine.evaluate import coarse_of
from benchmark.inference.mixed import MixedBackbone, NotShared
from benchmark.inference.tasks import Tasks
from tests.helpers.networks import store_network

KEEPING = ("linear", "side", "lst", "spm", "spm[placement=1+2+3]")
"""Methods that keep the structure of the backbone, as every method says of itself."""


def own(predictor, image):
    limit = limit_on(predictor.device, predictor.protocol)
    arguments = (predictor.scale, [image], predictor.protocol, predictor.precision, limit)
    (coarse,) = coarse_of(predictor.segmenter, *arguments)
    return coarse


def images(count, side=96):
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (count, 8, 8, 3), np.uint8)
    return [np.kron(one, np.ones((side // 8, side // 8, 1), np.uint8)) for one in small]


def mixed_with(tasks, precision="fp32"):
    name = next(iter(tasks))
    mixed = MixedBackbone(tasks.backbone_of(name), precision)
    for name, predictor in tasks.items():
        mixed.add(name, predictor)
    return mixed


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    root, found = tmp_path_factory.mktemp("results"), Tasks("demo_vit")
    for number, method in enumerate(KEEPING):
        benchmark = ("cells", "streets")[number % 2]  # of 6 and 7 classes
        found.add(f"{method}-{benchmark}", store_network(root, method, benchmark))
    return found


def test_one_image_bit_for_bit_and_several_up_to_rounding(tasks):
    mixed, names = mixed_with(tasks), list(tasks)
    assert all(name in mixed for name in names)
    for name, image in zip(names, images(len(names)), strict=True):
        (alone,) = mixed.coarse([(name, image)])
        assert torch.equal(alone, own(tasks[name], image))
    batch = list(zip([*names, *names], images(2 * len(names)), strict=True))
    different = pixels = kinds = 0
    for (name, image), coarse in zip(batch, mixed.coarse(batch), strict=True):
        torch.testing.assert_close(coarse, own(tasks[name], image), rtol=1e-4, atol=1e-4)
        mask = tasks[name].labels(coarse, image.shape[:2])
        different += (mask != tasks[name].predict_array(image)).sum()
        pixels += mask.size
        kinds += len(np.unique(mask))
    assert different <= 1e-3 * pixels
    assert kinds > 1.5 * len(batch)  # masks of one class alone would tell nothing


def test_the_order_of_a_batch_is_kept(tasks):
    mixed, names = mixed_with(tasks), list(tasks)[:3]
    batch = [(names[place % 3], image) for place, image in enumerate(images(7))]
    there = mixed.coarse(batch)
    back = mixed.coarse(batch[::-1])[::-1]
    for one, other in zip(there, back, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_tasks_take_no_memory_of_the_backbone(tasks):
    mixed = mixed_with(tasks)
    backbone = tasks.backbone_of(next(iter(tasks))).backbone
    theirs = dict(backbone.model.named_parameters())
    for name, tensor in mixed._backbone.model.named_parameters():
        assert tensor.data_ptr() == theirs[name].data_ptr()
    for predictor, rows in mixed._tasks.values():
        trained = dict(predictor.segmenter.backbone.inserted.named_parameters())
        for name, tensor in rows.inserted.named_parameters():
            assert tensor.data_ptr() == trained[name].data_ptr()


def test_methods_inside_of_stages_are_refused(tmp_path):
    tasks = Tasks("demo_vit")
    tasks.add("lora", store_network(tmp_path, "lora"))
    tasks.add("flipped", store_network(tmp_path, "spm", tta="flip"))
    mixed = MixedBackbone(tasks.backbone_of("lora"), "fp32")
    with pytest.raises(NotShared, match="acts inside of stages"):
        mixed.add("lora", tasks["lora"])
    with pytest.raises(NotShared, match="mirror images"):
        mixed.add("flipped", tasks["flipped"])
    assert "lora" not in mixed and "flipped" not in mixed


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone",
    ["resnet18", "convnext_atto", "swin_tiny_patch4_window7_224", "deit_tiny_patch16_224"],
)
def test_on_families_of_backbones(backbone, tmp_path):
    tasks = Tasks(backbone)
    for method in KEEPING:
        folder = store_network(tmp_path, method, "cells", backbone, "none", crop=64)
        tasks.add(method, folder)
    mixed = mixed_with(tasks)
    side = tasks[KEEPING[0]].segmenter.backbone.fixed_side or 64
    batch = list(zip(tasks, images(len(tasks), side // 8 * 8), strict=True))
    for (name, image), coarse in zip(batch, mixed.coarse(batch), strict=True):
        theirs = own(tasks[name], image)
        torch.testing.assert_close(coarse, theirs, rtol=1e-3, atol=1e-3 * theirs.abs().max())

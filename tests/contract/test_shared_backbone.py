"""A method on a shared backbone computes what it does on one of its own, and changes nothing."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from benchmark.contract.models import CLASSES, KINDS, Unequal, batch, tiny, train_steps
from benchmark.models.decoders.linear import LinearDecoder
from benchmark.models.delta import delta, load_delta, snapshot, tensors_of
from benchmark.models.precision import autocast, cast_frozen
from benchmark.models.segmenter import Segmenter
from benchmark.models.share import SharedBackbone
from methods import METHODS, Unsupported

FEW = [("vit", "lora"), ("vit", "peft:dora"), ("swin", "vpt"), ("convnext", "spm")]
FEW += [("resnet", "full"), ("resnet", "linear")]
OWN = [name for name in METHODS if ":" not in name]
ALL = [(family, name) for family in KINDS for name in OWN]
ALL += [("vit", name) for name in METHODS if ":" in name]


def put_on(backbone, method):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        method.apply(backbone, CLASSES)
        return Segmenter(
            backbone, LinearDecoder(backbone.channels, backbone.strides, CLASSES)
        ).eval()


def trained(family, name):
    """A trained segmenter on a backbone of its own, and its delta."""
    method, backbone = METHODS[name](), tiny(family)
    pristine = snapshot(backbone)
    segmenter = put_on(backbone, method)
    method.before_training(backbone, Unequal())
    train_steps(segmenter, method, 2)
    return segmenter.eval(), delta(segmenter, pristine)


def lent(shared, name, state):
    """The same on a shared backbone, and the bytes that are its own."""
    segmenter = put_on(shared.copy(), METHODS[name]())
    load_delta(segmenter, state)
    return segmenter.requires_grad_(False), shared.lend(segmenter)


def agree(family, name):
    try:
        alone, state = trained(family, name)
    except Unsupported as reason:
        pytest.skip(str(reason))
    shared = SharedBackbone(tiny(family))
    before = snapshot(shared.backbone).hashes
    segmenter, own = lent(shared, name, state)
    images, _ = batch()
    with torch.no_grad():
        assert torch.equal(segmenter(images), alone(images))
    assert snapshot(shared.backbone).hashes == before
    theirs = {tensor.data_ptr() for _, tensor in tensors_of(shared.backbone)}
    kept = [t.nbytes for _, t in tensors_of(segmenter) if t.data_ptr() not in theirs]
    assert own == sum(kept)
    return own, sum(tensor.nbytes for tensor in state.values())


@pytest.mark.parametrize(("family", "name"), FEW)
def test_a_task_takes_the_bytes_of_its_delta(family, name):
    own, stored = agree(family, name)
    assert own == stored


@pytest.mark.slow
@pytest.mark.parametrize(("family", "name"), ALL)
def test_any_method_gives_the_same_on_a_shared_backbone(family, name):
    agree(family, name)  # some tuners hold what their seed draws, beside their delta


def test_layers_that_nothing_touches_are_the_same_objects():
    shared = SharedBackbone(tiny("vit"))
    (one, _), (other, _) = (
        lent(shared, name, trained("vit", name)[1]) for name in ("linear", "lst")
    )
    blocks = [segmenter.backbone.model.blocks[0] for segmenter in (one, other)]
    assert blocks[0].mlp.fc1 is blocks[1].mlp.fc1
    assert blocks[0] is not blocks[1]  # one has a hook at its end
    assert blocks[0].mlp.fc1 is not shared.backbone.model.blocks[0].mlp.fc1  # a copy stays pristine


def test_tasks_in_bf16_share_the_casts_of_frozen_weights():
    shared = SharedBackbone(tiny("vit"))
    shared.cast()
    images, _ = batch()
    for name in ("linear", "lora", "ssf"):
        alone, state = trained("vit", name)
        segmenter, _ = lent(shared, name, state)
        with torch.no_grad(), autocast(torch.device("cpu"), "bf16"):
            with cast_frozen(alone, "bf16"):
                expected = alone(images)
            with cast_frozen(segmenter, "bf16", shared.casts):
                assert torch.equal(segmenter(images), expected)
                layer = segmenter.backbone.model.blocks[0].mlp.fc1
                if type(layer) is torch.nn.Linear:  # a wrapper computes with the sum of two
                    copies = layer.forward.args[2]
                    assert copies["weight"] is shared.casts[layer.weight.data_ptr()]


def test_threads_may_use_different_tasks_of_one_backbone():
    shared, (images, _) = SharedBackbone(tiny("vit")), batch()
    tasks = []
    for name in ("linear", "lora", "spm"):
        alone, state = trained("vit", name)
        with torch.no_grad():
            tasks.append((lent(shared, name, state)[0], alone(images)))

    def is_right(number):
        segmenter, expected = tasks[number]
        with torch.no_grad():
            return all(torch.equal(segmenter(images), expected) for _ in range(8))

    with ThreadPoolExecutor(len(tasks)) as pool:
        assert all(pool.map(is_right, range(len(tasks))))

"""With frozen weights kept in bf16, every number is that of plain autocast, bit for bit."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark.contract import FAMILIES, KINDS, models
from benchmark.engine import checkpoint
from benchmark.models.delta import delta, frozen_hash, snapshot
from benchmark.models.precision import cast_frozen
from benchmark.models.segmenter import Segmenter
from benchmark.planning import catalogue
from benchmark.planning.catalogue import build_method, method_label
from methods import METHODS, Unsupported

ALL = [build_method(name, params) for name, params in catalogue.METHODS.select("*")]


def bf16():
    return torch.autocast("cpu", torch.bfloat16)


def tuned(method, family):
    try:
        return models.tiny_segmenter(family, method)
    except Unsupported as reason:
        pytest.skip(str(reason))


def trained(method, family, kept):
    """Losses and gradients of two steps, logits of the end, and the segmenter."""
    segmenter = tuned(method, family).train()
    images, labels = models.batch((32, 64))
    groups = [
        *method.parameter_groups(segmenter.backbone),
        {"params": list(segmenter.decoder.parameters()), "lr": 1e-2},
    ]
    optimiser = torch.optim.AdamW(groups)
    found = []
    with torch.random.fork_rng(), cast_frozen(segmenter, "bf16") if kept else nullcontext():
        torch.manual_seed(3)
        for step in (1, 2):
            optimiser.zero_grad()
            with bf16():
                loss = models.loss_of(segmenter, method, images, labels)
            loss.backward()
            found += [loss.detach(), *(p.grad for p in segmenter.parameters())]
            optimiser.step()
            method.after_step(segmenter.backbone, step, 2)
    segmenter.eval()
    with torch.no_grad(), cast_frozen(segmenter, "bf16") if kept else nullcontext(), bf16():
        found += [segmenter(images), *segmenter.backbone(images)]
    return found, segmenter


def families(method):
    """All families of layers once, all methods on each kind, and a library's tuners on one."""
    if method.name == "linear":
        return FAMILIES
    return KINDS[:1] if ":" in method.name else KINDS


def is_quick(method, family):
    """Whether a pair is always tried: many processors have no units for bf16."""
    return method.name == "linear" or (":" not in method.name and family == KINDS[0])


def same(ours, theirs):
    return len(ours) == len(theirs) and all(
        (a is None) == (b is None) and (a is None or (a.dtype == b.dtype and torch.equal(a, b)))
        for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize(
    ("method", "family"),
    [
        pytest.param(method, family, marks=[] if is_quick(method, family) else [pytest.mark.slow])
        for method in ALL
        for family in families(method)
    ],
    ids=lambda value: value if isinstance(value, str) else method_label(value),
)
def test_every_method_trains_to_the_same_bits(method, family):
    (plain, one), (kept, other) = (trained(method, family, kept) for kept in (False, True))
    assert same(plain, kept)
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys() and same(list(ours.values()), list(theirs.values()))


class Casts(TorchDispatchMode):
    """Counts casts to bf16 of some tensors."""

    def __init__(self, tensors):
        super().__init__()
        self.count, self._ids = 0, {tensor.data_ptr() for tensor in tensors}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._to_copy.default and args[0].data_ptr() in self._ids:
            self.count += kwargs.get("dtype") is torch.bfloat16
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("name", "axes", "least"),
    # A layer with a low-rank update casts the sum of the two, and with it its bias.
    [("linear", 1, 10), ("lora", 2, 1)],
)
@pytest.mark.parametrize("family", list(FAMILIES))
def test_no_frozen_weight_is_cast_again(family, name, axes, least):
    segmenter = models.tiny_segmenter(family, METHODS[name]()).train()
    images, _ = models.batch()
    frozen = [p for p in segmenter.parameters() if not p.requires_grad]
    casts = Casts([p for p in frozen if p.ndim >= axes])
    counts = []
    for block in (nullcontext(), cast_frozen(segmenter, "bf16")):
        with block, bf16(), casts:
            casts.count = 0
            segmenter(images)
        counts.append(casts.count)
    assert counts[0] >= least and counts[1] == 0


@pytest.mark.parametrize("name", ["full", "lora"])
def test_where_nothing_is_trained_no_weight_of_a_layer_is_cast(name):
    segmenter = models.tiny_segmenter("vit", METHODS[name]()).eval()
    images, _ = models.batch()
    casts = Casts([p for p in segmenter.parameters() if p.ndim > 1])
    with torch.inference_mode(), cast_frozen(segmenter, "bf16"), bf16(), casts:
        segmenter(images)
    assert casts.count == 0


class Stop(Exception):
    pass


@pytest.mark.parametrize("family", ["vit", "bottleneck"])
@pytest.mark.parametrize("raises", [False, True])
def test_the_tensors_never_leave_their_place(family, raises):
    segmenter = models.tiny_segmenter(family, METHODS["lora"]())
    images, _ = models.batch()

    def state():
        tensors = segmenter.state_dict(keep_vars=True)
        places = [(name, id(tensor), tensor.data_ptr()) for name, tensor in tensors.items()]
        return places, frozen_hash(segmenter.backbone)

    before = state()
    functions = [module for module in segmenter.modules() if "forward" in vars(module)]
    with pytest.raises(Stop) if raises else nullcontext(), cast_frozen(segmenter, "bf16"):
        assert state() == before
        with bf16():
            segmenter(images).sum().backward()
        assert state() == before
        if raises:
            raise Stop
    assert state() == before
    assert [module for module in segmenter.modules() if "forward" in vars(module)] == functions


def test_deltas_and_checkpoints_of_the_inside_are_those_of_the_outside(tmp_path):
    method = METHODS["bitfit"]()
    backbone = models.tiny("resnet")
    pristine = snapshot(backbone)
    method.apply(backbone, models.CLASSES)
    segmenter = Segmenter(backbone, models.tiny_segmenter("resnet", method).decoder)
    models.train_steps(segmenter, method, 1)
    optimiser = torch.optim.AdamW(segmenter.decoder.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda _: 1.0)
    stored = []
    for block in (nullcontext(), cast_frozen(segmenter, "bf16")):
        path = tmp_path / str(len(stored))
        with block:
            changed = delta(segmenter, pristine)
            checkpoint.Saving(path).save(
                checkpoint.TrainState(), segmenter, method, optimiser, schedule, {}
            )
        saved = checkpoint.load(path, {})
        assert saved is not None
        stored.append((changed, saved.tensors))
    for ours, theirs in zip(*stored, strict=True):
        assert ours.keys() == theirs.keys() and same(list(ours.values()), list(theirs.values()))


def test_fp32_and_passes_outside_of_autocast_are_left_alone():
    segmenter = models.tiny_segmenter("swin", METHODS["linear"]())
    images, _ = models.batch()
    plain = segmenter(images)
    with cast_frozen(segmenter, "bf16"):
        assert torch.equal(segmenter(images), plain)
    with cast_frozen(segmenter, "fp32"):
        assert not any("forward" in vars(module) for module in segmenter.modules())


def test_a_block_inside_a_block_changes_nothing_of_it():
    segmenter = models.tiny_segmenter("vit", METHODS["linear"]())
    with cast_frozen(segmenter, "bf16"):
        functions = {m: vars(m).get("forward") for m in segmenter.modules()}
        with cast_frozen(segmenter, "bf16"):
            pass
        assert {m: vars(m).get("forward") for m in segmenter.modules()} == functions


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def test_layers_that_compute_something_else_are_left_alone():
    segmenter = models.tiny_segmenter("vit", METHODS["linear"]())
    backbone = segmenter.backbone
    around, changed, learning = (backbone.names("fc1")[i] for i in range(3))
    backbone.around(around, lambda forward, x: -forward(x))
    layer = backbone.model.get_submodule(changed)
    parametrize.register_parametrization(layer, "weight", Doubled())
    backbone.model.get_submodule(learning).weight.requires_grad_(True)
    images, _ = models.batch()
    replaced = backbone.model.get_submodule(around).forward
    with bf16():
        plain = segmenter(images)
    with cast_frozen(segmenter, "bf16"):
        assert backbone.model.get_submodule(around).forward is replaced
        assert "forward" not in vars(layer)
        assert "forward" not in vars(backbone.model.get_submodule(learning))
        with bf16():
            assert torch.equal(segmenter(images), plain)
    assert backbone.model.get_submodule(around).forward is replaced


def test_weights_with_a_trained_bias_leave_it_its_gradient():
    backbone = models.tiny("vit")
    layer = backbone.model.get_submodule(backbone.names("fc1")[0])
    layer.bias.requires_grad_(True)
    segmenter = Segmenter(backbone, nn.Identity())
    images, _ = models.batch()
    found = []
    for block in (nullcontext(), cast_frozen(segmenter, "bf16")):
        with block, bf16():
            loss = sum(feature.float().square().mean() for feature in backbone(images))
        found += torch.autograd.grad(loss, [layer.bias])
    assert same(found[:1], found[1:])

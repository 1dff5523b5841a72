"""What decays, and whose gradients are clipped together."""

import pytest
import torch

from benchmark.contract.models import batch, tiny_segmenter
from benchmark.core.spec import Protocol
from benchmark.data.batches import Batch
from benchmark.engine.checkpoint import TrainState
from benchmark.engine.losses import Criterion
from benchmark.engine.replicas import Replicas
from benchmark.engine.step import Stepper
from benchmark.engine.train import optimisation
from methods import METHODS

FAIR = Protocol(weight_decay_on="weights", grad_clip_on="parts")


def decaying(segmenter, method, protocol):
    """Names of what decays, and of what does not."""
    optimiser, _ = optimisation(segmenter, method, protocol)
    found = {True: set(), False: set()}
    rates = {}
    names = {id(p): name for name, p in segmenter.named_parameters()}
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            name = names.pop(id(parameter))
            found[group["weight_decay"] > 0].add(name)
            rates[name] = group["initial_lr"]
    assert not [n for n, p in segmenter.named_parameters() if p.requires_grad and n not in rates]
    return found[True], found[False], rates


@pytest.mark.parametrize(
    ("name", "family", "kept"),
    [
        ("vpt", "vit", "prompts.layers.0"),
        ("vpt", "resnet", "prompts.rows"),
        ("rein", "vit", "reins_24.a"),
        ("ssf", "vit", "scale"),
        ("norm", "resnet", "bn1.weight"),
        ("full", "vit", "pos_embed"),
        ("full", "swin", "relative_position_bias_table"),
        ("peft:ia3", "vit", "ia3_l.default"),
    ],
)
def test_norms_biases_prompts_and_tokens_do_not_decay(name, family, kept):
    method = METHODS[name]()
    segmenter = tiny_segmenter(family, method)
    all_of_it, nothing, before = decaying(segmenter, method, Protocol())
    assert not nothing
    weights, spared, after = decaying(segmenter, method, FAIR)
    assert weights | spared == all_of_it and after == before  # at the rates they had
    assert any(name.endswith(kept) for name in spared)
    assert "decoder.norms.0.weight" not in weights
    shapes = {name: p.ndim for name, p in segmenter.named_parameters()}
    assert all(shapes[name] > 1 for name in weights)
    if name in ("vpt", "ssf", "norm", "peft:ia3"):
        assert all(name.startswith("decoder.") for name in weights)


def test_matrices_and_kernels_decay():
    for name in ("lora", "spm", "adapter", "rein"):
        method = METHODS[name]()
        segmenter = tiny_segmenter("vit", method)
        weights, _, _ = decaying(segmenter, method, FAIR)
        inserted = {n for n in weights if not n.startswith("decoder.")}
        own = [n for n, p in segmenter.backbone.named_parameters() if p.requires_grad]
        layers = [n for n in own if n.endswith((".weight", "lora_A", "lora_B"))]
        assert inserted == {f"backbone.{n}" for n in layers if "norm" not in n}


def gradients(protocol):
    """Of one step: before it was clipped, and as the optimiser saw it."""
    method = METHODS["adapter"]()
    segmenter = tiny_segmenter("vit", method).train()
    torch.manual_seed(0)
    for parameter in segmenter.decoder.parameters():
        torch.nn.init.normal_(parameter)
    seen = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            seen.append({n: p.grad.clone() for n, p in named})

    named = [(n, p) for n, p in segmenter.named_parameters() if p.requires_grad]
    optimiser = Watched([p for _, p in named], lr=0.1)
    state = TrainState()
    state.micro_batch = 2
    images, labels = batch()
    step = Stepper(Replicas(segmenter), method, protocol, "fp32", optimiser, state, Criterion())
    *_, norm = step(segmenter, Batch(images, labels, ("a", "b")), 1).tolist()
    return seen[0], norm


def norm_of(found, decoder):
    own = [g for n, g in found.items() if n.startswith("decoder.") is decoder]
    return float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in own])))


def test_each_part_is_clipped_by_its_own_norm():
    free, norm = gradients(Protocol(grad_clip=1e9))
    whole = {part: norm_of(free, part) for part in (False, True)}
    assert norm == pytest.approx((whole[False] ** 2 + whole[True] ** 2) ** 0.5, rel=1e-5)
    # A limit between the norms of the two.
    low, high = sorted(whole.values())
    most = (low * high) ** 0.5
    assert low < 0.9 * most
    apart, same = gradients(Protocol(grad_clip=most, grad_clip_on="parts"))
    assert same == pytest.approx(norm, rel=1e-5)
    for part, before in whole.items():
        assert norm_of(apart, part) == pytest.approx(min(before, most), rel=1e-5)
    together, _ = gradients(Protocol(grad_clip=most))
    for part, before in whole.items():
        assert norm_of(together, part) == pytest.approx(before * most / norm, rel=1e-5)


def test_protocols_from_before_keep_their_hash():
    assert not {"weight_decay_on", "grad_clip_on"} & Protocol().identity.keys()
    assert FAIR.hash != Protocol().hash

"""Processes that share each batch make the steps of one process, and count the same pixels."""

import itertools
import json
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.layers import DropPath
from torch import nn

from benchmark.core.errors import UserError
from benchmark.core.interrupt import Interrupted, StopSignal
from benchmark.core.spec import Compute
from benchmark.engine.build import build_segmenter
from benchmark.engine.losses import Criterion
from benchmark.engine.ranks import Part, Ranks
from benchmark.engine.sharding import refusal, shard
from benchmark.engine.whole_batch import WholeBatch
from benchmark.execution.cell import follow_cell, run_cell
from benchmark.execution.checks import check
from benchmark.execution.environment import prepare
from benchmark.planning.catalogue import build_method
from benchmark.planning.plan import Selection, plan
from benchmark.results import store
from methods.base import METHODS, register
from tests.helpers.ranks import together
from tests.helpers.tiny import Strange
from tests.unit.engine.conftest import tiny  # noqa: F401 - a fixture


def cell(method="linear", backbone="test_vit", **protocol):
    # A bias in front of a BatchNorm has no gradient but rounding, which AdamW makes steps of.
    rates = {"decoder_lr": 1e-3}
    sizes = {"precision": "fp32", "crop": 64, "batch_size": 6, "steps": 4} | rates | protocol
    choice = {"methods": method, "benchmarks": "tiny", "backbones": backbone, "weights": "none"}
    return plan(Selection(**choice, protocol=sizes))[0]


def attempt(spec, count, folder, stop=0, **changes):
    """The record of a cell that some processes train together, and what the others return."""

    def work(ranks):
        torch.set_num_threads(1)
        watch = StopSignal()
        environment = prepare(None, (), "cpu", watch=watch, compute=Compute("fp32"), ranks=ranks)
        environment = replace(environment, **changes)

        def progress(step, *_):
            watch.signal = "SIGTERM" if step == stop else ""

        if ranks.is_first:
            return run_cell(spec, folder / "results", environment, progress)
        try:
            return follow_cell(spec, folder / "results", environment)
        except (Interrupted, UserError) as reason:
            return str(reason)

    return together(count, Path(tempfile.mkdtemp(dir=folder)), work)


def ran(spec, count, folder, **changes):
    """Curve and counts of a cell that some processes train together."""
    folder.mkdir(exist_ok=True)
    record, *others = attempt(spec, count, folder, **changes)
    assert record.status == "done", record.reason
    assert record.provenance.devices == count and others == [None] * (count - 1)
    here = folder / "results" / spec.folder
    curve = [json.loads(line) for line in (here / "curve.jsonl").read_text().splitlines()]
    return curve, store.read_counts(here), record


def compare(spec, tmp_path: Path, counts=(2,), tolerance=1e-5):
    """Largest difference of the curves and pixels that are labelled otherwise, by processes."""
    curve, pixels, _ = ran(spec, 1, tmp_path / "alone")
    found = {}
    for count in counts:
        ours, theirs, _ = ran(spec, count, tmp_path / f"of{count}")
        apart = max(
            abs(a[key] - b[key])
            for a, b in zip(curve, ours, strict=True)
            for key in ("loss", "total")
        )
        assert apart <= tolerance, (count, apart)
        differing = int(np.abs(pixels["prediction"] - theirs["prediction"]).sum()) // 2
        assert differing <= 1e-2 * pixels["prediction"].sum(), (count, differing)
        assert (pixels["ids"] == theirs["ids"]).all()
        found[count] = apart, differing
    return found


@pytest.mark.usefixtures("tiny")
def test_processes_make_the_steps_of_one(tmp_path):
    compare(cell("lora", accumulate=2, steps=3), tmp_path)


class Mixed(nn.Module):
    """What looks at a whole batch: statistics, and masks drawn for it."""

    def __init__(self):
        super().__init__()
        self.conv, self.plain = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, affine=False)
        self.norm, self.drop = nn.BatchNorm2d(8, momentum=0.3), nn.Dropout(0.4)
        self.channels, self.path = nn.Dropout2d(0.3), DropPath(0.5)

    def forward(self, x):
        x = self.drop(self.norm(self.conv(x).contiguous(memory_format=torch.channels_last)))
        x = x + self.path(self.channels(self.plain(x.relu())))
        return x + 0.1 * torch.randn_like(x)


def gradients(ranks, images):
    """Of a sum over all images, which processes share unevenly; and all buffers."""
    torch.manual_seed(0)
    network = Mixed().double()
    torch.manual_seed(1)
    (part,) = ranks.parts(len(images), len(images))
    own = images[part.first : part.first + part.own.stop]
    whole = nullcontext() if ranks.count == 1 else WholeBatch(ranks, part)
    with whole:
        network(own).square().sum().backward()
    ranks.add_gradients(network.parameters())
    buffers = dict(network.named_buffers())
    return {name: p.grad for name, p in network.named_parameters()} | buffers, torch.rand(1)


def test_statistics_and_masks_are_those_of_the_whole_batch(tmp_path):
    images = torch.randn(
        5, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    (alone, then), *_ = together(1, tmp_path, lambda ranks: gradients(ranks, images))
    for found, after in together(3, tmp_path, lambda ranks: gradients(ranks, images)):
        assert torch.equal(after, then)  # the random stream is where that of one process is
        for name, value in alone.items():
            assert torch.allclose(found[name].to(value), value, rtol=1e-10, atol=1e-10), name


def test_shares_of_every_part_are_all_of_the_batch():
    for count, images, size in ((1, 7, 3), (2, 7, 4), (3, 8, 8), (4, 9, 5)):
        every = [Ranks(rank, count).places(images, size) for rank in range(count)]
        if count == 1:
            assert every == [None]
        else:
            assert sorted(itertools.chain(*every)) == list(range(images))
            assert max(map(len, every)) - min(map(len, every)) <= -(-images // size)
    assert Ranks(1, 2).parts(7, 4) == [Part(4, 2, slice(0, 2)), Part(3, 1, slice(2, 4))]
    with pytest.raises(UserError, match="an image for each device"):
        Ranks(0, 4).parts(9, 4)


def test_a_mean_over_labelled_pixels_is_that_of_all_processes(tmp_path):
    labels = torch.full((3, 4, 4), 255)
    labels[0], labels[1, 0] = 1, 0  # the last image is void
    criterion = Criterion("ce", torch.tensor([0.5, 2.0]))
    total = criterion.total(labels)

    def work(ranks):
        (part,) = ranks.parts(3, 3)
        own = labels[part.first : part.first + part.own.stop]
        return criterion.shared_total(own, 3, ranks)

    for found in together(3, tmp_path, work):
        assert (found.images, found.pixels, found.weight) == (3, 20, total.weight)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("method", "backbone", "protocol"),
    [
        ("full", "test_resnet", {"accumulate": 2, "batch_size": 7}),  # BatchNorm
        ("spm", "test_convnext", {"loss": "ce+dice", "class_weights": "balanced"}),
        ("peft:lora[lora_dropout=0.2]", "test_vit", {"batch_size": 5}),
        ("peft:adalora", "test_vit", {}),  # keeps a state between steps
        ("lora", "test_vit", {"views": 2}),
        ("full", "test_vit", {"ema": 0.9, "val_every": 2, "checkpoint": "best"}),
    ],
)
def test_what_depends_on_the_whole_batch(tmp_path, method, backbone, protocol):
    compare(cell(method, backbone, **protocol), tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("backbone", "protocol"),
    [("test_vit", {"accumulate": 2, "checkpoint_activations": "on"}), ("test_resnet", {})],
)
def test_a_network_that_is_spread_makes_the_same_steps(tmp_path, backbone, protocol):
    spec = cell("full", backbone, **protocol)
    curve, pixels, _ = ran(spec, 1, tmp_path / "alone")
    ours, theirs, record = ran(spec, 2, tmp_path / "spread", shard=True)
    assert record.provenance.sharded and record.costs.train.memory is None
    for a, b in zip(curve, ours, strict=True):
        assert b["total"] == pytest.approx(a["total"], abs=1e-5)
    assert np.abs(pixels["prediction"] - theirs["prediction"]).sum() <= 0.02 * pixels["label"].sum()


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_any_number_of_processes_resumes_what_another_began(tmp_path):
    spec = cell("full", steps=6)
    for count, stop, changes in ((2, 2, {"shard": True}), (3, 4, {}), (4, 5, {"shard": True})):
        record, *others = attempt(spec, count, tmp_path, stop, **changes)
        assert record.status == "interrupted"
        assert set(others) == {record.reason} and f"at step {stop} of 6" in record.reason
    curve, pixels, record = ran(spec, 1, tmp_path)
    assert record.execution.resumed_at == (2, 4, 5)
    whole, same, _ = ran(spec, 1, tmp_path / "whole")
    for a, b in zip(curve, whole, strict=True):
        assert a["total"] == pytest.approx(b["total"], abs=1e-5)
    assert np.abs(pixels["prediction"] - same["prediction"]).sum() <= 0.02 * same["label"].sum()


@pytest.mark.usefixtures("tiny")
def test_each_process_holds_its_share_of_what_is_spread(tmp_path):
    spec = cell("full")

    def work(ranks):
        method = build_method("full", {})
        segmenter, _ = build_segmenter(spec, method, (), torch.device("cpu"))
        every = sum(parameter.numel() for parameter in segmenter.parameters())
        shard(segmenter, ranks)
        return sum(p.to_local().numel() for p in segmenter.parameters()) / every

    assert all(0.4 < share < 0.6 for share in together(2, tmp_path, work))


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("name", "protocol", "reason"),
    [
        ("full", {}, ""),
        ("lora", {}, "methods that train the whole backbone"),
        ("full", {"ema": 0.9}, "does not go with ema"),
    ],
)
def test_what_cannot_be_spread_is_refused(name, protocol, reason):
    spec, method = cell(name, **protocol), build_method(name, {})
    segmenter, _ = build_segmenter(spec, method, (), torch.device("cpu"))
    found = refusal(segmenter.backbone, method, spec.protocol)
    assert reason in found and bool(reason) == bool(found)
    environment = prepare(None, (), "cpu", compute=Compute("fp32"), shard=True)
    verdict = check(spec, environment)
    assert verdict.reason == found and verdict.status is None  # it may run without --shard


@dataclass(frozen=True, kw_only=True)
class Late(Strange):
    """Draws random numbers from its second step on."""

    def _apply(self, backbone, num_classes):
        steps = []

        def images(x):
            if torch.is_grad_enabled():
                steps.append(1)
            return x + torch.rand(()) if len(steps) > 2 else x  # the first one looks for the depth

        backbone.on_images(images)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_random_numbers_that_nobody_shares_out_are_refused(tmp_path):
    register("late")(Late)
    try:
        record, *_ = attempt(cell("late", "test_vit"), 2, tmp_path)
    finally:
        METHODS._loaded.pop("late")
    assert record.status == "failed" and "late draws random numbers" in record.reason

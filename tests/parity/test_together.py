"""Images that pass the network together: how they are grouped, and that no count shows it."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from benchmark.contract import KINDS, models
from benchmark.core.spec import Protocol
from benchmark.data.base import BENCHMARKS, IGNORE, Benchmark, Example, register
from benchmark.engine.batching import IMAGES, Limit, grouped, limit_on, spread
from benchmark.engine.evaluate import evaluate, same_class_counts
from benchmark.execution import cell as runner
from benchmark.execution import reevaluate
from benchmark.execution.environment import prepare
from benchmark.models.backbone import StagedBackbone
from benchmark.models.normalise import Normalise
from benchmark.planning.plan import Selection, plan
from benchmark.results import store
from benchmark.results.metrics import CLASS_COUNTS
from methods import METHODS
from methods.base import METHODS as REGISTERED
from methods.base import Method
from methods.base import register as register_method
from tests.helpers.tiny import run

MIXED = [(40, 64), (39, 60)] * 2 + [(40, 64), (64, 40), (40, 64), (41, 63), (64, 40), (96, 120)]
MIXED += [(33, 64), (96, 120)]
"""Of images, some of which pad to one shape; under `CUT` the largest ones pass by windows."""

CUT = Protocol(eval_max_pixels=4096, eval_window=32)
LIMITS = [
    (Limit(2, 10**6), 2),
    (Limit(3, 10**6), 3),
    (Limit(16, 10**6), 7),
    (Limit(16, 2 * 48 * 64), 2),
    (Limit(16, 1), 1),
]
"""And the largest batch of `MIXED`."""


def example(number, height, width):
    random = np.random.default_rng(number)
    label = random.integers(0, 4, (-(-height // 8), -(-width // 8)))
    label = label.repeat(8, 0).repeat(8, 1)[:height, :width].astype(np.uint8)
    noise = random.integers(0, 60, (height, width, 3))
    image = (label[..., None] * 60 + noise).clip(0, 255).astype(np.uint8)
    label[:3] = IGNORE
    return Example(str(number), image, label)


def examples(shapes=MIXED):
    return [example(number, *shape) for number, shape in enumerate(shapes)]


def shape_of(one):
    return one.label.shape


shapes = st.lists(st.sampled_from([(1, 2), (2, 1), (2, 3), (9, 9)]), max_size=60)
limits = st.builds(Limit, st.integers(1, 9), st.integers(1, 30))


@settings(deadline=None)
@given(shapes, limits)
def test_groups_are_of_one_shape_one_block_and_bounded_pixels(shapes, limit):
    taken, passed = [], []

    def source():
        for number, shape in enumerate(shapes):
            assert len(taken) - len(passed) < limit.images  # that many wait, and no more
            taken.append(number)
            yield shape

    for group in grouped(source(), lambda shape: shape, limit):
        numbers = [number for number, _ in group]
        passed += numbers
        assert numbers == sorted(numbers) and len({n // limit.images for n in numbers}) == 1
        assert len({shape for _, shape in group}) == 1
        assert [shapes[n] for n in numbers] == [shape for _, shape in group]
        height, width = group[0][1]
        assert len(group) == 1 or len(group) * height * width <= limit.pixels
    assert sorted(passed) == list(range(len(shapes)))


@settings(deadline=None)
@given(shapes, limits)
def test_a_batch_given_alone_is_that_batch_again(shapes, limit):
    for group in grouped(shapes, lambda shape: shape, limit):
        alone = grouped([shape for _, shape in group], lambda shape: shape, limit)
        assert [[s for _, s in again] for again in alone] == [[s for _, s in group]]


def test_no_group_could_have_taken_one_more():
    limit = Limit(8, 100)
    sizes = [len(group) for group in grouped([(5, 4)] * 16, lambda shape: shape, limit)]
    assert sizes == [5, 3, 5, 3]


def test_batches_are_of_a_gpu_and_have_the_pixels_that_must_fit_anyway():
    protocol = Protocol(batch_size=16, crop=512, eval_max_pixels=512**2, eval_window=512)
    assert limit_on(torch.device("cpu"), protocol) == Limit(1, 512**2)
    assert limit_on(torch.device("cuda"), protocol) == Limit(IMAGES, 16 * 512**2)
    assert limit_on(torch.device("cuda"), Protocol(crop=160, batch_size=8)).pixels == 1_500_000


def test_verified_batches_are_spread_and_hold_the_ends():
    alone = [[number] for number in range(10)]
    assert spread(alone, 4) == [[0], [3], [6], [9]]
    assert spread(alone[:2], 4) == alone[:2]
    assert spread([[0, 2], [1], [3, 4], [5, 7, 8], [6], [9]], 4) == [[0, 2], [3, 4], [6], [9]]


class Four:
    name, folder = "four", None
    classes = ("a", "b", "c", "d")

    def scale(self, height, width):
        return 1.0


class Exact(nn.Module):
    """All its sums are exact, so that no order of adding changes a bit on any machine."""

    divisor, normalise = 8, Normalise((0.0,) * 3, (1 / 255,) * 3)
    fixed_side, padded = None, StagedBackbone.padded

    def __init__(self):
        super().__init__()
        weight = np.random.default_rng(0).integers(-9, 9, (4, 3, 1, 1))
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float32))
        self.passes = []

    @property
    def backbone(self):
        return self

    def forward(self, images):
        assert torch.equal(images, images.round())
        self.passes.append(tuple(images.shape))
        return F.conv2d(F.avg_pool2d(images, 4), self.weight)


def everything(model, some, protocol, limit):
    """Counts, predictions by image in the order of being seen, and batches."""
    maps, batches = [], []
    counts = evaluate(
        model,
        Four(),
        some,
        protocol,
        "fp32",
        seen=lambda one, predicted: maps.append((one.id, predicted)),
        passed=batches.append,
        limit=limit,
    )
    return counts, maps, batches


@pytest.mark.parametrize("protocol", [Protocol(), CUT], ids=["whole", "windows"])
@pytest.mark.parametrize(("limit", "largest"), LIMITS, ids=str)
def test_counts_predictions_and_their_order_do_not_hang_on_batches(limit, largest, protocol):
    some = examples()
    counts, maps, batches = everything(Exact(), some, protocol, Limit(1, protocol.eval_max_pixels))
    assert batches == [[number] for number in range(len(some))]
    model = Exact()
    found, seen, batches = everything(model, some, protocol, limit)
    assert found.keys() == counts.keys()
    for key in counts:
        np.testing.assert_array_equal(found[key], counts[key], key)
    assert [id for id, _ in seen] == [one.id for one in some]
    for (_, ours), (_, theirs) in zip(seen, maps, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert max(map(len, batches)) == largest
    for n, _, height, width in model.passes:
        assert n == 1 or n * height * width <= limit.pixels


def test_windows_of_several_images_pass_together():
    model, some = Exact(), examples([(96, 120)] * 2)
    _, _, batches = everything(model, some, CUT, Limit(2, 10**6))
    assert batches == [[0, 1]]
    assert model.passes == [(2 * 5 * 6, 3, 32, 32)]  # they overlap by a third


def test_no_more_images_are_held_than_a_block_has():
    taken, seen, limit = [], [], Limit(4, 10**6)

    def source():
        for one in examples():
            assert len(taken) - len(seen) < limit.images
            taken.append(one.id)
            yield one

    keep = lambda one, predicted: seen.append(one.id)  # noqa: E731
    evaluate(Exact(), Four(), source(), CUT, "fp32", seen=keep, limit=limit)
    assert seen == taken


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", KINDS)
def test_whole_batches_repeat_to_the_bit_and_others_within_rounding(family, precision):
    model = models.tiny_segmenter(family, METHODS["linear"]()).eval()
    some, limit = examples(), Limit(6, 10**6)
    batches, maps, single = [], [], []
    counts = evaluate(
        model,
        Four(),
        some,
        CUT,
        precision,
        passed=batches.append,
        limit=limit,
        seen=lambda _, predicted: maps.append(predicted),
    )
    assert max(map(len, batches)) > 2
    for batch in batches:
        part = [some[number] for number in batch]
        again = evaluate(model, Four(), part, CUT, precision, limit=limit)
        for key in counts:
            np.testing.assert_array_equal(again[key], counts[key][batch], key)
    alone = evaluate(
        model,
        Four(),
        some,
        CUT,
        precision,
        limit=Limit(1, 4096),
        seen=lambda _, predicted: single.append(predicted),
    )
    differ = sum(int((a != b).sum()) for a, b in zip(maps, single, strict=True))
    assert differ / sum(one.size for one in maps) <= (1e-4 if precision == "fp32" else 0.02)
    np.testing.assert_allclose(
        alone["nll"], counts["nll"], rtol=1e-4 if precision == "fp32" else 0.02
    )


class Mixed(Benchmark):
    """Sixteen test images of three shapes."""

    title, domain, origin, licence = "Mixed", "none", "generated", "none"
    classes = ("a", "b", "c", "d")
    fingerprint = "1"

    def ids(self, split):
        return [f"{split}/{i}" for i in range({"train": 4, "val": 2, "test": 16}[split])]

    def read(self, id):
        number = int(id.partition("/")[2])
        one = example(number, *[(36, 48), (36, 48), (48, 36), (60, 36)][number % 4])
        return one.image, one.label


@dataclass(frozen=True, kw_only=True)
class Company(Method):
    """What it makes of an image hangs on the whole batch, as rounding may."""

    lr: float = 1e-3
    supports = frozenset(("plain",))
    keeps_structure = True

    def _apply(self, backbone, num_classes):
        backbone.on_images(lambda x: x + x.flip(0) / len(x))

    def apply(self, backbone, num_classes):
        self._apply(backbone, num_classes)


@pytest.fixture
def mixed():
    register("mixed")(Mixed)
    register_method("company")(Company)
    yield
    BENCHMARKS.pop("mixed")
    REGISTERED._loaded.pop("company")


@pytest.mark.parametrize("limit", [Limit(1, 4096), Limit(3, 10**6), Limit(6, 5000)], ids=str)
@pytest.mark.parametrize("method", ["linear", "company"])
def test_a_run_is_verified_by_whole_batches_and_evaluated_again(
    mixed, tmp_path, monkeypatch, method, limit
):
    monkeypatch.setattr("benchmark.engine.evaluate.limit_on", lambda device, protocol: limit)
    told, real = [], runner.evaluate

    def listening(*arguments, passed=None, **options):
        told.append([])
        mine = told[-1].append
        both = (lambda batch: (mine(batch), passed(batch))) if passed else mine
        return real(*arguments, passed=both, **options)

    monkeypatch.setattr(runner, "evaluate", listening)
    sizes = {"steps": 2, "crop": 36, "batch_size": 2, "precision": "fp32"}
    chosen = Selection(methods=method, benchmarks="mixed", seeds=(0,), protocol=sizes)
    (record,) = run(tmp_path, chosen, accept_audit=True)
    assert record.status == "done", record.reason
    first, *repeats = told
    assert (max(map(len, first)) > 1) is (limit.images > 1)
    expected = Counter(len(batch) for batch in spread(first, runner.VERIFIED_IMAGES))
    assert Counter(len(batch) for (batch,) in repeats) == expected
    (cell,) = plan(chosen)
    environment = prepare(None, (), "cpu")
    segmenter = reevaluate.restore(cell, tmp_path, environment)
    stored = store.read_counts(tmp_path / cell.folder)
    benchmark, some = Mixed(), [Example(i, *Mixed().read(i)) for i in Mixed().ids("test")]
    again = evaluate(segmenter, benchmark, some, cell.protocol, record.provenance.precision)
    assert all(np.array_equal(again[key], stored[key]) for key in again)
    recorded, now = reevaluate.again(cell, tmp_path, environment)
    assert recorded == now
    if method == "company" and limit.images > 1:
        # The test would see it if single images were repeated in place of batches.
        single = evaluate(segmenter, benchmark, some[:4], cell.protocol, "fp32", limit=Limit(1, 1))
        assert not same_class_counts({k: stored[k][:4] for k in CLASS_COUNTS}, single)


def test_a_delta_that_gives_other_counts_in_its_batch_fails_the_run(mixed, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmark.engine.evaluate.limit_on", lambda *_: Limit(4, 10**6))
    real, calls = runner.evaluate, []

    def spoilt(*arguments, **options):
        counts = real(*arguments, **options)
        calls.append(len(counts["label"]))
        if len(calls) > 1 and calls[-1] > 1:
            counts["prediction"][-1, 0] += 1  # the last of a batch
        return counts

    monkeypatch.setattr(runner, "evaluate", spoilt)
    sizes = {"steps": 2, "crop": 36, "batch_size": 2, "precision": "fp32"}
    chosen = Selection(methods="linear", benchmarks="mixed", seeds=(0,), protocol=sizes)
    (record,) = run(tmp_path, chosen, accept_audit=True)
    assert record.status == "failed" and "does not reproduce" in record.reason

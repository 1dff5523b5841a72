"""Precision and attention are those that a measurement finds fast, once for a machine and shape."""

import json

import pytest
import timm
import torch
from torch import nn

from benchmark.core.spec import Compute
from benchmark.engine import compute
from benchmark.engine.compute import choose, measure
from benchmark.models.backbone import StagedBackbone
from benchmark.models.segmenter import Segmenter
from benchmark.planning.plan import Selection, plan

CPU = torch.device("cpu")


def cell(**protocol):
    return plan(Selection(methods="linear", benchmarks="streets", protocol=protocol))[0]


@pytest.fixture
def segmenter():
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224",
        num_classes=0,
        embed_dim=32,
        depth=4,
        num_heads=2,
        img_size=32,
        dynamic_img_size=True,
    )
    return Segmenter(StagedBackbone(model), nn.Identity()).eval()


def clocked(monkeypatch, seconds):
    """Passes take as long as a table says, by a clock of their own."""
    now = [0.0]
    monkeypatch.setattr(compute, "GAIN", 1.1)
    monkeypatch.setattr(compute.time, "perf_counter", lambda: now[0])

    def take(segmenter, batch, one):
        now[0] += seconds[one.precision, one.attention]

    monkeypatch.setattr(compute, "_pass", take)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ((1.0, 1.1, 0.9, 0.4), ("bf16", "explicit")),
        ((1.0, 1.1, 0.6, 0.7), ("bf16", "fused")),
        ((1.0, 0.95, 0.95, 0.95), ("fp32", "fused")),  # not by so much that it means something
        ((1.0, 1.1, 20.0, 12.0), ("fp32", "fused")),  # emulated
        ((1.0, 0.5, 20.0, 12.0), ("fp32", "explicit")),
    ],
)
def test_the_fastest_is_chosen_where_it_is_clearly_faster(
    monkeypatch, segmenter, seconds, expected
):
    kinds = [(p, a) for p in ("fp32", "bf16") for a in ("fused", "explicit")]
    clocked(monkeypatch, dict(zip(kinds, seconds, strict=True)))
    found = measure(segmenter, torch.zeros(2, 3, 32, 32), ("fp32", "bf16"))
    assert (found.precision, found.attention) == expected


def test_what_a_pass_keeps_is_counted_the_same_each_time(segmenter):
    images = torch.zeros(2, 3, 32, 32)
    first, second = (measure(segmenter, images, ("fp32",)) for _ in range(2))
    assert first.image_bytes == second.image_bytes > 0
    assert first.model_bytes == sum(p.numel() * 4 for p in segmenter.parameters())


def test_the_answer_is_kept_and_a_precision_that_is_asked_for_stays(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    asked = []

    def once(segmenter, batch, precisions):
        asked.append((tuple(precisions), tuple(batch.shape)))
        return Compute(precisions[-1], "explicit", 7, 9)

    monkeypatch.setattr(compute, "measure", once)
    for wanted, expected in (("auto", "bf16"), ("fp32", "fp32"), ("bf16", "bf16")):
        for _ in range(2):  # the second time from the file, as another process
            compute._on_cpu.cache_clear()
            found = choose(cell(precision=wanted, crop=48, batch_size=2), CPU, ())
            assert found == Compute(expected, "explicit", 7, 9)
    shape = (2, 3, 48, 48)
    assert asked == [(("fp32", "bf16"), shape), (("fp32",), shape), (("bf16",), shape)]
    assert len(json.loads((tmp_path / compute.NAME).read_text())) == 3
    compute._on_cpu.cache_clear()


@pytest.mark.parametrize("text", ["", "[1]", '{"x": 3}', "{"])
def test_a_damaged_file_of_answers_is_measured_anew(monkeypatch, tmp_path, text):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    (tmp_path / compute.NAME).write_text(text)
    monkeypatch.setattr(compute, "measure", lambda *_: Compute("fp32"))
    compute._on_cpu.cache_clear()
    assert choose(cell(crop=48), CPU, ()) == Compute("fp32")
    assert Compute("fp32").__dict__ in json.loads((tmp_path / compute.NAME).read_text()).values()
    compute._on_cpu.cache_clear()


def test_what_cannot_be_measured_falls_back(monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", "none")

    def fails(*_):
        raise RuntimeError("no kernel for this")

    monkeypatch.setattr(compute, "measure", fails)
    compute._on_cpu.cache_clear()
    assert choose(cell(crop=48), CPU, ()) == Compute("fp32")
    compute._on_cpu.cache_clear()


def test_methods_of_a_comparison_share_one_choice():
    cells = plan(Selection(methods="linear,lora,full", benchmarks="streets", protocol={"crop": 48}))
    assert len({choose(one, CPU, ()) for one in cells}) == 1

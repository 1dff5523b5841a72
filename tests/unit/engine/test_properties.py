"""What must hold for any input: hashes, selectors, counts, splits, strips and schedules."""

import dataclasses
from typing import Any, Literal, get_args, get_origin, get_type_hints
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from benchmark.core.selectors import parse_selector, split_selectors
from benchmark.core.spec import Protocol, RunSpec
from benchmark.data.base import IGNORE, SPLITS, Example, carve
from benchmark.data.examples import Examples, Index, Mapped, offsets
from benchmark.data.sets.carving import carve_val
from benchmark.data.subsample import stratified_order, take
from benchmark.engine import counts as counting
from benchmark.engine import evaluate
from benchmark.engine.train import learning_rate_factor
from benchmark.planning.catalogue import METHODS, build_method, method_label
from benchmark.results import metrics

same_everywhere = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

SEEDS = st.integers(0, 2**32 - 1)
NAMES = st.from_regex(r"[a-z][a-z0-9_:.-]{0,8}", fullmatch=True)

FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "steps": st.integers(1, 10_000),
    "batch_size": st.integers(1, 64),
    "crop": st.integers(16, 512),
    "decoder": NAMES,
    "decoder_lr": st.floats(1e-6, 1),
    "schedule": st.sampled_from(["cosine", "poly"]),
    "weight_decay": st.floats(0, 1),
    "warmup": st.floats(0, 0.9),
    "grad_clip": st.floats(0.1, 10),
    "scale_min": st.floats(0.1, 1),
    "scale_max": st.floats(1, 4),
    "flip": st.booleans(),
    "fraction": st.floats(0.01, 1),
    "views": st.integers(0, 64),
    "precision": st.sampled_from(["auto", "fp32", "bf16"]),
    "eval_split": st.sampled_from(["test", "val"]),
    "eval_max_pixels": st.integers(1_000_000, 4_000_000),
    "eval_window": st.integers(32, 1000),
    "weight_decay_on": st.sampled_from(["all", "weights"]),
    "grad_clip_on": st.sampled_from(["all", "parts"]),
    # Of these, not all values go together.
    "loss": st.sampled_from(["ce", "ce+dice", "focal"]),
    "class_weights": st.sampled_from(["none", "balanced"]),
    "accumulate": st.just(1),
    "checkpoint_activations": st.sampled_from(["off", "on"]),
    "layer_decay": st.floats(0.1, 1),
    "ema": st.floats(0, 0.99),
    "val_every": st.integers(0, 100),
    "checkpoint": st.just("last"),
    "tta": st.sampled_from(["none", "flip"]),
}
PROTOCOLS = st.fixed_dictionaries({}, optional=FIELDS)
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@st.composite
def specs(draw: st.DrawFn) -> RunSpec:
    return RunSpec(
        suite=draw(NAMES),
        benchmark=draw(NAMES),
        benchmark_version=draw(st.sampled_from(["", "0123456789ab"])),
        backbone=draw(NAMES),
        weights=draw(st.sampled_from(["pretrained", "none"])),
        method=draw(NAMES),
        method_label=draw(NAMES),
        method_params=draw(
            st.dictionaries(NAMES, VALUES.filter(lambda v: v not in (np.inf, -np.inf)), max_size=4)
        ),
        seed=draw(st.integers(0, 2**40)),
        protocol=Protocol(**draw(PROTOCOLS)),
    )


def test_every_field_of_a_protocol_is_drawn() -> None:
    assert FIELDS.keys() == Protocol.model_fields.keys()


@given(specs())
@same_everywhere
def test_a_cell_comes_back_from_json_as_the_same_run(spec: RunSpec) -> None:
    back = RunSpec.model_validate_json(spec.model_dump_json())
    assert back == spec and back.run_id == spec.run_id and back.folder == spec.folder


@given(PROTOCOLS, st.randoms(use_true_random=False))
@same_everywhere
def test_the_order_of_fields_does_not_matter(fields: dict[str, Any], random: Any) -> None:
    items = list(fields.items())
    random.shuffle(items)
    assert Protocol(**dict(items)).hash == Protocol(**fields).hash


@given(PROTOCOLS, st.data())
@same_everywhere
def test_a_changed_field_changes_the_hash(fields: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(list(FIELDS)))
    one, other = Protocol(**fields), Protocol(**fields | {name: data.draw(FIELDS[name])})
    assert (one == other) == (one.hash == other.hash)


@given(specs(), specs(), st.sampled_from(sorted(set(RunSpec.model_fields) - {"method_label"})))
@same_everywhere
def test_a_changed_part_makes_another_run(one: RunSpec, other: RunSpec, field: str) -> None:
    mixed = RunSpec(**{n: getattr(one, n) for n in RunSpec.model_fields} | {"method_label": "x"})
    assert mixed.run_id == one.run_id
    mixed = mixed.model_copy(update={field: getattr(other, field)})
    mixed = RunSpec(**{n: getattr(mixed, n) for n in RunSpec.model_fields})
    same = repr(getattr(one, field)) == repr(getattr(other, field))
    if not (same or field == "method_params"):
        assert mixed.run_id != one.run_id


def values(hint: Any) -> st.SearchStrategy[Any] | None:
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    usual = {int: st.integers(1, 64), float: st.floats(1e-9, 1e3), bool: st.booleans()}
    return usual.get(hint)


HAND_WRITTEN = [name for name in METHODS.names() if ":" not in name]


@pytest.mark.parametrize("name", HAND_WRITTEN)
@given(data=st.data())
@settings(same_everywhere, max_examples=30)
def test_a_label_selects_the_method_that_it_names(name: str, data: st.DataObject) -> None:
    hints = get_type_hints(METHODS.get(name))
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(METHODS.get(name)):
        strategy = values(hints[field.name])
        if strategy is not None and data.draw(st.booleans()):
            fields[field.name] = data.draw(strategy)
    if "groups" in fields:
        fields["bottleneck"] = fields["groups"] * data.draw(st.integers(1, 8))
    if "tokens" in fields and "rank" in fields:
        fields["tokens"] = max(2, fields["tokens"])
        fields["rank"] = min(fields["rank"], fields["tokens"])
    if "placement" in hints:
        fields["placement"] = data.draw(st.sampled_from(["1", "1+2", "2+3", "1+2+3+4", "4"]))
    try:
        method = METHODS.get(name)(**fields)
    except ValueError:
        assume(False)
    label = method_label(method)
    [(chosen, texts)] = METHODS.select(label)
    assert build_method(chosen, texts) == method
    assert method_label(build_method(chosen, texts)) == label


WORDS = st.from_regex(r"[A-Za-z0-9_.+=:*/-]{1,8}", fullmatch=True)


@given(st.lists(st.tuples(NAMES, st.dictionaries(NAMES, WORDS, max_size=3)), max_size=4))
@same_everywhere
def test_selectors_are_read_as_they_are_written(chosen: list[tuple[str, dict[str, str]]]) -> None:
    texts = [
        f"{name}[{','.join(f'{k}={v}' for k, v in fields.items())}]" if fields else name
        for name, fields in chosen
    ]
    assert split_selectors(",".join(texts)) == texts
    assert [parse_selector(text) for text in texts] == [(name, [f]) for name, f in chosen]


def maps(seed: int, images: int, classes: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Predictions and labels of small images of many sizes, with void, some of them all void."""
    random = np.random.default_rng(seed)
    out = []
    for _ in range(images):
        size = random.integers(1, 9, 2)
        label = random.integers(0, random.integers(1, classes + 1), size).astype(np.uint8)
        label[random.random(size) < random.choice([0, 0.2, 1], p=[0.4, 0.5, 0.1])] = IGNORE
        out.append((random.integers(0, classes, size).astype(np.uint8), label))
    assume(any((label != IGNORE).any() for _, label in out))
    return out


def counted(pairs: list[tuple[np.ndarray, np.ndarray]], classes: int, seed: int) -> evaluate.Counts:
    random = np.random.default_rng(seed)
    rows = []
    for predicted, label in pairs:
        maps_ = torch.from_numpy(predicted), torch.from_numpy(label)
        right, guessed, true, both, either = counting.class_counts(
            *maps_, classes, borders=True
        ).numpy()
        bins = random.multinomial(true.sum(), [1 / counting.BINS] * counting.BINS)
        rows.append(
            {
                "intersection": right,
                "prediction": guessed,
                "label": true,
                "boundary_intersection": both,
                "boundary_union": either,
                "nll": random.random() * true.sum(),
                "bin_count": bins,
                "bin_correct": bins // 2,
                "bin_confidence": bins * random.random(counting.BINS),
            }
        )
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


IMAGES, CLASSES = st.integers(1, 8), st.integers(1, 6)


@given(SEEDS, IMAGES, CLASSES)
@same_everywhere
def test_metrics_are_those_of_a_confusion_matrix(seed: int, images: int, classes: int) -> None:
    pairs = maps(seed, images, classes)
    names = [str(k) for k in range(classes)]
    found = metrics.summarise(counted(pairs, classes, seed), names, dice=True)
    matrix = np.zeros((classes, classes))  # label x prediction
    of_images = []
    for predicted, label in pairs:
        own = np.zeros_like(matrix)
        for guess, true in zip(predicted.flat, label.flat, strict=True):
            if true != IGNORE:
                own[true, guess] += 1
        if own.any():
            of_images.append(np.mean(list(ious(own).values())))
        matrix += own
    iou, frequency = ious(matrix), matrix.sum(1) / matrix.sum()
    assert found.miou == pytest.approx(np.mean(list(iou.values())), abs=1e-12)
    assert found.image_miou == pytest.approx(np.mean(of_images), abs=1e-12)
    assert found.pixel_accuracy == pytest.approx(np.trace(matrix) / matrix.sum(), abs=1e-12)
    recall = [matrix[k, k] / matrix[k].sum() for k in iou]
    assert found.mean_accuracy == pytest.approx(np.mean(recall), abs=1e-12)
    assert found.fw_iou == pytest.approx(sum(iou[k] * frequency[k] for k in iou), abs=1e-12)
    assert found.class_iou == {
        str(k): pytest.approx(iou[k], abs=1e-12) if k in iou else None for k in range(classes)
    }
    dice = [2 * matrix[k, k] / (matrix[k].sum() + matrix[:, k].sum()) for k in iou]
    assert found.mdice == pytest.approx(np.mean(dice), abs=1e-12)
    assert metrics.summarise(counted(pairs, classes, seed), names).mdice is None
    assert set(found.absent_classes) == {str(k) for k in range(classes) if k not in iou}


def ious(matrix: np.ndarray) -> dict[int, float]:
    """IoU of each class that has labels."""
    return {
        k: matrix[k, k] / (matrix[k].sum() + matrix[:, k].sum() - matrix[k, k])
        for k in range(len(matrix))
        if matrix[k].sum()
    }


@given(SEEDS, IMAGES, CLASSES, st.randoms(use_true_random=False), st.integers(0, 8))
@same_everywhere
def test_metrics_do_not_depend_on_the_order_or_grouping_of_images(
    seed: int, images: int, classes: int, random: Any, cut: int
) -> None:
    counts = counted(maps(seed, images, classes), classes, seed)
    names = [str(k) for k in range(classes)]
    order = random.sample(range(images), images)
    groups = [
        {key: value[part] for key, value in counts.items()} for part in (order[:cut], order[cut:])
    ]
    together = {key: np.concatenate([group[key] for group in groups]) for key in counts}
    whole, again = (metrics.summarise(c, names).model_dump() for c in (counts, together))
    for name, value in whole.items():
        assert again[name] == pytest.approx(value, abs=1e-12), name
    summed = {key: np.stack([group[key].sum(0) for group in groups]) for key in counts}
    np.testing.assert_array_equal(metrics.class_iou(summed), metrics.class_iou(counts))


@given(SEEDS, CLASSES, st.integers(0, 8), st.sampled_from([0, 1]))
@same_everywhere
def test_counts_of_the_parts_of_an_image_add_up(
    seed: int, classes: int, cut: int, axis: int
) -> None:
    whole = [torch.from_numpy(x) for x in maps(seed, 1, classes)[0]]
    parts = zip(*(x.tensor_split([cut], axis) for x in whole), strict=True)
    summed = sum(counting.class_counts(*part, classes) for part in parts)
    torch.testing.assert_close(summed, counting.class_counts(*whole, classes))


@given(SEEDS, st.integers(1, 6))
@settings(same_everywhere, max_examples=50)
def test_what_is_mapped_is_what_was_written(tmp_path_factory: Any, seed: int, n: int) -> None:
    random = np.random.default_rng(seed)
    shapes = random.integers(1, 7, (n, 3)).astype(np.int32)
    pairs = [
        (random.integers(0, 256, s, np.uint8), random.integers(0, 256, s[:2], np.uint8))
        for s in shapes
    ]
    path = tmp_path_factory.mktemp("mapped") / "split.bin"
    path.write_bytes(b"".join(part.tobytes() for pair in pairs for part in pair))
    assert offsets(shapes)[0] == 0 and offsets(shapes)[-1] == path.stat().st_size
    assert (np.diff(offsets(shapes)) == [image.size + label.size for image, label in pairs]).all()
    presence, has_void = np.ones((n, 1), bool), np.zeros(n, bool)
    levels, digests = np.zeros((n, 2), np.uint8), np.zeros((n, 2, 16), np.uint8)
    ids = [str(i) for i in range(n)]
    mapped = Mapped(path, Index(ids, shapes, presence, has_void, levels, digests, ""))
    for i, (image, label) in enumerate(pairs):
        np.testing.assert_array_equal(mapped.at(i).image, image)
        np.testing.assert_array_equal(mapped.at(i).label, label)


class Fixed(Examples):
    def __init__(self, presence: np.ndarray) -> None:
        self.presence, self.sha256 = presence, "0"
        self.ids = [str(i) for i in range(len(presence))]

    def at(self, index: int) -> Example:
        return Example(self.ids[index], np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8))


SHARES = st.floats(0.001, 1)


@given(SEEDS, st.integers(1, 60), CLASSES, SHARES, SHARES, st.floats(0, 1))
@same_everywhere
def test_shares_are_nested(
    seed: int, images: int, classes: int, one: float, other: float, density: float
) -> None:
    random = np.random.default_rng(seed)
    examples = Fixed(random.random((images, classes)) < density * random.random(classes))
    small, large = (take(examples, share, seed).ids for share in sorted((one, other)))
    assert set(small) <= set(large) <= set(examples.ids)
    assert len(set(small)) == len(small) == max(1, round(min(one, other) * images))
    assert sorted(stratified_order(examples.presence, random)) == list(range(images))


@given(st.sets(NAMES, max_size=40), st.floats(0, 1), st.floats(0, 1), SEEDS, st.integers(1, 5))
@same_everywhere
def test_carving_is_a_partition(
    ids: set[str], one: float, other: float, seed: int, groups: int
) -> None:
    first, second = min(one, other), abs(one - other)
    strata = {id: len(id) % groups for id in ids}
    parts = carve(sorted(ids), (first, second, 1 - first - second), strata, seed)
    assert sorted(id for split in SPLITS for id in parts[split]) == sorted(ids)
    assert parts == carve(sorted(ids, reverse=True), (first, second, 0), strata, seed)
    stay, taken = carve_val(sorted(ids), 0.02, strata)
    assert sorted(stay + taken) == sorted(ids) and bool(taken) == bool(ids)


GRID, SIDE = st.integers(1, 5), st.integers(1, 40)


@given(SEEDS, CLASSES, GRID, GRID, SIDE, SIDE, st.integers(1, 400))
@same_everywhere
def test_strips_cover_every_pixel_once_as_one_interpolation_would(
    seed: int, classes: int, h: int, w: int, height: int, width: int, values: int
) -> None:
    coarse = torch.randn(classes, h, w, generator=torch.Generator().manual_seed(seed))
    padded = (8 * h, 8 * w)
    with mock.patch.dict(evaluate.STRIP, cpu=values):
        strips = list(evaluate.label_strips(coarse, padded, padded, (height, width)))
    assert [x for columns, _ in strips for x in range(width)[columns]] == list(range(width))
    whole = F.interpolate(coarse[None], (height, width), mode="bilinear")[0]
    joined = torch.cat([strip for _, strip in strips], 1).transpose(1, 2)
    torch.testing.assert_close(joined, whole, atol=1e-4, rtol=1e-4)


@given(st.integers(1, 200), st.integers(1, 40), st.sampled_from([4, 14, 16, 32]))
@same_everywhere
def test_windows_cover_every_pixel(cells: int, window_cells: int, step: int) -> None:
    side, window = cells * step, window_cells * step
    starts = evaluate.window_starts(side, window, step)
    assert starts == sorted(starts) and all(start % step == 0 for start in starts)
    covered = {y for start in starts for y in range(start, min(start + window, side))}
    assert covered == set(range(side))
    assert starts[-1] + window <= max(side, window)


@given(PROTOCOLS)
@same_everywhere
def test_the_rate_rises_and_falls_to_zero(fields: dict[str, Any]) -> None:
    protocol = Protocol(**fields | {"steps": min(fields.get("steps", 200), 500)})
    rising = round(protocol.warmup * protocol.steps)
    assume(rising < protocol.steps)
    factors = [learning_rate_factor(step, protocol) for step in range(protocol.steps + 1)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors[rising] == 1 and factors[-1] == pytest.approx(0, abs=1e-12)
    assert (np.diff(factors[: rising + 1]) > 0).all() and (np.diff(factors[rising:]) < 0).all()

"""Which settings are tried: the same numbers for every method, from the range that it declares."""

import dataclasses
import itertools
import math

import pytest

from benchmark.core.errors import UserError
from benchmark.planning.catalogue import build_method
from benchmark.planning.plan import Selection
from benchmark.planning.trials import (
    LEAST,
    RATES,
    Rung,
    cells,
    points,
    rungs,
    sample,
    space_of,
    studies,
)
from methods.base import METHODS, Method

pytestmark = pytest.mark.no_torch
NAMES = [name for name in METHODS.loaded() if ":" not in name]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Odd(Method):
    lr: float = 1e-3
    size: int = 4

    def _apply(self, backbone, num_classes):
        raise NotImplementedError


@pytest.fixture
def odd(monkeypatch):
    """A method whose declared range a test sets."""
    monkeypatch.setitem(METHODS._loaded, "odd", Odd)
    monkeypatch.setattr(Odd, "name", "odd")

    def declare(**tunes):
        monkeypatch.setattr(Odd, "tunes", tunes)

    return declare


def test_all_methods_are_tried_at_the_same_learning_rates():
    rates = {
        tuple(fields["lr"] for fields in sample(space_of(METHODS[name], {}), 8))
        for name in NAMES
        if "lr" in space_of(METHODS[name], {})
    }
    assert len(rates) == 1


def test_the_first_trials_of_more_are_the_trials_of_fewer():
    space = space_of(METHODS["lora"], {})
    assert sample(space, 16)[:5] == sample(space, 5)


def test_rates_are_spread_evenly_over_the_logarithm():
    low, high = map(math.log, RATES)
    places = [(math.log(f["lr"]) - low) / (high - low) for f in sample({"lr": RATES}, 16)]
    # A Sobol sequence has one point in each sixteenth; rounding to two digits may move one across.
    counts = [sum(k <= 4 * place < k + 1 for place in places) for k in range(4)]
    assert all(3 <= count <= 5 for count in counts) and sum(counts) == 16
    assert min(f["lr"] for f in sample({"lr": RATES}, 256)) >= RATES[0]
    assert max(f["lr"] for f in sample({"lr": RATES}, 256)) <= RATES[1]
    assert all(0 <= number < 1 for point in points(64) for number in point)


def test_values_are_tried_equally_often():
    tried = [fields["rank"] for fields in sample({"lr": RATES, "rank": (2, 4, 8, 16)}, 16)]
    assert {value: tried.count(value) for value in tried} == {2: 4, 4: 4, 8: 4, 16: 4}


@pytest.mark.parametrize("name", NAMES)
def test_every_method_declares_what_it_has(name):
    space = space_of(METHODS[name], {})
    fields = {field.name for field in dataclasses.fields(METHODS[name])}
    assert space.keys() <= fields
    assert ("lr" in space) == ("lr" in fields)
    assert len(space) <= 3, "one or two fields besides the learning rate"
    for chosen in sample(space, 32):
        built = build_method(name, chosen)
        assert {field: getattr(built, field) for field in chosen} == chosen
    default = build_method(name, {})
    for field, values in METHODS[name].tunes.items():
        assert getattr(default, field) in values, "the default is one of the values"
        assert len(set(values)) == len(values) > 1


def test_what_is_typed_is_not_varied():
    assert "rank" not in space_of(METHODS["lora"], {"rank": "4"})
    (study,) = studies("lora[rank=4,lr=0.001]", ["demo_vit"], 4)
    assert study.label == "lora[rank=4,lr=0.001]" and set(study.labels) == {study.label}
    first, second = studies("lora[rank=4|16]", ["demo_vit"], 4)
    assert [fields["lr"] for fields in first.chosen] == [fields["lr"] for fields in second.chosen]


@pytest.mark.parametrize(
    ("tunes", "message"),
    [
        ({"sise": (1, 2)}, "declares a range of 'sise' in `tunes`; did you mean 'size'"),
        ({"lr": (1e-3, 1e-2)}, "'lr' in `tunes`; lr is varied anyway"),
        ({"size": ()}, "declares no values of 'size'"),
        ({"size": ("many",)}, "method odd size"),
    ],
)
def test_a_range_that_a_method_does_not_have_is_refused(odd, tunes, message):
    odd(**tunes)
    with pytest.raises(UserError, match=message):
        studies("odd", ["demo_vit"], 4)


def test_a_declared_range_is_part_of_the_space(odd):
    odd(size=(1, 2))
    assert space_of(METHODS["odd"], {}) == {"lr": RATES, "size": (1, 2)}


@pytest.mark.parametrize("trials", [1, 2, 3, 8, 17])
@pytest.mark.parametrize("benchmarks", [1, 2, 3, 5, 9])
def test_rungs_double_the_benchmarks_and_halve_the_trials(trials, benchmarks):
    found = rungs(trials, benchmarks, "halving")
    assert found[0].trials == trials and found[-1].benchmarks == benchmarks
    assert found[-1].trials >= min(trials, LEAST)
    for one, after in itertools.pairwise(found):
        assert after.benchmarks > one.benchmarks
        assert max(LEAST, one.trials / 2) <= after.trials < one.trials
    assert rungs(trials, benchmarks, "none") == [Rung(trials, benchmarks)]


def test_rungs_of_five_benchmarks():
    assert rungs(8, 5, "halving") == [Rung(8, 1), Rung(4, 2), Rung(2, 5)]


def test_cells_evaluate_the_validation_split():
    every = studies("lora,linear", ["demo_vit"], 3)
    found = cells(Selection(benchmarks="cells,streets", seeds=(0, 1)), every)
    assert found.benchmarks == ("cells", "streets") and found.seeds == (0, 1)
    one = found.of(every[0], 0, 2)
    assert [(cell.benchmark, cell.seed) for cell in one] == [
        *(("cells", 0), ("cells", 1), ("streets", 0), ("streets", 1)),
    ]
    assert {cell.protocol.eval_split for own in found.every.values() for cell in own} == {"val"}
    # A method without fields to vary has one setting, so its trials share their cells.
    assert found.of(every[1], 0, 1) == found.of(every[1], 2, 1)
    with pytest.raises(UserError, match="reads validation splits only"):
        cells(Selection(protocol={"eval_split": "test"}), every)


def test_a_range_does_not_make_runs_stale():
    from benchmark.results.provenance import meaning

    body = b"class A:\n    x: int = 1\n"
    assert meaning(body + b"    tunes: ClassVar[dict] = {'x': (1, 2)}\n") == meaning(body)
    assert meaning(body + b"    other: ClassVar[dict] = {'x': (1, 2)}\n") != meaning(body)

"""Which settings of a method are tried, and which of them go on: the same for every method.

Trial number n of every method is point n of one scrambled Sobol sequence (Owen, Scrambling Sobol'
and Niederreiter-Xing Points, Journal of Complexity 1998). Its first coordinate is the learning
rate, the others are the fields that the method declares (`Method.tunes`), so all methods are tried
at the same rates. A trial depends on nothing but its number.

Trials are dropped by synchronous successive halving (Jamieson and Talwalkar, Non-stochastic Best
Arm Identification and Hyperparameter Optimization, AISTATS 2016). Its resource is the number of
benchmarks, not of steps: a shorter training has a shorter schedule, and favours high rates. Its
rungs are synchronous, so that which trials go on does not depend on which cells finish first.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmark.core.errors import UserError
from benchmark.core.selectors import did_you_mean
from benchmark.core.spec import RunSpec
from benchmark.planning.catalogue import METHODS, build_method, checked, method_label
from benchmark.planning.plan import Selection, plan

if TYPE_CHECKING:
    from methods.base import Method

RATES = (1e-4, 3e-2)
"""Learning rates, log-uniform."""
PRUNING = ("halving", "none")
LEAST = 2
"""Trials that run on all benchmarks: the choice is never made before."""

_DIMENSIONS = 8  # drawn in any case, so that the first is the same for methods of few fields
_SEED = 0


@dataclass(frozen=True)
class Study:
    """The trials of one method on one backbone.

    Attributes:
        label: of the method, as it was typed.
        backbone: its name.
        space: learning rates (low, high) under `lr`; of other fields the values.
        chosen: the fields of each trial.
        labels: of the method with these fields.
    """

    label: str
    backbone: str
    space: Mapping[str, tuple[Any, ...]]
    chosen: tuple[Mapping[str, Any], ...]
    labels: tuple[str, ...]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.label} on {self.backbone}"


@dataclass(frozen=True)
class Rung:
    """A round of trials.

    Attributes:
        trials: how many take part, the best ones of the round before.
        benchmarks: how many, the first ones, they have run on at its end.
    """

    trials: int
    benchmarks: int


def rungs(trials: int, benchmarks: int, pruning: str) -> list[Rung]:
    """The rounds: benchmarks double, trials halve, and two or more run on all benchmarks."""
    if pruning == "none":
        return [Rung(trials, benchmarks)]
    rounds, left, sets = [], trials, 1
    while sets < benchmarks:
        rounds.append(Rung(left, sets))
        sets *= 2
        left = min(left, max(LEAST, math.ceil(left / 2)))
    rounds.append(Rung(left, benchmarks))
    # Where no trial is dropped, there is nothing to wait for.
    ends = [after.trials < one.trials for one, after in itertools.pairwise(rounds)]
    return [one for one, end in zip(rounds, [*ends, True], strict=True) if end]


def space_of(cls: "type[Method]", typed: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """What is varied of a method: its rate and the fields it declares, without those typed.

    Args:
        cls: of the method.
        typed: fields that keep their values.

    Raises:
        UserError: it declares a field that it does not have, or no values.
    """
    name = cls.name
    fields = {field.name for field in dataclasses.fields(cls)}
    space: dict[str, tuple[Any, ...]] = {"lr": RATES} if "lr" in fields else {}
    for field, values in cls.tunes.items():
        if field not in fields or field == "lr":
            hint = "; lr is varied anyway" if field == "lr" else did_you_mean(field, fields)
            raise UserError(f"method {name!r} declares a range of {field!r} in `tunes`{hint}")
        if not values:
            raise UserError(f"method {name!r} declares no values of {field!r} in `tunes`; add some")
        for value in values:
            checked(cls, {**typed, field: value})
        space[field] = tuple(values)
    if len(space) > _DIMENSIONS:
        raise UserError(f"method {name!r} declares over {_DIMENSIONS} fields in `tunes`; use fewer")
    return {field: values for field, values in space.items() if field not in typed}


def sample(space: Mapping[str, tuple[Any, ...]], trials: int) -> list[dict[str, Any]]:
    """The fields of the first trials of a method.

    Args:
        space: as `space_of` gives it.
        trials: how many; more of them begin with the same ones.
    """
    chosen = []
    for point in points(trials):
        rate, *others = map(float, point)
        fields: dict[str, Any] = {}
        if "lr" in space:
            low, high = map(math.log, space["lr"])
            # Two digits are all that a rate is known to, and can be typed.
            fields["lr"] = float(f"{math.exp(low + rate * (high - low)):.2g}")
        names = (name for name in space if name != "lr")
        for name, place in zip(names, others, strict=False):
            fields[name] = space[name][int(place * len(space[name]))]
        chosen.append(fields)
    return chosen


def points(trials: int) -> list[list[float]]:
    """The first points of the sequence, each in [0, 1) to the power of its coordinates."""
    from scipy.stats import qmc

    sequence = qmc.Sobol(_DIMENSIONS, scramble=True, seed=_SEED)
    drawn: list[list[float]] = sequence.random_base2(math.ceil(math.log2(trials)))[:trials].tolist()
    return drawn


def studies(methods: str, backbones: Sequence[str], trials: int) -> list[Study]:
    """A study of each selected method on each backbone.

    Raises:
        UserError: a method, a field or a value does not exist or does not fit.
    """
    found = []
    for name, typed in METHODS.select(methods):
        base = build_method(name, typed)
        space = space_of(METHODS.get(name), typed)
        chosen = sample(space, trials)
        labels = [method_label(build_method(name, {**typed, **fields})) for fields in chosen]
        for backbone in backbones:
            own = Study(method_label(base), backbone, space, tuple(chosen), tuple(labels))
            found.append(own)
    return list({(study.label, study.backbone): study for study in found}.values())


@dataclass(frozen=True)
class Cells:
    """The cells of all trials on all benchmarks.

    Attributes:
        benchmarks: in the order in which trials run on them.
        every: cells (one a seed) by backbone, method's label and benchmark.
    """

    benchmarks: tuple[str, ...]
    every: Mapping[tuple[str, str, str], tuple[RunSpec, ...]]

    @property
    def first(self) -> RunSpec:
        """One of them; protocol, suite and weights are those of all."""
        return next(iter(self.every.values()))[0]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of each setting."""
        return tuple(cell.seed for cell in next(iter(self.every.values())))

    def of(self, study: Study, trial: int, benchmarks: int) -> list[RunSpec]:
        """Those of a trial on the first benchmarks."""
        label = study.labels[trial]
        return [
            cell
            for name in self.benchmarks[:benchmarks]
            for cell in self.every[study.backbone, label, name]
        ]


def cells(selection: Selection, every: Sequence[Study]) -> Cells:
    """The cells of studies, which evaluate the validation split.

    Args:
        selection: of benchmarks, seeds and protocol.
        every: all of them.

    Raises:
        UserError: as `plan`; or the selection names another split, settings or fractions.
    """
    if selection.protocol.get("eval_split", "val") != "val":
        raise UserError(
            "`tune` reads validation splits only; leave out --set eval_split="
            f"{selection.protocol['eval_split']}"
        )
    if selection.settings or selection.fractions:
        # From a configuration file: there are no such options.
        name = "settings" if selection.settings else "fraction"
        raise UserError(f"`tune` takes no {name}; take it out of the file of --config")
    labels = dict.fromkeys(label for study in every for label in study.labels)
    selected = dataclasses.replace(
        selection,
        methods=",".join(labels),
        backbones=",".join(dict.fromkeys(study.backbone for study in every)),
        protocol={**selection.protocol, "eval_split": "val"},
    )
    found: dict[tuple[str, str, str], list[RunSpec]] = {}
    for cell in plan(selected):
        found.setdefault((cell.backbone, cell.method_label, cell.benchmark), []).append(cell)
    names = dict.fromkeys(name for _, _, name in found)
    return Cells(tuple(names), {key: tuple(own) for key, own in found.items()})

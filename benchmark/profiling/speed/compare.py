"""Every comparison of the table, one after the other."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import yaml

import methods
from benchmark.core.ratio import Ratio, Times, ratio
from benchmark.core.record import TrainMemory
from benchmark.core.spec import RunSpec
from benchmark.execution.environment import Environment
from benchmark.profiling.speed import cores, tasks
from benchmark.profiling.speed.loops import (
    COMPUTED,
    KNOWN,
    Bare,
    Harness,
    trained,
    with_and_without,
)
from benchmark.profiling.speed.memory import of_bare_loop, of_run
from benchmark.profiling.speed.rounds import Loop, take_turns
from benchmark.profiling.speed.table import Row
from benchmark.profiling.speed.trainer import HuggingFace
from methods import Unsupported

ROWS = Path(__file__).with_name("rows.yaml")

PARTS = ("trainer", "loop", "cores", "known", "memory", "tasks")
"""The parts of the table, in order."""


@dataclass(frozen=True)
class Comparison:
    """What is compared where, and how often.

    Attributes:
        cell: makes the cell of a method, by its label.
        environment: where.
        steps: timed ones a loop and round.
        rounds: looked at.
        told: called with what is running.
    """

    cell: Callable[[str], RunSpec]
    environment: Environment
    steps: int
    rounds: int
    told: Callable[[str], None]

    def rows(self, part: str) -> Iterator[Row]:
        """The rows of one of the parts, as they are found out."""
        yield from getattr(self, f"_{part}")(_wanted(part))

    def cells(self, part: str) -> list[RunSpec]:
        """What one of the parts trains."""
        methods = _wanted(part)["methods"]
        more = (*methods.values(), _wanted(part)["untouched"]) if part == "cores" else ()
        return [self.cell(label) for label in (*methods, *more)]

    def _times(self, loops: dict[str, Loop]) -> Times:
        return take_turns(loops, self.steps, self.rounds, self.environment.device, self.told)

    def _trainer(self, wanted: dict) -> Iterator[Row]:
        own, as_library, untouched = map(self.cell, wanted["methods"])
        harness = Harness.of(own, self.environment)
        library = HuggingFace.of(as_library, self.environment)
        numbers = [sum(p.numel() for p in trained(one.rehearsal)) for one in (harness, library)]
        if numbers[0] != numbers[1]:
            raise ValueError(f"not the same work: {numbers[0]} and {numbers[1]} parameters")
        limit = Bare.of(untouched, self.environment, to_images=True)
        loops: dict[str, Loop] = {
            own.method_label: harness,
            "Trainer + peft": library,
            "input gradient": limit,
        }
        times = self._times(loops)
        for other, least in wanted["wanted"].items():
            yield self._row(own, times, own.method_label, other, least)

    def _loop(self, wanted: dict) -> Iterator[Row]:
        for label in wanted["methods"]:
            own = self.cell(label)
            loops: dict[str, Loop] = {
                own.method_label: Harness.of(own, self.environment),
                "bare loop": Bare.of(own, self.environment),
                "bare loop, loss at full size": Bare.of(own, self.environment, usual=True),
            }
            times = self._times(loops)
            for other in list(loops)[1:]:
                yield self._row(own, times, own.method_label, other, wanted["wanted"])

    def _cores(self, wanted: dict) -> Iterator[Row]:
        for label, library in wanted["methods"].items():
            own = self.cell(label)
            times, jobs = cores.compare(
                own,
                self.cell(library),
                self.cell(wanted["untouched"]),
                self.environment,
                self.steps,
                self.rounds,
                self.told,
            )
            for of, to, least in (
                (cores.ONE, cores.LIBRARY, wanted["wanted"]["one"]),
                (cores.GRID, cores.LIBRARY, wanted["wanted"]["grid"]),
                (cores.GRID, cores.LIMIT, wanted["wanted"]["limit"]),
                (cores.BUSY, cores.GRID, wanted["wanted"]["busy"]),
            ):
                here, there = (1 / median(times[name]) for name in (of, to))
                yield Row(
                    f"{of}, {own.method_label}, {jobs} cores",
                    f"{here:.1f} images/s",
                    to,
                    f"{there:.1f} images/s",
                    ratio(times, of, to),
                    least,
                )

    def _known(self, wanted: dict) -> Iterator[Row]:
        for label, least in wanted["methods"].items():
            own = self.cell(label)
            self.told(f"{own.method_label}, frozen stages cached and computed")
            times, stages, same = with_and_without(own, self.environment, self.steps, self.rounds)
            row = self._row(own, times, KNOWN, COMPUTED, least)
            note = f"{stages} stages cached, {'equal' if same else 'DIFFERENT'} results"
            yield Row(
                f"{own.method_label}, frozen stages cached",
                row.here,
                "computed",
                row.there,
                row.ratio,
                least,
                note=note,
            )

    def _memory(self, wanted: dict) -> Iterator[Row]:
        found = {}
        for label in _written_by_hand():
            self.told(f"memory of {label}")
            with contextlib.suppress(Unsupported):
                found[label] = of_run(self.cell(label), self.environment)
        first, *others = wanted["methods"]
        heaviest = found[first].peak_bytes
        for label, held in sorted(found.items(), key=lambda item: item[1].peak_bytes):
            most = wanted["light"].get(label)
            yield _sizes(
                f"peak memory, {label}", held.peak_bytes, first, heaviest, most, _parts(held)
            )
        for label in (first, *others):
            self.told(f"memory of {label}, bare loop")
            bare = of_bare_loop(self.cell(label), self.environment).peak_bytes
            own = found[label].peak_bytes
            yield _sizes(f"peak memory, {label}", own, "bare loop", bare, wanted["wanted"])

    def _tasks(self, wanted: dict) -> Iterator[Row]:
        cells, count = [self.cell(label) for label in wanted["methods"]], wanted["count"]
        found = tasks.measure(cells, count, self.environment, self.rounds, self.told)
        names = ", ".join(cell.method_label for cell in cells)
        grown = [found.shared_process, found.separate_process]
        note = "" if None in grown else "process {:,} and {:,} bytes".format(*grown)
        yield _sizes(
            f"memory of {count} tasks ({names})",
            found.shared_bytes,
            f"{count} models",
            found.separate_bytes,
            wanted["memory"],
            note,
        )
        value = found.switch_seconds / found.load_seconds
        yield Row(
            "to another task",
            f"{1000 * found.switch_seconds:.4f} ms",
            "loading its model",
            f"{1000 * found.load_seconds:.1f} ms",
            Ratio(value, value, value),
            wanted["switch"],
            at_most=True,
        )
        here, there = (1 / median(found.times[name]) for name in (tasks.SWITCHED, tasks.SAME))
        yield Row(
            f"masks of {cells[0].method_label}, {tasks.SWITCHED}",
            f"{here:.1f} images/s",
            tasks.SAME,
            f"{there:.1f} images/s",
            ratio(found.times, tasks.SWITCHED, tasks.SAME),
            wanted["masks"],
        )

    def _row(self, cell: RunSpec, times: Times, of: str, to: str, least: float) -> Row:
        here, there = (cell.protocol.batch_size / median(times[name]) for name in (of, to))
        return Row(
            f"training, {cell.method_label}",
            f"{here:.1f} images/s",
            to,
            f"{there:.1f} images/s",
            ratio(times, of, to),
            least,
        )


def _wanted(part: str) -> dict:
    return yaml.safe_load(ROWS.read_text(encoding="utf-8"))[part]


def _written_by_hand() -> list[str]:
    """Methods of the package and of plug-ins, without those of families such as peft's."""
    return [name for name in methods.METHODS.loaded() if ":" not in name]


def _sizes(
    label: str, size: int, against: str, there: int, most: float | None, note: str = ""
) -> Row:
    """Bytes against bytes, in full: they are the same each time."""
    value = size / there
    return Row(
        label,
        f"{size:,} bytes",
        against,
        f"{there:,} bytes",
        Ratio(value, value, value),
        most,
        at_most=True,
        note=note,
    )


def _parts(held: TrainMemory) -> str:
    parts = {
        "parameters": held.parameter_bytes,
        "buffers": held.buffer_bytes,
        "gradients": held.gradient_bytes,
        "optimiser": held.optimiser_bytes,
        "activations": held.activation_bytes,
        "other": held.other_bytes,
    }
    return ", ".join(f"{name} {size / 1e6:.1f}" for name, size in parts.items()) + " MB"

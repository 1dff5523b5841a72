"""How a running grid is shown: live bars on a terminal, plain lines elsewhere."""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from benchmark.core.format import counted, points_text, time_text
from benchmark.core.record import Record
from benchmark.core.spec import RunSpec
from benchmark.execution.tasks import Verdict


def outcome(record: Record) -> str:
    """One line on a finished cell."""
    name = f"{record.benchmark} / {record.backbone} / {record.method} / seed {record.seed}"
    if record.metrics is None or record.costs is None:
        return f"{name}: {record.status} ({record.reason})"
    return (
        f"{name}: mIoU {points_text(record.metrics.miou)}, "
        f"{record.costs.params.total_trainable:,} trainable, {record.costs.train.seconds:.0f} s"
    )


def refusal(cells: Sequence[RunSpec], verdict: Verdict) -> str:
    """One line on cells that cannot run."""
    pairs = dict.fromkeys(f"{cell.method_label} on {cell.backbone}" for cell in cells)
    number = counted(len(cells), "run")
    what = verdict.status or "cannot run"
    return f"{what} ({number}): {', '.join(pairs)}: {verdict.reason}"


def label(spec: RunSpec) -> str:
    """Which cell, as short as can be read."""
    return f"{spec.benchmark} / {spec.method_label} / seed {spec.seed}"


def resuming(spec: RunSpec, step: int) -> str:
    """One line on a cell that continues from its checkpoint."""
    steps = spec.protocol.steps
    if step == steps:
        return f"{label(spec)}: training is complete; resuming with the evaluation"
    return f"{label(spec)}: resuming at step {step} of {steps}"


def stopping(name: str) -> None:
    """Says, at a signal, what happens now; written at once, even while something is printed."""
    text = f"\n{name}: saving the unfinished runs; press Ctrl-C again to stop at once\n"
    with contextlib.suppress(OSError):
        os.write(2, text.encode())


def leaving(name: str) -> None:
    """As `stopping`, where the runs are trained elsewhere."""
    text = (
        f"\n{name}: leaving; the runs go on, and `status` shows them; press Ctrl-C again within 3 "
        "seconds to cancel them\n"
    )
    with contextlib.suppress(OSError):
        os.write(2, text.encode())


class Lines:
    """A line when a cell ends, and one each quarter of its steps."""

    def __init__(self, console: Console, cells: int) -> None:
        self.console, self.cells, self.finished = console, cells, 0
        self.decoded: set[str] = set()
        self.refusals: dict[str, str] = {}
        self.trained, self.began = 0, time.monotonic()

    def decoding(self, what: str, done: int, total: int) -> None:
        """Prints when a split begins."""
        if what not in self.decoded:
            self.decoded.add(what)
            self._print(f"decoding {what}: {total} images")

    def refused(self, cells: Sequence[RunSpec], verdict: Verdict) -> None:
        """Prints why, before anything runs."""
        self.refusals |= dict.fromkeys((cell.run_id for cell in cells), verdict.reason)
        self._print(refusal(cells, verdict))

    def note(self, text: str) -> None:
        """Prints it."""
        self._print(text)

    def cell_started(self, spec: RunSpec) -> None:
        """Prints nothing: its first quarter says so."""

    def resumed(self, spec: RunSpec, step: int) -> None:
        """Prints where."""
        self._print(f"  {resuming(spec, step)}")

    def step(self, spec: RunSpec, step: int, loss: float, images_per_second: float) -> None:
        """Prints at each quarter but the last."""
        steps = spec.protocol.steps
        if step % max(1, steps // 4) == 0 and step < steps:
            pace = f"loss {loss:.3f}, {images_per_second:.0f} images/s"
            self._print(f"  {label(spec)}: step {step}/{steps}, {pace}")

    def validated(self, spec: RunSpec, step: int, miou: float) -> None:
        """Prints nothing: loggers do."""

    def cell_finished(self, record: Record) -> None:
        """Prints the outcome and about what is left, unless `refused` did."""
        self.finished += 1
        if record.run_id not in self.refusals:
            self.trained += 1
            self._print(f"[{self.finished}/{self.cells}] {outcome(record)}{self._left()}")

    def cell_found(self, record: Record) -> None:
        """Prints the outcome, and that it is another's."""
        self.finished += 1
        self._print(f"[{self.finished}/{self.cells}] {outcome(record)} (by another command)")

    def waiting(self, cells: int) -> None:
        """Prints that others work."""
        self._print(f"waiting for {cells} runs that other commands are training")

    def _left(self) -> str:
        """What the others will take if they take as long as those so far."""
        left = self.cells - self.finished
        each = (time.monotonic() - self.began) / self.trained
        return f"; about {time_text(each * left)} left" if left > 0 else ""

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
        self.console.file.flush()


class Bars:
    """A bar for the grid, and one for each cell that is running and each split being decoded."""

    def __init__(self, progress: Progress, cells: int) -> None:
        self.progress = progress
        self.grid = progress.add_task("runs", total=cells, detail="")
        self.bars: dict[str, TaskID] = {}
        self.refusals: dict[str, str] = {}

    def decoding(self, what: str, done: int, total: int) -> None:
        """Moves the split's bar."""
        if what not in self.bars:
            self._add(what, f"decoding {what}", total)
        self.progress.update(self.bars[what], completed=done)
        if done == total:
            self._remove(what)

    def refused(self, cells: Sequence[RunSpec], verdict: Verdict) -> None:
        """Prints why, before anything runs."""
        self.refusals |= dict.fromkeys((cell.run_id for cell in cells), verdict.reason)
        self.note(refusal(cells, verdict))

    def note(self, text: str) -> None:
        """Prints it above the bars."""
        self.progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def cell_started(self, spec: RunSpec) -> None:
        """Adds the cell's bar."""
        self._remove(spec.run_id)  # of an attempt that died
        self._add(spec.run_id, label(spec).replace("[", r"\["), spec.protocol.steps)

    def resumed(self, spec: RunSpec, step: int) -> None:
        """Moves the cell's bar, and prints where above the bars."""
        self.progress.update(self.bars[spec.run_id], completed=step)
        self.note(resuming(spec, step))

    def step(self, spec: RunSpec, step: int, loss: float, images_per_second: float) -> None:
        """Moves the cell's bar."""
        detail = f"loss {loss:.3f}, {images_per_second:.0f} images/s"
        if spec.run_id in self.bars:
            self.progress.update(self.bars[spec.run_id], completed=step, detail=detail)

    def validated(self, spec: RunSpec, step: int, miou: float) -> None:
        """Prints nothing: loggers do."""

    def cell_finished(self, record: Record) -> None:
        """Moves the grid's bar and prints the outcome above the bars, unless `refused` did."""
        self._remove(record.run_id)
        if record.run_id not in self.refusals:
            self.note(outcome(record))
        self.progress.advance(self.grid)

    def cell_found(self, record: Record) -> None:
        """As `cell_finished`."""
        self.cell_finished(record)

    def waiting(self, cells: int) -> None:
        """Says so."""
        self.note(f"waiting for {cells} runs that other commands are training")

    def _add(self, key: str, description: str, total: int) -> None:
        self.bars[key] = self.progress.add_task(description, total=total, detail="")

    def _remove(self, key: str) -> None:
        if key in self.bars:
            self.progress.remove_task(self.bars.pop(key))


@contextlib.contextmanager
def listener(console: Console, cells: int) -> Iterator[Lines | Bars]:
    """Bars on a terminal, lines elsewhere; a quiet console shows neither."""
    if console.quiet or not console.is_terminal:
        yield Lines(console, cells)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield Bars(progress, cells)

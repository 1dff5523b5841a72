"""How a running grid is shown: live bars on a terminal, plain lines elsewhere."""

import contextlib
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

from benchmark.core.format import points_text
from benchmark.core.record import Record
from benchmark.core.spec import RunSpec


def outcome(record: Record) -> str:
    """One line on a finished cell."""
    name = f"{record.benchmark} / {record.backbone} / {record.method} / seed {record.seed}"
    if record.metrics is None or record.costs is None:
        return f"{name}: {record.status} ({record.reason})"
    return (
        f"{name}: mIoU {points_text(record.metrics.miou)}, "
        f"{record.costs.params.total_trainable:,} trainable, {record.costs.train.seconds:.0f} s"
    )


def refusal(cells: Sequence[RunSpec], reason: str) -> str:
    """One line on cells that a method cannot do."""
    pairs = dict.fromkeys(f"{cell.method_label} on {cell.backbone}" for cell in cells)
    number = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
    return f"unsupported ({number}): {', '.join(pairs)}: {reason}"


def label(spec: RunSpec) -> str:
    """Which cell, as short as can be read."""
    return f"{spec.benchmark} / {spec.method_label} / seed {spec.seed}"


class Lines:
    """A line when a cell ends, and one each quarter of its steps."""

    def __init__(self, console: Console, cells: int) -> None:
        self.console, self.cells, self.finished = console, cells, 0
        self.decoded: set[str] = set()

    def decoding(self, what: str, done: int, total: int) -> None:
        """Prints when a split begins."""
        if what not in self.decoded:
            self.decoded.add(what)
            self._print(f"decoding {what}: {total} images")

    def refused(self, cells: Sequence[RunSpec], reason: str) -> None:
        """Prints why, before anything runs."""
        self._print(refusal(cells, reason))

    def note(self, text: str) -> None:
        """Prints it."""
        self._print(text)

    def cell_started(self, spec: RunSpec) -> None:
        """Prints nothing: its first quarter says so."""

    def step(self, spec: RunSpec, step: int, loss: float, images_per_second: float) -> None:
        """Prints at each quarter but the last."""
        steps = spec.protocol.steps
        if step % max(1, steps // 4) == 0 and step < steps:
            pace = f"loss {loss:.3f}, {images_per_second:.0f} images/s"
            self._print(f"  {label(spec)}: step {step}/{steps}, {pace}")

    def cell_finished(self, record: Record) -> None:
        """Prints the outcome."""
        self.finished += 1
        self._print(f"[{self.finished}/{self.cells}] {outcome(record)}")

    def cell_found(self, record: Record) -> None:
        """Prints the outcome, and that it is another's."""
        self.finished += 1
        self._print(f"[{self.finished}/{self.cells}] {outcome(record)} (by another command)")

    def waiting(self, cells: int) -> None:
        """Prints that others work."""
        self._print(f"waiting for {cells} cells that other commands are running")

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
        self.console.file.flush()


class Bars:
    """A bar for the grid, and one for each cell that is running and each split being decoded."""

    def __init__(self, progress: Progress, cells: int) -> None:
        self.progress = progress
        self.grid = progress.add_task("cells", total=cells, detail="")
        self.bars: dict[str, TaskID] = {}

    def decoding(self, what: str, done: int, total: int) -> None:
        """Moves the split's bar."""
        if what not in self.bars:
            self._add(what, f"decoding {what}", total)
        self.progress.update(self.bars[what], completed=done)
        if done == total:
            self._remove(what)

    def refused(self, cells: Sequence[RunSpec], reason: str) -> None:
        """Prints why, before anything runs."""
        self.note(refusal(cells, reason))

    def note(self, text: str) -> None:
        """Prints it above the bars."""
        self.progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def cell_started(self, spec: RunSpec) -> None:
        """Adds the cell's bar."""
        self._remove(spec.run_id)  # of an attempt that died
        self._add(spec.run_id, label(spec).replace("[", r"\["), spec.protocol.steps)

    def step(self, spec: RunSpec, step: int, loss: float, images_per_second: float) -> None:
        """Moves the cell's bar."""
        detail = f"loss {loss:.3f}, {images_per_second:.0f} images/s"
        if spec.run_id in self.bars:
            self.progress.update(self.bars[spec.run_id], completed=step, detail=detail)

    def cell_finished(self, record: Record) -> None:
        """Moves the grid's bar and prints the outcome above the bars."""
        self._remove(record.run_id)
        self.note(outcome(record))
        self.progress.advance(self.grid)

    def cell_found(self, record: Record) -> None:
        """As `cell_finished`."""
        self.cell_finished(record)

    def waiting(self, cells: int) -> None:
        """Says so."""
        self.note(f"waiting for {cells} cells that other commands are running")

    def _add(self, key: str, description: str, total: int) -> None:
        self.bars[key] = self.progress.add_task(description, total=total, detail="")

    def _remove(self, key: str) -> None:
        if key in self.bars:
            self.progress.remove_task(self.bars.pop(key))


@contextlib.contextmanager
def listener(console: Console, cells: int) -> Iterator[Lines | Bars]:
    """Bars on a terminal, lines elsewhere."""
    if not console.is_terminal:
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

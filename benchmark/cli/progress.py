"""How a running grid is shown: live bars on a terminal, plain lines elsewhere."""

import contextlib
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmark.record import Record
from benchmark.spec import RunSpec


def outcome(record: Record) -> str:
    """One line on a finished cell."""
    name = f"{record.benchmark} / {record.backbone} / {record.method} / seed {record.seed}"
    if record.metrics is None or record.costs is None:
        return f"{name}: {record.status} ({record.reason})"
    return (
        f"{name}: mIoU {100 * record.metrics.miou:.1f}, "
        f"{record.costs.params.total_trainable:,} trainable, {record.costs.train.seconds:.0f} s"
    )


def refusal(cells: Sequence[RunSpec], reason: str) -> str:
    """One line on cells that a method cannot do."""
    pairs = dict.fromkeys(f"{cell.method_label} on {cell.backbone}" for cell in cells)
    return f"unsupported ({len(cells)} of the cells): {', '.join(pairs)}: {reason}"


class Lines:
    """A line when a cell ends, and one each quarter of its steps."""

    def __init__(self, console: Console, cells: int) -> None:
        self.console, self.cells, self.finished, self.steps = console, cells, 0, 1

    def decoding(self, what: str, done: int, total: int) -> None:
        """Prints when a split begins."""
        if done == 1:
            self._print(f"decoding {what}: {total} images")

    def refused(self, cells: Sequence[RunSpec], reason: str) -> None:
        """Prints why, before anything runs."""
        self._print(refusal(cells, reason))

    def cell_started(self, spec: RunSpec) -> None:
        """Remembers how long the cell will be."""
        self.steps = spec.protocol.steps

    def step(self, step: int, loss: float, images_per_second: float) -> None:
        """Prints at each quarter but the last."""
        if step % max(1, self.steps // 4) == 0 and step < self.steps:
            text = f"  step {step}/{self.steps}, loss {loss:.3f}, {images_per_second:.0f} images/s"
            self._print(text)

    def cell_finished(self, record: Record) -> None:
        """Prints the outcome."""
        self.finished += 1
        self._print(f"[{self.finished}/{self.cells}] {outcome(record)}")

    def cell_found(self, record: Record) -> None:
        """Prints the outcome, and that it is another's."""
        self.finished += 1
        self._print(f"[{self.finished}/{self.cells}] {outcome(record)} (by another process)")

    def waiting(self, cells: int) -> None:
        """Prints that others work."""
        self._print(f"{cells} cells are worked on by other processes; waiting for them")

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
        self.console.file.flush()


class Bars:
    """One bar for the grid, one for the current cell's steps."""

    def __init__(self, progress: Progress, cells: int) -> None:
        self.progress = progress
        self.grid = progress.add_task("cells", total=cells, detail="")
        self.cell = progress.add_task("", total=1, detail="")

    def decoding(self, what: str, done: int, total: int) -> None:
        """Moves the lower bar."""
        self.progress.update(
            self.cell, completed=done, total=total, description=f"decoding {what}", detail=""
        )

    def refused(self, cells: Sequence[RunSpec], reason: str) -> None:
        """Prints why, before anything runs."""
        text = refusal(cells, reason)
        self.progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def cell_started(self, spec: RunSpec) -> None:
        """Resets the cell's bar."""
        self.progress.reset(
            self.cell,
            total=spec.protocol.steps,
            description=f"{spec.benchmark} / {spec.method_label}".replace("[", r"\["),
            detail="",
        )

    def step(self, step: int, loss: float, images_per_second: float) -> None:
        """Moves the cell's bar."""
        detail = f"loss {loss:.3f}, {images_per_second:.0f} images/s"
        self.progress.update(self.cell, completed=step, detail=detail)

    def cell_finished(self, record: Record) -> None:
        """Moves the grid's bar and prints the outcome above the bars."""
        self.progress.console.print(outcome(record), markup=False, highlight=False, soft_wrap=True)
        self.progress.advance(self.grid)

    def cell_found(self, record: Record) -> None:
        """As `cell_finished`."""
        self.cell_finished(record)

    def waiting(self, cells: int) -> None:
        """Says so in place of the cell."""
        text = f"{cells} cells are worked on by other processes; waiting for them"
        self.progress.reset(self.cell, total=None, description=text, detail="")


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

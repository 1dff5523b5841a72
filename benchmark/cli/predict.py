"""`predict`: labels images and videos with a finished run."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import options
from benchmark.core.errors import UserError
from benchmark.core.format import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmark.cli.request import Request
    from benchmark.inference.inputs import Input


@options.takes("results", "weights", "device", "plugin")
def predict(
    request: "Request",
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Run id, its first characters, or a run's folder.")
    ],
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Images, videos, folders and globs."),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder of the masks and the table.")
    ],
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Also draw the classes over the images.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace masks and overlays of another run.")
    ] = False,
    own_values: Annotated[
        bool,
        typer.Option(
            "--own-values",
            help="Masks store what your labels store of a class (0, 128, 255; colours), not its "
            "index.",
        ),
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Label images and videos with a finished run.

    Writes DIR/masks: PNG files in the set's colours; the value of a pixel is its class index,
    or with --own-values what your labels store of the class. A
    video (extra `video`) becomes a folder of frames. Writes DIR/classes.csv: the share of each
    class in each mask. With --overlay also DIR/overlays, where a video stays a video.

    To resume, repeat the command: masks that are there are skipped, unless the image has changed.
    Masks of another run are only replaced with --force.

    Exit code 0: done. 1: files could not be read, and the others are done. 2: bad request.
    """
    from rich.console import Console

    from benchmark.inference import video
    from benchmark.inference.folder import Folder
    from benchmark.inference.inputs import MASKS, RESULTS, TABLE, find_inputs
    from benchmark.inference.load import load

    labels = _labels(run, request, inputs)
    files = find_inputs(inputs, [*(out / name for name in RESULTS), *labels])
    for folder in labels:
        Console().print(
            f"{folder} holds labels of the set, and is left out",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if any(one.is_video for one in files):
        video.require_av()
    network = load(run, results=request.results, weights=request.weights, device=request.device)
    place = Folder(out, network, overlay, force, own_values)
    try:
        with _bar(files, quiet) as (tell, problem):
            done = place.fill(files, tell, problem)
    except OSError as error:
        raise UserError(
            f"--out {out} cannot be written ({error.strerror or error}); masks so far are kept; "
            "to resume, repeat the command"
        ) from error
    there = f" ({done.skipped} were there)" if done.skipped else ""
    unread = f", {counted(done.unread, 'file')} could not be read" if done.unread else ""
    Console().print(
        f"{counted(done.written + done.skipped, 'mask')} in {out / MASKS}{there}{unread}; their "
        f"classes in {out / TABLE}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    if hint := place.hint():
        Console().print(hint, style="yellow", markup=False, highlight=False, soft_wrap=True)
    if done.unread:
        raise typer.Exit(1)


def _labels(run: str, request: "Request", inputs: list[str]) -> list[Path]:
    """The folder of the labels of the run's own set, where it is below a folder that is named."""
    from benchmark.data.custom.folder import ImageFolder
    from benchmark.inference.find import find_run
    from benchmark.planning.catalogue import BENCHMARKS
    from benchmark.planning.remembered import recall

    name = find_run(run, request.results).record.benchmark
    if recall(request.results, [name]) or name not in BENCHMARKS.names():
        return []
    kind = BENCHMARKS.get(name)
    folder = kind.label_folder() if issubclass(kind, ImageFolder) else None
    if folder is None:
        return []
    above = {path.resolve() for path in map(Path, inputs) if path.is_dir()}
    return [folder] if above & set(folder.resolve().parents) else []


@contextlib.contextmanager
def _bar(
    files: "list[Input]", quiet: bool
) -> "Iterator[tuple[Callable[[Input], None], Callable[[str], None]]]":
    """A bar over the files on a terminal; what says how far it is, and what says problems."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    number = {one.path: k for k, one in enumerate(files)}
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bars:
        task = bars.add_task("", total=len(files))

        def tell(one: "Input") -> None:
            # A video is done when the next file is.
            completed = number[one.path] + (not one.is_video)
            bars.update(task, description=escape(one.name.as_posix()), completed=completed)

        def problem(text: str) -> None:
            console.print(text, markup=False, highlight=False, soft_wrap=True)

        yield tell, problem

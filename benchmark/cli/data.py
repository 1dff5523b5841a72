"""`data`: get, verify, audit and look at the benchmarks' files."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import options
from benchmark.core.errors import UserError
from benchmark.core.format import size_text

if TYPE_CHECKING:
    from rich.console import Console

    from benchmark.cli.request import Request
    from benchmark.core.spec import Suite
    from benchmark.data.base import Benchmark, Finding

app = typer.Typer(
    help="Get, verify, audit and look at the benchmarks' files.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Names = Annotated[
    str,
    typer.Argument(
        metavar="LIST", help="Benchmarks: names, globs, or a suite name (all its benchmarks)."
    ),
]


@app.command("list")
@options.takes("data", "plugin")
def list_sets(request: "Request") -> None:
    """List the benchmarks and whether their data are ready."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from benchmark.planning.catalogue import BENCHMARKS

    table = Table("name", "about", "classes", "train / val / test", "licence", box=None)
    for name in BENCHMARKS.names():
        kind = BENCHMARKS.get(name)
        state = Text(_state(kind, request.data))
        table.add_row(name, Text(kind.title), str(len(kind.classes)), state, Text(kind.licence))
    Console().print(table)


@app.command()
@options.takes("data", "plugin")
def prepare(
    request: "Request",
    names: Names,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the downloaded archives.")] = False,
    fake: Annotated[
        bool,
        typer.Option("--fake", help="Write tiny fake data in the official layout instead."),
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Download, check and unpack data sets; repeat the command to resume.

    Exit code 0: ready. 1: files are wrong. 2: the download failed.
    """
    from rich.console import Console

    from benchmark.data.acquire.at_url import url_of
    from benchmark.data.acquire.prepare import prepare as get
    from benchmark.data.fake import write_fake

    console, kinds, root = Console(), _kinds(names), request.data
    if root is None and any(kind.folder is not None for kind in kinds):
        raise UserError("no data folder; set --data DIR or BENCHMARK_DATA")
    if url := url_of(root):
        raise UserError(
            f"--data {url}: sets are prepared in a folder of this machine; name one, and upload it"
        )
    sound = True
    for kind in kinds:
        if fake:
            _say(console, f"{kind.name}: fake data in {write_fake(kind, root or Path())}")
            continue
        with _bar(console, quiet) as tell:
            prepared = get(kind, root or Path(), tell, keep)
        _say(console, f"{kind.name}: ready, {_slashed(list(prepared.counts.values()))} examples")
        sound &= _findings(console, prepared.findings)
    if not sound:
        raise typer.Exit(1)


@app.command()
@options.takes("data", "plugin")
def verify(request: "Request", names: Names, quiet: options.Quiet = False) -> None:
    """Check counts, sizes and checksums of files against the manifest.

    Exit code 0: files are correct. 1: files are wrong. 2: the set cannot be opened.
    """
    from rich.console import Console

    from benchmark.data.acquire.manifest import verify as compare

    console, sound = Console(), True
    for benchmark in _opened(names, request):
        with _bar(console, quiet) as tell:
            found = compare(benchmark, partial(tell, "check"))
        sound &= _findings(console, found)
    if not sound:
        raise typer.Exit(1)


@app.command()
@options.takes("data", "plugin")
def audit(
    request: "Request",
    names: Names,
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV", help="Write all pairs of equal or nearly equal images into this file."
        ),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Read every example and report problems in labels, images and splits.

    Exit code 0: nothing serious. 1: problems that make results wrong. 2: the set cannot be opened.
    """
    from rich.console import Console

    from benchmark.data.audit import audit as audits

    if pairs is not None and not pairs.parent.is_dir():
        raise UserError(f"--pairs {pairs}: the folder {pairs.parent} is missing; create it")
    console, results = Console(), []
    for benchmark in _opened(names, request):
        with _bar(console, quiet) as tell:
            suite = _suite_of(type(benchmark))
            results.append(audits.audit(benchmark, partial(tell, "read"), suite))
        console.print(audits.render(results[-1]))
    if pairs is not None:
        number = audits.write_pairs(pairs, results)
        _say(console, f"{pairs}: {number} pairs of equal or nearly equal images")
    if any(result.serious for result in results):
        raise typer.Exit(1)


@app.command()
def describe(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with images and labels.")],
    to: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML file to write (default: named as the folder)."),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Write the YAML file of a folder of your own, from a look at its files.

    Images and labels belong together by their names. What was guessed is printed, and stands at the
    top of the file: correct it there. Files that make no pair are printed, too. Images that look
    nearly the same are kept in one split.
    """
    from rich.console import Console

    from benchmark.data.custom.describe import describe as look

    if to is not None and to.suffix not in (".yaml", ".yml"):
        raise UserError(f"--to {to}: its name must end in .yaml")
    with _bar(Console(), quiet) as tell:
        guess = look(folder, to.parent if to else Path(), partial(tell, "compare"))
    name = guess.fields["name"]
    path = to or Path(f"{name}.yaml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(guess.text)
    except FileExistsError:
        raise UserError(f"{path} exists; remove it, or name another file with --to") from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); choose another --to"
        ) from None
    console = Console()
    for line in (*guess.notes, f"written to {path}; check it:"):
        _say(console, line)
    for fault in guess.faults:
        console.print("serious", style="bold red", end=" ")
        _say(console, fault)
    for verb in ("audit", "preview"):
        _say(console, f"  python -m benchmark data {verb} {name} --plugin {path}")


@app.command("import")
def import_set(
    source: Annotated[
        Path,
        typer.Argument(metavar="FILE|DIR", help="Annotation file, or the folder that holds it."),
    ],
    to: Annotated[
        Path,
        typer.Option(metavar="FILE", help="YAML file to write; data go into a folder beside it."),
    ],
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="coco, labelme, cvat, voc, yolo, label_studio or geotiff (default: detected).",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of the images (default: that of the annotations)."
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Class names for masks that have none: ground,road or 1=ground,4=road.",
        ),
    ] = None,
    unlabelled: Annotated[
        str,
        typer.Option(metavar="background|void", help="Class of pixels without an annotation."),
    ] = "background",
    quiet: options.Quiet = False,
) -> None:
    """Convert annotations of other tools to labels, describe the set in YAML, and audit it.

    Images are linked, not copied.

    Exit code 0: nothing serious. 1: the audit found problems that make results wrong. 2: the
    annotations cannot be read; nothing was written.
    """
    from rich.console import Console

    from benchmark.data import available
    from benchmark.data.audit import audit as audits
    from benchmark.data.importing.convert import Unlabelled, convert
    from benchmark.planning import plugins

    console = Console()
    plugins.check_free(to.stem, f"--to {to}")
    if unlabelled not in ("background", "void"):
        raise UserError(f"--unlabelled {unlabelled!r}: choose background or void")
    names = _named(classes) if classes is not None else None
    with _bar(console, quiet) as tell:
        rest: Unlabelled = "void" if unlabelled == "void" else "background"
        made = convert(source, to, form, images, names, rest, partial(tell, "draw"))
        plugins.load_files([to])
        made_set = available()[to.stem]
        result = audits.audit(made_set(None), partial(tell, "read"), _suite_of(made_set))
    _say(console, f"{to}: {_slashed(list(made.counts.values()))} images, read as {made.form}")
    for note in made.notes:
        _say(console, f"note {note}")
    console.print(audits.render(result))
    if result.serious:
        raise typer.Exit(1)


def _named(text: str) -> dict[int, str]:
    """The values that `--classes` names."""
    names: dict[int, str] = {}
    for k, part in enumerate(text.split(",")):
        value, equals, name = (word.strip() for word in part.partition("="))
        if not equals:
            value, name = str(k), value
        if not name or not re.fullmatch(r"[0-9]{1,9}", value):
            raise UserError(f"--classes {text!r}: write ground,road or 0=ground,4=road")
        if int(value) in names:
            raise UserError(f"--classes {text!r} names the value {value} twice; keep one")
        names[int(value)] = name
    return names


@app.command()
@options.takes("data", "plugin")
def preview(
    request: "Request",
    names: Names,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Output image; a folder for several sets."),
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", min=1, help="Number of examples.")] = 8,
    split: Annotated[
        str | None, typer.Option(metavar="LIST", help="Splits (default: train,val,test).")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed for choosing examples.")] = 0,
) -> None:
    """Draw examples with coloured labels and a legend in one image."""
    from rich.console import Console

    from benchmark.data.audit.preview import save
    from benchmark.data.base import SPLITS, require_sound

    wanted = [part.strip() for part in (split or ",".join(SPLITS)).split(",")]
    splits = [known for known in SPLITS if known in wanted]
    if set(wanted) - set(splits):
        raise UserError(f"--split {split!r}: choose from {', '.join(SPLITS)}")
    benchmarks = list(_opened(names, request))
    for benchmark in benchmarks:
        require_sound(benchmark)
    if out is not None and not out.parent.is_dir():
        raise UserError(f"--out {out}: the folder {out.parent} is missing; create it")
    if out is not None and len(benchmarks) > 1:
        out.mkdir(exist_ok=True)
    for benchmark in benchmarks:
        if out is None or len(benchmarks) > 1:
            path = (out or Path()) / f"{benchmark.name}.png"
        else:
            path = out
        _say(Console(), f"{benchmark.name}: {save(benchmark, path, count, seed, splits)}")


def _kinds(names: str) -> "list[type[Benchmark]]":
    from benchmark.planning.catalogue import BENCHMARKS, SUITES
    from benchmark.planning.own_sets import benchmarks_of

    suites = SUITES.names()
    spelt = ",".join(
        ",".join(benchmarks_of(SUITES.get(part))) if part in suites else part
        for part in (part.strip() for part in names.split(","))
    )
    chosen = BENCHMARKS.select(spelt)
    for name, fields in chosen:
        if fields:
            raise UserError(f"benchmark {name!r} takes no fields; write {name!r} alone")
    return [BENCHMARKS.get(name) for name, _ in chosen]


def _opened(names: str, request: "Request") -> "Iterator[Benchmark]":
    from benchmark.planning.catalogue import open_set

    for kind in _kinds(names):
        yield open_set(kind.name, request.data)


def _suite_of(kind: "type[Benchmark]") -> "Suite | None":
    """The suite that a user's own set is trained under where none is named; None for others."""
    from benchmark.cli.petseg_yaml import read_settings
    from benchmark.planning import plugins
    from benchmark.planning.catalogue import SUITES
    from benchmark.planning.own_sets import SUITE

    return SUITES.get(read_settings().get("suite", SUITE)) if plugins.file_of(kind) else None


def _state(kind: "type[Benchmark]", root: Path | None) -> str:
    """How many examples are there, or why there are none."""
    from benchmark.data.acquire.at_url import url_of
    from benchmark.data.base import SPLITS

    if kind.folder and root and url_of(root) and not (root / kind.folder).is_dir():
        return "at the URL, not copied yet"
    try:
        benchmark = kind(root)
        return _slashed([len(benchmark.ids(split)) for split in SPLITS])
    except UserError:
        if kind.folder is None:
            return "cannot be opened; see data verify"
        there = root is not None and (root / kind.folder).is_dir()
        how = "run data prepare" if kind.sources else "data prepare says where to get it"
        return "incomplete; see data verify" if there else f"missing; {how}"


def _findings(console: "Console", findings: "Sequence[Finding]") -> bool:
    """Prints findings; whether none is serious."""
    styles = {"serious": "bold red", "warning": "yellow", "note": "cyan"}
    for finding in findings:
        console.print(finding.severity, style=styles[finding.severity], end=" ")
        _say(console, f"{finding.what} -> {finding.fix}")
    return all(finding.severity != "serious" for finding in findings)


@contextmanager
def _bar(console: "Console", quiet: bool) -> "Iterator[Callable[[str, int, int | None], None]]":
    """A bar on a terminal; none elsewhere, nor where it is to be quiet."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[size]}"),
        TimeRemainingColumn(),
    )
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bars:
        task = bars.add_task("", total=None, size="")

        def tell(what: str, done: int, total: int | None) -> None:
            size = _size(done, total) if what.startswith(("download", "unpack")) else ""
            bars.update(task, description=what, completed=done, total=total, size=size)

        yield tell


def _size(done: int, total: int | None) -> str:
    return size_text(done) + (f" of {size_text(total)}" if total else "")


def _slashed(numbers: Sequence[int]) -> str:
    return " / ".join(f"{number:,}" for number in numbers)


def _say(console: "Console", text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)

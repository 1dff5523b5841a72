"""`quickstart`: from a folder of images and labels to the answer, one verb after the other."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.cli import executors
from benchmark.cli.options import HOW, WHAT, WHERE
from benchmark.cli.timing import suggest
from benchmark.core.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from benchmark.analysis.limits import Limit
    from benchmark.cli.request import Request

HERE = Path()
MORE_SEEDS = "0,1,2"
"""As many as a first test of differences needs."""

Methods = Annotated[
    str | None,
    typer.Option(
        metavar="LIST", rich_help_panel=WHAT, help="Methods, as in `run` (default: the suite's)."
    ),
]
Seeds = Annotated[
    str | None,
    typer.Option(metavar="LIST", rich_help_panel=WHAT, help="Seeds: 0,1,2 (default: the suite's)."),
]
Suite = Annotated[
    str | None,
    typer.Option(metavar="NAME", rich_help_panel=WHAT, help="Suite whose protocol to use."),
]
Backbones = Annotated[
    str | None,
    typer.Option(
        metavar="LIST", rich_help_panel=WHAT, help="Any timm names (default: the suite's)."
    ),
]
Fields = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", rich_help_panel=HOW, help="Change a field of the protocol."
    ),
]
MaxStored = Annotated[
    str | None,
    typer.Option(
        metavar="LIMIT",
        rich_help_panel=WHAT,
        help="Most that a method may store for one more task: 1MB, 500kB. Smaller settings "
        "take the place of what stores more.",
    ),
]
PlanOnly = Annotated[
    bool,
    typer.Option(
        "--plan-only", rich_help_panel=HOW, help="Stop after the plan; train and report nothing."
    ),
]
AcceptAudit = Annotated[
    bool,
    typer.Option(
        "--accept-audit",
        rich_help_panel=HOW,
        help="Train although the audit found that results would be wrong.",
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        metavar="DIR",
        rich_help_panel=WHERE,
        help="Folder for everything that is written (default: here).",
        show_default=False,
    ),
]
Weights = Annotated[
    list[str] | None,
    typer.Option(metavar="DIR|none", rich_help_panel=WHERE, help="As in `run`."),
]
Device = Annotated[
    str | None, typer.Option(metavar="NAME", rich_help_panel=WHERE, help="As in `run`.")
]
Jobs = Annotated[
    str | None, typer.Option(metavar="N|auto", rich_help_panel=WHERE, help="As in `run`.")
]


def quickstart(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with your images and labels.")
    ],
    methods: Methods = None,
    seeds: Seeds = None,
    suite: Suite = None,
    backbones: Backbones = None,
    fields: Fields = None,
    max_stored: MaxStored = None,
    plan_only: PlanOnly = False,
    accept_audit: AcceptAudit = False,
    out: Out = HERE,
    weights: Weights = None,
    device: Device = None,
    jobs: Jobs = None,
    executor: executors.Name = "local",
    address: executors.Address = None,
    ray: executors.RayOptions = None,
    slurm: executors.SlurmOptions = None,
) -> None:
    """Find the method for your own images: describe, audit, preview, plan, run and report.

    Prints each command before it runs, so that you can type it yourself. Repeat the command to
    resume: what is finished is kept, and so is a YAML file that you have edited.

    Exit code 0: done. 1: some runs did not finish. 2: bad request or files, or serious faults in
    the data. 130, 143: stopped by a signal.
    """
    from rich.console import Console

    from benchmark.cli.request import resolve

    executors.chosen(executor, address, ray, slurm, jobs or "auto")
    console = Console(highlight=False, soft_wrap=True, markup=False)
    typed: dict[str, Any] = {"suite": suite, "methods": methods, "backbones": backbones}
    grid = [word for name, value in typed.items() if value for word in (f"--{name}", value)]
    grid += [word for field in fields or () for word in ("--set", field)]
    grid += [word for place in weights or () for word in ("--weights", place)]
    grid += ["--device", device] if device else []
    limit = _bytes(max_stored) if max_stored else None
    _check_folder(folder)
    _check(**typed, seeds=seeds, set=fields, weights=weights)
    path, name = _described(console, folder, out)
    plugin = ["--plugin", str(path)]
    files = _Files(out, name)

    _heading(console, "audit")
    if _call(console, "data", "audit", name, *plugin) and not accept_audit:
        raise UserError(
            f"the audit found serious faults, listed above; correct the files or {path}, then "
            "repeat the command, or train all the same with --accept-audit"
        )
    _heading(console, "preview")
    _call(console, "data", "preview", name, *plugin, "--out", str(files.preview))
    typed |= {"plugin": [path], "benchmarks": name, "seeds": seeds, "weights": weights}
    typed["results"] = None if out == HERE else out / "results"
    settings = list(fields or ())
    request = resolve(**typed, set=settings or None)
    _heading(console, "plan")
    if crop := _fitting_crop(console, request):
        grid += ["--set", crop]
        settings.append(crop)
        request = resolve(**typed, set=settings or None)
    chosen = [*plugin, "--benchmarks", name, *grid, *(["--seeds", seeds] if seeds else [])]
    chosen += files.results
    chosen += ["--jobs", jobs] if jobs else []
    also: list[str] = []
    if limit is not None:
        within, also = _within(console, limit, request, jobs or "auto")
        fitting = ",".join(within)
        request = resolve(**typed | {"methods": fitting}, set=settings or None)
        chosen = _replaced(chosen, "--methods", fitting)
        grid += [f"--max-{limit.name}", limit.text]
    if executor == "local":
        _call(console, "plan", *chosen, "--probe")
    else:
        chosen += ["--executor", executor]
        chosen += [word for k, v in (("ray", ray), ("slurm", slurm)) if v for word in (f"--{k}", v)]
        _call(console, "plan", *chosen)
    run = ["run", *chosen, *(["--address", address] if address else [])]
    run += ["--accept-audit"] if accept_audit else []
    report = ["report", *plugin, "--suite", request.selection.suite, *files.results, *files.reports]
    if plan_only:
        console.print("\nnot run yet:")
        for words in (run, report):
            console.print(f"$ {_typed(words)}")
        return
    _heading(console, "run")
    code = _call(console, *run)
    if code not in (0, 1):
        raise typer.Exit(code)
    _heading(console, "report")
    _call(console, *report)
    again = [*grid, *(["--out", str(out)] if out != HERE else [])]
    more = ["quickstart", str(folder), *again, "--seeds", MORE_SEEDS]
    _answer(console, request, files, more, limit)
    if also:
        every = ["quickstart", str(folder), *_replaced(again, "--methods", ",".join(within + also))]
        every += ["--seeds", seeds] if seeds else []
        console.print("to compare all methods within the limit (finished runs are kept):")
        console.print(f"$ {_typed(every)}")
    if code:
        raise typer.Exit(code)


def _bytes(text: str) -> "Limit":
    """The limit on what a method stores.

    Raises:
        UserError: it is no number of bytes.
    """
    from benchmark.analysis.limits import parse_limit

    limit = parse_limit("stored", text)
    if limit.relative:
        raise UserError(f"{limit}: nothing has run yet; write it in bytes, as in 500kB")
    return limit


def _within(
    console: "Console", limit: "Limit", request: "Request", jobs: str
) -> tuple[list[str], list[str]]:
    """The methods within a limit: a smaller setting takes the place of one that stores more.

    One that could not be probed stays: `run` says why it fails.

    Returns:
        Their labels, and those of methods that were not chosen and are within it, too; both were
        printed.

    Raises:
        UserError: none does.
    """
    from benchmark.cli.forecasts import probed
    from benchmark.cli.terminal import busy
    from benchmark.core.format import size_text
    from benchmark.core.machine import find_device
    from benchmark.execution import sizes
    from benchmark.execution.environment import prepare
    from benchmark.planning.plan import plan

    most = int(limit.value)
    cells = plan(request.selection, request.weights)
    first = {cell.method_label: cell for cell in reversed(cells)}
    found = probed(
        console, request, cells, [], executors.chosen("local", None, None, None, jobs).jobs
    )
    over = {one.method: one.stored_bytes or 0 for one in found if (one.stored_bytes or 0) > most}
    if not over:
        return list(reversed(first)), []
    environment = prepare(request.data, request.weights, find_device(request.device))
    with busy("methods and settings that store less"):
        less = {label: sizes.smaller(first[label], most, environment) for label in over}
        names = {cell.method for cell in cells}
        also = dict(sizes.others(cells[0], names, most, environment))
    for label, smaller in less.items():
        place = f"{smaller[0]} ({size_text(smaller[1])}) takes its place" if smaller else "left out"
        console.print(f"{label} stores {size_text(over[label])}, over {limit}: {place}")
    fitting = [
        smaller[0] if (smaller := less.get(label)) else label
        for label in reversed(first)
        if less.get(label, True)
    ]
    both = shlex.quote(",".join([*fitting, *also]))
    if not fitting:
        least = min(over, key=lambda method: over[method])
        raise UserError(
            f"no method fits {limit}: the smallest, {least}, stores {size_text(over[least])}; "
            + (f"choose others: --methods {both}" if also else "raise the limit")
        )
    if also:
        sizes_of = ", ".join(f"{method} ({size_text(size)})" for method, size in also.items())
        console.print(f"not chosen, but within it: {sizes_of}")
        console.print(f"to compare these too: --methods {both}")
    return fitting, list(also)


def _replaced(words: list[str], option: str, value: str) -> list[str]:
    """Words of a command with another value of an option, which is added if it is not there."""
    if option not in words:
        return [*words, option, value]
    at = words.index(option) + 1
    return [*words[:at], value, *words[at + 1 :]]


@dataclass(frozen=True)
class _Files:
    """What is written besides the YAML file.

    Attributes:
        out: the folder.
        name: of the benchmark.
    """

    out: Path
    name: str

    @property
    def preview(self) -> Path:
        """The sheet of examples."""
        return self.out / f"{self.name}.png"

    @property
    def results(self) -> list[str]:
        """The option that names the results folder; none where it is the default."""
        return [] if self.out == HERE else ["--results", str(self.out / "results")]

    @property
    def reports(self) -> list[str]:
        """The option that names the folder of reports; none where it is the default."""
        return [] if self.out == HERE else ["--out", str(self.out / "reports")]


def _described(console: "Console", folder: Path, out: Path) -> tuple[Path, str]:
    """The YAML file of a folder, which is written if it is not there, and the set's name.

    Raises:
        UserError: the YAML file is of another folder, or wrong.
    """
    from benchmark.core.files import make_folder
    from benchmark.data.custom.describe import name_of
    from benchmark.data.custom.description import read_description

    path = out / f"{name_of(folder)}.yaml"
    _heading(console, "describe")
    if not path.exists():
        was_there = out.exists()
        make_folder(out)
        try:
            _call(console, "data", "describe", str(folder), "--to", str(path))
        except UserError:
            if not was_there:
                out.rmdir()
            raise
        console.print(
            f"Correct the names of classes in {path} whenever you like; after any other change "
            "there, runs are trained again."
        )
    else:
        console.print(f"{path} is kept; remove it to describe {folder} again")
    said = read_description(path)
    there = None if said.hub else path.parent / Path(said.folder or ".").expanduser()
    if there is None or there.resolve() != folder.resolve():
        raise UserError(
            f"{path} describes {there or 'a data set of the hub'}, not {folder}; choose another "
            "--out DIR"
        )
    return path, said.name


def _check_folder(folder: Path) -> None:
    """Raises UserError where there is no folder."""
    if folder.is_file():
        raise UserError(
            f"{folder} is a file; name the folder of your images, or convert annotations of other "
            "tools by `data import` first"
        )
    if not folder.is_dir():
        raise UserError(f"the folder {folder} is missing; name the folder of your images")


def _check(suite: str | None, set: list[str] | None, **typed: Any) -> None:
    """Raises UserError where options are wrong, before the long look at the folder."""
    from benchmark.cli.request import resolve
    from benchmark.planning.catalogue import SUITES
    from benchmark.planning.own_sets import SUITE, USUAL, backbones_of
    from benchmark.planning.plan import plan

    chosen = SUITES.get(suite or SUITE)
    known = chosen.benchmarks
    # The set is not known yet: that of generated images stands for it.
    request = resolve(suite=suite if known else USUAL, set=set, **typed)
    plan(request.selection, request.weights)
    if not typed.get("backbones"):
        backbones_of(chosen, request.selection.weights, request.weights)


def _fitting_crop(console: "Console", request: "Request") -> str:
    """`crop=N` where the images are smaller than the suite's crop, and says so; else empty."""
    from benchmark.planning.crops import padded
    from benchmark.planning.plan import plan

    if "crop" in request.selection.protocol:
        return ""
    cells = plan(request.selection, request.weights)
    for padding in padded(cells, request.data).values():  # of one set
        if padding.fitting:
            console.print(
                f"{padding.what()}; the commands take --set crop={padding.fitting} "
                f"(--set crop={padding.crop} keeps the suite's)"
            )
            return f"crop={padding.fitting}"
    return ""


def _heading(console: "Console", title: str) -> None:
    console.print(f"\n{title}", style="bold")


def _typed(words: list[str] | tuple[str, ...]) -> str:
    return f"python -m benchmark {shlex.join(words)}"


def _call(console: "Console", *words: str) -> int:
    """Prints a command and runs it; its exit code."""
    from benchmark.cli import app

    console.print(f"$ {_typed(words)}")
    return app(list(words), standalone_mode=False, prog_name=app.info.name) or 0


def _answer(
    console: "Console", request: "Request", files: _Files, more: list[str], limit: "Limit | None"
) -> None:
    """Prints how to make the answer firmer, and where to look.

    Args:
        console: where.
        request: of the run.
        files: that were written.
        more: the command with more seeds.
        limit: that was typed.
    """
    from benchmark.analysis.runs import Runs
    from benchmark.analysis.uncertainty import assess
    from benchmark.cli.recommend import print_next
    from benchmark.planning import plan
    from benchmark.planning.renamed import load
    from benchmark.reporting.recommend import recommend
    from benchmark.reporting.report import PAGE
    from benchmark.reporting.terminal import print_answers

    suite = request.selection.suite
    table = load(request.results, suite)
    wanted = [cell.run_id for cell in plan.plan(request.selection, request.weights)]
    own = table[table["run_id"].isin(wanted)]
    runs = Runs(own, request.results)
    found = assess(runs)
    if len(own) < len(table):  # the report has other runs, too
        _heading(console, "answer")
        print_answers(runs, found, console)
    _heading(console, "next")
    done = own[own["status"] == "done"]
    if done.empty:
        console.print("no run finished; see above")
    elif done.groupby(["benchmark", "backbone", "method"])["seed"].nunique().min() == 1:
        console.print("for an answer that is tested, train more seeds (finished runs are kept):")
        console.print(f"$ {_typed(more)}")
    if not done.empty:
        print_next(console, recommend(runs, found, []), own, files.name, request, limit)
    suggest(console, request, plan.plan(request.selection, request.weights))
    reports = request.reports if files.out == HERE else files.out / "reports"
    console.print(f"page: {reports / suite / PAGE}")

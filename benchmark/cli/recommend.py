"""`recommend`: which method to take by the records at hand, and the command that trains it."""

import math
import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.cli import options
from benchmark.core.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from rich.console import Console

    from benchmark.analysis.limits import Limit
    from benchmark.cli.request import Request
    from benchmark.reporting.recommend import Recommendation

SCHEMA_VERSION = 1
_LIMITS = "Limits"
_FILE, _NAME = "FILE.yaml", "NAME"
"""What stands for a set that nobody named yet."""
_DIR, _IMAGES = "DIR", "IMAGES"
"""What stands for folders that are not known."""


def _limit(name: str, text: str) -> Any:
    return typer.Option(f"--max-{name}", metavar="LIMIT", help=text, rich_help_panel=_LIMITS)


Stored = Annotated[str | None, _limit("stored", "Bytes on disk for one more task: 1MB, 500kB, 2x.")]
Trainable = Annotated[
    str | None, _limit("trainable", "Trainable parameters: 300k, 2% of the backbone, 2x.")
]
Memory = Annotated[str | None, _limit("memory", "Peak memory of a training step: 2GB, 1.5x.")]
Latency = Annotated[str | None, _limit("latency", "Time to segment one image: 20ms, 1.2x.")]
Training = Annotated[str | None, _limit("training", "Time of a training step: 500ms, 2x.")]
Prefer = Annotated[
    str,
    typer.Option(
        metavar="accurate|small",
        help="What to take of methods that may be as good as the best one: the best one, or the "
        "one that stores least.",
    ),
]


@options.takes("suite", "results", "weights", "data", "plugin")
def recommend(
    request: "Request",
    benchmark: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Set to train on; where it has finished runs, scores on it alone count.",
        ),
    ] = None,
    stored: Stored = None,
    trainable: Trainable = None,
    memory: Memory = None,
    latency: Latency = None,
    training: Training = None,
    prefer: Prefer = "accurate",
    as_json: options.AsJson = False,
) -> None:
    """Say which method to take by the finished runs, and print the command that trains it.

    That is the most accurate one within the limits; with --prefer small, the one that stores least
    of those that may be as good. Both are named in any case. A multiple, as in
    1.2x, is one of the frozen backbone with a linear decoder. Times are those that `timing`
    measured.

    Exit code 2: no run has finished, or no method is within the limits.
    """
    from rich.console import Console

    from benchmark.analysis.limits import parse_limit
    from benchmark.cli.report import assessed
    from benchmark.core.format import counted
    from benchmark.planning.catalogue import BENCHMARKS, SUITES
    from benchmark.planning.remembered import recall
    from benchmark.planning.renamed import load
    from benchmark.reporting import recommend as answer
    from benchmark.results import asked

    if prefer not in answer.PREFERENCES:
        raise UserError(f"--prefer {prefer!r}: choose {' or '.join(answer.PREFERENCES)}")
    typed = {
        "stored": stored,
        "trainable": trainable,
        "memory": memory,
        "latency": latency,
        "training": training,
    }
    limits = [parse_limit(name, text) for name, text in typed.items() if text is not None]
    suite = request.selection.suite
    frame = load(request.results, suite)
    if frame.empty:
        SUITES.get(suite)
        wanted = sum(map(len, asked.read(request.results, suite).values()))
        if wanted:
            raise UserError(
                f"none of the {counted(wanted, 'run')} of suite {suite!r} in {request.place} has "
                "finished yet; repeat the command then (`plan`, with what was typed after `run`, "
                "shows which are done)"
            )
        raise UserError(
            f"no run of suite {suite!r} in {request.place}; run `python -m benchmark run` first, "
            "or name another with --suite or --results"
        )
    problems = recall(request.results, [benchmark] if benchmark else [])
    if benchmark in problems:
        raise UserError(f"benchmark {benchmark!r} {problems[benchmark]}")
    if benchmark is not None and benchmark not in set(frame["benchmark"]):
        BENCHMARKS.get(benchmark)
    runs, found = assessed(frame, suite, request.results)
    made = answer.recommend(runs, found, limits, benchmark, prefer)
    if not made:
        raise UserError(
            f"no method of suite {suite!r} in {request.place} has finished all its benchmarks; "
            "finish them with `python -m benchmark run`, or name one with --benchmark"
        )
    if all(one.best is None for one in made):
        raise UserError(_no_fit(made, limits, suite, request))
    if as_json:
        from benchmark.cli.terminal import print_json

        print_json(_document(made, limits, benchmark, runs.frame, request))
        return
    console = Console()
    for one in made:
        _print(console, one, benchmark, runs.frame, request)


def _no_fit(
    made: "Sequence[Recommendation]", limits: "Sequence[Limit]", suite: str, request: "Request"
) -> str:
    """Why no method fits, what comes closest, and what to do."""
    nearest = min((one.nearest for one in made if one.nearest), key=lambda one: one.times)
    asked = " ".join(map(str, limits))
    if math.isinf(nearest.times):
        return (
            f"{nearest.text}; measure it with `python -m benchmark timing --suite {suite}"
            f"{request.repeated}`, or leave it out"
        )
    return f"no method fits {asked}; nearest: {nearest.text}; raise the limit"


def _print(
    console: "Console",
    one: "Recommendation",
    benchmark: str | None,
    frame: "pd.DataFrame",
    request: "Request",
) -> None:
    from benchmark.core.selectors import UnknownName
    from benchmark.planning.remembered import explain

    def say(text: str, style: str = "") -> None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    scope = one.benchmark or (
        one.benchmarks[0]
        if len(one.benchmarks) == 1
        else f"average over {', '.join(one.benchmarks)}"
    )
    say(f"{one.name}: {scope}", style="bold")
    if one.best is None:
        assert one.nearest is not None
        say(f"no method fits; nearest: {one.nearest.text}")
    else:
        say(_taken(one))
        for finding in one.findings:
            say(f"  {finding}")
    for reason, methods in one.excluded.items():
        named = ", ".join(f"{name} ({cost})" if cost else name for name, cost in methods.items())
        say(f"  Left out, {reason}: {named}")
    for caveat in one.caveats:
        say(f"  {caveat}", style="dim")
    if one.best is not None:
        where, ids = _target(one, benchmark), _run_ids(one, benchmark, frame)
        usable = _usable(one, benchmark, frame, request)
        weights, _ = _sources(one, request)
        if ids and not usable:
            say(
                f"trained on {where} already, as run {', '.join(ids)}, whose trained tensors are "
                "not here; to train it in a results folder of your own:"
            )
        elif ids:
            same = "" if len(usable) == 1 else " (seeds differ by chance; any will do)"
            say(f"trained on {where} already, as run {', '.join(usable)}{same}; to use it:")
            images = _images(where, request)
            words = ["predict", usable[0], images, "--out", f"labelled-{usable[0]}", "--overlay"]
            words += weights
            say(f"$ python -m benchmark {shlex.join(words)}{request.repeated}")
            say("to train it again, or with more --seeds:")
        else:
            say(f"to train it on {where or 'a set of your own'}:")
        try:
            say(f"$ {_command(one, benchmark, frame, request)}")
        except UserError as error:  # its plug-in is not loaded
            said = explain(error, request.results) if isinstance(error, UnknownName) else error
            say(f"  {said}")
        if _DIR in weights:
            say(f"  {_DIR}: the folder that holds {one.key[0]}.safetensors")
        say("")


def print_next(
    console: "Console",
    made: "Sequence[Recommendation]",
    frame: "pd.DataFrame",
    name: str,
    request: "Request",
    limit: "Limit | None" = None,
) -> None:
    """Prints how to choose a method, and how to use the best run on a set.

    Args:
        console: where.
        made: what `benchmark.reporting.recommend` says without limits.
        frame: the runs.
        name: of the set.
        request: of the runs.
        limit: that was typed.
    """

    def say(why: str, words: list[str]) -> None:
        console.print(f"{why}:")
        console.print(f"$ python -m benchmark {shlex.join(words)}{request.repeated}")

    one = next((one for one in made if one.best is not None), None)
    ids = _usable(one, name, frame, request) if one else []
    if one is None or not ids:
        return
    assert one.best is not None
    weights, _ = _sources(one, request)
    hint = "" if limit else ", also under limits such as --max-stored 1MB"
    limits = [f"--max-{limit.name}", limit.text] if limit else []
    say(
        f"which method to take{hint}",
        ["recommend", "--suite", request.selection.suite, *limits, *weights],
    )
    say(
        f"to label images with {one.best['method']}, which is recommended (run {ids[0]})",
        [
            *("predict", ids[0], _images(name, request)),
            *("--out", f"labelled-{ids[0]}", "--overlay", *weights),
        ],
    )
    say(
        "to use it in other software",
        ["export", ids[0], "--format", "onnx", "--out", f"{name}.onnx", *weights],
    )


def _images(name: str | None, request: "Request") -> str:
    """What to label with a run: the images of its set, where they are files here.

    A folder that holds labels, or training images, too, is not named; then it is one test image.
    """
    from benchmark.planning.catalogue import BENCHMARKS
    from benchmark.planning.remembered import recall

    if name is None or recall(request.results, [name]) or name not in BENCHMARKS.names():
        return _IMAGES
    try:
        benchmark = BENCHMARKS.get(name)(request.data)
        files, learnt = (benchmark.files(benchmark.ids(split)[0]) for split in ("test", "train"))
    except UserError:  # not here
        return _IMAGES
    if not files:
        return _IMAGES
    image, *labels = files
    alone = all(other.parent != image.parent for other in (*labels, *learnt[:1]))
    return os.path.relpath(image.parent if alone else image)


def _taken(one: "Recommendation") -> str:
    """What is taken, its numbers, and why it and not the most accurate one."""
    from benchmark.analysis.costs import STORED, TRAINABLE
    from benchmark.analysis.leaderboard import MIOU
    from benchmark.core.format import below_text, human, interval_text, points_text

    best = one.best
    assert best is not None
    within = interval_text(float(best["low"]), float(best["high"]))
    text = f"take {best['method']}: mIoU {points_text(best[MIOU])}"
    if one.finished == 1:
        text = f"only {best['method']} has finished, so there is nothing to compare it with: "
        text += f"mIoU {points_text(best[MIOU])}"
    text += f" (95 %: {within})" if within else ""
    text += f", {human(best[TRAINABLE], 'count')} trainable, {human(best[STORED], 'bytes')} stored"
    others = len(one.rivals) - 1
    if not others:
        return text
    how = "that may be as good" if one.tested else "within 1 point of the best"
    if one.prefer == "accurate":
        more = f"{others} more {'is' if others == 1 else 'are'}"
        near = "not significantly worse" if one.tested else "within 1 point of it (not tested)"
        return f"{text}; the most accurate; {more} {near}"
    among = f"the smallest of those {how}{'' if one.tested else ' (not tested)'}"
    if one.difference is None:
        return f"{text}; the most accurate, and {among}"
    lost = one.difference
    text += f"; {among}, {points_text(lost.value)} points below "
    span = "" if math.isnan(lost.low) else f" (95 %: {below_text(lost.low, lost.high)})"
    return f"{text}{one.rivals[0]}{span}"


def _target(one: "Recommendation", benchmark: str | None) -> str | None:
    """The set to train on: the named one, else the only one that there is."""
    return benchmark or (one.benchmarks[0] if len(one.benchmarks) == 1 else None)


def _run_ids(one: "Recommendation", benchmark: str | None, frame: "pd.DataFrame") -> list[str]:
    """The finished runs of the method on the set to train on, by seed."""
    rows = _rows(one, frame)
    own = rows[rows["benchmark"] == _target(one, benchmark)].sort_values("seed")
    return list(map(str, own["run_id"]))


def _usable(
    one: "Recommendation", benchmark: str | None, frame: "pd.DataFrame", request: "Request"
) -> list[str]:
    """Those of `_run_ids` whose trained tensors are here, or in the store that the results have."""
    from benchmark.results import remote

    rows = _rows(one, frame).set_index("run_id")["folder"]
    away = remote.of(request.results) is not None
    return [
        run
        for run in _run_ids(one, benchmark, frame)
        if away or (request.results / str(rows[run]) / remote.DELTA).is_file()
    ]


def _rows(one: "Recommendation", frame: "pd.DataFrame") -> "pd.DataFrame":
    """The finished runs of the method that is taken, in its group."""
    from benchmark.reporting.inputs import of_group

    assert one.best is not None
    rows = of_group(frame, one.key)
    return rows[(rows["method"] == one.best["method"]) & (rows["status"] == "done")]


def _command(
    one: "Recommendation", benchmark: str | None, frame: "pd.DataFrame", request: "Request"
) -> str:
    """Trains the method under the protocol of its runs, with all seeds that were asked for.

    Where their trained tensors are missing, it is not into this results folder, in which they count
    as finished.
    """
    from benchmark.planning.catalogue import BENCHMARKS
    from benchmark.planning.plan import command
    from benchmark.planning.remembered import recall
    from benchmark.results import asked
    from benchmark.results.record_file import read
    from benchmark.results.validate import spec_of

    rows, name = _rows(one, frame), _target(one, benchmark)
    spec = spec_of(read(request.results / str(rows["folder"].iloc[0])))
    recall(request.results, [spec.benchmark])
    if name is not None:
        version = BENCHMARKS.get(name).version
        spec = spec.model_copy(update={"benchmark": name, "benchmark_version": version})
    wanted = asked.read(request.results, request.selection.suite).get(one.key, {}).values()
    seeds = {int(seed) for seed in rows["seed"]}
    seeds |= {cell.seed for cell in wanted if cell.method == spec.method_label}
    words = shlex.split(command(spec, sorted(seeds)))
    if name is None:
        words[words.index("--benchmarks") + 1] = _NAME
        words += ["--plugin", _FILE]
    weights, data = _sources(one, request)
    again = shlex.split(request.repeated)
    ids = _run_ids(one, benchmark, frame)
    afresh = bool(ids) and not _usable(one, benchmark, frame, request)
    for place in range(0, len(again), 2):  # a plug-in file may be named already
        option = again[place : place + 2]
        known = option[0] == "--plugin" and option[1] in words
        words += [] if known or (afresh and option[0] == "--results") else option
    return shlex.join([*words, *weights, *data])


def _sources(one: "Recommendation", request: "Request") -> tuple[list[str], list[str]]:
    """Options that name weights and data: as typed, else as the runs were made with."""
    from benchmark.models.find_weights import find_weights
    from benchmark.results import asked

    backbone, kind, _ = one.key
    known = asked.folders(request.results, request.selection.suite) or asked.Folders()
    data = request.data or known.data
    folders = _folders("data", (data,) if data else ())
    if kind == "none" or find_weights(backbone, ()) is not None:
        return [], folders
    if request.weights or known.weights:
        return _folders("weights", request.weights or known.weights), folders
    from benchmark.models.find_weights import cached_weights

    return ([] if cached_weights(backbone) else ["--weights", _DIR]), folders


def _folders(option: str, paths: "Sequence[Path]") -> list[str]:
    """An option with each folder, where the environment does not name it."""
    from benchmark.cli import petseg_yaml

    usual = os.environ.get(petseg_yaml.VARIABLES[option])
    return [word for path in paths if str(path) != usual for word in (f"--{option}", str(path))]


def _document(
    made: "Sequence[Recommendation]",
    limits: "Sequence[Limit]",
    benchmark: str | None,
    frame: "pd.DataFrame",
    request: "Request",
) -> dict[str, Any]:
    return {
        "schema": SCHEMA_VERSION,
        "suite": request.selection.suite,
        "limits": {limit.name: limit.text for limit in limits},
        "groups": [_group(one, benchmark, frame, request) for one in made],
    }


def _group(
    one: "Recommendation", benchmark: str | None, frame: "pd.DataFrame", request: "Request"
) -> dict[str, Any]:
    from benchmark.analysis.costs import cost_columns
    from benchmark.analysis.leaderboard import MIOU

    def number(value: Any) -> float | None:
        return None if value != value else float(value)

    best, taken, difference = one.best, None, None
    if best is not None:
        taken = {
            "method": str(best["method"]),
            "miou": number(best[MIOU]),
            "low": number(best["low"]),
            "high": number(best["high"]),
            "seeds": int(best["seeds"]),
            "costs": {name: number(best[name]) for name in cost_columns()},
            "runs": _run_ids(one, benchmark, frame),
            "command": _command(one, benchmark, frame, request),
        }
    if one.difference is not None:
        ends = (one.difference.value, one.difference.low, one.difference.high)
        difference = dict(zip(("value", "low", "high"), map(number, ends), strict=True))
    return {
        "name": one.name,
        "backbone": one.key[0],
        "weights": one.key[1],
        "protocol_hash": one.key[2],
        "benchmark": one.benchmark,
        "benchmarks": list(one.benchmarks),
        "recommended": taken,
        "rivals": list(one.rivals),
        "tested": one.tested,
        "difference": difference,
        "excluded": {reason: dict(methods) for reason, methods in one.excluded.items()},
        "nearest": one.nearest.text if one.nearest else None,
        "caveats": list(one.caveats),
    }

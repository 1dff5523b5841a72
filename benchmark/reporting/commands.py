"""Commands in a report, as they are typed in the working folder."""

import itertools
import os
import shlex
from pathlib import Path

from benchmark.analysis.runs import Runs
from benchmark.models.find_weights import find_weights
from benchmark.results import asked

MORE_SEEDS = 2
"""Seeds to add where there are too few."""


def timing(runs: Runs) -> str:
    """How to measure the times of runs: a command in backticks."""
    suite = str(runs.frame["suite"].iloc[0]) if "suite" in runs.frame else "NAME"
    words = ["python", "-m", "benchmark", "timing", "--suite", suite, *_results(runs)]
    kinds = [c for c in map(str, runs.frame) if c.startswith("plugins.") and c.endswith(".path")]
    files = {str(path) for kind in kinds for path in runs.frame[kind].dropna()}
    for path in sorted(files):
        words += ["--plugin", os.path.relpath(runs.root / path)]
    return _quoted(words, runs)


def more_seeds(runs: Runs) -> str:
    """How to add `MORE_SEEDS` seeds to the finished runs of a group.

    Args:
        runs: of one group.

    Returns:
        A command in backticks; empty where no record says how it was run.
    """
    done = runs.frame[runs.frame["status"] == "done"]
    typed = [shlex.split(str(text)) for text in done.get("command", ()) if text]
    if not typed:
        return ""
    words = typed[0]
    last = int(done["seed"].max())
    named = {
        "--benchmarks": sorted(map(str, done["benchmark"].unique())),
        "--methods": sorted(map(str, done["method"].unique())),
        "--seeds": [str(last + place + 1) for place in range(MORE_SEEDS)],
    }
    for option, values in named.items():
        if option not in words[:-1]:
            return ""
        words[words.index(option) + 1] = ",".join(values)
    plugins = dict.fromkeys(
        path for one in typed for option, path in itertools.pairwise(one) if option == "--plugin"
    )
    for path in plugins:
        if path not in words:
            words += ["--plugin", path]
    return _quoted([*words, *_results(runs)], runs)


def again(runs: Runs, typed: str, backbone: str, weights: str) -> tuple[str, str]:
    """The command of a record, with the folders of these results.

    Args:
        runs: all of them.
        typed: the command that the record holds; may be empty.
        backbone: of the record.
        weights: their kind.

    Returns:
        The command; and what to add to it, where that is not known.
    """
    if not typed:
        return "", ""
    options, missing = sources(backbone, weights, runs.root, _suite(runs))
    return shlex.join([*shlex.split(typed), *_results(runs), *options]), missing


def sources(backbone: str, weights: str, root: Path, suite: str) -> tuple[list[str], str]:
    """Options of a command that reads the weights and data of runs.

    Records name no folder of a machine; the results folder may know those of its last `run`.

    Args:
        backbone: of the runs.
        weights: their kind.
        root: the results folder.
        suite: of the runs.

    Returns:
        Options that name the folders; and where they are not known, words for behind the command.
    """
    if find_weights(backbone, ()) is not None or weights == "none":
        return [], ""
    known = asked.folders(root, suite)
    if known is None:
        return [], " with the --weights and --data of `run`"
    words = [word for path in known.weights for word in ("--weights", str(path))]
    return words + (["--data", str(known.data)] if known.data else []), ""


def _quoted(words: list[str], runs: Runs) -> str:
    kinds = set(zip(runs.frame["backbone"], runs.frame["weights"], strict=True))
    found = [
        sources(backbone, weights, runs.root, _suite(runs)) for backbone, weights in sorted(kinds)
    ]
    options = next((options for options, _ in found if options), [])
    return f"`{shlex.join([*words, *options])}`{next(filter(None, (t for _, t in found)), '')}"


def _suite(runs: Runs) -> str:
    return str(runs.frame["suite"].iloc[0]) if "suite" in runs.frame else ""


def _results(runs: Runs) -> list[str]:
    root = os.path.relpath(runs.root)
    return ["--results", root] if root != "results" else []

"""The README of a report: what was measured, how, on what, and what it does not show."""

from collections.abc import Mapping, Sequence

import pandas as pd

from benchmark.analysis.ablation import differences
from benchmark.analysis.groups import random_weights
from benchmark.analysis.leaderboard import Key, shared_benchmarks
from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty import Assessment
from benchmark.reporting.answers import corrected_away, headed, not_run
from benchmark.reporting.figures.picture import Picture
from benchmark.reporting.inputs import ReportInputs, of_group
from benchmark.reporting.provenance import Protocols, data_notes, protocols, provenance
from benchmark.reporting.seed_notes import about_seeds, seed_range
from benchmark.reporting.table_catalogue import (
    DIFFERENCES,
    FAILURES,
    RANKS,
    benchmark_table,
    dice_table,
    studies,
    without_lone_averages,
)
from benchmark.reporting.tables import COLUMNS, Column, ranked, to_markdown
from benchmark.reporting.terms import used
from benchmark.reporting.timing_notes import explained

MARK = "<!-- written by petseg-bench; changes are lost with the next report -->"
"""First line of the page, by which a former report is known."""

_BOARD = {"costs.params.decoder", "ppt"}  # in the files only


def render(
    inputs: ReportInputs, pictures: Mapping[Key, Sequence[Picture]], across: Sequence[Picture]
) -> str:
    """The page as Markdown.

    Args:
        inputs: of the report.
        pictures: the figures of each group.
        across: those that join several protocols.
    """
    runs, found = inputs.runs, inputs.assessment
    several = len(pictures) > 1
    drawn = any(pictures.values())
    parts = [MARK, f"# {inputs.title}", _summary(runs)]
    origin = protocols(runs.frame)
    parts += ["## Answer", *_answers(runs, found), *(f"**{text}**" for text in origin.guard)]
    parts.append(_about_seeds(runs, found))
    parts.append(
        "[index.html](index.html) is the interactive version of this report; it works offline."
    )
    for key, part in runs.groups.items():
        name = f": {runs.names[key].label}" if several else ""
        parts += _section(key, part, found, name)
        parts += _figures(pictures[key], name)
    parts += _figures(across, "")
    if notes := [*data_notes(runs.frame), *inputs.notes]:
        parts += ["## Limits of these numbers", _list(notes)]
    parts += ["## Runs that did not finish", _failures(runs)]
    parts += ["## Protocol", _protocol(origin), "## Provenance", _provenance(runs.frame)]
    parts += ["## Terms", _terms("\n".join(parts))]
    parts.append(
        "All numbers are in [tables](tables) as CSV, Markdown and LaTeX, including the IoU of each "
        "class, the tests of all pairs of methods, and every cost."
        + (" The figures are in [figures](figures) as PNG, SVG and PDF." if drawn else "")
    )
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _summary(runs: Runs) -> str:
    frame = runs.frame
    parts = ("method", "backbone", "benchmark", "seed")
    counts = [_count(frame[name].nunique(), name) for name in parts]
    finished, wanted = runs.progress
    return f"{', '.join(counts)}; {finished} of {_count(wanted, 'run')} finished."


def _answers(runs: Runs, found: Assessment) -> list[str]:
    """The answer of each group as a list, what it is about before it."""
    parts = []
    for title, answer in headed(runs, found):
        said = [*map(str, answer.findings), *(f"**{text}**" for text in answer.caveats)]
        parts += [f"{title}:", _list(said)]
    return parts


def _about_seeds(runs: Runs, found: Assessment) -> str:
    seeds = runs.cells.loc[lambda table: table["status"] == "done", "seeds"]
    if seeds.empty:
        return ""
    if seeds.max() == 1:
        return (
            "Ranks are all open, since nothing was tested. The 95 % intervals do not include "
            "variation between trainings."
        )
    pairs = without_lone_averages(runs, found.pairs)
    apart = int(pairs["significant"].sum())
    text = (
        f"{seed_range(seeds)} each. The 95 % intervals cover seeds and "
        "test images (hierarchical bootstrap with Student's t). A rank gives the places that the "
        "tests leave open (paired, Holm's correction); "
        f"{apart} of {_count(len(pairs), 'pair')} differ significantly."
    )
    if beyond := corrected_away(pairs):
        text += f" {beyond}"
    if seeds.min() == 1:
        text += (
            " **Some results are from one seed: their intervals do not include variation between "
            "trainings, and their differences are not tested.**"
        )
    return text


def _section(key: Key, runs: Runs, found: Assessment, name: str) -> list[str]:
    board = ranked(runs, found.board)
    columns = [
        column
        for column in COLUMNS
        if column.name not in _BOARD and board[column.name].notna().any()
    ]
    parts = [
        f"## Leaderboard{name}",
        f"Backbone `{key[0]}`, {' '.join(random_weights(key[1])) or 'pretrained weights'}.",
        to_markdown(board, columns),
        about_seeds(runs.cells),
        "mIoU in points: mean over benchmarks of the mean over seeds; costs are means over "
        "benchmarks. A method that did not "
        " finish every benchmark has no rank. Bold: best in the column.",
        explained(runs),
    ]
    shared = of_group(found.shared, key)
    if len(shared):
        names = shared_benchmarks(runs.cells)
        parts += [
            f"## Leaderboard over {' and '.join(names)}{name}",
            "Every method with a result finished these benchmarks: all are compared here.",
            to_markdown(ranked(runs.over(names), shared), columns),
        ]
    parts += [f"## mIoU per benchmark{name}", to_markdown(*benchmark_table(runs))]
    dice, reporting = dice_table(runs)
    if len(reporting) > 1:
        parts += [f"## mDice per benchmark{name}", to_markdown(dice, reporting)]
    for method, (table, fields) in studies(runs).items():
        parts += [
            f"## Settings of {method}{name}",
            "Fields that differ, over the benchmarks that all of these settings finished.",
            to_markdown(table, fields),
        ]
        against = of_group(differences(found.pairs, method), key)
        if len(against):
            parts += [
                f"Paired differences to the defaults ({method}), with 95 % intervals and Holm's "
                "correction over the settings of a benchmark.",
                to_markdown(against, DIFFERENCES),
            ]
    ranks = of_group(found.ranks, key)
    if len(ranks) > 1 and ranks["critical_difference"].notna().all():
        parts += [f"## Average ranks in numbers{name}", to_markdown(ranks, RANKS)]
    return [part for part in parts if part]


def _figures(pictures: Sequence[Picture], name: str) -> list[str]:
    """Figures under the headings of their sections, linked to their vector form."""
    parts = []
    for section in dict.fromkeys(picture.section for picture in pictures):
        parts.append(f"## {section}{name}")
        for picture in pictures:
            if picture.section == section:
                image = f"figures/{picture.stem}"
                parts.append(f"[![{picture.title}]({image}.png)]({image}.png)")
    return parts


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _failures(runs: Runs) -> str:
    table = runs.failures
    waiting = not_run(runs)
    if table.empty:
        return waiting or "None."
    columns = list(FAILURES)
    if table["backbone"].nunique() > 1:
        columns.insert(0, Column("backbone", "Backbone"))
    return (
        to_markdown(table, columns)
        + "\n`python -m benchmark run --retry failed` tries failed runs again, but not unsupported "
        "ones. To leave a method out of the report, remove its folder from the results."
        + (f" {waiting}" if waiting else "")
    )


def _protocol(found: Protocols) -> str:
    """One column a protocol, so that what differs between two of them is seen side by side."""
    rows = [[setting.name, *setting.values] for setting in found.settings]
    rows.append(["hash", *found.hashes])
    table = pd.DataFrame(rows, columns=["setting", *found.hashes])
    heads = zip(found.hashes, found.names, strict=True)
    return to_markdown(table, [Column("setting", "Setting"), *(Column(*head) for head in heads)])


def _terms(text: str) -> str:
    """Those that the report uses."""
    return _list([f"*{term}*: {meaning}" for term, meaning in used(text).items()])


def _provenance(runs: pd.DataFrame) -> str:
    return "\n".join(f"- {name}: {text}" for name, text in provenance(runs))


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"

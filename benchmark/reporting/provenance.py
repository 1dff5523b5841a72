"""How runs were made: protocols side by side, what differs in them, and where runs came from."""

import json
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import pandas as pd

from benchmark.analysis.groups import apart, group_names, protocol_settings
from benchmark.analysis.leaderboard import GROUP, current
from benchmark.core.format import MISSING
from benchmark.core.spec import Protocol

_PROTOCOL, _ORIGIN = "protocol.", "provenance."

_FACTS = (
    ("started", "Date"),
    ("git_commit", "Commit"),
    ("device", "Hardware"),
    ("threads", "Threads"),
    ("precision", "Precision"),
    ("attention", "Attention"),
    ("platform", "System"),
    ("python", "Python"),
    ("weights", "Weights"),
    ("weights_sha256", "SHA-256 of weights"),
)
_OPENED = "execution.opened_splits.test"
_EQUAL = (
    ("weights_sha256", "backbone", "weights under one backbone's name: not comparable"),
    ("data_sha256", "benchmark", "data under one benchmark's name: not comparable"),
    ("precision", "backbone", "precisions: not comparable"),
)
"""Column, what it may differ between, and what to say if it differs within a ranking."""


@dataclass(frozen=True)
class Setting:
    """One field of the protocols.

    Attributes:
        name: of the field.
        about: what it means; empty where nobody said.
        values: one a protocol, as text.
        differs: whether they are not all equal.
    """

    name: str
    about: str
    values: tuple[str, ...]
    differs: bool


@dataclass(frozen=True)
class Protocols:
    """All protocols side by side.

    Attributes:
        hashes: the columns.
        names: what each protocol is called, by what differs from the others.
        settings: the rows; those that differ come first.
        guard: sentences on what must not be compared.
    """

    hashes: tuple[str, ...]
    names: tuple[str, ...]
    settings: tuple[Setting, ...]
    guard: tuple[str, ...]


def protocols(runs: pd.DataFrame) -> Protocols:
    """The protocols of the runs, and what must not be compared."""
    known = protocol_settings(runs)
    hashes = list(dict.fromkeys(key[2] for key in group_names(runs)))
    names = [", ".join(apart(known)[text]) or "Value" for text in hashes]
    settings = []
    for column in (name for name in runs.columns if name.startswith(_PROTOCOL)):
        name = column.removeprefix(_PROTOCOL)
        values = tuple(_text(known[text].get(name)) for text in hashes)
        field = Protocol.model_fields.get(name)
        about = (field.description if field else None) or ""
        settings.append(Setting(name, about, values, differs=len(set(values)) > 1))
    settings.sort(key=lambda setting: not setting.differs)
    guard = []
    if runs[GROUP].drop_duplicates().shape[0] > 1:
        guard.append(
            "Only runs with the same backbone, weights and protocol are compared: each such group "
            "has its own ranking. Do not compare scores between groups."
        )
    different = [
        f"{setting.name} {_listed(sorted(set(setting.values)))}"
        for setting in settings
        if setting.differs
    ]
    if different:
        guard.append(f"{len(hashes)} protocols here, which differ in {'; '.join(different)}.")
    ranked = current(runs)  # not what was run again since, as after its set was described anew
    ranked = ranked[ranked["status"] == "done"]
    for name, within, words in _EQUAL:
        column = f"{_ORIGIN}{name}"
        if column not in ranked:
            continue
        # Fingerprints of different schemes cannot be compared.
        found = ranked[column].astype("string")
        scheme = found.str.extract(r"^(\w+):", expand=False).fillna("")
        keys = list(dict.fromkeys([*GROUP, within]))
        if found.groupby([*(ranked[key] for key in keys), scheme]).nunique().max() > 1:
            guard.append(f"Runs that are ranked together used different {words}.")
    if _OPENED in runs and (often := int((runs[_OPENED] > 1).sum())):
        were, their = ("run was", "its score") if often == 1 else ("runs were", "their scores")
        guard.append(
            f"{often} {were} scored on the test images more than once, so {their} may be "
            "optimistic; how often is in the records."
        )
    guard += [*tuning_notes(runs), *near_notes(runs)]
    return Protocols(tuple(hashes), tuple(names), tuple(settings), tuple(guard))


def provenance(runs: pd.DataFrame) -> list[tuple[str, str]]:
    """Names and values of what produced the runs, without folders of the machine."""
    lines = []
    for name, label in _FACTS:
        column = f"{_ORIGIN}{name}"
        if column not in runs:
            continue
        texts = _texts(runs[column])
        if name == "started":
            days = [text[:10] for text in texts]
            texts = list(dict.fromkeys([days[0], days[-1]])) if days else []
        if name == "weights":
            texts = sorted({PurePath(text).name for text in texts})
        if name in ("git_commit", "weights_sha256"):
            texts = [text[:12] for text in texts]
        if texts:
            lines.append((label, "; ".join(texts)))
    dirty = runs.get(f"{_ORIGIN}git_dirty")
    if dirty is not None and (dirty == True).any():  # noqa: E712 - the column holds None, too
        lines.append(("Uncommitted changes", f"in {int((dirty == True).sum())} runs"))  # noqa: E712
    prefix = f"{_ORIGIN}packages."
    versions = [
        f"{name.removeprefix(prefix)} {' / '.join(_texts(runs[name]))}"
        for name in runs.columns
        if name.startswith(prefix)
    ]
    return [*lines, ("Packages", ", ".join(versions))] if versions else lines


def _listed(texts: list[str]) -> str:
    """`200, 100 and 60`, of two texts or more."""
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


def _texts(column: pd.Series) -> list[str]:
    """The different values of a column, in alphabetical order."""
    values = column.dropna()
    # Lists do not hash, and are in columns of objects.
    different = values if values.dtype == object else values.unique()
    return sorted({_text(value) for value in different})


def _text(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return json.dumps(value, sort_keys=True)
    if value is None or value is pd.NA or value != value:
        return MISSING
    if str(value) in ("True", "False"):
        return "yes" if str(value) == "True" else "no"
    return f"{value:.12g}" if isinstance(value, (int, float)) else str(value)


def tuning_notes(runs: pd.DataFrame) -> list[str]:
    """How settings were chosen, where `tune` chose some; a sentence a way."""
    if "tuning.trials" not in runs:
        return []
    notes, tuned = [], runs[runs["tuning.trials"].notna()]
    ways: dict[tuple[int, str], set[str]] = {}
    lists = tuned["tuning.benchmarks"].map(lambda names: ", ".join(names))
    for trials, names, method in zip(tuned["tuning.trials"], lists, tuned["method"], strict=True):
        ways.setdefault((int(trials), names), set()).add(str(method))
    for (trials, names), methods in sorted(ways.items()):
        count = "1 trial" if trials == 1 else f"{trials} trials each"
        notes.append(
            f"Settings of {', '.join(sorted(methods))}: {count}, chosen on val of {names}."
        )
    for _, group in runs.groupby(GROUP):
        own = group["tuning.trials"].fillna(0).groupby(group["method"]).max()
        if own.nunique() > 1:
            notes.append(
                "Not all methods that are ranked together were tuned with the same number of "
                "trials, so differences between them are partly those of tuning."
            )
            break
    return notes


def near_notes(runs: pd.DataFrame) -> list[str]:
    """Sets of which images that are scored are nearly those of train, a sentence each."""
    if "near_copies" not in runs:
        return []
    columns = ["benchmark", "split", "near_copies", "metrics.images"]
    told = runs[runs["near_copies"].fillna(0) > 0]
    told = told.assign(split=told.get(f"{_PROTOCOL}eval_split", "test"))
    found = told[columns].dropna().drop_duplicates().sort_values(columns)
    return [
        f"{int(near)} of {int(images)} {split} images {'has' if near == 1 else 'have'} a "
        f"near-identical image in train, so the scores of {name} are too good."
        for name, split, near, images in found.itertuples(index=False)
    ]


def data_notes(runs: pd.DataFrame) -> list[str]:
    """Serious findings of audits that were accepted with `--accept-audit`, a sentence each."""
    if "data_findings" not in runs:
        return []
    found = {
        f"{name}: trained although the audit found: {what}."
        for name, findings in zip(runs["benchmark"], runs["data_findings"], strict=True)
        for what in findings
    }
    return sorted(found)

"""Names of groups of comparable runs: what differs between them, in words."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmark.analysis.leaderboard import Key, split_groups
from benchmark.core.spec import Protocol

_PREFIX, _STARTED = "protocol.", "provenance.started"
_WORDS: dict[str, Callable[[Any], str]] = {
    "steps": lambda value: f"{value} step{'' if value == 1 else 's'}",
    "fraction": lambda value: "all images" if value == 1 else f"{100 * value:.4g} % of images",
    "decoder": lambda value: f"{value} decoder",
    "crop": lambda value: f"crop {value}",
    "batch_size": lambda value: f"batch {value}",
    "schedule": lambda value: f"{value} schedule",
    "precision": lambda value: "automatic precision" if value == "auto" else str(value),
    "eval_split": lambda value: f"scored on {value}",
    "views": lambda value: f"{value} fixed views" if value else "new views",
    "flip": lambda value: "mirrored crops" if value else "no mirrored crops",
}
"""How a field of the protocol is named, the most informative first; others by name and value."""

_MOST = 3
"""Settings in a name, unless more are needed to tell the groups apart."""


@dataclass(frozen=True)
class GroupName:
    """How a group differs from the others of a report.

    Attributes:
        label: what differs ("vit_tiny, 3 seeds", "up to 3 seeds" of uneven ones); the backbone
            where there is one group alone.
        full: the backbone in any case, and what else differs, but for seeds.
        slug: as a part of the names of files; it does not depend on how many seeds have run.
    """

    label: str
    full: str
    slug: str


def protocol_settings(runs: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The fields of each protocol of the runs, by its hash.

    A record lacks the fields that came later; such a field has its default, which means what was
    done before there was one.
    """
    defaults = {name: field.default for name, field in Protocol.model_fields.items()}
    fields = [name for name in runs.columns if name.startswith(_PREFIX)]
    settings = {}
    for row in runs.drop_duplicates("protocol_hash").to_dict("records"):
        own = {name.removeprefix(_PREFIX): row[name] for name in fields}
        known = {name: value for name, value in own.items() if value == value and value is not None}
        merged = defaults | known
        settings[str(row["protocol_hash"])] = {name: _plain(merged[name]) for name in merged}
    return settings


def apart(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """The settings that tell protocols apart, in words.

    Args:
        settings: the fields of each, by any name.

    Returns:
        By the same names a list of as many words each: the fields that are not equal in all, the
        most telling ones where there are many.
    """
    fields = {name for own in settings.values() for name in own}
    order = [*(name for name in _WORDS if name in fields), *sorted(fields - set(_WORDS))]
    values = {name: {key: repr(own.get(name)) for key, own in settings.items()} for name in order}
    differing = [name for name in order if len(set(values[name].values())) > 1]
    chosen = _telling(differing, values, settings)
    return {key: [_word(name, own.get(name)) for name in chosen] for key, own in settings.items()}


def group_names(runs: pd.DataFrame) -> dict[Key, GroupName]:
    """The names of the groups of a table of records.

    The fullest group (most finished runs) is first, of equally full ones the newest.
    """
    if runs.empty:
        return {}
    parts = dict(split_groups(runs if _STARTED in runs else runs.assign(**{_STARTED: ""})))
    seeds = {key: _seeds(part) for key, part in parts.items()}
    backbones = short_backbones({key[0] for key in parts})
    settings = apart(protocol_settings(runs))
    own = {key: [*random_weights(key[1]), *settings[key[2]]] for key in parts}
    if len(backbones) > 1 or len(parts) == 1:
        own = {key: [backbones[key[0]], *words] for key, words in own.items()}
    own = {key: words or ["pretrained weights"] for key, words in own.items()}
    slugs = [slug(" ".join(words)).lower() for words in own.values()]
    names = {}
    for key in _fullest_first(parts):
        words = own[key]
        # Only a hash is left where fields that no record has must differ.
        if slugs.count(slug(" ".join(words)).lower()) > 1:
            words = [*words, f"protocol {key[2][:8]}"]
        label = [*words, seeds[key]] if len(set(seeds.values())) > 1 else words
        full = list(dict.fromkeys([backbones[key[0]], *words]))
        names[key] = GroupName(", ".join(label), ", ".join(full), slug(" ".join(words)))
    return names


def short_backbones(names: Collection[str]) -> dict[str, str]:
    """Names of backbones without patches and training data, where these still tell them apart."""
    shorter: list[Callable[[str], str]] = [
        lambda name: re.sub(r"_patch\d.*", "", name.partition(".")[0]),
        lambda name: name.partition(".")[0],
        str,
    ]
    for rule in shorter:
        found = {name: rule(name) for name in names}
        if len(set(found.values())) == len(found) and all(found.values()):
            break
    return found


def random_weights(weights: str) -> list[str]:
    """What a name says of the weights: nothing of pretrained ones, which are what is expected."""
    return [] if weights == "pretrained" else ["random weights"]


def slug(text: str) -> str:
    """A label as part of the name of a file."""
    return re.sub(r"[^\w.\-]+", "-", text.replace("%", "percent")).strip("-")


def _telling(
    differing: list[str],
    values: Mapping[str, Mapping[str, str]],
    settings: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """All fields that differ where they are few, else the first ones that tell all apart."""
    if len(differing) <= _MOST:
        return differing
    chosen: list[str] = []
    kinds = 1
    for name in differing:
        more = len({tuple(values[one][key] for one in [*chosen, name]) for key in settings})
        if more > kinds:
            chosen, kinds = [*chosen, name], more
    return chosen


def _word(name: str, value: Any) -> str:
    if name in _WORDS:
        return _WORDS[name](value)
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f"{name.replace('_', ' ')} {text}"


def _seeds(part: pd.DataFrame) -> str:
    done = part[part["status"] == "done"]
    counts = done.groupby(["benchmark", "method"])["seed"].nunique()
    most = int(counts.max()) if len(counts) else 0
    upto = "up to " if (counts < most).any() else ""
    return f"{upto}{most} seed{'' if most == 1 else 's'}"


def _fullest_first(parts: Mapping[Key, pd.DataFrame]) -> list[Key]:
    cell = ["benchmark", "method", "seed"]
    done = {key: part[part["status"] == "done"] for key, part in parts.items()}
    full = {key: len(part[cell].drop_duplicates()) for key, part in done.items()}
    newest = {key: max(map(str, part[_STARTED]), default="") for key, part in parts.items()}
    by_age = sorted(sorted(parts), key=newest.__getitem__, reverse=True)
    return sorted(by_age, key=full.__getitem__, reverse=True)


def _plain(value: Any) -> Any:
    """200 for 200.0: a column of integers in which some are missing holds floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value

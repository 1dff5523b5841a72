"""Images that belong together, as frames of one scene do, and splits drawn so that they stay so."""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmark.core.errors import DataError, on_one_line
from benchmark.data.base import EXAMPLES, SPLITS, Split, carve
from benchmark.data.custom.description import GROUPS_FILE

COLUMNS = ("stem", "group")
"""Of a CSV file of groups."""
FORMS = ("^(.+)/", "^(.+)[ _.-]", "^(.*[^0-9])[0-9]+$", "^([^ _.-]+)[ _.-]")
"""Of names that may tell the scene of an image: its folder; what is before the last separator;
before its number; before the first separator."""
SHARES = (0.6, 0.1, 0.3)
"""Of train, val and test where the folder does not say."""


class NamedGroups(NamedTuple):
    """Groups that names of images seem to tell: the regular expression, and images by group."""

    form: str
    groups: Counter[str]

    @property
    def largest(self) -> str:
        """One of most images."""
        return min(self.groups, key=lambda group: (-self.groups[group], group))


def named_groups(stems: Sequence[str]) -> NamedGroups | None:
    """What names say of groups, as of frames of a sequence.

    Only where they say it clearly: most images are in a group of several, and there are groups
    enough for three splits, none larger than the images for training.

    Args:
        stems: paths of the images below their folder, without suffix.
    """
    for form in FORMS:
        try:
            groups = Counter(stated_groups(form, Path(), stems).values())
        except DataError:
            continue
        several = sum(size for size in groups.values() if size > 1)
        few = len(groups) < len(SHARES) or max(groups.values()) > SHARES[0] * len(stems)
        if 2 * several > len(stems) and not few:
            return NamedGroups(form, groups)
    return None


def stated_groups(
    stated: str, home: Path, stems: Sequence[str], known: Collection[str] | None = None
) -> dict[str, str]:
    """The group of each image, by what a description says (`Description.groups`).

    Args:
        stated: regular expression; or name of a CSV file, of which images that it does not name
            are each on their own.
        home: folder of the YAML file.
        stems: paths of the images below their folder, without suffix.
        known: those of all images that there are; None = `stems`.

    Raises:
        DataError: the file cannot be read or is no such table, or it names what is no image; an
            image does not match the expression.
    """
    if stated.lower().endswith(GROUPS_FILE):
        table, images = _table(home / Path(stated).expanduser()), set(known or stems)
        if unknown := [stem for stem in table if stem not in images]:
            raise DataError(
                f"{home / stated} names {', '.join(unknown[:EXAMPLES])}, which "
                f"{'is no image' if len(unknown) == 1 else 'are no images'}; write the path below "
                "`images`, without suffix"
            )
        return {stem: table.get(stem, f"{stem} alone") for stem in stems}
    where = f"do not match `groups: {stated!r}`; correct it (`|` adds another form of names)"
    matches = {stem: re.search(stated, stem) for stem in stems}
    found = {stem: match[1] for stem, match in matches.items() if match and match[1]}
    if missing := [stem for stem in stems if stem not in found]:
        named = ", ".join(missing[:EXAMPLES])
        raise DataError(f"{len(missing)} of {len(stems)} images, such as {named}, {where}")
    return found


def _table(path: Path) -> dict[str, str]:
    """Group by stem of a CSV file."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read ({on_one_line(error)}); correct `groups` or the file"
        ) from error
    if any(not (row.get("stem") and row.get("group")) for row in rows) or not rows:
        raise DataError(
            f"{path} is no table of groups; write the line `stem,group`, and below it one line for "
            "each image that is not alone, as in `street/0001,scene1`"
        )
    found: dict[str, str] = {}
    for row in rows:
        if found.setdefault(row["stem"], row["group"]) != row["group"]:
            raise DataError(f"{path} puts {row['stem']} into two groups; keep one line")
    return found


def together(ids: Sequence[str], links: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Groups of ids that are linked, directly or through others: each sorted, in order of firsts.

    Args:
        ids: what is grouped.
        links: pairs, also of other ids: two that are linked to a third one belong together.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = list(links)
    place = {id: k for k, id in enumerate(sorted({*ids, *(id for pair in pairs for id in pair)}))}
    rows, columns = np.array([(place[a], place[b]) for a, b in pairs], int).reshape(-1, 2).T
    shape = len(place), len(place)
    graph = coo_array((np.ones(len(pairs), bool), (rows, columns)), shape=shape)
    _, number = connected_components(graph, directed=False)
    groups: dict[int, list[str]] = defaultdict(list)
    for id in sorted(ids):
        groups[int(number[place[id]])].append(id)
    return list(groups.values())


def draw(
    groups: Sequence[Sequence[str]], shares: tuple[float, float, float], seed: int = 0
) -> dict[Split, list[str]]:
    """Draws splits of whole groups.

    Groups come in order of their size, the largest first, those of one size in an order drawn by
    the seed. Each goes to the split that lacks most images; no split stays empty while there are
    groups enough. Where every group is one image, these are the splits that `carve` draws.

    Args:
        groups: ids of each.
        shares: of train, val and test; they sum to 1.
        seed: of the order.

    Returns:
        Sorted ids per split.
    """
    count = sum(map(len, groups))
    if len(groups) == count:
        return carve([id for group in groups for id in group], shares, seed=seed)
    wanted: dict[Split, int] = {
        "train": round(shares[0] * count),
        "val": round(shares[1] * count),
    }
    wanted["test"] = count - wanted["train"] - wanted["val"]
    order = [groups[k] for k in np.random.default_rng(seed).permutation(len(groups))]
    parts: dict[Split, list[str]] = {split: [] for split in SPLITS}
    open_ = [split for split in SPLITS if wanted[split]]
    for k, group in enumerate(sorted(order, key=len, reverse=True)):
        empty = [split for split in open_ if not parts[split]]
        last = len(groups) - k <= len(empty)
        split = max(empty if last else open_, key=lambda split: wanted[split] - len(parts[split]))
        parts[split] += group
    return {split: sorted(members) for split, members in parts.items()}


def links_of(group_of: Mapping[str, str]) -> list[tuple[str, str]]:
    """Pairs of ids that link all members of each group."""
    first: dict[str, str] = {}
    return [(first.setdefault(group, id), id) for id, group in group_of.items()]

"""Duplicates among the images of a benchmark, exact and near, within and across splits.

Near ones are frames of one scene, one object under another exposure, shifted crops. Two
descriptors of an image are kept. A coarse one, its grey thumbnail, names the few images that look
most alike at all. A detailed one decides: the fine structure, evened out so that neither exposure
nor shading nor strong edges rule it, less what all images of the set share, correlated over small
shifts. The thumbnail alone cannot decide: in a set of one domain, say cells in the middle of bright
images, unrelated thumbnails correlate at 0.95.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmark.data.base import EXAMPLES, SPLITS, Finding, Split, grouped
from benchmark.data.examples import PLAIN

SIDE = 64
"""Side of the detailed descriptor in pixels."""
COARSE = 16
"""Side of the coarse descriptor in pixels."""
SHIFT = 6
"""Largest shift that is looked for, in pixels of the detailed descriptor, so 9 % of a side."""
THRESHOLD = 0.65
"""Correlation of near-duplicates.

Chosen by looking at the pairs of five real sets: false ones, such as two magnetic tiles of one
make or two round cells, stay below 0.6.
"""
NEIGHBOURS = 16
"""Images compared in detail with each image; more copies than that are still linked in a chain."""
ENOUGH = 32
"""Least number of images for which what all of them share is subtracted."""
_LEVELS = 30.0
_ROWS = 512
_PAIRS = 256


class Look(NamedTuple):
    """What an image looks like, in 4.3 KB.

    Attributes:
        coarse: (16, 16) uint8, grey.
        detail: (64, 64) int8, structure after local normalisation.
    """

    coarse: np.ndarray
    detail: np.ndarray


class Pair(NamedTuple):
    """Two images that are nearly the same.

    Attributes:
        first: index of the one, the lower.
        second: index of the other.
        score: correlation of their structure at the best shift, up to 1.
    """

    first: int
    second: int
    score: float


def look(image: np.ndarray) -> Look:
    """Describes an image.

    Args:
        image: (H, W, 3) uint8, RGB, of any size; its aspect ratio is not kept.
    """
    from scipy.ndimage import gaussian_filter

    # Pillow's triangle filter widens with the reduction, so that nothing is aliased.
    grey = Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    coarse = np.asarray(grey.resize((COARSE, COARSE), Image.Resampling.BOX))
    values = np.asarray(grey, dtype=np.float32)
    structure = values - gaussian_filter(values, 2)
    # Without a floor, grain and compression noise of plain areas would weigh as much as edges.
    floor = 0.1 * structure.std() + 0.5
    structure /= np.sqrt(gaussian_filter(structure**2, 3)) + floor
    detail = (_LEVELS * structure).round().clip(-127, 127).astype(np.int8)
    return Look(coarse, detail)


def lookalikes(looks: Sequence[Look], threshold: float = THRESHOLD) -> list[Pair]:
    """Pairs of images that are nearly the same, the most alike first.

    Compares every image with every other coarsely and with its nearest ones in detail. Memory
    grows with the number of images, not of pairs.

    Args:
        looks: one of each image.
        threshold: least correlation of a pair.
    """
    if len(looks) < 2:
        return []
    pairs = _candidates(np.stack([look.coarse for look in looks]))
    scores = _correlations(np.stack([look.detail for look in looks]), pairs)
    order = np.argsort(-scores, kind="stable")
    return [
        Pair(int(pairs[k, 0]), int(pairs[k, 1]), float(scores[k]))
        for k in order[: int((scores >= threshold).sum())]
    ]


def _candidates(coarse: np.ndarray) -> np.ndarray:
    """Pairs (m, 2), sorted, of which one is among the nearest of the other."""
    unit = _unit(coarse)
    n = len(unit)
    nearest = min(NEIGHBOURS, n - 1)
    found = []
    for start in range(0, n, _ROWS):
        rows = np.arange(start, min(start + _ROWS, n))
        alike = unit[rows] @ unit.T
        alike[rows - start, rows] = -np.inf
        columns = np.argpartition(-alike, nearest - 1, axis=1)[:, :nearest]
        found.append(np.stack([np.repeat(rows, nearest), columns.ravel()], axis=1))
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _correlations(detail: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Correlation (m,) of each pair at its best shift; shifted images wrap around."""
    shared = _unit(detail.mean(axis=0, dtype=np.float32)[None])[0]
    shifts = np.r_[0 : SHIFT + 1, -SHIFT:0]
    scores = np.empty(len(pairs), dtype=np.float32)
    for start in range(0, len(pairs), _PAIRS):
        batch = pairs[start : start + _PAIRS]
        used, place = np.unique(batch, return_inverse=True)
        place = place.reshape(batch.shape)
        own = _unit(detail[used])
        if len(detail) >= ENOUGH:
            # A frame around all images, a mask or a vignette, is no likeness of two of them.
            own = _unit(own - np.outer(own @ shared, shared))
        spectra = np.fft.rfft2(own.reshape(-1, SIDE, SIDE))
        product = spectra[place[:, 0]] * spectra[place[:, 1]].conj()
        surface = np.fft.irfft2(product, s=(SIDE, SIDE))
        scores[start : start + _PAIRS] = surface[:, shifts][:, :, shifts].max(axis=(1, 2))
    return scores


def _unit(images: np.ndarray) -> np.ndarray:
    """Images (n, h, w) as (n, h * w) float32 of mean 0 and length 1; constant ones are 0."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return flat / np.where(length > 0, length, 1)


@dataclass
class Seen:
    """What is kept of an example that was read.

    Attributes:
        split: its split.
        id: its id.
        image: digest of the pixels; `PLAIN` for images of one colour, which are reported as such
            and not also as duplicates of each other.
        label: digest of the label.
        look: what the image looks like; None where nobody asked, or for images of one colour.
    """

    split: Split
    id: str
    image: bytes
    label: bytes
    look: Look | None = None


def copies(examples: Sequence[Seen], scored: Split = "test") -> Iterator[Finding]:
    """Images that are equal in every pixel, and those of them whose labels differ.

    Args:
        examples: to compare.
        scored: the split that scores come from: a copy of one of its images in train is serious.
    """
    groups: dict[bytes, list[Seen]] = defaultdict(list)
    for seen in examples:
        if seen.image != PLAIN:
            groups[seen.image].append(seen)
    learnt: list[str] = []
    across: list[str] = []
    inside: list[str] = []
    disputed: list[str] = []
    for group in groups.values():
        if len(group) == 1:
            continue
        text = " = ".join(f"{seen.split} {seen.id}" for seen in group[:EXAMPLES])
        text += f" = {len(group) - EXAMPLES} more" if len(group) > EXAMPLES else ""
        splits = {seen.split for seen in group}
        kind = learnt if {"train", scored} <= splits else across if len(splits) > 1 else inside
        kind.append(text)
        if len({seen.label for seen in group}) > 1:
            disputed.append(text)
    fix = "keep each such image in one split"
    yield from grouped("serious", f"images that occur in train and {scored}", learnt, fix)
    yield from grouped("warning", "images that occur in more than one split", across, fix)
    yield from grouped(
        "warning",
        "equal images whose labels differ",
        disputed,
        "find out which label is right, and remove the other copies",
    )
    yield from grouped(
        "warning",
        "images that occur more than once in their split",
        inside,
        "remove the copies; otherwise they count more than once",
    )


@dataclass(frozen=True)
class Alike:
    """Which images of a set are the same, or nearly so.

    Attributes:
        equal: ids of images that are equal in every pixel, a group each.
        near: ids of two images that are nearly equal, and how much (`Pair.score`), the most alike
            first. Of equal images the first stands for all.
    """

    equal: tuple[tuple[str, ...], ...]
    near: tuple[tuple[str, str, float], ...]

    @property
    def links(self) -> list[tuple[str, str]]:
        """Pairs of ids that belong together."""
        equal = [(group[0], other) for group in self.equal for other in group[1:]]
        return equal + [(one, other) for one, other, _ in self.near]

    def having_twin(self, ids: Collection[str], among: Collection[str]) -> set[str]:
        """Those of some images to which one of some others is equal or nearly equal."""
        members = {group[0]: group for group in self.equal}
        near = [(*members.get(a, (a,)), *members.get(b, (b,))) for a, b, _ in self.near]
        found: set[str] = set()
        for together in (*self.equal, *near):
            if any(id in among for id in together):
                found |= {id for id in together if id in ids}
        return found


def alike(examples: Iterable[tuple[str, bytes, Look | None]]) -> Alike:
    """Which images are the same, or nearly so; their order makes no difference.

    Args:
        examples: id, digest of the pixels and look of each; without a look, an image is left out.
    """
    groups: dict[bytes, list[str]] = defaultdict(list)
    looks: dict[bytes, Look] = {}
    for id, digest, described in sorted(examples, key=lambda example: example[0]):
        if described is not None:
            groups[digest].append(id)
            looks.setdefault(digest, described)
    # Of equal images one is enough, and many of them would crowd out what is only nearly equal.
    firsts = [ids[0] for ids in groups.values()]
    near = lookalikes(list(looks.values()))
    return Alike(
        tuple(tuple(ids) for ids in groups.values() if len(ids) > 1),
        tuple((firsts[a], firsts[b], round(score, 4)) for a, b, score in near),
    )


def near_copies(examples: Sequence[Seen], found: Alike, fix: str = "") -> Iterator[Finding]:
    """Images that are nearly equal, and how many of the test images have one in train.

    Args:
        examples: of all splits.
        found: what `alike` says of them.
        fix: what keeps such images on one side; empty = the splits are given.
    """
    split_of = {seen.id: seen.split for seen in examples}
    across: list[str] = []
    inside: list[str] = []
    for one, other, _ in found.near:
        one, other = sorted((one, other), key=lambda id: SPLITS.index(split_of[id]))
        text = f"{split_of[one]} {one} ~ {split_of[other]} {other}"
        (inside if split_of[one] == split_of[other] else across).append(text)
    train, test = ({id for id, of in split_of.items() if of == k} for k in ("train", "test"))
    twins = len(found.having_twin(test, train))
    listed = "; `data audit --pairs FILE` lists all" if len(across) > EXAMPLES else ""
    yield from grouped(
        "warning",
        f"pairs of nearly the same image across splits; {twins} of {len(test)} test images are "
        "near one in train",
        across,
        f"{fix or 'keep each scene or object in one split'}; otherwise scores do not show how "
        f"methods do on new ones{listed}",
    )
    yield from grouped(
        "note",
        "pairs of nearly the same image inside a split",
        inside,
        "nothing is wrong; but the split has fewer independent images than its number says",
    )

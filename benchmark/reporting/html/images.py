"""Small pictures of what methods made of the same test image, and of where they were wrong."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from benchmark.analysis.leaderboard import Key
from benchmark.reporting.html.payload import Shot, number

VOID = 255
SIDE = 256
"""Pixels of the longer side of a picture of the page."""
MOST_BYTES = 5_000_000
"""Of all pictures together, before base64 adds a third."""
_WRONG, _VOID = (213, 94, 0, 235), (128, 128, 128, 200)


@dataclass(frozen=True)
class Prediction:
    """What one method made of an image.

    Attributes:
        group: (backbone, weights, protocol_hash) of the run.
        method: its label.
        miou: of this image, fraction, over the classes in its labels; NaN if all is void.
        picture: PNG bytes, classes in their colours.
        errors: PNG bytes, transparent but for wrong pixels and void.
    """

    group: Key
    method: str
    miou: float
    picture: bytes
    errors: bytes


@dataclass(frozen=True)
class Item:
    """One test image with all predictions.

    Attributes:
        benchmark: its benchmark.
        image: its id.
        width: of the pictures in pixels.
        height: of the pictures in pixels.
        disagreement: share of labelled pixels on which not all methods agree.
        photo: JPEG bytes.
        truth: PNG bytes, classes in their colours.
        predictions: one a method.
        classes: name and `#RRGGBB` of the classes that appear in label or predictions.
    """

    benchmark: str
    image: str
    width: int
    height: int
    disagreement: float
    photo: bytes
    truth: bytes
    predictions: tuple[Prediction, ...]
    classes: tuple[tuple[str, str], ...]

    @property
    def size(self) -> int:
        """Bytes of all pictures."""
        parts = [len(part.picture) + len(part.errors) for part in self.predictions]
        return len(self.photo) + len(self.truth) + sum(parts)


def disagreement(label: np.ndarray, predictions: Sequence[np.ndarray]) -> float:
    """Share of the labelled pixels on which not all predictions are equal.

    Args:
        label: (H, W) uint8, 255 is void.
        predictions: each (H, W) uint8.

    Returns:
        In [0, 1]; 0 where nothing is labelled or there is one prediction.
    """
    known = label != VOID
    if len(predictions) < 2 or not known.any():
        return 0.0
    stack = np.stack(predictions)
    return float((stack != stack[0]).any(axis=0)[known].mean())


def image_miou(label: np.ndarray, prediction: np.ndarray) -> float:
    """MIoU of one image over the classes in its labels; NaN if all is void."""
    known = label != VOID
    values = [
        float(((label == value) & (prediction == value) & known).sum())
        / float((((label == value) | (prediction == value)) & known).sum())
        for value in np.unique(label[known])
    ]
    return float(np.mean(values)) if values else float("nan")


def make_item(
    benchmark: str,
    image_id: str,
    image: np.ndarray,
    label: np.ndarray,
    predictions: Mapping[tuple[Key, str], np.ndarray],
    colours: np.ndarray,
    names: Sequence[str],
    side: int = SIDE,
) -> Item:
    """Draws one image of the gallery.

    Args:
        benchmark: its benchmark.
        image_id: its id.
        image: (H, W, 3) uint8, RGB.
        label: (H, W) uint8, 255 is void.
        predictions: (H, W) uint8 by (group, method).
        colours: (256, 3) uint8 by label value, void too.
        names: of the K classes.
        side: pixels of the longer side of the pictures; larger images are reduced.

    Returns:
        The item. Scores are of all pixels, the pictures of those that are left.

    Raises:
        ValueError: shapes differ.
    """
    shapes = {label.shape, image.shape[:2], *(part.shape for part in predictions.values())}
    if len(shapes) != 1 or image.ndim != 3:
        raise ValueError(f"image, label and predictions of {image_id} differ in shape: {shapes}")
    height, width = label.shape
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = _reduced(label, size)
    parts = tuple(
        Prediction(
            group=group,
            method=method,
            miou=image_miou(label, found),
            picture=_paint(_reduced(found, size), colours),
            errors=_errors(small, _reduced(found, size)),
        )
        for (group, method), found in predictions.items()
    )
    values = np.unique(np.concatenate([label.ravel(), *(p.ravel() for p in predictions.values())]))
    return Item(
        benchmark=benchmark,
        image=image_id,
        width=size[0],
        height=size[1],
        disagreement=disagreement(label, list(predictions.values())),
        photo=_photo(image, size),
        truth=_paint(small, colours),
        predictions=parts,
        classes=tuple(
            (names[value], "#" + bytes(colours[value].tolist()).hex())
            for value in values.tolist()
            if value < len(names)
        ),
    )


def fitting(items: Sequence[Item], most: int = MOST_BYTES) -> list[Item]:
    """The items on which methods disagree most, as many as fit, benchmarks taken in turn.

    Args:
        items: of any benchmarks.
        most: bytes of all pictures.

    Returns:
        Sorted by benchmark, then by disagreement, the largest first.
    """
    order = sorted(items, key=lambda item: (item.benchmark, -item.disagreement, item.image))
    place: dict[str, int] = {}
    turns = []
    for item in order:
        place[item.benchmark] = place.get(item.benchmark, -1) + 1
        turns.append((place[item.benchmark], item))
    kept, total = [], 0
    for _, item in sorted(turns, key=lambda pair: pair[0]):
        if total + item.size <= most:
            kept.append(item)
            total += item.size
    return [item for item in order if any(item is other for other in kept)]


def shot(item: Item, groups: Mapping[Key, int], methods: Mapping[str, int]) -> Shot:
    """The item as the page holds it; predictions of unknown groups or methods are left out."""
    return Shot(
        benchmark=item.benchmark,
        image=item.image,
        width=item.width,
        height=item.height,
        disagreement=round(item.disagreement, 4),
        photo=_uri(item.photo),
        truth=_uri(item.truth),
        predictions=[
            {
                "group": groups[part.group],
                "method": methods[part.method],
                "miou": number(part.miou),
                "prediction": _uri(part.picture),
                "error": _uri(part.errors),
            }
            for part in item.predictions
            if part.group in groups and part.method in methods
        ],
        classes=list(item.classes),
    )


def _reduced(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest pixels: a mean of two class numbers is a third class."""
    return np.asarray(
        Image.fromarray(values.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    )


def _photo(image: np.ndarray, size: tuple[int, int]) -> bytes:
    picture = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85, optimize=True)
    return buffer.getvalue()


def _paint(values: np.ndarray, colours: np.ndarray) -> bytes:
    picture = Image.fromarray(values.astype(np.uint8)).convert("L")
    painted = Image.frombytes("P", picture.size, picture.tobytes())
    painted.putpalette(colours.astype(np.uint8).tobytes())
    return _png(painted)


def _errors(label: np.ndarray, found: np.ndarray) -> bytes:
    """Palette 0 right (transparent), 1 wrong, 2 void."""
    values = np.where(label == VOID, 2, np.where(label == found, 0, 1)).astype(np.uint8)
    painted = Image.frombytes("P", (values.shape[1], values.shape[0]), values.tobytes())
    painted.putpalette(bytes((0, 0, 0, *_WRONG[:3], *_VOID[:3])))
    return _png(painted, transparency=bytes((0, _WRONG[3], _VOID[3])))


def _png(picture: Image.Image, **options: bytes) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True, **options)
    return buffer.getvalue()


def _uri(content: bytes) -> str:
    kind = "jpeg" if content.startswith(b"\xff\xd8") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"

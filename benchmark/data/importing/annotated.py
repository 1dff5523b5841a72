"""What every format is read into, and the checks that all of them need."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import PydanticCustomError

from benchmark.core.errors import DataError, on_one_line, shown
from benchmark.core.spec import one_line
from benchmark.data.base import Split
from benchmark.data.custom.folder import files_below
from benchmark.data.importing.images import Images
from benchmark.data.importing.raster import VOID, Canvas

Number = Annotated[float, Field(allow_inf_nan=False)]
"""A finite number."""


class Shape(NamedTuple):
    """One annotation of an image.

    Attributes:
        where: for errors.
        draw: draws it; a `ValueError` says what is wrong with it.
    """

    where: str
    draw: Callable[[Canvas], None]


@dataclass(frozen=True)
class Picture:
    """One image and its annotations.

    Attributes:
        image: its file.
        where: the file that annotates it, for errors.
        shapes: in the order in which they are drawn; none = everything is background.
        split: that the format puts it in; None = it has none.
        size: width and height as the format states them; None = it does not.
    """

    image: Path
    where: str
    shapes: Sequence[Shape] = ()
    split: Split | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Source:
    """What is to be read.

    Attributes:
        path: file or folder, as the user named it.
        images: where images are looked for.
        names: of the values of masks, where the user gave them.
    """

    path: Path
    images: Images
    names: dict[int, str] | None = None

    def files(self, suffix: str) -> list[Path]:
        """The file itself, or those of the folder with a suffix, at any depth."""
        if self.path.is_file():
            return [self.path]
        return sorted(path for path in files_below(self.path) if path.suffix.lower() == suffix)


@dataclass
class AnnotatedSet:
    """What a format holds.

    Attributes:
        categories: names, in the order of the numbers that are drawn.
        pictures: all images.
        notes: what was decided or left out, a line each.
        complete: whether every pixel is annotated, as in masks; else the rest is background.
    """

    categories: list[str]
    pictures: list[Picture]
    notes: list[str] = field(default_factory=list)
    complete: bool = False


_LONGEST_NAME = 200

Model = TypeVar("Model", bound=BaseModel)


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        DataError: it cannot be read, or is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8; export it again") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: it cannot be read or parsed.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        # ValueError: also a number of thousands of digits.
        raise DataError(f"{path} is not JSON ({on_one_line(error)}); export it again") from error


def check(kind: type[Model], content: Any, where: str) -> Model:
    """Content as a model.

    Raises:
        DataError: it does not fit.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise DataError(f"{one_line(error, f'{where}:')}; export it again") from error


def name_of(value: object) -> str:
    """A category's name as a class of a benchmark can have it.

    Raises:
        PydanticCustomError: it is none. As a validator of a model, it names the field.
    """
    name = " ".join(str(value).split()) if isinstance(value, str | int) else ""
    if not is_name(name):
        raise PydanticCustomError("name", "a category needs a name of printable characters")
    return name


def is_name(text: str) -> bool:
    """Whether a class can be called so."""
    return text.isprintable() and 0 < len(text.strip()) <= len(text) <= _LONGEST_NAME


def unique(names: Sequence[str], where: str) -> None:
    """Checks that no two categories have the same name.

    Raises:
        DataError: two have.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(
                f"{where}: two categories are named {shown(name)}; rename or merge them"
            )
        seen.add(name)


def categories_of(
    names: Mapping[int, str], ignored: Sequence[str] = ()
) -> tuple[list[str], dict[int, int]]:
    """The categories that values of masks stand for; values of one name are one category.

    Args:
        names: by value.
        ignored: names that are void.

    Returns:
        Names, and what is drawn for each value.
    """
    categories = list(dict.fromkeys(names[value] for value in sorted(names)))
    categories = [name for name in categories if name not in ignored]
    numbers = {name: k for k, name in enumerate(categories)} | dict.fromkeys(ignored, VOID)
    return categories, {value: numbers[name] for value, name in names.items()}


_SPLITS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_SPLIT = re.compile(rf"(?<![a-z])({'|'.join(sorted(_SPLITS, key=len, reverse=True))})(?![a-z])")


def split_named(text: str) -> Split | None:
    """The split that a file, folder or subset is named after.

    >>> split_named("instances_val2017")
    'val'
    """
    found = {_SPLITS[word] for word in _SPLIT.findall(text.lower())}
    return found.pop() if len(found) == 1 else None

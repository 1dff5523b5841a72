"""`petseg.yaml` in the working folder: options that are the same for every command there."""

import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from benchmark.core.errors import UserError, on_one_line
from benchmark.core.selectors import did_you_mean
from benchmark.core.spec import one_line
from benchmark.core.yaml_file import read_mapping

FILE = "petseg.yaml"
VARIABLES = {"data": "BENCHMARK_DATA", "weights": "BENCHMARK_WEIGHTS"}
"""Options that environment variables set, too; those win over the file."""


class Settings(BaseModel):
    """What the file may hold; paths are relative to its folder, which is the working folder.

    Attributes:
        plugins: files as `--plugin` takes them; those that are typed are loaded, too.
        data: data folder.
        weights: folders of pretrained weights, or none for random ones.
        results: results folder.
        reports: folder for reports.
        suite: name of the suite.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    plugins: str | list[str] | None = None
    data: str | None = None
    weights: str | list[str] | None = None
    results: str | None = None
    reports: str | None = None
    suite: str | None = None


def read_settings() -> dict[str, Any]:
    """The settings of the working folder by name; only those that the file states.

    Raises:
        UserError: the file cannot be read, or a setting does not exist or has no fitting value.
    """
    path = Path(FILE)
    if not os.path.lexists(path):
        return {}
    content = read_mapping(path, FILE, "settings", "data: DIR")
    for key, value in content.items():
        if key not in Settings.model_fields:
            raise UserError(
                f"{FILE}: unknown setting {key!r}{did_you_mean(str(key), Settings.model_fields)}"
            )
        if value in (None, "", []):
            raise UserError(f"{FILE}: {key} is empty; give it a value, or remove the line")
    try:
        found = Settings.model_validate(content).model_dump(exclude_none=True)
    except ValidationError as error:
        field = error.errors()[0]["loc"][0]
        text = one_line(error, FILE).partition(": ")[2]
        raise UserError(f"{FILE}: {field}: {text}") from error
    except UnicodeEncodeError as error:  # half of a surrogate pair as a key
        raise UserError(f"{FILE}: {on_one_line(error)}") from error
    return {name: _at_home(name, value) for name, value in found.items()}


def check_folders(name: str, value: Any) -> None:
    """Checks that the folders which a setting names are there.

    Raises:
        UserError: one is not.
    """
    for folder in value if isinstance(value, list) else [value]:
        if folder != "none" and not Path(folder).is_dir():
            raise UserError(f"{FILE}: {name}: {folder}: no such folder; correct the line")


def in_words() -> str:
    """The settings of the working folder on one line; empty where there is no file.

    Raises:
        UserError: see `read_settings`.
    """
    parts = []
    for name, value in read_settings().items():
        text = ", ".join(value) if isinstance(value, list) else value
        variable = VARIABLES.get(name, "")
        hidden = f" (but {variable} is set)" if os.environ.get(variable) else ""
        parts.append(f"{name}: {text}{hidden}")
    return f"{FILE} is read: {'; '.join(parts)}" if parts else ""


def _at_home(name: str, value: Any) -> Any:
    """A value with `~` for the home folder, which no shell expands in a file."""
    if name == "suite":
        return value
    if isinstance(value, list):
        return [os.path.expanduser(path) for path in value]
    return os.path.expanduser(value)

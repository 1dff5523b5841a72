"""The file of settings that `tune` writes and `run --settings` takes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from benchmark.core.errors import UserError
from benchmark.core.files import write_atomic
from benchmark.core.spec import Tuning, Weights, one_line
from benchmark.core.yaml_file import read_mapping

MARK = "# Settings that `python -m benchmark tune` chose on validation splits; for `run --settings`"
"""First line of the file, by which it is known."""


class Settings(BaseModel):
    """The chosen fields of methods.

    Attributes:
        suite: whose protocol the trials had, but for what `--set` changed.
        weights: of the backbones.
        tuning: how they were chosen, the same for all.
        methods: by backbone, then by label as it was tuned: the fields that were chosen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: str
    weights: Weights
    tuning: Tuning
    methods: Mapping[str, Mapping[str, Mapping[str, int | float | str]]]

    def labels(self) -> list[str]:
        """The methods that were tuned on some backbone."""
        return list(dict.fromkeys(label for own in self.methods.values() for label in own))

    def fields(self, backbone: str, label: str) -> Mapping[str, Any]:
        """The chosen fields of a method on a backbone.

        Raises:
            UserError: it was not tuned.
        """
        if backbone not in self.methods:
            raise UserError(
                f"--settings holds none for backbone {backbone!r}, only for "
                f"{', '.join(self.methods)}; tune on it, or choose with --backbones"
            )
        own = self.methods[backbone]
        if label not in own:
            raise UserError(
                f"--settings holds none for {label!r} on {backbone}, only for {', '.join(own)}; "
                "tune it, too, or choose with --methods"
            )
        return own[label]


def read_settings(path: Path) -> Settings:
    """Reads a file of settings.

    Raises:
        UserError: it cannot be read, or is none.
    """
    where = f"--settings {path}"
    content = read_mapping(path, where, "settings", "suite: demo")
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        raise UserError(
            f"{one_line(error, where)}; `python -m benchmark tune` writes such a file"
        ) from error


def write_settings(path: Path, settings: Settings) -> None:
    """Writes a file of settings; equal settings give equal bytes.

    Raises:
        UserError: it cannot be written.
    """
    text = yaml.safe_dump(
        settings.model_dump(mode="json"), sort_keys=False, default_flow_style=None
    )
    try:
        write_atomic(path, f"{MARK}\n{text}".encode())
    except OSError as error:
        raise UserError(
            f"--out {path} cannot be written ({error.strerror}); name another file"
        ) from error


def check_replaceable(path: Path) -> None:
    """Makes sure that a file may be written.

    Raises:
        UserError: there is something else, or no folder for it.
    """
    if not path.parent.is_dir():
        raise UserError(f"--out {path}: no such folder; make it, or name another file")
    if path.is_dir():
        raise UserError(f"--out {path} is a folder; name a file")
    if path.exists() and not path.read_bytes().startswith(MARK.encode()):
        raise UserError(f"--out {path} was not written by `tune`; name another file")

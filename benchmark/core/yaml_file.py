"""Reading of YAML files that users write."""

from pathlib import Path
from typing import Any

import yaml

from benchmark.core.errors import UserError


def read_mapping(path: Path, where: str, kind: str, example: str) -> dict[Any, Any]:
    """The mapping that a YAML file holds, of plain values only.

    Args:
        path: the file.
        where: how the user named it, for errors.
        kind: what its keys are called.
        example: a line as it could be in the file.

    Raises:
        UserError: it cannot be read, is no YAML or no mapping, or a key is given twice in a
            mapping, of which YAML would silently keep the last.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not a text file in UTF-8; check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{where}: cannot be read ({reason}); check the path") from error
    try:
        _refuse_twins(yaml.compose(text, yaml.SafeLoader), set())
        content = yaml.safe_load(text)
    except Exception as error:
        # A tag that does not fit its value can raise almost any exception.
        raise UserError(f"{where}: not YAML ({_problem(error)})") from error
    if not isinstance(content, dict):
        raise UserError(f"{where}: write {kind} and values, as in `{example}`")
    return content


def _problem(error: Exception) -> str:
    """What is wrong, and on which line; YAML's own text draws an arrow over several lines."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())


def _refuse_twins(node: yaml.Node | None, seen: set[int]) -> None:
    if node is None or id(node) in seen:
        return  # an alias: its node was checked already
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for k, key in enumerate(keys):
            if key in keys[:k] and key != "<<":
                raise yaml.YAMLError(f"{key!r} is given twice, see line {node.start_mark.line + 1}")
        for _, value in node.value:
            _refuse_twins(value, seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_twins(value, seen)

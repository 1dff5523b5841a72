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
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a NUL in the name
        raise UserError(f"{where}: cannot be read ({error}); check the path") from error
    try:
        _refuse_twins(yaml.compose(text, yaml.SafeLoader), set())
        content = yaml.safe_load(text)
    except Exception as error:
        # A tag that does not fit its value can raise almost any exception.
        raise UserError(f"{where}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise UserError(f"{where}: write {kind} and values, as in `{example}`")
    return content


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

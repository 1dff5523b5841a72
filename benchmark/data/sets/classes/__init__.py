"""Names of classes, where a set has too many of them for its loader; one YAML file per set.

A file holds a list of names, or a mapping from name to colour where the makers of the set fix
colours. The order is that of the label values.
"""

from importlib.resources import files

import yaml


def class_names(name: str) -> tuple[str, ...]:
    """Names in the order of the label values.

    Args:
        name: of the file, without suffix.

    Example:
        >>> class_names("ade20k")[:2]
        ('wall', 'building')
    """
    return tuple(_content(name))


def class_colours(name: str) -> tuple[str, ...]:
    """Official colours `#RRGGBB` in the order of the label values; empty if there are none."""
    content = _content(name)
    return tuple(content.values()) if isinstance(content, dict) else ()


def _content(name: str) -> list[str] | dict[str, str]:
    return yaml.safe_load(files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8"))

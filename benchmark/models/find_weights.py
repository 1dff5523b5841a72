"""Which backbones there are: the weights files on this disk, and timm's names.

timm, which takes seconds to import, is asked for what is not on this disk only.
"""

import difflib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmark.core.answer_cache import kept
from benchmark.core.errors import UserError

_OTHERS = {".pth", ".pt", ".bin", ".ckpt", ".tar"}
"""Of files that PyTorch writes, which may run code when they are read."""

PACKAGED = Path(__file__).resolve().parent.parent / "weights"


def find_weights(name: str, dirs: Sequence[Path]) -> Path | None:
    """The weights file for a backbone, from `dirs` or the package; None where there is none.

    Raises:
        UserError: several files of one folder fit the name.

    """
    for folder in (*map(Path, dirs), PACKAGED):
        exact = folder / f"{name}.safetensors"
        if exact.is_file():
            return exact
        tagged = sorted(p for p in folder.glob("*.safetensors") if p.name.startswith(f"{name}."))
        if len(tagged) > 1:
            raise UserError(
                f"backbone {name!r}: {len(tagged)} weights files in {folder} fit this name; "
                f"use one of {', '.join(repr(p.stem) for p in tagged)}"
            )
        if tagged:
            return tagged[0]
    return None


def other_format(name: str, dirs: Sequence[Path]) -> str:
    """What to do with a file of a backbone's weights in another format; empty if there is none."""
    for folder in map(Path, dirs):
        for path in sorted(folder.glob("*")):
            if path.suffix in _OTHERS and path.name.startswith(f"{name}."):
                target = f"{name}.safetensors"
                return (
                    f"{path} is there, but only safetensors files are read; convert it: python -c "
                    '"import safetensors.torch as s; from timm.models import load_state_dict; '
                    f"s.save_file({{k: v.clone() for k, v in load_state_dict('{path.name}')"
                    f".items()}}, '{target}')\""
                )
    return ""


def check_names(names: Iterable[str], dirs: Sequence[Path]) -> None:
    """Raises `UserError` where a name is neither a weights file's nor timm's."""
    others = [name for name in names if find_weights(name, dirs) is None]
    if not others:
        return
    question = f"timm {json.dumps(others)}"
    known = kept(question, "timm", lambda: [name for name in others if is_timm(name)])
    for name in others:
        if name not in known:
            raise _unknown(name, dirs)


def is_timm(name: str) -> bool:
    """Whether timm has a model, and weights where a tag is named."""
    import timm

    if not timm.is_model(name):
        return False
    _, _, tag = name.partition(".")
    return not tag or hub_config(name) is not None


def hub_config(name: str) -> Any:
    """What timm knows of the pretrained weights of a name; None where it knows none."""
    import timm

    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError:
        return None


def _unknown(name: str, dirs: Sequence[Path]) -> UserError:
    import timm

    if other := other_format(name, dirs):
        return UserError(f"unknown backbone {name!r}: {other}")
    files = [p.stem for d in (*map(Path, dirs), PACKAGED) for p in d.glob("*.safetensors")]
    candidates = sorted({*files, *(f.split(".")[0] for f in files), *timm.list_models()})
    base, _, tag = name.partition(".")
    if tag and timm.is_model(base):
        tags = [full for full in timm.list_pretrained(f"{base}.*")]
        close = difflib.get_close_matches(name, tags, n=3, cutoff=0.0)
        kind = f"timm has no weights {tag!r} for {base!r}"
    else:
        close = difflib.get_close_matches(name, candidates, n=3)
        kind = f"unknown backbone {name!r}: neither a timm model nor a weights file"
    if set(name) & set("*?"):
        return UserError(f"{kind}; `list backbones --filter {name!r}` lists names that match")
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    return UserError(f"{kind}{hint}")

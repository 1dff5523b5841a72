"""Which backbones there are: the weights files on this disk, and timm's names.

timm, which takes seconds to import, is asked for what is not on this disk only.
"""

import difflib
import fnmatch
import json
import os
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


def expand(names: Sequence[str], dirs: Sequence[Path]) -> list[str]:
    """Names of backbones, with globs replaced by those that match and have weights here.

    Args:
        names: names and globs.
        dirs: folders of weights, beside those in the package.

    Raises:
        UserError: no weights file matches a glob.
    """
    found: list[str] = []
    for name in names:
        if not is_glob(name):
            found.append(name)
            continue
        here = [stem for stem in _stems(dirs) if fnmatch.fnmatchcase(stem, name)]
        if not here:
            folders = ", ".join(map(str, dirs)) or "the package alone (no --weights DIR)"
            raise UserError(
                f"no weights file matches {name!r} in {folders}; `list backbones` shows those "
                f"that are here, `list backbones --filter {name!r}` timm's names"
            )
        found += here
    return list(dict.fromkeys(found))


def is_glob(name: str) -> bool:
    """Whether a name stands for all that match it."""
    return bool(set(name) & set("*?"))


def _stems(dirs: Sequence[Path]) -> list[str]:
    folders = (*map(Path, dirs), PACKAGED)
    return [path.stem for folder in folders for path in sorted(folder.glob("*.safetensors"))]


def find_first(names: Sequence[str], dirs: Sequence[Path]) -> tuple[str, Path] | None:
    """The first of these backbones whose weights are on this disk, and their file.

    Args:
        names: timm names, the preferred one first.
        dirs: folders of weights, in which to look before timm's cache.
    """
    for name in names:
        if path := find_weights(name, dirs) or cached_weights(name):
            return name, path
    return None


def cached_weights(name: str) -> Path | None:
    """The file in timm's cache that weights for a name would be read from, if downloaded."""
    hub_id, filename, url = kept(f"weights of {name}", "timm", lambda: _published(name))
    if hub_id:
        from huggingface_hub import try_to_load_from_cache

        for candidate in (filename, "model.safetensors", "pytorch_model.bin"):
            found = candidate and try_to_load_from_cache(hub_id, candidate)
            if isinstance(found, str):
                return Path(found)
    if url:
        # As torch.hub.get_dir(), without the seconds that importing torch takes.
        caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        home = Path(os.environ.get("TORCH_HOME") or f"{caches}/torch").expanduser()
        stored = home / "hub" / "checkpoints" / os.path.basename(url)
        return stored if stored.is_file() else None
    return None


def _published(name: str) -> list[str | None]:
    """Where timm takes the weights of a name from: repository and file of the hub, URL."""
    config = hub_config(name)
    return [None] * 3 if config is None else [config.hf_hub_id, config.hf_hub_filename, config.url]


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
    base, _, tag = name.partition(".")
    if tag and timm.is_model(base):
        tags = [full for full in timm.list_pretrained(f"{base}.*")]
        close = difflib.get_close_matches(name, tags, n=3, cutoff=0.0)
        kind = f"timm has no weights {tag!r} for {base!r}"
    else:
        close = _nearest(name, _stems(dirs), timm.list_models())
        kind = f"unknown backbone {name!r}: neither a timm model nor a weights file"
    if is_glob(name):
        return UserError(f"{kind}; `list backbones --filter {name!r}` lists names that match")
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    return UserError(f"{kind}{hint}")


_MOST = 3


def _nearest(name: str, here: Sequence[str], others: Sequence[str]) -> list[str]:
    """The names most like one that is not known, those with weights here first."""

    def likeness(other: str) -> float:
        # A name is often typed without its end: patches, size, training data.
        parts = (other, other.split(".")[0], other[: len(name)])
        return max(difflib.SequenceMatcher(None, name, part).ratio() for part in parts)

    near = [other for other in here if likeness(other) >= _LIKE]
    near = sorted(near, key=likeness, reverse=True)[:_MOST]
    others = difflib.get_close_matches(name, [o for o in others if o not in near], n=_MOST)
    marked = [f"{other} (weights are here)" for other in near]
    return [*marked, *others][:_MOST]


_LIKE = 0.7
"""Share of equal letters from which on two names are alike."""

"""What `list` shows, as plain values: what `--json` prints, and what the tables are made of."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.answer_cache import kept

if TYPE_CHECKING:
    from methods import Method

Row = dict[str, Any]

COUNTED_ON, CLASSES = "vit_base_patch16_224", 19
"""Backbone and number of classes for which trained parameters are counted."""


def methods_in_short() -> list[Row]:
    """Name and purpose of each method; of a library, whose tuners take seconds to load, one row."""

    def ask() -> list[Row]:
        from methods import METHODS

        own = [
            {"name": name, "about": _about(cls)}
            for name, cls in sorted(METHODS.loaded().items())
            if ":" not in name
        ]
        return own + [
            {"name": f"{prefix}*", "about": "Tuners of this library: `list methods`"}
            for prefix in METHODS.families()
        ]

    return kept("methods in short", "methods", ask)


def methods(counts: bool) -> list[Row]:
    """All methods with their traits and settings; to ask them takes torch and peft, for seconds.

    Args:
        counts: also count parameters of those that must be applied for that.
    """
    question = f"all about the methods, {'all' if counts else 'formulas'} counted"
    return kept(question, "methods", lambda: _all_about(counts))


def methods_on(backbone: str, folders: Sequence[Path]) -> Row:
    """What each method of this collection trains in a backbone, or why it cannot act on it."""
    import copy

    import torch

    from benchmark.models.delta import adapted
    from benchmark.models.weights import build_backbone
    from methods import METHODS, Unsupported

    with torch.random.fork_rng(devices=[]):
        whole = build_backbone(backbone, "none", folders)
    rows: list[Row] = []
    for name, cls in sorted(METHODS.loaded().items()):
        if ":" in name:
            continue
        tuned = copy.deepcopy(whole)
        row: Row = {"name": name, "trained": None, "layers": "", "share": None, "unsupported": None}
        try:
            cls().apply(tuned, CLASSES)
        except Unsupported as reason:
            row["unsupported"] = str(reason)
        else:
            row["trained"] = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
            row["layers"], row["share"] = adapted(tuned)
        rows.append(row)
    return {"backbone": backbone, "kind": whole.kind, "classes": CLASSES, "methods": rows}


def backbones(weights: Sequence[Path]) -> list[Row]:
    """Backbones whose weights are on this disk."""
    from benchmark.models.find_weights import PACKAGED

    return [
        {"name": path.stem, "file": str(path), "packaged": folder == PACKAGED}
        for folder in (*weights, PACKAGED)
        for path in sorted(folder.glob("*.safetensors"))
    ]


def timm_backbones(pattern: str) -> list[Row]:
    """Names in timm that match a glob, each with its weights in the hub."""
    import timm

    return [
        {"name": name, "weights": list(timm.list_pretrained(f"{name}.*"))}
        for name in timm.list_models(pattern)
    ]


def benchmarks() -> list[Row]:
    """All benchmarks; `folder` is below the data folder, None where there are no files."""
    from benchmark.planning.catalogue import BENCHMARKS

    kinds = [(name, BENCHMARKS.get(name)) for name in BENCHMARKS.names()]
    return [
        {
            "name": name,
            "title": kind.title,
            "domain": kind.domain,
            "classes": list(kind.classes),
            "folder": kind.folder,
            "origin": kind.origin,
            "licence": kind.licence,
        }
        for name, kind in kinds
    ]


def suites() -> list[Row]:
    """All suites, each with the training settings that `--set` changes."""
    from benchmark.planning.catalogue import SUITES

    return [SUITES.get(name).model_dump(mode="json") for name in SUITES.names()]


def _all_about(counts: bool) -> list[Row]:
    from benchmark.planning.catalogue import METHODS

    counted = _Counter(counts)
    # Those with a name of their own before those of a library.
    names = sorted(METHODS.names(), key=lambda name: (":" in name, name))
    return [
        {
            "name": name,
            "about": _about(cls),
            "supports": sorted(cls.supports),
            "keeps_structure": cls.keeps_structure,
            "mergeable": cls.mergeable,
            "identity_at_init": cls.identity_at_init,
            "trained_on_vit_b": counted(cls),
            "settings": {field.name: field.default for field in dataclasses.fields(cls)},
            "reference": cls.reference,
        }
        for name, cls in ((name, METHODS.get(name)) for name in names)
    ]


def _about(cls: "type[Method]") -> str:
    return " ".join((cls.__doc__ or "").partition("\n\n")[0].split()).rstrip(".:")


class _Counter:
    """Parameters that a method trains in a ViT-B without values; None where that is not known."""

    def __init__(self, applied: bool) -> None:
        from benchmark.models.weights import architecture

        self._build, self._applied = architecture, applied
        self._pristine = architecture(COUNTED_ON)

    def __call__(self, cls: "type[Method]") -> int | None:
        from methods import Unsupported

        method = cls()
        try:
            number = method.count(self._pristine, CLASSES)
            if number is None and self._applied:
                backbone = self._build(COUNTED_ON)
                with next(backbone.model.parameters()).device:
                    method.apply(backbone, CLASSES)
                number = sum(p.numel() for p in backbone.parameters() if p.requires_grad)
        except (Unsupported, ValueError, NotImplementedError, RuntimeError):
            # Some tuners compute with values, which this backbone does not have.
            return None
        return number

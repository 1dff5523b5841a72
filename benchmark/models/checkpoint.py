"""Puts a file of weights into a timm model, whoever wrote the file, or says why it does not fit."""

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from benchmark.core.errors import UserError

_UNUSED = ".num_batches_tracked"
"""Of a BatchNorm with a momentum, as all of timm's have; converters leave it out."""


def load_checkpoint(model: nn.Module, path: Path) -> str:
    """Loads a file strictly, in fp32; only the classifier, which is not built, may be left over.

    What training code puts in front of all names (`module.`, `backbone.`, `model.`, `encoder.`) is
    taken off, and what has another shape goes through timm's own filter, which resizes embeddings
    of positions.

    Returns:
        What was done to the tensors, on one line; empty where they went in as they are.

    Raises:
        UserError: the file is damaged or does not fit.

    """
    state = _read(path)
    own = model.state_dict()
    done: list[str] = []
    prefix = _prefix(state, own)
    if prefix:
        others = sum(not key.startswith(prefix) for key in state)
        state = {key.removeprefix(prefix): t for key, t in state.items() if key.startswith(prefix)}
        left = f", {others} other tensor{'s' * (others > 1)} left out" if others else ""
        done.append(f"names without {prefix!r}{left}")
    if any(key not in state or state[key].shape != own[key].shape for key in own):
        filtered = _by_timm(state, model)
        resized = [
            f"{key} from {tuple(state[key].shape)} to {tuple(filtered[key].shape)}"
            for key in own
            if key in state and key in filtered and state[key].shape != filtered[key].shape
        ]
        renamed = sum(key not in state for key in filtered)
        state = filtered
        if resized:
            more = f" and {len(resized) - 1} more" if len(resized) > 1 else ""
            done.append(f"timm resized {resized[0]}{more}")
        if renamed:
            done.append(f"timm renamed {renamed} tensors")
    _require_fit(model, own, state, path)
    model.load_state_dict({key: state.get(key, tensor) for key, tensor in own.items()})
    if done:
        warnings.warn(f"weights file {path.name}: {'; '.join(done)}", stacklevel=2)
    return "; ".join(done)


def _read(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
                tensor = file.get_tensor(key)
                state[key] = tensor.float() if tensor.is_floating_point() else tensor
    except (SafetensorError, OSError) as error:
        line = " ".join(str(error).split())[:200]
        raise UserError(f"weights file {path} cannot be read: {line}") from error
    return state


def _prefix(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """What stands in front of all names of the model in a file; empty where nothing does."""
    needed = [key for key in own if not key.endswith(_UNUSED)]
    if not needed or any(key in state for key in needed):
        return ""
    first = needed[0]
    found = {key.removesuffix(first) for key in state if key.endswith(f".{first}")}
    fitting = [p for p in found if sum(f"{p}{key}" in state for key in needed) > len(needed) / 2]
    return min(fitting, key=len, default="")


def _by_timm(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """What timm's own loader makes of the tensors for this class; they themselves if nothing."""
    adapt = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if adapt is None:
        return state
    try:
        return dict(adapt(dict(state), model))
    except Exception:
        # It was written for files of certain origins; what is wrong with this one is said below.
        return state


def _require_fit(
    model: nn.Module, own: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path
) -> None:
    classifier = (getattr(model, "pretrained_cfg", None) or {}).get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    missing = [key for key in own if key not in state and not key.endswith(_UNUSED)]
    unexpected = [
        key for key in state if key not in own and not any(key.startswith(f"{h}.") for h in heads)
    ]
    misfits = [key for key in state if key in own and own[key].shape != state[key].shape]
    for what, keys in (
        ("misses", missing),
        ("has unknown", unexpected),
        ("has other shapes in", misfits),
    ):
        if keys:
            more = f" and {len(keys) - 1} more tensors" if len(keys) > 1 else ""
            raise UserError(
                f"weights file {path} does not fit {type(model).__name__}: {what} {keys[0]}{more}"
            )
    broken = [key for key in own if key in state and not torch.isfinite(state[key]).all()]
    if broken:
        more = f" and {len(broken) - 1} more tensors" if len(broken) > 1 else ""
        raise UserError(
            f"weights file {path} holds values that are not finite, in {broken[0]}{more}; it comes "
            "from a training that diverged or was damaged since"
        )

"""Which trained tensors weight decay leaves out."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from benchmark.models.segmenter import Segmenter
from methods.base import Method

Groups = list[dict[str, Any]]
"""Groups of an optimiser, as torch takes them."""


def only_weights(groups: Sequence[dict[str, Any]], segmenter: Segmenter, method: Method) -> Groups:
    """Groups in which matrices and kernels decay, and nothing else.

    Decay pulls towards 0. For a weight that is a prior; for the scale of a norm, a prompt or a
    token, 0 means nothing. Over many steps at a high rate little would be left of these.

    Args:
        groups: each with `params` and its rate.
        segmenter: that holds them.
        method: names its prompts, tokens and scales of several dimensions; timm names those of the
            backbone (positions, class tokens).

    Returns:
        The same groups in their order, each in up to two parts, what does not decay last.
    """
    declared = method.without_weight_decay()
    model = cast(Any, segmenter.backbone.model)
    exempt = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
    theirs = {f"backbone.model.{name}" for name in exempt}
    spared = {
        id(parameter)
        for name, parameter in segmenter.named_parameters()
        if parameter.ndim <= 1 or name in theirs or any(part in name for part in declared)
    }

    def parts(group: dict[str, Any]) -> Iterator[dict[str, Any]]:
        params = list(group["params"])
        yield group | {"params": [p for p in params if id(p) not in spared]}
        yield group | {"params": [p for p in params if id(p) in spared], "weight_decay": 0.0}

    return [part for group in groups for part in parts(group) if part["params"]]

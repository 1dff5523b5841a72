"""Many tests at once: how a family of p values is corrected for its size."""

from collections.abc import Sequence

import numpy as np

ALPHA = 0.05
"""A difference is called significant where its corrected p is below this."""


def holm(p: Sequence[float]) -> list[float]:
    """P values after Holm's step-down correction, in their order.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 1979.
    """
    values = np.asarray(p, dtype=float)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(1, np.maximum.accumulate(steps))
    return corrected.tolist()

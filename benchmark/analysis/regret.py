"""How good a method is after so many trials: what its tuning is worth."""

from math import comb

import numpy as np
import pandas as pd

GROUP = ["backbone", "method"]


def regret(scores: pd.DataFrame) -> pd.DataFrame:
    """The best score of the first trials, in expectation over all orders of the trials.

    Of k scores, the best of n drawn without replacement is the i-th smallest with probability
    C(i - 1, n - 1) / C(k, n) (Dodge et al., Show Your Work, EMNLP 2019, with replacement there).
    This is exact: nothing is drawn.

    Args:
        scores: one row a trial: backbone, method, trial, score; all of a method on one backbone on
            the same benchmarks.

    Returns:
        One row per backbone, method and number of trials 1, 2, 4, ..., k: `trials`, `score`, `low`
        and `high` (10 % and 90 % of the orders are below), and `regret`, what is missing to the
        best of all k.
    """
    rows = []
    for (backbone, method), own in scores.groupby(GROUP, sort=True):
        ordered = np.sort(own["score"].to_numpy(float))
        count = len(ordered)
        for drawn in numbers(count):
            below = np.array([comb(place, drawn) for place in range(count + 1)]) / comb(
                count, drawn
            )
            score = float(np.diff(below) @ ordered)
            low, high = (
                float(ordered[np.searchsorted(below[1:], share - 1e-12)]) for share in (0.1, 0.9)
            )
            rows.append(
                {
                    "backbone": backbone,
                    "method": method,
                    "trials": drawn,
                    "score": score,
                    "low": low,
                    "high": high,
                    "regret": float(ordered[-1]) - score,
                }
            )
    return pd.DataFrame(rows, columns=[*GROUP, "trials", "score", "low", "high", "regret"]).astype(
        {"trials": int}
    )


def numbers(count: int) -> list[int]:
    """1, 2, 4, ... and the number of all trials."""
    powers = [2**power for power in range(count.bit_length()) if 2**power < count]
    return [*powers, count]

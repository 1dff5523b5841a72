"""The leaderboard as it is shown: means and costs, with the ranks and intervals of statistics."""

import pandas as pd

from benchmark.analysis.leaderboard import GROUP, MIOU, leaderboard
from benchmark.analysis.uncertainty import Assessment


def ranked(runs: pd.DataFrame, assessment: Assessment) -> pd.DataFrame:
    """The leaderboard, in which methods share a rank where the data cannot tell them apart.

    Args:
        runs: one row a record.
        assessment: of these runs, or of more.

    Returns:
        As `statistics.leaderboard`, best mean first, with the `rank` of the assessment, the ends
        `low` and `high` of its 95 % interval (fractions) and what that `covers`.
    """
    keys = [*GROUP, "method"]
    found = assessment.board[[*keys, "rank", "low", "high", "covers"]]
    table = leaderboard(runs).drop(columns=["rank", "ci95"]).merge(found, on=keys, how="left")
    ordered = [name for name in table.columns if name not in (*keys, "rank", "low", "high", MIOU)]
    table = table[[*GROUP, "rank", "method", MIOU, "low", "high", *ordered]]
    order = [*GROUP, MIOU, "method"]
    return table.sort_values(order, ascending=[True] * 3 + [False, True]).reset_index(drop=True)


def interval_text(low: float, high: float) -> str:
    """An interval in points, such as "43.1–45.2"; empty where there is none."""
    return "" if pd.isna(low) or pd.isna(high) else f"{100 * low:.1f}–{100 * high:.1f}"

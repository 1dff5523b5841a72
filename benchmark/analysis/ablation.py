"""One method under several settings, side by side: what each field is worth."""

from typing import Any

import pandas as pd

from benchmark.analysis.costs import INSERTED
from benchmark.analysis.leaderboard import GROUP, MIOU, cells, current
from benchmark.analysis.uncertainty.family import ALPHA, holm


def base_name(label: str) -> str:
    """The method of a label `name[field=value,...]`."""
    return label.partition("[")[0]


def families(runs: pd.DataFrame) -> list[str]:
    """Names of the methods that one group holds with several settings."""
    labels = runs[[*GROUP, "method"]].drop_duplicates()
    sizes = labels.groupby([*GROUP, labels["method"].map(base_name).rename("name")]).size()
    names = sizes[sizes > 1].index.get_level_values("name")
    return sorted(set(names))


def ablation(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    """The settings of one method, over the benchmarks that all of them finished.

    Args:
        runs: one row a record.
        name: one of `families`.

    Returns:
        The group's columns, `method`, one column a field in which the settings differ, inserted
        parameters, one column a benchmark and `average`; the best average comes first within a
        group. Groups without two settings, or without a common benchmark, are left out.
    """
    own = runs[runs["method"].map(base_name) == name]
    fields = _differing(own)
    table = cells(current(own))
    table = table[table["status"] == "done"]
    settings = own.drop_duplicates("method").set_index("method")
    rows: list[dict[str, Any]] = []
    for key, part in table.groupby(GROUP):
        wide = part.pivot(index="method", columns="benchmark", values=MIOU).dropna(axis=1)
        if len(wide) < 2 or wide.empty:
            continue
        common = part[part["benchmark"].isin(wide.columns)]
        inserted = common.groupby("method")[INSERTED].mean()
        for method in wide.index:
            row: dict[str, Any] = dict(zip(GROUP, map(str, key), strict=True))
            row |= {"method": method}
            row |= {field: _whole(settings[f"method_params.{field}"][method]) for field in fields}
            row |= {INSERTED: inserted[method]}
            row |= wide.loc[method].to_dict() | {"average": wide.loc[method].mean()}
            rows.append(row)
    benchmarks = [c for c in sorted(table["benchmark"].unique()) if any(c in row for row in rows)]
    columns = [*GROUP, "method", *fields, INSERTED, *benchmarks, "average"]
    frame = pd.DataFrame(rows, columns=columns)
    order = [*GROUP, "average", "method"]
    return frame.sort_values(order, ascending=[True] * 3 + [False, True]).reset_index(drop=True)


def differences(pairs: pd.DataFrame, name: str) -> pd.DataFrame:
    """What each setting of a method scores more than its defaults, on each benchmark.

    Args:
        pairs: of an assessment: all pairs of methods.
        name: one of `families`; its defaults are the setting of this name.

    Returns:
        The group's columns, `benchmark`, `method`, `difference` (setting less defaults, mIoU) with
        the ends `low` and `high` of its 95 % interval, `p`, `p_holm` over the settings of this
        method on the benchmark (there are fewer of them than pairs of methods), and `significant`.
        Empty where the defaults were not run.
    """
    a, b = (pairs[side].map(base_name) == name for side in ("method_a", "method_b"))
    first, second = pairs["method_a"] == name, pairs["method_b"] == name
    own = pairs[a & b & (first | second)].copy()
    # A pair has the better one first.
    turned = own["method_a"] == name
    own["method"] = own["method_b"].where(turned, own["method_a"])
    numbers = own[["difference", "low", "high"]]
    flipped = -numbers.rename(columns={"low": "high", "high": "low"})
    own[numbers.columns] = numbers.where(~turned, flipped[numbers.columns])
    family = own.groupby([*GROUP, "benchmark"])["p"]
    own["p_holm"] = family.transform(lambda p: _corrected(p)) if len(own) else own["p"]
    own["significant"] = own["p_holm"] < ALPHA
    columns = [*GROUP, "benchmark", "method", *numbers.columns, "p", "p_holm", "significant"]
    return own[columns].sort_values([*GROUP, "benchmark", "method"]).reset_index(drop=True)


def _corrected(p: pd.Series) -> pd.Series:
    """Holm's correction over those that there are; one seed gives none."""
    known = p.dropna()
    return pd.Series(holm(known.tolist()), index=known.index, dtype=float).reindex(p.index)


def _whole(value: Any) -> Any:
    """64 for 64.0: other methods have no such field, which made a column of integers floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _differing(runs: pd.DataFrame) -> list[str]:
    """Fields of which the runs hold several values; one that a run lacks does not count."""
    prefix = "method_params."
    columns = [c for c in runs.columns if c.startswith(prefix)]
    return [c.removeprefix(prefix) for c in columns if runs[c].dropna().nunique() > 1]

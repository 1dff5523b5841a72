"""What a method costs, component by component, and what many tasks cost on disk."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from benchmark.analysis.costs import BACKBONE, DECODER, STORED, component_costs
from benchmark.analysis.leaderboard import GROUP

WHOLE = "separate copies of the whole model"
"""Row of `storage` for a backbone and a decoder per task, with nothing shared."""

TASKS = (1, 5, 19, 100)
"""Numbers of tasks of the table; 19 is the size of VTAB-1k (Zhai et al. 2019)."""

_BYTES = 4  # of a parameter of the shared backbone, kept in fp32


def cost_table(current: pd.DataFrame) -> pd.DataFrame:
    """One row a method: every cost, each apart, as mean over benchmarks of the mean over seeds.

    Args:
        current: what `leaderboard.current` returned.

    Returns:
        GROUP, `method`, `complete` ("4/5" benchmarks), `seeds` (that finished), and for each of
        `component_costs` the mean, `<column>.min` and `<column>.max` (smallest and largest run, of
        times the smallest and largest round; NaN where all cost the same). A cost has no value
        unless every benchmark of the group has it from every seed: a mean over other benchmarks
        could not be compared.
    """
    everywhere = current.groupby(GROUP)["benchmark"].nunique()
    rows: list[dict[str, Any]] = []
    for names, part in current.groupby([*GROUP, "method"], sort=True):
        key = tuple(map(str, names))
        total = int(everywhere[key[:-1]])
        whole = (part["status"] == "done").groupby(part["benchmark"]).all()
        done = part[part["benchmark"].map(whole)]
        row: dict[str, Any] = dict(zip([*GROUP, "method"], key, strict=True))
        row |= {"complete": f"{int(whole.sum())}/{total}", "seeds": done["seed"].nunique()}
        if whole.sum() == total:
            row |= _sums(done)
        rows.append(row)
    ends = [f"{cost.column}{end}" for cost in component_costs() for end in ("", ".min", ".max")]
    table = pd.DataFrame(rows, columns=[*GROUP, "method", "complete", "seeds", *ends])
    return table.astype(dict.fromkeys(ends, float))


def storage(costs: pd.DataFrame, tasks: Sequence[int] = TASKS) -> pd.DataFrame:
    """Bytes on disk for T tasks: the shared backbone once, and T times what one task adds.

    The backbone counts 4 bytes a parameter (fp32; its few buffers are left out), and a task the
    mean size of `delta.safetensors` over the benchmarks, decoder included.

    Args:
        costs: what `cost_table` returned.
        tasks: numbers of tasks.

    Returns:
        GROUP, `method`, `tasks`, `bytes`, `backbone_bytes`, `task_bytes`; methods that finished
        every benchmark of their group, smallest task first, then `WHOLE`: T backbones in fp32,
        each with the mean decoder, and nothing shared.

    Raises:
        ValueError: a number of tasks is not positive.
    """
    if min(tasks, default=1) < 1:
        raise ValueError(f"numbers of tasks must be at least 1, not {min(tasks)}")
    known = costs.dropna(subset=[STORED, BACKBONE])
    rows: list[dict[str, Any]] = []
    for names, part in known.groupby(GROUP, sort=True):
        key = dict(zip(GROUP, map(str, names), strict=True))
        shared = _BYTES * part[BACKBONE].max()
        sizes = {row["method"]: row[STORED] for row in part.to_dict("records")}
        for method, size in sorted(sizes.items(), key=lambda item: (item[1], item[0])):
            own = key | {"method": method, "backbone_bytes": shared, "task_bytes": size}
            rows += [own | {"tasks": count, "bytes": shared + count * size} for count in tasks]
        copy = shared + _BYTES * part[DECODER].mean()
        own = key | {"method": WHOLE, "backbone_bytes": 0.0, "task_bytes": copy}
        rows += [own | {"tasks": count, "bytes": count * copy} for count in tasks]
    columns = [*GROUP, "method", "tasks", "bytes", "backbone_bytes", "task_bytes"]
    return pd.DataFrame(rows, columns=columns)


def _sums(done: pd.DataFrame) -> dict[str, float]:
    """Mean, and ends where they differ, of the costs that all of these runs have."""
    costs = done[[cost.column for cost in component_costs()]]
    costs = costs.loc[:, costs.notna().all()]
    means = costs.groupby(done["benchmark"]).mean().mean()
    low, high = costs.min(), costs.max()
    for name in (cost.column for cost in component_costs() if cost.reference):
        if name not in costs:
            continue
        # Measured once for all runs of a method, in several rounds.
        low[name], high[name] = (float(done[f"{name}.{end}"].min()) for end in ("low", "high"))
    varies = [name for name in costs.columns if low[name] < high[name]]
    return {
        **{name: float(means[name]) for name in costs.columns},
        **{f"{name}.min": float(low[name]) for name in varies},
        **{f"{name}.max": float(high[name]) for name in varies},
    }

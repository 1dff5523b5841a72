"""How many seeds would tell methods apart, as `plan --detect` prints it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.core.format import counted

if TYPE_CHECKING:
    from rich.console import Console

    from benchmark.analysis.runs import Runs
    from benchmark.cli.request import Request
    from benchmark.core.spec import RunSpec

MOST_METHODS = 6
"""That are named in a sentence."""


def print_power(
    console: "Console", request: "Request", cells: "Sequence[RunSpec]", points: float
) -> None:
    """Prints how many seeds, or images, would find a difference of so many points.

    Args:
        console: where.
        request: of the runs.
        cells: the planned runs.
        points: of mIoU, between two methods.
    """
    from rich.table import Table

    from benchmark.analysis.uncertainty import power
    from benchmark.reporting.commands import MORE_SEEDS, more_seeds

    seeds = len({cell.seed for cell in cells})
    what = f"{points:g} {'point' if points == 1 else 'points'}"
    for backbone in dict.fromkeys(cell.backbone for cell in cells):
        own = [cell for cell in cells if cell.backbone == backbone]
        runs, source = _runs_like(request, own)
        found = power.spreads(runs) if runs is not None else {}
        console.print()
        if not found:
            console.print(
                f"{backbone}: no runs from which to tell how much seeds differ; run two methods "
                "with two seeds first",
                markup=False,
                soft_wrap=True,
            )
            continue
        assert runs is not None
        done = runs.cells[runs.cells["status"] == "done"]
        methods = sorted(map(str, done["method"].unique()))
        ran = int(done.loc[done["seeds"] > 1, "seeds"].min())
        few = ran <= power.FEW_SEEDS
        table = Table("benchmark", "images", f"seeds for {what}", box=None)
        if seeds > 1:
            table.add_column(f"or, with {seeds} seeds, images")
        rows = [(name, [spread]) for name, spread in found.items()]
        if len(rows) > 1:
            rows.append((f"average of {len(rows)}", list(found.values())))
        for name, spreads in rows:
            needed = power.seeds_needed(spreads, points / 100) or math.inf
            images = sum(one.images for one in spreads)
            known = power.is_known(ran, needed)
            many = f"over {power.MOST_SEEDS}" if math.isinf(needed) else str(needed)
            texts = [name, str(images or "?"), many if known else "not known"]
            times = power.images_needed(spreads, points / 100, seeds) if known else None
            more = "needs more seeds" if known else "not known"
            texts.append(more if times is None else str(round(images * times)))
            table.add_row(*texts[: len(table.columns)])
        console.print(table)
        absent = sorted({cell.benchmark for cell in own} - found.keys())
        console.print(
            f"{backbone}: {what} between a typical pair of {_named(methods)}, tested at 5 % and "
            f"found in {100 * power.POWER:.0f} % of the cases; several pairs need more. "
            f"From {source}." + (f" Nothing is known of {', '.join(absent)}." if absent else ""),
            markup=False,
            soft_wrap=True,
        )
        if few:
            add = more_seeds(runs) if runs.root == request.results else ""
            rough = "give a rough estimate only"
            too_few = "are too few for an estimate"
            console.print(
                f"{counted(ran, 'seed')} {rough if ran >= power.FEWEST_SEEDS else too_few}"
                + (f"; to add {MORE_SEEDS}: {add}" if add else ""),
                markup=False,
                soft_wrap=True,
            )


def _named(methods: "Sequence[str]") -> str:
    if len(methods) > MOST_METHODS:
        return f"{len(methods)} methods"
    return f"{', '.join(methods[:-1])} and {methods[-1]}"


def _runs_like(request: "Request", cells: "Sequence[RunSpec]") -> "tuple[Runs | None, str]":
    """Runs whose seeds show the spread, and what they are: one's own, else published ones."""
    from benchmark.analysis.runs import Runs
    from benchmark.core.record import PUBLISHED
    from benchmark.results.load import load_results

    first, methods = cells[0], {cell.method_label for cell in cells}
    published = Path(__file__).parents[2] / "results" / PUBLISHED
    for root in (request.results, published):
        frame = load_results(root, first.suite) if root.is_dir() else None
        if frame is None or frame.empty:
            continue
        mine = root is not published
        frame = frame[
            (frame["backbone"] == first.backbone)
            & (frame["weights"] == first.weights)
            & frame["benchmark"].isin({cell.benchmark for cell in cells})
        ]
        if mine:
            frame = frame[frame["protocol_hash"] == first.protocol.hash]
        chosen = frame[frame["method"].isin(methods)]
        for part in (chosen,) if mine else (chosen, frame):
            seeds = part.groupby(["protocol_hash", "benchmark", "method"])["seed"].nunique()
            several = seeds[seeds > 1].reset_index().groupby("protocol_hash")["method"]
            enough = several.nunique()
            if len(enough) and enough.max() > 1:
                protocol = several.size()[enough > 1].idxmax()
                part = part[part["protocol_hash"] == protocol]
                whose = "runs in" if mine else "PUBLISHED runs of"
                where = str(root) if mine else first.suite
                other = "" if protocol == first.protocol.hash else ", whose protocol differs"
                return Runs(part, root), f"{len(part)} {whose} {where}{other}"
    return None, ""

"""The report as one JSON object, for `report --json`; reports/README.md explains its fields."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from benchmark.analysis.costs import cost_columns
from benchmark.analysis.groups import protocol_settings
from benchmark.analysis.leaderboard import MIOU
from benchmark.reporting.inputs import ReportInputs, of_group
from benchmark.reporting.provenance import data_notes, protocols
from benchmark.reporting.seed_notes import about_seeds
from benchmark.reporting.table_catalogue import FAILURES
from benchmark.reporting.tables import ranked
from benchmark.reporting.timing_notes import explained

SCHEMA_VERSION = 1


def summary(inputs: ReportInputs, suite: str) -> dict[str, Any]:
    """Leaderboards, answers and failures.

    Args:
        inputs: of the report.
        suite: of the runs.

    Returns:
        JSON values alone; None where a number is missing.
    """
    from benchmark.reporting.answers import answers

    runs, found = inputs.runs, inputs.assessment
    notes = [*protocols(runs.frame).guard, *data_notes(runs.frame), *inputs.notes]
    said = answers(runs, found)
    settings = protocol_settings(runs.frame)
    groups = []
    for key, own in runs.groups.items():
        board = ranked(own, found.board)
        scores = of_group(found.cells, key)
        status = own.cells[["benchmark", "method", "status"]]
        scores = status.merge(scores, on=["benchmark", "method"], how="left")
        findings = said[key].findings
        groups.append(
            {
                "name": runs.names[key].label,
                "backbone": key[0],
                "weights": key[1],
                "protocol_hash": key[2],
                "protocol": settings[key[2]],
                "answers": [
                    {
                        "question": one.label,
                        "methods": list(one.methods),
                        "more": one.more,
                        "text": one.text,
                    }
                    for one in findings
                ],
                "caveats": list(said[key].caveats),
                "seeds": about_seeds(own.cells),
                "timing": explained(own),
                "leaderboard": [
                    row | {"costs": costs}
                    for row, costs in zip(
                        _rows(board, _BOARD),
                        _rows(board, [name for name in cost_columns() if name in board]),
                        strict=True,
                    )
                ],
                "benchmarks": _rows(scores, _SCORES),
            }
        )
    failures = _rows(runs.failures, [column.name for column in FAILURES])
    head = {"schema": SCHEMA_VERSION, "suite": suite, "title": inputs.title}
    head["runs"] = dict(runs.progress._asdict())
    return head | {"groups": groups, "failures": failures, "notes": notes}


_SHORT = {MIOU: "miou"}
_BOARD = ["rank", "rank_to", "method", MIOU, "low", "high", "covers", "complete", "seeds"]
_SCORES = ["benchmark", "method", "status", MIOU, "low", "high", "covers", "rank"]
_SCORES += ["rank_to", "seeds"]


def _rows(table: pd.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows as dicts of plain values; what is missing is None."""
    shown = table[list(columns)].rename(columns=_SHORT).astype(object)
    rows = shown.where(shown.notna(), None).to_dict("records")
    return [{str(name): _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value

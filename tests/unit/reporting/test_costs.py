"""A cost is declared in one place, from which every table, figure and page takes it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.analysis.costs import COSTS, TRAINED, compared_costs, component_costs, with_numbers
from tests.helpers.records import frame, grid, timed

pytestmark = pytest.mark.no_torch

ROOT = Path(__file__).resolve().parents[3]
ADDED = """
import json
from pathlib import Path

import benchmark.analysis.costs as costs

ENERGY = "costs.train.energy_joules"
costs.COSTS += (
    costs.Cost(ENERGY, "Energy of training (J)", "Energy", "count", compared=True, main=True,
               figure="energy", against="training energy"),
)

from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty import assess
from benchmark.reporting.figures.catalogue import pictures
from benchmark.reporting.html.page import render
from benchmark.reporting.inputs import ReportInputs
from benchmark.reporting.table_catalogue import report_tables
from benchmark.reporting.tables import to_markdown
from tests.helpers.pages import unpacked
from tests.helpers.records import frame, grid

runs = frame(grid(["full", "linear"], 1, ["camvid", "pets"])).assign(folder="")
runs[ENERGY] = runs["method"].map({"full": 9000.0, "linear": 4000.0})
table = Runs(runs, Path())
inputs = ReportInputs("t", table, assess(table, replicates=10))
tables = {table.stem: table for table in report_tables(inputs)}
board = tables["leaderboard"]
page = unpacked(render("t", table, inputs.assessment))
payload = json.loads(page.split('id="payload">')[1].split("</script>")[0])
(key,) = inputs.runs.groups
picture = next(p for p in pictures(inputs, key) if p.stem == "pareto_energy")
print(json.dumps({
    "board": dict(zip(board.frame["method"], board.frame[ENERGY])),
    "text": to_markdown(board.frame, board.columns).splitlines(),
    "ledger": dict(zip(table.cost_table["method"], table.cost_table[ENERGY])),
    "headings": [column.header for column in tables["cost_ledger"].columns],
    "front": sorted(set(tables["fronts"].frame.query("cost == @ENERGY")["method"])),
    "title": picture.title,
    "words": [text.get_text() for text in picture.draw().texts],
    "page": [cost for cost in payload["costs"] if cost["column"] == ENERGY],
    "points": payload["points"][ENERGY],
    "runs": payload["runs"][ENERGY],
}))
"""


@pytest.mark.slow
def test_an_added_cost_is_everywhere():
    command = [sys.executable, "-c", ADDED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    known = {"full": 9000.0, "linear": 4000.0}
    assert found["board"] == found["ledger"] == known
    assert "Energy" in found["text"][0] and "**4.0 k**" in "".join(found["text"][2:])
    assert "train energy joules" in found["headings"]
    assert found["front"] == ["full", "linear"]
    assert found["title"] == "mIoU against training energy"
    assert "Energy of training (J)" in found["words"]
    assert found["page"] == [
        {
            "column": "costs.train.energy_joules",
            "label": "Energy of training (J)",
            "short": "Energy",
            "kind": "count",
            "main": True,
        }
    ]
    assert set(found["points"]) == set(found["runs"]) == set(known.values())


def test_every_cost_is_in_the_records_or_was_measured_side_by_side():
    runs = timed(grid(["full", "linear"], 1, ["camvid"]))
    records = set(runs.columns)
    merged = {"costs.infer_merged.flops"}  # only methods that fold into the backbone have it
    for cost in COSTS:
        known = set(cost.parts) if cost.parts else {cost.column}
        assert known <= records | merged, cost.column


def test_columns_and_files_of_costs_are_their_own():
    assert len({cost.column for cost in COSTS}) == len(COSTS)
    figures = [cost.figure for cost in COSTS if cost.figure]
    assert len(set(figures)) == len(figures)
    assert all(bool(cost.figure) == bool(cost.against) for cost in COSTS)
    assert {cost.column for cost in component_costs()} >= set(compared_costs())


def test_a_sum_is_missing_where_a_part_is():
    runs = frame(grid(["full", "linear"], 1, ["camvid"]))
    runs.loc[runs["method"] == "full", "costs.params.inserted"] = None
    found = with_numbers(runs).set_index("method")[TRAINED]
    assert found.isna()["full"] and found["linear"] == 0

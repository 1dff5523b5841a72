"""The notebook of the first hour: its cells run in order, with no data at hand."""

import json
import subprocess
import sys

import pytest

from tests.helpers.documents import ROOT
from tests.helpers.folders import plain
from tests.helpers.forked import clean

NOTEBOOK = ROOT / "results" / "quickstart.ipynb"


def code_cells():
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_it_is_stored_without_outputs():
    content = json.loads(NOTEBOOK.read_text("utf-8"))
    assert content["nbformat"] == 4
    for cell in content["cells"]:
        assert cell.get("outputs", []) == [] and cell.get("execution_count") is None
    for cell in code_cells():
        compile(cell, str(NOTEBOOK), "exec")


@pytest.mark.slow
@pytest.mark.parametrize("own", [False, True])
def test_its_cells_run(tmp_path, own):
    settings, *rest = code_cells()
    changes = {"steps=80": "steps=2 --set crop=36 --set batch_size=2 --set precision=fp32"}
    changes |= {"linear,lora,spm": "linear,bitfit"}
    if own:
        changes |= {"FOLDER = None": f"FOLDER = {str(plain(tmp_path / 'mine'))!r}"}
    for old, new in changes.items():
        assert old in settings
        settings = settings.replace(old, new)
    (tmp_path / "cells.py").write_text("\n\n".join([settings, *rest]))
    done = subprocess.run(
        [sys.executable, "cells.py"], cwd=tmp_path, env=clean(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    work = tmp_path / "quickstart"
    assert "4 runs selected: 0 already done, 4 to train" in done.stdout
    assert (work / "reports/demo/index.html").exists()
    assert (work / ("mine.png" if own else "micrographs.png")).exists()

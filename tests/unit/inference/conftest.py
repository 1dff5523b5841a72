"""Finished runs on the benchmark of `tests.helpers.tiny`."""

import pytest

from benchmark.planning.plan import plan
from tests.fault.conftest import tiny
from tests.helpers.tiny import run, select

__all__ = ["tiny"]


@pytest.fixture(scope="module")
def results(tmp_path_factory, tiny):
    """A results folder with a run of linear and one of lora."""
    folder = tmp_path_factory.mktemp("results")
    records = run(folder, select("linear,lora", steps=2, batch_size=2))
    assert {record.status for record in records} == {"done"}
    return folder


@pytest.fixture(scope="module")
def folders(results):
    """The folder of each run, by its method."""
    cells = plan(select("linear,lora", steps=2, batch_size=2))
    return {cell.method: results / cell.folder for cell in cells}

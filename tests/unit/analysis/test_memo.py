import pandas as pd
import pytest

from benchmark.analysis.memo import once, remembering

pytestmark = pytest.mark.no_torch

CALLS = []


@once
def doubled(table, factor=2):
    CALLS.append(factor)
    return table * factor


def test_the_same_table_is_worked_on_once_inside_the_block():
    table = pd.DataFrame({"x": [1, 2]})
    CALLS.clear()
    with remembering():
        first = doubled(table)
        first.loc[0, "x"] = 99
        assert doubled(table)["x"].tolist() == [2, 4]
        assert doubled(table, factor=3)["x"].tolist() == [3, 6]
        assert doubled(table.copy())["x"].tolist() == [2, 4]
        assert CALLS == [2, 3, 2]
        with remembering():
            doubled(table)
        assert CALLS == [2, 3, 2]


def test_outside_the_block_a_table_may_change():
    table = pd.DataFrame({"x": [1, 2]})
    with remembering():
        doubled(table)
    table.loc[0, "x"] = 10
    assert doubled(table)["x"].tolist() == [20, 4]


def test_an_error_ends_the_block():
    table = pd.DataFrame({"x": [1, 2]})
    try:
        with remembering():
            doubled(table)
            raise RuntimeError
    except RuntimeError:
        CALLS.clear()
        doubled(table)
        assert CALLS == [2]

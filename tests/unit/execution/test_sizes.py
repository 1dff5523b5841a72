"""The largest setting of a method that stores no more than a limit."""

import pytest

from benchmark.execution import sizes
from benchmark.planning.plan import Selection, plan


@pytest.mark.parametrize(
    ("method", "bytes_of", "most", "expected"),
    [
        ("lora", lambda params: 100 * params["rank"], 560, ("lora[rank=5]", 500)),
        ("lora", lambda params: 100 * params["rank"], 100, ("lora[rank=1]", 100)),
        ("lora", lambda params: 100 * params["rank"], 99, None),
        ("lst", lambda params: 8000 // params["reduction"], 750, ("lst[reduction=11]", 727)),
        ("linear", lambda params: 100, 50, None),
    ],
)
def test_it_is_found_by_bisection(monkeypatch, method, bytes_of, most, expected):
    def stored_within(cell, most, environment):
        size = bytes_of(cell.method_params)
        return size if size <= most else None

    monkeypatch.setattr(sizes, "stored_within", stored_within)
    (cell,) = plan(Selection(methods=method, benchmarks="streets", seeds=[0]))
    assert sizes.smaller(cell, most, environment=None) == expected

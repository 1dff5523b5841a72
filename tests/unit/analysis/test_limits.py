"""Limits on costs: what can be typed, and what it means for each method."""

import math

import pandas as pd
import pytest

from benchmark.analysis.costs import BACKBONE, STORED, TRAINABLE
from benchmark.analysis.limits import LIMITED, parse_limit
from benchmark.core.errors import UserError
from benchmark.results.timing_columns import LATENCY, references

pytestmark = pytest.mark.no_torch

REFERENCE = references()[0]


@pytest.mark.parametrize(
    ("name", "text", "value", "relative"),
    [
        ("stored", "1MB", 1e6, ""),
        ("stored", "1.5 mb", 1.5e6, ""),
        ("stored", "1MiB", 2**20, ""),
        ("stored", "2x", 2, "x"),
        ("trainable", "300k", 3e5, ""),
        ("trainable", "5000", 5000, ""),
        ("trainable", "2%", 2, "%"),
        ("latency", "20ms", 0.02, ""),
        ("latency", ".5s", 0.5, ""),
        ("latency", "1.2x", 1.2, "x"),
        ("memory", "2GB", 2e9, ""),
    ],
)
def test_numbers_with_units(name, text, value, relative):
    limit = parse_limit(name, text)
    assert (limit.value, limit.relative) == (pytest.approx(value), relative)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            ("stored", text)
            for text in ("", "1", "MB", "1MBs", "-1MB", "0MB", "1e3MB", "2%", "1ms")
        ),
        *(("latency", text) for text in ("20", "nanms", "2%", "1.2.3x", "20 m s")),
        *(("trainable", text) for text in ("2 %%", "k", "1MB")),
    ],
)
def test_anything_else_is_refused_with_an_example(name, text):
    with pytest.raises(UserError, match=f"as in {LIMITED[name].example}"):
        parse_limit(name, text)


def test_what_is_bounded():
    costs = pd.DataFrame(
        {
            "method": [REFERENCE, "a", "b"],
            STORED: [100.0, 250.0, math.nan],
            TRAINABLE: [10.0, 40.0, 20.0],
            BACKBONE: [1000.0] * 3,
            LATENCY: [1.0, 1.3, math.nan],
        }
    )

    def measured(name, text, of=costs):
        return parse_limit(name, text).measured(of).tolist()

    assert measured("stored", "1MB")[:2] == [100, 250]
    assert measured("stored", "2x")[:2] == [1, 2.5]
    assert math.isnan(measured("stored", "2x")[2])
    assert measured("trainable", "2%") == pytest.approx([1, 4, 2])
    assert measured("latency", "2x")[:2] == [1, 1.3]
    assert all(map(math.isnan, measured("latency", "2ms")))  # nobody measured seconds
    with pytest.raises(UserError, match="write an absolute limit, as in --max-stored 1MB"):
        measured("stored", "2x", costs[1:])

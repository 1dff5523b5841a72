"""A report says how settings were chosen, and whether all methods had the same number of trials."""

import pytest

from benchmark.core.spec import Tuning
from benchmark.reporting.provenance import tuning_notes
from tests.helpers.records import frame, record

pytestmark = pytest.mark.no_torch
TUNING = Tuning(trials=8, benchmarks=("a", "b"), seeds=(0,), protocol_hash="0123456789ab")


def test_nothing_is_said_where_nothing_was_tuned():
    assert tuning_notes(frame([record("linear"), record("spm")])) == []


def test_equal_trials_are_said_once():
    runs = frame([record("linear", tuning=TUNING), record("spm", tuning=TUNING)])
    assert tuning_notes(runs) == ["Settings of linear, spm: 8 trials each, chosen on val of a, b."]


def test_unequal_trials_are_a_warning():
    runs = frame([record("linear"), record("spm", tuning=TUNING)])
    said, warned = tuning_notes(runs)
    assert said == "Settings of spm: 8 trials each, chosen on val of a, b."
    assert "Not all methods" in warned

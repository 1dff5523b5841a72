"""The shipped weights are worth something: pretrained features beat random ones, by far."""

import json

import pytest

from tests.helpers.forked import call
from tests.helpers.tiny import typed


def mious(results, *arguments):
    """mIoU in points of a method on each benchmark."""
    done = call("run", *arguments, *typed(), "--results", results)
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(path.read_text()) for path in results.rglob("record.json")]
    return {record["benchmark"]: 100 * record["metrics"]["miou"] for record in records}


@pytest.mark.slow
def test_pretrained_features_transfer_to_the_demo(tmp_path):
    linear = mious(tmp_path / "linear", "--methods", "linear")
    random = mious(tmp_path / "random", "--methods", "linear", "--weights", "none")
    assert len(linear) == len(random) == 5
    assert sum(linear.values()) / 5 >= sum(random.values()) / 5 + 10
    # Where tuning gains most; a cell of it takes as long as two of the others.
    full = mious(tmp_path / "full", "--methods", "full", "--benchmarks", "surfaces")
    assert full["surfaces"] > linear["surfaces"]

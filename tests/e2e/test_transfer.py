"""The shipped weights are worth something: pretrained features beat random ones, by far."""

import json

import pytest

from tests.forked import call
from tests.tiny import typed


def mean_miou(results, *arguments):
    done = call("run", *arguments, *typed(), "--results", results)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(path.read_text()) for path in results.rglob("record.json")]
    scores: dict[str, list[float]] = {}
    for record in found:
        scores.setdefault(record["method"], []).append(100 * record["metrics"]["miou"])
    assert all(len(values) == 5 for values in scores.values())
    return {method: sum(values) / 5 for method, values in scores.items()}


@pytest.mark.slow
def test_pretrained_features_transfer_to_the_demo(tmp_path):
    pretrained = mean_miou(tmp_path / "pretrained", "--methods", "linear,full")
    random = mean_miou(tmp_path / "random", "--methods", "linear", "--weights", "none")
    assert pretrained["linear"] >= random["linear"] + 10
    assert pretrained["full"] > pretrained["linear"]

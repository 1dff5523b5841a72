"""The shipped weights are worth something: pretrained features beat random ones, by far."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def mean_miou(results, *arguments):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BENCHMARK_")}
    subprocess.run(
        [sys.executable, "-m", "benchmark", "run", *arguments, "--results", str(results)],
        cwd=ROOT, env=clean, check=True,
    )  # fmt: skip
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

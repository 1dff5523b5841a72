"""Label efficiency and corruptions: what is compared is measured alike."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from benchmark.analysis.efficiency import (
    ALL,
    AVERAGE,
    corruption_curves,
    corruption_table,
)
from benchmark.analysis.leaderboard import MIOU
from benchmark.analysis.runs import Runs
from benchmark.core.spec import Protocol
from benchmark.results import robustness
from tests.helpers.records import frame, record

pytestmark = pytest.mark.no_torch


def run(method, benchmark, miou, seed=0, **protocol):
    own = Protocol(**protocol)
    return record(
        method, benchmark, miou=miou, seed=seed, protocol=own.model_dump(), protocol_hash=own.hash
    )


def at(table, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    return table[MIOU].item()


def test_fractions_of_one_family_stand_together():
    runs = frame([run("a", "pets", 0.2, fraction=0.1), run("a", "pets", 0.5)])
    table = Runs(runs).label_efficiency
    assert table["family"].nunique() == 1
    assert table[["fraction", MIOU]].to_numpy().tolist() == [[0.1, 0.2], [1.0, 0.5]]


def test_protocols_that_differ_in_more_never_meet():
    runs = frame([run("a", "pets", 0.2, fraction=0.1), run("a", "pets", 0.5, steps=99)])
    assert Runs(runs).label_efficiency.empty
    third = frame([run("a", "pets", 0.4, fraction=0.5, steps=99)])
    table = Runs(pd.concat([runs, third], ignore_index=True)).label_efficiency
    assert sorted(table[MIOU]) == [0.4, 0.5]


def test_records_older_than_the_field_used_all_images():
    new = run("a", "pets", 0.2, fraction=0.1)
    old = run("a", "pets", 0.5)
    old = old.model_copy(
        update={"protocol": {k: v for k, v in old.protocol.items() if k not in ("fraction",
                             "schedule")}}
    )  # fmt: skip
    table = Runs(frame([new, old])).label_efficiency
    assert table["fraction"].tolist() == [0.1, 1.0]
    assert Runs(frame([old])).label_efficiency.empty


def test_backbones_and_weights_stay_apart():
    one = run("a", "pets", 0.2, fraction=0.1)
    other = run("a", "pets", 0.5).model_copy(update={"backbone": "other"})
    assert Runs(frame([one, other])).label_efficiency.empty


def test_the_average_is_over_what_every_fraction_has():
    runs = frame([
        run("a", "pets", 0.2, fraction=0.1), run("a", "drive", 0.4, fraction=0.1),
        run("a", "pets", 0.6), run("a", "drive", 0.8), run("a", "camvid", 0.1),
    ])  # fmt: skip
    table = Runs(runs).label_efficiency
    assert at(table, benchmark=AVERAGE, fraction=0.1) == pytest.approx(0.3)
    assert at(table, benchmark=AVERAGE, fraction=1.0) == pytest.approx(0.7)  # without camvid


def test_a_method_that_misses_a_benchmark_has_no_average():
    runs = frame([
        *(run("a", b, 0.5, fraction=f) for b in ("pets", "drive") for f in (0.1, 1.0)),
        run("b", "pets", 0.9, fraction=0.1), run("b", "pets", 0.9), run("b", "drive", 0.9),
    ])  # fmt: skip
    own = Runs(runs).label_efficiency.query("method == 'b' and benchmark == @AVERAGE")
    assert own.empty  # a single fraction makes no curve


def test_seeds_give_an_interval():
    runs = frame([run("a", "pets", m, seed, fraction=f)
                  for f in (0.5, 1.0) for seed, m in enumerate((0.4, 0.5, 0.6))])  # fmt: skip
    table = Runs(runs).label_efficiency
    assert table["seeds"].tolist() == [3, 3]
    assert table["ci95"].tolist() == pytest.approx([4.302653 * 0.1 / 3**0.5] * 2)


def store(root, item, scores, clean=None, version=1):
    """Writes robustness.json of (group, corruption, severity, miou)."""
    folder = root / item.run_id
    folder.mkdir()
    found = robustness.Robustness(
        run_id=item.run_id,
        split="test",
        clean_miou=item.metrics.miou if clean is None else clean,
        corruptions_version=version,
        git_commit=None,
        git_dirty=None,
        scores=tuple(
            robustness.Score(group=g, corruption=c, severity=s, miou=m) for g, c, s, m in scores
        ),
    )
    robustness.write(folder, found, {})


def corrupted(root, cases):
    """Scores of {record: (group, corruption, severity, miou)...}."""
    for item, scores, *version in cases:
        store(root, item, scores, version=version[0] if version else 1)
    runs = frame([case[0] for case in cases])
    return Runs(runs.assign(folder=runs["run_id"]), root).corruption_scores


FOG1, FOG3, SNOW3 = ("weather", "fog", 1), ("weather", "fog", 3), ("weather", "snow", 3)
BLUR1 = ("blur", "defocus", 1)


def test_a_table_by_hand(tmp_path):
    scores = corrupted(
        tmp_path,
        [
            (record("a", "pets", miou=0.8), [(*FOG1, 0.6), (*FOG3, 0.4)]),
            (record("a", "drive", miou=0.6), [(*FOG1, 0.4), (*FOG3, 0.2)]),
            (record("b", "pets", miou=0.5), [(*FOG1, 0.5), (*FOG3, 0.5)]),
            (record("b", "drive", miou=0.5), [(*FOG1, 0.5), (*FOG3, 0.4)]),
        ],
    )
    table = corruption_table(scores).set_index("method")
    assert table.index.tolist() == ["b", "a"]
    assert table.loc["a", ["clean", "mean"]].tolist() == pytest.approx([0.7, 0.4])
    assert table.loc["a", "relative_drop"] == pytest.approx(3 / 7)
    assert table.loc["b", "relative_drop"] == pytest.approx(0.05)
    assert table.loc["a", ["benchmarks", "pairs"]].tolist() == [2, 2]


def test_only_pairs_that_all_runs_have_are_compared(tmp_path):
    scores = corrupted(
        tmp_path,
        [
            (record("a", miou=0.8), [(*FOG1, 0.6), (*BLUR1, 0.1)]),
            (record("b", miou=0.8), [(*FOG1, 0.5), (*SNOW3, 0.1)]),
        ],
    )
    assert set(scores["corruption"]) == {"clean", "fog"}
    assert corruption_table(scores).set_index("method")["mean"].to_dict() == {"a": 0.6, "b": 0.5}


def test_only_benchmarks_that_all_methods_have_are_compared(tmp_path):
    scores = corrupted(
        tmp_path,
        [
            (record("a", "pets", miou=0.8), [(*FOG1, 0.6)]),
            (record("a", "drive", miou=0.8), [(*FOG1, 0.1)]),
            (record("b", "pets", miou=0.8), [(*FOG1, 0.6)]),
        ],
    )
    assert set(scores["benchmark"]) == {"pets"}


def test_versions_of_corruptions_are_never_mixed(tmp_path):
    scores = corrupted(
        tmp_path,
        [
            (record("a", miou=0.8), [(*FOG1, 0.6)], 1),
            (record("b", miou=0.8), [(*FOG1, 0.5)], 2),
        ],
    )
    table = corruption_table(scores)
    assert table[["corruptions_version", "method"]].to_numpy().tolist() == [[1, "a"], [2, "b"]]


def test_nothing_in_common_leaves_nothing(tmp_path):
    scores = corrupted(
        tmp_path,
        [
            (record("a", miou=0.8), [(*FOG1, 0.6)]),
            (record("b", miou=0.8), [(*BLUR1, 0.5)]),
        ],
    )
    assert scores.empty and corruption_table(scores).empty and corruption_curves(scores).empty
    assert Runs(frame([record("a")]), tmp_path).corruption_scores.empty


def test_curves_start_clean_and_keep_their_corruptions(tmp_path):
    pairs = [(*FOG1, 0.6), (*FOG3, 0.4), (*SNOW3, 0.0), (*BLUR1, 0.7)]
    curves = corruption_curves(corrupted(tmp_path, [(record("a", miou=0.8), pairs)]))
    lines = {
        group: dict(zip(part["severity"], part["miou"], strict=True))
        for group, part in curves.groupby("group")
    }
    assert lines["weather"] == {0: 0.8, 1: 0.6, 3: 0.4}  # snow has no severity 1
    assert lines["blur"] == {0: 0.8, 1: 0.7}
    assert lines[ALL] == {0: 0.8, 1: 0.6, 3: 0.4}


def test_seeds_are_averaged(tmp_path):
    scores = corrupted(
        tmp_path,
        [
            (record("a", miou=0.8, seed=0), [(*FOG1, 0.6)]),
            (record("a", miou=0.6, seed=1), [(*FOG1, 0.2)]),
        ],
    )
    row = corruption_table(scores).iloc[0]
    assert (row["clean"], row["mean"]) == (pytest.approx(0.7), pytest.approx(0.4))


def test_tables_need_neither_torch_nor_matplotlib():
    code = (
        "import sys, benchmark.analysis.efficiency, benchmark.analysis.cost_tables\n"
        "import benchmark.analysis.curves\nimport benchmark.reporting.reference\n"
        "sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0

"""Settings of one method side by side, and the ranking over what all methods finished."""

import math

import pandas as pd
import pytest

from benchmark.analysis.ablation import ablation, base_name, differences, families
from benchmark.analysis.leaderboard import GROUP, shared_benchmarks
from benchmark.analysis.runs import Runs
from benchmark.reporting.report import write_report
from tests.helpers.records import frame, record

pytestmark = pytest.mark.no_torch


def settings(label: str, miou: float, benchmark: str, inserted: int = 100, **params: object):
    return record(label, benchmark, miou=miou, inserted=inserted, method_params=params)


RUNS = [
    settings("m", 0.5, "camvid", width=64, depth=2, lr=0.1),
    settings("m", 0.7, "wbc", width=64, depth=2, lr=0.1),
    settings("m", 0.9, "mtd", width=64, depth=2, lr=0.1),
    settings("m[depth=1]", 0.6, "camvid", 80, width=64, depth=1, lr=0.1),
    settings("m[depth=1]", 0.8, "wbc", 80, width=64, depth=1, lr=0.1),
    settings("other", 0.1, "camvid", rank=3),
    settings("other", 0.1, "wbc", rank=3),
]


def test_base_name() -> None:
    assert [base_name(label) for label in ("a", "a[b=1]", "p:a[b=1,c=[2]]")] == ["a", "a", "p:a"]


def test_only_methods_with_several_settings_have_a_table() -> None:
    assert families(frame(RUNS)) == ["m"]


def test_fields_that_differ_over_the_benchmarks_that_all_settings_finished() -> None:
    table = ablation(frame(RUNS), "m")
    assert list(table.columns[3:]) == [
        "method",
        "depth",
        "costs.params.inserted",
        "camvid",
        "wbc",
        "average",
    ]
    assert table["method"].tolist() == ["m[depth=1]", "m"]
    assert table["average"].tolist() == pytest.approx([0.7, 0.6])
    assert table["costs.params.inserted"].tolist() == [80, 100]
    assert [str(depth) for depth in table["depth"]] == ["1", "2"]


def test_settings_of_different_protocols_do_not_meet() -> None:
    runs = [
        settings("m", 0.5, "camvid", depth=2),
        settings("m[depth=1]", 0.6, "camvid", depth=1).model_copy(
            update={"protocol_hash": "another"}
        ),
    ]
    assert families(frame(runs)) == []


def test_a_failed_setting_is_left_out() -> None:
    failed = record("m[depth=9]", "camvid", status="failed", reason="x", method_params={"depth": 9})
    table = ablation(frame([*RUNS, failed]), "m")
    assert "m[depth=9]" not in table["method"].tolist()
    assert len(table) == 2


def test_differences_to_the_defaults_are_corrected_for_the_settings_alone() -> None:
    group = dict(zip(GROUP, ("vit", "pretrained", "p"), strict=True))
    listed = [
        # The better one of a pair comes first; p of others do not count.
        ("camvid", "m", "m[depth=1]", 0.03, 0.01, 0.05, 0.02),
        ("camvid", "m[depth=3]", "m", 0.02, -0.01, 0.04, 0.03),
        ("camvid", "m[depth=3]", "m[depth=1]", 0.05, 0.02, 0.08, 0.001),
        ("camvid", "other", "m", 0.2, 0.1, 0.3, 0.001),
        ("wbc", "m", "m[depth=1]", 0.01, -0.01, 0.03, math.nan),
    ]
    names = ["benchmark", "method_a", "method_b", "difference", "low", "high", "p"]
    pairs = pd.DataFrame([group | dict(zip(names, row, strict=True)) for row in listed])
    table = differences(pairs, "m").drop(columns=GROUP)
    assert table.values.tolist()[:2] == [
        ["camvid", "m[depth=1]", -0.03, -0.05, -0.01, 0.02, 0.04, True],
        ["camvid", "m[depth=3]", 0.02, -0.01, 0.04, 0.03, 0.04, True],
    ]
    assert table["p_holm"].isna().tolist() == [False, False, True]
    assert not table["significant"][2]
    assert differences(pairs, "n").empty


def test_shared_benchmarks_are_those_of_every_method_with_a_result() -> None:
    assert shared_benchmarks(Runs(frame(RUNS)).cells) == ["camvid", "wbc"]


def test_the_page_ranks_everybody_over_the_shared_benchmarks(tmp_path) -> None:
    write_report(frame(RUNS), tmp_path / "report", "small", figures=False)
    page = (tmp_path / "report" / "README.md").read_text()
    assert "## Leaderboard over camvid and wbc" in page
    assert "## Settings of m" in page
    section = page.split("## Leaderboard over camvid and wbc")[1].split("\n## ")[0]
    rows = [row.split(" | ")[:2] for row in section.splitlines() if row.startswith("| ")]
    assert rows[2:] == [["| 1–3", "m[depth=1]"], ["| 1–3", "m"], ["| 1–3", "other"]]  # one seed
    table = pd.read_csv(tmp_path / "report" / "tables" / "ablation_m.csv")
    assert table["average"].tolist() == pytest.approx([0.7, 0.6])
    table = pd.read_csv(tmp_path / "report" / "tables" / "ablation_m_differences.csv")
    # On average over both, too.
    assert table["difference"].tolist() == pytest.approx([0.1, 0.1, 0.1])
    assert "Paired differences to the defaults (m)" in page

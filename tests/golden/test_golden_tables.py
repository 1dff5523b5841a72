"""The tables, letter by letter; after a wanted change run this file as a script to renew them."""

from pathlib import Path

import pytest

from benchmark.analysis.leaderboard import GROUP
from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty import assess
from benchmark.reporting.tables import COLUMNS, ranked, to_csv, to_latex, to_markdown
from tests.helpers.records import record, timed

pytestmark = pytest.mark.no_torch

GOLDEN = Path(__file__).parent


def tables() -> dict[str, str]:
    """A ranking with a tie, two seeds, a missing benchmark and a failure."""
    records = [
        record("full", name, miou=value + 0.01 * seed, seed=seed, tuned=5_526_000)
        for name, value in (("camvid", 0.50), ("pets", 0.80))
        for seed in (0, 1)
    ]
    records += [
        record("lora[rank=4]", name, miou=0.655, inserted=147_000) for name in ("camvid", "pets")
    ]
    records += [record("linear", "camvid", miou=0.44)]
    records += [record("vpt_deep", "pets", status="failed", reason="loss is NaN at step 40")]
    runs = timed(records)
    board = ranked(Runs(runs), assess(Runs(runs, GOLDEN)).board)
    return {
        "csv": to_csv(board),
        "md": to_markdown(board, COLUMNS, GROUP),
        "tex": to_latex(board, COLUMNS, GROUP),
    }


@pytest.mark.parametrize("suffix", ["csv", "md", "tex"])
def test_leaderboard_equals_golden_file(suffix):
    assert tables()[suffix] == (GOLDEN / f"leaderboard.{suffix}").read_text(encoding="utf-8")


if __name__ == "__main__":
    for suffix, text in tables().items():
        (GOLDEN / f"leaderboard.{suffix}").write_text(text, encoding="utf-8", newline="\n")

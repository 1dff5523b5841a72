import io

import pandas as pd
import pytest
from rich.console import Console

from benchmark.core.format import human
from benchmark.reporting.tables import Column, to_csv, to_latex, to_markdown, to_rich

pytestmark = pytest.mark.no_torch

SCORES = [Column("method", "Method"), Column("score", "mIoU", "points", "max")]


def scores(**values: float) -> pd.DataFrame:
    return pd.DataFrame({"method": list(values), "score": list(values.values())})


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (0, "count", "0"),
        (999, "count", "999"),
        (1_234_567, "count", "1.2 M"),
        (999_960, "count", "1.0 M"),
        (999.7, "count", "1.0 k"),
        (45_300, "bytes", "45.3 kB"),
        (12, "bytes", "12 B"),
        (2.5e9, "bytes", "2.5 GB"),
        (71.28, "seconds", "71.3 s"),
        (150, "seconds", "2.5 min"),
        (9000, "seconds", "2.5 h"),
        (12.34, "ms", "12.3 ms"),
        (1.404, "ratio", "1.40x"),
        (9.994, "ratio", "9.99x"),
        (9.995, "ratio", "10.0x"),
        (0.4534, "points", "45.3"),
        (3, "integer", "3"),
        (0.4791, "number", "0.479"),
        (float("nan"), "points", "–"),
        (None, "bytes", "–"),
    ],
)
def test_numbers_for_people(value, kind, text):
    assert human(value, kind) == text


def test_best_is_bold_and_so_is_what_prints_the_same():
    text = to_markdown(scores(a=0.4512, b=0.4508, c=0.3), SCORES)
    assert text.count("**45.1**") == 2 and "| 30.0 |" in text


def test_best_of_each_group():
    frame = scores(a=0.4, b=0.5, c=0.1, d=0.2).assign(backbone=["x", "x", "y", "y"])
    text = to_markdown(frame, SCORES, group=["backbone"])
    assert "**50.0**" in text and "**20.0**" in text and "**40.0**" not in text


def test_nothing_is_best_alone_or_missing():
    assert "**" not in to_markdown(scores(a=0.4, b=float("nan")), SCORES)


def test_words_may_stand_in_place_of_numbers():
    frame = pd.DataFrame({"method": ["a", "b", "c"], "score": [0.4, "failed", 0.3]})
    assert "| b | failed |" in to_markdown(frame, SCORES)


def test_a_missing_integer_is_a_dash():
    frame = pd.DataFrame({"method": ["a", "b"], "rank": pd.array([1, pd.NA], dtype="Int64")})
    columns = [Column("method", "Method"), Column("rank", "Rank", "integer")]
    assert "| b | – |" in to_markdown(frame, columns)


def test_markdown_escapes():
    assert "| a\\|b\\*c\\<d |" in to_markdown(scores(**{"a|b*c<d": 0.5}), SCORES)


def test_latex_escapes():
    text = to_latex(scores(**{"[a_b] & 50% #1 {x} ~^\\": 0.5}), SCORES)
    name = r"{[}a\_b{]} \& 50\% \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{}"
    assert name + r" & 50.0 \\" in text


def test_csv_keeps_the_numbers():
    assert to_csv(scores(a=0.451234)) == "method,score\na,0.451234\n"


def test_terminal_shows_brackets_and_no_markup():
    console = Console(file=io.StringIO(), width=40)
    console.print(to_rich(scores(**{"lora[rank=4]": 0.5, "[red]x": 0.4}), SCORES, "t[1]"))
    text = console.file.getvalue()
    assert "lora[rank=4]" in text and "[red]x" in text and "t[1]" in text and "[bold]" not in text

"""Figures that are taken again: the same bytes, and only while nothing behind them changed."""

from functools import partial

import pandas as pd
import pytest

from benchmark.reporting.figures import cache
from benchmark.reporting.figures.cache import FigureCache
from benchmark.reporting.figures.picture import Picture
from benchmark.reporting.figures.render import drawing
from benchmark.reporting.report import write_report
from tests.helpers.simulated import write_grid

pytestmark = pytest.mark.no_torch

DRAWN = []


def draw(table):
    from matplotlib.figure import Figure

    DRAWN.append(len(table))
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot(table["x"], table["y"])
    return figure


def picture(y=1.0, stem="one"):
    table = pd.DataFrame({"x": [1.0, 2.0], "y": [0.0, y]})
    return Picture("a section", "a title", stem, partial(draw, table))


def drawn(folder, chosen, keep):
    folder.mkdir()
    with drawing(chosen, folder, keep) as wait:
        files = wait()
    return {path.name: path.read_bytes() for path in files}


def test_a_figure_is_drawn_once_and_copied_afterwards(tmp_path):
    DRAWN.clear()
    first = drawn(tmp_path / "a", [picture()], tmp_path / "keep")
    again = drawn(tmp_path / "b", [picture()], tmp_path / "keep")
    assert sorted(first) == ["one.pdf", "one.png", "one.svg"]
    assert first == again and len(DRAWN) == 1


@pytest.mark.slow
def test_other_data_another_name_and_other_code_are_drawn_anew(tmp_path, monkeypatch):
    drawn(tmp_path / "a", [picture()], tmp_path / "keep")
    DRAWN.clear()
    drawn(tmp_path / "b", [picture(y=2.0)], tmp_path / "keep")
    drawn(tmp_path / "c", [picture(y=2.0, stem="two")], tmp_path / "keep")
    assert len(DRAWN) == 2
    monkeypatch.setattr(cache, "_code", lambda: b"another")
    drawn(tmp_path / "d", [picture(y=2.0, stem="two")], tmp_path / "keep")
    assert len(DRAWN) == 3


def test_what_is_not_shown_any_more_is_forgotten(tmp_path):
    chosen = [picture(stem="one"), picture(stem="two")]
    drawn(tmp_path / "a", chosen, tmp_path / "keep")
    assert len(list((tmp_path / "keep").iterdir())) == 2
    drawn(tmp_path / "b", chosen[:1], tmp_path / "keep")
    assert len(list((tmp_path / "keep").iterdir())) == 1


@pytest.mark.parametrize("damage", ["ends", pytest.param("figure.png", marks=pytest.mark.slow)])
def test_a_torn_figure_is_drawn_anew(tmp_path, damage):
    first = drawn(tmp_path / "a", [picture()], tmp_path / "keep")
    (place,) = (tmp_path / "keep").iterdir()
    (place / damage).unlink()
    DRAWN.clear()
    assert drawn(tmp_path / "b", [picture()], tmp_path / "keep") == first
    assert len(DRAWN) == 1


def test_where_nothing_can_be_kept_everything_is_drawn(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in ("a", "b"):
        assert len(drawn(tmp_path / folder, [picture()], tmp_path / "file")) == 3
    assert FigureCache(None).fetch(picture(), tmp_path) is None


@pytest.mark.slow
def test_a_report_of_kept_figures_is_the_same_report(tmp_path):
    runs = write_grid(tmp_path / "r", seeds=2)
    reports = []
    for name in ("a", "b"):
        files = write_report(
            runs, tmp_path / name, "x", tmp_path / "r", keep=tmp_path / "cache" / "figures"
        )
        reports.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert reports[0] == reports[1] and any(path.suffix == ".pdf" for path in reports[0])
    places = list((tmp_path / "cache" / "figures").iterdir())
    assert len(places) == sum(path.suffix == ".pdf" for path in reports[0])

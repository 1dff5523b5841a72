"""Pareto figures: intervals, whiskers, probable fronts and published numbers, by their artists."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import same_color, to_hex
from PIL import Image

from benchmark.analysis.costs import TRAINED, compared_costs
from benchmark.analysis.leaderboard import GROUP, MIOU
from benchmark.analysis.runs import Runs
from benchmark.reporting.figures.panels import DPI, bounds
from benchmark.reporting.figures.pareto import pareto_figure, save_figure
from benchmark.reporting.style import method_styles
from tests.helpers.artists import keys_of, line_of, segments, texts_of, xy
from tests.helpers.records import frame, grid, record, timed

pytestmark = pytest.mark.no_torch

TRAINABLE = "costs.params.total_trainable"
MEMORY = "costs.train.memory.peak_bytes"
TWO = ["full", "linear"]


def group_of(runs):
    return {name: runs[name].iloc[0] for name in GROUP}


def test_points_are_the_cells_and_bars_the_t_intervals():
    runs = frame(grid(TWO, 3, ["camvid"]))
    axis = pareto_figure(Runs(runs), TRAINABLE, "", "").axes[0]
    table = Runs(runs).cells.set_index("method")
    for name in TWO:
        miou, half = 100 * table.loc[name, MIOU], 100 * table.loc[name, "ci95"]
        x = table.loc[name, TRAINABLE]
        assert xy(line_of(axis, name)) == [[x, miou]]
        assert any(np.allclose(s, [(x, miou - half), (x, miou + half)]) for s in segments(axis))


def test_given_intervals_take_the_place_of_the_t_interval():
    runs = frame(grid(TWO, 1, ["camvid", "pets"]))
    rows = [
        group_of(runs) | {"benchmark": b, "method": m, "low": 0.1, "high": 0.9}
        for b in ("camvid", "pets", "average") for m in TWO
    ]  # fmt: skip
    figure = pareto_figure(Runs(runs), TRAINABLE, "", "", intervals=pd.DataFrame(rows))
    for axis in figure.axes:
        assert [(low[1], high[1]) for low, high in segments(axis)] == [(10.0, 90.0)] * 2
    assert "95 % interval" in keys_of(figure)


def test_a_measured_cost_shows_its_smallest_and_largest_run():
    runs = frame([record("a", miou=0.4, seed=s) for s in range(3)])
    runs = runs.assign(**{MEMORY: [10.0, 20.0, 60.0]})
    figure = pareto_figure(Runs(runs), MEMORY, "", "")
    assert ((10, 40), (60, 40)) in [
        tuple((round(x, 6), round(y, 6)) for x, y in s) for s in segments(figure.axes[0])
    ]
    assert xy(line_of(figure.axes[0], "a"))[0][0] == 30
    assert "smallest to largest run" in keys_of(figure)
    assert "smallest to largest run" not in keys_of(pareto_figure(Runs(runs), TRAINABLE, "", ""))


def test_whiskers_are_of_the_runs_of_their_panel():
    runs = frame([record("a", b, miou=0.4, seed=s) for b in ("camvid", "pets") for s in (0, 1)])
    runs = runs.assign(**{MEMORY: [10.0, 20.0, 80.0, 100.0]})
    ends = [
        sorted(round(x, 6) for x, _ in part)
        for axis in pareto_figure(Runs(runs), MEMORY, "", "").axes
        for part in segments(axis)
    ]
    assert ends == [[10, 20], [80, 100], [10, 100]]


def test_unlikely_methods_are_pale():
    runs = frame([record("a", miou=0.4), record("b", miou=0.5), record("c", miou=0.6)])
    fronts = pd.DataFrame([
        group_of(runs) | {"benchmark": "camvid", "cost": TRAINABLE, "method": m, "probability": p}
        for m, p in (("a", 0.49), ("b", 0.5))
    ])  # fmt: skip
    figure = pareto_figure(Runs(runs), TRAINABLE, "", "", fronts=fronts)
    faces = {m: line_of(figure.axes[0], m).get_markerfacecolor() for m in "abc"}
    colours = {name: style.colour for name, style in method_styles(list("abc")).items()}
    assert not same_color(faces["a"], colours["a"])
    assert same_color(faces["b"], colours["b"]) and same_color(faces["c"], colours["c"])
    assert "on the front with probability < 0.5" in keys_of(figure)
    assert "on the front with probability < 0.5" not in keys_of(
        pareto_figure(Runs(runs), TRAINABLE, "", "")
    )


def published(benchmark="camvid", counts="total trainable"):
    return pd.DataFrame(
        [
            {
                "method": "x",
                "backbone": "ViT-L",
                "decoder": "d",
                "benchmark": benchmark,
                "miou": 0.99,
                "params": 2e6,
                "counts": counts,
                "memory_bytes": np.nan,
                "source": "A Paper, Table 3",
            }
        ]
    )


def test_published_numbers_are_hollow_and_never_on_the_front():
    runs = frame(grid(TWO, 1, ["camvid", "pets"]))
    figure = pareto_figure(Runs(runs), TRAINABLE, "", "", reference=published())
    camvid, pets, _ = figure.axes
    mark = line_of(camvid, "x")
    assert xy(mark) == [[2e6, 99.0]] and to_hex(mark.get_markerfacecolor()) == "#ffffff"
    assert not [line for line in pets.lines if line.get_label() == "x"]
    assert any("A Paper, Table 3 (ViT-L, d)" in text for text in texts_of(figure))
    assert max(max(y) for _, y in xy_pairs(camvid, "_")) < 99  # the staircase


def xy_pairs(axis, prefix):
    for line in axis.lines:
        if str(line.get_label()).startswith(prefix) and len(line.get_ydata()):
            yield line.get_xdata(), line.get_ydata()


def test_published_numbers_that_count_something_else_are_left_out():
    runs = frame(grid(TWO, 1, ["camvid"]))
    for cost, counts in ((TRAINABLE, "backbone"), (MEMORY, "total trainable")):
        figure = pareto_figure(Runs(runs), cost, "", "", reference=published(counts=counts))
        assert "x" not in [line.get_label() for line in figure.axes[0].lines]
    figure = pareto_figure(Runs(runs), TRAINED, "", "", reference=published(counts="backbone"))
    assert "x" in [line.get_label() for line in figure.axes[0].lines]


def test_trained_backbone_parameters_are_a_cost():
    runs = frame([record("a", inserted=5000, tuned=700), record("b", inserted=10)])
    axis = pareto_figure(Runs(runs), TRAINED, "", "").axes[0]
    assert xy(line_of(axis, "a"))[0][0] == 5700


def test_a_published_zero_stands_where_zero_does():
    runs = frame([record("a", inserted=5000, tuned=0, miou=0.4)])
    zero = published(counts="backbone").assign(params=0.0)
    axis = pareto_figure(Runs(runs), TRAINED, "", "", reference=zero).axes[0]
    assert xy(line_of(axis, "x"))[0][0] == pytest.approx(5000 / 3)
    assert "0" in [label.get_text() for label in axis.get_xticklabels()]


@pytest.mark.parametrize("cost", compared_costs())
def test_every_cost_can_be_drawn(cost):
    runs = timed(grid(TWO, 2, ["camvid"]))
    axis = pareto_figure(Runs(runs), cost, "", "").axes[0]
    table = Runs(runs).cells.set_index("method")
    for name in TWO:
        x = table.loc[name, cost]
        place = xy(line_of(axis, name))[0][0]
        assert place == x or (x == 0 and 0 < place < max(table[cost].max(), 2))


def test_dollars_and_backslashes_in_names_are_text():
    runs = frame([record(r"a$\bad$", miou=0.4), record("b", r"50 $ and $ more", miou=0.5)])
    figure = pareto_figure(Runs(runs), TRAINABLE, "", r"$\frac$")
    figure.draw_without_rendering()
    assert figure.axes[0].get_title("left") == "50 $ and $ more"


def test_equal_figures_are_equal_bytes(tmp_path):
    runs = frame(grid(TWO, 2, ["camvid"]))
    drawn = [
        save_figure(pareto_figure(Runs(runs), MEMORY, "s", "t"), tmp_path / name) for name in "ab"
    ]
    assert [path.suffix for path in drawn[0]] == [".png", ".svg", ".pdf"]
    for first, second in zip(*drawn, strict=True):
        assert first.read_bytes() == second.read_bytes() != b"", first.name


def test_a_png_of_few_colours_looks_like_the_figure(tmp_path):
    figure = pareto_figure(Runs(frame(grid(None, 2, ["camvid", "pets"]))), MEMORY, "s", "t")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    path, *_ = save_figure(figure, tmp_path / "a")
    with Image.open(path) as image:
        assert image.mode == "P" and image.info["dpi"] == pytest.approx((DPI, DPI), abs=0.1)
        saved = np.asarray(image.convert("RGB")).astype(int)
    assert saved.shape == drawn.shape and (saved[0, 0] == 255).all()
    off = np.abs(saved - drawn).max(axis=-1)
    assert off.max() <= 32 and off.mean() < 1


def test_bounds_know_what_they_were_not_told():
    keys = dict.fromkeys(GROUP, "g") | {"benchmark": "pets", MIOU: 0.5}
    table = pd.DataFrame(
        [keys | {"method": "a", "ci95": 0.1}, keys | {"method": "b", "ci95": None}], index=[7, 3]
    )
    assert bounds(table)[["low", "high"]].to_numpy().tolist() == [[0.4, 0.6], [0.5, 0.5]]
    given = table.assign(low=0.2, high=0.7)[[*GROUP, "benchmark", "method", "low", "high"]].iloc[1:]
    found = bounds(table, given)
    # Of the first one, that over its seeds is left.
    assert found[["low", "high"]].to_numpy().tolist() == [[0.4, 0.6], [0.2, 0.7]]
    assert found.index.tolist() == [7, 3]

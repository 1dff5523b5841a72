"""Figures, by what stands in their artists: the numbers drawn are those of the tables."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.text import Annotation, Text

from benchmark.analysis.ablation import ablation
from benchmark.analysis.cost_tables import WHOLE, storage
from benchmark.analysis.curves import KEYS, VALIDATION
from benchmark.analysis.efficiency import COMPARED
from benchmark.analysis.leaderboard import GROUP, MIOU
from benchmark.analysis.runs import Runs
from benchmark.core.spec import Protocol
from benchmark.reporting.figures.ablation import ablation_figure, numeric_fields
from benchmark.reporting.figures.corruptions import corruption_figure
from benchmark.reporting.figures.critical_difference import ranks_figure
from benchmark.reporting.figures.label_efficiency import fraction_figure
from benchmark.reporting.figures.panels import apart
from benchmark.reporting.figures.per_class import class_figure
from benchmark.reporting.figures.scales import clear
from benchmark.reporting.figures.storage import storage_figure
from benchmark.reporting.figures.training_curves import curves_figure
from tests.helpers.artists import inside, keys_of, line_of, segments, texts_of, xy
from tests.helpers.records import METHODS, frame, grid, record

pytestmark = pytest.mark.no_torch

TRAINABLE = "costs.params.total_trainable"
MEMORY = "costs.train.memory.peak_bytes"
TWO = ["full", "linear"]


# Ranks


def ranks(**values):
    return pd.DataFrame({"method": list(values), "average_rank": list(values.values())})


def bars_of(axis):
    return [line.get_xdata() for line in axis.lines if line.get_linewidth() == 3]


def test_ranks_stand_at_their_places_and_bars_join_cliques():
    table = ranks(a=1.2, b=2.0, c=3.5, d=3.3)
    figure = ranks_figure(table, 1.0, [["a", "b"], ["c", "d"], ["b"]], "Ranks")
    axis = figure.axes[0]
    for name, rank in zip(table["method"], table["average_rank"], strict=True):
        assert line_of(axis, name).get_xdata() == [rank]
    reach = [(x[0], x[1]) for x in bars_of(axis)]
    for (low, high), (first, last) in zip(reach, [(1.2, 2.0), (3.3, 3.5)], strict=True):
        assert first - 0.1 < low < first and last < high < last + 0.1
    assert any("critical difference 1.00" in text.get_text() for text in axis.texts)
    assert inside(figure)


def test_bars_that_would_touch_stand_apart():
    table = ranks(a=1.0, b=2.0, c=3.0)
    axis = ranks_figure(table, 1.0, [["a", "b"], ["b", "c"]], "").axes[0]
    rows = [line.get_ydata()[0] for line in axis.lines if line.get_linewidth() == 3]
    assert len(set(rows)) == 2


@pytest.mark.parametrize("difference", [None, float("nan")])
def test_too_few_cells_have_no_bars_and_a_reason(difference):
    table = ranks(a=1.0, b=2.0).assign(cells=3)
    figure = ranks_figure(table, difference, [["a", "b"]], "Ranks")
    assert not bars_of(figure.axes[0])
    assert any("over 3 benchmarks" in text and "five are" in text for text in texts_of(figure))
    assert not any("critical difference" in text.get_text() for text in figure.axes[0].texts)


def test_many_ranks_do_not_overlap():
    table = ranks(**{name: 1 + 0.9 * i for i, name in enumerate(METHODS)})
    figure = ranks_figure(table, 4.0, [list(METHODS)[:4]], "A title " * 20)
    names = [text for text in figure.axes[0].texts if any(m in text.get_text() for m in METHODS)]
    boxes = [text.get_window_extent() for text in names]
    assert len(boxes) == len(METHODS) and inside(figure)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    with pytest.raises(ValueError, match="at least one"):
        ranks_figure(table.iloc[:0], None, [], "")


# Classes


def test_the_heat_map_holds_the_class_ious():
    runs = frame([record("a", miou=0.4), record("b", miou=0.6)])
    axis = class_figure(Runs(runs), "camvid", "Classes").axes[0]
    mesh = next(part for part in axis.collections if isinstance(part, QuadMesh))
    assert np.asarray(mesh.get_array()).reshape(2, 2) == pytest.approx(
        np.array([[70, 50], [50, 30]])  # the best method on top
    )
    assert [text.get_text() for text in axis.get_xticklabels()] == ["background", "camvid_thing"]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["b", "a"]
    assert [text.get_text() for text in axis.texts] == ["70", "50", "50", "30"]


def test_many_classes_have_colours_alone_and_names_that_do_not_touch():
    runs = frame(grid(list(METHODS)[:5], 1, ["camvid"]))
    names = [f"metrics.class_iou.a class of number {i}" for i in range(148)]
    runs = pd.concat([runs, pd.DataFrame(0.5, runs.index, names)], axis=1).copy()
    figure = class_figure(Runs(runs), "camvid", "Classes")
    axis = figure.axes[0]
    mesh = next(part for part in axis.collections if isinstance(part, QuadMesh))
    assert np.asarray(mesh.get_array()).size == 5 * 150 and not axis.texts
    boxes = [text.get_window_extent() for text in axis.get_xticklabels()]
    assert 30 < len(boxes) < 150 and inside(figure)
    assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))


def test_classes_of_several_groups_or_of_no_run_are_refused():
    with pytest.raises(ValueError, match="one protocol"):
        class_figure(Runs(frame([record("a"), record("a", protocol_hash="p")])), "camvid", "")
    with pytest.raises(ValueError, match="no run finished pets"):
        class_figure(Runs(frame([record("a")])), "pets", "")


# Curves


def curves(**losses):
    keys = dict.fromkeys(KEYS, "x")
    return pd.concat(
        [
            pd.DataFrame({"step": range(1, len(loss) + 1), "loss": loss}).assign(
                **keys | {"method": name, "seed": seed}
            )
            for name, seeds in losses.items()
            for seed, loss in enumerate(seeds)
        ]
    )


def test_lines_are_means_over_seeds_and_bands_their_ends():
    figure = curves_figure(curves(a=[[4, 2, 1], [2, 1, 0.5]], b=[[1, 1, 1], [1, 1, 1]]), "Loss")
    axis = figure.axes[0]
    assert xy(line_of(axis, "a")) == [[1, 3], [2, 1.5], [3, 0.75]]
    band = next(part for part in axis.collections if isinstance(part, PolyCollection))
    corners = band.get_paths()[0].vertices
    assert [1, 2] in corners.tolist() and [1, 4] in corners.tolist()
    assert keys_of(figure) == ["a", "b"]
    assert any("Mean over seeds" in text for text in texts_of(figure))


def test_a_validation_curve_is_in_points_and_is_not_smoothed():
    points = curves(a=[[0.1, 0.4], [0.3, 0.5]]).rename(columns={"loss": VALIDATION})
    figure = curves_figure(points.assign(step=points["step"] * 50), "", quantity=VALIDATION)
    (axis,) = figure.axes
    assert xy(line_of(axis, "a")) == [[50, 20], [100, 45]] and axis.get_yscale() == "linear"
    assert "mIoU on validation" in texts_of(figure)


def test_curves_of_several_groups_or_none_are_refused():
    one = curves(a=[[1, 2]])
    with pytest.raises(ValueError, match="one protocol"):
        curves_figure(pd.concat([one, one.assign(backbone="other")]), "")
    with pytest.raises(ValueError, match="nothing to draw"):
        curves_figure(one.iloc[:0], "")


# Storage


def test_storage_lines_are_the_table():
    runs = frame(grid(list(METHODS)))
    table = storage(Runs(runs).cost_table, range(1, 101))
    figure = storage_figure(table, "Storage")
    axis = figure.axes[0]
    for name in [*METHODS, WHOLE]:
        own = table[table["method"] == name]
        assert xy(line_of(axis, name)) == own[["tasks", "bytes"]].astype(float).to_numpy().tolist()
    names = [text for text in axis.texts if isinstance(text, Annotation)]
    boxes = [Text.get_window_extent(text) for text in names]  # without their leaders
    assert len(names) == len(METHODS) + 1 and inside(figure)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert axis.get_yscale() == axis.get_xscale() == "log"


def test_labels_move_apart_as_little_as_they_must():
    assert apart(np.array([0.0, 10.0]), 4, -99, 99).tolist() == [0, 10]
    assert apart(np.array([5.0, 5.0]), 4, -99, 99).tolist() == [3, 7]
    assert apart(np.array([1.0, 0.0, 0.5]), 1, -99, 99).tolist() == [1.5, -0.5, 0.5]
    assert apart(np.array([0.0, 0.0]), 4, 0, 10).tolist() == [0, 4]
    assert apart(np.array([]), 4, 0, 10).tolist() == []


# Label efficiency


def fractions():
    rows = []
    for share in (0.1, 1.0):
        own = Protocol(fraction=share)
        for item in grid(TWO, 2, ["camvid", "pets"]):
            rows.append(item.model_copy(
                update={"protocol": own.model_dump(), "protocol_hash": own.hash}))  # fmt: skip
    runs = frame(rows)
    scores = runs[MIOU] * runs["protocol.fraction"] ** 0.1
    return Runs(runs.assign(**{MIOU: scores})).label_efficiency


def test_fraction_lines_are_the_table():
    table = fractions()
    figure = fraction_figure(table, "Labels")
    titles = [axis.get_title("left") for axis in figure.axes]
    assert titles == ["camvid", "pets", "average"]
    for axis, benchmark, name in itertools.product(figure.axes, titles, TWO):
        if axis.get_title("left") == benchmark:
            own = table[(table["benchmark"] == benchmark) & (table["method"] == name)]
            wanted = own.assign(y=100 * own[MIOU])[["fraction", "y"]].to_numpy().tolist()
            assert xy(line_of(axis, name)) == wanted
            assert len(segments(axis)) == 4
    ticks = [text.get_text() for text in figure.axes[-1].get_xticklabels()]
    assert ticks == ["0.1", "1"] and figure.axes[0].get_xscale() == "log"


def test_fractions_of_several_families_are_refused():
    table = fractions()
    with pytest.raises(ValueError, match="one family"):
        fraction_figure(pd.concat([table, table.assign(family="other")]), "")


def test_ticks_that_would_touch_are_left_out():
    assert clear([0.01, 0.1, 1.0]) == [0.01, 0.1, 1.0]
    assert clear([0.01, 0.1, 0.9, 1.0]) == [0.01, 0.1, 1.0]
    assert clear([3.0]) == [3.0]


# Corruptions


def scores():
    rows = []
    for name, fall in (("a", 0.1), ("b", 0.05)):
        keys = dict.fromkeys(COMPARED, "v") | {"benchmark": "pets", "method": name, "seed": 0}
        for group, corruption in (("clean", "clean"), ("blur", "defocus"), ("noise", "shot")):
            for severity in (0,) if group == "clean" else (1, 3, 5):
                rows.append(
                    keys
                    | {
                        "group": group,
                        "corruption": corruption,
                        "severity": severity,
                        "miou": 0.8 - fall * severity,
                    }
                )
    return pd.DataFrame(rows)


def test_corruption_lines_go_from_clean_to_the_worst():
    figure = corruption_figure(scores(), "Robustness")
    titles = [axis.get_title("left") for axis in figure.axes]
    assert titles == ["blur", "noise", "all corruptions"]
    for axis in figure.axes:
        assert np.allclose(xy(line_of(axis, "a")), [[0, 80], [1, 70], [3, 50], [5, 30]])
        assert np.allclose(xy(line_of(axis, "b")), [[0, 80], [1, 75], [3, 65], [5, 55]])
    assert [text.get_text() for text in figure.axes[-1].get_xticklabels()] == [
        "clean",
        "1",
        "3",
        "5",
    ]


def test_versions_of_corruptions_are_not_drawn_together():
    both = pd.concat([scores(), scores().assign(corruptions_version=2)])
    with pytest.raises(ValueError, match="version"):
        corruption_figure(both, "")


# Ablations


def study(rows, benchmarks=("camvid", "pets")):
    """Records of one method; rows are (parameters, inserted, mIoU)."""
    items = []
    for params, inserted, miou in rows:
        label = f"m[{','.join(f'{k}={v}' for k, v in params.items())}]"
        items += [
            record(label, b, miou=miou, inserted=inserted, method_params=params) for b in benchmarks
        ]
    return frame(items)


def test_a_numeric_field_becomes_a_curve():
    runs = study([({"rank": 16}, 400, 0.6), ({"rank": 1}, 100, 0.4), ({"rank": 4}, 200, 0.5)])
    figure = ablation_figure(runs, "m", "rank", "Rank")
    titles = [axis.get_title("left") for axis in figure.axes]
    assert titles == ["camvid", "pets", "average", "inserted parameters"]
    for axis in figure.axes[:3]:
        assert np.allclose(xy(line_of(axis, "mIoU")), [[1, 40], [4, 50], [16, 60]])
    size = line_of(figure.axes[3], "inserted parameters")
    assert xy(size) == [[1, 100], [4, 200], [16, 400]]
    assert figure.axes[0].get_xscale() == "log"


def test_an_average_over_some_sets_has_no_interval_of_the_average_over_all():
    runs = study([({"rank": 1}, 100, 0.4), ({"rank": 4}, 200, 0.5)])
    rest = runs[(runs["benchmark"] == "pets") & (runs["method"] == "m[rank=1]")]
    third = rest.assign(benchmark="other")
    keys = runs[[*GROUP, "method"]].drop_duplicates()
    known = pd.concat([keys.assign(benchmark=name) for name in ("camvid", "average")])
    known = known.assign(low=0.1, high=0.9)
    for records, ends in ((runs, {10, 90}), (pd.concat([runs, third]), set())):
        figure = ablation_figure(records, "m", "rank", "Rank", known)
        camvid, average = figure.axes[0], figure.axes[2]
        assert {round(y) for bar in segments(camvid) for _, y in bar} == {10, 90}
        assert {round(y) for bar in segments(average) for _, y in bar} == ends


def test_a_curve_changes_one_field_at_a_time():
    table = ablation(
        study(
            [
                ({"rank": 1, "gate": "on"}, 1, 0.4),
                ({"rank": 2, "gate": "on"}, 1, 0.5),
                ({"rank": 3, "gate": "on"}, 1, 0.3),
                ({"rank": 3, "gate": "off"}, 1, 0.9),
                ({"rank": 4, "gate": "off"}, 1, 0.9),
            ]
        ),
        "m",
    )
    found = numeric_fields(table)
    assert list(found) == ["rank"]
    assert found["rank"]["rank"].tolist() == [1, 2, 3]
    assert set(found["rank"]["gate"]) == {"on"}


def test_words_switches_and_lone_values_are_no_curve():
    table = ablation(study([({"gate": True}, 1, 0.4), ({"gate": False}, 1, 0.5)]), "m")
    assert numeric_fields(table) == {}
    runs = study([({"a": 1, "b": 1}, 1, 0.4), ({"a": 2, "b": 2}, 1, 0.5)])
    assert numeric_fields(ablation(runs, "m")) == {}
    with pytest.raises(ValueError, match="no two values"):
        ablation_figure(runs, "m", "a", "")

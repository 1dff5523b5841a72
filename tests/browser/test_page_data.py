"""What the page holds: the payload, pictures and lines, without a browser."""

import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmark.analysis.leaderboard import GROUP
from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty import assess
from benchmark.core.format import human
from benchmark.data.palette import voc_colours
from benchmark.reporting.commands import again
from benchmark.reporting.html import page as page_module
from benchmark.reporting.html.build import build
from benchmark.reporting.html.curves import Curves, thin
from benchmark.reporting.html.images import disagreement, fitting, image_miou, make_item
from benchmark.reporting.html.page import render
from benchmark.reporting.html.payload import (
    AVERAGE,
    SHARED,
    columns,
    number,
    numbers,
    packed,
    to_json,
)
from benchmark.reporting.html.points import score_points
from benchmark.reporting.provenance import protocols, provenance
from benchmark.reporting.tables import ranked
from tests.browser import standin
from tests.helpers import records
from tests.helpers.pages import unpack, unpacked

pytestmark = pytest.mark.no_torch

KEY = ("vit", "pretrained", "abc")
SMALL = ("linear", "norm", "ssf")


def payload(runs, found=None, **more):
    table = Runs(runs)
    found = found or assess(table, replicates=10)
    parts = {"gallery": (), "curves": Curves(), "reference": None} | more
    return build(table, score_points(table, found), found, **parts)


def page(runs):
    return render("t", Runs(runs), assess(Runs(runs), replicates=10))


def rows(frame):
    return [dict(zip(frame, values, strict=True)) for values in zip(*frame.values(), strict=True)]


def test_packed_data_end_no_script_and_come_back_the_same():
    evil = {"a": ["</script><!--", "& \u2028\u2029 \U0001f600", 1.5, None]}
    text = packed(to_json(evil))
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", text)
    assert json.loads(unpack(text)) == evil
    assert len(packed("plot" * 10_000)) < 200


def test_numbers_keep_six_digits_and_gaps_are_null():
    assert number(0.123456789) == 0.123457 and number(5526000.0) == 5526000
    assert [number(x) for x in (math.nan, math.inf, None, pd.NA)] == [None] * 4
    table = pd.DataFrame({"x": [1.5, math.nan], "ok": [True, False], "word": ["a", None]})
    assert columns(table) == {"x": [1.5, None], "ok": [True, False], "word": ["a", None]}


def test_points_are_those_of_the_leaderboard():
    runs = records.frame(records.grid(seeds=3))
    table = Runs(runs)
    found = assess(table, replicates=10)
    made = payload(runs, found)
    board = ranked(table, found.board)
    shown = {
        made["methods"][row["method"]]["name"]: row
        for row in rows(made["points"])
        if row["scope"] == AVERAGE
    }
    assert set(shown) == set(board["method"])
    for row in board.to_dict("records"):
        point = shown[row["method"]]
        assert point["rank"] == row["rank"]
        assert point["miou"] == pytest.approx(row["metrics.miou"], rel=1e-5)
        for end in ("low", "high"):
            assert point[end] == pytest.approx(row[end], abs=1e-5)
        assert point["costs.stored.bytes"] == pytest.approx(row["costs.stored.bytes"], rel=1e-5)
        trained = row["costs.params.inserted"] + row["costs.params.tuned_backbone"]
        assert point["costs.params.trained_backbone"] == pytest.approx(trained, rel=1e-5)


def test_an_assessment_gives_intervals_and_ranks():
    runs = records.frame(records.grid(SMALL, seeds=2))
    found = standin.assess(runs)
    found.board["rank"] = 1
    points = score_points(Runs(runs), found)
    average = points[points["scope"] == AVERAGE]
    assert (average["rank"] == 1).all()
    assert np.allclose(average["high"] - average["metrics.miou"], 0.009)
    assert set(points["covers"]) == {"seeds and images"}
    made = payload(runs, found)
    pairs = rows(made["pairs"])
    assert len(pairs) == 3 * 6  # pairs of methods, five benchmarks and their mean
    assert made["groups"][0]["critical_difference"] == 3.1


def test_unfinished_methods_are_scored_on_what_all_finished():
    whole = records.grid(SMALL[:2], seeds=1)
    some = records.grid(SMALL[2:], seeds=1, benchmarks=["camvid", "pets"])
    made = payload(records.frame([*whole, *some]))
    scopes = {place: name for place, name in enumerate(made["benchmarks"])}
    assert [scopes[place] for place in made["groups"][0]["shared"]] == ["camvid", "pets"]
    shared = [row for row in rows(made["points"]) if row["scope"] == SHARED]
    assert [row["rank"] for row in shared] == [1, 1, 1]  # one seed tells nobody apart
    alone = [row for row in rows(made["points"]) if row["scope"] == AVERAGE]
    assert sorted(row["rank"] is None for row in alone) == [False, False, True]


def test_a_failed_seed_leaves_a_cell_without_a_score():
    runs = [*records.grid(["linear", "norm"], seeds=2, benchmarks=["camvid"])]
    runs.append(records.record("linear", "camvid", seed=2, status="nan", reason="step 3"))
    made = payload(records.frame(runs))
    for row in rows(made["points"]):
        gap = made["methods"][row["method"]]["name"] == "linear"
        assert [row["miou"] is None, row["costs.stored.bytes"] is None] == [gap, gap]


def test_what_failed_stands_in_the_page_with_its_reason_and_command():
    failed = records.record("ssf", status="oom", reason="a < b", command="python -m benchmark run")
    html = page(records.frame([*records.grid(["linear"]), failed]))
    assert "a &lt; b" in html and 'data-copy="python -m benchmark run"' in html


def test_the_command_of_what_failed_names_the_results_folder():
    failed = records.record("ssf", status="oom", reason="x", command="python -m benchmark run")
    runs = Runs(records.frame([*records.grid(["linear"]), failed]), Path("elsewhere"))
    command, missing = again(runs, "python -m benchmark run", "some_vit", "pretrained")
    assert command == "python -m benchmark run --results elsewhere"
    assert missing == " with the --weights and --data of `run`"
    assert again(runs, "", "some_vit", "pretrained") == ("", "")


def test_nothing_but_failures_is_still_a_page():
    runs = records.frame([records.record(status="failed", reason="why", command="again")])
    assert "No run finished, so there is nothing to compare." in page(runs)


def test_protocols_that_differ_are_guarded():
    one = records.grid(["linear"], benchmarks=["camvid"])
    two = [
        item.model_copy(update={"protocol": item.protocol | {"steps": 900}, "protocol_hash": "ff"})
        for item in one
    ]
    found = protocols(records.frame([*one, *two]))
    assert found.settings[0].name == "steps" and found.settings[0].differs
    assert not any(setting.differs for setting in found.settings[1:])
    assert "2 protocols here, which differ in steps 150 and 900." in found.guard
    assert protocols(records.frame(one)).guard == ()


def test_other_data_under_one_name_is_told():
    runs = records.frame(records.grid(["linear", "norm"], benchmarks=["camvid"]))
    runs["provenance.data_sha256"] = ["aa", "bb"]
    assert any("different data under one benchmark" in text for text in protocols(runs).guard)


def test_no_folder_of_a_machine_is_told():
    runs = records.frame(records.grid(["linear"]))
    assert dict(provenance(runs))["Weights"] == "vit_tiny.safetensors"
    assert "/srv/weights" not in unpacked(page(runs))


def test_thinned_points_are_means_of_neighbours():
    assert thin([(i, 2.0 * i) for i in range(1, 7)], 3) == [(1.5, 3.0), (3.5, 7.0), (5.5, 11.0)]
    assert thin([(1, 5.0), (2, math.nan), (3, 7.0)], 9) == [(1.0, 5.0), (3.0, 7.0)]
    assert thin([], 9) == []
    assert len(thin([(i, 1.0) for i in range(12_345)])) <= 200


def test_published_numbers_stand_at_what_they_count():
    reference = pd.DataFrame(
        {
            "method": ["x", "y"],
            "backbone": "B",
            "decoder": "D",
            "miou": [0.5, 0.4],
            "params": [1e6, 2e6],
            "counts": ["total trainable", "backbone"],
            "source": "S",
        }
    )
    made = payload(records.frame(records.grid(["linear"])), reference=reference)["reference"]
    assert made["cost"] == ["costs.params.total_trainable", "costs.params.trained_backbone"]


def test_disagreement_counts_labelled_pixels_alone():
    label = np.array([[0, 0, 255, 1]], np.uint8)
    one, two = np.array([[0, 1, 0, 1]], np.uint8), np.array([[0, 0, 1, 1]], np.uint8)
    assert disagreement(label, [one, two]) == pytest.approx(1 / 3)
    assert (
        disagreement(label, [one]) == 0 and disagreement(np.full_like(label, 255), [one, two]) == 0
    )


def test_the_score_of_an_image_is_that_of_its_counts():
    label, found = np.random.default_rng(0).integers(0, 3, (2, 20, 20)).astype(np.uint8)
    label[:3] = 255
    known = label != 255
    hits = np.array([((label == k) & (found == k) & known).sum() for k in range(3)])
    unions = np.array([(((label == k) | (found == k)) & known).sum() for k in range(3)])
    assert image_miou(label, found) == pytest.approx((hits / unions).mean())
    assert math.isnan(image_miou(np.full((2, 2), 255, np.uint8), found[:2, :2]))


def test_pictures_hold_the_colours_of_the_classes():
    label = np.zeros((40, 80), np.uint8)
    label[:, 40:] = 1
    label[:4] = 255
    wrong = np.zeros_like(label)
    image = np.full((40, 80, 3), 90, np.uint8)
    colours = voc_colours()
    item = make_item("set", "one", image, label, {(KEY, "m"): wrong}, colours, ["a", "b"], side=40)
    truth = np.asarray(Image.open(io.BytesIO(item.truth)).convert("RGB"))
    assert truth.shape == (20, 40, 3) == (item.height, item.width, 3)
    assert (truth[-1, 0] == colours[0]).all() and (truth[-1, -1] == colours[1]).all()
    errors = np.asarray(Image.open(io.BytesIO(item.predictions[0].errors)).convert("RGBA"))
    assert errors[-1, 0, 3] == 0 and errors[-1, -1, 3] == 235 and errors[0, 0, 3] == 200
    assert item.classes == (("a", "#000000"), ("b", "#800000"))
    with pytest.raises(ValueError, match="differ in shape"):
        make_item("set", "one", image[:9], label, {}, colours, ["a", "b"])


def test_the_most_telling_images_are_kept_when_space_is_short():
    runs = records.frame(records.grid(SMALL))
    items = standin.pictures(runs, "camvid", images=3) + standin.pictures(runs, "pets", images=1)
    assert fitting(items) == sorted(items, key=lambda i: (i.benchmark, -i.disagreement))
    room = 2 * max(item.size for item in items)
    kept = fitting(items, room)
    assert sum(item.size for item in kept) <= room
    best = max(items[:3], key=lambda item: item.disagreement)
    assert [(item.benchmark, item.image) for item in kept] == [
        ("camvid", best.image),
        ("pets", items[3].image),
    ]


def test_the_page_asks_no_server():
    html = page(records.frame(records.grid(["linear"])))
    head = html[: html.index("<body>")]
    assert "default-src 'none'" in head and "connect-src" not in head
    own = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert not re.search(r"(src|href)=\"(?!#|data:)", own)


def test_equal_runs_give_equal_pages():
    runs = records.frame(records.grid(SMALL, seeds=2))
    found = standin.assess(runs)
    assert render("t", Runs(runs), found) == render("t", Runs(runs.copy()), found)


def test_groups_have_their_own_answers():
    runs = records.frame(records.grid(SMALL))
    both = pd.concat([runs, runs.assign(backbone="other")], ignore_index=True)
    assert both[GROUP].drop_duplicates().shape[0] == 2
    html = page(both)
    assert html.count('class="answer"') == 2
    assert "Do not compare scores between groups" in html


TIES = [0.77645, 0.7764999, 0.77650001, 0.3125, 0.7775, 0.0025, -0.0025, -0.0004, 0.61249999, 0.5]
"""Near or at where points are rounded up or down."""


def test_a_number_of_the_page_rounds_to_the_points_of_the_tables():
    shown = [human(value, "points") for value in numbers(TIES)]
    assert shown == [human(value, "points") for value in TIES]


def test_the_page_rounds_points_as_the_tables_do(chromium):
    core = (Path(page_module.__file__).parent / "static" / "core.js").read_text()
    begin = core.index("function pointsText")
    function = core[begin : core.index("\n}\n", begin) + 2]
    script = f"{function}; return arguments[0].map((value) => pointsText(100 * value))"
    assert chromium.execute_script(script, TIES) == [human(value, "points") for value in TIES]

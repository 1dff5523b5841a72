"""The verb `report`, typed as a user types it, on made-up records and counts."""

import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers import forked
from tests.helpers.pages import unpacked
from tests.helpers.records import record, write
from tests.helpers.simulated import World, write_grid

pytestmark = pytest.mark.no_torch

ROOT = Path(__file__).resolve().parents[2]
WORLD = World(classes=3)


@pytest.fixture
def results(tmp_path):
    methods = ["a", "b[rank=2]", "b[rank=4]"]
    write_grid(tmp_path / "r", methods, ["x", "y"], images=12, world=WORLD)
    return tmp_path / "r"


def start(results, *words):
    words = ["--suite", "small", "--results", results, "--out", results.parent / "out", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return forked.Running("report", *words, env=environment, cwd=results)


def call(results, *words):
    return start(results, *words).end()


@pytest.mark.slow
def test_a_report_with_published_numbers(results):
    published = results.parent / "x_theirs.csv"
    published.write_text(
        "method,backbone,decoder,miou,params_total_trainable_m,source\n"
        "theirs,ViT-L,UPerNet,51.5,3.2,A table of theirs\n"
    )
    done = call(results, "--reference", published)
    assert done.returncode == 0, done.stderr
    out = results.parent / "out" / "small"
    assert "95 % intervals cover variation between seeds and images" in done.stdout
    assert str(out / "index.html") in done.stdout.replace("\n", "")
    page = unpacked((out / "index.html").read_text(encoding="utf-8"))
    assert "A table of theirs" in page and "http-equiv" in page
    text = (out / "README.md").read_text()
    assert "3 seeds each" in text and "Partial" not in text
    assert "no run stored predictions" in text
    pictures = {path.stem for path in (out / "figures").iterdir()}
    assert {"pareto_stored", "ranks", "classes_x", "storage"} <= pictures
    # The numbers of the second call come from the file that the first one left.
    (kept,) = results.glob(".report-*/statistics.json")
    before = kept.stat().st_mtime_ns
    leaderboard = (out / "tables" / "leaderboard.csv").read_bytes()
    assert call(results, "--no-figures").returncode == 0
    assert kept.stat().st_mtime_ns == before
    assert (out / "tables" / "leaderboard.csv").read_bytes() == leaderboard
    assert not list((out / "figures").iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--reference", "nowhere.csv"], "nowhere.csv"),
        (["--suite", "smal"], "smal"),
        (["--json", "--watch"], "leave out --watch"),
        (["--data", "x", "--plugin", "nowhere.py"], "nowhere.py"),
    ],
)
def test_wrong_inputs_are_one_line(results, words, message):
    done = call(results, *words)
    assert done.returncode == 2, done.stdout
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0]
    assert not (results.parent / "out").exists()


def test_a_folder_without_runs_names_one_that_has_some(results):
    (results.parent / "wrong").mkdir()
    done = call(results.parent / "wrong", "--suite", "own")
    assert done.returncode == 2
    told = f"{results.parent}/wrong holds no runs; {results} holds some: add --results {results}"
    assert done.stderr == f"error: {told}\n"
    above = call(results.parent, "--suite", "small")
    assert above.stderr == f"error: {told.replace('/wrong', '')}\n"
    other = call(results, "--suite", "own")
    assert other.stderr == (
        f"error: {results} holds no runs of suite 'own', but of small; choose one with --suite\n"
    )


def test_json_is_the_whole_output_and_holds_the_leaderboard(results):
    done = call(results, "--json", "--no-figures", "--no-gallery")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert (content["schema"], content["suite"], content["title"]) == (1, "small", "x, y")
    (group,) = content["groups"]
    table = pd.read_csv(results.parent / "out" / "small" / "tables" / "leaderboard.csv")
    for row, line in zip(group["leaderboard"], table.to_dict("records"), strict=True):
        assert [row[name] for name in ("rank", "method")] == [line["rank"], line["method"]]
        for name in ("low", "high"):
            assert row[name] == pytest.approx(line[name])
        assert row["miou"] == pytest.approx(line["metrics.miou"])
        assert row["costs"]["costs.stored.bytes"] == line["costs.stored.bytes"]
    assert {row["benchmark"] for row in group["benchmarks"]} == {"x", "y"}
    assert group["answers"][0]["question"] == "Most accurate"
    assert group["seeds"].startswith("3 seeds of each method.") and content["failures"] == []
    assert all(Path(path).is_file() for path in content["files"])


def test_a_report_of_one_set_is_called_after_it(tmp_path):
    write_grid(tmp_path / "r", ["a"], ["camvid"], images=3, world=WORLD)
    done = call(tmp_path / "r", "--json", "--no-figures", "--no-gallery")
    assert json.loads(done.stdout)["title"] == "CamVid: road scenes from a driving car"


def test_json_of_one_run_is_its_record(results):
    folder = next(results.glob("small/*/*/*/*"))
    done = forked.call("show", folder.name, "--json", "--results", results)
    content = json.loads(done.stdout)
    assert content.pop("folder") == str(folder)
    assert content == json.loads((folder / "record.json").read_text())


@pytest.mark.slow
def test_a_report_that_is_watched_grows_with_the_grid(results):
    process = start(results, "--watch", "--no-figures")
    page = results.parent / "out" / "small" / "README.md"
    try:
        process.wait_until(page.exists)
        assert "partial" not in page.read_text()
        new = record("c", "x", backbone="net", protocol_hash="0123456789ab", miou=0.5)
        write([new], results)
        process.wait_until(lambda: page.exists() and "**Partial: " in page.read_text())
    finally:
        process.send_signal(signal.SIGINT)
    assert "Traceback" not in process.end(60).stderr

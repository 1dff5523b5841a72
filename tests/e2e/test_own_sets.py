"""A user's own photographs: from their description to a report, and the results on their own."""

import json
import re
import shutil

import pytest

from tests.helpers import reader
from tests.helpers.folders import plain
from tests.helpers.forked import call
from tests.helpers.tiny import typed

SETTINGS = "weights: weights\nresults: out\nreports: pages\n"
TINY = ("--methods=linear", "--seeds=0", *typed(steps=2, crop=36, batch_size=2))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with photographs of bolts, weights and settings, in which one cell has run."""
    home = reader.furnish(tmp_path_factory.mktemp("home"))
    (home / "petseg.yaml").write_text(f"plugins: bolts.yaml\n{SETTINGS}")
    done = call("run", *TINY, cwd=home)
    assert done.returncode == 0, done.stdout + done.stderr
    # From here on nothing names the description but the record.
    (home / "petseg.yaml").write_text(SETTINGS)
    return home, done


def test_the_suite_and_the_backbone_are_chosen_and_said(home):
    home, done = home
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("suite ")]
    assert said == (
        f"suite own, for sets of your own (bolts), backbone {reader.BACKBONE}: the first of the "
        "suite's list that is here (weights); --suite, --backbones choose others"
    )
    assert "`python -m benchmark report --suite own` makes the report" in done.stdout
    (path,) = (home / "out").rglob("record.json")
    record = json.loads(path.read_text())
    assert (record["suite"], record["benchmark"]) == ("own", "bolts")
    assert record["backbone"] == reader.BACKBONE
    assert record["plugins"]["benchmark"]["path"] == "../bolts.yaml"
    assert list(record["plugins"]) == ["benchmark"]


@pytest.mark.slow
def test_results_find_their_description_again_and_a_changed_one_is_named(home):
    home, _ = home
    report = ("report", "--no-figures")
    done = call(*report, cwd=home)
    assert done.returncode == 0, done.stderr
    assert "gallery" not in done.stdout and "open pages/own/index.html" in done.stdout
    planned = call("plan", "--benchmarks=bolts", *TINY, cwd=home)
    assert "1 run: 1 done" in planned.stdout, planned.stderr
    path = home / "bolts.yaml"
    before = path.read_text()
    path.write_text(f"{before}# a note\n")
    try:
        again = call(*report, cwd=home)
        refused = call("plan", "--benchmarks=bolts", *TINY, cwd=home)
        audit = call("data", "audit", "bolts", cwd=home)
    finally:
        path.write_text(before)
    named = (
        "comes from bolts.yaml, says a record in out; add --plugin bolts.yaml, which has changed"
    )
    assert again.returncode == 0 and f"no images in the gallery: it {named}" in again.stdout
    assert refused.returncode == 2
    assert refused.stderr == f"error: unknown benchmark 'bolts': it {named} since\n"
    assert audit.returncode == 2
    assert "bolts.yaml describes it; add --plugin bolts.yaml" in audit.stderr


@pytest.mark.slow
def test_a_renamed_class_costs_nothing_and_shows_under_its_new_name(home):
    home, _ = home
    text = (home / "bolts.yaml").read_text()
    (home / "renamed.yaml").write_text(text.replace("nut]", "nuts]"))
    plugin = ("--plugin", "renamed.yaml")
    planned = call("plan", *plugin, *TINY, cwd=home)
    said = "bolts: classes were renamed (nut -> nuts); finished runs still count\n"
    assert "1 run: 1 done" in planned.stdout and said in planned.stderr, planned.stdout
    done = call("report", "--no-figures", *plugin, cwd=home)
    assert done.returncode == 0 and said in done.stderr, done.stdout + done.stderr
    table = done.stdout[done.stdout.index("IoU per class: bolts") :]
    assert re.search(r"\bnuts\b", table) and not re.search(r"\bnut\b", table)
    # Other runs are made under the same version, also in processes that read the file anew, so
    # they are ranked with those that were there.
    more = ("--methods=linear,norm", *TINY[1:], *plugin)
    ran = call("run", *more, "--jobs=2", cwd=home)
    assert "2 runs selected: 1 already done, 1 to train" in ran.stdout, ran.stdout + ran.stderr
    again = call("plan", *more, cwd=home)
    assert "2 runs: 2 done" in again.stdout, again.stdout
    both = call("report", "--no-figures", *plugin, cwd=home).stdout
    assert len(re.findall("Leaderboard", both)) == 1
    for path in home.glob("out/own/bolts/*/norm*"):
        shutil.rmtree(path)


@pytest.mark.slow
def test_another_description_is_named_as_the_reason_why_runs_are_missing(home):
    home, _ = home
    text = (home / "bolts.yaml").read_text()
    (home / "other.yaml").write_text(f"{text}shorter_side: 40\n")
    said = (
        "1 run of bolts was made with another description of the set (its folder, splits, labels "
        "or size of images); `run` trains it again"
    )
    plugin = ("--plugin", "other.yaml")
    planned = call("plan", *plugin, *TINY, cwd=home)
    assert "1 missing (not run yet)" in planned.stdout and said in planned.stdout, planned.stderr
    as_json = call("plan", *plugin, *TINY, "--json", cwd=home)
    assert said in json.loads(as_json.stdout)["notes"]
    for words in (("report", "--no-figures"), ("report", "--no-figures", "--json")):
        done = call(*words, *plugin, cwd=home)
        assert done.returncode == 0 and said in done.stdout, done.stderr
    # The description that the run was made with has nothing to say.
    assert said not in call("report", "--no-figures", "--plugin", "bolts.yaml", cwd=home).stdout


@pytest.fixture
def small(tmp_path):
    """A folder with a set of images of 48 px, whose suite has crops of 96 px."""
    plain(tmp_path / "mine")
    text = "name: mine\nfolder: mine\nimages: photos\nmasks: masks\nclasses: [a, b, c]\n"
    (tmp_path / "mine.yaml").write_text(f"{text}splits: [0.6, 0.1, 0.3]\n")
    (tmp_path / "petseg.yaml").write_text("plugins: mine.yaml\nsuite: demo\n")
    return tmp_path


MINE = ("--benchmarks=mine", "--methods=linear", *typed(steps=1, batch_size=2))
SMALLER = (
    "mine: most images (48 px) are smaller than the crop (96 px), so about 75 % of a crop is "
    "padding; add --set crop=48"
)


def test_plan_and_audit_tell_images_smaller_than_the_crop(small):
    planned = call("plan", *MINE, "--json", cwd=small)
    assert json.loads(planned.stdout)["notes"] == [SMALLER]
    assert "crop of suite demo (96 px)" in call("data", "audit", "mine", cwd=small).stdout


@pytest.mark.slow
def test_plan_and_run_print_images_smaller_than_the_crop(small):
    assert SMALLER in call("plan", *MINE, cwd=small).stdout
    done = call("run", *MINE, cwd=small)
    assert done.returncode == 0 and SMALLER in done.stdout, done.stderr
    assert SMALLER not in call("run", *MINE, "--set=crop=48", cwd=small).stdout

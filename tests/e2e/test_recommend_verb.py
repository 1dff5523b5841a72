"""The verb `recommend`, as a user types it."""

import json
import re
import shlex

import pytest

from tests.helpers import reader
from tests.helpers.forked import call
from tests.helpers.simulated import World, write_grid
from tests.helpers.tiny import typed

PUBLISHED = ("--suite=small", "--results=results/published")
TINY = typed(steps=2, crop=36, batch_size=2)


def refused(done):
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


def test_published_records_say_what_to_take_and_how_to_train_it():
    done = call("recommend", *PUBLISHED, "--max-stored=1MB", "--max-trainable=300k", "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["limits"] == {"stored": "1MB", "trainable": "300k"}
    for group in content["groups"]:
        taken = group["recommended"]
        assert taken["costs"]["costs.stored.bytes"] <= 1e6
        assert taken["costs"]["costs.params.total_trainable"] <= 3e5
        assert "--max-stored 1MB" in group["excluded"]
        words = shlex.split(taken["command"])
        assert words[words.index("--methods") + 1] == taken["method"]
        assert words[words.index("--backbones") + 1] == group["backbone"]
    # In words, for a set that has no runs; of the two groups nobody fits in one.
    named = call("recommend", *PUBLISHED, "--benchmark=streets", "--max-stored=20kB").stdout
    assert "no method fits; nearest: linear, stored " in named and "take linear: " in named
    assert "to train it on streets:\n$ python -m benchmark run --suite small --benchmarks" in named
    # Published runs come without trained tensors, so nothing can be predicted with them.
    there = call("recommend", *PUBLISHED, "--benchmark=wbc").stdout
    assert "whose trained tensors are not here; to train it in a results folder of your" in there
    assert "predict" not in there
    assert not [line for line in there.splitlines() if line[0:1] == "$" and "--results" in line]
    told = json.loads(call("recommend", *PUBLISHED, "--benchmark=wbc", "--json").stdout)
    assert all("--results" not in one["recommended"]["command"] for one in told["groups"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*PUBLISHED, "--max-stored=10kB"], "no method fits --max-stored 10kB; nearest: linear, "),
        ([*PUBLISHED, "--max-latency=fast"], "--max-latency 'fast': write a number above 0"),
        ([*PUBLISHED, "--prefer=fast"], "--prefer 'fast': choose accurate or small"),
        ([*PUBLISHED, "--benchmark=nowhere"], "unknown benchmark 'nowhere'"),
        (["--results=nowhere"], "no run of suite 'demo' in nowhere; run"),
        (["--suite=nowhere", "--results=nowhere"], "unknown suite 'nowhere'"),
    ],
)
def test_wrong_input_is_one_line(words, message):
    assert message in refused(call("recommend", *words))


def test_a_limit_on_times_that_were_not_measured_says_how_to_measure(tmp_path):
    write_grid(tmp_path / "r", ["a", "b"], ["x"], images=5, world=World(classes=3))
    line = refused(call("recommend", "--results", "r", "--max-latency=1.2x", cwd=tmp_path))
    assert "not measured; measure it with `python -m benchmark timing --suite small" in line


@pytest.mark.slow
def test_own_images_to_the_printed_command(tmp_path):
    home = reader.furnish(tmp_path)
    own = ("--plugin=bolts.yaml", "--weights=weights")
    done = call("run", *own, "--methods=linear", "--seeds=0", *TINY, cwd=home)
    assert done.returncode == 0, done.stderr
    found = call("recommend", "--suite=own", "--weights=weights", cwd=home)
    assert found.returncode == 0, found.stderr
    given = call("recommend", "--plugin=bolts.yaml", "--weights=weights", cwd=home).stdout
    commands = [line for line in given.splitlines() if line.startswith("$ ")]
    assert [command.count("--plugin") for command in commands] == [1, 1]
    # The results folder knows which weights its runs were made with.
    assert (
        call("recommend", "--plugin=bolts.yaml", cwd=home).stdout
        == call("recommend", "--plugin=bolts.yaml", "--weights=weights", cwd=home).stdout
    )
    use, line = [line[2:] for line in found.stdout.splitlines() if line.startswith("$ ")]
    assert "trained on bolts already, as run " in found.stdout
    assert "only linear has finished, so there is nothing to compare it with" in found.stdout
    assert "Trained for 2 of the usual 200 steps" in found.stdout
    words = shlex.split(use)[3:]
    assert words[2] == "bolts/images/test"
    used = call(*words, cwd=home)
    assert used.returncode == 0 and any((home / words[words.index("--out") + 1]).rglob("*.png")), (
        used.stderr
    )
    # Labels of the set are no images.
    whole = call("predict", words[1], "bolts", "--out", "all", "--weights", "weights", cwd=home)
    assert "bolts/labels holds labels of the set, and is left out" in whole.stdout, whole.stderr
    assert {path.name for path in (home / "all/masks").iterdir()} == {"images"}
    # Without --weights, too: the grid knows them.
    at = words.index("--weights")
    bare = call(*words[:at], *words[at + 2 :], "--force", cwd=home)
    assert bare.returncode == 0, bare.stderr
    again = call(*shlex.split(line)[3:], cwd=home)
    assert again.returncode == 0 and "1 already done, 0 to train" in again.stdout, again.stderr
    shown = call("show", words[1], cwd=home).stdout
    assert re.search(r"again .* --weights weights\n", shown)
    # Where they have moved away the command says what to name, and so does its error.
    (home / "weights").rename(home / "elsewhere")
    moved = call("recommend", cwd=home)
    assert f"--weights DIR\n  DIR: the folder that holds {reader.BACKBONE}.saf" in moved.stdout
    lost = call(*words, cwd=home)
    assert lost.returncode == 2
    lost = refused(call(*words[:at], *words[at + 2 :], cwd=home))
    assert "needs the pretrained weights of" in lost and "random weights" not in lost

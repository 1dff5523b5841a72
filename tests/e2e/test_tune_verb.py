"""`tune` as a user types it: settings, tables and figure; one line for what is wrong."""

import json
import random
import shutil
import signal
import time

import pandas as pd
import pytest
import yaml
from filelock import FileLock

from tests.fault.torture import PLUGIN
from tests.helpers.forked import Running, call
from tests.helpers.tiny import typed

SEALED = PLUGIN.replace(
    "        rng =",
    '        assert not id.startswith("test/"), "the test split was opened"\n        rng =',
)
"""A set whose test images cannot be read."""
MORE = """

@register("second")
class Second(Tiny):
    pass


@register("blind")
class Blind(Tiny):
    def ids(self, split):
        return [] if split == "val" else super().ids(split)


from dataclasses import dataclass
from typing import ClassVar

import torch

from methods import METHODS
from methods import register as method


@method("breaks")
@dataclass(frozen=True, kw_only=True)
class Breaks(METHODS["bitfit"]):
    tunes: ClassVar[dict] = {"broken": (False, True)}
    broken: bool = False

    def auxiliary_loss(self, backbone, labels):
        return torch.tensor(float("nan")) if self.broken else None
"""
"""Another such set, one without validation images, and a method that diverges half of the time."""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    path = tmp_path_factory.mktemp("plugin") / "sealed.py"
    path.write_text(SEALED + MORE)
    return path


SMALL_CNN = ("--backbones", "resnet10t", "--weights", "none")


def words(plugin, folder, *more, steps=3, crop=36, methods="linear,breaks", trials=4):
    return (
        *("tune", "--plugin", plugin, "--suite", "demo", "--benchmarks", "tiny,second"),
        *("--methods", methods),
        *("--trials", trials, "--results", folder / "results", "--out", folder / "settings.yaml"),
        *typed(steps=steps, crop=crop, batch_size=2),
        *more,
    )


def refused(done, *texts):
    message = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 2 and len(message) == 1, done.stdout + done.stderr
    for text in texts:
        assert text in message[0], message


@pytest.fixture(scope="module")
def tuned(plugin, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    done = call(*words(plugin, folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_every_method_gets_the_same_trials_and_the_best_is_chosen(tuned):
    folder, _ = tuned
    trials = pd.read_csv(folder / "results/tuning/demo/trials.csv")
    assert trials.groupby("method").size().to_dict() == {"linear": 4, "breaks": 4}
    settings = yaml.safe_load((folder / "settings.yaml").read_text())
    assert settings["tuning"]["trials"] == 4 and settings["tuning"]["split"] == "val"
    assert list(settings["methods"]["demo_vit"]) == ["linear", "breaks"]
    for _, own in trials.groupby("method"):
        assert sorted(own["outcome"]) == ["chosen", "complete", "pruned", "pruned"]
        done = own[own["outcome"] != "pruned"]
        assert own.set_index("outcome").loc["chosen", "score"] == done["score"].max()
        assert own[own["outcome"] == "pruned"]["tiny"].max() <= done["tiny"].min()
        assert (done["score"] - done[["tiny", "second"]].mean(axis=1)).abs().max() < 1e-9


def test_a_trial_that_diverges_counts_and_scores_0(tuned):
    folder, printed = tuned
    trials = pd.read_csv(folder / "results/tuning/demo/trials.csv")
    broken = trials[trials["setting"].str.contains("broken=True")]
    assert len(broken) == 2 and (broken["tiny"] == 0).all()
    assert broken["problem"].str.contains("at step 1").all()
    assert "2 trials could not be trained" in printed


def test_what_tuning_is_worth_is_stored_and_drawn(tuned):
    folder, printed = tuned
    curve = pd.read_csv(folder / "results/tuning/demo/regret.csv")
    assert sorted(curve["trials"].unique()) == [1, 2, 4]
    one = curve[curve["trials"] == 1].set_index("method")["regret"]
    assert one["linear"] == 0 and one["breaks"] > one["linear"]
    assert (folder / "results/tuning/demo/regret.png").stat().st_size > 5000
    assert "best of 4" in printed


def test_the_test_split_stays_closed(tuned, plugin):
    """Test images raise when they are read: `tune` never notices, `run` does."""
    folder, _ = tuned
    records = [json.loads(path.read_text()) for path in folder.rglob("record.json")]
    assert records and {record["protocol"]["eval_split"] for record in records} == {"val"}
    opened = [record["execution"]["opened_splits"] for record in records if record["metrics"]]
    assert opened and all(split == {"val": 1} for split in opened)
    done = call(
        *("run", "--plugin", plugin, "--suite", "demo", "--benchmarks", "tiny"),
        *("--methods", "linear"),
        *("--results", folder / "other", *typed(steps=1, crop=36, batch_size=2)),
    )
    assert done.returncode == 1 and "the test split was opened" in done.stderr


def test_repeated_it_runs_nothing_and_says_the_same(tuned, plugin):
    folder, printed = tuned
    before = (folder / "settings.yaml").read_bytes()
    done = call(*words(plugin, folder))
    assert done.returncode == 0 and "mIoU 0" not in done.stdout and "step" not in done.stdout
    assert (folder / "settings.yaml").read_bytes() == before
    assert printed.endswith(done.stdout[-400:])


def test_trials_are_apart_from_results(tuned):
    from benchmark.results.index import read_index
    from benchmark.results.load import load_results

    results = tuned[0] / "results"
    assert load_results(results).empty and not read_index(results).entries
    assert len(load_results(results / "tuning")) == 8


@pytest.mark.slow
def test_run_takes_the_settings_and_its_records_say_so(tuned, plugin, tmp_path):
    grid = (
        *("run", "--benchmarks", "cells", "--methods", "linear", "--results", tmp_path),
        *typed(steps=1, crop=36, batch_size=2),
    )
    assert call(*grid).returncode == 0
    done = call(*grid, "--settings", tuned[0] / "settings.yaml", "--seeds", "0,1")
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(path.read_text()) for path in tmp_path.rglob("record.json")]
    # The run of before is not repeated; its record says so from now on.
    assert "1 already done, 1 to train" in done.stdout
    assert [record["tuning"]["trials"] for record in found] == [4, 4]
    assert found[0]["tuning"]["benchmarks"] == ["tiny", "second"]


def test_the_plan_runs_nothing(plugin, tmp_path):
    done = call(*words(plugin, tmp_path, "--plan"))
    assert done.returncode == 0 and "rounds: trials 4 on tiny; 2 on tiny, second" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("more", "texts"),
    [
        (("--trials", "0"), ["--trials", "must be at least 1"]),
        (("--benchmarks", "tiny,blind"), ["blind has no validation images"]),
        (("--set", "eval_split=test"), ["validation splits only"]),
        (("--methods", "lora[tokens=4]"), ["no field 'tokens'"]),
        (("--pruning", "some"), ["choose from halving, none"]),
        (("--jobs", "x"), ["--jobs 'x'"]),
        (("--out", "/nowhere/x.yaml"), ["no such folder"]),
    ],
)
def test_what_is_wrong_is_one_line(plugin, tmp_path, more, texts):
    refused(call(*words(plugin, tmp_path, *more)), *texts)
    assert not list(tmp_path.rglob("record.json"))


@pytest.mark.parametrize("line", ["fraction: 0.5", "settings: {}"])
def test_options_of_other_verbs_in_a_configuration_are_refused(tuned, plugin, tmp_path, line):
    config = tmp_path / "config.yaml"
    config.write_text(line.format(tuned[0] / "settings.yaml"))
    name = line.partition(":")[0]
    refused(call(*words(plugin, tmp_path, "--config", config)), f"takes no {name}")


@pytest.mark.slow
def test_a_method_that_cannot_act_on_the_backbone_is_left_out(plugin, tmp_path):
    methods = "vpt[depth=shallow],linear"
    done = call(*words(plugin, tmp_path, *SMALL_CNN, methods=methods, trials=1, crop=64))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "unsupported: vpt[depth=shallow] on resnet10t" in done.stdout
    settings = yaml.safe_load((tmp_path / "settings.yaml").read_text())
    assert list(settings["methods"]["resnet10t"]) == ["linear"]


@pytest.mark.parametrize(
    ("more", "texts"),
    [
        (("--trials", "8"), ["has linear on demo_vit with trials 4, not 8"]),
        (("--set", "flip=false"), ["protocol.flip true, not false", "--results DIR"]),
    ],
)
def test_a_journal_of_another_study_is_refused(tuned, plugin, more, texts):
    before = (tuned[0] / "results/tuning/demo/journal.log").read_bytes()
    refused(call(*words(plugin, tuned[0], *more)), *texts)
    assert (tuned[0] / "results/tuning/demo/journal.log").read_bytes() == before


def test_trials_of_other_code_are_refused(tuned, plugin, tmp_path):
    shutil.copytree(tuned[0] / "results", tmp_path / "results")
    changed = tmp_path / "sealed.py"
    changed.write_text(plugin.read_text().replace('float("nan")', 'float("inf")'))
    refused(call(*words(changed, tmp_path)), "cannot be compared with new ones", "--results DIR")


def test_one_folder_is_one_command_s_at_a_time(plugin, tmp_path):
    folder = tmp_path / "results/tuning/demo"
    folder.mkdir(parents=True)
    with FileLock(folder / ".tune.lock"):
        refused(call(*words(plugin, tmp_path)), "another `tune` works in", "--results DIR")


@pytest.mark.slow
def test_a_signal_says_how_to_resume(plugin, tuned, tmp_path):
    process = Running(*words(plugin, tmp_path))
    process.wait_for("breaks[")
    process.send_signal(signal.SIGINT)
    done = process.end(120)
    assert done.returncode == 130 and "Traceback" not in done.stderr, done.stderr
    assert "stopped by SIGINT; to resume, repeat the command" in done.stdout
    assert not (tmp_path / "settings.yaml").exists()
    again = call(*words(plugin, tmp_path))
    assert again.returncode == 0, again.stdout + again.stderr
    assert outcome(tmp_path) == outcome(tuned[0])


def outcome(folder):
    """All that `tune` leaves but for times: settings, tables, and the journal's trials."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    tuning = folder / "results/tuning/demo"
    storage = JournalStorage(JournalFileBackend(str(tuning / "journal.log")))
    journal = {
        name: [
            (t.number, t.params, t.state, t.value, t.intermediate_values)
            for t in optuna.load_study(study_name=name, storage=storage).trials
        ]
        for name in sorted(optuna.get_all_study_names(storage))
    }
    names = ("trials.csv", "regret.csv", "regret.png")
    files = [(tuning / name).read_bytes() for name in names]
    return (folder / "settings.yaml").read_bytes(), files, journal


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_ten_times_it_chooses_the_same(plugin, tuned, tmp_path, jobs):
    chance, kills, rounds = random.Random(jobs), 0, 0
    while kills < 10:
        folder = tmp_path / str(rounds)
        folder.mkdir(exist_ok=True)
        process = Running(*words(plugin, folder, "--jobs", jobs))
        deadline = time.monotonic() + chance.uniform(0.5, 4)
        while process._process.exitcode is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if process._process.exitcode is None:
            process.send_signal(signal.SIGKILL)
            process.end(60)
            kills += 1
        else:  # it has ended before all kills were made: the rest is for another folder
            done = process.end(1)
            assert done.returncode == 0, done.stdout + done.stderr
            assert outcome(folder) == outcome(tuned[0])
            rounds += 1
    done = call(*words(plugin, folder, "--jobs", jobs))
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcome(folder) == outcome(tuned[0])


def test_half_a_line_at_the_end_of_the_journal_is_no_harm(tuned, plugin):
    path = tuned[0] / "results/tuning/demo/journal.log"
    before = outcome(tuned[0])
    with path.open("ab") as file:
        file.write(b'{"op_code": 5, "wor')
    assert call(*words(plugin, tuned[0])).returncode == 0
    assert outcome(tuned[0]) == before


def test_a_damaged_journal_is_one_line(plugin, tmp_path):
    folder = tmp_path / "results/tuning/demo"
    folder.mkdir(parents=True)
    (folder / "journal.log").write_text("what\nis\nthis\n")
    refused(call(*words(plugin, tmp_path)), "journal.log is damaged")

"""`plan` and `reproduce` as a user meets them: subprocesses, exit codes, what is printed."""

import io
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.helpers import forked
from tests.helpers.tiny import typed

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "results" / "published" / "demo"
TINY = (*typed(steps=2, crop=48, batch_size=2), "--benchmarks=cells")

METHOD = """
from dataclasses import dataclass
from methods.base import Method, register

@register("biases-of-mine")
@dataclass(frozen=True, kw_only=True)
class Mine(Method):
    lr: float = 1e-3

    def _apply(self, backbone, num_classes):
        for name, parameter in backbone.model.named_parameters():
            parameter.requires_grad_(name.endswith("bias"))
"""


def call(*arguments):
    return forked.call(*arguments, env=forked.clean(BENCHMARK_CACHE="none"))


def stdout(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A results folder with one done and one failed run, and the file of the done one's method."""
    place = tmp_path_factory.mktemp("plan")
    plugin = place / "mine.py"
    plugin.write_text(METHOD)
    chosen = (*TINY, "--plugin", plugin, "--results", place / "results")
    done = call("run", "--methods", "biases-of-mine,biases-of-mine[lr=1e30]", *chosen)
    assert done.returncode == 1, done.stdout + done.stderr
    return place, plugin, chosen


def record_of(place, status):
    paths = (place / "results").rglob("record.json")
    (found,) = (p for p in paths if json.loads(p.read_text())["status"] == status)
    return found


def test_without_results_everything_is_missing_and_nothing_is_written(tmp_path):
    told = stdout(call("plan", "--results", tmp_path / "r"))
    assert "30 runs: 30 missing (not run yet)" in told
    assert "training: 80 steps of 8 crops of 96 px, linear decoder" in told
    # What published runs took is all that is known of this suite.
    assert re.search(r"30 runs to train: at least \d+ min, ", told)
    alone = stdout(call("plan", "--results", tmp_path / "r", "--jobs=1"))
    three = stdout(call("plan", "--results", tmp_path / "r", "--jobs=3"))
    assert re.search(r"at least \d+ min, one after another on an idle machine", alone)
    assert re.search(r"at least \d+ min, [23] at a time on an idle machine", three)
    assert "Rough estimate, from published runs on AMD EPYC" in told and "add --probe" in told
    assert not (tmp_path / "r").exists()


def test_what_no_published_run_tells_has_no_estimate(tmp_path):
    words = ("--methods=linear", "--backbones=resnet10t", "--weights=none", *TINY)
    told = stdout(call("plan", *words, "--results", tmp_path / "r"))
    assert "No time estimate yet; add --probe." in told and "Rough" not in told


def test_many_cells_are_counted_and_listed_only_when_asked_for(tmp_path):
    many = ("--seeds", ",".join(map(str, range(8))), "--results", tmp_path / "r")
    told = stdout(call("plan", *many))
    assert "240 runs: 240 missing" in told and "add --all to list them" in told
    assert not re.search(r"missing +streets", told)
    every = stdout(call("plan", "--all", *many))
    assert len(re.findall(r"missing +(streets|cells)", every)) == 96


def test_done_failed_and_missing_with_a_forecast(ran):
    _, _, chosen = ran
    methods = "biases-of-mine,biases-of-mine[lr=1e30],linear"
    told = stdout(call("plan", "--methods", methods, *chosen))
    assert re.search(r"3 runs: 1 done, 1 (nan \(diverged\)|failed), 1 missing", told)
    assert "1 unsuccessful run: repeat with --retry" in told
    # The only run of this backbone tells what the missing cell will take.
    train = r"1 run to train: at least \d+ s, one after .*; peak memory of a run .*, disk"
    assert re.search(train, told)
    assert "Rough" not in told
    assert "cannot be checked" not in told and "will not fit" not in told


def test_a_method_that_was_edited_leaves_its_runs_stale(ran, tmp_path):
    place, plugin, chosen = ran
    try:
        plugin.write_text(METHOD + "\nOTHER = 1\n")
        told = stdout(call("plan", "--methods", "biases-of-mine", *chosen))
    finally:
        plugin.write_text(METHOD)
    assert "1 run: 1 stale" in told
    assert "stale: 1 run, because the method's code has changed" in told
    older = tmp_path / "results"
    shutil.copytree(place / "results", older)
    path = record_of(tmp_path, "done")
    content = json.loads(path.read_text())
    content["provenance"]["method_sha256"] = None
    path.write_text(json.dumps(content))
    told = stdout(
        call("plan", "--methods", "biases-of-mine", *TINY, "--plugin", plugin, "--results", older)
    )
    assert "1 run: 1 done" in told and "1 finished run cannot be checked for changes" in told


def test_what_another_command_trains_is_told(tmp_path):
    from benchmark.planning.plan import Selection, plan
    from benchmark.results import lock

    chosen = ("--methods=linear,lora", *TINY, "--results", tmp_path)
    runs = json.loads(stdout(call("plan", *chosen, "--json")))["runs"]
    cell = plan(Selection(methods="linear", benchmarks="cells"))[0]
    held = cell.folder.with_name(runs[0]["run_id"])
    with lock.hold_run(tmp_path / held):
        assert "1 of these runs is being trained by another command" in stdout(
            call("plan", *chosen)
        )
    assert "being trained" not in stdout(call("plan", *chosen))


def test_a_probe_measures_and_stores_nothing(tmp_path):
    told = stdout(call("plan", "--methods", "linear", *TINY, "--probe", "--results", tmp_path))
    assert re.search(r"probe: linear on cells, demo_vit: [\d.e+]+ images/s, [\d.]+ MB", told)
    assert "1 run to train: at least" in told and "Rough" not in told
    assert re.search(r"^ linear +\d.* s +[\d.]+ MB +[\d.]+ kB", told, re.M)
    assert not list(tmp_path.iterdir())


def test_a_probe_has_the_threads_of_one_process_of_run(monkeypatch):
    import torch
    from rich.console import Console

    from benchmark.cli import forecasts
    from benchmark.execution import jobs, probe
    from benchmark.planning.plan import Selection, plan

    monkeypatch.setattr(jobs, "share", lambda *_: jobs.Share(2, 1, ("cpu",)))
    monkeypatch.setattr(probe, "probe", lambda *_: (None, f"{torch.get_num_threads()} threads"))
    request = SimpleNamespace(device="cpu", data=None, weights=())
    console, former = Console(file=io.StringIO()), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        cells = plan(Selection(methods="linear", benchmarks="cells"))
        assert forecasts.probed(console, request, cells, [], None) == []
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(former)
    assert "demo_vit: 1 threads" in console.file.getvalue()


def busy():
    import os

    os.getloadavg = lambda: (5.0, 1.0, 1.0)


def idle():
    import os

    os.getloadavg = lambda: (0.1, 5.0, 5.0)


def test_a_forecast_says_that_the_machine_is_busy(tmp_path):
    words = ("plan", "--methods=linear", *TINY, "--device=cpu", "--results", tmp_path)
    env = forked.clean(OMP_NUM_THREADS="1")
    told = {load: stdout(forked.call(*words, env=env, prepare=load)) for load in (busy, idle)}
    assert re.search(r"This machine is busy now \(load 5\.0 on \d+ cores?\), so it may", told[busy])
    assert "busy" not in told[idle]


def test_a_probe_that_fails_says_why(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(METHOD.replace("for name", "raise MemoryError('too much')\n        for name"))
    told = stdout(
        call("plan", "--methods", "biases-of-mine", *TINY, "--probe", "--plugin", plugin,
             "--results", tmp_path / "r")
    )  # fmt: skip
    assert "probe: biases-of-mine on cells, demo_vit: MemoryError: too much" in told
    assert "Rough estimate" in told


def test_json_is_one_document_with_the_states_and_the_forecast(ran):
    _, _, chosen = ran
    methods = "biases-of-mine,biases-of-mine[lr=1e30],linear"
    done = call("plan", "--methods", methods, *chosen, "--json")
    found = json.loads(stdout(done))
    keys = ["suite", "results", "runs", "counts", "notes", "cannot_run", "downloads", "forecast"]
    assert list(found) == keys
    states = {row["method"]: row["state"] for row in found["runs"]}
    assert states["biases-of-mine"] == "done" and states["linear"] == "missing"
    assert sum(found["counts"].values()) == len(found["runs"]) == 3
    forecast = found["forecast"]
    assert (forecast["runs"], forecast["without_estimate"], forecast["rough"]) == (1, 0, 0)
    assert forecast["device_seconds"] > 0 and forecast["disk_bytes"] > 0
    assert found["cannot_run"] == found["downloads"] == [] and done.stderr == ""


def test_json_with_a_probe_keeps_its_lines_off_the_document(tmp_path):
    chosen = ("--methods=full,lora", *TINY, "--results", tmp_path)
    done = call("plan", *chosen, "--probe", "--json")
    forecast = json.loads(stdout(done))["forecast"]
    assert forecast["rough"] == 0 and "probe: lora on cells" in done.stderr
    stdout(call("run", *chosen))
    stored = {path.parents[1].name: path.stat().st_size for path in tmp_path.rglob("delta.*")}
    told = {one["method"]: one["stored_bytes"] for one in forecast["each"]}
    assert told == stored and told.keys() == {"full", "lora"}


def unreachable():
    from benchmark.models import weights

    weights._hub_answers = lambda _: False
    weights._hub_cached = lambda _: None


@pytest.mark.parametrize(
    "wrong",
    [
        ("--backbones=resnet10t",),
        ("--backbones=vit_tiny_patch16_224.no_such_tag",),
        ("--suite=small", "--backbones=demo_vit", "--set=crop=96"),
        ("--suite=small", "--backbones=demo_vit", "--set=crop=96", "--data=no/such"),
        ("--weights=no/such",),
        ("--device=abacus",),
    ],
    ids=" ".join,
)
def test_plan_refuses_what_run_refuses_in_the_same_words(tmp_path, wrong):
    words = ("--methods=linear", *wrong, "--results", tmp_path / "r")
    planned, ran = (
        forked.call(verb, *words, env=forked.clean(), prepare=unreachable)
        for verb in ("plan", "run")
    )
    assert planned.returncode == ran.returncode == 2, planned.stdout + ran.stdout
    assert planned.stderr == ran.stderr and planned.stderr.count("\n") == 1


def test_a_backbone_without_weights_stops_no_other(tmp_path):
    words = ("--methods=linear", *TINY, "--backbones=demo_vit,resnet10t", "--results", tmp_path)
    told = forked.call("plan", *words, env=forked.clean(), prepare=unreachable)
    assert "cannot run (1 run): no pretrained weights for backbone 'resnet10t'" in stdout(told)
    assert "1 run to train" in told.stdout


def test_a_run_is_reproduced_bit_for_bit(ran):
    place, plugin, _ = ran
    path = record_of(place, "done")
    before = sorted(place.rglob("*"))
    told = stdout(
        call("reproduce", path.parent.name[:8], "--results", place / "results", "--plugin", plugin)
    )
    assert "identical bit for bit" in told and "differs:" not in told
    assert re.search(r"0 of \d+ images differ", told)
    assert sorted(place.rglob("*")) == before


@pytest.mark.slow
def test_other_counts_are_outside_and_what_differs_is_named(ran, tmp_path):
    import numpy as np

    place, plugin, _ = ran
    shutil.copytree(place / "results", tmp_path / "results")
    path = record_of(tmp_path, "done")
    content = json.loads(path.read_text())
    content["provenance"]["packages"]["torch"] = "0.1"
    path.write_text(json.dumps(content))
    with np.load(path.with_name("images.npz")) as archive:
        counts = dict(archive)
    # As if every image had been segmented without a fault.
    counts["prediction"] = counts["intersection"] = counts["label"]
    np.savez_compressed(path.with_name("images.npz"), **counts)
    again = ("reproduce", path.parent.name, "--results", tmp_path / "results")
    done = call(*again, "--plugin", plugin)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "OUTSIDE the recorded interval" in done.stdout
    assert "differs: torch: 0.1 -> " in done.stdout


def test_what_cannot_be_reproduced_is_refused_in_one_line(ran):
    place, plugin, _ = ran
    results = ("--results", place / "results")
    failed = next(
        p for p in (place / "results").rglob("record.json") if "lr=1e+30" in p.read_text()
    )
    for arguments, words in (
        ((failed.parent.name, *results, "--plugin", plugin), "nothing to compare with"),
        (
            (record_of(place, "done").parent.name, *results),
            "'biases-of-mine' comes from mine.py",
        ),
    ):
        done = call("reproduce", *arguments)
        assert done.returncode == 2, done.stdout + done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.strip()]
        assert line.startswith("error: ") and words in line


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="no published results here")
def test_seeds_that_tell_a_difference_are_estimated_from_published_runs(tmp_path):
    grid = ("plan", "--benchmarks", "cells,streets", "--seeds", "0,1,2", "--detect", "2")
    done = forked.call(*grid, "--methods", "lora,spm", "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "seeds for 2 points" in done.stdout and "PUBLISHED runs of demo" in done.stdout
    row = next(line for line in done.stdout.splitlines() if "average of 2" in line)
    assert row.split()[3] == "64"  # test images
    assert "2 points between a typical pair of lora and spm" in done.stdout
    done = forked.call(*grid, "--methods", "lora,spm", "--weights", "none", "--results", tmp_path)
    assert done.returncode == 0 and "run two methods with two seeds first" in done.stdout
    done = forked.call("plan", "--detect", "0", "--results", tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="no published results here")
def test_two_seeds_estimate_no_number_of_seeds(tmp_path):
    for path in PUBLISHED.glob("cells/demo_vit/*/*/record.json"):
        made = json.loads(path.read_text())
        if made["method"] in ("lora", "spm") and made["seed"] < 2:
            place = tmp_path / "demo" / path.parent.relative_to(PUBLISHED)
            shutil.copytree(path.parent, place)
    grid = ("--benchmarks=cells", "--methods=lora,spm", "--seeds=0,1", "--results", tmp_path)
    told = stdout(forked.call("plan", *grid, "--detect=1", env=forked.clean()))
    (row,) = [line for line in told.splitlines() if re.match(r" *cells +\d+ ", line)]
    assert row.split()[2:] == ["not", "known", "not", "known"]
    assert "2 seeds are too few for an estimate; to add 2: `python -m benchmark run" in told

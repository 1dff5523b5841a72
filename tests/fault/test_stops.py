"""Whatever stops a run: memory, numbers, time, signals, kills. Nothing is lost, and all is told."""

import json
import os
import resource
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.core import files
from benchmark.core.errors import UserError
from benchmark.core.interrupt import StopSignal
from benchmark.engine import checkpoint
from benchmark.execution import cell, grid
from benchmark.planning.plan import plan
from benchmark.results import asked, index, store
from tests.helpers import forked
from tests.helpers.tiny import of_the_dead, run, same, select, typed

pytestmark = pytest.mark.usefixtures("tiny", "strange")

ROOT = Path(__file__).resolve().parents[2]


def test_half_the_batch_where_memory_runs_out(tmp_path):
    (record,) = run(tmp_path, select("strange[largest=1]"))
    assert record.status == "done"
    assert record.execution.micro_batch == 1
    (whole,) = run(tmp_path / "whole", select("strange"))
    assert whole.execution.micro_batch == 4
    # The memory of training is that of the parts.
    held, all_at_once = (one.costs.train.memory for one in (record, whole))
    assert held.peak_bytes < all_at_once.peak_bytes
    assert held.activation_bytes < all_at_once.activation_bytes
    # The same effective batch: the same losses to rounding.
    curves = [
        [json.loads(line)["loss"] for line in path.read_text().splitlines()]
        for path in sorted(tmp_path.rglob("curve.jsonl"))
    ]
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-4)


def test_not_even_one_image(tmp_path):
    (record,) = run(tmp_path, select("strange[largest=0]"))
    assert record.status == "oom" and "single image does not fit at step 1" in record.reason
    assert "OutOfMemory" in record.traceback
    assert run(tmp_path, select("strange[largest=0]")) == []
    assert run(tmp_path, select("strange[largest=0]"), retry="failed") == []
    (again,) = run(tmp_path, select("strange[largest=0]"), retry="oom")
    assert again.status == "oom"


def test_a_loss_that_is_no_number_names_step_and_images(tmp_path):
    (record,) = run(tmp_path, select("strange[nan_at=3]"))
    assert record.status == "nan"
    assert "at step 3" in record.reason and record.reason.count("train/") == 4
    assert "\n" not in record.reason


def test_time_is_over_and_more_time_goes_on(tmp_path):
    cell = plan(select(steps=40))[0]
    (record,) = run(tmp_path, select(steps=40), max_seconds=0.05)
    assert record.status == "timeout" and "over 0.05 s" in record.reason
    assert not store.is_done(tmp_path, cell)
    assert run(tmp_path, select(steps=40)) == []
    (again,) = run(tmp_path, select(steps=40), retry="failed")
    assert again.status == "done" and again.execution.resumed_at[0] > 0
    run(tmp_path / "calm", select(steps=40))
    same(tmp_path, tmp_path / "calm", cell)
    assert not list(tmp_path.rglob(".*.checkpoint")) and not list(tmp_path.rglob(".*.lock"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04evil", os.urandom(300)])
def test_a_damaged_checkpoint_is_set_aside(tmp_path, content):
    cell = plan(select())[0]
    path = (tmp_path / cell.folder).with_name(f".{cell.run_id}.checkpoint")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    (record,) = run(tmp_path, select())
    assert record.status == "done" and record.execution.resumed_at == ()
    assert path.with_name(f"{path.name}.broken").read_bytes() == content


def test_a_checkpoint_of_other_code_is_not_taken(tmp_path):
    path = tmp_path / "c"
    content = {"progress": vars(checkpoint.TrainState({"run": "a", "code": "old"})), "tensors": {}}
    content |= {key: {} for key in ("optimiser", "schedule", "method", "evaluated", "random")}
    torch.save(content, path)
    assert checkpoint.load(path, {"run": "a", "code": "old"}) is not None
    with pytest.warns(UserWarning, match=r"of a run with other code; it is kept as c\.broken"):
        assert checkpoint.load(path, {"run": "a", "code": "new"}) is None
    assert not path.exists()


@pytest.mark.slow
def test_every_random_stream_goes_on(tmp_path):
    chosen = select("strange[noise=0.5]", steps=12)
    cell = plan(chosen)[0]
    run(tmp_path / "calm", chosen)
    for _ in range(4):
        (record,) = run(tmp_path, chosen, max_seconds=0.001, retry="all")
        assert record.status == "timeout"
    (record,) = run(tmp_path, chosen, retry="all")
    assert record.execution.resumed_at == (1, 2, 3, 4)
    same(tmp_path, tmp_path / "calm", cell)


def words(tiny, results, *more, steps=60):
    sizes = typed(steps=steps, crop=36, batch_size=4)
    return (
        "run",
        "--plugin",
        tiny,
        "--suite=demo",
        "--benchmarks",
        "tiny",
        "--results",
        results,
        *sizes,
        *more,
    )


def process_env():
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def succeeds(*arguments, **options):
    done = forked.call(*arguments, env=process_env(), **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
def test_a_signal_saves_and_leaves(tiny, tmp_path, number, code):
    arguments = words(tiny, tmp_path, "--methods", "linear,bitfit")
    process = forked.Running(*arguments, env=process_env())
    process.wait_for("step")
    process.send_signal(number)
    done = process.end(60)
    assert done.returncode == code, done.stdout + done.stderr
    assert "interrupted" in done.stdout and "to resume, repeat the command" in done.stdout
    assert "Traceback" not in done.stderr
    records = [json.loads(path.read_text()) for path in tmp_path.rglob("record.json")]
    assert [record["status"] for record in records] == ["interrupted"]
    assert "to resume, repeat the command" in records[0]["reason"]
    succeeds(*arguments)
    records = [json.loads(path.read_text()) for path in tmp_path.rglob("record.json")]
    assert [record["status"] for record in records] == ["done", "done"]
    assert sum(len(record["execution"]["resumed_at"]) for record in records) == 1


@pytest.mark.slow
def test_two_processes_share_the_cells(tiny, tmp_path):
    arguments = words(tiny, tmp_path, "--methods", "linear", "--seeds", "0,1,2,3")
    processes = [forked.Running(*arguments, env=process_env()) for _ in range(2)]
    both = [process.end(200) for process in processes]
    assert [done.returncode for done in both] == [0, 0], both
    told = [line for done in both for line in done.stdout.splitlines() if line.startswith("[")]
    own = [line for line in told if not line.endswith("(by another command)")]
    assert len(own) == 4 and len(told) <= 8, both
    assert len(list(tmp_path.rglob("record.json"))) == 4


def test_a_failed_attempt_leaves_a_finished_run_as_it_was(tmp_path):
    cell = plan(select())[0]
    run(tmp_path, select())
    before = (tmp_path / cell.folder / "record.json").read_bytes()
    (record,) = grid.run_cells(
        [cell], tmp_path, device="cpu", watch=StopSignal(0.0001), rerun={cell.run_id}
    )
    assert record.status == "timeout"
    assert (tmp_path / cell.folder / "record.json").read_bytes() == before


def test_the_test_split_is_sealed_for_selection(tmp_path, monkeypatch):
    from benchmark.data.base import seal_test
    from benchmark.data.cache import open_split
    from benchmark.execution import splits
    from benchmark.planning.catalogue import BENCHMARKS

    asked = []
    real = splits.open_split
    monkeypatch.setattr(splits, "_OPEN", {})
    monkeypatch.setattr(
        splits,
        "open_split",
        lambda b, split, *rest: asked.append(split) or real(b, split, *rest),
    )
    (record,) = run(tmp_path, select(eval_split="val"))
    assert record.status == "done" and set(asked) == {"train", "val"}
    assert record.execution.opened_splits == {"val": 1}
    splits.decoded("tiny", None, "test")  # open already
    with seal_test():
        for read in (
            lambda: splits.decoded("tiny", None, "test"),
            lambda: open_split(BENCHMARKS.get("tiny")(), "test"),
        ):
            with pytest.raises(RuntimeError, match="sealed"):
                read()


def test_evaluating_again_is_counted(tmp_path):
    cell = plan(select())[0]
    (first,) = run(tmp_path, select())
    assert first.execution.opened_splits == {"test": 1}
    assert grid.run_cells([cell], tmp_path, device="cpu") == []
    (second,) = grid.run_cells([cell], tmp_path, device="cpu", rerun={cell.run_id})
    assert second.execution.opened_splits == {"test": 2}


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path, monkeypatch):
    (done, todo) = plan(select(seeds=(0, 1)))
    run(tmp_path, select())
    before = (tmp_path / done.folder / "record.json").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "write_counts", full)
    with pytest.raises(UserError, match=r"No space left on device.*make room"):
        run(tmp_path, select(seeds=(0, 1)))
    assert (tmp_path / done.folder / "record.json").read_bytes() == before
    assert not (tmp_path / todo.folder).exists()
    monkeypatch.undo()
    (record,) = run(tmp_path, select(seeds=(0, 1)))
    assert record.status == "done" and record.execution.resumed_at == (6,)


def test_a_folder_removed_under_the_run_is_one_line(tmp_path, monkeypatch):
    import shutil

    real = store.write_curve

    def gone(folder, curve):
        shutil.rmtree(tmp_path / "results")
        real(folder, curve)

    monkeypatch.setattr(store, "write_curve", gone)
    with pytest.raises(UserError, match="removed"):
        run(tmp_path / "results", select())


@pytest.mark.slow
def test_a_torture_of_a_few_kills():
    words = ("--kills", "3", "--processes", "2", "--steps", "8", "--seeds", "1")
    result = subprocess.run(
        [sys.executable, ROOT / "tests/fault/torture.py", *words],
        capture_output=True,
        text=True,
        timeout=500,
        env=process_env(),
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "nothing was lost" in result.stdout


@pytest.mark.slow
def test_a_cell_whose_method_changed_is_told_and_run_again(tiny, tmp_path):
    method = tmp_path / "mine.py"
    source = (
        "from dataclasses import dataclass\n"
        "from methods.base import METHODS, register\n"
        "\n\n"
        '@register("mine")\n'
        "@dataclass(frozen=True, kw_only=True)\n"
        'class Mine(METHODS["linear"]):\n'
        '    """Mine."""\n'
    )
    method.write_text(source)
    more = ("--plugin", method, "--methods", "mine,linear")
    call = partial(succeeds, *words(tiny, tmp_path / "r", *more, steps=3))
    call()
    assert "stale" not in call()
    method.write_text(source.replace("Mine.", "Other words."))
    assert "stale" not in call()
    method.write_text(source + "    changed = True\n")
    told = call()
    assert "1 finished run is stale: the method's code has changed" in told
    assert "0 to train" in told
    assert "1 to train" in call("--rerun", "stale")
    assert "stale" not in call()


@pytest.mark.slow
def test_a_disk_quota_that_is_really_full(tiny, tmp_path):
    """No file may grow over 1 MB, so that the weights of all layers cannot be stored."""
    arguments = words(tiny, tmp_path / "r", "--methods", "linear,full", steps=2)
    environment = process_env() | {"BENCHMARK_CACHE": str(tmp_path / "cache")}
    limited = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1000 * 1024, 1000 * 1024))
    done = forked.call(*arguments, env=environment, prepare=limited)
    assert done.returncode == 2, done.stdout + done.stderr
    message = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(message) == 1 and "File too large" in message[0] and "make room" in message[0]
    assert "Traceback" not in done.stderr
    records = [json.loads(path.read_text()) for path in (tmp_path / "r").rglob("record.json")]
    assert [record["method"] for record in records] == ["linear"]
    left = {path.name for path in (tmp_path / "r").rglob(".*")} - {index.NAME, asked.NAME}
    assert {name.split(".")[-1] for name in left} <= {"checkpoint", "opened"}
    again = forked.call(*arguments, env=environment)
    assert again.returncode == 0, again.stdout + again.stderr


@pytest.mark.parametrize("name", ["../../escape", "/etc/passwd", ".hidden", "a/b", "a\nb", ".."])
def test_no_name_leads_out_of_the_results(name):
    spec = plan(select())[0]
    other = spec.model_copy(update={"backbone": name})
    assert len(other.folder.parts) == 5
    assert not any(part.startswith(".") for part in other.folder.parts)
    assert "\n" not in str(other.folder)
    usual = spec.model_copy(update={"backbone": "vit_tiny_patch16_224.augreg_in21k_ft_in1k"})
    assert usual.folder.parts[2] == "vit_tiny_patch16_224.augreg_in21k_ft_in1k"


def test_what_another_process_finishes_while_the_data_are_read_is_not_run_again(
    tmp_path, monkeypatch
):
    cell = plan(select())[0]
    real = grid.preflight

    def slow(*arguments):
        monkeypatch.setattr(grid, "preflight", real)
        run(tmp_path, select())  # the other process
        return real(*arguments)

    monkeypatch.setattr(grid, "preflight", slow)
    assert grid.run_cells([cell], tmp_path, device="cpu") == []


def test_a_finished_run_survives_a_failing_rename(tmp_path, monkeypatch):
    cell = plan(select())[0]
    run(tmp_path, select())
    before = (tmp_path / cell.folder / "record.json").read_bytes()
    real = os.replace

    def failing(source, target):
        if str(target).endswith(cell.run_id) and ".former" not in str(source):
            raise OSError(5, "Input/output error")
        return real(source, target)

    monkeypatch.setattr(store.os, "replace", failing)
    with pytest.raises(UserError, match="Input/output error"):
        grid.run_cells([cell], tmp_path, device="cpu", rerun={cell.run_id})
    assert (tmp_path / cell.folder / "record.json").read_bytes() == before
    # Killed between the two renames: the next attempt finds the former run and keeps it.
    monkeypatch.undo()
    final = tmp_path / cell.folder
    final.rename(final.with_name(f".{cell.run_id}.{of_the_dead()}.former"))
    with store.staging(tmp_path, cell):
        raise store.Discard
    assert (final / "record.json").read_bytes() == before


def test_a_checkpoint_of_other_weights_is_not_taken(tmp_path, monkeypatch):
    from benchmark.execution import cell as runner

    run(tmp_path, select(steps=30), max_seconds=0.05)
    real = runner.provenance.package_versions
    monkeypatch.setattr(runner.provenance, "package_versions", lambda: real() | {"torch": "0"})
    (record,) = run(tmp_path, select(steps=30), retry="all")
    assert record.status == "done" and record.execution.resumed_at == ()
    assert list(tmp_path.rglob(".*.checkpoint.broken"))


def test_a_verb_that_is_ended_removes_what_is_half_written(tmp_path):
    script = (
        "import tempfile, time\n"
        "from benchmark import cli\n"
        "def app(**_):\n"
        "    with tempfile.TemporaryDirectory(dir='.'):\n"
        "        print('writing', flush=True)\n"
        "        time.sleep(300)\n"
        "cli.app.__class__.__call__ = lambda self, **_: app()\n"
        "cli.main()\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, cwd=tmp_path, env=forked.clean(), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        assert list(tmp_path.iterdir())
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("changed", [True, False])
def test_a_run_that_meets_newer_files_of_the_program_is_resumed(tmp_path, monkeypatch, changed):
    def late(*_):
        raise ImportError("cannot import name 'x'")

    with monkeypatch.context() as patch:
        patch.setattr(cell, "_run", late)
        patch.setattr(files, "_LOADED", 0.0 if changed else float("inf"))
        (record,) = run(tmp_path, select())
    assert record.status == ("interrupted" if changed else "failed")
    assert (record.reason == files.CHANGED) is changed
    assert [one.status for one in run(tmp_path, select())] == (["done"] if changed else [])

"""What a run meets on real machines: slow starts, other users, other file systems, other code."""

import errno
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmark.core.errors import UserError
from benchmark.core.interrupt import StopSignal
from benchmark.engine import checkpoint, memory
from benchmark.engine.step import StepSnapshot, batch_statistics
from benchmark.execution import cell as runner
from benchmark.execution import grid, reevaluate
from benchmark.execution.environment import prepare
from benchmark.planning.plan import plan
from benchmark.results import lock, store
from tests.helpers import forked
from tests.helpers.tiny import DEAD, SIZES, of_the_dead, run, same, select, typed

pytestmark = pytest.mark.usefixtures("tiny", "strange")


def test_a_signal_while_data_are_decoded_leaves_at_once(tmp_path, monkeypatch):
    from benchmark.execution import splits

    monkeypatch.setattr(splits, "_OPEN", {})
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    watch, told = StopSignal(), []

    class Ear:
        def decoding(self, what, done, total):
            told.append((what, done))
            if done == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    cells = plan(select())
    assert grid.run_cells(cells, tmp_path / "r", device="cpu", watch=watch, listener=Ear()) == []
    assert watch.signal == "SIGTERM" and len(told) == 2
    assert not list((tmp_path / "r").rglob("record.json"))
    (record,) = run(tmp_path / "r", select())
    assert record.status == "done"


def test_a_signal_in_the_verifying_evaluation_goes_on_from_the_trained_weights(
    tmp_path, monkeypatch
):
    watch, real, calls = StopSignal(), runner.evaluate, []

    def evaluate(*arguments, **options):
        calls.append(options)
        if len(calls) == 2:
            watch.signal = "SIGINT"
        return real(*arguments, **options)

    monkeypatch.setattr(runner, "evaluate", evaluate)
    (record,) = run(tmp_path, select(), watch=watch)
    assert record.status == "interrupted"
    assert "SIGINT after 0 of 1 image of the check of the stored delta; to resume" in record.reason
    (record,) = run(tmp_path, select())
    assert record.status == "done" and record.execution.resumed_at == (6,)
    assert record.execution.opened_splits == {"test": 1}  # nobody saw the first score


def test_waiting_for_others_ends_by_the_signal(tiny, tmp_path):
    cell = plan(select())[0]
    words = [*typed(**SIZES), "--seeds", "0"]
    words += ["--plugin", tiny, "--suite=demo", "--benchmarks", "tiny", "--methods", "linear"]
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    with lock.hold(tmp_path, cell) as mine:
        assert mine
        process = forked.Running("run", "--results", tmp_path, *words, env=environment)
        process.wait_for("other commands")
        process.send_signal(signal.SIGTERM)
        done = process.end(60)
        assert done.returncode == 143, done.stdout


def test_a_checkpoint_that_does_not_fit_is_set_aside_and_training_begins_anew(
    tmp_path, monkeypatch
):
    cell = plan(select(steps=30))[0]
    run(tmp_path, select(steps=30), max_seconds=0.05)
    path = (tmp_path / cell.folder).with_name(f".{cell.run_id}.checkpoint")
    content = torch.load(path, weights_only=True)
    name = next(iter(content["tensors"]))
    content["tensors"][name] = torch.zeros(7)
    torch.save(content, path)
    (record,) = run(tmp_path, select(steps=30), retry="all")
    assert record.status == "done" and record.execution.resumed_at == ()
    assert path.with_name(f"{path.name}.broken").exists()
    run(tmp_path / "calm", select(steps=30))
    same(tmp_path, tmp_path / "calm", cell)


def test_an_optimiser_of_other_code_does_not_fit(tmp_path):
    model = nn.Linear(2, 2)
    saved = checkpoint.Checkpoint(
        checkpoint.TrainState(), {}, {"state": {}, "param_groups": []}, {}, {}, {}, {}
    )
    optimiser = torch.optim.AdamW(model.parameters())
    with pytest.raises(checkpoint.Unfit, match="other tensors"):
        checkpoint.restore(saved, checkpoint.TrainState(), model, None, optimiser, None)
    saved.tensors.update(dict(model.named_parameters()))
    with pytest.raises(checkpoint.Unfit, match="parameter groups"):
        checkpoint.restore(saved, checkpoint.TrainState(), model, None, optimiser, None)


def test_a_checkpoint_of_other_code_may_hold_other_fields(tmp_path, monkeypatch):
    cell = plan(select(steps=30))[0]
    run(tmp_path, select(steps=30), max_seconds=0.05)
    path = (tmp_path / cell.folder).with_name(f".{cell.run_id}.checkpoint")
    content = torch.load(path, weights_only=True)
    content["progress"] |= {"peak_memory": 7}
    content["progress"]["identity"] |= {"code": "other"}
    torch.save(content, path)
    with pytest.warns(UserWarning, match="of a run with other code; it is kept"):
        (record,) = run(tmp_path, select(steps=30), retry="all")
    assert record.status == "done" and record.execution.resumed_at == ()


def test_a_run_of_which_the_memory_cannot_be_measured_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "step_memory", lambda *_: 1 / 0)
    with pytest.warns(UserWarning, match="memory of training is unknown: ZeroDivisionError"):
        (record,) = run(tmp_path, select())
    assert record.status == "done" and record.costs.train.memory is None
    assert record.costs.infer.memory is not None
    monkeypatch.undo()
    run(tmp_path / "measured", select())
    same(tmp_path, tmp_path / "measured", plan(select())[0])


def test_a_second_try_draws_the_same_and_sees_the_same_statistics():
    segmenter = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5))
    images = torch.randn(2, 3, 4, 4)
    snapshot = StepSnapshot(torch.device("cpu"), batch_statistics(segmenter))
    first = segmenter(images)
    moved = segmenter[0].running_mean.clone()
    snapshot.restore()
    assert segmenter[0].running_mean.abs().max() == 0 and segmenter[0].num_batches_tracked == 0
    assert torch.equal(segmenter(images), first)
    assert torch.equal(segmenter[0].running_mean, moved)


def test_a_failed_rerun_is_kept_beside_the_finished_run(tmp_path, monkeypatch):
    cell = plan(select())[0]
    run(tmp_path, select())
    monkeypatch.setattr(runner, "evaluate", lambda *a, **k: 1 / 0)
    (record,) = grid.run_cells([cell], tmp_path, device="cpu", rerun={cell.run_id})
    assert record.status == "failed" and store.is_done(tmp_path, cell)
    kept = (tmp_path / cell.folder).with_name(f".{cell.run_id}.discarded")
    assert "ZeroDivisionError" in (kept / "log.txt").read_text()
    assert json.loads((kept / "record.json").read_text())["status"] == "failed"
    monkeypatch.undo()
    (record,) = grid.run_cells([cell], tmp_path, device="cpu", rerun={cell.run_id})
    assert record.status == "done" and not kept.exists()
    # The evaluation that failed had no result.
    assert record.execution.opened_splits == {"test": 2}


@pytest.mark.parametrize(
    ("place", "name", "times"), [(runner, "evaluate", 1), (store, "write_counts", 2)]
)
def test_an_evaluation_counts_once_its_scores_reach_the_disk(
    tmp_path, monkeypatch, place, name, times
):
    class Killed(BaseException):
        pass

    def killed(*_, **__):
        raise Killed

    monkeypatch.setattr(place, name, killed)
    with pytest.raises(Killed):
        run(tmp_path, select())
    monkeypatch.undo()
    (record,) = run(tmp_path, select())
    assert record.execution.opened_splits == {"test": times}
    assert not list(tmp_path.rglob(".*.opened"))


def test_a_record_of_a_later_version_is_not_written_over(tmp_path):
    cell = plan(select())[0]
    run(tmp_path, select())
    path = tmp_path / cell.folder / "record.json"
    content = json.loads(path.read_text()) | {"schema_version": 99}
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="update petseg-bench, or choose another folder"):
        run(tmp_path, select())
    assert json.loads(path.read_text()) == content


def test_a_record_that_cannot_be_read_for_now_is_not_written_over(tmp_path, monkeypatch):
    cell = plan(select())[0]
    run(tmp_path, select())
    before = (tmp_path / cell.folder / "record.json").read_bytes()
    real = Path.read_bytes

    def flaky(path):
        if path.name == "record.json":
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", flaky)
    with pytest.raises(UserError, match="Input/output error"):
        run(tmp_path, select())
    monkeypatch.undo()
    assert (tmp_path / cell.folder / "record.json").read_bytes() == before


def test_a_torn_record_is_set_aside_not_removed(tmp_path):
    cell = plan(select())[0]
    run(tmp_path, select())
    path = tmp_path / cell.folder / "record.json"
    path.write_bytes(path.read_bytes()[:100])
    torn = path.read_bytes()
    (record,) = run(tmp_path, select())
    assert record.status == "done"
    aside = tmp_path / store.SET_ASIDE / cell.folder
    assert (aside / "record.json").read_bytes() == torn
    assert (aside / "images.npz").exists()


def test_drafts_of_the_dead_are_swept(tmp_path):
    cell = plan(select())[0]
    parent = (tmp_path / cell.folder).parent
    parent.mkdir(parents=True)
    dead, ours, theirs = (
        parent / f"..{cell.run_id}.checkpoint.{end}"
        for end in (of_the_dead(), of_the_dead(os.getppid()), f"00000000-{DEAD}-ffff")
    )
    for draft in (dead, ours, theirs):
        draft.write_bytes(b"half")
    run(tmp_path, select())
    assert not dead.exists() and ours.exists() and theirs.exists()


def test_evaluating_waits_for_nobody_and_disturbs_nobody(tmp_path):
    cell = plan(select())[0]
    run(tmp_path, select())
    environment = prepare(None, (), "cpu")
    with (
        lock.hold(tmp_path, cell) as mine,
        pytest.raises(UserError, match="another process is working on run"),
    ):
        assert mine
        reevaluate.again(cell, tmp_path, environment)
    recorded, now = reevaluate.again(cell, tmp_path, environment)
    assert recorded == now


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder that takes no files")
def test_a_folder_that_takes_no_files_is_one_line():
    with pytest.raises(UserError, match=r"cannot be written \(.+\); choose another with --results"):
        run(Path("/sys/kernel/results"), select())

"""What loggers are told of a grid, and what TensorBoard, MLflow and Weights & Biases make of it."""

import sys
import threading
import types
import warnings

import numpy as np
import pytest

from benchmark.core.errors import UserError
from benchmark.core.spec import Compute
from benchmark.execution import grid
from benchmark.execution.loggers import events, open_logger
from benchmark.execution.loggers.events import Logged
from benchmark.execution.tasks import Silent
from benchmark.planning.plan import Selection, plan
from benchmark.results.load import numbers_of
from tests.helpers import tiny  # noqa: F401 - makes measuring latency short

STEPS = 4


class Recorded:
    """Keeps what it is told."""

    def __init__(self, root=None):
        self.told, self.root = [], root

    def __getattr__(self, name):
        return lambda *content, **_: self.told.append((name, content))

    def of(self, name):
        return [content for told, content in self.told if told == name]


def cell(methods="linear"):
    sizes = {"steps": STEPS, "crop": 36, "batch_size": 2, "val_every": 2}
    return plan(Selection(methods=methods, benchmarks="cells", protocol=sizes))[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What a logger was told of a whole run, and its record."""
    root = tmp_path_factory.mktemp("results")
    recorded = Recorded(root)
    told = Logged(Silent(), {"recorded": recorded}, root, None)
    (record,) = grid.run_cells([cell()], root, device="cpu", listener=told, compute=Compute("fp32"))
    told.close()
    assert record.status == "done", record.reason
    return recorded, record


def replayed(trained, logger):
    for name, content in trained[0].told:
        getattr(logger, name)(*content)


def test_a_run_is_told_from_its_settings_to_its_costs(trained):
    recorded, record = trained
    names = [name for name, _ in recorded.told]
    assert (names[0], names[-2:]) == ("start", ["finish", "close"])
    ((run,),) = recorded.of("start")
    assert (run.id, run.suite, run.first_step) == (record.run_id, "demo", 1)
    assert run.settings["protocol.steps"] == STEPS and run.settings["benchmark"] == "cells"
    points = [point for _, part in recorded.of("curve") for point in part]
    losses = {step: values["loss"] for step, values in points if "loss" in values}
    scores = {step: values["val_miou"] for step, values in points if "val_miou" in values}
    assert sorted(losses) == [1, 2, 3, 4] and sorted(scores) == [2, 4]
    order = [(step, *values) for step, values in points]
    assert [step for step, name, *_ in order if name == "val_miou"] == [2, 4]  # each once
    assert order.index((2, "val_miou")) < order.index((3, "loss", "images_per_second"))
    ((_, pictures),) = recorded.of("pictures")
    assert len(pictures) == 3
    for picture in pictures.values():
        assert picture.dtype == np.uint8 and picture.shape[1] % 3 == 0
    ((run_id, ended, numbers),) = recorded.of("finish")
    assert (run_id, ended) == (record.run_id, record)
    assert numbers["metrics.miou"] == record.metrics.miou
    assert numbers["costs.stored.bytes"] == record.costs.stored.bytes
    assert all(type(value) is float for value in numbers.values())


def test_a_failing_logger_is_dropped_with_one_warning_and_the_others_go_on(tmp_path):
    class Broken(Recorded):
        def curve(self, *_):
            raise ConnectionError("no server\nat all")

    broken, sound, spec = Broken(), Recorded(), cell()
    told = Logged(Silent(), {"broken": broken, "sound": sound}, tmp_path, None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(3 * events.POINTS):
            told.step(spec, step + 1, 1.0, 1.0)
        told.close()
    (warning,) = caught
    assert str(warning.message) == (
        "--log broken stopped, the runs go on: ConnectionError: no server at all"
    )
    assert [name for name, _ in broken.told] == ["start"]
    assert len(sound.of("curve")) == 3 and sound.of("close")


def test_a_logger_that_hangs_holds_up_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "PATIENCE_SECONDS", 0.05)
    free = threading.Event()

    class Hanging(Recorded):
        def start(self, _):
            free.wait()

    told = Logged(Silent(), {"hanging": Hanging()}, tmp_path, None)
    told.step(cell(), 1, 1.0, 1.0)
    with pytest.warns(UserWarning, match="--log hanging took too long and was left"):
        told.close()
    free.set()


def test_an_attempt_whose_process_died_is_begun_again(tmp_path):
    recorded, spec = Recorded(), cell()
    told = Logged(Silent(), {"recorded": recorded}, tmp_path, None)
    told.cell_started(spec)
    told.step(spec, 1, 1.0, 1.0)
    told.cell_started(spec)
    told.step(spec, 3, 1.0, 1.0)
    told.close()
    assert [run.first_step for (run,) in recorded.of("start")] == [1, 3]


def test_a_resumed_run_is_told_from_where_it_resumes(tmp_path):
    recorded, spec = Recorded(), cell()
    told = Logged(Silent(), {"recorded": recorded}, tmp_path, None)
    told.cell_started(spec)
    told.resumed(spec, 2)
    told.validated(spec, 2, 0.25)  # it had been interrupted
    told.step(spec, 3, 1.0, 1.0)
    told.close()
    assert [run.first_step for (run,) in recorded.of("start")] == [3]
    assert recorded.of("curve")[0] == (spec.run_id, [(2, {"val_miou": 0.25})])


def test_the_validation_curve_of_a_run_trained_elsewhere_is_told_when_it_ends(trained, tmp_path):
    (own, record), recorded = trained, Recorded()
    told = Logged(Silent(), {"recorded": recorded}, own.root, None)
    told.cell_finished(record)
    told.close()
    ((_, points),) = recorded.of("curve")
    assert [(step, list(values)) for step, values in points] == [
        (2, ["val_miou"]),
        (4, ["val_miou"]),
    ]
    assert len(recorded.of("finish")) == 1


def test_loggers_that_are_unknown_or_not_installed_are_one_line(monkeypatch):
    with pytest.raises(UserError, match="unknown logger 'tensorbord'; did you mean 'tensorboard'"):
        open_logger("tensorbord")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'petseg-bench\[mlflow\]'"):
        open_logger("mlflow")


def test_tensorboard_files_read_back(trained, tmp_path, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.chdir(tmp_path)
    replayed(trained, open_logger("tensorboard"))
    record = trained[1]
    folder = tmp_path / "logs/tensorboard/demo/cells/demo_vit/linear"
    (folder,) = folder.iterdir()
    read = accumulator.EventAccumulator(str(folder))
    read.Reload()
    assert [one.step for one in read.Scalars("training/loss")] == [1, 2, 3, 4]
    assert [one.step for one in read.Scalars("training/val_miou")] == [2, 4]
    (miou,) = read.Scalars("metrics.miou")
    assert miou.value == pytest.approx(record.metrics.miou)
    assert len([tag for tag in read.Tags()["images"] if tag.startswith("samples/")]) == 3


@pytest.mark.slow
def test_mlflow_runs_read_back(trained, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    replayed(trained, open_logger("mlflow"))
    record, client = trained[1], MlflowClient()
    experiment = client.get_experiment_by_name("petseg-bench demo")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["petseg.run_id"] == record.run_id
    assert run.data.params["protocol.steps"] == str(STEPS)
    assert run.data.metrics["metrics.miou"] == pytest.approx(record.metrics.miou)
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [one.step for one in history] == [1, 2, 3, 4]
    assert len(client.list_artifacts(run.info.run_id, "samples")) == 3


def test_what_wandb_is_asked_for(trained, monkeypatch):
    """Through its public names, recorded; with the package itself, see the next test."""
    run, calls = Recorded(), {}
    run.summary = {}
    module = types.SimpleNamespace(
        init=lambda **options: calls.update(options) or run,
        Image=lambda picture, caption: (caption, picture.shape),
        Settings=dict,
    )
    monkeypatch.setitem(sys.modules, "wandb", module)
    from benchmark.execution.loggers.wandb import WandB

    replayed(trained, WandB())
    record = trained[1]
    assert (calls["id"], calls["project"]) == (record.run_id, "petseg-bench-demo")
    assert calls["config"]["protocol.steps"] == STEPS
    logged = [values for (values,) in run.of("log")]
    assert [v["training/step"] for v in logged if "training/loss" in v] == [1, 2, 3, 4]
    assert [v["training/step"] for v in logged if "training/val_miou" in v] == [2, 4]
    assert len(next(v["samples"] for v in logged if "samples" in v)) == 3
    assert run.summary == numbers_of(record) | {"status": "done"}
    assert [name for name, _ in run.told][-1] == "finish"


@pytest.mark.slow
def test_wandb_offline(trained, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    replayed(trained, open_logger("wandb"))
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    (file,) = folder.glob("*.wandb")
    content = file.read_bytes()
    assert trained[1].run_id in file.name
    for name in (b"training/val_miou", b"costs.stored.bytes", b"samples"):
        assert name in content

"""Making runs again, and probing them: signals, odd records, and the seal of the test split."""

import os
import signal

import pytest
import torch
import typer
from typer.testing import CliRunner

from benchmark.cli.reproduce import reproduce as verb
from benchmark.core.interrupt import Interrupted, StopSignal
from benchmark.data.base import seal_test
from benchmark.execution import cell as runner
from benchmark.execution import probe, reproduce
from benchmark.execution.environment import prepare
from benchmark.planning.plan import plan
from benchmark.results import store
from tests.helpers.tiny import run, select

pytestmark = pytest.mark.usefixtures("tiny", "strange")


@pytest.fixture
def recorded(tmp_path):
    """A finished run: its cell and its record."""
    (record,) = run(tmp_path / "results", select())
    return plan(select())[0], record


def call(tmp_path, run_id):
    app = typer.Typer()
    app.command()(verb)
    return CliRunner().invoke(app, [run_id, "--results", str(tmp_path / "results"), "--device=cpu"])


def test_a_signal_before_the_run_began_is_told(recorded):
    watch = StopSignal()
    watch.signal = "SIGTERM"
    with pytest.raises(Interrupted, match="SIGTERM before run"):
        reproduce.rerun(*recorded, device="cpu", watch=watch)
    assert watch.exit_code == 143


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_while_a_run_is_made_again_promises_nothing(
    tmp_path, recorded, monkeypatch, number, code
):
    real = runner.train

    def train(*arguments, **options):
        os.kill(os.getpid(), number)
        return real(*arguments, **options)

    monkeypatch.setattr(runner, "train", train)
    answer = call(tmp_path, recorded[0].run_id)
    assert answer.exit_code == code, answer.output
    assert "nothing of it is kept" in answer.output and "goes on" not in answer.output
    assert len([line for line in answer.output.splitlines() if line.strip()]) == 1
    monkeypatch.undo()
    answer = call(tmp_path, recorded[0].run_id)
    assert answer.exit_code == 0 and "identical bit for bit" in answer.output


@pytest.mark.slow
@pytest.mark.parametrize("threads", [0, -1, 2**40])
def test_a_record_with_an_impossible_number_of_threads_is_made_again(
    recorded, monkeypatch, threads
):
    cell, record = recorded
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    odd = record.provenance.model_copy(update={"threads": threads})
    again, _ = reproduce.rerun(cell, record.model_copy(update={"provenance": odd}), device="cpu")
    assert again.status == "done" and 1 <= asked[0] <= os.cpu_count()


def test_a_probe_does_not_open_the_test_split(recorded):
    with seal_test():
        entry, problem = probe.probe(recorded[0], prepare(None, (), "cpu"))
    assert entry is not None and entry.other_seconds > 0, problem


def test_a_result_of_another_run_has_no_openings(tmp_path, recorded):
    cell = recorded[0]
    other = plan(select(seeds=(1,)))[0]
    (tmp_path / "results" / cell.folder).rename(tmp_path / "results" / other.folder)
    assert store.openings(tmp_path / "results", other) == {}

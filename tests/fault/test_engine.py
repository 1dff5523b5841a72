"""An executor on other machines, with an engine that does everything in this process."""

import dataclasses
import json
import os
import re
import signal
import sys
from collections import deque

import pytest

from benchmark.cli import executors
from benchmark.core.errors import UserError
from benchmark.core.interrupt import StopSignal
from benchmark.core.spec import Compute
from benchmark.execution import elsewhere
from benchmark.execution.executors import engine
from benchmark.execution.executors.base import Lost
from benchmark.execution.executors.needs import Needs, needs_of, pack
from benchmark.execution.executors.worker import do
from benchmark.execution.status import status
from benchmark.execution.tasks import Outcome, Silent
from benchmark.planning.forecast import Expected
from benchmark.planning.plan import plan
from benchmark.results import lock, store, submitted
from tests.helpers.forked import call
from tests.helpers.tiny import SIZES, run, same, select


class Fake(engine.Engine):
    """Does what is handed over, unless a test says what becomes of it."""

    name = "fake"

    def __init__(self, watch=None, said=(), setup=None):
        super().__init__(watch or StopSignal())
        self.said, self.there, self.times, self.cancelled = dict(said), [], 0, False
        self.setup = setup or elsewhere.setup_of("cpu", 1, None, (), 0, None, None, "never")

    def submit(self, cells, listener):
        self.times += 1
        self.there += cells

    def ended(self):
        cell = self.there.pop()  # the order of the ends is not that of the beginnings
        said = self.said.get(cell.key)
        if said:
            outcome = said.pop(0)
            return [] if outcome == "nothing" else [(cell.key, outcome)]
        return [(cell.key, do(self.setup, cell))]

    def cancel(self):
        self.cancelled = True


class Ear:
    def __init__(self):
        self.refusals, self.found = {}, []

    def refused(self, cells, verdict):
        self.refusals |= {cell.run_id: verdict.reason for cell in cells}

    def cell_found(self, record):
        self.found.append(record.run_id)

    def __getattr__(self, name):
        return lambda *_: None


def travelling(results, chosen, **options):
    return elsewhere.cells_of(plan(chosen), results, (), "cpu", **options)


def test_cells_elsewhere_come_out_as_here_to_the_bit(tiny, tmp_path):
    (cell,) = travelling(tmp_path / "there", select())
    (record,) = elsewhere.run_cells([cell], Fake(), tmp_path / "there")
    assert record.status == "done"
    run(tmp_path / "here", select(), compute=Compute("fp32"))
    same(tmp_path / "there", tmp_path / "here", cell.cell)


def test_what_an_engine_says_of_cells(tiny, tmp_path):
    cells = travelling(tmp_path, select("linear,bitfit,norm"))
    lost, again, twice = (cell.key for cell in cells)
    said = {
        lost: [Lost(-signal.SIGKILL), Lost(-signal.SIGKILL)],
        again: [None],
        twice: [Lost(reason="its node died")],
    }
    there = Fake(said=said)
    records = {r.run_id: r for r in elsewhere.run_cells(cells, there, tmp_path)}
    assert {key: record.status for key, record in records.items()} == {
        lost: "oom",
        again: "done",
        twice: "done",
    }
    assert "killed" in records[lost].reason and not any(said.values())
    assert store.record_of(tmp_path, cells[0].cell).status == "oom"


def test_what_is_done_meanwhile_is_found_and_what_others_do_is_waited_for(tiny, tmp_path):
    cells = travelling(tmp_path, select("linear,bitfit"))
    run(tmp_path, select("linear"))
    ear = Ear()
    there = Fake(said={cells[1].key: [Outcome.BUSY]})
    records = elsewhere.run_cells(cells, there, tmp_path, ear)
    assert ear.found == [cells[0].key] and [r.run_id for r in records] == [cells[1].key]


def test_a_machine_that_lacks_something_says_what(tiny, tmp_path, monkeypatch):
    (cell,) = travelling(tmp_path, select())
    other = dataclasses.replace(cell, weights_sha256="0" * 64)
    ear = Ear()
    assert elsewhere.run_cells([other], Fake(), tmp_path, ear) == []
    assert "give all machines the same file" in ear.refusals[cell.key]

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_counts", full)
        assert elsewhere.run_cells([cell], Fake(), tmp_path, ear) == []
    assert "No space left" in ear.refusals[cell.key]
    assert elsewhere.run_cells([cell], Fake(), tmp_path)[0].status == "done"
    far = dataclasses.replace(select(), benchmarks="camvid")
    (cell,) = elsewhere.cells_of(plan(far), tmp_path, (), "cpu")
    assert elsewhere.run_cells([cell], Fake(), tmp_path, ear) == []
    assert "--data" in ear.refusals[cell.key] and "(on " in ear.refusals[cell.key]


def test_a_machine_with_another_clock_runs_a_cell_once(tiny, tmp_path, monkeypatch):
    from benchmark.execution import run_state

    (cell,) = travelling(tmp_path, select())
    monkeypatch.setattr(run_state, "_now", lambda: "2001-01-01T00:00:00.000+00:00")
    (record,) = elsewhere.run_cells([cell], Fake(), tmp_path)
    ear = Ear()
    assert elsewhere.run_cells([cell], Fake(), tmp_path, ear) == []
    assert record.status == "done" and ear.found == [cell.key]


def test_a_signal_leaves_and_a_second_one_cancels(tmp_path, monkeypatch):
    class Item:
        key, folder, needs = "a", "a", Needs()

    def press():
        os.kill(os.getpid(), signal.SIGINT)

    watch = StopSignal()
    there = Fake(watch, {"a": ["nothing"]})
    real = there.ended
    monkeypatch.setattr(there, "ended", lambda: (press(), real())[1])
    monkeypatch.setattr(engine.time, "sleep", lambda seconds: None)
    with watch.signals():
        assert list(there.run(deque([Item()]), Silent())) == []
    assert not there.cancelled and watch.signal == "SIGINT"
    watch = StopSignal()
    there = Fake(watch, {"a": ["nothing"]})
    monkeypatch.setattr(there, "ended", lambda: (press(), real)[0] or [])
    monkeypatch.setattr(engine.time, "sleep", lambda seconds: press())
    with watch.signals(), pytest.raises(KeyboardInterrupt):
        list(there.run(deque([Item()]), Silent()))
    assert there.cancelled


def test_an_engine_that_ends_with_the_command_stops_its_cells(tmp_path):
    class Item:
        key, folder, needs = "a", "a", Needs()

    watch = StopSignal()

    class Mine(Fake):
        detachable = False

        def ended(self):
            if not self.cancelled:
                watch.signal = "SIGINT"
                return []
            return [("a", "saved")]

    there, item = Mine(watch), Item()
    assert list(there.run(deque([item]), Silent())) == [(item, "saved")]


class Item:
    def __init__(self, minutes, cores=1):
        self.needs = Needs(cores, None, 0.0, minutes)


def test_cells_are_packed_into_jobs_that_are_worth_starting():
    items = [Item(m, c) for m, c in ((4, 1), (5, 2), (4, 1), (None, 1), (4, 1), (30, 1), (1, 1))]
    a, b, c, d, e, f, g = items
    assert pack(items) == [[a, c, e], [b], [d], [f], [g]]
    assert pack(items, 0) == [[item] for item in items]


def test_needs_follow_the_forecast(tmp_path):
    class Known:
        def expected(self, cell):
            return Expected(600.0, 4 * 2**30, None, None)

    (cell,) = plan(dataclasses.replace(select(), benchmarks="cells"))
    assert needs_of(cell, Known(), "cpu", 2) == Needs(2, 7 * 2**30, 0.0, 10.0)
    assert needs_of(cell, Known(), "cuda", 1) == Needs(1, None, 1.0, 10.0)
    assert needs_of(cell, Known(), "cuda", 1, 16 * 2**30).gpus == 1 / 2
    assert needs_of(cell, Known(), "cuda", 1, 80 * 2**30).gpus == 1 / 4


def test_status_by_the_folder_and_the_engine(tiny, tmp_path):
    cells = plan(select("linear,bitfit,norm,ssf,vpt"))
    done, running, queued, lost, unknown = cells
    run(tmp_path, select("linear"))
    for job, some in (("1", cells[:4]), ("2", [unknown])):
        folders = {cell.run_id: cell.folder.as_posix() for cell in some}
        submitted.note(tmp_path, [submitted.Job("fake", job, folders)])
    with (tmp_path / submitted.FOLDER / "jobs.jsonl").open("a") as file:
        file.write('{"engine": "fa')  # a torn line

    def alive(job):
        if job.job == "2":
            raise UserError("no answer")
        return {queued.run_id, running.run_id}

    with lock.hold(tmp_path, running):
        found = {one.run_id: one.state for one in status(tmp_path, {"fake": alive})}
    assert found == {
        done.run_id: "done",
        running.run_id: "running",
        queued.run_id: "queued",
        lost.run_id: "lost",
        unknown.run_id: "unknown",
    }
    assert json.dumps([vars(one) for one in status(tmp_path, {"fake": alive})])


def test_plan_says_what_a_grid_elsewhere_costs(tmp_path):
    words = ["plan", "--benchmarks=cells,streets", "--methods=linear", "--results", tmp_path]
    words += ["--executor=slurm", "--slurm=time=60,cpus_per_task=2", "--price=6/h", "--device=cpu"]
    told = json.loads(call(*words, "--json").stdout)["submission"]
    assert told["executor"] == "slurm" and (told["jobs"], told["runs"]) == (1, 2)
    assert told["cost"] == pytest.approx(6 * told["hours"]) and 0 < told["hours"] < 1
    assert f"slurm: 1 job for 2 runs, about {told['hours']:.3g} machine" in call(*words).stdout
    words[-3] = "--slurm=pack=0"
    assert json.loads(call(*words, "--json").stdout)["submission"]["jobs"] == 2


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        (("cloud", None, None, None), "--executor 'cloud': choose from local, ray, slurm"),
        (("local", None, None, "time=3"), "--slurm needs --executor slurm"),
        (("slurm", "auto", None, None), "--address needs --executor ray"),
        (("slurm", None, None, "time"), "write NAME=VALUE"),
        (("ray", None, "gpus=3", None), "write cpus=NUMBER or gpu_memory=GIB"),
        (("ray", None, None, None, "3"), "--jobs is for --executor local"),
    ],
)
def test_options_that_fit_no_executor_are_refused(typed, why):
    with pytest.raises(UserError, match=re.escape(why)):
        executors.chosen(*typed)


def test_an_engine_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    from benchmark.execution.executors import ray_cluster, slurm

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"Ray is not installed; .*petseg-bench\[ray\]"):
        ray_cluster.module()
    monkeypatch.setattr(slurm.shutil, "which", lambda name: None)
    pytest.importorskip("submitit")
    setup = elsewhere.setup_of("cpu", 1, None, (), 0, None, None, "never")
    with pytest.raises(UserError, match="there is no sbatch on this machine"):
        slurm.Slurm(setup, tmp_path, StopSignal(), {})
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match="submitit is not installed"):
        slurm.Slurm(setup, tmp_path, StopSignal(), {})


def fake_engine():
    """Before a command in a process of its own: an engine that does everything there."""
    executors.engine = lambda request, *options: Fake(options[1])


@pytest.mark.slow
def test_tune_elsewhere_chooses_as_here(tiny, tmp_path):
    words = ["tune", "--plugin", tiny, "--benchmarks", "tiny", "--methods", "linear,bitfit"]
    words += ["--trials", "2", "--suite", "demo"]
    words += [f"--set={k}={v}" for k, v in SIZES.items()]
    words += ["--set=precision=fp32", "--device", "cpu"]
    for name, more in (("here", []), ("there", ["--executor", "ray"])):
        (tmp_path / name).mkdir()
        done = call(*words, *more, cwd=tmp_path / name, prepare=fake_engine if more else None)
        assert done.returncode == 0, done
    here, there = tmp_path / "here", tmp_path / "there"
    assert (here / "settings.yaml").read_text() == (there / "settings.yaml").read_text()
    (table,) = here.rglob("trials.csv")
    assert table.read_bytes() == (there / table.relative_to(here)).read_bytes()


def test_a_verb_that_runs_here_alone_says_so():
    done = call("evaluate", "--executor", "slurm")
    assert done.returncode == 2 and "works in this process alone" in done.stderr
    done = call("quickstart", "bolts", "--slurm", "partition=gpu")
    assert done.returncode == 2 and "--slurm needs --executor slurm" in done.stderr

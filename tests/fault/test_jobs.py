"""`--jobs`: processes of one command, none of which runs what another runs."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmark.core.errors import UserError
from benchmark.core.interrupt import StopSignal
from benchmark.core.processes import is_alive
from benchmark.core.spec import Compute
from benchmark.execution import grid, splits
from benchmark.execution.executors import local
from benchmark.execution.executors.worker import Sender
from benchmark.planning.plan import plan
from benchmark.results import asked, index
from tests.helpers import forked
from tests.helpers.tiny import run, same, select, typed

ROOT = Path(__file__).resolve().parents[2]

KILLER = '''
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from methods.base import Method, register


@register("killer")
@dataclass(frozen=True, kw_only=True)
class Killer(Method):
    """Kills its process in training until the file `survive` is there."""

    lr: float = 1e-3
    keeps_structure = True
    folder: str = ""

    def _apply(self, backbone, num_classes):
        self.note("applied")

    def apply(self, backbone, num_classes):
        self._apply(backbone, num_classes)

    def note(self, what):
        with open(Path(self.folder, what), "a") as file:
            file.write(f"{os.getpid()}\\n")

    def after_step(self, backbone, step, steps):
        if step == 2 and not Path(self.folder, "survive").exists():
            self.note("died")
            os.kill(os.getpid(), signal.SIGKILL)
'''


class Ear:
    def __init__(self):
        self.own, self.found, self.steps, self.notes = [], [], {}, []

    def cell_finished(self, record):
        self.own.append(record.run_id)

    def cell_found(self, record):
        self.found.append(record.run_id)

    def step(self, spec, step, loss, images_per_second):
        self.steps.setdefault(spec.run_id, []).append(step)

    def note(self, text):
        self.notes.append(text)

    def __getattr__(self, name):
        return lambda *_: None


def test_two_jobs_run_every_cell_once_and_to_the_same_bits(tiny, tmp_path):
    chosen = select("linear,bitfit,spm", steps=12)
    ear = Ear()
    # Not what is fast: other processes may find out something else.
    how = Compute("fp32")
    records = run(tmp_path / "two", chosen, jobs=2, listener=ear, compute=how)
    cells = {cell.run_id: cell for cell in plan(chosen)}
    assert [record.run_id for record in records] == ear.own
    assert sorted(ear.own) == sorted(cells) and not ear.found
    # What each job does is seen here, step by step.
    assert ear.steps == {run_id: list(range(1, 13)) for run_id in cells}
    assert {path.name for path in (tmp_path / "two").rglob(".*")} <= {index.NAME, asked.NAME}
    found = [json.loads(path.read_text()) for path in (tmp_path / "two").rglob("record.json")]
    assert {record["status"] for record in found} == {"done"}
    assert all(record["execution"]["starts"] == 1 for record in found)
    assert {record["provenance"]["threads"] for record in found} == {1}
    run(tmp_path / "one", chosen, compute=how)
    for cell in cells.values():
        same(tmp_path / "two", tmp_path / "one", cell)


def test_a_cell_whose_process_dies_twice_is_a_failure_and_the_others_go_on(tiny, tmp_path):
    from benchmark.planning import plugins
    from methods.base import METHODS

    path = tmp_path / "killer.py"
    path.write_text(KILLER)
    plugins.load_files([path])
    try:
        ear = Ear()
        chosen = select(f"killer[folder={tmp_path}],linear,bitfit")
        records = run(tmp_path / "r", chosen, jobs=2, listener=ear)
        status = {record.method.partition("[")[0]: record.status for record in records}
        assert status == {"killer": "oom", "linear": "done", "bitfit": "done"}
        (lost,) = (record for record in records if record.status == "oom")
        assert "killed" in lost.reason and lost.provenance.precision == "fp32"
        pids = (tmp_path / "died").read_text().split()
        assert len(pids) == len(set(pids)) == grid.TRIES
        (tmp_path / "survive").touch()
        (again,) = run(tmp_path / "r", chosen, jobs=2, retry="oom")
        assert again.status == "done"
    finally:
        METHODS._loaded.pop("killer")
        plugins._TYPED.popitem()


def test_what_is_wrong_in_a_job_is_said_once_and_nothing_is_written(tiny, tmp_path):
    with pytest.raises(UserError, match=r"crop=38 is not a multiple of"):
        run(tmp_path, select("linear,bitfit", crop=38), jobs=2)
    assert not list(tmp_path.rglob("record.json"))


@pytest.fixture
def starting(tmp_path, monkeypatch):
    """Processes start no sooner than this event is set; nothing is decoded yet."""
    event = threading.Event()

    class Late(local.Worker):
        def __init__(self, *arguments):
            assert event.wait(30)
            super().__init__(*arguments)

    monkeypatch.setattr(local, "Worker", Late)
    monkeypatch.setattr(splits, "_OPEN", {})
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    return event


def test_the_command_decodes_while_its_processes_start(tiny, tmp_path, monkeypatch, starting):
    real, here = splits.open_split, []

    def open_split(benchmark, split, *rest):
        here.append(split)
        if len(here) == 2:
            starting.set()
        return real(benchmark, split, *rest)

    monkeypatch.setattr(splits, "open_split", open_split)
    records = run(tmp_path / "r", select("linear,bitfit"), jobs=2)
    assert here == ["test", "train"]  # in this process
    assert {record.status for record in records} == {"done"}


def test_what_is_wrong_with_data_is_said_though_no_process_has_started(
    tiny, tmp_path, monkeypatch, starting
):
    def open_split(*_):
        starting.set()
        raise UserError("label.png is damaged")

    monkeypatch.setattr(splits, "open_split", open_split)
    with pytest.raises(UserError, match=r"label\.png is damaged"):
        run(tmp_path / "r", select("linear,bitfit"), jobs=2)
    assert not (tmp_path / "r").exists()


def test_a_signal_while_the_command_decodes_ends_it(tiny, tmp_path, starting):
    class Impatient(Ear):
        def decoding(self, what, done, total):
            if not starting.is_set():  # a second signal would end this process
                starting.set()
                os.kill(os.getpid(), signal.SIGTERM)

    watch, cells = StopSignal(), plan(select("linear,bitfit"))
    records = grid.run_cells(
        cells, tmp_path / "r", device="cpu", watch=watch, listener=Impatient(), jobs=2
    )
    assert records == [] and watch.signal == "SIGTERM"
    assert not list((tmp_path / "r").rglob("record.json"))


def descendants(pid):
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True
    ).stdout.split()
    return [*found, *(child for one in found for child in descendants(one))]


@pytest.mark.slow
def test_a_signal_ends_all_jobs_and_their_cells_go_on(tiny, tmp_path):
    words = [
        "--plugin",
        tiny,
        "--suite=demo",
        "--benchmarks",
        "tiny",
        "--methods",
        "linear,bitfit,spm",
    ]
    words += typed(steps=400, crop=36, batch_size=4)
    command = [sys.executable, "-m", "benchmark", "run", *words, "--results", tmp_path, "--jobs=2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        list(map(str, command)), env=environment, stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if "step 100/" in line:
            break
    children = descendants(process.pid)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 143, out
    deadline = time.monotonic() + 30  # multiprocessing's own helper ends a moment later
    while any(is_alive(int(pid)) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert children and not [pid for pid in children if is_alive(int(pid))]
    found = [json.loads(path.read_text()) for path in tmp_path.rglob("record.json")]
    assert {record["status"] for record in found} <= {"interrupted", "done"}
    assert not list(tmp_path.rglob("*.lock"))


def test_one_cell_gets_no_process_of_its_own(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "Pool", pytest.fail)
    (record,) = run(tmp_path, select(), jobs=3)
    assert record.status == "done"


@pytest.mark.slow
def test_fewer_run_side_by_side_where_memory_does_not_carry_all(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "available_memory", lambda device: 2**20)
    ear = Ear()
    records = run(tmp_path, select("linear,bitfit"), jobs=2, listener=ear)
    assert {record.status for record in records} == {"done"}
    (note,) = ear.notes
    assert note.startswith("memory is enough for 1 of 2 parallel runs")


def test_a_job_whose_command_died_saves_and_ends():
    class Gone:
        def send(self, event):
            raise BrokenPipeError

    class StopSignal:
        signal = ""

    watch = StopSignal()
    Sender(Gone(), watch).step(1, 2)
    assert watch.signal == "SIGTERM"


def test_how_a_run_computes_can_be_fixed(tiny, tmp_path):
    (record,) = run(tmp_path, select(precision="auto"), compute=Compute("bf16", "explicit"))
    assert (record.provenance.precision, record.provenance.attention) == ("bf16", "explicit")


@pytest.mark.slow
def test_a_first_signal_says_what_happens_and_the_next_run_where_it_resumes(tiny, tmp_path):
    words = ["--plugin", tiny, "--suite=demo", "--benchmarks", "tiny", "--methods", "linear"]
    words += [*typed(steps=4000, crop=36, batch_size=4), "--results", tmp_path]
    process = forked.Running("run", *words)
    process.wait_for("step 1000/4000")
    process.send_signal(signal.SIGINT)
    done = process.end(120)
    assert done.returncode == 130, done.stderr
    assert "SIGINT: saving the unfinished runs; press Ctrl-C again to stop at once" in done.stderr
    record = json.loads(next(tmp_path.rglob("record.json")).read_text())
    assert record["status"] == "interrupted"
    process = forked.Running("run", *words)
    reached = re.search(r"at step (\d+) of 4000", record["reason"])[1]
    process.wait_for(f"resuming at step {reached} of 4000")
    process.send_signal(signal.SIGTERM)
    assert process.end(120).returncode == 143

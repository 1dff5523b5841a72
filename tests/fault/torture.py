"""Kills a grid at random moments, and counts what is lost: nothing.

    python tests/fault/torture.py --kills 200 --processes 8

1. A grid of tiny cells is run by one process after the other, each killed (SIGKILL) after a random
   time, until as many kills as asked for have hit and every cell is done.
2. As many processes as asked for run another grid on one folder, half of them killed at random and
   replaced.

Afterwards every cell is done, ran to its end once, and its per-image counts and stored weights are
those of an undisturbed run, bit for bit. Libraries are loaded once; processes are forked.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

PLUGIN = """
import numpy as np

from benchmark.data.base import Benchmark, register


@register("tiny")
class Tiny(Benchmark):
    title, domain, origin, licence = "tiny", "none", "generated", "none"
    classes = ("a", "b", "c")
    fingerprint = "1"

    def ids(self, split):
        return [f"{split}/{i}" for i in range({"train": 4, "val": 2, "test": 3}[split])]

    def read(self, id):
        rng = np.random.default_rng(list(id.encode()))
        label = rng.integers(0, 3, (3, 3)).repeat(12, 0).repeat(12, 1).astype(np.uint8)
        noise = rng.integers(0, 60, (36, 36, 3))
        return (label[..., None] * 90 + noise).clip(0, 255).astype(np.uint8), label
"""
METHODS = "linear,lora,spm,vpt,peft:adalora"


def selection(seeds, steps):
    """The cells of the torture."""
    from benchmark import Selection

    sizes = {"steps": steps, "crop": 36, "batch_size": 2, "precision": "fp32"}
    return Selection(methods=METHODS, benchmarks="tiny", seeds=tuple(seeds), protocol=sizes)


class Log:
    """Writes down each cell that a process brought to its end."""

    def __init__(self, path):
        self.path = path

    def cell_finished(self, record):
        """Appends a line at once: the kernel keeps appends of one call whole."""
        if record.status == "done":
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(descriptor, f"{record.run_id}\n".encode())
            os.close(descriptor)

    def __getattr__(self, name):
        return lambda *_: None


def work(chosen, results, log):
    """What a process does."""
    from benchmark.execution import grid
    from benchmark.planning.plan import plan

    todo = grid.pending(plan(chosen), results)
    grid.run_cells(todo, results, listener=Log(log), checkpoint_seconds=0.0, device="cpu")


def start(chosen, results, log):
    """Forks a process that works; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        work(chosen, results, log)
        code = 0
    except BaseException as error:
        print(f"torture: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def finished(results, cells):
    """Run ids that are done; every record that is there must be readable."""
    from benchmark.core.record import parse

    done = set()
    for cell in cells:
        path = results / cell.folder / "record.json"
        if path.exists():
            record = parse(path.read_bytes())  # raises if it is torn
            if record.status == "done":
                done.add(record.run_id)
    return done


def ended(pid):
    """Whether a process has ended, and how: None, or (killed, exit code)."""
    got, status = os.waitpid(pid, os.WNOHANG)
    if not got:
        return None
    return os.WIFSIGNALED(status), os.waitstatus_to_exitcode(status)


def one_after_the_other(chosen, cells, results, log, kills, chance):
    """Kills until enough have hit and all is done; returns counts."""
    counts = Counter()
    known = set()
    while True:
        pid = start(chosen, results, log)
        deadline = time.monotonic() + chance.expovariate(1 / 0.8)
        end = None
        while end is None and (time.monotonic() < deadline or counts["kills"] >= kills):
            time.sleep(0.01)
            end = ended(pid)
        if end is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            counts["kills"] += 1
        elif end[1] != 0:
            counts["errors"] += 1
        now = finished(results, cells)
        counts["lost"] += len(known - now)
        known = now
        if len(known) == len(cells):
            if counts["kills"] >= kills:
                return counts
            # All done, and there are kills left: begin with the next seeds.
            return counts


def together(chosen, cells, results, log, processes, chance):
    """Several at once, half of them killed and replaced; returns counts."""
    counts = Counter()
    alive = {start(chosen, results, log): chance.random() < 0.5 for _ in range(processes)}
    while alive:
        time.sleep(chance.expovariate(1 / 0.3))
        for pid in list(alive):
            end = ended(pid)
            if end is not None:
                del alive[pid]
                counts["errors"] += end[1] != 0
        doomed = [pid for pid, kill in alive.items() if kill]
        if doomed and len(finished(results, cells)) < len(cells):
            pid = chance.choice(doomed)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            del alive[pid]
            counts["kills"] += 1
            alive[start(chosen, results, log)] = chance.random() < 0.5
    return counts


def differences(cells, results, reference):
    """Cells whose counts or weights are not those of the undisturbed run."""
    wrong = []
    for cell in cells:
        ours, theirs = results / cell.folder, reference / cell.folder
        same = (ours / "delta.safetensors").read_bytes() == (
            theirs / "delta.safetensors"
        ).read_bytes()
        with np.load(ours / "images.npz") as a, np.load(theirs / "images.npz") as b:
            same &= set(a) == set(b) and all(np.array_equal(a[k], b[k]) for k in a)
        if not same:
            wrong.append(cell.method_label)
    return wrong


def judge(title, cells, results, reference, log, counts):
    """Prints what came out; whether nothing was lost."""
    from benchmark.results import store

    runs = Counter(log.read_text().split())
    open_ = [cell for cell in cells if not store.is_done(results, cell)]
    twice = [run_id for run_id, number in runs.items() if number > 1]
    wrong = differences([c for c in cells if c not in open_], results, reference)
    resumed = [
        record.execution.resumed_at
        for record in (store.read_record(results / cell.folder) for cell in cells)
        if record and record.execution
    ]
    print(
        f"{title}: {len(cells)} cells, {counts['kills']} kills, {counts['errors']} errors, "
        f"{counts['lost']} records lost, {len(open_)} cells not done, {len(twice)} run twice, "
        f"{len(wrong)} not bit for bit; {sum(map(bool, resumed))} cells were resumed, "
        f"{sum(map(len, resumed))} times",
        flush=True,
    )
    return not (counts["errors"] or counts["lost"] or open_ or twice or wrong)


def main():
    """Both tortures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=4, help="of the grid of several processes")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    chance = random.Random(options.seed)
    import torch

    torch.set_num_threads(1)
    from benchmark.planning import plugins
    from benchmark.planning.plan import plan

    sound = True
    with tempfile.TemporaryDirectory(prefix="petseg-torture-") as name:
        home = Path(name)
        os.environ["BENCHMARK_CACHE"] = str(home / "cache")
        (home / "tiny.py").write_text(PLUGIN)
        plugins.load_files([home / "tiny.py"])
        total, seed, number = Counter(), 0, 0
        while total["kills"] < options.kills:
            chosen = selection((seed, seed + 1), options.steps)
            seed, number = seed + 2, number + 1
            cells = plan(chosen)
            results, reference = home / f"hit{number}", home / f"calm{number}"
            work(chosen, reference, home / f"calm{number}.log")
            log = home / f"hit{number}.log"
            counts = one_after_the_other(
                chosen, cells, results, log, options.kills - total["kills"], chance
            )
            sound &= judge(f"one by one, grid {number}", cells, results, reference, log, counts)
            total.update(counts)
        print(f"one by one: {total['kills']} kills in all", flush=True)
        if options.processes:
            chosen = selection(range(100, 100 + options.seeds), options.steps)
            cells = plan(chosen)
            work(chosen, home / "calm", home / "calm.log")
            log = home / "together.log"
            counts = together(chosen, cells, home / "together", log, options.processes, chance)
            title = f"{options.processes} processes"
            sound &= judge(title, cells, home / "together", home / "calm", log, counts)
    print("nothing was lost" if sound else "SOMETHING WAS LOST", flush=True)
    sys.exit(not sound)


if __name__ == "__main__":
    main()

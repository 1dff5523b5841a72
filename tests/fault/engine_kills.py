"""Kills workers, nodes and the command itself while an engine runs a grid: nothing is lost.

    python tests/fault/engine_kills.py --executor ray --kills 200
    nice -n 19 python tests/fault/engine_kills.py --executor slurm --kills 200   # takes an hour

Cells take a moment each, and go through the locks and the store as trainings do. Afterwards every
cell has its record, and none ran to its end twice.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmark.core.interrupt import StopSignal  # noqa: E402
from benchmark.execution import grid  # noqa: E402
from benchmark.execution.executors.worker import Setup  # noqa: E402
from benchmark.execution.tasks import Silent  # noqa: E402
from tests.helpers import engines  # noqa: E402
from tests.helpers.ticks import ticks  # noqa: E402

SETUP = Setup(("cpu",), 1, None, (), None, None, None, (), "never")
DEATHS = 100
"""Of one cell; a real grid gives up sooner, which is a failed record and nothing lost."""


def drive(executor: str, home: Path, count: int, seconds: float, address: str) -> None:
    """The command that is killed, too: runs what is not done."""
    grid.TRIES = DEATHS
    results, watch = home / "results", StopSignal()
    todo = ticks(results, count, seconds)
    if executor == "local":
        from benchmark.execution.executors.local import Pool

        with watch.signals(), Pool(SETUP, 2, watch) as pool:
            list(grid.execute(todo, pool, watch, Silent()))
        return
    if executor == "ray":
        from benchmark.execution.executors.ray import Ray as Engine

        engine = Engine(SETUP, results, watch, address)
    else:
        from benchmark.execution.executors.slurm import Slurm

        engine = Slurm(SETUP, results, watch, {"time": "60", "pack": "0"})
    with watch.signals():
        list(grid.execute(todo, engine, watch, Silent()))


def start(executor: str, home: Path, count: int, seconds: float, address: str):
    """A process that drives."""
    words = ["--drive", home, "--executor", executor, "--cells", count, "--seconds", seconds]
    words += ["--address", address]
    with (home / "driver.log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, __file__, *map(str, words)], stdout=log, stderr=log, cwd=ROOT
        )


def kill_a_worker(home: Path, chance: random.Random) -> bool:
    """Kills one that began a cell lately."""
    with contextlib.suppress(FileNotFoundError):
        for line in reversed((home / "began").read_text().splitlines()[-3:]):
            pid = int(line.split()[0])
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return True
    return False


def torture(
    executor: str, home: Path, kills: int, count: int, seconds: float, seed: int
) -> Counter:
    """Kills until enough have hit and all is done; returns what was killed and what was lost."""
    chance, hit = random.Random(seed), Counter()
    number = count
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(engines.cluster(executor, home))
        address = getattr(cluster, "address", "")
        driver = start(executor, home, number, seconds, address)
        stack.callback(lambda: driver.kill())
        deadline = time.monotonic() + 120 + 60 * kills
        while time.monotonic() < deadline:
            time.sleep(chance.uniform(0.2, 1.5))
            ended = driver.poll()
            if ended == 0:
                if sum(hit.values()) >= kills:
                    break
                number += count
            elif ended is not None and ended != -signal.SIGKILL:
                hit["errors"] += 1
                break
            if ended is not None:
                driver = start(executor, home, number, seconds, address)
                continue
            if sum(hit.values()) >= kills or not (home / "began").exists():
                continue
            what = chance.choice(("worker", "worker", "node", "driver"))
            if what == "driver":
                driver.kill()
                driver.wait()
                hit[what] += 1
            elif what == "node":
                hit[what] += cluster.kill_a_node(chance)
            else:
                hit[what] += kill_a_worker(home, chance)
        else:
            hit["errors"] += 1
            driver.kill()
    stored = Counter((home / "stored").read_text().split())
    hit["cells"] = number
    hit["open"] = len(ticks(home / "results", number, seconds))
    hit["twice"] = sum(times > 1 for times in stored.values())
    return hit


def main() -> None:
    """Prints what came out; exit code 1 where something was lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--executor", choices=("local", "ray", "slurm"), default="ray")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--cells", type=int, default=60, help="of a grid; more until all kills hit")
    parser.add_argument("--seconds", type=float, default=0.3, help="that a cell takes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--address", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        drive(options.executor, options.drive, options.cells, options.seconds, options.address)
        return
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory(prefix="petseg-kills-") as name:
        found = torture(
            options.executor,
            Path(name),
            options.kills,
            options.cells,
            options.seconds,
            options.seed,
        )
        if found["errors"]:
            print((Path(name) / "driver.log").read_text()[-3000:], file=sys.stderr)
    killed = ", ".join(f"{found[what]} {what}s" for what in ("worker", "node", "driver"))
    print(
        f"{options.executor}: {found['cells']} cells, killed {killed}; {found['open']} not done, "
        f"{found['twice']} ran twice, {found['errors']} errors",
        flush=True,
    )
    sys.exit(bool(found["open"] or found["twice"] or found["errors"]))


if __name__ == "__main__":
    main()

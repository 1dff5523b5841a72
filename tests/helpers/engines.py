"""Real engines on this machine: Ray with several raylets, Slurm with two nodes."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

CONFIGURATION = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=10
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ReturnToService=2
MpiDefault=none
KillWait=5
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={n1} CPUs=1 RealMemory=4000 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={n2} CPUs=1 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "munge")


def missing(executor: str) -> str:
    """Why an engine cannot be started here; empty = it can."""
    if executor == "slurm":
        lacking = [name for name in PROGRAMS if _program(name) is None]
        if lacking:
            return f"no {', '.join(lacking)} here; install slurmctld, slurmd, slurm-client, munge"
        if os.geteuid():
            return "slurmd starts as root"
    try:
        __import__({"slurm": "submitit"}.get(executor, executor)) if executor != "local" else None
    except ImportError as error:
        return str(error)
    return ""


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


class Local:
    """No engine: processes of the command, all on one node."""

    def kill_a_node(self, chance: random.Random) -> bool:
        """There is none to kill."""
        return False


class Slurm:
    """A controller, two nodes of a core each and munge, all in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = _free_ports(3)
        host = socket.gethostname()
        for name in ("state", "spool-n1", "spool-n2", "munge"):
            (folder / name).mkdir(parents=True)
        self.path = folder / "slurm.conf"
        self.path.write_text(
            CONFIGURATION.format(host=host, folder=folder, port=ports[0], n1=ports[1], n2=ports[2])
        )
        key = folder / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        (folder / "munge").chmod(0o755)
        munge = [f"--{what}-file={folder}/munge/{what}" for what in ("key", "pid", "log", "seed")]
        os.environ["SLURM_CONF"] = str(self.path)
        self._call("munged", "--force", f"--socket={folder}/munge/socket", *munge)
        self._call("slurmctld")
        for node in ("n1", "n2"):
            self.start_node(node)
        for _ in range(60):
            told = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True)
            if told.stdout.split() == ["idle"]:
                return
            time.sleep(0.5)
        raise RuntimeError(f"Slurm did not start; see {folder}/slurmctld.log")

    def _call(self, name: str, *words: str) -> None:
        program = _program(name)
        assert program
        subprocess.run([program, *words], check=True, capture_output=True, timeout=60)

    def start_node(self, node: str) -> None:
        """Starts a node's daemon."""
        self._call("slurmd", "-N", node)

    def _processes(self, *words: str) -> list[int]:
        """What was started with these words, and this configuration, in its environment."""
        mine = {f"SLURM_CONF={self.path}", *words}
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mine <= set(path.read_bytes().decode(errors="replace").split("\0")):
                    found.append(int(path.parent.name))
        return found

    def kill_a_node(self, chance: random.Random) -> bool:
        """Kills a node's daemon and what runs there; it comes back a moment later."""
        node = chance.choice(("n1", "n2"))
        pids = [
            int((self.folder / f"slurmd-{node}.pid").read_text()),
            *self._processes(f"SLURMD_NODENAME={node}"),
        ]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.5)
        self.start_node(node)
        return True

    def stop(self) -> None:
        """Ends everything."""
        subprocess.run(["scancel", "--me"], check=False, capture_output=True, timeout=60)
        pids = []
        paths = (*self.folder.glob("*.pid"), self.folder / "munge" / "pid")
        for path in paths:
            with contextlib.suppress(OSError, ValueError):
                pids.append(int(path.read_text()))
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        time.sleep(1)
        for pid in self._processes():  # of jobs, and what is left of the daemons
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        del os.environ["SLURM_CONF"]


class Ray:
    """A head that runs nothing, and raylets of a core each."""

    def __init__(self, raylets: int = 3) -> None:
        os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")  # of a busy machine
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self.address = self._cluster.address
        self._nodes = [self._join() for _ in range(raylets)]

    def _join(self):
        for left in (3, 2, 1, 0):
            try:
                return self._cluster.add_node(num_cpus=1)
            except Exception:  # of Ray, where a busy machine starts a raylet too slowly
                if not left:
                    raise
        return None

    def kill_a_node(self, chance: random.Random) -> bool:
        """Kills a raylet; another one joins."""
        node = self._nodes.pop(chance.randrange(len(self._nodes)))
        self._cluster.remove_node(node, allow_graceful=False)
        self._nodes.append(self._join())
        return True

    def stop(self) -> None:
        """Ends everything."""
        self._cluster.shutdown()


@contextlib.contextmanager
def cluster(executor: str, folder: Path) -> Iterator[Local | Slurm | Ray]:
    """An engine that runs inside the block."""
    if executor == "local":
        yield Local()
        return
    engine = Slurm(folder / "slurm") if executor == "slurm" else Ray()
    try:
        yield engine
    finally:
        engine.stop()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()

"""What is known of a run in progress, and the record of one that ends early."""

import datetime
import platform
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmark.core.machine import device_name
from benchmark.core.record import Compiled, Execution, Provenance, Record, Status
from benchmark.core.spec import RunSpec, short_hash
from benchmark.engine import checkpoint
from benchmark.engine.checkpoint import TrainState
from benchmark.engine.measure import Phases
from benchmark.execution.environment import Environment
from benchmark.planning import remembered
from benchmark.planning.catalogue import DECODERS
from benchmark.planning.plan import command, plugin_files
from benchmark.results import provenance, store
from methods.base import Method


@dataclass
class RunState:
    """What is known of a run so far; its record says so, however it ends.

    Attributes:
        results: the results folder.
        spec: of the run.
        method: of the run.
        findings: of the audit of its data.
        near_copies: see `Record.near_copies`.
        started: UTC, ISO 8601.
        phases: seconds by phase.
        opened: times that scores on a split were seen or saved, by its name, over all attempts.
        training: how far it is.
        known_stages: leading stages whose output is taken from the cache.
    """

    results: Path
    spec: RunSpec
    method: Method
    findings: tuple[str, ...] = ()
    near_copies: int | None = None
    started: str = field(default_factory=lambda: _now(), init=False)
    phases: Phases = field(default_factory=Phases, init=False)
    opened: dict[str, int] = field(init=False)
    training: TrainState = field(default_factory=TrainState, init=False)
    known_stages: int = 0

    def __post_init__(self) -> None:
        self.opened = store.openings(self.results, self.spec)

    @property
    def checkpoint(self) -> Path:
        """Its file, beside the run's folder."""
        return store.checkpoint_of(self.results, self.spec)

    def identity(self, devices: int = 1, **found: str | None) -> dict[str, str]:
        """Everything that training depends on: a checkpoint of anything else is not taken.

        Any number of devices resumes what any other began, up to rounding.

        Args:
            devices: that share each batch.
            **found: hashes of weights and data, how it computes and the type of the device.
        """
        decoder = DECODERS.get(self.spec.protocol.decoder)
        return {name: str(value) for name, value in found.items()} | {
            "run": self.spec.run_id,
            "method": provenance.method_sha256(type(self.method)),
            "code": provenance.training_sha256(decoder),
            "packages": short_hash(provenance.package_versions()),
            "threads": str(torch.get_num_threads()) if devices == 1 else checkpoint.ANY,
        }

    def opens(self, split: str) -> None:
        """Scores on a split are about to be seen or saved, which is noted on disk first.

        An evaluation that ends before it has a result opens nothing.
        """
        self.opened |= {split: self.opened.get(split, 0) + 1}
        store.log_openings(self.results, self.spec, self.opened)

    def execution(self) -> Execution | None:
        """For the record; None before anything was trained or evaluated."""
        training = self.training
        if not training.starts and not self.opened:
            return None
        return Execution(
            starts=training.starts,
            resumed_at=tuple(training.resumed_at),
            micro_batch=training.micro_batch,
            opened_splits=self.opened,
            known_stages=self.known_stages,
            compiled=Compiled(
                after_step=training.compiled_after,
                seconds=training.compile_seconds,
                gain=training.gain,
            )
            if training.compiled_after
            else None,
        )

    def record(
        self, environment: Environment, status: Status, reason: str = "", traceback: str = ""
    ) -> Record:
        """The record of the run as far as it is, without numbers.

        Args:
            environment: where it ran.
            status: how it ended.
            reason: why, if it is not done.
            traceback: of an error that a user cannot fix.
        """
        spec, device = self.spec, environment.device
        compute, count = environment.compute_of(spec), environment.ranks.count
        name = device_name(str(device))
        commit, dirty = provenance.git_state()
        return Record(
            run_id=spec.run_id,
            suite=spec.suite,
            benchmark=spec.benchmark,
            benchmark_version=spec.benchmark_version,
            backbone=spec.backbone,
            method=spec.method_label,
            method_params=spec.method_params,
            method_traits={
                "supports": sorted(self.method.supports),
                "keeps_structure": self.method.keeps_structure,
                "mergeable": self.method.mergeable,
                "identity_at_init": self.method.identity_at_init,
                "reference": self.method.reference,
            },
            weights=spec.weights,
            seed=spec.seed,
            protocol=spec.protocol.model_dump(),
            protocol_hash=spec.protocol.hash,
            status=status,
            reason=" ".join(reason.split()),
            traceback=traceback,
            command=command(spec),
            plugins=remembered.note(plugin_files(spec), self.results),
            tuning=spec.tuning,
            execution=self.execution(),
            data_findings=self.findings,
            near_copies=self.near_copies,
            provenance=Provenance(
                git_commit=commit,
                git_dirty=dirty,
                packages=provenance.package_versions(),
                python=platform.python_version(),
                platform=f"{platform.system()} {platform.machine()}",
                # Times on several devices are no estimate of those on one.
                device=f"{count} x {name}" if count > 1 else name,
                threads=torch.get_num_threads(),
                devices=count,
                sharded=environment.shard,
                precision=compute.precision,
                attention=compute.attention,
                weights="none (random)" if spec.weights == "none" else spec.backbone,
                weights_sha256=None,
                data_sha256=None,
                started=self.started,
                method_sha256=provenance.method_sha256(type(self.method)),
            ),
        )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")

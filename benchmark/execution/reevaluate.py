"""Stored runs, evaluated again: as they were, or on corrupted images."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmark.core.errors import UserError
from benchmark.core.seeding import stream
from benchmark.core.selectors import did_you_mean
from benchmark.core.spec import RunSpec
from benchmark.data.base import Example
from benchmark.data.corruptions import CORRUPTIONS, VERSION, corrupt
from benchmark.engine.evaluate import Counts, evaluate
from benchmark.execution.environment import Environment
from benchmark.execution.splits import decoded, open_benchmark
from benchmark.inference import restore as inference
from benchmark.inference.find import find_run
from benchmark.inference.restore import backbone_of, task_in
from benchmark.models.segmenter import Segmenter
from benchmark.results import lock, robustness, store
from benchmark.results.metrics import CLASS_COUNTS
from benchmark.results.robustness import Robustness

SEVERITIES = (1, 3, 5)
TOLERANCE = 1e-3
"""Other hardware rounds otherwise: mIoU may differ by this when a run is evaluated again."""

Progress = Callable[[str, int, int], None]
"""Called with what is evaluated, the number of evaluations done, and their total."""


def choose(text: str | None) -> list[str]:
    """Corruptions from a comma list of names and groups; None = all.

    Raises:
        UserError: a name is unknown.
    """
    if text is None:
        return list(CORRUPTIONS)
    groups = {corruption.group for corruption in CORRUPTIONS.values()}
    chosen: dict[str, None] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        if part not in CORRUPTIONS and part not in groups:
            hint = did_you_mean(part, [*CORRUPTIONS, *groups])
            raise UserError(f"unknown corruption {part!r}{hint}")
        chosen |= dict.fromkeys(n for n, c in CORRUPTIONS.items() if part in (n, c.group))
    if not chosen:
        raise UserError(f"no corruption selected in {text!r}; name at least one")
    return list(chosen)


def restore(spec: RunSpec, results: Path, environment: Environment) -> Segmenter:
    """A finished run's segmenter, in eval mode.

    Raises:
        UserError: the run is not done, or what it needs is missing or another; see `load`.
    """
    if not store.is_done(results, spec):
        raise UserError(f"run {spec.run_id} has not finished; run it first")
    run = find_run(results / spec.folder)
    task = task_in(run)
    backbone = backbone_of(run, task, environment.weights, environment.device)
    return inference.restore(run, task, backbone)


def corrupted(examples: Sequence[Example], name: str, severity: int) -> Iterator[Example]:
    """Corrupted copies, the same for every run: random numbers depend on the image's id alone."""
    for example in examples:
        random = stream(0, "corruption", name, severity, example.id)
        yield Example(example.id, corrupt(example.image, name, severity, random), example.label)


def again(spec: RunSpec, results: Path, environment: Environment) -> tuple[float, float]:
    """MIoU of a finished run as recorded, and as it comes out now.

    Raises:
        UserError: see `restore`; or another process works on the run.
    """
    with _held(spec, results):
        environment = _as_recorded(spec, results, environment)
        return _stored_miou(results / spec.folder), _miou(spec, results, environment)


@contextmanager
def _held(spec: RunSpec, results: Path) -> Iterator[None]:
    """Keeps others from writing into the run's folder inside the block."""
    with lock.hold(results, spec) as mine:
        if not mine:
            raise UserError(
                f"another process is working on run {spec.run_id}; try again when it has finished"
            )
        yield


def _as_recorded(spec: RunSpec, results: Path, environment: Environment) -> Environment:
    """The environment with the precision and attention that a run has in its record."""
    record = store.record_of(results, spec)
    compute = None if record is None else record.provenance.compute
    return dataclasses.replace(environment, compute=compute)


def _miou(spec: RunSpec, results: Path, environment: Environment) -> float:
    segmenter = restore(spec, results, environment)
    examples = decoded(spec.benchmark, environment.data, spec.protocol.eval_split)
    counts = _evaluate(spec, segmenter, examples, environment)
    store.count_opening(results / spec.folder, spec.protocol.eval_split)
    return robustness.miou(counts)


def _stored_miou(folder: Path) -> float:
    record = store.read_record(folder)
    if record is None or record.metrics is None:
        raise UserError(f"{folder}: the run has no metrics to compare with; repeat the run")
    return record.metrics.miou


def stress(
    spec: RunSpec,
    results: Path,
    environment: Environment,
    names: Sequence[str],
    severities: Sequence[int] = SEVERITIES,
    progress: Progress | None = None,
) -> Robustness:
    """Evaluates a finished run on corrupted images and stores that beside its record.

    What was measured before is kept, and not measured again; each score is stored at once.

    Returns:
        The scores of what was asked for.

    Raises:
        UserError: see `restore`; the run does not reproduce its recorded score; or another process
            works on it.
    """
    with _held(spec, results):
        environment = _as_recorded(spec, results, environment)
        return _stress(spec, results, environment, names, severities, progress)


def _stress(
    spec: RunSpec,
    results: Path,
    environment: Environment,
    names: Sequence[str],
    severities: Sequence[int],
    progress: Progress | None,
) -> Robustness:
    folder = results / spec.folder
    segmenter = restore(spec, results, environment)
    examples = decoded(spec.benchmark, environment.data, spec.protocol.eval_split)
    clean = _stored_miou(folder)
    found = _evaluate(spec, segmenter, examples, environment)
    store.count_opening(folder, spec.protocol.eval_split)
    now = robustness.miou(found)
    if abs(now - clean) > TOLERANCE:
        raise UserError(
            f"run {spec.run_id} scored mIoU {clean:.4f} and now scores {now:.4f}: its code, data "
            "or weights have changed; repeat the run"
        )
    counts: Counts = robustness.read_counts(folder, VERSION)
    asked = [(name, severity) for name in names for severity in severities]
    missing = [pair for pair in asked if f"{pair[0]}/{pair[1]}/label" not in counts]
    groups = {name: corruption.group for name, corruption in CORRUPTIONS.items()}

    def scores() -> Robustness:
        split = spec.protocol.eval_split
        return robustness.make(spec.run_id, split, clean, groups, counts, VERSION)

    for done, (name, severity) in enumerate(missing, 1):
        found = _evaluate(spec, segmenter, corrupted(examples, name, severity), environment)
        counts |= {f"{name}/{severity}/{kind}": found[kind] for kind in CLASS_COUNTS}
        robustness.write(folder, scores(), counts)
        if progress:
            progress(f"{name}, severity {severity}", done, len(missing))
    return scores().only(asked)


def _evaluate(
    spec: RunSpec,
    segmenter: Segmenter,
    examples: Sequence[Example] | Iterator[Example],
    environment: Environment,
) -> dict[str, np.ndarray]:
    precision = environment.compute_of(spec).precision
    benchmark = open_benchmark(spec.benchmark, environment.data)
    return evaluate(segmenter, benchmark, examples, spec.protocol, precision, full=False)

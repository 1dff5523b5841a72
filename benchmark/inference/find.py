"""Which run a user means, and whether it can be used."""

from dataclasses import dataclass
from pathlib import Path

from benchmark.core.errors import UserError
from benchmark.core.files import file_sha256
from benchmark.core.record import RECORD, Record, Stored
from benchmark.core.spec import RunSpec
from benchmark.results import record_file, remote, store
from benchmark.results.remote import DELTA
from benchmark.results.validate import spec_of


@dataclass(frozen=True)
class Run:
    """A finished run with its trained tensors.

    Attributes:
        folder: where record and delta are.
        root: the results folder; of a run that is in none, its own.
        record: of the run.
        spec: what was run.
    """

    folder: Path
    root: Path
    record: Record
    spec: RunSpec

    @property
    def delta(self) -> Path:
        """The file of the trained tensors."""
        return self.folder / DELTA


def find_run(run: str | Path, results: str | Path = "results") -> Run:
    """The run that a name means.

    Args:
        run: the folder of a run, wherever it is; or a run id, or its first characters.
        results: the results folder, or its URL, that ids are looked up in.

    Raises:
        UserError: there is no such run, several match, it is not done, its trained tensors are not
            there, or they are not those of the record.
    """
    folder, record = _found(run, remote.located(results))
    if record.status != "done" or record.costs is None:
        what = record.status if record.status != "done" else "done, but without costs"
        raise UserError(
            f"run {record.run_id} is {what}, so there is nothing to use; run it: {record.command}"
        )
    try:
        spec = spec_of(record)
    except ValueError as error:
        raise UserError(
            f"{folder / RECORD}: its protocol is of another version of petseg-bench; run it again: "
            f"{record.command}"
        ) from error
    remote.fetch(folder, [folder], deltas=True)
    _check_delta(folder / DELTA, record, record.costs.stored)
    above = folder.resolve().parents
    inside = len(above) > 4 and folder.resolve() == above[4] / spec.folder
    return Run(folder, above[4] if inside else folder, record, spec)


def _found(run: str | Path, results: Path) -> tuple[Path, Record]:
    path = Path(run)
    if path.name == RECORD and path.is_file():
        path = path.parent
    if path.is_dir():
        try:
            return path, record_file.read(path)
        except FileNotFoundError:
            raise UserError(
                f"{path} holds no {RECORD}; name the folder of a run, or a run id"
            ) from None
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path / RECORD} cannot be read ({error}); `doctor` says why"
            ) from error
    if len(path.parts) != 1:
        raise UserError(f"{path}: no such folder; name the folder of a run, or a run id")
    return store.find_one(results, str(run))


def _check_delta(path: Path, record: Record, stored: Stored) -> None:
    if not path.is_file():
        raise UserError(
            f"run {record.run_id}: {path} is missing (published records come without trained "
            f"tensors); train it: {record.command}"
        )
    try:
        size = path.stat().st_size
        same = size == stored.bytes and stored.sha256 in (None, file_sha256(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); repeat the run") from error
    if not same:
        raise UserError(
            f"{path} is not what run {record.run_id} stored (size or SHA-256 differs from the "
            f"record); copy it again, or repeat the run: {record.command}"
        )

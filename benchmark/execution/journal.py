"""What `tune` has found so far, as Optuna's journal file.

A study is a method on a backbone, a trial a setting. The records of the trials' cells decide what
happens; the journal says which study they belong to, so that a folder is never continued with
another one, and shows it to Optuna's own tools (`optuna-dashboard journal.log`).
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from benchmark.core.errors import UserError
from benchmark.core.files import make_folder
from benchmark.planning.trials import Study

NAME = "journal.log"
_ELSEWHERE = "continue that one, or choose another folder with --results DIR"


@contextmanager
def opened(folder: Path) -> Iterator["Journal"]:
    """The journal of a folder, which is this command's alone inside the block.

    Raises:
        UserError: another command has it, or it cannot be written or read.
    """
    try:
        make_folder(folder)
        with FileLock(folder / ".tune.lock", timeout=0):
            yield Journal(folder / NAME)
    except Timeout:
        raise UserError(
            f"another `tune` works in {folder}; wait until it is done, or choose another folder "
            "with --results DIR"
        ) from None
    except OSError as error:
        raise UserError(
            f"{error.filename or folder} cannot be written ({error.strerror or error}); choose "
            "another folder with --results DIR"
        ) from error


class Journal:
    """The studies of a folder; for one process at a time, see `opened`.

    Args:
        path: the file; it need not exist.

    Raises:
        UserError: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.path = path
        _mend(path)
        try:
            self._storage = JournalStorage(JournalFileBackend(str(path)))
            self._known = optuna.get_all_study_names(self._storage)
        except OSError:
            raise
        except Exception as error:  # of Optuna, on what is not its own
            raise UserError(
                f"{path} is damaged; move it away, and repeat the command: finished cells are kept"
            ) from error

    def begin(self, study: Study, asked: Mapping[str, Any]) -> None:
        """Enters a study with its trials, or checks that it is the one that was entered.

        Args:
            study: its name, space and settings.
            asked: whatever else decides its outcome; plain values.

        Raises:
            UserError: it was entered with other settings.
        """
        content = {**asked, "space": study.space, "settings": study.chosen}
        wanted = json.loads(json.dumps(content))
        if study.name in self._known:
            found = optuna.load_study(study_name=study.name, storage=self._storage)
            former = found.user_attrs.get("asked", wanted)
            for field, value in wanted.items():
                if former.get(field) != value:
                    raise UserError(
                        f"{self.path} has {study.name} with {field} {_short(former.get(field))}, "
                        f"not {_short(value)}; {_ELSEWHERE}"
                    )
        else:
            found = optuna.create_study(
                study_name=study.name, storage=self._storage, direction="maximize"
            )
        if "asked" not in found.user_attrs:
            found.set_user_attr("asked", wanted)
        space = {field: _distribution(field, values) for field, values in study.space.items()}
        for fields in study.chosen[len(found.trials) :]:
            found.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.RUNNING, params=dict(fields), distributions=space
                )
            )

    def report(self, study: Study, trial: int, benchmarks: int, score: float) -> None:
        """A trial has run on the first benchmarks.

        Raises:
            UserError: the journal holds another score of it.
        """
        known = self._trial(study, trial)
        former = known.intermediate_values.get(benchmarks)
        if former is None:
            self._storage.set_trial_intermediate_value(self._id(study, trial), benchmarks, score)
        elif former != score:
            raise UserError(
                f"{self.path} has {former:.6f} for trial {trial} of {study.name}, but its records "
                f"say {score:.6f}: code, data or records changed since; choose another folder with "
                "--results DIR"
            )

    def end(self, study: Study, trial: int, score: float, pruned: bool) -> None:
        """A trial is over.

        Args:
            study: of the trial.
            trial: its number.
            score: over the benchmarks that it ran on.
            pruned: whether these are not all.
        """
        if not self._trial(study, trial).state.is_finished():
            state = TrialState.PRUNED if pruned else TrialState.COMPLETE
            self._storage.set_trial_state_values(self._id(study, trial), state, [score])

    def _trial(self, study: Study, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._id(study, number))

    def _id(self, study: Study, number: int) -> int:
        own = self._storage.get_study_id_from_name(study.name)
        return self._storage.get_trial_id_from_study_id_trial_number(own, number)


def _distribution(field: str, values: tuple[Any, ...]) -> BaseDistribution:
    if field == "lr":
        low, high = values
        return FloatDistribution(low, high, log=True)
    return CategoricalDistribution(values)


def _mend(path: Path) -> None:
    """Takes away what a killed process left: half a line, and Optuna's own lock."""
    with contextlib.suppress(FileNotFoundError):
        path.with_name(f"{path.name}.lock").unlink()
    with contextlib.suppress(FileNotFoundError), path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

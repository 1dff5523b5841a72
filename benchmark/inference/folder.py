"""Masks of many images and videos, in a folder that can be filled in several goes.

Every mask says in its own file which run made it of which file. So what is there already is
skipped, however often the work is stopped; and masks of different runs or inputs never mix.
"""

import csv
import errno
import io
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.core.errors import DataError, UserError
from benchmark.core.files import make_folder, write_atomic
from benchmark.core.format import counted
from benchmark.engine.out_of_memory import is_out_of_memory
from benchmark.inference import video
from benchmark.inference.inputs import MASKS, OVERLAYS, TABLE, Input
from benchmark.inference.pictures import jpeg, mask_in, mask_png, note_in, overlay, stored_values
from benchmark.inference.predictor import Predictor

COMPLETE = ".complete"
"""Beside the masks of a video: how many frames it has, when all have a mask."""

Note = dict[str, Any]

Tell = Callable[[Input], None]
"""Called after each image, or frame of a video, with the file."""


@dataclass
class Outcome:
    """What was done.

    Attributes:
        written: masks that were made.
        skipped: masks that were there.
        unread: files that could not be used.
    """

    written: int = 0
    skipped: int = 0
    unread: int = 0

    def count(self, there: bool) -> None:
        """Counts a mask."""
        self.skipped += there
        self.written += not there


class Folder:
    """A folder of results of one run.

    Args:
        out: the folder; made where it does not exist.
        predictor: that makes the masks.
        overlays: write pictures of the classes over the images, too.
        force: replace results of another run.
        own_values: masks store what labels of the set store of a class, not its index.

    Raises:
        UserError: the folder cannot be written, or what labels store is not known.
    """

    def __init__(
        self,
        out: Path,
        predictor: Predictor,
        overlays: bool = False,
        force: bool = False,
        own_values: bool = False,
    ) -> None:
        self.out, self.predictor, self.overlays, self.force = out, predictor, overlays, force
        self._run: Note = {
            "run": predictor.record.run_id,
            "delta": predictor.delta_sha256,
            "stored": None,
        }
        self._stored: np.ndarray | None = None
        if own_values:
            values = predictor.task.values
            if not values:
                raise UserError(
                    f"--own-values: what labels of {predictor.record.benchmark} store is not known "
                    f"from run {predictor.record.run_id}, which is older than that or of no YAML "
                    "file; leave --own-values out, and masks store the class index"
                )
            self._stored = stored_values(values)
            self._run["stored"] = list(values)
        self._notes: dict[Path, Note] = {}
        try:
            make_folder(out / MASKS)
            if overlays:
                make_folder(out / OVERLAYS)
            write_atomic(out / ".probe", b"")
            (out / ".probe").unlink()
        except (OSError, ValueError) as error:  # ValueError: a NUL in its name
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"--out {out} cannot be written ({reason}); choose another") from error

    def fill(self, inputs: Sequence[Input], tell: Tell, problem: Callable[[str], None]) -> Outcome:
        """Makes the masks that are missing, and the table of all.

        Args:
            inputs: what to predict.
            tell: called after each image or frame.
            problem: called with one line on a file that cannot be used.

        Raises:
            UserError: a file in the way is no mask of one of the inputs, or is another run's;
                nothing was written then.
            OSError: results cannot be written.
        """
        self._clear(inputs)
        outcome = Outcome()
        try:
            for one in inputs:
                try:
                    (self._video if one.is_video else self._image)(one, outcome, tell)
                except (DataError, MemoryError, RuntimeError) as error:
                    too_large = is_out_of_memory(error)
                    if not (too_large or isinstance(error, DataError)):
                        raise
                    outcome.unread += 1
                    problem(f"{one.path} is too large for memory" if too_large else str(error))
                except OSError as error:
                    if error.errno != errno.ENAMETOOLONG:
                        raise
                    outcome.unread += 1
                    problem(f"{one.path}: its name is too long for that of a mask; rename it")
        except BaseException:
            with suppress(OSError):
                self._write_table()  # of what is there when it is stopped
            raise
        self._write_table()
        return outcome

    def hint(self) -> str:
        """That most masks show one class and nothing else; empty where they do not."""
        counts = [np.array(note["pixels"]) for note in self._notes.values()]
        alone = [int(np.argmax(some)) for some in counts if np.count_nonzero(some) == 1]
        if len(self.predictor.classes) < 2 or 2 * len(alone) <= len(counts):
            return ""
        most = max(set(alone), key=alone.count)
        return (
            f"{alone.count(most)} of {counted(len(counts), 'mask')} show "
            f"{self.predictor.classes[most]} alone: if the images hold more, the network misses "
            "it; look at the IoU of each class in the report"
        )

    def _clear(self, inputs: Sequence[Input]) -> None:
        """Removes results that are out of date, all before the first new one.

        Raises:
            UserError: something else is in their places.
        """
        named = {self._place(one): one for one in inputs}
        outdated: dict[Path, Input] = {}
        others: list[str] = []
        for path in sorted((self.out / MASKS).rglob("[!.]*.png")):
            one, note = _maker(path, named), note_in(path)
            if note is None or not note.keys() >= {"image", "pixels", "run", "delta"}:
                if one is not None:
                    raise UserError(f"{path} is no mask of `predict`; choose another --out")
            elif one is None and not _holds(note, self._run):
                raise UserError(
                    f"{path} was made by run {note['run']} of an image that is not named now; "
                    "choose another --out"
                )
            elif one is not None and note["image"] != self._source(one)["image"]:
                raise UserError(
                    f"{path} is the mask of {self.out / note['image']}; choose another --out"
                )
            elif one is not None and not _holds(note, self._run | self._source(one)):
                outdated[self._place(one)] = one
                if not _holds(note, self._run):
                    same = note["run"] == self._run["run"] and note["delta"] == self._run["delta"]
                    others.append(f"{note['run']}{' with other values' if same else ''}")
            else:
                self._notes[path] = note
        if others and not self.force:
            whose = ", ".join(dict.fromkeys(others))
            raise UserError(
                f"--out {self.out} holds {counted(len(others), 'mask')} of run {whose}; choose "
                "another --out, or add --force to replace them and their overlays"
            )
        for one in outdated.values():
            (self.out / TABLE).unlink(missing_ok=True)
            self._remove(one)

    def _remove(self, one: Input) -> None:
        """Removes all results of an image or a video."""
        place = self._place(one)
        if one.is_video:
            results = [*place.glob("[0-9]*.png"), place / COMPLETE, self._shown(one, ".mp4")]
        else:
            results = [_with(place, ".png"), self._shown(one, ".jpg")]
        for path in results:
            path.unlink(missing_ok=True)
            self._notes.pop(path, None)

    def _image(self, one: Input, outcome: Outcome, tell: Tell) -> None:
        place = self._place(one)
        path, picture = _with(place, ".png"), self._shown(one, ".jpg")
        there = path in self._notes
        if not there or (self.overlays and not picture.exists()):
            image = self.predictor.read(one.path)
            mask = self._mask(path) if there else self.predictor.predict_array(image)
            if self.overlays:
                make_folder(picture.parent)
                write_atomic(picture, jpeg(overlay(image, mask, self.predictor.palette)))
            else:
                picture.unlink(missing_ok=True)  # of an attempt that was stopped
            if not there:
                self._store(path, mask, self._source(one))
        outcome.count(there)
        tell(one)

    def _video(self, one: Input, outcome: Outcome, tell: Tell) -> None:
        place, source, shown = self._place(one), self._source(one), self._shown(one, ".mp4")
        whole = place / COMPLETE
        there = [path for path in self._notes if path.parent == place]
        complete = whole.exists() and whole.read_bytes() == str(len(there)).encode()
        if complete and (shown.exists() or not self.overlays):
            for _ in there:
                outcome.count(True)
            tell(one)
            return
        if self.predictor.task.channels != 3 or self.predictor.task.bands:
            raise DataError(f"{one.path} is RGB, but the network takes other bands; name images")
        with ExitStack() as stack:
            writer = None
            if self.overlays:
                make_folder(shown.parent)
                writer = stack.enter_context(video.Writer(shown))
            for frame in video.frames(one.path):
                path = place / f"{frame.number:06}.png"
                made = path in self._notes
                mask = self._mask(path) if made else self.predictor.predict_array(frame.image)
                if not made:
                    self._store(path, mask, source)
                if writer is not None:
                    writer.write(frame, overlay(frame.image, mask, self.predictor.palette))
                outcome.count(made)
                tell(one)
        write_atomic(whole, str(frame.number + 1).encode())

    def _store(self, path: Path, mask: np.ndarray, source: Note) -> None:
        pixels = np.bincount(mask.ravel(), minlength=len(self.predictor.classes)).tolist()
        note = self._run | source | {"pixels": pixels}
        make_folder(path.parent)
        write_atomic(path, mask_png(mask, self.predictor.palette, note, self._stored))
        self._notes[path] = note

    def _mask(self, path: Path) -> np.ndarray:
        """Class indices in a mask that is there."""
        return mask_in(path, self._stored)

    def _place(self, one: Input) -> Path:
        """Where masks of a file are: with a suffix, or as a folder that holds those of frames."""
        return self.out / MASKS / one.name

    def _shown(self, one: Input, suffix: str) -> Path:
        return _with(self.out / OVERLAYS / one.name, suffix)

    def _source(self, one: Input) -> Note:
        """What a mask's file says of the file that it was made of."""
        note: Note = {"image": Path(os.path.relpath(one.path, self.out)).as_posix()}
        with suppress(OSError):  # of a file that is not there: reading it will say so
            status = one.path.stat()
            note |= {"size": status.st_size, "modified": status.st_mtime_ns}
        return note

    def _write_table(self) -> None:
        """Writes classes.csv: of each mask the share of each class."""
        lines = io.StringIO()
        table = csv.writer(lines, lineterminator="\n")
        table.writerow(["image", "mask", *self.predictor.classes])
        for path, note in sorted(self._notes.items()):
            pixels = note["pixels"]
            shares = [f"{count / sum(pixels):.6f}" for count in pixels]
            table.writerow([note["image"], path.relative_to(self.out).as_posix(), *shares])
        # Names of files may hold bytes that are no text.
        write_atomic(self.out / TABLE, lines.getvalue().encode(errors="backslashreplace"))


def _maker(path: Path, named: Mapping[Path, Input]) -> Input | None:
    """The image, or the video, that a mask belongs to by its name; None where it is not named."""
    image, film = named.get(path.with_suffix("")), named.get(path.parent)
    if image is not None and not image.is_video:
        return image
    return film if film is not None and film.is_video else None


def _holds(note: Note, wanted: Note) -> bool:
    return all(note.get(name) == value for name, value in wanted.items())


def _with(path: Path, suffix: str) -> Path:
    # `with_suffix` would take a part of a name with a dot for one.
    return path.with_name(path.name + suffix)

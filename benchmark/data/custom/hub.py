"""A dataset of the Hugging Face hub, or one that `datasets` saved or can read in a local folder.

It is read by the library `datasets` (the extra `hub` of this package), never by code that comes
with the data. Ids count the rows of a split; without a val split, a tenth of train becomes val.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from benchmark.core.errors import DataError, UserError, on_one_line
from benchmark.core.selectors import did_you_mean
from benchmark.core.spec import short_hash
from benchmark.data.base import SPLITS, Split
from benchmark.data.custom.described import DescribedBenchmark
from benchmark.data.custom.description import Description, Hub
from benchmark.data.files import decoded, read_with


class HubDataset(DescribedBenchmark):
    """Rows with an image and a label image.

    Raises:
        UserError: the library `datasets` is not installed.
        DataError: the dataset cannot be loaded, or lacks a split or column.
    """

    def __init__(self, root: Path | None = None) -> None:
        super().__init__(root)
        self._hub = _hub(self.description)
        self._local = self.home / Path(self._hub.path).expanduser()
        names = self._hub.splits.model_dump(exclude_none=True)
        self._data = {split: self._load(name) for split, name in names.items()}
        self._ids: dict[str, list[str]] = {split: [] for split in SPLITS} | {
            split: [f"{split}/{row:07}" for row in range(len(data))]
            for split, data in self._data.items()
        }
        if "val" not in self._data:
            self._ids["train"], self._ids["val"] = self.carved(self._ids["train"])

    @classmethod
    def source(cls, description: Description, home: Path) -> str:
        """The local folder, or the address on the hub."""
        hub = _hub(description)
        local = home / Path(hub.path).expanduser()
        if local.is_dir():
            return str(local)
        if hub.data_files is not None:
            return f"{hub.path} files beside the YAML file"
        return f"huggingface.co/datasets/{hub.path}" + (
            f" @ {hub.revision}" if hub.revision else ""
        )

    def _load(self, name: str) -> Any:
        try:
            import datasets
        except ImportError as error:
            raise UserError(
                f"{self.name}: datasets of the hub need an extra; pip install 'petseg-bench[hub]'"
            ) from error
        try:
            data = self._read_split(name)
        except UserError:
            raise
        except Exception as error:
            # The hub and its formats fail in as many ways as there are networks and files.
            raise DataError(
                f"{self.name}: split {name!r} of {self.origin} cannot be loaded "
                f"({on_one_line(error)}); check `hub` and the network"
            ) from error
        for role, kinds in (("image", (datasets.Image, str)), ("label", (datasets.Image,))):
            column = getattr(self._hub, role)
            if column not in data.column_names:
                hint = did_you_mean(column, data.column_names)
                raise DataError(f"{self.name}: {self.origin} has no column {column!r}{hint}")
            feature = data.features[column]
            held = str if getattr(feature, "dtype", "") == "string" else type(feature)
            if held not in kinds:
                raise DataError(
                    f"{self.name}: column {column!r} of {self.origin} holds {feature}, not images; "
                    f"name another by `hub.{role}`"
                )
            if held is not str:
                # As files: the library would turn labels by their EXIF orientation, too.
                data = data.cast_column(column, datasets.Image(decode=False))
        return data.select_columns([self._hub.image, self._hub.label])

    def _read_split(self, name: str) -> Any:
        import datasets

        if any((self._local / file).exists() for file in ("dataset_dict.json", "state.json")):
            saved = datasets.load_from_disk(str(self._local))
            if not isinstance(saved, datasets.DatasetDict):
                raise DataError(
                    f"{self.name}: {self._local} holds one dataset without splits; save a "
                    "DatasetDict with train and test"
                )
            if name not in saved:
                hint = did_you_mean(name, saved)
                raise DataError(f"{self.name}: {self._local} has no split {name!r}{hint}")
            return saved[name]
        path = self._hub.path
        if not self._local.is_dir() and path.startswith((".", "/", "~")):
            raise DataError(
                f"{self.name}: the folder {self._local} is missing; correct `hub.path`, which is "
                "relative to the YAML file"
            )
        return datasets.load_dataset(
            str(self._local) if self._local.is_dir() else path,
            revision=self._hub.revision,
            split=name,
            data_files=_beside(self._hub.data_files, self.home),
            # Releases before 4.0 would otherwise ask whether to run a dataset's own code.
            trust_remote_code=False,
        )

    def ids(self, split: Split) -> list[str]:
        """Ids such as `train/0000042`; those of a carved val begin with `train/`."""
        return list(self._ids[split])

    def read(self, id: str) -> tuple[np.ndarray, np.ndarray]:
        """See `Benchmark.read`."""
        image, label = self._row(id)
        if image is None or label is None:
            raise DataError(f"{self.where(id)} has no image or no label; remove the row")
        pixels = self._decoded(image, id, self.image_of)
        return pixels, self.decode(self._decoded(label, id, self.stored_in), id, pixels.shape)

    def _row(self, id: str) -> tuple[Any, Any]:
        """Image and label of a row as they are stored."""
        split, row = id.split("/")
        try:
            values = self._data[split][int(row)]
        except Exception as error:
            raise DataError(
                f"{self.where(id)} cannot be decoded ({on_one_line(error)}); fetch the dataset "
                f"again from {self.origin}"
            ) from error
        return values[self._hub.image], values[self._hub.label]

    def _decoded(self, stored: Any, id: str, decode: Callable[[BinaryIO], Any]) -> Any:
        """What `decode` makes of a file that the row holds or names."""
        if isinstance(stored, str):
            return read_with(self._inside(stored, id), self.origin, decode)
        if stored["bytes"] is None:
            return read_with(Path(stored["path"]), self.origin, decode)
        return decoded(io.BytesIO(stored["bytes"]), self.where(id), self.origin, decode)

    def opened(self, id: str) -> list[BinaryIO]:
        """See `Benchmark.opened`, also of files that the row holds."""
        found: list[BinaryIO] = []
        for stored in self._row(id):
            if isinstance(stored, dict) and stored["bytes"] is not None:
                found.append(io.BytesIO(stored["bytes"]))
            elif stored is not None:
                path = self._inside(stored, id) if isinstance(stored, str) else stored["path"]
                found.append(io.BytesIO(Path(path).read_bytes()))
        return found

    def files(self, id: str) -> tuple[Path, ...]:
        """See `Benchmark.files`: the image file, where a row names one."""
        split, row = id.split("/")
        data = self._data[split]
        if getattr(data.features[self._hub.image], "dtype", "") != "string":
            return ()
        name = data.select_columns([self._hub.image])[int(row)][self._hub.image]
        return () if name is None else (self._inside(name, id),)

    def _inside(self, name: str, id: str) -> Path:
        """A file of the dataset; a name from the hub must not lead out of its folder."""
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(
                f"{self.where(id)}: the image path {name!r} leads out of the dataset's folder; "
                "use paths relative to it"
            )
        return (self._local if self._local.is_dir() else self.home) / name

    def where(self, id: str) -> str:
        """See `Benchmark.where`."""
        split, row = id.split("/")
        return f"{self.origin}, split {getattr(self._hub.splits, split)}, row {int(row)}"

    @property
    def fingerprint(self) -> str:
        """See `Benchmark.fingerprint`: also what `datasets` takes the rows to be."""
        rows = {split: data._fingerprint for split, data in self._data.items()}
        return short_hash([super().fingerprint, rows])


def _hub(description: Description) -> Hub:
    assert description.hub is not None
    return description.hub


def _beside(files: Any, home: Path) -> Any:
    """Data files, with full paths for those beside the YAML file."""
    if isinstance(files, dict):
        return {split: _beside(names, home) for split, names in files.items()}
    if isinstance(files, tuple):
        return [_beside(name, home) for name in files]
    if files is None or "://" in files or Path(files).is_absolute() or not any(home.glob(files)):
        return files
    return str(home / files)

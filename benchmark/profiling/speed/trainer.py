"""The same work as a user of Hugging Face's Trainer writes it: images read and cut at each step."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset

from benchmark.core.errors import UserError
from benchmark.core.spec import Protocol, RunSpec
from benchmark.data.base import Benchmark, read_example
from benchmark.data.batches import CropParams, at_working_scale, cut
from benchmark.execution.environment import Environment
from benchmark.execution.probe import Rehearsal
from benchmark.execution.splits import open_benchmark
from benchmark.models.normalise import Normalise
from benchmark.profiling.speed.loops import rehearse, usual_loss


class Files(Dataset[dict[str, Tensor]]):
    """Training crops, each from a file that is read for it."""

    def __init__(self, benchmark: Benchmark, protocol: Protocol, normalise: Normalise) -> None:
        self.benchmark, self.protocol, self.normalise = benchmark, protocol, normalise
        self.ids = benchmark.ids("train")
        self.random = np.random.default_rng()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        example = at_working_scale(self.benchmark, read_example(self.benchmark, self.ids[number]))
        image, label = cut(example, CropParams(*self.random.random(4)), self.protocol)
        return {"images": self.normalise(image), "labels": label.long()}


class WithLoss(nn.Module):
    """A segmenter that returns its loss, as the Trainer asks for."""

    def __init__(self, segmenter: nn.Module) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Of images (N, 3, H, W) and labels (N, H, W): `loss`."""
        return {"loss": usual_loss(self.segmenter(images), labels)}


@dataclass(frozen=True)
class HuggingFace:
    """The Trainer, with its own defaults where the protocol says nothing."""

    rehearsal: Rehearsal
    files: Files
    workers: int

    @classmethod
    def of(cls, cell: RunSpec, environment: Environment) -> "HuggingFace":
        """Builds what the cell trains.

        Raises:
            UserError: transformers or accelerate is not installed.
        """
        try:
            import accelerate  # noqa: F401
            import transformers  # noqa: F401
        except ImportError as error:
            raise UserError(
                f"the comparison needs {error.name}, which is not installed; run "
                "`pip install 'petseg-bench[speed]'`"
            ) from None
        rehearsal = rehearse(cell, environment)
        backbone = rehearsal.segmenter.backbone
        benchmark = open_benchmark(cell.benchmark, environment.data)
        normalise = Normalise(backbone.mean, backbone.std)
        files = Files(benchmark, rehearsal.protocol, normalise)
        return cls(rehearsal, files, environment.workers)

    def __call__(self, steps: int, mark: Callable[[], None]) -> None:
        """Trains for some steps."""
        from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

        class Marks(TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                mark()

        own, protocol = self.rehearsal, self.rehearsal.protocol
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                max_steps=steps,
                per_device_train_batch_size=protocol.batch_size,
                learning_rate=protocol.decoder_lr,
                weight_decay=protocol.weight_decay,
                max_grad_norm=protocol.grad_clip,
                bf16=own.compute.precision == "bf16",
                use_cpu=own.device.type == "cpu",
                dataloader_num_workers=self.workers,
                dataloader_drop_last=True,
                remove_unused_columns=False,
                label_names=["labels"],
                report_to=[],
                save_strategy="no",
                disable_tqdm=True,
            )
            segmenter = own.segmenter.train()
            trainer = Trainer(WithLoss(segmenter), arguments, train_dataset=self.files)
            trainer.remove_callback(PrinterCallback)
            trainer.add_callback(Marks())
            trainer.train()

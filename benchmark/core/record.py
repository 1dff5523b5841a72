"""The result schema: one `Record` per run, stored as `record.json`.

Units are in the names or the field comments. `load_results` flattens a record with dotted names
(`costs.params.total_trainable`), so this file is also the list of the columns of that table.
"""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from benchmark.core.errors import printable
from benchmark.core.spec import Compute, Tuning

SCHEMA_VERSION = 2

RECORD = "record.json"
PUBLISHED = "published"
"""Folder of committed records; read only when asked for, so that they never mix with one's own."""
TUNING = "tuning"
"""Folder, below that of the results, of the trials of `tune`; read only when asked for, too."""

Status = Literal["done", "failed", "oom", "nan", "timeout", "interrupted", "unsupported"]
"""done: evaluated. failed: an exception. oom: out of memory even image by image. nan: the loss is
not a finite number. timeout: over --max-seconds. interrupted: stopped by a signal, resumes from its
checkpoint. unsupported: the method cannot act on the backbone."""

FINAL: tuple[Status, ...] = ("done", "unsupported")
"""Statuses that need no more work."""


class _Part(BaseModel):
    # JSON has no NaN: a record that holds one could not be read back.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Metrics(_Part):
    """Quality on the evaluated split, all in [0, 1], from per-image class counts."""

    miou: float  # mean over classes present in the labels of the split
    image_miou: float  # mean over images of the mean over classes present in that image's label
    pixel_accuracy: float
    mean_accuracy: float
    fw_iou: float  # IoU weighted by label frequency
    boundary_miou: float  # IoU of the bands along class borders, mean as in miou
    nll: float  # nats per labelled pixel; not bounded by 1
    ece: float  # expected calibration error, 15 equal-width bins
    class_iou: dict[str, float | None]  # None: class absent from the labels of the split
    mdice: float | None = None  # mean as in miou; None: the benchmark does not report it
    absent_classes: list[str]
    images: int


class Params(_Part):
    """Numbers of parameters."""

    backbone: int  # of the frozen backbone, before the method
    inserted: int  # trainable, added to the backbone by the method
    tuned_backbone: int  # trainable, part of the pretrained backbone
    decoder: int
    total_trainable: int
    adapted: str = ""  # pretrained layers with an update of their weight, by name; * is any number
    adapted_share: float | None = None  # of the weights in all blocks, those of `adapted`


class Stored(_Part):
    """What one more task adds on disk beside the shared backbone."""

    params: int  # numbers in delta.safetensors
    bytes: int  # size of delta.safetensors
    bytes_fp16: int  # size of the same file with floating-point tensors in half precision
    changed_buffers: int  # numbers in buffers of the pretrained backbone that changed
    sha256: str | None = None  # of delta.safetensors; None: older than the field


class Memory(_Part):
    """Most memory that tensors take at one moment; counted, see `benchmark.engine.memory`."""

    peak_bytes: int
    allocated_bytes: int | None = None  # peak of the GPU's allocator; None: on a CPU


class TrainMemory(Memory):
    """Of a training step; the parts are at their largest at different moments."""

    parameter_bytes: int  # frozen ones included
    buffer_bytes: int
    gradient_bytes: int
    optimiser_bytes: int
    activation_bytes: int  # what the forward pass leaves for the backward pass
    other_bytes: int  # kept from step to step: the batch, casts of frozen weights, constants


class TrainCost(_Part):
    """Cost of training."""

    seconds: float
    images_per_second: float  # warm-up steps left out
    memory: TrainMemory | None = None  # of the steps as trained; None: not measured
    peak_memory_bytes: int | None = None  # of older records, read off the process; never compared
    first_trainable_depth: int  # leading stages (0..4) whose output needs no gradient


class InferCost(_Part):
    """Cost of inference at the protocol's crop size, warm; None: it could not be measured.

    Latencies are in milliseconds, the 5th, 50th and 95th percentile over passes.
    """

    latency_ms_p5: float | None = None  # batch 1
    latency_ms_p50: float | None = None
    latency_ms_p95: float | None = None
    latency8_ms_p5: float | None = None  # batch 8
    latency8_ms_p50: float | None = None
    latency8_ms_p95: float | None = None
    images_per_second: float | None = None  # at the protocol's batch size
    flops: int | None = None  # of one image, a multiply-add counts as two
    memory: Memory | None = None  # batch 1
    peak_memory_bytes: int | None = None  # of older records, read off the process; never compared
    problems: tuple[str, ...] = ()  # what could not be measured and why, a line each


class Costs(_Part):
    """Everything that a run costs, each apart."""

    params: Params
    stored: Stored
    train: TrainCost
    infer: InferCost  # as trained, with inserted modules beside the backbone
    infer_merged: InferCost | None = None  # folded into the backbone, where a method can


class Curve(_Part):
    """Summary of curve.jsonl."""

    steps: int
    first_loss: float  # mean of the first tenth of the steps
    last_loss: float  # mean of the last tenth


class Provenance(_Part):
    """What produced the numbers."""

    git_commit: str | None  # None: not run from a checkout
    git_dirty: bool | None
    packages: dict[str, str]
    python: str
    platform: str
    device: str
    threads: int
    devices: int = 1  # that shared each batch, with a process of so many threads on each
    sharded: bool = False  # parameters, gradients and optimiser spread over the devices
    precision: str  # fp32 | bf16, as chosen on this machine
    attention: str | None = None  # fused | explicit, as chosen here; None: older than the field
    weights: str  # "<file or source>" | "none (random)"
    weights_sha256: str | None
    data_sha256: str | None  # of the splits that were read; see provenance.data_sha256
    started: str  # UTC, ISO 8601
    method_sha256: str | None = None  # of the source of the method
    benchmark_sha256: str | None = None  # of the benchmark's source and the list of its files

    @property
    def compute(self) -> Compute:
        """How the run computed; older ones used what timm uses."""
        return Compute(self.precision, self.attention or "fused")  # type: ignore[arg-type]


class Compiled(_Part):
    """How the network was compiled in the middle of a training."""

    after_step: int  # the last one as it is written; throughput and memory are of those up to it
    seconds: float  # that compiling took, all starts together
    gain: float | None  # times as fast afterwards; None: no step was left to measure


class Execution(_Part):
    """How a run came about."""

    starts: int  # times it was started or resumed
    resumed_at: tuple[int, ...]  # steps from which it resumed after an interruption
    micro_batch: int  # images a forward pass; below the batch size after memory ran out
    opened_splits: dict[str, int]  # times that scores on a split were seen or saved
    known_stages: int = 0  # leading stages whose output was kept and shared between runs
    compiled: Compiled | None = None


class Task(_Part):
    """What a trained network is for: all that using it takes of the benchmark."""

    classes: tuple[str, ...]  # names; the class index is the place
    colours: tuple[str, ...] = ()  # `#RRGGBB` of each class; empty: PASCAL VOC's colour map
    values: tuple[int | str, ...] = ()  # what labels store of a class; empty: not known
    channels: int = 3  # of an image
    bands: tuple[int, ...] | None = None  # of an image file, in this order; None: as RGB
    range: tuple[tuple[float, float], ...] | None = None  # stored values of black and white
    scale: float | None = None  # factor of an image before it enters the network
    shorter_side: int | None = None  # px, in place of `scale`; both None: the benchmark's code says


PluginKind = Literal["method", "benchmark", "decoder"]


class PluginFile(_Part):
    """A file of a user's own that a run took its method, benchmark or decoder from."""

    path: str  # relative to the results folder, where that is possible, with /
    sha256: str  # of its bytes, when it was loaded


class Record(_Part):
    """One cell of method x backbone x benchmark x seed under one protocol."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    suite: str
    benchmark: str
    benchmark_version: str = ""  # of a user's description; empty for all others
    backbone: str
    method: str  # label with the fields that differ from the defaults: name[field=value]
    method_params: dict[str, Any]  # every field
    method_traits: dict[str, Any]  # keeps_structure, mergeable, identity_at_init, reference
    weights: Literal["pretrained", "none"]
    seed: int
    protocol: dict[str, Any]
    protocol_hash: str  # only equal ones are ranked together
    status: Status
    reason: str = ""  # why it failed or is unsupported, one line
    traceback: str = ""  # its end, where an exception stopped the run
    command: str = ""  # runs this cell again
    plugins: dict[PluginKind, PluginFile] = {}  # by what the run took from them; empty: nothing
    task: Task | None = None  # None: the run is not done, or older than the field
    tuning: Tuning | None = None  # how the setting was chosen; None: not by `tune`
    execution: Execution | None = None
    data_findings: tuple[str, ...] = ()  # serious ones of the audit, which the user accepted
    near_copies: int | None = None  # scored images nearly equal to one in train; None: not known
    metrics: Metrics | None = None
    costs: Costs | None = None
    timings: dict[str, float] = {}  # seconds by phase
    curve: Curve | None = None
    provenance: Provenance

    @property
    def method_name(self) -> str:
        """The method without its fields."""
        return self.method.partition("[")[0]


class UnknownVersion(ValueError):
    """A record of a later version of petseg-bench."""


def migrate(content: dict[str, Any]) -> dict[str, Any]:
    """Content of a `record.json` of any earlier version in the present one."""
    version = content.get("schema_version")
    if version == 1:
        status = "done" if content.get("status") == "ok" else content.get("status")
        content = content | {"schema_version": 2, "status": status}
    return content


def parse(text: bytes) -> Record:
    """Reads a record of any version.

    Raises:
        ValueError: it is none, with the first problem on one line; `UnknownVersion` if it is of a
            later version.
    """
    try:
        # In half the time, where it is of the present version and says so.
        record = Record.model_validate_json(text)
        if "schema_version" in record.model_fields_set and record.schema_version == SCHEMA_VERSION:
            return record
    except ValidationError:
        pass  # an earlier version, or none: said below
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError("not a record")
        if content.get("schema_version", 0) not in range(1, SCHEMA_VERSION + 1):
            version = content.get("schema_version")
            later = isinstance(version, int) and version > SCHEMA_VERSION
            raise (UnknownVersion if later else ValueError)(
                f"schema version {version!r} is not known; update petseg-bench"
            )
        record = Record.model_validate(migrate(content))
        if b"\\ud" in text.lower():
            record.model_dump_json()  # half of a surrogate pair is text that no file can hold
        return record
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(printable(f"{where}: {first['msg']}")) from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error

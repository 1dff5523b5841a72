"""A method, a decoder and a benchmark from a user's own file, through the command line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.core.errors import UserError
from benchmark.execution import grid
from benchmark.planning.plan import Selection
from benchmark.planning.plugins import load_files
from methods import METHODS
from tests.helpers import forked
from tests.helpers.documents import fences
from tests.helpers.tiny import typed

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return forked.call(*arguments, cwd=cwd, env=forked.clean(COLUMNS="120"))


@pytest.fixture(scope="module")
def readme_method(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The method of the README's example, as a user would save it."""
    (code,) = fences("README.md", "python")
    path = tmp_path_factory.mktemp("plugin") / "my_method.py"
    path.write_text(code)
    return path


@pytest.mark.slow
def test_the_readme_method_keeps_its_contract(readme_method: Path) -> None:
    done = run("check", readme_method, "--families", "vit,resnet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "BROKEN" not in done.stdout
    rows = [line.split()[-2:] for line in done.stdout.splitlines() if line.startswith(" delta")]
    assert rows == [["ok", "ok"]]


def test_the_readme_method_runs_and_its_record_says_how(
    readme_method: Path, tmp_path: Path
) -> None:
    done = run(
        "run", "--plugin", "my_method.py", "--methods", "stagescale", "--benchmarks", "cells",
        "--set", "steps=2", "--results", tmp_path, cwd=readme_method.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = tmp_path.rglob("record.json")
    assert "--plugin my_method.py" in record.read_text()
    again = run(
        "run", "--plugin", "my_method.py", "--methods", "stagescale", "--benchmarks", "cells",
        "--set", "steps=2", "--results", tmp_path, cwd=readme_method.parent,
    )  # fmt: skip
    assert "1 already done" in again.stdout


IMPORTS = """
from dataclasses import dataclass
import torch
from torch import nn
from methods.base import Method, register
"""
BROKEN = f"""{IMPORTS}

@register("dead")
@dataclass(frozen=True, kw_only=True)
class Dead(Method):
    lr: float = 1e-3

    def _apply(self, backbone, num_classes):
        for block in (b for stage in backbone.stage_blocks() for b in stage):
            width = backbone.width(block)
            down, up = nn.Linear(width, 4), nn.Linear(4, width)
            for parameter in (*down.parameters(), *up.parameters()):
                nn.init.zeros_(parameter)
            pair = backbone.insert("dead_" + block.replace(".", "_"), nn.Sequential(down, up))
            backbone.after_block(block, lambda y, pair=pair: y + pair(y))

    def count(self, backbone, num_classes):
        return 7


@register("drift")
@dataclass(frozen=True, kw_only=True)
class Drift(Method):
    lr: float = 1e-3

    def _apply(self, backbone, num_classes):
        name = backbone.names("norm")[0]
        backbone.model.get_submodule(name).weight.requires_grad_(True)
        frozen = backbone.model.get_submodule(backbone.names("norm")[1])

        def nudge(x):
            frozen.bias.data.add_(0.01)
            return x

        backbone.before(name, nudge)


@register("boom")
@dataclass(frozen=True, kw_only=True)
class Boom(Method):
    lr: float = 1e-3

    def _apply(self, backbone, num_classes):
        raise AttributeError("no such thing")
"""


MEDDLER = f"""{IMPORTS}

@register("meddler")
@dataclass(frozen=True, kw_only=True)
class Meddler(Method):
    supports = frozenset(("plain",))
    keeps_structure = True
    lr: float = 1e-3

    def _apply(self, backbone, num_classes):
        block = backbone.stage_blocks()[1][0]
        layer = backbone.insert("meddler", nn.Linear(backbone.width(block), 1))
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        backbone.before(block, lambda x: x + layer(x))
"""


def faults(folder: Path, source: str, families: str) -> str:
    """What `check` prints of a file with methods that are at fault."""
    path = folder / "methods.py"
    path.write_text(source)
    done = run("check", path, "--families", families)
    assert done.returncode == 1
    return done.stdout


@pytest.mark.slow
def test_broken_methods_are_told_what_is_broken(tmp_path: Path) -> None:
    found = faults(tmp_path, BROKEN, "vit")
    for problem in (
        "vit: count by formula: count gives 7",
        "vit: every tensor learns: no gradient reaches",
        "vit: frozen stays frozen: a frozen parameter or buffer has changed",
        "vit: applies: AttributeError: no such thing",
    ):
        assert f"BROKEN {problem}" in found


@pytest.mark.slow
def test_a_method_that_moves_blocks_is_told_so_and_refusals_are_no_fault(tmp_path: Path) -> None:
    found = faults(tmp_path, MEDDLER, "vit,swin")
    assert "- swin: refused: meddler works on plain backbones" in found
    assert (
        "BROKEN vit: blocks unchanged: the output of blocks.1 differs from that of the frozen block"
        in found
    )


def test_a_broken_method_fails_alone(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text(BROKEN)
    done = run(
        "run", "--plugin", path, "--methods", "boom,linear", "--benchmarks", "cells",
        *typed(steps=2, crop=48, batch_size=2), "--results", tmp_path / "results",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "failed (1 run): boom on demo_vit: AttributeError: no such thing" in done.stdout
    assert "linear / seed 0: mIoU" in done.stdout
    assert "Traceback" in next((tmp_path / "results").rglob("log.txt")).read_text()


OTHERS = """
import numpy as np
import torch
from torch import nn
from benchmark.data.base import Benchmark, register
from benchmark.models.decoders import register_decoder


@register_decoder("last")
class Last(nn.Module):
    def __init__(self, channels, strides, num_classes):
        super().__init__()
        self.classify = nn.Conv2d(channels[-1], num_classes, 1)

    def forward(self, features):
        return self.classify(features[-1])


@register("halves")
class Halves(Benchmark):
    title = "Two halves"
    domain = "test"
    classes = ("left", "right")
    origin = licence = citation = "none"

    def ids(self, split):
        return [f"{split}{i}" for i in range(2)]

    def read(self, id):
        label = np.zeros((96, 96), np.uint8)
        label[:, 48:] = 1
        shade = 230 if id.startswith("train") else 255
        return np.repeat(shade * label[..., None], 3, axis=2), label
"""


@pytest.mark.slow
def test_a_decoder_and_a_benchmark_of_one_s_own(tmp_path: Path) -> None:
    path = tmp_path / "others.py"
    path.write_text(OTHERS)
    done = run("check", path, "--families", "vit,swin")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "decoder last on swin: ok" in done.stdout
    assert "benchmark halves, test: ok, 2 images" in done.stdout
    done = run(
        "run", "--plugin", path, "--methods", "linear", "--suite", "demo", "--benchmarks", "halves",
        *typed(decoder="last", steps=30), "--results", tmp_path / "results",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    miou = re.search(r"mIoU (\d+\.\d)", done.stdout)
    assert miou and float(miou[1]) > 80


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named"),
        ("def f(:", "SyntaxError"),
        (
            "from methods.base import METHODS, Method\nMETHODS.add('linear', Method)",
            "method 'linear' is registered twice",
        ),
    ],
)
def test_bad_plugins_are_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "bad.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=f"--plugin {path}: .*{message}") as caught:
        load_files([path])
    assert "\n" not in str(caught.value)


def test_a_plugin_that_registers_nothing_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("x = 1")
    done = run("check", path)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {path} registers no method, decoder or benchmark; "
        "add @register to yours, as in the README\n"
    )


IDLE = """
from dataclasses import dataclass
from methods.base import Method, register


@register("idle")
@dataclass(frozen=True, kw_only=True)
class Idle(Method):
    lr: float = 1e-3

    def _apply(self, backbone, num_classes):
        pass
"""


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ("idle", "idle trains nothing in VisionTransformer"),
        ("fact[rank=1000]", "fact: rank must be at most 128"),
        ("lora[rank=1000]", "lora: rank must be at most 128"),
        ("partial[blocks=99]", "partial: blocks must be at most 8"),
        ("vpt[tokens=0]", "vpt: tokens must be an integer of at least 1, not 0"),
        ("vpt[tokens=ten]", "vpt tokens: must be a whole number"),
        ("vpt[token=3]", "has no field 'token'; did you mean 'tokens'?"),
    ],
)
def test_what_does_not_fit_stops_before_data_is_read(
    tmp_path: Path, methods: str, message: str
) -> None:
    (tmp_path / "idle.py").write_text(IDLE)
    if methods == "idle":
        load_files([tmp_path / "idle.py"])
    # camvid without a data folder: were data read first, the message would be about that.
    selection = Selection(
        suite="small",
        benchmarks="camvid",
        backbones="demo_vit",
        methods=methods,
        protocol={"crop": 96},
    )
    try:
        with pytest.raises(UserError, match=re.escape(message)) as caught:
            grid.run(selection, tmp_path / "results")
    finally:
        METHODS._loaded.pop("idle", None)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_an_installed_package_offers_methods_by_entry_point(
    readme_method: Path, tmp_path: Path
) -> None:
    (tmp_path / "their_package.py").write_text(readme_method.read_text())
    info = tmp_path / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[petseg_bench]\ntheirs = their_package\n")
    code = (
        "from benchmark.planning import catalogue; print(catalogue.build_method('stagescale', {}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "StageScale(lr=0.001)\n", done.stderr
    (info / "entry_points.txt").write_text("[petseg_bench]\ntheirs = no_such_module\n")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert "plug-in 'theirs' (no_such_module): ModuleNotFoundError" in done.stderr


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("import benchmark.catalogue", "benchmark.catalogue is now benchmark.planning.catalogue"),
        (
            "from benchmark.runner import run_cell",
            "benchmark.runner is now benchmark.execution.cell",
        ),
        (
            "from benchmark.engine import train_one",
            "benchmark.engine is now benchmark.engine.train",
        ),
    ],
)
def test_a_plugin_that_imports_a_moved_module_learns_its_place(
    line: str, place: str, tmp_path: Path
) -> None:
    path = tmp_path / "older.py"
    path.write_text(f"{line}\n")
    with pytest.raises(UserError, match=re.escape(place)) as told:
        load_files([path])
    assert "\n" not in str(told.value)


def test_a_method_that_overrides_a_renamed_hook_learns_its_name(tmp_path: Path) -> None:
    path = tmp_path / "older.py"
    path.write_text(IDLE.replace("_apply", "apply"))
    with pytest.raises(UserError, match="Idle: rename its method `apply` to `_apply`") as caught:
        load_files([path])
    assert "\n" not in str(caught.value)

"""A method, a decoder and a benchmark from a user's own file, through the command line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmark", *map(str, arguments)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def readme_method(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The method of the README's example, as a user would save it."""
    section = (ROOT / "README.md").read_text().split("### Add a method in one file")[1]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code
    path = tmp_path_factory.mktemp("plugin") / "my_method.py"
    path.write_text(code[1])
    return path


def test_the_readme_method_keeps_its_contract(readme_method: Path) -> None:
    done = run("check", readme_method, "--families", "vit,swin,resnet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "BROKEN" not in done.stdout
    rows = [line.split()[-3:] for line in done.stdout.splitlines() if line.startswith(" delta")]
    assert rows == [["ok", "ok", "ok"]]


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
    assert "1 done already" in again.stdout


BROKEN = """
from dataclasses import dataclass
import torch
from torch import nn
from methods.base import Method, register


@register("dead")
@dataclass(frozen=True, kw_only=True)
class Dead(Method):
    lr: float = 1e-3

    def apply(self, backbone, num_classes):
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

    def apply(self, backbone, num_classes):
        name = backbone.names("norm")[0]
        backbone.model.get_submodule(name).weight.requires_grad_(True)
        frozen = backbone.model.get_submodule(backbone.names("norm")[1])

        def nudge(x):
            frozen.bias.data.add_(0.01)
            return x

        backbone.before(name, nudge)
"""


def test_broken_methods_are_told_what_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text(BROKEN)
    done = run("check", path, "--families", "vit")
    assert done.returncode == 1
    for problem in (
        "vit: count by formula: count says 7",
        "vit: every tensor learns: no gradient reaches",
        "vit: frozen stays frozen: a frozen parameter or buffer has changed",
    ):
        assert f"BROKEN {problem}" in done.stdout


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
        return np.repeat(255 * label[..., None], 3, axis=2), label
"""


def test_a_decoder_and_a_benchmark_of_one_s_own(tmp_path: Path) -> None:
    path = tmp_path / "others.py"
    path.write_text(OTHERS)
    done = run("check", path, "--families", "vit,swin")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "decoder last on swin: ok" in done.stdout
    assert "benchmark halves, test: ok, 2 images" in done.stdout
    done = run(
        "run", "--plugin", path, "--methods", "linear", "--benchmarks", "halves",
        "--set", "decoder=last", "--set", "steps=30", "--results", tmp_path / "results",
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
        ("x = 1", "registers no method, decoder or benchmark"),
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
    done = run("check", path)
    assert done.returncode == 2
    assert message in done.stderr
    assert str(path) in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_method_that_trains_nothing_and_ranks_that_do_not_fit_stop_before_data(
    tmp_path: Path,
) -> None:
    path = tmp_path / "idle.py"
    path.write_text(
        "from dataclasses import dataclass\nfrom methods.base import Method, register\n"
        "@register('idle')\n@dataclass(frozen=True, kw_only=True)\nclass Idle(Method):\n"
        "    lr: float = 1e-3\n    def apply(self, backbone, num_classes):\n        pass\n"
    )
    # camvid without a data folder: were data read first, the message would be about that.
    where = ("--suite", "small", "--benchmarks", "camvid", "--backbones", "demo_vit")
    where += ("--set", "crop=96", "--results", str(tmp_path / "results"))
    for arguments, message in (
        (("--plugin", path, "--methods", "idle"), "idle trains nothing in backbone 'demo_vit'"),
        (("--methods", "fact[rank=1000]"), "fact: rank must be at most 128"),
        (("--methods", "lora[rank=1000]"), "lora: rank must be at most 128"),
        (("--methods", "partial[blocks=99]"), "partial: blocks must be at most 8"),
        (("--methods", "vpt[tokens=0]"), "vpt: tokens must be an integer of at least 1"),
        (("--methods", "vpt[tokens=ten]"), "vpt tokens: Input should be a valid integer"),
        (("--methods", "vpt[token=3]"), "has no field 'token'; did you mean 'tokens'?"),
    ):
        done = run("run", *arguments, *where)
        assert done.returncode == 2, done.stdout
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not (tmp_path / "results").exists()

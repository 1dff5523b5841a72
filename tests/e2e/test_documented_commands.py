"""Every command of the READMEs: run as it is typed, on tiny settings, or listed with the reason."""

import pytest

from tests.helpers import reader
from tests.helpers.documents import DOCUMENTS, commands
from tests.helpers.reader import PACKAGE
from tests.helpers.tiny import typed

SIZES = [*typed(steps=2, crop=36, batch_size=2)]
TINY = ["--benchmarks=cells", *SIZES]
HERE = ["--weights=weights"]

DATA = "needs the real data and weights"
DEVICES = "tests/fault/test_devices.py and tests/parity/test_ranks.py do it"
ENGINE = "needs an engine; tests/e2e/test_engines.py runs real ones"
INSTALL = "installs packages"
BUCKET = "needs a bucket; tests/fault/test_object_store.py has one"
TESTS = "is these tests, or starts them"
SERVES = "serves until it is stopped: tests/e2e/test_serve_verb.py"
NOT_RUN = {
    "python -m pip install 'petseg-bench[serve]'": "is not on an index yet",
    "python -m benchmark serve 3f2a": SERVES,
    "python -m benchmark serve --name streets=3f2a --name cells=91c0": SERVES,
    "curl --data-binary @street.jpg --output mask.png "
    "http://127.0.0.1:8000/v1/tasks/streets:predict": SERVES,
    "python -m tests.helpers.soak --requests 20000 --clients 16 --hostile 0.01": (
        "takes many minutes; tests/e2e/test_serve_verb.py has a short one"
    ),
    "python -m pip install -e '.[test]' && python -m pytest": TESTS,
    "python -m pytest": TESTS,
    "python -m pytest tests/unit/analysis -n0 -q": TESTS,
    "python -m pytest -m slow": TESTS,
    "python -m pytest -m engines -n0": TESTS,
    "python -m pytest -m exhaustive": TESTS,
    "python -m pytest -m realdata": TESTS,
    (
        'ONEDNN_MAX_CPU_ISA=AVX2 python -m pytest -m "not slow and not no_torch" '
        "@tests/processors.txt"
    ): TESTS,
    "ruff check . && ruff format --check . && mypy": "looks at the code, as .ci/run does",
    "python -m pip install 'petseg-bench[ray]'": INSTALL,
    "python -m pip install 'petseg-bench[slurm]'": INSTALL,
    "python -m pip install 'petseg-bench[s3]'": INSTALL,
    "python -m benchmark run --methods lora,spm --results s3://my-bucket/grid": BUCKET,
    "python -m benchmark report --results s3://my-bucket/grid": BUCKET,
    "python -m benchmark run --suite small --methods lora,spm --data s3://my-bucket/data "
    "--results s3://my-bucket/grid": BUCKET,
    "python -m benchmark results merge results --into s3://my-bucket/grid": BUCKET,
    "python -m benchmark run --methods lora,spm --executor ray": ENGINE,
    "python -m benchmark run --methods lora,spm --executor ray --address auto": ENGINE,
    "python -m benchmark run --methods lora,spm --executor slurm "
    "--slurm partition=gpu,time=240,gres=gpu:1": ENGINE,
    "python -m benchmark run --methods full --devices 4": DEVICES,
    "python -m benchmark run --methods full --devices 4 --shard": DEVICES,
    "python -m benchmark run --methods full --device cpu --devices 2": DEVICES,
    "python -m benchmark run --suite small --data DIR --weights DIR "
    "--methods full,linear,vpt,adapter,lora,spm": DATA,
    "python -m benchmark run --suite small --benchmarks camvid,wbc --methods linear --set steps=60 "
    "--set crop=128 --set eval_split=val --set decoder_lr=1e-2": DATA,
    "python -m benchmark run --suite small --benchmarks camvid,wbc "
    "--methods 'full[lr=1e-4|3e-4|1e-3|3e-3|1e-2|3e-2]' --set steps=60 --set crop=128 "
    "--set eval_split=val --set decoder_lr=1e-2": DATA,
    "python -m benchmark export 3f2a --stages --out served": "tests/unit/export does it",
}
"""What is not run here, and why."""

SHORT = {
    PACKAGE + "python -m benchmark run --methods spm,vpt,lora": TINY,
    "python -m benchmark data audit bolts --plugin bolts.yaml": [],
    "python -m benchmark data preview bolts --plugin bolts.yaml": [],
    "python -m benchmark data describe bolts --to described.yaml": [],
    "python -m benchmark data import annotations.json --to traffic.yaml": [],
    "python -m benchmark run --plugin bolts.yaml --methods linear,lora,spm": [
        *("--seeds=0", "--methods=linear,lora"),
        *(*HERE, *SIZES),
    ],
    "python -m benchmark report --suite own": ["--no-figures"],
    "python -m benchmark recommend --suite own --max-stored 1MB": [],
    "python -m benchmark run --plugin my_method.py --methods stagescale": TINY,
    "python -m benchmark list": [],
    "python -m benchmark plan --methods 'lora[rank=4|16],spm'": TINY,
    "python -m benchmark plan --methods lora,spm --detect 1": TINY,
    "python -m benchmark run --methods 'lora[rank=4|16],spm'": TINY,
    "python -m benchmark plan --methods lora,spm --executor slurm --price 2.5/h": TINY,
    "python -m benchmark status": [],
    "python -m benchmark report --no-figures --no-gallery": [],
    "python -m benchmark recommend --max-stored 1MB": [],
    "python -m benchmark predict 3f2a photos --out labelled": [],
    "python -m benchmark predict 3f2a 'photos/*.jpg' drive.mp4 --out shown --overlay": [],
    "python -m benchmark show 3f2a": [],
    "python -m benchmark compare 3f2a 91c0": [],
    "python -m benchmark doctor": [],
    "python -m benchmark results merge A B --into C": [],
    "python -m benchmark results export --out runs.csv": [],
    "python -m benchmark data list": [],
    "python -m benchmark data prepare voc2012 --data DIR": ["--fake"],
    "python -m benchmark data verify voc2012 --data DIR": [],
    "python -m benchmark data audit voc2012 --data DIR": [],
    "python -m benchmark data preview voc2012 --data DIR": [],
    "python -m benchmark recommend --suite small --results results/published --max-stored 1MB": [],
    "python -m benchmark show 60d03924 --results results/published": [],
    "python -m benchmark plan --suite demo --seeds 0,1,2 --results results/published": [],
    "python -m benchmark results export --results results/published --out all.csv": [],
    "python -m benchmark compare 60d03924 f081f03c --results results/published": [],
}
"""What takes seconds at most, in this order, and the words that make it tiny."""

LONG = {
    "python -m benchmark run --methods lora,spm": TINY,
    "python -m benchmark run --methods 'lora[rank=4|16],spm'": TINY,
    "python -m benchmark report": [],
    "python -m benchmark reproduce 3f2a": [],
    "python -m benchmark export 3f2a --format onnx --out bolts.onnx": HERE,
    "python -m benchmark evaluate": ["--methods=spm", *TINY],
    "python -m benchmark evaluate --corruptions": [
        *("--methods=spm", "--only=fog", "--severities=1", *TINY),
    ],
    "python -m benchmark timing": ["--steps=1", "--rounds=1", "--methods=spm", *TINY],
    "python -m benchmark report --json": ["--no-gallery", "--no-figures"],
}
"""What takes longer, and needs the runs of the first one."""

LONG_APART = {
    "python -m benchmark quickstart bolts": ["--methods=linear", "--suite=demo", *SIZES],
    "python -m benchmark tune --methods lora,spm": ["--trials=1", *TINY],
    "python -m benchmark run --settings settings.yaml": TINY,
    "python -m benchmark run --methods 'spm,spm[guidance=none],spm[carry=off],spm[prior=uniform],"
    "spm[feedback=off],spm[recurrence=1|3],spm[placement=1+2+3],spm[width=32]' --seeds 0,1,2": [
        *("--seeds=0", *TINY)
    ],
    "python -m benchmark profile lora": ["--steps=2", *TINY],
    "python -m benchmark speed": ["--parts=memory", *TINY],
    "python -m benchmark pretrain --out demo_vit.safetensors": ["--steps=2"],
    "python -m benchmark check my_method.py": ["--families=vit"],
    "python -m benchmark list methods": [],
    "python -m benchmark list methods --counts": [],
    "python -m benchmark check 'lora[rank=4],ssf' --families vit,swin": [],
    "python -m benchmark report --suite small --results results/published --out trial": [
        "--no-gallery"
    ],
    "python -m benchmark report --suite small --results results/published "
    "--out reports/published": ["--no-gallery", "--no-figures"],
    "python -m benchmark report --suite demo --results results/published --out reports/published": [
        "--no-gallery",
        "--no-figures",
    ],
}
"""What takes longer, and needs none of these."""

RUN = SHORT | LONG | LONG_APART

MAY_FIND = {
    "python -m benchmark compare 3f2a 91c0",
    "python -m benchmark compare 60d03924 f081f03c --results results/published",
    "python -m benchmark data verify voc2012 --data DIR",
}
"""Exit code 1 says what was found: a significant loss, or checksums of fake data."""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return reader.furnish(tmp_path_factory.mktemp("reader"))


def test_every_command_is_run_or_listed_with_a_reason():
    written = {command for document in DOCUMENTS for command in commands(document)}
    assert written == RUN.keys() | NOT_RUN.keys()


@pytest.mark.slow
def test_short_commands(home):
    wrong = reader.failures(SHORT, home, MAY_FIND)
    assert not wrong, "\n\n".join(wrong)
    assert (home / "bolts.png").exists() and (home / "reports/demo/index.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("table", [LONG, LONG_APART], ids=["runs", "apart"])
def test_long_commands(home, table):
    wrong = reader.failures(table, home, MAY_FIND)
    assert not wrong, "\n\n".join(wrong)

"""Every example that `--help` prints: run on a tiny grid, or listed with the reason.

Those that documents have, too, are run with them.
"""

import pytest
import typer

from benchmark.cli import app
from tests.e2e import test_documented_commands as documented
from tests.helpers import reader
from tests.helpers.forked import call
from tests.helpers.tiny import typed

OWN = ["--suite=demo", *typed(steps=2, crop=36, batch_size=2)]
TINY = ["--benchmarks=cells", *OWN[1:]]
B = "python -m benchmark"

NOT_RUN = {
    f"{B} {command}": "needs the real data and weights"
    for command in (
        "run --suite small --data DIR --weights DIR",
        "evaluate --corruptions --suite small --data DIR --weights DIR",
        "profile spm --suite small --benchmarks camvid --data DIR --weights DIR",
        "speed --suite small --benchmarks camvid --data DIR --weights DIR --out reports/speed",
        "timing --suite small --data DIR --weights DIR --threads 2",
        "tune --suite small --benchmarks camvid,wbc --out small.yaml --data DIR --weights DIR",
    )
} | {
    f"{B} export 3f2a --format peft --out bolts-peft": "needs a run with layers of peft",
    f"{B} export 3f2a --stages --out served": "takes a minute; tests/unit/export does it",
    f"{B} export 3f2a --format folder --out bolts-hub --push USER/NAME": "uploads",
}

NOT_RUN |= {
    f"{B} serve {words}": "serves until it is stopped: test_serve_verb.py"
    for words in (
        "3f2a",
        "--name streets=3f2a --name cells=91c0 --port 8080",
        "3f2a --host 0.0.0.0 --token-file token.txt",
    )
}

NOT_RUN |= {
    f"{B} {command}": "needs an engine; tests/e2e/test_engines.py runs real ones"
    for command in (
        "run --executor ray --address auto",
        "run --executor slurm --slurm partition=gpu,time=240,gres=gpu:1",
        "tune --methods lora,spm --executor ray --address auto",
    )
}

NOT_RUN |= {
    f"{B} {command}": "needs a bucket; tests/fault/test_object_store.py has one"
    for command in (
        "run --results s3://my-bucket/grid",
        "results merge results --into s3://my-bucket/grid",
    )
}

NOT_RUN |= {
    f"{B} run --methods lora --devices 4": "needs four GPUs; tests/fault/test_devices.py does not"
}

RUN = {
    f"{B} quickstart bolts --methods linear,lora --seeds 0,1,2": ["--seeds=0", *OWN],
    f"{B} quickstart bolts --plan-only --out trial": ["--methods=linear", *OWN],
    f"{B} tune --methods lora,spm --trials 16 --plan": TINY,
    f"{B} plan --methods lora,spm --seeds 0,1,2 --detect 1": TINY,
    f"{B} run --methods spm,vpt,lora": TINY,
    f"{B} run --methods lora --log tensorboard": TINY,
    f"{B} run": ["--methods=spm", *TINY],
    f"{B} run --methods 'lora[rank=4|16],v*,peft:dora' --seeds 0,1,2": ["--seeds=0", *TINY],
    f"{B} run --methods lora --fraction 0.1,0.25,1": TINY,
    f"{B} run --set steps=400 --set crop=120 --weights none": [
        *("--methods=linear", "--benchmarks=cells", "--set=batch_size=1"),
    ],
    f"{B} run --plugin my_method.py --methods my_method": TINY,
    f"{B} plan": TINY,
    f"{B} plan --methods 'lora[rank=4|16],spm' --seeds 0,1,2": [],
    f"{B} plan --executor slurm --price 2.5/h": TINY,
    f"{B} plan --json": TINY,
    f"{B} status --results runs --json": [],
    f"{B} list methods --json": [],
    f"{B} list backbones --filter 'vit_*_patch16*'": [],
    f"{B} report --json --no-figures": ["--no-gallery"],
    f"{B} recommend": [],
    f"{B} recommend --max-stored 1MB --max-trainable 10%": [],
    f"{B} recommend --suite small --results results/published --max-stored 1MB "
    "--max-latency 1.2x --json": [],
    f"{B} show eff22a26 --results results/published": [],
    f"{B} show eff22a26 --results results/published --json": [],
    f"{B} compare eff22a26 1b0ffe7b --results results/published": [],
    f"{B} compare before/results after/results --tolerance 0.5": [],
    f"{B} reproduce eff22a26 --results results/published": [],
    f"{B} evaluate --methods lora": TINY,
    f"{B} evaluate --corruptions --only noise,fog --severities 1,3,5": ["--methods=spm", *TINY],
    f"{B} doctor --results results --repair": [],
    f"{B} results merge host_a/results host_b/results --into results": [],
    f"{B} results export --results results/published --suite demo --out demo.csv": [],
    f"{B} data prepare small --data trial --fake": [],
    f"{B} data verify streets": [],
    f"{B} data verify camvid,dubai --data DIR": ["--data=trial"],
    f"{B} data audit streets --pairs pairs.csv": [],
    f"{B} data audit camvid,dubai --data DIR": ["--data=trial"],
    f"{B} data preview streets --out streets.png": [],
    f"{B} data preview my_set --plugin my_set.yaml --out my_set.png": [],
    f"{B} pretrain --steps 20 --out trial.safetensors": [],
}
"""By command, in this order: the words that make it tiny."""

MAY_FIND = {
    f"{B} compare eff22a26 1b0ffe7b --results results/published",
    f"{B} data verify camvid,dubai --data DIR",
    f"{B} data audit camvid,dubai --data DIR",
}
"""Exit code 1 says what was found: a significant loss, or faults of fake data."""


def verbs(command=None, words=()):
    """Every command and group of commands, as words."""
    command = command or typer.main.get_command(app)
    yield words
    for name, inner in getattr(command, "commands", {}).items():
        yield from verbs(inner, (*words, name))


def examples(words):
    """The examples of a help page."""
    page = call(*words, "--help").stdout.partition("Examples")[2]
    return [line.strip() for line in page.splitlines() if line.strip()]


def test_every_help_page_has_examples_and_each_is_run_or_listed_with_a_reason():
    printed = {words: examples(words) for words in verbs()}
    for words, lines in printed.items():
        assert lines and all(line.startswith(" ".join((B, *words))) for line in lines), words
    found = {line for lines in printed.values() for line in lines}
    assert found - documented.RUN.keys() == RUN.keys() | NOT_RUN.keys()


@pytest.mark.slow
def test_examples_of_help_pages_run(tmp_path):
    wrong = reader.failures(RUN, reader.furnish(tmp_path), MAY_FIND)
    assert not wrong, "\n\n".join(wrong)

"""A forgotten `--set` is told where finished runs have other settings."""

import pytest

from benchmark.planning.other_settings import run_otherwise
from benchmark.planning.plan import Selection, plan
from tests.helpers.records import record

pytestmark = pytest.mark.no_torch


def cells(methods="linear,lora", **protocol):
    chosen = {name: str(value) for name, value in protocol.items()}
    return plan(Selection(methods=methods, benchmarks="cells", seeds=(0, 1), protocol=chosen))


def finish(results, specs):
    for spec in specs:
        folder = results / spec.folder
        folder.mkdir(parents=True)
        fields = {
            **{"run_id": spec.run_id, "suite": spec.suite, "backbone": spec.backbone},
            **{"weights": spec.weights, "protocol_hash": spec.protocol.hash},
            "protocol": spec.protocol.model_dump(),
        }
        made = record(spec.method_label, seed=spec.seed).model_copy(update=fields)
        made = made.model_copy(update={"benchmark": spec.benchmark})
        (folder / "record.json").write_text(made.model_dump_json())


def test_runs_under_other_settings_are_told_with_what_differs(tmp_path):
    usual = cells()[0].protocol
    assert run_otherwise(cells(), tmp_path) == []
    finish(tmp_path, cells(crop=32, steps=20))
    told = f"crop 32; these have {usual.steps} and {usual.crop}"
    assert run_otherwise(cells(), tmp_path) == [
        f"4 finished runs of cells have steps 20 and {told} (--set)"
    ]
    finish(tmp_path, cells("linear", steps=3))
    (line,) = run_otherwise(cells(), tmp_path)
    assert line.endswith("; 2 more have others")
    # Of other methods nothing is said.
    assert run_otherwise(cells("vpt"), tmp_path) == []


def test_nothing_is_told_where_one_is_finished_or_several_protocols_are_asked_for(tmp_path):
    finish(tmp_path, cells(steps=20))
    assert run_otherwise([*cells(), *cells(steps=7)], tmp_path) == []
    finish(tmp_path, cells("linear")[:1])
    assert run_otherwise(cells(), tmp_path) == []

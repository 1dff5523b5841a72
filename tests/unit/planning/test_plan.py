import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.core.errors import UserError
from benchmark.core.record import parse
from benchmark.core.spec import Protocol, RunSpec, short_hash
from benchmark.planning import catalogue
from benchmark.planning.catalogue import DECODERS, METHODS
from benchmark.planning.plan import Selection, command, plan

pytestmark = pytest.mark.no_torch

ROOT = Path(__file__).resolve().parents[3]


def test_demo_is_the_default_and_crosses_everything():
    cells = plan(Selection(seeds=(0, 1)))
    assert {cell.suite for cell in cells} == {"demo"}
    assert len(cells) == 5 * 6 * 2
    assert len({cell.run_id for cell in cells}) == len(cells)


def test_cells_of_one_benchmark_stand_together():
    names = [cell.benchmark for cell in plan(Selection())]
    assert names == sorted(names, key=names.index)


def test_a_default_that_is_typed_out_is_the_same_cell():
    default = plan(Selection(methods="lora", benchmarks="cells"))
    typed = plan(Selection(methods="lora[rank=8],lora", benchmarks="cells"))
    assert [cell.run_id for cell in default] == [cell.run_id for cell in typed]


def test_fields_change_the_id_and_the_label():
    a, b = plan(Selection(methods="lora[rank=4|16]", benchmarks="cells"))
    assert (a.method_label, b.method_label) == ("lora[rank=4]", "lora[rank=16]")
    assert a.run_id != b.run_id
    assert a.method_params["rank"] == 4


def test_protocol_fields_are_typed_and_change_the_hash():
    (cell,) = plan(
        Selection(methods="linear", benchmarks="cells", protocol={"steps": "7", "flip": "false"})
    )
    assert cell.protocol.steps == 7
    assert cell.protocol.flip is False
    assert cell.protocol.hash == short_hash(cell.protocol.identity)
    assert cell.protocol.hash != plan(Selection())[0].protocol.hash


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(suite="dmo"), "unknown suite 'dmo'; did you mean 'demo'?"),
        (Selection(methods="loar"), "unknown method 'loar'; did you mean 'lora'?"),
        (Selection(methods="lora[rnk=4]"), "no field 'rnk'; did you mean 'rank'? It has "),
        # As libraries call it: the beginning of a name, and less like `lr` than it looks.
        (Selection(methods="lora[r=4]"), "no field 'r'; did you mean 'rank'? It has "),
        (Selection(methods="lora[xyz=4]"), "no field 'xyz'; it has "),
        (Selection(methods="lora[rank=x]"), "method lora rank"),
        (Selection(methods="linear[lr=1]"), "it has no fields"),
        (Selection(benchmarks="streats"), "did you mean 'streets'?"),
        (Selection(benchmarks="cells[x=1]"), "takes no fields"),
        (
            Selection(protocol={"step": 1}),
            "--set step: there is no such setting; did you mean 'steps'?",
        ),
        (Selection(protocol={"steps": "0"}), "--set steps"),
        (Selection(protocol={"scale_min": "3"}), "scale_min=3.0 is above scale_max=1.25"),
        (Selection(protocol={"eval_window": "4000"}), "lower eval_window or raise eval_max_pixels"),
    ],
)
def test_mistakes_are_told_in_one_line(selection, message):
    with pytest.raises(UserError) as error:
        plan(selection)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_protocol_cannot_be_changed():
    with pytest.raises(Exception, match="frozen"):
        Protocol().steps = 3


@pytest.mark.parametrize(
    "selection",
    [
        Selection(methods="lora[rank=4,lr=3e-4]", benchmarks="cells", seeds=(2,)),
        Selection(methods="spm[placement=1+3]", benchmarks="cells", weights="none"),
        Selection(suite="small", methods="linear", benchmarks="wbc", protocol={"steps": 7}),
    ],
)
def test_the_command_of_a_cell_plans_that_cell(selection):
    (cell,) = plan(selection)
    words = shlex.split(command(cell))
    typed = dict(zip(words[4::2], words[5::2], strict=True))
    again = Selection(
        suite=typed["--suite"],
        methods=typed["--methods"],
        benchmarks=typed["--benchmarks"],
        backbones=typed["--backbones"],
        seeds=(int(typed["--seeds"]),),
        protocol=dict([typed["--set"].split("=")] if "--set" in typed else []),
        weights=typed.get("--weights", "pretrained"),
    )
    assert [planned.run_id for planned in plan(again)] == [cell.run_id]


def test_later_fields_leave_published_runs_their_identity():
    records = [
        parse(path.read_bytes())
        for path in (ROOT / "results/published/small/camvid").rglob("record.json")
    ]
    assert len(records) > 10
    for record in records:
        spec = RunSpec(
            suite=record.suite,
            benchmark=record.benchmark,
            backbone=record.backbone,
            weights=record.weights,
            method=record.method.partition("[")[0],
            method_label=record.method,
            method_params=record.method_params,
            seed=record.seed,
            protocol=Protocol(**record.protocol),
        )
        assert (spec.run_id, spec.protocol.hash) == (record.run_id, record.protocol_hash)


def test_fractions_are_protocols_of_their_own():
    usual, tenth, all_ = (
        plan(Selection(methods="linear", benchmarks="cells", fractions=fractions))
        for fractions in (None, ("0.1",), ("1", "0.1"))
    )
    assert tenth[0].protocol.fraction == 0.1
    assert tenth[0].run_id != usual[0].run_id
    assert {cell.run_id for cell in all_} == {usual[0].run_id, tenth[0].run_id}


@pytest.mark.parametrize("text", ["0", "1.5", "a", "-1"])
def test_a_fraction_out_of_range_is_told(text):
    with pytest.raises(UserError, match="fraction"):
        plan(Selection(fractions=(text,)))


WRONG = {
    ("linear,lorra", ""): "unknown method 'lorra'; did you mean 'lora'?",
    ("lora[rank=4],linaer", ""): "unknown method 'linaer'; did you mean 'linear'?",
    ("linear", "segfomer"): "unknown decoder 'segfomer'; did you mean 'segformer'?",
}


@pytest.mark.parametrize(("names", "message"), WRONG.items(), ids=str)
def test_wrong_names_are_told_before_torch_is_loaded(names, message):
    code = """if True:
        import sys
        from benchmark.cli.request import resolve
        from benchmark.core.errors import UserError
        methods, decoder = sys.argv[1:]
        fields = [f"decoder={decoder}"] if decoder else []
        try:
            resolve(methods=methods, benchmarks=None, suite="demo", set=fields or None)
        except UserError as error:
            print(error, "torch" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", code, *names], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{message} False\n", done.stderr


def test_every_name_in_the_source_is_registered_and_no_other(monkeypatch):
    for package, registry in (("methods", METHODS), ("benchmark.models.decoders", DECODERS)):
        declared = catalogue._declared(package)
        own = {
            name
            for name in registry.names()
            if ":" not in name and registry.get(name).__module__.startswith(package)
        }
        assert declared.keys() == own
    # Globs and names of a library's family are left for the registries.
    monkeypatch.delitem(sys.modules, "methods")
    catalogue.check_names("l*,peft:no_such,?ora")

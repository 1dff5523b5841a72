"""The file of settings: written as it is read, and used for what it was chosen for."""

import pytest

from benchmark.core.errors import UserError
from benchmark.core.spec import Tuning
from benchmark.planning.plan import Selection, plan
from benchmark.planning.settings import Settings, check_replaceable, read_settings, write_settings

pytestmark = pytest.mark.no_torch
TUNING = Tuning(trials=8, benchmarks=("cells",), seeds=(0,), protocol_hash="0123456789ab")
SETTINGS = Settings(
    suite="demo",
    weights="pretrained",
    tuning=TUNING,
    methods={
        "demo_vit": {
            "linear": {},
            "lora": {"lr": 0.0031, "rank": 16},
            "lora[rank=4]": {"lr": 0.02},
        },
        "resnet18": {"lora": {"lr": 0.001, "rank": 2}},
    },
)


def test_a_file_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "settings.yaml"
    write_settings(path, SETTINGS)
    assert read_settings(path) == SETTINGS
    check_replaceable(path)


def test_cells_have_the_chosen_fields_of_their_backbone():
    selection = Selection(
        methods="linear,lora", benchmarks="cells", settings=SETTINGS, backbones="demo_vit"
    )
    linear, lora = plan(selection)
    assert (linear.method_label, lora.method_label) == ("linear", "lora[rank=16,lr=0.0031]")
    assert linear.tuning == lora.tuning == TUNING
    other = Selection(
        methods="lora", benchmarks="cells", backbones="demo_vit,resnet18", settings=SETTINGS
    )
    assert [cell.method_params["rank"] for cell in plan(other)] == [16, 2]


def test_what_is_typed_and_was_tuned_so_is_found():
    selection = Selection(methods="lora[rank=4]", benchmarks="cells", settings=SETTINGS)
    assert plan(selection)[0].method_label == "lora[rank=4,lr=0.02]"


def test_without_methods_all_tuned_ones_are_run():
    labels = [c.method_label for c in plan(Selection(benchmarks="cells", settings=SETTINGS))]
    assert labels == ["linear", "lora[rank=16,lr=0.0031]", "lora[rank=4,lr=0.02]"]


def test_how_a_setting_was_chosen_does_not_make_another_run():
    (tuned,) = plan(Selection(methods="lora", benchmarks="cells", settings=SETTINGS))
    (typed,) = plan(Selection(methods="lora[rank=16,lr=0.0031]", benchmarks="cells"))
    assert tuned.run_id == typed.run_id and typed.tuning is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": "full"}, "holds none for 'full' on demo_vit, only for linear"),
        ({"backbones": "resnet50"}, "holds none for backbone 'resnet50', only for demo_vit"),
        ({"weights": "none"}, "chosen with --weights pretrained"),
    ],
)
def test_what_was_not_tuned_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        plan(Selection(benchmarks="cells", settings=SETTINGS, **changes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "write settings and values"),
        ("suite: demo\n", "weights: is missing"),
        ("[", "not YAML"),
        ("suite: demo\nsuite: small\n", "given twice"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, text, message):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_settings(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="was not written by `tune`"):
        check_replaceable(path)


def test_where_settings_can_be_written(tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        check_replaceable(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        check_replaceable(tmp_path / "there" / "x.yaml")

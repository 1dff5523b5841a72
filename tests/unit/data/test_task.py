"""What a record keeps of a benchmark is enough to use the run without it."""

import pytest

from benchmark.core.errors import UserError
from benchmark.core.record import Task
from benchmark.data import available
from benchmark.data.base import BENCHMARKS
from benchmark.data.custom.description import Description
from benchmark.data.task import palette_of, scale_of, task_of
from benchmark.planning import plugins

pytestmark = pytest.mark.no_torch


@pytest.fixture
def described(tmp_path):
    """The class of a set that a YAML file describes, with the fields that a test adds."""
    made = []

    def describe(fields):
        path = tmp_path / "own.yaml"
        path.write_text(f"name: own_task\nclasses: {{sky: '#0000FF', sea: '#00FF00'}}\n{fields}")
        plugins.load_files([path])
        made.append(path)
        return BENCHMARKS["own_task"]

    yield describe
    BENCHMARKS.pop("own_task", None)
    for name in [name for name, known in plugins._TYPED.items() if known in made]:
        del plugins._TYPED[name]


@pytest.mark.parametrize(
    ("fields", "factor", "channels"),
    [
        ("", 1.0, 3),
        ("scale: 0.5", 0.5, 3),
        ("shorter_side: 50", 0.5, 3),
        ("bands: [3, 0]\nrange: [[0, 10], [0, 20]]", 1.0, 2),
    ],
)
def test_of_a_described_set_the_record_says_everything(described, fields, factor, channels):
    kind = described(fields)
    task = Task.model_validate_json(task_of(kind).model_dump_json())
    assert (task.classes, task.channels) == (("sky", "sea"), channels)
    assert scale_of(task, None)(100, 200) == kind.scale(object.__new__(kind), 100, 200) == factor
    assert (task.bands, task.range) == (kind.description.bands, kind.description.range)
    assert palette_of(task, "own_task")[:2].tolist() == [[0, 0, 255], [0, 255, 0]]


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        ("labels: {0: sky, 128: sea, 255: sea}", (0, 128)),
        ("labels: {255: sky, 0: sea}", (255, 0)),
        ("offset: 1", (1, 2)),
        ("", (0, 1)),
        ("labels: colour", ("#0000FF", "#00FF00")),
        ("labels: {'#aa0000': sky, '#00BB00': sea}", ("#AA0000", "#00BB00")),
    ],
)
def test_what_labels_of_a_described_set_store(described, fields, values):
    kind = described(fields)
    task = Task.model_validate_json(task_of(kind).model_dump_json())
    assert task.values == values
    assert [kind.description.stored[value] for value in values] == [0, 1]


def test_of_grey_values_labels_store_the_ends():
    said = Description.model_validate({"name": "x", "classes": ["a", "b"], "threshold": 100})
    assert said.values == (0, 255)


@pytest.mark.parametrize(
    ("name", "size", "factor"),
    [("wbc", (112, 200), 2.0), ("wbc", (500, 500), 1.0), ("dubai", (10, 10), 0.6)],
)
def test_of_other_sets_their_code_says_how_images_are_resized(name, size, factor):
    code = available()[name]
    assert scale_of(task_of(code), code)(*size) == factor  # no file of the set is needed
    with pytest.raises(UserError, match="name its file with --plugin"):
        scale_of(task_of(code), None)


def test_a_set_that_resizes_nothing_says_so():
    code = available()["cells"]
    assert scale_of(task_of(code), None)(7, 9) == 1.0

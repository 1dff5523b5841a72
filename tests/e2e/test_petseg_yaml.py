"""`petseg.yaml`: what it states, what wins over it, and what is wrong with it."""

import shutil
from pathlib import Path

import pytest

from benchmark.cli.request import resolve
from benchmark.core.errors import UserError
from benchmark.planning import plugins
from tests.helpers.forked import call, clean
from tests.helpers.simulated import World, write_grid

pytestmark = pytest.mark.no_torch
VARIABLES = ("BENCHMARK_DATA", "BENCHMARK_WEIGHTS")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with folders a and b; gives a function that writes its settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins, "_TYPED", dict(plugins._TYPED))
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    for name in "ab":
        (tmp_path / name).mkdir()
    (tmp_path / "mine.py").write_text("raise ValueError('it is run')\n")
    return lambda text: (tmp_path / "petseg.yaml").write_text(text)


def asked(finished=False, **typed):
    names = ("suite", "benchmarks", "backbones", "set", "weights", "data", "plugin", "results")
    return resolve(finished=finished, **(dict.fromkeys(names) | typed))


def test_what_is_typed_beats_the_environment_beats_the_file_beats_defaults(here, monkeypatch):
    assert asked().data is None and asked().results == Path("results")
    here("data: a\nweights: [a, b]\nresults: mine\nreports: pages\nsuite: small\n")
    request = asked()
    assert request.data == Path("a") and request.weights == (Path("a"), Path("b"))
    assert (request.results, request.reports) == (Path("mine"), Path("pages"))
    assert request.selection.suite == "small"
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "b")
    request = asked()
    assert request.data == Path("b") and request.weights == (Path("b"),)
    Path("grid.yaml").write_text("data: a\nsuite: standard\n")
    request = asked(config=Path("grid.yaml"))
    assert request.data == Path("a") and request.selection.suite == "standard"
    request = asked(config=Path("grid.yaml"), data=Path("c"), suite="demo", results=Path("other"))
    assert (request.data, request.results) == (Path("c"), Path("other"))
    assert request.selection.suite == "demo"


def test_commands_that_are_printed_name_the_results_only_where_the_file_does_not(here):
    here("results: mine\n")
    assert asked().repeated == ""
    assert asked(results=Path("results")).repeated == " --results results"


def test_only_the_working_folder_is_looked_at(here, monkeypatch):
    here("suite: small\n")
    monkeypatch.chdir("a")
    assert asked().selection.suite == "demo"


def test_options_that_a_verb_does_not_take_are_left_alone(here):
    here("plugins: nowhere.yaml\ndata: nowhere\nsuite: small\n")
    assert resolve(results=None).data is None


def test_plugins_of_the_file_and_typed_ones_are_all_loaded(here):
    here("plugins: [one.py]\n")
    for name in ("one.py", "two.py"):
        Path(name).write_text("")
    asked(plugin=[Path("two.py")])
    assert {Path("one.py"), Path("two.py")} <= set(plugins.loaded())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "petseg.yaml: write settings and values, as in `data: DIR`"),
        ("data: [", "petseg.yaml: not YAML"),
        ("- data", "petseg.yaml: write settings"),
        ("data: a\ndata: b\n", "petseg.yaml: not YAML ('data' is given twice"),
        ("plugin: x.py\n", "petseg.yaml: unknown setting 'plugin'; did you mean 'plugins'?"),
        ("methods: lora\n", "petseg.yaml: unknown setting 'methods'; choose from data, plugins"),
        ("data: 3\n", "petseg.yaml: data: must be text (got 3)"),
        ("data: {a: b}\n", "petseg.yaml: data: must be text"),
        ("data:\n", "petseg.yaml: data is empty"),
        ("data: nowhere\n", "petseg.yaml: data: nowhere: no such folder"),
        ("weights: [a, nowhere]\n", "petseg.yaml: weights: nowhere: no such folder"),
        ("plugins: nowhere.yaml\n", "petseg.yaml: plugins: nowhere.yaml: no such file"),
        ("plugins: mine.py\n", "petseg.yaml: plugins: mine.py: ValueError: it is run"),
        ("suite: smal\nresults: 5\n", "petseg.yaml: results: must be text"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_file_s_name(here, text, message):
    here(text)
    with pytest.raises(UserError) as told:
        asked()
    assert str(told.value).startswith(message) and "\n" not in str(told.value)


def test_a_file_that_cannot_be_read_is_told(here, tmp_path):
    (tmp_path / "petseg.yaml").mkdir()
    with pytest.raises(UserError, match=r"^petseg.yaml: cannot be read"):
        asked()
    (tmp_path / "petseg.yaml").rmdir()
    (tmp_path / "petseg.yaml").symlink_to("nowhere.yaml")
    with pytest.raises(UserError, match=r"^petseg.yaml: cannot be read"):
        asked()


def test_doctor_shows_what_is_read(here, tmp_path):
    here("results: mine\ndata: a\n")
    (tmp_path / "mine").mkdir()
    done = call("doctor", cwd=tmp_path, env=clean(BENCHMARK_DATA="b"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "petseg.yaml is read: data: a (but BENCHMARK_DATA is set); results: mine\n"
        "mine: no faults, no notes\n"
    )


def test_what_is_about_finished_runs_takes_the_only_suite_that_has_some(here, tmp_path):
    write_grid(tmp_path / "results", ["a"], ["x"], images=2, world=World(classes=2))
    assert asked(finished=True).selection.suite == "small"
    assert asked(finished=True, benchmarks="cells").selection.suite == "demo"
    assert asked(finished=True, suite="demo").selection.suite == "demo"
    assert asked().selection.suite == "demo"  # what is to be run is another matter
    shutil.copytree(tmp_path / "results/small", tmp_path / "results/other")
    assert asked(finished=True).selection.suite == "demo"

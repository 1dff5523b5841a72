"""The plug-in files that runs were made with: found again, named, and code never run."""

import pytest

from benchmark.core.errors import UserError
from benchmark.core.record import Record
from benchmark.core.selectors import UnknownName
from benchmark.core.spec import plain_name
from benchmark.data import available
from benchmark.planning import plugins, remembered
from benchmark.planning.catalogue import METHODS
from benchmark.results import store
from tests.helpers.records import record

pytestmark = pytest.mark.no_torch
BOLTS = "name: bolts\nfolder: bolts\nclasses: [a, b]\n"


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path, forgotten):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def stored(tmp_path):
    """Stores a run as if it had taken parts from files; gives the results folder."""

    def store_run(**files):
        root = tmp_path / "work" / "results"
        noted = {}
        for kind, path in files.items():
            plugins._HASHES[path] = remembered.file_sha256(path)
            noted |= remembered.note({kind: path}, root)
        kind = "mine" if "method" in files else "linear"
        runs = len(list(root.rglob("record.json")))
        run = record(kind, "bolts", plugins=noted, run_id=f"{runs:012}")
        folder = root / "own" / "bolts" / run.backbone / plain_name(run.method) / run.run_id
        folder.mkdir(parents=True)
        store.write_record(folder, run)
        return root, run

    return store_run


@pytest.fixture
def bolts(tmp_path):
    path = tmp_path / "work" / "bolts.yaml"
    path.parent.mkdir()
    path.write_text(BOLTS)
    return path


def test_a_description_that_is_unchanged_is_loaded_from_any_folder(stored, bolts):
    root, run = stored(benchmark=bolts)
    assert run.plugins["benchmark"].path == "../bolts.yaml"
    assert remembered.sets_of(root, "own") == ["bolts"]
    assert remembered.recall(root, ["bolts", "cells", "unheard"]) == {}
    assert available()["bolts"].classes == ("a", "b")
    remembered.require(run, root)


def test_one_that_has_changed_or_is_gone_is_named(stored, bolts):
    root, run = stored(benchmark=bolts)
    bolts.write_text(BOLTS.replace("b]", "b, c]"))
    (problem,) = remembered.recall(root, ["bolts"]).values()
    assert "add --plugin work/bolts.yaml, which has changed since" in problem
    assert "bolts" not in available()
    bolts.unlink()
    with pytest.raises(UserError, match=r"run .*: benchmark 'bolts' comes from bolts") as told:
        remembered.require(run, root)
    assert "the path of that file" in str(told.value)


def test_of_runs_before_and_after_a_change_those_after_it_tell(stored, bolts):
    stored(benchmark=bolts)
    bolts.write_text(BOLTS.replace("b]", "b, c]"))
    root, _ = stored(benchmark=bolts)
    assert remembered.recall(root, ["bolts"]) == {}
    assert available()["bolts"].classes == ("a", "b", "c")


def test_moved_results_find_a_description_in_the_working_folder(stored, bolts, tmp_path):
    root, _ = stored(benchmark=bolts)
    bolts.rename(tmp_path / "bolts.yaml")
    assert remembered.recall(root, ["bolts"]) == {}
    assert "bolts" in available()


def test_code_is_named_and_never_run(stored, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("raise SystemExit('this file was run')\n")
    root, run = stored(method=path, benchmark=path)
    (problem,) = remembered.recall(root, ["bolts"]).values()
    assert problem == f"comes from mine.py, says a record in {root}; add --plugin mine.py"
    with pytest.raises(UserError, match=r"add --plugin mine\.py"):
        remembered.require(run, root)
    told = remembered.explain(UnknownName("method", "mine", "; did you mean 'main'?"), root)
    assert str(told) == f"unknown method 'mine': it {problem}"


def test_a_name_that_a_file_of_the_working_folder_describes_is_told_so(bolts, tmp_path):
    (tmp_path / "torn.yaml").write_text("name: [")
    (tmp_path / "a folder.yaml").mkdir()
    error = UnknownName("benchmark", "bolts", "; did you mean 'cells'?")
    told = str(remembered.explain(error, tmp_path))
    assert told == (
        "unknown benchmark 'bolts'; did you mean 'cells'; a set of your own needs --plugin "
        "FILE.yaml, or `plugins` in petseg.yaml"
    )
    bolts.rename(tmp_path / "nuts.yaml")
    told = str(remembered.explain(error, tmp_path))
    assert "nuts.yaml describes it; add --plugin nuts.yaml" in told and "did you mean" not in told


def test_records_without_plugins_are_read_and_help_nothing(stored):
    root, run = stored()
    text = run.model_dump_json(exclude={"plugins"})
    assert Record.model_validate_json(text).plugins == {}
    assert remembered.recall(root, ["bolts"]) == {}
    remembered.require(run, root)


def test_an_unknown_method_names_few_others_and_where_all_are():
    with pytest.raises(UnknownName) as told:
        METHODS.get("zzqqj")
    assert str(told.value) == (
        "unknown method 'zzqqj'; `python -m benchmark list methods` shows all"
    )
    with pytest.raises(UnknownName, match="did you mean 'adapter'"):
        METHODS.get("adaptor")


def test_a_file_in_place_of_a_set_is_told_with_the_name_of_the_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own/streets.yaml").write_text("name: roads\nfolder: roads\nclasses: [a, b]\n")
    for typed, words in (
        ("own/streets.yaml", "roads --plugin own/streets.yaml"),
        ("nowhere.yml", "NAME --plugin nowhere.yml"),
    ):
        told = str(remembered.explain(UnknownName("benchmark", typed, ""), tmp_path))
        assert told.endswith(f"write the name of the set, and name the file by --plugin: {words}")

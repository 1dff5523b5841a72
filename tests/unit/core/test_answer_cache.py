"""What is kept of the answers of code: when it is used, and when it is not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.core import answer_cache
from benchmark.core.errors import UserError

pytestmark = pytest.mark.no_torch

ROOT = Path(__file__).resolve().parents[3]
ABSENT = "a_module_that_is_not_loaded"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / answer_cache.NAME


def refuse():
    raise AssertionError("asked again")


def test_an_answer_is_asked_for_once(cache):
    value = ["a", {"lr": 1e-3, "text": "ü"}]
    assert answer_cache.kept("q", ABSENT, lambda: value) == value
    assert answer_cache.kept("q", ABSENT, refuse) == value
    assert answer_cache.kept("other", ABSENT, lambda: False) is False
    assert answer_cache.kept("other", ABSENT, refuse) is False


def test_a_module_that_is_loaded_is_asked_itself(cache):
    answer_cache.kept("q", ABSENT, lambda: 1)
    assert answer_cache.kept("q", "json", lambda: 2) == 2
    assert answer_cache.kept("q", ABSENT, refuse) == 1


def test_nothing_is_kept_beside_installed_plugins(cache, monkeypatch):
    monkeypatch.setattr(answer_cache, "entry_points", lambda group: ["theirs"])
    assert answer_cache.kept("q", ABSENT, lambda: 1) == 1
    assert not cache.exists()


def test_other_code_forgets_all(cache, monkeypatch):
    answer_cache.kept("q", ABSENT, lambda: 1)
    monkeypatch.setattr(answer_cache, "_code", lambda: "another")
    assert answer_cache.kept("q", ABSENT, lambda: 2) == 2
    assert json.loads(cache.read_text())["answers"] == {"q": 2}


def test_whether_there_are_answers_of_this_code(cache, monkeypatch):
    assert not answer_cache.are_there()
    answer_cache.kept("q", ABSENT, lambda: 1)
    assert answer_cache.are_there()
    with monkeypatch.context() as patch:
        patch.setattr(answer_cache, "entry_points", lambda group: ["theirs"])
        assert not answer_cache.are_there(), "beside installed plug-ins nothing is kept"
    monkeypatch.setattr(answer_cache, "_code", lambda: "another")
    assert not answer_cache.are_there()


def test_code_is_told_by_its_files(tmp_path, monkeypatch):
    package = tmp_path / "a_package_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(answer_cache, "_ANSWERING", (package.name,))
    told = {answer_cache._code.__wrapped__()}
    (package / "more.py").write_text("x = 1\n")
    told.add(answer_cache._code.__wrapped__())
    os.utime(package / "more.py", (1, 1))
    told.add(answer_cache._code.__wrapped__())
    (tmp_path / "other-1.0.dist-info").mkdir()
    told.add(answer_cache._code.__wrapped__())
    assert len(told) == 4


def test_an_error_is_raised_and_not_kept(cache):
    def fail():
        raise UserError("no")

    with pytest.raises(UserError):
        answer_cache.kept("q", ABSENT, fail)
    assert answer_cache.kept("q", ABSENT, lambda: 1) == 1


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"code": 1}', '{"code": "%s", "answers": 3}'])
def test_a_damaged_file_is_as_none(cache, content):
    cache.parent.mkdir()
    cache.write_text(content.replace("%s", answer_cache._code()))
    assert answer_cache.kept("q", ABSENT, lambda: 1) == 1
    assert answer_cache.kept("q", ABSENT, refuse) == 1


def test_without_a_cache_everything_is_asked(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for name in ("none", str(tmp_path / "file")):
        monkeypatch.setenv("BENCHMARK_CACHE", name)
        assert [answer_cache.kept("q", ABSENT, lambda n=n: n) for n in (1, 2)] == [1, 2]


def test_the_latest_answers_are_kept(cache, monkeypatch):
    monkeypatch.setattr(answer_cache, "MOST", 2)
    for number in range(3):
        answer_cache.kept(str(number), ABSENT, lambda number=number: number)
    assert list(json.loads(cache.read_text())["answers"]) == ["1", "2"]


PLAN = """
import sys
METHODS = "full,linear,lora[rank=4|16],v*,spm,adapter[form=houlsby,lr=1e-3],ssf"
from benchmark import Selection, plan
from benchmark.models.find_weights import check_names
from benchmark.planning.staleness import CurrentHashes
cells = plan(Selection(methods=METHODS, seeds=(0, 1)))
check_names(["resnet18", "demo_vit"], [])
print([cell.model_dump_json() for cell in cells], CurrentHashes().method(cells[0].method))
print([cell.run_id for cell in cells])
print("torch" in sys.modules or "timm" in sys.modules)
"""


@pytest.mark.slow
def test_a_plan_is_the_same_without_torch(tmp_path):
    environment = os.environ | {"BENCHMARK_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    told = [
        subprocess.run(
            [sys.executable, "-c", PLAN],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.rsplit("\n", 2)[:2]
        for _ in range(3)  # the package answers one question and then is asked the other itself
    ]
    assert [loaded for _, loaded in told] == ["True", "True", "False"]
    assert told[0][0] == told[1][0] == told[2][0]

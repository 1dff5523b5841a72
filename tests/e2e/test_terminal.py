"""What verbs write to a terminal, to a plain one, to a program, and when they are to be quiet."""

import io
import json
import os
import pty
import select

import pytest
from rich.console import Console

from tests.helpers.forked import Running, call, clean
from tests.helpers.records import record
from tests.helpers.tiny import typed

TINY = ("--methods=linear", "--benchmarks=cells", *typed(steps=2, crop=36, batch_size=2))
ESCAPE = "\x1b"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A results folder with one run, made quietly, and what that printed."""
    results = tmp_path_factory.mktemp("terminal") / "results"
    return results, call("run", "--quiet", *TINY, "--results", results)


def on_terminal(*words, **variables):
    """All that a command writes to a terminal, which is its output and its errors."""
    outer, inner = pty.openpty()
    running = Running(*words, env=clean(TERM="xterm-256color") | variables, prepare=_Attach(inner))
    parts = []
    while running.is_running() or select.select([outer], [], [], 0)[0]:
        if select.select([outer], [], [], 0.05)[0]:
            parts.append(os.read(outer, 65536))
    running.end()
    os.close(inner)
    os.close(outer)
    return b"".join(parts).decode()


class _Attach:
    """Puts a terminal, by its name, in the place of both outputs."""

    def __init__(self, inner):
        self.name = os.ttyname(inner)

    def __call__(self):
        terminal = os.open(self.name, os.O_WRONLY | os.O_NOCTTY)
        for number in (1, 2):
            os.dup2(terminal, number)


NO_COLOUR, DUMB = {"NO_COLOR": "1"}, {"TERM": "dumb"}


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (("run", *TINY), NO_COLOUR),
        (("run", *TINY), DUMB),
        (("plan", *TINY), NO_COLOUR),
        (("report", "--no-figures", "--no-gallery"), NO_COLOUR),
        (("data", "verify", "streets"), NO_COLOUR),
        (("run", "--help"), NO_COLOUR),
        (("run", "--help"), DUMB),
        (("run", "--retry", "never"), NO_COLOUR),
    ],
)
def test_a_plain_terminal_gets_no_escape_sequences(ran, tmp_path, words, variables):
    if words[0] != "data":
        words = (*words, "--results", ran[0])
    if words[0] == "report":
        words = (*words, "--out", tmp_path)
    written = on_terminal(*words, **variables, FORCE_COLOR="1")
    assert written.strip() and ESCAPE not in written


def test_a_terminal_with_colours_gets_them(ran):
    results, _ = ran
    assert ESCAPE in on_terminal("plan", "--help")
    assert ESCAPE in on_terminal("run", *TINY, "--results", results)


def test_what_is_no_terminal_gets_none(ran):
    results, quiet = ran
    for done in (quiet, call("plan", *TINY, "--results", results), call("run", "--help")):
        assert ESCAPE not in done.stdout + done.stderr


def test_quiet_prints_the_result_and_no_progress(ran, tmp_path):
    results, done = ran
    assert done.returncode == 0 and done.stderr == ""
    first = next(line for line in done.stdout.splitlines() if line.strip())
    assert first.startswith("Leaderboard: ") and "records in " in done.stdout
    for progress in ("selected", "step 1/2", "[1/1]", "decoding"):
        assert progress not in done.stdout
    words = ("--results", results)
    report = call("report", "-q", "--no-figures", "--no-gallery", *words, "--out", tmp_path)
    answer, *_, last = report.stdout.splitlines()
    assert answer == "Answer: demo_vit, pretrained weights" and report.stderr == ""
    assert last == f"open {tmp_path / 'demo/index.html'}" and "Leaderboard" not in report.stdout
    again = call("evaluate", "-q", *TINY, *words)
    assert again.stdout.startswith("cells / demo_vit / linear / seed 0: mIoU")
    assert len(again.stdout.splitlines()) == 1 and again.stderr == ""


def test_quiet_keeps_errors(ran):
    results, _ = ran
    done = call("run", "--quiet", *TINY, "--retry", "never", "--results", results)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "error: --retry 'never': choose from failed, oom, all\n"


@pytest.mark.parametrize("kind", [None, "methods", "backbones", "benchmarks", "suites"])
def test_list_as_json_is_one_document_of_the_kinds_asked_for(kind):
    done = call("list", *([kind] if kind else []), "--json")
    assert done.returncode == 0 and done.stderr == ""
    found = json.loads(done.stdout)
    assert list(found) == ([kind] if kind else ["methods", "backbones", "benchmarks", "suites"])
    names = {
        "methods": "lora",
        "backbones": "demo_vit",
        "benchmarks": "streets",
        "suites": "small",
    }
    for one, rows in found.items():
        keys = {tuple(row) for row in rows}
        assert len(keys) == 1, "every row has the same keys"
        assert names[one] in {row["name"] for row in rows}
    if kind == "methods":
        (lora,) = (row for row in found["methods"] if row["name"] == "lora")
        assert lora["settings"]["rank"] == 8 and lora["mergeable"] is True
        assert set(lora["supports"]) == {"cnn", "hierarchical", "plain"}


def test_list_as_json_says_what_methods_train_on_a_backbone():
    found = json.loads(call("list", "methods", "--on", "resnet10t", "--json").stdout)
    rows = {row["name"]: row for row in found["methods"]}
    assert (found["backbone"], found["kind"]) == ("resnet10t", "cnn")
    assert rows["linear"]["trained"] == 0 and rows["linear"]["unsupported"] is None
    assert rows["fact"]["trained"] is None and "linear attention" in rows["fact"]["unsupported"]


def test_lines_say_about_how_long_the_rest_takes(monkeypatch):
    from benchmark.cli import progress

    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), width=100)
    lines = progress.Lines(console, 3)
    for seconds in (160.0, 200.0, 290.0):
        now[0] = seconds
        lines.cell_finished(record(status="failed", reason="why"))
    shown = console.file.getvalue().splitlines()
    assert [text.partition("(why)")[2] for text in shown] == [
        "; about 2 min left",
        "; about 50 s left",
        "",
    ]

"""What the system refuses, and what the command line does not know: one line, exit code 2."""

import warnings

import pytest

from benchmark.cli import main

LONG = "x" * 300


@pytest.fixture
def typed(monkeypatch, capsys, tmp_path):
    """Types a command line; returns exit code, standard output and error."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["python -m benchmark", *arguments])
        with pytest.raises(SystemExit) as exit:
            main()
        return exit.value.code, *capsys.readouterr()

    return call


def one_line(answer):
    code, out, err = answer
    assert code == 2, (code, out, err)
    assert err.startswith("error: ") and err.count("\n") == 1, err
    return err


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", LONG, "b"),
        ("compare", "b", "c", "--results", LONG),
        ("doctor", "--results", LONG),
        ("plan", "--methods", "linear", "--results", LONG),
        ("plan", "--plugin", f"{LONG}.py"),
        ("plan", "--config", LONG),
        ("run", "--methods", "linear", "--weights", LONG),
        ("run", "--methods", "linear", "--data", LONG, "--suite", "small"),
        ("run", "--methods", "linear", "--results", LONG),
        ("reproduce", "ab", "--results", LONG),
        ("results", "merge", LONG),
        ("results", "export", "--out", LONG),
    ],
    ids=lambda words: " ".join(word[:9] for word in words),
)
def test_a_name_that_is_too_long_is_one_line(typed, arguments):
    one_line(typed(*arguments))


def test_a_path_through_a_file_is_one_line(typed, tmp_path):
    (tmp_path / "file").write_text("")
    assert "file" in one_line(typed("doctor", "--results", "file/results"))
    words = ["run", "--methods", "linear", "--jobs", "1", "--results", "file/results"]
    assert "file" in one_line(typed(*words))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("plan", "--sets", "steps=3"), ("--sets", "`python -m benchmark plan --help`")),
        (("compare", "a"), ("Missing argument", "B", "compare --help")),
        (("run", "--jobs", "0"), ("--jobs '0'", "auto", "at least 1")),
        (("run", "--jobs", "many"), ("--jobs 'many'", "auto")),
        (("run", "--max-seconds", "soon"), ("--max-seconds", "number")),
        (("run", "--max-seconds", "-1"), ("--max-seconds", "0")),
        (("run", "--methods", ""), ("--methods is empty", "leave it out")),
        (("run", "--suite", " "), ("--suite is empty",)),
        (("rum",), ("No such command 'rum'", "run")),
        (("results", "merge"), ("Missing argument", "results merge --help")),
        (("plan", "a\nb"), (r"a\x0ab", "plan --help")),
    ],
)
def test_what_is_mistyped_is_one_line(typed, arguments, words):
    message = one_line(typed(*arguments))
    assert all(word in message for word in words), message


def test_exit_codes_of_verbs_and_help_stay(typed):
    code, out, _ = typed("plan", "--help")
    assert code in (0, None) and "Examples" in out
    code, out, err = typed()
    assert code == 2 and "Usage" in out + err and "error:" not in err
    assert typed("plan", "--methods", "linear", "--benchmarks", "cells")[0] in (0, None)

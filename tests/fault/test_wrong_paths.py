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
        (("plan", "--set", "steps=-3"), ("--set steps: must be at least 1 (got '-3')",)),
        (("plan", "--set", "steps=2.5"), ("--set steps: must be a whole number",)),
        (("plan", "--set", "decoder_lr=nan"), ("--set decoder_lr: must be a finite number",)),
        (("plan", "--set", "decoder_lr=0"), ("must be greater than 0",)),
        (("plan", "--set", "flip=maybe"), ("--set flip: must be true or false",)),
        (("plan", "--set", "schedule=step"), ("must be 'cosine' or 'poly'",)),
        (("plan", "--set", "crop=99999999999"), ("--set crop: must be at most 16384",)),
        (("plan", "--set", "warmup=2"), ("--set warmup: must be less than 1",)),
        (("plan", "--set", "steps"), ("--set 'steps'", "FIELD=VALUE")),
        (("plan", "--fraction", "0"), ("--set fraction: must be greater than 0",)),
        (("plan", "--methods", "lora[rank=x]"), ("lora rank: must be a whole number",)),
        (("plan", "--methods", "lora[rank"), ("'lora[rank'", "name[field=value,...]")),
        (("plan", "--methods", ","), ("no method selected", "name at least one")),
        (("plan", "--methods", "linear", "lora"), ("; write --methods linear,lora; see",)),
        (("plan", "--methods=vpt,", "lora[a=1|2]"), ("; write --methods 'vpt,lora[a=1|2]'; see",)),
        (("plan", "lora"), ("extra argument(s) (lora); see",)),
        (("report", "--results", "folder"), ("folder holds no runs: nothing to report",)),
        (("plan", "--seeds", "-1"), ("--seeds '-1'", "as in 0,1,2")),
        (
            ("plan", "--backbones", "vit_giga*"),
            ("no weights file matches 'vit_giga*'", "list backbones --filter"),
        ),
        (("plan", "--config", "bad.yaml"), ("--config bad.yaml: not YAML (line 2: ",)),
        (("plan", "--config", "folder"), ("cannot be read (Is a directory)",)),
        (("plan", "--config", "binary.yaml"), ("--config binary.yaml: not a text file in UTF-8",)),
        (("plan", "--plugin", "folder"), ("--plugin folder: is a folder; name a file",)),
        (("plan", "--plugin", "gone.py"), ("--plugin gone.py: no such file",)),
        (("plan", "--results", "file"), ("--results file: is a file; name a folder",)),
        (("run", "--data", "file"), ("--data file: is a file; name a folder",)),
        (("show", "a", "--results", "file"), ("--results file: is a file",)),
        (("plan", "--weights", "file"), ("--weights file: is a file; name the folder",)),
        (("run", "--workers", "-1"), ("--workers", "must be at least 0", "run --help")),
        (("run", "--workers", "x"), ("--workers", "must be a whole number")),
        (("list", "things"), ("'things' is not one of 'methods'",)),
        (("list", "methods", "--on", ""), ("--on is empty",)),
        (("list", "methods", "--counts", "--filter", "x"), ("--filter needs backbones",)),
        (("list", "backbones", "--filter", "no_such*"), ("no backbone of timm matches",)),
        (("show", ""), ("the run id is empty", "`plan` lists")),
        (("profile", ""), ("METHOD is empty",)),
        (("check", "file"), ("--plugin file: its name must end in .py",)),
        (("check", "gone.py"), ("gone.py: no such file",)),
        (("pretrain", "--out", "folder"), ("--out folder is a folder; name a file",)),
        (("results", "export", "--out", "folder"), ("--out folder", "not a file")),
        (("timing", "--rounds", "0"), ("--rounds", "must be at least 1")),
        (("data", "preview", "streets", "--count", "0"), ("--count", "must be at least 1")),
        (("data", "describe", "folder", "--to", "x.txt"), ("must end in .yaml",)),
    ],
)
def test_what_is_mistyped_is_one_line(typed, tmp_path, arguments, words):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "bad.yaml").write_text("a: [\n")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    message = one_line(typed(*arguments))
    assert all(word in message for word in words), message


def test_exit_codes_of_verbs_and_help_stay(typed):
    code, out, _ = typed("plan", "--help")
    assert code in (0, None) and "Examples" in out
    code, out, err = typed()
    assert code == 2 and "Usage" in out + err and "error:" not in err
    assert typed("plan", "--methods", "linear", "--benchmarks", "cells")[0] in (0, None)

import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from benchmark.cli import results as verb
from benchmark.core.errors import UserError
from benchmark.core.record import Execution
from benchmark.core.spec import Tuning
from benchmark.results import lock, robustness, store
from benchmark.results.load import load_results, run_folders
from benchmark.results.merge import export, merge
from benchmark.results.validate import check_run, spec_of
from tests.helpers.stored import counts, store_run

pytestmark = pytest.mark.no_torch


@pytest.fixture
def roots(tmp_path):
    return tmp_path / "a", tmp_path / "b", tmp_path / "into"


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def call(*arguments):
    app = typer.Typer()
    app.add_typer(verb.app, name="results")
    return CliRunner().invoke(app, ["results", *map(str, arguments)])


def test_runs_of_both_are_copied_whole(roots):
    a, b, into = roots
    first, second = store_run(a), store_run(b, "vpt")
    merged = merge([a, b], into)
    assert (merged.copied, merged.conflicts) == ([first, second], [])
    for root, folder in ((a, first), (b, second)):
        assert files(into / folder.relative_to(root)) == files(folder)
    assert {path.name for path in into.rglob(".*")} == set()


def test_merging_again_changes_nothing(roots):
    a, b, into = roots
    store_run(a), store_run(b)
    assert len(merge([a, b], into).copied) == 1

    def times():
        return {path: path.stat().st_mtime_ns for path in into.rglob("*") if path.is_file()}

    before = times()
    merged = merge([a, b], into)
    assert (len(merged.copied), len(merged.same)) == (0, 2)
    assert times() == before


def test_the_first_of_two_that_differ_is_kept_and_the_other_listed(roots):
    a, b, into = roots
    first, second = store_run(a), store_run(b, numbers=counts(accuracy=0.5))
    answer = call("merge", a, b, "--into", into)
    assert answer.exit_code == 1 and f"conflict: {second}" in answer.stdout
    assert files(into / first.relative_to(a)) == files(first)
    assert call("merge", b, a, "--into", into).exit_code == 1
    assert files(into / first.relative_to(a)) == files(first)


def test_equal_records_with_other_counts_are_a_conflict(roots):
    a, b, into = roots
    store_run(a)
    folder = store_run(b)
    numbers = store.read_counts(folder)
    store.write_counts(folder, numbers.pop("ids"), numbers | {"nll": numbers["nll"] * 2})
    assert merge([a, b], into).conflicts == [folder]


def test_finished_before_unfinished_whatever_the_order(roots):
    a, b, into = roots
    failed, done = store_run(a, status="failed"), store_run(b)
    merged = merge([a, b], into)
    assert (merged.unfinished, merged.copied) == ([failed], [done])
    merged = merge([b], a)
    assert merged.copied == [done] and store.read_record(failed).status == "done"
    assert call("merge", a, b, "--into", a).exit_code == 0


def test_a_copy_with_weights_replaces_one_without(roots):
    a, b, into = roots
    store_run(a, delta=False)
    folder = store_run(b)
    merged = merge([a, b], into)
    assert len(merged.copied) == 2 and not merged.conflicts
    assert (into / folder.relative_to(b) / "delta.safetensors").exists()
    assert merge([a], into).copied == []


def test_broken_runs_are_left_out_and_told(roots):
    a, _, into = roots
    folder = store_run(a)
    store_run(a, "vpt")
    (folder / "images.npz").write_bytes(b"PK")
    answer = call("merge", a, "--into", into)
    assert answer.exit_code == 1 and "1 copied" in answer.stdout and "1 broken" in answer.stdout
    assert not (into / folder.relative_to(a)).exists()


def test_a_broken_run_in_the_target_is_not_lost(roots):
    a, _, into = roots
    store_run(a)
    there = store_run(into)
    (there / "record.json").write_text("{")
    other = store_run(a, "vpt")
    merged = merge([a], into)
    assert (merged.broken, merged.copied) == ([there], [other])
    assert call("merge", a, "--into", into).exit_code == 1
    assert (there / "record.json").read_text() == "{"


def opened(folder, times):
    execution = Execution(starts=1, resumed_at=(), micro_batch=8, opened_splits={"test": times})
    made = store.read_record(folder).model_copy(update={"execution": execution})
    store.write_record(folder, made)
    return made


def test_evaluating_one_copy_again_makes_no_conflict_and_is_counted(roots):
    a, b, into = roots
    first, second = store_run(a), store_run(b)
    opened(first, 1)
    made = opened(second, 3)
    for sources in ([a, b], [b, a], [a, b]):
        merged = merge(sources, into)
        assert not merged.conflicts
        assert store.read_record(into / first.relative_to(a)) == made or sources == [a]
    assert len(merged.same) == 2
    assert store.read_record(first).execution.opened_splits == {"test": 1}


def test_scores_on_corrupted_images_are_taken_over(roots):
    a, b, into = roots
    first, second = store_run(a), store_run(b, delta=False)
    numbers = store.read_counts(second)
    held = {f"fog/3/{kind}": numbers[kind] for kind in robustness.CLASS_COUNTS}
    made = store.read_record(second)
    scores = robustness.make(made.run_id, "test", made.metrics.miou, {"fog": "weather"}, held, 1)
    robustness.write(second, scores, held)
    merged = merge([a, b], into)
    place = into / first.relative_to(a)
    assert merged.copied == [first, second] and check_run(place) == []
    assert files(place) == files(first) | {
        name: (second / name).read_bytes() for name in ("robustness.json", "robustness.npz")
    }
    assert merge([a, b], into).copied == []


def test_a_cell_that_is_being_worked_on_is_left_alone(roots):
    a, _, into = roots
    folder = store_run(a)
    with lock.hold(into, spec_of(store.read_record(folder))) as mine:
        assert mine
        answer = call("merge", a, "--into", into)
    assert answer.exit_code == 1 and f"busy: {folder}" in answer.stdout
    assert not (into / folder.relative_to(a)).exists()
    assert call("merge", a, "--into", into).exit_code == 0


def test_attempts_in_the_target_count_and_leave_nothing_behind(roots):
    a, _, into = roots
    folder = store_run(a)
    opened(folder, 1)
    spec = spec_of(store.read_record(folder))
    store.checkpoint_of(into, spec).parent.mkdir(parents=True)
    store.checkpoint_of(into, spec).write_text("")
    store.log_openings(into, spec, {"test": 2})
    merge([a], into)
    assert store.read_record(into / spec.folder).execution.opened_splits == {"test": 2}
    assert list((into / spec.folder).parent.iterdir()) == [into / spec.folder]


def test_an_interrupted_copy_leaves_no_half_run(roots, monkeypatch):
    a, _, into = roots
    folder = store_run(a)
    copy, copied = shutil.copyfile, []

    def stop(source, target):
        if copied:
            raise KeyboardInterrupt
        copied.append(copy(source, target))

    monkeypatch.setattr(shutil, "copyfile", stop)
    with pytest.raises(KeyboardInterrupt):
        merge([a], into)
    assert not (into / folder.relative_to(a)).exists()
    monkeypatch.undo()
    assert merge([a], into).copied == [folder]


def test_only_real_runs_of_ones_own_are_merged(roots):
    a, b, into = roots
    folder = store_run(a)
    shutil.copytree(a / "small", a / "published" / "small")
    shutil.copytree(folder, folder.with_name(f".{folder.name}.4194311"))
    (folder / "secret").symlink_to(store_run(b) / "record.json")
    assert list(run_folders(a)) == [folder]
    assert len(list(run_folders(a / "published"))) == 1
    merge([a], into)
    assert not (into / folder.relative_to(a) / "secret").is_symlink()
    assert "secret" not in files(into / folder.relative_to(a))


def test_a_source_without_runs_is_the_users_error(roots):
    a, b, into = roots
    store_run(a)
    with pytest.raises(UserError, match="no runs in"):
        merge([a, b], into)
    assert not into.exists()


def test_merged_runs_are_done(roots):
    a, _, into = roots
    spec = spec_of(store.read_record(store_run(a)))
    merge([a], into)
    assert store.is_done(into, spec)


@pytest.fixture
def varied(tmp_path):
    """Runs whose fields differ in type, are missing, or hold lists and letters of all kinds."""
    root = tmp_path / "results"
    store_run(root)
    store_run(root, "lora[rank=4]", method_params={"rank": 4, "where": ["q", "v"], "size": True})
    store_run(root, "vpt", method_params={"size": 'säße,\n"x"'}, status="failed")
    return root


def test_export_gives_back_what_load_results_has(varied, tmp_path):
    expected = load_results(varied)
    readers = {
        "csv": pd.read_csv,
        "json": lambda path: pd.DataFrame(json.loads(path.read_text())),
        "parquet": pd.read_parquet,
    }
    for form, read in readers.items():
        out = tmp_path / f"table.{form}"
        assert export(varied, form, out) == 3
        table = read(out)
        assert list(table.columns) == list(expected.columns)
        np.testing.assert_allclose(table["metrics.miou"], expected["metrics.miou"], rtol=1e-14)
        assert table["method"].tolist() == expected["method"].tolist()
        sizes = table["method_params.size"].dropna().tolist()
        assert sizes == ([True, 'säße,\n"x"'] if form == "json" else ["true", 'säße,\n"x"'])
        where = table["method_params.where"].dropna().tolist()
        assert [v if isinstance(v, list) else json.loads(v) for v in where] == [["q", "v"]]


def test_export_of_one_suite(varied, tmp_path):
    store_run(varied, "ssf", suite="demo")
    out = tmp_path / "table.csv"
    answer = call("export", "--format", "csv", "--out", out, "--suite", "demo", "--results", varied)
    assert answer.exit_code == 0 and "1 rows" in answer.stdout
    assert pd.read_csv(out)["suite"].tolist() == ["demo"]
    with pytest.raises(UserError, match="no results of suite 'large'"):
        export(varied, "csv", out, "large")
    assert pd.read_csv(out)["suite"].tolist() == ["demo"]


def test_export_replaces_files_only(varied, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(UserError, match="is not a file"):
        export(varied, "csv", folder)
    with pytest.raises(UserError, match="cannot be written"):
        export(varied, "csv", tmp_path / "missing" / "table.csv")
    with pytest.raises(UserError, match="choose from csv, parquet, json"):
        export(varied, "xls", tmp_path / "table.xls")
    out = tmp_path / "table.csv"
    out.write_text("old")
    export(varied, "csv", out)
    assert out.read_text().startswith("schema_version,")
    assert not list(tmp_path.glob(".table*"))


def test_parquet_without_pyarrow_names_the_extra(varied, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"petseg-bench\[hub\]"):
        export(varied, "parquet", tmp_path / "table.parquet")
    assert not (tmp_path / "table.parquet").exists()


@pytest.mark.parametrize("order", [1, -1])
def test_a_copy_that_says_how_its_setting_was_chosen_is_the_same_run(roots, order):
    a, b, into = roots
    tuning = Tuning(trials=8, benchmarks=("x",), seeds=(0,), protocol_hash="0123456789ab")
    plain, told = store_run(a), store_run(b)
    record = store.read_record(told)
    store.note_tuning(b, spec_of(record).model_copy(update={"tuning": tuning}))
    assert store.read_record(told).tuning == tuning
    merged = merge([a, b][::order], into)
    assert not merged.conflicts
    assert store.read_record(into / plain.relative_to(a)).tuning == tuning

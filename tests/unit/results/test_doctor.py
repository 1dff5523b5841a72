import json
import os
import shutil
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from benchmark.cli.doctor import doctor
from benchmark.core import processes
from benchmark.core.errors import UserError
from benchmark.core.record import parse
from benchmark.results import index, lock, robustness, store
from benchmark.results.doctor import examine, set_aside
from benchmark.results.metrics import class_dice
from benchmark.results.validate import check_run, spec_of
from tests.helpers.stored import counts, names, store_run
from tests.helpers.tiny import DEAD, of_the_dead

pytestmark = pytest.mark.no_torch


def faults(root):
    return [finding for finding in examine(root) if finding.severity == "fault"]


def the_fault(root):
    (finding,) = faults(root)
    return finding


def rewrite(folder, **changes):
    path = folder / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def tree(root):
    return {
        path.relative_to(root): path.is_file() and path.read_bytes() for path in root.rglob("*")
    }


def call(*arguments):
    app = typer.Typer()
    app.command()(doctor)
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def run(tmp_path):
    return store_run(tmp_path)


def test_a_sound_folder_has_no_findings(tmp_path, run):
    store_run(tmp_path, "lora[rank=4]", method_params={"rank": 4})
    store_run(tmp_path, "vpt", status="failed", reason="no memory")
    assert examine(tmp_path) == []
    answer = call("--results", tmp_path)
    assert answer.exit_code == 0 and "no faults, no notes" in answer.stdout


def test_published_records_may_lack_weights_and_are_no_twins(tmp_path, run):
    shutil.copytree(tmp_path / "small", tmp_path / "published" / "small")
    next(tmp_path.glob("published/**/delta.safetensors")).unlink()
    assert examine(tmp_path) == []  # nothing that a user can act on
    next(tmp_path.glob("small/**/delta.safetensors")).unlink()
    (note,) = examine(tmp_path)
    assert note.severity == "note" and "delta.safetensors is missing" in note.what
    assert call("--results", tmp_path).exit_code == 0


def test_a_record_torn_anywhere_is_listed_and_repaired(tmp_path, run):
    whole = (run / "record.json").read_bytes()
    for end in range(0, len(whole.rstrip()), 50):
        (run / "record.json").write_bytes(whole[:end])
        finding = the_fault(tmp_path)
        assert finding.path == run and "record.json is damaged" in finding.what
        assert "\n" not in finding.what
    set_aside(tmp_path, examine(tmp_path))
    assert faults(tmp_path) == [] and not run.exists()
    assert (tmp_path / store.SET_ASIDE / run.relative_to(tmp_path) / "record.json").is_file()


@pytest.mark.parametrize("name", ["images.npz", "curve.jsonl", "delta.safetensors"])
def test_a_part_torn_anywhere_is_listed(tmp_path, run, name):
    whole = (run / name).read_bytes()
    for end in range(0, len(whole), 50):
        (run / name).write_bytes(whole[:end])
        assert name in the_fault(tmp_path).what


@pytest.mark.parametrize("name", ["record.json", "images.npz", "curve.jsonl", "delta.safetensors"])
def test_no_bytes_raise(tmp_path, run, name):
    """A flipped byte may go unseen (in a value that nothing else tells); it must never raise."""
    whole = (run / name).read_bytes()
    random = np.random.default_rng(0)
    for content in (
        b"", b"\0" * 1000, b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe\0", random.bytes(3000),
        b'{"schema_version": [], "run_id": "\\ud800"}', b"null", b"9" * 5000,
        b"PK\x05\x06" + b"\0" * 18,
        (2**63).to_bytes(8, "little") + b"{}", b"\n\n", b'{"loss": []}\n',
    ):  # fmt: skip
        (run / name).write_bytes(content)
        found = faults(tmp_path)
        assert found and all(finding.what.isprintable() for finding in found)
    for position in random.integers(0, len(whole), 60):
        changed = bytearray(whole)
        changed[position] ^= 0xFF
        (run / name).write_bytes(bytes(changed))
        examine(tmp_path)


@pytest.mark.parametrize("name", ["record.json", "images.npz", "curve.jsonl", "delta.safetensors"])
def test_what_is_no_file_is_not_waited_for(tmp_path, run, name):
    (run / name).unlink()
    os.mkfifo(run / name)
    assert "not a file" in the_fault(tmp_path).what
    (run / name).unlink()
    (run / name).mkdir()
    assert "not a file" in faults(tmp_path)[0].what


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(tmp_path, run, monkeypatch):
    monkeypatch.setattr("benchmark.results.validate.LARGEST", 10**6)
    with zipfile.ZipFile(run / "images.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ids.npy", bytes(10**6 + 1))
    assert (run / "images.npz").stat().st_size < 10**4
    assert "unpacks to more than" in the_fault(tmp_path).what


@pytest.mark.parametrize(
    ("name", "what"),
    [("images.npz", "images.npz is missing"), ("curve.jsonl", "curve.jsonl is missing")],
)
def test_done_needs_its_parts(tmp_path, run, name, what):
    (run / name).unlink()
    assert what in the_fault(tmp_path).what


def test_counts_that_do_not_fit_the_record(tmp_path, run):
    numbers = counts()
    store.write_counts(run, names(29), {key: value[:29] for key, value in numbers.items()})
    assert "the record has 30" in the_fault(tmp_path).what
    store.write_counts(run, ["one"] * 30, numbers)
    assert "30 different images" in the_fault(tmp_path).what
    store.write_counts(run, names(30), numbers | {"label": numbers["label"][:, :2]})
    assert "label is (30, 2)" in the_fault(tmp_path).what
    store.write_counts(run, names(30), numbers | {"label": numbers["label"] * 1.0})
    assert "float64" in the_fault(tmp_path).what
    store.write_counts(run, names(30), numbers | {"nll": numbers["nll"][:7]})
    assert "nll has shape (7,)" in the_fault(tmp_path).what
    hits = numbers["intersection"].copy()
    hits[0, 0] += 1
    store.write_counts(run, names(30), numbers | {"intersection": hits})
    assert "its mIoU is" in the_fault(tmp_path).what
    store.write_counts(run, names(30), numbers | {"label": numbers["label"] * 0})
    assert "its mIoU is nan" in the_fault(tmp_path).what


@pytest.mark.parametrize(("change", "seen"), [(2e-9, True), (5e-10, False)])
def test_the_recorded_score_may_differ_by_rounding_only(tmp_path, run, change, seen):
    metrics = json.loads((run / "record.json").read_text())["metrics"]
    rewrite(run, metrics=metrics | {"miou": metrics["miou"] + change})
    assert bool(faults(tmp_path)) is seen
    dice = float(np.nanmean(class_dice(counts())))
    rewrite(run, metrics=metrics | {"mdice": dice + change})
    assert bool(faults(tmp_path)) is seen


def test_curve_and_weights_that_do_not_fit_the_record(tmp_path, run):
    store.write_curve(run, [{"loss": 1.0}] * 3)
    assert "3 steps; the record says 4" in the_fault(tmp_path).what
    store.write_curve(run, [{"loss": 1.0}] * 4)
    with (run / "delta.safetensors").open("ab") as file:
        file.write(b"\0")
    assert "bytes; the record says" in the_fault(tmp_path).what


def test_a_record_elsewhere_or_of_other_fields(tmp_path, run):
    moved = run.with_name("0123456789ab")
    run.rename(moved)
    assert "the folder has another name" in the_fault(tmp_path).what
    moved.rename(run)
    other = tmp_path / "small" / "cells"
    shutil.copytree(run.parents[1], other / run.parents[1].name)
    found = faults(tmp_path)
    assert {finding.path.parents[2] for finding in found} == {other}
    assert any("belongs in small/camvid" in finding.what for finding in found)
    assert any("second record" in finding.what for finding in found)
    shutil.rmtree(other)
    rewrite(run, seed=5)
    assert "but it has another" in the_fault(tmp_path).what
    rewrite(run, seed=0, protocol_hash="0" * 12)
    assert "has hash" in the_fault(tmp_path).what


def test_a_newer_record_is_left_where_it_is(tmp_path, run):
    rewrite(run, schema_version=99)
    finding = the_fault(tmp_path)
    assert "99" in finding.what and "update it" in finding.fix
    answer = call("--results", tmp_path, "--repair")
    assert answer.exit_code == 1 and "left:" in answer.stdout and run.exists()


def test_folders_without_a_record(tmp_path, run):
    (run / "record.json").unlink()
    assert "without a record" in the_fault(tmp_path).what
    (tmp_path / "small" / "nothing").mkdir()
    assert [f.what for f in examine(tmp_path) if f.severity == "note"] == ["an empty folder"]


def test_records_are_found_at_any_depth(tmp_path):
    run = store_run(tmp_path / "a" / "b")
    (run / "record.json").write_text("{")
    assert the_fault(tmp_path).path == run


def test_links_are_told_and_never_followed(tmp_path, run):
    root, outside = tmp_path / "results", tmp_path / "small"
    root.mkdir()
    (root / "away").symlink_to(outside)
    (root / "nowhere").symlink_to(root / "missing")
    (root / "loop").symlink_to(root / "loop")
    store_run(root)
    (root / "inside").symlink_to(root / "small")
    found = faults(root)
    assert sorted(finding.path.name for finding in found) == ["away", "loop", "nowhere"]
    assert "out of the results folder" in next(f.what for f in found if f.path.name == "away")
    moved, left = set_aside(root, found)
    assert moved == [] and len(left) == 3 and (root / "away").is_symlink()


@pytest.mark.parametrize("end", ["DEAD", "DEAD.former", "checkpoint.broken", "checkpoint.broken.3"])
def test_drafts_of_the_dead_are_set_aside(tmp_path, run, end):
    end = end.replace("DEAD", of_the_dead())
    draft = run.with_name(f".{run.name}.{end}")
    draft.mkdir()
    (draft / "record.json").write_text("{")
    assert the_fault(tmp_path).path == draft
    assert call("--results", tmp_path, "--repair").exit_code == 0
    assert not draft.exists() and run.exists() and faults(tmp_path) == []


def test_what_belongs_to_the_living_is_left_alone(tmp_path, run):
    spec = spec_of(store.read_record(run))
    rewrite(run, status="failed", metrics=None, costs=None)
    draft, checkpoint = (
        run.with_name(f".{run.name}.{end}") for end in (of_the_dead(), "checkpoint")
    )
    mine = run.with_name(f".other.{processes.tag()}")
    for folder in (draft, checkpoint, mine):
        folder.mkdir()
        os.utime(folder, (1, 1))
    with lock.hold(tmp_path, spec) as held:
        assert held
        before = tree(tmp_path)
        found = examine(tmp_path)
        assert [finding.severity for finding in found] == ["note"]  # mine: old, and alive
        set_aside(tmp_path, found)
        assert tree(tmp_path) == before
    assert {finding.path for finding in faults(tmp_path)} == {draft, checkpoint}


def test_a_process_that_began_since_keeps_its_own(tmp_path, run):
    spec = spec_of(store.read_record(run))
    checkpoint = run.with_name(f".{run.name}.checkpoint")
    checkpoint.write_text("")
    found = faults(tmp_path)
    assert [finding.path for finding in found] == [checkpoint]
    with lock.hold(tmp_path, spec):
        assert set_aside(tmp_path, found) == ([], []) and checkpoint.exists()


def test_a_run_that_was_finished_since_is_left_where_it_is(tmp_path, run):
    whole = (run / "record.json").read_bytes()
    (run / "record.json").write_text("{")
    found = faults(tmp_path)
    spec = spec_of(parse(whole))
    with lock.hold(tmp_path, spec):  # a process is about to replace it
        assert set_aside(tmp_path, found) == ([], [])
    (run / "record.json").write_bytes(whole)
    assert set_aside(tmp_path, found) == ([], []) and check_run(run) == []
    (run / "record.json").write_text("{")
    assert [source for source, _ in set_aside(tmp_path, found)[0]] == [run]


@pytest.mark.parametrize("end", [f"00000000-{DEAD}-abcd", "1", str(DEAD)])
def test_drafts_of_other_hosts_and_of_earlier_versions_are_judged_by_their_age(tmp_path, run, end):
    draft = run.with_name(f".{run.name}.{end}")
    draft.write_text("half")
    assert examine(tmp_path) == []
    os.utime(draft, (time.time() - 2 * 86400,) * 2)
    assert the_fault(tmp_path).path == draft


@pytest.mark.parametrize(
    ("status", "days", "severity"),
    [
        ("done", 0, "fault"),
        ("unsupported", 0, "fault"),
        ("failed", 0, "note"),
        ("failed", 2, "fault"),
        ("interrupted", 2, "note"),
    ],
)
def test_checkpoints(tmp_path, status, days, severity):
    run = store_run(tmp_path, status=status)
    checkpoint = run.with_name(f".{run.name}.checkpoint")
    checkpoint.write_text("")
    os.utime(checkpoint, (time.time() - days * 86400 - 5,) * 2)
    (finding,) = examine(tmp_path)
    assert (finding.path, finding.severity) == (checkpoint, severity)


def test_repair_never_overwrites(tmp_path):
    for content in ("first", "second", "third"):
        run = store_run(tmp_path)
        spec = spec_of(store.read_record(run))
        assert store.is_done(tmp_path, spec)
        (run / "record.json").write_text(content)
        assert call("--results", tmp_path, "--repair").exit_code == 0
    place = tmp_path / store.SET_ASIDE / run.relative_to(tmp_path)
    kept = [place, place.with_name(f"{run.name}.1"), place.with_name(f"{run.name}.2")]
    assert [(p / "record.json").read_text() for p in kept] == ["first", "second", "third"]
    assert not store.is_done(tmp_path, spec)


def test_repair_does_not_leave_the_folder(tmp_path, run):
    (run / "record.json").write_text("{")
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    (tmp_path / store.SET_ASIDE).symlink_to(elsewhere)
    with pytest.raises(UserError, match="is not a folder"):
        set_aside(tmp_path, examine(tmp_path))
    assert run.exists() and not any(elsewhere.iterdir())


def test_a_run_given_as_the_folder_itself_is_not_moved_into_itself(run):
    (run / "record.json").write_text("{")
    moved, left = set_aside(run, examine(run))
    assert moved == [] and len(left) == 1 and run.exists()


def test_names_of_any_bytes_are_printed_escaped(tmp_path):
    name = os.fsdecode(b"\x1b[31m\n\xff")
    folder = tmp_path / name / "0123456789ab"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text("{")
    answer = call("--results", tmp_path)
    assert answer.exit_code == 1 and r"\x1b[31m\n\udcff" in answer.stdout
    assert "\x1b" not in answer.stdout


def test_looking_changes_nothing(tmp_path, run):
    (run / "images.npz").write_bytes(b"")
    before = tree(tmp_path)
    assert call("--results", tmp_path).exit_code == 1
    assert tree(tmp_path) == before


def test_no_folder_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match="--results DIR"):
        examine(tmp_path / "missing")


def test_a_migrated_record_is_sound(run):
    rewrite(run, schema_version=1, status="ok")
    assert check_run(run) == []


def test_nothing_here_loads_torch():
    code = (
        "import sys, benchmark.results.doctor, benchmark.results.merge, benchmark.analysis.compare,"
        "benchmark.cli.doctor, benchmark.cli.results, benchmark.cli.compare;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def store_scores(run, **changes):
    numbers = store.read_counts(run)
    kinds = ("intersection", "prediction", "label")
    held = {f"fog/3/{kind}": numbers[kind] for kind in kinds}
    record = store.read_record(run)
    result = robustness.make(
        record.run_id, "test", record.metrics.miou, {"fog": "weather"}, held, 1
    )
    robustness.write(run, result.model_copy(update=changes), held)


def test_sound_scores_on_corrupted_images(tmp_path, run):
    store_scores(run)
    assert faults(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_torn_scores_are_set_aside_and_the_run_stays(tmp_path, run, content):
    store_scores(run)
    (run / "robustness.json").write_bytes(content)
    assert the_fault(tmp_path).path == run / "robustness.json"
    assert call("--results", tmp_path, "--repair").exit_code == 0
    assert not (run / "robustness.json").exists() and (run / "record.json").exists()
    assert [f.what for f in examine(tmp_path)] == ["counts without robustness.json"]


def test_scores_of_another_run_and_without_counts(tmp_path, run):
    store_scores(run, run_id="abc")
    assert "of another run, abc" in the_fault(tmp_path).what
    store_scores(run)
    np.savez(run / "robustness.npz", nothing=np.zeros(1))
    assert "has no counts" in the_fault(tmp_path).what
    (run / "robustness.npz").unlink()
    assert the_fault(tmp_path).path == run / "robustness.npz"


def test_a_torn_index_is_told(tmp_path, run):
    index.read_index(tmp_path)
    assert examine(tmp_path) == []
    (tmp_path / index.NAME).write_text("{")
    (finding,) = examine(tmp_path)
    assert finding.severity == "note" and "rebuilds it" in finding.fix


def test_an_attempt_that_failed_beside_a_finished_run_is_told(tmp_path, run):
    kept = run.with_name(f".{run.name}.discarded")
    kept.mkdir()
    run.with_name(f".{run.name}.opened").write_text("{}")
    (finding,) = examine(tmp_path)
    assert finding.severity == "note" and finding.path == kept
    draft = run.with_name(f"..{run.name}.checkpoint.{of_the_dead()}")
    draft.write_text("half")
    assert the_fault(tmp_path).path == draft


def test_logs_of_jobs_whose_runs_are_not_done(tmp_path, run):
    from benchmark.results import submitted

    place = run.relative_to(tmp_path).as_posix()
    for job, folder in (
        ("7_0", place),
        ("7_1", f"{run.parent.relative_to(tmp_path)}/0123456789ab"),
    ):
        submitted.note(tmp_path, [submitted.Job("slurm", job, {folder: folder})])
        log = submitted.log_of(tmp_path, job)
        log.parent.mkdir(exist_ok=True)
        log.write_text("slurmstepd: error: killed")
    (found,) = [one for one in examine(tmp_path) if one.path.suffix == ".err"]
    assert found.severity == "note" and found.path == submitted.log_of(tmp_path, "7_1")

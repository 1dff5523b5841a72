"""Times that were measured side by side: ratios, the store, and what a report makes of them."""

import json

import pandas as pd
import pytest
import torch

from benchmark.analysis.costs import COSTS, compared_costs
from benchmark.analysis.runs import Runs
from benchmark.core.errors import UserError
from benchmark.core.spec import Compute, RunSpec
from benchmark.execution.environment import Environment
from benchmark.profiling.timing import machine_load, measure
from benchmark.profiling.timing.groups import complete, finished, former, groups, unmeasured
from benchmark.profiling.timing.machine_load import Watcher
from benchmark.profiling.timing.measure import Shelf
from benchmark.reporting import commands, report
from benchmark.reporting.figures.catalogue import pictures
from benchmark.reporting.report import write_report
from benchmark.reporting.timing_notes import explained, seconds, timed
from benchmark.results import store
from benchmark.results.doctor import examine, set_aside
from benchmark.results.index import read_index
from benchmark.results.load import load_results
from benchmark.results.merge import export, merge
from benchmark.results.timing import Timing, parse, path_of, read, write
from benchmark.results.timing_columns import LATENCY, TRAINING, column, references
from benchmark.results.validate import spec_of
from tests.helpers import records
from tests.helpers.pages import unpacked
from tests.helpers.records import frame, grid, timing
from tests.helpers.stored import store_run

LINEAR, FULL = references()
FOLDERS = "` with the --weights and --data of `run`"


def two_methods(*, rounds=3, **seconds):
    made = timing(grid(["linear", "full"], 1, ["camvid"]), rounds)
    methods = {
        label: one.model_copy(update={"seconds": seconds[label]}) if label in seconds else one
        for label, one in made.methods.items()
    }
    return made.model_copy(update={"methods": methods})


def stored(root, *labels):
    """A results folder with runs of a protocol of today, and the records."""
    folders = [store_run(root, label) for label in labels]
    return [store.read_record(folder) for folder in folders]


# Ratios


def test_ratios_are_of_times_of_the_same_round():
    """A round in which the machine was busy slows both, and changes no ratio."""
    found = two_methods(
        linear={"training": (1.0, 10.0, 2.0)}, full={"training": (3.0, 20.0, 8.0)}
    ).ratio("full", "training", "linear")
    assert (found.value, found.low, found.high) == (3.0, 2.0, 4.0)  # of medians it would be 4


def test_what_is_merged_is_compared_with_the_reference_as_trained():
    made = two_methods(
        linear={"latency": (1.0,) * 3}, full={"latency": (2.0,) * 3, "latency_merged": (1.5,) * 3}
    )
    assert made.ratio("full", "latency_merged", "linear").value == 1.5
    assert made.ratio("linear", "latency_merged", "full") is None
    assert made.ratio("full", "training", "linear") is None
    assert made.ratio("nosuch", "latency", "linear") is None


def test_times_that_are_not_those_of_every_round_are_no_timing():
    content = json.loads(timing(grid(["linear"], 1, ["camvid"])).model_dump_json())
    assert parse(json.dumps(content).encode()).methods.keys() == {"linear", "full"}
    spoilt = [
        {"schema_version": 9},
        {"rounds": 4},
        {"suite": None},
        {
            "methods": {
                "a": {"method": "a", "method_params": {}, "seconds": {"training": [1, 0, 1]}}
            }
        },
        {"methods": {"a": {"method": "a", "method_params": {}, "seconds": {"nap": [1, 1, 1]}}}},
    ]
    for changes in spoilt:
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            parse(json.dumps(content | changes).encode())
    for text in (b"", b"[1]", b"[" * 100_000, b"\xff"):
        with pytest.raises(ValueError, match=r"."):
            parse(text)


# The store, and those that walk through it


def test_a_timing_is_written_whole_and_read_back(tmp_path):
    made = timing(grid(["linear"], 1, ["camvid"]))
    path = write(tmp_path, made)
    assert path == tmp_path / path_of(made.suite, made.backbone, made.weights, made.protocol_hash)
    assert read(path) == made and [p.name for p in path.parent.iterdir()] == [path.name]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / "file", made)


def test_readers_of_records_do_not_stumble_on_timings(tmp_path):
    runs = stored(tmp_path, "linear", "lora")
    write(tmp_path, timing(runs))
    assert examine(tmp_path) == []
    assert len(read_index(tmp_path).entries) == 2
    assert len(load_results(tmp_path)) == len(load_results(tmp_path / "small")) == 2


@pytest.mark.parametrize("damage", ["torn", "misplaced"])
def test_a_torn_or_misplaced_timing_is_found_and_set_aside(tmp_path, damage):
    path = write(tmp_path, timing(stored(tmp_path, "linear")))
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:100])
    else:
        path = path.rename(path.with_name("other.json"))
    (finding,) = examine(tmp_path)
    assert (finding.severity, finding.path, finding.movable) == ("fault", path, True)
    moved, left = set_aside(tmp_path, [finding])
    assert left == [] and moved[0][0] == path and not path.exists()
    assert examine(tmp_path) == [] or examine(tmp_path)[0].what == "an empty folder"


def test_a_merge_carries_timings_and_keeps_the_one_of_more_methods(tmp_path):
    a, b, into = (tmp_path / name for name in ("a", "b", "into"))
    few = timing(stored(a, "linear"))
    many = timing(stored(b, "linear", "lora"))
    paths = [write(root, one) for root, one in ((a, few), (b, many))]
    assert merge([a], into).timings == [paths[0]] and read(into / few.path) == few
    assert merge([b], into).timings == [paths[1]] and read(into / few.path) == many
    assert merge([a, b], into).timings == [] and read(into / few.path) == many
    paths[0].write_text("torn")
    assert merge([a], into).broken == [paths[0]]


def test_an_export_says_what_was_measured_and_what_single_runs_took(tmp_path):
    write(tmp_path, timing(stored(tmp_path, "linear", "lora")))
    export(tmp_path, "json", tmp_path / "out.json")
    rows = {row["method"]: row for row in json.loads((tmp_path / "out.json").read_text())}
    assert rows["linear"][TRAINING] == 1 and rows["lora"][TRAINING] > 1
    assert rows["lora"]["costs.train.seconds"] > 0 and rows["lora"]["timing.threads"] == 1


def test_the_same_label_with_other_fields_is_another_method(tmp_path):
    runs = stored(tmp_path, "linear", "lora")
    made = timing(runs)
    other = made.methods["lora"].model_copy(update={"method_params": {"rank": 99}})
    write(tmp_path, made.model_copy(update={"methods": made.methods | {"lora": other}}))
    assert load_results(tmp_path).set_index("method")[TRAINING].notna().to_dict() == {
        "linear": True,
        "lora": True,
    }
    for run in runs:
        store_run(tmp_path, run.method, method_params={"rank": 8})
    found = load_results(tmp_path)
    fitting = found[found["method_params.rank"].isna()]
    assert fitting[TRAINING].notna().all()
    foreign = found[(found["method_params.rank"] == 8) & found["method"].str.startswith("lora")]
    assert (
        len(foreign) and foreign[TRAINING].isna().all() and (foreign["timing.threads"] == 1).all()
    )


# Groups


def test_groups_have_one_cell_a_method_on_one_benchmark(tmp_path):
    for benchmark in ("wbc", "camvid"):
        for seed in (0, 1):
            store_run(tmp_path, "linear", benchmark=benchmark, seed=seed)
    store_run(tmp_path, "lora", benchmark="wbc")
    store_run(tmp_path, "spm", benchmark="wbc", status="failed", reason="x")
    store_run(tmp_path, "lora", benchmark="wbc", backbone="other")
    first, second = sorted(groups(finished(tmp_path, "small")), key=len, reverse=True)
    assert [(c.method_label, c.benchmark, c.seed) for c in first] == [
        ("linear", "camvid", 0),
        ("lora", "camvid", 0),
    ]
    assert [(c.method_label, c.backbone) for c in second] == [("lora", "other")]


def test_references_and_what_was_measured_before_are_measured_along(tmp_path):
    (lora,) = stored(tmp_path, "lora")
    cell = spec_of(lora)
    labels = [c.method_label for c in complete([cell], None, print)]
    assert labels == ["lora", LINEAR, FULL]
    before = timing([lora])
    before.methods["vpt"] = before.methods["lora"].model_copy(update={"method": "vpt"})
    write(tmp_path, before)
    found = complete([cell], former(tmp_path, cell), print)
    assert [c.method_label for c in found] == ["lora", LINEAR, FULL, "vpt"]
    assert len({c.run_id for c in found}) == 4
    assert {(c.benchmark, c.backbone, c.protocol.hash) for c in found} == {
        (cell.benchmark, cell.backbone, cell.protocol.hash)
    }


def test_what_cannot_be_built_is_left_out_unless_it_was_measured_before():
    said = []
    cell = spec_of_label("lora")
    gone = cell.model_copy(update={"method": "gone", "method_label": "gone"})
    assert [c.method_label for c in complete([cell, gone], None, said.append)] == [
        "lora",
        LINEAR,
        FULL,
    ]
    assert said[0].startswith("gone is left out: ")
    before = timing(grid(["linear"], 1, ["camvid"]))
    before.methods["gone"] = before.methods["linear"].model_copy(update={"method": "gone"})
    with pytest.raises(UserError, match="has times of gone, which cannot be measured again"):
        complete([cell], before, said.append)


def spec_of_label(label) -> RunSpec:
    from benchmark.planning.plan import Selection, plan

    return plan(Selection(methods=label, benchmarks="cells", seeds=(0,)))[0]


def test_groups_of_several_methods_are_told_to_be_measured(tmp_path):
    runs = stored(tmp_path, "linear", "lora")
    specs = [spec_of(run) for run in runs]
    assert len(list(unmeasured(tmp_path, specs))) == 1
    assert list(unmeasured(tmp_path, specs[:1])) == []
    write(tmp_path, timing(runs[:1]))
    assert len(list(unmeasured(tmp_path, specs))) == 1
    write(tmp_path, timing(runs))
    assert list(unmeasured(tmp_path, specs)) == []


# Reports


def test_methods_are_compared_by_ratios_and_not_by_what_their_runs_took(tmp_path):
    runs = records.timed(grid(["linear", "full", "lora[rank=4]"], 2, ["camvid", "pets"]))
    assert {TRAINING, LATENCY} <= set(compared_costs())
    assert not {"costs.train.seconds", "costs.infer.latency_ms_p50"} & set(Runs(runs).cells)
    board = Runs(runs).leaderboard.set_index("method")
    assert board.loc["linear", TRAINING] == 1 and board.loc["full", TRAINING] > 1.5
    row = Runs(runs).cost_table.set_index("method").loc["full"]
    assert row[f"{TRAINING}.min"] <= row[TRAINING] <= row[f"{TRAINING}.max"]
    assert row[column("training", FULL)] == 1 and row[column("latency_merged")] != row[TRAINING]


def test_a_report_says_how_times_were_taken_or_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "pictures", lambda *_: [])
    own = grid(["linear", "full"], 1, ["camvid"])
    write_report(records.timed(own), tmp_path / "with", "small")
    text = (tmp_path / "with" / "README.md").read_text()
    how = (
        "as a multiple of that of `linear`. All methods took turns in one process, in 3 rounds on "
        "camvid, batch 8 in training, batch 1 for latency (1 thread, fp32, Some CPU, 2 cores, "
        "2025-03-04; 4 % of the CPU time taken by other processes)."
    )
    assert how in text and "| **1.00x** |" in text and "Training / linear" in text
    assert how in unpacked((tmp_path / "with" / "index.html").read_text())
    write_report(frame(own), tmp_path / "without", "small")
    page = unpacked((tmp_path / "without" / "index.html").read_text())
    for text in ((tmp_path / "without" / "README.md").read_text(), page):
        assert (
            f"to compare them, run `python -m benchmark timing --suite small{FOLDERS} (about "
            in text
        )


def test_a_method_that_was_not_measured_has_a_dash_and_is_named():
    whole = records.timed(grid(["linear", "full", "spm"], 1, ["camvid"]))
    some = whole.copy()
    columns = [name for name in some if name.startswith("timing.")]
    some.loc[some["method"] == "spm", columns] = None
    assert (
        "Not measured: spm; to measure all, run `python -m benchmark timing --suite small"
        f"{FOLDERS} (about "
    ) in explained(Runs(some))
    assert "Not measured" not in explained(Runs(whole))
    assert timed(whole) and timed(frame(grid(["linear"]))) == []


def test_the_command_that_measures_names_results_and_plugins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = frame(grid(["linear", "spm"], 1, ["camvid"]))
    assert commands.timing(Runs(runs)) == f"`python -m benchmark timing --suite small{FOLDERS}"
    unneeded = Runs(runs.assign(weights="none"))
    assert commands.timing(unneeded) == "`python -m benchmark timing --suite small`"
    runs["plugins.method.path"] = [None, "../my method.py"]
    assert commands.timing(Runs(runs, tmp_path / "out" / "results")) == (
        "`python -m benchmark timing --suite small --results out/results --plugin "
        f"'out/my method.py'{FOLDERS}"
    )
    # 30 steps of each method, `full` as long as the median of the others, and 10 s.
    known = runs.assign(**{"costs.train.images_per_second": [8.0, 4.0]})
    assert seconds(known) == pytest.approx(30 * (1 + 2 + 1.5) + 10)
    # A run that was slowed down by others does not count.
    slow = pd.concat([known, known.assign(**{"costs.train.images_per_second": 0.1})])
    assert seconds(slow) == seconds(known)
    assert seconds(known.drop(columns="protocol.batch_size")) is None


def test_the_command_that_adds_seeds_is_that_of_the_records_with_all_of_a_group(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    runs = frame(grid(["linear", "spm"], 3, ["camvid", "pets"]))
    assert commands.more_seeds(Runs(runs)) == ""
    one = "python -m benchmark run --suite small --benchmarks {} --methods {} --seeds {}"
    runs["command"] = [
        f"{one.format(*row)} --set crop=64 --plugin {row[1]}.py"
        for row in zip(runs["benchmark"], runs["method"], runs["seed"], strict=True)
    ]
    assert commands.more_seeds(Runs(runs.assign(weights="none"), tmp_path / "r")) == (
        f"`{one.format('camvid,pets', 'linear,spm', '3,4')} --set crop=64 --plugin linear.py "
        "--plugin spm.py --results r`"
    )
    assert commands.more_seeds(Runs(runs)).endswith(FOLDERS)


def test_figures_of_times_are_drawn_where_there_are_times():
    from pathlib import Path

    from benchmark.analysis.uncertainty import assess
    from benchmark.reporting.inputs import ReportInputs

    own = grid(["linear", "full"], 1, ["camvid"])
    stems = {}
    for name, runs in (("with", records.timed(own)), ("without", frame(own))):
        runs = runs.assign(folder="")
        inputs = ReportInputs("t", Runs(runs, Path()), assess(Runs(runs, Path()), replicates=10))
        (key,) = inputs.runs.groups
        drawn = [picture.stem for picture in pictures(inputs, key)]
        stems[name] = [stem for stem in drawn if stem.startswith("pareto_")]
    assert stems["with"] == [f"pareto_{cost.figure}" for cost in COSTS if cost.figure]
    assert set(stems["with"]) - set(stems["without"]) == {"pareto_train_time", "pareto_latency"}


# What else the machine did


def test_the_load_is_what_others_took(tmp_path, monkeypatch):
    stat = tmp_path / "stat"
    monkeypatch.setattr(machine_load, "STAT", stat)
    monkeypatch.setattr(machine_load.os, "sysconf", lambda name: 100)
    monkeypatch.setattr(machine_load.os, "getloadavg", lambda: (0.5, 9, 9))
    times = [
        machine_load.os.times_result((1.0, 0, 0, 0, 0)),
        machine_load.os.times_result((3.0, 1.0, 0, 0, 0)),
    ]
    monkeypatch.setattr(machine_load.os, "times", lambda: times.pop(0))
    stat.write_text("cpu 100 0 100 700 100 0 0 0 0 0\ncpu0 1\n")
    watcher = Watcher()
    # Ten seconds of all cores: 6 busy, of which 3 are this process's; 1 stolen; 3 idle.
    stat.write_text("cpu 500 100 200 900 200 0 0 100 99 99\n")
    found = watcher.load()
    assert (found.before, found.after) == (0.5, 0.5)
    assert (found.others, found.stolen) == (0.3, 0.1)


def test_where_the_system_does_not_tell_nothing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(machine_load, "STAT", tmp_path / "none")
    monkeypatch.delattr(machine_load.os, "getloadavg")
    found = Watcher().load()
    assert (found.before, found.others, found.stolen) == (None, None, None)


# Memory


class Built:
    def __init__(self, name):
        self.name, self.segmenter = name, torch.nn.Linear(250, 1, bias=False)  # 1000 bytes


def test_models_are_kept_up_to_a_limit_and_else_built_anew():
    built = []

    def take(name):
        return shelf.take(name, lambda: built.append(name) or Built(name)).name

    shelf = Shelf(limit=2500)
    for _ in range(2):
        assert [take(name) for name in ("a", "b", "c", "c", "d")] == ["a", "b", "c", "c", "d"]
    assert built == ["a", "b", "c", "d", "c", "d"]


@pytest.mark.parametrize("over", [False, True])
def test_what_is_compared_is_measured_one_after_the_other(monkeypatch, over):
    """By kind; but method by method where models must be built anew."""

    def loop(steps, mark):
        for _ in range(steps):
            mark()

    def loops(candidate):
        candidate.shelf.over = over
        return {"training": loop, "latency": loop}

    monkeypatch.setattr(measure.Candidate, "loops", loops)
    monkeypatch.setattr(
        measure.Candidate, "model", lambda self: type("M", (), {"compute": Compute("fp32")})
    )
    said = []
    found = [spec_of_label(label) for label in ("linear", "lora")]
    measure.measure(found, Environment(), steps=1, rounds=1, threads=1, tell=said.append)
    turns = [text.partition(": ")[2] for text in said if text.startswith("round 1")]
    assert [text.partition(": ")[2] for text in said if text.startswith("warming up")] == turns
    assert not [text for text in said if text.startswith("round 0")]
    by_kind = ["linear, training", "lora, training", "linear, latency", "lora, latency"]
    by_method = [by_kind[place] for place in (0, 2, 1, 3)]
    assert turns == (by_method if over else by_kind)


def test_a_method_that_fails_stops_no_other(monkeypatch):
    def loops(candidate):
        def breaks(steps, mark):
            raise RuntimeError("no\nmemory")

        def works(steps, mark):
            for _ in range(steps):
                mark()

        return {"training": breaks if candidate.cell.method == "lora" else works}

    monkeypatch.setattr(measure.Candidate, "loops", loops)
    monkeypatch.setattr(
        measure.Candidate, "model", lambda self: type("M", (), {"compute": Compute("fp32")})
    )
    found = [spec_of_label(label) for label in ("linear", "lora")]
    threads = torch.get_num_threads()
    made, problems = measure.measure(
        found, Environment(), steps=1, rounds=2, threads=1, tell=lambda text: None
    )
    assert isinstance(made, Timing) and list(made.methods) == ["linear"]
    assert problems == {"lora": "RuntimeError: no memory"}
    assert len(made.methods["linear"].seconds["training"]) == 2
    assert torch.get_num_threads() == threads

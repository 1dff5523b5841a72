"""The command line as a user meets it: subprocesses, exit codes, files."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open

import benchmark
from benchmark.core.record import Record
from benchmark.data.fake.small import write_camvid
from benchmark.results import asked, index
from tests.helpers.forked import ROOT, Running, call, clean
from tests.helpers.tiny import typed

TINY = (*typed(steps=2, crop=48, batch_size=2), "--benchmarks=cells")


def records(results):
    """Finished runs; what is being written lies in hidden folders."""
    found = results.glob("*/*/*/*/[!.]*/record.json")
    return {path: json.loads(path.read_text()) for path in found}


def refused(done, results, *words):
    """Exit code 2, one line on what is wrong, nothing written."""
    assert done.returncode == 2, done.stdout + done.stderr
    message = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(message) == 1 and message[0].startswith("error: ")
    for word in words:
        assert word in message[0]
    assert not results.exists() or not list(results.rglob("*"))


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    results = tmp_path_factory.mktemp("grid") / "results"
    done = call("run", "--methods", "linear,lora,spm", *TINY, "--results", results)
    assert done.returncode == 0, done.stdout + done.stderr
    return results, done


def test_the_version_is_printed():
    assert call("--version").stdout == f"petseg-bench {benchmark.__version__}\n"


def test_a_reader_that_wants_no_more_is_no_error():
    command = [sys.executable, "-m", "benchmark", "list", "suites", "--json"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_a_grid_leaves_valid_records_and_prints_a_leaderboard(grid):
    results, done = grid
    found = [Record.model_validate(content) for content in records(results).values()]
    assert sorted(record.method for record in found) == ["linear", "lora", "spm"]
    for record in found:
        assert record.status == "done"
        assert 0 < record.metrics.miou < 1
        assert record.provenance.weights_sha256
        assert record.provenance.weights == "demo_vit.safetensors"
        params = record.costs.params
        assert params.total_trainable == params.inserted + params.decoder
        kept = 6 if record.method == "spm" else 0  # class frequencies of streets
        assert record.costs.stored.params == params.total_trainable + kept
        assert record.costs.train.first_trainable_depth == (4 if record.method == "linear" else 0)
        assert str(ROOT) not in record.model_dump_json()
        assert record.method in done.stdout


def test_stored_bytes_are_the_size_of_the_delta(grid):
    for path, content in records(grid[0]).items():
        delta = path.with_name("delta.safetensors")
        stored = content["costs"]["stored"]
        assert stored["bytes"] == delta.stat().st_size
        with safe_open(delta, "pt") as file:
            numbers = sum(int(np.prod(file.get_slice(k).get_shape())) for k in file.keys())  # noqa: SIM118
        assert stored["params"] == numbers
        assert numbers * 2 < stored["bytes_fp16"] < stored["bytes"]


def test_methods_of_a_seed_start_from_the_same_decoder_and_data(grid):
    first = [
        json.loads(path.with_name("curve.jsonl").read_text().splitlines()[0])["loss"]
        for path in records(grid[0])
    ]
    assert len(first) == 3 and first == pytest.approx([first[0]] * 3, abs=1e-5)


def test_again_everything_is_skipped(grid):
    results, _ = grid
    before = {path: path.stat().st_mtime_ns for path in records(results)}
    done = call("run", "--methods", "linear,lora,spm", *TINY, "--results", results)
    assert done.returncode == 0
    assert "3 runs selected: 3 already done, 0 to train" in done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in records(results)}


def test_plan_tells_done_from_missing(grid):
    done = call("plan", "--methods", "linear,vpt", *TINY, "--results", grid[0])
    assert done.returncode == 0
    assert "2 runs: 1 done, 1 missing" in done.stdout


def test_show_prints_the_record(grid):
    path, content = next(iter(records(grid[0]).items()))
    short = call("show", content["run_id"][:8], "--results", grid[0])
    assert short.returncode == 0, short.stderr
    miou = f"{100 * content['metrics']['miou']:.1f} (95 % over "
    for text in (content["run_id"], miou, " trained parameters", content["command"], "record.json"):
        assert text in short.stdout
    done = call("show", content["run_id"][:8], "--results", grid[0], "--full")
    assert done.returncode == 0
    assert json.loads(done.stdout[done.stdout.index("{") :]) == content
    missing = call("show", "nosuch", "--results", grid[0])
    assert missing.returncode == 2 and "no run 'nosuch'" in missing.stderr
    assert path.is_file()


def test_report_writes_tables_and_figures(grid, tmp_path):
    done = call("report", "--results", grid[0], "--out", tmp_path / "reports")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "reports").rglob("*") if path.is_file()}
    assert {"leaderboard.csv", "leaderboard.md", "leaderboard.tex", "per_benchmark.csv"} <= names
    assert {"pareto_parameters.png", "pareto_parameters.svg", "per_class_cells.md"} <= names


def test_the_same_seed_gives_the_same_counts_bit_for_bit(grid, tmp_path):
    done = call("run", "--methods", "spm", *TINY, "--results", tmp_path / "again")
    assert done.returncode == 0
    (again,) = records(tmp_path / "again")
    (first,) = (path for path in records(grid[0]) if path.parent.name == again.parent.name)
    with (
        np.load(first.with_name("images.npz")) as a,
        np.load(again.with_name("images.npz")) as b,
    ):
        assert sorted(a.files) == sorted(b.files)
        for key in a.files:
            np.testing.assert_array_equal(a[key], b[key])
    assert (
        first.with_name("delta.safetensors").read_bytes()
        == again.with_name("delta.safetensors").read_bytes()
    )


@pytest.mark.slow
def test_a_killed_grid_goes_on_where_it_stopped(tmp_path):
    arguments = ("run", "--methods", "linear,lora,vpt", *TINY, "--results", tmp_path / "r")
    process = Running(*arguments)
    process.wait_until(lambda: records(tmp_path / "r"))
    process.send_signal(signal.SIGKILL)
    process.end()
    finished = {path: path.stat().st_mtime_ns for path in records(tmp_path / "r")}
    assert 1 <= len(finished) < 3
    done = call(*arguments)
    assert done.returncode == 0
    assert (
        f"3 runs selected: {len(finished)} already done, {3 - len(finished)} to train"
        in done.stdout
    )
    assert len(records(tmp_path / "r")) == 3
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert {path.name for path in (tmp_path / "r").rglob(".*")} <= {index.NAME, asked.NAME}


def test_a_failed_cell_is_visible_and_the_others_go_on(tmp_path):
    results = tmp_path / "r"
    done = call("run", "--methods", "lora[lr=1e30],linear", *TINY, "--results", results)
    assert done.returncode == 1
    by_status = {record["status"]: record for record in records(results).values()}
    assert set(by_status) == {"nan", "done"}
    assert "lower the learning rate" in by_status["nan"]["reason"]
    assert "nan: lora[lr=1e+30] on cells" in done.stdout
    assert "--retry" in done.stdout
    again = call("plan", "--methods", "lora[lr=1e30],linear", *TINY, "--results", results)
    assert "2 runs: 1 done, 1 nan" in again.stdout


def test_what_cannot_work_is_unsupported_and_random_weights_are_told(tmp_path):
    results = tmp_path / "r"
    options = ("--backbones", "mobilenetv2_035", "--weights", "none")
    tiny = (*typed(steps=2, crop=64, batch_size=2), "--benchmarks=cells")
    done = call("run", "--methods", "convpass,linear", *tiny, *options, "--results", results)
    assert done.returncode == 0, done.stdout + done.stderr
    by_status = {record["status"]: record for record in records(results).values()}
    assert set(by_status) == {"unsupported", "done"}
    reason = by_status["unsupported"]["reason"]
    assert "needs residual branches" in reason
    # It is told before the first cell runs, too.
    first = next(line for line in done.stdout.splitlines() if "unsupported" in line)
    assert first == f"unsupported (1 run): convpass on mobilenetv2_035: {reason}"
    assert by_status["done"]["provenance"]["weights"] == "none (random)"


def test_a_config_file_says_the_same_and_what_is_typed_wins(tmp_path):
    config = tmp_path / "grid.yaml"
    config.write_text("methods: [linear, spm]\nbenchmarks: cells\nset: {steps: 3, crop: 48}\n")
    done = call("plan", "--config", config, "--methods", "lora", "--set", "steps=2")
    assert done.returncode == 0, done.stderr
    assert "lora" in done.stdout and "spm" not in done.stdout
    typed_all = call(
        "plan", "--methods=lora", "--benchmarks=cells", "--set=steps=2", "--set=crop=48"
    )
    assert _at_any_load(done.stdout) == _at_any_load(typed_all.stdout)


def _at_any_load(text):
    """What `plan` printed, without what other processes add."""
    return [line for line in text.splitlines() if not line.startswith("This machine is busy")]


@pytest.mark.parametrize("verb", [[], ["run"], ["plan"], ["data"], ["data", "audit"]])
def test_help_loads_nothing_heavy(verb):
    heavy = {"torch", "timm", "peft", "numpy", "pandas", "matplotlib", "benchmark.core.spec"}
    if not verb:
        heavy.add("pydantic")  # typer itself takes it for the options of a verb
    code = (
        "import sys\n"
        "from benchmark.cli import main\n"
        f"sys.argv = ['benchmark', *{verb}, '--help']\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        f"sys.exit(str({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_list_names_everything():
    done = call("list")
    assert done.returncode == 0, done.stderr
    for word in ("spm", "peft:*", "streets", "camvid", "demo_vit", "small"):
        assert word in done.stdout
    assert len(done.stdout.splitlines()) < 70


def test_list_says_what_methods_train_on_a_backbone():
    done = call("list", "methods", "--on", "resnet10t")
    assert done.returncode == 0, done.stderr
    told = " ".join(done.stdout.split())
    assert "methods on resnet10t (cnn)" in told
    assert "100% of the weights in blocks: 1 layer1.*.conv1 (rank 8)" in told
    assert "unsupported: fact needs linear attention or MLP layers; ResNet has none" in told
    refused = call("list", "backbones", "--on", "resnet10t")
    assert refused.returncode == 2
    assert "--on needs methods" in refused.stderr


def test_list_says_all_about_methods():
    done = call("list", "methods")
    assert done.returncode == 0, done.stderr
    for word in ("spm", "peft:dora", "AdaptFormer", "lora[rank=8,"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--methods", "loar"], ["unknown method 'loar'", "did you mean 'lora'"]),
        (["--suite", "smal"], ["did you mean 'small'"]),
        (["--set", "stepz=3"], ["--set stepz: there is no such setting", "did you mean 'steps'"]),
        (["--set", "steps=3", "--set", "steps=4"], ["steps is given as 3 and as 4", "keep one"]),
        (["--set", "scale_min=2"], ["scale_min=2.0 is above scale_max", "swap"]),
        (["--weights", "none", "--weights", "."], ["none contradicts a folder"]),
        (["--weights", "no/such/folder"], ["no such folder"]),
        (["--seeds", "a"], ["--seeds 'a'", "whole numbers"]),
        (["--config", "no.yaml"], ["no.yaml", "cannot be read"]),
        (["--device", "abacus"], ["device 'abacus'", "--device cpu"]),
        (["--set", "decoder=liner"], ["unknown decoder", "did you mean 'linear'"]),
        (["--backbones", "vit_tinny_patch16_224"], ["vit_tiny_patch16_224"]),
        (["--suite", "small"], ["BENCHMARK_DATA"]),
        (["--suite", "small", "--data", "no/such"], ["no/such"]),
    ],
)
def test_wrong_requests_are_refused_in_one_line(tmp_path, arguments, words):
    arguments = ["--methods", "linear", *arguments]
    if "small" in arguments:
        # The data is asked for whatever the weights are.
        arguments += ["--backbones", "demo_vit", "--set", "crop=96"]
    refused(call("run", *arguments, "--results", tmp_path / "r"), tmp_path / "r", *words)


def test_missing_weights_name_the_file_and_both_ways(tmp_path):
    done = call("run", "--backbones", "resnet18", *TINY, "--results", tmp_path / "r")
    refused(done, tmp_path / "r", "resnet18", ".safetensors", "BENCHMARK_WEIGHTS", "--weights none")


def test_a_results_folder_that_takes_no_files_is_told(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = call("run", "--methods", "linear", *TINY, "--results", blocked)
    assert done.returncode == 2
    assert "--results" in done.stderr and "is a file; name a folder" in done.stderr
    assert blocked.read_text() == ""


def test_a_damaged_image_is_told_before_anything_is_written(tmp_path):
    write_camvid(tmp_path / "data")
    image = sorted((tmp_path / "data").rglob("test/*.png"))[0]
    image.write_bytes(image.read_bytes()[:60])
    done = call(
        "run", "--suite", "small", "--benchmarks", "camvid", "--methods", "linear",
        "--backbones", "demo_vit", "--set", "crop=96", "--data", tmp_path / "data",
        "--results", tmp_path / "r",
    )  # fmt: skip
    refused(done, tmp_path / "r", image.name)


def test_a_crop_that_the_backbone_does_not_take_is_told_before_anything_runs(tmp_path):
    done = call(
        "run", "--methods", "linear", "--benchmarks", "cells", "--set", "crop=100",
        "--results", tmp_path / "r",
    )  # fmt: skip
    refused(done, tmp_path / "r", "crop=100", "multiple of 12", "crop=96", "crop=108")


@pytest.mark.slow
def test_a_backbone_that_cannot_be_staged_is_refused_and_stops_no_other(tmp_path):
    command = (
        "run",
        "--methods",
        "linear",
        *TINY,
        "--weights",
        "none",
        "--results",
        tmp_path / "r",
    )
    done = call(*command, "--backbones", "crossvit_tiny_240")
    refused(done, tmp_path / "r", "crossvit_tiny_240")
    done = call(*command, "--backbones", "demo_vit,crossvit_tiny_240")
    assert done.returncode == 1, done.stderr
    assert "cannot run (1 run): linear on crossvit_tiny_240: " in done.stdout
    (record,) = (tmp_path / "r").rglob("record.json")
    assert "demo_vit" in record.parts


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("results: [1]\n", ["results"]),
        ("stes: 3\n", ["unknown option 'stes'"]),
        ("1: 2\n", ["unknown option 1"]),
        ("set: 3\n", ["set"]),
        ("- a\n", ["write option names"]),
        ("a: [\n", ["not YAML"]),
    ],
)
def test_wrong_config_files_are_refused_in_one_line(tmp_path, content, words):
    config = tmp_path / "c.yaml"
    config.write_text(content)
    refused(call("plan", "--config", config), tmp_path / "r", "c.yaml", *words)


def test_a_config_file_wins_over_the_environment(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("weights: none\nmethods: linear\nbenchmarks: cells\n")
    plans = [
        call("plan", *arguments, env=clean(BENCHMARK_WEIGHTS=str(tmp_path))).stdout
        for arguments in (
            ["--config", config],
            ["--methods=linear", "--benchmarks=cells", "--weights=none"],
            ["--methods=linear", "--benchmarks=cells"],
        )
    ]
    assert plans[0] == plans[1] != plans[2]


def reachable():
    from benchmark.models import weights

    weights._hub_answers = lambda _: True
    weights._hub_cached = lambda _: None


def test_plan_says_which_weights_are_not_here(tmp_path):
    words = ("plan", *TINY, "--methods", "linear", "--results", tmp_path, "--backbones")
    away = "the weights of resnet18 are not on this disk; `run` will download them"
    assert away in call(*words, "demo_vit,resnet18", prepare=reachable).stdout
    assert "not on this disk" not in call(*words, "demo_vit").stdout
    assert "not on this disk" not in call(*words, "resnet18", "--weights", "none").stdout


def test_plan_knows_wrong_names_too(tmp_path):
    done = call("plan", "--backbones", "resnt50", "--results", tmp_path / "r")
    refused(done, tmp_path / "r", "resnt50", "did you mean")
    done = call("report", "--suite", "smal", "--results", tmp_path / "r")
    refused(done, tmp_path / "r", "did you mean 'small'")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "write --format NAME (onnx, torch-export, openvino, merged, peft or folder), or"),
        (("--format=onnx", "--stages"), "--format and --stages exclude each other; keep one"),
    ],
)
def test_export_names_its_formats(tmp_path, words, told):
    done = call("export", "3f2a", "--out", tmp_path / "x", *words)
    refused(done, tmp_path / "x", told)


def test_the_formats_of_the_help_are_those_that_there_are():
    from benchmark.cli.export import FORMATS
    from benchmark.export.formats import formats

    assert set(FORMATS.replace(" or ", ", ").split(", ")) == set(formats())


@pytest.mark.parametrize("changed", [True, False])
def test_files_that_change_while_the_program_runs_are_one_line(changed, tmp_path):
    code = f"""if True:
        import sys, time
        from pathlib import Path
        from benchmark import cli
        from benchmark.core import files

        files.__file__ = sys.argv[1]
        def verb():
            if {changed}:
                time.sleep(0.05)  # clocks of files are coarse
                Path(sys.argv[1]).parents[1].joinpath("late.py").write_text("")
            raise ImportError("cannot import name 'x'")
        cli.app = lambda **_: verb()
        cli.app.info = cli.typer.main.TyperInfo(name="x")
        cli.main()
    """
    place = tmp_path / "benchmark" / "core" / "files.py"
    place.parent.mkdir(parents=True)
    place.write_text("")
    os.utime(place, (0, 0))
    done = subprocess.run([sys.executable, "-c", code, place], capture_output=True, text=True)
    if changed:
        assert (done.returncode, done.stderr) == (
            2,
            "error: the program's files changed while it ran, as when it is updated; to resume, "
            "repeat the command\n",
        )
    else:
        assert done.returncode == 1 and "ImportError: cannot import name" in done.stderr

"""The data verbs and `evaluate`, typed as a user types them."""

import json
from pathlib import Path

import pytest
from PIL import Image

from benchmark.core.files import file_sha256
from benchmark.data.fake.small import write_camvid
from tests.helpers import annotators, forked
from tests.helpers.tiny import typed

ROOT = Path(__file__).resolve().parents[2]


def benchmark(*words, cwd=ROOT, **variables):
    return forked.call(*words, cwd=cwd, env=forked.clean(COLUMNS="160", **variables))


def one_line(result, *parts):
    assert result.returncode == 2, result.stdout + result.stderr
    text = result.stderr.strip()
    assert len(text.splitlines()) == 1 and text.startswith("error: "), text
    for part in parts:
        assert part in text, text


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    root = tmp_path_factory.mktemp("fake")
    result = benchmark("data", "prepare", "standard,small,context60", "--fake", "--data", root)
    assert result.returncode == 0, result.stderr
    return root


def test_list_tells_what_is_ready(fake):
    result = benchmark("data", "list", "--data", fake)
    assert result.returncode == 0, result.stderr
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    assert "3 / 3 / 3" in rows["camvid"]
    assert "96 / 16 / 32" in rows["cells"]
    assert "missing; run data prepare" in " ".join(
        line for line in result.stdout.splitlines() if "cocostuff164k" in line
    )


def test_fake_data_never_goes_among_real_ones(tmp_path):
    write_camvid(tmp_path)
    result = benchmark("data", "prepare", "camvid", "--fake", "--data", tmp_path)
    one_line(result, "camvid", "exists", "--data")


def test_a_set_that_is_there_is_not_fetched_again(fake):
    result = benchmark("data", "prepare", "camvid", BENCHMARK_DATA=str(fake))
    assert result.returncode == 0, result.stderr
    assert "camvid: ready, 3 / 3 / 3 examples" in result.stdout
    assert "as in no known version" in result.stdout


def test_verify_finds_a_changed_file(tmp_path):
    base = write_camvid(tmp_path)
    benchmark("data", "prepare", "camvid", "--data", tmp_path)
    path = base / "train" / "train_00001.png"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    result = benchmark("data", "verify", "camvid", "--data", tmp_path)
    assert result.returncode == 1
    assert "serious" in result.stdout and "train_00001.png" in result.stdout


def test_cityscapes_says_what_to_fetch_by_hand(tmp_path):
    result = benchmark("data", "prepare", "cityscapes", "--data", tmp_path)
    one_line(result, "gtFine_trainvaltest.zip", "leftImg8bit_trainvaltest.zip", str(tmp_path))


@pytest.mark.parametrize("name", ["camvid", "ade20k"])
def test_audit_of_a_sound_set_and_of_a_broken_one(fake, tmp_path, name):
    result = benchmark("data", "audit", name, "--data", fake)
    assert "share of the labelled pixels" in result.stdout
    assert "serious" not in result.stdout and result.returncode == 0, result.stdout
    if name == "camvid":
        base = write_camvid(tmp_path)
        Image.open(base / "trainannot/train_00000.png").resize((30, 20)).save(
            base / "trainannot/train_00000.png"
        )
        (base / "val" / "val_00001.png").write_bytes(b"")
        broken = benchmark("data", "audit", name, "--data", tmp_path)
        assert broken.returncode == 1
        assert "train_00000" in broken.stdout and "val_00001" in broken.stdout


def test_preview_draws_a_sheet(fake, tmp_path):
    out = tmp_path / "sheet.png"
    result = benchmark("data", "preview", "voc2012", "--data", fake, "--out", out, "--count", 3)
    assert result.returncode == 0, result.stderr
    assert Image.open(out).size[0] == 1500
    several = benchmark("data", "preview", "cells,wbc", "--data", fake, "--out", tmp_path / "more")
    assert several.returncode == 0, several.stderr
    assert {path.name for path in (tmp_path / "more").iterdir()} == {"cells.png", "wbc.png"}


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("audit", "camvit"), ("camvit", "did you mean 'camvid'")),
        (("audit", "camvid"), ("camvid", "BENCHMARK_DATA", "--data")),
        (("prepare", "camvid"), ("--data", "BENCHMARK_DATA")),
        (("verify", "camvid", "--data", "nowhere"), ("nowhere", "missing")),
        (("preview", "cells", "--split", "tests"), ("tests", "train, val, test")),
        (("preview", "cells", "--out", "x.txt"), ("x.txt", ".png")),
        (("preview", "cells", "--out", "no/such/x.png"), ("no/such is missing", "create it")),
    ],
)
def test_mistakes_are_one_line(words, parts, tmp_path):
    one_line(benchmark("data", *words, cwd=tmp_path), *parts)


def test_import_writes_a_set_and_audits_it(tmp_path):
    annotators.coco(tmp_path, annotators.shapes(), "packed")
    words = ("data", "import", "annotations.json", "--to", "traffic.yaml")
    result = benchmark(*words, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "traffic.yaml: 5 / 1 / 2 images, read as coco" in result.stdout
    assert "fixed seed" in result.stdout and "share of the labelled pixels" in result.stdout
    planned = benchmark(
        *(
            "plan",
            "--suite=demo",
            "--plugin=traffic.yaml",
            "--benchmarks=traffic",
            "--methods=linear",
        ),
        cwd=tmp_path,
    )
    assert planned.returncode == 0, planned.stderr
    one_line(benchmark(*words, cwd=tmp_path), "traffic.yaml", "exists already")


def test_import_tells_what_an_audit_finds(tmp_path):
    scenes = annotators.rectangles()
    annotators.geotiff(tmp_path / "tiff", scenes, "uint8", (0, 1, 2, 3, 255))
    words = (
        "data",
        "import",
        "tiff",
        "--to",
        "set.yaml",
        "--classes",
        "ground,1=car,road,tree,bus",
    )
    result = benchmark(*words, cwd=tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "serious" in result.stdout and "bus" in result.stdout


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("gone.json",), ("gone.json", "does not exist")),
        ((".", "--format", "coko"), ("coko", "did you mean 'coco'")),
        ((".", "--to", "cells.yaml"), ("cells", "exists already")),
        ((".", "--to", "small.yaml"), ("small", "suite")),
        ((".", "--unlabelled", "white"), ("white", "background or void")),
        ((".", "--classes", "a,,b"), ("--classes", "ground,road")),
        ((".", "--classes", "1=a,1=b"), ("--classes", "twice")),
        ((".", "--classes", "a,b"), ("coco", "leave it out")),
        (("bad.json",), ("bad.json", "is not JSON")),
    ],
)
def test_mistakes_in_imports_are_one_line(words, parts, tmp_path):
    annotators.coco(tmp_path, annotators.rectangles(), "polygon")
    (tmp_path / "bad.json").write_text("{")
    to = () if "--to" in words else ("--to", "new.yaml")
    one_line(benchmark("data", "import", *words, *to, cwd=tmp_path), *parts)
    assert not (tmp_path / "new.yaml").exists() and not (tmp_path / "new").exists()


TINY = typed(steps=4, crop=36, batch_size=2)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    words = ("--benchmarks", "cells", "--methods", "linear,lora", *TINY, "--results", results)
    result = benchmark("run", *words)
    assert result.returncode == 0, result.stderr
    return words, results


def test_evaluate_scores_what_the_record_says(done):
    words, results = done
    result = benchmark("evaluate", *words)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("recorded") == 2 and "NOT" not in result.stdout
    # Looking at the test split again is written down.
    for path in results.rglob("record.json"):
        assert json.loads(path.read_text())["execution"]["opened_splits"]["test"] >= 2


@pytest.mark.slow
def test_evaluate_on_corrupted_images(done):
    words, results = done
    asked = ("evaluate", "--corruptions", *words, "--only", "digital,fog", "--severities", "1,5")
    result = benchmark(*asked)
    assert result.returncode == 0, result.stderr
    paths = list(results.rglob("robustness.json"))
    assert len(paths) == 2
    for path in paths:
        found = json.loads(path.read_text())
        record = json.loads((path.parent / "record.json").read_text())
        assert found["clean_miou"] == record["metrics"]["miou"]
        assert {(s["corruption"], s["severity"]) for s in found["scores"]} == {
            (name, severity)
            for name in ("contrast", "pixelate", "jpeg_compression", "fog")
            for severity in (1, 5)
        }
        assert len({s["miou"] for s in found["scores"]}) > 4
    before = [path.read_bytes() for path in paths]
    again = benchmark(*asked)
    assert again.returncode == 0
    assert [path.read_bytes() for path in paths] == before


@pytest.mark.slow
def test_evaluate_refuses_weights_that_score_otherwise(done, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    words, results = done
    copy = tmp_path / "copy"
    shutil.copytree(results, copy)
    for path in copy.rglob("delta.safetensors"):
        state = load_file(path)
        save_file({k: v.flip(0) if v.dim() else v for k, v in state.items()}, path)
    words = (*words[:-1], copy)
    refused = benchmark("evaluate", *words)
    assert refused.returncode == 1 and refused.stdout.count("is not what run") == 2
    for path in copy.rglob("record.json"):
        record = json.loads(path.read_text())
        record["costs"]["stored"]["sha256"] = file_sha256(path.with_name("delta.safetensors"))
        path.write_text(json.dumps(record))
    result = benchmark("evaluate", *words)
    assert result.returncode == 1 and "DIFFERENT from the record" in result.stdout
    stress = benchmark("evaluate", "--corruptions", *words)
    assert stress.returncode == 1 and stress.stdout.count("repeat the run") == 2


def test_evaluate_mistakes_are_one_line(done):
    words, _ = done
    one_line(benchmark("evaluate", *words, "--only", "fog"), "--corruptions")
    asked = ("evaluate", "--corruptions", *words)
    one_line(benchmark(*asked, "--only", "frog"), "did you mean 'fog'")
    one_line(benchmark(*asked, "--severities", "0,3"), "1 to 5")
    one_line(
        benchmark("evaluate", *words, "--seeds", "9"), "none of the selected runs has finished"
    )


@pytest.mark.slow
def test_fractions_run_beside_each_other(tmp_path):
    words = ("--benchmarks", "cells", "--methods", "linear", *TINY, "--results", tmp_path)
    result = benchmark("run", *words, "--fraction", "0.1,1")
    assert result.returncode == 0, result.stderr
    records = [json.loads(path.read_text()) for path in tmp_path.rglob("record.json")]
    assert sorted(record["protocol"]["fraction"] for record in records) == [0.1, 1]
    assert len({record["protocol_hash"] for record in records}) == 2
    small = next(record for record in records if record["protocol"]["fraction"] == 0.1)
    assert "--set fraction=0.1" in small["command"]
    one_line(benchmark("run", *words, "--fraction", "2"), "fraction")
    one_line(benchmark("run", *words, "--fraction", "0.5", "--set", "fraction=1"), "keep one")


METHODS = "full,linear,vpt,adapter,lora,spm"


def run_standard(fake, results, *words):
    sizes = typed(steps=2, batch_size=2, crop=96)
    words = ("--suite", "standard", "--backbones", "demo_vit", "--seeds", "0", *sizes, *words)
    result = benchmark("run", *words, "--data", fake, "--results", results)
    assert result.returncode == 0, result.stdout + result.stderr
    records = [json.loads(path.read_text()) for path in results.rglob("record.json")]
    assert {record["status"] for record in records} == {"done"}
    return {(record["benchmark"], record["method"]) for record in records}


@pytest.mark.slow
def test_the_standard_grid_runs_on_the_official_layouts(fake, tmp_path):
    # What is tried here is the data, at the protocol's own scales and windows: the lightest model.
    found = run_standard(fake, tmp_path, "--set", "decoder=linear", "--methods", "linear")
    sets = ("ade20k", "cityscapes", "voc2012", "context59", "cocostuff10k")
    assert found == {(name, "linear") for name in sets}


@pytest.mark.slow
def test_the_standard_grid_runs_with_its_own_decoder_and_methods(fake, tmp_path):
    found = run_standard(fake, tmp_path, "--benchmarks", "cityscapes")
    assert found == {("cityscapes", method) for method in METHODS.split(",")}

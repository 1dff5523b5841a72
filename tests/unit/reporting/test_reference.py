"""Published numbers: three known files, and every way in which such a file goes wrong."""

import math
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.core.errors import UserError
from benchmark.reporting.reference import COLUMNS, read_reference

pytestmark = pytest.mark.no_torch

SHARED = Path(__file__).parents[3].parent / "shared" / "reference"
HEADER = "method,backbone,decoder,miou,params_backbone_m,source"
LINE = "x,ViT-B,UPerNet,48.5,1.25,Some Paper Table 1"


def reference(tmp_path, *lines, name="ade20k_some.csv"):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_units_and_names(tmp_path):
    row = read_reference(reference(tmp_path, HEADER, LINE)).iloc[0]
    assert row["miou"] == 0.485 and row["params"] == 1_250_000 and row["counts"] == "backbone"
    assert row["benchmark"] == "ade20k" and math.isnan(row["memory_bytes"])
    assert row["source"] == "Some Paper Table 1"


def test_a_benchmark_of_its_own_and_memory(tmp_path):
    header = "benchmark,train_memory_mb_voc,miou_ss,params_total_trainable_k," + (
        "method,backbone,decoder,source"
    )
    lines = ["pets,15679,48.31,318.5,a,b,c,d", ",,50,0,a,b,c,d"]
    frame = read_reference(reference(tmp_path, header, *lines))
    assert frame["benchmark"].tolist() == ["pets", "ade20k"]
    assert frame["memory_bytes"].iloc[0] == 15_679e6 and math.isnan(frame["memory_bytes"].iloc[1])
    assert frame["params"].tolist() == [318_500, 0]
    assert set(frame["counts"]) == {"total trainable"}


def test_quotes_blank_lines_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(f'\ufeff{HEADER}\n\nx,b,d,48.5,1,"A, B (2020), Table 3"\n'.encode())
    assert read_reference(path)["source"].tolist() == ["A, B (2020), Table 3"]


WRONG = [
    ([], "no line below its header"),
    ([HEADER], "no line below its header"),
    (["method,backbone,decoder,miou,params_backbone_m", "a,b,c,1,2"], "column source is missing"),
    (["method,backbone,decoder,params_backbone_m,source", "a,b,c,2,d"], "no column miou, miou_ss"),
    (["method,backbone,decoder,miou,source", "a,b,c,2,d"], "no column params_total_trainable_m"),
    (["method,backbone,decoder,miou,params_backbone_x,source", "a,b,c,48,2,d"], "unit of column"),
    ([HEADER, "a,b,c,high,2,d"], "line 2: miou='high' is not a number"),
    ([HEADER, LINE, "a,b,c,48,-2,d"], "line 3: params_backbone_m='-2' is not a number"),
    ([HEADER, "a,b,c,nan,2,d"], "is not a number"),
    ([HEADER, "a,b,c,48,inf,d"], "is not a number"),
    ([HEADER, "a,b,c,148,2,d"], "miou=148 is not a percentage"),
    ([HEADER, "a,b,c,,2,d"], "miou is empty"),
    ([HEADER, "a,b,c,48,,d"], "params_backbone_m is empty"),
    ([HEADER, ",b,c,48,2,d"], "method is empty"),
    ([HEADER, "a,b,c,48,2"], "line 2: not as many values"),
    ([HEADER, "a,b,c,48,2,d, and more"], "line 2: not as many values"),
    ([HEADER, 'a,b,c,48,2,"d'], "is not a CSV file"),
    ([HEADER, "a,b,c,0.483,2,d", "a,b,c,0.51,2,d"], "write percent"),
]


@pytest.mark.parametrize(("lines", "words"), WRONG)
def test_a_wrong_file_is_told_on_one_line(tmp_path, lines, words):
    path = reference(tmp_path, *lines)
    with pytest.raises(UserError) as caught:
        read_reference(path)
    text = str(caught.value)
    assert words in text and str(path) in text and "\n" not in text


def test_one_low_score_is_no_mix_up(tmp_path):
    path = reference(tmp_path, HEADER, "a,b,c,0.9,2,d", "a,b,c,40.1,2,d")
    assert read_reference(path)["miou"].tolist() == pytest.approx([0.009, 0.401])


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_reference(tmp_path / "none.csv")
    with pytest.raises(UserError, match="cannot be read"):
        read_reference(tmp_path)
    (tmp_path / "latin.csv").write_bytes(f"{HEADER}\ncaf\xe9,b,c,1,2,d\n".encode("latin-1"))
    with pytest.raises(UserError, match="not in UTF-8"):
        read_reference(tmp_path / "latin.csv")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=120))
def test_any_bytes_give_numbers_or_a_user_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / f"fuzz{os.getpid()}.csv"
    path.write_bytes(HEADER.encode() + b"\n" + content)
    try:
        frame = read_reference(path)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert frame["miou"].between(0, 1).all() and len(frame)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared reference numbers here")
def test_the_shared_files():
    frames = {path.stem: read_reference(path) for path in sorted(SHARED.glob("*.csv"))}
    assert {name: len(frame) for name, frame in frames.items()} == {
        "ade20k_setr_pup_vitl": 5,
        "ade20k_upernet_swinl": 11,
        "gta_to_real_vitl": 12,
    }
    assert all(list(frame.columns) == COLUMNS for frame in frames.values())
    vpt = frames["ade20k_setr_pup_vitl"].set_index("method")
    assert vpt.loc["full", ["miou", "params"]].tolist() == pytest.approx([0.4831, 318.31e6])
    assert set(vpt["counts"]) == {"total trainable"} and set(vpt["benchmark"]) == {"ade20k"}
    swin = frames["ade20k_upernet_swinl"].set_index("method")
    assert swin.loc["mona", "memory_bytes"] == 11_958e6 and set(swin["counts"]) == {"backbone"}
    assert frames["gta_to_real_vitl"]["miou"].max() == pytest.approx(0.643)

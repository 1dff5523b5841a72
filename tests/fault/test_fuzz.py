"""Whatever lies in a file or on the command line: an answer or one line, never a traceback."""

import io
import json
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from benchmark.cli.request import resolve
from benchmark.core.errors import UserError
from benchmark.core.record import Record, parse
from benchmark.core.selectors import parse_selector, split_selectors
from benchmark.core.spec import Protocol
from benchmark.data import available
from benchmark.data.acquire.manifest import read as read_manifest
from benchmark.data.custom.description import read_description
from benchmark.data.files import read_rgb
from benchmark.engine import checkpoint
from benchmark.planning.catalogue import METHODS, build_method
from benchmark.planning.plan import Selection, plan
from benchmark.results import store
from benchmark.results.load import load_results
from tests.helpers.fuzz import (
    SCALAR,
    TEXT,
    cases,
    changed,
    dumped,
    mixed,
    mutated,
    nested,
    one_line,
    told,
)
from tests.helpers.records import record


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


RECORD = json.loads(record("linear", method_params={"rank": 4}).model_dump_json())


def with_record(**fields: Any) -> bytes:
    return json.dumps(RECORD | fields).encode()


@given(mixed(RECORD) | dumped(changed(RECORD)))
@example(b"[" * 100_000)
@example(b'{"schema_version": ' + b"9" * 5000 + b"}")
@example(with_record(**{"a\nb": 1}))
@example(with_record(**{"\ud800": 1}))
@example(with_record(method_params={"a": "\ud800"}))
@example(with_record(method_params={"a": nested(300)}))
@example(with_record(method_params={"a": 10**400}))
@cases(500)
def test_records(folder: Path, content: bytes) -> None:
    run = folder / "results/s/b/n/m/r"
    run.mkdir(parents=True, exist_ok=True)
    (run / "record.json").write_bytes(content)
    found = told(lambda: parse(content), ValueError)
    assert type(store.read_record(run)) is type(found) and isinstance(found, Record | None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = load_results(folder / "results")
    # What is a record may yet hold what no table can.
    assert len(table) == (not caught) and (found is not None or caught)
    assert all(len(str(warning.message).splitlines()) == 1 for warning in caught)


CONFIG: dict[str, Any] = {
    "suite": "demo",
    "methods": ["linear", "lora[rank=4]"],
    "benchmarks": "cells",
    "backbones": "vit_tiny_patch16_224",
    "seeds": [0, 1],
    "fraction": "0.5,1",
    "set": {"steps": 3, "decoder_lr": 0.1},
    "weights": "none",
    "data": "d",
    "results": "r",
    "device": "cpu",
    "workers": 0,
}
DESCRIPTION: dict[str, Any] = {
    "name": "roads",
    "classes": {"road": "#804080", "grass": "#00FF00"},
    "labels": "colour",
    "void": ["#000000"],
    "scale": 0.5,
    "title": "t",
    "domain": "d",
    "licence": "l",
    "hub": {
        "path": "a/b",
        "image": "i",
        "label": "l",
        "splits": {"train": "a", "test": "b"},
        "data_files": {"a": ["x"], "b": "y"},
    },
}
TAGS = ["!!timestamp x", "!!bool x", "!!int ''", "!!float x", "!!binary x", "2020-99-99", "&a [*a]"]
TAGS += ["!!python/object:os.system x", "? [a]\n: b", "<<: 1", "&a {<<: *a}", "0b", "1" * 5000]
TAGS += ["0x" + "f" * 5000]
ALIASES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join(9 * ['*' + old])}]\n" for old, new in ("ab", "bc", "cd", "de", "ef")
)
"""Nine of nine of nine ...: few bytes that are half a million values."""


@st.composite
def yaml_files(draw: st.DrawFn, good: dict[str, Any]) -> bytes:
    kind = draw(st.sampled_from(["tree", "tag", "bytes", "text"]))
    if kind == "tree":
        tree = draw(changed(good))
        # As YAML writes it, or as JSON, which is YAML with other escapes.
        return draw(st.sampled_from([yaml.safe_dump, json.dumps]))(tree).encode("utf-8", "replace")
    if kind == "tag":
        key, tag = draw(st.sampled_from([*good, "x"])), draw(st.sampled_from(TAGS))
        return f"{key}: {tag}\n".encode()
    if kind == "text":
        return draw(
            st.text(st.sampled_from("ab: -[]{},&*!|>'\"%@#\n\t?<0._~"), max_size=30)
        ).encode()
    return draw(mutated(yaml.safe_dump(good).encode()))


def with_each_tag(field: str) -> Callable[[Any], Any]:
    """Adds an example for every tag, and for what recursion and line breaks do."""

    def add(test: Any) -> Any:
        for tag in TAGS:
            test = example(f"{field}: {tag}\n".encode())(test)
        for text in (f"{field}: " + "[" * 3000, '"a\\nb": 1', '"\\ud800": 1', "{a: b", "\0", "- a"):
            test = example(text.encode())(test)
        return test

    return add


@pytest.mark.slow
@given(yaml_files(CONFIG))
@with_each_tag("workers")
@example(b'set: {"a\\nb": [1]}')
@example(b'set: {"\\ud800": [1]}')
@example(b'weights: "a\\nb"')
@example(b'plugin: "a\\nb"')
@example(ALIASES.translate(dict(zip(b"abcdef", CONFIG, strict=False))).encode())
@cases(250)
def test_config_files(folder: Path, content: bytes) -> None:
    path = folder / "config.yaml"
    path.write_bytes(content)
    told(lambda: resolve(config=path, set=None))


@pytest.mark.slow
@given(yaml_files(DESCRIPTION))
@with_each_tag("offset")
@example(b'{name: a, classes: {"a\\nb": x}}')
@example(b'{name: a, classes: {"\\ud800": x}}')
@example(ALIASES.translate(dict(zip(b"abcdef", DESCRIPTION, strict=False))).encode())
@example(ALIASES.translate(dict(zip(b"fedcba", DESCRIPTION, strict=False))).encode())
@example(b'{name: a, classes: [a], hub: {path: a, "a\\nb": 1}}')
@cases(250)
def test_descriptions(folder: Path, content: bytes) -> None:
    path = folder / "set.yaml"
    path.write_bytes(content)
    told(lambda: read_description(path))


PIECES = st.sampled_from([
    "linear", "lora", "vpt", "spm", "p*", "*", "?", "[", "]", "=", ",", "|", "rank", "rank=4", "lr",
    "scale", "placement", "1+2", "nan", "inf", "-1", "1e-3", "0", " ", "\n", "\x1b[0m", "\ud800",
])  # fmt: skip
SELECTORS = st.lists(PIECES | TEXT, max_size=8).map("".join)


@given(SELECTORS)
@example("linear[" + "," * 1000)
@example("*" * 60 + "x")
@cases(300)
def test_selectors(text: str) -> None:
    for part in split_selectors(text):
        told(lambda part=part: parse_selector(part))
    for name, fields in told(lambda: METHODS.select(text)) or ():
        told(lambda name=name, fields=fields: build_method(name, fields))


@pytest.mark.slow
@given(
    st.dictionaries(st.sampled_from([*Protocol.model_fields]) | TEXT, SCALAR, max_size=3),
    st.none() | st.lists(st.integers(min_value=0), max_size=3),
    st.none() | st.lists(st.floats() | TEXT, max_size=3),
    st.none() | SELECTORS,
    st.sampled_from(["benchmarks", "backbones", "suite"]),
)
@example({}, None, None, "\udcff", "backbones")
@example({"decoder_lr": "nan"}, None, None, None, "backbones")
@example({"decoder_lr": "inf"}, None, None, None, "backbones")
@cases(300)
def test_plans(
    protocol: dict[str, Any],
    seeds: list[int] | None,
    fractions: list[float | str] | None,
    text: str | None,
    option: str,
) -> None:
    fields: dict[str, Any] = {"benchmarks": "cells", "backbones": "any"}
    if text is not None:
        fields[option] = text
    chosen = Selection(
        methods="linear", seeds=seeds, fractions=fractions, protocol=protocol, **fields
    )
    for cell in told(lambda: plan(chosen)) or ():
        # Neither is JSON, so that the record could not be read back.
        assert not {"NaN", "Infinity"} & set(cell.protocol.canonical.replace(",", ":").split(":"))


def saved(**fields: Any) -> bytes:
    content = {
        "progress": asdict(checkpoint.TrainState("run", 3, [{"loss": 1.0}])),
        "tensors": {"a": torch.arange(4.0)},
        "optimiser": {},
        "schedule": {},
        "method": {},
        "cpu_random": torch.zeros(8, dtype=torch.uint8),
        "cuda_random": [],
    }
    buffer = io.BytesIO()
    torch.save(content | fields, buffer)
    return buffer.getvalue()


@given(st.binary(max_size=64) | mutated(saved()) | SCALAR.map(lambda value: saved(progress=value)))
@example(saved(progress={"run_id": "another"}))
@example(b"")
@cases(250)
def test_checkpoints(folder: Path, content: bytes) -> None:
    path, aside = folder / ".run.checkpoint", folder / ".run.checkpoint.broken"
    aside.unlink(missing_ok=True)
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = checkpoint.load(path, "run")
    assert (found is None) == aside.exists() == (not path.exists())
    assert found is None or found.progress.run_id == "run"
    assert (aside if found is None else path).read_bytes() == content


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\x1b[31mb", "a\u2028b", "a\x85b", "a\0b"])
def test_names_in_messages_cannot_draw_on_the_terminal(tmp_path: Path, name: str) -> None:
    acts: list[Callable[[], Any]] = [
        lambda: resolve(config=tmp_path / name, set=None),
        lambda: resolve(config=None, set=None, weights=[tmp_path / name]),
        lambda: resolve(config=None, set=None, plugin=[tmp_path / name]),
        lambda: resolve(config=None, set=[f"steps={name}", "steps=2"]),
        lambda: read_description(tmp_path / name),
        lambda: read_rgb(tmp_path / name, "its origin"),
        lambda: read_manifest(tmp_path / name),
        lambda: available()["camvid"](tmp_path / name),
        lambda: store.check_writable(Path(f"/dev/null/{name}")),
    ]
    for act in acts:
        with pytest.raises(UserError) as info:
            act()
        one_line(info.value)
        assert str(info.value).isprintable()

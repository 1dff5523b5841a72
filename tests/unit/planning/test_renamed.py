"""Sets whose classes were renamed keep the runs that they have."""

import pytest

from benchmark.analysis.runs import Runs
from benchmark.core.record import RECORD
from benchmark.data.custom.description import Description
from benchmark.planning import plugins, renamed
from benchmark.planning.catalogue import BENCHMARKS
from tests.helpers.records import record

pytestmark = pytest.mark.no_torch
VALUES = "labels: {0: %s, 128: %s}"


@pytest.fixture
def bolts(tmp_path, forgotten):
    """Writes and loads a description, as text; gives its class."""

    def load(text):
        path = tmp_path / "bolts.yaml"
        path.write_text(f"name: bolts\nfolder: bolts\n{text}\n")
        plugins.load_files([path])
        return BENCHMARKS.get("bolts")

    return load


def stored(root, version, names, seed=0):
    """A finished run on bolts under a version, with scores of classes of these names."""
    made = record("linear", "bolts")
    scores = {name: (k + 1) / 10 for k, name in enumerate(names)}
    metrics = made.metrics.model_copy(update={"class_iou": scores})
    more = {"metrics": metrics, "benchmark_version": version, "run_id": f"ab{seed}", "seed": seed}
    made = made.model_copy(update=more)
    folder = root / made.suite / "bolts" / made.backbone / "linear" / made.run_id
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(made.model_dump_json())


def version(text):
    import yaml

    return Description.model_validate(yaml.safe_load(f"name: bolts\nfolder: bolts\n{text}")).version


@pytest.mark.parametrize(
    ("then", "now", "keeps"),
    [
        ("classes: [a, b]", "classes: [a, c]", True),
        ("classes: [a, b]", "classes: [b, a]", True),  # the indices mean other things now
        ("classes: {a: 0, b: 7}", "classes: {a: 0, c: 7}", True),
        ("classes: {a: 0, b: 7}", "classes: {a: 0, c: 8}", False),
        ("classes: [a, b]", "classes: [a, b, c]", False),
        ("classes: [a, b]", "classes: [a, c]\nscale: 0.5", False),
        (
            f"classes: [a, b]\n{VALUES % ('a', 'b')}",
            f"classes: [a, c]\n{VALUES % ('a', 'c')}",
            True,
        ),
        # The other value is the first class now: other labels.
        (
            f"classes: [a, b]\n{VALUES % ('a', 'b')}",
            f"classes: [b, a]\n{VALUES % ('a', 'b')}",
            False,
        ),
    ],
)
def test_runs_count_where_only_names_differ(bolts, tmp_path, then, now, keeps):
    before = version(then)
    stored(tmp_path, before, ["a", "b"])
    kind = bolts(now)
    said = renamed.keep_versions(tmp_path)
    assert (kind.version == before) == keeps == bool(said)
    if keeps:
        assert said[0].startswith("bolts: classes were renamed (")
        names = [f"metrics.class_iou.{name}" for name in kind.classes]
        frame = renamed.load(tmp_path)
        assert frame.loc[0, names].tolist() == [0.1, 0.2]
        assert sorted(Runs(frame, tmp_path).per_class("bolts").columns[-2:]) == sorted(kind.classes)
        # A process that reads the file anew is told.
        known = renamed.versions()
        kind.version = "0"
        renamed.take_versions(known)
        assert kind.version == before


def test_runs_of_the_very_description_come_first(bolts, tmp_path):
    kind = bolts("classes: [a, c]")
    own = kind.version
    stored(tmp_path, version("classes: [a, b]"), ["a", "b"], seed=0)
    stored(tmp_path, own, ["a", "c"], seed=1)
    assert renamed.keep_versions(tmp_path) == [] and kind.version == own


def test_where_nothing_was_renamed_records_are_as_they_are(bolts, tmp_path):
    kind = bolts("classes: [a, b]")
    stored(tmp_path, kind.version, ["a", "b"])
    assert renamed.keep_versions(tmp_path) == renamed.keep_versions(tmp_path / "none") == []
    assert renamed.load(tmp_path).loc[0, "metrics.class_iou.b"] == 0.2
    assert renamed.load(tmp_path / "none").empty

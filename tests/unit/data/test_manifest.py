import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.core.errors import DataError, UserError
from benchmark.data import available
from benchmark.data.acquire import manifest
from benchmark.data.acquire.manifest import (
    FOLDER,
    Manifest,
    compare,
    local_path,
    make,
    read,
    verify,
    write,
)
from benchmark.data.base import SPLITS, Benchmark, Finding
from benchmark.data.fake.small import WRITERS, write_camvid
from tests.unit.data.test_real_data import COUNTS

pytestmark = pytest.mark.no_torch


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the project's manifests."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    monkeypatch.setattr(manifest, "FOLDER", folder)
    return folder


@pytest.fixture
def camvid(tmp_path: Path, shelf: Path) -> Benchmark:
    """A fake set, whose manifest is the project's edition `tiny`."""
    write_camvid(tmp_path / "data")
    benchmark = available()["camvid"](tmp_path / "data")
    write(make(benchmark, "tiny"), shelf / "camvid.tiny.tsv")
    return benchmark


def again(benchmark: Benchmark) -> list[Finding]:
    """What verifying finds after a change on disk."""
    return verify(type(benchmark)(benchmark.root))


def serious(findings: list[Finding]) -> list[str]:
    for finding in findings:
        assert finding.what and finding.fix
        assert len((finding.what + finding.fix).splitlines()) == 1
    return [finding.what for finding in findings if finding.severity == "serious"]


def folder(benchmark: Benchmark) -> Path:
    return Path(str(benchmark.root), str(benchmark.folder))


@pytest.mark.parametrize("name", WRITERS)
def test_make_write_read(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    benchmark = available()[name](tmp_path)
    made = make(benchmark, "tiny")
    assert made.counts == {split: len(benchmark.ids(split)) for split in SPLITS}
    assert len(made.files) == 2 * sum(made.counts.values())
    for path, (size, _) in made.files.items():
        assert (folder(benchmark) / path).stat().st_size == size
    write(made, tmp_path / "m.tsv")
    assert read(tmp_path / "m.tsv") == made
    assert [path.name for path in tmp_path.glob("m.tsv*")] == ["m.tsv"]


def test_the_text_is_stable(tmp_path: Path) -> None:
    files = {
        "b/2.png": (12, "f" * 16),
        "a/1 x\ty.png": (3, "0" * 16),
        "ä/\udcff\x85": (0, "1" * 16),
    }
    made = Manifest("camvid", "tiny", {"train+val": 5, "test": 2}, files)
    write(made, tmp_path / "m.tsv")
    assert (
        (tmp_path / "m.tsv")
        .read_bytes()
        .startswith(
            b"# benchmark\tcamvid\n# edition\ttiny\n# train+val\t5\n# test\t2\n"
            b"a/1 x\ty.png\t3\t0000000000000000\nb/2.png\t12\t"
        )
    )
    assert read(tmp_path / "m.tsv") == made


def test_known_digest(tmp_path: Path) -> None:
    # SHA-256 of the empty message, FIPS 180-2: e3b0c442 98fc1c14 ...
    base = write_camvid(tmp_path)
    (base / "test" / "test_00000.png").write_bytes(b"")
    files = make(available()["camvid"](tmp_path)).files
    assert files["test/test_00000.png"] == (0, "e3b0c44298fc1c14")


@pytest.mark.parametrize(
    "text",
    ["", "nothing", "# benchmark\ta\n", "# edition\n", "# benchmark\ta\n# edition\tb\nc\td\te\n"],
)
def test_no_manifest(text: str, tmp_path: Path) -> None:
    (tmp_path / "m.tsv").write_text(text)
    with pytest.raises(UserError, match="is not a manifest") as info:
        read(tmp_path / "m.tsv")
    assert len(str(info.value).splitlines()) == 1


def test_a_line_break_in_a_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line break"):
        write(Manifest("a", "b", {}, {"c\nd": (0, "")}), tmp_path / "m.tsv")


def test_an_untouched_set(camvid: Benchmark) -> None:
    told: list[tuple[int, int]] = []
    findings = verify(camvid, lambda *now: told.append(now))
    assert [finding.severity for finding in findings] == ["note"]
    assert "3/3/3" in findings[0].what and "'tiny'" in findings[0].what
    assert told == [(i, 18) for i in range(1, 19)]


def _flip(base: Path) -> None:
    path = base / "val" / "val_00001.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _grow(base: Path) -> None:
    with (base / "val" / "val_00001.png").open("ab") as file:
        file.write(b"\0")


def _remove(base: Path) -> None:
    (base / "val" / "val_00001.png").unlink()


def _unlist(base: Path) -> None:
    lines = (base / "val.txt").read_text().splitlines()
    (base / "val.txt").write_text("\n".join(line for line in lines if "00001" not in line))


def _add(base: Path) -> None:
    for name in ("val", "valannot"):
        shutil.copy(base / name / "val_00001.png", base / name / "new.png")
    with (base / "val.txt").open("a") as file:
        file.write("/SegNet/CamVid/val/new.png /SegNet/CamVid/valannot/new.png\n")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_flip, [("val/val_00001.png", "checksum")]),
        (_grow, [("val/val_00001.png", "size")]),
        (_remove, [("val/val_00001.png", "missing")]),
        (_unlist, [("val has 2", "3"), ("val/val_00001.png", "in no split")]),
        (_add, [("val has 4", "3"), ("val/new.png", "not in the known version 'tiny'")]),
    ],
)
@pytest.mark.parametrize("local", [False, True])
def test_changes_are_found(
    change: Callable[[Path], None],
    expected: list[tuple[str, str]],
    local: bool,
    camvid: Benchmark,
    shelf: Path,
) -> None:
    if local:
        (shelf / "camvid.tiny.tsv").unlink()
        write(make(camvid), local_path(camvid))
        expected = [(what, problem.replace("tiny", "local")) for what, problem in expected]
    change(folder(camvid))
    found = serious(again(camvid))
    assert len(found) == len(expected)
    for line, parts in zip(found, expected, strict=True):
        assert all(part in line for part in parts)


def test_many_changes_are_counted(camvid: Benchmark) -> None:
    for path in folder(camvid).glob("*/*.png"):
        path.write_bytes(path.read_bytes() + b"\0")
    (found,) = serious(again(camvid))
    assert (
        "18 files (test/test_00000.png, " in found and "and 13 more) are of another size" in found
    )
    assert found.count(".png") == 5


def test_make_refuses_an_incomplete_set(camvid: Benchmark) -> None:
    _remove(folder(camvid))
    with pytest.raises(DataError, match=r"val_00001\.png.*missing"):
        make(camvid)


def test_no_manifest_at_all(camvid: Benchmark, shelf: Path) -> None:
    (shelf / "camvid.tiny.tsv").unlink()
    (note,) = again(camvid)
    assert note.severity == "note" and "no published checksums" in note.what
    assert "data prepare" in note.fix
    _remove(folder(camvid))
    assert "missing" in serious(again(camvid))[0]


def test_an_edition_without_checksums(camvid: Benchmark, shelf: Path) -> None:
    (shelf / "camvid.tiny.tsv").unlink()
    write(
        Manifest("camvid", "official", {"train+val": 6, "test": 3}), shelf / "camvid.official.tsv"
    )
    (note,) = again(camvid)
    assert "'official'" in note.what and "no checksums" in note.what and "data prepare" in note.fix
    # Those that preparing recorded are compared as well.
    write(make(camvid), local_path(camvid))
    (note,) = again(camvid)
    assert "'official'" in note.what and "recorded when it was prepared" in note.what
    _flip(folder(camvid))
    assert "checksum" in serious(again(camvid))[0]


def test_stale_local_checksums_are_left_alone(camvid: Benchmark, shelf: Path) -> None:
    # Recorded of a smaller set, before the full one took its place.
    write(
        Manifest("camvid", "official", {"train+val": 6, "test": 3}), shelf / "camvid.official.tsv"
    )
    (shelf / "camvid.tiny.tsv").unlink()
    small = Manifest(
        "camvid", "local", {"train": 1, "val": 1, "test": 1}, {"old.png": (1, "0" * 16)}
    )
    write(small, local_path(camvid))
    (note,) = again(camvid)
    assert "'official'" in note.what and "no checksums" in note.what


def test_the_nearest_edition(camvid: Benchmark, shelf: Path) -> None:
    full = Manifest("camvid", "official", {"train": 30, "val": 30, "test": 30})
    write(full, shelf / "camvid.official.tsv")
    assert "'tiny'" in again(camvid)[-1].what
    counts = {"train": 29, "val": 30, "test": 30}
    findings = compare(Manifest("camvid", "local", counts), manifest.known(camvid))
    assert serious(findings) == [
        "camvid: train has 29 examples, the known version 'official' has 30"
    ]


def test_a_set_of_the_users_own(camvid: Benchmark) -> None:
    _unlist(folder(camvid))
    benchmark = type(camvid)(camvid.root)
    write(make(benchmark), local_path(benchmark))
    findings = again(benchmark)
    assert not serious(findings)
    assert "as in no known version (tiny 3/3/3)" in findings[0].what
    assert findings[0].severity == "warning"


def test_benchmarks_that_share_a_folder_have_manifests_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "pascal_context").mkdir()
    paths = set()
    for name in ("context59", "context60"):
        benchmark = available()[name].__new__(available()[name])
        benchmark.root = tmp_path
        paths.add(local_path(benchmark))
    assert len(paths) == 2


def test_generated_sets() -> None:
    (note,) = verify(available()["streets"](None))
    assert note.severity == "note" and "no files" in note.what


def test_checksums_of_one_layout_say_nothing_of_another(camvid: Benchmark, shelf: Path) -> None:
    counts = make(camvid).counts
    write(Manifest("camvid", "other", counts), shelf / "camvid.other.tsv")
    files = {f"other/{name}": facts for name, facts in make(camvid).files.items()}
    moved = Manifest("camvid", "local", counts, files)
    (finding,) = compare(moved, manifest.known(camvid))
    assert "'other' by count" in finding.what
    (finding,) = compare(make(camvid), manifest.known(camvid))
    assert "'tiny'" in finding.what and "by count" not in finding.what


def test_the_projects_manifests() -> None:
    paths = sorted(FOLDER.glob("*.tsv"))
    assert {path.name.split(".")[0] for path in paths} == set(available()) - _registered_by_tests()
    for path in paths:
        one = read(path)
        assert path.name == f"{one.benchmark}.{one.edition}.tsv"
        assert one.counts and all(count > 0 for count in one.counts.values())
        if one.files:
            assert len(one.files) == 2 * sum(one.counts.values())
            assert all(len(digest) == 16 for _, digest in one.files.values())
    for name, editions in COUNTS.items():
        known = {tuple(read(path).counts.values()) for path in FOLDER.glob(f"{name}.*.tsv")}
        assert known == set(editions)


def _registered_by_tests() -> set[str]:
    return {
        name for name, cls in available().items() if not cls.__module__.startswith("benchmark.")
    }


@pytest.mark.realdata
@pytest.mark.parametrize("name", COUNTS)
def test_real_sets(name: str, data_root: Path) -> None:
    findings = verify(available()[name](data_root))
    assert not serious(findings)
    assert any("subset" in finding.what or "official" in finding.what for finding in findings)

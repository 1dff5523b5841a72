import io
import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from rich.console import Console

from benchmark.analysis.costs import COSTS
from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty import assess
from benchmark.core.errors import UserError
from benchmark.reporting import markdown, report
from benchmark.reporting.figures.labels import Box, Scene, place_labels
from benchmark.reporting.figures.pareto import MOST_LABELS, method_styles, pareto_figure
from benchmark.reporting.inputs import ReportInputs
from benchmark.reporting.provenance import near_notes
from benchmark.reporting.report import write_report
from benchmark.reporting.terminal import print_report
from benchmark.results import asked
from benchmark.results.timing_columns import LATENCY
from benchmark.results.validate import spec_of
from tests.helpers.pages import unpacked
from tests.helpers.records import METHODS, frame, grid, record, timed

pytestmark = pytest.mark.no_torch

TRAINABLE = "costs.params.total_trainable"


def draw(runs, cost=TRAINABLE):
    return pareto_figure(Runs(runs), cost, "Cost", "Title")


def panel_names(axis):
    return [text for text in axis.texts if isinstance(text, Annotation)]


@pytest.fixture
def no_figures(monkeypatch):
    """Figures take seconds, and most tests of the report do not look at them."""
    monkeypatch.setattr(report, "pictures", lambda *_: [])


def blank(*_):
    return Figure(figsize=(1, 1))


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("cost", [TRAINABLE, LATENCY])
def test_names_never_overlap_and_nothing_is_clipped(cost, seeds):
    figure = draw(timed(grid(list(METHODS)[:7], seeds)), cost)
    renderer = figure.canvas.get_renderer()
    for axis in figure.axes:
        names = panel_names(axis)
        assert len(names) == 7
        boxes = [name.get_window_extent(renderer) for name in names]
        for first, second in itertools.combinations(boxes, 2):
            assert not first.overlaps(second)
        frame_box = axis.get_window_extent(renderer)
        assert all(frame_box.contains(*box.min) and frame_box.contains(*box.max) for box in boxes)
    whole = figure.get_tightbbox(renderer)
    width, height = figure.get_size_inches()
    assert whole.x0 >= 0 and whole.y0 >= 0 and whole.x1 <= width and whole.y1 <= height


def test_many_methods_share_one_legend():
    figure = draw(frame(grid(benchmarks=["camvid"])))
    assert len(METHODS) > MOST_LABELS
    assert not any(panel_names(axis) for axis in figure.axes)
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries == [*sorted(METHODS), "Pareto front"]


def test_names_that_fit_nowhere_go_to_the_legend():
    records = [record(f"{letter}{'x' * 60}", miou=0.5) for letter in "abc"]
    figure = draw(frame(records))
    assert not panel_names(figure.axes[0])
    assert len(figure.legends[0].get_texts()) == 4


def test_one_panel_a_benchmark_and_the_average():
    titles = [axis.get_title("left") for axis in draw(frame(grid(["full", "linear"]))).axes]
    assert titles == ["camvid", "drive", "kvasir", "loveda", "pets", "average of 5 benchmarks"]


@pytest.mark.parametrize("letters", [40, 90, 104, 107, 110, 160])
def test_a_long_title_is_not_cut(letters):
    title = "mIoU against inference latency of some backbone 0123456789abcdef " * 3
    figure = pareto_figure(Runs(timed(grid(["full", "linear"]))), LATENCY, "ratio", title[:letters])
    figure.draw_without_rendering()
    assert figure._suptitle.get_window_extent().x1 <= figure.bbox.width


def test_zero_cost_is_labelled_zero():
    runs = frame([record("a", inserted=0, miou=0.4), record("b", inserted=10_000, miou=0.5)])
    axis = draw(runs, "costs.params.inserted").axes[0]
    assert "0" in [label.get_text() for label in axis.get_xticklabels()]


def test_runs_without_any_result_still_draw():
    assert draw(frame([record(status="failed", reason="x")])).axes


def test_groups_are_never_drawn_together():
    with pytest.raises(ValueError, match="one protocol"):
        draw(frame([record("a"), record("a", protocol_hash="other")]))


def test_every_style_is_used_once():
    styles = method_styles([f"m{number:02}" for number in range(88)])
    assert len(set(styles.values())) == 88


def test_place_labels_gives_up_where_there_is_no_room():
    scene = Scene(Box(0, 0, 20, 20), [Box(8, 8, 12, 12)], [], [], 1)
    assert place_labels([(50, 10)], scene) is None
    assert place_labels([], Scene(Box(0, 0, 9, 9), [], [], [], 1)) == []


@pytest.mark.slow
def test_report_has_every_file_and_is_deterministic(tmp_path):
    runs = timed(grid(["full", "linear", "lora[rank=4]"], 2, ["camvid", "pets"]))
    files = write_report(runs, tmp_path / "a", "small")
    tables = ["leaderboard", "per_benchmark", "per_class_camvid", "per_class_pets", "failures"]
    tables += ["pairs", "ranks", "iqm", "cost_ledger", "storage", "fronts", "hypervolumes"]
    tables += ["improvement", "agreement"]
    figures = [f"pareto_{cost.figure}" for cost in COSTS if cost.figure]
    figures += ["ranks", "classes_camvid", "classes_pets", "storage"]
    expected = {f"tables/{name}.{end}" for name in tables for end in ("csv", "md", "tex")}
    expected |= {f"figures/{name}.{end}" for name in figures for end in ("png", "svg", "pdf")}
    expected |= {"README.md", "index.html"}
    assert {path.relative_to(tmp_path / "a").as_posix() for path in files} == expected
    assert all(path.is_file() for path in files)
    again = write_report(runs.sample(frac=1, random_state=1), tmp_path / "b", "small")
    for first, second in zip(files, again, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name
    assert os.listdir(tmp_path / "a" / "figures") and sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_each_group_has_its_figures(tmp_path, monkeypatch):
    def pictures(*material):
        return [replace(picture, draw=blank) for picture in real(*material)]

    real = report.pictures
    monkeypatch.setattr(report, "pictures", pictures)
    runs = timed([record("a"), record("b"), record("a", backbone="resnet18", protocol_hash="p2")])
    files = write_report(runs, tmp_path / "out", "small")
    pngs = {path.name for path in files if path.suffix == ".png"}
    kinds = {name.split("_")[0] for name in pngs}
    assert kinds == {"pareto", "classes", "storage"}  # no ranks over a single benchmark
    drawn = [cost for cost in COSTS if cost.figure]
    assert len(pngs) == 2 * (len(drawn) + 2)
    assert {"pareto_latency_resnet18.png", "pareto_latency_vit_tiny.png"} <= pngs
    text = (tmp_path / "out" / "README.md").read_text()
    assert all(f"(figures/{name})" in text for name in pngs)
    assert "| hash | 5d0c9e1f2a3b | p2 |" in text and "## Leaderboard: resnet18" in text


@pytest.mark.usefixtures("no_figures")
def test_page_is_honest_about_seeds(tmp_path):
    for seeds, words in (
        (1, "differences between methods are not tested"),
        (3, "hierarchical bootstrap with Student's t"),
    ):
        write_report(frame(grid(["full", "linear"], seeds)), tmp_path / "out", "small")
        assert words in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.usefixtures("no_figures")
def test_different_precisions_are_marked(tmp_path):
    runs = frame([record("a"), record("b")])
    write_report(runs, tmp_path / "out", "small")
    assert "used different" not in (tmp_path / "out" / "README.md").read_text()
    runs.loc[1, "provenance.precision"] = "bf16"
    write_report(runs, tmp_path / "out", "small")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "used different precisions: not comparable.**" in text


@pytest.mark.usefixtures("no_figures")
def test_runs_that_were_made_again_on_other_data_are_compared_with_nothing(tmp_path):
    runs = frame([record("a"), record("b"), record("b", run_id="0123456789ab")])
    runs["provenance.data_sha256"] = ["v1:new", "v1:new", "v1:old"]
    for started, warned in (("2020-01-01T00:00:00Z", False), ("2100-01-01T00:00:00Z", True)):
        runs.loc[2, "provenance.started"] = started
        write_report(runs, tmp_path / "out", "small")
        text = (tmp_path / "out" / "README.md").read_text()
        assert ("used different data under one benchmark's name" in text) is warned
    runs.loc[1, "execution.opened_splits.test"] = 2
    write_report(runs, tmp_path / "out", "small")
    for page in ("README.md", "index.html"):
        text = (tmp_path / "out" / page).read_text(encoding="utf-8")
        assert "1 run was scored on the test images more than once" in text


@pytest.mark.usefixtures("no_figures")
def test_failures_are_shown_without_folders_of_the_machine(tmp_path):
    reason = "DataError: /home/somebody/data/pets/a.png is damaged"
    runs = frame([record("a"), record("b", status="failed", reason=reason)])
    files = write_report(runs, tmp_path / "out", "small")
    assert "| DataError: a.png is damaged |" in (tmp_path / "out" / "README.md").read_text()
    page = unpacked((tmp_path / "out" / "index.html").read_text(encoding="utf-8")).encode()
    texts = [page, *(path.read_bytes() for path in files)]
    assert not any(b"/home" in text or b"/srv" in text for text in texts)


@pytest.mark.usefixtures("no_figures")
def test_a_crash_leaves_the_former_report(tmp_path, monkeypatch):
    out = tmp_path / "out"
    write_report(frame([record("a"), record("b")]), out, "former")
    monkeypatch.setattr(report.markdown, "render", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(frame([record("a")]), out, "next")
    assert "# former" in (out / "README.md").read_text()
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.usefixtures("no_figures")
def test_a_failing_swap_brings_the_former_report_back(tmp_path, monkeypatch):
    out = tmp_path / "out"
    write_report(frame([record("a")]), out, "former")
    real = os.replace

    def replace(source, target):
        if str(source).endswith(".new"):
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(report.os, "replace", replace)
    with pytest.raises(UserError, match="No space left"):
        write_report(frame([record("a")]), out, "next")
    assert "# former" in (out / "README.md").read_text()
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("name", ["README.md", "thesis.docx", "tables"])
def test_foreign_folders_are_never_replaced(tmp_path, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(UserError, match="not part of a report"):
        write_report(frame([record()]), tmp_path / "out", "small")
    assert (tmp_path / "out" / name).read_text() == "mine"


def test_no_runs_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="run `python -m benchmark run` first") as caught:
        write_report(frame([]), tmp_path / "out", "small")
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_terminal_report_fits_100_columns():
    console = Console(file=io.StringIO(), width=100)
    runs = timed(grid(seeds=2))
    print_report(Runs(runs), assess(Runs(runs, Path())), console)
    text = console.file.getvalue()
    assert "lora[rank=4]" in text and "…" not in text
    assert max(map(len, text.splitlines())) <= 100
    assert all(word in text for word in ("Training", "Memory", "Done", "–"))
    print_report(Runs(frame([])), assess(Runs(frame([record()]), Path())), console)


@pytest.mark.parametrize("width", [60, 70, 80])
def test_a_narrow_terminal_shows_names_scores_and_parameters(width):
    console = Console(file=io.StringIO(), width=width)
    runs = frame(grid(list(METHODS)[:4], 3, ["camvid"]))
    print_report(Runs(runs), assess(Runs(runs, Path())), console)
    head = next(line for line in console.file.getvalue().splitlines() if "Method" in line)
    assert all(word in head for word in ("Rank", "mIoU", "95 %", "Trainable", "Stored"))
    assert all(name.split("[")[0] in console.file.getvalue() for name in list(METHODS)[:4])


def test_reports_need_no_torch():
    modules = "benchmark.analysis.leaderboard, benchmark.reporting.report"
    code = f"import sys, {modules}, benchmark.reporting.figures.pareto; "
    code += "sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


@pytest.mark.usefixtures("no_figures")
def test_accepted_findings_of_the_audit_stand_in_the_report(tmp_path):
    finding = "classes absent from the train split (1): mast"
    runs = frame([record("a"), record("b", data_findings=(finding,))])
    write_report(runs, tmp_path / "r", "small")
    line = f"camvid: trained although the audit found: {finding}."
    assert line in (tmp_path / "r" / "README.md").read_text()
    assert line in unpacked((tmp_path / "r" / "index.html").read_text())


@pytest.mark.usefixtures("no_figures")
def test_test_images_with_a_near_copy_in_train_stand_in_the_report(tmp_path):
    runs = frame([record("a", near_copies=0), record("b", near_copies=7)])
    images = int(runs["metrics.images"].iloc[1])
    line = (
        f"7 of {images} test images have a near-identical image in train, so the scores of camvid "
        "are too good."
    )
    write_report(runs, tmp_path / "r", "small")
    assert line in (tmp_path / "r" / "README.md").read_text()
    assert line in unpacked((tmp_path / "r" / "index.html").read_text())
    clean = frame([record("a", near_copies=0), record("b")])
    assert near_notes(clean) == []


def test_runs_that_have_not_run_yet_are_not_called_finished(tmp_path):
    made = [record(seed=seed) for seed in range(2)]
    cells = [spec_of(one) for one in made]
    made = [
        one.model_copy(update={"run_id": cell.run_id, "protocol_hash": cell.protocol.hash})
        for one, cell in zip(made, cells, strict=True)
    ]
    asked.note(tmp_path, cells)
    runs = Runs(frame(made[:1]), tmp_path)
    text = markdown.render(
        ReportInputs("t", runs, assess(runs, replicates=5)), {key: [] for key in runs.groups}, []
    )
    assert "## Runs that did not finish\n\n1 of 2 runs has not run yet.\n" in text

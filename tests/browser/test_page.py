"""The page in a real browser, opened from disk, without a network."""

import numpy as np
import pytest

from benchmark.analysis.pareto import pareto_front
from benchmark.analysis.runs import Runs
from benchmark.analysis.uncertainty import assess
from benchmark.reporting.html.page import render
from benchmark.results.timing_columns import TRAINING
from tests.browser.conftest import EVIL
from tests.helpers import records

pytest.importorskip("selenium", reason="selenium is not installed")

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

pytestmark = pytest.mark.no_torch


def plotted(page, name="pareto-plot", trace=2):
    script = (
        "const t = document.getElementById(arguments[0]).data[arguments[1]]; return [t.x, t.y];"
    )
    return page.execute_script(script, name, trace)


def board(page, column):
    """Texts of one column of the leaderboard."""
    cells = page.find_elements(By.CSS_SELECTOR, f"#board-table tbody td:nth-child({column})")
    return [cell.text for cell in cells]


def errors(page):
    return [entry for entry in page.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def test_it_opens_without_an_error_and_without_a_request(visit, page_file):
    page = visit(page_file)
    assert page.execute_script("return document.documentElement.dataset.ready") == "yes"
    assert errors(page) == []
    loaded = page.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []
    # The policy holds: even code of the page itself could not reach a server.
    refused = page.execute_async_script(
        "const done = arguments[0];"
        "document.addEventListener('securitypolicyviolation', e => done(e.violatedDirective));"
        "fetch('https://example.org').catch(() => 0); setTimeout(() => done('sent'), 3000);"
    )
    assert refused == "connect-src"


def test_a_browser_that_cannot_unpack_says_so(chromium, visit, page_file):
    assert not visit(page_file).find_element(By.ID, "too-old").is_displayed()
    script = {"source": "delete window.DecompressionStream;"}
    made = chromium.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
    try:
        chromium.get(page_file.as_uri())
        line = chromium.find_element(By.ID, "too-old")
        assert line.is_displayed() and "too old" in line.text
        # What is no drawing can be read all the same.
        assert chromium.find_element(By.CSS_SELECTOR, ".answer .numbers").is_displayed()
    finally:
        chromium.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", made)


def test_a_page_says_why_its_diagrams_are_not_there(chromium, visit, page_file):
    page = visit(page_file)
    wait = page.find_element(By.ID, "unpacking")
    assert not wait.is_displayed()
    page.execute_script("delete document.documentElement.dataset.ready")
    assert wait.is_displayed()
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        chromium.get(page_file.as_uri())
        said = chromium.find_elements(By.CSS_SELECTOR, "noscript p")
        assert [one.is_displayed() for one in said] == [True] and "need JavaScript" in said[0].text
        assert not chromium.find_element(By.ID, "unpacking").is_displayed()
    finally:
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_fullest_group_comes_first(visit, page_file):
    group = Select(visit(page_file).find_element(By.ID, "group"))
    assert [option.text for option in group.options] == ["vit_tiny", "resnet50"]
    assert group.first_selected_option.text == "vit_tiny"


@pytest.mark.slow
def test_groups_that_were_timed_differently_share_no_column_of_times(visit, page_file, mixed_file):
    for path, alike in ((page_file, True), (mixed_file, False)):
        page = visit(path)
        heads = [page.find_element(By.ID, "board-table").text.split("full")[0]]
        page.find_element(By.ID, "all-groups").click()
        heads.append(page.find_element(By.ID, "board-table").text.split("full")[0])
        assert ["Latency / linear" in text for text in heads] == [True, alike]
        assert all("Stored" in text for text in heads)
        note = page.find_element(By.ID, "timing-note").text
        assert ("Times are left out" in note) != alike


def test_words_are_explained_in_place(visit, page_file):
    page = visit(page_file)
    head = page.find_element(By.CSS_SELECTOR, "button[data-key='costs.stored.bytes']")
    assert head.get_attribute("title").startswith("bytes on disk for one more task")
    words = page.find_element(By.CSS_SELECTOR, ".terms")
    assert not words.find_element(By.TAG_NAME, "dl").is_displayed()
    words.find_element(By.TAG_NAME, "summary").click()
    assert "critical difference" in words.text and "Boundary mIoU" in words.text


def test_another_cost_moves_the_points(visit, page_file):
    page = visit(page_file)
    before = plotted(page)
    Select(page.find_element(By.ID, "cost")).select_by_value(TRAINING)
    after = plotted(page)
    assert before[0] != after[0] and before[1] == after[1]
    assert min(after[0]) == 1 and max(after[0]) < 10  # multiples of the reference's
    assert "All methods took turns" in page.find_element(By.ID, "timing-note").text


def test_the_front_is_that_of_the_report(visit, page_file):
    page = visit(page_file)
    cost, score = map(np.array, plotted(page))
    assert len(cost) == 14
    front = pareto_front(cost, score)
    x, y = plotted(page, trace=0)
    assert sorted(x[:-1]) == sorted(cost[front]) and sorted(y[:-1]) == sorted(score[front])


def test_another_benchmark_changes_diagram_and_leaderboard(visit, page_file):
    page = visit(page_file)
    before, scores = plotted(page)[1], board(page, 3)
    Select(page.find_element(By.ID, "scope")).select_by_visible_text("pets")
    assert plotted(page)[1] != before and board(page, 3) != scores


def test_headers_sort_both_ways_and_say_so(visit, page_file):
    page = visit(page_file)

    def sort(key):
        page.find_element(By.CSS_SELECTOR, f"button[data-key='{key}']").click()
        head = page.find_element(By.CSS_SELECTOR, f"th:has(button[data-key='{key}'])")
        return head.get_attribute("aria-sort")

    assert sort("method") == "ascending"
    names = board(page, 2)
    assert names == sorted(names) and len(names) == 15
    assert sort("method") == "descending" and board(page, 2) == names[::-1]
    assert sort("miou") == "descending"
    scores = board(page, 3)
    # A method without a mean stands below, however one sorts.
    assert scores[-1] == "–" and scores[:-1] == sorted(scores[:-1], key=float, reverse=True)
    assert sort("miou") == "ascending" and board(page, 3)[-1] == "–"


def test_the_filter_keeps_what_matches(visit, page_file):
    page = visit(page_file)
    page.find_element(By.ID, "all-groups").click()
    assert len(board(page, 2)) == 17
    page.find_element(By.ID, "filter").send_keys("NORM resnet")
    assert board(page, 2) == ["norm"]
    assert page.find_element(By.ID, "found").text == "1 of 17 methods"


def test_a_click_opens_the_runs_and_escape_closes_them(visit, page_file):
    page = visit(page_file)
    panel = page.find_element(By.ID, "panel")
    assert not panel.is_displayed()
    place = page.execute_script(
        "const plot = document.getElementById('pareto-plot');"
        "plot.scrollIntoView({ block: 'center', behavior: 'instant' });"
        "const box = plot.querySelectorAll('.points path')[3].getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2];"
    )
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        page.execute_cdp_cmd(
            "Input.dispatchMouseEvent",
            {"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1},
        )
    assert panel.is_displayed()
    assert "python -m benchmark reproduce" in panel.text
    scores, times = panel.find_elements(By.TAG_NAME, "table")
    for table in (scores, times):
        assert len(table.find_elements(By.CSS_SELECTOR, "tbody tr")) == 15  # benchmarks x seeds
    # What a run took is apart, with the threads that it had.
    assert "Latency of one image" in times.text and "Threads" in times.text
    assert "Latency of one image\n" not in scores.text
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not panel.is_displayed()


def test_the_keyboard_reaches_a_method_and_copies_its_command(visit, page_file):
    page = visit(page_file)
    name = page.find_element(By.CSS_SELECTOR, "#board-table .name")
    name.send_keys(Keys.ENTER)
    copy = page.find_element(By.CSS_SELECTOR, "#panel .copy")
    page.execute_script(
        "navigator.clipboard.writeText = async (text) => { window.copied = text; };"
    )
    copy.send_keys(Keys.ENTER)
    assert page.execute_script("return window.copied").startswith("python -m benchmark reproduce ")
    assert copy.text == "Copied"


def test_the_gallery_shows_pictures_and_errors(visit, page_file):
    page = visit(page_file)
    widths = (
        "return Promise.all([...document.querySelectorAll('#shots img')]"
        ".map(i => i.decode().then(() => i.naturalWidth)))"
    )
    shown = page.execute_script(widths)
    assert shown and set(shown) == {80}
    page.find_element(By.CSS_SELECTOR, "input[value='error']").click()
    assert set(page.execute_script(widths)) == {80}
    # Alpha of the overlay: right pixels let the image through, wrong ones do not.
    alphas = page.execute_script(
        "const i = [...document.querySelectorAll('#shots .over')].at(-1);"
        "return i.decode().then(() => { const c = document.createElement('canvas');"
        "c.width = i.naturalWidth; c.height = i.naturalHeight; const g = c.getContext('2d');"
        "g.drawImage(i, 0, 0); const d = g.getImageData(0, 0, c.width, c.height).data;"
        "return [...new Set(d.filter((_, k) => k % 4 === 3))]; })"
    )
    assert sorted(alphas) == [0, 200, 235]


def test_storage_grows_with_the_tasks(visit, page_file):
    page = visit(page_file)
    Select(page.find_element(By.ID, "group")).select_by_visible_text("resnet50")
    script = "return [...document.querySelectorAll('.amount')].map(e => e.textContent)"
    ten = page.execute_script(script)
    page.execute_script(
        "const t = document.getElementById('tasks');"
        "t.value = 100; t.dispatchEvent(new Event('input'));"
    )
    hundred = page.execute_script(script)
    assert len(ten) == len(hundred) == 2 and ten != hundred
    # linear: 4 bytes x 5,526,000 of backbone and 100 times 4 x 400,000 + 1,800.
    assert hundred[0] == "182.3 MB"


def test_every_kind_of_curve_is_drawn(visit, page_file):
    page = visit(page_file)
    kinds = Select(page.find_element(By.ID, "curve-kind"))
    seen = []
    for option in [option.text for option in kinds.options]:
        kinds.select_by_visible_text(option)
        seen.append(plotted(page, "curve-plot", 0))
    assert len(seen) == 3 and all(len(x) == len(y) > 2 for x, y in seen)
    assert len({str(x) for x, _ in seen}) == 3


def test_text_of_a_record_never_becomes_markup(visit, evil_file):
    page = visit(evil_file)
    assert errors(page) == []
    page.find_element(By.CSS_SELECTOR, "#board-table .name").click()
    # An alert would make this call raise.
    assert page.find_element(By.ID, "panel-title").text.startswith(EVIL)
    assert page.title.startswith(EVIL)
    assert page.execute_script("return document.querySelectorAll('img[src=x]').length") == 0
    drawn = page.execute_script(
        "return [...document.querySelectorAll('#pareto-plot text')].map(e => e.textContent)"
    )
    assert any(text.startswith("<script>alert") for text in drawn)
    assert page.execute_script("return document.querySelectorAll('svg script').length") == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_theme_follows_the_system_and_a_button_turns_it(visit, page_file, theme):
    page = visit(page_file, theme=theme)
    paper = "return getComputedStyle(document.body).backgroundColor"
    text = "return getComputedStyle(document.querySelector('#pareto-plot .xtick text')).fill"
    before = page.execute_script(paper), page.execute_script(text)
    assert (sum(map(int, before[0][4:-1].split(","))) < 150) == (theme == "dark")
    page.find_element(By.ID, "theme").click()
    after = page.execute_script(paper), page.execute_script(text)
    assert before[0] != after[0] and before[1] != after[1]


@pytest.mark.parametrize("width", [360, 820])
def test_narrow_pages_do_not_scroll_sideways(visit, page_file, evil_file, width):
    for path in (page_file, evil_file):
        page = visit(path, width=width)
        size = "return document.documentElement.scrollWidth"
        assert page.execute_script(size) <= width
        page.find_element(By.CSS_SELECTOR, "#board-table .name").click()
        assert page.execute_script(size) <= width


def test_print_is_light_and_the_screen_comes_back(visit, page_file):
    page = visit(page_file, theme="dark")
    page.execute_script(
        "addEventListener('afterprint', () => { window.printed = true; });"
        "new MutationObserver(() => { window.seen = [...(window.seen || []),"
        "document.documentElement.dataset.theme]; })"
        ".observe(document.documentElement, { attributeFilter: ['data-theme'] });"
    )
    page.execute_cdp_cmd("Page.printToPDF", {})
    page.execute_async_script(
        "const done = arguments[0];"
        "const wait = () => window.printed ? done() : setTimeout(wait, 20); wait();"
    )
    assert page.execute_script("return document.documentElement.dataset.theme") == "dark"
    width = "return document.getElementById('pareto-plot').layout.width"
    assert page.execute_script(width) > 1000


def test_on_one_benchmark_there_are_no_ranks_and_commands_are_code(visit, tmp_path):
    runs = records.frame(records.grid(["spm", "linear"], 2, ["camvid"]))
    words = "python -m benchmark run --benchmarks camvid --methods {} --seeds 0 --weights none"
    runs["command"] = [words.format(name) for name in runs["method"]]
    runs["weights"] = "none"
    found = assess(Runs(runs), replicates=20)
    found.pairs["significant"] = False
    path = tmp_path / "index.html"
    path.write_text(render("t", Runs(runs), found), encoding="utf-8")
    page = visit(path)
    assert page.find_element(By.ID, "pair-table").is_displayed()
    assert not page.find_element(By.ID, "rank-part").is_displayed()
    codes = page.find_elements(By.CSS_SELECTOR, ".lead .caveats code")
    assert any(code.text.startswith("python -m benchmark run ") for code in codes)
    assert "`" not in page.find_element(By.CSS_SELECTOR, ".lead").text

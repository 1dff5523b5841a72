"""The page of `serve` in a real browser: a picture in, an overlay with a legend out."""

import contextlib
import io
import threading
import time

import numpy as np
import pytest
from PIL import Image

from benchmark.inference.tasks import Tasks
from benchmark.serving.app import Service, application
from benchmark.serving.settings import Limits
from tests.helpers.networks import store_network
from tests.helpers.soak import free_port

pytest.importorskip("selenium", reason="selenium is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")

import uvicorn
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

TOKEN = "a-token-of-this-test"

DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
document.getElementById("drop").dispatchEvent(
  new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
"""

PIXEL = """
const [x, y] = arguments, canvas = document.getElementById("canvas");
return [canvas.width, canvas.height, ...canvas.getContext("2d").getImageData(x, y, 1, 1).data];
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    root, found = tmp_path_factory.mktemp("served"), Tasks("demo_vit", device="cpu")
    found.add("cells", store_network(root, "spm", "cells"))
    found.add("streets", store_network(root, "linear", "streets"))
    return found


@contextlib.contextmanager
def served(tasks, token=""):
    """The address of a service in a thread of this process."""
    port = free_port()
    app = application(Service(tasks, Limits(), token))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def browser(chromium):
    """The browser with a way to this machine, and to no other."""
    ways = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    command = "Network.emulateNetworkConditions"
    chromium.execute_cdp_cmd(command, {"offline": False, **ways})
    chromium.get_log("browser")
    yield chromium
    chromium.execute_cdp_cmd(command, {"offline": True, **ways})


def picture(height=64, width=96):
    small = np.random.default_rng(3).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(small.repeat(8, 0).repeat(8, 1)).save(file, "PNG")
    return file.getvalue()


def wait(browser, condition):
    WebDriverWait(browser, 20).until(condition)


def legend(browser):
    # In one go: the page may put new items in the place of these at any time.
    script = "return [...document.querySelectorAll('#legend li')].map(item => item.textContent)"
    return browser.execute_script(script)


def set_strength(browser, value):
    browser.execute_script(
        "const s = document.getElementById('strength'); s.value = arguments[0];"
        "s.dispatchEvent(new Event('input'));",
        value,
    )


def expected(tasks, name, body):
    """The legend: class and share, the largest first."""
    mask = tasks[name].predict(io.BytesIO(body))
    counts = np.bincount(mask.ravel(), minlength=len(tasks[name].classes))
    order = sorted(np.flatnonzero(counts), key=lambda index: (-counts[index], index))
    return [(tasks[name].classes[index], 100 * counts[index] / mask.size) for index in order]


def has_legend(browser, tasks, name, body):
    """Once the legend is that of the picture."""
    wanted = expected(tasks, name, body)

    def shown(_):
        texts = [text.rpartition(", ") for text in legend(browser)]
        return len(texts) == len(wanted) and all(
            (label == name or {label, name} <= {one for one, _ in wanted})
            and abs(float(share.removesuffix(" %").removeprefix("below ")) - number) <= 0.11
            for (label, _, share), (name, number) in zip(texts, wanted, strict=True)
        )

    wait(browser, shown)


def test_a_dropped_picture_shows_its_overlay_and_legend(browser, tasks, tmp_path):
    import base64

    body = picture()
    path = tmp_path / "chosen.png"
    path.write_bytes(body)
    with served(tasks) as address:
        browser.get(address)
        task = Select(browser.find_element(By.ID, "task"))
        wait(browser, lambda _: len(task.options) == 2)
        assert browser.find_element(By.ID, "backbone").text == "demo_vit"
        browser.execute_script(DROP, base64.b64encode(body).decode())
        has_legend(browser, tasks, "cells", body)
        # Without the picture under it, the overlay is the mask in the task's colours.
        set_strength(browser, 1)
        mask, palette = tasks["cells"].predict(io.BytesIO(body)), tasks["cells"].palette
        for x, y in ((0, 0), (50, 20), (95, 63)):
            found = browser.execute_script(PIXEL, x, y)
            assert found == [96, 64, *palette[mask[y, x]].tolist(), 255]
        set_strength(browser, 0)
        shown = np.asarray(Image.open(io.BytesIO(body)))
        assert browser.execute_script(PIXEL, 50, 20)[2:5] == shown[20, 50].tolist()
        task.select_by_visible_text("streets")
        has_legend(browser, tasks, "streets", body)
        # The same picture, chosen by hand.
        browser.find_element(By.ID, "file").send_keys(str(path))
        has_legend(browser, tasks, "streets", body)
        errors = [one for one in browser.get_log("browser") if one["level"] == "SEVERE"]
        assert errors == []
        asked = browser.execute_script(
            "return performance.getEntriesByType('resource').map(e => e.name)"
        )
        assert asked and all(name.startswith((address, "blob:", "data:")) for name in asked)


def test_what_is_wrong_is_said_and_the_next_picture_works(browser, tasks, tmp_path):
    wrong, right = tmp_path / "wrong.png", tmp_path / "right.png"
    wrong.write_bytes(b"no image")
    right.write_bytes(picture())
    with served(tasks) as address:
        browser.get(address)
        message = browser.find_element(By.ID, "message")
        wait(browser, lambda _: browser.find_elements(By.CSS_SELECTOR, "#task option"))
        file = browser.find_element(By.ID, "file")
        file.send_keys(str(wrong))
        wait(browser, lambda _: "no JPEG, PNG, BMP, TIFF or WebP" in message.text)
        file.send_keys(str(right))
        has_legend(browser, tasks, "cells", right.read_bytes())
        assert message.text == ""


def test_a_token_is_asked_for_and_used(browser, tasks, tmp_path):
    path = tmp_path / "right.png"
    path.write_bytes(picture())
    with served(tasks, TOKEN) as address:
        browser.get(address)
        token = browser.find_element(By.ID, "token")
        wait(browser, lambda _: token.is_displayed())
        assert "a token is needed" in browser.find_element(By.ID, "message").text
        token.send_keys(TOKEN, "\n")
        wait(browser, lambda _: browser.find_elements(By.CSS_SELECTOR, "#task option"))
        browser.find_element(By.ID, "file").send_keys(str(path))
        has_legend(browser, tasks, "cells", path.read_bytes())

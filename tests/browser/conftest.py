"""Headless Chromium without a network, and the pages that it opens from disk."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.analysis.runs import Runs
from benchmark.reporting.html.page import render
from tests.browser import standin
from tests.helpers import records

EVIL = "<script>alert(1)</script>"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--force-device-scale-factor=1",
)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("needs chromium and chromedriver on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    session.execute_cdp_cmd("Network.enable", {})
    session.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
    )
    yield session
    session.quit()


@pytest.fixture(scope="session")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with every section, of two backbones with three seeds."""
    other = [
        item.model_copy(update={"backbone": "resnet50", "run_id": f"b{item.run_id[1:]}"})
        for item in records.grid(["linear", "norm"], seeds=3)
    ]
    failed = records.record(
        "mona", seed=0, status="failed", reason="shapes differ", command="python -m benchmark run"
    )
    runs = records.timed([*records.grid(seeds=3), *other, failed])
    html = render(
        "small",
        Runs(runs),
        standin.assess(runs),
        standin.pictures(runs, "camvid"),
        standin.lines(runs, "camvid"),
    )
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def mixed_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two backbones that were timed with other numbers of threads."""
    runs = records.timed(
        [
            item.model_copy(update={"backbone": backbone})
            for backbone in ("vit", "resnet50")
            for item in records.grid(["full", "linear"])
        ]
    )
    runs.loc[runs["backbone"] == "vit", "timing.threads"] = 2
    path = tmp_path_factory.mktemp("mixed") / "index.html"
    path.write_text(render("small", Runs(runs), standin.assess(runs)), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def evil_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of records in which every text is markup."""
    runs = records.frame(
        [
            records.record(f"{EVIL}{method}", f"{EVIL}set", miou=0.4 + 0.1 * place, seed=seed)
            for place, method in enumerate(("one", "two"))
            for seed in range(2)
        ]
        + [records.record("three", f"{EVIL}set", status="failed", reason=EVIL, command=EVIL)]
    )
    runs["backbone"] = f"{EVIL}vit</script><img src=x onerror=alert(2)>"
    runs["command"] = f"run {EVIL}"
    pictures = standin.pictures(runs[runs["status"] == "done"], f"{EVIL}set")
    html = render(
        EVIL, Runs(runs), standin.assess(runs), pictures, standin.lines(runs, f"{EVIL}set")
    )
    path = tmp_path_factory.mktemp("evil") / "index.html"
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture
def visit(chromium: Any) -> Callable[..., Any]:
    """Opens a page anew: visit(path, width=1200, theme="light")."""
    from selenium.webdriver.support.ui import WebDriverWait

    def open_page(path: Path, width: int = 1200, theme: str = "light") -> Any:
        chromium.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {
                "features": [
                    {"name": "prefers-color-scheme", "value": theme},
                    # A click in the middle of a smooth scroll hits something else.
                    {"name": "prefers-reduced-motion", "value": "reduce"},
                ]
            },
        )
        chromium.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        chromium.get_log("browser")
        chromium.get(path.as_uri())
        # The driver comes back now and then before a large page has run its scripts.
        ready = "return document.documentElement.dataset.ready"
        WebDriverWait(chromium, 20).until(lambda page: page.execute_script(ready))
        return chromium

    return open_page

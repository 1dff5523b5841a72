"""The routes: right answers, and one line for everything that is wrong."""

import io
import json
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from benchmark.serving.app import Service, application
from benchmark.serving.settings import Limits
from tests.unit.serving.conftest import picture

LIMITS = Limits(body=100_000, pixels=40_000, queue=4, seconds=20.0)
TOKEN = "a-token-of-this-test"


@pytest.fixture(scope="module")
def client(tasks):
    with TestClient(application(Service(tasks, LIMITS, ""))) as client:
        yield client


def post(client, task="cells", body=None, **options):
    body = picture() if body is None else body
    return client.post(f"/v1/tasks/{task}:predict", content=body, **options)


def mask_of(response):
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(io.BytesIO(response.content)))


@pytest.mark.parametrize("task", ["cells", "streets", "lora"])
def test_a_mask_is_what_the_task_itself_says(client, tasks, task):
    for kind, seed in (("PNG", 0), ("BMP", 1), ("JPEG", 2), ("TIFF", 3)):
        body = picture(kind=kind, seed=seed)
        response = post(client, task, body)
        assert response.headers["content-type"] == "image/png"
        assert np.array_equal(mask_of(response), tasks[task].predict(io.BytesIO(body)))


def test_run_lengths_and_forms(client, tasks):
    mask = tasks["cells"].predict(io.BytesIO(picture()))
    file = {"image": ("any name", picture())}
    for response in (
        post(client, headers={"Accept": "application/json"}),
        client.post("/v1/tasks/cells:predict?format=rle", files=file),
    ):
        content = response.json()
        assert (content["task"], content["size"]) == ("cells", [60, 80])
        found = {one["id"]: one for one in content["classes"]}
        assert {index: one["pixels"] for index, one in found.items()} == {
            int(index): int((mask == index).sum()) for index in np.unique(mask)
        }
        assert all(one["name"] == tasks["cells"].classes[index] for index, one in found.items())
    accepted = post(client, params={"format": "png"}, headers={"Accept": "application/json"})
    assert np.array_equal(mask_of(accepted), mask)


@pytest.mark.parametrize(
    ("height", "width", "mode"),
    [(1, 1, "RGB"), (1, 300, "L"), (60, 80, "RGBA"), (60, 80, "L"), (60, 80, "I;16"), (7, 5, "LA")],
)
def test_odd_images_are_taken(client, tasks, height, width, mode):
    body = picture(height, width, mode)
    mask = mask_of(post(client, body=body))
    assert mask.shape == (height, width)
    assert np.array_equal(mask, tasks["cells"].predict(io.BytesIO(body)))


def bomb(side=60_000):
    """A PNG whose header says billions of pixels."""
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0),
        b"IDAT": zlib.compress(bytes(1000)),
    }
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, content in chunks.items():
        parts += [struct.pack(">I", len(content)), name + content]
        parts.append(struct.pack(">I", zlib.crc32(name + content)))
    return b"".join(parts)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 422, "the body is empty; send an image"),
        (b"no image", 422, "the body is no JPEG, PNG, BMP, TIFF or WebP file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", 422, "the body is no JPEG"),
        (picture()[:200], 422, "the image is truncated or damaged"),
        (bomb(), 413, "has more than 178 million pixels"),
        (bomb(300), 413, "the image has 90000 pixels; at most 40000 are taken"),
        (b"II*\0" + bytes(60), 422, "the image is truncated or damaged"),
        (picture(210, 210), 413, "the image has 44100 pixels"),
        (bytes(100_001), 413, "the body has more than 100000 bytes"),
    ],
)
def test_bodies_that_are_refused(client, body, status, message):
    response = post(client, body=body)
    assert response.status_code == status, response.text
    (text,) = response.json().values()
    assert message in text and "\n" not in text and "your own source" not in text
    assert client.get("/health").json() == {"status": "ok"}


def test_bodies_of_unknown_length_are_counted(client):
    response = post(client, body=(bytes(1000) for _ in range(200)))
    assert response.status_code == 413


def test_requests_that_are_refused(client):
    def refused(response, status, message):
        assert response.status_code == status and message in response.json()["error"]

    refused(post(client, "cell"), 404, "unknown task 'cell'; did you mean 'cells'?")
    refused(post(client, "..%2F..%2Fetc%2Fpasswd"), 404, "Not Found")
    refused(post(client, "%2e%2e"), 404, "unknown task '..'")
    refused(post(client, params={"format": "exe"}), 422, "format='exe': choose png or rle")
    refused(client.get("/v1/tasks/cells:predict"), 405, "Method Not Allowed")
    refused(client.get("/nowhere"), 404, "Not Found")
    form = {"headers": {"Content-Type": "multipart/form-data; boundary=x"}}
    refused(post(client, body=b"--y\r\n", **form), 422, "the form")
    refused(post(client, body=b"--x--\r\n", **form), 422, "no file in its field 'image'")
    no_boundary = {"headers": {"Content-Type": "multipart/form-data"}}
    refused(post(client, **no_boundary), 422, "the form cannot be read")
    files = {"other": ("x", picture())}
    response = client.post("/v1/tasks/cells:predict", files=files)
    refused(response, 422, "no file in its field 'image'")


def test_tasks_and_page_and_metrics(client, tasks):
    content = client.get("/v1/tasks").json()
    assert content["backbone"] == "demo_vit"
    listed = {one["name"]: one for one in content["tasks"]}
    assert list(listed) == ["cells", "streets", "lora"]
    assert listed["lora"]["passes_alone"] and listed["cells"]["passes_alone"] is None
    assert [one["name"] for one in listed["streets"]["classes"]] == list(tasks["streets"].classes)
    page = client.get("/")
    assert (
        "<title>" in page.text and "default-src 'none'" in page.headers["content-security-policy"]
    )
    assert "http://" not in page.text and "https://" not in page.text
    families = {
        one.name: one for one in text_string_to_metric_families(client.get("/metrics").text)
    }
    counts = {
        (s.labels["task"], s.labels["status"]): s.value
        for s in families["petseg_requests"].samples
        if s.name.endswith("_total")
    }
    assert counts["cells", "200"] >= 1 and counts["", "404"] >= 1
    assert not [task for task, _ in counts if task not in (*tasks, "")]


def test_a_token_is_asked_for_but_not_by_page_and_health(tasks):
    service = Service(tasks, LIMITS, TOKEN)
    with TestClient(application(service)) as client:
        assert client.get("/").status_code == client.get("/health").status_code == 200
        for wrong in ({}, {"Authorization": "Bearer no"}, {"Authorization": TOKEN}):
            for path in ("/v1/tasks", "/metrics", "/openapi.json"):
                assert client.get(path, headers=wrong).status_code == 401
            assert post(client, headers=wrong).status_code == 401
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert client.get("/v1/tasks", headers=right).status_code == 200
        mask_of(post(client, headers=right))


def test_other_host_names_are_refused_on_loopback(tasks):
    service = Service(tasks, LIMITS, "")
    with TestClient(application(service, ("localhost", "::1"))) as client:
        for host, status in (
            *(("localhost", 200), ("localhost:8000", 200), ("[::1]:8000", 200)),
            *(("evil.example", 400), ("localhost.evil.example", 400), ("[", 400), ("", 400)),
        ):
            assert client.get("/v1/tasks", headers={"Host": host}).status_code == status, host


class Held:
    """Makes the passes of a service wait, so that requests pile up."""

    def __init__(self, service, monkeypatch):
        self.open, masks = threading.Event(), service.engine.masks

        def waiting(key, images):
            assert self.open.wait(20)
            return masks(key, images)

        monkeypatch.setattr(service.engine, "masks", waiting)


def test_more_requests_than_the_queue_holds_are_refused_at_once(tasks, monkeypatch):
    service = Service(tasks, LIMITS, "")
    with TestClient(application(service)) as client:
        held, results = Held(service, monkeypatch), []
        threads = [
            threading.Thread(target=lambda: results.append(post(client).status_code))
            for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        while len(results) < 20 - LIMITS.queue:
            threads[0].join(0.01)
        assert set(results) == {503}
        held.open.set()
        for thread in threads:
            thread.join(30)
        assert sorted(results) == [200] * LIMITS.queue + [503] * (20 - LIMITS.queue)
        refused = post(client)
        assert refused.status_code == 200


def test_a_request_whose_time_runs_out_is_told_so_and_the_next_is_answered(tasks, monkeypatch):
    limits = LIMITS.model_copy(update={"seconds": 0.2})
    service = Service(tasks, limits, "")
    with TestClient(application(service)) as client:
        held = Held(service, monkeypatch)
        late = post(client)
        assert late.status_code == 504 and "within 0.2 s" in late.json()["error"]
        held.open.set()
        service.limits = LIMITS
        mask_of(post(client))


def test_memory_that_runs_out_is_said_and_the_service_goes_on(tasks, monkeypatch):
    service = Service(tasks, LIMITS, "")
    with TestClient(application(service)) as client:
        with monkeypatch.context() as patch:

            def full(key, images):
                raise RuntimeError("out of memory\nby far")

            patch.setattr(service.engine, "masks", full)
            response = post(client)
            assert response.status_code == 503
            assert json.loads(response.text)["error"].endswith("out of memory by far")
        mask_of(post(client))

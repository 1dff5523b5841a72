"""`--push` against a hub on the loopback interface."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmark.core.errors import UserError
from benchmark.export import folder
from benchmark.export.formats import export
from benchmark.export.trained import open_run


class Hub(BaseHTTPRequestHandler):
    """What huggingface_hub asks of a hub to make a repository and commit small files to it."""

    taken: list
    refuse = False

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/repos/create":
            self.answer({"url": "https://huggingface.co/me/bolts"}, 400 if self.refuse else 200)
        elif self.path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            self.answer(
                {
                    "files": [
                        {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                        for f in files
                    ]
                }
            )
        elif "/commit/main" in self.path:
            self.taken += [json.loads(line) for line in body.splitlines()]
            self.answer({"commitUrl": "https://huggingface.co/me/bolts/commit/1", "commitOid": "1"})
        else:
            self.answer({})

    def do_GET(self):
        self.answer({"id": "me/bolts", "sha": "0", "siblings": []})

    def answer(self, content, status=200):
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    Own = type("Own", (Hub,), {"taken": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    import huggingface_hub

    made = huggingface_hub.HfApi(endpoint=f"http://127.0.0.1:{server.server_port}", token="hf_x")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
    yield Own
    server.shutdown()


def test_a_folder_is_uploaded_under_its_name(runs, tmp_path, hub):
    export(open_run(runs("linear")), "folder", tmp_path / "out")
    assert folder.push(tmp_path / "out", "me/bolts").endswith("/me/bolts")
    sent = {one["value"]["path"] for one in hub.taken if one["key"] == "file"}
    assert sent == {"README.md", "record.json", "delta.safetensors"}
    assert 'snapshot_download("me/bolts")' in (tmp_path / "out" / "README.md").read_text()


def test_a_refusal_is_one_line(runs, tmp_path, hub):
    hub.refuse = True
    export(open_run(runs("linear")), "folder", tmp_path / "out")
    with pytest.raises(UserError, match=r"--push me/bolts: .*BadRequestError.*was written"):
        folder.push(tmp_path / "out", "me/bolts")
    with pytest.raises(UserError, match="--push not a name"):
        folder.push(tmp_path / "out", "not a name")

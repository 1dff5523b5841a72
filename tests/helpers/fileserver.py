"""A web server on loopback that misbehaves as told."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Answer:
    """How one request is answered.

    Attributes:
        cut: bytes of the body after which the connection ends.
        ranges: whether Range is understood.
        if_range: whether If-Range is heeded.
        tag: the ETag; empty = none.
        chunked: without Content-Length.
        status: sent in place of the file.
        redirect: sent in place of the file.
        pause: seconds before each of eight pieces of the body.
        change: what the file on the server turns into before this request is answered.
    """

    cut: int | None = None
    ranges: bool = True
    if_range: bool = True
    tag: str = '"one"'
    chunked: bool = False
    status: int | None = None
    redirect: str = ""
    pause: float = 0.0
    change: bytes | None = None


@dataclass
class Asked:
    """One request, and how many bytes of the body were sent."""

    path: str
    range: str | None
    if_range: str | None
    sent: int = 0


@dataclass
class FileServer:
    """Files by path; `answers` are used up one a request, then comes `default`."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    default: Answer = field(default_factory=Answer)
    asked: list[Asked] = field(default_factory=list)

    def url(self, path: str) -> str:
        return self.address + path


def _answer(handler: BaseHTTPRequestHandler, server: FileServer) -> None:
    answer = server.answers.pop(0) if server.answers else server.default
    headers = handler.headers
    asked = Asked(handler.path, headers.get("Range"), headers.get("If-Range"))
    server.asked.append(asked)
    handler.close_connection = True
    if answer.change is not None:
        server.files[handler.path] = answer.change
    if answer.redirect:
        handler.send_response(302)
        handler.send_header("Location", answer.redirect)
        handler.end_headers()
        return
    body = server.files.get(handler.path)
    if answer.status or body is None:
        handler.send_error(answer.status or 404)
        return
    begin = 0
    if answer.ranges and asked.range and (not answer.if_range or asked.if_range == answer.tag):
        begin = int(re.fullmatch(r"bytes=(\d+)-", asked.range)[1])
    if begin >= len(body) > 0 and begin:
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(body)}")
        handler.end_headers()
        return
    handler.send_response(206 if begin else 200)
    if begin:
        handler.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
    if answer.tag:
        handler.send_header("ETag", answer.tag)
    rest = body[begin:]
    if answer.chunked:
        handler.send_header("Transfer-Encoding", "chunked")
    else:
        handler.send_header("Content-Length", str(len(rest)))
    handler.end_headers()
    piece = max(1, len(rest) // 8)
    for i in range(0, len(rest), piece):
        data = rest[i : i + piece]
        if answer.cut is not None:
            data = data[: answer.cut - asked.sent]
        if answer.pause:
            time.sleep(answer.pause)
        if data:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if answer.chunked else data)
            asked.sent += len(data)
    if answer.chunked and answer.cut is None:
        handler.wfile.write(b"0\r\n\r\n")


@contextmanager
def serving() -> Iterator[FileServer]:
    """Runs a server in a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with suppress(ConnectionError):  # the client left on purpose
                _answer(self, server)

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = FileServer(f"http://127.0.0.1:{http.server_port}")
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()

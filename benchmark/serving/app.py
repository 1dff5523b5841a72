"""The service as a FastAPI application."""

import asyncio
import hmac
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect

from benchmark.core.errors import on_one_line, printable
from benchmark.inference.predictor import Predictor
from benchmark.inference.tasks import Tasks, UnknownTask
from benchmark.serving import encode
from benchmark.serving.batcher import Batcher, Closed, Late
from benchmark.serving.decode import Refused, read_image
from benchmark.serving.engine import Engine
from benchmark.serving.metrics import Metrics
from benchmark.serving.settings import Limits, Settings

Format = Literal["png", "rle"]

FIELD = "image"
"""Of a form that holds the image."""

DRAIN_SECONDS = 2.0
"""For the rest of a refused body: a connection that is closed before loses the answer."""

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src "
    "'unsafe-inline'; img-src blob: data:; connect-src 'self'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Service:
    """What the handlers of requests share.

    Args:
        tasks: that are served.
        limits: of requests.
        token: that requests must carry; "" = none.
    """

    def __init__(self, tasks: Tasks, limits: Limits, token: str) -> None:
        self.tasks, self.limits, self.token = tasks, limits, token
        self.engine, self.metrics = Engine(tasks), Metrics()
        self.batcher = Batcher(self.engine, limits.batch, self.metrics.batches.observe)
        self.threads = ThreadPoolExecutor(max(2, os.cpu_count() or 1), "images")
        self.in_flight = 0
        self.page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")

    def close(self) -> None:
        """Answers what waits, then ends all threads."""
        self.batcher.close()
        self.threads.shutdown()

    async def predict(self, name: str, request: Request, wanted: Format) -> Response:
        """The mask of the image in a request.

        Raises:
            HTTPException: why there is none.
        """
        if self.in_flight >= self.limits.queue:
            raise await _refused(request, 503, "too many requests; try again", {"Retry-After": "1"})
        start = time.monotonic()
        self.in_flight += 1
        self.metrics.in_flight.inc()
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await self._predict(name, request, wanted)
        except ClientDisconnect:
            raise HTTPException(400, "the connection was lost") from None
        except (TimeoutError, Late):
            raise HTTPException(504, f"no answer within {self.limits.seconds:g} s") from None
        except Closed:
            raise HTTPException(503, "the service is ending") from None
        finally:
            self.in_flight -= 1
            self.metrics.in_flight.dec()
            if name in self.tasks:
                self.metrics.seconds.labels(name).observe(time.monotonic() - start)

    async def _predict(self, name: str, request: Request, wanted: Format) -> Response:
        try:
            predictor = self.tasks[name]
        except UnknownTask as error:
            raise await _refused(request, 404, str(error)) from None
        body = await _image_in(request, self.limits.body)
        try:
            image = await self._thread(read_image, predictor, body, self.limits.pixels)
            waiting = self.batcher.submit(name, image, self.limits.seconds)
            mask = await asyncio.wrap_future(waiting)
        except Refused as reason:
            raise HTTPException(reason.status, str(reason)) from reason
        except (MemoryError, RuntimeError) as error:
            problem = f"the image could not be computed: {on_one_line(error)}"
            raise HTTPException(503, problem) from error
        return await self._thread(_answer, name, predictor, mask, wanted)

    async def _thread(self, work: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.threads, work, *arguments)

    def allows(self, request: Request) -> bool:
        """Whether a request carries the token, where there is one."""
        given = request.headers.get("Authorization", "")
        return not self.token or hmac.compare_digest(
            given.encode(), f"Bearer {self.token}".encode()
        )

    def listed(self) -> dict[str, Any]:
        """What `/v1/tasks` says."""
        return {
            "backbone": self.tasks.backbone_name,
            "tasks": [
                {
                    "name": name,
                    "run_id": task.record.run_id,
                    "benchmark": task.record.benchmark,
                    "method": task.record.method,
                    "channels": task.task.channels,
                    "own_bytes": self.tasks.own_bytes(name),
                    "passes_alone": self.engine.alone.get(name),
                    "classes": [
                        {"id": index, "name": label, "colour": f"#{bytes(colour).hex()}"}
                        for index, (label, colour) in enumerate(
                            zip(task.classes, task.palette.tolist(), strict=False)
                        )
                    ],
                }
                for name, task in self.tasks.items()
            ],
        }


def build(settings: Settings) -> FastAPI:
    """The application; tasks are loaded here.

    Raises:
        UserError: a task cannot be loaded.
    """
    import torch

    from benchmark.planning.plugins import load_files

    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    load_files(settings.plugins)
    runs, tasks = list(settings.tasks.items()), None
    for name, run in runs:
        tasks = tasks or _tasks_for(run, settings)
        tasks.add(name, run)
    assert tasks is not None
    return application(Service(tasks, settings.limits, settings.token), settings.hosts)


def _tasks_for(run: str, settings: Settings) -> Tasks:
    """An empty collection on the backbone of a run."""
    from benchmark.inference.find import find_run

    backbone = find_run(run, settings.results).record.backbone
    return Tasks(
        backbone, results=settings.results, weights=settings.weights, device=settings.device
    )


def application(service: Service, hosts: tuple[str, ...] = ()) -> FastAPI:
    """The routes.

    Args:
        service: answers them.
        hosts: names that a request may call the server by; empty = any.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(title="petseg-bench", lifespan=lifespan, docs_url=None, redoc_url=None)

    @app.middleware("http")
    async def guarded(request: Request, call_next: Any) -> Response:
        open_to_all = request.url.path in ("/", "/health")
        response: Response
        # A web page elsewhere must not reach a service on loopback under a name of its own.
        if hosts and _name_in(request.headers.get("host", "")) not in hosts:
            response = _error(HTTPException(400, "the service has another host name"))
        elif not open_to_all and not service.allows(request):
            response = _error(
                await _refused(request, 401, "a token is needed", {"WWW-Authenticate": "Bearer"})
            )
        else:
            response = await call_next(request)
        response.headers.update(_HEADERS)
        return response

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        return _error(error)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        return _error(HTTPException(500, on_one_line(error)))

    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        """A web page to try tasks on."""
        return service.page

    @app.get("/health")
    async def health() -> JSONResponse:
        """Whether images can be computed."""
        alive = service.batcher.is_alive
        return JSONResponse({"status": "ok" if alive else "failed"}, 200 if alive else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Counts and times in the text format of Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/tasks")
    async def tasks() -> dict[str, Any]:
        """The tasks with their classes and colours."""
        return service.listed()

    @app.post("/v1/tasks/{name}:predict")
    async def predict(name: str, request: Request) -> Response:
        """The mask of the image in the body, or in the field `image` of a form."""
        task = name if name in service.tasks else ""
        try:
            response = await service.predict(name, request, _format(request))
        except HTTPException as error:
            service.metrics.requests.labels(task, str(error.status_code)).inc()
            raise
        except Exception:
            service.metrics.requests.labels(task, "500").inc()
            raise
        service.metrics.requests.labels(task, "200").inc()
        return response

    return app


def _name_in(host: str) -> str | None:
    """The name or address in a header `Host`, without its port."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _error(error: HTTPException) -> JSONResponse:
    text = printable(str(error.detail))
    return JSONResponse({"error": text}, error.status_code, dict(error.headers or {}))


def _format(request: Request) -> Format:
    """What is wanted: as the query says, else the header `Accept`."""
    asked = request.query_params.get("format")
    if asked is None:
        return "rle" if "application/json" in request.headers.get("accept", "") else "png"
    if asked not in ("png", "rle"):
        raise HTTPException(422, f"format={asked[:40]!r}: choose png or rle")
    return "png" if asked == "png" else "rle"


async def _refused(
    request: Request, status: int, text: str, headers: dict[str, str] | None = None
) -> HTTPException:
    """The refusal of a request, whose body is thrown away first."""
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in request.stream():
                pass
    except Exception:
        pass  # it goes on, or has been read already
    return HTTPException(status, text, headers)


async def _image_in(request: Request, most: int) -> bytes:
    """The image of a request: its body, or a file in a form.

    Raises:
        HTTPException: there is none, or it is too large.
    """
    too_large = f"the body has more than {most} bytes"
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > most:
        raise await _refused(request, 413, too_large)
    parts, length = [], 0
    async for part in request.stream():
        length += len(part)
        if length > most:
            raise await _refused(request, 413, too_large)
        parts.append(part)
    body = b"".join(parts)
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        body = await _file_in(request, body)
    if not body:
        raise HTTPException(422, "the body is empty; send an image")
    return body


async def _file_in(request: Request, body: bytes) -> bytes:
    from starlette.datastructures import UploadFile
    from starlette.formparsers import MultiPartParser

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        parser = MultiPartParser(request.headers, stream(), max_files=1, max_fields=8)
        form = await parser.parse()
    except (MultiPartException, ValueError, KeyError) as error:
        raise HTTPException(422, f"the form cannot be read: {on_one_line(error)}") from error
    try:
        file = form.get(FIELD)
        if not isinstance(file, UploadFile):
            raise HTTPException(422, f"the form has no file in its field {FIELD!r}")
        return await file.read()
    finally:
        await form.close()


def _answer(name: str, predictor: Predictor, mask: np.ndarray, wanted: Format) -> Response:
    if wanted == "png":
        return Response(encode.png(mask, predictor.palette), media_type="image/png")
    found = encode.classes(mask, predictor.classes)
    return JSONResponse({"task": name, "size": list(mask.shape), "classes": found})

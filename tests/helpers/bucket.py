"""An S3 server on loopback that can be killed and started again with what it holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAME = "bucket"
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


class Bucket:
    """Moto's server with one bucket.

    Attributes:
        requests: what was asked since it began: method, path, bytes that were sent.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, int]] = []
        self._port = 0
        self.start()

    def start(self) -> None:
        """Starts it, on the same port as before."""
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self._port, verbose=False)
        self._server.start()
        _, self._port = self._server.get_host_and_port()
        app = self._server._server.app

        def counted(environ: Any, respond: Any) -> Any:
            size = int(environ.get("CONTENT_LENGTH") or 0)
            self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], size))
            return app(environ, respond)

        self._server._server.app = counted

    def stop(self) -> None:
        """Kills it; moto keeps what it holds in this process."""
        self._server.stop()

    @property
    def address(self) -> str:
        """Of the server."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """Of a folder in the bucket."""
        return f"s3://{NAME}/grid"


@contextmanager
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A server whose credentials are in the environment."""
    import boto3

    one = Bucket()
    monkeypatch.setenv("AWS_ENDPOINT_URL", one.address)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    for key in KEYS:
        monkeypatch.setenv(key, "testing")
    boto3.client("s3").create_bucket(Bucket=NAME)
    one.requests.clear()
    try:
        yield one
    finally:
        boto3.resource("s3").Bucket(NAME).objects.delete()
        boto3.client("s3").delete_bucket(Bucket=NAME)
        one.stop()
        import fsspec

        fsspec.get_filesystem_class("s3").clear_instance_cache()

"""An S3 server: moto's, over HTTP, with keys that may be refused or run out, and the endpoint of a container's role."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import boto3
from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "acis"
KEY, SECRET = "AKIAEXAMPLEKEY", "not-a-secret"
_CREDENTIALS = "/container-credentials"


@dataclass
class S3Server:
    """What a test knows of it, and how it breaks it."""

    port: int = 0
    refused: tuple[str, str] | None = None
    """Code and status of the answer to every request, as `("AccessDenied", "403")`."""
    lasting: bool = True
    """False: only the newest key that the container's role was given is accepted; each older one has run out."""
    given: list[str] = field(default_factory=list)
    """Keys that the role was given."""

    @property
    def url(self) -> str:
        """Endpoint."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables of whoever uses it by a lasting key."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": "eu-central-1",
        }

    @property
    def role(self) -> dict[str, str]:
        """Variables of a container with a role."""
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.url}{_CREDENTIALS}",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": "eu-central-1",
        }

    def client(self) -> Any:
        """The test's own client."""
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="eu-central-1",
        )

    def object_names(self, bucket: str = BUCKET) -> list[str]:
        """Of the bucket."""
        return sorted(one["Key"] for one in self.client().list_objects_v2(Bucket=bucket).get("Contents", ()))

    def answer(
        self, app: Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]
    ) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
        """The server with what breaks it."""

        def answered(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
            if environ["PATH_INFO"] == _CREDENTIALS:
                start("200 OK", [("Content-Type", "application/json")])
                return [self._credentials()]
            found = re.search(r"Credential=([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
            key = found[1] if found else ""
            refused = self.refused if key != KEY or self.lasting else None
            if not self.lasting and key != KEY and self.given[-1:] != [key]:
                refused = ("ExpiredToken", "400")
            if refused is None:
                return app(environ, start)
            code, status = refused
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start(f"{status} {HTTPStatus(int(status)).phrase}", [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>said by the test</Message></Error>".encode()]

        return answered

    def _credentials(self) -> bytes:
        """A new key each time, that runs out in a minute: the library asks for another one before each request."""
        self.given.append(f"ASIAEXAMPLE{len(self.given)}")
        until = datetime.now(UTC) + timedelta(minutes=1)
        given = {
            "AccessKeyId": self.given[-1],
            "SecretAccessKey": SECRET,
            "Token": "of-the-role",
            "Expiration": f"{until:%Y-%m-%dT%H:%M:%SZ}",
        }
        return json.dumps(given).encode()


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_: object) -> None:
        """Nothing: a test reads its own log."""


@contextmanager
def s3_server(*buckets: str) -> Iterator[S3Server]:
    """A server with these buckets, or one, and no others."""
    s3_backends.reset()  # the library keeps one state for all servers of a process
    found = S3Server()
    app = found.answer(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    found.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, name="s3", daemon=True)
    thread.start()
    try:
        client = found.client()
        for bucket in buckets or (BUCKET,):
            client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        client.close()

"""A server that speaks S3: moto's, over HTTP, in a process of its own. What it holds, it holds in memory.

It answers one request at a time, so a conditional put is as atomic as Amazon's; moto alone looks and puts in two
steps. `lose_answers` makes it carry out requests and hang up, as a network does that breaks at the worst moment.
"""

import importlib.util
import itertools
import re
import sys
import tempfile
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from tests.services.processes import LOOPBACK, Process, free_port, listens

LOSE, COUNT = "/_lose/", "/_count"
ACCESS_KEY, SECRET_KEY, REGION = "test-access-key", "test-secret-key", "eu-central-1"
CHECKOUT = Path(__file__).resolve().parents[2]


def missing() -> str | None:
    """What has to be installed, None where it is there."""
    return None if importlib.util.find_spec("moto") else "moto is not installed: pip install 'moto[server]'"


class S3Server:
    """A running server as a test sees it: its endpoint, and buckets of the test's own."""

    def __init__(self, folder: Path):
        self.port = free_port()
        self.endpoint = f"http://{LOOPBACK}:{self.port}"
        self.process = Process(
            [sys.executable, "-m", "tests.services.s3", str(self.port)],
            folder / "s3.log",
            {"PYTHONPATH": str(CHECKOUT)},
        )

    @property
    def environ(self) -> dict[str, str]:
        """What leads AWS's own tools, and ours, to this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }

    def start(self) -> None:
        self.process.start(lambda: listens(self.port))

    def bucket(self) -> str:
        """The name of a new bucket."""
        name = f"b-{uuid.uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        return name

    def keys(self, bucket: str) -> list[str]:
        """The names of all objects in a bucket, sorted."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [each["Key"] for page in pages for each in page.get("Contents", ())]

    def delete(self, bucket: str, key: str) -> None:
        self.client.delete_object(Bucket=bucket, Key=key)

    def lose_answers(self, pattern: str, times: int = 1) -> None:
        """Carry out the next requests whose `METHOD /bucket/key` matches, but hang up without an answer."""
        url = f"{self.endpoint}{LOSE}{times}/{quote(pattern, safe='')}"
        with urllib.request.urlopen(url, timeout=30):
            pass

    def requests(self) -> int:
        """How many it has answered."""
        with urllib.request.urlopen(f"{self.endpoint}{COUNT}", timeout=30) as answer:
            return int(answer.read())

    @cached_property
    def client(self) -> Any:
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server of your own (about two seconds)."""
    with tempfile.TemporaryDirectory(prefix="featureflow-s3-", ignore_cleanup_errors=True) as folder:
        server = S3Server(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.process.kill()


def serve(port: int) -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, run_simple

    moto = DomainDispatcherApplication(create_backend_app)
    turn = threading.Lock()
    losing: list[tuple[re.Pattern[str], int]] = []
    answered = itertools.count()

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        with turn:
            if path.startswith(LOSE):
                times, _, pattern = path.removeprefix(LOSE).partition("/")
                losing.append((re.compile(unquote(pattern)), int(times)))
                start_response("204 No Content", [])
                return []
            if path == COUNT:
                start_response("200 OK", [])
                return [str(next(answered)).encode()]
            next(answered)
            said = list(moto(environ, start_response))
            if losing and losing[0][0].search(f"{method} {path}"):
                pattern_, left = losing.pop(0)
                if left > 1:
                    losing.insert(0, (pattern_, left - 1))
                environ["werkzeug.socket"].close()
            return said

    class Quiet(WSGIRequestHandler):
        def log(self, *_: object) -> None:
            return

    run_simple(LOOPBACK, port, answer, threaded=True, request_handler=Quiet)


if __name__ == "__main__":
    serve(int(sys.argv[1]))

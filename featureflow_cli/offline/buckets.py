"""Prefixes in buckets of S3, or of what speaks like it: where the offline store lies beyond one machine.

pyarrow's client reads and writes data files, deltalake's makes commits; both are told the same (`Connection`).
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featureflow_cli.errors import UsageError
from featureflow_cli.offline.cache import bring
from featureflow_cli.offline.places import LOG, Watch

if TYPE_CHECKING:
    import pyarrow as pa

SECONDS_TO_CONNECT = 3
SECONDS_TO_ANSWER = 20


@dataclass(frozen=True)
class Connection:
    """How a bucket is reached. None: as the environment says (AWS_…), else AWS itself.

    Without keys each client finds its own: a role of the machine, of the pod, or a web identity.
    """

    endpoint: str | None = None
    region: str | None = None
    path_style: bool | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)

    def completed(self, environ: Mapping[str, str]) -> "Connection":
        """With what the environment says, so that every client hears the same."""

        def first(given: str | None, *names: str) -> str | None:
            return given or next((environ[name] for name in names if environ.get(name)), None)

        own = self.access_key_id is not None
        return Connection(
            endpoint=(first(self.endpoint, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") or "").rstrip("/")
            or None,
            region=first(self.region, "AWS_REGION", "AWS_DEFAULT_REGION") or "us-east-1",
            path_style=self.path_style,
            access_key_id=first(self.access_key_id, "AWS_ACCESS_KEY_ID"),
            secret_access_key=first(self.secret_access_key, "AWS_SECRET_ACCESS_KEY"),
            session_token=self.session_token if own else first(self.session_token, "AWS_SESSION_TOKEN"),
        )


@dataclass(frozen=True)
class Bucket:
    """A prefix in a bucket: `s3://bucket/prefix`. Files are kept in the folder `cache` once they were read."""

    url: str
    connection: Connection
    cache: Path

    def __str__(self) -> str:
        return self.url

    @property
    def options(self) -> Mapping[str, str]:
        """As deltalake names them. A commit is a put that fails where the version is there: its default."""
        connection = self.connection
        named = {
            "AWS_ENDPOINT_URL": connection.endpoint,
            "AWS_REGION": connection.region,
            "AWS_ACCESS_KEY_ID": connection.access_key_id,
            "AWS_SECRET_ACCESS_KEY": connection.secret_access_key,
            "AWS_SESSION_TOKEN": connection.session_token,
            "AWS_ALLOW_HTTP": "true" if (connection.endpoint or "").startswith("http://") else None,
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": _virtual(connection.path_style),
            "aws_conditional_put": "etag",
            "connect_timeout": f"{SECONDS_TO_CONNECT}s",
            "timeout": f"{SECONDS_TO_ANSWER}s",
            "max_retries": "2",
            "retry_timeout": f"{SECONDS_TO_ANSWER}s",
        }
        return {name: value for name, value in named.items() if value is not None}

    def child(self, name: str) -> "Bucket":
        return Bucket(f"{self.url.rstrip('/')}/{name}", self.connection, self.cache)

    def holds_table(self) -> bool:
        from pyarrow import fs

        selector = fs.FileSelector(self._named(LOG), allow_not_found=True)
        return bool(self._system.get_file_info(selector))

    def prepare(self) -> None:
        return

    def put(self, path: str, content: "pa.Buffer") -> int:
        with self._system.open_output_stream(self._named(path)) as stream:
            stream.write(content)
        return time.time_ns() // 1_000_000

    def get(self, path: str) -> bytes:
        with self._system.open_input_stream(self._named(path)) as stream:
            found: bytes = stream.readall()
        return found

    def names(self, folder: str) -> list[str]:
        from pyarrow import fs

        return [found.base_name for found in self._system.get_file_info(fs.FileSelector(self._named(folder)))]

    def remove(self, path: str) -> None:
        try:
            self._system.delete_file(self._named(path))
        except FileNotFoundError:
            return

    def seal(self, path: str) -> None:
        return

    def full(self, path: str) -> str:
        return f"{self.url.rstrip('/')}/{path}"

    def local(self, files: Sequence[tuple[str, int]]) -> list[str]:
        folder = self.cache / self._named("")
        return bring(folder, files, lambda path: self._system.open_input_stream(self._named(path)))

    def dataset(self, paths: Sequence[str], schema: "pa.Schema") -> Any:
        import pyarrow.dataset as ds

        named = [self._named(path) for path in paths]
        return ds.dataset(named, schema=schema, format="parquet", filesystem=self._system)

    def watch(self) -> Watch:
        return _BucketWatch(self)

    def _named(self, path: str) -> str:
        return f"{self.url.removeprefix('s3://').rstrip('/')}/{path}"

    def stamp(self, path: str) -> bytes | None:
        """What S3 knows an object's content by; None where the object is not there. One request."""
        try:
            with self._system.open_input_file(self._named(path)) as file:
                found: bytes | None = file.metadata().get("ETag")
        except FileNotFoundError:
            return None
        return found

    @property
    def _system(self) -> Any:
        return _system(self.connection)


class _BucketWatch:
    """Looks at the newest version's file: it stays as it is, until the log's cleanup takes it."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._path = ""
        self._marked: bytes | None = None

    def mark(self, version: int) -> None:
        self._path = f"{LOG}/{version:020}.json"
        self._marked = self._bucket.stamp(self._path)

    def holds(self) -> bool:
        return self._marked is not None and self._bucket.stamp(self._path) == self._marked


@lru_cache(maxsize=8)
def _system(connection: Connection) -> Any:
    """One client for all that is reached in the same way; its threads and connections are shared."""
    from pyarrow import fs

    scheme, _, host = (connection.endpoint or "https://").rpartition("//")
    return fs.S3FileSystem(
        access_key=connection.access_key_id,
        secret_key=connection.secret_access_key,
        session_token=connection.session_token,
        region=connection.region,
        scheme="http" if scheme == "http:" else "https",
        endpoint_override=host or None,
        force_virtual_addressing=connection.path_style is False,
        allow_delayed_open=True,  # a small file is one request, not three
        background_writes=False,
        connect_timeout=SECONDS_TO_CONNECT,
        request_timeout=SECONDS_TO_ANSWER,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=3),
    )


def _virtual(path_style: bool | None) -> str | None:
    return None if path_style is None else str(not path_style).lower()


def opened(url: str, connection: Connection, cache: Path) -> Bucket:
    """The bucket's prefix that a URL names; UsageError where it is of a kind that is not known."""
    scheme, _, rest = url.partition("://")
    if scheme not in {"s3", "s3a"} or not rest.strip("/"):
        message = f"offline_store path '{url}': object storage is `s3://bucket/prefix`"
        raise UsageError(message, hint="others speak S3 too: set `offline_store: {options: {endpoint: …}}`")
    return Bucket(f"s3://{rest.rstrip('/')}", connection, cache)

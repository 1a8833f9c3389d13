"""Single connections to Redis, and what its errors mean for the user: the one home of the client library.

Nothing here is ever repeated: redis-py's own retries are off, since it would repeat a marker whose states are
gone (design.md 4 [first]).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from redis import exceptions as errors
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.retry import Retry

from featureflow_cli.errors import StoreUnavailable, UsageError
from featureflow_cli.spec.models import OnlineStoreConfig
from featureflow_cli.spec.redis_url import BadUrl, RedisUrl, parse
from featureflow_cli.times import SECOND_US

Reply = Any
"""Bytes, integers, None, or lists of them."""
Endpoint = tuple[str, int]
ERRORS = (errors.RedisError, OSError)
Refused = errors.NoPermissionError


class Lost(errors.ConnectionError):
    """The server may have lost what was written to it: it has started again, or somebody met a failure."""


_MEANINGS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, str], ...] = (
    (Lost, "the connection to Redis was lost", "what was written last may be gone: it is looked up"),
    (errors.ReadOnlyError, "this Redis is a replica now", "it is tried again at the new master"),
    (
        (errors.MovedError, errors.AskError, errors.TryAgainError),
        "slots of the Redis cluster have moved",
        "it is tried again at their new node",
    ),
    (errors.ClusterDownError, "the Redis cluster is down", "bring back the nodes that are missing"),
    (errors.OutOfMemoryError, "Redis is full", "raise its maxmemory; nothing is lost"),
    (
        errors.NoPermissionError,
        "the account may not do this in Redis",
        "see docs/redis.md for what it has to be allowed",
    ),
    (
        (errors.AuthenticationError, errors.AuthenticationWrongNumberOfArgsError),
        "Redis does not accept the account",
        "check user and password in `online_store: url`",
    ),
    (errors.BusyLoadingError, "Redis is still loading its data", "wait"),
    (errors.TimeoutError, "Redis does not answer in time", "see `online_store: timeout`"),
    ((errors.ConnectionError, OSError), "Redis does not answer", "is it running?"),
)


@dataclass(frozen=True)
class Tls:
    """Files in PEM; without `ca_certs` the machine's authorities count."""

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None


@dataclass(frozen=True)
class Access:
    """How one gets in: the same for all nodes."""

    url: RedisUrl
    tls: Tls
    timeout_s: float

    def of_sentinels(self) -> "Access":
        """The sentinels have accounts of their own, if any."""
        options = self.url.options
        user, password = options.get("sentinel_username"), options.get("sentinel_password")
        return replace(self, url=replace(self.url, username=user, password=password))


def access_of(settings: OnlineStoreConfig, root: Path) -> Access:
    """What the settings say; relative paths start at `root`. UsageError where URL or certificates are none."""
    try:
        url, tls = parse(settings.url), settings.tls
    except BadUrl as err:
        raise UsageError(str(err), at="online_store: url", hint=err.hint) from err
    files = {
        name: written or url.options.get(f"ssl_{name}")
        for name, written in (
            ("ca_certs", tls.ca_certs),
            ("certfile", tls.certfile),
            ("keyfile", tls.keyfile),
        )
    }
    found = {name: os.fspath(root / file) for name, file in files.items() if file}
    for name, path in found.items():
        if not Path(path).is_file():
            what = f"there is no file {path}"
            raise UsageError(what, at=f"online_store: tls: {name}", hint="paths start at feature_store.yaml")
    return Access(url, Tls(**found), settings.timeout / SECOND_US)


def connect(access: Access, endpoint: Endpoint, db: int = 0) -> Connection:
    """A fresh connection, logged in; raises one of ERRORS."""
    host, port = endpoint
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "db": db,
        "username": access.url.username,
        "password": access.url.password,
        "socket_timeout": access.timeout_s,
        "socket_connect_timeout": access.timeout_s,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": (),
        "protocol": 2,  # nothing is pushed into the answers
        "driver_info": None,
    }
    connection: Connection
    if access.url.is_tls:
        connection = SSLConnection(
            **options,
            ssl_ca_certs=access.tls.ca_certs,
            ssl_certfile=access.tls.certfile,
            ssl_keyfile=access.tls.keyfile,
        )
    else:
        connection = Connection(**options)
    connection.connect()
    return connection


def ask(connection: Connection, *words: str | bytes | int) -> Reply:
    """The answer to one command; raises one of ERRORS."""
    connection.send_command(*words)
    try:
        return connection.read_response()
    except errors.ResponseError as err:
        raise as_refusal(err) from None


def as_refusal(err: errors.ResponseError) -> errors.ResponseError:
    """Refused where the server has the command under another name or not at all: that is as good as forbidden."""
    return Refused(str(err)) if str(err).startswith("unknown command") else err


def require_master(connection: Connection) -> None:
    """Raises one of ERRORS where the sentinels named one that is a replica by now."""
    try:
        (role, *_) = ask(connection, "ROLE")
    except Refused:  # then its writes will tell
        return
    if role != b"master":
        what = "by its ROLE"
        raise errors.ReadOnlyError(what)


def start_of(connection: Connection) -> str | None:
    """What names this run of the server, another one after each start; None where the account may not ask."""
    try:
        return fields_of(ask(connection, "INFO", "server")).get("run_id")
    except Refused:
        return None


def is_closed(connection: Connection) -> bool:
    """Whether the other side has hung up on a connection that waits for nothing."""
    try:
        return connection.can_read(0)  # what comes unasked is no answer of ours
    except ERRORS:
        return True


def explained(err: Exception, where: str) -> StoreUnavailable:
    """What it means, for people; `where` without a password."""
    for kinds, what, hint in _MEANINGS:
        if isinstance(err, kinds):
            return StoreUnavailable(f"{what} ({err})" if str(err) else what, at=where, hint=hint)
    text = str(err)
    if "non local key" in text:
        return StoreUnavailable(
            f"slots of the Redis cluster have moved ({text})", at=where, hint="it is tried again"
        )
    if text.startswith("EMPTIED"):
        what = "this Redis was emptied while in use"
        return StoreUnavailable(what, at=where, hint="what it held is built again from the offline log")
    if "Function not found" in text:
        what = "the functions of FeatureFlow are not in this Redis"
        hint = "they are loaded at the next try, or by `featureflow stream` where this account may not"
        return StoreUnavailable(what, at=where, hint=hint)
    return StoreUnavailable(f"Redis refuses: {text}", at=where)


def unavailable(what: str, where: str, hint: str = "") -> StoreUnavailable:
    return StoreUnavailable(what, at=where, hint=hint)


def text(reply: Reply) -> str:
    """What people read of it: a path of the server need not be UTF-8."""
    return reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)


def fields_of(reply: bytes | Sequence[bytes]) -> dict[str, str]:
    """The lines `name:value` of an INFO."""
    lines = text(reply).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)

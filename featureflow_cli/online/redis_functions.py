"""The function library in Redis: its text (redis_functions.lua), its name, and what a server has to be like."""

import re
from functools import cache
from hashlib import sha256
from importlib import resources

from redis.connection import Connection
from redis.exceptions import NoPermissionError, ResponseError

from featureflow_cli.online.redis_connections import ask, fields_of, unavailable

_LEAST_VERSION = (7, 0)


@cache
def library() -> tuple[str, str]:
    """The digest in the library's names, and its text with it."""
    written = resources.files("featureflow_cli.online").joinpath("redis_functions.lua").read_text("utf-8")
    digest = sha256(written.encode()).hexdigest()[:8]
    return digest, written.replace("DIGEST", digest)


@cache
def full_name(function: str) -> str:
    return f"{function}_{library()[0]}"


def load(connection: Connection) -> None:
    """Bring our functions there, unless they are. An account that may not relies on another's having done so."""
    try:
        ask(connection, "FUNCTION", "LOAD", library()[1])
    except NoPermissionError:
        pass
    except ResponseError as err:
        if "already exists" not in str(err):
            raise


def check(connection: Connection, where: str) -> None:
    """StoreUnavailable where the server may evict states, or is too old."""
    try:
        server, memory = (fields_of(ask(connection, "INFO", part)) for part in ("server", "memory"))
    except NoPermissionError as err:
        what = f"whether this Redis may evict states is not to be seen: it refuses INFO ({err})"
        raise unavailable(what, where, "ACL SETUSER … +info; or no `rename-command INFO`") from err
    version = server.get("redis_version", "0")
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _LEAST_VERSION:
        what = f"this Redis is version {version}"
        raise unavailable(what, where, "FeatureFlow needs Redis 7.0 or later")
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        what = f"this Redis may evict states (maxmemory-policy {policy})"
        hint = "CONFIG SET maxmemory-policy noeviction, or use another Redis for states than for a cache"
        raise unavailable(what, where, hint)

"""A Redis store as tests open and write it."""

import secrets
from pathlib import Path
from typing import Any

from featureflow_cli.online.redis import RedisStore
from featureflow_cli.online.redis_connections import access_of
from featureflow_cli.spec.models import OnlineStoreConfig
from featureflow_cli.times import system_clock
from tests.hashes import Write, together


def opened(url: str, project: str = "shop", *, clock: Any = system_clock, **settings: Any) -> RedisStore:
    config = OnlineStoreConfig(type="redis", url=url, **settings)
    return RedisStore(access_of(config, Path()), project, is_cluster=config.cluster, clock=clock)


def write(
    store: RedisStore,
    id: str,
    expected: bytes | None = None,
    expires_us: int | None = None,
    newest_us: int = 0,
) -> bytes:
    """Write a state over that version; the new version."""
    version = secrets.token_bytes(8)
    wrote = Write(id, expected, version, (b"a",), (newest_us,), expires_us)
    assert store.write("user", ["f.1"], together(wrote)).all()
    return version


def version(store: RedisStore, id: str) -> bytes | None:
    return store.read("user", [id], ["f.1"])[0].version

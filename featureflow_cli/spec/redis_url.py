"""Where a Redis is, as the user writes it in one line (`online_store: url`).

redis://[USER:PASSWORD@]HOST[:PORT][/DB]              rediss:// with TLS
redis+sentinel://[USER:PASSWORD@]HOST[:PORT],…/SERVICE[/DB]
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote

from featureflow_cli.errors import did_you_mean
from featureflow_cli.spec.variables import put_in

_URL: Final = re.compile(
    r"(?P<scheme>[a-z+]+)://(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?(?P<hosts>[^@/?#]*)"
    r"(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?"
)
_HOST: Final = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\]]+)(?::(?P<port>[0-9]+))?")
_SCHEMES: Final = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")
_SECRET: Final = re.compile(r"//[^:@/?#]*:[^@/?#]+@|[?&]sentinel_password=[^&]")
_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "sentinel_username", "sentinel_password")
_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379


class BadUrl(ValueError):
    """What is wrong with a URL, without its password; `hint` says what to write."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.hint = hint


@dataclass(frozen=True)
class RedisUrl:
    """The parts of the URL. `service` is the master's name at the sentinels, None where there are none."""

    hosts: tuple[tuple[str, int], ...]
    is_tls: bool
    service: str | None
    db: int
    username: str | None
    password: str | None = field(repr=False)
    options: Mapping[str, str] = field(repr=False)

    def __str__(self) -> str:
        """The URL without what is secret in it."""
        scheme = ("rediss" if self.is_tls else "redis") + ("+sentinel" if self.service else "")
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{scheme}://{hosts}{f'/{self.service}' if self.service else ''}/{self.db}"


def names_password(written: str) -> bool:
    """Whether a password stands in the text itself, variables not put in (their defaults are)."""
    return _SECRET.search(put_in(written, {}, lambda _: None)) is not None


def parse(url: str) -> RedisUrl:
    """BadUrl says what is wrong with it."""
    found = _URL.fullmatch(url)
    if found is None or found["scheme"] not in _SCHEMES:
        scheme, colon, _ = url.partition("://")
        is_foreign = colon and scheme not in _SCHEMES
        what = f"'{scheme}' is not a way to Redis" if is_foreign else "this is not the URL of a Redis"
        raise BadUrl(what, "write redis://HOST:PORT/DB, or rediss:// for TLS (a password percent-encoded)")
    is_sentinel = found["scheme"].endswith("+sentinel")
    parts = [unquote(part) for part in (found["path"] or "").split("/")[1:]]
    service = parts.pop(0) if is_sentinel and parts else None
    if is_sentinel and not service:
        what = "the sentinels have to be asked for a master"
        raise BadUrl(what, "write redis+sentinel://HOST,HOST/SERVICE/DB")
    written = parts.pop(0) if parts else ""
    if parts or (written and not written.isascii()) or not (written or "0").isdigit():
        what = "the database of a Redis is a number"
        raise BadUrl(what, "write redis://HOST:PORT/0")
    options = dict(parse_qsl(found["query"] or "", keep_blank_values=True))
    for name in options:
        if name not in _OPTIONS:
            hint = did_you_mean(name, _OPTIONS) or "write it in `online_store`: tls, timeout, cluster"
            what = f"'{name}' is not an option of this URL"
            raise BadUrl(what, hint)
    return RedisUrl(
        hosts=tuple(
            _host(part, _SENTINEL_PORT if is_sentinel else _PORT)
            for part in _hosts(found["hosts"], is_sentinel)
        ),
        is_tls=found["scheme"].startswith("rediss"),
        service=service,
        db=int(written or 0),
        username=unquote(found["user"]) if found["user"] else None,
        password=unquote(found["password"]) if found["password"] else None,
        options=options,
    )


def _hosts(written: str, is_sentinel: bool) -> list[str]:
    parts = written.split(",")
    if len(parts) > 1 and not is_sentinel:
        what = "several hosts are those of sentinels"
        raise BadUrl(what, "write redis+sentinel://…, or one node and cluster: true")
    return parts


def _host(written: str, port: int) -> tuple[str, int]:
    found = _HOST.fullmatch(written)
    if found is None:
        what = "the host is missing or not a host"
        raise BadUrl(what, "write redis://HOST:PORT/DB")
    return found["host"].strip("[]"), int(found["port"] or port)

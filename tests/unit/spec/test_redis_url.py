"""The URL of a Redis: its parts, what is wrong with it, and what is told about it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from featureflow_cli.errors import DefinitionError
from featureflow_cli.spec.redis_url import BadUrl, parse
from featureflow_cli.spec.repo import load

Write = Callable[[Mapping[str, str]], Path]


@pytest.mark.parametrize(
    ("url", "told", "parts"),
    [
        ("redis://r", "redis://r:6379/0", ((("r", 6379),), None, None, None, 0)),
        ("redis://r:1/", "redis://r:1/0", ((("r", 1),), None, None, None, 0)),
        ("rediss://u:p%40w@r:1/3", "rediss://r:1/3", ((("r", 1),), None, "u", "p@w", 3)),
        ("redis://:p@[::1]:1/3", "redis://::1:1/3", ((("::1", 1),), None, None, "p", 3)),
        (
            "redis+sentinel://u:p@a,b:7/main/2?sentinel_password=s",
            "redis+sentinel://a:26379,b:7/main/2",
            ((("a", 26379), ("b", 7)), "main", "u", "p", 2),
        ),
    ],
)
def test_a_url_in_parts_and_as_it_is_shown(url: str, told: str, parts: tuple[object, ...]) -> None:
    found = parse(url)
    assert str(found) == told
    assert (found.hosts, found.service, found.username, found.password, found.db) == parts
    assert found.is_tls == url.startswith("rediss")
    for secret in ("p%40w", "p@w", "sentinel_password"):
        assert secret not in repr(found)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis.internal:6379", "not the URL"),
        ("http://r", "'http' is not a way"),
        ("redis://", "host"),
        ("redis://r:port/0", "host"),
        ("redis://r/zero", "a number"),
        ("redis://r/0/1", "a number"),
        ("redis://a,b", "several hosts"),
        ("redis+sentinel://a", "a master"),
        ("redis://r?ssl_ca_cert=x", "'ssl_ca_cert' is not an option"),
        ("redis://u:secret@p@r", "not the URL"),
    ],
)
def test_a_bad_url_is_told_without_its_password(url: str, said: str) -> None:
    with pytest.raises(BadUrl, match=said) as raised:
        parse(url)
    assert raised.value.hint
    assert "secret" not in str(raised.value) + raised.value.hint


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("url: 'redis://r', timeout: 2s, cluster: true", None),
        ("url: 'rediss://r', tls: {ca_certs: ca.pem}", None),
        ("url: 'redis://r', tls: {ca_certs: ca.pem}", "2:47: `tls` needs a url that begins with rediss"),
        ("url: 'redis://r/1', cluster: true", "2:34: a cluster has no databases but 0"),
        ("url: 'redis+sentinel://r/main', cluster: true", "2:61: a cluster has no sentinels"),
        ("url: 'rediss://r', tls: {keyfile: k.pem}", "2:54: a key without its certificate"),
        ("url: 'redis:/r'", "2:34: this is not the URL of a Redis"),
        ("timeout: 0s", "2:38: `timeout` should be longer than nothing"),
        ("host: r", "2:29: unknown key 'host'"),
        ("tls: {ca_cert: x}", "2:35: unknown key 'ca_cert'"),
    ],
)
def test_settings_that_do_not_fit_are_told_where_they_stand(
    repo: Write, settings: str, said: str | None
) -> None:
    root = repo({"feature_store.yaml": f"project: p\nonline_store: {{type: redis, {settings}}}\n"})
    if said is None:
        load(root, None, {})
        return
    with pytest.raises(DefinitionError) as raised:
        load(root, None, {})
    assert f"feature_store.yaml:{said}" in str(raised.value)
    assert "hint:" in str(raised.value)


def test_a_password_comes_from_the_environment(repo: Write) -> None:
    text = 'project: p\nonline_store: {type: redis, url: "redis://:${env:SECRET}@r"}\n'
    root = repo({"feature_store.yaml": text})
    config = load(root, None, {"SECRET": "p"}).config
    assert parse(config.online_store.url).password == "p"
    assert "redis://" not in repr(config)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@r",
        "redis://u:hunter2@${env:HOST}/0",
        "redis://u:hunter2@p@r",
        "redis://:${env:SECRET:-hunter2}@r",
        "${env:URL:-redis://:hunter2@r}",
        "redis+sentinel://:${env:SECRET}@a/main?sentinel_username=u&sentinel_password=hunter2",
    ],
)
def test_a_password_that_stands_in_the_file_is_refused_and_not_shown(repo: Write, url: str) -> None:
    root = repo({"feature_store.yaml": f"project: p\nonline_store: {{type: redis, url: '{url}'}}\n"})
    with pytest.raises(DefinitionError, match=r"feature_store\.yaml:2:34: a password stands") as raised:
        load(root, None, {"SECRET": "p", "HOST": "r", "URL": "redis://r"})
    assert "${env:REDIS_PASSWORD}" in str(raised.value)
    assert "hunter" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    ["redis://u@r", "redis://u:${env:SECRET:-}@r", "${env:URL}", "${env:URL:-redis://localhost:6379/0}"],
)
def test_what_holds_no_password_is_no_secret(repo: Write, url: str) -> None:
    root = repo({"feature_store.yaml": f"project: p\nonline_store: {{type: redis, url: '{url}'}}\n"})
    load(root, None, {"SECRET": "p", "URL": "redis://:hunter2@r"})

"""What is Redis's own: expiries, markers, accounts, and servers that are refused."""

import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.errors import StoreUnavailable, UsageError
from featureflow_cli.online.redis_link import Talk
from featureflow_cli.times import HOUR_US, SECOND_US
from tests.hashes import Write, together
from tests.integration.redis_stores import opened, version, write
from tests.services.redis import RedisServer, redis_server

pytestmark = pytest.mark.service("redis")


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server that a test may stop, freeze and set up."""
    with redis_server() as running:
        yield running


# ---- expiry

LIVES = st.lists(st.none() | st.integers(10, 10**9).map(lambda s: s * SECOND_US), min_size=1, max_size=5)


@given(lives=LIVES)
def test_a_hash_lives_as_long_as_the_longest_of_its_writes(
    _redis: RedisServer, lives: list[int | None]
) -> None:
    """And a 64th more at most; for ever where one of them said so. In the order of any clock but Redis's."""
    with _redis.client() as client:
        client.flushall()
        store = opened(_redis.url, clock=lambda: 5_000_000)
        last = None
        for life_us in lives:
            last = write(store, "1", last, None if life_us is None else 5_000_000 + life_us)
        left_ms = client.pttl("ff:shop:user:1")
        store.close()
    if None in lives:
        assert left_ms == -1
    else:
        longest_ms = max(life_us for life_us in lives if life_us is not None) / 1000
        assert longest_ms - 5_000 <= left_ms <= longest_ms * (1 + 1 / 64) + 1


def test_an_expiry_is_prolonged_only_when_it_is_due(redis_url: str) -> None:
    now_us = 0
    store = opened(redis_url, clock=lambda: now_us)
    with redis.Redis.from_url(redis_url) as client:
        last = write(store, "1", None, HOUR_US)
        first = client.pexpiretime("ff:shop:user:1")
        last = write(store, "1", last, HOUR_US + 30 * SECOND_US)
        assert client.pexpiretime("ff:shop:user:1") == first
        write(store, "1", last, HOUR_US + 90 * SECOND_US)
        assert client.pexpiretime("ff:shop:user:1") > first
    store.close()


# ---- what is found


def test_scans_look_at_the_newest_event_of_states_however_old(redis_url: str) -> None:
    store = opened(redis_url)
    moments = [-(10**15), -1, 0, 1, 10**15]
    for number, moment_us in enumerate(moments):
        write(store, str(number), newest_us=moment_us)
    for since_us in (-(2**62), -1, 0, 1, 2, 10**15 + 1):
        found = [id for chunk in store.scan("user", "f.1", since_us) for id, _ in chunk]
        assert found == [str(number) for number, moment_us in enumerate(moments) if moment_us >= since_us]
    store.close()


def test_markers_are_exact_beyond_the_numbers_of_lua(redis_url: str) -> None:
    store = opened(redis_url)
    store.mark(0, "f.1", {-1: 2**60 + 1})
    store.mark(0, "f.1", {-1: 2**60})
    assert store.marker(0, "f.1") == {-1: 2**60 + 1}
    store.mark(0, "f.1", {-1: 2**60 + 2})
    assert store.marker(0, "f.1") == {-1: 2**60 + 2}
    store.close()


def test_a_teardown_leaves_what_others_have_beside_it(redis_url: str) -> None:
    others = ["ff:shop2:user:1", "ff:sho:user:1", "ff:shop", "xff:shop:user:1", "ff:Shop:user:1", "cache"]
    store = opened(redis_url)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        for key in others:
            client.set(key, "theirs")
        write(store, "1")
        store.mark(0, "f.1", {})
        store.publish("f.1", "rank", 60, b"p", 0)
        assert len(client.keys()) == len(others) + 4  # also of the birth
        store.drop("f.1")
        assert sorted(client.keys()) == sorted(others)
        store.close()  # or it would be told first, as whoever else still writes
        write(store, "1")
        store.teardown()
        assert sorted(client.keys()) == sorted(others)
    store.close()


def test_a_drop_takes_nothing_that_others_write_meanwhile(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They begin after it has seen that no more than the birth is left, and before that goes, too."""
    store, other = opened(redis_url), opened(redis_url)
    write(store, "1")
    ask, walks = Talk.ask, count(1)

    def late(talk: Talk, shard: int, *words: str | bytes | int) -> Any:
        answer = ask(talk, shard, *words)
        if words[0] == "SCAN" and next(walks) == 2:  # the first was for the field, this one for what is left
            write(other, "7")
            other.mark(0, "g.1", {0: 5})
        return answer

    monkeypatch.setattr(Talk, "ask", late)  # the real one, and what comes between two of it
    store.drop("f.1")
    monkeypatch.undo()
    assert version(store, "7") is not None
    with pytest.raises(StoreUnavailable, match="emptied while in use"):
        write(other, "8")
    write(other, "8")
    store.drop("f.1")
    store.drop("g.1")
    for each in (store, other):
        each.close()


def test_a_drop_on_a_redis_that_was_emptied_leaves_its_writer_to_be_told(server: RedisServer) -> None:
    """A stream drops what was retired a minute ago, and goes on with states that it remembers."""
    store = opened(server.url)
    write(store, "1")
    store.mark(0, "f.1", {0: 5})
    with server.client() as client:
        client.flushall()
    store.drop("old.1")
    with pytest.raises(StoreUnavailable, match="emptied while in use"):
        write(store, "2")
    assert version(store, "2") is None
    store.close()


def test_an_estimate_of_the_bytes_held_counts_ours_only(redis_url: str) -> None:
    store = opened(redis_url)
    blob = bytes(1_000)
    ids = [str(number) for number in range(30_000)]
    store.write("user", ["f.1"], together(*(Write(id, None, b"12345678", (blob,), (0,), None) for id in ids)))
    with redis.Redis.from_url(redis_url) as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(30_000):
            pipeline.set(f"cache:{number}", "x")
        pipeline.execute()
    assert 27_000_000 < store.bytes_held() < 42_000_000
    store.close()


# ---- who may come in, and where


def test_an_acl_user_needs_no_more_than_the_docs_say(server: RedisServer) -> None:
    page = (Path(__file__).parents[2] / "docs" / "redis.md").read_text()
    rules = [line.split("ACL SETUSER ", 1)[1].split() for line in page.splitlines() if "ACL SETUSER" in line]
    with server.client() as client:
        for name, *words in rules:
            client.execute_command("ACL SETUSER", name, *words)
    writer, reader = (
        opened(server.url.replace("redis://", f"redis://{name}:{password}@"))
        for name, password in (("ff_writer", "writer-password"), ("ff_reader", "reader-password"))
    )
    before = write(writer, "1")
    writer.mark(0, "f.1", {0: 1})
    writer.publish("f.1", "rank", 60, b"p", 0)
    assert version(reader, "1") == before
    assert reader.marker(0, "f.1") == {0: 1}
    assert reader.count("user", "f.1") == 1
    assert list(reader.scan("user", "f.1", 0)) == [[("1", b"a")]]
    assert reader.population("f.1", "rank", 60) == b"p"
    assert reader.bytes_held() > 0
    reader.ping()
    connections = reader._link._generation
    for refused in (lambda: reader.publish("f.1", "rank", 120, b"p", 0), lambda: write(reader, "2")):
        with pytest.raises(StoreUnavailable, match="may not"):
            refused()
    assert reader._link._generation is connections  # a refusal loses nothing
    assert writer.remarks() == reader.remarks()
    writer.withdraw("f.1", 0)
    writer.drop("f.1")
    writer.teardown()
    writer.close()
    reader.close()


@pytest.mark.parametrize("how", ["forbidden", "renamed"])
def test_who_only_reads_goes_on_where_info_is_not_to_be_had_and_a_writer_does_not(how: str) -> None:
    gone = {f"rename-command {name}": "" for name in ("INFO", "CONFIG")}
    with redis_server(config=gone if how == "renamed" else None) as server, server.client() as client:
        if how == "forbidden":
            client.execute_command("ACL SETUSER", "default", "-info", "-config")
        client.hset("ff:shop:user:1", mapping={"v": b"12345678"})
        store = opened(server.url)
        assert version(store, "1") == b"12345678"
        assert store.marker(0, "f.1") is None
        assert store.population("f.1", "rank", 60) is None
        assert store.bytes_held() > 0
        store.ping()
        connections = store._link._generation
        for refused in (lambda: store.mark(0, "f.1", {0: 1}), lambda: write(store, "2"), store.remarks):
            with pytest.raises(StoreUnavailable, match="not to be seen: it refuses INFO"):
                refused()
        assert store._link._generation is connections
        store.close()


def test_a_server_that_shows_no_settings_gets_no_remarks(server: RedisServer) -> None:
    file = server.folder / "redis.conf"
    file.write_text(file.read_text() + 'rename-command CONFIG ""\n')
    server.restart()
    store = opened(server.url)
    assert store.remarks() == []
    store.close()


def test_tls_needs_an_authority_that_is_trusted(tmp_path: Path) -> None:
    with redis_server(user="shop", password="open-sesame", tls=True) as server:
        url = server.url.split("?")[0]
        store = opened(url, tls={"ca_certs": str(server.certificate)})
        write(store, "1")
        store.close()
        store = opened(url)
        with pytest.raises(StoreUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            store.ping()
        with pytest.raises(UsageError, match=r"no file .*nowhere\.pem"):
            opened(url, tls={"ca_certs": str(tmp_path / "nowhere.pem")})


@pytest.mark.parametrize("password", ["hunter2", "wrong:and@quoted"])
def test_no_error_shows_a_password(server: RedisServer, password: str) -> None:
    quoted = password.replace(":", "%3A").replace("@", "%40")
    store = opened(server.url.replace("redis://", f"redis://shop:{quoted}@"))
    with pytest.raises(StoreUnavailable, match="does not accept the account") as raised:
        store.ping()
    for shown in (str(raised.value), repr(raised.value), repr(store._link.access)):
        assert password not in shown
        assert quoted not in shown


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_may_evict_states_is_not_written(policy: str) -> None:
    with redis_server(policy=policy) as server:
        store = opened(server.url)
        with pytest.raises(StoreUnavailable, match=f"may evict states .*{policy}"):
            write(store, "1")
        assert version(store, "1") is None
        with server.client() as client:
            client.config_set("maxmemory-policy", "noeviction")
        write(store, "1")
        store.close()


def test_a_full_server_says_so_and_answers_reads(server: RedisServer) -> None:
    store = opened(server.url)
    before = write(store, "1")
    with server.client() as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable, match="full"):
            write(store, "2")
        assert version(store, "1") == before
        client.config_set("maxmemory", 0)
    write(store, "2")
    store.close()


def test_a_server_is_no_cluster_and_says_so(redis_url: str) -> None:
    with pytest.raises(StoreUnavailable, match="no cluster"):
        opened(redis_url, cluster=True).ping()


def test_remarks_are_about_memory(server: RedisServer) -> None:
    store = opened(server.url)
    (remark,) = store.remarks()
    assert "hash-max-listpack-value" in remark
    with server.client() as client:
        client.config_set("hash-max-listpack-value", 1024)
    assert store.remarks() == []
    store.close()


# ---- many at once


def test_threads_share_a_store(redis_url: str) -> None:
    """Every thread's answers are its own; connections are as many as were needed at once."""
    store = opened(redis_url)
    versions = {str(number): write(store, str(number)) for number in range(50)}
    wrong: list[str] = []

    def read(seed: int) -> None:
        for number in range(200):
            id = str((seed * 7 + number) % 50)
            if version(store, id) != versions[id]:
                wrong.append(id)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    generation = store._link._generation
    assert generation is not None
    assert 1 <= len(generation.idle[0]) <= 9
    store.close()

"""Connections to Redis that are lost, and who hears of it: restarts and failovers."""

import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.online.redis import RedisStore
from featureflow_cli.online.redis_link import Talk
from tests.hashes import Write, together
from tests.integration.redis_stores import opened, version, write
from tests.services.processes import wait_until
from tests.services.redis import RedisServer, redis_sentinel, redis_server

pytestmark = pytest.mark.service("redis")


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server that a test may stop, freeze and set up."""
    with redis_server() as running:
        yield running


# ---- lost connections


def test_a_restart_without_persistence_is_heard_of_once_and_leaves_no_marker(server: RedisServer) -> None:
    store = opened(server.url)
    write(store, "1")
    store.mark(0, "f.1", {0: 1})
    server.stop()
    with pytest.raises(StoreUnavailable, match="does not answer") as raised:
        store.ping()
    assert raised.value.exit_code == 4
    server.start()
    assert store.marker(0, "f.1") is None
    assert version(store, "1") is None
    write(store, "1")
    store.close()


def test_a_restart_that_nobody_met_is_heard_of_before_anything_is_marked(server: RedisServer) -> None:
    """The server is back before the next call: that must not go on, as if nothing had happened."""
    store = opened(server.url)
    write(store, "1")
    server.restart()
    with pytest.raises(StoreUnavailable):
        store.mark(0, "f.1", {0: 1})
    assert store.marker(0, "f.1") is None
    store.close()


@pytest.mark.parametrize("next_call", ["write", "mark", "marker", "ping", "shards"])
def test_a_writer_hears_of_a_loss_that_a_reader_met(server: RedisServer, next_call: str) -> None:
    """All connections die together: the writer's next call is refused, though its server is there again."""
    store = opened(server.url)
    write(store, "1")

    def read() -> None:
        with pytest.raises(StoreUnavailable):
            store.read("user", ["1"], ["f.1"])

    server.restart()
    reader = threading.Thread(target=read)
    reader.start()
    reader.join()
    calls: dict[str, Callable[[], object]] = {
        "write": lambda: write(store, "1"),
        "mark": lambda: store.mark(0, "f.1", {0: 1}),
        "marker": lambda: store.marker(0, "f.1"),
        "ping": store.ping,
        "shards": lambda: store.shards,
    }
    with pytest.raises(StoreUnavailable, match="connection to Redis was lost"):
        calls[next_call]()
    assert version(store, "1") is None
    assert store.marker(0, "f.1") is None
    calls[next_call]()
    store.close()


def test_a_marker_without_the_birth_of_its_shard_is_none(server: RedisServer) -> None:
    """Whoever took it for one would write under a birth that it gave the shard itself, whatever was lost before."""
    store, other = opened(server.url), opened(server.url)
    store.mark(0, "f.1", {0: 5})
    with server.client() as client:
        assert client.unlink("ff:shop::marker::.") == 1
    assert other.marker(0, "f.1") is None
    with pytest.raises(StoreUnavailable, match="emptied while in use"):
        store.mark(0, "f.1", {0: 6})
    other.mark(0, "f.1", {0: 0})
    assert store.marker(0, "f.1") == {0: 5}  # its states are there: nothing else was lost
    for each in (store, other):
        each.close()


def test_a_marker_that_is_read_while_redis_is_emptied_is_of_no_birth_before_it(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Emptied, and built again up to elsewhere, between the two questions that reading a marker takes."""
    store, other, third = (opened(server.url) for _ in range(3))
    other.mark(0, "f.1", {0: 5})
    ask, asked = Talk.ask, count(1)

    def emptied_meanwhile(talk: Talk, shard: int, *words: str | bytes | int) -> Any:
        answer = ask(talk, shard, *words)
        if next(asked) == 1:
            monkeypatch.undo()
            with server.client() as client:
                client.flushall()
            third.mark(0, "f.1", {0: 3})
        return answer

    monkeypatch.setattr(Talk, "ask", emptied_meanwhile)  # the real one, and what comes between two of it
    store.marker(0, "f.1")
    with pytest.raises(StoreUnavailable, match="emptied while in use"):
        store.mark(0, "f.1", {0: 6})
    assert store.marker(0, "f.1") == {0: 3}
    for each in (store, other, third):
        each.close()


def quiet(store: RedisStore) -> bool:
    """Whether nobody used its connections for so long that they are looked at before the next use."""
    generation = store._link._generation
    return generation is not None and generation.is_quiet


def test_a_reader_does_not_notice_a_restart_while_it_was_quiet(server: RedisServer) -> None:
    """What hung up while nobody asked is replaced before it is used; a server looks at markers, too."""
    store = opened(server.url)
    assert version(store, "1") is None
    assert store.marker(0, "f.1") is None
    server.restart()
    wait_until(lambda: quiet(store), "it is quiet")
    assert store.marker(0, "f.1") is None
    assert version(store, "1") is None
    store.close()


@pytest.mark.parametrize("next_call", ["ping", "mark"])
def test_who_took_up_and_wrote_nothing_yet_hears_of_it_all_the_same(
    server: RedisServer, next_call: str
) -> None:
    """What it knows of markers is of the server that was: another look at them does not make up for that."""
    store = opened(server.url)
    assert store.marker(0, "f.1") is None
    server.restart()
    wait_until(lambda: quiet(store), "it is quiet")
    assert store.marker(0, "g.1") is None
    with pytest.raises(StoreUnavailable, match="connection to Redis was lost"):
        store.ping() if next_call == "ping" else store.mark(0, "f.1", {0: 1})
    assert store.marker(0, "f.1") is None
    store.mark(0, "f.1", {0: 1})
    store.close()


def test_a_hung_server_is_given_up_in_time(server: RedisServer) -> None:
    store = opened(server.url, timeout="200ms")
    write(store, "1")
    server.freeze()
    with pytest.raises(StoreUnavailable, match="in time"):
        store.read("user", ["1"], ["f.1"])
    server.thaw()
    assert version(store, "1") is not None
    store.close()


def test_nothing_is_repeated_after_an_answer_was_lost(server: RedisServer) -> None:
    """The frozen server gets the write, and does it when it wakes up: once, and the writer does not know."""
    store = opened(server.url, timeout="200ms")
    first = write(store, "1")
    server.freeze()
    late = Write("1", first, b"12345678", (b"late",), (0,), None)
    with pytest.raises(StoreUnavailable):
        store.write("user", ["f.1"], together(late))
    server.thaw()
    wait_until(lambda: version(store, "1") == b"12345678", "the write comes late")
    assert not store.write("user", ["f.1"], together(late)).any()
    store.close()


def test_who_gives_up_before_the_answer_ends_the_connection_for_all(server: RedisServer) -> None:
    store = opened(server.url)
    late = Write("1", write(store, "1"), b"12345678", (b"late",), (0,), None)

    def give_up() -> None:
        with pytest.raises(ZeroDivisionError), store.sending() as send:
            send("user", ["f.1"], together(late))
            raise ZeroDivisionError

    other = threading.Thread(target=give_up)
    other.start()
    other.join()
    with pytest.raises(StoreUnavailable, match="connection to Redis was lost"):
        store.mark(0, "f.1", {0: 1})
    wait_until(lambda: version(store, "1") == b"12345678", "the write comes all the same")
    store.close()


def serving(server: RedisServer) -> None:
    """Somebody else has brought the functions there."""
    another = opened(server.url, "another")
    write(another, "1")
    another.close()


SECOND = together(Write("2", None, b"12345678", (b"a",), (0,), None))


def met_by_another(store: RedisStore) -> None:
    """Somebody else finds out, in a thread of its own, that the connections are lost."""

    def read() -> None:
        with pytest.raises(StoreUnavailable):
            store.read("user", ["1"], ["f.1"])

    other = threading.Thread(target=read)
    other.start()
    other.join()


@pytest.mark.parametrize("is_noticed", [True, False])
def test_a_connection_that_is_new_to_a_writer_is_to_the_server_that_it_knows(
    server: RedisServer, is_noticed: bool
) -> None:
    """Whether somebody else has met the loss meanwhile, or only holds the connection that was lost."""
    store = opened(server.url)
    write(store, "1")
    with store._link.talk() as reader:
        if not is_noticed:
            reader.ask(0, "PING")
        with pytest.raises(StoreUnavailable, match="connection to Redis was lost"), store.sending() as send:
            server.restart()
            serving(server)
            if is_noticed:
                met_by_another(store)
            send("user", ["f.1"], SECOND)()
    assert version(store, "2") is None
    store.close()


def test_a_connection_that_is_new_to_a_writer_is_refused_after_a_loss_on_a_server_that_goes_on(
    server: RedisServer,
) -> None:
    """It is the same server, and what somebody had under way there is in doubt all the same."""
    store = opened(server.url)
    write(store, "1")
    with pytest.raises(StoreUnavailable, match="connection to Redis was lost"), store.sending() as send:
        with server.client() as client:
            client.client_kill_filter(_type="normal")
        met_by_another(store)
        send("user", ["f.1"], SECOND)()
    assert version(store, "2") is None
    store.close()


def test_what_is_sent_after_a_loss_does_not_reach_the_server_that_came_back(server: RedisServer) -> None:
    """It goes the way of what was sent before it: on a new connection it would be the first that is written there."""
    store = opened(server.url)
    write(store, "1")
    with pytest.raises(StoreUnavailable), store.sending() as send:
        first = send("user", ["f.1"], SECOND)
        server.restart()
        second = send("item", ["f.1"], SECOND)
        first()
        second()
    assert store.read("item", ["2"], ["f.1"])[0].version is None
    store.close()


def test_lost_functions_are_loaded_again(server: RedisServer) -> None:
    store = opened(server.url)
    before = write(store, "1")
    with server.client() as client:
        client.function_flush()
    with pytest.raises(StoreUnavailable, match="functions of FeatureFlow are not"):
        write(store, "2")
    write(store, "1", before)
    store.close()


def test_a_failover_is_a_loss_and_what_was_replicated_is_found_at_the_new_master() -> None:
    with redis_sentinel() as set_up:
        store = opened(f"redis+sentinel://127.0.0.1:{set_up.sentinel.port}/{set_up.name}/0", timeout="1s")
        before = write(store, "1")
        store.mark(0, "f.1", {0: 7})
        with set_up.master.client() as client:
            assert client.wait(1, 5_000) == 1
        set_up.master.kill()
        with pytest.raises(StoreUnavailable):
            store.ping()
        wait_until(lambda: set_up.current() == set_up.replica.port, "the replica is promoted")
        wait_until(lambda: _answers(store), "the new master answers")
        assert store.marker(0, "f.1") == {0: 7}
        write(store, "1", before)
        store.close()


def test_a_replica_that_the_sentinels_name_is_not_read_and_they_are_asked_again() -> None:
    with redis_sentinel() as set_up:
        store = opened(f"redis+sentinel://127.0.0.1:{set_up.sentinel.port}/{set_up.name}/0", timeout="1s")
        with set_up.master.client() as client, set_up.sentinel.client() as sentinel:
            sentinel.execute_command("SENTINEL REMOVE", set_up.name)
            sentinel.execute_command("SENTINEL MONITOR", set_up.name, "127.0.0.1", set_up.replica.port, 1)
            with pytest.raises(StoreUnavailable, match="a replica now"):
                store.read("user", ["1"], ["f.1"])
            sentinel.execute_command("SENTINEL REMOVE", set_up.name)
            sentinel.execute_command("SENTINEL MONITOR", set_up.name, "127.0.0.1", set_up.master.port, 1)
            assert client.ping()
            write(store, "1")
        store.close()


def test_unknown_or_absent_sentinels_are_told() -> None:
    with redis_sentinel() as set_up:
        place = f"redis+sentinel://127.0.0.1:{set_up.sentinel.port}"
        with pytest.raises(StoreUnavailable, match="know no master 'other'"):
            opened(f"{place}/other").ping()
        set_up.sentinel.kill()
        with pytest.raises(StoreUnavailable, match=r"sentinel 127\.0\.0\.1"):
            opened(f"{place}/{set_up.name}").ping()


def _answers(store: RedisStore) -> bool:
    try:
        store.ping()
    except StoreUnavailable:
        return False
    return True


def test_a_replica_is_not_written(server: RedisServer) -> None:
    store = opened(server.url)
    write(store, "1")
    with server.client() as client:
        client.replicaof("127.0.0.1", server.port + 1)
        with pytest.raises(StoreUnavailable, match="replica"):
            store.mark(0, "f.1", {0: 1})
        client.replicaof("NO", "ONE")
    write(store, "2")
    store.close()

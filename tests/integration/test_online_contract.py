"""What every online store keeps (featureflow_cli/online/store.py); a new store joins by one more maker."""

import multiprocessing
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.online.redis import RedisStore
from featureflow_cli.online.redis_connections import access_of
from featureflow_cli.online.sqlite import SqliteStore
from featureflow_cli.online.store import OnlineStore
from featureflow_cli.spec.models import OnlineStoreConfig
from featureflow_cli.times import HOUR_US, SECOND_US, Clock, system_clock
from tests.hashes import Write, together
from tests.services.processes import wait_until

Maker = Callable[[str], OnlineStore]
"""Opens the store under test for a project; what another maker wrote is seen."""


class Moment:
    """A clock that a test moves; a server of its own goes by its own, and has to be waited for."""

    def __init__(self, is_real: bool) -> None:
        self._is_real = is_real
        self._now_us = 1_000

    def __call__(self) -> int:
        return system_clock() if self._is_real else self._now_us

    def passes(self, us: int) -> None:
        """Redis may keep a hash for a 64th of its time longer."""
        self._now_us += us
        if self._is_real:
            end_us = system_clock() + us + us // 50
            wait_until(lambda: system_clock() > end_us, "the clock goes on")


REDIS = pytest.mark.service("redis")
FIELDS = ("f.0", "f.1", "f.2", "g.1", "h.1", "z.1")
STORES = ["sqlite", pytest.param("redis", marks=REDIS), pytest.param("redis-cluster", marks=REDIS)]


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def where(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A file that is not there yet, or the URL of an empty server."""
    if kind == "sqlite":
        return str(tmp_path / "new" / "online.db")
    return str(request.getfixturevalue("redis_url" if kind == "redis" else "redis_cluster_url"))


@pytest.fixture
def moment(kind: str) -> Moment:
    return Moment(is_real=kind != "sqlite")


def opened(kind: str, where: str, project: str, clock: Clock = system_clock) -> OnlineStore:
    if kind == "sqlite":
        return SqliteStore(Path(where), project, clock)
    settings = OnlineStoreConfig(type="redis", url=where)
    return RedisStore(access_of(settings, Path()), project, is_cluster=kind == "redis-cluster", clock=clock)


@pytest.fixture
def make(kind: str, where: str, moment: Moment) -> Iterator[Maker]:
    stores: list[OnlineStore] = []

    def maker(project: str) -> OnlineStore:
        stores.append(opened(kind, where, project, moment))
        return stores[-1]

    yield maker
    for store in stores:
        store.close()


@pytest.fixture
def store(make: Maker) -> OnlineStore:
    return make("shop")


def write(
    id: str,
    blobs: dict[str, bytes],
    expected: bytes | None = None,
    expires_us: int | None = None,
    newest_us: int = 0,
) -> Write:
    """A write of `put`."""
    values = tuple(map(blobs.get, FIELDS))
    return Write(id, expected, secrets.token_bytes(8), values, (newest_us,) * len(FIELDS), expires_us)


def put(store: OnlineStore, entity: str, *writes: Write) -> list[bool]:
    return list(store.write(entity, FIELDS, together(*writes)).tolist())


def blobs(store: OnlineStore, id: str, *fields: str) -> tuple[bytes | None, ...]:
    return store.read("user", [id], fields)[0].blobs


def test_what_was_never_written_is_absent(store: OnlineStore) -> None:
    held = store.read("user", ["1"], ["f.1", "g.1"])
    assert [(h.version, h.blobs) for h in held] == [(None, (None, None))]
    assert store.sample("user", "f.1", 5, 0) == []
    assert store.count("user", "f.1") == 0
    assert list(store.scan("user", "f.1", 0)) == []


def test_a_write_is_read_back_in_the_order_asked(store: OnlineStore) -> None:
    first, second = write("1", {"f.1": b"a"}), write("2,x%2Cy", {"f.1": b"b", "g.1": b"\0\xff"})
    assert put(store, "user", first, second) == [True, True]
    held = store.read("user", ["2,x%2Cy", "3", "1"], ["g.1", "f.1"])
    assert [(h.version, h.blobs) for h in held] == [
        (second.version, (b"\0\xff", b"b")),
        (None, (None, None)),
        (first.version, (None, b"a")),
    ]


def test_many_ids_in_one_call(store: OnlineStore) -> None:
    ids = [str(number) for number in range(5_000)]
    assert all(put(store, "user", *(write(id, {"f.1": id.encode()}) for id in ids)))
    assert [h.blobs[0] for h in store.read("user", ids, ["f.1"])] == [id.encode() for id in ids]


def test_writes_that_are_sent_together_are_answered_one_by_one(store: OnlineStore) -> None:
    first, second = write("1", {"f.1": b"a"}), write("2", {"f.1": b"b"})
    stale = write("1", {"f.1": b"x"}, secrets.token_bytes(8))
    none = together(first).take(np.empty(0, np.int64))
    sent = (
        ("user", together(first, second)),
        ("user", none),
        ("item", together(first)),
        ("item", together(stale)),
    )
    with store.sending() as send:
        answers = [send(entity, FIELDS, writes) for entity, writes in sent]
        assert [answer().tolist() for answer in answers] == [[True, True], [], [True], [False]]
    assert store.write("user", FIELDS, none).tolist() == []
    assert blobs(store, "1", "f.1") == (b"a",)
    assert [held.version for held in store.read("item", ["1", "2"], ["f.1"])] == [first.version, None]


def test_a_write_over_another_version_is_refused_whole(store: OnlineStore) -> None:
    first = write("1", {"f.1": b"a"})
    put(store, "user", first)
    stale = [write("1", {"f.1": b"x", "g.1": b"x"}), write("2", {"f.1": b"y"}, secrets.token_bytes(8))]
    assert put(store, "user", *stale) == [False, False]
    assert blobs(store, "1", "f.1", "g.1") == (b"a", None)
    assert blobs(store, "2", "f.1") == (None,)
    assert put(store, "user", write("1", {"f.1": b"b"}, first.version)) == [True]


def test_a_write_leaves_the_other_fields(store: OnlineStore) -> None:
    first = write("1", {"f.1": b"a", "g.1": b"g"})
    put(store, "user", first)
    put(store, "user", write("1", {"f.1": b"b"}, first.version))
    assert blobs(store, "1", "f.1", "g.1") == (b"b", b"g")


def test_entities_and_projects_do_not_meet(make: Maker) -> None:
    shop, other = make("shop"), make("Shop")
    put(shop, "user", write("1", {"f.1": b"shop"}))
    shop.mark(0, "f.1", {0: 5})
    shop.publish("f.1", "rank", 60, b"p", shop.withdrawals("f.1"))
    assert other.read("user", ["1"], ["f.1"])[0].version is None
    assert shop.read("User", ["1"], ["f.1"])[0].version is None
    assert other.marker(0, "f.1") is None
    assert other.population("f.1", "rank", 60) is None
    put(other, "user", write("1", {"f.1": b"other"}))
    other.teardown()
    assert blobs(shop, "1", "f.1") == (b"shop",)
    assert shop.marker(0, "f.1") == {0: 5}
    shop.teardown()
    assert blobs(shop, "1", "f.1") == (None,)
    assert shop.marker(0, "f.1") is None
    assert shop.population("f.1", "rank", 60) is None
    assert put(shop, "user", write("1", {"f.1": b"shop"})) == [True]  # who empties it need not be told


def test_an_expired_hash_is_absent_and_comes_back_empty(store: OnlineStore, moment: Moment) -> None:
    old = write("1", {"f.1": b"a", "g.1": b"g"}, expires_us=moment() + SECOND_US)
    put(store, "user", old)
    assert blobs(store, "1", "f.1") == (b"a",)
    moment.passes(SECOND_US)
    assert store.read("user", ["1"], ["f.1"])[0].version is None
    assert store.count("user", "f.1") == 0
    assert put(store, "user", write("1", {"f.1": b"x"}, old.version)) == [False]
    assert put(store, "user", write("1", {"f.1": b"b"}, None, expires_us=moment() + HOUR_US)) == [True]
    assert blobs(store, "1", "f.1", "g.1") == (b"b", None)


def test_an_expiry_only_moves_outwards(store: OnlineStore, moment: Moment) -> None:
    """Whichever comes first, the later expiry stands, and one that never comes before all others."""
    now_us = moment()
    soon, late, never = now_us + SECOND_US, now_us + HOUR_US, None
    orders = [(soon, late), (late, soon), (soon, never), (never, soon), (late, never, soon), (soon, soon)]
    last: dict[str, Write] = {}
    for round_ in range(3):
        for number, order in enumerate(orders):
            if round_ < len(order):
                before = last.get(str(number))
                expected = before.version if before else None
                last[str(number)] = write(
                    str(number), {f"f.{round_}": b"a"}, expected, expires_us=order[round_]
                )
                assert put(store, "user", last[str(number)]) == [True]
    moment.passes(SECOND_US)
    there = [blobs(store, str(number), "f.0", "f.1") for number in range(len(orders))]
    assert there == [(b"a", b"a")] * 5 + [(None, None)]


def test_scan_gives_the_active_in_order_of_id(store: OnlineStore) -> None:
    ids = [f"{number:05}" for number in range(4_500)]
    put(store, "user", *(write(id, {"f.1": id.encode()}, newest_us=int(id)) for id in reversed(ids)))
    put(store, "user", write("g only", {"g.1": b"g"}, newest_us=10**9))
    scanned = [row for chunk in store.scan("user", "f.1", 100) for row in chunk]
    assert scanned == [(id, id.encode()) for id in ids[100:]]


def test_a_sample_repeats_itself_and_follows_its_seed(store: OnlineStore) -> None:
    put(store, "user", *(write(str(number), {"f.1": b"a"}) for number in range(200)))
    first = store.sample("user", "f.1", 20, seed=1)
    assert len(set(first)) == 20
    assert store.sample("user", "f.1", 20, seed=1) == first
    assert store.sample("user", "f.1", 20, seed=2) != first
    assert len(store.sample("user", "f.1", 1_000, seed=1)) == store.count("user", "f.1") == 200


def test_a_marker_exists_once_made_and_only_rises(store: OnlineStore) -> None:
    assert store.marker(0, "f.1") is None
    store.mark(0, "f.1", {})
    assert store.marker(0, "f.1") == {}
    store.mark(0, "f.1", {-1: 1 << 41, 0: 7})
    store.mark(0, "f.1", {0: 5, 1: 2})
    assert store.marker(0, "f.1") == {-1: 1 << 41, 0: 7, 1: 2}
    assert store.marker(0, "g.1") is None


@pytest.mark.parametrize("does", ["write", "mark"])
@pytest.mark.parametrize("is_built_again", [False, True])
@pytest.mark.parametrize("has_marked", [False, True])
def test_who_has_looked_at_markers_is_told_that_the_store_was_emptied(
    make: Maker, does: str, is_built_again: bool, has_marked: bool
) -> None:
    """Once, before anything is written: states would rest on others that are gone, markers speak of them."""
    store, other, third = make("shop"), make("shop"), make("shop")

    def markers(store: OnlineStore) -> list[dict[int, int] | None]:
        return [store.marker(shard, "f.1") for shard in range(store.shards)]

    def mark(store: OnlineStore, end: int) -> None:
        for shard in range(store.shards):
            store.mark(shard, "f.1", {0: end})

    mark(store if has_marked else third, 5)
    known = markers(store)
    other.teardown()
    third.close()
    if is_built_again:
        put(third, "user", write("1", {"f.1": b"again"}))
        mark(third, 5)
    with pytest.raises(StoreUnavailable, match="emptied while in use"):
        if does == "write":
            put(store, "user", write("2", {"f.1": b"a"}))
        else:
            mark(store, 6)
    assert markers(store) == (known if is_built_again else [None] * store.shards)
    assert blobs(store, "2", "f.1") == (None,)
    assert put(store, "user", write("2", {"f.1": b"b"})) == [True]
    mark(store, 7)
    assert markers(store) == [{0: 7}] * store.shards


def test_a_population_stands_until_it_is_withdrawn(store: OnlineStore) -> None:
    store.publish("f.1", "rank", 60, b"first", store.withdrawals("f.1"))
    store.publish("f.1", "rank", 60, b"second", store.withdrawals("f.1"))
    store.publish("f.1", "rank", 120, b"later", store.withdrawals("f.1"))
    assert store.population("f.1", "rank", 60) == b"first"
    store.withdraw("f.1", 60)
    assert store.population("f.1", "rank", 60) == b"first"
    assert store.population("f.1", "rank", 120) is None
    store.publish("f.1", "rank", 120, b"of states that were read before", 0)
    assert store.population("f.1", "rank", 120) is None
    store.publish("f.1", "rank", 10 * HOUR_US, b"next day", store.withdrawals("f.1"))
    assert store.population("f.1", "rank", 60) is None


def test_a_dropped_field_is_gone_and_others_stay(make: Maker) -> None:
    store, elsewhere = make("shop"), make("shop")
    first = write("1", {"f.1": b"a", "g.1": b"g"})
    put(store, "user", first)
    store.mark(0, "f.1", {0: 1})
    store.publish("f.1", "rank", 60, b"p", store.withdrawals("f.1"))
    assert elsewhere.read("user", ["1"], ["f.1", "g.1"])[0].blobs == (b"a", b"g")
    store.drop("f.1")
    assert elsewhere.read("user", ["1"], ["f.1", "g.1"])[0].blobs == (None, b"g")
    assert elsewhere.marker(0, "f.1") is None
    assert elsewhere.population("f.1", "rank", 60) is None
    assert put(elsewhere, "user", write("1", {"f.1": b"again"}, first.version)) == [True]
    assert store.read("user", ["1"], ["f.1", "g.1"])[0].blobs == (b"again", b"g")


def test_fields_are_those_of_states_markers_and_populations(make: Maker) -> None:
    store, other = make("shop"), make("other")
    assert store.fields() == set()
    put(other, "user", write("1", {"z.1": b"z"}))
    put(store, "user", *(write(str(number), {"f.1": b"a"}) for number in range(50)))
    put(store, "item", write("1", {"g.1": b"a", "h.1": b"b"}))
    store.mark(store.shards - 1, "i.1", {0: 1})
    store.publish("j.1", "rank", 60, b"p", store.withdrawals("j.1"))
    assert store.fields() == {"f.1", "g.1", "h.1", "i.1", "j.1"}
    for field in ("f.1", "i.1", "j.1"):
        store.drop(field)
    assert store.fields() == {"g.1", "h.1"}


def test_bytes_held_follow_the_blobs(store: OnlineStore) -> None:
    assert store.bytes_held() == 0
    put(store, "user", *(write(str(number), {"f.1": bytes(1_000)}) for number in range(10)))
    assert 10_000 <= store.bytes_held() <= 15_000  # Redis counts what it spends on a hash


def test_it_answers_a_ping(store: OnlineStore) -> None:
    store.ping()
    store.close()
    store.ping()


def _count_up(kind: str, where: str, start: "multiprocessing.synchronize.Barrier", rounds: int) -> None:
    store = opened(kind, where, "shop")
    start.wait()
    for number in range(rounds):
        applied = False
        while not applied:
            held = store.read("user", ["hot"], ["f.1"])[0]
            total = int(held.blobs[0] or b"0") + 1
            own = f"{os.getpid()}-{number}"
            hot = write("hot", {"f.1": b"%d" % total}, held.version)
            applied, _ = put(store, "user", hot, write(own, {"f.1": b"1"}))
        store.mark(0, "f.1", {os.getpid(): number})
    store.close()


def test_two_processes_racing_lose_no_write(kind: str, where: str) -> None:
    """Both come first, and count one hash up by compare-and-set: every increment is there in the end."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    racers = [context.Process(target=_count_up, args=(kind, where, barrier, 200)) for _ in "ab"]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert [racer.exitcode for racer in racers] == [0, 0]
    store = opened(kind, where, "shop")
    assert blobs(store, "hot", "f.1") == (b"400",)
    assert store.marker(0, "f.1") == {racer.pid: 199 for racer in racers}
    store.close()

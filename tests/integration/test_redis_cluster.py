"""States and markers in a Redis cluster: where they lie, moved slots, lost nodes."""

from collections.abc import Iterator

import pytest
from redis.crc import key_slot

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.online.redis import RedisStore
from tests.integration.redis_stores import opened, version, write
from tests.services.processes import wait_until
from tests.services.redis import RedisCluster, redis_cluster

pytestmark = pytest.mark.service("redis")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with redis_cluster() as running:
        yield running


def test_every_shard_has_its_marker_on_its_own_node(cluster: RedisCluster) -> None:
    store = opened(cluster.url, cluster=True)
    assert store.shards == 3
    for shard in range(3):
        store.mark(shard, "f.1", {0: shard})
    for shard, node in enumerate(cluster.nodes):
        with node.client() as client:
            birth, key = sorted(client.keys("ff:shop::marker:*"))
            assert (birth[-2:], key[-4:]) == (b":.", b":f.1")
            assert client.hgetall(key) == {b".": b"", b"0": b"%d" % shard}
    store.teardown()
    store.close()


def test_shards_hold_the_hashes_that_they_are_said_to(cluster: RedisCluster) -> None:
    store = opened(cluster.url, cluster=True)
    ids = [f"{number}" for number in range(300)]
    for id in ids:
        write(store, id)
    for shard, node in enumerate(cluster.nodes):
        with node.client() as client:
            there = {key.decode().rpartition(":")[2] for key in client.keys("ff:shop:user:*")}
        assert there == {id for id in ids if store.shard_of("user", id) == shard}
        assert len(there) > 50
    store.teardown()
    store.close()


def test_moved_slots_are_a_loss_and_the_new_shards_have_no_markers(cluster: RedisCluster) -> None:
    """Some slots go over to the second node with their keys: two shards are others now, the third is the same."""
    store = opened(cluster.url, cluster=True)
    ids = [f"{number}" for number in range(100)]
    versions = {id: write(store, id) for id in ids}
    for shard in range(3):
        store.mark(shard, "f.1", {0: 5})
    slots = {0, *(key_slot(b"ff:shop:user:" + id.encode()) for id in ids if store.shard_of("user", id) == 0)}
    moved_slots(cluster, slots, source=0, target=1)
    with pytest.raises(StoreUnavailable, match="moved"):
        for id in ids:
            versions[id] = write(store, id, versions[id])
    assert [store.marker(shard, "f.1") for shard in range(store.shards)] == [None, None, {0: 5}]
    assert store.count("user", "f.1") == 100
    moved_slots(cluster, slots, source=1, target=0)
    with pytest.raises(StoreUnavailable):
        for id in ids:
            write(store, id, version(store, id))
    store.drop("f.1")
    assert [store.marker(shard, "f.1") for shard in range(store.shards)] == [None] * 3
    store.close()


def moved_slots(cluster: RedisCluster, slots: set[int], source: int, target: int) -> None:
    """Move them as `redis-cli --cluster reshard` does."""
    clients = [node.client() for node in cluster.nodes]
    ids = [client.execute_command("CLUSTER MYID") for client in clients]
    for slot in slots:
        clients[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
        clients[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
        keys = clients[source].execute_command("CLUSTER GETKEYSINSLOT", slot, 100)
        if keys:
            port = cluster.nodes[target].port
            clients[source].execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5_000, "KEYS", *keys)
        for client in (clients[target], clients[source], *clients):
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])
    for client in clients:
        client.close()


def test_a_lost_node_is_told_and_the_others_wait_for_it(cluster: RedisCluster) -> None:
    store = opened(cluster.url, cluster=True, timeout="500ms")
    ids = [f"{number}" for number in range(50)]
    for id in ids:
        write(store, id)
    cluster.nodes[2].stop()
    with pytest.raises(StoreUnavailable):
        store.read("user", ids, ["f.1"])
    cluster.nodes[2].start()
    wait_until(lambda: _reads(store, ids), "the cluster is whole again")
    kept = [held.version is not None for held in store.read("user", ids, ["f.1"])]
    assert kept == [store.shard_of("user", id) != 2 for id in ids]
    store.teardown()
    store.close()


def _reads(store: RedisStore, ids: list[str]) -> bool:
    try:
        store.read("user", ids, ["f.1"])
    except StoreUnavailable:
        return False
    return True

"""Which servers hold a project's states: one, the sentinels' master, or the masters of a cluster."""

from array import array
from binascii import crc_hqx
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.online.redis_connections import (
    ERRORS,
    Access,
    Endpoint,
    ask,
    connect,
    explained,
    text,
    unavailable,
)

SLOTS = 16384


@dataclass(frozen=True)
class Shards:
    """The servers, in order of their lowest slots.

    `names` tell the marker keys of a shard apart: in a cluster the slots, with a tag that puts the key into the
    lowest of them, so that a shard that was cut otherwise finds no marker (design.md 4 [shard]).
    """

    endpoints: tuple[Endpoint, ...]
    names: tuple[str, ...]
    of_slot: "array[int] | None" = None

    def __len__(self) -> int:
        return len(self.endpoints)

    def of(self, key: bytes) -> int:
        """The shard of a key that has no braces."""
        return 0 if self.of_slot is None else self.of_slot[crc_hqx(key, 0) % SLOTS]

    def split(self, prefix: bytes, ids: Sequence[str]) -> list[tuple[int, Sequence[int]]]:
        """Per shard the places of its ids; `prefix` is what the keys have before them."""
        if self.of_slot is None:
            return [(0, range(len(ids)))]
        places: dict[int, list[int]] = {}
        start, of_slot = crc_hqx(prefix, 0), self.of_slot
        for place, id in enumerate(ids):
            places.setdefault(of_slot[crc_hqx(id.encode(), start) % SLOTS], []).append(place)
        return sorted(places.items())


def find(access: Access, is_cluster: bool, known: Iterable[Endpoint]) -> Shards:
    """Ask who the servers are now; `known` are endpoints that were theirs. StoreUnavailable where none tells."""
    if is_cluster:
        return _of_cluster(access, [*known, *access.url.hosts])
    if access.url.service is not None:
        return Shards((_master(access, access.url.service),), ("",))
    return Shards(access.url.hosts, ("",))


def _master(access: Access, service: str) -> Endpoint:
    """Where the master of that name is, by the first sentinel that knows."""
    failed: StoreUnavailable | None = None
    for endpoint in access.url.hosts:
        try:
            connection = connect(access.of_sentinels(), endpoint)
            try:
                found = ask(connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
            finally:
                connection.disconnect()
        except ERRORS as err:
            failed = explained(err, f"sentinel {endpoint[0]}:{endpoint[1]}")
            continue
        if found:
            return text(found[0]), int(found[1])
        what, hint = f"the sentinels know no master '{service}'", "check the name in `online_store: url`"
        failed = unavailable(what, str(access.url), hint)
    assert failed is not None
    raise failed


def _of_cluster(access: Access, endpoints: Sequence[Endpoint]) -> Shards:
    failed: StoreUnavailable | None = None
    for endpoint in dict.fromkeys(endpoints):
        try:
            connection = connect(access, endpoint)
            try:
                ranges = ask(connection, "CLUSTER", "SLOTS")
            finally:
                connection.disconnect()
        except ERRORS as err:
            failed = explained(err, f"{endpoint[0]}:{endpoint[1]}")
            if "cluster support disabled" in str(err):
                what = "this Redis is no cluster"
                raise unavailable(what, str(access.url), "remove `cluster: true`") from err
            continue
        return _shards(ranges, endpoint, str(access.url))
    assert failed is not None
    raise failed


def _shards(ranges: Sequence[Sequence[object]], asked: Endpoint, where: str) -> Shards:
    """The shards by an answer to CLUSTER SLOTS: [first slot, last slot, [host, port, …] of the master, …] each."""
    owned: dict[Endpoint, list[tuple[int, int]]] = {}
    for first, last, master, *_ in sorted(ranges, key=lambda each: each[0]):  # type: ignore[arg-type,return-value]
        host, port = text(master[0] or "") or asked[0], int(master[1])  # type: ignore[index]
        owned.setdefault((host, port), []).append((int(first), int(last)))  # type: ignore[call-overload]
    of_slot = array("H", [len(owned)] * SLOTS)
    for shard, held in enumerate(owned.values()):
        for first, last in held:
            of_slot[first : last + 1] = array("H", [shard]) * (last + 1 - first)
    if max(of_slot) == len(owned):
        what, hint = "the Redis cluster does not cover all slots", "bring back the nodes that are missing"
        raise unavailable(what, where, hint)
    names = []
    for held in owned.values():
        slots = ",".join(f"{first}-{last}" for first, last in held)
        names.append(f"{{{_tags()[held[0][0]]}}}{slots}")
    return Shards(tuple(owned), tuple(names), of_slot)


@cache
def _tags() -> list[str]:
    """A text of each slot, found by trying."""
    tags: list[str] = [""] * SLOTS
    missing, number = SLOTS, 0
    while missing:
        slot = crc_hqx(b"%x" % number, 0) % SLOTS
        if not tags[slot]:
            tags[slot] = f"{number:x}"
            missing -= 1
        number += 1
    return tags

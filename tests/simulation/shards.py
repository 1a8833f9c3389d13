"""Online servers in memory, which may lose what they hold, and a process's connections to them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np

from featureflow_cli.compute.codes import Bools
from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.online.store import Held, Send, Writes, at_once
from featureflow_cli.times import Clock
from tests.hashes import Write, one_by_one
from tests.simulation.processes import How
from tests.simulation.promises import Promises

Answer = TypeVar("Answer")


class Hash(NamedTuple):
    """One entity's; never changed, always replaced. It is gone from `until_us` on; None: it stays."""

    version: bytes
    blobs: Mapping[str, bytes]
    until_us: int | None


class Server:
    """One process of the store: hashes by (entity, id), markers by (field,); and all changes, to be undone.

    `birth`: how often it was emptied.
    """

    def __init__(self, other: "Server | None" = None) -> None:
        self.birth = other.birth if other else 0
        self.data: dict[tuple[str, ...], Any] = dict(other.data) if other else {}
        self.journal: list[tuple[tuple[str, ...], Any]] = list(other.journal) if other else []

    def put(self, name: tuple[str, ...], value: Any) -> None:
        self.journal.append((name, self.data.get(name)))
        self.data[name] = value

    def undo(self, count: int) -> None:
        for _ in range(min(count, len(self.journal))):
            name, before = self.journal.pop()
            self.data[name] = before

    def hash(self, entity: str, id: str, now_us: int) -> Hash | None:
        found: Hash | None = self.data.get((entity, id))
        return found if found is None or found.until_us is None or found.until_us > now_us else None

    def marker(self, field: str) -> dict[int, int] | None:
        found: dict[int, int] | None = self.data.get((field,))
        return found

    def mark(self, field: str, ends: Mapping[int, int]) -> None:
        held = self.marker(field) or {}
        self.put((field,), held | {each: max(end, held.get(each, end)) for each, end in ends.items()})

    def drop(self, field: str) -> None:
        for name, value in list(self.data.items()):
            if name == (field,):
                self.put(name, None)
            elif isinstance(value, Hash) and field in value.blobs:
                kept = {other: blob for other, blob in value.blobs.items() if other != field}
                self.put(name, value._replace(blobs=kept))


@dataclass
class Cluster:
    """Per shard the servers that it ever had (the last is its master) and which of them still answer.

    `late` are calls that will arrive when nobody waits for them any more. `written` is told of every hash.
    """

    shards: list[list[Server]]
    clock: Clock
    promises: Promises = field(default_factory=Promises)
    written: Callable[[str, str, Hash], None] = lambda *_: None
    alive: list[set[int]] = field(default_factory=list)
    late: list[tuple[int, int, int, Callable[[Server], object]]] = field(default_factory=list)
    changes: int = 0

    def __post_init__(self) -> None:
        self.alive = [{len(servers) - 1} for servers in self.shards]

    def shard_of(self, entity: str, id: str) -> int:
        return (int(id) + (entity == "item")) % len(self.shards)

    def master(self, shard: int) -> Server:
        return self.shards[shard][-1]

    def fail_over(self, shard: int, lost: int | None, lives_on: bool) -> None:
        """Another server becomes the master, without the last `lost` changes (None: without any)."""
        fresh = Server(None if lost is None else self.master(shard))
        fresh.undo(lost or 0)
        self.shards[shard].append(fresh)
        self.alive[shard] = {len(self.shards[shard]) - 1} | (self.alive[shard] if lives_on else set())
        self.changes += 1

    def empty(self, shard: int) -> None:
        """The master loses all, and no connection ends."""
        master = self.master(shard)
        master.data, master.journal, master.birth = {}, [], master.birth + 1
        self.changes += 1

    def is_for(self, server: Server, birth: int) -> bool:
        """Whether who knows that birth may write there."""
        return not self.promises.emptied or server.birth == birth

    def cut(self) -> None:
        """Nobody reaches old masters any more."""
        self.alive = [{len(servers) - 1} for servers in self.shards]

    def arrive(self, number: int) -> None:
        shard, server, birth, run = self.late.pop(number % len(self.late))
        if server in self.alive[shard] and self.is_for(self.shards[shard][server], birth):
            run(self.shards[shard][server])

    def take(self, server: Server, entity: str, fields: Sequence[str], write: Write) -> bool:
        """Compare and set, as a store does it."""
        found = server.hash(entity, write.id, self.clock())
        if self.promises.compare and (found.version if found else None) != write.expected:
            return False
        until_us = write.expires_us
        if found and self.promises.longest:
            never = until_us is None or found.until_us is None
            until_us = None if never else max(until_us, found.until_us)  # type: ignore[type-var]
        fresh = {field: blob for field, blob in zip(fields, write.blobs, strict=True) if blob is not None}
        hash_ = Hash(write.version, {**(found.blobs if found else {}), **fresh}, until_us)
        server.put((entity, write.id), hash_)
        self.changes += 1
        self.written(entity, write.id, hash_)
        return True


class Store:
    """One process's `online.store.OnlineStore`: a connection to each shard, which ends with the first failure.

    What it knows of a shard's birth is as of its first look at a marker, or its first write.
    """

    def __init__(self, cluster: Cluster, pause: Callable[[str], How]) -> None:
        self._cluster = cluster
        self._pause = pause
        self._servers: dict[int, int] = {}
        self._births: dict[int, int] = {}

    @property
    def shards(self) -> int:
        return len(self._cluster.shards)

    def read(self, entity: str, ids: Sequence[str], fields: Sequence[str]) -> list[Held]:
        found: dict[str, Held] = {}
        for shard, mine in self._split(entity, ids):

            def run(server: Server, mine: Sequence[str] = mine) -> dict[str, Held]:
                hashes = {id: server.hash(entity, id, self._cluster.clock()) for id in mine}
                return {
                    id: Held(
                        one.version if one else None, tuple(one.blobs.get(f) if one else None for f in fields)
                    )
                    for id, one in hashes.items()
                }

            found |= self._call(shard, f"read {entity} {', '.join(mine)}", run)
        return [found[id] for id in ids]

    def write(self, entity: str, fields: Sequence[str], writes: Writes) -> Bools:
        """Hash by hash: a lost connection leaves some of them written."""
        by_id = {write.id: write for write in one_by_one(writes)}
        applied: dict[str, bool] = {}
        for shard, mine in self._split(entity, list(by_id)):
            for place, id in enumerate(mine):
                rest = [self._take(entity, fields, by_id[other]) for other in mine[place + 1 :]]
                run = self._take(entity, fields, by_id[id])
                applied[id] = self._call(shard, f"write {entity} {id}", run, rest, writes=True)
        return np.array([applied[id] for id in writes.ids], np.bool_)

    def sending(self) -> AbstractContextManager[Send]:
        return at_once(self.write)

    def _take(self, entity: str, fields: Sequence[str], write: Write) -> Callable[[Server], bool]:
        return lambda server: self._cluster.take(server, entity, fields, write)

    def marker(self, shard: int, field: str) -> dict[int, int] | None:
        found: dict[int, int] | None = self._call(
            shard, f"read marker {field}", lambda server: server.marker(field), is_marker=True
        )
        return found

    def mark(self, shard: int, field: str, ends: Mapping[int, int]) -> None:
        def run(server: Server) -> None:
            server.mark(field, ends)
            self._cluster.changes += 1

        self._call(shard, f"mark {field} {dict(ends)}", run, is_marker=True, writes=True)

    def drop(self, field: str) -> None:
        for shard in range(self.shards):
            self._call(shard, f"drop {field}", lambda server: server.drop(field))

    def ping(self) -> None:
        for shard in range(self.shards):
            self._call(shard, "ping", lambda _: None)

    def shard_of(self, entity: str, id: str) -> int:
        return self._cluster.shard_of(entity, id)

    def close(self) -> None:
        self._servers.clear()
        self._births.clear()

    def _split(self, entity: str, ids: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        by_shard: dict[int, list[str]] = {}
        for id in ids:
            by_shard.setdefault(self.shard_of(entity, id), []).append(id)
        return iter(sorted(by_shard.items()))

    def _call(
        self,
        shard: int,
        what: str,
        run: Callable[[Server], Answer],
        rest: Iterable[Callable[[Server], object]] = (),
        is_marker: bool = False,
        writes: bool = False,
    ) -> Answer:
        how = self._pause(f"{what} on shard {shard}")
        cluster = self._cluster
        servers = cluster.shards[shard]
        if is_marker and not cluster.promises.fate:
            return run(servers[-1])
        if shard not in self._servers:
            stale = how is How.STALE and len(cluster.alive[shard]) > 1
            self._servers[shard] = min(cluster.alive[shard]) if stale else len(servers) - 1
        number = self._servers[shard]
        if number not in cluster.alive[shard] and not cluster.promises.first:
            number = self._servers[shard] = len(servers) - 1
        if number not in cluster.alive[shard] or how is How.UNSENT:
            raise self._broken(shard)
        birth = servers[number].birth
        if is_marker or writes:
            birth = self._births.setdefault(shard, birth)
        if how is How.LATE:
            cluster.late += [(shard, number, birth, each) for each in (run, *rest)]
            raise self._broken(shard)
        if writes and not cluster.is_for(servers[number], birth):
            raise self._broken(shard)
        answer = run(servers[number])
        if how is How.UNHEARD:
            raise self._broken(shard)
        return answer

    def _broken(self, shard: int) -> StoreUnavailable:
        self._servers.pop(shard, None)
        self._births.pop(shard, None)
        return StoreUnavailable(f"shard {shard} does not answer")

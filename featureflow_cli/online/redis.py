"""The online store in Redis: a hash per entity, on one server, behind sentinels, or in a cluster.

    ff:PROJECT:ENTITY:ID             a hash: the version (field `v`), and per view state the moment and blob
    ff:PROJECT::marker:SHARD:FIELD   a marker: an end per partition
    ff:PROJECT::marker:SHARD:.       the shard's birth: a name that it loses with all else
    ff:PROJECT::ranks:FIELD          the populations of its ranks, and how often some were withdrawn

Every step that compares before it sets is a function in Redis (redis_functions.lua). What belongs together is all sent
before the first answer is read. A Redis that is emptied ends no connection; so what is written names the birth of the
shard, as it was when the first marker was read, and another one is a loss like any [emptied].
"""

import random
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import numpy as np

from featureflow_cli.compute.codes import Bools
from featureflow_cli.online.redis_connections import Access, Refused
from featureflow_cli.online.redis_frames import VERSION, command, held, reads, write_calls
from featureflow_cli.online.redis_functions import full_name
from featureflow_cli.online.redis_link import Hears, Link, Talk
from featureflow_cli.online.store import Held, Send, Writes
from featureflow_cli.times import HOUR_US, Clock, system_clock

_BIRTH = "."
"""In place of a field, which has a name before the dot."""
_POPULATIONS_KEPT_US = 2 * HOUR_US
_SCANNED_AT_ONCE = 2_000
_PACKED = "hash-max-listpack-value"
_PACKED_BYTES = 1024
_WEIGHED = 50
_WEIGHED_PAGES = 10


class RedisStore:
    """An `OnlineStore` in Redis, for any number of threads, processes and machines."""

    def __init__(
        self, access: Access, project: str, *, is_cluster: bool = False, clock: Clock = system_clock
    ) -> None:
        self._link = Link(access, is_cluster)
        self._prefix = f"ff:{project}:"
        self._clock = clock

    def __str__(self) -> str:
        return str(self._link.access.url)

    @property
    def shards(self) -> int:
        with self._link.talk(Hears.IF_WRITTEN) as talk:
            return len(talk.shards)

    def shard_of(self, entity: str, id: str) -> int:
        with self._link.talk() as talk:
            return talk.shards.of(self._hashes(entity) + id.encode())

    # ---- states

    def read(self, entity: str, ids: Sequence[str], fields: Sequence[str]) -> list[Held]:
        prefix = self._hashes(entity)
        found: list[Held] = [Held(None, ())] * len(ids)
        with self._link.talk() as talk:
            split = talk.shards.split(prefix, ids)
            for shard, places in split:
                chosen = [ids[place] for place in places] if len(split) > 1 else ids
                talk.send(shard, reads(prefix, chosen, fields), len(places))
            for shard, places in split:
                for place, answer in zip(places, talk.receive(shard, len(places)), strict=True):
                    found[place] = held(answer)
        return found

    def write(self, entity: str, fields: Sequence[str], writes: Writes) -> Bools:
        with self.sending() as send:
            return send(entity, fields, writes)()

    @contextmanager
    def sending(self) -> Iterator[Send]:
        with self._link.talk(Hears.AS_WRITER) as talk:
            yield partial(self._send, talk)

    def _send(self, talk: Talk, entity: str, fields: Sequence[str], writes: Writes) -> Callable[[], Bools]:
        prefix, function, now_us = self._hashes(entity), full_name("write").encode(), self._clock()
        split = [
            (shard, np.array(places, np.int64)) for shard, places in talk.shards.split(prefix, writes.ids)
        ]
        calls = dict.fromkeys((shard for shard, _ in split), 0)
        for shard, places in split:
            talk.prepare(shard)
            key, birth = self._born(talk, shard)
            mine = writes.take(places) if len(split) > 1 else writes
            for call in write_calls(function, (key.encode(), birth), prefix, fields, mine, now_us):
                talk.send(shard, call, 1)
                calls[shard] += 1

        def answer() -> Bools:
            applied = np.zeros(len(writes), np.bool_)
            for shard, places in split:
                answers = b"".join(talk.receive(shard, calls[shard]))
                applied[places] = np.frombuffer(answers, np.uint8) == ord("1")
            return applied

        return answer

    def scan(self, entity: str, field: str, since_us: int) -> Iterator[list[tuple[str, bytes]]]:
        ids = self._holding(entity, field, since_us)
        for first in range(0, len(ids), _SCANNED_AT_ONCE):
            chosen = ids[first : first + _SCANNED_AT_ONCE]
            found = zip(chosen, self.read(entity, chosen, [field]), strict=True)
            chunk = [(id, each.blobs[0]) for id, each in found if each.blobs[0] is not None]
            if chunk:
                yield chunk

    def sample(self, entity: str, field: str, count: int, seed: int) -> list[str]:
        ids = self._holding(entity, field, None)
        return random.Random(seed).sample(ids, min(count, len(ids)))  # noqa: S311  (a sample, not a secret)

    def count(self, entity: str, field: str) -> int:
        return len(self._holding(entity, field, None))

    def _holding(self, entity: str, field: str, since_us: int | None) -> list[str]:
        """The ids that hold `field` with an event at or after `since_us`, in order; a walk may meet one twice."""
        prefix = self._hashes(entity)
        pattern, since = _literal(prefix) + b"*", b"" if since_us is None else b"%d" % since_us
        found: set[bytes] = set()
        with self._link.talk() as talk:
            for shard in range(len(talk.shards)):
                cursor = b"0"
                while True:
                    cursor, *keys = talk.call(shard, "holding", (), cursor, pattern, field, since, reads=True)
                    found.update(keys)
                    if cursor == b"0":
                        break
        return sorted(key[len(prefix) :].decode() for key in found)

    # ---- markers

    def marker(self, shard: int, field: str) -> dict[int, int] | None:
        with self._link.talk(Hears.IF_WRITTEN) as talk:
            if shard not in talk.births:  # before the marker: what it says is of that birth or a later one
                birth = talk.ask(shard, "HGET", self._marker(talk, shard, _BIRTH), ".")
                if birth is None:
                    return None
                talk.births.setdefault(shard, birth)
            flat = talk.ask(shard, "HGETALL", self._marker(talk, shard, field))
        pairs = dict(zip(flat[::2], flat[1::2], strict=True))
        return {int(name): int(end) for name, end in pairs.items() if name != b"."} if pairs else None

    def mark(self, shard: int, field: str, ends: Mapping[int, int]) -> None:
        flat = [number for pair in ends.items() for number in pair]
        with self._link.talk(Hears.AS_WRITER) as talk:
            key, birth = self._born(talk, shard)
            talk.call(shard, "mark", [self._marker(talk, shard, field), key], birth, *flat)

    def _born(self, talk: Talk, shard: int) -> tuple[str, bytes]:
        """The key of the shard's birth, and its name; where no marker was found yet, it may be given one now."""
        key = self._marker(talk, shard, _BIRTH)
        if shard not in talk.births:
            talk.births.setdefault(shard, talk.call(shard, "born", [key], secrets.token_hex(8)))
        return key, talk.births[shard]

    # ---- populations of ranks

    def population(self, field: str, feature: str, grid_us: int) -> bytes | None:
        return self._rank(field, f"{feature}@{grid_us}")

    def withdrawals(self, field: str) -> int:
        return int(self._rank(field, "#") or 0)

    def _rank(self, field: str, name: str) -> bytes | None:
        key = self._ranks(field)
        with self._link.talk() as talk:
            found: bytes | None = talk.ask(talk.shards.of(key.encode()), "HGET", key, name)
        return found

    def publish(self, field: str, feature: str, grid_us: int, population: bytes, withdrawals: int) -> None:
        kept_us = grid_us - _POPULATIONS_KEPT_US
        self._call_ranks("publish", field, withdrawals, feature, grid_us, population, kept_us)

    def withdraw(self, field: str, after_us: int) -> None:
        self._call_ranks("withdraw", field, after_us)

    def _call_ranks(self, function: str, field: str, *args: str | bytes | int) -> None:
        key = self._ranks(field)
        with self._link.talk() as talk:
            talk.call(talk.shards.of(key.encode()), function, [key], *args)

    # ---- housekeeping

    def fields(self) -> set[str]:
        ours = f"{self._prefix}:".encode()
        found: set[bytes] = set()
        with self._link.talk() as talk:
            for shard, keys in self._walk(talk):
                found.update(key.rpartition(b":")[2] for key in keys if key.startswith(ours))
                states = [key for key in keys if not key.startswith(ours)]
                if states:
                    talk.send(shard, b"".join(command(b"HKEYS", key) for key in states), len(states))
                    for names in talk.receive(shard, len(states)):
                        found.update(names)
        return {name.decode() for name in found - {VERSION, _BIRTH.encode()}}

    def drop(self, field: str) -> None:
        end = b":" + field.encode()
        ours = f"{self._prefix}:".encode()
        with self._link.talk() as talk:
            for shard, keys in self._walk(talk):
                beside = [key for key in keys if key.startswith(ours)]
                gone = [key for key in beside if key.endswith(end)]
                if gone:
                    _unlink(talk, shard, gone)
                if len(beside) < len(keys):
                    states = [key for key in keys if not key.startswith(ours)]
                    talk.call(shard, "drop", (), field, *states)
            self._unlink_births(talk)

    def _unlink_births(self, talk: Talk) -> None:
        """Where they are all that is left, and no more: what others write meanwhile stays, and they are told.

        So is this store object: it may be the drop of an old build, on a Redis that was emptied since [emptied].
        """
        births, end = list[tuple[int, list[bytes]]](), b":" + _BIRTH.encode()
        for shard, keys in self._walk(talk):
            if not all(key.endswith(end) for key in keys):
                return
            births.append((shard, keys))
        for shard, keys in births:
            if keys:
                _unlink(talk, shard, keys)

    def teardown(self) -> None:
        with self._link.talk() as talk:
            for shard, keys in self._walk(talk):
                if keys:
                    _unlink(talk, shard, keys)
            talk.births.clear()  # who empties it need not be told

    def _walk(self, talk: Talk) -> Iterator[tuple[int, list[bytes]]]:
        """All keys of the project, a page at a time; some perhaps twice."""
        pattern = _literal(self._prefix.encode()) + b"*"
        for shard in range(len(talk.shards)):
            cursor = b"0"
            while True:
                cursor, keys = talk.ask(shard, "SCAN", cursor, "MATCH", pattern, "COUNT", _SCANNED_AT_ONCE)
                yield shard, keys
                if cursor == b"0":
                    break

    def bytes_held(self) -> int:
        """By weighing some of our hashes, and counting how many of all keys are ours on the first pages."""
        total = 0.0
        with self._link.talk() as talk:
            for shard in range(len(talk.shards)):
                total += self._bytes_on(talk, shard)
        return round(total)

    def _bytes_on(self, talk: Talk, shard: int) -> float:
        ours, others = self._prefix.encode(), f"{self._prefix}:".encode()
        cursor, seen, mine = b"0", 0, list[bytes]()
        for _ in range(_WEIGHED_PAGES):
            cursor, keys = talk.ask(shard, "SCAN", cursor, "COUNT", _SCANNED_AT_ONCE)
            seen += len(keys)
            mine += [key for key in keys if key.startswith(ours) and not key.startswith(others)]
            if cursor == b"0":
                break
        if not mine:
            return 0.0
        weighed = mine[:: -(-len(mine) // _WEIGHED)]
        sizes = [talk.ask(shard, "MEMORY", "USAGE", key) or 0 for key in weighed]
        count = len(mine) if cursor == b"0" else len(mine) / seen * int(talk.ask(shard, "DBSIZE"))
        return count * sum(sizes) / len(sizes)

    def remarks(self) -> list[str]:
        """What an operator could set better; StoreUnavailable where a server cannot be used at all."""
        found: dict[str, None] = {}
        with self._link.talk() as talk:
            for shard in range(len(talk.shards)):
                talk.check(shard)
                with suppress(Refused):
                    _, held = talk.ask(shard, "CONFIG", "GET", _PACKED)
                    if int(held) < _PACKED_BYTES:
                        found[
                            f"{_PACKED} is {int(held)}; with {_PACKED_BYTES} states take a third less memory"
                        ] = None
        return list(found)

    def ping(self) -> None:
        """Every server answers; StoreUnavailable also where the connection had been lost meanwhile [idle]."""
        with self._link.talk(Hears.AT_ONCE) as talk:
            for shard in range(len(talk.shards)):
                talk.ask(shard, "PING")

    def close(self) -> None:
        self._link.close()

    def _hashes(self, entity: str) -> bytes:
        return f"{self._prefix}{entity}:".encode()

    def _marker(self, talk: Talk, shard: int, field: str) -> str:
        return f"{self._prefix}:marker:{talk.shards.names[shard]}:{field}"

    def _ranks(self, field: str) -> str:
        return f"{self._prefix}:ranks:{field}"


def _unlink(talk: Talk, shard: int, keys: Sequence[bytes]) -> None:
    """One command a key: a cluster takes no keys of different slots in one."""
    talk.send(shard, b"".join(command(b"UNLINK", key) for key in keys), len(keys))
    for _ in talk.receive(shard, len(keys)):
        pass


def _literal(text: bytes) -> bytes:
    """A pattern that matches only this text."""
    return b"".join(b"\\" + bytes([byte]) if byte in b"*?[]^-\\" else bytes([byte]) for byte in text)

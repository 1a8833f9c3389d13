"""The states a worker remembers, so that a batch need not fetch what the last one wrote [cache].

They are what the store acknowledged on this connection: with it, all of them are forgotten. Two generations
bound the memory: what is not asked for while the younger one fills up goes with the older.
"""

from collections.abc import Mapping, Sequence
from itertools import chain

from featureflow_cli.online.store import Held, OnlineStore

HASH_BYTES = 200
"""What a remembered hash takes beside its blobs, about."""


class Resident:
    """The hashes of one entity, of a fixed list of fields."""

    def __init__(self, entity: str, fields: tuple[str, ...], limit_bytes: int) -> None:
        self.entity = entity
        self.fields = fields
        self._limit_bytes = limit_bytes // 2
        self._young: dict[str, Held] = {}
        self._old: dict[str, Held] = {}
        self._bytes = 0

    def fetch(self, store: OnlineStore, ids: Sequence[str]) -> list[Held]:
        """The hashes of `ids`, in order: remembered, or read from the store."""
        young, old = self._young, self._old
        found = [young.get(id) or old.get(id) for id in ids] if old else list(map(young.get, ids))
        missing = [id for id, held in zip(ids, found, strict=True) if held is None]
        read = iter(store.read(self.entity, missing, self.fields) if missing else ())
        return [next(read) if held is None else held for held in found]

    def remember(self, held: Mapping[str, Held]) -> None:
        """What the store now holds of these ids, as it has acknowledged."""
        self._young.update(held)
        blobs = chain.from_iterable(one.blobs for one in held.values())
        self._bytes += HASH_BYTES * len(held) + sum(map(len, filter(None, blobs)))
        if self._bytes > self._limit_bytes:
            self._old, self._young, self._bytes = self._young, {}, 0

    def forget(self, ids: Sequence[str]) -> None:
        for id in ids:
            self._young.pop(id, None)
            self._old.pop(id, None)

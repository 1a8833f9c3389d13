"""The states a worker remembers, so that a batch need not fetch what the last one wrote [cache].

They are what the store acknowledged on this connection: with it, all of them are forgotten. Two generations
bound the memory: what is not written while the younger one fills up goes with the older.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from featureflow_cli.online.store import Held, OnlineStore

HASH_BYTES = 320
BLOB_BYTES = 48
"""What a remembered hash takes beside its blobs, and a blob beside its bytes: Python's objects, as measured."""
FIRST_BYTES = 4096
"""A hash is taken to have so much before any is known."""


class Resident:
    """The hashes of one entity, of a fixed list of fields, in at most `limit_bytes` of this process.

    What is remembered at once comes on top for a moment: keep it small beside the limit.
    """

    def __init__(self, entity: str, fields: tuple[str, ...], limit_bytes: int) -> None:
        self.entity = entity
        self.fields = fields
        self._limit_bytes = limit_bytes // 2
        self._young: dict[str, Held] = {}
        self._old: dict[str, Held] = {}  # none of them is among the young
        self._bytes = 0  # of the young
        self._mean_bytes = FIRST_BYTES

    def fetch(self, store: OnlineStore, ids: Sequence[str]) -> list[Held]:
        """The hashes of `ids`, in order: remembered, or read from the store."""
        young, old = self._young, self._old
        found = [young.get(id) or old.get(id) for id in ids] if old else list(map(young.get, ids))
        missing = [id for id, held in zip(ids, found, strict=True) if held is None]
        read = iter(store.read(self.entity, missing, self.fields) if missing else ())
        return [next(read) if held is None else held for held in found]

    def remember(self, held: Mapping[str, Held]) -> None:
        """What the store now holds of these ids, as it has acknowledged."""
        if not held:
            return
        added = _bytes_of(held.values())
        self._bytes += added - _bytes_of(filter(None, map(self._young.get, held)))
        self._mean_bytes = added // len(held)
        self._young.update(held)
        for id in held.keys() & self._old.keys():
            del self._old[id]
        if self._bytes > self._limit_bytes:
            self._old, self._young, self._bytes = self._young, {}, 0

    def forget(self, ids: Sequence[str]) -> None:
        for id in ids:
            gone = self._young.pop(id, None)
            self._bytes -= 0 if gone is None else _bytes_of([gone])
            self._old.pop(id, None)

    def count_in(self, size_bytes: int) -> int:
        """How many hashes are about so many bytes, if they are as those remembered last."""
        return max(1, size_bytes // self._mean_bytes)


def _bytes_of(held: Iterable[Held]) -> int:
    found = list(held)
    blobs = list(map(len, filter(None, chain.from_iterable(one.blobs for one in found))))
    return HASH_BYTES * len(found) + BLOB_BYTES * len(blobs) + sum(blobs)

"""The states a worker remembers, so that a batch need not fetch what the last one wrote [cache].

They are what the store acknowledged on this connection: with it, all of them are forgotten. Two generations
bound the memory: what is not asked for while the younger one fills up goes with the older.
"""

from collections.abc import Sequence

from featureflow_cli.online.store import Held, OnlineStore


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
        found = [young.get(id) or old.get(id) for id in ids]
        missing = [id for id, held in zip(ids, found, strict=True) if held is None]
        read = iter(store.read(self.entity, missing, self.fields) if missing else ())
        return [next(read) if held is None else held for held in found]

    def remember(self, id: str, held: Held) -> None:
        """What the store now holds of `id`, as it has acknowledged."""
        self._young[id] = held
        self._bytes += 200 + sum(len(blob) for blob in held.blobs if blob is not None)
        if self._bytes > self._limit_bytes:
            self._old, self._young, self._bytes = self._young, {}, 0

    def forget(self, id: str) -> None:
        self._young.pop(id, None)
        self._old.pop(id, None)

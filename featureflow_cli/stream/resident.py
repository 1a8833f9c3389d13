"""The states a worker remembers, so that a batch need not fetch what the last one wrote [cache].

They are what the store answered or acknowledged on this connection: with it, all of them are forgotten. A hash that
others write as well is contested: it is read again for every batch, which costs less than a merge that is refused,
until nobody has written it in between. Hashes are rows of a table, and all their blobs lie in one buffer
(stream/arena.py): Python knows an id and a number of each.
"""

import sys
from array import array
from collections.abc import Sequence
from itertools import compress, repeat

import numpy as np

from featureflow_cli.compute import codec
from featureflow_cli.compute.codes import Bools, Ints
from featureflow_cli.compute.packed import Packed, known_of, packed
from featureflow_cli.compute.records import Words
from featureflow_cli.evaluate.keeping import Kept
from featureflow_cli.online.store import OnlineStore, version_words
from featureflow_cli.stream.arena import Arena

ID_BYTES = 96
"""What the objects of an id and its row take, beside the table that they are in."""
FIRST_BYTES = 4096
"""A hash is taken to have so much before any is known."""
_SLACK_BYTES = 4 * 2**20
_NONE = -1
"""The slot of a blob that is not there; and when a hash was used last that is forgotten."""


class Resident:
    """The hashes of one entity, with the fields of its views, in at most `limit_bytes` of this process.

    Rows stand until the next `fetch`: only then is room made, and what was not used for longest goes. What one batch
    brings comes on top for that time: keep it small beside the limit.
    """

    def __init__(self, members: Sequence[Kept], limit_bytes: int) -> None:
        self.entity = members[0].view.entity
        self.fields = tuple(kept.field for kept in members)
        self._views = tuple(kept.view for kept in members)
        self._limit_bytes = limit_bytes
        self._rows: dict[str, int] = {}  # in order of the rows
        self._versions = array("Q")
        self._used = array("q")
        self._contested = array("q")  # 1, else 0
        self._slots = [array("q") for _ in members]
        self._arena = Arena()
        self._compact_bytes = 0
        self._moment = 0
        self._mean_bytes = FIRST_BYTES

    def fetch(self, store: OnlineStore, ids: Sequence[str]) -> Ints:
        """The rows of the hashes of `ids`, in order: remembered, or read from the store.

        CorruptBlob where the store has a state that we did not write: what is remembered is intact.
        """
        self._make_room()
        rows = np.fromiter(map(self._rows.get, ids, repeat(_NONE)), np.int64, len(ids))
        is_missing = rows < 0
        if not is_missing.all():
            is_missing |= (_numbers(self._used)[rows] == _NONE) | (_numbers(self._contested)[rows] > 0)
        missing = np.flatnonzero(is_missing)
        if len(missing):
            rows[missing] = self._read(store, [ids[at] for at in missing.tolist()])
        return rows

    def versions(self, rows: Ints) -> Words:
        return np.frombuffer(self._versions, np.uint64)[rows] if len(rows) else np.empty(0, np.uint64)

    def blobs(self, column: int, rows: Ints) -> Packed:
        """The blobs of the field that is `fields[column]`; null where a hash has none."""
        return self._arena.take(_numbers(self._slots[column])[rows])

    def remember(self, rows: Ints, versions: Words, blobs: Sequence[Packed]) -> None:
        """What the store now holds in these rows, as it has said; a null blob is as it was."""
        if not len(rows):
            return
        self._moment += 1
        _numbers(self._used)[rows] = self._moment
        np.frombuffer(self._versions, np.uint64)[rows] = versions
        size_bytes = 0
        for slots, column in zip(self._slots, blobs, strict=True):
            known = known_of(column)
            fresh = column if known.all() else column.drop_null()
            _numbers(slots)[rows[known]] = self._arena.append(fresh)
            size_bytes += fresh.nbytes
        self._mean_bytes = ID_BYTES + size_bytes // len(rows)

    def forget(self, rows: Ints) -> None:
        """Somebody else has written them: they are read again when they are fetched next."""
        for numbers in (self._used, *self._slots):
            _numbers(numbers)[rows] = _NONE
        _numbers(self._contested)[rows] = 1

    def count_in(self, size_bytes: int) -> int:
        """How many hashes are about so many bytes, if they are as those remembered last."""
        return max(1, size_bytes // self._mean_bytes)

    def _read(self, store: OnlineStore, ids: Sequence[str]) -> Ints:
        held = store.read(self.entity, ids, self.fields)
        columns = [packed(column) for column in zip(*(each.blobs for each in held), strict=True)]
        for view, column in zip(self._views, columns, strict=True):
            codec.check(view, column)
        rows = np.array([self._rows.setdefault(id, len(self._rows)) for id in ids], np.int64)
        added = len(self._rows) - len(self._used)
        self._versions.extend(repeat(0, added))
        self._contested.extend(repeat(0, added))
        for numbers in (self._used, *self._slots):
            numbers.extend(repeat(_NONE, added))
        versions = version_words([each.version for each in held])
        _numbers(self._contested)[rows[self.versions(rows) == versions]] = 0
        for slots in self._slots:
            _numbers(slots)[rows] = _NONE
        self.remember(rows, versions, columns)
        return rows

    def _make_room(self) -> None:
        if self._size_bytes > self._limit_bytes:
            self._keep(self._used_last(self._limit_bytes // 2))
        elif self._arena.size_bytes > 2 * self._compact_bytes + _SLACK_BYTES:
            self._keep(None)

    @property
    def _size_bytes(self) -> int:
        columns = (self._rows, self._versions, self._used, self._contested, *self._slots)
        return ID_BYTES * len(self._rows) + sum(map(sys.getsizeof, columns)) + self._arena.size_bytes

    def _used_last(self, limit_bytes: int) -> Bools:
        """The rows that were used last, as many as fit."""
        used = _numbers(self._used)
        row_bytes = (self._size_bytes - self._arena.size_bytes) // len(used)
        sizes = np.full(len(used), row_bytes)
        for slots in self._slots:
            sizes += self._arena.sizes(_numbers(slots))
        order = np.argsort(-used, kind="stable")
        kept: Bools = used != _NONE
        kept[order[np.cumsum(sizes[order]) > limit_bytes]] = False
        return kept

    def _keep(self, kept: Bools | None) -> None:
        """Let go of all other rows (None: of none), and of the blobs that are in none of them."""
        if kept is not None:
            self._rows = dict(zip(compress(self._rows, kept.tolist()), range(len(self._rows)), strict=False))
            self._versions = array("Q", np.frombuffer(self._versions, np.uint64)[kept].tobytes())
            self._used = array("q", _numbers(self._used)[kept].tobytes())
            self._contested = array("q", _numbers(self._contested)[kept].tobytes())
            self._slots = [array("q", _numbers(slots)[kept].tobytes()) for slots in self._slots]
        columns = [_numbers(slots) for slots in self._slots]
        moved = self._arena.keep(np.concatenate([slots[slots != _NONE] for slots in columns]))
        for slots in columns:
            there = np.flatnonzero(slots != _NONE)
            slots[there] = moved[slots[there]]
        self._compact_bytes = self._arena.size_bytes


def _numbers(numbers: "array[int]") -> Ints:
    """The same numbers, to be read and written; it must be gone before any are added."""
    return np.frombuffer(numbers, np.int64)

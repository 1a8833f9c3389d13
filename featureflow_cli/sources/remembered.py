"""The ids that a partition remembers, in arrays: 56 bytes an id with its text, and no object for any of them.

Ids are looked for by their hashes, of a whole batch at once: sorted against sorted runs (a third of the time of
Python's sets, and outside of its lock). A hash only raises a doubt; what is in doubt is compared by the ids
themselves, so that no collision ever drops an event. The hash is of this process alone, with random multipliers:
nobody can make ids that collide.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featureflow_cli.compute.codes import code
from featureflow_cli.compute.records import gather
from featureflow_cli.sources.arrays import Bools, Ints, flags
from featureflow_cli.spec.types import ColumnType

Hashes = npt.NDArray[np.uint64]
NEVER_US = -(2**63)
"""The moment of an id that is not held."""
LONGEST = 64
"""Longer texts are hashed one by one, by Python: shorter ones by their length, all of one length together."""
_MULTIPLIERS = np.random.default_rng().integers(0, 2**64, LONGEST // 4 + 1, np.uint64) | np.uint64(1)
_ROW_BITS = 32
BLOCK_IDS = 4096
"""Ids of so many small batches are kept together: an array of its own for a few ids is larger than they are."""


@dataclass(frozen=True)
class Ids:
    """`values` (strings or int64) are equal where the ids are; equal ones have equal `hashes`."""

    values: Any
    hashes: Hashes

    def __len__(self) -> int:
        return len(self.hashes)

    def __getitem__(self, rows: slice) -> "Ids":
        return Ids(self.values[rows], self.hashes[rows])

    @cached_property
    def order(self) -> Ints:
        """Their places, sorted by hash: asked for when they are looked for, and when they are remembered."""
        return np.argsort(self.hashes)

    def take(self, rows: Ints) -> "Ids":
        return Ids(self.values.take(pa.array(rows)), self.hashes[rows])

    def where(self, kept: Bools) -> "Ids":
        """Those of the rows that are kept. Their order is known by ours: to sort them again would cost three times as
        much.
        """
        found, places = Ids(self.values.filter(pa.array(kept)), self.hashes[kept]), np.cumsum(kept) - 1
        vars(found)["order"] = places[self.order[kept[self.order]]]
        return found


NO_IDS = Ids(pa.nulls(0, pa.string()), np.empty(0, np.uint64))


def ids_of(column: Any, column_type: ColumnType) -> Ids:
    """A column of ids without nulls."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if column_type.name == "string" or column_type.is_wide:
        values = array.cast(pa.string())
        return Ids(values, _text_hashes(values))
    codes = code(array, column_type).codes
    return Ids(pa.array(codes), _mixed(codes.view(np.uint32).reshape(-1, 2)))


@dataclass(frozen=True)
class _Run:
    """Sorted by hash; `place` is the number of the block and the row in it where the id itself is kept."""

    hashes: Hashes
    moments: Ints
    places: Ints
    newest_us: int


class Remembered:
    """Ids, each with the moment of its event; an id may be held more than once."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []  # each more than twice as long as the next
        self._blocks: dict[int, tuple[Any, int]] = {}  # by number: the ids themselves, their newest moment
        self._last = 0  # the block that small batches go to

    def __len__(self) -> int:
        """How many are held; some of them may be past remembering."""
        return sum(len(run.hashes) for run in self._runs)

    def add(self, ids: Ids, moments: Ints, oldest_us: int) -> None:
        """Hold these as well; what is older than `oldest_us` may go."""
        if not len(ids):
            return
        newest_us = int(moments.max())
        places = self._keep(ids.values, newest_us) + np.arange(len(ids))
        order = ids.order
        run = _Run(ids.hashes[order], moments[order], places[order], newest_us)
        self._runs = [held for held in self._runs if held.newest_us >= oldest_us]
        while self._runs and len(self._runs[-1].hashes) <= 2 * len(run.hashes):
            run = _merged(self._runs.pop(), run, oldest_us)
        if len(run.hashes):
            self._runs.append(run)
        self._blocks = {number: kept for number, kept in self._blocks.items() if kept[1] >= oldest_us}

    def _keep(self, values: Any, newest_us: int) -> int:
        """The place of the first of these ids; the others follow."""
        held, held_us = self._blocks.get(self._last, (None, newest_us))
        if held is None or len(held) + len(values) > BLOCK_IDS:
            self._last += 1
            self._blocks[self._last] = (values, newest_us)
            return self._last << _ROW_BITS
        self._blocks[self._last] = (pa.concat_arrays([held, values]), max(newest_us, held_us))
        return (self._last << _ROW_BITS) + len(held)

    def may_hold(self, hashes: Hashes) -> Bools:
        """Where an id of such a hash is held. The hashes are sorted."""
        found = np.zeros(len(hashes), np.bool_)
        for run in self._runs:
            place = np.minimum(np.searchsorted(run.hashes, hashes), len(run.hashes) - 1)
            found |= run.hashes[place] == hashes
        return found

    def moments(self, ids: Ids) -> Ints:
        """The newest moment of each id; NEVER_US where it is not held."""
        newest = np.full(len(ids), NEVER_US)
        for run in self._runs:
            at, end = (np.searchsorted(run.hashes, ids.hashes, side) for side in ("left", "right"))
            rows = np.flatnonzero(at < end)
            while len(rows):  # once, but where ids are held twice or hashes collide
                is_same = self._equal(run.places[at[rows]], ids.take(rows).values)
                same = rows[is_same]
                newest[same] = np.maximum(newest[same], run.moments[at[same]])
                at[rows] += 1
                rows = rows[at[rows] < end[rows]]
        return newest

    def _equal(self, places: Ints, values: Any) -> Bools:
        """Whether the ids at these places are those; not where they are past remembering and gone."""
        same = np.zeros(len(places), np.bool_)
        blocks, rows = places >> _ROW_BITS, places & (2**_ROW_BITS - 1)
        for number in np.unique(blocks).tolist():
            mine = np.flatnonzero(blocks == number)
            if number in self._blocks:
                kept = self._blocks[number][0].take(pa.array(rows[mine]))
                same[mine] = flags(pc.equal(kept, values.take(pa.array(mine))))
        return same


def _merged(one: _Run, other: _Run, oldest_us: int) -> _Run:
    hashes, moments, places = (
        np.concatenate([getattr(run, name) for run in (one, other)])
        for name in ("hashes", "moments", "places")
    )
    order = np.argsort(hashes, kind="stable")  # of two sorted runs: it merges them
    order = order[moments[order] >= oldest_us]
    return _Run(hashes[order], moments[order], places[order], max(one.newest_us, other.newest_us))


def _text_hashes(texts: Any) -> Hashes:
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    if not len(texts):
        return np.empty(0, np.uint64)
    lengths = np.diff(offsets)
    octets = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    hashes = np.empty(len(texts), np.uint64)
    for length in np.flatnonzero(np.bincount(np.minimum(lengths, LONGEST + 1))).tolist():
        if length <= LONGEST:
            rows = np.flatnonzero(lengths == length)
            if len(rows) == len(texts) or not length:  # as ids are, mostly: they stand side by side
                found = octets[offsets[0] :][: length * len(rows)]
            else:
                found = gather(octets, offsets[rows].astype(np.int64), np.dtype((np.void, length)))
            hashes[rows] = _mixed(_words(found.view(np.uint8).reshape(len(rows), length))) + np.uint64(length)
    long = np.flatnonzero(lengths > LONGEST)
    if len(long):
        hashes[long] = [hash(text) % 2**64 for text in texts.take(pa.array(long)).to_pylist()]
    return hashes


def _words(texts: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Texts of one length, a row each, as words; the last of them filled up."""
    count, length = texts.shape
    if length % 4 == 0:
        return texts.view(np.uint32)
    padded = np.zeros((count, -(-length // 4) * 4), np.uint8)
    padded[:, :length] = texts
    return padded.view(np.uint32)


def _mixed(words: npt.NDArray[np.uint32]) -> Hashes:
    """A hash of each row of words: multilinear, which is universal in its upper half."""
    hashes = np.zeros(len(words), np.uint64)
    for place in range(words.shape[1]):
        hashes += words[:, place] * _MULTIPLIERS[place]
    return hashes

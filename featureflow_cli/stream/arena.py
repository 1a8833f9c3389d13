"""Blobs in one buffer that grows at its end: those that nobody needs any more stay until it is made compact."""

import sys
from array import array
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa

from featureflow_cli.compute.codes import Ints
from featureflow_cli.compute.packed import Packed, between, split

_MOVED_BYTES = 4 * 2**20
"""So much is moved at a time: it is there twice meanwhile."""


class Arena:
    """Each blob has a slot, a number that counts up from 0."""

    def __init__(self) -> None:
        self._octets = bytearray()
        self._bounds = array("q", [0])

    @property
    def size_bytes(self) -> int:
        """What it takes of this process's memory."""
        return sys.getsizeof(self._octets) + sys.getsizeof(self._bounds)

    def append(self, blobs: Packed) -> Ints:
        """The slots of these blobs (without nulls)."""
        first, end = len(self._bounds) - 1, len(self._octets)
        bounds, octets = split(blobs)
        self._octets += octets.data
        self._bounds.frombytes((bounds[1:] + end).tobytes())
        return np.arange(first, first + len(blobs))

    def take(self, slots: Ints) -> Packed:
        """The blobs in those slots, copied; null where a slot is negative."""
        everything = between(np.frombuffer(self._bounds, np.int64), np.frombuffer(self._octets, np.uint8))
        is_none = slots < 0
        return everything.take(pa.array(slots, mask=is_none if is_none.any() else None))

    def sizes(self, slots: Ints) -> Ints:
        """Bytes of the blobs in those slots; 0 where a slot is negative."""
        bounds = np.frombuffer(self._bounds, np.int64)
        return np.where(slots < 0, 0, bounds[slots + 1] - bounds[slots])

    def keep(self, slots: Ints) -> Ints:
        """Let go of all other blobs; the new slot of every old one that was kept."""
        is_kept = np.zeros(len(self._bounds) - 1, np.bool_)
        is_kept[slots] = True
        kept = np.flatnonzero(is_kept)
        ends = np.cumsum(self.sizes(kept))
        for start, end in _pieces(ends):
            _, octets = split(self.take(kept[start:end]))
            self._octets[ends[end - 1] - len(octets) : ends[end - 1]] = octets.data
        del self._octets[int(ends[-1]) if len(ends) else 0 :]
        self._bounds = array("q", [0])
        self._bounds.frombytes(ends.tobytes())
        return np.cumsum(is_kept) - 1


def _pieces(ends: Ints) -> Iterator[tuple[int, int]]:
    """Cuts between blobs that lie one after the other, about every so many bytes."""
    if len(ends):
        cuts = np.searchsorted(ends, np.arange(_MOVED_BYTES, int(ends[-1]), _MOVED_BYTES))
        yield from pairwise(np.unique([0, *cuts.tolist(), len(ends)]).tolist())

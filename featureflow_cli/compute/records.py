"""Numbers and records in one buffer of bytes, at any place: written and read all at once, without Python for each.

A view of the buffer with a stride of one byte has a record at every byte; indexing it copies whole records. As
plain void items: numpy would copy structured ones field by field, at four times the cost (23 ns a record, not 5).
Numbers of any width are words of eight bytes here: the place of each says how much of it is another's.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from featureflow_cli.compute.codes import Ints

Octets = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]

WORD_BYTES = 8
SPARE_BYTES = WORD_BYTES
"""What a buffer must have behind the last byte that counts: words are read and written whole."""


def before(counts: Ints) -> Ints:
    """How many items come before each group, where the groups lie one after the other."""
    sums: Ints = np.cumsum(counts, dtype=np.int64)
    return sums - counts


def put(buffer: Octets, at: Ints, words: Words, size: int = WORD_BYTES) -> None:
    """Write each word at its place, one after the other in that order; none needs more than `size` bytes.

    All eight bytes are written, unless one is enough: so a short number is followed by up to eight zeros, which have
    to be written over later.
    """
    if not len(at):
        return
    if size == 1:
        buffer[at] = words.astype(np.uint8)
    else:
        _everywhere(buffer, WORD_BYTES)[at] = words.view(_void(WORD_BYTES))


def get(buffer: Octets, at: Ints, size: int = WORD_BYTES) -> Words:
    """At least `size` bytes at each place; the upper ones may be another's."""
    if not len(at):
        return np.empty(0, np.uint64)
    if size == 1:
        return buffer[at].astype(np.uint64)
    if size == 2:
        return buffer[at] | buffer[at + 1].astype(np.uint64) << np.uint64(8)
    return _everywhere(buffer, WORD_BYTES)[at].view(np.uint64)


def scatter(buffer: Octets, at: Ints, records: npt.NDArray[Any]) -> None:
    """Write each record at its place, and nothing beside it."""
    if len(at):
        _everywhere(buffer, records.itemsize)[at] = records.view(_void(records.itemsize))


def gather(buffer: Octets, at: Ints, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    """The record at each place."""
    if not len(at):
        return np.empty(0, kind)
    return _everywhere(buffer, kind.itemsize)[at].view(kind)


def move(source: Octets, start: Ints, target: Octets, to: Ints, sizes: Ints) -> None:
    """Copy spans of bytes word by word, one after the other: up to seven bytes behind each are written, too."""
    words = (sizes + WORD_BYTES - 1) // WORD_BYTES
    inside = np.arange(int(words.sum()), dtype=np.int64)
    inside = (inside - np.repeat(before(words), words)) * WORD_BYTES
    put(target, np.repeat(to, words) + inside, get(source, np.repeat(start, words) + inside))


def _everywhere(buffer: Octets, size: int) -> npt.NDArray[np.void]:
    return np.ndarray((len(buffer) - size + 1,), _void(size), buffer.data, strides=(1,))


@cache
def _void(size: int) -> np.dtype[np.void]:
    return np.dtype((np.void, size))

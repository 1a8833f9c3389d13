"""Commands as the bytes that Redis reads: built for a whole batch, since packing them one by one costs most of it.

A stored value is the moment of the state's newest event (eight bytes, little-endian) and then the blob, so that
scans by activity need no second field. Here a word begins with the line end of what stands before it.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, repeat
from operator import is_

import numpy as np

from featureflow_cli.online.store import Held, Write

VERSION = b"v"
MOMENT_BYTES = 8
CALLED_AT_ONCE = 256
CALLED_BYTES = 2**20


def command(*words: bytes) -> bytes:
    """One command."""
    return b"*%d%b\r\n" % (len(words), b"".join(map(_word, words)))


def reads(prefix: bytes, ids: Sequence[str], fields: Sequence[str]) -> bytes:
    """An HMGET for every id: its version, then the fields."""
    start = b"*%d%b" % (3 + len(fields), _word(b"HMGET"))
    end = b"".join(map(_word, [VERSION, *(field.encode() for field in fields)])) + b"\r\n"
    keys = [prefix + id.encode() for id in ids]
    return b"".join(chain.from_iterable(zip(repeat(start), _heads(keys), keys, repeat(end), strict=False)))


def held(answer: Sequence[bytes | None]) -> Held:
    """What the answer to one of `reads` says."""
    version, *values = answer
    if version is None:
        return Held(None, (None,) * len(values))
    return Held(version, tuple([None if value is None else value[MOMENT_BYTES:] for value in values]))


def write_calls(
    function: bytes, prefix: bytes, fields: Sequence[str], writes: Sequence[Write], now_us: int
) -> Iterator[bytes]:
    """Calls of the function library's `write`, each for a few hundred writes."""
    start = b"".join(map(_word, (b"FCALL", function, b"0")))
    parts: list[bytes] = []
    size = words = 0
    for part, count in _arguments(prefix, fields, writes, now_us):
        parts.append(part)
        size += len(part)
        words += count
        if len(parts) == CALLED_AT_ONCE or size >= CALLED_BYTES:
            yield b"*%d%b%b\r\n" % (3 + words, start, b"".join(parts))
            parts, size, words = [], 0, 0
    if parts:
        yield b"*%d%b%b\r\n" % (3 + words, start, b"".join(parts))


def _arguments(
    prefix: bytes, fields: Sequence[str], writes: Sequence[Write], now_us: int
) -> list[tuple[bytes, int]]:
    """Each write as arguments of the function, and how many they are; those of one shape are made together."""
    columns: list[Sequence[object]] = [
        [write.expected for write in writes],
        [write.expires_us for write in writes],
    ]
    columns += zip(*(write.blobs for write in writes), strict=True)
    shapes: dict[tuple[bool, ...], list[int]] = {}
    for place, shape in enumerate(zip(*(map(is_, column, repeat(None)) for column in columns), strict=True)):
        shapes.setdefault(shape, []).append(place)
    found = [(b"", 0)] * len(writes)
    for shape, places in shapes.items():
        pairs = 2 * (1 + shape[2:].count(False))
        alike = _alike(prefix, fields, [writes[place] for place in places], pairs, now_us)
        for place, part in zip(places, alike, strict=True):
            found[place] = part, 4 + pairs
    return found


def _alike(
    prefix: bytes, fields: Sequence[str], writes: Sequence[Write], pairs: int, now_us: int
) -> Iterator[bytes]:
    """Writes that set the same fields, and lack the same, as arguments: column by column, then joined."""
    ids, expected, versions, blobs, newest_us, expires_us = zip(*writes, strict=True)
    pieces = [
        *_words([prefix + id.encode() for id in ids]),
        *([repeat(_word(b""))] if expected[0] is None else _words(expected)),
        *([repeat(_word(b""))] if expires_us[0] is None else _words(_lives(expires_us, now_us))),
        repeat(_word(b"%d" % pairs) + _word(VERSION)),
        *_words(versions),
    ]
    for field, column, moments in zip(
        fields, zip(*blobs, strict=True), zip(*newest_us, strict=True), strict=True
    ):
        if column[0] is not None:
            packed = np.array(moments, "<i8").tobytes()
            marks = [packed[at : at + MOMENT_BYTES] for at in range(0, len(packed), MOMENT_BYTES)]
            heads = [_head(MOMENT_BYTES + size) for size in map(len, column)]
            pieces += [repeat(_word(field.encode())), heads, marks, column]
    return map(b"".join, zip(*pieces, strict=False))


def _lives(expires_us: Sequence[int], now_us: int) -> list[bytes]:
    """For how many milliseconds more, rounded up: by our clock, which need not be Redis's."""
    return [b"%d" % -((now_us - each) // 1000) for each in expires_us]


def _words(values: Sequence[bytes]) -> tuple[Iterable[bytes], Iterable[bytes]]:
    return _heads(values), values


def _heads(values: Sequence[bytes]) -> Iterable[bytes]:
    return map(_head, map(len, values))


@lru_cache(maxsize=2**16)
def _head(size: int) -> bytes:
    """What stands before a word of that many bytes."""
    return b"\r\n$%d\r\n" % size


def _word(word: bytes) -> bytes:
    return _head(len(word)) + word

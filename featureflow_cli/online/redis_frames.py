"""Commands as the bytes that Redis reads: built for a whole batch, since packing them one by one costs most of it.

A stored value is the moment of the state's newest event (eight bytes, little-endian) and then the blob, so that
scans by activity need no second field. Here a word begins with the line end of what stands before it.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, repeat

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featureflow_cli.compute.codes import Bools, Doubles, Ints, ranked
from featureflow_cli.compute.packed import Packed, known_of, packed, split, strings
from featureflow_cli.online.store import FOREVER_US, Held, Writes

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
    heads = map(_head, map(len, keys))
    return b"".join(chain.from_iterable(zip(repeat(start), heads, keys, repeat(end), strict=False)))


def held(answer: Sequence[bytes | None]) -> Held:
    """What the answer to one of `reads` says."""
    version, *values = answer
    if version is None:
        return Held(None, (None,) * len(values))
    return Held(version, tuple([None if value is None else value[MOMENT_BYTES:] for value in values]))


def write_calls(
    function: bytes,
    birth: tuple[bytes, bytes],
    prefix: bytes,
    fields: Sequence[str],
    writes: Writes,
    now_us: int,
) -> Iterator[bytes]:
    """Calls of the function library's `write`, each for a few hundred writes; `birth`: its key and name."""
    words_before = (b"FCALL", function, b"0", *birth)
    start = b"".join(map(_word, words_before))
    known = np.array([known_of(column) for column in writes.blobs])
    followed: Ints = 2 + 2 * np.count_nonzero(known, axis=0)
    bounds, octets = split(_arguments(prefix, fields, writes, followed, now_us))
    words = np.append(0, np.cumsum(_BEFORE_FIELDS + followed))
    first = 0
    while first < len(writes):
        full = int(np.searchsorted(bounds, bounds[first] + CALLED_BYTES))
        last = min(max(full, first + 1), first + CALLED_AT_ONCE, len(writes))
        count = len(words_before) + words[last] - words[first]
        yield b"".join((b"*%d" % count, start, octets[bounds[first] : bounds[last]].data, b"\r\n"))
        first = last


def _arguments(prefix: bytes, fields: Sequence[str], writes: Writes, followed: Ints, now_us: int) -> Packed:
    """The arguments of each write: columns of pieces, of which those of a write are joined."""
    ids = pa.array(writes.ids, pa.large_string()).cast(pa.large_binary())
    headings = np.empty(len(writes), _HEADING)
    headings["head"] = _head(_HEAD_BYTES)
    headings["expected"], headings["version"] = writes.expected, writes.versions
    headings["life_ms"] = _life_ms(writes.expires_us, now_us)
    headings["followed"] = followed
    headings["between"] = _BEFORE_VERSION
    pieces = [_heads(len(prefix) + np.diff(split(ids)[0]), prefix), ids, strings(headings)]
    for field, blobs, newest_us in zip(fields, writes.blobs, writes.newest_us, strict=True):
        known = known_of(blobs)
        if known.any():
            sizes = pc.fill_null(pc.binary_length(blobs), 0).to_numpy()
            name = _word(field.encode())
            pieces += [
                _heads(MOMENT_BYTES + sizes, b"", name, known),
                strings(newest_us.astype("<i8"), known),
                blobs,
            ]
    return pc.binary_join_element_wise(*pieces, _EMPTY, null_handling="replace", null_replacement="")


def _life_ms(expires_us: Ints, now_us: int) -> Doubles:
    """For how many milliseconds more, rounded up: by our clock, which need not be Redis's; infinity: for ever."""
    return np.where(expires_us == FOREVER_US, np.inf, -((now_us - expires_us) // 1000))


def _heads(sizes: Ints, after: bytes, before: bytes = b"", known: Bools | None = None) -> Packed:
    """What stands before words of so many bytes, of each size made once."""
    distinct, place = ranked(sizes)
    texts = packed([before + _head(size) + after for size in distinct.tolist()])
    return texts.take(pa.array(place, mask=None if known is None else ~known))


@lru_cache(maxsize=2**16)
def _head(size: int) -> bytes:
    """What stands before a word of that many bytes."""
    return b"\r\n$%d\r\n" % size


def _word(word: bytes) -> bytes:
    return _head(len(word)) + word


_HEAD_BYTES = 18
"""Of the argument that says what is expected (eight bytes), for how long a hash is to live, and what follows."""
_BEFORE_FIELDS = 2
_BEFORE_VERSION = _word(VERSION) + _head(8)
_HEADING = np.dtype(
    [
        ("head", f"S{len(_head(_HEAD_BYTES))}"),
        ("expected", "<u8"),
        ("life_ms", "<f8"),
        ("followed", "<u2"),
        ("between", f"S{len(_BEFORE_VERSION)}"),
        ("version", "<u8"),
    ]
)
_EMPTY = pa.scalar(b"", pa.large_binary())

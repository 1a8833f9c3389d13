"""Commands as the bytes that Redis reads: built for a whole batch, since packing them one by one costs most of it.

A stored value is the moment of the state's newest event (eight bytes, little-endian) and then the blob, so that
scans by activity need no second field.
"""

from collections.abc import Iterator, Sequence

from featureflow_cli.online.store import Held, Write

VERSION = b"v"
MOMENT_BYTES = 8
CALLED_AT_ONCE = 256
CALLED_BYTES = 2**20


def command(*words: bytes) -> bytes:
    """One command."""
    return b"*%d\r\n%b" % (len(words), b"".join(map(_word, words)))


def reads(prefix: bytes, ids: Sequence[str], fields: Sequence[str]) -> bytes:
    """An HMGET for every id: its version, then the fields."""
    head = b"*%d\r\n$5\r\nHMGET\r\n" % (3 + len(fields))
    tail = b"".join([_word(VERSION), *(_word(field.encode()) for field in fields)])
    start, end = head.replace(b"%", b"%%") + b"$%d\r\n%b%b\r\n", tail.replace(b"%", b"%%")
    form, known = start + end, len(prefix)
    return b"".join([form % (known + len(key), prefix, key) for key in [id.encode() for id in ids]])


def held(answer: Sequence[bytes | None]) -> Held:
    """What the answer to one of `reads` says."""
    version, *values = answer
    if version is None:
        return Held(None, (None,) * len(values))
    return Held(version, tuple([None if value is None else value[MOMENT_BYTES:] for value in values]))


def write_calls(function: bytes, prefix: bytes, writes: Sequence[Write], now_us: int) -> Iterator[bytes]:
    """Calls of the function library's `write`, each for a few hundred writes."""
    forms: dict[tuple[tuple[str, ...], bool, bool], tuple[bytes, int]] = {}
    parts: list[bytes] = []
    size = words = 0
    for write in writes:
        fields = tuple(write.blobs)
        shape = (fields, write.expected is None, write.expires_us is None)
        if shape not in forms:
            forms[shape] = _form(*shape)
        form, count = forms[shape]
        key = write.id.encode()
        values: list[bytes | int] = [len(prefix) + len(key), prefix, key]
        if write.expected is not None:
            values += (len(write.expected), write.expected)
        if write.expires_us is not None:
            life_ms = b"%d" % -(
                (now_us - write.expires_us) // 1000
            )  # by our clock, which need not be Redis's
            values += (len(life_ms), life_ms)
        values += (len(write.version), write.version)
        newest_us = write.newest_us
        for field, blob in write.blobs.items():
            moment = newest_us[field].to_bytes(MOMENT_BYTES, "little", signed=True)
            values += (MOMENT_BYTES + len(blob), moment, blob)
        part = form % tuple(values)
        parts.append(part)
        size += len(part)
        words += count
        if len(parts) == CALLED_AT_ONCE or size >= CALLED_BYTES:
            yield _call(function, parts, words)
            parts, size, words = [], 0, 0
    if parts:
        yield _call(function, parts, words)


def _call(function: bytes, parts: list[bytes], words: int) -> bytes:
    head = b"*%d\r\n$5\r\nFCALL\r\n%b$1\r\n0\r\n" % (3 + words, _word(function))
    return b"".join([head, *parts])


def _form(fields: Sequence[str], is_new: bool, is_eternal: bool) -> tuple[bytes, int]:
    """A write's arguments with places for what differs from one to the next, and how many they are."""
    pairs = 2 * (1 + len(fields))
    form = [
        b"$%d\r\n%b%b\r\n",
        b"$0\r\n\r\n" if is_new else b"$%d\r\n%b\r\n",
        b"$0\r\n\r\n" if is_eternal else b"$%d\r\n%b\r\n",
        _word(b"%d" % pairs),
        _word(VERSION),
        b"$%d\r\n%b\r\n",
    ]
    for field in fields:
        form += (_word(field.encode()).replace(b"%", b"%%"), b"$%d\r\n%b%b\r\n")
    return b"".join(form), 4 + pairs


def _word(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)

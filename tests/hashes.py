"""Writes to an online store as tests put them down: a hash at a time."""

from typing import NamedTuple

import numpy as np

from featureflow_cli.compute.packed import packed
from featureflow_cli.online.store import FOREVER_US, Writes, version_words


class Write(NamedTuple):
    """What `Writes` says of one hash; None as the version expected: there is no hash, as the expiry: it has none."""

    id: str
    expected: bytes | None
    version: bytes
    blobs: tuple[bytes | None, ...]
    newest_us: tuple[int, ...]
    expires_us: int | None


def together(*several: Write) -> Writes:
    """All of them, at least one."""
    ids, expected, versions, blobs, newest_us, expires_us = zip(*several, strict=True)
    return Writes(
        ids,
        version_words(expected),
        version_words(versions),
        tuple(map(packed, zip(*blobs, strict=True))),
        tuple(np.array(column, np.int64) for column in zip(*newest_us, strict=True)),
        np.array([FOREVER_US if each is None else each for each in expires_us], np.int64),
    )


def one_by_one(writes: Writes) -> list[Write]:
    rows = zip(
        writes.ids,
        map(version_bytes, writes.expected.tolist()),
        map(version_bytes, writes.versions.tolist()),
        zip(*(column.to_pylist() for column in writes.blobs), strict=True),
        zip(*(column.tolist() for column in writes.newest_us), strict=True),
        (None if each == FOREVER_US else each for each in writes.expires_us.tolist()),
        strict=True,
    )
    return list(map(Write._make, rows))


def version_bytes(version: int) -> bytes | None:
    return version.to_bytes(8, "little") if version else None

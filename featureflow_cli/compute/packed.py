"""Byte strings side by side: thousands of blobs as one Arrow array, so that none of them is an object of Python's.

The array is of `large_binary` (offsets of 64 bits: states of any size fit); null is where there is none.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featureflow_cli.compute.codes import Bools, Ints
from featureflow_cli.compute.records import Octets

Packed = Any
"""A `pa.LargeBinaryArray`."""


def packed(values: Sequence[bytes | None]) -> Packed:
    """Those byte strings, in order."""
    there = [value or b"" for value in values]
    known = np.array([value is not None for value in values]) if None in values else None
    bounds = np.array(list(accumulate(map(len, there), initial=0)), np.int64)
    return between(bounds, np.frombuffer(b"".join(there), np.uint8), known)


def none(count: int) -> Packed:
    """That many nulls."""
    return pa.nulls(count, pa.large_binary())


def strings(records: npt.NDArray[Any], known: Bools | None = None) -> Packed:
    """The bytes of each of these records; `known` says which there are, None: all."""
    bounds = np.arange(len(records) + 1) * records.itemsize
    return between(bounds, records.view(np.uint8), known)


def between(bounds: Ints, octets: Octets, known: Bools | None = None) -> Packed:
    """The strings between each bound and the next; `known` says which there are, None: all."""
    validity = None
    if known is not None and not known.all():
        validity = pa.py_buffer(np.packbits(known, bitorder="little"))
    buffers = [validity, pa.py_buffer(bounds), pa.py_buffer(octets)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(bounds) - 1, buffers)


def placed(some: Packed, places: Ints, count: int) -> Packed:
    """`count` strings, of which those at `places` (in ascending order) are `some`, without nulls; none elsewhere."""
    if len(places) == count:
        return some
    bounds, octets = split(some)
    sizes, known = np.zeros(count, np.int64), np.zeros(count, np.bool_)
    sizes[places], known[places] = np.diff(bounds), True
    return between(_bounds(sizes), octets, known)


def split(some: Packed) -> tuple[Ints, Octets]:
    """(the bounds, the bytes) of strings without nulls: it starts with the first one, and ends with the last."""
    if not len(some):
        return np.zeros(1, np.int64), np.empty(0, np.uint8)
    _, offsets, octets = some.buffers()
    bounds = np.frombuffer(offsets, np.int64)[some.offset : some.offset + len(some) + 1]
    held = np.frombuffer(octets or b"", np.uint8)[bounds[0] : bounds[-1]]
    return bounds - bounds[0], held


def known_of(some: Packed) -> Bools:
    """Which of them there are."""
    if not some.null_count:
        return np.ones(len(some), np.bool_)
    return np.asarray(some.is_valid().to_numpy(zero_copy_only=False), np.bool_)


def _bounds(sizes: Ints) -> Ints:
    bounds = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=bounds[1:])
    return bounds

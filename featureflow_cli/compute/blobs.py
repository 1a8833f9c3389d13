"""Blobs: blocks of small numbers as bytes, and back. What the numbers mean is compute/codec.py's.

A blob has the same blocks as all others that are written or read with it. A block is a few fields: arrays of unsigned
numbers, which have one length in a blob, and another in the next. Bytes, little-endian:

    version   uint8
    moment    int64
    filled    bits, lowest first, in whole bytes: whether counts are long; then for each block whether it has numbers
    forms     of each block that has:
                count    how many numbers each of its fields has: uint8, or uint32 where counts are long
                widths   bytes a number, 0 to 8: four bits for each field, lower ones first, in whole bytes
    numbers   block by block and field by field, each number in as many bytes as its field's width
    tail      bytes as they are
    checksum  uint32, CRC-32 of all before it, begun with the `seed` of whoever knows what the numbers mean: whatever
              is read as something else than it was written as is as good as damaged

A field is as wide as the largest of its numbers in that blob needs: one of zeros takes no room. Counts are long in a
blob where a block has more than 255 numbers a field. (A number of 54 bits and more may get a byte more than it needs.)

Thousands of blobs are written into one buffer, and read from one (compute/records.py): the forms tell where every
number lies (compute/blob_layout.py), and Python sees a blob only to sum it up. Forms and numbers are written as words
of eight bytes, in the order in which they lie in a blob, so that whatever follows a narrow one is written after it.
What follows a blob's last number, its tail, its checksum and the head of the next, is written at the end.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
import numpy.typing as npt

from featureflow_cli.compute.blob_layout import forms_of, one_by_one, runs
from featureflow_cli.compute.codes import Ints
from featureflow_cli.compute.records import (
    SPARE_BYTES,
    Octets,
    Words,
    before,
    gather,
    get,
    move,
    put,
    scatter,
)

VERSION = 2
_MOMENT = slice(1, 9)
_FILLED = 9
_CRC_BYTES = 4
_INTACT = 0x2144DF1C
"""The CRC-32 of whatever ends with its own CRC-32."""
_SHORT_COUNT = 255
_MASKS = np.array([2 ** (8 * width) - 1 for width in range(9)], np.uint64)
_AT_ONCE = 4096
"""Blobs: what is computed on the way is to fit the processor's cache."""


@dataclass(frozen=True)
class Block:
    """Numbers of many blobs: those of blob `owner[i]` (in ascending order) at `i` of each field."""

    owner: Ints
    fields: tuple[Words, ...]

    def part(self, start: int, end: int, first: int) -> "Block":
        """These numbers only, their blobs counted from `first`."""
        return Block(self.owner[start:end] - first, tuple(words[start:end] for words in self.fields))


@dataclass(frozen=True)
class Unpacked:
    """What blobs hold; the tails one after the other, of so many bytes each."""

    moment: Ints
    blocks: list[Block]
    tail: Octets
    tail_sizes: Ints


def pack(
    moment: Ints, blocks: Sequence[Block], tail: Octets, tail_sizes: Ints, seed: int
) -> tuple[Ints, Octets]:
    """One blob for each moment, in order: (the bounds between them, their bytes).

    The tails lie one after the other, SPARE_BYTES behind the last.
    """
    starts = range(0, len(moment), _AT_ONCE)
    if len(starts) < 2:
        return _pack(moment, blocks, tail, tail_sizes, seed)
    bounds = [*starts, len(moment)]
    cuts = [np.searchsorted(block.owner, bounds).tolist() for block in blocks]
    tail_cuts = np.append(before(tail_sizes), tail_sizes.sum())[bounds].tolist()
    found = []
    for place, (start, end) in enumerate(pairwise(bounds)):
        some = [
            block.part(cut[place], cut[place + 1], start) for block, cut in zip(blocks, cuts, strict=True)
        ]
        some_tail = tail[tail_cuts[place] : tail_cuts[place + 1] + SPARE_BYTES]
        found.append(_pack(moment[start:end], some, some_tail, tail_sizes[start:end], seed))
    ends = before(np.array([len(octets) for _, octets in found]))
    later = (some[1:] + end for (some, _), end in zip(found, ends, strict=True))
    return np.concatenate([np.zeros(1, np.int64), *later]), np.concatenate([octets for _, octets in found])


def are_ours(bounds: Ints, octets: Octets, fields: Sequence[int], seed: int) -> bool:
    """Whether `pack` made each of the blobs between a bound and the next, with so many fields a block and that seed."""
    whole, head_bytes, crc32 = octets.tobytes(), _head_bytes(fields), zlib.crc32
    return all(
        end - start >= head_bytes and whole[start] == VERSION and crc32(whole[start:end], seed) == _INTACT
        for start, end in pairwise(bounds.tolist())
    )


def unpack(bounds: Ints, octets: Octets, fields: Sequence[int]) -> Unpacked:
    """The blocks, with so many `fields` each, of the blobs between each bound and the next; they are ours."""
    starts = range(0, max(1, len(bounds) - 1), _AT_ONCE)
    parts = []
    for start in starts:
        some = bounds[start : start + _AT_ONCE + 1]
        parts.append(_unpack(some - some[0], octets[some[0] : some[-1]], fields))
    if len(parts) == 1:
        return parts[0]
    blocks = []
    for number, several in zip(fields, zip(*(part.blocks for part in parts), strict=True), strict=True):
        owner = np.concatenate([block.owner + start for block, start in zip(several, starts, strict=True)])
        words = (np.concatenate([block.fields[field] for block in several]) for field in range(number))
        blocks.append(Block(owner, tuple(words)))
    return Unpacked(
        np.concatenate([part.moment for part in parts]),
        blocks,
        np.concatenate([part.tail for part in parts]),
        np.concatenate([part.tail_sizes for part in parts]),
    )


def _pack(
    moment: Ints, blocks: Sequence[Block], tail: Octets, tail_sizes: Ints, seed: int
) -> tuple[Ints, Octets]:
    count, forms = len(moment), forms_of(tuple(len(block.fields) for block in blocks))
    counts = np.array([np.bincount(block.owner, minlength=count) for block in blocks])
    held = counts[forms.block]
    fields = [words for block in blocks for words in block.fields]
    written = [
        (run, _joined(fields[run.fields])) for run in runs(forms, [each.owner for each in blocks], counts)
    ]
    widths = np.empty(held.shape, np.int64)
    for run, words in written:
        widths[run.fields] = run.widths(words, held[run.fields])

    is_there, is_long = counts > 0, np.any(counts > _SHORT_COUNT, axis=0, keepdims=True)
    filled = np.packbits(np.concatenate((is_long, is_there)).view(np.uint8), axis=0, bitorder="little")
    head = np.empty((count, _FILLED + len(filled)), np.uint8)
    head[:, 0] = VERSION
    head[:, _MOMENT] = moment.view(np.uint8).reshape(count, 8)
    head[:, _FILLED:] = filled.T
    count_bytes = np.where(is_long[0], 4, 1)
    form_sizes, number_sizes = forms.sizes(count_bytes, is_there), held * widths
    rows = np.zeros(form_sizes.shape, np.uint64)
    for row, shift, width in zip(forms.row, forms.shift, widths.view(np.uint64), strict=True):
        rows[row] |= width << shift
    rows[forms.first] = (rows[forms.first] << (8 * count_bytes).view(np.uint64)) | counts.view(np.uint64)

    sizes = form_sizes.sum(axis=0) + number_sizes.sum(axis=0) + tail_sizes + (head.shape[1] + _CRC_BYTES)
    bounds = np.zeros(count + 1, np.int64)
    np.cumsum(sizes, out=bounds[1:])
    buffer = np.empty(bounds[-1] + SPARE_BYTES, np.uint8)
    at, behind = one_by_one(bounds[:-1] + head.shape[1], form_sizes)
    put(buffer, at.ravel(), rows.ravel())
    for run, words in written:
        width = widths[run.fields]
        at, behind = one_by_one(behind, number_sizes[run.fields])
        largest = int(width.max(initial=0))
        if largest:
            put(buffer, run.places(at, width), words, largest)
    if len(tail) > SPARE_BYTES:
        move(tail, before(tail_sizes), buffer, behind, tail_sizes)
    scatter(buffer, bounds[:-1], head.view(f"V{head.shape[1]}")[:, 0])
    scatter(buffer, bounds[1:] - _CRC_BYTES, _checksums(buffer, bounds, seed))
    return bounds, buffer[:-SPARE_BYTES]


def _unpack(bounds: Ints, octets: Octets, fields: Sequence[int]) -> Unpacked:
    count, forms, head_bytes = len(bounds) - 1, forms_of(tuple(fields)), _head_bytes(fields)
    start, sizes = bounds[:-1], np.diff(bounds)
    buffer = np.empty(len(octets) + SPARE_BYTES, np.uint8)
    buffer[:-SPARE_BYTES] = octets
    head = gather(buffer, start, np.dtype(f"V{head_bytes}")).view(np.uint8).reshape(count, head_bytes)
    filled = np.unpackbits(head[:, _FILLED:].T, axis=0, count=1 + len(fields), bitorder="little")
    count_bytes, is_there = np.where(filled[0], 4, 1), filled[1:]
    at, behind = one_by_one(start + head_bytes, forms.sizes(count_bytes, is_there))
    rows = get(buffer, at.ravel()).reshape(at.shape) * is_there[forms.row_block]
    counts = (rows[forms.first] & _MASKS[count_bytes]).view(np.int64)
    rows[forms.first] >>= (8 * count_bytes).view(np.uint64)
    widths = ((rows[forms.row] >> forms.shift[:, None]) & np.uint64(15)).view(np.int64)

    number_sizes = counts[forms.block] * widths
    every = np.arange(count)
    owners = [np.repeat(every, held) for held in counts]
    found: list[Words] = []
    for run in runs(forms, owners, counts):
        width = widths[run.fields]
        at, behind = one_by_one(behind, number_sizes[run.fields])
        largest = int(width.max(initial=0))
        if largest:
            words = get(buffer, run.places(at, width), largest)
            words &= _MASKS[width.ravel()][run.segment]
        else:
            words = np.zeros(len(run.segment), np.uint64)
        found += [words[cut:end] for cut, end in pairwise(run.cuts)]
    numbers = iter(found)
    blocks = [Block(owner, tuple(islice(numbers, each))) for owner, each in zip(owners, fields, strict=True)]
    tail_sizes = start + sizes - _CRC_BYTES - behind
    tail = np.empty(int(tail_sizes.sum()) + SPARE_BYTES, np.uint8)
    if len(tail) > SPARE_BYTES:
        move(buffer, behind, tail, before(tail_sizes), tail_sizes)
    moment = np.ascontiguousarray(head[:, _MOMENT]).view(np.int64)[:, 0]
    return Unpacked(moment, blocks, tail[:-SPARE_BYTES], tail_sizes)


def _joined(fields: list[Words]) -> Words:
    return fields[0] if len(fields) == 1 else np.concatenate(fields)


def _head_bytes(fields: Sequence[int]) -> int:
    """What comes before the forms of a blob whose blocks have so many fields."""
    return _FILLED + (1 + len(fields) + 7) // 8


def _checksums(octets: Octets, bounds: Ints, seed: int) -> npt.NDArray[np.uint32]:
    """The CRC-32 of each blob, but for the place of its own."""
    whole, cuts, crc32 = octets.tobytes(), bounds.tolist(), zlib.crc32
    return np.array([crc32(whole[start : end - _CRC_BYTES], seed) for start, end in pairwise(cuts)], "<u4")

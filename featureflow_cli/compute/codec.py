"""One entity's state of one view as bytes, and back (design.md 5).

A blob (its bytes: compute/blobs.py) has as its moment that of the newest event, which is the presence column; the
smallest int64 where there is none. Its blocks, and their fields, are
    ends      gap, end                          which events are in this state (design.md 4): a partition, told by how
                                                many lie between it and the one before it (at first -1), and its end
    family    tile, key, each column's value    cells: one block for all columns that have the same ones
    texts     length in bytes                   in a view that holds texts
and the texts' UTF-8 bytes are its tail; text codes count within the blob. Columns without windows have no tile, those
without keys no key. How each number is stored is its frame (compute/frames.py): gaps are SIGNED, ends PLAIN. The
checksum is begun with all families' frames and units, so that no state is read as one of another layout.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featureflow_cli.compute.blobs import Block, are_ours, pack, unpack
from featureflow_cli.compute.cells import NO_CELLS, Cells
from featureflow_cli.compute.codes import NO_TEXTS, Ints, merge_texts
from featureflow_cli.compute.frames import Frame, frames, narrowed, tile_unit_us, widened
from featureflow_cli.compute.packed import Packed, between, known_of, split
from featureflow_cli.compute.records import SPARE_BYTES, Octets, Words, before
from featureflow_cli.compute.state import NEVER_US, States
from featureflow_cli.compute.views import Key, StateColumn, View
from featureflow_cli.compute.windows import BEGINNING_US
from featureflow_cli.errors import FeatureflowError
from featureflow_cli.spec.types import ColumnType

_NONE = np.empty(0, np.int64)
_ENDS = (Frame.SIGNED, Frame.PLAIN)
_SPARSE = 16
"""Distinct pairs are marked among all possible ones where these are at most so many a pair, else sorted."""


class CorruptBlob(FeatureflowError):
    """A blob whose checksum or version is not ours: the store holds something that we did not write."""

    code = "corrupt_state"


@dataclass(frozen=True)
class Ends:
    """Headers of many states: state `state[i]` holds all events of `partition[i]` below `end[i]`. Sorted."""

    state: Ints
    partition: Ints
    end: Ints


NO_ENDS = Ends(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True)
class _Family:
    """What a block of cells holds: their tiles and keys, if any, and the values of columns with these indexes."""

    has_tile: bool
    has_key: bool
    columns: tuple[int, ...]
    frames: list[Frame]
    unit_us: int


def encode(view: View, states: States, ends: Ends) -> Packed:
    """One blob for each of the states, in order."""
    newest, (stored, seed) = states.newest_us, _layout(view)
    header = zip(_ENDS, (_gaps(ends), ends.end), strict=True)
    blocks = [Block(ends.state, tuple(narrowed(frame, numbers, newest, 1) for frame, numbers in header))]
    blocks += [_block(family, states, newest) for family in stored]
    if not _has_texts(stored):
        no_tail = np.empty(SPARE_BYTES, np.uint8), np.zeros(states.count, np.int64)
        return between(*pack(newest, blocks, *no_tail, seed))
    blocks, owner, texts = _localised(stored, blocks, states)
    lengths = np.asarray(pc.binary_length(texts).to_numpy(zero_copy_only=False), np.int64)
    sizes = np.bincount(owner, weights=lengths, minlength=states.count).astype(np.int64)
    blocks.append(Block(owner, (lengths.view(np.uint64),)))
    return between(*pack(newest, blocks, _octets(texts), sizes, seed))


def decode(view: View, blobs: Packed, *, is_intact: bool = False) -> tuple[States, Ends]:
    """The states of those blobs, in order (null: the empty state), and their headers.

    CorruptBlob where one is not as `encode` made it for such a view; `is_intact`: that was looked at before.
    """
    places = np.flatnonzero(known_of(blobs))
    bounds, octets = split(_there(blobs))
    stored, seed = _layout(view)
    fields, has_texts = _fields(stored), _has_texts(stored)
    if not is_intact and not are_ours(bounds, octets, fields, seed):
        raise _corrupt(view)
    found = unpack(bounds, octets, fields)
    header, *blocks = found.blocks
    gap, end = (
        widened(frame, words, found.moment, 1) for frame, words in zip(_ENDS, header.fields, strict=True)
    )
    texts, codes, first = NO_TEXTS, _NONE, _NONE
    if has_texts:
        lengths = blocks.pop()
        texts, (codes,) = merge_texts([_texts(lengths.fields[0], found.tail)])
        first = before(np.bincount(lengths.owner, minlength=len(places)))
    columns = [NO_CELLS] * len(view.columns)
    columns[0] = _presence(places, found.moment)
    for family, block in zip(stored, blocks, strict=True):
        if len(block.owner):
            numbers = [
                codes[first[block.owner] + each] if frame is Frame.TEXT else each
                for frame, each in zip(family.frames, _widened(family, block, found.moment), strict=True)
            ]
            cells = _cells(family, places[block.owner], numbers)
            for index, each in zip(family.columns, cells, strict=True):
                columns[index] = each
    return States(len(blobs), tuple(columns), texts), Ends(
        places[header.owner], _partitions(header.owner, gap), end
    )


def check(view: View, blobs: Packed) -> None:
    """CorruptBlob where one is not as `encode` made it for such a view."""
    stored, seed = _layout(view)
    if not are_ours(*split(_there(blobs)), _fields(stored), seed):
        raise _corrupt(view)


def _corrupt(view: View) -> CorruptBlob:
    message = f"a stored state of view '{view.name}' is damaged, or not one that this version wrote"
    held = "its file, or in Redis the keys `ff:PROJECT:*`"
    return CorruptBlob(
        message,
        hint=f"delete what the online store holds ({held}); `featureflow stream` builds it again from the log",
    )


def _layout(view: View) -> tuple[tuple[_Family, ...], int]:
    """(all families but presence, which is the blobs' moment; what tells them from those of another layout)."""
    return _stored(view.families[1:], view.columns, tuple(operand.type for operand in view.operands))


@lru_cache(maxsize=1024)
def _stored(
    several: tuple[tuple[int, ...], ...], columns: tuple[StateColumn, ...], operands: tuple[ColumnType, ...]
) -> tuple[tuple[_Family, ...], int]:
    found = []
    for indexes in several:
        family = [columns[index] for index in indexes]
        unit_us, has_key = tile_unit_us(family[0]), family[0].key is not Key.NONE
        found.append(_Family(unit_us is not None, has_key, indexes, frames(operands, family), unit_us or 1))
    told = ";".join(
        f"{family.unit_us} {' '.join(frame.value for frame in family.frames)}" for family in found
    )
    return tuple(found), zlib.crc32(told.encode())


def _fields(stored: Sequence[_Family]) -> list[int]:
    """How many fields each block of a blob has."""
    return [len(_ENDS), *(len(family.frames) for family in stored), *([1] if _has_texts(stored) else [])]


def _has_texts(stored: Sequence[_Family]) -> bool:
    return any(Frame.TEXT in family.frames for family in stored)


# --- encoding


def _gaps(ends: Ends) -> Ints:
    """How many partitions are left out before each: none where a state knows all of them."""
    gaps = np.diff(ends.partition, prepend=-1) - 1
    first = np.flatnonzero(np.diff(ends.state, prepend=-1))
    gaps[first] = ends.partition[first]
    return gaps


def _block(family: _Family, states: States, newest: Ints) -> Block:
    cells = [states.columns[index] for index in family.columns]
    side = cells[0]
    numbers = [*([side.tile] if family.has_tile else []), *([side.key] if family.has_key else [])]
    numbers += [each.value for each in cells]
    base = earlier = newest[side.state]
    words = []
    for frame, each in zip(family.frames, numbers, strict=True):
        words.append(narrowed(frame, each, earlier if frame is Frame.AFTER else base, family.unit_us))
        earlier = each if frame is Frame.AGO else earlier
    return Block(side.state, tuple(words))


def _localised(
    stored: Sequence[_Family], blocks: list[Block], states: States
) -> tuple[list[Block], Ints, Any]:
    """(the blocks with text codes that count within each state; the states that hold a text, and the texts)."""
    at = [
        (number, field)
        for number, family in enumerate(stored, start=1)
        for field, frame in enumerate(family.frames)
        if frame is Frame.TEXT
    ]
    fields = [(blocks[number].owner, blocks[number].fields[field].view(np.int64)) for number, field in at]
    kinds = len(states.texts)
    pairs = np.concatenate([owner * kinds + code for owner, code in fields])
    distinct, place = _distinct(pairs, states.count * kinds)
    owner, code = np.divmod(distinct, max(kinds, 1))
    local = np.arange(len(distinct)) - before(np.bincount(owner, minlength=states.count))[owner]
    cuts = np.cumsum([len(code) for _, code in fields])[:-1]
    for (number, field), mine in zip(at, np.split(local[place], cuts), strict=True):
        words = list(blocks[number].fields)
        words[field] = mine.view(np.uint64)
        blocks[number] = Block(blocks[number].owner, tuple(words))
    return blocks, owner, states.texts.take(pa.array(code))


def _distinct(numbers: Ints, limit: int) -> tuple[Ints, Ints]:
    """(the distinct ones of numbers below `limit`, ascending; of each number, the place of its like)."""
    if limit > _SPARSE * len(numbers):
        distinct, place = np.unique(numbers, return_inverse=True)
        return distinct, place
    is_there = np.zeros(limit, np.bool_)
    is_there[numbers] = True
    return np.flatnonzero(is_there), (np.cumsum(is_there) - 1)[numbers]


def _octets(texts: Any) -> Octets:
    """The UTF-8 bytes of all texts, and spare ones."""
    if not len(texts):
        return np.empty(SPARE_BYTES, np.uint8)
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    held = np.frombuffer(texts.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    return np.concatenate([held, np.empty(SPARE_BYTES, np.uint8)])


# --- decoding


def _there(blobs: Packed) -> Packed:
    return blobs.drop_null() if blobs.null_count else blobs


def _partitions(owner: Ints, gaps: Ints) -> Ints:
    passed = np.cumsum(gaps + 1)
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    held = np.diff(first, append=len(owner))
    return passed - 1 - np.repeat(passed[first] - gaps[first] - 1, held)


def _texts(lengths: Words, octets: Octets) -> Any:
    if not len(lengths):
        return NO_TEXTS
    offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
    return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets), pa.py_buffer(octets))


def _presence(places: Ints, newest: Ints) -> Cells:
    known = newest != NEVER_US
    if not known.all():
        places, newest = places[known], newest[known]
    return Cells(places, np.full(len(places), BEGINNING_US), np.zeros(len(places), np.int64), newest)


def _widened(family: _Family, block: Block, newest: Ints) -> list[Ints]:
    """The numbers of each field; text codes still count within their blobs."""
    base = earlier = newest[block.owner]
    found = []
    for frame, words in zip(family.frames, block.fields, strict=True):
        numbers = widened(frame, words, earlier if frame is Frame.AFTER else base, family.unit_us)
        earlier = numbers if frame is Frame.AGO else earlier
        found.append(numbers)
    return found


def _cells(family: _Family, state: Ints, numbers: list[Ints]) -> list[Cells]:
    """The cells of each of the family's columns."""
    values = numbers[family.has_tile + family.has_key :]
    tile = numbers[0] if family.has_tile else np.full(len(state), BEGINNING_US)
    key = numbers[family.has_tile] if family.has_key else np.zeros(len(state), np.int64)
    return [Cells(state, tile, key, value) for value in values]

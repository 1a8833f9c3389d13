"""Blobs: one entity's state of one view as bytes, and back (design.md 5).

Little-endian. A head, then
    ends    12 bytes each: partition int32, end int64        which events are in this state (design.md 4)
    plain   column uint8, tile int32 or int64, value int64   cells of columns without keys
    keyed   the same with key int64 before value
    texts   their lengths uint32 each, then their UTF-8 bytes; text codes count within the blob
Tiles are counted in the view's finest resolution (`tile_unit_us`), BEGINNING as the smallest number; they take
four bytes where all of the blob's fit. The checksum is CRC-32 of all that follows it.

Thousands of blobs are written into one buffer, and read from one: of every record its place is known from
counts alone, so nothing is sorted to be written, and Python sees a blob only to cut it out (compute/records.py).
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featureflow_cli.compute.cells import NO_CELLS, Cells, concat, sort, with_texts
from featureflow_cli.compute.codes import NO_TEXTS, Bools, Ints, merge_texts
from featureflow_cli.compute.records import Octets, before, gather, places, scatter
from featureflow_cli.compute.state import States
from featureflow_cli.compute.views import Key, StateColumn, View
from featureflow_cli.compute.windows import BEGINNING_US
from featureflow_cli.errors import FeatureflowError

VERSION = 1
_HEAD = np.dtype(
    [
        ("crc", "<u4"),
        ("version", "u1"),
        ("wide", "u1"),
        ("ends", "<u2"),
        ("plain", "<u4"),
        ("keyed", "<u4"),
        ("texts", "<u4"),
        ("text_bytes", "<u4"),
    ]
)
_CRC_BYTES = 4
_END = np.dtype([("partition", "<i4"), ("end", "<i8")])
_LENGTH = np.dtype("<u4")
_BYTE = np.dtype("u1")
_PLAIN = {
    False: np.dtype([("column", "u1"), ("tile", "<i4"), ("value", "<i8")]),
    True: np.dtype([("column", "u1"), ("tile", "<i8"), ("value", "<i8")]),
}
_KEYED = {
    False: np.dtype([("column", "u1"), ("tile", "<i4"), ("key", "<i8"), ("value", "<i8")]),
    True: np.dtype([("column", "u1"), ("tile", "<i8"), ("key", "<i8"), ("value", "<i8")]),
}
_NARROW = 2**31 - 1


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


def tile_unit_us(view: View) -> int:
    """The finest resolution of the view's tiled columns; every tile is a multiple of it."""
    fine = [
        us for column in view.columns if column.is_tiled for width, us in column.horizons if width is not None
    ]
    return min(fine, default=1)


def encode(view: View, states: States, ends: Ends) -> list[bytes]:
    """One blob for each of the states, in order."""
    unit = tile_unit_us(view)
    columns, texts, text_counts, text_sizes = _localised(view, states)
    tiles = [_stored_tiles(cells, unit) for cells in columns]
    wide = any(len(each) and max(int(each.max()), -int(each.min())) >= _NARROW for each, _ in tiles)
    held = [np.bincount(cells.state, minlength=states.count) for cells in columns]
    is_keyed = [column.key is not Key.NONE for column in view.columns]
    head = np.zeros(states.count, _HEAD)
    head["version"], head["wide"] = VERSION, wide
    head["ends"] = np.bincount(ends.state, minlength=states.count)
    for counts, keyed in zip(held, is_keyed, strict=True):
        head["keyed" if keyed else "plain"] += counts.astype(np.uint32)
    head["texts"], head["text_bytes"] = text_counts, text_sizes

    inside, sizes = _sections(head, wide)
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    starts = bounds[:-1] + inside
    buffer = np.empty(bounds[-1], np.uint8)
    scatter(buffer, bounds[:-1], head)
    end_records = np.empty(len(ends.state), _END)
    end_records["partition"], end_records["end"] = ends.partition, ends.end
    scatter(buffer, places(starts[0], head["ends"], _END.itemsize), end_records)
    kinds, free = (_PLAIN[wide], _KEYED[wide]), starts[1:3].copy()  # where each section goes on
    for index, (cells, counts, keyed) in enumerate(zip(columns, held, is_keyed, strict=True)):
        kind = kinds[keyed]
        records = _records(kind, index, cells, *tiles[index])
        scatter(buffer, places(free[int(keyed)], counts, kind.itemsize), records)
        free[int(keyed)] += counts * kind.itemsize
    lengths = np.asarray(pc.binary_length(texts).to_numpy(zero_copy_only=False), _LENGTH)
    scatter(buffer, places(starts[3], text_counts, _LENGTH.itemsize), lengths)
    scatter(buffer, places(starts[4], text_sizes, 1), np.frombuffer(_text_bytes(texts), _BYTE))
    return _cut(buffer, bounds)


def decode(view: View, blobs: Sequence[bytes | None]) -> tuple[States, Ends]:
    """The states of those blobs, in order (None: the empty state), and their headers."""
    present = np.array([place for place, blob in enumerate(blobs) if blob is not None], np.int64)
    held = [blob for blob in blobs if blob is not None]
    sizes = np.fromiter(map(len, held), np.int64, len(held))
    if (sizes < _HEAD.itemsize).any():
        raise _corrupt(view)
    buffer = np.frombuffer(b"".join(held), np.uint8)
    first = before(sizes)
    head = gather(buffer, first, _HEAD)
    crcs = [zlib.crc32(memoryview(blob)[_CRC_BYTES:]) for blob in held]
    if (head["version"] != VERSION).any() or (head["crc"] != np.array(crcs, np.uint32)).any():
        raise _corrupt(view)
    cells, texts, ends = [], [], []
    for wide in (False, True):
        chosen = np.flatnonzero(head["wide"] == wide)
        if len(chosen):
            part = _decode_alike(view, buffer, first[chosen], head[chosen], present[chosen], wide)
            cells.append(part[0])
            texts.append(part[1])
            ends.append(part[2])
    return _assemble(view, len(blobs), cells, texts), _join_ends(ends)


def _corrupt(view: View) -> CorruptBlob:
    message = f"a stored state of view '{view.name}' is not one that this version wrote"
    return CorruptBlob(
        message, hint="delete the online store's file; `featureflow stream` rebuilds it from the log"
    )


def _sections(head: npt.NDArray[np.void], wide: bool) -> tuple[npt.NDArray[np.int64], Ints]:
    """(how far from its blob's start each section starts: five rows, a column a blob; each blob's size)."""
    sizes = np.stack(
        [
            np.full(len(head), _HEAD.itemsize),
            head["ends"].astype(np.int64) * _END.itemsize,
            head["plain"].astype(np.int64) * _PLAIN[wide].itemsize,
            head["keyed"].astype(np.int64) * _KEYED[wide].itemsize,
            head["texts"].astype(np.int64) * _LENGTH.itemsize,
            head["text_bytes"].astype(np.int64),
        ]
    )
    ends = np.cumsum(sizes, axis=0)
    return ends[:-1], ends[-1]


# --- encoding


def _localised(view: View, states: States) -> tuple[list[Cells], Any, Ints, Ints]:
    """(columns whose text codes count within each state, texts state by state, their number and bytes a state)."""
    columns = list(states.columns)
    none = np.zeros(states.count, np.int64)
    at = [index for index, column in enumerate(view.columns) if column.is_text and len(columns[index])]
    if not at:
        return columns, NO_TEXTS, none, none
    by_key = [view.columns[index].key is Key.CODE for index in at]
    codes = [
        columns[index].key if keyed else columns[index].value for index, keyed in zip(at, by_key, strict=True)
    ]
    pairs = [columns[index].state * len(states.texts) + each for index, each in zip(at, codes, strict=True)]
    distinct, place = np.unique(np.concatenate(pairs), return_inverse=True)
    owner, code = np.divmod(distinct, len(states.texts))
    counts = np.bincount(owner, minlength=states.count)
    local = (np.arange(len(distinct)) - before(counts)[owner])[place]
    cuts = np.cumsum([len(each) for each in codes])[:-1]
    for index, keyed, mine in zip(at, by_key, np.split(local, cuts), strict=True):
        cells = columns[index]
        key, value = (mine, cells.value) if keyed else (cells.key, mine)
        columns[index] = Cells(cells.state, cells.tile, key, value)
    texts = states.texts.take(pa.array(code))
    sizes = np.asarray(pc.binary_length(texts).to_numpy(zero_copy_only=False), np.int64)
    return columns, texts, counts, np.bincount(owner, weights=sizes, minlength=states.count).astype(np.int64)


def _stored_tiles(cells: Cells, unit: int) -> tuple[Ints, Bools]:
    """(tiles in units, 0 where it is the beginning; where it is)."""
    from_beginning = cells.tile == BEGINNING_US
    return np.where(from_beginning, 0, cells.tile // unit), from_beginning


def _records(
    kind: np.dtype[np.void], column: int, cells: Cells, tiles: Ints, from_beginning: Bools
) -> npt.NDArray[np.void]:
    records = np.empty(len(cells), kind)
    records["column"], records["value"] = column, cells.value
    records["tile"] = np.where(from_beginning, np.iinfo(kind["tile"]).min, tiles)
    if kind.names is not None and "key" in kind.names:
        records["key"] = cells.key
    return records


def _text_bytes(texts: Any) -> memoryview:
    if not len(texts):
        return memoryview(b"")
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return memoryview(texts.buffers()[2] or b"")[offsets[0] : offsets[-1]]


def _cut(buffer: Octets, bounds: Ints) -> list[bytes]:
    """The blobs, each with the checksum of what follows it."""
    cuts, view, crc32 = bounds.tolist(), buffer.data, zlib.crc32
    crcs = [crc32(view[start + _CRC_BYTES : end]) for start, end in pairwise(cuts)]
    scatter(buffer, bounds[:-1], np.array(crcs, "<u4"))
    whole = buffer.tobytes()
    return [whole[start:end] for start, end in pairwise(cuts)]


# --- decoding


def _decode_alike(
    view: View, buffer: Octets, first: Ints, head: npt.NDArray[np.void], states: Ints, wide: bool
) -> tuple[list[tuple[int, Cells]], Any, Ends]:
    """The blobs of one tile width, which start at `first`: cells by column, texts, headers."""
    starts = first + _sections(head, wide)[0]
    ends = gather(buffer, places(starts[0], head["ends"], _END.itemsize), _END)
    header = Ends(
        np.repeat(states, head["ends"]), ends["partition"].astype(np.int64), ends["end"].astype(np.int64)
    )
    texts = _texts(
        gather(buffer, places(starts[3], head["texts"], _LENGTH.itemsize), _LENGTH),
        gather(buffer, places(starts[4], head["text_bytes"], 1), _BYTE),
    )
    text_base = before(head["texts"].astype(np.int64))
    unit = tile_unit_us(view)
    cells = []
    for kind, start, counts in (
        (_PLAIN[wide], starts[1], head["plain"]),
        (_KEYED[wide], starts[2], head["keyed"]),
    ):
        records = gather(buffer, places(start, counts, kind.itemsize), kind)
        if not len(records):
            continue
        blob = np.repeat(np.arange(len(first)), counts)
        order = np.argsort(records["column"], kind="stable")  # of bytes: a radix sort
        cuts = np.searchsorted(records["column"][order], np.arange(len(view.columns) + 1)).tolist()
        every = _cells(records, states[blob], unit)
        for index, column in enumerate(view.columns):
            rows = order[cuts[index] : cuts[index + 1]]
            if len(rows):
                some = every.take(rows)
                cells.append((index, _moved(some, column, text_base[blob[rows]]) if column.is_text else some))
    return cells, texts, header


def _cells(records: npt.NDArray[np.void], state: Ints, unit: int) -> Cells:
    """Records as cells, text codes still counting within their blobs."""
    stored = records["tile"]
    beginning = np.iinfo(stored.dtype).min
    tile = np.where(stored == beginning, BEGINNING_US, stored.astype(np.int64) * unit)
    has_key = records.dtype.names is not None and "key" in records.dtype.names
    keys = records["key"].astype(np.int64) if has_key else np.zeros(len(state), np.int64)
    return Cells(state, tile, keys, records["value"].astype(np.int64))


def _moved(cells: Cells, column: StateColumn, by: Ints) -> Cells:
    """The cells of a text column with their codes moved up, each by its own `by`."""
    if column.key is Key.CODE:
        return Cells(cells.state, cells.tile, cells.key + by, cells.value)
    return Cells(cells.state, cells.tile, cells.key, cells.value + by)


def _texts(lengths: npt.NDArray[np.uint32], text: Octets) -> Any:
    if not len(lengths):
        return NO_TEXTS
    offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
    return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets), pa.py_buffer(text))


def _assemble(view: View, count: int, parts: list[list[tuple[int, Cells]]], texts: list[Any]) -> States:
    """One table of states; the texts of all blobs become one sorted table.

    Local codes order as their texts do, so cells stay sorted; only blobs of both tile widths need a sort.
    """
    tables, moved = merge_texts(texts)
    held: list[list[Cells]] = [[] for _ in view.columns]
    for cells, codes in zip(parts, moved, strict=True):
        for index, part in cells:
            is_text = view.columns[index].is_text
            held[index].append(with_texts(part, view.columns[index], codes) if is_text else part)
    columns = [
        sort(column, concat(some)) if len(some) > 1 else (some or [NO_CELLS])[0]
        for column, some in zip(view.columns, held, strict=True)
    ]
    return States(count, tuple(columns), tables)


def _join_ends(parts: list[Ends]) -> Ends:
    if len(parts) < 2:
        return parts[0] if parts else NO_ENDS
    state, partition, end = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("state", "partition", "end")
    )
    order = np.lexsort((partition, state))
    return Ends(state[order], partition[order], end[order])

"""Blobs: one entity's state of one view as bytes, and back (design.md 5).

Little-endian. A head, then
    ends    12 bytes each: partition int32, end int64        which events are in this state (design.md 4)
    plain   column uint8, tile int32 or int64, value int64   cells of columns without keys
    keyed   the same with key int64 before value
    texts   their lengths uint32 each, then their UTF-8 bytes; text codes count within the blob
Tiles are counted in the view's finest resolution (`tile_unit_us`), BEGINNING as the smallest number; they take
four bytes where all of the blob's fit. The checksum is CRC-32 of all that follows it.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featureflow_cli.compute.codes import NO_TEXTS, Ints, merge_texts
from featureflow_cli.compute.state import NO_CELLS, Cells, States, concat, sort, with_texts
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
_END = np.dtype([("partition", "<i4"), ("end", "<i8")])
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
    keyed = [column.key is not Key.NONE for column in view.columns]
    plain_rows = _rows(states, [place for place, is_keyed in enumerate(keyed) if not is_keyed])
    keyed_rows = _rows(states, [place for place, is_keyed in enumerate(keyed) if is_keyed])
    texts, text_counts, text_sizes = _localise(view, states, plain_rows, keyed_rows)
    unit = tile_unit_us(view)
    wide = _is_wide(plain_rows, unit) or _is_wide(keyed_rows, unit)
    sections = (
        (_records(_PLAIN[wide], plain_rows, unit), _offsets(plain_rows.state, states.count)),
        (_records(_KEYED[wide], keyed_rows, unit), _offsets(keyed_rows.state, states.count)),
    )
    head = np.zeros(states.count, _HEAD)
    head["version"], head["wide"] = VERSION, wide
    end_offsets = _offsets(ends.state, states.count)
    head["ends"] = np.diff(end_offsets)
    head["plain"], head["keyed"] = np.diff(sections[0][1]), np.diff(sections[1][1])
    head["texts"], head["text_bytes"] = text_counts, text_sizes
    end_records = np.empty(len(ends.state), _END)
    end_records["partition"], end_records["end"] = ends.partition, ends.end
    lengths = np.asarray(pc.binary_length(texts).to_numpy(zero_copy_only=False), "<u4")
    buffers = [
        (memoryview(end_records.tobytes()), (end_offsets * _END.itemsize).tolist()),
        *(
            (memoryview(records.tobytes()), (bounds * records.dtype.itemsize).tolist())
            for records, bounds in sections
        ),
        (memoryview(lengths.tobytes()), (_bounds(text_counts) * 4).tolist()),
        (memoryview(_text_bytes(texts)), _bounds(text_sizes).tolist()),
    ]
    heads, size, blobs = head.tobytes(), _HEAD.itemsize, []
    for place in range(states.count):
        parts = [buffer[bounds[place] : bounds[place + 1]] for buffer, bounds in buffers]
        body = b"".join((heads[place * size + 4 : (place + 1) * size], *parts))
        blobs.append(zlib.crc32(body).to_bytes(4, "little") + body)
    return blobs


def decode(view: View, blobs: Sequence[bytes | None]) -> tuple[States, Ends]:
    """The states of those blobs, in order (None: the empty state), and their headers."""
    count = len(blobs)
    present = [place for place, blob in enumerate(blobs) if blob is not None]
    held = [blob for blob in blobs if blob is not None]
    for blob in held:
        if (
            len(blob) < _HEAD.itemsize
            or blob[4] != VERSION
            or zlib.crc32(memoryview(blob)[4:]) != int.from_bytes(blob[:4], "little")
        ):
            message = f"a stored state of view '{view.name}' is not one that this version wrote"
            raise CorruptBlob(
                message, hint="delete the online store's file; `featureflow stream` rebuilds it from the log"
            )
    head = np.frombuffer(b"".join(blob[: _HEAD.itemsize] for blob in held), _HEAD)
    states = np.array(present, np.int64)
    cells, texts, ends = [], [], []
    for wide in (False, True):
        chosen = np.flatnonzero(head["wide"] == wide)
        if len(chosen):
            some = held if len(chosen) == len(held) else [held[place] for place in chosen]
            part_cells, part_texts, part_ends = _decode_alike(view, some, head[chosen], states[chosen], wide)
            cells.append(part_cells)
            texts.append(part_texts)
            ends.append(part_ends)
    return _assemble(view, count, cells, texts), _join_ends(ends)


# --- encoding


@dataclass(frozen=True)
class _Rows:
    """Cells of several columns, state by state."""

    state: Ints
    column: Ints
    tile: Ints
    key: Ints
    value: Ints


def _rows(states: States, places: list[int]) -> _Rows:
    parts = [states.columns[place] for place in places]
    column = np.repeat(np.array(places, np.int64), [len(part) for part in parts])
    if not parts:
        none = np.empty(0, np.int64)
        return _Rows(none, none, none, none, none)
    state = np.concatenate([part.state for part in parts])
    order = np.argsort(state, kind="stable")
    tile, key, value = (
        np.concatenate([getattr(part, name) for part in parts])[order] for name in ("tile", "key", "value")
    )
    return _Rows(state[order], column[order], tile, key, value)


def _localise(view: View, states: States, plain: _Rows, keyed: _Rows) -> tuple[Any, Ints, Ints]:
    """Make text codes count within each state; (texts state by state, their number and bytes a state)."""
    none = np.zeros(states.count, np.int64)
    if not len(states.texts):
        return NO_TEXTS, none, none
    is_text = np.array([column.is_text for column in view.columns])
    by_key = np.array([column.key is Key.CODE for column in view.columns])
    places = [
        (plain, plain.value, np.flatnonzero(is_text[plain.column])),
        (keyed, keyed.value, np.flatnonzero((is_text & ~by_key)[keyed.column])),
        (keyed, keyed.key, np.flatnonzero((is_text & by_key)[keyed.column])),
    ]
    pairs = np.concatenate([rows.state[at] * len(states.texts) + codes[at] for rows, codes, at in places])
    if not len(pairs):
        return NO_TEXTS, none, none
    distinct, index = np.unique(pairs, return_inverse=True)
    owner, code = np.divmod(distinct, len(states.texts))
    counts = np.bincount(owner, minlength=states.count)
    local = np.arange(len(distinct)) - (np.cumsum(counts) - counts)[owner]
    done = 0
    for _, codes, at in places:
        codes[at] = local[index[done : done + len(at)]]
        done += len(at)
    texts = states.texts.take(pa.array(code))
    sizes = np.asarray(pc.binary_length(texts).to_numpy(zero_copy_only=False), np.int64)
    return texts, counts, np.bincount(owner, weights=sizes, minlength=states.count).astype(np.int64)


def _is_wide(rows: _Rows, unit: int) -> bool:
    timed = rows.tile[rows.tile != BEGINNING_US] // unit
    return bool(len(timed)) and bool(max(int(timed.max()), -int(timed.min())) >= _NARROW)


def _records(kind: np.dtype[np.void], rows: _Rows, unit: int) -> npt.NDArray[np.void]:
    records = np.empty(len(rows.state), kind)
    records["column"], records["value"] = rows.column, rows.value
    beginning = np.iinfo(kind["tile"]).min
    records["tile"] = np.where(rows.tile == BEGINNING_US, beginning, rows.tile // unit)
    if kind.names is not None and "key" in kind.names:
        records["key"] = rows.key
    return records


def _offsets(state: Ints, count: int) -> Ints:
    return _bounds(np.bincount(state, minlength=count))


def _bounds(lengths: Ints) -> Ints:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _text_bytes(texts: Any) -> bytes:
    if not len(texts):
        return b""
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return memoryview(texts.buffers()[2] or b"")[offsets[0] : offsets[-1]].tobytes()


# --- decoding


def _decode_alike(
    view: View, blobs: Sequence[bytes], head: npt.NDArray[np.void], states: Ints, wide: bool
) -> tuple[list[tuple[int, Cells]], Any, Ends]:
    sizes = [
        head["ends"].astype(np.int64) * _END.itemsize,
        head["plain"].astype(np.int64) * _PLAIN[wide].itemsize,
        head["keyed"].astype(np.int64) * _KEYED[wide].itemsize,
        head["texts"].astype(np.int64) * 4,
        head["text_bytes"].astype(np.int64),
    ]
    bounds = np.cumsum([np.full(len(blobs), _HEAD.itemsize), *sizes], axis=0)
    ends, plain, keyed, lengths, text = (
        b"".join([blob[low:high] for blob, low, high in zip(blobs, lows, highs, strict=True) if high > low])
        for lows, highs in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
    )
    end_records = np.frombuffer(ends, _END)
    header = Ends(
        np.repeat(states, head["ends"]),
        end_records["partition"].astype(np.int64),
        end_records["end"].astype(np.int64),
    )
    texts = _texts(np.frombuffer(lengths, "<u4"), text)
    text_base = np.cumsum(head["texts"], dtype=np.int64) - head["texts"]
    unit = tile_unit_us(view)
    cells = []
    for kind, records_bytes, counts in (
        (_PLAIN[wide], plain, head["plain"]),
        (_KEYED[wide], keyed, head["keyed"]),
    ):
        if not records_bytes:
            continue
        records = np.frombuffer(records_bytes, kind)
        place = np.repeat(np.arange(len(blobs)), counts)
        if len(blobs) > 1:  # a blob's own records are sorted by column already
            order = np.argsort(records["column"], kind="stable")
            records, place = records[order], place[order]
        cuts = np.searchsorted(records["column"], np.arange(len(view.columns) + 1)).tolist()
        base = text_base[place] if len(texts) else None
        every = _cells(records, states[place], unit)
        for index, column in enumerate(view.columns):
            rows = slice(cuts[index], cuts[index + 1])
            if rows.start < rows.stop:
                some = every.take(rows)
                if column.is_text and base is not None:
                    some = _moved(some, column, base[rows])
                cells.append((index, some))
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


def _texts(lengths: npt.NDArray[np.uint32], text: bytes) -> Any:
    if not len(lengths):
        return NO_TEXTS
    offsets = _bounds(lengths.astype(np.int64)).astype(np.int32)
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

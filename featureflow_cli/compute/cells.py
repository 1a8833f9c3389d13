"""Cells: the one table that all state is (compute/state.py), and how it is put in order.

Columns that take the same events into the same tiles and keys have the same cells, but for their values: they
stand side by side, and are ordered once (`View.families`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featureflow_cli.compute.codes import Bools, Ints
from featureflow_cli.compute.views import Key, Merge, StateColumn
from featureflow_cli.compute.windows import BEGINNING_US

LISTED = frozenset({Merge.NEWEST, Merge.OLDEST})
_UFUNCS = {Merge.SUM: np.add, Merge.MIN: np.minimum, Merge.MAX: np.maximum}
_PACKED_BITS = 62
_FEW = 64
"""Of so many rows at most one that is smaller than the one before: then runs are merged, else all is sorted."""


@dataclass(frozen=True)
class Cells:
    """Cells of one state column, sorted by (state, tile, key, value); `key` is 0 where the column has none.

    `value` is an int64, a code, or a double's bits, as the column's merge and lift say.
    """

    state: Ints
    tile: Ints
    key: Ints
    value: Ints

    def __len__(self) -> int:
        return len(self.state)

    def take(self, rows: Ints | Bools | slice) -> "Cells":
        return Cells(self.state[rows], self.tile[rows], self.key[rows], self.value[rows])

    def beside(self, value: Ints) -> "Cells":
        """The cells of a column of the same family."""
        return Cells(self.state, self.tile, self.key, value)


_NONE = np.empty(0, np.int64)
NO_CELLS = Cells(_NONE, _NONE, _NONE, _NONE)


def concat(parts: Sequence[Cells]) -> Cells:
    filled = [part for part in parts if len(part)]
    if len(filled) == 1:
        return filled[0]
    fields = ("state", "tile", "key", "value")
    return Cells(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


def with_texts(cells: Cells, column: StateColumn, codes: Ints) -> Cells:
    """The cells of a text column with `codes[old]` in place of every old code."""
    if column.key is Key.CODE:
        return Cells(cells.state, cells.tile, codes[cells.key], cells.value)
    return cells.beside(codes[cells.value])


def run_starts(cells: Cells, *, by_key: bool) -> Ints:
    """First row of each run of cells of one (state, tile[, key])."""
    if not len(cells):
        return np.empty(0, np.int64)
    fresh = np.empty(len(cells), np.bool_)
    fresh[0] = True
    np.not_equal(cells.state[1:], cells.state[:-1], out=fresh[1:])
    fresh[1:] |= cells.tile[1:] != cells.tile[:-1]
    if by_key:
        fresh[1:] |= cells.key[1:] != cells.key[:-1]
    return np.flatnonzero(fresh)


def reduced(merge: Merge, value: Ints, starts: Ints) -> Ints:
    """The values of each run made one."""
    if merge is Merge.FSUM:
        return np.add.reduceat(value.view(np.float64), starts).view(np.int64)
    return np.asarray(_UFUNCS[merge].reduceat(value, starts), np.int64)


# --- order


def sort(column: StateColumn, cells: Cells) -> Cells:
    """By (state, tile, key), and by value where entries of a list may tie.

    Where they fit, the parts are packed into one int64, highest first: one sort instead of one a part.
    """
    if len(cells) < 2:
        return cells
    major = _composite(column, cells.state, cells.tile)
    if major is None:
        return _lexsorted(column, cells)
    packed, is_exact = (major, True) if column.key is Key.NONE else _with_key(column, major, cells.key)
    order = ascending(packed)
    found = cells if order is None else cells.take(order)
    if is_exact and column.merge not in LISTED:
        return found
    return (
        found
        if _ties_ascend(column, packed if order is None else packed[order], found)
        else _lexsorted(column, cells)
    )


def by_state_and_time(state: Ints, ts: Ints) -> Ints | None:
    """The rows in that order; None where they are."""
    falls = (state[1:] < state[:-1]) | ((state[1:] == state[:-1]) & (ts[1:] < ts[:-1]))
    if not falls.any():
        return None
    low = int(ts.min())
    span = int(ts.max()) - low + 1
    if span * (int(state.max()) + 1) >= 2**63:
        return np.lexsort((ts, state))
    return np.argsort(state * span + (ts - low))


def ascending(packed: Ints) -> Ints | None:
    """The rows in ascending order; None where they are. Merging two sorted runs takes a third of sorting them."""
    descents = np.count_nonzero(packed[1:] < packed[:-1])
    if not descents:
        return None
    return np.argsort(packed, kind="stable" if descents * _FEW < len(packed) else "quicksort")


def _composite(column: StateColumn, state: Ints, tile: Ints) -> Ints | None:
    """One int64 that orders as (state, tile) does, where the ranges fit. Tiles are multiples of the finest rung."""
    timed = tile != BEGINNING_US
    if not timed.any():
        return state
    unit = min((rung for width, rung in column.horizons if width is not None), default=1)
    if timed.all():
        low, high = int(tile.min()), int(tile.max())
        place = (tile - low) // unit + 1
    else:
        low, high = int(tile[timed].min()), int(tile.max())
        place = np.where(timed, (tile - low) // unit + 1, 0)
    span = (high - low) // unit + 2
    if span * (int(state.max()) + 1) >= 2**_PACKED_BITS:
        return None
    return state * span + place


def _with_key(column: StateColumn, major: Ints, key: Ints) -> tuple[Ints, bool]:
    """(an int64 that orders as (major, key) does, but for ties; whether it leaves no ties of different keys).

    Of keys that are too wide the highest bits are taken: of hashes these hardly ever tie.
    """
    unsigned = key.view(np.uint64)
    if column.key is not Key.HASH:
        unsigned = unsigned - np.uint64(int(key.min()) % 2**64)
    bits = int(unsigned.max()).bit_length()
    room = _PACKED_BITS + 1 - int(major.max()).bit_length()
    cut = max(0, bits - room)
    return (major << (bits - cut)) | (unsigned >> np.uint64(cut)).view(np.int64), cut == 0


def _ties_ascend(column: StateColumn, packed: Ints, cells: Cells) -> bool:
    """Whether cells that are packed alike stand in order of key and, in lists, value."""
    at = np.flatnonzero(packed[1:] == packed[:-1])
    if not len(at):
        return True
    key = cells.key.view(np.uint64) if column.key is Key.HASH else cells.key
    falls = key[at + 1] < key[at]
    if column.merge in LISTED:
        falls |= (key[at + 1] == key[at]) & (cells.value[at + 1] < cells.value[at])
    return not falls.any()


def _lexsorted(column: StateColumn, cells: Cells) -> Cells:
    parts: tuple[np.ndarray, ...] = (cells.tile, cells.state)
    if column.key is not Key.NONE:
        parts = (cells.key.view(np.uint64) if column.key is Key.HASH else cells.key, *parts)
    if column.merge in LISTED:
        parts = (cells.value, *parts)
    return cells.take(np.lexsort(parts))

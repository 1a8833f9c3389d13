"""The state algebra: what is kept of events, and how it merges (design.md section 2).

The state of many entities of one view is one table of cells per state column: (state, tile, key, value), all
int64, sorted. `lift` makes it from events, `merge` joins any number of such tables; both settle the result:
equal cells become one, tiles coarsen with the age of their own state's newest event, what no window can see
goes, keys past `max_keys` go. So a state is a function of the set of its events: no order and no batching of
them can be told from it (laws: tests/laws/test_state.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from featureflow_cli.compute.codes import (
    NO_TEXTS,
    Bools,
    Coded,
    Ints,
    limbs,
    merge_texts,
    numbers,
    uncode,
)
from featureflow_cli.compute.events import Events
from featureflow_cli.compute.hashing import key_hash
from featureflow_cli.compute.percentiles import bucket
from featureflow_cli.compute.views import Key, Lift, Merge, StateColumn, View
from featureflow_cli.compute.windows import BEGINNING_US, window_start
from featureflow_cli.spec.types import STRING, ColumnType

NEVER_US = -(2**63)
"""The newest event of a state without events."""


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


@dataclass(frozen=True)
class States:
    """The states of `count` entities of one view; `columns` in the order of `view.columns`."""

    count: int
    columns: tuple[Cells, ...]
    texts: Any = field(default_factory=lambda: NO_TEXTS)

    @property
    def newest_us(self) -> Ints:
        """Timestamp of each state's newest event; NEVER_US where it has none."""
        newest = np.full(self.count, NEVER_US, np.int64)
        newest[self.columns[0].state] = self.columns[0].value
        return newest


_NONE = np.empty(0, np.int64)
NO_CELLS = Cells(_NONE, _NONE, _NONE, _NONE)


def empty(view: View, count: int) -> States:
    return States(count, tuple(NO_CELLS for _ in view.columns))


def lift(view: View, events: Events, count: int) -> States:
    """The states of `count` entities after exactly these events; `events.entity` indexes them."""
    coded = [*events.operands, *([events.row] if events.row is not None else [])]
    texts, moved = merge_texts([operand.texts for operand in coded])
    columns = tuple(_lift_column(view, column, events, moved) for column in view.columns)
    with np.errstate(over="ignore", invalid="ignore"):  # a double past its range is null when answered
        return _settle(view, States(count, columns, texts))


def merge(view: View, parts: Sequence[States]) -> States:
    """The states that have seen the events of all `parts`; all parts number the same entities."""
    if len(parts) == 1:
        return parts[0]
    texts, moved = merge_texts([part.texts for part in parts])
    columns = []
    for place, column in enumerate(view.columns):
        cells = [
            with_texts(part.columns[place], column, codes)
            if column.is_text and len(part.texts)
            else part.columns[place]
            for part, codes in zip(parts, moved, strict=True)
        ]
        columns.append(concat(cells))
    with np.errstate(over="ignore", invalid="ignore"):
        return _settle(view, States(parts[0].count, tuple(columns), texts))


def take(view: View, states: States, chosen: Ints) -> States:
    """The states of the entities `chosen` (distinct), renumbered in that order."""
    place = np.full(states.count, -1, np.int64)
    place[chosen] = np.arange(len(chosen))
    columns = []
    for cells in states.columns:
        kept = cells.take(place[cells.state] >= 0)
        renumbered = Cells(place[kept.state], kept.tile, kept.key, kept.value)
        columns.append(renumbered.take(np.argsort(renumbered.state, kind="stable")))
    return States(len(chosen), tuple(columns), states.texts)


# --- lift


def _lift_column(view: View, column: StateColumn, events: Events, moved: list[Ints]) -> Cells:
    rows = np.ones(len(events.ts), np.bool_) if column.mask is None else events.masks[column.mask]
    operand: Coded | None = None
    operand_type: ColumnType | None = None
    if column.operand is not None:
        operand, operand_type = events.operands[column.operand], view.operands[column.operand].type
        codes = moved[column.operand]
    elif column.is_text and events.row is not None:
        operand, operand_type, codes = events.row, STRING, moved[-1]
    if operand is not None:
        rows = rows & operand.valid
    chosen = np.flatnonzero(rows)
    ts = events.ts[chosen]
    if operand is not None:
        operand = operand.take(chosen)
        if column.is_text:
            operand = Coded(codes[operand.codes], operand.valid, operand.texts, operand.words)
    return Cells(
        events.entity[chosen],
        ts if column.is_tiled else np.full(len(chosen), BEGINNING_US, np.int64),
        _keys(column.key, operand, operand_type, ts),
        _values(column, operand, operand_type, ts),
    )


def _keys(key: Key, operand: Coded | None, operand_type: ColumnType | None, ts: Ints) -> Ints:
    if key is Key.TIME:
        return ts
    if key is Key.NONE or operand is None or operand_type is None:
        return np.zeros(len(ts), np.int64)
    if key is Key.CODE:
        return operand.codes
    if key is Key.BUCKET:
        return bucket(numbers(operand, operand_type)).astype(np.int64)
    distinct, index = np.unique(operand.codes, return_inverse=True)
    known = uncode(distinct, np.ones(len(distinct), np.bool_), operand_type, operand.texts)
    return key_hash(known).view(np.int64)[index]


def _values(column: StateColumn, operand: Coded | None, operand_type: ColumnType | None, ts: Ints) -> Ints:
    lift_ = column.lift
    if lift_ is Lift.ONE and column.merge is Merge.DECAY:
        return np.ones(len(ts)).view(np.int64)
    if lift_ is Lift.TIME:
        return ts
    if lift_ is Lift.ZERO:
        return np.zeros(len(ts), np.int64)
    if lift_ is Lift.ONE or operand is None or operand_type is None:
        return np.ones(len(ts), np.int64)
    if lift_ is Lift.CODE:
        return operand.codes
    if lift_ is Lift.DOUBLE:
        return numbers(operand, operand_type).view(np.int64)
    return limbs(operand)[(Lift.LIMB_0, Lift.LIMB_1, Lift.LIMB_2, Lift.LIMB_3).index(lift_)]


# --- settle: coarsen, sort, reduce, drop


def _settle(view: View, states: States) -> States:
    presence = _reduce(view.columns[0], sort(view.columns[0], states.columns[0]), 0)
    newest = States(states.count, (presence,)).newest_us
    columns: list[Cells] = [presence]
    while len(columns) < len(view.columns):
        column, cells = view.columns[len(columns)], states.columns[len(columns)]
        if column.merge is Merge.MOMENTS:
            columns.extend(_moments(view, states, newest, len(columns)))
            continue
        cells = sort(column, _aged(column, cells, newest))
        columns.append(_trim(view, column, _reduce(column, cells, column.k), states.texts))
    return States(states.count, tuple(columns), states.texts)


def moment_of(column: StateColumn, cells: Cells) -> Ints:
    """When each cell lies: its tile, or without tiles the time that it holds as its key or its value."""
    if column.is_tiled:
        return cells.tile
    return cells.key if column.key is Key.TIME else cells.value


def _aged(column: StateColumn, cells: Cells, newest: Ints) -> Cells:
    """Tiles as coarse as the age of the state's newest event allows; what no window can see any more dropped.

    A tile at `s` is still seen by a window if s >= start(newest), for no later read starts earlier. It must
    then be as fine as that window's resolution; `forever` sees all, at no resolution.
    """
    if not len(cells) or not column.horizons:
        return cells
    now = newest[cells.state]
    moment = moment_of(column, cells)
    forever = any(width_us is None for width_us, _ in column.horizons)
    if not column.is_tiled:
        if forever or column.merge is Merge.DECAY:
            return cells
        seen = np.zeros(len(cells), np.bool_)
        for width_us, resolution_us in column.horizons:
            assert width_us is not None
            seen |= moment >= window_start(now, width_us, resolution_us)
        return cells if seen.all() else cells.take(seen)
    tile = np.full(len(cells), BEGINNING_US, np.int64)
    seen = np.full(len(cells), forever)
    for width_us, resolution_us in reversed(
        column.horizons
    ):  # coarsest first: the finest that sees it decides
        if width_us is None:
            continue
        fine = (moment >= window_start(now, width_us, resolution_us)) & (moment != BEGINNING_US)
        tile = np.where(fine, moment // resolution_us * resolution_us, tile)
        seen = seen | fine
    aged = Cells(cells.state, tile, cells.key, cells.value)
    return aged if seen.all() else aged.take(seen)


def sort(column: StateColumn, cells: Cells) -> Cells:
    """By (state, tile, key), and by value where entries of a list may tie."""
    if len(cells) < 2:
        return cells
    major = _composite(cells.state, cells.tile)
    if column.key is Key.NONE and major is not None:
        if (major[1:] >= major[:-1]).all():
            return cells
        return cells.take(np.argsort(major, kind="stable"))
    majors = (cells.tile, cells.state) if major is None else (major,)
    if column.key is Key.NONE:
        return cells.take(np.lexsort(majors))
    key = cells.key.view(np.uint64) if column.key is Key.HASH else cells.key
    minors = (cells.value, key) if column.merge in {Merge.NEWEST, Merge.OLDEST} else (key,)
    return cells.take(np.lexsort((*minors, *majors)))


def _composite(state: Ints, tile: Ints) -> Ints | None:
    """One int64 that orders as (state, tile) does, where the ranges fit."""
    timed = tile != BEGINNING_US
    if not timed.any():
        return state
    low, high = int(tile[timed].min()), int(tile[timed].max())
    unit = int(np.gcd.reduce(tile[timed][:64] - low)) or 1
    if unit > 1 and ((tile[timed] - low) % unit).any():
        unit = 1
    span = (high - low) // unit + 2
    if span * (int(state.max()) + 1) >= 2**62:
        return None
    return state * span + np.where(timed, (tile - low) // unit + 1, 0)


def _starts(cells: Cells, *, by_key: bool) -> Ints:
    """First row of each run of cells of one (state, tile[, key])."""
    if not len(cells):
        return np.empty(0, np.int64)
    fresh = (cells.state[1:] != cells.state[:-1]) | (cells.tile[1:] != cells.tile[:-1])
    if by_key:
        fresh |= cells.key[1:] != cells.key[:-1]
    return np.flatnonzero(np.concatenate([[True], fresh]))


def _reduce(column: StateColumn, cells: Cells, k: int) -> Cells:
    """Sorted cells with equal ones made one, by the column's kind of merge."""
    if column.merge in {Merge.NEWEST, Merge.OLDEST}:
        return _keep_k(column, cells, k)
    if column.merge is Merge.DECAY:
        return _decay(column, cells)
    starts = _starts(cells, by_key=column.key is not Key.NONE)
    if len(starts) == len(cells):
        return cells
    if column.merge is Merge.FSUM:
        value = np.add.reduceat(cells.value.view(np.float64), starts).view(np.int64)
    else:
        ufunc = {Merge.SUM: np.add, Merge.MIN: np.minimum, Merge.MAX: np.maximum}[column.merge]
        value = ufunc.reduceat(cells.value, starts)
    return Cells(cells.state[starts], cells.tile[starts], cells.key[starts], value)


def _keep_k(column: StateColumn, cells: Cells, k: int) -> Cells:
    starts = _starts(cells, by_key=False)
    lengths = np.diff(np.append(starts, len(cells)))
    if not len(lengths) or lengths.max() <= k:
        return cells
    place = np.arange(len(cells)) - np.repeat(starts, lengths)
    if column.merge is Merge.NEWEST:
        place = np.repeat(lengths, lengths) - 1 - place
    return cells.take(place < k)


def _decay(column: StateColumn, cells: Cells) -> Cells:
    """One cell a state: the reference time is its newest event, the sum is scaled to it."""
    starts = _starts(cells, by_key=False)
    if len(starts) == len(cells):
        return cells
    lengths = np.diff(np.append(starts, len(cells)))
    reference = np.maximum.reduceat(cells.key, starts)
    age = np.repeat(reference, lengths) - cells.key
    scaled = cells.value.view(np.float64) * np.exp2(-age / column.half_life_us)
    value = np.add.reduceat(scaled, starts).view(np.int64)
    return Cells(cells.state[starts], cells.tile[starts], reference, value)


def _moments(view: View, states: States, newest: Ints, first: int) -> list[Cells]:
    """The columns n, mean and M2 together, by the pairwise update of Chan, Golub and LeVeque (1979).

    Their cells stand side by side: the same (state, tile) in the same order in all three.
    """
    column = view.columns[first]
    count, mean, squares = states.columns[first : first + 3]
    place = np.arange(len(count))
    order = sort(column, _aged(column, Cells(count.state, count.tile, count.key, place), newest))
    n, m, m2 = (
        count.value[order.value],
        mean.value.view(np.float64)[order.value],
        squares.value.view(np.float64)[order.value],
    )
    starts = _starts(order, by_key=False)
    if len(starts) < len(order):
        lengths = np.diff(np.append(starts, len(order)))
        total = np.add.reduceat(n, starts)
        pivot = np.repeat(m[starts], lengths)
        middle = m[starts] + np.add.reduceat(n * (m - pivot), starts) / total
        spread = np.add.reduceat(m2 + n * (m - np.repeat(middle, lengths)) ** 2, starts)
        n, m, m2 = total, middle, spread
    state, tile, key = order.state[starts], order.tile[starts], np.zeros(len(starts), np.int64)
    return [Cells(state, tile, key, part) for part in (n, m.view(np.int64), m2.view(np.int64))]


# --- max_keys


def _trim(view: View, column: StateColumn, cells: Cells, texts: Any) -> Cells:
    """Drop a key when max_keys + 1 smaller hashes were seen in its tile or later (design.md 1.13)."""
    if not column.max_keys or len(cells) <= column.max_keys + 1:
        return cells
    held = np.bincount(cells.state)
    kept = np.ones(len(cells), np.bool_)
    for state in np.flatnonzero(held > column.max_keys + 1):
        low, high = np.searchsorted(cells.state, [state, state + 1])
        part = cells.take(slice(low, high))
        moment = part.tile if column.is_tiled else part.value
        if column.key is Key.HASH:
            hashes = part.key.view(np.uint64)
        else:
            assert column.operand is not None
            known = uncode(part.key, np.ones(len(part), np.bool_), view.operands[column.operand].type, texts)
            hashes = key_hash(known)
        kept[low:high] = _among_smallest(moment, hashes, column.max_keys + 1)
    return cells if kept.all() else cells.take(kept)


def _among_smallest(moment: Ints, hashes: Any, limit: int) -> Bools:
    """Which cells have fewer than `limit` distinct smaller hashes at their moment or later.

    Walks the moments from the newest back, holding the `limit` smallest distinct hashes seen so far.
    """
    kept = np.zeros(len(moment), np.bool_)
    smallest = np.empty(0, np.uint64)
    order = np.argsort(-moment, kind="stable")
    bounds = np.flatnonzero(np.concatenate([[True], np.diff(moment[order]) != 0, [True]]))
    for start, end in pairwise(bounds.tolist()):
        rows = order[start:end]
        if len(smallest) == limit and hashes[rows].min() > smallest[-1]:
            continue
        smallest = np.unique(np.concatenate([smallest, hashes[rows]]))[:limit]
        kept[rows] = hashes[rows] <= smallest[-1] if len(smallest) == limit else True
    return kept


def with_texts(cells: Cells, column: StateColumn, codes: Ints) -> Cells:
    if column.key is Key.CODE:
        return Cells(cells.state, cells.tile, codes[cells.key], cells.value)
    return Cells(cells.state, cells.tile, cells.key, codes[cells.value])


def concat(parts: Sequence[Cells]) -> Cells:
    filled = [part for part in parts if len(part)]
    if len(filled) == 1:
        return filled[0]
    fields = ("state", "tile", "key", "value")
    return Cells(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))

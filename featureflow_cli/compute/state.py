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

from featureflow_cli.compute.cells import (
    LISTED,
    NO_CELLS,
    Cells,
    concat,
    reduced,
    run_starts,
    sort,
    with_texts,
)
from featureflow_cli.compute.codes import (
    NO_TEXTS,
    Bools,
    Ints,
    merge_texts,
    uncode,
)
from featureflow_cli.compute.events import Events
from featureflow_cli.compute.hashing import key_hash
from featureflow_cli.compute.lifting import lifted
from featureflow_cli.compute.views import Key, Merge, StateColumn, View
from featureflow_cli.compute.windows import BEGINNING_US, window_start

NEVER_US = -(2**63)
"""The newest event of a state without events."""


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


def empty(view: View, count: int) -> States:
    return States(count, tuple(NO_CELLS for _ in view.columns))


def lift(view: View, events: Events, count: int) -> States:
    """The states of `count` entities after exactly these events; `events.entity` indexes them."""
    columns, texts = lifted(view, events)
    with np.errstate(over="ignore", invalid="ignore"):  # a double past its range is null when answered
        return _settle(view, States(count, columns, texts), is_in_order=True)


def merge(view: View, parts: Sequence[States]) -> States:
    """The states that have seen the events of all `parts`; all parts number the same entities."""
    if len(parts) == 1:
        return parts[0]
    texts, moved = merge_texts([part.texts for part in parts])
    columns = [NO_CELLS] * len(view.columns)
    for family in view.families:
        first, *others = (
            [_recoded(view, index, *each) for each in zip(parts, moved, strict=True)] for index in family
        )
        columns[family[0]] = concat(first)
        for index, cells in zip(family[1:], others, strict=True):
            columns[index] = columns[family[0]].beside(np.concatenate([part.value for part in cells]))
    with np.errstate(over="ignore", invalid="ignore"):
        return _settle(view, States(parts[0].count, tuple(columns), texts))


def _recoded(view: View, index: int, part: States, codes: Ints) -> Cells:
    """One column of a part, its texts as codes of the joined table."""
    column, cells = view.columns[index], part.columns[index]
    return with_texts(cells, column, codes) if column.is_text and len(part.texts) else cells


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


# --- settle: coarsen, sort, reduce, drop


def _settle(view: View, states: States, *, is_in_order: bool = False) -> States:
    """`is_in_order`: the cells are by state and tile, so that where there is no key nothing is left to sort."""
    presence, cells = view.columns[0], states.columns[0]
    presences = _reduce(presence, cells if is_in_order else sort(presence, cells), 0)
    newest = States(states.count, (presences,)).newest_us
    columns = [presences] * len(view.columns)
    for family in view.families[1:]:
        is_sorted = is_in_order and view.columns[family[0]].key is Key.NONE
        for index, cells in zip(family, _settle_family(view, family, states, newest, is_sorted), strict=True):
            columns[index] = cells
    return States(states.count, tuple(columns), states.texts)


def _settle_family(
    view: View, family: Sequence[int], states: States, newest: Ints, is_sorted: bool
) -> list[Cells]:
    column, cells = view.columns[family[0]], states.columns[family[0]]
    if len(family) == 1:
        aged = _aged(column, cells, newest)
        cells = _reduce(column, aged if is_sorted else sort(column, aged), column.k)
        kept = _kept(view, column, cells, states.texts)
        return [cells if kept is None else cells.take(kept)]
    ordered = _aged(column, cells.beside(np.arange(len(cells))), newest)
    if not is_sorted:
        ordered = sort(column, ordered)
    values = [states.columns[index].value[ordered.value] for index in family]
    starts = run_starts(ordered, by_key=column.key is not Key.NONE)
    if len(starts) < len(ordered):
        if column.merge is Merge.MOMENTS:
            values = _moments(values, starts)
        else:
            merges = [view.columns[index].merge for index in family]
            values = [reduced(merge, value, starts) for merge, value in zip(merges, values, strict=True)]
        ordered = ordered.take(starts)
    kept = _kept(view, column, ordered, states.texts)
    if kept is not None:
        ordered, values = ordered.take(kept), [value[kept] for value in values]
    return [ordered.beside(value) for value in values]


def moment_of(column: StateColumn, cells: Cells) -> Ints:
    """When each cell lies: its tile, or without tiles the time that it holds as its key or its value."""
    if column.is_tiled:
        return cells.tile
    return cells.key if column.key is Key.TIME else cells.value


def _aged(column: StateColumn, cells: Cells, newest: Ints) -> Cells:
    """Tiles as coarse as the age of the state's newest event allows; what no window can see any more dropped.

    A tile at `s` is still seen by a window if s >= start(newest), for no later read starts earlier. It must
    then be as fine as that window's resolution; `forever` sees all, at no resolution. So later events of a state
    never come into earlier tiles.
    """
    if not len(cells) or not column.horizons:
        return cells
    windows = [(width, resolution) for width, resolution in column.horizons if width is not None]
    sees_all = len(windows) < len(column.horizons)
    if column.is_tiled:
        return _coarsened(cells, newest, windows, sees_all=sees_all)
    if sees_all or column.merge is Merge.DECAY:
        return cells
    now, moment = newest[cells.state], moment_of(column, cells)
    seen = np.logical_or.reduce([moment >= window_start(now, *window) for window in windows])
    return cells if seen.all() else cells.take(seen)


def _coarsened(cells: Cells, newest: Ints, windows: Sequence[tuple[int, int]], *, sees_all: bool) -> Cells:
    """`windows`, finest first: the first one that sees a tile decides."""
    tile = np.full(len(cells), BEGINNING_US, np.int64)
    left, moment, state = np.arange(len(cells)), cells.tile, cells.state
    for width_us, resolution_us in windows:
        start = window_start(newest, width_us, resolution_us)
        fine = (moment >= start[state]) & (moment != BEGINNING_US)
        if fine.all():
            tile[left] = moment // resolution_us * resolution_us
            left = left[:0]
            break
        tile[left[fine]] = moment[fine] // resolution_us * resolution_us
        left, moment, state = (each[~fine] for each in (left, moment, state))
    coarse = Cells(cells.state, tile, cells.key, cells.value)
    if sees_all or not len(left):
        return coarse
    seen = np.ones(len(cells), np.bool_)
    seen[left] = False
    return coarse.take(seen)


def _reduce(column: StateColumn, cells: Cells, k: int) -> Cells:
    """Sorted cells with equal ones made one, by the column's kind of merge."""
    if column.merge in LISTED:
        return _keep_k(column, cells, k)
    if column.merge is Merge.DECAY:
        return _decay(column, cells)
    starts = run_starts(cells, by_key=column.key is not Key.NONE)
    if len(starts) == len(cells):
        return cells
    value = reduced(column.merge, cells.value, starts)
    return Cells(cells.state[starts], cells.tile[starts], cells.key[starts], value)


def _keep_k(column: StateColumn, cells: Cells, k: int) -> Cells:
    starts = run_starts(cells, by_key=False)
    lengths = np.diff(np.append(starts, len(cells)))
    if not len(lengths) or lengths.max() <= k:
        return cells
    place = np.arange(len(cells)) - np.repeat(starts, lengths)
    if column.merge is Merge.NEWEST:
        place = np.repeat(lengths, lengths) - 1 - place
    return cells.take(place < k)


def _decay(column: StateColumn, cells: Cells) -> Cells:
    """One cell a state: the reference time is its newest event, the sum is scaled to it."""
    starts = run_starts(cells, by_key=False)
    if len(starts) == len(cells):
        return cells
    lengths = np.diff(np.append(starts, len(cells)))
    reference = np.maximum.reduceat(cells.key, starts)
    age = np.repeat(reference, lengths) - cells.key
    scaled = cells.value.view(np.float64) * np.exp2(-age / column.half_life_us)
    value = np.add.reduceat(scaled, starts).view(np.int64)
    return Cells(cells.state[starts], cells.tile[starts], reference, value)


def _moments(values: list[Ints], starts: Ints) -> list[Ints]:
    """n, mean and M2 of each run, by the pairwise update of Chan, Golub and LeVeque (1979)."""
    n, m, m2 = values[0], values[1].view(np.float64), values[2].view(np.float64)
    lengths = np.diff(np.append(starts, len(n)))
    total = np.add.reduceat(n, starts)
    middle = m[starts] + np.add.reduceat(n * (m - np.repeat(m[starts], lengths)), starts) / total
    spread = np.add.reduceat(m2 + n * (m - np.repeat(middle, lengths)) ** 2, starts)
    return [total, middle.view(np.int64), spread.view(np.int64)]


# --- max_keys


def _kept(view: View, column: StateColumn, cells: Cells, texts: Any) -> Bools | None:
    """All but keys of which max_keys + 1 smaller hashes were seen in their tile or later (design.md 1.13).

    None: all.
    """
    if not column.max_keys or len(cells) <= column.max_keys + 1:
        return None
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
    return None if kept.all() else kept


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

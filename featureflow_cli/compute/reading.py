"""Evaluate states at a moment: the online read, `value(events, T)` from what was kept of the events.

Valid for T past the state's newest event (an online read's `as_of` is raised to that, design.md 1.4): every
window then ends behind the newest event, and covers the tiles from its start on. A rank alone looks at an
earlier end, the grid point before T; its tiles are kept fine enough to be cut there.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featureflow_cli.compute.answering import Answer, answer, nulls
from featureflow_cli.compute.cells import Cells
from featureflow_cli.compute.codes import Bools, Ints
from featureflow_cli.compute.partials import Keyed, Listed, Partials, Scalars
from featureflow_cli.compute.ranking import Populations, rank
from featureflow_cli.compute.state import NEVER_US, States, moment_of
from featureflow_cli.compute.views import Feature, Key, Merge, StateColumn, View
from featureflow_cli.compute.windows import Window, grid_point


@dataclass(frozen=True)
class Read:
    """Answers of one view, one row a state; `present` is the law's, `newest_us` NEVER_US where nothing is held."""

    answers: dict[str, Answer]
    present: Bools
    newest_us: Ints


def read(
    view: View, states: States, as_of_us: Ints, populations: Populations, only: frozenset[str] | None = None
) -> Read:
    """Evaluate all features (or those in `only`) of `states` at `as_of_us`, one moment a state."""
    newest = states.newest_us
    present = is_present(view, newest, as_of_us)
    if view.latest:
        return _read_latest(view, states, present, newest)
    starts = {(each.width_us, each.resolution_us): _starts(each, as_of_us) for each in view.windows}
    answers = {}
    for feature in view.features:
        if only is not None and feature.name not in only:
            continue
        if feature.aggregation == "rank":
            answers[feature.name] = _read_rank(view, feature, states, as_of_us, present, populations)
        else:
            start = starts[feature.window.width_us, feature.window.resolution_us]
            sides = partials(view, feature, states, start)
            answers[feature.name] = answer(view, feature, sides, as_of_us, present, states.texts)
    return Read(answers, present, newest)


def is_present(view: View, newest_us: Ints, t_us: Ints) -> Bools:
    """Whether an event lies in clause 10's interval before `t_us`, by the newest event before it."""
    known: Bools = newest_us != NEVER_US
    if not view.presence:
        return known
    start: Ints = np.minimum.reduce([_starts(window, t_us) for window in view.presence])
    return known & (newest_us >= start)


def window_starts(feature: Feature, t_us: Ints) -> Ints:
    return _starts(feature.window, t_us)


def _starts(window: Window, t_us: Ints) -> Ints:
    start = window.start(t_us)
    return np.full(len(t_us), start, np.int64) if isinstance(start, int) else start


def partials(
    view: View, feature: Feature, states: States, start_us: Ints, end_us: Ints | None = None
) -> list[Partials]:
    """The partials of each side of `feature` over [start, end) of each state; no end: all there is."""
    return [
        _side([view.columns[place] for place in side.columns], [states.columns[place] for place in side.columns],
              states.count, start_us, end_us)
        for side in feature.sides
    ]  # fmt: skip


def _side(
    columns: list[StateColumn], cells: list[Cells], count: int, start_us: Ints, end_us: Ints | None
) -> Partials:
    first = columns[0]
    seen = [_seen(column, some, start_us, end_us) for column, some in zip(columns, cells, strict=True)]
    if first.merge is Merge.NEWEST or first.merge is Merge.OLDEST:
        return _listed(first, seen[0])
    if first.merge is Merge.DECAY:
        return Keyed(seen[0].state, seen[0].key, (seen[0].value,))
    if first.key is not Key.NONE:
        return _keyed(columns, seen)
    if first.merge is Merge.MOMENTS:
        return _moments(seen, count)
    return [_scalars(column, some, count) for column, some in zip(columns, seen, strict=True)]


def _seen(column: StateColumn, cells: Cells, start_us: Ints, end_us: Ints | None) -> Cells:
    """The cells that lie in [start, end) of their state."""
    if not len(cells) or column.merge is Merge.DECAY:
        return cells
    moment = moment_of(column, cells)
    inside = moment >= start_us[cells.state]
    if end_us is not None:
        inside &= moment < end_us[cells.state]
    return cells if inside.all() else cells.take(inside)


def _runs(major: Ints, minor: Ints | None = None) -> Ints:
    fresh = major[1:] != major[:-1]
    if minor is not None:
        fresh = fresh | (minor[1:] != minor[:-1])
    return np.flatnonzero(np.concatenate([[True], fresh])) if len(major) else np.empty(0, np.int64)


def _scalars(column: StateColumn, cells: Cells, count: int) -> Scalars:
    value, held = np.zeros(count, np.int64), np.zeros(count, np.bool_)
    if len(cells):
        starts = _runs(cells.state) if count > 1 else _FIRST
        owner = cells.state[starts]
        held[owner] = True
        value[owner] = _reduced(column.merge, cells.value, starts)
    return Scalars(value, held)


_FIRST = np.zeros(1, np.int64)


def _reduced(merge: Merge, value: Ints, starts: Ints) -> Ints:
    if merge is Merge.FSUM:
        return np.add.reduceat(value.view(np.float64), starts).view(np.int64)
    ufunc = np.add if merge is Merge.SUM else np.minimum if merge is Merge.MIN else np.maximum
    return np.asarray(ufunc.reduceat(value, starts), np.int64)


def _moments(seen: list[Cells], count: int) -> Partials:
    n = seen[0].value
    mean, squares = seen[1].value.view(np.float64), seen[2].value.view(np.float64)
    starts = _runs(seen[0].state)
    owner = seen[0].state[starts]
    lengths = np.diff(np.append(starts, len(n)))
    held = np.zeros(count, np.bool_)
    held[owner] = True
    out = [np.zeros(count, np.int64) for _ in range(3)]
    if len(starts):
        total = np.add.reduceat(n, starts)
        first = mean[starts]
        middle = first + np.add.reduceat(n * (mean - np.repeat(first, lengths)), starts) / total
        spread = np.add.reduceat(squares + n * (mean - np.repeat(middle, lengths)) ** 2, starts)
        for place, part in enumerate((total, middle.view(np.int64), spread.view(np.int64))):
            out[place][owner] = part
    return [Scalars(part, held) for part in out]


def _keyed(columns: list[StateColumn], seen: list[Cells]) -> Keyed:
    """One entry a (state, key), keys of hashes in their unsigned order."""
    key = seen[0].key.view(np.uint64) if columns[0].key is Key.HASH else seen[0].key
    order = np.lexsort((key, seen[0].state))
    state, keys = seen[0].state[order], seen[0].key[order]
    starts = _runs(state, keys)
    if not len(starts):
        return Keyed(state, keys, tuple(cells.value for cells in seen))
    values = tuple(
        _reduced(column.merge, cells.value[order], starts)
        for column, cells in zip(columns, seen, strict=True)
    )
    return Keyed(state[starts], keys[starts], values)


def _listed(column: StateColumn, cells: Cells) -> Listed:
    """The first k by (time, value), newest or oldest first."""
    sign = -1 if column.merge is Merge.NEWEST else 1
    order = np.lexsort((sign * cells.value, sign * cells.key, cells.state))
    state = cells.state[order]
    starts = _runs(state)
    lengths = np.diff(np.append(starts, len(state)))
    place = np.arange(len(state)) - np.repeat(starts, lengths)
    kept = order[place < column.k]
    return Listed(cells.state[kept], cells.key[kept], cells.value[kept])


def _read_rank(
    view: View, feature: Feature, states: States, as_of_us: Ints, present: Bools, populations: Populations
) -> Answer:
    """Numerator and population at the grid point of each state's moment (design.md 1.14)."""
    grid = grid_point(as_of_us, feature.refresh_us)
    sides = partials(view, feature, states, window_starts(feature, grid), grid)
    return rank(view, feature, sides, grid, present, populations, states.texts)


def _read_latest(view: View, states: States, present: Bools, newest: Ints) -> Read:
    """The columns of the newest row; an entity whose newest row is a deletion is not present."""
    from featureflow_cli.compute.rowtext import columns_of_rows

    cells = states.columns[1]
    rows = np.full(states.count, -1, np.int64)
    rows[cells.state] = cells.value
    texts = (
        states.texts.take(pa.array(rows, mask=rows < 0))
        if len(states.texts)
        else pa.nulls(states.count, pa.string())
    )
    columns, deleted = columns_of_rows(view, texts)
    present = present & ~deleted
    answers = {
        name: Answer(
            pc.if_else(pa.array(present), column, pa.scalar(None, column.type))
            if present.any()
            else nulls(states.count, column_type)
        )
        for (name, column_type), column in zip(view.latest, columns, strict=True)
    }
    return Read(answers, present, newest)

"""What events add to the columns of a state: one cell an event and column, before any of them merge."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featureflow_cli.compute.cells import NO_CELLS, Cells, by_state_and_time
from featureflow_cli.compute.codes import Coded, Ints, limbs, merge_texts, numbers, ranked, uncode
from featureflow_cli.compute.events import Events
from featureflow_cli.compute.hashing import hash_each
from featureflow_cli.compute.percentiles import bucket
from featureflow_cli.compute.views import Key, Lift, Merge, StateColumn, View
from featureflow_cli.compute.windows import BEGINNING_US
from featureflow_cli.spec.types import STRING, ColumnType

_LIMBS = (Lift.LIMB_0, Lift.LIMB_1, Lift.LIMB_2, Lift.LIMB_3)


def lifted(view: View, events: Events) -> tuple[tuple[Cells, ...], Any]:
    """(the cells of each column, by state and time; the texts that their codes mean)."""
    order = by_state_and_time(events.entity, events.ts)
    if order is not None:
        events = events.take(order)
    coded = [*events.operands, *([events.row] if events.row is not None else [])]
    texts, moved = merge_texts([operand.texts for operand in coded])
    columns = [NO_CELLS] * len(view.columns)
    adding: dict[tuple[int | None, int | None, bool], _Adding] = {}
    for family in view.families:
        column = view.columns[family[0]]
        taken = (column.mask, column.operand, column.is_text)
        if taken not in adding:
            adding[taken] = _adding(view, column, events, moved)
        for index, cells in zip(family, _cells(view, family, adding[taken]), strict=True):
            columns[index] = cells
    return tuple(columns), texts


@dataclass(frozen=True)
class _Adding:
    """The events that add something to a column, by entity and time; what they add, where it has an operand."""

    entity: Ints
    ts: Ints
    operand: Coded | None
    type: ColumnType | None


def _adding(view: View, column: StateColumn, events: Events, moved: list[Ints]) -> _Adding:
    """Those that its mask and its operand let through; a text's codes are those of the state's texts."""
    operand: Coded | None = None
    operand_type: ColumnType | None = None
    if column.operand is not None:
        operand, operand_type = events.operands[column.operand], view.operands[column.operand].type
        codes = moved[column.operand]
    elif column.is_text and events.row is not None:
        operand, operand_type, codes = events.row, STRING, moved[-1]
    masks = [] if column.mask is None else [events.masks[column.mask]]
    if operand is not None:
        masks.append(operand.valid)
    rows = np.logical_and.reduce(masks) if masks else True
    chosen = slice(None) if np.all(rows) else np.flatnonzero(rows)
    if operand is not None:
        operand = operand.take(chosen)
        if column.is_text:
            operand = Coded(codes[operand.codes], operand.valid, operand.texts, operand.words)
    return _Adding(events.entity[chosen], events.ts[chosen], operand, operand_type)


def _cells(view: View, family: Sequence[int], adding: _Adding) -> list[Cells]:
    """What the events add to columns that stand side by side."""
    column, ts = view.columns[family[0]], adding.ts
    tile = ts if column.is_tiled else np.full(len(ts), BEGINNING_US, np.int64)
    first = Cells(adding.entity, tile, _keys(column.key, adding), ts)
    return [first.beside(_values(view.columns[index], adding)) for index in family]


def _keys(key: Key, adding: _Adding) -> Ints:
    operand = adding.operand
    if key is Key.TIME:
        return adding.ts
    if key is Key.NONE or operand is None or adding.type is None:
        return np.zeros(len(adding.ts), np.int64)
    if key is Key.CODE:
        return operand.codes
    if key is Key.BUCKET:
        return bucket(numbers(operand, adding.type)).astype(np.int64)
    distinct, index = ranked(operand.codes)
    known = uncode(distinct, np.ones(len(distinct), np.bool_), adding.type, operand.texts)
    return hash_each(known).view(np.int64)[index]


def _values(column: StateColumn, adding: _Adding) -> Ints:
    lift_, operand, count = column.lift, adding.operand, len(adding.ts)
    if lift_ is Lift.ONE and column.merge is Merge.DECAY:
        return np.ones(count).view(np.int64)
    if lift_ is Lift.TIME:
        return adding.ts
    if lift_ is Lift.ZERO:
        return np.zeros(count, np.int64)
    if lift_ is Lift.ONE or operand is None or adding.type is None:
        return np.ones(count, np.int64)
    if lift_ is Lift.CODE:
        return operand.codes
    if lift_ is Lift.DOUBLE:
        return numbers(operand, adding.type).view(np.int64)
    return limbs(operand)[_LIMBS.index(lift_)]

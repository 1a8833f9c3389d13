"""What views see of a batch as it lies there: `projection_sql` by arrays, for all views of a source at once.

Each mask, operand and key is made once, however many views ask for it, and the events of an entity are put in order
once. That a view sees what its own `projection_sql` selects is a law (tests/laws/test_projecting.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featureflow_cli.compute.arrays import array, is_plain
from featureflow_cli.compute.cells import by_state_and_time
from featureflow_cli.compute.codes import Bools, Coded, Ints, code
from featureflow_cli.compute.events import Events, numbered
from featureflow_cli.compute.hashing import MAX_TEXT_BYTES
from featureflow_cli.compute.rowtext import state_texts
from featureflow_cli.compute.views import View
from featureflow_cli.spec.expressions import Expr
from featureflow_cli.spec.types import STRING


@dataclass(frozen=True)
class Projected:
    """The events that a view sees, by entity and time, and where each comes from."""

    events: Events
    partitions: Ints
    offsets: Ints


def beyond_arrays(views: Sequence[View]) -> list[Expr]:
    """The distinct expressions of the views that arrays do not answer."""
    asked = (expr for view in views for expr in (view.where, *view.masks, *view.operands, view.deleted))
    return [expr for expr in dict.fromkeys(asked) if expr is not None and not is_plain(expr)]


class Columns:
    """What views ask of a table of their source's rows (with `_partition` and `_offset`), each answer made once.

    `answered` holds the values of `beyond_arrays(views)`: an Arrow array each, row by row.
    """

    def __init__(self, table: pa.Table, answered: Mapping[Expr, Any]) -> None:
        self.count = table.num_rows
        self._table = table
        self._answered = answered
        self._columns: dict[str, Any] = {}
        self._integers: dict[str, Ints] = {}
        self._masks: dict[Expr, Bools] = {}
        self._operands: dict[Expr, Coded] = {}

    def column(self, name: str) -> Any:
        """The Arrow array of one of the table's columns."""
        if name not in self._columns:
            column = self._table.column(name)
            self._columns[name] = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        return self._columns[name]

    def integers(self, name: str) -> Ints:
        """A column without nulls; of timestamps the microseconds."""
        if name not in self._integers:
            self._integers[name] = self.column(name).cast(pa.int64()).to_numpy()
        return self._integers[name]

    def mask(self, expr: Expr) -> Bools:
        """Where it is true: a null condition is false (design.md 1.8)."""
        if expr not in self._masks:
            known = pc.fill_null(self._values(expr), False)
            self._masks[expr] = np.asarray(known.to_numpy(zero_copy_only=False), np.bool_)
        return self._masks[expr]

    def operand(self, expr: Expr) -> Coded:
        """Its codes; to an aggregation NaN, infinity and a text over 1,024 bytes are null."""
        if expr not in self._operands:
            values = self._values(expr)
            self._operands[expr] = code(_kept(values) if expr.type == STRING else values, expr.type)
        return self._operands[expr]

    def _values(self, expr: Expr) -> Any:
        values = self._answered.get(expr)
        return array(expr, self.column, self.count) if values is None else values

    def seen(self, view: View) -> Bools:
        """The rows of which the view has an event: its `where` is true, and no join key is null."""
        seen = np.ones(self.count, np.bool_) if view.where is None else self.mask(view.where)
        for key in view.join_keys:
            column = self.column(key.column)
            if column.null_count:
                seen = seen & column.is_valid().to_numpy(zero_copy_only=False)
        return seen

    def whole(self, view: View, rows: Ints) -> Coded:
        """What a latest view keeps of these rows."""
        places = pa.array(rows)
        kept = {f"l{place}": self.column(name).take(places) for place, (name, _) in enumerate(view.latest)}
        made, gone = view.source.created_timestamp, view.deleted
        kept["created"] = (
            self.column(made).cast(pa.int64()).take(places) if made else pa.nulls(len(rows), pa.int64())
        )
        kept["deleted"] = pa.array(np.zeros(len(rows), np.bool_) if gone is None else self.mask(gone)[rows])
        return code(state_texts(view, pa.table(kept)), STRING)


def project(columns: Columns, views: Sequence[View]) -> tuple[list[Projected], list[str]]:
    """What each of the views, all of one entity, sees; and the ids of the entities, which are numbered together."""
    seen = [columns.seen(view) for view in views]
    alike: dict[tuple[str, ...], list[int]] = {}  # views that read keys and time from the same columns
    for place, view in enumerate(views):
        read = (view.source.timestamp_field, *(key.column for key in view.join_keys))
        alike.setdefault(read, []).append(place)
    rows = [np.flatnonzero(np.logical_or.reduce([seen[at] for at in places])) for places in alike.values()]
    keys = [
        [_taken(columns.column(name), some) for name in names]
        for (_, *names), some in zip(alike, rows, strict=True)
    ]
    entities, ids = numbered(keys, [key.type for key in views[0].join_keys])
    found: dict[int, Projected] = {}
    for (timestamp, *_), places, some, entity in zip(alike, alike.values(), rows, entities, strict=True):
        ts = columns.integers(timestamp)[some]
        order = by_state_and_time(entity, ts)
        everything = (some, entity, ts) if order is None else (some[order], entity[order], ts[order])
        for place in places:
            mine = seen[place][everything[0]]
            chosen = slice(None) if mine.all() else np.flatnonzero(mine)
            found[place] = _projected(columns, views[place], *(column[chosen] for column in everything))
    return [found[place] for place in range(len(views))], ids


def _projected(columns: Columns, view: View, rows: Ints, entity: Ints, ts: Ints) -> Projected:
    masks = tuple(columns.mask(mask)[rows] for mask in view.masks)
    operands = tuple(columns.operand(operand).take(rows) for operand in view.operands)
    events = Events(entity, ts, masks, operands, columns.whole(view, rows) if view.latest else None)
    return Projected(events, columns.integers("_partition")[rows], columns.integers("_offset")[rows])


def _taken(column: Any, rows: Ints) -> Any:
    return column if len(rows) == len(column) else column.take(pa.array(rows))


def _kept(texts: Any) -> Any:
    """Texts over 1,024 bytes as null."""
    lengths = pc.binary_length(texts)
    if (pc.max(lengths).as_py() or 0) <= MAX_TEXT_BYTES:
        return texts
    return pc.if_else(pc.less_equal(lengths, MAX_TEXT_BYTES), texts, None)

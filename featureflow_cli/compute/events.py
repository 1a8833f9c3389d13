"""Projected events: what a view sees of a batch of its source's rows, columnar."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featureflow_cli.compute.codes import Bools, Coded, Ints, code
from featureflow_cli.compute.entities import dense, entity_ids
from featureflow_cli.compute.rowtext import state_texts
from featureflow_cli.compute.views import View
from featureflow_cli.spec.types import STRING, ColumnType


@dataclass(frozen=True)
class Events:
    """One row an event: `entity` indexes the batch's entities; masks are never null; operands as codes.

    A latest view has one column more, `row`: what its state keeps of the whole row (compute/rowtext.py).
    """

    entity: Ints
    ts: Ints
    masks: tuple[Bools, ...]
    operands: tuple[Coded, ...]
    row: Coded | None = None

    def take(self, rows: Ints | Bools | slice) -> "Events":
        return Events(
            self.entity[rows],
            self.ts[rows],
            tuple(mask[rows] for mask in self.masks),
            tuple(operand.take(rows) for operand in self.operands),
            None if self.row is None else self.row.take(rows),
        )


def from_projection(view: View, projected: Any) -> tuple[Events, list[str]]:
    """Events and their entities' ids, from an Arrow table that `projection_sql(view, …)` yielded."""
    keys = [projected.column(f"k{place}") for place in range(len(view.join_keys))]
    (entity,), ids = numbered([keys], [key.type for key in view.join_keys])
    return columns_of(view, projected, entity), ids


def numbered(parts: Sequence[Sequence[Any]], types: list[ColumnType]) -> tuple[list[Ints], list[str]]:
    """(the entity of each row of each part, the entities' ids); a part is its rows' join keys, an Arrow array each."""
    counts = [len(keys[0]) for keys in parts]
    if not any(counts):
        return [np.empty(0, np.int64) for _ in parts], []
    together = [_joined(columns) for columns in zip(*parts, strict=True)]
    entity, keys = dense(together, types)
    return np.split(entity, np.cumsum(counts)[:-1]), entity_ids(keys)


def _joined(columns: Sequence[Any]) -> Any:
    if len(columns) == 1:
        return columns[0]
    return pa.concat_arrays([chunk for column in columns for chunk in getattr(column, "chunks", [column])])


def columns_of(view: View, projected: Any, entity: Ints) -> Events:
    """Events from a projection whose rows' entities are numbered already."""
    masks = tuple(
        np.asarray(pc.fill_null(projected.column(f"m{place}"), False).to_numpy(), np.bool_)
        for place in range(len(view.masks))
    )
    operands = tuple(
        code(projected.column(f"x{place}"), operand.type) for place, operand in enumerate(view.operands)
    )
    row = code(state_texts(view, projected), STRING) if view.latest else None
    return Events(entity, np.asarray(projected.column("ts").to_numpy(), np.int64), masks, operands, row)

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
from featureflow_cli.spec.types import STRING


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
    (entity,), ids = numbered([(view, projected)])
    return columns_of(view, projected, entity), ids


def numbered(projections: Sequence[tuple[View, Any]]) -> tuple[list[Ints], list[str]]:
    """(the entity of each row of each projection, the entities' ids): views of one entity, numbered together."""
    types = [key.type for key in projections[0][0].join_keys]
    several = [[rows.column(f"k{place}") for place in range(len(types))] for _, rows in projections]
    distinct = [
        keys for at, keys in enumerate(several) if keys not in several[:at]
    ]  # often they see the same rows
    counts = [len(keys[0]) for keys in distinct]
    if not any(counts):
        return [np.empty(0, np.int64) for _ in projections], []
    together = [
        pa.chunked_array([chunk for column in columns for chunk in column.chunks])
        for columns in zip(*distinct, strict=True)
    ]
    entity, keys = dense(together, types)
    parts = np.split(entity, np.cumsum(counts)[:-1])
    return [parts[distinct.index(keys_)] for keys_ in several], entity_ids(keys)


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

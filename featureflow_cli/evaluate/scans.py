"""One scan for the views that see the same events: read, projected and sorted by DuckDB, as one timeline.

Where the events of the entities asked for do not fit into the engine's memory limit, they come in parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from featureflow_cli.compute.codes import Ints
from featureflow_cli.compute.entities import dense
from featureflow_cli.compute.events import columns_of
from featureflow_cli.compute.sql import projection_sql
from featureflow_cli.compute.timelines import Timeline
from featureflow_cli.compute.views import ServiceView, Side, View
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.spec.expressions import Expr

_BYTES_A_VALUE = 24
"""What one projected value costs while it is read, sorted and searched."""
_PART_OF_MEMORY = 4
"""A part's events may take this fraction of the engine's memory limit."""


def together(members: Sequence[ServiceView]) -> list[list[ServiceView]]:
    """Members that see the same events by the same keys of the labels; each latest view by itself."""
    groups: dict[object, list[ServiceView]] = {}
    for member in members:
        view = member.view
        columns = tuple((key.column, member.join_keys.get(key.name, key.name)) for key in view.join_keys)
        apart = member.alias if view.latest else ""
        groups.setdefault((view.source.name, columns, view.where, apart), []).append(member)
    return list(groups.values())


def on_common_columns(views: Sequence[View]) -> list[View]:
    """The views with their masks and operands numbered alike, so that one projection serves all of them."""
    masks = tuple(dict.fromkeys(mask for view in views for mask in view.masks))
    operands = tuple(dict.fromkeys(operand for view in views for operand in view.operands))
    return [_renumbered(view, masks, operands) for view in views]


def _renumbered(view: View, masks: tuple[Expr, ...], operands: tuple[Expr, ...]) -> View:
    def side(own: Side) -> Side:
        return replace(
            own,
            mask=None if own.mask is None else masks.index(view.masks[own.mask]),
            operand=None if own.operand is None else operands.index(view.operands[own.operand]),
        )

    features = tuple(replace(each, sides=tuple(side(own) for own in each.sides)) for each in view.features)
    return replace(view, masks=masks, operands=operands, features=features, columns=())


@dataclass(frozen=True)
class Scan:
    """The events of `relation` that `views` (on common columns) see and that any row at `t_us` can depend on."""

    engine: Engine
    relation: str
    views: Sequence[View]
    t_us: Ints
    memory_bytes: int

    def parts(self) -> int:
        """How many parts of the entities have events that fit into memory, each."""
        (count,) = self.engine.row(f"SELECT count(*) FROM {self.relation}")
        view = self.views[0]
        width = 2 + len(view.masks) + len(view.operands) + len(view.latest)
        return max(1, int(count) * width * _BYTES_A_VALUE * _PART_OF_MEMORY // self.memory_bytes)

    def of_entities(self, distinct: Sequence[Any], part: tuple[int, int]) -> Timeline:
        """The events of the entities whose keys are `distinct`: number n is in part n % of."""
        number, of = part
        names = [f"k{place}" for place in range(len(distinct))]
        wanted = pa.table([*distinct, pa.array(np.arange(len(distinct[0])))], [*names, "entity"])
        self.engine.register("wanted", wanted)
        joined = " AND ".join(f"p.{name} = w.{name}" for name in names)
        chosen = f"WHERE w.entity % {of} = {number}" if of > 1 else ""
        projected = self.engine.table(
            f"SELECT w.entity AS entity, p.* EXCLUDE ({', '.join(names)}) FROM {self._projection()} p "
            f"JOIN wanted w ON {joined} {chosen} ORDER BY entity, ts"
        )
        self.engine.unregister("wanted")
        entity = projected.column("entity").to_numpy().astype(np.int64)
        return Timeline(columns_of(self.views[0], projected, entity))

    def of_everyone(self, distinct: Sequence[Any], entity: Ints) -> tuple[Timeline, Ints]:
        """The events of all entities, and the asked entities in their numbering: what a rank needs."""
        view = self.views[0]
        projected = self.engine.table(f"SELECT * FROM {self._projection()}")
        keys = [projected.column(f"k{place}").combine_chunks() for place in range(len(distinct))]
        both = [
            pa.concat_arrays([own.cast(asked.type), asked]) for own, asked in zip(keys, distinct, strict=True)
        ]
        numbers, _ = dense(both, [key.type for key in view.join_keys])
        of_events, of_asked = numbers[: len(projected)], numbers[len(projected) :]
        everyone = np.where(entity >= 0, of_asked[np.maximum(entity, 0)] if len(of_asked) else -1, -1)
        return Timeline(columns_of(view, projected, of_events)), everyone

    def _projection(self) -> str:
        projection = projection_sql(self.views[0], self.relation)
        return f"(SELECT * FROM ({projection}) WHERE {self._bounds()})"

    def _bounds(self) -> str:
        """Which events can matter to any row."""
        if not len(self.t_us):
            return "false"
        last, first = int(self.t_us.max()), int(self.t_us.min())
        starts = [_first_seen(view, first) for view in self.views]
        if None in starts:
            return f"ts < {last}"
        return f"ts < {last} AND ts >= {min(start for start in starts if start is not None)}"


def _first_seen(view: View, t_us: int) -> int | None:
    """Where presence, windows and populations of a read at `t_us` begin; None: at the first event of all."""
    t_us -= max((feature.refresh_us for feature in view.features), default=0)
    return min((window.start(t_us) for window in view.presence), default=None)

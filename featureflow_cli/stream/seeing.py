"""What each view sees of a batch of rows: the projections of design.md 3, run over the batch as it lies there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featureflow_cli.compute.projecting import Columns, beyond_arrays, project
from featureflow_cli.compute.sql import values_sql
from featureflow_cli.compute.views import Source
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.evaluate.keeping import Kept
from featureflow_cli.spec.expressions import Expr
from featureflow_cli.stream.merging import Seen

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = "batch"


@dataclass(frozen=True)
class Sight:
    """What the views see; `ranked`: views with ranks, and their oldest event, for populations end there."""

    seen: tuple[Seen, ...]
    ranked: tuple[tuple[Kept, int], ...]


def see(engine: Engine, rows: "pa.Table", members: Sequence[Kept]) -> Sight:
    """Project `rows` (the log's schema, of the one source of all `members`) for each view."""
    kept = _from_until(members[0].view.source, rows)
    views = [member.view for member in members]
    columns = Columns(kept, _answered(engine, kept, beyond_arrays(views)))
    found: dict[int, Seen] = {}
    for entity in dict.fromkeys(view.entity for view in views):
        mine = [place for place, view in enumerate(views) if view.entity == entity]
        projected, ids = project(columns, [views[place] for place in mine])
        for place, each in zip(mine, projected, strict=True):
            found[place] = Seen(members[place], each.events, ids, each.partitions, each.offsets)
    seen = tuple(found[place] for place in range(len(members)))
    ranked = tuple(
        (view.kept, int(view.events.ts.min()))
        for view in seen
        if len(view.offsets) and any(feature.aggregation == "rank" for feature in view.kept.view.features)
    )
    return Sight(seen, ranked)


def _from_until(source: Source, rows: "pa.Table") -> "pa.Table":
    """The rows that count: for the time before, `batch` answers (design.md 4, Bootstrap)."""
    if source.until_us is None:
        return rows
    import pyarrow as pa
    import pyarrow.compute as pc

    moments = rows.column(source.timestamp_field).cast(pa.int64())
    return rows.filter(pc.greater_equal(moments, source.until_us))


def _answered(engine: Engine, rows: "pa.Table", expressions: Sequence[Expr]) -> dict[Expr, Any]:
    """The values of the expressions, by one query over the columns that they read."""
    if not expressions:
        return {}
    read = frozenset[str]().union(*(expr.columns for expr in expressions))
    engine.register(_BATCH, rows.select(sorted(read)))
    try:
        answers = engine.table(values_sql(expressions, _BATCH))
    finally:
        engine.unregister(_BATCH)
    return dict(zip(expressions, (column.combine_chunks() for column in answers.columns), strict=True))

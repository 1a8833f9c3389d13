"""What each view sees of a batch of rows: the projections of design.md 3, run over the batch as it lies there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featureflow_cli.compute.events import columns_of, numbered
from featureflow_cli.compute.sql import projection_sql
from featureflow_cli.compute.sql_text import quoted
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.evaluate.keeping import Kept
from featureflow_cli.stream.merging import Seen

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = "batch"


@dataclass(frozen=True)
class Sight:
    """What the views see; `ranked`: views with ranks, and their oldest event, for populations end there.

    `before_until` rows are skipped: `batch` answers for their time (design.md 4, Bootstrap).
    """

    seen: tuple[Seen, ...]
    ranked: tuple[tuple[Kept, int], ...]
    before_until: int


def see(engine: Engine, rows: "pa.Table", members: Sequence[Kept]) -> Sight:
    """Project `rows` (the log's schema, of the one source of all `members`) for each view."""
    source = members[0].view.source
    relation, before = _BATCH, 0
    engine.register(_BATCH, rows)
    try:
        if source.until_us is not None:
            moment = f"epoch_us({quoted(source.timestamp_field)})"
            (before,) = engine.row(f"SELECT count(*) FROM {_BATCH} WHERE {moment} < {source.until_us}")
            relation = f"(SELECT * FROM {_BATCH} WHERE {moment} >= {source.until_us})"
        projected = [engine.table(projection_sql(kept.view, relation, positions=True)) for kept in members]
    finally:
        engine.unregister(_BATCH)
    seen = _seen(members, projected)
    ranked = tuple(
        (view.kept, int(view.events.ts.min()))
        for view in seen
        if len(view.offsets) and any(feature.aggregation == "rank" for feature in view.kept.view.features)
    )
    return Sight(seen, ranked, before)


def _seen(members: Sequence[Kept], projected: "Sequence[pa.Table]") -> tuple[Seen, ...]:
    """Projections as events; the entities of one name are numbered together."""
    found: dict[int, Seen] = {}
    for entity in dict.fromkeys(kept.view.entity for kept in members):
        mine = [place for place, kept in enumerate(members) if kept.view.entity == entity]
        numbers, ids = numbered([(members[place].view, projected[place]) for place in mine])
        for place, number in zip(mine, numbers, strict=True):
            rows = projected[place]
            partitions, offsets = (
                np.asarray(rows.column(name).to_numpy(), np.int64) for name in ("_partition", "_offset")
            )
            events = columns_of(members[place].view, rows, number)
            found[place] = Seen(members[place], events, ids, partitions, offsets)
    return tuple(found[place] for place in range(len(members)))

"""States of one view from the events that are there already, in bulk (design.md 4, Bootstrap).

Entities are taken in buckets by a hash of their keys, and a bucket's events in pieces, so that memory is
bounded by the states of one bucket, however many events an entity has. A state is written only where none
is; the marker comes last, and says that all are there. Two processes may do it at once: they write the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from featureflow_cli.compute import codec, state
from featureflow_cli.compute.events import from_projection
from featureflow_cli.compute.sql import projection_sql
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.evaluate.keeping import Kept, ends_at, expires_us, new_versions
from featureflow_cli.online.store import OnlineStore, Writes, version_words
from featureflow_cli.times import Clock

ROWS_A_BUCKET = 2_000_000
ROWS_A_PIECE = 500_000
WRITES_AT_ONCE = 10_000


@dataclass(frozen=True)
class Bootstrapped:
    """What a bootstrap did: events looked at, states written (others had been there)."""

    events: int
    states: int


def bootstrap(
    engine: Engine,
    relation: str,
    kept: Kept,
    store: OnlineStore,
    clock: Clock,
    *,
    rows_a_bucket: int = ROWS_A_BUCKET,
) -> Bootstrapped:
    """Build and write the states of all entities from `relation`: the accepted events below the floor.

    `relation` has the source's columns; it is read once a bucket.
    """
    (count,) = engine.row(f"SELECT count(*) FROM {relation}")
    buckets = max(1, -(-count // rows_a_bucket))
    written = 0
    for bucket in range(buckets):
        ids, states = _states(engine, relation, kept, bucket, buckets)
        for first in range(0, len(ids), WRITES_AT_ONCE):
            chosen = np.arange(first, min(first + WRITES_AT_ONCE, len(ids)))
            part = state.take(kept.view, states, chosen)
            written += _write_missing(store, kept, [ids[at] for at in chosen.tolist()], part, clock())
    for shard in range(store.shards):
        store.mark(shard, kept.field, kept.build.floor or {})
    return Bootstrapped(count, written)


def _states(
    engine: Engine, relation: str, kept: Kept, bucket: int, buckets: int
) -> tuple[list[str], state.States]:
    """The entities of one bucket and their states."""
    view = kept.view
    place: dict[str, int] = {}
    states = state.empty(view, 0)
    keys = ", ".join(f"k{number}" for number in range(len(view.join_keys)))
    sql = f"SELECT * FROM ({projection_sql(view, relation)}) WHERE hash({keys}) % {buckets} = {bucket}"
    for piece in _pieces(engine, sql):
        events, ids = from_projection(view, piece)
        places = np.array([place.setdefault(id, len(place)) for id in ids], np.int64)
        lifted = state.lift(view, replace(events, entity=places[events.entity]), len(place))
        states = state.merge(view, [replace(states, count=len(place)), lifted])
    return list(place), states


def _pieces(engine: Engine, sql: str) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    for batch in engine.batches(sql):
        held.append(batch)
        if sum(some.num_rows for some in held) >= ROWS_A_PIECE:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


def _write_missing(store: OnlineStore, kept: Kept, ids: list[str], states: state.States, now_us: int) -> int:
    """Write the states of entities that have none in this field; how many there were."""
    blobs = codec.encode(kept.view, states, ends_at(states.count, kept.build.floor or {}))
    newest_us = states.newest_us
    until_us = expires_us(kept.view, newest_us, now_us)
    todo, written = np.arange(len(ids)), 0
    while len(todo):
        held = store.read(kept.view.entity, [ids[at] for at in todo.tolist()], [kept.field])
        missing = np.array([found.blobs[0] is None for found in held], np.bool_)
        todo, expected = todo[missing], version_words([found.version for found in held])[missing]
        writes = Writes(
            [ids[at] for at in todo.tolist()],
            expected,
            new_versions(len(todo)),
            (blobs.take(pa.array(todo)),),
            (newest_us[todo],),
            until_us[todo],
        )
        applied = store.write(kept.view.entity, [kept.field], writes)
        todo = todo[~applied]
        written += int(np.count_nonzero(applied))
    return written

"""What becomes of the events of a batch, decided once: accepted, a duplicate, or a dead letter (design.md 4)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from featureflow_cli.compute.codes import Ints
from featureflow_cli.compute.views import Source
from featureflow_cli.offline.snapshots import Snapshot, Spans
from featureflow_cli.sources import letters
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.decode import decode
from featureflow_cli.sources.parallel import each
from featureflow_cli.sources.verdicts import Memory, judge
from featureflow_cli.stream.outside import Log
from featureflow_cli.stream.progress import LATE_US

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Batch:
    """The offsets of `spans`, decided: `rows` are the accepted ones (the log's columns), partition by partition
    in order of offset.

    `event_us` are their own times; `before_until` of them `batch` answers for; `before_us` is the newest event that
    was known before them. `letters` are letters.SCHEMA, in no order; a replay has none: its rows come from the log.
    """

    spans: Spans
    rows: "pa.Table"
    event_us: Ints
    is_replay: bool
    duplicates: int = 0
    late: int = 0
    before_until: int = 0
    before_us: int | None = None
    letters: Any = field(default_factory=letters.SCHEMA.empty_table)

    @property
    def newest_us(self) -> int | None:
        return int(self.event_us.max()) if len(self.event_us) else None

    @cached_property
    def size(self) -> int:
        """Bytes of its rows and letters, in memory: counted once, for it goes through all their chunks."""
        return int(self.rows.nbytes + self.letters.nbytes)

    @property
    def reasons(self) -> Counter[str]:
        """How many letters of each reason."""
        return Counter(self.letters.column("reason").to_pylist())


def memory_of(source: Source, log: Log | None, base: Snapshot | None, partition: int) -> Memory:
    """What the partition remembers where deciding starts: of the log's rows below its end [memory].

    A table is its own log, and decides from its first event on: nothing is remembered then.
    """
    if log is None or base is None or source.event_id is None:
        return Memory(source.dedupe_within_us)
    newest_us = log.newest_us(base, partition)
    if newest_us is None:
        return Memory(source.dedupe_within_us)
    recent = log.recent(base, partition, newest_us - source.dedupe_within_us)
    return Memory.of_log(recent, source)


def decided(
    raw: Mapping[int, Sequence[RawBatch]],
    spans: Spans,
    source: Source,
    memories: Mapping[int, Memory],
    now_us: int,
    newest_us: int | None = None,
) -> Batch:
    """Decode and judge what was taken in, event by event; each partition remembers what it accepted.

    `now_us` is what the letters are dated; `newest_us`, the newest event before these, tells which are counted
    as late. Neither decides anything.
    """
    import pyarrow as pa

    accepted, refused, duplicates = [], [letters.SCHEMA.empty_table()], 0
    several = [(partition, some) for partition, batches in raw.items() for some in batches]
    for (partition, some), decoded in zip(
        several, each(lambda one: decode(one[1], source), several), strict=True
    ):
        memory = memories[partition]
        verdict = judge(decoded.rows, some.recorded_of(decoded.offsets), memory, source)
        memory.remember(verdict)
        duplicates += verdict.duplicates
        rows = decoded.rows
        if not verdict.accepted.all():
            rows = rows.filter(pa.array(verdict.accepted))
        accepted.append(_positioned(rows, partition, some.recorded_of(_offsets(rows, "_offset"))))
        refused += [
            letters.address(
                part,
                source=source.name,
                partition=partition,
                recorded_at_us=some.recorded_of(_offsets(part, "offset")),
                lettered_at_us=now_us,
            )
            for part in (decoded.letters, verdict.letters)
            if part.num_rows
        ]
    table = pa.concat_tables(accepted)
    event_us = _event_us(table, source)
    late = 0 if newest_us is None else int((event_us < newest_us - LATE_US).sum())
    before_until = 0 if source.until_us is None else int((event_us < source.until_us).sum())
    return Batch(
        spans, table, event_us, False, duplicates, late, before_until, newest_us, pa.concat_tables(refused)
    )


def replayed(rows: "pa.RecordBatch | pa.Table", spans: Spans, source: Source) -> Batch:
    """Rows that the log has: they were decided long ago."""
    import pyarrow as pa

    table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
    return Batch(spans, table, _event_us(table, source), True)


def _positioned(rows: "pa.Table", partition: int, recorded_us: int | Ints) -> "pa.Table":
    """The rows with their partition and the time that their source recorded, as the log keeps them."""
    import pyarrow as pa

    count = rows.num_rows
    recorded = pa.array(np.broadcast_to(np.asarray(recorded_us, np.int64), (count,)), pa.int64())
    partitions = pa.array(np.full(count, partition, np.int32))
    place = rows.schema.get_field_index("_offset")
    return rows.add_column(place, "_partition", partitions).append_column(
        "_ingested_at", recorded.cast(letters.MOMENT)
    )


def _offsets(rows: "pa.Table", name: str) -> Ints:
    found: Ints = rows.column(name).to_numpy()
    return found


def _event_us(rows: "pa.Table", source: Source) -> Ints:
    found: Ints = rows.column(source.timestamp_field).cast("int64").to_numpy()
    return found

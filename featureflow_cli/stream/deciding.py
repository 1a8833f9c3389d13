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
from featureflow_cli.sources.batches import Decoded, RawBatch
from featureflow_cli.sources.decode import decode_all
from featureflow_cli.sources.verdicts import Memory, judge_each
from featureflow_cli.stream.outside import Log
from featureflow_cli.times import MINUTE_US

if TYPE_CHECKING:
    import pyarrow as pa

LATE_US = MINUTE_US
"""An accepted event this much older than the newest one before its batch is counted as late; it counts all the same."""


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

    several = [(partition, batch) for partition, batches in raw.items() for batch in batches]
    decoded = decode_all([batch for _, batch in several], source)
    rows, recorded_us = _side_by_side(several, decoded)
    counts = Counter[int]()
    refused = []
    for (partition, batch), one in zip(several, decoded, strict=True):
        counts[partition] += one.rows.num_rows
        if one.letters.num_rows:
            refused.append((partition, one.letters, batch.recorded_of(_offsets(one.letters, "offset"))))
    verdicts = judge_each(rows, recorded_us, [(memories[each], counts[each]) for each in raw], source)
    start = 0
    for partition, verdict in zip(raw, verdicts, strict=True):
        memories[partition].remember(verdict)
        mine = slice(start, start + counts[partition])
        start = mine.stop
        if verdict.letters.num_rows:
            at = np.searchsorted(_offsets(rows[mine], "_offset"), _offsets(verdict.letters, "offset"))
            refused.append((partition, verdict.letters, recorded_us[mine][at]))
    accepted = np.concatenate([verdict.accepted for verdict in verdicts])
    table = rows if accepted.all() else _filtered(rows, pa.array(accepted))
    addressed = [
        letters.address(
            part, source=source.name, partition=partition, recorded_at_us=recorded, lettered_at_us=now_us
        )
        for partition, part, recorded in refused
    ]
    event_us = _event_us(table, source)
    return Batch(
        spans,
        table,
        event_us,
        is_replay=False,
        duplicates=sum(verdict.duplicates for verdict in verdicts),
        late=0 if newest_us is None else int((event_us < newest_us - LATE_US).sum()),
        before_until=0 if source.until_us is None else int((event_us < source.until_us).sum()),
        before_us=newest_us,
        letters=pa.concat_tables([letters.SCHEMA.empty_table(), *addressed]),
    )


def replayed(rows: "pa.RecordBatch | pa.Table", spans: Spans, source: Source) -> Batch:
    """Rows that the log has: they were decided long ago."""
    import pyarrow as pa

    table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
    return Batch(spans, table, _event_us(table, source), True)


def _side_by_side(
    several: Sequence[tuple[int, RawBatch]], decoded: Sequence[Decoded]
) -> tuple["pa.Table", Ints]:
    """All rows as the log keeps them, one chunk a column; and the times that their sources recorded."""
    import pyarrow as pa

    rows = pa.concat_tables([one.rows for one in decoded]).combine_chunks()
    counts = [one.rows.num_rows for one in decoded]
    partitions = np.repeat(np.array([partition for partition, _ in several], np.int32), counts)
    recorded_us = np.concatenate(
        [
            np.broadcast_to(np.asarray(batch.recorded_of(one.offsets), np.int64), count)
            for (_, batch), one, count in zip(several, decoded, counts, strict=True)
        ]
    )
    place = rows.schema.get_field_index("_offset")
    ingested = pa.array(recorded_us).cast(letters.MOMENT)
    rows = rows.add_column(place, "_partition", pa.array(partitions)).append_column("_ingested_at", ingested)
    return rows, recorded_us


def _filtered(rows: "pa.Table", kept: "pa.BooleanArray") -> "pa.Table":
    """Column by column: of several at once Arrow takes row by row, which costs twice as much where few go."""
    import pyarrow as pa

    return pa.table([column.filter(kept) for column in rows.columns], schema=rows.schema)


def _offsets(rows: "pa.Table", name: str) -> Ints:
    found: Ints = rows.column(name).to_numpy()
    return found


def _event_us(rows: "pa.Table", source: Source) -> Ints:
    found: Ints = rows.column(source.timestamp_field).cast("int64").to_numpy()
    return found

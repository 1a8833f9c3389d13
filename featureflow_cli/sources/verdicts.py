"""Which decoded events enter the log: duplicates and the future (design.md 1.6, 1.7; 4, "Decisions are made
once").

Every event is judged by what its partition accepted before it, and by the time that its source recorded: so a
replay, in any batches, judges alike. Three rules, in this order:

1. more than `allowed_future` ahead of its recorded time: a letter, and nothing of it is remembered; 2. its id
is remembered, for a timestamp within `dedupe_within` of the newest that was accepted: a duplicate; 3. else it
is accepted, its id remembered, and its timestamp may be the newest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from featureflow_cli.compute.views import Source
from featureflow_cli.sources.arrays import Bools, Ints
from featureflow_cli.sources.letters import NO_LETTERS, Letter, Reason, to_table
from featureflow_cli.sources.payloads import payloads
from featureflow_cli.sources.remembered import NEVER_US, NO_IDS, Ids, Remembered, ids_of
from featureflow_cli.times import format_duration, format_timestamp

NOTHING_YET_US = NEVER_US
"""The newest timestamp of a partition that has accepted nothing."""
NO_MOMENTS = np.empty(0, np.int64)


class Memory:
    """What one partition remembers: the ids that it accepted lately and its newest accepted timestamp.

    It changes by `remember` only, once a verdict stands; a partition that is taken up anew gets a new one
    from the log's rows.
    """

    def __init__(self, dedupe_within_us: int) -> None:
        self.newest_us = NOTHING_YET_US
        self.accepted = Remembered()
        self._within_us = dedupe_within_us

    @staticmethod
    def of_log(rows: Any, source: Source) -> "Memory":
        """From the partition's accepted rows below its end: a table of `ts` and `id`, in any order.

        Rows more than `dedupe_within` older than the newest one make no difference.
        """
        memory = Memory(source.dedupe_within_us)
        moments = _moments(rows.column("ts"))
        if moments.size and source.event_id is not None:
            lately = np.flatnonzero(moments >= int(moments.max()) - source.dedupe_within_us)
            ids = ids_of(rows.column("id").take(pa.array(lately)), source.columns[source.event_id])
            memory._learn(ids, moments[lately])
        return memory

    def __len__(self) -> int:
        """How many ids are held; some of them may be past remembering."""
        return len(self.accepted)

    def remember(self, verdict: "Verdict") -> None:
        """Learn what was accepted; verdicts are remembered in the order in which they were made."""
        self._learn(verdict.ids, verdict.moments)

    def _learn(self, ids: Ids, moments: Ints) -> None:
        if len(ids):
            self.newest_us = max(self.newest_us, int(moments.max()))
            self.accepted.add(ids, moments, self.newest_us - self._within_us)


@dataclass(frozen=True)
class Verdict:
    """`accepted` says it of each row; `letters` (letters.BATCH_SCHEMA) are those of the future.

    `ids` and `moments` are what the memory learns: of the accepted rows (empty without an `event_id`).
    """

    accepted: Bools
    letters: Any
    duplicates: int
    ids: Ids
    moments: Ints


def judge(rows: Any, recorded_at_us: int | Ints, memory: Memory, source: Source) -> Verdict:
    """The verdict on `Decoded.rows`, which follow on what `memory` has learned. The memory does not change.

    `recorded_at_us` is the time that the source recorded, of each row or of all.
    """
    (verdict,) = judge_each(rows, recorded_at_us, [(memory, rows.num_rows)], source)
    return verdict


def judge_each(
    rows: Any, recorded_at_us: int | Ints, parts: Sequence[tuple[Memory, int]], source: Source
) -> list[Verdict]:
    """The same for rows of several partitions, one after another: the memory of each, and how many rows it has."""
    moments = _moments(rows.column(source.timestamp_field))
    recorded = np.broadcast_to(np.asarray(recorded_at_us, np.int64), moments.shape)
    punctual: Bools = moments <= recorded + source.allowed_future_us
    ids = (
        NO_IDS
        if source.event_id is None
        else ids_of(rows.column(source.event_id), source.columns[source.event_id])
    )
    verdicts, start = [], 0
    for memory, count in parts:
        here = slice(start, start + count)
        start += count
        late = np.flatnonzero(~punctual[here])
        letters = _of_the_future(rows[here], late, recorded[here], source)
        if source.event_id is None:
            verdicts.append(Verdict(punctual[here], letters, 0, NO_IDS, NO_MOMENTS))
        else:
            verdicts.append(_judge(ids[here], moments[here], punctual[here], letters, memory, source))
    return verdicts


def _judge(ids: Ids, moments: Ints, punctual: Bools, letters: Any, memory: Memory, source: Source) -> Verdict:
    """Which of one partition's events come again, of those that are not of the future."""
    accepted = punctual.copy()
    at = np.flatnonzero(punctual)
    if len(at) < len(ids):
        ids, moments = ids.where(punctual), moments[at]
    doubtful = _may_come_again(ids, memory.accepted)
    if doubtful.any():
        kept = _judge_in_turn(ids, moments, doubtful, memory, source.dedupe_within_us)
        accepted[at[~kept]] = False
        ids, moments = ids.where(kept), moments[kept]
    return Verdict(accepted, letters, int(at.size - len(ids)), ids, moments)


def _may_come_again(ids: Ids, accepted: Remembered) -> Bools:
    """Where an id may be one that is remembered or that stands here more than once: by its hash, so perhaps not."""
    in_order = ids.hashes[ids.order]
    again = accepted.may_hold(in_order)
    twice = in_order[1:] == in_order[:-1]
    again[1:] |= twice
    again[:-1] |= twice
    doubtful = np.empty(len(ids), np.bool_)
    doubtful[ids.order] = again
    return doubtful


def _judge_in_turn(ids: Ids, moments: Ints, doubtful: Bools, memory: Memory, within_us: int) -> Bools:
    """Which events to keep where ids may come again: those that are in no doubt are kept, the others judged one by
    one.
    """
    certain = np.concatenate([[memory.newest_us], np.where(doubtful, NOTHING_YET_US, moments)])
    newest_before = np.maximum.accumulate(certain)[:-1]
    kept = ~doubtful
    newest_us = memory.newest_us
    latest: dict[object, int] = {}
    rows = np.flatnonzero(doubtful)
    again = ids.take(rows)
    for row, id, moment, before, known in zip(
        rows.tolist(),
        again.values.to_pylist(),
        moments[rows].tolist(),
        newest_before[rows].tolist(),
        memory.accepted.moments(again).tolist(),
        strict=True,
    ):
        newest_us = max(newest_us, before)
        earlier = latest.get(id, known)
        if earlier != NEVER_US and earlier >= newest_us - within_us:
            continue
        kept[row] = True
        latest[id] = moment
        newest_us = max(newest_us, moment)
    return kept


def _of_the_future(rows: Any, late: Ints, recorded_at_us: int | Ints, source: Source) -> Any:
    if not late.size:
        return NO_LETTERS
    columns = {name: rows.column(name).combine_chunks() for name in source.columns}
    moments = _moments(rows.column(source.timestamp_field))
    recorded = np.broadcast_to(np.asarray(recorded_at_us, np.int64), moments.shape)
    offsets = rows.column("_offset").to_numpy()
    allowed = format_duration(source.allowed_future_us)
    return to_table(
        [
            Letter(
                int(offsets[row]),
                Reason.FUTURE,
                f"{format_timestamp(int(moments[row]))} is more than {allowed} after"
                f" {format_timestamp(int(recorded[row]))}, when its source recorded it",
                payload,
            )
            for row, payload in zip(late, payloads(columns, source, late), strict=True)
        ]
    )


def _moments(column: Any) -> Ints:
    """A timestamp column without nulls as int64 microseconds."""
    moments: Ints = column.cast(pa.int64()).to_numpy()
    return moments

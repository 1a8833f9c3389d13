"""Which decoded events enter the log: duplicates and the future (design.md 1.6, 1.7; 4, "Decisions are made
once").

Every event is judged by what its partition accepted before it, and by the time that its source recorded: so a
replay, in any batches, judges alike. Three rules, in this order:

1. more than `allowed_future` ahead of its recorded time: a letter, and nothing of it is remembered; 2. its id
is remembered, for a timestamp within `dedupe_within` of the newest that was accepted: a duplicate; 3. else it
is accepted, its id remembered, and its timestamp may be the newest.
"""

from collections.abc import KeysView
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
import pyarrow as pa

from featureflow_cli.compute.views import Source
from featureflow_cli.sources.arrays import Bools, Ints
from featureflow_cli.sources.letters import BATCH_SCHEMA, Letter, Reason, to_table
from featureflow_cli.sources.payloads import payloads
from featureflow_cli.times import format_duration, format_timestamp

NOTHING_YET_US = -(2**63)
"""The newest timestamp of a partition that has accepted nothing."""
FEWEST_HELD = 65_536
"""Up to this many ids nobody looks which of them are past remembering."""


class Memory:
    """What one partition remembers: the ids that it accepted lately and its newest accepted timestamp.

    It changes by `remember` only, once a verdict stands; a partition that is taken up anew gets a new one
    from the log's rows.
    """

    def __init__(self, dedupe_within_us: int) -> None:
        self.newest_us = NOTHING_YET_US
        self._within_us = dedupe_within_us
        self._moments: dict[object, int] = {}
        self._sweep_at = FEWEST_HELD

    @staticmethod
    def of_log(rows: Any, source: Source) -> "Memory":
        """From the partition's accepted rows below its end: a table of `ts` and `id`, in any order.

        Rows more than `dedupe_within` older than the newest one make no difference.
        """
        memory = Memory(source.dedupe_within_us)
        moments = _moments(rows.column("ts"))
        if moments.size:
            lately = moments >= int(moments.max()) - source.dedupe_within_us
            order = np.flatnonzero(lately)[
                np.argsort(moments[lately], kind="stable")
            ]  # of one id the last stays
            memory._learn(_ids(rows.column("id").take(pa.array(order))), moments[order])
        return memory

    def __len__(self) -> int:
        """How many ids are held; some of them may be past remembering."""
        return len(self._moments)

    def remember(self, verdict: "Verdict") -> None:
        """Learn what was accepted; verdicts are remembered in the order in which they were made."""
        self._learn(verdict.ids, verdict.moments)

    def held(self, ids: KeysView[object]) -> set[object]:
        """Those of the ids that are held."""
        return self._moments.keys() & ids

    def moment(self, id: object) -> int:
        """The timestamp of the id's last accepted event; NOTHING_YET_US where it is not held."""
        return self._moments.get(id, NOTHING_YET_US)

    def _learn(self, ids: list[object], moments: Ints) -> None:
        if not ids:
            return
        self.newest_us = max(self.newest_us, int(moments.max()))
        # An id is accepted again only once its earlier event is past remembering: the last one may replace it.
        self._moments.update(zip(ids, moments.tolist(), strict=True))
        if len(self._moments) > self._sweep_at:
            oldest = self.newest_us - self._within_us
            self._moments = {id: moment for id, moment in self._moments.items() if moment >= oldest}
            self._sweep_at = max(FEWEST_HELD, 2 * len(self._moments))


@dataclass(frozen=True)
class Verdict:
    """`accepted` says it of each row; `letters` (letters.BATCH_SCHEMA) are those of the future.

    `ids` and `moments` are what the memory learns: of the accepted rows, in order (empty without an
    `event_id`).
    """

    accepted: Bools
    letters: Any
    duplicates: int
    ids: list[object]
    moments: Ints


def judge(rows: Any, recorded_at_us: int | Ints, memory: Memory, source: Source) -> Verdict:
    """The verdict on `Decoded.rows`, which follow on what `memory` has learned. The memory does not change.

    `recorded_at_us` is the time that the source recorded, of each row or of all.
    """
    moments = _moments(rows.column(source.timestamp_field))
    accepted: Bools = moments <= np.asarray(recorded_at_us, np.int64) + source.allowed_future_us
    letters = _of_the_future(rows, np.flatnonzero(~accepted), recorded_at_us, source)
    if source.event_id is None:
        return Verdict(accepted, letters, 0, [], np.empty(0, np.int64))
    at = np.flatnonzero(accepted)
    ids = _ids(rows.column(source.event_id).take(pa.array(at)))
    last = dict(zip(ids, range(len(ids)), strict=True))
    held = memory.held(last.keys())
    duplicates = 0
    if held or len(last) < len(ids):
        doubtful = _again(ids, last, held)
        kept = _judge_in_turn(ids, moments[at], doubtful, memory, source.dedupe_within_us)
        accepted[at[~kept]] = False
        ids = list(compress(ids, kept))
        duplicates = int(at.size - len(ids))
    return Verdict(accepted, letters, duplicates, ids, moments[accepted])


def _again(ids: list[object], last: dict[object, int], held: set[object]) -> Bools:
    """Where an id stands that is `held` or stands here more than once; `last`: where each stands last.

    Every look-up is one call from C: a comprehension took twice as long as all the rest of a verdict.
    """
    place = np.fromiter(map(last.__getitem__, ids), np.int64, len(ids))
    again = np.bincount(place, minlength=len(ids)) > 1
    again[[last[id] for id in held]] = True
    return again[place]


def _judge_in_turn(
    ids: list[object], moments: Ints, doubtful: Bools, memory: Memory, within_us: int
) -> Bools:
    """Which events to keep where ids occur again: those that occur once are kept, the others judged one by
    one.
    """
    certain = np.concatenate([[memory.newest_us], np.where(doubtful, NOTHING_YET_US, moments)])
    newest_before = np.maximum.accumulate(certain)[:-1]
    kept = ~doubtful
    newest_us = memory.newest_us
    latest: dict[object, int] = {}
    rows = np.flatnonzero(doubtful)
    for row, moment, before in zip(
        rows.tolist(), moments[rows].tolist(), newest_before[rows].tolist(), strict=True
    ):
        id = ids[row]
        newest_us = max(newest_us, before)
        earlier = latest.get(id, memory.moment(id))
        if earlier != NOTHING_YET_US and earlier >= newest_us - within_us:
            continue
        kept[row] = True
        latest[id] = moment
        newest_us = max(newest_us, moment)
    return kept


def _of_the_future(rows: Any, late: Ints, recorded_at_us: int | Ints, source: Source) -> Any:
    if not late.size:
        return BATCH_SCHEMA.empty_table()
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


def _ids(column: Any) -> list[object]:
    """Ids as Python values that are equal where the ids are."""
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.int32() if pa.types.is_date(column.type) else pa.int64())
    return list(column.to_pylist())

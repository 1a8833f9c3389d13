"""From a batch of accepted rows to states in the online store: any writer, exact (design.md 4).

A view sees the batch's rows through its projection; an entity's hash is written once a batch, with all the
views that the batch touches, by compare-and-set on the very version that it was computed from [compare].
Before anything is merged, events that the header of that state covers are dropped one by one [cover,
overlap]; whoever loses the race reads again, and drops again. So a batch may come twice, from anybody, at any
time.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from featureflow_cli.compute import codec, state
from featureflow_cli.compute.codes import Bools, Ints
from featureflow_cli.compute.events import Events
from featureflow_cli.evaluate.keeping import Kept, expires_us, new_versions
from featureflow_cli.offline.snapshots import Spans
from featureflow_cli.online.store import Held, OnlineStore, Write
from featureflow_cli.stream.faults import reached
from featureflow_cli.stream.resident import Resident
from featureflow_cli.times import Clock

WRITES_AT_ONCE = 20_000


@dataclass(frozen=True)
class Seen:
    """What one view sees of a batch. `events.entity` indexes `ids`; where each event comes from stands beside."""

    kept: Kept
    events: Events
    ids: Sequence[str]
    partitions: Ints
    offsets: Ints

    def of(self, chosen: Ints) -> "Seen":
        """What it sees of the chosen entities, renumbered in that order."""
        if len(chosen) == len(self.ids):
            return self
        renumbered = np.full(len(self.ids), -1, np.int64)
        renumbered[chosen] = np.arange(len(chosen))
        mine = self.take(renumbered[self.events.entity] >= 0, [self.ids[at] for at in chosen.tolist()])
        return replace(mine, events=replace(mine.events, entity=renumbered[mine.events.entity]))

    def take(self, rows: Bools, ids: Sequence[str]) -> "Seen":
        return Seen(
            self.kept, self.events.take(np.flatnonzero(rows)), ids, self.partitions[rows], self.offsets[rows]
        )


@dataclass(frozen=True)
class Written:
    """How many hashes were written, how many writes lost a race, how many events a header covered already."""

    writes: int = 0
    conflicts: int = 0
    covered: int = 0

    def __add__(self, other: "Written") -> "Written":
        return Written(
            self.writes + other.writes, self.conflicts + other.conflicts, self.covered + other.covered
        )


def write_states(
    store: OnlineStore, resident: Resident, seen: Sequence[Seen], spans: Spans, clock: Clock
) -> Written:
    """Merge what the views of one entity see into its hashes, until the store has acknowledged all of it."""
    ids = sorted({id for view in seen for id in view.ids})
    place = {id: number for number, id in enumerate(ids)}
    places = [np.array([place[id] for id in view.ids], np.int64) for view in seen]
    todo = np.ones(len(ids), np.bool_)
    written = Written()
    while todo.any():
        chosen = np.flatnonzero(todo).tolist()
        held = resident.fetch(store, [ids[at] for at in chosen])
        attempt = _Attempt(dict(zip(chosen, held, strict=True)), resident.fields, spans, clock())
        for view, at in zip(seen, places, strict=True):
            attempt.merge(view, at, np.flatnonzero(todo[at]))
        changed, writes = attempt.writes(ids)
        applied = _send(store, resident, writes, [attempt.held[at] for at in changed])
        todo[:] = False
        todo[[at for at, taken in zip(changed, applied, strict=True) if not taken]] = True
        lost = int(todo.sum())
        written += Written(len(writes) - lost, lost, attempt.covered)
    return written


class _Attempt:
    """One try: the hashes as they were `held`, by place, and the new blobs that are computed from them."""

    def __init__(self, held: Mapping[int, Held], fields: Sequence[str], spans: Spans, now_us: int) -> None:
        self.held = held
        self.covered = 0
        self._fields = fields
        self._spans = spans
        self._now_us = now_us
        self._blobs: dict[int, dict[str, bytes]] = defaultdict(dict)
        self._newest_us: dict[int, dict[str, int]] = defaultdict(dict)
        self._expires_us: dict[int, int | None] = {}

    def merge(self, view: Seen, places: Ints, chosen: Ints) -> None:
        """Merge the view's events of its `chosen` entities; `places` are those of all its entities."""
        kept, column = view.kept, self._fields.index(view.kept.field)
        view, at = view.of(chosen), places[chosen]
        base, ends = codec.decode(kept.view, [self.held[place].blobs[column] for place in at.tolist()])
        fresh = view.offsets >= covered_ends(kept, ends, view)
        if not fresh.all():
            self.covered += int(len(fresh) - fresh.sum())
            view = view.take(fresh, view.ids)
        changed = np.unique(view.events.entity)
        if not len(changed):
            return
        merged = state.merge(kept.view, [base, state.lift(kept.view, view.events, len(at))])
        ends = raised(ends, view, self._spans)
        if len(changed) < len(at):
            merged, ends = state.take(kept.view, merged, changed), _take_ends(ends, changed, len(at))
        self._note(kept, at[changed].tolist(), codec.encode(kept.view, merged, ends), merged.newest_us)

    def _note(self, kept: Kept, places: list[int], blobs: list[bytes], newest_us: Ints) -> None:
        expiries = expires_us(kept.view, newest_us, self._now_us)
        until = [None] * len(blobs) if expiries is None else expiries.tolist()
        for place, blob, moment, expiry in zip(places, blobs, newest_us.tolist(), until, strict=True):
            self._blobs[place][kept.field] = blob
            self._newest_us[place][kept.field] = moment
            before = self._expires_us.get(place, expiry)
            self._expires_us[place] = None if before is None or expiry is None else max(before, expiry)

    def writes(self, ids: Sequence[str]) -> tuple[list[int], list[Write]]:
        """The places of the hashes that change, and their writes."""
        changed = sorted(self._blobs)
        return changed, [
            Write(
                ids[at],
                self.held[at].version,
                version,
                self._blobs[at],
                self._newest_us[at],
                self._expires_us[at],
            )
            for at, version in zip(changed, new_versions(len(changed)), strict=True)
        ]


def covered_ends(kept: Kept, ends: codec.Ends, view: Seen) -> Ints:
    """For each event, where its state's knowledge of its partition ends.

    A missing state is the empty one at the floor.
    """
    covered = np.empty(len(view.offsets), np.int64)
    for partition in np.unique(view.partitions).tolist():
        known = np.full(len(view.ids), kept.floor(partition), np.int64)
        there = ends.partition == partition
        known[ends.state[there]] = np.maximum(known[ends.state[there]], ends.end[there])
        rows = view.partitions == partition
        covered[rows] = known[view.events.entity[rows]]
    return covered


def raised(ends: codec.Ends, view: Seen, spans: Spans) -> codec.Ends:
    """The headers of states that have taken in the view's events: of their partitions up to the spans' ends."""
    partitions, index = np.unique(view.partitions, return_inverse=True)
    states, index = np.divmod(np.unique(view.events.entity * len(partitions) + index), len(partitions))
    span_ends = np.array([spans[partition][1] for partition in partitions.tolist()], np.int64)
    state_ = np.concatenate([ends.state, states])
    partition = np.concatenate([ends.partition, partitions[index]])
    end = np.concatenate([ends.end, span_ends[index]])
    order = np.lexsort((-end, partition, state_))
    state_, partition, end = state_[order], partition[order], end[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = (state_[1:] != state_[:-1]) | (partition[1:] != partition[:-1])
    return codec.Ends(state_[first], partition[first], end[first])


def _take_ends(ends: codec.Ends, chosen: Ints, count: int) -> codec.Ends:
    place = np.full(count, -1, np.int64)
    place[chosen] = np.arange(len(chosen))
    kept = place[ends.state] >= 0
    return codec.Ends(place[ends.state[kept]], ends.partition[kept], ends.end[kept])


def _send(
    store: OnlineStore, resident: Resident, writes: Sequence[Write], before: Sequence[Held]
) -> list[bool]:
    """Send the writes; what is acknowledged is remembered, what was refused is forgotten."""
    applied: list[bool] = []
    for start in range(0, len(writes), WRITES_AT_ONCE):
        applied += store.write(resident.entity, writes[start : start + WRITES_AT_ONCE])
        reached("half_written")
    for write, held, taken in zip(writes, before, applied, strict=True):
        if taken:
            blobs = tuple(
                write.blobs.get(field, old) for field, old in zip(resident.fields, held.blobs, strict=True)
            )
            resident.remember(write.id, Held(write.version, blobs))
        else:
            resident.forget(write.id)
    return applied

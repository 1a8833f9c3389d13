"""From a batch of accepted rows to states in the online store: any writer, exact (design.md 4).

A view sees the batch's rows through its projection; an entity's hash is written once a batch, with all the
views that the batch touches, by compare-and-set on the very version that it was computed from [compare].
Before anything is merged, events that the header of that state covers are dropped one by one [cover,
overlap]; whoever loses the race reads again, and drops again. So a batch may come twice, from anybody, at any
time.
"""

from collections.abc import Iterable, Iterator, Sequence
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

TURN_BYTES = 8 * 2**20
"""Hashes of about so many bytes are merged and written at a time: as arrays they are several times as large."""
WRITES_AT_ONCE = 20_000
Blobs = tuple[bytes | None, ...]
NEVER_US, FOREVER_US = -(2**63), 2**63 - 1
"""When a hash expires that is not written, and one that never does."""


@dataclass(frozen=True)
class Seen:
    """What one view sees of a batch; where each event comes from stands beside.

    `events.entity` indexes `ids`: all entities of that name in the batch, the same for each of their views.
    """

    kept: Kept
    events: Events
    ids: Sequence[str]
    partitions: Ints
    offsets: Ints

    def of(self, chosen: Ints) -> "Seen":
        """What it sees of the chosen entities (in ascending order), renumbered in that order."""
        if len(chosen) == len(self.ids):
            return self
        renumbered = np.full(len(self.ids), -1, np.int64)
        renumbered[chosen] = np.arange(len(chosen))
        mine = self.take(renumbered[self.events.entity] >= 0)
        ids = [self.ids[at] for at in chosen.tolist()]
        return replace(mine, ids=ids, events=replace(mine.events, entity=renumbered[mine.events.entity]))

    def take(self, rows: Bools) -> "Seen":
        chosen = np.flatnonzero(rows)
        return Seen(
            self.kept, self.events.take(chosen), self.ids, self.partitions[chosen], self.offsets[chosen]
        )

    @property
    def entities(self) -> Ints:
        """The entities that it has events of, in ascending order."""
        return np.flatnonzero(np.bincount(self.events.entity, minlength=len(self.ids)))


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
    """Merge what the views of one entity see into its hashes, until the store has acknowledged all of it.

    A turn after the other, so that the memory it takes does not grow with the states.
    """
    written = Written()
    left = np.unique(np.concatenate([view.entities for view in seen])) if seen else np.empty(0, np.int64)
    while len(left):
        turn, left = np.split(left, [min(resident.count_in(TURN_BYTES), WRITES_AT_ONCE)])
        views = [view.of(turn) for view in seen]
        ids = views[0].ids
        held = resident.fetch(store, ids)
        merged = [_merge(view, held, resident.fields, spans) for view in views]
        changed, writes = _writes(ids, held, resident.fields, merged, clock())
        applied = _send(store, resident, writes, [held[at] for at in changed.tolist()])
        left = np.union1d(turn[changed[~applied]], left)
        covered = sum(each.covered for each in merged)
        written += Written(int(applied.sum()), int(np.count_nonzero(~applied)), covered)
    return written


@dataclass(frozen=True)
class _Merged:
    """New states of one view, of the entities at `places`; `covered` events were known to them already."""

    kept: Kept
    places: Ints
    blobs: list[bytes]
    newest_us: Ints
    covered: int


def _merge(view: Seen, held: Sequence[Held], fields: Sequence[str], spans: Spans) -> _Merged:
    """Merge the view's events into the states that are `held` of its entities."""
    kept, column = view.kept, fields.index(view.kept.field)
    places = view.entities
    view = view.of(places)
    base, ends = codec.decode(kept.view, [held[place].blobs[column] for place in places.tolist()])
    fresh = view.offsets >= covered_ends(kept, ends, view, spans)
    covered = int(len(fresh) - np.count_nonzero(fresh))
    if covered:
        view = view.take(fresh)
    changed = view.entities
    if not len(changed):
        return _Merged(kept, changed, [], changed, covered)
    merged = state.merge(kept.view, [base, state.lift(kept.view, view.events, len(places))])
    ends = raised(ends, view, spans)
    if len(changed) < len(places):
        merged, ends = state.take(kept.view, merged, changed), _take_ends(ends, changed, len(places))
    return _Merged(kept, places[changed], codec.encode(kept.view, merged, ends), merged.newest_us, covered)


def _writes(
    ids: Sequence[str], held: Sequence[Held], fields: Sequence[str], merged: Sequence[_Merged], now_us: int
) -> tuple[Ints, list[Write]]:
    """The places of the hashes that change, and their writes: each with all the views that the batch touches."""
    expiry_us = np.full(len(ids), NEVER_US)
    blobs = [np.full(len(ids), None, object) for _ in fields]
    newest_us = [np.zeros(len(ids), np.int64) for _ in fields]
    for each in merged:
        expiries = expires_us(each.kept.view, each.newest_us, now_us)
        expiry_us[each.places] = np.maximum(
            expiry_us[each.places], FOREVER_US if expiries is None else expiries
        )
        column = fields.index(each.kept.field)
        blobs[column][each.places] = each.blobs
        newest_us[column][each.places] = each.newest_us
    changed = np.flatnonzero(expiry_us != NEVER_US)
    places, until = changed.tolist(), expiry_us[changed].astype(object)
    until[expiry_us[changed] == FOREVER_US] = None
    rows = zip(
        [ids[at] for at in places],
        [held[at].version for at in places],
        new_versions(len(places)),
        zip(*(column[changed].tolist() for column in blobs), strict=True),
        zip(*(column[changed].tolist() for column in newest_us), strict=True),
        until.tolist(),
        strict=True,
    )
    return changed, list(map(Write._make, rows))


def covered_ends(kept: Kept, ends: codec.Ends, view: Seen, spans: Spans) -> Ints:
    """For each event, where its state's knowledge of its partition (one of `spans`) ends.

    A missing state is the empty one at the floor.
    """
    covered = np.empty(len(view.offsets), np.int64)
    for partition in spans:
        known = np.full(len(view.ids), kept.floor(partition), np.int64)
        there = ends.partition == partition
        known[ends.state[there]] = np.maximum(known[ends.state[there]], ends.end[there])
        if len(spans) == 1:
            return known[view.events.entity]
        rows = np.flatnonzero(view.partitions == partition)
        covered[rows] = known[view.events.entity[rows]]
    return covered


def raised(ends: codec.Ends, view: Seen, spans: Spans) -> codec.Ends:
    """The headers of states that have taken in the view's events: of their partitions up to the spans' ends."""
    partitions = np.union1d(ends.partition, np.array(list(spans), np.int64))
    span_ends = np.array([spans[each][1] if each in spans else 0 for each in partitions.tolist()], np.int64)
    count = len(partitions)
    known = ends.state * count + np.searchsorted(partitions, ends.partition)
    touched = [
        np.flatnonzero(np.bincount(view.events.entity[view.partitions == partition], minlength=len(view.ids)))
        * count
        + place
        for place, partition in enumerate(partitions.tolist())
        if partition in spans
    ]
    packed = np.concatenate([known, *touched])
    end = np.concatenate([ends.end, span_ends[packed[len(known) :] % count]])
    order = np.argsort(packed, kind="stable")  # all of them sorted runs, which it merges
    packed, end = packed[order], end[order]
    starts = np.flatnonzero(np.diff(packed, prepend=-1))
    state_, place_ = np.divmod(packed[starts], count)
    return codec.Ends(state_, partitions[place_], np.maximum.reduceat(end, starts))


def _take_ends(ends: codec.Ends, chosen: Ints, count: int) -> codec.Ends:
    place = np.full(count, -1, np.int64)
    place[chosen] = np.arange(len(chosen))
    kept = place[ends.state] >= 0
    return codec.Ends(place[ends.state[kept]], ends.partition[kept], ends.end[kept])


def _send(store: OnlineStore, resident: Resident, writes: Sequence[Write], before: Sequence[Held]) -> Bools:
    """Send the writes, and say which were taken; what is acknowledged is remembered, what was refused is forgotten."""
    if not writes:
        return np.empty(0, np.bool_)
    applied = store.write(resident.entity, resident.fields, writes)
    reached("half_written")
    there = zip(
        (write.version for write in writes),
        _over((write.blobs for write in writes), (held.blobs for held in before)),
        strict=True,
    )
    known = dict(zip((write.id for write in writes), map(Held._make, there), strict=True))
    lost = [write.id for write, taken in zip(writes, applied, strict=True) if not taken]
    for id in lost:
        del known[id]
    resident.remember(known)
    resident.forget(lost)
    return np.array(applied, np.bool_)


def _over(written: Iterable[Blobs], before: Iterable[Blobs]) -> Iterator[Blobs]:
    """The blobs of each hash: those that were written, and else those that it had."""
    columns = zip(zip(*written, strict=True), zip(*before, strict=True), strict=True)
    return zip(
        *(
            fresh
            if None not in fresh
            else [old if new is None else new for new, old in zip(fresh, stood, strict=True)]
            for fresh, stood in columns
        ),
        strict=True,
    )

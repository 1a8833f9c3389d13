"""From a batch of accepted rows to states in the online store: any writer, exact (design.md 4).

A view sees the batch's rows through its projection; an entity's hash is written once a batch, with all the
views that the batch touches, by compare-and-set on the very version that it was computed from [compare].
Before anything is merged, events that the header of that state covers are dropped one by one [cover,
overlap]; whoever loses the race reads again, and drops again. So a batch may come twice, from anybody, at any
time.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from featureflow_cli.compute import codec, state
from featureflow_cli.compute.codes import Bools, Ints, ranked
from featureflow_cli.compute.events import Events
from featureflow_cli.compute.packed import Packed, none, placed
from featureflow_cli.evaluate.keeping import Kept, expires_us, new_versions
from featureflow_cli.offline.snapshots import Spans
from featureflow_cli.online.store import OnlineStore, Send, Writes
from featureflow_cli.stream.faults import reached
from featureflow_cli.stream.resident import Resident
from featureflow_cli.times import Clock

TURN_BYTES = 8 * 2**20
"""Hashes of about so many bytes are merged and sent at a time: as arrays they are several times as large."""
WRITES_AT_ONCE = 20_000


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
        chosen_rows = renumbered[self.events.entity] >= 0
        mine = self if chosen_rows.all() else self.take(chosen_rows)
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


@dataclass
class _Work:
    """What the views of one entity see, and the entities of it that are still to be written."""

    resident: Resident
    seen: Sequence[Seen]
    left: Ints


@dataclass(frozen=True)
class _Turn:
    """Some of the work: the entities at `places`, what is seen of them, and the rows of their hashes."""

    resident: Resident
    places: Ints
    views: Sequence[Seen]
    rows: Ints


@dataclass(frozen=True)
class _Sent:
    """Writes of the hashes of the entities at `places`, that are in those rows."""

    places: Ints
    rows: Ints
    writes: Writes
    covered: int
    answer: Callable[[], Bools]


def write_states(
    store: OnlineStore, entities: Sequence[tuple[Resident, Sequence[Seen]]], spans: Spans, clock: Clock
) -> Generator[None, None, Written]:
    """Merge what the views of each entity see into its hashes, until the store has acknowledged all of it.

    A turn after the other, so that the memory it takes does not grow with the states. The store is at work on those of
    one entity while those of the next are merged. It stops where all that was left is under way: at least once.
    """
    written = Written()
    works = [_Work(resident, seen, _touched(seen)) for resident, seen in entities]
    if not any(len(work.left) for work in works):
        yield
    while some := [work for work in works if len(work.left)]:
        turns = [_turn(store, work, TURN_BYTES // len(some)) for work in some]
        with store.sending() as send:
            sent = [_send(send, turn, spans, clock()) for turn in turns]
            if not any(len(work.left) for work in works):
                yield
            for work, each in zip(some, sent, strict=True):
                written += _hear(work, each)
    return written


def _touched(seen: Sequence[Seen]) -> Ints:
    """The entities that the views see events of, in ascending order."""
    return _united([view.entities for view in seen], len(seen[0].ids)) if seen else np.empty(0, np.int64)


def _turn(store: OnlineStore, work: _Work, size_bytes: int) -> _Turn:
    """The next turn of the work: its hashes are read, where they are not remembered."""
    resident = work.resident
    places, work.left = np.split(work.left, [min(resident.count_in(size_bytes), WRITES_AT_ONCE)])
    views = [view.of(places) for view in work.seen]
    return _Turn(resident, places, views, resident.fetch(store, views[0].ids))


def _send(send: Send, turn: _Turn, spans: Spans, now_us: int) -> _Sent:
    """Merge, and send what changes."""
    resident, views, rows = turn.resident, turn.views, turn.rows
    merged = [_merge(view, resident, rows, spans) for view in views]
    changed, writes = _writes(views[0].ids, resident, rows, merged, now_us)
    answer = send(resident.entity, resident.fields, writes)
    reached("half_written")
    return _Sent(turn.places[changed], rows[changed], writes, sum(each.covered for each in merged), answer)


def _hear(work: _Work, sent: _Sent) -> Written:
    """Which writes were taken: what is acknowledged is remembered, what was refused is forgotten, and left."""
    applied = sent.answer()
    taken = sent.writes if applied.all() else sent.writes.take(np.flatnonzero(applied))
    work.resident.remember(sent.rows[applied], taken.versions, taken.blobs)
    if not applied.all():
        work.resident.forget(sent.rows[~applied])
        work.left = np.union1d(sent.places[~applied], work.left)
    return Written(int(applied.sum()), int(np.count_nonzero(~applied)), sent.covered)


def _united(places: Sequence[Ints], count: int) -> Ints:
    """All of these places, below `count`, in ascending order."""
    there = np.zeros(count, np.bool_)
    for some in places:
        there[some] = True
    return np.flatnonzero(there)


@dataclass(frozen=True)
class _Merged:
    """New states of one view, of the entities at `places`; `covered` events were known to them already."""

    kept: Kept
    places: Ints
    blobs: Packed
    newest_us: Ints
    covered: int


def _merge(view: Seen, resident: Resident, rows: Ints, spans: Spans) -> _Merged:
    """Merge the view's events into the states that its entities have in these rows."""
    kept, column = view.kept, resident.fields.index(view.kept.field)
    places = view.entities
    view = view.of(places)
    base, ends = codec.decode(kept.view, resident.blobs(column, rows[places]), is_intact=True)
    fresh = view.offsets >= covered_ends(kept, ends, view, spans)
    covered = int(len(fresh) - np.count_nonzero(fresh))
    if covered:
        view = view.take(fresh)
    changed = view.entities
    if not len(changed):
        return _Merged(kept, changed, none(0), changed, covered)
    merged = state.merge(kept.view, [base, state.lift(kept.view, view.events, len(places))])
    ends = raised(ends, view, spans)
    if len(changed) < len(places):
        merged, ends = state.take(kept.view, merged, changed), _take_ends(ends, changed, len(places))
    return _Merged(kept, places[changed], codec.encode(kept.view, merged, ends), merged.newest_us, covered)


def _writes(
    ids: Sequence[str], resident: Resident, rows: Ints, merged: Sequence[_Merged], now_us: int
) -> tuple[Ints, Writes]:
    """The places of the hashes that change, and their writes: each with all the views that the batch touches."""
    changed = _united([each.places for each in merged], len(ids))
    place = np.empty(len(ids), np.int64)
    place[changed] = np.arange(len(changed))
    expiry_us = np.zeros(len(changed), np.int64)
    blobs = [none(len(changed)) for _ in resident.fields]
    newest_us = [np.zeros(len(changed), np.int64) for _ in resident.fields]
    for each in merged:
        column, places = resident.fields.index(each.kept.field), place[each.places]
        blobs[column] = placed(each.blobs, places, len(changed))
        newest_us[column][places] = each.newest_us
        until_us = expires_us(each.kept.view, each.newest_us, now_us)
        expiry_us[places] = np.maximum(expiry_us[places], until_us)
    return changed, Writes(
        [ids[at] for at in changed.tolist()] if len(changed) < len(ids) else ids,
        resident.versions(rows[changed]),
        new_versions(len(changed)),
        tuple(blobs),
        tuple(newest_us),
        expiry_us,
    )


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
    partitions, place = ranked(np.concatenate([ends.partition, view.partitions]))
    span_ends = np.array([spans[each][1] if each in spans else 0 for each in partitions.tolist()], np.int64)
    owner = np.concatenate([ends.state, view.events.entity])
    entries, entry = ranked(owner * len(partitions) + place)  # each (state, partition) once, in order
    state_, place_ = np.divmod(entries, len(partitions))
    known, touched = np.split(entry, [len(ends.state)])
    end = np.zeros(len(entries), np.int64)
    end[known] = ends.end
    end[touched] = np.maximum(end[touched], span_ends[place_[touched]])
    return codec.Ends(state_, partitions[place_], end)


def _take_ends(ends: codec.Ends, chosen: Ints, count: int) -> codec.Ends:
    place = np.full(count, -1, np.int64)
    place[chosen] = np.arange(len(chosen))
    kept = place[ends.state] >= 0
    return codec.Ends(place[ends.state[kept]], ends.partition[kept], ends.end[kept])

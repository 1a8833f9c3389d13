"""From a batch of accepted rows to states in the online store: any writer, exact (design.md 4).

A view sees the batch's rows through its projection; an entity's hash is written once a batch, with all the
views that the batch touches, by compare-and-set on the very version that it was computed from [compare].
Before anything is merged, events that the header of that state covers are dropped one by one [cover,
overlap]; whoever loses the race reads again, and drops again. So a batch may come twice, from anybody, at any
time.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from featureflow_cli.compute import codec, state
from featureflow_cli.compute.codes import Ints
from featureflow_cli.compute.events import Events
from featureflow_cli.evaluate.keeping import Kept, expires_us, new_versions
from featureflow_cli.online.store import Held, OnlineStore, Write
from featureflow_cli.stream.resident import Resident
from featureflow_cli.times import Clock

WRITES_AT_ONCE = 20_000


@dataclass(frozen=True)
class Seen:
    """What one view sees of a batch. `events.entity` indexes `ids`; `offsets` stands beside the events."""

    kept: Kept
    events: Events
    ids: Sequence[str]
    offsets: Ints


@dataclass(frozen=True)
class Span:
    """The offsets [start, end) of one partition that a batch decides."""

    partition: int
    start: int
    end: int


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
    store: OnlineStore, resident: Resident, seen: Sequence[Seen], span: Span, clock: Clock
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
        attempt = _Attempt(dict(zip(chosen, held, strict=True)), resident.fields, span, clock())
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

    def __init__(self, held: Mapping[int, Held], fields: Sequence[str], span: Span, now_us: int) -> None:
        self.held = held
        self.covered = 0
        self._fields = fields
        self._span = span
        self._now_us = now_us
        self._blobs: dict[int, dict[str, bytes]] = defaultdict(dict)
        self._newest_us: dict[int, dict[str, int]] = defaultdict(dict)
        self._expires_us: dict[int, int | None] = {}

    def merge(self, view: Seen, places: Ints, chosen: Ints) -> None:
        """Merge the view's events of its `chosen` entities; `places` are those of all its entities."""
        kept, column = view.kept, self._fields.index(view.kept.field)
        events, offsets = _of_entities(view, chosen)
        at = places[chosen]
        base, ends = codec.decode(kept.view, [self.held[place].blobs[column] for place in at.tolist()])
        fresh = offsets >= covered_ends(kept, ends, len(at), self._span.partition)[events.entity]
        if not fresh.all():
            self.covered += int(len(fresh) - fresh.sum())
            events = events.take(fresh)
        changed = np.unique(events.entity)
        if not len(changed):
            return
        merged = state.merge(kept.view, [base, state.lift(kept.view, events, len(at))])
        if len(changed) < len(at):
            merged, ends = state.take(kept.view, merged, changed), _take_ends(ends, changed, len(at))
        blobs = codec.encode(kept.view, merged, raised(ends, len(changed), self._span))
        self._note(kept, at[changed].tolist(), blobs, merged.newest_us)

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


def _of_entities(view: Seen, chosen: Ints) -> tuple[Events, Ints]:
    """The events of the chosen entities, renumbered in that order, and their offsets."""
    if len(chosen) == len(view.ids):
        return view.events, view.offsets
    renumbered = np.full(len(view.ids), -1, np.int64)
    renumbered[chosen] = np.arange(len(chosen))
    rows = np.flatnonzero(renumbered[view.events.entity] >= 0)
    events = view.events.take(rows)
    return (
        Events(renumbered[events.entity], events.ts, events.masks, events.operands, events.row),
        view.offsets[rows],
    )


def covered_ends(kept: Kept, ends: codec.Ends, count: int, partition: int) -> Ints:
    """Where each state's knowledge of the partition ends; a missing state is the empty one at the floor."""
    covered = np.full(count, kept.floor(partition), np.int64)
    here = ends.partition == partition
    covered[ends.state[here]] = np.maximum(covered[ends.state[here]], ends.end[here])
    return covered


def raised(ends: codec.Ends, count: int, span: Span) -> codec.Ends:
    """The headers of `count` states that have all taken in the batch."""
    others = ends.partition != span.partition
    mine = np.full(count, span.end, np.int64)
    here = ~others
    mine[ends.state[here]] = np.maximum(ends.end[here], span.end)
    state_, partition, end = (
        np.concatenate([ends.state[others], np.arange(count)]),
        np.concatenate([ends.partition[others], np.full(count, span.partition)]),
        np.concatenate([ends.end[others], mine]),
    )
    order = np.lexsort((partition, state_))
    return codec.Ends(state_[order], partition[order], end[order])


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
    for write, held, taken in zip(writes, before, applied, strict=True):
        if taken:
            blobs = tuple(
                write.blobs.get(field, old) for field, old in zip(resident.fields, held.blobs, strict=True)
            )
            resident.remember(write.id, Held(write.version, blobs))
        else:
            resident.forget(write.id)
    return applied

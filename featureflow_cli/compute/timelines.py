"""Events in order of (entity, time), and ranges of positions among them: where training looks things up."""

from dataclasses import dataclass

import numpy as np

from featureflow_cli.compute.codes import Bools, Coded, Ints
from featureflow_cli.compute.events import Events


@dataclass(frozen=True)
class Moments:
    """What is asked: an entity (index into the events' entities; -1: none) and a read time per row."""

    entity: Ints
    t_us: Ints


Part = tuple[Events, Coded | None, Ints | None]
"""Events that a side takes, its operand, and how many of them stand before each position of all events."""


class Timeline:
    """Events sorted by (entity, time) with positions of bounds. `events` may come in any order."""

    def __init__(self, events: Events) -> None:
        count = len(events.ts)
        self._origin = int(events.ts.min()) if count else 0
        span = int(events.ts.max()) - self._origin + 2 if count else 2
        entities = int(events.entity.max()) + 1 if count else 1
        # The span of five years in microseconds times 58,000 entities passes int64: then times are ranked.
        self._ranked = None if span * (entities + 1) < 2**62 else np.unique(events.ts)
        self._span = span if self._ranked is None else len(self._ranked) + 2
        keys = events.entity * self._span + self._places(events.ts)
        order = None if (keys[1:] >= keys[:-1]).all() else np.argsort(keys, kind="stable")
        self.events = events if order is None else events.take(order)
        self._keys = keys if order is None else keys[order]
        self._parts: dict[tuple[int | None, int | None], Part] = {}

    def before(self, entity: Ints, bound_us: Ints) -> Ints:
        """How many events stand before (entity, bound): the position of the entity's first event >= bound."""
        bounds = entity * self._span + self._places(bound_us)
        if (bounds[1:] >= bounds[:-1]).all():
            return np.asarray(np.searchsorted(self._keys, bounds), np.int64)
        # In order of the bounds the search walks the keys once; at random each step is a cache miss.
        order = np.argsort(bounds)
        found = np.empty(len(bounds), np.int64)
        found[order] = np.searchsorted(self._keys, bounds[order])
        return found

    def taken(self, mask: int | None, operand: int | None) -> "Part":
        """The events that a side takes: of that mask, and with that operand; None of positions where it is all."""
        if (mask, operand) not in self._parts:
            self._parts[mask, operand] = self._take(mask, operand)
        return self._parts[mask, operand]

    def _take(self, mask: int | None, operand: int | None) -> "Part":
        events = self.events
        coded = None if operand is None else events.operands[operand]
        chosen = np.ones(len(events.ts), np.bool_) if mask is None else events.masks[mask]
        if coded is not None:
            chosen = chosen & coded.valid
        if chosen.all():
            return events, coded, None
        rows = np.flatnonzero(chosen)
        kept = Events(events.entity[rows], events.ts[rows], (), ())
        return kept, None if coded is None else coded.take(rows), np.concatenate([[0], np.cumsum(chosen)])

    def _places(self, ts: Ints) -> Ints:
        if self._ranked is not None:
            return np.asarray(np.searchsorted(self._ranked, ts), np.int64)
        return np.asarray(np.clip(ts, self._origin, None) - self._origin, np.int64).clip(None, self._span - 1)


@dataclass(frozen=True)
class Taken:
    """The events that a side takes, still in order, and each row's range [low, high) among them."""

    events: Events
    operand: Coded | None
    low: Ints
    high: Ints

    @property
    def held(self) -> Bools:
        return self.high > self.low

"""Evaluate events at many moments at once: training's way to `value(events, T)`.

Events stand sorted by (entity, time), so a window of one entity read at T is a range of positions, found by
binary search. What is subtractable is a difference of running totals; the rest climbs a segment tree or walks a
wavelet matrix. Nothing is quadratic in an entity's events, and nothing is a per-row loop. The partials that come
out are finalized by the code that finalizes an online read (compute/answering.py).
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from featureflow_cli.compute import segments
from featureflow_cli.compute.answering import Answer, answer
from featureflow_cli.compute.codes import Bools, Coded, Doubles, Ints, limbs, numbers, uncode
from featureflow_cli.compute.events import Events
from featureflow_cli.compute.hashing import key_hash
from featureflow_cli.compute.partials import Keyed, Listed, Partials, Scalars
from featureflow_cli.compute.percentiles import bucket
from featureflow_cli.compute.reading import Read, is_present, window_starts
from featureflow_cli.compute.rowtext import columns_of_rows
from featureflow_cli.compute.state import NEVER_US
from featureflow_cli.compute.views import Feature, Side, View
from featureflow_cli.compute.wavelets import nth_smallest, sum_at_least
from featureflow_cli.spec.types import ColumnType

_EXPANDED_AT_ONCE = 4_000_000
"""Range entries that a keyed aggregation spells out at a time: bounds its memory, not its answer."""


@dataclass(frozen=True)
class Moments:
    """What is asked: an entity (index into the events' entities; -1: none) and a read time per row."""

    entity: Ints
    t_us: Ints


_Part = tuple[Events, Coded | None, Ints | None]
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
        self._parts: dict[tuple[int | None, int | None], _Part] = {}

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

    def taken(self, mask: int | None, operand: int | None) -> "_Part":
        """The events that a side takes: of that mask, and with that operand; None of positions where it is all."""
        if (mask, operand) not in self._parts:
            self._parts[mask, operand] = self._take(mask, operand)
        return self._parts[mask, operand]

    def _take(self, mask: int | None, operand: int | None) -> "_Part":
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
class _Taken:
    """The events that a side takes, still in order, and each row's range [low, high) among them."""

    events: Events
    operand: Coded | None
    low: Ints
    high: Ints

    @property
    def held(self) -> Bools:
        return self.high > self.low


def read(view: View, timeline: Timeline, asked: Moments, only: frozenset[str] | None = None) -> Read:
    """Every feature (or those in `only`) of each row at its moment; ranks are left to `evaluate/ranks.py`."""
    high = timeline.before(asked.entity, asked.t_us)
    first = timeline.before(asked.entity, np.full(len(high), -(2**62)))
    newest = np.full(len(high), NEVER_US, np.int64)
    known = (high > first) & (asked.entity >= 0)
    newest[known] = timeline.events.ts[high[known] - 1]
    present = is_present(view, newest, asked.t_us)
    if view.latest:
        return _latest(view, timeline, newest, present, high)
    answers: dict[str, Answer] = {}
    lows: dict[tuple[int | None, int], Ints] = {}
    for feature in view.features:
        if feature.aggregation == "rank" or (only is not None and feature.name not in only):
            continue
        horizon = (feature.window.width_us, feature.window.resolution_us)
        if horizon not in lows:
            lows[horizon] = timeline.before(asked.entity, window_starts(feature, asked.t_us))
        found = partials(view, feature, timeline, lows[horizon], high)
        texts = side_texts(timeline, feature.sides[0])
        answers[feature.name] = answer(view, feature, found, asked.t_us, present, texts)
    return Read(answers, present, newest)


def side_texts(timeline: Timeline, side: Side) -> object:
    from featureflow_cli.compute.codes import NO_TEXTS

    return NO_TEXTS if side.operand is None else timeline.events.operands[side.operand].texts


def partials(view: View, feature: Feature, timeline: Timeline, low: Ints, high: Ints) -> list[Partials]:
    """The partials of each side of `feature` over the events at positions [low, high), one range a row."""
    with np.errstate(over="ignore", invalid="ignore"):
        return [_partials(view, feature, side, _take(timeline, side, low, high)) for side in feature.sides]


def _take(timeline: Timeline, side: Side, low: Ints, high: Ints) -> _Taken:
    events, operand, before = timeline.taken(side.mask, side.operand)
    if before is None:
        return _Taken(events, operand, low, high)
    return _Taken(events, operand, before[low], before[high])


def _partials(view: View, feature: Feature, side: Side, taken: _Taken) -> Partials:
    operand_type = None if side.operand is None else view.operands[side.operand].type
    name, operand = side.aggregation, taken.operand
    if name == "count" or operand is None or operand_type is None:
        return _timed(feature, name, taken)
    if name in {"sum", "mean"}:
        exact = operand_type.is_exact
        summed = (
            [_running(part, taken) for part in limbs(operand)]
            if exact
            else [_doubles(operand, operand_type, taken)]
        )
        return [_count(taken), *summed] if name == "mean" else summed
    if name in {"min", "max"}:
        return [_extreme(name, operand.codes, taken)]
    if name in {"variance", "stddev"}:
        return _moments(numbers(operand, operand_type), taken)
    if name in {"first", "last", "first_k", "last_k"}:
        return _listed(name.startswith("last"), feature.k or 1, operand, taken)
    if name.startswith("decayed"):
        return _decayed(
            numbers(operand, operand_type) if name.endswith("sum") else np.ones(len(operand.codes)),
            feature,
            taken,
        )
    if name == "percentile":
        return _percentile(feature, bucket(numbers(operand, operand_type)).astype(np.int64), taken)
    if name == "top_k":
        return _top_k(feature, operand, taken)
    return _hashed(name, feature, operand, operand_type, taken)


# --- subtractable, and at the ends


def _count(taken: _Taken) -> Scalars:
    return Scalars(taken.high - taken.low, taken.held)


def _running(values: Ints, taken: _Taken) -> Scalars:
    """Sums as differences of running totals: exact, for int64 wraps around and back."""
    total = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    return Scalars(total[taken.high] - total[taken.low], taken.held)


def _timed(feature: Feature, name: str, taken: _Taken) -> Partials:
    if name == "decayed_count":
        return _decayed(np.ones(len(taken.events.ts)), feature, taken)
    if name == "count":
        return [_count(taken)]
    value = np.zeros(len(taken.low), np.int64)
    held = taken.held
    value[held] = taken.events.ts[(taken.high - 1 if name == "time_since_last" else taken.low)[held]]
    return [Scalars(value, held)]


def _decayed(values: Doubles, feature: Feature, taken: _Taken) -> Keyed:
    """Sums decayed to each event, by doubling spans; only the last event before T is asked for."""
    total, ts, entity = values.copy(), taken.events.ts, taken.events.entity
    span = 1
    while span < len(total) and (entity[span:] == entity[:-span]).any():
        own = entity[span:] == entity[:-span]
        age = np.where(own, ts[span:] - ts[:-span], 0)
        total[span:] += np.where(own, total[:-span] * np.exp2(-age / feature.half_life_us), 0.0)
        span *= 2
    rows = np.flatnonzero(taken.held)
    at = taken.high[rows] - 1
    return Keyed(rows, ts[at], (total[at].view(np.int64),))


def _listed(newest: bool, k: int, operand: Coded, taken: _Taken) -> Listed:
    """The k events at an end of each range; ties of time stand in the order of their values."""
    order = np.lexsort((operand.codes, taken.events.ts, taken.events.entity))
    ts, codes = taken.events.ts[order], operand.codes[order]
    lengths = np.minimum(taken.high - taken.low, k)
    row = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    at = taken.high[row] - 1 - place if newest else taken.low[row] + place
    return Listed(row, ts[at], codes[at])


# --- not subtractable


def _doubles(operand: Coded, operand_type: object, taken: _Taken) -> Scalars:
    from featureflow_cli.compute.codes import code_doubles

    (total,) = segments.merge_ranges(
        (code_doubles(operand.codes),), (0.0,), taken.low, taken.high, segments.add
    )
    return Scalars(total.view(np.int64), taken.held)


def _extreme(name: str, codes: Ints, taken: _Taken) -> Scalars:
    limits = np.iinfo(np.int64)
    identity, combine = (limits.max, segments.smaller) if name == "min" else (limits.min, segments.larger)
    (value,) = segments.merge_ranges((codes,), (identity,), taken.low, taken.high, combine)
    return Scalars(np.where(taken.held, value, 0), taken.held)


def _moments(values: Doubles, taken: _Taken) -> Partials:
    leaves = (np.ones(len(values), np.int64), values, np.zeros(len(values)))
    count, mean, squares = segments.merge_ranges(
        leaves, (0, 0.0, 0.0), taken.low, taken.high, segments.moments
    )
    return [Scalars(part, taken.held) for part in (count, mean.view(np.int64), squares.view(np.int64))]


# --- keyed


def _percentile(feature: Feature, buckets: Ints, taken: _Taken) -> Keyed:
    """The one bucket that answers, as a range with that bucket alone."""
    rows = np.flatnonzero(taken.held)
    share = Fraction(repr(feature.p))
    low, high = taken.low[rows], taken.high[rows]
    nth = -(-share.numerator * (high - low) // share.denominator) - 1
    lowest = int(buckets.min()) if len(buckets) else 0
    found = nth_smallest(buckets - lowest, low, high, nth) + lowest
    return Keyed(rows, found, (np.ones(len(rows), np.int64),))


def _previous(entity: Ints, keys: Ints) -> Ints:
    """Position + 1 of the entity's previous event with the same key; 0 where there is none."""
    order = np.lexsort((keys, entity))
    same = (entity[order][1:] == entity[order][:-1]) & (keys[order][1:] == keys[order][:-1])
    previous = np.zeros(len(keys), np.int64)
    previous[order[1:]] = np.where(same, order[:-1] + 1, 0)
    return previous


def _seen_before(previous: Ints, weights: Ints, taken: _Taken) -> Ints:
    """A range's sum of `weights` over the events whose `previous` one lies in the range as well.

    A range that begins with its entity needs no search: there every previous event lies in the range.
    """
    total = np.concatenate([[0], np.cumsum(np.where(previous > 0, weights, 0))])
    summed: Ints = total[taken.high] - total[taken.low]
    entity, low = taken.events.entity, taken.low
    cut = taken.held & (low > 0)
    cut[cut] = entity[low[cut] - 1] == entity[low[cut]]
    rows = np.flatnonzero(cut)
    if len(rows):
        low, high = taken.low[rows], taken.high[rows]
        summed[rows] = sum_at_least(previous, weights, low, high, low + 1)
    return summed


def _distinct(previous: Ints, taken: _Taken) -> Ints:
    """Distinct keys a range: events whose key was not seen in the range before."""
    return (taken.high - taken.low) - _seen_before(previous, np.ones(len(previous), np.int64), taken)


def _too_many(previous: Ints, taken: _Taken, limit: int) -> Bools:
    """Which ranges hold more than `limit` distinct keys; most hold fewer events than that."""
    rows = np.flatnonzero(taken.high - taken.low > limit)
    found = np.zeros(len(taken.low), np.bool_)
    if len(rows):
        found[rows] = (
            _distinct(previous, _Taken(taken.events, None, taken.low[rows], taken.high[rows])) > limit
        )
    return found


def _hashed(name: str, feature: Feature, operand: Coded, operand_type: ColumnType, taken: _Taken) -> Partials:
    """Keys that are never answered: told apart by their codes; hashed only where there are too many of them."""
    previous = _previous(taken.events.entity, operand.codes)
    sampled = _too_many(previous, taken, feature.max_keys)
    plain = np.flatnonzero(taken.held & ~sampled)
    few = _Taken(taken.events, None, taken.low[plain], taken.high[plain])
    many = _sampled(operand, operand_type, taken, np.flatnonzero(sampled))
    if name == "count_distinct":
        # As many entries as there are keys; which keys they are matters to nobody below the limit.
        row = np.repeat(plain, _distinct(previous, few))
        counted = Keyed(row, np.zeros(len(row), np.int64), (np.zeros(len(row), np.int64),))
        return _joined(counted, Keyed(many.row, many.key, many.values[:1]))
    return _joined(_sessions(previous, plain, few), many)


def _sampled(operand: Coded, operand_type: ColumnType, taken: _Taken, rows: Ints) -> Keyed:
    if not len(rows):
        return _spelled(operand.codes, taken, rows, by_hash=True)
    distinct, index = np.unique(operand.codes, return_inverse=True)
    known = uncode(distinct, np.ones(len(distinct), np.bool_), operand_type, operand.texts)
    return _spelled(key_hash(known).view(np.int64)[index], taken, rows, by_hash=True)


def _sessions(previous: Ints, rows: Ints, taken: _Taken) -> Keyed:
    """One entry a range that answers as its sessions do together, and one for the rest.

    A session's length is the sum of the gaps between its neighbours, so the lengths of all sessions are the
    gaps whose both ends lie in the range; sessions of two events or more are the events with exactly one
    predecessor there. The mean is theirs: `sessions` entries of which the first has all of the length.
    """
    ts = taken.events.ts
    gap = np.where(previous > 0, ts - ts[np.maximum(previous - 1, 0)], 0)
    before_that = np.where(previous > 0, previous[np.maximum(previous - 1, 0)], 0)
    once = np.ones(len(ts), np.int64)
    length = _seen_before(previous, gap, taken)
    sessions = _seen_before(previous, once, taken) - _seen_before(before_that, once, taken)
    entries = np.maximum(sessions, 1)
    row = np.repeat(rows, entries)
    starts = np.cumsum(entries) - entries
    last = np.zeros(len(row), np.int64)
    last[starts] = length
    events = np.repeat(np.where(sessions > 0, 2, 1), entries)
    return Keyed(row, np.zeros(len(row), np.int64), (events, np.zeros(len(row), np.int64), last))


def _top_k(feature: Feature, operand: Coded, taken: _Taken) -> Keyed:
    too_many = np.zeros(len(taken.low), np.bool_)
    if (taken.high - taken.low > feature.max_keys).any():
        previous = _previous(taken.events.entity, operand.codes)
        too_many = _too_many(previous, taken, feature.max_keys)
    spelled = _spelled(operand.codes, taken, np.flatnonzero(taken.held & ~too_many), by_hash=False)
    # A range with too many keys has no answer: as many empty entries say so.
    rows = np.flatnonzero(too_many)
    row = np.repeat(rows, feature.max_keys + 1)
    excess = Keyed(row, np.zeros(len(row), np.int64), (np.zeros(len(row), np.int64),))
    return _joined(Keyed(spelled.row, spelled.key, spelled.values[:1]), excess)


def _spelled(keys: Ints, taken: _Taken, rows: Ints, *, by_hash: bool) -> Keyed:
    """(events, first, last) of every key in the ranges of `rows`, a bounded number of entries at a time."""
    parts = [_spell(keys, taken, chunk, by_hash) for chunk in _chunks(taken, rows)]
    if not parts:
        none = np.empty(0, np.int64)
        return Keyed(none, none, (none, none, none))
    return Keyed(
        np.concatenate([part.row for part in parts]),
        np.concatenate([part.key for part in parts]),
        tuple(np.concatenate([part.values[place] for part in parts]) for place in range(3)),
    )


def _chunks(taken: _Taken, rows: Ints) -> list[Ints]:
    if not len(rows):
        return []
    filled = np.cumsum(taken.high[rows] - taken.low[rows]) // _EXPANDED_AT_ONCE
    return np.split(rows, np.flatnonzero(np.diff(filled)) + 1)


def _spell(keys: Ints, taken: _Taken, rows: Ints, by_hash: bool) -> Keyed:
    lengths = taken.high[rows] - taken.low[rows]
    row = np.repeat(rows, lengths)
    at = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + taken.low[row]
    key = keys[at]
    order = np.lexsort((key.view(np.uint64) if by_hash else key, row))
    row, key, ts = row[order], key[order], taken.events.ts[at[order]]
    starts = np.flatnonzero(np.concatenate([[True], (row[1:] != row[:-1]) | (key[1:] != key[:-1])]))
    counts = np.diff(np.append(starts, len(row)))
    return Keyed(
        row[starts], key[starts], (counts, np.minimum.reduceat(ts, starts), np.maximum.reduceat(ts, starts))
    )


def _joined(left: Keyed, right: Keyed) -> Keyed:
    """Both, sorted by row; no row stands in both."""
    row = np.concatenate([left.row, right.row])
    order = np.argsort(row, kind="stable")
    values = tuple(np.concatenate(pair)[order] for pair in zip(left.values, right.values, strict=True))
    return Keyed(row[order], np.concatenate([left.key, right.key])[order], values)


# --- latest rows


def _latest(view: View, timeline: Timeline, newest: Ints, present: Bools, high: Ints) -> Read:
    """The greatest row by (timestamp, state text) before T is the last one, once ties are in order."""
    import pyarrow as pa

    events = timeline.events
    assert events.row is not None
    order = np.lexsort((events.row.codes, events.ts, events.entity))
    codes = events.row.codes[order]
    chosen = np.where(present, codes[np.maximum(high - 1, 0)] if len(codes) else 0, 0)
    texts = (
        events.row.texts.take(pa.array(chosen, mask=~present))
        if len(codes)
        else pa.nulls(len(high), pa.string())
    )
    columns, deleted = columns_of_rows(view, texts)
    answers = {}
    for (name, _), column in zip(view.latest, columns, strict=True):
        answers[name] = Answer(_where(present & ~deleted, column))
    return Read(answers, present & ~deleted, newest)


def _where(present: Bools, column: object) -> object:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pa.array(present), column, pa.scalar(None, column.type))  # type: ignore[attr-defined]

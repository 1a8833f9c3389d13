"""Keyed aggregations over ranges: percentiles, distinct keys, sessions, the most frequent ones.

Distinct keys and sessions are questions about each event's previous event with the same key, answered by a
wavelet matrix; keys are spelled out only where they are answered or sampled, a bounded number at a time.
"""

from fractions import Fraction

import numpy as np

from featureflow_cli.compute.codes import Bools, Coded, Ints, uncode
from featureflow_cli.compute.hashing import key_hash
from featureflow_cli.compute.partials import Keyed, Partials
from featureflow_cli.compute.timelines import Taken
from featureflow_cli.compute.views import Feature
from featureflow_cli.compute.wavelets import nth_smallest, sum_at_least
from featureflow_cli.spec.types import ColumnType

_EXPANDED_AT_ONCE = 4_000_000
"""Range entries that a keyed aggregation spells out at a time: bounds its memory, not its answer."""


def percentile(feature: Feature, buckets: Ints, taken: Taken) -> Keyed:
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


def _seen_before(previous: Ints, weights: Ints, taken: Taken) -> Ints:
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


def _distinct(previous: Ints, taken: Taken) -> Ints:
    """Distinct keys a range: events whose key was not seen in the range before."""
    return (taken.high - taken.low) - _seen_before(previous, np.ones(len(previous), np.int64), taken)


def _too_many(previous: Ints, taken: Taken, limit: int) -> Bools:
    """Which ranges hold more than `limit` distinct keys; most hold fewer events than that."""
    rows = np.flatnonzero(taken.high - taken.low > limit)
    found = np.zeros(len(taken.low), np.bool_)
    if len(rows):
        found[rows] = (
            _distinct(previous, Taken(taken.events, None, taken.low[rows], taken.high[rows])) > limit
        )
    return found


def hashed(name: str, feature: Feature, operand: Coded, operand_type: ColumnType, taken: Taken) -> Partials:
    """Keys that are never answered: told apart by their codes; hashed only where there are too many of them."""
    previous = _previous(taken.events.entity, operand.codes)
    sampled = _too_many(previous, taken, feature.max_keys)
    plain = np.flatnonzero(taken.held & ~sampled)
    few = Taken(taken.events, None, taken.low[plain], taken.high[plain])
    many = _sampled(operand, operand_type, taken, np.flatnonzero(sampled))
    if name == "count_distinct":
        # As many entries as there are keys; which keys they are matters to nobody below the limit.
        row = np.repeat(plain, _distinct(previous, few))
        counted = Keyed(row, np.zeros(len(row), np.int64), (np.zeros(len(row), np.int64),))
        return _joined(counted, Keyed(many.row, many.key, many.values[:1]))
    return _joined(_sessions(previous, plain, few), many)


def _sampled(operand: Coded, operand_type: ColumnType, taken: Taken, rows: Ints) -> Keyed:
    if not len(rows):
        return _spelled(operand.codes, taken, rows, by_hash=True)
    distinct, index = np.unique(operand.codes, return_inverse=True)
    known = uncode(distinct, np.ones(len(distinct), np.bool_), operand_type, operand.texts)
    return _spelled(key_hash(known).view(np.int64)[index], taken, rows, by_hash=True)


def _sessions(previous: Ints, rows: Ints, taken: Taken) -> Keyed:
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


def top_k(feature: Feature, operand: Coded, taken: Taken) -> Keyed:
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


def _spelled(keys: Ints, taken: Taken, rows: Ints, *, by_hash: bool) -> Keyed:
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


def _chunks(taken: Taken, rows: Ints) -> list[Ints]:
    if not len(rows):
        return []
    filled = np.cumsum(taken.high[rows] - taken.low[rows]) // _EXPANDED_AT_ONCE
    return np.split(rows, np.flatnonzero(np.diff(filled)) + 1)


def _spell(keys: Ints, taken: Taken, rows: Ints, by_hash: bool) -> Keyed:
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

"""Evaluate events at many moments at once: training's way to `value(events, T)`.

Events stand sorted by (entity, time), so a window of one entity read at T is a range of positions, found by
binary search. What is subtractable is a difference of running totals; the rest climbs a segment tree or walks a
wavelet matrix. Nothing is quadratic in an entity's events, and nothing is a per-row loop. The partials that come
out are finalized by the code that finalizes an online read (compute/answering.py).
"""

import numpy as np

from featureflow_cli.compute import segments
from featureflow_cli.compute.answering import Answer, answer
from featureflow_cli.compute.codes import Bools, Coded, Doubles, Ints, limbs, numbers
from featureflow_cli.compute.partials import Keyed, Listed, Partials, Scalars
from featureflow_cli.compute.percentiles import bucket
from featureflow_cli.compute.range_keys import hashed, percentile, top_k
from featureflow_cli.compute.reading import Read, is_present, window_starts
from featureflow_cli.compute.rowtext import columns_of_rows
from featureflow_cli.compute.state import NEVER_US
from featureflow_cli.compute.timelines import Moments, Taken, Timeline
from featureflow_cli.compute.views import Feature, Side, View


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


def _take(timeline: Timeline, side: Side, low: Ints, high: Ints) -> Taken:
    events, operand, before = timeline.taken(side.mask, side.operand)
    if before is None:
        return Taken(events, operand, low, high)
    return Taken(events, operand, before[low], before[high])


def _partials(view: View, feature: Feature, side: Side, taken: Taken) -> Partials:
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
        return percentile(feature, bucket(numbers(operand, operand_type)).astype(np.int64), taken)
    if name == "top_k":
        return top_k(feature, operand, taken)
    return hashed(name, feature, operand, operand_type, taken)


# --- subtractable, and at the ends


def _count(taken: Taken) -> Scalars:
    return Scalars(taken.high - taken.low, taken.held)


def _running(values: Ints, taken: Taken) -> Scalars:
    """Sums as differences of running totals: exact, for int64 wraps around and back."""
    total = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    return Scalars(total[taken.high] - total[taken.low], taken.held)


def _timed(feature: Feature, name: str, taken: Taken) -> Partials:
    if name == "decayed_count":
        return _decayed(np.ones(len(taken.events.ts)), feature, taken)
    if name == "count":
        return [_count(taken)]
    value = np.zeros(len(taken.low), np.int64)
    held = taken.held
    value[held] = taken.events.ts[(taken.high - 1 if name == "time_since_last" else taken.low)[held]]
    return [Scalars(value, held)]


def _decayed(values: Doubles, feature: Feature, taken: Taken) -> Keyed:
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


def _listed(newest: bool, k: int, operand: Coded, taken: Taken) -> Listed:
    """The k events at an end of each range; ties of time stand in the order of their values."""
    order = np.lexsort((operand.codes, taken.events.ts, taken.events.entity))
    ts, codes = taken.events.ts[order], operand.codes[order]
    lengths = np.minimum(taken.high - taken.low, k)
    row = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    at = taken.high[row] - 1 - place if newest else taken.low[row] + place
    return Listed(row, ts[at], codes[at])


# --- not subtractable


def _doubles(operand: Coded, operand_type: object, taken: Taken) -> Scalars:
    from featureflow_cli.compute.codes import code_doubles

    (total,) = segments.merge_ranges(
        (code_doubles(operand.codes),), (0.0,), taken.low, taken.high, segments.add
    )
    return Scalars(total.view(np.int64), taken.held)


def _extreme(name: str, codes: Ints, taken: Taken) -> Scalars:
    limits = np.iinfo(np.int64)
    identity, combine = (limits.max, segments.smaller) if name == "min" else (limits.min, segments.larger)
    (value,) = segments.merge_ranges((codes,), (identity,), taken.low, taken.high, combine)
    return Scalars(np.where(taken.held, value, 0), taken.held)


def _moments(values: Doubles, taken: Taken) -> Partials:
    leaves = (np.ones(len(values), np.int64), values, np.zeros(len(values)))
    count, mean, squares = segments.merge_ranges(
        leaves, (0, 0.0, 0.0), taken.low, taken.high, segments.moments
    )
    return [Scalars(part, taken.held) for part in (count, mean.view(np.int64), squares.view(np.int64))]


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

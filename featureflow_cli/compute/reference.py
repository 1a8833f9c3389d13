"""What a feature value is: the brute-force definition (design.md section 1), over a plain list of events.

Every fast path is held to this by property tests. It is written to be obviously right, clause by clause, and
shares nothing with the vectorised code but the rules of windows, percentile buckets and key hashes. An event
is one row of a source: its columns by name. Numbers are exact (int, Decimal, Fraction) until they leave.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

from featureflow_cli.compute.hashing import MAX_TEXT_BYTES
from featureflow_cli.compute.reference_aggregations import (
    OVER_SOMETHING,
    NoAnswerError,
    Taken,
    double_of,
    finite,
    over_nothing,
    total_of,
)
from featureflow_cli.compute.rows import compile_row
from featureflow_cli.compute.rowtext import row_text
from featureflow_cli.compute.views import Feature, Side, Source, View
from featureflow_cli.compute.windows import BEGINNING_US, grid_point
from featureflow_cli.spec.expressions import Expr
from featureflow_cli.spec.types import Value

Event = Mapping[str, Value]
EntityKey = tuple[Value, ...]
Entities = Mapping[EntityKey, Sequence[Event]]


@dataclass(frozen=True)
class Answer:
    """One entity of one view at one moment: `status` is `present`, or `absent` (then every value is null)."""

    status: str
    values: dict[str, Value]
    reasons: dict[str, str] = field(default_factory=dict)


def value(view: View, feature_name: str, events: Sequence[Event], entity_key: EntityKey, t_us: int) -> Value:
    """One feature of one entity at `t_us`; `events` are those of the view's source, in any order."""
    return answer(view, events, entity_key, t_us).values[feature_name]


def answer(view: View, events: Sequence[Event], entity_key: EntityKey, t_us: int) -> Answer:
    """All features of one entity at `t_us`."""
    return answer_of(view, entities(view, events), entity_key, t_us)


def entities(view: View, events: Sequence[Event]) -> Entities:
    """The view's own events (a join key that is null is no entity's; the view's `where` holds), by entity."""
    grouped: dict[EntityKey, list[Event]] = defaultdict(list)
    for event in events:
        key = tuple(event[join_key.column] for join_key in view.join_keys)
        if all(part is not None for part in key) and (view.where is None or evaluate(view.where, event)):
            grouped[key].append(event)
    return grouped


def answer_of(view: View, known: Entities, entity_key: EntityKey, t_us: int) -> Answer:
    """The same from what `entities` grouped: for whoever asks often."""
    absent = Answer("absent", {name: None for name, _ in view.outputs})
    start_us = min((window.start(t_us) for window in view.presence), default=BEGINNING_US)
    seen = [event for event in known.get(entity_key, ()) if start_us <= time_us(view.source, event) < t_us]
    if not seen:
        return absent
    if view.latest:
        newest = max(seen, key=lambda event: _age(view, event))
        if _is_deleted(view, newest):
            return absent
        return Answer("present", {name: finite(newest[name]) for name, _ in view.latest})
    values: dict[str, Value] = {}
    reasons: dict[str, str] = {}
    for feature in view.features:
        try:
            values[feature.name] = _feature(view, feature, known, entity_key, t_us)
        except NoAnswerError as why:
            values[feature.name], reasons[feature.name] = None, str(why)
    return Answer("present", values, reasons)


# --- which events (1.2, 1.3, 1.8, 1.10, 1.16)


def taken(view: View, side: Side, events: Sequence[Event], start_us: int, end_us: int) -> Taken:
    """What `side` takes of the events in [start, end): no null, no NaN, no text that is too long to keep."""
    found: Taken = []
    for event in events:
        if not start_us <= time_us(view.source, event) < end_us:
            continue
        if side.mask is not None and not evaluate(view.masks[side.mask], event):
            continue
        operand = True if side.operand is None else finite(evaluate(view.operands[side.operand], event))
        is_long = isinstance(operand, str) and len(operand.encode()) > MAX_TEXT_BYTES
        if operand is not None and not (is_long and side.aggregation not in {"count", "decayed_count"}):
            found.append((time_us(view.source, event), operand))
    return sorted(found)


def _age(view: View, event: Event) -> tuple[Value, ...]:
    """Orders rows: timestamp, created_timestamp (null before all others), the row's canonical text."""
    made = None if view.source.created_timestamp is None else event[view.source.created_timestamp]
    text = row_text([event[name] for name, _ in view.latest], _is_deleted(view, event))
    return time_us(view.source, event), made is not None, made or 0, text


def _is_deleted(view: View, event: Event) -> bool:
    return view.deleted is not None and bool(evaluate(view.deleted, event))


# --- one feature


def _feature(view: View, feature: Feature, known: Entities, entity_key: EntityKey, t_us: int) -> Value:
    if feature.aggregation == "rank":
        return _rank(view, feature, known, entity_key, t_us)
    start_us = feature.window.start(t_us)
    sides = [taken(view, side, known[entity_key], start_us, t_us) for side in feature.sides]
    if feature.aggregation == "ratio":
        above, below = (
            total_of(each) if side.aggregation == "sum" else Fraction(len(each))
            for side, each in zip(feature.sides, sides, strict=True)
        )
        return double_of(above / below) if below else feature.default
    if not sides[0]:
        return over_nothing(feature)
    return OVER_SOMETHING[feature.aggregation](feature, sides[0], t_us)


# --- across entities (1.14)


def _rank(view: View, feature: Feature, known: Entities, entity_key: EntityKey, t_us: int) -> Value:
    grid_us = grid_point(t_us, feature.refresh_us)
    of = next(each for each in view.features if each.name == feature.of)
    start_us = of.window.start(grid_us)
    members = [
        key
        for key, events in known.items()
        if any(taken(view, side, events, start_us, grid_us) for side in of.sides)
    ]
    if entity_key not in members:
        return feature.default
    population: dict[EntityKey, Fraction] = {}
    for key in members:
        with suppress(NoAnswerError):
            ranked: Any = _feature(view, of, known, key, grid_us)
            population |= {} if ranked is None else {key: Fraction(ranked)}
    if entity_key not in population:
        return None
    own, greatest = population[entity_key], max(population.values())
    if feature.method == "share_of_max":
        return double_of(own / greatest) if greatest > 0 else None
    below = sum(other < own for other in population.values())
    return double_of(Fraction(below, max(len(population) - 1, 1)))


# --- events


@cache
def _compiled(expr: Expr) -> Callable[[Event], Value]:
    return compile_row(expr)


def evaluate(expr: Expr, event: Event) -> Value:
    """What `expr` answers for one event (1.15)."""
    return _compiled(expr)(event)


def time_us(source: Source, event: Event) -> int:
    """The event's own time, in microseconds."""
    at = event[source.timestamp_field]
    assert isinstance(at, int)
    return at

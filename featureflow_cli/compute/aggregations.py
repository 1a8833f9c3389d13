"""The table of aggregations: what each takes, keeps and answers (design.md section 2). Adding one touches this file.

An aggregation is data: the partial columns that it keeps (`partials`), the type of its answer (`result`), and
`finalize`, which turns merged partials into values. How columns are merged is `compute/state.py`'s, by kind.
All answers follow SQL's rules for nothing (design.md 1.8): `finalize` says which rows had nothing (`empty`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from featureflow_cli.compute.codes import (
    LIMB_BITS,
    Bools,
    Doubles,
    Ints,
    carry,
    decimals,
    limb_doubles,
    uncode,
)
from featureflow_cli.compute.partials import (
    NO_REASON,
    OVERFLOW,
    TOO_MANY_KEYS,
    Keyed,
    Listed,
    Partials,
    Scalars,
)
from featureflow_cli.compute.percentiles import midpoint
from featureflow_cli.compute.views import Feature, Key, Lift, Merge
from featureflow_cli.spec.types import (
    DOUBLE,
    INT64,
    MAX_PRECISION,
    ColumnType,
    arrow_type,
    decimal_type,
)


@dataclass(frozen=True)
class Partial:
    """One state column of an aggregation, before it is bound to a view's mask and operand."""

    merge: Merge
    lift: Lift
    key: Key = Key.NONE
    is_tiled: bool = True


@dataclass(frozen=True)
class Asked:
    """What a `finalize` may know besides the partials: the rows' read times and the texts of text codes."""

    feature: Feature
    operand: ColumnType | None
    t_us: Ints
    texts: Any

    @property
    def rows(self) -> int:
        return len(self.t_us)


@dataclass(frozen=True)
class Finalized:
    """`values`: one a row, Arrow; `empty`: rows over nothing, where `default` answers; `reason`: why null."""

    values: Any
    empty: Bools
    reason: Ints | None = None


@dataclass(frozen=True)
class Aggregation:
    name: str
    takes: (
        str  # "anything" | "scalar" | "number" | "ordered" (numbers, dates, timestamps) | "key" | "nothing"
    )
    result: Callable[[ColumnType | None], ColumnType]
    partials: Callable[[ColumnType | None], tuple[Partial, ...]]
    finalize: Callable[[Any, Asked], Finalized]
    in_ranks: bool = False  # may be the `of` of a rank

    def accepts(self, operand: ColumnType | None) -> bool:
        if operand is None:
            return self.takes in {"anything", "nothing"}
        return (
            operand.element is None
            and {
                "anything": True,
                "scalar": True,
                "key": True,
                "nothing": False,
                "number": operand.is_number,
                "ordered": operand.is_number or operand.name in {"timestamp", "date"},
            }[self.takes]
        )


def decayed(name: str) -> Aggregation:
    """The exponentially decayed form of `count` or `sum` (where the feature has a `half_life`)."""
    lift = Lift.ONE if name == "count" else Lift.DOUBLE
    takes = "anything" if name == "count" else "number"
    partial = Partial(Merge.DECAY, lift, Key.TIME, is_tiled=False)
    return Aggregation(f"decayed_{name}", takes, lambda _: DOUBLE, lambda _: (partial,), _decay)


# --- exact sums: 32-bit limbs


def _sum_partials(operand: ColumnType | None) -> tuple[Partial, ...]:
    assert operand is not None
    if not operand.is_exact:
        return (Partial(Merge.FSUM, Lift.DOUBLE),)
    lifts = [Lift.LIMB_0, Lift.LIMB_1, Lift.LIMB_2, Lift.LIMB_3][: 4 if operand.is_wide else 2]
    return tuple(Partial(Merge.SUM, lift) for lift in lifts)


def _mean_partials(operand: ColumnType | None) -> tuple[Partial, ...]:
    return (Partial(Merge.SUM, Lift.ONE), *_sum_partials(operand))


def words_of(columns: list[Scalars]) -> tuple[Ints, Ints, Bools]:
    """(low word, high word, fits 128 bits) of exact sums held in limb columns, lowest first."""
    *carried, top = carry([column.value for column in columns])
    if len(columns) == 2:
        return carried[0] | (top << LIMB_BITS), top >> LIMB_BITS, np.ones(len(top), np.bool_)
    fits = (top >= -(2**31)) & (top < 2**31)
    return carried[0] | (carried[1] << LIMB_BITS), carried[2] | (top << LIMB_BITS), fits


def exact_doubles(columns: list[Scalars], operand: ColumnType) -> Doubles:
    """Exact sums as doubles."""
    return limb_doubles([column.value for column in columns]) / 10.0**operand.scale


def _sum(partials: Partials, asked: Asked) -> Finalized:
    assert isinstance(partials, list)
    assert asked.operand is not None
    held = partials[0].held
    if not asked.operand.is_exact:
        return _doubles(np.where(held, partials[0].double, 0.0), ~held)
    low, high, fits = words_of(partials)
    if asked.operand.name == "int64":
        fits = high == low >> 63
        values = pa.array(low, pa.int64(), mask=~fits)
    else:
        fits &= _within_38_digits(low, high)
        values = decimals(low.view(np.uint64), high, fits, decimal_type(MAX_PRECISION, asked.operand.scale))
    return Finalized(values, ~held, None if fits.all() else np.where(fits, NO_REASON, OVERFLOW))


def _within_38_digits(low: Ints, high: Ints) -> Bools:
    near = np.abs(high.astype(np.float64)) > 5.0e18
    within = np.ones(len(low), np.bool_)
    for row in np.flatnonzero(near):
        within[row] = abs((int(high[row]) << 64) | (int(low[row]) & (2**64 - 1))) < 10**MAX_PRECISION
    return within


def _sums_as_doubles(columns: list[Scalars], operand: ColumnType) -> Doubles:
    if operand.is_exact:
        return exact_doubles(columns, operand)
    return np.where(columns[0].held, columns[0].double, 0.0)


def _mean(partials: Partials, asked: Asked) -> Finalized:
    assert isinstance(partials, list)
    assert asked.operand is not None
    count, held = partials[0].value, partials[0].held
    return _doubles(
        _sums_as_doubles(partials[1:], asked.operand) / np.where(held, count, 1), ~held, null=~held
    )


# --- counts, extremes, moments, times


def _count(partials: Partials, asked: Asked) -> Finalized:
    assert isinstance(partials, list)
    return Finalized(pa.array(partials[0].value, pa.int64()), ~partials[0].held)


def _code(partials: Partials, asked: Asked) -> Finalized:
    assert isinstance(partials, list)
    column = partials[0]
    return Finalized(uncode(column.value, column.held, asked.feature.type, asked.texts), ~column.held)


def _variance(partials: Partials, asked: Asked) -> Finalized:
    assert isinstance(partials, list)
    count, squares = partials[0].value, partials[2].double
    return _doubles(squares / np.maximum(count - 1, 1), ~partials[0].held, null=count < 2)


def _stddev(partials: Partials, asked: Asked) -> Finalized:
    assert isinstance(partials, list)
    count, squares = partials[0].value, partials[2].double
    return _doubles(np.sqrt(squares / np.maximum(count - 1, 1)), ~partials[0].held, null=count < 2)


def _time_since(partials: Partials, asked: Asked) -> Finalized:
    assert isinstance(partials, list)
    column = partials[0]
    since = (asked.t_us - np.where(column.held, column.value, asked.t_us)) / asked.feature.unit_us
    return _doubles(since, ~column.held, null=~column.held)


def _decay(partials: Partials, asked: Asked) -> Finalized:
    assert isinstance(partials, Keyed)
    value, held = np.zeros(asked.rows), np.zeros(asked.rows, np.bool_)
    age = asked.t_us[partials.row] - partials.key
    value[partials.row] = partials.values[0].view(np.float64) * np.exp2(-age / asked.feature.half_life_us)
    held[partials.row] = True
    return _doubles(value, ~held)


# --- lists


def _list(partials: Partials, asked: Asked) -> Finalized:
    assert isinstance(partials, Listed)
    counts = np.bincount(partials.row, minlength=asked.rows)
    return Finalized(_lists(partials.value, counts, asked), counts == 0)


def _newest(partials: Partials, asked: Asked) -> Finalized:
    assert isinstance(partials, Listed)
    value, held = np.zeros(asked.rows, np.int64), np.zeros(asked.rows, np.bool_)
    value[partials.row], held[partials.row] = partials.value, True
    return Finalized(uncode(value, held, asked.feature.type, asked.texts), ~held)


def _lists(codes: Ints, counts: Ints, asked: Asked) -> Any:
    element = asked.feature.type.element
    assert element is not None
    flat = uncode(codes, np.ones(len(codes), np.bool_), element, asked.texts)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), flat, mask=pa.array(counts == 0))
    return lists.cast(arrow_type(asked.feature.type))


# --- keyed


def _keys_a_row(keyed: Keyed, asked: Asked) -> Ints:
    return np.bincount(keyed.row, minlength=asked.rows)


def _place(keyed: Keyed, counts: Ints) -> Ints:
    """Each entry's position among its row's entries."""
    return np.arange(len(keyed.row)) - (np.cumsum(counts) - counts)[keyed.row]


def _count_distinct(partials: Partials, asked: Asked) -> Finalized:
    assert isinstance(partials, Keyed)
    counts, limit = _keys_a_row(partials, asked), asked.feature.max_keys
    answers = counts.copy()
    for row in np.flatnonzero(counts > limit):
        largest = int(partials.key[np.searchsorted(partials.row, row) + limit - 1].view(np.uint64))
        answers[row] = (limit - 1) * 2**64 // largest
    return Finalized(pa.array(answers, pa.int64()), counts == 0)


def _session_mean(partials: Partials, asked: Asked) -> Finalized:
    assert isinstance(partials, Keyed)
    counts = _keys_a_row(partials, asked)
    events, first, last = partials.values
    counted = (_place(partials, counts) < asked.feature.max_keys) & (events >= 2)
    sessions = np.bincount(partials.row[counted], minlength=asked.rows)
    spans = ((last - first) / asked.feature.unit_us)[counted]
    totals = np.bincount(partials.row[counted], weights=spans, minlength=asked.rows)
    return _doubles(totals / np.maximum(sessions, 1), counts == 0, null=sessions == 0)


def _top_k(partials: Partials, asked: Asked) -> Finalized:
    assert isinstance(partials, Keyed)
    counts = _keys_a_row(partials, asked)
    order = np.lexsort((partials.key, -partials.values[0], partials.row))
    ranked = Keyed(partials.row[order], partials.key[order], ())
    too_many = counts > asked.feature.max_keys
    kept = (_place(ranked, counts) < asked.feature.k) & ~too_many[ranked.row]
    answers = np.bincount(ranked.row[kept], minlength=asked.rows)
    reason = np.where(too_many, TOO_MANY_KEYS, NO_REASON) if too_many.any() else None
    return Finalized(_lists(ranked.key[kept], answers, asked), counts == 0, reason)


def _percentile(partials: Partials, asked: Asked) -> Finalized:
    assert isinstance(partials, Keyed)
    buckets = _keys_a_row(partials, asked)
    share = Fraction(repr(asked.feature.p))
    before = np.concatenate([[0], np.cumsum(partials.values[0])])
    starts = np.cumsum(buckets) - buckets
    filled = np.flatnonzero(buckets)
    base = before[starts[filled]]
    total = before[starts[filled] + buckets[filled]] - base
    rank = -(-share.numerator * total // share.denominator)
    at = np.searchsorted(before[1:], base + rank)
    values = np.zeros(asked.rows)
    values[filled] = midpoint(partials.key[at].astype(np.int32))
    return _doubles(values, buckets == 0, null=buckets == 0)


def _doubles(values: Doubles, empty: Bools, null: Bools | None = None) -> Finalized:
    """Doubles that leave the product: what is not finite is null, with the reason `overflow`."""
    finite = np.isfinite(values)
    masked = ~finite if null is None else ~finite | null
    reason = None
    if not finite.all():
        reason = np.where(finite | empty | (masked & finite), NO_REASON, OVERFLOW)
    return Finalized(pa.array(values, pa.float64(), mask=masked), empty, reason)


def _same(operand: ColumnType | None) -> ColumnType:
    assert operand is not None
    return operand


def _many(operand: ColumnType | None) -> ColumnType:
    return ColumnType("list", element=operand)


def _sum_type(operand: ColumnType | None) -> ColumnType:
    assert operand is not None
    return decimal_type(MAX_PRECISION, operand.scale) if operand.name == "decimal" else operand


def _keep(*partials: Partial) -> Callable[[ColumnType | None], tuple[Partial, ...]]:
    return lambda _: partials


_ONE = Partial(Merge.SUM, Lift.ONE)
_MOMENTS = tuple(Partial(Merge.MOMENTS, lift) for lift in (Lift.ONE, Lift.DOUBLE, Lift.ZERO))
_NEWEST = Partial(Merge.NEWEST, Lift.CODE, Key.TIME, is_tiled=False)
_OLDEST = Partial(Merge.OLDEST, Lift.CODE, Key.TIME)
_DISTINCT = Partial(Merge.MAX, Lift.TIME, Key.HASH, is_tiled=False)
_SESSION = (
    Partial(Merge.SUM, Lift.ONE, Key.HASH),
    Partial(Merge.MIN, Lift.TIME, Key.HASH),
    Partial(Merge.MAX, Lift.TIME, Key.HASH),
)
_LAST_TIME = Partial(Merge.MAX, Lift.TIME, is_tiled=False)

AGGREGATIONS: dict[str, Aggregation] = {
    aggregation.name: aggregation
    for aggregation in (
        Aggregation("count", "anything", lambda _: INT64, _keep(_ONE), _count, in_ranks=True),
        Aggregation("sum", "number", _sum_type, _sum_partials, _sum, in_ranks=True),
        Aggregation("mean", "number", lambda _: DOUBLE, _mean_partials, _mean, in_ranks=True),
        Aggregation("min", "ordered", _same, _keep(Partial(Merge.MIN, Lift.CODE)), _code, in_ranks=True),
        Aggregation("max", "ordered", _same, _keep(Partial(Merge.MAX, Lift.CODE)), _code, in_ranks=True),
        Aggregation("variance", "number", lambda _: DOUBLE, _keep(*_MOMENTS), _variance),
        Aggregation("stddev", "number", lambda _: DOUBLE, _keep(*_MOMENTS), _stddev),
        Aggregation("first", "scalar", _same, _keep(_OLDEST), _newest),
        Aggregation("last", "scalar", _same, _keep(_NEWEST), _newest),
        Aggregation("first_k", "scalar", _many, _keep(_OLDEST), _list),
        Aggregation("last_k", "scalar", _many, _keep(_NEWEST), _list),
        Aggregation("count_distinct", "key", lambda _: INT64, _keep(_DISTINCT), _count_distinct),
        Aggregation("top_k", "key", _many, _keep(Partial(Merge.SUM, Lift.ONE, Key.CODE)), _top_k),
        Aggregation(
            "percentile",
            "number",
            lambda _: DOUBLE,
            _keep(Partial(Merge.SUM, Lift.ONE, Key.BUCKET)),
            _percentile,
        ),
        Aggregation("time_since_last", "nothing", lambda _: DOUBLE, _keep(_LAST_TIME), _time_since),
        Aggregation(
            "time_since_first", "nothing", lambda _: DOUBLE, _keep(Partial(Merge.MIN, Lift.TIME)), _time_since
        ),
        Aggregation("session_mean", "key", lambda _: DOUBLE, _keep(*_SESSION), _session_mean),
        decayed("count"),
        decayed("sum"),
    )
}
"""By name. `ratio` and `rank` are made of these: `compute/answering.py`."""

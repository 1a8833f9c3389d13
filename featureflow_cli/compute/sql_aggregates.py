"""Each aggregation as one SQL expression over the events that a label has seen (design.md 1.8 to 1.13).

Plain aggregates with FILTER: what they answer over nothing, and what a default replaces, is wrapped around them.
Keyed aggregations group by label and key first; they are CTEs of their own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from featureflow_cli.compute.sql_casts import cast_sql
from featureflow_cli.compute.sql_text import bound, literal, sql_type
from featureflow_cli.compute.views import Feature, Side, View
from featureflow_cli.spec.expressions import Expr
from featureflow_cli.spec.types import DOUBLE, MAX_PRECISION, STRING, ColumnType, decimal_type
from featureflow_cli.times import format_duration

_HALF = 10**19
"""Wide decimals are summed in two halves of 19 digits: no sum of them overflows HUGEINT."""
_ZERO_OVER_NOTHING = {"count", "sum", "count_distinct", "decayed_count", "decayed_sum"}
KEYED = {"top_k", "session_mean"}


@dataclass(frozen=True)
class Taken:
    """What one side of a feature takes of the rows of a relation with `ts`, masks and operands.

    `t` is the moment of reading, `since` where the window starts (None: forever), both as SQL.
    """

    feature: Feature
    side: Side
    type: ColumnType | None
    t: str
    since: str | None

    @property
    def value(self) -> str:
        return f"x{self.side.operand}"

    @property
    def condition(self) -> str:
        """SQL that is true of the events taken; empty where all are."""
        parts = [] if self.side.mask is None else [f"m{self.side.mask}"]
        parts += [] if self.side.operand is None else [f"{self.value} IS NOT NULL"]
        parts += [] if self.since is None else [f"ts >= {self.since}"]
        return " AND ".join(parts)

    @property
    def double(self) -> str:
        assert self.type is not None
        return double_sql(self.value, self.type)

    def of(self, aggregate: str) -> str:
        """`aggregate` over the events taken."""
        return f"{aggregate} FILTER (WHERE {self.condition})" if self.condition else aggregate


def taken(view: View, feature: Feature, t: str, since: str | None) -> list[Taken]:
    """One for each side of the feature."""
    return [
        Taken(feature, side, None if side.operand is None else view.operands[side.operand].type, t, since)
        for side in feature.sides
    ]


def feature_sql(feature: Feature, sides: list[Taken]) -> str:
    """The answer of a feature that is neither keyed nor a rank, aggregated over the events of one label."""
    if feature.aggregation == "ratio":
        return _ratio(feature, *sides)
    side = sides[0]
    answer, nothing = _AGGREGATES[side.side.aggregation](side), over_nothing(feature)
    if nothing is None or (side.side.aggregation == "count" and feature.default is None):
        return answer
    return f"CASE WHEN {side.of('count(*)')} = 0 THEN {nothing} ELSE {answer} END"


def over_nothing(feature: Feature) -> str | None:
    """What is answered where no event is taken; None: null."""
    if feature.default is not None:
        return literal(feature.default, feature.type)
    return literal(0, feature.type) if feature.aggregation in _ZERO_OVER_NOTHING else None


def keyed_sql(side: Taken, relation: str) -> tuple[str, str]:
    """(SELECT of one row a label and key, SELECT of `_row, answer` over that as `{keys}`) of a keyed feature."""
    feature, where = side.feature, f" WHERE {side.condition}" if side.condition else ""
    if feature.aggregation == "top_k":
        keys = (
            f"SELECT _row, {side.value} AS key, count(*) AS events\n"
            f"  FROM {relation}{where}\n  GROUP BY _row, {side.value}"
        )
        answer = f"(list(key ORDER BY events DESC, key))[1:{feature.k}]"
        answer = f"CASE WHEN count(*) <= {feature.max_keys} THEN {answer} END"
    else:
        hashed = f"{side.value}_hash"
        keys = (
            f"SELECT _row, count(*) AS events, max(ts) - min(ts) AS span_us,\n"
            f"    row_number() OVER (PARTITION BY _row ORDER BY {hashed}) AS place\n"
            f"  FROM {relation}{where}\n  GROUP BY _row, {hashed}"
        )
        counted = f"events >= 2 AND place <= {feature.max_keys}"
        answer = f"avg(span_us) FILTER (WHERE {counted}) / {feature.unit_us}"
    return keys, f"SELECT _row, {answer} AS answer FROM {{keys}} GROUP BY _row"


def prepared_columns(view: View, wanted: list[Feature]) -> list[str]:
    """Columns that aggregates need beside the projection's: hashes of keys, halves of wide decimals."""
    columns = []
    for feature in wanted:
        for side in feature.sides:
            if side.operand is None:
                continue
            value, type = f"x{side.operand}", view.operands[side.operand].type
            if side.aggregation in {"count_distinct", "session_mean"}:
                columns.append(f"ff_xxh64({canonical_text_sql(value, type)}) AS {value}_hash")
            if side.aggregation == "sum" and type.is_wide:
                unscaled = f"CAST(replace(CAST({value} AS VARCHAR), '.', '') AS HUGEINT)"
                columns.append(f"{unscaled} // {_HALF} AS {value}_high, {unscaled} % {_HALF} AS {value}_low")
    return list(dict.fromkeys(columns))


# --- pieces


def finite(sql: str) -> str:
    """Doubles that leave: infinity and NaN are null."""
    return bound(sql, lambda v: f"CASE WHEN isfinite({v}) THEN {v} END")


def double_sql(value: str, type: ColumnType) -> str:
    """A number as the nearest double."""
    return value if type == DOUBLE else cast_sql(_cast(type, DOUBLE), [value])


def canonical_text_sql(value: str, type: ColumnType) -> str:
    """The text that a key is known by (compute/hashing.py)."""
    if type == STRING:
        return value
    if type.name == "timestamp":
        return f"CAST(epoch_us({value}) AS VARCHAR)"
    if type.name == "date":
        return f"CAST({value} - DATE '1970-01-01' AS VARCHAR)"
    return cast_sql(_cast(type, STRING), [f"({value} + 0.0)" if type == DOUBLE else value])


def _cast(given: ColumnType, wanted: ColumnType) -> Expr:
    return Expr("cast", wanted, (Expr("column", given),))


def _sum(side: Taken) -> str:
    assert side.type is not None
    if side.type == DOUBLE:
        return finite(side.of(f"sum({side.value})"))
    if side.type.name == "int64":
        return f"TRY_CAST({side.of(f'sum({side.value})')} AS BIGINT)"
    summed = decimal_type(MAX_PRECISION, side.type.scale)
    if not side.type.is_wide:
        return f"CAST({side.of(f'sum({side.value})')} AS {sql_type(summed)})"
    return bound(_unscaled(side), lambda v: _decimal(v, summed))


def _unscaled(side: Taken) -> str:
    """The sum of a wide decimal as a whole number; null beyond what HUGEINT surely holds."""
    high, low = side.of(f"sum({side.value}_high)"), side.of(f"sum({side.value}_low)")
    carried = f"({high} + {low} // {_HALF})"
    return f"CASE WHEN abs({carried}) <= {_HALF} THEN {carried} * {_HALF} + {low} % {_HALF} END"


def _decimal(unscaled: str, type: ColumnType) -> str:
    digits = f"lpad(CAST(abs({unscaled}) AS VARCHAR), {MAX_PRECISION}, '0')"
    text = f"left({digits}, {MAX_PRECISION - type.scale}) || '.' || right({digits}, {type.scale})"
    signed = f"CASE WHEN {unscaled} < 0 THEN '-' ELSE '' END || {text}"
    return f"CASE WHEN abs({unscaled}) < {10**MAX_PRECISION} THEN CAST({signed} AS {sql_type(type)}) END"


def _ratio(feature: Feature, above: Taken, below: Taken) -> str:
    default = None if feature.default is None else literal(feature.default, DOUBLE)
    if above.side.aggregation == below.side.aggregation == "count":
        share = f"{above.of('count(*)')} / nullif({below.of('count(*)')}, 0)"
        return share if default is None else f"coalesce({share}, {default})"
    share = f"{_side_double(above)} / {{v}}"
    body = f"CASE WHEN {{v}} = 0 THEN {default or 'NULL'} ELSE {{answer}} END"
    return bound(_side_double(below), lambda v: body.format(v=v, answer=finite(share.format(v=v))))


def _side_double(side: Taken) -> str:
    """A ratio's side as a double; 0 over nothing. It may be larger than the sum's own type."""
    if side.side.aggregation == "count" or side.type is None:
        return f"CAST({side.of('count(*)')} AS DOUBLE)"
    if not side.type.is_wide:
        return f"coalesce(CAST({side.of(f'sum({side.value})')} AS DOUBLE), 0.0)"
    beyond = f"CAST({side.of(f'sum({side.value}_high)')} AS DOUBLE) * 1e19"
    return f"coalesce(CAST({_unscaled(side)} AS DOUBLE), {beyond}, 0.0) / 1e{side.type.scale}"


def _count_distinct(side: Taken) -> str:
    hashed, limit = f"{side.value}_hash", side.feature.max_keys
    count = side.of(f"count(DISTINCT {hashed})")
    largest = f"({side.of(f'list(DISTINCT {hashed} ORDER BY {hashed})')})[{limit}]"
    estimate = f"CAST({(limit - 1) * 2**64} // CAST({largest} AS HUGEINT) AS BIGINT)"
    return f"CASE WHEN {count} <= {limit} THEN {count} ELSE {estimate} END"


def _percentile(side: Taken) -> str:
    share = Fraction(repr(side.feature.p))
    count = f"CAST({side.of('count(*)')} AS HUGEINT)"
    nth = f"CAST(({share.numerator} * {count} + {share.denominator - 1}) // {share.denominator} AS BIGINT)"
    value = f"({side.of(f'list({side.value} ORDER BY {side.value})')})[{nth}]"
    assert side.type is not None
    return f"ff_midpoint(ff_bucket({double_sql(value, side.type)}))"


def _end(aggregate: str) -> Callable[[Taken], str]:
    """The value of the oldest or the newest event, ties by the value's own order."""
    return lambda side: side.of(f"{aggregate}({side.value}, (ts, {side.value}))")


def _ends(order: str) -> Callable[[Taken], str]:
    def listed(side: Taken) -> str:
        every = side.of(f"list({side.value} ORDER BY ts {order}, {side.value} {order})")
        return f"({every})[1:{side.feature.k}]"

    return listed


def _since(end: str) -> Callable[[Taken], str]:
    return lambda side: f"({side.t} - {side.of(f'{end}(ts)')}) / {side.feature.unit_us}"


def _decayed(value: Callable[[Taken], str]) -> Callable[[Taken], str]:
    def summed(side: Taken) -> str:
        weight = f"pow(2.0, -CAST({side.t} - ts AS DOUBLE) / {side.feature.half_life_us})"
        return finite(side.of(f"sum({value(side)} * {weight})"))

    return summed


def _plain(aggregate: str) -> Callable[[Taken], str]:
    return lambda side: side.of(f"{aggregate}({side.value})")


def _rounded(aggregate: str) -> Callable[[Taken], str]:
    """An aggregate of doubles."""
    return lambda side: finite(side.of(f"{aggregate}({side.double})"))


_AGGREGATES: dict[str, Callable[[Taken], str]] = {
    "count": lambda side: side.of("count(*)"),
    "sum": _sum,
    "mean": _rounded("avg"),
    "min": _plain("min"),
    "max": _plain("max"),
    "variance": _rounded("var_samp"),
    "stddev": _rounded("stddev_samp"),
    "first": _end("min_by"),
    "last": _end("max_by"),
    "first_k": _ends("ASC"),
    "last_k": _ends("DESC"),
    "count_distinct": _count_distinct,
    "percentile": _percentile,
    "time_since_last": _since("max"),
    "time_since_first": _since("min"),
    "decayed_count": _decayed(lambda side: "1.0"),
    "decayed_sum": _decayed(lambda side: side.double),
}


def comment(view: View, feature: Feature) -> str:
    """`total_spend_24h: sum(total_amount) where event_type = 'purchase', 24h by 15m`, in one line."""
    sides = " / ".join(_told(view, side) for side in feature.sides)
    what = f"{feature.method} of {feature.of}" if feature.aggregation == "rank" else sides
    window = feature.window
    step = "" if window.width_us is None else f" by {format_duration(window.resolution_us)}"
    return f"{feature.name}: {what}, {window.text}{step}"


def _told(view: View, side: Side) -> str:
    operand = "" if side.operand is None else " ".join(view.operands[side.operand].text.split())
    where = "" if side.mask is None else f" where {' '.join(view.masks[side.mask].text.split())}"
    return f"{side.aggregation}({operand or '*'}){where}"

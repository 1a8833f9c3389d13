"""Casts and moments of expressions in DuckDB's SQL: the answers of compute/row_casts.py and compute/calendar.py."""

from collections.abc import Callable
from decimal import Decimal

from featureflow_cli.compute import calendar, row_casts
from featureflow_cli.compute.sql_text import bound, literal, sql_type
from featureflow_cli.spec.expressions import Expr
from featureflow_cli.spec.types import ColumnType
from featureflow_cli.times import DAY_US


def moment_sql(moment: str) -> str:
    """TIMESTAMPTZ as a TIMESTAMP of UTC; null outside the years 1 to 9999."""
    inside = f"BETWEEN make_timestamptz({calendar.FIRST_US}) AND make_timestamptz({calendar.LAST_US})"
    return bound(moment, lambda v: f"CASE WHEN {v} {inside} THEN make_timestamp(epoch_us({v})) END")


_LOCAL = r"^[^ T]+([T ][0-9:.]+)?"
_ZONE = r":[0-9.]+ ?([+-])([0-9]{2}):?([0-9]{2})?$"


def _moment_of_text(text: str) -> str:
    """DuckDB reads the local time; the zone is ours, for it would be ignored (TIMESTAMP) or not be UTC's."""

    def read(v: str) -> str:
        local = f"epoch_us(TRY_CAST(regexp_extract({v}, '{_LOCAL}') AS TIMESTAMP))"
        sign, hours, minutes = (f"regexp_extract({v}, '{_ZONE}', {group})" for group in (1, 2, 3))
        offset = (
            f"(CASE {sign} WHEN '-' THEN -1 ELSE 1 END) * 60000000 * "
            f"(60 * coalesce(TRY_CAST({hours} AS BIGINT), 0) + coalesce(TRY_CAST({minutes} AS BIGINT), 0))"
        )
        return f"CASE WHEN regexp_full_match({v}, '{row_casts.MOMENT_TEXT}') THEN {local} - {offset} END"

    bounds = f"BETWEEN {calendar.FIRST_US} AND {calendar.LAST_US}"
    return bound(bound(text, read), lambda us: f"CASE WHEN {us} {bounds} THEN make_timestamptz({us}) END")


def _date_of_text(text: str) -> str:
    def read(v: str) -> str:
        is_date = f"regexp_full_match({v}, '{row_casts.DATE_TEXT}') AND {v} >= '0001'"
        return f"CASE WHEN {is_date} THEN TRY_CAST({v} AS DATE) END"

    return bound(text, read)


def _moment_of_date(date: str) -> str:
    inside = f"BETWEEN make_date({calendar.FIRST_US // DAY_US}) AND make_date({calendar.LAST_US // DAY_US})"
    return bound(date, lambda v: f"CASE WHEN {v} {inside} THEN make_timestamptz(epoch_us({v})) END")


def cast_sql(expr: Expr, args: list[str]) -> str:
    """The `cast` node over the SQL of its one argument."""
    given, wanted, value = expr.args[0].type, expr.type, args[0]
    if wanted.name == "decimal":
        if given.name == "double":
            value = bound(value, _plain_text_of_double)
        if given.name == "string":
            return _matching(value, row_casts.DECIMAL_TEXT, sql_type(wanted))
        return f"TRY_CAST({value} AS {sql_type(wanted)})"
    special = _CASTS.get((given.name, wanted.name))
    return special(value, given) if special else f"TRY_CAST({value} AS {sql_type(wanted)})"


def _matching(text: str, pattern: str, wanted: str) -> str:
    return bound(
        text, lambda v: f"CASE WHEN regexp_full_match({v}, '{pattern}') THEN TRY_CAST({v} AS {wanted}) END"
    )


def _double_of_decimal(value: str, given: ColumnType) -> str:
    """The nearest double. DuckDB's own cast is that up to 2^53 (and 10^22); its reading of text always is."""
    if given.precision <= 15:
        return f"CAST({value} AS DOUBLE)"
    by_text = "CAST(CAST({v} AS VARCHAR) AS DOUBLE)"
    if given.scale > 22:
        return by_text.format(v=value)
    most = literal(Decimal(2**53).scaleb(-given.scale), given)
    body = f"CASE WHEN {{v}} BETWEEN -{most} AND {most} THEN CAST({{v}} AS DOUBLE) ELSE {by_text} END"
    return bound(value, lambda v: body.format(v=v))


def _plain_text_of_double(v: str) -> str:
    """The shortest text without an exponent, where DuckDB 2.0 refuses more digits than the type has."""
    text = f"CAST({v} AS VARCHAR)"
    sign = f"CASE WHEN {v} < 0 THEN '-' ELSE '' END"
    digits = f"replace(regexp_extract({text}, '([0-9.]+)e', 1), '.', '')"
    exponent = f"CAST(regexp_extract({text}, 'e(.*)', 1) AS INTEGER)"
    small = f"{sign} || '0.' || repeat('0', -{exponent} - 1) || {digits}"
    large = f"{sign} || {digits} || repeat('0', {exponent} - length({digits}) + 1)"
    return (
        f"CASE WHEN NOT contains({text}, 'e') THEN {text} WHEN abs({v}) < 1 THEN {small} "
        f"WHEN abs({v}) < 1e38 THEN {large} END"
    )


def _bool_of_text(text: str, _: ColumnType) -> str:
    return f"CASE lower({text}) WHEN 'true' THEN true WHEN 'false' THEN false END"


def _text_of_decimal(value: str, given: ColumnType) -> str:
    """With a digit before the point, which DuckDB leaves out where the type has none."""
    if given.scale < given.precision:
        return f"CAST({value} AS VARCHAR)"
    return f"replace(CAST({value} AS VARCHAR), '.', '0.')"


def _text_of_moment(value: str, _: ColumnType) -> str:
    return f"strftime({moment_sql(value)}, '%Y-%m-%dT%H:%M:%S.%fZ')"


_CASTS: dict[tuple[str, str], Callable[[str, ColumnType], str]] = {
    ("double", "int64"): lambda value, _: f"TRY_CAST(round({value}) AS BIGINT)",
    ("decimal", "double"): _double_of_decimal,
    ("decimal", "string"): _text_of_decimal,
    ("string", "bool"): _bool_of_text,
    ("string", "int64"): lambda value, _: _matching(value, row_casts.INT64_TEXT, "BIGINT"),
    ("string", "double"): lambda value, _: _matching(value, row_casts.DOUBLE_TEXT, "DOUBLE"),
    ("string", "timestamp"): lambda value, _: _moment_of_text(value),
    ("string", "date"): lambda value, _: _date_of_text(value),
    ("timestamp", "date"): lambda value, _: f"CAST({moment_sql(value)} AS DATE)",
    ("timestamp", "string"): _text_of_moment,
    ("date", "timestamp"): lambda value, _: _moment_of_date(value),
    ("date", "string"): lambda value, _: f"strftime({moment_sql(_moment_of_date(value))}, '%Y-%m-%d')",
}

"""An expression as DuckDB's SQL, with the answers of compute/rows.py to the last bit (design.md 1.15).

Nothing here depends on the session: moments are TIMESTAMPTZ and go through integer microseconds, never through a
time zone or an INTERVAL. What overflows, divides by zero or does not fit is null, by TRY and TRY_CAST.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from zlib import crc32

from featureflow_cli.compute import calendar, row_casts
from featureflow_cli.spec.expressions import Expr
from featureflow_cli.spec.types import (
    DOUBLE,
    MAX_PRECISION,
    NARROW_PRECISION,
    ColumnType,
    Value,
    decimal_type,
)

Quote = Callable[[str], str]
"""A column's name as SQL."""


def quoted(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def expression_sql(expr: Expr, column: Quote = quoted) -> str:
    """SQL text of DuckDB, of the type `sql_type(expr.type)`; safe to stand anywhere in an expression."""
    if expr.type == DOUBLE:
        return _finite(_raw_double(expr, column), expr)
    return _exact(expr, column)


def sql_type(column_type: ColumnType) -> str:
    """DuckDB's name of a scalar type; timestamps are TIMESTAMPTZ (microseconds)."""
    if column_type.name == "decimal":
        return f"DECIMAL({column_type.precision},{column_type.scale})"
    return _TYPES[column_type.name]


_TYPES = {
    "bool": "BOOLEAN",
    "int64": "BIGINT",
    "double": "DOUBLE",
    "string": "VARCHAR",
    "timestamp": "TIMESTAMPTZ",
    "date": "DATE",
}


def _literal(value: Value, column_type: ColumnType) -> str:
    if value is None:
        return f"CAST(NULL AS {sql_type(column_type)})"
    if isinstance(value, str):
        return text_literal(value)
    if column_type.name == "bool":
        return "true" if value else "false"
    if column_type.name == "timestamp":
        return f"make_timestamptz({value})"
    if column_type.name == "date":
        return f"make_date({value})"
    if isinstance(value, float):
        return f"CAST('{value!r}' AS DOUBLE)"
    return f"CAST('{value:f}' AS {sql_type(column_type)})" if column_type.name == "decimal" else _int64(value)


def _int64(value: Value) -> str:
    return f"CAST('{value}' AS BIGINT)"


def text_literal(text: str) -> str:
    """`text` as an SQL string; chr(0) stands for what no SQL text can hold."""
    pieces = ["'" + piece.replace("'", "''") + "'" for piece in text.split("\0")]
    return pieces[0] if len(pieces) == 1 else f"({' || chr(0) || '.join(pieces)})"


# --- using a value more than once

_SHORT = 200
"""Characters of SQL that may be repeated; longer text would grow exponentially with the depth of nesting."""


def _with(value: str, body: Callable[[str], str]) -> str:
    """SQL of `body` over `value`, which it may use any number of times."""
    if len(value) <= _SHORT:
        return body(value)
    name = f"v{crc32(value.encode()):x}"  # the same name only ever hides the same value
    return f"list_transform([{value}], lambda {name}: {body(name)})[1]"


# --- doubles: NaN and infinity are null (design.md 1.8)

_PASSING = {"add": "({} + {})", "sub": "({} - {})", "mul": "({} * {})", "neg": "(-{})", "abs": "abs({})"}
"""Operations whose answer is not finite where an argument is not: one check behind a chain of them is enough."""
_DOUBLES = {
    "div": "({} / {})",
    "mod": "({} % {})",
    "sqrt": "sqrt({})",
    "ln": "ln({})",
    "exp": "exp({})",
    "power": "power({}, {})",
    "floor": "floor({})",
    "ceil": "ceil({})",
}
_ALWAYS_FINITE = {"case", "coalesce", "greatest", "least", "literal", "floor", "ceil", "round"}


def _finite(sql: str, expr: Expr) -> str:
    if expr.op in _ALWAYS_FINITE or (expr.op == "cast" and expr.args[0].type.name != "string"):
        return sql
    return _with(sql, lambda v: f"CASE WHEN isfinite({v}) THEN {v} END")


def _raw_double(expr: Expr, column: Quote) -> str:
    """A double that may still be NaN or infinite where it counts as null."""
    if expr.op == "column":
        return column(str(expr.value))
    if expr.op in _PASSING:
        return _PASSING[expr.op].format(*(_raw_double(arg, column) for arg in expr.args))
    if expr.op in _DOUBLES:
        return f"TRY({_DOUBLES[expr.op].format(*(expression_sql(arg, column) for arg in expr.args))})"
    if expr.op == "round":
        return _round_double(expr, column)
    return _exact(expr, column)


def _round_double(expr: Expr, column: Quote) -> str:
    value = expression_sql(expr.args[0], column)
    if not expr.value:
        return f"round({value})"
    power = _literal(float(10 ** int(str(expr.value))), DOUBLE)
    return _with(
        value, lambda v: f"CASE WHEN isfinite({v} * {power}) THEN round({v} * {power}) / {power} ELSE {v} END"
    )


# --- all else


def _exact(expr: Expr, column: Quote) -> str:
    if expr.op == "column":
        return column(str(expr.value))
    if expr.op == "literal":
        return _literal(expr.value, expr.type)
    args = [expression_sql(arg, column) for arg in expr.args]
    if expr.op in _CALLS:
        return f"{_CALLS[expr.op]}({', '.join(args)})"
    if expr.op in _COMPARISONS:
        return _compare(_COMPARISONS[expr.op], args, [arg.type for arg in expr.args])
    return _SPECIAL[expr.op](expr, args)


_CALLS = {
    "coalesce": "coalesce",
    "greatest": "greatest",
    "least": "least",
    "lower": "lower",
    "upper": "upper",
    "length": "length",
    "concat": "concat",
    "replace": "replace",
    "starts_with": "starts_with",
    "ends_with": "suffix",
    "contains": "contains",
    "split_part": "split_part",
    "epoch_us": "epoch_us",
}
_COMPARISONS = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_INTEGERS = {"add": "({} + {})", "sub": "({} - {})", "mul": "({} * {})", "neg": "(-{})", "abs": "abs({})"}


def _compare(sign: str, args: Sequence[str], types: Sequence[ColumnType]) -> str:
    left, right = args
    if types[0] == types[1]:
        return f"({left} {sign} {right})"
    scale = max(each.scale for each in types)
    precision = max(each.precision - each.scale for each in types) + scale
    if precision <= MAX_PRECISION:
        common = f"DECIMAL({precision},{scale})"
        return f"(CAST({left} AS {common}) {sign} CAST({right} AS {common}))"
    # The type with fewer decimals may hold what has too many digits at the other's scale: such a value is
    # beyond all of the other type, so that its own sign decides.
    wide = f"DECIMAL({MAX_PRECISION},{scale})"
    if types[0].scale < scale:
        beyond, other, verdict = left, right, f"{{v}} {sign} 0"
    else:
        beyond, other, verdict = right, left, f"0 {sign} {{v}}"
    scaled = (f"TRY_CAST({{v}} AS {wide})", f"CAST({{w}} AS {wide})")
    near = f"{scaled[0]} {sign} {scaled[1]}" if beyond == left else f"{scaled[1]} {sign} {scaled[0]}"
    body = f"CASE WHEN {{w}} IS NULL OR TRY_CAST({{v}} AS {wide}) IS NOT NULL THEN {near} ELSE {verdict} END"
    return _with(beyond, lambda v: _with(other, lambda w: body.format(v=v, w=w)))


def _joined(word: str) -> Callable[[Expr, list[str]], str]:
    return lambda expr, args: f"({f' {word} '.join(args)})"


def _in(expr: Expr, args: list[str]) -> str:
    subject, items = args[0], args[1:]
    types = [arg.type for arg in expr.args]
    if len(set(types)) == 1:
        return f"({subject} IN ({', '.join(items)}))"

    def any_equal(value: str) -> str:
        pairs = zip(items, types[1:], strict=True)
        return f"({' OR '.join(_compare('=', [value, item], [types[0], each]) for item, each in pairs)})"

    return _with(subject, any_equal)


def _case(expr: Expr, args: list[str]) -> str:
    branches = " ".join(f"WHEN {args[at]} THEN {args[at + 1]}" for at in range(0, len(args) - 1, 2))
    return f"CASE {branches} ELSE {args[-1]} END"


def _like(expr: Expr, args: list[str]) -> str:
    escape = "" if expr.value is None else f" ESCAPE {text_literal(str(expr.value))}"
    return f"({args[0]} LIKE {args[1]}{escape})"


def _arithmetic(expr: Expr, args: list[str]) -> str:
    """Overflow is null; decimals come out at the type of the table, whatever DuckDB makes of them."""
    if (
        expr.op == "mul" and expr.type.precision > NARROW_PRECISION
    ):  # DuckDB multiplies narrow ones in 64 bits
        factor = expr.args[0].type
        wide = decimal_type(max(NARROW_PRECISION + 1, factor.precision), factor.scale)
        args = [f"CAST({args[0]} AS {sql_type(wide)})", args[1]]
    tried = f"TRY({_INTEGERS[expr.op].format(*args)})"
    return tried if expr.type.name == "int64" else f"TRY_CAST({tried} AS {sql_type(expr.type)})"


def _mod(expr: Expr, args: list[str]) -> str:
    tried = f"TRY({args[0]} % {args[1]})"
    return tried if expr.type.name == "int64" else f"TRY_CAST({tried} AS {sql_type(expr.type)})"


def _rounded(expr: Expr, args: list[str]) -> str:
    """floor, ceil and round of exact numbers; a decimal is rounded half away from zero by the cast."""
    if expr.type.name == "int64":
        return args[0]
    whole = args[0] if expr.op == "round" else f"TRY({expr.op}({args[0]}))"
    return f"TRY_CAST({whole} AS {sql_type(expr.type)})"


def _trim(expr: Expr, args: list[str]) -> str:
    return f"{expr.op}({args[0]}, ' ')"


def _substr(expr: Expr, args: list[str]) -> str:
    """Places are HUGEINT while they are summed up: none overflows."""
    text, start = args[0], f"CAST({args[1]} AS HUGEINT)"

    def within(v: str, place: str) -> str:
        first = f"CASE WHEN {place} < 0 THEN length({v}) + 1 + {place} ELSE {place} END"
        end = f"({first}) + {args[2]}" if len(args) == 3 else f"length({v}) + 1"
        low = f"least(greatest({first}, 1), length({v}) + 1)"
        high = f"least(greatest({end}, 1), length({v}) + 1)"
        return f"substring({v}, CAST({low} AS BIGINT), CAST(greatest({high} - {low}, 0) AS BIGINT))"

    body = _with(text, lambda v: _with(start, lambda place: within(v, place)))
    given = " AND ".join(f"{each} IS NOT NULL" for each in args[1:])
    return f"CASE WHEN {given} THEN {body} END"


# --- moments


def moment_sql(moment: str) -> str:
    """TIMESTAMPTZ as a TIMESTAMP of UTC; null outside the years 1 to 9999."""
    inside = f"BETWEEN make_timestamptz({calendar.FIRST_US}) AND make_timestamptz({calendar.LAST_US})"
    return _with(moment, lambda v: f"CASE WHEN {v} {inside} THEN make_timestamp(epoch_us({v})) END")


def _date_part(expr: Expr, args: list[str]) -> str:
    return f"CAST(date_part('{expr.value}', {moment_sql(args[0])}) AS BIGINT)"  # of a constant null: a DOUBLE


def _date_trunc(expr: Expr, args: list[str]) -> str:
    return f"make_timestamptz(epoch_us(date_trunc('{expr.value}', {moment_sql(args[0])})))"


def _date_diff(expr: Expr, args: list[str]) -> str:
    earlier, later = (moment_sql(arg) for arg in args)
    if expr.value == "week":  # DuckDB's own counts from another day than Monday
        return f"(date_diff('day', date_trunc('week', {earlier}), date_trunc('week', {later})) // 7)"
    return f"date_diff('{expr.value}', {earlier}, {later})"


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
    return _with(_with(text, read), lambda us: f"CASE WHEN {us} {bounds} THEN make_timestamptz({us}) END")


def _date_of_text(text: str) -> str:
    def read(v: str) -> str:
        is_date = f"regexp_full_match({v}, '{row_casts.DATE_TEXT}') AND {v} >= '0001'"
        return f"CASE WHEN {is_date} THEN TRY_CAST({v} AS DATE) END"

    return _with(text, read)


def _moment_of_date(date: str) -> str:
    inside = "BETWEEN make_date(-719162) AND make_date(2932896)"
    return _with(date, lambda v: f"CASE WHEN {v} {inside} THEN make_timestamptz(epoch_us({v})) END")


# --- casts


def _cast(expr: Expr, args: list[str]) -> str:
    given, wanted, value = expr.args[0].type, expr.type, args[0]
    if wanted.name == "decimal":
        if given.name == "double":
            value = _with(value, _plain_text_of_double)
        if given.name == "string":
            return _matching(value, row_casts.DECIMAL_TEXT, sql_type(wanted))
        return f"TRY_CAST({value} AS {sql_type(wanted)})"
    special = _CASTS.get((given.name, wanted.name))
    return special(value, given) if special else f"TRY_CAST({value} AS {sql_type(wanted)})"


def _matching(text: str, pattern: str, wanted: str) -> str:
    return _with(
        text, lambda v: f"CASE WHEN regexp_full_match({v}, '{pattern}') THEN TRY_CAST({v} AS {wanted}) END"
    )


def _double_of_decimal(value: str, given: ColumnType) -> str:
    """The nearest double. DuckDB's own cast is that up to 2^53 (and 10^22); its reading of text always is."""
    if given.precision <= 15:
        return f"CAST({value} AS DOUBLE)"
    by_text = "CAST(CAST({v} AS VARCHAR) AS DOUBLE)"
    if given.scale > 22:
        return by_text.format(v=value)
    most = _literal(Decimal(2**53).scaleb(-given.scale), given)
    body = f"CASE WHEN {{v}} BETWEEN -{most} AND {most} THEN CAST({{v}} AS DOUBLE) ELSE {by_text} END"
    return _with(value, lambda v: body.format(v=v))


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

_SPECIAL: dict[str, Callable[[Expr, list[str]], str]] = {
    "and": _joined("AND"),
    "or": _joined("OR"),
    "not": lambda expr, args: f"(NOT {args[0]})",
    "is_null": lambda expr, args: f"({args[0]} IS NULL)",
    "in": _in,
    "case": _case,
    "like": _like,
    "join": _joined("||"),
    "add": _arithmetic,
    "sub": _arithmetic,
    "mul": _arithmetic,
    "neg": _arithmetic,
    "abs": _arithmetic,
    "mod": _mod,
    "floor": _rounded,
    "ceil": _rounded,
    "round": _rounded,
    "trim": _trim,
    "ltrim": _trim,
    "rtrim": _trim,
    "substr": _substr,
    "date_part": _date_part,
    "date_trunc": _date_trunc,
    "date_diff": _date_diff,
    "cast": _cast,
}

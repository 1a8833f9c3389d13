"""An expression as DuckDB's SQL, with the answers of compute/rows.py to the last bit (design.md 1.15).

Nothing here depends on the session: moments are TIMESTAMPTZ and go through integer microseconds, never through a
time zone or an INTERVAL. What overflows, divides by zero or does not fit is null, by TRY and TRY_CAST.
"""

from collections.abc import Callable, Sequence

from featureflow_cli.compute.sql_casts import cast_sql, moment_sql
from featureflow_cli.compute.sql_text import bound, literal, quoted, sql_type, text_literal
from featureflow_cli.spec.expressions import Expr
from featureflow_cli.spec.types import DOUBLE, MAX_PRECISION, NARROW_PRECISION, ColumnType, decimal_type

Quote = Callable[[str], str]
"""A column's name as SQL."""


def expression_sql(expr: Expr, column: Quote = quoted) -> str:
    """SQL text of DuckDB, of the type `sql_type(expr.type)`; safe to stand anywhere in an expression."""
    if expr.type == DOUBLE:
        return _finite(_raw_double(expr, column), expr)
    return _exact(expr, column)


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
    return bound(sql, lambda v: f"CASE WHEN isfinite({v}) THEN {v} END")


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
    power = literal(float(10 ** int(str(expr.value))), DOUBLE)
    return bound(
        value, lambda v: f"CASE WHEN isfinite({v} * {power}) THEN round({v} * {power}) / {power} ELSE {v} END"
    )


# --- all else


def _exact(expr: Expr, column: Quote) -> str:
    if expr.op == "column":
        return column(str(expr.value))
    if expr.op == "literal":
        return literal(expr.value, expr.type)
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
_ARITHMETIC = {
    "add": "{} + {}",
    "sub": "{} - {}",
    "mul": "{} * {}",
    "mod": "{} % {}",
    "neg": "0 - {}",  # the negative of the smallest BIGINT, where it is a constant, would be a HUGEINT
    "abs": "abs({})",
}


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
    return bound(beyond, lambda v: bound(other, lambda w: body.format(v=v, w=w)))


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

    return bound(subject, any_equal)


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
    tried = f"TRY({_ARITHMETIC[expr.op].format(*args)})"
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

    body = bound(text, lambda v: bound(start, lambda place: within(v, place)))
    given = " AND ".join(f"{each} IS NOT NULL" for each in args[1:])
    return f"CASE WHEN {given} THEN {body} END"


def _date_part(expr: Expr, args: list[str]) -> str:
    return f"CAST(date_part('{expr.value}', {moment_sql(args[0])}) AS BIGINT)"  # of a constant null: a DOUBLE


def _date_trunc(expr: Expr, args: list[str]) -> str:
    return f"make_timestamptz(epoch_us(date_trunc('{expr.value}', {moment_sql(args[0])})))"


def _date_diff(expr: Expr, args: list[str]) -> str:
    earlier, later = (moment_sql(arg) for arg in args)
    if expr.value == "week":  # DuckDB's own counts from another day than Monday
        return f"(date_diff('day', date_trunc('week', {earlier}), date_trunc('week', {later})) // 7)"
    return f"date_diff('{expr.value}', {earlier}, {later})"


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
    "mod": _arithmetic,
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
    "cast": cast_sql,
}

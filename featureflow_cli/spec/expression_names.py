"""Names of the expression language: sqlglot's operators and the functions, and what they are here."""

from featureflow_cli.spec.types import BOOL, DATE, DOUBLE, INT64, STRING, TIMESTAMP, ColumnType

OPERATORS: dict[str, str] = {
    "And": "and", "Or": "or", "Not": "not", "EQ": "eq", "NEQ": "ne", "LT": "lt", "LTE": "le", "GT": "gt",
    "GTE": "ge", "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Mod": "mod", "Pow": "power",
    "DPipe": "join",
}  # fmt: skip
"""sqlglot's node of one or two sides -> our operation."""
FUNCTIONS: dict[str, str] = {
    "abs": "abs", "floor": "floor", "ceil": "ceil", "ceiling": "ceil", "sqrt": "sqrt", "ln": "ln", "exp": "exp",
    "power": "power", "pow": "power", "mod": "mod", "coalesce": "coalesce", "ifnull": "coalesce",
    "greatest": "greatest", "least": "least", "lower": "lower", "upper": "upper", "trim": "trim",
    "ltrim": "ltrim", "rtrim": "rtrim", "length": "length", "len": "length", "concat": "concat",
    "substr": "substr", "substring": "substr", "replace": "replace", "starts_with": "starts_with",
    "ends_with": "ends_with", "contains": "contains", "epoch_us": "epoch_us",
}  # fmt: skip
"""Function -> our operation, argument by argument; the parser knows the others one by one."""
PARTS: dict[str, str] = {
    "year": "year", "quarter": "quarter", "month": "month", "week": "week", "day": "day", "dow": "dow",
    "dayofweek": "dow", "isodow": "isodow", "doy": "doy", "dayofyear": "doy", "hour": "hour", "minute": "minute",
    "second": "second",
}  # fmt: skip
"""Function or unit -> the unit of `date_part`."""
AGGREGATIONS = frozenset(
    {"count", "sum", "avg", "mean", "min", "max", "first", "last", "any_value", "median", "mode", "list"}
    | {"stddev", "stddev_samp", "stddev_pop", "variance", "var_samp", "var_pop", "array_agg", "string_agg"}
    | {"approx_count_distinct", "quantile", "quantile_cont", "quantile_disc", "arg_min", "arg_max"}
)
TYPES: dict[str, ColumnType] = {
    "BOOLEAN": BOOL, "BIGINT": INT64, "INT": INT64, "DOUBLE": DOUBLE, "TEXT": STRING, "VARCHAR": STRING,
    "TIMESTAMP": TIMESTAMP, "TIMESTAMPNTZ": TIMESTAMP, "TIMESTAMPTZ": TIMESTAMP, "DATE": DATE,
}  # fmt: skip
"""sqlglot's name of a type -> ours; decimals apart."""

_NO_CLOCK = "there is no clock in an expression; in on-demand features `as_of` is the moment of reading"
_NO_PATTERN = "use like, starts_with, ends_with or contains"
HINTS: dict[str, str] = {
    "IntDiv": "write floor(a / b)",
    "Interval": "compare epoch_us(a) - epoch_us(b) with microseconds, or use date_diff",
    "CurrentTimestamp": _NO_CLOCK,
    "CurrentDate": _NO_CLOCK,
    "RegexpLike": _NO_PATTERN,
    "regexp_matches": _NO_PATTERN,
    "isnan": "NaN counts as null here: write `x is null`",
    "isfinite": "NaN and infinity count as null here: write `x is not null`",
    "isinf": "infinity counts as null here: write `x is null`",
    "now": _NO_CLOCK,
}
"""By sqlglot's node or by the function's name: what to write instead."""

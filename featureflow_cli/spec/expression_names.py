"""Names of the expression language: sqlglot's nodes and functions, and what they are here (docs/expressions.md)."""

from featureflow_cli.spec.operations import OPERATIONS
from featureflow_cli.spec.types import BOOL, DATE, DOUBLE, INT64, STRING, TIMESTAMP, ColumnType

PLAIN: dict[str, str] = {
    "And": "and", "Or": "or", "Not": "not", "EQ": "eq", "NEQ": "ne", "LT": "lt", "LTE": "le", "GT": "gt",
    "GTE": "ge", "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Mod": "mod", "Abs": "abs",
    "Floor": "floor", "Ceil": "ceil", "Sqrt": "sqrt", "Ln": "ln", "Exp": "exp", "Pow": "power",
    "Coalesce": "coalesce", "Greatest": "greatest", "Least": "least", "Lower": "lower", "Upper": "upper",
    "Length": "length", "Concat": "concat", "DPipe": "join", "Substring": "substr", "Replace": "replace",
    "StartsWith": "starts_with", "EndsWith": "ends_with", "Contains": "contains",
}  # fmt: skip
"""sqlglot's node -> our operation, where the arguments are the node's own, in order."""
ARGUMENTS = ("this", "start", "expression", "expressions", "length", "replacement")
"""Keys of a sqlglot node that hold arguments, in the order of the call."""
PARTS: dict[str, str] = {
    "Year": "year", "Quarter": "quarter", "Month": "month", "Week": "week", "Day": "day", "DayOfMonth": "day",
    "DayOfWeek": "dow", "DayOfWeekIso": "isodow", "DayOfYear": "doy", "Hour": "hour", "Minute": "minute",
    "Second": "second",
}  # fmt: skip
TYPES: dict[str, ColumnType] = {
    "BOOLEAN": BOOL, "BIGINT": INT64, "INT": INT64, "DOUBLE": DOUBLE, "TEXT": STRING, "VARCHAR": STRING,
    "TIMESTAMP": TIMESTAMP, "TIMESTAMPNTZ": TIMESTAMP, "TIMESTAMPTZ": TIMESTAMP, "DATE": DATE,
}  # fmt: skip

FUNCTION_NAMES = sorted(
    {entry.signature.partition("(")[0] for entry in OPERATIONS.values() if entry.signature[-1] == ")"}
    | {"cast", "try_cast", "nullif", "extract", "dow", "isodow", "substring", *PARTS.values()}
)
_NO_CLOCK = "there is no clock in an expression; in on-demand features `as_of` is the moment of reading"
HINTS: dict[str, str] = {
    "IntDiv": "write floor(a / b)",
    "Interval": "compare epoch_us(a) - epoch_us(b) with microseconds, or use date_diff",
    "IsNan": "NaN counts as null here: write `x is null`",
    "isfinite": "NaN and infinity count as null here: write `x is not null`",
    "isinf": "infinity counts as null here: write `x is null`",
    "now": _NO_CLOCK,
    "CurrentTimestamp": _NO_CLOCK,
    "CurrentDate": _NO_CLOCK,
    "RegexpLike": "use like, starts_with, ends_with or contains",
}
"""By sqlglot's node or by the function's name: what to write instead."""

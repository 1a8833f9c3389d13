"""The table of operations: what each takes and what type it answers (design.md 1.15, docs/expressions.md).

A rule gets the types of the arguments as written and returns the types they are brought to and the type of
the answer; it raises ValueError with what is wrong. `NULL` is the type of a bare `null`, which fits
everywhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from featureflow_cli.spec.types import (
    BOOL,
    DATE,
    DOUBLE,
    INT64,
    MAX_PRECISION,
    STRING,
    TIMESTAMP,
    ColumnType,
    decimal_type,
)

NULL = ColumnType("null")
INT64_DIGITS = 19

Typing = tuple[list[ColumnType], ColumnType]
Rule = Callable[[Sequence[ColumnType]], Typing]

DATE_PARTS = (
    "year", "quarter", "month", "week", "day", "dow", "isodow", "doy", "hour", "minute", "second",
)  # fmt: skip
DATE_UNITS = (
    "year",
    "quarter",
    "month",
    "week",
    "day",
    "hour",
    "minute",
    "second",
    "millisecond",
    "microsecond",
)

CASTS = {
    "bool": ("int64", "string"),
    "int64": ("bool", "double", "decimal", "string"),
    "double": ("int64", "decimal", "string"),
    "decimal": ("int64", "double", "decimal", "string"),
    "string": ("bool", "int64", "double", "decimal", "timestamp", "date"),
    "timestamp": ("date", "string"),
    "date": ("timestamp", "string"),
}
"""What `cast` and `try_cast` (which are the same here) convert, beside each type to itself."""


@dataclass(frozen=True)
class Operation:
    """`signature` is for people; `least` and `most` arguments (None: no limit); `rule` as the module says."""

    signature: str
    least: int
    most: int | None
    rule: Rule


def as_decimal(number: ColumnType) -> ColumnType:
    """The decimal that holds every value of an exact type."""
    return decimal_type(INT64_DIGITS, 0) if number == INT64 else number


def common_type(types: Sequence[ColumnType]) -> ColumnType:
    """The type that values of all `types` are brought to; a decimal's precision is capped at 38."""
    known = [each for each in dict.fromkeys(types) if each != NULL]
    if not known:
        message = "null alone has no type: write cast(null as TYPE)"
        raise ValueError(message)
    if len(known) == 1:
        return known[0]
    if all(each.is_number for each in known):
        if DOUBLE in known:
            return DOUBLE
        decimals = [as_decimal(each) for each in known]
        scale = max(each.scale for each in decimals)
        whole_digits = max(each.precision - each.scale for each in decimals)
        return decimal_type(min(MAX_PRECISION, whole_digits + scale), scale)
    if set(known) == {DATE, TIMESTAMP}:
        return TIMESTAMP
    message = f"{' and '.join(str(each) for each in known)} do not go together"
    raise ValueError(message)


def _numbers(types: Sequence[ColumnType]) -> ColumnType:
    common = common_type(types)
    if not common.is_number:
        message = f"needs numbers, not {common}"
        raise ValueError(message)
    return common


def _same_number(types: Sequence[ColumnType]) -> Typing:
    common = _numbers(types)
    return [common] * len(types), common


def _add(types: Sequence[ColumnType]) -> Typing:
    """Decimals: one digit more than their common type."""
    common = _numbers(types)
    if common.name == "decimal":
        common = decimal_type(min(MAX_PRECISION, common.precision + 1), common.scale)
    return [common] * len(types), common


def _multiply(types: Sequence[ColumnType]) -> Typing:
    """Decimals: precisions add up (to 38 at most), and so do scales."""
    common = _numbers(types)
    if common.name != "decimal":
        return [common] * len(types), common
    factors = [as_decimal(common if each == NULL else each) for each in types]
    scale = sum(each.scale for each in factors)
    if scale > MAX_PRECISION:
        product = " * ".join(str(each) for each in factors)
        message = f"{product} has {scale} decimals; {MAX_PRECISION} are the most: cast one of them"
        raise ValueError(message)
    return factors, decimal_type(min(MAX_PRECISION, sum(each.precision for each in factors)), scale)


def _compare(types: Sequence[ColumnType]) -> Typing:
    """Exact numbers keep their own types, for they are compared exactly; all else is brought to one type."""
    common = common_type(types)
    if common.name == "decimal":
        return [common if each == NULL else as_decimal(each) for each in types], BOOL
    return [common] * len(types), BOOL


def _common(types: Sequence[ColumnType]) -> Typing:
    common = common_type(types)
    return [common] * len(types), common


def _case(types: Sequence[ColumnType]) -> Typing:
    """condition, value, condition, value, …, value of else."""
    answer = common_type([*types[1::2], types[-1]])
    wanted = [BOOL if at % 2 == 0 and at < len(types) - 1 else answer for at in range(len(types))]
    _fits(types, wanted)
    return wanted, answer


def _whole(types: Sequence[ColumnType]) -> Typing:
    """floor, ceil: a decimal loses its decimals and may gain a digit in front."""
    number = _numbers(types)
    if number.name == "decimal":
        return [number], decimal_type(min(MAX_PRECISION, number.precision - number.scale + 1), 0)
    return [number], number


def round_type(number: ColumnType, digits: int) -> ColumnType:
    """What `round(number, digits)` answers: a decimal keeps at most `digits` decimals."""
    if number.name != "decimal":
        return number
    scale = min(number.scale, digits)
    return decimal_type(min(MAX_PRECISION, number.precision - number.scale + 1 + scale), scale)


def _round(types: Sequence[ColumnType]) -> Typing:
    number = _numbers(types)
    return [number], number


def _fits(types: Sequence[ColumnType], wanted: Sequence[ColumnType]) -> None:
    """ValueError unless each type is the wanted one or becomes it by an implicit conversion."""
    for given, want in zip(types, wanted, strict=True):
        if given in {want, NULL}:
            continue
        if want == DOUBLE and given.is_number:
            continue
        if want == TIMESTAMP and given == DATE:
            continue
        if want.name == "decimal" and given.is_exact:
            continue
        message = f"needs {want}, not {given}"
        raise ValueError(message)


def _fixed(answer: ColumnType, *wanted: ColumnType) -> Rule:
    """Exactly these argument types (the last one repeats)."""

    def rule(types: Sequence[ColumnType]) -> Typing:
        all_wanted = [wanted[min(at, len(wanted) - 1)] for at in range(len(types))]
        _fits(types, all_wanted)
        return all_wanted, answer

    return rule


def _any(types: Sequence[ColumnType]) -> Typing:
    return [common_type([each]) for each in types], BOOL


OPERATIONS: dict[str, Operation] = {
    "and": Operation("a AND b", 2, None, _fixed(BOOL, BOOL)),
    "or": Operation("a OR b", 2, None, _fixed(BOOL, BOOL)),
    "not": Operation("NOT a", 1, 1, _fixed(BOOL, BOOL)),
    "is_null": Operation("x IS NULL", 1, 1, _any),
    "eq": Operation("a = b", 2, 2, _compare),
    "ne": Operation("a <> b", 2, 2, _compare),
    "lt": Operation("a < b", 2, 2, _compare),
    "le": Operation("a <= b", 2, 2, _compare),
    "gt": Operation("a > b", 2, 2, _compare),
    "ge": Operation("a >= b", 2, 2, _compare),
    "in": Operation("x IN (a, b, …)", 2, None, _compare),
    "add": Operation("a + b", 2, 2, _add),
    "sub": Operation("a - b", 2, 2, _add),
    "mul": Operation("a * b", 2, 2, _multiply),
    "div": Operation("a / b", 2, 2, _fixed(DOUBLE, DOUBLE)),
    "mod": Operation("a % b", 2, 2, _same_number),
    "neg": Operation("-x", 1, 1, _same_number),
    "abs": Operation("abs(x)", 1, 1, _same_number),
    "round": Operation("round(x, digits)", 1, 1, _round),
    "floor": Operation("floor(x)", 1, 1, _whole),
    "ceil": Operation("ceil(x)", 1, 1, _whole),
    "sqrt": Operation("sqrt(x)", 1, 1, _fixed(DOUBLE, DOUBLE)),
    "ln": Operation("ln(x)", 1, 1, _fixed(DOUBLE, DOUBLE)),
    "exp": Operation("exp(x)", 1, 1, _fixed(DOUBLE, DOUBLE)),
    "power": Operation("power(x, y)", 2, 2, _fixed(DOUBLE, DOUBLE)),
    "case": Operation("CASE WHEN c THEN a … ELSE b END", 3, None, _case),
    "coalesce": Operation("coalesce(a, b, …)", 1, None, _common),
    "greatest": Operation("greatest(a, b, …)", 1, None, _common),
    "least": Operation("least(a, b, …)", 1, None, _common),
    "like": Operation("s LIKE pattern", 2, 2, _fixed(BOOL, STRING)),
    "lower": Operation("lower(s)", 1, 1, _fixed(STRING, STRING)),
    "upper": Operation("upper(s)", 1, 1, _fixed(STRING, STRING)),
    "trim": Operation("trim(s)", 1, 1, _fixed(STRING, STRING)),
    "ltrim": Operation("ltrim(s)", 1, 1, _fixed(STRING, STRING)),
    "rtrim": Operation("rtrim(s)", 1, 1, _fixed(STRING, STRING)),
    "length": Operation("length(s)", 1, 1, _fixed(INT64, STRING)),
    "concat": Operation("concat(a, b, …)", 1, None, _fixed(STRING, STRING)),
    "join": Operation("a || b", 2, 2, _fixed(STRING, STRING)),
    "substr": Operation("substr(s, start, length)", 2, 3, _fixed(STRING, STRING, INT64)),
    "replace": Operation("replace(s, from, to)", 3, 3, _fixed(STRING, STRING)),
    "starts_with": Operation("starts_with(s, start)", 2, 2, _fixed(BOOL, STRING)),
    "ends_with": Operation("ends_with(s, end)", 2, 2, _fixed(BOOL, STRING)),
    "contains": Operation("contains(s, part)", 2, 2, _fixed(BOOL, STRING)),
    "split_part": Operation("split_part(s, separator, n)", 3, 3, _fixed(STRING, STRING, STRING, INT64)),
    "date_part": Operation("date_part(unit, t)", 1, 1, _fixed(INT64, TIMESTAMP)),
    "date_trunc": Operation("date_trunc(unit, t)", 1, 1, _fixed(TIMESTAMP, TIMESTAMP)),
    "date_diff": Operation("date_diff(unit, a, b)", 2, 2, _fixed(INT64, TIMESTAMP)),
    "epoch_us": Operation("epoch_us(t)", 1, 1, _fixed(INT64, TIMESTAMP)),
}

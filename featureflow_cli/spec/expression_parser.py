"""From an expression's text to a checked `Expr`: sqlglot parses, and its tree ends here (design.md 1.15)."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from sqlglot import exp, parse_one
from sqlglot.errors import ParseError, TokenError

from featureflow_cli.errors import did_you_mean
from featureflow_cli.spec.expressions import Expr, ExpressionError
from featureflow_cli.spec.operations import (
    CASTS,
    DATE_PARTS,
    DATE_UNITS,
    NULL,
    OPERATIONS,
    round_type,
)
from featureflow_cli.spec.types import (
    BOOL,
    DATE,
    DOUBLE,
    INT64,
    MAX_PRECISION,
    STRING,
    TIMESTAMP,
    ColumnType,
    Value,
    decimal_type,
    parse_type,
)
from featureflow_cli.times import DAY_US, parse_timestamp

SEE_DOCS = "docs/expressions.md lists what can be written"

_PLAIN: dict[str, str] = {
    "And": "and", "Or": "or", "Not": "not", "EQ": "eq", "NEQ": "ne", "LT": "lt", "LTE": "le", "GT": "gt",
    "GTE": "ge", "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Mod": "mod", "Neg": "neg",
    "Abs": "abs", "Floor": "floor", "Ceil": "ceil", "Sqrt": "sqrt", "Ln": "ln", "Exp": "exp", "Pow": "power",
    "Coalesce": "coalesce", "Greatest": "greatest", "Least": "least", "Lower": "lower", "Upper": "upper",
    "Length": "length", "Concat": "concat", "DPipe": "join", "Substring": "substr", "Replace": "replace",
    "StartsWith": "starts_with", "EndsWith": "ends_with", "Contains": "contains", "SplitPart": "split_part",
}  # fmt: skip
"""sqlglot's node -> our operation, where the arguments are the node's own, in order."""

_ARGUMENTS = (
    "this",
    "start",
    "delimiter",
    "expression",
    "expressions",
    "length",
    "part_index",
    "replacement",
)
"""Keys of a sqlglot node that hold arguments, in the order of the call."""

_PARTS: dict[str, str] = {
    "Year": "year", "Quarter": "quarter", "Month": "month", "Week": "week", "Day": "day", "DayOfMonth": "day",
    "DayOfWeek": "dow", "DayOfWeekIso": "isodow", "DayOfYear": "doy", "Hour": "hour", "Minute": "minute",
    "Second": "second",
}  # fmt: skip

_TYPES: dict[str, ColumnType] = {
    "BOOLEAN": BOOL, "BIGINT": INT64, "INT": INT64, "DOUBLE": DOUBLE, "TEXT": STRING, "VARCHAR": STRING,
    "TIMESTAMP": TIMESTAMP, "TIMESTAMPNTZ": TIMESTAMP, "TIMESTAMPTZ": TIMESTAMP, "DATE": DATE,
}  # fmt: skip

_KNOWN = sorted(
    {operation.signature.partition("(")[0] for operation in OPERATIONS.values() if "(" in operation.signature}
    - {"x IN "}
    | {"cast", "try_cast", "nullif", "extract", "dow", "isodow", "substring", *_PARTS.values()}
)
_AS_OF = "there is no clock in an expression: `as_of` is the moment of reading, in on-demand features"
_HINTS: dict[str, str] = {
    "IntDiv": "write floor(a / b)",
    "Interval": "compare epoch_us(a) - epoch_us(b) with microseconds, or use date_diff",
    "IsNan": "NaN counts as null here: write `x is null`",
    "isfinite": "NaN and infinity count as null here: write `x is not null`",
    "isinf": "infinity counts as null here: write `x is null`",
    "now": _AS_OF,
    "CurrentTimestamp": _AS_OF,
    "CurrentDate": _AS_OF,
    "RegexpLike": "use like, starts_with, ends_with or contains",
}

_DIGITS_MOST = 15


def parse_expression(text: str, schema: Mapping[str, ColumnType]) -> Expr:
    """See `spec.expressions.parse`."""
    if not text.strip():
        raise ExpressionError("the expression is empty", 0, SEE_DOCS)
    try:
        tree = parse_one(text, into=exp.Condition, dialect="duckdb")
    except TokenError as err:
        raise ExpressionError("a quote is not closed", max(0, text.find("'")), SEE_DOCS) from err
    except ParseError as err:
        raise _syntax_error(text, err) from err
    checked = _Checker(schema).check(tree)
    if checked.type == NULL:
        raise ExpressionError("null alone has no type", 0, "write cast(null as TYPE)")
    return Expr(checked.op, checked.type, checked.args, checked.value, text.strip())


def _syntax_error(text: str, err: ParseError) -> ExpressionError:
    first = err.errors[0] if err.errors else {}
    word = str(first.get("highlight") or "")
    lines = text.splitlines(keepends=True)
    before = sum(len(line) for line in lines[: int(first.get("line") or 1) - 1])
    offset = min(max(0, before + int(first.get("col") or 0) - len(word)), len(text))
    what = str(first.get("description") or "it does not parse")
    if "Unexpected token" in what:
        what = f"'{word}' is not expected here"
    hint = f'a column of that name is written "{word}"' if word.isidentifier() else SEE_DOCS
    return ExpressionError(what[:1].lower() + what[1:], offset, hint)


def _offset(node: exp.Expression) -> int:
    """Where the leftmost thing with a known place in `node` starts."""
    starts = [each.meta["start"] for each in node.walk() if each.meta.get("start") is not None]
    return min(starts, default=0)


def literal(value: Value, column_type: ColumnType) -> Expr:
    return Expr("literal", column_type, value=value)


def _convert(expr: Expr, wanted: ColumnType) -> Expr:
    """`expr` brought to `wanted`; a conversion that is not written becomes a `cast` node."""
    if expr.type == wanted:
        return expr
    if expr.type == NULL:
        return literal(None, wanted)
    return Expr("cast", wanted, (expr,))


class _Checker:
    """One walk over one sqlglot tree: every node becomes a checked `Expr`, or an error at its place."""

    def __init__(self, schema: Mapping[str, ColumnType]) -> None:
        self._schema = schema
        self._special: dict[str, Callable[..., Expr]] = {
            "Column": self._column, "Dot": self._column, "Literal": self._literal, "Boolean": self._boolean,
            "Null": self._null, "Paren": self._paren, "Neg": self._neg, "Is": self._is, "In": self._in,
            "Between": self._between, "Like": self._like, "ILike": self._like, "Escape": self._escape,
            "Case": self._case, "If": self._if, "Nullif": self._nullif, "Round": self._round, "Trim": self._trim,
            "Cast": self._cast, "TryCast": self._cast, "Extract": self._extract, "TimestampTrunc": self._trunc,
            "DateTrunc": self._trunc, "DateDiff": self._diff, "Anonymous": self._named,
        }  # fmt: skip

    def check(self, node: exp.Expression) -> Expr:
        kind = type(node).__name__
        if kind in self._special:
            return self._special[kind](node)
        if kind in _PLAIN:
            return self._operation(_PLAIN[kind], node, self._arguments(node))
        if kind in _PARTS:
            return self._unit_of("date_part", _PARTS[kind], DATE_PARTS, node, [node.this])
        raise self._unsupported(node)

    def _unsupported(self, node: exp.Expression) -> ExpressionError:
        kind = type(node).__name__
        if isinstance(node, exp.AggFunc):
            hint = "aggregate in the feature itself (`sum: expr`, `count: expr`); an expression sees one row"
            return ExpressionError(f"{node.sql_name().lower()}() is an aggregation", _offset(node), hint)
        if isinstance(node, exp.Func):
            return self._unknown_function(node.sql_name().lower(), node, _HINTS.get(kind, ""))
        what = f"{node.sql(dialect='duckdb')} is not part of the expression language"
        return ExpressionError(what, _offset(node), _HINTS.get(kind, SEE_DOCS))

    def _unknown_function(self, name: str, node: exp.Expression, hint: str = "") -> ExpressionError:
        hint = hint or _HINTS.get(name, "") or did_you_mean(name, _KNOWN)
        known = f"{hint}; {SEE_DOCS}" if hint else SEE_DOCS
        return ExpressionError(f"unknown function '{name}'", _offset(node), known)

    def _arguments(self, node: exp.Expression) -> list[exp.Expression]:
        found: list[exp.Expression] = []
        for key in _ARGUMENTS:
            value = node.args.get(key)
            if isinstance(value, list):
                found += value
            elif value is not None:
                found.append(value)
        return found

    def _operation(
        self, op: str, node: exp.Expression, nodes: Sequence[exp.Expression], value: Value = None
    ) -> Expr:
        return self.build(op, [self.check(each) for each in nodes], node, value)

    def build(self, op: str, args: list[Expr], node: exp.Expression, value: Value = None) -> Expr:
        """The operation over checked arguments, after the table's rule."""
        operation = OPERATIONS[op]
        if not operation.least <= len(args) <= (operation.most or len(args)):
            raise ExpressionError(f"{operation.signature}: takes other arguments", _offset(node), SEE_DOCS)
        try:
            args = self._literals_fitted(args)
            wanted, answer = operation.rule([arg.type for arg in args])
        except ValueError as err:
            raise ExpressionError(f"{operation.signature}: {err}", _offset(node), SEE_DOCS) from err
        if op == "round":
            answer = round_type(answer, value if isinstance(value, int) else 0)
        converted = tuple(_convert(arg, want) for arg, want in zip(args, wanted, strict=True))
        return Expr(op, answer, converted, value)

    def _literals_fitted(self, args: list[Expr]) -> list[Expr]:
        """Literals take a nearer type from what stands beside them.

        Text beside a timestamp or a date is one (ValueError where it is not); an integer beside a decimal is a
        decimal of its own digits, so that `price * 2` gains one digit and not nineteen.
        """
        names = {arg.type.name for arg in args}
        moment = TIMESTAMP if "timestamp" in names else DATE if "date" in names else None

        def fitted(arg: Expr) -> Expr:
            if arg.op != "literal" or arg.value is None:
                return arg
            if moment is not None and arg.type == STRING:
                return _moment_literal(str(arg.value), moment)
            if arg.type == INT64 and "decimal" in names and "double" not in names:
                return literal(Decimal(str(arg.value)), decimal_type(len(str(abs(int(str(arg.value))))), 0))
            return arg

        return [fitted(arg) for arg in args]

    def _column(self, node: exp.Column | exp.Dot) -> Expr:
        if any(isinstance(part, exp.Star) for part in node.walk()):
            raise self._unsupported(node)
        name = ".".join(part.name for part in node.parts)
        column_type = self._schema.get(name)
        if column_type is None:
            hint = did_you_mean(name, self._schema) or f"there are: {', '.join(self._schema)}"
            raise ExpressionError(f"unknown column '{name}'", _offset(node), hint)
        if column_type.element is not None:
            hint = "lists can be answered by a view with `latest`, not computed with"
            raise ExpressionError(f"column '{name}' is a {column_type}", _offset(node), hint)
        return Expr("column", column_type, value=name)

    def _literal(self, node: exp.Literal) -> Expr:
        text = node.name
        if node.is_string:
            return literal(text, STRING)
        if "e" in text.lower():
            value = float(text)
            if value in (float("inf"), float("-inf")):
                raise ExpressionError(f"{text} does not fit a double", _offset(node))
            return literal(value, DOUBLE)
        number = Decimal(text)
        if "." not in text and int(text) < 2**63:
            return literal(int(text), INT64)
        scale = len(text.partition(".")[2])
        precision = max(len(number.as_tuple().digits), scale, 1)
        if precision > MAX_PRECISION:
            raise ExpressionError(
                f"{text} has over {MAX_PRECISION} digits", _offset(node), "write it with an exponent"
            )
        return literal(number, decimal_type(precision, scale))

    def _boolean(self, node: exp.Boolean) -> Expr:
        return literal(bool(node.this), BOOL)

    def _null(self, node: exp.Null) -> Expr:  # noqa: ARG002
        return literal(None, NULL)

    def _paren(self, node: exp.Paren) -> Expr:
        return self.check(node.this)

    def _neg(self, node: exp.Neg) -> Expr:
        """A negated literal is a literal: the smallest int64 has no positive."""
        arg = self.check(node.this)
        if arg.op == "literal" and isinstance(arg.value, (int, float, Decimal)) and arg.type.is_number:
            if arg.value == 2**63:
                return literal(-(2**63), INT64)
            return literal(
                arg.value.copy_negate() if arg.value and isinstance(arg.value, Decimal) else -arg.value,
                arg.type,
            )
        return self.build("neg", [arg], node)

    def _is(self, node: exp.Is) -> Expr:
        """`is null`, and `is true` or `is false`, which are never null."""
        arg = self.check(node.this)
        if isinstance(node.expression, exp.Null):
            if arg.type == NULL:
                return literal(True, BOOL)
            return self.build("is_null", [arg], node)
        if isinstance(node.expression, exp.Boolean):
            held = arg if node.expression.this else self.build("not", [arg], node)
            return self.build("coalesce", [held, literal(False, BOOL)], node)
        raise self._unsupported(node)

    def _in(self, node: exp.In) -> Expr:
        if not node.expressions:
            raise ExpressionError("IN takes a list of values, in parentheses", _offset(node), SEE_DOCS)
        return self._operation("in", node, [node.this, *node.expressions])

    def _between(self, node: exp.Between) -> Expr:
        subject = self.check(node.this)
        low = self.build("ge", [subject, self.check(node.args["low"])], node)
        high = self.build("le", [subject, self.check(node.args["high"])], node)
        return self.build("and", [low, high], node)

    def _like(self, node: exp.Expression, escape: str | None = None) -> Expr:
        args = [self.check(node.this), self.check(node.expression)]
        if isinstance(node, exp.ILike):
            if escape is not None:
                raise ExpressionError(
                    "ILIKE takes no ESCAPE", _offset(node), "use lower(s) LIKE pattern ESCAPE …"
                )
            args = [self.build("lower", [arg], node) for arg in args]
        found = self.build("like", args, node, escape)
        return self.build("not", [found], node) if node.args.get("negate") else found

    def _escape(self, node: exp.Escape) -> Expr:
        escape = node.expression
        if not (
            isinstance(escape, exp.Literal)
            and escape.is_string
            and len(escape.name) == 1
            and escape.name not in "%_"
        ):
            raise ExpressionError("ESCAPE takes one character in quotes", _offset(escape), SEE_DOCS)
        return self._like(node.this, escape.name)

    def _case(self, node: exp.Case) -> Expr:
        subject = self.check(node.this) if node.this else None
        args: list[Expr] = []
        for branch in node.args["ifs"]:
            condition = self.check(branch.this)
            args.append(self.build("eq", [subject, condition], branch) if subject else condition)
            args.append(self.check(branch.args["true"]))
        default = node.args.get("default")
        args.append(self.check(default) if default else literal(None, NULL))
        return self.build("case", args, node)

    def _if(self, node: exp.If) -> Expr:
        other = node.args.get("false")
        branches = [self.check(node.this), self.check(node.args["true"])]
        return self.build("case", [*branches, self.check(other) if other else literal(None, NULL)], node)

    def _nullif(self, node: exp.Nullif) -> Expr:
        """CASE WHEN a = b THEN null ELSE a END, in the type of a."""
        first, second = self.check(node.this), self.check(node.expression)
        equal = self.build("eq", [first, second], node)
        return self.build("case", [equal, literal(None, NULL), first], node)

    def _round(self, node: exp.Round) -> Expr:
        digits = node.args.get("decimals")
        count = int(digits.name) if isinstance(digits, exp.Literal) and digits.name.isdecimal() else None
        if digits is None:
            count = 0
        if count is None or count > _DIGITS_MOST:
            hint = f"digits are a whole number from 0 to {_DIGITS_MOST}"
            raise ExpressionError("round(x, digits): digits is not one", _offset(digits or node), hint)
        return self._operation("round", node, [node.this], count)

    def _trim(self, node: exp.Trim) -> Expr:
        if node.args.get("expression") is not None:
            raise ExpressionError("trim(s) takes off spaces, and only those", _offset(node), SEE_DOCS)
        op = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(
            str(node.args.get("position") or "").upper(), "trim"
        )
        return self._operation(op, node, [node.this])

    def _cast(self, node: exp.Cast) -> Expr:
        target = self._cast_type(node.to)
        arg = self.check(node.this)
        if arg.type in (target, NULL):
            return _convert(arg, target)
        if arg.op == "literal" and arg.type == STRING and target in (TIMESTAMP, DATE):
            try:
                return _moment_literal(str(arg.value), target)
            except ValueError as err:
                raise ExpressionError(str(err), _offset(node.this)) from err
        if target.name not in CASTS[arg.type.name]:
            hint = f"{arg.type.name} can be cast to {', '.join(CASTS[arg.type.name])}"
            raise ExpressionError(f"cannot cast {arg.type} to {target}", _offset(node), hint)
        return Expr("cast", target, (arg,))

    def _cast_type(self, node: exp.DataType) -> ColumnType:
        name = node.this.name if isinstance(node.this, exp.DType) else str(node.this)
        if name in _TYPES:
            return _TYPES[name]
        if name == "DECIMAL":
            try:
                return parse_type(f"decimal({','.join(each.name for each in node.expressions)})")
            except ValueError as err:
                raise ExpressionError(str(err), _offset(node)) from err
        hint = "one of bool, int64, double, decimal(p,s), string, timestamp, date"
        raise ExpressionError(f"cannot cast to {node.sql(dialect='duckdb').lower()}", _offset(node), hint)

    def _extract(self, node: exp.Extract) -> Expr:
        return self._unit_of("date_part", node.name, DATE_PARTS, node, [node.expression])

    def _trunc(self, node: exp.Expression) -> Expr:
        return self._unit_of("date_trunc", node.args["unit"].name, DATE_UNITS, node, [node.this])

    def _diff(self, node: exp.DateDiff) -> Expr:
        unit = node.args.get("unit")
        if unit is None:
            raise ExpressionError("date_diff(unit, a, b) needs a unit", _offset(node), "such as 'day'")
        return self._unit_of("date_diff", unit.name, DATE_UNITS, node, [node.expression, node.this])

    def _unit_of(
        self, op: str, unit: str, units: Sequence[str], node: exp.Expression, nodes: Sequence[exp.Expression]
    ) -> Expr:
        unit = {"dayofweek": "dow", "dayofyear": "doy"}.get(unit.lower(), unit.lower())
        if unit not in units:
            hint = did_you_mean(unit, units) or f"one of {', '.join(units)}"
            raise ExpressionError(f"{op} knows no unit '{unit}'", _offset(node), hint)
        return self._operation(op, node, nodes, unit)

    def _named(self, node: exp.Anonymous) -> Expr:
        """Functions that sqlglot has no class for."""
        name, arguments = node.name.lower(), node.expressions
        if name in {"date_part", "datepart"} and len(arguments) == 2:
            return self._unit_of("date_part", arguments[0].name, DATE_PARTS, node, arguments[1:])
        if name == "dow" and len(arguments) == 1:
            return self._unit_of("date_part", name, DATE_PARTS, node, arguments)
        if name == "epoch_us":
            return self._operation("epoch_us", node, arguments)
        raise self._unknown_function(name, node)


def _moment_literal(text: str, column_type: ColumnType) -> Expr:
    """The timestamp or date that quoted text spells; ValueError where it spells none."""
    moment_us = parse_timestamp(text)
    if column_type == TIMESTAMP:
        return literal(moment_us, TIMESTAMP)
    if moment_us % DAY_US:
        message = f"'{text}' is not a date"
        raise ValueError(message)
    return literal(moment_us // DAY_US, DATE)

"""From an expression's text to a checked `Expr`: sqlglot parses, and its tree ends here (design.md 1.15)."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ParseError, TokenError
from sqlglot.parsers.duckdb import DuckDBParser

from featureflow_cli.errors import did_you_mean
from featureflow_cli.spec import expression_build as build
from featureflow_cli.spec.expression_names import AGGREGATIONS, FUNCTIONS, HINTS, OPERATORS, PARTS, TYPES
from featureflow_cli.spec.expressions import Expr, ExpressionError
from featureflow_cli.spec.operations import DATE_PARTS, DATE_UNITS, NULL
from featureflow_cli.spec.types import DATE, INT64, STRING, TIMESTAMP, ColumnType, Value, parse_type

# sqlglot announces on stderr what it cannot parse; the error raised here says it already.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)

SEE_DOCS = "docs/expressions.md lists what can be written"
MOST_DIGITS = 15
"""Of round(): as many as a double has."""
MOST_NESTED = 100
"""So that no walk over an expression meets Python's own limit."""


_DUCKDB = DuckDB()


class _Parser(DuckDBParser):
    """Leaves every call that is one as its name and its arguments; sqlglot's own reading drops some of them."""

    FUNCTIONS: ClassVar[dict[str, Callable[..., exp.Expr]]] = {}
    FUNCTION_PARSERS: ClassVar[dict[str, Callable[..., exp.Expr]]] = {
        name: DuckDBParser.FUNCTION_PARSERS[name] for name in ("CAST", "TRY_CAST", "EXTRACT")
    }


def parse_expression(text: str, schema: Mapping[str, ColumnType]) -> Expr:
    """See `spec.expressions.parse`."""
    try:
        trees = _Parser(dialect=_DUCKDB).parse_into(exp.Condition, _DUCKDB.tokenize(text), text)
    except TokenError as err:
        what = "a quote is not closed"
        raise ExpressionError(what, max(0, text.find("'")), SEE_DOCS) from err
    except ParseError as err:
        raise _syntax_error(text, err) from err
    except RecursionError:
        what = "it is nested too deeply"
        raise ExpressionError(what, 0, SEE_DOCS) from None  # a thousand frames of sqlglot say no more
    tree = trees[0] if trees else None
    if tree is None:
        what = "the expression is empty"
        raise ExpressionError(what, 0, SEE_DOCS)
    if len(trees) > 1:
        what = "it is more than one expression"
        raise ExpressionError(what, max(0, text.find(";")), SEE_DOCS)
    checked = _Checker(schema).check(tree)
    if checked.type == NULL:
        what = "null alone has no type"
        raise ExpressionError(what, 0, "write cast(null as TYPE)")
    return Expr(checked.op, checked.type, checked.args, checked.value, text.strip())


def _syntax_error(text: str, err: ParseError) -> ExpressionError:
    first = err.errors[0] if err.errors else {}
    word = str(first.get("highlight") or "")
    lines = text.splitlines(keepends=True)
    before = sum(len(line) for line in lines[: int(first.get("line") or 1) - 1])
    offset = min(max(0, before + int(first.get("col") or 0) - len(word)), len(text))
    what = str(first.get("description") or "it does not parse")
    hint = SEE_DOCS
    if "Unexpected token" in what:
        what = f"'{word}' is not expected here"
        hint = f'if it is a column, write "{word}"' if word.isidentifier() else SEE_DOCS
    elif what.startswith("Required keyword"):
        what = f"something is missing beside '{word}'"
    return ExpressionError(what[:1].lower() + what[1:], offset, hint)


def _offset(node: exp.Expr) -> int:
    """Where the leftmost thing with a known place in `node` starts."""
    starts = [each.meta["start"] for each in node.walk() if each.meta.get("start") is not None]
    return min(starts, default=0)


def _wrong(node: exp.Expr, what: str, hint: str = SEE_DOCS) -> ExpressionError:
    return ExpressionError(what, _offset(node), hint)


class _Checker:
    """One walk over one sqlglot tree: every node becomes a checked `Expr`, or an error at its place."""

    def __init__(self, schema: Mapping[str, ColumnType]) -> None:
        self._schema = schema
        self._depth = 0
        self._special: dict[str, Callable[..., Expr]] = {
            "Column": self._column, "Dot": self._column, "Literal": self._literal, "Boolean": self._boolean,
            "Null": lambda node: build.NULL_LITERAL, "Paren": lambda node: self.check(node.this),
            "Neg": lambda node: build.negated(self.check(node.this)), "Is": self._is, "In": self._in,
            "Between": self._between, "Like": self._like, "ILike": self._like, "Escape": self._escape,
            "Case": self._case, "If": self._if, "Cast": self._cast, "TryCast": self._try_cast,
            "Extract": self._extract, "Anonymous": self._call,
        }  # fmt: skip
        self._calls: dict[str, Callable[[list[exp.Expr]], Expr]] = {
            "nullif": self._nullif, "round": self._round, "split_part": self._split_part,
            "date_part": self._date_part, "datepart": self._date_part, "date_trunc": self._date_trunc,
            "datetrunc": self._date_trunc, "date_diff": self._date_diff, "datediff": self._date_diff,
        }  # fmt: skip

    def check(self, node: exp.Expr) -> Expr:
        """ExpressionError at the innermost node that is wrong."""
        kind = type(node).__name__
        if self._depth == MOST_NESTED:
            raise _wrong(node, f"it is nested over {MOST_NESTED} deep")
        self._depth += 1
        try:
            if isinstance(node, exp.And | exp.Or):  # a long chain is one operation of many arguments
                return self._operation(OPERATORS[kind], list(node.flatten()))
            if kind in OPERATORS:
                sides = (node.this, node.args.get("expression"))
                return self._operation(OPERATORS[kind], [side for side in sides if side is not None])
            if kind in self._special:
                return self._special[kind](node)
        except ValueError as err:
            raise _wrong(node, str(err)) from err
        finally:
            self._depth -= 1
        raise self._unsupported(node)

    def _operation(self, op: str, nodes: Sequence[exp.Expr], value: Value = None) -> Expr:
        return build.operation(op, [self.check(each) for each in nodes], value)

    def _unsupported(self, node: exp.Expr) -> ExpressionError:
        hint = HINTS.get(type(node).__name__, SEE_DOCS)
        return _wrong(node, f"{node.sql(dialect='duckdb')} is not part of the language", hint)

    def _column(self, node: exp.Column | exp.Dot) -> Expr:
        if not all(isinstance(part, exp.Identifier) for part in node.parts):
            raise self._unsupported(node)
        name = ".".join(part.name for part in node.parts)
        column_type = self._schema.get(name)
        if column_type is None:
            known = did_you_mean(name, self._schema) or f"there are: {', '.join(self._schema)}"
            raise _wrong(node, f"unknown column '{name}'", known)
        if column_type.element is not None:
            hint = "a view with `latest` can answer lists; expressions do not compute with them"
            raise _wrong(node, f"column '{name}' is a {column_type}", hint)
        return Expr("column", column_type, value=name)

    def _literal(self, node: exp.Literal) -> Expr:
        return build.literal(node.name, STRING) if node.is_string else build.number(node.name)

    def _boolean(self, node: exp.Boolean) -> Expr:
        return build.TRUE if node.this else build.FALSE

    def _is(self, node: exp.Is) -> Expr:
        """`is null`, and `is true` or `is false`, which are never null."""
        arg = self.check(node.this)
        if isinstance(node.expression, exp.Null):
            return build.operation("is_null", [arg])
        if isinstance(node.expression, exp.Boolean):
            held = arg if node.expression.this else build.operation("not", [arg])
            return build.operation("coalesce", [held, build.FALSE])
        raise self._unsupported(node)

    def _in(self, node: exp.In) -> Expr:
        if not node.expressions:
            raise _wrong(node, "IN takes a list of values in parentheses")
        return self._operation("in", [node.this, *node.expressions])

    def _between(self, node: exp.Between) -> Expr:
        subject = self.check(node.this)
        low = build.operation("ge", [subject, self.check(node.args["low"])])
        high = build.operation("le", [subject, self.check(node.args["high"])])
        return build.operation("and", [low, high])

    def _like(self, node: exp.Like | exp.ILike, escape: str | None = None) -> Expr:
        args = [self.check(node.this), self.check(node.expression)]
        if isinstance(node, exp.ILike):
            if escape is not None:
                raise _wrong(node, "ILIKE takes no ESCAPE", "write lower(s) LIKE pattern ESCAPE '…'")
            args = [build.operation("lower", [arg]) for arg in args]
        if escape is not None:
            self._whole_pattern(node, args[1], escape)
        found = build.operation("like", args, escape)
        return build.operation("not", [found]) if node.args.get("negate") else found

    def _whole_pattern(self, node: exp.Expr, pattern: Expr, escape: str) -> None:
        """A pattern with escapes is a literal, so that none of them can stand at its end."""
        text = str(pattern.value).replace(escape * 2, "") if pattern.op == "literal" else escape
        if text.endswith(escape):
            raise _wrong(node, "LIKE … ESCAPE takes a pattern in quotes that does not end within an escape")

    def _escape(self, node: exp.Escape) -> Expr:
        escape = node.expression
        if not (isinstance(escape, exp.Literal) and len(escape.name) == 1 and escape.name not in "%_"):
            raise _wrong(escape, "ESCAPE takes one character in quotes")
        return self._like(node.this, escape.name)

    def _case(self, node: exp.Case) -> Expr:
        subject = self.check(node.this) if node.this else None
        args: list[Expr] = []
        for branch in node.args["ifs"]:
            condition = self.check(branch.this)
            args.append(build.operation("eq", [subject, condition]) if subject else condition)
            args.append(self.check(branch.args["true"]))
        default = node.args.get("default")
        return build.operation("case", [*args, self.check(default) if default else build.NULL_LITERAL])

    def _if(self, node: exp.If) -> Expr:
        other = node.args.get("false")
        branches = [self.check(node.this), self.check(node.args["true"])]
        return build.operation("case", [*branches, self.check(other) if other else build.NULL_LITERAL])

    def _cast(self, node: exp.Cast) -> Expr:
        """Quoted text is a timestamp or date at once, or wrong: `timestamp '…'` comes here too."""
        arg, target = self.check(node.this), self._type(node.to)
        if arg.op == "literal" and arg.type == STRING and target in {TIMESTAMP, DATE}:
            return build.moment(str(arg.value), target)
        return build.cast(arg, target)

    def _try_cast(self, node: exp.TryCast) -> Expr:
        return build.cast(self.check(node.this), self._type(node.to))

    def _type(self, node: exp.DataType) -> ColumnType:
        name = node.this.name if isinstance(node.this, exp.DType) else str(node.this)
        if name == "DECIMAL":
            return parse_type(f"decimal({','.join(each.name for each in node.expressions)})")
        if name not in TYPES:
            hint = "one of bool, int64, double, decimal(p,s), string, timestamp, date"
            raise _wrong(node.parent or node, f"cannot cast to {node.sql(dialect='duckdb').lower()}", hint)
        return TYPES[name]

    def _extract(self, node: exp.Extract) -> Expr:
        return self._of_unit("date_part", [node.this, node.expression], DATE_PARTS)

    # --- calls: by the function's name

    def _call(self, node: exp.Anonymous) -> Expr:
        name, nodes = node.name.lower(), node.expressions
        if name in FUNCTIONS:
            return self._operation(FUNCTIONS[name], nodes)
        if name in PARTS:
            return self._operation("date_part", nodes, PARTS[name])
        if name in self._calls:
            return self._calls[name](nodes)
        if name in AGGREGATIONS:
            what = f"{name}() is an aggregation, and an expression sees one row"
            raise _wrong(node, what, "aggregate in the feature itself: `sum: expr`, `count: expr`")
        known = [*FUNCTIONS, *PARTS, *self._calls, "cast", "try_cast", "extract"]
        hint = HINTS.get(name, "") or did_you_mean(name, known)
        raise _wrong(node, f"unknown function '{name}'", f"{hint}; {SEE_DOCS}" if hint else SEE_DOCS)

    def _nullif(self, nodes: list[exp.Expr]) -> Expr:
        """CASE WHEN a = b THEN null ELSE a END."""
        equal = self._operation("eq", nodes)
        return build.operation("case", [equal, build.NULL_LITERAL, self.check(nodes[0])])

    def _round(self, nodes: list[exp.Expr]) -> Expr:
        digits = self.check(nodes[1]) if len(nodes) > 1 else build.literal(0, INT64)
        count = digits.value if digits.op == "literal" else None
        if not (isinstance(count, int) and 0 <= count <= MOST_DIGITS):
            raise _wrong(nodes[1], f"round(x, digits): digits is a literal from 0 to {MOST_DIGITS}")
        return self._operation("round", [*nodes[:1], *nodes[2:]], count)

    def _split_part(self, nodes: list[exp.Expr]) -> Expr:
        found = self._operation("split_part", nodes)
        if found.args[1].op != "literal" or not found.args[1].value:
            raise _wrong(
                nodes[1], "split_part(s, separator, n) takes a separator in quotes, not an empty one"
            )
        return found

    def _date_part(self, nodes: list[exp.Expr]) -> Expr:
        return self._of_unit("date_part", nodes, DATE_PARTS)

    def _date_trunc(self, nodes: list[exp.Expr]) -> Expr:
        return self._of_unit("date_trunc", nodes, DATE_UNITS)

    def _date_diff(self, nodes: list[exp.Expr]) -> Expr:
        return self._of_unit("date_diff", nodes, DATE_UNITS)

    def _of_unit(self, op: str, nodes: Sequence[exp.Expr], units: Sequence[str]) -> Expr:
        """The first argument is the unit, as text or as a bare word."""
        written = nodes[0].name.lower() if nodes else ""
        unit = PARTS.get(written, written)
        if unit not in units:
            message = f"{op} knows no unit '{written}': {did_you_mean(written, units) or 'one of ' + ', '.join(units)}"
            raise ValueError(message)
        return self._operation(op, nodes[1:], unit)

"""Expressions: a small SQL subset, parsed with sqlglot and type-checked against a schema (design.md 1.15).

`docs/expressions.md` is the subset as users read it; `spec/operations.py` is its table of types. An `Expr` is
evaluated by compute/rows.py (one row), compute/sql_expressions.py (DuckDB) and, where it is plain, compute/arrays.py,
with the same answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from featureflow_cli.errors import FeatureflowError, Problem
from featureflow_cli.spec.types import ColumnType, Value


@dataclass(frozen=True)
class Expr:
    """A checked expression: `op` is `column`, `literal`, `cast`, or an operation of `OPERATIONS`.

    `type` is the type of the answer. `value` is a literal's value, a column's name, or what an operation
    takes beside its arguments: the unit of `date_part`, `date_trunc` and `date_diff`, the digits of `round`,
    the escape character of `like`. Implicit conversions are `cast` nodes, so an evaluator only ever meets the
    argument types of the table. `text` is as written, at the root only.
    """

    op: str
    type: ColumnType
    args: tuple["Expr", ...] = ()
    value: Value = None
    text: str = ""

    @property
    def columns(self) -> frozenset[str]:
        """Names of the columns it reads."""
        if self.op == "column":
            return frozenset({str(self.value)})
        return frozenset().union(*(arg.columns for arg in self.args))


class ExpressionError(FeatureflowError):
    """An expression that does not parse or check: `what` is wrong at `offset` (in characters of the text)."""

    exit_code = 3
    code = "invalid_expression"

    def __init__(self, what: str, offset: int, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.offset = offset

    def __str__(self) -> str:
        return str(Problem(at="", what=f"{self.what} (at character {self.offset + 1})", hint=self.hint))


def parse(text: str, schema: Mapping[str, ColumnType]) -> Expr:
    """The checked expression that `text` spells over the columns of `schema`; ExpressionError otherwise.

    Names in `schema` may be dotted (`user_activity.total_spend_24h`); they match exactly, case included.
    """
    from featureflow_cli.spec.expression_parser import parse_expression

    return parse_expression(text, schema)

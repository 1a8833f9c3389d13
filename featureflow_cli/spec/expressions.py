"""Expressions: a small SQL subset, parsed with sqlglot and type-checked against a schema (design.md 1.15)."""

from dataclasses import dataclass

from featureflow_cli.spec.types import ColumnType, Value


@dataclass(frozen=True)
class Expr:
    """A checked expression: `op` is `column`, `literal`, or an operation of the table below.

    `value` is a literal's value or a column's name; `type` is the type of the answer; `text` is as written.
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

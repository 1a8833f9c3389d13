"""Where a view meets its source: the SQL that projects a relation of source rows to what the view computes with.

One text for bootstrap and training, which run it over the log. The stream projects a batch by arrays, to the same
answers (compute/projecting.py).
"""

from collections.abc import Sequence

from featureflow_cli.compute.hashing import MAX_TEXT_BYTES
from featureflow_cli.compute.sql_expressions import expression_sql
from featureflow_cli.compute.sql_text import quoted
from featureflow_cli.compute.views import View
from featureflow_cli.spec.expressions import Expr
from featureflow_cli.spec.types import STRING


def projection_sql(view: View, relation: str) -> str:
    """SELECT over `relation` (the source's columns) of the view's events, one row each.

    `k0…` join keys (never null), `ts` BIGINT microseconds, `m0…` masks (BOOLEAN, never null), `x0…` operands (null
    where nothing is added: NaN, infinity and text over 1,024 bytes too); for a latest view `l0…` its columns,
    `created` BIGINT microseconds and `deleted` BOOLEAN.
    """
    source = view.source
    columns = [f"{quoted(key.column)} AS k{place}" for place, key in enumerate(view.join_keys)]
    columns.append(f"epoch_us({quoted(source.timestamp_field)}) AS ts")
    columns += [f"{_mask(mask)} AS m{place}" for place, mask in enumerate(view.masks)]
    columns += [f"{_operand(operand)} AS x{place}" for place, operand in enumerate(view.operands)]
    if view.latest:
        columns += [f"{quoted(name)} AS l{place}" for place, (name, _) in enumerate(view.latest)]
        created = (
            f"epoch_us({quoted(source.created_timestamp)})" if source.created_timestamp else "NULL::BIGINT"
        )
        columns += [f"{created} AS created", f"{_mask(view.deleted) if view.deleted else 'false'} AS deleted"]
    conditions = [f"{quoted(key.column)} IS NOT NULL" for key in view.join_keys]
    if view.where is not None:
        conditions.append(expression_sql(view.where))
    return f"SELECT {', '.join(columns)} FROM {relation} WHERE {' AND '.join(conditions)}"


def values_sql(expressions: Sequence[Expr], relation: str) -> str:
    """SELECT of the value of each expression, `e0…`, in each row of `relation`, in its order."""
    columns = (f"{expression_sql(expr)} AS e{place}" for place, expr in enumerate(expressions))
    return f"SELECT {', '.join(columns)} FROM {relation}"


def _mask(expression: Expr) -> str:
    """SQL's rule: a null condition is false (design.md 1.8)."""
    return f"coalesce({expression_sql(expression)}, false)"


def _operand(expression: Expr) -> str:
    text = expression_sql(expression)
    return (
        f"CASE WHEN strlen({text}) <= {MAX_TEXT_BYTES} THEN {text} END" if expression.type == STRING else text
    )

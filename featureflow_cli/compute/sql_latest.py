"""The newest whole row in SQL: the order of rows, and their columns (design.md 1.16)."""

from featureflow_cli.compute.sql_aggregates import canonical_text_sql, finite
from featureflow_cli.compute.views import View
from featureflow_cli.spec.types import DOUBLE, ColumnType


def newest_first(view: View) -> str:
    """ORDER BY terms over the projection's columns: time, created_timestamp (null is oldest), canonical text."""
    columns = [_json(f"l{place}", column_type) for place, (_, column_type) in enumerate(view.latest)]
    row = f"json_array({', '.join([*columns, 'deleted'])})"
    return f"ts DESC, created DESC NULLS LAST, ff_row_text({row}) DESC"


def finite_columns(view: View, relation: str) -> dict[str, str]:
    """SQL of each latest column by name: no NaN and no infinity, alone or in a list."""
    return {
        name: _finite(f"{relation}.l{place}", column_type)
        for place, (name, column_type) in enumerate(view.latest)
    }


def _finite(value: str, column_type: ColumnType) -> str:
    if column_type.element is not None:
        inner = _finite("each", column_type.element)
        return value if inner == "each" else f"list_transform({value}, lambda each: {inner})"
    return finite(value) if column_type == DOUBLE else value


def _json(value: str, column_type: ColumnType) -> str:
    """What compute/rowtext.py writes of a value, as something that `json_array` writes alike."""
    if column_type.element is not None:
        return f"list_transform({value}, lambda each: {_json('each', column_type.element)})"
    if column_type == DOUBLE:
        return finite(value)
    if column_type.name == "decimal":
        return canonical_text_sql(value, column_type)
    if column_type.name == "timestamp":
        return f"epoch_us({value})"
    return f"{value} - DATE '1970-01-01'" if column_type.name == "date" else value

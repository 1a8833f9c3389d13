"""Answers as JSON spells them: one shape for HTTP, `get --json` and the Python client (docs/http.md).

Decimals are text (exact), timestamps RFC 3339 with microseconds, dates ISO 8601, int64 numbers.
"""

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from decimal import Decimal

from featureflow_cli.compute.views import Service
from featureflow_cli.evaluate.vector import Vector
from featureflow_cli.spec.types import ColumnType, Value
from featureflow_cli.times import format_timestamp

Spelling = Callable[[Value], object]
_EPOCH = date(1970, 1, 1)


def spelling(column_type: ColumnType) -> Spelling | None:
    """How values of that type (not null) are spelled; None where JSON has them as they are."""
    if column_type.element is not None:
        return _list_spelling(spelling(column_type.element))
    return {"decimal": _decimal, "timestamp": _timestamp, "date": _date}.get(column_type.name)


def spellings(service: Service) -> dict[str, Spelling]:
    """By name, those outputs of the service that JSON does not have as they are."""
    found = {name: spelling(column_type) for name, column_type in service.outputs}
    return {name: spell for name, spell in found.items() if spell is not None}


def spelled(features: Mapping[str, Value], how: Mapping[str, Spelling]) -> dict[str, object]:
    values: dict[str, object] = dict(features)
    for name, spell in how.items():
        value = features[name]
        if value is not None:
            values[name] = spell(value)
    return values


def body(vector: Vector, how: Mapping[str, Spelling]) -> dict[str, object]:
    """One vector: features, status, reasons, age_ms and as_of."""
    return {
        "features": spelled(vector.features, how),
        "status": vector.status,
        "reasons": vector.reasons,
        "age_ms": {alias: age // 1_000 for alias, age in vector.age_us.items()},
        "as_of": format_timestamp(vector.as_of_us),
    }


def _decimal(value: Value) -> object:
    assert isinstance(value, Decimal)
    return format(value, "f")  # str would write 1E-7


def _timestamp(value: Value) -> object:
    assert isinstance(value, int)
    return format_timestamp(value)


def _date(value: Value) -> object:
    assert isinstance(value, int)
    return (_EPOCH + timedelta(days=value)).isoformat()


def _list_spelling(element: Spelling | None) -> Spelling:
    def spell(value: Value) -> object:
        assert isinstance(value, tuple)
        if element is None:
            return list(value)
        return [None if each is None else element(each) for each in value]

    return spell

"""What a reader must be told: the join keys of a service and the columns that come with a request, in their types."""

from collections.abc import Mapping
from dataclasses import dataclass

from featureflow_cli.compute.views import Service
from featureflow_cli.errors import NotFound, UsageError, did_you_mean
from featureflow_cli.sources.literals import MAX_INT64, MIN_INT64, Misfit, fit_json
from featureflow_cli.spec.types import ColumnType, Value

Row = Mapping[str, object]
"""Join keys and request columns by name, as JSON or the command line spells them."""


@dataclass(frozen=True)
class Expected:
    """What a row must hold: the join keys first, then the columns that come with the request."""

    keys: Mapping[str, ColumnType]
    request: Mapping[str, ColumnType]

    def __str__(self) -> str:
        return f"expected: {', '.join([*self.keys, *self.request])}"


def expected_of(service: Service) -> Expected:
    keys: dict[str, ColumnType] = {}
    request: dict[str, ColumnType] = {}
    for each in service.views:
        for key in each.view.join_keys:
            keys[each.join_keys.get(key.name, key.name)] = key.type
    for feature in service.on_demand:
        request |= {name: column for name, column in feature.request.items() if name not in keys}
    return Expected(keys, request)


def typed_row(expected: Expected, row: Row) -> dict[str, Value]:
    """The join keys and request columns of `row` in their types; NotFound or UsageError names what is off."""
    typed: dict[str, Value] = {}
    for kind, columns in (("join key", expected.keys), ("request column", expected.request)):
        for name, column_type in columns.items():
            if name not in row:
                _refuse_others(expected, row)
                message = f"missing {kind} '{name}'"
                raise UsageError(message, hint=str(expected), at=name)
            typed[name] = typed_value(row[name], column_type, name)
    if len(row) != len(typed):
        _refuse_others(expected, row)
    return typed


def _refuse_others(expected: Expected, row: Row) -> None:
    known = [*expected.keys, *expected.request]
    for name in row:
        if name not in known:
            message = f"unknown join key or request column '{name}'"
            raise UnknownKey(message, hint=did_you_mean(name, known) or str(expected), at=name)


class UnknownKey(NotFound):
    code = "unknown_join_key"


def typed_value(written: object, column_type: ColumnType, at: str) -> Value:
    """A JSON or command-line value as `column_type`, by the rule that events follow; UsageError where it misfits."""
    if type(written) is int and column_type.name == "int64" and MIN_INT64 <= written <= MAX_INT64:
        return written
    try:
        return fit_json(written, column_type)
    except Misfit as err:
        message = f"'{at}' is {column_type}: {str(written)[:80]!r} does not fit"
        raise UsageError(message, at=at) from err

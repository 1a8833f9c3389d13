"""The value at a path of a JSON event, and how it is said where it does not fit."""

from collections.abc import Sequence
from typing import Any

from featureflow_cli.sources.letters import shown
from featureflow_cli.sources.literals import Misfit, json_text, read_json
from featureflow_cli.spec.types import ColumnType


def value_at(event: Any, path: Sequence[str]) -> Any:
    """None where a field is missing or null, Misfit where one on the way is no object."""
    for name in path:
        if event is None:
            return None
        if not isinstance(event, dict):
            raise Misfit
        event = event.get(name)
    return event


def text_at(message: bytes, path: Sequence[str]) -> str:
    """The value at a path of a message that was read, as it stands there."""
    return _written(value_at(read_json(message.decode()), path))


def misfit_at(event: Any, name: str, column_type: ColumnType, path: Sequence[str]) -> str:
    """Why the value of that column does not fit."""
    try:
        return f"column '{name}': {shown(_written(value_at(event, path)))} is not {column_type}"
    except Misfit:
        return f"column '{name}': '{'.'.join(path[:-1])}' is not an object"


def _written(value: object) -> str:
    return value if isinstance(value, str) else json_text(value)

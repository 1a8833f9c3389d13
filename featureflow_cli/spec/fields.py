"""What one value in the YAML may be: durations, windows, types, names; read from text and dumped as text."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from featureflow_cli.spec.types import ColumnType, parse_type
from featureflow_cli.times import format_duration, parse_duration, parse_timestamp

FOREVER = "forever"


def _duration(written: object) -> int:
    if not isinstance(written, str):
        message = f"write a duration such as 90s, 15m, 1h or 7d, not {written!r}"
        raise ValueError(message)
    return parse_duration(written)


def _window(written: object) -> str:
    if written != FOREVER:
        _duration(written)
    return str(written)


def _column_type(written: object) -> ColumnType:
    return written if isinstance(written, ColumnType) else parse_type(str(written))


def _timestamp_text(written: object) -> str:
    text = str(written)
    parse_timestamp(text)
    return text


def _either_duration_or_forever(written: object) -> int | Literal["forever"]:
    return "forever" if written == FOREVER else _duration(written)


Duration = Annotated[
    int,
    BeforeValidator(_duration, json_schema_input_type=str),
    PlainSerializer(format_duration, return_type=str),
]
"""Microseconds; written and dumped as text (`90s`)."""
Ttl = Annotated[
    int | Literal["forever"],
    BeforeValidator(_either_duration_or_forever, json_schema_input_type=str),
    PlainSerializer(lambda ttl: ttl if ttl == FOREVER else format_duration(ttl), return_type=str),
]
Window = Annotated[str, BeforeValidator(_window, json_schema_input_type=str)]
"""A duration as the user wrote it, or `forever`."""
Resolution = Annotated[str, BeforeValidator(lambda text: text if text == "exact" else _window(text))]
"""A rung of the ladder, or `exact`."""
Type = Annotated[
    ColumnType,
    BeforeValidator(_column_type, json_schema_input_type=str),
    PlainSerializer(str, return_type=str),
]
Timestamp = Annotated[str, BeforeValidator(_timestamp_text, json_schema_input_type=str)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
FeatureName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\{window\}[A-Za-z0-9_]*)?$")]
TimestampFormat = Literal["iso8601", "epoch_s", "epoch_ms", "epoch_us"]
Unit = Literal["us", "ms", "seconds", "minutes", "hours", "days"]

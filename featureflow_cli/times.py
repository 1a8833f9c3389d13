"""Time as the whole product knows it: int64 microseconds since the epoch, UTC (design.md 1.1).

Text is read and written here and nowhere else. Nothing here reads a clock but `system_clock`, which is
handed to whoever asks "now".
"""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], int]
"""Answers the present moment in microseconds."""

MILLISECOND_US = 1_000
SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

_UNITS_US = {"us": 1, "ms": MILLISECOND_US, "s": SECOND_US, "m": MINUTE_US, "h": HOUR_US, "d": DAY_US}
_DURATION = re.compile(r"(\d+)(us|ms|s|m|h|d)")
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})"
    r"(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?"
    r"\s?(Z|z|UTC|[+-]\d{2}(?::?\d{2})?)?)?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def system_clock() -> int:
    """Now, in microseconds since the epoch."""
    return time.time_ns() // 1_000


def parse_duration(text: str) -> int:
    """Microseconds of a duration such as `90s`, `15m`, `1h`, `7d`, `250ms`; ValueError for any other text."""
    match = _DURATION.fullmatch(text)
    if match is None:
        message = f"'{text}' is not a duration"
        raise ValueError(message)
    return int(match[1]) * _UNITS_US[match[2]]


def format_duration(duration_us: int) -> str:
    """The shortest text that `parse_duration` reads back: 3_600_000_000 -> `1h`."""
    for unit in ("d", "h", "m", "s", "ms"):
        if duration_us and duration_us % _UNITS_US[unit] == 0:
            return f"{duration_us // _UNITS_US[unit]}{unit}"
    return f"{duration_us}us"


def parse_timestamp(text: str) -> int:
    """Microseconds of an ISO 8601 timestamp (`T` or a space; no zone means UTC; finer digits are floored).

    A date alone is its midnight. ValueError for any other text and for days that do not exist.
    """
    match = _TIMESTAMP.fullmatch(text.strip())
    if match is None:
        message = f"'{text}' is not an ISO 8601 timestamp"
        raise ValueError(message)
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    moment = datetime(
        int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC
    )
    whole_us = (moment - _EPOCH) // timedelta(microseconds=1)
    return whole_us + int((fraction or "").ljust(6, "0")[:6]) - _zone_us(zone)


def format_timestamp(moment_us: int) -> str:
    """RFC 3339 with microseconds: `2026-01-01T10:00:00.000000Z`."""
    return (_EPOCH + timedelta(microseconds=moment_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def _zone_us(zone: str | None) -> int:
    if zone is None or zone.upper() in {"Z", "UTC"}:
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    offset_us = int(digits[:2]) * HOUR_US + int(digits[2:]) * MINUTE_US
    return -offset_us if zone[0] == "-" else offset_us

"""The calendar of expressions: proleptic Gregorian, UTC, over int64 microseconds.

Weeks are those of ISO 8601, from Monday. Moments outside the years 1 to 9999 have no calendar: every answer
about one is None.
"""

from datetime import UTC, date, datetime, timedelta

from featureflow_cli.times import DAY_US, HOUR_US, MILLISECOND_US, MINUTE_US, SECOND_US

FIRST_US = -62_135_596_800_000_000
"""0001-01-01T00:00:00Z."""
LAST_US = 253_402_300_799_999_999
"""9999-12-31T23:59:59.999999Z."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_FIXED_US = {
    "day": DAY_US,
    "hour": HOUR_US,
    "minute": MINUTE_US,
    "second": SECOND_US,
    "millisecond": MILLISECOND_US,
    "microsecond": 1,
}
_MONTHS = {"year": 12, "quarter": 3, "month": 1}
_MONDAY_US = 4 * DAY_US
"""The first Monday of the epoch, 1970-01-05."""


def datetime_of(moment_us: int) -> datetime | None:
    return _EPOCH + timedelta(microseconds=moment_us) if FIRST_US <= moment_us <= LAST_US else None


def part(unit: str, moment_us: int) -> int | None:
    """`dow` is 0 on Sundays, `isodow` 7; `week` is the ISO week; `second` is whole."""
    moment = datetime_of(moment_us)
    if moment is None:
        return None
    if unit in {"year", "month", "day", "hour", "minute", "second"}:
        return int(getattr(moment, unit))
    if unit == "quarter":
        return (moment.month + 2) // 3
    if unit == "week":
        return moment.isocalendar().week
    if unit == "doy":
        return moment.timetuple().tm_yday
    return moment.isoweekday() if unit == "isodow" else moment.isoweekday() % 7


def trunc(unit: str, moment_us: int) -> int | None:
    """The start of the unit that the moment lies in."""
    number = _number(unit, moment_us)
    if number is None:
        return None
    if unit in _FIXED_US:
        return number * _FIXED_US[unit]
    if unit == "week":
        return number * 7 * DAY_US + _MONDAY_US  # never before FIRST_US, which is a Monday
    year, month = divmod(number * _MONTHS[unit], 12)
    return (date(year, month + 1, 1).toordinal() - _EPOCH_DAY) * DAY_US


def diff(unit: str, earlier_us: int, later_us: int) -> int | None:
    """How many unit boundaries lie in (earlier, later]; negative where they stand the other way round."""
    first, second = _number(unit, earlier_us), _number(unit, later_us)
    return None if first is None or second is None else second - first


def _number(unit: str, moment_us: int) -> int | None:
    """Which unit the moment lies in, counted from any fixed one."""
    moment = datetime_of(moment_us)
    if moment is None:
        return None
    if unit in _FIXED_US:
        return moment_us // _FIXED_US[unit]
    if unit == "week":
        return (moment_us - _MONDAY_US) // (7 * DAY_US)
    return (moment.year * 12 + moment.month - 1) // _MONTHS[unit]

"""Columns of moments: text, counts since the epoch, and Arrow's own timestamps and dates (design.md 1.1)."""

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featureflow_cli.sources import literals
from featureflow_cli.sources.arrays import MOMENT, Bools, Ints, ints, to_moments, valid
from featureflow_cli.sources.literals import EPOCH_UNITS_US
from featureflow_cli.spec.types import MAX_PRECISION
from featureflow_cli.times import DAY_US

SHORTEST_WITH_TIME = len("2026-01-01T10")
ZONED = r"[Zz]$|:.*[+-][0-9:]+$"
FRACTIONAL = pa.decimal256(MAX_PRECISION, 20)
UNIT_US = {"s": 1_000_000, "ms": 1_000, "us": 1}


def iso8601(array: Any) -> Any:
    """Moments of text; ArrowInvalid where one is nothing that Arrow reads. No zone means UTC."""
    for unit in ("us", "ns"):
        for zone in ("UTC", None):
            try:
                found = array.cast(pa.timestamp(unit, zone))
            except pa.ArrowInvalid:
                continue
            return found.cast(MOMENT) if unit == "us" else to_moments(of_arrow(found)[0], valid(found))
    zoned = pc.match_substring_regex(array, ZONED)
    if not pc.any(zoned).as_py() or pc.all(zoned).as_py():
        raise pa.ArrowInvalid
    absent = pa.scalar(None, array.type)
    return pc.coalesce(
        iso8601(pc.if_else(zoned, array, absent)), iso8601(pc.if_else(pc.invert(zoned), array, absent))
    )


def without_minutes(array: Any) -> Bools:
    """Where a time is an hour only, which Arrow reads and `literals` does not."""
    lengths = ints(pc.binary_length(array))
    doubtful = lengths >= SHORTEST_WITH_TIME
    _, offsets, text = array.buffers()
    if not doubtful.any():
        return doubtful
    starts = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array)]
    minutes = starts.astype(np.int64)[doubtful] + SHORTEST_WITH_TIME
    octets = np.frombuffer(text, np.uint8)
    inside = lengths[doubtful] > SHORTEST_WITH_TIME
    doubtful[doubtful] = ~inside | (octets[np.minimum(minutes, octets.size - 1)] != ord(":"))
    return doubtful


def outside(array: Any) -> Bools:
    """Where a moment or a date lies outside of the years 1 to 9999: Arrow reads the year 0."""
    ticks, unit_us = _ticks(array)
    return _outside(ticks, unit_us) & valid(array)


def of_epoch(units: Any, timestamp_format: str) -> tuple[Any, Bools]:
    """(moments, where they lie outside of the years 1 to 9999) of a column of whole units."""
    unit_us, present, counts = EPOCH_UNITS_US[timestamp_format], valid(units), ints(units)
    outside = _outside(counts, unit_us) & present
    return to_moments(np.where(outside, 0, counts) * unit_us, present & ~outside), outside


def epoch_text(array: Any, timestamp_format: str) -> Any:
    """Moments of text without exponents and hexadecimals; ArrowInvalid where one is outside or no number."""
    try:
        units = array.cast(pa.int64())
    except pa.ArrowInvalid:
        return of_fractional_epoch(array.cast(FRACTIONAL), timestamp_format)
    found, outside = of_epoch(units, timestamp_format)
    if outside.any():
        raise pa.ArrowInvalid
    return found


def of_fractional_epoch(units: Any, timestamp_format: str) -> Any:
    """Moments of decimals, floored to microseconds; ArrowInvalid where one is outside of the years 1 to 9999."""
    unit_us = EPOCH_UNITS_US[timestamp_format]
    digits = len(str(unit_us)) - 1
    floored = pc.round(units, ndigits=digits, round_mode="down").cast(pa.decimal128(24, digits))
    whole = pc.multiply(floored, pa.scalar(Decimal(unit_us), pa.decimal128(7, 0)))
    moments = ints(whole.cast(pa.int64()))
    if moments.size and not literals.EARLIEST_US <= moments.min() <= moments.max() <= literals.LATEST_US:
        raise pa.ArrowInvalid
    return to_moments(moments, valid(units))


def of_arrow(array: Any) -> tuple[Ints, Bools]:
    """(microseconds, where they lie outside of the years 1 to 9999) of a timestamp or date column.

    Without a zone it is UTC; finer digits are floored.
    """
    ticks, unit_us = _ticks(array)
    outside = _outside(ticks, unit_us) & valid(array)
    return np.where(outside, 0, ticks) * unit_us, outside


def _ticks(array: Any) -> tuple[Ints, int]:
    """(counts since the epoch, of so many microseconds each) of a timestamp or date column."""
    if pa.types.is_date(array.type):
        return ints(array.cast(pa.date32()).cast(pa.int32())), DAY_US
    ticks = ints(array.cast(pa.int64()))
    return (ticks // 1_000, 1) if array.type.unit == "ns" else (ticks, UNIT_US[array.type.unit])


def to_dates(days: Ints, present: Bools) -> Any:
    return pa.array(days.astype(np.int32), mask=~present).cast(pa.date32())


def _outside(counts: Ints, unit_us: int) -> Bools:
    """Where a count of units since the epoch is outside of the years 1 to 9999."""
    return (counts < -(-literals.EARLIEST_US // unit_us)) | (counts > literals.LATEST_US // unit_us)

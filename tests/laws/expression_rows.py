"""Rows for the laws of expressions: every type of column, and the values at which evaluators are apt to part."""

import math
import random
import struct
from decimal import Context, Decimal

import pyarrow as pa

from featureflow_cli.spec.types import (
    BOOL,
    DATE,
    DOUBLE,
    INT64,
    STRING,
    TIMESTAMP,
    ColumnType,
    Value,
    arrow_type,
    decimal_type,
)

SCHEMA: dict[str, ColumnType] = {
    "i": INT64, "j": INT64, "x": DOUBLE, "y": DOUBLE, "s": STRING, "u": STRING, "b": BOOL, "c": BOOL,
    "t": TIMESTAMP, "r": TIMESTAMP, "d": DATE, "e": DATE,
    "p": decimal_type(9, 2), "q": decimal_type(18, 4), "w": decimal_type(38, 10), "z": decimal_type(38, 0),
    "f": decimal_type(38, 38), "odd name.with dot": INT64,
}  # fmt: skip
ROWS = 400

INTS = [
    0,
    1,
    -1,
    2,
    3,
    7,
    -10,
    100,
    2**31,
    2**53,
    2**53 + 1,
    -(2**53) - 1,
    2**62,
    2**63 - 1,
    -(2**63),
    10**18,
]
DOUBLES = [
    0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.1, 2.675, 1e-7, 1e16, 1e22, 1e-324, 5e-324, 2.2e-308, 1.7e308, -1.7e308,
    9.007199254740993e15, 9.223372036854775e18, -9.223372036854776e18, 0.49999999999999994, 123456.789, 1e37, 1e38,
    math.nan, math.inf, -math.inf,
]  # fmt: skip
TEXTS = [
    "", "a", "A", "abc", "ABC", "ß", "İ", "Σας", "é", "e\u0301", "😀", "a😀b", "ᾳ", "ǆ", "a%b", "_", "%", "\\", "it's",
    " pad ", "\t", "a\0b", "line\nbreak", "b" * 1500, "a,b,,c",
    "12", "-5", "+7", "42.0", "42.5", "1e5", "nan", "inf", ".5", "5.", "-.5", ".", "1_000", " 1", "٣",
    "1e400", "1e-400",
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "99999999999999999999", "0.005", "-0.0",
    "123456789012345678.12345678901234567890", "true", "FALSE", "t", "0.1",
    "1.7976931348623159e308", "9007199254740993",
    "2020-01-01", "2020-02-30", "2020-01-01T10:00:00Z", "2020-01-01 10:00", "1969-12-31 23:59:59.9999999+05:30",
    "2020-01-01T10:00:00.123456-0130", "2020-01-01 10:00:00 UTC", "2020-01-01T24:00:00", "2020-01-01T10:00:60",
    "0000-01-01", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "2020-01-01T10:00:00+2", "2020-1-1",
    "2020-01-01T10:00:00+02", "2020-01-01T10:00:00.5z", "2020-01-01T10", "20200101",
]  # fmt: skip
MOMENTS = [
    0, 1, -1, 999_999, -62_135_596_800_000_000, 253_402_300_799_999_999,
    253_402_300_800_000_000, -62_135_596_800_000_001,
    1_582_934_400_123_456, -3_600_000_001, 1_600_000_000_000_000, 951_782_400_000_000, 1_767_225_599_999_999,
]  # fmt: skip
DAYS = [0, 1, -1, 18_321, -719_162, 2_932_896, 11_016, 20_454, -25_567]


def _value(random_: random.Random, column_type: ColumnType) -> Value:
    if random_.random() < 0.12:
        return None
    if column_type == INT64:
        return random_.choice(
            [random_.choice(INTS), random_.randint(-100, 100), random_.randint(-(2**63), 2**63 - 1)]
        )
    if column_type == DOUBLE:
        wild = struct.unpack("<d", random_.randbytes(8))[0]
        return random_.choice(
            [random_.choice(DOUBLES), random_.randint(-1000, 1000) / 4, random_.uniform(-1e6, 1e6), wild]
        )
    if column_type == STRING:
        return random_.choice(TEXTS)
    if column_type == BOOL:
        return random_.random() < 0.5
    if column_type == TIMESTAMP:
        return random_.choice([random_.choice(MOMENTS), random_.randint(-(10**16), 10**16)])
    if column_type == DATE:
        return random_.choice([random_.choice(DAYS), random_.randint(-100_000, 100_000)])
    most = 10**column_type.precision - 1
    unscaled = random_.choice(
        [0, 1, -1, 5, most, -most, random_.randint(-most, most), random_.randint(-1000, 1000)]
    )
    number = Decimal(unscaled).scaleb(-column_type.scale, context=WIDE)
    return number if number else number.copy_abs()


WIDE = Context(prec=60)


def _column(values: list[Value], column_type: ColumnType) -> pa.Array:
    if column_type == TIMESTAMP:
        return pa.array(values, pa.int64()).cast(arrow_type(column_type))
    if column_type == DATE:
        return pa.array(values, pa.int32()).cast(arrow_type(column_type))
    return pa.array(values, arrow_type(column_type))


def _rows(seed: int) -> dict[str, list[Value]]:
    random_ = random.Random(seed)
    return {name: [_value(random_, column_type) for _ in range(ROWS)] for name, column_type in SCHEMA.items()}


TABLES = [_rows(seed) for seed in range(4)]


def table_of(number: int) -> pa.Table:
    return pa.table({name: _column(values, SCHEMA[name]) for name, values in TABLES[number].items()})


def row_of(number: int, at: int) -> dict[str, Value]:
    return {name: values[at] for name, values in TABLES[number].items()}

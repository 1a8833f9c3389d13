"""What fits which type: the law of design.md 1.9, held to a decision of a few lines (`naive`)."""

import json
import re
from decimal import Decimal
from fractions import Fraction
from math import floor, isinf
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from featureflow_cli.sources.decode import decode_table
from featureflow_cli.sources.fitting import fit
from featureflow_cli.spec.types import arrow_type, parse_type
from featureflow_cli.times import parse_timestamp
from tests.unit.sources.sources import from_json, make_source, reasons, values

MISFIT = object()
TYPES = (
    "bool",
    "int64",
    "double",
    "decimal(18,2)",
    "decimal(38,0)",
    "decimal(38,20)",
    "decimal(4,4)",
    "string",
    "date",
)
FORMATS = ("iso8601", "epoch_s", "epoch_ms", "epoch_us")
EVERY = [*((name, "iso8601") for name in TYPES), *(("timestamp", form) for form in FORMATS)]
UNIT_US = {"epoch_s": 10**6, "epoch_ms": 1000, "epoch_us": 1}
YEAR_1_US, YEAR_10000_US = parse_timestamp("0001-01-01"), parse_timestamp("9999-12-31T23:59:59.999999") + 1
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def naive(kind: str, text: str, type_text: str, form: str = "iso8601") -> Any:
    """Value, None or MISFIT of a scalar whose `kind` is null, bool, number, string or structure."""
    if kind in {"null", "structure"}:
        return None if kind == "null" else MISFIT
    if kind == "number" and text in {"NaN", "Infinity", "-Infinity"}:
        return None
    if type_text == "string":
        return text
    text = text.strip(" \t\r\n")
    if type_text == "bool":
        return {"true": True, "false": False}.get(text.lower(), MISFIT)
    if type_text == "date":
        whole = re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text)
        moment = naive(kind, text, "timestamp") if whole else MISFIT
        return moment if moment is MISFIT else moment // 86_400_000_000
    if type_text == "timestamp" and form == "iso8601":
        try:
            moment = parse_timestamp(text) if text.isascii() else MISFIT
        except ValueError:
            return MISFIT
        return moment if moment is not MISFIT and YEAR_1_US <= moment < YEAR_10000_US else MISFIT
    if type_text == "double" and re.fullmatch("[+-]?(nan|inf|infinity)", text.lower()):
        return None
    if not NUMBER.fullmatch(text):
        return MISFIT
    mantissa, _, power = text.lower().partition("e")
    number = Fraction(Decimal(mantissa)) * Fraction(10) ** max(-2000, min(2000, int(power or 0)))
    if type_text == "timestamp":
        moment = floor(number * UNIT_US[form])
        return moment if YEAR_1_US <= moment < YEAR_10000_US else MISFIT
    if type_text == "double":
        return MISFIT if isinf(float(text)) else float(text)
    if type_text == "int64":
        return int(number) if number.denominator == 1 and -(2**63) <= number < 2**63 else MISFIT
    declared = parse_type(type_text)
    unscaled = number * 10**declared.scale
    fits = unscaled.denominator == 1 and abs(unscaled) < 10**declared.precision
    return number if fits else MISFIT


edges = st.sampled_from(
    [
        0,
        1,
        42,
        2**31,
        2**53,
        2**53 + 1,
        2**63 - 1,
        2**63,
        2**64 - 1,
        2**64,
        10**16,
        10**18,
        10**37,
        10**38,
        10**40,
    ]
)
whole = st.one_of(edges, st.integers(0, 10**20), st.integers(1_000_000_000, 2_000_000_000)).map(str)
sign = st.sampled_from(["", "-"])
fractions = st.one_of(
    st.just(""),
    st.sampled_from(
        [
            ".0",
            ".00",
            ".5",
            ".005",
            ".10",
            ".0000",
            ".99",
            "." + "0" * 40 + "1",
            ".0000000000000000055511151231257827",
        ]
    ),
    st.integers(0, 10**9).map(lambda digits: f".{digits}"),
)
exponents = st.sampled_from(
    [
        "",
        "",
        "",
        "e0",
        "e2",
        "E+2",
        "e-2",
        "e17",
        "e38",
        "e39",
        "e76",
        "e-30",
        "e-41",
        "e-126",
        "e400",
        "e-400",
    ]
)
numbers = st.builds("".join, st.tuples(sign, whole, fractions, exponents))
odd_texts = st.sampled_from(
    [
        *(
            "",
            " ",
            "x",
            "0x10",
            "+1",
            " 42 ",
            "1.",
            ".5",
            ".",
            "1_0",
            "٤٢",
            "４２",
            "-",
            "e5",
            "1e",
            "007",
            "-0",
            "1,5",
        ),
        *(
            "nan",
            "-inf",
            "NaN",
            "Infinity",
            "1e99999999999999999999",
            "1e-99999999999999999999",
            "0e99999999999",
        ),
        *("1,5", "true", "TRUE", "t", "12:30:00", "{}", "null", "Ünïcode", "\x00", "a\nb", "x" * 200),
    ]
)
iso_texts = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(
            ["2026-01-31", "1969-12-31", "0001-01-01", "9999-12-31", "2026-02-30", "0000-01-01", "26-1-1"]
        ),
        st.sampled_from(
            ["", "T10:00", " 10:00", "T23:59:59", "T10", "t10:00", "T24:00", "T10:00:60", "T10:61"]
        ),
        st.sampled_from(["", ".", ".1", ".123456", ".1234567", ".123456789", ".1234567891", ".999999999"]),
        st.sampled_from(
            ["", "Z", "z", " Z", "+00:00", "-05", "+0530", "+14:00", " UTC", "+5", "Europe/Berlin"]
        ),
    ),
)
texts = st.one_of(numbers, odd_texts, iso_texts, st.text(max_size=8))


scalars = st.one_of(
    numbers.map(lambda text: ("number", text)),
    numbers.map(lambda text: ("number", text)),
    st.sampled_from(["0", "-0", "42", "42.0", "NaN", "-Infinity", "1700000000.1234567", "-0.0000001"]).map(
        lambda text: ("number", text)
    ),
    texts.map(lambda text: ("string", text)),
    st.sampled_from([("null", "null"), ("bool", "true"), ("bool", "false")]),
    st.sampled_from(["{}", "[]", "[1]", '{"a": 1}']).map(lambda text: ("structure", text)),
)


def message(kind: str, text: str) -> bytes:
    return b'{"x": %b}' % (json.dumps(text, ensure_ascii=False) if kind == "string" else text).encode()


def check(found: Any, kind: str, text: str, type_text: str, form: str) -> None:
    expected = naive(kind, text, type_text, form)
    assert found == expected, (kind, text, type_text, form)
    if expected is not MISFIT and expected is not None:
        assert isinstance(found, bool) == (type_text == "bool")


def decoded_values(decoded: Any, count: int) -> list[Any]:
    """Per offset the value, or MISFIT where there is a letter about the type."""
    found = dict(zip(decoded.offsets.tolist(), values(decoded, "x"), strict=True))
    lettered = reasons(decoded)
    assert set(lettered.values()) <= {"wrong_type"}
    assert not found.keys() & lettered.keys()
    assert found.keys() | lettered.keys() == set(range(count))
    return [found.get(row, MISFIT) for row in range(count)]


@pytest.mark.parametrize(("type_text", "form"), EVERY)
@given(column=st.lists(scalars, max_size=40))
def test_a_json_scalar_fits_where_its_text_is_a_literal(
    column: list[tuple[str, str]], type_text: str, form: str
) -> None:
    """Whatever stands beside it in the batch, each value is decided alone and exactly."""
    source = make_source({"x": type_text}, format=form)
    decoded = from_json(source, *(message(*scalar) for scalar in column))
    for found, (kind, text) in zip(decoded_values(decoded, len(column)), column, strict=True):
        check(found, kind, text, type_text, form)


@pytest.mark.parametrize(("type_text", "form"), EVERY)
@given(scalar=scalars, others=st.integers(20, 40))
def test_alike_messages_are_read_at_once_and_still_exactly(
    scalar: tuple[str, str], others: int, type_text: str, form: str
) -> None:
    """Enough values of one kind make a block of their own, beside messages that no block can hold."""
    source = make_source({"x": type_text}, format=form)
    decoded = from_json(source, "rubbish", *([message(*scalar)] * others))
    *_, found = decoded_values_after_rubbish(decoded, others)
    check(found, *scalar, type_text, form)


def decoded_values_after_rubbish(decoded: Any, others: int) -> list[Any]:
    found = dict(zip(decoded.offsets.tolist(), values(decoded, "x"), strict=True))
    assert reasons(decoded).pop(0) == "undecodable"
    return [found.get(row, MISFIT) for row in range(1, others + 1)]


@pytest.mark.parametrize(("type_text", "form"), EVERY)
@given(column=st.lists(st.none() | texts, max_size=40))
@example(column=["0000-01-01", "0000-12-31T10:00Z"])  # Arrow reads the year 0
def test_text_columns_fit_like_json_strings(column: list[str | None], type_text: str, form: str) -> None:
    """A CSV's field, or a string in Parquet, fits where the same string in JSON does."""
    array = pa.array(column, pa.string())
    for shape in (
        array,
        array.dictionary_encode(),
        array.cast(pa.large_string()),
        pa.concat_arrays([array, array])[1:],
    ):
        source = make_source({"x": type_text}, format=form)
        decoded = decode_table(pa.table({"x": shape}), np.arange(len(shape)), source)
        originals = shape.to_pylist()
        for found, text in zip(decoded_values(decoded, len(shape)), originals, strict=True):
            check(found, "null" if text is None else "string", text or "", type_text, form)


numeric_arrays = st.one_of(
    *(
        st.lists(st.none() | st.integers(*bounds), max_size=50).map(
            lambda held, kind=kind: pa.array(held, kind)
        )
        for kind, bounds in {
            pa.int8(): (-128, 127),
            pa.uint32(): (0, 2**32 - 1),
            pa.int64(): (-(2**63), 2**63 - 1),
            pa.uint64(): (0, 2**64 - 1),
        }.items()
    ),
    *(
        st.lists(st.none() | st.decimals(-bound, bound, places=kind.scale, allow_nan=False), max_size=50).map(
            lambda held, kind=kind: pa.array(held, kind)
        )
        for kind, bound in {
            pa.decimal128(20, 4): 10**15,
            pa.decimal128(5, 0): 9999,
            pa.decimal128(38, 0): 10**38 - 1,
            pa.decimal256(60, 10): 10**24,
            pa.decimal128(38, 38): Decimal("0.9"),
        }.items()
    ),
    st.lists(st.none() | st.booleans(), max_size=50).map(lambda held: pa.array(held, pa.bool_())),
)


@pytest.mark.parametrize(
    ("type_text", "form"),
    [case for case in EVERY if case[0] != "string"],
)
@given(array=numeric_arrays)
@example(array=pa.array([Decimal(22325607170840023276899152287)], pa.decimal128(29, 0)))  # wraps at scale 20
def test_numbers_of_any_arrow_type_fit_by_their_text(array: Any, type_text: str, form: str) -> None:
    """Integers of other widths, decimals of other scales and booleans mean what their text means."""
    fitted, misfits = fit(array, parse_type(type_text), form)
    assert fitted.type == arrow_type(parse_type(type_text))
    if pa.types.is_temporal(fitted.type):
        fitted = fitted.cast(pa.int32() if pa.types.is_date(fitted.type) else pa.int64())
    for original, value, misfit in zip(array.to_pylist(), fitted.to_pylist(), misfits, strict=True):
        kind = "null" if original is None else "bool" if isinstance(original, bool) else "number"
        check(MISFIT if misfit else value, kind, str(original), type_text, form)


@pytest.mark.parametrize(
    ("type_text", "form"),
    [("int64", ""), ("double", ""), ("decimal(18,2)", ""), *(("timestamp", f) for f in FORMATS)],
)
@given(
    held=st.lists(
        st.none()
        | st.floats()
        | st.integers(-(10**6), 10**6).map(lambda cents: cents / 100)
        | st.integers(-(2**62), 2**62).map(float)
        | st.integers(0, 2 * 10**15).map(lambda moment: moment / 10**6),
        max_size=50,
    )
)
def test_a_double_counts_by_its_shortest_text(held: list[float | None], type_text: str, form: str) -> None:
    """Not by its 53 bits: 0.1 fits decimal(18,2). NaN and infinity are null."""
    fitted, misfits = fit(pa.array(held, pa.float64()), parse_type(type_text), form)
    if pa.types.is_temporal(fitted.type):
        fitted = fitted.cast(pa.int64())
    for original, value, misfit in zip(held, fitted.to_pylist(), misfits, strict=True):
        finite = original is not None and np.isfinite(original)
        check(MISFIT if misfit else value, "number" if finite else "null", repr(original), type_text, form)


def test_a_single_precision_double_counts_by_its_own_shortest_text() -> None:
    fitted, misfits = fit(pa.array([0.1, 16777216.0], pa.float32()), parse_type("decimal(18,2)"))
    assert fitted.to_pylist() == [Decimal("0.10"), Decimal("16777216.00")]
    assert not misfits.any()


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([1_999, -1, None], pa.timestamp("ns")), [1, -1, None]),
        (pa.array([-1_000, -1_001], pa.timestamp("ns", "Asia/Tokyo")), [-1, -2]),
        (pa.array([-1, 5], pa.timestamp("ms", "UTC")), [-1_000, 5_000]),
        (pa.array([-1, 10**12], pa.timestamp("s")), [-1_000_000, MISFIT]),
        (
            pa.array([YEAR_10000_US, YEAR_1_US - 1, YEAR_1_US], pa.timestamp("us")),
            [MISFIT, MISFIT, YEAR_1_US],
        ),
        (pa.array([1, -1, None, 2**31 - 1], pa.date32()), [86_400_000_000, -86_400_000_000, None, MISFIT]),
    ],
)
def test_arrow_timestamps_are_floored_to_microseconds(array: Any, expected: list[Any]) -> None:
    """Of any unit and zone; without a zone they are UTC; also before 1970."""
    fitted, misfits = fit(array, parse_type("timestamp"))
    found = [
        MISFIT if bad else value
        for bad, value in zip(misfits, fitted.cast(pa.int64()).to_pylist(), strict=True)
    ]
    assert found == expected


def test_a_timestamp_is_a_date_only_at_midnight() -> None:
    fitted, misfits = fit(pa.array([0, -86_400_000, 1], pa.timestamp("ms")), parse_type("date"))
    assert fitted.cast(pa.int32()).to_pylist() == [0, -1, None]
    assert misfits.tolist() == [False, False, True]


@pytest.mark.parametrize(
    "array",
    [
        pa.array([{"a": 1}, None]),
        pa.array([[1], None]),
        pa.array([b"\xff", None]),
        pa.array([5, None], pa.time32("s")),
        pa.array([5, None], pa.duration("s")),
        pa.array([[(1, 2)], None], pa.map_(pa.int64(), pa.int64())),
    ],
)
def test_structures_and_bytes_fit_nothing_and_null_stays_null(array: Any) -> None:
    for type_text in (*TYPES, "timestamp"):
        fitted, misfits = fit(array, parse_type(type_text))
        assert misfits.tolist() == [True, False], type_text
        assert fitted.null_count == 2


def test_text_that_is_not_utf8_does_not_fit_and_bytes_that_are_do() -> None:
    broken = pa.Array.from_buffers(pa.string(), 3, pa.array([b"42", b"\xff\xfe", None]).buffers())
    fitted, misfits = fit(broken, parse_type("int64"))
    assert fitted.to_pylist() == [42, None, None]
    assert misfits.tolist() == [False, True, False]


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.string()), pa.list_(pa.int8(), 2)])
def test_lists_fit_element_by_element(kind: Any) -> None:
    """A list with one element that does not fit does not fit; a null list is null, a null element stays."""
    one, three, four = ("1", "3", "4") if kind.value_type == pa.string() else (1, 3, 4)
    held = [[one, None], None, [three, four]]
    fitted, misfits = fit(pa.array(held, kind)[1:], parse_type("list<double>"))
    assert fitted.to_pylist() == [None, [3.0, 4.0]]
    assert not misfits.any()
    fitted, misfits = fit(pa.array(held, kind), parse_type("list<bool>"))
    assert fitted.to_pylist() == [None, None, None]
    assert misfits.tolist() == [True, False, True]

"""The law of design.md 1.9, what fits which type, as a decision of a few lines (`naive`); and scalars to hold it to."""

import json
import re
from decimal import Decimal
from fractions import Fraction
from math import floor, isinf
from typing import Any

from hypothesis import strategies as st

from featureflow_cli.spec.types import parse_type
from featureflow_cli.times import parse_timestamp

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

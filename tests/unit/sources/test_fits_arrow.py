"""What fits which type where Arrow has typed it otherwise, as in Parquet: the law of design.md 1.9."""

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from featureflow_cli.sources.fitting import fit
from featureflow_cli.spec.types import arrow_type, parse_type
from tests.unit.sources.literals import (
    EVERY,
    FORMATS,
    MISFIT,
    TYPES,
    YEAR_1_US,
    YEAR_10000_US,
    check,
)

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

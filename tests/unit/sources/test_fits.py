"""What fits which type where it is written as text, in JSON or a column: the law of design.md 1.9."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from featureflow_cli.sources.decode import decode_table
from tests.unit.sources.literals import EVERY, MISFIT, check, message, scalars, texts
from tests.unit.sources.sources import from_json, make_source, reasons, values


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

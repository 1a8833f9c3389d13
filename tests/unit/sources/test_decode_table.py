"""Rows of Parquet and CSV files: where their columns are found, and what is told of those that do not fit."""

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from featureflow_cli.compute.views import Source
from featureflow_cli.sources.batches import Decoded
from featureflow_cli.sources.decode import decode_json, decode_table
from tests.unit.sources.sources import make_source, only_letter, reasons, to_letters, values

NESTED = make_source(
    {"user": "int64", "category": "string", "amount": "decimal(18,2)"},
    paths={"category": ("metadata", "category"), "amount": ("metadata", "amount")},
    not_null=frozenset({"user"}),
)


def from_table(source: Source, columns: dict[str, Any]) -> Decoded:
    table = pa.table(columns)
    return decode_table(table, np.arange(table.num_rows), source)


def test_a_path_leads_through_structs_or_names_a_column() -> None:
    struct = pa.array([{"category": "a", "amount": 1.5}, None, {"category": None, "amount": None}])
    flat = {
        "metadata.category": pa.array(["a", None, None]),
        "metadata.amount": pa.array(["1.5", None, None]),
    }
    for columns in ({"metadata": struct}, flat):
        decoded = from_table(
            NESTED, {"user": pa.array([1, 2, 3], pa.int8()), "more": pa.array([1, 2, 3])} | columns
        )
        assert values(decoded, "category") == ["a", None, None]
        assert values(decoded, "amount") == [Decimal("1.50"), None, None]
        assert decoded.letters.num_rows == 0


def test_a_column_that_is_not_there_is_null() -> None:
    decoded = from_table(NESTED, {"user": pa.array([1])})
    assert values(decoded, "category") == [None]
    assert (
        only_letter(from_table(NESTED, {"metadata.amount": pa.array([1])})).detail == "column 'user' is null"
    )


def test_a_path_through_something_else_fits_only_where_it_is_null() -> None:
    decoded = from_table(NESTED, {"user": pa.array([1, 2]), "metadata": pa.array(["text", None])})
    assert reasons(decoded) == {0: "wrong_type"}


@pytest.mark.parametrize("form", ["iso8601", "epoch_s", "epoch_ms", "epoch_us"])
def test_a_letter_about_a_row_can_be_replayed(form: str) -> None:
    """Its payload is the row as JSON: what was wrong is mended there, and it means the same."""
    source = make_source(
        {
            "user": "int64",
            "ts": "timestamp",
            "day": "date",
            "amount": "decimal(18,2)",
            "weights": "list<double>",
            "name": "string",
            "flag": "bool",
        },
        paths={"name": ("deep", "name"), "flag": ("deep", "flag")},
        format=form,
    )
    moment = -1_234_567
    table = {
        "user": pa.array(["x1"]),
        "ts": pa.array([moment * 1000 - 1], pa.timestamp("ns", "Asia/Tokyo")),
        "day": pa.array([-1], pa.date32()),
        "amount": pa.array([Decimal("1.5")]),
        "weights": pa.array([[1.5, None]]),
        "deep": pa.array([{"name": "Ünïcode\n", "flag": True}]),
    }
    letter = only_letter(from_table(source, table))
    assert letter.detail == "column 'user': x1 is not int64"
    replayed = decode_json([letter.payload.replace(b"x1", b"1")], np.array([0]), source)
    assert replayed.rows.num_rows == 1
    assert values(replayed, "ts") == [moment - 1]
    assert values(replayed, "day") == [-1]
    assert values(replayed, "amount") == [Decimal("1.50")]
    assert values(replayed, "weights") == [[1.5, None]]
    assert values(replayed, "name") == ["Ünïcode\n"]
    assert values(replayed, "flag") == [True]


def test_what_is_nested_is_quoted_as_json() -> None:
    source = make_source({"user": "int64"})
    for value, told in (({"a": [1, None]}, '{"a": [1, null]}'), (["x"], '["x"]')):
        letter = only_letter(from_table(source, {"user": pa.array([value])}))
        assert letter.detail == f"column 'user': {told} is not int64"


def test_bytes_that_are_no_text_stay_as_they_are_in_the_payload() -> None:
    source = make_source({"name": "string", "user": "int64"})
    decoded = from_table(source, {"name": pa.array([b"\xffn", b"fine"]), "user": pa.array([1, 2])})
    letter = only_letter(decoded)
    assert b"\xffn" in letter.payload
    assert letter.detail == "column 'name': \N{REPLACEMENT CHARACTER}n is not string"
    assert values(decoded, "name") == ["fine"]


def test_many_bad_rows_among_good_ones_are_found() -> None:
    """The column is halved until the refused rows are few; all others keep their values."""
    rng = np.random.default_rng(7)
    bad = set(rng.choice(20_000, 300, replace=False).tolist())
    held = [f"x{row}" if row in bad else str(row) for row in range(20_000)]
    decoded = from_table(make_source({"x": "int64"}), {"x": pa.array(held)})
    assert set(reasons(decoded)) == bad
    assert values(decoded, "x") == [row for row in range(20_000) if row not in bad]
    assert [letter.payload for letter in to_letters(decoded.letters)] == [
        b'{"x": "x%d"}' % row for row in sorted(bad)
    ]


def test_a_chunked_and_sliced_table_is_read_like_any() -> None:
    chunks = pa.chunked_array([pa.array(["9", "1"])[1:], pa.array(["2.0", None])])
    assert values(from_table(make_source({"x": "int64"}), {"x": chunks}), "x") == [1, 2, None]

"""Keys are known by one hash, the same from Arrow columns and from plain values."""

import datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from featureflow_cli.compute.hashing import canonical_text, hash_text, key_hash


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-7, "-7"),
        (True, "true"),
        (Decimal("0.00000001"), "0.00000001"),
        (Decimal("1E+2"), "100"),
        (Decimal("-0.00"), "0.00"),
        (-0.0, "0.0"),
        (0.1, "0.1"),
        (1e100, "1e+100"),
        ("Ünïcode", "Ünïcode"),
        ("", ""),
    ],
)
def test_canonical_texts(value, text):
    """Each type has one text."""
    assert canonical_text(value) == text


def test_the_hash_is_xxh64_with_seed_42():
    """States are keyed by it: a change here is a change of the codec."""
    assert hash_text("a") == 0x88E4FE59ADF7B0CC
    assert hash_text("") == 0x98B1582B0977E704


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pa.array([1, None, -5, 1]), ["1", None, "-5", "1"]),
        (pa.array(["a", "", None, "é"]), ["a", "", None, "é"]),
        (pa.array(["a", "b", None]).dictionary_encode(), ["a", "b", None]),
        (pa.array([Decimal("0.00000001"), Decimal("5")], pa.decimal128(38, 8)), ["0.00000001", "5.00000000"]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array([0.0, -0.0, 2.5]), ["0.0", "0.0", "2.5"]),
        (pa.array([1_000_001, None], pa.timestamp("us", tz="UTC")), ["1000001", None]),
        (pa.array([datetime.date(1970, 1, 2)]), ["1"]),
        (pa.array([None, None], pa.string()), [None, None]),
        (pa.array([], pa.int64()), []),
        (pa.chunked_array([["a"], ["b", "a"]]), ["a", "b", "a"]),
    ],
)
def test_columns_hash_as_their_values_do(column, texts):
    """Nulls are 0, whatever stands beside them."""
    assert key_hash(column).tolist() == [0 if text is None else hash_text(text) for text in texts]

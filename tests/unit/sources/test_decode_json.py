"""Messages: what becomes of their fields, and of those that are no events."""

import json
import tracemalloc
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.decode import decode, schema_of
from featureflow_cli.sources.exponents import exponents
from featureflow_cli.sources.json_messages import BLOCK_MESSAGES
from featureflow_cli.sources.letters import Letter, Reason, to_table
from tests.unit.sources.sources import from_json, make_source, only_letter, reasons, to_letters, values

SHOP = make_source(
    {
        "id": "string",
        "user": "int64",
        "ts": "timestamp",
        "category": "string",
        "amount": "decimal(18,2)",
        "tags": "list<double>",
    },
    paths={"category": ("metadata", "category"), "amount": ("metadata", "total", "amount")},
    not_null=frozenset({"id", "user", "ts"}),
    event_id="id",
)
FRAGMENTS = [
    *(
        "",
        "{",
        "}",
        "[",
        "]",
        '"',
        ",",
        ":",
        " ",
        "\\",
        "\n",
        "\x00",
        "null",
        "true",
        "NaN",
        "Inf",
        "-Infinity",
        "nan",
    ),
    *(
        "1",
        "-",
        "+",
        ".",
        "e5",
        "E-41",
        "0",
        "01",
        "1.",
        "/**/",
        "//",
        "'",
        "\\u12",
        "\\ud800",
        "\\x",
        "ü",
        "\ufeff",
    ),
    *('"user": 2,', '"junk": {}', '"metadata": {"category": "y"},', "{}}{", '}{"v":'),
]
BARE = '{"id": "a", "user": 1, "ts": "2026-01-01", "metadata": '
GOOD = '{"id": "a", "user": 1, "ts": "2026-01-01T00:00:00Z", "metadata": {"category": "x", "total": {"amount": 9.99}}}'


def test_rows_are_the_declared_columns_and_the_offset() -> None:
    """Paths lead into nested objects; undeclared fields are ignored; what is missing is null."""
    sparse = (
        '{"ts": "2026-01-01 00:00:00.5", "id": "b", "user": 2, "junk": [1, {"x": null}], "tags": [1, null]}'
    )
    decoded = from_json(SHOP, GOOD, sparse, first=10)
    assert decoded.rows.schema == schema_of(SHOP)
    assert decoded.offsets.tolist() == [10, 11]
    assert values(decoded, "category") == ["x", None]
    assert values(decoded, "amount") == [Decimal("9.99"), None]
    assert values(decoded, "tags") == [None, [1.0, None]]
    assert values(decoded, "ts") == [1_767_225_600_000_000, 1_767_225_600_500_000]
    assert decoded.letters.num_rows == 0


@pytest.mark.parametrize("metadata", ["null", "{}", '{"category": null, "total": null}'])
def test_nothing_on_the_way_is_null(metadata: str) -> None:
    decoded = from_json(SHOP, BARE + metadata + "}")
    assert values(decoded, "category") == [None]
    assert values(decoded, "amount") == [None]


@pytest.mark.parametrize(
    "metadata", ['"x"', "5", "[]", '{"total": 5}', '{"category": {}}', '{"total": {"amount": "9.999"}}']
)
def test_something_else_on_the_way_does_not_fit(metadata: str) -> None:
    decoded = from_json(SHOP, BARE + metadata + "}", GOOD)
    assert reasons(decoded) == {0: "wrong_type"}
    assert decoded.offsets.tolist() == [1]


@pytest.mark.parametrize(
    ("message", "reason", "detail"),
    [
        ("", "undecodable", "no value (a tombstone, or an empty message)"),
        ("   ", "undecodable", "not JSON"),
        ("null", "undecodable", "not a JSON object: null"),
        ('[{"a": 1.50}, "x"]', "undecodable", 'not a JSON object: [{"a": 1.50}, "x"]'),
        ('"text"', "undecodable", "not a JSON object"),
        (GOOD[:-1], "undecodable", "not JSON"),
        (GOOD + GOOD, "undecodable", "not JSON"),
        ("{}}" + '{"v":' + GOOD, "undecodable", "not JSON"),
        (GOOD + "\x00", "undecodable", "not JSON"),
        ('{"id": "a",}', "undecodable", "not JSON"),
        ('{"id": 01}', "undecodable", "not JSON"),
        ("{'id': 'a'}", "undecodable", "not JSON"),
        (b'{"id": "\xff"}', "undecodable", "not UTF-8"),
        (b'{"junk": "\xff"}', "undecodable", "not UTF-8"),
        ('{"id": "\n"}', "undecodable", "not JSON"),
        ('{"id": "\\ud800", "user": 1, "ts": "2026-01-01"}', "wrong_type", "column 'id'"),
        ('{"junk": ' + "[" * 100_000 + "]" * 100_000 + "}", "undecodable", "nested deeper than 256 levels"),
        ('{"user": 1, "ts": "2026-01-01"}', "null", "column 'id' is null"),
        ('{"id": "a", "user": null, "ts": "2026-01-01"}', "null", "column 'user' is null"),
        ('{"id": "a", "user": 1}', "null", "column 'ts' is null"),
        (
            '{"id": "a", "user": 1, "ts": "yesterday"}',
            "wrong_type",
            "column 'ts': yesterday is not timestamp",
        ),
        ('{"user": true, "ts": "2026-01-01"}', "wrong_type", "column 'user': true is not int64"),
        (
            '{"id": "a", "user": 1, "ts": "2026-01-01", "tags": ["x"]}',
            "wrong_type",
            "column 'tags': [\"x\"] is not",
        ),
        (
            '{"user": {"a": [true, null]}, "ts": "1"}',
            "wrong_type",
            "column 'user': {\"a\": [true, null]} is not",
        ),
    ],
)
def test_a_message_that_is_no_event_is_a_letter_and_the_rest_goes_on(
    message: str | bytes, reason: str, detail: str
) -> None:
    """Beside others, alone, and among messages that would make it whole again."""
    raw = message if isinstance(message, bytes) else message.encode()
    for before, after in ((0, 0), (1, 1), (40, 40)):
        decoded = from_json(SHOP, *[GOOD] * before, raw, *[GOOD] * after)
        letter = only_letter(decoded)
        assert (letter.offset, letter.reason, letter.payload) == (before, reason, raw)
        assert letter.detail.startswith(detail)
        assert decoded.offsets.tolist() == [row for row in range(before + after + 1) if row != before]


def test_halves_of_an_object_in_two_messages_are_two_letters() -> None:
    """Also where another message holds two objects, so that the count would be right."""
    decoded = from_json(SHOP, '{"id": "a", "metadata": ', '{"category": "x"}}', GOOD + GOOD, GOOD)
    assert reasons(decoded) == {0: "undecodable", 1: "undecodable", 2: "undecodable"}
    assert decoded.offsets.tolist() == [3]


def test_a_field_written_twice_counts_by_its_last_value() -> None:
    assert values(from_json(SHOP, '{"user": 7, ' + GOOD[1:-1] + ', "user": 8}'), "user") == [8]


def test_json_may_be_spread_over_lines() -> None:
    decoded = from_json(SHOP, json.dumps(json.loads(GOOD), indent=2), GOOD.replace(" ", "\r\n\t") + "\r\n")
    assert values(decoded, "user") == [1, 1]


def test_columns_whose_paths_cross_are_read_one_by_one() -> None:
    """`a` as a value and `a.b` inside of it cannot both be there; two columns may read the same field."""
    source = make_source(
        {"x": "string", "y": "string", "z": "int64"}, paths={"x": ("a",), "y": ("a", "b"), "z": ("c",)}
    )
    twice = make_source({"x": "string", "y": "int64"}, paths={"x": ("a",), "y": ("a",)})
    assert reasons(from_json(source, '{"a": "1"}', '{"a": {"b": "1"}}', "{}")) == {
        0: "wrong_type",
        1: "wrong_type",
    }
    decoded = from_json(twice, '{"a": 1}', '{"a": "2"}')
    assert (values(decoded, "x"), values(decoded, "y")) == (["1", "2"], [1, 2])


def test_messages_of_several_blocks_keep_their_order() -> None:
    """With numbers as text here, rubbish there."""
    count = 2 * BLOCK_MESSAGES + 5
    messages = [
        GOOD.replace('"user": 1', f'"user": "{row}"' if row % 3 else f'"user": {row}') for row in range(count)
    ]
    messages[BLOCK_MESSAGES] = "rubbish"
    decoded = from_json(SHOP, *messages)
    assert decoded.offsets.tolist() == values(decoded, "user")
    assert reasons(decoded) == {BLOCK_MESSAGES: "undecodable"}
    assert decoded.rows.num_rows == count - 1


def test_an_empty_batch_is_empty() -> None:
    decoded = from_json(SHOP)
    assert (decoded.rows.num_rows, decoded.letters.num_rows) == (0, 0)
    assert decoded.rows.schema == schema_of(SHOP)


def test_a_huge_text_is_kept_whole_and_shown_short() -> None:
    """10 MB fit a string; where they do not fit, the letter has them all and its detail some."""
    huge = "x" * 10_000_000
    source = make_source({"text": "string", "number": "int64"})
    tracemalloc.start()
    number = "9" * len(huge)
    decoded = from_json(source, f'{{"text": "{huge}"}}', f'{{"number": "{huge}"}}', f'{{"number": {number}}}')
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert values(decoded, "text") == [huge]
    first, second = to_letters(decoded.letters)
    assert len(first.payload) == len(second.payload) + 2 > 10_000_000
    assert len(first.detail) < 200
    assert len(second.detail) < 200
    assert peak < 400_000_000


def test_a_batch_brings_the_letters_of_its_reader() -> None:
    theirs = Letter(3, Reason.UNDECODABLE, "a line", b"1,2")
    batch = RawBatch([b"rubbish", GOOD.encode(), b"{}"], np.array([2, 4, 5]), 6, 0, to_table([theirs]))
    decoded = decode(batch, SHOP)
    assert [letter.offset for letter in to_letters(decoded.letters)] == [2, 3, 5]
    assert to_letters(decoded.letters)[1] == theirs


@pytest.mark.parametrize(
    ("text", "small", "any_"),
    [
        (b'{"a":1e-41}', [6], [6]),
        (b'{"a": -1.5E-41}', [10], [10]),
        (b'{"a":"+1e-41"}', [8], [8]),
        (b'{"a":[1,2e5]}', [], [9]),
        (b'{"a":"d3e4-1e-4b7"}', [], []),
        (b'{"the":1,"e-1":2}', [], []),
        (b"1e-4", [], []),
        (b"", [], []),
        (b"e-", [], []),
    ],
)
def test_exponents_of_numbers_are_found_and_those_of_identifiers_are_not(
    text: bytes, small: list[int], any_: list[int]
) -> None:
    assert exponents(text, negative_only=True).tolist() == small
    assert exponents(text, negative_only=False).tolist() == any_


def test_letters_read_back() -> None:
    held = [Letter(5, Reason.NULL, "a", b"\xff"), Letter(7, Reason.FUTURE, "ü", b"")]
    assert to_letters(to_table(held)) == held
    assert isinstance(to_table(held), pa.Table)


def test_nesting_counts_brackets_outside_of_texts_only() -> None:
    """256 levels are read, among other messages and alone; brackets in a text are text."""
    deep = GOOD[:-1] + ', "junk": ' + "[" * 255 + "]" * 255 + "}"
    texts = GOOD[:-1] + ', "junk": ["' + "[" * 300 + '\\"' + "{" * 300 + '"]}'
    wide = GOOD[:-1] + ', "junk": [' + "{}," * 300 + "{}]}"
    for messages in ([deep, texts, wide], [deep, texts, wide, "rubbish"], [deep], [texts]):
        assert set(reasons(from_json(SHOP, *messages))) <= {3}
    assert reasons(from_json(SHOP, deep.replace("[", "[[", 1).replace("]", "]]", 1), GOOD)) == {
        0: "undecodable"
    }


@given(st.data())
def test_a_message_is_decided_by_itself_whatever_stands_beside_it(data: st.DataObject) -> None:
    """Broken at random, alone, among good ones, and where another message is broken: the same row, the same letter."""
    text = bytearray(
        data.draw(
            st.sampled_from([GOOD, GOOD.replace(": 1,", ': "1",'), GOOD.replace("9.99", "0.5e1")])
        ).encode()
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 4))
        text[at : at + cut] = data.draw(st.sampled_from(FRAGMENTS)).encode()
    raw = bytes(text)
    alone = from_json(SHOP, raw)
    for others in (
        [GOOD] * 3,
        ["rubbish"],
        [raw] * 20,
        [raw] * 20 + ["rubbish"],
        [GOOD.replace(": 1,", ': "1",')] * 30,
    ):
        beside = from_json(SHOP, raw, *others)
        assert beside.rows.filter(pc.equal(beside.rows["_offset"], 0)).equals(alone.rows)
        assert to_letters(beside.letters)[: alone.letters.num_rows] == to_letters(alone.letters)
        assert len(beside.letters) + len(beside.rows) == len(others) + 1

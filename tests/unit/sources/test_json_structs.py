"""Messages as structs: whatever is taken is what the exact way makes of it, and what is left goes that way."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from featureflow_cli.sources import json_messages, json_structs
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.decode import decode, decode_all
from featureflow_cli.sources.letters import Letter, Reason, to_table
from featureflow_cli.sources.literals import fit_json, read_json
from tests.unit.sources.sources import TOPIC, bits, from_json, make_source, reasons, to_letters, values

SHOP = make_source(
    {
        "id": "string",
        "user": "int64",
        "ts": "timestamp",
        "rating": "double",
        "amount": "decimal(18,2)",
        "new": "bool",
        "day": "date",
    },
    paths={"rating": ("metadata", "rating"), "amount": ("metadata", "total", "amount")},
    kafka=TOPIC,
)
GOOD = json.dumps({"id": "a", "user": 1, "ts": "2026-01-01", "metadata": {"rating": 0.1, "total": {}}})
NAMES = ["id", "user", "ts", "metadata", "new", "day", "junk", "i\\u0064", "\\ud800", "é", ""]
INNER = ["rating", "total", "junk", "ratin\\u0067", "amount"]
TOKENS = [
    *(
        "null",
        "true",
        "false",
        "tru",
        "0",
        "-0",
        "-0.0",
        "1",
        "01",
        "1.",
        ".5",
        "1e5",
        "-1.5E-3",
        "1e400",
        "NaN",
    ),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551616"),
    *(
        "9007199254740993",
        "9007199254740993.0",
        "0.99999999999999999999",
        "0." + "3" * 40,
        "5e-324",
        "1e-400",
    ),
    *(
        '"x"',
        '"2026-01-01T10:00:00Z"',
        '"0000-01-01"',
        '"2026-01-31"',
        '"12.50"',
        '"0.005"',
        '"1e-41"',
        '" 7 "',
    ),
    *(
        '"\\ud800"',
        '"\\ud83d\\ude00"',
        '"\\u0000"',
        '"\\x"',
        '"\t"',
        '"é"',
        '"',
        '"[[["',
        "{}",
        "[]",
        "[1,]",
        "[1]",
    ),
    '{"a":1,}',
]
blanks = st.sampled_from(["", "", "", " ", "\n", "\r\t", "\x0b", "\ufeff"])


def objects(names: list[str], inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.builds('{}"{}"{}:{}'.format, blanks, st.sampled_from(names), blanks, inner)
    return st.lists(member, max_size=6).map(lambda members: "{" + ",".join(members) + "}")


tokens = st.sampled_from(TOKENS)
total = objects(["amount", "junk"], tokens)
events = st.one_of(
    objects(NAMES, st.one_of(tokens, objects(INNER, st.one_of(tokens, total)))),
    st.builds("{}{}{}".format, blanks, objects(NAMES, tokens), blanks),
    st.sampled_from(["", "[]", "1", GOOD + GOOD, GOOD[:-1], '{"a":' * 300 + "1" + "}" * 300]),
)
messages = st.one_of(
    events.map(str.encode), events.map(lambda text: text.replace("x", "ÿ").encode("latin-1", "replace"))
)


def exact(message: bytes) -> dict[str, Any] | None:
    """The row of a message by the definition, one value at a time; None where it is a letter."""
    try:
        event = read_json(message.decode())
        found = {}
        for name, path in SHOP.paths.items():
            value = event
            for step in path:
                value = None if value is None else value.get(step)
            found[name] = fit_json(value, SHOP.columns[name])
    except (ValueError, AttributeError):  # a Misfit is a ValueError
        return None
    return found if message.count(b"{") < 256 else None


@given(st.lists(messages, max_size=30), st.integers(0, 30))
@example([b'{"metadata":{"rating":-0}}', b'{"metadata":{"rating":0}}', b'{"metadata":{"rating":-0.0}}'], 0)
@example([b'{"user":1,"user":"x"}', b'{"user":"x","user":1}', b'{"user":2.0}'], 3)
@example([b'{"junk":"\xff"}', b'{"id":"\xff"}', b'{"junk":"\\ud800"}'], 0)
def test_messages_are_read_as_one_by_one(hostile: list[bytes], good: int) -> None:
    """`from_json` compares a topic's with a file's; here each of them with the definition."""
    every = [*hostile, *[GOOD.encode()] * good]
    decoded = from_json(SHOP, *every)
    kept = {offset: row for row, offset in enumerate(decoded.offsets.tolist())}
    columns = {name: values(decoded, name) for name in SHOP.columns}
    for offset, message in enumerate(every):
        row = exact(message)
        assert (offset in kept) == (row is not None), message
        if row is not None:
            assert repr({name: found[kept[offset]] for name, found in columns.items()}) == repr(row), message
    assert len(decoded.letters) + len(decoded.rows) == len(every)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[bytes]]:
    """The messages that the exact way was asked for, call by call; it answers as ever."""
    asked: list[list[bytes]] = []
    read = json_messages.read
    monkeypatch.setattr(
        json_messages, "read", lambda some, source: (asked.append(list(some)), read(some, source))[1]
    )
    return asked


def test_what_msgspec_reads_nobody_else_is_asked_for(asked: list[list[bytes]]) -> None:
    odd = GOOD.replace("0.1", '"0.1"').encode()
    parts, broken = json_structs.read([GOOD.encode()] * 100 + [odd, b"rubbish"], SHOP)
    assert asked == [[odd, b"rubbish"]]
    assert [part.rows.tolist() for part in parts] == [list(range(100)), [100]]
    assert [each.row for each in broken] == [101]
    asked.clear()
    json_structs.read([odd] * 100, SHOP)  # not even tried
    assert asked == [[odd] * 100]


def test_columns_that_structs_cannot_hold_are_left_to_arrow() -> None:
    assert json_structs.shape_of(SHOP) is not None
    for other in (
        make_source({"x": "list<double>"}),
        make_source({"x": "string"}, paths={"x": ('a"b',)}),
        make_source({"x": "string", "y": "string"}, paths={"x": ("a",), "y": ("a", "b")}),
    ):
        assert json_structs.shape_of(other) is None


batches = st.lists(st.lists(st.one_of(messages, st.just(GOOD.encode())), max_size=6), max_size=5)


@given(batches, st.integers(0, 4))
def test_several_batches_are_decoded_as_each_by_itself(several: list[list[bytes]], with_letter: int) -> None:
    """Offsets of several partitions say the same numbers; readers have letters of their own."""
    theirs = to_table([Letter(3, Reason.UNDECODABLE, "theirs", b"\xff")])
    raw = [
        RawBatch(some, np.arange(len(some)) * 2 + place, 100, 0, *([theirs] if place == with_letter else []))
        for place, some in enumerate(several)
    ]
    for batch, together in zip(raw, decode_all(raw, SHOP), strict=True):
        alone = decode(batch, SHOP)
        assert together.rows.equals(alone.rows)
        assert bits(together.rows) == bits(alone.rows)
        assert to_letters(together.letters) == to_letters(alone.letters)


def test_the_depth_of_a_message_counts_before_msgspec_sees_it() -> None:
    deep = GOOD[:-1] + ', "junk": ' + "[" * 256 + "]" * 256 + "}"
    fair = GOOD[:-1] + ', "junk": ' + "[" * 255 + "]" * 255 + "}"
    assert reasons(from_json(SHOP, GOOD, deep, fair)) == {1: "undecodable"}

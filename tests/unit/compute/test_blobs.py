"""Numbers as bytes: any blocks come back, in the bytes that the module says, and nothing damaged is read."""

import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.compute import blob_layout, blobs
from featureflow_cli.compute.blobs import Block, Unpacked, are_ours, pack, unpack
from featureflow_cli.compute.packed import between, packed, split
from featureflow_cli.compute.records import SPARE_BYTES

Written = tuple[list[int], list[int], list[list[list[int]]], list[bytes]]
"""Moments, fields a block, the numbers of each blob (block by block, an item each), tails."""

SEED = 0xC0FFEE

NUMBERS = st.sampled_from([0, 1, 255, 256, 2**32 - 1, 2**53 + 1, 2**56 - 1, 2**63, 2**64 - 1]) | st.integers(
    0, 2**64 - 1
)


@st.composite
def written(draw: st.DrawFn) -> Written:
    fields = draw(st.lists(st.sampled_from([1, 2, 3, 7, 8, 9, 17]), min_size=1, max_size=9))
    moments = draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5))
    items = []
    for _ in moments:
        item = []
        for number in fields:
            held = draw(st.sampled_from([0, 1, 1, 2, 5, 255, 256]))
            pool = draw(st.lists(NUMBERS, min_size=1, max_size=3))
            item.append([pool[place % len(pool)] for place in range(held * number)])
        items.append(item)
    return moments, fields, items, [draw(st.binary(max_size=20)) for _ in moments]


def blobs_of(
    moments: Sequence[int], fields: Sequence[int], items: Sequence[list[list[int]]], tails: list[bytes]
):
    """`items[blob][block]` are the numbers of its fields, one field after the other."""
    blocks = []
    for block, number in enumerate(fields):
        held = [len(item[block]) // number for item in items]
        parts = [np.array(item[block], np.uint64).reshape(number, -1) for item in items]
        words = np.concatenate([np.empty((number, 0), np.uint64), *parts], axis=1)
        blocks.append(Block(np.repeat(np.arange(len(items)), held), tuple(words)))
    tail = np.frombuffer(b"".join(tails) + bytes(SPARE_BYTES), np.uint8)
    return pack(
        np.array(moments, np.int64), blocks, tail, np.array([len(each) for each in tails], np.int64), SEED
    )


def items_of(found: Unpacked) -> list[list[list[int]]]:
    return [
        [
            [int(number) for words in block.fields for number in words[block.owner == blob]]
            for block in found.blocks
        ]
        for blob in range(len(found.moment))
    ]


@given(written(), st.sampled_from([1, 2, blobs._AT_ONCE]), st.sampled_from([0, 20, blob_layout._FEW_NUMBERS]))
def test_any_numbers_come_back(drawn: Written, at_once: int, few: int):
    moments, fields, items, tails = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blobs, "_AT_ONCE", at_once)
        patch.setattr(blob_layout, "_FEW_NUMBERS", few)
        written = blobs_of(moments, fields, items, tails)
        assert are_ours(*written, fields, SEED)
        found = unpack(*written, fields)
    assert found.moment.tolist() == moments
    assert items_of(found) == items
    assert found.tail.tobytes() == b"".join(tails)
    assert found.tail_sizes.tolist() == [len(tail) for tail in tails]


def sealed(text: str) -> bytes:
    body = bytes.fromhex(text)
    return body + zlib.crc32(body, SEED).to_bytes(4, "little")


def test_the_bytes_are_those_that_the_module_tells():
    fields = [2, 1, 3]
    first = [[0, 0, 7, 8], [], [1, 2, 0x1234, 1, 0, 0]]  # two items, none, two
    second = [[], [0x010203], []]
    empty: list[list[int]] = [[], [], []]
    long = [[], [9] * 256, []]
    written = blobs_of([5, -1, 0, 0], fields, [first, second, empty, long], [b"ab", b"", b"", b"z"])
    found = between(*written).to_pylist()
    assert found[0] == sealed("02 0500000000000000 0a  02 10  02 21 00  07 08  01 02 3412 0100  6162")
    assert found[1] == sealed("02 ffffffffffffffff 04  01 03  030201")
    assert found[2] == sealed("02 0000000000000000 00")
    assert found[3] == sealed("02 0000000000000000 05  00010000 01" + "09" * 256 + "7a")
    assert items_of(unpack(*written, fields)) == [first, second, empty, long]


def ours(several: list[bytes], fields: list[int], seed: int = SEED) -> bool:
    return are_ours(*split(packed(several)), fields, seed)


def one(fields: list[int], items: list[list[int]], tail: bytes) -> bytes:
    (blob,) = between(*blobs_of([123_456], fields, [items], [tail])).to_pylist()
    return bytes(blob)


def test_what_is_damaged_is_not_ours():
    fields = [2, 1]
    whole = one(fields, [[1, 2, 300, 4], [5]], b"text")
    assert ours([whole, whole], fields)
    damaged = [whole[:size] for size in range(len(whole))] + [whole + b"\0"]
    for place in range(len(whole)):
        for bit in (1, 128):
            damaged.append(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
    for blob in damaged:
        assert not ours([whole, blob, whole], fields)


def test_another_version_is_not_ours():
    whole = one([1], [[7]], b"")
    other = bytes([blobs.VERSION + 1]) + whole[1:-4]
    assert not ours([other + zlib.crc32(other, SEED).to_bytes(4, "little")], [1])


def test_less_than_a_head_is_not_ours():
    assert not ours([zlib.crc32(b"", SEED).to_bytes(4, "little")], [1])


def test_what_was_written_as_something_else_is_not_ours():
    assert not ours([one([1], [[7]], b"")], [1], SEED + 1)

"""Writes of a batch as the bytes that Redis reads."""

import itertools
import math
import struct
import time

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.online import redis_frames
from featureflow_cli.online.redis_frames import write_calls
from tests.hashes import Write, together

FIELDS = [f"f{place}.1" for place in range(12)]
SHAPES = list(itertools.product([b"state", None], repeat=len(FIELDS)))[:-1]  # one of them sets nothing
BIRTH = (b"ff:shop::marker::.", b"a name")
NOW_US = 1_000_000


@st.composite
def several(draw: st.DrawFn) -> tuple[list[str], list[Write]]:
    fields = draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=3, unique=True))
    ids = draw(st.lists(st.text("ab,%2", min_size=1, max_size=12), min_size=1, max_size=8, unique=True))
    versions = st.binary(min_size=8, max_size=8).filter(any)
    blobs = st.none() | st.binary(max_size=120)
    moments = st.integers(-(2**63), 2**63 - 1)
    writes = [
        Write(
            id,
            draw(st.none() | versions),
            draw(versions),
            tuple(draw(blobs) for _ in fields),
            tuple(draw(moments) for _ in fields),
            draw(st.none() | st.integers(0, 2**51)),
        )
        for id in ids
    ]
    return fields, writes


def arguments(prefix: bytes, fields: list[str], write: Write) -> list[bytes]:
    """As redis_functions.lua reads them."""
    set_ = [
        [field.encode(), struct.pack("<q", newest_us) + blob]
        for field, blob, newest_us in zip(fields, write.blobs, write.newest_us, strict=True)
        if blob is not None
    ]
    follow = [b"v", write.version, *itertools.chain.from_iterable(set_)]
    life = math.inf if write.expires_us is None else math.ceil((write.expires_us - NOW_US) / 1000)
    heading = struct.pack("<8sdH", write.expected or bytes(8), life, len(follow))
    return [prefix + write.id.encode(), heading, *follow]


@given(several(), st.sampled_from([1, 3, 256]), st.sampled_from([1, 200, 2**20]))
def test_calls_are_the_commands_that_they_should_be(
    drawn: tuple[list[str], list[Write]], at_once: int, size_bytes: int
) -> None:
    fields, writes = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis_frames, "CALLED_AT_ONCE", at_once)
        patch.setattr(redis_frames, "CALLED_BYTES", size_bytes)
        calls = list(write_calls(b"write", BIRTH, b"ff:shop:user:", fields, together(*writes), NOW_US))
    found = []
    for call in calls:
        reader = hiredis.Reader()
        reader.feed(call)
        words = reader.gets()
        assert not reader.has_data()
        assert words[:5] == [b"FCALL", b"write", b"0", *BIRTH]
        found += words[5:]
    assert found == list(
        itertools.chain.from_iterable(arguments(b"ff:shop:user:", fields, write) for write in writes)
    )
    assert len(calls) >= len(writes) / at_once
    if size_bytes == 1:
        assert len(calls) == len(writes)


def test_writes_that_all_set_other_fields_cost_little_more_than_those_that_set_the_same() -> None:
    """Views of one entity take what they like of a batch: of twelve, nearly every hash has another choice."""
    moments = (0,) * len(FIELDS)
    same, other = (
        [Write(f"{place}", None, b"version!", blobs, moments, None) for place, blobs in enumerate(some)]
        for some in ([SHAPES[0]] * len(SHAPES), SHAPES)
    )
    assert cpu_s(other) < 10 * cpu_s(same)


def cpu_s(several: list[Write]) -> float:
    writes = together(*several)
    started = time.thread_time()
    calls = b"".join(write_calls(b"write", BIRTH, b"shop:user:", FIELDS, writes, 0))
    assert calls.count(b"version!") == len(writes)
    return time.thread_time() - started

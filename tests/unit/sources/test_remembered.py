"""Remembered ids answer as a dictionary of all that was ever added, also where all hashes collide."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.sources import remembered
from featureflow_cli.sources.remembered import NEVER_US, Remembered, ids_of
from featureflow_cli.spec.types import STRING

TEXTS = st.sampled_from(
    ["", "a", "b", "ab", "\0", "\0\0", "ä", "日本語", "x" * 64, "x" * 65, "y" * 65, "0123456789abcdef"]
)
BATCHES = st.lists(st.lists(st.tuples(TEXTS, st.integers(0, 50)), max_size=8), max_size=6)


@pytest.mark.parametrize("collide", [False, True])
@given(
    batches=BATCHES,
    asked=st.lists(TEXTS, max_size=8),
    oldest_us=st.integers(0, 50),
    block=st.sampled_from([1, 5, remembered.BLOCK_IDS]),
)
def test_the_newest_moment_of_an_id_is_told_by_the_id_itself(
    collide: bool, batches: list[list[tuple[str, int]]], asked: list[str], oldest_us: int, block: int
) -> None:
    """Whatever is older than what is to be remembered may be told or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remembered, "BLOCK_IDS", block)
        if collide:
            patch.setattr(remembered, "_MULTIPLIERS", np.zeros_like(remembered._MULTIPLIERS))
        held, newest = Remembered(), dict[str, int]()
        for batch in batches:
            ids = ids_of(pa.array([text for text, _ in batch], pa.string()), STRING)
            held.add(ids, np.array([moment for _, moment in batch], np.int64), oldest_us)
            for text, moment in batch:
                newest[text] = max(moment, newest.get(text, NEVER_US))
        ids = ids_of(pa.array(["sliced", *asked], pa.string())[1:], STRING)
        for text, found in zip(asked, held.moments(ids).tolist(), strict=True):
            expected = newest.get(text, NEVER_US)
            assert (
                found == expected
                or (found == NEVER_US and expected < oldest_us)
                or found < expected < oldest_us
            )
        hashes = np.sort(ids.hashes)
        may = held.may_hold(hashes)
        assert may[
            np.isin(hashes, ids.hashes[[newest.get(text, NEVER_US) >= oldest_us for text in asked]])
        ].all()


@given(st.lists(st.tuples(TEXTS, st.booleans()), max_size=20))
def test_ids_that_are_kept_are_in_order(drawn: list[tuple[str, bool]]) -> None:
    kept = np.array([each for _, each in drawn], np.bool_)
    found = ids_of(pa.array([text for text, _ in drawn], pa.string()), STRING).where(kept)
    assert found.values.to_pylist() == [text for text, each in drawn if each]
    assert found.hashes.tolist() == ids_of(found.values, STRING).hashes.tolist()
    assert sorted(found.order.tolist()) == list(range(len(found)))
    assert (np.diff(found.hashes[found.order].astype(object)) >= 0).all()


def test_a_slow_stream_keeps_its_ids_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a step nor the memory grows with the number of batches that are remembered, small as they may be."""
    monkeypatch.setattr(remembered, "BLOCK_IDS", 50)
    held = Remembered()
    for moment in range(2_000):
        held.add(ids_of(pa.array([f"{moment} a", f"{moment} b"]), STRING), np.full(2, moment), moment - 499)
        assert len(held._blocks) <= 2 * 500 / 50 + 2
        assert len(held._runs) <= 12
        assert len(held) <= 2 * 2 * 500
    asked = ids_of(pa.array(["1999 a", "1500 b", "10 a"]), STRING)
    assert held.moments(asked).tolist() == [1_999, 1_500, NEVER_US]


def test_what_a_rush_left_goes_once_it_is_past() -> None:
    held = Remembered()
    held.add(
        ids_of(pa.array([f"rush {number}" for number in range(50_000)]), STRING),
        np.zeros(50_000, np.int64),
        -9,
    )
    for moment in range(1, 20):
        held.add(ids_of(pa.array([f"quiet {moment}"]), STRING), np.full(1, moment), moment - 9)
    assert len(held) < 40
    assert sum(len(values) for values, _ in held._blocks.values()) < 40

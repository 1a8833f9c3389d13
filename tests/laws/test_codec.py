"""Laws of the codec: any states come back from their blobs, and a blob tells of its own state only."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.compute.cells import NO_CELLS, Cells
from featureflow_cli.compute.codec import NO_ENDS, CorruptBlob, Ends, decode, encode
from featureflow_cli.compute.frames import Frame, frames, tile_unit_us
from featureflow_cli.compute.packed import packed
from featureflow_cli.compute.state import States, take
from featureflow_cli.compute.views import Key, View
from featureflow_cli.compute.windows import BEGINNING_US
from tests.laws.strategies import compiled, definitions, written_as
from tests.laws.test_state import contents

INT64 = (
    0,
    1,
    -1,
    2,
    255,
    256,
    -129,
    2**31,
    -(2**31),
    2**40,
    2**52 + 1,
    2**62,
    2**63 - 1,
    -(2**63) + 1,
    -(2**63),
)
REALS = tuple(np.array([0.0, -0.0, 1.0, 0.1, -2.25, 5e-324, -1e308, 3e15]).view(np.int64).tolist())
MOMENTS = (0, 1, -1, 1_767_225_600_000_000, 1_767_225_600_000_001, 2**61, -(2**61))
TILES_AGO = (0, 0, 1, 2, 254, 255, 70_000)
TEXTS = pa.array(sorted(["", "a", "b", "ä", "日本", "\U0001d11e", "x" * 300, "y" * 70_000], key=str.encode))


@dataclass(frozen=True)
class Drawn:
    """Any states of a view, and any headers."""

    view: View
    states: States
    ends: Ends

    def __repr__(self) -> str:
        columns = [[cells.state, cells.tile, cells.key, cells.value] for cells in self.states.columns]
        return f"Drawn({self.view.columns},\n  {self.states.count}, {columns},\n  {self.ends})"


@st.composite
def drawn(draw: st.DrawFn) -> Drawn:
    view = compiled(draw(definitions(most=1))).views["v0"]
    numbers = st.sampled_from(INT64 + REALS) | st.integers(-(2**63), 2**63 - 1)
    pool = np.array(draw(st.lists(numbers, min_size=1, max_size=5)), np.int64)
    newest = draw(st.lists(st.none() | st.sampled_from(MOMENTS), max_size=6))
    most = draw(st.sampled_from([0, 1, 3, 300]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    ends = ends_of(random, len(newest), draw(st.sampled_from([0, 1, 20])))
    return Drawn(view, states_of(view, newest, most, pool, random), ends)


def states_of(
    view: View, newest: list[int | None], most: int, pool: np.ndarray, random: np.random.Generator
) -> States:
    """States with these newest events, and up to `most` cells in each of their columns, of numbers in the pool."""
    known = np.array([place for place, moment in enumerate(newest) if moment is not None], np.int64)
    moment = np.array([moment for moment in newest if moment is not None], np.int64)
    columns = [NO_CELLS] * len(view.columns)
    columns[0] = Cells(known, np.full(len(known), BEGINNING_US), np.zeros(len(known), np.int64), moment)
    for indexes in view.families[1:]:
        family = [view.columns[index] for index in indexes]
        held = random.integers(0, most + 1, len(known))
        state, size = np.repeat(known, held), int(held.sum())
        tile, key = np.full(size, BEGINNING_US), np.zeros(size, np.int64)
        unit = tile_unit_us(family[0])
        if unit is not None:
            tile = (np.repeat(moment, held) // unit - random.choice(TILES_AGO, size)) * unit
            if any(width is None for width, _ in family[0].horizons):
                tile[random.random(size) < 0.3] = BEGINNING_US
        of = frames([operand.type for operand in view.operands], family)[-len(family) :]
        values = [numbers(random, pool, frame is Frame.TEXT, size) for frame in of]
        if family[0].key is not Key.NONE:
            key = numbers(random, pool, family[0].key is Key.CODE and family[0].is_text, size)
        for index, value in zip(indexes, values, strict=True):
            columns[index] = Cells(state, tile, key, value)
    return States(len(newest), tuple(columns), TEXTS)


def numbers(random: np.random.Generator, pool: np.ndarray, is_text: bool, size: int) -> np.ndarray:
    return random.integers(0, len(TEXTS), size) if is_text else random.choice(pool, size)


def ends_of(random: np.random.Generator, count: int, most: int) -> Ends:
    held = random.integers(0, most + 1, count)
    known = [np.sort(random.choice(np.arange(-3, 40), each, replace=False)) for each in held]
    partition = np.concatenate([np.empty(0, np.int64), *known])
    return Ends(np.repeat(np.arange(count), held), partition, random.choice(np.array(INT64), len(partition)))


def assert_same(each: Drawn, states: States, ends: Ends) -> None:
    assert states.count == each.states.count
    assert contents(each.view, states, rounded=True) == contents(each.view, each.states, rounded=True)
    for name in ("state", "partition", "end"):
        assert getattr(ends, name).tolist() == getattr(each.ends, name).tolist()


@given(drawn())
def test_any_states_come_back(each: Drawn):
    assert_same(each, *decode(each.view, encode(each.view, each.states, each.ends)))


@given(drawn())
def test_a_blob_is_the_same_in_any_company(each: Drawn):
    """So equal states have equal blobs, however narrow the numbers of those are that are written beside them."""
    blobs = encode(each.view, each.states, each.ends)
    for place, blob in enumerate(blobs):
        mine = each.ends.state == place
        ends = Ends(np.zeros(mine.sum(), np.int64), each.ends.partition[mine], each.ends.end[mine])
        alone = encode(each.view, take(each.view, each.states, np.array([place])), ends)
        assert alone.to_pylist() == [blob.as_py()]


@given(drawn(), st.data())
def test_missing_blobs_are_empty_states(each: Drawn, data: st.DataObject):
    blobs = encode(each.view, each.states, each.ends).to_pylist()
    gone = data.draw(st.lists(st.booleans(), min_size=len(blobs), max_size=len(blobs)))
    kept = [None if out else blob for out, blob in zip(gone, blobs, strict=True)]
    states, ends = decode(each.view, packed(kept))
    assert states.count == len(blobs)
    assert not np.isin(ends.state, np.flatnonzero(gone)).any()
    for found, column in zip(
        contents(each.view, states, rounded=True), contents(each.view, each.states, rounded=True), strict=True
    ):
        assert found == [cell for cell in column if not gone[cell[0]]]


def wide_view() -> View:
    features = [
        {"name": "f_{window}", "count": "*", "where": "flag", "windows": ["1h", "24h", "7d"]},
        {"name": "mean", "mean": "x", "window": "24h"},
        {"name": "spread", "stddev": "price", "window": "24h"},
        {"name": "top", "top_k": {"of": "kind", "k": 3}, "window": "24h"},
        {"name": "visits", "session_mean": {"by": "n", "unit": "minutes"}, "window": "7d"},
        {"name": "last", "last": "kind", "window": "7d"},
    ]
    return compiled(
        written_as([{"name": "v0", "source": "s", "entity": "user", "features": features}])
    ).views["v0"]


def test_thousands_of_states_of_any_size_come_back_at_once():
    """More than are handled at a time, a few of them with very many cells, and some of those of huge numbers."""
    view, random = wide_view(), np.random.default_rng(7)
    for count, most, pool in ((9_001, 3, (1, 2, 3)), (9_001, 2, INT64), (3, 70_000, INT64)):
        newest: list[int | None] = [int(moment) for moment in random.choice(MOMENTS, count)]
        states = states_of(view, newest, most, np.array(pool), random)
        each = Drawn(view, states, ends_of(random, count, 8))
        assert_same(each, *decode(view, encode(view, states, each.ends)))


def test_a_damaged_state_says_what_to_do():
    view = wide_view()
    states = states_of(view, [MOMENTS[3]], 3, np.array(INT64), np.random.default_rng(1))
    (blob,) = encode(view, states, ends_of(np.random.default_rng(1), 1, 3)).to_pylist()
    version_1 = bytes.fromhex(
        "12ce9b2c010001000100000000000000000000000000000000000000070000000000000000000000800040204648470600"
    )
    other = replace(view, columns=(view.columns[0],))
    (elsewhere,) = encode(other, States(1, states.columns[:1]), NO_ENDS).to_pylist()
    for damaged in (elsewhere, blob[:-1], blob[:9] + bytes([blob[9] ^ 4]) + blob[10:], b"", version_1):
        with pytest.raises(CorruptBlob, match="view 'v0'") as found:
            decode(view, packed([blob, damaged]))
        assert "`featureflow stream` builds it again from the log" in str(found.value.hint)

"""Laws of the state: the set of events alone decides it, its blob holds it, and the reference agrees."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.compute import reference
from featureflow_cli.compute.codec import Ends, decode, encode
from featureflow_cli.compute.entities import entity_id
from featureflow_cli.compute.events import from_projection
from featureflow_cli.compute.packed import none
from featureflow_cli.compute.ranking import Population, members, population
from featureflow_cli.compute.reading import Read, partials, read, window_starts
from featureflow_cli.compute.reference import EntityKey, Event
from featureflow_cli.compute.state import States, lift, merge
from featureflow_cli.compute.views import Feature, Key, Merge, View
from featureflow_cli.times import DAY_US, HOUR_US
from tests.laws.answers import assert_rows
from tests.laws.strategies import FAMILIES, KINDS, Case, cases
from tests.laws.tables import projected

ROUNDED = {Merge.FSUM, Merge.MOMENTS, Merge.DECAY}


def fold(view: View, events: Sequence[Event], keys: Sequence[EntityKey]) -> States:
    """The states of the entities `keys`, in that order, after these events."""
    lifted, ids = from_projection(view, projected(view, events))
    place = {entity_id(key): number for number, key in enumerate(keys)}
    entity = np.array([place[each] for each in ids], np.int64)
    numbered = entity[lifted.entity] if len(ids) else lifted.entity
    moved = type(lifted)(numbered, lifted.ts, lifted.masks, lifted.operands, lifted.row)
    return lift(view, moved, len(keys))


def contents(view: View, states: States, *, rounded: bool) -> list[list[tuple[Any, ...]]]:
    """Cells of each column with texts in place of their codes; sums of doubles only where `rounded`."""
    texts = states.texts.to_pylist()
    found = []
    for column, cells in zip(view.columns, states.columns, strict=True):
        key, value = cells.key.tolist(), cells.value.tolist()
        if column.is_text and column.key is Key.CODE:
            key = [texts[code] for code in key]
        elif column.is_text:
            value = [texts[code] for code in value]
        if column.merge in ROUNDED and not rounded:
            value = [None] * len(value)
        found.append(list(zip(cells.state.tolist(), cells.tile.tolist(), key, value, strict=True)))
    return found


def read_at(view: View, states: States, t_us: int) -> Read:
    """All states at one moment, ranks among themselves."""

    def among(feature: Feature, grid_us: int) -> Population:
        grid = np.full(states.count, grid_us, np.int64)
        sides = partials(view, feature, states, window_starts(feature, grid), grid)
        return population(feature, members(view, feature, sides, grid, states.texts))

    return read(view, states, np.full(states.count, t_us, np.int64), among)


Dealt = tuple[Case, list[int], int]


@st.composite
def dealt(draw: st.DrawFn, kinds: Sequence[str]) -> Dealt:
    """A case of events before its moment, the batch (0 to 2) of each event, and a moment to read at."""
    case = draw(cases(kinds=kinds))
    seen = [event for event in case.events if reference.time_us(case.view.source, event) < case.t_us]
    cuts = draw(st.lists(st.integers(0, 2), min_size=len(seen), max_size=len(seen)))
    later = draw(st.sampled_from([0, 1, 59_999_999, HOUR_US, 2 * DAY_US]))
    return replace(case, events=tuple(seen)), cuts, case.t_us + later


def folds(case: Case, cuts: Sequence[int]) -> tuple[list[EntityKey], list[States]]:
    """The case's entities, and their states after each of the three batches alone."""
    keys = sorted(reference.entities(case.view, case.events), key=repr)
    batches: list[list[Event]] = [[], [], []]
    for event, batch in zip(case.events, cuts, strict=True):
        batches[batch].append(event)
    return keys, [fold(case.view, batch, keys) for batch in batches]


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_batches_in_any_order_give_one_state(family: str, data: st.DataObject):
    """fold(a + b + c) = merge(fold(a), fold(b), fold(c)) = merge(merge(fold(c), fold(a)), fold(b))."""
    case, cuts, _ = data.draw(dealt(FAMILIES[family]))
    keys, (a, b, c) = folds(case, cuts)
    view, shuffled = case.view, data.draw(st.permutations(case.events))
    whole = contents(view, fold(view, shuffled, keys), rounded=False)
    assert contents(view, merge(view, [a, b, c]), rounded=False) == whole
    assert contents(view, merge(view, [merge(view, [c, a]), b]), rounded=False) == whole


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_a_state_answers_as_the_reference_does(family: str, data: st.DataObject):
    """Merged from batches, and read at any moment past its newest event."""
    case, cuts, t_us = data.draw(dealt(FAMILIES[family]))
    keys, parts = folds(case, cuts)
    states = merge(case.view, parts)
    assert_rows(case.view, case.events, [(key, t_us) for key in keys], read_at(case.view, states, t_us))


@given(dealt(KINDS))
def test_a_blob_holds_the_whole_state(drawn: Dealt):
    """decode(encode(states)) = states, header included, also where blobs of several batches come together."""
    case, cuts, _ = drawn
    view = case.view
    keys, states = folds(case, cuts)
    count = len(keys)
    ends = Ends(np.arange(count), np.full(count, -1), np.arange(count) << 40)
    blobs = [encode(view, each, ends) for each in states]
    for each, theirs in zip(states, blobs, strict=True):
        back, back_ends = decode(view, theirs)
        assert back.count == count
        assert contents(view, back, rounded=True) == contents(view, each, rounded=True)
        for name in ("state", "partition", "end"):
            assert getattr(back_ends, name).tolist() == getattr(ends, name).tolist()
    together, _ = decode(view, pa.concat_arrays([*blobs, none(1)]))
    assert together.count == 3 * count + 1
    renumbered = [
        sorted(
            (state + place * count, *rest)
            for place, each in enumerate(states)
            for state, *rest in contents(view, each, rounded=True)[column]
        )
        for column in range(len(view.columns))
    ]
    assert [sorted(column) for column in contents(view, together, rounded=True)] == renumbered

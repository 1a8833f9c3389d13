"""Law of training: many entities at many moments at once answer as the reference does, one by one."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.compute import reference
from featureflow_cli.compute.entities import entity_id
from featureflow_cli.compute.events import from_projection
from featureflow_cli.compute.ranges import read
from featureflow_cli.compute.rank_rows import rank_rows
from featureflow_cli.compute.reference import EntityKey
from featureflow_cli.compute.timelines import Moments, Timeline
from tests.laws.answers import assert_rows
from tests.laws.strategies import FAMILIES, Case, compiled, definitions, moments, rows_of
from tests.laws.tables import projected


@st.composite
def asked(draw: st.DrawFn, kinds: Sequence[str]) -> tuple[Case, list[int]]:
    """Events, also after the moments, and up to four moments."""
    written = draw(definitions(most=1, kinds=kinds))
    view = compiled(written).views["v0"]
    several = draw(st.lists(moments(), min_size=1, max_size=4, unique=True))
    least = draw(st.sampled_from([0, 6, 15]))
    events = draw(st.lists(rows_of([view], several), min_size=least, max_size=30))
    return Case(written.feature_views[0], view, tuple(events), several[0], ()), several


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_many_moments_answer_as_the_reference_does(family: str, data: st.DataObject):
    """Present or not, ranks and all; an entity that nobody knows is asked for too."""
    case, several = data.draw(asked(FAMILIES[family]))
    view = case.view
    keys: list[EntityKey] = sorted(reference.entities(view, case.events), key=repr)
    events, ids = from_projection(view, projected(view, case.events))
    place = {each: number for number, each in enumerate(ids)}
    nobody: EntityKey = tuple("nobody" if key.type.name == "string" else 99 for key in view.join_keys)
    rows = [(key, t_us) for t_us in several for key in [*keys, nobody]]
    timeline = Timeline(events)
    what = Moments(
        np.array([place.get(entity_id(key), -1) for key, _ in rows], np.int64),
        np.array([t_us for _, t_us in rows], np.int64),
    )
    answers = read(view, timeline, what)
    for feature in view.features:
        if feature.aggregation == "rank":
            ranked = rank_rows(view, feature, timeline, what, answers.present)
            answers = replace(answers, answers={**answers.answers, feature.name: ranked})
    assert_rows(view, case.events, rows, answers)

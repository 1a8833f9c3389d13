"""Labels of a random repo, and its rows held to the reference: for every evaluator of whole services."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from featureflow_cli.compute import reference
from featureflow_cli.compute.reference import Event
from featureflow_cli.compute.reference_rows import vector
from featureflow_cli.compute.views import Repo, Service
from featureflow_cli.evaluate.rows import Rows
from featureflow_cli.spec.models import Definitions
from featureflow_cli.spec.types import INT64, STRING
from tests.laws.comparing import same, scale
from tests.laws.strategies import compiled, definitions, moments, rows_of, values_of
from tests.laws.tables import column, plain, table


@dataclass(frozen=True)
class Labels:
    """A repo, events of its source, and rows to ask for: join keys (some null) and a moment each."""

    repo: Repo
    events: Sequence[Event]
    rows: Sequence[Event]
    t_us: Sequence[int]

    @property
    def service(self) -> Service:
        return self.repo.services["all"]

    @property
    def log(self) -> Any:
        return table(self.repo.sources["s"], self.events)

    @property
    def keys(self) -> Any:
        types = (("uid", INT64), ("name", STRING))
        return pa.table({name: column([row[name] for row in self.rows], of) for name, of in types})

    @property
    def moments(self) -> Any:
        return np.array(self.t_us, np.int64)


@st.composite
def labels(
    draw: st.DrawFn,
    written: st.SearchStrategy[Definitions] | None = None,
    most: int = 30,
    within_us: Sequence[int] = (),
) -> Labels:
    """Of any views, or of those `written`; events before, at and after the moments.

    With `within_us`, every event is that much before one of the moments: so that many tie.
    """
    repo = compiled(draw(definitions() if written is None else written))
    several = draw(st.lists(moments(), min_size=1, max_size=3, unique=True))
    event = rows_of(list(repo.views.values()), several)
    if within_us:
        tied = st.sampled_from([t_us - ago for t_us in several for ago in within_us])
        event = st.builds(lambda row, ts: {**row, "ts": ts}, event, tied)
    events = draw(st.lists(event, min_size=draw(st.sampled_from([0, 8, most // 2])), max_size=most))
    keys = st.fixed_dictionaries({"uid": values_of("uid", INT64), "name": values_of("name", STRING)})
    rows = draw(st.lists(keys, min_size=1, max_size=6))
    t_us = draw(st.lists(st.sampled_from(several), min_size=len(rows), max_size=len(rows)))
    return Labels(repo, events, rows, t_us)


def assert_references(drawn: Labels, found: Rows) -> None:
    """Every output of every row, and whether each view is present, are the reference's."""
    service = drawn.service
    columns = {name: plain(found.columns[name], column_type) for name, column_type in service.outputs}
    known = {view.name: reference.entities(view, drawn.events) for view in drawn.repo.views.values()}
    for place, (row, t_us) in enumerate(zip(drawn.rows, drawn.t_us, strict=True)):
        expected = vector(service, {"s": drawn.events}, row, t_us)
        for member in service.views:
            view, key = member.view, tuple(row[each.name] for each in member.view.join_keys)
            status = reference.answer_of(view, known[view.name], key, t_us).status
            assert bool(found.present[member.alias][place]) == (status == "present"), (
                member.alias,
                key,
                t_us,
            )
            features = {feature.name: feature for feature in view.features}
            for name, column_type in view.outputs:
                output = f"{member.alias}__{name}"
                relative_to = None
                if name in features and column_type.name == "double":
                    relative_to = scale(view, features[name], known[view.name], key, t_us)
                assert same(expected[output], columns[output][place], column_type, relative_to), (
                    f"{output} of {key} at {t_us}: {columns[output][place]!r} instead of {expected[output]!r}"
                )

"""Random small repos and random events, for the laws: through the real path, and close to the edges.

A view is drawn as a user would write it and compiled as the product compiles it. Timestamps are drawn around
the places where something changes: the moments of reading, the windows' old edges, the grid of ranks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

from hypothesis import strategies as st

from featureflow_cli.compute.reference import EntityKey, Event
from featureflow_cli.compute.views import View
from featureflow_cli.compute.windows import default_resolution, window_start
from featureflow_cli.spec import models
from featureflow_cli.spec.types import ColumnType, Value
from featureflow_cli.times import DAY_US, HOUR_US, parse_timestamp
from tests.laws.comparing import same, scale
from tests.laws.shop import shop_events
from tests.laws.written import FAMILIES, KINDS, SCHEMA, compiled, definitions, views, written_as

__all__ = ["FAMILIES", "KINDS", "SCHEMA", "Case", "cases", "compiled", "definitions", "moments", "rows_of"]
__all__ += ["same", "scale", "shop_events", "values_of", "views", "written_as"]

BASES_US = tuple(parse_timestamp(text) for text in ("2026-01-01", "1970-01-01", "2025-12-31T23:59:59.999999"))


@dataclass(frozen=True)
class Case:
    """A view, events of its source in order of arrival, a moment, and an entity that may be among them."""

    written: models.FeatureView
    view: View
    events: tuple[Event, ...]
    t_us: int
    key: EntityKey

    def __repr__(self) -> str:
        events = [
            {name: value for name, value in event.items() if value is not None} for event in self.events
        ]
        written = self.written.model_dump(exclude_defaults=True, mode="json")
        return f"Case({written},\n  events={events},\n  t_us={self.t_us}, key={self.key})"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(repr(self))


@st.composite
def cases(draw: st.DrawFn, *, kinds: Sequence[str] = KINDS, most: int = 25) -> Case:
    """One view of features of these kinds."""
    written = draw(definitions(most=1, kinds=kinds))
    view = compiled(written).views["v0"]
    t_us = draw(moments())
    least = draw(st.sampled_from([0, 4, most // 2]))
    events = draw(st.lists(rows_of([view], [t_us]), min_size=least, max_size=most))
    key = draw(st.tuples(*(values_of(each.column, each.type).filter(_is_there) for each in view.join_keys)))
    return Case(written.feature_views[0], view, tuple(events), t_us, key)


def _is_there(value: Value) -> bool:
    return value is not None


def moments() -> st.SearchStrategy[int]:
    """Moments to read at: on, and just beside, what windows round to."""
    steps = st.sampled_from([0, 1, -1, 999, 437_000_000, HOUR_US, 90 * 60_000_000 + 7, -3 * DAY_US])
    return st.builds(lambda base, step: base + step, st.sampled_from(BASES_US), steps)


def rows_of(several: Sequence[View], read_us: Sequence[int]) -> st.SearchStrategy[dict[str, Value]]:
    """Rows of the views' one source; columns that no view reads are null."""
    source = several[0].source
    read = frozenset[str]().union(*(_columns_read(view) for view in several))
    nulls: dict[str, Value] = dict.fromkeys(source.columns)
    drawn = {name: values_of(name, source.columns[name]) for name in source.columns if name in read}
    drawn[source.timestamp_field] = timestamps(several, read_us)
    return st.fixed_dictionaries(drawn).map(lambda row: nulls | row)


def _columns_read(view: View) -> frozenset[str]:
    if view.latest:
        return frozenset(view.source.columns)
    expressions = [*view.masks, *view.operands, *([view.where] if view.where else [])]
    return frozenset().union(
        *(expression.columns for expression in expressions), (key.column for key in view.join_keys)
    )


def timestamps(several: Sequence[View], read_us: Sequence[int]) -> st.SearchStrategy[int]:
    """Around the moments of reading, and around everything that they look back to."""
    places: set[int] = set()
    for t_us in read_us:
        places.add(t_us)
        for view in several:
            if view.ttl_us is not None:
                places |= {
                    t_us - view.ttl_us,
                    window_start(t_us, view.ttl_us, default_resolution(view.ttl_us)),
                }
            for feature in view.features:
                ends = [t_us, window_start(t_us, 0, feature.refresh_us)] if feature.refresh_us else [t_us]
                places |= {*ends, sum(ends) // len(ends)}
                if feature.window.width_us is not None:
                    width_us = feature.window.width_us
                    places |= {end - width_us // part for end in ends for part in (1, 2, 3, 7)}
                    places |= {feature.window.start(end) for end in ends}
    steps = (-1, 0, 1, -2, 500, -70_000, -61_000_000, -25 * HOUR_US)
    return st.sampled_from([place + step for step in steps for place in sorted(places)])


TEXTS = ("a", "b", "ä", "", "日本", "\U0001d11e", "a,b", "%41", "it's", 'say "so"', "ß\n", "x" * 1025)
DOUBLES = (
    0.0,
    -0.0,
    1.0,
    1.5,
    0.1,
    -2.25,
    1e16,
    1e100,
    -1e100,
    1e-100,
    5e-324,
    2.5,
    -0.75,
    3.0,
    math.nan,
    math.inf,
)
INTEGERS = (0, 1, 2, 3, -1, -7, 2**31, 2**62, 2**63 - 1, -(2**63))
_NARROW = (0, 1, -1, 250, 999, 10**18 - 1, -(10**18) + 1)
_WIDE = (*_NARROW, 2**64, -(2**96) - 5, 10**38 - 1, -(10**38) + 1)
_LISTS: dict[str, Sequence[Value]] = {
    "string": ((), ("a",), ("ä", None, ""), ("it's", 'say "so"')),
    "double": ((), (1.5,), (0.1, None, -0.0), (math.nan, 1e100)),
}
_VALUES: dict[str, Sequence[Value]] = {
    "int64": INTEGERS,
    "double": DOUBLES,
    "string": TEXTS,
    "timestamp": (0, 1, -1, *BASES_US),
    "date": (0, -1, 20_454, 20_455),
    "bool": (False, True, True),
}


@cache
def values_of(name: str, column_type: ColumnType) -> st.SearchStrategy[Value]:
    """Values of a source's column, null among them; join keys are drawn from few."""
    if name == "uid":
        return st.sampled_from((1, 1, 1, 2, -7, 2**63 - 1, None))
    if name == "name":
        return st.sampled_from((TEXTS[0], TEXTS[0], TEXTS[0], *TEXTS[:8], None))
    if column_type.element is not None:
        return st.sampled_from((None, *_LISTS[column_type.element.name]))
    if column_type.name == "decimal":
        unscaled = _WIDE if column_type.is_wide else _NARROW
        return st.sampled_from((None, *(Decimal(f"{number}E-{column_type.scale}") for number in unscaled)))
    return st.sampled_from((None, *_VALUES[column_type.name]))

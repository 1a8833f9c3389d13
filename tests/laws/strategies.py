"""Random small repos and random events, for the laws: through the real path, and close to the edges.

A view is drawn as a user would write it and compiled as the product compiles it. Timestamps are drawn around
the places where something changes: the moments of reading, the windows' old edges, the grid of ranks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from featureflow_cli.compute.compiling import compile_repo
from featureflow_cli.compute.reference import EntityKey, Event
from featureflow_cli.compute.views import Repo, View
from featureflow_cli.compute.windows import LADDER_US, default_resolution, window_start
from featureflow_cli.spec import models
from featureflow_cli.spec.types import ColumnType, Value
from featureflow_cli.times import DAY_US, HOUR_US, format_duration, parse_duration, parse_timestamp
from tests.laws.comparing import same, scale
from tests.laws.shop import shop_events

__all__ = [
    "Case",
    "cases",
    "compiled",
    "definitions",
    "moments",
    "rows_of",
    "same",
    "scale",
    "shop_events",
    "views",
]

SCHEMA: dict[str, Any] = {
    "uid": "int64",
    "name": "string",
    "ts": "timestamp",
    "made": "timestamp",
    "kind": "string",
    "n": "int64",
    "price": "decimal(18,2)",
    "big": "decimal(38,4)",
    "x": "double",
    "at": "timestamp",
    "day": "date",
    "flag": "bool",
    "tags": "list<string>",
    "vec": "list<double>",
}
ENTITIES = {
    "user": {"uid": "int64"},
    "person": {"name": "string"},
    "pair": {"uid": "int64", "name": "string"},
}
NUMBERS = ("n", "price", "big", "x", "n + 1", "price * 2", "x / 3.0")
ORDERED = (*NUMBERS, "at", "day")
SCALARS = (*ORDERED, "kind", "flag", "upper(kind)")
CONDITIONS = (
    "kind = 'a'",
    "kind in ('b', 'ä')",
    "n > 0",
    "flag",
    "not flag",
    "price is not null",
    "x < 1.5 or n is null",
)
WINDOWS = ("1ms", "50ms", "7s", "90s", "1h", "24h", "7d", "forever")
UNITS = ("us", "ms", "seconds", "minutes", "hours", "days")
BASES_US = tuple(parse_timestamp(text) for text in ("2026-01-01", "1970-01-01", "2025-12-31T23:59:59.999999"))


# --- definitions


@st.composite
def features(draw: st.DrawFn, name: str, kinds: Sequence[str] = models.AGGREGATIONS) -> dict[str, Any]:
    """One feature as written in YAML, of any aggregation but `rank`."""
    kind = draw(st.sampled_from([each for each in kinds if each != "rank"]))
    written: dict[str, Any] = {"name": name, "window": draw(st.sampled_from(WINDOWS))}
    where = draw(st.none() | st.sampled_from(CONDITIONS))
    if where is not None:
        written["where"] = where
    if kind in {"count", "count_distinct"}:
        written[kind] = draw(st.sampled_from(("*", *SCALARS) if kind == "count" else SCALARS))
    elif kind in {"sum", "mean", "variance", "stddev"}:
        written[kind] = draw(st.sampled_from(NUMBERS))
    elif kind in {"min", "max"}:
        written[kind] = draw(st.sampled_from(ORDERED))
    elif kind in {"first", "last"}:
        written[kind] = draw(st.sampled_from(SCALARS))
    elif kind in {"first_k", "last_k", "top_k"}:
        written[kind] = {"of": draw(st.sampled_from(SCALARS)), "k": draw(st.integers(1, 3))}
    elif kind == "percentile":
        shares = st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.9, 0.95, 1.0])
        written[kind] = {"of": draw(st.sampled_from(NUMBERS)), "p": draw(shares)}
    elif kind in {"time_since_last", "time_since_first"}:
        written[kind] = {"unit": draw(st.sampled_from(UNITS))}
    elif kind == "session_mean":
        written[kind] = {"by": draw(st.sampled_from(SCALARS)), "unit": draw(st.sampled_from(UNITS))}
    else:
        written[kind] = {"of": draw(ratio_parts()), "to": draw(ratio_parts())}
    if kind in {"count", "sum"} and draw(st.booleans()):
        written |= {"window": "forever", "half_life": draw(st.sampled_from(["1s", "10m", "1h", "7d"]))}
    elif written["window"] != "forever":
        written |= draw(resolutions(parse_duration(written["window"])))
    if kind in {"count_distinct", "top_k", "session_mean"} and draw(st.booleans()):
        written["max_keys"] = draw(st.integers(2, 4))
    if kind in {"count", "count_distinct", "mean", "variance", "percentile", "ratio"} and draw(st.booleans()):
        written["default"] = 7
    return written


def ratio_parts() -> st.SearchStrategy[dict[str, Any]]:
    wheres = st.fixed_dictionaries({}, optional={"where": st.sampled_from(CONDITIONS)})
    taken = st.sampled_from(("*", *SCALARS)).map(lambda text: {"count": text}) | st.sampled_from(NUMBERS).map(
        lambda text: {"sum": text}
    )
    return st.builds(lambda part, where: {**part, **where}, taken, wheres)


def resolutions(width_us: int) -> st.SearchStrategy[dict[str, str]]:
    """Nothing (the default), `exact`, or a rung no wider than the window."""
    rungs = [format_duration(rung) for rung in LADDER_US[1:] if rung <= width_us]
    return st.just({}) | st.sampled_from(["exact", *rungs]).map(lambda text: {"resolution": text})


@st.composite
def ranks(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A feature that may be ranked, and its rank."""
    of = draw(features("ranked", ("count", "sum", "mean", "ratio", "min", "max")))
    of |= {"window": draw(st.sampled_from(("1h", "24h", "7d")))}
    of.pop("half_life", None)
    of.pop("resolution", None)
    for kind in ("min", "max"):
        if of.get(kind) in {"at", "day"}:
            of[kind] = "n"
    width_us = parse_duration(of["window"])
    refreshes = [rung for rung in LADDER_US if rung >= default_resolution(width_us) and width_us % rung == 0]
    rounded = "mean" in of or "ratio" in of or "x" in str(of.get("sum"))
    method = "share_of_max" if rounded else draw(st.sampled_from(["share_of_max", "percent_rank"]))
    rank = {"name": "rank", "rank": {"of": "ranked", "method": method}}
    rank["refresh"] = format_duration(draw(st.sampled_from(refreshes)))
    return [of, rank | draw(st.sampled_from([{}, {"default": -1.0}]))]


@st.composite
def views(draw: st.DrawFn, name: str = "v", *, latest: bool = True, rank: bool = True) -> dict[str, Any]:
    """A view as written in YAML."""
    written: dict[str, Any] = {"name": name, "source": "s", "entity": draw(st.sampled_from(list(ENTITIES)))}
    where = draw(st.none() | st.sampled_from(CONDITIONS))
    if where is not None:
        written["where"] = where
    if latest and draw(st.integers(0, 5)) == 5:
        columns = st.sampled_from([column for column in SCHEMA if column != "ts"])
        written["latest"] = draw(st.lists(columns, min_size=1, max_size=5, unique=True))
        written |= draw(st.sampled_from([{}, {"deleted": "kind = 'a'"}, {"deleted": "not flag"}]))
        return written | draw(st.sampled_from([{}, {"ttl": "1h"}, {"ttl": "forever"}]))
    several = [draw(features(f"f{place}")) for place in range(draw(st.integers(1, 4)))]
    if rank and draw(st.integers(0, 3)) == 3:
        several += draw(ranks())
    written["features"] = several
    widths = [each["window"] for each in several if "window" in each]
    if "forever" not in widths:
        widest = max(widths, key=parse_duration)
        written |= draw(st.sampled_from([{}, {"ttl": widest}, {"ttl": "30d"}]))
    return written


@st.composite
def definitions(
    draw: st.DrawFn, *, most: int = 3, latest: bool = True, rank: bool = True
) -> models.Definitions:
    """A repo of one source, up to `most` views, and a service `all` of everything."""
    several = [
        draw(views(f"v{place}", latest=latest, rank=rank)) for place in range(draw(st.integers(1, most)))
    ]
    return written_as(several, created=draw(st.booleans()))


def written_as(several: list[dict[str, Any]], *, created: bool = False) -> models.Definitions:
    """Views over the source `s`, written as in YAML, with all that they need beside them."""
    source: dict[str, Any] = {"name": "s", "schema": SCHEMA, "timestamp_field": "ts"}
    source["stream"] = {"files": {"path": "data/events/*.parquet"}}
    return models.Definitions.model_validate(
        {
            "entities": [{"name": name, "join_keys": keys} for name, keys in ENTITIES.items()],
            "sources": [source | ({"created_timestamp": "made"} if created else {})],
            "feature_views": several,
            "feature_services": [{"name": "all", "features": [f"{view['name']}:*" for view in several]}],
        }
    )


def compiled(written: models.Definitions) -> Repo:
    return compile_repo(models.StoreConfig(project="laws"), written)


# --- events


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
def cases(draw: st.DrawFn, *, latest: bool = True, rank: bool = True, most: int = 25) -> Case:
    written = draw(definitions(most=1, latest=latest, rank=rank))
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
    steps = st.sampled_from([0, 1, -1, 999, HOUR_US, 90 * 60_000_000 + 7, -3 * DAY_US])
    return st.builds(lambda base, step: base + step, st.sampled_from(BASES_US), steps)


def rows_of(several: Sequence[View], read_us: Sequence[int]) -> st.SearchStrategy[dict[str, Value]]:
    """Rows of the views' one source; columns that no view reads are null."""
    source = several[0].source
    read = frozenset[str]().union(*(_columns_read(view) for view in several))
    columns: dict[str, st.SearchStrategy[Value]] = {
        name: values_of(name, column_type) if name in read else st.none()
        for name, column_type in source.columns.items()
    }
    columns[source.timestamp_field] = timestamps(several, read_us)
    return st.fixed_dictionaries(columns)


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
                places |= set(ends)
                if feature.window.width_us is not None:
                    places |= {end - feature.window.width_us for end in ends}
                    places |= {feature.window.start(end) for end in ends}
    steps = st.sampled_from([-1, 0, 0, 1, 1, 500, -70_000, 61_000_000, -25 * HOUR_US])
    return st.builds(lambda place, step: place + step, st.sampled_from(sorted(places)), steps)


TEXTS = ("a", "b", "ä", "", "日本", "\U0001d11e", "a,b", "%41", "it's", 'say "so"', "ß\n", "x" * 1025)
DOUBLES = (0.0, -0.0, 1.0, 1.5, 0.1, -2.25, 1e16, 1e100, -1e100, 1e-100, 5e-324, float("nan"), float("inf"))
INTEGERS = (0, 1, 2, 3, -7, 2**31, 2**62, 2**63 - 1, -(2**63))
_NARROW = (0, 1, -1, 250, 999, 10**18 - 1, -(10**18) + 1)
_WIDE = (*_NARROW, 2**64, -(2**96) - 5, 10**38 - 1, -(10**38) + 1)


def values_of(name: str, column_type: ColumnType) -> st.SearchStrategy[Value]:
    """Values of a source's column, null among them; join keys are drawn from few."""
    if name in {"uid", "name"}:
        return st.sampled_from([1, 2, -7, 2**63 - 1, None] if name == "uid" else [*TEXTS[:8], None])
    if column_type.element is not None:
        element = (
            st.sampled_from(TEXTS[:6])
            if column_type.element.name == "string"
            else st.sampled_from(DOUBLES[:9])
        )
        return st.none() | st.lists(st.none() | element, max_size=3).map(tuple)
    return (
        st.none()
        | {
            "int64": st.sampled_from(INTEGERS) | st.integers(-5, 5),
            "decimal": st.sampled_from(_WIDE if column_type.is_wide else _NARROW).map(
                lambda unscaled: Decimal(f"{unscaled}E-{column_type.scale}")
            ),
            "double": st.sampled_from(DOUBLES) | st.integers(-5, 5).map(lambda number: number / 4),
            "string": st.sampled_from(TEXTS),
            "timestamp": st.sampled_from([0, 1, -1, *BASES_US]),
            "date": st.sampled_from([0, -1, 20_454, 20_455]),
            "bool": st.booleans(),
        }[column_type.name]
    )

"""Random small repos, written as a user would write them in YAML and compiled as the product compiles them."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from featureflow_cli.compute.compiling import compile_repo
from featureflow_cli.compute.views import Repo
from featureflow_cli.compute.windows import LADDER_US, default_resolution
from featureflow_cli.spec import models
from featureflow_cli.times import format_duration, parse_duration

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


FAMILIES = {
    "sums": ("count", "sum", "mean", "ratio"),
    "decayed": ("decayed",),
    "moments": ("variance", "stddev"),
    "extremes": ("min", "max", "percentile"),
    "ends": ("first", "last", "first_k", "last_k", "time_since_last", "time_since_first"),
    "keyed": ("count_distinct", "top_k", "session_mean"),
    "rank": ("rank",),
    "latest": ("latest",),
}
"""Kinds of features that share code. `decayed` and `latest` stand for what no aggregation is named."""
KINDS = tuple(kind for kinds in FAMILIES.values() for kind in kinds)


@st.composite
def features(draw: st.DrawFn, name: str, kind: str, windows: Sequence[str]) -> dict[str, Any]:
    """One feature as written in YAML, of any kind but `rank` and `latest`, over one or all of `windows`."""
    if kind == "decayed":
        of = {"count": "*"} if draw(st.booleans()) else {"sum": draw(st.sampled_from(NUMBERS))}
        half_life = {"half_life": draw(st.sampled_from(["1s", "10m", "1h", "7d"]))}
        return {"name": name, "window": "forever"} | half_life | of | draw(wheres())
    written: dict[str, Any] = draw(wheres())
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
    if kind in {"count_distinct", "top_k", "session_mean"}:
        written |= draw(st.sampled_from([{}, {"max_keys": 2}, {"max_keys": 3}]))
    if kind in {"count", "count_distinct", "mean", "variance", "percentile", "ratio"}:
        written |= draw(st.sampled_from([{}, {"default": 7}]))
    if len(windows) > 1 and draw(st.booleans()):
        return written | {"name": name + "_{window}", "windows": list(windows)}
    window = draw(st.sampled_from(windows))
    resolution = {} if window == "forever" else draw(resolutions(parse_duration(window)))
    return written | {"name": name, "window": window} | resolution


def wheres() -> st.SearchStrategy[dict[str, Any]]:
    conditions: list[dict[str, Any]] = [{"where": text} for text in CONDITIONS]
    return st.sampled_from([*({} for _ in CONDITIONS), *conditions])


def ratio_parts() -> st.SearchStrategy[dict[str, Any]]:
    taken = st.sampled_from(("*", *SCALARS)).map(lambda text: {"count": text}) | st.sampled_from(NUMBERS).map(
        lambda text: {"sum": text}
    )
    return st.builds(lambda part, where: {**part, **where}, taken, wheres())


def resolutions(width_us: int) -> st.SearchStrategy[dict[str, str]]:
    """Nothing (the default), `exact`, or a rung no wider than the window."""
    rungs = [format_duration(rung) for rung in LADDER_US[1:] if rung <= width_us]
    return st.just({}) | st.sampled_from(["exact", *rungs]).map(lambda text: {"resolution": text})


@st.composite
def ranks(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A feature that may be ranked, and its rank."""
    kind = draw(st.sampled_from(["count", "sum", "mean", "ratio", "min", "max"]))
    of = draw(features("ranked", kind, [draw(st.sampled_from(("1h", "24h", "7d")))]))
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
def views(draw: st.DrawFn, name: str = "v", kinds: Sequence[str] = KINDS) -> dict[str, Any]:
    """A view as written in YAML, with features of these kinds."""
    written: dict[str, Any] = {"name": name, "source": "s", "entity": draw(st.sampled_from(list(ENTITIES)))}
    written |= draw(wheres())
    kind = draw(st.sampled_from(kinds))
    if kind == "latest":
        columns = st.sampled_from([column for column in SCHEMA if column != "ts"])
        written["latest"] = draw(st.lists(columns, min_size=1, max_size=5, unique=True))
        written |= draw(st.sampled_from([{}, {"deleted": "kind = 'a'"}, {"deleted": "not flag"}]))
        return written | draw(st.sampled_from([{}, {"ttl": "1h"}, {"ttl": "forever"}]))
    several = draw(ranks()) if kind == "rank" else []
    others = [each for each in kinds if each not in {"rank", "latest"}]
    windows = draw(st.lists(st.sampled_from(WINDOWS), min_size=1, max_size=3, unique=True))
    for place in range(draw(st.integers(0 if several else 1, 3)) if others else 0):
        other = kind if place == 0 and not several else draw(st.sampled_from(others))
        several.append(draw(features(f"f{place}", other, windows)))
    written["features"] = several
    widths = [width for each in several for width in each.get("windows", [each.get("window")]) if width]
    if "forever" not in widths:
        widest = max(widths, key=parse_duration)
        written |= draw(st.sampled_from([{}, {"ttl": widest}, {"ttl": "30d"}]))
    return written


@st.composite
def definitions(draw: st.DrawFn, *, most: int = 3, kinds: Sequence[str] = KINDS) -> models.Definitions:
    """A repo of one source, up to `most` views, and a service `all` of everything."""
    several = [draw(views(f"v{place}", kinds)) for place in range(draw(st.integers(1, most)))]
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

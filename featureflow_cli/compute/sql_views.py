"""One view over labels as named steps of SQL: the second evaluator's heart (design.md section 6).

`events` (projected once), `asked` (labels' keys, moments and where windows start), `seen` (each label with the events
of its entity in [start, moment)), then one aggregate with a FILTER a feature, keyed and ranked ones in steps of their
own, and `features`, which puts them together.
"""

from collections.abc import Callable, Sequence

from featureflow_cli.compute.sql import projection_sql
from featureflow_cli.compute.sql_aggregates import (
    KEYED,
    Taken,
    comment,
    double_sql,
    feature_sql,
    finite,
    keyed_sql,
    over_nothing,
    prepared_columns,
    taken,
)
from featureflow_cli.compute.sql_latest import finite_columns, newest_first
from featureflow_cli.compute.sql_text import quoted, sql_type
from featureflow_cli.compute.views import Feature, ServiceView, View
from featureflow_cli.compute.windows import Window
from featureflow_cli.times import format_duration

LABELS = '"labels.numbered"'
"""The CTE of the labels: their own columns, `_row` (1, 2, … in their order) and `_t`, the moment in microseconds."""

Ctes = dict[str, str]
"""SELECTs by name (quoted), each over those before it; a text may begin with comments."""


def member_ctes(member: ServiceView, wanted: frozenset[str], relation: str) -> Ctes:
    """The CTEs of a view of a service; the last, `alias.features`, has `_row, present, newest, alias__feature…`."""
    view = member.view

    def step(name: str) -> str:
        return quoted(f"{member.alias}.{name}")

    features = [each for each in view.features if each.name in wanted]
    ranks = [each for each in features if each.aggregation == "rank"]
    sides = [*features, *(_ranked(view, rank) for rank in ranks)]
    ctes: Ctes = {step("events"): _events(view, relation, prepared_columns(view, sides))}
    ctes[step("asked")] = _asked(member, ranks)
    ctes[step("seen")] = _seen(view, step("asked"), step("events"))
    if view.latest:
        ctes[step("features")] = _latest(member, wanted, step("asked"), step("seen"))
        return ctes
    for feature in features:
        if feature.aggregation in KEYED:
            keys, answers = keyed_sql(_over_seen(view, feature)[0], step("seen"))
            ctes[step(f"{feature.name}.keys")] = f"-- {comment(view, feature)}\n{keys}"
            ctes[step(feature.name)] = answers.format(keys=step(f"{feature.name}.keys"))
        elif feature.aggregation == "rank":
            ctes[step(f"{feature.name}.members")] = _members(view, feature, step("asked"), step("events"))
            ctes[step(feature.name)] = _ranking(view, feature, step(f"{feature.name}.members"))
    ctes[step("plain")] = _plain(member, features, step("seen"))
    ctes[step("features")] = _together(member, features, step)
    return ctes


def _listed(lines: Sequence[str]) -> str:
    return ",\n  ".join(lines)


def _events(view: View, relation: str, prepared: Sequence[str]) -> str:
    title = f"-- events of view {view.name}, from source {view.source.name}\n"
    projection = projection_sql(view, relation)
    return title + (f"SELECT *, {', '.join(prepared)} FROM ({projection})" if prepared else projection)


def _asked(member: ServiceView, ranks: Sequence[Feature]) -> str:
    """The join keys, the moment, and where every window starts there."""
    view = member.view
    columns = ["_row", "_t"]
    for place, key in enumerate(view.join_keys):
        column = quoted(member.join_keys.get(key.name, key.name))
        columns.append(f"CAST({column} AS {sql_type(key.type)}) AS k{place}")
    windows = {_since(each.window): _start("_t", each.window) for each in view.features}
    starts = {name: start for name, start in windows.items() if name and start}
    columns += [f"{start} AS {name}" for name, start in starts.items()]
    if view.presence:
        earliest = dict.fromkeys(_start("_t", window) or "" for window in view.presence)
        columns.append(f"least({', '.join(earliest)}) AS since")
    columns += [f"{floor_sql('_t', rank.refresh_us)} AS {_grid(rank)}" for rank in _grids(ranks)]
    return f"SELECT {_listed(columns)}\nFROM {LABELS}"


def _seen(view: View, asked: str, events: str) -> str:
    """Every label with each event that makes its entity present; all windows lie within."""
    same = " AND ".join(f"e.k{place} = a.k{place}" for place in range(len(view.join_keys)))
    since = " AND e.ts >= a.since" if view.presence else ""
    keys = ", ".join(f"k{place}" for place in range(len(view.join_keys)))
    return (
        f"SELECT a.* EXCLUDE ({keys}), e.*\n"
        f"FROM {asked} AS a JOIN {events} AS e ON {same} AND e.ts < a._t{since}"
    )


def _over_seen(view: View, feature: Feature) -> list[Taken]:
    return taken(view, feature, "_t", _since(feature.window))


def _plain(member: ServiceView, features: Sequence[Feature], seen: str) -> str:
    """One row a label that sees an event: all features that one GROUP BY answers."""
    view, lines = member.view, ["max(ts) AS newest"]
    for feature in features:
        if feature.aggregation not in {*KEYED, "rank"}:
            answer = feature_sql(feature, _over_seen(view, feature))
            lines.append(
                f"-- {comment(view, feature)}\n  {answer} AS {quoted(f'{member.alias}__{feature.name}')}"
            )
    moments = [name for name in dict.fromkeys(_since(each.window) for each in features) if name]
    grouped = ", ".join(["_row", "_t", *moments])
    return f"SELECT _row, {_listed(lines)}\nFROM {seen}\nGROUP BY {grouped}"


def _together(member: ServiceView, features: Sequence[Feature], step: Callable[[str], str]) -> str:
    """All labels: null where the view is not present, a default where a feature took nothing."""
    view, joins, columns = (
        member.view,
        "",
        ["asked._row", "plain._row IS NOT NULL AS present", "plain.newest"],
    )
    for feature in features:
        name = quoted(f"{member.alias}__{feature.name}")
        answer = f"plain.{name}"
        if feature.aggregation in {*KEYED, "rank"}:
            answer = _or_default(step(feature.name), feature)
            joins += f"\nLEFT JOIN {step(feature.name)} ON {_joined(view, feature, step)}"
            answer = f"CASE WHEN plain._row IS NOT NULL THEN {answer} END"
        columns.append(f"{answer} AS {name}")
    return (
        f"SELECT {_listed(columns)}\n"
        f"FROM {step('asked')} AS asked\nLEFT JOIN {step('plain')} AS plain ON plain._row = asked._row{joins}"
    )


def _or_default(found: str, feature: Feature) -> str:
    nothing = over_nothing(feature)
    if nothing is None:
        return f"{found}.answer"
    return f"CASE WHEN {found}._row IS NULL THEN {nothing} ELSE {found}.answer END"


def _joined(view: View, feature: Feature, step: Callable[[str], str]) -> str:
    found = step(feature.name)
    if feature.aggregation != "rank":
        return f"{found}._row = asked._row"
    keys = [f"{found}.k{place} = asked.k{place}" for place in range(len(view.join_keys))]
    return " AND ".join([f"{found}._row = asked.{_grid(feature)}", *keys])


def _latest(member: ServiceView, wanted: frozenset[str], asked: str, seen: str) -> str:
    """The columns of the newest row seen; a deletion ends the entity's presence."""
    view = member.view
    ordered = (
        f"SELECT *, row_number() OVER (PARTITION BY _row ORDER BY {newest_first(view)}) AS place FROM {seen}"
    )
    columns = [
        "asked._row",
        "newest._row IS NOT NULL AND NOT newest.deleted AS present",
        "newest.ts AS newest",
    ]
    columns += [
        f"CASE WHEN NOT newest.deleted THEN {value} END AS {quoted(f'{member.alias}__{name}')}"
        for name, value in finite_columns(view, "newest").items()
        if name in wanted
    ]
    return (
        f"-- the newest row of view {view.name}: by time, created_timestamp, then the row's canonical text\n"
        f"SELECT {_listed(columns)}\nFROM {asked} AS asked\n"
        f"LEFT JOIN ({ordered}) AS newest ON newest._row = asked._row AND newest.place = 1"
    )


# --- ranks across entities (design.md 1.14)


def _ranked(view: View, rank: Feature) -> Feature:
    return next(each for each in view.features if each.name == rank.of)


def _grid(rank: Feature) -> str:
    return f"grid_{format_duration(rank.refresh_us)}"


def _grids(ranks: Sequence[Feature]) -> list[Feature]:
    return list({_grid(rank): rank for rank in ranks}.values())


def _members(view: View, rank: Feature, asked: str, events: str) -> str:
    """The value of `of` at each grid point, of every entity with an event that counts there."""
    of = _ranked(view, rank)
    grid, keys = _grid(rank), ", ".join(f"k{place}" for place in range(len(view.join_keys)))
    sides = taken(view, of, "grid_us", "since")
    counted = " OR ".join(f"{side.of('count(*)')} > 0" for side in sides)
    start = _start(grid, rank.window)
    return (
        f"-- {comment(view, rank)}: every entity at the grid point of each label\n"
        f"SELECT grid_us, {keys}, {feature_sql(of, sides)} AS value\n"
        f"FROM (SELECT DISTINCT {grid} AS grid_us, {start} AS since FROM {asked}) AS grid\n"
        f"JOIN {events} ON ts < grid_us AND ts >= since\n"
        f"GROUP BY grid_us, since, {keys}\nHAVING {counted}"
    )


def _ranking(view: View, rank: Feature, members: str) -> str:
    """`_row` is the grid point here. A member without a value has no rank, and stands in nobody's way."""
    keys = ", ".join(f"k{place}" for place in range(len(view.join_keys)))
    if rank.method == "percent_rank":
        answer = "percent_rank() OVER (PARTITION BY grid_us, value IS NULL ORDER BY value)"
        answer = f"CASE WHEN value IS NOT NULL THEN {answer} END"
    else:
        value = double_sql("value", _ranked(view, rank).type)
        largest = f"max({value}) OVER (PARTITION BY grid_us)"
        answer = f"CASE WHEN {largest} > 0 THEN {finite(f'{value} / {largest}')} END"
    return f"SELECT grid_us AS _row, {keys}, {answer} AS answer\nFROM {members}"


# --- moments


def floor_sql(moment: str, step_us: int) -> str:
    """floor(moment, step), for moments before 1970 too: SQL's own division goes towards zero."""
    return (
        f"({moment})"
        if step_us == 1
        else f"(({moment}) - ((({moment}) % {step_us}) + {step_us}) % {step_us})"
    )


def _start(moment: str, window: Window) -> str | None:
    return (
        None if window.width_us is None else floor_sql(f"{moment} - {window.width_us}", window.resolution_us)
    )


def _since(window: Window) -> str | None:
    """The column that says where the window starts: `since_24h_by_15m`; None: forever."""
    if window.width_us is None:
        return None
    return f"since_{format_duration(window.width_us)}_by_{format_duration(window.resolution_us)}"

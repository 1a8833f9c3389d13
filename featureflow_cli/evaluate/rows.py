"""Rows at their moments from the offline log: what a dataset, `get --at` and check-skew ask for.

DuckDB reads, projects and sorts the events of the entities asked for; `compute/ranges.py` evaluates them. Where
the events do not fit into the engine's memory limit, entities are taken in parts that do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featureflow_cli.compute.codes import Bools, Ints
from featureflow_cli.compute.entities import dense
from featureflow_cli.compute.events import columns_of
from featureflow_cli.compute.partials import REASONS, Answer
from featureflow_cli.compute.ranges import Moments, Timeline, read
from featureflow_cli.compute.rank_rows import rank_rows
from featureflow_cli.compute.reading import Read
from featureflow_cli.compute.sql import projection_sql
from featureflow_cli.compute.sql_expressions import expression_sql
from featureflow_cli.compute.sql_text import quoted
from featureflow_cli.compute.views import OnDemand, Service, ServiceView, View
from featureflow_cli.compute.windows import presence_start
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.errors import NotFound, UsageError, did_you_mean
from featureflow_cli.spec.types import ColumnType, arrow_type

_BYTES_A_VALUE = 24
"""What one projected value costs while it is read, sorted and searched."""
_PART_OF_MEMORY = 4
"""A part's events may take this fraction of the engine's memory limit."""


@dataclass(frozen=True)
class Rows:
    """`columns`: the service's outputs, one value a row; `present` and `newest_us` by the view's alias.

    `reasons` says why an output is null, for rows where there is a reason of its own.
    """

    columns: dict[str, Any]
    present: dict[str, Bools]
    newest_us: dict[str, Ints]
    reasons: dict[str, Ints] = field(default_factory=dict)


def rows_at(
    engine: Engine,
    service: Service,
    relations: Mapping[str, str],
    labels: pa.Table,
    t_us: Ints,
    *,
    memory_bytes: int = 2 * 2**30,
) -> Rows:
    """Every output of `service` for each row of `labels` at its own moment `t_us`.

    `relations` names, by source, the accepted events in the engine (evaluate/log.py). `labels` holds the join
    keys and the on-demand features' request columns. UsageError where one of them is missing or misfits.
    """
    columns: dict[str, Any] = {}
    present: dict[str, Bools] = {}
    newest: dict[str, Ints] = {}
    reasons: dict[str, Ints] = {}
    readable: dict[str, Any] = {}
    for member in service.views:
        wanted = service.needed(member)
        found = _member_at(
            engine, member, wanted, relations[member.view.source.name], labels, t_us, memory_bytes
        )
        present[member.alias], newest[member.alias] = found.present, found.newest_us
        for name, answer in found.answers.items():
            readable[f"{member.view.name}.{name}"] = answer.values
            if name in member.features:
                columns[f"{member.alias}__{name}"] = answer.values
                if answer.reason is not None and answer.reason.any():
                    reasons[f"{member.alias}__{name}"] = answer.reason
    for feature in service.on_demand:
        columns[feature.name] = on_demand(engine, feature, readable, labels, t_us)
    ordered = {name: columns[name] for name, _ in service.outputs}
    return Rows(ordered, present, newest, reasons)


def on_demand(
    engine: Engine, feature: OnDemand, readable: Mapping[str, Any], labels: pa.Table, t_us: Ints
) -> Any:
    """The values of an on-demand feature, from the features it reads and the request columns of `labels`."""
    table: dict[str, Any] = {name: readable[name] for name in feature.expr.columns if name in readable}
    for name, column_type in feature.request.items():
        if name in feature.expr.columns:
            table[name] = label_column(labels, name, column_type)
    table["as_of"] = pa.array(t_us, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    engine.register("on_demand", pa.table(table))
    values = engine.table(f"SELECT {expression_sql(feature.expr)} AS value FROM on_demand").column("value")
    engine.unregister("on_demand")
    values = values.combine_chunks().cast(arrow_type(feature.type))
    if feature.default is None:
        return values
    return pc.fill_null(values, pa.scalar(feature.default, arrow_type(feature.type)))


def label_column(labels: pa.Table, name: str, column_type: ColumnType) -> Any:
    """A column of the labels in the type it must have; UsageError where it is missing or does not fit."""
    if name not in labels.column_names:
        message = f"the labels have no column '{name}'"
        raise NotFound(
            message,
            hint=did_you_mean(name, labels.column_names) or f"they have: {', '.join(labels.column_names)}",
        )
    column = labels.column(name)
    if column.type == pa.null():
        return pa.nulls(len(column), arrow_type(column_type))
    try:
        return column.combine_chunks().cast(arrow_type(column_type))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        message = f"label column '{name}' does not fit {column_type}: {error}"
        raise UsageError(message) from error


def reason_texts(reason: Ints) -> list[str]:
    return [REASONS[index] for index in reason.tolist()]


def _member_at(
    engine: Engine,
    member: ServiceView,
    wanted: frozenset[str],
    relation: str,
    labels: pa.Table,
    t_us: Ints,
    memory_bytes: int,
) -> Read:
    view = member.view
    keys = [
        label_column(labels, member.join_keys.get(key.name, key.name), key.type) for key in view.join_keys
    ]
    known = np.logical_and.reduce([np.asarray(key.is_valid().to_numpy(zero_copy_only=False)) for key in keys])
    rows = np.flatnonzero(known)
    entity = np.full(len(t_us), -1, np.int64)
    if len(rows):
        entity[rows], distinct = dense(
            [key.take(pa.array(rows)) for key in keys], [key.type for key in view.join_keys]
        )
    else:
        distinct = [key.slice(0, 0) for key in keys]
    ranked = [
        feature for feature in view.features if feature.aggregation == "rank" and feature.name in wanted
    ]
    bound = _bounds(view, t_us)
    projection = f"(SELECT * FROM ({projection_sql(view, relation)}) WHERE {bound})"
    parts = 1 if ranked else _parts(engine, view, projection, memory_bytes)
    reads = []
    for part in range(parts):
        mine = np.flatnonzero(entity % parts == part) if parts > 1 else np.arange(len(t_us))
        asked = Moments(entity[mine], t_us[mine])
        reads.append((mine, _read_part(engine, view, wanted, projection, distinct, asked, (part, parts))))
    found = reads[0][1] if parts == 1 else _joined(reads, len(t_us))
    if ranked:
        timeline, everyone = _everyone(engine, view, projection, distinct, entity)
        for feature in ranked:
            found.answers[feature.name] = rank_rows(
                view, feature, timeline, Moments(everyone, t_us), found.present
            )
    return found


def _bounds(view: View, t_us: Ints) -> str:
    """Which events can matter to any row: a condition that files are skipped by."""
    if not len(t_us):
        return "false"
    last, first = int(t_us.max()), int(t_us.min())
    if view.ttl_us is None:
        return f"ts < {last}"
    behind = max((feature.refresh_us for feature in view.features), default=0)
    start = presence_start(
        first - behind, view.ttl_us, [each.window.start(first - behind) for each in view.features]
    )
    return f"ts < {last} AND ts >= {start}"


def _parts(engine: Engine, view: View, projection: str, memory_bytes: int) -> int:
    (count,) = engine.row(f"SELECT count(*) FROM {projection}")
    width = 2 + len(view.masks) + len(view.operands) + len(view.latest)
    return max(1, int(count) * width * _BYTES_A_VALUE * _PART_OF_MEMORY // memory_bytes)


def _read_part(
    engine: Engine,
    view: View,
    wanted: frozenset[str],
    projection: str,
    distinct: list[Any],
    asked: Moments,
    part: tuple[int, int],
) -> Read:
    names = [f"k{place}" for place in range(len(distinct))]
    engine.register(
        "wanted", pa.table([*distinct, pa.array(np.arange(len(distinct[0])))], [*names, "entity"])
    )
    joined = " AND ".join(f"p.{name} = w.{name}" for name in names)
    chosen = f"WHERE w.entity % {part[1]} = {part[0]}" if part[1] > 1 else ""
    projected = engine.table(
        f"SELECT w.entity AS entity, p.* EXCLUDE ({', '.join(names)}) FROM {projection} p "
        f"JOIN wanted w ON {joined} {chosen} ORDER BY entity, ts"
    )
    engine.unregister("wanted")
    entity = projected.column("entity").to_numpy().astype(np.int64)
    return read(view, Timeline(columns_of(view, projected, entity)), asked, wanted)


def _everyone(
    engine: Engine, view: View, projection: str, distinct: list[Any], entity: Ints
) -> tuple[Timeline, Ints]:
    """The events of all entities, and the asked entities in their numbering: what a rank needs."""
    projected = engine.table(f"SELECT * FROM {projection}")
    keys = [projected.column(f"k{place}").combine_chunks() for place in range(len(distinct))]
    both = [
        pa.concat_arrays([own.cast(asked.type), asked]) for own, asked in zip(keys, distinct, strict=True)
    ]
    numbers, _ = dense(both, [key.type for key in view.join_keys])
    of_events, of_asked = numbers[: len(projected)], numbers[len(projected) :]
    everyone = np.where(entity >= 0, of_asked[np.maximum(entity, 0)] if len(of_asked) else -1, -1)
    return Timeline(columns_of(view, projected, of_events)), everyone


def _joined(reads: list[tuple[Ints, Read]], count: int) -> Read:
    """The parts' rows in the order of the labels."""
    order = np.argsort(np.concatenate([rows for rows, _ in reads]), kind="stable")
    answers = {}
    for name in reads[0][1].answers:
        parts = [found.answers[name] for _, found in reads]
        values = pa.concat_arrays([part.values for part in parts]).take(pa.array(order))
        reasons = [
            np.zeros(len(part.values), np.int64) if part.reason is None else part.reason for part in parts
        ]
        answers[name] = Answer(values, np.concatenate(reasons)[order])
    present = np.concatenate([found.present for _, found in reads])[order]
    newest = np.concatenate([found.newest_us for _, found in reads])[order]
    assert len(order) == count
    return Read(answers, present, newest)


__all__ = ["Rows", "label_column", "on_demand", "quoted", "reason_texts", "rows_at"]

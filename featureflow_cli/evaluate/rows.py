"""Rows at their moments from the offline log: what a dataset, `get --at` and check-skew ask for.

DuckDB reads, projects and sorts the events of the entities asked for (evaluate/scans.py); `compute/ranges.py`
evaluates them. Views that see the same events share one scan.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featureflow_cli.compute.codes import Bools, Ints
from featureflow_cli.compute.entities import dense
from featureflow_cli.compute.partials import REASONS, Answer
from featureflow_cli.compute.ranges import read
from featureflow_cli.compute.rank_rows import rank_rows
from featureflow_cli.compute.reading import Read
from featureflow_cli.compute.sql_expressions import expression_sql
from featureflow_cli.compute.timelines import Moments
from featureflow_cli.compute.views import OnDemand, Service, ServiceView, View
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.errors import NotFound, UsageError, did_you_mean
from featureflow_cli.evaluate.scans import Scan, on_common_columns, together
from featureflow_cli.spec.types import ColumnType, arrow_type


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
    for group in together(service.views):
        for member, found in _group_at(engine, service, group, relations, labels, t_us, memory_bytes):
            present[member.alias], newest[member.alias] = found.present, found.newest_us
            for name, answer in found.answers.items():
                if service.is_read(member):
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


def _group_at(
    engine: Engine,
    service: Service,
    group: Sequence[ServiceView],
    relations: Mapping[str, str],
    labels: pa.Table,
    t_us: Ints,
    memory_bytes: int,
) -> list[tuple[ServiceView, Read]]:
    """The answers of views that see the same events of the same entities, from one scan of them."""
    views = on_common_columns([member.view for member in group])
    scan = Scan(engine, relations[views[0].source.name], views, t_us, memory_bytes)
    keys = _keys(group[0], labels)
    entity, distinct = _numbered(keys, views[0])
    wanted = [service.needed(member) for member in group]
    ranks = [
        [feature for feature in view.features if feature.aggregation == "rank" and feature.name in names]
        for view, names in zip(views, wanted, strict=True)
    ]
    parts = 1 if any(ranks) else scan.parts()
    found: list[list[tuple[Ints, Read]]] = [[] for _ in views]
    for part in range(parts):
        mine = np.flatnonzero(entity % parts == part) if parts > 1 else np.arange(len(t_us))
        timeline = scan.of_entities(distinct, (part, parts))
        for reads, view, names in zip(found, views, wanted, strict=True):
            reads.append((mine, read(view, timeline, Moments(entity[mine], t_us[mine]), names)))
    joined = [reads[0][1] if parts == 1 else _joined(reads) for reads in found]
    if any(ranks):
        everyone, asked = scan.of_everyone(distinct, entity)
        for one, view, features in zip(joined, views, ranks, strict=True):
            for feature in features:
                one.answers[feature.name] = rank_rows(
                    view, feature, everyone, Moments(asked, t_us), one.present
                )
    return list(zip(group, joined, strict=True))


def _keys(member: ServiceView, labels: pa.Table) -> list[Any]:
    return [
        label_column(labels, member.join_keys.get(key.name, key.name), key.type)
        for key in member.view.join_keys
    ]


def _numbered(keys: list[Any], view: View) -> tuple[Ints, list[Any]]:
    """(number of each row's entity, -1 where a key is null; the distinct keys in order of number)."""
    known = np.logical_and.reduce([np.asarray(key.is_valid().to_numpy(zero_copy_only=False)) for key in keys])
    rows = np.flatnonzero(known)
    entity = np.full(len(known), -1, np.int64)
    if not len(rows):
        return entity, [key.slice(0, 0) for key in keys]
    entity[rows], distinct = dense(
        [key.take(pa.array(rows)) for key in keys], [key.type for key in view.join_keys]
    )
    return entity, distinct


def _joined(reads: list[tuple[Ints, Read]]) -> Read:
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
    return Read(answers, present, newest)

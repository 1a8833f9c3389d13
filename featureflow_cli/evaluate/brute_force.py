"""A few rows of the log evaluated by the definition itself (compute/reference.py): what others are checked by.

Events come by a query that knows nothing of windows but that they end before T: it selects the events strictly
before each row's moment. Rows whose entity has more than MOST_EVENTS of them are passed over, for brute force is slow.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from featureflow_cli.compute import reference
from featureflow_cli.compute.codes import Ints
from featureflow_cli.compute.reference import Answer
from featureflow_cli.compute.sql_text import quoted
from featureflow_cli.compute.views import Service, ServiceView, View
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.evaluate.rows import Rows, label_column
from featureflow_cli.evaluate.vector import values_of
from featureflow_cli.spec.types import Value
from featureflow_cli.times import format_timestamp

MOST_EVENTS = 5_000
TOLERANCE = 1e-6
"""Doubles summed in another order differ in the last digits; what leaks differs in the first."""


def differences(
    engine: Engine,
    service: Service,
    relations: Mapping[str, str],
    labels: pa.Table,
    t_us: Ints,
    rows: Rows,
    chosen: Ints,
) -> list[str]:
    """What of the `chosen` rows is not what brute force says, one sentence each. On-demand features follow."""
    found = []
    for member in service.views:
        for row, answer in answers(
            engine, member, relations[member.view.source.name], labels, t_us, chosen
        ).items():
            for name in member.features:
                column = rows.columns[f"{member.alias}__{name}"].slice(row, 1)
                (actual,), expected = values_of(column), answer.values[name]
                if not same(expected, actual):
                    moment = format_timestamp(int(t_us[row]))
                    found.append(
                        f"row {row + 1}, label at {moment}: {member.alias}__{name} is {actual!r}; "
                        f"from the events before the label it is {expected!r}"
                    )
    return found


def answers(
    engine: Engine, member: ServiceView, relation: str, labels: pa.Table, t_us: Ints, chosen: Ints
) -> dict[int, Answer]:
    """The reference's answer for each of the `chosen` rows that is not too much for it."""
    view = member.view
    keys = [
        label_column(labels, member.join_keys.get(key.name, key.name), key.type) for key in view.join_keys
    ]
    asked = [key.take(pa.array(chosen)) for key in keys]
    events = _events(engine, view, relation, asked, chosen, t_us[chosen])
    typed = zip(*map(values_of, asked), strict=True)
    return {
        row: reference.answer(view, events.get(row, []), key, int(t_us[row]))
        for row, key in zip(chosen.tolist(), typed, strict=True)
        if None not in key and row not in events.too_many
    }


def same(expected: Value, actual: Value) -> bool:
    if isinstance(expected, float) and isinstance(actual, float):
        return math.isclose(expected, actual, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    if isinstance(expected, tuple) and isinstance(actual, tuple):
        return len(expected) == len(actual) and all(map(same, expected, actual))
    return expected == actual


class _Events(dict[int, list[dict[str, Value]]]):
    """Events by row; `too_many` are the rows that have more than MOST_EVENTS of them."""

    too_many: frozenset[int] = frozenset()


def _events(
    engine: Engine, view: View, relation: str, keys: Sequence[Any], rows: Ints, t_us: Ints
) -> _Events:
    """By row, the entity's events before its moment, and those of all entities that a rank looks at."""
    looks_back_us = [
        feature.window.width_us + 2 * feature.refresh_us
        for feature in view.features
        if feature.aggregation == "rank" and feature.window.width_us is not None
    ]
    names = [f"k{place}" for place in range(len(keys))]
    asked = pa.table([*keys, pa.array(rows), pa.array(t_us)], [*names, "place", "t"])
    moment = f"epoch_us(e.{quoted(view.source.timestamp_field)})"
    own = " AND ".join(
        f"e.{quoted(key.column)} = a.{name}" for key, name in zip(view.join_keys, names, strict=True)
    )
    matched = f"({own} OR {moment} >= a.t - {max(looks_back_us)})" if looks_back_us else own
    joined = f"FROM {relation} e JOIN asked a ON {matched} AND {moment} < a.t"
    found = _Events()
    engine.register("asked", asked)
    counted = engine.columns(f"SELECT a.place AS place, count(*) AS events {joined} GROUP BY a.place")
    found.too_many = frozenset(counted["place"][counted["events"] > MOST_EVENTS].tolist())
    few = ", ".join(str(row) for row in rows.tolist() if row not in found.too_many) or "NULL"
    columns = ", ".join(f"e.{quoted(name)}" for name in view.source.columns)
    table = engine.table(f"SELECT {columns}, a.place AS _place {joined} WHERE a.place IN ({few})")
    engine.unregister("asked")
    values = [values_of(column.combine_chunks()) for column in table.columns]
    for *event, place in zip(*values, strict=True):
        found.setdefault(place, []).append(dict(zip(view.source.columns, event, strict=True)))
    return found

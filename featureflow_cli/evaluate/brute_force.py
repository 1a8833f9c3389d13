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
    typed = [values_of(key.take(pa.array(chosen))) for key in keys]
    found = {}
    for row, *key in zip(chosen.tolist(), *typed, strict=True):
        if None in key:
            continue
        events = _events(engine, view, relation, key, int(t_us[row]))
        if events is not None:
            found[row] = reference.answer(view, events, tuple(key), int(t_us[row]))
    return found


def same(expected: Value, actual: Value) -> bool:
    if isinstance(expected, float) and isinstance(actual, float):
        return math.isclose(expected, actual, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    if isinstance(expected, tuple) and isinstance(actual, tuple):
        return len(expected) == len(actual) and all(map(same, expected, actual))
    return expected == actual


def _events(
    engine: Engine, view: View, relation: str, key: Sequence[Value], t_us: int
) -> list[dict[str, Value]] | None:
    """The entity's events before `t_us`, and those of all entities that a rank looks at; None: too many."""
    moment = f"epoch_us({quoted(view.source.timestamp_field)})"
    own = " AND ".join(f"{quoted(each.column)} = $key{place}" for place, each in enumerate(view.join_keys))
    others = [
        f"({moment} >= {feature.window.start(t_us - feature.refresh_us)})"
        for feature in view.features
        if feature.aggregation == "rank"
    ]
    sql = f"FROM {relation} WHERE {moment} < {t_us} AND ({' OR '.join([f'({own})', *others])})"
    parameters: dict[str, Any] = {f"key{place}": value for place, value in enumerate(key)}
    table = engine.table(
        f"SELECT {', '.join(map(quoted, view.source.columns))} {sql} LIMIT {MOST_EVENTS + 1}", parameters
    )
    if len(table) > MOST_EVENTS:
        return None
    columns = [values_of(column.combine_chunks()) for column in table.columns]
    return [dict(zip(table.column_names, values, strict=True)) for values in zip(*columns, strict=True)]

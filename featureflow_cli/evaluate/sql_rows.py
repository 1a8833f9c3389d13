"""Rows at their moments by the plain-SQL evaluator: the same question as evaluate/rows.py, answered another way."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from featureflow_cli.compute.codes import Ints
from featureflow_cli.compute.sql_features import answers_sql
from featureflow_cli.compute.state import NEVER_US
from featureflow_cli.compute.views import Service
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.engines.functions import register
from featureflow_cli.evaluate.rows import Rows, label_column
from featureflow_cli.spec.types import ColumnType, arrow_type

_MOMENT = "_moment"


def rows_by_sql(
    engine: Engine, service: Service, relations: Mapping[str, str], labels: pa.Table, t_us: Ints
) -> Rows:
    """Every output of `service` for each row of `labels` at its own moment `t_us`, as `rows_at` answers it.

    `newest_us` is that of the events which count for presence; reasons are not told.
    """
    columns = {name: label_column(labels, name, column_type) for name, column_type in _read(service).items()}
    columns[_MOMENT] = pa.array(t_us, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    register(engine)
    engine.register("sql_labels", pa.table(columns))
    found = engine.table(answers_sql(service, "sql_labels", relations, _MOMENT))
    engine.unregister("sql_labels")
    answers = {
        name: found.column(name).combine_chunks().cast(arrow_type(column_type))
        for name, column_type in service.outputs
    }
    present, newest = {}, {}
    for member in service.views:
        present[member.alias] = np.asarray(found.column(f"{member.alias}.present"), np.bool_)
        last = found.column(f"{member.alias}.newest").combine_chunks().fill_null(NEVER_US)
        newest[member.alias] = np.asarray(last.to_numpy(zero_copy_only=False), np.int64)
    return Rows(answers, present, newest)


def _read(service: Service) -> dict[str, ColumnType]:
    """The label columns that the service reads: join keys, and request columns of its on-demand features."""
    read: dict[str, ColumnType] = {}
    for member in service.views:
        read |= {member.join_keys.get(key.name, key.name): key.type for key in member.view.join_keys}
    for feature in service.on_demand:
        read |= {name: kind for name, kind in feature.request.items() if name in feature.expr.columns}
    return read

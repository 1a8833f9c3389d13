"""A stand-in for DuckDB that knows the few statements of a bootstrap, for the simulation's views only.

The projection is no part of the protocol; DuckDB takes 2 ms for one, this takes 0.1. A test holds it to DuckDB.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from featureflow_cli.compute.sql import projection_sql
from featureflow_cli.compute.views import View
from tests.simulation.definitions import views

BELOW = "below"
"""The relation that bootstraps read."""
_BUCKET = re.compile(r"SELECT \* FROM \((?P<projection>.*)\) WHERE hash\(k0\) % 1 = 0")


class SimEngine:
    """`engines.duckdb.Engine`, as far as a worker's steps call it."""

    def __init__(self) -> None:
        self._relations: dict[str, pa.Table] = {}

    def close(self) -> None:
        self._relations.clear()

    def register(self, name: str, rows: pa.Table) -> None:
        self._relations[name] = rows

    def unregister(self, name: str) -> None:
        del self._relations[name]

    def row(self, sql: str) -> tuple[Any, ...]:
        assert sql == f"SELECT count(*) FROM {BELOW}", sql
        return (self._relations[BELOW].num_rows,)

    def table(self, sql: str) -> pa.Table:
        return projected(_statements()[sql], self._relations[BELOW])

    def batches(self, sql: str) -> Iterator[pa.RecordBatch]:
        bucket = _BUCKET.fullmatch(sql)
        assert bucket is not None, sql
        yield from self.table(bucket["projection"]).to_batches()


@cache
def _statements() -> dict[str, View]:
    return {projection_sql(view, BELOW): view for view in views()}


def projected(view: View, rows: pa.Table) -> pa.Table:
    """Neither keys nor operands are ever null here, and no view has conditions."""
    (key,), (operand,) = view.join_keys, view.operands
    assert not view.masks
    assert view.where is None
    moments = np.asarray(rows.column(view.source.timestamp_field).cast("int64").to_numpy())
    return pa.table({"k0": rows.column(key.column), "ts": moments, "x0": rows.column(str(operand.value))})

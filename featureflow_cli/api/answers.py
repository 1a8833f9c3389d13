"""What the API answers: tables that become Arrow, pandas or plain Python as asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from featureflow_cli.api.tables import frame_of
from featureflow_cli.compute.views import Service
from featureflow_cli.dataset.build import Report
from featureflow_cli.errors import UsageError
from featureflow_cli.evaluate.asking import Expected
from featureflow_cli.evaluate.vector import Vector
from featureflow_cli.spec.types import Value, arrow_type


@dataclass(frozen=True)
class HistoricalFeatures:
    """A training set: the entity rows' columns, then the features; `report` counts what was dropped and audited."""

    table: pa.Table
    report: Report

    def to_arrow(self) -> pa.Table:
        """As Arrow; its schema's metadata says what it was built from."""
        return self.table

    def to_df(self) -> Any:
        """As a pandas DataFrame; decimals are `Decimal`s, integers with nulls `Int64`."""
        return frame_of(self.table)


@dataclass(frozen=True)
class OnlineFeatures:
    """Feature vectors, a row per entity row, in order; `vectors` has the status and age of each view as well."""

    table: pa.Table
    vectors: tuple[Vector, ...]

    def to_arrow(self) -> pa.Table:
        """Join keys and request columns first, then the features."""
        return self.table

    def to_dict(self) -> dict[str, list[Any]]:
        """Columns by name, as Feast has them; decimals are `Decimal`s, timestamps aware datetimes."""
        columns: dict[str, list[Any]] = self.table.to_pydict()
        return columns

    def to_df(self) -> Any:
        return frame_of(self.table)


def online_features(
    service: Service,
    expected: Expected,
    rows: Sequence[dict[str, Value]],
    vectors: Sequence[Vector],
    full_names: bool,
) -> OnlineFeatures:
    """Typed rows and their vectors, as columns of the declared types."""
    columns = {
        name: pa.array([row[name] for row in rows], arrow_type(column_type))
        for name, column_type in {**expected.keys, **expected.request}.items()
    }
    for name, column_type in service.outputs:
        columns[name] = pa.array([vector.features[name] for vector in vectors], arrow_type(column_type))
    table = pa.table(columns)
    return OnlineFeatures(table if full_names else short_names(service, table), tuple(vectors))


def short_names(service: Service, table: pa.Table) -> pa.Table:
    """The table with features under their bare names; UsageError where two columns would be of one name."""
    short = {f"{each.alias}__{name}": name for each in service.views for name in each.features}
    names = [short.get(name, name) for name in table.column_names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        message = f"several columns would be named {', '.join(twice)}"
        raise UsageError(message, hint="ask with full_feature_names=True", at="full_feature_names")
    return table.rename_columns(names)

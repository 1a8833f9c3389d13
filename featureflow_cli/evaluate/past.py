"""Vectors of past moments, from the offline log: what online reads would have answered then (design.md 1.4)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from featureflow_cli.compute.codes import Ints
from featureflow_cli.compute.partials import REASONS
from featureflow_cli.compute.state import NEVER_US
from featureflow_cli.compute.views import Service
from featureflow_cli.evaluate.asking import expected_of
from featureflow_cli.evaluate.project import Project
from featureflow_cli.evaluate.relations import relations
from featureflow_cli.evaluate.rows import Rows, rows_at
from featureflow_cli.evaluate.vector import Vector, values_of
from featureflow_cli.spec.types import Value, arrow_type


def vectors_at(
    project: Project, service: Service, rows: Sequence[Mapping[str, Value]], t_us: Ints
) -> list[Vector]:
    """One vector per typed row at its moment, in order; all from one version of each log."""
    if not rows:
        return []
    with project.engine() as engine:
        found = relations(project, engine, service, before_us=int(t_us.max()))
        return as_vectors(service, rows_at(engine, service, found.names, labels(service, rows), t_us), t_us)


def labels(service: Service, rows: Sequence[Mapping[str, Value]]) -> Any:
    """Typed rows as the Arrow table that `rows_at` takes."""
    expected = expected_of(service)
    columns = {}
    for name, column_type in {**expected.keys, **expected.request}.items():
        values = [row[name] for row in rows]
        plain = {"timestamp": pa.int64(), "date": pa.int32()}.get(column_type.name)
        wanted = arrow_type(column_type)
        columns[name] = pa.array(values, wanted) if plain is None else pa.array(values, plain).cast(wanted)
    return pa.table(columns)


def as_vectors(service: Service, rows: Rows, t_us: Ints) -> list[Vector]:
    """The same as vectors, one a row."""
    columns = {name: values_of(column) for name, column in rows.columns.items()}
    vectors = []
    for place, moment in enumerate(t_us.tolist()):
        status, ages = {}, {}
        for member in service.views:
            newest = int(rows.newest_us[member.alias][place])
            known = "unknown" if newest == NEVER_US else "expired"
            status[member.alias] = "present" if rows.present[member.alias][place] else known
            if newest != NEVER_US:
                ages[member.alias] = moment - newest
        reasons = {name: REASONS[int(why[place])] for name, why in rows.reasons.items() if np.any(why[place])}
        features = {name: values[place] for name, values in columns.items()}
        vectors.append(Vector(features, status, reasons, ages, moment))
    return vectors

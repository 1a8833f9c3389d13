"""`PointInTimeDatasetBuilder`: datasets by entity's features, and an audit of any table that claims to be one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featureflow_cli.api.answers import HistoricalFeatures
from featureflow_cli.api.references import entity_references, service_of
from featureflow_cli.api.registry import FeatureRegistry
from featureflow_cli.api.stores import OfflineStore
from featureflow_cli.api.tables import Rows, log_ends, registry_version, table_of
from featureflow_cli.compute.codes import Bools
from featureflow_cli.compute.selecting import select
from featureflow_cli.compute.views import Repo, Service
from featureflow_cli.dataset.audit import SAMPLED_ROWS, audit
from featureflow_cli.dataset.build import build
from featureflow_cli.dataset.labels import Labels, labels_of
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.errors import UsageError, did_you_mean
from featureflow_cli.evaluate.asking import expected_of
from featureflow_cli.evaluate.brute_force import TOLERANCE, same
from featureflow_cli.evaluate.relations import relations
from featureflow_cli.evaluate.rows import label_column, rows_at
from featureflow_cli.evaluate.vector import values_of
from featureflow_cli.spec.models import ViewReference
from featureflow_cli.times import format_timestamp

SUFFIX = "_features"


@dataclass(frozen=True)
class LeakageValidation:
    """What an audit of a table found. `sampled` rows were computed again by brute force, all rows by the evaluator.

    `violations` counts rows that no label event stands for, values that are not what they were strictly before
    their row's moment, and whatever the evaluator itself was caught at; `first` describes one.
    """

    rows: int
    sampled: int
    violations: int
    first: str = ""

    @property
    def passed(self) -> bool:
        return self.violations == 0

    def summary(self) -> str:
        """`LeakageReport [PASSED] rows_checked=… rows_sampled=… violations=0`, and one violation if there is any."""
        verdict = "PASSED" if self.passed else "FAILED"
        line = (
            f"LeakageReport [{verdict}] rows_checked={self.rows} rows_sampled={self.sampled} "
            f"violations={self.violations}"
        )
        return f"{line}: {self.first}" if self.first else line


@dataclass(frozen=True)
class PointInTimeDatasetBuilder:
    """Training sets from the offline store, by the applied definitions."""

    offline_store: OfflineStore
    registry: FeatureRegistry

    def build(
        self,
        label_events: Rows,
        *,
        keep_cold: bool = False,
        timestamp_field: str | None = None,
        **features: Sequence[str],
    ) -> HistoricalFeatures:
        """Features of each label event strictly before its moment; the label's columns come first.

        Features are asked for by entity (`user_features=[…]`): a bare name is one of that entity's, `view:feature`
        and `view:*` say which view. On-demand features may stand in any of them. Cold rows are dropped and counted.
        """
        project = self.offline_store.project
        project.relearn()
        references = [
            reference
            for argument, names in features.items()
            for reference in entity_references(project.repo, _entity(project.repo, argument), names, argument)
        ]
        service = service_of(project.repo, references)
        labels = labels_of(
            table_of(label_events, "label_events", timestamp_field), timestamp_field, at="label_events"
        )
        dataset = build(
            project, service, labels, keep_cold=keep_cold, registry_version=project.applied.version
        )
        return HistoricalFeatures(dataset.table, dataset.report)

    def validate_no_leakage(
        self,
        dataset: HistoricalFeatures | Rows,
        label_events: Rows,
        *,
        sample_rows: int = SAMPLED_ROWS,
        timestamp_field: str | None = None,
    ) -> LeakageValidation:
        """Audit the very table handed in, wherever it comes from: built here, edited since, or read from a file.

        Its features are told by their columns' names (`view__feature`). It is held to what the log held when it
        was built, where it says so (Arrow, Parquet and pandas from here do), else to the log as it stands.
        """
        given = dataset.table if isinstance(dataset, HistoricalFeatures) else dataset
        rows = labels_of(table_of(given, "dataset", timestamp_field), timestamp_field, at="dataset")
        labels = labels_of(
            table_of(label_events, "label_events", timestamp_field), timestamp_field, at="label_events"
        )
        project = self.offline_store.project
        project.relearn()
        version = registry_version(rows.table)
        is_current = version in {None, project.applied.version}
        repo = project.repo if is_current or version is None else project.repo_at(version)
        service = _held(repo, rows.table)
        handed = {name: label_column(rows.table, name, column_type) for name, column_type in service.outputs}
        with project.engine() as engine:
            before_us = int(rows.t_us.max()) + 1 if len(rows.t_us) else 0
            names = relations(project, engine, service, before_us=before_us, ends=log_ends(rows.table)).names
            strangers, first = _strangers(engine, service, rows, labels)
            computed = rows_at(engine, service, names, rows.table, rows.t_us)
            wrong, first_wrong = _wrong_values(rows, handed, computed.columns)
            # The evaluator that the values were held to is audited itself, by code that shares nothing with it.
            found = audit(
                engine, service, names, rows, computed, np.ones(len(rows.t_us), np.bool_), sampled=sample_rows
            )
        return LeakageValidation(
            rows=len(rows.t_us),
            sampled=found.sampled,
            violations=strangers + wrong + found.violations,
            first=first or first_wrong or found.first,
        )


def _entity(repo: Repo, argument: str) -> str:
    entity = argument.removesuffix(SUFFIX)
    if argument.endswith(SUFFIX) and entity in repo.entities:
        return entity
    known = [f"{name}{SUFFIX}" for name in repo.entities]
    message = f"'{argument}' names the features of no entity"
    raise UsageError(
        message, hint=did_you_mean(argument, known) or f"one of: {', '.join(known)}", at=argument
    )


def _held(repo: Repo, table: pa.Table) -> Service:
    """The features that a table holds, by its columns' names; UsageError where there are none."""
    references: dict[str, str | ViewReference] = {
        f"{view.name}__{name}": f"{view.name}:{name}"
        for view in repo.views.values()
        for name, _ in view.outputs
    }
    for service in repo.services.values():
        for each in service.views:
            for name in each.features:
                reference = ViewReference.model_validate(
                    {
                        "view": each.view.name,
                        "as": each.alias,
                        "features": (name,),
                        "join_keys": each.join_keys,
                    }
                )
                references.setdefault(f"{each.alias}__{name}", reference)
    references |= {name: name for name in repo.on_demand}
    held = [references[name] for name in table.column_names if name in references]
    if not held:
        message = "the dataset has no column of a feature"
        raise UsageError(message, hint="features are columns named view__feature", at="dataset")
    return select(repo, held)


def _strangers(engine: Engine, service: Service, rows: Labels, labels: Labels) -> tuple[int, str]:
    """How many rows stand for no label event: another moment, another entity, or one row too many."""
    expected = expected_of(service)
    asked = {**expected.keys, **expected.request}
    names = [f"k{place}" for place in range(len(asked))]
    for relation, given in (("dataset_rows", rows), ("label_rows", labels)):
        columns: dict[str, Any] = {
            name: label_column(given.table, column, column_type)
            for name, (column, column_type) in zip(names, asked.items(), strict=True)
        }
        engine.register(relation, pa.table({**columns, "t": pa.array(given.t_us)}))
    by = ", ".join([*names, "t"])
    same_row = " AND ".join(f"d.{name} IS NOT DISTINCT FROM l.{name}" for name in [*names, "t"])
    (count, moment) = engine.row(
        f"SELECT coalesce(sum(d.n - coalesce(l.n, 0)), 0), min(d.t) "
        f"FROM (SELECT {by}, count(*) AS n FROM dataset_rows GROUP BY ALL) d "
        f"LEFT JOIN (SELECT {by}, count(*) AS n FROM label_rows GROUP BY ALL) l ON {same_row} "
        f"WHERE d.n > coalesce(l.n, 0)"
    )
    engine.unregister("dataset_rows")
    engine.unregister("label_rows")
    told = f"a row at {format_timestamp(int(moment))} stands for no label event" if count else ""
    return int(count), told


def _wrong_values(rows: Labels, handed: Mapping[str, Any], computed: Mapping[str, Any]) -> tuple[int, str]:
    """How many values are not what the evaluator says, and one of them."""
    count, first = 0, ""
    for name, column in handed.items():
        wrong = np.flatnonzero(_differs(column, computed[name]))
        count += len(wrong)
        if len(wrong) and not first:
            row = int(wrong[0])
            (actual,), (right,) = values_of(column.slice(row, 1)), values_of(computed[name].slice(row, 1))
            moment = format_timestamp(int(rows.t_us[row]))
            first = (
                f"row {row + 1}, label at {moment}: {name} is {actual!r}; before the label it was {right!r}"
            )
    return count, first


def _differs(one: Any, other: Any) -> Bools:
    """Where two columns of one type differ; doubles by more than their last digits."""
    if pa.types.is_nested(one.type):
        pairs = zip(values_of(one), values_of(other), strict=True)
        return np.array([not same(left, right) for left, right in pairs], np.bool_)
    absent, other_absent = _nulls(one), _nulls(other)
    if pa.types.is_floating(one.type):
        left, right = (np.asarray(pc.fill_null(column, 0.0)) for column in (one, other))
        unequal = ~np.isclose(left, right, rtol=TOLERANCE, atol=TOLERANCE)
    else:
        unequal = np.asarray(pc.fill_null(pc.not_equal(one, other), False))
    differs: Bools = (absent != other_absent) | (unequal & ~absent & ~other_absent)
    return differs


def _nulls(column: Any) -> Bools:
    absent: Bools = np.asarray(column.is_null(), np.bool_)
    return absent

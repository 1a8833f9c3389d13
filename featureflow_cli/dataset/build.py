"""A dataset: for each label row, what the features were at its moment, strictly before it (design.md 6, 1.11)."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from featureflow_cli.compute.codes import Bools, Ints
from featureflow_cli.compute.state import NEVER_US
from featureflow_cli.compute.views import Service
from featureflow_cli.dataset.audit import Audit, audit
from featureflow_cli.dataset.labels import Labels
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.errors import CheckFailed, UsageError
from featureflow_cli.evaluate.project import Project
from featureflow_cli.evaluate.relations import Relations, relations
from featureflow_cli.evaluate.rows import Rows, reason_texts, rows_at

Evaluator = Callable[[Engine, Service, dict[str, str], pa.Table, Ints], Rows]


@dataclass(frozen=True)
class Report:
    """What was kept and what was not; `cold` counts dropped rows by the entity that was not known.

    `refused` counts, by source and reason, events of `batch` files that no label saw: they are dead letters.
    """

    rows_kept: int
    rows_dropped: int
    cold: dict[str, int]
    versions: dict[str, int]
    ends: dict[str, dict[int, int]]
    reasons: dict[str, dict[str, int]]
    registry_version: int | None
    refused: dict[str, dict[str, int]]
    audit: Audit | None = field(default=None)

    @property
    def line(self) -> str:
        """`LeakageReport [PASSED] rows_kept=… rows_dropped=… violations=0`."""
        violations = 0 if self.audit is None else self.audit.violations
        verdict = "SKIPPED" if self.audit is None else "FAILED" if violations else "PASSED"
        counts = f"rows_kept={self.rows_kept} rows_dropped={self.rows_dropped}"
        return f"LeakageReport [{verdict}] {counts} violations={violations}"


@dataclass(frozen=True)
class Dataset:
    table: pa.Table
    report: Report


def build(
    project: Project,
    service: Service,
    labels: Labels,
    *,
    keep_cold: bool = False,
    statuses: bool = False,
    audited: bool = True,
    registry_version: int | None = None,
    ends: Mapping[str, Mapping[int, int]] | None = None,
    evaluate: Evaluator = rows_at,
) -> Dataset:
    """The labels' columns, then `view__feature` (and `view__status`); rows in the labels' order.

    Cold rows are dropped, or kept with nulls. CheckFailed where the audit finds a value from the label's own
    moment or later. `ends` builds from what the logs held below them; `evaluate` is there to be audited.
    """
    _refuse_clashes(service, labels.table, statuses)
    with project.engine() as engine:
        before_us = int(labels.t_us.max()) + 1 if len(labels.t_us) else 0
        events = relations(project, engine, service, before_us=before_us, ends=ends)
        rows = evaluate(engine, service, events.names, labels.table, labels.t_us)
        cold = cold_rows(service, rows)
        kept = np.ones(len(labels.t_us), np.bool_) if keep_cold else warm(cold, len(labels.t_us))
        found = audit(engine, service, events.names, labels, rows, kept) if audited else None
    report = _report(rows, cold, kept, events, found, registry_version)
    if found is not None and found.violations:
        message = f"{report.line}: {found.first}"
        raise CheckFailed(message, hint="no dataset was written")
    return Dataset(_table(service, labels.table, rows, kept, statuses, report), report)


def cold_rows(service: Service, rows: Rows) -> dict[str, Bools]:
    """By required entity: the rows at whose moment it is present in none of the views of it."""
    cold: dict[str, Bools] = {}
    for entity in service.required_entities:
        seen = [rows.present[each.alias] for each in service.views if each.view.entity == entity]
        if seen:
            cold[entity] = ~np.logical_or.reduce(seen)
    return cold


def warm(cold: Mapping[str, Bools], count: int) -> Bools:
    """Which of `count` rows no required entity makes cold."""
    dropped: Bools = np.logical_or.reduce([*cold.values(), np.zeros(count, np.bool_)])
    return ~dropped


def status_texts(present: Bools, newest_us: Ints) -> pa.Array:
    """`present`, `expired` (an older event is known) or `unknown` of each row of one view."""
    choice = np.where(present, "present", np.where(newest_us == NEVER_US, "unknown", "expired"))
    return pa.array(choice, pa.string())


def _table(
    service: Service, labels: pa.Table, rows: Rows, kept: Bools, statuses: bool, report: Report
) -> pa.Table:
    columns: dict[str, Any] = dict(zip(labels.column_names, labels.columns, strict=True)) | rows.columns
    if statuses:
        for each in service.views:
            columns[f"{each.alias}__status"] = status_texts(
                rows.present[each.alias], rows.newest_us[each.alias]
            )
    table = pa.table(columns).filter(pa.array(kept))
    about = {
        "featureflow.service": service.name,
        "featureflow.registry_version": str(report.registry_version or ""),
        "featureflow.log_versions": ",".join(
            f"{name}={version}" for name, version in report.versions.items()
        ),
        "featureflow.log_ends": json.dumps(report.ends),
    }
    return table.replace_schema_metadata(about)


def _report(
    rows: Rows,
    cold: dict[str, Bools],
    kept: Bools,
    events: Relations,
    found: Audit | None,
    version: int | None,
) -> Report:
    reasons = {}
    for name, codes in rows.reasons.items():
        texts = [text for text in reason_texts(codes[kept]) if text]
        if texts:
            reasons[name] = {text: texts.count(text) for text in sorted(set(texts))}
    return Report(
        rows_kept=int(kept.sum()),
        rows_dropped=int((~kept).sum()),
        cold={entity: int((absent & ~kept).sum()) for entity, absent in cold.items()},
        versions=events.versions,
        ends=events.ends,
        reasons=reasons,
        registry_version=version,
        refused=events.refused,
        audit=found,
    )


def _refuse_clashes(service: Service, labels: pa.Table, statuses: bool) -> None:
    made = [name for name, _ in service.outputs]
    made += [f"{each.alias}__status" for each in service.views] if statuses else []
    clashes = sorted(set(made) & set(labels.column_names))
    if clashes:
        message = f"the labels already have columns named {', '.join(clashes)}"
        raise UsageError(message, hint="rename them: these are names of features")

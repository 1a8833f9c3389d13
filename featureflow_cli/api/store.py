"""`FeatureStore`: a project on disk, with every verb that a notebook or a service asks for."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from featureflow_cli.api.answers import HistoricalFeatures, OnlineFeatures, online_features, short_names
from featureflow_cli.api.references import Features, service_of
from featureflow_cli.api.registry import FeatureRegistry
from featureflow_cli.api.stores import OfflineStore, OnlineStore
from featureflow_cli.api.tables import Rows, table_of
from featureflow_cli.apply.author import author
from featureflow_cli.apply.execute import execute
from featureflow_cli.dataset.build import build
from featureflow_cli.dataset.labels import labels_of
from featureflow_cli.errors import UsageError
from featureflow_cli.evaluate.project import Project, open_project
from featureflow_cli.evaluate.vector import Reader
from featureflow_cli.plan.applied import Applied
from featureflow_cli.plan.explain import plan_json, plan_lines
from featureflow_cli.plan.steps import Change, Plan
from featureflow_cli.times import Clock, parse_timestamp, system_clock


@dataclass(frozen=True)
class FeaturePlan:
    """What `apply` would change; `print` shows it as the command line does."""

    steps: Plan

    @property
    def is_empty(self) -> bool:
        return self.steps.is_empty

    @property
    def changes(self) -> tuple[Change, ...]:
        return self.steps.changes

    def to_dict(self) -> dict[str, Any]:
        """As `featureflow plan --json` has it."""
        return plan_json(self.steps)

    def __str__(self) -> str:
        return "\n".join(plan_lines(self.steps))


class FeatureStore:
    """The project whose feature_store.yaml lies in `repo_path`; nothing is read before it is asked for.

    Reads and datasets run on the applied definitions, as they stand at each call. `environ` answers `${env:NAME}`,
    and FEATUREFLOW_TARGET where no `target` is given. One object is for one thread at a time.
    """

    def __init__(
        self,
        repo_path: str | Path = ".",
        target: str | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._target = target or self._environ.get("FEATUREFLOW_TARGET") or None
        self._root = Path(repo_path)
        self._clock = clock

    @cached_property
    def project(self) -> Project:
        """The opened project that everything here works on."""
        return self._opened()

    @property
    def registry(self) -> FeatureRegistry:
        return FeatureRegistry(self.project)

    @property
    def online_store(self) -> OnlineStore:
        return OnlineStore(self.project)

    @property
    def offline_store(self) -> OfflineStore:
        return OfflineStore(self.project)

    def plan(self) -> FeaturePlan:
        """From what is applied to what is written now; DefinitionError with every problem. Changes nothing."""
        return FeaturePlan(self._opened().plan())

    def apply(self, plan: FeaturePlan | None = None) -> Applied:
        """Carry out `plan`, or what a plan made now says; the applied state. Conflict where somebody was first."""
        project = self._opened()
        steps = project.plan() if plan is None else plan.steps
        if steps.is_empty:
            return project.applied
        return execute(project, steps, applied_by=author(), report=lambda line: None)

    def get_historical_features(
        self,
        entity_df: Rows,
        features: Features,
        full_feature_names: bool = True,
        *,
        cold_start: Literal["drop", "keep"] = "drop",
        statuses: bool = False,
        audit: bool = True,
        timestamp_field: str | None = None,
    ) -> HistoricalFeatures:
        """Features of each row of `entity_df` strictly before its `timestamp` (or `event_timestamp`).

        Rows keep their order and their other columns. Cold rows (design.md 1.11) are dropped and counted in
        `.report`, or kept with nulls. CheckFailed where the audit finds a leak.
        """
        if cold_start not in {"drop", "keep"}:
            message = f"cold_start is 'drop' or 'keep', not {cold_start!r}"
            raise UsageError(message, at="cold_start")
        self.project.relearn()
        service = service_of(self.project.repo, features)
        labels = labels_of(table_of(entity_df, "entity_df", timestamp_field), timestamp_field, at="entity_df")
        dataset = build(
            self.project,
            service,
            labels,
            keep_cold=cold_start == "keep",
            statuses=statuses,
            audited=audit,
            registry_version=self.project.applied.version,
        )
        table = dataset.table if full_feature_names else short_names(service, dataset.table)
        return HistoricalFeatures(table, dataset.report)

    def get_online_features(
        self,
        features: Features,
        entity_rows: Rows,
        full_feature_names: bool = True,
        *,
        as_of: datetime | str | None = None,
    ) -> OnlineFeatures:
        """Features of each row now, from the online store; rows hold join keys and request columns.

        `as_of` is exact: UsageError where it is not after the newest event held (design.md 1.4).
        """
        self.project.relearn()
        reader = Reader(self.project.online, service_of(self.project.repo, features), self.project.serving())
        rows = [reader.typed(row) for row in _dicts(entity_rows)]
        vectors = reader.answer(rows, reader.take(rows), self._clock(), as_of_us=_moment_us(as_of))
        return online_features(reader.service, reader.expected, rows, vectors, full_feature_names)

    def close(self) -> None:
        """Close what was opened; the next call opens it again."""
        opened = self.__dict__.pop("project", None)
        if opened is not None and "online" in opened.__dict__:
            opened.online.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        target = f", target={self._target!r}" if self._target else ""
        return f"FeatureStore({str(self._root)!r}{target})"

    def _opened(self) -> Project:
        """A project that has read nothing yet: what is written may have changed since the last look."""
        return open_project(self._root, self._target, self._environ, self._clock)


def _dicts(rows: Rows) -> list[Mapping[str, object]]:
    if isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows):
        return rows
    found: list[Mapping[str, object]] = table_of(rows, "entity_rows").to_pylist()
    return found


def _moment_us(moment: datetime | str | None) -> int | None:
    if moment is None:
        return None
    try:
        if isinstance(moment, datetime):
            aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return parse_timestamp(aware.astimezone(UTC).isoformat())
        return parse_timestamp(moment)
    except ValueError as error:
        raise UsageError(str(error), at="as_of") from error
